"""Rows of the view `provenance` → what a person reads: a timeline, hand-overs, how long who held it. Pure.

A row is told as it is: what is not known of it stays empty, and everything else that its event says stands in its
facts, word for word. Numbers in it are never read as floating point.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pipeline.web.graph import END, START, HandOver

Row = Mapping[str, Any]
TITLES: Final[Mapping[str, str]] = {
    "minted": "Minted on the chain",
    "transferred": "Changed hands on the chain",
    "burnt": "Burnt on the chain",
    "issued": "Issuance created",
    "changed": "Supply changed",
    "destroyed": "Issuance destroyed",
    "opened": "Stood on the ledger when the recording began",
    "holder_created": "A holder appeared",
    "holder_modified": "A holder's balance changed",
    "holder_deleted": "A holder left",
    "ASSET_REGISTERED": "Registered",
    "METADATA_UPDATED": "Entry changed",
    "MINTED": "Minted",
    "TRANSFERRED": "Changed hands",
    "FRACTIONED": "Split into fractions",
    "MERGED": "Made whole again",
    "PACK_CREATED": "Packed",
    "PACK_OPENED": "Pack opened",
    "BURNED": "Burnt",
    "LISTED": "Listed for sale",
    "DELISTED": "Taken off sale",
    "SOLD": "Sold",
    "INTERNAL_GAS_CHARGE": "Gas charged",
    "INTERNAL_GAS_COVERAGE": "Gas paid by the treasury",
    "ONCHAIN_SEND": "Sent to the chain",
    "ONCHAIN_RECEIVE": "Taken in from the chain",
    "ONCHAIN_BURN": "Burnt through the chain",
    "ONCHAIN_CANCELLED": "Move on the chain called off",
    "CHAIN_OBSERVED": "Seen on the chain",
    "SCANNED": "Scanned",
    "STORY_ADDED": "A story was told",
    "VIEWED": "Looked at",
    "PACK_TAPPED": "Pack tapped",
    "SOCIAL_ACTION": "Social action",
    "REACTION_ADDED": "A reaction",
    "COMMENT_ADDED": "A comment",
    "SHARED": "Shared",
}
SOCIAL: Final = frozenset(
    ("SCANNED", "STORY_ADDED", "VIEWED", "PACK_TAPPED", "SOCIAL_ACTION", "REACTION_ADDED", "COMMENT_ADDED", "SHARED")
)  # fmt: skip
SALES: Final = frozenset(("LISTED", "DELISTED", "SOLD"))
MOVES: Final[Mapping[str, str]] = {
    "minted": "mint", "MINTED": "mint", "transferred": "move", "TRANSFERRED": "move", "SOLD": "sale",
    "burnt": "burn", "BURNED": "burn", "ONCHAIN_BURN": "burn", "ONCHAIN_SEND": "chain", "ONCHAIN_RECEIVE": "chain",
    "PACK_CREATED": "pack", "PACK_OPENED": "pack", "FRACTIONED": "fraction", "MERGED": "fraction",
}  # fmt: skip
"""What hands something over, and the kind of its arc."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the story. `kind`: chain, social, sale, custody; `facts`: what its event says besides, in order."""

    number: int
    title: str
    kind: str
    row: Row
    facts: tuple[tuple[str, str], ...]
    hash: str
    source: str
    target: str
    units: str
    settled: str  # verified, final, head, applied


@dataclass(frozen=True, slots=True)
class Held:
    """That an owner got it, from whom, and after how many seconds he gave any of it on; None = not yet."""

    move: HandOver
    at: str
    held_s: int | None
    entry: Entry


def entries(rows: Iterable[Row], first: int = 1) -> list[Entry]:
    """The timeline, numbered from `first`."""
    return [_entry(row, number) for number, row in enumerate(rows, first)]


def _entry(row: Row, number: int) -> Entry:
    word, facts = word_of(row), facts_of(row["detail"])
    known = dict(facts)
    source, target = _ends(row, known)
    title = TITLES.get(word) or word.replace("_", " ").capitalize()
    return Entry(
        number, title, _kind(row, word), row, facts, tx_hash(row, known), source, target, _units(row, known),
        _settled(row),
    )  # fmt: skip


