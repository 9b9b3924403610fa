"""No answer of a node ends the process: whatever stands where, it is refused in one line.

A node here is a table of answers to real requests; one of a real chain's blocks is told, bent in every place.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gzip
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

from pipeline.domain.proof_errors import Contradiction
from pipeline.ingest.evm import node as node_module
from pipeline.ingest.evm.errors import (
    NodeError,
    Unreachable,
    Wrong,
)
from pipeline.ingest.evm.fetch import Fetched, Fetcher
from pipeline.ingest.evm.node import Node, Terms
from pipeline.ingest.evm.nodes import Nodes, NoNode
from pipeline.ingest.evm.openings import Openings
from pipeline.ingest.evm.watch import Want
from tests.support.evm_nodes_help import hasten, pool, reader, want
from tests.support.evm_odd import ODD, URL

DATA = Path(__file__).parents[1] / "data/evm/proof/blocks.json.gz"
Answers = Callable[[str, Sequence[Any]], Any]
"""(method, params) -> the whole answer, as JSON would give it."""


def told() -> dict[str, Any]:
    """A block with transactions of every type, and its receipts; a fresh copy."""
    found: dict[str, Any] = json.loads(gzip.decompress(DATA.read_bytes()))["anvil-types"]
    return found


TOLD: Final = told()
BLOCK, RECEIPTS = TOLD["block"], TOLD["receipts"]
NUMBER: Final = int(BLOCK["number"], 16)
WATCHED: Final = BLOCK["transactions"][0]["from"].lower()
LOGS: Final = [log for receipt in RECEIPTS for log in receipt["logs"]]
WANTS: Final = (
    want(everything=True), want(), want(watched=[WATCHED]), want(*{log["address"] for log in LOGS} or {WATCHED}),
)  # fmt: skip
GIVEN: Final = (Wrong, Contradiction, NodeError)


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch)


class Provider:
    """Answers from a table, in batches too."""

    def __init__(self, answers: Answers) -> None:
        self._answers, self.asked = answers, 0

    async def make_request(self, method: str, params: Sequence[Any]) -> Any:
        self.asked += 1
        await asyncio.sleep(0)
        return self._answers(method, params)

    async def make_batch_request(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> Any:
        return [await self.make_request(method, params) for method, params in calls]


def answering(node: Node, answers: Answers) -> Provider:
    """The node is connected and answers so."""
    provider = Provider(answers)
    node._w3 = SimpleNamespace(provider=provider)  # type: ignore[assignment]
    node.state.connected, node.state.latest, node.state.news_at = True, NUMBER, time.monotonic()
    return provider


def honest(method: str, params: Sequence[Any]) -> Any:
    block = copy.deepcopy(BLOCK)
    if method.startswith("eth_getBlockBy") and not params[1]:
        block["transactions"] = [one["hash"] for one in block["transactions"]]
    by_hash = {one["transactionHash"]: one for one in RECEIPTS}
    results = {
        "eth_getBlockByNumber": block, "eth_getBlockByHash": block, "eth_getBlockReceipts": copy.deepcopy(RECEIPTS),
        "eth_getLogs": copy.deepcopy(LOGS), "eth_blockNumber": BLOCK["number"],
    }  # fmt: skip
    if method == "eth_getTransactionReceipt":
        return {"result": copy.deepcopy(by_hash[params[0]])}
    return {"result": results[method]}


def places(answer: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in an answer; of lists the first and the last."""
    yield path
    if isinstance(answer, dict):
        for name, value in answer.items():
            yield from places(value, (*path, name))
    elif isinstance(answer, list):
        for at in sorted({0, len(answer) - 1}) if answer else ():
            yield from places(answer[at], (*path, at))


GONE: Final = object()


