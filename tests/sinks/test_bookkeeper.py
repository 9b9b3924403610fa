"""Postings into the books' engine: the recorded chain once, twice, cut into other batches, over a gap."""

import random
from collections import defaultdict

import pytest

from pipeline.domain.account import AccountCode, AccountRef, account_id
from sinks.bookkeeper import Bookkeeper, BooksDefect
from sinks.books import ACCOUNT_DTYPE, ACCOUNT_STRUCT, TRANSFER_STRUCT
from sinks.embedded_books import connect
from tests.support.recorded import posting, recorded_blocks

NATIVE = "xrpl:test/XRP"


@pytest.fixture(scope="module")
def postings():
    return [posting(block) for block in recorded_blocks()]


def units(engine, refs):
    """Balances, credit-positive, as the engine has them."""
    found = {}
    refs = list(refs)
    for start in range(0, len(refs), 8000):
        part = refs[start : start + 8000]
        rows = engine.lookup_accounts_packed(b"".join(map(account_id, part)))
        stored = {}
        for at in range(0, len(rows), ACCOUNT_DTYPE.itemsize):
            row = ACCOUNT_STRUCT.unpack_from(rows, at)
            stored[row[0]] = int.from_bytes(row[4], "little") - int.from_bytes(row[2], "little")
        found |= {ref: stored[account_id(ref)] for ref in part}
    return found


def model(postings):
    """What the balances must be, from the postings alone (one run)."""
    held, opened = defaultdict(int), set()
    for block in postings:
        for opening in block.postings.openings:
            if opening.account not in opened:
                opened.add(opening.account)
                held[opening.account] += opening.balance
                held[opening.against] -= opening.balance
        for leg in block.postings.legs:
            held[leg.debit] -= leg.amount
            held[leg.credit] += leg.amount
    held[AccountRef(NATIVE, int(AccountCode.ISSUER), "")] -= postings[0].run_coins
    held[AccountRef(NATIVE, int(AccountCode.OPENING), "")] += postings[0].run_coins
    return dict(held)


def cut(items, seed):
    """The items in batches of random size."""
    random_size, at = random.Random(seed), 0
    while at < len(items):
        size = random_size.choice([1, 1, 2, 7, 40, 100])
        yield items[at : at + size]
        at += size


@pytest.mark.parametrize("seed", [1, 2])
def test_balances_are_the_postings_whatever_the_batches(postings, seed):
    with connect() as engine:
        keeper = Bookkeeper(engine)
        for batch in cut(postings, seed):
            keeper.apply(batch)
        expected = model(postings)
        assert units(engine, expected) == expected
        assert expected[AccountRef(NATIVE, int(AccountCode.OPENING), "")] == 0  # from genesis all is seen


def test_sent_again_by_another_process_changes_nothing_and_tells_the_same(postings):
    """A restart: no memory, other batch borders, everything from the start."""
    with connect() as engine:
        first = [told for batch in cut(postings, 3) for told in Bookkeeper(engine).apply(batch)]
        before = units(engine, model(postings))
        again = [told for batch in cut(postings, 4) for told in Bookkeeper(engine).apply(batch)]
        assert units(engine, before) == before
        assert again == first


def test_cut_off_between_two_batches_of_one_block(postings):
    """The engine got openings and some legs of a block, then the process died."""
    block = max(postings, key=lambda one: len(one.postings.legs))
    upto = postings[: postings.index(block)]
    half = block.__class__(
        **{name: getattr(block, name) for name in block.__slots__ if name != "postings"},
        postings=block.postings._replace(legs=block.postings.legs[: len(block.postings.legs) // 2]),
    )
    with connect() as engine:
        Bookkeeper(engine).apply([*upto, half])
        told = Bookkeeper(engine).apply([*upto, block])
        expected = model([*upto, block])
        assert units(engine, expected) == expected
    with connect() as engine:
        assert Bookkeeper(engine).apply([*upto, block]) == told


def test_user_data_name_transaction_block_and_chain(postings):
    block = next(one for one in postings if one.postings.legs)
    with connect() as engine:
        told = Bookkeeper(engine).apply([block])[0]
        leg = next(one for one in told if one.transaction >= 0)
        row = TRANSFER_STRUCT.unpack(engine.lookup_transfers_packed(leg.transfer_id))
        assert row[5][::-1].hex().upper() == block.hashes[leg.transaction][:32]
        assert (row[6], row[7]) == (block.block, block.chain_number)


def test_a_new_run_adjusts_to_what_the_ledger_says(postings):
    """Ledgers 100 transactions long are missing: the next run's openings bring the books to the truth."""
    blocks = list(recorded_blocks())
    busy = [at for at, block in enumerate(blocks) if block["transactions"]]
    first, second = blocks[: busy[20]], blocks[busy[40] :]
    start = second[0]
    again = [
        {**block, "run": start["ledger_index"], "run_coins": start["total_coins"] + start["fees"]}
        for block in second
    ]
    with connect() as engine:
        keeper = Bookkeeper(engine)
        for batch in cut([posting(block) for block in [*first, *again]], 5):
            keeper.apply(batch)
        last = {}
        for block in again:
            for tx in block["transactions"]:
                for row in tx["balance_changes"]:
                    if row["asset"] == "XRP":
                        last[AccountRef(NATIVE, int(AccountCode.HOLDER), row["account"])] = int(
                            row["balance"]
                        )
        assert len(last) > 20
        assert units(engine, last) == last
        burn = AccountRef(NATIVE, int(AccountCode.FEE_BURN), "")
        assert units(engine, [burn])[burn] == 10**17 - again[-1]["total_coins"]


def test_a_contradicting_transfer_stops_loudly(postings):
    block = next(one for one in postings if one.postings.legs)
    legs = [leg._replace(amount=leg.amount + 1) for leg in block.postings.legs]
    with connect() as engine:
        Bookkeeper(engine).apply([block])
        other = block.__class__(
            **{name: getattr(block, name) for name in block.__slots__ if name != "postings"},
            postings=block.postings._replace(legs=legs),
        )
        with pytest.raises(BooksDefect, match="EXISTS_WITH_DIFFERENT_AMOUNT"):
            Bookkeeper(engine).apply([other])


def test_books_are_claimed_once_and_probe_past_a_taken_number(postings):
    with connect() as engine:
        one, two = Bookkeeper(engine), Bookkeeper(engine)
        number = one.book_of("xrpl:test/USD.r1")
        assert two.book_of("xrpl:test/USD.r1") == number
        taken = Bookkeeper(engine)
        taken_number = taken.book_of("xrpl:test/EUR.r1")
        assert taken_number != number
