"""Filters over accounts and transfers: what the read methods of TigerBeetle 0.17 answer.

An invalid filter answers nothing; results come in order of timestamp (or reversed), at most `limit`. By
account there is an index; other fields are compared while reading, newest or oldest first, piece by piece.
Source: TigerBeetle `src/state_machine.zig`, get_scan_from_account_filter and get_scan_from_query_filter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from tigerbeetle import AccountFilterFlags, QueryFilterFlags

from sinks.books import (
    ACCOUNT_FILTER_STRUCT,
    BALANCE_DTYPE,
    QUERY_FILTER_STRUCT,
    Ints,
    Rows,
    U64s,
)
from sinks.embedded_checks import HISTORY, TIMESTAMP_MAX, U128_MAX
from sinks.embedded_journal import EMPTY, HISTORY_DTYPE
from sinks.embedded_store import BALANCES, IS_TRANSFER, Store
from sinks.embedded_u128 import Mask

DEBITS: Final = int(AccountFilterFlags.DEBITS)
CREDITS: Final = int(AccountFilterFlags.CREDITS)
ACCOUNT_REVERSED: Final = int(AccountFilterFlags.REVERSED)
QUERY_REVERSED: Final = int(QueryFilterFlags.REVERSED)
PIECE_MIN: Final = 1 << 8
PIECE_MAX: Final = 1 << 16
_LOW32: Final = np.uint64(0xFFFFFFFF)
_LOW64: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Filter:
    """Either kind of filter; a field that is zero asks nothing. Timestamps are inclusive, 0 = open."""

    account_id: int
    user_data_128: int
    user_data_64: int
    user_data_32: int
    ledger: int
    code: int
    reserved: bytes
    timestamp_min: int
    timestamp_max: int
    limit: int
    flags: int

    @property
    def until(self) -> int:
        return self.timestamp_max or TIMESTAMP_MAX

    def range_valid(self) -> bool:
        return (
            self.timestamp_min <= TIMESTAMP_MAX
            and self.timestamp_max <= TIMESTAMP_MAX
            and (self.timestamp_max == 0 or self.timestamp_min <= self.timestamp_max)
            and self.limit != 0
            and not any(self.reserved)
        )

    def matches(self, rows: Rows) -> Mask:
        """Which rows have every field that is asked for."""
        keep: Mask = np.ones(len(rows), np.bool_)
        if self.user_data_128:
            keep &= _is(rows, "user_data_128", self.user_data_128)
        for name in ("user_data_64", "user_data_32", "ledger", "code"):
            if wanted := getattr(self, name):
                keep &= rows[name] == wanted
        keep &= (rows["timestamp"] >= self.timestamp_min) & (rows["timestamp"] <= self.until)
        return keep


def account_filter(packed: bytes) -> Filter:
    """An ACCOUNT_FILTER_STRUCT as a Filter."""
    account, data_128, data_64, data_32, code, reserved, low, high, limit, flags = (
        ACCOUNT_FILTER_STRUCT.unpack(packed)
    )
    ids = int.from_bytes(account, "little"), int.from_bytes(data_128, "little")
    return Filter(*ids, data_64, data_32, 0, code, reserved, low, high, limit, flags)


def query_filter(packed: bytes) -> Filter:
    """A QUERY_FILTER_STRUCT as a Filter."""
    data_128, data_64, data_32, ledger, code, reserved, low, high, limit, flags = QUERY_FILTER_STRUCT.unpack(
        packed
    )
    number = int.from_bytes(data_128, "little")
    return Filter(0, number, data_64, data_32, ledger, code, reserved, low, high, limit, flags)


def account_transfers(store: Store, wanted: Filter) -> Rows:
    """Transfers of one account."""
    ordinal = _account(store, wanted)
    if ordinal < 0:
        return EMPTY[0]
    low, high = _span(store, wanted)
    pieces = store.postings.ranges(ordinal << 32 | low, ordinal << 32 | high)

    def read(units: Ints) -> Rows:
        rows = store.journal.rows()[units]
        kept: Rows = rows[wanted.matches(rows) & _sides(rows, wanted)]
        return kept

    return _collect(_units(pieces, bool(wanted.flags & ACCOUNT_REVERSED)), read, wanted.limit, EMPTY[0])


def account_balances(store: Store, wanted: Filter) -> Rows:
    """Balances of one account with history, as they stood after each of its transfers."""
    ordinal = _account(store, wanted)
    none: Rows = np.zeros(0, BALANCE_DTYPE)
    if ordinal < 0 or not int(store.account_rows["flags"][ordinal]) & HISTORY:
        return none
    pieces = store.history.ranges(ordinal << 32, (ordinal + 1) << 32)

    def read(units: Ints) -> Rows:
        stored = store.journal.rows()
        kept: Rows = stored[units].view(HISTORY_DTYPE)
        transfers = stored[kept["unit"].astype(np.int64)]
        kept = kept[wanted.matches(transfers) & _sides(transfers, wanted)]
        balances = np.zeros(len(kept), BALANCE_DTYPE)
        for name in (*(f"{name}_{half}" for name in BALANCES for half in ("lo", "hi")), "timestamp"):
            balances[name] = kept[name]
        return balances

    return _collect(_units(pieces, bool(wanted.flags & ACCOUNT_REVERSED)), read, wanted.limit, none)


def accounts(store: Store, wanted: Filter) -> Rows:
    """Accounts with the fields asked for."""
    if not wanted.range_valid() or wanted.flags & ~QUERY_REVERSED:
        return EMPTY[1]
    first, end = store.first_account_from(wanted.timestamp_min), store.first_account_from(wanted.until + 1)

    def read(ordinals: Ints) -> Rows:
        rows = store.account_rows[ordinals]
        kept: Rows = rows[wanted.matches(rows)]
        return kept

    return _collect(_places(first, end, bool(wanted.flags & QUERY_REVERSED)), read, wanted.limit, EMPTY[1])


def transfers(store: Store, wanted: Filter) -> Rows:
    """Transfers with the fields asked for."""
    if not wanted.range_valid() or wanted.flags & ~QUERY_REVERSED:
        return EMPTY[0]
    first, end = _span(store, wanted)

    def read(units: Ints) -> Rows:
        units = units[(store.kinds[units] & IS_TRANSFER) != 0]
        rows = store.journal.rows()[units]
        kept: Rows = rows[wanted.matches(rows)]
        return kept

    return _collect(_places(first, end, bool(wanted.flags & QUERY_REVERSED)), read, wanted.limit, EMPTY[0])


def _account(store: Store, wanted: Filter) -> int:
    """Ordinal of the account of a valid account filter, else −1."""
    valid = (
        wanted.range_valid()
        and wanted.account_id not in (0, U128_MAX)
        and wanted.flags & (DEBITS | CREDITS)
        and not wanted.flags & ~(DEBITS | CREDITS | ACCOUNT_REVERSED)
    )
    if not valid:
        return -1
    account = store.load_accounts([wanted.account_id]).get(wanted.account_id)
    return account.ordinal if account else -1


def _span(store: Store, wanted: Filter) -> tuple[int, int]:
    """Units [low, high) that hold every transfer of the filter's range of time."""
    return store.first_transfer_from(wanted.timestamp_min), store.first_transfer_from(wanted.until + 1)


