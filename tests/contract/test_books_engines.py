"""One contract for both book engines: the recorded vectors, and seeded random histories side by side.

The embedded engine is always tested, judging batches as columns and one by one. A real TigerBeetle is
tested where `TIGERBEETLE_ADDRESSES` names a cluster or a `tigerbeetle` binary is on PATH (then a server of
our own is started on a fresh data file).
"""

from __future__ import annotations

import inspect
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tigerbeetle as tb
from books_batches import History, Player
from books_vectors import Run, scenarios

from sinks.books import Books
from sinks.embedded_books import EmbeddedBooks, connect
from sinks.tigerbeetle import ClusterBooks
from sinks.tigerbeetle import connect as connect_cluster
from tests.support.tigerbeetle import tigerbeetle_server

SCENARIOS = {scenario["name"]: scenario for scenario in scenarios()}
SEEDS = range(24)
SEEDS_REAL = [3, 1017, 2026]
NOT_IN_HISTORIES = {
    ("create_accounts", "RESERVED_FIELD"),  # the package's Account has no such field
    ("create_transfers", "OVERFLOWS_TIMEOUT"),  # needs a clock near 2^63 ns
}


class Clock:
    """Wall time that can be moved on, so that no test waits for a timeout."""

    def __init__(self) -> None:
        self.ahead_ns = 0

    def __call__(self) -> int:
        return time.time_ns() + self.ahead_ns

    def wait(self, seconds: float) -> None:
        self.ahead_ns += int(seconds * 1e9)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterBooks]:
    addresses = os.environ.get("TIGERBEETLE_ADDRESSES")
    if addresses:
        yield from _closing(connect_cluster(addresses, int(os.environ.get("TIGERBEETLE_CLUSTER_ID", "0"))))
        return
    binary = shutil.which("tigerbeetle")
    if not binary:
        pytest.skip("no TigerBeetle: neither TIGERBEETLE_ADDRESSES nor a `tigerbeetle` on PATH")
    with tigerbeetle_server(binary, tmp_path_factory.mktemp("tigerbeetle")) as address:
        yield from _closing(connect_cluster(address, timeout_s=30))


def _closing(books: ClusterBooks) -> Iterator[ClusterBooks]:
    yield books
    books.close()


@pytest.fixture(scope="module", params=["columns", "one by one", "cluster"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, Any]]:
    """(an engine with ClientSync's methods, a way to let its time pass)."""
    if request.param == "cluster":
        yield request.getfixturevalue("cluster"), time.sleep
        return
    clock = Clock()
    with EmbeddedBooks(
        tmp_path_factory.mktemp("books"), clock=clock, sync=False, plain=request.param == "columns"
    ) as books:
        yield books, clock.wait


@pytest.mark.parametrize("name", SCENARIOS)
def test_vector(engine: tuple[Any, Any], name: str) -> None:
    Run(*engine).play(SCENARIOS[name])


def test_vectors_are_all_there() -> None:
    assert len(SCENARIOS) == 118


def test_vectors_equal_the_shared_ones() -> None:
    shared = Path(__file__).parents[3] / "shared" / "data" / "tigerbeetle" / "vectors.json"
    if not shared.exists():
        pytest.skip("no ../shared beside this checkout")
    assert json.loads(shared.read_text())["scenarios"] == scenarios()


def test_engine_is_books(engine: tuple[Any, Any]) -> None:
    assert isinstance(engine[0], Books)


@pytest.mark.parametrize("kind", [EmbeddedBooks, ClusterBooks])
def test_same_methods_as_client_sync(kind: type) -> None:
    for name in (*(m for m in vars(tb.StateMachineMixin) if not m.startswith("_")), "close"):
        theirs = inspect.signature(getattr(tb.ClientSync, name)).parameters
        assert list(inspect.signature(getattr(kind, name)).parameters) == list(theirs)


def _embedded(directory: Path, seed: int, batches: int, plain: bool) -> Player:
    clock = Clock()
    player = Player(EmbeddedBooks(directory, clock=clock, sync=False, plain=plain), clock.wait)
    player.seen = player.play(History(seed).draw(batches, expiry=True))
    player.engine.close()
    return player


def test_columns_and_one_by_one_agree_on_every_status(tmp_path: Path) -> None:
    """Random histories answer alike however they are judged, and meet every status there is."""
    statuses = set()
    for seed in SEEDS:
        columns = _embedded(tmp_path / f"c{seed}", seed, 60, True)
        single = _embedded(tmp_path / f"s{seed}", seed, 60, False)
        for number, (a, b) in enumerate(zip(columns.seen, single.seen, strict=True)):
            assert a == b, f"seed {seed}, step {number}"
        statuses |= columns.statuses
    every = {("create_accounts", status.name) for status in tb.CreateAccountStatus}
    every |= {("create_transfers", status.name) for status in tb.CreateTransferStatus}
    assert every - statuses == NOT_IN_HISTORIES


def test_replaying_a_history_changes_nothing(tmp_path: Path) -> None:
    """The same events again, after a restart: no row changes, and every created id says `exists`."""
    clock = Clock()
    books = EmbeddedBooks(tmp_path, clock=clock, sync=False)
    player = Player(books, clock.wait)
    steps = [step for step in History(7).draw(40, expiry=False) if step[0] == "create_transfers"]
    accounts = next(argument for op, argument in History(7).draw(40, False) if op == "create_accounts")
    created = list(_play(player, accounts, steps))
    query = tb.QueryFilter(0, 0, 0, 0, 0, 0, 0, 8189, tb.QueryFilterFlags.NONE)
    before = books.query_accounts(query), books.query_transfers(query)
    books.close()
    with EmbeddedBooks(tmp_path, clock=clock, sync=False) as books:
        assert (books.query_accounts(query), books.query_transfers(query)) == before
        again = books.create_transfers(created)
        assert {result.status.name for result in again} == {"EXISTS"}
        assert (books.query_accounts(query), books.query_transfers(query)) == before


def _play(player: Player, accounts: list[tb.Account], steps: list[Any]) -> Iterator[tb.Transfer]:
    """Create and give back each unlinked transfer that was created, as it was sent."""
    player.engine.create_accounts(accounts)
    for _, events in steps:
        events = [event for event in events if isinstance(event.timestamp, int)]
        results = player.engine.create_transfers(events)
        for event, result in zip(events, results, strict=True):
            if result.status == tb.CreateTransferStatus.CREATED and not event.flags & tb.TransferFlags.LINKED:
                yield event


@pytest.mark.parametrize("seed", SEEDS_REAL)
def test_embedded_agrees_with_the_cluster(cluster: ClusterBooks, tmp_path: Path, seed: int) -> None:
    base = time.time_ns() << 50
    clock = Clock()
    ours = Player(EmbeddedBooks(tmp_path, clock=clock, sync=False), clock.wait)
    theirs = Player(cluster, time.sleep)
    steps = ours.play(History(seed, base).draw(60, expiry=True))
    for number, (a, b) in enumerate(
        zip(steps, theirs.play(History(seed, base).draw(60, expiry=True)), strict=True)
    ):
        assert a == b, f"seed {seed}, step {number}"
    ours.engine.close()


def test_connect_without_argument_is_fresh_and_leaves_nothing() -> None:
    first, second = connect(), connect()
    first.create_accounts([tb.Account(id=1, ledger=1, code=1)])
    assert second.lookup_accounts([1]) == []
    directory = first.directory
    assert directory.is_dir()
    first.close()
    second.close()
    assert not directory.exists()
