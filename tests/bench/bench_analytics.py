"""Analysts' questions over many transactions, in the embedded engine: latencies, and bytes per row of every table.

`tests.bench.analytics_rows` makes the rows from the recorded chains. Not as on a chain: balances do not go on from one
copy of the story to the next; gas in managed custody, a hundredth of the transactions, is made up; after the first
million the bodies of transactions are empty. Questions go through the analysts' views, as `tidebook query` asks them
(final = 1) and without, each over KEYS different keys, drawn by a seed: any asset or owner evenly; busy ones, and all
others, as rows draw them, so that who is in many rows is asked for often. Wall time is what an analyst waits; `cpu` is
the process's own, which a busy machine leaves alone.
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from pipeline.reports import provenance
from pipeline.web.asks import ROWS
from sinks.ddl_shape import literal
from sinks.views import inline
from tests.bench.analytics_rows import load_shape, multiply, record_shape

TRANSACTIONS: Final = 20_000_000  # unless told otherwise
KEYS: Final = 60
REPEATS: Final = 5  # of a question without a key
WARM: Final = 3
TARGETS_MS: Final = {
    "provenance of an asset": 100, "gas report of an owner": 100, "gas report of a user": 100,
    "gas per day of all": 1000, "balances of an owner at a position": 100,
}  # fmt: skip
Ask = Callable[[Any], str | tuple[str, ...]]  # a question, or those that a page asks one after the other
_EVENLY: Final = "SELECT {key} FROM (SELECT {key}, any(_offset) AS _offset FROM {table} GROUP BY {key})"
_KEYS: Final = {
    "any asset": _EVENLY.format(key="asset", table="asset_changes"),
    "any account": _EVENLY.format(key="account", table="balance_changes"),
    "nft": "SELECT asset FROM asset_changes WHERE kind = 'nft'",
    "issuance": "SELECT asset FROM asset_changes WHERE kind = 'mpt'",
    "owner": "SELECT owner FROM gas_ledger WHERE chain_number != 0",
    "user": "SELECT owner FROM gas_ledger WHERE chain_number = 0",
    "account": "SELECT account FROM balance_changes",
    "asset": "SELECT asset FROM transfers WHERE asset NOT LIKE '%/XRP'",
}
QUESTIONS: Final[dict[str, tuple[str, Ask]]] = {
    "provenance of an asset": ("any asset", lambda of: story(of)),
    "provenance of a busy issuance": ("issuance", lambda of: story(of)),
    "provenance of an asset, the view": ("any asset", lambda of: f"SELECT * FROM provenance(asset = '{of}')"),
    "gas report of an owner": ("owner", lambda of: f"SELECT * FROM gas_report WHERE owner = '{of}'"),
    "gas report of a user": ("user", lambda of: f"SELECT * FROM gas_report WHERE owner = '{of}'"),
    "gas by day of an owner": ("owner", lambda of: f"SELECT * FROM gas_daily WHERE owner = '{of}'"),
    "gas of an asset": ("nft", lambda of: f"SELECT * FROM gas_asset_daily WHERE asset = '{of}'"),
    "balances of an owner at a position": ("any account", lambda of: balances(of)),
    "balances of a busy owner at a position": ("account", lambda of: balances(of)),
    "balances of an owner at a position, the view": (
        "any account", lambda of: f"SELECT * FROM balances_of(owner = '{of}', position = 9000000)"
    ),
    "holders of an asset": ("asset", lambda of: f"SELECT * FROM asset_holders WHERE asset = '{of}'"),
    "holders over time": ("asset", lambda of: f"SELECT * FROM holders_daily WHERE asset = '{of}'"),
    "transfers by day of an asset": ("asset", lambda of: f"SELECT * FROM transfers_daily WHERE asset = '{of}'"),
    "gas per day of all": ("", lambda _: "SELECT * FROM gas_by_day"),
    "gas per day of all, over gas_daily": ("", lambda _: "SELECT day, sum(fee_paid) FROM gas_daily GROUP BY day"),
    "gas of a month, verified blocks": (
        "", lambda _: "SELECT sum(fee_paid) FROM gas_report_between(from='2025-03-01', to='2025-03-31', verified=1)"
    ),
    "holders of XRP over time": ("", lambda _: "SELECT * FROM holders_daily WHERE asset LIKE '%/XRP'"),
}  # fmt: skip


def run(transactions: int, seed: int, folder: Path | None = None) -> dict[str, Any]:
    """Figures: latencies in ms by question, bytes per row by table. `folder`: keep the tables there, or find them."""
    where = folder or Path(tempfile.mkdtemp(prefix="tidebook-bench-"))
    try:
        client, seconds = _filled(where, transactions)
        found: dict[str, Any] = {"seed": seed, "filled in s": seconds, "cores": os.cpu_count()}
        found |= sizes(client)
        for final in (1, 0):
            for name in QUESTIONS:
                figures = ask(client, name, seed, final)
                found |= {f"{name}, final={final}: {what}": value for what, value in figures.items()}
        missed = [
            f"{name}: {found[f'{name}, final=1: p95 ms']:.0f} ms"
            for name, target in TARGETS_MS.items() if found[f"{name}, final=1: p95 ms"] >= target
        ]  # fmt: skip
        return {**found, "targets missed": ", ".join(missed) or "none"}
    finally:
        if folder is None:
            shutil.rmtree(where, ignore_errors=True)


def _filled(where: Path, transactions: int) -> tuple[Client, float]:
    from schemas.codec import local_codec
    from schemas.loader import schemas
    from schemas.registry import local_registry
    from sinks.clickhouse import ClickHouseHistory
    from sinks.clickhouse_client import Place

    began = time.monotonic()
    place = Place(path=where / "clickhouse")
    there = (where / "filled").exists()
    shape = None if there else record_shape(where)
    history = ClickHouseHistory(place, schemas(), local_codec(), local_registry())
    history.open()  # makes the tables and views
    client = place.connect({"max_partitions_per_insert_block": 0, "max_insert_threads": 1})
    if shape is not None:
        client.command("SYSTEM STOP MERGES")  # a table of twelve inserts needs none
        for table in multiply(client, load_shape(client, shape, transactions)):
            sys.stderr.write(f"{time.monotonic() - began:6.0f} s  {table}\n")
        (where / "filled").touch()
    history.close()
    return client, time.monotonic() - began


def sizes(client: Client) -> dict[str, Any]:
    """Rows, and bytes per row on disk, of every table that has rows."""
    sql = (
        "SELECT table, sum(rows), sum(bytes_on_disk) FROM system.parts"
        " WHERE active AND database = currentDatabase() AND rows > 0 GROUP BY table ORDER BY table"
    )
    found: dict[str, Any] = {}
    for table, count, size in client.query(sql).result_rows:
        if not table.startswith("sink_"):
            found |= {f"{table}: rows": int(count), f"{table}: bytes/row": round(size / count, 1)}
    (whole,) = client.query("SELECT sum(bytes_on_disk) FROM system.parts WHERE active").result_rows
    return {**found, "GB on disk": round(whole[0] / 1e9, 2)}


def keys(client: Client, kind: str, seed: int) -> list[Any]:
    """KEYS different keys, drawn as rows draw them."""
    named = _KEYS[kind].replace(" FROM", " AS key, _offset FROM", 1)
    sql = f"SELECT key FROM ({named}) ORDER BY cityHash64(key, _offset, {seed}) LIMIT {20 * KEYS}"
    found = [row[0] for row in client.query(sql).result_rows]
    random.Random(seed).shuffle(found)
    return list(dict.fromkeys(found))[:KEYS]


def story(asset: str) -> tuple[str, ...]:
    """As an asset's page asks: whether an application knows it, then its story, here on the chain alone."""
    told = inline("chain_provenance", asset=literal(asset))
    return provenance.known(asset).pasteable, f"SELECT * FROM {told} LIMIT {ROWS + 1}"


