"""Any sequence of S4's flows as applications tell them, against a model of them: Hypothesis, on real embedded books.

The model is a purse for everybody and a list of what is open. It says of every command whether it is taken; after every
batch each account of the books must hold what the model has there, what TREASURY has given out must be what all others
hold, fees must add up, and every authorization and escrow must have ended at most once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import cache
from random import Random
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.catalog.anchors import ANCHORS
from pipeline.domain.account import AccountCode
from pipeline.domain.anchors.signature import message
from pipeline.domain.applications.event import AppEvent
from tests.support.applications import TestFold, event
from tests.support.examples import examples

T0 = 1_800_000_000_000
END = 9  # steps until authorizations and escrows end
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PEOPLE = {"ann": "USER", "bob": "USER", "shop": "MERCHANT"}
PURSE = {"ann": 20, "bob": 8, "shop": 6}


@dataclass
class Thing:
    """An authorization or an escrow."""

    owner: str
    amount: int
    end: int
    anchor: str = ""
    state: str = "open"
    ends: list[str] = field(default_factory=list)
    claimed: int = 0

    def before(self, now: int) -> bool:
        """Whether a time is earlier than its last step."""
        return now < max(self.begun, self.claimed)

    @property
    def begun(self) -> int:
        return self.end - END


@dataclass
class Model:
    """What must be true, said once more and more simply. Each method says whether a command is taken."""

    purse: dict[str, int] = field(default_factory=lambda: dict(PURSE))
    issued: int = sum(PURSE.values())
    fees: int = 0
    frozen: set[str] = field(default_factory=set)
    auths: dict[str, Thing] = field(default_factory=dict)
    locks: dict[str, Thing] = field(default_factory=dict)
    paid: dict[str, list[Any]] = field(default_factory=dict)  # event id → [payer, payee, left to refund]
    settled: dict[str, int] = field(default_factory=dict)  # event id → amount, 0 once reversed

    def move(self, who: str, units: int) -> bool:
        """Units to somebody's purse, or out of it where they are below 0."""
        if who in self.frozen or self.purse[who] + units < 0:
            return False
        self.purse[who] += units
        return True

    def outside(self, who: str, units: int) -> bool:
        if not units or not self.move(who, units):
            return False
        self.issued += units
        return True

    def fee(self, who: str, amount: int) -> bool:
        if not amount or not self.move(who, -amount):
            return False
        self.fees += amount
        return True

    def pay(self, id: str, payer: str, payee: str, amount: int) -> bool:
        if not amount or payer == payee or PEOPLE[payer] != "USER" or {payer, payee} & self.frozen:
            return False
        if not self.move(payer, -amount):
            return False
        self.paid[id] = [payer, payee, amount]
        return self.move(payee, amount)

    def refund(self, id: str, amount: int) -> bool:
        payer, payee, left = self.paid.get(id, ("", "", 0))
        if not 0 < amount <= left or {payer, payee} & self.frozen or not self.move(payee, -amount):
            return False
        self.paid[id][2] -= amount
        return self.move(payer, amount)

    def settle(self, id: str, amount: int) -> bool:
        if not self.outside("shop", -amount):
            return False
        self.settled[id] = amount
        return True

    def reverse(self, id: str) -> bool:
        amount = self.settled.get(id, 0)
        if not self.outside("shop", amount):
            return False
        self.settled[id] = 0
        return True

    def authorize(self, id: str, thing: Thing) -> bool:
        known = PEOPLE[thing.owner] == "USER" and id not in self.auths and thing.amount > 0
        if not known or not self.move(thing.owner, -thing.amount):
            return False
        self.auths[id] = thing
        return True

    def claim(self, id: str, now: int, merchant: str | None) -> bool:
        thing = self.auths.get(id)
        if thing is None or thing.state != "open" or thing.before(now) or now >= thing.end:
            return False
        shop = merchant == "shop" and thing.anchor == "GROCERY" and "shop" not in self.frozen
        if merchant is not None and not shop:
            return False
        thing.state, thing.claimed = "claimed", now
        return True

    def fulfil(self, id: str, now: int, good: bool) -> bool:
        thing = self.auths.get(id)
        if thing is None or thing.state != "claimed" or thing.before(now) or now >= thing.end:
            return False
        if not good or thing.anchor != "GROCERY":  # the attestor signs for groceries
            return False
        thing.state = "fulfilled"
        thing.ends.append("fulfilled")
        self.issued -= thing.amount
        return True

    def expire(self, id: str, now: int) -> bool:
        thing = self.auths.get(id)
        if thing is None or thing.state not in ("open", "claimed") or now < thing.end:
            return False
        if not self.move(thing.owner, thing.amount):
            return False
        thing.state = "expired"
        thing.ends.append("expired")
        return True

    def lock(self, id: str, thing: Thing) -> bool:
        known = PEOPLE[thing.owner] == "USER" and id not in self.locks and thing.amount > 0
        if not known or not self.move(thing.owner, -thing.amount):
            return False
        self.locks[id] = thing
        return True

    def release(self, id: str, now: int, amount: int | None, to: str) -> bool:
        thing = self.locks.get(id)
        if thing is None or thing.state != "open" or now >= thing.end:
            return False
        amount = thing.amount if amount is None else amount
        if thing.before(now) or not 0 < amount <= thing.amount:
            return False
        if to == thing.owner or {to, thing.owner} & self.frozen:
            return False
        thing.state = "released"
        thing.ends.append("released")
        return self.move(to, amount) and self.move(thing.owner, thing.amount - amount)

    def unlock(self, id: str, now: int, lapse: bool) -> bool:
        thing = self.locks.get(id)
        if thing is None or thing.state != "open" or thing.before(now) or (lapse and now < thing.end):
            return False
        thing.state = "lapsed" if lapse else "voided"
        thing.ends.append(thing.state)
        self.purse[thing.owner] += thing.amount  # what was pending goes back, frozen or not
        return True

    def freeze(self, who: str) -> bool:
        if who in self.frozen:
            return False
        self.frozen.add(who)
        return True

    def thaw(self, who: str) -> bool:
        if who not in self.frozen:
            return False
        self.frozen.remove(who)
        return True


