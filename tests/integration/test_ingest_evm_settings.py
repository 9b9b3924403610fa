"""What the settings of an EVM ingest mean, in front of anvil: ranges, tags, factories, start blocks, several chains."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.anvil import Anvil, anvil_node, missing
from tests.support.evm_chain import Chain
from tests.support.evm_fold import PATIENCE_S, Fold, Follower, following
from tests.support.evm_ingest import Recording, config, evm_sea, untrue
from tests.support.evm_scenario import Scenario, World, build, factory_tokens
from tests.support.evm_scene import SLOTS, Scene, run_scene, there_and_back
from tests.support.evm_truth import truth

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.xdist_group("evm-lies"),
]


def test_backfill_in_both_levels_then_it_ends(tmp_path: Path) -> None:
    """What is final already is told as final at once; `--to` ends with status 0 when that block is final."""

    async def scenario() -> None:
        with anvil_node(tmp_path / "anvil", slots_in_an_epoch=1) as anvil:
            chain = Recording(anvil)
            world = await asyncio.to_thread(build, chain)
            await asyncio.to_thread(Scenario(chain, world, 5).run, 40)
            for level in ("header", "full"):
                async with evm_sea(tmp_path / level) as sea, following(sea.url) as told:
                    child = await sea.ingest(config(chain, world, [anvil.url], verify=level), "--to", "30")
                    assert await asyncio.wait_for(child.process.wait(), PATIENCE_S) == 0, child.last_words
                    await told.until(lambda fold: fold.finalised == 30, "block 30 told")
                    await sea.equal_at(told, chain, world, 30)
                    assert untrue(told.records, chain.known) == []
                    assert told.fold.counts == {"final": 30}
                    assert {record["was_head"] for record in told.records} == {False}
                    assert {record["level"] for record in told.records} == {level}

    asyncio.run(scenario())


@pytest.mark.parametrize("mode", ["safe", "finalized"])
def test_confirmation_modes_tell_nothing_above_their_tag(tmp_path: Path, mode: str) -> None:
    """Reorganisations above the tag are never told."""

    async def scenario() -> None:
        with anvil_node(tmp_path / "anvil", slots_in_an_epoch=4) as anvil:
            chain = Recording(anvil)
            world = await asyncio.to_thread(build, chain)
            life = Scenario(chain, world, 8)
            await asyncio.to_thread(life.run, 6)
            async with evm_sea(tmp_path / "data") as sea, following(sea.url) as told:
                highest = [anvil.number(mode)]
                above: list[Any] = []
                told.taken = lambda record: above.extend(
                    [(record["block_number"], highest[0])] * (record["block_number"] > highest[0])
                )
                await sea.ingest(config(chain, world, [anvil.url], confirmation=mode))
                for step in range(8):
                    await asyncio.to_thread(life.reorg, 3, 4) if step % 3 == 2 else None
                    highest[0] = max(highest[0], chain.head + 2 - (4 if mode == "safe" else 8))
                    await asyncio.to_thread(life.run, 2)
                    tag = await asyncio.to_thread(anvil.number, mode)
                    due = tag, chain.blocks[tag - 1].hash
                    await told.until(lambda fold, due=due: fold.tip == due, f"{mode} block {due} told")
                assert above == []
                assert told.fold.counts["retracted"] == 0
                assert bool(told.fold.counts["head"]) == (mode == "safe")
                assert untrue(told.records, chain.known) == []
                await sea.equal_at(told, chain, world, told.fold.tip[0])  # type: ignore[index]

    asyncio.run(scenario())


def test_tokens_of_a_factory_are_watched_from_their_creation(tmp_path: Path) -> None:
    """Made, reorganised away, made again elsewhere: their balances are the node's, and the list of contracts too."""

    async def work(scene: Scene) -> None:
        scene.scenario._names = ("factory", "made_token", "made_token", "transfer")
        for depth in (1, 2, 4):
            await scene.does(scene.scenario.block, 5)
            await scene.does(scene.scenario.run, 4)
            await scene.settled()
            await scene.does(scene.scenario.reorg, depth)
            await scene.settled()
        await there_and_back(scene, 3)
        await scene.does(scene.chain.finalise)
        await scene.settled()
        tokens = {token.address.lower() for token in factory_tokens(scene.chain, scene.world)}
        known = {one["address"]: one for one in await scene.sea.records("evm.contracts.v1")}
        standing = {
            name for name, one in known.items() if one["source"] == "factory" and one["status"] == "watched"
        }
        assert standing == tokens and len(tokens) > 2
        traded = {asset for asset, _ in scene.told.fold.final.balances if asset[6:] in tokens}
        assert traded

    run_scene(tmp_path, work, seed=10)


