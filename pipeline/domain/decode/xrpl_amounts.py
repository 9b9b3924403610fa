"""Amount fields of ledger entries and transactions.

A string of digits is drops of the native coin; {currency, issuer, value} is an issued currency;
{mpt_issuance_id, value} is an MPT. Asset keys: "XRP" (the native coin of any network),
"<currency>.<issuer>", "mpt:<issuance id>". Values are plain exact decimal strings.
"""

from typing import Any

from pipeline.domain.amount import plain

NATIVE = "XRP"
DROPS_MAX = 2**63 - 1


def drops(value: object) -> int:
    """Drops of a native amount, negative ones (2013) included. ValueError if it is none."""
    if isinstance(value, str) and value.isascii() and (value[1:] if value[:1] == "-" else value).isdigit():
        number = int(value)
        if -DROPS_MAX <= number <= DROPS_MAX:
            return number
    raise ValueError(f"not an amount in drops: {str(value)[:80]!r}")


def units(value: object) -> int:
    """An MPT amount, an integer of up to 64 bits recorded as digits. ValueError if it is none."""
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.isdigit():
        return int(value)
    raise ValueError(f"not an MPT amount: {str(value)[:80]!r}")


def asset_key(asset: Any) -> str:
    """Asset key of an Amount field or of an Asset field ({currency[, issuer]} or {mpt_issuance_id})."""
    if isinstance(asset, str):
        return NATIVE
    if "mpt_issuance_id" in asset:
        return f"mpt:{_text(asset['mpt_issuance_id'])}"
    if "issuer" not in asset:
        return NATIVE
    return f"{_text(asset['currency'])}.{_text(asset['issuer'])}"


def amount_value(amount: Any) -> str:
    """Value of an Amount field as a plain decimal string; native amounts in drops."""
    if isinstance(amount, str):
        return str(drops(amount))
    return plain(amount["value"])


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"not a string: {str(value)[:80]!r}")
