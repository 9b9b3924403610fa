"""A broker that forgets while a consumer lags: the new life tells again, in order and by name, what it missed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.anvil import anvil_node, missing
from tests.support.evm_fold import Fold, following
from tests.support.evm_ingest import Recording, config, evm_sea, untrue
from tests.support.evm_scenario import Scenario, build

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


KILLS = (1, 12, 30)


@pytest.mark.parametrize("final_before_next", [False, True])
def test_a_consumer_that_missed_retractions_is_told_them_in_the_next_life(
    tmp_path: Path, final_before_next: bool
) -> None:
    """It stops reading at branch A; A gives way to B, all is killed; or A comes back, or B is final meanwhile."""

    async def scenario() -> None:
        with anvil_node(tmp_path / "anvil", slots_in_an_epoch=4) as anvil:
            chain = Recording(anvil)
            world = await asyncio.to_thread(build, chain)
            life = Scenario(chain, world, 17)
            await asyncio.to_thread(life.run, 14)
            text, behind, seen = config(chain, world, [anvil.url]), Fold(), []
            for number in range(3):
                async with evm_sea(tmp_path / "data") as sea, following(sea.url) as told:
                    await sea.ingest(text)
                    for count in KILLS[:number]:  # in the midst of telling again
                        await told.until(
                            lambda _, due=count: len(told.records) >= due, f"{count} messages told"
                        )
                        await sea.kill()
                        await sea.ingest(text)
                    async with following(sea.url, fold=behind) as lagging:
                        await sea.caught_up(lagging, chain)
                        await sea.equal(lagging, chain, world)
                    if number == 1:  # A, B and A again, unseen
                        await asyncio.to_thread(life.there_and_back, 3, 2)
                    await asyncio.to_thread(life.reorg, 2 + number, 4 + number)
                    await sea.caught_up(told, chain)
                    seen += told.records
                    await sea.kill()
                if final_before_next:
                    await asyncio.to_thread(chain.finalise)
                else:
                    await asyncio.to_thread(life.reorg, 3, 5)
            assert untrue(seen, chain.known) == []
            assert behind.counts["retracted"] > 3

    asyncio.run(scenario())
