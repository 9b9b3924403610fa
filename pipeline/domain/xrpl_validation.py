"""Validations of ledgers: what they say, whether they are signed, and whether they are enough.

A validation is a validator's signed word that a ledger, named by index and hash, is valid. It is signed with a
signing key, which the settings trust themselves, or which a manifest ties to a master key that they trust.
What counts is the signed data, never the JSON around them: a message whose JSON names another ledger than its
data is as good as forged.

A vote counts if it is full, its signature holds, and the validator signed no other hash for this index: one
that signed two has no word. Only messages of trusted keys are verified at all, so a flood of others costs
little. A forged message never displaces a good vote, and an older one never a newer: each validator has room
for its votes on `kept` ledgers, of which the lowest leave first, and the forged ones stand apart.

Source: rippled `protocol/STValidation`, `app/misc/NetworkOPs.cpp` (pubValidation, pubManifest).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from pipeline.domain.decode.xrpl_binary import decode_object
from pipeline.domain.decode.xrpl_errors import Malformed
from pipeline.domain.decode.xrpl_shapes import is_hash, to_int
from pipeline.domain.xrpl_encode import Unencodable, encode_object
from pipeline.domain.xrpl_keys import ValidationError, parse_key, verify
from pipeline.domain.xrpl_manifest import REVOKED, Manifest, manifest_fields, read_manifest

__all__ = [
    "FLAG_CANONICAL",
    "FLAG_FULL",
    "PREFIX_VALIDATION",
    "Manifest",
    "Validation",
    "ValidationError",
    "Validators",
    "parse_key",
    "read_manifest",
    "read_validation",
]

FLAG_FULL: Final = 0x00000001
FLAG_CANONICAL: Final = 0x80000000
PREFIX_VALIDATION: Final = b"VAL\0"


@dataclass(frozen=True, slots=True)
class Validation:
    """One validator's word on one ledger. Keys are 66 upper-case hex digits."""

    signing_key: str
    master_key: str | None  # as the node says; believed only where a manifest says so too
    ledger_index: int
    ledger_hash: str
    full: bool
    signing_time: int  # seconds since 2000-01-01
    fault: str  # why it is forged, in one line; empty where the signature holds

    @property
    def signature_holds(self) -> bool:
        """The signature is the signing key's, over just what this says."""
        return not self.fault


class Claim(NamedTuple):
    """A validation read but not verified yet; `fault` tells where JSON and signed data differ."""

    validation: Validation
    fields: Mapping[str, Any]
    signature: bytes
    rebuilt: bool


def read_validation(message: Mapping[str, Any]) -> Validation:
    """A `validationReceived` message of the validations stream, its signature checked.

    Raises ValidationError where it can't be read, or where it lacks `data` (servers before 1.8) and the
    signature does not hold over what the JSON tells: then it is not known what was signed.
    """
    return judge(read_claim(message))


def read_claim(message: Mapping[str, Any]) -> Claim:
    """The same without the cost of a signature. Raises ValidationError."""
    if message.get("type", "validationReceived") != "validationReceived":
        raise ValidationError(f"not a validation but a message of type {str(message['type'])[:40]!r}")
    data = message.get("data")
    try:
        fields = decode_object(data) if isinstance(data, str) else _from_json(message)
        signature = bytes.fromhex(str(fields.pop("Signature", None) or message.get("signature") or ""))
        validation = _validation(fields, message)
    except (Malformed, ValueError) as error:
        raise ValidationError(f"a validation can't be read: {error}") from error
    return Claim(validation, fields, signature, not isinstance(data, str))


def judge(claim: Claim) -> Validation:
    """Verify the signature of a claim. Raises ValidationError as `read_validation` does."""
    said = claim.validation
    if said.fault:
        return said
    try:
        signed = PREFIX_VALIDATION + encode_object(claim.fields)
    except Unencodable as error:
        raise ValidationError(f"a validation can't be read: {error}") from error
    canonical = bool(claim.fields["Flags"] & FLAG_CANONICAL)
    if verify(said.signing_key, signed, claim.signature, canonical):
        return said
    if claim.rebuilt:
        raise ValidationError("a validation without `data` can't be verified: update or change the node")
    return replace(said, fault="the signature does not hold")


