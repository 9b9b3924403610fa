"""Registry entries: users, applications, assets (S0, asset_registry). Pure.

An asset's nfc_uuid, mpt_issuance_id and token are its own: a second asset that names one of them is refused. What the
chain has told of a token before counts from the moment that an asset is registered with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.domain.applications.event import AppEvent, Decision, Refusal, Value, View, one
from pipeline.domain.assets import checks
from pipeline.domain.assets.chain import new_token, reconcile
from pipeline.domain.assets.draft import Draft
from pipeline.domain.assets.state import acting, address_of, alive, asset_of, new_asset, set_owner, standing
from pipeline.domain.assets.tag import spellings, tag

_NOT_SAID = (None, False, True)  # states of before the application was told, too


def user_registered(event: AppEvent, view: View) -> Decision:
    """A user is there from now on, and what his addresses hold on chains is his. Raises Refusal."""
    draft = Draft(event, view)
    if draft.get("user", event.key) is not None:
        raise Refusal("already_registered", "asset_id", f"user {event.key} is there already")
    addresses = _addresses(event.data, "addresses")
    draft.put("user", event.key, {"addresses": addresses})
    for address in addresses:
        _give(draft, address, event.key, "data.addresses")
    return draft.decision()


def user_addresses_changed(event: AppEvent, view: View) -> Decision:
    """A user gets addresses and gives up others, and what they hold on chains with them. Raises Refusal."""
    draft, user = Draft(event, view), one(view, "user", event.key, "asset_id")
    added, removed = (_addresses(event.data, name) for name in ("added", "removed"))
    for address in removed:
        _take(draft, address, event.key)
    for address in added:
        _give(draft, address, event.key, "data.added")
    kept = [address for address in user["addresses"] if address not in removed]
    draft.put("user", event.key, {**user, "addresses": [*kept, *added]})
    return draft.decision()


def _addresses(data: Mapping[str, Any], name: str) -> list[str]:
    return list(dict.fromkeys(checks.address(one, f"data.{name}") for one in data[name]))


def _give(draft: Draft, address: str, user: str, field: str) -> None:
    known = address_of(draft, address)
    if known["user_id"] is not None or known["treasury"]:
        owner = known["user_id"] or f"application {known['treasury']}"
        raise Refusal("address_taken", field, f"{address} is {owner}'s already")
    draft.put("address", address, {**known, "user_id": user})
    for asset_id in standing(draft, address):
        set_owner(draft, asset_id, user)


def _take(draft: Draft, address: str, user: str) -> None:
    """An address is nobody's from now on: what it holds on chains has no owner until somebody registers it."""
    known = address_of(draft, address)
    if known["user_id"] != user:
        raise Refusal("not_owner", "data.removed", f"{address} is not {user}'s")
    if known["unnamed"]:
        detail = (
            f"{address} holds, or has held, assets that its state does not name: not all can change at once"
        )
        raise Refusal("too_many", "data.removed", detail)
    draft.put("address", address, {**known, "user_id": None})
    for asset_id in standing(draft, address):
        set_owner(draft, asset_id, None)


def app_registered(event: AppEvent, view: View) -> Decision:
    """An application is there from now on; told again it has what is told then. Assets are held against new treasuries
    at the next thing that a chain or the application tells of them. Raises Refusal."""
    draft, data = Draft(event, view), event.data
    before = draft.get("app", event.key) or {"treasuries": []}
    named = {name: _addresses(data, name) for name in ("issuers", "treasuries")}
    for address in before["treasuries"]:
        if address not in named["treasuries"] and address_of(draft, address)["treasury"] in (True, event.key):
            draft.put("address", address, {**address_of(draft, address), "treasury": None})
    for address in named["treasuries"]:
        known = address_of(draft, address)
        if known["user_id"] is not None or known["treasury"] not in (*_NOT_SAID, event.key):
            owner = known["user_id"] or f"application {known['treasury']}"
            raise Refusal("address_taken", "data.treasuries", f"{address} is {owner}'s already")
        draft.put("address", address, {**known, "treasury": event.key})
    draft.put("app", event.key, {"title": data["title"], **named})
    return draft.decision()


def asset_registered(event: AppEvent, view: View) -> Decision:
    """An asset is there from now on: entry and state. Raises Refusal."""
    draft, data, id = Draft(event, view), event.data, event.key
    one(draft, "app", event.app_id, "app_id")
    if draft.get("asset", id) is not None:
        raise Refusal("already_registered", "asset_id", f"asset {id} is there already")
    if event.user_id:
        draft.user(event.user_id, "user_id")
    for name in ("issuer_user_id", "owner_user_id"):
        if data[name] is not None:
            draft.user(data[name], f"data.{name}")
    nfc = data["nfc_uuid"] and tag(data["nfc_uuid"])
    issuance = data["mpt_issuance_id"] and data["mpt_issuance_id"].upper()
    same = {name: data[name] for name in ("asset_type", "title", "thumbnail_url", "issuer_user_id")}
    asset = new_asset(
        **same, app_id=event.app_id, nfc_uuid=nfc, mpt_issuance_id=issuance, owner_user_id=data["owner_user_id"],
        custody_type=data["custody_type"], container_type=data["container_type"],
    )  # fmt: skip
    draft.put("asset", id, asset)
    draft.update(id)
    for kind, value in (("nfc", nfc), ("mpt", issuance)):
        if value is not None:
            claim(draft, kind, value, "data.nfc_uuid" if kind == "nfc" else "data.mpt_issuance_id")
    if data["token"] is not None:
        bind_token(draft, checks.token(data["token"], "data.token"))
    return draft.decision()


def claim(draft: Draft, kind: str, value: str, field: str) -> None:
    """Make a value the asset's own. Raises Refusal (not_unique)."""
    for spelled in spellings(value) if kind == "nfc" else (value,):
        taken = draft.get("unique", f"{kind}:{spelled}")
        if taken is not None and taken["asset_id"] != draft.event.key:
            raise Refusal("not_unique", field, f"{value} is asset {taken['asset_id']}'s")
    draft.put("unique", f"{kind}:{value}", {"asset_id": draft.event.key})


def bind_token(draft: Draft, token: str) -> None:
    """The asset's token on a chain, with what the chain has told of it so far. Raises Refusal (not_unique)."""
    id = draft.event.key
    known: Value = draft.get("token", token) or new_token(token)
    if known["asset_id"] not in (None, id):
        raise Refusal("not_unique", "data.token", f"{token} is asset {known['asset_id']}'s")
    draft.put("token", token, {**known, "asset_id": id})
    fields: dict[str, Any] = {"token": token}
    if checks.fungible(token):
        fields["mpt_issuance_id"] = token.rpartition(":")[2]
        claim(draft, "mpt", fields["mpt_issuance_id"], "data.token")
    draft.update(id, **fields)
    reconcile(draft, id)


def metadata_updated(event: AppEvent, view: View) -> Decision:
    """Title, thumbnail: by who issued it or owns it. Raises Refusal."""
    draft = Draft(event, view)
    asset = asset_of(draft)
    alive(asset)
    acting(draft, asset["owner_user_id"], asset["issuer_user_id"])
    told = {name: event.data[name] for name in ("title", "thumbnail_url") if event.data[name] is not None}
    draft.update(event.key, **told)
    return draft.decision()
