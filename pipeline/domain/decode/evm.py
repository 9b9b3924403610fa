"""Blocks and receipts of an EVM chain to the records of schemas/evm/blocks.avsc. Pure.

`decode_block` takes a block with its receipts as the node gave them and the contracts that are watched, and
gives the header's fields and the transactions of interest in exactly the schema's shape. What a block message
says besides (finality, incarnation, chunk) is the ingest's to add: `block_record`. `transaction_record` does
one transaction of any recording, with null for what it does not tell.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from pipeline.domain.decode.evm_contracts import UNDECLARED, Contracts
from pipeline.domain.decode.evm_gas import gas_of, transaction_type
from pipeline.domain.decode.evm_transfers import balance_changes_of, transfers_of
from pipeline.domain.decode.evm_values import (
    ADDRESS_DIGITS,
    HASH_DIGITS,
    INT_LIMIT,
    LONG_LIMIT,
    decimal,
    hex_text,
    needed,
    objects,
    optional_hex,
    quantity,
)
from pipeline.domain.decode.xrpl_errors import Malformed, MissingMetadata
from schemas.records import Check, EvmBlock, EvmLog, EvmTransaction, Finality

DECODER_VERSION: Final = 1
RAW_LEVEL: Final = (
    6  # a transaction and its receipt are small: level 1 saves little time and 5 % of space less
)

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Chain:
    """What decoding must know of a chain."""

    burns: bool | None = None  # whether it burns the base fee and the blob fee; None = unknown
    treasuries: frozenset[str] = frozenset()  # addresses (lower case) whose fees S0 counts as treasury's
    watched_addresses: frozenset[str] = frozenset()  # transactions from or to these are of interest too
    everything: bool | None = None  # all transactions are of interest; None: where nothing at all is watched


UNKNOWN_CHAIN: Final = Chain()


def decode_block(
    block: Fields, receipts: Sequence[Fields], contracts: Contracts, chain: Chain
) -> tuple[dict[str, Any], list[EvmTransaction]]:
    """(header fields of EvmBlock, transactions of interest by index) of a whole block.

    `block`: eth_getBlockByNumber with or without transaction objects; `receipts`: all of eth_getBlockReceipts.
    Without declared contracts and watched addresses every transaction is of interest. RecordedError if the
    two don't belong together or a needed field is missing: nothing of such a block may be published.
    """
    (block,), receipts = objects([block], "the block"), objects(receipts, "receipts")
    header = header_fields(block)
    listed = _listed(block)
    by_hash = {hex_text(one.get("transactionHash"), "transactionHash", HASH_DIGITS): one for one in receipts}
    if len(by_hash) != len(listed) or len(receipts) != len(listed) or by_hash.keys() != listed.keys():
        raise MissingMetadata(
            f"block {header['block_number']} has {len(listed)} transactions, the receipts are of "
            f"{len(by_hash)}, {len(by_hash.keys() & listed.keys())} of them the same"
        )
    base_fee = int(header["base_fee"] or 0)
    transactions = []
    for index, (name, transaction) in enumerate(listed.items()):
        receipt = by_hash[name]
        _check_belongs(header["block_hash"], index, name, receipt)
        if is_of_interest(transaction, receipt, contracts, chain):
            record = transaction_record(
                transaction, receipt, objects(receipt.get("logs"), "logs"), contracts, chain, base_fee
            )
            _check_whole(record)
            transactions.append(record)
    header["transaction_count"] = len(listed)
    header["watched_count"] = len(transactions)
    header["log_count"] = sum(len(one["logs"]) for one in transactions)
    header["watched"] = bool(transactions)
    return header, transactions


def is_of_interest(transaction: Fields, receipt: Fields, contracts: Contracts, chain: Chain) -> bool:
    """Whether a transaction emitted a watched log, or is from or to a watched address."""
    nothing = not len(contracts) and not chain.watched_addresses
    if chain.everything or (nothing and chain.everything is None):
        return True
    if any(_address(log.get("address")) in contracts for log in objects(receipt.get("logs"), "logs")):
        return True
    ends = {_address(of.get(name)) for of in (transaction, receipt) for name in ("from", "to")}
    return not ends.isdisjoint(chain.watched_addresses)


def _address(value: Any) -> str:
    """An address to look up; "" for what is none."""
    if isinstance(value, bytes | bytearray):
        return "0x" + bytes(value).hex()
    return value.lower() if isinstance(value, str) else ""


def _listed(block: Fields) -> dict[str, Fields]:
    """The block's transactions by hash, in their order; hashes alone are as good."""
    found: dict[str, Fields] = {}
    transactions = block.get("transactions")
    if not isinstance(transactions, list | tuple):
        raise Malformed(f"transactions of a block are no list: {str(transactions)[:80]}")
    for each in transactions:
        fields = each if isinstance(each, Mapping) else {"hash": each}
        found[hex_text(fields.get("hash"), "transaction hash", HASH_DIGITS)] = fields
    return found


