"""A pool of EVM nodes over real ones: who is asked, what most of them say, and what happens when they misbehave."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.ingest.evm.errors import (
    Busy,
    NodeError,
    NotFound,
    Refused,
    TooLarge,
    Unusable,
    Wrong,
    error_of,
    seconds_of,
)
from pipeline.ingest.evm.node import name_of
from pipeline.ingest.evm.nodes import Nodes, NoNode
from tests.support.anvil import Anvil, anvil_node, missing
from tests.support.evm_nodes_help import assert_true, hasten, pool, read_block, reader, until, want
from tests.support.lying_rpc import LyingRpc, lying_rpc
from tests.support.rpc_lies import BEHIND

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.xdist_group("evm_nodes"),  # one node for most of them
]


@pytest.fixture(scope="module")
def anvil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Anvil]:
    with anvil_node(tmp_path_factory.mktemp("evm") / "anvil", slots_in_an_epoch=2) as made:
        made.mine(10)
        yield made


@pytest.fixture
def liar(anvil: Anvil) -> Iterator[LyingRpc]:
    with lying_rpc(anvil.url, seed=1) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch)


def told(*latest: int, finalized: int | None = None, **options: Any) -> Nodes:
    """A pool that asks nobody, whose nodes have told these numbers."""
    nodes = pool(*(f"http://node{i}" for i in range(len(latest))), **options)
    for node, number in zip(nodes.nodes, latest, strict=True):
        node.state.connected, node.state.latest = True, number
        node.state.safe, node.state.finalized = number - 2, number - 4 if finalized is None else finalized
        node.state.news_at = time.monotonic()
    return nodes


def upto(nodes: Nodes, tag: Any) -> int:
    return asyncio.run(nodes.upto(tag))


# Pure: votes, names, refusals


@pytest.mark.parametrize(
    ("latest", "head"),
    [
        ((), -1),
        ((7,), 7),
        ((7, 9), 7),
        ((7, 9, 8), 8),
        ((1, 9, 9, 9), 9),
        ((1, 1, 9, 9), 1),
        ((10**18, 5, 5), 5),
    ],
)
def test_most_nodes_have_reached_it(latest: tuple[int, ...], head: int) -> None:
    assert upto(told(*latest), "head") == head


def test_tags_never_pass_the_depth() -> None:
    assert upto(told(20), "finalized") == 16 and upto(told(20), "safe") == 18
    assert upto(told(20, final_depth=10), "finalized") == 10 and upto(told(20, final_depth=10), "safe") == 15
    assert upto(told(20, final_depth=3), "finalized") == 16
    assert upto(told(20, final_depth=3, finality="depth"), "finalized") == 17
    assert upto(told(2, final_depth=3, finality="depth"), "finalized") == -1
    assert upto(told(20, finalized=-1), "finalized") == -1  # no tags there: no vote
    assert upto(told(20, finalized=21), "finalized") == -1  # never believed


def test_who_contradicts_or_stands_still_has_no_vote() -> None:
    nodes = told(20, 5)
    nodes.nodes[1].state.finalized = 9
    assert upto(nodes, "finalized") == 16
    nodes.nodes[1].state.news_at -= 3.5
    assert upto(nodes, "head") == 20
    nodes.nodes[0].state.news_at -= 3.5  # the chain stands: both vote again
    assert upto(nodes, "head") == 5


def test_who_is_asked_first() -> None:
    nodes = told(20, 19, 20)
    behind, used = nodes.nodes[1], nodes.nodes[0]
    used.state.requests = 100
    assert nodes.candidates() == [nodes.nodes[2], used, behind]
    nodes.nodes[2].distrust("header_hash", "a lie")
    assert nodes.candidates() == [used, behind] and nodes.latest == 20
    for node in (used, behind):
        node.failed(NodeError("no"))
    resting = sorted(nodes.nodes, key=lambda node: node.state.rests_until)
    assert nodes.candidates() == resting and len(resting) == 3  # better than nobody
    used.failed(Busy("slower", 5.0))
    assert used not in nodes.candidates()
    assert nodes.count_caught == {"header_hash": 1, "error": 2, "busy": 1}


def test_what_is_no_failure() -> None:
    (node,) = told(5).nodes
    for error in (NotFound("null"), Refused("no"), TooLarge("less")):
        node.failed(error)
    assert node.usable and node.state.failures == 0


def test_names_show_no_secret() -> None:
    assert name_of("https://user:secret@rpc.example.org:8545/v3/key") == "rpc.example.org:8545"
    nodes = pool("https://a.example/v3/key1", "https://a.example/v3/key2")
    assert [node.name for node in nodes.nodes] == ["a.example", "a.example#2"]


@pytest.mark.parametrize(
    ("method", "code", "message", "kind"),
    [
        ("eth_getLogs", -32005, "query returned more than 10000 results", TooLarge),
        ("eth_getLogs", -32602, "eth_getLogs is limited to a 10,000 range", TooLarge),
        ("eth_getLogs", -32600, "Log response size exceeded.", TooLarge),
        ("eth_getLogs", -32000, "query timeout exceeded", TooLarge),
        ("eth_getLogs", -32005, "query exceeds max block range", TooLarge),
        ("eth_call", -32005, "daily request count exceeded, request rate limited", Busy),
        ("eth_call", 429, "Your app has exceeded its compute units per second capacity", Busy),
        ("eth_getBlockByNumber", -39001, "Unknown block", NotFound),
        ("eth_getBlockByNumber", -32000, "header not found", NotFound),
        (
            "eth_getBlockReceipts",
            -32601,
            "the method eth_getBlockReceipts does not exist/is not available",
            Refused,
        ),
        ("eth_getBlockReceipts", -32602, "invalid argument 0: hex string", Refused),
        ("eth_call", -32603, "internal error", NodeError),
        ("eth_call", 3, "execution reverted: token not found", NodeError),
    ],
)
def test_refusals_are_told_apart(method: str, code: int, message: str, kind: type) -> None:
    assert type(error_of("node", method, {"code": code, "message": message})) is kind


def test_retry_after() -> None:
    assert [seconds_of(text) for text in ("3", "0.5", "", None, "soon")] == [3.0, 0.5, None, None, None]
    assert seconds_of("Thu, 01 Jan 1970 00:00:00 GMT") == 0.0


# On a node


@pytest.mark.parametrize("socket", [False, True])
def test_news_and_tags(anvil: Anvil, socket: bool) -> None:
    async def scene() -> None:
        async with pool(anvil.ws_url if socket else anvil.url) as nodes:
            await nodes.ready(60)
            head = await asyncio.to_thread(anvil.mine, 3)
            await until(nodes, lambda: nodes.latest == head)
            await until(nodes, lambda: _is(nodes, "finalized", head - 4))
            assert (await nodes.upto("head"), await nodes.upto("safe")) == (head, head - 2)
            (node,) = nodes.nodes
            assert int(await node.ask("eth_chainId"), 16) == 31337
            answers = await node.batch([("eth_getBlockByNumber", (hex(n), False)) for n in (1, head + 5, 2)])
            assert [type(one) for one in answers] == [dict, NotFound, dict]
            with pytest.raises(Refused):
                await node.ask("eth_noSuchThing")
            assert not nodes.troubles() and node.name == anvil.url.removeprefix("http://")

    asyncio.run(scene())


async def _is(nodes: Nodes, tag: Any, number: int) -> bool:
    return await nodes.upto(tag) == number


def test_large_batches_and_nodes_that_refuse_them(anvil: Anvil, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with pool(anvil.url) as nodes:
            await nodes.ready(60)
            (node,) = nodes.nodes
            calls = [("eth_getBlockByNumber", (hex(i % 10), False)) for i in range(130)]
            true = await node.batch(calls)
            assert [int(one["number"], 16) for one in true] == [i % 10 for i in range(130)]
            w3 = node._w3
            assert w3 is not None
            plain, sizes = w3.provider.make_batch_request, []

            async def picky(requests: Any) -> Any:
                sizes.append(len(requests))
                if len(requests) > 7:
                    return {"id": None, "error": {"code": -32600, "message": "batch size too large"}}
                return await plain(requests)

            monkeypatch.setattr(w3.provider, "make_batch_request", picky)
            assert await node.batch(calls) == true and max(sizes[4:]) <= 7

            async def none(requests: Any) -> Any:
                return {"id": None, "error": {"code": -32600, "message": "batches are not supported"}}

            monkeypatch.setattr(w3.provider, "make_batch_request", none)
            assert await node.batch(calls) == true

    asyncio.run(scene())


def test_headers_and_hashes(anvil: Anvil, liar: LyingRpc) -> None:
    async def scene() -> None:
        async with pool(anvil.url, liar.url) as nodes:
            await nodes.ready(60)
            await until(nodes, lambda: len(nodes.candidates()) == 2)
            honest, lying = nodes.nodes
            true = (anvil.block(4) or {})["hash"]
            assert await nodes.hashes_at(4) == {honest: true, lying: true}
            assert await nodes.hashes_at(10**9) == {honest: None, lying: None}
            for lie, reason in (
                ("alter_hash", "header_hash"),
                ("wrong_block", "order"),
                ("alter_parent", "header_hash"),
            ):
                before, began = nodes.count_caught[reason], time.monotonic()
                liar.honest()
                await until(nodes, lambda: len(nodes.candidates()) == 2)
                liar.lie(lie, methods=["eth_getBlockByNumber"])
                with pytest.raises(Wrong, match="block 4"):
                    await nodes.header_at(lying, 4)
                assert await nodes.hashes_at(4) == {honest: true, lying: None}
                assert nodes.count_caught[reason] > before and lying.state.distrusted_at > began

    asyncio.run(scene())


def test_lies_about_the_head_are_outvoted_or_harmless(anvil: Anvil, liar: LyingRpc) -> None:
    async def scene() -> None:
        async with pool(liar.url, anvil.url, anvil.ws_url) as nodes:
            await nodes.ready(60)
            head = await asyncio.to_thread(anvil.mine)
            liar.lie("early_finality")
            await until(nodes, lambda: nodes.nodes[0].state.finalized == head)
            await until(nodes, lambda: _is(nodes, "finalized", head - 4))
            liar.honest()
            liar.lie("old_head", methods=["eth_getBlockByNumber"])  # below its own safe block
            await until(nodes, lambda: nodes.count_caught["finality"] > 0)
            assert await nodes.upto("head") == head == nodes.latest
        async with pool(liar.url, anvil.url, anvil.ws_url, finality="depth") as nodes:
            await until(nodes, lambda: nodes.nodes[0].state.latest == head - BEHIND)
            await until(nodes, lambda: len(nodes.candidates()) == 3)
            assert await nodes.upto("head") == head == nodes.latest
        async with pool(liar.url, final_depth=3) as nodes:  # nobody contradicts it: the depth does
            liar.honest()
            liar.lie("early_finality")
            await nodes.ready(60)
            await until(nodes, lambda: nodes.nodes[0].state.finalized == head)
            assert await nodes.upto("finalized") == head - 3

    asyncio.run(scene())


def test_finality_above_the_head_is_not_believed(anvil: Anvil, liar: LyingRpc) -> None:
    async def scene() -> None:
        async with pool(liar.url) as nodes:
            liar.lie("early_finality", share=0.5)
            liar.lie("old_head")
            await until(nodes, lambda: nodes.count_caught["finality"] > 0)
            state = nodes.nodes[0].state
            assert state.finalized <= state.latest

    asyncio.run(scene())


def test_a_node_that_dies_and_comes_back(tmp_path: Any) -> None:
    """What it cannot answer, the other does; once it is back it is asked again."""

    async def scene(first: Anvil, second: Anvil) -> None:
        async with pool(first.url, second.url, timeout_s=0.4) as nodes:
            await until(nodes, lambda: len(nodes.candidates()) == 2)
            one = reader(nodes)
            first.kill()
            for number in range(4):
                assert_true(second, [await read_block(one, number, want())], number)
            await until(nodes, lambda: len(nodes.candidates()) == 1)
            assert first.url.removeprefix("http://") in nodes.troubles()
            second.freeze()
            await until(nodes, lambda: not nodes.candidates())
            with pytest.raises(NoNode):
                await one.block(1, want())
            assert nodes.latest == -1 == await nodes.upto("head")
            second.thaw()
            await until(nodes, lambda: len(nodes.candidates()) == 1)
            await asyncio.to_thread(first.start)
            await until(nodes, lambda: len(nodes.candidates()) == 2)

    with anvil_node(tmp_path / "a") as first, anvil_node(tmp_path / "b") as second:
        for anvil in (first, second):
            anvil.mine(5)
        asyncio.run(scene(first, second))


def test_heads_that_a_socket_leaves_out_are_polled(anvil: Anvil, liar: LyingRpc) -> None:
    """skip_head: polling makes up for it, and a subscription that stays silent is opened anew. drop_ws: again too."""

    async def scene() -> None:
        async with pool(liar.ws_url, silence_s=0.1, finality="depth") as nodes:
            await nodes.ready(60)
            liar.lie("skip_head")
            for _ in range(3):
                head = await asyncio.to_thread(anvil.mine)
                await until(nodes, lambda head=head: nodes.latest == head)
                await asyncio.sleep(0.15)
            head = await asyncio.to_thread(anvil.mine)
            await until(nodes, lambda: liar.asked["eth_subscribe"] > 1)
            liar.honest()
            before = liar.asked["eth_subscribe"]
            liar.lie("drop_ws", times=1)
            head = await asyncio.to_thread(anvil.mine)
            await until(nodes, lambda: nodes.latest == head and liar.asked["eth_subscribe"] > before)
            liar.lie("repeat_head")
            head = await asyncio.to_thread(anvil.mine)
            await until(nodes, lambda: nodes.latest == head)

    asyncio.run(scene())


def test_a_silent_socket_still_polls_its_tags(anvil: Anvil, liar: LyingRpc) -> None:
    async def scene() -> None:
        async with pool(liar.ws_url, silence_s=60) as nodes:
            await nodes.ready(60)
            liar.lie("skip_head")
            head = await asyncio.to_thread(anvil.mine)
            await until(nodes, lambda: _is(nodes, "finalized", head - 4))
            assert nodes.latest == head

    asyncio.run(scene())


def test_a_node_that_changes_its_chain(anvil: Anvil, liar: LyingRpc, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never used while it is of another chain; named as unusable if it stays so, and used again if it comes back."""
    monkeypatch.setattr("pipeline.ingest.evm.node.CHAIN_CHECK_S", 0.05)

    async def scene() -> None:
        async with pool(liar.url, anvil.url) as nodes:
            await until(nodes, lambda: len(nodes.candidates()) == 2)
            liar.lie("other_chain")
            changed = nodes.nodes[0]
            await until(nodes, lambda: changed.unusable is not None)
            assert "is of chain 31338, not 31337" in str(changed.unusable)
            assert "TIDEBOOK_EVM_CONFIG" in nodes.troubles() and nodes.count_caught["chain_id"] >= 3
            assert nodes.candidates() == [nodes.nodes[1]]
            with pytest.raises(NodeError, match="not connected"):
                await changed.ask("eth_blockNumber")
            liar.honest()
            await until(nodes, lambda: changed.usable and changed.unusable is None)

    asyncio.run(scene())


