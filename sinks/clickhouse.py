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
from dataclasses import dataclass, field
from typing import Any, Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from schemas.codec import Codec, body, id_of
from schemas.loader import Schema
from schemas.registry import Registry, WireError
from sinks import ddl
from sinks.clickhouse_client import (
    READ_SETTINGS,
    WRITE_SETTINGS,
    DirectoryLock,
    Place,
    fault_code,
    one_line,
    rows,
)
from sinks.clickhouse_commits import Commits, Identity, Intent, Partition, Pending, delete_rows, origin_range
from sinks.container import Body, ContainerWriter
from sinks.ddl_shape import documented, literal
from sinks.sink import HistoryMessage, Refused, WriteResult
from sinks.views import views

CONTAINER_BYTES_MAX: Final = 32 << 20
_STAGE: Final = "sink_stage"
# ClickHouse's error codes that speak of the data at hand; for any other nothing is refused, the sink stops.
DATA_FAULTS: Final = frozenset(
    {6, 26, 27, 32, 33, 36, 38, 41, 53, 69, 70, 72, 117, 128, 131, 173, 321, 349, 407, 467, 673, 691, 1001}
)


@dataclass(frozen=True)
class _Incoming:
    message: HistoryMessage
    identity: Identity


@dataclass
class _Loaded:
    """Rows by (partition, table), and the messages refused."""

    rows: Counter[tuple[int, str]] = field(default_factory=Counter)
    refused: list[Refused] = field(default_factory=list)

    def add(self, other: _Loaded) -> _Loaded:
        self.rows.update(other.rows)
        self.refused.extend(other.refused)
        return self


@dataclass(frozen=True)
class _Plan:
    """Statements for messages of one topic in one writer's schema."""

    create_stage: str
    count: str
    inserts: Mapping[str, str]  # by table
    writer: ContainerWriter


