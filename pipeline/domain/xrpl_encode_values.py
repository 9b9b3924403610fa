"""Single values of XRPL's JSON to their canonical bytes: the inverse of the value readers of decode/xrpl_binary.

One function a type: it takes the value as a node writes it in JSON and gives the bytes that follow the field's
header, the length before them included where the type has one. All of them refuse what would have to be
rounded or guessed: bytes that were made up would prove nothing. And they take names in one form only (hex in
upper case, a currency code by its letters where it has them, an address with just its own leading digits): two
texts of the same bytes would be one thing to the proof and two to the books. They raise ValueError, or whatever
Python raises on a value of the wrong type; `xrpl_encode` adds the field's name. Amounts, accounts and
currencies are cached, for they are met again and again.

Source: https://xrpl.org/docs/references/protocol/binary-format; rippled STAmount, STNumber, STPathSet, STIssue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from string import ascii_letters, digits
from typing import Any, Final

from pipeline.domain.amount import parse_decimal
from pipeline.domain.decode.xrpl_address import decode_account, encode_account
from pipeline.domain.xrpl_hash import length_prefix

Encoder = Callable[[Any], bytes]

_CACHED: Final = 65_536
_DROPS_MAX: Final = 1 << 61  # the bits above tell what an amount is
_POSITIVE: Final = 1 << 62
_ISSUED: Final = 1 << 63
_MANTISSA_MIN, _MANTISSA_MAX = 10**15, 10**16 - 1
_EXPONENT_MIN, _EXPONENT_MAX = -96, 80
_NUMBER_MIN, _NUMBER_MAX = 10**18, 2**63 - 1
_NUMBER_EXPONENT_MAX: Final = 32_768
_NUMBER_ZERO: Final = bytes(8) + (-(2**31)).to_bytes(4, signed=True)
_XRP_CURRENCY: Final = bytes(20)
_LETTERS: Final = frozenset(ascii_letters + digits + "<>(){}[]|?!@#$%^&*")  # rippled's isoCharSet
_MPT_MARK: Final = bytes(19) + b"\x01"


def hex_bytes(text: str) -> bytes:
    """Bytes of upper-case hex digits and nothing else."""
    raw = bytes.fromhex(text)
    if raw.hex().upper() != text:
        raise ValueError(f"not upper-case hex: {text[:80]!r}")
    return raw


def with_length(raw: bytes) -> bytes:
    """Bytes with their length before them."""
    length = len(raw)
    return (bytes((length,)) if length <= 192 else length_prefix(length)) + raw


def fixed_hex(length: int) -> Encoder:
    """A hash of `length` bytes."""

    def encode(value: str) -> bytes:
        raw = bytes.fromhex(value)
        if len(raw) != length or raw.hex().upper() != value:
            raise ValueError(f"not {2 * length} upper-case hex digits: {value[:80]!r}")
        return raw

    return encode


def integer(length: int, signed: bool = False) -> Encoder:
    """A number of `length` bytes; JSON has the ones of eight bytes as digits, since it has no such numbers."""

    def encode(value: int | str) -> bytes:
        if type(value) is int:
            return value.to_bytes(length, signed=signed)
        if length < 8:
            raise ValueError(f"not a number: {value!r}")
        return _digits(str(value)).to_bytes(length, signed=signed)

    return encode


def _digits(text: str) -> int:
    number = int(text)
    if str(number) != text:
        raise ValueError(f"not an integer: {text[:80]!r}")
    return number


def hex_number(value: int | str) -> bytes:
    """UInt64 in hex, as rippled writes most of them; leading zeros may be left out."""
    if isinstance(value, int):
        return value.to_bytes(8)
    raw = bytes.fromhex(value.zfill(16))
    if len(raw) != 8 or " " in value:
        raise ValueError(f"not up to 16 hex digits: {value[:80]!r}")
    return raw


def blob(value: str) -> bytes:
    """Hex digits of any length."""
    return with_length(hex_bytes(value))


@lru_cache(maxsize=_CACHED)
def bare_account(address: str) -> bytes:
    """AccountID, 20 bytes, of a classic address."""
    account_id = decode_account(address)
    if encode_account(account_id) != address:
        raise ValueError(f"not an account address: {address[:80]!r}")
    return bytes.fromhex(account_id)


def account(address: str) -> bytes:
    """AccountID with its length; "" is the empty one that some pseudo-transactions hold."""
    return b"\x14" + bare_account(address) if address else b"\x00"


@lru_cache(maxsize=_CACHED)
def currency(code: str) -> bytes:
    """20 bytes of "XRP", of a three-letter code, or of 40 hex digits where they are no such code."""
    if code == "XRP":
        return _XRP_CURRENCY
    if len(code) == 3:
        return bytes(12) + code.encode("ascii") + bytes(5)
    raw = fixed_hex(20)(code)
    letters = raw[12:15].decode("latin-1")
    if not any(raw[:12]) and not any(raw[15:]) and letters != "XRP" and not set(letters) - _LETTERS:
        raise ValueError(f"{letters!r} in hex")
    if raw == _XRP_CURRENCY:
        raise ValueError("XRP in hex")
    return raw


def amount(value: Any) -> bytes:
    """XRP in drops (a string; it may be negative, as in metadata of 2013), an issued amount, or an MPT amount."""
    if isinstance(value, str):
        return _drops(value)
    if "mpt_issuance_id" in value:
        _only(value, 2)
        return _mpt_amount(value["value"], value["mpt_issuance_id"])
    _only(value, 3)
    return _issued_value(value["value"]) + currency(value["currency"]) + bare_account(value["issuer"])


def _only(value: Mapping[str, Any], count: int) -> None:
    if len(value) != count:
        raise ValueError("more than one asset, or something else with it: " + ", ".join(map(str, value)))


@lru_cache(maxsize=_CACHED)
def _drops(text: str) -> bytes:
    drops = _digits(text)
    if abs(drops) >= _DROPS_MAX:
        raise ValueError(f"more drops than an amount can hold: {text[:80]}")
    return (drops | _POSITIVE if drops >= 0 else -drops).to_bytes(8)


@lru_cache(maxsize=_CACHED)
def _issued_value(text: str) -> bytes:
    """Sign, exponent and 16-digit mantissa; zero has one form of its own."""
    mantissa, exponent = parse_decimal(text)
    if not mantissa:
        return _ISSUED.to_bytes(8)
    fraction, exponent = _normalised(abs(mantissa), exponent, _MANTISSA_MIN, _MANTISSA_MAX)
    if not _EXPONENT_MIN <= exponent <= _EXPONENT_MAX:
        raise ValueError(f"beyond the exponents of an issued amount: {text[:80]!r}")
    bits = _ISSUED | (_POSITIVE if mantissa > 0 else 0) | (exponent + 97) << 54 | fraction
    return bits.to_bytes(8)


def _normalised(number: int, exponent: int, least: int, most: int) -> tuple[int, int]:
    """The same value with least <= number <= most, or as near to `least` as `most` lets it."""
    while number < least and number * 10 <= most:
        number, exponent = number * 10, exponent - 1
    while number > most:
        number, rest = divmod(number, 10)
        exponent += 1
        if rest:
            raise ValueError("more digits than the ledger can hold")
    return number, exponent


def _mpt_amount(text: str, issuance: str) -> bytes:
    units = _digits(text)
    return (b"\x60" if units >= 0 else b"\x20") + abs(units).to_bytes(8) + _issuance(issuance)


_issuance = fixed_hex(24)


@lru_cache(maxsize=_CACHED)
def number(text: str) -> bytes:
    """Number: mantissa of 19 digits that fits 63 bits (else 18), exponent (rippled's "large" scale)."""
    mantissa, exponent = parse_decimal(text)
    if not mantissa:
        return _NUMBER_ZERO
    fraction, exponent = _normalised(abs(mantissa), exponent, _NUMBER_MIN, _NUMBER_MAX)
    if abs(exponent) > _NUMBER_EXPONENT_MAX:
        raise ValueError(f"beyond the exponents of a Number: {text[:80]!r}")
    return (fraction if mantissa > 0 else -fraction).to_bytes(8, signed=True) + exponent.to_bytes(
        4, signed=True
    )


def issue(value: Mapping[str, str]) -> bytes:
    """What an asset is, without an amount: XRP, an issued currency, or an MPT (issuer, mark, sequence reversed)."""
    _only(value, 2 if "issuer" in value else 1)
    if "mpt_issuance_id" in value:
        issuance = _issuance(value["mpt_issuance_id"])
        return issuance[4:] + _MPT_MARK + issuance[3::-1]
    code = currency(value["currency"])
    if "issuer" in value:
        return code + bare_account(value["issuer"])
    if code != _XRP_CURRENCY:
        raise ValueError("an issued currency without issuer")
    return code


def bridge(value: Mapping[str, Any]) -> bytes:
    """XChainBridge: door and issue of the locking chain, then of the issuing chain."""
    return b"".join(
        encode(value[name])
        for name, encode in (
            ("LockingChainDoor", account),
            ("LockingChainIssue", issue),
            ("IssuingChainDoor", account),
            ("IssuingChainIssue", issue),
        )
    )


def hashes(value: list[str]) -> bytes:
    """Vector256."""
    return with_length(b"".join(map(_hash256, value)))


_hash256 = fixed_hex(32)

_STEPS: Final[tuple[tuple[str, int, Encoder], ...]] = (
    ("account", 0x01, bare_account),
    ("currency", 0x10, currency),
    ("mpt_issuance_id", 0x40, _issuance),
    ("issuer", 0x20, bare_account),
)


def paths(value: list[list[Mapping[str, Any]]]) -> bytes:
    """PathSet: steps, 0xFF between paths, 0x00 at the end."""
    return b"\xff".join(b"".join(map(_step, path)) for path in value) + b"\x00"


def _step(step: Mapping[str, Any]) -> bytes:
    """A step says by its first byte what follows; `type` and `type_hex` in JSON only repeat it."""
    kind, parts = 0, b""
    for name, bit, encode in _STEPS:
        if name in step:
            kind, parts = kind | bit, parts + encode(step[name])
    if not kind:
        raise ValueError("an empty path step")
    return bytes((kind,)) + parts