def _check_belongs(block_hash: str, index: int, name: str, receipt: Fields) -> None:
    """Malformed if a receipt is of another block or place: an answer from the other side of a reorganisation."""
    told = hex_text(receipt.get("blockHash"), "blockHash", HASH_DIGITS)
    place = needed(receipt, "transactionIndex", f"receipt {name}")
    if (told, place) != (block_hash, index):
        raise Malformed(
            f"receipt {name} is of block {told} place {place}, not {block_hash} place {index}", name
        )


_FEE_MAX: Final = 2**128  # more wei than any chain has: a node that says so lies


def _check_whole(record: EvmTransaction) -> None:
    """Malformed if a published transaction would lack what it must have, or hold what no chain gives."""
    name = record["hash"]
    if record["gas_used"] is None or record["fee_payer"] is None:
        raise Malformed(f"receipt {name} has no gasUsed or from", name)
    if int(record["fee"] or 0) >= _FEE_MAX:
        raise Malformed(f"receipt {name}: a fee of {record['fee']} wei", name)
    places = [log["log_index"] for log in record["logs"]]
    if any(place is None for place in places) or len(set(places)) != len(places):
        raise Malformed(f"logs of {name} have no logIndex, or one twice", name)


def header_fields(block: Fields) -> dict[str, Any]:
    """The header's fields of EvmBlock. Malformed if one that must be there is not."""
    number = needed(block, "number", "the block", 1 << 40)
    what = f"block {number}"
    roots = ("stateRoot", "transactionsRoot", "receiptsRoot")
    state, transactions, receipts = (optional_hex(block, name, HASH_DIGITS) for name in roots)
    return {
        "block_number": number,
        "block_hash": hex_text(block.get("hash"), f"{what}: hash", HASH_DIGITS),
        "parent_hash": hex_text(block.get("parentHash"), f"{what}: parentHash", HASH_DIGITS),
        "time": 1000 * needed(block, "timestamp", what, 1 << 40),
        "gas_used": needed(block, "gasUsed", what),
        "gas_limit": quantity(block, "gasLimit", LONG_LIMIT) or 0,
        "base_fee": decimal(quantity(block, "baseFeePerGas")),
        "blob_gas_used": quantity(block, "blobGasUsed", LONG_LIMIT),
        "excess_blob_gas": quantity(block, "excessBlobGas", LONG_LIMIT),
        "fee_recipient": optional_hex(block, "miner", ADDRESS_DIGITS),
        "state_root": state,
        "transactions_root": transactions,
        "receipts_root": receipts,
        "decoder_version": DECODER_VERSION,
        "raw_header": packed(
            {name: of for name, of in block.items() if name not in ("transactions", "withdrawals", "uncles")}
        ),
    }


def transaction_record(
    transaction: Fields,
    receipt: Fields,
    logs: Sequence[Fields],
    contracts: Contracts = UNDECLARED,
    chain: Chain = UNKNOWN_CHAIN,
    base_fee: int | None = None,
) -> EvmTransaction:
    """EvmTransaction of what was recorded of one transaction; {} for a transaction or receipt that was not.

    `base_fee`: the block's, 0 where a known header has none, None where there is no header.
    `transaction_index` and `log_index` are None where the recording does not tell them; nothing of that kind
    is ever published. RecordedError for what is no transaction at all.
    """
    name = hex_text(receipt.get("transactionHash", transaction.get("hash")), "transaction hash", HASH_DIGITS)
    records = sorted(
        (log_record(log, contracts) for log in logs),
        key=lambda log: log["log_index"] if log["log_index"] is not None else 2**31,
    )
    transfers = transfers_of(records, contracts)
    gas = gas_of(transaction, receipt, base_fee, chain.burns)
    payer = _either(transaction, receipt, "from", ADDRESS_DIGITS)
    index = quantity(receipt, "transactionIndex", INT_LIMIT)
    return {
        "transaction_index": index
        if index is not None
        else quantity(transaction, "transactionIndex", INT_LIMIT),  # type: ignore[typeddict-item]
        "hash": name,
        "type": transaction_type(transaction, receipt),
        "status": quantity(receipt, "status", 2),
        "from_address": payer,
        "to_address": _either(transaction, receipt, "to", ADDRESS_DIGITS),
        "contract_address": optional_hex(receipt, "contractAddress", ADDRESS_DIGITS),
        "nonce": _nonce(transaction),
        "value": decimal(quantity(transaction, "value")),
        "selector": _selector(transaction),
        "gas_used": gas.gas_used,
        "effective_gas_price": decimal(gas.effective_gas_price),
        "blob_gas_used": gas.blob_gas_used,
        "blob_gas_price": decimal(gas.blob_gas_price),
        "blob_fee": decimal(gas.blob_fee),
        "l1_fee": decimal(gas.l1_fee),
        "fee": decimal(gas.fee),
        "burnt": decimal(gas.burnt),
        "tip": decimal(gas.tip),
        "fee_payer": payer,
        "treasury_paid": payer in chain.treasuries,
        "part": 0,
        "parts": 1,
        "first_transfer": 0,
        "logs": records,
        "transfers": transfers,
        "balance_changes": balance_changes_of(transfers),
        "error": None,
        "raw": packed({"transaction": transaction, "receipt": _without_logs(receipt)}),
    }


