"""The wire codec: vectors, every way a message or a record can be wrong, schema evolution, prefixes."""

import json
import random
import struct
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from avro_samples import block, random_value

from schemas.codec import (
    BadMagic,
    Codec,
    EncodeError,
    Truncated,
    Undecodable,
    UnknownSchema,
    WireError,
    body,
    id_of,
    local_codec,
)
from schemas.forms import plain_form
from schemas.loader import Schema, make_schema, schemas
from schemas.registry import Entry, LocalRegistry, NotRegistered, entry_of, local_registry

VECTORS = json.loads((Path(__file__).parents[1] / "data" / "avro" / "wire_vectors.json").read_text())
IDS = {vector["schema"]: vector["schema_id"] for vector in VECTORS["vectors"]}
LEDGERS = "xrpl.ledgers.v1"


def schema_of(topic: str, raw: dict[str, Any]) -> Schema:
    attribute = {"name": topic, "key": "k", "partitions": 1, "retention_ms": -1, "cleanup_policy": "delete"}
    return make_schema({**raw, "topic": attribute})


@pytest.fixture(scope="module")
def vector_codec() -> Codec:
    known = [schema_of(f"vector.{name}.v1", raw) for name, raw in VECTORS["schemas"].items()]
    ids = [IDS[schema.topic_name.split(".")[1]] for schema in known]
    entries = [Entry(i, schema.subject, 1, schema.resolution) for i, schema in zip(ids, known, strict=True)]
    return Codec(LocalRegistry(entries), known)


def from_json(value: dict[str, Any]) -> dict[str, Any]:
    """A vector's value as a record: {hex} is bytes, `amt` is a decimal."""
    made = {k: bytes.fromhex(v["hex"]) if isinstance(v, dict) and "hex" in v else v for k, v in value.items()}
    return {**made, "amt": Decimal(made["amt"])} if "amt" in made else made


@pytest.mark.parametrize("number", range(len(VECTORS["vectors"])))
def test_vectors(vector_codec: Codec, number: int) -> None:
    vector = VECTORS["vectors"][number]
    message = bytes.fromhex(vector["message_hex"])
    record = from_json(vector["value"])
    topic = f"vector.{vector['schema']}.v1"
    assert vector_codec.decode(message, topic) == (vector["schema_id"], record)
    assert vector_codec.encode(topic, record, strict=True) == message
    assert body(message).hex() == vector["avro_hex"]


@pytest.mark.parametrize("case", VECTORS["must_fail"], ids=lambda case: case["error"])
def test_vectors_that_must_fail(vector_codec: Codec, case: dict[str, str]) -> None:
    with pytest.raises(WireError):
        vector_codec.decode(bytes.fromhex(case["message_hex"]))


@pytest.mark.parametrize("number", range(len(VECTORS["vectors"])))
def test_a_message_cut_anywhere_is_truncated(vector_codec: Codec, number: int) -> None:
    message = bytes.fromhex(VECTORS["vectors"][number]["message_hex"])
    for length in range(len(message)):
        with pytest.raises(Truncated):
            vector_codec.decode(message[:length])


@pytest.mark.parametrize(
    ("message", "kind", "reason", "text"),
    [
        (b"\x01\x00\x00\x00\x65\x00", BadMagic, "bad_magic", "the first byte is 0x01"),
        (b"\x01", BadMagic, "bad_magic", "the first byte is 0x01"),
        (b"", Truncated, "truncated", "0 bytes, shorter than"),
        (b"\x00\x00\x00\x00\x09\x00", UnknownSchema, "unknown_schema", "no schema has the id 9"),
        (
            b"\x00\x00\x00\x00\x66" + bytes(17),
            Undecodable,
            "undecodable",
            "Numbers: 1 bytes after the record",
        ),
        (b"\x00\x00\x00\x00\x67\x08" + bytes(5), Undecodable, "undecodable", "Batch: "),  # no such symbol
        (
            b"\x00\x00\x00\x00\x67\x00\x00\x00\x06\x00\x00",
            Undecodable,
            "undecodable",
            "Batch: ",
        ),  # nor branch
        (b"\x00\x00\x00\x00\x65\x01", Undecodable, "undecodable", "ledger.v1.Posting: "),  # negative length
        (b"\x00\x00\x00\x00\x65\x02\xff", Undecodable, "undecodable", "ledger.v1.Posting: UnicodeDecode"),
    ],
)
def test_faults_of_a_message(vector_codec: Codec, message: bytes, kind: Any, reason: str, text: str) -> None:
    with pytest.raises(kind) as refused:
        vector_codec.decode(message)
    assert refused.value.reason == reason
    assert str(refused.value).startswith(text)
    assert "\n" not in str(refused.value)


