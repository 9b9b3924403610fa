"""`tidebook demo`: the whole pipeline on recorded chains, in one go, then a report.

Starts the embedded broker (or uses the configured one), the roles as child processes and the ingests,
waits until everything that was published is applied, stops them, and judges the result from the
stores alone. Recorded EVM blocks are published by this process itself (pipeline.demo_evm). Everything stays
in the data directory; a second run changes nothing.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from pipeline.app import ROLES, make_codec
from pipeline.demo_evm import EvmIngest
from pipeline.ingest.chains import Chain, ChainRegister
from pipeline.ingest.ledgers import read_headers
from pipeline.ingest.recorded_evm import by_chain, read_evm_blocks
from pipeline.settings import Settings
from pipeline.supervisor import EmbeddedBroker, Supervisor, free_port
from topics.apply import apply_topics

EMBEDDED_SESSION_S = 3.0  # the embedded broker lets a first worker wait for half of it
DEFAULT_RECORDING = "xrpl-standalone.jsonl.gz"


@dataclass
class Run:
    """What a run was asked and what came of it."""

    settings: Settings
    recordings: list[Path]  # of the XRP Ledger
    network: str | None = None
    accept_gap: bool = False
    keep: bool = False
    evm: list[Path] = field(default_factory=list)  # of EVM chains
    evm_chain: str | None = None  # of EVM blocks that do not tell theirs
    chain: Chain | None = None  # of `recordings`; None: there are none
    evm_ingest: EvmIngest | None = None
    seconds: float = 0.0
    ingest: dict[str, Any] = field(default_factory=dict)
    quarantined: int = 0  # items put in quarantine by this run
    problems: list[str] = field(default_factory=list)  # one line each: why it is not a success
    web: str = ""

    def targets(self, supervisor: Supervisor) -> dict[str, dict[str, int]]:
        """Next offset after the last acknowledged message, of every partition that was written."""
        ends = supervisor.targets()
        for topic, parts in (self.evm_ingest.produced if self.evm_ingest else {}).items():
            known = ends.setdefault(topic, {})
            for partition, end in parts.items():
                known[partition] = max(end, known.get(partition, 0))
        return ends

    def published(self, name: str) -> int:
        """How many `ledgers` (EVM blocks among them) or `transactions` have been published."""
        evm = self.evm_ingest.counts[name] if self.evm_ingest else 0
        return int(self.ingest.get("counts", {}).get(name, 0)) + evm


Watch = Callable[[Supervisor, float], None]


def default_recording() -> Path:
    """The recorded chain that ships with the package."""
    return Path(str(files("pipeline").joinpath("recordings", DEFAULT_RECORDING)))


@contextmanager
def owned(data_dir: Path) -> Iterator[None]:
    """One run a data directory: raises BlockingIOError-like RuntimeError naming the owner."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "lock").open("a+") as lock:
        for attempt in range(50):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                lock.seek(0)
                owner = lock.read().strip()
                if attempt == 49:
                    raise RuntimeError(
                        f"data directory {data_dir} is in use by process {owner}; stop it or use another --data-dir"
                    ) from None
                time.sleep(0.1)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def identify(run: Run) -> None:
    """Tell which chains the recordings are: `chain` and `evm_ingest`. Raises ChainError, RecordedError."""
    register = ChainRegister(run.settings.chains_dir, run.settings.chains_file)
    if run.recordings:
        run.chain = register.identify(read_headers(run.recordings), run.network)
    if run.evm:
        found = by_chain(read_evm_blocks(run.evm), run.evm_chain)
        run.evm_ingest = EvmIngest([(register.evm_chain(name), blocks) for name, blocks in found.items()])
    register.mark_latest(run.chain or run.evm_ingest.chains[0])  # type: ignore[union-attr]


