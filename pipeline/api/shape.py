"""What a client sends, read by its topic's schema: an event's record, its id, the digest of its body; or a refusal.

A user's key sends that user's events, a service's all. Nothing here knows states, disks or brokers.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import orjson

from pipeline.api.client import SERVICE, ApiError, Client
from pipeline.api.journal import Entry
from pipeline.domain.applications.event import AppEvent, AppTopic, Refusal
from schemas.codec import Codec
from schemas.json_form import ID_CHARS_MAX, Convert, FieldFault, payloads, string, time_ms, unknown_field
from schemas.payload_encoder import PayloadEncoder
from topics.envelope import outgoing

EVENT_BYTES_MAX: Final = (
    900_000  # encoded; a message is below topics.plan.MAX_MESSAGE_BYTES with all around it
)
KEY_CHARS_MAX: Final = 512  # of an idempotency key
AHEAD_MS_MAX: Final = 300_000  # how far an event may lie in the future: clocks differ

log = logging.getLogger(__name__)


class Item(NamedTuple):
    """One event as it was sent."""

    body: Any  # parsed by schemas.json_form.parse_json
    key: str | None = None  # the header's idempotency key
    source: str = "api"  # api, webhook:<name>, clock


class Answer(NamedTuple):
    """What became of an item: 202 with {"event_id", "status", "idempotency_key"}, or {"error": {…}}."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str] = {}


@dataclass(slots=True)
class Told:
    """An item whose shape is right."""

    event_id: str
    idempotency_key: str
    digest: bytes
    record: dict[str, Any]


class Shape:
    """Reads events of one topic by its schema."""

    def __init__(self, row: AppTopic, codec: Codec) -> None:
        self._row, self._codec = row, codec
        fields = [one.payload for one in row.types.values()]
        form = codec.schema(row.topic).resolution
        self._payloads: dict[str, Convert] = payloads(form, fields)
        names = [field["name"] for field in form["fields"]]
        leading = min((names.index(name) for name in fields), default=len(names))
        self._encoder = PayloadEncoder(codec, row.topic, leading)
        self._known = frozenset(("type", row.key, "at", "user_id", "app_id", "idempotency_key", "data"))

    def read(self, client: Client, item: Item) -> Told | Answer:
        """The item as a record, with its id and the digest of its body; or its refusal."""
        try:
            return self._read(client, item)
        except FieldFault as fault:
            return refused(ApiError(422, fault.reason, f"{fault}", fault.path))
        except ApiError as error:
            return refused(error)

    def _read(self, client: Client, item: Item) -> Told:
        body = item.body
        if isinstance(body, FieldFault):  # a line that is no JSON
            raise ApiError(400, body.reason, f"{body}", body.path)
        if type(body) is not dict:
            raise FieldFault("", "an event is a JSON object")
        if not body.keys() <= self._known:
            raise unknown_field(body, self._known)
        key = _field(body, "idempotency_key", _idempotency_key)
        if item.key is not None:
            given = _within("idempotency_key", _idempotency_key, item.key)
            if key is not None and key != given:
                raise FieldFault("idempotency_key", "is not the one of the header Idempotency-Key")
            key = given
        key = key if key is not None else str(uuid.uuid4())
        now_ms = time.time_ns() // 1_000_000
        name = _field(body, "type", string, needed=True)
        row = self._row.types.get(name)
        if row is None:
            raise FieldFault("type", f"{name[:60]!a} is no event type of {self._row.topic}", "unknown_type")
        record = {
            "type": row.name,
            self._row.key: _field(body, self._row.key, _id, needed=True),
            "user_id": _field(body, "user_id", _id),
            "app_id": _field(body, "app_id", _name) or "",
            "client": client.id,
            "idempotency_key": key,
            "source": item.source,
            "at": now_ms if (at := _field(body, "at", time_ms)) is None else at,
            "recorded_at": now_ms,
            row.payload: _within("data", self._payloads[row.payload], body.get("data", _NO_DATA)),
        }
        if record["at"] > now_ms + AHEAD_MS_MAX:
            raise FieldFault("at", "lies in the future")
        self._permit(client, record, service=row.service)
        event_id = record["event_id"] = self._row.id_prefix + event_hash(
            self._row.topic, client.id, key, client.user_id
        )
        return Told(event_id, key, _digest(body), record)

    def _permit(self, client: Client, record: dict[str, Any], *, service: bool) -> None:
        """S0's rule: a user's key sends that user's events, services all. Raises ApiError 403."""
        if SERVICE in client.scopes:
            return
        if service:
            raise ApiError(403, "forbidden", f"{record['type']} needs the scope {SERVICE}", "type")
        if not client.user_id:
            raise ApiError(403, "forbidden", "this key stands for no user", "user_id")
        if record["user_id"] is None:
            record["user_id"] = client.user_id
        elif record["user_id"] != client.user_id:
            raise ApiError(403, "forbidden", "this key may send only its own user's events", "user_id")

    def entry(self, told: Told, judge: Callable[[AppEvent], None]) -> Entry:
        """The journal's row of an event, if `judge` lets it pass. Raises ApiError."""
        topic, record = self._row.topic, told.record
        try:
            value = self._encoder.encode(record, self._row.types[record["type"]].payload)
            size = len(value)
            if size > EVENT_BYTES_MAX:
                raise ApiError(
                    413, "too_large", f"{size} bytes encoded; {EVENT_BYTES_MAX} are the most", "data"
                )
            judge(self._row.event(record))
            message = outgoing(self._codec, topic, record[self._row.key], record, value=value, partition=0)
        except ApiError:
            raise
        except Refusal as error:
            raise ApiError(422, "invalid", f"{error}") from None
        except Exception:  # what a rule can't take would stop the fold for everybody
            log.exception("a rule of %s failed on a %s", topic, record["type"])
            raise ApiError(
                422, "unprocessable", f"no rule knows what to do with this {record['type']}"
            ) from None
        return Entry(
            topic, record["client"], told.idempotency_key, told.event_id, told.digest, message.key or b"",
            value, message.headers, record["recorded_at"],
        )  # fmt: skip


