"""Plans, inputs, batches, stock and what is dispensed of it: S3's operational facts about things.

Stock is kept per batch and item: 0 ≤ reserved ≤ on hand, in exact millionths. A reservation sets part of it aside
until it is dispensed or released. Only a batch that passed its quality check is dispensed; one that failed is blocked
for ever, what was reserved of it can only be released.
"""

from __future__ import annotations

from typing import Final

from pipeline.domain.applications.event import AppEvent, Change, Decision, Refusal, Value, View, one
from pipeline.domain.findings import alert
from pipeline.domain.tokens import money
from pipeline.domain.tokens.operational import covered
from pipeline.domain.tokens.operational_terms import (
    KEY,
    checked,
    held,
    named,
    new,
    no_more,
    reference,
    same_association,
)

PENDING: Final = "pending"
PASSED: Final = "passed"
FAILED: Final = "failed"
QUANTITY: Final = "data.quantity"


def cultivation_plan_created(event: AppEvent, view: View) -> Decision:
    """State cultivation_plan {association_id, item, quantity, unit, starts_ms, ends_ms}."""
    named(event, view, "association", "association_id")
    new(view, "cultivation_plan", event.key)
    data = event.data
    plan = {
        "association_id": data["association_id"],
        "item": data["item"],
        "quantity": money.text(money.positive(data["quantity"], QUANTITY)),
        "unit": data["unit"],
        "starts_ms": data["starts_at"],
        "ends_ms": data["ends_at"],
    }
    return Decision([Change("cultivation_plan", event.key, plan)])


def input_purchased(event: AppEvent, view: View) -> Decision:
    """State input {association_id, plan_id, supplier_id, item, quantity, unit, amount, currency}; not posted."""
    named(event, view, "association", "association_id")
    new(view, "input", event.key)
    if event.data["plan_id"] is not None:
        same_association(dict(event.data), named(event, view, "cultivation_plan", "plan_id"), "data.plan_id")
    exact = {
        name: money.text(money.positive(event.data[name], f"data.{name}")) for name in ("quantity", "amount")
    }
    return Decision([Change("input", event.key, {**event.data, **exact})])


def batch_created(event: AppEvent, view: View) -> Decision:
    """State batch {association_id, plan_id, input_ids, quality pending|passed|failed, check_id}."""
    new(view, "batch", event.key)
    plan = named(event, view, "cultivation_plan", "plan_id")
    for id in event.data["input_ids"]:
        same_association(plan, one(view, "input", id, "data.input_ids"), "data.input_ids")
    batch = {
        "association_id": plan["association_id"],
        "plan_id": event.data["plan_id"],
        "input_ids": list(event.data["input_ids"]),
        "quality": PENDING,
        "check_id": None,
    }
    return Decision([Change("batch", event.key, batch)])


def inventory_received(event: AppEvent, view: View) -> Decision:
    """State inventory <batch>/<item> {association_id, batch_id, item, unit, on_hand, reserved, location}; adds."""
    data, batch = event.data, open_batch(view, event.key, KEY)
    id = stock_id(event.key, data["item"])
    stock = view.get("inventory", id) or {
        "association_id": batch["association_id"],
        "batch_id": event.key,
        "item": data["item"],
        "unit": data["unit"],
        "on_hand": "0",
        "reserved": "0",
        "location": None,
    }
    if stock["unit"] != data["unit"]:
        raise Refusal(
            "other_unit", "data.unit", f"{data['item']} of batch {event.key} is counted in {stock['unit']}"
        )
    on_hand = held(stock, "on_hand") + money.positive(data["quantity"], QUANTITY)
    no_more(on_hand, money.UNITS_MAX, "over_numeric", QUANTITY, "numeric(20,6) holds")
    stock = {**stock, "on_hand": money.text(on_hand), "location": data["location"] or stock["location"]}
    return Decision([Change("inventory", id, stock)])


