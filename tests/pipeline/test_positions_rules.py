"""Positions and anchors, rule by rule: exact money, signatures, what a step may say, and no body that ends a rule."""

from __future__ import annotations

import random
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pipeline.catalog.anchors import ANCHORS
from pipeline.catalog.positions import POSITIONS
from pipeline.catalog.tokens import TOKENS
from pipeline.domain.anchors.signature import check_public_key, check_signature, message
from pipeline.domain.applications.event import AppEvent, AppTopic, Decision
from pipeline.domain.applications.fold import Overlay, judge
from pipeline.domain.flows.events import AMOUNT_MAX, Refusal
from pipeline.domain.positions import money
from pipeline.domain.positions.attestation import digest, iso
from pipeline.domain.positions.lifecycle import STATES, TRANSITIONS
from schemas.loader import by_topic
from tests.schemas.avro_samples import random_value
from tests.support.applications import event, event_of, fold_of

GOLDEN = Path(__file__).parents[1] / "golden"
T0 = 1_800_000_000_000
NOTHING = Overlay(lambda kind, id: None)  # no states at all


@pytest.mark.parametrize(
    ("said", "currency", "units", "plain"),
    [
        ("100000.00", "USD", 10_000_000, "100000"),
        ("0.01", "EUR", 1, "0.01"),
        ("12.5", "GBP", 1250, "12.5"),
        ("007", "SOVR", 7, "7"),
        ("0.00000001", "BTC", 1, "0.00000001"),
        ("1.000000000000000001", "ETH", 10**18 + 1, "1.000000000000000001"),
        (str(AMOUNT_MAX - 1), "sFIAT", AMOUNT_MAX - 1, str(AMOUNT_MAX - 1)),
    ],
)
def test_amounts_are_exact(said: str, currency: str, units: int, plain: str) -> None:
    assert money.parse(said, currency, "data.amount") == units
    assert money.text(units, currency) == plain
    assert money.held(plain, currency) == units


@pytest.mark.parametrize(
    ("said", "currency", "reason", "field"),
    [
        ("0.001", "USD", "too_many_decimals", "data.amount"),
        ("1.0", "SOVR", "too_many_decimals", "data.amount"),
        ("-1", "USD", "amount_not_positive", "data.amount"),
        ("0.00", "USD", "amount_not_positive", "data.amount"),
        (str(AMOUNT_MAX), "SOVR", "amount_over_u128", "data.amount"),
        ("1e3", "USD", "bad_amount", "data.amount"),
        ("1.", "USD", "bad_amount", "data.amount"),
        ("", "USD", "bad_amount", "data.amount"),
        (" 1", "USD", "bad_amount", "data.amount"),
        ("١", "USD", "bad_amount", "data.amount"),
        ("NaN", "USD", "bad_amount", "data.amount"),
        ("9" * 100_000, "USD", "bad_amount", "data.amount"),
        ("1", "XRP", "unknown_currency", "data.currency"),
    ],
)
def test_no_amount(said: str, currency: str, reason: str, field: str) -> None:
    with pytest.raises(Refusal) as caught:
        money.parse(said, currency, "data.amount")
    assert (caught.value.reason, caught.value.field) == (reason, field)


def test_times_are_written_as_s1_writes_them() -> None:
    assert iso(1705314645123) == "2024-01-15T10:30:45.123Z"


def test_digest_is_what_an_outsider_computes() -> None:
    """S1's example; two equal steps have two digests, for their events are two."""
    payload = (
        '{"fromState":"FUNDED","toState":"PARTIALLY_RELEASED","reason":"r","at":"2024-01-15T10:30:45.123Z"}'
    )
    said = {
        "eventId": "led_1",
        "positionId": "pos_1",
        "kind": "POSITION_STATE_CHANGED",
        "payloadJson": payload,
    }
    assert digest(*said.values()) == sha256(orjson.dumps(said)).hexdigest()
    assert digest("led_2", *list(said.values())[1:]) != digest(*said.values())


def test_s1s_table_and_nothing_else() -> None:
    """Every pair of states: a step of the table, or an illegal transition that names the field."""
    table = {
        ("CREATED", "FUNDED"), ("FUNDED", "PARTIALLY_RELEASED"), ("PARTIALLY_RELEASED", "RELEASED"),
        ("FUNDED", "CANCELLED"), ("CREATED", "EXPIRED"), ("PARTIALLY_RELEASED", "PARTIALLY_RELEASED"),
    }  # fmt: skip
    assert set(TRANSITIONS) == table
    for before in STATES:
        for after in STATES:
            data = {"previous_state": before, "new_state": after, "reason": "r"}
            told = event(POSITIONS, "POSITION_STATE_CHANGED", "p", T0, data)
            with pytest.raises(Refusal) as caught:
                judge(POSITIONS.types, told, NOTHING)
            legal = (before, after) in table
            assert (caught.value.reason == "illegal_transition") == (not legal)
            assert legal or caught.value.field == "data.new_state"


