"""The root of a state of any size, entry by entry in the order of their indexes, in bounded memory.

A SHAMap's leaf stands as high as it is alone below its branch, so where one stands is known as soon as its
two neighbours in key order are. `ledger_data` gives entries in that order: it is enough to keep the inner
nodes on the path to the last entry, at most 64 of 16 hashes each. Everything left of the path is hashed.

Source: rippled `shamap/SHAMapTreeNode.h` (leaf prefix MLN, inner prefix MIN), `ledger_data` handler.
"""

from __future__ import annotations

from typing import Final

from pipeline.domain.xrpl_hash import ZERO_HASH, sha512_half

_PREFIX_LEAF: Final = b"MLN\0"
_PREFIX_INNER: Final = b"MIN\0"
_EMPTY: Final = bytes(32)


class OutOfOrder(ValueError):
    """An entry's index is not above the one before."""


class StateTree:
    """Takes a state's entries in rising order of their indexes; `root` is their account_hash."""

    def __init__(self) -> None:
        self.count = 0
        self.last = b""  # index of the last entry
        self._leaf = b""  # its hash; its place waits for the next entry
        self._shared = 0  # nibbles that it shares with the entry before
        self._open: list[list[bytes]] = []  # inner nodes on its path, from the root

    def add(self, index: bytes, data: bytes) -> None:
        """The next entry: 32 bytes of index, and its canonical bytes. Raises OutOfOrder, ValueError."""
        if len(index) != 32:
            raise ValueError(f"an index has 32 bytes, not {len(index)}")
        if index <= self.last:
            raise OutOfOrder(f"entry {index.hex().upper()} comes after {self.last.hex().upper()}")
        if self.count:
            shared = _shared_nibbles(self.last, index)
            self._place(shared)
            self._close(shared)
            self._shared = shared
        self.last, self._leaf = index, sha512_half(_PREFIX_LEAF + data + index)
        self.count += 1

    def root(self) -> str:
        """Root over the entries so far, 64 upper-case hex digits; no entry may be added after."""
        if not self.count:
            return ZERO_HASH
        self._place(0)
        self._close(0)
        (top,) = self._open
        return sha512_half(_PREFIX_INNER + b"".join(top)).hex().upper()

    def _place(self, shared: int) -> None:
        """Put the waiting leaf below the deepest inner node that it shares with a neighbour."""
        depth = max(self._shared, shared)
        while len(self._open) <= depth:
            self._open.append([_EMPTY] * 16)
        self._open[depth][_nibble(self.last, depth)] = self._leaf

    def _close(self, shared: int) -> None:
        """Hash the inner nodes that the next entry is not below."""
        while len(self._open) > shared + 1:
            node = self._open.pop()
            depth = len(self._open) - 1
            self._open[depth][_nibble(self.last, depth)] = sha512_half(_PREFIX_INNER + b"".join(node))


def _nibble(key: bytes, depth: int) -> int:
    byte = key[depth // 2]
    return byte & 0xF if depth % 2 else byte >> 4


def _shared_nibbles(one: bytes, other: bytes) -> int:
    """How many leading nibbles two different keys of one length share."""
    differing = int.from_bytes(one) ^ int.from_bytes(other)
    return (len(one) * 8 - differing.bit_length()) // 4
