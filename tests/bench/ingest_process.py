"""One XRPL ingest, as `tidebook ingest xrpl` runs it, in a process of its own that tells what it cost.

    spent = await ingest(settings, first="1", last=1000)

Settings come from the environment, as for the command. Counted is from the first ledgers published to the
last: connecting and finding the chain is left out. CPU is the whole process's, all threads.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from pipeline.settings import read_settings
from pipeline.xrpl_ingest import Wanted, XrplIngest


@dataclass
class Spent:
    """What an ingest did and what it took."""

    ledgers: int = 0
    transactions: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    verified_up_to: int = -1
    quarantined: int = 0
    latencies_s: list[float] = field(default_factory=list)
    """From ledgerClosed to the acknowledgement by Kafka, in the order of the ledgers."""
    resident_kb: dict[int, int] = field(default_factory=dict)
    """Ledgers published → resident memory then."""
    traced_bytes: dict[int, int] = field(default_factory=dict)
    """Ledgers published → memory that Python's objects take, where it was traced."""

    @property
    def transactions_per_s(self) -> float:
        return self.transactions / self.seconds

    @property
    def ledgers_per_s(self) -> float:
        return self.ledgers / self.seconds

    @property
    def cpu_s_per_1000(self) -> float:
        """CPU seconds per 1,000 transactions."""
        return 1000 * self.cpu_s / self.transactions


class Meter:
    """Listens to an ingest and counts from its first published ledgers on."""

    def __init__(self, marks: list[int]) -> None:
        self._marks, self._start = sorted(marks), (0, 0, 0.0, 0.0)
        self.spent = Spent()

    def tell(self, ingest: XrplIngest) -> None:
        state = ingest.state
        if not state.ledgers:
            return
        now = (state.ledgers, state.transactions, time.perf_counter(), time.process_time())
        if not self._start[0]:
            self._start = now
            print("begun", flush=True)
        spent, start = self.spent, self._start
        spent.ledgers, spent.transactions = now[0] - start[0], now[1] - start[1]
        spent.seconds, spent.cpu_s = now[2] - start[2], now[3] - start[3]
        while self._marks and state.ledgers >= self._marks[0]:
            mark = self._marks.pop(0)
            spent.resident_kb[mark] = resident_kb()
            if tracemalloc.is_tracing():
                spent.traced_bytes[mark] = tracemalloc.get_traced_memory()[0]


def resident_kb() -> int:
    """Memory of this process that is in RAM (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


async def ingest(
    env: Mapping[str, str], first: str, last: int, marks: list[int] | None = None,
    trace: bool = False, profile: Path | None = None, begun: Callable[[], None] = lambda: None,
) -> Spent:  # fmt: skip
    """Run one to ledger `last`. `marks`: when so many are published, memory is noted.

    `begun` is called when the first ledgers are published.
    """
    arguments = ["--from", first, "--to", str(last), *(f"--mark={mark}" for mark in marks or [])]
    arguments += ["--trace"] * trace + (["--profile", str(profile)] if profile else [])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.ingest_process", *arguments,
        env={**os.environ, **env}, stdout=asyncio.subprocess.PIPE, limit=1 << 26,
    )  # fmt: skip
    assert process.stdout is not None
    if await process.stdout.readline():
        begun()
    out = await process.stdout.read()
    if await process.wait():
        raise RuntimeError(f"the ingest ended with status {process.returncode}")
    told = orjson.loads(out)
    for name in ("resident_kb", "traced_bytes"):
        told[name] = {int(mark): value for mark, value in told[name].items()}
    return Spent(**told)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--from", dest="first", default="1")
    parser.add_argument("--to", dest="last", type=int, required=True)
    parser.add_argument("--mark", type=int, action="append", default=[])
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--profile", type=Path)
    args = parser.parse_args()
    if args.trace:
        tracemalloc.start()
    meter = Meter(args.mark)
    work = XrplIngest(read_settings(), Wanted(first=args.first, last=args.last), meter.tell)
    profiler: Any = cProfile.Profile() if args.profile else None
    if profiler:
        profiler.enable()
    state = asyncio.run(work.run())
    if profiler:
        profiler.disable()
        profiler.dump_stats(args.profile)
    meter.tell(work)
    spent = meter.spent
    spent.verified_up_to, spent.quarantined = state.verified_up_to, state.quarantined
    spent.latencies_s = list(work.follower.latencies) if work.follower else []
    sys.stdout.buffer.write(orjson.dumps(asdict(spent), option=orjson.OPT_NON_STR_KEYS))


if __name__ == "__main__":
    main()
