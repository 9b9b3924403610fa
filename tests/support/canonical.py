"""Canonical bytes, roots and headers of recorded ledgers, for the tests.

The encoder is the project's own (pipeline/domain/xrpl_encode); tests/pipeline/test_xrpl_encode.py holds it
against xrpl-py's. `transaction_json` and `metadata_json` give what was signed and stored as JSON, without what
a node adds to its answers, in the form that xrpl-py's codec takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.domain.xrpl_encode import encode_metadata, encode_transaction
from pipeline.domain.xrpl_hash import LEDGER_EPOCH_MS, ZERO_HASH, transaction_id, transaction_tree_root


def transaction_json(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The transaction itself of an entry of `ledger.transactions`, api_version 1 or 2, as it was signed."""
    shown = _transaction(entry)
    signed = {name: value for name, value in shown.items() if name[0].isupper() and name != "DeliverMax"}
    if "DeliverMax" in shown:
        signed["Amount"] = shown["DeliverMax"]
    return signed


def metadata_json(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of an entry as they were stored."""
    return {name: value for name, value in _metadata(entry).items() if name[0].isupper()}


def blobs(entry: Mapping[str, Any]) -> tuple[bytes, bytes]:
    """(transaction, metadata) in canonical binary form. Raises Unencodable."""
    return encode_transaction(_transaction(entry)), encode_metadata(_metadata(entry))


def _transaction(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    shown: Mapping[str, Any] = entry.get("tx_json", entry)
    return shown


def _metadata(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    shown: Mapping[str, Any] = entry["meta"] if "meta" in entry else entry["metaData"]
    return shown


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
