"""Accounts, token types and what compliance knows of an account (seeds/S3-token-ledger.txt).

KYB ("know your business") is asked of associations, suppliers and infrastructure companies before they get credit;
members are persons, for whom there is no business to know.
"""

from __future__ import annotations

from typing import Final

from pipeline.domain.applications.event import AppEvent, Change, Decision, Refusal, Value, View, one
from pipeline.domain.tokens import accounts, types
from pipeline.domain.tokens.operational_terms import code, reference, title

KYB_STATUSES: Final = ("pending", "approved", "rejected", "expired")
KYB_OWNERS: Final = frozenset({"association", "supplier", "infra_company"})


def check_account_opened(event: AppEvent) -> None:
    """ids and the owner's type. A member is a person: its id is a reference made by chance."""
    accounts.check_id(event.key, "account_id")
    accounts.check_choice(event.data["owner_type"], types.OWNER_TYPES, "data.owner_type")
    is_person = event.data["owner_type"] == "member"
    (reference if is_person else code)(event.data["owner_id"], "data.owner_id")
    if event.data["association_id"] is not None:
        code(event.data["association_id"], "data.association_id")


def account_opened(event: AppEvent, view: View) -> Decision:
    """An economic account; an association's own is within itself."""
    if view.get("account", event.key) is not None:
        raise Refusal("already_open", "account_id", f"account {event.key} is there already")
    data = event.data
    home = data["association_id"]
    if data["owner_type"] == "association":
        if home not in (None, data["owner_id"]):
            raise Refusal("wrong_association", "data.association_id", "an association's account is its own")
        home = data["owner_id"]
    value = {
        "owner_type": data["owner_type"], "owner_id": data["owner_id"], "association_id": home,
        "status": accounts.ACTIVE, "reason": "", "token_types": [], "created_ms": event.at_ms,
        "updated_ms": event.at_ms,
    }  # fmt: skip
    return Decision([Change("account", event.key, value)])


def check_status_changed(event: AppEvent) -> None:
    """The status and its reason."""
    accounts.check_choice(event.data["status"], accounts.STATUSES, "data.status")
    code(event.data["reason"], "data.reason")


def account_status_changed(event: AppEvent, view: View) -> Decision:
    """active ↔ blocked; either → closed, for ever, where nothing is left in it."""
    found = one(view, "account", event.key, "account_id")
    before, after = found["status"], event.data["status"]
    if before == after or before == accounts.CLOSED:
        raise Refusal(
            "illegal_transition", "data.status", f"account {event.key} is {before}, not to be {after}"
        )
    if after == accounts.CLOSED:
        _empty(found, event.key, view)
    return Decision([Change("account", event.key, with_status(found, after, event))])


def with_status(account: Value, status: str, event: AppEvent) -> Value:
    """The account in another status, for the event's reason."""
    return {**account, "status": status, "reason": event.data["reason"], "updated_ms": event.at_ms}


def _empty(account: Value, id: str, view: View) -> None:
    for kind in account["token_types"]:
        held = view.get("balance", accounts.balance_id(id, kind))
        if held is not None and (held["available"] != "0" or held["locked"] != "0"):
            raise Refusal("not_empty", "account_id", f"account {id} still holds {kind}")
    credit = view.get("credit", id)
    if credit is not None and credit["outstanding"] != "0":
        raise Refusal("not_empty", "account_id", f"account {id} still owes {credit['outstanding']}")
    if credit is not None and credit["schedules"]:
        raise Refusal("not_empty", "account_id", f"account {id} has open payment schedules")


def check_type_registered(event: AppEvent) -> None:
    """The type's words; a financial type is refused whatever stands in the ledger."""
    data = event.data
    accounts.check_id(data["token_type_id"], "data.token_type_id")
    title(data["name"], "data.name")
    title(data["visible_label"], "data.visible_label")
    accounts.check_choice(data["transferability"], types.TRANSFERABILITIES, "data.transferability")
    accounts.check_choice(data["substance"], types.SUBSTANCES, "data.substance")
    for owner_type in data["allowed_owner_types"]:
        accounts.check_choice(owner_type, types.OWNER_TYPES, "data.allowed_owner_types")
    if event.key != data["token_type_id"]:
        raise Refusal("wrong_key", "account_id", "of a token type it is the token_type_id")
    types.refuse_financial(data)


def token_type_registered(event: AppEvent, view: View) -> Decision:
    """A further token type."""
    data, id = event.data, event.key
    if id in types.BUILT_IN or view.get("token_type", id) is not None:
        raise Refusal("already_registered", "data.token_type_id", f"token type {id} is there already")
    value = {
        "name": data["name"], "transferability": data["transferability"], "visible_label": data["visible_label"],
        "regulated_flag": False, "substance": data["substance"],
        "allowed_owner_types": sorted(set(data["allowed_owner_types"])), "built_in": False,
        "created_ms": event.at_ms,
    }  # fmt: skip
    return Decision([Change("token_type", id, value)])


def check_kyb_recorded(event: AppEvent) -> None:
    """The status; what it rests on is a reference."""
    accounts.check_choice(event.data["status"], KYB_STATUSES, "data.status")
    accounts.check_id(event.data["provider"], "data.provider")
    if event.data["expires_at"] is not None and event.data["expires_at"] <= event.at_ms:
        raise Refusal("expired", "data.expires_at", "it would have ended before it begins")


def kyb_recorded(event: AppEvent, view: View) -> Decision:
    """What compliance knows of an account from now on."""
    accounts.known(view, event.key)
    data = event.data
    value = {
        "account_id": event.key, "kyb_status": data["status"], "provider": data["provider"],
        "reference_id": data["reference_id"], "expires_ms": data["expires_at"], "updated_ms": event.at_ms,
    }  # fmt: skip
    return Decision([Change("compliance", event.key, value)])


def kyb_approved(event: AppEvent, view: View, account: Value) -> None:
    """Whether compliance lets the event's account have credit at the event's time. Raises Refusal (kyb_missing)."""
    if account["owner_type"] not in KYB_OWNERS:
        return
    found = view.get("compliance", event.key)
    if found is None or found["kyb_status"] != "approved":
        raise Refusal("kyb_missing", "account_id", f"account {event.key} has no approved KYB")
    if found["expires_ms"] is not None and event.at_ms >= found["expires_ms"]:
        raise Refusal("kyb_missing", "account_id", f"the KYB of account {event.key} has ended")