class ClickHouseHistory:
    """The sink of DESIGN.md's history, embedded or on a server; see `sinks.sink.Sink`. One thread writes."""

    def __init__(
        self, place: Place, schemas: Iterable[Schema], codec: Codec, registry: Registry, role: str = "history"
    ) -> None:
        self._place, self._codec, self._registry, self._role = place, codec, registry, role
        self._schemas = {schema.topic_name: schema for schema in schemas if schema.clickhouse is not None}
        self._forms = {topic: documented(schema) for topic, schema in self._schemas.items()}
        self._tables = {topic: (*ddl.tables(form), ddl.applied(form)) for topic, form in self._forms.items()}
        self._identity = {topic: ddl.identity(form) for topic, form in self._forms.items()}
        self._plans: dict[tuple[str, int], _Plan] = {}
        self._pending: dict[Partition, Pending] = {}
        self._written: dict[Partition, int] = {}
        self._failed: list[Intent] = []
        self._lock: DirectoryLock | None = None
        self._client_or_none: Client | None = None

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics that have tables."""
        return tuple(sorted(self._schemas))

    def open(self) -> None:
        """Own the place, connect, create tables and views. Raises DirectoryInUse, ClickHouseError."""
        self._lock = self._place.lock(self._role)
        try:
            self._client_or_none = client = self._place.connect(WRITE_SETTINGS)
            for statement in self.statements():
                client.command(statement)
            self._add_columns(client)
            self._commits.create_tables()
            for view in views():
                client.command(view.sql)
        except BaseException:
            self.close()
            raise

    def _add_columns(self, client: Client) -> None:
        """A folder of an earlier release may lack columns that the schemas have gained."""
        there: dict[str, set[str]] = defaultdict(set)
        for table, column in client.query(
            "SELECT table, name FROM system.columns WHERE database = currentDatabase()"
        ).result_rows:
            there[table].add(column)
        told = client.query("SELECT name, sorting_key FROM system.tables WHERE database = currentDatabase()")
        keys = {str(table): str(key) for table, key in told.result_rows}
        for made in ddl.all_tables(self._forms.values()).values():
            statement = ddl.add_columns(made, there[made.name], keys[made.name])
            if statement is not None:
                client.command(statement)

    def statements(self) -> list[str]:
        """CREATE TABLE of every table that the schemas ask for."""
        made = ddl.all_tables(self._forms.values())
        applied = ddl.applied(next(iter(self._forms.values())))
        return [ddl.create_table(table) for table in (*made.values(), applied)]

    def open_partition(self, epoch: str, topic: str, partition: int) -> int:
        """Undo what was cut off there in any epoch; the offset to read next in this one."""
        where = (epoch, topic, partition)
        self._pending.pop(where, None)
        self._undo(topic, self._commits.cut_off(epoch, topic, partition))
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
        intents = _intents(epoch, topic, (one.message for group in fresh.values() for one in group))
        loaded = _Loaded()
        try:
            self._commits.begin(intents)
            for schema_id, group in fresh.items():
                plan = self._plan(topic, schema_id)
                for some in _portions(group):
                    loaded.add(self._load(plan, epoch, topic, some))
        except BaseException:
            self._failed.extend(intents)
            raise
        refused += loaded.refused
        self._note(epoch, topic, batch, duplicates, refused, loaded.rows)
        totals: Counter[str] = Counter()
        for (_, table), count in loaded.rows.items():
            totals[table] += count
        applied = len(batch) - duplicates.total() - len(refused)
        return WriteResult(applied, duplicates.total(), tuple(refused), dict(totals))

    def flush(self) -> None:
        """Commit everything written since the last flush."""
        self._undo_failed()
        self._commits.commit(self._pending)
        self._pending.clear()

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
    def _client(self) -> Client:
        if self._client_or_none is None:
            raise RuntimeError("the history is not open")
        return self._client_or_none

    @property
    def _commits(self) -> Commits:
        return Commits(self._client)

    def _sift(
        self, epoch: str, topic: str, batch: Sequence[HistoryMessage]
    ) -> tuple[dict[int, list[_Incoming]], Counter[int], list[Refused]]:
        """(what is new, by schema id; duplicates by partition; what cannot be read)."""
        duplicates: Counter[int] = Counter()
        refused: list[Refused] = []
        read: list[tuple[int, _Incoming]] = []
        for message in batch:
            if message.offset <= self._written.get((epoch, topic, message.partition), -1):
                duplicates[message.partition] += 1
                continue
            try:
                read.append(self._read(topic, message))
            except WireError as fault:
                refused.append(Refused(message, fault.reason, str(fault)))
        seen = self._commits.applied(topic, (incoming.identity for _, incoming in read))
        fresh: dict[int, list[_Incoming]] = defaultdict(list)
        for schema_id, incoming in read:
            if incoming.identity in seen:
                duplicates[incoming.message.partition] += 1
                continue
            seen.add(incoming.identity)
            fresh[schema_id].append(incoming)
        return fresh, duplicates, refused

    def _read(self, topic: str, message: HistoryMessage) -> tuple[int, _Incoming]:
        """(writer's schema id, the message with its identity). Raises WireError."""
        schema_id = id_of(message.message)
        name = self._codec.record_name(schema_id)
        if name != self._schemas[topic].name:
            raise WireError(f"{topic}: holds a {name} (schema id {schema_id})")
        fields = self._identity[topic]
        found = self._codec.decode_prefix(message.message, [field for of in fields.values() for field in of])
        return schema_id, _Incoming(message, ddl.identity_of(fields, found))

    def _plan(self, topic: str, schema_id: int) -> _Plan:
        plan = self._plans.get((topic, schema_id))
        if plan is None:
            ours, writer = self._forms[topic], self._registry.by_id(schema_id)
            made = {
                table.name: ddl.insert_select(table, topic, ours, writer, _STAGE)
                for table in self._tables[topic]
            }
            counts = [ddl.count_rows(table, ours, writer, _STAGE) for table in self._tables[topic]]
            plan = _Plan(
                create_stage=ddl.create_stage(_STAGE, writer),
                count="\nUNION ALL\n".join(counts),
                inserts={name: statement for name, statement in made.items() if statement is not None},
                writer=ContainerWriter(writer),
            )
            self._plans[topic, schema_id] = plan
        return plan

    def _load(self, plan: _Plan, epoch: str, topic: str, group: Sequence[_Incoming]) -> _Loaded:
        """Insert a group of one writer's schema but for the messages that ClickHouse refuses."""
        good, refused = self._winnow(plan, epoch, group)
        loaded = _Loaded(refused=refused)
        if not good:
            return loaded
        if refused:
            self._stage(plan, epoch, good)
        try:
            counted = self._client.query(plan.count).result_rows
            for table in plan.inserts.keys() & {table for table, _, _ in counted}:
                self._client.command(plan.inserts[table])
        except ClickHouseError as fault:
            if fault_code(fault) not in DATA_FAULTS:
                raise
            self._delete(epoch, topic, good)
            if len(good) == 1:
                loaded.refused.append(self._refusal(good[0].message, fault))
                return loaded
            half = len(good) // 2
            loaded.add(self._load(plan, epoch, topic, good[:half]))
            return loaded.add(self._load(plan, epoch, topic, good[half:]))
        loaded.rows.update({(partition, table): count for table, partition, count in counted})
        return loaded

    def _winnow(
        self, plan: _Plan, epoch: str, group: Sequence[_Incoming]
    ) -> tuple[list[_Incoming], list[Refused]]:
        """(what ClickHouse can read, what not): halves a container that is refused, down to the one message.

        Where nothing is refused, `group` is staged.
        """
        try:
            self._stage(plan, epoch, group)
        except ClickHouseError as fault:
            if fault_code(fault) not in DATA_FAULTS:
                raise
            if len(group) == 1:
                return [], [self._refusal(group[0].message, fault)]
            half = len(group) // 2
            good, refused = self._winnow(plan, epoch, group[:half])
            more_good, more_refused = self._winnow(plan, epoch, group[half:])
            return good + more_good, refused + more_refused
        return list(group), []

    def _stage(self, plan: _Plan, epoch: str, group: Sequence[_Incoming]) -> None:
        self._client.command(f"DROP TEMPORARY TABLE IF EXISTS {_STAGE}")
        self._client.command(plan.create_stage)
        bodies = (
            Body(of.partition, of.offset, of.timestamp_ms, body(of.message))
            for of in (one.message for one in group)
        )
        self._client.raw_insert(_STAGE, insert_block=plan.writer.container(epoch, bodies), fmt="Avro")

    def _refusal(self, message: HistoryMessage, fault: Exception) -> Refused:
        """Why one message was refused: what our own decoder says of it, else what ClickHouse says."""
        try:
            self._codec.decode(message.message, message.topic)
        except WireError as wrong:
            return Refused(message, wrong.reason, str(wrong))
        return Refused(message, "refused_by_sink", one_line(fault))

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
        """Undo the batches whose write raised: their rows may be in some tables."""
        for topic in {intent.where[1] for intent in self._failed}:
            self._undo(topic, [intent for intent in self._failed if intent.where[1] == topic])
        self._failed = []

    def _undo(self, topic: str, intents: Sequence[Intent]) -> None:
        """Delete the rows of `intents` from all tables of the topic."""
        for intent in intents:
            for table in self._tables[topic]:
                delete_rows(self._client, table.name, origin_range(intent))
        self._commits.undone(intents)

    def _delete(self, epoch: str, topic: str, group: Sequence[_Incoming]) -> None:
        """Delete what was inserted of a group that was refused on the way."""
        offsets = ", ".join(f"({one.message.partition}, {one.message.offset})" for one in group)
        origin = f"_epoch = {literal(epoch)} AND _topic = {literal(topic)}"
        for table in self._tables[topic]:
            delete_rows(self._client, table.name, f"{origin} AND (_partition, _offset) IN ({offsets})")


def _intents(epoch: str, topic: str, messages: Iterable[HistoryMessage]) -> list[Intent]:
    """One intent per partition over the offsets of `messages`."""
    offsets: dict[int, list[int]] = defaultdict(list)
    for message in messages:
        offsets[message.partition].append(message.offset)
    return [Intent((epoch, topic, partition), min(of), max(of)) for partition, of in sorted(offsets.items())]


def _portions(group: Sequence[_Incoming]) -> Iterator[Sequence[_Incoming]]:
    """`group` cut so that no container passes CONTAINER_BYTES_MAX, but for a single message that does."""
    start, size = 0, 0
    for place, one in enumerate(group):
        length = len(one.message.message)
        if size and size + length > CONTAINER_BYTES_MAX:
            yield group[start:place]
            start, size = place, 0
        size += length
    yield group[start:]
