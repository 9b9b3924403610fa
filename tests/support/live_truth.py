"""A node's own state (every entry of `ledger_data`) as the tables of a truth document.

The tables are those that tests/data/xrpl-standalone/README.md describes, as far as exports and
tests/support/truth.py read them; that the recorded truth comes out of the recorded state is a test of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from xrpl.core.addresscodec import decode_classic_address, encode_classic_address

from tests.support.demo import plain
from tests.support.replay import Json
from tests.support.truth import PROMISES


def node_tables(entries: Iterable[Json]) -> Json:
    """Tables of a whole state."""
    by_type: dict[str, list[Json]] = {}
    for entry in entries:
        by_type.setdefault(entry["LedgerEntryType"], []).append(entry)
    lines = by_type.get("RippleState", [])
    tables: Json = {
        "accounts": {e["Account"]: _account(e) for e in by_type["AccountRoot"]},
        "trust_lines": [_line(e) for e in lines],
        "iou": [owed for e in lines if (owed := _owed(e))],
        "nfts": dict(_nfts(by_type.get("NFTokenPage", []))),
        "mpt_issuances": {_issuance_id(e): _issuance(e) for e in by_type.get("MPTokenIssuance", [])},
        "mpt_holders": [_mpt_holder(e) for e in by_type.get("MPToken", [])],
        **{table: {e["index"]: e for e in by_type.get(kind, [])} for table, kind in PROMISES.items()},
    }
    return tables | {"xrp_parts": _xrp_parts(tables)}


def _account(entry: Json) -> Json:
    return {
        "balance": entry["Balance"],
        "sequence": entry["Sequence"],
        "owner_count": entry.get("OwnerCount", 0),
        "flags": entry.get("Flags", 0),
    }


def _line(entry: Json) -> Json:
    balance = entry["Balance"]
    return {
        "index": entry["index"],
        "low": entry["LowLimit"]["issuer"],
        "high": entry["HighLimit"]["issuer"],
        "currency": balance["currency"],
        "balance": balance["value"],
        "flags": entry.get("Flags", 0),
    }


def _owed(entry: Json) -> Json | None:
    """Who is owed what by whom; None where the line is at zero. The balance is the low account's view."""
    line = _line(entry)
    value = line["balance"]
    if plain(value).strip("-0.") == "":
        return None
    holder, issuer = ("high", "low") if value.startswith("-") else ("low", "high")
    value = value.removeprefix("-")
    return {
        "holder": line[holder], "issuer": line[issuer], "currency": line["currency"],
        "value": value, "value_plain": plain(value),
    }  # fmt: skip


def _nfts(pages: Iterable[Json]) -> Iterator[tuple[str, Json]]:
    """The owner of a page is in the first 160 bits of its index."""
    for page in pages:
        owner = encode_classic_address(bytes.fromhex(page["index"][:40]))
        for token in page["NFTokens"]:
            yield token["NFToken"]["NFTokenID"], {"owner": owner, "uri": token["NFToken"].get("URI")}


def _issuance_id(entry: Json) -> str:
    return f"{entry.get('Sequence', 0):08X}{decode_classic_address(entry['Issuer']).hex().upper()}"


def _issuance(entry: Json) -> Json:
    more = {"LockedAmount": entry["LockedAmount"]} if "LockedAmount" in entry else {}
    return {"issuer": entry["Issuer"], "outstanding": entry["OutstandingAmount"], **more}


def _mpt_holder(entry: Json) -> Json:
    return {
        "holder": entry["Account"],
        "issuance": entry["MPTokenIssuanceID"],
        "amount": entry.get("MPTAmount", "0"),
        "locked": entry.get("LockedAmount", "0"),
    }


def _xrp_parts(tables: Json) -> dict[str, Any]:
    """XRP in drops: what accounts, escrows and channels hold, and the sum."""
    parts = {
        "accounts": sum(int(a["balance"]) for a in tables["accounts"].values()),
        "escrows": sum(int(e["Amount"]) for e in tables["escrows"].values() if isinstance(e["Amount"], str)),
        "paychans": sum(int(e["Amount"]) - int(e["Balance"]) for e in tables["paychans"].values()),
    }
    return {name: str(drops) for name, drops in (parts | {"sum": sum(parts.values())}).items()}
