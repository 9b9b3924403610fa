"""What an EVM chain hashes: headers, transactions and receipts in their canonical bytes.

A block's hash is Keccak-256 over the RLP of its header; the header covers the transactions and the receipts
by the roots of two tries (evm_trie) over the encodings made here; a transaction's hash is that of its own
encoding. Everything is made again from JSON-RPC answers: quantities and data in hex, or already numbers and
bytes as web3 gives them. What an answer lacks is `Unprovable`: it proves nothing; what cannot stand where it
stands is `Malformed`.

RLP is encoded here and not by the library `rlp` (that decodes, in evm_trie) for its price, most of what a
proof costs: 39 us for a receipt of mainnet, here 7.

Source: Ethereum Yellow Paper, appendix B (RLP) and section 4.3 (block); EIP-155, 658, 1559, 2718, 2930, 4788,
4844, 4895, 7685, 7702, 7843, 7928; the OP stack's specification of deposits (0x7e).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

from eth_hash.auto import keccak

from pipeline.domain.proof_errors import Contradiction, Unprovable

Rlp = bytes | list["Rlp"]
Answer = Mapping[str, Any]
"""A block, transaction, receipt or log as JSON-RPC (hex) or web3 (numbers, bytes) gives it."""

DEPOSIT: Final = 0x7E
"""Type of an OP stack deposit."""


class Malformed(Contradiction):
    """A value that cannot stand where it stands; the message names the field."""

    def __init__(self, message: str) -> None:
        super().__init__("malformed", message)


def rlp_encode(item: Rlp) -> bytes:
    """RLP of bytes or of a list of such."""
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _rlp_prefix(len(item), 0x80) + item
    payload = b"".join([rlp_encode(part) for part in item])
    return _rlp_prefix(len(payload), 0xC0) + payload


def _rlp_prefix(length: int, offset: int) -> bytes:
    if length < 56:
        return bytes((offset + length,))
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((offset + 55 + len(size),)) + size


def quantity(value: object, name: str = "quantity") -> int:
    """A number from JSON-RPC ("0x1f") or web3 (31; of signatures bytes), 0 or more. Raises Malformed."""
    if isinstance(value, str) and value[:2] in ("0x", "0X"):
        try:
            number = int(value, 16)  # bears "_" between digits
        except ValueError:
            _malformed(name, value)
        return number if "_" not in value else _malformed(name, value)
    if isinstance(value, bytes) and value:
        return int.from_bytes(value, "big")
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        _malformed(name, value)
    return value


def data(value: object, name: str = "data", size: int | None = None) -> bytes:
    """Bytes from JSON-RPC ("0x…") or web3 (bytes), of the given size. Raises Malformed."""
    if isinstance(value, str) and value[:2] in ("0x", "0X"):
        try:
            found = bytes.fromhex(value[2:])
        except ValueError:
            _malformed(name, value)
        if 2 * len(found) != len(value) - 2:  # fromhex bears blanks
            _malformed(name, value)
    elif isinstance(value, bytes):
        found = bytes(value)
    else:
        _malformed(name, value)
    if size is not None and len(found) != size:
        _malformed(name, value)
    return found


def _malformed(name: str, value: object) -> NoReturn:
    raise Malformed(f"{name} cannot be {str(value)[:80]!r}")


# One reader a kind of field: (value, name) -> what stands in the RLP.


def _number(value: object, name: str) -> bytes:
    number = quantity(value, name)
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _hash(value: object, name: str) -> bytes:
    return data(value, name, 32)


def _address(value: object, name: str) -> bytes:
    return data(value, name, 20)


def _to(value: object, name: str) -> bytes:
    """Null or nothing where a contract is created."""
    return b"" if value is None or value in ("", "0x") else data(value, name, 20)


def _bytes(value: object, name: str) -> bytes:
    return data(value, name)


def _bloom(value: object, name: str) -> bytes:
    return data(value, name, 256)


def _seal(value: object, name: str) -> bytes:
    """The nonce of a header: eight bytes."""
    return data(value, name, 8)


def _flag(value: object, name: str) -> bytes:
    return b"\1" if value not in (None, False, 0, "0x0", "0x") else b""


def _mint(value: object, name: str) -> bytes:
    return b"" if value is None else _number(value, name)


def _hashes(value: object, name: str) -> Rlp:
    return [data(part, name, 32) for part in listed(value, name)]


def _access(value: object, name: str) -> Rlp:
    return [
        [_address(told(entry, "address"), name), _hashes(told(entry, "storageKeys"), name)]
        for entry in listed(value, name)
    ]


def _authorizations(value: object, name: str) -> Rlp:
    return [_fields(entry, _AUTHORIZATION) for entry in listed(value, name)]


def listed(value: object, name: str) -> Sequence[Any]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        _malformed(name, value)
    return value


def answers(value: object, name: str) -> Sequence[Answer]:
    """A list of objects. Raises Malformed."""
    for one in listed(value, name):
        if not isinstance(one, Mapping):
            _malformed(name, one)
    return listed(value, name)


Reader = Callable[[object, str], Rlp]
Layout = tuple[tuple[str, Reader], ...]

_HEADER: Final[Layout] = (
    ("parentHash", _hash), ("sha3Uncles", _hash), ("miner", _address), ("stateRoot", _hash),
    ("transactionsRoot", _hash), ("receiptsRoot", _hash), ("logsBloom", _bloom), ("difficulty", _number),
    ("number", _number), ("gasLimit", _number), ("gasUsed", _number), ("timestamp", _number),
    ("extraData", _bytes), ("mixHash", _hash), ("nonce", _seal),
)  # fmt: skip
_HEADER_BY_FORK: Final[Layout] = (
    ("baseFeePerGas", _number),  # London
    ("withdrawalsRoot", _hash),  # Shanghai
    ("blobGasUsed", _number), ("excessBlobGas", _number), ("parentBeaconBlockRoot", _hash),  # Cancun
    ("requestsHash", _hash),  # Prague
    ("blockAccessListHash", _hash), ("slotNumber", _number),  # Amsterdam
)  # fmt: skip
HEADER_FIELDS: Final = tuple(name for name, _ in (*_HEADER, *_HEADER_BY_FORK))
"""Names of a header's fields in their order; an older header ends earlier."""

