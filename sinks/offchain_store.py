"""What the flows ask of an engine, on either one: accounts by name, chains of transfers, facts, burning.

Packs names into TigerBeetle's wire layout and back. A batch never holds more than BATCH_MAX events and never
cuts a chain. An id is burnt by a transfer that must fail with one of TigerBeetle's transient codes: from then
on the engine answers `id_already_failed`, for ever and to everybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple, TypeVar

from tigerbeetle import AccountFilterFlags, CreateAccountStatus, CreateTransferStatus, QueryFilterFlags

from pipeline.domain.account import AccountRef, TransferCode, owner_id, u128
from pipeline.domain.flows.accounts import (
    CLOSED,
    AccountRow,
    flags_of,
    ident,
    user_data,
)
from pipeline.domain.flows.outcome import BookOf, fixed_book
from pipeline.domain.flows.plan import PENDING, Facts, Plan, TransferRow
from sinks.bookkeeper_accounts import Accounts
from sinks.books import (
    ACCOUNT_FILTER_STRUCT,
    ACCOUNT_STRUCT,
    BALANCE_STRUCT,
    BATCH_MAX,
    QUERY_FILTER_STRUCT,
    RESULT_STRUCT,
    TRANSFER_STRUCT,
    Books,
)

_T = TypeVar("_T")

ZERO: Final = bytes(16)
NOBODY: Final = u128("nobody")
"""Account that must never exist: transfers from it fail, which burns their id."""
CREATED: Final = int(CreateTransferStatus.CREATED)
EXISTS: Final = int(CreateTransferStatus.EXISTS)
LINKED_EVENT_FAILED: Final = int(CreateTransferStatus.LINKED_EVENT_FAILED)
ID_ALREADY_FAILED: Final = int(CreateTransferStatus.ID_ALREADY_FAILED)
DIFFERENT: Final = frozenset(int(s) for s in CreateTransferStatus if s.name.startswith("EXISTS_WITH_"))
BURNING: Final = frozenset(
    int(s)
    for s in (
        CreateTransferStatus.ID_ALREADY_FAILED,
        CreateTransferStatus.DEBIT_ACCOUNT_NOT_FOUND,
        CreateTransferStatus.CREDIT_ACCOUNT_NOT_FOUND,
        CreateTransferStatus.PENDING_TRANSFER_NOT_FOUND,
        CreateTransferStatus.EXCEEDS_CREDITS,
        CreateTransferStatus.EXCEEDS_DEBITS,
        CreateTransferStatus.DEBIT_ACCOUNT_ALREADY_CLOSED,
        CreateTransferStatus.CREDIT_ACCOUNT_ALREADY_CLOSED,
    )
)
_ACCOUNT_THERE: Final = frozenset(
    (
        int(CreateAccountStatus.CREATED),
        int(CreateAccountStatus.EXISTS),
        int(CreateAccountStatus.EXISTS_WITH_DIFFERENT_FLAGS),  # looked at then: it may be frozen
    )
)


class OffchainDefect(RuntimeError):
    """The books say what can't be on a sound store, or an invariant is broken: stop, loudly."""


class Result(NamedTuple):
    """The engine's answer to one transfer."""

    timestamp: int
    status: int

    @property
    def name(self) -> str:
        """The code's name, in lower case."""
        return CreateTransferStatus(self.status).name.lower()


