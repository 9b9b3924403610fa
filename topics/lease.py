"""Who may write to a partition that has one writer: the member of a consumer group whom the broker assigned it.

Kafka's own group protocol elects: one of several processes holds the lease, the others stand by and take over when
it ends or falls silent for a session. Nothing is read: fetching is paused. A holder that is frozen past its session
is not fenced; whoever writes by a lease must also notice foreign messages.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from topics.broker import BrokerError, bootstrap_servers

SESSION_MS: Final = 10_000
RELEASE_S: Final = 30.0
POLL_MS: Final = 1_000


class Lease(ConsumerRebalanceListener):  # type: ignore[misc]
    """The lease of one partition. `held` is set while it is ours, `lost` once it no longer is."""

    def __init__(self, place: TopicPartition) -> None:
        self._place = place
        self.held, self.lost = asyncio.Event(), asyncio.Event()
        self.free = asyncio.Event()  # the holder has stopped writing
        self.free.set()
        self.consumer: AIOKafkaConsumer | None = None

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        if self.held.is_set() and self._place in revoked:
            self.held.clear()
            self.lost.set()
            with contextlib.suppress(TimeoutError):  # nobody else is assigned it until this returns
                async with asyncio.timeout(RELEASE_S):
                    await self.free.wait()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        if self.consumer is not None and assigned:
            self.consumer.pause(*assigned)
        if self._place in assigned:
            self.lost.clear()
            self.held.set()


@asynccontextmanager
async def lease(url: str, group: str, topic: str, partition: int) -> AsyncIterator[Lease]:
    """Stand in line for a partition; wait for `held`, stop writing at `lost`. Raises BrokerError."""
    found = Lease(TopicPartition(topic, partition))
    consumer = found.consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers(url), group_id=group, enable_auto_commit=False,
        rebalance_timeout_ms=int(RELEASE_S * 1000) + 5_000, session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=SESSION_MS // 5,
    )  # fmt: skip
    try:
        await consumer.start()
        consumer.subscribe([topic], listener=found)
        polling = asyncio.create_task(_poll(consumer))
        try:
            yield found
        finally:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)
    except KafkaError as cause:
        raise BrokerError(url, cause) from cause
    finally:
        await consumer.stop()


async def _poll(consumer: AIOKafkaConsumer) -> None:
    """A member that never polls is taken for dead; everything is paused, so nothing comes."""
    while True:
        try:
            await consumer.getmany(timeout_ms=POLL_MS)
        except KafkaError:
            await asyncio.sleep(POLL_MS / 1000)