def environment(settings: Settings, kafka_url: str, web_port: int, embedded: bool) -> dict[str, str]:
    """What the children of one run are told; `embedded`: the broker is one that was started for it."""
    told = {
        "TIDEBOOK_DATA_DIR": str(settings.data_dir),
        "TIDEBOOK_KAFKA_URL": kafka_url,
        "TIDEBOOK_WEB_PORT": str(web_port),
        "TIDEBOOK_METRICS_PORT": "0",  # one port can't be all children's
    }
    if embedded:  # an Apache Kafka tells its topics' epochs itself
        told["TIDEBOOK_EPOCH"] = settings.epoch or uuid.uuid4().hex
        told["TIDEBOOK_BROKER_SESSION_S"] = str(EMBEDDED_SESSION_S)
    return told


async def run_pipeline(run: Run, watch: Watch) -> None:
    """Run until everything published is applied. Fills in `run`; raises ChildFailed on a role's death."""
    settings = run.settings
    started = time.monotonic()
    logs = settings.data_dir / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    broker = EmbeddedBroker() if not settings.kafka_url else None
    url = await broker.start(logs / "broker.log") if broker else settings.kafka_url
    web_port = free_port()
    run.web = f"http://127.0.0.1:{web_port}/holdings/"
    env = environment(settings, url, web_port, embedded=broker is not None)
    supervisor = Supervisor(logs, env)
    evm: asyncio.Task[None] | None = None
    try:
        await apply_topics(url, chains=1 + max(chain.partition for chain in _chains(run)))
        for role in ROLES:
            await supervisor.start(role, ["work", role])
        if run.chain is not None:
            await supervisor.start("ingest", _ingest_arguments(run, run.chain))
        if run.evm_ingest is not None:
            codec, epoch = make_codec(settings), env.get("TIDEBOOK_EPOCH", settings.epoch)
            evm = asyncio.create_task(run.evm_ingest.publish(url, codec, epoch))
        await _until_applied(
            run, supervisor, broker, evm, lambda: watch(supervisor, time.monotonic() - started)
        )
        run.seconds = time.monotonic() - started
    finally:
        if evm is not None:
            evm.cancel()
            await asyncio.wait([evm])
        kept = ["assets"] if run.keep else []
        await supervisor.stop([name for name in supervisor.children if name not in kept])
        if broker and not run.keep:
            await broker.stop()


def _chains(run: Run) -> list[Chain]:
    evm = run.evm_ingest.chains if run.evm_ingest else []
    return [*evm, *([run.chain] if run.chain else [])]


def _ingest_arguments(run: Run, chain: Chain) -> list[str]:
    options = ["--accept-gap"] if run.accept_gap else []
    return ["ingest", "file", *options, "--chain", chain.name, *map(str, run.recordings)]


async def _until_applied(
    run: Run,
    supervisor: Supervisor,
    broker: EmbeddedBroker | None,
    evm: asyncio.Task[None] | None,
    show: Callable[[], None],
) -> None:
    children = supervisor.children
    while True:
        show()
        supervisor.check()
        if broker is not None:
            broker.check()
        if evm is not None and evm.done():
            evm.result()  # raises what ended it
        run.ingest = children["ingest"].status if "ingest" in children else {}
        stopped = children["books"].status.get("stopped")
        if _ended(run, evm) and _applied(run, supervisor, stopped):
            run.quarantined = sum(
                child.status.get("counts", {}).get("quarantined", 0) for child in children.values()
            ) + (run.evm_ingest.counts["quarantined"] if run.evm_ingest else 0)
            refused = run.evm_ingest.stopped if run.evm_ingest else []
            run.problems += [reason for reason in (run.ingest.get("stopped"), *refused, stopped) if reason]
            show()
            return
        await asyncio.sleep(0.1)


def _ended(run: Run, evm: asyncio.Task[None] | None) -> bool:
    """Every ingest is through."""
    return (run.chain is None or bool(run.ingest.get("ended"))) and (evm is None or evm.done())


def _applied(run: Run, supervisor: Supervisor, stopped: str | None) -> bool:
    """Every role has applied all that is published; books that stopped are not waited for."""
    targets, children = run.targets(supervisor), supervisor.children
    return all(
        children[name].status.get("ready") and children[name].behind(targets) == 0
        for name in ROLES
        if not (stopped and name == "books")
    )
