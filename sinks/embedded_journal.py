"""The one file that is the truth of embedded books: an append-only journal of batches.

A record is one batch: a 128-byte header, then 128-byte rows, all addressed in units of 128 bytes, so a row's
place in the file is its address for ever. The header counts the sections, chains to the record before it and
carries a CRC-32 of the payload and one of itself. `append` writes one record and syncs once; only then may
the batch be answered. On opening, records are read in order until one does not check: what follows was never
acknowledged and is cut off. Everything else the engine holds is derived from these records.

The file grows ahead of its end in steps (a sparse tail of zeros, cut off by `close`), so it is mapped rarely.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from sinks.books import (
    ACCOUNT_DTYPE,
    TRANSFER_DTYPE,
    BooksDamagedError,
    BooksError,
    BooksFullError,
    BooksInUseError,
    Rows,
    U64s,
)

UNIT: Final = 128
MAGIC: Final = b"TIDEBOOK"
VERSION: Final = 1
HEADER: Final = struct.Struct("<8sIIQQIIIIIIII")
"""magic, version, flags, sequence, timestamp, transfers, accounts, history, images, resolved, units,
payload CRC, CRC of the record before; the header's own CRC stands in the unit's last four bytes."""
CRC: Final = struct.Struct("<I")
FLAG_PLAIN: Final = 1
"""The new balances follow from the transfers alone (no images)."""
GROW_MIN: Final = 1 << 20
GROW_MAX: Final = 256 << 20
UNITS_MAX: Final = (1 << 32) - 2

IMAGE_DTYPE: Final = np.dtype(
    [
        ("ordinal", "<u4"),
        ("flags", "<u4"),
        *[
            (f"{name}_{half}", "<u8")
            for name in ("debits_pending", "debits_posted", "credits_pending", "credits_posted")
            for half in ("lo", "hi")
        ],
    ]
)
"""An account's balances and flags after the batch."""
RESOLVED_DTYPE: Final = np.dtype([("unit", "<u4"), ("status", "<u4")])
"""What became of the pending transfer at `unit`."""
HISTORY_DTYPE: Final = np.dtype(
    [
        *[
            (f"{name}_{half}", "<u8")
            for name in ("debits_pending", "debits_posted", "credits_pending", "credits_posted")
            for half in ("lo", "hi")
        ],
        ("timestamp", "<u8"),
        ("ordinal", "<u4"),
        ("unit", "<u4"),
        ("reserved", "V48"),
    ]
)
"""Balances of account `ordinal` right after the transfer at `unit`."""


@dataclass(frozen=True, slots=True)
class Record:
    """One batch as it is kept. An id that was burnt is a transfer row of zeros but for its id."""

    timestamp: int
    plain: bool
    transfers: Rows
    accounts: Rows
    history: Rows
    images: Rows
    resolved: Rows

    @property
    def sections(self) -> tuple[Rows, ...]:
        return self.transfers, self.accounts, self.history, self.images, self.resolved


_SECTION_DTYPES: Final = (TRANSFER_DTYPE, ACCOUNT_DTYPE, HISTORY_DTYPE, IMAGE_DTYPE, RESOLVED_DTYPE)
EMPTY: Final[tuple[Rows, ...]] = tuple(np.zeros(0, dtype) for dtype in _SECTION_DTYPES)


