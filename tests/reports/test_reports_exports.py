"""Exports: whole, signed, exact in every format; damage is found and named; what was cut off is no export."""

import csv
import json
import os
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from pipeline.domain.account import AccountCode, AccountRef
from pipeline.reports import compliance, files
from pipeline.reports.files import ExportError, check_export, facts, write_export, write_query
from pipeline.reports.manifest import ManifestError, new_key, private_key, public_key, sealed
from pipeline.reports.question import Period, Report, period
from sinks.clickhouse_client import QueryError
from tests.support.report_scene import ReportScene

pytestmark = pytest.mark.xdist_group("reports")

PRIVATE, PUBLIC = new_key()
YEAR = period("2026-01-01", "2026-12-31")


def export(scene: ReportScene, folder: Path, fmt: str = "csv", key: bool = True) -> dict[str, Any]:
    at = datetime(2026, 7, 1, tzinfo=UTC)
    signer = private_key(PRIVATE) if key else None
    return write_export(scene.world.history, folder, YEAR, fmt, signer, "test", lambda: at)


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of a file in any format, every value as text."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    return list(pyarrow.parquet.read_table(path).to_pylist())


@pytest.fixture(scope="module")
def exports(scene: ReportScene, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One export in each format."""
    root = tmp_path_factory.mktemp("exports")
    for fmt in compliance.FORMATS:
        export(scene, root / fmt, fmt)
    return {fmt: root / fmt for fmt in compliance.FORMATS}


@pytest.mark.parametrize("fmt", list(compliance.FORMATS))
def test_an_export_is_whole_and_says_what_it_covers(
    scene: ReportScene, exports: dict[str, Path], fmt: str
) -> None:
    found = check_export(exports[fmt], public_key(PUBLIC))
    manifest = found.manifest
    assert found.signer == public_key(PUBLIC).public_bytes_raw().hex()
    assert (manifest["created"], manifest["from"], manifest["to"]) == (
        "2026-07-01T00:00:00Z",
        "2026-01-01",
        "2026-12-31",
    )
    assert [file["part"] for file in manifest["files"]] == list(compliance.PARTS)
    for file in manifest["files"]:
        rows = read(exports[fmt] / file["name"])
        assert len(rows) == file["rows"] > 0
        assert list(rows[0]) == [column["name"] for column in file["columns"]]
        assert len(scene.rows(file["sql"])) == file["rows"]
    topics = {row["topic"]: row for row in manifest["positions"] if row["epoch"] == "x"}
    assert (topics["xrpl.ledgers.v1"]["from_offset"], topics["xrpl.ledgers.v1"]["to_offset"]) == (0, 352)
    (xrpl,) = [row for row in manifest["verified"] if row["chain"] == "xrpl:test"]
    assert (xrpl["first_block"], xrpl["verified_up_to"], xrpl["last_block"]) == (1, 300, 353)
    assert manifest["grew_meanwhile"] is False


def test_the_formats_say_the_same(exports: dict[str, Path]) -> None:
    for part in compliance.PARTS:
        plain, lines, columnar = (
            read(exports[fmt] / f"{part}.{compliance.FORMATS[fmt][1]}") for fmt in ("csv", "jsonl", "parquet")
        )
        as_text = [
            {name: "" if value is None else str(value) for name, value in row.items()} for row in lines
        ]
        texts = {
            name
            for name, value in lines[0].items()
            if isinstance(value, str | None) and "T" not in str(value)
        }
        assert [{name: row[name] for name in texts} for row in plain] == [
            {name: row[name] for name in texts} for row in as_text
        ]
        assert [[str(row[name] or "") for name in sorted(texts)] for row in columnar] == [
            [row[name] for name in sorted(texts)] for row in as_text
        ]


def test_transfers_are_those_of_the_books(scene: ReportScene, exports: dict[str, Path]) -> None:
    """Rows and the sum of their amounts, counted from the table itself."""
    rows = read(exports["jsonl"] / "transfers.jsonl")
    (told,) = scene.rows(
        "SELECT count() AS n, sum(amount) AS units FROM transfers FINAL "
        "WHERE time >= '2026-01-01' AND time < '2027-01-01' AND status = 'posted' "
        "AND asset IN ('offchain/USD', 'offchain/SOVR', 'offchain/GROCERY_OBLIGATION')"
    )
    assert (len(rows), sum(int(row["units"]) for row in rows)) == (told["n"], int(told["units"])) != (0, 0)


def test_every_number_is_recomputed_from_raw_rows(scene: ReportScene, exports: dict[str, Path]) -> None:
    """The SQL stands in the manifest; money is that of the books."""
    manifest = json.loads((exports["csv"] / "manifest.json").read_bytes())["manifest"]
    again = {
        file["part"]: [scene.rows(sql) for sql in file["recompute"].values()] for file in manifest["files"]
    }
    rows = {part: read(exports["jsonl"] / f"{part}.jsonl") for part in compliance.PARTS}
    for part in ("transfers", "state_changes", "audit_trail"):
        assert int(again[part][-1][0]["rows"]) == len(rows[part])
    assert int(again["transfers"][0][0]["units"]) == sum(int(row["units"]) for row in rows["transfers"])
    paid = sum(Decimal(row["amount_released"] or 0) for row in rows["state_changes"])
    assert again["state_changes"][0] == [{"currency": "USD", "released": str(int(paid * 100))}]
    (report,) = rows["regulatory"]
    (created,), (moved,), (held,) = again["regulatory"]
    assert (created["created"], Decimal(created["amount_created"])) == (
        report["created"], Decimal(report["amount_created"])
    ) == (2, Decimal("100005"))  # fmt: skip
    for name in ("funded", "released", "voided"):
        assert Decimal(moved[name]) / 100 == Decimal(report[name])
    assert Decimal(held["held"]) / 100 == Decimal(report["held_at_end"]) == Decimal("59999.5")
    account = AccountRef("offchain/USD", int(AccountCode.ESCROW), "carl", "pos-1")
    assert scene.held(account) == int(held["held"])


DAMAGE = {
    "a byte changed": lambda folder: _edit(
        folder / "transfers.csv", lambda text: text.replace(b"USD", b"EUR", 1)
    ),
    "a row lost": lambda folder: _edit(
        folder / "audit_trail.csv", lambda text: text[: text.rstrip(b"\n").rfind(b"\n") + 1]
    ),
    "a file gone": lambda folder: (folder / "regulatory.csv").unlink(),
    "a file too many": lambda folder: (folder / "more.csv").write_text("x\n"),
    "another number of rows": lambda folder: _edit(
        folder / "manifest.json", lambda text: text.replace(b'"rows": ', b'"rows": 1')
    ),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "another's manifest": lambda folder: (folder / "manifest.json").write_bytes(
        sealed(json.loads((folder / "manifest.json").read_bytes())["manifest"], private_key(new_key()[0]))
    ),
    "the signature taken away": lambda folder: (folder / "manifest.json").write_bytes(
        sealed(json.loads((folder / "manifest.json").read_bytes())["manifest"], None)
    ),
    "half a manifest": lambda folder: _edit(folder / "manifest.json", lambda text: text[: len(text) // 2]),
    "a path that leaves": lambda folder: (folder / "manifest.json").write_bytes(_leaving(folder)),
    "a part left out": lambda folder: _leave_out(folder, "state_changes.csv"),
    "a link": lambda folder: _replace(
        folder / "state_changes.csv", lambda path: path.symlink_to("/dev/zero")
    ),
    "a pipe": lambda folder: _replace(folder / "state_changes.csv", os.mkfifo),
}
NAMED = {
    "a byte changed": "transfers.csv", "a row lost": "audit_trail.csv", "a file gone": "regulatory.csv",
    "a file too many": "more.csv", "a link": "state_changes.csv", "a pipe": "state_changes.csv",
}  # fmt: skip


def _edit(path: Path, change: Any) -> None:
    before = path.read_bytes()
    path.write_bytes(change(before))
    assert path.read_bytes() != before


def _replace(path: Path, make: Any) -> None:
    path.unlink()
    make(path)


def _leave_out(folder: Path, name: str) -> None:
    """Signed with the right key, for whoever has it may err too."""
    manifest = json.loads((folder / "manifest.json").read_bytes())["manifest"]
    manifest["files"] = [file for file in manifest["files"] if file["name"] != name]
    (folder / name).unlink()
    (folder / "manifest.json").write_bytes(sealed(manifest, private_key(PRIVATE)))


def _leaving(folder: Path) -> bytes:
    manifest = json.loads((folder / "manifest.json").read_bytes())["manifest"]
    manifest["files"][0]["name"] = "../csv/transfers.csv"
    return sealed(manifest, private_key(PRIVATE))


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_damage_is_found_and_named(exports: dict[str, Path], tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in exports["csv"].iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    check_export(folder, public_key(PUBLIC))
    DAMAGE[damage](folder)
    with pytest.raises(ExportError) as error:
        check_export(folder, public_key(PUBLIC))
    assert str(error.value).startswith(NAMED.get(damage, "manifest.json")) and "\n" not in str(error.value)


@pytest.mark.parametrize("cut_at", ["transfers", "regulatory"])
def test_what_was_cut_off_is_no_export_and_is_written_again(
    scene: ReportScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut_at: str
) -> None:
    """Killed while a part is written: nothing of it has its name; the next run makes it whole."""

    class Killed(BaseException):
        pass

    real = files.stream

    def dying(history: Any, sql: str, parameters: Any, fmt: str) -> Any:
        yield b"half of a"
        raise Killed

    def chosen(history: Any, sql: str, parameters: Any, fmt: str) -> Any:
        (part,) = [name for name in compliance.PARTS if compliance.part(name, YEAR).sql in sql]
        return (dying if part == cut_at else real)(history, sql, parameters, fmt)

    monkeypatch.setattr(files, "stream", chosen)
    monkeypatch.setattr(
        Path, "unlink", lambda self, missing_ok=False: None
    )  # a killed process tidies nothing
    with pytest.raises(Killed):
        export(scene, tmp_path / "out")
    monkeypatch.undo()
    assert not (tmp_path / "out" / f"{cut_at}.csv").exists()
    with pytest.raises(ExportError, match="cut off"):
        check_export(tmp_path / "out", None)
    export(scene, tmp_path / "out")
    check_export(tmp_path / "out", public_key(PUBLIC))


def test_a_directory_with_something_else_is_left_alone(
    scene: ReportScene, exports: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="holds an export already"):
        export(scene, exports["csv"])
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(ExportError, match=r"mine\.txt"):
        export(scene, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_period_is_an_export_of_nothing(scene: ReportScene, tmp_path: Path) -> None:
    for fmt in ("csv", "parquet"):
        asked = period("1999-01-01", "1999-12-31")
        write_export(scene.world.history, tmp_path / fmt, asked, fmt, None, "test")
        found = check_export(tmp_path / fmt, None)
        assert [file["rows"] for file in found.manifest["files"]] == [0, 0, 0, 0] and found.signer is None


def test_rows_are_counted_whatever_stands_in_them(scene: ReportScene, tmp_path: Path) -> None:
    """Line breaks and quotes in values, wide numbers, nulls; and blocks that end within a value."""
    sql = (
        "SELECT number, concat('a\"b\\n', repeat('x\\n', number % 5), '\"\"') AS t, "
        "if(number % 2 = 0, NULL, toUInt256(number) + toUInt256('1000000000000000000000000000000')) AS wide "
        "FROM numbers(30000)"
    )
    for fmt, (_, end) in compliance.FORMATS.items():
        path = tmp_path / f"rows.{end}"
        write_query(scene.world.history, Report(sql), fmt, path)
        assert facts(path, fmt).rows == 30_000
        rows = read(path)
        assert len(rows) == 30_000 and rows[7]["t"] == 'a"b\n' + "x\n" * 2 + '""'
        assert str(rows[7]["wide"]) == str(10**30 + 7) and (rows[8]["wide"] or None) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv", "rows.jsonl", "rows.parquet"]


def test_a_query_that_fails_on_its_way_leaves_no_file(scene: ReportScene, tmp_path: Path) -> None:
    report = Report("SELECT throwIf(number = 900000, 'no more') AS n FROM numbers(1000000)")
    for fmt, (_, end) in compliance.FORMATS.items():
        with pytest.raises(QueryError, match="no more"):
            write_query(scene.world.history, report, fmt, tmp_path / f"rows.{end}")
    assert list(tmp_path.iterdir()) == []


def test_rows_that_a_second_question_does_not_find_are_told(
    scene: ReportScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = files.stream
    monkeypatch.setattr(
        files, "stream", lambda *a: (part[: part.rfind(b"\n", 0, -1) + 1] for part in real(*a))
    )
    with pytest.raises(ExportError, match=r"rows were written of"):
        export(scene, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_keys_that_are_none_are_refused() -> None:
    for content in (b"", b"abc", PUBLIC, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        with pytest.raises(ManifestError):
            private_key(content)
    for content in (b"", PRIVATE, b"00" * 31):
        with pytest.raises(ManifestError):
            public_key(content)
    raw = public_key(PUBLIC).public_bytes_raw()
    assert public_key(raw.hex().encode() + b"\n").public_bytes_raw() == raw


def test_every_period_of_days_is_the_whole(scene: ReportScene) -> None:
    """A part of two halves has the rows of the whole."""
    for part in ("transfers", "state_changes", "audit_trail"):
        counts = [
            len(scene.rows(compliance.part(part, asked).pasteable))
            for asked in (Period(), period(None, "2026-03-01"), period("2026-03-02", None))
        ]
        assert counts[0] == counts[1] + counts[2] > 0
