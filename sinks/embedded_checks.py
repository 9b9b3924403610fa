"""What TigerBeetle 0.17 asks of an event, as records and pure checks.

Each function answers 0 or the first status that applies; the order of its lines is the order of precedence.
Source: TigerBeetle `src/state_machine.zig`, `src/tigerbeetle.zig` (0.17.8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tigerbeetle import AccountFlags, CreateAccountStatus, CreateTransferStatus, TransferFlags

U128_MAX: Final = (1 << 128) - 1
TIMESTAMP_MAX: Final = (1 << 63) - 1
NS_PER_S: Final = 1_000_000_000

LINKED: Final = int(TransferFlags.LINKED)
PENDING: Final = int(TransferFlags.PENDING)
POST: Final = int(TransferFlags.POST_PENDING_TRANSFER)
VOID: Final = int(TransferFlags.VOID_PENDING_TRANSFER)
BALANCING_DEBIT: Final = int(TransferFlags.BALANCING_DEBIT)
BALANCING_CREDIT: Final = int(TransferFlags.BALANCING_CREDIT)
CLOSING_DEBIT: Final = int(TransferFlags.CLOSING_DEBIT)
CLOSING_CREDIT: Final = int(TransferFlags.CLOSING_CREDIT)
TRANSFER_IMPORTED: Final = int(TransferFlags.IMPORTED)
TRANSFER_FLAGS_KNOWN: Final = 0x1FF
NOT_WITH_POST_OR_VOID: Final = PENDING | BALANCING_DEBIT | BALANCING_CREDIT | CLOSING_DEBIT | CLOSING_CREDIT

DEBITS_LIMITED: Final = int(AccountFlags.DEBITS_MUST_NOT_EXCEED_CREDITS)
CREDITS_LIMITED: Final = int(AccountFlags.CREDITS_MUST_NOT_EXCEED_DEBITS)
HISTORY: Final = int(AccountFlags.HISTORY)
ACCOUNT_IMPORTED: Final = int(AccountFlags.IMPORTED)
CLOSED: Final = int(AccountFlags.CLOSED)
ACCOUNT_FLAGS_KNOWN: Final = 0x3F

# What became of a pending transfer, as the store keeps it.
STATUS_NONE, STATUS_PENDING, STATUS_POSTED, STATUS_VOIDED, STATUS_EXPIRED = range(5)

A = CreateAccountStatus
T = CreateTransferStatus

TRANSIENT: Final = frozenset(
    {
        T.DEBIT_ACCOUNT_NOT_FOUND,
        T.CREDIT_ACCOUNT_NOT_FOUND,
        T.PENDING_TRANSFER_NOT_FOUND,
        T.EXCEEDS_CREDITS,
        T.EXCEEDS_DEBITS,
        T.DEBIT_ACCOUNT_ALREADY_CLOSED,
        T.CREDIT_ACCOUNT_ALREADY_CLOSED,
    }
)
"""Outcomes that another moment could change: they burn the transfer's id (`id_already_failed`)."""

RESOLVED: Final = {
    STATUS_POSTED: T.PENDING_TRANSFER_ALREADY_POSTED,
    STATUS_VOIDED: T.PENDING_TRANSFER_ALREADY_VOIDED,
    STATUS_EXPIRED: T.PENDING_TRANSFER_EXPIRED,
}


@dataclass(slots=True, eq=False)
class AccountEvent:
    """An account as sent in, and as kept (`ordinal`: its place in order of creation, -1 until stored)."""

    id: int
    debits_pending: int
    debits_posted: int
    credits_pending: int
    credits_posted: int
    user_data_128: int
    user_data_64: int
    user_data_32: int
    reserved: int
    ledger: int
    code: int
    flags: int
    timestamp: int
    ordinal: int = -1


@dataclass(slots=True, eq=False)
class TransferEvent:
    """A transfer as sent in, and as kept (`unit`: its place in the journal, -1 until stored)."""

    id: int
    debit_account_id: int
    credit_account_id: int
    amount: int
    pending_id: int
    user_data_128: int
    user_data_64: int
    user_data_32: int
    timeout: int
    ledger: int
    code: int
    flags: int
    timestamp: int
    unit: int = -1
    status: int = STATUS_NONE


@dataclass(slots=True)
class HistoryRow:
    """The balances of a `history` account right after a transfer."""

    account: AccountEvent
    transfer: TransferEvent
    debits_pending: int
    debits_posted: int
    credits_pending: int
    credits_posted: int


Outcome = tuple[int, int]
"""(status, timestamp)"""


def account_malformed(a: AccountEvent) -> int:
    if a.reserved:
        return A.RESERVED_FIELD
    if a.flags & ~ACCOUNT_FLAGS_KNOWN:
        return A.RESERVED_FLAG
    if a.id == 0:
        return A.ID_MUST_NOT_BE_ZERO
    if a.id == U128_MAX:
        return A.ID_MUST_NOT_BE_INT_MAX
    return 0


