"""What the embedded engine holds: the fold of its journal.

`apply` is the only writer, for a batch just written as for one read again at start. Accounts stand in memory
in order of creation (their place is their `ordinal`), transfers stay in the journal (their place is their
`unit`); two id tables, the postings of each account and one byte per unit find them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from sinks.books import ACCOUNT_DTYPE, BooksDamagedError, Ints, Rows, U64s
from sinks.embedded_checks import NS_PER_S, PENDING, STATUS_PENDING, AccountEvent, TransferEvent
from sinks.embedded_index import Growing, IdTable, SortedRuns
from sinks.embedded_journal import IMAGE_DTYPE, Journal, Record
from sinks.embedded_u128 import Pair, add, column, sums

BALANCES: Final = ("debits_pending", "debits_posted", "credits_pending", "credits_posted")
IS_TRANSFER: Final = 8
"""Bit of a unit's kind byte: a transfer stands here; the bits below it are its pending status."""
STATUS_MASK: Final = 7
REPLAY_ROWS: Final = 1 << 18
"""Rows folded at once at start (embedded_u128.sums is exact for four times as many)."""
Placed = tuple[int, Record]
"""A record and the unit of its first row."""
_32: Final = np.uint64(32)


class Store:
    """The books of one directory. Raises what Journal raises."""

    def __init__(self, directory: Path, *, sync: bool = True, wait_s: float = 5.0) -> None:
        self.directory = directory
        self.journal = Journal(directory, sync=sync, wait_s=wait_s)
        self.transfers = IdTable(self._transfer_ids, directory)
        self.accounts = IdTable(self._account_ids, directory)
        self._account_rows = Growing(ACCOUNT_DTYPE, directory)
        self.account_count = 0
        self._kinds = Growing(np.uint8, directory)
        self.postings = SortedRuns(directory)
        self.history = SortedRuns(directory)
        self.expiries: list[tuple[int, int]] = []
        self.timestamp = 0
        self.account_timestamp_max = 0
        self.transfer_timestamp_max = 0
        try:
            for records in _runs(self.journal.replay()):
                self.apply(records)
        except BaseException:
            self.journal.close()
            raise

    # Reading ------------------------------------------------------------------------------------------

    @property
    def account_rows(self) -> Rows:
        return self._account_rows.data  # type: ignore[return-value]

    @property
    def kinds(self) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
        return self._kinds.data  # type: ignore[return-value]

    def _account_ids(self, ordinals: Ints) -> Pair:
        rows = self.account_rows
        return rows["id_lo"][ordinals], rows["id_hi"][ordinals]

    def _transfer_ids(self, units: Ints) -> Pair:
        words = self.journal.words()
        return words[units * 16], words[units * 16 + 1]

    def account_at(self, timestamp: int) -> bool:
        """Whether an account was created with exactly this timestamp."""
        ordinal = self.first_account_from(timestamp)
        return ordinal < self.account_count and int(self.account_rows["timestamp"][ordinal]) == timestamp

    def transfer_at(self, timestamp: int) -> bool:
        """Whether a transfer was created with exactly this timestamp."""
        unit = self.first_transfer_from(timestamp)
        return unit < self.journal.units and int(self.journal.rows()["timestamp"][unit]) == timestamp

    def first_account_from(self, timestamp: int) -> int:
        """Ordinal of the first account at or after `timestamp` (account_count if none)."""
        stamps, low, high = self.account_rows["timestamp"], 0, self.account_count
        while low < high:
            middle = (low + high) // 2
            if int(stamps[middle]) < timestamp:
                low = middle + 1
            else:
                high = middle
        return low

    def first_transfer_from(self, timestamp: int) -> int:
        """Unit of the first transfer at or after `timestamp` (the journal's end if none)."""
        low, high = 0, self.journal.units
        if timestamp > self.transfer_timestamp_max:
            return high
        stamps = self.journal.rows()["timestamp"]
        while low < high:
            middle = (low + high) // 2
            unit = self._next_transfer(middle, high)
            if unit < high and int(stamps[unit]) < timestamp:
                low = unit + 1
            else:
                high = middle
        return self._next_transfer(low, self.journal.units)

    def _next_transfer(self, unit: int, end: int) -> int:
        step = 64
        while unit < end:
            stop = min(unit + step, end)
            hits = np.flatnonzero(self.kinds[unit:stop] & IS_TRANSFER)
            if len(hits):
                return unit + int(hits[0])
            unit, step = stop, min(step * 4, 1 << 20)
        return end

    def load_accounts(self, ids: Iterable[int]) -> dict[int, AccountEvent]:
        """The accounts that exist among `ids`, as objects of their own."""
        lo, hi = _halves(ids)
        ordinals = self.accounts.find(lo, hi)
        ordinals = ordinals[ordinals >= 0]
        loaded = {}
        for ordinal, row in zip(ordinals.tolist(), self.account_rows[ordinals].tolist(), strict=True):
            account = account_event(row)
            account.ordinal = ordinal
            loaded[account.id] = account
        return loaded

    def load_transfers(self, ids: Iterable[int]) -> tuple[dict[int, TransferEvent], set[int]]:
        """The transfers that exist among `ids`, and the ids among them that are burnt."""
        lo, hi = _halves(ids)
        units = self.transfers.find(lo, hi)
        return self.transfers_at_units(units[units >= 0])

    def transfers_at_units(self, units: Ints) -> tuple[dict[int, TransferEvent], set[int]]:
        loaded: dict[int, TransferEvent] = {}
        burnt: set[int] = set()
        kinds = self.kinds[units].tolist()
        rows = self.journal.rows()[units].tolist() if len(units) else []
        for unit, kind, row in zip(units.tolist(), kinds, rows, strict=True):
            transfer = transfer_event(row)
            if not kind & IS_TRANSFER:
                burnt.add(transfer.id)
                continue
            transfer.unit, transfer.status = unit, kind & STATUS_MASK
            loaded[transfer.id] = transfer
        return loaded, burnt

    # Writing ------------------------------------------------------------------------------------------

    def commit(self, record: Record, images: Rows | None = None, ordinals: Pair | None = None) -> None:
        """Make the batch durable, then part of the books. Raises what Journal.append raises, unchanged.

        `images` and `ordinals` are what a plain record implies, where the caller has them already.
        """
        first = self.journal.append(record)
        self.apply([(first, record)], images, ordinals)

    def apply(self, records: list[Placed], images: Rows | None = None, ordinals: Pair | None = None) -> None:
        """Fold durable records, all plain or none of them, into the books in one go."""
        self._kinds.reach(self.journal.units)
        accounts = _joined([record.accounts for _, record in records])
        if len(accounts):
            self._add_accounts(accounts)
        transfers = _joined([record.transfers for _, record in records])
        if len(transfers):
            units = np.concatenate([first + np.arange(len(r.transfers)) for first, r in records])
            transfers, ordinals = self._add_transfers(units, transfers, ordinals)
            if records[0][1].plain and images is None:
                images = plain_images(self, transfers, ordinals)
                if images is None:
                    raise BooksDamagedError(f"{self.journal.path}: balances beyond u128")
        self._set_images(_joined([r.images for _, r in records]) if images is None else images)
        resolved = _joined([record.resolved for _, record in records])
        if len(resolved):
            self.kinds[resolved["unit"].astype(np.int64)] = IS_TRANSFER | resolved["status"].astype(np.uint8)
        for first, record in records:
            if len(record.history):
                self._add_history(first + len(record.transfers) + len(record.accounts), record.history)
        self.timestamp = max(self.timestamp, records[-1][1].timestamp)

    def _add_accounts(self, accounts: Rows) -> None:
        count = self.account_count
        self._account_rows.reach(count + len(accounts))
        self.account_rows[count : count + len(accounts)] = accounts
        places = np.arange(count, count + len(accounts), dtype=np.int64)
        self.accounts.insert(*column(accounts, "id"), places)
        self.account_count += len(accounts)
        self.account_timestamp_max = int(accounts["timestamp"][-1])

    def _add_history(self, at: int, history: Rows) -> None:
        places: U64s = np.arange(at, at + len(history), dtype=np.uint64)
        owners: U64s = history["ordinal"].astype(np.uint64)
        self.history.append((owners << _32) | places)

    def _add_transfers(self, units: Ints, rows: Rows, ordinals: Pair | None) -> tuple[Rows, Pair]:
        """Index the rows; answers those that are transfers, and their (debit, credit) account ordinals."""
        self.transfers.insert(*column(rows, "id"), units)
        real = rows["timestamp"] != 0
        if not real.all():
            rows, units = rows[real], units[real]
        if not len(rows):
            return rows, (np.zeros(0, np.uint64), np.zeros(0, np.uint64))
        if ordinals is None:
            ordinals = self._ordinals(rows, "debit_account_id"), self._ordinals(rows, "credit_account_id")
        places = units.astype(np.uint64)
        self.postings.append(np.concatenate([(side << _32) | places for side in ordinals]))
        pending = (rows["flags"] & PENDING) != 0
        self.kinds[units] = IS_TRANSFER
        if pending.any():
            self.kinds[units[pending]] = IS_TRANSFER | STATUS_PENDING
            timed = pending & (rows["timeout"] != 0)
            self._add_expiries(rows[timed], units[timed])
        self.transfer_timestamp_max = int(rows["timestamp"][-1])
        return rows, ordinals

    def _add_expiries(self, rows: Rows, units: Ints) -> None:
        columns = rows["timestamp"].tolist(), rows["timeout"].tolist(), units.tolist()
        for stamp, timeout, unit in zip(*columns, strict=True):
            heapq.heappush(self.expiries, (stamp + timeout * NS_PER_S, unit))

    def _ordinals(self, rows: Rows, name: str) -> U64s:
        found = self.accounts.find(*column(rows, name))
        if len(found) and int(found.min()) < 0:
            raise BooksDamagedError(f"{self.journal.path}: a transfer names an account that is not there")
        return found.astype(np.uint64)

    def _set_images(self, images: Rows) -> None:
        if not len(images):
            return
        ordinals, rows = images["ordinal"].astype(np.int64), self.account_rows
        for name in BALANCES:
            rows[f"{name}_lo"][ordinals] = images[f"{name}_lo"]
            rows[f"{name}_hi"][ordinals] = images[f"{name}_hi"]
        rows["flags"][ordinals] = images["flags"]

    def close(self) -> None:
        self.journal.close()


