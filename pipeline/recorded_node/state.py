"""The state of the ledger at any index: the fold of AffectedNodes.

Starts from genesis (one account that holds all the coins) or from a given snapshot of a ledger's objects.
Metadata leave out what is at its default in a created entry; a node shows it, so it is put back here.
PreviousTxnID and PreviousTxnLgrSeq are threaded as the node does, and LedgerHashes follow from the headers.

What metadata do not tell, and so is not here: FeeSettings and Amendments of genesis (no transaction made
them) and the `Indexes` of DirectoryNode. A snapshot that holds them gives them at its own index.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pipeline.domain.decode.xrpl_address import decode_account
from pipeline.domain.xrpl_hash import sha512_half
from pipeline.recorded_node.shapes import Json, shown_entry
from pipeline.recorded_node.tape import Tape

State = dict[str, Json]
"""Ledger-entry index → the entry as JSON, without its index."""

GENESIS_ACCOUNT: Final = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh"
_GENESIS_ENTRY: Final = "2B6AC232AA4C4BE41BF49D2459FA4A0347E1B543A4C92FCEE0821C0201E2E9A8"
_CHECKPOINTS: Final = 16
_HASHES_KEPT: Final = 256
_PAGE: Final[Mapping[str, Any]] = {"OwnerNode": "0"}
_ZERO_160: Final = "0" * 40

# Fields of a created entry that metadata leave out while they are at their default (rippled
# `ledger_entries.macro`, required fields; checked against a node's own state).
CREATED: Final[Mapping[str, Mapping[str, Any]]] = {
    "AccountRoot": {"Balance": "0", "OwnerCount": 0, "Sequence": 0},
    "AMM": _PAGE,
    "Check": _PAGE,
    "Credential": {"IssuerNode": "0"},
    "Delegate": _PAGE,
    "DepositPreauth": _PAGE,
    "DID": _PAGE,
    "Escrow": _PAGE,
    "MPToken": _PAGE,
    "MPTokenIssuance": {"OwnerNode": "0", "OutstandingAmount": "0", "Sequence": 0},
    "NFTokenOffer": {"OwnerNode": "0", "NFTokenOfferNode": "0", "Amount": "0"},
    "Offer": {"OwnerNode": "0", "BookNode": "0"},
    "Oracle": _PAGE,
    "PayChannel": {"OwnerNode": "0", "Balance": "0"},
    "PermissionedDomain": {"OwnerNode": "0", "Sequence": 0},
    "RippleState": {"LowNode": "0", "HighNode": "0"},
    "SignerList": {"OwnerNode": "0", "SignerListID": 0},
    "Ticket": _PAGE,
    "Vault": {"OwnerNode": "0", "Sequence": 0},
    "LoanBroker": {"OwnerNode": "0", "VaultNode": "0", "Sequence": 0},
    "Loan": {"OwnerNode": "0", "LoanBrokerNode": "0"},
}
_UNTHREADED: Final = frozenset(("Amendments", "FeeSettings", "LedgerHashes", "NegativeUNL"))


def genesis() -> State:
    """What metadata tell of ledger 1."""
    account = {
        "Account": GENESIS_ACCOUNT,
        "Balance": "100000000000000000",
        "Flags": 0,
        "LedgerEntryType": "AccountRoot",
        "OwnerCount": 0,
        "Sequence": 1,
    }
    return {_GENESIS_ENTRY: account}


def apply_ledger(state: State, record: Mapping[str, Any]) -> None:
    """Changes `state` by the transactions of a ledger's record, in the order they were applied."""
    header = record["ledger"]
    entries = [shown_entry(entry, header) for entry in header["transactions"]]
    for entry in sorted(entries, key=lambda entry: int(entry["meta"]["TransactionIndex"])):
        thread = {"PreviousTxnID": entry["hash"], "PreviousTxnLgrSeq": header["ledger_index"]}
        for node in entry["meta"].get("AffectedNodes", ()):
            ((action, body),) = node.items()
            _apply(state, action, body, thread)


def _apply(state: State, action: str, node: Mapping[str, Any], thread: Json) -> None:
    index, kind = node["LedgerIndex"], node["LedgerEntryType"]
    if action == "DeletedNode":
        state.pop(index, None)
        return
    before = state.get(index, {})
    if action == "CreatedNode":
        entry = _created(kind, node.get("NewFields") or {})
    elif "FinalFields" in node:
        kept: Json = {name: before[name] for name in ("PreviousTxnID", "PreviousTxnLgrSeq") if name in before}
        entry = {"Flags": 0, **node["FinalFields"], **kept}
    else:
        entry = {
            name: value for name, value in before.items() if name != "Indexes"
        }  # may have changed untold
    entry["LedgerEntryType"] = kind
    if kind not in _UNTHREADED:
        entry.update(thread)
    state[index] = entry


def _created(kind: str, fields: Mapping[str, Any]) -> Json:
    """A created entry with the defaults that its metadata left out."""
    entry = {"Flags": 0, **CREATED.get(kind, {}), **fields}
    if kind == "DirectoryNode" and "ExchangeRate" in fields:
        for side in ("TakerPays", "TakerGets"):
            if f"{side}MPT" not in fields:
                entry.setdefault(f"{side}Currency", _ZERO_160)
                entry.setdefault(f"{side}Issuer", _ZERO_160)
    if fields.get("Destination", fields.get("Account")) != fields.get("Account") and kind in (
        "Check", "Escrow", "PayChannel",
    ):  # fmt: skip
        entry.setdefault("DestinationNode", "0")
    issuer = fields["Amount"].get("issuer") if isinstance(fields.get("Amount"), dict) else None
    if kind == "Escrow" and issuer not in (None, fields.get("Account"), fields.get("Destination")):
        entry.setdefault("IssuerNode", "0")
    if kind == "Credential" and fields.get("Subject") != fields.get("Issuer"):
        entry.setdefault("SubjectNode", "0")
    return entry


