"""Does this ledger follow the last one? The hash chain, the header's hash, and the coins burnt. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.domain.xrpl_hash import ledger_hash
from schemas.records import Check

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


PARENT_TIME_TRIED_S = 600
"""How far before its own close the parent's is looked for, where a recording does not tell it."""


def check_header(header: Mapping[str, Any], parent_close_time: int | None) -> Check:
    """Recompute the ledger's hash from its header, where the recording tells enough of it.

    Recordings of 2015 lack close_flags (0 then) and parent_close_time: it is the parent's close_time,
    and without the parent the one in the ten minutes before that gives the stated hash; a hash that
    fits proves the time with it. Raises BrokenChain("ledger_hash").
    """
    stated = header.get("ledger_hash")
    missing = [name for name in ("ledger_hash", *_HASHED) if header.get(name) is None]
    if missing:
        return _unjudged("header_hash", f"the recording does not tell {missing[0]}")
    full = {**header, "close_flags": header.get("close_flags") or 0}
    known = header.get("parent_close_time")
    known = parent_close_time if known is None else known
    found = "no header of the ten minutes before"
    for time in _parent_times(full["close_time"]) if known is None else (known,):
        found = ledger_hash({**full, "parent_close_time": time})
        if found == stated:
            return _holds("header_hash")
    if known is None:
        return _unjudged("header_hash", "the recording does not tell parent_close_time")
    raise BrokenChain(
        "ledger_hash", f"ledger {header['ledger_index']}: its header hashes to {found}, it says {stated}"
    )


def _parent_times(close_time: int) -> list[int]:
    return [close_time - 1000 * seconds for seconds in range(PARENT_TIME_TRIED_S)]


def _holds(name: str) -> Check:
    return {"name": name, "outcome": "holds", "detail": ""}


def _unjudged(name: str, why: str) -> Check:
    return {"name": name, "outcome": "not_applicable", "detail": why}


def check_link(head: Head | None, header: Mapping[str, Any], fees: int) -> list[Check]:
    """Check a ledger against the head before it (None: it is the first). `fees` in drops.

    The checks parent_hash, header_hash and total_coins: they hold, or the recording does not tell
    what they need. Raises Gap where ledgers are missing, BrokenChain("order" | "parent_hash" |
    "total_coins" | "ledger_hash") for what is broken.
    """
    index = header["ledger_index"]
    if head is None:
        first = "the first ledger of its run"
        return [
            _unjudged("parent_hash", first),
            check_header(header, None),
            _unjudged("total_coins", first),
        ]
    if index > head.ledger_index + 1:
        raise Gap(head.ledger_index + 1, index - 1)
    if index <= head.ledger_index:
        raise BrokenChain("order", f"ledger {index} comes after {head.ledger_index} in the recording")
    return [_parent(head, header), check_header(header, head.close_time), _coins(head, header, fees)]


def _parent(head: Head, header: Mapping[str, Any]) -> Check:
    parent = header.get("parent_hash")
    if parent is None or head.ledger_hash is None:
        return _unjudged("parent_hash", "the recording does not tell it")
    if parent != head.ledger_hash:
        raise BrokenChain(
            "parent_hash",
            f"ledger {header['ledger_index']} names parent {parent}, but ledger {head.ledger_index} "
            f"has hash {head.ledger_hash}",
        )
    return _holds("parent_hash")


def _coins(head: Head, header: Mapping[str, Any], fees: int) -> Check:
    total = header.get("total_coins")
    if total is None or head.total_coins is None:
        return _unjudged("total_coins", "the recording does not tell it")
    if head.total_coins - fees != total:
        raise BrokenChain(
            "total_coins",
            f"ledger {header['ledger_index']}: total_coins falls by {head.total_coins - total} drops, "
            f"its fees are {fees}",
        )
    return _holds("total_coins")


def head_of(header: Mapping[str, Any]) -> Head:
    """The head after this ledger."""
    return Head(
        header["ledger_index"], header.get("ledger_hash"), header.get("total_coins"), header.get("close_time")
    )
