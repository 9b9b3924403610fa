"""Forms of a schema: canonical and fingerprint by Apache Avro's vectors, resolution form by its own rules."""

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.forms import SchemaFault, canonical_form, fingerprint, named_types, plain_form, resolution_form
from schemas.loader import load, schemas

VECTORS = Path(__file__).parents[1] / "data" / "avro"
CASES = json.loads((VECTORS / "schema_canonical.json").read_text())["cases"]

TOPIC = {"name": "a.b.v1", "key": "k", "partitions": 1, "retention_ms": -1, "cleanup_policy": "delete"}
COMPACT, LAG = {**TOPIC, "cleanup_policy": "compact"}, "max_compaction_lag_ms"


def record(*fields: Any, **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": "R", "namespace": "t", "fields": list(fields), **more}


def field(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["canonical"][:40])
def test_canonical_form_and_fingerprint(case: dict[str, str]) -> None:
    canonical = canonical_form(json.loads(case["input"]))
    assert canonical == case["canonical"]
    assert str(fingerprint(canonical)) == case["crc64_avro_fingerprint"]


def test_resolution_form_keeps_what_reading_needs_and_drops_the_rest() -> None:
    schema = record(
        field("e", {"type": "enum", "name": "E", "symbols": ["A"], "default": "A", "doc": "x"}, doc="y"),
        field("f", "E", order="ignore", default="A", aliases=["old"]),
        field("t", {"type": "long", "logicalType": "timestamp-millis", "x": 1}),
        field("n", ["null", {"type": "fixed", "name": "other.F", "size": 2}], default=None),
        field("p", {"type": {"type": "string", "avro.java.string": "String"}}),
        doc="d",
        topic=TOPIC,
        clickhouse={},
        aliases=["Old"],
    )
    assert resolution_form(schema) == {
        "type": "record",
        "name": "t.R",
        "aliases": ["t.Old"],
        "fields": [
            {"name": "e", "type": {"type": "enum", "name": "t.E", "symbols": ["A"], "default": "A"}},
            {"name": "f", "type": "t.E", "default": "A", "aliases": ["old"]},
            {"name": "t", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "n", "type": ["null", {"type": "fixed", "name": "other.F", "size": 2}], "default": None},
            {"name": "p", "type": "string"},
        ],
    }


@pytest.mark.parametrize("schema", schemas(), ids=lambda schema: schema.topic_name)
def test_resolution_form_of_itself_is_itself_and_means_the_same(schema: Any) -> None:
    assert resolution_form(schema.resolution) == schema.resolution
    defined = {name for name, *_ in named_types(schema.raw)}
    if defined == {
        name for name, *_ in named_types(schema.resolution)
    }:  # with a type of another file it means nothing alone
        assert canonical_form(schema.resolution) == canonical_form(schema.raw)
    assert '"doc"' not in json.dumps(schema.resolution)


def test_a_type_of_another_file_is_defined_where_it_is_first_used() -> None:
    shared = {"type": "fixed", "name": "Hash", "namespace": "common", "size": 32}
    pool = {name: (definition, namespace) for name, definition, namespace in named_types(shared)}
    form = resolution_form(record(field("a", "common.Hash"), field("b", ["null", "common.Hash"])), pool)
    assert form["fields"][0]["type"] == {"type": "fixed", "name": "common.Hash", "size": 32}
    assert form["fields"][1]["type"] == ["null", "common.Hash"]


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (record(field("a", "Missing")), "a: unknown type t.Missing"),
        (
            record(field("a", {"type": "array", "items": record(field("b", "nope"), name="Q")})),
            "a[].b: unknown",
        ),
        (
            record(
                field("a", {"type": "fixed", "name": "F", "size": 1}), field("b", {**record(), "name": "F"})
            ),
            "b: t.F is defined twice",
        ),
        (
            record(field("a", {"type": "fixed", "name": "F", "namespace": "", "size": 1})),
            "a: F has no namespace",
        ),
        ({"name": "x"}, "schema: not an Avro schema"),
    ],
)
def test_a_faulty_schema_is_refused_by_path(schema: Any, message: str) -> None:
    with pytest.raises(SchemaFault) as refused:
        resolution_form(schema)
    assert str(refused.value).startswith(message)


def test_plain_form_takes_time_off_and_leaves_decimals() -> None:
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}
    form = resolution_form(
        record(field("t", ["null", {"type": "long", "logicalType": "timestamp-micros"}]), field("d", decimal))
    )
    assert [each["type"] for each in plain_form(form)["fields"]] == [["null", "long"], decimal]


def write(root: Path, name: str, schema: Any) -> None:
    (root / "d").mkdir(exist_ok=True)
    (root / "d" / name).write_text(schema if isinstance(schema, str) else json.dumps(schema))


def test_loader_resolves_across_files_and_lends_types_without_topic(tmp_path: Path) -> None:
    write(tmp_path, "types.avsc", {"type": "enum", "name": "Kind", "namespace": "t", "symbols": ["A"]})
    write(tmp_path, "one.avsc", record(field("k", "Kind"), topic=TOPIC))
    (loaded,) = load(tmp_path)
    assert loaded.subject == "a.b.v1-value"
    assert loaded.name == "t.R"
    assert loaded.resolution["fields"][0]["type"]["symbols"] == ["A"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.avsc": "{"}, "d/a.avsc: not JSON"),
        ({"a.avsc": record(topic={**TOPIC, "name": "A.b"})}, "d/a.avsc: topic.name: 'A.b'"),
        ({"a.avsc": record(topic={**TOPIC, "partitions": 0})}, "d/a.avsc: topic.partitions: 0"),
        ({"a.avsc": record(topic={**TOPIC, "partitions": "many"})}, "d/a.avsc: topic.partitions: 'many'"),
        ({"a.avsc": record(topic={**TOPIC, "retention_ms": -2})}, "d/a.avsc: topic.retention_ms: -2"),
        ({"a.avsc": record(topic={**TOPIC, "cleanup_policy": "x"})}, "d/a.avsc: topic.cleanup_policy: 'x'"),
        (
            {"a.avsc": record(topic={**TOPIC, LAG: 9})},
            f"d/a.avsc: topic.{LAG}: 9 is not above 0, or the topic",
        ),
        ({"a.avsc": record(topic={**COMPACT, LAG: 0})}, f"d/a.avsc: topic.{LAG}: 0"),
        ({"a.avsc": record(topic={**COMPACT, LAG: None})}, f"d/a.avsc: topic.{LAG}: None"),
        ({"a.avsc": record(topic={"name": "a.b.v1"})}, "d/a.avsc: topic: has ['name']"),
        (
            {"a.avsc": {**record(topic=TOPIC), "type": "array", "items": "int"}},
            "d/a.avsc: the value of a topic",
        ),
        (
            {"a.avsc": record(topic=TOPIC), "b.avsc": record(topic=TOPIC)},
            "d/b.avsc: t.R is defined in d/a.avsc",
        ),
        (
            {"a.avsc": record(topic=TOPIC), "b.avsc": record(name="S", topic=TOPIC)},
            "d/b.avsc: topic a.b.v1 has a schema",
        ),
    ],
)
def test_loader_names_the_file_at_fault(tmp_path: Path, files: dict[str, Any], message: str) -> None:
    for name, schema in files.items():
        write(tmp_path, name, schema)
    with pytest.raises(SchemaFault) as refused:
        load(tmp_path)
    assert str(refused.value).startswith(message)
