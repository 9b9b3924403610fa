"""The commands about accounts: account_info, account_lines, account_objects.

They answer from the folded state (state.py). An account's objects come in the order of its owner
directory's pages, by key within a page; books older than SortedDirectories may differ there.
Source: rippled `AccountInfo.cpp`, `AccountLines.cpp`, `AccountObjects.cpp`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pipeline.recorded_node.errors import Refusal, invalid_field
from pipeline.recorded_node.ledger_commands import ENTRY_TYPES, state_of
from pipeline.recorded_node.request import (
    about,
    account_field,
    check_account,
    flag,
    limit_field,
    lookup_ledger,
)
from pipeline.recorded_node.shapes import Json
from pipeline.recorded_node.state import shown_object
from pipeline.recorded_node.view import View

_FLAGS: Final[Mapping[str, int]] = {
    "allowTrustLineClawback": 0x8000_0000,
    "allowTrustLineLocking": 0x4000_0000,
    "defaultRipple": 0x0080_0000,
    "depositAuth": 0x0100_0000,
    "disableMasterKey": 0x0010_0000,
    "disallowIncomingCheck": 0x0800_0000,
    "disallowIncomingNFTokenOffer": 0x0400_0000,
    "disallowIncomingPayChan": 0x1000_0000,
    "disallowIncomingTrustline": 0x2000_0000,
    "disallowIncomingXRP": 0x0008_0000,
    "globalFreeze": 0x0040_0000,
    "noFreeze": 0x0020_0000,
    "passwordSpent": 0x0001_0000,
    "requireAuthorization": 0x0004_0000,
    "requireDestinationTag": 0x0002_0000,
}
# (name in account_lines, flag of the low account's side, flag of the high one's); `_peer` is the other side.
_LINE_FLAGS: Final = (
    ("no_ripple", "no_ripple_peer", 0x0010_0000, 0x0020_0000),
    ("freeze", "freeze_peer", 0x0040_0000, 0x0080_0000),
    ("authorized", "peer_authorized", 0x0004_0000, 0x0008_0000),
    ("deep_freeze", "deep_freeze_peer", 0x0200_0000, 0x0400_0000),
)
_LOW_RESERVE, _HIGH_RESERVE = 0x0001_0000, 0x0002_0000
_PSEUDO: Final = ("AMMID", "VaultID", "LoanBrokerID")

Owned = list[tuple[int, str, Json]]
"""(page of the owner directory, key, entry), in their order."""


def account_info(view: View, params: Mapping[str, Any], api_version: int) -> Json:
    """`account_info`."""
    address = account_field(params, "ident" if "account" not in params and "ident" in params else "account")
    found = lookup_ledger(view, params, api_version)
    answer = about(view, found)
    check_account(address, answer)
    state, _ = state_of(view, found)
    key, entry = _account_root(state, address)
    if entry is None:
        raise Refusal("actNotFound", extra={**answer, "account": address})
    if flag(params, "queue") and not found.open:
        raise Refusal("invalidParams", extra=answer)
    shown = shown_object(key, entry)
    if "EmailHash" in entry:
        shown["urlgravatar"] = f"http://www.gravatar.com/avatar/{entry['EmailHash'].lower()}"
    flags = entry.get("Flags", 0)
    answer |= {
        "account_data": shown,
        "account_flags": {name: bool(flags & bit) for name, bit in _FLAGS.items()},
    }
    pseudo = next((name for name in _PSEUDO if name in entry), None)
    if pseudo:
        answer["pseudo_account"] = {"type": pseudo.removesuffix("ID")}
    if "signer_lists" in params:
        _put_signers(answer, params, state, address, api_version)
    if flag(params, "queue"):
        answer["queue_data"] = {"txn_count": 0}
    return answer


def _put_signers(
    answer: Json, params: Mapping[str, Any], state: Mapping[str, Json], address: str, api_version: int
) -> None:
    if api_version > 1 and not isinstance(params["signer_lists"], bool):
        raise Refusal("invalidParams", extra=answer)
    if not params["signer_lists"]:
        return
    lists = [
        shown_object(key, entry)
        for _, key, entry in owned(state, address)
        if entry["LedgerEntryType"] == "SignerList"
    ]
    (answer["account_data"] if api_version == 1 else answer)["signer_lists"] = lists


def _account_root(state: Mapping[str, Json], address: str) -> tuple[str, Json | None]:
    for key, entry in state.items():
        if entry["LedgerEntryType"] == "AccountRoot" and entry["Account"] == address:
            return key, entry
    return "", None


def owned(state: Mapping[str, Json], address: str) -> Owned:
    """What stands in an account's owner directory."""
    found = []
    for key, entry in state.items():
        hint = _page_in_directory(entry, address)
        if hint is not None:
            found.append((int(hint, 16), key, entry))
    return sorted(found, key=lambda each: each[:2])