def plain_images(store: Store, rows: Rows, ordinals: Pair) -> Rows | None:
    """Balances after `rows` (single-phase and pending movements only), or None where one leaves u128."""
    touched, groups = np.unique(np.concatenate(ordinals), return_inverse=True)
    half = len(rows)
    images = np.zeros(len(touched), IMAGE_DTYPE)
    images["ordinal"] = touched
    before = store.account_rows[touched.astype(np.int64)]
    images["flags"] = before["flags"]
    pending = (rows["flags"] & PENDING) != 0
    mixed = bool(pending.any())
    for side, where in (("debits", groups[:half]), ("credits", groups[half:])):
        total: Pair | None = None
        for phase, chosen in (("pending", pending), ("posted", ~pending)):
            name = f"{side}_{phase}"
            after = column(before, name)
            if mixed or phase == "posted":
                amounts = column(rows[chosen] if mixed else rows, "amount")
                moved, over = sums(where[chosen] if mixed else where, len(touched), amounts)
                after, over_sum = add(after, moved)
                if over or over_sum:
                    return None
            images[f"{name}_lo"], images[f"{name}_hi"] = after
            if total is None:
                total = after
            elif add(total, after)[1]:
                return None
    return images


def account_event(row: tuple[int, ...]) -> AccountEvent:
    """An ACCOUNT_DTYPE row as plain integers."""
    (i0, i1, a0, a1, b0, b1, c0, c1, d0, d1, u0, u1, u64, u32, reserved, ledger, code, flags, stamp) = row
    return AccountEvent(
        i1 << 64 | i0,
        a1 << 64 | a0,
        b1 << 64 | b0,
        c1 << 64 | c0,
        d1 << 64 | d0,
        u1 << 64 | u0,
        u64,
        u32,
        reserved,
        ledger,
        code,
        flags,
        stamp,
    )


