"""What the books refuse of one chain: ids of another block, another end, other content. No transfer of it is asked of
the engine, and what may be asked is asked of all chains at once."""

import random
from dataclasses import replace

import pytest

from sinks.bookkeeper import Bookkeeper, BooksDefect, ChainFault
from sinks.embedded_books import connect
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
    killed_before_marks,
    opening,
    posting,
    records,
    transaction,
    transfer,
)

CHAIN, U128 = "eip155:9", 2**128
COIN_KEY = f"{CHAIN}/erc20:{COIN}"
A, B, C, *_ = PEOPLE


def coins(source, target, amount, log=0):
    return transfer(f"erc20:{COIN}", source, target, amount, log)


def one(number, moves, name="x", **other):
    """A block of one transaction."""
    tx = transaction(0, moves, None, hash=digest("tx", number, name), **other)
    return block(number, name, digest("parent"), [[tx]])


def alike(made, other):
    """`other` under a hash whose first 28 bits are those of `made`."""
    return replace(other, hash=made.hash[:9] + digest("twin")[9:])


def told(keeper, batch):
    return keeper.apply([posting(record) for record in batch])


def held(engine, *owners):
    found = held_in(engine, [(COIN_KEY, HOLDER, owner) for owner in owners])
    return [tuple(found.get((COIN_KEY, HOLDER, owner), Held(0, 0))) for owner in owners]


def refused(keeper, batch):
    """Why a batch of one message is refused."""
    with pytest.raises(ChainFault) as caught:
        told(keeper, batch)
    return caught.value.reason


@pytest.mark.parametrize("amount", [7, 9])
@pytest.mark.parametrize("together", [True, False])
def test_two_blocks_of_one_height_whose_ids_are_the_same(amount, together):
    """28 bits of the hash are alike: with the same transfers they would be merged, with others refused."""
    first = one(100, [coins(NOBODY, A, 7)])
    twin = alike(first, one(100, [coins(NOBODY, A, amount)]))
    before = records(first, "head") + records(first, "retracted")
    with connect() as engine:
        keeper = Bookkeeper(engine)
        if not together:
            told(keeper, before)
        assert refused(keeper, (before if together else []) + records(twin, "head")) == "collision"
        assert held(engine, A) == [(0, 0)]
        assert not Bookkeeper(engine).branch(CHAIN, 9).unfinal


def test_a_twin_is_not_known():
    """Neither where blocks come back nor where they are final at once."""
    first = one(100, [coins(NOBODY, A, 7)])
    twin = alike(first, first)
    plain = [replace(posting(records(made, "final")[0]), publication="") for made in (first, twin)]
    with connect() as engine:
        Bookkeeper(engine).apply(plain[:1])
        assert [Bookkeeper(engine).has(of) for of in plain] == [True, False]


@pytest.mark.parametrize(
    ("before", "then"),
    [
        (["head", "retracted"], "final"),
        (["head", "final"], "retracted"),
        (["final"], "retracted"),
        (["final"], "head"),
        (["retracted"], "head"),
    ],
)
@pytest.mark.parametrize("moves", [[], [coins(NOBODY, A, 7)]])
def test_a_block_has_one_end(before, then, moves):
    """Also a block without transfers, of which there is nothing but its marks."""
    made = one(100, moves)
    with connect() as engine:
        for finality in before:
            told(Bookkeeper(engine), records(made, finality))
        stands = held(engine, A)
        assert refused(Bookkeeper(engine), records(made, then)) == "order"
        assert held(engine, A) == stands
        for finality in before:  # and what came before may come again
            told(Bookkeeper(engine), records(made, finality))
        assert held(engine, A) == stands


@pytest.mark.parametrize("finality", ["head", "final", "retracted"])
@pytest.mark.parametrize(
    "moves",
    [[coins(NOBODY, A, 7), coins(NOBODY, B, 5, 1)], [], [coins(NOBODY, A, 8)], [coins(NOBODY, B, 7)]],
)
def test_other_transfers_under_a_known_name(finality, moves):
    """More, fewer, another amount, another account: e.g. a contract was added to the settings."""
    made, other = one(100, [coins(NOBODY, A, 7)]), one(100, moves)
    with connect() as engine:
        told(Bookkeeper(engine), records(made, "head"))
        assert refused(Bookkeeper(engine), records(other, finality)) == "other_content"
        assert held(engine, A, B) == [(0, 7), (0, 0)]


def test_a_leg_of_a_block_that_was_cut_off_and_comes_otherwise():
    made, other = one(100, [coins(NOBODY, A, 7)]), one(100, [coins(NOBODY, A, 8)])
    with connect() as engine:
        keeper = Bookkeeper(engine)
        killed_before_marks(keeper)
        told(keeper, records(made, "head"))
        with pytest.raises(ChainFault, match="hold another one under this id"):
            told(Bookkeeper(engine), records(other, "final"))
        with pytest.raises(BooksDefect, match="EXISTS_WITH_DIFFERENT_AMOUNT"):
            told(Bookkeeper(engine), records(other, "head"))