_NO_DATA: Final[dict[str, Any]] = {}


def event_hash(topic: str, client: str, idempotency_key: str, user: str = "") -> str:
    """What makes an event's id: BLAKE2b-128, 32 hex digits. `user`: whose the API key is, "" for a service's; users of
    one client know nothing of each other's idempotency keys."""
    name = [topic, client, idempotency_key, *([user] if user else [])]
    return blake2b(orjson.dumps(name), digest_size=16).hexdigest()


def _digest(body: Mapping[str, Any]) -> bytes:
    """What was sent, but for its idempotency key, whatever the order of the keys."""
    said = dict(body)
    said.pop("idempotency_key", None)
    try:
        text = orjson.dumps(said, default=_number, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # an integer beyond 64 bits
        text = json.dumps(said, default=_number, sort_keys=True).encode()
    return blake2b(text, digest_size=16).digest()


def _number(value: Any) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(type(value))


def _field(body: Mapping[str, Any], name: str, read: Callable[[Any], Any], *, needed: bool = False) -> Any:
    value = body.get(name)
    if value is None:
        if needed:
            raise FieldFault(name, "is missing", "missing")
        return None
    try:  # as _within, whose call would be a quarter of what most fields cost
        return read(value)
    except FieldFault as fault:
        raise fault.within(name) from None


def _within(name: str, read: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read(value)
    except FieldFault as fault:
        raise fault.within(name) from None


def _id(value: Any) -> str:
    text = string(value, ID_CHARS_MAX)
    if not text:
        raise FieldFault("", "is empty")
    return text


def _name(value: Any) -> str:
    return string(value, ID_CHARS_MAX)


def _idempotency_key(value: Any) -> str:
    text = string(value)
    if not 0 < len(text) <= KEY_CHARS_MAX:
        raise FieldFault("", f"has {len(text)} characters; 1 to {KEY_CHARS_MAX} are right")
    return text


def refused(error: ApiError) -> Answer:
    told = {"reason": error.reason, "field": error.field, "detail": error.detail}
    return Answer(error.status, {"error": told}, error.headers)
