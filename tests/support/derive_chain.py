"""A second chain, derived from a recorded one: other accounts, another order, hashes that hold.

What a program must not depend on is changed, what the ledger's rules fix is kept: every name is renamed
(see renaming.py), unrelated transactions of a ledger are applied in another order, and transaction ids,
transaction trees, ledger hashes and the chain of parents are recomputed. Amounts, fees, total_coins, times
and the set of transactions of each ledger stay. The state root cannot be computed from a recording of
transactions: it is a seeded stand-in.

Two transactions commute when no ledger entry is affected by both and neither names an account whose
AccountRoot the other one changes.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from xrpl.constants import XRPLException

from pipeline.domain.xrpl_hash import ledger_hash, transaction_id, transaction_tree_root
from tests.support.canonical import blobs, header_fields, transaction_json
from tests.support.renaming import Renaming
from tests.support.replay import Json
from tests.support.truth import rename_truth

GENESIS_ACCOUNT: Final = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh"


@dataclass(frozen=True)
class Derived:
    """A derived chain. `ledgers`: `result` of `ledger`, one each; `truth_map`: truth document → its own."""

    ledgers: list[Json]
    truth_map: Callable[[Json], Json]
    renaming: Renaming


def derive(ledgers: list[Json], seed: int, *, share_genesis: bool = False) -> Derived:
    """Derive a second, self-consistent chain from recorded `ledger` answers (API version 1 or 2), in order.

    With `share_genesis` ledger 1 and the genesis account stay as they are, as in any two chains that the same
    software began. After a gap the parent is a stand-in. Deterministic in `seed`; the input is not changed.
    """
    renaming = Renaming(seed, frozenset({GENESIS_ACCOUNT}) if share_genesis else frozenset())
    renaming.learn(ledgers)
    order = random.Random(seed)
    derived: list[Json] = []
    for answer in ledgers:
        if share_genesis and int(answer["ledger"]["ledger_index"]) == 1:
            derived.append(answer)
            continue
        parent = derived[-1]["ledger"] if derived else None
        follows = parent and int(parent["ledger_index"]) + 1 == int(answer["ledger"]["ledger_index"])
        derived.append(_ledger(answer, parent if follows else None, renaming, order))
    headers = {int(one["ledger"]["ledger_index"]): one["ledger"] for one in derived}
    return Derived(derived, lambda truth: rename_truth(truth, renaming, headers), renaming)


def _ledger(answer: Json, parent: Json | None, renaming: Renaming, order: random.Random) -> Json:
    """One ledger, renamed, reordered and hashed on top of its derived parent.

    Where neither the ledger nor a parent tells parent_close_time (2015), the hash takes close_time for it.
    """
    old = answer["ledger"]
    entries = [_entry(entry, i, renaming) for i, entry in enumerate(reordered(old["transactions"], order))]
    ledger = {name: value for name, value in old.items() if name != "transactions"}
    ledger["account_hash"] = renaming.digest("state", old["account_hash"])
    ledger["transaction_hash"] = _tree_root(entries) or renaming.digest("tree", old["transaction_hash"])
    ledger["parent_hash"] = parent["ledger_hash"] if parent else renaming.digest("ledger", old["parent_hash"])
    new_hash = ledger_hash(header_fields(ledger, parent or {"close_time": old["close_time"]}))
    ledger |= {name: new_hash for name in ("ledger_hash", "hash") if name in old}
    for entry in entries:
        if "ledger_hash" in entry:
            entry["ledger_hash"] = new_hash
    ledger["transactions"] = sorted(entries, key=lambda entry: entry["hash"])
    return answer | {"ledger": ledger} | ({"ledger_hash": new_hash} if "ledger_hash" in answer else {})


def _entry(entry: Json, index: int, renaming: Renaming) -> Json:
    """One entry of `transactions`, renamed, with its new place and its new id."""
    renamed: Json = renaming.value("", {name: value for name, value in entry.items() if name != "hash"})
    metadata = renamed["meta"] if "meta" in renamed else renamed["metaData"]
    metadata["TransactionIndex"] = index
    try:
        renamed["hash"] = transaction_id(blobs(renamed)[0])
    except XRPLException:
        renamed["hash"] = renaming.digest("tx", entry["hash"])
    renaming.transactions[entry["hash"]] = renamed["hash"]
    return renamed


def _tree_root(entries: list[Json]) -> str | None:
    """Root of the tree of renamed entries; None where one cannot be encoded."""
    try:
        return transaction_tree_root((*blobs(entry), entry["hash"]) for entry in entries)
    except XRPLException:
        return None


def reordered(entries: list[Json], order: random.Random) -> list[Json]:
    """Entries in a random order of application among those that give the same history."""
    recorded = sorted(entries, key=lambda entry: _metadata(entry)["TransactionIndex"])
    marks = [(_written(entry), _named(entry)) for entry in recorded]
    waits_for = [{j for j in range(i) if _conflict(marks[i], marks[j])} for i in range(len(recorded))]
    done: list[int] = []
    left = set(range(len(recorded)))
    while left:
        ready = sorted(i for i in left if waits_for[i].isdisjoint(left))
        done.append(order.choice(ready))
        left.remove(done[-1])
    return [recorded[i] for i in done]


def _metadata(entry: Json) -> Json:
    found: Json = entry["meta"] if "meta" in entry else entry["metaData"]
    return found


Marks = tuple[frozenset[str], frozenset[str]]


def _conflict(one: Marks, other: Marks) -> bool:
    """Whether one of two transactions may see what the other one did."""
    (writes, names), (other_writes, other_names) = one, other
    return not (
        writes.isdisjoint(other_writes) and writes.isdisjoint(other_names) and names.isdisjoint(other_writes)
    )


def _written(entry: Json) -> frozenset[str]:
    """Indexes of the affected entries, and the addresses of the affected AccountRoots."""
    found = set()
    for node in (next(iter(node.values())) for node in _metadata(entry)["AffectedNodes"]):
        found.add(node["LedgerIndex"])
        if node["LedgerEntryType"] == "AccountRoot":
            found.add(node.get("NewFields", node.get("FinalFields", {})).get("Account", ""))
    return frozenset(found - {""})


def _named(entry: Json) -> frozenset[str]:
    """Texts of the transaction: addresses, and indexes of the entries that it names."""
    return frozenset(_texts(transaction_json(entry)))


def _texts(value: Any) -> set[str]:
    if isinstance(value, str):
        return {value}
    if isinstance(value, dict):
        value = list(value.values())
    return set().union(*map(_texts, value)) if isinstance(value, list) else set()
