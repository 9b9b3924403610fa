"""Values as JSON-RPC gives them: quantities, hex data, addresses; read from any recorded shape. Pure.

Quantities come as 0x-hex, as decimal text (exports) or as integers (clients that decode); data and hashes as
hex text or bytes. Everything is brought to integers and lower-case hex. Source: Ethereum JSON-RPC, "Conventions".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pipeline.domain.decode.xrpl_errors import Malformed

_HEX: Final = re.compile(r"0x[0-9a-f]*")
_QUANTITY: Final = re.compile(r"0x[0-9a-fA-F]+")
QUANTITY_LIMIT: Final = 2**256
LONG_LIMIT: Final = 2**63
INT_LIMIT: Final = 2**31

HASH_DIGITS: Final = 66
ADDRESS_DIGITS: Final = 42


def quantity(fields: Mapping[str, Any], name: str, limit: int = QUANTITY_LIMIT) -> int | None:
    """A field that is a number; None where it is absent or null. Malformed if it is none, or not below `limit`."""
    value = fields.get(name)
    if value is None or type(value) is int:
        number = value
    elif isinstance(value, str) and _QUANTITY.fullmatch(value):
        number = int(value, 16)
    elif isinstance(value, str) and value.isascii() and value.isdecimal():
        number = int(value)
    else:
        raise Malformed(f"{name} is no number: {str(value)[:80]!r}")
    if number is not None and not 0 <= number < limit:
        raise Malformed(f"{name} is out of range: {hex(number)[:80]}")
    return number


def needed(fields: Mapping[str, Any], name: str, what: str, limit: int = LONG_LIMIT) -> int:
    """A number that must be there, below `limit`. Malformed, naming `what`, if not."""
    number = quantity(fields, name, limit)
    if number is None:
        raise Malformed(f"{what} has no {name}")
    return number


def objects(value: Any, what: str) -> Sequence[Mapping[str, Any]]:
    """A list of objects; nothing is none of them. Malformed if it is something else."""
    if value is None:
        return ()
    if not isinstance(value, list | tuple) or not all(isinstance(each, Mapping) for each in value):
        raise Malformed(f"{what} are no list of objects: {str(value)[:80]}")
    return value


def hex_text(value: Any, what: str, digits: int | None = None) -> str:
    """Hex data in lower case with 0x; `digits`: its length, 0x included. Malformed if it is none."""
    if isinstance(value, bytes | bytearray):
        value = "0x" + bytes(value).hex()
    if not isinstance(value, str):
        raise Malformed(f"{what} is no hex data: {str(value)[:80]!r}")
    text = value.lower()
    size = len(text)
    if not _HEX.fullmatch(text) or (size != digits if digits is not None else size & 1):
        raise Malformed(f"{what} is no hex data of the right length: {text[:80]!r}")
    return text


def optional_hex(fields: Mapping[str, Any], name: str, digits: int | None = None) -> str | None:
    """Hex data of a field; None where it is absent or null. Malformed if it is something else."""
    value = fields.get(name)
    return None if value is None else hex_text(value, name, digits)


def decimal(number: int | None) -> str | None:
    """Decimal text of a number, None for none."""
    return None if number is None else str(number)
