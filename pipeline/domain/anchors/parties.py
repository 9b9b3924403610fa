"""Who takes part: accounts in the books, merchants, attestors.

An account is USER or MERCHANT of an owner in one asset; it must be opened before anything is paid to it. Whether it is
frozen or closed the books judge at the moment of posting: the state here says it for readers. What the books do not
see is how many authorizations and escrows may still give a user something back (`open`): until then his account is not
closed, for nothing could be paid to it any more. What he has paid into positions they see, and refuse to close it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from pipeline.domain.account import AccountCode
from pipeline.domain.anchors.signature import check_public_key
from pipeline.domain.applications.event import AppEvent, Change, Decision, Refusal, Rule, Value, View, one
from pipeline.domain.flows.accounts import ANCHORS, account
from pipeline.domain.flows.events import FlowEvent, Kind, Party
from pipeline.domain.positions.money import parse, scale_of
from pipeline.domain.positions.registry import check_envelope, check_text

KEY: Final = "authorization_id"
TYPES: Final = {"USER": AccountCode.USER, "MERCHANT": AccountCode.MERCHANT}


def flow(event: AppEvent, kind: Kind, **said: Any) -> FlowEvent:
    """What an event asks of the books, under its own name and time."""
    return FlowEvent(kind=kind, name=event.name, time_ms=event.at_ms, **said)


def check_type(name: str, field: str) -> None:
    """Refuse an account type that customers do not have."""
    if name not in TYPES:
        raise Refusal("unknown_type", field, f"{name[:40]!r} is none of {', '.join(TYPES)}")


def party(view: View, type: str, asset: str, owner: str, field: str) -> Party:
    """A side of a flow: an account that was opened. Raises Refusal (unknown_account) naming `field`."""
    one(view, "account", account_id(type, asset, owner), field)
    return Party(owner, TYPES[type])


def account_id(type: str, asset: str, owner: str) -> str:
    """Id of an account's state, e.g. USER/SOVR/alice."""
    return f"{type}/{asset}/{owner}"


def with_open(view: View, asset: str, owner: str, more: int) -> Change:
    """A user's account with `more` authorizations and escrows that may still give it something back."""
    id = account_id("USER", asset, owner)
    held = one(view, "account", id, KEY)
    return Change("account", id, {**held, "open": held["open"] + more})


def acts(event: AppEvent, *owners: str | None) -> None:
    """A user acts for itself only; a service, which names no user, for all. Raises Refusal."""
    if event.user_id and event.user_id not in owners:
        raise Refusal("not_a_party", "user_id", f"{event.user_id} may not act here")


def check_key(event: AppEvent) -> None:
    """The event says what it is about, and when. Raises Refusal."""
    check_envelope(event, KEY)


def check_account(event: AppEvent) -> None:
    """Owner, type and asset of an account. Raises Refusal."""
    check_key(event)
    data = event.data
    check_text(data["owner"], "data.owner")
    check_type(data["account_type"], "data.account_type")
    scale_of(data["asset"], "data.asset")


def check_money(event: AppEvent) -> None:
    """An account and an amount. Raises Refusal."""
    check_account(event)
    units(event)


def units(event: AppEvent) -> int:
    """`data.amount` in smallest units of `data.asset`. Raises Refusal."""
    return parse(event.data["amount"], event.data["asset"], "data.amount", "data.asset")


def account_opened(event: AppEvent, view: View) -> Decision:
    """An account is there from now on; a merchant's only for who is registered as one."""
    data = event.data
    acts(event, data["owner"])
    id = account_id(data["account_type"], data["asset"], data["owner"])
    if view.get("account", id) is not None:
        raise Refusal(
            "already_opened", "data.owner", f"{data['owner']} has a {id.rpartition('/')[0]} account"
        )
    if data["account_type"] == "MERCHANT":
        merchant(view, data["owner"], "data.owner")
    value = {
        "owner": data["owner"], "account_type": data["account_type"], "asset": data["asset"],
        "status": "active", "open": 0, "opened_ms": event.at_ms, "updated_ms": event.at_ms,
    }  # fmt: skip
    ref = account(data["asset"], TYPES[data["account_type"]], data["owner"])
    return Decision([Change("account", id, value)], opens=(ref,))


