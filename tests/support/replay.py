"""An auditor of chains: a fold of its own over AffectedNodes that shares no code with the pipeline's.

`replay` applies the changes to a map of ledger entries and demands on the way that each change starts from
what the entry was (PreviousFields, FinalFields that did not change, PreviousTxnID); `check_headers` demands
that the hashes, the chain of parents and the fees hold. Both judge recorded, derived and generated chains.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipeline.domain.xrpl_hash import ledger_hash
from tests.support.canonical import header_fields

Json = dict[str, Any]

State = dict[str, Json]
"""Ledger-entry index → fields, with LedgerEntryType among them."""


GONE = "deleted"


class HistoryError(AssertionError):
    """A chain contradicts itself; the message names ledger, transaction and entry."""


def check_headers(ledgers: Iterable[Json]) -> int:
    """Number of ledgers whose hash, parent and fall of total_coins hold. Raises HistoryError."""
    parent: Json | None = None
    count = 0
    for answer in ledgers:
        ledger = answer["ledger"]
        where = f"ledger {ledger['ledger_index']}"
        if parent:
            fees = sum(int(_transaction(entry)["Fee"]) for entry in ledger["transactions"])
            _demand(ledger["parent_hash"] == parent["ledger_hash"], where, "parent_hash")
            _demand(int(ledger["ledger_index"]) == int(parent["ledger_index"]) + 1, where, "ledger_index")
            _demand(int(parent["total_coins"]) - int(ledger["total_coins"]) == fees, where, "total_coins")
        if parent or "parent_close_time" in ledger:  # the first of a 2015 recording cannot be judged
            _demand(ledger_hash(header_fields(ledger, parent)) == ledger["ledger_hash"], where, "ledger_hash")
        _demand(answer.get("ledger_hash", ledger["ledger_hash"]) == ledger["ledger_hash"], where, "answer")
        parent = ledger
        count += 1
    return count


def replay(ledgers: Iterable[Json], state: State | None = None) -> Iterator[tuple[int, State]]:
    """(ledger index, state after it) of each ledger; it is one `state`, changed on. Raises HistoryError."""
    state = {} if state is None else state
    touched: dict[str, str] = {}
    for answer in ledgers:
        ledger = answer["ledger"]
        entries = sorted(ledger.get("transactions", ()), key=lambda e: _metadata(e)["TransactionIndex"])
        for place, entry in enumerate(entries):
            where = f"ledger {ledger['ledger_index']} transaction {entry['hash']}"
            _demand(_metadata(entry)["TransactionIndex"] == place, where, "TransactionIndex")
            for node in _metadata(entry)["AffectedNodes"]:
                ((kind, body),) = node.items()
                _check_node(state, touched, kind, body, f"{where} {kind} {body['LedgerIndex']}")
                _apply_node(state, kind, body)
                touched[body["LedgerIndex"]] = GONE if kind == "DeletedNode" else entry["hash"]
        yield int(ledger["ledger_index"]), state


def _apply_node(state: State, kind: str, node: Json) -> None:
    index = node["LedgerIndex"]
    if kind == "DeletedNode":
        state.pop(index, None)
        return
    fields = node.get("NewFields" if kind == "CreatedNode" else "FinalFields")
    if fields is not None:
        state[index] = {"LedgerEntryType": node["LedgerEntryType"], **fields}


def _check_node(state: State, touched: Mapping[str, str], kind: str, node: Json, where: str) -> None:
    """The entry must be what the node says it was, as far as the node and the fold tell."""
    index = node["LedgerIndex"]
    before = state.get(index)
    if kind == "CreatedNode":
        _demand(before is None, where, "exists already")
        return
    if "PreviousTxnID" in node and touched.get(index, GONE) != GONE:
        _demand(node["PreviousTxnID"] == touched[index], where, "PreviousTxnID")
    if before is None:
        _demand(touched.get(index) != GONE, where, "does not exist")
        return
    previous = node.get("PreviousFields", {})
    for name, value in (node.get("FinalFields", {}) | previous).items():
        known = name in before and not name.startswith("PreviousTxn")
        _demand(not known or before[name] == value, where, f"{name}: was {before.get(name)}, not {value}")


def _demand(holds: bool, where: str, what: str) -> None:
    if not holds:
        raise HistoryError(f"{where}: {what}")


def _metadata(entry: Json) -> Json:
    found: Json = entry["meta"] if "meta" in entry else entry["metaData"]
    return found


def _transaction(entry: Json) -> Json:
    found: Json = entry.get("tx_json", entry)
    return found
