"""The books role: whole blocks → double entry in TigerBeetle, and what was booked to books.transfers.v1.
Applications' events are decided here too, for the engine is here: pipeline.agents.applications.

Thin: the catalog's rules say what to post, sinks.bookkeeper posts it. What this role adds is the
refusal to book past a hole: a block that can't be read or numbered, or that does not come next, stops its
chain here, is quarantined whole, and nothing after it is acknowledged. What comes next on a chain that
takes nothing back is told by its last block in the books; where blocks are taken back, by those that stand
(pipeline.domain.branch). Both are the books' own: a new process knows them too. What the books themselves refuse
stops the chain it came from; where that leaves no chain, the process ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.agents.applications import Applications
from pipeline.agents.books_records import refusals, transfer_records
from pipeline.agents.quarantining import quarantine_loudly
from pipeline.agents.role import Done, Epochs, Message, NotFree, Place
from pipeline.agents.starting_state import STATES, StatePages
from pipeline.catalog import APPLICATIONS, CATALOG, EventType
from pipeline.domain.block_facts import BlockFacts
from pipeline.domain.branch import Branch, OutOfLine
from pipeline.domain.findings import alert, alerts_of
from pipeline.domain.position import PositionOverflow, block_base
from pipeline.domain.posting.legs import Finding, Unbalanced
from schemas.codec import Codec, WireError
from sinks.bookkeeper import BlockPosting, Bookkeeper, BooksDefect, ChainFault, Head, Posted
from sinks.books import BooksInUseError
from sinks.offchain import OffchainBooks
from topics.envelope import outgoing
from topics.producer import Outgoing

EVENTS_MAX = 256  # of applications, a batch: an event is small, a batch is fsynced


class Stop(Exception):
    """This chain's books can't go on: reason in one word, and the facts."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(slots=True)
class _Read:
    """A message of a batch: its record and facts, or why it can't be read."""

    message: Message
    block: Any = None
    facts: BlockFacts | None = None
    fault: WireError | None = None
    known: bool = False  # of a chain that takes blocks back: wholly booked before this batch


