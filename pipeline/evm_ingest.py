"""The EVM ingest put together: per chain its nodes, what is watched, where to go on, and the line of blocks."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from pipeline.domain.branch import step_of
from pipeline.domain.findings import alert
from pipeline.domain.verdict import Watermark
from pipeline.ingest.chains import Chain, ChainRegister
from pipeline.ingest.evm.config import ChainConfig
from pipeline.ingest.evm.errors import Busy, NodeError, Unreachable
from pipeline.ingest.evm.follow import EvmFollower, Plan
from pipeline.ingest.evm.journal import Journal
from pipeline.ingest.evm.line import EvmLine
from pipeline.ingest.evm.nodes import Nodes, NoNode
from pipeline.ingest.evm.openings import Openings, judge
from pipeline.ingest.evm.read import Reader
from pipeline.ingest.evm.reliable import Reliability, asks_of
from pipeline.ingest.evm.resume import Resumed, contracts_of, held_by_kafka, last_verdict
from pipeline.ingest.evm.teller import Rival, Teller
from pipeline.ingest.evm.watch import Known, Watched
from pipeline.ingest.publish import BLOCKS, Published, Publisher
from pipeline.ingest.waiting import within
from pipeline.ingest.xrpl.start import StartError
from pipeline.settings import Settings
from schemas.codec import Codec
from schemas.records import EvmBlock
from topics.lease import Lease, lease
from topics.producer import Producer

ASK_AGAIN_S: Final = 1.0


class EvmIngest:
    """One chain's ingest from its nodes. `run` once."""

    def __init__(
        self, settings: Settings, config: ChainConfig, codec: Codec, producer: Producer,
        *, first: int | None, last: int | None, wait_s: float, tell: Callable[[EvmIngest], None],
    ) -> None:  # fmt: skip
        self._settings, self._codec, self._producer, self._tell = settings, codec, producer, tell
        self.config = config if first is None else replace(config, start_block=first)
        self._first, self._last, self._wait_s = first, last, wait_s
        self.chain: Chain | None = None
        self.nodes: Nodes | None = None
        self.follower: EvmFollower | None = None
        self.watched: Watched | None = None
        self._reader: Reader | None = None
        self.standby = False  # another ingest of the chain writes
        self.state = Published()

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def log_range(self) -> int:
        """Blocks of one eth_getLogs now."""
        return self._reader.span.size if self._reader is not None else self.config.log_range

    def seconds_behind(self) -> float:
        """How long the nodes have had a block that is not published; 0 where there is none."""
        if self.nodes is None or self.follower is None or self.nodes.latest < self.follower.next:
            return 0.0
        return time.monotonic() - self.follower.teller.sent_at

    async def run(self, register: ChainRegister) -> Published:
        """Until the last block wanted is final. Raises Unusable, NoNode, StartError, ChainError, Stopped,
        BrokerError."""
        config = self.config
        self.chain = chain = register.evm_chain(config.name)
        self.nodes = nodes = Nodes.of(config)
        async with nodes:
            await nodes.ready(self._wait_s)
            self._reader = reader = Reader(
                nodes, config.level, config.exceptions, parallel=config.parallel, log_range=config.log_range
            )
            openings = Openings(self._ask)
            journal = self._journal(chain)
            try:
                async with self._lease(chain) as lease:
                    while True:
                        if await self._held(
                            lease, lambda: self._follow(nodes, reader, openings, chain, journal)
                        ):
                            return self.state
                        await nodes.wait(ASK_AGAIN_S)
            finally:
                if journal is not None:
                    journal.close()

    @asynccontextmanager
    async def _lease(self, chain: Chain) -> AsyncIterator[Lease | None]:
        """Of two ingests of a chain one writes and the other stands by. The embedded broker has but one."""
        if self._settings.epoch:
            yield None
            return
        async with lease(
            self._settings.kafka_url,
            f"tidebook-ingest-{chain.name.replace(':', '-')}",
            BLOCKS,
            chain.partition,
        ) as found:
            yield found

    async def _held(self, held: Lease | None, follow: Callable[[], Coroutine[Any, Any, None]]) -> bool:
        """Follow while the lease is ours; True when all is done."""
        if held is None:
            return await self._unrivalled(follow())
        self.standby, self.follower = True, None
        self._tell(self)
        while not held.held.is_set():
            await within(held.held, ASK_AGAIN_S)
            self._tell(self)
        self.standby = False
        held.free.clear()
        work = asyncio.ensure_future(self._unrivalled(follow()))
        lost = asyncio.ensure_future(held.lost.wait())
        try:
            await asyncio.wait({work, lost}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            return False
        finally:
            for task in (work, lost):
                task.cancel()
            await asyncio.gather(work, lost, return_exceptions=True)
            held.free.set()

    @staticmethod
    async def _unrivalled(work: Coroutine[Any, Any, None]) -> bool:
        try:
            await work
        except Rival:  # another ingest wrote too: what stands is read again
            return False
        return True

    def _journal(self, chain: Chain) -> Journal | None:
        """Where the broker forgets, the messages of unfinal blocks are kept here."""
        if not self._settings.epoch:
            return None
        return Journal(
            self._settings.chains_dir, f"{chain.number:05d}", lambda value: self._codec.decode(value)[1]  # type: ignore[return-value,arg-type]
        )  # fmt: skip

    async def _follow(
        self, nodes: Nodes, reader: Reader, openings: Openings, chain: Chain, journal: Journal | None
    ) -> None:
        url, config = self._settings.kafka_url, self.config
        resumed = await held_by_kafka(url, self._codec, chain)
        replay: list[EvmBlock] = []
        told_again = 0
        if journal is not None:
            replay, told_again = await asyncio.to_thread(self._forgotten, journal, resumed)
        self._must_begin(resumed, replay)
        verdict = await last_verdict(url, self._codec, chain)
        mark = (
            Watermark.resumed(verdict, config.level)
            if verdict
            else Watermark(chain.name, chain.number, config.level)
        )
        publisher = Publisher(chain, self._codec, self._producer, mark, self._settings.epoch)
        before, self.state = self.state, publisher.state
        for name in ("ledgers", "transactions", "quarantined"):
            setattr(self.state, name, getattr(before, name))
        first = int(time.time() * 1000) if journal is not None else 0  # above all that was told before
        self.watched = watched = Watched(config, first_sequence=first)
        await self._restore(watched, resumed, publisher, journal)
        line = EvmLine(
            chain.name, chain.number, config.level, lambda record: self._codec.encode(BLOCKS, record)
        )
        reliability = Reliability(asks_of(nodes), config.balance_checks, config.timeout_s)
        teller = Teller(
            line,
            publisher,
            watched,
            openings,
            reader,
            config,
            resumed,
            journal,
            reliability,
            replay,
            told_again,
        )
        self.follower = EvmFollower(nodes, reader, teller, Plan(config, self._last), lambda: self._tell(self))
        try:
            await self.follower.run()
        finally:
            await reliability.close()

    def _forgotten(self, journal: Journal, resumed: Resumed) -> tuple[list[EvmBlock], int]:
        """(messages of the journal that the broker lacks, how many it has): all of them where it is a new one, the
        rest where a telling again was cut off, and what was synced and not sent before a kill."""
        told, done = journal.begin(self._settings.epoch)
        records = journal.read()
        if not done:
            if not records:
                journal.told_again(0, True)
            return records[told:], told
        known = {step_of(record).name for record in resumed.records}
        final = resumed.branch.final[0] if resumed.branch.final else -1
        place = len(records)
        while place > told and step_of(records[place - 1]).name not in known:
            if records[place - 1]["block_number"] <= final:
                break
            place -= 1
        while place < len(records) and place and records[place]["chunk"]:
            place -= 1  # a message is told from its first chunk on
        if place < len(records):
            journal.told_again(place, False)
        return records[place:], place

    def _must_begin(self, resumed: Resumed, replay: Sequence[EvmBlock]) -> None:
        """Kafka decides where to go on; a `--from` behind it would leave blocks out."""
        tip = resumed.branch.tip
        begun = replay[0]["run"] if replay else None
        if begun is not None and begun != self.config.start_block:
            raise StartError(
                f"start_block {self.config.start_block}: what this data directory holds of {self.name} begins at block "
                f"{begun}; set start_block = {begun}, or use another --data-dir"
            )
        if self._first is not None and tip is not None and self._first > tip[0] + 1:
            raise StartError(
                f"--from {self._first} leaves blocks out: Kafka holds {self.name} up to {tip[0]}; leave --from away"
            )

    async def _restore(
        self, watched: Watched, resumed: Resumed, publisher: Publisher, journal: Journal | None
    ) -> None:
        """What is watched: the settings' contracts, and those that factories made in blocks that stand."""
        assert self.chain is not None
        number = self.chain.number
        if journal is None:
            watched.restore(await contracts_of(self._settings.kafka_url, self._codec, self.chain))
        else:  # which knows also what the broker has forgotten
            watched.restore(journal.contracts())
            if resumed.next_offset == 0:
                await publisher.blocks([], (), journal.contracts())
        if watched.dropped:
            names = ", ".join(watched.dropped)
            if journal is not None:
                raise StartError(
                    f"the settings no longer name {names}, whose blocks this data directory holds: every start tells "
                    "them again; put it back, or use another --data-dir"
                )
            sys.stderr.write(
                f"tidebook ingest: {self.name}: not in the settings, not watched any more: {names}\n"
            )
        tip = resumed.branch.tip
        cut = resumed.branch.open  # of a final block that is told in part
        begun = max(tip[0] if tip else -1, cut.number if cut and cut.finality == "final" else -1)
        gone: tuple[Known, ...] = ()
        if journal is None:
            gone = watched.retract_above(tip[0] if tip else -1)
        else:
            begun = max(begun, journal.highest)
        if begun >= 0:  # a contract that is new in the settings begins behind what is told
            watched.start_no_earlier(begun + 1)
        left = watched.left()
        for record in left:
            await publisher.tell(alert(
                "contract_dropped", "warning", self.name, f"{record['address']}:{record['sequence']}",
                evidence={"contract": record["address"], "detail": "the settings no longer name it"},
            ))  # fmt: skip
        records = [*left, *(watched.record(one, number) for one in gone)]
        if records and journal is not None:
            journal.told(records)
        await publisher.blocks([], (), records)

    async def _ask(self, method: str, params: list[Any]) -> Any:
        """One request, of the node most likely to answer; what one refuses, the next is asked."""
        assert self.nodes is not None
        errors: list[NodeError] = []
        nodes = self.nodes.candidates()
        for node in nodes:
            try:
                return await node.ask(method, *params)
            except NodeError as error:
                errors.append(error)
        if reverted := [error for error in errors if judge(error, method) == "reverted"]:  # that is an answer
            raise reverted[0]
        away = len(nodes) < sum(node.unusable is None for node in self.nodes.nodes)
        if away or not errors:  # the one that is away may be the one that keeps old states
            raise NoNode(f"no node of {self.name} answers {method}: {self.nodes.troubles() or errors[-1]}")
        raise next((error for error in errors if isinstance(error, (Unreachable, Busy))), errors[-1])
