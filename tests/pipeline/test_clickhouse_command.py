"""`tidebook clickhouse plan|apply` on a directory: exit statuses, lines, and that a refusal changes nothing."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline import clickhouse_command
from pipeline.clickhouse_command import apply_clickhouse, plan_clickhouse
from pipeline.settings import Settings, read_settings
from sinks.clickhouse_client import WRITE_SETTINGS, DirectoryLock, Place
from sinks.clickhouse_plan import MigrationRefused
from tests.support.history import history


def _settings(tmp_path: Path) -> Settings:
    return read_settings(data_dir=tmp_path)


def _rows(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_tables_that_are_not_there_are_planned_and_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = _settings(tmp_path)
    assert plan_clickhouse(settings, as_json=True) == 0
    rows = _rows(capsys)
    assert {"xrpl_transactions", "sink_progress", "sink_applied", "provenance"} <= {
        row["table"] for row in rows
    }
    assert {row["action"] for row in rows} == {"change"} and not settings.clickhouse_dir.exists()


def test_no_data_directory_is_told_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = _settings(tmp_path / "mistyped")
    assert plan_clickhouse(settings, as_json=True) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1
    assert f"there is no data directory {settings.data_dir}: name it with --data-dir" in told.err
    assert not settings.data_dir.exists()


def test_planned_applied_and_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = _settings(tmp_path)
    assert apply_clickhouse(settings, as_json=True) == 0
    assert len(_rows(capsys)) > 40
    assert plan_clickhouse(settings, as_json=True) == 0 and _rows(capsys) == []
    assert apply_clickhouse(settings, as_json=False) == 0
    assert "nothing to do" in capsys.readouterr().out
    _alter(
        settings,
        "ALTER TABLE xrpl_ledgers ADD COLUMN odd String",
        "ALTER TABLE gas_ledger MODIFY COMMENT 'x'",
    )
    for work in (plan_clickhouse, apply_clickhouse):
        assert work(settings, as_json=True) == 1
        rows = [row for row in _rows(capsys) if row["action"] == "refuse"]
        assert [(row["table"], row["what"]) for row in rows] == [
            ("xrpl_ledgers", "column odd String is in no schema: dropping it loses data")
        ]
    with (
        pytest.raises(MigrationRefused, match="ClickHouse table xrpl_ledgers: column odd"),
        history(settings.clickhouse_dir),
    ):
        pass
    (comment,) = _alter(settings, "SELECT comment FROM system.tables WHERE name = 'gas_ledger'")
    assert comment == "x"  # nothing else was applied either


def _alter(settings: Settings, *statements: str) -> list[Any]:
    client = Place(path=settings.clickhouse_dir).connect(WRITE_SETTINGS)
    try:
        return [client.command(statement) for statement in statements]
    finally:
        client.close()


def test_a_directory_in_use_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clickhouse_command, "_LOCK_WAIT_S", 0.0)
    settings = _settings(tmp_path)
    settings.clickhouse_dir.mkdir(parents=True)
    lock = DirectoryLock(settings.clickhouse_dir, "history")
    try:
        assert plan_clickhouse(settings, as_json=True) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "in use by process" in line and "(history)" in line
    finally:
        lock.release()


def test_a_server_that_is_away_is_told_with_its_setting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = read_settings(data_dir=tmp_path, clickhouse_url="http://127.0.0.1:9/x")
    assert plan_clickhouse(settings, as_json=False) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tidebook: setting TIDEBOOK_CLICKHOUSE_URL: ")
