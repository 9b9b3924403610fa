"""`tidebook ingest evm` in front of anvil: what it tells comes to what the node says, whatever the chain does.

The judge is a plain consumer's fold (tests/support/evm_fold.py), which refuses every message that does not fit, and
the node's own answers (evm_truth.py). TIDEBOOK_EVM_SEEDS=1,2,3,… and TIDEBOOK_EVM_KILLS=1,2,3,… for longer runs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from tests.support.anvil import anvil_node, missing
from tests.support.evm_chain import keys
from tests.support.evm_fold import Fold, following
from tests.support.evm_ingest import Recording, config, evm_sea, untrue
from tests.support.evm_scenario import Scenario, build
from tests.support.evm_scene import SLOTS, Scene, run_scene, there_and_back

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.xdist_group("evm"),
]

SEEDS = [int(seed) for seed in os.environ.get("TIDEBOOK_EVM_SEEDS", "71").split(",")]
KILLS = [int(count) for count in os.environ.get("TIDEBOOK_EVM_KILLS", "2,7").split(",")]


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


def test_too_deep_a_reorg_is_told_and_heals_when_the_chain_comes_back(tmp_path: Path) -> None:
    """Deeper than depth_limit: nothing is published, one alert; then A comes back, or goes on."""

    async def work(scene: Scene) -> None:
        lost, other = await scene.does(scene.scenario.reorg, 6, 7)
        count = len(scene.told.records)
        for _ in range(1000):
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


def test_a_young_chain_is_followed_from_its_first_block(tmp_path: Path) -> None:
    """Fewer blocks than final_depth: nothing but genesis is final, heads are told all the same."""

    async def work(scene: Scene) -> None:
        await scene.does(scene.scenario.reorg, 1, 2)
        await scene.settled()
        assert scene.told.fold.finalised == -1

    run_scene(tmp_path, work, seed=15, before=2)


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
