"""Unreliable contracts: their logs held against what a real node says, and nodes that lie or do not say."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from pipeline.ingest.evm.config import read_config
from pipeline.ingest.evm.errors import Missing, NoNode, Unreachable, Wrong, error_of
from pipeline.ingest.evm.reliable import Change, Reliability, alert_of, asks_of, changes_to_check
from pipeline.ingest.evm.watch import Watched
from schemas.codec import local_codec
from tests.support.anvil import RpcError, anvil_node, missing
from tests.support.evm_chain import Chain, keys
from tests.support.evm_ingest import config
from tests.support.evm_nodes_help import pool
from tests.support.evm_publish import Teller
from tests.support.evm_scenario import Scenario, World, build, factory_tokens

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

SEED: Final = 11
MOVES: Final = (
    "transfer", "transfer", "transfer", "rebase", "mint", "burn", "approve", "wrap", "unwrap", "move_weth", "nft",
    "membership", "multi_single", "multi_batch", "factory", "made_token",
)  # fmt: skip


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    with anvil_node(tmp_path / "anvil") as node:
        yield Chain(node)


class Node:
    """A node's ask. `lies`: so many wrong balances yet, None for ever; `says`: what it answers instead of anything."""

    def __init__(self, chain: Chain, lies: int | None = 0, says: Any = None) -> None:
        self.chain, self.lies, self.says = chain, lies, says
        self.asked: list[str] = []  # hashes of blocks

    async def __call__(self, method: str, params: list[Any]) -> Any:
        await asyncio.sleep(0)
        assert method == "eth_call"
        self.asked.append(params[1]["blockHash"])
        if isinstance(self.says, BaseException):
            raise self.says
        if isinstance(self.says, dict):
            raise error_of("node", method, self.says)
        if self.says is not None:
            return self.says
        try:
            answer = self.chain.anvil.rpc(method, *params)
        except RpcError as error:
            raise error_of("anvil", method, {"code": error.code, "message": str(error)}) from None
        if self.lies == 0 or len(self.asked) % 2:  # what it says of the parent block is true
            return answer
        self.lies = self.lies - 1 if self.lies is not None else None
        return f"0x{int(answer, 16) + 7:064x}"


class Silent(Node):
    """A node that takes requests and never answers."""

    async def __call__(self, method: str, params: list[Any]) -> Any:
        self.asked.append(params[1]["blockHash"])
        await asyncio.Event().wait()


def watched_of(directory: Path, chain: Chain, world: World, **more: Any) -> Watched:
    """All contracts of a world, told already."""
    (directory / "evm.toml").write_text(config(chain, world, [chain.anvil.url], **more))
    watched = Watched(read_config(directory / "evm.toml", {})[f"eip155:{chain.anvil.chain_id}"])
    for known in watched.untold():
        watched.record(known, 1)
    return watched


def follow(teller: Teller, watched: Watched) -> list[list[Any]]:
    """Blocks that are new heads, each with all its chunks; what factories make is watched, as the ingest does it."""
    blocks: list[list[Any]] = []
    for record in teller.step():
        number, name = record["block_number"], record["block_hash"]
        if record["finality"] == "retracted":
            watched.retract(number, name)
        elif record["chunk"]:
            blocks[-1].append(record)
        elif record["finality"] == "head":
            block = teller.chain.anvil.block(number)
            assert block is not None
            for made in watched.found_in(block, teller.chain.anvil.receipts(number)):
                watched.record(watched.add(made, number, name), 1)
            blocks.append([record])
    return blocks


def moved_otherwise(chain: Chain, world: World, block: list[Any], watched: Watched) -> set[str]:
    """Contracts, not marked yet, of which some balance that the block's logs change is another afterwards."""
    found, number = set(), block[0]["block_number"]
    for row in changes_to_check(block, watched, 10**6):
        contract = (
            world.multi if "/" in row.asset else chain.at("Erc20", chain.w3.to_checksum_address(row.contract))
        )
        args = [chain.w3.to_checksum_address(row.account), *map(int, row.asset.split("/")[1:])]
        before, after = (
            contract.functions.balanceOf(*args).call(block_identifier=n) for n in (number - 1, number)
        )
        if after - before != row.amount:
            found.add(row.contract)
    return found


def fee_block(chain: Chain, directory: Path) -> tuple[Watched, list[Any], World]:
    """A block in which one token takes a fee that it does not tell, and others move as they should."""
    world = build(chain)
    watched, teller = watched_of(directory, chain, world), Teller(chain, world, first=chain.head)
    follow(teller, watched)
    for token in (world.coin, world.silent_fee, world.fee):
        chain.call(1, token, "transfer", keys()[2].address, 1000)
    chain.mine()
    ((block,),) = follow(teller, watched)
    return watched, [block], world


