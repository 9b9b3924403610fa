"""Marks of blocks in the books: transfers of nothing that tell how far a chain is booked, and in which state.

The last event of every message is its mark, so a message whose mark is there is wholly booked. Its user_data_128
has `chunks`, `chunk`, what the legs were (16 bits of a digest) and half of the block's hash; the top byte of `chunks`
says which kind of message it was. Kind and content are 0 where blocks are final at once. An id has only 28 bits of the
hash, so a mark is a message's own where its half says so. The newest marks tell a process that takes over which
blocks stand: pipeline.domain.branch. docs/decisions/0010.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple

from tigerbeetle import QueryFilterFlags

from pipeline.domain.account import TransferCode
from pipeline.domain.asset import native_key
from pipeline.domain.branch import Branch, Finality, Step
from pipeline.domain.position import BLOCK_TRANSACTION, Phase, block_base, transfer_id
from sinks.bookkeeper_accounts import Accounts
from sinks.bookkeeper_blocks import ZERO, BlockPosting, Head, Stored, control_accounts
from sinks.books import QUERY_FILTER_STRUCT, TRANSFER_STRUCT, Books

REMEMBERED: Final = 64  # blocks below the last final one whose marks are read when a process takes over
_PAGE: Final = 512
_PLACE: Final = struct.Struct("<IHH8s")  # chunks and kind, chunk, content, half of the hash
_KIND_SHIFT: Final = 24
_INCARNATION_SHIFT, _INCARNATIONS = 40, 16  # of a transfer id, pipeline.domain.position


class Kind(IntEnum):
    """Which message a mark stands for."""

    FINAL = 0  # final when it was booked first
    HEAD = 1
    MADE_FINAL = 2  # of a block that was pending
    RETRACTED = 3


_PHASES: Final = {
    Kind.FINAL: Phase.SINGLE,
    Kind.HEAD: Phase.SINGLE,
    Kind.MADE_FINAL: Phase.POST,
    Kind.RETRACTED: Phase.VOID,
}
_BY_PHASE: Final = (Kind.HEAD, Kind.MADE_FINAL, Kind.RETRACTED)  # one mark of each phase can be there
_FINALITY: Final[dict[Kind, Finality]] = {
    Kind.FINAL: "final",
    Kind.HEAD: "head",
    Kind.MADE_FINAL: "final",
    Kind.RETRACTED: "retracted",
}


class Place(NamedTuple):
    """What names a message of a chain."""

    chain_number: int
    block: int
    block_hash: str
    incarnation: int
    chunk: int
    finality: Finality

    def mark_id(self, kind: Kind) -> bytes:
        """Id of a mark there. Raises PositionOverflow."""
        base = block_base(self.chain_number, self.block, self.block_hash, self.incarnation)
        return transfer_id(base, BLOCK_TRANSACTION, self.chunk, _PHASES[kind]).to_bytes(16, "little")

    @property
    def half(self) -> bytes:
        """Half of the block's hash, as marks have it."""
        return bytes.fromhex(self.block_hash[:16])[::-1]


class Told(NamedTuple):
    """What the books say of a message."""

    done: bool  # it is wholly booked
    headed: bool  # its block was booked as head
    fault: str = (
        ""  # what stands there rules it out: collision (another block), order (another end of this one)
    )
    contents: tuple[int, ...] = ()  # what the legs of this block and chunk were, of each mark


def place_of(block: BlockPosting) -> Place:
    """Where a block to be booked stands."""
    return Place(
        block.chain_number, block.block, block.block_hash, block.incarnation, block.chunk, block.finality
    )


def kind_of(finality: Finality, headed: bool) -> Kind:
    """Which mark a message leaves."""
    if finality == "head":
        return Kind.HEAD
    if finality == "retracted":
        return Kind.RETRACTED
    return Kind.MADE_FINAL if headed else Kind.FINAL


