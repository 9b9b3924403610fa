"""Publishes whole ledgers and blocks with their verdicts, in order, each chain to its own partition.

Verdicts go first: whoever is cut off in between publishes both again, and the same verdict has the same
id, so no published ledger is ever without one. The register of chains is written before the ledgers it
names are published. What contradicts itself goes to quarantine whole, with an alert.
"""

from __future__ import annotations

import asyncio
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import orjson

from pipeline.domain.findings import alert, connect_headers, quarantined
from pipeline.domain.verdict import Watermark
from pipeline.ingest.chains import Chain
from pipeline.ingest.ledgers import Ready, Stopped, rows
from schemas.codec import Codec
from schemas.records import Alert, EvmBlock, Verdict
from topics.envelope import outgoing
from topics.producer import Outgoing, Producer

LEDGERS = "xrpl.ledgers.v1"
BLOCKS = "evm.blocks.v1"
CONTRACTS = "evm.contracts.v1"
VERDICTS = "chains.verdicts.v1"
ALERTS = "control.alerts.v1"
QUARANTINE = "quarantine.v1"
STATE_PAGES_AT_ONCE = 16
ITEM_BYTES_MAX = 900_000  # a quarantined item beyond it is compressed


@dataclass
class Published:
    """What an ingest has published so far."""

    ledgers: int = 0
    transactions: int = 0
    quarantined: int = 0
    block: int = -1
    close_time: int = 0  # of that block, ms since 1970
    verified_up_to: int = -1
    next_offsets: dict[str, dict[int, int]] = field(default_factory=dict)
    gaps: list[tuple[int, int]] = field(default_factory=list)  # accepted
    open_gap: tuple[int, int] | None = None
    stopped: str | None = None
    stopped_reason: str | None = None


