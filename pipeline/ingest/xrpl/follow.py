"""The line of ledgers that nodes give: fetched in parallel, checked and published strictly in order.

Backfill and live are one loop: ledgers up to the newest validated one are asked for ahead of time, as
many at once as the settings say, and published as they come next. What a node gives is refused if it
contradicts itself, the line, or the other nodes; then another node is asked. A ledger that no node has is
an open gap: it is told, asked for again and again, and gone past only if somebody accepted it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise, takewhile
from typing import Any, Final

from pipeline.domain.decode.xrpl_errors import RecordedError
from pipeline.domain.decode.xrpl_shapes import read_header, split_ledger
from pipeline.domain.verdict import NO_VALIDATORS, Tally
from pipeline.domain.xrpl_validation import Validators
from pipeline.ingest.ledgers import LedgerLine, Ready, Stopped
from pipeline.ingest.publish import Published, Publisher
from pipeline.ingest.runner import BATCH_BYTES, BATCH_LEDGERS
from pipeline.ingest.xrpl.node import Node, NodeError
from pipeline.ingest.xrpl.nodes import Missing, Nodes, NoNode
from pipeline.ingest.xrpl.witnesses import WITNESS_WAIT_S, Votes, Witnesses
from schemas.records import Check

GAP_GRACE_S: Final = 5.0  # a node may announce a ledger before it can be read there
GAP_ROUNDS: Final = 3  # all nodes are asked so often before an accepted gap is gone past
GAP_ABSENT_S: Final = 60.0  # a node that is away so long need not be asked for it
ASK_AGAIN_S: Final = (0.2, 15.0)
VALIDATIONS_WAIT_S: Final = 3.0
LATENCIES_KEPT: Final = 10_000


class Forked(Exception):
    """The nodes' chain does not lead to the ledger that was published last."""


@dataclass(frozen=True)
class Fetched:
    """A ledger as a node gave it."""

    recorded: dict[str, Any]
    node: Node

    @cached_property
    def header(self) -> Mapping[str, Any] | None:
        """Its header; None where it can't be read: then it will be refused."""
        try:
            return read_header(split_ledger(self.recorded))
        except RecordedError:
            return None

    @property
    def ledger_hash(self) -> str:
        """The ledger's hash as it was given; "" where it can't be read."""
        return str(self.header["ledger_hash"] or "") if self.header else ""


@dataclass
class Plan:
    """What is to be followed."""

    first: int
    last: int | None  # None: for ever
    accept_gap: bool = False
    parallel: int = 16
    binary: bool = True  # the level full recomputes roots from the very bytes
    skip: int = 0  # chunks of `first` that are there already


@dataclass
class Waiting:
    """A ledger that no node has, for now."""

    since: float = field(default_factory=time.monotonic)
    rounds: int = 0
    whole_rounds: int = 0  # in which every node was there