class Journal:
    """The open journal of one directory, owned by this process until `close`.

    Raises BooksInUseError (another process owns it for longer than `wait_s`), BooksDamagedError.
    """

    def __init__(self, directory: Path, *, sync: bool = True, wait_s: float = 5.0) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "books.journal"
        self._lock = _own(directory, wait_s)
        self._sync = sync
        self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        if sync:
            _sync_directory(directory)
            _sync_directory(directory.parent)
        self.units = 0
        self.sequence = 0
        self._crc = 0
        self._capacity = os.fstat(self._fd).st_size // UNIT
        self._words: U64s = np.zeros(0, np.uint64)
        self._rows: Rows = np.zeros(0, TRANSFER_DTYPE)
        self._mapped = 0
        self._broken: str | None = None

    # Reading ------------------------------------------------------------------------------------------

    def rows(self) -> Rows:
        """Every unit of the file as a transfer row (true only where a transfer stands)."""
        self._map()
        return self._rows

    def words(self) -> U64s:
        """Every unit of the file as 16 u64: unit u begins at word 16 u."""
        self._map()
        return self._words

    def _map(self) -> None:
        if self._mapped == self._capacity:
            return
        view = mmap.mmap(self._fd, self._capacity * UNIT, mmap.MAP_SHARED, mmap.PROT_READ)
        self._words = np.frombuffer(view, np.uint64)
        self._rows = np.frombuffer(view, TRANSFER_DTYPE)
        self._mapped = self._capacity

    def replay(self) -> Iterator[tuple[int, Record]]:
        """Every whole record with the unit of its first row; then cut off what was torn."""
        while True:
            found = self._read(self.units)
            if found is None:
                break
            units, record, self._crc = found
            first = self.units + 1
            self.units += units
            self.sequence += 1
            yield first, record
        self._refuse_damage()
        self._truncate()

    def _read(self, at: int) -> tuple[int, Record, int] | None:
        header = os.pread(self._fd, UNIT, at * UNIT)
        if len(header) < UNIT or CRC.unpack(header[-4:])[0] != zlib.crc32(header[:-4]):
            return None
        fields = HEADER.unpack_from(header)
        magic, version, flags, sequence, timestamp, *counts, units, payload_crc, crc_before = fields
        if magic != MAGIC or sequence != self.sequence or crc_before != self._crc:
            return None
        if version != VERSION:
            raise BooksDamagedError(f"{self.path}: journal format {version}, this program reads {VERSION}")
        payload = os.pread(self._fd, (units - 1) * UNIT, (at + 1) * UNIT)
        if len(payload) < (units - 1) * UNIT or zlib.crc32(payload) != payload_crc:
            return None
        sections, offset = [], 0
        for dtype, count in zip(_SECTION_DTYPES, counts, strict=True):
            sections.append(np.frombuffer(payload, dtype, count, offset))
            offset += dtype.itemsize * count
        record = Record(timestamp, bool(flags & FLAG_PLAIN), *sections)
        return units, record, CRC.unpack(header[-4:])[0]

    def _refuse_damage(self) -> None:
        """Only the last record can be torn: a later whole one means that acknowledged data is damaged."""
        size = os.fstat(self._fd).st_size // UNIT
        for at in range(self.units, size, 8192):
            chunk = os.pread(self._fd, 8192 * UNIT, at * UNIT)
            if chunk.count(MAGIC) == 0:
                continue
            for offset in range(0, len(chunk) - UNIT + 1, UNIT):
                header = chunk[offset : offset + UNIT]
                if (
                    header.startswith(MAGIC)
                    and CRC.unpack(header[-4:])[0] == zlib.crc32(header[:-4])
                    and HEADER.unpack_from(header)[3] > self.sequence
                ):
                    raise BooksDamagedError(
                        f"{self.path}: record {self.sequence} at byte {self.units * UNIT} is damaged, "
                        f"and whole records follow it; restore the file or replay the topics into fresh books"
                    )

    # Writing ------------------------------------------------------------------------------------------

    def append(self, record: Record) -> int:
        """Write and sync one record; returns the unit of its first row.

        Raises BooksFullError if there is no room (nothing is kept of the record) and BooksError if the disk
        fails; after a failed sync the journal takes no more, for nobody knows what reached the disk.
        """
        if self._broken:
            raise BooksError(self._broken)
        payload = b"".join(section.tobytes() for section in record.sections)
        payload += bytes(-len(payload) % UNIT)
        units = 1 + len(payload) // UNIT
        if self.units + units > UNITS_MAX:
            raise BooksFullError(f"{self.path}: a journal holds at most {UNITS_MAX * UNIT:,} bytes")
        header = HEADER.pack(
            MAGIC,
            VERSION,
            FLAG_PLAIN if record.plain else 0,
            self.sequence,
            record.timestamp,
            *(len(section) for section in record.sections),
            units,
            zlib.crc32(payload),
            self._crc,
        ).ljust(UNIT - 4, b"\0")
        crc = zlib.crc32(header)
        self._write(header + CRC.pack(crc) + payload)
        first = self.units + 1
        self.units += units
        self.sequence += 1
        self._crc = crc
        return first

    def _write(self, data: bytes) -> None:
        view, at = memoryview(data), self.units * UNIT
        try:
            self._grow(at + len(data))
            while view:
                written = os.pwrite(self._fd, view, at)
                view, at = view[written:], at + written
        except OSError as error:
            self._truncate()
            raise BooksFullError(
                f"{self.path}: cannot write {len(data):,} bytes ({error.strerror}); "
                f"the last acknowledged batch stands, nothing of this one was applied"
            ) from error
        if self._sync:
            try:
                os.fdatasync(self._fd)
            except OSError as error:
                self._broken = f"{self.path}: sync failed ({error.strerror}); close and open the books again"
                raise BooksError(self._broken) from error

    def _grow(self, size: int) -> None:
        if size <= self._capacity * UNIT:
            return
        step = min(max(self._capacity * UNIT, GROW_MIN), GROW_MAX)
        capacity = max(self._capacity * UNIT + step, -(-size // GROW_MIN) * GROW_MIN)
        os.ftruncate(self._fd, capacity)
        self._capacity = capacity // UNIT

    def _truncate(self) -> None:
        """Cut off everything after the last whole record."""
        try:
            os.ftruncate(self._fd, self.units * UNIT)
            if self._sync:
                os.fsync(self._fd)
        except OSError as error:
            self._broken = f"{self.path}: cannot cut off a torn record ({error.strerror})"
        self._capacity = self.units
        if self._mapped > self._capacity:
            self._words, self._rows, self._mapped = self._words[:0], self._rows[:0], 0

    def close(self) -> None:
        """Cut the file to its length and give up the directory; idempotent."""
        if self._fd < 0:
            return
        if self.units:
            self._truncate()
        os.close(self._fd)
        os.close(self._lock)
        self._fd = -1
        self._words, self._rows, self._mapped = self._words[:0], self._rows[:0], 0


def _own(directory: Path, wait_s: float) -> int:
    """Take the directory for this process, waiting a little for an owner that is just dying."""
    path = directory / "owner.lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= deadline:
                owner = os.pread(fd, 256, 0).decode("utf-8", "replace").strip() or "unknown"
                os.close(fd)
                raise BooksInUseError(
                    f"embedded books in {directory} are owned by another process ({owner}); "
                    f"one process owns a directory: stop it, or ask through it"
                ) from None
            time.sleep(0.05)
    owner = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
    os.ftruncate(fd, 0)
    os.pwrite(fd, owner.encode(), 0)
    return fd


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
