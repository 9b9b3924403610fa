"""A recorded chain published to an embedded broker of its own, for what reads it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.ingest.chains import ChainRegister
from pipeline.ingest.ledgers import read_headers
from pipeline.supervisor import EmbeddedBroker, Supervisor
from topics.apply import apply_topics

TOPIC: Final = "xrpl.ledgers.v1"


@dataclass(frozen=True, slots=True)
class Published:
    """Where the broker is, what starts roles beside it, and the offset after the last message of TOPIC."""

    url: str
    supervisor: Supervisor
    end: int


@asynccontextmanager
async def published(recording: Path, data_dir: Path) -> AsyncIterator[Published]:
    """The chain of `recording`, whole in its topic; all ends with it. `data_dir` is there, and empty."""
    broker = EmbeddedBroker()
    url = await broker.start(data_dir / "broker.log")
    env = {"TIDEBOOK_DATA_DIR": str(data_dir), "TIDEBOOK_KAFKA_URL": url, "TIDEBOOK_EPOCH": uuid.uuid4().hex}
    supervisor = Supervisor(data_dir / "logs", env)
    try:
        chain = ChainRegister(data_dir / "chains").identify(read_headers([recording]), None)
        await apply_topics(url, chains=1)
        ingest = await supervisor.start("ingest", ["ingest", "file", "--chain", chain.name, str(recording)])
        while not ingest.status.get("ended"):
            supervisor.check()
            await asyncio.sleep(0.2)
        yield Published(url, supervisor, ingest.status["produced"][TOPIC]["0"])
    finally:
        await supervisor.stop()
        await broker.stop()
