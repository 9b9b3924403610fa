"""`tidebook demo --evm` on recorded blocks: what the books and ClickHouse say is what the receipts said."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path

import pytest

from tests.pipeline.test_recorded_evm import made, written
from tests.support.demo import demo, tidebook

pytestmark = pytest.mark.xdist_group("demo")

DATA = Path(__file__).parents[1] / "data" / "evm" / "blocks" / "17173049.json.gz"
CHAIN = "eip155:1"
INVARIANTS = {
    "evm_hash_chain", "evm_history_complete", "evm_gas_ties_to_books", "evm_tokens_conserved", "evm_books_equal_chain",
    "evm_books_equal_history",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The mainnet block, once for the module: (data directory, what it printed, its report)."""
    data_dir = tmp_path_factory.mktemp("demo-evm") / "data"
    ended, report = demo(data_dir, "--evm", DATA, "--evm-chain", CHAIN)
    assert ended.status == 0, ended.err + ended.out
    return data_dir, ended, report


@pytest.fixture(scope="module")
def expected():
    return json.loads(gzip.decompress(DATA.read_bytes()))["expected"]


def asked(data_dir, sql):
    ended = tidebook("query", sql, "--json", "--data-dir", data_dir)
    assert ended.status == 0, ended.err
    return ended.rows


def test_the_report_proves_the_run(run, expected):
    _, ended, report = run
    evm = report["evm"]
    fees = sum(int(receipt["total_fee_wei"]) for receipt in expected["receipts"])
    burnt = int(expected["block"]["burnt_wei"])
    assert (evm["blocks"], evm["transactions"], evm["logs"]) == (1, 116, 271)
    assert evm["transfers"] == len(expected["token_transfers_etl"]) + len(expected["weth_wraps"])
    assert evm["fees"] == {
        "in_receipts": str(fees), "in_books": str(fees), "burnt": str(burnt), "tips": str(fees - burnt)
    }  # fmt: skip
    assert {name: of for name, of in report["invariants"].items() if name in INVARIANTS} == dict.fromkeys(
        INVARIANTS, True
    )
    assert False not in report["invariants"].values() and report["exit_status"] == 0
    assert [*evm["chains"]] == [CHAIN] and evm["gaps"] == []
    assert (report["ledgers"], report["xrp"]["in_books"]) == (0, 0)
    assert "BROKEN" not in ended.out and CHAIN in ended.out


def exported(*arguments):
    ended = tidebook(*arguments, "--chain", CHAIN, "--json")
    assert ended.status == 0, ended.err
    return ended.rows


def test_balances_are_whole_units_now_at_the_block_and_of_one_owner(run, expected):
    """From the books and from their transfers; as the changes of balances add up."""
    data_dir = run[0]
    now = exported("export", "balances", "--data-dir", data_dir)
    assert now == exported("export", "balances", "--at", 17173049, "--data-dir", data_dir)
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for row in asked(data_dir, "SELECT account, asset, change FROM evm_balance_changes"):
        sums[row["account"], row["asset"]] += int(row["change"])
    held = {(row["account"], row["asset"]): int(row["available"]) for row in now if "gas_paid" not in row}
    zero = "0x" + "0" * 40
    assert {key: units for key, units in held.items() if key[0] != zero} == {
        k: v for k, v in sums.items() if v
    }
    paid = {row["account"]: int(row["gas_paid"]) for row in now if "gas_paid" in row}
    assert sum(paid.values()) == sum(int(receipt["total_fee_wei"]) for receipt in expected["receipts"])
    owner = max(sums, key=lambda key: sums[key])[0]
    mine = exported("balances", owner.upper().replace("0X", "0x"), "--data-dir", data_dir)
    assert mine == [row for row in now if row["account"] == owner] and mine
    wrong = tidebook("export", "balances", "--at", 5, "--chain", CHAIN, "--data-dir", data_dir)
    assert wrong.status == 1 and "outside the blocks kept of eip155:1: 17173049-17173049" in wrong.err
    wrong = tidebook("balances", "0x12", "--chain", CHAIN, "--data-dir", data_dir)
    assert wrong.status == 2 and "nor an EVM one" in wrong.err


