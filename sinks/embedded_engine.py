"""The embedded engine: batches in, results out, over a Store; the packed face of `sinks.books.Books`.

Each call takes the engine's lock, lets expired timeouts go first (TigerBeetle's pulse), gives the batch its
timestamps and judges it: plain batches as columns (embedded_plain), the rest one by one (embedded_rules). The
answer leaves only after the batch is on disk.
"""

from __future__ import annotations

import heapq
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from tigerbeetle import ClientClosedError, TooMuchDataError

from sinks import embedded_query
from sinks.books import (
    ACCOUNT_DTYPE,
    ACCOUNT_FILTER_STRUCT,
    BATCH_MAX,
    EVENT_BYTES,
    ID_DTYPE,
    QUERY_FILTER_STRUCT,
    RESULT_STRUCT,
    TRANSFER_DTYPE,
    Rows,
)
from sinks.embedded_checks import (
    STATUS_PENDING,
    AccountEvent,
    HistoryRow,
    Outcome,
    TransferEvent,
)
from sinks.embedded_journal import EMPTY, HISTORY_DTYPE, IMAGE_DTYPE, RESOLVED_DTYPE, Record
from sinks.embedded_plain import Plan, plain_accounts, plain_transfers
from sinks.embedded_query import Filter
from sinks.embedded_rules import Batch, execute
from sinks.embedded_store import IS_TRANSFER, STATUS_MASK, Store, account_event, transfer_event

_ROW: Final = struct.Struct("<12QQIIIHHQ")
_IMAGE: Final = struct.Struct("<II8Q")
_HISTORY: Final = struct.Struct("<8QQII48x")
_LOW64: Final = (1 << 64) - 1


class Engine:
    """Books in one directory. `plain=False` judges every batch one by one (for differential tests).

    Raises BooksInUseError, BooksDamagedError, BooksFullError, BooksError; TooMuchDataError and
    ClientClosedError as TigerBeetle's client does.
    """

    def __init__(
        self,
        directory: Path,
        *,
        clock: Callable[[], int] = time.time_ns,
        sync: bool = True,
        plain: bool = True,
        wait_s: float = 5.0,
    ) -> None:
        self.directory = directory
        self._store: Store | None = Store(directory, sync=sync, wait_s=wait_s)
        self._clock = clock
        self._plain = plain
        self._lock = threading.RLock()

    # Writing ------------------------------------------------------------------------------------------

    def create_accounts_packed(self, events: bytes) -> bytes:
        with self._lock:
            return self._create(_batch(events, ACCOUNT_DTYPE), plain_accounts, _accounts_one_by_one)

    def create_transfers_packed(self, events: bytes) -> bytes:
        with self._lock:
            return self._create(_batch(events, TRANSFER_DTYPE), plain_transfers, _transfers_one_by_one)

    def _create(
        self,
        events: Rows,
        plain: Callable[[Store, Rows, int], Plan | None],
        one_by_one: Callable[[Store, Rows, int], bytes],
    ) -> bytes:
        store = self._ready()
        if not len(events):
            return b""
        store.timestamp = max(store.timestamp + 1, self._clock()) + len(events)
        plan = plain(store, events, store.timestamp) if self._plain else None
        if plan is None:
            return one_by_one(store, events, store.timestamp)
        if plan.record is not None:
            store.commit(plan.record, plan.images, plan.ordinals)
        return plan.results.tobytes()

    def _ready(self) -> Store:
        """The open store, with every timeout that has passed let go."""
        if self._store is None:
            raise ClientClosedError()
        store = self._store
        now = max(store.timestamp + 1, self._clock()) if store.expiries else 0
        while store.expiries and store.expiries[0][0] <= now:
            expire(store, now)
            now = max(store.timestamp + 1, now)
        return store

    # Reading ------------------------------------------------------------------------------------------

    def lookup_accounts_packed(self, ids: bytes) -> bytes:
        with self._lock:
            store, wanted = self._ready(), _batch(ids, ID_DTYPE)
            ordinals = store.accounts.find(wanted["lo"], wanted["hi"])
            return store.account_rows[ordinals[ordinals >= 0]].tobytes()

    def lookup_transfers_packed(self, ids: bytes) -> bytes:
        with self._lock:
            store, wanted = self._ready(), _batch(ids, ID_DTYPE)
            units = store.transfers.find(wanted["lo"], wanted["hi"])
            units = units[units >= 0]
            units = units[(store.kinds[units] & IS_TRANSFER) != 0]
            return store.journal.rows()[units].tobytes() if len(units) else b""

    def get_account_transfers_packed(self, account_filter: bytes) -> bytes:
        return self._account_query(embedded_query.account_transfers, account_filter)

    def get_account_balances_packed(self, account_filter: bytes) -> bytes:
        return self._account_query(embedded_query.account_balances, account_filter)

    def query_accounts_packed(self, query_filter: bytes) -> bytes:
        return self._query(embedded_query.accounts, query_filter)

    def query_transfers_packed(self, query_filter: bytes) -> bytes:
        return self._query(embedded_query.transfers, query_filter)

    def _account_query(self, read: Callable[[Store, Filter], Rows], packed: bytes) -> bytes:
        _exactly(packed, ACCOUNT_FILTER_STRUCT.size)
        return self._read(read, embedded_query.account_filter(packed))

    def _query(self, read: Callable[[Store, Filter], Rows], packed: bytes) -> bytes:
        _exactly(packed, QUERY_FILTER_STRUCT.size)
        return self._read(read, embedded_query.query_filter(packed))

    def _read(self, read: Callable[[Store, Filter], Rows], wanted: Filter) -> bytes:
        with self._lock:
            store = self._ready()
            if wanted.limit > BATCH_MAX:
                raise TooMuchDataError()
            return read(store, wanted).tobytes()

    def close(self) -> None:
        """Give up the directory; idempotent."""
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None


