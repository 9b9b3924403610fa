"""The nodes of one EVM chain: who is asked first, what most of them say, and what was caught.

A request goes to the node that is most likely to answer well; who failed or lied rests, and is asked only where no
other can be. No node is given up for good. How far a tag reaches is what most nodes that answer agree on at least;
one that has told no news for long while others go on has no vote.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Final, Literal

from pipeline.domain.branch import short
from pipeline.domain.evm_rlp import Malformed, data, header_hash, quantity, required
from pipeline.domain.proof_errors import Unprovable
from pipeline.ingest.evm.config import SETTING, ChainConfig
from pipeline.ingest.evm.errors import Missing, NodeError, NoNode, NotFound, Unusable, Wrong, legible
from pipeline.ingest.evm.node import Node, Terms, name_of, number_of
from pipeline.ingest.waiting import within

__all__ = ["Missing", "NoNode", "Nodes", "Tag"]

Tag = Literal["head", "safe", "finalized"]
STALE_TIMES: Final = 3  # silences after which a node that others pass has no vote


class Nodes:
    """All nodes of a chain. Use as an async context; `ready` waits for a first usable one.

    `final_depth`: blocks that final ones are below the newest at least (safe ones half of it); with `finality`
    "depth" that alone says what is final. `exceptions`: checks that the chain cannot stand. `setting` is named to
    the user.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        chain_id: int,
        timeout_s: float,
        rate: float,
        poll_s: float,
        silence_s: float,
        final_depth: int = 0,
        finality: Literal["tag", "depth"] = "tag",
        exceptions: Collection[str] = (),
        setting: str = "TIDEBOOK_EVM_CONFIG",
    ) -> None:
        self.news = asyncio.Event()  # set whenever something may have changed
        self.count_caught: Counter[str] = Counter()  # what was refused, by reason
        self._silence_s, self._final_depth, self._finality = silence_s, final_depth, finality
        self._exceptions, self._setting = frozenset(exceptions), setting
        terms = Terms(chain_id, timeout_s, rate, poll_s, silence_s, finality == "tag", setting)
        self.nodes = [
            Node(url, terms, name=name, caught=self.count_caught, news=self.news.set)
            for url, name in zip(urls, _names(urls), strict=True)
        ]
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    def of(cls, config: ChainConfig) -> Nodes:
        """The nodes of a chain of the settings."""
        return cls(
            config.urls, chain_id=config.chain_id, timeout_s=config.timeout_s, rate=config.rate,
            poll_s=config.poll_s, silence_s=config.silence_s, final_depth=config.final_depth,
            finality=config.finality, exceptions=config.exceptions,
            setting=f"{SETTING} (chain {config.name})",
        )  # fmt: skip

    async def __aenter__(self) -> Nodes:
        self._tasks = [asyncio.create_task(node.run()) for node in self.nodes]
        return self

    async def __aexit__(self, *_: object) -> None:
        pending = {task for task in self._tasks if not task.done()}
        while pending:  # once more where a library has lost the cancellation
            for task in pending:
                task.cancel()
            pending = (await asyncio.wait(pending, timeout=5))[1]

    async def ready(self, wait_s: float) -> None:
        """Wait for a node that can be asked. Raises Unusable if none ever can, NoNode after `wait_s`."""
        deadline = time.monotonic() + wait_s
        while not any(node.able for node in self.nodes):
            if all(node.unusable for node in self.nodes):
                raise Unusable(
                    "; ".join(str(node.unusable) for node in self.nodes) or f"{self._setting}: no URLs"
                )
            if time.monotonic() >= deadline:
                raise NoNode(
                    f"setting {self._setting}: no node answers after {wait_s:g} s: {self.troubles()}"
                )
            await self.wait(0.1)

    async def wait(self, seconds: float) -> None:
        """Until there is news, at most so long."""
        self.news.clear()
        await within(self.news, seconds)

    def troubles(self) -> str:
        """What each node that can't be asked said last."""
        return "; ".join(
            str(node.unusable or node.state.last_error or f"{node.name}: not connected yet")
            for node in self.nodes
            if not node.usable
        )

    def candidates(self) -> list[Node]:
        """Who can be asked, best first: by faults, by how far behind, by use. Resting ones only if all rest."""
        usable = [node for node in self.nodes if node.usable]
        if not usable:
            return sorted((node for node in self.nodes if node.able), key=lambda node: node.state.rests_until)
        newest = max(node.state.latest for node in usable)

        def rank(node: Node) -> tuple[int, int, int]:
            state = node.state
            return state.failures + state.distrusted, newest - state.latest, state.requests

        return sorted(usable, key=rank)

    # What most of them say

    @property
    def latest(self) -> int:
        """Newest block that a usable node told; -1 for none. A hint: nothing is proven by it."""
        return max((node.state.latest for node in self.candidates()), default=-1)

    async def upto(self, tag: Tag) -> int:
        """The newest block that, as most nodes that answer agree, the tag has reached at least; -1 for none.

        As the nodes told at the last poll; nobody waits for a node here.
        """
        reached = [self._reached(node, tag) for node in self._voters()]
        votes = sorted((number for number in reached if number is not None), reverse=True)
        return max(-1, votes[len(votes) // 2]) if votes else -1

    def _reached(self, node: Node, tag: Tag) -> int | None:
        """What a node's word comes to; None: it does not tell."""
        state = node.state
        below = {"head": 0, "safe": self._final_depth // 2, "finalized": self._final_depth}[tag]
        by_depth = state.latest - below
        if tag == "head" or self._finality == "depth" or state.latest < 0:
            return by_depth if state.latest >= 0 else None
        told = state.safe if tag == "safe" else state.finalized
        return min(told, by_depth) if 0 <= told <= state.latest else None

    def _voters(self) -> list[Node]:
        """Those that can be asked, without the stale ones."""
        nodes = self.candidates()
        newest = max((node.state.news_at for node in nodes), default=0.0)
        return [node for node in nodes if node.state.news_at > newest - STALE_TIMES * self._silence_s]

    # What can't be taken back

    def quorum(self, wanted: int = 0) -> int:
        """How many nodes must agree on what can't be taken back: `wanted`, or with 0 more than half of those
        configured that are not unusable, whether they can be asked now or not."""
        return wanted if wanted > 0 else sum(node.unusable is None for node in self.nodes) // 2 + 1

    async def agreed(self, number: int, block_hash: str, wanted: int = 0) -> bool | None:
        """Whether the block of this number has this hash (the first 64 bits do), as the headers of `quorum` nodes say.

        False if more than half of those configured have another; None if too few answer, or they are split. Nodes
        that rest are asked too: a proven header is as good from them. Who is slow is not waited for in vain.
        """
        ours, same, others = short(block_hash), 0, 0
        asked = {asyncio.create_task(self._vote(node, number)) for node in self.nodes if node.able}
        try:
            while asked:
                done, asked = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
                votes = [vote for vote in (task.result() for task in done) if vote is not None]
                same += sum(short(vote) == ours for vote in votes)
                others += sum(short(vote) != ours for vote in votes)
                if same >= self.quorum(wanted):
                    return True
        finally:
            for task in asked:
                task.cancel()
        return False if others >= self.quorum() else None

    async def _vote(self, node: Node, number: int) -> str | None:
        """Hash of a node's block of this number; None: it has none, or does not answer."""
        try:
            return await self._hash_at(node, number)
        except NodeError as error:
            node.failed(error)
            return None

    # Headers

    async def number(self, node: Node) -> int:
        """Number of a node's newest block. Raises NodeError; Wrong where it is no number."""
        return number_of(node.name, await node.ask("eth_blockNumber"))

    async def header_at(self, node: Node, number: int) -> dict[str, Any]:
        """A node's block of this number, with the hashes of its transactions; its header is proven by its hash.

        `hash`, `parentHash` are "0x" and 64 digits even where the chain's headers can't be proven. Raises NodeError:
        NotFound, and Wrong where it is another block or its hash is not that of its header.
        """
        block = await node.ask("eth_getBlockByNumber", hex(number), False)
        with legible(node.name, f"block {number}"):
            return self._proven(node, number, block)

    async def hashes_at(self, number: int) -> dict[Node, str | None]:
        """The hash of the block of this number by node; None: it has none. Who does not answer is left out."""
        nodes = self.candidates()
        found = await asyncio.gather(*(self._hash_at(node, number) for node in nodes), return_exceptions=True)
        hashes: dict[Node, str | None] = {}
        for node, one in zip(nodes, found, strict=True):
            if isinstance(one, NodeError):
                node.failed(one)
                if isinstance(one, (NotFound, Wrong)):
                    hashes[node] = None
            elif isinstance(one, BaseException):
                raise one
            else:
                hashes[node] = one
        return hashes

    async def _hash_at(self, node: Node, number: int) -> str:
        return str((await self.header_at(node, number))["hash"]).lower()

    def _proven(self, node: Node, number: int, block: Any) -> dict[str, Any]:
        if not isinstance(block, dict):
            raise Wrong("malformed", f"{node.name}: block {number} is a {type(block).__name__}")
        try:
            found = quantity(block.get("number"), "number")
            if found != number:
                raise Wrong("order", f"{node.name}: asked for block {number}, it gives {found}")
            for name in ("hash", "parentHash"):
                data(required(block, name), name, 32)
            stated = block["hash"].lower()
            if "header_hash" not in self._exceptions and header_hash(block) != stated:
                raise Wrong(
                    "header_hash", f"{node.name}: block {number}: {stated} is not the hash of its header"
                )
        except (Malformed, Unprovable) as error:
            raise Wrong("malformed", f"{node.name}: block {number}: {error}") from None
        return block


def _names(urls: Sequence[str]) -> list[str]:
    """host:port each, numbered where several are the same."""
    seen: Counter[str] = Counter()
    names = []
    for url in urls:
        name = name_of(url)
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return names
