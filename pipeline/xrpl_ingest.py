"""The XRPL ingest put together: nodes, chain, where to begin, validators, producer, the line of ledgers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from pipeline.app import make_codec
from pipeline.domain.xrpl_keys import node_public, parse_key
from pipeline.domain.xrpl_validation import Validators
from pipeline.ingest.chains import Chain, ChainRegister
from pipeline.ingest.ledgers import LedgerLine
from pipeline.ingest.publish import LEDGERS, Published, Publisher
from pipeline.ingest.snapshot import take_snapshot
from pipeline.ingest.xrpl.address import core, parse_addresses
from pipeline.ingest.xrpl.follow import Follower, Plan
from pipeline.ingest.xrpl.node import Node, NodeError, Refused
from pipeline.ingest.xrpl.nodes import Expected, Nodes
from pipeline.ingest.xrpl.start import (
    Held,
    StartError,
    chain_of,
    expect_by_id,
    expected_of,
    held_by_kafka,
    watermark_of,
)
from pipeline.ingest.xrpl.state_source import StateSource
from pipeline.settings import Settings
from schemas.codec import Codec
from topics.producer import Producer

MANIFESTS_AGAIN_S: Final = 300.0
MANIFEST_LACKS_S: Final = 30.0  # while one of them lacks


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for."""

    first: str = ""  # an index, genesis, earliest, validated; "": go on, else validated
    last: int | None = None
    accept_gap: bool = False
    wait_s: float = 60.0
    snapshot: int | None = None  # begin with the whole state of this ledger


