"""Openings: what accounts held before a contract's books begin, asked of a real node; and of nodes that lack it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from web3.contract import Contract

from pipeline.domain.decode.evm import decode_block
from pipeline.ingest.evm.config import read_config
from pipeline.ingest.evm.errors import NodeError, NoNode, Unreachable, Wrong, error_of
from pipeline.ingest.evm.openings import Openings, judge
from pipeline.ingest.evm.watch import Watched
from schemas.records import EvmTransaction
from tests.support.anvil import RpcError, anvil_node, missing
from tests.support.evm_chain import Chain, keys

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

# As nodes and providers say it: geth, its path scheme, erigon, nethermind, reth, besu, anvil, hosted ones.
GONE = (
    {"code": -32000, "message": "missing trie node 7d1 (path ) state 0x7d is not available, not found"},
    {"code": -32000, "message": "required historical state unavailable (reexec=128)"},
    {"code": -32000, "message": "historical state 7d1 is not available"},
    {"code": -32000, "message": "old data not available due to pruning"},
    {"code": -32002, "message": "No state available for block 0x7d1"},
    {"code": -32000, "message": "distance to target block exceeds maximum proof window"},
    {"code": -32603, "message": "World state unavailable"},
    {"code": -32602, "message": "BlockOutOfRangeError: block height is 3 but requested was 9"},
    {"code": -32001, "message": "header not found"},
    {"code": 4444, "message": "pruned history unavailable"},
    {"code": -32000, "message": "This request requires an archive plan"},
)
REVERTED = (
    {"code": 3, "message": "execution reverted: token does not exist", "data": "0x"},
    {"code": -32015, "message": "VM execution error."},
    {"code": -32000, "message": "invalid opcode: opcode 0xfe not defined"},
    {"code": -32000, "message": "out of gas"},
    {"code": -32000, "message": "execution reverted: state not available"},
)
ODD = {"code": -32099, "message": "hic sunt dracones"}


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    with anvil_node(tmp_path / "anvil") as node:
        yield Chain(node)


class Node:
    """What `ask` is to Openings: the real node, but for what it is told to refuse."""

    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self.asked: list[tuple[str, str]] = []  # method, block
        self.refused: dict[str, Any] = {}  # method -> error object, exception or answer
        self.from_block = 0  # the states below are refused
        self.times: int | None = None  # how often; None: always

    async def __call__(self, method: str, params: list[Any]) -> Any:
        await asyncio.sleep(0)
        self.asked.append((method, params[-1]))
        below = params[-1] != "latest" and int(params[-1], 16) < self.from_block
        if below and self.times != 0 and (said := self.refused.get(method)) is not None:
            self.times = self.times - 1 if self.times is not None else None
            if isinstance(said, BaseException):
                raise said
            if not isinstance(said, dict):
                return said
            raise error_of("archive.example.com", method, said)
        try:
            return self.chain.anvil.rpc(method, *params)
        except RpcError as error:
            raise error_of("anvil", method, {"code": error.code, "message": str(error)}) from None


def watched(directory: Path, start: int, **kinds: Contract) -> Watched:
    """These contracts from `start` on, by kind."""
    text = '[[chain]]\nname = "eip155:31337"\nurls = ["http://127.0.0.1:1"]\n'
    for kind, contract in kinds.items():
        text += (
            f'[[chain.contract]]\naddress = "{contract.address}"\nkind = "{kind}"\nstart_block = {start}\n'
        )
    (directory / "evm.toml").write_text(text)
    return Watched(read_config(directory / "evm.toml", {})["eip155:31337"])


def cover(openings: Openings, among: Watched) -> list[str]:
    async def ask() -> list[str]:
        found = [(one.address, await openings.coverage(one)) for one in among]
        return [among.cover(address, coverage).coverage for address, coverage in found]

    return asyncio.run(ask())


def transactions(chain: Chain, among: Watched) -> list[EvmTransaction]:
    """All of interest from the start block to the head."""
    found = []
    for number in range(among.config.start_block, chain.head + 1):
        block = chain.anvil.block(number)
        assert block is not None
        found += decode_block(
            block, chain.anvil.receipts(number), among.contracts_at(number), among.config.decode_chain
        )[1]
    return found


def rows(of: list[EvmTransaction]) -> list[Any]:
    return [row for transaction in of for row in transaction["balance_changes"]]


def lived(chain: Chain) -> tuple[Contract, Contract, Contract, int]:
    """Three tokens that have moved, then a start block, then they move again; the start block."""
    coin, nft, multi = chain.deploy("Erc20", "Coin", "C", 6), chain.deploy("Erc721"), chain.deploy("Erc1155")
    chain.mine()
    one, two = (keys()[n].address for n in (1, 2))
    chain.call(0, coin, "mint", one, 2**200)
    for token in range(3):
        chain.call(0, nft, "mint", one, token)
    chain.call(0, multi, "mintBatch", one, [14, 15], [40, 50])
    chain.mine()
    chain.call(1, coin, "transfer", two, 30)
    chain.mine()
    start = chain.head + 1
    chain.call(1, coin, "transfer", two, 70)
    chain.call(1, nft, "transferFrom", one, two, 2)
    chain.call(1, multi, "safeTransferFrom", one, two, 15, 20, b"")
    chain.mine()
    chain.call(2, coin, "transfer", keys()[3].address, 100)
    chain.mine()
    return coin, nft, multi, start


def test_openings_are_what_the_node_held(chain: Chain, tmp_path: Path) -> None:
    """Opening + all changes = balanceOf at the head, for each account and asset; each asked once, at one block."""
    coin, nft, multi, start = lived(chain)
    node = Node(chain)
    openings, among = Openings(node), watched(tmp_path, start, erc20=coin, erc721=nft, erc1155=multi)
    assert cover(openings, among) == ["opened"] * 3
    told = transactions(chain, among)
    node.asked.clear()
    asyncio.run(openings.fill(told, among))
    asked = len(node.asked)
    assert {block for _, block in node.asked} == {hex(start - 1)}
    held: dict[tuple[str, str], int] = {}
    for row in rows(told):
        held.setdefault((row["account"], row["asset"]), int(row["opening"]))
        held[row["account"], row["asset"]] += int(row["change"])
    one, two, three = (keys()[n].address.lower() for n in (1, 2, 3))
    assert asked == len(held) == 7
    for (account, asset), balance in held.items():
        contract = {"erc20": coin, "erc721": nft, "erc1155": multi}[asset.partition(":")[0]]
        args = [chain.w3.to_checksum_address(account), *map(int, asset.split("/")[1:])]
        assert contract.functions.balanceOf(*args).call() == balance, (account, asset)
    first = {(row["account"], row["asset"][:6]): row["opening"] for row in rows(told)}
    assert (
        first[one, "erc20:"] == str(2**200 - 30)
        and first[two, "erc20:"] == "30"
        and first[three, "erc20:"] == "0"
    )
    assert first[one, "erc721"] == "3" and first[one, "erc115"] == "50"
    assert not any(row["partial"] for row in rows(told))
    again = transactions(chain, among)
    asyncio.run(openings.fill(again, among))
    assert rows(again) == rows(told) and len(node.asked) == asked


def test_few_are_kept_and_all_are_right(chain: Chain, tmp_path: Path) -> None:
    coin, nft, multi, start = lived(chain)
    among = watched(tmp_path, start, erc20=coin, erc721=nft, erc1155=multi)
    many, few = Openings(Node(chain)), Openings(Node(chain), kept=2, parallel=1)
    cover(many, among)
    told, again = transactions(chain, among), transactions(chain, among)
    asyncio.run(many.fill(told, among))
    asyncio.run(few.fill(again, among))
    assert rows(told) == rows(again) and len(few._balances) == 2


def test_a_contract_made_later_is_complete(chain: Chain, tmp_path: Path) -> None:
    chain.empty(2)
    coin = chain.deploy("Erc20", "Coin", "C", 6)
    chain.mine()
    chain.call(0, coin, "mint", keys()[1].address, 5)
    chain.mine()
    node = Node(chain)
    for start in (0, 1, 3):  # genesis, before it, its creation
        openings, among = Openings(node), watched(tmp_path, start, erc20=coin)
        assert cover(openings, among) == ["complete"]
        told = transactions(chain, among)
        asyncio.run(openings.fill(told, among))
        assert [(row["opening"], row["partial"]) for row in rows(told)] == [(None, False)]
    assert cover(Openings(node), watched(tmp_path, 4, erc20=coin)) == ["opened"]
    assert [method for method, _ in node.asked].count("eth_call") == 1


def test_contracts_without_balances_are_not_asked(chain: Chain, tmp_path: Path) -> None:
    node = Node(chain)
    guard = chain.deploy("Oddities")
    chain.mine()
    chain.empty(2)
    assert cover(Openings(node), watched(tmp_path, 2, mint_guard=guard)) == ["complete"] and not node.asked


@pytest.mark.parametrize("said", GONE, ids=lambda said: said["message"][:20])
@pytest.mark.parametrize("method", ["eth_getCode", "eth_call"])
def test_nodes_that_have_forgotten(chain: Chain, tmp_path: Path, method: str, said: Any) -> None:
    coin, _, _, start = lived(chain)
    node, among = Node(chain), watched(tmp_path, start, erc20=coin)
    node.refused, node.from_block = {method: said}, start
    openings = Openings(node, pause_s=0)
    assert cover(openings, among) == ["partial"]
    node.asked.clear()
    told = transactions(chain, among)
    asyncio.run(openings.fill(told, among))
    assert told and all(row["partial"] and row["opening"] is None for row in rows(told)) and not node.asked


def test_a_node_that_has_forgotten_still_tells_a_creation(chain: Chain, tmp_path: Path) -> None:
    """Its receipts name what a transaction of the start block made: nothing was before."""
    chain.empty(2)
    coin = chain.deploy("Erc20", "Coin", "C", 6)
    chain.mine()
    node = Node(chain)
    node.refused, node.from_block = {"eth_getCode": GONE[0]}, 3
    assert cover(Openings(node), watched(tmp_path, 3, erc20=coin)) == ["complete"]


@pytest.mark.parametrize("failure", [Unreachable("away"), NoNode("none"), Wrong("malformed", "x"), None])
def test_who_is_away_has_refused_nothing(chain: Chain, tmp_path: Path, failure: Any) -> None:
    coin, _, _, start = lived(chain)
    node, among = Node(chain), watched(tmp_path, start, erc20=coin)
    openings = Openings(node, pause_s=0)
    node.from_block = start
    answers = [failure] if failure is not None else [None, "0xzz", "<html>", 7, ""]
    for method in ("eth_getCode", "eth_call"):
        for answer in answers:
            node.refused = {
                method: answer if answer is not None else {"code": 429, "message": "too many requests"}
            }
            with pytest.raises((NodeError, NoNode)):
                cover(openings, among)
    node.refused = {}
    assert cover(openings, among) == ["opened"]
    told = transactions(chain, among)
    node.refused = {"eth_call": failure or "<html>"}
    with pytest.raises((NodeError, NoNode)):
        asyncio.run(openings.fill(told, among))
    node.refused = {}
    asyncio.run(openings.fill(told, among))
    assert all(row["opening"] is not None for row in rows(told))


def test_odd_words_are_asked_again_then_told_apart(chain: Chain, tmp_path: Path) -> None:
    coin, _, _, start = lived(chain)
    node, among = Node(chain), watched(tmp_path, start, erc20=coin)
    openings = Openings(node, pause_s=0)
    node.from_block, node.refused, node.times = start, {"eth_call": ODD, "eth_getCode": ODD}, 2
    assert cover(openings, among) == ["opened"]  # the third answer stands
    node.times, node.refused = None, {"eth_getBalance": ODD, "eth_call": ODD, "eth_getCode": ODD}
    assert cover(openings, among) == ["partial"]  # of that block nothing is told, of the newest it is
    told = transactions(chain, among)
    among.cover(coin.address.lower(), "opened")
    with pytest.raises(NoNode, match="add an archive node to urls"):  # once it was told: no flapping
        asyncio.run(openings.fill(told, among))
    node.refused = {"eth_call": ODD}
    asyncio.run(openings.fill(told, among))  # the state is there, the call fails
    assert all(row["partial"] for row in rows(told))


@pytest.mark.parametrize("said", [*REVERTED, "0x", "0x00", "0x" + "ff" * 31])
def test_balances_that_a_contract_does_not_tell_are_partial(chain: Chain, tmp_path: Path, said: Any) -> None:
    coin, _, _, start = lived(chain)
    node, among = Node(chain), watched(tmp_path, start, erc20=coin)
    openings = Openings(node, pause_s=0)
    node.from_block, node.refused = start, {"eth_call": said}
    assert cover(openings, among) == ["opened"]
    told = transactions(chain, among)
    asyncio.run(openings.fill(told, among))
    assert told and all(row["partial"] and row["opening"] is None for row in rows(told))


def test_a_real_contract_without_balance_of(chain: Chain, tmp_path: Path) -> None:
    """It is declared as a token and is none: its calls revert, as anvil says it."""
    odd = chain.deploy("Oddities")
    chain.mine()
    chain.empty(1)
    chain.call(0, odd, "many", 1)
    chain.mine()
    node, among = Node(chain), watched(tmp_path, 3, erc20=odd)
    openings = Openings(node)
    assert cover(openings, among) == ["opened"]
    told = transactions(chain, among)
    row: Any = {"account": keys()[1].address.lower(), "asset": f"erc20:{odd.address.lower()}", "change": "1",
                "opening": None, "partial": False}  # fmt: skip
    told[0]["balance_changes"] = [row]
    asyncio.run(openings.fill(told, among))
    assert row["partial"] and row["opening"] is None


def test_what_nobody_declared_and_what_was_not_asked(chain: Chain, tmp_path: Path) -> None:
    coin, _, _, start = lived(chain)
    among = watched(tmp_path, start, erc20=coin)
    with pytest.raises(ValueError, match="its coverage was not asked"):
        asyncio.run(Openings(Node(chain)).fill(transactions(chain, among), among))
    for first, partial in ((0, False), (start, True)):
        text = (
            f'[[chain]]\nname = "eip155:31337"\nurls = ["ws://a"]\neverything = true\nstart_block = {first}'
        )
        (tmp_path / "all.toml").write_text(text)
        everything = Watched(read_config(tmp_path / "all.toml", {})["eip155:31337"])
        told = transactions(chain, everything)
        asyncio.run(Openings(Node(chain)).fill(told, everything))
        assert {row["partial"] for row in rows(told)} == {partial}


def test_texts_are_judged_without_the_hosts_name() -> None:
    for said in GONE:
        assert judge(error_of("x", "eth_call", said), "eth_call") == "gone", said
    for said in REVERTED:
        assert judge(error_of("x", "eth_call", said), "eth_call") == "reverted", said
    for host in ("archive.example.com", "pruned-1.example"):
        assert judge(error_of(host, "eth_call", ODD), "eth_call") == "unknown"
