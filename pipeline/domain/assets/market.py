"""LISTED, DELISTED, SOLD: marketplace listings (S0). Pure.

A whole asset has one listing, its owner's; of a fractioned one every holder may list units of his own, at a price for
one unit, and they may be sold bit by bit. A sale needs an open listing of the seller at that very price. What is paid
is the business of the money's own books.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.domain.applications.event import AppEvent, Decision, Refusal, Value, View
from pipeline.domain.assets import checks
from pipeline.domain.assets.draft import Draft, illegal
from pipeline.domain.assets.ownership import close_units_listing, move_units, usable, whose_units
from pipeline.domain.assets.state import acting, alive, asset_of, loose, managed, set_owner, unlisted, whole


def listed(event: AppEvent, view: View) -> Decision:
    """For sale from now on. Raises Refusal."""
    draft, data = Draft(event, view), event.data
    asset = asset_of(draft)
    units = checks.units(data)
    terms = {
        "price": checks.price(data), "currency": checks.currency(data), "units": data["units"],
        "marketplace": data["marketplace"],
    }  # fmt: skip
    if units is None:
        whole(asset)
        managed(asset)
        unlisted(asset)
        seller = asset["owner_user_id"]
        acting(draft, seller)
        if data["seller_user_id"] not in (None, seller):
            raise Refusal("not_owner", "data.seller_user_id", f"the asset is {seller}'s")
        draft.update(event.key, listing={"seller": seller, **terms})
    else:
        loose(asset)
        seller = whose_units(draft, data["seller_user_id"], "data.seller_user_id")
        usable(asset, seller, units)
        listings = asset["fraction_listings"]
        if seller in listings:
            raise illegal(f"{seller} has listed units already; DELISTED ends that")
        draft.update(event.key, fraction_listings={**listings, seller: {"seller": seller, **terms}})
    return draft.decision()


def delisted(event: AppEvent, view: View) -> Decision:
    """Not for sale any more. Raises Refusal."""
    draft = Draft(event, view)
    asset = asset_of(draft)
    alive(asset)
    if asset["fraction_count"] == 1:
        acting(draft, asset["owner_user_id"])
        if asset["listing"] is None:
            raise illegal("the asset is not listed")
        draft.update(event.key, listing=None)
    else:
        seller = whose_units(draft, event.data["seller_user_id"], "data.seller_user_id")
        if seller not in asset["fraction_listings"]:
            raise illegal(f"{seller} has no units listed")
        close_units_listing(draft, seller)
    return draft.decision()


def sold(event: AppEvent, view: View) -> Decision:
    """The asset, or units of it, is the buyer's. Raises Refusal."""
    draft, data = Draft(event, view), event.data
    asset = asset_of(draft)
    units = checks.units(data)
    buyer = draft.user(data["to_user_id"], "data.to_user_id")
    if units is None:
        whole(asset)
        managed(asset)
        seller = asset["owner_user_id"]
        acting(draft, seller)
        if data["from_user_id"] not in (None, seller):
            raise Refusal("not_owner", "data.from_user_id", f"the asset is {seller}'s")
        _terms(asset["listing"], data)
        if buyer == seller:
            raise Refusal("same_owner", "data.to_user_id", f"it is {buyer}'s already")
        set_owner(draft, event.key, buyer)
    else:
        seller = whose_units(draft, data["from_user_id"], "data.from_user_id")
        listing = asset["fraction_listings"].get(seller)
        _terms(listing, data)
        _sell_units(draft, seller, buyer, units, listing)
    return draft.decision()


def _terms(listing: Value | None, data: Mapping[str, Any]) -> None:
    """There is a listing, at that price. Raises Refusal."""
    if listing is None:
        raise illegal("there is no open listing of the seller; LISTED opens one")
    asked = (listing["price"], listing["currency"])
    if asked != (checks.price(data), checks.currency(data)):
        raise Refusal("other_price", "data.price", f"it is listed at {asked[0]} {asked[1]}")


def _sell_units(draft: Draft, seller: str, buyer: str, units: int, listing: Value) -> None:
    left = int(listing["units"]) - units
    if left < 0:
        raise Refusal("insufficient_units", "data.units", f"{listing['units']} units are listed, not {units}")
    move_units(draft, seller, buyer, units)
    if left == 0:
        close_units_listing(draft, seller)
        return
    listings = draft.held(draft.event.key)["fraction_listings"]
    rest = {**listings, seller: {**listing, "units": str(left)}}
    draft.update(draft.event.key, fraction_listings=rest)
