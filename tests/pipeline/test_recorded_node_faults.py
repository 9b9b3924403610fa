"""Every fault of the recorded node does what it says, can be turned on and off, and repeats with its seed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from pipeline.domain.xrpl_hash import ledger_hash
from pipeline.domain.xrpl_proof import transaction_root
from pipeline.recorded_node import FaultError, Faults, RecordedNode, TapeError, fault_names, parse_faults
from tests.support.canonical import header_fields
from tests.support.recorded_node import PureNode, ask, next_message, run, standalone_tape

Json = dict[str, Any]
WHOLE = {"id": 9, "command": "ledger", "transactions": True, "expand": True, "api_version": 2}


def served(faults: Faults, index: int = 13, **params: Any) -> Json:
    """`result` of a ledger as the faults have it."""
    text = PureNode(faults).weathered(WHOLE | {"ledger_index": index} | params)
    found: Json = orjson.loads(text)["result"]
    return found


def judged(result: Mapping[str, Any]) -> tuple[bool, bool]:
    """(the header's hash holds, the transactions' root holds)."""
    header = result["ledger"]
    return (
        ledger_hash(header_fields(header)) == header["ledger_hash"],
        transaction_root(result) == header["transaction_hash"],
    )


def test_the_right_answer_holds() -> None:
    assert judged(served(Faults())) == (True, True)


@pytest.mark.parametrize(
    ("fault", "header_holds", "root_holds"),
    [
        ("forged_transaction", True, False),
        ("forged_header", False, True),
        ("lacks_transaction", True, False),
        ("other_chain", True, True),
        ("other_ledger", True, True),
    ],
)
def test_wrong_ledgers_are_wrong_in_one_thing_only(fault: str, header_holds: bool, root_holds: bool) -> None:
    right, wrong = served(Faults()), served(Faults(**{fault: 1.0}))
    assert wrong != right
    assert judged(wrong) == (header_holds, root_holds)
    if fault not in ("other_chain", "other_ledger"):
        assert wrong["ledger_hash"] == right["ledger_hash"]


def test_what_gives_other_ledgers_away() -> None:
    assert served(Faults(other_ledger=1.0))["ledger_index"] == 12
    other = served(Faults(other_chain=1.0))
    assert other["ledger"]["parent_hash"] != served(Faults())["ledger"]["parent_hash"]
    assert served(Faults(not_validated=1.0))["validated"] is False


def test_a_binary_answer_is_forged_too() -> None:
    right, wrong = served(Faults(), binary=True), served(Faults(forged_transaction=1.0), binary=True)
    assert right["ledger"]["ledger_data"] == wrong["ledger"]["ledger_data"]
    changed = [
        a
        for a, b in zip(right["ledger"]["transactions"], wrong["ledger"]["transactions"], strict=True)
        if a != b
    ]
    assert len(changed) == 1


def test_wrong_answers_for_named_ledgers_only() -> None:
    faults = Faults(forged_header=1.0, only=frozenset({13}))
    assert not judged(served(faults))[0]
    assert judged(served(faults, index=14))[0]


def test_answers_that_are_none() -> None:
    node = PureNode(Faults())
    request = WHOLE | {"ledger_index": 13}
    right = node.weathered(request)
    faults = node.view.faults
    faults.garbage = 1.0
    with pytest.raises(json.JSONDecodeError):
        json.loads(node.weathered(request))
    faults.garbage, faults.no_id = 0.0, 1.0
    assert "id" not in json.loads(node.weathered(request))
    faults.no_id, faults.html = 0.0, 1.0
    assert node.weathered(request).startswith(b"<html>")
    faults.html, faults.slow_down = 0.0, 1.0
    assert json.loads(node.weathered(request))["error"] == "slowDown"
    faults.slow_down, faults.too_busy = 0.0, 1.0
    assert json.loads(node.weathered(request))["error"] == "tooBusy"
    faults.too_busy, faults.oversized = 0.0, 2_000_000
    large = node.weathered(request)
    assert len(large) > 2_000_000 and json.loads(large)["result"] == json.loads(right)["result"]
    faults.oversized = 0
    assert node.weathered(request) == right


def test_one_seed_gives_one_weather() -> None:
    def weather(seed: int) -> list[bool]:
        faults = Faults(seed=seed, forged_header=0.3)
        node = PureNode(faults)
        return [
            judged(orjson.loads(node.weathered(WHOLE | {"ledger_index": 13}))["result"])[0] for _ in range(40)
        ]

    assert weather(1) == weather(1) != weather(2)
    assert 0.4 < sum(weather(1)) / 40 < 0.95


def test_a_node_behind_shows_less_and_comes_back() -> None:
    node = PureNode(Faults(behind=10))
    assert node.result("ledger", ledger_index="validated")["ledger_index"] == 343
    assert node.result("server_info")["info"]["complete_ledgers"] == "1-343"
    assert node.ask({"command": "ledger", "ledger_index": 345})["error"] == "lgrNotFound"
    node.view.faults.behind = 0
    assert node.result("ledger", ledger_index="validated")["ledger_index"] == 353


def test_a_node_that_stands_still() -> None:
    node = PureNode(Faults(stand_still=True), last=50)
    assert node.view.last == 50
    node.view.revealed = 60
    assert node.view.last == 50
    node.view.faults.stand_still = False
    assert node.view.last == 60


def test_a_wrong_network() -> None:
    node = PureNode(Faults(network_id=1025), network_id=0)
    assert node.result("server_info")["info"]["network_id"] == 1025
    assert node.result("subscribe", streams=["ledger"])["network_id"] == 1025


def test_announced_before_it_can_be_read() -> None:
    async def test() -> None:
        async with (
            RecordedNode(standalone_tape(), start=10, faults=Faults(late=0.3)) as node,
            connect(node.url) as listener,
            connect(node.url) as client,
        ):
            await ask(listener, command="subscribe", streams=["ledger"])
            now = [node.view.now()]
            node.view.now = lambda: now[0]
            node.advance()
            assert (await next_message(listener))["ledger_index"] == 11
            assert (await ask(client, command="ledger", ledger_index=11))["error"] == "lgrNotFound"
            newest = await ask(client, command="ledger", ledger_index="validated")
            assert newest["result"]["ledger_index"] == 10
            now[0] += 0.35
            assert (await ask(client, command="ledger", ledger_index=11))["status"] == "success"

    run(test)


def test_doubled_and_reordered_messages_lose_none() -> None:
    async def test() -> None:
        faults = Faults(seed=3, reorder=0.4, duplicate=0.3)
        async with (
            RecordedNode(standalone_tape(), start=200, faults=faults) as node,
            connect(node.url) as client,
        ):
            await ask(client, command="subscribe", streams=["ledger"])
            node.advance(100)
            heard: list[int] = []
            while set(heard) != set(range(201, 301)):
                heard.append((await next_message(client))["ledger_index"])
            assert len(heard) > 100 and heard != sorted(heard)

    run(test)


def test_silence_answers_nothing_and_loses_what_was_said() -> None:
    async def test() -> None:
        async with RecordedNode(standalone_tape(), start=200) as node, connect(node.url) as client:
            await ask(client, command="subscribe", streams=["ledger"])
            node.silence(600)
            node.advance(2)
            await client.send(json.dumps({"id": 1, "command": "ping"}))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.recv(), 0.2)
            node.silence(0)
            node.advance()
            assert (await next_message(client))["ledger_index"] == 203

    run(test)


def test_silence_and_cuts_that_come_by_themselves() -> None:
    async def test() -> None:
        faults = Faults(seed=5, disconnect=10)
        async with RecordedNode(standalone_tape(), faults=faults) as node:
            answered = []
            for _ in range(3):
                async with connect(node.url) as client:
                    count = 0
                    with pytest.raises(ConnectionClosed):
                        while True:
                            await ask(client, command="ping")
                            count += 1
                    answered.append(count)
            assert all(count <= 20 for count in answered)
            faults.disconnect, faults.silence, faults.silence_every = 0, 600, 5
            async with connect(node.url) as client:
                for _ in range(4):
                    await ask(client, command="ping")
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(ask(client, command="ping"), 0.15)
                node.silence(0)
                await ask(client, command="ping")

    run(test)


def test_all_connections_dropped_and_slow_answers() -> None:
    async def test() -> None:
        async with (
            RecordedNode(standalone_tape(), faults=Faults(slow=0.02)) as node,
            connect(node.url) as client,
        ):
            for number in range(20):
                await client.send(json.dumps({"id": number, "command": "ping"}))
            ids = [(await next_message(client))["id"] for _ in range(20)]
            assert sorted(ids) == list(range(20)) != ids
            node.drop_connections()
            with pytest.raises(ConnectionClosed):
                await client.recv()

    run(test)


def test_an_answer_that_comes_twice() -> None:
    async def test() -> None:
        async with (
            RecordedNode(standalone_tape(), faults=Faults(answer_twice=1.0)) as node,
            connect(node.url) as client,
        ):
            assert await ask(client, command="ping") == await next_message(client)

    run(test)


def test_faults_as_text() -> None:
    faults = parse_faults(
        ["missing=5,7-9", "forged-transaction", "slow=0.5", "silence=10/300", "stand-still"], seed=4
    )
    assert faults.missing == {5, 7, 8, 9} and faults.forged_transaction == 1.0 and faults.slow == 0.5
    assert (faults.silence, faults.silence_every, faults.stand_still, faults.seed) == (10.0, 300, True, 4)
    assert set(fault_names()) >= {"disconnect", "html", "late", "network-id"}


@pytest.mark.parametrize(
    "text", ["nosuch", "missing=x", "missing", "forged-header=2", "behind=-1", "html=often", "seed=3"]
)
def test_bad_faults_are_named(text: str) -> None:
    with pytest.raises(FaultError, match="--fault"):
        parse_faults([text])


def test_a_start_before_the_recording() -> None:
    async def test() -> None:
        with pytest.raises(TapeError, match="--start 0: the recording begins at ledger 1"):
            async with RecordedNode(standalone_tape(), start=0):
                pass

    run(test)
