"""The XRPL ingest from a recorded node into Kafka: backfill at both levels, and live, in one run.

Named baselines, over the same node and the same ledgers in the same run: a plain loop that sends `ledger`
requests over websockets, one after another, parses the answers with orjson and counts their transactions,
with no check, no decoding and no Kafka (in JSON, and in binary, which the level full asks for); and the same
loop by xrpl-py's own client. The node runs in a process of its own: its CPU is not counted as ours, but it
and the broker share this machine's cores. No limit of requests is set (TIDEBOOK_XRPL_RATE=0).

`run_memory`: memory of the ingest over many small ledgers.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import orjson
from websockets.asyncio.client import connect
from xrpl.asyncio.clients import AsyncWebsocketClient
from xrpl.models.requests import Ledger

from pipeline.domain.chain_link import check_header
from pipeline.domain.decode.xrpl import decode_ledger
from pipeline.domain.decode.xrpl_shapes import read_header, split_ledger
from pipeline.domain.xrpl_proof import transaction_root
from pipeline.ingest.recorded import read_ledgers
from pipeline.supervisor import EmbeddedBroker
from tests.bench.generate_chain import generate
from tests.bench.ingest_process import Spent, ingest
from tests.bench.node_process import node, write_binary
from topics.apply import apply_topics

PACE_S: Final = 0.05
WARM_UP: Final = 0.2
"""Share of the live ledgers that does not count: caches fill."""
MEMORY_MARKS: Final = (0.1, 0.5, 1.0)
COSTED_LEDGERS: Final = 200


@asynccontextmanager
async def _sea(directory: Path, url: str, level: str) -> AsyncIterator[dict[str, str]]:
    """A fresh broker and the settings of an ingest into it."""
    broker = EmbeddedBroker()
    data_dir = Path(tempfile.mkdtemp(dir=directory))
    kafka = await broker.start(data_dir / "broker.log")
    try:
        await apply_topics(kafka, chains=4)
        yield {
            "TIDEBOOK_DATA_DIR": str(data_dir), "TIDEBOOK_KAFKA_URL": kafka, "TIDEBOOK_XRPL_URLS": url,
            "TIDEBOOK_XRPL_VERIFY": level, "TIDEBOOK_XRPL_RATE": "0", "TIDEBOOK_EPOCH": uuid.uuid4().hex,
        }  # fmt: skip
    finally:
        await broker.stop()


async def plain_loop(url: str, last: int, binary: bool) -> float:
    """Transactions a second of the plain loop over ledgers 1 to `last`."""
    transactions, started = 0, time.perf_counter()
    async with connect(url, max_size=None) as socket:
        for index in range(1, last + 1):
            request = {"command": "ledger", "ledger_index": index, "transactions": True, "expand": True,
                       "binary": binary, "api_version": 2, "id": index}  # fmt: skip
            await socket.send(orjson.dumps(request), text=True)
            transactions += len(orjson.loads(await socket.recv())["result"]["ledger"]["transactions"])
    return transactions / (time.perf_counter() - started)


async def xrpl_py_loop(url: str, last: int) -> float:
    """The same by xrpl-py's client."""
    transactions, started = 0, time.perf_counter()
    async with AsyncWebsocketClient(url) as client:
        for index in range(1, last + 1):
            answer = await client.request(Ledger(ledger_index=index, transactions=True, expand=True))
            transactions += len(answer.result["ledger"]["transactions"])
    return transactions / (time.perf_counter() - started)


def cpu_ms_per_1000(recordings: Sequence[Any], count: int, step: Callable[[Any], object]) -> float:
    """CPU milliseconds that a step takes per 1,000 transactions; `count` are in the recordings."""
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        for recorded in recordings:
            step(recorded)
        best = min(best, time.process_time() - started)
    return 1e6 * best / count


