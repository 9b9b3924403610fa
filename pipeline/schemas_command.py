"""`tidebook schemas register`: put the package's frozen schemas into the configured registry."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict

import orjson
from rich.console import Console
from rich.table import Table

from pipeline.settings import Settings
from pipeline.terminal import cell
from schemas.registry import local_registry
from topics.schema_registration import Row, failed, register_all
from topics.schema_registry import SETTING, Client, RegistryError


def register_schemas(settings: Settings, dry_run: bool, as_json: bool) -> int:
    """0 all is there, or would be after a dry run · 1 refused or unreachable · 2 no registry is configured."""
    if not settings.schema_registry_url:
        sys.stderr.write(
            f"tidebook: setting {SETTING} is empty: the registry that ships with Tidebook needs no registering\n"
        )
        return 2
    try:
        with closing(Client(settings.schema_registry_url)) as client:
            rows = register_all(client, local_registry().entries, dry_run)
    except RegistryError as error:
        sys.stderr.write(f"tidebook: {error}\n")
        return 1
    if as_json:
        for row in rows:
            sys.stdout.buffer.write(orjson.dumps(asdict(row)) + b"\n")
    else:
        _print(rows, client.address, dry_run)
    for row in rows:
        if row.state == "refused":
            sys.stderr.write(f"tidebook: {row.subject} version {row.version} is refused: {row.detail}\n")
    return int(failed(rows))


def _print(rows: Sequence[Row], address: str, dry_run: bool) -> None:
    table = Table(title=cell(f"schemas in {address}"), title_justify="left")
    table.add_column("subject", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("level", overflow="fold")
    for name in ("v", "local id", "id", "v there"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        numbers = (row.version, row.local_id, row.id, row.registry_version)
        told = ("–" if number is None else str(number) for number in numbers)
        table.add_row(*map(cell, (row.subject, row.state, row.compatibility or "–", *told)))
    Console().print(table)
    counts = Counter(row.state for row in rows)
    said = ", ".join(f"{count} {state}" for state, count in counts.items())
    print(f"{said}{' (dry run: nothing was changed)' if dry_run else ''}")