def inventory_reserved(event: AppEvent, view: View) -> Decision:
    """State reservation {association_id, batch_id, item, prescription_id, quantity (what it still holds), status}."""
    data, amount = event.data, money.positive(event.data["quantity"], QUANTITY)
    new(view, "reservation", event.key)
    open_batch(view, data["batch_id"], "data.batch_id")
    id, stock = _stock(event, view)
    if data["prescription_id"] is not None:
        covered(event, view, data["prescription_id"], stock, amount)
    free = held(stock, "on_hand") - held(stock, "reserved")
    no_more(amount, free, "insufficient_inventory", QUANTITY, f"what is free of {id}")
    reservation = {
        "association_id": stock["association_id"],
        "batch_id": data["batch_id"],
        "item": data["item"],
        "prescription_id": data["prescription_id"],
        "quantity": money.text(amount),
        "status": "open",
    }
    stock = {**stock, "reserved": money.text(held(stock, "reserved") + amount)}
    return Decision([Change("inventory", id, stock), Change("reservation", event.key, reservation)])


def inventory_released(event: AppEvent, view: View) -> Decision:
    """Frees what a reservation still holds, or part of it."""
    reservation = _open_reservation(view, event.key, KEY)
    holds = held(reservation, "quantity")
    told = event.data["quantity"]
    amount = holds if told is None else money.positive(told, QUANTITY)
    no_more(amount, holds, "over_reservation", QUANTITY, f"reservation {event.key} still holds")
    id = stock_id(reservation["batch_id"], reservation["item"])
    stock = one(view, "inventory", id, KEY)
    stock = {**stock, "reserved": money.text(held(stock, "reserved") - amount)}
    return Decision(
        [
            Change("inventory", id, stock),
            Change("reservation", event.key, _less(reservation, amount, "released")),
        ]
    )


def dispensation_recorded(event: AppEvent, view: View) -> Decision:
    """State dispensation {prescription_id, patient_id, batch_id, item, unit, quantity, reservation_id, at_ms}.

    Takes from the stock, from the reservation where it names one, and from what the prescription allows.
    """
    data, amount = event.data, money.positive(event.data["quantity"], QUANTITY)
    new(view, "dispensation", event.key)
    batch = open_batch(view, data["batch_id"], "data.batch_id")
    if batch["quality"] != PASSED:
        raise Refusal(
            "quality_not_passed", "data.batch_id", f"batch {data['batch_id']} has no passed quality check"
        )
    id, stock = _stock(event, view)
    prescription = covered(event, view, data["prescription_id"], stock, amount)
    changes = _taken(event, view, id, stock, amount)
    dispensed = money.text(held(prescription, "dispensed") + amount)
    dispensation = {
        **{name: data[name] for name in ("prescription_id", "batch_id", "item", "reservation_id")},
        "association_id": stock["association_id"],
        "patient_id": prescription["patient_id"],
        "unit": stock["unit"],
        "quantity": money.text(amount),
        "at_ms": event.at_ms,
    }
    changes.append(Change("prescription", data["prescription_id"], {**prescription, "dispensed": dispensed}))
    changes.append(Change("dispensation", event.key, dispensation))
    return Decision(changes)


