"""The node's own truth, and that it holds: independent sums over raw logs and receipts come to the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_abi import decode
from web3 import Web3

from tests.support.anvil import Anvil, anvil_node, missing
from tests.support.evm_chain import Chain, keys
from tests.support.evm_scenario import NFTS, OVER_U128, Scenario, build, factory_tokens
from tests.support.evm_truth import COLLECTOR, Gas, gas_by_payer, truth

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))
TRANSFER = Web3.to_hex(Web3.keccak(text="Transfer(address,address,uint256)"))
SINGLE = Web3.to_hex(Web3.keccak(text="TransferSingle(address,address,address,uint256,uint256)"))
BATCH = Web3.to_hex(Web3.keccak(text="TransferBatch(address,address,address,uint256[],uint256[])"))
RICH = 10_000 * 10**18  # wei that each account has in genesis
ZERO = f"0x{0:040x}"


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    with anvil_node(tmp_path / "anvil") as node:
        yield Chain(node)


def logs(anvil: Anvil, **asked: Any) -> list[dict[str, Any]]:
    return anvil.rpc("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest", **asked})


def test_nfts_are_what_their_logs_say(chain: Chain) -> None:
    """Owners = last Transfer of each ERC-721 id; ERC-1155 holdings = sums over single and batch transfers."""
    world = build(chain)
    Scenario(chain, world, 6, ("nft", "membership", "multi_single", "multi_batch")).run(70)
    told = truth(chain, world)
    for name in NFTS:
        address = world.contracts[name].address.lower()
        moves = logs(chain.anvil, address=address, topics=[TRANSFER])
        owners = {int(log["topics"][3], 16): f"0x{log['topics'][2][-40:]}" for log in moves}
        left = {token: owner for token, owner in owners.items() if owner != ZERO}
        assert left == told.owners[address] and left
        assert any(int(log["topics"][2], 16) == 0 for log in moves), f"{name}: nothing was burnt"
        assert told.supply[address] == len(left) and told.balances[address] == Counter(left.values())
    held: Counter[tuple[str, int]] = Counter()
    for log in logs(chain.anvil, topics=[[SINGLE, BATCH]]):
        types = ["uint256", "uint256"] if log["topics"][0] == SINGLE else ["uint256[]", "uint256[]"]
        ids, values = decode(types, bytes.fromhex(log["data"][2:]))
        pairs = [(ids, values)] if log["topics"][0] == SINGLE else zip(ids, values, strict=True)
        for token, value in pairs:
            held[f"0x{log['topics'][2][-40:]}", token] -= value
            held[f"0x{log['topics'][3][-40:]}", token] += value
    assert {pair: value for pair, value in held.items() if value and pair[0] != ZERO} == told.multi
    assert {pair[1]: -value for pair, value in held.items() if value and pair[0] == ZERO} == told.multi_supply


def test_truth_stays_what_it_was(chain: Chain) -> None:
    world = build(chain)
    scenario = Scenario(chain, world, 7)
    scenario.run(20)
    then = chain.head
    before = truth(chain, world, then)
    scenario.run(10)
    assert truth(chain, world, then) == before
    assert truth(chain, world) != before


def test_truth_is_what_transfers_say(chain: Chain) -> None:
    """Balances = sums over the raw Transfer logs; only the tokens that lie in their logs differ, and they do."""
    world = build(chain)
    names = ("transfer", "mint", "burn", "approve", "rebase", "factory", "made_token")
    Scenario(chain, world, 8, names).run(40)
    for token in (world.fee, world.silent_fee):
        chain.call(1, token, "transfer", keys()[2].address, 12_345)
    chain.call(1, world.rebasing, "rebase", 3, 2)
    chain.mine()
    told = truth(chain, world)
    sums: dict[str, Counter[str]] = {}
    for log in logs(chain.anvil, topics=[TRANSFER]):
        sender, receiver = (f"0x{topic[-40:]}" for topic in log["topics"][1:3])
        held = sums.setdefault(log["address"], Counter())
        held[sender] -= int(log["data"], 16)
        held[receiver] += int(log["data"], 16)
    same = {
        token
        for token, held in told.balances.items()
        if {who: held for who, held in sums.get(token, Counter()).items() if who != ZERO and held} == held
        and told.supply[token] == -sums.get(token, Counter())[ZERO]
    }
    unreliable = {world.silent_fee.address.lower(), world.rebasing.address.lower()}
    assert set(told.balances) - same == unreliable
    assert told.balances[world.fee.address.lower()][COLLECTOR.lower()] > 0
    assert max(told.balances[world.huge.address.lower()].values()) > OVER_U128
    assert len(factory_tokens(chain, world)) > 3


def test_gas_is_what_accounts_lost(chain: Chain) -> None:
    """Σ fees from the receipts = fall of each payer's native balance, to the wei; tips go to the coinbase."""
    world = build(chain)
    names = ("transfer", "pay", "fail", "odd", "wrap", "unwrap", "move_weth", "factory")
    Scenario(chain, world, 9, names).run(25)
    gas = gas_by_payer(chain, 1, chain.head)
    moved: Counter[str] = Counter()
    for number in range(1, chain.head + 1):
        block = chain.anvil.block(number, full=True)
        statuses = [receipt["status"] for receipt in chain.anvil.receipts(number)]
        for transaction, status in zip(block["transactions"], statuses, strict=True):
            if status == "0x1" and transaction["to"]:
                moved[transaction["from"]] -= int(transaction["value"], 16)
                moved[transaction["to"]] += int(transaction["value"], 16)
    for key in keys():
        payer = key.address.lower()
        assert chain.w3.eth.get_balance(key.address) == RICH + moved[payer] - gas[payer].fee
    everything = sum(gas.values(), Gas())
    assert everything.failed > 0 and everything.tips > 0 and everything.blob_fee == 0
    assert chain.w3.eth.get_balance(ZERO) == everything.tips
