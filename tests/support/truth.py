"""The state of a chain as tables, in one form from a replayed state and from a node's truth document.

Truth documents are described in tests/data/xrpl-standalone/README.md. Amounts compare as numbers: int for
drops and MPT, Decimal with currency and issuer for issued currencies.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from xrpl.core.addresscodec import decode_classic_address, encode_classic_address

from tests.support.renaming import Renaming, flip_flags, negated
from tests.support.replay import Json, State

ROOT: Final = Path(__file__).parents[2]
RECORDED: Final = ROOT / "pipeline/recordings/xrpl-standalone.jsonl.gz"
TRUTH_LEDGERS: Final = (67, 341, 353)


def read_ledgers(path: Path) -> list[Json]:
    """`ledger` answers of a .jsonl.gz, one a line."""
    with gzip.open(path) as lines:
        return [json.loads(line) for line in lines]


def write_ledgers(path: Path, ledgers: Iterable[Json]) -> None:
    """The other way round: what `tidebook demo --ledgers` reads."""
    with gzip.open(path, "wb", compresslevel=1) as lines:
        lines.writelines(json.dumps(answer).encode() + b"\n" for answer in ledgers)


def read_truth(ledger_index: int) -> Json:
    """Truth document of the recorded chain after ledger 67, 341 or 353."""
    path = ROOT / f"tests/data/xrpl-standalone/truth-{ledger_index}.json.gz"
    document: Json = json.loads(gzip.decompress(path.read_bytes()))
    return document


def state_tables(state: State) -> Json:
    """Tables of a replayed state (see replay.py)."""
    xrp = {
        "accounts": sum(int(e.get("Balance", 0)) for _, e in _of(state, "AccountRoot")),
        "escrows": sum(int(e["Amount"]) for _, e in _of(state, "Escrow") if isinstance(e["Amount"], str)),
        "paychans": sum(int(e["Amount"]) - int(e.get("Balance", 0)) for _, e in _of(state, "PayChannel")),
    }
    lines = {index: _state_line(e) for index, e in _of(state, "RippleState")}
    return {
        "accounts": {
            e["Account"]: tuple(int(e.get(name, 0)) for name in ACCOUNT_FIELDS)
            for _, e in _of(state, "AccountRoot")
        },
        "trust_lines": lines,
        "iou": dict(_owed(line) for line in lines.values() if line[3]),
        "nfts": {
            token["NFToken"]["NFTokenID"]: (
                encode_classic_address(bytes.fromhex(page[:40])),
                token["NFToken"].get("URI"),
            )
            for page, e in _of(state, "NFTokenPage")
            for token in e["NFTokens"]
        },
        "mpt_issuances": {
            f"{e.get('Sequence', 0):08X}{decode_classic_address(e['Issuer']).hex().upper()}": (
                e["Issuer"],
                int(e.get("OutstandingAmount", 0)),
            )
            for _, e in _of(state, "MPTokenIssuance")
        },
        "mpt_holders": {
            (e["Account"], e["MPTokenIssuanceID"]): (
                int(e.get("MPTAmount", 0)),
                int(e.get("LockedAmount", 0)),
            )
            for _, e in _of(state, "MPToken")
        },
        **{name: {i: _fields(e, name) for i, e in _of(state, kind)} for name, kind in PROMISES.items()},
        "xrp_parts": xrp | {"sum": sum(xrp.values())},
    }


ACCOUNT_FIELDS: Final = ("Balance", "Sequence", "OwnerCount", "Flags")
PROMISES: Final = {
    "nft_offers": "NFTokenOffer",
    "escrows": "Escrow",
    "paychans": "PayChannel",
    "offers": "Offer",
    "checks": "Check",
    "tickets": "Ticket",
}
PROMISE_FIELDS: Final = {
    "nft_offers": ("Owner", "NFTokenID", "Amount"),
    "escrows": ("Account", "Destination", "Amount"),
    "paychans": ("Account", "Destination", "Amount", "Balance"),
    "offers": ("Account", "TakerPays", "TakerGets"),
    "checks": ("Account", "Destination", "SendMax"),
    "tickets": ("Account", "TicketSequence"),
}


def truth_tables(document: Json) -> Json:
    """The same tables, read from a truth document."""
    t = document["tables"]
    return {
        "accounts": {
            address: (int(e["balance"]), e["sequence"], e["owner_count"], e["flags"])
            for address, e in t["accounts"].items()
        },
        "trust_lines": {
            e["index"]: (e["low"], e["high"], e["currency"], Decimal(e["balance"]), e["flags"])
            for e in t["trust_lines"]
        },
        "iou": {(e["holder"], e["issuer"], e["currency"]): Decimal(e["value"]) for e in t["iou"]},
        "nfts": {nft: (e["owner"], e.get("uri")) for nft, e in t["nfts"].items()},
        "mpt_issuances": {i: (e["issuer"], int(e["outstanding"])) for i, e in t["mpt_issuances"].items()},
        "mpt_holders": {
            (e["holder"], e["issuance"]): (int(e["amount"]), int(e["locked"])) for e in t["mpt_holders"]
        },
        **{name: {i: _fields(e, name) for i, e in t[name].items()} for name in PROMISES},
        "xrp_parts": {name.removeprefix("in_"): int(value) for name, value in t["xrp_parts"].items()},
    }


def rename_truth(document: Json, renaming: Renaming, headers: Mapping[int, Json]) -> Json:
    """A truth document under a renaming, with the header of the same ledger among `headers`."""
    header = {k: v for k, v in headers[document["ledger_index"]].items() if k != "transactions"}
    renamed = {name: _rename_table(name, table, renaming) for name, table in document["tables"].items()}
    return document | {"ledger": header, "ledger_hash": header["ledger_hash"], "tables": renamed}


def _rename_table(name: str, table: Any, renaming: Renaming) -> Any:
    if name == "trust_lines":
        return [_rename_line(row, renaming) for row in table]
    if not isinstance(table, dict) or name == "xrp_parts":
        return renaming.value("", table)
    key = {
        "accounts": renaming.address,
        "nfts": renaming.nft,
        "mpt_issuances": renaming.issuance,
    }.get(name, renaming.entry)
    return {key(old): renaming.value("", row) for old, row in table.items()}


def _rename_line(row: Json, renaming: Renaming) -> Json:
    renamed: Json = renaming.value("", row)
    if not renaming.flips(row["low"], row["high"]):
        return renamed
    swapped = {"low": "high", "high": "low", "low_limit": "high_limit", "high_limit": "low_limit"}
    sides = {new: renamed[old] for old, new in swapped.items()}
    return renamed | sides | {"balance": negated(row["balance"]), "flags": flip_flags(row["flags"])}


Line = tuple[str, str, str, Decimal, int]


def _state_line(entry: Json) -> Line:
    """(low, high, currency, balance from the low account's side, flags)."""
    balance = entry["Balance"]
    ends = entry["LowLimit"]["issuer"], entry["HighLimit"]["issuer"]
    return (*ends, balance["currency"], Decimal(balance["value"]), entry.get("Flags", 0))


def _owed(line: Line) -> tuple[tuple[str, str, str], Decimal]:
    """((holder, issuer, currency), value) of a line whose balance is not zero."""
    low, high, currency, balance, _ = line
    return ((low, high, currency), balance) if balance > 0 else ((high, low, currency), -balance)


def _fields(entry: Json, table: str) -> tuple[Any, ...]:
    return tuple(_comparable(entry.get(name, "0")) for name in PROMISE_FIELDS[table])


def _comparable(value: Any) -> Any:
    """An amount as (number, what of); any other field as it is."""
    if isinstance(value, dict):
        number = value["value"]
        return Decimal(number), *(value[name] for name in sorted(value) if name != "value")
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _of(state: State, entry_type: str) -> Iterator[tuple[str, Json]]:
    return ((index, e) for index, e in state.items() if e["LedgerEntryType"] == entry_type)
