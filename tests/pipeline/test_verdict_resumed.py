"""A watermark after a restart knows what a later quorum can prove, and what nothing can."""

import pytest

from pipeline.domain.verdict import Tally, Watermark

HOLDS = [{"name": "header_hash", "outcome": "holds", "detail": ""}]
NO_ROOT = [*HOLDS, {"name": "transaction_root", "outcome": "not_applicable", "detail": "not told"}]
REACHED, SHORT, NONE = Tally([], 1, 1), Tally([], 1, 0), Tally([], 0, 0)


def block(index):
    return {
        "ledger_index": index, "run": 1, "ledger_hash": f"{index:064X}", "parent_hash": f"{index - 1:064X}",
        "close_time": 0,
    }  # fmt: skip


def told(verdicts):
    return [(v["block"], v["last_block"], v["outcome"], v["verified_up_to"]) for v in verdicts]


@pytest.mark.parametrize("last", [REACHED, SHORT])
def test_a_block_that_nothing_proves_stays_unproven_over_a_restart(last):
    mark = Watermark("xrpl:test", 1, "full")
    mark.block(block(1), "node", HOLDS, REACHED)
    mark.block(block(2), "node", NO_ROOT, REACHED)
    mark = Watermark.resumed(mark.block(block(3), "node", HOLDS, last)[-1], "full")
    mark = Watermark.resumed(mark.block(block(4), "node", HOLDS, SHORT)[-1], "full")
    assert told(mark.block(block(5), "node", HOLDS, REACHED)) == [(5, 5, "verified", 1)]


@pytest.mark.parametrize(("second", "proven"), [(HOLDS, 3), (NO_ROOT, 1)])
def test_a_gap_told_last_keeps_what_is_known_of_the_blocks_before_it(second, proven):
    mark = Watermark("xrpl:test", 1, "full")
    mark.block(block(1), "node", HOLDS, REACHED)
    mark.block(block(2), "node", second, SHORT)
    mark = Watermark.resumed(mark.gap(3, 4, 0, skipped=False), "full")
    assert mark.block(block(3), "node", HOLDS, REACHED)[-1]["verified_up_to"] == proven


def test_without_validators_nothing_proves_what_waited_for_their_quorum():
    mark = Watermark("xrpl:test", 1, "full")
    mark.block(block(1), "node", HOLDS, REACHED)
    mark = Watermark.resumed(mark.block(block(2), "node", HOLDS, SHORT)[-1], "full")
    assert told(mark.block(block(3), "node", HOLDS, NONE)) == [(3, 3, "verified", 1)]
