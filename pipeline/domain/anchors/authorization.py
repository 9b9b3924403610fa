"""Authorizations: authorize → claim → fulfil, or expire; each ends once.

The user's units wait in SYSTEM_BUFFER, become the anchor's obligation by the claim, and are spent (back at TREASURY) by
the fulfilment, which an attestor's signature must stand for. From `expires_ms` on, by event time, an authorization can
only expire, which gives the units back; its `due` has the clock say so. A merchant who is named keeps the part that S4
gives him: he delivers; what he is paid comes by payment and settlement.
"""

from __future__ import annotations

from typing import Final

from pipeline.domain.anchors.parties import (
    KEY,
    acts,
    check_anchor,
    check_key,
    flow,
    party,
    serving,
    with_open,
)
from pipeline.domain.anchors.signature import check_signature, message
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
from pipeline.domain.flows.accounts import ANCHOR_ASSET
from pipeline.domain.flows.events import Kind, Party
from pipeline.domain.positions.money import held, parse, text
from pipeline.domain.positions.registry import check_text, check_time

OPEN: Final = ("AUTHORIZED", "CLAIMED")


def check_authorized(event: AppEvent) -> None:
    """User, anchor, amount, and an end that lies ahead. Raises Refusal."""
    check_key(event)
    data = event.data
    check_text(data["user"], "data.user")
    check_anchor(data["anchor"], "data.anchor")
    parse(data["amount"], ANCHOR_ASSET, "data.amount")
    check_time(data["expires_at"], "data.expires_at")
    if data["expires_at"] <= event.at_ms:
        raise Refusal("expired", "data.expires_at", "it would have ended before it begins")


def authorized(event: AppEvent, view: View) -> Decision:
    """USER → SYSTEM_BUFFER: the user's units are set aside for an anchor."""
    data = event.data
    acts(event, data["user"])
    if view.get("authorization", event.key) is not None:
        raise Refusal("already_authorized", KEY, f"{event.key} is another authorization")
    if data["merchant"] is not None:
        serving(view, data["merchant"], data["anchor"], ANCHOR_ASSET, "data.merchant")
    user = party(view, "USER", ANCHOR_ASSET, data["user"], "data.user")
    units = parse(data["amount"], ANCHOR_ASSET, "data.amount")
    value: Value = {
        "user": data["user"], "anchor": data["anchor"], "amount": text(units, ANCHOR_ASSET), "state": "AUTHORIZED",
        "merchant": data["merchant"], "expires_ms": data["expires_at"], "proof": None, "attestor": None,
        "attested_ms": None, "created_ms": event.at_ms, "updated_ms": event.at_ms,
        DUE: {"at_ms": data["expires_at"], "type": "AUTHORIZATION_EXPIRED", "data": {"reason": "ended"}},
    }  # fmt: skip
    asked = flow(
        event, Kind.AUTHORIZE, asset=ANCHOR_ASSET, amount=units, debtor=user, subject=event.key,
        anchor=data["anchor"], expires_ms=data["expires_at"],
    )  # fmt: skip
    held_open = with_open(view, ANCHOR_ASSET, data["user"], 1)
    return Decision([Change("authorization", event.key, value), held_open], asked)


def claimed(event: AppEvent, view: View) -> Decision:
    """SYSTEM_BUFFER → ANCHOR: the anchor owes it from now on. As a user the merchant claims only what names it."""
    value = _open(event, view, "AUTHORIZED")
    merchant = event.data["merchant"] or value["merchant"]
    if value["merchant"] not in (None, merchant):
        raise Refusal("other_merchant", "data.merchant", f"{event.key} is for {value['merchant']}")
    if merchant is not None:
        serving(view, merchant, value["anchor"], ANCHOR_ASSET, "data.merchant")
    acts(event, value["user"], value["merchant"])
    _in_time(event, value)
    after = {**value, "state": "CLAIMED", "merchant": merchant, "updated_ms": event.at_ms}
    asked = flow(event, Kind.CLAIM, amount=_units(value), subject=event.key, anchor=value["anchor"])
    return Decision([Change("authorization", event.key, after)], asked)


def check_fulfilled(event: AppEvent) -> None:
    """Proof, attestor, time and signature are said. Raises Refusal."""
    check_key(event)
    for name in ("proof", "attestor", "signature"):
        check_text(event.data[name], f"data.{name}")
    check_time(event.data["attested_at"], "data.attested_at")


def fulfilled(event: AppEvent, view: View) -> Decision:
    """ANCHOR → TREASURY: delivered, and an attestor of this anchor has signed for it."""
    data, value = event.data, _open(event, view, "CLAIMED")
    attestor = one(view, "attestor", data["attestor"], "data.attestor")
    if attestor["revoked_ms"] is not None:
        raise Refusal("attestor_revoked", "data.attestor", f"{data['attestor']} attests no more")
    if value["anchor"] not in attestor["anchors"]:
        raise Refusal(
            "not_attestor", "data.attestor", f"{data['attestor']} does not attest {value['anchor']}"
        )
    signed = message(event.key, value["anchor"], value["amount"], data["proof"], data["attested_at"])
    check_signature(attestor["public_key"], data["signature"], signed, "data.signature")
    _in_time(event, value)
    if not value["created_ms"] <= data["attested_at"] <= event.at_ms:
        detail = f"it must be from {value['created_ms']}, when {event.key} began, to the event's own time {event.at_ms}"
        raise Refusal("bad_time", "data.attested_at", detail)
    after = _ended(event, value, "FULFILLED")
    after |= {"proof": data["proof"], "attestor": data["attestor"], "attested_ms": data["attested_at"]}
    asked = flow(
        event, Kind.FULFIL, amount=_units(value), subject=event.key, anchor=value["anchor"], proof=data["proof"],
        attested=True,
    )  # fmt: skip
    return Decision([Change("authorization", event.key, after), _closed(view, value)], asked)


def expired(event: AppEvent, view: View) -> Decision:
    """Back to the user, from SYSTEM_BUFFER or, where it was claimed, from the anchor."""
    value = _open(event, view, *OPEN)
    if event.reached_ms < value["expires_ms"]:
        raise Refusal("not_expired", "at", f"{event.key} ends at {value['expires_ms']}")
    asked = flow(event, Kind.EXPIRE, amount=_units(value), subject=event.key, creditor=Party(value["user"]))
    after = _ended(event, value, "EXPIRED")
    return Decision([Change("authorization", event.key, after), _closed(view, value)], asked)


def _closed(view: View, value: Value) -> Change:
    return with_open(view, ANCHOR_ASSET, value["user"], -1)


def _open(event: AppEvent, view: View, *states: str) -> Value:
    """The authorization, in one of these states, at its last step's time or later. Raises Refusal."""
    value = one(view, "authorization", event.key, KEY)
    if value["state"] not in states:
        detail = f"{event.key} is {value['state']}; {event.type} wants it {' or '.join(states)}"
        raise Refusal("illegal_transition", "type", detail)
    in_order(event, value["updated_ms"])
    return value


def _in_time(event: AppEvent, value: Value) -> None:
    if event.at_ms >= value["expires_ms"]:
        raise Refusal("expired", "at", f"{event.key} ended at {value['expires_ms']}")


def _ended(event: AppEvent, value: Value, state: str) -> Value:
    """The state after its end: nothing is due any more."""
    after = {**value, "state": state, "updated_ms": event.at_ms}
    del after[DUE]
    return after


def _units(value: Value) -> int:
    return held(value["amount"], ANCHOR_ASSET)
