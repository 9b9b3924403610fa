"""Publishes a recorded chain: batches of whole ledgers to the chain's own partition, then tells the end.

The register of chains is written before the ledgers it names are published. When the recording stops
being sound, everything before that place is published, the offending item goes to quarantine whole,
and the reason is told once.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson

from pipeline.domain.findings import alert, connect_headers, quarantined
from pipeline.ingest.chains import Chain
from pipeline.ingest.ledgers import LedgerLine, Ready, Stopped
from schemas.codec import Codec
from topics.envelope import outgoing
from topics.producer import Outgoing, Producer

TOPIC = "xrpl.ledgers.v1"
BATCH_BYTES = 4 << 20
BATCH_LEDGERS = 64


@dataclass
class Published:
    """What an ingest has published so far."""

    ledgers: int = 0
    transactions: int = 0
    quarantined: int = 0
    block: int = -1
    next_offsets: dict[str, dict[int, int]] = field(default_factory=dict)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    stopped: str | None = None
    stopped_reason: str | None = None


async def publish_recording(
    recording: Iterator[Any],
    chain: Chain,
    codec: Codec,
    producer: Producer,
    *,
    accept_gap: bool,
    partition: int,
    epoch: str,
    tell: Callable[[Published], None],
) -> Published:
    """Publish the recording's ledgers in order until its end or until it is not sound."""
    state = Published()
    line = LedgerLine(chain, accept_gap, lambda record: codec.encode(TOPIC, record))
    blocks = line.blocks(recording)
    while state.stopped is None:
        batch, stopped = await asyncio.to_thread(_take, blocks)
        chain.append(line.rows(batch))
        messages = [
            outgoing(codec, TOPIC, chain.name, record, value=encoded, partition=partition)
            for ready in batch
            for record, encoded in ready.chunks
        ]
        if stopped is not None and stopped.reason != "end":
            state.stopped, state.stopped_reason = str(stopped), stopped.reason
            messages += _quarantine(codec, chain, stopped, epoch)
            state.quarantined += stopped.item is not None
        _note(state, await producer.send_many(messages), batch)
        state.gaps = line.gaps
        tell(state)
        if stopped is not None:
            break
    return state


def _take(blocks: Iterator[Ready]) -> tuple[list[Ready], Stopped | None]:
    """The next batch, and why it is the last one (reason "end": the recording is over)."""
    batch: list[Ready] = []
    size = 0
    while size < BATCH_BYTES and len(batch) < BATCH_LEDGERS:
        try:
            ready = next(blocks)
        except StopIteration:
            return batch, Stopped("end", "")
        except Stopped as stopped:
            return batch, stopped
        batch.append(ready)
        size += sum(len(encoded) for _, encoded in ready.chunks)
    return batch, None


def _note(state: Published, acknowledged: dict[str, dict[int, int]], batch: list[Ready]) -> None:
    for topic, parts in acknowledged.items():
        state.next_offsets.setdefault(topic, {}).update(parts)
    state.ledgers += len(batch)
    state.transactions += sum(ready.transactions for ready in batch)
    if batch:
        state.block = batch[-1].chunks[0][0]["ledger_index"]


def _quarantine(codec: Codec, chain: Chain, stopped: Stopped, epoch: str) -> list[Outgoing]:
    """The item that stopped the ingest, whole, and the alert."""
    note = alert(
        "ingest_stopped", "critical", chain.name, stopped.reason,
        block=stopped.place, evidence={"reason": stopped.reason, "detail": str(stopped)},
    )  # fmt: skip
    messages = [outgoing(codec, "control.alerts.v1", "ingest_stopped", note)]
    if stopped.item is not None:
        value = orjson.dumps(stopped.item)
        detail = str(stopped)
        if len(value) > 900_000:
            value, detail = zlib.compress(value), f"{detail} (the item is zlib-compressed)"
        item = quarantined(
            "ingest",
            chain.name,
            -1,
            stopped.place,
            epoch,
            stopped.reason,
            detail,
            value,
            key=chain.name.encode(),
        )
        messages.append(
            outgoing(codec, "quarantine.v1", chain.name.encode(), item, headers=connect_headers(item))
        )
    return messages
