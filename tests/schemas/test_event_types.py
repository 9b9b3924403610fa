"""Event types of the applications: each has one record, one field of its topic's schema, one row of the catalog.

And how their schemas may grow: what breaks a reader of what has been written is refused, on the real schemas.
"""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.catalog import APPLICATIONS
from pipeline.domain.applications.event import AppTopic
from schemas.compatibility import backward_errors
from schemas.freeze import freeze
from schemas.loader import PACKAGE, Schema, by_topic, schemas

DERIVED = ("applications.outcomes.v1", "applications.states.v1", "people.data.v1")
TOPICS = (*(row.topic for row in APPLICATIONS), *DERIVED)
Raw = dict[str, Any]


def types_of(row: AppTopic) -> dict[str, Raw]:
    """The JSON of `schemas/<domain>/types/*.avsc` by file name."""
    return {
        path.stem: json.loads(path.read_text()) for path in (PACKAGE / row.domain / "types").glob("*.avsc")
    }


def payloads_of(row: AppTopic) -> dict[str, Raw]:
    """Fields of the topic's schema that hold an event type's record, as they are written."""
    space = f"tidebook.{row.domain}.types."
    return {
        field["name"]: field
        for field in by_topic()[row.topic].raw["fields"]
        if isinstance(field["type"], list) and any(str(branch).startswith(space) for branch in field["type"])
    }


@pytest.mark.parametrize("row", APPLICATIONS, ids=lambda row: row.domain)
def test_a_type_has_one_row_one_field_and_one_record(row: AppTopic) -> None:
    payloads, types = payloads_of(row), types_of(row)
    assert sorted(payloads) == sorted(one.payload for one in row.types.values())
    assert sorted(payloads) == sorted(types)
    assert all(name == one.name for name, one in row.types.items())
    for name, one in row.types.items():
        assert one.payload == name.lower(), name


@pytest.mark.parametrize("row", APPLICATIONS, ids=lambda row: row.domain)
def test_a_payload_is_null_where_the_event_is_another(row: AppTopic) -> None:
    types = types_of(row)
    for name, field in payloads_of(row).items():
        record = types[name]
        assert field["type"] == ["null", f"tidebook.{row.domain}.types.{record['name']}"], name
        assert field["default"] is None, name
        assert field["doc"].startswith(f"{name.upper()}: "), f"{name}: doc says which type"
        assert record["doc"] and all(one["doc"] for one in record["fields"])


@pytest.mark.parametrize("row", APPLICATIONS, ids=lambda row: row.domain)
def test_fields_of_types_have_the_forms_that_the_intake_and_clickhouse_read(row: AppTopic) -> None:
    for name, record in types_of(row).items():
        check_fields(record, name)


SIMPLE = ("string", "boolean", "int", "long", {"type": "long", "logicalType": "timestamp-millis"})


def check_fields(record: Raw, path: str, *, nested: bool = False) -> None:
    """Simple, ["null", simple] with default null, or an array of simple items or of records of these; default []."""
    for field in record["fields"]:
        form, where = field["type"], f"{path}.{field['name']}"
        if isinstance(form, list):
            assert form[0] == "null" and len(form) == 2 and field["default"] is None, where
            form = form[1]
        elif isinstance(form, dict) and form["type"] == "array":
            assert field.get("default", []) == [] and not nested, where
            form = form["items"]
            if isinstance(form, dict) and form["type"] == "record":
                check_fields(form, where, nested=True)
                continue
        assert form in SIMPLE, where


def test_names_of_records_are_unique_over_all_domains() -> None:
    """They become Python classes of one module."""
    names = [record["name"] for row in APPLICATIONS for record in types_of(row).values()]
    assert len(names) == len(set(names))


def changed(form: Raw, change: Callable[[Raw], object]) -> Raw:
    """`form` with a change made to a record in it: an event type's where there is one, else the value itself."""
    new = copy.deepcopy(form)
    change(_record(new))
    return new


def _record(form: Raw) -> Raw:
    for field in reversed(form["fields"]):
        if (
            isinstance(field["type"], list)
            and isinstance(field["type"][-1], dict)
            and "fields" in field["type"][-1]
        ):
            return field["type"][-1]
    return form