class BooksRole:
    """Consumer group `books`."""

    name = "books"
    batch_max = 64
    batch_wait_s = 0.05

    def __init__(self, open_books: Callable[[], Any], codec: Codec, applications: Path | None = None) -> None:
        """`applications` is the folder of the applications' states; None: chains alone."""
        self._open_books, self._codec = open_books, codec
        self._epochs: Epochs = {}
        self._rows: dict[str, EventType] = {row.topic: row for row in CATALOG if row.postings is not None}
        rows = APPLICATIONS if applications is not None else ()
        self._applications = Applications(
            rows, applications or Path(), codec, lambda: OffchainBooks(self._engine, again=True)
        )
        self.topics = (*self._rows, *self._applications.topics)
        self.batch_sizes = dict.fromkeys(self._applications.topics, EVENTS_MAX)
        self._heads: dict[str, Head | None] = {}  # chain -> last block accepted
        self._accepted: set[tuple[str, int, int, str]] = set()  # blocks of the batch at hand
        self._branches: dict[str, Branch] = {}  # chain that takes blocks back -> what stands
        self._first: dict[str, int] = {}  # such a chain -> the first block ever booked
        self._unread: dict[
            tuple[str, int], Message
        ] = {}  # (topic, partition) → undecodable message behind the head
        self._told: set[str] = set()  # alerts already published by this process
        self._stops: dict[int, list[Outgoing]] = {}  # partition -> what tells of its stop
        self._chains: set[int] = set()  # numbers of the chains read of by this process
        self._broken: set[int] = set()  # of those, the chains that a defect stopped

    async def open(self, app: Any, epochs: Epochs) -> None:
        self._epochs = self._applications.epochs = epochs
        try:
            self._engine = await asyncio.to_thread(self._open_books)
        except BooksInUseError as error:
            raise NotFree(str(error)) from error
        self._bookkeeper = Bookkeeper(self._engine)
        self._states = StatePages(self._codec, self._bookkeeper, self._quarantine, transfer_records)

    def assigned(self, places: set[Place]) -> dict[Place, int]:
        self._heads.clear()  # another process may have booked on
        self._branches.clear()
        self._first.clear()
        self._unread.clear()
        return self._applications.assigned({topic for topic, _ in places})

    async def close(self) -> None:
        await asyncio.to_thread(self._applications.close)
        await asyncio.to_thread(self._engine.close)

    async def process(self, topic: str, batch: list[Message]) -> Done:
        if topic in self._applications.topics:
            return await asyncio.to_thread(self._applications.process, topic, batch)
        if topic == STATES:
            return await asyncio.to_thread(self._states.process, batch)
        return await asyncio.to_thread(self._process, topic, batch)

    def _process(self, topic: str, batch: list[Message]) -> Done:
        done = Done()
        self._accepted.clear()
        self._stops.clear()
        accepted: list[tuple[_Read, BlockPosting]] = []
        for one in self._read(topic, batch):
            if one.message.partition in done.stops:
                continue
            posting = self._accept(topic, one, done)
            if posting is not None:
                accepted.append((one, posting))
        self._book(accepted, done)
        done.outgoing += [told for notes in self._stops.values() for told in notes]
        return done

    def _read(self, topic: str, batch: list[Message]) -> list[_Read]:
        """The messages of a batch; those of chains that take blocks back are looked up in the books, all at once."""
        facts_of = self._rows[topic].facts
        read: list[_Read] = []
        for message in batch:
            one = _Read(message)
            try:
                one.block = self._codec.decode(message.value)[1]
                one.facts = facts_of(one.block) if facts_of is not None else None
            except WireError as error:
                one.fault = error
            read.append(one)
        asked = [one for one in read if one.facts is not None and one.facts.publication]
        for one, known in zip(asked, self._known(asked), strict=True):
            one.known = known
        return read

    def _known(self, read: list[_Read]) -> list[bool]:
        facts = [one.facts for one in read if one.facts is not None]
        try:
            return self._bookkeeper.known(facts) if facts else []
        except PositionOverflow:  # one of them: it is told when its turn comes, and can't be in the books
            return [len(read) > 1 and self._known([one])[0] for one in read]

    def _accept(self, topic: str, one: _Read, done: Done) -> BlockPosting | None:
        """What is to be booked of a message; None where it can't be, which `done` then tells."""
        message = one.message
        where = (topic, message.partition)
        if one.fault is not None:
            done.outgoing += self._quarantine(message, one.fault.reason, str(one.fault))
            self._unread[where] = message
            return None
        facts = one.facts
        assert facts is not None  # every topic with postings has facts
        try:
            posting = self._posting(topic, one.block, facts)
            if facts.publication:
                self._follow_branch(one, facts, self._unread.pop(where, None))
            else:
                self._follow(one.block, facts, posting, self._unread.pop(where, None))
        except (Stop, PositionOverflow, Unbalanced) as error:
            reason = error.reason if isinstance(error, Stop) else type(error).__name__
            self._stop(one, facts, reason, str(error), done)
            return None
        return posting

    def _stop(self, one: _Read, facts: BlockFacts, reason: str, detail: str, done: Done) -> None:
        """The chain's books, and its partition, stop before this message and not at a later one."""
        self._stops[one.message.partition] = self._stopped(one.message, facts, reason, detail)
        what = "block" if facts.publication else "ledger"
        why = f"{facts.chain}: books stop before {what} {facts.number}: {detail}"
        done.stops[one.message.partition] = (one.message.offset, why)

    def _book(self, accepted: list[tuple[_Read, BlockPosting]], done: Done) -> None:
        transfers = transactions = 0
        self._chains.update(posting.chain_number for _, posting in accepted)
        booked = self._apply(accepted, done)
        for one, posting, mine in booked:
            transfers += len(mine)
            transactions += len(one.block["transactions"])
            done.outgoing += self._findings(one, posting.postings.findings)
            done.outgoing += self._alerts(one, refusals(posting, mine))
            for record in transfer_records(one.block, posting, mine, self._bookkeeper.book_of):
                done.outgoing.append(outgoing(self._codec, "books.transfers.v1", record["asset"], record))
        done.counts = {"blocks": len(booked), "transactions": transactions, "transfers": transfers}
        if booked:
            done.counts = {**done.counts, "block": booked[-1][1].block}

    def _apply(
        self, accepted: list[tuple[_Read, BlockPosting]], done: Done
    ) -> list[tuple[_Read, BlockPosting, list[Posted]]]:
        """What came of each message; where the books refuse one, the others are booked one by one."""
        try:
            posted = self._bookkeeper.apply([posting for _, posting in accepted])
        except (BooksDefect, OverflowError):
            return self._apply_singly(accepted, done)
        return [(*both, mine) for both, mine in zip(accepted, posted, strict=True)]

    def _apply_singly(
        self, accepted: list[tuple[_Read, BlockPosting]], done: Done
    ) -> list[tuple[_Read, BlockPosting, list[Posted]]]:
        """The same, but a message that the books refuse stops its chain. Raises BooksDefect, OverflowError if a
        defect leaves no chain that goes on: then it may be the engine's."""
        booked: list[tuple[_Read, BlockPosting, list[Posted]]] = []
        for one, posting in accepted:
            message, facts = one.message, one.facts
            assert facts is not None  # it was accepted
            if message.partition in done.stops and message.offset > done.stops[message.partition][0]:
                continue
            try:
                booked.append((one, posting, self._bookkeeper.apply([posting])[0]))
            except ChainFault as fault:
                self._stop(one, facts, fault.reason, str(fault), done)
            except (BooksDefect, OverflowError) as defect:
                self._broken.add(posting.chain_number)
                if self._broken >= self._chains | self._bookkeeper.chains():
                    raise
                self._stop(one, facts, "defect", str(defect), done)
        return booked

    def _follow(self, block: Any, facts: BlockFacts, posting: BlockPosting, unread: Message | None) -> None:
        """Raise Stop unless this block follows the last one booked, or is one that is booked already.

        The head is the books' own: a new process knows it too.
        """
        chain, index, chunk = facts.chain, facts.number, facts.chunk
        for tx in block["transactions"]:
            if tx["error"] is not None and not _effects(tx):
                raise Stop("no_effects", f"transaction {tx['hash']}: {tx['error']}")
        if chain not in self._heads:
            self._heads[chain] = self._bookkeeper.head(chain, facts.chain_number)
        head = self._heads[chain]
        if head is None and self._bookkeeper.began(chain, facts.run) is False:
            raise Stop(
                "other_run", f"run {facts.run} is not the one that the starting state in the books begins"
            )
        if head is not None and (index, chunk) <= (head.block, head.chunk):
            if (chain, index, chunk, posting.block_hash) in self._accepted or self._bookkeeper.has(posting):
                return
            raise Stop("fork", f"ledger {index} with hash {posting.block_hash} is not the one that is booked")
        if not _continues(head, facts):
            last = f"ledger {head.block} chunk {head.chunk} of {head.chunks}" if head else "the start"
            raise Stop("hole", f"ledger {index} chunk {chunk} does not follow {last} ({_between(unread)})")
        self._accepted.add((chain, index, chunk, posting.block_hash))
        self._heads[chain] = Head(index, posting.block_hash[:16], chunk, facts.chunks)

    def _follow_branch(self, one: _Read, facts: BlockFacts, unread: Message | None) -> None:
        """Raise Stop unless this message comes next on what stands, or is one that came before."""
        branch = self._branches.get(facts.chain)
        if branch is None:
            branch = self._branches[facts.chain] = self._bookkeeper.branch(facts.chain, facts.chain_number)
        step = facts.step
        if one.known or branch.seen(step):
            return
        try:
            branch.judge(step)
        except OutOfLine as error:
            raise Stop(error.reason, f"{error} ({_between(unread)})") from None
        branch.take(step)

    def _posting(self, topic: str, block: Any, facts: BlockFacts) -> BlockPosting:
        rule = self._rows[topic].postings
        assert rule is not None  # only such topics are read
        block_hash = facts.hash or "0" * 64
        block_base(facts.chain_number, facts.number, block_hash, facts.incarnation)  # or PositionOverflow
        return BlockPosting(
            chain=facts.chain,
            chain_number=facts.chain_number,
            run=facts.run,
            block=facts.number,
            block_hash=block_hash,
            chunk=facts.chunk,
            chunks=facts.chunks,
            run_coins=block.get("run_coins"),
            postings=rule(block),
            hashes={tx["transaction_index"]: tx["hash"] for tx in block["transactions"]},
            first_run=bool(facts.publication) and facts.run == self._first_block(facts),
            finality=facts.finality,
            incarnation=facts.incarnation,
            publication=facts.publication,
        )

    def _first_block(self, facts: BlockFacts) -> int:
        """Number of the first block ever booked of a chain: the one at hand, where there is none."""
        if facts.chain not in self._first:
            booked = self._bookkeeper.first_block(facts.chain, facts.chain_number)
            self._first[facts.chain] = facts.number if booked is None else booked
        return self._first[facts.chain]

    def _quarantine(self, message: Message, reason: str, detail: str) -> list[Outgoing]:
        chain = (message.key or b"").decode(errors="replace")
        epoch = self._epochs[message.topic]
        return quarantine_loudly(self._codec, self.name, message, epoch, reason, detail, chain)

    def _stopped(self, message: Message, facts: BlockFacts, reason: str, detail: str) -> list[Outgoing]:
        note = alert(
            "chain_stopped", "critical", facts.chain, str(facts.number),
            block=facts.number, time=facts.time,
            evidence={"reason": reason, "detail": detail},
        )  # fmt: skip
        return [
            *self._quarantine(message, reason, detail),
            outgoing(self._codec, "control.alerts.v1", "chain_stopped", note),
        ]

    def _findings(self, one: _Read, findings: list[Finding]) -> list[Outgoing]:
        facts = one.facts
        assert facts is not None
        found = self._alerts(one, findings)
        if facts.gap is not None:
            first, last = map(str, facts.gap)
            note = alert(
                "gap_accepted", "warning", facts.chain, f"{first}-{last}",
                block=facts.number, time=facts.time, evidence={"from": first, "to": last},
            )  # fmt: skip
            found.append(outgoing(self._codec, "control.alerts.v1", "gap_accepted", note))
        return found

    def _alerts(self, one: _Read, findings: list[Finding]) -> list[Outgoing]:
        """Alerts of findings that this process has not told yet."""
        facts = one.facts
        assert facts is not None
        found = []
        for note in alerts_of(findings, facts.chain, facts.number, facts.time):
            if note["id"] not in self._told:
                self._told.add(note["id"])
                found.append(outgoing(self._codec, "control.alerts.v1", note["rule"], note))
        return found


def _effects(tx: Any) -> bool:
    """Did anything of an undecodable transaction come through?"""
    return bool(tx["balance_changes"] or tx["object_changes"] or tx["mpt_changes"] or tx["nft_changes"])


def _between(unread: Message | None) -> str:
    return f"{f'an undecodable message at offset {unread.offset}' if unread else 'nothing'} stands between"


def _continues(head: Head | None, facts: BlockFacts) -> bool:
    """Does this block (or chunk) come right after what is booked?"""
    index, chunk = facts.number, facts.chunk
    begins = facts.run == index  # a new run: the ingest has told of the gap
    if head is None:
        return begins and chunk == 0
    if index == head.block or chunk != 0:
        return index == head.block and chunk == head.chunk + 1
    if head.chunk != head.chunks - 1:
        return False
    parent = facts.parent
    return begins or (index == head.block + 1 and (parent is None or parent[:16] == head.block_hash))
