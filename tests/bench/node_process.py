"""A recorded node in a process of its own, and the two recordings that it serves.

    async with node(recording) as served: ... served.url

Serving costs CPU that is not the ingest's, so it is done elsewhere; it still shares this machine's cores.
A node that is asked for binary ledgers encodes those that were recorded in JSON at every answer: a recording
in binary spares it that.
"""

from __future__ import annotations

import asyncio
import gzip
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from pipeline.ingest.recorded import read_ledgers
from pipeline.recorded_node import RecordedNode
from pipeline.recorded_node.ledger_commands import shape_record
from pipeline.recorded_node.shapes import to_record

BINARY: Final = {"transactions": True, "expand": True, "binary": True}


def write_binary(recording: Path, out: Path) -> None:
    """The same ledgers as a node gives them with `binary`."""
    with gzip.open(out, "wb", 1) as lines:
        for recorded in read_ledgers([recording]):
            lines.write(orjson.dumps(shape_record(to_record(recorded), BINARY, 2)) + b"\n")


@dataclass(frozen=True)
class Served:
    """A running node."""

    url: str
    process: asyncio.subprocess.Process

    def walk(self) -> None:
        """From now on one more ledger at each pace."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")


@asynccontextmanager
async def node(recording: Path, pace: float = 0.0) -> AsyncIterator[Served]:
    """`pace`: only the first ledger is there, and one more every so many seconds once it walks; 0: all are."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.node_process", str(recording), str(pace),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    try:
        url = (await process.stdout.readline()).decode().strip()
        if not url:
            raise RuntimeError(f"the recorded node ended with status {await process.wait()}")
        yield Served(url, process)
    finally:
        process.stdin.close()
        await process.wait()


async def serve(recording: Path, pace: float) -> None:
    """Until standard input ends; its first line starts the walk."""
    async with RecordedNode([recording], start=1 if pace else None) as served:
        print(served.url, flush=True)
        told = await asyncio.to_thread(sys.stdin.readline)
        walk = asyncio.create_task(_walk(served, pace)) if told and pace else None
        await asyncio.to_thread(sys.stdin.read)
        if walk is not None:
            walk.cancel()


async def _walk(served: RecordedNode, pace: float) -> None:
    """One ledger every `pace` seconds, by the clock."""
    due = time.monotonic()
    while True:
        due += pace
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        served.advance()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), float(sys.argv[2])))
