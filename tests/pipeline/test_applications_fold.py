"""The fold of applications' events: the outcome of one after the other, however they are batched.

A little world of its own: accounts that pay each other, and notes that name accounts.
"""

from __future__ import annotations

import random
from typing import Any

import pytest

from pipeline.domain.account import AccountCode, AccountRef, TransferCode
from pipeline.domain.applications.event import (
    AppEvent,
    AppTopic,
    AppType,
    Change,
    Decision,
    Refusal,
    View,
    one,
    table,
)
from pipeline.domain.applications.fold import Fold
from pipeline.domain.flows.events import FlowEvent, Kind, Leg
from sinks.embedded_books import connect
from sinks.offchain import OffchainBooks

ASSET = "offchain/token:TOY"
TREASURY = AccountRef(ASSET, int(AccountCode.TREASURY), "")


def user(name: str) -> AccountRef:
    return AccountRef(ASSET, int(AccountCode.USER), name)


def post(event: AppEvent, debit: AccountRef, credit: AccountRef, amount: int) -> FlowEvent:
    leg = Leg(debit, credit, amount, int(TransferCode.PAYMENT))
    return FlowEvent(kind=Kind.POST, name=event.name, time_ms=event.at_ms, legs=(leg,))


def opened(event: AppEvent, view: View) -> Decision:
    if view.get("account", event.key) is not None:
        raise Refusal("already_open", "account_id", event.key)
    made = Change("account", event.key, {"paid": 0})
    return Decision([made], flow=post(event, TREASURY, user(event.key), 100), opens=(user(event.key),))


def paid(event: AppEvent, view: View) -> Decision:
    payer = one(view, "account", event.key, "account_id")
    one(view, "account", event.data["to"], "data.to")
    amount = int(event.data["amount"])
    made = Change("account", event.key, {"paid": payer["paid"] + amount})
    return Decision([made], flow=post(event, user(event.key), user(event.data["to"]), amount))


def noted(event: AppEvent, view: View) -> Decision:
    held = one(view, "account", event.key, "account_id")
    return Decision([Change("note", event.key, {"saw": held["paid"]})])


def check(event: AppEvent) -> None:
    if event.data["to"] == event.key:
        raise Refusal("same_account", "data.to", "nobody pays himself")


TYPES = table(
    (
        AppType("OPENED", "opened", opened),
        AppType("PAID", "paid", paid, check),
        AppType("NOTED", "noted", noted),
    )
)


class World:
    """A store of states in memory and an engine."""

    def __init__(self) -> None:
        self.states: dict[tuple[str, str], Any] = {}
        self.books = OffchainBooks(connect())
        self.asked: list[int] = []  # flows per question to the books

    def post(self, flows: Any, opens: Any) -> Any:
        self.asked.append(len(flows))
        self.books.store.create_accounts(list(opens))
        return self.books.apply(flows)

    def apply(self, *events: AppEvent) -> list[str]:
        fold = Fold(TYPES, lambda kind, id: self.states.get((kind, id)), self.post)
        outcomes = [judged.refused.reason if judged.refused else "applied" for judged in fold.apply(events)]
        self.states.update(fold.overlay.changed)
        return outcomes

    def balance(self, name: str) -> int:
        row = self.books.store.accounts([user(name)])[user(name)]
        assert row is not None
        return row.credits_posted - row.debits_posted


def event(number: int, type: str, key: str, **data: Any) -> AppEvent:
    return AppEvent("tokens.events.v1", f"{number:032x}", type, key, 1000 + number, data)


def test_what_the_books_refuse_has_not_happened() -> None:
    world = World()
    assert world.apply(
        event(1, "OPENED", "a"),
        event(2, "OPENED", "b"),
        event(3, "PAID", "a", to="b", amount="101"),
        event(4, "NOTED", "a"),
    ) == ["applied", "applied", "insufficient_balance", "applied"]
    assert world.states["account", "a"] == {"paid": 0} and world.states["note", "a"] == {"saw": 0}
    assert (world.balance("a"), world.balance("b")) == (100, 100)


def test_a_rule_sees_what_the_books_have_answered() -> None:
    world = World()
    world.apply(event(1, "OPENED", "a"), event(2, "OPENED", "b"))
    outcomes = world.apply(
        event(3, "PAID", "a", to="b", amount="60"),
        event(4, "PAID", "a", to="b", amount="60"),
        event(5, "NOTED", "a"),
    )
    assert outcomes == ["applied", "insufficient_balance", "applied"]
    assert world.states["note", "a"] == {"saw": 60}


def test_events_that_do_not_look_at_each_other_ask_the_books_together() -> None:
    world = World()
    world.apply(*(event(n, "OPENED", f"u{n}") for n in range(50)))
    assert world.asked == [50]


@pytest.mark.parametrize(
    ("told", "reason", "field"),
    [
        (event(9, "OPENED", "a"), "already_open", "account_id"),
        (event(9, "PAID", "x", to="a", amount="1"), "unknown_account", "account_id"),
        (event(9, "PAID", "a", to="x", amount="1"), "unknown_account", "data.to"),
        (event(9, "PAID", "a", to="a", amount="1"), "same_account", "data.to"),
        (event(9, "LOST", "a"), "unknown_type", "type"),
    ],
)
def test_refusals_name_their_field(told: AppEvent, reason: str, field: str) -> None:
    world = World()
    world.apply(event(1, "OPENED", "a"))
    fold = Fold(TYPES, lambda kind, id: world.states.get((kind, id)), world.post)
    (judged,) = fold.apply([told])
    assert judged.refused is not None and (judged.refused.reason, judged.refused.field) == (reason, field)
    assert judged.decision is None and fold.overlay.changed == {}