def test_every_schema_round_trips_random_records() -> None:
    rng = random.Random(3)
    codec = local_codec()
    for schema in schemas():
        for _ in range(40):
            record = random_value(plain_form(schema.resolution), rng)
            message = codec.encode(schema.topic_name, record)
            assert message == codec.encode(schema.subject, record, strict=True)
            assert codec.decode(message, schema.topic_name) == (codec.schema_id(schema.topic_name), record)


def test_message_types_and_helpers() -> None:
    codec = local_codec()
    record = block(2)
    message = codec.encode(LEDGERS, record)
    assert message[:1] == b"\x00" and id_of(message) == codec.schema_id(LEDGERS)
    assert body(message).obj is message  # no copy
    for form in (bytearray(message), memoryview(message)):
        assert codec.decode(form)[1] == record
    assert codec.record_name(id_of(message)) == "tidebook.xrpl.XrplLedger"
    with pytest.raises(Undecodable, match=r"^gas\.charges\.v1: holds a tidebook\.xrpl\.XrplLedger"):
        codec.decode(message, "gas.charges.v1")
    with pytest.raises(KeyError, match=r"no schema for nope\.v1"):
        codec.encode("nope.v1", {})


def spoilt(path: str, value: Any) -> dict[str, Any]:
    """A block whose field at `path` (numbers index arrays) is `value`; ... takes the key away."""
    record: Any = block(2)
    *way, last = path.split(".")
    at = record
    for step in way:
        at = at[int(step)] if step.isdecimal() else at[step]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return record  # type: ignore[no-any-return]


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("chunk", 2**31, "chunk: 2147483648 is not within int"),
        ("chunk", -(2**31) - 1, "chunk: -2147483649 is not within int"),
        ("ledger_index", 2**63, "ledger_index: 9223372036854775808 is not within long"),
        ("total_coins", 2**63, "total_coins: 9223372036854775808 is not within long"),
        ("close_time_resolution", 2**31, "close_time_resolution: 2147483648 is not within int"),
        ("fees", 12.5, "fees: 12.5 is not a long"),
        ("fees", 12.0, "fees: 12.0 is not a long"),
        ("fees", True, "fees: True is not a long"),
        ("fees", Decimal(12), "fees: Decimal('12') is not a long"),
        ("total_coins", 1.5, "total_coins: 1.5 is not a long"),
        ("chain", None, "chain: None is not a string"),
        ("chain", b"x", "chain: b'x' is not a string"),
        ("chain", "\ud800", "chain: '\\ud800' is not text that UTF-8 can hold"),
        ("chain", ..., "chain: missing, and the schema gives no default"),
        ("surplus", 1, "surplus: tidebook.xrpl.XrplLedger has no such field"),
        ("transactions", None, "transactions: None is not an array"),
        ("transactions.1.fee", 2**63, "transactions[1].fee: 9223372036854775808 is not within long"),
        ("transactions.1.raw", "x", "transactions[1].raw: 'x' is not bytes"),
        ("transactions.1.extra", 0, "transactions[1].extra: tidebook.xrpl.XrplTransaction has no such field"),
        (
            "transactions.0.balance_changes.1.change",
            5,
            "transactions[0].balance_changes[1].change: 5 is not a",
        ),
        (
            "transactions.0.balance_changes.1.change",
            ...,
            "transactions[0].balance_changes[1].change: missing",
        ),
        (
            "transactions.0.balance_changes.0.x",
            1,
            "transactions[0].balance_changes[0].x: tidebook.xrpl.Balance",
        ),
        ("transactions.0.destination", 5, "transactions[0].destination: 5 is not a string"),
    ],
)
def test_a_wrong_record_is_refused_by_field(path: str, value: Any, text: str, strict: bool) -> None:
    with pytest.raises(EncodeError) as refused:
        local_codec().encode(LEDGERS, spoilt(path, value), strict=strict)
    assert str(refused.value).startswith(f"{LEDGERS}: {text}")


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, "C", "f: 'C' is not a symbol of E: A, B"),
        ({"type": "fixed", "name": "F", "size": 2}, b"abc", "f: b'abc' is not 2 bytes but 3"),
        ("boolean", None, "f: None is not a boolean"),
        ("boolean", 1, "f: 1 is not a boolean"),
        ("float", 1e300, "f: 1e+300 is not within float"),
        ("double", "1", "f: '1' is not a double"),
        ({"type": "map", "values": "int"}, {"k": 2**31}, "f['k']: 2147483648 is not within int"),
        ({"type": "array", "items": ["null", "int"]}, [None, 0.5], "f[1]: 0.5 is not an int"),
        (["null", "int", "string"], b"", "f: b'' is not one of null, int, string"),
        (
            ["null", {"type": "record", "name": "In", "fields": [{"name": "x", "type": "int"}]}],
            {"x": 1, "y": 2},
            "f.y: In has no such field",
        ),
        (
            {"type": "bytes", "logicalType": "decimal", "precision": 3, "scale": 1},
            Decimal("0.25"),
            "f: Decimal('0.25') is not a decimal of scale 1",
        ),
        (
            {"type": "bytes", "logicalType": "decimal", "precision": 3, "scale": 1},
            Decimal("100.0"),
            "f: Decimal('100.0') is not a decimal of precision 3",
        ),
        (
            {"type": "bytes", "logicalType": "decimal", "precision": 3, "scale": 1},
            1.5,
            "f: 1.5 is not a finite",
        ),
    ],
)
def test_a_wrong_value_of_each_type_is_refused(kind: Any, value: Any, text: str, strict: bool) -> None:
    schema = schema_of("t.t.v1", {"type": "record", "name": "R", "fields": [{"name": "f", "type": kind}]})
    codec = Codec(LocalRegistry([Entry(1, schema.subject, 1, schema.resolution)]), [schema])
    with pytest.raises(EncodeError) as refused:
        codec.encode("t.t.v1", {"f": value}, strict=strict)
    assert str(refused.value).startswith(f"t.t.v1: {text}")