def judged(watched: Watched, block: Any, *nodes: Node, timeout_s: float = 10.0) -> list[str]:
    """Addresses that these nodes' answers mark."""
    of = Reliability(lambda: nodes, 20, timeout_s)
    return [known.address for known in asyncio.run(of.judge(block, watched))]


def test_those_that_lie_in_their_logs_are_marked_and_no_others(chain: Chain, tmp_path: Path) -> None:
    """A life with reorganisations: fees and rebases that no log tells are found; all other tokens stay reliable."""
    world = build(chain)
    watched, scenario = watched_of(tmp_path, chain, world), Scenario(chain, world, SEED, MOVES)
    teller, node = Teller(chain, world, chunk=2), Node(chain)
    of = Reliability(lambda: [node], 20)
    marked: dict[str, int] = {}  # block by address
    turn = compared = 0
    while chain.head < 64:
        turn += 1
        scenario.block()
        if turn % 6 == 5:
            scenario.reorg(1 + turn % 4)
        if turn % 15 == 14:
            scenario.there_and_back(2)
        for block in follow(teller, watched):
            compared += bool(changes_to_check(block, watched, 20))
            due = moved_otherwise(chain, world, block, watched)
            found = asyncio.run(of.judge(block, watched))
            assert {known.address for known in found} == due  # at once, and never twice
            for known in found:
                marked[known.address] = block[0]["block_number"]
                assert watched.record(known, 1)["reliable"] is False
    liars = {world.silent_fee.address.lower(), world.rebasing.address.lower()}
    assert set(marked) == liars == set(of.evidence) and compared > 40
    assert len(factory_tokens(chain, world)) > 1 and not watched.untold()
    assert {one.address for one in watched if not one.reliable} == liars


def test_the_evidence_is_what_the_node_says(chain: Chain, tmp_path: Path) -> None:
    watched, (block,), world = fee_block(chain, tmp_path)
    of = Reliability(lambda: [Node(chain)], 20)
    (known,) = asyncio.run(of.judge([block], watched))
    assert known.address == world.silent_fee.address.lower() and known.sequence == 1
    number, receiver = chain.head, keys()[2].address
    before, after = (
        world.silent_fee.functions.balanceOf(receiver).call(block_identifier=n) for n in (number - 1, number)
    )
    assert of.evidence == {known.address: {
        "block": str(number), "block_hash": block["block_hash"], "account": receiver.lower(),
        "asset": f"erc20:{known.address}", "changed": "1000", "balance_changed": str(after - before),
    }} and after - before == 990  # fmt: skip
    note = alert_of(of.found[known.address])
    assert (note["rule"], note["severity"], note["subject"], note["block"]) == (
        "unreliable_contract", "warning", known.address, number
    )  # fmt: skip
    codec = local_codec()
    assert codec.decode(codec.encode("control.alerts.v1", note))[1]["time"] == block["time"]
    assert asyncio.run(of.judge([block], watched)) == []  # nobody is told twice


def test_a_pool_is_asked_in_the_background(chain: Chain, tmp_path: Path) -> None:
    """As the ingest does it: begin, go on, and later take what came of it; one block at a time."""
    watched, blocks, world = fee_block(chain, tmp_path)

    async def go() -> list[str]:
        async with pool(chain.anvil.url) as nodes:
            await nodes.ready(60)
            of = Reliability(asks_of(nodes), 20)
            of.begin([blocks], watched)
            assert of.ended(watched) == [] and all(one.reliable for one in watched)
            of.begin([blocks], watched)  # left out
            for _ in range(500):
                if marked := of.ended(watched):
                    break
                await asyncio.sleep(0.01)
            of.begin([blocks], watched)
            await of.close()
            return [known.address for known in marked]

    assert asyncio.run(go()) == [world.silent_fee.address.lower()]


REFUSALS: Final[tuple[Any, ...]] = (
    {"code": -32000, "message": "missing trie node 7d1 (path ) state 0x7d is not available, not found"},
    {"code": -32000, "message": "required historical state unavailable (reexec=128)"},
    {"code": -32602, "message": "invalid argument 1: hex string without 0x prefix"},  # knows no EIP-1898
    {"code": -32000, "message": "header for hash not found"},
    {"code": 429, "message": "too many requests"},
    {"code": -32099, "message": "hic sunt dracones"},
    Unreachable("away"), NoNode("none"), Missing("no"), Wrong("malformed", "x"),
)  # fmt: skip
UNTOLD: Final[tuple[Any, ...]] = (
    {"code": 3, "message": "execution reverted: token does not exist"},
    "0x", "0x00", "0x" + "zz" * 32, "0x-" + "1" * 63, "<html>", 7, [],
)  # fmt: skip


