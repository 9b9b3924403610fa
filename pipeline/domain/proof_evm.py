"""That a transaction stands in an EVM block with just this receipt: made, and checked offline.

The block's hash is over its header; the header holds the roots of two Merkle-Patricia tries, over the transactions and
over the receipts, and the nodes from both roots to the same position are in the proof. The receipt before is proven
too, for a receipt tells only the gas that all up to it used. What is told is decoded from those very bytes: the sender
from the signature, the price from transaction and base fee, transfers and balance changes from the receipt's logs.
Where a chain has transactions whose encoding is not known, a proof is of the receipt at its position alone.

No hash is over the price of blob gas and an OP chain's fee for L1: `gas_fee` is without them. Nor does a receipt say
how many logs stand before its own in the block: a log is told by its place in the receipt.

Source: Ethereum Yellow Paper 4.3, 4.4.1 and appendix D; EIP-155, 658, 1559, 2718; see evm_rlp, evm_trie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import rlp  # type: ignore[import-untyped]
from eth_hash.auto import keccak

from pipeline.domain.decode.evm import transaction_record
from pipeline.domain.decode.xrpl_errors import RecordedError
from pipeline.domain.evm_proof import (
    check_header_hash,
    check_receipts_root,
    check_transactions_root,
    created_address,
    effective_gas_price,
    signed_by,
)
from pipeline.domain.evm_rlp import (
    DEPOSIT,
    HEADER_FIELDS,
    Answer,
    Rlp,
    encode_receipt,
    encode_transaction,
    header_rlp,
    quantity,
    rlp_encode,
    transaction_fields,
)
from pipeline.domain.evm_trie import prove, value_at
from pipeline.domain.proof_errors import Contradiction, Unprovable, must_agree
from pipeline.domain.proof_form import NotAProof, Proof, listed, must_have, octets, proof_of, short, whole

KIND: Final = "evm"
FIELDS: Final = ("format", "version", "kind", "block_hash", "header", "index", "nodes")
MAY_LACK: Final = ("transaction_hash", "log")
LOG_FIELDS: Final = ("place", "contract", "topics", "data")
NODES_MAX: Final = 64
INDEX_LIMIT: Final = 1 << 31
_NO_HASH: Final = "0x" + 64 * "0"
_OF_RECORD: Final = (
    "transaction_index", "hash", "type", "status", "from_address", "to_address", "contract_address", "nonce", "value",
    "selector", "gas_used", "effective_gas_price",
)  # fmt: skip
_PROTECTED: Final = 35  # smallest v of a legacy transaction that names its chain (EIP-155)


class _Proven(NamedTuple):
    """What stands at the proof's position, in the bytes that the tries hold."""

    transaction: bytes | None  # None: the proof is of the receipt alone
    receipt: bytes
    before: bytes | None  # the receipt before; None for the first


def make(block: Answer, receipts: Sequence[Answer], transaction_hash: str, log: int | None = None) -> Proof:
    """The proof of one transaction of a block, and of the log with this logIndex.

    `block`: `eth_getBlockBy…` with whole transactions (with their hashes only, or with such as have no encoding
    known here, the proof is of the receipt alone); `receipts`: all of the block in their order. Raises Unprovable
    where they lack what it takes, Contradiction where they are not those of the block.
    """
    check_header_hash(block)
    check_receipts_root(block, receipts)
    transactions = _encoded(block)
    names = [str(one["transactionHash"]).lower() for one in receipts]
    if transaction_hash not in names:
        raise Unprovable(f"transaction {transaction_hash} is not among the {len(names)} of its block")
    index = names.index(transaction_hash)
    values = [encode_receipt(receipt) for receipt in receipts]
    nodes = prove(transactions, index) if transactions else []
    nodes += prove(values, index) + (prove(values, index - 1) if index else [])
    proof = proof_of(
        KIND,
        block_hash=str(block["hash"]).lower(),
        **({"transaction_hash": transaction_hash} if transactions else {}),
        header=_hex(header_rlp(block)),
        index=index,
        nodes=[_hex(node) for node in dict.fromkeys(nodes)],
    )
    if log is not None:
        proof["log"] = _log_at(receipts[index], log, transaction_hash)
    check(proof)
    return proof


def _encoded(block: Answer) -> list[bytes]:
    """The block's transactions as their trie holds them; none where they can't be had. Raises Contradiction."""
    try:
        check_transactions_root(block)
    except Unprovable:
        return []
    return [encode_transaction(one) for one in block["transactions"]]


def _log_at(receipt: Answer, log_index: int, transaction_hash: str) -> dict[str, Any]:
    """The log of a receipt with this logIndex, as a proof states it."""
    places = [quantity(log["logIndex"], "logIndex") for log in receipt["logs"]]
    if log_index not in places:
        has = f"{min(places)} to {max(places)}" if places else "none"
        raise Unprovable(f"transaction {transaction_hash} has no log {log_index}; its logs are {has}")
    place = places.index(log_index)
    return _shown(place, _receipt(encode_receipt(receipt))["logs"][place])


