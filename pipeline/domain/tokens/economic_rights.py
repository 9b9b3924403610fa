"""Reputation, rights and votes: tokens that never move between accounts (seeds/S3-token-ledger.txt).

Reputation goes up and down, never below 0. A right's weight is GOVERNANCE, issued with the grant and redeemed with
its revocation or at its end. Who holds a right to vote has one vote per proposal, of the weight that the right has.
"""

from __future__ import annotations

from typing import Final

from pipeline.domain.applications.event import AppEvent, Change, Decision, Refusal, Value, View, one
from pipeline.domain.tokens import accounts, money, types
from pipeline.domain.tokens.accounts import Posting
from pipeline.domain.tokens.economic_positions import KIND, position, unblocked
from pipeline.domain.tokens.operational_terms import code, not_before

VOTE: Final = "vote"
RIGHTS: Final = (VOTE, "propose", "object", "moderate")
CHOICES: Final = ("for", "against", "abstain", "consent", "object")


def check_reputation(event: AppEvent) -> None:
    """A change that is not 0, and its reason."""
    if money.units(event.data["change"], "data.change") == 0:
        raise Refusal("amount_not_positive", "data.change", "0 changes nothing")
    code(event.data["reason"], "data.reason")


def reputation_updated(event: AppEvent, view: View) -> Decision:
    """REPUTATION is issued or redeemed."""
    accounts.usable(view, event.key)
    add, id = money.units(event.data["change"], "data.change"), f"reputation:{event.key}"
    before = unblocked(view, id, "account_id")
    after = (money.units(before["amount"]) if before else 0) + add
    if after < 0:
        raise Refusal("reputation_below_zero", "data.change", f"the score would be {money.text(after)}")
    posting = Posting(event, view)
    put = posting.issue if add > 0 else posting.redeem
    put(event.key, types.REPUTATION, abs(add), "data.change")
    reference = (event.data["reference_type"] or "", event.data["reference_id"] or "")
    value = position(
        event,
        event.key,
        "reputation",
        types.REPUTATION,
        after,
        before,
        reference,
        reason=event.data["reason"],
    )
    value["status"] = "active"  # a score of 0 is one
    return posting.decision(Change(KIND, id, value))


def check_granted(event: AppEvent) -> None:
    """The right, its weight and its end."""
    data = event.data
    accounts.check_id(data["right_id"], "data.right_id")
    accounts.check_choice(data["right"], RIGHTS, "data.right")
    money.positive(data["weight"], "data.weight")
    if data["expires_at"] is not None and data["expires_at"] <= event.at_ms:
        raise Refusal("expired", "data.expires_at", "it would have ended before it begins")


def right_granted(event: AppEvent, view: View) -> Decision:
    """A right for the account; its end, where it has one, is told by the clock."""
    accounts.usable(view, event.key)
    data, id = event.data, event.data["right_id"]
    if view.get("governance_right", id) is not None:
        raise Refusal("already_there", "data.right_id", f"right {id} is there already")
    weight = money.positive(data["weight"], "data.weight")
    right = {
        "account_id": event.key, "right": data["right"], "proposal_id": data["proposal_id"],
        "weight": money.text(weight), "granted_ms": event.at_ms, "expires_ms": data["expires_at"],
        "status": "active", "updated_ms": event.at_ms,
    }  # fmt: skip
    if data["expires_at"] is not None:
        right["due"] = {
            "at_ms": data["expires_at"], "type": "GOVERNANCE_RIGHT_REVOKED", "key": event.key,
            "data": {"right_id": id, "reason": "expired"},
        }  # fmt: skip
    posting = Posting(event, view)
    posting.issue(event.key, types.GOVERNANCE, weight, "data.weight")
    reference = ("proposal", data["proposal_id"]) if data["proposal_id"] else ("", "")
    value = position(event, event.key, "governance", types.GOVERNANCE, weight, None, reference)
    return posting.decision(Change("governance_right", id, right), Change(KIND, f"governance:{id}", value))


def check_revoked(event: AppEvent) -> None:
    """The reason."""
    code(event.data["reason"], "data.reason")


def _right(event: AppEvent, view: View) -> tuple[str, Value]:
    id = event.data["right_id"]
    found = one(view, "governance_right", id, "data.right_id")
    if found["account_id"] != event.key:
        raise Refusal("not_owner", "data.right_id", f"right {id} is another account's")
    return id, found


def right_revoked(event: AppEvent, view: View) -> Decision:
    """The right ends; votes that were cast stay. Also of a blocked account: nothing of it moves to another."""
    id, right = _right(event, view)
    if right["status"] != "active":
        raise Refusal("illegal_transition", "data.right_id", f"right {id} has ended already")
    place, weight = f"governance:{id}", money.units(right["weight"])
    held = one(view, KIND, place, "data.right_id")
    posting = Posting(event, view)
    posting.redeem(event.key, types.GOVERNANCE, weight, "data.right_id")
    ended = {name: of for name, of in right.items() if name != "due"}
    ended |= {"status": "ended", "ended_ms": event.at_ms, "updated_ms": event.at_ms}
    closed = {**held, "amount": "0", "status": "closed", "updated_ms": event.at_ms}
    return posting.decision(Change("governance_right", id, ended), Change(KIND, place, closed))


def check_vote(event: AppEvent) -> None:
    """The proposal and the choice."""
    code(event.data["proposal_id"], "data.proposal_id")
    accounts.check_choice(event.data["choice"], CHOICES, "data.choice")


def vote_cast(event: AppEvent, view: View) -> Decision:
    """One vote of the account on a proposal. A proposal that the ledger knows must be made by then, and open."""
    accounts.own(event, accounts.usable(view, event.key))
    (right_id, right), proposal = _right(event, view), event.data["proposal_id"]
    unblocked(view, f"governance:{right_id}", "data.right_id")
    if right["right"] != VOTE:
        raise Refusal("no_right", "data.right_id", f"right {right_id} is to {right['right']}, not to vote")
    ended = right["expires_ms"] is not None and event.at_ms >= right["expires_ms"]
    if right["status"] != "active" or ended or event.at_ms < right["granted_ms"]:
        raise Refusal("no_right", "data.right_id", f"right {right_id} does not hold at that time")
    if right["proposal_id"] not in (None, proposal):
        raise Refusal(
            "no_right", "data.proposal_id", f"right {right_id} is for proposal {right['proposal_id']}"
        )
    known = view.get("proposal", proposal)
    if known is not None:
        not_before(event, known, f"proposal {proposal}")
        if known["status"] != "open":
            raise Refusal("proposal_closed", "data.proposal_id", f"proposal {proposal} is {known['status']}")
    id = f"{proposal}:{event.key}"
    if view.get("vote", id) is not None:
        raise Refusal("already_voted", "data.proposal_id", f"account {event.key} has voted on {proposal}")
    vote = {
        "proposal_id": proposal, "account_id": event.key, "right_id": right_id, "choice": event.data["choice"],
        "weight": right["weight"], "cast_ms": event.at_ms,
    }  # fmt: skip
    return Decision([Change("vote", id, vote)])
