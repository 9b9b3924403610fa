"""The EVM ingest on Apache Kafka: two of them, one writes; it dies and the other goes on, through reorganisations."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.anvil import anvil_node, missing
from tests.support.evm_fold import following
from tests.support.evm_ingest import Recording, config, evm_sea, untrue
from tests.support.evm_scenario import Scenario, build

pytestmark = [
    pytest.mark.xdist_group("kafka"),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]


def test_of_two_ingests_one_writes_and_the_other_takes_over(tmp_path: Path, kafka: str) -> None:
    async def scenario() -> None:
        with anvil_node(tmp_path / "anvil", slots_in_an_epoch=4) as anvil:
            chain = Recording(anvil)
            world = await asyncio.to_thread(build, chain)
            life = Scenario(chain, world, 31)
            await asyncio.to_thread(life.run, 6)
            async with evm_sea(tmp_path / "data", kafka) as sea, following(sea.url) as told:
                text = config(chain, world, [anvil.url])
                first = await sea.ingest(text, name="ingest-one")
                await sea.caught_up(told, chain)
                second = await sea.ingest(text, name="ingest-two")
                for depth in (3, 1, 5):
                    await asyncio.to_thread(life.reorg, depth)
                    await sea.caught_up(told, chain)
                await sea.here.until(
                    lambda: {_chain(first).get("standby"), _chain(second).get("standby")} == {True, False},
                    "one of them stands by",
                )
                writer, other = (second, first) if _chain(first)["standby"] else (first, second)
                await asyncio.to_thread(life.reorg, 4)
                await sea.kill(writer.name)
                await asyncio.to_thread(life.run, 3)
                await sea.caught_up(told, chain)
                assert not _chain(other)["standby"]
                await asyncio.to_thread(chain.finalise)
                await sea.caught_up(told, chain)
                await sea.equal(told, chain, world)
                assert untrue(told.records, chain.known) == []

    asyncio.run(scenario())


def _chain(child: object) -> dict[str, object]:
    return child.status.get("chains", {}).get("eip155:31337", {})  # type: ignore[attr-defined,no-any-return]
