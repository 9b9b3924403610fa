"""The test ground of the EVM ingest: contracts, chains on a real node, reorgs, the node's truth."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from web3 import Web3

from tests.support.anvil import PACKAGES, Anvil, RpcError, anvil_node, missing
from tests.support.evm.compile import artifacts
from tests.support.evm_chain import BLOB, Chain, keys
from tests.support.evm_roots import block_hash, bloom, ordered_root, receipts_root, transactions_root
from tests.support.evm_scenario import ACTIONS, CONTROL, OVER_U128, Scenario, World, build
from tests.support.evm_truth import gas_by_payer, truth
from tests.support.truth import ROOT

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))
SEED_TEXT = ROOT.parent / "shared/seeds/S2-sovereign-bank-rack.txt"
TRANSFER = Web3.to_hex(Web3.keccak(text="Transfer(address,address,uint256)"))
RICH = 10_000 * 10**18  # wei that each account has in genesis

S2_EVENTS = {
    "CustomerWhitelisted(address,bytes32,uint8,uint256)", "CustomerBlocked(address,bytes32,string)",
    "MintApproved(address,uint256,bytes32,uint256)", "MintExecuted(address,uint256,string,uint256)",
    "BurnRecorded(address,uint256,string,uint256)", "ReserveUpdated(bytes32,uint256,string,uint256)",
    "Paused(address,uint256,string)", "Unpaused(address,uint256)",
}  # fmt: skip
CONTROL_EVENTS = {
    "Initialized(uint64)", "RoleGranted(bytes32,address,address)", "RoleRevoked(bytes32,address,address)",
    "RoleAdminChanged(bytes32,bytes32,bytes32)", "Upgraded(address)",
}  # fmt: skip

MEMBERSHIP_EVENTS = {
    "MembershipIssued(uint256,address,bytes32,bytes32,uint8,uint256)", "MembershipRenewed(uint256,uint8,uint256)",
    "MembershipRevoked(uint256,address,string)", "NodeAccessGranted(uint256,address,bytes32,uint8,uint256)",
    "NodeAccessRevoked(uint256,address,string)",
}  # fmt: skip


@pytest.fixture
def anvil(tmp_path: Path) -> Iterator[Anvil]:
    with anvil_node(tmp_path / "anvil") as node:
        yield node


@pytest.fixture
def chain(anvil: Anvil) -> Chain:
    return Chain(anvil)


def logs(anvil: Anvil, **asked: Any) -> list[dict[str, Any]]:
    return anvil.rpc("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest", **asked})


def signatures(name: str) -> set[str]:
    events = [entry for entry in artifacts()[name].abi if entry["type"] == "event"]
    return {f"{event['name']}({','.join(field['type'] for field in event['inputs'])})" for event in events}


# What is installed and compiled


def test_packages_name_no_host() -> None:
    for name in ("package.json", "package-lock.json"):
        text = (PACKAGES / name).read_text()
        assert "//" not in text and "resolved" not in text
    locked = json.loads((PACKAGES / "package-lock.json").read_text())["packages"]
    assert all(entry.get("integrity") for path, entry in locked.items() if path)


def test_contracts_have_s2s_events() -> None:
    shared = {name: signatures(name) for name in CONTROL}
    assert all(found >= CONTROL_EVENTS for found in shared.values())
    membership = shared.pop("MembershipNFTRegistry")
    assert set().union(*shared.values()) - CONTROL_EVENTS == S2_EVENTS
    assert membership == CONTROL_EVENTS | MEMBERSHIP_EVENTS | signatures("Erc721")
    assert signatures("Proxy") == {"Upgraded(address)"}


@pytest.mark.skipif(not SEED_TEXT.exists(), reason="no ../shared/seeds here")
def test_events_are_as_s2_writes_them() -> None:
    """Names, types, order and what is indexed, of every event in the text."""
    written = {}
    for name, fields in re.findall(r"^ +event (\w+)\(([^)]*)\);", SEED_TEXT.read_text(), re.M):
        parts = [field.split() for field in fields.split(",")]
        written[name] = [
            (part[0].replace("RiskTier", "uint8"), part[-1], "indexed" in part) for part in parts
        ]
    ours = {
        event["name"]: [(field["type"], field["name"], field["indexed"]) for field in event["inputs"]]
        for name in CONTROL
        for event in artifacts()[name].abi
        if event["type"] == "event"
    }
    assert len(written) == len(S2_EVENTS)
    assert {name: ours[name] for name in written} == written


# Chains


def test_a_seed_makes_one_chain(tmp_path: Path) -> None:
    """Two runs with one seed are equal hash by hash, another seed is not; every kind of action is in it."""
    made = []
    for number, (seed, blocks) in enumerate(((11, 30), (11, 30), (12, 1))):
        with anvil_node(tmp_path / str(number)) as anvil:
            chain = Chain(anvil)
            scenario = Scenario(chain, build(chain), seed)
            for name in ACTIONS:
                if name != "blob":
                    scenario.act(name)
            scenario.block()
            scenario.run(blocks)
            made.append(chain.blocks)
            receipts = [receipt for n in range(1, chain.head + 1) for receipt in anvil.receipts(n)]
            assert {receipt["type"] for receipt in receipts} == {"0x0", "0x1", "0x2"}
            assert {receipt["status"] for receipt in receipts} == {"0x0", "0x1"}
    assert made[0] == made[1]
    assert made[0] != made[2]
    sizes = {len(block.transactions) for block in made[0]}
    assert {0, 1} < sizes and max(sizes) >= len(ACTIONS) - 1


def test_blocks_are_ethereums(chain: Chain) -> None:
    """Hash, parent, bloom, gas, receipts and transactions root of every block, recomputed from its parts."""
    scenario = Scenario(chain, build(chain), 5)
    scenario.run(30)
    for number in range(chain.head + 1):
        block, receipts = chain.anvil.block(number, full=True), chain.anvil.receipts(number)
        assert block is not None and block_hash(block) == block["hash"]
        assert number == 0 or block["parentHash"] == chain.anvil.block(number - 1)["hash"]
        assert bloom(log for receipt in receipts for log in receipt["logs"]) == block["logsBloom"]
        assert sum(int(receipt["gasUsed"], 16) for receipt in receipts) == int(block["gasUsed"], 16)
        assert receipts_root(receipts) == block["receiptsRoot"]
        assert transactions_root(block["transactions"]) == block["transactionsRoot"]
        assert [log for receipt in receipts for log in receipt["logs"]] == logs(
            chain.anvil, fromBlock=hex(number), toBlock=hex(number)
        )


def test_odd_logs(chain: Chain) -> None:
    """What decoders trip over is there: no topics, foreign Transfers, proxies' addresses, failures without logs."""
    world = build(chain)
    for function, args in (
        ("anonymous_", (7,)),
        ("failInside", ()),
        ("unlikeTransfer", (keys()[1].address, 5)),
    ):
        chain.call(1, world.oddities, function, *args)
    chain.call(1, world.oddities, "cutTransfer", keys()[2].address)
    chain.call(1, world.oddities, "fail", "no")
    chain.call(1, world.huge, "mint", keys()[1].address, 2**256 - 1 - OVER_U128 * 90)
    chain.call(0, world.SystemGuard, "pause", "drill")
    chain.call(0, world.SystemGuard, "grantRole", bytes(32), keys()[3].address)
    made = chain.mine()
    receipts = chain.anvil.receipts(made.number)
    assert [receipt["status"] for receipt in receipts] == ["0x1"] * 4 + ["0x0"] + ["0x1"] * 3
    assert [len(log["topics"]) for log in receipts[0]["logs"]] == [1, 0]
    assert [int(log["data"], 16) for log in receipts[1]["logs"]] == [2, 4]
    assert [(r["logs"][0]["topics"][0], len(r["logs"][0]["topics"])) for r in receipts[2:4]] == [
        (TRANSFER, 2),
        (TRANSFER, 3),
    ]
    assert len(receipts[3]["logs"][0]["data"]) == 2 + 32
    assert receipts[4]["logs"] == []
    assert int(receipts[5]["logs"][0]["data"], 16) > 2**255
    assert {log["address"] for r in receipts[6:] for log in r["logs"]} == {world.SystemGuard.address.lower()}


