"""Amounts of tokens: S3's numeric(20,6) as whole millionths. Never a float, nothing is ever rounded.

seeds/S3-token-ledger.txt, "Reference logical model".
"""

from __future__ import annotations

import re
from typing import Final

from pipeline.domain.flows.events import Refusal

PLACES: Final = 6
ONE: Final = 10**PLACES
UNITS_MAX: Final = 10**20 - 1
"""The most that numeric(20,6) holds, in millionths: 99999999999999.999999."""
_AMOUNT: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,13})(?:\.[0-9]{1,6})?")


def units(text: str, field: str = "data.amount") -> int:
    """Millionths of a decimal, which may be negative. Raises Refusal (bad_amount) for what is no numeric(20,6)."""
    if _AMOUNT.fullmatch(text) is None:
        raise Refusal(
            "bad_amount",
            field,
            f"{text[:40]!r} is no decimal of at most 14 digits before the point and 6 behind it",
        )
    whole, _, part = text.removeprefix("-").partition(".")
    found = int(whole) * ONE + int(part.ljust(PLACES, "0"))
    return -found if text.startswith("-") else found


def positive(text: str, field: str = "data.amount") -> int:
    """Millionths above 0. Raises Refusal."""
    found = units(text, field)
    if found <= 0:
        raise Refusal("amount_not_positive", field, f"{text} is not above 0")
    return found


def not_negative(text: str, field: str = "data.amount") -> int:
    """Millionths, 0 or above. Raises Refusal."""
    found = units(text, field)
    if found < 0:
        raise Refusal("amount_negative", field, f"{text} is below 0")
    return found


def text(amount: int) -> str:
    """The decimal of millionths, without zeros at its end: 1500000 → "1.5"."""
    sign, rest = ("-", -amount) if amount < 0 else ("", amount)
    whole, part = divmod(rest, ONE)
    return f"{sign}{whole}.{part:06d}".rstrip("0").rstrip(".")
