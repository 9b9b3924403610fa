"""Two-phase books on both engines: random stories of a reorganising chain, judged after every batch by a model.

The embedded engine always, a real TigerBeetle where one is found: pending, post and void, refusals and lookups must
mean the same to the bookkeeper.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from test_books_engines import cluster  # noqa: F401

from sinks.bookkeeper import Bookkeeper
from sinks.books import Books
from sinks.embedded_books import EmbeddedBooks
from tests.support.evm_books import (
    COIN,
    HOLDER,
    NOBODY,
    PEOPLE,
    Held,
    Model,
    Teller,
    balances_in,
    block,
    digest,
    held_in,
    posting,
    records,
    transaction,
    transfer,
)

A, B, *_ = PEOPLE
_numbers = count(20_000)  # a chain of its own for every test: a cluster keeps them all


@pytest.fixture(scope="module", params=["columns", "one by one", "cluster"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Books]:
    if request.param == "cluster":
        yield request.getfixturevalue("cluster")
        return
    directory: Path = tmp_path_factory.mktemp("books")
    with EmbeddedBooks(directory, sync=False, plain=request.param == "columns") as books:
        yield books


@pytest.mark.parametrize("seed", range(4))
def test_a_story(engine: Books, seed: int) -> None:
    number, rng, model = next(_numbers), random.Random(seed), Model()
    chain = f"eip155:{number}"
    keeper, told, batch = Bookkeeper(engine), [], []
    for step in Teller(seed, chain, number).messages(60):
        for record in step:
            batch.append(record)
            told.append(record)
            model.take(record)
        if rng.random() < 0.3:
            keeper = Bookkeeper(engine) if rng.random() < 0.3 else keeper
            keeper.apply([posting(record) for record in batch])
            batch = rng.sample(told, min(3, len(told)))  # come again with the next batch
            assert balances_in(engine, chain) == model.balances()
    first = keeper.apply([posting(record) for record in told])
    assert Bookkeeper(engine).apply([posting(record) for record in told]) == first
    assert balances_in(engine, chain) == model.balances()
    branch = keeper.branch(chain, number)
    assert branch.highest >= (branch.tip or (0,))[0]


def test_what_128_bits_do_not_hold(engine: Books) -> None:
    """Refused as head and as final at once; the accounts and the ids stay sound."""
    number = next(_numbers)
    chain = f"eip155:{number}"

    def told(place: int, finality: str, *moves: tuple[str, str, int], **how: Any) -> list[str]:
        legs = [transfer(f"erc20:{COIN}", *move, log) for log, move in enumerate(moves)]
        tx = transaction(0, legs, None, hash=digest("tx", place))
        made = block(place, "x", digest("parent"), [[tx]])
        (record,) = records(made, finality, chain=chain, chain_number=number, **how)
        (found,) = Bookkeeper(engine).apply([posting(record)])
        return [leg.status for leg in found]

    whole = 2**128 - 1
    assert told(100, "head", (NOBODY, A, whole)) == ["pending"]
    assert told(101, "head", (NOBODY, A, 1), (A, B, 5)) == ["refused", "pending"]
    assert told(100, "final", (NOBODY, A, whole)) == ["posted"]
    assert told(101, "retracted", (NOBODY, A, 1), (A, B, 5)) == ["voided"]
    assert told(102, "final", (NOBODY, A, 1), (A, B, 6), was_head=False) == ["refused", "posted"]
    assert told(102, "final", (NOBODY, A, 1), (A, B, 6), was_head=False) == ["refused", "posted"]
    keys = [(f"{chain}/erc20:{COIN}", HOLDER, owner) for owner in (A, B)]
    assert held_in(engine, keys) == dict(zip(keys, [Held(whole - 6, 0), Held(6, 0)], strict=True))