def _page_in_directory(entry: Mapping[str, Any], address: str) -> str | None:
    """Page (hex) of the account's directory that an entry stands on, or None."""
    kind = entry["LedgerEntryType"]
    if kind in ("AccountRoot", "DirectoryNode", "NFTokenPage", "LedgerHashes", "FeeSettings", "Amendments"):
        return None
    if kind == "RippleState":
        for side in ("Low", "High"):
            if entry[f"{side}Limit"]["issuer"] == address:
                return str(entry.get(f"{side}Node", "0"))
        return None
    pages = {"Owner": "OwnerNode", "Account": "OwnerNode", "Borrower": "OwnerNode", "Issuer": "OwnerNode"}
    pages |= {"Destination": "DestinationNode"} if kind != "NFTokenOffer" else {}
    pages |= {"Issuer": "IssuerNode", "Subject": "SubjectNode"} if kind == "Credential" else {}
    for name, node in pages.items():
        if entry.get(name) == address and node in entry:
            return str(entry[node])
    return (
        "0" if kind == "SignerList" and entry.get("Owner", address) == address and "Owner" in entry else None
    )


def account_lines(view: View, params: Mapping[str, Any], api_version: int) -> Json:
    """`account_lines`: the account's trust lines, seen from its side."""
    address = account_field(params)
    found = lookup_ledger(view, params, api_version)
    answer = about(view, found)
    check_account(address, answer)
    state, _ = state_of(view, found)
    if _account_root(state, address)[1] is None:
        raise Refusal("actNotFound")
    peer = params.get("peer")
    if peer:
        check_account(str(peer), answer)
    limit = limit_field(params, 10, 200, 400)
    things, marker = _one_page(owned(state, address), params.get("marker"), limit)
    if marker is not None:
        answer |= {"limit": limit, "marker": marker}
    lines = [_line(entry, address) for _, _, entry in things if entry["LedgerEntryType"] == "RippleState"]
    answer["lines"] = [line for line in lines if line and (not peer or line["account"] == peer)]
    if flag(params, "ignore_default"):
        answer["lines"] = [
            _line(entry, address)
            for _, _, entry in things
            if entry["LedgerEntryType"] == "RippleState" and _reserves(entry, address)
        ]
    return {**answer, "account": address}


def _one_page(things: Owned, marker: object, limit: int) -> tuple[Owned, str | None]:
    """One page of what an account owns; the marker is `<last key>,<its page>` as in rippled."""
    start = 0
    if marker is not None:
        if not isinstance(marker, str):
            raise invalid_field("marker", "string")
        key = marker.partition(",")[0].upper()
        places = [place for place, each in enumerate(things) if each[1] == key]
        if not places:
            raise Refusal("invalidParams")
        start = places[0] + 1
    taken = things[start : start + limit]
    if start + limit >= len(things) or not taken:
        return taken, None
    return taken, f"{taken[-1][1]},{taken[-1][0]}"


def _reserves(entry: Mapping[str, Any], address: str) -> bool:
    low = entry["LowLimit"]["issuer"] == address
    return bool(entry.get("Flags", 0) & (_LOW_RESERVE if low else _HIGH_RESERVE))


def _line(entry: Mapping[str, Any], address: str) -> Json:
    low = entry["LowLimit"]["issuer"] == address
    own, other = ("Low", "High") if low else ("High", "Low")
    balance = entry["Balance"]["value"]
    line: Json = {
        "account": entry[f"{other}Limit"]["issuer"],
        "balance": balance if low else _negated(balance),
        "currency": entry["Balance"]["currency"],
        "limit": entry[f"{own}Limit"]["value"],
        "limit_peer": entry[f"{other}Limit"]["value"],
        "quality_in": entry.get(f"{own}QualityIn", 0),
        "quality_out": entry.get(f"{own}QualityOut", 0),
    }
    flags = entry.get("Flags", 0)
    for mine, theirs, low_bit, high_bit in _LINE_FLAGS:
        for name, bit in ((mine, low_bit if low else high_bit), (theirs, high_bit if low else low_bit)):
            if flags & bit:
                line[name] = True
    return line


def _negated(value: str) -> str:
    if value.startswith("-"):
        return value[1:]
    return value if value == "0" else f"-{value}"


def account_objects(view: View, params: Mapping[str, Any], api_version: int) -> Json:
    """`account_objects`: NFT pages first, then what the owner directory holds."""
    address = account_field(params)
    found = lookup_ledger(view, params, api_version)
    answer = about(view, found)
    check_account(address, answer)
    state, _ = state_of(view, found)
    _, entry = _account_root(state, address)
    if entry is None:
        raise Refusal("actNotFound", extra=answer)
    kind = params.get("type")
    if kind is not None and kind not in ENTRY_TYPES:
        raise invalid_field("type")
    limit = limit_field(params, 10, 200, 400)
    things = _nft_pages(state, address) + owned(state, address)
    taken, marker = _one_page(things, params.get("marker"), limit)
    if marker is not None:
        answer |= {"limit": limit, "marker": marker}
    answer["account_objects"] = [
        shown_object(key, each)
        for _, key, each in taken
        if kind is None or each["LedgerEntryType"] == ENTRY_TYPES[kind]
    ]
    return {**answer, "account": address}


def _nft_pages(state: Mapping[str, Json], address: str) -> Owned:
    from pipeline.domain.decode.xrpl_address import decode_account

    prefix = decode_account(address)
    return sorted(
        (
            (0, key, entry)
            for key, entry in state.items()
            if entry["LedgerEntryType"] == "NFTokenPage" and key.startswith(prefix)
        ),
        key=lambda each: each[1],
    )