def expire(store: Store, now: int) -> None:
    """Let go of at most one batch of pending transfers whose timeout is at or before `now`."""
    due: list[int] = []
    taken: list[tuple[int, int]] = []
    while store.expiries and store.expiries[0][0] <= now and len(due) < BATCH_MAX:
        entry = heapq.heappop(store.expiries)
        if int(store.kinds[entry[1]]) & STATUS_MASK == STATUS_PENDING:
            due.append(entry[1])
            taken.append(entry)
    if not due:
        return
    transfers, _ = store.transfers_at_units(np.array(due, np.int64))
    batch = _scope(store, transfers, set(), ())
    for transfer in transfers.values():
        batch.expire(transfer)
    store.timestamp = max(store.timestamp, now) + BATCH_MAX
    try:
        store.commit(_record(store, batch, store.timestamp))
    except BaseException:
        for entry in taken:
            heapq.heappush(store.expiries, entry)
        raise


def _transfers_one_by_one(store: Store, rows: Rows, timestamp: int) -> bytes:
    events = [transfer_event(row) for row in rows.tolist()]
    wanted = dict.fromkeys(event.id for event in events)
    wanted.update(dict.fromkeys(event.pending_id for event in events if event.pending_id))
    transfers, burnt = store.load_transfers(wanted)
    accounts = [ident for event in events for ident in (event.debit_account_id, event.credit_account_id)]
    batch = _scope(store, transfers, burnt, accounts)
    return _finish(store, batch, timestamp, execute(batch, timestamp, events))


def _accounts_one_by_one(store: Store, rows: Rows, timestamp: int) -> bytes:
    events = [account_event(row) for row in rows.tolist()]
    batch = _scope(store, {}, set(), [event.id for event in events])
    return _finish(store, batch, timestamp, execute(batch, timestamp, events))


