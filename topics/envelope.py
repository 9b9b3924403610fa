"""What goes around a record: key, partition and headers of a message, as pure functions.

Headers are CloudEvents 1.0 in Kafka's binary mode: ce_id, ce_source, ce_type, ce_time, ce_specversion and
content-type. ce_id is a hash of the message itself, so the same event sent again carries the same id.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple

from schemas.codec import Codec
from schemas.loader import ONE_PER_CHAIN, Schema

SPEC_VERSION = "1.0"
CONTENT_TYPE = "application/avro"
DEFAULT_SOURCE = "tidebook"
RESERVED = frozenset({"ce_id", "ce_source", "ce_type", "ce_time", "ce_specversion", "content-type"})

_ID_BYTES = 16
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Headers = list[tuple[str, bytes]]


class Outgoing(NamedTuple):
    """One message to publish; `partition` None = by the key's hash."""

    topic: str
    key: bytes | None
    value: bytes | None  # None: what the key said is taken back, in a compacted topic
    headers: tuple[tuple[str, bytes], ...]
    partition: int | None = None


def headers(
    *, ce_id: str, source: str, type_name: str, time_ms: int, more: Iterable[tuple[str, bytes]] = ()
) -> Headers:
    """Headers of one message; `time_ms` since 1970. Of `more`, names that stand here already are left out."""
    own = [
        ("ce_id", ce_id.encode()),
        *_origin(source, type_name),
        ("ce_time", rfc3339(time_ms).encode()),
        *_FIXED,
    ]
    return own + [(name, value) for name, value in more if name not in RESERVED]


_FIXED = (("ce_specversion", SPEC_VERSION.encode()), ("content-type", CONTENT_TYPE.encode()))


@lru_cache(1024)
def _origin(source: str, type_name: str) -> tuple[tuple[str, bytes], ...]:
    return (("ce_source", source.encode()), ("ce_type", type_name.encode()))


def outgoing(
    codec: Codec,
    topic: str,
    key: str | bytes | None,
    record: Mapping[str, Any],
    *,
    value: bytes | None = None,
    partition: int | None = None,
    headers: Iterable[tuple[str, bytes]] = (),
) -> Outgoing:
    """The message of `record`; `value` is its encoding where the caller has it, `headers` are added to ours.

    Raises EncodeError, KeyError for an unknown topic, ValueError where a topic with one partition per chain
    gets no partition.
    """
    schema = codec.schema(topic)
    if partition is None and schema.topic["partitions"] == ONE_PER_CHAIN:
        raise ValueError(f"{topic}: a message needs the partition of its chain")
    encoded = codec.encode(topic, record) if value is None else value
    made = _headers(
        ce_id=message_id(topic, encoded),
        source=str(record.get("chain") or DEFAULT_SOURCE),
        type_name=schema.name,
        time_ms=event_time_ms(schema, record),
        more=headers,
    )
    return Outgoing(topic, key.encode() if isinstance(key, str) else key, encoded, tuple(made), partition)


_headers = headers  # `outgoing` has an argument of that name


def message_id(topic: str, value: bytes) -> str:
    """ce_id: BLAKE2b-128 of the message under its topic, 32 hex digits."""
    return blake2b(value, digest_size=_ID_BYTES, person=_person(topic)).hexdigest()


@cache
def _person(topic: str) -> bytes:
    return blake2b(topic.encode(), digest_size=16).digest()


def event_time_ms(schema: Schema, record: Mapping[str, Any]) -> int:
    """Time of the event: the record's first timestamp-millis field, 0 if it has none."""
    name = _time_field(schema)
    return int(record[name]) if name else 0


@cache
def _time_field(schema: Schema) -> str:
    """The record's first timestamp-millis field, "" if it has none."""
    for field in schema.resolution["fields"]:
        form = field["type"]
        if isinstance(form, dict) and form.get("logicalType") == "timestamp-millis":
            return str(field["name"])
    return ""


def rfc3339(time_ms: int) -> str:
    """Milliseconds since 1970 as RFC 3339 in UTC; times that the calendar cannot hold stand at its ends."""
    second, ms = divmod(time_ms, 1000)
    minute, second = divmod(second, 60)
    try:
        return f"{_minute(minute)}{second:02}.{ms:03}Z"
    except OverflowError:
        return "9999-12-31T23:59:59.999Z" if time_ms > 0 else "0001-01-01T00:00:00.000Z"


@lru_cache(4096)
def _minute(minute: int) -> str:
    """A minute since 1970 up to its seconds. Raises OverflowError."""
    return (_EPOCH + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:").rjust(17, "0")
