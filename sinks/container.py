"""Message bodies → Avro object containers, byte by byte: no body is decoded.

A record of the container is `{_epoch, _partition, _offset, _timestamp, value: <writer schema>}`. Avro
binary has no framing inside a record, so the record's bytes are a few varints followed by the message body
as it stands. Every record is a block of its own: the reader then never runs from a broken body into the
next message. Source: Apache Avro 1.12 specification, "Object Container Files" and "Binary encoding".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, Final, NamedTuple

MAGIC: Final = b"Obj\x01"
_WRAPPER_NAME: Final = "tidebook.sink.Message"
_KEPT: Final = (
    "type",
    "name",
    "fields",
    "items",
    "values",
    "symbols",
    "size",
    "logicalType",
    "precision",
    "scale",
    "namespace",
)


class Body(NamedTuple):
    """One message for a container; `body` is its Avro binary without the wire format's header."""

    partition: int
    offset: int
    timestamp_ms: int
    body: bytes | memoryview


def wrapper_schema(writer: Mapping[str, Any]) -> dict[str, Any]:
    """Avro schema of a container's records, with nothing of the writer's that is not bytes or types."""
    header = {"_epoch": "string", "_partition": "int", "_offset": "long", "_timestamp": "long"}
    fields = [{"name": name, "type": kind} for name, kind in header.items()]
    return {
        "type": "record",
        "name": _WRAPPER_NAME,
        "fields": [*fields, {"name": "value", "type": _bare(writer)}],
    }


class ContainerWriter:
    """Writes containers of one writer schema; the header is made once."""

    def __init__(self, writer: Mapping[str, Any]) -> None:
        schema = json.dumps(wrapper_schema(writer), separators=(",", ":")).encode()
        self._sync = blake2b(schema, digest_size=16).digest()
        entries = _bytes(b"avro.codec") + _bytes(b"null") + _bytes(b"avro.schema") + _bytes(schema)
        self._header = MAGIC + zigzag(2) + entries + zigzag(0) + self._sync

    def container(self, epoch: str, bodies: Iterable[Body]) -> bytes:
        """The container of `bodies` in their order, uncompressed."""
        parts: list[bytes | memoryview] = [self._header]
        start, one, sync = _bytes(epoch.encode()), zigzag(1), self._sync
        for partition, offset, timestamp_ms, body in bodies:
            head = start + zigzag(partition) + zigzag(offset) + zigzag(timestamp_ms)
            parts += (one + zigzag(len(head) + len(body)) + head, body, sync)
        return b"".join(parts)


def zigzag(number: int) -> bytes:
    """An Avro int or long: zig-zag, then 7 bits a byte, low bits first. Takes 64-bit signed numbers."""
    rest = (number << 1) ^ (number >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def _bytes(value: bytes) -> bytes:
    return zigzag(len(value)) + value


def _bare(schema: Any) -> Any:
    """`schema` with what decides about bytes and ClickHouse's types, nothing else."""
    if isinstance(schema, list):
        return [_bare(branch) for branch in schema]
    if not isinstance(schema, Mapping):
        return schema
    bare = {key: schema[key] for key in _KEPT if key in schema}
    for key in ("type", "items", "values"):
        if key in bare:
            bare[key] = _bare(bare[key])
    if "fields" in bare:
        bare["fields"] = [{"name": field["name"], "type": _bare(field["type"])} for field in bare["fields"]]
    return bare
