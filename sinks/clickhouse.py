"""The history sink: messages as they stand in their topics → rows, decoded and unfolded by ClickHouse itself.

A batch goes: read the leading fields of each message (its identity), drop what was applied before, wrap the
rest byte by byte into one Avro container per writer schema, let ClickHouse read that into a staging table
in memory, and fill every table from there with one INSERT … SELECT. `sinks.ddl` makes all statements from
the schemas, so a new event type needs its schema and nothing here. How it stays exactly once is told in
`sinks.clickhouse_commits`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

from clickhouse_connect.driver.client import Client

from schemas.codec import Codec, id_of
from schemas.loader import Schema
from schemas.registry import Registry, WireError
from sinks import ddl
from sinks.clickhouse_client import (
    READ_SETTINGS,
    WRITE_SETTINGS,
    DirectoryLock,
    NamedStatements,
    Place,
    end_statements,
    rows,
)
from sinks.clickhouse_commits import (
    Commits,
    Intent,
    Partition,
    Pending,
    delete_rows,
    ended,
    origin_range,
    too_late,
)
from sinks.clickhouse_load import Incoming, Loaded, Loader
from sinks.clickhouse_plan import Refusal, pending
from sinks.clickhouse_state import apply_changes, steps
from sinks.ddl_shape import documented
from sinks.sink import HistoryMessage, Refused, TakenOver, WriteResult

READER: Final = "query"  # the role that only asks


class ClickHouseHistory:
    """The sink of DESIGN.md's history, embedded or on a server; see `sinks.sink.Sink`. One thread writes."""

    def __init__(
        self, place: Place, schemas: Iterable[Schema], codec: Codec, registry: Registry, role: str = "history"
    ) -> None:
        self._place, self._codec, self._role = place, codec, role
        self._schemas = {schema.topic_name: schema for schema in schemas if schema.clickhouse is not None}
        self._forms = {topic: documented(schema) for topic, schema in self._schemas.items()}
        self._tables = {topic: (*ddl.tables(form), ddl.applied(form)) for topic, form in self._forms.items()}
        self._identity = {topic: ddl.identity(form) for topic, form in self._forms.items()}
        self._loader = Loader(lambda: self._client, codec, registry, self._forms, self._tables)
        self._pending: dict[Partition, Pending] = {}
        self._written: dict[Partition, int] = {}
        self._failed: list[Intent] = []
        self._undoing: set[str] = set()  # batches whose undoing was begun here
        self._doubtful = False  # whether the last commit's answer never came
        self._lock: DirectoryLock | None = None
        self._client_or_none: Client | None = None

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that have tables."""
        return tuple(sorted(self._schemas))

    def open(self) -> None:
        """Own the place, connect, make its tables and views those of the schemas.

        Raises DirectoryInUse, ClickHouseError, and MigrationRefused where rows would be lost by that; a READER
        is shown what is there.
        """
        self._lock = self._place.lock(self._role)
        try:
            self._client_or_none = client = self._connect()
            wanted = steps(client, self._schemas.values())
            if self._role != READER or not any(isinstance(step, Refusal) for step in wanted):
                apply_changes(client, pending(wanted))
        except BaseException:
            self.close()
            raise

    def open_partition(self, epoch: str, topic: str, partition: int) -> int:
        """Undo what was cut off there in any epoch; the offset to read next in this one."""
        where = (epoch, topic, partition)
        self._pending.pop(where, None)
        self._renew([])
        cut_off = self._commits.cut_off(epoch, topic, partition)
        if cut_off and self._place.url is not None:
            end_statements(self._client, {intent.batch for intent in cut_off})
            cut_off = self._commits.cut_off(epoch, topic, partition)  # one may have been committed just now
        self._undo(topic, cut_off)
        self._failed = [intent for intent in self._failed if intent.where != where]
        self._written[where] = self._commits.committed(topic, partition).get(epoch, -1)
        return self._written[where] + 1

    def write(self, epoch: str, batch: Sequence[HistoryMessage]) -> WriteResult:
        """Insert what a batch of one topic holds.

        Raises ClickHouseError where ClickHouse, not the data, fails: then nothing of the batch counts, and it
        may be written again.
        """
        if not batch:
            return WriteResult()
        topic = batch[0].topic
        if any(message.topic != topic for message in batch):
            raise ValueError("a batch holds messages of one topic")
        self._undo_failed()
        fresh, duplicates, refused = self._sift(epoch, topic, batch)
        intents = _intents(epoch, topic, (one.message for _, group in fresh for one in group))
        self._name_statements(intents[0].batch if intents else "")
        loaded = Loaded()
        try:
            self._commits.begin(intents)
            for schema_id, group in fresh:
                loaded.add(self._loader.load(epoch, topic, schema_id, group))
        except BaseException:
            self._failed.extend(intents)
            raise
        refused += loaded.refused
        self._note(epoch, topic, batch, duplicates, refused, loaded.rows)
        for intent in intents:
            self._pending[intent.where].batches.add(intent.batch)
        totals: Counter[str] = Counter()
        for (_, table), count in loaded.rows.items():
            totals[table] += count
        applied = len(batch) - duplicates.total() - len(refused)
        return WriteResult(applied, duplicates.total(), tuple(refused), dict(totals))

    def flush(self) -> None:
        """Commit everything written since the last flush. Raises ClickHouseError; then it may be called again.

        Raises TakenOver where another process has undone some of it.
        """
        self._undo_failed()
        if self._doubtful:
            self._forget_committed()
        if not self._pending:
            return
        self._check_ours(
            Intent(where, of.from_offset, of.to_offset, batch)
            for where, of in self._pending.items()
            for batch in of.batches
        )
        self._doubtful = True
        self._name_statements(*self._uncommitted())
        self._commits.commit(self._pending)
        self._doubtful = False
        self._pending.clear()

    def _forget_committed(self) -> None:
        """A commit whose answer never came has either come about by now, whole, or never will."""
        self._renew(self._uncommitted())
        for where, of in list(self._pending.items()):
            epoch, topic, partition = where
            if self._commits.committed(topic, partition).get(epoch, -1) >= of.to_offset:
                del self._pending[where]
        self._doubtful = False

    def _uncommitted(self) -> list[str]:
        """The batches that the next commit commits."""
        return sorted({batch for of in self._pending.values() for batch in of.batches})

    def close(self) -> None:
        """Let go; what was not flushed is undone at the next open_partition."""
        if self._client_or_none is not None:
            self._client_or_none.close()
            self._client_or_none = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """Rows of a reading query as they come, JSON-safe, without duplicates. Raises QueryError.

        May be called from any thread, while writing too: every query has its own session.
        """
        client = self._place.connect(READ_SETTINGS)
        try:
            yield from rows(client, sql, parameters)
        finally:
            client.close()

    @property
    def reading(self) -> tuple[Place, Mapping[str, Any]]:
        """Where it is, and the settings that it is read with."""
        return self._place, READ_SETTINGS

    def _connect(self) -> Any:
        client = self._place.connect(WRITE_SETTINGS)
        return client if self._place.url is None else NamedStatements(client)

    def _renew(self, batches: Iterable[str]) -> None:
        """On a server: a new session, for the old one may be held by a statement; and none of `batches` runs on."""
        if self._place.url is None:
            return
        fresh = self._connect()
        if self._client_or_none is not None:
            self._client_or_none.close()
        self._client_or_none = fresh
        end_statements(self._client, batches)

    def _name_statements(self, *batches: str) -> None:
        if isinstance(self._client, NamedStatements):
            self._client.batch = "-".join(batches)

    def _check_ours(self, intents: Iterable[Intent]) -> None:
        """On a server another process may have taken a partition over; embedded, the lock excludes it."""
        lost = None if self._place.url is None else self._commits.taken_over(intents)
        if lost is not None:
            _, topic, partition = lost.where
            raise TakenOver(f"{topic} partition {partition}: another process writes it to ClickHouse now")

    @property
    def _client(self) -> Client:
        if self._client_or_none is None:
            raise RuntimeError("the history is not open")
        return self._client_or_none

    @property
    def _commits(self) -> Commits:
        return Commits(self._client)

    def _sift(
        self, epoch: str, topic: str, batch: Sequence[HistoryMessage]
    ) -> tuple[list[tuple[int, list[Incoming]]], Counter[int], list[Refused]]:
        """(what is new, as `_grouped`; duplicates by partition; what cannot be read)."""
        duplicates: Counter[int] = Counter()
        refused: list[Refused] = []
        read: list[tuple[int, Incoming]] = []
        for message in batch:
            if message.offset <= self._written.get((epoch, topic, message.partition), -1):
                duplicates[message.partition] += 1
                continue
            try:
                read.append(self._read(topic, message))
            except WireError as fault:
                refused.append(Refused(message, fault.reason, str(fault)))
        seen = self._commits.applied(topic, (incoming.identity for _, incoming in read))
        seen |= self._commits.cut_otherwise(topic, {one.identity for _, one in read} - seen)
        over = ended(topic, seen)
        fresh: list[tuple[int, Incoming]] = []
        for schema_id, incoming in read:
            if incoming.identity in seen or too_late(incoming.identity, over):
                duplicates[incoming.message.partition] += 1
                continue
            seen.add(incoming.identity)
            over |= ended(topic, (incoming.identity,))
            fresh.append((schema_id, incoming))
        return _grouped(fresh), duplicates, refused

    def _read(self, topic: str, message: HistoryMessage) -> tuple[int, Incoming]:
        """(writer's schema id, the message with its identity). Raises WireError."""
        schema_id = id_of(message.message)
        name = self._codec.record_name(schema_id)
        if name != self._schemas[topic].name:
            raise WireError(f"{topic}: holds a {name} (schema id {schema_id})")
        fields = self._identity[topic]
        found = self._codec.decode_prefix(message.message, [field for of in fields.values() for field in of])
        return schema_id, Incoming(message, ddl.identity_of(fields, found))

    def _note(
        self,
        epoch: str,
        topic: str,
        batch: Sequence[HistoryMessage],
        duplicates: Counter[int],
        refused: Sequence[Refused],
        counted: Counter[tuple[int, str]],
    ) -> None:
        """Put a batch that is written to what the next flush commits."""
        for intent in _intents(epoch, topic, batch):
            partition = intent.where[2]
            pending = self._pending.setdefault(intent.where, Pending(intent.from_offset, intent.to_offset))
            pending.to_offset = max(pending.to_offset, intent.to_offset)
            pending.duplicates += duplicates[partition]
            pending.refused += sum(one.message.partition == partition for one in refused)
            for table in self._tables[topic]:
                pending.rows[table.name] = pending.rows.get(table.name, 0) + counted[partition, table.name]
            self._written[intent.where] = max(self._written.get(intent.where, -1), intent.to_offset)
        for message in reversed(batch):
            pending = self._pending[epoch, topic, message.partition]
            if message.offset == pending.to_offset:
                pending.block, pending.block_hash = self._place_of(topic, message)

    def _place_of(self, topic: str, message: HistoryMessage) -> tuple[int, str]:
        """Block and hash of a message, (-1, "") where it cannot be read."""
        try:
            _, incoming = self._read(topic, message)
        except WireError:
            return -1, ""
        return incoming.identity[1], incoming.identity[3]

    def _undo_failed(self) -> None:
        """Undo the batches whose write raised: their rows may be in some tables, or still on their way there."""
        if not self._failed:
            return
        self._renew({intent.batch for intent in self._failed})
        self._check_ours(one for one in self._failed if one.batch not in self._undoing)
        self._undoing = {one.batch for one in self._failed}
        for topic in {intent.where[1] for intent in self._failed}:
            self._undo(topic, [intent for intent in self._failed if intent.where[1] == topic])
        self._failed, self._undoing = [], set()

    def _undo(self, topic: str, intents: Sequence[Intent]) -> None:
        """Delete the rows of `intents` from all tables of the topic."""
        for intent in intents:
            self._name_statements(intent.batch)  # a deletion that came late would take what is written next
            for table in self._tables[topic]:
                delete_rows(self._client, table.name, origin_range(intent))
        self._commits.undone(intents)


def _grouped(read: Iterable[tuple[int, Incoming]]) -> list[tuple[int, list[Incoming]]]:
    """(schema id, its messages), as few groups as keep each partition's order: of two rows the later replaces."""
    groups: list[tuple[int, list[Incoming]]] = []
    reached: dict[int, int] = {}  # partition → the group of its last message
    for schema_id, incoming in read:
        partition = incoming.message.partition
        places = range(reached.get(partition, 0), len(groups))
        place = next((place for place in places if groups[place][0] == schema_id), len(groups))
        if place == len(groups):
            groups.append((schema_id, []))
        groups[place][1].append(incoming)
        reached[partition] = place
    return groups


def _intents(epoch: str, topic: str, messages: Iterable[HistoryMessage]) -> list[Intent]:
    """One intent per partition over the offsets of `messages`, all of one batch."""
    offsets: dict[int, list[int]] = defaultdict(list)
    for message in messages:
        offsets[message.partition].append(message.offset)
    batch = uuid4().hex
    return [
        Intent((epoch, topic, partition), min(of), max(of), batch)
        for partition, of in sorted(offsets.items())
    ]
