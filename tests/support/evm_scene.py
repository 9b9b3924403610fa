"""A chain with its life, an ingest that follows it, and a plain consumer that judges: what tests of both begin with."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from tests.support.anvil import anvil_node
from tests.support.evm_fold import Follower, following
from tests.support.evm_ingest import EvmSea, Recording, config, evm_sea, untrue
from tests.support.evm_scenario import Scenario, World, build

SLOTS: Final = 7  # final = head − 14: reorgs of depth 10 fit above it


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


async def there_and_back(scene: Scene, depth: int) -> None:
    """A→B→A, told at each turn."""
    lost, other = await scene.does(scene.scenario.reorg, depth)
    await scene.settled()
    await scene.does(scene.chain.rollback, len(other))
    await scene.does(scene.chain.play, lost)
    if len(other) > len(lost):
        await scene.does(scene.scenario.run, len(other) - len(lost))
