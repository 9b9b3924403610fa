"""The EVM ingest's loop: in order, final below, heads on top, what the chain drops is taken back.

Backfill and live are one loop. What is final already is read in ranges and told as final at once; above it each
block is told as head, and again when it stays or goes. News from nodes are hints only: what stands is judged by
hash chains, of headers whose hashes were recomputed. docs/decisions/0010.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pipeline.domain.branch import Branch, short
from pipeline.domain.findings import alert
from pipeline.ingest.evm.config import ChainConfig
from pipeline.ingest.evm.errors import NodeError
from pipeline.ingest.evm.line import Told
from pipeline.ingest.evm.nodes import Nodes, NoNode
from pipeline.ingest.evm.read import Fetched, Missing, Reader
from pipeline.ingest.evm.reorg import Fork, TooDeep, find_fork
from pipeline.ingest.evm.teller import Teller, Unfit

BACKFILL_BLOCKS: Final = 256  # at once
LIVE_BLOCKS: Final = 32


@dataclass
class Plan:
    """What to follow. `last`: end when this block is final."""

    config: ChainConfig
    last: int | None = None


@dataclass
class Figures:
    """What an ingest has seen of the chain's restlessness."""

    reorgs: int = 0
    retracted: int = 0  # blocks
    deepest: int = 0
    too_deep: str = ""  # why nothing goes on, while it is so
    waiting: str = ""  # for what, while nothing goes on


