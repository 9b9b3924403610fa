"""`tidebook schemas register`: what it prints, its exit status, one line for what is wrong."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest

from pipeline.schemas_command import register_schemas
from pipeline.settings import Settings
from schemas.registry import local_registry
from tests.support.schema_registry import FakeRegistry, serve

ENTRIES = local_registry().entries


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with serve(FakeRegistry(user="u", password="hush")) as served:
        yield served


def settings(url: str) -> Settings:
    return Settings(schema_registry_url=url)


def test_a_fresh_registry_gets_the_ids_of_the_local_one(
    fake: FakeRegistry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert register_schemas(settings(fake.url), dry_run=True, as_json=True) == 0
    assert not fake.schemas and not fake.levels
    capsys.readouterr()
    for state in ("registered", "present"):
        assert register_schemas(settings(fake.url), dry_run=False, as_json=True) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert [(row["id"], row["local_id"], row["state"]) for row in rows] == [
            (entry.id, entry.id, state) for entry in ENTRIES
        ]
        assert {row["compatibility"] for row in rows} == {"BACKWARD"}


def test_the_table_names_every_subject_and_no_password(
    fake: FakeRegistry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert register_schemas(settings(fake.url), dry_run=False, as_json=False) == 0
    said = capsys.readouterr().out
    assert all(entry.subject in said for entry in ENTRIES)
    assert "hush" not in said and f"{len(ENTRIES)} registered" in said


def test_what_is_refused_is_told_and_fails(fake: FakeRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody else has registered another schema under one of our subjects."""
    subject = ENTRIES[0].subject
    fake.register(subject, json.dumps({"type": "record", "name": "other.Thing", "fields": []}))
    for dry_run in (True, False):
        assert register_schemas(settings(fake.url), dry_run, as_json=True) == 1
        told = capsys.readouterr()
        states = {row["subject"]: row["state"] for row in map(json.loads, told.out.splitlines())}
        assert states.pop(subject) == "refused" and "refused" not in states.values()
        assert told.err.startswith(f"tidebook: {subject} version 1 is refused: ")


def test_bad_settings_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:  # accepts, and closes with the block
        port = listening.getsockname()[1]
    cases = {
        "": (2, "setting TIDEBOOK_SCHEMA_REGISTRY_URL is empty"),
        "kafka:9092": (1, "TIDEBOOK_SCHEMA_REGISTRY_URL=…: is no address of a registry"),
        f"http://u:hush@127.0.0.1:{port}": (1, f"=http://127.0.0.1:{port}: cannot be reached"),
    }
    for url, (status, told) in cases.items():
        assert register_schemas(settings(url), dry_run=False, as_json=False) == status
        said = capsys.readouterr().err
        assert told in said and said.count("\n") == 1 and "hush" not in said
