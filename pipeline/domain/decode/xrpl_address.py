"""XRPL account addresses: base58 with the ledger's alphabet, version byte 0, 4 bytes of double SHA-256.

Source: https://xrpl.org/docs/references/protocol/data-types/base58-encodings. Results are cached: an
address is met again and again.
"""

from functools import lru_cache
from hashlib import sha256

ALPHABET = "rpshnaf39wBUDNEGHJKLM4PQRST7VWXYZ2bcdeCg65jkm8oFqi1tuvAxyz"
ACCOUNT_ZERO = "rrrrrrrrrrrrrrrrrrrrrhoLvTp"

_VALUES = {character: value for value, character in enumerate(ALPHABET)}


def _checksum(payload: bytes) -> bytes:
    return sha256(sha256(payload).digest()).digest()[:4]


@lru_cache(maxsize=65536)
def encode_account(account_id: str) -> str:
    """Classic address of an AccountID of 40 hex digits. ValueError if it is none."""
    raw = bytes.fromhex(account_id)
    if len(raw) != 20:
        raise ValueError(f"not an AccountID: {account_id[:80]!r}")
    payload = b"\x00" + raw
    payload += _checksum(payload)
    number = int.from_bytes(payload)
    digits = ""
    while number:
        number, digit = divmod(number, 58)
        digits = ALPHABET[digit] + digits
    return ALPHABET[0] * (len(payload) - len(payload.lstrip(b"\x00"))) + digits


@lru_cache(maxsize=65536)
def decode_account(address: str) -> str:
    """AccountID, 40 upper-case hex digits, of a classic address. ValueError if it is none."""
    number = 0
    for character in address[:64]:
        if character not in _VALUES:
            raise ValueError(f"not an account address: {address[:80]!r}")
        number = number * 58 + _VALUES[character]
    if number >= 1 << 192:
        raise ValueError(f"not an account address: {address[:80]!r}")
    payload = number.to_bytes(25)
    if payload[0] or _checksum(payload[:21]) != payload[21:]:
        raise ValueError(f"not an account address: {address[:80]!r}")
    return payload[1:21].hex().upper()
