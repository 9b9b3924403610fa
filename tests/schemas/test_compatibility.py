"""BACKWARD compatibility: a table of single changes, and a property test against fastavro as the reader."""

import random
from io import BytesIO
from typing import Any

import pytest
from avro_samples import random_value
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from hypothesis import event, given, settings
from hypothesis import strategies as st

from schemas.compatibility import backward_errors
from schemas.forms import SchemaFault, plain_form, resolution_form

ENUM = {"type": "enum", "name": "E", "symbols": ["A", "B"]}
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}


def one(kind: Any, **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": [{"name": "f", "type": kind, **more}]}


def fixed(size: int, name: str = "F", **more: Any) -> dict[str, Any]:
    return {"type": "fixed", "name": name, "size": size, **more}


def inner(*fields: Any, name: str = "In", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields), **more}


def array(items: Any) -> dict[str, Any]:
    return {"type": "array", "items": items}


X = {"name": "x", "type": "int"}
Y = {"name": "y", "type": "int"}
Y0 = {"name": "y", "type": "int", "default": 0}

CASES = [
    # (name, reader, writer, expected errors)
    ("same", one("int"), one("int"), []),
    ("int to long", one("long"), one("int"), []),
    ("int to double", one("double"), one("int"), []),
    ("long to float", one("float"), one("long"), []),
    ("float to double", one("double"), one("float"), []),
    ("string to bytes", one("bytes"), one("string"), []),
    ("bytes to string", one("string"), one("bytes"), []),
    ("long to int", one("int"), one("long"), ["f: long cannot be read as int"]),
    ("double to float", one("float"), one("double"), ["f: double cannot be read as float"]),
    ("string to int", one("int"), one("string"), ["f: string cannot be read as int"]),
    ("int to boolean", one("boolean"), one("int"), ["f: int cannot be read as boolean"]),
    (
        "array to map",
        one({"type": "map", "values": "int"}),
        one(array("int")),
        ["f: array cannot be read as map"],
    ),
    ("array items", one(array("int")), one(array("long")), ["f[]: long cannot be read as int"]),
    (
        "map values",
        one({"type": "map", "values": "int"}),
        one({"type": "map", "values": "string"}),
        ["f{}: string cannot be read as int"],
    ),
    ("new field", inner(X, Y), inner(X), ["y: a new field without a default"]),
    ("new field with default", inner(X, Y0), inner(X), []),
    ("removed field", inner(X), inner(X, Y), []),
    ("fields in another order", inner(Y, X), inner(X, Y), []),
    ("renamed field with alias", inner({**Y, "aliases": ["x"]}), inner(X), []),
    ("renamed field without", inner(Y), inner(X), ["y: a new field without a default"]),
    (
        "nested new field",
        one(array(inner(X, Y))),
        one(array(inner(X))),
        ["f[].y: a new field without a default"],
    ),
    (
        "record renamed",
        one(inner(X, name="Out")),
        one(inner(X)),
        ["f: In cannot be read as Out: another name, no alias"],
    ),
    ("record renamed with alias", one(inner(X, name="Out", aliases=["In"])), one(inner(X)), []),
    (
        "record moved",
        {**one("int"), "namespace": "b"},
        {**one("int"), "namespace": "a"},
        ["record: a.R cannot be read as b.R: another name, no alias"],
    ),
    ("enum grew", one({**ENUM, "symbols": ["B", "A", "C"]}), one(ENUM), []),
    ("enum shrank", one({**ENUM, "symbols": ["B"]}), one(ENUM), ["f: E lost A and has no default"]),
    ("enum shrank, default", one({**ENUM, "symbols": ["B"], "default": "B"}), one(ENUM), []),
    (
        "field default is no enum default",
        one({**ENUM, "symbols": ["B"]}, default="B"),
        one(ENUM),
        ["f: E lost A and has no default"],
    ),
    (
        "enum renamed",
        one({**ENUM, "name": "G"}),
        one(ENUM),
        ["f: E cannot be read as G: another name, no alias"],
    ),
    ("fixed size", one(fixed(4)), one(fixed(3)), ["f: 3 bytes cannot be read as 4"]),
    (
        "fixed renamed",
        one(fixed(4, "G")),
        one(fixed(4)),
        ["f: F cannot be read as G: another name, no alias"],
    ),
    ("fixed alias", one(fixed(4, "G", aliases=["F"])), one(fixed(4)), []),
    ("fixed to bytes", one("bytes"), one(fixed(4)), ["f: F cannot be read as bytes"]),
    ("made nullable", one(["null", "int"]), one("int"), []),
    ("made nullable and wider", one(["null", "long"]), one("int"), []),
    ("no longer nullable", one("int"), one(["null", "int"]), ["f: null cannot be read as int"]),
    ("union grew", one(["null", "int", "string"]), one(["null", "int"]), []),
    ("union reordered", one(["int", "null"]), one(["null", "int"]), []),
    (
        "union shrank",
        one(["null", "int"]),
        one(["null", "int", "string"]),
        ["f: string is not in the union [null, int]"],
    ),
    (
        "union of records",
        one(["null", inner(X, Y)]),
        one(["null", inner(X)]),
        ["f.y: a new field without a default"],
    ),
    (
        "decimal scale",
        one({**DECIMAL, "scale": 3}),
        one(DECIMAL),
        ["f: bytes (decimal 9 2) cannot be read as bytes (decimal 9 3)"],
    ),
    ("decimal same", one(DECIMAL), one(DECIMAL), []),
    (
        "millis to micros",
        one({**MILLIS, "logicalType": "timestamp-micros"}),
        one(MILLIS),
        ["f: long (timestamp-millis) cannot be read as long (timestamp-micros)"],
    ),
    ("time laid on a long", one(MILLIS), one("long"), ["f: long cannot be read as long (timestamp-millis)"]),
    ("docs only", {**one("int"), "doc": "new", "clickhouse": {}}, one("int", doc="old"), []),
]