def test_the_node_by_hand(tmp_path: Path) -> None:
    """What a test may do to a node without a Chain: mine, tell the time, go back to a snapshot, make blocks final."""
    with anvil_node(tmp_path / "anvil", slots_in_an_epoch=3) as anvil:
        assert anvil.mine(4) == 4
        snapshot = anvil.snapshot()
        anvil.set_next_timestamp(1_800_000_000)
        assert anvil.mine() == 5
        assert int(anvil.block()["timestamp"], 16) == 1_800_000_000
        anvil.revert(snapshot)
        assert anvil.number() == 4
        anvil.set_next_base_fee(77)
        anvil.mine()
        assert anvil.block("latest")["baseFeePerGas"] == hex(77)
        assert (anvil.finalise(), anvil.number("finalized")) == (11, 5)
        assert anvil.rollback(2) == 9


def test_other_hardforks_and_mining_at_once(tmp_path: Path) -> None:
    """A block for each transaction as it comes; a header without what came after London."""
    with anvil_node(tmp_path / "anvil", mining=(), hardfork="london") as anvil:
        pair = {"from": keys()[0].address, "to": keys()[1].address}
        hashes = [anvil.rpc("eth_sendTransaction", {**pair, "value": hex(number)}) for number in (1, 2)]
        assert [anvil.block(number)["transactions"] for number in (1, 2)] == [[made] for made in hashes]
        newest = anvil.block()
        assert "withdrawalsRoot" not in newest and "blobGasUsed" not in newest
        assert block_hash(newest) == newest["hash"]


