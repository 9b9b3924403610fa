"""Exactly once: whatever statement a process dies at, the rows and sums are those of the chain, none twice.

No query here hides duplicates: final is 0.
"""

import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sinks.clickhouse_commits import Intent
from sinks.sink import HistoryMessage
from tests.support.dying_client import DyingClient, Killed
from tests.support.history import LEDGERS, chain, expected, found, history, ledger, message, transaction

SEED = 20261121
KILLS = 5


def _write(path: Path, epoch: str, messages: list[HistoryMessage], statements: int, after: bool) -> bool:
    """Write `messages` in two batches from where the epoch is; True if it was not killed on the way."""
    with history(path) as sink:
        if statements:
            sink._client_or_none = DyingClient(sink._client_or_none, statements, after)
        try:
            start = sink.open_partition(epoch, LEDGERS, 0)
            for some in (messages[start : start + 6], messages[start + 6 :]):
                sink.write(epoch, some)
                sink.flush()
        except Killed:
            return False
    return True


@pytest.mark.parametrize("same_epoch", [True, False])
def test_dying_at_any_statement_leaves_no_trace(tmp_path: Path, same_epoch: bool) -> None:
    """Dies at statement 1, then at 2 of the next start, and so on, then once undisturbed."""
    records = chain(SEED, 12)
    messages = [message(record, offset) for offset, record in enumerate(records)]
    step, finished = 0, False
    while not finished:
        step += 1
        finished = _write(
            tmp_path / "ch", f"e{0 if same_epoch else step}", messages, step, after=step % 2 == 0
        )
    assert step > 15  # it did die at many
    _write(tmp_path / "ch", "last", messages, 0, after=False)
    with history(tmp_path / "ch") as sink:
        assert found(sink) == expected(records) == found(sink, final=1)


def test_dying_while_undoing(tmp_path: Path) -> None:
    """A batch is cut off after its inserts; undoing it is cut off at every statement in turn."""
    records = chain(SEED + 1, 8)
    messages = [message(record, offset) for offset, record in enumerate(records)]
    with history(tmp_path / "ch") as sink:
        sink.open_partition("e", LEDGERS, 0)
        sink.write("e", messages)
        assert found(sink) == expected(records)  # all there, nothing committed
    for step in range(1, 40):
        with history(tmp_path / "ch") as sink:
            sink._client_or_none = DyingClient(sink._client_or_none, step, after=step % 2 == 1)
            try:
                assert sink.open_partition("e", LEDGERS, 0) == 0
                break
            except Killed:
                continue
    else:
        pytest.fail("never got through")
    with history(tmp_path / "ch") as sink:
        assert set(found(sink).values()) == {0}
        sink.open_partition("f", LEDGERS, 0)
        sink.write("f", messages)
        sink.flush()
        assert found(sink) == expected(records)


def test_another_epoch_with_other_batches_adds_nothing(tmp_path: Path) -> None:
    records = chain(SEED + 2, 20)
    with history(tmp_path / "ch") as sink:
        for epoch, batch in (("a", 7), ("b", 3), ("c", 20)):
            assert sink.open_partition(epoch, LEDGERS, 0) == 0
            for place in range(0, 20, batch):
                some = records[place : place + batch]
                result = sink.write(epoch, [message(of, place + k) for k, of in enumerate(some)])
                assert (result.applied, result.duplicates) == (
                    (len(some), 0) if epoch == "a" else (0, len(some))
                )
            sink.flush()
        assert found(sink) == expected(records)
        (row,) = sink.query("SELECT sum(duplicates) AS n FROM sink_progress WHERE `table` = 'sink_applied'")
        assert row["n"] == 40


def test_a_ledger_that_is_cut_into_more_chunks_adds_nothing(tmp_path: Path) -> None:
    """A later release tells it again, into another epoch; what its messages hold has other bounds."""
    paid = [transaction(place) for place in range(4)]

    def told(*cuts: list[dict[str, Any]]) -> list[HistoryMessage]:
        whole = {"chunks": len(cuts), "transaction_count": 4}
        return [message(ledger(5, cut, chunk=chunk, **whole), chunk) for chunk, cut in enumerate(cuts)]

    with history(tmp_path / "ch") as sink:
        results = []
        for epoch, messages in (("a", told(paid[:2], paid[2:])), ("b", told(paid[:1], paid[1:3], paid[3:]))):
            sink.open_partition(epoch, LEDGERS, 0)
            parts = [sink.write(epoch, [one]) for one in messages]  # chunks may come in batches of their own
            results.append([(one.applied, one.duplicates) for one in parts])
            sink.flush()
        assert results == [[(1, 0)] * 2, [(0, 1)] * 3]
        (row,) = sink.query(
            "SELECT count() AS n, uniqExact(transaction_index) AS places FROM xrpl_transactions"
        )
        assert (row["n"], row["places"]) == (4, 4)


def test_the_same_block_twice_in_a_batch_counts_once(tmp_path: Path) -> None:
    record = ledger(5, [transaction(0)])
    with history(tmp_path / "ch") as sink:
        sink.open_partition("e", LEDGERS, 0)
        result = sink.write("e", [message(record, 0), message(record, 1), message({**record, "chunk": 1}, 2)])
        assert (result.applied, result.duplicates) == (2, 1)


