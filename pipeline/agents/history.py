"""The history role: every message of the catalog's history topics → rows in ClickHouse, exactly once.

Bodies are not decoded here; the sink hands them to ClickHouse as they are. What ClickHouse refuses
is quarantined, one message, not the batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pipeline.agents.auditing import Auditing
from pipeline.agents.quarantining import quarantine
from pipeline.agents.role import Done, Epochs, Message, NotFree, Place, StoreAway
from pipeline.catalog import of_history
from schemas.codec import Codec
from sinks.sink import HistoryMessage
from topics.producer import Outgoing

T = TypeVar("T")


class HistoryRole:
    """Consumer group `history`."""

    name = "history"
    batch_max = 1000
    batch_wait_s = 0.3

    def __init__(
        self,
        open_history: Callable[[], Any],
        codec: Codec,
        served: tuple[Path, int] | None = None,
        auditing: Auditing | None = None,
    ) -> None:
        """`served`: chDB's folder and the port where ClickHouse's HTTP interface answers for it."""
        self._auditing = auditing
        self._open_history, self._codec, self._served = open_history, codec, served
        self._port: Any = None
        self.topics = tuple(of_history())
        self._epochs: Epochs = {}
        self._next: dict[Place, int] = {}  # next offset not yet in the store

    async def open(self, app: Any, epochs: Epochs) -> None:
        from sinks.clickhouse_client import DirectoryInUse

        self._epochs = epochs
        try:
            self._history = await asyncio.to_thread(self._while_there, self._open_history)
        except DirectoryInUse as error:
            raise NotFree(str(error)) from error
        if self._served is not None:
            await asyncio.to_thread(self._serve, *self._served)
        if self._auditing is not None:
            self._auditing.start()

    def _serve(self, folder: Path, number: int) -> None:
        from pipeline.agents.clickhouse_port import ClickHousePort, PortTaken

        port = ClickHousePort(folder, number)
        try:
            port.start()
        except PortTaken as error:
            self._history.close()
            raise NotFree(str(error)) from error
        self._port = port

    def assigned(self, places: set[Place]) -> dict[Place, int]:
        """What a former owner left unfinished is undone; reading goes on after what is committed here."""
        self._next = self._while_there(
            lambda: {
                (topic, partition): self._history.open_partition(self._epochs[topic], topic, partition)
                for topic, partition in sorted(places)
            }
        )
        return dict(self._next)

    async def close(self) -> None:
        if self._auditing is not None:
            await asyncio.to_thread(self._auditing.stop)
        if self._port is not None:
            await asyncio.to_thread(self._port.stop)
        await asyncio.to_thread(self._history.close)

    async def process(self, topic: str, batch: list[Message]) -> Done:
        return await asyncio.to_thread(self._process, topic, batch)

    def _process(self, topic: str, batch: list[Message]) -> Done:
        fresh = [
            HistoryMessage(m.topic, m.partition, m.offset, m.timestamp_ms, m.value)
            for m in sorted(batch, key=lambda message: (message.partition, message.offset))
            if m.offset >= self._next[topic, m.partition]
        ]
        done = Done(counts={"messages": len(batch)}, commit=lambda: self._while_there(self._history.flush))
        if self._auditing is not None:
            done.outgoing += self._auditing.alerts()
        if not fresh:
            return done
        written = self._while_there(lambda: self._history.write(self._epochs[topic], fresh))
        for message in fresh:  # only now: what is not written is tried again
            self._next[topic, message.partition] = message.offset + 1
        originals = {(m.partition, m.offset): m for m in batch}
        for refused in written.refused:
            original = originals[refused.message.partition, refused.message.offset]
            done.outgoing.append(self._refused(original, refused.reason, refused.detail))
        done.counts = {
            "messages": len(batch),
            "rows": sum(written.rows.values()),
            "duplicates": written.duplicates,
        }
        return done

    def _while_there(self, work: Callable[[], T]) -> T:
        """What `work` gives. Raises StoreAway where ClickHouse can't now and may soon."""
        from clickhouse_connect.driver.exceptions import ClickHouseError

        from sinks.clickhouse_client import is_away, one_line

        try:
            return work()
        except (ClickHouseError, OSError) as fault:
            if not is_away(fault):
                raise
            raise StoreAway(f"ClickHouse: {one_line(fault)}") from fault

    def _refused(self, message: Message, reason: str, detail: str) -> Outgoing:
        if message.topic == "quarantine.v1":  # a refused quarantine item can't go there again
            raise RuntimeError(f"quarantine.v1@{message.offset} is refused by ClickHouse: {detail}")
        epoch = self._epochs[message.topic]
        return quarantine(self._codec, self.name, message, epoch, reason, detail)
