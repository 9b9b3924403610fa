"""Lying nodes in front of the EVM ingest: nothing wrong is ever published, and all of it once the lies stop.

The true node stands behind a proxy that lies (tests/support/lying_rpc.py); every message that came is compared with
what the true node said of that very block. `-s` prints what was told and what the ingest made of it.
TIDEBOOK_EVM_LIES=1,2,3,… mixes lies by more seeds.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from pathlib import Path

import pytest

from pipeline.supervisor import Child
from tests.support.anvil import anvil_node, missing
from tests.support.evm_fold import PATIENCE_S, Follower, following
from tests.support.evm_ingest import EvmSea, Recording, config, evm_sea, untrue
from tests.support.evm_scenario import Scenario, build
from tests.support.lying_rpc import LyingRpc, lying_rpc
from tests.support.rpc_lies import LIES, SOCKET, TRANSPORT

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
    pytest.mark.xdist_group("evm-lies"),
]

SEEDS = [int(seed) for seed in os.environ.get("TIDEBOOK_EVM_LIES", "1").split(",")]
SLOTS = 4
LIVE = tuple(name for name in LIES if name not in ("omit_log", "omit_all_logs", "repeat_log", "alter_log"))
"""Lies about what a live ingest asks; those about eth_getLogs are told to a backfill."""


class Table:
    """What was told, and what came of it; printed at the end."""

    def __init__(self, title: str) -> None:
        self.title, self.rows = title, []

    def row(self, what: str, told: Counter[str], child: Child, seconds: float) -> None:
        lies = ", ".join(f"{name} {count}" for name, count in sorted(told.items())) or "-"
        self.rows.append((what, lies, f"{seconds:.1f} s", noticed(child)))

    def show(self) -> None:
        print(f"\n{self.title}")
        for what, lies, seconds, seen in self.rows:
            print(f"  {what:20} told: {lies:60} recovered in {seconds:>7}; caught so far: {seen}")


def noticed(child: Child) -> str:
    """What the ingest says that it caught so far, by kind."""
    found: Counter[str] = Counter()
    for chain in (child.status.get("chains") or {}).values():
        found.update(chain.get("caught") or {})
    return ", ".join(f"{name} {count}" for name, count in found.most_common()) or "-"


async def lived_through(
    sea: EvmSea, told: Follower, chain: Recording, life: Scenario, proxy: LyingRpc, lies: list[tuple[str, float]],
    room: int = 3,
) -> tuple[Counter[str], float]:  # fmt: skip
    """Blocks and a reorganisation while those lies are told, honesty, all told; what was told, seconds to recover."""
    before, asked = Counter(proxy.told), proxy.asked.total()
    for name, share in lies:
        proxy.lie(name, share)
    for step in range(2):
        await asyncio.to_thread(life.block, 2)
        await asyncio.sleep(0.1)
        if step and chain.head - told.fold.finalised > room:
            await asyncio.to_thread(life.reorg, min(room, 2))
    for look in range(600):  # a loaded machine may not have come to ask anything yet
        asked_enough = look >= 6 and proxy.asked.total() - asked > 12
        if asked_enough or all(proxy.told[name] > before[name] for name, _ in lies):
            break
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.1)
    proxy.honest()
    begun = asyncio.get_running_loop().time()
    await asyncio.to_thread(life.block, 1)
    await sea.caught_up(told, chain)
    return Counter(proxy.told) - before, asyncio.get_running_loop().time() - begun


def gentle(proxy: LyingRpc) -> LyingRpc:
    proxy.hang_s, proxy.retry_after = 0.5, "0"
    return proxy


@pytest.mark.parametrize("form", ["http", "ws"])
def test_each_lie_alone_of_the_only_node(tmp_path: Path, form: str) -> None:
    """Every lie in turn, and nobody to ask instead: the ingest waits rather than to publish what is wrong."""
    names = (
        (*LIVE, *TRANSPORT)
        if form == "http"
        else (*SOCKET, "hang", "cut_json", "old_head", "stale", "alter_hash")
    )
    table = Table(f"each lie alone, one node over {form}")

    async def scenario() -> None:
        with (
            anvil_node(tmp_path / "anvil", slots_in_an_epoch=SLOTS) as anvil,
            lying_rpc(anvil.url, 1) as proxy,
        ):
            chain, told_all = Recording(anvil), Counter()
            world = await asyncio.to_thread(build, chain)
            life = Scenario(chain, world, 30)
            url = gentle(proxy).url if form == "http" else proxy.ws_url
            async with evm_sea(tmp_path / "data") as sea, following(sea.url) as told:
                child = await sea.ingest(config(chain, world, [url], timeout_s=0.4, silence_s=0.5))
                await sea.caught_up(told, chain)
                for name in names:
                    count, seconds = await lived_through(sea, told, chain, life, proxy, [(name, 0.8)])
                    table.row(name, count, child, seconds)
                    told_all += count
                    assert untrue(told.records, chain.known) == [], name
                await sea.equal(told, chain, world)
                table.show()
                assert len(told_all) >= len(names) * 2 // 3, (
                    f"lies that were never told: {set(names) - set(told_all)}"
                )

    asyncio.run(scenario())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("honest", [False, True], ids=["alone", "beside-an-honest-node"])
def test_mixed_lies(tmp_path: Path, seed: int, honest: bool) -> None:
    """Several lies at once, drawn; alone or beside a node that tells the truth."""
    table = Table(f"mixes of seed {seed}, {'beside an honest node' if honest else 'alone'}")
    draw = random.Random(seed)

    async def scenario() -> None:
        with (
            anvil_node(tmp_path / "anvil", slots_in_an_epoch=SLOTS) as anvil,
            lying_rpc(anvil.url, seed) as proxy,
        ):
            chain = Recording(anvil)
            world = await asyncio.to_thread(build, chain)
            life = Scenario(chain, world, seed)
            urls = [gentle(proxy).url, *([anvil.url] if honest else [])]
            async with evm_sea(tmp_path / "data") as sea, following(sea.url) as told:
                child = await sea.ingest(config(chain, world, urls, timeout_s=0.4, silence_s=0.5))
                await sea.caught_up(told, chain)
                for number in range(3):
                    lies = [
                        (name, draw.choice((0.05, 0.2, 0.5))) for name in draw.sample((*LIVE, *TRANSPORT), 5)
                    ]
                    count, seconds = await lived_through(sea, told, chain, life, proxy, lies)
                    table.row(f"mix {number}", count, child, seconds)
                    assert untrue(told.records, chain.known) == [], lies
                await sea.equal(told, chain, world)
                table.show()
                assert sum(proxy.told.values()) > (0 if honest else 5)  # who was caught is asked less

    asyncio.run(scenario())


@pytest.mark.parametrize("level", ["header", "full"])
def test_lies_to_a_backfill(tmp_path: Path, level: str) -> None:
    """Short, doubled and altered answers about final blocks, and a limit to the range of eth_getLogs."""
    table = Table(f"backfill at level {level}")
    lies = (("omit_log", 0.4), ("omit_all_logs", 0.3), ("repeat_log", 0.3), ("alter_log", 0.3),
            ("short_receipts", 0.03), ("receipt_without_log", 0.03), ("too_many", 0.02), ("html", 0.02),
            ("empty_bloom", 0.01), ("omit_transaction", 0.01))  # fmt: skip

    async def scenario() -> None:
        with anvil_node(tmp_path / "anvil", slots_in_an_epoch=1) as anvil, lying_rpc(anvil.url, 5) as proxy:
            chain = Recording(anvil)
            world = await asyncio.to_thread(build, chain)
            await asyncio.to_thread(Scenario(chain, world, 41).run, 60)
            gentle(proxy).log_range = 7

            def lied_to() -> bool:
                about_logs = any(proxy.told[name] for name, _ in lies[:4])
                return about_logs == (level == "header") and sum(proxy.told.values()) > 3

            for name, share in lies:
                proxy.lie(name, share)
            last = chain.head - 4
            text = config(chain, world, [proxy.url], watched=(), verify=level, timeout_s=1.0, log_range=40)
            async with evm_sea(tmp_path / "data") as sea, following(sea.url) as told:
                begun = asyncio.get_running_loop().time()
                child = await sea.ingest(text, "--to", str(last))
                for tenth in range(
                    2400
                ):  # until it was lied to about logs and blocks, and had some time with it
                    if child.process.returncode is not None or (tenth > 40 and lied_to()):
                        break
                    await asyncio.sleep(0.1)
                proxy.honest()
                assert await asyncio.wait_for(child.process.wait(), PATIENCE_S) == 0, child.last_words
                table.row(level, proxy.told, child, asyncio.get_running_loop().time() - begun)
                await told.until(lambda fold: fold.finalised == last, f"block {last} told")
                assert untrue(told.records, chain.known, every=False) == []
                await sea.equal_at(told, chain, world, last, gas=False)
            table.show()
            assert bool(proxy.asked["eth_getLogs"]) == (
                level == "header"
            )  # whole receipts tell all at level full
            assert lied_to()

    asyncio.run(scenario())
