"""Stream messages of one validated ledger: `ledgerClosed`, then its transactions in the order of execution.

As recorded in tests/data/xrpl-standalone/ledger-343-shapes.json.gz. Not made here:
`owner_funds` of an OfferCreate, which needs the state at that ledger.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from pipeline.recorded_node.ledger_commands import ctid
from pipeline.recorded_node.shapes import Json, flat_transaction, shown_entry
from pipeline.recorded_node.view import View

# Texts seen in recorded streams; any other result is told by its name.
MESSAGES: Final[Mapping[str, str]] = {
    "tesSUCCESS": "The transaction was applied. Only final in a validated ledger.",
    "tecAMM_NOT_EMPTY": "AMM is not in empty state.",
    "tecCRYPTOCONDITION_ERROR": "Malformed, invalid, or mismatched conditional or fulfillment.",
    "tecDST_TAG_NEEDED": "A destination tag is required.",
    "tecDUPLICATE": "Ledger object already exists.",
    "tecHAS_OBLIGATIONS": "The account cannot be deleted since it has obligations.",
    "tecINSUFFICIENT_FUNDS": "Not enough funds available to complete requested transaction.",
    "tecINSUFFICIENT_RESERVE": "Insufficient reserve to complete requested operation.",
    "tecKILLED": "No funds transferred and no offer created.",
    "tecLOCKED": "Fund is locked.",
    "tecNFTOKEN_OFFER_TYPE_MISMATCH": "The type of NFToken offer is incorrect.",
    "tecNO_ALTERNATIVE_KEY": "The operation would remove the ability to sign transactions with the account.",
    "tecNO_AUTH": "Not authorized to hold asset.",
    "tecNO_DST_INSUF_XRP": "Destination does not exist. Too little XRP sent to create it.",
    "tecNO_ENTRY": "No matching entry found.",
    "tecNO_LINE": "No such line.",
    "tecNO_PERMISSION": "No permission to perform requested operation.",
    "tecNO_TARGET": "Target account does not exist.",
    "tecPATH_DRY": "Path could not send partial amount.",
    "tecPATH_PARTIAL": "Path could not send full amount.",
    "tecTOO_SOON": "It is too early to attempt the requested operation. Please wait.",
    "tecUNFUNDED_OFFER": "Insufficient balance to fund created offer.",
    "tecUNFUNDED_PAYMENT": "Insufficient XRP balance to send.",
}


@lru_cache(maxsize=1)
def _codes() -> Mapping[str, int]:
    from xrpl.core.binarycodec.definitions.definitions import load_definitions

    codes: Mapping[str, int] = load_definitions()["TRANSACTION_RESULTS"]
    return codes


def ledger_closed(view: View, index: int) -> Json:
    """The `ledgerClosed` message of a ledger."""
    head = view.tape.heads[index]
    return {
        "fee_base": view.fees.base,
        "ledger_hash": view.tape.hash_of(index),
        "ledger_index": index,
        "ledger_time": head.close_time,
        "network_id": view.shown_network_id or 0,
        "reserve_base": view.fees.reserve_base,
        "reserve_inc": view.fees.reserve_inc,
        "txn_count": head.transactions,
        "type": "ledgerClosed",
        "validated_ledgers": view.complete_ledgers(),
    }


def server_status(view: View) -> Json:
    """A `serverStatus` message."""
    return {"load_base": 256, "load_factor": 256, "server_status": view.server_state, "type": "serverStatus"}


def transactions(view: View, index: int, api_version: int) -> Iterator[Json]:
    """The `transaction` messages of a ledger."""
    header = view.tape.record(index)["ledger"]
    entries = [shown_entry(entry, header) for entry in header["transactions"]]
    for entry in sorted(entries, key=lambda entry: int(entry["meta"]["TransactionIndex"])):
        yield _message(view, header, entry, api_version)


def _message(view: View, header: Json, entry: Json, api_version: int) -> Json:
    meta = {**entry["meta"], **_synthetic(entry["tx_json"], entry["meta"])}
    result = meta["TransactionResult"]
    message: Json = {name: header[name] for name in ("close_time_iso", "ledger_hash") if name in header}
    message |= {
        "engine_result": result,
        "engine_result_code": _codes().get(result, -1),
        "engine_result_message": MESSAGES.get(result, result),
        "ledger_index": header["ledger_index"],
        "meta": meta,
        "status": "closed",
        "type": "transaction",
        "validated": True,
    }
    number = ctid(header["ledger_index"], meta["TransactionIndex"], view.shown_network_id or 0)
    if number is not None:
        message["ctid"] = number
    dated = {"date": header["close_time"]} if "close_time" in header else {}
    if api_version == 1:
        return message | {"transaction": {**flat_transaction(entry), **dated}}
    return message | {"hash": entry["hash"], "tx_json": {**entry["tx_json"], **dated}}


def _synthetic(tx: Mapping[str, Any], meta: Mapping[str, Any]) -> Json:
    """What a node adds to the metadata in its streams only."""
    if meta["TransactionResult"] != "tesSUCCESS":
        return {}
    kind, nodes = tx["TransactionType"], meta.get("AffectedNodes", ())
    if kind == "NFTokenMint":
        return _minted(nodes) | (_offer_made(nodes) if "Amount" in tx else {})
    if kind == "NFTokenCreateOffer":
        return _offer_made(nodes)
    if kind in ("NFTokenAcceptOffer", "NFTokenCancelOffer"):
        ids = [
            node["DeletedNode"]["FinalFields"]["NFTokenID"]
            for node in nodes
            if node.get("DeletedNode", {}).get("LedgerEntryType") == "NFTokenOffer"
        ]
        if kind == "NFTokenCancelOffer":
            return {"nftoken_ids": sorted(set(ids))}
        return {"nftoken_id": ids[0]} if ids else {}
    if kind == "AccountDelete" and "DeliveredAmount" in meta:
        return {"delivered_amount": meta["DeliveredAmount"]}
    return {}


def _offer_made(nodes: Any) -> Json:
    for node in nodes:
        created = node.get("CreatedNode", {})
        if created.get("LedgerEntryType") == "NFTokenOffer":
            return {"offer_id": created["LedgerIndex"]}
    return {}


def _minted(nodes: Any) -> Json:
    """The token that stands on a page after and on none before."""
    before: set[str] = set()
    after: list[str] = []
    for node in nodes:
        ((action, body),) = node.items()
        if body["LedgerEntryType"] != "NFTokenPage":
            continue
        if action == "CreatedNode":
            after += _tokens(body.get("NewFields"))
        elif "NFTokens" in (body.get("PreviousFields") or {}):
            before.update(_tokens(body["PreviousFields"]))
            after += _tokens(body.get("FinalFields"))
    new = [token for token in after if token not in before]
    return {"nftoken_id": new[0]} if new else {}


def _tokens(fields: Mapping[str, Any] | None) -> list[str]:
    return [token["NFToken"]["NFTokenID"] for token in (fields or {}).get("NFTokens", ())]
