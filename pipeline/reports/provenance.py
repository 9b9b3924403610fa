"""The story of any asset: what there is of it on chains and in applications, in the order it happened. Pure.

An asset is named by its key (<chain>/nft:…, <chain>/erc721:…, <chain>/mpt:…), by its NFTokenID or MPT issuance id on
the chain that is looked at, or by its id in an application. What a name may mean is asked in that order. Assets and
positions of S1 have a story of their own, `of_positions`.
"""

from __future__ import annotations

from typing import Final

from pipeline.reports.gas import TYPES as GAS_TYPES
from pipeline.reports.question import BadQuestion, Report, word

_KNOWN: Final = """SELECT DISTINCT 1 AS known FROM (
  (
    SELECT id FROM application_states WHERE domain = 'assets' AND kind = 'token' AND id = {asset:String}
    SETTINGS final = 0
  )
  UNION ALL
  (
    SELECT key FROM applied_events
    WHERE topic = 'assets.activity.v1'
      AND key IN ({asset:String}, replaceRegexpOne({asset:String}, '^offchain/asset:', ''))
    SETTINGS final = 0
  )
)"""
_APPLIED_TO: Final = "event_id IN (SELECT event_id FROM event_outcomes WHERE status = 'applied')"
_RAW: Final = {
    "asset_changes": "asset = {asset:String} AND finality != 'retracted' AND chain_number > 0",
    "mpt_changes": "issuance = extract({asset:String}, '/mpt:(.+)$') AND account IS NOT NULL "
    "AND chain = extract({asset:String}, '^(.+)/mpt:')",
    "asset_registry": "asset_id = {asset:String} AND " + _APPLIED_TO,
    "asset_transactions": "asset_id = {asset:String} AND " + _APPLIED_TO,
    "asset_events": "asset_id = {asset:String} AND " + _APPLIED_TO,
}


def meanings(asset: str, chain: str | None) -> list[str]:
    """What the name may mean: keys that `provenance(asset)` knows, first the likeliest. Raises BadQuestion."""
    if not asset:
        raise BadQuestion("asset", "name one")
    name = word(asset, "asset") or ""
    likely = [asset_key(name, chain)] if chain and (":" in name or len(name) in (48, 64)) else []
    return list(dict.fromkeys([*likely, name]))


def asset_key(asset: str, chain: str) -> str:
    """The key of an asset of `chain` named by its NFTokenID (64 hex digits) or MPT issuance id (48), with
    or without nft: or mpt: before it; a whole key stands for itself."""
    if "/" in asset:
        return asset
    kind, _, bare = asset.rpartition(":")
    if not kind:
        kind = {64: "nft", 48: "mpt"}.get(len(bare), "")
    return f"{chain}/{kind}:{bare.upper()}" if kind in ("nft", "mpt") else f"{chain}/{asset}"


def known(key: str) -> Report:
    """One row where an application has an asset under that key or name, or one bound to that token; none elsewhere."""
    return Report(_KNOWN, {"asset": key})


def provenance(key: str, gas: bool = True, applications: bool = True) -> Report:
    """Rows of the view, oldest first; without `gas` those that tell of gas are left out.

    Without `applications` only what the token's chain told, in half the time: all there is where `known` gives no row.
    """
    view = "provenance" if applications else "chain_provenance"
    select = f"SELECT * FROM {view}(asset = {{asset:String}})"
    return Report(select if gas else f"{select} WHERE type NOT IN {GAS_TYPES}", {"asset": key})


def of_positions(name: str) -> Report:
    """The story of a position of S1, or of an asset of S1 over all its positions; no rows where there is none."""
    return Report("SELECT * FROM position_provenance(position = {asset:String})", {"asset": name})


def recomputed(key: str) -> dict[str, Report]:
    """Table (`source` of the story) → query over it: places of the raw rows that tell of the very asset of that key.

    The story besides has what befell the pack that it was in, and, of an asset with a token, that of its other name.
    """
    return {
        table: Report(
            f"SELECT _topic, _partition, _offset FROM {table} FINAL WHERE {where} ORDER BY _topic, _partition, _offset",
            {"asset": key},
        )
        for table, where in _RAW.items()
    }
