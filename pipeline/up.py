"""`tidebook up`: everything in one go, following a chain until it is told to stop.

Starts what is not configured (the embedded broker; a recorded node that plays the chain that ships with
Tidebook), then the roles and the ingest as child processes. A child that was killed is started again; a
defect, or an ingest that can't go on, ends everything: somebody must look. While it runs, `up.json` in
the data directory names its broker and ports, so that other commands find them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from pipeline.agents.runtime import AGAIN_EXIT
from pipeline.app import ROLES
from pipeline.demo import default_recording, environment
from pipeline.ingest.chains import LOCAL_FIRST, ChainRegister, chain_partitions
from pipeline.lag.watch import UP_FILE
from pipeline.recorded_node import RecordedNode
from pipeline.settings import Settings
from pipeline.supervisor import EmbeddedBroker, Supervisor, free_port
from topics.apply import apply_topics

RESTARTS_MAX = 5  # of one child within RESTARTS_S
RESTARTS_S = 600.0


@dataclass
class Up:
    """What is asked, and what runs."""

    settings: Settings
    ingest_options: list[str]
    pace_s: float = 0.5  # between the ledgers of the recorded node
    kafka_url: str = ""
    node_url: str = ""  # of the recorded node; "": nodes are configured
    web: str = ""
    supervisor: Supervisor | None = None
    restarts: dict[str, list[float]] = field(default_factory=dict)


async def run_up(up: Up, watch: Callable[[Up, float], None]) -> None:
    """Until SIGINT or SIGTERM, or until an ingest with an end is through and all of it is applied.

    Raises ChildFailed, BrokerError, RuntimeError.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    logs = up.settings.data_dir / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    async with _broker(up, logs) as broker, _node(up):
        await apply_topics(up.kafka_url, chains=_partitions(up.settings))
        up.supervisor = supervisor = Supervisor(logs, _environment(up, embedded=broker is not None))
        with _told(up):
            try:
                for role in ROLES:
                    await supervisor.start(role, ["work", role])
                await supervisor.start("ingest", ["ingest", "xrpl", *up.ingest_options])
                await _watched(up, broker, stop, watch)
            finally:
                await supervisor.stop(["ingest"])
                await supervisor.stop()


def _partitions(settings: Settings) -> int:
    """Enough for all networks with names and one more local chain than the directory knows."""
    register = ChainRegister(settings.chains_dir, settings.chains_file)
    local = sum(chain.number >= LOCAL_FIRST for chain in register.chains) + 1
    return max(chain_partitions(settings.chains_file), local)


def _environment(up: Up, embedded: bool) -> dict[str, str]:
    port = free_port()
    up.web = f"http://127.0.0.1:{port}/holdings/"
    nodes = {"TIDEBOOK_XRPL_URLS": up.node_url} if up.node_url else {}
    return {**environment(up.settings, up.kafka_url, port, embedded), **nodes}


@asynccontextmanager
async def _broker(up: Up, logs: Path) -> AsyncIterator[EmbeddedBroker | None]:
    if up.settings.kafka_url:
        up.kafka_url = up.settings.kafka_url
        yield None
        return
    broker = EmbeddedBroker()
    up.kafka_url = await broker.start(logs / "broker.log")
    try:
        yield broker
    finally:
        await broker.stop()


@asynccontextmanager
async def _node(up: Up) -> AsyncIterator[None]:
    """The recorded node, where no node is configured."""
    if up.settings.xrpl_urls:
        yield
        return
    async with RecordedNode([default_recording()], pace=up.pace_s, start=1) as node:
        up.node_url = node.url
        yield


@contextlib.contextmanager
def _told(up: Up):  # type: ignore[no-untyped-def]
    """up.json while we run: where other commands find the broker and the pages."""
    path = up.settings.data_dir / UP_FILE
    draft = path.with_suffix(".draft")
    told = {
        "pid": os.getpid(),
        "kafka_url": up.kafka_url,
        "xrpl_urls": up.node_url or up.settings.xrpl_urls,
        "web": up.web,
    }
    draft.write_bytes(orjson.dumps(told))
    draft.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


async def _watched(
    up: Up, broker: EmbeddedBroker | None, stop: asyncio.Event, watch: Callable[[Up, float], None]
) -> None:
    assert up.supervisor is not None
    started = time.monotonic()
    while not stop.is_set():
        watch(up, time.monotonic() - started)
        if broker is not None:
            broker.check()
        await _revive(up)
        if _through(up.supervisor):
            watch(up, time.monotonic() - started)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await stop.wait()


def _through(supervisor: Supervisor) -> bool:
    """The ingest has published its last ledger, and every role has applied all of it."""
    ingest = supervisor.children["ingest"]
    if ingest.process.returncode != 0 or not ingest.status.get("ended"):
        return False
    targets = supervisor.targets()
    return all(
        supervisor.children[role].status.get("ready") and supervisor.children[role].behind(targets) == 0
        for role in ROLES
    )


async def _revive(up: Up) -> None:
    """Start killed children again. Raises ChildFailed where one ended by itself, or is killed too often."""
    supervisor = up.supervisor
    assert supervisor is not None
    for name, child in list(supervisor.children.items()):
        code = child.process.returncode
        if code is not None:
            await asyncio.wait(child.readers, timeout=5)  # its last words may still be on their way
        if code is None or (name == "ingest" and code == 0 and child.status.get("ended")):
            continue
        recent = [t for t in up.restarts.get(name, []) if time.monotonic() - t < RESTARTS_S]
        if (code >= 0 and code != AGAIN_EXIT) or len(recent) >= RESTARTS_MAX:
            supervisor.check()
        up.restarts[name] = [*recent, time.monotonic()]
        arguments = ["ingest", "xrpl", *up.ingest_options] if name == "ingest" else ["work", name]
        await supervisor.start(name, arguments)
