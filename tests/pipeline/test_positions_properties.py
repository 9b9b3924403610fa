"""Any sequence of commands on positions, against a model of them in a few lines: Hypothesis, on real embedded books.

The model knows S1's table, two kinds of money and who holds how much of it. It says of every command whether it is
taken; after every batch each escrow account must hold exactly its position's remainder, all money must be where the
model has it, and nothing may be lost, made or below zero.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from itertools import pairwise
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.catalog.positions import POSITIONS
from pipeline.domain.account import AccountCode, AccountRef
from pipeline.domain.applications.event import AppEvent
from pipeline.domain.flows.events import EventName, FlowEvent, Kind, Party
from sinks.offchain import OffchainBooks
from tests.support.applications import TestFold, event
from tests.support.examples import examples

T0 = 1_800_000_000_000
END = 30  # steps until a position with an end expires
S1 = {
    ("CREATED", "FUNDED"),
    ("FUNDED", "PARTIALLY_RELEASED"),
    ("PARTIALLY_RELEASED", "PARTIALLY_RELEASED"),
    ("PARTIALLY_RELEASED", "RELEASED"),
    ("FUNDED", "CANCELLED"),
    ("CREATED", "EXPIRED"),
}
LIKELY = (
    ["FUNDED", "FUNDED", "FUNDED", "EXPIRED"]
    + ["PARTIALLY_RELEASED"] * 3
    + ["RELEASED", "RELEASED", "CANCELLED"]
)
STATES = ["CREATED", "FUNDED", "PARTIALLY_RELEASED", "RELEASED", "CANCELLED", "EXPIRED"]
PEOPLE = ["ann", "bob", "cyd"]  # cyd has no account until somebody pays him
MONEY = {"USD": 12, "SOVR": 5}  # what ann and bob begin with, in smallest units
PLAIN = {
    "POSITION_CREATED": event(
        POSITIONS, "POSITION_CREATED", "p", T0,
        {"institution_id": "", "asset_id": "", "holder_reference": "", "currency": "", "amount": ""},
    ),
    "POSITION_STATE_CHANGED": event(
        POSITIONS, "POSITION_STATE_CHANGED", "p", T0, {"previous_state": "", "new_state": "", "reason": ""}
    ),
}  # fmt: skip
"""Events with the schema's defaults."""


@dataclass
class Held:
    """A position as the model sees it."""

    currency: str
    amount: int
    holder: str
    end: int | None
    at: int
    state: str = "CREATED"
    remainder: int = 0
    funder: str = ""
    steps: list[str] = field(default_factory=lambda: ["CREATED"])


@dataclass
class Model:
    """What must be true, said once more and more simply."""

    cash: dict[tuple[str, str], int]  # (currency, person); who is missing has no account
    positions: dict[str, Held] = field(default_factory=dict)

    def create(self, id: str, held: Held, now: int) -> bool:
        if id in self.positions or held.amount <= 0 or (held.end is not None and held.end <= now):
            return False
        self.positions[id] = held
        self.cash.setdefault((held.currency, held.holder), 0)
        return True

    def step(self, id: str, before: str, after: str, now: int, who: str, amount: int | None, by: str) -> bool:
        held = self.positions.get(id)
        if held is None or held.state != before or (before, after) not in S1 or now < held.at:
            return False
        if after == "EXPIRED":
            taken = by in ("", held.holder) and (held.end is None or now >= held.end)
        elif after == "FUNDED":
            taken = by in ("", who) and self._fund(held, who, now)
        elif after == "CANCELLED":
            taken = by in ("", held.holder)
            if taken:
                self._pay(held, held.funder, held.remainder)
        else:
            taken = by in ("", held.funder) and self._release(held, after, who or held.holder, amount)
        if taken:
            held.state, held.at = after, now
            held.steps.append(after)
        return taken

    def _fund(self, held: Held, who: str, now: int) -> bool:
        if self.cash.get((held.currency, who), -1) < held.amount or (
            held.end is not None and now >= held.end
        ):
            return False
        self.cash[held.currency, who] -= held.amount
        held.remainder, held.funder = held.amount, who
        return True

    def _release(self, held: Held, after: str, who: str, amount: int | None) -> bool:
        if after == "RELEASED":
            if amount not in (None, held.remainder):
                return False
            amount = held.remainder
        elif amount is None or not 0 < amount < held.remainder:
            return False
        self._pay(held, who, amount)
        return True

    def _pay(self, held: Held, who: str, amount: int) -> None:
        self.cash[held.currency, who] = self.cash.get((held.currency, who), 0) + amount
        held.remainder -= amount


