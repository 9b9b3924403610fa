"""What makes an export one that can be trusted: its manifest, signed. Pure but for chance in `new_key`.

manifest.json is {"manifest": {...}, "signature": {"algorithm", "public_key", "signature"} or null}. What is signed is
`canonical(manifest)`: JSON with sorted keys and without spaces, in UTF-8; it holds strings, whole numbers, true, false
and null alone, so every language writes it the same. The algorithm is Ed25519 (RFC 8032); keys are PEM files, a public
key in the manifest its 32 bytes in hex.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ALGORITHM: Final = "ed25519"
FORM: Final = "tidebook/compliance-export/1"
Manifest = Mapping[str, Any]


class ManifestError(ValueError):
    """A manifest, signature or key is not what it should be; one line."""


def canonical(value: Any) -> bytes:
    """The bytes that are signed."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def sealed(manifest: Manifest, key: Ed25519PrivateKey | None) -> bytes:
    """The file manifest.json; without a key its signature is null."""
    signature = None
    if key is not None:
        signature = {
            "algorithm": ALGORITHM,
            "public_key": key.public_key().public_bytes_raw().hex(),
            "signature": key.sign(canonical(manifest)).hex(),
        }
    whole = {"manifest": manifest, "signature": signature}
    return orjson.dumps(whole, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def opened(content: bytes, trusted: Ed25519PublicKey | None) -> tuple[Manifest, str | None]:
    """(the manifest, hex of the public key that signed it or None). Raises ManifestError.

    `trusted`: the key that must have signed it; None: any key, or none at all.
    """
    try:
        whole = orjson.loads(content)
        manifest, signature = whole["manifest"], whole["signature"]
        if manifest["form"] != FORM:
            raise ManifestError(f"it is of the form {manifest['form']!r}, this release reads {FORM}")
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise ManifestError("it is no manifest of `tidebook compliance-export`") from None
    if signature is None:
        if trusted is not None:
            raise ManifestError("it is not signed")
        return manifest, None
    return manifest, _signer(manifest, signature, trusted)


def _signer(manifest: Manifest, signature: Any, trusted: Ed25519PublicKey | None) -> str:
    try:
        if signature["algorithm"] != ALGORITHM:
            raise ManifestError(f"it is signed by {signature['algorithm']!r}, not {ALGORITHM}")
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature["public_key"]))
        public.verify(bytes.fromhex(signature["signature"]), canonical(manifest))
    except InvalidSignature:
        raise ManifestError("its signature does not fit: it was changed after it was signed") from None
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, ManifestError):
            raise
        raise ManifestError("its signature cannot be read") from None
    if trusted is not None and public.public_bytes_raw() != trusted.public_bytes_raw():
        raise ManifestError(f"it is signed by another key: {public.public_bytes_raw().hex()}")
    return public.public_bytes_raw().hex()


def new_key() -> tuple[bytes, bytes]:
    """(private, public) key as PEM."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private, public


def private_key(pem: bytes) -> Ed25519PrivateKey:
    """A private key as PEM without a password. Raises ManifestError."""
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ManifestError("it is no private key in PEM without a password") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ManifestError("it is no Ed25519 key")
    return key


def public_key(content: bytes) -> Ed25519PublicKey:
    """A public key as PEM, or as 64 hex digits. Raises ManifestError."""
    try:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(content.decode("ascii").strip()))
    except (UnicodeDecodeError, ValueError):
        pass
    try:
        key = serialization.load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise ManifestError("it is no public key, neither PEM nor 64 hex digits") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ManifestError("it is no Ed25519 key")
    return key