def account_exists(a: AccountEvent, e: AccountEvent) -> int:
    if a.flags != e.flags:
        return A.EXISTS_WITH_DIFFERENT_FLAGS
    if a.user_data_128 != e.user_data_128:
        return A.EXISTS_WITH_DIFFERENT_USER_DATA_128
    if a.user_data_64 != e.user_data_64:
        return A.EXISTS_WITH_DIFFERENT_USER_DATA_64
    if a.user_data_32 != e.user_data_32:
        return A.EXISTS_WITH_DIFFERENT_USER_DATA_32
    if a.ledger != e.ledger:
        return A.EXISTS_WITH_DIFFERENT_LEDGER
    if a.code != e.code:
        return A.EXISTS_WITH_DIFFERENT_CODE
    return A.EXISTS


def account_incomplete(a: AccountEvent) -> int:
    if a.flags & DEBITS_LIMITED and a.flags & CREDITS_LIMITED:
        return A.FLAGS_ARE_MUTUALLY_EXCLUSIVE
    if a.debits_pending:
        return A.DEBITS_PENDING_MUST_BE_ZERO
    if a.debits_posted:
        return A.DEBITS_POSTED_MUST_BE_ZERO
    if a.credits_pending:
        return A.CREDITS_PENDING_MUST_BE_ZERO
    if a.credits_posted:
        return A.CREDITS_POSTED_MUST_BE_ZERO
    if a.ledger == 0:
        return A.LEDGER_MUST_NOT_BE_ZERO
    if a.code == 0:
        return A.CODE_MUST_NOT_BE_ZERO
    return 0


def movement_malformed(t: TransferEvent) -> int:
    if t.debit_account_id == 0:
        return T.DEBIT_ACCOUNT_ID_MUST_NOT_BE_ZERO
    if t.debit_account_id == U128_MAX:
        return T.DEBIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX
    if t.credit_account_id == 0:
        return T.CREDIT_ACCOUNT_ID_MUST_NOT_BE_ZERO
    if t.credit_account_id == U128_MAX:
        return T.CREDIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX
    if t.credit_account_id == t.debit_account_id:
        return T.ACCOUNTS_MUST_BE_DIFFERENT
    if t.pending_id:
        return T.PENDING_ID_MUST_BE_ZERO
    if not t.flags & PENDING:
        if t.timeout:
            return T.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER
        if t.flags & (CLOSING_DEBIT | CLOSING_CREDIT):
            return T.CLOSING_TRANSFER_MUST_BE_PENDING
    if t.ledger == 0:
        return T.LEDGER_MUST_NOT_BE_ZERO
    if t.code == 0:
        return T.CODE_MUST_NOT_BE_ZERO
    return 0


def movement_exists(t: TransferEvent, e: TransferEvent) -> int:
    """A movement sent again. A balancing amount is a ceiling: at least what was moved is the same request."""
    if t.debit_account_id != e.debit_account_id:
        return T.EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT_ID
    if t.credit_account_id != e.credit_account_id:
        return T.EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT_ID
    if t.flags & (BALANCING_DEBIT | BALANCING_CREDIT):
        if t.amount < e.amount:
            return T.EXISTS_WITH_DIFFERENT_AMOUNT
    elif t.amount != e.amount:
        return T.EXISTS_WITH_DIFFERENT_AMOUNT
    if t.user_data_128 != e.user_data_128:
        return T.EXISTS_WITH_DIFFERENT_USER_DATA_128
    if t.user_data_64 != e.user_data_64:
        return T.EXISTS_WITH_DIFFERENT_USER_DATA_64
    if t.user_data_32 != e.user_data_32:
        return T.EXISTS_WITH_DIFFERENT_USER_DATA_32
    if t.ledger != e.ledger:
        return T.EXISTS_WITH_DIFFERENT_LEDGER
    if t.code != e.code:
        return T.EXISTS_WITH_DIFFERENT_CODE
    return T.EXISTS


def amount_balanced(t: TransferEvent, debit: AccountEvent, credit: AccountEvent) -> int:
    """The amount that really moves: a balancing transfer moves no more than evens the account out."""
    amount = t.amount
    if t.flags & BALANCING_DEBIT:
        amount = min(amount, max(0, debit.credits_posted - debit.debits_posted - debit.debits_pending))
    if t.flags & BALANCING_CREDIT:
        amount = min(amount, max(0, credit.debits_posted - credit.credits_posted - credit.credits_pending))
    return amount


