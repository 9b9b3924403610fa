"""The report of an EVM chain from stores that were filled as in production: with assets that books can't hold."""

import pytest

from pipeline.domain.decode.evm_transfers import balance_changes_of
from pipeline.report_evm import make_evm_report, whole_evm_report
from sinks.embedded_books import connect
from tests.support.books_role import TOPIC, Role
from tests.support.evm_books import COIN, NOBODY, PEOPLE, TOKEN, block, digest, records, transaction, transfer
from tests.support.history import history, message

CHAIN, NUMBER = "eip155:9", 9
A, B, *_ = PEOPLE
FULL, HUGE = 2**128 - 1, 2**256 - 1
JUDGED = ("evm_tokens_conserved", "evm_books_equal_chain", "evm_books_equal_history", "evm_gas_ties_to_books")


def move(contract, target, amount, log=0, source=NOBODY):
    return transfer(f"erc20:{contract}", source, target, amount, log)


def report(tmp_path, *blocks, spoil=None):
    """What is told of blocks of one transaction each: its transfers, and openings by account."""
    told, parent = [], digest("genesis")
    for number, (moves, openings) in enumerate(blocks, 100):
        tx = transaction(0, moves, 21, hash=digest("t", number), gas_used=1, effective_gas_price="21")
        changes = balance_changes_of(moves)
        tx["balance_changes"] = [one | {"opening": openings.get(one["account"])} for one in changes]
        made = block(number, "a", parent, [[tx]])
        parent = made.hash
        told += [record | {"watched_count": 1} for record in records(made, "final", was_head=False)]
    with connect() as engine, history(tmp_path / "history") as sink:
        role = Role(engine)
        role.book(told)
        for topic, some in [(TOPIC, told)] + [(one, role.records(one)) for one in topics(role)]:
            if spoil is not None:
                some = [spoil(record) for record in some]
            sink.write("e", [message(dict(record), place, topic) for place, record in enumerate(some)])
        sink.flush()
        return make_evm_report(engine, sink, CHAIN, NUMBER, {})


def topics(role):
    return {one.topic for one in role.published}


PLAIN = [move(COIN, A, 7), move(COIN, B, 3, 1, source=A)], {}


@pytest.mark.parametrize(
    ("spam", "left_out"),
    [
        ([], 0),
        ([([move(TOKEN, A, FULL)], {})], 0),
        ([([move(TOKEN, A, FULL)], {}), ([move(TOKEN, A, 7)], {})], 1),  # the sum is refused
        ([([move(TOKEN, A, HUGE), move(TOKEN, A, HUGE, 1)], {})], 1),  # a change of 79 digits
        ([([move(TOKEN, A, 1)], {A: str(HUGE)})], 1),
        ([([move(TOKEN, A, 1)], {A: str(FULL)})], 1),  # held and minted: the sum is refused
        ([([move(TOKEN, A, 2**128)], {}), ([move(f"{COIN[:-1]}9", B, HUGE)], {})], 2),
    ],
)
def test_what_books_cannot_hold_is_left_out_and_the_rest_is_judged(tmp_path, spam, left_out):
    found = report(tmp_path, PLAIN, *spam)
    assert {name: found["invariants"][name] for name in JUDGED} == dict.fromkeys(JUDGED, True)
    assert found["assets_left_out"] == left_out
    assert whole_evm_report([found, found])["assets_left_out"] == 2 * left_out


def test_another_asset_does_not_hide_what_is_wrong(tmp_path):
    """One unit of the coin is another in the blocks than in the books, beside a token that can't be held."""

    def spoil(record):
        for tx in record.get("transactions", []):
            for change in tx["balance_changes"]:
                if change["asset"].endswith(COIN) and change["account"] == A:
                    change["change"] = "5"
        return record

    found = report(tmp_path, PLAIN, ([move(TOKEN, A, HUGE)], {}), spoil=spoil)
    assert found["invariants"]["evm_books_equal_chain"] is False
