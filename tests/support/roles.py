"""Single roles on a broker, driven by a test."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pipeline.domain.account import AccountCode, AccountRef, account_id
from pipeline.supervisor import Child, EmbeddedBroker, Supervisor, free_port
from sinks.books import ACCOUNT_STRUCT, Books
from sinks.embedded_books import connect
from tests.support.truth import read_truth
from topics.apply import apply_topics
from topics.envelope import Outgoing
from topics.producer import Producer

PATIENCE_S = 240.0  # what a machine with much else to do may take for anything that happens here


class Bench:
    """A broker with all topics, and roles as the demo runs them."""

    def __init__(self, data_dir: Path, url: str, epoch: str) -> None:
        self.url = url
        self.web_port = free_port()
        self._data_dir = data_dir
        self._env = {
            "TIDEBOOK_DATA_DIR": str(data_dir),
            "TIDEBOOK_KAFKA_URL": url,
            "TIDEBOOK_EPOCH": epoch,
            "TIDEBOOK_WEB_PORT": str(self.web_port),
            "TIDEBOOK_BROKER_SESSION_S": "3",
        }
        self.supervisor = Supervisor(data_dir / "logs", self._env)
        self._others: dict[str, Supervisor] = {}

    async def publish(self, messages: list[Outgoing]) -> dict[str, dict[int, int]]:
        producer = Producer(self.url)
        await producer.start()
        try:
            return await producer.send_many(messages)
        finally:
            await producer.stop()

    async def start(self, role: str) -> Child:
        return await self.supervisor.start(role, ["work", role])

    async def start_another(self, role: str, name: str, **env: str) -> Child:
        """A further worker of a role, with settings of its own; its log is <name>.log."""
        self._others[name] = Supervisor(self._data_dir / "logs", {**self._env, **env})
        return await self._others[name].start(name, ["work", role])

    async def kill(self, role: str) -> None:
        child = self.supervisor.children.pop(role)
        child.process.kill()
        await child.process.wait()

    async def end(self, child: Child) -> int:
        """SIGTERM; its exit status."""
        child.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(child.process.wait(), PATIENCE_S)

    async def stop(self) -> None:
        for supervisor in (self.supervisor, *self._others.values()):
            await supervisor.stop()

    async def until(self, met: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
        for _ in range(int(timeout_s / 0.05)):
            found = met()
            if found:
                return found
            await asyncio.sleep(0.05)
        told = {
            name: (child.process.returncode, child.status, child.last_words)
            for supervisor in (self.supervisor, *self._others.values())
            for name, child in supervisor.children.items()
        }
        raise AssertionError(f"not within {timeout_s} s: {what}; {told}")

    async def applied(self, child: Child, topic: str, offset: int, partition: int = 0) -> None:
        """Until the role has acknowledged everything of a partition before `offset`."""
        await self.until(
            lambda: child.position.get(topic, {}).get(str(partition), 0) >= offset,
            f"{child.name} at {topic}-{partition}@{offset}",
        )


async def publish_slowly(
    here: Bench, messages: list[Outgoing], slices: int = 24, pause_s: float = 0.25
) -> None:
    """One producer that goes on whatever happens to the broker."""
    producer = Producer(here.url)
    await producer.start()
    assert producer.idempotent
    size = -(-len(messages) // slices)
    for start in range(0, len(messages), size):
        await producer.send_many(messages[start : start + size])
        await asyncio.sleep(pause_s)
    await producer.stop()


def drops_in(books: Books, chain: str, addresses: Iterable[str]) -> dict[str, int]:
    """XRP of each address as an engine has it; 0 where it has no account."""
    refs = {
        address: account_id(AccountRef(f"{chain}/XRP", int(AccountCode.HOLDER), address))
        for address in addresses
    }
    rows = books.lookup_accounts_packed(b"".join(refs.values()))
    found = {
        row[0]: int.from_bytes(row[4], "little") - int.from_bytes(row[2], "little")
        for row in ACCOUNT_STRUCT.iter_unpack(rows)
    }
    return {address: found.get(ident, 0) for address, ident in refs.items()}


def drops_of(data_dir: Path, chain: str, addresses: Iterable[str]) -> dict[str, int]:
    """The same of the embedded books of a data directory."""
    with connect(data_dir / "books") as books:
        return drops_in(books, chain, addresses)


def true_drops(ledger_index: int) -> dict[str, int]:
    """XRP of each account in the node's own state."""
    accounts = read_truth(ledger_index)["tables"]["accounts"]
    return {address: int(account["balance"]) for address, account in accounts.items()}


@asynccontextmanager
async def bench(data_dir: Path, kafka: str | None = None, chains: int = 1) -> AsyncIterator[Bench]:
    """Topics for `chains` chains on a fresh embedded broker or, where one is named, on an Apache Kafka: there
    the epochs are the topics' own ids."""
    await asyncio.to_thread(data_dir.mkdir, parents=True, exist_ok=True)
    broker = EmbeddedBroker()
    url = kafka or await broker.start(data_dir / "broker.log")
    made = Bench(data_dir, url, "" if kafka else uuid.uuid4().hex)
    try:
        await apply_topics(url, chains=chains)
        yield made
    finally:
        await made.stop()
        await broker.stop()
