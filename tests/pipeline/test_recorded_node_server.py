"""The recorded node over real sockets: streams, time, restarts, and xrpl-py's own client."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from xrpl.asyncio.clients import AsyncWebsocketClient
from xrpl.models.requests import AccountInfo, AccountLines, Ledger, LedgerData, ServerInfo, Subscribe, Tx
from xrpl.models.requests.request import Request

from pipeline.domain.xrpl_validation import Validators
from pipeline.recorded_node import Faults, RecordedNode
from tests.support.recorded_node import ask, data, next_message, run, standalone_tape

Json = dict[str, Any]
GENESIS = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh"


def test_a_subscriber_hears_each_new_ledger_and_its_transactions_in_order() -> None:
    async def test() -> None:
        async with (
            RecordedNode(standalone_tape(), start=2) as node,
            connect(node.url, max_size=None) as client,
        ):
            told = await ask(client, command="subscribe", streams=["ledger", "transactions"])
            assert told["result"]["ledger_index"] == 2
            node.advance(5)
            for index in range(3, 8):
                closed = await next_message(client)
                assert (closed["type"], closed["ledger_index"]) == ("ledgerClosed", index)
                for place in range(closed["txn_count"]):
                    message = await next_message(client)
                    assert (message["ledger_index"], message["meta"]["TransactionIndex"]) == (index, place)
            assert (await ask(client, command="ledger_closed"))["result"]["ledger_index"] == 7
            assert (await ask(client, command="ledger", ledger_index=8))["result"]["validated"] is False
            assert (await ask(client, command="ledger", ledger_index=9))["error"] == "lgrNotFound"

    run(test)


def test_subscribed_twice_heard_once_and_not_after_unsubscribe() -> None:
    async def test() -> None:
        async with RecordedNode(standalone_tape(), start=350) as node, connect(node.url) as client:
            for _ in range(2):
                await ask(client, command="subscribe", streams=["ledger"])
            node.advance()
            assert (await next_message(client))["ledger_index"] == 351
            await ask(client, command="unsubscribe", streams=["ledger"])
            node.advance()
            assert (await ask(client, command="ping"))["result"] == {}

    run(test)


def test_the_chain_goes_on_by_itself_and_ends() -> None:
    async def test() -> None:
        async with RecordedNode(standalone_tape(), start=340, pace=0.01) as node, connect(node.url) as client:
            first = (await ask(client, command="subscribe", streams=["ledger"]))["result"]["ledger_index"]
            heard = [(await next_message(client))["ledger_index"] for _ in range(353 - first)]
            assert heard == list(range(first + 1, 354))
            assert node.last == 353

    run(test)


def test_a_restart_refuses_then_is_not_synced_then_serves() -> None:
    """As recorded: closed without a status, refused, `notSynced` with an empty subscription, then ledgers."""

    async def test() -> None:
        async with RecordedNode(standalone_tape(), start=100) as node:
            url = node.url
            async with connect(url) as client:
                await ask(client, command="subscribe", streams=["ledger"])
                restarting = asyncio.create_task(node.restart(refused_s=1.0, unsynced_s=1.5))
                with pytest.raises(ConnectionClosed) as closed:
                    await client.recv()
                assert closed.value.rcvd is not None and closed.value.rcvd.code == 1005
            with pytest.raises(OSError):
                await connect(url).__aenter__()
            client = await reconnected(url)
            assert (await ask(client, command="ledger", ledger_index=50))["error"] == "notSynced"
            assert (await ask(client, command="subscribe", streams=["ledger"]))["result"] == {}
            node.advance(3)
            await restarting
            answer = await ask(client, command="ledger", ledger_index="validated")
            assert answer["result"]["ledger_index"] == 103
            node.advance()
            assert (await next_message(client))["ledger_index"] == 104
            await client.close()

    run(test)


async def reconnected(url: str) -> ClientConnection:
    """The connection as soon as there is one."""
    while True:
        try:
            return await connect(url)
        except OSError:
            await asyncio.sleep(0.02)


def test_validations_reach_the_quorum_and_carry_the_nodes_keys() -> None:
    async def test() -> None:
        faults = Faults()
        async with RecordedNode(standalone_tape(), start=100, validators=5, faults=faults) as node:
            assert len(node.validator_keys) == 5 and all(key.startswith("nH") for key in node.validator_keys)
            async with connect(node.url) as client:
                judges = Validators(node.validator_keys)
                for key in node.validator_keys:
                    answer = await ask(client, command="manifest", public_key=key)
                    assert judges.add_manifest(answer["result"]["manifest"])
                await ask(client, command="subscribe", streams=["ledger", "validations"])
                for index, change, votes in (
                    (101, {}, {"signed": 5}),
                    (102, {"missing_validation": frozenset({0, 3})}, {"signed": 3, "absent": 2}),
                    (103, {"forged_validation": frozenset({1})}, {"signed": 4, "forged": 1}),
                    (104, {"other_validation": frozenset({2})}, {"signed": 4, "other": 1}),
                ):
                    faults.missing_validation = faults.forged_validation = faults.other_validation = (
                        frozenset()
                    )
                    for name, value in change.items():
                        setattr(faults, name, value)
                    node.advance()
                    spoken = 5 - len(faults.missing_validation)
                    messages = [await next_message(client) for _ in range(spoken + 1)]
                    assert [each["type"] for each in messages].count("ledgerClosed") == 1
                    for each in messages:
                        judges.add(each) if each["type"] == "validationReceived" else None
                    tally = judges.tally(index, standalone_tape().hash_of(index))
                    found = [row["vote"] for row in tally["validators"]]
                    assert {vote: found.count(vote) for vote in set(found)} == votes

    run(test)


def test_the_same_seed_makes_the_same_validators() -> None:
    keys = [RecordedNode([], validators=2, seed=seed).validator_keys for seed in (4, 4, 5)]
    assert keys[0] == keys[1] != keys[2]


def test_xrpl_py_reads_the_node() -> None:
    """The client library that the ingest uses, with its own models."""

    async def test() -> None:
        async with (
            RecordedNode(standalone_tape(), start=342) as node,
            AsyncWebsocketClient(node.url) as client,
        ):

            async def result(request: Request) -> Json:
                answer = await client.request(request)
                assert answer.is_successful(), answer
                return answer.result

            known = standalone_tape().record(13)
            assert await result(Ledger(ledger_index=13, transactions=True, expand=True)) == known
            info = await result(ServerInfo())
            assert info["info"]["complete_ledgers"] == "1-342"
            account = await result(AccountInfo(account=GENESIS, ledger_index="validated"))
            assert account["account_data"]["Account"] == GENESIS
            hash_ = known["ledger"]["transactions"][0]["hash"]
            assert (await result(Tx(transaction=hash_)))["hash"] == hash_
            page = await result(LedgerData(ledger_index=342))
            rest = await result(LedgerData(ledger_index=342, marker=page["marker"]))
            assert len(page["state"]) == 256 and page["state"][-1]["index"] < rest["state"][0]["index"]
            holder = next(e for e in page["state"] if e["LedgerEntryType"] == "RippleState")["LowLimit"][
                "issuer"
            ]
            assert (await result(AccountLines(account=holder, ledger_index=342)))["lines"]
            missing = await client.request(Ledger(ledger_index=400))
            assert missing.result["error"] == "lgrNotFound"
            await result(Subscribe(streams=["ledger", "transactions"]))
            node.advance()
            recorded = data("ledger-343-shapes.json.gz")["stream_v2"]
            heard = [message async for message in first_messages(client, len(recorded))]
            assert [message["type"] for message in heard] == [message["type"] for message in recorded]

    run(test)


async def first_messages(client: AsyncWebsocketClient, count: int) -> Any:
    """The first stream messages; the client queues the answers to requests among them."""
    async for message in client:
        if message["type"] != "response":
            yield message
            count -= 1
        if not count:
            return


def test_many_questions_at_once_are_all_answered() -> None:
    async def test() -> None:
        async with RecordedNode(standalone_tape()) as node, connect(node.url, max_size=None) as client:
            for index in range(1, 354):
                request = {"id": index, "command": "ledger", "ledger_index": index, "api_version": 2}
                await client.send(json.dumps(request))
            answers = [await next_message(client) for _ in range(353)]
            assert {each["id"] for each in answers} == {each["result"]["ledger_index"] for each in answers}
            assert node.asked[353] == 1 and node.requests["ledger"] == 353

    run(test)