def _scope(
    store: Store, transfers: dict[int, TransferEvent], burnt: set[int], accounts: list[int] | tuple[()]
) -> Batch:
    """Everything a batch can reach: the accounts named, and those of the transfers it may resolve."""
    wanted = dict.fromkeys(accounts)
    for transfer in transfers.values():
        wanted[transfer.debit_account_id] = wanted[transfer.credit_account_id] = None
    return Batch(
        store.load_accounts(wanted),
        transfers,
        burnt,
        store.account_timestamp_max,
        store.transfer_timestamp_max,
        store.account_at,
        store.transfer_at,
    )


def _finish(store: Store, batch: Batch, timestamp: int, outcomes: list[Outcome]) -> bytes:
    if batch.created_accounts or batch.created_transfers:
        store.commit(_record(store, batch, timestamp))
    return b"".join([RESULT_STRUCT.pack(stamp, status, 0) for status, stamp in outcomes])


def _record(store: Store, batch: Batch, timestamp: int) -> Record:
    """What an executed batch leaves behind, as rows; its transfers get their units here."""
    unit = store.journal.units + 1
    for transfer in batch.created_transfers:
        if isinstance(transfer, TransferEvent):
            transfer.unit = unit
        unit += 1
    transfers = b"".join([_transfer_row(transfer) for transfer in batch.created_transfers])
    accounts = b"".join([_account_row(account) for account in batch.created_accounts])
    history = b"".join(
        [
            _HISTORY.pack(*_balances(row), row.transfer.timestamp, row.account.ordinal, row.transfer.unit)
            for row in batch.history
        ]
    )
    images = b"".join([_IMAGE.pack(a.ordinal, a.flags, *_balances(a)) for a in batch.touched.values()])
    resolved = [(transfer.unit, transfer.status) for transfer in batch.resolved]
    return Record(
        timestamp,
        False,
        np.frombuffer(transfers, TRANSFER_DTYPE),
        np.frombuffer(accounts, ACCOUNT_DTYPE),
        np.frombuffer(history, HISTORY_DTYPE),
        np.frombuffer(images, IMAGE_DTYPE),
        np.array(resolved, RESOLVED_DTYPE) if resolved else EMPTY[4],
    )


def _transfer_row(t: TransferEvent | int) -> bytes:
    if isinstance(t, int):
        return t.to_bytes(16, "little").ljust(EVENT_BYTES, b"\0")
    wide = (t.id, t.debit_account_id, t.credit_account_id, t.amount, t.pending_id, t.user_data_128)
    narrow = (t.user_data_64, t.user_data_32, t.timeout, t.ledger, t.code, t.flags, t.timestamp)
    return _ROW.pack(*_split(wide), *narrow)


def _account_row(a: AccountEvent) -> bytes:
    wide = (a.id, a.debits_pending, a.debits_posted, a.credits_pending, a.credits_posted, a.user_data_128)
    narrow = (a.user_data_64, a.user_data_32, a.reserved, a.ledger, a.code, a.flags, a.timestamp)
    return _ROW.pack(*_split(wide), *narrow)


def _balances(of: AccountEvent | HistoryRow) -> list[int]:
    return _split((of.debits_pending, of.debits_posted, of.credits_pending, of.credits_posted))


def _split(numbers: tuple[int, ...]) -> list[int]:
    return [half for number in numbers for half in (number & _LOW64, number >> 64)]


def _batch(packed: bytes, dtype: np.dtype[np.void]) -> Rows:
    """The events of a request; raises TooMuchDataError above BATCH_MAX, ValueError on a broken length."""
    if len(packed) % dtype.itemsize:
        raise ValueError(f"a batch of {len(packed)} bytes is not made of {dtype.itemsize}-byte events")
    if len(packed) > BATCH_MAX * dtype.itemsize:
        raise TooMuchDataError()
    return np.frombuffer(packed, dtype)


def _exactly(packed: bytes, size: int) -> None:
    if len(packed) != size:
        raise ValueError(f"a filter has {size} bytes, not {len(packed)}")
