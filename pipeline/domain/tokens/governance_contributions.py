"""Contributions, their reviews, compensation and scores: S3's contribution economy.

A contribution asks for CONTRIB, a token that never moves between accounts. Members of its circle review it, each once
with however many accounts, the contributor never; as many accepting reviews as the circle wants accept it, as many
rejecting ones reject it, and an accepted one is credited in the book of CONTRIB. A compensation pool and its
distributions are recorded, not paid: no money moves, but no more is distributed than the pool has. A reputation score
is recorded beside the token REPUTATION.
"""

from __future__ import annotations

from typing import Final

from pipeline.domain.applications.event import AppEvent, Change, Decision, Refusal, Value, View, one
from pipeline.domain.tokens import accounts, money
from pipeline.domain.tokens.governance import ACTING, acting, in_circle, own
from pipeline.domain.tokens.operational_terms import (
    KEY,
    checked,
    held,
    named,
    new,
    no_more,
    not_before,
    same_association,
)
from pipeline.domain.tokens.types import CONTRIB

ACCEPTED: Final = "accepted"
REJECTED: Final = "rejected"
VERDICTS: Final = (ACCEPTED, REJECTED)
OPEN: Final = "open"


def contribution_entered(event: AppEvent, view: View) -> Decision:
    """State contribution_entry {circle_id, contributor, amount, status open|accepted|rejected, reviewers, …}."""
    data = event.data
    circle = named(event, view, "circle", "circle_id")
    new(view, "contribution_entry", event.key)
    _at_home(own(event, view, "contributor"), circle)
    entry = {
        "association_id": circle["association_id"],
        **{name: data[name] for name in ("circle_id", "contributor", "document_hash", "salt_id")},
        "amount": money.text(money.positive(data["amount"])),
        "status": OPEN,
        "accepted": 0,
        "rejected": 0,
        "reviewers": [],  # owners, not accounts
        "at_ms": event.at_ms,
    }
    return Decision([Change("contribution_entry", event.key, entry)])


def contribution_reviewed(event: AppEvent, view: View) -> Decision:
    """State contribution_review <entry>/<reviewer> {verdict, at_ms}; the last accepting one issues CONTRIB."""
    verdict, entry = event.data["verdict"], one(view, "contribution_entry", event.key, KEY)
    if entry["status"] != OPEN:
        raise Refusal("illegal_transition", KEY, f"contribution {event.key} is {entry['status']}")
    reviewer = in_circle(event, view, entry["circle_id"], "reviewer")
    contributor = accounts.usable(view, entry["contributor"], KEY)
    not_before(event, entry, f"contribution {event.key}")
    id, owner = f"{event.key}/{event.data['reviewer']}", reviewer["owner_id"]
    reviewers = entry.get("reviewers", [])  # an entry that a former release began names none
    if entry["contributor"] == event.data["reviewer"] or owner == contributor["owner_id"]:
        raise Refusal("own_contribution", "data.reviewer", "nobody reviews a contribution of their own")
    if owner in reviewers or view.get("contribution_review", id) is not None:
        raise Refusal("already_reviewed", "data.reviewer", f"{owner} has reviewed {event.key} already")
    circle = one(view, "circle", entry["circle_id"], KEY)
    entry = {**entry, verdict: entry[verdict] + 1, "reviewers": [*reviewers, owner]}
    posting = accounts.Posting(event, view)
    if entry[verdict] >= circle["reviews_required"]:
        entry["status"] = verdict
        if verdict == ACCEPTED:
            posting.issue(entry["contributor"], CONTRIB, held(entry, "amount"), KEY)
    review = {
        "entry_id": event.key,
        "reviewer": event.data["reviewer"],
        "verdict": verdict,
        "at_ms": event.at_ms,
    }
    return posting.decision(
        Change("contribution_entry", event.key, entry), Change("contribution_review", id, review)
    )


def compensation_pool_created(event: AppEvent, view: View) -> Decision:
    """State compensation_pool {circle_id, association_id, currency, amount, distributed, status recorded}."""
    data = event.data
    circle = named(event, view, "circle", "circle_id")
    new(view, "compensation_pool", event.key)
    acting(event, view, data["circle_id"])
    pool = {
        "circle_id": data["circle_id"],
        "association_id": circle["association_id"],
        "currency": data["currency"],
        "amount": money.text(money.positive(data["amount"])),
        "distributed": "0",
        "status": "recorded",
    }
    return Decision([Change("compensation_pool", event.key, pool)])


def compensation_distributed(event: AppEvent, view: View) -> Decision:
    """State compensation_distribution {pool_id, contributor, amount, currency, status recorded, at_ms}."""
    data, pool = event.data, one(view, "compensation_pool", event.key, KEY)
    id, amount = data["distribution_id"], money.positive(data["amount"])
    new(view, "compensation_distribution", id, "data.distribution_id")
    acting(event, view, pool["circle_id"])
    _at_home(accounts.usable(view, data["contributor"], "data.contributor"), pool)
    distributed = held(pool, "distributed")
    left = held(pool, "amount") - distributed
    no_more(amount, left, "over_pool", "data.amount", f"what is left of pool {event.key}")
    distribution = {
        "pool_id": event.key,
        "association_id": pool["association_id"],
        "contributor": data["contributor"],
        "amount": money.text(amount),
        "currency": pool["currency"],
        "status": "recorded",
        "at_ms": event.at_ms,
    }
    pool = {**pool, "distributed": money.text(distributed + amount)}
    return Decision(
        [Change("compensation_distribution", id, distribution), Change("compensation_pool", event.key, pool)]
    )


def reputation_scored(event: AppEvent, view: View) -> Decision:
    """State reputation_score {account_id, score, method, at_ms}; an older score never replaces a newer one."""
    accounts.known(view, event.key)
    before = view.get("reputation_score", event.key)
    if before is not None and event.at_ms <= before["at_ms"]:
        raise Refusal("not_newer", "at", f"account {event.key} has a score of the same time or later")
    score = {
        "account_id": event.key,
        "score": money.text(money.not_negative(event.data["score"], "data.score")),
        "method": event.data["method"],
        "at_ms": event.at_ms,
    }
    return Decision([Change("reputation_score", event.key, score)])


def _at_home(account: Value, home: Value) -> None:
    """Refuses a contributor of another association."""
    if account["association_id"] is not None:
        same_association(home, account, "data.contributor")


def _verdict(event: AppEvent) -> None:
    if event.data["verdict"] not in VERDICTS:
        raise Refusal("bad_choice", "data.verdict", f"must be one of {', '.join(VERDICTS)}")


check_entered = checked(
    codes=("circle_id", "contributor"),
    quantities=("amount",),
    hashes=("document_hash",),
    references=("salt_id",),
)
check_reviewed = checked(codes=("reviewer",), also=_verdict)
check_pool = checked(codes=("circle_id", "currency", ACTING), quantities=("amount",))
check_distributed = checked(codes=("distribution_id", "contributor", ACTING), quantities=("amount",))
check_scored = checked(codes=("method",), scores=("score",))
