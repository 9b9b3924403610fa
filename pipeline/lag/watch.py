"""Looking again and again: one broker, the nodes, and what has moved in between."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from aiokafka.errors import KafkaConnectionError

from pipeline.domain.lag import Limits, Move, Report, follow, report, undecided
from pipeline.domain.lag_look import Key, Look
from pipeline.ingest.evm.config import ChainConfig, ConfigError, read_config
from pipeline.lag.evm_heads import evm_heads
from pipeline.lag.heads import heads
from pipeline.lag.messages import is_cancelled, messages_of
from pipeline.lag.reader import LEDGERS, Reader
from pipeline.running import running
from pipeline.settings import Settings
from schemas.codec import Codec
from topics.broker import CONNECT_TIMEOUT_S, admin_of

AGAIN_S: Final = 0.5
LOOK_S: Final = CONNECT_TIMEOUT_S  # a broker that goes away in the middle is asked no longer


class NoBroker(RuntimeError):
    """There is no broker to look at; the message names the setting and says what to do."""


@dataclass(frozen=True, slots=True)
class Target:
    """What to look at."""

    kafka_url: str
    xrpl_urls: str  # as TIDEBOOK_XRPL_URLS; "" = nobody tells the head
    network: str = ""
    evm: Mapping[str, ChainConfig] = field(default_factory=dict)  # chains whose nodes are asked
    problems: tuple[str, ...] = ()  # nodes that nobody can name, one line each


def find_target(settings: Settings) -> Target:
    """The broker of the settings, else the embedded one of what runs in the data directory.

    Raises NoBroker, ConfigError (a ValueError) for a wrong TIDEBOOK_EVM_CONFIG.
    """
    evm = read_config(settings.evm_config, os.environ) if settings.evm_config else {}
    if settings.kafka_url:
        return Target(settings.kafka_url, settings.xrpl_urls, settings.xrpl_network, evm)
    told = running(settings.data_dir)
    if told is None or not told.get("kafka_url"):
        raise NoBroker(
            f"no broker: setting TIDEBOOK_KAFKA_URL is empty, and no `tidebook up` runs in {settings.data_dir}; "
            "set it, start `tidebook up`, or name the directory with --data-dir"
        )
    urls = settings.xrpl_urls or str(told.get("xrpl_urls") or "")
    problems: tuple[str, ...] = ()
    if not evm and told.get("evm_config"):  # its keys of nodes are in the environment of what runs
        try:
            evm = read_config(Path(str(told["evm_config"])), os.environ)
        except ConfigError as error:
            problems = (str(error),)
    return Target(str(told["kafka_url"]), urls, settings.xrpl_network, evm, problems)


class Watch:
    """Looks, and remembers what moved."""

    def __init__(self, reader: Reader, target: Target, limits: Limits) -> None:
        self._reader, self._target, self._limits = reader, target, limits
        self._moves: dict[Key, Move] = {}
        self._first_at: float | None = None
        self.undecided = True  # looking longer may tell more

    async def look(self) -> Report:
        """One more look. Raises KafkaError, TimeoutError."""
        seen = await _seen(self._reader)
        target = self._target
        ledgers = [mark for (topic, _), mark in seen.last.items() if topic == LEDGERS]
        (found, problems), (evm, silent) = await asyncio.gather(
            heads(target.xrpl_urls, ledgers, target.network), evm_heads(target.evm)
        )
        seen = dataclasses.replace(
            seen, heads={**found, **evm}, problems=(*seen.problems, *target.problems, *problems, *silent)
        )
        self._moves = follow(self._moves, seen)
        self._first_at = seen.at if self._first_at is None else self._first_at
        self.undecided = undecided(seen, self._moves, self._limits)
        return report(seen, self._moves, self._limits, self._first_at)

    async def settled(self) -> Report:
        """One look; where something has waited for long, more of them, until it is seen moving or for
        `limits.look_s`. Raises KafkaError."""
        told = await self.look()
        while self.undecided and told.looked_s < self._limits.look_s:
            await asyncio.sleep(min(AGAIN_S, self._limits.look_s))
            told = await self.look()
        return told


async def _seen(reader: Reader) -> Look:
    """A look in time."""
    try:
        async with asyncio.timeout(LOOK_S):
            return await reader.look()
    except asyncio.CancelledError:
        if is_cancelled():
            raise
        raise KafkaConnectionError("the connection ended") from None


@asynccontextmanager
async def watching(target: Target, codec: Codec, limits: Limits) -> AsyncIterator[Watch]:
    """A connected watch. Raises BrokerError, also for what fails inside the block, and ValueError."""
    async with messages_of(target.kafka_url) as messages, admin_of(target.kafka_url) as admin:
        yield Watch(Reader(messages, admin, codec), target, limits)
