"""Positions: created, then along S1's table of states, each step with its money.

The table is TRANSITIONS, and nothing else is a step. A position's money lies in an escrow account of its own (ESCROW,
holder, position); its balance is the state's `remainder` after every event. A step moves by one transfer: funding pays
the whole amount in, releases pay out, a cancellation gives all back to the funder. The books judge whether the funder
has it. Who acts as a user: funder for what he pays in and lets go, the holder for giving up; a service may all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from pipeline.domain.account import AccountRef, TransferCode
from pipeline.domain.applications.event import (
    DUE,
    AppEvent,
    Change,
    Decision,
    Refusal,
    Value,
    View,
    in_order,
    one,
)
from pipeline.domain.flows.events import FlowEvent, Kind, Leg
from pipeline.domain.positions import money
from pipeline.domain.positions.attestation import iso, queued
from pipeline.domain.positions.registry import (
    KEY,
    check_currency,
    check_envelope,
    check_region,
    check_text,
    check_time,
    needed,
    same_institution,
)

STATES: Final = ("CREATED", "FUNDED", "PARTIALLY_RELEASED", "RELEASED", "CANCELLED", "EXPIRED")


class Step(NamedTuple):
    """What a step does besides the state."""

    leg: Leg | None = None
    opens: str = ""  # whose account must be there
    changed: Mapping[str, Any] = {}


def check_created(event: AppEvent) -> None:
    """Amount, currency and times as such. Raises Refusal."""
    check_envelope(event)
    data = event.data
    needed(data, "institution_id", "asset_id", "holder_reference")
    money.parse(data["amount"], data["currency"], "data.amount")
    if data["new_state"] != "CREATED":
        raise Refusal("illegal_transition", "data.new_state", "a position is created in CREATED")
    check_time(data["expires_at"], "data.expires_at")
    if data["expires_at"] is not None and data["expires_at"] <= event.at_ms:
        raise Refusal("expired", "data.expires_at", "it would have expired before it begins")
    if event.user_id not in ("", data["holder_reference"]):
        raise Refusal("not_a_party", "user_id", f"{event.user_id} creates positions of its own only")


def created(event: AppEvent, view: View) -> Decision:
    """A position of an asset, where the template's policy allows it. No money moves yet."""
    data = event.data
    if view.get("position", event.key) is not None:
        raise Refusal("already_created", KEY, f"position {event.key} is there already")
    template_id, template = _policy(data, view)
    currency, holder = data["currency"], data["holder_reference"]
    units = money.parse(data["amount"], currency, "data.amount")
    position: Value = {
        "institution_id": data["institution_id"], "asset_id": data["asset_id"], "template_id": template_id,
        "holder_reference": holder, "currency": currency, "amount": money.text(units, currency),
        "state": "CREATED", "remainder": "0", "funder": None, "external_reference": data["external_reference"],
        "expires_ms": data["expires_at"], "attestations": [], "created_ms": event.at_ms, "updated_ms": event.at_ms,
    }  # fmt: skip
    if data["expires_at"] is not None:
        position[DUE] = _due(data["expires_at"])
    payload = {
        "institutionId": data["institution_id"], "assetId": data["asset_id"], "currency": currency,
        "amount": position["amount"], "externalReference": data["external_reference"], "at": iso(event.at_ms),
    }  # fmt: skip
    decision = Decision()
    _open(decision, view, currency, holder, event.at_ms)
    return _told(decision, event, template, position, payload)


def _policy(data: Mapping[str, Any], view: View) -> tuple[str, Value]:
    """(id, state) of the template that the position stands under. Raises Refusal."""
    one(view, "institution", data["institution_id"], "data.institution_id")
    asset = one(view, "asset", data["asset_id"], "data.asset_id")
    same_institution(asset, data["institution_id"], f"asset {data['asset_id']}", "data.asset_id")
    template = one(view, "template", asset["template_id"], "data.asset_id")
    check_region(template, asset["region"], "data.asset_id")
    if data["holder_region"] is not None:
        check_region(template, data["holder_region"], "data.holder_region")
    check_currency(template, data["currency"], "data.currency")
    return asset["template_id"], template


