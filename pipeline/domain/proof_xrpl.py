"""That a transaction stands in a ledger of the XRP Ledger with just this metadata: made, and checked offline.

The leaf of the ledger's transaction tree is over the transaction and its metadata; the inner nodes above it, of
which the proof holds all branches but the one to it, lead to the tree's root; the header holds the root; the
ledger's hash is over the header. What is told of the transaction is decoded from those very bytes.

Source: rippled `shamap/SHAMap*`, `ledger/Ledger.cpp`; see xrpl_hash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pipeline.domain.decode.xrpl import transaction_record
from pipeline.domain.decode.xrpl_errors import RecordedError
from pipeline.domain.decode.xrpl_shapes import RecordedLedger, normalise_transaction, read_header
from pipeline.domain.proof_errors import Contradiction, Unprovable, must_agree
from pipeline.domain.proof_form import NotAProof, Proof, listed, must_have, octets, proof_of, short
from pipeline.domain.xrpl_hash import (
    HeaderError,
    TreePathNode,
    hash_of_header,
    header_bytes,
    root_of_path,
    transaction_id,
    transaction_tree_path,
)
from pipeline.domain.xrpl_proof import tree_item

KIND: Final = "xrpl"
FIELDS: Final = (
    "format", "version", "kind", "block_hash", "transaction_hash", "header", "transaction", "metadata", "path",
)  # fmt: skip
HEADER_BYTES: Final = 118
DEPTH_MAX: Final = 64  # nibbles of a transaction id
_DIGITS: Final = "0123456789ABCDEF"


def make(
    header: Mapping[str, Any], transactions: Sequence[Mapping[str, Any]], transaction_hash: str
) -> Proof:
    """The proof of one transaction of a ledger.

    `header`: in the field names of schemas/xrpl/ledgers.avsc; `transactions`: all of the ledger, each in any
    recorded shape with its metadata. Raises Unprovable where they lack what it takes, Contradiction where they are
    not those of the ledger.
    """
    items = [tree_item(entry) for entry in transactions]
    item = next((one for one in items if one[2] == transaction_hash), None)
    if item is None:
        raise Unprovable(f"transaction {transaction_hash} is not among the {len(items)} of its ledger")
    try:
        raw = header_bytes(header)
    except HeaderError as error:
        raise Unprovable(f"ledger {header.get('ledger_index')}: its header is not whole: {error}") from error
    proof = proof_of(
        KIND,
        block_hash=hash_of_header(raw),
        transaction_hash=transaction_hash,
        header=_hex(raw),
        transaction=_hex(item[0]),
        metadata=_hex(item[1]),
        path=[
            {_DIGITS[nibble]: _hex(node) for nibble, node in inner.items()}
            for inner in transaction_tree_path(items, transaction_hash)
        ],
    )
    stated = header.get("ledger_hash")
    if stated is not None and stated != proof["block_hash"]:
        raise Contradiction("header_hash", f"the header of ledger {stated} hashes to {proof['block_hash']}")
    check(proof)
    return proof


def check(proof: Proof) -> dict[str, Any]:
    """What a proof proves: fields of the ledger's header, and the XrplTransaction record of its transaction.

    What remains to be known is that `block_hash` is a ledger of the chain. Raises NotAProof, Contradiction.
    """
    must_have(proof, FIELDS)
    block_hash, stated = _bytes(proof, "block_hash", 32), _bytes(proof, "transaction_hash", 32)
    raw = _bytes(proof, "header", HEADER_BYTES)
    blob, meta = _bytes(proof, "transaction"), _bytes(proof, "metadata")
    path = [_inner(node) for node in listed(proof["path"], "path", DEPTH_MAX)]
    must_agree("header_hash", "the header hashes to", hash_of_header(raw), "block_hash is", _hex(block_hash))
    name = transaction_id(blob)
    must_agree("transaction_hash", "the transaction hashes to", name, "transaction_hash is", _hex(stated))
    header = read_header(RecordedLedger({"ledger_data": proof["header"]}, {}, []))
    try:
        root = root_of_path((blob, meta, name), path)
    except ValueError as error:
        raise NotAProof(str(error)) from None
    must_agree(
        "transactions_root", "the path leads to the root", root, "the header has", header["transaction_hash"]
    )
    return _told(header, proof)


def _told(header: Mapping[str, Any], proof: Proof) -> dict[str, Any]:
    entry = {"tx_blob": proof["transaction"], "meta": proof["metadata"], "hash": proof["transaction_hash"]}
    try:
        recorded = normalise_transaction(entry)
        record = transaction_record(recorded)
    except RecordedError as error:
        raise Unprovable(f"it stands in the ledger, but can't be read: {error.reason}") from error
    network = recorded.tx.get("NetworkID")
    del record["raw"]
    return {
        "kind": KIND,
        "chain": None if network is None else f"xrpl:{network}",
        "block_number": header["ledger_index"],
        "block_hash": proof["block_hash"],
        "parent_hash": header["parent_hash"],
        "time": header["close_time"],
        **record,
    }


def _inner(node: object) -> TreePathNode:
    """A node of the path: hashes by nibble."""
    if not isinstance(node, dict):
        raise NotAProof(f"path must hold objects, not {short(node)}")
    must_have(node, (), _DIGITS, "a node of the path")
    return {_DIGITS.index(digit): _bytes(node, digit, 32) for digit in node}


def _bytes(of: Mapping[str, Any], name: str, size: int | None = None) -> bytes:
    return octets(of[name], name, size, _hex, "{}upper-case hex digits")


def _hex(value: bytes) -> str:
    return value.hex().upper()