def test_books_that_begin_later_are_opened_with_what_was_held(tmp_path: Path) -> None:
    """start_block after the creation: opening + changes = balanceOf, for everybody who moves anything."""

    async def scenario() -> None:
        with anvil_node(tmp_path / "anvil", slots_in_an_epoch=SLOTS) as anvil:
            chain = Recording(anvil)
            world = await asyncio.to_thread(build, chain)
            names = ("coin", "weth", "nft", "multi")
            life = Scenario(
                chain, world, 12, ("transfer", "wrap", "move_weth", "nft", "multi_single", "multi_batch")
            )
            await asyncio.to_thread(life.run, 30)
            start = chain.head + 1
            await asyncio.to_thread(life.run, 2 * SLOTS + 6)
            text = config(
                chain, world, [anvil.url], start_block=start, factory=False,
                contracts={"coin": "erc20", "weth": "weth", "nft": "erc721", "multi": "erc1155"},
            )  # fmt: skip
            async with evm_sea(tmp_path / "data") as sea, following(sea.url) as told:
                await sea.ingest(text)
                await sea.caught_up(told, chain)
                for depth in (2, 5):
                    await asyncio.to_thread(life.reorg, depth)
                    await sea.caught_up(told, chain)
                await asyncio.to_thread(chain.finalise)
                await sea.caught_up(told, chain)
                due = opened_truth(chain, world, names, told.fold)
                sums = told.fold.final.balances
                assert changed(told) == set(due)  # whoever's balance changed has an opening, if of 0
                assert {key: sums[key] for key in due} == due
                held = {key for key, amount in told.fold.final.openings.items() if amount}
                assert {asset.partition(":")[0] for asset, _ in held} >= {"erc20", "erc721"}
                assert any(asset.startswith("erc1155") for asset, _ in due)
                assert untrue(told.records, chain.known) == []

    asyncio.run(scenario())


def changed(told: Follower) -> set[tuple[str, str]]:
    """(asset, account) of every balance that a final block changed."""
    return {
        (change["asset"], change["account"])
        for record in told.records
        if record["finality"] == "final"
        for tx in record["transactions"]
        for change in tx["balance_changes"]
    }


def opened_truth(
    chain: Chain, world: World, names: tuple[str, ...], fold: Fold
) -> dict[tuple[str, str], int]:
    """What the node says of everybody whom the fold knows, at its final block."""
    told = truth(chain, world, fold.finalised, fold.final.accounts())
    multi = world.multi.address.lower()
    found = {}
    for asset, holder in fold.final.openings:
        kind, _, name = asset.partition(":")
        if kind == "erc1155":
            found[asset, holder] = told.multi.get((holder, int(name.removeprefix(f"{multi}/"))), 0)
        else:
            found[asset, holder] = told.balances[name].get(holder, 0)
    assert {asset.partition(":")[2].partition("/")[0] for asset, _ in found} == {
        world.contracts[name].address.lower() for name in names
    }
    return found


def test_two_chains_at_once(tmp_path: Path) -> None:
    """One process, two chains with ids of their own: a partition each, and each reorganised for itself."""

    async def scenario(one: Anvil, other: Anvil) -> None:
        chains = [Recording(one), Recording(other)]
        worlds = [await asyncio.to_thread(build, chain) for chain in chains]
        lives = [
            Scenario(chain, world, 20 + i)
            for i, (chain, world) in enumerate(zip(chains, worlds, strict=True))
        ]
        for life in lives:
            await asyncio.to_thread(life.run, 6)
        text = "".join(
            config(chain, world, [chain.anvil.url]) for chain, world in zip(chains, worlds, strict=True)
        )
        async with (
            evm_sea(tmp_path / "data") as sea,
            following(sea.url, 0) as left,
            following(sea.url, 1) as right,
        ):
            await sea.ingest(text)
            for step in range(3):
                for i, told in enumerate((left, right)):
                    await sea.caught_up(told, chains[i])
                    await sea.equal(told, chains[i], worlds[i])
                    assert untrue(told.records, chains[i].known) == []
                    assert {record["chain"] for record in told.records} == {
                        f"eip155:{chains[i].anvil.chain_id}"
                    }
                await asyncio.gather(*(asyncio.to_thread(lives[i].reorg, 2 + i + step) for i in (0, 1)))

    with (
        anvil_node(tmp_path / "one", slots_in_an_epoch=SLOTS) as one,
        anvil_node(tmp_path / "other", slots_in_an_epoch=SLOTS, chain_id=31338) as other,
    ):
        asyncio.run(scenario(one, other))


def test_a_node_of_another_chain_is_refused(tmp_path: Path) -> None:
    """A wrong chain id ends the ingest with one line that names it; nothing is published."""

    async def scenario() -> None:
        with anvil_node(tmp_path / "anvil", chain_id=999) as anvil:
            chain = Recording(anvil)
            world = await asyncio.to_thread(build, chain)
            text = config(chain, world, [anvil.url]).replace("eip155:999", "eip155:31337")
            async with evm_sea(tmp_path / "data") as sea:
                child = await sea.ingest(text)
                status = await asyncio.wait_for(child.process.wait(), PATIENCE_S)
                said = child.last_words
                assert status in (1, 2) and len(said) == 1 and "999" in said[0] and "31337" in said[0], said
                assert await sea.records("evm.blocks.v1") == []

    asyncio.run(scenario())
