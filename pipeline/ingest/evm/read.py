"""Judged blocks from nodes of which some may lie: read, judged, and read elsewhere where they do not stand.

Nothing that contradicts itself, its hashes or what else is known of the block is ever given on: whoever told it is
distrusted, and another node is asked; where there is only one, it is asked again after growing pauses. What every
node's answer leaves unproven is accepted as that, and lowers the verdict.

Ranges are read in batches. eth_getLogs is asked over spans that adapt to what the nodes bear; its answers are held
against the blocks' receipts, which alone count: a short answer is told and costs its node its trust.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any, Final, TypeVar

from pipeline.domain.evm_rlp import quantity
from pipeline.domain.proof_errors import Contradiction, Unprovable
from pipeline.domain.verdict import Level
from pipeline.ingest.evm.errors import (
    Missing,
    NodeError,
    NoNode,
    NotFound,
    TooLarge,
    Unreachable,
    Wrong,
    legible,
)
from pipeline.ingest.evm.fetch import Fetched, Fetcher, Json
from pipeline.ingest.evm.node import Node
from pipeline.ingest.evm.nodes import Nodes
from pipeline.ingest.evm.watch import Want

__all__ = ["Fetched", "Missing", "NoNode", "Reader", "Want"]

PAUSE_S: Final = (0.1, 5.0)  # before all nodes are asked again: first, longest
TURNS: Final = 8  # how often all nodes are asked for a block before NoNode
PART: Final = 50  # blocks asked for at once
PART_WHOLE: Final = 20  # with all their transactions and receipts
SPAN_MAX: Final = 20_000  # blocks of one eth_getLogs
LOGS_MANY: Final = 5_000  # in one answer: the span shrinks
QUICK_S: Final = 1.0  # an answer within it lets the span grow
ALONE: Final = 16  # blocks of a range that are read by themselves; then what was read is given
PATIENCE: Final = 16  # good answers until a span that was refused is tried again

T = TypeVar("T")
Logs = dict[int, tuple[Node, list[Json]]]
"""By block: what eth_getLogs answered, and who."""


class Span:
    """How many blocks one eth_getLogs spans: halved where nodes refuse, grown by half where they are quick."""

    def __init__(self, size: int) -> None:
        self.size = max(1, size)
        self._ceiling, self._good = SPAN_MAX, 0

    def refused(self, asked: int) -> None:
        """So many blocks were too many."""
        self._ceiling, self._good = max(1, min(self._ceiling, asked - 1)), 0
        self.size = max(1, min(self.size, asked // 2))

    def answered(self, asked: int, logs: int, seconds: float) -> None:
        """So many blocks gave so many logs."""
        if logs > LOGS_MANY:
            self.size = max(1, asked // 2)
        elif asked >= self.size and logs < LOGS_MANY // 2 and seconds < QUICK_S:
            self._good += 1
            if self._good % PATIENCE == 0:
                self._ceiling = min(SPAN_MAX, 2 * self._ceiling)
            self.size = min(self._ceiling, self.size + max(1, self.size // 2))


class Reader:
    """Reads one chain. `exceptions`: checks that it cannot stand; `parallel`: requests or batches at once;
    `log_range`: blocks of the first eth_getLogs."""

    def __init__(
        self, nodes: Nodes, level: Level, exceptions: Collection[str], *, parallel: int, log_range: int
    ) -> None:
        self._nodes, self._fetcher = nodes, Fetcher(level, exceptions)
        self._at_once = asyncio.Semaphore(max(1, parallel))
        self._parallel = max(1, parallel)
        self.span = Span(log_range)
        self._unproven: frozenset[str] = frozenset()  # checks that no node's answers can make

    # One block

    async def block(self, number: int, want: Want) -> Fetched:
        """One block. Raises Missing if every node that can be asked lacks it, NoNode if none gives one that stands."""
        last = ""
        for turn in range(TURNS):
            if turn:
                await asyncio.sleep(min(PAUSE_S[1], PAUSE_S[0] * 2 ** (turn - 1)))
            asked = missing = 0
            unproven: Fetched | None = None
            for node in self._nodes.candidates():
                asked += 1
                found = await self._try(node, number, want)
                if isinstance(found, Fetched):
                    if self._fetcher.lacking(found) <= self._unproven:
                        return found
                    unproven = found
                    continue
                missing += isinstance(found, NotFound) and found.method == "eth_getBlockByNumber"
                last = node.plain(str(found))
            if asked and missing == asked:
                raise Missing(f"no node has block {number} ({asked} asked)")
            if unproven is not None:
                return self._accepted(unproven)
        raise NoNode(f"no node gives a block {number} that stands: {last or self._nodes.troubles()}")

    async def _try(self, node: Node, number: int, want: Want) -> Fetched | Exception:
        try:
            return await self._fetcher.one(node, number, want)
        except NodeError as error:
            node.failed(error)
            return error
        except Contradiction as error:
            node.distrust(error.reason, f"block {number}: {error}")
            return error

    def _accepted(self, unproven: Fetched) -> Fetched:
        """No node proves more. Where all could be asked, the next block need not be asked of all again."""
        if all(node.usable for node in self._nodes.nodes):
            self._unproven |= self._fetcher.lacking(unproven)
        return unproven

    # Many blocks

    async def range(self, first: int, last: int, want: Want) -> list[Fetched]:
        """Blocks first..last in order, each the parent of the next; fewer where one is not to be had or not linked.

        Raises Missing or NoNode as `block` does if not even the first is to be had.
        """
        size = PART_WHOLE if self._fetcher.whole(want) else PART
        parts = [range(start, min(start + size, last + 1)) for start in range(first, last + 1, size)]
        logs, *read = await asyncio.gather(
            self._logs(first, last, want), *(self._part(part, want) for part in parts)
        )
        fetched: list[Fetched] = []
        alone = 0
        for number, one in zip(range(first, last + 1), (one for part in read for one in part), strict=True):
            try:
                found = self._settled(one, logs.get(number), want)
                alone += found is None
                if alone > ALONE:
                    break
                found = found or await self.block(number, want)
            except (Missing, NoNode):
                if not fetched:
                    raise
                break
            if fetched and found.parent != fetched[-1].hash:
                break
            fetched.append(found)
            if number % PART == 0:
                await asyncio.sleep(0)
        return fetched

    async def _part(self, numbers: Sequence[int], want: Want) -> list[tuple[Node, Any]]:
        """Blocks with their receipts as one node gave them, and that node; errors where that failed."""
        async with self._at_once:
            found = await self._from_any(lambda node: self._fetcher.many(node, numbers, want))
        if found is None:
            return [(self._nodes.nodes[0], NoNode("no node answers"))] * len(numbers)
        node, read = found
        for one in read:
            if isinstance(one, NodeError):
                node.failed(one)
        return [(node, one) for one in read]

    async def _from_any(self, read: Callable[[Node], Awaitable[T]]) -> tuple[Node, T] | None:
        for node in self._nodes.candidates():
            try:
                return node, await read(node)
            except NodeError as error:
                node.failed(error)
            except Contradiction as error:
                node.distrust(error.reason, str(error))
        return None

    def _settled(
        self, read: tuple[Node, Any], logs: tuple[Node, list[Json]] | None, want: Want
    ) -> Fetched | None:
        """The block, judged; None: it must be read by itself, of any node.

        Where only the answer of eth_getLogs does not fit, the block's receipts decide.
        """
        node, one = read
        if isinstance(one, Exception):
            return None
        block, receipts = one
        try:
            found = self._with_logs(node, block, receipts, logs, want)
        except Unprovable:
            return None
        except Contradiction as error:
            node.distrust(error.reason, str(error))
            return None
        return found if self._fetcher.lacking(found) <= self._unproven else None

    def _with_logs(
        self,
        node: Node,
        block: Json,
        receipts: list[Json] | None,
        logs: tuple[Node, list[Json]] | None,
        want: Want,
    ) -> Fetched:
        if logs is None:
            return self._fetcher.judged(node, block, receipts, None, want)
        teller, told = logs
        try:
            return self._fetcher.judged(node, block, receipts, told, want)
        except Contradiction as error:
            found = self._fetcher.judged(node, block, receipts, None, want)
            if all(log.get("blockHash") == block["hash"] for log in told):
                teller.distrust(error.reason, str(error))
            else:  # another branch: no lie
                self._nodes.count_caught["other_branch"] += 1
            return found

    # eth_getLogs

    async def _logs(self, first: int, last: int, want: Want) -> Logs:
        """What eth_getLogs answers over a range; blocks for which no node answers are left out."""
        if want.logs is None or self._fetcher.whole(want):
            return {}
        found: Logs = {}
        at = first
        while at <= last:
            spans: list[tuple[int, int]] = []
            while at <= last and len(spans) < self._parallel:
                spans.append((at, min(last, at + self.span.size - 1)))
                at = spans[-1][1] + 1
            for part in await asyncio.gather(*(self._span(*span, want) for span in spans)):
                found |= part
        return found

    async def _span(self, first: int, last: int, want: Want) -> Logs:
        started, asked = time.monotonic(), last - first + 1
        too_large = False
        for node in self._nodes.candidates():
            if "eth_getLogs" in node.refuses:
                continue
            try:
                async with self._at_once:
                    found = await self._ask_logs(node, first, last, want)
            except NodeError as error:
                node.failed(error)
                too_large = too_large or isinstance(error, (TooLarge, Unreachable))
                if isinstance(error, TooLarge):
                    break
                continue
            self.span.answered(
                asked, sum(len(logs) for _, logs in found.values()), time.monotonic() - started
            )
            return found
        if not too_large:
            return {}
        self.span.refused(asked)
        if asked == 1:
            return {}
        middle = first + asked // 2
        return await self._span(first, middle - 1, want) | await self._span(middle, last, want)

    async def _ask_logs(self, node: Node, first: int, last: int, want: Want) -> Logs:
        """Raises NodeError; Wrong where a log can't be of these blocks."""
        logs = want.logs
        assert logs is not None
        asked: Json = {"fromBlock": hex(first), "toBlock": hex(last), "address": sorted(logs.addresses)}
        answer = await node.ask("eth_getLogs", asked)
        found: Logs = {number: (node, []) for number in range(first, last + 1)}
        with legible(node.name, "the answer to eth_getLogs"):
            for log in answer:
                number = log.get("blockNumber") if isinstance(log, dict) else None
                try:
                    found[quantity(number, "blockNumber")][1].append(log)
                except (Contradiction, KeyError):
                    raise Wrong(
                        "invented_log",
                        f"{node.name}: eth_getLogs gives what is no log of blocks {first} to {last}",
                    ) from None
        return found
