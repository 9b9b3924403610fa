"""One writer's schema at a time: messages → container → stage → rows, but for what ClickHouse refuses.

The messages' bodies go into an Avro container as they are, ClickHouse reads it once into a table of its memory, and
one INSERT … SELECT a table unfolds them there. A container that is refused is halved down to the one message, and
so are rows that an INSERT … SELECT cannot take, whose group is deleted first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from schemas.codec import Codec, body
from schemas.registry import Registry, WireError
from sinks import ddl
from sinks.clickhouse_client import STAGE_TABLE, of_data, one_line
from sinks.clickhouse_commits import Identity, delete_rows
from sinks.container import Body, ContainerWriter
from sinks.ddl_shape import literal
from sinks.sink import HistoryMessage, Refused

CONTAINER_BYTES_MAX: Final = 32 << 20


@dataclass(frozen=True)
class Incoming:
    """A message that was not applied before."""

    message: HistoryMessage
    identity: Identity


@dataclass
class Loaded:
    """Rows by (partition, table), and the messages refused."""

    rows: Counter[tuple[int, str]] = field(default_factory=Counter)
    refused: list[Refused] = field(default_factory=list)

    def add(self, other: Loaded) -> Loaded:
        """This and the other."""
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


class Loader:
    """Fills the tables of `forms` (topic → documented schema) over the client that `client` gives."""

    def __init__(
        self,
        client: Callable[[], Client],
        codec: Codec,
        registry: Registry,
        forms: Mapping[str, Mapping[str, Any]],
        tables: Mapping[str, Sequence[ddl.Table]],
    ) -> None:
        self._of_now, self._codec, self._registry = client, codec, registry
        self._forms, self._tables = forms, tables
        self._plans: dict[tuple[str, int], _Plan] = {}
        self._staged = 0  # messages in the stage

    def load(self, epoch: str, topic: str, schema_id: int, group: Sequence[Incoming]) -> Loaded:
        """Insert a group of one writer's schema but for the messages that ClickHouse refuses.

        Raises ClickHouseError where ClickHouse, not the data, fails; some rows may be there then.
        """
        plan, loaded = self._plan(topic, schema_id), Loaded()
        for some in _portions(group):
            loaded.add(self._load(plan, epoch, topic, some))
        return loaded

    @property
    def _client(self) -> Client:
        return self._of_now()

    def _plan(self, topic: str, schema_id: int) -> _Plan:
        plan = self._plans.get((topic, schema_id))
        if plan is None:
            ours, writer = self._forms[topic], self._registry.by_id(schema_id)
            made = {
                table.name: ddl.insert_select(table, topic, ours, writer, STAGE_TABLE)
                for table in self._tables[topic]
            }
            counts = [ddl.count_rows(table, ours, writer, STAGE_TABLE) for table in self._tables[topic]]
            plan = _Plan(
                create_stage=ddl.create_stage(STAGE_TABLE, writer),
                count="\nUNION ALL\n".join(counts),
                inserts={name: statement for name, statement in made.items() if statement is not None},
                writer=ContainerWriter(writer),
            )
            self._plans[topic, schema_id] = plan
        return plan

    def _load(self, plan: _Plan, epoch: str, topic: str, group: Sequence[Incoming]) -> Loaded:
        good, refused = self._winnow(plan, epoch, group)
        loaded = Loaded(refused=refused)
        if not good:
            return loaded
        try:
            if self._staged != len(good):  # halved, even if nothing was refused in the end
                self._stage(plan, epoch, good)
            counted = self._client.query(plan.count).result_rows
            for table in plan.inserts.keys() & {table for table, _, _ in counted}:
                self._client.command(plan.inserts[table])
        except ClickHouseError as fault:
            if not of_data(fault):
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
        self, plan: _Plan, epoch: str, group: Sequence[Incoming]
    ) -> tuple[list[Incoming], list[Refused]]:
        """(what ClickHouse can read, what not): halves a container that is refused, down to the one message.

        The last part that it could read is staged then: all of it, unless it was halved.
        """
        try:
            self._stage(plan, epoch, group)
        except ClickHouseError as fault:
            if not of_data(fault):
                raise
            if len(group) == 1:
                return [], [self._refusal(group[0].message, fault)]
            half = len(group) // 2
            good, refused = self._winnow(plan, epoch, group[:half])
            more_good, more_refused = self._winnow(plan, epoch, group[half:])
            return good + more_good, refused + more_refused
        return list(group), []

    def _stage(self, plan: _Plan, epoch: str, group: Sequence[Incoming]) -> None:
        self._staged = 0
        self._client.command(f"DROP TEMPORARY TABLE IF EXISTS {STAGE_TABLE}")
        self._client.command(plan.create_stage)
        bodies = (
            Body(of.partition, of.offset, of.timestamp_ms, body(of.message))
            for of in (one.message for one in group)
        )
        self._client.raw_insert(STAGE_TABLE, insert_block=plan.writer.container(epoch, bodies), fmt="Avro")
        self._staged = len(group)

    def _refusal(self, message: HistoryMessage, fault: Exception) -> Refused:
        """Why one message was refused: what our own decoder says of it, else what ClickHouse says."""
        try:
            self._codec.decode(message.message, message.topic)
        except WireError as wrong:
            return Refused(message, wrong.reason, str(wrong))
        return Refused(message, "refused_by_sink", one_line(fault))

    def _delete(self, epoch: str, topic: str, group: Sequence[Incoming]) -> None:
        """Delete what was inserted of a group that was refused on the way."""
        offsets = ", ".join(f"({one.message.partition}, {one.message.offset})" for one in group)
        origin = f"_epoch = {literal(epoch)} AND _topic = {literal(topic)}"
        for table in self._tables[topic]:
            delete_rows(self._client, table.name, f"{origin} AND (_partition, _offset) IN ({offsets})")


def _portions(group: Sequence[Incoming]) -> Iterator[Sequence[Incoming]]:
    """`group` cut so that no container passes CONTAINER_BYTES_MAX, but for a single message that does."""
    start, size = 0, 0
    for place, one in enumerate(group):
        length = len(one.message.message)
        if size and size + length > CONTAINER_BYTES_MAX:
            yield group[start:place]
            start, size = place, 0
        size += length
    yield group[start:]