def add(**more: Any) -> Callable[[Raw], object]:
    return lambda record: record["fields"].append({"name": "novelty", "type": "string", **more})


def retype(record: Raw) -> None:
    field = record["fields"][0]
    field["type"] = {"type": "array", "items": "boolean"}
    field.pop("default", None)


def rename(record: Raw) -> None:
    field = record["fields"][0]
    field["name"] = "novelty"
    field.pop("default", None)


def rename_with_alias(record: Raw) -> None:
    field = record["fields"][0]
    field["aliases"] = [field["name"]]
    field["name"] = "novelty"


def rename_record(record: Raw) -> None:
    record["name"] += "Novel"


BREAKING = {
    "a new field without a default": (add(), "a new field without a default"),
    "another type": (retype, "cannot be read as"),
    "a field renamed without alias": (rename, "a new field without a default"),
    "a record renamed without alias": (rename_record, "Novel"),
}
HARMLESS = {
    "a new field with a default": add(default=""),
    "a field gone": lambda record: record["fields"].pop(0),
    "a field renamed with an alias": rename_with_alias,
}


def schema_of(topic: str) -> Schema:
    return by_topic()[topic]


@pytest.mark.parametrize("topic", TOPICS)
def test_the_schema_reads_what_was_written_with_it(topic: str) -> None:
    form = schema_of(topic).resolution
    assert backward_errors(form, form) == []
    base, problems = freeze((), schemas())
    assert problems == []
    assert freeze(base, schemas()) == (base, [])


@pytest.mark.parametrize("what", BREAKING)
@pytest.mark.parametrize("topic", TOPICS)
def test_a_breaking_change_fails(topic: str, what: str) -> None:
    change, said = BREAKING[what]
    form = schema_of(topic).resolution
    found = backward_errors(changed(form, change), form)
    assert found and said in found[0]


@pytest.mark.parametrize("topic", TOPICS)
def test_a_default_that_was_taken_back_fails_against_what_was_written_before_the_field(topic: str) -> None:
    first = schema_of(topic).resolution
    second = changed(first, add(default=""))
    third = changed(first, add())
    assert backward_errors(second, first) == []
    (found,) = backward_errors(third, first)
    assert found.endswith("novelty: a new field without a default")


@pytest.mark.parametrize("what", HARMLESS)
@pytest.mark.parametrize("topic", TOPICS)
def test_a_harmless_change_passes(topic: str, what: str) -> None:
    form = schema_of(topic).resolution
    assert backward_errors(changed(form, HARMLESS[what]), form) == []


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's schemas in a place of their own, frozen as they are."""
    root = tmp_path_factory.mktemp("tree")
    shutil.copytree(PACKAGE, root / "schemas", ignore=shutil.ignore_patterns("__pycache__", "registry.json"))
    assert generate(root) == (0, "")
    assert generate(root, "--check") == (0, "")
    return root


def generate(root: Path, *arguments: str) -> tuple[int, str]:
    """(exit status, stderr) of `python -m schemas.generate` in a tree."""
    command = [sys.executable, "-m", "schemas.generate", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stderr


def place_of(topic: str) -> str:
    """The file that a change of this topic's schema is made in: a type's, else the topic's own."""
    for row in APPLICATIONS:
        if row.topic == topic and row.types:
            return f"{row.domain}/types/{sorted(types_of(row))[0]}.avsc"
    name = topic.removesuffix(".v1").replace(".", "/")
    return f"{name}.avsc"


@pytest.mark.parametrize("topic", TOPICS)
def test_the_check_that_ci_runs_refuses_a_breaking_change(tree: Path, topic: str) -> None:
    file = tree / "schemas" / place_of(topic)
    before = file.read_text()
    raw = json.loads(before)
    try:
        raw["fields"].append({"name": "novelty", "type": "string", "doc": "d"})
        file.write_text(json.dumps(raw))
        for arguments in (["--check"], []):  # neither passes nor can be frozen
            status, told = generate(tree, *arguments)
            assert status == 1
            assert f"{topic}-value: not BACKWARD compatible with version 1" in told
            assert "novelty: a new field without a default" in told
    finally:
        file.write_text(before)
    assert generate(tree, "--check") == (0, "")
