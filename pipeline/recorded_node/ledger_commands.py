"""The commands about ledgers and transactions: ledger, ledger_closed, ledger_current, ledger_data, tx.

Source: rippled `LedgerHandler.cpp`, `LedgerToJson.cpp`, `LedgerData.cpp`, `Tx.cpp`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pipeline.domain.xrpl_encode import Unencodable, encode_entry
from pipeline.recorded_node.errors import Refusal, invalid_field, not_found
from pipeline.recorded_node.request import Ledger, about, flag, is_hash, lookup_ledger
from pipeline.recorded_node.shapes import (
    Json,
    blobs,
    flat_transaction,
    shape_header,
    shape_transaction,
    shown_entry,
)
from pipeline.recorded_node.state import page, shown_object
from pipeline.recorded_node.view import View

PAGE_JSON: Final = 256
PAGE_BINARY: Final = 2048
_RANGE_MAX: Final = 1000

ENTRY_TYPES: Final[Mapping[str, str]] = {
    "account": "AccountRoot", "amendments": "Amendments", "amm": "AMM", "bridge": "Bridge", "check": "Check",
    "credential": "Credential", "delegate": "Delegate", "deposit_preauth": "DepositPreauth", "did": "DID",
    "directory": "DirectoryNode", "escrow": "Escrow", "fee": "FeeSettings", "hashes": "LedgerHashes",
    "loan": "Loan", "loan_broker": "LoanBroker", "mpt_issuance": "MPTokenIssuance", "mptoken": "MPToken",
    "nft_offer": "NFTokenOffer", "nft_page": "NFTokenPage", "nunl": "NegativeUNL", "offer": "Offer",
    "oracle": "Oracle", "payment_channel": "PayChannel", "permissioned_domain": "PermissionedDomain",
    "signer_list": "SignerList", "state": "RippleState", "ticket": "Ticket", "vault": "Vault",
    "xchain_owned_claim_id": "XChainOwnedClaimID",
    "xchain_owned_create_account_claim_id": "XChainOwnedCreateAccountClaimID",
}  # fmt: skip


def ledger(view: View, params: Mapping[str, Any], api_version: int) -> Json | bytes:
    """`ledger`: the record's own bytes where they are the answer."""
    if flag(params, "full") or flag(params, "accounts"):
        raise Refusal("noPermission")
    if all(params.get(name) is None for name in ("ledger", "ledger_hash", "ledger_index")):
        return _closed_and_open(view, params, api_version)
    found = lookup_ledger(view, params, api_version)
    if found.open:
        return {"ledger": _open_ledger(view, params, api_version), **about(view, found)}
    whole = flag(params, "transactions") and flag(params, "expand")
    binary = flag(params, "binary")
    if whole and api_version > 1 and not binary and view.tape.heads[found.index].plain:
        return view.tape.text(found.index)
    if whole:
        form = f"v{api_version}{' binary' if binary else ''}"
        return view.tape.derived(found.index, form, lambda record: shape_record(record, params, api_version))
    return shape_record(view.tape.record(found.index), params, api_version)


def shape_record(record: Json, params: Mapping[str, Any], api_version: int) -> Json:
    """A record as the `result` that a request asks for."""
    header, binary = record["ledger"], flag(params, "binary")
    shown = shape_header(header, api_version, binary)
    if flag(params, "transactions"):
        expand = flag(params, "expand")
        shown["transactions"] = [
            shape_transaction(entry, header, api_version, expand, binary) for entry in header["transactions"]
        ]
    return {**record, "ledger": shown}


def _closed_and_open(view: View, params: Mapping[str, Any], api_version: int) -> Json:
    closed = lookup_ledger(view, {"ledger_index": "closed"}, api_version)
    shown = shape_header(view.tape.record(closed.index)["ledger"], api_version, binary=False)
    return {"closed": {"ledger": shown}, "open": {"ledger": _open_ledger(view, {}, api_version)}}


def _open_ledger(view: View, params: Mapping[str, Any], api_version: int) -> Json:
    """The ledger after the last: nothing in it yet."""
    shown: Json = {"closed": False}
    if not flag(params, "binary"):
        index = view.last + 1
        shown["ledger_index"] = str(index) if api_version == 1 else index
        shown["parent_hash"] = view.tape.hash_of(view.last)
    if flag(params, "transactions"):
        shown["transactions"] = []
    return shown


def ledger_closed(view: View, params: Mapping[str, Any], api_version: int) -> Json:
    """`ledger_closed`: the last closed ledger."""
    index = view.validated()
    return {"ledger_hash": view.tape.hash_of(index), "ledger_index": index}


def ledger_current(view: View, params: Mapping[str, Any], api_version: int) -> Json:
    """`ledger_current`: the open ledger."""
    return {"ledger_current_index": view.last + 1}


