"""Serialised XRPL objects (hex) to their JSON form.

Source: https://xrpl.org/docs/references/protocol/binary-format. Names and codes come from xrpl-py's
definitions; what they do not know yet still passes: a field of unknown number of a known type as
"Field_<type>_<number>", an unknown transaction, entry or result code as "Unknown_<code>", so that the effects
of a new kind of transaction stay readable. Only a field of unknown *type* can't be read, since nothing tells
its length. MPT amounts are written in base ten, as rippled does.

Every ledger of a full verification passes here, so the way is short: a header leads by table to a Spec; what
JSON shows in hex is a slice of the object's own hex; numbers are read in place; the rest by a reader, whose
costly texts (addresses, currencies, decimals) are cached. Nothing checks at each step whether bytes are left:
an end marker is put behind the object, and who reads beyond it meets an IndexError at the next header.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from pipeline.domain.amount import format_decimal
from pipeline.domain.decode.xrpl_address import encode_account
from pipeline.domain.decode.xrpl_errors import Malformed

Reader = Callable[[bytes, str, int, int], tuple[Any, int]]
"""(object, the same in upper-case hex, where the value begins, depth) → (value in JSON, where it ended)."""

_END: Final = b"\xe1"
_NO_ACCOUNT: Final = "0" * 39 + "1"
_NO_CURRENCY: Final = "0" * 40
_DEPTH_MAX: Final = 16
_CACHED: Final = 65_536
_AMOUNTS_CACHED: Final = 8_192  # most are met a few times soon after one another, then never again
_UINT64: Final = 3


class Definitions(NamedTuple):
    """Names by code."""

    fields: Mapping[tuple[int, int], str]  # (type, number) -> name
    codes: Mapping[str, Mapping[int, str]]  # field holding a code -> {code: name}


class Spec(NamedTuple):
    """How a field is read. `length`: bytes shown in hex, negative for those of a number, 0 for `reader`.

    An end marker has neither.
    """

    name: str
    length: int
    reader: Reader | None


@lru_cache(maxsize=1)
def definitions() -> Definitions:
    """xrpl-py's definitions, turned round."""
    from xrpl.core.binarycodec.definitions.definitions import load_definitions

    table = load_definitions()
    types = table["TYPES"]
    fields = {
        (types[field["type"]], field["nth"]): name
        for name, field in table["FIELDS"].items()
        if field["isSerialized"]
    }
    codes = {
        "TransactionType": "TRANSACTION_TYPES",
        "LedgerEntryType": "LEDGER_ENTRY_TYPES",
        "TransactionResult": "TRANSACTION_RESULTS",
    }
    return Definitions(
        fields, {name: {code: key for key, code in table[part].items()} for name, part in codes.items()}
    )


def decode_object(blob: str) -> dict[str, Any]:
    """JSON form of a serialised transaction or metadata. Malformed if it can't be read to its end."""
    try:
        data = bytes.fromhex(blob) + _END
    except ValueError:
        raise Malformed("a serialised object is not hex") from None
    try:
        fields, end = _object(data, data.hex().upper(), 0, 0)
    except IndexError:
        raise Malformed("a serialised object is cut off") from None
    except ValueError as error:
        if isinstance(error, Malformed):
            raise
        raise Malformed(f"a serialised object can't be read: {error}") from error
    if end != len(data):
        raise Malformed(f"a serialised object ends at byte {end} of {len(data) - 1}")
    return fields


def _object(data: bytes, text: str, at: int, depth: int) -> tuple[dict[str, Any], int]:
    if depth > _DEPTH_MAX:
        raise Malformed("objects are nested too deep")
    short = _short_headers()
    fields: dict[str, Any] = {}
    while True:
        spec = short[data[at]]
        at += 1
        if spec is None:
            spec, at = _long_header(data, at)
        name, length, reader = spec
        if length > 0:
            end = at + length
            fields[name] = text[at + at : end + end]
            at = end
        elif length < 0:
            end = at - length
            fields[name] = int.from_bytes(data[at:end])
            at = end
        elif reader is not None:
            fields[name], at = reader(data, text, at, depth)
        else:
            return fields, at


def _inner_object(data: bytes, text: str, at: int, depth: int) -> tuple[dict[str, Any], int]:
    return _object(data, text, at, depth + 1)


