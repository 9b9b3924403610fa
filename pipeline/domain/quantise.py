"""Issued currencies in whole units: q(x) = min(floor(x * 10^15), 2^112).

XRPL's issued amounts are decimal floats; a book holds integers. Booking q(final) - q(previous) of
the absolute balances lets no rounding add up: the book always holds q(balance) exactly.
DESIGN.md, "Books", Amounts.
"""

from __future__ import annotations

from decimal import Context, Decimal

PLACES = 15
CAP = 1 << 112
_EXACT = Context(prec=400)


def quantise(value: str) -> int:
    """Units of 10^-15 of a decimal text without sign problems: negative values give 0.

    A line's balance counts for its holder only where it is positive. Values of 2^112 units and
    above give 2^112 (`is_capped` tells).
    """
    if value[0] == "-":
        return 0
    whole, _, places = value.partition(".")
    try:
        units = int(whole + places[:PLACES].ljust(PLACES, "0"))
    except ValueError:
        units = int(Decimal(value).scaleb(PLACES, _EXACT))
    return units if units < CAP else CAP


def is_capped(value: str) -> bool:
    """True where q(x) does not hold the whole balance because it is beyond the cap."""
    return len(value) >= 19 and quantise(value) >= CAP and Decimal(value).scaleb(PLACES, _EXACT) > CAP


def units_to_decimal(units: int) -> str:
    """Units of 10^-15 as a plain decimal text without trailing zeros."""
    sign, digits = ("-", -units) if units < 0 else ("", units)
    whole, places = divmod(digits, 10**PLACES)
    fraction = f"{places:015d}".rstrip("0")
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"