class XrplIngest:
    """One chain's ingest from its nodes. `run` once."""

    def __init__(self, settings: Settings, wanted: Wanted, tell: Callable[[XrplIngest], None]) -> None:
        self._settings, self._wanted, self._tell = settings, wanted, tell
        self._addresses = core(parse_addresses(settings.xrpl_urls))
        keys = [key.strip() for key in settings.xrpl_validators.split(",") if key.strip()]
        self._keys = keys
        self.validators = Validators(keys, settings.xrpl_quorum) if keys else None
        self.nodes: Nodes | None = None
        self.follower: Follower | None = None
        self.chain: Chain | None = None
        self.resumed_at: int | None = None
        self.state = Published()

    async def run(self) -> Published:
        """Until the last ledger wanted. Raises AddressError, Unusable, NoNode, StartError, ChainError,
        Forked, BrokerError."""
        register = ChainRegister(self._settings.chains_dir, self._settings.chains_file)
        codec, producer = make_codec(self._settings), Producer(self._settings.kafka_url)
        await producer.start()
        try:
            async with self._connected(expected_of(self._settings.xrpl_network, register.networks)) as nodes:
                name = nodes.expected.name or await expect_by_id(nodes, register.networks)
                wanted = self._wanted
                first_told = str(wanted.snapshot) if wanted.snapshot is not None else wanted.first

                def held_of(chain: Chain) -> Awaitable[Held]:
                    return held_by_kafka(self._settings.kafka_url, codec, chain)

                chain, first = await chain_of(nodes, register, name, first_told, held_of)
                self.chain = chain
                register.mark_latest(chain)
                nodes.expect(Expected(nodes.network_id, self._anchor(chain), name))
                await nodes.ready(self._wanted.wait_s)
                held = await held_of(chain)
                line = LedgerLine(
                    chain, self._wanted.accept_gap, lambda record: codec.encode(LEDGERS, record),
                    self._settings.xrpl_verify,
                )  # fmt: skip
                plan = self._plan(first)
                if held.ledger is not None:
                    plan.first = self.resumed_at = self._resumed(
                        line.resume(held.ledger), held.ledger["ledger_index"]
                    )
                    plan.skip = held.ledger["chunk"] + 1 if plan.first == held.ledger["ledger_index"] else 0
                mark = watermark_of(chain, held, self._settings.xrpl_verify)
                publisher = Publisher(chain, codec, producer, mark, self._settings.epoch)
                self.state = publisher.state
                if wanted.snapshot is not None and held.ledger is None:
                    plan.first = await self._starting_state(nodes, wanted.snapshot, line, publisher, codec)
                self.follower = Follower(
                    nodes, line, publisher, plan, self.validators, lambda _: self._tell(self)
                )
                await self.follower.run()
                return publisher.state
        finally:
            await producer.stop()

    async def _starting_state(
        self, nodes: Nodes, index: int, line: LedgerLine, publisher: Publisher, codec: Codec
    ) -> int:
        """Publish the whole state of a ledger; the ledger that comes next. Raises SnapshotError."""
        chain, source = publisher.chain, StateSource(nodes)
        state = await take_snapshot(
            source.ask, index, self._settings.data_dir / "snapshots", refuse=source.refuse
        )
        chain.append([(index, state.header["ledger_hash"], state.run)])
        await publisher.starting_state(
            state.messages(codec, chain.name, chain.number, partition=chain.partition)
        )
        state.discard()
        return line.begin_after(state.header)

    def seconds_behind(self) -> float:
        """How long the nodes have had a ledger that is not published; 0 where there is none."""
        if self.nodes is None or self.follower is None or self.nodes.tip < self.follower.next:
            return 0.0
        return time.monotonic() - self.follower.published_at

    def _plan(self, first: int) -> Plan:
        return Plan(
            first, self._wanted.last, self._wanted.accept_gap, self._settings.xrpl_parallel,
            binary=self._settings.xrpl_verify == "full",
        )  # fmt: skip

    def _resumed(self, after: int, last: int) -> int:
        """Kafka decides where to go on; a `--from` behind it would leave ledgers out."""
        wanted = self._wanted.first
        if wanted.isdecimal() and int(wanted) > after:
            raise StartError(
                f"--from {wanted} leaves ledgers out: Kafka holds this chain up to {last}; leave --from away"
            )
        return after

    @staticmethod
    def _anchor(chain: Chain) -> tuple[int, str] | None:
        """The oldest ledger that is known of the chain."""
        if not chain.ledgers:
            return None
        return chain.first, chain.ledgers[chain.first][0]

    @asynccontextmanager
    async def _connected(self, expected: Expected) -> AsyncIterator[Nodes]:
        settings = self._settings
        streams = ("ledger", "validations") if self.validators else ("ledger",)
        self.nodes = nodes = Nodes(
            self._addresses, timeout_s=settings.xrpl_timeout_s, rate=settings.xrpl_rate,
            silence_s=settings.xrpl_silence_s, streams=streams, hear=self._hear,
        )  # fmt: skip
        nodes.expected = expected
        async with nodes:
            await nodes.ready(self._wanted.wait_s)
            manifests = asyncio.create_task(self._manifests(nodes)) if self.validators else None
            try:
                yield nodes
            finally:
                if manifests is not None:
                    manifests.cancel()

    def _hear(self, node: Node, message: Mapping[str, Any]) -> None:
        kind = message.get("type")
        if (
            kind == "ledgerClosed"
            and self.follower is not None
            and isinstance(message.get("ledger_index"), int)
        ):
            self.follower.saw(message["ledger_index"])
        elif kind == "validationReceived" and self.validators is not None:
            self.validators.add(message)

    async def _manifests(self, nodes: Nodes) -> None:
        """Ask now and then which signing keys the trusted validators have named; not every node knows."""
        assert self.validators is not None
        while True:
            for key in self._keys:
                for node in nodes.candidates(nodes.tip):
                    answer = await self._manifest(node, node_public(parse_key(key)))
                    if isinstance(answer, str):
                        self.validators.add_manifest(answer)
            await asyncio.sleep(MANIFEST_LACKS_S if self.validators.without_manifest() else MANIFESTS_AGAIN_S)

    @staticmethod
    async def _manifest(node: Node, key: str) -> Any:
        try:
            return (await node.ask("manifest", public_key=key)).get("manifest")
        except Refused:
            return None
        except NodeError as error:
            node.failed(error)
            return None
