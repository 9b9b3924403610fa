"""Reading blocks of a real node, through neighbours that lie: what comes is the node's own, bit by bit, or nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.ingest.evm.nodes import Missing, Nodes, NoNode
from pipeline.ingest.evm.read import Span, Want
from tests.support.anvil import Anvil, anvil_node, missing
from tests.support.evm_chain import Chain, keys
from tests.support.evm_nodes_help import assert_true, hasten, pool, read_block, read_range, reader, want
from tests.support.evm_scenario import Scenario, World, build
from tests.support.lying_rpc import LyingRpc, lying_rpc
from tests.support.rpc_lies import TRANSPORT

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.xdist_group("evm_read"),  # one chain for them all
]
LEVELS = ("header", "full")


class Ground:
    """A chain with logs that no test changes, and who is watched on it."""

    def __init__(self, chain: Chain, world: World) -> None:
        self.chain, self.world, self.anvil, self.head = chain, world, chain.anvil, chain.head
        self.contracts = [world.coin.address, world.nft.address]
        self.whose = keys()[3].address

    def wants(self) -> dict[str, Want]:
        return {
            "contracts": want(*self.contracts),
            "addresses": want(watched=[self.whose]),
            "both": want(*self.contracts, watched=[self.whose]),
            "everything": want(everything=True),
            "nothing": want(),
        }


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with anvil_node(tmp_path_factory.mktemp("evm") / "anvil", slots_in_an_epoch=2) as anvil:
        chain = Chain(anvil)
        scenario = Scenario(chain, build(chain), 7)
        scenario.run(10)
        chain.empty(2)
        yield Ground(chain, scenario.world)


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("socket", [False, True])
def test_equals_the_node(ground: Ground, level: str, socket: bool) -> None:
    """Block by block and in ranges; what is not read is not there."""

    async def scene() -> Counter[str]:
        left_out: Counter[str] = Counter()
        async with pool(ground.anvil.ws_url if socket else ground.anvil.url) as nodes:
            await nodes.ready(60)
            for name, wanted in ground.wants().items():
                one = reader(nodes, level)
                ranged = await one.range(0, ground.head, wanted)
                assert len(ranged) == ground.head + 1
                single = [await one.block(number, wanted) for number in range(ground.head + 1)]
                for found in (ranged, single):
                    assert_true(ground.anvil, found, 0)
                left_out[name] = sum(one.receipts is None for one in single)
                assert left_out[name] == sum(one.receipts is None for one in ranged)
            assert not nodes.count_caught
        return left_out

    left_out = asyncio.run(scene())
    if level == "full":
        assert not any(left_out.values())
    else:
        assert left_out["nothing"] == ground.head + 1
        assert 0 < left_out["both"] <= left_out["contracts"] < ground.head and not left_out["everything"]


def test_checks_say_what_is_proven(ground: Ground) -> None:
    async def scene() -> None:
        async with pool(ground.anvil.url) as nodes:
            await nodes.ready(60)
            rich = ground.world.deployed
            for level, wanted, made in (
                ("header", want(), {"header_hash"}),
                ("header", want("0x" + "77" * 20), {"header_hash", "logs"}),
                ("header", want(watched=["0x" + "77" * 20]), {"header_hash", "transactions_root", "senders"}),
                ("full", want(), WHOLE),
                ("header", want(*ground.contracts), WHOLE),
            ):
                (ranged,) = await reader(nodes, level).range(rich, rich, wanted)
                names = {check["name"] for check in ranged.checks if check["outcome"] == "holds"}
                assert names - {"logs"} == made - {"logs"} and len(names) >= len(ranged.checks)
            assert "logs" in {check["name"] for check in ranged.checks}

    asyncio.run(scene())


WHOLE = {
    "header_hash", "positions", "log_index", "logs_bloom", "gas_used", "receipts_root", "transactions_root",
    "senders", "derived_fields",
}  # fmt: skip

# Each lie, and the words under which it is caught.
CONTENT = {
    "short_receipts": {"positions"},
    "no_receipts": {"not_found"},
    "receipt_without_log": {"logs_bloom", "log_index", "receipts_root"},
    "alter_gas_used": {"gas_used"},
    "alter_gas_price": {"derived_fields"},
    "null_block": {"not_found"},
    "empty_bloom": {"header_hash"},
    "alter_hash": {"header_hash", "positions"},
    "alter_parent": {"header_hash"},
    "omit_transaction": {"positions", "transactions_root", "gas_used"},
    "wrong_block": {"order"},
    "wrong_receipts": {"positions"},
}
LOGS = {
    "omit_log": {"missing_log"},
    "omit_all_logs": {"missing_log"},
    "repeat_log": {"duplicate_log"},
    "alter_log": {"changed_log"},
}
CARRIED = {
    "too_many": {"busy"},
    "hang": {"unreachable"},
    "html": {"unreachable"},
    "bad_gateway": {"unreachable"},
    "cut_json": {"unreachable"},
    "empty": {"unreachable"},
    "drop": {"unreachable"},
    "wrong_id": {"unreachable"},
    "error": {"busy"},
}


def test_all_lies_are_tried() -> None:
    assert set(CARRIED) == set(TRANSPORT)


@pytest.mark.parametrize("alone", [False, True], ids=["pair", "alone"])
@pytest.mark.parametrize("lie", [*CONTENT, *LOGS, *CARRIED])
def test_nothing_wrong_comes_through(ground: Ground, lie: str, alone: bool) -> None:
    """A node that lies in four of ten answers, with an honest one and all by itself."""
    caught = {**CONTENT, **LOGS, **CARRIED}[lie]

    async def scene(liar: LyingRpc, nodes: Nodes) -> None:
        await nodes.ready(60)
        methods = ["eth_getBlockByNumber", "eth_getBlockReceipts", "eth_getLogs"] if lie in CARRIED else None
        liar.lie(lie, share=0.1 if lie == "hang" else 0.4, methods=methods)
        for _ in range(30):
            for level in LEVELS if lie not in LOGS else LEVELS[:1]:
                one, wanted = reader(nodes, level), want(*ground.contracts)
                if lie == "wrong_receipts":  # told only to who asks by number
                    one._fetcher._ways = dict.fromkeys(nodes.nodes, 1)
                assert_true(ground.anvil, await read_range(one, 1, ground.head, wanted), 1)
                single = [await read_block(one, number, wanted) for number in range(4, ground.head, 4)]
                for found in single:
                    assert_true(ground.anvil, [found], found.number)
            if liar.told[lie] > 2 and caught & set(nodes.count_caught):
                break
        liar.honest()

    async def run(liar: LyingRpc) -> Counter[str]:
        urls = [liar.url] if alone else [liar.url, ground.anvil.url]
        async with pool(*urls, timeout_s=0.2 if lie == "hang" else 3.0) as nodes:
            await scene(liar, nodes)
            return nodes.count_caught

    with lying_rpc(ground.anvil.url, seed=5) as liar:
        liar.retry_after = "0.02"
        counted = asyncio.run(run(liar))
        assert liar.told[lie] > 0
        assert caught & set(counted), counted


@pytest.mark.parametrize("lie", ["receipt_without_log", "alter_hash", "cut_json", "hang"])
def test_nothing_wrong_comes_through_a_socket(ground: Ground, lie: str) -> None:
    async def scene(liar: LyingRpc) -> Counter[str]:
        async with pool(liar.ws_url, timeout_s=0.2 if lie == "hang" else 3.0) as nodes:
            await nodes.ready(60)
            liar.lie(lie, share=0.03 if lie == "hang" else 0.15)
            found = await read_range(reader(nodes, "full"), 1, ground.head, want())
            assert_true(ground.anvil, found, 1)
            return nodes.count_caught

    with lying_rpc(ground.anvil.url, seed=6) as liar:
        assert asyncio.run(scene(liar)) and liar.told[lie]


def test_many_lies_at_once(ground: Ground) -> None:
    """Two liars of different seeds, and everything is read in the end."""

    async def scene(liars: list[LyingRpc]) -> None:
        async with pool(*(liar.url for liar in liars), timeout_s=0.4) as nodes:
            await nodes.ready(60)
            for liar in liars:
                for lie in (*CONTENT, *LOGS, "html", "cut_json", "error", "drop"):
                    liar.lie(lie, share=0.04)
            for level in LEVELS:
                found = await read_range(reader(nodes, level), 1, ground.head, want(*ground.contracts))
                assert_true(ground.anvil, found, 1)
            assert len(nodes.count_caught) > 3

    with lying_rpc(ground.anvil.url, seed=1) as one, lying_rpc(ground.anvil.url, seed=2) as other:
        asyncio.run(scene([one, other]))


def test_ranges_adapt_to_what_the_node_bears(ground: Ground) -> None:
    async def scene(liar: LyingRpc) -> None:
        async with pool(liar.url) as nodes:
            await nodes.ready(60)
            one = reader(nodes, log_range=64)
            liar.log_range = 3
            for _ in range(3):
                assert_true(ground.anvil, await one.range(1, ground.head, want(*ground.contracts)), 1)
            assert one.span.size <= 3 and nodes.count_caught["too_large"]
            liar.log_range = None
            assert set(nodes.count_caught) == {"too_large"}
            for _ in range(40):
                await one.range(1, ground.head, want(*ground.contracts))
            assert one.span.size > 3  # tried again after a while

    with lying_rpc(ground.anvil.url) as liar:
        asyncio.run(scene(liar))


def test_span() -> None:
    span = Span(100)
    span.refused(100)
    assert span.size == 50
    sizes = []
    for _ in range(4):
        span.answered(span.size, 10, 0.1)
        sizes.append(span.size)
    assert sizes == [75, 99, 99, 99]  # 100 were too many
    span.answered(99, 6000, 0.1)
    assert span.size == 49
    span.answered(49, 10, 5.0)
    assert span.size == 49  # slow
    span.answered(5, 10, 0.1)
    assert span.size == 49  # the end of a range says nothing
    for _ in range(12):
        span.refused(span.size)
    assert span.size == 1


def test_receipts_in_other_ways(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes without eth_getBlockReceipts by hash, and without it at all."""
    refused: list[Any] = []

    async def scene(refuse: Any) -> None:
        async with pool(ground.anvil.url) as nodes:
            await nodes.ready(60)
            node = nodes.nodes[0]
            plain = node._result

            def result(method: str, answer: Any) -> Any:
                return plain(method, refuse(method, answer))

            monkeypatch.setattr(node, "_result", result)
            one = reader(nodes, "full")
            assert_true(ground.anvil, await read_range(one, 1, ground.head, want()), 1)
            assert_true(ground.anvil, [await one.block(4, want())], 4)

    def by_hash(method: str, answer: Any) -> Any:
        by_way = refused.count(method)
        if method == "eth_getBlockReceipts" and by_way < 1:
            refused.append(method)
            return {
                "id": 1,
                "error": {"code": -32602, "message": "invalid argument 0: hex string has length 64"},
            }
        return answer

    def at_all(method: str, answer: Any) -> Any:
        if method == "eth_getBlockReceipts":
            return {
                "id": 1,
                "error": {"code": -32601, "message": "the method does not exist/is not available"},
            }
        return answer

    asyncio.run(scene(by_hash))
    asyncio.run(scene(at_all))


