"""A place's tables and views as ClickHouse tells them, and making a plan true there."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from schemas.loader import Schema
from sinks import ddl
from sinks.clickhouse_commits import COMMIT_TABLES, PROGRESS_TABLE
from sinks.clickhouse_plan import Change, FoundColumn, FoundTable, Step, plan
from sinks.ddl_shape import documented
from sinks.views import views

_SETTING: Final = re.compile(r"(\w+) = ('(?:[^'\\]|\\.)*'|[^,\s]+)")
_HERE: Final = "database = currentDatabase()"


class Client(Protocol):
    """What is wanted of clickhouse_connect's client."""

    def query(self, query: str, /) -> Any:
        """Rows in `result_rows`."""

    def command(self, cmd: str, /) -> Any:
        """Run a statement."""


def found_tables(client: Client) -> dict[str, FoundTable]:
    """Every table and view of the client's database by name, from ClickHouse's system tables (five queries)."""
    columns: dict[str, dict[str, FoundColumn]] = defaultdict(dict)
    for table, name, kind, comment, codec in _rows(
        client, "table, name, type, comment, compression_codec", "columns", "ORDER BY table, position"
    ):
        bare = codec.removeprefix("CODEC(").removesuffix(")") if codec else ""
        columns[table][name] = FoundColumn(kind, comment, bare)
    indexes: dict[str, dict[str, str]] = defaultdict(dict)
    told = "table, name, expr, type_full, granularity"
    for table, name, expression, kind, granularity in _rows(client, told, "data_skipping_indices"):
        indexes[table][name] = f"{expression} TYPE {kind} GRANULARITY {granularity}"
    projections: dict[str, set[str]] = defaultdict(set)
    for table, name in _rows(client, "table, name", "projections"):
        projections[table].add(name)
    told = "name, engine, partition_key, sorting_key, comment, engine_full"
    return {
        name: FoundTable(
            engine, partition, sorting, comment, _settings(full), columns[name], indexes[name],
            frozenset(projections[name]),
        )
        for name, engine, partition, sorting, comment, full in _rows(client, told, "tables")
    }  # fmt: skip


def steps(client: Client, schemas: Iterable[Schema]) -> list[Step]:
    """What is to be done at the client's place; nothing is changed. Raises DdlFault, ClickHouseError."""
    schemas, found = list(schemas), found_tables(client)
    applied: set[str] = set()
    if PROGRESS_TABLE in found:
        told = client.query(f"SELECT DISTINCT topic FROM {PROGRESS_TABLE}").result_rows
        applied = {str(topic) for (topic,) in told}
    late = [
        table.name
        for schema in schemas
        if schema.clickhouse is not None and schema.topic_name in applied
        for table in ddl.tables(documented(schema))
    ]
    return plan(wanted_tables(schemas), fixed_tables(), views(), found, late)


def wanted_tables(schemas: Iterable[Schema]) -> list[ddl.Table]:
    """The tables that the schemas ask for. Raises DdlFault."""
    forms = [documented(schema) for schema in schemas if schema.clickhouse is not None]
    return [*ddl.all_tables(forms).values(), ddl.applied(forms[0])]


def fixed_tables() -> Mapping[str, str]:
    """CREATE of the tables of the commits, by name."""
    return {_created(statement): statement for statement in COMMIT_TABLES}


def apply_changes(client: Client, changes: Sequence[Change]) -> None:
    """Make a plan's changes, in their order. What was made when it fails stays; the next plan has the rest."""
    for change in changes:
        for statement in change.statements:
            client.command(statement)


def _rows(client: Client, columns: str, table: str, rest: str = "") -> list[tuple[Any, ...]]:
    sql = f"SELECT {columns} FROM system.{table} WHERE {_HERE} {rest} SETTINGS final = 0"
    return [tuple(row) for row in client.query(sql).result_rows]


def _settings(engine_full: str) -> dict[str, str]:
    """The settings behind an engine: index_granularity = 256, mode = 'rebuild' → name → value without quotes."""
    _, found, told = engine_full.rpartition(" SETTINGS ")
    return {name: value.strip("'") for name, value in _SETTING.findall(told)} if found else {}


def _created(statement: str) -> str:
    return statement.split("EXISTS ", 1)[1].split()[0]