def transfer_event(row: tuple[int, ...]) -> TransferEvent:
    """A TRANSFER_DTYPE row as plain integers."""
    (i0, i1, d0, d1, c0, c1, a0, a1, p0, p1, u0, u1, u64, u32, timeout, ledger, code, flags, stamp) = row
    return TransferEvent(
        i1 << 64 | i0,
        d1 << 64 | d0,
        c1 << 64 | c0,
        a1 << 64 | a0,
        p1 << 64 | p0,
        u1 << 64 | u0,
        u64,
        u32,
        timeout,
        ledger,
        code,
        flags,
        stamp,
    )


def _runs(records: Iterable[Placed]) -> Iterator[list[Placed]]:
    """Neighbours of one kind together, so that many small batches are folded as fast as few big ones."""
    run: list[Placed] = []
    rows = 0
    for first, record in records:
        size = sum(map(len, record.sections))
        if run and (record.plain != run[0][1].plain or rows + size > REPLAY_ROWS):
            yield run
            run, rows = [], 0
        run.append((first, record))
        rows += size
    if run:
        yield run


def _joined(parts: list[Rows]) -> Rows:
    if len(parts) == 1:
        return parts[0]
    return np.frombuffer(b"".join([part.tobytes() for part in parts]), parts[0].dtype)


def _halves(ids: Iterable[int]) -> Pair:
    packed = b"".join(number.to_bytes(16, "little") for number in ids)
    words = np.frombuffer(packed, np.uint64)
    return words[0::2].copy(), words[1::2].copy()
