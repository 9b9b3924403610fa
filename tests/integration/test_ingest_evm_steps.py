"""Every step of a restless chain: what the ingest told makes books, state and history equal to the node, each time.

The roles' own code is fed here in one process with the ingest's messages as they come, so that stores which have one
owner can be looked into after every step: posted and pending balances, holdings, tables and views.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.domain.evm_changes import evm_asset_changes
from pipeline.domain.holdings import Holding, as_of_head, exists, fold
from sinks.embedded_books import connect
from tests.support.anvil import missing
from tests.support.books_role import Role
from tests.support.evm_compare import (
    books_differ,
    gas_differs,
    history_differs,
    holdings_differ,
    pending_left,
    provenance_differs,
)
from tests.support.evm_scene import Scene, run_scene
from tests.support.evm_truth import truth
from tests.support.history import history, message

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

CHAIN, BLOCKS, CHANGES = "eip155:31337", "evm.blocks.v1", "assets.changes.v1"


class Stores:
    """Books, holdings and history in this process, as the roles keep them."""

    def __init__(self, books: Any, sink: Any) -> None:
        self.books, self.sink, self.role = books, sink, Role(books)
        self.holdings: dict[str, Holding] = {}
        self._fed = self._changes = 0

    def feed(self, records: list[Any]) -> None:
        """What has come since."""
        new, start = records[self._fed :], self._fed
        self._fed = len(records)
        if not new:
            return
        assert not self.role.book(new).stops
        changes = [change for record in new for change in evm_asset_changes(record)]
        places = range(self._changes, self._changes + len(changes))
        self._changes += len(changes)
        self.holdings |= fold(
            self.holdings, [(one, 0, "e", at) for one, at in zip(changes, places, strict=True)]
        )
        self.sink.write("e", [message(one, start + at, BLOCKS) for at, one in enumerate(new)])
        self.sink.write("e", [message(one, at, CHANGES) for one, at in zip(changes, places, strict=True)])
        self.sink.flush()

    def differ(self, scene: Scene) -> list[str]:
        """From the node, at the head and at the last final block."""
        told = scene.told.fold
        holders, world = told.head.accounts(), scene.world
        head = truth(scene.chain, world, None, holders)
        final = truth(scene.chain, world, told.finalised, holders)
        rows = [{**held, "as_of_head": as_of_head(held)} for held in self.holdings.values() if exists(held)]
        unfinal = any(one.transactions for one in told.unfinal)
        return [
            *books_differ(final, world, self.books, CHAIN, pending=False),
            *books_differ(head, world, self.books, CHAIN, pending=True),
            *([] if bool(pending_left(self.books)) == unfinal else ["pending transfers left, or none"]),
            *holdings_differ(final, head, rows, CHAIN),
            *history_differs(head, world, self.sink.query, CHAIN, final=False),
            *history_differs(final, world, self.sink.query, CHAIN, final=True),
            *gas_differs(head, self.sink.query, CHAIN),
            *provenance_differs(head, self.sink.query, CHAIN),
        ]


@contextmanager
def stores(directory: Path) -> Iterator[Stores]:
    with connect(directory / "books") as books, history(directory / "clickhouse") as sink:
        yield Stores(books, sink)


@asynccontextmanager
async def opened(directory: Path) -> AsyncIterator[Stores]:
    """The stores, whose own code has no event loop around it."""
    held = stores(directory)
    yield await asyncio.to_thread(held.__enter__)
    await asyncio.to_thread(held.__exit__, None, None, None)


@pytest.mark.parametrize("seed", [41])
def test_books_state_and_history_are_the_nodes_at_every_step(tmp_path: Path, seed: int) -> None:
    """Reorganisations at depths 1 to 10, there and back, and finality in between."""

    async def work(scene: Scene) -> None:
        async with opened(tmp_path / "stores") as here:
            while scene.told.fold.finalised < scene.world.deployed:
                await scene.does(scene.scenario.run, 2)
                await scene.settled()
            depths = list(range(1, 11))
            scene.draw.shuffle(depths)
            for step, depth in enumerate(depths):
                await scene.does(scene.scenario.run, max(1, depth - scene.room + 1))
                await scene.settled()
                if step % 3 == 2:
                    await scene.does(scene.scenario.there_and_back, depth)
                else:
                    await scene.does(scene.scenario.reorg, depth)
                await scene.settled(compare=False)
                await asyncio.to_thread(here.feed, list(scene.told.records))
                assert await asyncio.to_thread(here.differ, scene) == []
            await scene.does(scene.chain.finalise)
            await scene.settled()
            await asyncio.to_thread(here.feed, list(scene.told.records))
            assert await asyncio.to_thread(here.differ, scene) == []

    run_scene(tmp_path, work, seed=seed)