def balances(account: str) -> str:
    """As the page of an owner with an XRP Ledger's address asks."""
    told = inline("ledger_balances_of", owner=literal(account), position="9000000")
    return f"SELECT * FROM {told} ORDER BY chain, asset LIMIT {ROWS}"


def _rows(client: Client, asked: str | tuple[str, ...], settings: dict[str, int]) -> int:
    """Rows of the last answer."""
    each = (asked,) if isinstance(asked, str) else asked
    return [client.query(sql, settings=settings).row_count for sql in each][-1]


def ask(client: Client, name: str, seed: int, final: int) -> dict[str, float]:
    """Median, p95 and worst wall time and the median of CPU time, in ms, and rows of the largest answer."""
    kind, sql = QUESTIONS[name]
    asked = keys(client, kind, seed) if kind else [None] * REPEATS
    settings = {"final": final}
    for key in asked[:WARM]:
        _rows(client, sql(key), settings)
    walls, cpus, most = [], [], 0
    for key in asked:
        wall, cpu = time.perf_counter(), time.process_time()
        most = max(most, _rows(client, sql(key), settings))
        walls.append(1000 * (time.perf_counter() - wall))
        cpus.append(1000 * (time.process_time() - cpu))
    p95 = sorted(walls)[min(len(walls) - 1, int(len(walls) * 0.95))]
    return {
        "median ms": statistics.median(walls), "p95 ms": p95, "worst ms": max(walls),
        "cpu median ms": statistics.median(cpus), "keys": len(asked), "rows at most": most,
    }  # fmt: skip
