"""Blocks that may be taken back: head = pending, final = post, retracted = void.

What is asked of the engine follows from what stands there: each leg of a block has the id of its place (phase 0),
under which it is pending or was booked at once; phase 1 posts it, phase 2 voids it. So before a block is posted or
voided its legs are looked up: a post of what isn't there would burn the id for ever. A final block that was never
pending is booked at once, and a message whose mark is in the books asks for nothing any more: it is only told again.

A leg that the account's 128 bits can't take is refused and told so; its book lacks it. Legs that the mark of their
message doesn't know aren't refused ones: then nothing is booked and the chain stops. docs/decisions/0010.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from tigerbeetle import TransferFlags

from pipeline.domain.position import Phase, block_base
from pipeline.domain.posting.legs import Leg
from sinks.bookkeeper_accounts import Accounts
from sinks.bookkeeper_blocks import (
    ZERO,
    BlockPosting,
    ChainFault,
    Posted,
    Stored,
    accounts_of,
    content_of,
    transaction_data,
)
from sinks.bookkeeper_marks import Marks, Told, kind_of, place_of
from sinks.bookkeeper_openings import Asked, Openings
from sinks.bookkeeper_status import OVERFLOWS, REFUSED, check
from sinks.books import TRANSFER_STRUCT

PENDING: Final = int(TransferFlags.PENDING)
_POST: Final = int(TransferFlags.POST_PENDING_TRANSFER)
_VOID: Final = int(TransferFlags.VOID_PENDING_TRANSFER)
_STATUS: Final = {0: "posted", PENDING: "pending", _POST: "posted", _VOID: "voided"}
_PHASE: Final = {0: Phase.SINGLE, PENDING: Phase.SINGLE, _POST: Phase.POST, _VOID: Phase.VOID}


class TwoPhase:
    """Books blocks of chains that reorganise into one engine."""

    def __init__(self, accounts: Accounts, openings: Openings, marks: Marks) -> None:
        self._accounts, self._openings, self._marks = accounts, openings, marks

    def apply(self, blocks: Sequence[BlockPosting]) -> list[list[Posted]]:
        """Book a group of `consecutive` blocks of one run; per block what now stands because of it.

        Raises ChainFault if the books hold what rules one out, BooksDefect if the engine refuses, PositionOverflow
        if a block can't be numbered.
        """
        told = self._marks.of([place_of(block) for block in blocks])
        self._accounts.create(accounts_of(blocks))
        contents = [content_of(block, self._accounts.ids) for block in blocks]
        for block, of, content in zip(blocks, told, contents, strict=True):
            _judge(block, of, content)
        stored = self._accounts.stored(_leg_ids(blocks, told))
        balances = self._openings.balances(blocks)
        events: list[bytes] = []
        asked: list[Asked] = []
        posted: list[list[Posted]] = []
        marks: list[bytes] = []
        legs: list[tuple[int, int, int]] = []  # place in events, block, place in its posted
        for number, (block, of) in enumerate(zip(blocks, told, strict=True)):
            if block.finality != "retracted":
                asked += self._openings.ask(block, number, balances, events, again=of.done)
            mine = self._legs(block, of, stored)
            if not of.done:
                for place, (_, event) in enumerate(mine):
                    if event is not None:
                        legs.append((len(events), number, place))
                        events.append(event)
                marks.append(self._marks.event(block, kind_of(block.finality, of.headed), contents[number]))
            posted.append([transfer for transfer, _ in mine])
        done = self._send(blocks, events, asked, legs, posted)
        for mark, status in zip(marks, self._accounts.send(marks).tolist(), strict=True):
            check(mark[:16], status)  # no sooner: of a block with a mark nothing is asked any more
        return done

    def _send(
        self,
        blocks: Sequence[BlockPosting],
        events: list[bytes],
        asked: list[Asked],
        legs: list[tuple[int, int, int]],
        posted: list[list[Posted]],
    ) -> list[list[Posted]]:
        statuses = self._accounts.send(events)
        opened = self._openings.confirm(blocks, asked, statuses)
        openings = {one.event for one in asked}
        of_leg = {event: (block, place) for event, block, place in legs}
        for event, status in enumerate(statuses.tolist()):
            if status in OVERFLOWS and event in of_leg:
                block, place = of_leg[event]
                posted[block][place] = replace(posted[block][place], status="refused", reason=REFUSED)
            elif event not in openings:
                check(events[event][:16], status)
        return [first + rest for first, rest in zip(opened, posted, strict=True)]

    def _legs(
        self, block: BlockPosting, told: Told, stored: Mapping[bytes, Stored]
    ) -> list[tuple[Posted, bytes | None]]:
        """The block's legs as they stand after it, each with what is to be asked of the engine, if anything."""
        base = block_base(block.chain_number, block.block, block.block_hash, block.incarnation)
        found: list[tuple[Posted, bytes | None]] = []
        index, user = -1, ZERO
        for leg in block.postings.legs:
            if leg.transaction != index:
                index, user = leg.transaction, transaction_data(block, leg.transaction)
            place = base | leg.transaction << 18 | leg.leg << 2
            there = stored.get(place.to_bytes(16, "little"))
            if there is not None:
                self._verify(leg, place, there)
            flags = _flags(block, told, there)
            if flags is not None:
                found.append(self._asked(block, leg, place, flags, user))
            elif block.finality != "retracted":
                # told again as final it is another transfer, as what is posted: no row of the history is there twice
                phase = _POST if block.finality == "final" and told.headed else 0
                found.append((_posted(leg, place, phase, "refused"), None))
        return found

    def _asked(
        self, block: BlockPosting, leg: Leg, place: int, flags: int, user: bytes
    ) -> tuple[Posted, bytes]:
        transfer = _posted(leg, place, flags, _STATUS[flags])
        ids = self._accounts.ids
        event = TRANSFER_STRUCT.pack(
            transfer.transfer_id, ids[leg.debit], ids[leg.credit], leg.amount.to_bytes(16, "little"),
            transfer.pending_id or ZERO, user, block.block, block.chain_number, 0,
            self._accounts.ledgers[leg.debit.asset], leg.code, flags, 0,
        )  # fmt: skip
        return transfer, event

    def _verify(self, leg: Leg, place: int, there: Stored) -> None:
        ids = self._accounts.ids
        wanted = (ids[leg.debit], ids[leg.credit], leg.amount, leg.code)
        if wanted != (there.debit, there.credit, there.amount, there.code):
            raise ChainFault(
                "other_content", f"transfer {place:032x}: the books hold another one under this id"
            )


