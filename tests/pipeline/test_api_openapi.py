"""The document says what the reader reads: held against each other, and complete."""

import json
import random
from pathlib import Path

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.api.app import make_fastapi
from pipeline.api.openapi import document, event_schemas
from pipeline.catalog import APPLICATIONS
from schemas.forms import SchemaFault
from schemas.json_form import FieldFault, converter, parse_json
from schemas.json_schema import definitions
from schemas.loader import by_topic

GOLDEN = Path(__file__).parents[1] / "golden"
DOCUMENT = document(make_fastapi([]), APPLICATIONS, "1")


def validator(name):
    return jsonschema_rs.validator_for({**DOCUMENT, "$ref": f"#/components/schemas/{name}"})


def test_every_event_type_is_described():
    schemas = DOCUMENT["components"]["schemas"]
    for row in APPLICATIONS:
        one = schemas[f"{row.domain}.event"]
        assert set(one["discriminator"]["mapping"]) == set(row.types)
        for kind in row.types.values():
            described = schemas[f"{row.domain}.{kind.name}"]
            assert described["description"] and described["properties"]["type"]["const"] == kind.name
            record = schemas[described["properties"]["data"]["$ref"].rpartition("/")[2]]
            assert record["type"] == "object" and record["additionalProperties"] is False
            assert all(field.get("description") for field in record["properties"].values())


def test_every_reference_leads_somewhere():
    text = json.dumps(DOCUMENT)
    for name in {part.split('"')[0] for part in text.split('"#/components/')[1:]}:
        kind, _, what = name.partition("/")
        assert what in DOCUMENT["components"][kind], name


def test_every_answer_has_a_shape():
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            if method == "parameters":
                continue
            answers = operation["responses"]
            assert {"500", "405"} <= set(answers), (path, method)
            for status, one in answers.items():
                assert status == "204" or one["content"], (path, method, status)
            assert operation["operationId"] and operation["summary"]


@pytest.mark.parametrize("row", APPLICATIONS, ids=lambda row: row.domain)
def test_golden_events_are_right_by_the_document(row):
    check = validator(f"{row.domain}.event")
    for path in sorted((GOLDEN / row.domain).glob("*.json")):
        case = json.loads(path.read_bytes())
        for event in [*case["before"], case["event"]]:
            body = {
                name: value
                for name, value in event.items()
                if name in ("type", "at", "user_id", "app_id", "data")
            }
            check.validate({**body, row.key: event["key"]})


FORM = {
    "type": "record", "name": "t.Both", "doc": "All that a record may hold.",
    "fields": [
        {"name": "word", "type": "string", "doc": "A word."}, {"name": "asset_id", "type": "string"},
        {"name": "amount", "type": "string"}, {"name": "flag", "type": "boolean", "default": False},
        {"name": "count", "type": "int", "default": 0}, {"name": "size", "type": "long", "default": 0},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}, "default": 0},
        {"name": "maybe", "type": ["null", "string"], "default": None},
        {"name": "words", "type": {"type": "array", "items": "string"}, "default": []},
        {"name": "kind", "type": {"type": "enum", "name": "t.Kind", "symbols": ["A", "B"]}, "default": "A"},
        {"name": "inner", "type": ["null", {"type": "record", "name": "t.Inner", "fields": [
            {"name": "price", "type": "string"}]}], "default": None},
    ],
}  # fmt: skip
RIGHT = {"word": "w", "asset_id": "a", "amount": "1.5"}
VALUES = [
    None, True, 0, -1, 1.5, 2**31, 2**63, "", "x", "x" * 257, "x" * 70_000, "a\0b", "1", "é", [], ["a"], [1],
    [None], {}, {"price": "1"}, {"price": 1}, {"price": None}, {"price": "1", "more": 1}, "A", "C",
    "2024-05-01T12:00:00Z", "2024-05-01T12:00:00.123+02:00", "2024-05-01", "2024-05-01T12:00:00",
    "2024-05-01T12:00:00.1234Z", 1_714_564_800_000,
]  # fmt: skip


def both(value):
    """(what the document says, what the reader says)."""
    schema = {"$ref": "#/$defs/Both", "$defs": definitions(FORM, "#/$defs/")}
    described = jsonschema_rs.validator_for(schema).is_valid(value)
    try:
        converter(FORM)(parse_json(json.dumps(value).encode()))
    except FieldFault:
        return described, False
    return described, True


@pytest.mark.parametrize("field", [*(one["name"] for one in FORM["fields"]), "unknown"])
def test_document_and_reader_agree(field):
    for value in VALUES:
        described, read = both({**RIGHT, field: value})
        assert described == read, (field, str(value)[:40], described, read)
    without = {name: value for name, value in RIGHT.items() if name != field}
    assert both(without)[0] == both(without)[1]


@given(st.dictionaries(st.sampled_from([one["name"] for one in FORM["fields"]]), st.sampled_from(VALUES)))
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
def test_document_and_reader_agree_on_many_fields(some):
    described, read = both({**RIGHT, **some})
    assert described == read


def test_two_types_of_one_name_are_a_fault():
    inner = {"type": "record", "name": "{}.Same", "fields": [{"name": "x", "type": "string"}]}
    fields = [{"name": n, "type": {**inner, "name": f"{n}.Same"}} for n in ("a", "b")]
    with pytest.raises(SchemaFault, match="Same"):
        definitions({"type": "record", "name": "t.Top", "fields": fields})


def test_domains_share_no_component_by_accident():
    """Records of two topics are one component only if they are the same."""
    rng = random.Random(1)
    alone = [event_schemas([row]) for row in APPLICATIONS]
    rng.shuffle(alone)
    together = event_schemas(APPLICATIONS)
    for one in alone:
        assert all(together[name] == schema for name, schema in one.items())


def test_topics_have_their_key_in_the_envelope():
    for row in APPLICATIONS:
        assert row.key in {field["name"] for field in by_topic()[row.topic].resolution["fields"]}
