"""JSON → Avro: what is right comes through exactly, whatever else is a FieldFault that names the field."""

import json
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import BytesIO

import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.catalog import APPLICATIONS
from schemas.forms import SchemaFault, plain_form
from schemas.json_form import (
    AMOUNT_DIGITS_MAX,
    ID_CHARS_MAX,
    STRING_BYTES_MAX,
    TIME_MS_MAX,
    FieldFault,
    converter,
    is_amount,
    parse_json,
    parse_lines,
    payloads,
    time_ms,
)
from schemas.loader import by_topic
from schemas.payload_encoder import PayloadEncoder
from tests.support.applications import codec

TIME = {"type": "long", "logicalType": "timestamp-millis"}
LEG = {
    "type": "record",
    "name": "t.Leg",
    "fields": [
        {"name": "amount", "type": "string"},
        {"name": "to_id", "type": ["null", "string"], "default": None},
    ],
}
FORM = {
    "type": "record",
    "name": "t.All",
    "fields": [
        {"name": "title", "type": "string"},
        {"name": "count", "type": "long"},
        {"name": "small", "type": "int", "default": 7},
        {"name": "open", "type": "boolean"},
        {"name": "ends_at", "type": TIME},
        {"name": "maybe_at", "type": ["null", TIME], "default": None},
        {"name": "kind", "type": {"type": "enum", "name": "t.Kind", "symbols": ["A", "B"]}},
        {"name": "legs", "type": {"type": "array", "items": LEG}, "default": []},
        {"name": "last", "type": ["null", "t.Leg"], "default": None},
        {"name": "tags", "type": {"type": "array", "items": "string"}, "default": []},
    ],
}  # fmt: skip
CONVERT = converter(FORM)
RIGHT = {"title": "x", "count": 1, "open": True, "ends_at": 0, "kind": "A"}

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def values(form, names, field=""):
    """Strategy of Avro values of a form."""
    if isinstance(form, list):
        return st.none() | values(form[1], names, field)
    if isinstance(form, str) and form in names:
        form = names[form]
    if isinstance(form, dict):
        if form["type"] == "array":
            return st.lists(values(form["items"], names, field), max_size=3)
        if form["type"] == "enum":
            return st.sampled_from(form["symbols"])
        if form["type"] == "record":
            names[form["name"]] = form
            parts = {one["name"]: values(one["type"], names, one["name"]) for one in form["fields"]}
            return st.fixed_dictionaries(parts)
        if form.get("logicalType") == "timestamp-millis":
            return st.integers(0, TIME_MS_MAX)
        form = form["type"]
    bits = {"int": 31, "long": 63}.get(form)
    if bits:
        return st.integers(-(2**bits), 2**bits - 1)
    return st.booleans() if form == "boolean" else TEXT


def iso(ms):
    """Milliseconds as ISO 8601."""
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")


@given(values(FORM, {}), st.booleans())
def test_what_is_right_comes_through_exactly(value, as_text):
    said = {**value, "ends_at": iso(value["ends_at"]) if as_text else value["ends_at"]}
    made = CONVERT(parse_json(json.dumps(said).encode()))
    assert made == value
    out, parsed = BytesIO(), parse_schema(plain_form(FORM), named_schemas={})
    schemaless_writer(out, parsed, made)
    out.seek(0)
    assert schemaless_reader(out, parsed, None) == value


@given(JSON)
@settings(max_examples=300)
def test_nothing_but_a_fault_that_names_the_field(value):
    for name in RIGHT:
        body = json.dumps({**RIGHT, name: value}).encode()
        try:
            CONVERT(parse_json(body))
        except FieldFault as fault:
            assert fault.what and "\n" not in str(fault) and str(fault).isascii()
            assert fault.path.startswith(name) or not fault.path
            str(fault).encode()


@given(st.binary(max_size=200))
@settings(max_examples=500)
def test_no_bytes_raise_anything_but_a_fault(body):
    for value in [*parse_lines(body), *_read(body)]:
        if not isinstance(value, FieldFault):
            with pytest.raises(FieldFault):
                CONVERT(value)