@pytest.mark.parametrize(("reader", "writer", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_single_changes(reader: Any, writer: Any, expected: list[str]) -> None:
    assert backward_errors(reader, writer) == expected


def test_a_schema_that_contains_itself() -> None:
    tree = inner(X, {"name": "kids", "type": array("In")})
    assert backward_errors(tree, tree) == []
    wider = inner({**X, "type": "long"}, Y, {"name": "kids", "type": array("In")})
    assert backward_errors(wider, tree) == ["y: a new field without a default"]


def test_every_error_is_told() -> None:
    errors = backward_errors(
        inner({"name": "x", "type": "boolean"}, Y, {"name": "z", "type": "int"}),
        inner(X, {"name": "z", "type": "long"}),
    )
    assert errors == [
        "x: int cannot be read as boolean",
        "y: a new field without a default",
        "z: long cannot be read as int",
    ]


def test_a_schema_that_is_none_is_a_fault() -> None:
    with pytest.raises(SchemaFault):
        backward_errors(one("Missing"), one("int"))


WIDER = {"int": ["long", "float", "double"], "long": ["double"], "float": ["double"], "string": ["bytes"]}
LEAVES = st.sampled_from(["null", "boolean", "int", "long", "float", "double", "string"])


@st.composite
def kinds(draw: Any, depth: int = 2) -> Any:
    """A type without names, for they would have to be unique; records come from `records`."""
    if depth == 0 or draw(st.integers(0, 2)):
        return draw(LEAVES)
    form = draw(st.sampled_from(["array", "map", "union"]))
    if form == "union":
        branches = draw(st.lists(LEAVES, min_size=1, max_size=4, unique=True))
        return [*branches, *([draw(kinds(0).map(array))] if draw(st.booleans()) else [])]
    child = draw(kinds(depth - 1))
    return array(child) if form == "array" else {"type": "map", "values": child}


NAMED = st.one_of(
    st.lists(st.sampled_from("ABCD"), min_size=1, unique=True).map(
        lambda symbols: {"type": "enum", "name": "E", "symbols": symbols}
    ),
    st.lists(st.sampled_from("ABCD"), min_size=1, unique=True).map(
        lambda symbols: {"type": "enum", "name": "E", "symbols": symbols, "default": symbols[0]}
    ),
    st.sampled_from([1, 2]).map(lambda size: fixed(size)),
)


@st.composite
def records(draw: Any) -> Any:
    """A record whose fields a, b, c, d may be there, with or without default, and one nested record."""
    fields = []
    for name in draw(st.permutations("abcd")):
        if draw(st.integers(0, 3)):
            kind = draw(kinds())
            fields.append({"name": name, "type": kind})
            if draw(st.booleans()) and isinstance(kind, str):
                fields[-1]["default"] = _default(kind)
    fields.append({"name": "n", "type": draw(NAMED)})
    nested = inner(*draw(st.lists(st.sampled_from([X, {**X, "type": "long"}]), max_size=1)))
    nested["fields"] += draw(st.lists(st.sampled_from([Y, Y0]), max_size=1))
    fields.append({"name": "r", "type": ["null", nested] if draw(st.booleans()) else array(nested)})
    return {"type": "record", "name": "R", "fields": fields}


def _default(kind: str) -> Any:
    return {"null": None, "boolean": False, "string": "", "float": 0.0, "double": 0.0}.get(kind, 0)


@st.composite
def evolutions(draw: Any) -> tuple[Any, Any]:
    """(writer, reader): the reader is the writer after a few changes, most of them legal."""
    writer = draw(records())
    fields = [_changed(draw, field) for field in writer["fields"] if draw(st.integers(0, 5))]
    if draw(st.booleans()):
        fields.insert(0, {"name": "new", "type": "string", "default": "x"})
    return writer, {**writer, "fields": fields}


def _changed(draw: Any, field: Any) -> Any:
    how = draw(st.sampled_from(["keep", "keep", "rename", "nullable", "widen", "any"]))
    kind = field["type"]
    if how == "rename":
        return {"name": field["name"] * 2, "aliases": [field["name"]], "type": kind}
    if how == "nullable" and isinstance(kind, str) and kind != "null":
        return {"name": field["name"], "type": ["null", kind], "default": None}
    if how == "widen" and isinstance(kind, str) and kind in WIDER:
        return {"name": field["name"], "type": draw(st.sampled_from(WIDER[kind]))}
    return (
        {"name": field["name"], "type": draw(kinds())} if how == "any" and field["name"] in "abcd" else field
    )


@settings(max_examples=500)
@given(pair=evolutions(), seed=st.integers(0, 2**32))
def test_what_is_called_compatible_fastavro_reads(pair: tuple[Any, Any], seed: int) -> None:
    writer, reader = pair
    _read_if_compatible(reader, writer, seed)


@settings(max_examples=500)
@given(writer=kinds(), reader=kinds(), seed=st.integers(0, 2**32))
def test_the_same_for_one_field(writer: Any, reader: Any, seed: int) -> None:
    _read_if_compatible(one(reader), one(writer), seed)


def _read_if_compatible(reader: Any, writer: Any, seed: int) -> None:
    compatible = not backward_errors(reader, writer)
    event(f"compatible: {compatible}")
    if not compatible:
        return
    written, wanted = resolution_form(writer), resolution_form(reader)
    rng = random.Random(seed)
    for _ in range(4):
        record = random_value(plain_form(written), rng)
        stream = BytesIO()
        schemaless_writer(stream, parse_schema(written, named_schemas={}), record)
        stream.seek(0)
        found = schemaless_reader(
            stream, parse_schema(written, named_schemas={}), parse_schema(wanted, named_schemas={})
        )
        assert set(found) == {field["name"] for field in wanted["fields"]}
