"""MINTED, TRANSFERRED, BURNED, FRACTIONED, MERGED (S0, asset_transactions). Pure.

Registered → minted → moved, split, merged → burnt. A whole asset has one owner; FRACTIONED makes it n units in a book
of its own, and until one user who holds them all merges them, only units move.
"""

from __future__ import annotations

from pipeline.domain.account import TransferCode
from pipeline.domain.applications.event import AppEvent, Decision, Refusal, Value, View
from pipeline.domain.assets import checks
from pipeline.domain.assets.books import all_units, user_units
from pipeline.domain.assets.draft import Draft, illegal
from pipeline.domain.assets.pending import SEND, forget_pending, locked, moved, waiting_units
from pipeline.domain.assets.registry import bind_token
from pipeline.domain.assets.state import (
    acting,
    alive,
    asset_of,
    in_custody,
    loose,
    managed,
    set_owner,
    unlisted,
    whole,
)

HOLDERS_MAX = 10_000  # of one fractioned asset: its state names them all


def minted(event: AppEvent, view: View) -> Decision:
    """The asset is there from now on, and somebody's. Raises Refusal."""
    draft, data = Draft(event, view), event.data
    asset = asset_of(draft)
    alive(asset)
    if asset["minted_event_id"] is not None:
        raise illegal("the asset is minted already")
    acting(draft, asset["owner_user_id"], asset["issuer_user_id"])
    if data["token"] is not None:
        _take_token(draft, asset, checks.token(data["token"], "data.token"))
        asset = draft.held(event.key)
    draft.update(event.key, minted=True, minted_event_id=event.id, owner_user_id=_first_owner(draft, asset))
    return draft.decision()


def _take_token(draft: Draft, asset: Value, token: str) -> None:
    if asset["token"] is None:
        bind_token(draft, token)
    elif asset["token"] != token:
        raise Refusal("other_token", "data.token", f"the asset's token is {asset['token']}")


def _first_owner(draft: Draft, asset: Value) -> str | None:
    """Whose it is from now on; in custody of the chain that is the chain's to say. Raises Refusal."""
    told, held = draft.event.data["to_user_id"], asset["owner_user_id"]
    follows = asset["custody_type"] == "onchain"
    if told is not None:
        draft.user(told, "data.to_user_id")
        if held is None and follows and asset["onchain_status"] != "none":
            raise Refusal("other_owner", "data.to_user_id", "by the chain the asset is no known user's")
        if held not in (None, told):
            moves = "the chain moves it" if follows else "TRANSFERRED moves it"
            raise Refusal("other_owner", "data.to_user_id", f"the asset is {held}'s; {moves}")
    if follows or held is not None:
        return None if held is None else str(held)
    if told is None:
        raise Refusal("missing", "data.to_user_id", "the asset has no owner yet")
    return str(told)


def transferred(event: AppEvent, view: View) -> Decision:
    """A whole asset, with all that is in it, or units of one, to somebody else. Raises Refusal."""
    draft, data = Draft(event, view), event.data
    asset = asset_of(draft)
    units = checks.units(data)
    to_user = draft.user(data["to_user_id"], "data.to_user_id")
    if units is None:
        whole(asset)
        (managed if event.user_id else in_custody)(asset)  # a service gives what is nobody's an owner
        acting(draft, asset["owner_user_id"])
        if data["from_user_id"] not in (None, asset["owner_user_id"]):
            raise Refusal("not_owner", "data.from_user_id", f"the asset is {asset['owner_user_id']}'s")
        _other(asset["owner_user_id"], to_user)
        set_owner(draft, event.key, to_user)
    else:
        seller = whose_units(draft, data["from_user_id"], "data.from_user_id")
        move_units(draft, seller, to_user, units)
        close_units_listing(draft, seller)
    return draft.decision()


