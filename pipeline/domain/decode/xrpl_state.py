"""Entries of a ledger's state (`ledger_data`) to what they hold: the rows of schemas/xrpl/states.avsc. Pure.

A state is what would be if its entries had all just been created: so each is read as a CreatedNode whose
NewFields it is, by the same readers that read metadata, and the rows after are the state. Entries come in
JSON with `index`, or in binary as `{data, index}`. Unlike metadata, nothing may be left out: an entry that
can't be read is an error, for the balances would be wrong for ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.domain.amount import parse_decimal
from pipeline.domain.decode import xrpl_mpt
from pipeline.domain.decode.xrpl_amounts import NATIVE
from pipeline.domain.decode.xrpl_binary import decode_object, definitions
from pipeline.domain.decode.xrpl_effects import READERS, Effects, read_effects
from pipeline.domain.decode.xrpl_errors import Malformed
from pipeline.domain.decode.xrpl_shapes import is_hash
from schemas.records import StateBalance, StateMpt, StateNft, StateObject

Entry = Mapping[str, Any]

LOCKED_BALANCE: Final = ("LockedBalance", "Field_6_21")
"""Xahau's field of a trust line that holds what its owner's escrows lock; the second is its binary name."""

_OBJECT_FIELDS: Final = (
    "entry_type", "entry_id", "owner", "destination", "asset", "amount", "balance", "counter_asset",
    "counter_amount", "reference", "held_asset",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class StateRows:
    """What some entries hold; `row_number` of the MPT rows is 0: it is given where pages are made."""

    balances: list[StateBalance] = field(default_factory=list)
    nfts: list[StateNft] = field(default_factory=list)
    mpts: list[StateMpt] = field(default_factory=list)
    objects: list[StateObject] = field(default_factory=list)
    native: int = 0  # drops in accounts, escrows and channels
    unknown: Counter[str] = field(default_factory=Counter)  # entries of types not known here, by type
    locks_on_lines: bool = False  # some trust line has a LockedBalance


def read_entry(recorded: Entry) -> dict[str, Any]:
    """The entry in JSON with its `index`, from JSON or `{data, index}`. Malformed if it is neither.

    Binary of a type that is not known here, with fields that can't be read, gives its type and index only.
    """
    index, data = recorded.get("index"), recorded.get("data")
    if not is_hash(index):
        raise Malformed(f"an entry of the state has no index: {str(index)[:80]!r}")
    if not isinstance(data, str):
        if not isinstance(recorded.get("LedgerEntryType"), str):
            raise Malformed(f"entry {index} has no LedgerEntryType")
        return dict(recorded)
    try:
        entry = decode_object(data)
    except Malformed as error:
        kind = _unknown_type(data)
        if kind is None:
            raise Malformed(f"entry {index}: {error.reason}") from None
        entry = {"LedgerEntryType": kind}
    if "LedgerEntryType" not in entry:
        raise Malformed(f"entry {index} has no LedgerEntryType")
    return {**entry, "index": index}


def _unknown_type(data: str) -> str | None:
    """`Unknown_<code>` of a serialised entry whose type is not known here; its first field says it."""
    if data[:2] != "11" or len(data) < 6:
        return None
    code = int(data[2:6], 16)
    return None if code in definitions().codes["LedgerEntryType"] else f"Unknown_{code}"


def state_rows(recorded: Iterable[Entry], *, zeros: bool, locks_on_lines: bool) -> StateRows:
    """Rows of these entries, in their order.

    `zeros`: balances of 0 have rows too (after a gap the books may hold something there). `locks_on_lines`:
    what escrows of issued currencies lock stands on trust lines (Xahau), so they hold nothing themselves.
    Raises Malformed naming the entry that can't be read.
    """
    entries = [read_entry(one) for one in recorded]
    effects = read_effects({"AffectedNodes": [_created(entry) for entry in entries]})
    if effects.errors:
        raise _first_error(entries)
    balances = [_balance(row) for row in effects.balance_changes]
    if zeros:
        balances += _zero_balances(entries)
    try:
        nfts = [_nft(row) for row in effects.nfts.changes()] if effects.nfts else []
    except ValueError as error:
        raise Malformed(f"an NFTokenPage can't be read: {error}") from None
    return StateRows(
        balances=balances,
        nfts=nfts,
        mpts=[_mpt(xrpl_mpt.change_row(one)) for one in effects.mpts],
        objects=[_object(row, locks_on_lines) for row in effects.object_changes],
        native=effects.native,
        unknown=Counter(kind for kind in (e["LedgerEntryType"] for e in entries) if kind not in READERS),
        locks_on_lines=any(name in entry for entry in entries if entry["LedgerEntryType"] == "RippleState"
                           for name in LOCKED_BALANCE),
    )  # fmt: skip


def _created(entry: Entry) -> dict[str, Any]:
    return {
        "CreatedNode": {
            "LedgerEntryType": entry["LedgerEntryType"],
            "LedgerIndex": entry["index"],
            "NewFields": entry,
        }
    }


def _first_error(entries: list[dict[str, Any]]) -> Malformed:
    for entry in entries:
        found: Effects = read_effects({"AffectedNodes": [_created(entry)]})
        if found.errors:
            said = found.errors[0].partition(": ")[2]
            return Malformed(f"entry {entry['index']} ({entry['LedgerEntryType']}): {said}")
    return Malformed("the entries can't be read together")


def _balance(row: Mapping[str, Any]) -> StateBalance:
    return {"account": row["account"], "asset": row["asset"], "balance": row["balance"]}


def _nft(row: Mapping[str, Any]) -> StateNft:
    return {"nft_id": row["nft_id"], "owner": row["to_owner"], "uri": row["uri"]}


def _mpt(row: Mapping[str, Any]) -> StateMpt:
    return {
        "row_number": 0,
        "issuance": row["issuance"],
        "account": row["account"],
        "issuer": row["issuer"],
        "amount": row["amount"],
        "locked": row["locked"],
        "outstanding": row["outstanding"],
    }


def _object(row: Mapping[str, Any], locks_on_lines: bool) -> StateObject:
    made: Any = {name: row[name] for name in _OBJECT_FIELDS}
    made["held"] = row["held_after"]
    if locks_on_lines and row["held_asset"] not in (None, NATIVE):
        made["held_asset"], made["held"] = None, "0"
    found: StateObject = made
    return found


def _zero_balances(entries: list[dict[str, Any]]) -> list[StateBalance]:
    """Rows of 0 of the accounts, both sides of the trust lines, and MPT holders that hold nothing."""
    rows: list[StateBalance] = []
    for entry in entries:
        kind = entry["LedgerEntryType"]
        if kind == "AccountRoot" and int(entry.get("Balance", 0)) == 0:
            rows.append({"account": entry["Account"], "asset": NATIVE, "balance": "0"})
        elif kind == "RippleState" and parse_decimal(entry["Balance"]["value"])[0] == 0:
            low, high = entry["LowLimit"]["issuer"], entry["HighLimit"]["issuer"]
            currency = entry["Balance"]["currency"]
            rows.append({"account": low, "asset": f"{currency}.{high}", "balance": "0"})
            rows.append({"account": high, "asset": f"{currency}.{low}", "balance": "0"})
        elif kind == "MPToken" and int(entry.get("MPTAmount", 0)) == 0:
            asset = f"mpt:{entry['MPTokenIssuanceID']}"
            rows.append({"account": entry["Account"], "asset": asset, "balance": "0"})
    return rows
