"""TigerBeetle 0.17's state machine over what one batch touches.

Pure: no clock, no files. `Batch` holds the accounts and transfers that its events name (fetched beforehand),
applies them in order, undoes a broken chain, and keeps what the store must write. Source: TigerBeetle
`src/state_machine.zig` (0.17.8): execute_create, create_account, create_transfer,
post_or_void_pending_transfer, execute_expire_pending_transfers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sinks.embedded_checks import (
    ACCOUNT_IMPORTED,
    CLOSED,
    CLOSING_CREDIT,
    CLOSING_DEBIT,
    HISTORY,
    LINKED,
    NS_PER_S,
    PENDING,
    POST,
    RESOLVED,
    STATUS_EXPIRED,
    STATUS_PENDING,
    STATUS_POSTED,
    STATUS_VOIDED,
    TIMESTAMP_MAX,
    TRANSFER_FLAGS_KNOWN,
    TRANSFER_IMPORTED,
    TRANSIENT,
    U128_MAX,
    VOID,
    A,
    AccountEvent,
    HistoryRow,
    Outcome,
    T,
    TransferEvent,
    account_exists,
    account_incomplete,
    account_malformed,
    amount_balanced,
    inherit,
    movement_exists,
    movement_malformed,
    no_room,
    resolution_exists,
    resolution_malformed,
    resolution_mismatch,
)


@dataclass(slots=True)
class Batch:
    """The part of the books that one batch can reach, and what the batch makes of it.

    `accounts` and `transfers` map ids to stored objects (absent: unknown); `burnt` holds ids that failed for
    a transient reason. `*_timestamp_max` are the newest timestamps stored; `*_at` say whether one is taken.
    """

    accounts: dict[int, AccountEvent]
    transfers: dict[int, TransferEvent]
    burnt: set[int]
    account_timestamp_max: int
    transfer_timestamp_max: int
    account_at: Callable[[int], bool]
    transfer_at: Callable[[int], bool]
    created_accounts: list[AccountEvent] = field(default_factory=list)
    created_transfers: list[TransferEvent | int] = field(default_factory=list)  # int: an id that was burnt
    touched: dict[int, AccountEvent] = field(default_factory=dict)
    resolved: list[TransferEvent] = field(default_factory=list)
    history: list[HistoryRow] = field(default_factory=list)
    undo: list[tuple[Any, ...]] | None = None

    # Chains -------------------------------------------------------------------------------------------

    def scope_open(self) -> None:
        """From here on every change can be taken back."""
        mark = (
            len(self.created_accounts),
            len(self.created_transfers),
            len(self.resolved),
            len(self.history),
            self.account_timestamp_max,
            self.transfer_timestamp_max,
        )
        self.undo = [mark]

    def scope_persist(self) -> None:
        self.undo = None

    def scope_discard(self) -> None:
        """Take back everything since `scope_open`."""
        undo = self.undo
        assert undo is not None
        for entry in reversed(undo[1:]):
            subject = entry[0]
            if isinstance(subject, AccountEvent):
                (
                    subject.debits_pending,
                    subject.debits_posted,
                    subject.credits_pending,
                    subject.credits_posted,
                    subject.flags,
                ) = entry[1]
            else:
                subject.status = entry[1]
        accounts, transfers, resolved, history, account_max, transfer_max = undo[0]
        for account in self.created_accounts[accounts:]:
            del self.accounts[account.id]
        for transfer in self.created_transfers[transfers:]:
            assert isinstance(transfer, TransferEvent)
            del self.transfers[transfer.id]
        del self.created_accounts[accounts:], self.created_transfers[transfers:]
        del self.resolved[resolved:], self.history[history:]
        self.account_timestamp_max, self.transfer_timestamp_max = account_max, transfer_max
        self.undo = None

    def burn(self, transfer_id: int) -> None:
        self.burnt.add(transfer_id)
        self.created_transfers.append(transfer_id)

    def _touch(self, account: AccountEvent) -> None:
        self.touched[account.id] = account
        if self.undo is not None:
            balances = (
                account.debits_pending,
                account.debits_posted,
                account.credits_pending,
                account.credits_posted,
                account.flags,
            )
            self.undo.append((account, balances))

    # Accounts -----------------------------------------------------------------------------------------

    def create_account(self, timestamp_event: int, a: AccountEvent) -> Outcome:
        status = account_malformed(a)
        if status:
            return status, timestamp_event
        existing = self.accounts.get(a.id)
        if existing is not None:
            status = account_exists(a, existing)
            return status, existing.timestamp if status == A.EXISTS else timestamp_event
        status = account_incomplete(a)
        if status:
            return status, timestamp_event
        if a.flags & ACCOUNT_IMPORTED:
            if a.timestamp <= self.account_timestamp_max or self.transfer_at(a.timestamp):
                return A.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS, timestamp_event
        else:
            a.timestamp = timestamp_event
        self.accounts[a.id] = a
        self.created_accounts.append(a)
        self.account_timestamp_max = a.timestamp
        return A.CREATED, a.timestamp

    # Transfers ----------------------------------------------------------------------------------------

    def create_transfer(self, timestamp_event: int, t: TransferEvent) -> Outcome:
        if t.flags & ~TRANSFER_FLAGS_KNOWN:
            return T.RESERVED_FLAG, timestamp_event
        if t.id == 0:
            return T.ID_MUST_NOT_BE_ZERO, timestamp_event
        if t.id == U128_MAX:
            return T.ID_MUST_NOT_BE_INT_MAX, timestamp_event
        existing = self.transfers.get(t.id)
        if existing is not None:
            status = self._transfer_exists(t, existing)
            return status, existing.timestamp if status == T.EXISTS else timestamp_event
        if t.id in self.burnt:
            return T.ID_ALREADY_FAILED, timestamp_event
        if t.flags & (POST | VOID):
            status = self._post_or_void(timestamp_event, t)
        else:
            status = self._move(timestamp_event, t)
        return status, t.timestamp if status == T.CREATED else timestamp_event

    def _transfer_exists(self, t: TransferEvent, e: TransferEvent) -> int:
        if t.flags != e.flags:
            return T.EXISTS_WITH_DIFFERENT_FLAGS
        if t.pending_id != e.pending_id:
            return T.EXISTS_WITH_DIFFERENT_PENDING_ID
        if t.timeout != e.timeout:
            return T.EXISTS_WITH_DIFFERENT_TIMEOUT
        if t.flags & (POST | VOID):
            return resolution_exists(t, e, self.transfers[t.pending_id])
        return movement_exists(t, e)

    def _move(self, timestamp_event: int, t: TransferEvent) -> int:
        """A transfer that is no post and no void; on success `t` becomes the stored transfer."""
        status = movement_malformed(t)
        if status:
            return status
        debit = self.accounts.get(t.debit_account_id)
        if debit is None:
            return T.DEBIT_ACCOUNT_NOT_FOUND
        credit = self.accounts.get(t.credit_account_id)
        if credit is None:
            return T.CREDIT_ACCOUNT_NOT_FOUND
        if debit.ledger != credit.ledger:
            return T.ACCOUNTS_MUST_HAVE_THE_SAME_LEDGER
        if t.ledger != debit.ledger:
            return T.TRANSFER_MUST_HAVE_THE_SAME_LEDGER_AS_ACCOUNTS
        timestamp = timestamp_event
        if t.flags & TRANSFER_IMPORTED:
            status = self._imported_movement(t, debit, credit)
            if status:
                return status
            timestamp = t.timestamp
        if debit.flags & CLOSED:
            return T.DEBIT_ACCOUNT_ALREADY_CLOSED
        if credit.flags & CLOSED:
            return T.CREDIT_ACCOUNT_ALREADY_CLOSED
        amount = amount_balanced(t, debit, credit)
        status = no_room(t, amount, timestamp, debit, credit)
        if status:
            return status
        t.amount, t.timestamp = amount, timestamp
        self._touch(debit)
        self._touch(credit)
        if t.flags & PENDING:
            t.status = STATUS_PENDING
            debit.debits_pending += amount
            credit.credits_pending += amount
        else:
            debit.debits_posted += amount
            credit.credits_posted += amount
        if t.flags & CLOSING_DEBIT:
            debit.flags |= CLOSED
        if t.flags & CLOSING_CREDIT:
            credit.flags |= CLOSED
        self._created(t, debit, credit)
        return T.CREATED

    def _imported_movement(self, t: TransferEvent, debit: AccountEvent, credit: AccountEvent) -> int:
        if t.timestamp <= self.transfer_timestamp_max or self.account_at(t.timestamp):
            return T.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS
        if t.timestamp <= debit.timestamp:
            return T.IMPORTED_EVENT_TIMESTAMP_MUST_POSTDATE_DEBIT_ACCOUNT
        if t.timestamp <= credit.timestamp:
            return T.IMPORTED_EVENT_TIMESTAMP_MUST_POSTDATE_CREDIT_ACCOUNT
        if t.timeout != 0:
            return T.IMPORTED_EVENT_TIMEOUT_MUST_BE_ZERO
        return 0

    def _post_or_void(self, timestamp_event: int, t: TransferEvent) -> int:
        """Resolve a pending transfer; on success `t` becomes the stored transfer."""
        status = resolution_malformed(t)
        if status:
            return status
        p = self.transfers.get(t.pending_id)
        if p is None:
            return T.PENDING_TRANSFER_NOT_FOUND
        status = resolution_mismatch(t, p)
        if status:
            return status
        amount = p.amount if t.amount == (0 if t.flags & VOID else U128_MAX) else t.amount
        if amount > p.amount:
            return T.EXCEEDS_PENDING_TRANSFER_AMOUNT
        if t.flags & VOID and amount < p.amount:
            return T.PENDING_TRANSFER_HAS_DIFFERENT_AMOUNT
        if p.status != STATUS_PENDING:
            return RESOLVED[p.status]
        if p.timeout and p.timestamp + p.timeout * NS_PER_S <= timestamp_event:
            return T.PENDING_TRANSFER_EXPIRED
        timestamp = timestamp_event
        if t.flags & TRANSFER_IMPORTED:
            if t.timestamp <= self.transfer_timestamp_max or self.account_at(t.timestamp):
                return T.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_REGRESS
            timestamp = t.timestamp
        debit, credit = self.accounts[p.debit_account_id], self.accounts[p.credit_account_id]
        if not t.flags & VOID:
            if debit.flags & CLOSED:
                return T.DEBIT_ACCOUNT_ALREADY_CLOSED
            if credit.flags & CLOSED:
                return T.CREDIT_ACCOUNT_ALREADY_CLOSED
        inherit(t, p, amount, timestamp)
        self._release(p, debit, credit, STATUS_POSTED if t.flags & POST else STATUS_VOIDED)
        if t.flags & POST:
            debit.debits_posted += amount
            credit.credits_posted += amount
        self._created(t, debit, credit)
        return T.CREATED

    def _release(self, p: TransferEvent, debit: AccountEvent, credit: AccountEvent, status: int) -> None:
        """The pending amount of `p` comes off both accounts; what it closed is reopened."""
        self._touch(debit)
        self._touch(credit)
        if self.undo is not None:
            self.undo.append((p, p.status))
        p.status = status
        self.resolved.append(p)
        debit.debits_pending -= p.amount
        credit.credits_pending -= p.amount
        if status != STATUS_POSTED:
            if p.flags & CLOSING_DEBIT:
                debit.flags &= ~CLOSED
            if p.flags & CLOSING_CREDIT:
                credit.flags &= ~CLOSED

    def expire(self, p: TransferEvent) -> None:
        """The timeout of pending transfer `p` has passed."""
        self._release(
            p, self.accounts[p.debit_account_id], self.accounts[p.credit_account_id], STATUS_EXPIRED
        )

    def _created(self, t: TransferEvent, debit: AccountEvent, credit: AccountEvent) -> None:
        self.transfers[t.id] = t
        self.created_transfers.append(t)
        self.transfer_timestamp_max = t.timestamp
        for account in (debit, credit):
            if account.flags & HISTORY:
                self.history.append(
                    HistoryRow(
                        account,
                        t,
                        account.debits_pending,
                        account.debits_posted,
                        account.credits_pending,
                        account.credits_posted,
                    )
                )


def execute(batch: Batch, timestamp: int, events: Sequence[AccountEvent | TransferEvent]) -> list[Outcome]:
    """Apply `events` in order, chains as a unit; event i of n gets `timestamp − n + i + 1`.

    All events are of one kind. One outcome (status, timestamp) for each, in order.
    """
    results: list[Outcome] = []
    chain: int | None = None
    broken = False
    last = len(events) - 1
    imported_flag = ACCOUNT_IMPORTED if events and isinstance(events[0], AccountEvent) else TRANSFER_IMPORTED
    batch_imported = bool(events and events[0].flags & imported_flag)
    for index, event in enumerate(events):
        linked = event.flags & LINKED
        if linked and chain is None:
            chain = index
            batch.scope_open()
        timestamp_event = timestamp - last + index
        if linked and index == last:
            status = int(A.LINKED_EVENT_CHAIN_OPEN)
        elif broken:
            status = int(A.LINKED_EVENT_FAILED)
        else:
            imported = bool(event.flags & imported_flag)
            status = _timestamp_fault(event, imported, batch_imported, timestamp)
        if status:
            outcome = status, timestamp_event
        elif isinstance(event, AccountEvent):
            outcome = batch.create_account(timestamp_event, event)
        else:
            outcome = batch.create_transfer(timestamp_event, event)
        results.append(outcome)
        if outcome[0] != T.CREATED:
            if chain is not None and not broken:
                broken = True
                batch.scope_discard()
                results[chain:index] = [(int(T.LINKED_EVENT_FAILED), r[1]) for r in results[chain:index]]
            if isinstance(event, TransferEvent) and outcome[0] in TRANSIENT:
                batch.burn(event.id)
        if chain is not None and (not linked or index == last):
            if not broken:
                batch.scope_persist()
            chain, broken = None, False
    return results


def _timestamp_fault(
    event: AccountEvent | TransferEvent, imported: bool, batch_imported: bool, timestamp: int
) -> int:
    """What is wrong with the event's own timestamp (the codes of transfers and accounts differ here)."""
    codes: type[A] | type[T] = A if isinstance(event, AccountEvent) else T
    if imported != batch_imported:
        return int(codes.IMPORTED_EVENT_NOT_EXPECTED if imported else codes.IMPORTED_EVENT_EXPECTED)
    if not imported:
        return int(codes.TIMESTAMP_MUST_BE_ZERO) if event.timestamp else 0
    if not 1 <= event.timestamp <= TIMESTAMP_MAX:
        return int(codes.IMPORTED_EVENT_TIMESTAMP_OUT_OF_RANGE)
    if event.timestamp >= timestamp:
        return int(codes.IMPORTED_EVENT_TIMESTAMP_MUST_NOT_ADVANCE)
    return 0
