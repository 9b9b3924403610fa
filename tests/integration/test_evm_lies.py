"""The lying node in front of a true one: it tells each lie as it is described, counts it, and can be honest again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.support.anvil import anvil_node, missing
from tests.support.evm_chain import Chain, keys
from tests.support.evm_scenario import Scenario, build
from tests.support.lying_rpc import LyingRpc, lying_rpc
from tests.support.rpc_lies import BEHIND, LIES, SOCKET, TRANSPORT

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.xdist_group("evm_lies"),  # one chain for them all
]
CLIENT = httpx.Client(trust_env=False)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """A chain with logs, which no test of this file changes but by empty blocks."""
    with anvil_node(tmp_path_factory.mktemp("evm") / "anvil", slots_in_an_epoch=2) as anvil:
        made = Chain(anvil)
        scenario = Scenario(made, build(made), 3)
        scenario.run(10)
        for _ in range(4):
            made.call(0, scenario.world.coin, "mint", keys()[1].address, 100)
        made.mine()
        yield made


@pytest.fixture
def liar(chain: Chain) -> Iterator[LyingRpc]:
    with lying_rpc(chain.anvil.url, seed=1) as proxy:
        yield proxy


def ask(url: str, method: str, *params: Any, timeout: float = 5) -> httpx.Response:
    asked = {"jsonrpc": "2.0", "id": 7, "method": method, "params": list(params)}
    return CLIENT.post(url, json=asked, timeout=timeout)


def result(url: str, method: str, *params: Any) -> Any:
    return ask(url, method, *params).raise_for_status().json()["result"]


def requests(chain: Chain) -> dict[str, tuple[Any, ...]]:
    """One request for each method that can be lied about; the newest block has four logs."""
    head = hex(chain.head)
    return {
        "eth_getLogs": ({"fromBlock": "0x0", "toBlock": "latest"},),
        "eth_getBlockReceipts": (head,),
        "eth_getBlockByNumber": (head, False),
        "eth_getBlockByHash": (chain.blocks[-1].hash, False),
        "eth_blockNumber": (),
        "eth_chainId": (),
        "net_version": (),
    }


def test_honest_unless_told(chain: Chain, liar: LyingRpc) -> None:
    for method, params in requests(chain).items():
        assert result(liar.url, method, *params) == chain.anvil.rpc(method, *params)
    batch = [{"jsonrpc": "2.0", "id": i, "method": "eth_blockNumber", "params": []} for i in range(3)]
    assert len(CLIENT.post(liar.url, json=batch).json()) == 3
    assert "error" in ask(liar.url, "eth_noSuchThing").json()
    assert not liar.told and liar.asked["eth_blockNumber"] == 4


CONTENT = [
    (name, method)
    for name, lie in LIES.items()
    for method in lie.methods
    if name not in ("stale", "early_finality")
]


@pytest.mark.parametrize(("name", "method"), CONTENT)
def test_lies_about_content(chain: Chain, liar: LyingRpc, name: str, method: str) -> None:
    """Told once as asked for, then the truth again."""
    params = requests(chain)[method]
    if name == "old_head" and params:
        params = ("latest", False)
    true = chain.anvil.rpc(method, *params)
    liar.lie(name, times=1)
    told = result(liar.url, method, *params)
    assert told != true and liar.told == {name: 1}
    assert WHAT_IT_SAYS[name](told, true)
    assert result(liar.url, method, *params) == true


def _differing(told: dict[str, Any], true: dict[str, Any]) -> set[str]:
    return {name for name in true if told[name] != true[name]}


def _one_receipt(field: str) -> Any:
    return lambda told, true: (
        [d for a, b in zip(told, true, strict=True) if (d := _differing(a, b))] == [{field}]
    )


WHAT_IT_SAYS: dict[str, Any] = {
    "omit_log": lambda told, true: len(told) == len(true) - 1 and all(log in true for log in told),
    "omit_all_logs": lambda told, true: told == [] and true,
    "repeat_log": lambda told, true: told[:-1] == true and told[-1] in true,
    "alter_log": _one_receipt("data"),
    "short_receipts": lambda told, true: told == true[:-1],
    "no_receipts": lambda told, _: told is None,
    "receipt_without_log": lambda told, true: (
        sum(len(r["logs"]) for r in told) == sum(len(r["logs"]) for r in true) - 1
    ),
    "alter_gas_used": _one_receipt("gasUsed"),
    "alter_gas_price": _one_receipt("effectiveGasPrice"),
    "null_block": lambda told, _: told is None,
    "empty_bloom": lambda told, true: (
        _differing(told, true) == {"logsBloom"} and int(told["logsBloom"], 16) == 0
    ),
    "alter_hash": lambda told, true: _differing(told, true) == {"hash"},
    "alter_parent": lambda told, true: _differing(told, true) == {"parentHash"},
    "omit_transaction": lambda told, true: told["transactions"] == true["transactions"][:-1],
    "wrong_block": lambda told, true: abs(int(told["number"], 16) - int(true["number"], 16)) == 1,
    "wrong_receipts": lambda told, true: all(r not in true for r in told),
    "old_head": lambda told, true: _number(true) - _number(told) == BEHIND,
    "other_chain": lambda told, true: told != true,
}


def _number(found: Any) -> int:
    return int(found if isinstance(found, str) else found["number"], 16)


def test_early_finality_and_stale_answers(chain: Chain, liar: LyingRpc) -> None:
    liar.lie("stale")
    before = result(liar.url, "eth_getBlockByNumber", "latest", False)
    assert not liar.told  # nothing earlier to tell
    chain.empty(1)
    assert result(liar.url, "eth_getBlockByNumber", "latest", False) == before
    liar.honest()
    chain.rollback(1)
    liar.lie("early_finality")
    assert result(liar.url, "eth_getBlockByNumber", "finalized", False)["number"] == hex(chain.head)
    assert liar.told == {"stale": 1, "early_finality": 1}


def test_a_lie_that_does_not_fit_is_not_told(chain: Chain, liar: LyingRpc) -> None:
    for name in ("omit_log", "alter_log", "wrong_block"):
        liar.lie(name)
    assert result(liar.url, "eth_getLogs", {"address": f"0x{9:040x}"}) == []
    assert result(liar.url, "eth_getBlockByNumber", "latest", False) == chain.anvil.block()
    assert not liar.told


def test_lies_about_transport(chain: Chain, liar: LyingRpc) -> None:
    liar.hang_s = 30
    said = {}
    for name in TRANSPORT:
        liar.lie(name, times=1, methods=["eth_getLogs"])
        try:
            patience = 0.5 if name == "hang" else 60
            answer = ask(liar.url, *("eth_getLogs", {"fromBlock": "0x0"}), timeout=patience)
            said[name] = (answer.status_code, answer.headers["content-type"].split(";")[0], answer.text)
        except httpx.TransportError as error:
            said[name] = (0, type(error).__name__, "")
    assert {name: found[:2] for name, found in said.items()} == {
        "too_many": (429, "text/plain"), "hang": (0, "ReadTimeout"), "html": (200, "text/html"),
        "bad_gateway": (502, "text/html"), "cut_json": (200, "application/json"), "empty": (200, "application/json"),
        "drop": (0, "RemoteProtocolError"), "wrong_id": (200, "application/json"), "error": (200, "application/json"),
    }  # fmt: skip
    with pytest.raises(json.JSONDecodeError):
        json.loads(said["cut_json"][2])
    assert json.loads(said["wrong_id"][2])["id"] != 7
    assert json.loads(said["error"][2])["error"]["code"] == -32000
    assert liar.told == dict.fromkeys(TRANSPORT, 1)
    assert result(liar.url, "eth_getLogs", {"fromBlock": "0x0"}) == chain.anvil.rpc(
        "eth_getLogs", {"fromBlock": "0x0"}
    )


def test_refuses_long_ranges(chain: Chain, liar: LyingRpc) -> None:
    liar.log_range = 4
    assert (
        ask(liar.url, "eth_getLogs", {"fromBlock": "0x1", "toBlock": "0x5"}).json()["error"]["code"] == -32005
    )
    asked = {"fromBlock": "0x2", "toBlock": "0x5"}
    assert result(liar.url, "eth_getLogs", asked) == chain.anvil.rpc("eth_getLogs", asked)


def test_shares_are_drawn_from_the_seed(chain: Chain) -> None:
    def run(seed: int) -> list[str]:
        with lying_rpc(chain.anvil.url, seed) as liar:
            liar.lie("old_head", share=0.3)
            return [result(liar.url, "eth_blockNumber") for _ in range(60)]

    assert run(1) == run(1) != run(2)
    assert 5 < sum(said != hex(chain.head) for said in run(1)) < 30


def test_the_true_node_is_away(tmp_path: Path) -> None:
    with anvil_node(tmp_path / "anvil") as anvil, lying_rpc(anvil.url) as liar:
        anvil.kill()
        assert ask(liar.url, "eth_chainId").status_code == 502
        anvil.start()
        assert result(liar.url, "eth_chainId") == hex(31337)


def test_sockets(chain: Chain, liar: LyingRpc) -> None:
    """Requests and heads pass; heads are left out or come twice, answers lie, and the connection drops."""

    async def scene() -> None:
        async with connect(liar.ws_url, proxy=None, max_size=None) as socket:

            async def rpc(method: str, *params: Any) -> Any:
                await socket.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
                async with asyncio.timeout(5):
                    return json.loads(await socket.recv())["result"]

            async def heads(blocks: int) -> list[int]:
                await asyncio.to_thread(chain.empty, blocks)
                seen = []
                try:
                    async with asyncio.timeout(0.3):
                        while True:
                            seen.append(
                                int(json.loads(await socket.recv())["params"]["result"]["number"], 16)
                            )
                except TimeoutError:
                    return [number - first for number in seen]

            first = chain.head
            assert await rpc("eth_subscribe", "newHeads")
            assert await heads(3) == [1, 2, 3]
            liar.lie("skip_head", times=1)
            assert await heads(2) == [5]
            liar.lie("repeat_head", times=1)
            assert await heads(2) == [6, 6, 7]
            liar.lie("omit_log", times=1)
            asked = {"fromBlock": "0x0", "toBlock": hex(first)}
            assert len(await rpc("eth_getLogs", asked)) == len(chain.anvil.rpc("eth_getLogs", asked)) - 1
            liar.log_range = 1
            await socket.send(
                json.dumps({"jsonrpc": "2.0", "id": 2, "method": "eth_getLogs", "params": [asked]})
            )
            assert json.loads(await socket.recv())["error"]["code"] == -32005
            liar.lie("cut_json", times=1)
            await socket.send('{"jsonrpc":"2.0","id":3,"method":"eth_chainId","params":[]}')
            with pytest.raises(json.JSONDecodeError):
                json.loads(await socket.recv())
            liar.lie("hang", times=1)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await socket.send('{"jsonrpc":"2.0","id":4,"method":"eth_chainId","params":[]}')
                    await socket.recv()
            liar.lie("drop_ws", times=1)
            await asyncio.to_thread(chain.empty, 1)
            with pytest.raises(ConnectionClosed):
                async with asyncio.timeout(5):
                    await socket.recv()

    asyncio.run(scene())
    assert {name: liar.told[name] for name in SOCKET} == dict.fromkeys(SOCKET, 1)
