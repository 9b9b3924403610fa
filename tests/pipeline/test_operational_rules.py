"""S3's operational rules: what is refused by form, and what holds after any sequence of events."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.catalog.tokens import TOKENS
from pipeline.domain.applications.event import AppEvent
from pipeline.domain.applications.fold import Judged
from pipeline.domain.flows.events import Refusal
from pipeline.domain.tokens.operational_terms import code, digest, person, reference, title
from tests.support.applications import TestFold, event, fold_of

DAY = 86_400_000
T0 = 1_800_000_000_000
HASH = "ab" * 32
BATCHES = ("b1", "b2")
ITEMS = ("flower", "oil")
RX = tuple(f"rx_{n:032x}" for n in range(3))
PATIENTS = tuple(f"mem_{n:032x}" for n in range(2))
RESERVATIONS = tuple(f"r{n}" for n in range(4))


def told(type: str, key: str, day: int = 0, id: str = "", **data: Any) -> AppEvent:
    return event(TOKENS, type, key, T0 + day * DAY, data, id=id)


def world() -> list[AppEvent]:
    """Two patients, three prescriptions, two batches of one plan; nothing in stock yet."""
    proof = {"document_hash": HASH, "salt_id": "0" * 32}
    events = [
        told("ASSOCIATION_CREATED", "a", title="A"),
        told("CULTIVATION_PLAN_CREATED", "p", association_id="a", item="flower", quantity="9", unit="g",
             starts_at=T0, ends_at=T0 + DAY),
        *(told("BATCH_CREATED", batch, plan_id="p") for batch in BATCHES),
    ]  # fmt: skip
    for n, patient in enumerate(PATIENTS):
        events.append(
            told("MEMBER_CREATED", patient, association_id="a", person=f"{n:032x}", **proof),
        )
        events.append(
            told("PATIENT_APPROVED", patient, association_id="a", valid_until=T0 + 8 * DAY, **proof)
        )
    for n, rx in enumerate(RX):
        item = ITEMS[n % 2]
        events.append(
            told("PRESCRIPTION_REGISTERED", rx, patient_id=PATIENTS[n % 2], item=item, unit="g", quantity="6",
                 dispensation_max="4" if n else None, valid_from=T0 + DAY, valid_until=T0 + (5 + 5 * n) * DAY, **proof)
        )  # fmt: skip
    return events


def one_of(names: tuple[str, ...]) -> st.SearchStrategy[str]:
    return st.sampled_from(names)


AMOUNTS = st.sampled_from(["0.000001", "1", "1.5", "2.25", "3", "4", "5.999999", "20"])
DAYS = st.sampled_from([0, 1, 1, 2, 2, 3, 4, 5, 8, 10])
TAKEN = st.tuples(
    st.just("DISPENSATION_RECORDED"), one_of(RX), one_of(BATCHES), one_of(ITEMS), AMOUNTS,
    st.none() | one_of(RESERVATIONS),
)  # fmt: skip
COMMANDS = st.one_of(
    TAKEN,
    TAKEN.map(lambda said: (*said[:2], "b1", ITEMS[RX.index(said[1]) % 2], *said[4:])),  # of what fits
    st.tuples(st.just("INVENTORY_RECEIVED"), one_of(BATCHES), one_of(ITEMS), AMOUNTS),
    st.tuples(st.just("QUALITY_CHECK_PASSED"), one_of(BATCHES)),
    st.tuples(st.just("QUALITY_CHECK_FAILED"), one_of(BATCHES)),
    st.tuples(
        st.just("INVENTORY_RESERVED"), one_of(RESERVATIONS), one_of(BATCHES), one_of(ITEMS), AMOUNTS,
        st.none() | one_of(RX),
    ),
    st.tuples(st.just("INVENTORY_RELEASED"), one_of(RESERVATIONS), st.none() | AMOUNTS),
)  # fmt: skip


def command(n: int, day: int, said: tuple[Any, ...]) -> AppEvent:
    """The n-th event of a sequence."""
    type, key, *rest = said
    if type == "INVENTORY_RECEIVED":
        data = {"item": rest[0], "quantity": rest[1], "unit": "g"}
    elif type == "INVENTORY_RESERVED":
        data = {"batch_id": rest[0], "item": rest[1], "quantity": rest[2], "prescription_id": rest[3]}
    elif type == "INVENTORY_RELEASED":
        data = {"quantity": rest[0]}
    elif type == "DISPENSATION_RECORDED":
        data = {"prescription_id": key, "batch_id": rest[0], "item": rest[1], "quantity": rest[2]}
        data["reservation_id"], key = rest[3], f"{n:032x}"
    else:
        data = {"check_id": f"c{n}"} | ({"reason_code": "mould"} if type == "QUALITY_CHECK_FAILED" else {})
    return told(type, key, day, f"{n:032x}", **data)


class Model:
    """What was received and dispensed, and which batches passed, told by the applied events alone."""

    def __init__(self) -> None:
        self.on_hand: defaultdict[str, Decimal] = defaultdict(Decimal)
        self.dispensed: defaultdict[str, Decimal] = defaultdict(Decimal)
        self.quality: dict[str, str] = {}

    def take(self, judged: Judged) -> None:
        said, data = judged.event, judged.event.data
        if said.type == "INVENTORY_RECEIVED":
            assert self.quality.get(said.key) != "failed"
            self.on_hand[f"{said.key}/{data['item']}"] += Decimal(data["quantity"])
        elif said.type.startswith("QUALITY_CHECK_"):
            assert self.quality.get(said.key) != "failed", "blocked for ever"
            self.quality[said.key] = said.type.removeprefix("QUALITY_CHECK_").lower()
        elif said.type == "INVENTORY_RESERVED":
            assert self.quality.get(data["batch_id"]) != "failed"
        elif said.type == "DISPENSATION_RECORDED":
            self._dispense(said)

    def _dispense(self, said: AppEvent) -> None:
        data, amount = said.data, Decimal(said.data["quantity"])
        n = RX.index(data["prescription_id"])
        assert self.quality[data["batch_id"]] == "passed"
        assert T0 + DAY <= said.at_ms < T0 + min(5 + 5 * n, 8) * DAY, (
            "the prescription, and the approval, are valid"
        )
        assert data["item"] == ITEMS[n % 2]
        assert n == 0 or amount <= 4
        self.on_hand[f"{data['batch_id']}/{data['item']}"] -= amount
        self.dispensed[data["prescription_id"]] += amount


def holds(fold: TestFold, model: Model) -> None:
    """What must hold after every event."""
    open_: defaultdict[str, Decimal] = defaultdict(Decimal)
    for reservation in fold.states("reservation").values():
        assert (reservation["status"] == "open") == (Decimal(reservation["quantity"]) > 0)
        open_[f"{reservation['batch_id']}/{reservation['item']}"] += Decimal(reservation["quantity"])
    for id, stock in fold.states("inventory").items():
        on_hand, reserved = Decimal(stock["on_hand"]), Decimal(stock["reserved"])
        assert 0 <= reserved <= on_hand, id
        assert reserved == open_[id]
        assert on_hand == model.on_hand[id]
    for id, prescription in fold.states("prescription").items():
        assert Decimal(prescription["dispensed"]) == model.dispensed[id] <= Decimal(prescription["quantity"])


@settings(max_examples=150)
@given(st.lists(st.tuples(DAYS, COMMANDS), min_size=10, max_size=40))
def test_stock_is_never_negative_and_no_more_is_dispensed_than_prescribed(said: list[Any]) -> None:
    fold, model = fold_of(TOKENS), Model()
    assert not [judged for judged in fold.apply(world()) if judged.refused]
    stocked = [(0, ("INVENTORY_RECEIVED", batch, item, "9")) for batch in BATCHES for item in ITEMS]
    stocked.append((0, ("QUALITY_CHECK_PASSED", "b1")))
    for n, (day, one) in enumerate([*stocked, *said]):
        before = dict(fold.held)
        judged = fold.one(command(n, day, one))
        if judged.refused is None:
            model.take(judged)
        else:
            assert fold.held == before, "a refusal changes nothing"
        holds(fold, model)


def test_the_property_reaches_all_of_it() -> None:
    """The sequences are no good if everything in them is refused: one that dispenses, by both ways."""
    fold = fold_of(TOKENS)
    steps: list[tuple[int, tuple[Any, ...]]] = [
        (1, ("INVENTORY_RECEIVED", "b1", "flower", "20")),
        (1, ("QUALITY_CHECK_PASSED", "b1")),
        (1, ("INVENTORY_RESERVED", "r0", "b1", "flower", "4", RX[0])),
        (2, ("DISPENSATION_RECORDED", RX[0], "b1", "flower", "3", "r0")),
        (2, ("DISPENSATION_RECORDED", RX[2], "b1", "flower", "4", None)),
        (2, ("INVENTORY_RELEASED", "r0", None)),
    ]
    events = [command(n, day, one) for n, (day, one) in enumerate(steps)]
    assert [str(judged.refused) for judged in fold.apply([*world(), *events]) if judged.refused] == []
    stock = fold.state("inventory", "b1/flower")
    assert stock is not None and (stock["on_hand"], stock["reserved"]) == ("13", "0")


PERSONAL = [
    "Maria da Silva", "maria.silva", "maria@example.org", "123.456.789-09", "12345678909", "898001160660761",
    "+55 11 91234-5678", "1984-05-17", "4111111111111111", "", " ", "0" * 31, "G" * 32, "0" * 32 + "\n",
]  # fmt: skip


@pytest.mark.parametrize("text", PERSONAL)
def test_what_says_something_of_a_person_is_no_reference_and_no_hash(text: str) -> None:
    for judge in (person, reference, digest):
        with pytest.raises(Refusal) as refused:
            judge(text, "data.person")
        assert refused.value.field == "data.person"
        assert len(text) < 3 or text not in str(refused.value), "what was said is not said again"


@settings(max_examples=300)
@given(st.text(max_size=80))
def test_no_text_passes_as_a_reference_or_hash(text: str) -> None:
    for judge in (person, reference, digest):
        with pytest.raises(Refusal):
            judge(text, "data.person")


def test_references_hashes_codes_and_titles_pass() -> None:
    for text in ("0123456789abcdef" * 2, "prs_" + "0a" * 16, "8c7b1f6e-2f0a-4f7e-9d58-2f6d1f0f9a11"):
        reference(text, "f")
    person("0123456789abcdef" * 2, "f")
    digest(sha256(b"salt and document").hexdigest(), "f")
    for text in ("flower.a", "oil-10", "A", "batch:2026_03"):
        code(text, "f")
    for text in ("General circle", "Café & Ervas (São Paulo)", "Circle 2026"):
        title(text, "f")


@pytest.mark.parametrize(
    "text", ["Maria <maria@example.org>", "CPF 123.456.789-09", "x" * 81, "", "tel 91234 5678"]
)
def test_titles_hold_no_addresses_and_no_numbers_of_persons(text: str) -> None:
    with pytest.raises(Refusal, match="f: must be a name"):
        title(text, "f")


@pytest.mark.parametrize(
    ("type", "field", "value", "reason"),
    [
        ("MEMBER_CREATED", "person", "Maria", "not_a_reference"),
        ("MEMBER_CREATED", "document_hash", "statement of membership", "not_a_hash"),
        ("MEMBER_CREATED", "salt_id", "pepper", "not_a_reference"),
        ("PATIENT_APPROVED", "document_hash", "epilepsy", "not_a_hash"),
        ("PRESCRIPTION_REGISTERED", "patient_id", "Maria", "not_a_reference"),
        ("PRESCRIPTION_REGISTERED", "quantity", "1e3", "bad_amount"),
        ("PRESCRIPTION_REGISTERED", "quantity", "0", "amount_not_positive"),
        ("PRESCRIPTION_REGISTERED", "dispensation_max", "0.0000001", "bad_amount"),
        ("PRESCRIPTION_REGISTERED", "valid_until", T0, "bad_time"),
        ("PRESCRIPTION_REGISTERED", "item", "for her epilepsy", "bad_code"),
    ],
)
def test_a_field_that_is_wrong_is_named(type: str, field: str, value: Any, reason: str) -> None:
    good = next(one for one in world() if one.type == type)
    with refused() as caught:
        TOKENS.types[type].check(told(type, good.key, **{**good.data, field: value}))
    assert (caught["reason"], caught["field"]) == (reason, f"data.{field}")


@contextmanager
def refused() -> Iterator[dict[str, str]]:
    caught: dict[str, str] = {}
    with pytest.raises(Refusal) as info:
        yield caught
    caught |= {"reason": info.value.reason, "field": info.value.field}


def test_an_approval_is_renewed_only_at_its_end() -> None:
    fold = fold_of(TOKENS)
    fold.apply(world())
    again = {"association_id": "a", "document_hash": HASH, "salt_id": "1" * 32}
    early = fold.one(told("PATIENT_APPROVED", PATIENTS[0], 7, **again))
    assert early.refused is not None and early.refused.reason == "illegal_transition"
    assert fold.one(told("PATIENT_APPROVED", PATIENTS[0], 8, **again)).refused is None


def test_what_is_of_another_association_is_refused() -> None:
    fold = fold_of(TOKENS)
    fold.apply(world())
    more = [
        told("ASSOCIATION_CREATED", "z", title="Z"),
        told("CULTIVATION_PLAN_CREATED", "q", association_id="z", item="flower", quantity="9", unit="g",
             starts_at=T0, ends_at=T0 + DAY),
        told("BATCH_CREATED", "bz", plan_id="q"),
        told("INVENTORY_RECEIVED", "bz", item="flower", quantity="9", unit="g"),
        told("QUALITY_CHECK_PASSED", "bz", check_id="c"),
    ]  # fmt: skip
    assert not [judged for judged in fold.apply(more) if judged.refused]
    given = fold.one(
        told(
            "DISPENSATION_RECORDED",
            "d" * 32,
            2,
            prescription_id=RX[0],
            batch_id="bz",
            item="flower",
            quantity="1",
        )
    )
    assert given.refused is not None and given.refused.reason == "other_association"