def test_what_is_not_told_is_not_judged(chain: Chain, tmp_path: Path) -> None:
    """Refusals, reverts, nonsense, silence: nothing is marked, nothing is raised, nobody is asked in vain."""
    watched, block, _ = fee_block(chain, tmp_path)
    changes = changes_to_check(block, watched, 20)
    assert len(changes) == 7
    for said in REFUSALS:
        node = Node(chain, says=said)
        assert judged(watched, block, node) == [] and len(node.asked) == 1, said
    for said in UNTOLD:
        node = Node(chain, says=said)
        assert judged(watched, block, node) == [] and len(node.asked) == len(changes), said
    silent = Silent(chain)
    assert judged(watched, block, silent, timeout_s=0.05) == [] and len(silent.asked) == 1
    assert judged(watched, block) == [] and all(one.reliable for one in watched)


def test_one_word_is_no_word(chain: Chain, tmp_path: Path) -> None:
    watched, block, world = fee_block(chain, tmp_path)
    watched.distrust(world.silent_fee.address.lower())  # all that is left is as its logs say
    for lies in range(1, 6):  # a node that lies of one row each, of both in the end
        assert judged(watched, block, Node(chain, lies)) == []
    true, away = Node(chain), Node(chain, says=NoNode("away"))
    for others in ([true], [away], [away, true], [away, away]):
        assert judged(watched, block, Node(chain, None), *others) == [], others
    assert judged(watched, block, true, Node(chain, None)) == []
    assert all(one.reliable for one in watched if one.address != world.silent_fee.address.lower())


def test_two_words_are_enough(chain: Chain, tmp_path: Path) -> None:
    """Of two nodes; where the first lacks the state, of the next two."""
    for before in ([], [Node(chain, says=REFUSALS[0])]):
        (tmp_path / str(len(before))).mkdir()
        watched, block, world = fee_block(chain, tmp_path / str(len(before)))
        nodes = [*before, Node(chain), Node(chain)]
        assert judged(watched, block, *nodes[:-1], Node(chain, says=UNTOLD[0])) == []
        assert judged(watched, block, *nodes) == [world.silent_fee.address.lower()]
        assert len(nodes[-1].asked) == 2  # of the row that differs alone


def test_a_block_that_the_chain_has_dropped_is_not_judged(chain: Chain, tmp_path: Path) -> None:
    """Another block stands at its height: by its hash nothing is known of it."""
    watched, block, world = fee_block(chain, tmp_path)
    chain.rollback(1)
    chain.call(1, world.coin, "transfer", keys()[2].address, 77)
    chain.mine()
    assert judged(watched, block, Node(chain)) == []


def test_which_rows_are_checked(chain: Chain, tmp_path: Path) -> None:
    watched, (block,), world = fee_block(chain, tmp_path)
    coin, silent, fee = (one.address.lower() for one in (world.coin, world.silent_fee, world.fee))
    one, two = (keys()[n].address.lower() for n in (1, 2))
    rows = changes_to_check([block], watched, 20)
    assert [(row.contract, row.account) for row in rows[:6]] == [
        (coin, one), (silent, one), (fee, one), (coin, two), (silent, two), (fee, two)
    ]  # fmt: skip
    assert rows[0] == Change(coin, one, f"erc20:{coin}", -1000)
    assert changes_to_check([block], watched, 2) == rows[:2] and not changes_to_check([block], watched, 0)
    first, *others = block["transactions"]
    parts: list[Any] = [
        {**block, "chunks": 2, "transactions": [first]},
        {**block, "chunk": 1, "chunks": 2, "transactions": others},
    ]
    assert changes_to_check(parts, watched, 20) == rows and not changes_to_check(parts[:1], watched, 20)
    again: Any = {**block, "transactions": [first, first, *others]}
    assert changes_to_check([again], watched, 1)[0].amount == -2000  # the sum of the whole block
    for changed in ({"finality": "retracted"}, {"block_number": 0}):
        unfit: Any = {**block, **changed}
        assert not changes_to_check([unfit], watched, 20)
    watched.distrust(coin)
    assert coin not in {row.contract for row in changes_to_check([block], watched, 20)}
    late = watched_of(tmp_path, chain, world, starts={"coin": chain.head + 1, "fee": chain.head})
    assert {row.contract for row in changes_to_check([block], late, 20)} == {silent, fee}
    text = '[[chain]]\nname = "eip155:31337"\nurls = ["ws://a"]\neverything = true\nstart_block = 0'
    (tmp_path / "all.toml").write_text(text)
    assert not changes_to_check([block], Watched(read_config(tmp_path / "all.toml", {})["eip155:31337"]), 20)