@pytest.mark.parametrize(
    ("after", "said", "reason", "field"),
    [
        ("FUNDED", {}, "missing", "data.funder"),
        ("FUNDED", {"funder": " "}, "missing", "data.funder"),
        ("FUNDED", {"funder": "a", "recipient": "b"}, "not_wanted", "data.recipient"),
        ("FUNDED", {"funder": "x" * 300}, "too_long", "data.funder"),
        ("EXPIRED", {"amount_released": "1"}, "not_wanted", "data.amount_released"),
        ("PARTIAL", {}, "unknown_state", "data.new_state"),
    ],
)
def test_a_step_says_what_it_needs_and_no_more(
    after: str, said: dict[str, str], reason: str, field: str
) -> None:
    data = {"previous_state": "CREATED", "new_state": after, "reason": "r", **said}
    with pytest.raises(Refusal) as caught:
        judge(POSITIONS.types, event(POSITIONS, "POSITION_STATE_CHANGED", "p", T0, data), NOTHING)
    assert (caught.value.reason, caught.value.field) == (reason, field)


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (POSITIONS, "POSITION_STATE_CHANGED.expired"), (ANCHORS, "AUTHORIZATION_EXPIRED"),
        (ANCHORS, "ESCROW_LAPSED"), (TOKENS, "PAYMENT_DUE"),
    ],
    ids=lambda one: getattr(one, "domain", one),
)  # fmt: skip
def test_a_time_ahead_brings_no_end_on_early(row: AppTopic, name: str) -> None:
    golden = orjson.loads((GOLDEN / row.domain / f"{name}.json").read_bytes())
    fold = fold_of(row)
    assert not [
        one
        for one in fold.apply(event_of(row, told, f"e{n}") for n, told in enumerate(golden["before"]))
        if one.refused
    ]
    (due,) = {value["due"]["at_ms"] for key in fold.held if (value := fold.state(*key)) and "due" in value}
    ahead = replace(event_of(row, golden["event"], "early"), at_ms=due + 240_000, recorded_ms=due - 1)
    refused = fold.one(ahead).refused
    assert refused is not None and (refused.field, refused.reason) in (
        ("at", "not_expired"),
        ("at", "too_early"),
    )
    assert fold.one(replace(ahead, id="then", recorded_ms=due)).refused is None
    fold.close()


def test_who_has_money_in_a_position_is_not_closed() -> None:
    """The two topics know nothing of each other; the books do. What is cancelled can be paid back at any time."""
    golden = orjson.loads((GOLDEN / "positions" / "POSITION_STATE_CHANGED.cancelled.json").read_bytes())
    (funded,) = (one for one in golden["before"] if one["data"].get("new_state") == "FUNDED")
    funder, at = funded["data"]["funder"], funded["at"]
    positions, anchors = fold_of(POSITIONS), fold_of(ANCHORS)
    positions._books = anchors.books
    who = {"owner": funder, "account_type": "USER", "asset": "USD"}
    amount = golden["before"][3]["data"]["amount"]
    close = event(ANCHORS, "ACCOUNT_CLOSED", funder, at, {**who, "reason": "left"})
    for type, data in (("ACCOUNT_OPENED", who), ("DEPOSITED", {**who, "amount": amount})):
        assert anchors.one(event(ANCHORS, type, funder, at, data)).refused is None
    told = [event_of(POSITIONS, one, f"e{n}") for n, one in enumerate(golden["before"])]
    assert not [one for one in positions.apply(told) if one.refused]
    refused = anchors.one(close).refused
    assert refused is not None and refused.reason == "not_empty" and "1 open" in refused.detail
    assert (anchors.state("account", f"USER/USD/{funder}") or {})["status"] == "active"
    assert positions.one(event_of(POSITIONS, golden["event"], "cancel")).refused is None
    withdrawn = event(ANCHORS, "WITHDRAWN", funder, at, {**who, "amount": amount})
    assert anchors.one(withdrawn).refused is None
    assert anchors.one(replace(close, id="again")).refused is None
    anchors.close()


