"""Publishes a recorded chain: batches of whole ledgers with their verdicts, then tells the end.

When the recording stops being sound, everything before that place is published, the offending item goes
to quarantine whole, and the reason is told once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.ingest.ledgers import LedgerLine, Ready, Stopped
from pipeline.ingest.publish import Published, Publisher

BATCH_BYTES = 4 << 20
BATCH_LEDGERS = 64


async def publish_recording(
    recording: Iterator[Any],
    line: LedgerLine,
    publisher: Publisher,
    tell: Callable[[Published], None],
    source: str = "file",
) -> Published:
    """Publish the recording's ledgers in order until its end or until it is not sound."""
    state = publisher.state
    blocks = line.blocks(recording)
    while True:
        batch, stopped = await asyncio.to_thread(take, blocks)
        verdicts = []
        for ready in batch:
            if ready.gap is not None:
                await publisher.gap(*ready.gap, skipped=True)
            verdicts += publisher.watermark.block(ready.block, source, ready.checks)
        await publisher.ledgers(batch, verdicts)
        if stopped is not None and stopped.reason != "end":
            state.stopped, state.stopped_reason = str(stopped), stopped.reason
            await publisher.refuse(stopped, "", "ingest_stopped")
        tell(state)
        if stopped is not None:
            return state


def take(blocks: Iterator[Ready]) -> tuple[list[Ready], Stopped | None]:
    """The next batch, and why it is the last one (reason "end": there are no more)."""
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
