"""Escrows: units of a user locked by a pending transfer, then released, voided or lapsed; each ends once.

S4's two-phase commit, with the end judged by event time: before it an escrow may be released, from it on it can only
lapse, and its `due` has the clock say so. Where a beneficiary is named, nobody else is paid, and as a user only the
beneficiary may give it up, and the owner releases the whole: he cannot take back what he has promised. A service acts
for both, who have settled between them what part is due.
"""

from __future__ import annotations

from pipeline.domain.anchors.parties import (
    KEY,
    acts,
    check_key,
    check_type,
    flow,
    party,
    units,
    with_open,
)
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
from pipeline.domain.flows.events import Kind, Party
from pipeline.domain.positions.money import held, parse, text
from pipeline.domain.positions.registry import check_text, check_time


def check_locked(event: AppEvent) -> None:
    """Owner, amount, and an end, if any, that lies ahead. Raises Refusal."""
    check_key(event)
    data = event.data
    check_text(data["owner"], "data.owner")
    if data["beneficiary"] is not None:
        check_text(data["beneficiary"], "data.beneficiary")
    units(event)
    check_time(data["expires_at"], "data.expires_at")
    if data["expires_at"] is not None and data["expires_at"] <= event.at_ms:
        raise Refusal("expired", "data.expires_at", "it would have ended before it begins")


def locked(event: AppEvent, view: View) -> Decision:
    """Pending USER → ESCROW."""
    data = event.data
    acts(event, data["owner"])
    if view.get("escrow", event.key) is not None:
        raise Refusal("already_locked", KEY, f"{event.key} is another escrow")
    of, amount = party(view, "USER", data["asset"], data["owner"], "data.owner"), units(event)
    value: Value = {
        "owner": data["owner"], "asset": data["asset"], "amount": text(amount, data["asset"]), "state": "LOCKED",
        "beneficiary": data["beneficiary"], "recipient": None, "released": "0", "expires_ms": data["expires_at"],
        "created_ms": event.at_ms, "updated_ms": event.at_ms,
    }  # fmt: skip
    if data["expires_at"] is not None:
        lapse = {"reason": "ended"}
        value[DUE] = {"at_ms": data["expires_at"], "type": "ESCROW_LAPSED", "data": lapse}
    asked = flow(
        event, Kind.LOCK, asset=data["asset"], amount=amount, debtor=of, subject=event.key,
        expires_ms=data["expires_at"] or 0,
    )  # fmt: skip
    held_open = with_open(view, data["asset"], data["owner"], 1)
    return Decision([Change("escrow", event.key, value), held_open], asked)


def check_released(event: AppEvent) -> None:
    """Who is paid. Raises Refusal."""
    check_key(event)
    check_text(event.data["recipient"], "data.recipient")
    check_type(event.data["recipient_type"], "data.recipient_type")


def released(event: AppEvent, view: View) -> Decision:
    """Posts the lock and pays out of ESCROW; the rest is the owner's again."""
    data, value = event.data, _open(event, view)
    acts(event, value["owner"])
    if value["beneficiary"] not in (None, data["recipient"]):
        raise Refusal("other_party", "data.recipient", f"{event.key} is for {value['beneficiary']}")
    if value["expires_ms"] is not None and event.at_ms >= value["expires_ms"]:
        raise Refusal("expired", "at", f"{event.key} ended at {value['expires_ms']}")
    asset, amount = value["asset"], held(value["amount"], value["asset"])
    if data["amount"] is not None:
        whole, amount = amount, parse(data["amount"], asset, "data.amount")
        if amount > whole:
            raise Refusal("exceeds_lock", "data.amount", f"{data['amount']} of {value['amount']} locked")
        if amount < whole and event.user_id and value["beneficiary"] is not None:
            detail = f"all {value['amount']} are promised to {value['beneficiary']}: only a service releases a part"
            raise Refusal("less_than_promised", "data.amount", detail)
    to = party(view, data["recipient_type"], asset, data["recipient"], "data.recipient")
    after = _ended(event, value, "RELEASED")
    after |= {"recipient": data["recipient"], "released": text(amount, asset)}
    asked = flow(
        event,
        Kind.RELEASE,
        asset=asset,
        amount=amount,
        debtor=Party(value["owner"]),
        creditor=to,
        subject=event.key,
    )
    return Decision([Change("escrow", event.key, after), _closed(view, value)], asked)


def voided(event: AppEvent, view: View) -> Decision:
    """All goes back to the owner before the end."""
    value = _open(event, view)
    acts(event, value["beneficiary"] or value["owner"])
    return _back(event, view, value, Kind.VOID, "VOIDED")


def lapsed(event: AppEvent, view: View) -> Decision:
    """All goes back to the owner from the end on."""
    value = _open(event, view)
    end = value["expires_ms"]
    if end is None or event.reached_ms < end:
        raise Refusal("not_expired", "at", f"{event.key} {'has no end' if end is None else f'ends at {end}'}")
    return _back(event, view, value, Kind.LAPSE, "LAPSED")


def _back(event: AppEvent, view: View, value: Value, kind: Kind, state: str) -> Decision:
    asked = flow(
        event, kind, asset=value["asset"], amount=held(value["amount"], value["asset"]),
        debtor=Party(value["owner"]), subject=event.key,
    )  # fmt: skip
    after = _ended(event, value, state)
    return Decision([Change("escrow", event.key, after), _closed(view, value)], asked)


def _closed(view: View, value: Value) -> Change:
    return with_open(view, value["asset"], value["owner"], -1)


def _open(event: AppEvent, view: View) -> Value:
    """The escrow, still locked, at its last step's time or later. Raises Refusal."""
    value = one(view, "escrow", event.key, KEY)
    if value["state"] != "LOCKED":
        raise Refusal("illegal_transition", "type", f"{event.key} is {value['state']}, no longer LOCKED")
    in_order(event, value["updated_ms"])
    return value


def _ended(event: AppEvent, value: Value, state: str) -> Value:
    after = {**value, "state": state, "updated_ms": event.at_ms}
    after.pop(DUE, None)
    return after
