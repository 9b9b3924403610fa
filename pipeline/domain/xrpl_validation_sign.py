"""Validations and manifests signed with keys of one's own, as a validator makes them.

For the recorded node, which has no consensus to listen to, and for tests: rippled accepts what is made here.
Signatures are deterministic (RFC 6979), so the same ledger always has the same validation; a secp256k1 one
is fully canonical (low s, DER). Keys come from seeds as rippled's `validation_create` makes them.

Source: rippled `protocol/SecretKey.cpp` (deriveDeterministicRootKey, sign), `STValidation.h`, `Manifest.cpp`.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Final, Literal

from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256K1,
    EllipticCurvePrivateKey,
    derive_private_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pipeline.domain.xrpl_encode import encode_object
from pipeline.domain.xrpl_hash import sha512_half
from pipeline.domain.xrpl_keys import CURVE_ORDER, node_public
from pipeline.domain.xrpl_manifest import PREFIX_MANIFEST, REVOKED
from pipeline.domain.xrpl_validation import FLAG_CANONICAL, FLAG_FULL, PREFIX_VALIDATION

_SIGN: Final = ECDSA(Prehashed(SHA256()), deterministic_signing=True)

Kind = Literal["secp256k1", "ed25519"]


@dataclass(frozen=True)
class SigningKey:
    """A validator's private key: 32 bytes, and the curve they are of."""

    secret: bytes = field(repr=False)
    kind: Kind = "secp256k1"

    @cached_property
    def public(self) -> str:
        """Public key, 66 upper-case hex digits."""
        key = _private_key(self.secret, self.kind)
        if isinstance(key, Ed25519PrivateKey):
            return "ED" + key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex().upper()
        return key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint).hex().upper()

    @property
    def node_public(self) -> str:
        """Public key in base58, as rippled and the settings write it."""
        return node_public(self.public)

    def sign(self, data: bytes) -> bytes:
        """Signature over data: low-s DER over its SHA-512Half, or Ed25519 over the bytes themselves."""
        key = _private_key(self.secret, self.kind)
        if isinstance(key, Ed25519PrivateKey):
            return key.sign(data)
        r, s = decode_dss_signature(key.sign(sha512_half(data), _SIGN))
        return encode_dss_signature(r, min(s, CURVE_ORDER - s))


@lru_cache(maxsize=256)
def _private_key(secret: bytes, kind: Kind) -> EllipticCurvePrivateKey | Ed25519PrivateKey:
    if kind == "ed25519":
        return Ed25519PrivateKey.from_private_bytes(secret)
    return derive_private_key(int.from_bytes(secret), SECP256K1())


def key_from_seed(seed: bytes, kind: Kind = "secp256k1") -> SigningKey:
    """The key of a seed (rippled's are 16 bytes; here any length goes), always the same for the same seed."""
    if kind == "ed25519":
        return SigningKey(sha512_half(seed), kind)
    attempt = 0
    while True:
        secret = sha512_half(seed + attempt.to_bytes(4))
        if 0 < int.from_bytes(secret) < CURVE_ORDER:
            return SigningKey(secret, kind)
        attempt += 1


def make_manifest(master: SigningKey, signing: SigningKey | None, sequence: int, domain: str = "") -> str:
    """A manifest in base64; `signing` None with sequence REVOKED is a revocation. Raises ValueError otherwise."""
    if (signing is None) != (sequence == REVOKED):
        raise ValueError("a revocation has no signing key and the highest sequence; nothing else may")
    fields: dict[str, Any] = {"PublicKey": master.public, "Sequence": sequence}
    if domain:
        fields["Domain"] = domain.encode().hex().upper()
    if signing is not None:
        fields["SigningPubKey"] = signing.public
    data = PREFIX_MANIFEST + encode_object(fields)
    if signing is not None:
        fields["Signature"] = signing.sign(data).hex().upper()
    fields["MasterSignature"] = master.sign(data).hex().upper()
    return b64encode(encode_object(fields)).decode()


def sign_validation(
    key: SigningKey,
    *,
    ledger_hash: str,
    ledger_index: int,
    signing_time: int,
    full: bool = True,
    cookie: int | None = None,
    server_version: int | None = None,
    validated_hash: str | None = None,
    consensus_hash: str | None = None,
    master_key: str | None = None,
    network_id: int | None = None,
) -> dict[str, Any]:
    """A `validationReceived` message as a node sends it in api_version 1 (ledger_index as a string).

    `signing_time` in seconds since 2000-01-01, hashes in hex, `master_key` in base58 (only shown, not signed).
    """
    flags = FLAG_CANONICAL | (FLAG_FULL if full else 0)
    optional: dict[str, Any] = {
        "Cookie": cookie,
        "ServerVersion": server_version,
        "ValidatedHash": validated_hash,
        "ConsensusHash": consensus_hash,
    }
    fields: dict[str, Any] = {
        "Flags": flags,
        "LedgerHash": ledger_hash,
        "LedgerSequence": ledger_index,
        "SigningTime": signing_time,
        "SigningPubKey": key.public,
    } | {name: value for name, value in optional.items() if value is not None}
    signature = key.sign(PREFIX_VALIDATION + encode_object(fields)).hex().upper()
    fields["Signature"] = signature
    shown = {
        "cookie": None if cookie is None else str(cookie),
        "server_version": None if server_version is None else str(server_version),
        "validated_hash": validated_hash,
        "master_key": master_key,
        "network_id": network_id,
    }
    return {
        "type": "validationReceived",
        "validation_public_key": key.node_public,
        "ledger_hash": ledger_hash,
        "ledger_index": str(ledger_index),
        "flags": flags,
        "full": full,
        "signing_time": signing_time,
        "signature": signature,
        "data": encode_object(fields).hex().upper(),
    } | {name: value for name, value in shown.items() if value is not None}
