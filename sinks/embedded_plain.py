"""Whole batches at once: the rules of embedded_checks as numpy columns, for batches without surprises.

A plain transfer batch holds only single-phase and pending transfers (linked or not) and needs no knowledge of
its own order: nothing overflows, no limit can be met even if all debits came first, no history is kept, no
id comes twice, no chain breaks. A plain account batch is the like. `plain_*` answers None whenever it is not
certain that the one-by-one rules would answer the same; the caller then takes those. Tests hold them equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sinks.books import CREATED, RESULT_DTYPE, Ints, Rows, U64s
from sinks.embedded_checks import (
    ACCOUNT_FLAGS_KNOWN,
    ACCOUNT_IMPORTED,
    CLOSED,
    CREDITS_LIMITED,
    DEBITS_LIMITED,
    HISTORY,
    LINKED,
    PENDING,
    TRANSIENT,
    A,
    T,
)
from sinks.embedded_index import hashes
from sinks.embedded_journal import EMPTY, Record
from sinks.embedded_store import IS_TRANSFER, Store, plain_images
from sinks.embedded_u128 import Mask, Pair, add, column, equal, greater, is_max, is_zero

U16s = npt.NDArray[np.uint16]
U32s = npt.NDArray[np.uint32]

TIMEOUTS_SAFE_UNTIL: Final = (1 << 63) - 1 - 0xFFFFFFFF * 1_000_000_000
_TRANSIENT: Final = np.array(sorted(TRANSIENT), np.uint32)


@dataclass(frozen=True, slots=True)
class Plan:
    """Results of a plain batch, and what to commit (None: nothing changes)."""

    results: Rows
    record: Record | None
    images: Rows | None = None
    ordinals: Pair | None = None


class _Verdicts:
    """Statuses filled in order of precedence: the first mark an event gets stays."""

    def __init__(self, count: int) -> None:
        self.status = np.zeros(count, np.uint32)

    def mark(self, where: Mask, status: int) -> None:
        self.status[where & (self.status == 0)] = status

    def open(self) -> Ints:
        return np.flatnonzero(self.status == 0)


def plain_transfers(store: Store, events: Rows, timestamp: int) -> Plan | None:
    """Judge a batch of transfers whose last event has `timestamp`; None if it is not plain."""
    flags = events["flags"]
    if (flags & ~np.uint16(PENDING | LINKED)).any() or timestamp > TIMEOUTS_SAFE_UNTIL:
        return None
    ids = column(events, "id")
    units = store.transfers.find(*ids)
    fresh = np.flatnonzero(units < 0)
    if _repeated((ids[0][fresh], ids[1][fresh])):
        return None
    stamps = np.arange(timestamp - len(events) + 1, timestamp + 1, dtype=np.uint64)
    verdicts = _Verdicts(len(events))
    verdicts.mark(events["timestamp"] != 0, T.TIMESTAMP_MUST_BE_ZERO)
    verdicts.mark(is_zero(ids), T.ID_MUST_NOT_BE_ZERO)
    verdicts.mark(is_max(ids), T.ID_MUST_NOT_BE_INT_MAX)
    if len(fresh) < len(events):
        _judge_existing(store, events, units, verdicts, stamps)
    debits = credits = np.zeros(0, np.int64)
    if len(fresh):
        debits, credits = _judge_movements(store, events, verdicts)
    verdicts.mark(verdicts.status == 0, CREATED)
    if _chain_at_risk(flags, verdicts.status, T.CREATED):
        return None
    results = _results(verdicts.status, stamps)
    made = np.flatnonzero(verdicts.status == CREATED)
    burnt = np.flatnonzero(np.isin(verdicts.status, _TRANSIENT)) if len(fresh) else made[:0]
    if not len(made) and not len(burnt):
        return Plan(results, None)
    ordinals = debits[made].astype(np.uint64), credits[made].astype(np.uint64)
    rows = np.zeros(len(made) + len(burnt), events.dtype)
    rows[: len(made)] = events[made] if len(made) < len(events) else events
    rows["timestamp"][: len(made)] = stamps[made]
    for half in ("id_lo", "id_hi"):
        rows[half][len(made) :] = events[half][burnt]
    images = plain_images(store, rows[: len(made)], ordinals)
    if images is None or not _order_free(store, images):
        return None
    return Plan(results, Record(timestamp, True, rows, *EMPTY[1:]), images, ordinals)


def _judge_existing(store: Store, events: Rows, units: Ints, verdicts: _Verdicts, stamps: U64s) -> None:
    """exists, exists_with_different_*, id_already_failed; `stamps` gets the stored timestamps."""
    known = np.flatnonzero((units >= 0) & (verdicts.status == 0))
    kinds = store.kinds[units[known]]
    verdicts.status[known[(kinds & IS_TRANSFER) == 0]] = T.ID_ALREADY_FAILED
    known = known[(kinds & IS_TRANSFER) != 0]
    if not len(known):
        return
    there, here = store.journal.rows()[units[known]], events[known]
    found = _Verdicts(len(known))
    found.mark(there["flags"] != here["flags"], T.EXISTS_WITH_DIFFERENT_FLAGS)
    for name, status in (
        ("pending_id", T.EXISTS_WITH_DIFFERENT_PENDING_ID),
        ("timeout", T.EXISTS_WITH_DIFFERENT_TIMEOUT),
        ("debit_account_id", T.EXISTS_WITH_DIFFERENT_DEBIT_ACCOUNT_ID),
        ("credit_account_id", T.EXISTS_WITH_DIFFERENT_CREDIT_ACCOUNT_ID),
        ("amount", T.EXISTS_WITH_DIFFERENT_AMOUNT),
        ("user_data_128", T.EXISTS_WITH_DIFFERENT_USER_DATA_128),
        ("user_data_64", T.EXISTS_WITH_DIFFERENT_USER_DATA_64),
        ("user_data_32", T.EXISTS_WITH_DIFFERENT_USER_DATA_32),
        ("ledger", T.EXISTS_WITH_DIFFERENT_LEDGER),
        ("code", T.EXISTS_WITH_DIFFERENT_CODE),
    ):
        found.mark(_differ(there, here, name), status)
    same = found.status == 0
    found.status[same] = T.EXISTS
    verdicts.status[known] = found.status
    stamps[known[same]] = there["timestamp"][same]


def _judge_movements(store: Store, events: Rows, verdicts: _Verdicts) -> tuple[Ints, Ints]:
    """The checks of a movement up to the closed accounts; answers both accounts' ordinals (−1: none)."""
    debit_ids, credit_ids = column(events, "debit_account_id"), column(events, "credit_account_id")
    verdicts.mark(is_zero(debit_ids), T.DEBIT_ACCOUNT_ID_MUST_NOT_BE_ZERO)
    verdicts.mark(is_max(debit_ids), T.DEBIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX)
    verdicts.mark(is_zero(credit_ids), T.CREDIT_ACCOUNT_ID_MUST_NOT_BE_ZERO)
    verdicts.mark(is_max(credit_ids), T.CREDIT_ACCOUNT_ID_MUST_NOT_BE_INT_MAX)
    verdicts.mark(equal(debit_ids, credit_ids), T.ACCOUNTS_MUST_BE_DIFFERENT)
    verdicts.mark(~is_zero(column(events, "pending_id")), T.PENDING_ID_MUST_BE_ZERO)
    posted = (events["flags"] & PENDING) == 0
    verdicts.mark(posted & (events["timeout"] != 0), T.TIMEOUT_RESERVED_FOR_PENDING_TRANSFER)
    verdicts.mark(events["ledger"] == 0, T.LEDGER_MUST_NOT_BE_ZERO)
    verdicts.mark(events["code"] == 0, T.CODE_MUST_NOT_BE_ZERO)
    debits, credits = store.accounts.find(*debit_ids), store.accounts.find(*credit_ids)
    verdicts.mark(debits < 0, T.DEBIT_ACCOUNT_NOT_FOUND)
    verdicts.mark(credits < 0, T.CREDIT_ACCOUNT_NOT_FOUND)
    ledgers, flags = store.account_rows["ledger"], store.account_rows["flags"]
    verdicts.mark(ledgers[debits] != ledgers[credits], T.ACCOUNTS_MUST_HAVE_THE_SAME_LEDGER)
    verdicts.mark(ledgers[debits] != events["ledger"], T.TRANSFER_MUST_HAVE_THE_SAME_LEDGER_AS_ACCOUNTS)
    verdicts.mark((flags[debits] & CLOSED) != 0, T.DEBIT_ACCOUNT_ALREADY_CLOSED)
    verdicts.mark((flags[credits] & CLOSED) != 0, T.CREDIT_ACCOUNT_ALREADY_CLOSED)
    return debits, credits