@pytest.mark.parametrize("held_before", [U128 - 1, 5])
def test_an_opening_that_128_bits_do_not_hold_is_refused(held_before):
    """B gave 2^128 - 1 in the first run; in the second it is told to have had so much again, or 5."""
    first = one(100, [coins(B, C, U128 - 1)])
    later = one(200, [coins(C, A, 1)], balance_changes=[opening(B, f"erc20:{COIN}", held_before)])
    (message,) = records(later, "final", run=200)
    asked = replace(posting(message), first_run=False)
    with connect() as engine:
        told(Bookkeeper(engine), records(first, "final"))
        (found,) = Bookkeeper(engine).apply([asked])
        assert [(leg.status, leg.reason, leg.amount) for leg in found] == [
            ("refused", "over_u128", U128 - 1 + held_before), ("posted", None, 1)
        ]  # fmt: skip
        assert held(engine, A, B, C) == [(1, 0), (1 - U128, 0), (U128 - 2, 0)]
        assert Bookkeeper(engine).apply([asked]) == [found]
        assert held(engine, A, B) == [(1, 0), (1 - U128, 0)]


def test_an_opening_that_was_refused_is_not_booked_when_its_message_comes_again():
    """The contract's sum is full of pending units; when they are gone, the opening would fit."""
    full = one(100, [coins(NOBODY, A, U128 - 1)])
    tells = one(101, [coins(B, C, 1)], balance_changes=[opening(B, f"erc20:{COIN}", 5)])
    with connect() as engine:
        keeper = Bookkeeper(engine)
        told(keeper, records(full, "head"))
        (found,) = told(keeper, records(tells, "head"))
        assert [leg.status for leg in found] == ["refused", "pending"]
        told(keeper, records(full, "retracted"))
        assert told(Bookkeeper(engine), records(tells, "head")) == [found]
        assert held(engine, B) == [(0, -1)]


def test_an_opening_of_a_batch_that_failed_is_asked_again():
    """The process goes on after a fault: what it thought to have opened it may not have."""
    opened = one(100, [coins(A, B, 1)], balance_changes=[opening(A, f"erc20:{COIN}", 10)])
    with connect() as engine:
        keeper = Bookkeeper(engine)
        send = keeper._accounts.send

        def fails(events):
            raise BooksDefect("made up")

        keeper._accounts.send = fails
        with pytest.raises(BooksDefect, match="made up"):
            told(keeper, records(opened, "head"))
        keeper._accounts.send = send
        told(keeper, records(opened, "head"))
        assert held(engine, A) == [(10, -1)]


class Counted:
    """An engine whose calls are counted."""

    def __init__(self, books):
        self._books, self.calls = books, 0

    def __getattr__(self, name):
        call = getattr(self._books, name)

        def counted(*args):
            self.calls += 1
            return call(*args)

        return counted


def line(chain, number, count):
    """Heads that link."""
    found, parent = [], digest("genesis", number)
    for height in range(100, 100 + count):
        tx = transaction(0, [coins(NOBODY, A, 7)], 3, hash=digest("t", chain, height))
        made = block(height, (chain, height), parent, [[tx]])
        parent = made.hash
        found += records(made, "head", chain=chain, chain_number=number)
    return found


def test_chains_that_alternate_cost_no_more_calls():
    one_by_one, other = line("eip155:9", 9, 32), line("eip155:10", 10, 32)
    calls, answers = [], []
    for batch in (
        one_by_one + other,
        [each for both in zip(one_by_one, other, strict=True) for each in both],
    ):
        with connect() as engine:
            counted = Counted(engine)
            answers.append(dict(zip(map(name_of, batch), told(Bookkeeper(counted), batch), strict=True)))
            calls.append(counted.calls)
    assert calls[0] == calls[1] < 12
    assert answers[0] == answers[1]


def name_of(record):
    return record["chain"], record["block_number"]


@pytest.mark.parametrize("seed", range(3))
def test_two_stories_in_one_batch_are_told_in_the_order_given(seed):
    rng, models = random.Random(seed), (Model(), Model())
    stories = [
        [record for step in Teller(seed, chain, number).messages(40) for record in step]
        for chain, number in (("eip155:9", 9), ("eip155:10", 10))
    ]
    with connect() as engine, connect() as plain:
        keeper, singly = Bookkeeper(engine), Bookkeeper(plain)
        while any(stories):
            batch = []
            for _ in range(rng.randrange(1, 30)):
                if any(stories):
                    which = rng.choice([n for n, story in enumerate(stories) if story])
                    batch.append(stories[which].pop(0))
                    models[which].take(batch[-1])
            assert told(keeper, batch) == [told(singly, [record])[0] for record in batch]
        for chain, model in zip(("eip155:9", "eip155:10"), models, strict=True):
            assert balances_in(engine, chain) == model.balances()


def test_the_stories_come_to_the_limit():
    """Amounts and sums that 128 bits do not hold are part of every few stories; else the others prove little."""
    models = [Model() for _ in range(6)]
    for seed, model in enumerate(models):
        for step in Teller(seed).messages(60):
            for record in step:
                model.take(record)
    assert sum(model.refused > 0 for model in models) >= 4
    assert max(abs(units) for model in models for units in model.posted.values()) > 2**127
