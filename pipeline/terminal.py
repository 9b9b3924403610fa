"""Rows for people at a terminal. What comes from data is shown as it is: neither markup of rich's nor a control
character in it counts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def show_table(rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows as a table, a column for each name of the first."""
    console = Console()
    shown = list(rows)
    if not shown:
        console.print("no rows")
        return
    table = Table()
    for column in shown[0]:
        table.add_column(cell(column), overflow="fold")
    for row in shown:
        table.add_row(*map(cell, row.values()))
    console.print(table)


def cell(value: Any, style: str = "") -> Text:
    """A value as it is; what would move a terminal's cursor is shown as a mark."""
    told = "" if value is None else str(value)
    plain = (one if one.isprintable() or one == "\n" else "\N{REPLACEMENT CHARACTER}" for one in told)
    return Text("".join(plain), style)
