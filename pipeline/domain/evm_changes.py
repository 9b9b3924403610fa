"""Effects of an EVM block → changes of assets and gas charges, for consumers and the tables of state. Pure.

Every state of a block is told, as in evm.blocks.v1: what a head did is pending, `final` makes it fact, `retracted`
undoes it. Whoever wants facts only takes the final records. Balances of fungible tokens are kept in the books; a
holding is a token with an owner of its own (ERC-721).
"""

from __future__ import annotations

from pipeline.domain.decode.evm_transfers import ZERO_ADDRESS
from schemas.records import (
    AssetAction,
    AssetChange,
    AssetChanges,
    EvmBlock,
    EvmTransaction,
    EvmTransfer,
    GasCharge,
    GasCharges,
)

RESULTS = {1: "success", 0: "failed", None: ""}


def evm_asset_changes(block: EvmBlock) -> list[AssetChanges]:
    """One record per ERC-721 token that this block (or chunk) moved, changes in the order applied.

    A change's index is its transfer's place among all of the transaction, however that is cut into parts.
    """
    found: dict[str, AssetChanges] = {}
    for tx in block["transactions"]:
        for index, transfer in enumerate(tx["transfers"], tx["first_transfer"]):
            if transfer["standard"] != "erc721":
                continue
            key = f"{block['chain']}/{transfer['asset']}"
            if key not in found:
                found[key] = {
                    "asset": key,
                    "kind": "nft",
                    "chain": block["chain"],
                    "chain_number": block["chain_number"],
                    "block": block["block_number"],
                    "block_hash": block["block_hash"],
                    "chunk": block["chunk"],
                    "finality": block["finality"],
                    "incarnation": block["incarnation"],
                    "publication": block["publication"],
                    "time": block["time"],
                    "changes": [],
                }
            found[key]["changes"].append(_change(tx, transfer, index))
    return list(found.values())


def _change(tx: EvmTransaction, transfer: EvmTransfer, index: int) -> AssetChange:
    source = None if transfer["from_address"] == ZERO_ADDRESS else transfer["from_address"]
    target = None if transfer["to_address"] == ZERO_ADDRESS else transfer["to_address"]
    action: AssetAction = "minted" if source is None else "burnt" if target is None else "transferred"
    return {
        "transaction_index": tx["transaction_index"],
        "change_index": index,
        "hash": tx["hash"],
        "type": _type(tx),
        "action": action,
        "from_owner": source,
        "to_owner": target,
        "amount": "0" if target is None else "1",
        "change": str((source is None) - (target is None)),
        "locked": "0",
        "uri": None,
    }


def evm_gas_charges(block: EvmBlock) -> list[GasCharges]:
    """One record per account that paid a fee in this block (or chunk); part 0 of a transaction tells its fee."""
    found: dict[str, GasCharges] = {}
    for tx in block["transactions"]:
        payer, fee = tx["fee_payer"], tx["fee"]
        if tx["part"] or payer is None or fee is None or fee == "0":
            continue
        if payer not in found:
            found[payer] = {
                "owner": payer,
                "chain": block["chain"],
                "chain_number": block["chain_number"],
                "block": block["block_number"],
                "block_hash": block["block_hash"],
                "chunk": block["chunk"],
                "finality": block["finality"],
                "incarnation": block["incarnation"],
                "publication": block["publication"],
                "time": block["time"],
                "charges": [],
            }
        found[payer]["charges"].append(_charge(tx, fee))
    return list(found.values())


def _charge(tx: EvmTransaction, fee: str) -> GasCharge:
    return {
        "transaction_index": tx["transaction_index"],
        "hash": tx["hash"],
        "type": _type(tx),
        "result": RESULTS.get(tx["status"], ""),
        "account": tx["from_address"] or "",
        "fee": fee,
        "burnt": tx["burnt"],
    }


def _type(tx: EvmTransaction) -> str:
    """As in gas_ledger: the number of the transaction's type."""
    return "" if tx["type"] is None else str(tx["type"])
