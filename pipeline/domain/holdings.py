"""Holdings: the current state of each asset as a fold over its changes. Pure.

A holding keeps the position of the last change it has seen and ignores what is not newer, so the
fold may be fed the same change any number of times (a table's changelog runs ahead of offsets after
a crash). DESIGN.md, "State".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from schemas.records import AssetChange, AssetChanges

Place = tuple[int, int, int]  # block, transaction_index, change_index


class Holding(TypedDict):
    """Current state of one asset; JSON-safe, as it stands in the table `holdings`."""

    asset: str
    kind: str  # nft, mpt
    owner: str | None  # None: burnt or destroyed. The issuer, for an MPT issuance
    custody_type: str  # onchain
    onchain_status: str  # active, burnt, destroyed
    amount: str  # 1 for an NFT, OutstandingAmount for an MPT issuance
    locked: str
    uri: str | None
    chain: str
    position: list[int]  # of the last change: block, transaction_index, change_index
    applied: dict[str, list[str | int]]  # source partition -> [epoch, offset] last applied


def _new(changes: AssetChanges) -> Holding:
    return {
        "asset": changes["asset"],
        "kind": changes["kind"],
        "owner": None,
        "custody_type": "onchain",
        "onchain_status": "active",
        "amount": "0",
        "locked": "0",
        "uri": None,
        "chain": changes["chain"],
        "position": [-1, -1, -1],
        "applied": {},
    }


_STATUS = {"burnt": "burnt", "destroyed": "destroyed"}


def _step(holding: Holding, change: AssetChange, place: Place) -> Holding:
    return {
        **holding,
        "owner": change["to_owner"],
        "onchain_status": _STATUS.get(change["action"], "active"),
        "amount": change["amount"],
        "locked": change["locked"],
        "uri": change["uri"] or holding["uri"],
        "position": list(place),
    }


def apply_changes(
    holding: Holding | None, changes: AssetChanges, partition: int, epoch: str, offset: int
) -> Holding:
    """The holding after `changes`, which stood at (epoch, partition, offset); the same if not newer."""
    current = holding if holding is not None else _new(changes)
    seen = current["applied"].get(str(partition))
    if seen is not None and seen[0] == epoch and int(seen[1]) >= offset:
        return current
    for change in changes["changes"]:
        place = (changes["block"], change["transaction_index"], change["change_index"])
        if place > tuple(current["position"]):
            current = _step(current, change, place)
    return {**current, "applied": {**current["applied"], str(partition): [epoch, offset]}}


def fold(
    holdings: dict[str, Holding], batch: Iterable[tuple[AssetChanges, int, str, int]]
) -> dict[str, Holding]:
    """Fold a batch of (changes, partition, epoch, offset) into the holdings it touches.

    `holdings` has the state before of the assets of the batch (absent: new). Returns only what
    changed: one write per key however often the batch touches it.
    """
    touched: dict[str, Holding] = {}
    for changes, partition, epoch, offset in batch:
        asset = changes["asset"]
        before = touched.get(asset) or holdings.get(asset)
        after = apply_changes(before, changes, partition, epoch, offset)
        if after is not before:
            touched[asset] = after
    return touched
