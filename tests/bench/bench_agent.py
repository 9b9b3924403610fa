"""The books role against a plain aiokafka + fastavro loop over the same topic, in one run.

Baseline: one consumer, `getmany`, and `fastavro.schemaless_reader` over every body: no effect at all.
Measured: the role as it runs in production (Faust, embedded books, durable, books.transfers.v1
published before each acknowledgement), from its first batch to its last.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
import time
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from fastavro import schemaless_reader

from schemas.loader import by_topic
from tests.bench.generate_chain import generate
from tests.bench.published_chain import TOPIC, published


async def plain_loop(url: str, end: int) -> tuple[float, int]:
    """Seconds and transactions of the baseline."""
    schema = by_topic()[TOPIC].parsed
    partition = TopicPartition(TOPIC, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=url, auto_offset_reset="earliest", max_poll_records=5000,
                                max_partition_fetch_bytes=16 << 20, fetch_max_bytes=64 << 20)  # fmt: skip
    await consumer.start()
    consumer.assign([partition])
    await consumer.seek_to_beginning(partition)
    transactions, position, started = 0, 0, time.perf_counter()
    while position < end:
        for messages in (await consumer.getmany(timeout_ms=1000)).values():
            for message in messages:
                stream = io.BytesIO(message.value)
                stream.seek(5)
                transactions += len(schemaless_reader(stream, schema)["transactions"])
                position = message.offset + 1
    seconds = time.perf_counter() - started
    await consumer.stop()
    return seconds, transactions


async def measure(recording: Path, data_dir: Path, rounds: int) -> dict[str, Any]:
    async with published(recording, data_dir) as chain:
        supervisor = chain.supervisor
        before = [await plain_loop(chain.url, chain.end) for _ in range(rounds)]
        books = await supervisor.start("books", ["work", "books"])
        while not books.status.get("ready") or books.behind(supervisor.targets()):
            supervisor.check()
            await asyncio.sleep(0.1)
        seconds = books.status["busy"][1] - books.status["busy"][0]
        after = [await plain_loop(chain.url, chain.end) for _ in range(rounds)]
    loops = sorted(spent for spent, _ in before + after)
    transactions = before[0][1]
    plain = transactions / loops[len(loops) // 2]
    booked = transactions / seconds
    return {
        "transactions": transactions,
        "plain_loop_transactions_per_s": plain,
        "books_transactions_per_s": booked,
        "books_transfers_per_s": books.status["counts"]["transfers"] / seconds,
        "ratio": booked / plain,
        "demanded": 0.15,
        "aim": 0.3,
    }


def run(transactions: int = 200_000, seed: int = 7, rounds: int = 2) -> dict[str, Any]:
    """Generate a chain, publish it, run baseline and role on it; figures."""
    with tempfile.TemporaryDirectory(prefix="tidebook-bench-") as name:
        directory = Path(name)
        recording = directory / "chain.jsonl.gz"
        generate(recording, transactions, seed)
        (directory / "data").mkdir()
        return asyncio.run(measure(recording, directory / "data", rounds))


if __name__ == "__main__":
    print(run())
