"""What the history sink remembers to make every effect exactly once.

A batch leaves three marks. An *intent* before its first insert; its rows, among them one in `sink_applied`
per message, told apart by content; and, after all inserts, one row per table in `sink_progress`, written as
a single block: the commit. An intent beyond the committed offset of its epoch is a batch that was cut off:
its rows are deleted by their origin, `sink_applied` included, and nothing has happened. So a block counts
as applied only if all its rows are there. DESIGN.md, "History (ClickHouse)".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final
from uuid import uuid4

from clickhouse_connect.driver.client import Client

from sinks.ddl import APPLIED_TABLE, IDENTITY
from sinks.ddl_shape import literal

Identity = tuple[int, int, str, str, int]  # in the order of ddl.IDENTITY
Partition = tuple[str, str, int]  # epoch, topic, partition

PROGRESS_TABLE: Final = "sink_progress"
INTENTS_TABLE: Final = "sink_intents"
_ASKED_AT_ONCE: Final = 2000  # identities in one query; ClickHouse limits the size of a syntax tree
# Topics of blocks that become final, and the key of what is final there without its incarnation.
ENDING: Final = frozenset({"evm.blocks.v1", "books.transfers.v1"})
ENDED_KEY: Final = (
    "arrayStringConcat(arrayMap(one -> if(endsWith(one, '/final'), 'final', one),"
    " splitByChar(' ', key)), ' ')"
)
_PUBLICATION: Final = re.compile(r"(^| )\d+/(?:head|final|retracted)(?= |$)")

COMMIT_TABLES: Final = (
    f"""CREATE TABLE IF NOT EXISTS {PROGRESS_TABLE} (
  epoch LowCardinality(String) COMMENT 'Incarnation of the topic; offsets mean something only within one.',
  topic LowCardinality(String) COMMENT 'Topic.',
  partition Int32 COMMENT 'Partition of the topic.',
  `table` LowCardinality(String) COMMENT 'Table that the rows went to.',
  from_offset Int64 COMMENT 'First offset of the commit.',
  to_offset Int64 COMMENT 'Last offset of the commit: reading goes on after it.',
  block Int64 COMMENT 'Ledger index or block number of the last message; -1 for none.',
  block_hash String COMMENT 'Hash of that block.',
  rows UInt64 COMMENT 'Rows inserted.',
  duplicates UInt64 COMMENT 'Messages dropped because their content had been applied.',
  refused UInt64 COMMENT 'Messages that could not be taken.',
  committed_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When.'
)
ENGINE = MergeTree ORDER BY (topic, partition, epoch, to_offset, `table`)
COMMENT 'One row per commit and table: up to where each partition is in the tables.'""",
    f"""CREATE TABLE IF NOT EXISTS {INTENTS_TABLE} (
  batch String COMMENT 'Id of the batch.',
  epoch LowCardinality(String) COMMENT 'Incarnation of the topic.',
  topic LowCardinality(String) COMMENT 'Topic.',
  partition Int32 COMMENT 'Partition of the topic.',
  from_offset Int64 COMMENT 'First offset of the batch.',
  to_offset Int64 COMMENT 'Last offset of the batch.',
  undone UInt8 COMMENT '0: inserts may follow. 1: its rows were deleted again.',
  at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When.'
)
ENGINE = MergeTree ORDER BY (topic, partition, epoch, to_offset)
COMMENT 'One row before the first insert of every batch, one more where it was undone.'""",
)


@dataclass(frozen=True)
class Intent:
    """A batch's offsets in one partition."""

    where: Partition
    from_offset: int
    to_offset: int
    batch: str = field(default_factory=lambda: uuid4().hex)


@dataclass
class Pending:
    """What was written to one partition since the last commit."""

    from_offset: int
    to_offset: int
    block: int = -1
    block_hash: str = ""
    duplicates: int = 0
    refused: int = 0
    batches: set[str] = field(default_factory=set)
    rows: dict[str, int] = field(default_factory=dict)


