"""A reader of proof files as an outsider would write it from docs/proofs.md: nothing of the project is imported.

`read_proof` gives the proven bytes by name, or fails an assertion.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import rlp
from eth_utils import keccak

DIGITS = "0123456789ABCDEF"


def read_proof(content: bytes) -> dict[str, bytes]:
    """`block_hash`, and what stands in the block: `transaction` with `metadata` or `receipt`."""
    proof = json.loads(content)
    assert (proof["format"], proof["version"]) == ("tidebook-proof", 1)
    return {"xrpl": _xrpl, "evm": _evm}[proof["kind"]](proof)


def _half(data: bytes) -> bytes:
    return hashlib.sha512(data).digest()[:32]


def _with_length(data: bytes) -> bytes:
    size = len(data)
    if size <= 192:
        return bytes([size]) + data
    if size <= 12480:
        return bytes([193 + (size - 193) // 256, (size - 193) % 256]) + data
    rest = size - 12481
    return bytes([241 + rest // 65536, rest // 256 % 256, rest % 256]) + data


def _xrpl(proof: dict[str, Any]) -> dict[str, bytes]:
    header, tx, meta = (bytes.fromhex(proof[name]) for name in ("header", "transaction", "metadata"))
    key = _half(b"TXN\0" + tx)
    assert key.hex().upper() == proof["transaction_hash"]
    node = _half(b"SND\0" + _with_length(tx) + _with_length(meta) + key)
    for depth in range(len(proof["path"]) - 1, -1, -1):
        digit = proof["transaction_hash"][depth]
        others = proof["path"][depth]
        assert digit not in others
        node = _half(
            b"MIN\0"
            + b"".join(node if one == digit else bytes.fromhex(others.get(one, "00" * 32)) for one in DIGITS)
        )
    assert node == header[44:76]
    assert _half(b"LWR\0" + header).hex().upper() == proof["block_hash"]
    return {"block_hash": bytes.fromhex(proof["block_hash"]), "transaction": tx, "metadata": meta}


def _evm(proof: dict[str, Any]) -> dict[str, bytes]:
    header = bytes.fromhex(proof["header"][2:])
    assert "0x" + keccak(header).hex() == proof["block_hash"]
    nodes = {keccak(bytes.fromhex(node[2:])): bytes.fromhex(node[2:]) for node in proof["nodes"]}
    transactions_root, receipts_root = rlp.decode(header)[4:6]
    found = {"block_hash": keccak(header), "receipt": _value(nodes, receipts_root, proof["index"])}
    if "transaction_hash" in proof:
        found["transaction"] = _value(nodes, transactions_root, proof["index"])
        assert "0x" + keccak(found["transaction"]).hex() == proof["transaction_hash"]
    if "log" in proof:
        receipt = found["receipt"]
        logs = rlp.decode(receipt if receipt[0] >= 0xC0 else receipt[1:])[3]
        contract, topics, data = logs[proof["log"]["place"]]
        shown = {"contract": "0x" + contract.hex(), "topics": ["0x" + topic.hex() for topic in topics]}
        assert shown | {"data": "0x" + data.hex(), "place": proof["log"]["place"]} == proof["log"]
    return found


def _value(nodes: dict[bytes, bytes], node: Any, index: int) -> bytes:
    path = list(rlp.encode(index).hex())
    while True:
        if isinstance(node, bytes):
            node = rlp.decode(nodes[node])
        if len(node) == 17:
            node = node[int(path.pop(0), 16)]
            continue
        packed = node[0].hex()
        part = packed[1:] if packed[0] in "13" else packed[2:]
        assert path[: len(part)] == list(part)
        path, node = path[len(part) :], node[1]
        if packed[0] in "23":
            assert not path
            return bytes(node)
