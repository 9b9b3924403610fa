"""The last messages of a partition: where a chain's ingest goes on, how far a chain is verified."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from topics.broker import BrokerError, all_topics, bootstrap_servers

LOOK_BACK = 64  # offsets: transactions and compaction leave offsets without a message
_WAIT_MS = 250
_EMPTY_POLLS = 40


@dataclass(frozen=True, slots=True)
class Tail:
    """The newest messages of a partition, oldest first; `next_offset` is behind the last of them."""

    values: list[bytes]
    next_offset: int = 0


async def last_message(url: str, topic: str, partition: int) -> bytes | None:
    """Value of the last message of a partition, None if there is none (or no such partition). Raises as `tail`."""
    values = (await tail(url, topic, partition, bool)).values
    return values[-1] if values else None


async def tail(
    url: str, topic: str, partition: int, enough: Callable[[Sequence[bytes]], bool] = lambda _: False
) -> Tail:
    """The newest messages of a partition, as many as are `enough`; all of them by default.

    Reads on from what `end_offsets` tells, for the embedded broker tells the base of the last batch.
    Raises BrokerError, also where the broker does not give what it says that it has (nothing would mean: begin
    anew); ValueError for a malformed url.
    """
    place = TopicPartition(topic, partition)
    async with _consumer(url) as consumer:
        if partition >= (await all_topics(consumer._client)).get(topic, 0):
            return Tail([])
        consumer.assign([place])
        begin = (await consumer.beginning_offsets([place]))[place]
        end = (await consumer.end_offsets([place]))[place]
        start, back = end, LOOK_BACK
        while True:
            start, back = max(begin, start - back), 2 * back
            values, reached = await _from(consumer, place, start, end)
            if reached < end:
                raise BrokerError(
                    url, f"{topic} partition {partition}: no answer from offset {reached} of {end} on"
                )
            if enough(values) or start <= begin:
                return Tail(values, reached)


@asynccontextmanager
async def _consumer(url: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers(url), enable_auto_commit=False, max_partition_fetch_bytes=16 << 20
    )
    try:
        await consumer.start()
        yield consumer
    except KafkaError as cause:
        raise BrokerError(url, cause) from cause
    finally:
        await consumer.stop()


async def _from(
    consumer: AIOKafkaConsumer, place: TopicPartition, start: int, end: int
) -> tuple[list[bytes], int]:
    """(values of the messages at or after `start`, how far was read); `end`: the least that must be read to."""
    consumer.seek(place, start)
    values: list[bytes] = []
    empty = 0
    while empty < _EMPTY_POLLS:
        batch = (await consumer.getmany(place, timeout_ms=_WAIT_MS)).get(place, [])
        if batch:
            values += [record.value for record in batch if record.value is not None]
            empty = 0
        elif await consumer.position(place) >= end:
            break
        else:
            empty += 1
    return values, await consumer.position(place)
