"""Postings → TigerBeetle: resolves names to ids, opens books and accounts, posts, tells what became of it.

Order within a batch: books, accounts, then per block its openings, its legs and its mark. Every id is derived
from the event, so a batch that was cut off anywhere is simply sent again: `created` and `exists` are
both success. Anything else on a chain's transfer is a defect and raises BooksDefect: the chain has
decided, the books can't refuse. Chains that take blocks back: sinks.bookkeeper_finality. DESIGN.md, "Books".
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from pipeline.domain.account import account_id
from pipeline.domain.block_facts import BlockFacts
from pipeline.domain.branch import Branch
from pipeline.domain.position import block_base
from sinks.bookkeeper_accounts import Accounts, Statuses
from sinks.bookkeeper_blocks import (
    ZERO,
    BlockPosting,
    BooksDefect,
    ChainFault,
    Head,
    Posted,
    accounts_of,
    consecutive,
    control_accounts,
    transaction_data,
)
from sinks.bookkeeper_finality import TwoPhase
from sinks.bookkeeper_marks import Marks, Place, place_of
from sinks.bookkeeper_openings import Asked, Openings, supply_id
from sinks.bookkeeper_status import CREATED, EXISTS, check
from sinks.books import TRANSFER_STRUCT, Books

__all__ = ["BlockPosting", "Bookkeeper", "BooksDefect", "ChainFault", "Head", "Posted"]


class Bookkeeper:
    """Applies blocks to one engine. Not thread-safe; one per process and engine."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._accounts = Accounts(books)
        self._openings = Openings(self._accounts)
        self._marks = Marks(books, self._accounts)
        self._two_phase = TwoPhase(self._accounts, self._openings, self._marks)

    def book_of(self, asset: str) -> int:
        """Number of an asset's book; claims one if it has none yet."""
        return self._accounts.book_of(asset)

    def head(self, chain: str, chain_number: int) -> Head | None:
        """The last block (or chunk) of a chain that is in the books; None: none is."""
        return self._marks.head(chain, chain_number)

    def first_block(self, chain: str, chain_number: int) -> int | None:
        """Number of the block that was booked first of a chain; None: none is."""
        return self._marks.first_block(chain, chain_number)

    def branch(self, chain: str, chain_number: int) -> Branch:
        """Which blocks of a chain that may reorganise stand in the books."""
        return self._marks.branch(chain, chain_number)

    def has(self, block: BlockPosting) -> bool:
        """Is this very block (or chunk) of a chain that takes nothing back in the books?"""
        return self._marks.has(place_of(block))

    def known(self, facts: Sequence[BlockFacts]) -> list[bool]:
        """Of each of these messages of chains that may reorganise: is it wholly booked?

        Raises PositionOverflow if one can't be numbered.
        """
        places = [
            Place(of.chain_number, of.number, of.hash, of.incarnation, of.chunk, of.finality) for of in facts
        ]
        return [told.done for told in self._marks.of(places)]

    def began(self, chain: str, run: int) -> bool | None:
        """Has this run begun in the books? None: none of the chain has, so any may begin."""
        if self._books.lookup_transfers_packed(supply_id(chain, run).to_bytes(16, "little")):
            return True
        issuer = account_id(control_accounts(chain)[0])
        return False if any(debits for _, debits, _ in self._accounts.posted([issuer])) else None

    def chains(self) -> set[int]:
        """Numbers of the chains that were booked last."""
        return self._marks.chains()

    def apply(self, blocks: Sequence[BlockPosting]) -> list[list[Posted]]:
        """Book these blocks, those of a chain in order; per block what now stands in the books because of it.

        Raises ChainFault if the books hold what rules a block out, BooksDefect if the engine refuses,
        PositionOverflow if a block can't be numbered. Some may be booked then: they may be sent again.
        """
        places = sorted(
            range(len(blocks)), key=lambda place: blocks[place].chain
        )  # chains don't wait for each other
        done: list[list[Posted]] = []
        try:
            for _, some in groupby((blocks[place] for place in places), key=lambda one: (one.chain, one.run)):
                done += self._apply_group(list(some))  # openings of a run need the balances before it
        except BaseException:
            self._openings.forget()  # it can't be told which got there
            raise
        told = dict(zip(places, done, strict=True))
        return [told[place] for place in range(len(blocks))]

    def _apply_group(self, group: list[BlockPosting]) -> list[list[Posted]]:
        if not group[0].publication:
            return self._apply_run(group)
        return [posted for part in consecutive(group) for posted in self._two_phase.apply(part)]

    def _apply_run(self, blocks: Sequence[BlockPosting]) -> list[list[Posted]]:
        self._accounts.create(accounts_of(blocks))
        events: list[bytes] = []
        posted: list[list[Posted]] = []
        asked: list[Asked] = []
        balances = self._openings.balances(blocks)
        for number, block in enumerate(blocks):
            mine: list[Posted] = []
            asked += self._openings.ask(block, number, balances, events)
            self._pack_legs(block, events, mine)
            if not block.state:
                events.append(self._marks.event(block))
            posted.append(mine)
        statuses = self._accounts.send(events)
        _check(events, statuses, {one.event for one in asked if one.event is not None})
        opened = self._openings.confirm(blocks, asked, statuses)
        return [first + rest for first, rest in zip(opened, posted, strict=True)]

    def _pack_legs(self, block: BlockPosting, events: list[bytes], posted: list[Posted]) -> None:
        base = block_base(block.chain_number, block.block, block.block_hash)
        pack, ids, ledgers = TRANSFER_STRUCT.pack, self._accounts.ids, self._accounts.ledgers
        chain, index, user = block.chain_number, -1, ZERO
        for debit, credit, amount, code, transaction, leg in block.postings.legs:
            if transaction != index:
                index, user = transaction, transaction_data(block, transaction)
            # position.transfer_id without its checks: the posting rules have checked the limits
            ident = (base | transaction << 18 | leg << 2).to_bytes(16, "little")
            events.append(
                pack(
                    ident, ids[debit], ids[credit], amount.to_bytes(16, "little"), ZERO, user,
                    block.block, chain, 0, ledgers[debit[0]], code, 0, 0,
                )
            )  # fmt: skip
            posted.append(Posted(ident, debit, credit, amount, code, transaction, leg))


def _check(events: list[bytes], statuses: Statuses, openings: set[int]) -> None:
    for place in np.nonzero((statuses != CREATED) & (statuses != EXISTS))[0].tolist():
        check(events[place][:16], int(statuses[place]), any_exists=place in openings)