_CALL: Final[Layout] = (("gas", _number), ("to", _to), ("value", _number), ("input", _bytes))
_SIGNED: Final[Layout] = (("yParity", _number), ("r", _number), ("s", _number))
_PRICED: Final[Layout] = (("chainId", _number), ("nonce", _number), ("gasPrice", _number), *_CALL)
_BID: Final[Layout] = (
    ("chainId", _number), ("nonce", _number), ("maxPriorityFeePerGas", _number), ("maxFeePerGas", _number),
    *_CALL, ("accessList", _access),
)  # fmt: skip
_AUTHORIZATION: Final[Layout] = (
    ("chainId", _number), ("address", _address), ("nonce", _number), *_SIGNED
)  # fmt: skip
_TRANSACTIONS: Final[dict[int, Layout]] = {
    0: (("nonce", _number), ("gasPrice", _number), *_CALL),
    1: (*_PRICED, ("accessList", _access)),
    2: _BID,
    3: (*_BID, ("maxFeePerBlobGas", _number), ("blobVersionedHashes", _hashes)),
    4: (*_BID, ("authorizationList", _authorizations)),
    DEPOSIT: (
        ("sourceHash", _hash), ("from", _address), ("to", _to), ("mint", _mint), ("value", _number),
        ("gas", _number), ("isSystemTx", _flag), ("input", _bytes),
    ),
}  # fmt: skip
_SIGNATURES: Final[dict[int, Layout]] = {
    **dict.fromkeys((1, 2, 3, 4), _SIGNED),
    0: (("v", _number), ("r", _number), ("s", _number)),
    DEPOSIT: (),
}
_MAY_LACK: Final = {"to", "mint", "isSystemTx"}
"""Fields that stand in a transaction's encoding though an answer may leave them out."""


def told(answer: object, name: str) -> Any:
    """A field of an answer. Raises Unprovable where it is missing or null."""
    if not isinstance(answer, Mapping):
        _malformed(name, answer)
    value = answer.get(name)
    if value is None:
        if name == "yParity" and answer.get("v") is not None:
            return answer["v"]
        raise Unprovable(f"the answer does not tell {name}")
    return value


def required(answer: object, name: str) -> Any:
    """A field that every node tells. Raises Malformed where it is missing: leaving it out is no excuse."""
    try:
        return told(answer, name)
    except Unprovable:
        _malformed(name, None)


def _fields(answer: Answer, layout: Layout) -> list[Rlp]:
    return [
        reader(answer.get(name) if name in _MAY_LACK else told(answer, name), name) for name, reader in layout
    ]


