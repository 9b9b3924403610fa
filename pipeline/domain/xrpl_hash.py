"""The XRP Ledger's own hashes: transaction ids, the root of a ledger's transaction tree, ledger hashes.

Every hash is SHA-512Half (the first 32 bytes of SHA-512) over a four-byte prefix that names what is
hashed, then the thing in its canonical binary form. A ledger hash covers the header alone; the header
covers the transactions by the root of their SHAMap, a 16-way radix tree over the nibbles of the
transaction id. So a chain of headers whose hashes hold proves the order, and a root that holds proves
the transactions. Nothing here parses JSON: blobs come in as bytes.

Source: rippled `protocol/HashPrefix.h`, `ledger/Ledger.cpp` (calculateLedgerHash), `shamap/SHAMap*`.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

LEDGER_EPOCH_MS: Final = 946_684_800_000
"""2000-01-01T00:00:00Z, where the ledger's clock starts, in milliseconds since 1970."""

ZERO_HASH: Final = "0" * 64
"""Root of an empty tree, and the parent of ledger 1."""

_PREFIX_LEDGER: Final = b"LWR\0"
_PREFIX_TRANSACTION: Final = b"TXN\0"
_PREFIX_TREE_TRANSACTION: Final = b"SND\0"
_PREFIX_TREE_INNER: Final = b"MIN\0"

_HEAD: Final = struct.Struct(">IQ")
_TIMES: Final = struct.Struct(">IIBB")
_ROOTS: Final = ("parent_hash", "transaction_hash", "account_hash")
_ZERO: Final = bytes(32)
_UNIX_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

TreeItem = tuple[bytes, bytes, str]
"""One transaction of a tree: canonical transaction, canonical metadata, transaction id (64 hex digits)."""

TreePathNode = Mapping[int, bytes]
"""An inner node on the way to a leaf: the hashes of its other branches that hold something, by nibble."""


class HeaderError(ValueError):
    """A header field is missing or cannot stand in a ledger header; the message names the field."""


def sha512_half(data: bytes) -> bytes:
    """First 32 bytes of SHA-512."""
    return hashlib.sha512(data).digest()[:32]


def transaction_id(tx_blob: bytes) -> str:
    """Hash of a signed transaction in its canonical binary form, 64 upper-case hex digits."""
    return sha512_half(_PREFIX_TRANSACTION + tx_blob).hex().upper()


def ledger_hash(header: Mapping[str, Any]) -> str:
    """Hash of a ledger header given in the field names of schemas/xrpl/ledgers.avsc.

    Times are milliseconds since 1970 (or datetimes), total_coins is in drops, hashes are 64 hex digits.
    `close_flags` may be null (recordings of 2015 lack it; it was 0); `parent_close_time` may not: where
    a recording lacks it, the caller fills in the parent's close_time. Raises HeaderError.
    """
    return hash_of_header(header_bytes(header))


def hash_of_header(header: bytes) -> str:
    """Hash of a ledger of which the header is given as it is hashed, 64 upper-case hex digits."""
    return sha512_half(_PREFIX_LEDGER + header).hex().upper()


def header_bytes(header: Mapping[str, Any]) -> bytes:
    """The 118 bytes of a header that its hash is over, given as to `ledger_hash`. Raises HeaderError."""
    flags = header.get("close_flags")
    try:
        head = _HEAD.pack(_number(header, "ledger_index"), _number(header, "total_coins"))
        times = _TIMES.pack(
            _ledger_seconds(header, "parent_close_time"),
            _ledger_seconds(header, "close_time"),
            _number(header, "close_time_resolution"),
            0 if flags is None else flags,
        )
    except struct.error as error:
        raise HeaderError(f"a header field is out of range: {error}") from error
    roots = b"".join(_hash_bytes(header, name) for name in _ROOTS)
    return head + roots + times


def transaction_tree_root(items: Iterable[TreeItem]) -> str:
    """Root of the SHAMap of a ledger's transactions, in any order, 64 upper-case hex digits.

    ZERO_HASH for no transaction. Raises ValueError for an id that is no 256-bit hash or stands twice.
    """
    return _inner_node(_leaves(items), 0).hex().upper()


def transaction_tree_path(items: Iterable[TreeItem], tx_hash: str) -> list[TreePathNode]:
    """The inner nodes above one transaction of a tree, the root first, each without the branch to it.

    With the transaction itself they make the root again: `root_of_path`. Raises KeyError where the tree does
    not hold it, ValueError as `transaction_tree_root`.
    """
    key, below = bytes.fromhex(tx_hash), _leaves(items)
    if all(leaf[0] != key for leaf in below):
        raise KeyError(tx_hash)
    path: list[TreePathNode] = []
    while len(below) > 1 or not path:
        depth = len(path)
        branches = _branches(below, depth)
        path.append({
            nibble: _child(branch, depth + 1)
            for nibble, branch in enumerate(branches)
            if branch and nibble != _nibble(key, depth)
        })  # fmt: skip
        below = branches[_nibble(key, depth)]
    return path


