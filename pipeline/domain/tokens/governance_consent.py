"""Tensions, proposals, objections, decisions: how a circle decides by consent (S3, governance layer).

A proposal is open until a decision closes it. Consent is the absence of objections: a decision by consent must take
in every objection that was raised. What answers another (a proposal to a tension, an objection, a decision) does not
come before it, by event time. Texts stay out, they may speak of persons: an event has the salted hash of each.
"""

from __future__ import annotations

from typing import Final

from pipeline.domain.applications.event import AppEvent, Change, Decision, Refusal, Value, View, one
from pipeline.domain.tokens.governance import in_circle
from pipeline.domain.tokens.operational_terms import KEY, Wanted, checked, named, new, not_before

OPEN: Final = "open"
CONSENTED: Final = "consented"
OUTCOMES: Final = (CONSENTED, "rejected", "withdrawn")
HASH: Final[Wanted] = ("document_hash",)
SALT: Final[Wanted] = ("salt_id",)


def tension_raised(event: AppEvent, view: View) -> Decision:
    """State tension {circle_id, association_id, raised_by, document_hash, salt_id, status open|resolved, at_ms}."""
    new(view, "tension", event.key)
    return Decision([Change("tension", event.key, {**_said(event, view, "raised_by"), "status": OPEN})])


def proposal_made(event: AppEvent, view: View) -> Decision:
    """State proposal {…, tension_id, status open|consented|rejected|withdrawn, objections [], decision_id}."""
    new(view, "proposal", event.key)
    proposal = _said(event, view, "proposed_by")
    tension_id = event.data["tension_id"]
    if tension_id is not None:
        tension = named(event, view, "tension", "tension_id")
        if tension["circle_id"] != proposal["circle_id"]:
            raise Refusal(
                "other_circle", "data.tension_id", f"tension {tension_id} is of {tension['circle_id']}"
            )
        if tension["status"] != OPEN:
            raise Refusal(
                "illegal_transition", "data.tension_id", f"tension {tension_id} is {tension['status']}"
            )
        not_before(event, tension, f"tension {tension_id}")
    more = {"tension_id": tension_id, "status": OPEN, "objections": [], "decision_id": None}
    return Decision([Change("proposal", event.key, {**proposal, **more})])


def objection_raised(event: AppEvent, view: View) -> Decision:
    """State objection {proposal_id, raised_by, document_hash, salt_id, integrated, at_ms}; the proposal lists it."""
    data, proposal = event.data, open_proposal(event, view)
    id = data["objection_id"]
    new(view, "objection", id, "data.objection_id")
    in_circle(event, view, proposal["circle_id"], "raised_by")
    objection = {
        "proposal_id": event.key,
        **{name: data[name] for name in ("raised_by", *HASH, *SALT)},
        "integrated": False,
        "at_ms": event.at_ms,
    }
    listed = {**proposal, "objections": [*proposal["objections"], id]}
    return Decision([Change("objection", id, objection), Change("proposal", event.key, listed)])


def decision_taken(event: AppEvent, view: View) -> Decision:
    """State decision {proposal_id, circle_id, outcome, integrated_objections, …}; closes the proposal.

    Consent resolves the proposal's tension.
    """
    data, proposal = event.data, open_proposal(event, view)
    new(view, "decision", data["decision_id"], "data.decision_id")
    in_circle(event, view, proposal["circle_id"], "decided_by")
    integrated = _integrated(event, proposal)
    decision = {
        "proposal_id": event.key,
        "circle_id": proposal["circle_id"],
        **{name: data[name] for name in ("outcome", "decided_by", *HASH, *SALT)},
        "integrated_objections": integrated,
        "at_ms": event.at_ms,
    }
    closed = {**proposal, "status": data["outcome"], "decision_id": data["decision_id"]}
    changes = [Change("decision", data["decision_id"], decision), Change("proposal", event.key, closed)]
    for id in integrated:
        objection = one(view, "objection", id, KEY)
        not_before(event, objection, f"objection {id}")
        changes.append(Change("objection", id, {**objection, "integrated": True}))
    tension_id = proposal["tension_id"]
    if data["outcome"] == CONSENTED and tension_id is not None:
        tension = one(view, "tension", tension_id, KEY)
        changes.append(Change("tension", tension_id, {**tension, "status": "resolved"}))
    return Decision(changes)


def open_proposal(event: AppEvent, view: View) -> Value:
    """The event's proposal, made by then and still open. Raises Refusal."""
    proposal = one(view, "proposal", event.key, KEY)
    if proposal["status"] != OPEN:
        raise Refusal("illegal_transition", KEY, f"proposal {event.key} is {proposal['status']}")
    not_before(event, proposal, f"proposal {event.key}")
    return proposal


def _said(event: AppEvent, view: View, by: str) -> Value:
    """What a tension and a proposal have in common, said by somebody of the circle."""
    circle = named(event, view, "circle", "circle_id")
    in_circle(event, view, event.data["circle_id"], by)
    return {
        **{name: event.data[name] for name in ("circle_id", by, *HASH, *SALT)},
        "association_id": circle["association_id"],
        "at_ms": event.at_ms,
    }


def _integrated(event: AppEvent, proposal: Value) -> list[str]:
    """The objections that the decision takes in, in the order in which they were raised."""
    field, told = "data.integrated_objections", set(event.data["integrated_objections"])
    strange = sorted(told - set(proposal["objections"]))
    if strange:
        raise Refusal("unknown_objection", field, f"{strange[0]} is no objection to proposal {event.key}")
    left = [id for id in proposal["objections"] if id not in told]
    if left and event.data["outcome"] == CONSENTED:
        raise Refusal("objections_open", field, f"no consent while {', '.join(left[:5])} is not integrated")
    return [id for id in proposal["objections"] if id in told]


def _outcome(event: AppEvent) -> None:
    if event.data["outcome"] not in OUTCOMES:
        raise Refusal("bad_choice", "data.outcome", f"must be one of {', '.join(OUTCOMES)}")


check_tension = checked(codes=("circle_id", "raised_by"), hashes=HASH, references=SALT)
check_proposal = checked(codes=("circle_id", "proposed_by", "tension_id"), hashes=HASH, references=SALT)
check_objection = checked(codes=("objection_id", "raised_by"), hashes=HASH, references=SALT)
check_decision = checked(
    codes=("decision_id", "integrated_objections", "decided_by"), hashes=HASH, references=SALT, also=_outcome
)
