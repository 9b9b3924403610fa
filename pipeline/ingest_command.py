"""`tidebook ingest file`: publish recorded ledgers to the broker."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import orjson

from pipeline.app import end_with_stdin, make_codec
from pipeline.ingest.chains import ChainError, ChainRegister
from pipeline.ingest.ledgers import read_headers
from pipeline.ingest.recorded import read_ledgers
from pipeline.ingest.runner import Published, publish_recording
from pipeline.settings import Settings
from topics.producer import Producer

PARTITION = 0  # a run publishes one recorded chain


def ingest_files(
    settings: Settings, files: list[Path], chain_name: str | None, accept_gap: bool, supervised: bool
) -> int:
    """Publish; 0, 1 if it had to stop (told in one line), 2 for a wrong call, 3 on an accepted gap."""
    if supervised:
        end_with_stdin()
    if not settings.kafka_url:
        sys.stderr.write("tidebook: setting TIDEBOOK_KAFKA_URL is empty: the ingest needs a broker\n")
        return 2
    register = ChainRegister(settings.chains_dir)
    try:
        chain = register.find(chain_name) if chain_name else register.identify(read_headers(files), None)
    except ChainError as error:
        sys.stderr.write(f"tidebook: {error}\n")
        return 1
    started = time.monotonic()

    def tell(state: Published, ended: bool = False) -> None:
        if not supervised:
            return
        line = {
            "role": "ingest",
            "produced": {t: {str(p): o for p, o in parts.items()} for t, parts in state.next_offsets.items()},
            "counts": {
                "ledgers": state.ledgers,
                "transactions": state.transactions,
                "quarantined": state.quarantined,
            },
            "block": state.block,
            "seconds": time.monotonic() - started,
            "gaps": state.gaps,
            "stopped": state.stopped,
            "stopped_reason": state.stopped_reason,
            "ended": ended,
        }
        sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
        sys.stdout.buffer.flush()

    async def main() -> Published:
        producer = Producer(settings.kafka_url)
        await producer.start()
        try:
            return await publish_recording(
                read_ledgers(files), chain, make_codec(), producer,
                accept_gap=accept_gap, partition=PARTITION, epoch=settings.epoch, tell=tell,
            )  # fmt: skip
        finally:
            await producer.stop()

    state = asyncio.run(main())
    tell(state, ended=True)
    if supervised:
        return 0  # the supervisor judges
    if state.stopped:
        sys.stderr.write(f"tidebook: ingest of {chain.name} stopped: {state.stopped}\n")
        return 1
    print(f"{chain.name}: {state.ledgers} ledgers, {state.transactions} transactions published")
    return 3 if state.gaps else 0
