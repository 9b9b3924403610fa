"""Holdings off-chain: an asset before and after an event → assets.changes.v1, key offchain/asset:<id>. Pure.

The same record as of the chains' assets, so provenance and holdings are one question whatever the custody: chain
"offchain" (number 0), kind "asset", final at once. Its block is the event's time in ms, moved on where two changes of
an asset would share it or come out of order, so that it rises with every change; its hash is the event's id. Units
after are the asset's fraction count; where it is in fractions from and to are who gave and who got units, the token's
key stands for units in custody of the chain.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from pipeline.domain.applications.event import AppEvent, Emit, Value
from schemas.records import AssetChange, AssetChanges

CHANGES: Final = "assets.changes.v1"


class Moved(NamedTuple):
    """One change of a holding."""

    action: Any  # AssetAction
    source: str | None
    target: str | None
    amount: int  # units after
    change: int


def changes_emit(
    event: AppEvent, asset_id: str, before: Value | None, after: Value
) -> tuple[Emit | None, Value]:
    """The message of what changed, None if nothing did; and the asset with the place of its last change."""
    moved = moves(before, after)
    if moved is None:
        return None, after
    block = max(event.at_ms, after["changed_at_ms"] + 1)
    record: AssetChanges = {
        "asset": f"offchain/asset:{asset_id}", "kind": "asset", "chain": "offchain", "chain_number": 0,
        "block": block, "block_hash": event.id, "chunk": 0, "finality": "final", "incarnation": 0, "publication": "",
        "time": event.at_ms, "changes": [_change(event, moved)],
    }  # fmt: skip
    return Emit(CHANGES, record["asset"], record), {**after, "changed_at_ms": block}


def moves(before: Value | None, after: Value) -> Moved | None:
    """What became of the holding; None: nothing."""
    count = after["fraction_count"]
    known = before is not None and _exists(before)
    if not known:
        return Moved("minted", None, holder(after), 1, 1) if _exists(after) and not after["burnt"] else None
    assert before is not None
    was = before["fraction_count"]
    if after["burnt"]:
        return None if before["burnt"] else Moved("burnt", holder(before), None, 0, -was)
    if count != was:
        whole = after if count == 1 else before
        return Moved("changed", holder(whole), holder(whole), count, count - was)
    if count > 1:
        return _units(before, after)
    if holder(before) != holder(after):
        return Moved("transferred", holder(before), holder(after), 1, 1)
    return None


def holder(asset: Value) -> str | None:
    """Whose an asset in one piece is: a user, or the address of whom no user is known."""
    found: str | None = asset["owner_user_id"]
    return found if found is not None or asset["custody_type"] != "onchain" else asset["onchain_holder"]


def _exists(asset: Value) -> bool:
    return asset["minted"] and (asset["fraction_count"] > 1 or holder(asset) is not None)


def _units(before: Value, after: Value) -> Moved | None:
    left, got = _held(before), _held(after)
    diff = {who: got.get(who, 0) - left.get(who, 0) for who in {**left, **got}}
    source = next((who for who, units in diff.items() if units < 0), None)
    target = next((who for who, units in diff.items() if units > 0), None)
    if source is None or target is None:
        return None
    return Moved("transferred", source, target, after["fraction_count"], diff[target])


def _held(asset: Value) -> dict[str, int]:
    held = {who: int(units) for who, units in asset["holdings"].items()}
    return {**held, asset["token"] or "": int(asset["onchain_units"])}


def _change(event: AppEvent, moved: Moved) -> AssetChange:
    return {
        "transaction_index": 0, "change_index": 0, "hash": event.id, "type": event.type, "action": moved.action,
        "from_owner": moved.source, "to_owner": moved.target, "amount": str(moved.amount),
        "change": str(moved.change), "locked": "0", "uri": None,
    }  # fmt: skip