def _judge(block: BlockPosting, told: Told, content: int) -> None:
    """Raise ChainFault if the marks there rule this message out."""
    name = f"block {block.block} {block.block_hash[:16]} {block.finality} ({block.incarnation})"
    if told.fault == "collision":
        raise ChainFault("collision", f"{name}: another block in the books has the same transfer ids")
    if told.fault:
        raise ChainFault(told.fault, f"{name}: the books hold another end of it")
    if any(known and known != content for known in told.contents):
        raise ChainFault("other_content", f"{name}: the books hold other transfers of it")


def _leg_ids(blocks: Sequence[BlockPosting], told: Sequence[Told]) -> list[bytes]:
    """Ids of phase 0 of all legs whose fate depends on what is there: of a new head none does."""
    idents = []
    for block, of in zip(blocks, told, strict=True):
        if block.finality == "head" and not of.done:
            continue
        base = block_base(block.chain_number, block.block, block.block_hash, block.incarnation)
        idents += [
            (base | leg.transaction << 18 | leg.leg << 2).to_bytes(16, "little")
            for leg in block.postings.legs
        ]
    return idents


def _flags(block: BlockPosting, told: Told, there: Stored | None) -> int | None:
    """Flags of the transfer that a message means for a leg; None: it means none, for the leg isn't there."""
    if there is None:
        if told.done or block.finality == "retracted" or (block.finality == "final" and told.headed):
            return None
        return PENDING if block.finality == "head" else 0
    if block.finality == "head":
        return PENDING
    if not there.flags & PENDING:
        if block.finality == "retracted":
            raise ChainFault(
                "order", f"block {block.block} {block.block_hash} is final in the books and is retracted"
            )
        return 0
    return _POST if block.finality == "final" else _VOID


def _posted(leg: Leg, place: int, flags: int, status: str) -> Posted:
    ident = (place | _PHASE[flags]).to_bytes(16, "little")
    pending = place.to_bytes(16, "little") if flags in (_POST, _VOID) else b""
    reason = REFUSED if status == "refused" else None
    return Posted(
        ident, leg.debit, leg.credit, leg.amount, leg.code, leg.transaction, leg.leg, status, pending, reason
    )