class FlowStore:
    """One engine, spoken to in the flows' terms. Not thread-safe itself; several may share an engine."""

    def __init__(self, books: Books) -> None:
        self._books = books
        self._claimed = Accounts(books)

    def book_of(self, asset: str) -> int:
        """Number of an asset's book: S4's own, or the one that it has claimed from the engine."""
        return fixed_book(asset) or self._claimed.book_of(asset)

    def create_accounts(self, refs: Sequence[AccountRef]) -> list[AccountRef]:
        """Make sure these accounts exist; those made now. Raises OffchainDefect for another account there."""
        made: list[AccountRef] = []
        for part in _parts(refs):
            results = self._books.create_accounts_packed(
                b"".join(_account_event(ref, self.book_of(ref.asset)) for ref in part)
            )
            for ref, (_, status, _) in zip(part, RESULT_STRUCT.iter_unpack(results), strict=True):
                if status not in _ACCOUNT_THERE:
                    raise OffchainDefect(f"account {ref}: {CreateAccountStatus(status).name}")
                if status == CreateAccountStatus.CREATED:
                    made.append(ref)
                elif status == CreateAccountStatus.EXISTS_WITH_DIFFERENT_FLAGS:
                    self._must_be(ref)
        return made

    def _must_be(self, ref: AccountRef) -> None:
        row = self.accounts([ref])[ref]
        if row is None or row.flags & ~CLOSED != flags_of(ref.code):
            raise OffchainDefect(f"account {ref}: EXISTS_WITH_DIFFERENT_FLAGS")

    def accounts(self, refs: Iterable[AccountRef]) -> dict[AccountRef, AccountRow | None]:
        """Rows by name, None where there is none."""
        names = {ident(ref): ref for ref in refs}
        found: dict[AccountRef, AccountRow | None] = dict.fromkeys(names.values())
        for part in _parts(list(names)):
            for row in _account_rows(self._books.lookup_accounts_packed(b"".join(part))):
                found[names[row.id]] = row
        return found

    def transfers(self, idents: Iterable[int]) -> dict[int, TransferRow | None]:
        """Rows by id, None where there is none."""
        found: dict[int, TransferRow | None] = dict.fromkeys(idents)
        for part in _parts(list(found)):
            packed = b"".join(one.to_bytes(16, "little") for one in part)
            for row in _transfer_rows(self._books.lookup_transfers_packed(packed)):
                found[row.id] = row
        return found

    def closing(self, account: bytes) -> TransferRow | None:
        """The last transfer that closed an account or took that back, None if it was never closed."""
        flags = AccountFilterFlags.DEBITS | AccountFilterFlags.CREDITS | AccountFilterFlags.REVERSED
        packed = _account_filter(account, flags, limit=1, code=int(TransferCode.LOCK))
        return next(_transfer_rows(self._books.get_account_transfers_packed(packed)), None)

    def open_escrows(self, account: bytes) -> int:
        """How many escrow accounts hold something that an account has paid in by posted locks."""
        locks = self.transfers_of(account, AccountFilterFlags.DEBITS, int(TransferCode.ESCROW_LOCK))
        escrows = list(dict.fromkeys(lock.credit for lock in locks if not lock.flags & PENDING))
        packed = (self._books.lookup_accounts_packed(b"".join(part)) for part in _parts(escrows))
        rows = (row for rows in packed for row in _account_rows(rows))
        return sum(row.credits_posted != row.debits_posted for row in rows)

    def learn(self, facts: Facts, transfers: Iterable[int], accounts: Iterable[AccountRef],
              closings: Iterable[AccountRef], paid_in: Iterable[AccountRef]) -> None:  # fmt: skip
        """Fill facts: each kind is looked up at once.

        The account of who has paid in comes last: what an escrow that has ended meanwhile gave back is in it.
        """
        facts.transfers.update(self.transfers(transfers))
        facts.accounts.update(self.accounts(accounts))
        for ref in closings:
            facts.closings[ref] = self.closing(ident(ref))
        payers = list(paid_in)
        for ref in payers:
            facts.paid_in[ref] = self.open_escrows(ident(ref))
        facts.accounts.update(self.accounts(payers))

    def send(self, plans: Sequence[Plan]) -> list[list[Result]]:
        """Post chains in their order; per chain the engine's answers, one per move."""
        answers: list[Result] = []
        for chains in _batches([_chain_events(plan, self.book_of) for plan in plans]):
            results = self._books.create_transfers_packed(b"".join(chains))
            answers += [
                Result(timestamp, status) for timestamp, status, _ in RESULT_STRUCT.iter_unpack(results)
            ]
        rest = iter(answers)
        return [[next(rest) for _ in plan.moves] for plan in plans]

    def burn(self, idents: Sequence[int]) -> list[Result]:
        """Make sure that these ids never stand; the answers tell of those that stand already."""
        answers: list[Result] = []
        for part in _parts(idents):
            results = self._books.create_transfers_packed(b"".join(map(_burning, part)))
            answers += [
                Result(timestamp, status) for timestamp, status, _ in RESULT_STRUCT.iter_unpack(results)
            ]
        return answers

    def accounts_of(self, owner: str) -> list[AccountRow]:
        """All accounts of an owner, on- and off-chain."""
        found: list[AccountRow] = []
        while True:
            after = found[-1].timestamp + 1 if found else 0
            packed = QUERY_FILTER_STRUCT.pack(
                owner_id(owner), 0, 0, 0, 0, bytes(6), after, 0, BATCH_MAX, QueryFilterFlags.NONE
            )
            rows = list(_account_rows(self._books.query_accounts_packed(packed)))
            found += rows
            if len(rows) < BATCH_MAX:
                return found

    def transfers_of(
        self,
        account: bytes,
        sides: int = AccountFilterFlags.DEBITS | AccountFilterFlags.CREDITS,
        code: int = 0,
    ) -> Iterator[TransferRow]:
        """Transfers of an account by id, of these sides and this code (0: any), in the order of the books."""
        after = 0
        while True:
            packed = _account_filter(account, sides, limit=BATCH_MAX, code=code, timestamp_min=after)
            rows = list(_transfer_rows(self._books.get_account_transfers_packed(packed)))
            yield from rows
            if len(rows) < BATCH_MAX:
                return
            after = rows[-1].timestamp + 1

    def balance_at(self, account: bytes, timestamp: int) -> tuple[int, int, int, int]:
        """Balances (debits pending, posted, credits pending, posted) after the engine's `timestamp`."""
        flags = AccountFilterFlags.DEBITS | AccountFilterFlags.CREDITS | AccountFilterFlags.REVERSED
        packed = _account_filter(account, flags, limit=1, timestamp_max=timestamp)
        rows = self._books.get_account_balances_packed(packed)
        if not rows:
            return (0, 0, 0, 0)
        row = BALANCE_STRUCT.unpack_from(rows)
        return (_int(row[0]), _int(row[1]), _int(row[2]), _int(row[3]))

    def close(self) -> None:
        """Let go of the engine."""
        self._books.close()


