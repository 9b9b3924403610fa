"""How the registry grows, and the check that CI runs over schemas and generated files."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from schemas import generate
from schemas.freeze import freeze, latest, prefix_errors
from schemas.loader import Schema, load, make_schema, schemas
from schemas.registry import Entry, dump_entries, parse_entries, read_entries

TOPIC = {"name": "a.b.v1", "key": "k", "partitions": 1, "retention_ms": -1, "cleanup_policy": "delete"}


def schema(*fields: Any, topic: str = "a.b.v1", **more: Any) -> Schema:
    raw = {
        "type": "record",
        "name": "R",
        "doc": "d",
        "topic": {**TOPIC, "name": topic},
        "fields": list(fields),
    }
    return make_schema({**raw, **more})


X = {"name": "x", "type": "int", "doc": "d"}


def test_a_new_subject_gets_the_next_id_and_version_1() -> None:
    first, _ = freeze((), [schema(X), schema(X, topic="c.d.v1")])
    assert [(entry.id, entry.subject, entry.version) for entry in first] == [
        (1, "a.b.v1-value", 1),
        (2, "c.d.v1-value", 1),
    ]


def test_docs_and_attributes_never_make_a_version_and_a_change_does() -> None:
    first, _ = freeze((), [schema(X), schema(X, topic="c.d.v1")])
    same = schema({**X, "doc": "other words"}, doc="other", clickhouse={"tables": []})
    assert freeze(first, [same]) == (first, [])
    grown, problems = freeze(first, [schema(X, {"name": "y", "type": "int", "default": 0})])
    assert problems == []
    assert grown[:2] == first
    assert (grown[2].id, grown[2].subject, grown[2].version) == (3, "a.b.v1-value", 2)
    assert latest(grown, "a.b.v1-value") == grown[2]
    assert latest(grown, "none") is None


def test_an_incompatible_change_is_refused_and_named() -> None:
    first, _ = freeze((), [schema(X)])
    after, problems = freeze(first, [schema(X, {"name": "y", "type": "int"})])
    assert after == first
    assert problems == [
        "a.b.v1-value: not BACKWARD compatible with version 1: y: a new field without a default"
    ]


def test_the_registry_is_append_only() -> None:
    before, _ = freeze((), [schema(X), schema(X, topic="c.d.v1")])
    after = (*before, Entry(3, "e.f.v1-value", 1, {}))
    assert prefix_errors(before, after) == []
    assert prefix_errors(after, before) == ["id 3 (e.f.v1-value version 1) is gone"]
    changed = (Entry(1, "a.b.v1-value", 1, {}), before[1])
    assert prefix_errors(before, changed) == ["id 1 (a.b.v1-value version 1) was changed"]


def test_the_registry_file_reads_back_and_grows_by_a_line(tmp_path: Path) -> None:
    entries, _ = freeze((), schemas())
    assert parse_entries(dump_entries(entries)) == entries
    lines = dump_entries(entries).splitlines()
    shorter = dump_entries(entries[:-1]).splitlines()
    assert len(lines) == len(shorter) + 1 and lines[: len(shorter) - 2] == shorter[:-2]
    assert read_entries(tmp_path / "none.json") == ()


def test_the_checkout_is_up_to_date() -> None:
    assert generate.check() == []
    assert generate.main(["--check"]) == 0


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The generator at work on a git repository of one schema, committed with its registry."""
    package = tmp_path / "schemas"
    (package / "d").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    (package / "__init__.py").touch()
    monkeypatch.setattr(generate, "PACKAGE", package)
    monkeypatch.setattr(generate, "RECORDS_FILE", package / "records.py")
    monkeypatch.setattr(generate, "REGISTRY_FILE", package / "registry.json")
    monkeypatch.setattr(generate, "DICTIONARY_FILE", tmp_path / "docs" / "data-dictionary.md")
    monkeypatch.setattr(generate, "load", lambda: load(package))
    save(package, X)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "schemas/__init__.py")
    return package


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)


def commit(package: Path) -> None:
    git(package.parent, "add", ".")
    git(package.parent, "commit", "--quiet", "--message", "x")


def save(package: Path, *fields: Any) -> None:
    raw = {"type": "record", "name": "R", "doc": "d", "topic": TOPIC, "fields": list(fields)}
    (package / "d" / "r.avsc").write_text(json.dumps(raw))


def test_what_is_stale_is_named_and_written(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["schemas/records.py", "schemas/registry.json", "docs/data-dictionary.md"]
    assert generate.main(["--check"]) == 1
    stale = [f"schemas: {name}: stale; run python -m schemas.generate" for name in files]
    assert capsys.readouterr().err.splitlines() == stale
    assert generate.main([]) == 0
    assert capsys.readouterr().out.splitlines() == [f"wrote {name}" for name in files]
    assert generate.main(["--check"]) == 0
    assert "class R(TypedDict)" in (copied / "records.py").read_text()
    assert generate.docs() == (copied.parent / "docs" / "data-dictionary.md").read_text()


def test_an_id_is_free_until_it_is_committed(copied: Path) -> None:
    assert generate.main([]) == 0
    save(copied, {**X, "type": "string"})  # no reader of int: but nobody has seen version 1 yet
    assert generate.main([]) == 0
    assert [entry.version for entry in read_entries(copied / "registry.json")] == [1]
    commit(copied)
    save(copied, X)
    assert generate.main([]) == 1
    save(copied, {**X, "type": "string"}, {"name": "y", "type": "int", "default": 0, "doc": "d"})
    assert generate.main([]) == 0
    assert [entry.version for entry in read_entries(copied / "registry.json")] == [1, 2]
    save(copied, {**X, "type": "string"}, {"name": "z", "type": "int", "default": 0, "doc": "d"})
    assert generate.main([]) == 0  # version 2 is still nobody's
    assert [entry.version for entry in read_entries(copied / "registry.json")] == [1, 2]
    assert generate.check() == []


def test_a_committed_id_that_changed_is_told(copied: Path) -> None:
    assert generate.main([]) == 0
    commit(copied)
    file = copied / "registry.json"
    file.write_text(file.read_text().replace('"int"', '"long"'))
    first, second = generate.check()
    assert first.startswith("schemas/registry.json: id 1 (a.b.v1-value version 1) was changed since ")
    assert second == "schemas/registry.json: stale; run python -m schemas.generate"
    commit(copied)  # also once it is committed: every committed version counts
    assert generate.check()[0].startswith(
        "schemas/registry.json: id 1 (a.b.v1-value version 1) was changed since "
    )


def test_a_missing_doc_and_a_faulty_schema_are_told(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inner = {"type": "record", "name": "In", "fields": [{"name": "y", "type": "int"}]}
    save(copied, X, {"name": "n", "doc": "d", "type": {"type": "array", "items": inner}})
    assert generate.main([]) == 1
    assert capsys.readouterr().err == "schemas: R: n.y: has no doc\n"
    save(copied, {"name": "x", "type": "Nope"})
    assert generate.main(["--check"]) == generate.main([]) == 1
    assert capsys.readouterr().err.splitlines() == ["schemas: d/r.avsc: x: unknown type Nope"] * 2
    assert generate.main(["--wrong"]) == 2
