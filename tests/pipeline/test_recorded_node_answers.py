"""The recorded node says what a real node said: recorded requests replayed, shapes compared field by field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.recorded_node.faults import Faults
from pipeline.recorded_node.stream import ledger_closed, transactions
from pipeline.recorded_node.view import Fees
from tests.support.recorded_node import PureNode, data, standalone_tape

BEHAVIOUR = data("node-behaviour.json.gz")
REOPENED = {name: value for part in BEHAVIOUR["reopen"] for name, value in part.items()}
NOT_SYNCED = data("node-not-synced.json.gz")
SHAPES = data("ledger-343-shapes.json.gz")
# Recorded on an admin port, of a node with beta_rpc_api, or described instead of recorded.
ELSEWHERE = ("admin", "api_version 3", "request of 1.1 MB")


@pytest.fixture
def node() -> PureNode:
    """The node that was recorded: ledgers 3-353, the older ones gone."""
    return PureNode(Faults(first=3))


def sent(case: dict[str, Any]) -> Any:
    """The request as the recorder sent it: with the id that came back."""
    request = case["request"]
    if isinstance(request, str):
        return request
    return request | ({"id": case["response"]["id"]} if "id" in case["response"] else {})


@pytest.mark.parametrize(
    "case",
    [case for case in BEHAVIOUR["cases"] if not case["case"].startswith(ELSEWHERE)],
    ids=lambda case: case["case"],
)
def test_answers_what_the_node_answered(node: PureNode, case: dict[str, Any]) -> None:
    answer = node.ask(sent(case))
    assert answer == case["response"]


def test_a_request_over_a_megabyte_is_no_json(node: PureNode) -> None:
    request = json.dumps({"id": 79, "command": "ledger", "x": "a" * 1_100_000})
    assert node.ask(request) == {"error": "jsonInvalid", "type": "error", "value": request}


@pytest.mark.parametrize("version", [0, 3, "2", True])
def test_api_versions_that_a_node_without_beta_api_refuses(node: PureNode, version: Any) -> None:
    answer = node.ask({"id": 5, "command": "ledger", "ledger_index": 3, "api_version": version})
    assert (answer["error"], answer["id"], answer["api_version"]) == ("invalid_API_version", 5, version)


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in NOT_SYNCED
        if "response" in case and case["after_s"] < 20 and case["case"] != "server_info"
    ],
    ids=lambda case: f"{case['after_s']} {case['case']}",
)
def test_answers_of_a_node_that_is_not_synced(node: PureNode, case: dict[str, Any]) -> None:
    node.view.synced, node.view.server_state = False, case["server_state"]
    assert node.ask(sent(case)) == case["response"]


def test_server_info_of_a_node_that_is_not_synced(node: PureNode) -> None:
    node.view.synced, node.view.server_state = False, "connected"
    info = node.result("server_info")["info"]
    assert (info["complete_ledgers"], info["server_state"]) == ("empty", "connected")
    assert "validated_ledger" not in info and "closed_ledger" in info


def test_server_info_has_the_fields_of_the_recorded_one() -> None:
    recorded = data("server_info.json.gz")["info"]
    node = PureNode(Faults(first=2))
    info = node.result("server_info")["info"]
    assert info.keys() == recorded.keys()
    assert {name: type(value) for name, value in info.items()} == {n: type(v) for n, v in recorded.items()}
    same = ("build_version", "complete_ledgers", "validation_quorum", "server_state", "peers", "last_close")
    assert {name: info[name] for name in same} == {name: recorded[name] for name in same}
    assert {**info["validated_ledger"], "age": 0} == recorded["validated_ledger"]
    state = node.result("server_state")["state"]
    assert state["validated_ledger"]["reserve_base"] == 10_000_000


def test_reserves_that_are_no_whole_xrp(node: PureNode) -> None:
    node.view.fees = Fees(13, 1_000_000, 200_000)
    shown = node.result("server_info")["info"]["validated_ledger"]
    assert (shown["base_fee_xrp"], shown["reserve_base_xrp"], shown["reserve_inc_xrp"]) == (1.3e-05, 1, 0.2)


def test_a_ledger_in_every_shape(node: PureNode) -> None:
    whole = {"id": 1, "command": "ledger", "ledger_index": 343, "transactions": True, "expand": True}
    assert node.ask(whole | {"api_version": 1})["result"] == SHAPES["v1"]
    assert node.ask(whole | {"api_version": 2, "binary": True})["result"] == SHAPES["binary"]
    assert node.ask(whole | {"api_version": 2})["result"] == standalone_tape().record(343)
    hashes = node.result("ledger", ledger_index=343, transactions=True)["ledger"]["transactions"]
    assert hashes == [entry["hash"] for entry in SHAPES["binary"]["ledger"]["transactions"]] == sorted(hashes)
    first = node.ask(whole | {"api_version": 1, "binary": True})["result"]["ledger"]["transactions"][0]
    blobs = SHAPES["binary"]["ledger"]["transactions"][0]
    assert first == {"tx_blob": blobs["tx_blob"], "meta": blobs["meta_blob"]}


@pytest.mark.parametrize("shape", ["v1", "binary"])
def test_a_recording_of_any_shape_is_served_in_all(node: PureNode, shape: str) -> None:
    other = PureNode(sources=[SHAPES[shape]])
    whole = {"id": 1, "command": "ledger", "ledger_index": 343, "transactions": True, "expand": True}
    for request in (whole | {"api_version": 2}, whole, whole | {"api_version": 2, "binary": True}):
        assert other.ask(request) == node.ask(request)


def test_stream_messages_are_the_recorded_ones(node: PureNode) -> None:
    node.view.revealed = 343
    node.view.faults.first = 2
    for version in (1, 2):
        closed, *recorded = SHAPES[f"stream_v{version}"]
        assert ledger_closed(node.view, 343) == closed
        for message in recorded:
            message.get("tx_json", message.get("transaction")).pop("owner_funds", None)
        assert list(transactions(node.view, 343, version)) == recorded


def test_a_stream_recording_is_served_as_far_as_it_tells() -> None:
    other = PureNode(sources=[{"ledger": {"ledger_index": 343, "ledger_hash": "AB" * 32, "close_time": 848543610,
                                          "transactions": SHAPES["stream_v2"][1:]}, "validated": True}])  # fmt: skip
    shown = other.result("ledger", ledger_index=343, transactions=True, expand=True)["ledger"]
    known = standalone_tape().record(343)["ledger"]
    assert [each["meta"] for each in shown["transactions"]] == [
        each["meta"] for each in known["transactions"]
    ]
    assert [each["tx_json"] for each in shown["transactions"]] == [
        e["tx_json"] for e in known["transactions"]
    ]
    refused = other.ask({"id": 1, "command": "ledger", "ledger_index": 343, "binary": True})
    assert refused["error"] == "lgrNotFound"


def test_tx_in_every_shape(node: PureNode) -> None:
    entry = SHAPES["binary"]["ledger"]["transactions"][0]
    known = standalone_tape().record(343)["ledger"]["transactions"][0]
    shown = node.result("tx", transaction=entry["hash"].lower())
    assert shown["meta"] == known["meta"] and shown["ctid"].startswith("C0000157")
    assert shown["tx_json"] == known["tx_json"] | {"date": 848543610, "ledger_index": 343}
    binary = node.result("tx", transaction=entry["hash"], binary=True)
    assert {name: binary[name] for name in entry} == entry
    first = node.ask({"command": "tx", "transaction": entry["hash"]})["result"]
    assert (first["inLedger"], first["hash"], first["meta"]) == (343, entry["hash"], known["meta"])
    out = node.ask({"command": "tx", "transaction": entry["hash"], "min_ledger": 300, "max_ledger": 342})
    assert (out["error"], out["searched_all"]) == ("txnNotFound", True)


def test_streams_named_before_a_bad_one_are_subscribed(node: PureNode) -> None:
    unknown = REOPENED["unknown stream"]
    answer = node.ask({"id": 1, "command": "subscribe", "streams": ["ledger", "nosuch"]})
    assert answer["error"] == "malformedStream" and "ledger" in node.session.streams
    assert answer == unknown
    refused = node.ask({"id": 5, "command": "subscribe", "streams": ["validations", "peer_status"]})
    assert refused["error"] == "noPermission"


def test_subscribe_names_the_last_validated_ledger(node: PureNode) -> None:
    recorded = REOPENED["first subscribe response"]
    answer = node.ask(
        {"id": "sub", "command": "subscribe", "streams": ["ledger", "transactions"], "api_version": 2}
    )
    assert answer == recorded


def test_ledger_data_pages_are_as_long_as_the_nodes(node: PureNode) -> None:
    """Binary pages would hold 2048 of them; the fold lacks FeeSettings and Amendments (327 of 329 objects)."""
    for case in BEHAVIOUR["ledger_data_pages"]:
        if case["port"] == "public":
            limit = {} if case["limit"] is None else {"limit": case["limit"]}
            page = node.result("ledger_data", ledger_index=353, binary=case["binary"], **limit)
            assert len(page["state"]) == min(case["rows"], 327)
            assert ("marker" in page) == case["marker"]
            assert "ledger" in page


def test_a_marker_is_taken_with_any_index(node: PureNode) -> None:
    first = node.result("ledger_data", ledger_index=353, limit=10)
    second = node.result("ledger_data", ledger_index=341, limit=10, marker=first["marker"])
    assert "ledger" not in second
    assert all(entry["index"] > first["state"][-1]["index"] for entry in second["state"])
    bad = node.ask({"id": 1, "command": "ledger_data", "ledger_index": 353, "marker": "XYZ"})
    assert bad["error_message"] == "Invalid field 'marker', not valid."


def test_holes_show_and_are_not_found() -> None:
    node = PureNode(Faults(missing=frozenset({5, 6, 353})))
    assert node.result("server_info")["info"]["complete_ledgers"] == "1-4,7-352"
    assert node.ask({"command": "ledger", "ledger_index": 6})["error"] == "lgrNotFound"
    assert node.result("ledger_closed")["ledger_index"] == 352


def test_commands_that_can_not_be_answered_are_refused(node: PureNode) -> None:
    """`notImpl`, never a wrong answer: account_tx and the like, and subscriptions to accounts or books."""
    assert node.ask({"command": "account_tx", "account": "x"})["error"] == "notImpl"
    assert (
        node.ask({"command": "subscribe", "accounts": ["rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh"]})["error"]
        == "notImpl"
    )
