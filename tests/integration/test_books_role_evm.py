"""The books role on a chain that reorganises, fed with messages as Kafka holds them: judged by its branch, its
books and what it publishes; killed, started again, told things twice, told things that do not come next."""

import random
from collections import Counter
from dataclasses import replace

import orjson
import pytest

from sinks.embedded_books import connect
from tests.support.books_role import CODEC, TOPIC, TRANSFERS, Role
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
    opening,
    records,
    transaction,
    transfer,
)
from topics.envelope import outgoing

CHAIN, NUMBER = "eip155:9", 9
COIN_KEY = f"{CHAIN}/erc20:{COIN}"
A, B, *_ = PEOPLE


@pytest.fixture
def role():
    with connect() as engine:
        yield Role(engine)


def told_balances(transfers):
    """What the published transfers add up to, each row once: posted, and pending ones that nothing names."""
    rows = {
        (row["transfer_id"], row["status"]): (record["asset"], row)
        for record in transfers
        for row in record["transfers"]
    }
    settled = {row["pending_id"] for _, row in rows.values() if row["pending_id"]}
    posted, pending = Counter(), Counter()
    for asset, row in rows.values():
        standing = row["status"] == "pending" and row["transfer_id"].hex().upper() not in settled
        sums = posted if row["status"] == "posted" else pending if standing else Counter()
        for side, sign in (("debit", -1), ("credit", 1)):
            if row[f"{side}_code"] in (GAS, HOLDER):
                sums[asset, row[f"{side}_code"], row[f"{side}_owner"]] += sign * int(row["amount"])
    keys = {key for key in posted | pending | -posted | -pending if posted[key] or pending[key]}
    return {key: Held(posted[key], pending[key]) for key in keys}


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_books_and_audit_log_are_what_the_chain_says(role, seed):
    """Batches of any size, messages again, new processes and rebalances in between."""
    rng, model = random.Random(seed), Model()
    messages = [record for step in Teller(seed).messages(70) for record in step]
    at = 0
    while at < len(messages):
        size = rng.choice([1, 2, 7, 64])
        batch = messages[at : at + size]
        again = messages[max(0, at - rng.randrange(40)) : at]  # what a new owner of the partition gets again
        if rng.random() < 0.3:
            role.begin()
        elif rng.random() < 0.2:
            role.rebalance()
        role.book([*again, *batch])
        at += size
        for record in batch:
            model.take(record)
        assert balances_in(role.engine, CHAIN) == model.balances()
        assert told_balances(role.records(TRANSFERS)) == model.balances()
    assert role.stops == {}
    assert {record["publication"].partition("/")[2] for record in role.records(TRANSFERS)} == {
        "head", "final", "retracted"
    }  # fmt: skip


def one(number, name, parent, amount=7, source=NOBODY, **other):
    moves = [transfer(f"erc20:{COIN}", source, A, amount)]
    return block(
        number, name, parent, [[transaction(0, moves, None, hash=digest("tx", number, name), **other)]]
    )


FIRST = one(100, "a", digest("genesis"))
SECOND, OTHER = one(101, "a", FIRST.hash), one(101, "b", FIRST.hash)
THIRD = one(102, "a", SECOND.hash)


def coins(role):
    key = COIN_KEY, HOLDER, A
    return tuple(held_in(role.engine, [key]).get(key, Held(0, 0)))


def test_the_records_of_a_block(role):
    role.book(records(FIRST, "head") + records(FIRST, "final"))
    head, final = role.records(TRANSFERS)
    same = ("asset", "book", "chain", "chain_number", "run", "block", "block_hash", "chunk", "time")
    assert [head[name] for name in same] == [final[name] for name in same]
    assert (head["block_hash"], head["publication"], final["publication"]) == (
        FIRST.hash,
        "0/head",
        "0/final",
    )
    (pending,), (posted,) = head["transfers"], final["transfers"]
    assert (pending["status"], posted["status"]) == ("pending", "posted")
    assert posted["pending_id"] == pending["transfer_id"].hex().upper()
    assert pending["pending_id"] == ""
    assert int.from_bytes(posted["transfer_id"], "big") == int.from_bytes(pending["transfer_id"], "big") + 1
    assert pending["hash"] == digest("tx", 100, "a")


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (records(THIRD, "head"), "hole"),
        (records(one(101, "c", digest("elsewhere")), "head"), "fork"),
        (records(FIRST, "retracted"), "order"),
        (records(THIRD, "final"), "order"),
        (records(replace(FIRST, incarnation=1), "final"), "order"),
    ],
)
def test_what_does_not_come_next_stops_the_chain(role, bad, reason):
    """Two heads stand. The message goes to quarantine, nothing after it is booked, also by another process; what
    came before is still known, and another chain goes on."""
    role.book(records(FIRST, "head"))
    if reason == "order" and bad[0]["finality"] == "retracted":
        role.book(records(SECOND, "head"))
    done = role.book([*bad, *records(SECOND, "head")])
    place, why = done.stops[0]
    assert f"{CHAIN}: books stop before block {bad[0]['block_number']}" in why
    (note,) = role.alerts("chain_stopped")
    assert orjson.loads(note["evidence"])["reason"] == reason
    (item,) = role.records("quarantine.v1")
    assert (item["reason"], item["source_offset"]) == (reason, place)
    before = coins(role)
    role.begin()
    assert role.book([*records(FIRST, "head"), *bad]).stops[0][0] == place + 3
    assert coins(role) == before
    role.book(records(FIRST, "head", chain="eip155:8", chain_number=8), partition=1)
    key = f"eip155:8/erc20:{COIN}", HOLDER, A
    assert held_in(role.engine, [key])[key] == Held(0, 7)


