"""From the JSON a node answers to the canonical binary form that its hashes cover, with xrpl-py's codec.

A node adds fields to its JSON answers that are no part of what was signed or stored (`date`,
`delivered_amount`, `mpt_issuance_id`, ...), and api_version 2 renames a Payment's Amount to DeliverMax.
Both are undone here. xrpl-py 5.2 reads the decimal LockedAmount as hex, so it is given as a number. What it
cannot encode: metadata with negative XRP (2013), and with a native DeliveredAmount of "-1" (2024). All 988
transactions of the recorded stand-alone chain encode.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xrpl.core.binarycodec import encode

from pipeline.domain.xrpl_hash import LEDGER_EPOCH_MS, ZERO_HASH, transaction_id, transaction_tree_root

ADDED_TO_TRANSACTION = frozenset(
    {"hash", "meta", "metaData", "date", "ledger_index", "inLedger", "owner_funds", "DeliverMax", "ctid"}
)
ADDED_TO_METADATA = frozenset(
    {"delivered_amount", "mpt_issuance_id", "nftoken_id", "nftoken_ids", "offer_id"}
)


def transaction_json(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The transaction itself of an entry of `ledger.transactions`, api_version 1 or 2, as it was signed."""
    shown: Mapping[str, Any] = entry.get("tx_json", entry)
    signed = {name: value for name, value in shown.items() if name not in ADDED_TO_TRANSACTION}
    if "DeliverMax" in shown:
        signed["Amount"] = shown["DeliverMax"]
    return signed


def metadata_json(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of an entry as they were stored."""
    shown: Mapping[str, Any] = entry["meta"] if "meta" in entry else entry["metaData"]
    return {name: value for name, value in shown.items() if name not in ADDED_TO_METADATA}


def blobs(entry: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """(transaction, metadata) in canonical binary form. Raises what xrpl-py raises."""
    metadata = _for_codec(metadata_json(entry))
    return bytes.fromhex(encode(transaction_json(entry))), bytes.fromhex(encode(metadata))


def _for_codec(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: int(v) if k == "LockedAmount" else _for_codec(v) for k, v in value.items()}
    return [_for_codec(item) for item in value] if isinstance(value, list) else value


def tree_root(entries: list[dict[str, Any]]) -> str:
    """Root of the transaction tree of a ledger's entries, each under the id its own blob gives."""
    encoded = [blobs(entry) for entry in entries]
    return transaction_tree_root((tx, meta, transaction_id(tx)) for tx, meta in encoded)


def header_fields(ledger: Mapping[str, Any], parent: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """A recorded header in the field names and units of schemas/xrpl/ledgers.avsc.

    `parent` fills in parent_close_time where the recording of 2015 lacks it.
    """
    parent_close = ledger.get("parent_close_time")
    if parent_close is None and parent is not None:
        parent_close = parent["close_time"]
    return {
        "ledger_index": int(ledger["ledger_index"]),
        "total_coins": int(ledger["total_coins"]),
        "parent_hash": ledger.get("parent_hash", ZERO_HASH),
        "transaction_hash": ledger["transaction_hash"],
        "account_hash": ledger["account_hash"],
        "parent_close_time": None if parent_close is None else parent_close * 1000 + LEDGER_EPOCH_MS,
        "close_time": ledger["close_time"] * 1000 + LEDGER_EPOCH_MS,
        "close_time_resolution": ledger["close_time_resolution"],
        "close_flags": ledger.get("close_flags"),
    }
