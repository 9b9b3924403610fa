"""Postings → TigerBeetle: resolves names to ids, opens books and accounts, posts, tells what became of it.

Order within a batch: books, accounts, then per block its openings and its legs. Every id is derived
from the event, so a batch that was cut off anywhere is simply sent again: `created` and `exists` are
both success. Anything else on a chain's transfer is a defect and raises BooksDefect: the chain has
decided, the books can't refuse. DESIGN.md, "Books".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple

import numpy as np
from tigerbeetle import CreateAccountStatus, CreateTransferStatus, QueryFilterFlags

from pipeline.domain.account import (
    AccountCode,
    AccountRef,
    TransferCode,
    account_id,
    book_claim,
    book_number,
    owner_id,
)
from pipeline.domain.asset import native_key
from pipeline.domain.position import BLOCK_TRANSACTION, block_base, named_transfer_id, transfer_id
from pipeline.domain.posting.legs import Postings
from sinks.books import (
    ACCOUNT_STRUCT,
    BATCH_MAX,
    QUERY_FILTER_STRUCT,
    RESULT_DTYPE,
    TRANSFER_STRUCT,
    Books,
)

ZERO: Final = bytes(16)
_MARK: Final = struct.Struct("<II8s")  # user_data_128 of a block's mark: chunks, chunk, half of its hash
ACCOUNT_CREATED: Final = int(CreateAccountStatus.CREATED)
ACCOUNT_EXISTS: Final = int(CreateAccountStatus.EXISTS)
BOOK_TAKEN: Final = int(CreateAccountStatus.EXISTS_WITH_DIFFERENT_USER_DATA_128)
CREATED: Final = int(CreateTransferStatus.CREATED)
EXISTS: Final = int(CreateTransferStatus.EXISTS)
ANY_EXISTS: Final = frozenset(int(s) for s in CreateTransferStatus if s.name.startswith("EXISTS"))
KNOWN_MAX: Final = 500_000  # ids kept in memory; older ones are simply sent again and answer `exists`


_FIRST, _SECOND = itemgetter(0), itemgetter(1)  # of an Opening or a Leg: its two accounts


class BooksDefect(RuntimeError):
    """The engine answered what can't be on a sound store: the process must stop, loudly."""


@dataclass(frozen=True, slots=True)
class BlockPosting:
    """One block (or chunk) to be booked: where it stands and what its rules ask."""

    chain: str
    chain_number: int
    run: int
    block: int
    block_hash: str
    chunk: int
    chunks: int
    run_coins: int | None  # native coins before the run's first block; None = not told
    postings: Postings
    hashes: dict[int, str]  # transaction_index -> transaction hash
    state: bool = False  # a page of the state before the run: no block of the line, it gets no mark
    first_run: bool = False  # nothing of the chain was booked before: openings are the whole balance


@dataclass(frozen=True, slots=True)
class Posted:
    """One transfer that stands in the books because of this block."""

    transfer_id: bytes  # 16 bytes, little-endian
    debit: AccountRef
    credit: AccountRef
    amount: int
    code: int
    transaction: int
    leg: int


class Head(NamedTuple):
    """How far a chain is booked, as the books themselves say."""

    block: int
    block_hash: str  # first 16 hex digits
    chunk: int
    chunks: int


class _Stored(NamedTuple):
    debit: bytes  # account ids
    credit: bytes
    amount: int
    code: int
    place: tuple[int, int]  # block, chunk