def _order_free(store: Store, images: Rows) -> bool:
    """Whether no account keeps history and no limit can be met whatever the order of the movements."""
    if (images["flags"] & HISTORY).any():
        return False
    limited = np.flatnonzero(images["flags"] & (DEBITS_LIMITED | CREDITS_LIMITED))
    if not len(limited):
        return True
    after = images[limited]
    before = store.account_rows[after["ordinal"].astype(np.int64)]
    for flag, side, other in ((DEBITS_LIMITED, "debits", "credits"), (CREDITS_LIMITED, "credits", "debits")):
        used, _ = add(column(after, f"{side}_pending"), column(after, f"{side}_posted"))
        exceeds = greater(used, column(before, f"{other}_posted"))
        if (exceeds & ((after["flags"] & flag) != 0)).any():
            return False
    return True


def plain_accounts(store: Store, events: Rows, timestamp: int) -> Plan | None:
    """Judge a batch of accounts whose last event has `timestamp`; None if it is not plain."""
    flags = events["flags"]
    if (flags & ACCOUNT_IMPORTED).any():
        return None
    ids = column(events, "id")
    ordinals = store.accounts.find(*ids)
    fresh = np.flatnonzero(ordinals < 0)
    if _repeated((ids[0][fresh], ids[1][fresh])):
        return None
    stamps = np.arange(timestamp - len(events) + 1, timestamp + 1, dtype=np.uint64)
    verdicts = _Verdicts(len(events))
    verdicts.mark(events["timestamp"] != 0, A.TIMESTAMP_MUST_BE_ZERO)
    verdicts.mark(events["reserved"] != 0, A.RESERVED_FIELD)
    verdicts.mark((flags & ~np.uint16(ACCOUNT_FLAGS_KNOWN)) != 0, A.RESERVED_FLAG)
    verdicts.mark(is_zero(ids), A.ID_MUST_NOT_BE_ZERO)
    verdicts.mark(is_max(ids), A.ID_MUST_NOT_BE_INT_MAX)
    _judge_existing_accounts(store, events, ordinals, verdicts, stamps)
    both = np.uint16(DEBITS_LIMITED | CREDITS_LIMITED)
    verdicts.mark((flags & both) == both, A.FLAGS_ARE_MUTUALLY_EXCLUSIVE)
    verdicts.mark(~is_zero(column(events, "debits_pending")), A.DEBITS_PENDING_MUST_BE_ZERO)
    verdicts.mark(~is_zero(column(events, "debits_posted")), A.DEBITS_POSTED_MUST_BE_ZERO)
    verdicts.mark(~is_zero(column(events, "credits_pending")), A.CREDITS_PENDING_MUST_BE_ZERO)
    verdicts.mark(~is_zero(column(events, "credits_posted")), A.CREDITS_POSTED_MUST_BE_ZERO)
    verdicts.mark(events["ledger"] == 0, A.LEDGER_MUST_NOT_BE_ZERO)
    verdicts.mark(events["code"] == 0, A.CODE_MUST_NOT_BE_ZERO)
    verdicts.mark(verdicts.status == 0, CREATED)
    if _chain_at_risk(flags, verdicts.status, A.CREATED):
        return None
    results = _results(verdicts.status, stamps)
    made = verdicts.status == CREATED
    if not made.any():
        return Plan(results, None)
    rows = events[made]
    rows["timestamp"] = stamps[made]
    return Plan(results, Record(timestamp, False, EMPTY[0], rows, *EMPTY[2:]))


