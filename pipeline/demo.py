"""`tidebook demo`: the whole pipeline on a recorded chain, in one go, then a report.

Starts the embedded broker (or uses the configured one), the roles as child processes and the ingest,
waits until everything that was published is applied, stops them, and judges the result from the
stores alone. Everything stays in the data directory; a second run changes nothing.
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

from pipeline.app import ROLES
from pipeline.ingest.chains import Chain, ChainRegister
from pipeline.ingest.ledgers import read_headers
from pipeline.settings import Settings
from pipeline.supervisor import EmbeddedBroker, Supervisor, free_port
from topics.apply import apply_topics

EMBEDDED_SESSION_S = 3.0  # the embedded broker lets a first worker wait for half of it
DEFAULT_RECORDING = "xrpl-standalone.jsonl.gz"


@dataclass
class Run:
    """What a run was asked and what came of it."""

    settings: Settings
    recordings: list[Path]
    network: str | None = None
    accept_gap: bool = False
    keep: bool = False
    chain: Chain | None = None
    seconds: float = 0.0
    ingest: dict[str, Any] = field(default_factory=dict)
    quarantined: int = 0  # items put in quarantine by this run
    problems: list[str] = field(default_factory=list)  # one line each: why it is not a success
    web: str = ""


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


def identify(run: Run) -> Chain:
    """Which chain the recordings are; raises ChainError."""
    register = ChainRegister(run.settings.chains_dir, run.settings.chains_file)
    chain = register.identify(read_headers(run.recordings), run.network)
    register.mark_latest(chain)
    return chain


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
    supervisor = Supervisor(logs, environment(settings, url, web_port, embedded=broker is not None))
    try:
        assert run.chain is not None
        await apply_topics(url, chains=run.chain.partition + 1)
        for role in ROLES:
            await supervisor.start(role, ["work", role])
        await supervisor.start("ingest", _ingest_arguments(run))
        await _until_applied(run, supervisor, broker, lambda: watch(supervisor, time.monotonic() - started))
        run.seconds = time.monotonic() - started
    finally:
        kept = ["assets"] if run.keep else []
        await supervisor.stop([name for name in supervisor.children if name not in kept])
        if broker and not run.keep:
            await broker.stop()


def _ingest_arguments(run: Run) -> list[str]:
    options = ["--accept-gap"] if run.accept_gap else []
    assert run.chain is not None
    return ["ingest", "file", *options, "--chain", run.chain.name, *map(str, run.recordings)]


async def _until_applied(
    run: Run, supervisor: Supervisor, broker: EmbeddedBroker | None, show: Callable[[], None]
) -> None:
    while True:
        show()
        supervisor.check()
        if broker is not None:
            broker.check()
        children = supervisor.children
        run.ingest = children["ingest"].status
        stopped = children["books"].status.get("stopped")
        waiting = [name for name in ROLES if not (stopped and name == "books")]
        targets = supervisor.targets()
        if run.ingest.get("ended") and all(
            children[name].status.get("ready") and children[name].behind(targets) == 0 for name in waiting
        ):
            run.quarantined = sum(
                child.status.get("counts", {}).get("quarantined", 0) for child in children.values()
            )
            for reason in (run.ingest.get("stopped"), stopped):
                if reason:
                    run.problems.append(reason)
            show()
            return
        await asyncio.sleep(0.1)
