"""A block's hash, blooms and roots computed from its parts: Ethereum's definitions, by hand, for checks only.

Independent of the pipeline's own code on purpose. Headers up to Prague, receipts and transactions of types 0 to 3.
Sources: the Yellow Paper (4.3, appendix D), EIP-2718, EIP-1559, EIP-2930, EIP-4844, EIP-4895, EIP-7685.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import rlp
from web3 import Web3

Json = Mapping[str, Any]
_HEADER: Final = (
    "parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom", "difficulty",
    "number", "gasLimit", "gasUsed", "timestamp", "extraData", "mixHash", "nonce", "baseFeePerGas", "withdrawalsRoot",
    "blobGasUsed", "excessBlobGas", "parentBeaconBlockRoot", "requestsHash",
)  # fmt: skip
_NUMBERS: Final = {
    "difficulty", "number", "gasLimit", "gasUsed", "timestamp", "baseFeePerGas", "blobGasUsed", "excessBlobGas",
}  # fmt: skip


def block_hash(block: Json) -> str:
    """keccak of the header's RLP."""
    parts = [
        _number(block[name]) if name in _NUMBERS else _bytes(block[name]) for name in _HEADER if name in block
    ]
    return _hex(Web3.keccak(rlp.encode(parts)))


def bloom(logs: Iterable[Json]) -> str:
    """Bloom filter of addresses and topics, 256 bytes."""
    bits = 0
    for log in logs:
        for entry in (log["address"], *log["topics"]):
            digest = Web3.keccak(_bytes(entry))
            for i in (0, 2, 4):
                bits |= 1 << (int.from_bytes(digest[i : i + 2], "big") & 2047)
    return _hex(bits.to_bytes(256, "big"))


def receipts_root(receipts: Sequence[Json]) -> str:
    """Root of the trie of a block's receipts."""
    return ordered_root([_receipt(receipt) for receipt in receipts])


def transactions_root(transactions: Sequence[Json]) -> str:
    """Root of the trie of a block's full transactions."""
    return ordered_root([_transaction(transaction) for transaction in transactions])


def ordered_root(items: Sequence[bytes]) -> str:
    """Root of the Merkle Patricia trie of index → item."""
    pairs = {_nibbles(rlp.encode(_integer(i))): item for i, item in enumerate(items)}
    return _hex(Web3.keccak(rlp.encode(_node(pairs) if pairs else b"")))


def _node(pairs: Mapping[tuple[int, ...], bytes]) -> list[Any]:
    """One node of the trie: leaf, extension or branch."""
    keys = list(pairs)
    if len(keys) == 1:
        return [_path(keys[0], leaf=True), pairs[keys[0]]]
    shared = next(
        (i for i, same in enumerate(zip(*keys, strict=False)) if len(set(same)) > 1), min(map(len, keys))
    )
    if shared:
        return [_path(keys[0][:shared], leaf=False), _link({key[shared:]: pairs[key] for key in keys})]
    branches = ({key[1:]: pairs[key] for key in keys if key and key[0] == digit} for digit in range(16))
    return [*(_link(branch) if branch else b"" for branch in branches), pairs.get((), b"")]


def _link(pairs: Mapping[tuple[int, ...], bytes]) -> Any:
    node = _node(pairs)
    encoded = rlp.encode(node)
    return node if len(encoded) < 32 else bytes(Web3.keccak(encoded))


def _path(nibbles: Sequence[int], leaf: bool) -> bytes:
    """Hex-prefix encoding."""
    odd = len(nibbles) % 2
    flagged = [2 * leaf + odd, *([] if odd else [0]), *nibbles]
    return bytes(16 * high + low for high, low in zip(flagged[::2], flagged[1::2], strict=True))


def _receipt(receipt: Json) -> bytes:
    logs = [
        [_bytes(log["address"]), [_bytes(topic) for topic in log["topics"]], _bytes(log["data"])]
        for log in receipt["logs"]
    ]
    parts = [
        _number(receipt["status"]),
        _number(receipt["cumulativeGasUsed"]),
        _bytes(receipt["logsBloom"]),
        logs,
    ]
    return _typed(receipt["type"], parts)


def _transaction(found: Json) -> bytes:
    number = {name: _number(found[name]) for name in ("nonce", "gas", "value")}
    to, data = _bytes(found["to"] or "0x"), _bytes(found["input"])
    call = [number["gas"], to, number["value"], data]
    signature = [_number(found[name]) for name in ("v", "r", "s")]
    kind = int(found["type"], 16)
    if kind == 0:
        return _typed("0x0", [number["nonce"], _number(found["gasPrice"]), *call, *signature])
    lists = [
        [_bytes(entry["address"]), [_bytes(key) for key in entry["storageKeys"]]]
        for entry in found["accessList"]
    ]
    names = ("gasPrice",) if kind == 1 else ("maxPriorityFeePerGas", "maxFeePerGas")
    prices = [_number(found[name]) for name in names]
    blobs: list[Any] = []
    if kind == 3:
        hashes = [_bytes(digest) for digest in found["blobVersionedHashes"]]
        blobs = [_number(found["maxFeePerBlobGas"]), hashes]
    parts = [_number(found["chainId"]), number["nonce"], *prices, *call, lists, *blobs, *signature]
    return _typed(found["type"], parts)


def _typed(kind: str, parts: list[Any]) -> bytes:
    number = int(kind, 16)
    return (bytes([number]) if number else b"") + rlp.encode(parts)


def _nibbles(key: bytes) -> tuple[int, ...]:
    return tuple(half for byte in key for half in divmod(byte, 16))


def _number(text: str) -> bytes:
    return _integer(int(text, 16))


def _integer(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])


def _hex(value: bytes) -> str:
    return "0x" + bytes(value).hex()