def _due(expires_ms: int) -> Value:
    data = {"previous_state": "CREATED", "new_state": "EXPIRED", "reason": "expired unfunded"}
    return {"at_ms": expires_ms, "type": "POSITION_STATE_CHANGED", "data": data}


def check_changed(event: AppEvent) -> None:
    """The step is in S1's table and says what it needs, and nothing that is another step's. Raises Refusal."""
    check_envelope(event)
    data = event.data
    needed(data, "reason")
    before, after = data["previous_state"], data["new_state"]
    for name in ("previous_state", "new_state"):
        if data[name] not in STATES:
            raise Refusal(
                "unknown_state", f"data.{name}", f"{data[name][:40]!r} is none of {', '.join(STATES)}"
            )
    if (before, after) not in TRANSITIONS:
        raise Refusal("illegal_transition", "data.new_state", f"no step leads from {before} to {after}")
    for name in ("funder", "amount_released", "recipient", "release_date", "invoice_reference"):
        if data[name] is None:
            if name == NEEDS.get(after):
                raise Refusal("missing", f"data.{name}", f"{after} needs it")
        elif name not in SAYS[after]:
            raise Refusal("not_wanted", f"data.{name}", f"{after} has none")
        elif name == "release_date":
            check_time(data[name], f"data.{name}")
        else:
            check_text(data[name], f"data.{name}")


def changed(event: AppEvent, view: View) -> Decision:
    """A step of a position, with its money. Raises Refusal: illegal_transition where the table has no such step."""
    position = one(view, "position", event.key, KEY)
    before, after = event.data["previous_state"], event.data["new_state"]
    if position["state"] != before:
        detail = f"position {event.key} is {position['state']}, not {before}"
        raise Refusal("illegal_transition", "data.previous_state", detail)
    in_order(event, position["updated_ms"])
    _may(event, position)
    step = TRANSITIONS[before, after](event, position)
    decision = Decision()
    if step.leg is not None:
        decision.flow = FlowEvent(kind=Kind.POST, name=event.name, time_ms=event.at_ms, legs=(step.leg,))
    if step.opens:
        _open(decision, view, position["currency"], step.opens, event.at_ms)
    made = {**position, **step.changed, "state": after, "updated_ms": event.at_ms}
    made.pop(DUE, None)
    payload = {"fromState": before, "toState": after, "reason": event.data["reason"], "at": iso(event.at_ms)}
    template = one(view, "template", position["template_id"], KEY)
    return _told(decision, event, template, made, payload)


def _may(event: AppEvent, position: Value) -> None:
    """A user pays in of his own, lets go what he paid in, or gives up what he holds. Raises Refusal."""
    after = event.data["new_state"]
    if after == "FUNDED":
        who = event.data["funder"]
    else:
        who = position["holder_reference"] if after in ("CANCELLED", "EXPIRED") else position["funder"]
    if event.user_id not in ("", who):
        raise Refusal("not_a_party", "user_id", f"{event.user_id} may not make position {event.key} {after}")


def _fund(event: AppEvent, position: Value) -> Step:
    if position["expires_ms"] is not None and event.at_ms >= position["expires_ms"]:
        raise Refusal("expired", "at", f"position {event.key} expired at {iso(position['expires_ms'])}")
    funder, currency = event.data["funder"], position["currency"]
    units = money.held(position["amount"], currency)
    leg = Leg(money.user(currency, funder), _escrow(event, position), units, int(TransferCode.ESCROW_LOCK))
    return Step(leg, changed={"funder": funder, "remainder": position["amount"]})


