"""What the history sink remembers to make every effect exactly once.

A batch leaves three marks. An *intent* before its first insert; its rows, among them one in `sink_applied`
per message, told apart by content; and, after all inserts, one row per table in `sink_progress`, written as
a single block: the commit. An intent beyond the committed offset of its epoch is a batch that was cut off:
its rows are deleted by their origin, `sink_applied` included, and nothing has happened. So a block counts
as applied only if all its rows are there. DESIGN.md, "History (ClickHouse)".
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final
from uuid import uuid4

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import OperationalError

from sinks.clickhouse_client import ANSWER_WAIT_S
from sinks.ddl import APPLIED_TABLE, IDENTITY
from sinks.ddl_shape import literal

Identity = tuple[int, int, str, str, int]  # in the order of ddl.IDENTITY
Block = tuple[int, int, str, str]  # chain_number, block, the key without publication and part, hash
Partition = tuple[str, str, int]  # epoch, topic, partition

PROGRESS_TABLE: Final = "sink_progress"
INTENTS_TABLE: Final = "sink_intents"
_POLL_S, _POLL_MAX_S = 0.002, 0.5  # between two looks at what is being deleted
_ASKED_AT_ONCE: Final = 2000  # identities in one query; ClickHouse limits the size of a syntax tree
LEDGERS: Final = "xrpl.ledgers.v1"
ENDING: Final = frozenset({"evm.blocks.v1", "books.transfers.v1"})  # topics of blocks that become final
# without the incarnation; and without a backslash, which the port takes for no query with quoted names
ENDED_KEY: Final = "replaceRegexpOne(key, '(^| )[0-9]+/final( |$)', ' final ')"
_PUBLICATION: Final = r"(^| )[0-9]+/(head|final|retracted)( .*)?$"  # in a key, with what comes after it

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

        Of ENDING topics all that were applied of the same blocks, whatever their publication, chunk and part.
        """
        ending = topic in ENDING
        asked = dict.fromkeys(block_of(one) if ending else one for one in identities)
        compared = _BLOCK if ending else _COLUMNS
        found: set[Identity] = set()
        for some in _slices(asked, _ASKED_AT_ONCE):
            values = ", ".join(f"({', '.join(map(literal, one))})" for one in some)
            of_topic = f"SELECT {_COLUMNS} FROM {APPLIED_TABLE} WHERE _topic = {literal(topic)}"
            sql = f"{of_topic} AND ({compared}) IN ({values})"
            found.update(tuple(row) for row in self._client.query(sql).result_rows)
        return found

    def cut_otherwise(self, topic: str, identities: Iterable[Identity]) -> set[Identity]:
        """Chunks beyond the last one of a ledger that was applied whole: a later release may cut it into more."""
        later = [one for one in identities if topic == LEDGERS and one[4] > 0]
        chunks: dict[tuple[int, int, str], int] = {}
        for some in _slices([(one[0], one[1], one[3]) for one in later], _ASKED_AT_ONCE):
            values = ", ".join(f"({', '.join(map(literal, one))})" for one in some)
            sql = (
                "SELECT chain_number, ledger_index, ledger_hash, max(l.chunks) AS cut FROM xrpl_ledgers AS l"
                f" WHERE (chain_number, ledger_index, ledger_hash) IN ({values}) GROUP BY ALL"
                f" HAVING (chain_number, ledger_index, ledger_hash, cut) IN (SELECT chain_number, block, hash,"
                f" uniqExact(chunk) FROM {APPLIED_TABLE} WHERE _topic = {literal(topic)}"
                f" AND (chain_number, block, hash) IN ({values}) GROUP BY ALL)"
            )
            chunks |= {
                (number, block, told): of for number, block, told, of in self._client.query(sql).result_rows
            }
        return {one for one in later if one[4] >= chunks.get((one[0], one[1], one[3]), one[4] + 1)}

    def _mark(self, intents: Sequence[Intent], undone: int) -> None:
        names = ["batch", "epoch", "topic", "partition", "from_offset", "to_offset", "undone"]
        rows = [(one.batch, *one.where, one.from_offset, one.to_offset, undone) for one in intents]
        if rows:
            self._client.insert(INTENTS_TABLE, rows, column_names=names)


def block_of(identity: Identity) -> Block:
    """The block that a message of an ENDING topic tells of: number, block, what is left of its key, hash."""
    number, block, key, block_hash, _ = identity
    return number, block, _TOLD.sub("", key, count=1), block_hash


def ended(topic: str, identities: Iterable[Identity]) -> dict[Block, str]:
    """Blocks that these messages say are final → their publication.

    What is final stays, so nothing that is told of it afterwards under another publication is new: not even that it is
    final, by an ingest that counts its incarnations anew, nor if it is cut otherwise.
    """
    if topic not in ENDING:
        return {}
    return {block_of(one): told for one in identities if (told := publication(one)).endswith("/final")}


def too_late(identity: Identity, over: Mapping[Block, str]) -> bool:
    """Whether the message's block has ended under another publication; `over` as `ended` gives it."""
    mine = publication(identity)
    return over.get(block_of(identity), mine) != mine


def publication(identity: Identity) -> str:
    """<incarnation>/<finality> of a message; empty where blocks are final at once."""
    found = _TOLD.search(identity[2])
    return found[0].split()[0] if found else ""


def delete_rows(client: Client, table: str, condition: str) -> int:
    """Delete the rows of `table` under `condition` and wait until they are gone; how many there were.

    Raises OperationalError after ANSWER_WAIT_S: ClickHouse itself would wait for ever where a full disk has no place
    for a part without them. It deletes them once it can, and of rows that are written later none.
    """
    count = left = _count(client, table, condition)
    if count:
        client.command(f"ALTER TABLE {table} DELETE WHERE {condition} SETTINGS mutations_sync = 0")
    began, pause = time.monotonic(), _POLL_S
    while left := left and _count(client, table, condition):
        if time.monotonic() - began > ANSWER_WAIT_S:
            raise OperationalError(
                f"{table}: {left} rows to be deleted are still there after {ANSWER_WAIT_S} s; is the disk full?"
            )
        time.sleep(pause)
        pause = min(2 * pause, _POLL_MAX_S)
    return count


def _count(client: Client, table: str, condition: str) -> int:
    return int(client.query(f"SELECT count() FROM {table} WHERE {condition}").result_rows[0][0])


def origin_range(intent: Intent) -> str:
    """Condition on the origin columns: the rows of an intent."""
    epoch, topic, partition = intent.where
    return (
        f"_epoch = {literal(epoch)} AND _topic = {literal(topic)} AND _partition = {partition} "
        f"AND _offset BETWEEN {intent.from_offset} AND {intent.to_offset}"
    )


_COLUMNS: Final = ", ".join(IDENTITY)
_BLOCK: Final = f"chain_number, block, replaceRegexpOne(key, {literal(_PUBLICATION)}, ''), hash"
_TOLD: Final = re.compile(_PUBLICATION)


def _of(topic: str, partition: int) -> str:
    return f"topic = {literal(topic)} AND partition = {int(partition)}"


def _slices(items: Iterable[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