def test_content_cut_off_in_one_partition_comes_back_in_another(tmp_path: Path) -> None:
    """A new epoch may spread the same content otherwise; what was cut off must not count as applied."""
    records = chain(SEED + 3, 6)
    with history(tmp_path / "ch") as sink:
        sink.open_partition("old", LEDGERS, 3)
        sink.write("old", [message(of, place, partition=3) for place, of in enumerate(records)])
    with history(tmp_path / "ch") as sink:
        sink.open_partition("new", LEDGERS, 0)
        assert sink.write("new", [message(of, place) for place, of in enumerate(records)]).applied == 6
        sink.flush()
        assert found(sink) == expected(records)


def test_of_all_batches_ever_only_those_above_the_commit_are_read_at_a_start(tmp_path: Path) -> None:
    """A year of batches in this epoch and one before: three were cut off, one of them undone; one had no commit."""
    begun = [
        ("new", 0, 3000, 0),
        ("new", 0, 3001, 0),
        ("new", 0, 3001, 1),
        ("old", 0, 2000, 0),
        ("old", 7, 5, 0),
    ]
    with history(tmp_path / "ch") as sink:
        commits = sink._commits
        for epoch, batches in (("old", 2000), ("new", 3000)):
            told = f"'{epoch}', '{LEDGERS}', 0"
            numbers = f"toString(number), {told}, number, number"
            sink._client.command(
                f"INSERT INTO sink_intents (batch, epoch, topic, partition, from_offset, to_offset, undone)"
                f" SELECT {numbers}, 0 FROM numbers({batches})"
            )
            names = "epoch, topic, partition, `table`, from_offset, to_offset, block, block_hash, rows, duplicates"
            sink._client.command(
                f"INSERT INTO sink_progress ({names}, refused)"
                f" SELECT {told}, 'gas_ledger', number, number, number, '', 1, 0, 0 FROM numbers({batches})"
            )
        for epoch, partition, last, undone in begun:
            intent = Intent((epoch, LEDGERS, partition), last - 2, last, f"cut-{epoch}-{partition}-{last}")
            (commits.undone if undone else commits.begin)([intent])
        found = {(one.where, one.from_offset, one.to_offset) for one in commits.cut_off("new", LEDGERS, 0)}
        assert found == {
            (("new", LEDGERS, 0), 3000, 3000), (("old", LEDGERS, 0), 2000, 2000), (("old", LEDGERS, 7), 3, 5)
        }  # fmt: skip
        assert {one.where[0] for one in commits.cut_off("new", LEDGERS, 4)} == {"old"}
        assert {one.where for one in commits.cut_off("other", LEDGERS, 4)} == {where for where, *_ in found}


@pytest.mark.parametrize("seed", [SEED, SEED + 1])
def test_sigkill_at_seeded_moments(tmp_path: Path, seed: int) -> None:
    """A child is killed again and again while it writes; some starts take the same epoch, some a new one."""
    made, ledgers = random.Random(seed), 120
    epoch = 0
    for _ in range(KILLS):
        _killed(
            tmp_path / "ch", epoch, seed, ledgers, lines=made.randrange(1, 6), wait_s=made.random() * 0.15
        )
        epoch += made.randrange(2)
    assert _child(tmp_path / "ch", epoch, seed, ledgers).communicate(timeout=120)[0].endswith("done\n")
    records = chain(seed, ledgers)
    with history(tmp_path / "ch") as sink:
        assert found(sink) == expected(records) == found(sink, final=1)


def test_sigkill_between_the_parts_of_one_insert(tmp_path: Path) -> None:
    """One batch over 40 months makes 40 parts a table; the child is killed as the first of them shows."""
    months, ledgers = 40, 80
    with history(tmp_path / "ch") as sink:
        told = sink._client.query("SELECT data_paths[1] FROM system.tables WHERE name = 'balance_changes'")
        parts = Path(told.result_rows[0][0])
    child = _child(tmp_path / "ch", 0, SEED, ledgers, batch=ledgers, months=months)
    deadline = time.monotonic() + 60
    while not (seen := list(parts.glob("2*_*"))) and child.poll() is None and time.monotonic() < deadline:
        pass
    child.kill()
    assert seen and child.communicate()[0].startswith("open 0")
    records = chain(SEED, ledgers, months)
    with history(tmp_path / "ch") as sink:
        assert sink.open_partition("e0", LEDGERS, 0) == 0  # nothing of it was committed
        assert set(found(sink).values()) == {0}
        sink.write("e1", [message(record, offset) for offset, record in enumerate(records)])
        sink.flush()
        assert found(sink) == expected(records) == found(sink, final=1)


def _child(
    path: Path, epoch: int, seed: int, ledgers: int, batch: int = 10, months: int = 3
) -> subprocess.Popen[str]:
    arguments = [str(path), f"e{epoch}", str(seed), str(ledgers), str(batch), str(months)]
    command = [sys.executable, "-m", "tests.support.history_child", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def _killed(path: Path, epoch: int, seed: int, ledgers: int, lines: int, wait_s: float) -> None:
    """Start a child, SIGKILL it `wait_s` after it printed `lines` lines."""
    child = _child(path, epoch, seed, ledgers)
    assert child.stdout is not None
    for _ in range(lines):
        if not child.stdout.readline():
            break
    time.sleep(wait_s)
    child.kill()
    child.wait()
    child.stdout.close()