def _release_part(event: AppEvent, position: Value) -> Step:
    currency = position["currency"]
    units = money.parse(event.data["amount_released"], currency, "data.amount_released")
    remainder = money.held(position["remainder"], currency)
    if units >= remainder:
        detail = f"{event.data['amount_released']} is not below the remainder, {position['remainder']}"
        raise Refusal("exceeds_remainder", "data.amount_released", detail)
    return _release(event, position, units, remainder - units)


def _release_all(event: AppEvent, position: Value) -> Step:
    currency, told = position["currency"], event.data["amount_released"]
    remainder = money.held(position["remainder"], currency)
    if told is not None and money.parse(told, currency, "data.amount_released") != remainder:
        detail = f"{told} where {position['remainder']} remains"
        raise Refusal("other_amount", "data.amount_released", detail)
    return _release(event, position, remainder, 0)


def _release(event: AppEvent, position: Value, units: int, rest: int) -> Step:
    currency = position["currency"]
    recipient = event.data["recipient"] or position["holder_reference"]
    to = money.user(currency, recipient)
    leg = Leg(_escrow(event, position), to, units, int(TransferCode.ESCROW_RELEASE))
    return Step(leg, recipient, {"remainder": money.text(rest, currency)})


def _cancel(event: AppEvent, position: Value) -> Step:
    currency = position["currency"]
    units = money.held(position["remainder"], currency)
    to = money.user(currency, position["funder"])
    return Step(
        Leg(_escrow(event, position), to, units, int(TransferCode.ESCROW_VOID)), changed={"remainder": "0"}
    )


def _expire(event: AppEvent, position: Value) -> Step:
    """Nobody has paid in, so nothing moves. With an end it expires once that has come, without when it is said to."""
    end = position["expires_ms"]
    if end is not None and event.reached_ms < end:
        raise Refusal("not_expired", "at", f"position {event.key} expires at {iso(end)}")
    return Step()


TRANSITIONS: Final[dict[tuple[str, str], Callable[[AppEvent, Value], Step]]] = {
    ("CREATED", "FUNDED"): _fund,
    ("CREATED", "EXPIRED"): _expire,
    ("FUNDED", "PARTIALLY_RELEASED"): _release_part,
    ("FUNDED", "CANCELLED"): _cancel,
    ("PARTIALLY_RELEASED", "PARTIALLY_RELEASED"): _release_part,
    ("PARTIALLY_RELEASED", "RELEASED"): _release_all,
}
"""S1's table (its first row is POSITION_CREATED), and the further partial release."""
NEEDS: Final = {"FUNDED": "funder", "PARTIALLY_RELEASED": "amount_released"}
_RELEASE: Final = frozenset({"amount_released", "recipient", "release_date", "invoice_reference"})
SAYS: Final = {
    "FUNDED": frozenset({"funder"}),
    "PARTIALLY_RELEASED": _RELEASE,
    "RELEASED": _RELEASE,
    "CANCELLED": frozenset[str](),
    "EXPIRED": frozenset[str](),
}
"""Fields that a step to a state may say besides the reason."""


def _escrow(event: AppEvent, position: Value) -> AccountRef:
    return money.escrow(position["currency"], position["holder_reference"], event.key)


def _open(decision: Decision, view: View, currency: str, owner: str, at_ms: int) -> None:
    """Open a customer's account the first time that this topic needs it."""
    id = f"{currency}/{owner}"
    if view.get("account", id) is None:
        decision.opens = (money.user(currency, owner),)
        value = {"currency": currency, "owner": owner, "opened_ms": at_ms}
        decision.changes.append(Change("account", id, value))


def _told(
    decision: Decision, event: AppEvent, template: Value, position: Value, payload: Mapping[str, Any]
) -> Decision:
    """The decision with the position's new state and, where the template says so, its attestation."""
    if template["onchain_enabled"]:
        id, change, emit = queued(event, payload)
        position = {**position, "attestations": [*position["attestations"], id]}
        decision.changes.append(change)
        decision.emits.append(emit)
    decision.changes.insert(0, Change("position", event.key, position))
    return decision
