"""Every recorded form of an XRPL ledger or transaction, brought to one.

Transactions come flat with `meta` or `metaData` beside their own fields (api_version 1), as `tx_json` +
`meta` + `hash` (2), as `tx` + `meta` (account_tx), as `tx_json` + `metadata` (transaction_entry), as
`transaction` or `tx_json` + `meta` in a stream message, and in binary as `tx_blob` (or `tx`) + `meta_blob`
(or `meta`) in hex. Ledgers come as the answer's `result`, as its `ledger`, or with the header in hex
(`ledger_data`). Answers may stand in an envelope `{id, status, type, result}`. Only what is validated
passes; where a recording says nothing about it, it is taken as validated.

Functions here tell shapes apart and raise RecordedError; they never look at what a transaction does.
"""

from collections.abc import Mapping
from hashlib import sha512
from typing import Any, NamedTuple

from pipeline.domain.decode.xrpl_errors import (
    ErrorAnswer,
    Malformed,
    MissingMetadata,
    NotALedger,
    NotExpanded,
    NotValidated,
)

Json = Mapping[str, Any]

EPOCH_OFFSET_S = 946_684_800  # seconds from 1970-01-01 to 2000-01-01, where the ledger's clock starts

_TX_KEYS = ("tx_json", "tx", "transaction")
_META_KEYS = ("meta", "metaData", "metadata", "meta_blob")
_FLAT_EXTRA = frozenset((*_META_KEYS, "hash", "validated", "status", "warnings", "warning", "forwarded"))
_HASH_PREFIX_TRANSACTION = b"TXN\x00"
_HASH_PREFIX_LEDGER = b"LWR\x00"
_EMPTY_TREE = "0" * 64

# Stream messages and requests that hold no transaction.
_SILENT_TYPES = frozenset(
    (
        "ledgerClosed",
        "bookChanges",
        "consensusPhase",
        "peerStatusChange",
        "validationReceived",
        "serverStatus",
        "manifestReceived",
        "path_find",
    )
)


class RecordedTransaction(NamedTuple):
    """One transaction as recorded: its fields, its metadata, and what stood around them."""

    tx: Json
    meta: Json
    hash: str  # upper-case hex; "" where the recording does not tell it
    ledger_index: int | None


class RecordedLedger(NamedTuple):
    """A ledger as recorded: the object with the header's fields, the answer around it, its transactions."""

    fields: Json
    answer: Json
    transactions: list[Any]


def to_int(value: object, name: str) -> int:
    """An integer that was recorded as a number or as a string of digits; Malformed names the field."""
    if type(value) is int:
        return value
    if isinstance(value, str) and len(value) <= 20 and value.lstrip("-").isdecimal():
        return int(value)
    raise Malformed(f"{name} is not an integer: {str(value)[:80]!r}")


def unwrap(recorded: object) -> Json:
    """The answer inside its envelope. ErrorAnswer if the node answered with an error."""
    if not isinstance(recorded, Mapping):
        raise NotALedger(f"not a JSON object but {type(recorded).__name__}")
    body = recorded
    while isinstance(body.get("result"), Mapping):
        _refuse_error(body)
        body = body["result"]
    _refuse_error(body)
    return body


def _refuse_error(body: Json) -> None:
    if "error" in body or body.get("status") == "error":
        code = body.get("error") or body.get("error_message") or "no code"
        raise ErrorAnswer(f"the node answered with an error: {str(code)[:200]}")


def is_transaction(body: Json) -> bool:
    """True if `body` (unwrapped) is one transaction in any recorded shape."""
    if "TransactionType" in body or isinstance(body.get("tx_blob"), str):
        return True
    if body.get("type") == "transaction":
        return True
    return any(isinstance(body.get(key), Mapping) and "ledger" not in body for key in _TX_KEYS) or (
        isinstance(body.get("tx"), str) and any(key in body for key in _META_KEYS)
    )


def is_ledger(body: Json) -> bool:
    """True if `body` (unwrapped) is a ledger in any recorded shape."""
    if isinstance(body.get("ledger"), Mapping):
        return True
    return isinstance(body.get("transactions"), list) and ("ledger_index" in body or "ledger_data" in body)


def holds_nothing(recorded: object) -> bool:
    """True for stream messages, requests and answers that by their kind hold no transaction and no ledger."""
    if not isinstance(recorded, Mapping) or "error" in recorded:
        return False
    body = recorded.get("result", recorded)
    if not isinstance(body, Mapping) or is_transaction(body) or is_ledger(body):
        return False
    kind = recorded.get("type")
    return kind in _SILENT_TYPES or "command" in recorded or (kind == "response" and "error" not in body)


def normalise_transaction(recorded: object) -> RecordedTransaction:
    """One transaction from any recorded shape. RecordedError says what is missing."""
    body = unwrap(recorded)
    tx, blob_hash = _transaction_fields(body)
    hash_ = body.get("hash") or tx.get("hash") or blob_hash
    name = hash_ if isinstance(hash_, str) else ""
    if body.get("validated") is False:
        raise NotValidated("the transaction is not validated", name or None)
    return RecordedTransaction(tx, _metadata(body, tx, name), name, _ledger_index_of(body, tx))


def _transaction_fields(body: Json) -> tuple[Json, str]:
    """The transaction's own fields, and its hash where they came as a blob."""
    for key in _TX_KEYS:
        fields = body.get(key)
        if isinstance(fields, Mapping):
            return fields, ""
    blob = body.get("tx_blob") or body.get("tx")
    if isinstance(blob, str):
        return decode_blob(blob), transaction_hash(blob)
    if "TransactionType" in body:
        return {key: value for key, value in body.items() if key not in _FLAT_EXTRA}, ""
    raise NotALedger("neither a ledger nor a transaction: keys " + ", ".join(map(str, list(body)[:8])))