def test_gas_accounts_are_the_senders_receipts_to_the_wei(run, expected):
    recorded = json.loads(gzip.decompress(DATA.read_bytes()))["input"]["eth_getBlockReceipts"]
    paid: dict[str, int] = defaultdict(int)
    for receipt in recorded:
        paid[receipt["from"]] += int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
    legs = asked(
        run[0], "SELECT debit_owner AS owner, sum(toInt256(amount)) AS wei FROM transfers WHERE code = 101"
        " GROUP BY owner",
    )  # fmt: skip
    assert {row["owner"]: int(row["wei"]) for row in legs} == paid
    gas = asked(run[0], "SELECT owner, sum(fee) AS wei FROM gas_ledger GROUP BY owner")
    assert {row["owner"]: int(row["wei"]) for row in gas} == paid


def test_every_transfer_that_was_expected_is_in_the_books_and_no_other(run, expected):
    wanted = sorted(
        (transfer["log_index"], transfer["token"], transfer["from"], transfer["to"], transfer["value"])
        for receipt in expected["receipts"]
        for transfer in receipt.get("token_transfers", ())
        if transfer["standard"] == "ERC20"
    )
    found = asked(
        run[0], "SELECT log_index, contract, from_address, to_address, toString(amount) AS amount FROM evm_transfers"
        " WHERE standard = 'erc20'",
    )  # fmt: skip
    assert sorted(tuple(row.values()) for row in found) == wanted
    moved = asked(
        run[0], "SELECT toString(sum(amount)) AS units FROM evm_transfers WHERE from_address != to_address"
    )  # fmt: skip
    booked = asked(
        run[0], "SELECT toString(sum(toUInt256(amount))) AS units FROM transfers WHERE code != 101"
    )
    assert moved == booked


def test_running_again_changes_nothing(run):
    data_dir, _, report = run
    count = "SELECT count() AS n, sum(toUInt256(amount)) AS units FROM transfers"
    before = asked(data_dir, count)
    ended, again = demo(data_dir, "--evm", DATA, "--evm-chain", CHAIN)
    assert ended.status == 0, ended.err
    assert asked(data_dir, count) == before
    assert (again["evm"], again["invariants"]) == (report["evm"], report["invariants"])


def test_both_kinds_of_chains_go_through_one_pipeline_and_a_hole_is_told(tmp_path):
    blocks = written(tmp_path / "blocks.jsonl", *(made(number, transactions=3) for number in (10, 11, 14)))
    ledgers = Path(__file__).parents[2] / "pipeline" / "recordings" / "xrpl-standalone.jsonl.gz"
    ended, report = demo(tmp_path / "data", "--ledgers", ledgers, "--evm", blocks)
    assert ended.status == 3, ended.err
    assert (report["ledgers"], report["transactions"]) == (353, 988)
    assert report["xrp"]["total"] == 10**17 and report["gaps"] == []
    evm = report["evm"]
    assert (evm["blocks"], evm["transactions"], evm["gaps"]) == (3, 9, [["eip155:5", 12, 13]])
    assert evm["fees"]["in_books"] == evm["fees"]["in_receipts"] == str(9 * 21000 * 10)
    assert False not in report["invariants"].values()
    assert "12-13" in ended.out


def test_what_contradicts_itself_is_refused_and_the_rest_stands(tmp_path):
    bad = made(11)
    bad["eth_getBlockByNumber"]["gasUsed"] = "0x1"
    ended, report = demo(tmp_path / "data", "--evm", written(tmp_path / "b.jsonl", made(10), bad, made(12)))
    assert ended.status == 1
    assert report["evm"]["blocks"] == 1 and report["invariants"]["ingest_complete"] is False
    assert report["invariants"]["evm_gas_ties_to_books"] is True
    assert "block 11" in ended.err
    (item,) = asked(tmp_path / "data", "SELECT * FROM quarantine")
    assert (item["reason"], int(item["source_offset"])) == ("gas_used", 11)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--evm", "/nowhere.json"), "--evm"), (("--evm", DATA, "--evm-chain", "mainnet"), "--evm-chain")],
)
def test_a_wrong_call_is_one_line(tmp_path, arguments, said):
    ended = tidebook("demo", "--data-dir", tmp_path / "data", *arguments)
    assert (ended.status, ended.out) == (2, "")
    (line,) = ended.err.splitlines()
    assert said in line


def test_a_file_that_is_no_recording_is_one_line(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    ended = tidebook("demo", "--data-dir", tmp_path / "data", "--evm", tmp_path / "x.json")
    assert ended.status == 1
    (line,) = ended.err.splitlines()
    assert "no whole EVM block" in line