def no_room(t: TransferEvent, amount: int, timestamp: int, debit: AccountEvent, credit: AccountEvent) -> int:
    """Overflows of u128 and of the timeout, then the limits of the accounts."""
    if t.flags & PENDING:
        if amount + debit.debits_pending > U128_MAX:
            return T.OVERFLOWS_DEBITS_PENDING
        if amount + credit.credits_pending > U128_MAX:
            return T.OVERFLOWS_CREDITS_PENDING
    if amount + debit.debits_posted > U128_MAX:
        return T.OVERFLOWS_DEBITS_POSTED
    if amount + credit.credits_posted > U128_MAX:
        return T.OVERFLOWS_CREDITS_POSTED
    if amount + debit.debits_pending + debit.debits_posted > U128_MAX:
        return T.OVERFLOWS_DEBITS
    if amount + credit.credits_pending + credit.credits_posted > U128_MAX:
        return T.OVERFLOWS_CREDITS
    if timestamp + t.timeout * NS_PER_S > TIMESTAMP_MAX:
        return T.OVERFLOWS_TIMEOUT
    if (
        debit.flags & DEBITS_LIMITED
        and debit.debits_pending + debit.debits_posted + amount > debit.credits_posted
    ):
        return T.EXCEEDS_CREDITS
    if (
        credit.flags & CREDITS_LIMITED
        and credit.credits_pending + credit.credits_posted + amount > credit.debits_posted
    ):
        return T.EXCEEDS_DEBITS
    return 0


def resolution_malformed(t: TransferEvent) -> int:
    if (t.flags & POST and t.flags & VOID) or t.flags & NOT_WITH_POST_OR_VOID:
        return T.FLAGS_ARE_MUTUALLY_EXCLUSIVE
    if t.pending_id == 0:
        return T.PENDING_ID_MUST_NOT_BE_ZERO
    if t.pending_id == U128_MAX:
        return T.PENDING_ID_MUST_NOT_BE_INT_MAX
    if t.pending_id == t.id:
        return T.PENDING_ID_MUST_BE_DIFFERENT
    if t.timeout:
        return T.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER
    return 0


def resolution_mismatch(t: TransferEvent, p: TransferEvent) -> int:
    """A post or void may leave a field zero; what it names must be what the pending transfer has."""
    if not p.flags & PENDING:
        return T.PENDING_TRANSFER_NOT_PENDING
    if t.debit_account_id and t.debit_account_id != p.debit_account_id:
        return T.PENDING_TRANSFER_HAS_DIFFERENT_DEBIT_ACCOUNT_ID
    if t.credit_account_id and t.credit_account_id != p.credit_account_id:
        return T.PENDING_TRANSFER_HAS_DIFFERENT_CREDIT_ACCOUNT_ID
    if t.ledger and t.ledger != p.ledger:
        return T.PENDING_TRANSFER_HAS_DIFFERENT_LEDGER
    if t.code and t.code != p.code:
        return T.PENDING_TRANSFER_HAS_DIFFERENT_CODE
    return 0


def resolution_exists(t: TransferEvent, e: TransferEvent, p: TransferEvent) -> int:
    """A post or void sent again: what it leaves open is compared with the pending transfer `p`."""
    if t.debit_account_id and t.debit_account_id != e.debit_account_id:
        return T.EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT_ID
    if t.credit_account_id and t.credit_account_id != e.credit_account_id:
        return T.EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT_ID
    everything = 0 if t.flags & VOID else U128_MAX
    if e.amount != (p.amount if t.amount == everything else t.amount):
        return T.EXISTS_WITH_DIFFERENT_AMOUNT
    if e.user_data_128 != (t.user_data_128 or p.user_data_128):
        return T.EXISTS_WITH_DIFFERENT_USER_DATA_128
    if e.user_data_64 != (t.user_data_64 or p.user_data_64):
        return T.EXISTS_WITH_DIFFERENT_USER_DATA_64
    if e.user_data_32 != (t.user_data_32 or p.user_data_32):
        return T.EXISTS_WITH_DIFFERENT_USER_DATA_32
    if t.ledger and t.ledger != e.ledger:
        return T.EXISTS_WITH_DIFFERENT_LEDGER
    if t.code and t.code != e.code:
        return T.EXISTS_WITH_DIFFERENT_CODE
    return T.EXISTS


def inherit(t: TransferEvent, p: TransferEvent, amount: int, timestamp: int) -> None:
    """Make the request `t` the transfer to store: what it left open comes from the pending transfer `p`."""
    t.debit_account_id, t.credit_account_id = p.debit_account_id, p.credit_account_id
    t.user_data_128 = t.user_data_128 or p.user_data_128
    t.user_data_64 = t.user_data_64 or p.user_data_64
    t.user_data_32 = t.user_data_32 or p.user_data_32
    t.ledger, t.code = p.ledger, p.code
    t.amount, t.timestamp = amount, timestamp