@pytest.mark.parametrize("seed", range(8))
def test_batches_change_nothing(seed: int) -> None:
    """One after the other, in one batch, in batches of any size: the same outcomes, states and balances."""
    chance = random.Random(seed)
    names = [f"u{n}" for n in range(5)]
    told = [
        event(
            n,
            chance.choice(("OPENED", "PAID", "PAID", "PAID", "NOTED")),
            chance.choice(names),
            to=chance.choice(names),
            amount=str(chance.randrange(1, 90)),
        )
        for n in range(120)
    ]
    single, whole, parts = World(), World(), World()
    expected = [outcome for one_event in told for outcome in single.apply(one_event)]
    assert whole.apply(*told) == expected
    cut, outcomes = 0, []
    while cut < len(told):
        size = chance.randrange(1, 20)
        outcomes += parts.apply(*told[cut : cut + size])
        cut += size
    assert outcomes == expected
    assert single.states == whole.states == parts.states
    assert {"applied", "insufficient_balance", "already_open", "unknown_account"} <= set(expected)
    held = [name for name in names if ("account", name) in single.states]
    balances = [[world.balance(name) for name in held] for world in (single, whole, parts)]
    assert balances[0] == balances[1] == balances[2] and sum(balances[0]) == 100 * len(held)
    assert len(whole.asked) < len([one_event for one_event in told if one_event.type != "NOTED"])


def test_a_type_stands_once() -> None:
    with pytest.raises(ValueError, match="PAID is there twice"):
        table((TYPES["PAID"], TYPES["PAID"]))


def test_a_message_of_no_known_type_or_without_its_payload_is_no_event() -> None:
    topic = AppTopic("tokens.events.v1", "tokens", "account_id", TYPES)
    record = {"type": "LOST", "event_id": "1"}
    with pytest.raises(Refusal, match="LOST"):
        topic.event(record)
    with pytest.raises(Refusal, match="a PAID needs it"):
        topic.event({"type": "PAID", "paid": None})


def greeted(event: AppEvent, view: View) -> Decision:
    """Pays an account without a look at whether it is there."""
    return Decision(flow=post(event, TREASURY, user(event.key), 5))


def test_an_account_is_open_for_flows_that_come_after_it_alone() -> None:
    types = {**TYPES, "GREETED": AppType("GREETED", "greeted", greeted)}

    def outcomes(batches: list[list[AppEvent]]) -> list[str]:
        world, found = World(), []
        for batch in batches:
            fold = Fold(types, lambda kind, id: world.states.get((kind, id)), world.post)
            found += [one.refused.reason if one.refused else "applied" for one in fold.apply(batch)]
            world.states.update(fold.overlay.changed)
        return found

    told = [event(1, "GREETED", "a"), event(2, "OPENED", "a"), event(3, "GREETED", "a")]
    single = outcomes([[one] for one in told])
    assert single == ["account_not_found", "applied", "applied"] == outcomes([told])


BOOK = AccountRef(ASSET, int(AccountCode.BOOK), "")
DEFECTS: dict[str, Any] = {
    "a code that is none": lambda e: Decision(flow=flow(e, Leg(TREASURY, user("a"), 1, 9999))),
    "an account that is none": lambda e: Decision(opens=(AccountRef(ASSET, 70_000, "a"),)),
    "the book's own": lambda e: Decision(flow=flow(e, Leg(TREASURY, BOOK, 1, int(TransferCode.PAYMENT)))),
    "another's name": lambda e: Decision(flow=post(event(99, "X", "a"), TREASURY, user("a"), 1)),
}


def flow(event: AppEvent, *legs: Leg) -> FlowEvent:
    return FlowEvent(kind=Kind.POST, name=event.name, time_ms=event.at_ms, legs=legs)


@pytest.mark.parametrize("asked", DEFECTS.values(), ids=DEFECTS)
def test_what_no_books_can_be_asked_is_the_rule_s_defect_and_moves_nothing(asked: Any) -> None:
    world = World()
    types = {**TYPES, "BROKEN": AppType("BROKEN", "broken", lambda event, view: asked(event))}
    fold = Fold(types, lambda kind, id: None, world.post)
    first, broken, last = fold.apply(
        [event(1, "OPENED", "a"), event(2, "BROKEN", "a"), event(3, "OPENED", "b")]
    )
    assert isinstance(broken.failed, ValueError) and broken.decision is None
    assert first.refused is last.refused is None and world.asked == [2]
    assert (world.balance("a"), world.balance("b")) == (100, 100)


def test_more_transfers_than_a_message_tells_are_refused() -> None:
    world = World()
    leg = Leg(TREASURY, user("a"), 1, int(TransferCode.PAYMENT))
    types = table((AppType("MANY", "many", lambda event, view: Decision(flow=flow(event, *[leg] * 2001))),))
    (judged,) = Fold(types, lambda kind, id: None, world.post).apply([event(1, "MANY", "a")])
    assert judged.refused is not None and judged.refused.reason == "too_large" and not world.asked


def test_what_can_not_be_sealed_asks_nothing_of_the_books() -> None:
    world = World()

    def seal(event: AppEvent, decision: Decision) -> str:
        if event.key == "b":
            raise TypeError("no record")
        return event.key

    fold = Fold(TYPES, lambda kind, id: None, world.post, seal)
    a, b, c = fold.apply([event(n, "OPENED", name) for n, name in enumerate("abc")])
    assert (a.sealed, c.sealed) == ("a", "c") and isinstance(b.failed, TypeError)
    assert world.asked == [2] and ("account", "b") not in fold.overlay.changed
