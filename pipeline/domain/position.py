"""Positions and transfer ids.

A transfer of a chain has its id from where it stands in history, so the same event gives the same
ids for ever, and ids of a chain rise:

    0 (1 bit) | chain 15 | block 40 | block hash 28 | incarnation 4 | transaction 22 | leg 16 | phase 2

What belongs to a run and not to a place in it (openings, adjustments) and everything off-chain has
`1 | BLAKE2b-111(…) | leg 14 | phase 2`. DESIGN.md, "Books".
"""

from __future__ import annotations

from enum import IntEnum
from hashlib import blake2b
from typing import Final

_WIDTHS: Final = {"chain": 15, "block": 40, "incarnation": 4, "transaction": 22, "leg": 16}
LEG_BITS: Final = 16
BLOCK_TRANSACTION: Final = (1 << 22) - 1  # stands for the block itself, behind all its transactions
LEGS_MAX: Final = 1 << LEG_BITS
TRANSACTION_SHIFT: Final = LEG_BITS + 2


class Phase(IntEnum):
    """Last two bits of a transfer id."""

    SINGLE = 0  # single-phase or pending
    POST = 1
    VOID = 2
    CORRECTION = 3


class PositionOverflow(ValueError):
    """A part of a position does not fit its field of the transfer id."""


def _fit(name: str, value: int) -> int:
    if not 0 <= value < 1 << _WIDTHS[name]:
        raise PositionOverflow(f"{name} {value} does not fit {_WIDTHS[name]} bits of a transfer id")
    return value


def hash28(block_hash: str) -> int:
    """First 28 bits of a block's hash given in hex."""
    return int(block_hash[:7], 16)


def block_base(chain: int, block: int, block_hash: str, incarnation: int = 0) -> int:
    """The part of a transfer id that all transfers of one block share.

    Raises PositionOverflow if a part does not fit.
    """
    base = _fit("chain", chain)
    base = base << 40 | _fit("block", block)
    base = base << 28 | hash28(block_hash)
    base = base << 4 | _fit("incarnation", incarnation)
    return base << 40


def transfer_id(base: int, transaction: int, leg: int, phase: Phase = Phase.SINGLE) -> int:
    """Id of leg `leg` of transaction `transaction` in the block of `base`."""
    return base | _fit("transaction", transaction) << TRANSACTION_SHIFT | _fit("leg", leg) << 2 | phase


def named_transfer_id(*parts: str, leg: int = 0, phase: Phase = Phase.SINGLE) -> int:
    """Id of a transfer that has a name and no place: `1 | BLAKE2b-111(parts) | leg 14 | phase 2`."""
    if not 0 <= leg < 1 << 14:
        raise PositionOverflow(f"leg {leg} does not fit 14 bits of a transfer id")
    digest = blake2b(digest_size=14)
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(4, "big"))
        digest.update(data)
    number = int.from_bytes(digest.digest(), "big") >> 1  # 111 bits
    return 1 << 127 | number << 16 | leg << 2 | phase