def _metadata(body: Json, tx: Json, name: str) -> Json:
    for holder in (body, tx):
        for key in _META_KEYS:
            meta = holder.get(key)
            if isinstance(meta, str) and meta:
                meta = decode_blob(meta)
            if isinstance(meta, Mapping):
                return meta
    raise MissingMetadata(f"transaction {name or 'of unknown hash'} has no metadata", name or None)


def _ledger_index_of(body: Json, tx: Json) -> int | None:
    for holder in (body, tx):
        for key in ("ledger_index", "inLedger"):
            if key in holder:
                return to_int(holder[key], key)
    return None


def split_ledger(recorded: object) -> RecordedLedger:
    """A ledger and its recorded transactions, in the order of the recording. RecordedError if it is none."""
    answer = unwrap(recorded)
    if isinstance(answer.get("closed"), Mapping) and isinstance(answer.get("open"), Mapping):
        raise NotValidated("the closed and the open ledger, neither of them validated")
    fields = answer.get("ledger", answer)
    if not is_ledger(answer) or not isinstance(fields, Mapping):
        raise NotALedger("not a ledger: keys " + ", ".join(map(str, list(answer)[:8])))
    if answer.get("validated") is False or fields.get("validated") is False:
        raise NotValidated("the ledger is not validated")
    if fields.get("closed") is False or "ledger_current_index" in answer:
        raise NotValidated("the ledger is still open")
    transactions = fields.get("transactions")
    if transactions is None and fields.get("transaction_hash") == _EMPTY_TREE:
        transactions = []
    if not isinstance(transactions, list):
        raise NotExpanded("the ledger was recorded without its transactions")
    if any(isinstance(item, str) for item in transactions):
        raise NotExpanded("the ledger lists hashes instead of transactions (expand was not asked for)")
    return RecordedLedger(fields, answer, transactions)


def read_header(ledger: RecordedLedger) -> dict[str, Any]:
    """The header as far as the recording tells it, in the fields and units of schemas/xrpl/ledgers.avsc."""
    fields, answer = ledger.fields, ledger.answer
    computed = None  # a stated hash counts, so that one that does not fit is seen
    if isinstance(fields.get("ledger_data"), str):
        binary = _binary_header(fields["ledger_data"])
        computed = binary.pop("ledger_hash")
        fields = {**binary, **fields}
    index = _first(fields, answer, "ledger_index", "seqNum")
    header: dict[str, Any] = {
        "ledger_index": to_int(index, "ledger_index"),
        "ledger_hash": _first(fields, answer, "ledger_hash", "hash") or computed,
        "parent_hash": fields.get("parent_hash"),
        "transaction_hash": fields.get("transaction_hash"),
        "account_hash": fields.get("account_hash"),
    }
    for name, value in header.items():
        if name != "ledger_index" and value is not None and not is_hash(value):
            raise Malformed(f"{name} is not 64 hex digits: {str(value)[:80]!r}")
    for name, old in (("total_coins", "totalCoins"), ("close_time_resolution", ""), ("close_flags", "")):
        value = _first(fields, fields, name, old)
        header[name] = None if value is None else to_int(value, name)
    header["close_time"] = _ms_of(fields, "close_time") or 0
    header["parent_close_time"] = _ms_of(fields, "parent_close_time")
    return header


def _first(fields: Json, answer: Json, name: str, old: str) -> Any:
    for holder, key in ((fields, name), (fields, old), (answer, name)):
        if holder.get(key) is not None:
            return holder[key]
    return None


def _ms_of(fields: Json, name: str) -> int | None:
    """Milliseconds since 1970 of a time in seconds since 2000."""
    value = fields.get(name)
    return None if value is None else (to_int(value, name) + EPOCH_OFFSET_S) * 1000


def is_hash(value: object) -> bool:
    """64 hex digits."""
    return isinstance(value, str) and len(value) == 64 and not set(value) - set("0123456789ABCDEFabcdef")


def _binary_header(data: str) -> dict[str, Any]:
    """The fields of a serialised header: 118 bytes, big-endian (rippled `addRaw(LedgerInfo)`)."""
    try:
        raw = bytes.fromhex(data)
    except ValueError:
        raw = b""
    if len(raw) < 118:
        raise Malformed("ledger_data is not a ledger header of 118 bytes in hex")
    return {
        "ledger_index": int.from_bytes(raw[:4]),
        "total_coins": int.from_bytes(raw[4:12]),
        "parent_hash": raw[12:44].hex().upper(),
        "transaction_hash": raw[44:76].hex().upper(),
        "account_hash": raw[76:108].hex().upper(),
        "parent_close_time": int.from_bytes(raw[108:112]),
        "close_time": int.from_bytes(raw[112:116]),
        "close_time_resolution": raw[116],
        "close_flags": raw[117],
        "ledger_hash": sha512(_HASH_PREFIX_LEDGER + raw[:118]).hexdigest()[:64].upper(),
    }


def transaction_hash(blob: str) -> str:
    """Hash of a serialised transaction: the first half of SHA-512 over the prefix "TXN" and its bytes."""
    try:
        return sha512(_HASH_PREFIX_TRANSACTION + bytes.fromhex(blob)).hexdigest()[:64].upper()
    except ValueError:
        raise Malformed("tx_blob is not hex") from None


def decode_blob(blob: str) -> Json:
    """JSON form of a serialised transaction or of metadata (hex). Malformed if it is neither."""
    from pipeline.domain.decode.xrpl_binary import decode_object

    return decode_object(blob)
