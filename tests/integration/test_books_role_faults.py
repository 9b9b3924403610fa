"""The books role when the books refuse something: the chain it came from stops, loudly; others go on."""

from dataclasses import replace

import orjson
import pytest

from pipeline.agents.books_records import transfer_records
from sinks.bookkeeper import Bookkeeper, BooksDefect
from sinks.embedded_books import connect
from tests.support.books_role import CODEC, TRANSFERS, Role
from tests.support.evm_books import (
    COIN,
    HOLDER,
    NOBODY,
    PEOPLE,
    TOKEN,
    Held,
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

CHAIN, OTHER = "eip155:9", "eip155:10"
A, B, C, *_ = PEOPLE


@pytest.fixture
def role():
    with connect() as engine:
        yield Role(engine, {OTHER: 1})


def one(number, name, parent, moves=None, **other):
    """A block of one transaction that mints 7 for A."""
    moves = [transfer(f"erc20:{COIN}", NOBODY, A, 7)] if moves is None else moves
    return block(
        number, name, parent, [[transaction(0, moves, None, hash=digest("tx", number, name), **other)]]
    )


FIRST = one(100, "a", digest("genesis"))
SECOND = one(101, "a", FIRST.hash)
THIRD = one(102, "a", SECOND.hash)


def of(made, finality="head", **how):
    return records(made, finality, **how)


def there(made, finality="head"):
    """The same block on the other chain."""
    return records(made, finality, chain=OTHER, chain_number=10)


def coins(role, chain=CHAIN, owner=A):
    key = f"{chain}/erc20:{COIN}", HOLDER, owner
    return tuple(held_in(role.engine, [key]).get(key, Held(0, 0)))


def reason(role):
    """The reason that the only alert tells, the same that stands in quarantine."""
    (note,) = role.alerts("chain_stopped")
    (item,) = role.records("quarantine.v1")
    told = orjson.loads(note["evidence"])["reason"]
    assert (note["severity"], item["reason"]) == ("critical", told)
    return told


def cut_off(role, made, moves):
    """`made` with other moves was sent to the books and cut off before its mark."""
    keeper = Bookkeeper(role.engine)
    killed_before_marks(keeper)
    keeper.apply([posting(of(replace(made, chunks=one(made.number, "a", made.parent, moves).chunks))[0])])


def test_another_block_with_the_same_ids_stops_its_chain_alone(role):
    twin = replace(one(101, "b", FIRST.hash), hash=SECOND.hash[:9] + digest("twin")[9:])
    role.book(of(FIRST, "final") + of(SECOND) + of(SECOND, "retracted"))
    done = role.book([*of(twin), *there(FIRST), *of(THIRD), *there(SECOND)])
    assert list(done.stops) == [0] and done.stops[0][0] == 3
    assert reason(role) == "collision"
    assert (coins(role), coins(role, OTHER)) == ((7, 0), (0, 14))


@pytest.mark.parametrize("alone", [True, False])
def test_a_block_that_was_taken_back_is_not_made_final(role, alone):
    """The stack takes it for one that was final before it was told; the books know better."""
    role.book(of(FIRST, "final") + of(SECOND) + of(SECOND, "retracted"))
    done = role.book(of(SECOND, "final", was_head=False) + ([] if alone else there(FIRST)))
    assert list(done.stops) == [0] and reason(role) == "order"
    assert (coins(role), coins(role, OTHER)) == ((7, 0), (0, 0 if alone else 7))


def test_a_contract_added_to_the_settings_and_the_same_blocks_once_more(role):
    """An embedded broker forgot; the blocks are told again with one transfer more."""
    moves = [transfer(f"erc20:{COIN}", NOBODY, A, 7), transfer(f"erc20:{TOKEN}", NOBODY, A, 50)]
    more = replace(FIRST, chunks=one(100, "a", FIRST.parent, moves).chunks)
    role.book(of(FIRST, "final", was_head=False))
    role.begin()
    role.published.clear()
    role.book(of(more, "final", was_head=False) + there(FIRST))
    assert reason(role) == "other_content" and not role.alerts("over_u128")
    assert [record["chain"] for record in role.records(TRANSFERS)] == [OTHER]
    key = f"{CHAIN}/erc20:{TOKEN}", HOLDER, A
    assert held_in(role.engine, [key]).get(key, Held(0, 0)) == Held(0, 0) and coins(role) == (7, 0)


def test_a_defect_stops_the_chain_it_came_from(role):
    """What came before it is booked and told, what comes after it on that chain is not."""
    role.book(of(FIRST))
    cut_off(role, SECOND, [transfer(f"erc20:{COIN}", NOBODY, A, 8)])
    done = role.book([*there(FIRST), *of(SECOND), *there(SECOND), *of(THIRD)])
    assert done.stops.keys() == {0} and done.stops[0][0] == 2
    assert reason(role) == "defect"
    assert "EXISTS_WITH_DIFFERENT_AMOUNT" in done.stops[0][1]
    assert coins(role, OTHER) == (0, 14) and done.counts["blocks"] == 2
    assert [(record["chain"], record["block"]) for record in role.records(TRANSFERS)] == [
        (CHAIN, 100), (OTHER, 100), (OTHER, 101)
    ]  # fmt: skip
    assert role.book(there(THIRD)).stops == {}


def test_a_new_process_that_reads_the_broken_chain_first_stops_it_too(role):
    """The books tell that there is another one."""
    role.book(of(FIRST) + there(FIRST))
    cut_off(role, SECOND, [transfer(f"erc20:{COIN}", NOBODY, A, 8)])
    role.begin()
    assert role.book(of(SECOND)).stops.keys() == {0}
    assert role.book(there(SECOND)).stops == {}
    assert coins(role, OTHER) == (0, 14)


def test_a_defect_of_the_only_chain_ends_the_process(role):
    role.book(of(FIRST))
    cut_off(role, SECOND, [transfer(f"erc20:{COIN}", NOBODY, A, 8)])
    with pytest.raises(BooksDefect, match="EXISTS_WITH_DIFFERENT_AMOUNT"):
        role.book(of(SECOND))


def test_an_engine_that_refuses_all_chains_ends_the_process(role):
    role.book(of(FIRST) + there(FIRST))

    def refuses(events):
        raise BooksDefect("the engine is broken")

    role.role._bookkeeper._accounts.send = refuses
    with pytest.raises(BooksDefect, match="the engine is broken"):
        role.book(of(SECOND) + there(SECOND))


def test_what_a_batch_before_the_defect_told_is_told_once_more_and_nothing_else(role):
    """The batch is booked again message by message: findings and openings once, as if it had never failed."""
    tells = [opening(B, f"erc20:{COIN}", 10), opening(C, f"erc20:{COIN}", None, partial=True)]
    second = one(101, "a", FIRST.hash, balance_changes=tells)
    third = one(102, "a", second.hash)
    role.book(of(FIRST))
    cut_off(role, third, [transfer(f"erc20:{COIN}", NOBODY, A, 8)])
    role.book(there(FIRST) + of(second) + of(third))
    assert reason(role) == "defect"
    assert coins(role, owner=B) == (10, 0)
    assert len(role.alerts("partial_books")) == 1
    told = [record for record in role.records(TRANSFERS) if record["block"] == 101]
    assert [[row["amount"] for row in record["transfers"]] for record in told] == [["10", "7"]]


def test_an_opening_that_128_bits_do_not_hold_is_an_alert(role):
    emptied = one(101, "x", FIRST.hash, [transfer(f"erc20:{COIN}", B, C, 2**128 - 1)])
    later = one(
        200, "y", digest("far"), [transfer(f"erc20:{COIN}", C, A, 1)],
        balance_changes=[opening(B, f"erc20:{COIN}", 2**128 - 1)],
    )  # fmt: skip
    role.book(of(FIRST, "final", was_head=False) + of(emptied, "final", was_head=False))
    role.book(of(later, "final", run=200, was_head=False))
    assert role.stops == {}
    (note,) = role.alerts("over_u128")
    assert orjson.loads(note["evidence"])["amount"] == str(2**129 - 2)
    assert coins(role) == (8, 0)


def test_six_thousand_transfers_of_one_asset_come_in_parts(role):
    """No record above 900 KB; each names itself; together they are all the transfers, in order."""
    asset = f"erc20:{COIN}"
    chunks = [
        [
            transaction(
                n * 100 + k,
                [transfer(asset, A, B, 10**30 + i, i) for i in range(10)],
                None,
                hash=digest(n, k),
            )
            for k in range(100)
        ]
        for n in range(6)
    ]
    whole = [[tx for chunk in chunks for tx in chunk]]
    made = replace(FIRST, chunks=whole)
    keeper = role.role._bookkeeper
    for finality in ("head", "final"):
        (record,) = of(made, finality)
        asked = posting(record)
        (mine,) = keeper.apply([asked])
        found = transfer_records(record, asked, mine, keeper.book_of)
        assert [one["part"] for one in found] == ["", "1", *([] if len(found) == 2 else ["2"])]
        assert all(len(CODEC.encode(TRANSFERS, dict(one))) <= 900_000 for one in found)
        assert [int(row["amount"]) for one in found for row in one["transfers"]] == [
            10**30 + i for _ in range(600) for i in range(10)
        ]
        assert transfer_records(record, asked, keeper.apply([asked])[0], keeper.book_of) == found