def _judge_existing_accounts(
    store: Store, events: Rows, ordinals: Ints, verdicts: _Verdicts, stamps: U64s
) -> None:
    known = np.flatnonzero((ordinals >= 0) & (verdicts.status == 0))
    if not len(known):
        return
    there, here = store.account_rows[ordinals[known]], events[known]
    found = _Verdicts(len(known))
    for name, status in (
        ("flags", A.EXISTS_WITH_DIFFERENT_FLAGS),
        ("user_data_128", A.EXISTS_WITH_DIFFERENT_USER_DATA_128),
        ("user_data_64", A.EXISTS_WITH_DIFFERENT_USER_DATA_64),
        ("user_data_32", A.EXISTS_WITH_DIFFERENT_USER_DATA_32),
        ("ledger", A.EXISTS_WITH_DIFFERENT_LEDGER),
        ("code", A.EXISTS_WITH_DIFFERENT_CODE),
    ):
        found.mark(_differ(there, here, name), status)
    same = found.status == 0
    found.status[same] = A.EXISTS
    verdicts.status[known] = found.status
    stamps[known[same]] = there["timestamp"][same]


def _differ(there: Rows, here: Rows, name: str) -> Mask:
    if f"{name}_lo" in (there.dtype.names or ()):
        return ~equal(column(there, name), column(here, name))
    result: Mask = there[name] != here[name]
    return result


def _repeated(ids: Pair) -> bool:
    """Whether an id may come twice (judged by hash: a false alarm only costs time)."""
    hashed = np.sort(hashes(*ids))
    return bool((hashed[1:] == hashed[:-1]).any())


def _chain_at_risk(flags: U16s, status: U32s, created: int) -> bool:
    """Whether a chain is open or holds an event that was not created."""
    linked = (flags & LINKED) != 0
    if not linked.any():
        return False
    chained = linked.copy()
    chained[1:] |= linked[:-1]
    return bool(linked[-1] or (chained & (status != created)).any())


def _results(status: U32s, stamps: U64s) -> Rows:
    results = np.zeros(len(status), RESULT_DTYPE)
    results["timestamp"], results["status"] = stamps, status
    return results
