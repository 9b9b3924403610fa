"""What is generated: Python that mypy and a reader can use, and a dictionary that names every field and
table."""

import random
from typing import Any, get_args, get_type_hints

import pytest
from avro_samples import random_value

from schemas import records
from schemas.dictionary import dictionary
from schemas.forms import SchemaFault, named_types, plain_form
from schemas.loader import make_schema, schemas
from schemas.records_source import constant_of, records_source

TOPIC = {"name": "a.b.v1", "key": "k", "partitions": 1, "retention_ms": -1, "cleanup_policy": "compact"}


def source_of(*fields: Any, name: str = "R") -> str:
    raw = {"type": "record", "name": name, "doc": "d", "topic": TOPIC, "fields": list(fields)}
    return records_source([make_schema(raw)])


def test_every_record_and_enum_has_its_type() -> None:
    for schema in schemas():
        assert getattr(records, constant_of(schema.topic_name)) == schema.topic_name
        for name, definition, _ in named_types(schema.resolution):
            made = getattr(records, name.rpartition(".")[2])
            if definition["type"] == "enum":
                assert list(get_args(made)) == definition["symbols"]
            elif definition["type"] == "record":
                assert list(get_type_hints(made)) == [field["name"] for field in definition["fields"]]
                assert made.__required_keys__ == set(get_type_hints(made))


def test_types_of_python() -> None:
    source = source_of(
        {"name": "a", "type": ["null", {"type": "array", "items": "long"}], "doc": "why"},
        {"name": "b", "type": {"type": "map", "values": {"type": "fixed", "name": "F", "size": 2}}},
        {"name": "c", "type": {"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}},
        {
            "name": "d",
            "type": {"type": "enum", "name": "E", "symbols": ["SYMBOL_" + "X" * 30 + c for c in "AB"]},
        },
        {"name": "e", "type": ["null", "E"]},
    )
    scope: dict[str, Any] = {}
    exec(source, scope)  # the generated text is Python
    assert "    # why\n    a: list[int] | None\n" in source
    for line in (
        "    b: dict[str, F]\n",
        "    c: Decimal\n",
        "    d: E\n",
        "    e: E | None\n",
        "F = bytes  # 2 bytes\n",
    ):
        assert line in source
    assert max(map(len, source.splitlines())) <= 110
    assert scope["R"].__doc__ == "d"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([{"name": "from", "type": "int"}], "R.from: a Python keyword"),
        (
            [
                {"name": "a", "type": {"type": "fixed", "name": "x.F", "size": 1}},
                {"name": "b", "type": {"type": "fixed", "name": "y.F", "size": 1}},
            ],
            "y.F: F is taken by x.F",
        ),
    ],
)
def test_names_that_python_cannot_have(fields: list[Any], message: str) -> None:
    with pytest.raises(SchemaFault, match=message):
        source_of(*fields)


def test_dictionary_names_every_topic_field_table_and_column() -> None:
    text = dictionary(schemas())
    for schema in schemas():
        assert f"## {schema.topic_name}\n" in text
        for _, definition, _ in named_types(schema.documented):
            for field in definition.get("fields", ()):
                assert f"| `{field['name']}` |" in text
        for table in (schema.clickhouse or {}).get("tables", ()):
            assert f"### ClickHouse table {table['name']}\n" in text
            for column in table.get("columns", {}):
                assert f"| `{column}` |" in text
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert all("<" not in row for row in rows)


def test_samples_are_exact() -> None:
    from schemas.exact import fault

    rng = random.Random(1)
    for schema in schemas():
        form = plain_form(schema.resolution)
        assert all(fault(form, random_value(form, rng)) is None for _ in range(20))
