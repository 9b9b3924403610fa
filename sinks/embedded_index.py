"""Two indexes over the journal, both derived from it and both vectorised.

`IdTable`: 128-bit id → place, by open addressing in one array of u64 (upper half: 32 bits of the id's hash,
lower half: place + 1). The slot is the hash's top bits, so doubling the table needs no id to be read again.
A hit is always proven against the id that stands at the place.

`SortedRuns`: sorted u64 keys in runs, each run one stretch of time, four equal ones merged into the next: so
a range is a few binary searches, and runs in order are in order of time. Big arrays live in unlinked files
beside the journal, so the kernel may page them out: memory stays bounded.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from sinks.books import Ints, U64s

_LOW: Final = np.uint64(0xFFFFFFFF)
_32: Final = np.uint64(32)
_ONE: Final = np.uint64(1)
_MULTIPLIERS: Final = tuple(
    np.uint64(m) for m in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
FEW: Final = 12
FILE_BYTES_MIN: Final = 32 << 20
"""Arrays from this size on live in files."""


def hashes(lo: U64s, hi: U64s) -> U64s:
    """64 well-mixed bits of each id (the finaliser of splitmix64 over both halves)."""
    mixed = lo ^ (hi * _MULTIPLIERS[0])
    mixed ^= mixed >> np.uint64(30)
    mixed *= _MULTIPLIERS[1]
    mixed ^= hi + (mixed >> np.uint64(27))
    mixed *= _MULTIPLIERS[2]
    result: U64s = mixed ^ (mixed >> np.uint64(31))
    return result


def big_array(length: int, dtype: npt.DTypeLike, directory: Path) -> npt.NDArray[np.generic]:
    """A zeroed array: in memory while small, else in an unlinked file of `directory`."""
    kind = np.dtype(dtype)
    if length * kind.itemsize < FILE_BYTES_MIN:
        return np.zeros(length, kind)
    with tempfile.TemporaryFile(dir=directory) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, length * kind.itemsize)
        except OSError:
            return np.zeros(length, kind)
        return np.asarray(np.memmap(file, kind, "r+", shape=(length,)))


class IdTable:
    """`ids_at(places)` answers the (lo, hi) halves of the ids that stand there."""

    def __init__(self, ids_at: Callable[[Ints], tuple[U64s, U64s]], directory: Path) -> None:
        self._ids_at = ids_at
        self._directory = directory
        self._bits = 12
        self._slots: U64s = np.zeros(1 << self._bits, np.uint64)
        self.count = 0

    def find(self, lo: U64s, hi: U64s) -> Ints:
        """Places of the ids, −1 where unknown."""
        found = np.full(len(lo), -1, np.int64)
        tags = hashes(lo, hi) >> _32
        slots = (tags >> np.uint64(32 - self._bits)).astype(np.int64)
        mask = len(self._slots) - 1
        open_ = np.arange(len(lo))
        while len(open_) > FEW:
            values = self._slots[slots]
            going = values != 0
            same = np.flatnonzero(going & ((values >> _32) == tags))
            if len(same):
                places = ((values[same] & _LOW) - _ONE).astype(np.int64)
                here = open_[same]
                there_lo, there_hi = self._ids_at(places)
                equal = (there_lo == lo[here]) & (there_hi == hi[here])
                found[here[equal]] = places[equal]
                going[same[equal]] = False
            left = np.flatnonzero(going)
            open_, tags, slots = open_[left], tags[left], (slots[left] + 1) & mask
        for index, tag, slot in zip(open_.tolist(), tags.tolist(), slots.tolist(), strict=True):
            found[index] = self._walk(int(lo[index]), int(hi[index]), tag, slot)
        return found

    def _walk(self, lo: int, hi: int, tag: int, slot: int) -> int:
        """One id's place from `slot` on: the last few of a batch are cheaper without columns."""
        slots = self._slots
        while value := int(slots[slot]):
            if value >> 32 == tag:
                place = (value & 0xFFFFFFFF) - 1
                there_lo, there_hi = self._ids_at(np.array([place]))
                if int(there_lo[0]) == lo and int(there_hi[0]) == hi:
                    return place
            slot = (slot + 1) & (len(slots) - 1)
        return -1

    def insert(self, lo: U64s, hi: U64s, places: Ints) -> None:
        """Add ids that are not in the table and differ from each other."""
        while (self.count + len(lo)) * 2 > len(self._slots):
            self._double()
        self._place(((hashes(lo, hi) >> _32) << _32) | (places.astype(np.uint64) + _ONE))
        self.count += len(lo)

    def _double(self) -> None:
        values = self._slots[self._slots != 0]
        self._bits += 1
        self._slots = big_array(1 << self._bits, np.uint64, self._directory).view(np.uint64)
        for start in range(0, len(values), 1 << 20):
            self._place(values[start : start + (1 << 20)])

    def _place(self, values: U64s) -> None:
        mask = len(self._slots) - 1
        slots = (values >> np.uint64(64 - self._bits)).astype(np.int64)
        while len(values):
            free = np.flatnonzero(self._slots[slots] == 0)
            self._slots[slots[free]] = values[free]
            left = np.flatnonzero(self._slots[slots] != values)
            values = values[left]
            slots = (slots[left] + 1) & mask


class SortedRuns:
    """u64 keys that arrive in rising stretches of time."""

    MERGE: Final = 4

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._levels: list[list[U64s]] = []

    def append(self, keys: U64s) -> None:
        """Add the keys of the newest stretch of time, in any order."""
        if not len(keys):
            return
        run, level = np.sort(keys), 0
        while True:
            if level == len(self._levels):
                self._levels.append([])
            self._levels[level].append(run)
            if len(self._levels[level]) < self.MERGE:
                return
            run = self._merged(self._levels[level])
            self._levels[level] = []
            level += 1

    def _merged(self, runs: list[U64s]) -> U64s:
        merged = big_array(sum(map(len, runs)), np.uint64, self._directory).view(np.uint64)
        np.concatenate(runs, out=merged)
        merged.sort()
        return merged

    def ranges(self, low: int, high: int) -> list[U64s]:
        """The keys in [low, high), one sorted piece per stretch of time, oldest stretch first."""
        pieces = []
        for level in reversed(self._levels):
            for run in level:
                start, end = np.searchsorted(run, np.array([low, high], np.uint64))
                if end > start:
                    pieces.append(run[start:end])
        return pieces


class Growing:
    """An array that grows at its end; `data` is always at least as long as what was asked of `reach`."""

    def __init__(self, dtype: npt.DTypeLike, directory: Path) -> None:
        self._directory = directory
        self.data = big_array(1 << 10, dtype, directory)

    def reach(self, length: int) -> None:
        if length <= len(self.data):
            return
        size = len(self.data)
        while size < length:
            size *= 2
        grown = big_array(size, self.data.dtype, self._directory)
        grown[: len(self.data)] = self.data
        self.data = grown