def header_rlp(block: Answer) -> bytes:
    """The header of an `eth_getBlockBy…` answer in RLP, with the fields of its fork.

    Which fork is told by which fields are there. Raises Unprovable where one is missing, also one in between
    (a later fork's field without an earlier's); Malformed.
    """
    given = [name for name, _ in _HEADER_BY_FORK if block.get(name) is not None]
    forked = _HEADER_BY_FORK[: len(given)]
    missing = [name for name, _ in forked if name not in given]
    if missing:
        raise Unprovable(f"the answer tells {given[-1]} and not {missing[0]}")
    return rlp_encode(_fields(block, _HEADER) + _fields(block, forked))


def header_hash(block: Answer) -> str:
    """Hash of the block, recomputed from its header: "0x" and 64 digits. Raises Unprovable, Malformed."""
    return "0x" + keccak(header_rlp(block)).hex()


def kind_of(answer: Answer) -> int:
    """The type of a transaction or receipt; 0 (legacy) where an answer is older than types."""
    kind = answer.get("type")
    return 0 if kind is None else quantity(kind, "type")


def encode_transaction(transaction: Answer) -> bytes:
    """A signed transaction in the bytes that the transactions trie holds and its hash is over.

    Raises Unprovable where a field is missing or its type is unknown, Malformed.
    """
    kind, fields = _payload(transaction)
    body = rlp_encode(fields + _fields(transaction, _SIGNATURES[kind]))
    return bytes((kind,)) + body if kind else body


def transaction_hash(transaction: Answer) -> str:
    """Hash of a transaction, recomputed: "0x" and 64 digits. Raises Unprovable, Malformed."""
    return "0x" + keccak(encode_transaction(transaction)).hex()


def transaction_fields(kind: int) -> tuple[str, ...]:
    """Names of the fields of a transaction of this type in their order. Raises Unprovable for an unknown type."""
    if kind not in _TRANSACTIONS:
        raise Unprovable(f"the encoding of a transaction of type {kind:#x} is not known")
    return tuple(name for name, _ in (*_TRANSACTIONS[kind], *_SIGNATURES[kind]))


def signing_hash(transaction: Answer) -> bytes:
    """What the sender of a transaction signed (EIP-155 where `v` says so). Raises Unprovable, Malformed."""
    kind, fields = _payload(transaction)
    if kind:
        return keccak(bytes((kind,)) + rlp_encode(fields))
    v = quantity(told(transaction, "v"), "v")
    if v >= 35:
        fields += [_number((v - 35) // 2, "v"), b"", b""]
    return keccak(rlp_encode(fields))


def _payload(transaction: Answer) -> tuple[int, list[Rlp]]:
    kind = kind_of(transaction)
    if kind not in _TRANSACTIONS:
        raise Unprovable(f"the encoding of a transaction of type {kind:#x} is not known")
    return kind, _fields(transaction, _TRANSACTIONS[kind])


def encode_receipt(receipt: Answer) -> bytes:
    """A receipt in the bytes that the receipts trie holds.

    Before Byzantium it holds the state's root, since then the status. A deposit's nonce stands in it only
    where its version does (Canyon); Regolith's answers tell the nonce and leave it out of the trie. Every
    other type has the common form. Raises Unprovable, Malformed (also if both root and status are told, for
    then the status is not covered).
    """
    kind = kind_of(receipt)
    fields: list[Rlp] = [
        _outcome(receipt),
        _number(required(receipt, "cumulativeGasUsed"), "cumulativeGasUsed"),
        _bloom(told(receipt, "logsBloom"), "logsBloom"),
        [encode_log(log) for log in answers(required(receipt, "logs"), "logs")],
    ]
    if kind == DEPOSIT and receipt.get("depositReceiptVersion") is not None:
        for name in ("depositNonce", "depositReceiptVersion"):
            fields.append(_number(told(receipt, name), name))
    body = rlp_encode(fields)
    return bytes((kind,)) + body if kind else body


def encode_log(log: Answer) -> Rlp:
    """Address, topics and data of a log, as a receipt holds them."""
    topics: list[Rlp] = [data(topic, "topics", 32) for topic in listed(required(log, "topics"), "topics")]
    return [data(required(log, "address"), "address", 20), topics, data(required(log, "data"))]


def _outcome(receipt: Answer) -> bytes:
    root = receipt.get("root")
    status = receipt.get("status")
    if root is not None and root not in ("", "0x", b""):
        if status is not None:
            raise Malformed("a receipt has either a root or a status")
        return data(root, "root", 32)
    if status is None:
        raise Unprovable("the receipt tells neither status nor root")
    value = quantity(status, "status")
    return bytes((value,)) if value == 1 else b"" if value == 0 else _malformed("status", status)
