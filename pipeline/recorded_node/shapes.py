"""One ledger in every shape that a node answers: api_version 1 and 2, JSON and binary.

A recording of any shape is first brought to one, the *record*: the `result` of `ledger` in api_version 2
with its transactions expanded, in order of their hashes. Where the recording was binary, the record keeps
its blobs as they are (`tx_blob`, `meta_blob`) under a header in JSON. What old recordings lack and a node
of today shows is filled in from what is there: close_flags (0), parent_close_time (the parent's close_time,
or the one that makes the ledger hash hold), delivered_amount. What can't be known is left out.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pipeline.domain.decode.xrpl_address import decode_account
from pipeline.domain.decode.xrpl_errors import RecordedError
from pipeline.domain.decode.xrpl_shapes import (
    EPOCH_OFFSET_S,
    RecordedLedger,
    decode_blob,
    normalise_transaction,
    read_header,
    split_ledger,
    transaction_hash,
)
from pipeline.domain.xrpl_encode import Unencodable, encode_metadata, encode_transaction
from pipeline.domain.xrpl_hash import ledger_hash
from pipeline.recorded_node.errors import Refusal, not_found

Json = dict[str, Any]

HEADER_FIELDS: Final = (
    "account_hash", "close_flags", "close_time", "close_time_resolution", "closed", "ledger_hash", "ledger_index",
    "parent_close_time", "parent_hash", "total_coins", "transaction_hash",
)  # fmt: skip
_HASHES: Final = ("ledger_hash", "parent_hash", "transaction_hash", "account_hash")
_ENTRY_FIELDS: Final = frozenset(
    ("close_time_iso", "hash", "ledger_hash", "ledger_index", "meta", "tx_json", "validated")
)
_ADDED_TO_TX: Final = frozenset(
    ("hash", "date", "ledger_index", "inLedger", "ctid", "owner_funds", "meta", "metaData")
)
_ONLY_IN_STREAM: Final = frozenset(("nftoken_id", "nftoken_ids", "offer_id"))
_DELIVERED_SINCE: Final = 4_594_095  # first ledger whose full deliveries can be told from the Amount
_PARENT_CLOSE_SPAN_S: Final = 3_600
_HEADER: Final = struct.Struct(">IQ32s32s32sIIBB")


def to_record(recorded: object, parent_close_time: int | None = None) -> Json:
    """The record of a ledger recorded in any shape. Raises RecordedError for what is none.

    `parent_close_time`, seconds since 2000, is used where the recording does not tell it.
    """
    split = split_ledger(recorded)
    header = _header(split, parent_close_time)
    entries = [_entry(item, header) for item in split.transactions]
    entries.sort(key=lambda entry: str(entry["hash"]))
    header["transactions"] = entries
    record: Json = {"ledger": header, "ledger_index": header["ledger_index"], "validated": True}
    if "ledger_hash" in header:
        record["ledger_hash"] = header["ledger_hash"]
    return record


def _header(split: RecordedLedger, parent_close_time: int | None) -> Json:
    fields = split.fields
    if type(fields.get("ledger_index")) is int and all(name in fields for name in HEADER_FIELDS):
        return dict(fields)
    told = read_header(split)
    header: Json = {"closed": True, "ledger_index": told["ledger_index"]}
    header.update({name: told[name] for name in _HASHES if told[name] is not None})
    if told["total_coins"] is not None:
        header["total_coins"] = str(told["total_coins"])
        header["close_flags"] = told["close_flags"] or 0
    if told["close_time_resolution"] is not None:
        header["close_time_resolution"] = told["close_time_resolution"]
    if told["close_time"]:
        header.update(close_time_fields(told["close_time"] // 1000 - EPOCH_OFFSET_S))
        if (told["close_flags"] or 0) & 1:
            header["close_time_estimated"] = True
    if told["parent_close_time"] is not None:
        parent_close_time = told["parent_close_time"] // 1000 - EPOCH_OFFSET_S
    elif parent_close_time is None:
        parent_close_time = _find_parent_close_time({**told, "close_flags": told["close_flags"] or 0})
    if parent_close_time is not None:
        header["parent_close_time"] = parent_close_time
    return header


def close_time_fields(seconds: int) -> Json:
    """close_time of a header, seconds since 2000, with the readable forms that a node adds (not to 0)."""
    if not seconds:
        return {"close_time": 0}
    time = datetime.fromtimestamp(seconds + EPOCH_OFFSET_S, UTC)
    return {
        "close_time": seconds,
        "close_time_human": f"{time:%Y-%b-%d %H:%M:%S}.000000000 UTC",
        "close_time_iso": f"{time:%Y-%m-%dT%H:%M:%SZ}",
    }


def _find_parent_close_time(told: Mapping[str, Any]) -> int | None:
    """The parent's close time, seconds since 2000, by the hash that covers it; None if it can't be told."""
    if not told["close_time"] or any(told[name] is None for name in (*_HASHES, "total_coins")):
        return None
    for before in range(_PARENT_CLOSE_SPAN_S):
        parent = told["close_time"] - before * 1000
        if ledger_hash({**told, "parent_close_time": parent}) == told["ledger_hash"]:
            return int(parent // 1000 - EPOCH_OFFSET_S)
    return None


def _entry(item: Any, header: Mapping[str, Any]) -> Json:
    """One transaction of a record."""
    if not isinstance(item, Mapping):
        raise RecordedError(f"a transaction of ledger {header['ledger_index']} is no JSON object")
    if item.keys() == _ENTRY_FIELDS:
        return dict(item)
    blob = item.get("tx_blob") or item.get("tx")
    meta = item.get("meta_blob") or item.get("meta")
    if isinstance(blob, str) and isinstance(meta, str):
        return {"hash": item.get("hash") or transaction_hash(blob), "meta_blob": meta, "tx_blob": blob}
    told = normalise_transaction(item)
    tx = {name: value for name, value in told.tx.items() if name not in _ADDED_TO_TX}
    meta = {name: value for name, value in told.meta.items() if name not in _ONLY_IN_STREAM}
    return json_entry(tx, meta, told.hash, header)


def json_entry(tx: Json, meta: Json, hash_: str, header: Mapping[str, Any]) -> Json:
    """A transaction as `ledger` shows it in api_version 2, with what a node adds to its metadata."""
    if tx.get("TransactionType") == "Payment" and "Amount" in tx:
        tx.setdefault("DeliverMax", tx["Amount"])
        del tx["Amount"]
    _add_to_metadata(tx, meta, int(header["ledger_index"]), int(header.get("close_time", 0)))
    entry = {
        "hash": hash_,
        "ledger_index": header["ledger_index"],
        "meta": meta,
        "tx_json": tx,
        "validated": True,
    }
    entry.update({name: header[name] for name in ("close_time_iso", "ledger_hash") if name in header})
    return entry


def _add_to_metadata(tx: Json, meta: Json, index: int, close_time: int) -> None:
    """delivered_amount and mpt_issuance_id (rippled `DeliveredAmount.cpp`, `MPTokenIssuanceID.cpp`)."""
    kind = tx.get("TransactionType")
    if meta.get("TransactionResult") != "tesSUCCESS":
        return
    if kind in ("Payment", "CheckCash") and "delivered_amount" not in meta:
        amount = tx.get("DeliverMax", tx.get("Amount"))
        known = index >= _DELIVERED_SINCE or close_time > 446_000_000
        delivered = meta.get("DeliveredAmount", amount if known else "unavailable")
        if delivered is not None:
            meta["delivered_amount"] = delivered
    if kind == "MPTokenIssuanceCreate" and "mpt_issuance_id" not in meta:
        sequence = tx.get("TicketSequence") or tx.get("Sequence", 0)
        meta["mpt_issuance_id"] = f"{sequence:08X}{decode_account(tx['Account'])}"


def shown_entry(entry: Json, header: Mapping[str, Any]) -> Json:
    """An entry of a record in JSON, also where the record holds its blobs."""
    if "tx_blob" not in entry:
        return entry
    tx, meta = dict(decode_blob(entry["tx_blob"])), dict(decode_blob(entry["meta_blob"]))
    return json_entry(tx, meta, entry["hash"], header)


def blobs(entry: Mapping[str, Any]) -> tuple[str, str]:
    """(tx_blob, meta_blob) of an entry of a record, in hex. Refusal `internal` if it can't be encoded."""
    if "tx_blob" in entry:
        return entry["tx_blob"], entry["meta_blob"]
    try:
        tx, meta = encode_transaction(entry["tx_json"]), encode_metadata(entry["meta"])
    except Unencodable as error:
        raise Refusal("internal", f"transaction {entry['hash']} has no binary form: {error}") from error
    return tx.hex().upper(), meta.hex().upper()