class Marks:
    """Reads and makes the marks of one engine."""

    def __init__(self, books: Books, accounts: Accounts) -> None:
        self._books, self._accounts = books, accounts

    def event(self, block: BlockPosting, kind: Kind = Kind.FINAL, content: int = 0) -> bytes:
        """The mark of a block, as an event; its chain's control accounts must be known. `content`: of its legs."""
        _, opening, _, clearing = control_accounts(block.chain)
        place = place_of(block)
        ident = place.mark_id(kind)
        told = _PLACE.pack(block.chunks | kind << _KIND_SHIFT, block.chunk, content, place.half)
        ids = self._accounts.ids
        return TRANSFER_STRUCT.pack(
            ident, ids[opening], ids[clearing], ZERO, ZERO, told,
            block.block, block.chain_number, 0, self._accounts.ledgers[opening.asset], TransferCode.BLOCK, 0, 0,
        )  # fmt: skip

    def has(self, place: Place) -> bool:
        """Is there a mark of a block that is final at once?"""
        ident = place.mark_id(Kind.FINAL)
        there = self._accounts.stored([ident]).get(ident)
        return there is not None and _PLACE.unpack(there.origin)[3] == place.half

    def of(self, places: Sequence[Place]) -> list[Told]:
        """What the books say of each of these messages, in one question. Raises PositionOverflow."""
        asked = [[place.mark_id(kind) for kind in _BY_PHASE] for place in places]
        stored = self._accounts.stored(list(dict.fromkeys(ident for three in asked for ident in three)))
        return [
            _told(place, [stored.get(ident) for ident in three])
            for place, three in zip(places, asked, strict=True)
        ]

    def chains(self) -> set[int]:
        """Numbers of the chains that the newest marks are of."""
        rows = self._books.query_transfers_packed(
            QUERY_FILTER_STRUCT.pack(
                ZERO, 0, 0, 0, TransferCode.BLOCK, bytes(6), 0, 0, _PAGE, int(QueryFilterFlags.REVERSED)
            )
        )
        return {int(row[7]) for row in TRANSFER_STRUCT.iter_unpack(rows)}

    def head(self, chain: str, chain_number: int) -> Head | None:
        """The last block (or chunk) of a chain that is in the books; None: none is."""
        for row in self._newest(chain, chain_number, 1):
            chunks, chunk, _, block_hash = _PLACE.unpack(row[5])
            return Head(row[6], block_hash[::-1].hex().upper(), chunk, chunks)
        return None

    def first_block(self, chain: str, chain_number: int) -> int | None:
        """Number of the block that was booked first of a chain; None: none is."""
        rows = self._query(chain, chain_number, 0, 1, 0)
        return next((int(row[6]) for row in rows), None)

    def branch(self, chain: str, chain_number: int) -> Branch:
        """Which blocks of a chain stand in the books, and the messages that told of the newest.

        Read back to a block that came when nothing above it stood, REMEMBERED below the last final one.
        """
        steps: list[Step] = []
        final: int | None = None
        for row in self._newest(chain, chain_number, _PAGE):
            step = _step(row)
            steps.append(step)
            if step.finality == "final" and final is None:
                final = step.number
            comes_new = _kind(row) in (Kind.HEAD, Kind.FINAL) and not step.chunk
            if comes_new and final is not None and step.number <= final - REMEMBERED:
                break
        return Branch.of(reversed(steps))

    def _newest(self, chain: str, chain_number: int, page: int) -> Iterator[tuple[Any, ...]]:
        """Marks of a chain from the newest down, asked for in pages."""
        before = 0
        while True:
            rows = list(self._query(chain, chain_number, before, page, int(QueryFilterFlags.REVERSED)))
            yield from rows
            if len(rows) < page:
                return
            before = rows[-1][12] - 1

    def _query(
        self, chain: str, chain_number: int, timestamp_max: int, limit: int, flags: int
    ) -> Iterator[tuple[Any, ...]]:
        """Marks of a chain as rows of TRANSFER_STRUCT; timestamp_max 0: up to now."""
        book = self._accounts.book_of(native_key(chain))
        rows = self._books.query_transfers_packed(
            QUERY_FILTER_STRUCT.pack(
                ZERO, 0, chain_number, book, TransferCode.BLOCK, bytes(6), 0, timestamp_max, limit, flags
            )
        )
        yield from TRANSFER_STRUCT.iter_unpack(rows)


def _told(place: Place, stored: Sequence[Stored | None]) -> Told:
    """From the marks there: of phase 0, of the block's being made final, of its being taken back."""
    first, made_final, retracted = (None if one is None else _PLACE.unpack(one.origin) for one in stored)
    there = [one for one in (first, made_final, retracted) if one is not None]
    if any(half != place.half for *_, half in there):
        return Told(False, False, "collision")
    kind = None if first is None else Kind(first[0] >> _KIND_SHIFT)
    headed, at_once = kind == Kind.HEAD, kind == Kind.FINAL
    if place.finality == "head":
        done, ruled_out = headed, at_once or (not headed and len(there) > 0)
    elif place.finality == "final":
        done, ruled_out = at_once or made_final is not None, retracted is not None
    else:
        done, ruled_out = retracted is not None, at_once or made_final is not None
    contents = tuple(content for _, _, content, _ in there)
    return Told(done, headed, "order" if ruled_out else "", contents)


def _kind(row: tuple[Any, ...]) -> Kind:
    return Kind(_PLACE.unpack(row[5])[0] >> _KIND_SHIFT)


def _step(row: tuple[Any, ...]) -> Step:
    """The message that a mark stands for."""
    chunks, chunk, _, half = _PLACE.unpack(row[5])
    incarnation = (int.from_bytes(row[0], "little") >> _INCARNATION_SHIFT) % _INCARNATIONS
    return Step(
        row[6], half[::-1].hex(), None, _FINALITY[_kind(row)], incarnation, chunk,
        chunks & (1 << _KIND_SHIFT) - 1,
    )  # fmt: skip