def test_a_field_with_a_default_may_be_left_out() -> None:
    codec = local_codec()
    record = {**block(1), "close_flags": None}
    short = {name: value for name, value in record.items() if name != "close_flags"}
    assert codec.encode(LEDGERS, short) == codec.encode(LEDGERS, record)


OLD = {
    "type": "record",
    "name": "Event",
    "namespace": "t",
    "fields": [
        {"name": "id", "type": "int"},
        {"name": "was", "type": "string"},
        {"name": "gone", "type": {"type": "array", "items": "long"}},
        {"name": "tail", "type": "string"},
    ],
}
NEW = {
    "type": "record",
    "name": "Happening",
    "aliases": ["Event"],
    "namespace": "t",
    "fields": [
        {"name": "fresh", "type": ["null", "string"], "default": None},
        {"name": "id", "type": "long"},
        {"name": "now", "aliases": ["was"], "type": "string"},
        {"name": "tail", "type": "string"},
    ],
}


@pytest.fixture
def evolved() -> tuple[Codec, bytes]:
    """A codec that knows NEW, and a message written with OLD (id 1) before."""
    old, new = schema_of("t.e.v1", OLD), schema_of("t.e.v1", NEW)
    first = LocalRegistry([Entry(1, old.subject, 1, old.resolution)])
    both = LocalRegistry([*first.entries, Entry(2, new.subject, 2, new.resolution)])
    message = Codec(first, [old]).encode("t.e.v1", {"id": 7, "was": "w", "gone": [1, 2], "tail": "t"})
    return Codec(both, [new]), message


