"""Associations, members, patients and their prescriptions: S3's operational facts about persons.

A person is a reference; what is known of one stands in people.data.v1 and can be erased there, these states stay
valid without it. Validity is judged by the event's own time.
"""

from __future__ import annotations

from pipeline.domain.applications.event import AppEvent, Change, Decision, Refusal, Value, View, one
from pipeline.domain.tokens import money
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


def association_created(event: AppEvent, view: View) -> Decision:
    """State association {title, document_hash, salt_id}."""
    new(view, "association", event.key)
    return Decision([Change("association", event.key, dict(event.data))])


def member_created(event: AppEvent, view: View) -> Decision:
    """State member {association_id, person, document_hash, salt_id}; a person is a member of an association once."""
    named(event, view, "association", "association_id")
    new(view, "member", event.key)
    seat = f"{event.data['association_id']}/{event.data['person']}"
    taken = view.get("membership", seat)
    if taken is not None:
        raise Refusal(
            "already_member", "data.person", f"is member {taken['member_id']} of the association already"
        )
    return Decision(
        [
            Change("member", event.key, dict(event.data)),
            Change("membership", seat, {"member_id": event.key}),
        ]
    )


def patient_approved(event: AppEvent, view: View) -> Decision:
    """State patient {association_id, document_hash, salt_id, approved_ms, valid_until_ms}; renewed at its end."""
    member = one(view, "member", event.key, KEY)
    same_association(event_association(event), member, "data.association_id")
    before, until = view.get("patient", event.key), event.data["valid_until"]
    if before is not None and not over(before, event.at_ms):
        raise Refusal("illegal_transition", KEY, f"member {event.key} is an approved patient already")
    if until is not None and until <= event.at_ms:
        raise Refusal("expired", "data.valid_until", "the approval would have ended before it begins")
    patient = {
        "association_id": member["association_id"],
        "document_hash": event.data["document_hash"],
        "salt_id": event.data["salt_id"],
        "approved_ms": event.at_ms,
        "valid_until_ms": until,
    }
    return Decision([Change("patient", event.key, patient)])


def prescription_registered(event: AppEvent, view: View) -> Decision:
    """State prescription {patient_id, association_id, item, unit, quantity, dispensed, dispensation_max, …}."""
    data = event.data
    new(view, "prescription", event.key)
    patient = approved_patient(event, view, data["patient_id"], "data.patient_id")
    most = data["dispensation_max"]
    prescription = {
        "patient_id": data["patient_id"],
        "association_id": patient["association_id"],
        "item": data["item"],
        "unit": data["unit"],
        "quantity": money.text(money.positive(data["quantity"], "data.quantity")),
        "dispensation_max": most and money.text(money.positive(most, "data.dispensation_max")),
        "dispensed": "0",
        "valid_from_ms": data["valid_from"],
        "valid_until_ms": data["valid_until"],
        "document_hash": data["document_hash"],
        "salt_id": data["salt_id"],
    }
    return Decision([Change("prescription", event.key, prescription)])


def approved_patient(event: AppEvent, view: View, id: str, field: str) -> Value:
    """The patient, approved at the event's time. Raises Refusal (not_a_patient, unknown_member)."""
    one(view, "member", id, field)
    patient = view.get("patient", id)
    if patient is None or over(patient, event.at_ms) or event.at_ms < patient["approved_ms"]:
        raise Refusal("not_a_patient", field, f"member {id} is no approved patient at that time")
    return patient


def covered(event: AppEvent, view: View, id: str, stock: Value, amount: int) -> Value:
    """The prescription that covers an amount of a stock at the event's time. Raises Refusal."""
    field = "data.prescription_id"
    prescription = one(view, "prescription", id, field)
    same_association(stock, prescription, field)
    if event.at_ms < prescription["valid_from_ms"] or over(prescription, event.at_ms):
        raise Refusal("prescription_not_valid", field, f"prescription {id} is not valid at that time")
    approved_patient(event, view, prescription["patient_id"], field)
    if (prescription["item"], prescription["unit"]) != (stock["item"], stock["unit"]):
        raise Refusal(
            "other_item",
            "data.item",
            f"prescription {id} is for {prescription['item']} in {prescription['unit']}",
        )
    left = held(prescription, "quantity") - held(prescription, "dispensed")
    no_more(amount, left, "over_prescription", "data.quantity", f"what prescription {id} still allows")
    if prescription["dispensation_max"] is not None:
        most = held(prescription, "dispensation_max")
        no_more(amount, most, "over_prescription", "data.quantity", f"prescription {id} allows at once")
    return prescription


def over(state: Value, at_ms: int) -> bool:
    """Whether the validity of a state has ended by then."""
    return state["valid_until_ms"] is not None and state["valid_until_ms"] <= at_ms


def event_association(event: AppEvent) -> Value:
    """What same_association compares of an event."""
    return {"association_id": event.data["association_id"]}


def _period(event: AppEvent) -> None:
    if event.data["valid_from"] >= event.data["valid_until"]:
        raise Refusal("bad_time", "data.valid_until", "must be after valid_from")


check_association = checked(titles=("title",), hashes=("document_hash",), references=("salt_id",))
check_member = checked(
    key=reference,
    codes=("association_id",),
    persons=("person",),
    references=("salt_id",),
    hashes=("document_hash",),
)
check_patient = checked(
    key=reference, codes=("association_id",), references=("salt_id",), hashes=("document_hash",)
)
check_prescription = checked(
    key=reference,
    references=("patient_id", "salt_id"),
    codes=("item", "unit"),
    quantities=("quantity", "dispensation_max"),
    hashes=("document_hash",),
    also=_period,
)