def _account_event(ref: AccountRef, book: int) -> bytes:
    return ACCOUNT_STRUCT.pack(
        ident(ref), ZERO, ZERO, ZERO, ZERO, user_data(ref), 0, 0, 0, book, ref.code,
        flags_of(ref.code), 0,
    )  # fmt: skip


def _chain_events(plan: Plan, book_of: BookOf) -> list[bytes]:
    return [
        TRANSFER_STRUCT.pack(
            move.id.to_bytes(16, "little"), ident(move.debit), ident(move.credit),
            move.amount.to_bytes(16, "little"), move.pending_id.to_bytes(16, "little"),
            move.user_data_128.to_bytes(16, "little"), move.user_data_64, move.user_data_32, move.timeout,
            book_of(move.debit.asset), move.code, plan.flags(place), 0,
        )
        for place, move in enumerate(plan.moves)
    ]  # fmt: skip


def _burning(ident: int) -> bytes:
    return TRANSFER_STRUCT.pack(
        ident.to_bytes(16, "little"),
        NOBODY,
        (1).to_bytes(16, "little"),
        ZERO,
        ZERO,
        ZERO,
        0,
        0,
        0,
        1,
        1,
        0,
        0,
    )


def _batches(chains: Sequence[list[bytes]]) -> Iterator[list[bytes]]:
    """Events of whole chains, at most BATCH_MAX at once."""
    batch: list[bytes] = []
    for chain in chains:
        if len(batch) + len(chain) > BATCH_MAX:
            yield batch
            batch = []
        batch += chain
    if batch:
        yield batch


def _parts(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), BATCH_MAX):
        yield items[start : start + BATCH_MAX]


def _int(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _account_rows(rows: bytes) -> Iterator[AccountRow]:
    for row in ACCOUNT_STRUCT.iter_unpack(rows):
        ident, pending, posted, expected, received, owner, _, _, _, ledger, code, flags, timestamp = row
        sums = (_int(pending), _int(posted), _int(expected), _int(received))
        yield AccountRow(ident, *sums, owner, ledger, code, flags, timestamp)


def _transfer_rows(rows: bytes) -> Iterator[TransferRow]:
    for row in TRANSFER_STRUCT.iter_unpack(rows):
        yield TransferRow(_int(row[0]), row[1], row[2], *map(_int, row[3:6]), *row[6:])


def _account_filter(
    account: bytes, flags: int, *, limit: int, code: int = 0, timestamp_min: int = 0, timestamp_max: int = 0
) -> bytes:
    return ACCOUNT_FILTER_STRUCT.pack(
        account, ZERO, 0, 0, code, bytes(58), timestamp_min, timestamp_max, limit, int(flags)
    )