def flat_transaction(entry: Mapping[str, Any]) -> Json:
    """The fields of a transaction as api_version 1 shows them, with its hash."""
    tx = dict(entry["tx_json"])
    if "DeliverMax" in tx:
        tx["Amount"] = tx["DeliverMax"]
    tx["hash"] = entry["hash"]
    return tx


def shape_header(header: Mapping[str, Any], api_version: int, binary: bool) -> Json:
    """`ledger` of an answer, without transactions."""
    if binary:
        return {"closed": True, "ledger_data": header_blob(header)}
    shown = {name: value for name, value in header.items() if name != "transactions"}
    if api_version == 1:
        shown["ledger_index"] = str(shown["ledger_index"])
    return shown


def header_blob(header: Mapping[str, Any]) -> str:
    """The header's 118 bytes in hex (rippled `addRaw(LedgerHeader)`). lgrNotFound if not all of it is known."""
    try:
        return _HEADER.pack(
            header["ledger_index"], int(header["total_coins"]),
            *(bytes.fromhex(header[name]) for name in ("parent_hash", "transaction_hash", "account_hash")),
            header["parent_close_time"], header["close_time"],
            header["close_time_resolution"], header["close_flags"],
        ).hex().upper()  # fmt: skip
    except KeyError:
        raise not_found() from None


def shape_transaction(
    entry: Json, header: Mapping[str, Any], api_version: int, expand: bool, binary: bool
) -> Any:
    """One of `ledger.transactions` of an answer."""
    if not expand:
        return entry["hash"]
    if binary:
        tx_blob, meta_blob = blobs(entry)
        if api_version == 1:
            return {"meta": meta_blob, "tx_blob": tx_blob}
        return {"hash": entry["hash"], "meta_blob": meta_blob, "tx_blob": tx_blob}
    shown = shown_entry(entry, header)
    return {**flat_transaction(shown), "metaData": shown["meta"]} if api_version == 1 else shown
