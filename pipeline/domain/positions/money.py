"""Exact money of S1 and S4: a decimal string of a currency is a whole number of its smallest units.

The books hold smallest units (cents, satoshi, wei); SOVR and sFIAT are counted in whole units, as S4 has them. Nothing
rounds: an amount with more decimals than its currency has is refused, never cut.
"""

from __future__ import annotations

import re
from typing import Final

from pipeline.domain.account import AccountCode, AccountRef
from pipeline.domain.amount import format_decimal
from pipeline.domain.flows.accounts import asset_key
from pipeline.domain.flows.events import AMOUNT_MAX, Refusal

SCALES: Final = {
    "USD": 2, "EUR": 2, "GBP": 2, "BTC": 8, "ETH": 18, "USDC": 6, "USDT": 6, "SOVR": 0, "sFIAT": 0,
}  # fmt: skip
"""Currency → decimals of its smallest unit."""
_DECIMAL: Final = re.compile(r"(-?)([0-9]{1,60})(?:\.([0-9]{1,60}))?", re.ASCII).fullmatch


def scale_of(currency: str, field: str) -> int:
    """Decimals of a currency. Raises Refusal (unknown_currency) naming `field`."""
    scale = SCALES.get(currency)
    if scale is None:
        raise Refusal("unknown_currency", field, f"{currency[:40]!r} is none of {', '.join(SCALES)}")
    return scale


def parse(amount: str, currency: str, field: str, currency_field: str = "data.currency") -> int:
    """Smallest units of a decimal string such as 100000.00: above 0 and no more than a transfer holds.

    Raises Refusal naming `field`: bad_amount, amount_not_positive, too_many_decimals, amount_over_u128; naming
    `currency_field` for a currency that the books do not know.
    """
    scale = scale_of(currency, currency_field)
    match = _DECIMAL(amount)
    if match is None:
        raise Refusal("bad_amount", field, f"{amount[:40]!r} is no decimal number such as 12.50")
    sign, whole, fraction = match[1], match[2], match[3] or ""
    if len(fraction) > scale:
        raise Refusal(
            "too_many_decimals", field, f"{amount[:40]} has {len(fraction)}; {currency} has {scale}"
        )
    units = int(whole + fraction.ljust(scale, "0"))
    if sign or units == 0:
        raise Refusal("amount_not_positive", field, f"{amount[:40]} is not above 0")
    if units >= AMOUNT_MAX:
        raise Refusal("amount_over_u128", field, f"{amount[:70]} is more than a transfer can hold")
    return units


def text(units: int, currency: str) -> str:
    """The plain decimal of smallest units: 1250 of USD is 12.5."""
    return format_decimal(units, -SCALES[currency])


def held(amount: str, currency: str) -> int:
    """Smallest units of an amount that a state holds: `text` undone, 0 too."""
    whole, _, fraction = amount.partition(".")
    return int(whole + fraction.ljust(SCALES[currency], "0"))


def user(currency: str, owner: str) -> AccountRef:
    """Account of a user in a currency's book."""
    return AccountRef(asset_key(currency), int(AccountCode.USER), owner)


def escrow(currency: str, holder: str, position_id: str) -> AccountRef:
    """Escrow account of one position."""
    return AccountRef(asset_key(currency), int(AccountCode.ESCROW), holder, position_id)