def _account(who: str) -> dict[str, str]:
    return {"owner": who, "account_type": PEOPLE[who], "asset": "SOVR"}


@cache
def _signature(id: str, amount: int, at: int) -> str:
    return KEY.sign(message(id, "GROCERY", str(amount), "proof", at)).hex()


def _purse_flow(model: Model, c: dict[str, Any], id: str) -> tuple[str, str, dict[str, Any], bool]:
    """(type, key, data, taken) of a command on purses."""
    who, amount = c["who"], c["amount"]
    money = {**_account(who), "amount": str(amount)}
    paid = sorted(model.paid)[c["pick"] % len(model.paid)] if model.paid else "e0"
    settled = sorted(model.settled)[c["pick"] % len(model.settled)] if model.settled else "e0"
    match c["do"]:
        case "deposit":
            return "DEPOSITED", who, money, model.outside(who, amount)
        case "withdraw":
            return "WITHDRAWN", who, money, model.outside(who, -amount)
        case "fee":
            return "FEE_CHARGED", who, money, model.fee(who, amount)
        case "pay":
            to = {"payer": who, "payee": c["to"], "payee_type": PEOPLE[c["to"]]}
            data = {**to, "asset": "SOVR", "amount": str(amount)}
            return "PAID", who, data, model.pay(id, who, c["to"], amount)
        case "refund":
            return "REFUNDED", who, {"reference": paid, "amount": str(amount)}, model.refund(paid, amount)
        case "settle":
            data = {"merchant": "shop", "asset": "SOVR", "amount": str(amount)}
            return "SETTLED", "shop", data, model.settle(id, amount)
        case "reverse":
            return "SETTLEMENT_REVERSED", "shop", {"reference": settled}, model.reverse(settled)
        case "freeze":
            return "ACCOUNT_FROZEN", who, _account(who), model.freeze(who)
    who = min(model.frozen, default=who) if c["good"] else who
    return "ACCOUNT_THAWED", who, _account(who), model.thaw(who)


