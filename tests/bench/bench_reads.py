"""The read API under load: a million assets in chDB behind its port, asked 200 times a second.

Three processes: the history (chDB and ClickHouse's HTTP interface on it), the API (uvicorn, gate and read routes as in
`tidebook serve`), and this one, which asks. Requests start at random moments whether or not earlier ones are answered,
and a latency counts from the moment its request was due: waiting in line is part of it. All of it shares this machine's
cores; CPU is told per process, in cores. Every answer other than 200 is counted and fails the run.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import aiohttp

ASSETS: Final = 1_000_000
OWNERS: Final = 100_000
RATE: Final = 200.0  # requests a second
WARM_S: Final = 3.0
RUN_S: Final = 20.0
TARGET: Final = "p95 < 200 ms at 200 requests/s with 1,000,000 assets"
MIX: Final = (("asset", 70), ("owner", 10), ("transactions", 10), ("provenance", 10))
ROOT: Final = Path(__file__).parents[2]
_TICK: Final = os.sysconf("SC_CLK_TCK")

_ID: Final = "concat('asset-', lower(hex(MD5(toString(number)))))"
_EVENT: Final = "lower(hex(MD5(concat('{what}', toString(number)))))"
_STATE: Final = f"""
SELECT 'assets' AS domain, 'asset' AS kind, {_ID} AS id, toInt64(1) AS version, false AS gone,
  {_EVENT.format(what="minted")} AS event_id, toDateTime64(1700000000 + number, 3, 'UTC') AS at,
  concat('{{"asset_type":"card","app_id":"app-', toString(number % 5), '","title":"Card ', toString(number),
    '","thumbnail_url":"https://img.example/', toString(number), '.png","issuer_user_id":"issuer-',
    toString(number % 50), '","nfc_uuid":null,"mpt_issuance_id":null,"token":null,"owner_user_id":"user-',
    toString(cityHash64(number) % {OWNERS}), '","custody_type":"managed","fraction_count":1,"holdings":{{}},',
    '"container_type":null,"parent_container_id":null,"contents":[],"onchain_status":"none","onchain_holder":null,',
    '"listing":null,"fraction_listings":{{}},"burnt":false,"minted":true,"pending":null,"last_event_id":"',
    {_EVENT.format(what="minted")}, '","updated_ms":', toString(1700000000000 + number * 1000), '}}') AS value