def test_chain_ids_that_flicker_are_borne(anvil: Anvil, liar: LyingRpc) -> None:
    async def scene() -> None:
        liar.lie("other_chain", share=0.5)
        async with pool(liar.url) as nodes:
            await nodes.ready(60)
            assert nodes.candidates() == nodes.nodes

    asyncio.run(scene())


def test_nodes_that_can_never_serve(anvil: Anvil) -> None:
    async def never(*urls: str) -> str:
        async with pool(*urls, chain_id=1, setting="TIDEBOOK_EVM_CONFIG (chain main)") as nodes:
            with pytest.raises(Unusable) as raised:
                await nodes.ready(60)
            return str(raised.value)

    said = asyncio.run(never(anvil.url, "ftp://user:secret@x.example"))
    assert "\n" not in said and said.count("setting TIDEBOOK_EVM_CONFIG (chain main)") == 2
    assert "is of chain 31337, not 1" in said and "http(s)://" in said and "secret" not in said


def test_nobody_there() -> None:
    async def scene() -> None:
        async with pool("http://127.0.0.1:9", "ws://127.0.0.1:9") as nodes:
            with pytest.raises(
                NoNode, match=r"setting TIDEBOOK_EVM_CONFIG: no node answers after 0.2 s: 127.0.0.1:9"
            ):
                await nodes.ready(0.2)

    asyncio.run(scene())