def burned(event: AppEvent, view: View) -> Decision:
    """The asset is no more. Raises Refusal."""
    draft = Draft(event, view)
    asset = asset_of(draft)
    whole(asset)
    managed(asset)
    acting(draft, asset["owner_user_id"])
    if asset["contents"]:
        raise illegal("there is something in it; PACK_OPENED takes it out")
    if asset["onchain_status"] == "active":
        raise illegal("its token is on the chain; ONCHAIN_BURN burns both")
    draft.update(event.key, burnt=True, owner_user_id=None, listing=None)
    return draft.decision()


def fractioned(event: AppEvent, view: View) -> Decision:
    """One piece becomes n units, all of them its owner's. Raises Refusal."""
    draft, count = Draft(event, view), event.data["fraction_count"]
    asset = asset_of(draft)
    whole(asset)
    managed(asset)
    unlisted(asset)
    owner = asset["owner_user_id"]
    acting(draft, owner)
    if asset["contents"]:
        raise illegal("there is something in it; PACK_OPENED takes it out")
    draft.move(all_units(event.key), user_units(event.key, owner), count, TransferCode.DEPOSIT)
    holdings = {owner: str(count)}
    draft.update(
        event.key, owner_user_id=None, fraction_count=count, holdings=holdings, fractioned_event_id=event.id
    )
    return draft.decision()


def merged(event: AppEvent, view: View) -> Decision:
    """Whoever holds all units has one piece again. Raises Refusal."""
    draft = Draft(event, view)
    asset = asset_of(draft)
    loose(asset)
    count = asset["fraction_count"]
    if count == 1:
        raise illegal("the asset is in one piece")
    if waiting_units(asset, SEND) or int(asset["onchain_units"]):
        raise illegal("units of it are on the chain, or on their way there")
    owner = next((user for user, held in asset["holdings"].items() if int(held) == count), None)
    if owner is None:
        raise illegal(f"nobody holds all {count} units")
    acting(draft, owner)
    draft.move(user_units(event.key, owner), all_units(event.key), count, TransferCode.WITHDRAWAL)
    forget_pending(draft, event.key, "the asset was merged: no units of it are on the chain")
    made_whole = {"fraction_count": 1, "holdings": {}, "fraction_listings": {}, "fractioned_event_id": None}
    draft.update(event.key, owner_user_id=owner, **made_whole)
    return draft.decision()


def whose_units(draft: Draft, told: str | None, field: str) -> str:
    """Whose units are meant: the one who acts, or whom a service names. Raises Refusal."""
    user = told or draft.event.user_id
    if not user:
        raise Refusal("missing", field, "whose units are meant?")
    acting(draft, user)
    return draft.user(user, field)


def usable(asset: Value, user: str, units: int) -> None:
    """The user has so many units, and they are not on their way to the chain. Raises Refusal."""
    if asset["fraction_count"] == 1:
        raise illegal("the asset is in one piece; FRACTIONED makes units of it", "data.units")
    free = int(asset["holdings"].get(user, "0")) - locked(asset, user)
    if free < units:
        raise Refusal(
            "insufficient_units", "data.units", f"{user} has {free} units that can move, not {units}"
        )


def move_units(draft: Draft, source: str, target: str, units: int) -> None:
    """Units of the event's asset from one user to another, in books and state. Raises Refusal."""
    id, asset = draft.event.key, draft.held(draft.event.key)
    loose(asset)
    usable(asset, source, units)
    _other(source, target)
    holdings = moved(moved(asset["holdings"], source, -units), target, units)
    if len(holdings) > HOLDERS_MAX:
        raise Refusal("too_many_holders", "data.to_user_id", f"an asset has at most {HOLDERS_MAX} holders")
    draft.move(user_units(id, source), user_units(id, target), units, TransferCode.PAYMENT)
    draft.update(id, holdings=holdings)


def close_units_listing(draft: Draft, seller: str) -> None:
    """What a user had listed of his units is listed no more."""
    listings = draft.held(draft.event.key)["fraction_listings"]
    if seller in listings:
        rest = {who: one for who, one in listings.items() if who != seller}
        draft.update(draft.event.key, fraction_listings=rest)


def _other(source: str | None, target: str) -> None:
    if source == target:
        raise Refusal("same_owner", "data.to_user_id", f"it is {target}'s already")