def _amount(currency: str, units: int) -> str:
    return f"{units // 100}.{units % 100:02d}" if currency == "USD" else str(units)


def _registry() -> list[AppEvent]:
    told = [event(POSITIONS, "INSTITUTION_REGISTERED", "inst", T0, {"name": "i", "region": "EU"})]
    for name, onchain in (("off", False), ("on", True)):
        data = {"institution_id": "inst", "name": name, "onchain_enabled": onchain}
        told.append(event(POSITIONS, "ASSET_TEMPLATE_REGISTERED", f"t-{name}", T0, data))
        data = {"institution_id": "inst", "template_id": f"t-{name}", "region": "EU"}
        told.append(event(POSITIONS, "POSITION_ASSET_REGISTERED", f"a-{name}", T0, data))
    return told


REGISTRY = _registry()


def _funded(books: OffchainBooks) -> dict[tuple[str, str], int]:
    """Ann and Bob have money, as S4's deposits would have given it to them."""
    cash = {(currency, name): units for currency, units in MONEY.items() for name in PEOPLE[:2]}
    code = int(AccountCode.USER)
    books.store.create_accounts([AccountRef(f"offchain/{currency}", code, owner) for currency, owner in cash])
    flows = [
        FlowEvent(kind=Kind.DEPOSIT, name=EventName("test", currency, owner), time_ms=T0, asset=currency,
                  amount=units, creditor=Party(owner))
        for (currency, owner), units in cash.items()
    ]  # fmt: skip
    assert all(outcome.accepted for outcome in books.apply(flows))
    return cash


def _every(**choices: list[Any]) -> list[dict[str, Any]]:
    """A seeded part of all commands that these choices make: one draw a command keeps Hypothesis quick."""
    random = Random(7)
    return [{name: random.choice(of) for name, of in choices.items()} for _ in range(4000)]


CREATES = _every(
    do=["create"], position=[0, 1], currency=["USD", "USD", "SOVR"], amount=[0, 1, 2, 3, 4, 5, 5, 5, 6, 6, 7],
    holder=PEOPLE, onchain=[True, False], end=[None, None, None, None, 3, END],
)  # fmt: skip
STEPS = _every(
    do=["step"], position=[0, 0, 0, 0, 0, 1], before=[None] * 60 + STATES,  # None: the state that is held
    after=[*range(60), *STATES],  # a number: one of the steps that the table has from there
    who=["ann", "ann", "ann", "bob", "bob", "cyd"], amount=[None, 1, 1, 1, 2, 3, 7],
    by=[""] * 12 + PEOPLE, late=[0] * 20 + [END],
)  # fmt: skip
COMMANDS = st.tuples(
    st.sampled_from(CREATES),
    st.lists(st.one_of(*[st.sampled_from(STEPS)] * 5, st.sampled_from(CREATES)), min_size=6, max_size=14),
)
SEEN: Counter[str] = Counter()  # states that positions were taken to, over all examples


def _event(type: str, id: str, now: int, data: dict[str, Any], key: str, by: str = "") -> AppEvent:
    plain = PLAIN[type]
    return replace(plain, id=key, key=id, at_ms=now, recorded_ms=now, data={**plain.data, **data}, user_id=by)


