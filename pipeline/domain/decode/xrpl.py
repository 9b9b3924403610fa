"""Recorded XRPL ledgers and transactions to the records of schemas/xrpl/ledgers.avsc. Pure.

`decode_transaction` and `decode_ledger` read any recorded shape (xrpl_shapes), take the effects from the
metadata (xrpl_effects) and give plain dicts in exactly the schema's shape. What can't be read at all raises a
RecordedError; a transaction of which only a part can be read has that part and `error`.
"""

import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import orjson
from isal import isal_zlib

from pipeline.domain.decode.xrpl_address import ACCOUNT_ZERO
from pipeline.domain.decode.xrpl_amounts import DROPS_MAX, drops
from pipeline.domain.decode.xrpl_effects import Effects, attribute_unexplained, mpt_rows, read_effects
from pipeline.domain.decode.xrpl_errors import Malformed, RecordedError
from pipeline.domain.decode.xrpl_shapes import (
    RecordedTransaction,
    is_hash,
    normalise_transaction,
    read_header,
    split_ledger,
    to_int,
)

DECODER_VERSION = 1

TF_INNER_BATCH_TXN = 0x40000000
# ISA-L's level 1 gives the same size as zlib's (0.46 of the JSON) in 0.4 of its time; higher levels save little.
RAW_LEVEL = 1


def decode_transaction(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """XrplTransaction record of one transaction in any recorded shape.

    `hash` is "" and `transaction_index` 0 where the recording does not tell them. RecordedError if there is
    no transaction, no metadata, or it is not validated.
    """
    return transaction_record(normalise_transaction(recorded))


def decode_ledger(recorded: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(header fields of XrplLedger that the recording tells, XrplTransaction records by transaction_index).

    RecordedError if it is not a whole validated ledger: one transaction without metadata, hash or
    TransactionIndex is enough, since every later balance would be wrong.
    """
    ledger = split_ledger(recorded)
    header = read_header(ledger)
    transactions = []
    for item in ledger.transactions:
        transaction = normalise_transaction(item)
        if not transaction.hash:
            raise Malformed(f"a transaction of ledger {header['ledger_index']} has no hash")
        if not is_hash(transaction.hash):
            raise Malformed(
                f"transaction hash is not 64 hex digits: {transaction.hash[:80]!r}", transaction.hash
            )
        if "TransactionIndex" not in transaction.meta:
            raise Malformed(f"transaction {transaction.hash} has no TransactionIndex", transaction.hash)
        transactions.append(transaction_record(transaction))
    transactions.sort(key=_index)
    for one, other in pairwise(transactions):
        if _index(one) == _index(other):
            name = other["hash"]
            raise Malformed(f"transactions {one['hash']} and {name} have the same TransactionIndex", name)
    return header, transactions


def _index(transaction: dict[str, Any]) -> int:
    index: int = transaction["transaction_index"]
    return index


def transaction_record(recorded: RecordedTransaction) -> dict[str, Any]:
    """XrplTransaction record of a normalised transaction. Malformed if TransactionIndex is no index."""
    tx, meta = recorded.tx, recorded.meta
    index = to_int(meta.get("TransactionIndex", 0), "TransactionIndex")
    if not 0 <= index < 2**31:
        raise Malformed(f"TransactionIndex out of range: {index}", recorded.hash or None)
    effects = read_effects(meta)
    account = _string(tx, "Account", ACCOUNT_ZERO)
    record: dict[str, Any] = {
        "transaction_index": index,
        "hash": recorded.hash,
        "type": _string(tx, "TransactionType", ""),
        "result": _string(meta, "TransactionResult", ""),
        "account": account,
        "fee_payer": _string(tx, "Delegate", account),
        "fee": _fee(tx, meta.get("TransactionResult"), effects),
        "sequence": _sequence(tx, effects),
        "destination": tx["Destination"] if isinstance(tx.get("Destination"), str) else None,
        "memos": _memos(tx["Memos"]) if tx.get("Memos") else [],
        "balance_changes": effects.balance_changes,
        "nft_changes": _nft_changes(effects),
        "mpt_changes": mpt_rows(effects) if effects.mpts else [],
        "object_changes": effects.object_changes,
    }
    _put_unexplained(record, effects)
    record["error"] = "; ".join(effects.errors) or None
    record["raw"] = raw_transaction(recorded)
    return record


def _nft_changes(effects: Effects) -> list[dict[str, Any]]:
    if effects.nfts is None:
        return []
    try:
        return effects.nfts.changes()
    except ValueError as error:
        effects.errors.append(f"NFTokenPage: {error}")
        return []


def _put_unexplained(record: dict[str, Any], effects: Effects) -> None:
    unexplained = -record["fee"] - effects.native
    entry = kind = None
    if abs(unexplained) > DROPS_MAX:
        effects.errors.append(f"the native changes leave {unexplained} drops unexplained")
        unexplained = 0
    if unexplained:
        entry, kind = attribute_unexplained(effects, unexplained)
        entry = entry or record["hash"]
    record["unexplained"] = unexplained
    record["unexplained_entry"] = entry
    record["unexplained_type"] = kind


def _string(fields: Mapping[str, Any], name: str, default: str) -> str:
    value = fields.get(name)
    if isinstance(value, str) and value:
        return value
    return default if value is None or value == "" else str(value)[:200]


def _fee(tx: Mapping[str, Any], result: object, effects: Effects) -> int:
    """Drops burnt; inner batch transactions pay none (the outer one did)."""
    try:
        unsigned = not tx.get("SigningPubKey") and not tx.get("Signers")
        if unsigned and to_int(tx.get("Flags", 0), "Flags") & TF_INNER_BATCH_TXN:
            return 0
        fee = drops(tx.get("Fee", "0"))
        if result == "tecINSUFF_FEE" and 0 <= -effects.native < fee:
            return -effects.native  # the node took what the account had, and nothing else happened
        return fee
    except ValueError as error:
        effects.errors.append(f"Fee: {error}")
        return 0


def _sequence(tx: Mapping[str, Any], effects: Effects) -> int:
    try:
        sequence = to_int(tx.get("Sequence", 0), "Sequence")
        if 0 <= sequence < 2**63:
            return sequence
        raise Malformed(f"Sequence out of range: {sequence}")
    except RecordedError as error:
        effects.errors.append(error.reason)
        return 0


def _memos(memos: Any) -> list[dict[str, str]]:
    """Memo records; what is not of a memo's form is left to `raw`."""
    rows = []
    for item in memos if isinstance(memos, list) else ():
        memo = item.get("Memo") if isinstance(item, Mapping) else None
        if isinstance(memo, Mapping):
            rows.append({name[4:].lower(): _memo_text(memo.get(name)) for name in _MEMO_FIELDS})
    return rows


_MEMO_FIELDS = ("MemoType", "MemoFormat", "MemoData")


def _memo_text(value: object) -> str:
    """Text where the hex is UTF-8, else the hex as recorded."""
    if not isinstance(value, str):
        return ""
    try:
        return bytes.fromhex(value).decode()
    except ValueError:
        return value


def raw_transaction(recorded: RecordedTransaction) -> bytes:
    """The transaction and its metadata as recorded: zlib of compact JSON {tx_json, meta, hash}."""
    whole = {"tx_json": recorded.tx, "meta": recorded.meta, "hash": recorded.hash}
    try:
        text = orjson.dumps(whole)
    except TypeError:  # integers beyond 64 bits, lone surrogates
        text = json.dumps(whole, separators=(",", ":")).encode()
    return isal_zlib.compress(text, RAW_LEVEL)