def _read(body):
    try:
        return [parse_json(body)]
    except FieldFault as fault:
        return [fault]


@pytest.mark.parametrize(
    ("body", "what"),
    {
        b"": "not JSON at line 1",
        b"\xff": "byte 0 is not UTF-8",
        b"\xef\xbb\xbf{}": "not JSON",
        b'{"a": 1, "a": 2}': "stands twice",
        b"[NaN]": "NaN is no JSON number",
        b"[-Infinity]": "-Infinity is no JSON number",
        b"[" * 1_000_000: "nested too deep",
        b'{"a":' * 1_000_000: "nested too deep",
        b"1" * (AMOUNT_DIGITS_MAX + 2): "a number of 102 digits",
        b"1." + b"1" * 300: "a number of 302 characters",
        b"1e99999999999999999999": "out of the range of numbers",
        b"{} {}": "Extra data",
        b'"\x01"': "Invalid control character",
    }.items(),
    ids=lambda one: repr(one)[:24],
)  # fmt: skip
def test_what_is_no_json_is_said_in_one_line(body, what):
    with pytest.raises(FieldFault, match=what) as found:
        parse_json(body)
    assert found.value.reason == "malformed" and len(str(found.value)) < 200


@pytest.mark.parametrize(
    "start", [b"", b'["\\ud800", "]]\\"]", ', b"[NaN, ", b"{"], ids=["deep", "surrogate", "nan", "broken"]
)
def test_depth_is_bounded_whatever_a_library_makes_of_python_s_limit(start):
    """py_ecc, which comes with web3, raises the limit of recursion to 100,000: json would overflow the stack."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        with pytest.raises(FieldFault):
            parse_json(start + b"[" * 1_000_000)
        assert parse_json(start + b"[" * 500 + b"]" * 500) if not start else True
    finally:
        sys.setrecursionlimit(before)
    assert parse_json(b"[" + b"[]," * 2000 + b"[]]") == [[]] * 2001  # wide is not deep


def test_lines():
    first, fault, last = parse_lines(b'{"a": 1}\n\n{"a"\n  \r\n2.50\n')
    assert first == {"a": 1} and last == Decimal("2.50")
    assert fault.path == "line 3" and fault.reason == "malformed"


WRONG = {
    "no object": ([], "", "invalid"),
    "unknown": ({**RIGHT, "more": 1}, "more", "unknown_field"),
    "missing": ({"title": "x"}, "count", "missing"),
    "null": ({**RIGHT, "title": None}, "title", "invalid"),
    "a number for text": ({**RIGHT, "title": 5}, "title", "invalid"),
    "a fraction for a long": ({**RIGHT, "count": Decimal("1.0")}, "count", "invalid"),
    "true for a long": ({**RIGHT, "count": True}, "count", "invalid"),
    "too large": ({**RIGHT, "count": 2**63}, "count", "invalid"),
    "one for true": ({**RIGHT, "open": 1}, "open", "invalid"),
    "no symbol": ({**RIGHT, "kind": "C"}, "kind", "invalid"),
    "no time": ({**RIGHT, "ends_at": "2024-02-30T00:00:00Z"}, "ends_at", "invalid"),
    "time without zone": ({**RIGHT, "ends_at": "2024-02-03T00:00:00"}, "ends_at", "invalid"),
    "microseconds": ({**RIGHT, "ends_at": "2024-02-03T00:00:00.000001Z"}, "ends_at", "invalid"),
    "beyond time": ({**RIGHT, "ends_at": TIME_MS_MAX + 1}, "ends_at", "invalid"),
    "in an array": ({**RIGHT, "legs": [{"amount": "1"}, {"amount": True}]}, "legs[1].amount", "invalid"),
    "unknown in an array": ({**RIGHT, "legs": [{"amount": "1", "x": 1}]}, "legs[0].x", "unknown_field"),
    "by reference": ({**RIGHT, "last": {"amount": []}}, "last.amount", "invalid"),
    "half a pair": ({**RIGHT, "title": "\ud800"}, "title", "invalid"),
    "NUL": ({**RIGHT, "title": "a\0"}, "title", "invalid"),
    "long text": ({**RIGHT, "title": "é" * (STRING_BYTES_MAX // 2 + 1)}, "title", "too_long"),
    "long id": ({**RIGHT, "last": {"amount": "1", "to_id": "x" * (ID_CHARS_MAX + 1)}}, "last.to_id", "too_long"),
    "huge exponent": ({**RIGHT, "last": {"amount": Decimal("1e400")}}, "last.amount", "invalid"),
}  # fmt: skip


@pytest.mark.parametrize(("value", "path", "reason"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named(value, path, reason):
    with pytest.raises(FieldFault) as found:
        CONVERT(value)
    assert (found.value.path, found.value.reason) == (path, reason)


@pytest.mark.parametrize(
    ("said", "amount"),
    [("100000.00", "100000.00"), ("1e3", "1000"), ("0.10", "0.10"), ("-5", "-5"), (f"{2**256}", f"{2**256}"),
     ('"1,5"', "1,5"), ("9007199254740993.01", "9007199254740993.01"), ("1E-7", "0.0000001")],
)  # fmt: skip
def test_amounts_are_exact(said, amount):
    body = json.dumps({**RIGHT, "last": {"amount": "?"}}).replace('"?"', said).encode()
    assert CONVERT(parse_json(body))["last"]["amount"] == amount


def test_names_of_amounts():
    assert all(
        map(
            is_amount,
            ["amount", "unit_price", "credit_limit", "amount_released", "units", "gas_paid_by_user"],
        )
    )
    assert not any(map(is_amount, ["title", "amounts_note", "currency", "price_id", "asset_id"]))


def test_defaults_are_filled_and_are_not_shared():
    first, second = CONVERT(dict(RIGHT)), CONVERT(dict(RIGHT))
    assert first["small"] == 7 and first["last"] is None and first["legs"] == []
    assert first["legs"] is not second["legs"]


@given(st.integers(0, TIME_MS_MAX), st.integers(-12 * 60, 14 * 60))
def test_a_time_is_the_same_in_every_zone(ms, minutes):
    there = timedelta(minutes=minutes)
    local = datetime(1970, 1, 1) + timedelta(milliseconds=ms) + there
    sign = "-" if minutes < 0 else "+"
    zone = f"{sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    if 1 <= local.year <= 9999:
        assert time_ms(local.isoformat(timespec="milliseconds") + zone) == ms


@pytest.mark.parametrize(
    "form", ["bytes", "double", {"type": "map", "values": "string"}, ["string", "null", "long"]]
)
def test_what_json_can_not_say_is_refused_when_it_is_compiled(form):
    with pytest.raises(SchemaFault):
        converter({"type": "record", "name": "t.X", "fields": [{"name": "x", "type": form}]})


@pytest.mark.parametrize("row", APPLICATIONS, ids=lambda row: row.domain)
@settings(max_examples=10)
@given(data=st.data())
def test_every_payload_is_written_as_the_codec_writes_it(row, data):
    """Of each event type: JSON → record → the parts' bytes are the whole's, and read back as they were said."""
    wire, form = codec(), by_topic()[row.topic].resolution
    names = [field["name"] for field in form["fields"]]
    converters = payloads(form, {one.payload for one in row.types.values()})
    if not converters:
        return
    leading = min(map(names.index, converters))
    encoder = PayloadEncoder(wire, row.topic, leading)
    envelope = {
        field["name"]: data.draw(values(field["type"], {}, field["name"]))
        for field in form["fields"][:leading]
    }
    types, known = {field["name"]: field["type"] for field in form["fields"]}, {}
    for name in names[leading:]:  # in order: a record that several hold is defined in the first of them
        drawn = data.draw(values(types[name][1], known, name))
        if name in converters:
            said = converters[name](parse_json(json.dumps(drawn).encode()))
            assert said == drawn
            record = {**dict.fromkeys(names), **envelope, name: said}
            message = encoder.encode({**envelope, name: said}, name)
            assert message == wire.encode(row.topic, record, strict=True)
            assert wire.decode(message, row.topic)[1] == record
