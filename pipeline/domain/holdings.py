"""Holdings: the current state of each asset as a fold over its changes. Pure.

A holding's facts come from final blocks only; what unfinal blocks did stands beside them in `pending`. A head is
noted there, its final folds the changes into the facts and takes them out, its retraction drops them
(docs/decisions/0010). `as_of_head` tells the state with all pending changes applied.

The fold may be fed the same record any number of times (a table's changelog runs ahead of offsets after a crash,
and an embedded broker that forgets tells everything again under a new epoch): a holding keeps the offset it has
seen of each partition, the position of the last final change and the newest names of the records taken back since,
and ignores what is not newer. DESIGN.md, "State".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypedDict

from schemas.records import AssetChange, AssetChanges

Place = tuple[int, int, int]  # block, transaction_index, change_index
Name = list[str | int]  # block_hash, incarnation, chunk: which record of an asset, in whatever state

NOWHERE: Final = [-1, -1, -1]  # position of a holding without final changes
GONE_MAX: Final = 64
"""Names of records taken back that a holding keeps, the newest. A head of one that is forgotten is pending again
until its retraction comes again, and that stands behind it in every topic: the names only spare readers the sight."""


class Pending(TypedDict):
    """What a block that is not final yet (or a chunk of it) did to one asset."""

    block: int
    block_hash: str
    incarnation: int
    chunk: int
    changes: list[AssetChange]  # in the order applied


class Gone(TypedDict):
    """A record that was taken back above the last final change: it does not count if it comes again."""

    block: int
    name: Name


class Holding(TypedDict):
    """Current state of one asset; JSON-safe, as it stands in the table `holdings`."""

    asset: str
    kind: str  # nft, mpt
    owner: str | None  # None: burnt or destroyed, or not final yet. The issuer, for an MPT issuance
    custody_type: str  # onchain, or managed: by an application
    onchain_status: str  # active, burnt, destroyed; without a final change: pending, or retracted (no more)
    amount: str  # 1 for an NFT, OutstandingAmount for an MPT issuance
    locked: str
    uri: str | None
    chain: str
    position: list[int]  # of the last final change: block, transaction_index, change_index
    applied: dict[str, list[str | int]]  # source partition -> [epoch, offset] last applied
    pending: list[Pending]  # of unfinal blocks, lowest first
    gone: list[Gone]


def _new(changes: AssetChanges) -> Holding:
    return {
        "asset": changes["asset"],
        "kind": changes["kind"],
        "owner": None,
        "custody_type": "managed" if changes["chain"] == "offchain" else "onchain",
        "onchain_status": "active",
        "amount": "0",
        "locked": "0",
        "uri": None,
        "chain": changes["chain"],
        "position": list(NOWHERE),
        "applied": {},
        "pending": [],
        "gone": [],
    }


_STATUS = {"burnt": "burnt", "destroyed": "destroyed"}


def _step(holding: Holding, change: AssetChange, place: Place) -> Holding:
    shared = holding["kind"] == "asset" and change["amount"] not in ("0", "1")  # in fractions: nobody's alone
    return {
        **holding,
        "owner": None if shared else change["to_owner"],
        "onchain_status": _STATUS.get(change["action"], "active"),
        "amount": change["amount"],
        "locked": change["locked"],
        "uri": change["uri"] or holding["uri"],
        "position": list(place),
    }


def _folded(holding: Holding, block: int, changes: Iterable[AssetChange]) -> Holding:
    for change in changes:
        place = (block, change["transaction_index"], change["change_index"])
        if place > tuple(holding["position"]):
            holding = _step(holding, change, place)
    return holding


def apply_changes(
    holding: Holding | None, changes: AssetChanges, partition: int, epoch: str, offset: int
) -> Holding:
    """The holding after `changes`, which stood at (epoch, partition, offset); the same if not newer."""
    current = holding if holding is not None else _new(changes)
    if "pending" not in current:  # a table of an earlier release
        current = {**current, "pending": [], "gone": []}
    seen = current["applied"].get(str(partition))
    if seen is not None and seen[0] == epoch and int(seen[1]) >= offset:
        return current
    if changes["finality"] == "final":
        current = _final(current, changes)
    elif changes["block"] > current["position"][0]:  # else long decided: it comes again
        current = (_head if changes["finality"] == "head" else _retracted)(current, changes)
    if current["position"] == NOWHERE:
        current = {**current, "onchain_status": "pending" if current["pending"] else "retracted"}
    return {**current, "applied": {**current["applied"], str(partition): [epoch, offset]}}


def _name(of: AssetChanges | Pending) -> Name:
    return [of["block_hash"], of["incarnation"], of["chunk"]]


def _without(holding: Holding, name: Name) -> list[Pending]:
    return [one for one in holding["pending"] if _name(one) != name]


def _head(holding: Holding, changes: AssetChanges) -> Holding:
    name = _name(changes)
    known = [_name(one) for one in holding["pending"]] + [one["name"] for one in holding["gone"]]
    if name in known:
        return holding
    noted: Pending = {
        "block": changes["block"],
        "block_hash": changes["block_hash"],
        "incarnation": changes["incarnation"],
        "chunk": changes["chunk"],
        "changes": changes["changes"],
    }
    return {**holding, "pending": [*holding["pending"], noted]}


def _retracted(holding: Holding, changes: AssetChanges) -> Holding:
    gone: Gone = {"block": changes["block"], "name": _name(changes)}
    known = holding["gone"] if gone in holding["gone"] else [*holding["gone"], gone]
    return {**holding, "pending": _without(holding, gone["name"]), "gone": known[-GONE_MAX:]}


def _final(holding: Holding, changes: AssetChanges) -> Holding:
    """Nothing below a final block is pending any more, whatever was heard of it."""
    after = _folded(holding, changes["block"], changes["changes"])
    if not holding["pending"] and not holding["gone"]:
        return after
    pending = [one for one in _without(holding, _name(changes)) if one["block"] >= changes["block"]]
    gone = [one for one in holding["gone"] if one["block"] > changes["block"]]
    return {**after, "pending": pending, "gone": gone}


def as_of_head(holding: Holding) -> Holding:
    """The holding with its pending changes applied: what is so if every block told so far stays."""
    after = holding
    for one in sorted(holding.get("pending", ()), key=lambda one: (one["block"], one["chunk"])):
        after = _folded(after, one["block"], one["changes"])
    return {**after, "pending": [], "gone": []}


def exists(holding: Holding) -> bool:
    """Whether anything is known of the asset, if only pending; False: every block that told of it was taken back."""
    return holding["onchain_status"] != "retracted"


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
