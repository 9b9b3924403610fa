"""Single roles on an embedded broker, driven by a test."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pipeline.supervisor import Child, EmbeddedBroker, Supervisor, free_port
from topics.apply import apply_topics
from topics.envelope import Outgoing
from topics.producer import Producer


class Bench:
    """A broker with all topics, and roles as the demo runs them."""

    def __init__(self, data_dir: Path, url: str) -> None:
        self.url = url
        self.web_port = free_port()
        self.supervisor = Supervisor(
            data_dir / "logs",
            {
                "TIDEBOOK_DATA_DIR": str(data_dir),
                "TIDEBOOK_KAFKA_URL": url,
                "TIDEBOOK_EPOCH": uuid.uuid4().hex,
                "TIDEBOOK_WEB_PORT": str(self.web_port),
                "TIDEBOOK_BROKER_SESSION_S": "3",
            },
        )

    async def publish(self, messages: list[Outgoing]) -> dict[str, dict[int, int]]:
        producer = Producer(self.url)
        await producer.start()
        try:
            return await producer.send_many(messages)
        finally:
            await producer.stop()

    async def start(self, role: str) -> Child:
        return await self.supervisor.start(role, ["work", role])

    async def kill(self, role: str) -> None:
        child = self.supervisor.children.pop(role)
        child.process.kill()
        await child.process.wait()

    async def until(self, met: Callable[[], Any], what: str, timeout_s: float = 40) -> Any:
        for _ in range(int(timeout_s / 0.05)):
            found = met()
            if found:
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(f"not within {timeout_s} s: {what}")

    async def applied(self, child: Child, topic: str, offset: int) -> None:
        """Until the role has acknowledged everything before `offset` of partition 0."""
        await self.until(
            lambda: child.position.get(topic, {}).get("0", 0) >= offset, f"{child.name} at {topic}@{offset}"
        )


@asynccontextmanager
async def bench(data_dir: Path) -> AsyncIterator[Bench]:
    await asyncio.to_thread(data_dir.mkdir, parents=True, exist_ok=True)
    broker = EmbeddedBroker()
    url = await broker.start(data_dir / "broker.log")
    made = Bench(data_dir, url)
    try:
        await apply_topics(url, chains=1)
        yield made
    finally:
        await made.supervisor.stop()
        await broker.stop()