def test_too_many_requests(anvil: Anvil, liar: LyingRpc) -> None:
    """429 with Retry-After: not asked at all for so long, and then again."""

    async def scene() -> None:
        liar.retry_after = "1.5"
        async with pool(liar.url, poll_s=0.02) as nodes:
            await nodes.ready(60)
            liar.lie("too_many", times=1)
            await until(nodes, lambda: nodes.count_caught["busy"] == 1)
            (node,) = nodes.nodes
            asked = liar.asked.total()
            assert not nodes.candidates() and node.state.busy_until > time.monotonic()
            await asyncio.sleep(0.1)
            assert liar.asked.total() == asked
            await until(nodes, lambda: nodes.candidates() == [node])
            await until(nodes, lambda: liar.asked.total() > asked)

    asyncio.run(scene())


def test_rate(anvil: Anvil, liar: LyingRpc) -> None:
    """A batch counts for as many requests as it holds."""

    async def scene() -> float:
        async with pool(liar.url, rate=100, poll_s=30) as nodes:
            await nodes.ready(60)
            started = time.monotonic()
            for _ in range(2):
                await nodes.nodes[0].batch([("eth_blockNumber", ())] * 20)
            return time.monotonic() - started

    assert asyncio.run(scene()) > 0.25


def test_answers_without_end_are_cut(anvil: Anvil, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        async with pool(anvil.url) as nodes:
            await nodes.ready(60)
            monkeypatch.setattr("pipeline.ingest.evm.transport.ANSWER_BYTES_MAX", 5000)
            (node,) = nodes.nodes
            with pytest.raises(TooLarge):
                await node._as_one([("eth_getBlockByNumber", (hex(number), False)) for number in range(8)])
            blocks = await node.batch([("eth_getBlockByNumber", (hex(number), False)) for number in range(8)])
            assert all(isinstance(block, dict) for block in blocks)  # in smaller parts

    asyncio.run(scene())
