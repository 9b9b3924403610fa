"""The intake under load: `tidebook serve` and the embedded broker, asked by wrk over kept-alive connections.

wrk is a native load generator (Debian and Ubuntu: `apt-get install wrk`; others: https://github.com/wg/wrk). Every
request is a new event with an idempotency key of its own, made by wrk's Lua; every answer other than 202 is counted and
fails the run. The states' file is there, and empty, so that rules are judged at the intake as they are beside a
running books role. All of it shares this machine's cores, wrk too; CPU is told per process, in cores, and what other
processes took meanwhile: figures of a machine that had other work say less.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import orjson

from pipeline.api.keys import Keys
from pipeline.catalog import APPLICATIONS
from pipeline.keys_command import KEYS_FILE
from pipeline.settings import Settings
from pipeline.supervisor import EmbeddedBroker, free_port
from sinks.application_store import ApplicationStore
from topics.apply import apply_topics

WARM_S: Final = 3
RUN_S: Final = 10
CONNECTIONS: Final = 64
BATCH: Final = 200
BATCH_CONNECTIONS: Final = 4
TARGETS: Final = "≥ 2,000/s single, ≥ 10,000/s in batches, p95 < 200 ms"
HOW_TO: Final = (
    "wrk is not on PATH: install it (Debian: apt-get install wrk; source: https://github.com/wg/wrk)"
)

SCRIPT: Final = """
local run, batch = "{run}", {batch}
local count, thread = 0, 0
local threads = 0
function setup(t) t:set("thread", threads); threads = threads + 1 end
local function event()
  count = count + 1
  local name = run .. "-" .. thread .. "-" .. count
  return '{{"type":"USER_REGISTERED","asset_id":"' .. name .. '","user_id":"' .. name ..
    '","idempotency_key":"' .. name .. '","at":"2024-05-01T12:00:00.000Z","data":{{"addresses":[]}}}}'
end
function request()
  local body
  if batch == 0 then body = event()
  else
    local parts = {{}}
    for i = 1, batch do parts[i] = event() end
    body = "[" .. table.concat(parts, ",") .. "]"
  end
  return wrk.format("POST", nil, nil, body)
end
function done(summary, latency, requests)
  io.write(string.format('RESULT {{"requests":%d,"us":%d,"errors":%d,"p50":%f,"p95":%f,"p99":%f,"max":%f}}\\n',
    summary.requests, summary.duration,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write
      + summary.errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(95) / 1000, latency:percentile(99) / 1000, latency.max / 1000))
end
"""


class Serve:
    """`tidebook serve` over an embedded broker, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self._broker, self._directory = EmbeddedBroker(), directory
        self._process: asyncio.subprocess.Process | None = None
        self.port, self.key = 0, ""

    async def __aenter__(self) -> Serve:
        url = await self._broker.start(self._directory / "broker.log")
        await apply_topics(url, chains=4)
        settings = Settings(data_dir=self._directory)
        with closing(Keys(settings.intake_dir / KEYS_FILE)) as keys:
            _, self.key = keys.create("bench", scopes=["assets:write", "service"], rate_per_s=1e9)
        for row in APPLICATIONS:
            ApplicationStore(settings.applications_dir / f"{row.topic}.db").close()
        env = {**os.environ, "TIDEBOOK_DATA_DIR": str(self._directory), "TIDEBOOK_KAFKA_URL": url}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pipeline.cli", "serve", "--port", str(free_port()), "--supervised",
            env=env, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("tidebook serve did not start")
        self.port = orjson.loads(line)["port"]
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()
        await self._broker.stop()

    @property
    def pid(self) -> int:
        """Of the serving process."""
        assert self._process is not None
        return self._process.pid

    def _broker_pid(self) -> int:
        process = self._broker._process
        assert process is not None
        return process.pid

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds so far, by process."""
        return {"serve": _cpu_s(self.pid), "broker": _cpu_s(self._broker_pid())}


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _machine_cpu_s() -> float:
    """Of all processes, since the machine began."""
    user, nice, system, _idle, _iowait, *more = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + sum(more)) / os.sysconf("SC_CLK_TCK")


async def load(serve: Serve, name: str, batch: int, connections: int, seconds: int) -> dict[str, float]:
    """One run of wrk; figures under names that begin with `name`. Raises RuntimeError for an answer other than 202."""
    path = "/v1/assets/events/batch" if batch else "/v1/assets/events"
    script = Path(tempfile.mkdtemp(prefix="bench-intake-")) / "load.lua"
    script.write_text(SCRIPT.format(run=f"{name}{time.time_ns():x}", batch=batch))
    before, started, all_before = serve.cpu_s(), time.perf_counter(), _machine_cpu_s()
    process = await asyncio.create_subprocess_exec(
        "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script),
        "-H", f"Authorization: Bearer {serve.key}", "-H", "Content-Type: application/json",
        f"http://127.0.0.1:{serve.port}{path}",
        stdout=subprocess.PIPE,
    )  # fmt: skip
    out, wrk_s = await _finished(process)
    took, after = time.perf_counter() - started, serve.cpu_s()
    ours = sum(after.values()) - sum(before.values()) + wrk_s
    others_s = _machine_cpu_s() - all_before - ours
    shutil.rmtree(script.parent)
    found = re.search(r"RESULT (.*)", out)
    if found is None:
        raise RuntimeError(f"wrk said {out!r}")
    told: dict[str, Any] = orjson.loads(found[1])
    if told["errors"]:
        raise RuntimeError(f"{told['errors']} of {told['requests']} requests were not answered with 202")
    return {
        f"{name}_events_per_s": told["requests"] * (batch or 1) / (told["us"] / 1e6),
        **{f"{name}_{mark}_ms": told[mark] for mark in ("p50", "p95", "p99", "max")},
        **{f"{name}_cpu_{one}_cores": (after[one] - before[one]) / took for one in before},
        f"{name}_cpu_wrk_cores": wrk_s / took,
        f"{name}_cpu_others_cores": max(0.0, others_s / took),
    }


async def _finished(process: asyncio.subprocess.Process) -> tuple[str, float]:
    """What it printed, and the CPU seconds that it took."""
    spent = 0.0

    async def watch() -> None:
        nonlocal spent
        while True:
            spent = _cpu_s(process.pid)
            await asyncio.sleep(0.05)

    watcher = asyncio.create_task(watch())
    try:
        out, _ = await process.communicate()
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
    return out.decode(), spent


def run(transactions: int = 0, seed: int = 0) -> dict[str, Any]:
    """Figures of both ways in. Raises SystemExit where wrk is not there."""
    if shutil.which("wrk") is None:
        raise SystemExit(f"tidebook: {HOW_TO}")

    async def work() -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="bench-intake-") as directory:
            async with Serve(Path(directory)) as serve:
                figures: dict[str, Any] = {}
                for name, batch, connections in (
                    ("single", 0, CONNECTIONS),
                    ("batch", BATCH, BATCH_CONNECTIONS),
                ):
                    await load(serve, name, batch, connections, WARM_S)
                    figures |= await load(serve, name, batch, connections, RUN_S)
                return {
                    **figures, "cores": os.cpu_count() or 0, "connections": f"{CONNECTIONS} / {BATCH_CONNECTIONS}",
                    "events_a_batch": BATCH, "targets": TARGETS,
                }  # fmt: skip

    return asyncio.run(work())