def test_blobs(chain: Chain) -> None:
    """A blob transaction pays its blob fee on top and comes back after a reorg; its block's root is anvil's own."""
    chain.mine()
    chain.send(0, keys()[1].address, value=5, gas=21_000, kind="blob")
    chain.send(2, keys()[1].address, value=5, gas=21_000)
    plan = chain.mine()
    paid = gas_by_payer(chain, 1, 2)[keys()[0].address.lower()]
    assert paid.blob_fee == len(BLOB)  # 1 wei per gas
    assert chain.w3.eth.get_balance(keys()[0].address) == RICH - 5 - paid.fee
    chain.rollback(1)
    chain.mine()
    chain.rollback(1)
    chain.play([plan])
    block, raw = (
        chain.anvil.block(2, full=True),
        [bytes.fromhex(signed.raw[2:]) for signed in plan.transactions],
    )
    assert (
        block_hash(block) == block["hash"] and receipts_root(chain.anvil.receipts(2)) == block["receiptsRoot"]
    )
    assert transactions_root(block["transactions"]) != block["transactionsRoot"] == ordered_root(raw)
    assert all("blobGasPrice" in receipt for receipt in chain.anvil.receipts(2))


# Reorgs and finality


def test_reorgs_of_depths_1_to_10(chain: Chain, tmp_path: Path) -> None:
    """What is left equals a node that saw only what is left; what is lost is unknown, also by hash."""
    world = build(chain)
    scenario = Scenario(chain, world, 21)
    scenario.run(12)
    came_again = 0
    for depth in range(1, 11):
        lost, made = scenario.reorg(depth)
        assert len(lost) == depth and made[0].parent_hash == lost[0].parent_hash
        assert made[0].hash != lost[0].hash
        assert chain.anvil.block()["hash"] == made[-1].hash == chain.blocks[-1].hash
        assert all(chain.anvil.block(block.hash) is None for block in lost)
        now = {signed.hash: block.hash for block in made for signed in block.transactions}
        for signed in (signed for block in lost for signed in block.transactions):
            receipt = chain.anvil.rpc("eth_getTransactionReceipt", signed.hash)
            assert (receipt and receipt["blockHash"]) == now.get(signed.hash)
            came_again += signed.hash in now
    assert came_again > 10
    assert_equals_a_fresh_node(chain, world, tmp_path)


def test_there_and_back_again(chain: Chain, tmp_path: Path) -> None:
    """A→B→A: the lost blocks come back with the same hashes, receipts and state, at every depth."""
    world = build(chain)
    scenario = Scenario(chain, world, 22)
    scenario.run(12)
    told = truth(chain, world)
    blocks = [(chain.anvil.block(n, full=True), chain.anvil.receipts(n)) for n in range(chain.head + 1)]
    for depth in range(1, 11):
        lost, other = scenario.there_and_back(depth)
        assert other[0].hash != lost[0].hash and chain.blocks[-depth:] == lost
        assert [
            (chain.anvil.block(n, full=True), chain.anvil.receipts(n)) for n in range(len(blocks))
        ] == blocks
        assert chain.anvil.number() == chain.head == len(blocks) - 1
    assert truth(chain, world) == told
    assert_equals_a_fresh_node(chain, world, tmp_path)


