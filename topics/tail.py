"""The last messages of a partition: where a chain's ingest goes on, how far a chain is verified."""

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from topics.broker import BrokerError, all_topics, bootstrap_servers

LOOK_BACK = 64  # offsets: transactions and compaction leave offsets without a message
_WAIT_MS = 250
_EMPTY_POLLS = 40


async def last_message(url: str, topic: str, partition: int) -> bytes | None:
    """Value of the last message of a partition, None if there is none (or no such partition).

    Reads on from what `end_offsets` tells, for the embedded broker tells the base of the last batch.
    Raises BrokerError, also where the broker does not give what it says that it has (None would mean: begin
    anew); ValueError for a malformed url.
    """
    place = TopicPartition(topic, partition)
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap_servers(url), enable_auto_commit=False, max_partition_fetch_bytes=16 << 20
    )
    try:
        await consumer.start()
        if partition >= (await all_topics(consumer._client)).get(topic, 0):
            return None
        consumer.assign([place])
        begin = (await consumer.beginning_offsets([place]))[place]
        end = (await consumer.end_offsets([place]))[place]
        start = end
        while True:
            start = max(begin, start - LOOK_BACK)
            last, reached = await _last_from(consumer, place, start, end)
            if reached < end:
                raise BrokerError(
                    url, f"{topic} partition {partition}: no answer from offset {reached} of {end} on"
                )
            if last is not None or start <= begin:
                return last
    except KafkaError as cause:
        raise BrokerError(url, cause) from cause
    finally:
        await consumer.stop()


async def _last_from(
    consumer: AIOKafkaConsumer, place: TopicPartition, start: int, end: int
) -> tuple[bytes | None, int]:
    """(value of the last message at or after `start`, how far was read); `end`: the least that must be read to."""
    consumer.seek(place, start)
    last: bytes | None = None
    empty = 0
    while empty < _EMPTY_POLLS:
        batch = (await consumer.getmany(place, timeout_ms=_WAIT_MS)).get(place, [])
        if batch:
            last, empty = batch[-1].value, 0
        elif await consumer.position(place) >= end:
            break
        else:
            empty += 1
    return last, await consumer.position(place)