def log_record(log: Fields, contracts: Contracts = UNDECLARED) -> EvmLog:
    """EvmLog of a log as the node gave it. Malformed if its address, topics or data are none."""
    topics = log.get("topics")
    if not isinstance(topics, list | tuple) or len(topics) > 4:
        raise Malformed(f"topics of a log are no list of at most 4: {str(topics)[:80]}")
    record: EvmLog = {
        "log_index": quantity(log, "logIndex", INT_LIMIT),  # type: ignore[typeddict-item]
        "contract": hex_text(log.get("address"), "address of a log", ADDRESS_DIGITS),
        "topics": [hex_text(topic, "topic", HASH_DIGITS) for topic in topics],
        "data": hex_text(log.get("data"), "data of a log"),
        "event": None,
        "signature": None,
        "args": [],
        "error": None,
    }
    contracts.decode(record)
    return record


def block_record(
    chain: str,
    chain_number: int,
    header: Mapping[str, Any],
    transactions: Sequence[EvmTransaction],
    *,
    run: int,
    finality: Finality,
    incarnation: int,
    was_head: bool,
    chunk: int = 0,
    chunks: int = 1,
    gap: tuple[int, int] | None = None,
    level: str = "header",
    checks: Sequence[Check] = (),
    highest: int | None = None,
) -> EvmBlock:
    """One message: a chunk of a block, as `decode_block` gave it, with what the ingest knows of it."""
    record: dict[str, Any] = {
        **header,
        "chain": chain,
        "chain_number": chain_number,
        "run": run,
        "chunk": chunk,
        "chunks": chunks,
        "publication": f"{incarnation}/{finality}",
        "finality": finality,
        "incarnation": incarnation,
        "was_head": was_head,
        "gap_from": gap[0] if gap else None,
        "gap_to": gap[1] if gap else None,
        "highest": header["block_number"] if highest is None else highest,
        "level": level,
        "checks": list(checks),
        "raw_header": b"" if chunk else header["raw_header"],
        "transactions": list(transactions),
    }
    return record  # type: ignore[return-value]


def _either(transaction: Fields, receipt: Fields, name: str, digits: int) -> str | None:
    told = optional_hex(receipt, name, digits)
    return told if told is not None else optional_hex(transaction, name, digits)


def _nonce(transaction: Fields) -> int | None:
    nonce = quantity(transaction, "nonce")
    return nonce if nonce is None or nonce < 2**63 else None


def _selector(transaction: Fields) -> str | None:
    data = transaction.get("input", transaction.get("data"))
    text = hex_text(data, "input") if data is not None else ""
    return text[:10] if len(text) >= 10 else None


def _without_logs(receipt: Fields) -> dict[str, Any]:
    return {name: of for name, of in receipt.items() if name not in ("logs", "logsBloom")}


def packed(value: Any) -> bytes:
    """zlib of compact JSON; bytes as 0x-hex."""
    try:
        text = orjson.dumps(value, default=_json)
    except TypeError:  # integers beyond 64 bits
        text = json.dumps(value, separators=(",", ":"), default=_json).encode()
    return zlib.compress(text, RAW_LEVEL)


def _json(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return "0x" + bytes(value).hex()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"no JSON for {type(value).__name__}")
