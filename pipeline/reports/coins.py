"""Whole coins beside smallest units, and ratios, as exact decimal text that ClickHouse itself makes. Pure.

Nothing passes a float: a number is divided as a 256-bit integer, and its rest is written behind the point.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pipeline.domain.positions.money import SCALES

RATIO_PLACES: Final = 18
GAS: Final = "offchain/gas:"
COINS: Final[Mapping[str, int]] = {"XRP": 6, **SCALES}
"""Currency → decimals of its smallest unit."""


def decimals(chain: str) -> str:
    """SQL: decimals of the coin that fees of the chain `chain` (SQL) are paid in, -1 where nobody knows."""
    names = ", ".join(f"'{GAS}{name}'" for name in COINS)
    places = ", ".join(map(str, COINS.values()))
    told = f"transform(toString({chain}), [{names}], [{places}], -1)"
    return f"multiIf(startsWith({chain}, 'xrpl:'), 6, startsWith({chain}, 'eip155:'), 18, {told})"


def coin(chain: str) -> str:
    """SQL: what that coin is called; the native coin of an EVM chain is `native`, for each has its own."""
    return (
        f"multiIf(startsWith({chain}, 'xrpl:'), 'XRP', startsWith({chain}, 'eip155:'), 'native', "
        f"replaceOne({chain}, '{GAS}', ''))"
    )


WITH: Final = f"""\
  places -> toUInt256(concat('1', repeat('0', greatest(places, 0)))) AS base,
  (units, places) -> if(places < 0, NULL, trim(TRAILING '.' FROM trim(TRAILING '0' FROM concat(
    toString(intDiv(units, base(places))), '.', leftPad(toString(units % base(places)), greatest(places, 0), '0')
  )))) AS whole,
  (part, of) -> if(of = 0, NULL, whole(
    intDiv(part * base({RATIO_PLACES}), if(of = 0, toUInt256(1), of)), {RATIO_PLACES}
  )) AS ratio"""
"""For WITH: whole(units, places) = an unsigned integer (or null) of a coin with so many decimals as a decimal, null
for places < 0; ratio(part, of) = part ÷ of, at most 18 places, cut off and never rounded: "1" means all; null
for of = 0."""
