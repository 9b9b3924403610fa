"""An Apache Kafka of our own for tests: its jars come through Maven, its nodes are plain Java processes.

The jars are those that tests/support/kafka_jars/pom.xml names, copied once into a cache directory
(TIDEBOOK_TEST_CACHE, default ~/.cache/tidebook-tests) under a file lock, so that parallel test processes
meet no half-filled one. A cluster is KRaft with combined roles, by default one node; a node can be killed and
started again on the same port and data. Where `java` or `mvn` is missing, tests skip and say so; where both
are there, a Kafka that does not start is a failure.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.supervisor import free_port
from topics.broker import admin_of

CACHE_SETTING = "TIDEBOOK_TEST_CACHE"
POM = Path(__file__).parent / "kafka_jars" / "pom.xml"
START_S = 240.0
_JAVA = ("-Xmx384m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")
_PROPERTIES = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "broker.session.timeout.ms": "2000",  # a killed broker's own session keeps it out for so long
    "broker.heartbeat.interval.ms": "500",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "log.index.size.max.bytes": "1048576",  # mapped per segment and partition
    "log.cleaner.dedupe.buffer.size": "4194304",
    "log.cleaner.backoff.ms": "1000",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    "metadata.log.max.record.bytes.between.snapshots": "104857600",
}
_LOGGING = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c: %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""


def missing() -> str | None:
    """Why no Kafka can be started here; None: one can."""
    lacking = [name for name in ("java", "mvn") if shutil.which(name) is None]
    return f"no Apache Kafka: {' and '.join(lacking)} not on PATH" if lacking else None


def jars() -> Path:
    """Directory of Kafka's jars, filled by the first who asks. Skips the test where that can't be done."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    cache = Path(os.environ.get(CACHE_SETTING) or Path.home() / ".cache" / "tidebook-tests")
    made = cache / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=cache) as draft:
                _copy_jars(Path(draft) / "jars")
                (Path(draft) / "jars").rename(made)
    return made


def _copy_jars(into: Path) -> None:
    """`mvn dependency:copy-dependencies`. AssertionError with Maven's last words where it fails."""
    done = subprocess.run(
        ["mvn", "-q", "-B", "-f", str(POM), "dependency:copy-dependencies", f"-DoutputDirectory={into}",
         "-DincludeScope=runtime"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"mvn could not copy Kafka's jars:\n{(done.stdout + done.stderr)[-2000:]}"


class Node:
    """One broker and controller: a directory and a process that may come and go."""

    def __init__(self, number: int, directory: Path, classes: Path, ports: tuple[int, int]) -> None:
        self.number, self.directory = number, directory
        self.port, self.controller_port = ports
        self._classes = classes
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.port}"

    def configure(self, cluster: str, voters: str, replicas: int) -> None:
        """Write the settings and format the storage; once."""
        self.directory.mkdir(parents=True)
        own = {
            "node.id": self.number,
            "controller.quorum.voters": voters,
            "listeners": f"PLAINTEXT://{self.url},CONTROLLER://127.0.0.1:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.url}",
            "log.dirs": self.directory / "data",
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.replication.factor": replicas,
        }
        lines = [f"{name}={value}" for name, value in {**_PROPERTIES, **own}.items()]
        (self.directory / "server.properties").write_text("\n".join(lines) + "\n")
        (self.directory / "log4j2.properties").write_text(_LOGGING)
        done = subprocess.run(
            [*self._java("kafka.tools.StorageTool"), "format", "-t", cluster, "-c", self._settings],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"kafka storage was not formatted:\n{done.stdout}{done.stderr}"

    def start(self) -> None:
        """Start the process; `wait` tells when it answers."""
        with (self.directory / "kafka.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._java("kafka.Kafka"), self._settings],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def wait(self) -> None:
        """Until the broker takes connections. AssertionError with the log's end if it does not."""
        deadline = time.monotonic() + START_S
        while not _listens(self.port):
            ended = self._process is None or self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                log = (self.directory / "kafka.log").read_text(errors="replace")[-3000:]
                raise AssertionError(f"Apache Kafka on {self.url} did not start:\n{log}")
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL; nothing is flushed or told."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _java(self, main: str) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={self.directory / 'log4j2.properties'}"
        return ["java", *_JAVA, logging, "-cp", f"{self._classes}/*", main]

    @property
    def _settings(self) -> str:
        return str(self.directory / "server.properties")


class Kafka:
    """A cluster of `nodes` in `directory`, formatted but not started."""

    def __init__(self, directory: Path, nodes: int = 1) -> None:
        classes = jars()
        ports = _free_ports(2 * nodes)
        self.nodes = [
            Node(
                number + 1,
                directory / f"node{number + 1}",
                classes,
                (ports[2 * number], ports[2 * number + 1]),
            )
            for number in range(nodes)
        ]
        voters = ",".join(f"{node.number}@127.0.0.1:{node.controller_port}" for node in self.nodes)
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
        for node in self.nodes:
            node.configure(cluster, voters, min(3, nodes))

    @property
    def url(self) -> str:
        """Bootstrap servers, as TIDEBOOK_KAFKA_URL takes them."""
        return ",".join(node.url for node in self.nodes)

    def start(self) -> None:
        """Start all nodes, also after `kill`: same ports, same data; returns when they take connections."""
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            node.wait()

    def kill(self) -> None:
        """SIGKILL all nodes."""
        for node in self.nodes:
            node.kill()

    stop = kill  # tests keep nothing, and a clean shutdown takes seconds


@contextmanager
def kafka_cluster(directory: Path, nodes: int = 1) -> Iterator[Kafka]:
    """A running cluster, gone afterwards."""
    made = Kafka(directory, nodes)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_ports(count: int) -> list[int]:
    """Ports that nobody has, each another, and that stay free while a node of ours is down."""
    found = set[int]()
    while len(found) < count:
        found.add(free_port())
    return sorted(found)


async def wipe(url: str) -> None:
    """Delete all topics, and with them what groups have committed; returns when they are gone."""
    async with admin_of(url) as admin:
        names = [name for name in await admin.list_topics() if not name.startswith("__")]
        if names:
            await admin.delete_topics(names)
        for _ in range(2400):
            if all(name.startswith("__") for name in await admin.list_topics()):
                return
            await asyncio.sleep(0.05)
        raise AssertionError("topics are still there 120 s after they were deleted")