def _sides(rows: Rows, wanted: Filter) -> Mask:
    keep: Mask = np.zeros(len(rows), np.bool_)
    if wanted.flags & DEBITS:
        keep |= _is(rows, "debit_account_id", wanted.account_id)
    if wanted.flags & CREDITS:
        keep |= _is(rows, "credit_account_id", wanted.account_id)
    return keep


def _is(rows: Rows, name: str, number: int) -> Mask:
    result: Mask = (rows[f"{name}_lo"] == number & _LOW64) & (rows[f"{name}_hi"] == number >> 64)
    return result


def _units(pieces: list[U64s], reverse: bool) -> Iterator[Ints]:
    """The places in index keys, in order of time, in pieces that grow."""
    for keys in reversed(pieces) if reverse else pieces:
        for span in _places(0, len(keys), reverse):
            yield (keys[span] & _LOW32).astype(np.int64)


def _places(first: int, end: int, reverse: bool) -> Iterator[Ints]:
    """first … end − 1 in pieces that grow, so that a small limit reads little."""
    size = PIECE_MIN
    while first < end:
        taken = min(size, end - first)
        if reverse:
            yield np.arange(end - 1, end - taken - 1, -1, dtype=np.int64)
            end -= taken
        else:
            yield np.arange(first, first + taken, dtype=np.int64)
            first += taken
        size = min(size * 4, PIECE_MAX)


def _collect(pieces: Iterator[Ints], read: Callable[[Ints], Rows], limit: int, none: Rows) -> Rows:
    found: list[Rows] = []
    missing = limit
    for piece in pieces:
        rows = read(piece)[:missing]
        if len(rows):
            found.append(rows)
            missing -= len(rows)
        if missing <= 0:
            break
    return np.concatenate(found) if found else none
