"""Faults are ordinary: SIGKILL at seeded moments, gaps, damaged and lying recordings."""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.demo import EXPORTS, demo, expected_rows, exported, tidebook
from tests.support.truth import RECORDED, ROOT, read_ledgers, read_truth, write_ledgers

pytestmark = pytest.mark.xdist_group("faults")

MARK = "TIDEBOOK_TEST_RUN"  # an environment variable that the demo and all it starts inherit

COUNTS = (
    "SELECT (SELECT count() FROM xrpl_ledgers) AS ledgers, (SELECT count() FROM xrpl_transactions) AS transactions,"
    " (SELECT count() FROM balance_changes) AS balance_changes, (SELECT count() FROM transfers) AS transfers,"
    " (SELECT count() FROM asset_changes) AS asset_changes, (SELECT count() FROM gas_ledger) AS gas"
)


def counts(data_dir):
    ended = tidebook("query", COUNTS, "--json", "--data-dir", data_dir)
    assert ended.status == 0, ended.err
    return ended.rows[0]


@pytest.fixture(scope="module")
def ledgers():
    return read_ledgers(RECORDED)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Row counts of a run that nothing happened to."""
    data_dir = tmp_path_factory.mktemp("whole") / "data"
    ended, _ = demo(data_dir)
    assert ended.status == 0, ended.err
    return counts(data_dir)


def kill_demo_after(data_dir, seconds):
    """Start the demo and SIGKILL it; its children must be gone soon after."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", "demo", "--data-dir", str(data_dir)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, MARK: str(data_dir)},
    )  # fmt: skip
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    deadline = time.monotonic() + 60
    while _left_over(data_dir) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _left_over(data_dir), "a role or the broker outlived the demo"


def _left_over(data_dir):
    """Is any process of that demo left? Its roles and its broker inherit the mark."""
    mark = f"{MARK}={data_dir}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                return True
        except OSError:
            continue
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="the broker ends with its parent on Linux only")
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_any_moment_and_started_again(tmp_path, whole, seed):
    """Three kills, each somewhere between the start and the end of the work, then a run to the end."""
    data_dir, moments = tmp_path / "data", random.Random(seed)
    for _ in range(3):
        kill_demo_after(data_dir, moments.uniform(1.5, 8.0))
    ended, report = demo(data_dir)
    assert ended.status == 0, ended.err
    assert False not in report["invariants"].values()
    assert counts(data_dir) == whole
    tables = read_truth(353)["tables"]
    for what in EXPORTS:
        assert exported(data_dir, what) == expected_rows(what, tables)


def test_a_gap_stops_with_one_line_and_accept_gap_goes_on(tmp_path):
    """Mainnet ledgers of 2015: 11119605 and 11119606 are missing."""
    data_dir, recordings = tmp_path / "data", ROOT / "tests/data/xrpl/ledgers"
    ended, report = demo(data_dir, "--ledgers", recordings)
    assert ended.status == 1
    assert "11119605-11119606 are missing" in ended.err
    assert "--accept-gap" in ended.err
    assert ended.err.count("\n") == 1
    assert report["ledgers"] == 1

    ended, report = demo(data_dir, "--ledgers", recordings, "--accept-gap")
    assert ended.status == 3, ended.err
    assert report["gaps"] == [[11119605, 11119606]]
    assert "11119605-11119606" in ended.out
    assert report["runs"] == 2
    assert False not in report["invariants"].values()
    assert report["invariants"]["xrp_conserved_from_start"] is True
    assert report["invariants"]["xrp_conserved"] == "not_applicable"