FROM numbers({{count}})"""


def load(client: Any, count: int) -> None:
    """States, two applied transactions and one social event of each of `count` assets, by ClickHouse itself."""
    from schemas.loader import by_topic
    from sinks import ddl
    from sinks.ddl_shape import documented

    for table in ddl.tables(documented(by_topic()["applications.states.v1"])):
        values = [ddl._PLACEHOLDER.sub(r"\1", column.sql) for column in table.columns]
        names = ", ".join(f"`{column.name}`" for column in table.columns)
        where = ddl._PLACEHOLDER.sub(r"\1", table.where) or "1"
        source = f"({_STATE.replace('{count}', str(count))})"
        client.command(
            f"INSERT INTO {table.name} ({names}) SELECT {', '.join(values)} FROM {source} WHERE {where}"
        )
    shapes = (
        ("asset_transactions", "minted", "MINTED", 0), ("asset_transactions", "listed", "LISTED", 60),
        ("asset_events", "viewed", "VIEWED", 120),
    )  # fmt: skip
    for table, what, kind, later in shapes:
        event, at = _EVENT.format(what=what), f"toDateTime64({1700000000 + later} + number, 3, 'UTC')"
        client.command(
            f"INSERT INTO {table} (event_id, type, asset_id, user_id, app_id, client, source, at, recorded_at, payload)"
            f" SELECT {event}, '{kind}', {_ID}, 'user-1', 'app-1', 'bench', 'api', {at}, {at}, '{{}}'"
            f" FROM numbers({count})"
        )
        client.command(
            f"INSERT INTO applied_events (topic, key, event_id, type, at)"
            f" SELECT 'assets.activity.v1', {_ID}, {event}, '{kind}', {at} FROM numbers({count})"
        )


def serve_history(folder: Path, count: int) -> None:
    """Child: chDB with `count` assets, behind its port; tells the address, ends with its stdin."""
    from pipeline.agents.clickhouse_port import ClickHousePort
    from schemas.codec import local_codec
    from schemas.loader import schemas
    from schemas.registry import local_registry
    from sinks.clickhouse import ClickHouseHistory
    from sinks.clickhouse_client import Place

    history = ClickHouseHistory(Place(path=folder), schemas(), local_codec(), local_registry())
    history.open()
    client = Place(path=folder).connect({"max_partitions_per_insert_block": 0})
    load(client, count)
    for table in (
        "application_states",
        "asset_transactions",
        "asset_events",
        "applied_events",
        "asset_owners",
    ):
        client.command(
            f"OPTIMIZE TABLE {table} FINAL"
        )  # else the merges of so sudden a million are measured too
    client.close()
    port = ClickHousePort(folder, 0)
    port.start()
    print(port.url, flush=True)
    sys.stdin.read()
    port.stop()
    history.close()


def serve_api(url: str, keys_file: Path) -> None:
    """Child: the gate and the read routes; tells its address."""
    import socket

    import uvicorn

    from pipeline.api.app import Gate, make_fastapi
    from pipeline.api.keys import Keys
    from pipeline.api.reads import Reads, read_router

    gate = Gate(make_fastapi([read_router(Reads(url))]), Keys(keys_file), 1 << 20)
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(gate, lifespan="off", access_log=False, log_level="warning", loop="uvloop")
    uvicorn.Server(config).run(sockets=[listener])


def paths(seed: int, count: int, assets: int) -> list[str]:
    """Requests of the mix."""
    from hashlib import md5

    made, names, weights = random.Random(seed), [name for name, _ in MIX], [share for _, share in MIX]
    found = []
    for what in made.choices(names, weights, k=count):
        asset = f"/v1/assets/asset-{md5(str(made.randrange(assets)).encode()).hexdigest()}"
        owner = f"/v1/assets?owner=user-{made.randrange(OWNERS)}"
        found.append({"asset": asset, "owner": owner}.get(what, f"{asset}/{what}"))
    return found


async def ask(base: str, key: str, asked: list[str], seed: int) -> list[tuple[str, float, int]]:
    """(path, seconds from when it was due, status) of every request."""
    made, found = random.Random(seed), list[tuple[str, float, int]]()
    headers = {"Authorization": f"Bearer {key}"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def one(path: str, due: float) -> None:
            try:
                async with session.get(base + path) as answer:
                    await answer.read()
                    status = answer.status
            except (aiohttp.ClientError, OSError):
                status = 0
            found.append((path, time.perf_counter() - due, status))

        due, tasks = time.perf_counter(), []
        for path in asked:
            due += made.expovariate(RATE)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(one(path, due)))
        await asyncio.gather(*tasks)
    return found


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def figures(found: list[tuple[str, float, int]]) -> dict[str, Any]:
    """Latencies in milliseconds, of all and by kind."""

    def kind(path: str) -> str:
        return "owner" if "?" in path else path.rsplit("/", 1)[-1] if path.count("/") > 3 else "asset"

    told: dict[str, Any] = {}
    for what in ("", *(name for name, _ in MIX)):
        ms = sorted(1000 * spent for path, spent, _ in found if not what or kind(path) == what)
        for share in (50, 95, 99):
            name = f"{what}_p{share}_ms" if what else f"p{share}_ms"
            told[name] = ms[min(len(ms) - 1, len(ms) * share // 100)] if ms else 0.0
    return told


def run(transactions: int = 0, seed: int = 7, assets: int = ASSETS) -> dict[str, Any]:
    """Load, serve, ask; figures. `transactions` is every benchmark's parameter and means nothing here."""
    from pipeline.api.keys import Keys

    with tempfile.TemporaryDirectory(prefix="tidebook-bench-") as name:
        keys_file = Path(name) / "keys.db"
        keys = Keys(keys_file)
        _, key = keys.create("bench", scopes=["assets:read"], rate_per_s=10_000)
        keys.close()
        began = time.perf_counter()
        history = _child("history", str(Path(name) / "clickhouse"), str(assets))
        api = None
        try:
            url = _told(history)
            loaded_s = time.perf_counter() - began
            api = _child("api", url, str(keys_file))
            base = _told(api)
            asyncio.run(ask(base, key, paths(seed + 1, int(RATE * WARM_S), assets), seed))
            before = [cpu_s(one.pid) for one in (history, api)] + [time.process_time()]
            began = time.perf_counter()
            found = asyncio.run(ask(base, key, paths(seed, int(RATE * RUN_S), assets), seed))
            seconds = time.perf_counter() - began
            after = [cpu_s(one.pid) for one in (history, api)] + [time.process_time()]
        finally:
            for child in (api, history):
                if child is not None:
                    _end(child)
    statuses = Counter(status for _, _, status in found)
    cores = [(now - then) / seconds for then, now in zip(before, after, strict=True)]
    bad = len(found) - statuses[200]
    if bad:
        raise RuntimeError(f"{bad} of {len(found)} answers are not 200: {dict(statuses)}")
    return {
        "assets": assets, "loaded_s": loaded_s, "requests": len(found), "requests_per_s": len(found) / seconds,
        **figures(found), "history_cores": cores[0], "api_cores": cores[1], "asking_cores": cores[2],
        "demanded": TARGET,
    }  # fmt: skip


def _child(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.bench.bench_reads", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _told(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    line = child.stdout.readline().strip()
    if not line.startswith("http"):
        raise RuntimeError(f"a process of the benchmark ended: {line or child.wait()}")
    return line


def _end(child: subprocess.Popen[str]) -> None:
    if child.args[3] == "history" and child.stdin is not None:  # type: ignore[index]
        child.stdin.close()
    else:
        child.terminate()
    try:
        child.wait(timeout=20)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["history"]:
        serve_history(Path(sys.argv[2]), int(sys.argv[3]))
    elif sys.argv[1:2] == ["api"]:
        serve_api(sys.argv[2], Path(sys.argv[3]))
    else:
        for figure, value in run(assets=int(sys.argv[1]) if sys.argv[1:] else ASSETS).items():
            print(figure, value)
