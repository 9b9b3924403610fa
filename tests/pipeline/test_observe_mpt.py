"""MPT holders' changes to moves: exact for every holder, whatever the transaction."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.applications.observe_mpt import MptMove, mpt_moves
from pipeline.domain.asset import mpt_issuer

ISSUANCE = "00000001" + "B5F762798A53D543A014CAF8B297CFF8F2F937E8"
ISSUER = mpt_issuer(ISSUANCE)


def holder(account, change, locked=0, issuance=ISSUANCE):
    return {"issuance": issuance, "account": account, "change": str(change), "locked_change": str(locked)}


def test_issued_moved_locked_and_given_back():
    assert list(mpt_moves([holder("a", 5)])) == [MptMove(ISSUANCE, ISSUER, "a", 5)]
    assert list(mpt_moves([holder("a", 5), holder("b", -5)])) == [MptMove(ISSUANCE, "b", "a", 5)]
    assert list(mpt_moves([holder("a", -5)])) == [MptMove(ISSUANCE, "a", ISSUER, 5)]
    assert list(mpt_moves([holder("a", -5, 5)])) == []
    # a transfer fee is destroyed
    assert list(mpt_moves([holder("a", -10), holder("b", 9)])) == [
        MptMove(ISSUANCE, "a", "b", 9), MptMove(ISSUANCE, "a", ISSUER, 1),
    ]  # fmt: skip


CHANGES = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(-(2**63), 2**63), st.integers(-9, 9)))


@given(CHANGES)
def test_the_moves_of_a_transaction_sum_up_to_its_changes(rows):
    expected, found = Counter(), Counter()
    for account, change, locked in rows:
        expected[account] += change + locked
        expected[ISSUER] -= change + locked
    for move in mpt_moves(holder(*row) for row in rows):
        assert move.amount > 0 and move.source != move.target
        found[move.source] -= move.amount
        found[move.target] += move.amount
    assert {k: n for k, n in found.items() if n} == {k: n for k, n in expected.items() if n}