def check(proof: Proof) -> dict[str, Any]:
    """What a proof proves: of the block's header, the transaction, its cost, its logs and what they moved.

    What remains to be known is that `block_hash` is a block of the chain. Raises NotAProof, Contradiction.
    """
    must_have(proof, FIELDS, MAY_LACK)
    index, raw = whole(proof["index"], "index", INDEX_LIMIT), _bytes(proof["header"], "header")
    for name in ("block_hash", "transaction_hash"):
        _bytes(proof.get(name, "0x" + 32 * "00"), name, 32)
    must_agree("header_hash", "the header hashes to", _hex(keccak(raw)), "block_hash is", proof["block_hash"])
    header = _header(raw)
    proven = _proven(header, index, proof["nodes"], "transaction_hash" in proof)
    if proven.transaction is not None:
        found, stated = _hex(keccak(proven.transaction)), proof["transaction_hash"]
        must_agree("transaction_hash", "the transaction hashes to", found, "transaction_hash is", stated)
    try:
        told = _told(proof, header, proven)
    except (RecordedError, ValueError, TypeError, IndexError, AttributeError, RecursionError) as error:
        if isinstance(error, (NotAProof, Contradiction, Unprovable)):
            raise
        raise Unprovable(f"it stands in the block, but can't be read: {str(error)[:120]}") from error
    if "log" in proof:
        told["log"] = _stated_log(proof["log"], told["logs"])
    return told


def _proven(header: Mapping[str, Any], index: int, nodes: object, both: bool) -> _Proven:
    """What the tries (or that of the receipts) hold at `index`, every node taken. NotAProof, Contradiction."""
    given = [_bytes(node, "nodes") for node in listed(nodes, "nodes", NODES_MAX)]
    by_hash = {keccak(node): node for node in given}
    used: list[bytes] = []

    def value(name: str, at: int) -> bytes:
        try:
            return value_at(header[name], at, by_hash, used)
        except ValueError as error:
            reason = "receipts_root" if name == "receiptsRoot" else "transactions_root"
            raise Contradiction(
                reason, f"the nodes do not lead from {name} to position {at}: {error}"
            ) from None

    proven = _Proven(
        value("transactionsRoot", index) if both else None,
        value("receiptsRoot", index),
        value("receiptsRoot", index - 1) if index else None,
    )
    if len(by_hash) < len(given) or len(set(used)) < len(given):
        raise NotAProof("nodes has one twice, or one that proves nothing")
    return proven


def _told(proof: Proof, header: Mapping[str, Any], proven: _Proven) -> dict[str, Any]:
    receipt, base_fee = _receipt(proven.receipt), header.get("baseFeePerGas")
    before = 0 if proven.before is None else _receipt(proven.before)["cumulativeGasUsed"]
    receipt |= {
        "transactionHash": proof.get("transaction_hash", _NO_HASH),
        "transactionIndex": proof["index"],
        "gasUsed": receipt["cumulativeGasUsed"] - before,
    }
    transaction: dict[str, Any] = {}
    if proven.transaction is not None:
        transaction = _transaction(proven.transaction)
        receipt |= {
            "from": transaction["from"],
            "effectiveGasPrice": effective_gas_price(transaction, base_fee),
        }
        if transaction["type"] != DEPOSIT:
            receipt["contractAddress"] = created_address(transaction)
    logs = [{**log, "logIndex": place} for place, log in enumerate(receipt["logs"])]
    record: Mapping[str, Any] = transaction_record(transaction, receipt, logs, base_fee=base_fee or 0)
    price, chain_id = receipt.get("effectiveGasPrice"), transaction.get("chainId")
    return {
        "kind": KIND,
        "chain": f"eip155:{chain_id}" if chain_id else None,
        "block_number": header["number"],
        "block_hash": proof["block_hash"],
        "parent_hash": _hex(header["parentHash"]),
        "time": 1000 * header["timestamp"],
        **{name: record[name] for name in _OF_RECORD},
        "hash": proof.get("transaction_hash"),
        "gas_fee": None if price is None else str(receipt["gasUsed"] * price),
        "logs": [_log_told(log) for log in record["logs"]],
        "transfers": [_placed(transfer) for transfer in record["transfers"]],
        "balance_changes": [
            {name: one[name] for name in ("account", "asset", "change")} for one in record["balance_changes"]
        ],
    }


def _placed(transfer: Mapping[str, Any]) -> dict[str, Any]:
    return {"place": transfer["log_index"]} | {k: v for k, v in transfer.items() if k != "log_index"}


