"""The commands on a directory in use: what they print, in every form; wrong calls are told in one line."""

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.reports.provenance import asset_key, meanings
from pipeline.terminal import show_table
from tests.support.report_scene import EVM, XRPL, ReportScene

pytestmark = pytest.mark.xdist_group("reports")


@pytest.fixture
def run(scene: ReportScene, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("TIDEBOOK_DATA_DIR", str(scene.folder))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("TIDEBOOK_SIGNING_KEY", raising=False)

    def call(*words: object, status: int = 0) -> Any:
        done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        assert done.exit_code == status, (done.stdout, done.stderr)
        return done

    return call


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


CONTRACT = (
    "chain", "chain_number", "owner", "transactions", "fee_paid", "fee_burnt", "total_gas_required",
    "total_gas_paid_by_user", "total_gas_paid_by_treasury",
)  # fmt: skip


def test_the_gas_report_keeps_its_columns_and_order(scene: ReportScene, run: Any) -> None:
    done = run("gas-report", "--json")
    rows = lines(done.stdout)
    assert tuple(rows[0])[: len(CONTRACT)] == CONTRACT
    assert f"showing {XRPL}, the latest run" in done.stderr and EVM in done.stderr
    fees = [(-int(row["fee_paid"]), row["owner"]) for row in rows]
    assert fees == sorted(fees) and sum(fee for fee, _ in fees) == -scene.burnt[XRPL]
    old = scene.rows(f"SELECT * FROM gas_report WHERE chain = '{XRPL}' ORDER BY fee_paid DESC, owner")
    assert [{name: row[name] for name in CONTRACT} for row in rows] == old
    (one,) = lines(run("gas-report", rows[3]["owner"], "--json").stdout)
    assert one == rows[3]


def test_every_form_says_the_same(run: Any, tmp_path: Path) -> None:
    asked = ("gas-report", "--by", "month", "--chain", EVM)
    (row,) = lines(run(*asked, "--json").stdout)
    (same,) = csv.DictReader(io.StringIO(run(*asked, "--format", "csv").stdout))
    assert same == {name: "" if value is None else str(value) for name, value in row.items()}
    table = run(*asked).stdout
    assert row["total_gas_required"] in table and f"{row['required']} native" in table
    run(*asked, "--out", tmp_path / "gas.jsonl")
    assert lines((tmp_path / "gas.jsonl").read_text()) == [row]
    run(*asked, "--format", "csv", "--out", tmp_path / "gas.csv")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["gas.csv", "gas.jsonl"]


def test_its_sql_can_be_pasted(run: Any) -> None:
    text = run("gas-report", "--by", "app", "--app", "mintlings", "--from", "2026-01-01", "--show-sql").stdout
    head, *queries = [part.split("\n", 1) for part in text.split("-- ")[1:]]
    assert head[0] == "the report" and len(queries) == 6
    rows = {(row["chain"], row["app_id"]): row for row in lines(run("query", head[1], "--json").stdout)}
    for name, sql in queries:
        number = name.split(",")[0]
        found = lines(run("query", sql, "--json").stdout)
        assert {(row["chain"], row["app_id"]): row[number] for row in found} == {
            key: row[number] for key, row in rows.items()
        }


@pytest.mark.parametrize(
    ("asset", "key"),
    [
        ("A" * 64, f"c/nft:{'A' * 64}"),
        ("nft:" + "a" * 64, f"c/nft:{'A' * 64}"),
        ("b" * 48, f"c/mpt:{'B' * 48}"),
        ("mpt:" + "b" * 48, f"c/mpt:{'B' * 48}"),
        ("d/nft:x", "d/nft:x"),
        ("d/nft:" + "a" * 64, f"d/nft:{'A' * 64}"),
        ("USD.rI", "c/USD.rI"),
        (f"erc721:0X{'Ab' * 20}/733", f"c/erc721:0x{'ab' * 20}/733"),
        (f"eip155:1/erc721:0x{'Ab' * 20}/733", f"eip155:1/erc721:0x{'ab' * 20}/733"),
        (f"erc20:0x{'Ab' * 20}", f"c/erc20:0x{'ab' * 20}"),
        (f"erc1155:0x{'Ab' * 20}/4/x", f"c/erc1155:0x{'ab' * 20}/4/x"),
    ],
)
def test_asset_keys(asset: str, key: str) -> None:
    assert asset_key(asset, "c") == key


def test_provenance_of_positions(run: Any) -> None:
    told = lines(run("provenance", "project", "--json").stdout)
    assert told[0]["type"] == "POSITION_ASSET_REGISTERED" and told[0]["about"] == "project"
    assert {row["about"] for row in told[1:]} == {"pos-1", "pos-2"}
    one = lines(run("provenance", "pos-1", "--json").stdout)
    assert one == [row for row in told if row["about"] == "pos-1"] != []
    shown = run("provenance", "project").stdout
    assert "PARTIALLY_RELEASED" in shown and "pos-2" in shown
    sql = run("provenance", "project", "--show-sql").stdout.split("\n", 1)[1]
    assert lines(run("query", sql, "--json").stdout) == told


def test_provenance_by_every_name(scene: ReportScene, run: Any) -> None:
    nft = scene.rows(
        f"SELECT asset FROM asset_changes WHERE chain = '{XRPL}' AND asset LIKE '%/nft:%' LIMIT 1"
    )[0]["asset"]
    bare = nft.rpartition(":")[2]
    assert all(meanings(name, XRPL)[0] == nft for name in (nft, bare, bare.lower(), f"nft:{bare}"))
    assert meanings("card-1", XRPL) == ["card-1"] == meanings("card-1") and meanings(bare, XRPL)[1] == bare
    told = lines(run("provenance", bare.lower(), "--json").stdout)
    assert told[0]["action"] == "minted" and {row["about"] for row in told} == {nft}
    card = lines(run("provenance", "card-1", "--json").stdout)
    assert [row["type"] for row in card if row["source"] == "asset_transactions"][:3] == [
        "MINTED",
        "LISTED",
        "SOLD",
    ]
    for asset, rows in ((nft, told), ("card-1", card)):
        text = run("provenance", asset, "--show-sql").stdout
        for part in text.split("-- ")[2:]:
            name, sql = part.split("\n", 1)
            raw = lines(run("query", sql, "--json").stdout)
            places = sorted(
                [row["_topic"], row["_partition"], row["_offset"]]
                for row in rows
                if row["source"] == name.split(",")[0]
            )
            assert [list(row.values()) for row in raw] == places


def test_provenance_of_a_token_of_a_contract(scene: ReportScene, run: Any) -> None:
    """By its whole key and without its chain, whether that is named or not the latest; in any letters."""
    (row,) = scene.rows(
        f"SELECT asset FROM asset_changes WHERE chain = '{EVM}' AND asset LIKE '%/erc721:%' LIMIT 1"
    )
    key, short = row["asset"], row["asset"].partition("/")[2]
    shown = "erc721:0x" + short.removeprefix("erc721:0x").upper()
    told = lines(run("provenance", key, "--json").stdout)
    assert {one["about"] for one in told} == {key} and len(told) > 0
    for words in ((f"{EVM}/{shown}",), (short,), (shown,), (shown, "--chain", EVM)):
        assert lines(run("provenance", *words, "--json").stdout) == told, words


def test_export_and_check(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, key = tmp_path / "q1", tmp_path / "key.pem"
    run("compliance-key", key)
    assert key.stat().st_mode & 0o777 == 0o600
    period = ("--from", "2026-01-01", "--to", "2026-03-31", "--out")
    monkeypatch.setenv("TIDEBOOK_SIGNING_KEY", str(key))
    told = json.loads(run("compliance-export", *period, out, "--json").stdout)
    monkeypatch.delenv("TIDEBOOK_SIGNING_KEY")
    assert told["signed"] and {file["rows"] for file in told["files"]} == {9, 4, 52, 1}
    checked = json.loads(run("compliance-check", out, "--public-key", f"{key}.pub", "--json").stdout)
    assert checked["sound"] and checked["trusted"] and checked["rows"]["audit_trail.csv"] == 52
    other = tmp_path / "other.pem"
    run("compliance-key", other)
    assert "manifest.json: it is signed by another key" in run(
        "compliance-check", out, "--public-key", f"{other}.pub", status=1
    ).stderr  # fmt: skip
    (out / "transfers.csv").write_text("")
    assert "transfers.csv: it was changed" in run("compliance-check", out, status=1).stderr
    unsigned = run("compliance-export", *period, tmp_path / "q2", "--format", "jsonl")
    assert "not signed" in unsigned.stderr and "audit_trail.jsonl" in unsigned.stdout
    assert "not signed" in run("compliance-check", tmp_path / "q2").stdout


def test_nothing_found_says_so(run: Any) -> None:
    for how in ("table", "json", "csv"):
        done = run("gas-report", "nobody", "--chain", XRPL, "--format", how)
        assert "no fees match the question" in done.stderr
    assert "nothing is known of asset nothing" in run("provenance", "nothing", status=1).stderr


WRONG = [
    (("gas-report", "--by", "year"), "--by: 'year' is none of user, app"),
    (("gas-report", "--from", "2026-1-1"), "--from: '2026-1-1' is no day"),
    (("gas-report", "--from", "2026-02-01", "--to", "2026-01-01"), "--to: 2026-01-01 is before"),
    (("gas-report", "--format", "xml"), "--format: 'xml' is none of"),
    (("gas-report", "--format", "csv", "--json"), "--json: it contradicts"),
    (("gas-report", "--format", "parquet"), "--out: Parquet is for files"),
    (("gas-report", "--format", "table", "--out", "x"), "--format: a table is for the screen"),
    (("gas-report", ""), "owner: give 1 to 256"),
    (("gas-report", "--app", "a\nb"), "app: give 1 to 256"),
    (("provenance", ""), "asset: name one"),
    (("compliance-export", "--from", "x", "--to", "2026-01-01", "--out", "o"), "--from: 'x' is no day"),
    (
        ("compliance-export", "--from", "2026-01-01", "--to", "2026-01-01", "--out", "o", "--format", "xls"),
        "--format: ",
    ),
    (
        (
            "compliance-export",
            "--from",
            "2026-01-01",
            "--to",
            "2026-01-01",
            "--out",
            "o",
            "--key",
            "gone.pem",
        ),
        "--key: gone",
    ),
    (("gas-report", "--format", "csv", "--out", "gone/x"), "--out: gone is no directory"),
    (("provenance", "card-1", "--format", "csv", "--out", "."), "--out: . is no file"),
    (("compliance-check", "gone"), "DIR: gone is no directory"),
    (("compliance-check", ".", "--public-key", "gone.pub"), "--public-key: gone.pub"),
]


@pytest.mark.parametrize(
    ("words", "said"), WRONG, ids=lambda one: "-".join(one)[:40] if isinstance(one, tuple) else ""
)
def test_wrong_calls_are_one_line(run: Any, tmp_path: Path, monkeypatch: Any, words: Any, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(*words, status=2)
    assert done.stderr.startswith(f"tidebook: {said}") and done.stderr.count("\n") == 1 and not done.stdout
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_file_is_not_replaced(run: Any, tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    assert "is no file" in run("gas-report", "--format", "csv", "--out", pipe, status=2).stderr
    assert pipe.is_fifo()


def test_people_see_what_happened(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every time and event can be read on a narrow terminal."""
    monkeypatch.setenv("COLUMNS", "80")
    rows = lines(run("provenance", "card-1", "--json").stdout)
    shown = run("provenance", "card-1").stdout
    assert len(rows) > 3 and all(row["time"].replace("T", " ")[:19] in shown for row in rows)


def test_what_a_user_wrote_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    show_table([{"title": "[/b] [red]x \x1b]0;y\x07"}])
    assert "[/b] [red]x �]0;y�" in capsys.readouterr().out


def test_what_is_not_there_is_one_line(run: Any, tmp_path: Path) -> None:
    for words, said in (
        (("gas-report", "--chain", "xrpl:9"), "no chain 'xrpl:9'"),
        (("gas-report", "--data-dir", tmp_path / "gone"), "there is no data in"),
        (("gas-report", "--by", "app", "--data-dir", tmp_path / "gone"), "there is no data in"),
        (("provenance", "card-1", "--data-dir", tmp_path / "gone"), "there is no data in"),
        (("compliance-check", tmp_path), "manifest.json: there is none"),
    ):
        done = run(*words, status=1)
        assert said in done.stderr and done.stderr.count("\n") == 1, done.stderr
