"""Validations and manifests that others signed hold; forged, replayed, partial and doubled ones do not count."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.domain.xrpl_keys import CURVE_ORDER, node_public, parse_key, verify
from pipeline.domain.xrpl_manifest import REVOKED
from pipeline.domain.xrpl_validation import (
    FLAG_FULL,
    ValidationError,
    Validators,
    read_manifest,
    read_validation,
)
from pipeline.domain.xrpl_validation_sign import SigningKey, key_from_seed, make_manifest, sign_validation
from schemas.records import Verdict

KNOWN = json.loads((Path(__file__).parents[1] / "data/xrpl-proof/validations.json").read_text())
NODE, XPOP = KNOWN["node"], KNOWN["xpop"]
HASH, OTHER = "AB" * 32, "CD" * 32
KEYS = [key_from_seed(b"validator %d" % number) for number in range(5)]
NAMES = [key.node_public for key in KEYS]


def vote(key: SigningKey, index: int = 7, ledger_hash: str = HASH, **more: Any) -> dict[str, Any]:
    return sign_validation(key, ledger_hash=ledger_hash, ledger_index=index, signing_time=800_000_000, **more)


def votes(validators: Validators, index: int = 7, ledger_hash: str = HASH) -> str:
    """First letters of the votes."""
    return "".join(one["vote"][0] for one in validators.tally(index, ledger_hash)["validators"])


# Known answers


@pytest.mark.parametrize("message", NODE["messages"], ids=lambda message: str(message["ledger_index"]))
def test_validations_of_a_real_node(message: dict[str, Any]) -> None:
    """Of api_version 1 and 2, and one of a voting ledger with the server's version."""
    validation = read_validation(message)
    assert validation.signature_holds
    assert validation.full
    assert validation.ledger_hash == message["ledger_hash"]
    assert validation.ledger_index == int(message["ledger_index"])
    assert validation.signing_time == message["signing_time"]
    assert node_public(validation.signing_key) == message["validation_public_key"]
    assert validation.master_key is not None
    assert node_public(validation.master_key) == NODE["master_key"] == message["master_key"]


def test_a_real_nodes_manifest_is_what_we_made_and_counts_for_its_master_key() -> None:
    master = key_from_seed(b"tidebook master ", "ed25519")
    signing = key_from_seed(b"tidebook signing")
    assert make_manifest(master, signing, 1, "example.com") == NODE["manifest"]
    validators = Validators([NODE["master_key"]])
    (message, *_) = NODE["messages"]
    assert validators.add(message) is None  # the node's `master_key` alone proves nothing
    assert validators.without_manifest() == [NODE["master_key"]]
    assert validators.add_manifest({"result": {"manifest": NODE["manifest"]}})
    assert validators.without_manifest() == []
    assert validators.add(message) is not None
    assert votes(validators, int(message["ledger_index"]), message["ledger_hash"]) == "s"


def test_a_validation_out_of_a_proof_of_payment() -> None:
    validators = Validators([XPOP["master_key"]])
    assert validators.add_manifest(XPOP["manifest"])
    validation = validators.add({"validation_public_key": XPOP["signing_key"], "data": XPOP["data"]})
    assert validation is not None
    assert (validation.ledger_index, validation.ledger_hash) == (XPOP["ledger_index"], XPOP["ledger_hash"])
    assert votes(validators, XPOP["ledger_index"], XPOP["ledger_hash"]) == "s"


@pytest.mark.parametrize("known", KNOWN["manifests"], ids=lambda known: known["domain"])
def test_manifests_of_mainnet_validators(known: dict[str, Any]) -> None:
    manifest = read_manifest(known["manifest"])
    assert manifest.signing_key is not None
    assert (manifest.sequence, manifest.domain) == (known["sequence"], known["domain"])
    assert node_public(manifest.master_key) == known["master_key"]
    assert node_public(manifest.signing_key) == known["signing_key"]
    assert parse_key(known["master_key"]) == manifest.master_key == parse_key(manifest.master_key.lower())