class EvmFollower:
    """One chain's ingest. One per chain and process."""

    def __init__(
        self, nodes: Nodes, reader: Reader, teller: Teller, plan: Plan, tell: Callable[[], None]
    ) -> None:  # fmt: skip
        self._nodes, self._reader, self.teller, self._plan, self._tell = nodes, reader, teller, plan, tell
        self._ahead: tuple[int, asyncio.Task[list[Fetched]]] | None = None
        self.figures = Figures()

    @property
    def branch(self) -> Branch:
        return self.teller.branch

    @property
    def next(self) -> int:
        """Number of the block that is told next."""
        return self.teller.next

    @property
    def final(self) -> int:
        """Number of the last block told as final, -1 before the first."""
        return self.teller.final

    @property
    def unfinal(self) -> list[Told]:
        """Blocks that stand and are not final, lowest first."""
        return self.teller.unfinal

    async def run(self) -> None:
        """Until the last block of the plan is final. Raises Rival, Stopped, BrokerError."""
        try:
            await self._complete()
            while self._plan.last is None or self.final < self._plan.last:
                await self._step()
                self._tell()
        finally:
            if self._ahead is not None:
                self._ahead[1].cancel()
                await asyncio.gather(self._ahead[1], return_exceptions=True)

    # One step

    async def _step(self) -> None:
        moved = False
        try:
            final = await self._nodes.upto("finalized")
            mode = self._plan.config.confirmation
            top = final if mode == "finalized" else max(final, await self._nodes.upto(mode))
            moved = await self._advance(final, top)
        except (NoNode, Missing, NodeError) as error:
            self.figures.waiting = str(error)
        except Unfit:
            moved = await self._reorganise()
        if moved:
            self.figures.waiting = ""
        else:
            await self._nodes.wait(self._plan.config.poll_s)

    async def _advance(self, final: int, top: int) -> bool:
        """Do what comes next; False where there is nothing to do."""
        await self.teller.mark()
        await self.teller.cover(final)
        if self.teller.forgotten_from is not None:
            return await self._remember(final)
        if self.unfinal and self.unfinal[0].number <= final:
            return await self._finalise(final)
        if not self.unfinal and self.next <= self._limit(final):
            return await self._backfill(self._limit(final))
        if self.next <= self._limit(top):
            return await self._extend(self._limit(top))
        return await self._still_stands()

    def _limit(self, number: int) -> int:
        """At most to the plan's end, and to where a contract begins whose state before is not known yet."""
        ends = [start - 1 for start in self.teller.begins_before()]
        return min([number, *ends, *([] if self._plan.last is None else [self._plan.last])])

    async def _backfill(self, last: int) -> bool:
        """What is final already."""
        first = self.next
        fetched = self.teller.fitting(await self._range(first, min(last, first + BACKFILL_BLOCKS - 1), last))
        top = fetched[-1]
        agreed = await self._nodes.agreed(top.number, top.hash, self._plan.config.final_quorum)
        if agreed is not True:  # what is told as final can't be taken back
            self.figures.waiting = f"too few nodes have block {top.number} {top.hash} to call it final"
            if agreed is False:
                top.node.distrust("fork", f"block {top.number}: most nodes have another one")
            return False
        return await self.teller.publish(fetched, "final")

    async def _range(self, first: int, last: int, limit: int) -> list[Fetched]:
        """Blocks first..last, or the first of them; the ones after them are asked for meanwhile."""
        want = self.teller.watched.want()
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] != first:
            ahead[1].cancel()
            ahead = None
        fetched = await (ahead[1] if ahead is not None else self._reader.range(first, last, want))
        after = first + len(fetched)
        if fetched and after <= limit:
            upto = min(limit, after + BACKFILL_BLOCKS - 1)
            task = asyncio.create_task(self._reader.range(after, upto, want))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._ahead = after, task
        return fetched

    async def _extend(self, top: int) -> bool:
        """New blocks on top."""
        first, last = self.next, min(top, self.next + LIVE_BLOCKS - 1)
        if first == last:
            fetched = [await self._reader.block(first, self.teller.watched.want())]
        else:
            fetched = await self._reader.range(first, last, self.teller.watched.want())
        return await self.teller.publish(self.teller.fitting(fetched), "head")

    # What stays, what goes

    async def _finalise(self, final: int) -> bool:
        """Tell of the lowest unfinal blocks that they stay, if the nodes' final block is ours."""
        staying = [told for told in self.unfinal if told.number <= final]
        top = staying[-1]
        agreed = await self._nodes.agreed(top.number, top.hash, self._plan.config.final_quorum)
        if agreed is None:
            self.figures.waiting = f"too few nodes have block {top.number} {top.hash} to call it final"
            return False
        if not agreed:
            raise Unfit
        await self.teller.stay(staying)
        return True

    async def _still_stands(self) -> bool:
        """Is our tip still in the nodes' chain? Raises Unfit if not."""
        if not self.unfinal:
            return False
        number = min(self.unfinal[-1].number, self._nodes.latest)
        ours = self.branch.hash_at(number)
        if ours is None:
            return False
        hashes = [block_hash for block_hash in (await self._nodes.hashes_at(number)).values() if block_hash]
        if any(short(block_hash) != ours for block_hash in hashes):
            raise Unfit
        self.figures.too_deep = ""
        return False

    async def _reorganise(self) -> bool:
        """Take back what the chain dropped, if it did; False if our branch stands."""
        lowest = max(self.final, (self.branch.tip or (0, ""))[0] - self._plan.config.depth_limit)
        try:
            fork = await find_fork(self._nodes, self.branch, lowest)
        except TooDeep as deep:
            await self._too_deep(deep)
            return False
        self.figures.too_deep = ""
        if fork is None:
            return False
        await self._take_back(fork)
        return True

    async def _take_back(self, fork: Fork) -> None:
        lost = [told for told in self.unfinal if told.number > fork.number]
        top, lowest = lost[-1], lost[0]
        await self.teller.publisher.tell(alert(
            "reorg", "warning", self.teller.publisher.chain.name, f"{lowest.number}:{lowest.key[0]}:{lowest.key[1]}",
            block=lowest.number, time=lowest.records[0]["time"],
            evidence={"depth": str(len(lost)), "fork": str(fork.number), "lost": top.hash, "new": fork.hash},
        ))  # fmt: skip
        await self.teller.take_back(lost)
        self.figures.reorgs += 1
        self.figures.retracted += len(lost)
        self.figures.deepest = max(self.figures.deepest, len(lost))

    async def _too_deep(self, deep: TooDeep) -> None:
        self.figures.too_deep = str(deep)
        tip = self.branch.tip or (0, "")
        await self.teller.publisher.tell(alert(
            "reorg_too_deep", "critical", self.teller.publisher.chain.name, f"{tip[0]}:{tip[1]}", block=tip[0],
            evidence={"detail": str(deep), "depth_limit": str(self._plan.config.depth_limit), "final": str(self.final)},
        ))  # fmt: skip

    # Beginning

    async def _complete(self) -> None:
        """What a kill cut off within its chunks, first of all."""
        while True:
            try:
                await self.teller.complete()
                return
            except (NoNode, Missing, NodeError) as error:
                self.figures.waiting = str(error)
                self._tell()
                await self._nodes.wait(self._plan.config.poll_s)

    async def _remember(self, final: int) -> bool:
        """The broker has forgotten all: tell what is final again, then what stood unfinal."""
        lowest = self.teller.forgotten_from or 0
        if not self.unfinal and self.next < lowest:
            if self.next > final:
                self.figures.waiting = f"block {self.next} was final before the broker forgot, and is not now"
                return False
            return await self._backfill(min(final, lowest - 1))
        await self.teller.remember()
        return True
