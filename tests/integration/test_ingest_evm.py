"""`tidebook ingest evm` in front of anvil: what it tells comes to what the node says, whatever the chain does.

The judge is a plain consumer's fold (tests/support/evm_fold.py), which refuses every message that does not fit, and
the node's own answers (evm_truth.py). TIDEBOOK_EVM_SEEDS=1,2,3,… and TIDEBOOK_EVM_KILLS=1,2,3,… for longer runs.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.anvil import Anvil, anvil_node, missing
from tests.support.evm_chain import Chain, keys
from tests.support.evm_fold import Fold, Follower, following
from tests.support.evm_ingest import EvmSea, Recording, config, evm_sea, untrue
from tests.support.evm_scenario import Scenario, World, build, factory_tokens
from tests.support.evm_truth import truth

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.xdist_group("evm"),
]

SEEDS = [int(seed) for seed in os.environ.get("TIDEBOOK_EVM_SEEDS", "71").split(",")]
KILLS = [int(count) for count in os.environ.get("TIDEBOOK_EVM_KILLS", "2,7").split(",")]
SLOTS = 7  # final = head − 14: reorgs of depth 10 fit above it


class Scene:
    """A chain with its life, the ingest that follows it, and the consumer that judges."""

    def __init__(self, sea: EvmSea, chain: Recording, world: World, told: Follower, seed: int) -> None:
        self.sea, self.chain, self.world, self.told = sea, chain, world, told
        self.scenario = Scenario(chain, world, seed)
        self.draw = random.Random(seed)

    async def does(self, work: Callable[..., Any], *args: Any) -> Any:
        """Something that moves the chain."""
        return await asyncio.to_thread(work, *args)

    async def settled(self, compare: bool = True, **more: Any) -> None:
        """The ingest has told what the node has, and it is the same."""
        await self.sea.caught_up(self.told, self.chain, **more)
        if compare:
            await self.sea.equal(self.told, self.chain, self.world)

    @property
    def room(self) -> int:
        """How deep a reorganisation may go: not below what is final, nor below the contracts."""
        return self.chain.head - max(self.told.fold.finalised, self.world.deployed)


def run_scene(
    tmp_path: Path, work: Callable[[Scene], Awaitable[None]], *, seed: int = 1, slots: int = SLOTS, before: int = 11,
    **settings: Any,
) -> Scene:  # fmt: skip
    """A node with all contracts and `before` blocks more, an ingest on it, and `work` on both."""

    async def scenario() -> Scene:
        with anvil_node(tmp_path / "anvil", slots_in_an_epoch=slots) as anvil:
            chain = Recording(anvil)
            world = await asyncio.to_thread(build, chain)
            async with evm_sea(tmp_path / "data") as sea, following(sea.url) as told:
                scene = Scene(sea, chain, world, told, seed)
                await scene.does(scene.scenario.run, before)
                await sea.ingest(config(chain, world, [anvil.url], **settings))
                await scene.settled()
                await work(scene)
                assert untrue(told.records, scene.chain.known) == []
                return scene

    return asyncio.run(scenario())


@pytest.mark.parametrize("seed", SEEDS)
def test_reorgs_of_all_depths_there_and_back_and_finality(tmp_path: Path, seed: int) -> None:
    """Depths 1 to 10 in a drawn order, branches shorter, as long and longer, A→B→A; equal to the node at every step."""

    async def work(scene: Scene) -> None:
        depths = list(range(1, 11))
        scene.draw.shuffle(depths)
        for place, depth in enumerate(depths):
            await scene.does(scene.scenario.run, max(1, depth - scene.room + 2))
            await scene.settled()
            if place % 3 == 2:
                await there_and_back(scene, depth)
            else:
                longer = (-1, 0, 2)[scene.draw.randrange(3)]
                await scene.does(scene.scenario.reorg, depth, max(1, depth + longer))
            await scene.settled()
        await scene.does(scene.chain.finalise)
        await scene.settled()

    scene = run_scene(tmp_path, work, seed=seed)
    fold = scene.told.fold
    assert fold.counts["retracted"] >= 40 and fold.finalised == scene.chain.head - 2 * SLOTS
    assert any(record["incarnation"] == 1 for record in scene.told.records)


async def there_and_back(scene: Scene, depth: int) -> None:
    """A→B→A, told at each turn."""
    lost, other = await scene.does(scene.scenario.reorg, depth)
    await scene.settled()
    await scene.does(scene.chain.rollback, len(other))
    await scene.does(scene.chain.play, lost)
    if len(other) > len(lost):
        await scene.does(scene.scenario.run, len(other) - len(lost))


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
                    assert await asyncio.wait_for(child.process.wait(), 60) == 0, child.last_words
                    await told.until(lambda fold: fold.finalised == 30, "block 30 told")
                    await sea.equal_at(told, chain, world, 30)
                    assert untrue(told.records, chain.known) == []
                    assert told.fold.counts == {"final": 30}
                    assert {record["was_head"] for record in told.records} == {False}
                    assert {record["level"] for record in told.records} == {level}

    asyncio.run(scenario())


def test_killed_in_the_middle_of_reorgs(tmp_path: Path) -> None:
    """SIGKILL after k messages of a reorganisation; a new process goes on, and what is told still fits."""

    async def work(scene: Scene) -> None:
        text = config(scene.chain, scene.world, [scene.chain.anvil.url])
        for count in KILLS:
            depth = 6
            await scene.does(scene.scenario.run, max(1, depth - scene.room + 2))
            await scene.settled(compare=False)
            await kill_after(scene, count, scene.does(scene.scenario.reorg, depth, depth + 1))
            if scene.draw.random() < 0.5:
                await scene.does(scene.scenario.reorg, 2, 3)
            await scene.sea.ingest(text)
            await scene.settled()

    run_scene(tmp_path, work, seed=3)


async def kill_after(scene: Scene, count: int, work: Awaitable[Any]) -> None:
    """SIGKILL the ingest when `count` more messages have come while `work` moves the chain, or soon after it."""
    process = scene.sea.supervisor.children["ingest"].process
    left = count

    def taken(_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0 and process.returncode is None:
            process.kill()

    scene.told.taken = taken
    await work
    await asyncio.sleep(0.3)
    scene.told.taken = lambda _: None
    await scene.sea.kill()


def test_a_node_that_lost_its_chain_and_gets_it_back(tmp_path: Path) -> None:
    """The node is killed and comes back with the same blocks, from none on: behind is no reorganisation."""

    async def work(scene: Scene) -> None:
        anvil = scene.chain.anvil
        retracted = scene.told.fold.counts["retracted"]
        anvil.kill()
        await asyncio.sleep(0.5)
        await scene.does(anvil.start)
        again = Recording(anvil)
        await scene.does(again.play, scene.chain.blocks)
        again.known |= scene.chain.known
        scene.chain = scene.scenario.chain = again
        await scene.does(scene.scenario.run, 3)
        await scene.settled()
        assert scene.told.fold.counts["retracted"] == retracted
        await scene.does(scene.scenario.reorg, 3)
        await scene.settled()
        assert scene.told.fold.counts["retracted"] == retracted + 3
        assert untrue(scene.told.records, again.known) == []

    run_scene(tmp_path, work, seed=4)


def test_a_broker_that_forgets(tmp_path: Path) -> None:
    """A new embedded broker on the same data directory, after a reorganisation nobody saw: the same names go on."""

    async def scenario() -> None:
        with anvil_node(tmp_path / "anvil", slots_in_an_epoch=SLOTS) as anvil:
            chain = Recording(anvil)
            world = await asyncio.to_thread(build, chain)
            scenario, fold, seen = Scenario(chain, world, 6), Fold(), []
            await asyncio.to_thread(scenario.run, 20)
            text = config(chain, world, [anvil.url])
            for life in range(2):
                fresh = Fold(anywhere=True)
                async with (
                    evm_sea(tmp_path / "data") as sea,
                    following(sea.url, fold=fold) as told,
                    following(sea.url, fold=fresh) as anew,
                ):
                    await sea.ingest(text)
                    await sea.caught_up(told, chain)
                    if not life:
                        lost, other = await asyncio.to_thread(scenario.reorg, 4, 3)
                        await sea.caught_up(told, chain)
                        await asyncio.to_thread(chain.rollback, len(other))
                        await asyncio.to_thread(chain.play, lost)
                        await sea.caught_up(told, chain)
                    await sea.equal(told, chain, world)
                    await anew.until(lambda found, due=fold: found.tip == due.tip, "the new topic read")
                    await sea.equal(anew, chain, world)
                    seen += told.records
                    await sea.kill()
                await asyncio.to_thread(scenario.reorg, 5, 6)
            assert untrue(seen, chain.known) == []
            assert fold.counts["duplicates"] > 10 and fold.counts["retracted"] == 4 + 3 + 5

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


def test_too_deep_a_reorg_is_told_and_heals_when_the_chain_comes_back(tmp_path: Path) -> None:
    """Deeper than depth_limit: nothing is published, one alert; then A comes back, or goes on."""

    async def work(scene: Scene) -> None:
        lost, other = await scene.does(scene.scenario.reorg, 6, 7)
        count = len(scene.told.records)
        for _ in range(100):
            if await scene.sea.alerts("reorg_too_deep"):
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(1.0)
        assert {record["finality"] for record in scene.told.records[count:]} <= {"final"}  # of what both have
        assert len(await scene.sea.alerts("reorg_too_deep")) == 1
        await scene.does(scene.chain.rollback, len(other))
        await scene.does(scene.chain.play, lost)
        await scene.does(scene.scenario.run, 2)
        await scene.settled()
        await scene.does(scene.scenario.reorg, 3, 3)
        await scene.settled()
        assert scene.told.fold.counts["retracted"] == 3

    run_scene(tmp_path, work, seed=9, depth_limit=4)


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


def test_a_young_chain_is_followed_from_its_first_block(tmp_path: Path) -> None:
    """Fewer blocks than final_depth: nothing but genesis is final, heads are told all the same."""

    async def work(scene: Scene) -> None:
        await scene.does(scene.scenario.reorg, 1, 2)
        await scene.settled()
        assert scene.told.fold.finalised == -1

    run_scene(tmp_path, work, seed=15, before=2)


def test_a_node_of_another_chain_is_refused(tmp_path: Path) -> None:
    """A wrong chain id ends the ingest with one line that names it; nothing is published."""

    async def scenario() -> None:
        with anvil_node(tmp_path / "anvil", chain_id=999) as anvil:
            chain = Recording(anvil)
            world = await asyncio.to_thread(build, chain)
            text = config(chain, world, [anvil.url]).replace("eip155:999", "eip155:31337")
            async with evm_sea(tmp_path / "data") as sea:
                child = await sea.ingest(text)
                status = await asyncio.wait_for(child.process.wait(), 60)
                said = child.last_words
                assert status in (1, 2) and len(said) == 1 and "999" in said[0] and "31337" in said[0], said
                assert await sea.records("evm.blocks.v1") == []

    asyncio.run(scenario())


def test_blocks_that_are_large_come_in_chunks(tmp_path: Path) -> None:
    """A block whose message would pass the limit: its chunks come in order, are taken back and come again."""

    async def work(scene: Scene) -> None:
        def crowd() -> None:
            oddities = scene.world.oddities
            for _ in range(12):
                scene.chain.call(1, oddities, "many", 700, gas=2_400_000)
            scene.chain.call(2, scene.world.coin, "transfer", keys()[3].address, 5)
            scene.chain.mine()

        await scene.does(crowd)
        await scene.settled()
        lost = await scene.does(scene.chain.rollback, 1)
        await scene.does(scene.scenario.run, 1)
        await scene.settled()
        await scene.does(scene.chain.rollback, 1)
        await scene.does(scene.chain.play, lost)
        await scene.does(scene.scenario.run, 1)
        await scene.settled()

    scene = run_scene(tmp_path, work, seed=14)
    assert max(record["chunks"] for record in scene.told.records) > 1
