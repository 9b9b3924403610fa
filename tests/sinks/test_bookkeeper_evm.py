"""Blocks that may be taken back, in the books: head = pending, final = posted, retracted = voided, come what may.

Random stories of a reorganising chain are judged after every message by a model that knows nothing of transfers
ids; then the same stories with duplicates, in other batches, and with a kill between any two calls of the engine.
"""

import random
from dataclasses import replace

import pytest

from pipeline.domain.account import AccountCode, AccountRef, account_id
from pipeline.domain.branch import Branch, step_of
from sinks.bookkeeper import Bookkeeper, ChainFault
from sinks.books import ACCOUNT_STRUCT, TRANSFER_STRUCT
from sinks.embedded_books import connect
from tests.support.evm_books import (
    COIN,
    GAS,
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

CHAIN, NUMBER = "eip155:9", 9
COIN_KEY = f"{CHAIN}/erc20:{COIN}"
A, B, C, *_ = PEOPLE
U128 = 2**128


class Killed(Exception):
    pass


class Mortal:
    """An engine that a process talks to until it is killed: after `life` calls, done or not."""

    def __init__(self, books, life, done):
        self._books, self._life, self._done = books, life, done

    def __getattr__(self, name):
        call = getattr(self._books, name)

        def once(data):
            self._life -= 1
            if self._life < 0:
                if self._done:
                    call(data)
                raise Killed
            return call(data)

        return once


def story(seed, steps=50):
    return [record for step in Teller(seed).messages(steps) for record in step]


def told(keeper, batch):
    return keeper.apply([posting(record) for record in batch])


def cut(items, rng):
    at = 0
    while at < len(items):
        size = rng.choice([1, 2, 3, 9, 64])
        yield items[at : at + size]
        at += size


@pytest.mark.parametrize("seed", range(12))
def test_balances_are_the_fold_of_what_stands_after_every_message(seed):
    model = Model()
    with connect() as engine:
        keeper = Bookkeeper(engine)
        for record in story(seed):
            told(keeper, [record])
            model.take(record)
            assert balances_in(engine, CHAIN) == model.balances()


@pytest.mark.parametrize("seed", range(8))
def test_batches_duplicates_and_other_processes_change_nothing(seed):
    """Cut anywhere, any message again at any later time, by processes that remember nothing: and told the same."""
    rng, messages, model = random.Random(seed), story(seed, 80), Model()
    with connect() as engine:
        keeper = Bookkeeper(engine)
        once = [keeper.apply([posting(record)])[0] for record in messages]
    with connect() as engine:
        keeper, at = Bookkeeper(engine), 0
        for batch in cut(messages, rng):
            if rng.random() < 0.4:
                keeper = Bookkeeper(engine)
            before = rng.sample(range(at + 1), min(at + 1, rng.randrange(4))) if at else []
            places = [*before, *range(at, at + len(batch))]
            assert told(keeper, [messages[place] for place in places]) == [once[place] for place in places]
            for record in batch:
                model.take(record)
            at += len(batch)
            assert balances_in(engine, CHAIN) == model.balances()


@pytest.mark.parametrize("seed", range(8))
def test_killed_between_any_two_calls_and_started_again(seed):
    rng, messages, model, kills = random.Random(seed), story(seed, 60), Model(), 0
    with connect() as engine:
        keeper = Bookkeeper(engine)
        once = [keeper.apply([posting(record)])[0] for record in messages]
    with connect() as engine:
        at = 0
        for batch in cut(messages, rng):
            while True:
                try:
                    keeper = Bookkeeper(Mortal(engine, rng.randrange(12), rng.random() < 0.5))
                    found = told(keeper, batch)
                    break
                except Killed:
                    kills += 1
                    if kills % 7 == 0:  # long enough for the largest batch
                        found = told(Bookkeeper(engine), batch)
                        break
            assert found == once[at : at + len(batch)]
            at += len(batch)
            for record in batch:
                model.take(record)
            assert balances_in(engine, CHAIN) == model.balances()
    assert kills > 10


@pytest.mark.parametrize("seed", range(6))
def test_a_process_that_takes_over_knows_what_stands(seed):
    """The branch read from the marks is the one that the messages leave, at every point."""
    seen = Branch()
    with connect() as engine:
        for record in story(seed, 120):
            told(Bookkeeper(engine), [record])
            seen.take(step_of(record))
            found = Bookkeeper(engine).branch(CHAIN, NUMBER)
            assert (found.final, found.unfinal) == (seen.final, seen.unfinal)
            assert found.seen(step_of(record))
            same = (None, None) if seen.open is None else (seen.open.name, seen.open.chunks)
            assert (found.open.name, found.open.chunks) == same if found.open else same == (None, None)


def test_the_branch_is_read_back_only_as_far_as_needed(monkeypatch):
    """Past 64 blocks below the last final one, in pages."""
    monkeypatch.setattr("sinks.bookkeeper_marks._PAGE", 10)
    blocks = line(range(100, 400))
    with connect() as engine:
        keeper = Bookkeeper(engine)
        finals = [records(made, "final")[0] for made in blocks[:280]]
        told(keeper, finals + [records(made, "head")[0] for made in blocks[280:]])
        found = Bookkeeper(engine).branch(CHAIN, NUMBER)
        assert found.final == (379, blocks[279].hash[2:18])
        assert [one.number for one in found.unfinal] == list(range(380, 400))
        assert found.seen(step_of(records(blocks[279 - 64], "final")[0]))
        assert not found.seen(step_of(finals[100]))
        assert keeper.first_block(CHAIN, NUMBER) == 100


def line(numbers, moves=(), fee=5):
    """Blocks that link, each with one transaction."""
    made, parent = [], digest("genesis")
    for number in numbers:
        tx = transaction(0, moves, fee, hash=digest("tx", number))
        made.append(block(number, "line", parent, [[tx]]))
        parent = made[-1].hash
    return made


def one(number, moves, name="x", fee=None, **other):
    """A block of one transaction."""
    tx = transaction(0, moves, fee, hash=digest("tx", number, name), **other)
    return block(number, name, digest("parent"), [[tx]])


def coins(source, target, amount, log=0):
    return transfer(f"erc20:{COIN}", source, target, amount, log)


def held(engine, *owners):
    """What these hold of the coin."""
    found = held_in(engine, [(COIN_KEY, HOLDER, owner) for owner in owners])
    return [tuple(found.get((COIN_KEY, HOLDER, owner), Held(0, 0))) for owner in owners]


def test_a_block_that_comes_back_has_transfers_of_its_own():
    """A, B, A: the hash comes back, its voided ids can't; the second incarnation is posted."""
    first, other = one(100, [coins(NOBODY, A, 7)]), one(100, [coins(NOBODY, B, 5)], "other")
    again = replace(first, incarnation=1)
    with connect() as engine:
        keeper = Bookkeeper(engine)
        for made, finality, expected in [
            (first, "head", [(0, 7), (0, 0)]), (first, "retracted", [(0, 0), (0, 0)]),
            (other, "head", [(0, 0), (0, 5)]), (other, "retracted", [(0, 0), (0, 0)]),
            (again, "head", [(0, 7), (0, 0)]), (again, "final", [(7, 0), (0, 0)]),
        ]:  # fmt: skip
            told(keeper, records(made, finality))
            assert held(engine, A, B) == expected


def test_what_is_told_names_the_pending_transfer():
    made = one(100, [coins(NOBODY, A, 7)], fee=9)
    with connect() as engine:
        keeper = Bookkeeper(engine)
        (head,), (final,) = (told(keeper, records(made, finality)) for finality in ("head", "final"))
        assert [(leg.status, leg.amount) for leg in head] == [("pending", 3), ("pending", 6), ("pending", 7)]
        assert [(leg.status, leg.amount) for leg in final] == [("posted", 3), ("posted", 6), ("posted", 7)]
        assert [leg.pending_id for leg in final] == [leg.transfer_id for leg in head]
        assert [leg.pending_id for leg in head] == [b""] * 3
        row = TRANSFER_STRUCT.unpack(engine.lookup_transfers_packed(final[2].transfer_id))
        assert row[5][::-1].hex() == digest("tx", 100, "x")[2:34]
        assert (row[4], row[6], row[7]) == (head[2].transfer_id, 100, NUMBER)
        assert held_in(engine, [(f"{CHAIN}/native", GAS, A)]) == {(f"{CHAIN}/native", GAS, A): Held(-9, 0)}


def test_a_final_block_that_is_pending_is_posted_whatever_the_ingest_remembers():
    """An ingest that lost its memory tells it as final at once (was_head false): not booked twice."""
    made = one(100, [coins(NOBODY, A, 7)])
    with connect() as engine:
        told(Bookkeeper(engine), records(made, "head"))
        (found,) = told(Bookkeeper(engine), records(made, "final", was_head=False))
        assert held(engine, A) == [(7, 0)]
        assert found[0].pending_id
        assert told(Bookkeeper(engine), records(made, "final", was_head=True)) == [found]
        assert held(engine, A) == [(7, 0)]


def test_a_head_cut_off_in_the_engine_and_never_sent_again_is_posted_by_its_final():
    """Half of its legs are pending and it has no mark: those are posted, the others booked at once."""
    made = one(100, [coins(NOBODY, A, 7, 0), coins(NOBODY, B, 5, 1)])
    half = one(100, [coins(NOBODY, A, 7, 0)])
    with connect() as engine:
        keeper = Bookkeeper(engine)
        killed_before_marks(keeper)
        told(keeper, records(half, "head"))
        assert held(engine, A, B) == [(0, 7), (0, 0)]
        (found,) = told(Bookkeeper(engine), records(made, "final", was_head=False))
        assert held(engine, A, B) == [(7, 0), (5, 0)]
        assert [bool(leg.pending_id) for leg in found] == [True, False]
        assert told(Bookkeeper(engine), records(made, "final", was_head=False)) == [found]


def test_chunks_and_a_block_lost_before_all_of_it_was_told():
    """Two of three chunks were told, then the block is lost: its retraction repeats those two."""
    chunks = [[transaction(n, [coins(NOBODY, A, 1 + n)], None, hash=digest("t", n))] for n in range(3)]
    made = block(100, "big", digest("parent"), chunks)
    again = replace(made, incarnation=1)
    with connect() as engine:
        keeper = Bookkeeper(engine)
        told(keeper, records(made, "head", told=2))
        assert held(engine, A) == [(0, 3)]
        assert not Bookkeeper(engine).branch(CHAIN, NUMBER).unfinal[0].whole
        told(keeper, records(made, "retracted", told=2))
        assert held(engine, A) == [(0, 0)]
        assert Bookkeeper(engine).branch(CHAIN, NUMBER).tip is None
        told(Bookkeeper(engine), records(again, "head") + records(again, "final"))
        assert held(engine, A) == [(6, 0)]


def test_a_retraction_of_what_never_came_does_nothing_and_burns_no_id():
    made = one(100, [coins(NOBODY, A, 7)])
    with connect() as engine:
        assert told(Bookkeeper(engine), records(made, "retracted")) == [[]]
        assert held(engine, A) == [(0, 0)]


def test_openings_are_posted_at_once_and_once():
    """Told by every block that touches the account, in whatever state; kept when the block is lost."""
    moves = [coins(A, B, 3)]
    tells = [opening(A, f"erc20:{COIN}", 10), opening(B, f"erc20:{COIN}", 0)]
    first, other = (one(100, moves, name, balance_changes=tells) for name in "ab")
    with connect() as engine:
        (head,) = told(Bookkeeper(engine), records(first, "head"))
        assert held(engine, A, B) == [(10, -3), (0, 3)]
        assert [(leg.transaction, leg.status, leg.amount) for leg in head] == [
            (-1, "posted", 10), (-1, "posted", 0), (0, "pending", 3)
        ]  # fmt: skip
        told(Bookkeeper(engine), records(first, "retracted"))
        assert held(engine, A, B) == [(10, 0), (0, 0)]
        (found,) = told(Bookkeeper(engine), records(other, "final"))
        assert [leg.transaction for leg in found] == [0]  # the message that asked first has told of them
        assert held(engine, A, B) == [(7, 0), (3, 0)]
        issuer = account_id(AccountRef(COIN_KEY, int(AccountCode.ISSUER), COIN))
        row = ACCOUNT_STRUCT.unpack(engine.lookup_accounts_packed(issuer))
        assert int.from_bytes(row[2], "little") == 10


def test_what_128_bits_do_not_hold_is_refused_and_the_rest_goes_on():
    """A holds 2^128 - 1 pending; 5 more don't fit: refused as head, left out as final, whatever comes between."""
    full, more = (
        one(100, [coins(NOBODY, A, U128 - 1)]),
        one(101, [coins(NOBODY, A, 5, 0), coins(NOBODY, B, 0, 1)]),
    )
    other = one(101, [coins(C, B, 4)], "fits")
    with connect() as engine:
        keeper = Bookkeeper(engine)
        told(keeper, records(full, "head"))
        (refused,) = told(keeper, records(more, "head") + records(other, "head"))[:1]
        assert [(leg.status, leg.reason, leg.amount) for leg in refused] == [("refused", "over_u128", 5)]
        assert held(engine, A, B, C) == [(0, U128 - 1), (0, 4), (0, -4)]
        told(keeper, records(full, "retracted"))  # now there would be room, but it was refused
        assert told(Bookkeeper(engine), records(more, "head")) == [refused]
        (again,) = told(Bookkeeper(engine), records(more, "final"))
        assert [(leg.status, leg.amount, leg.pending_id) for leg in again] == [
            ("refused", 5, refused[0].transfer_id)
        ]
        assert told(Bookkeeper(engine), records(more, "final")) == [again]
        assert held(engine, A, B, C) == [(0, 0), (0, 4), (0, -4)]
        ids = [leg.transfer_id for leg in (*refused, *again)]
        assert len(set(ids)) == len(
            ids
        )  # a row each in the history, where the audit finds what is there twice


def test_an_opening_that_is_refused_to_one_message_after_another_is_no_row_twice():
    """The coin's issuer has no room for B's 5: each process that meets them asks again; each refusal has a name."""
    key = f"erc20:{COIN}"
    full = one(99, [coins(C, C, 1)], balance_changes=[opening(A, key, U128 - 1)])
    more = one(100, [coins(C, C, 1)], balance_changes=[opening(B, key, 5)])
    other = one(100, [coins(C, C, 1)], "b", balance_changes=[opening(B, key, 5)])
    with connect() as engine:
        told(Bookkeeper(engine), records(full, "final", was_head=False))
        asked = [records(more, "head"), records(more, "final"), records(other, "head")]
        found = [told(Bookkeeper(engine), some)[0] for some in asked]
        again = [told(Bookkeeper(engine), some)[0] for some in asked]
    refused = [leg for legs in found for leg in legs if leg.transaction == -1]
    assert [(leg.status, leg.reason, leg.amount) for leg in refused] == [("refused", "over_u128", 5)] * 3
    assert len({leg.transfer_id for leg in refused}) == 3
    assert again == found


def test_an_overflow_of_a_block_that_is_final_at_once():
    full, more = one(100, [coins(NOBODY, A, U128 - 1)]), one(101, [coins(NOBODY, A, 5), coins(C, B, 4, 1)])
    with connect() as engine:
        keeper = Bookkeeper(engine)
        found = told(keeper, records(full, "final", was_head=False) + records(more, "final", was_head=False))
        assert [leg.status for leg in found[1]] == ["refused", "posted"]
        assert held(engine, A, B, C) == [(U128 - 1, 0), (4, 0), (-4, 0)]
        assert told(Bookkeeper(engine), records(more, "final", was_head=False)) == found[1:]


@pytest.mark.parametrize("finality", ["final", "retracted"])
def test_another_amount_under_the_same_id_stops_loudly(finality):
    made, other = one(100, [coins(NOBODY, A, 7)]), one(100, [coins(NOBODY, A, 8)])
    with connect() as engine:
        keeper = Bookkeeper(engine)
        told(keeper, records(made, "head"))
        with pytest.raises(ChainFault, match="hold other transfers of it") as caught:
            told(keeper, records(other, finality))
        assert caught.value.reason == "other_content"
        assert held(engine, A) == [(0, 7)]


def test_what_is_final_cannot_be_taken_back():
    made = one(100, [coins(NOBODY, A, 7)])
    with connect() as engine:
        keeper = Bookkeeper(engine)
        told(keeper, records(made, "final"))
        with pytest.raises(ChainFault, match="hold another end of it") as caught:
            told(keeper, records(made, "retracted"))
        assert caught.value.reason == "order"
        assert held(engine, A) == [(7, 0)]
