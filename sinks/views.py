"""The analysts' views and dictionaries: one file each in `views/`, documented by its leading comment.

A file is `-- comment lines`, the last an example, then a SELECT. {name:Type} in it is a parameter, given as
`SELECT * FROM view(name = value)`. A line `-- Dictionary: key Type, name Type, …` makes it a dictionary of the rows of
its SELECT. A line `-- Recompute: SELECT …` tells how raw rows give the same numbers. Where rows with one key are all of
one month, FINAL need not look across months: `do_not_merge_across_partitions_select_final`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Final

_FOLDER: Final = Path(__file__).parent / "views"
_PARAMETER: Final = re.compile(r"\{(\w+):\s*([^}]+)\}")
_DICTIONARY: Final = "Dictionary: "
_LIFETIME: Final = "LIFETIME(MIN 20 MAX 60)"  # seconds until it is read again


@dataclass(frozen=True)
class View:
    """One view; `parameters` are name → ClickHouse type. `columns`: a dictionary's, the first is its key."""

    name: str
    doc: str
    select: str
    parameters: dict[str, str]
    columns: str = ""

    @property
    def engine(self) -> str:
        """As ClickHouse's system.tables tells it."""
        return "Dictionary" if self.columns else "View"

    @property
    def flat(self) -> str:
        """The SELECT with the views that have parameters in line, each of which ClickHouse would prepare twice more."""
        return _flat(self.select)

    @property
    def sql(self) -> str:
        """Statement that makes the view what it is here."""
        if not self.columns:
            return f"CREATE OR REPLACE VIEW {self.name} AS\n{self.flat}"
        query = self.select.replace("\\", "\\\\").replace("'", "\\'")
        return (
            f"CREATE OR REPLACE DICTIONARY {self.name} ({self.columns}) PRIMARY KEY {self.columns.split()[0]}\n"
            f"SOURCE(CLICKHOUSE(QUERY '{query}'))\nLAYOUT(COMPLEX_KEY_HASHED()) {_LIFETIME}"
        )


@cache
def views() -> tuple[View, ...]:
    """All views and dictionaries, by name."""
    return tuple(_view(path) for path in sorted(_FOLDER.glob("*.sql")))


def inline(name: str, **values: str) -> str:
    """A view as a subquery, and those in it that have parameters; its own are the query's, or the SQL of `values`.

    For questions that are asked often: ClickHouse prepares a view with parameters twice.
    """
    (view,) = (view for view in views() if view.name == name)
    select = _PARAMETER.sub(lambda told: values.get(told[1], told[0]), view.select)
    return f"(\n{_flat(select)}\n)"


def _flat(select: str) -> str:
    for inner in views():
        if inner.parameters:
            select = re.sub(
                rf"\b{inner.name}\(([^()]*(?:\([^()]*\)[^()]*)*)\)", partial(_inner, inner), select
            )
    return select


def _inner(view: View, call: re.Match[str]) -> str:
    """The view of a call, in line."""
    named = rf"\b({'|'.join(view.parameters)}) = "
    _, *told = re.split(named, call[1])
    return inline(
        view.name, **{name: sql.strip().rstrip(",") for name, sql in zip(told[::2], told[1::2], strict=True)}
    )


def _view(path: Path) -> View:
    lines = path.read_text(encoding="utf-8").splitlines()
    doc = [line[2:].strip() for line in lines if line.startswith("--")]
    select = "\n".join(line for line in lines if not line.startswith("--")).strip()
    columns = next((line.removeprefix(_DICTIONARY) for line in doc if line.startswith(_DICTIONARY)), "")
    return View(path.stem, "\n".join(doc), select, dict(_PARAMETER.findall(select)), columns)
