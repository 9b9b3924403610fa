"""SCANNED, STORY_ADDED, VIEWED, PACK_TAPPED, SOCIAL_ACTION, REACTION_ADDED, COMMENT_ADDED, SHARED (S0, asset_events).

They change no state; they need an asset and a user that are known. Pure.
"""

from __future__ import annotations

from pipeline.domain.applications.event import AppEvent, Decision, Refusal, Value, View, one
from pipeline.domain.assets.draft import Draft, illegal
from pipeline.domain.assets.state import asset_of
from pipeline.domain.assets.tag import tag


def social(event: AppEvent, view: View) -> Decision:
    """Somebody did something about an asset. Raises Refusal (unknown_asset, other_app, unknown_user)."""
    _meant(event, view)
    return Decision()


def scanned(event: AppEvent, view: View) -> Decision:
    """Somebody has read the asset's tag. Raises Refusal."""
    asset = _meant(event, view)
    told = event.data["nfc_uuid"]
    if told is not None and (asset["nfc_uuid"] is None or tag(told) != tag(asset["nfc_uuid"])):
        raise Refusal("other_tag", "data.nfc_uuid", f"{told} is not the tag of {event.key}")
    return Decision()


def pack_tapped(event: AppEvent, view: View) -> Decision:
    """Somebody has tapped a container. Raises Refusal."""
    decision = scanned(event, view)
    if one(view, "asset", event.key, "asset_id")["container_type"] is None:
        raise illegal(f"{event.key} is no pack or bundle", "asset_id")
    return decision


def _meant(event: AppEvent, view: View) -> Value:
    """The asset that somebody known did something about; nothing of it changes."""
    asset = asset_of(Draft(event, view))
    if not event.user_id:
        raise Refusal("missing", "user_id", "an event of this type is somebody's")
    one(view, "user", event.user_id, "user_id")
    return asset