def test_keys_come_from_seeds_as_rippled_makes_them() -> None:
    """validation_create's example on xrpl.org: seed snjJkyBGogTem5dFGbcRaThKq2Rt3."""
    alphabet = "rpshnaf39wBUDNEGHJKLM4PQRST7VWXYZ2bcdeCg65jkm8oFqi1tuvAxyz"
    number = 0
    for character in "snjJkyBGogTem5dFGbcRaThKq2Rt3":
        number = number * 58 + alphabet.index(character)
    seed = number.to_bytes(21)[1:17]
    assert key_from_seed(seed).node_public == "n9Jx6RS6zSgqsgnuWJifNA9EqgjTKAywqYNReK5NRd1yLBbfC3ng"


# Signatures


@pytest.mark.parametrize("kind", ["secp256k1", "ed25519"])
def test_signed_and_read(kind: Any) -> None:
    key = key_from_seed(b"one", kind)
    message = vote(
        key, cookie=2**63, server_version=5, validated_hash=OTHER, consensus_hash=HASH, network_id=0
    )
    assert message == vote(
        key, cookie=2**63, server_version=5, validated_hash=OTHER, consensus_hash=HASH, network_id=0
    )
    validation = read_validation(message)
    assert validation.signature_holds
    assert validation.signing_key == key.public
    assert (message["ledger_index"], message["cookie"]) == ("7", str(2**63))


@settings(max_examples=200)
@given(st.data())
def test_one_bit_anywhere_in_the_data_is_forged_or_unreadable(data: st.DataObject) -> None:
    message = dict(NODE["messages"][0])
    raw = bytearray.fromhex(message["data"])
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    message["data"] = raw.hex()
    with suppress(ValidationError):
        assert not read_validation(message).signature_holds


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ledger_hash", OTHER),
        ("ledger_index", "8"),
        ("flags", FLAG_FULL),
        ("full", False),
        ("signing_time", 1),
        ("validation_public_key", NAMES[1]),
    ],
)
def test_json_that_differs_from_the_signed_data_is_forged(field: str, value: Any) -> None:
    validation = read_validation(vote(KEYS[0]) | {field: value})
    assert not validation.signature_holds
    assert field in validation.fault


def test_the_larger_s_is_refused() -> None:
    """Anyone can make it of a good signature; rippled refuses it too."""
    key = KEYS[0]
    raw = key.sign(b"data")
    length = raw[3]
    r, s = int.from_bytes(raw[4 : 4 + length]), int.from_bytes(raw[6 + length :])
    assert s * 2 < CURVE_ORDER
    parts = [
        b"\x02" + bytes([len(n)]) + n
        for n in (number.to_bytes(33).lstrip(b"\0") for number in (r, CURVE_ORDER - s))
    ]
    parts = [p if p[2] < 128 else b"\x02" + bytes([p[1] + 1]) + b"\0" + p[2:] for p in parts]
    high = b"\x30" + bytes([len(b"".join(parts))]) + b"".join(parts)
    assert verify(key.public, b"data", raw)
    assert not verify(key.public, b"data", high)
    assert verify(key.public, b"data", high, canonical=False)
    assert not verify(key.public, b"data", b"")
    assert not verify(key.public, b"else", raw)


