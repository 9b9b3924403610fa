"""`tidebook topics | schemas | bench`: what operators and developers ask for."""

from __future__ import annotations

import asyncio
import importlib
import sys
from importlib.resources import files

import orjson
from rich.console import Console
from rich.table import Table

from pipeline.ingest.chains import ChainError, chain_partitions
from pipeline.settings import Settings
from schemas.generate import check
from schemas.loader import schemas
from topics.apply import TopicsRefused, apply_topics
from topics.apply import plan_topics as plan_of
from topics.broker import BrokerError
from topics.plan import Refuse

BENCHES = {
    "decode": "tests.bench.bench_decode",
    "decode-evm": "tests.bench.bench_decode_evm",
    "agent": "tests.bench.bench_agent",
    "books": "tests.bench.bench_engine",
    "ingest": "tests.bench.bench_ingest",
    "ingest-evm": "tests.bench.bench_ingest_evm",
    "intake": "tests.bench.bench_intake",
    "reads": "tests.bench.bench_reads",
    "applications": "tests.bench.bench_applications",
    "ingest-memory": "tests.bench.bench_ingest_memory",
    "pipeline": "tests.bench.bench_pipeline",
    "sink": "tests.bench.bench_sink",
    "analytics": "tests.bench.bench_analytics",
}


def plan_topics(settings: Settings, apply: bool) -> int:
    """`tidebook topics plan|apply`."""
    if not settings.kafka_url:
        sys.stderr.write("tidebook: setting TIDEBOOK_KAFKA_URL is empty: which broker?\n")
        return 2
    work = apply_topics if apply else plan_of
    try:
        actions = asyncio.run(work(settings.kafka_url, chains=chain_partitions(settings.chains_file)))
    except (ChainError, BrokerError, TopicsRefused, ValueError) as error:
        sys.stderr.write(f"tidebook: {error}\n")
        return 1
    for action in actions:
        print(action)
    if not actions:
        print("nothing to do: all topics are as declared")
    return int(any(isinstance(action, Refuse) for action in actions))


def check_schemas() -> int:
    """`tidebook schemas check`."""
    problems = check()
    for problem in problems:
        sys.stderr.write(f"tidebook: {problem}\n")
    if not problems:
        print("schemas: frozen, BACKWARD compatible, generated files up to date")
    return int(bool(problems))


def print_dictionary() -> int:
    """`tidebook schemas docs`."""
    from schemas.dictionary import dictionary

    print(dictionary(schemas()))
    return 0


def run_bench(what: str, transactions: int | None, seed: int, as_json: bool) -> int:
    """`tidebook bench WHAT`; without `transactions` as many as the benchmark itself has for its default."""
    if what not in BENCHES:
        sys.stderr.write(f"tidebook: no benchmark {what!r}; there are {', '.join(BENCHES)}\n")
        return 2
    sys.path.insert(0, str(files("pipeline").joinpath("..")))
    try:
        module = importlib.import_module(BENCHES[what])
    except ModuleNotFoundError as error:
        sys.stderr.write(f"tidebook: the benchmarks are part of the checkout, not of the package ({error})\n")
        return 2
    count = transactions or getattr(module, "TRANSACTIONS", 200_000)
    result = module.run(transactions=count, seed=seed) if not what.startswith("decode") else module.run()
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(result) + b"\n")
        return 0
    table = Table(title=f"bench {what}", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in result.items():
        table.add_row(name, f"{value:,.3f}" if isinstance(value, float) else str(value))
    Console().print(table)
    return 0