def root_of_path(item: TreeItem, path: Sequence[TreePathNode]) -> str:
    """Root of the tree that holds `item` below the inner nodes of `path`, 64 upper-case hex digits.

    Raises ValueError where a node tells what does not count: the branch to the item, or one that holds nothing.
    """
    ((key, node),) = _leaves([item])
    for depth in reversed(range(len(path))):
        here = _nibble(key, depth)
        if here in path[depth] or _ZERO in path[depth].values():
            raise ValueError(f"node {depth} of the path tells the branch to the transaction, or an empty one")
        children = {**path[depth], here: node}
        node = _hash_inner(children.get(nibble, _ZERO) for nibble in range(16))
    return node.hex().upper()


def _leaves(items: Iterable[TreeItem]) -> list[tuple[bytes, bytes]]:
    """(key, hash) of the leaves, by key. Raises ValueError."""
    leaves = []
    for tx_blob, meta_blob, tx_hash in items:
        key = bytes.fromhex(tx_hash)
        if len(key) != 32:
            raise ValueError(f"not a transaction id: {tx_hash}")
        body = length_prefix(len(tx_blob)) + tx_blob + length_prefix(len(meta_blob)) + meta_blob
        leaves.append((key, sha512_half(_PREFIX_TREE_TRANSACTION + body + key)))
    leaves.sort()
    for (left, _), (right, _) in itertools.pairwise(leaves):
        if left == right:
            raise ValueError(f"transaction twice in one tree: {left.hex().upper()}")
    return leaves


def length_prefix(length: int) -> bytes:
    """Variable-length prefix of the canonical binary form, 1 to 3 bytes. Raises ValueError above 918,744."""
    if length <= 192:
        return bytes((length,))
    if length <= 12_480:
        high, low = divmod(length - 193, 256)
        return bytes((193 + high, low))
    if length <= 918_744:
        high, rest = divmod(length - 12_481, 65_536)
        return bytes((241 + high, rest >> 8, rest & 0xFF))
    raise ValueError(f"too long for a length prefix: {length}")


def _inner_node(leaves: Sequence[tuple[bytes, bytes]], depth: int) -> bytes:
    """Hash of the inner node at `depth` over leaves sorted by key; the empty tree's is zero."""
    if not leaves:
        return _ZERO
    return _hash_inner(_child(branch, depth + 1) for branch in _branches(leaves, depth))


def _hash_inner(children: Iterable[bytes]) -> bytes:
    return sha512_half(_PREFIX_TREE_INNER + b"".join(children))


def _branches(leaves: Sequence[tuple[bytes, bytes]], depth: int) -> list[list[tuple[bytes, bytes]]]:
    branches: list[list[tuple[bytes, bytes]]] = [[] for _ in range(16)]
    for leaf in leaves:
        branches[_nibble(leaf[0], depth)].append(leaf)
    return branches


def _child(leaves: Sequence[tuple[bytes, bytes]], depth: int) -> bytes:
    """A leaf stands as high as it is alone below its branch."""
    return leaves[0][1] if len(leaves) == 1 else _inner_node(leaves, depth)


def _nibble(key: bytes, depth: int) -> int:
    byte = key[depth // 2]
    return byte >> 4 if depth % 2 == 0 else byte & 0xF


def _number(header: Mapping[str, Any], name: str) -> int:
    value = header.get(name)
    if not isinstance(value, int):
        raise HeaderError(f"{name} is missing or no integer: {value!r}")
    return value


def _ledger_seconds(header: Mapping[str, Any], name: str) -> int:
    """Seconds since 2000-01-01 of a time given in milliseconds since 1970 or as a datetime."""
    value = header.get(name)
    if isinstance(value, datetime):
        since = value - _UNIX_EPOCH
        value = since.days * 86_400_000 + since.seconds * 1_000 + since.microseconds // 1_000
    if not isinstance(value, int):
        raise HeaderError(f"{name} is missing or no time: {value!r}")
    seconds, rest = divmod(value - LEDGER_EPOCH_MS, 1_000)
    if rest or seconds < 0:
        raise HeaderError(f"{name} is no time of the ledger's clock: {value} ms")
    return seconds


def _hash_bytes(header: Mapping[str, Any], name: str) -> bytes:
    value = header.get(name)
    if not isinstance(value, str) or len(value) != 64:
        raise HeaderError(f"{name} is missing or no 256-bit hash: {value!r}")
    try:
        return bytes.fromhex(value)
    except ValueError as error:
        raise HeaderError(f"{name} is no hex: {value!r}") from error