def test_a_lost_block_told_again_much_later_is_not_taken_for_news(role):
    """Head and retraction of a block, again after the chain went on without it and came back to its parent."""
    lost = records(SECOND, "head") + records(SECOND, "retracted")
    role.book(records(FIRST, "head") + lost)
    role.begin()
    role.book(lost[:1])  # it would fit on FIRST, but it came before
    assert coins(role) == (0, 7)
    assert role.book(records(OTHER, "head") + records(FIRST, "final")).stops == {}
    assert coins(role) == (7, 7)


def test_the_whole_topic_again_changes_nothing_and_tells_the_same(role):
    messages = [record for step in Teller(3).messages(120) for record in step]
    role.book(messages)
    before, told = balances_in(role.engine, CHAIN), role.records(TRANSFERS)
    role.begin()
    role.published.clear()
    for at in range(0, len(messages), 5):
        assert role.book(messages[at : at + 5]).stops == {}
    assert balances_in(role.engine, CHAIN) == before
    assert role.records(TRANSFERS) == told


def test_a_message_from_long_ago_is_known_by_the_books_themselves(role):
    """Behind everything that a new process reads back."""
    made = [one(100, "a", digest("genesis"))]
    for number in range(101, 200):
        made.append(one(number, "a", made[-1].hash))
    told = [record for each in made for record in records(each, "final", was_head=False)]
    role.book(told)
    role.begin()
    assert role.book([told[3], *records(one(200, "a", made[-1].hash), "head")]).stops == {}
    assert coins(role) == (700, 7)


def test_another_owner_of_the_partition_books_on(role):
    """What was known of the chain is forgotten when partitions are assigned."""
    role.book(records(FIRST, "head"))
    other = Role(role.engine)
    other.book(records(SECOND, "head") + records(FIRST, "final"))
    role.rebalance()
    assert role.book(records(SECOND, "final") + records(THIRD, "head")).stops == {}
    assert coins(role) == (14, 7)


def test_an_opening_that_comes_after_the_first_transfers_counts_in_full(role):
    role.book(records(FIRST, "final", was_head=False))
    tells = [opening(A, f"erc20:{COIN}", 1000)]
    later = one(101, "a", FIRST.hash, balance_changes=tells)
    role.begin()
    role.book(records(later, "head"))
    assert coins(role) == (1007, 7)


def test_an_undecodable_message_is_named_where_it_left_a_hole(role):
    good = outgoing(CODEC, TOPIC, CHAIN, records(SECOND, "head")[0], partition=0).value
    done = role.book([*records(FIRST, "head"), good[:-20], *records(THIRD, "head")])
    assert "an undecodable message at offset 1 stands between" in done.stops[0][1]
    assert coins(role) == (0, 7)


def test_a_seventeenth_incarnation_does_not_fit_and_stops_the_chain(role):
    done = role.book(records(FIRST, "head") + records(replace(SECOND, incarnation=16), "head"))
    assert done.stops[0][0] == 1
    assert role.records("quarantine.v1")[0]["reason"] == "PositionOverflow"
    assert coins(role) == (0, 7)


def test_overflows_are_told_once(role):
    """The amount beyond 128 bits, and the sum that passes them: two blocks say so in all states, one alert."""
    huge = one(100, "a", digest("genesis"), 2**128)
    full = one(101, "a", huge.hash, 2**128 - 1)
    more = one(102, "a", full.hash, 2)
    role.book(records(huge, "head") + records(full, "head") + records(more, "head"))
    role.book(records(huge, "final") + records(full, "final") + records(more, "final"))
    assert coins(role) == (2**128 - 1, 0)
    (note,) = role.alerts("over_u128")
    assert note["subject"] == COIN_KEY
    assert orjson.loads(note["evidence"])["amount"] == str(2**128)
    refused = [row for record in role.records(TRANSFERS) for row in record["transfers"] if row["reason"]]
    assert [(row["status"], row["reason"], row["amount"]) for row in refused] == [
        ("refused", "over_u128", "2")
    ] * 2


def test_a_sum_beyond_128_bits_alone_is_alerted(role):
    full = one(100, "a", digest("genesis"), 2**128 - 1)
    more = one(101, "a", full.hash, 2)
    role.book(records(full, "final", was_head=False) + records(more, "final", was_head=False))
    (note,) = role.alerts("over_u128")
    assert orjson.loads(note["evidence"])["amount"] == "2"
    assert coins(role) == (2**128 - 1, 0)


def test_an_accepted_gap_begins_a_new_run(role):
    role.book(records(FIRST, "final", was_head=False))
    later = one(200, "a", digest("far"))
    (message,) = records(later, "final", run=200, was_head=False)
    role.book([message | {"gap_from": 101, "gap_to": 199}])
    (note,) = role.alerts("gap_accepted")
    assert note["subject"] == "101-199"
    assert coins(role) == (14, 0)
    assert role.stops == {}