def _array(data: bytes, text: str, at: int, depth: int) -> tuple[list[Any], int]:
    """Each item is an object under its name."""
    short = _short_headers()
    items = []
    while data[at] != 0xF1:
        spec = short[data[at]]
        at += 1
        if spec is None:
            spec, at = _long_header(data, at)
        if spec.reader is not _inner_object:
            raise Malformed(f"an array holds {spec.name or 'an end of an object'} instead of an object")
        item, at = _object(data, text, at, depth + 1)
        items.append({spec.name: item})
    return items, at + 1


@lru_cache(maxsize=1)
def _short_headers() -> list[Spec | None]:
    """By a header's first byte: the field, or None where type or number stand in a byte of their own.

    Also None: fields of a type that can't be read.
    """
    specs: list[Spec | None] = [None] * 256
    for kind in range(1, 16):
        for number in range(1, 16):
            if kind in _TYPES:
                specs[kind << 4 | number] = _spec(kind, number)
    specs[0xE1] = Spec("", 0, None)
    return specs


def _long_header(data: bytes, at: int) -> tuple[Spec, int]:
    """(field, where its value begins) of a header of two or three bytes; `at` is behind its first."""
    kind, number = data[at - 1] >> 4, data[at - 1] & 15
    if not kind:
        kind, at = data[at], at + 1
    if not number:
        number, at = data[at], at + 1
    return _spec(kind, number), at


@lru_cache(maxsize=4096)
def _spec(kind: int, number: int) -> Spec:
    if kind not in _TYPES:
        raise Malformed(f"a field of unknown type {kind}")
    names, codes = definitions()
    name = names.get((kind, number)) or f"Field_{kind}_{number}"
    how = _TYPES[kind]
    if kind == _UINT64:
        return Spec(name, 0, _decimal_64 if name.endswith("Amount") else _hex_64)
    if not isinstance(how, int):
        return Spec(name, 0, how)
    return Spec(name, 0, _code(codes[name], -how)) if name in codes else Spec(name, how, None)


def _code(names: Mapping[int, str], length: int) -> Reader:
    """A number of `length` bytes that JSON shows by its name."""

    def read(data: bytes, text: str, at: int, depth: int) -> tuple[str, int]:
        code = int.from_bytes(data[at : at + length])
        return names.get(code) or f"Unknown_{code}", at + length

    return read


def _signed(length: int) -> Reader:
    def read(data: bytes, text: str, at: int, depth: int) -> tuple[int, int]:
        return int.from_bytes(data[at : at + length], signed=True), at + length

    return read


def _hex_64(data: bytes, text: str, at: int, depth: int) -> tuple[str, int]:
    return f"{int.from_bytes(data[at : at + 8]):x}", at + 8


def _decimal_64(data: bytes, text: str, at: int, depth: int) -> tuple[str, int]:
    return str(int.from_bytes(data[at : at + 8])), at + 8


def _blob(data: bytes, text: str, at: int, depth: int) -> tuple[str, int]:
    """Bytes with their length before them, in hex."""
    first = data[at]
    at += 1
    if first <= 192:
        length = first
    elif first <= 240:
        length, at = 193 + (first - 193) * 256 + data[at], at + 1
    elif first <= 254:
        length, at = 12481 + (first - 241) * 65536 + (data[at] << 8) + data[at + 1], at + 2
    else:
        raise Malformed("a length of more than 918744 bytes")
    end = at + length
    return text[at + at : end + end], end


def _account(data: bytes, text: str, at: int, depth: int) -> tuple[str, int]:
    raw, at = _blob(data, text, at, depth)
    return encode_account(raw) if raw else "", at


def _bare_account(data: bytes, text: str, at: int, depth: int) -> tuple[str, int]:
    return encode_account(text[at + at : at + at + 40]), at + 20


def _currency(data: bytes, text: str, at: int, depth: int) -> tuple[str, int]:
    return _currency_code(text[at + at : at + at + 40]), at + 20


@lru_cache(maxsize=_CACHED)
def _currency_code(digits: str) -> str:
    raw = bytes.fromhex(digits)
    code = raw[12:15]
    if not any(raw):
        return "XRP"
    if not any(raw[:12]) and not any(raw[15:]) and code.isascii() and code != b"XRP":
        text = code.decode()
        if text.isprintable() and " " not in text:
            return text
    return digits