def test_an_attestors_signature_covers_all_that_it_says() -> None:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public = key.public_key().public_bytes_raw().hex()
    said = ("a-1", "GROCERY", "100", "receipt", T0)
    proof = sha256(b"receipt").hexdigest()
    text = f'tidebook/fulfilment/1\n{{"amount":"100","anchor":"GROCERY","attested_at":{T0},'
    assert message(*said) == (text + f'"authorization_id":"a-1","proof_sha256":"{proof}"}}').encode()
    signature = key.sign(message(*said)).hex()
    check_signature(public, signature, message(*said), "f")
    others = [
        ("a-2",),
        ("a-1", "FUEL"),
        ("a-1", "GROCERY", "101"),
        ("a-1", "GROCERY", "100", "r"),
        (*said[:4], T0 + 1),
    ]
    for other in others:
        with pytest.raises(Refusal, match="has not signed"):
            check_signature(public, signature, message(*other, *said[len(other) :]), "f")
    flipped = f"{int(signature[0], 16) ^ 1:x}{signature[1:]}"
    for wrong in (flipped, "", signature[:-1], signature + "00", "zz" * 64, "٠" * 128):
        with pytest.raises(Refusal) as caught:
            check_signature(public, wrong, message(*said), "data.signature")
        assert (caught.value.reason, caught.value.field) == ("bad_signature", "data.signature")
    for no_key in ("", "00", "zz" * 32, public + "00"):
        with pytest.raises(Refusal, match="hex digits"):
            check_public_key(no_key, "data.public_key")


class AnyState:
    """States that hold what rules look for, so that hostile data gets as far as it can."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def get(self, kind: str, id: str) -> dict[str, object] | None:
        if self._chance.random() < 0.2:
            return None
        position = {
            "template_id": "t", "holder_reference": "h", "currency": "USD", "amount": "5", "remainder": "4.01",
            "state": self._chance.choice(STATES), "funder": "f", "attestations": [], "expires_ms": None,
        }  # fmt: skip
        by_kind: dict[str, dict[str, object]] = {
            "institution": {}, "account": {"status": "active", "open": 1}, "merchant": {"anchors": ["FUEL"]},
            "asset": {"institution_id": "i", "template_id": "t", "region": "EU"},
            "template": {"institution_id": "i", "onchain_enabled": True, "regions": [], "currencies": []},
            "position": position,
            "attestation": {"status": "queued", "position_id": "p", "chain": "c", "tx_hash": "t", "block": 1},
            "attestor": {"public_key": "00" * 32, "anchors": ["FUEL"], "revoked_ms": None},
            "authorization": {
                "user": "u", "anchor": "FUEL", "amount": "3", "state": self._chance.choice(["AUTHORIZED", "CLAIMED"]),
                "merchant": None, "expires_ms": T0, "due": {},
            },
            "escrow": {
                "owner": "o", "asset": "USD", "amount": "3", "state": "LOCKED", "beneficiary": None, "expires_ms": T0,
            },
            "payment": {
                "payer": "a", "payee": "b", "payee_type": "USER", "asset": "USD", "refundable": "2", "amount": "2",
            },
            "settlement": {"merchant": "m", "asset": "USD", "amount": "2", "state": "SETTLED"},
        }  # fmt: skip
        return {"created_ms": T0 - 1, "updated_ms": T0 - 1, **by_kind[kind]}


WORDS = ["", " ", "USD", "SOVR", "USER", "MERCHANT", "FUEL", "1", "0.5", "-1", "1e9", "\x00", "é" * 400, "i", "h", "b",
         "CREATED", "FUNDED", "PARTIALLY_RELEASED", "RELEASED", "f" * 64, "9" * 50]  # fmt: skip


@pytest.mark.parametrize("row", [POSITIONS, ANCHORS], ids=lambda row: row.domain)
def test_no_body_ends_a_rule(row: AppTopic) -> None:
    """Random and hostile data of every type: a decision, or a refusal that names a field that there is."""
    chance = random.Random(5)
    form = by_topic()[row.topic].resolution
    taken = set()
    for type, known in row.types.items():
        for _ in range(400):
            data = random_value(form, chance)[known.payload]
            if data is None:
                continue
            for name, value in data.items():
                if isinstance(value, str) and chance.random() < 0.97:
                    data[name] = chance.choice(WORDS)
            at = chance.choice([T0 - 1, T0, T0, -1, 0, 2**63 - 1])
            told = AppEvent(
                row.topic, "e1", type, chance.choice(["p", "", "q"]), at, data, chance.choice(["", "h"]),
                source=chance.choice(["api", "chain:xrpl:0"]), recorded_ms=at,
            )  # fmt: skip
            try:
                assert isinstance(judge(row.types, told, AnyState(chance)), Decision)
                taken.add(type)
            except Refusal as refusal:
                field = refusal.field.removeprefix("data.")
                assert field in data or refusal.field in (row.key, "at", "user_id", "type"), (
                    type,
                    refusal.field,
                )
                assert len(refusal.detail) < 1200
    assert len(taken) > len(row.types) / 3
