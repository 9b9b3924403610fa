"""`tidebook up`: everything in one go, following chains until it is told to stop.

Starts what is not configured (the embedded broker; a recorded node that plays the chain that ships with
Tidebook, where neither XRPL nodes nor EVM chains are named), then as child processes the roles, the applications'
intake (`serve`) and an ingest for the XRP Ledger and one for the EVM chains. A child that was killed is started
again; a defect, or an ingest that can't go on, ends everything: somebody must look. While it runs, `up.json` in
the data directory names its broker and ports, so that other commands find them.

What the intake has accepted in former lives is published again before any role reads: a broker that forgets, as the
embedded one does, then has it in the order in which it was accepted, and nothing new comes before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from pipeline.agents.runtime import AGAIN_EXIT
from pipeline.api.journal import FILE as JOURNAL_FILE
from pipeline.api.publishing import republish
from pipeline.app import ROLES
from pipeline.catalog import APPLICATIONS
from pipeline.demo import default_recording, environment
from pipeline.ingest.apps_config import read_apps
from pipeline.ingest.chains import LOCAL_FIRST, ChainRegister, chain_partitions
from pipeline.ingest.evm.config import ChainConfig, read_config
from pipeline.recorded_node import RecordedNode
from pipeline.running import UP_FILE
from pipeline.settings import Settings
from pipeline.supervisor import EmbeddedBroker, Supervisor, free_port
from topics.apply import apply_topics

INGEST, INGEST_EVM, SERVE = "ingest", "ingest-evm", "serve"  # names of the children
HISTORY = "history"
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
    api: str = ""  # where `serve` answers
    clickhouse_url: str = ""  # where the history role answers for chDB; "": a server is configured
    republished: int = 0  # events of former lives that were told to the broker
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

    def arguments(self, name: str) -> list[str]:
        """Command line of a child."""
        return [SERVE] if name == SERVE else self.ingests.get(name, ["work", name])

    def environment_of(self, name: str) -> dict[str, str]:
        """What one child alone is told: the history role where to answer for chDB, `serve` to ask it there."""
        if not self.clickhouse_url:
            return {}
        if name == SERVE:
            return {"TIDEBOOK_CLICKHOUSE_URL": self.clickhouse_url}
        port = self.clickhouse_url.rpartition(":")[2]
        return {"TIDEBOOK_CLICKHOUSE_PORT": port} if name == HISTORY else {}

    async def start(self, name: str) -> None:
        """Start a child."""
        assert self.supervisor is not None
        await self.supervisor.start(name, self.arguments(name), self.environment_of(name))


async def run_up(up: Up, watch: Callable[[Up, float], None]) -> None:
    """Until SIGINT or SIGTERM, or until an ingest with an end is through and all of it is applied.

    Raises ConfigError, AppsConfigError (a wrong TIDEBOOK_EVM_CONFIG, TIDEBOOK_APPS_CONFIG), ChildFailed,
    BrokerError, JournalError, RuntimeError.
    """
    if up.settings.evm_config is not None:
        up.evm = read_config(up.settings.evm_config, os.environ)
    read_apps(up.settings.apps_config)  # wrong? say it before anything runs
    _addresses(up)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    logs = up.settings.data_dir / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    async with _broker(up, logs) as broker, _node(up):
        await apply_topics(up.kafka_url, chains=_partitions(up.settings, up.evm))
        env = _environment(up, embedded=broker is not None)
        await _republish(up, env.get("TIDEBOOK_EPOCH", up.settings.epoch))
        up.supervisor = supervisor = Supervisor(logs, env)
        with _told(up):
            try:
                for name in (*ROLES, SERVE, *up.ingests):
                    await up.start(name)
                await _watched(up, broker, stop, watch)
            finally:
                await supervisor.stop([SERVE])  # what it has accepted is published before it ends
                await supervisor.stop(list(up.ingests))
                await supervisor.stop()


def _addresses(up: Up) -> None:
    """Where `serve` and chDB answer. Raises RuntimeError where the port is not free."""
    settings = up.settings
    host, port = settings.api_host, settings.api_port
    try:
        family, kind, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as `serve` itself
            probe.bind(address)
    except OSError as error:
        raise RuntimeError(
            f"setting TIDEBOOK_API_PORT: can't listen on {host}:{port}: {error.strerror}; "
            "stop what listens there, or choose another port"
        ) from None
    up.api = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    if not settings.clickhouse_url:
        up.clickhouse_url = f"http://127.0.0.1:{settings.clickhouse_port or free_port()}"


def accepted(settings: Settings) -> int:
    """How many events the intake's journal holds, of all lives; 0 where there is none."""
    path = settings.intake_dir / JOURNAL_FILE
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT max(seq) FROM events").fetchone()[0] or 0)
    except sqlite3.OperationalError:  # not made yet
        return 0


async def _republish(up: Up, epoch: str) -> None:
    """Tell the broker what the intake has accepted and this incarnation of the topics does not hold."""
    folder = up.settings.intake_dir
    if (folder / JOURNAL_FILE).exists():
        up.republished = await republish(folder, up.kafka_url, epoch, [row.topic for row in APPLICATIONS])


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
        "api": up.api,
        "clickhouse_url": up.clickhouse_url,
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
    """Every ingest has published its last ledger or block, and every role has applied all of it.

    `serve` has no end of its own, so nobody waits for it.
    """
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
        await up.start(name)