def _open_thing(model: Model, c: dict[str, Any], now: int) -> tuple[str, str, dict[str, Any], bool]:
    """(type, key, data, taken) of a command on an authorization or an escrow."""
    key, amount = c["key"], c["amount"]
    auth = model.auths.get(key)
    thing = Thing(c["who"], amount, now + END, c["anchor"])
    match c["do"]:
        case "authorize":
            data = {"user": c["who"], "anchor": c["anchor"], "amount": str(amount), "expires_at": thing.end}
            return "AUTHORIZED", key, data, model.authorize(key, thing)
        case "claim":
            return "CLAIMED", key, {"merchant": c["merchant"]}, model.claim(key, now, c["merchant"])
        case "fulfil":
            attested = auth.begun if auth else T0
            signed = _signature(key, (auth.amount if auth else 1) + (not c["good"]), attested)
            data = {"proof": "proof", "attestor": "till", "attested_at": attested, "signature": signed}
            return "FULFILLED", key, data, model.fulfil(key, now, c["good"])
        case "expire":
            return "AUTHORIZATION_EXPIRED", key, {}, model.expire(key, now)
        case "lock":
            data = {"owner": c["who"], "asset": "SOVR", "amount": str(amount), "expires_at": thing.end}
            return "ESCROW_LOCKED", key, data, model.lock(key, thing)
        case "release":
            part = amount if c["good"] else None
            data = {"recipient": c["to"], "recipient_type": PEOPLE[c["to"]]}
            data["amount"] = None if part is None else str(part)
            return "ESCROW_RELEASED", key, data, model.release(key, now, part, c["to"])
    lapse = c["do"] == "lapse"
    return "ESCROW_LAPSED" if lapse else "ESCROW_VOIDED", key, {}, model.unlock(key, now, lapse)


PURSES = ["deposit", "withdraw", "fee", "pay", "refund", "settle", "reverse", "freeze", "thaw"]
THINGS = ["authorize", "claim", "fulfil", "expire", "lock", "release", "void", "lapse"]
NEXT = {
    "": ["authorize"],
    "open": ["claim", "claim", "claim", "expire"],
    "claimed": ["fulfil", "fulfil", "expire"],
}


def _likely(model: Model, key: str) -> list[str]:
    """Commands that may be taken as things stand."""
    found = ["deposit", "withdraw", "fee", "pay", "settle", "freeze"]
    found += (
        ["refund"] * 2 * bool(model.paid)
        + ["reverse"] * bool(model.settled)
        + ["thaw"] * 2 * bool(model.frozen)
    )
    found += NEXT.get(model.auths[key].state if key in model.auths else "", []) * 2
    lock = model.locks.get(key)
    if lock is None:
        found += ["lock"] * 2
    elif lock.state == "open":
        found += ["release", "release", "void", "lapse", "lapse"]
    return found


def _every(**choices: list[Any]) -> list[dict[str, Any]]:
    """A seeded part of all commands that these choices make: one draw a command keeps Hypothesis quick."""
    random = Random(11)
    return [{name: random.choice(of) for name, of in choices.items()} for _ in range(6000)]


COMMANDS = st.lists(
    st.sampled_from(
        _every(
            do=[*range(420), *PURSES * 2, *THINGS * 2],  # a number: one of the likely ones
            who=["ann", "ann", "ann", "bob", "shop"], to=["shop", "shop", "bob", "ann"],
            amount=[0, *range(1, 8), 30], pick=[0, 1, 2], key=["x"] * 7 + ["y"], good=[True, True, True, False],
            anchor=["GROCERY"] * 9 + ["FUEL"], merchant=[None, None, None, "shop", "shop", "nobody"],
            late=[0] * 12 + [END],
        )
    ),
    min_size=6, max_size=18,
)  # fmt: skip
_REGISTRY = [
    event(ANCHORS, "MERCHANT_REGISTERED", "shop", T0, {"name": "Shop", "anchors": ["GROCERY"]}),
    event(
        ANCHORS, "ATTESTOR_REGISTERED", "till", T0,
        {"public_key": KEY.public_key().public_bytes_raw().hex(), "anchors": ["GROCERY"]},
    ),
    *(event(ANCHORS, "ACCOUNT_OPENED", who, T0, _account(who)) for who in PEOPLE),
    *(
        event(ANCHORS, "DEPOSITED", who, T0, {**_account(who), "amount": str(units)})
        for who, units in PURSE.items()
        if units
    ),
]  # fmt: skip
SEEN: Counter[str] = Counter()  # event types that were taken, over all examples