def test_a_block_that_is_not_there(ground: Ground) -> None:
    async def scene() -> None:
        async with pool(ground.anvil.url, ground.anvil.ws_url) as nodes:
            await nodes.ready(60)
            with pytest.raises(Missing):
                await reader(nodes).block(ground.head + 1, want())
            with pytest.raises(Missing):
                await reader(nodes).range(ground.head + 1, ground.head + 3, want())
            got = await reader(nodes).range(ground.head - 1, ground.head + 3, want())
            assert [one.number for one in got] == [ground.head - 1, ground.head]

    asyncio.run(scene())


def test_what_no_node_can_prove_lowers_the_verdict(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that all nodes leave out is not_applicable; an exception of the settings too, and asks nobody again."""

    async def scene(exceptions: tuple[str, ...]) -> Any:
        async with pool(ground.anvil.url, ground.anvil.url) as nodes:
            await nodes.ready(60)
            await asyncio.sleep(0.05)
            for node in nodes.nodes:
                monkeypatch.setattr(node, "_result", _without_status(node._result))
            one = reader(nodes, "full", exceptions)
            found = await one.block(4, want())
            before = sum(node.state.requests for node in nodes.nodes)
            await one.block(4, want())
            asked = sum(node.state.requests for node in nodes.nodes) - before
            outcome = {check["name"]: check["outcome"] for check in found.checks}["receipts_root"]
            return outcome, asked < 14, dict(nodes.count_caught)

    assert asyncio.run(scene(())) == ("not_applicable", True, {})
    assert asyncio.run(scene(("receipts_root",))) == ("not_applicable", True, {})


def _without_status(plain: Any) -> Any:
    def result(method: str, answer: Any) -> Any:
        found = plain(method, answer)
        if method != "eth_getBlockReceipts":
            return found
        return [{name: value for name, value in one.items() if name != "status"} for one in found]

    return result


def test_a_blob_block_needs_an_exception(tmp_path: Any) -> None:
    """anvil's transactions root of it is not Ethereum's: refused, unless the settings except the chain from it."""

    async def scene(anvil: Anvil) -> None:
        async with pool(anvil.url) as nodes:
            await nodes.ready(60)
            with pytest.raises(NoNode, match="transactionsRoot"):
                await reader(nodes, "full").block(1, want())
            found = await reader(nodes, "full", ["transactions_root"]).block(1, want())
            assert {"name": "transactions_root", "outcome": "not_applicable"}.items() <= next(
                check.items() for check in found.checks if check["name"] == "transactions_root"
            )

    with anvil_node(tmp_path / "anvil") as anvil:
        chain = Chain(anvil)
        chain.send(1, keys()[2].address, value=1, gas=30_000, kind="blob")
        chain.mine()
        asyncio.run(scene(anvil))