def _truncated(path, ledgers):
    whole = gzip.compress(b"".join(json.dumps(answer).encode() + b"\n" for answer in ledgers[:30]))
    path.write_bytes(whole[: len(whole) * 2 // 3])


def _broken_parent(path, ledgers):
    broken = json.loads(json.dumps(ledgers[:30]))
    broken[20]["ledger"]["parent_hash"] = "A" * 64
    write_ledgers(path, broken)


def _other_branch(path, ledgers):
    """A ledger whose own hash holds but whose parent is another: its header hashed anew."""
    from pipeline.domain.decode.xrpl import decode_ledger
    from pipeline.domain.xrpl_hash import ledger_hash

    broken = json.loads(json.dumps(ledgers[:30]))
    broken[20]["ledger"]["parent_hash"] = "A" * 64
    header, _ = decode_ledger(broken[20])
    broken[20]["ledger"]["ledger_hash"] = broken[20]["ledger_hash"] = ledger_hash(header)
    write_ledgers(path, broken)


def _without_metadata(path, ledgers):
    broken = json.loads(json.dumps(ledgers[:30]))
    busy = next(answer for answer in broken[10:] if answer["ledger"]["transactions"])
    del busy["ledger"]["transactions"][0]["meta"]
    write_ledgers(path, broken)


def _wrong_fees(path, ledgers):
    broken = json.loads(json.dumps(ledgers[:30]))
    busy = next(answer for answer in broken[10:] if answer["ledger"]["transactions"])
    busy["ledger"]["transactions"][0]["tx_json"]["Fee"] = "1"
    write_ledgers(path, broken)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_truncated, "ends early"),
        (_broken_parent, "names parent AAAA"),
        (_other_branch, "names parent AAAA"),
        (_without_metadata, "metadata"),
        (_wrong_fees, "fees"),
    ],
)
def test_damaged_recordings_stop_with_one_line_and_lose_nothing(tmp_path, ledgers, damage, said):
    """What came before is booked and proven, what is wrong is told and kept, a whole recording heals it."""
    path, data_dir = tmp_path / "damaged.jsonl.gz", tmp_path / "data"
    damage(path, ledgers)
    ended, report = demo(data_dir, "--ledgers", path)
    assert ended.status == 1
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert 0 < report["ledgers"] < 30
    assert report["invariants"]["books_equal_ledger"] is True
    assert report["invariants"]["xrp_conserved"] is True
    assert report["invariants"]["ingest_complete"] is False
    alerts = tidebook("query", "SELECT rule FROM alerts", "--json", "--data-dir", data_dir).rows
    assert {"rule": "ingest_stopped"} in alerts
    kept = tidebook(
        "query", "SELECT reason, length(value) AS size FROM quarantine", "--json", "--data-dir", data_dir
    ).rows
    assert len(kept) == (0 if damage is _truncated else 1)

    sound = tmp_path / "sound.jsonl.gz"
    write_ledgers(sound, ledgers[:30])
    ended, report = demo(data_dir, "--ledgers", sound)
    assert ended.status == 0, ended.err
    assert report["ledgers"] == 30


def test_unknown_types_and_entries_still_balance(tmp_path, ledgers):
    """Every type renamed, every Escrow and PayChannel turned into an entry type nobody knows."""
    text = json.dumps(ledgers[:67])
    for kind in ("Payment", "EscrowCreate", "EscrowFinish", "OfferCreate", "PaymentChannelCreate"):
        text = text.replace(f'"TransactionType": "{kind}"', f'"TransactionType": "Unheard{kind}"')
    for kind in ("Escrow", "PayChannel"):
        text = text.replace(f'"LedgerEntryType": "{kind}"', f'"LedgerEntryType": "Hoard{kind}"')
    path, data_dir = tmp_path / "renamed.jsonl.gz", tmp_path / "data"
    write_ledgers(path, json.loads(text))
    ended, report = demo(data_dir, "--ledgers", path)
    assert ended.status == 0, ended.err
    assert report["invariants"]["clearing_zero"] is True
    assert report["invariants"]["xrp_conserved"] is True
    tables = read_truth(67)["tables"]
    drops = {
        row["account"]: int(row["available"])
        for (_, asset), row in exported(data_dir, "balances").items()
        if asset == "XRP"
    }
    assert drops == {
        name: int(account["balance"])
        for name, account in tables["accounts"].items()
        if int(account["balance"])
    }
    hoards = sum(int(e["Amount"]) for e in tables["escrows"].values() if isinstance(e["Amount"], str))
    hoards += sum(int(c["Amount"]) - int(c["Balance"]) for c in tables["paychans"].values())
    booked = tidebook(
        "query",
        "SELECT sum(if(credit_code = 108, 1, -1) * toInt256(amount)) AS drops FROM transfers"
        " WHERE credit_code = 108 OR debit_code = 108", "--json", "--data-dir", data_dir,
    ).rows  # fmt: skip
    assert int(booked[0]["drops"]) == hoards
    told = {
        row["rule"]: row["n"]
        for row in report["alerts"]
        for row in [{"rule": row["rule"], "n": row["count"]}]
    }
    assert told["unknown_object"] == 2  # one per entry type


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--ledgers", "no-such-file"), 2, "no recorded ledgers at no-such-file"),
        (("--ledgers", __file__), 1, "not JSON"),
    ],
)
def test_wrong_calls_get_one_clear_line(tmp_path, arguments, status, said):
    ended, _ = demo(tmp_path / "data", *arguments)
    assert ended.status == status
    assert said in ended.err
    assert ended.err.count("\n") == 1