def word_of(row: Row) -> str:
    """What happened, in the word of the chain's change or of the event's type."""
    return str(row["action"] if on_chain(row) else row["type"])


def _kind(row: Row, word: str) -> str:
    if on_chain(row):
        return "chain"
    return "social" if word in SOCIAL else "sale" if word in SALES else "custody"


def on_chain(row: Row) -> bool:
    """Whether the row is a chain's own."""
    return bool(row["chain_number"])


def _settled(row: Row) -> str:
    if not on_chain(row):
        return "applied"
    if row["finality"] != "final":
        return str(row["finality"])
    return "verified" if row["verified"] else "final"


def _ends(row: Row, facts: Mapping[str, str]) -> tuple[str, str]:
    """(from whom, to whom), "" for nobody known."""
    source = row["from_owner"] or facts.get("from_user_id") or facts.get("seller_user_id") or ""
    target = row["to_owner"] or facts.get("to_user_id") or facts.get("to_address") or ""
    return str(source), str(target)


def _units(row: Row, facts: Mapping[str, str]) -> str:
    """Units that moved or remain, where it is not simply the whole thing."""
    if on_chain(row) and row["action"] not in ("minted", "transferred", "burnt"):
        return f"{row['change']}, now {row['amount']}"
    return facts.get("units") or facts.get("fraction_count") or ""


def tx_hash(row: Row, facts: Mapping[str, str]) -> str:
    """The transaction on a chain that the row is of, or that its event names."""
    return str(row["hash"] or facts.get("tx_hash") or facts.get("treasury_tx_hash") or "")


def facts_of(detail: Any) -> tuple[tuple[str, str], ...]:
    """What an event says, as names and texts; amounts stay letter for letter, what is empty is left out."""
    if not detail:
        return ()
    try:
        value = json.loads(detail, parse_float=str, parse_int=str) if isinstance(detail, str) else detail
    except ValueError:
        return (("detail", str(detail)),)
    if not isinstance(value, Mapping):
        return (("detail", _text(value)),)
    return tuple((str(name), _text(one)) for name, one in value.items() if one not in (None, "", [], {}))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and not any(isinstance(one, (list, dict)) for one in value):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def hand_overs(story: Sequence[Entry], asset: str = "") -> list[Held]:
    """Who gave it to whom, and how soon he gave any of it on.

    A pack stands for its owner while the asset is in it; what is burnt goes to END; splitting and merging stay with
    their owner.
    """
    found = [(entry, move) for entry in story if (move := _move(entry, asset)) is not None]
    held = []
    for place, (entry, move) in enumerate(found):
        given = (
            other.row["time"]
            for other, then in found[place + 1 :]
            if move.target == then.source != then.target and on_chain(other.row) == on_chain(entry.row)
        )
        held.append(Held(move, str(entry.row["time"]), _seconds(entry.row["time"], next(given, None)), entry))
    return held


def _move(entry: Entry, asset: str) -> HandOver | None:
    row, kind = entry.row, MOVES.get(word_of(entry.row))
    if kind is None or row["finality"] == "retracted":
        return None
    if kind == "pack":
        return _packed(entry, asset)
    source, target = entry.source or START, END if kind == "burn" else entry.target
    if kind == "fraction":
        source = target = entry.source or entry.target
    if not target or (source == target and kind != "fraction"):
        return None
    if not on_chain(row) and row["about"] != asset and kind in ("move", "sale"):
        return HandOver(source, target, "pack", f"with {row['about']}")
    return HandOver(
        source, target, kind, f"{entry.title}, {entry.units} units" if entry.units else entry.title
    )


def _packed(entry: Entry, asset: str) -> HandOver | None:
    """Into the pack, or out of it; on the pack's own page nothing moves."""
    pack = str(entry.row["about"])
    owner = entry.source or entry.target or str(entry.row["user_id"] or "")
    if pack == asset or not owner:
        return None
    into = word_of(entry.row) == "PACK_CREATED"
    return HandOver(*((owner, pack) if into else (pack, owner)), "pack", entry.title)


def _seconds(at: str, until: str | None) -> int | None:
    if until is None:
        return None
    try:
        held = datetime.fromisoformat(until) - datetime.fromisoformat(at)
    except ValueError:
        return None
    return int(held.total_seconds())
