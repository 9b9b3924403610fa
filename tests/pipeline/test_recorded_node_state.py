"""The recorded node's state is the real node's: folded from metadata, compared object by object."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.domain.xrpl_proof import state_root
from tests.support.recorded_node import PureNode, data, standalone_tape
from tests.support.truth import read_truth

UNTOLD = ("FeeSettings", "Amendments")
"""Objects of genesis that no transaction made."""


def whole_state(node: PureNode, index: int) -> list[dict[str, Any]]:
    """All pages of `ledger_data`."""
    found: list[dict[str, Any]] = []
    marker: dict[str, str] = {}
    while True:
        page = node.result("ledger_data", ledger_index=index, **marker)
        found += page["state"]
        if "marker" not in page:
            return found
        marker = {"marker": page["marker"]}


def test_every_object_is_the_nodes_own() -> None:
    """Not told by metadata: FeeSettings, Amendments, and the Indexes of directories."""
    recorded = {entry["index"]: entry for entry in data("state-353.json.gz")}
    shown = {entry["index"]: entry for entry in whole_state(PureNode(), 353)}
    untold = {index for index, entry in recorded.items() if entry["LedgerEntryType"] in UNTOLD}
    assert shown.keys() == recorded.keys() - untold
    for index, entry in shown.items():
        known = {name: value for name, value in recorded[index].items() if name != "Indexes"}
        assert entry == known, index


@pytest.mark.parametrize("index", [67, 341, 353])
def test_accounts_and_lines_are_the_nodes(index: int) -> None:
    node, truth = PureNode(), read_truth(index)["tables"]
    for address, known in truth["accounts"].items():
        shown = node.result("account_info", account=address, ledger_index=index)
        account = shown["account_data"]
        assert (account["Balance"], account["Sequence"], account["OwnerCount"], account["Flags"]) == (
            known["balance"], known["sequence"], known["owner_count"], known["flags"],
        )  # fmt: skip
        lines = node.result("account_lines", account=address, ledger_index=index)["lines"]
        sides = [
            (line["high"], line["balance"])
            if line["low"] == address
            else (line["low"], negated(line["balance"]))
            for line in truth["trust_lines"]
            if address in (line["low"], line["high"])
        ]
        assert sorted((line["account"], line["balance"]) for line in lines) == sorted(sides)


def negated(value: str) -> str:
    return value[1:] if value.startswith("-") else value if value == "0" else f"-{value}"


def test_account_lines_come_in_pages_that_join() -> None:
    node = PureNode()
    truth = read_truth(353)["tables"]["trust_lines"]
    owners = [line["low"] for line in truth] + [line["high"] for line in truth]
    address = max(set(owners), key=owners.count)
    whole = node.result("account_lines", account=address, ledger_index=353)["lines"]
    assert len(whole) > 10
    found: list[Any] = []
    marker: dict[str, Any] = {}
    while True:
        page = node.result("account_lines", account=address, ledger_index=353, limit=10, **marker)
        found += page["lines"]
        if "marker" not in page:
            break
        assert page["limit"] == 10
        marker = {"marker": page["marker"]}
    assert found == whole
    peer = whole[0]["account"]
    only = node.result("account_lines", account=address, ledger_index=353, peer=peer)["lines"]
    assert only == [line for line in whole if line["account"] == peer]


def test_account_objects_by_type() -> None:
    node, truth = PureNode(), read_truth(353)["tables"]
    for name, table in (("escrow", "escrows"), ("payment_channel", "paychans"), ("offer", "offers")):
        owners = {row.get("Account", row.get("owner")) for row in truth[table].values()}
        owners |= {row.get("Destination") for row in truth[table].values()} - {None}
        found = {
            entry["index"]
            for address in owners
            for entry in node.result("account_objects", account=address, ledger_index=353, type=name)[
                "account_objects"
            ]
        }
        assert found == set(truth[table])


def test_states_may_be_asked_for_in_any_order() -> None:
    node = PureNode()
    later = whole_state(node, 341)
    assert whole_state(node, 20) != later
    assert whole_state(node, 341) == later
    assert len(whole_state(node, 1)) == 1


def test_an_open_ledger_has_the_state_of_the_last() -> None:
    node = PureNode()
    shown = node.result("account_info", account="rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh")
    assert (shown["ledger_current_index"], shown["validated"]) == (354, False)


def test_a_recording_from_mid_chain_knows_no_state() -> None:
    tape = standalone_tape()
    middle = [tape.record(index) for index in range(100, 121)]
    node = PureNode(sources=middle)
    for request in (
        {"command": "ledger_data"},
        {"command": "account_info", "account": "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh"},
    ):
        assert node.ask(request | {"ledger_index": 110})["error"] == "lgrNotFound"
    assert node.result("ledger", ledger_index=110)["validated"]


def test_a_snapshot_is_served_whole_and_proves_its_ledger() -> None:
    """With a real node's objects the state's root is the header's account_hash, in JSON and in binary."""
    tape, objects = standalone_tape(), data("state-353.json.gz")
    node = PureNode(sources=[tape.record(352), tape.record(353)], snapshot=(353, objects))
    shown = whole_state(node, 353)
    assert sorted(shown, key=lambda e: e["index"]) == sorted(objects, key=lambda e: e["index"])
    assert state_root(shown) == tape.record(353)["ledger"]["account_hash"]
    assert node.ask({"command": "ledger_data", "ledger_index": 352})["error"] == "lgrNotFound"
    assert len(node.result("ledger_data", ledger_index=353, binary=True)["state"]) == len(objects)
