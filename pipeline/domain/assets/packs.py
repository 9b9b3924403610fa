"""PACK_CREATED, PACK_OPENED: containers of assets (S0). Pure.

A pack has plain assets in it, a bundle containers too. What goes in is managed, whole, unlisted and its owner's own;
then it moves only with its container, until that is opened, once. An asset is in one container at most and a container
that is in another takes nothing in, so no container can come to be in itself.
"""

from __future__ import annotations

from pipeline.domain.applications.event import AppEvent, Decision, Refusal, Value, View
from pipeline.domain.assets.draft import Draft, illegal
from pipeline.domain.assets.state import (
    TREE_MAX,
    acting,
    asset_of,
    empty,
    inside,
    managed,
    unlisted,
    whole,
)


def pack_created(event: AppEvent, view: View) -> Decision:
    """Put assets into a container. Raises Refusal."""
    draft, data = Draft(event, view), event.data
    pack, kind = _container(draft), data["container_type"]
    acting(draft, pack["owner_user_id"])
    size = 0
    for place, id in enumerate(data["contents"]):
        field = f"data.contents.{place}"
        _content(draft, id, pack, kind, field)
        size += 1 + len(inside(draft, id))
        if size > TREE_MAX:
            raise Refusal("too_many", field, f"at most {TREE_MAX} assets are in one container")
        draft.update(id, parent_container_id=event.key)
    draft.update(event.key, container_type=kind, contents=list(data["contents"]))
    return draft.decision()


def _container(draft: Draft) -> Value:
    """The event's asset as what is to be filled. Raises Refusal."""
    pack, kind = asset_of(draft), draft.event.data["container_type"]
    if pack["parent_container_id"] in draft.event.data["contents"]:
        raise Refusal(
            "cycle", "data.contents", f"{draft.event.key} is in {pack['parent_container_id']} itself"
        )
    whole(pack)
    unlisted(pack)
    if pack["opened"] or pack["contents"]:
        raise illegal("it was opened" if pack["opened"] else "it is filled already")
    if pack["container_type"] not in (None, kind):
        raise illegal(f"it is registered as a {pack['container_type']}", "data.container_type")
    return pack


def _content(draft: Draft, id: str, pack: Value, kind: str, field: str) -> None:
    if id == draft.event.key:
        raise Refusal("cycle", field, f"{id} can't be in itself")
    asset, owner = asset_of(draft, id, field), pack["owner_user_id"]
    if asset["app_id"] != pack["app_id"]:
        raise Refusal(
            "other_app", field, f"{id} is an asset of {asset['app_id']}, the {kind} of {pack['app_id']}"
        )
    whole(asset, field)
    managed(asset, field)
    unlisted(asset, field)
    if asset["owner_user_id"] != owner:
        raise Refusal("other_owner", field, f"{id} is {asset['owner_user_id']}'s, the {kind} is {owner}'s")
    if kind == "pack" and asset["container_type"] is not None:
        raise illegal(f"{id} is a {asset['container_type']} itself; a bundle takes it", field)


def pack_opened(event: AppEvent, view: View) -> Decision:
    """All that is in it is loose, and the opener's: it was his with the pack. Raises Refusal."""
    draft = Draft(event, view)
    pack = asset_of(draft)
    whole(pack)
    unlisted(pack)
    acting(draft, pack["owner_user_id"])
    if pack["opened"]:
        raise illegal("it was opened before")
    if not pack["contents"]:
        raise illegal("there is nothing in it; PACK_CREATED fills it")
    if pack["owner_user_id"] is None:
        raise illegal("it has no owner, whose its content would be")
    empty(draft, event.key, opened=True)
    return draft.decision()
