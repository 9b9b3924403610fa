"""`tidebook up`: everything in one go, following chains until it is told to stop.

Starts what is not configured (the embedded broker; a recorded node that plays the chain that ships with
Tidebook, where neither XRPL nodes nor EVM chains are named), then the roles and an ingest for the XRP Ledger
and one for the EVM chains as child processes. A child that was killed is started again; a defect, or an ingest
that can't go on, ends everything: somebody must look. While it runs, `up.json` in
the data directory names its broker and ports, so that other commands find them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from pipeline.agents.runtime import AGAIN_EXIT
from pipeline.app import ROLES
from pipeline.demo import default_recording, environment
from pipeline.ingest.chains import LOCAL_FIRST, ChainRegister, chain_partitions
from pipeline.ingest.evm.config import ChainConfig, read_config
from pipeline.lag.watch import UP_FILE
from pipeline.recorded_node import RecordedNode
from pipeline.settings import Settings
from pipeline.supervisor import EmbeddedBroker, Supervisor, free_port
from topics.apply import apply_topics

INGEST, INGEST_EVM = "ingest", "ingest-evm"  # names of the children
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
    evm: Mapping[str, ChainConfig] = field(default_factory=dict)  # EVM chains that are followed
    restarts: dict[str, list[float]] = field(default_factory=dict)

    @property
    def ingests(self) -> dict[str, list[str]]:
        """Which ingests run: name of the child → arguments."""
        told = {INGEST: ["ingest", "xrpl", *self.ingest_options], INGEST_EVM: ["ingest", "evm"]}
        if not self.evm:
            del told[INGEST_EVM]
        elif not self.settings.xrpl_urls:  # nobody who names his chains wants a recorded one
            del told[INGEST]
        return told


async def run_up(up: Up, watch: Callable[[Up, float], None]) -> None:
    """Until SIGINT or SIGTERM, or until an ingest with an end is through and all of it is applied.

    Raises ConfigError (a wrong TIDEBOOK_EVM_CONFIG), ChildFailed, BrokerError, RuntimeError.
    """
    if up.settings.evm_config is not None:
        up.evm = read_config(up.settings.evm_config, os.environ)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    logs = up.settings.data_dir / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    async with _broker(up, logs) as broker, _node(up):
        await apply_topics(up.kafka_url, chains=_partitions(up.settings, up.evm))
        up.supervisor = supervisor = Supervisor(logs, _environment(up, embedded=broker is not None))
        with _told(up):
            try:
                for role in ROLES:
                    await supervisor.start(role, ["work", role])
                for name, arguments in up.ingests.items():
                    await supervisor.start(name, arguments)
                await _watched(up, broker, stop, watch)
            finally:
                await supervisor.stop(list(up.ingests))
                await supervisor.stop()


def _partitions(settings: Settings, evm: Iterable[str]) -> int:
    """Enough for all networks with names, for the EVM chains, and one more local chain than the directory knows."""
    register = ChainRegister(settings.chains_dir, settings.chains_file)
    new = set(evm) - {chain.name for chain in register.chains} - register.networks.keys()
    local = sum(chain.number >= LOCAL_FIRST for chain in register.chains) + len(new) + 1
    return max(chain_partitions(settings.chains_file), local)


def _environment(up: Up, embedded: bool) -> dict[str, str]:
    port = free_port()
    up.web = f"http://127.0.0.1:{port}/holdings/"
    nodes = {"TIDEBOOK_XRPL_URLS": up.node_url} if up.node_url else {}
    config = up.settings.evm_config
    evm = {"TIDEBOOK_EVM_CONFIG": str(config.absolute())} if config else {}
    return {**environment(up.settings, up.kafka_url, port, embedded), **nodes, **evm}


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
    """The recorded node, where the XRP Ledger is followed and no node of it is configured."""
    if up.settings.xrpl_urls or INGEST not in up.ingests:
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
        "evm_config": str(up.settings.evm_config.absolute()) if up.settings.evm_config else "",
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
        if _through(up):
            watch(up, time.monotonic() - started)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await stop.wait()


def _through(up: Up) -> bool:
    """Every ingest has published its last ledger or block, and every role has applied all of it."""
    supervisor = up.supervisor
    assert supervisor is not None
    ingests = [supervisor.children[name] for name in up.ingests]
    if any(one.process.returncode != 0 or not one.status.get("ended") for one in ingests):
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
        if code is None or (name in up.ingests and code == 0 and child.status.get("ended")):
            continue
        recent = [t for t in up.restarts.get(name, []) if time.monotonic() - t < RESTARTS_S]
        if (code >= 0 and code != AGAIN_EXIT) or len(recent) >= RESTARTS_MAX:
            supervisor.check()
        up.restarts[name] = [*recent, time.monotonic()]
        await supervisor.start(name, up.ingests.get(name, ["work", name]))
