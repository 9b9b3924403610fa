"""Risk: scores, limits, provisions, blocks (seeds/S3-token-ledger.txt, "Risk Engine").

A provision stands in a book of its own, `offchain/provision:<TYPE>`: TREASURY → ESCROW of the account, subject
`provision`. A calculation posts the difference to the one before, so the book holds what is provided for now.
"""

from __future__ import annotations

from typing import Final

from pipeline.domain.account import AccountCode, AccountRef, TransferCode
from pipeline.domain.applications.event import AppEvent, Change, Decision, Refusal, Value, View, one
from pipeline.domain.tokens import accounts, money, types
from pipeline.domain.tokens.accounts import Posting, credit_change, credit_of
from pipeline.domain.tokens.economic_accounts import kyb_approved, with_status
from pipeline.domain.tokens.economic_positions import KIND, ended, release, with_end
from pipeline.domain.tokens.operational_terms import code

SCORE_MAX: Final = 1000
PROVISION: Final = "provision"


def check_requested(event: AppEvent) -> None:
    """The assessment's id and what it is for."""
    accounts.check_id(event.data["assessment_id"], "data.assessment_id")
    code(event.data["purpose"], "data.purpose")


def assessment_requested(event: AppEvent, view: View) -> Decision:
    """An assessment that waits for its score."""
    accounts.own(event, accounts.known(view, event.key))
    id = event.data["assessment_id"]
    if view.get("risk_assessment", id) is not None:
        raise Refusal("already_there", "data.assessment_id", f"assessment {id} is there already")
    value = {
        "account_id": event.key, "purpose": event.data["purpose"], "status": "requested", "score": None,
        "model": None, "requested_ms": event.at_ms, "updated_ms": event.at_ms,
    }  # fmt: skip
    return Decision([Change("risk_assessment", id, value)])


def check_score(event: AppEvent) -> None:
    """The score's range."""
    if not 0 <= event.data["score"] <= SCORE_MAX:
        raise Refusal("bad_score", "data.score", f"{event.data['score']} is not 0 to {SCORE_MAX}")
    code(event.data["model"], "data.model")


def score_calculated(event: AppEvent, view: View) -> Decision:
    """The score of an assessment that was requested; calculated anew, the newer one counts."""
    accounts.known(view, event.key)
    id = event.data["assessment_id"]
    found = one(view, "risk_assessment", id, "data.assessment_id")
    if found["account_id"] != event.key:
        raise Refusal("not_owner", "data.assessment_id", f"assessment {id} is of another account")
    value = {
        **found, "status": "calculated", "score": event.data["score"], "model": event.data["model"],
        "updated_ms": event.at_ms,
    }  # fmt: skip
    return Decision([Change("risk_assessment", id, value)])


def check_limit(event: AppEvent) -> None:
    """The limit, and the reason of a lower one."""
    money.not_negative(event.data["limit"], "data.limit")
    if event.type == "CREDIT_LIMIT_REDUCED":
        code(event.data["reason"], "data.reason")


def limit_granted(event: AppEvent, view: View) -> Decision:
    """A higher limit, of an account with an approved KYB; an assessment that it names must have its score."""
    account, data = accounts.usable(view, event.key), event.data
    kyb_approved(event, view, account)
    credit, limit = credit_of(view, event.key), money.not_negative(data["limit"], "data.limit")
    if limit <= money.units(credit["limit"]):
        raise Refusal("not_a_grant", "data.limit", f"the limit is {credit['limit']} already")
    if data["assessment_id"] is not None:
        found = one(view, "risk_assessment", data["assessment_id"], "data.assessment_id")
        if found["account_id"] != event.key or found["status"] != "calculated":
            raise Refusal(
                "no_score", "data.assessment_id", f"{data['assessment_id']} has no score of this account"
            )
    return Decision([credit_change(event, credit, limit=money.text(limit))])


