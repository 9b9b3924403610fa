"""What an attestor signs, and whether it did: Ed25519 (RFC 8032) over one canonical message.

The message is the line `tidebook/fulfilment/1`, a line feed, and a JSON object with the fields amount, anchor,
attested_at, authorization_id, proof_sha256 in this order, without spaces, in UTF-8: `amount` the authorization's
units as a decimal string, `attested_at` in milliseconds since 1970, `proof_sha256` 64 hex digits in lower case. The
first line keeps a signature from meaning anything elsewhere; the authorization's id from meaning another one. Pure.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from nacl.bindings import crypto_core_ed25519_is_valid_point

from pipeline.domain.flows.events import Refusal

DOMAIN: Final = b"tidebook/fulfilment/1\n"
KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64


def message(authorization_id: str, anchor: str, amount: str, proof: str, attested_at_ms: int) -> bytes:
    """The bytes that an attestor signs."""
    said = {
        "amount": amount,
        "anchor": anchor,
        "attested_at": attested_at_ms,
        "authorization_id": authorization_id,
        "proof_sha256": sha256(proof.encode()).hexdigest(),
    }
    return DOMAIN + orjson.dumps(said)


def check_public_key(text: str, field: str) -> None:
    """Refuse (bad_key) what is no Ed25519 public key in hex."""
    raw = _hex(text, KEY_BYTES)
    if raw is None:
        raise Refusal("bad_key", field, f"it must be {2 * KEY_BYTES} hex digits")
    # Under a point of small order anybody can make a signature of anything, and libraries verify it.
    if not crypto_core_ed25519_is_valid_point(raw):
        raise Refusal("bad_key", field, "it is no Ed25519 public key that a secret key stands behind")


def check_signature(public_key: str, signature: str, signed: bytes, field: str) -> None:
    """Refuse (bad_signature) unless the key's owner signed these bytes."""
    raw = _hex(signature, SIGNATURE_BYTES)
    if raw is None:
        raise Refusal("bad_signature", field, f"it must be {2 * SIGNATURE_BYTES} hex digits")
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(raw, signed)
    except InvalidSignature:
        raise Refusal("bad_signature", field, "the attestor has not signed this fulfilment") from None


def _hex(text: str, size: int) -> bytes | None:
    if len(text) != 2 * size or not text.isascii() or not text.isalnum():
        return None
    try:
        return bytes.fromhex(text)
    except ValueError:
        return None