class Commits:
    """The marks, over a client. Every method is one statement or a few that may be cut off anywhere."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def begin(self, intents: Sequence[Intent]) -> None:
        """Tell that rows of these offsets may appear."""
        self._mark(intents, undone=0)

    def undone(self, intents: Sequence[Intent]) -> None:
        """Tell that no rows of these batches are left."""
        self._mark(intents, undone=1)

    def commit(self, pending: dict[Partition, Pending]) -> None:
        """Commit in one block, so all or nothing."""
        names = [
            "epoch",
            "topic",
            "partition",
            "table",
            "from_offset",
            "to_offset",
            "block",
            "block_hash",
            "rows",
            "duplicates",
            "refused",
        ]
        rows = [
            (
                *where,
                table,
                of.from_offset,
                of.to_offset,
                of.block,
                of.block_hash,
                count,
                of.duplicates,
                of.refused,
            )
            for where, of in pending.items()
            for table, count in sorted(of.rows.items())
        ]
        if rows:
            self._client.insert(PROGRESS_TABLE, rows, column_names=names)

    def committed(self, topic: str, partition: int) -> dict[str, int]:
        """Last committed offset by epoch."""
        sql = (
            f"SELECT epoch, max(to_offset) FROM {PROGRESS_TABLE} WHERE {_of(topic, partition)} GROUP BY epoch"
        )
        return {str(epoch): int(last) for epoch, last in self._client.query(sql).result_rows}

    def taken_over(self, intents: Iterable[Intent]) -> Intent | None:
        """One of the batches that was undone already, so by another process; None where none was."""
        for intent in intents:
            _, topic, partition = intent.where
            found = self._client.query(
                f"SELECT max(undone) FROM {INTENTS_TABLE} WHERE {_of(topic, partition)} "
                f"AND epoch = {literal(intent.where[0])} AND batch = {literal(intent.batch)}"
            ).result_rows
            if found and found[0][0]:
                return intent
        return None

    def cut_off(self, epoch: str, topic: str, partition: int) -> list[Intent]:
        """Batches that began and were neither committed nor undone: of this partition, and of any partition in
        epochs that are over, for the same content may come back in another one.

        Of this partition only what its key finds above the committed offset is read, so that a start takes no
        longer with age; of epochs that are over, only what is not committed is grouped.
        """
        here = self.committed(topic, partition).get(epoch, -1)
        of_topic = f"topic = {literal(topic)}"
        ours = f"partition = {int(partition)} AND epoch = {literal(epoch)} AND to_offset > {here}"
        ends = f"SELECT epoch, partition, max(to_offset) + 1 AS next FROM {PROGRESS_TABLE} WHERE {of_topic}"
        sql = (
            f"SELECT epoch, partition, greatest(min(from_offset), any(next)), max(to_offset), batch"
            f" FROM (SELECT * FROM {INTENTS_TABLE}"
            f" WHERE {of_topic} AND (({ours}) OR epoch != {literal(epoch)})) AS begun"
            f" LEFT JOIN ({ends} GROUP BY epoch, partition) AS done USING (epoch, partition)"
            " WHERE to_offset >= next GROUP BY epoch, partition, batch HAVING max(undone) = 0"
        )  # a partition without a commit has next = 0
        found = self._client.query(sql).result_rows
        return [Intent((one, topic, place), first, last, batch) for one, place, first, last, batch in found]

    def applied(self, topic: str, identities: Iterable[Identity]) -> set[Identity]:
        """Those of `identities` whose messages were applied before, in whatever epoch.

        Of ENDING topics also those of the messages that told of the same blocks that they are final.
        """
        asked = dict.fromkeys(identities)
        asked |= dict.fromkeys(end for one in asked if (end := as_final(topic, one)) is not None)
        compared = _ENDS if topic in ENDING else _COLUMNS
        found: set[Identity] = set()
        for some in _slices(asked, _ASKED_AT_ONCE):
            values = ", ".join(f"({', '.join(map(literal, one))})" for one in some)
            of_topic = f"SELECT {_COLUMNS} FROM {APPLIED_TABLE} WHERE _topic = {literal(topic)}"
            sql = f"{of_topic} AND ({compared}) IN ({values})"
            found.update(tuple(row) for row in self._client.query(sql).result_rows)
        return found

    def _mark(self, intents: Sequence[Intent], undone: int) -> None:
        names = ["batch", "epoch", "topic", "partition", "from_offset", "to_offset", "undone"]
        rows = [(one.batch, *one.where, one.from_offset, one.to_offset, undone) for one in intents]
        if rows:
            self._client.insert(INTENTS_TABLE, rows, column_names=names)


def as_final(topic: str, identity: Identity) -> Identity | None:
    """The identity under which a message's block has ended, without the incarnation; None where blocks do not end.

    What is final stays, so nothing that is told of it afterwards is new: not even that it is final, by an ingest that
    counts its incarnations anew.
    """
    if topic not in ENDING:
        return None
    number, block, key, block_hash, chunk = identity
    end, found = _PUBLICATION.subn(r"\1final", key, count=1)
    return (number, block, end, block_hash, chunk) if found else None


def ended(topic: str, identities: Iterable[Identity]) -> set[Identity]:
    """`as_final` of those of these messages that say that their block is final."""
    found = set()
    for one in identities:
        end = as_final(topic, one)
        if end is not None and any(word.endswith("/final") for word in one[2].split(" ")):
            found.add(end)
    return found


def delete_rows(client: Client, table: str, condition: str) -> int:
    """Delete the rows of `table` under `condition` and wait until they are gone; how many there were."""
    count = int(client.query(f"SELECT count() FROM {table} WHERE {condition}").result_rows[0][0])
    if count:
        client.command(f"ALTER TABLE {table} DELETE WHERE {condition} SETTINGS mutations_sync = 2")
    return count


def origin_range(intent: Intent) -> str:
    """Condition on the origin columns: the rows of an intent."""
    epoch, topic, partition = intent.where
    return (
        f"_epoch = {literal(epoch)} AND _topic = {literal(topic)} AND _partition = {partition} "
        f"AND _offset BETWEEN {intent.from_offset} AND {intent.to_offset}"
    )


_COLUMNS: Final = ", ".join(IDENTITY)
_ENDS: Final = _COLUMNS.replace("key", ENDED_KEY)


def _of(topic: str, partition: int) -> str:
    return f"topic = {literal(topic)} AND partition = {int(partition)}"


def _slices(items: Iterable[Identity], size: int) -> Iterator[list[Identity]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