class Follower:
    """One chain's ingest. One per process."""

    def __init__(
        self, nodes: Nodes, line: LedgerLine, publisher: Publisher, plan: Plan,
        validators: Validators | None, tell: Callable[[Published], None],
    ) -> None:  # fmt: skip
        self._nodes, self._line, self._publisher, self._plan = nodes, line, publisher, plan
        self._validators, self._tell = validators, tell
        self._window: dict[int, asyncio.Task[Fetched | None]] = {}
        self._waiting: dict[int, Waiting] = {}
        self._witnesses = Witnesses(nodes)
        self.next = plan.first
        self.seen: dict[int, float] = {}  # ledger -> monotonic time when its validation was first told
        # seconds from hearing that a ledger is validated to its acknowledgement, the newest
        self.latencies: deque[float] = deque(maxlen=LATENCIES_KEPT)
        self.measured = 0  # of them, since the beginning
        self.published_at = time.monotonic()

    def saw(self, index: int) -> None:
        """A node told that this ledger is validated."""
        if self.next <= index < self.next + LATENCIES_KEPT:
            self.seen.setdefault(index, time.monotonic())

    async def run(self) -> None:
        """Until the last ledger of the plan. Raises Forked, BrokerError."""
        try:
            while self._plan.last is None or self.next <= self._plan.last:
                await self._step()
                self._tell(self._publisher.state)
        finally:
            tasks = list(self._window.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _step(self) -> None:
        self._fill()
        first = self._window.get(self.next)
        if first is None or not first.done():
            await asyncio.wait([first], timeout=1.0) if first else await self._nodes.wait(0.5)
            return
        if first.result() is None:
            await self._lacking(self.next)
            return
        self._waiting.pop(self.next, None)
        await self._publish(self._in_order())

    def _fill(self) -> None:
        """Ask ahead, at most `parallel` ledgers at once, never beyond the newest validated one."""
        upto = min(self.next + self._plan.parallel - 1, self._nodes.tip)
        if self._plan.last is not None:
            upto = min(upto, self._plan.last)
        for index in range(self.next, upto + 1):
            if index not in self._window:
                self._window[index] = asyncio.create_task(self._fetch(index), name=f"ledger-{index}")

    async def _fetch(self, index: int) -> Fetched | None:
        """The ledger, None if no node has it. While no node can be asked at all, wait."""
        pause = ASK_AGAIN_S[0]
        while True:
            try:
                return Fetched(*await self._nodes.ledger(index, self._plan.binary))
            except Missing:
                return None
            except NoNode:
                await self._nodes.wait(pause)
                pause = min(2 * pause, 2.0)

    def _in_order(self) -> list[Fetched]:
        """What is there of the ledgers that come next."""
        found = []
        for index in range(self.next, self.next + BATCH_LEDGERS):
            task = self._window.get(index)
            if task is None or not task.done() or task.result() is None:
                break
            found.append(task.result())
        return found

    async def _publish(self, fetched: list[Fetched]) -> None:
        """Check, decode and publish what comes next; refuse the first that does not fit."""
        fetched = linked(fetched)
        if self._validators is not None:
            await self._await_quorum(fetched)
            if (stopped := self._contradicted(fetched[0])) is not None:
                await self._refused(stopped, fetched[0])
                return
            fetched = list(takewhile(lambda one: self._contradicted(one) is None, fetched))
        await self._await_witness(fetched)
        fetched, votes = await self._witnessed(fetched)
        if votes.disputed:
            await self._refused(self._outvoted(fetched[0], votes), fetched[0])
            return
        batch, refused = await asyncio.to_thread(self._prepare, fetched, votes.check())
        verdicts = []
        for (ready, checks), one in zip(batch, fetched, strict=False):
            if ready.gap is not None:
                await self._publisher.gap(*ready.gap, skipped=True)
            tally = self._tally(ready)
            verdicts += self._publisher.watermark.block(ready.block, one.node.name, checks, tally)
        if batch:
            skip, self._plan.skip = self._plan.skip, 0
            await self._publisher.ledgers([ready for ready, _ in batch], verdicts, skip)
            self._published(len(batch))
        if refused is not None:
            await self._refused(refused, fetched[len(batch)])

    def _published(self, count: int) -> None:
        now = time.monotonic()
        for index in range(self.next, self.next + count):
            self._window.pop(index).cancel()
            since = self.seen.pop(index, None)
            if since is not None:
                self.latencies.append(now - since)
                self.measured += 1
        self.published_at = now
        self.next += count
        gap = self._publisher.state.open_gap
        if gap is not None:
            still = (self.next, gap[1]) if self.next <= gap[1] else None
            self._publisher.state.open_gap = still

    def _prepare(
        self, fetched: list[Fetched], witnesses: Check
    ) -> tuple[list[tuple[Ready, list[Check]]], Stopped | None]:
        """(ledgers ready to publish with their checks, why the one after them is refused)."""
        found: list[tuple[Ready, list[Check]]] = []
        size = 0
        for place, one in enumerate(fetched):
            if size >= BATCH_BYTES:
                break
            index = self.next + place
            try:
                _must_be(index, one)
                ready = self._line.block(one.recorded)
            except RecordedError as error:
                return found, Stopped("undecodable", str(error), index, one.recorded)
            except Stopped as stopped:
                stopped.place = index
                return found, stopped
            found.append((ready, [*ready.checks, witnesses]))
            size += sum(len(encoded) for _, encoded in ready.chunks)
        return found, None

    async def _witnessed(self, fetched: list[Fetched]) -> tuple[list[Fetched], Votes]:
        """What of the batch is judged, and the votes on it: all of it, or the first ledger where it is disputed."""
        last = self.next + len(fetched) - 1
        ledger_hash = fetched[-1].ledger_hash
        signed = self._validators.validated(last) if self._validators is not None else None
        if not ledger_hash or signed == ledger_hash.upper():  # it will be refused; nodes have no say
            return fetched, Votes(1, 0)
        votes = await self._witnesses.of_last(last, ledger_hash, fetched[-1].node)
        if votes.disputed:
            first, head = fetched[0], self._line.head
            parent = head.ledger_hash if head is not None and head.ledger_index == self.next - 1 else None
            fetched = fetched[:1]
            votes = await self._witnesses.of_next(self.next, first.ledger_hash, first.node, parent)
        return fetched, votes

    def _outvoted(self, one: Fetched, votes: Votes) -> Stopped:
        return Stopped(
            "witnesses",
            f"ledger {self.next}: {votes.others} of the nodes have another one than {one.ledger_hash}",
            self.next, one.recorded,
        )  # fmt: skip

    def _tally(self, ready: Ready) -> Tally:
        if self._validators is None:
            return NO_VALIDATORS
        block = ready.block
        return Tally(**self._validators.tally(block["ledger_index"], block["ledger_hash"] or ""))

    def _contradicted(self, one: Fetched) -> Stopped | None:
        """Have the validators signed another ledger in its place? Then none of what nodes say counts."""
        assert self._validators is not None
        if one.header is None:
            return None
        index = one.header["ledger_index"]
        signed = self._validators.validated(index)
        if signed is None or signed == one.ledger_hash.upper():
            return None
        return Stopped(
            "validations", f"ledger {index}: the validators signed {signed}, this one is {one.ledger_hash}",
            index, one.recorded,
        )  # fmt: skip

    async def _await_quorum(self, fetched: list[Fetched]) -> None:
        """Validations of a new ledger come about when it does; those of old ledgers never come."""
        assert self._validators is not None
        deadline = time.monotonic() + VALIDATIONS_WAIT_S
        last = self.next + len(fetched) - 1
        ledger_hash = fetched[-1].ledger_hash
        while last in self.seen and time.monotonic() < deadline:
            tally = Tally(**self._validators.tally(last, ledger_hash))
            if tally.reached:
                return
            await self._nodes.wait(0.1)

    async def _await_witness(self, fetched: list[Fetched]) -> None:
        """What nothing follows yet should be known to a second node too, where there is a current one."""
        last = self.next + len(fetched) - 1
        deadline = time.monotonic() + WITNESS_WAIT_S
        while last in self.seen and self._nodes.current(last) > 1 and time.monotonic() < deadline:
            if len(self._witnesses.announced(last)) > 1:
                return
            await self._nodes.wait(0.1)

    async def _refused(self, stopped: Stopped, one: Fetched) -> None:
        """Somebody is wrong: the node that gave this ledger, or the line itself."""
        await self._publisher.refuse(stopped, one.node.name)
        if stopped.reason == "parent_hash" and await self._nobody_has_our_head():
            raise Forked(
                f"{stopped}; no node of TIDEBOOK_XRPL_URLS has the ledger that was published last: check the "
                "nodes, or follow the other chain with another --data-dir and other topics"
            )
        one.node.distrust(str(stopped))
        for later, task in list(self._window.items()):
            if task.done() and (given := task.result()) is not None and given.node is one.node:
                del self._window[later]

    async def _nobody_has_our_head(self) -> bool:
        """Is the ledger published last in no node's chain, and in most nodes' there is another?

        Most of all nodes, not of those that can be asked at the moment: one alone must not end the ingest.
        """
        head = self._line.head
        if head is None or head.ledger_hash is None:
            return False
        others = 0
        for node in self._nodes.candidates(head.ledger_index):
            with contextlib.suppress(NodeError):
                answer = await node.ask("ledger", ledger_index=head.ledger_index)
                if answer.get("validated") is not True:
                    continue
                if answer.get("ledger_hash") == head.ledger_hash:
                    return False
                others += 1
        return 2 * others > sum(node.unusable is None for node in self._nodes.nodes)

    async def _lacking(self, index: int) -> None:
        """No node has the ledger that comes next: ask again, tell the gap, go past it if that is accepted."""
        waiting = self._waiting.setdefault(index, Waiting())
        waiting.rounds += 1
        waiting.whole_rounds += all(node.usable or node.unusable for node in self._nodes.nodes)
        waited_s = time.monotonic() - waiting.since
        if waited_s >= GAP_GRACE_S:
            beyond = self._beyond(index)
            last = (beyond or self._nodes.tip + 1) - 1
            if last >= index and self._publisher.state.open_gap != (index, last):
                await self._publisher.gap(index, last, skipped=False)
            rounds = waiting.rounds if waited_s >= GAP_ABSENT_S else waiting.whole_rounds
            if self._plan.accept_gap and rounds >= GAP_ROUNDS and await self._can_be_read(beyond):
                assert beyond is not None
                await self._skip_to(beyond)
                return
        first, longest = ASK_AGAIN_S
        await self._nodes.wait(min(longest, first * 2 ** min(waiting.rounds, 10)))
        self._window.pop(index, None)

    def _beyond(self, index: int) -> int | None:
        """The first ledger behind the gap that some node has, or says that it has."""
        for later in range(index + 1, index + self._plan.parallel):
            task = self._window.get(later)
            if task is not None and task.done() and task.result() is not None:
                return later
        return self._nodes.next_held(index + 1)

    async def _can_be_read(self, index: int | None) -> bool:
        """Does a node really give this ledger? What it says of its history may be wrong."""
        task = self._window.get(index) if index is not None else None
        if task is not None and task.done() and task.result() is not None:
            return True
        try:
            return index is not None and bool(await self._nodes.ledger(index, self._plan.binary))
        except (Missing, NoNode):
            return False

    async def _skip_to(self, beyond: int) -> None:
        """Go past an accepted gap; the ledger behind it tells it, where it is still wanted."""
        last = self._plan.last
        if last is not None and beyond > last:
            await self._publisher.gap(self.next, last, skipped=True)
            beyond = last + 1
        for index in range(self.next, beyond):
            if (task := self._window.pop(index, None)) is not None:
                task.cancel()
        self._waiting.clear()
        self.next = beyond


def _must_be(index: int, one: Fetched) -> None:
    """Is it the ledger that was asked for, also inside? Raises Stopped."""
    found = index if one.header is None else one.header["ledger_index"]  # unreadable: the decoder says how
    if found != index:
        raise Stopped(
            "other_ledger", f"asked for ledger {index}, its header says {found}", index, one.recorded
        )


def linked(fetched: list[Fetched]) -> list[Fetched]:
    """The first of them that lead to one another; at least one. Whoever is wrong is told by the nodes."""
    for place, (one, after) in enumerate(pairwise(fetched), start=1):
        if after.header is None or after.header["parent_hash"] != one.ledger_hash:
            return fetched[:place]
    return fetched