def _amount(data: bytes, text: str, at: int, depth: int) -> tuple[Any, int]:
    first = data[at]
    if first & 0x80:
        start = at + at
        return {
            "currency": _currency_code(text[start + 16 : start + 56]),
            "issuer": encode_account(text[start + 56 : start + 96]),
            "value": _issued_value(data[at : at + 8]),
        }, at + 48
    sign = "" if first & 0x40 else "-"
    if first & 0x20:
        value = int.from_bytes(data[at + 1 : at + 9])
        issuance = text[at + at + 18 : at + at + 66]
        return {"mpt_issuance_id": issuance, "value": f"{sign if value else ''}{value}"}, at + 33
    drops = int.from_bytes(data[at : at + 8]) & 0xBFFF_FFFF_FFFF_FFFF
    return f"{sign if drops else ''}{drops}", at + 8


@lru_cache(maxsize=_AMOUNTS_CACHED)
def _issued_value(raw: bytes) -> str:
    bits = int.from_bytes(raw)
    mantissa, exponent = bits & ((1 << 54) - 1), ((bits >> 54) & 0xFF) - 97
    return _float_text(mantissa if bits >> 62 & 1 else -mantissa, exponent)


def _float_text(mantissa: int, exponent: int) -> str:
    """As rippled writes it: an exponent only outside of -25..-5."""
    if mantissa and exponent and not -25 <= exponent <= -5:
        return f"{mantissa}e{exponent}"
    return format_decimal(mantissa, exponent if mantissa else 0)


def _number(data: bytes, text: str, at: int, depth: int) -> tuple[str, int]:
    mantissa = int.from_bytes(data[at : at + 8], signed=True)
    exponent = int.from_bytes(data[at + 8 : at + 12], signed=True)
    return _float_text(mantissa, exponent), at + 12


def _issue(data: bytes, text: str, at: int, depth: int) -> tuple[dict[str, str], int]:
    start = at + at
    first, second = text[start : start + 40], text[start + 40 : start + 80]
    currency = _currency_code(first)
    if first == _NO_CURRENCY:
        return {"currency": currency}, at + 20
    if second == _NO_ACCOUNT:  # an MPT: issuer, no account, sequence in reverse
        sequence = data[at + 40 : at + 44][::-1].hex().upper()
        return {"mpt_issuance_id": sequence + first}, at + 44
    return {"currency": currency, "issuer": encode_account(second)}, at + 40


def _bridge(data: bytes, text: str, at: int, depth: int) -> tuple[dict[str, Any], int]:
    bridge: dict[str, Any] = {}
    for door, issue in (("LockingChainDoor", "LockingChainIssue"), ("IssuingChainDoor", "IssuingChainIssue")):
        bridge[door], at = _account(data, text, at, depth)
        bridge[issue], at = _issue(data, text, at, depth)
    return bridge, at


def _hashes(data: bytes, text: str, at: int, depth: int) -> tuple[list[str], int]:
    raw, at = _blob(data, text, at, depth)
    return [raw[start : start + 64] for start in range(0, len(raw), 64)], at


def _issuance(data: bytes, text: str, at: int, depth: int) -> tuple[str, int]:
    return text[at + at : at + at + 48], at + 24


def _paths(data: bytes, text: str, at: int, depth: int) -> tuple[list[list[dict[str, Any]]], int]:
    paths: list[list[dict[str, Any]]] = [[]]
    while kind := data[at]:
        at += 1
        if kind == 0xFF:
            paths.append([])
            continue
        step: dict[str, Any] = {}
        for bit, name, read in _STEPS:
            if kind & bit:
                step[name], at = read(data, text, at, depth)
        paths[-1].append(step)
    return paths, at + 1


_STEPS: Final[tuple[tuple[int, str, Reader], ...]] = (
    (0x01, "account", _bare_account),
    (0x10, "currency", _currency),
    (0x40, "mpt_issuance_id", _issuance),
    (0x20, "issuer", _bare_account),
)

# Type code -> bytes shown in hex, bytes of a number (negative), or reader; UInt64 (3) is told by `_spec`.
_TYPES: Final[Mapping[int, int | Reader]] = {
    1: -2,
    2: -4,
    _UINT64: -8,
    4: 16,
    5: 32,
    6: _amount,
    7: _blob,
    8: _account,
    9: _number,
    10: _signed(4),
    11: _signed(8),
    14: _inner_object,
    15: _array,
    16: -1,
    17: 20,
    18: _paths,
    19: _hashes,
    20: 12,
    21: 24,
    22: 48,
    23: 64,
    24: _issue,
    25: _bridge,
    26: _currency,
}
