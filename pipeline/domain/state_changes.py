"""A page of a starting state → the assets that stand in it, for their holdings and their provenance. Pure.

Place in history: (N, -1): before any transaction of the run that follows, so a later change always wins,
whichever is read first.
"""

from __future__ import annotations

from typing import Final

from schemas.records import AssetChange, AssetChanges, XrplState

NO_TRANSACTION: Final = -1


def state_asset_changes(page: XrplState) -> list[AssetChanges]:
    """One record per NFT and per MPT issuance of the page."""
    found = [
        _record(page, f"nft:{nft['nft_id']}", "nft", _opened(nft["owner"], "1", "0", nft["uri"]))
        for nft in page["nfts"]
    ]
    for mpt in page["mpts"]:
        if mpt["account"] is None:
            change = _opened(mpt["issuer"], mpt["outstanding"], mpt["locked"], None)
            found.append(_record(page, f"mpt:{mpt['issuance']}", "mpt", change))
    return found


def _opened(owner: str, amount: str, locked: str, uri: str | None) -> AssetChange:
    return {
        "transaction_index": NO_TRANSACTION,
        "change_index": 0,
        "hash": "",
        "type": "",
        "action": "opened",
        "from_owner": owner,
        "to_owner": owner,
        "amount": amount,
        "change": "0",
        "locked": locked,
        "uri": uri,
    }


def _record(page: XrplState, asset: str, kind: str, change: AssetChange) -> AssetChanges:
    return {
        "asset": f"{page['chain']}/{asset}",
        "kind": kind,
        "chain": page["chain"],
        "chain_number": page["chain_number"],
        "block": page["ledger_index"],
        "block_hash": page["ledger_hash"],
        "chunk": page["page"],
        "finality": "final",
        "incarnation": 0,
        "publication": "",
        "time": page["close_time"],
        "changes": [change],
    }
