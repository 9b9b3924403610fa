"""Publishes the recorded EVM blocks of a `tidebook demo`: chain by chain, in the demo's own process.

Decoding a recording takes a fraction of a second, and a process of its own would take longer to start. What it
has published is told as an ingest's process tells it: offsets to be applied, counts, why it stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.domain.decode.evm_shapes import RecordedBlock
from pipeline.domain.verdict import Level, Watermark
from pipeline.ingest.chains import Chain
from pipeline.ingest.publish import BLOCKS, Published, Publisher
from pipeline.ingest.recorded_evm import EvmLine, EvmReady, publish_evm_recording
from schemas.codec import Codec
from topics.producer import Producer


@dataclass
class EvmIngest:
    """The recorded chains with their blocks, and what has been published of them."""

    recordings: Sequence[tuple[Chain, Sequence[RecordedBlock]]]
    states: dict[str, Published] = field(default_factory=dict)  # by chain
    told: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    """Chain → hash of each block that is published → its (transactions, logs)."""

    @property
    def chains(self) -> list[Chain]:
        return [chain for chain, _ in self.recordings]

    @property
    def produced(self) -> dict[str, dict[str, int]]:
        """Topic → partition → next offset after the last acknowledged message."""
        ends: dict[str, dict[str, int]] = {}
        for state in self.states.values():
            for topic, parts in state.next_offsets.items():
                known = ends.setdefault(topic, {})
                for partition, end in parts.items():
                    known[str(partition)] = max(end, known.get(str(partition), 0))
        return ends

    @property
    def counts(self) -> Counter[str]:
        """Published blocks (as `ledgers`), transactions, and blocks refused (as `quarantined`)."""
        found: Counter[str] = Counter()
        for state in self.states.values():
            found.update(
                ledgers=state.ledgers, transactions=state.transactions, quarantined=state.quarantined
            )
        return found

    @property
    def gaps(self) -> list[tuple[str, int, int]]:
        """Holes of the recordings: chain, first and last block that is missing."""
        return [(name, *gap) for name, state in self.states.items() for gap in state.gaps]

    @property
    def stopped(self) -> list[str]:
        """Why a recording is not sound, one line each."""
        return [f"{name}: {state.stopped}" for name, state in self.states.items() if state.stopped]

    async def publish(self, kafka_url: str, codec: Codec, epoch: str, level: Level = "header") -> None:
        """Publish all of it. Raises BrokerError, NoSuchTopic."""
        producer = Producer(kafka_url)
        await producer.start()
        try:
            for chain, blocks in self.recordings:
                await self._one(chain, blocks, Publisher(
                    chain, codec, producer, Watermark(chain.name, chain.number, level), epoch
                ), EvmLine(chain, lambda record: codec.encode(BLOCKS, record), level))  # fmt: skip
        finally:
            await producer.stop()

    async def _one(
        self, chain: Chain, blocks: Sequence[RecordedBlock], publisher: Publisher, line: EvmLine
    ) -> None:
        self.states[chain.name] = publisher.state
        told = self.told.setdefault(chain.name, {})

        def note(published: Sequence[EvmReady]) -> None:
            for one in published:
                told[one.block["block_hash"]] = one.block["watched_count"], one.block["log_count"]

        await publish_evm_recording(blocks, line, publisher, note)
