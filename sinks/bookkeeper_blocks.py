"""What the bookkeeper is given and what it tells: plain values, and how a block asks for its accounts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain as joined
from operator import itemgetter
from struct import Struct
from typing import Final, NamedTuple

from pipeline.domain.account import AccountCode, AccountRef
from pipeline.domain.asset import native_key
from pipeline.domain.branch import Finality
from pipeline.domain.position import hash28
from pipeline.domain.posting.legs import Postings

ZERO: Final = bytes(16)
_LEG: Final = Struct("<16s16s16sIII")
_FIRST, _SECOND = itemgetter(0), itemgetter(1)  # of an Opening or a Leg: its two accounts


class BooksDefect(RuntimeError):
    """The engine answered what can't be on a sound store: the process must stop, loudly."""


class ChainFault(BooksDefect):
    """What a chain tells contradicts what the books hold of it: that chain can't go on, others can.

    `reason`: collision (another block has these ids), order (this block has ended another way), other_content
    (another content under a known name). No transfer of the message was asked of the engine.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class BlockPosting:
    """One block (or chunk) to be booked: where it stands and what its rules ask."""

    chain: str
    chain_number: int
    run: int
    block: int
    block_hash: str  # hex without 0x
    chunk: int
    chunks: int
    run_coins: int | None  # native coins before the run's first block; None = not told
    postings: Postings
    hashes: dict[int, str]  # transaction_index -> transaction hash
    state: bool = False  # a page of the state before the run: no block of the line, it gets no mark
    first_run: bool = False  # nothing of the chain was booked before: openings are the whole balance
    finality: Finality = "final"
    incarnation: int = 0
    publication: str = (
        ""  # told where blocks may be taken back: then head = pending, final = post, retracted = void
    )


@dataclass(frozen=True, slots=True)
class Posted:
    """One transfer that stands in the books because of this block, or was refused there."""

    transfer_id: bytes  # 16 bytes, little-endian
    debit: AccountRef
    credit: AccountRef
    amount: int
    code: int
    transaction: int
    leg: int
    status: str = "posted"  # posted, pending, voided, refused
    pending_id: bytes = b""  # what it posts or voids; as transfer_id
    reason: str | None = None  # why it was refused


class Head(NamedTuple):
    """How far a chain is booked, as the books themselves say."""

    block: int
    block_hash: str  # first 16 hex digits
    chunk: int
    chunks: int


class Stored(NamedTuple):
    """A transfer as it stands in the books."""

    debit: bytes  # account ids
    credit: bytes
    amount: int
    code: int
    block: int
    origin: bytes  # user_data_128
    flags: int


def control_accounts(chain: str) -> tuple[AccountRef, AccountRef, AccountRef, AccountRef]:
    """ISSUER, OPENING, FEE_BURN and CLEARING of a chain's native book."""
    native = native_key(chain)
    return (
        AccountRef(native, int(AccountCode.ISSUER), ""),
        AccountRef(native, int(AccountCode.OPENING), ""),
        AccountRef(native, int(AccountCode.FEE_BURN), ""),
        AccountRef(native, int(AccountCode.CLEARING), ""),
    )


def accounts_of(blocks: Iterable[BlockPosting]) -> set[AccountRef]:
    """All accounts that these blocks touch, their chains' control accounts included."""
    refs: set[AccountRef] = set()
    for block in blocks:
        refs.update(control_accounts(block.chain))
        rows = list(joined(block.postings.openings, block.postings.legs))
        refs.update(map(_FIRST, rows))
        refs.update(map(_SECOND, rows))
    return refs


def transaction_data(block: BlockPosting, transaction: int) -> bytes:
    """user_data_128 of a transaction's transfers: the first half of its hash."""
    digits = block.hashes[transaction].removeprefix("0x")[:32]
    return bytes.fromhex(digits)[::-1] or ZERO


def content_of(block: BlockPosting, ids: Mapping[AccountRef, bytes]) -> int:
    """16 bits that tell other legs apart, never 0. `ids`: of their accounts."""
    digest = blake2b(digest_size=2)
    for debit, credit, amount, code, transaction, leg in block.postings.legs:
        digest.update(
            _LEG.pack(ids[debit], ids[credit], amount.to_bytes(16, "little"), code, transaction, leg)
        )
    return int.from_bytes(digest.digest(), "little") or 1


def consecutive(blocks: Sequence[BlockPosting]) -> Iterator[list[BlockPosting]]:
    """The blocks in groups, in order: none holds two states of one block, two blocks of one id, or one message twice.

    What is pending must be in the books before it is posted or voided, for whether it got there decides. Nor does one
    hold retractions beside others: a group that is cut off and sent again refuses the same legs, for sums only grew.
    """
    group: list[BlockPosting] = []
    states: dict[tuple[int, int, int], tuple[str, Finality]] = {}
    told: set[tuple[tuple[int, int, int], int]] = set()
    for block in blocks:
        which = (block.block, hash28(block.block_hash), block.incarnation)
        state = (block.block_hash, block.finality)
        turns = group and (group[-1].finality == "retracted") != (block.finality == "retracted")
        if turns or states.get(which, state) != state or (which, block.chunk) in told:
            yield group
            group, states, told = [], {}, set()
        group.append(block)
        states[which] = state
        told.add((which, block.chunk))
    if group:
        yield group