def test_an_old_message_is_read_into_the_new_schema(evolved: tuple[Codec, bytes]) -> None:
    codec, message = evolved
    expected = {"fresh": None, "id": 7, "now": "w", "tail": "t"}
    assert codec.decode(message) == (1, expected)
    again = codec.encode("t.e.v1", expected)
    assert codec.decode(again) == (2, expected)
    assert again[:5] == struct.pack(">bI", 0, 2)


def test_a_prefix_of_an_old_message_is_resolved_too(evolved: tuple[Codec, bytes]) -> None:
    codec, message = evolved
    assert codec.decode_prefix(message[:8], ["now", "fresh"]) == {"now": "w", "fresh": None}
    assert codec.decode_prefix(message, ["tail"]) == {"tail": "t"}
    with pytest.raises(KeyError, match="no field was"):
        codec.decode_prefix(message, ["was"])


def test_a_message_that_cannot_be_resolved_is_undecodable(evolved: tuple[Codec, bytes]) -> None:
    _, message = evolved
    other = {**NEW, "fields": [{"name": "id", "type": "string"}]}
    schema = schema_of("t.e.v1", other)
    old = entry_of(1, "t.e.v1-value", 1, OLD)
    codec = Codec(LocalRegistry([old]), [schema])
    with pytest.raises(Undecodable):
        codec.decode(message)
    with pytest.raises(NotRegistered, match=r"t\.e\.v1-value"):
        codec.encode("t.e.v1", {"id": "x"})


def test_a_message_of_a_schema_not_ours_is_read_as_it_was_written() -> None:
    foreign = {"type": "record", "name": "F", "fields": [{"name": "x", "type": "long"}]}
    codec = Codec(LocalRegistry([entry_of(5, "other-value", 1, foreign)]), [])
    assert codec.decode(b"\x00\x00\x00\x00\x05\x02") == (5, {"x": 1})
    assert codec.decode_prefix(b"\x00\x00\x00\x00\x05\x02", ["x"]) == {"x": 1}


def test_a_prefix_needs_no_more_than_its_bytes() -> None:
    codec = local_codec()
    record = block(60)
    message = codec.encode(LEDGERS, record)
    fields = ["chain", "chain_number", "ledger_index", "chunk"]
    expected = {name: record[name] for name in fields}
    assert codec.decode_prefix(message, fields) == expected
    needed = next(n for n in range(len(message)) if not _is_truncated(codec, message[:n], fields))
    assert needed < 40
    assert codec.decode_prefix(message[:needed], list(reversed(fields))) == expected


def _is_truncated(codec: Codec, message: bytes, fields: list[str]) -> bool:
    try:
        codec.decode_prefix(message, fields)
    except Truncated:
        return True
    return False


@pytest.mark.parametrize("schema", ["no json", {"type": "array", "items": "int"}, {"type": "record"}])
def test_a_registry_that_answers_nonsense(schema: Any) -> None:
    codec = Codec(LocalRegistry([Entry(1, "s", 1, schema)]), [])
    with pytest.raises(Undecodable, match="schema id 1"):
        codec.decode(b"\x00\x00\x00\x00\x01\x00")


def test_an_id_stands_for_one_schema() -> None:
    with pytest.raises(ValueError, match="id 1 stands for two schemas"):
        LocalRegistry([Entry(1, "s", 1, "int"), Entry(1, "s", 2, "long")])
    assert local_registry().by_id(1)["name"]
