"""The table `audits`: what every audit found, how far each partition is audited, and the digests of sound rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from pipeline.domain.audit import Result
from sinks.audit import sound_to
from sinks.audit_run import Told
from sinks.clickhouse_client import READ_SETTINGS, WRITE_SETTINGS, Place, rows
from sinks.ddl_shape import literal

TABLE: Final = "audits"
AUDITED: Final = "audited"  # the check whose rows tell how far a partition is sound
_COLUMNS: Final = (
    ("at", "DateTime64(3, 'UTC')", "When it was looked at."),
    ("check", "LowCardinality(String)", "What was compared: docs/operations.md. audited: up to where all is well."),
    ("scope", "String", "Topic, topic → table, chain or account."),
    ("epoch", "LowCardinality(String)", "Incarnation of the topic; empty where it is no topic's."),
    ("partition", "Int32", "Partition of the topic; -1 for none."),
    ("first", "Int64", "First offset or block; -1 for none."),
    ("last", "Int64", "Last offset or block; -1 for none."),
    ("expected", "String", "What should be there."),
    ("found", "String", "What is there."),
    ("ok", "Nullable(Bool)", "Are the two the same? Null: it could not be looked at."),
    ("evidence", "String", "Details, as JSON."),
)  # fmt: skip
CREATE: Final = (
    f"CREATE TABLE IF NOT EXISTS {TABLE} (\n  "
    + ",\n  ".join(f"`{name}` {kind} COMMENT {literal(doc)}" for name, kind, doc in _COLUMNS)
    + "\n)\nENGINE = MergeTree ORDER BY (check, scope, epoch, partition, first, at)\n"
    "COMMENT 'Results of the conservation audit.'"
)
# An audit must not slow the sink: one thread, behind other queries, and each question has an end.
WIDE: Final[Mapping[str, Any]] = {**READ_SETTINGS, "max_query_size": 16 << 20}
LOW: Final[Mapping[str, Any]] = {**WIDE, "max_threads": 1, "priority": 10}


@contextmanager
def asking(place: Place, settings: Mapping[str, Any]) -> Iterator[Callable[[str], Iterator[dict[str, Any]]]]:
    """A function that asks ClickHouse in one session of its own. Its rows raise QueryError."""
    client = place.connect(settings)
    try:
        yield lambda sql: rows(client, sql)
    finally:
        client.close()


class AuditStore:
    """What is remembered between audits."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def open(self) -> None:
        """Create the table. Raises ClickHouseError."""
        client = self._place.connect(WRITE_SETTINGS)
        try:
            client.command(CREATE)
        finally:
            client.close()

    def keep(self, told: Told) -> None:
        """Keep results, and how far each range is sound. Raises ClickHouseError."""
        audited = sound_to(told.ranges, told.results)
        ends = [
            Result(AUDITED, one.topic, "", "", True, one.first, audited[one[:3]], one.epoch, one.partition)
            for one in told.ranges
            if audited[one[:3]] >= one.first
        ]
        client = self._place.connect(WRITE_SETTINGS)
        try:
            (now,) = client.query("SELECT now64(3, 'UTC')").result_rows[0]
            lines = [{"at": now, **one.row()} for one in (*told.results, *ends)]
            names = [name for name, _, _ in _COLUMNS]
            if lines:
                client.insert(TABLE, [[row[name] for name in names] for row in lines], column_names=names)
        finally:
            client.close()


def audited_to(ask: Callable[[str], Iterable[Mapping[str, Any]]]) -> dict[tuple[str, str, int], int]:
    """Last offset that earlier audits found sound, by epoch, topic and partition."""
    return {
        (str(row["epoch"]), str(row["scope"]), int(row["partition"])): int(row["last"])
        for row in ask(
            f"SELECT toString(epoch) AS epoch, scope, partition, max(a.last) AS last FROM {TABLE} AS a"
            f" WHERE check = '{AUDITED}' GROUP BY epoch, scope, partition SETTINGS final = 0"
        )
    }


def seals(
    ask: Callable[[str], Iterable[Mapping[str, Any]]],
) -> dict[tuple[str, str, int, str, int], tuple[str, tuple[str, ...]]]:
    """The last digest of every commit and table: (epoch, topic, partition, table, first) → (digest, columns).

    There is a second where later messages replaced rows of a commit that was sealed.
    """
    found = {}
    for row in ask(
        "SELECT toString(epoch) AS epoch, scope, partition, first, argMax(a.expected, at) AS digest,"
        f" argMax(JSONExtract(evidence, 'columns', 'Array(String)'), at) AS columns FROM {TABLE} AS a"
        " WHERE check = 'seal' AND ok GROUP BY epoch, scope, partition, first SETTINGS final = 0"
    ):
        topic, _, table = str(row["scope"]).partition(" → ")
        key = (str(row["epoch"]), topic, int(row["partition"]), table, int(row["first"]))
        found[key] = (str(row["digest"]), tuple(row["columns"]))
    return found
