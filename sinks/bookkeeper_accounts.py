"""Books and accounts of an engine: claims the numbers of books, opens accounts, reads balances and transfers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from tigerbeetle import CreateAccountStatus

from pipeline.domain.account import AccountCode, AccountRef, account_id, book_claim, book_number, owner_id
from sinks.bookkeeper_blocks import ZERO, BooksDefect, Stored
from sinks.books import ACCOUNT_STRUCT, BATCH_MAX, RESULT_DTYPE, TRANSFER_STRUCT, Books

_CREATED: Final = int(CreateAccountStatus.CREATED)
_EXISTS: Final = int(CreateAccountStatus.EXISTS)
_BOOK_TAKEN: Final = int(CreateAccountStatus.EXISTS_WITH_DIFFERENT_USER_DATA_128)
KNOWN_MAX: Final = 500_000  # ids kept in memory; older ones are simply sent again and answer `exists`

Statuses = npt.NDArray[np.uint32]


class Accounts:
    """What a process knows of one engine's books and accounts; the engine itself is the registry."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self.ledgers: dict[str, int] = {}  # asset key -> book number
        self.ids: dict[AccountRef, bytes] = {}  # accounts known to exist

    def book_of(self, asset: str) -> int:
        """Number of an asset's book; claims one if it has none yet."""
        if asset not in self.ledgers:
            self._claim([asset])
        return self.ledgers[asset]

    def _claim(self, assets: Sequence[str]) -> None:
        """Claim a book for each of these assets: the first number that is free or already its own."""
        wanted = [(asset, 0) for asset in assets]
        while wanted:
            part, rest = wanted[:BATCH_MAX], wanted[BATCH_MAX:]
            events = [_claim_event(asset, book_number(asset, probe)) for asset, probe in part]
            taken = []
            for (asset, probe), status in zip(part, self._create(events), strict=True):
                if status in (_CREATED, _EXISTS):
                    self.ledgers[asset] = book_number(asset, probe)
                elif status == _BOOK_TAKEN:
                    taken.append((asset, probe + 1))
                else:
                    raise BooksDefect(f"book of {asset}: {CreateAccountStatus(int(status)).name}")
            wanted = taken + rest

    def _create(self, events: Sequence[bytes]) -> Statuses:
        return statuses_of(self._books.create_accounts_packed(b"".join(events)))

    def create(self, refs: set[AccountRef]) -> None:
        """Open those of the accounts that are not known to be, and their books. Raises BooksDefect."""
        if len(self.ids) > KNOWN_MAX:
            self.ids.clear()
        new = sorted(refs.difference(self.ids))
        assets = dict.fromkeys(ref.asset for ref in new)
        self._claim([asset for asset in assets if asset not in self.ledgers])
        events = []
        for ref in new:
            ident = self.ids[ref] = account_id(ref)
            events.append(
                ACCOUNT_STRUCT.pack(
                    ident, ZERO, ZERO, ZERO, ZERO, owner_id(ref.owner), 0, 0, 0,
                    self.ledgers[ref.asset], ref.code, 0, 0,
                )
            )  # fmt: skip
        for start in range(0, len(events), BATCH_MAX):
            for at, status in enumerate(self._create(events[start : start + BATCH_MAX])):
                if status not in (_CREATED, _EXISTS):
                    for ref in new:
                        self.ids.pop(ref, None)
                    name = CreateAccountStatus(int(status)).name
                    raise BooksDefect(f"account {new[start + at]}: {name}")

    def balances(self, idents: Iterable[bytes]) -> dict[bytes, int]:
        """What the books hold for these accounts for good, credit-positive; unknown ones are left out."""
        return {ident: credits - debits for ident, debits, credits in self.posted(list(idents))}

    def posted(self, idents: list[bytes]) -> Iterator[tuple[bytes, int, int]]:
        """Account id, debits and credits posted."""
        for start in range(0, len(idents), BATCH_MAX):
            rows = self._books.lookup_accounts_packed(b"".join(idents[start : start + BATCH_MAX]))
            for row in ACCOUNT_STRUCT.iter_unpack(rows):
                yield row[0], int.from_bytes(row[2], "little"), int.from_bytes(row[4], "little")

    def stored(self, idents: Sequence[bytes]) -> dict[bytes, Stored]:
        """Transfers as they stand in the books, by id; unknown ones are left out."""
        found = {}
        for start in range(0, len(idents), BATCH_MAX):
            rows = self._books.lookup_transfers_packed(b"".join(idents[start : start + BATCH_MAX]))
            for row in TRANSFER_STRUCT.iter_unpack(rows):
                amount = int.from_bytes(row[3], "little")
                found[row[0]] = Stored(row[1], row[2], amount, row[10], row[6], row[5], row[11])
        return found

    def send(self, events: Sequence[bytes]) -> Statuses:
        """Create transfers, in order; one CreateTransferStatus each."""
        parts = [
            statuses_of(self._books.create_transfers_packed(b"".join(events[at : at + BATCH_MAX])))
            for at in range(0, len(events), BATCH_MAX)
        ]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.uint32)


def statuses_of(results: bytes) -> Statuses:
    """The statuses in an engine's answer."""
    return np.frombuffer(results, dtype=RESULT_DTYPE)["status"]


def _claim_event(asset: str, number: int) -> bytes:
    """The control account that claims a book: its id is the book's number."""
    return ACCOUNT_STRUCT.pack(
        number.to_bytes(16, "little"), ZERO, ZERO, ZERO, ZERO, book_claim(asset),
        0, 0, 0, number, AccountCode.BOOK, 0, 0,
    )  # fmt: skip
