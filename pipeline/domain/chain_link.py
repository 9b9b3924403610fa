"""Does this ledger follow the last one? The hash chain, the header's hash, and the coins burnt. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.domain.xrpl_hash import ledger_hash

_HASHED = ("ledger_index", "total_coins", "parent_hash", "transaction_hash", "account_hash", "close_time",
           "close_time_resolution")  # fmt: skip


class BrokenChain(ValueError):
    """A ledger contradicts the one before it or itself; `.reason` names the rule in one word."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Gap(BrokenChain):
    """Ledgers `first`..`last` are missing before this one."""

    def __init__(self, first: int, last: int) -> None:
        missing = f"ledger {first} is" if first == last else f"ledgers {first}-{last} are"
        super().__init__(
            "gap",
            f"{missing} missing or out of order: ledger {last + 1} follows {first - 1} in the recording",
        )
        self.first, self.last = first, last


@dataclass(frozen=True, slots=True)
class Head:
    """What must be known of the last ledger to judge the next."""

    ledger_index: int
    ledger_hash: str | None
    total_coins: int | None
    close_time: int | None  # ms since 1970


def identity(header: Mapping[str, Any]) -> str:
    """What tells a ledger from another of the same index: its hash, else its transaction root."""
    return str(header.get("ledger_hash") or header.get("transaction_hash") or "")


def check_header(header: Mapping[str, Any], parent_close_time: int | None) -> None:
    """Recompute the ledger's hash from its header, where the recording tells enough of it.

    Recordings of 2015 lack close_flags (0 then) and parent_close_time (the parent's close_time).
    Raises BrokenChain("ledger_hash").
    """
    stated = header.get("ledger_hash")
    parent_time = header.get("parent_close_time")
    parent_time = parent_close_time if parent_time is None else parent_time
    if stated is None or parent_time is None or any(header.get(name) is None for name in _HASHED):
        return
    full = {**header, "close_flags": header.get("close_flags") or 0, "parent_close_time": parent_time}
    found = ledger_hash(full)
    if found != stated:
        raise BrokenChain(
            "ledger_hash", f"ledger {header['ledger_index']}: its header hashes to {found}, it says {stated}"
        )


def check_link(head: Head | None, header: Mapping[str, Any], fees: int) -> None:
    """Check a ledger against the head before it (None: it is the first). `fees` in drops.

    Raises Gap where ledgers are missing, BrokenChain("order" | "parent_hash" | "total_coins" |
    "ledger_hash") otherwise. What the recording does not tell is not judged.
    """
    index = header["ledger_index"]
    if head is None:
        check_header(header, None)
        return
    if index > head.ledger_index + 1:
        raise Gap(head.ledger_index + 1, index - 1)
    if index <= head.ledger_index:
        raise BrokenChain("order", f"ledger {index} comes after {head.ledger_index} in the recording")
    parent = header.get("parent_hash")
    if parent is not None and head.ledger_hash is not None and parent != head.ledger_hash:
        raise BrokenChain(
            "parent_hash",
            f"ledger {index} names parent {parent}, but ledger {head.ledger_index} has hash {head.ledger_hash}",
        )
    check_header(header, head.close_time)
    total = header.get("total_coins")
    if total is not None and head.total_coins is not None and head.total_coins - fees != total:
        raise BrokenChain(
            "total_coins",
            f"ledger {index}: total_coins falls by {head.total_coins - total} drops, its fees are {fees}",
        )


def head_of(header: Mapping[str, Any]) -> Head:
    """The head after this ledger."""
    return Head(
        header["ledger_index"], header.get("ledger_hash"), header.get("total_coins"), header.get("close_time")
    )