def bent(answer: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The answer with another value there, or nothing."""
    if not path:
        return {} if value is GONE else value
    answer = copy.deepcopy(answer)
    at = answer
    for step in path[:-1]:
        at = at[step]
    if value is GONE:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return answer


def bending(method: str, path: tuple[Any, ...], value: Any, way: int) -> Answers:
    """Honest but for one place in the answers to methods that begin so; with `way` 2 receipts come one by one."""

    def answers(asked: str, params: Sequence[Any]) -> Any:
        if way == 2 and asked == "eth_getBlockReceipts":
            return {"error": {"code": -32601, "message": "method not found"}}
        answer = honest(asked, params)
        if not asked.startswith(method):
            return answer
        try:
            return bent(answer, path, value)
        except (KeyError, IndexError, TypeError):  # a place that only the other form of the answer has
            return answer

    return answers


async def read(one: Fetcher, node: Node, wanted: Want) -> list[Any]:
    """By itself and in a batch: what came, or the error. Any other error is the test's end."""
    found: list[Any] = []
    try:
        found.append(await one.one(node, NUMBER, wanted))
    except GIVEN as error:
        found.append(error)
    try:
        (many,) = await one.many(node, [NUMBER], wanted)
    except GIVEN as error:
        return [*found, error]
    assert not isinstance(many, Exception) or isinstance(many, GIVEN)
    return [*found, many]


def node_of(answers: Answers) -> Node:
    node = Node(URL, Terms(31337, 3.0, 0, 0.03, 1.0))
    answering(node, answers)
    return node


def test_the_honest_node_is_believed() -> None:
    """Else the tests below test nothing."""
    for wanted in WANTS:
        for way in (0, 2):
            one = Fetcher("header", ())
            found = asyncio.run(read(one, node_of(bending("none", (), None, way)), wanted))
            assert isinstance(found[0], Fetched)
            assert way == 0 or isinstance(found[1], (tuple, NodeError))


@pytest.mark.parametrize("method", ["eth_getBlockByNumber", "eth_getBlockByHash", "eth_getBlockReceipts",
                                    "eth_getTransactionReceipt", "eth_getLogs", "eth_blockNumber"])  # fmt: skip
def test_odd_values_in_every_place(method: str) -> None:
    """Every place of every answer, with some odd value or none: refused or harmless, never a crash."""
    draw = random.Random(method)
    params = (RECEIPTS[0]["transactionHash"], True) if method.endswith("Receipt") else (BLOCK["number"], True)
    way = 2 if method.endswith("Receipt") else 0

    async def scene() -> None:
        nodes = pool(URL)
        fetchers = Fetcher("header", ()), Fetcher("full", ("header_hash",))
        for path in places(honest(method, params)):
            for value in (GONE, *draw.sample(ODD, 4)):
                node = nodes.nodes[0]
                answering(node, bending(method, path, value, way))
                await read(fetchers[draw.random() < 0.5], node, draw.choice(WANTS))
                one = reader(nodes, exceptions=draw.choice([(), ("header_hash",)]))
                await one._span(NUMBER, NUMBER, WANTS[3])
                await nodes.hashes_at(NUMBER)
                if method == "eth_blockNumber":
                    with contextlib.suppress(NodeError):
                        assert 0 <= await nodes.number(node) < 1 << 63
                assert "\n" not in node.state.last_error and "\x1b" not in node.state.last_error

    asyncio.run(scene())


def test_transactions_without_hash_where_receipts_come_one_by_one() -> None:
    async def scene() -> None:
        for level in ("header", "full"):
            node = node_of(bending("eth_getBlockByNumber", ("result", "transactions", 0, "hash"), GONE, 2))
            one = Fetcher(level, ())  # type: ignore[arg-type]
            for _ in range(3):  # until it knows in which way to ask
                found = await read(one, node, WANTS[0])
            assert all(isinstance(each, Contradiction) for each in found), found

    asyncio.run(scene())


@pytest.mark.parametrize("value", [*ODD, hex(1 << 63)])
def test_a_number_is_a_number(value: Any) -> None:
    async def scene() -> None:
        nodes = pool(URL)
        answering(nodes.nodes[0], lambda *_: {"result": value})
        with pytest.raises(Wrong):
            await nodes.number(nodes.nodes[0])
        answering(nodes.nodes[0], honest)
        assert await nodes.number(nodes.nodes[0]) == NUMBER

    asyncio.run(scene())


@pytest.mark.parametrize("name", ["hash", "parentHash"])
@pytest.mark.parametrize("value", [GONE, *ODD, "0x12", "0x" + "zz" * 32, "0x" + "12" * 31 + " 1"])
def test_hashes_are_hashes_where_headers_prove_nothing(name: str, value: Any) -> None:
    async def scene() -> None:
        nodes = pool(URL, exceptions=("header_hash",))
        answering(nodes.nodes[0], bending("eth_getBlockByNumber", ("result", name), value, 0))
        with pytest.raises(Wrong):
            await nodes.header_at(nodes.nodes[0], NUMBER)
        with pytest.raises(Wrong):
            await Fetcher("header", ("header_hash",)).one(nodes.nodes[0], NUMBER, WANTS[1])

    asyncio.run(scene())


def test_a_lonely_liar_is_asked_in_measure() -> None:
    """Distrusted for long, and still the only one: a range ends in NoNode after its turns, with pauses."""

    async def scene() -> None:
        nodes = pool(URL)
        node = nodes.nodes[0]
        provider = answering(node, bending("eth_getBlockBy", ("result", "gasUsed"), [], 0))
        node.distrust("header_hash", "a lie")
        one = reader(nodes)
        for wanted in WANTS:
            asked = provider.asked
            with pytest.raises(NoNode):
                async with asyncio.timeout(30):
                    await one.range(NUMBER, NUMBER, wanted)
            assert provider.asked - asked <= 28  # logs, a batch, and three requests in each of its turns
        answering(node, honest)  # it is given up by nobody
        (found,) = await one.range(NUMBER, NUMBER, WANTS[0])
        assert found.hash == BLOCK["hash"]
        node.state.connected = False
        with pytest.raises(NoNode):
            await one.range(NUMBER, NUMBER, WANTS[0])

    asyncio.run(scene())


@pytest.mark.parametrize("receipts", [{}, "x", 5, [None], [5], [[]], {"status": "0x1"}])
def test_who_made_a_contract(receipts: Any) -> None:
    """Receipts that are none don't say that it was not made there."""

    async def ask(method: str, params: list[Any]) -> Any:
        return receipts

    contract: Any = SimpleNamespace(start_block=5, address="0x" + "12" * 20)
    with pytest.raises(Wrong):
        asyncio.run(Openings(ask)._made_in(contract))


# What can't be taken back


def heads(*hashes: str | type[Exception] | None) -> Nodes:
    """Nodes of which each has such a block NUMBER: a hash, None for none, or an error instead of an answer."""
    nodes = pool(*(f"http://node{at}" for at in range(len(hashes))), exceptions=("header_hash",))

    def tells(one: Any) -> Answers:
        if one is None or isinstance(one, str):
            return lambda *_: {"result": one and {**BLOCK, "hash": one}}
        return lambda *_: "neither result nor error"

    for node, one in zip(nodes.nodes, hashes, strict=True):
        answering(node, tells(one))
    return nodes


A, B, C = ("0x" + digit * 64 for digit in "abc")


@pytest.mark.parametrize(
    ("hashes", "wanted", "agreed"),
    [
        ((A,), 0, True),
        ((B,), 0, False),
        ((None,), 0, None),
        ((A, A), 0, True),
        ((A, B), 0, None),
        ((A, B), 1, True),
        ((A, A, B), 0, True),
        ((A, A, B), 3, None),
        ((A, B, C), 0, False),  # two have another, whichever
        ((A, None, NodeError), 0, None),
        ((B, None, NodeError), 0, None),  # one of three can't tell what most have
        ((A, A, NodeError), 0, True),
        ((A, A, B, B), 0, None),
        ((A, A, A, B, B), 0, True),
        ((B, B, B, A, A), 0, False),
        ((B, B, B, A, A), 2, True),  # as the setting would have it
    ],
)
def test_how_many_agree(hashes: Any, wanted: int, agreed: bool | None) -> None:
    for ours in (A, A.upper().replace("X", "x"), A[2:18]):
        assert asyncio.run(heads(*hashes).agreed(NUMBER, ours, wanted)) is agreed


def test_who_counts() -> None:
    async def scene() -> None:
        nodes = heads(A, A, A, A)
        assert (nodes.quorum(), nodes.quorum(1), nodes.quorum(4)) == (3, 1, 4)
        nodes.nodes[0].state.connected = nodes.nodes[1].state.connected = (
            False  # away: they count, and don't vote
        )
        assert nodes.quorum() == 3 and await nodes.agreed(NUMBER, A) is None
        nodes.nodes[0].state.connected = True
        nodes.nodes[0].distrust("header_hash")  # rests: its header proves itself
        assert await nodes.agreed(NUMBER, A) is True
        nodes.nodes[1].unusable = node_module.Unusable("of another chain")
        assert nodes.quorum() == 2

    asyncio.run(scene())


def test_the_slow_one_is_not_waited_for() -> None:
    async def scene() -> None:
        nodes = heads(A, A, A)

        async def never(*_: Any) -> Any:
            await asyncio.Event().wait()

        nodes.nodes[0]._w3.provider.make_request = never  # type: ignore[union-attr, method-assign]
        assert await nodes.agreed(NUMBER, A) is True
        assert len(asyncio.all_tasks()) <= 2 and nodes.nodes[0].state.failures == 0

    asyncio.run(scene())


def test_unreachable_is_no_lie() -> None:
    """A silent node is not distrusted, one of odd answers is."""
    node = node_of(honest)
    node.failed(Unreachable("x"))
    assert node.state.distrusted == 0
    node.failed(Wrong("malformed", "x"))
    assert node.state.distrusted == 1