@cache
def _plain(type: str, fields: tuple[str, ...]) -> AppEvent:
    """An event with the schema's defaults."""
    data = {name: 1 if name in ("expires_at", "attested_at") else "" for name in fields}
    return event(ANCHORS, type, "k", T0, data)


def _told(model: Model, command: dict[str, Any], place: int) -> tuple[AppEvent, bool]:
    """(the command's event, whether the model takes it)."""
    id, now = f"e{place}", T0 + place + command["late"]
    if isinstance(command["do"], int):
        likely = _likely(model, command["key"])
        command = {**command, "do": likely[command["do"] % len(likely)]}
    if command["do"] in ("expire", "lapse") and command["good"]:
        now += END
    if command["do"] in PURSES:
        type, key, data, taken = _purse_flow(model, command, id)
    else:
        type, key, data, taken = _open_thing(model, command, now)
    plain = _plain(type, tuple(data))
    return replace(plain, id=id, key=key, at_ms=now, recorded_ms=now, data={**plain.data, **data}), taken


def _compare(fold: TestFold, model: Model) -> None:
    def held(code: AccountCode, owner: str = "", asset: str = "SOVR") -> int:
        return fold.balance(f"offchain/{asset}", code, owner)

    waiting = sum(thing.amount for thing in model.auths.values() if thing.state == "open")
    owed = {"GROCERY": 0, "FUEL": 0}
    for thing in model.auths.values():
        owed[thing.anchor] += thing.amount if thing.state == "claimed" else 0
    locked = sum(thing.amount for thing in model.locks.values() if thing.state == "open")
    assert {who: held(AccountCode[kind], who) for who, kind in PEOPLE.items()} == model.purse
    assert held(AccountCode.SYSTEM_BUFFER) == waiting
    for anchor, units in owed.items():
        book = f"{anchor}_OBLIGATION"
        assert held(AccountCode.ANCHOR, anchor) == held(AccountCode.ANCHOR, anchor, book) == units
    assert held(AccountCode.FEE_POOL) == model.fees
    assert held(AccountCode.TREASURY) == model.issued
    assert model.issued == sum(model.purse.values()) + waiting + sum(owed.values()) + model.fees + locked
    assert min(model.purse.values()) >= 0
    for kind, things in (("authorization", model.auths), ("escrow", model.locks)):
        states = fold.states(kind)
        assert set(states) == set(things)
        for id, thing in things.items():
            assert len(thing.ends) <= 1
            assert ("due" in states[id]) == (not thing.ends)
            name = {"authorization": "AUTHORIZED", "escrow": "LOCKED"}[kind]
            assert states[id]["state"] == (name if thing.state == "open" else thing.state.upper())
    left = {id: value["refundable"] for id, value in fold.states("payment").items()}
    assert left == {id: str(rest) for id, (_, _, rest) in model.paid.items()}


@settings(max_examples=examples(700, 350))
@given(COMMANDS, st.sampled_from([1, 3, 99]))
def _follow(commands: list[dict[str, Any]], batch: int) -> None:
    fold, model = TestFold(ANCHORS), Model()
    try:
        assert all(judged.refused is None for judged in fold.apply(_REGISTRY))
        for first in range(0, len(commands), batch):
            part = enumerate(commands[first : first + batch], first + 1)
            told = [_told(model, command, place) for place, command in part]
            judged = fold.apply([one for one, _ in told])
            assert [one.refused is None for one in judged] == [taken for _, taken in told], [
                (one.event.type, one.event.data, one.refused) for one in judged
            ]
            SEEN.update(one.event.type for one in judged if one.refused is None)
            _compare(fold, model)
    finally:
        fold.close()


def test_books_and_states_are_where_a_simple_model_has_them() -> None:
    _follow()
    rest = {
        "MERCHANT_REGISTERED",
        "MERCHANT_REVOKED",
        "ATTESTOR_REGISTERED",
        "ATTESTOR_REVOKED",
        "ACCOUNT_OPENED",
        "ACCOUNT_CLOSED",
    }
    seldom = {type: SEEN[type] for type in set(ANCHORS.types) - rest if SEEN[type] < examples(15, 5)}
    assert not seldom, f"the commands hardly lead to {seldom}"
