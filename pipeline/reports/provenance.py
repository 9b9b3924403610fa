"""The story of any asset: what there is of it on chains and in applications, in the order it happened. Pure.

An asset is named by its key (<chain>/nft:…, <chain>/erc721:…, <chain>/mpt:…), by that without its chain, or by its
NFTokenID or MPT issuance id, on the chain that is looked at, or by its id in an application. What a name may mean is
asked in that order, in whatever letters addresses and ids are written. Assets and positions of S1 have a story of
their own, `of_positions`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from pipeline.reports.gas import TYPES as GAS_TYPES
from pipeline.reports.question import BadQuestion, Report, word

SHORT: Final = ("nft:", "mpt:", "erc20:", "erc721:", "erc1155:")
"""How the name of an asset begins that lacks its chain."""
_LETTERS: Final[tuple[tuple[re.Pattern[str], Callable[[str], str]], ...]] = (
    (re.compile(r"(?:(?<=erc20:)|(?<=erc721:)|(?<=erc1155:))0[xX][0-9a-fA-F]{40}(?=/|\Z)"), str.lower),
    (re.compile(r"(?<=nft:)[0-9a-fA-F]{64}\Z|(?<=mpt:)[0-9a-fA-F]{48}\Z"), str.upper),
)
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


def meanings(asset: str, *chains: str) -> list[str]:
    """What the name may mean, on these chains where it lacks its own: keys that `provenance(asset)` knows, first the
    likeliest. Raises BadQuestion."""
    if not asset:
        raise BadQuestion("asset", "name one")
    name = word(asset, "asset") or ""
    of_chain = ":" in name or len(name) in (48, 64)
    likely = [asset_key(name, chain) for chain in chains if of_chain]
    return list(dict.fromkeys([*likely, written(name), name]))


def asset_key(asset: str, chain: str) -> str:
    """The key of an asset of `chain` named without it, or by its bare NFTokenID (64 hex digits) or MPT issuance id
    (48); a whole key stands for itself. Its letters as `written`."""
    if "/" in asset and not asset.startswith(SHORT):
        return written(asset)
    kind = "" if ":" in asset else {64: "nft:", 48: "mpt:"}.get(len(asset), "")
    return written(f"{chain}/{kind}{asset}")


def written(asset: str) -> str:
    """A name of an asset in the letters of keys: addresses (0x…) in lower case, ids of the XRP Ledger in upper case."""
    for found, letters in _LETTERS:
        asset = found.sub(lambda one, letters=letters: letters(one[0]), asset)
    return asset


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
