"""The Confluent wire format: magic byte 0, schema id as 4 bytes big-endian, Avro binary body.

A message is written with the schema this package has, and read with the schema it was written with, resolved
to ours where the two differ. Where they are the same, which is the rule, reading resolves nothing. Every
fault of a message is a WireError with a `reason`; every fault of a record is an EncodeError that names the
field.

Timestamps are integers in the unit of their schema (milliseconds since 1970 as a rule), decimals are Decimal.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from typing import Any, NamedTuple

from fastavro import parse_schema, schemaless_reader, schemaless_writer

from schemas.exact import Guard, fault, guard
from schemas.forms import SchemaFault, plain_form, resolution_form
from schemas.loader import Schema, schemas
from schemas.registry import Registry, UnknownSchema, WireError, local_registry

HEADER_BYTES = 5

_HEADER = struct.Struct(">bI")

Record = Mapping[str, Any]
Message = bytes | bytearray | memoryview


class BadMagic(WireError):
    """The first byte is not 0."""

    reason = "bad_magic"


class Truncated(WireError):
    """The message ends before its record does."""

    reason = "truncated"


class Undecodable(WireError):
    """The body is not a record of its schema, or cannot be resolved to ours, or goes on after it."""

    reason = "undecodable"


class EncodeError(ValueError):
    """A record that is not exactly what its schema says; the text starts with the topic and the field."""


class _Writer(NamedTuple):
    header: bytes
    parsed: Any
    guard: Guard


class _Reader(NamedTuple):
    name: str
    written: Any  # writer's schema, parsed
    wanted: Any | None  # ours, parsed; None where it is the same
    form: Any  # writer's plain form


class Codec:
    """Encoder and decoder over one registry. Everything per schema is made at its first use and kept.

    `known` are the schemas to write with and to resolve to, the package's own by default; a message of
    another schema is read as it was written.
    """

    def __init__(self, registry: Registry, known: Iterable[Schema] | None = None) -> None:
        self._registry = registry
        self._by_subject = {schema.subject: schema for schema in (schemas() if known is None else known)}
        self._by_topic = {schema.topic_name: schema for schema in self._by_subject.values()}
        self._by_name = {name: schema for schema in self._by_subject.values() for name in _names(schema)}
        self._writers: dict[str, _Writer] = {}
        self._readers: dict[int, _Reader] = {}
        self._prefixes: dict[tuple[int, tuple[str, ...]], _Reader] = {}

    def schema(self, subject_or_topic: str) -> Schema:
        """Our schema of a subject or topic. Raises KeyError naming it."""
        found = self._by_topic.get(subject_or_topic) or self._by_subject.get(subject_or_topic)
        if found is None:
            raise KeyError(f"no schema for {subject_or_topic}")
        return found

    def schema_id(self, subject_or_topic: str) -> int:
        """Id that `encode` writes. Raises KeyError, NotRegistered."""
        return int.from_bytes(self._writer(subject_or_topic).header[1:], "big")

    def encode(self, subject_or_topic: str, record: Record, *, strict: bool = False) -> bytes:
        """The message of `record`. Raises EncodeError naming the first wrong field, KeyError, NotRegistered.

        `strict` checks every value before writing; without it only those that fastavro would write wrong.
        """
        writer = self._writers.get(subject_or_topic) or self._writer(subject_or_topic)
        out = BytesIO()
        out.write(writer.header)
        try:
            if strict or writer.guard(record):
                self._refuse(subject_or_topic, record)
            schemaless_writer(out, writer.parsed, record)
        except EncodeError:
            raise
        except Exception as cause:
            self._refuse(subject_or_topic, record)
            raise EncodeError(f"{subject_or_topic}: {cause}") from cause
        return out.getvalue()

    def decode(self, message: Message, topic: str | None = None) -> tuple[int, dict[str, Any]]:
        """(id of the writer's schema, record). Raises a WireError; with `topic` also if it is another's
        record."""
        schema_id = id_of(message)
        reader = self._readers.get(schema_id) or self._reader(schema_id)
        if topic is not None and reader.name != self.schema(topic).name:
            raise Undecodable(f"{topic}: holds a {reader.name} (schema id {schema_id})")
        stream = BytesIO(message)
        stream.seek(HEADER_BYTES)
        record = _read(stream, reader)
        surplus = len(message) - stream.tell()
        if surplus:
            raise Undecodable(f"{reader.name}: {surplus} bytes after the record")
        return schema_id, record

    def decode_prefix(self, message: Message, fields: Sequence[str]) -> dict[str, Any]:
        """Only `fields` (names of top-level fields), reading no further than the last of them.

        Legal because a record's fields follow each other without framing. What comes behind is not checked.
        Raises a WireError, KeyError for a field that neither the writer nor a default of ours has.
        """
        schema_id = id_of(message)
        key = (schema_id, tuple(fields))
        reader = self._prefixes.get(key) or self._prefix(*key)
        stream = BytesIO(message)
        stream.seek(HEADER_BYTES)
        record = _read(stream, reader)
        return {name: record[name] for name in fields}

    def record_name(self, schema_id: int) -> str:
        """Full name of the record that an id stands for. Raises UnknownSchema, Undecodable."""
        return (self._readers.get(schema_id) or self._reader(schema_id)).name

    def _refuse(self, subject_or_topic: str, record: Record) -> None:
        found = fault(plain_form(self.schema(subject_or_topic).resolution), record)
        if found is not None:
            raise EncodeError(f"{subject_or_topic}: {found}")

    def _writer(self, subject_or_topic: str) -> _Writer:
        schema = self.schema(subject_or_topic)
        schema_id = self._registry.id_of(schema.subject, schema.resolution)
        form = plain_form(schema.resolution)
        made = _Writer(_HEADER.pack(0, schema_id), schema.parsed, guard(form))
        self._writers[subject_or_topic] = made
        return made

    def _reader(self, schema_id: int) -> _Reader:
        form = self._form(schema_id)
        known = self._by_name.get(form["name"])
        wanted = None if known is None or known.resolution == form else known.parsed
        made = _reader_of(form["name"], form, wanted)
        self._readers[schema_id] = made
        return made

    def _prefix(self, schema_id: int, fields: tuple[str, ...]) -> _Reader:
        form = self._form(schema_id)
        known = self._by_name.get(form["name"])
        if known is None or known.resolution == form:
            made = _reader_of(form["name"], _leading(form, fields), None)
        else:
            made = _reader_of(form["name"], *_leading_resolved(form, known.resolution, fields))
        self._prefixes[schema_id, fields] = made
        return made

    def _form(self, schema_id: int) -> dict[str, Any]:
        schema = self._registry.by_id(schema_id)
        try:
            form = resolution_form(schema)
        except (SchemaFault, KeyError, TypeError) as cause:
            raise Undecodable(f"schema id {schema_id}: {cause}") from cause
        if not isinstance(form, dict) or form["type"] != "record":
            raise Undecodable(f"schema id {schema_id}: not a record")
        return form


def id_of(message: Message) -> int:
    """Schema id of a message. Raises Truncated, BadMagic."""
    if len(message) >= HEADER_BYTES and message[0] == 0:
        return int.from_bytes(message[1:HEADER_BYTES], "big")
    if len(message) and message[0] != 0:
        raise BadMagic(f"the first byte is {message[0]:#04x}, not 0x00")
    raise Truncated(f"{len(message)} bytes, shorter than the {HEADER_BYTES} bytes of magic and schema id")


def body(message: Message) -> memoryview:
    """The Avro body without magic and id, no copy. Raises Truncated, BadMagic."""
    id_of(message)
    return memoryview(message)[HEADER_BYTES:]


def local_codec() -> Codec:
    """A codec over the package's own schemas and registry file."""
    return Codec(local_registry())


def _names(schema: Schema) -> list[str]:
    """Names a writer may have known our record by: its own and its former ones."""
    return [schema.name, *schema.resolution.get("aliases", ())]


def _reader_of(name: str, form: Any, wanted: Any | None) -> _Reader:
    plain = plain_form(form)
    return _Reader(name, parse_schema(plain, named_schemas={}), wanted, plain)


def _read(stream: BytesIO, reader: _Reader) -> dict[str, Any]:
    try:
        record = schemaless_reader(stream, reader.written, reader.wanted)
    except Exception as cause:
        if _is_cut(cause):
            raise Truncated(f"{reader.name}: the message ends within the record") from cause
        raise Undecodable(f"{reader.name}: {type(cause).__name__}: {cause}") from cause
    if not isinstance(record, dict):
        raise Undecodable(f"{reader.name}: not a record")
    return record


def _is_cut(cause: Exception) -> bool:
    """Whether fastavro ran out of bytes. Where a number is cut off it indexes an empty read; a negative
    length ("Expected -3 bytes") is no cut."""
    if isinstance(cause, EOFError):
        return "Expected -" not in str(cause)
    return isinstance(cause, IndexError) and "string index" in str(cause)


def _leading(form: dict[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """The record of `form` up to the last of `fields`. Raises KeyError for a field it lacks."""
    places = {field["name"]: place for place, field in enumerate(form["fields"])}
    for name in fields:
        if name not in places:
            raise KeyError(f"{form['name']} has no field {name}")
    last = max((places[name] for name in fields), default=-1)
    return {**form, "fields": form["fields"][: last + 1]}


def _leading_resolved(
    written: dict[str, Any], wanted: dict[str, Any], fields: Sequence[str]
) -> tuple[dict[str, Any], Any]:
    """(writer's leading record, our record of just `fields`, parsed) for a message of another version."""
    ours = _leading(wanted, fields)
    there = {field["name"] for field in written["fields"]}
    sources = [
        name
        for field in ours["fields"]
        for name in (field["name"], *field.get("aliases", ()))
        if name in there
    ]
    return _leading(written, sources), parse_schema(plain_form(ours), named_schemas={})


__all__ = [
    "BadMagic",
    "Codec",
    "EncodeError",
    "Truncated",
    "Undecodable",
    "UnknownSchema",
    "WireError",
    "body",
    "id_of",
    "local_codec",
]
