"""JSON form of an XRPL transaction, metadata or ledger entry to the canonical bytes that its hashes cover.

The inverse of decode/xrpl_binary: fields in the order of (type, number), each a header of one to three bytes
and its value (xrpl_encode_values). Names and codes come from xrpl-py's definitions; the "Field_<type>_<number>"
and "Unknown_<code>" of our own decoder pass too, so a transaction of a kind unknown today still proves itself.

What a node adds to its answers has no canonical form and is left out. It is told apart by its name: every
field of the ledger starts with an upper-case letter, and every addition (hash, date, inLedger, ledger_index,
ctid, delivered_amount, mpt_issuance_id, nftoken_id, offer_id, index, owner_funds ...) with a lower-case one,
except DeliverMax, the name of a Payment's Amount in api_version 2. A wrong guess cannot pass for a proof: the
root would not fit. Nor can another name for a known field or code, which the decoder would not recognise:
they are taken by their one name only.

Source: https://xrpl.org/docs/references/protocol/binary-format
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from pipeline.domain import xrpl_encode_values as values
from pipeline.domain.xrpl_encode_values import Encoder

_OBJECT_END: Final = b"\xe1"
_ARRAY_END: Final = b"\xf1"
_UINT64: Final = 3
_WRONG_VALUE: Final = (ValueError, TypeError, AttributeError, KeyError, OverflowError)

Spec = tuple[int, bytes, Encoder]
"""Place in the canonical order, header, encoder of the value."""


class Unencodable(ValueError):
    """A field that has no canonical binary form; `.field` names it."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field


def encode_object(fields: Mapping[str, Any]) -> bytes:
    """Canonical bytes of an object in JSON; names that start in lower case are left out. Raises Unencodable."""
    try:
        return _object(fields)
    except RecursionError:
        raise Unencodable("object", "nested too deep") from None


def encode_transaction(tx: Mapping[str, Any]) -> bytes:
    """A transaction as it was signed, of api_version 1 or 2. Raises Unencodable."""
    if "DeliverMax" in tx:
        deliver_max = tx["DeliverMax"]
        if tx.get("Amount", deliver_max) != deliver_max:
            raise Unencodable("DeliverMax", "differs from Amount")
        tx = {**tx, "Amount": deliver_max}
        del tx["DeliverMax"]
    return encode_object(tx)


def encode_metadata(meta: Mapping[str, Any]) -> bytes:
    """Metadata as they are stored. Raises Unencodable."""
    return encode_object(meta)


def encode_entry(entry: Mapping[str, Any]) -> bytes:
    """A ledger entry as it is stored, without its `index`. Raises Unencodable."""
    return encode_object(entry)


def _object(fields: Mapping[str, Any]) -> bytes:
    specs = _specs()
    parts = []
    for name, value in fields.items():
        spec = specs.get(name)
        if spec is None:
            if not name[:1].isupper():
                continue
            spec = _numbered_field(name)
        try:
            parts.append((spec[0], spec[1] + spec[2](value)))
        except Unencodable:
            raise
        except _WRONG_VALUE as error:
            raise Unencodable(name, f"{type(error).__name__}: {error}") from error
    parts.sort()
    return b"".join([part for _, part in parts])


def _inner_object(value: Mapping[str, Any]) -> bytes:
    return _object(value) + _OBJECT_END


def _array(value: list[Mapping[str, Any]]) -> bytes:
    """Each item is an object with one field, itself an object."""
    for item in value:
        if len(item) != 1:
            raise ValueError(f"an item of {len(item)} fields instead of one")
    return b"".join(map(_object, value)) + _ARRAY_END


# Type code -> encoder; the inverse of decode/xrpl_binary's table.
_TYPES: Final[Mapping[int, Encoder]] = {
    1: values.integer(2),
    2: values.integer(4),
    3: values.hex_number,
    4: values.fixed_hex(16),
    5: values.fixed_hex(32),
    6: values.amount,
    7: values.blob,
    8: values.account,
    9: values.number,
    10: values.integer(4, signed=True),
    11: values.integer(8, signed=True),
    14: _inner_object,
    15: _array,
    16: values.integer(1),
    17: values.fixed_hex(20),
    18: values.paths,
    19: values.hashes,
    20: values.fixed_hex(12),
    21: values.fixed_hex(24),
    22: values.fixed_hex(48),
    23: values.fixed_hex(64),
    24: values.issue,
    25: values.bridge,
    26: values.currency,
}


@lru_cache(maxsize=1)
def _specs() -> dict[str, Spec]:
    """Every field that xrpl-py's definitions know."""
    from xrpl.core.binarycodec.definitions.definitions import load_definitions

    table = load_definitions()
    specs = {}
    for name, field in table["FIELDS"].items():
        kind = table["TYPES"][field["type"]]
        if field["isSerialized"] and kind in _TYPES:
            specs[name] = _spec(kind, field["nth"], name)
    coded = {
        "TransactionType": (table["TRANSACTION_TYPES"], 2),
        "LedgerEntryType": (table["LEDGER_ENTRY_TYPES"], 2),
        "TransactionResult": (table["TRANSACTION_RESULTS"], 1),
    }
    for name, (codes, length) in coded.items():
        specs[name] = (*specs[name][:2], _code(codes, length))
    specs["PermissionValue"] = (*specs["PermissionValue"][:2], _permission)
    return specs


def _permissions() -> Mapping[str, int]:
    from xrpl.core.binarycodec.definitions import definitions

    known: Mapping[str, int] = definitions._DELEGABLE_PERMISSIONS_STR_TO_CODE_MAP
    return known


def _spec(kind: int, number: int, name: str) -> Spec:
    encoder = values.integer(8) if kind == _UINT64 and name.endswith("Amount") else _TYPES[kind]
    return kind << 8 | number, _header(kind, number), encoder


def _header(kind: int, number: int) -> bytes:
    """Type and number, four bits each where they fit; what does not follows in a byte of its own."""
    first = (kind if kind < 16 else 0) << 4 | (number if number < 16 else 0)
    return bytes((first, *([kind] if kind >= 16 else []), *([number] if number >= 16 else [])))


def _code(codes: Mapping[str, int], length: int) -> Encoder:
    """A number of `length` bytes that JSON shows by its name, if it has one."""
    known = frozenset(codes.values())

    def encode(value: str) -> bytes:
        code = codes.get(value)
        if code is None:
            code = int(value.removeprefix("Unknown_"))
            if code in known or value != f"Unknown_{code}":
                raise ValueError(f"no name of a code: {value[:80]!r}")
        return code.to_bytes(length)

    return encode


def _permission(value: str | int) -> bytes:
    """A permission by its name, as nodes show it, or by its number, as our decoder does."""
    return (value if type(value) is int else _permissions()[str(value)]).to_bytes(4)


@lru_cache(maxsize=1024)
def _numbered_field(name: str) -> Spec:
    """The spec of "Field_<type>_<number>", where that field has no name."""
    prefix, _, rest = name.partition("_")
    kind, _, number = rest.partition("_")
    if prefix != "Field" or not (kind.isdecimal() and number.isdecimal()):
        raise Unencodable(name, "no field of the ledger is known by this name")
    if int(kind) not in _TYPES or not 0 < int(number) < 256:
        raise Unencodable(name, "a field of unknown type or number")
    spec = _spec(int(kind), int(number), name)
    if spec[0] in _named_places() or name != f"Field_{int(kind)}_{int(number)}":
        raise Unencodable(name, "a known field by another name")
    return spec


@lru_cache(maxsize=1)
def _named_places() -> frozenset[int]:
    return frozenset(spec[0] for spec in _specs().values())
