"""Effects of a block → changes of assets and gas charges, for consumers and the tables of state. Pure."""

from __future__ import annotations

from pipeline.domain.asset import mpt_issuer
from schemas.records import (
    AssetAction,
    AssetChange,
    AssetChanges,
    GasCharge,
    GasCharges,
    XrplLedger,
    XrplTransaction,
)


def asset_changes(block: XrplLedger) -> list[AssetChanges]:
    """One record per NFT and per MPT issuance that this ledger (or chunk) changed.

    Within a record the changes stand in the order they were applied.
    """
    found: dict[str, AssetChanges] = {}
    for tx in block["transactions"]:
        if not tx["nft_changes"] and not tx["mpt_changes"]:
            continue
        for index, (asset, kind, change) in enumerate(_of_transaction(tx)):
            change["change_index"] = index
            key = f"{block['chain']}/{asset}"
            if key not in found:
                found[key] = _record(block, key, kind)
            found[key]["changes"].append(change)
    return list(found.values())


def _record(block: XrplLedger, key: str, kind: str) -> AssetChanges:
    return {
        "asset": key,
        "kind": kind,
        "chain": block["chain"],
        "chain_number": block["chain_number"],
        "block": block["ledger_index"],
        "block_hash": block["ledger_hash"] or "",
        "chunk": block["chunk"],
        "finality": "final",
        "incarnation": 0,
        "publication": "",
        "time": block["close_time"],
        "changes": [],
    }


def _of_transaction(tx: XrplTransaction) -> list[tuple[str, str, AssetChange]]:
    rows: list[tuple[str, str, AssetChange]] = []
    for nft in tx["nft_changes"]:
        source, target = nft["from_owner"], nft["to_owner"]
        action: AssetAction = "minted" if source is None else "burnt" if target is None else "transferred"
        change = _change(tx, action, source, target)
        change["amount"] = "0" if target is None else "1"
        change["change"] = "1" if source is None else "-1" if target is None else "0"
        change["uri"] = nft["uri"]
        rows.append((f"nft:{nft['nft_id']}", "nft", change))
    for mpt in tx["mpt_changes"]:
        if mpt["account"] is not None:
            continue  # a holder: a balance, kept in the books
        issuer = mpt_issuer(mpt["issuance"])
        happened = mpt["action"]
        change = _change(
            tx,
            "issued" if happened == "created" else "destroyed" if happened == "deleted" else "changed",
            None if happened == "created" else issuer,
            None if happened == "deleted" else issuer,
        )
        change["amount"], change["change"] = mpt["outstanding"], mpt["outstanding_change"]
        change["locked"] = mpt["locked"]
        rows.append((f"mpt:{mpt['issuance']}", "mpt", change))
    return rows


def _change(tx: XrplTransaction, action: AssetAction, source: str | None, target: str | None) -> AssetChange:
    return {
        "transaction_index": tx["transaction_index"],
        "change_index": 0,
        "hash": tx["hash"],
        "type": tx["type"],
        "action": action,
        "from_owner": source,
        "to_owner": target,
        "amount": "1",
        "change": "0",
        "locked": "0",
        "uri": None,
    }


def gas_charges(block: XrplLedger) -> list[GasCharges]:
    """One record per account that paid a fee in this ledger (or chunk). XRPL burns every fee."""
    found: dict[str, GasCharges] = {}
    for tx in block["transactions"]:
        if not tx["fee"]:
            continue
        payer = tx["fee_payer"]
        if payer not in found:
            found[payer] = {
                "owner": payer,
                "chain": block["chain"],
                "chain_number": block["chain_number"],
                "block": block["ledger_index"],
                "block_hash": block["ledger_hash"] or "",
                "chunk": block["chunk"],
                "finality": "final",
                "incarnation": 0,
                "publication": "",
                "time": block["close_time"],
                "charges": [],
            }
        found[payer]["charges"].append(_charge(tx))
    return list(found.values())


def _charge(tx: XrplTransaction) -> GasCharge:
    return {
        "transaction_index": tx["transaction_index"],
        "hash": tx["hash"],
        "type": tx["type"],
        "result": tx["result"],
        "account": tx["account"],
        "fee": str(tx["fee"]),
        "burnt": str(tx["fee"]),
    }