def check_costs(plain: Path, binary: Path) -> dict[str, float]:
    """CPU milliseconds per 1,000 transactions of each part of reading and checking, alone."""
    shapes = []
    for path in (plain, binary):
        ledgers = [one for one, _ in zip(read_ledgers([path]), range(COSTED_LEDGERS), strict=False)]
        shapes.append([one for one in ledgers if split_ledger(one).transactions])
    count = sum(len(split_ledger(one).transactions) for one in shapes[0])
    headers = [read_header(split_ledger(one)) for one in shapes[0]]
    return {
        "cost_decode_json_ms": cpu_ms_per_1000(shapes[0], count, decode_ledger),
        "cost_decode_binary_ms": cpu_ms_per_1000(shapes[1], count, decode_ledger),
        "cost_header_hash_ms": cpu_ms_per_1000(headers, count, lambda header: check_header(header, None)),
        "cost_transaction_root_ms": cpu_ms_per_1000(shapes[1], count, transaction_root),
        "cost_transaction_root_from_json_ms": cpu_ms_per_1000(shapes[0], count, transaction_root),
    }


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share of them lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def _backfills(directory: Path, plain: Path, binary: Path, last: int) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    spent: dict[str, Spent] = {}
    for level, recording in (("header", plain), ("full", binary)):
        async with node(recording) as served:
            form = "plain_loop" if level == "header" else "plain_loop_binary"
            figures[f"{form}_transactions_per_s"] = await plain_loop(served.url, last, level == "full")
            if level == "header":
                figures["xrpl_py_loop_transactions_per_s"] = await xrpl_py_loop(served.url, last)
            async with _sea(directory, served.url, level) as env:
                spent[level] = one = await ingest(env, "1", last)
        _check_whole(one, last)
        figures |= {
            f"{level}_ledgers_per_s": one.ledgers_per_s,
            f"{level}_transactions_per_s": one.transactions_per_s,
            f"{level}_cpu_s_per_1000_transactions": one.cpu_s_per_1000,
        }
    plain_rate = figures["plain_loop_transactions_per_s"]
    return figures | {
        "ratio_header_to_plain_loop": figures["header_transactions_per_s"] / plain_rate,
        "ratio_full_to_plain_loop": figures["full_transactions_per_s"] / plain_rate,
        "ratio_full_to_header": figures["full_transactions_per_s"] / figures["header_transactions_per_s"],
        "ratio_full_to_header_cpu": spent["header"].cpu_s_per_1000 / spent["full"].cpu_s_per_1000,
        "aim_full_to_header": 0.5,
    }


def _check_whole(one: Spent, last: int) -> None:
    """A rate counts only if every ledger was published and verified."""
    if one.verified_up_to != last or one.quarantined:
        raise SystemExit(
            f"bench ingest: verified up to {one.verified_up_to} of {last}, {one.quarantined} in quarantine"
        )


async def _live(directory: Path, recording: Path, last: int) -> dict[str, Any]:
    async with node(recording, pace=PACE_S) as served, _sea(directory, served.url, "full") as env:
        one = await ingest(env, "validated", last, begun=served.walk)
    _check_whole(one, last)
    told = one.latencies_s[int(WARM_UP * len(one.latencies_s)) :]
    return {
        "live_ledgers": len(told),
        "live_pace_ms": 1000 * PACE_S,
        "live_closed_to_kafka_p50_ms": 1000 * quantile(told, 0.5),
        "live_closed_to_kafka_p99_ms": 1000 * quantile(told, 0.99),
    }


def run(transactions: int = 60_000, seed: int = 7, live_ledgers: int = 500) -> dict[str, Any]:
    """Generate a chain, serve it, ingest it in every way; figures."""
    with tempfile.TemporaryDirectory(prefix="tidebook-bench-") as name:
        directory = Path(name)
        plain, binary, live = (directory / f"{form}.jsonl.gz" for form in ("plain", "binary", "live"))
        chain = generate(plain, transactions, seed)
        write_binary(plain, binary)
        walk = generate(directory / "walk.jsonl.gz", 60 * live_ledgers, seed)
        write_binary(directory / "walk.jsonl.gz", live)
        figures = asyncio.run(_backfills(directory, plain, binary, chain.ledgers))
        costs = check_costs(plain, binary)
        paced = asyncio.run(_live(directory, live, walk.ledgers))
    return {"transactions": transactions, "ledgers": chain.ledgers, **figures, **costs, **paced}


async def _memory(directory: Path, recording: Path, last: int, trace: bool) -> Spent:
    marks = [max(1, int(share * last)) for share in MEMORY_MARKS]
    async with node(recording) as served, _sea(directory, served.url, "full") as env:
        return await ingest(env, "1", last, marks, trace)


def run_memory(transactions: int = 100_000, seed: int = 7, trace: bool = False) -> dict[str, Any]:
    """Memory of an ingest at level full over so many ledgers of one transaction each (and genesis)."""
    with tempfile.TemporaryDirectory(prefix="tidebook-bench-") as name:
        directory = Path(name)
        chain = generate(directory / "plain.jsonl.gz", transactions, seed, per_ledger=1)
        write_binary(directory / "plain.jsonl.gz", directory / "binary.jsonl.gz")
        one = asyncio.run(_memory(directory, directory / "binary.jsonl.gz", chain.ledgers, trace))
    _check_whole(one, chain.ledgers)
    return {
        "ledgers": chain.ledgers,
        "ledgers_per_s": one.ledgers_per_s,
        **{f"resident_mb_at_{mark}_ledgers": kb / 1024 for mark, kb in one.resident_kb.items()},
        **{f"traced_mb_at_{mark}_ledgers": size / 2**20 for mark, size in one.traced_bytes.items()},
    }


if __name__ == "__main__":
    print(run())
