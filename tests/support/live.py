"""The whole pipeline as child processes around a live node: broker, roles, ingests, and a consumer that looks on."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.app import ROLES
from pipeline.supervisor import Child, EmbeddedBroker, Supervisor, free_port
from tests.support.ingest import CHAINS, CODEC, LEDGERS, VERDICTS
from tests.support.replay import Json
from topics.apply import apply_topics

NETWORK = "xrpl:live"  # in no registry: a local number, partition 0
PARTITION = 0


class Lookout:
    """Reads one partition from its beginning as messages come, and notes when."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.records: list[Json] = []
        self.values: list[bytes] = []
        self.at: list[float] = []  # monotonic
        self.next_offset = 0

    async def run(self, url: str) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=url, enable_auto_commit=False, max_partition_fetch_bytes=16 << 20
        )
        await consumer.start()
        try:
            place = TopicPartition(self.topic, PARTITION)
            consumer.assign([place])
            await consumer.seek_to_beginning(place)
            while True:
                for messages in (await consumer.getmany(timeout_ms=1000)).values():
                    now = time.monotonic()
                    for message in messages:
                        self.at.append(now)
                        self.values.append(message.value)
                        self.records.append(CODEC.decode(message.value)[1])
                        self.next_offset = message.offset + 1
        finally:
            await consumer.stop()

    def arrived(self) -> dict[int, float]:
        """Ledger index → when its first message came."""
        found: dict[int, float] = {}
        for record, at in zip(self.records, self.at, strict=False):
            found.setdefault(record["ledger_index"], at)
        return found

    @property
    def last(self) -> int:
        return max((record["ledger_index"] for record in self.records), default=-1)


class Live:
    """A broker with topics, and what runs around it."""

    def __init__(self, data_dir: Path, kafka_url: str, node_url: str) -> None:
        self.data_dir, self.kafka_url = data_dir, kafka_url
        self.web_port = free_port()
        self.env = {
            "TIDEBOOK_DATA_DIR": str(data_dir),
            "TIDEBOOK_KAFKA_URL": kafka_url,
            "TIDEBOOK_EPOCH": uuid.uuid4().hex,
            "TIDEBOOK_WEB_PORT": str(self.web_port),
            "TIDEBOOK_BROKER_SESSION_S": "3",
            "TIDEBOOK_XRPL_URLS": node_url,
            "TIDEBOOK_XRPL_NETWORK": NETWORK,
            "TIDEBOOK_XRPL_VERIFY": "full",
        }
        self.roles = Supervisor(data_dir / "logs", self.env)
        self.ledgers, self.verdicts = Lookout(LEDGERS), Lookout(VERDICTS)
        self._ingests: list[Supervisor] = []

    async def start_roles(self) -> None:
        for role in ROLES:
            await self.roles.start(role, ["work", role])

    async def ingest(self, name: str, *options: str, **env: str) -> Child:
        """An ingest as a child process; its log is <name>.log."""
        supervisor = Supervisor(self.data_dir / "logs", {**self.env, **env})
        self._ingests.append(supervisor)
        return await supervisor.start(name, ["ingest", "xrpl", *options])

    async def kill(self, child: Child) -> None:
        """SIGKILL."""
        child.process.kill()
        await child.process.wait()

    async def until(self, met: Callable[[], Any], what: str, timeout_s: float = 240) -> Any:
        for _ in range(int(timeout_s / 0.05)):
            if found := met():
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(f"not within {timeout_s} s: {what}")

    async def reached(self, index: int, ingest: Child) -> None:
        """Until the ledger stands in Kafka; fails as soon as the ingest ends."""

        def there() -> bool:
            assert ingest.process.returncode is None, ingest.last_words
            return self.ledgers.last >= index

        await self.until(there, f"ledger {index} in {LEDGERS} (there: {self.ledgers.last})")

    async def applied(self, index: int) -> None:
        """Until every role has applied everything up to this ledger and all that comes of it."""

        def through() -> bool:
            self.roles.check()
            targets = self.roles.targets()
            for seen in (self.ledgers, self.verdicts):
                targets.setdefault(seen.topic, {})[str(PARTITION)] = seen.next_offset
            return all(c.status.get("ready") and c.behind(targets) == 0 for c in self.roles.children.values())

        await self.until(
            lambda: self.verdicts.records and self.verdicts.records[-1]["block"] >= index, "verdicts"
        )
        await self.until(through, "all roles have applied everything")

    async def holdings(self, kind: str) -> dict[str, Json]:
        """Asset without its chain → holding, as the assets role serves them; of those that exist."""

        def ask() -> list[Json]:
            url = f"http://127.0.0.1:{self.web_port}/holdings/?kind={kind}"
            with urllib.request.urlopen(url, timeout=60) as answer:
                return list(json.load(answer)["holdings"])

        rows = await asyncio.to_thread(ask)
        return {row["asset"].partition("/")[2]: row for row in rows if row["onchain_status"] == "active"}

    async def stop(self) -> None:
        for supervisor in (*self._ingests, self.roles):
            await supervisor.stop()


@asynccontextmanager
async def live(data_dir: Path, node_url: str) -> AsyncIterator[Live]:
    """A fresh embedded broker with topics, and lookouts on the chain's ledgers and verdicts."""
    await asyncio.to_thread(data_dir.mkdir, parents=True, exist_ok=True)
    broker = EmbeddedBroker()
    url = await broker.start(data_dir / "broker.log")
    here = Live(data_dir, url, node_url)
    try:
        await apply_topics(url, chains=CHAINS)
        looking = [asyncio.create_task(seen.run(url)) for seen in (here.ledgers, here.verdicts)]
        try:
            yield here
        finally:
            await here.stop()
            for task in looking:
                task.cancel()
            await asyncio.gather(*looking, return_exceptions=True)
    finally:
        await broker.stop()


async def command(*arguments: str, timeout_s: float = 240, **env: str) -> tuple[int, str, str]:
    """`tidebook …` with these settings and no others of its own: (status, stdout, stderr)."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TIDEBOOK_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pipeline.cli", *arguments, env={**clean, **env},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(process.communicate(), timeout_s)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise AssertionError(f"tidebook {' '.join(arguments)} did not end within {timeout_s} s") from None
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()