class Bookkeeper:
    """Applies blocks to one engine. Not thread-safe; one per process and engine."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._ledgers: dict[str, int] = {}  # asset key -> book number
        self._ids: dict[AccountRef, bytes] = {}  # accounts known to exist
        self._opened: set[tuple[bytes, int]] = set()  # (account id, run) known to be opened

    def book_of(self, asset: str) -> int:
        """Number of an asset's book; claims one if it has none yet."""
        if asset not in self._ledgers:
            self._claim([asset])
        return self._ledgers[asset]

    def _claim(self, assets: Sequence[str]) -> None:
        """Claim a book for each of these assets: the first number that is free or already its own."""
        wanted = [(asset, 0) for asset in assets]
        while wanted:
            part, rest = wanted[:BATCH_MAX], wanted[BATCH_MAX:]
            events = [_claim_event(asset, book_number(asset, probe)) for asset, probe in part]
            taken = []
            for (asset, probe), status in zip(part, _statuses(self._create(events)), strict=True):
                if status in (ACCOUNT_CREATED, ACCOUNT_EXISTS):
                    self._ledgers[asset] = book_number(asset, probe)
                elif status == BOOK_TAKEN:
                    taken.append((asset, probe + 1))
                else:
                    raise BooksDefect(f"book of {asset}: {CreateAccountStatus(int(status)).name}")
            wanted = taken + rest

    def _create(self, events: Sequence[bytes]) -> bytes:
        return self._books.create_accounts_packed(b"".join(events))

    def head(self, chain: str, chain_number: int) -> Head | None:
        """The last block (or chunk) of a chain that is in the books; None: none is."""
        rows = self._books.query_transfers_packed(
            QUERY_FILTER_STRUCT.pack(
                ZERO, 0, chain_number, self.book_of(native_key(chain)), TransferCode.BLOCK, bytes(6),
                0, 0, 1, QueryFilterFlags.REVERSED,
            )
        )  # fmt: skip
        for row in TRANSFER_STRUCT.iter_unpack(rows):
            chunks, chunk, block_hash = _MARK.unpack(row[5])
            return Head(row[6], block_hash[::-1].hex().upper(), chunk, chunks)
        return None

    def has(self, block: BlockPosting) -> bool:
        """Is this very block (or chunk) in the books?"""
        return bool(self._books.lookup_transfers_packed(_mark_id(block)))

    def began(self, chain: str, run: int) -> bool | None:
        """Has this run begun in the books? None: none of the chain has, so any may begin."""
        if self._books.lookup_transfers_packed(_supply_id(chain, run).to_bytes(16, "little")):
            return True
        issuer = account_id(_control_accounts(chain)[0])
        return False if any(debits for _, debits, _ in self._lookup([issuer])) else None

    def apply(self, blocks: Sequence[BlockPosting]) -> list[list[Posted]]:
        """Book these blocks, in order; per block what now stands in the books because of it.

        Raises BooksDefect if the engine refuses, PositionOverflow if a block can't be numbered.
        """
        done: list[list[Posted]] = []
        for _, group in groupby(blocks, key=lambda block: (block.chain, block.run)):
            done += self._apply_run(list(group))  # openings of a run need the balances before it
        return done

    def _apply_run(self, blocks: Sequence[BlockPosting]) -> list[list[Posted]]:
        self._forget_if_full()
        self._create_accounts(blocks)
        events: list[bytes] = []
        posted: list[list[Posted]] = []
        openings: list[tuple[int, int, Posted]] = []  # place in events, block number in list, transfer
        balances = self._balances(blocks)
        for number, block in enumerate(blocks):
            mine: list[Posted] = []
            self._pack_openings(block, number, balances, events, openings)
            self._pack_legs(block, events, mine)
            if not block.state:
                events.append(self._mark(block))
            posted.append(mine)
        statuses = self._send(events)
        self._check(events, statuses, {place for place, _, _ in openings})
        confirmed = self._confirm(blocks, events, statuses, openings)
        return [first + rest for first, rest in zip(confirmed, posted, strict=True)]

    def _forget_if_full(self) -> None:
        if len(self._ids) > KNOWN_MAX:
            self._ids.clear()
        if len(self._opened) > KNOWN_MAX:
            self._opened.clear()

    def _create_accounts(self, blocks: Sequence[BlockPosting]) -> None:
        new = sorted(_accounts_of(blocks).difference(self._ids))
        self._claim(
            [asset for asset in dict.fromkeys(ref.asset for ref in new) if asset not in self._ledgers]
        )
        events = []
        for ref in new:
            ident = self._ids[ref] = account_id(ref)
            events.append(
                ACCOUNT_STRUCT.pack(
                    ident, ZERO, ZERO, ZERO, ZERO, owner_id(ref.owner), 0, 0, 0,
                    self._ledgers[ref.asset], ref.code, 0, 0,
                )
            )  # fmt: skip
        for start in range(0, len(events), BATCH_MAX):
            part = events[start : start + BATCH_MAX]
            for at, status in enumerate(_statuses(self._create(part))):
                if status not in (ACCOUNT_CREATED, ACCOUNT_EXISTS):
                    for ref in new:
                        self._ids.pop(ref, None)
                    name = CreateAccountStatus(int(status)).name
                    raise BooksDefect(f"account {new[start + at]}: {name}")

    def _balances(self, blocks: Sequence[BlockPosting]) -> dict[bytes, int]:
        """What the books hold, credit-positive, for accounts that this batch may open."""
        wanted: dict[bytes, None] = {}
        for block in blocks:
            for opening in block.postings.openings:
                ident = self._ids[opening.account]
                if (ident, block.run) not in self._opened:
                    wanted[ident] = None
            if block.run_coins is not None:
                for ref in _control_accounts(block.chain):
                    wanted[self._ids[ref]] = None
        return {ident: credits - debits for ident, debits, credits in self._lookup(list(wanted))}

    def _lookup(self, idents: list[bytes]) -> Iterator[tuple[bytes, int, int]]:
        for start in range(0, len(idents), BATCH_MAX):
            rows = self._books.lookup_accounts_packed(b"".join(idents[start : start + BATCH_MAX]))
            for row in ACCOUNT_STRUCT.iter_unpack(rows):
                yield row[0], int.from_bytes(row[2], "little"), int.from_bytes(row[4], "little")

    def _pack_openings(
        self,
        block: BlockPosting,
        number: int,
        balances: dict[bytes, int],
        events: list[bytes],
        openings: list[tuple[int, int, Posted]],
    ) -> None:
        """Openings of accounts not known to be opened in this run: what they had - what the books hold."""
        wanted: list[tuple[AccountRef, AccountRef, int, int, int]] = []
        if block.run_coins is not None:
            wanted += self._supply(block, balances)
        for account, against, balance in block.postings.openings:
            ident = self._ids[account]
            if (ident, block.run) in self._opened:
                continue
            self._opened.add((ident, block.run))
            # a block cut off by a kill may have left legs without an opening: they come again, and count
            held = 0 if block.first_run else balances.get(ident, 0)
            code = int(TransferCode.GAP_ADJUSTMENT if held else TransferCode.OPENING_BALANCE)
            transfer = named_transfer_id("opening", ident.hex(), str(block.run))
            wanted.append((account, against, balance - held, code, transfer))
        for account, against, change, code, transfer in wanted:
            debit, credit = (against, account) if change >= 0 else (account, against)
            posted = Posted(transfer.to_bytes(16, "little"), debit, credit, abs(change), code, -1, 0)
            openings.append((len(events), number, posted))
            events.append(self._event(posted, block))

    def _supply(
        self, block: BlockPosting, balances: dict[bytes, int]
    ) -> list[tuple[AccountRef, AccountRef, int, int, int]]:
        """ISSUER → OPENING: the native coins of the run's start, so that OPENING holds what is unseen.

        In later runs: what was burnt in the gap goes OPENING → FEE_BURN.
        """
        issuer, opening, burn, _ = _control_accounts(block.chain)
        key = (self._ids[issuer], block.run)
        if key in self._opened or block.run_coins is None:
            return []
        self._opened.add(key)
        issued, burnt = -balances.get(self._ids[issuer], 0), balances.get(self._ids[burn], 0)
        transfer = _supply_id(block.chain, block.run)
        if not issued:
            return [(opening, issuer, block.run_coins, int(TransferCode.OPENING_BALANCE), transfer)]
        fall = issued - burnt - block.run_coins
        return [(burn, opening, fall, int(TransferCode.GAP_ADJUSTMENT), transfer)]

    def _pack_legs(self, block: BlockPosting, events: list[bytes], posted: list[Posted]) -> None:
        base = block_base(block.chain_number, block.block, block.block_hash)
        pack, ids, ledgers, chain = TRANSFER_STRUCT.pack, self._ids, self._ledgers, block.chain_number
        index, user = -1, ZERO
        for debit, credit, amount, code, transaction, leg in block.postings.legs:
            if transaction != index:
                index = transaction
                user = bytes.fromhex(block.hashes[transaction][:32])[::-1] or ZERO
            ident = _leg_id(base, transaction, leg).to_bytes(16, "little")
            events.append(
                pack(
                    ident, ids[debit], ids[credit], amount.to_bytes(16, "little"), ZERO, user,
                    block.block, chain, 0, ledgers[debit[0]], code, 0, 0,
                )
            )  # fmt: skip
            posted.append(Posted(ident, debit, credit, amount, code, transaction, leg))

    def _mark(self, block: BlockPosting) -> bytes:
        """The last event of a block: a transfer of nothing that tells how far the chain is booked."""
        _, opening, _, clearing = _control_accounts(block.chain)
        place = _MARK.pack(block.chunks, block.chunk, bytes.fromhex(block.block_hash[:16])[::-1])
        return TRANSFER_STRUCT.pack(
            _mark_id(block), self._ids[opening], self._ids[clearing], ZERO, ZERO, place,
            block.block, block.chain_number, 0, self._ledgers[opening.asset], TransferCode.BLOCK, 0, 0,
        )  # fmt: skip

    def _event(self, transfer: Posted, block: BlockPosting) -> bytes:
        """An opening; its user_data_128 is the chunk, so that exactly one message tells of it."""
        return TRANSFER_STRUCT.pack(
            transfer.transfer_id, self._ids[transfer.debit], self._ids[transfer.credit],
            transfer.amount.to_bytes(16, "little"), ZERO, block.chunk.to_bytes(16, "little"),
            block.block, block.chain_number, 0, self._ledgers[transfer.debit.asset], transfer.code, 0, 0,
        )  # fmt: skip

    def _send(self, events: list[bytes]) -> np.ndarray:
        parts = [
            _statuses(self._books.create_transfers_packed(b"".join(events[at : at + BATCH_MAX])))
            for at in range(0, len(events), BATCH_MAX)
        ]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.uint32)

    def _check(self, events: list[bytes], statuses: np.ndarray, openings: set[int]) -> None:
        for place in np.nonzero((statuses != CREATED) & (statuses != EXISTS))[0]:
            status = int(statuses[place])
            if int(place) in openings and status in ANY_EXISTS:
                continue
            ident = int.from_bytes(events[place][:16], "little")
            raise BooksDefect(f"transfer {ident:032x}: {CreateTransferStatus(status).name}")

    def _confirm(
        self,
        blocks: Sequence[BlockPosting],
        events: list[bytes],
        statuses: np.ndarray,
        openings: list[tuple[int, int, Posted]],
    ) -> list[list[Posted]]:
        """Per block its openings as they stand: one that existed is told by the block that made it."""
        confirmed: list[list[Posted]] = [[] for _ in blocks]
        doubtful = [entry for entry in openings if statuses[entry[0]] != CREATED]
        stored = self._stored([events[place][:16] for place, _, _ in doubtful])
        for place, number, transfer in openings:  # place: in the batch
            if statuses[place] == CREATED:
                confirmed[number].append(transfer)
                continue
            found = stored[transfer.transfer_id]
            if found.place == (blocks[number].block, blocks[number].chunk):
                ends = (transfer.debit, transfer.credit, *_control_accounts(blocks[number].chain))
                names = {self._ids[ref]: ref for ref in ends if ref in self._ids}
                confirmed[number].append(
                    Posted(transfer.transfer_id, names[found.debit], names[found.credit], found.amount,
                           found.code, -1, 0),
                )  # fmt: skip
        return confirmed

    def _stored(self, idents: list[bytes]) -> dict[bytes, _Stored]:
        """Transfers as they stand in the books."""
        found = {}
        for start in range(0, len(idents), BATCH_MAX):
            rows = self._books.lookup_transfers_packed(b"".join(idents[start : start + BATCH_MAX]))
            for row in TRANSFER_STRUCT.iter_unpack(rows):
                amount, chunk = int.from_bytes(row[3], "little"), int.from_bytes(row[5], "little")
                found[row[0]] = _Stored(row[1], row[2], amount, row[10], (row[6], chunk))
        return found