def limit_reduced(event: AppEvent, view: View) -> Decision:
    """A lower limit. Below what is owed nothing is taken back: no more is issued until less is owed."""
    accounts.known(view, event.key)
    credit, limit = credit_of(view, event.key), money.not_negative(event.data["limit"], "data.limit")
    if limit >= money.units(credit["limit"]):
        raise Refusal("not_a_reduction", "data.limit", f"the limit is {credit['limit']}")
    return Decision([credit_change(event, credit, limit=money.text(limit))])


def check_reason(event: AppEvent) -> None:
    """The reason."""
    code(event.data["reason"], "data.reason")


def position_blocked(event: AppEvent, view: View) -> Decision:
    """Nothing of a position moves until it is unblocked; without a position: nothing of the account."""
    account, id = accounts.known(view, event.key), event.data["position_id"]
    if id is None:
        if account["status"] == accounts.BLOCKED:
            raise Refusal("illegal_transition", "account_id", f"account {event.key} is blocked already")
        return Decision([Change("account", event.key, with_status(account, accounts.BLOCKED, event))])
    found = _position(event, view, id)
    if found["status"] != "active":
        raise Refusal("illegal_transition", "data.position_id", f"position {id} is {found['status']}")
    value = {name: of for name, of in found.items() if name != "due"}
    value |= {"status": accounts.BLOCKED, "reason": event.data["reason"], "updated_ms": event.at_ms}
    return Decision([Change(KIND, id, value)])


def position_unblocked(event: AppEvent, view: View) -> Decision:
    """It moves again; an escrow whose end has come meanwhile ends now: all goes back to the account."""
    account, id = accounts.known(view, event.key), event.data["position_id"]
    if id is None:
        if account["status"] != accounts.BLOCKED:
            raise Refusal("illegal_transition", "account_id", f"account {event.key} is not blocked")
        return Decision([Change("account", event.key, with_status(account, accounts.ACTIVE, event))])
    found = _position(event, view, id)
    if found["status"] != accounts.BLOCKED:
        raise Refusal(
            "illegal_transition", "data.position_id", f"position {id} is {found['status']}, not blocked"
        )
    value = {**found, "status": "active", "reason": event.data["reason"], "updated_ms": event.at_ms}
    if found["position_type"] == "escrow":
        escrow = id.removeprefix("escrow:")
        if ended(found, event.reached_ms):
            return release(event, view, value, escrow, money.units(found["amount"]), event.key)
        value = with_end(value, escrow, found["expires_ms"])
    return Decision([Change(KIND, id, value)])


def _position(event: AppEvent, view: View, id: str) -> Value:
    found = one(view, KIND, id, "data.position_id")
    if found["account_id"] != event.key:
        raise Refusal("not_owner", "data.position_id", f"position {id} is of another account")
    return found


def check_provision(event: AppEvent) -> None:
    """The amount, 0 where nothing is provided for any more."""
    money.not_negative(event.data["amount"])


def provision_calculated(event: AppEvent, view: View) -> Decision:
    """The provision for an account is that much from now on; the difference is posted."""
    one(view, "account", event.key, "account_id")
    kind, amount = event.data["token_type"], money.not_negative(event.data["amount"])
    types.token_type(view, kind)
    id = accounts.balance_id(event.key, kind)
    before = view.get(PROVISION, id)
    add = amount - (money.units(before["amount"]) if before else 0)
    asset = f"offchain/{PROVISION}:{kind}"
    source = AccountRef(asset, int(AccountCode.TREASURY), "")
    held = AccountRef(asset, int(AccountCode.ESCROW), event.key, PROVISION)
    posting = Posting(event, view)
    if add > 0:
        posting.leg(source, held, add, TransferCode.LOCK)
    elif add < 0:
        posting.leg(held, source, -add, TransferCode.UNLOCK)
    value = {
        "account_id": event.key, "token_type": kind, "amount": money.text(amount),
        "assessment_id": event.data["assessment_id"], "updated_ms": event.at_ms,
    }  # fmt: skip
    return posting.decision(Change(PROVISION, id, value))
