"""Verdicts and the watermark: what counts as verified, what a later quorum proves, what a restart knows."""

import pytest

from pipeline.domain.verdict import NO_VALIDATORS, Tally, Watermark
from schemas.codec import local_codec

CODEC = local_codec()
HOLDS = [
    {"name": name, "outcome": "holds", "detail": ""} for name in ("parent_hash", "header_hash", "total_coins")
]
FIRST = [
    {"name": "parent_hash", "outcome": "not_applicable", "detail": "the first ledger of its run"},
    HOLDS[1],
    {"name": "total_coins", "outcome": "not_applicable", "detail": "the first ledger of its run"},
]
NO_ROOT = {"name": "transaction_root", "outcome": "not_applicable", "detail": "no transactions told"}


def block(index, run=1):
    return {
        "ledger_index": index,
        "run": run,
        "ledger_hash": f"{index:064X}",
        "parent_hash": f"{index - 1:064X}",
        "close_time": 1000 * index,
    }


def tally(signed, quorum=4):
    votes = [{"key": f"n{k}", "vote": "signed" if k < signed else "forged"} for k in range(5)]
    return Tally(votes, quorum, signed)


def watermark(level="full"):
    return Watermark("xrpl:test", 16384, level)


def told(verdicts):
    return [(v["block"], v["last_block"], v["outcome"], v["verified_up_to"]) for v in verdicts]


def test_a_run_is_verified_block_by_block():
    mark = watermark()
    assert told(mark.block(block(1), "node", FIRST)) == [(1, 1, "verified", 1)]
    assert told(mark.block(block(2), "node", HOLDS)) == [(2, 2, "verified", 2)]


def test_a_check_that_could_not_be_made_holds_the_watermark_for_good():
    mark = watermark()
    mark.block(block(1), "node", FIRST)
    (verdict,) = mark.block(block(2), "node", [*HOLDS, NO_ROOT])
    assert (verdict["outcome"], verdict["verified_up_to"]) == ("unproven", 1)
    assert verdict["reason"] == "transaction_root: no transactions told"
    assert told(mark.block(block(3), "node", HOLDS)) == [(3, 3, "verified", 1)]


def test_one_signature_below_the_quorum_is_unproven_and_the_next_quorum_proves_it():
    mark = watermark()
    mark.block(block(1), "node", FIRST, tally(5))
    (two,) = mark.block(block(2), "node", HOLDS, tally(3))
    assert (two["outcome"], two["verified_up_to"], two["signed"], two["quorum"]) == ("unproven", 1, 3, 4)
    assert "3 of 4" in two["reason"] and "n3 forged" in two["reason"]
    mark.block(block(3), "node", HOLDS, tally(0))
    by_descent, own = mark.block(block(4), "node", HOLDS, tally(4))
    assert told([by_descent, own]) == [(2, 3, "verified", 3), (4, 4, "verified", 4)]
    assert by_descent["block_hash"] == block(4)["parent_hash"]


def test_a_gap_is_told_and_a_new_run_begins_at_its_first_block():
    mark = watermark()
    mark.block(block(1), "node", FIRST)
    missing = mark.gap(2, 3, 1000, skipped=False)
    assert (missing["outcome"], missing["block"], missing["last_block"], missing["gaps"]) == (
        "missing",
        2,
        3,
        0,
    )
    assert mark.gap(2, 3, 1000, skipped=True)["gaps"] == 1
    assert told(mark.block(block(4, run=4), "node", FIRST)) == [(4, 4, "verified", 4)]


@pytest.mark.parametrize("cut", range(1, 6))
def test_a_restart_goes_on_from_the_last_verdict(cut):
    """Whatever was the last one told, the rest is told as without a restart."""
    signed = [5, 4, 2, 0, 5, 5]

    def run(mark, start):
        found = []
        for at in range(start, 6):
            found += mark.block(block(at + 1), "node", HOLDS if at else FIRST, tally(signed[at]))
        return found

    whole = run(watermark(), 0)
    mark = watermark()
    before = []
    for at in range(cut):
        before += mark.block(block(at + 1), "node", HOLDS if at else FIRST, tally(signed[at]))
    decoded = CODEC.decode(CODEC.encode("chains.verdicts.v1", before[-1]))[1]
    assert before + run(Watermark.resumed(decoded, "full"), cut) == whole


def test_the_same_verdict_has_the_same_id_and_another_outcome_another():
    one, again = (watermark().block(block(1), node, FIRST)[0] for node in ("a", "b"))
    other = watermark().block(block(1), "a", [*FIRST, NO_ROOT])[0]
    assert one["id"] == again["id"] != other["id"]


def test_no_validators_no_quorum():
    (verdict,) = watermark().block(block(1), "node", FIRST, NO_VALIDATORS)
    assert (verdict["quorum"], verdict["validators"], verdict["outcome"]) == (0, [], "verified")
