"""The judge of the live tests on what is recorded: the recorded state gives the recorded truth tables."""

import pytest

from tests.support.demo import EXPORTS, expected_rows
from tests.support.live_truth import node_tables
from tests.support.states import state_67
from tests.support.truth import read_truth, truth_tables


def test_tables_of_a_state_are_those_of_its_truth_document():
    tables = node_tables(state_67())
    assert truth_tables({"tables": tables}) == truth_tables(read_truth(67))
    assert sum(map(len, truth_tables({"tables": tables}).values())) > 250


@pytest.mark.parametrize("what", EXPORTS)
def test_what_exports_must_print_is_the_same_from_both(what):
    assert expected_rows(what, node_tables(state_67())) == expected_rows(what, read_truth(67)["tables"])


def test_a_wrong_balance_is_seen():
    state = [dict(entry) for entry in state_67()]
    root = next(entry for entry in state if entry["LedgerEntryType"] == "AccountRoot")
    root["Balance"] = str(int(root["Balance"]) + 1)
    assert expected_rows("balances", node_tables(state)) != expected_rows(
        "balances", read_truth(67)["tables"]
    )