def state_of(view: View, found: Ledger) -> tuple[dict[str, Json], list[str]]:
    """(state, its keys in order); lgrNotFound where the recording does not tell it."""
    try:
        return view.states.at(view.last if found.open else found.index)
    except KeyError:
        raise not_found() from None


def ledger_data(view: View, params: Mapping[str, Any], api_version: int) -> Json:
    """`ledger_data`: one page of the state; the header stands on the first only."""
    found = lookup_ledger(view, params, api_version)
    marker, limit, binary = params.get("marker"), params.get("limit"), flag(params, "binary")
    if marker is not None and not is_hash(marker):
        raise invalid_field("marker", "valid")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool)):
        raise invalid_field("limit", "integer")
    most = PAGE_BINARY if binary else PAGE_JSON
    state, keys = state_of(view, found)
    size = most if limit is None or not 0 <= limit <= most else limit
    taken, following = page(keys, "0" * 64 if marker is None else marker.upper(), size)
    answer = about(view, found)
    if marker is None:
        answer["ledger"] = (
            _open_ledger(view, params, api_version)
            if found.open
            else shape_header(view.tape.record(found.index)["ledger"], api_version, binary)
        )
    kind = _entry_type(params)
    answer["state"] = [
        _shown(key, state[key], binary) for key in taken if kind in ("", state[key]["LedgerEntryType"])
    ]
    if following is not None:
        answer["marker"] = following
    return answer


def _entry_type(params: Mapping[str, Any]) -> str:
    name = params.get("type")
    if name is None:
        return ""
    if not isinstance(name, str):
        raise invalid_field("type", "string")
    if name in ENTRY_TYPES.values():
        return name
    if name not in ENTRY_TYPES:
        raise invalid_field("type")
    return ENTRY_TYPES[name]


def _shown(key: str, entry: Json, binary: bool) -> Json:
    if not binary:
        return shown_object(key, entry)
    try:
        return {"data": encode_entry(entry).hex().upper(), "index": key}
    except Unencodable as error:
        raise Refusal("internal", f"entry {key} has no binary form: {error}") from error


def tx(view: View, params: Mapping[str, Any], api_version: int) -> Json:
    """`tx`: one transaction by its hash."""
    if not is_hash(params.get("transaction")):
        raise Refusal("notImpl" if "transaction" in params else "invalidParams")
    asked = _asked_range(params)
    hash_ = params["transaction"].upper()
    index = view.tape.index_with(hash_)
    if index is None or not view.has(index) or (asked and index not in asked):
        searched = {"searched_all": all(map(view.has, asked))} if asked else {}
        raise Refusal("txnNotFound", extra=searched)
    return _shown_tx(view, index, hash_, api_version, flag(params, "binary"))


def _asked_range(params: Mapping[str, Any]) -> range | None:
    """The ledgers that a transaction is sought in, where the request names them."""
    low, high = params.get("min_ledger"), params.get("max_ledger")
    if not isinstance(low, int) or not isinstance(high, int):
        return None
    if high < low:
        raise Refusal("invalidLgrRange")
    if high - low > _RANGE_MAX:
        raise Refusal("excessiveLgrRange")
    return range(low, high + 1)


def _shown_tx(view: View, index: int, hash_: str, api_version: int, binary: bool) -> Json:
    header = view.tape.record(index)["ledger"]
    entry = next(entry for entry in header["transactions"] if entry["hash"] == hash_)
    shown = shown_entry(entry, header)
    number = ctid(index, shown["meta"]["TransactionIndex"], view.shown_network_id or 0)
    place: Json = {"validated": True} if number is None else {"ctid": number, "validated": True}
    dated = {"date": header["close_time"]} if "close_time" in header else {}
    meta: Any = shown["meta"]
    if binary:
        tx_blob, meta = blobs(entry)
    if api_version == 1:
        body: Json = {"tx": tx_blob, "hash": hash_} if binary else flat_transaction(shown)
        return {**body, "meta": meta, "inLedger": index, "ledger_index": index, **dated, **place}
    told: Json = {
        name: shown[name]
        for name in ("close_time_iso", "hash", "ledger_hash", "ledger_index")
        if name in shown
    }
    if binary:
        return {**told, "tx_blob": tx_blob, "meta_blob": meta, **place}
    body = {**shown["tx_json"], "ledger_index": index, **dated}
    return {**told, "tx_json": body, "meta": meta, **place}


def ctid(ledger_index: int, transaction_index: int, network_id: int) -> str | None:
    """Compact transaction id; None where it does not fit (rippled `CTID.h`)."""
    if ledger_index > 0x0FFF_FFFF or transaction_index > 0xFFFF or network_id > 0xFFFF:
        return None
    return f"C{ledger_index:07X}{transaction_index:04X}{network_id:04X}"
