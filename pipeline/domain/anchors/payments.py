"""Money in, out and across: deposits, withdrawals, payments and refunds, fees, settlements.

Each is one flow of S4's. A payment and a settlement are states under their event's id, for what refers to them: all
refunds together are at most the payment, a settlement is reversed once and whole. The books judge the same by marks.
"""

from __future__ import annotations

from pipeline.domain.anchors.parties import TYPES, acts, check_key, check_type, flow, party, units
from pipeline.domain.applications.event import AppEvent, Change, Decision, Refusal, View, one
from pipeline.domain.flows.events import EventName, Kind, Party
from pipeline.domain.positions.money import held, parse, text
from pipeline.domain.positions.registry import check_text


def deposited(event: AppEvent, view: View) -> Decision:
    """TREASURY → customer."""
    data = event.data
    to = party(view, data["account_type"], data["asset"], data["owner"], "data.owner")
    return Decision(flow=flow(event, Kind.DEPOSIT, asset=data["asset"], amount=units(event), creditor=to))


def withdrawn(event: AppEvent, view: View) -> Decision:
    """Customer → TREASURY."""
    data = event.data
    acts(event, data["owner"])
    of = party(view, data["account_type"], data["asset"], data["owner"], "data.owner")
    return Decision(flow=flow(event, Kind.WITHDRAWAL, asset=data["asset"], amount=units(event), debtor=of))


def fee_charged(event: AppEvent, view: View) -> Decision:
    """Customer → FEE_POOL."""
    data = event.data
    of = party(view, data["account_type"], data["asset"], data["owner"], "data.owner")
    return Decision(flow=flow(event, Kind.FEE, asset=data["asset"], amount=units(event), debtor=of))


def check_paid(event: AppEvent) -> None:
    """Two parties and an amount. Raises Refusal."""
    check_key(event)
    data = event.data
    check_text(data["payer"], "data.payer")
    check_text(data["payee"], "data.payee")
    check_type(data["payee_type"], "data.payee_type")
    units(event)
    if (data["payer"], "USER") == (data["payee"], data["payee_type"]):
        raise Refusal("same_account", "data.payee", f"{data['payee']} is on both sides")


def paid(event: AppEvent, view: View) -> Decision:
    """USER → customer; the payment's id is its event's."""
    data = event.data
    acts(event, data["payer"])
    of = party(view, "USER", data["asset"], data["payer"], "data.payer")
    to = party(view, data["payee_type"], data["asset"], data["payee"], "data.payee")
    amount = units(event)
    whole = text(amount, data["asset"])
    value = {
        "payer": data["payer"], "payee": data["payee"], "payee_type": data["payee_type"], "asset": data["asset"],
        "amount": whole, "refundable": whole, "created_ms": event.at_ms, "updated_ms": event.at_ms,
    }  # fmt: skip
    asked = flow(event, Kind.PAYMENT, asset=data["asset"], amount=amount, debtor=of, creditor=to)
    return Decision([Change("payment", event.id, value)], asked)


def check_reference(event: AppEvent) -> None:
    """An event is referred to. Raises Refusal."""
    check_key(event)
    check_text(event.data["reference"], "data.reference")


def refunded(event: AppEvent, view: View) -> Decision:
    """Back from who was paid to who paid, at most what was not refunded before."""
    data = event.data
    value = one(view, "payment", data["reference"], "data.reference")
    acts(event, value["payee"])
    asset, amount = value["asset"], parse(data["amount"], value["asset"], "data.amount")
    rest = held(value["refundable"], asset) - amount
    if rest < 0:
        detail = f"{data['amount']} where {value['refundable']} of {value['amount']} is left to refund"
        raise Refusal("exceeds_payment", "data.amount", detail)
    after = {**value, "refundable": text(rest, asset), "updated_ms": event.at_ms}
    asked = flow(
        event, Kind.REFUND, asset=asset, amount=amount, reference=_named(event, data["reference"]),
        debtor=Party(value["payee"], TYPES[value["payee_type"]]), creditor=Party(value["payer"]),
    )  # fmt: skip
    return Decision([Change("payment", data["reference"], after)], asked)


def check_settled(event: AppEvent) -> None:
    """A merchant and an amount. Raises Refusal."""
    check_key(event)
    check_text(event.data["merchant"], "data.merchant")
    units(event)


def settled(event: AppEvent, view: View) -> Decision:
    """MERCHANT → TREASURY: paid out in the real world; the settlement's id is its event's."""
    data, amount = event.data, units(event)
    of = party(view, "MERCHANT", data["asset"], data["merchant"], "data.merchant")
    value = {
        "merchant": data["merchant"], "asset": data["asset"], "amount": text(amount, data["asset"]),
        "state": "SETTLED", "created_ms": event.at_ms, "updated_ms": event.at_ms,
    }  # fmt: skip
    asked = flow(event, Kind.SETTLE, asset=data["asset"], amount=amount, debtor=of)
    return Decision([Change("settlement", event.id, value)], asked)


def settlement_reversed(event: AppEvent, view: View) -> Decision:
    """TREASURY → MERCHANT: the whole settlement back, once."""
    reference = event.data["reference"]
    value = one(view, "settlement", reference, "data.reference")
    if value["state"] != "SETTLED":
        raise Refusal("illegal_transition", "data.reference", f"{reference} was reversed before")
    asked = flow(
        event, Kind.REVERSE, asset=value["asset"], amount=held(value["amount"], value["asset"]),
        creditor=Party(value["merchant"], TYPES["MERCHANT"]), reference=_named(event, reference),
    )  # fmt: skip
    after = {**value, "state": "REVERSED", "updated_ms": event.at_ms}
    return Decision([Change("settlement", reference, after)], asked)


def _named(event: AppEvent, id: str) -> EventName:
    """How the books know an event of this topic."""
    return event.name._replace(key=id)