def assert_equals_a_fresh_node(chain: Chain, world: World, tmp_path: Path) -> None:
    with anvil_node(tmp_path / "fresh") as fresh:
        copied = chain.copy_to(fresh)
        assert truth(copied, world) == truth(chain, world)
        assert logs(fresh) == logs(chain.anvil)


def test_anvils_own_reorg(anvil: Anvil) -> None:
    """`anvil_reorg`: as many new blocks, the given transactions in them, the lost ones nowhere."""
    chain = Chain(anvil)
    chain.empty(4)
    kept = chain.send(1, keys()[2].address, value=1, gas=21_000)
    chain.mine()
    other = chain.send(3, keys()[4].address, value=2, gas=21_000)
    before = [anvil.block(number)["hash"] for number in range(6)]
    assert anvil.reorg(3, [(other.raw, 1)]) == 5
    blocks = [anvil.block(number) for number in range(6)]
    assert [block["hash"] == hash_ for block, hash_ in zip(blocks, before, strict=True)] == [True] * 3 + [
        False
    ] * 3
    assert [block["transactions"] for block in blocks[3:]] == [[], [other.hash], []]
    assert len({block["timestamp"] for block in blocks[2:]}) == 1  # all of them at their parent's time
    assert anvil.rpc("eth_getTransactionReceipt", kept.hash) is None
    assert anvil.rpc("txpool_status") == {"pending": "0x0", "queued": "0x0"}
    with pytest.raises(RpcError, match="depth"):
        anvil.reorg(6)


def test_rollback_is_not_exact(anvil: Anvil) -> None:
    """Why a Chain goes back by snapshots: after `anvil_rollback` the same block has another state root."""
    chain = Chain(anvil)
    coin = chain.deploy("Erc20", "Coin", "C", 6)
    chain.mine()
    chain.call(5, coin, "transfer", keys()[1].address, 1)  # fails, and reads an empty slot
    plan = chain.mine()
    first = anvil.block()
    chain.rollback(1)
    chain.play([plan])
    assert anvil.block() == first
    anvil.rollback(1)
    del chain.blocks[-1]
    chain._nonces[5] -= 1
    with pytest.raises(AssertionError, match="came back as"):
        chain.play([plan])
    again = anvil.block()
    assert {name for name in first if first[name] != again[name]} == {"hash", "stateRoot"}


@pytest.mark.parametrize("slots", [1, 5, 32])
def test_tags_follow_the_head(tmp_path: Path, slots: int) -> None:
    with anvil_node(tmp_path / "anvil", slots_in_an_epoch=slots) as anvil:
        chain = Chain(anvil)
        for _ in range(3 * slots):
            chain.mine()
            found = [anvil.number(tag) for tag in ("latest", "safe", "finalized")]
            assert found == [chain.head, max(0, chain.head - slots), max(0, chain.head - 2 * slots)]
        target = chain.head
        chain.finalise()
        assert anvil.number("finalized") == target
        chain.rollback(1)
        assert anvil.number("finalized") == target - 1  # a shorter branch takes the tags back


def test_killed_frozen_and_copied(tmp_path: Path) -> None:
    """A kill loses the chain, its plans bring it back on the same port; a frozen node keeps its callers waiting."""
    with anvil_node(tmp_path / "anvil", chain_id=4242) as anvil:
        chain = Chain(anvil)
        Scenario(chain, build(chain), 31).run(5)
        anvil.freeze()
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(anvil.url, json={}, timeout=0.2, trust_env=False)
        anvil.thaw()
        assert anvil.number() == chain.head
        anvil.kill()
        assert not anvil.answers()
        anvil.start()
        assert anvil.number() == 0 and anvil.rpc("eth_chainId") == hex(4242)
        again = chain.copy_to(anvil)
        assert again.blocks == chain.blocks
        with anvil_node(tmp_path / "behind", chain_id=4242) as behind:
            assert chain.copy_to(behind, chain.head - 2).blocks == chain.blocks[:-2]


def test_a_block_comes_whole_or_not(chain: Chain) -> None:
    """A transaction that the node will not take stops the test instead of vanishing."""
    chain.send(0, keys()[1].address, value=1, gas=21_000, cap=2 * 10**9, tip=0)
    with pytest.raises(AssertionError, match="not as queued"):
        chain.mine(base_fee=10 * 10**9)
