"""Openings in the books: what accounts held before a run began, and the native coins that a run starts with.

An opening has its id from (account, run): the first attempt wins, later ones answer `exists*`. In a later run it
is the difference to what the books hold, so that it brings them to the truth. Openings are never pending.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from pipeline.domain.account import AccountRef, TransferCode
from pipeline.domain.position import named_transfer_id
from pipeline.domain.posting.evm import UNITS_END
from sinks.bookkeeper_accounts import KNOWN_MAX, Accounts, Statuses
from sinks.bookkeeper_blocks import ZERO, BlockPosting, Posted, Stored, control_accounts
from sinks.bookkeeper_marks import kind_of, place_of
from sinks.bookkeeper_status import CREATED, EXISTS, OVERFLOWS, REFUSED, check
from sinks.books import TRANSFER_STRUCT


class _Wanted(NamedTuple):
    account: AccountRef
    against: AccountRef
    change: int
    code: int
    transfer: int


@dataclass(frozen=True, slots=True)
class Asked:
    """An opening: its place among the events (None: it is not asked of the engine), the block's among the blocks."""

    event: int | None
    block: int
    transfer: Posted


class Openings:
    """Opens accounts of one engine; knows which it has opened."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._opened: set[tuple[bytes, int]] = set()  # (account id, run) known to be opened

    def forget(self) -> None:
        """Forget which accounts were opened: the engine knows."""
        self._opened.clear()

    def balances(self, blocks: Sequence[BlockPosting]) -> dict[bytes, int]:
        """What the books hold, credit-positive, for accounts that these blocks may open."""
        if len(self._opened) > KNOWN_MAX:
            self._opened.clear()
        ids = self._accounts.ids
        wanted: dict[bytes, None] = {}
        for block in blocks:
            if not block.first_run:
                idents = (ids[opening.account] for opening in block.postings.openings)
                wanted |= dict.fromkeys(one for one in idents if (one, block.run) not in self._opened)
            if block.run_coins is not None:
                wanted |= dict.fromkeys(ids[ref] for ref in control_accounts(block.chain))
        return self._accounts.balances(wanted)

    def ask(
        self,
        block: BlockPosting,
        number: int,
        balances: dict[bytes, int],
        events: list[bytes],
        again: bool = False,
    ) -> list[Asked]:
        """Append the block's openings of accounts not known to be opened in this run.

        `again`: the block is booked, so all its openings are looked up and none is asked of the engine; nor is
        one that 128 bits do not hold.
        """
        asked = []
        for account, against, change, code, transfer in self._wanted(block, balances, again):
            debit, credit = (against, account) if change >= 0 else (account, against)
            posted = Posted(transfer.to_bytes(16, "little"), debit, credit, abs(change), code, -1, 0)
            if again or (block.publication and posted.amount >= UNITS_END):
                asked.append(Asked(None, number, posted))
                continue
            asked.append(Asked(len(events), number, posted))
            events.append(self._event(posted, block))
        return asked

    def _wanted(self, block: BlockPosting, balances: dict[bytes, int], again: bool) -> list[_Wanted]:
        """What accounts had less what the books hold."""
        wanted = [] if block.run_coins is None else self._supply(block, block.run_coins, balances)
        for account, against, balance in block.postings.openings:
            ident = self._accounts.ids[account]
            if (ident, block.run) in self._opened and not again:
                continue
            self._opened.add((ident, block.run))
            # a block cut off by a kill may have left legs without an opening: they come again, and count
            held = 0 if block.first_run else balances.get(ident, 0)
            code = int(TransferCode.GAP_ADJUSTMENT if held else TransferCode.OPENING_BALANCE)
            transfer = named_transfer_id("opening", ident.hex(), str(block.run))
            wanted.append(_Wanted(account, against, balance - held, code, transfer))
        return wanted

    def _supply(self, block: BlockPosting, coins: int, balances: dict[bytes, int]) -> list[_Wanted]:
        """ISSUER → OPENING: the native coins of the run's start, so that OPENING holds what is unseen.

        In later runs: what was burnt in the gap goes OPENING → FEE_BURN.
        """
        issuer, opening, burn, _ = control_accounts(block.chain)
        ids = self._accounts.ids
        key = (ids[issuer], block.run)
        if key in self._opened:
            return []
        self._opened.add(key)
        issued, burnt = -balances.get(ids[issuer], 0), balances.get(ids[burn], 0)
        transfer = supply_id(block.chain, block.run)
        if not issued:
            return [_Wanted(opening, issuer, coins, int(TransferCode.OPENING_BALANCE), transfer)]
        fall = issued - burnt - coins
        return [_Wanted(burn, opening, fall, int(TransferCode.GAP_ADJUSTMENT), transfer)]

    def _event(self, transfer: Posted, block: BlockPosting) -> bytes:
        ids, ledgers = self._accounts.ids, self._accounts.ledgers
        return TRANSFER_STRUCT.pack(
            transfer.transfer_id, ids[transfer.debit], ids[transfer.credit],
            transfer.amount.to_bytes(16, "little"), ZERO, _origin(block),
            block.block, block.chain_number, 0, ledgers[transfer.debit.asset], transfer.code, 0, 0,
        )  # fmt: skip

    def confirm(
        self, blocks: Sequence[BlockPosting], asked: Sequence[Asked], statuses: Statuses
    ) -> list[list[Posted]]:
        """Per block its openings as they stand: one that existed is told by the message that made it.

        One that the books' 128 bits do not hold is told as refused, where blocks may ask for it.
        Raises BooksDefect for any other refusal.
        """
        confirmed: list[list[Posted]] = [[] for _ in blocks]
        told = [None if one.event is None else int(statuses[one.event]) for one in asked]
        doubtful = [one.transfer.transfer_id for one, of in zip(asked, told, strict=True) if of != CREATED]
        stored = self._accounts.stored(doubtful)
        for one, status in zip(asked, told, strict=True):
            mine, block, ident = confirmed[one.block], blocks[one.block], one.transfer.transfer_id
            if status == CREATED:
                mine.append(one.transfer)
            elif block.publication and ident not in stored and (status is None or status in OVERFLOWS):
                mine.append(_refused(one.transfer, block))
            else:
                check(ident, EXISTS if status is None else status, any_exists=True)
                found = stored[ident]
                if (found.block, found.origin) == (block.block, _origin(block)):
                    mine.append(self._as_stored(one.transfer, found, block))
        return confirmed

    def _as_stored(self, transfer: Posted, found: Stored, block: BlockPosting) -> Posted:
        ends = (transfer.debit, transfer.credit, *control_accounts(block.chain))
        ids = self._accounts.ids
        names = {ids[ref]: ref for ref in ends if ref in ids}
        debit, credit = names[found.debit], names[found.credit]
        return Posted(transfer.transfer_id, debit, credit, found.amount, found.code, -1, 0)


def _refused(transfer: Posted, block: BlockPosting) -> Posted:
    """An opening as this message was refused it, under a name of its own.

    Nothing in the books tells that it was asked for, so the next process asks again with the next message that tells
    of it: that is another refusal, or the opening is made after all.
    """
    place = place_of(block)
    message = (place.block_hash, str(place.incarnation), place.finality, str(place.chunk))
    ident = named_transfer_id("refused opening", transfer.transfer_id.hex(), *message)
    return replace(transfer, transfer_id=ident.to_bytes(16, "little"), status="refused", reason=REFUSED)


def supply_id(chain: str, run: int) -> int:
    """Id of the transfer that tells the native coins of a run's start."""
    return named_transfer_id("supply", chain, str(run))


def _origin(block: BlockPosting) -> bytes:
    """user_data_128 of an opening: names the message that asked first, so that exactly one tells of it.

    The chunk; where blocks may be taken back also which state of which block it was.
    """
    told = block.chunk
    if block.publication:
        told |= kind_of(block.finality, False) << 32 | block.incarnation << 40
        told |= int(block.block_hash[:16], 16) << 64
    return told.to_bytes(16, "little")