def _taken(event: AppEvent, view: View, id: str, stock: Value, amount: int) -> list[Change]:
    """The stock, and the reservation if there is one, after an amount has left them."""
    on_hand, reserved = held(stock, "on_hand"), held(stock, "reserved")
    reservation_id = event.data["reservation_id"]
    if reservation_id is None:
        no_more(amount, on_hand - reserved, "insufficient_inventory", QUANTITY, f"what is free of {id}")
        return [Change("inventory", id, {**stock, "on_hand": money.text(on_hand - amount)})]
    reservation = _open_reservation(view, reservation_id, "data.reservation_id")
    if stock_id(reservation["batch_id"], reservation["item"]) != id:
        raise Refusal("other_item", "data.reservation_id", f"reservation {reservation_id} is not of {id}")
    if reservation["prescription_id"] not in (None, event.data["prescription_id"]):
        raise Refusal(
            "other_prescription",
            "data.reservation_id",
            f"reservation {reservation_id} is for another prescription",
        )
    holds = held(reservation, "quantity")
    no_more(amount, holds, "over_reservation", QUANTITY, f"reservation {reservation_id} still holds")
    stock = {**stock, "on_hand": money.text(on_hand - amount), "reserved": money.text(reserved - amount)}
    return [
        Change("inventory", id, stock),
        Change("reservation", reservation_id, _less(reservation, amount, "dispensed")),
    ]


def quality_check_passed(event: AppEvent, view: View) -> Decision:
    """The batch may be dispensed; one that has failed stays blocked."""
    batch = open_batch(view, event.key, KEY)
    return Decision(
        [Change("batch", event.key, {**batch, "quality": PASSED, "check_id": event.data["check_id"]})]
    )


def quality_check_failed(event: AppEvent, view: View) -> Decision:
    """The batch is blocked for ever, also after it had passed; alert batch_blocked."""
    batch = open_batch(view, event.key, KEY)
    data = event.data
    note = alert(
        "batch_blocked", "warning", "tokens", event.key, time=event.at_ms,
        evidence={"check": data["check_id"], "reason": data["reason_code"], "before": batch["quality"]},
    )  # fmt: skip
    blocked = {**batch, "quality": FAILED, "check_id": data["check_id"]}
    return Decision([Change("batch", event.key, blocked)], alerts=[note])


def open_batch(view: View, id: str, field: str) -> Value:
    """A batch that is not blocked. Raises Refusal (batch_blocked, unknown_batch)."""
    batch = one(view, "batch", id, field)
    if batch["quality"] == FAILED:
        raise Refusal("batch_blocked", field, f"batch {id} failed its quality check")
    return batch


def stock_id(batch_id: str, item: str) -> str:
    """Id of the state of an item of a batch."""
    return f"{batch_id}/{item}"


def _stock(event: AppEvent, view: View) -> tuple[str, Value]:
    id = stock_id(event.data["batch_id"], event.data["item"])
    return id, one(view, "inventory", id, "data.item")


def _open_reservation(view: View, id: str, field: str) -> Value:
    reservation = one(view, "reservation", id, field)
    if reservation["status"] != "open":
        raise Refusal("illegal_transition", field, f"reservation {id} is {reservation['status']}")
    return reservation


def _less(reservation: Value, amount: int, end: str) -> Value:
    left = held(reservation, "quantity") - amount
    return {**reservation, "quantity": money.text(left), "status": "open" if left else end}


def _plan_period(event: AppEvent) -> None:
    if event.data["starts_at"] >= event.data["ends_at"]:
        raise Refusal("bad_time", "data.ends_at", "must be after starts_at")


check_plan = checked(codes=("association_id", "item", "unit"), quantities=("quantity",), also=_plan_period)
check_input = checked(
    codes=("association_id", "plan_id", "supplier_id", "item", "unit", "currency"),
    quantities=("quantity", "amount"),
)
check_batch = checked(codes=("plan_id", "input_ids"))
check_received = checked(codes=("item", "unit", "location"), quantities=("quantity",))
check_reserved = checked(
    codes=("batch_id", "item"), references=("prescription_id",), quantities=("quantity",)
)
check_released = checked(quantities=("quantity",))
check_dispensation = checked(
    key=reference,
    codes=("batch_id", "item", "reservation_id"),
    references=("prescription_id",),
    quantities=("quantity",),
)
check_passed = checked(codes=("check_id",), hashes=("document_hash",), references=("salt_id",))
check_failed = checked(codes=("check_id", "reason_code"), hashes=("document_hash",), references=("salt_id",))
