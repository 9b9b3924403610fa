"""Ingest, books, assets and history on a restless chain: each store ends equal to what the node itself answers.

Everything is killed at some moment: the ingest in the middle of a reorganisation, each role in mid-work, the broker
with all it knows. TIDEBOOK_EVM_ROLES=1,2,3,… for more seeds.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sinks.embedded_books import connect
from tests.support.anvil import anvil_node, missing
from tests.support.demo import tidebook
from tests.support.evm_compare import (
    books_differ,
    fees_of,
    gas_differs,
    history_differs,
    holdings_differ,
    pending_left,
    provenance_differs,
)
from tests.support.evm_fold import Fold, Follower, following
from tests.support.evm_ingest import EvmSea, Recording, config, evm_sea, untrue
from tests.support.evm_scenario import Scenario, World, build
from tests.support.evm_truth import Truth, truth
from tests.support.history import history

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.xdist_group("evm-roles"),
]

SEEDS = [int(seed) for seed in os.environ.get("TIDEBOOK_EVM_ROLES", "91").split(",")]
CHAIN = "eip155:31337"
ROLES = ("books", "assets", "history")
SLOTS = 7


class Life:
    """One chain and everything that follows it."""

    def __init__(self, chain: Recording, world: World, seed: int, data_dir: Path) -> None:
        self.chain, self.world, self.data_dir = chain, world, data_dir
        self.scenario, self.draw, self.fold = Scenario(chain, world, seed), random.Random(seed), Fold()
        self.text = config(chain, world, [chain.anvil.url])

    async def storm(self, sea: EvmSea, told: Follower, steps: int) -> None:
        """Reorganisations, and after each the ingest or a role killed; the ingest catches up each time."""
        for _ in range(steps):
            await asyncio.to_thread(self.scenario.run, 3)
            await sea.caught_up(told, self.chain)
            depth = min(
                self.draw.randint(1, 8), self.chain.head - max(told.fold.finalised, self.world.deployed)
            )
            victim = self.draw.choice((*ROLES, "ingest"))
            moving = asyncio.create_task(asyncio.to_thread(self.scenario.there_and_back, depth))
            await asyncio.sleep(self.draw.uniform(0, 0.4))
            await sea.kill(victim)
            await moving
            await (sea.ingest(self.text) if victim == "ingest" else sea.here.start(victim))
            await asyncio.to_thread(self.scenario.reorg, max(1, depth // 2))
            await sea.caught_up(told, self.chain)

    async def applied(self, sea: EvmSea) -> None:
        """Until every role has acknowledged everything, also what the others derive."""
        quiet = 0
        for _ in range(3000):
            sea.supervisor.check()
            targets = sea.supervisor.targets()
            children = {name: sea.supervisor.children[name] for name in ROLES}
            behind: dict[str, Any] = {name: child.behind(targets) for name, child in children.items()}
            behind |= {name: "not ready" for name, child in children.items() if not child.status.get("ready")}
            stopped = {name: child.status.get("stopped") for name, child in children.items()}
            assert not any(stopped.values()), stopped
            quiet = quiet + 1 if not any(behind.values()) else 0
            if quiet >= 5:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(f"not applied: {behind}; {sea._said()}")

    async def truths(self) -> tuple[Truth, Truth]:
        """(at the last final block, at the head)."""
        holders = self.fold.head.accounts()
        final = await asyncio.to_thread(truth, self.chain, self.world, self.fold.finalised, holders)
        return final, await asyncio.to_thread(truth, self.chain, self.world, None, holders)

    async def state_is_right(self, sea: EvmSea) -> None:
        final, head = await self.truths()
        rows = await asyncio.to_thread(holdings, sea.here.web_port)
        assert holdings_differ(final, head, rows, CHAIN) == []

    async def stores_are_right(self) -> None:
        """Books and ClickHouse, when nobody has them open."""
        final, head = await self.truths()
        with connect(self.data_dir / "books") as books:
            assert books_differ(final, self.world, books, CHAIN, pending=False) == []
            assert books_differ(head, self.world, books, CHAIN, pending=True) == []
            unfinal = any(one.transactions for one in self.fold.unfinal)
            assert bool(pending_left(books)) == unfinal
        with history(self.data_dir / "clickhouse") as sink:
            assert history_differs(head, self.world, sink.query, CHAIN, final=False) == []
            assert history_differs(final, self.world, sink.query, CHAIN, final=True) == []
            assert gas_differs(head, sink.query, CHAIN) == []
            assert provenance_differs(head, sink.query, CHAIN) == []
            (retracted,) = sink.query(
                "SELECT count() AS n FROM evm_blocks FINAL WHERE finality = 'retracted'"
            )
            assert int(retracted["n"]) > 0


def holdings(port: int) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/holdings/?kind=nft", timeout=60) as answer:
        return list(json.loads(answer.read())["holdings"])


async def stopped(sea: EvmSea) -> None:
    await sea.supervisor.stop()
    sea.supervisor.children.clear()


@pytest.mark.parametrize("seed", SEEDS)
def test_books_state_and_history_are_the_nodes(tmp_path: Path, seed: int) -> None:
    """A storm with kills, then a new broker that has forgotten everything, then all of it final."""

    async def scenario() -> None:
        with anvil_node(tmp_path / "anvil", slots_in_an_epoch=SLOTS) as anvil:
            chain = Recording(anvil)
            life = Life(chain, await asyncio.to_thread(build, chain), seed, tmp_path / "data")
            await asyncio.to_thread(life.scenario.run, 14)
            for part, steps in enumerate((2, 1)):
                async with evm_sea(life.data_dir) as sea, following(sea.url, fold=life.fold) as told:
                    await asyncio.gather(*(sea.here.start(role) for role in ROLES))
                    await sea.ingest(life.text)
                    await life.storm(sea, told, steps)
                    if part:
                        await asyncio.to_thread(chain.finalise)
                        await sea.caught_up(told, chain)
                    await life.applied(sea)
                    await sea.equal(told, chain, life.world)
                    await life.state_is_right(sea)
                    assert untrue(told.records, chain.known) == []
                    over = Counter(one["id"] for one in await sea.alerts("over_u128"))
                    subjects = {one["subject"] for one in await sea.alerts("over_u128")}
                    huge = f"{CHAIN}/erc20:{life.world.huge.address.lower()}"
                    assert len(over) == 1 and len(subjects) == 1 and huge in next(iter(subjects))
                    await stopped(sea)
                await life.stores_are_right()
                await asyncio.to_thread(life.scenario.reorg, 3, 5)  # while nobody looks
            await asyncio.to_thread(gas_report_is_right, life)

    asyncio.run(scenario())


def gas_report_is_right(life: Life) -> None:
    """`tidebook gas-report` of each payer = the sum over its receipts = its GAS account in the books."""
    done = tidebook("gas-report", "--data-dir", life.data_dir, "--chain", CHAIN, "--json")
    assert done.status == 0, done.err
    told = {row["owner"]: int(row["fee_paid"]) for row in done.rows}
    due = fees_of(truth(life.chain, life.world, life.fold.last_final.number))  # type: ignore[union-attr]
    assert told == due