class Publisher:
    """Everything that one chain's ingest sends."""

    def __init__(
        self, chain: Chain, codec: Codec, producer: Producer, watermark: Watermark, epoch: str
    ) -> None:
        self.chain, self.watermark = chain, watermark
        self.state = Published(verified_up_to=watermark.verified_up_to)
        self._codec, self._producer, self._epoch = codec, producer, epoch
        self._told: set[str] = set()  # ids of alerts and items already sent by this process

    async def ledgers(self, batch: Sequence[Ready], verdicts: Sequence[Verdict], skip: int = 0) -> None:
        """Publish ledgers with their verdicts; `skip` chunks of the first are there already."""
        self.chain.append(rows(batch))
        await self._send([self._verdict(verdict) for verdict in verdicts])
        chunks = [chunk for ready in batch for chunk in ready.chunks][skip:]
        await self._send([
            outgoing(self._codec, LEDGERS, self.chain.name, record, value=encoded, partition=self.chain.partition)
            for record, encoded in chunks
        ])  # fmt: skip
        state = self.state
        state.ledgers += len(batch)
        state.transactions += sum(ready.transactions for ready in batch)
        state.verified_up_to = self.watermark.verified_up_to
        if batch:
            state.block, state.close_time = batch[-1].block["ledger_index"], batch[-1].block["close_time"]

    async def blocks(
        self,
        messages: Sequence[tuple[EvmBlock, bytes]],
        verdicts: Sequence[Verdict] = (),
        contracts: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Publish messages of an EVM chain, given as (record, its encoding).

        What they are read by (contracts that a factory made) and their verdicts go before them.
        """
        before = [
            outgoing(self._codec, CONTRACTS, record["contract"], record, partition=self.chain.partition)
            for record in contracts
        ]
        await self._send([*before, *map(self._verdict, verdicts)])
        await self._send([
            outgoing(self._codec, BLOCKS, self.chain.name, record, value=encoded, partition=self.chain.partition)
            for record, encoded in messages
        ])  # fmt: skip
        state = self.state
        state.verified_up_to = self.watermark.verified_up_to
        for record, _ in messages:
            if record["chunk"] == 0 and not (record["finality"] == "final" and record["was_head"]):
                sign = -1 if record["finality"] == "retracted" else 1
                state.ledgers += sign
                state.transactions += sign * record["watched_count"]
        if messages:
            state.block, state.close_time = messages[-1][0]["block_number"], messages[-1][0]["time"]

    async def tell(self, note: Alert) -> None:
        """Publish an alert, once."""
        await self._send(self._once(note))

    async def starting_state(self, messages: Iterator[Outgoing]) -> int:
        """Publish the pages of a ledger's state; how many. Sending any of them again is harmless."""
        count = 0
        while batch := await asyncio.to_thread(lambda: list(islice(messages, STATE_PAGES_AT_ONCE))):
            await self._send(batch)
            count += len(batch)
        return count

    async def gap(self, first: int, last: int, skipped: bool) -> None:
        """Tell that no node has these ledgers; once, until it changes."""
        verdict = self.watermark.gap(first, last, self.state.close_time, skipped)
        messages = [self._verdict(verdict)]
        if not skipped:  # an accepted one is told by the books, where its run begins
            messages += self._once(alert(
                "gap_open", "critical", self.chain.name, f"{first}-{last}", block=first,
                time=self.state.close_time, evidence={"from": first, "to": last, "detail": verdict["reason"]},
            ))  # fmt: skip
        await self._send(messages)
        self.state.open_gap = None if skipped else (first, last)
        if skipped:
            self.state.gaps.append((first, last))

    async def refuse(self, stopped: Stopped, source: str, rule: str = "ledger_refused") -> None:
        """Put what contradicts itself into quarantine whole, and tell it; the same item only once."""
        subject = stopped.reason if rule == "ingest_stopped" else f"{stopped.place}:{stopped.reason}:{source}"
        note = alert(
            rule, "critical", self.chain.name, subject, block=stopped.place, time=self.state.close_time,
            evidence={"reason": stopped.reason, "detail": str(stopped), "source": source},
        )  # fmt: skip
        messages = self._once(note)
        if stopped.item is not None:
            item, key = self._quarantined(stopped, source), self.chain.name.encode()
            if item["id"] not in self._told:
                self._told.add(item["id"])
                messages.append(outgoing(self._codec, QUARANTINE, key, item, headers=connect_headers(item)))
                self.state.quarantined += 1
        await self._send(messages)

    def _quarantined(self, stopped: Stopped, source: str) -> Any:
        value, detail = orjson.dumps(stopped.item), str(stopped)
        if source:
            detail = f"{source}: {detail}"
        if len(value) > ITEM_BYTES_MAX:
            value, detail = zlib.compress(value), f"{detail} (the item is zlib-compressed)"
        if len(value) > ITEM_BYTES_MAX:  # nobody must be able to stop us by an item that no broker takes
            value, detail = value[:ITEM_BYTES_MAX], f"{detail} and cut off, of {len(value)} bytes"
        return quarantined(
            "ingest", self.chain.name, -1, stopped.place, self._epoch, stopped.reason, detail, value,
            key=self.chain.name.encode(),
        )  # fmt: skip

    def _once(self, note: Alert) -> list[Outgoing]:
        if note["id"] in self._told:
            return []
        self._told.add(note["id"])
        return [outgoing(self._codec, ALERTS, note["rule"], note)]

    def _verdict(self, verdict: Mapping[str, Any]) -> Outgoing:
        return outgoing(self._codec, VERDICTS, self.chain.name, verdict, partition=self.chain.partition)

    async def _send(self, messages: Sequence[Outgoing]) -> None:
        """Until the broker has acknowledged all of it, however long it is away."""
        acknowledged = await self._producer.send_patiently(messages, float("inf"), _say)
        for topic, parts in acknowledged.items():
            self.state.next_offsets.setdefault(topic, {}).update(parts)


def _say(line: str) -> None:
    sys.stderr.write(f"tidebook ingest: {line}\n")
    sys.stderr.flush()
