"""Manifests: a validator's master key names the key that it signs with.

Both keys sign a manifest, and of a master key's manifests the one with the highest sequence holds; the highest
sequence there is revokes the master key for ever.

Source: rippled `app/misc/Manifest.cpp` (deserializeManifest, Manifest::verify).
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipeline.domain.decode.xrpl_binary import decode_object
from pipeline.domain.decode.xrpl_errors import Malformed
from pipeline.domain.decode.xrpl_shapes import to_int
from pipeline.domain.xrpl_encode import Unencodable, encode_object
from pipeline.domain.xrpl_keys import ValidationError, parse_key, verify

REVOKED: Final = 2**32 - 1
"""Sequence of a manifest that revokes its master key for ever."""

PREFIX_MANIFEST: Final = b"MAN\0"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A master key's word on its signing key; every signature holds. Keys are 66 upper-case hex digits."""

    master_key: str
    signing_key: str | None  # None: the master key is revoked
    sequence: int
    domain: str

    @property
    def revokes(self) -> bool:
        """The master key shall never be trusted again."""
        return self.sequence == REVOKED


def read_manifest(blob: str | bytes) -> Manifest:
    """A manifest (base64, hex or bytes), both its signatures verified. Raises ValidationError."""
    fields = manifest_fields(blob)
    manifest = _manifest(fields)
    signed = {name: value for name, value in fields.items() if name not in ("Signature", "MasterSignature")}
    try:
        data = PREFIX_MANIFEST + encode_object(signed)
    except Unencodable as error:
        raise ValidationError(f"a manifest can't be read: {error}") from error
    signatures = [(manifest.master_key, fields.get("MasterSignature"), "master")]
    if manifest.signing_key is not None:
        signatures.append((manifest.signing_key, fields.get("Signature"), "signing"))
    for key, signature, name in signatures:
        if not verify(key, data, bytes.fromhex(signature or "")):
            raise ValidationError(
                f"a manifest of {manifest.master_key}: the {name} key's signature does not hold"
            )
    return manifest


def manifest_fields(blob: str | bytes) -> dict[str, Any]:
    """Fields of a manifest, nothing verified. Raises ValidationError."""
    try:
        return decode_object(blob.hex() if isinstance(blob, bytes) else _hex_of(blob))
    except (Malformed, ValueError) as error:
        raise ValidationError(f"a manifest can't be read: {error}") from error


def _hex_of(text: str) -> str:
    """Hex of a manifest given in hex or base64."""
    text = "".join(text.split())
    if len(text) % 2 == 0 and not set(text) - set("0123456789abcdefABCDEF"):
        return text
    return binascii.a2b_base64(text, strict_mode=True).hex()


def _manifest(fields: Mapping[str, Any]) -> Manifest:
    """The manifest's content, by the rules of rippled's deserializeManifest."""
    try:
        master = parse_key(str(fields.get("PublicKey")))
        sequence = to_int(fields.get("Sequence"), "Sequence")
        signing = fields.get("SigningPubKey")
        signing = None if signing is None else parse_key(signing)
        domain = bytes.fromhex(fields.get("Domain", "")).decode()
    except (Malformed, ValueError) as error:
        raise ValidationError(f"a manifest can't be read: {error}") from error
    if fields.get("Version", 0) != 0:
        raise ValidationError(f"a manifest of unknown version {fields['Version']}")
    if (signing is None) != (sequence == REVOKED) or signing == master:
        raise ValidationError(f"a manifest of {master} lacks its signing key, or names one that it must not")
    return Manifest(master, signing, sequence, domain)