def _log_told(log: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("contract", "topics", "data", "event", "args")
    return {"place": log["log_index"], **{name: log[name] for name in kept}}


def _stated_log(stated: object, logs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The log that a proof is about: it must be as it is stated."""
    if not isinstance(stated, dict):
        raise NotAProof(f"log must be an object, not {short(stated)}")
    must_have(stated, LOG_FIELDS, what="log")
    place = whole(stated["place"], "place of the log", INDEX_LIMIT)
    if place >= len(logs):
        raise Contradiction("log", f"the receipt has {len(logs)} logs, none at place {place}")
    for name in LOG_FIELDS:
        if stated[name] != logs[place][name]:
            raise Contradiction("log", f"the {name} of log {place} is not what the receipt holds")
    return logs[place]


def _shown(place: int, log: Answer) -> dict[str, Any]:
    return {"place": place, "contract": log["address"], "topics": log["topics"], "data": log["data"]}


# From the bytes that are hashed to the fields of JSON-RPC answers; numbers stay numbers.


def _header(raw: bytes) -> dict[str, Any]:
    """Fields of a header; those of forks not known here are left out. Raises NotAProof."""
    fields = _decoded(raw, "header")
    numbers = {"number": 0, "timestamp": 0, "baseFeePerGas": 0}
    found = dict(zip(HEADER_FIELDS, fields, strict=False))
    if len(found) < HEADER_FIELDS.index("nonce") + 1 or not all(
        isinstance(one, bytes) for one in found.values()
    ):
        raise NotAProof("header is no header of a block")
    return {name: int.from_bytes(one) if name in numbers else one for name, one in found.items()}


def _transaction(raw: bytes) -> dict[str, Any]:
    """Fields of a transaction, and from whom it is."""
    kind, fields = _typed(raw, "transaction")
    named = dict(zip(transaction_fields(kind), fields, strict=True))
    numbers = (
        "nonce",
        "gasPrice",
        "maxFeePerGas",
        "maxPriorityFeePerGas",
        "value",
        "chainId",
        "v",
        "yParity",
    )
    found: dict[str, Any] = {name: _number(one) if name in numbers else one for name, one in named.items()}
    found |= {"type": kind, "hash": _hex(keccak(raw)), "to": _hex(named["to"]) if named["to"] else None}
    if kind == 0 and found["v"] >= _PROTECTED:
        found["chainId"] = (found["v"] - _PROTECTED) // 2
    found["from"] = _hex(named["from"]) if kind == DEPOSIT else _sender(kind, fields)
    return found


def _sender(kind: int, fields: Sequence[Rlp]) -> str:
    """Who signed a transaction: its last three fields are the signature of what is before them."""
    signed, signature = list(fields[:-3]), fields[-3:]
    v, r, s = (int.from_bytes(one) for one in signature if isinstance(one, bytes))
    if kind == 0 and v >= _PROTECTED:
        chain_id = (v - _PROTECTED) // 2
        signed += [chain_id.to_bytes((chain_id.bit_length() + 7) // 8), b"", b""]
    return signed_by(v, r, s, keccak((bytes((kind,)) if kind else b"") + rlp_encode(signed)))


def _receipt(raw: bytes) -> dict[str, Any]:
    """Fields of a receipt; its logs as JSON-RPC gives them, without places."""
    kind, fields = _typed(raw, "receipt")
    outcome, gas, _, logs = fields[:4]
    if not isinstance(outcome, bytes) or not isinstance(logs, list):
        raise ValueError("what stands at its position is no receipt")
    return {
        "type": kind,
        **({"root": _hex(outcome)} if len(outcome) == 32 else {"status": _number(outcome)}),
        "cumulativeGasUsed": _number(gas),
        "logs": [
            {"address": _hex(address), "topics": [_hex(topic) for topic in topics], "data": _hex(data)}
            for address, topics, data in logs
        ],
    }


def _number(value: Rlp) -> int:
    if not isinstance(value, bytes):
        raise ValueError("a list stands where a number should")
    return int.from_bytes(value)


def _typed(raw: bytes, name: str) -> tuple[int, list[Any]]:
    """Type (EIP-2718) and fields."""
    kind = raw[0] if raw and raw[0] < 0x80 else 0
    return kind, _decoded(raw[1:] if kind else raw, name)


def _decoded(raw: bytes, name: str) -> list[Any]:
    try:
        found: Rlp = rlp.decode(raw)
    except (rlp.DecodingError, RecursionError) as error:
        raise NotAProof(f"{name} is no RLP ({type(error).__name__})") from None
    if not isinstance(found, list):
        raise NotAProof(f"{name} is no list in RLP")
    return found


def _bytes(value: object, name: str, size: int | None = None) -> bytes:
    return octets(value, name, size, _hex, "0x and {}lower-case hex digits")


def _hex(value: bytes) -> str:
    return "0x" + value.hex()