def _claim_event(asset: str, number: int) -> bytes:
    """The control account that claims a book: its id is the book's number."""
    return ACCOUNT_STRUCT.pack(
        number.to_bytes(16, "little"), ZERO, ZERO, ZERO, ZERO, book_claim(asset),
        0, 0, 0, number, AccountCode.BOOK, 0, 0,
    )  # fmt: skip


def _leg_id(base: int, transaction: int, leg: int) -> int:
    """position.transfer_id without its checks: the hot path; the posting rules have checked the limits."""
    return base | transaction << 18 | leg << 2


def _mark_id(block: BlockPosting) -> bytes:
    base = block_base(block.chain_number, block.block, block.block_hash)
    return transfer_id(base, BLOCK_TRANSACTION, block.chunk).to_bytes(16, "little")


def _supply_id(chain: str, run: int) -> int:
    return named_transfer_id("supply", chain, str(run))


def _control_accounts(chain: str) -> tuple[AccountRef, AccountRef, AccountRef, AccountRef]:
    native = native_key(chain)
    return (
        AccountRef(native, int(AccountCode.ISSUER), ""),
        AccountRef(native, int(AccountCode.OPENING), ""),
        AccountRef(native, int(AccountCode.FEE_BURN), ""),
        AccountRef(native, int(AccountCode.CLEARING), ""),
    )


def _accounts_of(blocks: Sequence[BlockPosting]) -> set[AccountRef]:
    refs: set[AccountRef] = set()
    for block in blocks:
        refs.update(_control_accounts(block.chain))
        for rows in (block.postings.openings, block.postings.legs):
            refs.update(map(_FIRST, rows))
            refs.update(map(_SECOND, rows))
    return refs


def _statuses(results: bytes) -> np.ndarray:
    return np.frombuffer(results, dtype=RESULT_DTYPE)["status"]
