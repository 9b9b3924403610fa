"""The state of an asset: what it starts as, who may act on it, what it allows, and what a change of owner takes along.

One owner for a whole asset; an asset in fractions has none, its holdings say whose the units are. An asset that is in
a pack moves only with the pack, so whoever owns the pack owns all that is in it. S0, asset_states.
"""

from __future__ import annotations

from typing import Any, Final

from pipeline.domain.applications.event import Refusal, Value, one
from pipeline.domain.assets.draft import Draft, illegal

TREE_MAX: Final = 2000  # assets in one container, at all depths: they all change in one event
NAMED_MAX: Final = 250  # assets that the state of one address names: they all change with whose it is
WAITING_MAX: Final = 1000  # that a state of a former release names
UNKNOWN: Final = 1 << 30  # how many such a state leaves unnamed: nobody counted
_NOBODYS: Final[Value] = {"user_id": None, "treasury": None, "assets": [], "unnamed": 0}


def new_asset(**fields: Any) -> Value:
    """An asset that is registered and no more."""
    return {
        "asset_type": "", "app_id": "", "title": "", "thumbnail_url": None, "issuer_user_id": None,
        "nfc_uuid": None, "mpt_issuance_id": None, "token": None,
        "owner_user_id": None, "custody_type": "managed",
        "fraction_count": 1, "holdings": {}, "fractioned_event_id": None, "onchain_units": "0",
        "pending_units": {}, "fraction_listings": {},
        "container_type": None, "parent_container_id": None, "contents": [], "opened": False,
        "onchain_status": "none", "onchain_holder": None, "difference": None,
        "listing": None, "burnt": False, "minted": False, "minted_event_id": None, "pending": None,
        "last_event_id": "", "updated_ms": 0, "changed_at_ms": 0, **fields,
    }  # fmt: skip


def asset_of(draft: Draft, asset_id: str | None = None, field: str = "asset_id") -> Value:
    """An asset that the event names, its owner looked up anew. Raises Refusal (unknown_asset, other_app)."""
    asset_id = draft.event.key if asset_id is None else asset_id
    asset = one(draft, "asset", asset_id, field)
    if draft.event.app_id not in ("", asset["app_id"]):
        raise Refusal("other_app", "app_id", f"{asset_id} is an asset of {asset['app_id']}")
    if asset["custody_type"] == "onchain" and asset["onchain_holder"] is not None and not asset["burnt"]:
        owner = user_at(draft, asset["onchain_holder"])
        if owner != asset["owner_user_id"]:  # its address became another's, and did not name this one
            set_owner(draft, asset_id, owner)
            return draft.held(asset_id)
    return asset


def acting(draft: Draft, *allowed: str | None) -> None:
    """Whoever acts is one of these, or a service. Raises Refusal (unknown_user, not_owner)."""
    user = draft.event.user_id
    if user == "":
        return
    draft.user(user, "user_id")
    if user not in allowed:
        raise Refusal("not_owner", "user_id", f"{draft.event.key} is not {user}'s")


def alive(asset: Value, field: str = "type") -> None:
    """A burnt asset does nothing more. Raises Refusal."""
    if asset["burnt"]:
        raise illegal("the asset is burnt", field)


def loose(asset: Value, field: str = "type") -> None:
    """There, and not in a container. Raises Refusal."""
    alive(asset, field)
    if not asset["minted"]:
        raise illegal("the asset is not minted", field)
    if asset["parent_container_id"] is not None:
        raise illegal(f"the asset is in {asset['parent_container_id']} and moves only with it", field)


def whole(asset: Value, field: str = "type") -> None:
    """Loose, in one piece and not on its way to or from the chain. Raises Refusal."""
    loose(asset, field)
    if asset["fraction_count"] > 1:
        raise illegal(f"the asset is in {asset['fraction_count']} fractions; MERGED makes it whole", field)
    if asset["pending"] is not None:
        raise illegal(f"{asset['pending']['type']} {asset['pending']['tx_hash']} is not confirmed", field)


