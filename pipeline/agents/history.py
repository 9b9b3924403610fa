"""The history role: every message of the catalog's history topics → rows in ClickHouse, exactly once.

Bodies are not decoded here; the sink hands them to ClickHouse as they are. What ClickHouse refuses
is quarantined, one message, not the batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import groupby
from typing import Any

from pipeline.domain.findings import connect_headers, quarantined
from topics.envelope import outgoing
from pipeline.agents.runtime import Done, Message
from pipeline.catalog import of_history
from schemas.codec import Codec
from sinks.sink import HistoryMessage


class HistoryRole:
    """Consumer group `history`."""

    name = "history"
    batch_max = 1000
    batch_wait_s = 0.3

    def __init__(self, open_history: Callable[[], Any], codec: Codec, epoch: str) -> None:
        self._open_history, self._codec, self._epoch = open_history, codec, epoch
        self.topics = tuple(of_history())
        self._next: dict[tuple[str, int], int] = {}  # (topic, partition) -> next offset not yet in the store

    async def open(self, app: Any) -> None:
        self._history = await asyncio.to_thread(self._open_history)

    async def close(self) -> None:
        await asyncio.to_thread(self._history.close)

    async def process(self, topic: str, batch: list[Message]) -> Done:
        return await asyncio.to_thread(self._process, topic, batch)

    def _process(self, topic: str, batch: list[Message]) -> Done:
        done = Done(counts={"messages": len(batch)})
        by_partition = sorted(batch, key=lambda message: (message.partition, message.offset))
        for partition, group in groupby(by_partition, key=lambda message: message.partition):
            start = self._next.get((topic, partition))
            if start is None:
                start = self._history.open_partition(self._epoch, topic, partition)
            messages = [message for message in group if message.offset >= start]
            if not messages:
                self._next[(topic, partition)] = start
                continue
            written = self._history.write(
                [HistoryMessage(m.topic, m.partition, m.offset, m.timestamp_ms, m.value) for m in messages]
            )
            self._next[(topic, partition)] = messages[-1].offset + 1
            for refused in written.refused:
                done.outgoing += self._refused(messages, refused.offset, refused.reason)
            done.counts = {**done.counts, "rows": done.counts.get("rows", 0) + written.rows}
        return done

    def _refused(self, messages: list[Message], offset: int, detail: str) -> list[Any]:
        message = next(m for m in messages if m.offset == offset)
        if message.topic == "quarantine.v1":  # a refused quarantine item can't go there again
            raise RuntimeError(f"quarantine.v1@{offset} is refused by ClickHouse: {detail}")
        item = quarantined(
            self.name, message.topic, message.partition, offset, self._epoch, "refused_by_sink", detail,
            message.value, key=message.key, time=message.timestamp_ms, headers=message.headers,
        )  # fmt: skip
        return [outgoing(self._codec, "quarantine.v1", message.key, item, headers=connect_headers(item))]
