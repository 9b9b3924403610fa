"""The indexes and the column arithmetic against dictionaries, sorted lists and Python's integers."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinks import embedded_index
from sinks.embedded_index import IdTable, SortedRuns
from sinks.embedded_u128 import add, greater, sums

U128 = st.one_of(
    st.integers(0, 3), st.integers((1 << 128) - 4, (1 << 128) - 1), st.integers(0, (1 << 128) - 1)
)
MASK = (1 << 64) - 1


def pair(numbers: list[int]) -> tuple[np.ndarray, np.ndarray]:
    lo = np.array([n & MASK for n in numbers], np.uint64)
    return lo, np.array([n >> 64 for n in numbers], np.uint64)


def numbers(halves: tuple[np.ndarray, np.ndarray]) -> list[int]:
    return [int(lo) | int(hi) << 64 for lo, hi in zip(*halves, strict=True)]


@pytest.mark.parametrize("ids", ["random", "rising", "colliding"])
def test_id_table_is_a_dict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: str) -> None:
    """Growing through four doublings; `colliding` ids all hash to one of 16 slots' neighbourhoods."""
    if ids == "colliding":
        crowd = np.uint64(0xF00000000000000F)
        monkeypatch.setattr(
            embedded_index, "hashes", lambda lo, hi: (lo * np.uint64(3) << np.uint64(58)) & crowd
        )
    draw = random.Random(1)
    count = 600 if ids == "colliding" else 20_000
    known = [draw.getrandbits(128) if ids == "random" else (7 << 64) + n for n in range(count)]
    lo, hi = pair(known)
    table = IdTable(lambda places: (lo[places], hi[places]), tmp_path)
    for start in range(0, count, 777):
        end = min(start + 777, count)
        assert (table.find(lo[start:end], hi[start:end]) == -1).all()
        table.insert(lo[start:end], hi[start:end], np.arange(start, end))
    order = np.array(draw.sample(range(count), count))
    assert (table.find(lo[order], hi[order]) == order).all()
    others = pair([draw.getrandbits(128) for _ in range(1000)] + [n ^ (1 << 127) for n in known[:100]])
    assert (table.find(*others) == -1).all()
    assert table.count == count


def test_sorted_runs_keep_order_of_time(tmp_path: Path) -> None:
    runs, expected, draw = SortedRuns(tmp_path), [], random.Random(2)
    for batch in range(200):
        keys = [draw.randrange(10) << 32 | batch * 10 + n for n in range(draw.randrange(10))]
        expected += keys
        runs.append(np.array(keys, np.uint64))
    for owner in range(10):
        found = [int(k) for piece in runs.ranges(owner << 32, (owner + 1) << 32) for k in piece]
        assert found == sorted(k for k in expected if k >> 32 == owner)


def test_big_arrays_move_to_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_index, "FILE_BYTES_MIN", 1 << 12)
    runs = SortedRuns(tmp_path)
    for batch in range(16):
        runs.append(np.arange(batch * 100, batch * 100 + 100, dtype=np.uint64))
    assert [int(k) for piece in runs.ranges(0, 1 << 20) for k in piece] == list(range(1600))
    array = embedded_index.big_array(1 << 10, np.uint64, tmp_path)
    assert isinstance(array.base, np.memmap) and not array.any() and not list(tmp_path.iterdir())


@given(st.lists(st.tuples(U128, st.integers(0, 4)), max_size=30))
def test_sums_are_exact(rows: list[tuple[int, int]]) -> None:
    totals = [sum(amount for amount, group in rows if group == g) for g in range(5)]
    groups = np.array([group for _, group in rows], np.int64)
    found, over = sums(groups, 5, pair([amount for amount, _ in rows]))
    assert over == any(total >> 128 for total in totals)
    if not over:
        assert numbers(found) == totals


@given(st.lists(st.tuples(U128, U128), min_size=1, max_size=10))
def test_add_and_greater_are_exact(rows: list[tuple[int, int]]) -> None:
    a, b = pair([a for a, _ in rows]), pair([b for _, b in rows])
    found, over = add(a, b)
    assert numbers(found) == [(x + y) % (1 << 128) for x, y in rows]
    assert over == any(x + y >= 1 << 128 for x, y in rows)
    assert greater(a, b).tolist() == [x > y for x, y in rows]
