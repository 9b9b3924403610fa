"""Exact u128 arithmetic on numpy columns: each number is a pair of u64 halves (lo, hi)."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from sinks.books import Ints, Rows, U64s

Pair = tuple[U64s, U64s]
Mask = npt.NDArray[np.bool_]

_32: Final = np.uint64(32)
_LOW: Final = np.uint64(0xFFFFFFFF)


def column(rows: Rows, name: str) -> Pair:
    """The two halves of field `name`, as contiguous copies."""
    return np.ascontiguousarray(rows[f"{name}_lo"]), np.ascontiguousarray(rows[f"{name}_hi"])


def equal(a: Pair, b: Pair) -> Mask:
    result: Mask = (a[0] == b[0]) & (a[1] == b[1])
    return result


def is_zero(a: Pair) -> Mask:
    result: Mask = (a[0] | a[1]) == 0
    return result


def is_max(a: Pair) -> Mask:
    result: Mask = (a[0] & a[1]) == np.uint64(0xFFFFFFFFFFFFFFFF)
    return result


def greater(a: Pair, b: Pair) -> Mask:
    result: Mask = (a[1] > b[1]) | ((a[1] == b[1]) & (a[0] > b[0]))
    return result


def add(a: Pair, b: Pair) -> tuple[Pair, bool]:
    """a + b, and whether any sum passed 2^128 − 1."""
    lo = a[0] + b[0]
    carry = (lo < a[0]).astype(np.uint64)
    hi = a[1] + b[1]
    over = hi < a[1]
    with_carry = hi + carry
    over |= with_carry < hi
    return (lo, with_carry), bool(over.any())


def sums(groups: Ints, count: int, amounts: Pair) -> tuple[Pair, bool]:
    """Sum of `amounts` per group 0..count−1, and whether any passed 2^128 − 1.

    Exact: at most 2^20 addends, each cut into 32-bit limbs, sum to less than 2^53, which a double holds.
    """
    limbs = [amounts[0] & _LOW, amounts[0] >> _32]
    if amounts[1].any():
        limbs += [amounts[1] & _LOW, amounts[1] >> _32]
    totals = [np.bincount(groups, limb, count).astype(np.uint64) for limb in limbs]
    totals += [np.zeros(count, np.uint64)] * (4 - len(totals))
    for i in range(3):
        totals[i + 1] = totals[i + 1] + (totals[i] >> _32)
        totals[i] = totals[i] & _LOW
    over = bool((totals[3] >> _32).any())
    return (totals[0] | (totals[1] << _32), totals[2] | (totals[3] << _32)), over