def _told(model: Model, command: dict[str, Any], place: int) -> tuple[AppEvent, bool]:
    """(the command's event, whether the model takes it)."""
    id, now = f"p{command['position']}", T0 + place + command.get("late", 0)
    key = f"e{place}"
    if command["do"] == "create":
        holder, end = command["holder"], None if command["end"] is None else T0 + command["end"]
        held = Held(command["currency"], command["amount"], holder, end, now)
        data = {
            "institution_id": "inst", "asset_id": f"a-{'on' if command['onchain'] else 'off'}",
            "holder_reference": holder, "currency": held.currency,
            "amount": _amount(held.currency, held.amount), "expires_at": end,
        }  # fmt: skip
        return _event("POSITION_CREATED", id, now, data, key), model.create(id, held, now)
    known = model.positions.get(id)
    before = command["before"] or (known.state if known else "CREATED")
    legal = [to for to in LIKELY if (before, to) in S1] or STATES
    after, who, by = command["after"], command["who"], command["by"]
    currency = known.currency if known else "USD"
    if isinstance(after, int):
        after = legal[after % len(legal)]
    releases = after in ("PARTIALLY_RELEASED", "RELEASED")
    amount = command["amount"] if releases and (after, command["amount"]) != ("RELEASED", 1) else None
    data = {
        "previous_state": before, "new_state": after, "reason": "r", "funder": who if after == "FUNDED" else None,
        "recipient": who if releases else None,
        "amount_released": None if amount is None else _amount(currency, amount),
    }  # fmt: skip
    told = _event("POSITION_STATE_CHANGED", id, now, data, key, by)
    return told, model.step(id, before, after, now, who, amount, by)


def _balance(fold: TestFold, currency: str, code: AccountCode, owner: str, subject: str = "") -> int:
    return fold.balance(f"offchain/{currency}", code, owner, subject)


def _compare(fold: TestFold, model: Model) -> None:
    for id, held in model.positions.items():
        value = fold.state("position", id)
        assert value is not None
        escrow = _balance(fold, held.currency, AccountCode.ESCROW, held.holder, id)
        whole, _, cents = value["remainder"].partition(".")
        units = int(whole + (cents.ljust(2, "0") if held.currency == "USD" else ""))
        assert (value["state"], units, escrow) == (held.state, held.remainder, held.remainder)
        assert all(pair in S1 for pair in pairwise(held.steps))
        queued = [one for one in fold.states("attestation").values() if one["position_id"] == id]
        onchain = value["asset_id"].endswith("on")
        assert len(queued) == len(set(value["attestations"])) == (len(held.steps) if onchain else 0)
        assert ("due" in value) == (held.state == "CREATED" and held.end is not None)
    for currency in MONEY:
        escrows = sum(held.remainder for held in model.positions.values() if held.currency == currency)
        in_hand = {name: _balance(fold, currency, AccountCode.USER, name) for name in PEOPLE}
        assert in_hand == {name: model.cash.get((currency, name), 0) for name in PEOPLE}
        assert min(in_hand.values()) >= 0
        assert sum(in_hand.values()) + escrows == 2 * MONEY[currency]


@settings(max_examples=examples(800, 400))
@given(COMMANDS, st.sampled_from([1, 2, 5, 99]))
def _follow(drawn: tuple[dict[str, Any], list[dict[str, Any]]], batch: int) -> None:
    commands = [drawn[0], *drawn[1]]
    fold = TestFold(POSITIONS)
    try:
        model = Model(_funded(fold.books))
        assert all(judged.refused is None for judged in fold.apply(REGISTRY))
        for first in range(0, len(commands), batch):
            part = enumerate(commands[first : first + batch], first + 1)
            told = [_told(model, command, place) for place, command in part]
            judged = fold.apply([one for one, _ in told])
            assert [one.refused is None for one in judged] == [taken for _, taken in told], [
                (one.event.type, one.event.data, one.refused) for one in judged
            ]
            _compare(fold, model)
        SEEN.update(step for held in model.positions.values() for step in held.steps)
    finally:
        fold.close()


def test_positions_are_where_a_simple_model_has_them() -> None:
    _follow()
    assert min(SEEN[state] for state in STATES) > examples(30, 5), SEEN  # the commands lead everywhere