def shown_object(index: str, entry: Mapping[str, Any]) -> Json:
    """An entry as a node shows it: with its index, and an issuance with its id."""
    shown = {**entry, "index": index}
    if entry["LedgerEntryType"] == "MPTokenIssuance":
        shown["mpt_issuance_id"] = f"{entry['Sequence']:08X}{decode_account(entry['Issuer'])}"
    return shown


class StateHistory:
    """States at the indexes of a tape, remembered at a few points on the way."""

    def __init__(self, tape: Tape, snapshot: tuple[int, Iterable[Mapping[str, Any]]] | None = None) -> None:
        """`snapshot`: ledger index and all objects of its state (as `ledger_data` gives them, with `index`)."""
        self._tape = tape
        self.first: int | None = None
        self._points: dict[int, State] = {}
        if snapshot is not None:
            self.first, objects = snapshot
            self._points[self.first] = {
                str(entry["index"]): {k: v for k, v in entry.items() if k not in ("index", "mpt_issuance_id")}
                for entry in objects
            }
        elif tape.order[0] in (1, 2) or self._begins_whole():
            self.first = 1
            self._points[1] = genesis()
        self.last = self._unbroken()
        self._current: tuple[int, State] | None = None
        self._sorted: tuple[int, State, list[str]] | None = None
        self._spacing = 64

    def _begins_whole(self) -> bool:
        """A recording from ledger 3 on whose ledgers 1 and 2 are the empty ones of a new chain."""
        first = self._tape.order[0]
        if first != 3:
            return False
        header = self._tape.record(first)["ledger"]
        burnt = 10**17 - int(header.get("total_coins", 0))
        return 0 <= burnt < 10**9 and len(header["transactions"]) > 0

    def _unbroken(self) -> int:
        """Last index that can be reached from the first without a gap."""
        if self.first is None:
            return 0
        for first, last in self._tape.ranges:
            if (
                first - 1 <= max(self.first, 2 if self.first == 1 else 0) <= last
                or first <= self.first <= last
            ):
                return last
        return self.first

    def knows(self, index: int) -> bool:
        """True if the state at `index` can be told."""
        return self.first is not None and self.first <= index <= self.last

    def at(self, index: int) -> tuple[State, list[str]]:
        """(state, its keys in order) after ledger `index`; not to be changed. KeyError if it can't be told."""
        if not self.knows(index):
            raise KeyError(index)
        if self._sorted is None or self._sorted[0] != index:
            state = {**self._fold_to(index), **self._ledger_hashes(index)}
            self._sorted = (index, state, sorted(state))
        return self._sorted[1], self._sorted[2]

    def _fold_to(self, index: int) -> State:
        if self._current is None or self._current[0] > index:
            start = max(point for point in self._points if point <= index)
            self._current = (start, dict(self._points[start]))
        at, state = self._current
        for each in range(at + 1, index + 1):
            if each in self._tape.heads and self._tape.heads[each].transactions:
                apply_ledger(state, self._tape.record(each))
            if each % self._spacing == 0:
                self._remember(each, state)
        self._current = (index, state)
        return state

    def _remember(self, index: int, state: State) -> None:
        """Every so often a copy of the map (entries are replaced, never changed), at most _CHECKPOINTS."""
        if index in self._points:
            return
        self._points[index] = dict(state)
        if len(self._points) > _CHECKPOINTS:
            self._spacing *= 2
            kept = {p: s for p, s in self._points.items() if p == self.first or p % self._spacing == 0}
            self._points = kept

    def _ledger_hashes(self, index: int) -> State:
        """LedgerHashes entries, where every header since ledger 1 is recorded (rippled `updateSkipList`)."""
        if self._tape.ranges[0][0] != 1 or index < 2:
            return {}
        begin = max(1, index - _HASHES_KEPT)
        found = {_skip_key(b""): self._hashes(range(begin, index), index - 1)}
        for group in range((index - 1) // 65_536 + 1):
            ends = [
                each
                for each in range(max(256, group << 16), min(index, (group + 1) << 16))
                if each % 256 == 0
            ]
            if ends:
                found[_skip_key(struct.pack(">I", group))] = self._hashes(ends, ends[-1])
        return found

    def _hashes(self, indexes: Iterable[int], last: int) -> Json:
        return {
            "Flags": 0,
            "Hashes": [self._tape.hash_of(each) for each in indexes],
            "LastLedgerSequence": last,
            "LedgerEntryType": "LedgerHashes",
        }


def _skip_key(group: bytes) -> str:
    return sha512_half(b"\0s" + group).hex().upper()


def page(keys: list[str], after: str, limit: int) -> tuple[list[str], str | None]:
    """(keys of one page of `ledger_data` after the key `after`, the marker of the next page or None).

    The marker is the next key less one, as rippled makes it: any key will do, of any ledger.
    """
    start = bisect_right(keys, after)
    taken = keys[start : start + limit]
    if start + limit >= len(keys):
        return taken, None
    return taken, f"{int(keys[start + limit], 16) - 1:064X}"
