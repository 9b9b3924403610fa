"""Records that end with one nullable field per event type, of which one is given: written in parts, as whole ones are.

An Avro record is its fields one after the other, a null of a union that begins with null is one zero byte. So the
leading fields, zeros, and the one payload in its place make the same bytes as `Codec.encode`, without the writer having
to look at every other type's null. Values must be exact already (schemas.json_form): nothing is checked here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import lru_cache
from io import BytesIO
from operator import itemgetter
from typing import Any, NamedTuple

from fastavro import parse_schema, schemaless_writer

from schemas.codec import Codec
from schemas.exact import names_of
from schemas.forms import NAMED, PRIMITIVES, SchemaFault, plain_form

_HEADER = struct.Struct(">bI")
_GIVEN = b"\x02"  # branch 1 of ["null", X]


class _Part(NamedTuple):
    parsed: Any
    before: bytes
    after: bytes


class PayloadEncoder:
    """Writes one topic's records."""

    def __init__(self, codec: Codec, topic: str, leading: int) -> None:
        """The first `leading` fields are the envelope. Raises SchemaFault where another is no ["null", record]."""
        form = plain_form(codec.schema(topic).resolution)
        names, fields = names_of(form), form["fields"]
        self._codec, self._topic = codec, topic
        self._values = itemgetter(*(field["name"] for field in fields[:leading]))
        self._writers = [_writer(field) for field in fields[:leading]]
        self._parts: dict[str, _Part] = {}
        rest = fields[leading:]
        for place, field in enumerate(rest):
            branches = field["type"]
            if not isinstance(branches, list) or len(branches) != 2 or branches[0] != "null":
                raise SchemaFault(f"{topic}: {field['name']} is no optional record")
            before, after = b"\0" * place + _GIVEN, b"\0" * (len(rest) - place - 1)
            self._parts[field["name"]] = _Part(_parsed(branches[1], names), before, after)
        self._header = b""

    def encode(self, record: Mapping[str, Any], payload: str) -> bytes:
        """The message of a record whose other payloads are null. Raises NotRegistered."""
        if not self._header:
            self._header = _HEADER.pack(0, self._codec.schema_id(self._topic))
        part, out = self._parts[payload], BytesIO()
        schemaless_writer(out, part.parsed, record[payload])
        leading = [write(value) for write, value in zip(self._writers, self._values(record), strict=True)]
        return b"".join((self._header, *leading, part.before, out.getvalue(), part.after))


def _long(value: int) -> bytes:
    """Zigzag, seven bits a byte."""
    left, out = value << 1 if value >= 0 else ~(value << 1), bytearray()
    while left > 127:
        out.append(left & 127 | 128)
        left >>= 7
    out.append(left)
    return bytes(out)


_SHORT = tuple(_long(size) for size in range(512))


def _string(value: str) -> bytes:
    data = value.encode()
    size = len(data)
    return (_SHORT[size] if size < 512 else _long(size)) + data


def _maybe_string(value: str | None) -> bytes:
    return b"\0" if value is None else _GIVEN + _string(value)


_REPEATED = frozenset({"type", "app_id", "client", "source"})  # fields that say the same again and again
_WRITERS: Mapping[str, Callable[[Any], bytes]] = {
    "string": _string, "long": _long, "['null', 'string']": _maybe_string,
}  # fmt: skip


def _writer(field: Mapping[str, Any]) -> Callable[[Any], bytes]:
    """An envelope has few kinds of fields: fastavro's writer costs more than all of them."""
    found = _WRITERS.get(str(field["type"]))
    if found is None:
        raise SchemaFault(f"{field['name']}: no {field['type']} in an envelope")
    return lru_cache(1024)(found) if field["name"] in _REPEATED or found is _long else found


def _parsed(form: Any, names: Mapping[str, Any]) -> Any:
    return parse_schema(_self_contained(form, names, set()), named_schemas={})


def _self_contained(form: Any, names: Mapping[str, Any], seen: set[str]) -> Any:
    """`form` with every named type defined where it is first used."""
    if isinstance(form, list):
        return [_self_contained(branch, names, seen) for branch in form]
    if isinstance(form, str):
        return form if form in PRIMITIVES or form in seen else _self_contained(names[form], names, seen)
    if form["type"] in NAMED:
        if form["name"] in seen:
            return form["name"]
        seen.add(form["name"])
    made = dict(form)
    if "items" in form:
        made["items"] = _self_contained(form["items"], names, seen)
    if "fields" in form:
        made["fields"] = [
            {**field, "type": _self_contained(field["type"], names, seen)} for field in form["fields"]
        ]
    return made
