"""The main job, run as a user runs it, against the recorded node's own state."""

import json

import pytest

from tests.support.demo import EXPORTS, demo, expected_rows, exported, tidebook
from tests.support.derive_chain import derive
from tests.support.truth import RECORDED, TRUTH_LEDGERS, read_ledgers, read_truth, write_ledgers

pytestmark = pytest.mark.xdist_group("demo")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The default demo, once for the module: (data directory, what it printed, its report)."""
    data_dir = tmp_path_factory.mktemp("demo") / "data"
    ended, report = demo(data_dir)
    assert ended.status == 0, ended.err
    return data_dir, ended, report


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """Another chain derived from the recorded one, sharing its genesis: (file, truth mapper)."""
    derived = derive(read_ledgers(RECORDED), seed=20, share_genesis=True)
    path = tmp_path_factory.mktemp("derived") / "other.jsonl.gz"
    write_ledgers(path, derived.ledgers)
    return path, derived.truth_map


def state(data_dir, *arguments):
    return {what: exported(data_dir, what, *arguments) for what in EXPORTS}


@pytest.mark.parametrize("what", EXPORTS)
@pytest.mark.parametrize("index", TRUTH_LEDGERS)
def test_exports_are_the_nodes_own_state(run, index, what):
    assert exported(run[0], what, "--at", str(index)) == expected_rows(what, read_truth(index)["tables"])


@pytest.mark.parametrize("what", EXPORTS)
def test_exports_without_a_position_are_the_end_state(run, what):
    assert exported(run[0], what) == expected_rows(what, read_truth(353)["tables"])


def test_report_proves_the_run(run):
    _, ended, report = run
    total_coins = int(read_truth(353)["tables"]["total_coins"])
    assert (report["ledgers"], report["transactions"]) == (353, 988)
    assert report["xrp"]["in_books"] == total_coins
    assert report["xrp"]["in_books"] + report["xrp"]["burnt"] == report["xrp"]["total"] == 10**17
    judged = {name for name, verdict in report["invariants"].items() if verdict is True}
    assert {"hash_chain", "xrp_conserved", "clearing_zero", "books_equal_ledger", "no_duplicates"} <= judged
    assert False not in report["invariants"].values()
    assert report["provenance"]
    assert report["gas_report"]
    assert "BROKEN" not in ended.out


def test_gas_reports_are_the_fee_legs_and_the_fall_of_total_coins(run):
    gas = {
        row["owner"]: int(row["total_gas_required"])
        for row in tidebook("gas-report", "--json", "--data-dir", run[0]).rows
    }
    legs = tidebook(
        "query", "SELECT debit_owner AS owner, sum(toInt256(amount)) AS drops"
        " FROM transfers WHERE code = 101 GROUP BY owner",
        "--json", "--data-dir", run[0],
    ).rows  # fmt: skip
    assert gas == {row["owner"]: int(row["drops"]) for row in legs}
    assert sum(gas.values()) == 10**17 - int(read_truth(353)["tables"]["total_coins"])


def test_questions_of_the_readme(run):
    data_dir = run[0]
    rows = tidebook(
        "query",
        "SELECT type, count() AS n FROM xrpl_transactions GROUP BY type",
        "--json",
        "--data-dir",
        data_dir,
    ).rows
    assert sum(row["n"] for row in rows) == 988
    tables = tidebook("query", "SHOW TABLES", "--json", "--data-dir", data_dir)
    assert {"name": "balance_changes"} in tables.rows, tables.err
    nft = next(iter(read_truth(353)["tables"]["nfts"]))
    story = tidebook("provenance", nft, "--json", "--data-dir", data_dir).rows
    assert story[0]["action"] == "minted"
    assert story[-1]["to_owner"] == read_truth(353)["tables"]["nfts"][nft]["owner"]
    assert {"hash", "block", "_topic", "_partition", "_offset"} <= story[0].keys()
    owner = story[-1]["to_owner"]
    shown = tidebook("balances", owner, "--json", "--data-dir", data_dir).rows
    assert shown == [
        row
        for (account, _), row in sorted(exported(data_dir, "balances").items(), key=lambda item: item[0][1])
        if account == owner
    ]


def test_a_row_is_proven_offline(run, tmp_path):
    name = "9415EA37205C806BE7C6F1004B1A34FA462E9D0248B613D20106DD4FCF09FEA3"
    ledger = "61A108D314D61C1DCF95E264C12F57328F7C9E919D2BE71FC800D138EB1D4390"
    file = tmp_path / "proof.json"
    assert tidebook("proof", "make", name, "--out", file, "--data-dir", run[0]).status == 0
    nowhere = {"TIDEBOOK_DATA_DIR": str(tmp_path / "none"), "TIDEBOOK_CLICKHOUSE_URL": "http://none.invalid"}
    (told,) = tidebook("proof", "check", file, "--block-hash", ledger, "--json", env=nowhere).rows
    assert (told["hash"], told["block_number"], told["result"]) == (name, 351, "tecHAS_OBLIGATIONS")
    assert [change["change"] for change in told["balance_changes"]] == ["-10"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("query", "SELECT nonsense FROM xrpl_ledgers"), 1, "nonsense"),
        (("export", "wealth"), 2, "there are balances, nfts"),
        (("export", "nfts", "--at", "99999"), 1, "1-353"),
        (("balances", "rNobody"), 2, "rNobody"),
        (("provenance", "F" * 64), 1, "nothing is known"),
        (("export", "nfts", "--chain", "xrpl:none"), 1, "xrpl:recorded-"),
    ],
)
def test_wrong_questions_get_one_clear_line(run, arguments, status, said):
    ended = tidebook(*arguments, "--data-dir", run[0])
    assert (ended.status, ended.out) == (status, "")
    assert said in ended.err
    assert ended.err.count("\n") == 1


def test_running_again_and_another_chain_change_nothing_of_the_first(run, second):
    data_dir, _, report = run
    before = state(data_dir)
    ended, again = demo(data_dir)
    assert ended.status == 0, ended.err
    assert state(data_dir) == before
    moving = {"seconds", "transactions_per_s"}
    assert {k: v for k, v in again.items() if k not in moving} == {
        k: v for k, v in report.items() if k not in moving
    }

    path, truth_map = second
    ended, other = demo(data_dir, "--ledgers", path)
    assert ended.status == 0, ended.err
    assert other["chain"] != report["chain"]
    mapped = truth_map(read_truth(353))["tables"]
    for what in EXPORTS:
        assert exported(data_dir, what) == expected_rows(what, mapped)  # the latest run is shown
        assert exported(data_dir, what, "--chain", report["chain"]) == before[what]
    counts = tidebook("query", "SELECT chain, count() AS n, uniqExact(hash) AS h FROM xrpl_transactions GROUP BY chain",
                      "--json", "--data-dir", data_dir).rows  # fmt: skip
    assert sorted((row["n"], row["h"]) for row in counts) == [(988, 988), (988, 988)]
    assert json.loads(
        tidebook("query", "SELECT count() AS n FROM xrpl_ledgers", "--json", "--data-dir", data_dir).out
    ) == {"n": 706}