def test_without_data_the_json_is_signed_or_nothing_is_known() -> None:
    message = vote(KEYS[0], cookie=3, validated_hash=OTHER)
    del message["data"]
    assert read_validation(message).signature_holds
    with pytest.raises(ValidationError, match="without `data`"):
        read_validation(message | {"ledger_hash": OTHER})
    real = {name: value for name, value in NODE["messages"][0].items() if name != "data"}
    with pytest.raises(ValidationError, match="without `data`"):  # the JSON never tells the consensus hash
        read_validation(real)


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"type": "ledgerClosed"},
        {"data": "zz"},
        {"data": ""},
        {"data": 7},
        {"data": "22"},
        vote(KEYS[0]) | {"ledger_index": None},
        vote(KEYS[0]) | {"validation_public_key": "nHB"},
        vote(KEYS[0]) | {"master_key": "x"},
    ],
)
def test_what_cannot_be_read_is_counted(message: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read_validation(message)
    validators = Validators(NAMES)
    assert validators.add(message) is None
    assert validators.unreadable == 1
    assert validators.unreadable_reason
    assert votes(validators) == "aaaaa"


# Votes


def test_quorum_and_votes_as_the_verdict_names_them() -> None:
    validators = Validators(NAMES)
    assert validators.quorum == 4
    for key in KEYS[:3]:
        validators.add(vote(key))
    validators.add(vote(KEYS[3]) | {"signature": "00", "data": vote(KEYS[3])["data"].replace(HASH, OTHER)})
    tally = validators.tally(7, HASH)
    assert tally["signed"] == 3
    assert tally["quorum"] == 4
    assert [one["vote"] for one in tally["validators"]] == ["signed"] * 3 + ["forged", "absent"]
    assert [one["key"] for one in tally["validators"]] == NAMES
    assert set(tally) <= set(Verdict.__annotations__)
    assert votes(validators, 7, OTHER) == "ooofa"
    assert votes(validators, 8) == "aaaaa"


@pytest.mark.parametrize(("trusted", "quorum"), [(1, 1), (2, 2), (4, 4), (5, 4), (6, 5), (10, 8), (35, 28)])
def test_default_quorum_is_80_percent_rounded_up(trusted: int, quorum: int) -> None:
    keys = [key_from_seed(b"quorum %d" % number).node_public for number in range(trusted)]
    assert Validators(keys).quorum == quorum
    assert Validators([*keys, keys[0], parse_key(keys[0]), " "]).quorum == quorum
    assert Validators(keys, trusted).quorum == trusted


def test_settings_that_make_no_sense() -> None:
    assert Validators([]).tally(1, HASH) == {"validators": [], "quorum": 0, "signed": 0}
    with pytest.raises(ValidationError, match="can't be reached by 5"):
        Validators(NAMES, 6)
    for key in (
        "nHB",
        "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh",
        "04" + "00" * 32,
        "0" * 66,
        "02" + "FF" * 32,
    ):
        with pytest.raises(ValidationError, match=r"validator's public key|point of the curve"):
            Validators([key])


def test_a_partial_validation_does_not_count() -> None:
    validators = Validators(NAMES)
    validation = validators.add(vote(KEYS[0], full=False))
    assert validation is not None
    assert validation.signature_holds
    assert votes(validators) == "aaaaa"
    validators.add(vote(KEYS[0]))
    validators.add(vote(KEYS[0], full=False))
    assert votes(validators) == "saaaa"


def test_duplicates_count_once_and_a_forgery_spoils_nothing() -> None:
    validators = Validators(NAMES)
    forged = vote(KEYS[0]) | {"ledger_hash": OTHER}
    validators.add(forged)
    assert votes(validators) == "faaaa"
    for _ in range(3):
        validators.add(vote(KEYS[0]))
        validators.add(forged)
    assert validators.tally(7, HASH)["signed"] == 1
    assert votes(validators, 7, OTHER) == "oaaaa"


def test_who_signs_two_hashes_has_no_word() -> None:
    validators = Validators(NAMES)
    for ledger_hash in (HASH, OTHER, "EF" * 32, HASH):
        validators.add(vote(KEYS[0], ledger_hash=ledger_hash))
    assert votes(validators) == "oaaaa"
    assert votes(validators, 7, OTHER) == "oaaaa"


def test_a_stranger_is_not_even_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_verification(*_: Any) -> bool:
        raise AssertionError("verified")

    monkeypatch.setattr("pipeline.domain.xrpl_validation.verify", no_verification)
    validators = Validators(NAMES[:1])
    assert validators.add(vote(KEYS[1])) is None
    with pytest.raises(AssertionError, match="verified"):
        validators.add(vote(KEYS[0]))


def test_memory_is_bounded_and_replays_of_old_ledgers_change_nothing() -> None:
    validators = Validators(NAMES[:2], kept=4)
    messages = [vote(KEYS[0], index) for index in range(1, 11)]
    for message in messages:
        validators.add(message)
        validators.add(message | {"ledger_hash": OTHER})
    for message in messages[:5]:  # replayed
        validators.add(message)
    assert [votes(validators, index)[0] for index in range(1, 11)] == list("aaaaaa" + "ssss")
    assert len(validators._signed[KEYS[0].public]) == len(validators._forged[KEYS[0].public]) == 4
    validators.add(vote(KEYS[1], 2**32 - 1))  # one that runs ahead harms itself alone
    assert votes(validators, 10) == "sa"


# Manifests


def rotation(sequence: int, signing: SigningKey | None, master: SigningKey = KEYS[0]) -> str:
    return make_manifest(master, signing, sequence)


def test_a_master_key_counts_by_its_newest_manifest() -> None:
    validators = Validators(NAMES[:1])
    first, second = key_from_seed(b"first"), key_from_seed(b"second", "ed25519")
    assert validators.add_manifest(rotation(2, first))
    assert not validators.add_manifest(rotation(2, second))
    assert not validators.add_manifest(rotation(1, second))
    assert validators.add(vote(second)) is None
    assert validators.add(vote(first, 7)) is not None
    message = {"type": "manifestReceived", "manifest": b64decode(rotation(3, second)).hex().upper()}
    assert validators.add_manifest(message)
    assert validators.add(vote(first, 8)) is None
    assert validators.add(vote(second, 8)) is not None
    assert (votes(validators, 7), votes(validators, 8)) == ("s", "s")


def test_a_revoked_key_is_never_trusted_again() -> None:
    validators = Validators(NAMES[:1])
    signing = key_from_seed(b"first")
    validators.add_manifest(rotation(1, signing))
    assert validators.add_manifest(rotation(REVOKED, None))
    assert not validators.add_manifest(rotation(2, signing))
    assert validators.add(vote(signing)) is None
    assert validators.add(vote(KEYS[0])) is None


def test_master_and_signing_key_both_trusted_have_one_vote() -> None:
    signing = key_from_seed(b"first")
    validators = Validators([NAMES[0], signing.node_public])
    validators.add(vote(signing, 6))
    validators.add_manifest(rotation(1, signing))
    validators.add(vote(signing, 7))
    assert (votes(validators, 6), votes(validators, 7)) == ("as", "sa")


def test_one_signing_key_cannot_serve_two_masters() -> None:
    signing = key_from_seed(b"first")
    validators = Validators(NAMES)
    assert validators.add_manifest(rotation(1, signing))
    assert not validators.add_manifest(rotation(1, signing, KEYS[1]))
    assert "another validator" in validators.unreadable_reason


def test_a_strangers_manifest_changes_nothing() -> None:
    validators = Validators(NAMES[1:])
    assert not validators.add_manifest(rotation(1, key_from_seed(b"first")))
    assert validators.unreadable == 0


@settings(max_examples=150)
@given(st.integers(0, 8 * len(b64decode(NODE["manifest"])) - 1))
def test_one_bit_anywhere_in_a_manifest_is_refused(bit: int) -> None:
    raw = bytearray(b64decode(NODE["manifest"]))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ValidationError):
        read_manifest(bytes(raw))
    validators = Validators([NODE["master_key"]])
    assert not validators.add_manifest(bytes(raw))


@pytest.mark.parametrize(
    "blob", ["", "zz", "====", "AAAA", b"", b"\xff", "24", {"seq": 1}, {"manifest": None}]
)
def test_what_is_no_manifest(blob: Any) -> None:
    validators = Validators(NAMES)
    assert not validators.add_manifest(blob)
    assert validators.unreadable == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: make_manifest(KEYS[0], None, 1),
        lambda: make_manifest(KEYS[0], KEYS[1], REVOKED),
    ],
)
def test_a_revocation_is_made_as_one(make: Callable[[], str]) -> None:
    with pytest.raises(ValueError, match="revocation"):
        make()


def test_a_master_key_may_not_sign_for_itself() -> None:
    with pytest.raises(ValidationError, match="signing key"):
        read_manifest(make_manifest(KEYS[0], KEYS[0], 1))
