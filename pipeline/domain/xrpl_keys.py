"""Public keys of validators and what they have signed.

A key is 33 bytes: a compressed secp256k1 point, or 0xED and an Ed25519 key. Here it is always 66 upper-case hex
digits; people write it in base58 with the ledger's alphabet, prefix 0x1C ("n..."). A secp256k1 signature is
DER over the SHA-512Half of the signed bytes, an Ed25519 one stands over the bytes themselves. "Fully canonical"
means that s is the smaller of the two values that verify, so that nobody can make a second signature of a first.

Source: rippled `protocol/PublicKey.cpp` (publicKeyType, ecdsaCanonicality, verify), `protocol/tokens.cpp`.
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256K1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from pipeline.domain.decode.xrpl_address import ALPHABET
from pipeline.domain.xrpl_hash import sha512_half

CURVE_ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
DIGEST: Final = ECDSA(Prehashed(SHA256()))  # a SHA-512Half is as long as a SHA-256
_NODE_PUBLIC: Final = b"\x1c"
_VALUES: Final = {character: value for value, character in enumerate(ALPHABET)}


class ValidationError(ValueError):
    """A key, manifest, validation or list of validators that can't be used; the message is one clear line."""


def parse_key(text: str) -> str:
    """66 upper-case hex digits of a key in base58 (nH…, n9…) or hex (02…, 03…, ED…). Raises ValidationError."""
    text = text.strip()
    try:
        raw = bytes.fromhex(text) if len(text) == 66 else _from_base58(text)
    except ValueError:
        raw = b""
    if len(raw) != 33 or raw[0] not in (0x02, 0x03, 0xED):
        raise ValidationError(f"not a validator's public key (nH…, n9…, 02…, 03… or ED…): {text[:80]!r}")
    key = raw.hex().upper()
    if _public_key(key) is None:
        raise ValidationError(f"not a point of the curve: {text[:80]!r}")
    return key


def node_public(key: str) -> str:
    """Base58 of a key given in hex, as rippled writes it."""
    payload = _NODE_PUBLIC + bytes.fromhex(key)
    number = int.from_bytes(payload + _checksum(payload))
    digits = ""
    while number:
        number, digit = divmod(number, 58)
        digits = ALPHABET[digit] + digits
    return digits


def verify(key: str, data: bytes, signature: bytes, canonical: bool = True) -> bool:
    """True if `signature` over `data` is of this key; `canonical`: a secp256k1 one must be fully canonical."""
    public = _public_key(key)
    try:
        if isinstance(public, Ed25519PublicKey):
            public.verify(signature, data)
            return True
        if public is None or (canonical and not _low_s(signature)):
            return False
        public.verify(signature, sha512_half(data), DIGEST)
    except (InvalidSignature, ValueError):
        return False
    return True


def _low_s(signature: bytes) -> bool:
    return 2 * decode_dss_signature(signature)[1] <= CURVE_ORDER


@lru_cache(maxsize=4096)
def _public_key(key: str) -> Ed25519PublicKey | EllipticCurvePublicKey | None:
    raw = bytes.fromhex(key)
    try:
        if raw[0] == 0xED:
            return Ed25519PublicKey.from_public_bytes(raw[1:])
        return EllipticCurvePublicKey.from_encoded_point(SECP256K1(), raw)
    except ValueError:
        return None


def _from_base58(text: str) -> bytes:
    """33 bytes inside; ValueError if the text is something else."""
    if len(text) > 60:
        raise ValueError("too long")
    number = 0
    for character in text:
        if character not in _VALUES:
            raise ValueError("not base58")
        number = number * 58 + _VALUES[character]
    payload = number.to_bytes(38) if number < 1 << 304 else b""
    if payload[:1] != _NODE_PUBLIC or _checksum(payload[:34]) != payload[34:]:
        raise ValueError("not a node public key")
    return payload[1:34]


def _checksum(payload: bytes) -> bytes:
    return sha256(sha256(payload).digest()).digest()[:4]
