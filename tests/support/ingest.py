"""The XRPL ingest against recorded nodes and the embedded broker, in one process, driven by a test."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.settings import Settings
from pipeline.supervisor import EmbeddedBroker
from pipeline.xrpl_ingest import Wanted, XrplIngest
from schemas.codec import local_codec
from topics.apply import apply_topics
from topics.tail import last_message

CODEC = local_codec()
LEDGERS, VERDICTS = "xrpl.ledgers.v1", "chains.verdicts.v1"
ALERTS, QUARANTINE = "control.alerts.v1", "quarantine.v1"
CHAINS = 4


class Sea:
    """A broker with all topics, and a data directory."""

    def __init__(self, url: str, data_dir: Path) -> None:
        self.url, self.data_dir = url, data_dir

    def settings(self, *nodes: Any, **more: Any) -> Settings:
        """Settings for an ingest from these nodes."""
        given = {
            "data_dir": self.data_dir, "kafka_url": self.url, "epoch": uuid.uuid4().hex,
            "xrpl_urls": ",".join(node if isinstance(node, str) else node.url for node in nodes),
            "xrpl_timeout_s": 2.0, "xrpl_silence_s": 1.5, "xrpl_rate": 0.0,
        }  # fmt: skip
        return Settings(**{**given, **more})

    async def ingest(self, *nodes: Any, first: str = "1", last: int | None = None, timeout_s: float = 240,
                     accept_gap: bool = False, snapshot: int | None = None,
                     tell: Callable[[XrplIngest], None] = lambda _: None, **more: Any
                     ) -> XrplIngest:  # fmt: skip
        """Run an ingest to its last ledger."""
        ingest = XrplIngest(
            self.settings(*nodes, **more), Wanted(first, last, accept_gap, 15, snapshot), tell
        )
        async with asyncio.timeout(timeout_s):
            await ingest.run()
        return ingest

    async def records(self, topic: str) -> list[dict[str, Any]]:
        """Everything that stands in a topic's partition 0, where the first local chain is."""
        found: list[dict[str, Any]] = []
        consumer = AIOKafkaConsumer(bootstrap_servers=self.url, enable_auto_commit=False)
        await consumer.start()
        try:
            end = await last_message(self.url, topic, 0)
            place = TopicPartition(topic, 0)
            consumer.assign([place])
            await consumer.seek_to_beginning(place)
            values: list[bytes] = []
            while end is not None and (
                not values or values[-1] != end or await self._more(consumer, place, values)
            ):
                for batch in (await consumer.getmany(timeout_ms=1000)).values():
                    values += [message.value for message in batch]
            found = [CODEC.decode(value)[1] for value in values]
        finally:
            await consumer.stop()
        return found

    @staticmethod
    async def _more(consumer: AIOKafkaConsumer, place: TopicPartition, values: list[bytes]) -> bool:
        """A message equal to the last one may stand before it: read on until nothing comes."""
        batches = await consumer.getmany(timeout_ms=300)
        values += [message.value for batch in batches.values() for message in batch]
        return bool(batches)


@asynccontextmanager
async def sea(data_dir: Path) -> AsyncIterator[Sea]:
    """An embedded broker with topics."""
    await asyncio.to_thread(data_dir.mkdir, parents=True, exist_ok=True)
    broker = EmbeddedBroker()
    url = await broker.start(data_dir / "broker.log")
    try:
        await apply_topics(url, chains=CHAINS)
        yield Sea(url, data_dir)
    finally:
        await broker.stop()


def indexes(records: list[dict[str, Any]]) -> list[int]:
    return [record["ledger_index"] for record in records]


def whole_and_in_order(records: list[dict[str, Any]], first: int, last: int) -> None:
    """Every ledger from first to last stands in order without a gap; what stands twice says the same."""
    by_index: dict[int, Any] = {}
    reached = first - 1
    for record in records:
        index = record["ledger_index"]
        assert index <= reached + 1, f"ledger {index} comes after {reached}: a gap"
        content = {name: value for name, value in record.items() if name != "decoder_version"}
        assert by_index.setdefault(index, content) == content, (
            f"ledger {index} stands there with two contents"
        )
        reached = max(reached, index)
    assert reached == last
    assert sorted(by_index) == list(range(first, last + 1))
