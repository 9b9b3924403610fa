"""Single messages and true ends of partitions, by one consumer that belongs to no group.

The ends are the high watermarks of fetch answers: exact on every broker, while the embedded one's
`end_offsets` tells the base of the last batch (topics.broker).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from pipeline.domain.lag_look import Place
from topics.broker import CONNECT_TIMEOUT_S, BrokerError, all_topics, bootstrap_servers

FETCH_BYTES: Final = 64 << 10  # of a partition; a larger batch comes whole
WAIT_S: Final = 5.0  # for an answer of all partitions asked
_POLL_MS: Final = 100

At = tuple[str, int, int]  # topic, partition, offset


class Messages:
    """Reads what stands at given offsets. Raises KafkaError."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer

    async def topics(self) -> dict[str, int]:
        """Partition count of every topic of the broker."""
        return await all_topics(self._consumer._client)

    async def ends(self, places: Iterable[Place]) -> dict[Place, tuple[int, int]]:
        """First and next offset of each partition; those that do not answer in time are left out."""
        partitions = [TopicPartition(*place) for place in places]
        begins = await self._consumer.beginning_offsets(partitions)
        told = await self._consumer.end_offsets(partitions)
        self._consumer.assign(partitions)
        for partition in partitions:
            self._consumer.seek(partition, max(0, told[partition]))
        marks: dict[TopicPartition, int] = {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_S):
                while len(marks) < len(partitions):
                    await self._poll()
                    marks = {p: mark for p in partitions if (mark := self._consumer.highwater(p)) is not None}
        return {(p.topic, p.partition): (max(0, begins[p]), end) for p, end in marks.items()}

    async def at(self, wanted: Iterable[At]) -> dict[At, Any]:
        """The message at each offset; offsets without one (compacted, gone) are left out."""
        found: dict[At, Any] = {}
        queues: dict[Place, list[int]] = {}
        for topic, partition, offset in sorted(set(wanted)):
            queues.setdefault((topic, partition), []).append(offset)
        while queues:
            heads = {place: offsets.pop(0) for place, offsets in queues.items()}
            found |= await self._one_each(heads)
            queues = {place: offsets for place, offsets in queues.items() if offsets}
        return found

    async def _one_each(self, heads: Mapping[Place, int]) -> dict[At, Any]:
        missing = {TopicPartition(*place): offset for place, offset in heads.items()}
        self._consumer.assign(list(missing))
        for partition, offset in missing.items():
            self._consumer.seek(partition, offset)
        found: dict[At, Any] = {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_S):
                while missing:
                    for partition, messages in (await self._poll(*missing)).items():
                        offset = missing.pop(partition)
                        self._consumer.pause(partition)
                        if messages[0].offset == offset:
                            found[partition.topic, partition.partition, offset] = messages[0]
        return found

    async def span(self, place: Place, start: int, end: int) -> list[Any]:
        """Messages from offset `start` up to `end` (exclusive)."""
        partition = TopicPartition(*place)
        self._consumer.assign([partition])
        self._consumer.seek(partition, start)
        found: list[Any] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WAIT_S):
                while await self._consumer.position(partition) < end:
                    found += (await self._poll(partition)).get(partition, [])
        return [message for message in found if message.offset < end]

    async def _poll(self, *partitions: TopicPartition) -> dict[TopicPartition, list[Any]]:
        """What has come; nothing where the offset asked for is gone (retention, a topic created anew)."""
        try:
            return dict(await self._consumer.getmany(*partitions, timeout_ms=_POLL_MS))
        except OffsetOutOfRangeError:
            return {}


@asynccontextmanager
async def messages_of(url: str) -> AsyncIterator[Messages]:
    """A connected reader. Raises BrokerError, also for what fails inside the block, and ValueError."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers(url),
        client_id="tidebook-lag",
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=FETCH_BYTES,
        fetch_max_wait_ms=50,
        request_timeout_ms=int(CONNECT_TIMEOUT_S * 1000),
    )
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await consumer.start()
        yield Messages(consumer)
    except TimeoutError as cause:
        raise BrokerError(url, f"no answer within {CONNECT_TIMEOUT_S:g} s") from cause
    except KafkaError as cause:
        raise BrokerError(url, cause) from cause
    finally:
        await _ended(consumer)


async def _ended(consumer: AIOKafkaConsumer) -> None:
    """Stopped. aiokafka's own tasks are cancelled by it, and of a lost connection it lets that out."""
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        if is_cancelled():
            raise


def is_cancelled() -> bool:
    """Whether somebody asked this task to end: aiokafka raises CancelledError also when a connection ends."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