def in_custody(asset: Value, field: str = "type") -> None:
    """In custody of the application. Raises Refusal."""
    if asset["custody_type"] == "onchain":
        raise illegal(
            "the asset is in custody of the chain, where it moves; ONCHAIN_RECEIVE takes it in", field
        )


def managed(asset: Value, field: str = "type") -> None:
    """A whole asset in custody of the application, and somebody's. Raises Refusal."""
    in_custody(asset, field)
    if asset["owner_user_id"] is None:
        raise illegal("the asset has no owner; a service's TRANSFERRED gives it one", field)


def unlisted(asset: Value, field: str = "type") -> None:
    """Not for sale. Raises Refusal."""
    if asset["listing"] is not None or asset["fraction_listings"]:
        raise illegal("the asset is listed; DELISTED ends that", field)


def user_at(draft: Draft, address: str | None) -> str | None:
    """Whose an address is, None if that is not known."""
    known = draft.get("address", address) if address else None
    return known["user_id"] if known else None


def treasuries(draft: Draft, asset: Value) -> list[str]:
    """Addresses of the asset's application that hold what is in its custody."""
    app = draft.get("app", asset["app_id"])
    return list(app["treasuries"]) if app else []


def inside(draft: Draft, asset_id: str) -> list[str]:
    """Everything in a container, at all depths."""
    found: list[str] = []
    below = list(draft.held(asset_id)["contents"])
    while below:
        found += below
        below = [inner for id in below for inner in draft.held(id)["contents"]]
    return found


def set_owner(draft: Draft, asset_id: str, owner: str | None) -> None:
    """A new owner of an asset and of all that is in it; listings of it are closed."""
    for id in (asset_id, *inside(draft, asset_id)):
        draft.update(id, owner_user_id=owner, listing=None)


def empty(draft: Draft, asset_id: str, **fields: Any) -> None:
    """Take everything out of a container; it stays its owner's."""
    for id in draft.held(asset_id)["contents"]:
        draft.update(id, parent_container_id=None)
    draft.update(asset_id, contents=[], **fields)


def take_out(draft: Draft, asset_id: str) -> None:
    """What is burnt is in no container any more."""
    parent = draft.held(asset_id)["parent_container_id"]
    if parent is not None:
        rest = [id for id in draft.held(parent)["contents"] if id != asset_id]
        draft.update(parent, contents=rest)
        draft.update(asset_id, parent_container_id=None)


def stand_at(draft: Draft, asset_id: str, before: str | None, holder: str | None) -> None:
    """Note an asset in custody of the chain at its holder's address, whose user owns it; `before`: where it stood."""
    if before == holder:
        return
    if before is not None:
        left = address_of(draft, before)
        if asset_id in left["assets"]:
            rest = [id for id in left["assets"] if id != asset_id]
            draft.put("address", before, {**left, "assets": rest})
        else:
            draft.put("address", before, {**left, "unnamed": max(0, left["unnamed"] - 1)})
    if holder is not None:
        known = address_of(draft, holder)
        if len(known["assets"]) < NAMED_MAX:
            draft.put("address", holder, {**known, "assets": [*known["assets"], asset_id]})
        else:
            draft.put("address", holder, {**known, "unnamed": known["unnamed"] + 1})


def address_of(draft: Draft, address: str) -> Value:
    """An address of a chain: the user or the application (its treasury) whose it is, and the assets in custody of the
    chain that it holds: by name, and how many more."""
    known = draft.get("address", address) or {}
    if "waiting" in known:  # as a former release left it: it named only what waits for a user
        whole = known["user_id"] is None and not known["treasury"] and len(known["waiting"]) < WAITING_MAX
        known = {name: known[name] for name in ("user_id", "treasury")} | {
            "assets": known["waiting"], "unnamed": 0 if whole else UNKNOWN,
        }  # fmt: skip
    return {**_NOBODYS, **known}


def standing(draft: Draft, address: str) -> list[str]:
    """The assets that an address names and that are in custody of the chain there."""
    held = ((id, draft.held(id)) for id in address_of(draft, address)["assets"])
    return [
        id for id, asset in held
        if asset["custody_type"] == "onchain" and asset["onchain_holder"] == address and not asset["burnt"]
    ]  # fmt: skip
