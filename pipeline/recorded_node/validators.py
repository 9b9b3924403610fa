"""Validators of the recorded node's own: keys from a seed, and the validations they would have sent.

Each has a master key (Ed25519, nH… in base58) that stands for it, a signing key (secp256k1, n9…), and a
manifest by which the first authorizes the second. Per ledger each says once, signed, which hash it holds
to be valid.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipeline.domain.decode.xrpl_shapes import decode_blob
from pipeline.domain.xrpl_validation_sign import SigningKey, key_from_seed, make_manifest, sign_validation
from pipeline.recorded_node.faults import Faults

Json = dict[str, Any]

_SERVER_VERSION: Final = 0x1803_0102_0000_0000
_SIGNED_AFTER_S: Final = 2


@dataclass(frozen=True, slots=True)
class Validator:
    """One validator: its master key, its signing key, and the manifest (base64) that joins them."""

    master: SigningKey
    signing: SigningKey
    manifest: str
    cookie: int


@dataclass(frozen=True, slots=True)
class Quorum:
    """All validators of a node."""

    validators: tuple[Validator, ...]

    @property
    def keys(self) -> list[str]:
        """Master public keys, nH…, to be trusted."""
        return [each.master.node_public for each in self.validators]

    def find(self, key: str) -> Validator | None:
        """The validator with this master or signing key."""
        for each in self.validators:
            if key in (each.master.node_public, each.signing.node_public):
                return each
        return None


def make_quorum(count: int, seed: int) -> Quorum:
    """`count` validators, always the same for a seed."""
    return Quorum(tuple(_make(number, seed) for number in range(count)))


def _make(number: int, seed: int) -> Validator:
    name = f"recorded-node/{seed}/{number}"
    master = key_from_seed(f"{name}/master".encode(), "ed25519")
    signing = key_from_seed(f"{name}/signing".encode())
    manifest = make_manifest(master, signing, 1, f"validator{number}.example.com")
    return Validator(master, signing, manifest, cookie=seed * 1000 + number + 1)


def validations(
    quorum: Quorum, index: int, ledger_hash: str, close_time: int, network_id: int, faults: Faults
) -> list[Json]:
    """A `validationReceived` message of each validator that speaks, in their order."""
    messages = []
    for number, validator in enumerate(quorum.validators):
        if number in faults.missing_validation:
            continue
        message = sign_validation(
            validator.signing,
            ledger_hash=_other(ledger_hash) if number in faults.other_validation else ledger_hash,
            ledger_index=index,
            signing_time=close_time + _SIGNED_AFTER_S,
            cookie=validator.cookie,
            server_version=_SERVER_VERSION if index % 256 == 0 else None,
            master_key=validator.master.node_public,
            network_id=network_id,
        )
        messages.append(_forged(message) if number in faults.forged_validation else message)
    return messages


def _other(hash_: str) -> str:
    return hash_[32:] + hash_[:32]


def _forged(message: Json) -> Json:
    """The same with a signature that does not hold: its last byte changed, in `data` too."""
    signature = message["signature"]
    forged = signature[:-2] + f"{int(signature[-2:], 16) ^ 1:02X}"
    return message | {"signature": forged, "data": message["data"].replace(signature, forged)}


def manifest_message(validator: Validator) -> Json:
    """A `manifestReceived` message of the `manifests` stream."""
    blob = b64decode(validator.manifest).hex().upper()
    fields = decode_blob(blob)
    return {
        "type": "manifestReceived",
        "domain": bytes.fromhex(fields["Domain"]).decode(),
        "manifest": blob,
        "master_signature": fields["MasterSignature"],
        "signature": fields["Signature"],
        "master_key": validator.master.node_public,
        "signing_key": validator.signing.node_public,
        "seq": 1,
    }


def manifest_answer(quorum: Quorum | None, request: Mapping[str, Any]) -> Json:
    """The `result` of the command `manifest`."""
    key = request["public_key"]
    found = quorum.find(key) if quorum else None
    if found is None:
        return {"requested": key}
    number = quorum.validators.index(found) if quorum else 0
    details = {
        "domain": f"validator{number}.example.com",
        "ephemeral_key": found.signing.node_public,
        "master_key": found.master.node_public,
        "seq": 1,
    }
    return {"details": details, "manifest": found.manifest, "requested": key}