def status_rule(kind: Kind, status: str) -> Rule:
    """The rule of an event that freezes, thaws or closes an account."""

    def rule(event: AppEvent, view: View) -> Decision:
        data = event.data
        id = account_id(data["account_type"], data["asset"], data["owner"])
        held = one(view, "account", id, "data.owner")
        if kind == Kind.CLOSE and held["open"]:
            detail = f"{held['open']} authorizations or escrows of {data['owner']} are open; end them first"
            raise Refusal("not_empty", "data.owner", detail)
        of = Party(data["owner"], TYPES[data["account_type"]])
        after = {**held, "status": status, "updated_ms": event.at_ms}
        return Decision([Change("account", id, after)], flow(event, kind, asset=data["asset"], debtor=of))

    return rule


def check_merchant(event: AppEvent) -> None:
    """A name, and anchors that there are. Raises Refusal."""
    check_key(event)
    check_text(event.data["name"], "data.name")
    _check_anchors(event.data["anchors"], at_least=0)


def merchant_registered(event: AppEvent, view: View) -> Decision:
    """A merchant is there from now on."""
    _new(view, "merchant", event.key)
    anchors = list(event.data["anchors"])
    value = {
        "name": event.data["name"], "anchors": anchors, "registered_ms": event.at_ms, "revoked_ms": None,
    }  # fmt: skip
    return Decision([Change("merchant", event.key, value)])


def merchant_revoked(event: AppEvent, view: View) -> Decision:
    """No new authorization, claim or account names it; what it has claimed may be fulfilled, its accounts stay."""
    return _revoked(event, view, "merchant")


def merchant(view: View, id: str, field: str) -> Value:
    """A merchant who may take part. Raises Refusal (unknown_merchant, merchant_revoked) naming `field`."""
    value = one(view, "merchant", id, field)
    if value.get("revoked_ms") is not None:
        raise Refusal("merchant_revoked", field, f"{id} serves no more")
    return value


def serving(view: View, id: str, anchor: str, asset: str, field: str) -> None:
    """Refuse a merchant who may not take part, does not serve the anchor, or whose account is frozen or closed."""
    if anchor not in merchant(view, id, field)["anchors"]:
        raise Refusal("other_anchor", field, f"{id} does not serve {anchor}")
    held = view.get("account", account_id("MERCHANT", asset, id))
    if held is not None and held["status"] != "active":
        raise Refusal("account_not_active", field, f"{id}'s {asset} account is {held['status']}")


def check_attestor(event: AppEvent) -> None:
    """A public key, and anchors that there are. Raises Refusal."""
    check_key(event)
    check_public_key(event.data["public_key"], "data.public_key")
    _check_anchors(event.data["anchors"], at_least=1)


def attestor_registered(event: AppEvent, view: View) -> Decision:
    """An attestor is there from now on; its key never changes, another key is another attestor."""
    _new(view, "attestor", event.key)
    value = {
        "public_key": event.data["public_key"].lower(), "anchors": list(event.data["anchors"]),
        "registered_ms": event.at_ms, "revoked_ms": None,
    }  # fmt: skip
    return Decision([Change("attestor", event.key, value)])


def attestor_revoked(event: AppEvent, view: View) -> Decision:
    """Its signature counts for no event after this one."""
    return _revoked(event, view, "attestor")


def check_anchor(name: str, field: str) -> None:
    """Refuse an anchor that S4 does not list."""
    if name not in ANCHORS:
        raise Refusal("unknown_anchor", field, f"{name[:40]!r} is none of {', '.join(ANCHORS)}")


def _check_anchors(names: Sequence[str], at_least: int) -> None:
    for name in names:
        check_anchor(name, "data.anchors")
    if len(set(names)) < len(names):
        raise Refusal("repeated", "data.anchors", "an anchor is there twice")
    if len(names) < at_least:
        raise Refusal("missing", "data.anchors", "it attests at least one anchor")


def _revoked(event: AppEvent, view: View, kind: str) -> Decision:
    held = one(view, kind, event.key, KEY)
    if held.get("revoked_ms") is not None:
        raise Refusal("already_revoked", KEY, f"{kind} {event.key} was revoked before")
    return Decision([Change(kind, event.key, {**held, "revoked_ms": event.at_ms})])


def _new(view: View, kind: str, id: str) -> None:
    if view.get(kind, id) is not None:
        raise Refusal("already_registered", KEY, f"{kind} {id} is there already")


STATUS_RULES: Final[dict[str, Callable[[AppEvent, View], Decision]]] = {
    "ACCOUNT_FROZEN": status_rule(Kind.FREEZE, "frozen"),
    "ACCOUNT_THAWED": status_rule(Kind.THAW, "active"),
    "ACCOUNT_CLOSED": status_rule(Kind.CLOSE, "closed"),
}
