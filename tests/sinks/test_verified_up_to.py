"""The view `verified_up_to` on chains whose verdicts are written by hand."""

import pytest

from pipeline.domain.verdict import Tally, Watermark
from tests.support.history import LEDGERS, history, ledger, message

VERDICTS = "chains.verdicts.v1"
HOLDS = [{"name": "header_hash", "outcome": "holds", "detail": ""}]
NO_ROOT = [*HOLDS, {"name": "transaction_root", "outcome": "not_applicable", "detail": "not told"}]


def shown(tmp_path, ledgers, verdicts):
    with history(tmp_path / "ch") as sink:
        sink.write("e", [message(one, at, LEDGERS) for at, one in enumerate(ledgers)])
        if verdicts:
            sink.write("e", [message(one, at, VERDICTS) for at, one in enumerate(verdicts)])
        sink.flush()
        columns = "run, first_block, last_block, verified_up_to, unverified"
        return [
            tuple(row.values()) for row in sink.query(f"SELECT {columns} FROM verified_up_to ORDER BY run")
        ]


def verdicts_of(ledgers, checks=lambda index: HOLDS, tally=lambda index: Tally([], 0, 0)):
    mark = Watermark("xrpl:test", 1, "full")
    return [
        v
        for one in ledgers
        for v in mark.block(one, "node", checks(one["ledger_index"]), tally(one["ledger_index"]))
    ]


LINE = [ledger(index) for index in range(1, 8)]


def test_all_verified(tmp_path):
    assert shown(tmp_path, LINE, verdicts_of(LINE)) == [(1, 1, 7, 7, 0)]


def test_without_verdicts_nothing_is(tmp_path):
    assert shown(tmp_path, LINE, []) == [(1, 1, 7, 0, 7)]


def test_an_unproven_block_holds_it_until_another_verdict_of_it_comes(tmp_path):
    verdicts = verdicts_of(LINE, lambda index: NO_ROOT if index == 4 else HOLDS)
    assert shown(tmp_path, LINE, verdicts) == [(1, 1, 7, 3, 1)]
    again = verdicts_of([ledger(4, run=4)])
    assert shown(tmp_path / "again", LINE, [*verdicts, *again]) == [(1, 1, 7, 7, 0)]


def test_a_quorum_proves_the_blocks_before_it(tmp_path):
    verdicts = verdicts_of(LINE, tally=lambda index: Tally([], 4, 5 if index in (1, 5) else 3))
    assert shown(tmp_path, LINE, verdicts) == [(1, 1, 7, 5, 2)]


@pytest.mark.parametrize("lost", [2, 6])
def test_runs_are_judged_apart(tmp_path, lost):
    line = [*LINE[:3], *(ledger(index, run=6) for index in (6, 7))]
    verdicts = [verdict for verdict in verdicts_of(line) if verdict["block"] != lost]
    first = (1, 1, 3, 1, 1) if lost == 2 else (1, 1, 3, 3, 0)
    second = (6, 6, 7, 5, 1) if lost == 6 else (6, 6, 7, 7, 0)
    assert shown(tmp_path, line, verdicts) == [first, second]


def test_a_verdict_of_another_ledger_of_that_index_does_not_count(tmp_path):
    """Told before a kill, for a ledger that was then published with another hash."""
    verdicts = verdicts_of(LINE)
    verdicts[3] = {**verdicts[3], "block_hash": "F" * 64}
    assert shown(tmp_path, LINE, verdicts) == [(1, 1, 7, 3, 1)]