def _validation(fields: Mapping[str, Any], message: Mapping[str, Any]) -> Validation:
    """What the message claims, and where its JSON contradicts the signed fields."""
    signed = _claimed(
        {
            "ledger_hash": fields.get("LedgerHash"),
            "ledger_index": fields.get("LedgerSequence"),
            "validation_public_key": fields.get("SigningPubKey"),
            "flags": fields.get("Flags"),
            "signing_time": fields.get("SigningTime"),
        }
    )
    shown = _claimed(signed | {name: message[name] for name in signed if name in message})
    differs = [name for name in signed if shown[name] != signed[name]]
    full = bool(shown["flags"] & FLAG_FULL)
    if message.get("full", full) is not full:
        differs.append("full")
    master = message.get("master_key")
    return Validation(
        shown["validation_public_key"],
        parse_key(master) if isinstance(master, str) else None,
        shown["ledger_index"],
        shown["ledger_hash"],
        full,
        shown["signing_time"],
        f"{', '.join(differs)} not as in the signed data" if differs else "",
    )


def _claimed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values in one form: hashes and keys in upper-case hex, numbers as numbers."""
    return {
        "ledger_hash": _hash(values["ledger_hash"], "ledger_hash"),
        "validation_public_key": parse_key(str(values["validation_public_key"])),
    } | {name: to_int(values[name], name) for name in ("ledger_index", "flags", "signing_time")}


def _hash(value: object, name: str) -> str:
    if not is_hash(value):
        raise Malformed(f"{name} is not 64 hex digits: {str(value)[:80]!r}")
    return str(value).upper()


# JSON name -> field, of what a validation without `data` may hold.
_JSON_NUMBERS: Final = {
    "flags": "Flags",
    "ledger_index": "LedgerSequence",
    "signing_time": "SigningTime",
    "close_time": "CloseTime",
    "load_fee": "LoadFee",
    "base_fee": "BaseFee",
    "reserve_base": "ReserveBase",
    "reserve_inc": "ReserveIncrement",
    "cookie": "Cookie",
    "server_version": "ServerVersion",
}


def _from_json(message: Mapping[str, Any]) -> dict[str, Any]:
    """The signed fields as far as JSON tells them (it never tells the consensus hash of newer servers)."""
    fields: dict[str, Any] = {
        field: to_int(message[name], name) for name, field in _JSON_NUMBERS.items() if name in message
    }
    for name, field in (
        ("ledger_hash", "LedgerHash"),
        ("validated_hash", "ValidatedHash"),
        ("amendments", "Amendments"),
    ):
        if name in message:
            fields[field] = message[name]
    fields["SigningPubKey"] = parse_key(str(message.get("validation_public_key")))
    return fields


class Validators:
    """Trusted validators and their votes on recent ledgers."""

    quorum: int
    """Valid full validations that a ledger needs; 0 where no validator is trusted."""

    unreadable: int
    """Messages and manifests that could not be read or did not hold; `unreadable_reason` is the last one's."""

    def __init__(self, trusted_keys: Iterable[str], quorum: int = 0, kept: int = 512) -> None:
        """Keys as the settings name them; quorum 0: 80 % of them, rounded up. Raises ValidationError."""
        self._names: dict[str, str] = {}
        for text in filter(None, (text.strip() for text in trusted_keys)):
            self._names.setdefault(parse_key(text), text)
        count = len(self._names)
        if quorum > count:
            raise ValidationError(f"a quorum of {quorum} can't be reached by {count} trusted validators")
        self.quorum = quorum or (count * 4 + 4) // 5
        self.unreadable, self.unreadable_reason = 0, ""
        self._kept = kept
        self._master_of: dict[str, str] = {}
        self._sequence: dict[str, int] = {}
        self._signed: dict[str, dict[int, dict[str, Validation]]] = {key: {} for key in self._names}
        self._forged: dict[str, dict[int, str]] = {key: {} for key in self._names}

    def add(self, message: Mapping[str, Any]) -> Validation | None:
        """Take a `validationReceived` message; None where its key is not trusted, or it can't be read.

        The answer's `fault` tells a forged one. Never raises: what can't be read is counted in `unreadable`.
        """
        try:
            return self._add(message)
        except ValidationError as error:
            self.unreadable, self.unreadable_reason = self.unreadable + 1, str(error)
            return None

    def _add(self, message: Mapping[str, Any]) -> Validation | None:
        claim = read_claim(message)
        voter = self._voter(claim)
        if voter is None:
            return None
        said = claim.validation
        votes = self._signed[voter]
        known = votes.get(said.ledger_index, {}).get(said.ledger_hash)
        if known is not None and known == said:
            return known
        validation = judge(claim)
        if validation.fault:
            forged = self._forged[voter]
            forged[said.ledger_index] = validation.fault
            _forget(forged, self._kept)
        elif validation.full:
            hashes = votes.setdefault(said.ledger_index, {})
            if len(hashes) < 2:
                hashes.setdefault(said.ledger_hash, validation)
            _forget(votes, self._kept)
        return validation

    def add_manifest(self, message: Mapping[str, Any] | str | bytes) -> bool:
        """Take a manifest: its blob, a `manifestReceived` message or the answer of `manifest`.

        True if a trusted master key has another signing key by it, or is revoked. An untrusted or older one
        changes nothing. Never raises: what can't be read or does not hold is counted in `unreadable`.
        """
        try:
            return self._add_manifest(_blob(message))
        except ValidationError as error:
            self.unreadable, self.unreadable_reason = self.unreadable + 1, str(error)
            return False

    def _add_manifest(self, blob: str | bytes) -> bool:
        master = parse_key(str(manifest_fields(blob).get("PublicKey")))
        if master not in self._names:
            return False
        manifest = read_manifest(blob)
        if manifest.sequence <= self._sequence.get(master, -1):
            return False
        signing = manifest.signing_key
        if signing is not None and self._master_of.get(signing, master) != master:
            raise ValidationError(f"a manifest of {master} names the signing key of another validator")
        self._sequence[master] = manifest.sequence
        self._master_of = {key: value for key, value in self._master_of.items() if value != master}
        if signing is not None:
            self._master_of[signing] = master
        return True

    def without_manifest(self) -> list[str]:
        """Trusted keys, as the settings name them, of which no manifest came yet: a node may be asked for it."""
        return [name for key, name in self._names.items() if key not in self._sequence]

    def tally(self, ledger_index: int, ledger_hash: str) -> dict[str, Any]:
        """{validators: [{key, vote: signed|forged|other|absent}], quorum, signed}, as in verdicts.avsc."""
        wanted = ledger_hash.upper()
        votes = [
            {"key": name, "vote": self._vote(key, ledger_index, wanted)} for key, name in self._names.items()
        ]
        signed = sum(vote["vote"] == "signed" for vote in votes)
        return {"validators": votes, "quorum": self.quorum, "signed": signed}

    def validated(self, ledger_index: int) -> str | None:
        """The hash of this ledger that has the quorum, None as long as none has."""
        said = [self._signed[key].get(ledger_index, {}) for key in self._names]
        counts = Counter(ledger_hash for hashes in said if len(hashes) == 1 for ledger_hash in hashes)
        return next((found for found, count in counts.items() if count >= self.quorum), None)

    def _vote(self, key: str, ledger_index: int, ledger_hash: str) -> str:
        hashes = self._signed[key].get(ledger_index)
        if hashes:
            return "signed" if set(hashes) == {ledger_hash} else "other"
        return "forged" if ledger_index in self._forged[key] else "absent"

    def _voter(self, claim: Claim) -> str | None:
        """The trusted key that a message counts for: one even where master and signing key are both trusted."""
        signing = claim.validation.signing_key
        voter = self._master_of.get(signing, signing)
        return voter if voter in self._names and self._sequence.get(voter) != REVOKED else None


def _blob(message: Mapping[str, Any] | str | bytes) -> str | bytes:
    if isinstance(message, (str, bytes)):
        return message
    result = message.get("result", message)
    blob = result.get("manifest") if isinstance(result, Mapping) else None
    if not isinstance(blob, str):
        raise ValidationError("a message without a manifest")
    return blob


def _forget(by_index: dict[int, Any], kept: int) -> None:
    while len(by_index) > kept:
        del by_index[min(by_index)]
