"""The pool of nodes: who is asked for what, failover, and what is known of the newest ledger.

A request goes to the node that is most likely to answer well; what one cannot give, the next is asked
for. A node that fails rests, one that gives what can't be rests long, one that falls behind or falls
silent is left until it is back. No node is given up for good.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.ingest.waiting import within
from pipeline.ingest.xrpl.address import SETTING, Address
from pipeline.ingest.xrpl.node import Node, NodeError, NotFound, NotSynced, Unreachable, Unusable

POLL_S: Final = 2.0
BEHIND: Final = 4  # ledgers that a node may be behind the newest one and still count as current


class NoNode(Exception):
    """No node can be asked at the moment."""


class Missing(Exception):
    """Every node that can be asked says that it does not have the ledger."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a node must be of. None: not judged yet."""

    network_id: int | None = None
    anchor: tuple[int, str] | None = None  # a ledger of the chain: index, hash
    name: str = ""


class Nodes:
    """All core nodes. Use as an async context; `start` waits for a first usable one."""

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        timeout_s: float,
        rate: float,
        silence_s: float,
        streams: tuple[str, ...] = ("ledger",),
        hear: Callable[[Node, Mapping[str, Any]], None] = lambda node, message: None,
    ) -> None:
        self.expected = Expected()
        self.news = asyncio.Event()  # set whenever something may have changed
        self._silence_s, self._heard = silence_s, hear
        self.nodes = [
            Node(address, timeout_s=timeout_s, rate=rate, streams=streams, admit=self._admit, hear=self._hear)
            for address in addresses
        ]
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Nodes:
        self._tasks = [asyncio.create_task(node.run()) for node in self.nodes]
        self._tasks += [asyncio.create_task(self._watch(node)) for node in self.nodes]
        return self

    async def __aexit__(self, *_: object) -> None:
        pending = set(self._tasks)
        while pending:  # once more where a library has lost the cancellation
            for task in pending:
                task.cancel()
            _, pending = await asyncio.wait(pending, timeout=5)

    async def ready(self, wait_s: float) -> None:
        """Wait for a node that can be asked. Raises Unusable if none ever can, NoNode after `wait_s`."""
        deadline = time.monotonic() + wait_s
        while not any(node.usable for node in self.nodes):
            if all(node.unusable for node in self.nodes):
                raise Unusable("; ".join(str(node.unusable) for node in self.nodes))
            if time.monotonic() >= deadline:
                raise NoNode(f"setting {SETTING}: no node answers after {wait_s:g} s: {self.troubles()}")
            await self.wait(0.2)

    async def wait(self, seconds: float) -> None:
        """Until there is news, at most so long."""
        self.news.clear()
        await within(self.news, seconds)

    def troubles(self) -> str:
        """What each node that can't be asked said last."""
        return "; ".join(
            node.state.last_error or f"{node.name}: not connected yet"
            for node in self.nodes
            if not node.usable
        )

    @property
    def tip(self) -> int:
        """Newest validated ledger that a usable node told; -1 for none."""
        return max((node.state.validated for node in self.nodes if node.usable), default=-1)

    @property
    def network_id(self) -> int | None:
        return self.expected.network_id

    async def _admit(self, node: Node, info: Mapping[str, Any]) -> None:
        """Refuse a node of another network or another chain. Raises Unusable."""
        expected, told = self.expected, info.get("network_id", 0)
        if expected.network_id is not None and told != expected.network_id:
            raise Unusable(
                f"setting {SETTING}: {node.name} is of network {told}, not {expected.network_id}"
                f"{f' ({expected.name})' if expected.name else ''}: check TIDEBOOK_XRPL_NETWORK"
            )
        if expected.anchor is not None:
            await self._check_anchor(node, info, *expected.anchor)
        if expected.network_id is None:  # the first node says what the others must be of
            self.expected = Expected(told, expected.anchor, expected.name)

    async def _check_anchor(self, node: Node, info: Mapping[str, Any], index: int, ledger_hash: str) -> None:
        validated = info.get("validated_ledger")
        newest = validated.get("seq") if isinstance(validated, Mapping) else None
        try:
            found = (await node.ask("ledger", ledger_index=index)).get("ledger_hash")
        except (NotFound, NotSynced):
            found = None
        short = isinstance(newest, int) and newest < index and bool(self.expected.name)
        if (found is None and short) or (found is not None and found != ledger_hash):
            what = f"has no ledger {index}" if found is None else f"has another ledger {index} ({found})"
            raise Unusable(
                f"setting {SETTING}: {node.name} is not of the chain {self.expected.name or 'that is followed'}: "
                f"it {what}; name the network of a private chain in TIDEBOOK_XRPL_NETWORK"
            )

    def expect(self, expected: Expected) -> None:
        """From now on nodes must be of this; those connected are greeted anew."""
        if expected != self.expected:
            self.expected = expected
            for node in self.nodes:
                node.drop()

    def _hear(self, node: Node, message: Mapping[str, Any]) -> None:
        self._heard(node, message)
        self.news.set()

    async def _watch(self, node: Node) -> None:
        """Ask a silent node how it is: silence alone says nothing, the end of news may."""
        while True:
            await asyncio.sleep(POLL_S)
            state = node.state
            quiet = time.monotonic() - state.news_at
            if not state.connected or (state.synced and quiet < self._silence_s):
                continue
            try:
                told = (await node.ask("server_info")).get("info")
                if isinstance(told, Mapping):
                    node.know(told)
                    self.news.set()
                if quiet > 3 * self._silence_s and state.validated < self.tip - BEHIND:
                    node.drop()  # others go on: subscribe anew
                    raise Unreachable(f"{node.name}: no new ledger for {quiet:.0f} s while others go on")
            except NodeError as error:
                node.failed(error)

    def candidates(self, index: int) -> list[Node]:
        """Usable nodes for a ledger, the most likely first: those that hold it, then by failures and use."""

        def rank(node: Node) -> tuple[bool, int, int]:
            held = any(first <= index <= last for first, last in node.state.held)
            fresh = node.state.validated >= index
            return (not (held or fresh), node.state.failures + node.state.distrusted, node.state.requests)

        return sorted((node for node in self.nodes if node.usable), key=rank)

    async def ledger(self, index: int, binary: bool) -> tuple[dict[str, Any], Node]:
        """One validated ledger with its transactions, and who gave it.

        Raises Missing if every node that can be asked says that it has it not, NoNode if none answers.
        """
        asked, lacking = 0, 0
        for node in self.candidates(index):
            asked += 1
            try:
                answer = await node.ask(
                    "ledger", ledger_index=index, transactions=True, expand=True, binary=binary
                )
                return checked(node, index, answer), node
            except NodeError as error:
                node.failed(error)
                lacking += isinstance(error, NotFound)
        if asked and lacking == asked:
            raise Missing(f"no node has ledger {index} ({asked} asked)")
        raise NoNode(f"no node can be asked for ledger {index}: {self.troubles()}")

    def current(self, index: int) -> int:
        """How many usable nodes are not far behind a ledger."""
        return sum(node.usable and node.state.validated >= index - BEHIND for node in self.nodes)

    def next_held(self, index: int) -> int | None:
        """Smallest ledger ≥ index that a usable node says it holds."""
        starts = [
            max(first, index) for node in self.nodes if node.usable for first, last in node.state.held if last >= index
        ]  # fmt: skip
        return min(starts, default=None)


def checked(node: Node, index: int, answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, if it is the validated ledger that was asked for; else NotFound or NodeError."""
    ledger = answer.get("ledger")
    if not isinstance(ledger, Mapping):
        raise NodeError(f"{node.name}: an answer to ledger {index} without a ledger")
    if answer.get("validated") is not True:
        raise NotFound(f"{node.name}: ledger {index} is not validated there yet")
    told = answer.get("ledger_index", ledger.get("ledger_index"))
    if told is not None and str(told) != str(index):
        raise NodeError(f"{node.name}: asked for ledger {index}, it answers {str(told)[:20]}")
    return answer
