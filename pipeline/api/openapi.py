"""The interface's document (OpenAPI 3.1): made of the catalog's rows and the Avro schemas, so it can't fall behind.

Each topic's event is a `oneOf` over its types with discriminator `type`; what an event type says is the record of
`schemas/<domain>/types`, with its docs. The read endpoints describe themselves (FastAPI); here they get the
answers that the gate may give before them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from pipeline.api.keys import SCOPES
from pipeline.api.limits import BATCH_MAX
from pipeline.api.shape import KEY_CHARS_MAX
from pipeline.api.webhooks import DELIVERY, SIGNATURE
from pipeline.domain.applications.event import AppTopic, AppType
from schemas.json_form import ID_CHARS_MAX
from schemas.json_schema import TIME, definitions, short_name, text
from schemas.loader import by_topic

JsonObject = dict[str, Any]
IDEMPOTENCY: Final = "Idempotency-Key"
NDJSON: Final = "application/x-ndjson"
DESCRIPTION: Final = """\
Exact, provable books. Events of applications come in here; what became of them, and what holds, is read here.

**Writing.** `202` says that an event is on disk and acknowledged by Kafka: it will be judged by its topic's rules, in
order, exactly once. Its `event_id` is the hash of topic, client (for a user's API key with its user) and idempotency
key: the same key with the same body gets the same answer, with another body `409`. Without a key of yours the server
draws one and tells it. A refusal by a rule that is known already is `422` (`403` for another user's event); else
`GET /v1/events/{event_id}` tells later.

**Errors** are `{"error": {"reason", "field", "detail"}}`: a word, the field at fault ("" for none), a line for people.

**Limits.** Per key, or per address without one; `RateLimit` tells what is left, `429` comes with `Retry-After`.
"""
_ID: Final = {"type": "string", "pattern": "^(led_)?[0-9a-f]{32}$"}
_WORD: Final = {"type": "string"}
_NULL: Final = {"type": "null"}
_STATUS: Final = {
    400: "The body is not JSON, or the request is malformed.",
    401: "No API key, or one that is unknown or revoked; for webhooks no good signature.",
    403: "The key lacks the scope, or the event is another user's.",
    404: "There is no such thing.",
    405: "Not with this method.",
    408: "The body came too slowly.",
    409: "The idempotency key was used for another body, or the delivery was taken in already.",
    413: "The body is too large (setting TIDEBOOK_API_BODY_MAX).",
    415: "The content type is not one of those above.",
    422: "The event is not what its type's schema, check or rule asks for; `field` names what is at fault.",
    429: "Too many requests; see Retry-After.",
    500: "A defect of ours; `detail` has the id under which the log tells more.",
    503: "Not now: Kafka has not acknowledged, or too much is under way. Nothing was lost; send it again as it is.",
}
GATE: Final = (400, 401, 405, 408, 413, 429, 500, 503)
"""Statuses that the gate gives on any path."""


def envelope(row: AppTopic, kind: AppType, examples: Iterable[Mapping[str, Any]] = ()) -> JsonObject:
    """JSON Schema of one event type."""
    fields = {field["name"]: field for field in by_topic()[row.topic].documented["fields"]}
    branches = [one for one in fields[kind.payload]["type"] if one != "null"]
    record = branches[0] if isinstance(branches[0], str) else branches[0]["name"]

    def described(name: str, schema: JsonObject) -> JsonObject:
        return {**schema, "description": fields[name].get("doc", "")}

    made: JsonObject = {
        "type": "object",
        "title": kind.name,
        "description": fields[kind.payload].get("doc", "") + (" Services only." if kind.service else ""),
        "additionalProperties": False,
        "required": ["type", row.key, "data"],
        "properties": {
            "type": described("type", {"const": kind.name}),
            row.key: described(row.key, _key()),
            "at": described("at", {"anyOf": [*TIME["anyOf"], _NULL]}),
            "user_id": described("user_id", {"anyOf": [_key(), _NULL]}),
            "app_id": described("app_id", {"anyOf": [text(ID_CHARS_MAX), _NULL]}),
            "idempotency_key": described("idempotency_key", {"anyOf": [_key(KEY_CHARS_MAX), _NULL]}),
            "data": {"$ref": f"#/components/schemas/{short_name(record)}"},
        },
    }
    shown = [dict(example) for example in examples]
    return {**made, "examples": shown} if shown else made


def _key(longest: int = ID_CHARS_MAX) -> JsonObject:
    return {**text(longest), "minLength": 1}


def event_schemas(rows: Iterable[AppTopic]) -> dict[str, JsonObject]:
    """Components: every topic's event, its types and their records."""
    found: dict[str, JsonObject] = {}
    for row in rows:
        schema = by_topic()[row.topic]
        records = definitions(schema.documented)
        records.pop(short_name(schema.name))
        found |= records
        refs: dict[str, str] = {}
        for kind in row.types.values():
            name = f"{row.domain}.{kind.name}"
            found[name] = envelope(row, kind)
            refs[kind.name] = f"#/components/schemas/{name}"
        one: JsonObject = {"oneOf": [{"$ref": ref} for ref in refs.values()]} if refs else {"not": {}}
        if refs:
            one["discriminator"] = {"propertyName": "type", "mapping": refs}
        found[f"{row.domain}.event"] = one
    return found


def document(app: FastAPI, rows: Iterable[AppTopic], version: str, webhooks: bool = True) -> JsonObject:
    """The whole document; what `app` describes of itself, and ours."""
    rows = tuple(rows)
    made = get_openapi(
        title="Tidebook", version=version, openapi_version="3.1.0", description=DESCRIPTION, routes=app.routes
    )
    for path in made.get("paths", {}).values():
        for operation in path.values():
            _gated(operation)
    paths = made.setdefault("paths", {})
    for row in rows:
        paths[f"/v1/{row.domain}/events"] = {
            **paths.get(f"/v1/{row.domain}/events", {}),
            "post": _single(row),
        }
        paths[f"/v1/{row.domain}/events/batch"] = {"post": _batch(row)}
    if webhooks:
        paths["/v1/webhooks/{name}"] = {"post": _webhook(rows)}
    paths["/v1/events/{event_id}"] = {"get": _event_status()}
    paths["/v1/people/{person}"] = _people()
    paths |= _own()
    components = made.setdefault("components", {})
    components["schemas"] = {**components.get("schemas", {}), **_shapes(), **event_schemas(rows)}
    components["securitySchemes"] = {
        "key": {
            "type": "http",
            "scheme": "bearer",
            "description": f"`tidebook keys create` makes one. Scopes: {', '.join(SCOPES)}.",
        }
    }
    components["headers"] = {
        "RateLimit": {"schema": _WORD, "description": 'What is left: "<policy>";r=<requests>;t=<seconds>.'},
        "Retry-After": {"schema": {"type": "string", "pattern": "^[0-9]+$"}, "description": "Seconds."},
    }
    return made


def _gated(operation: JsonObject) -> None:
    """An operation that describes itself gets the gate's answers, and every error our form."""
    answers = operation.setdefault("responses", {})
    for status in GATE:
        answers.setdefault(str(status), _error(status))
    if "422" in answers:
        answers["422"] = _error(422)
    operation.setdefault("security", [{"key": []}, {}])


def _error(status: int) -> JsonObject:
    made: JsonObject = {
        "description": _STATUS[status],
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    if status in (429, 503):
        made["headers"] = {"Retry-After": {"$ref": "#/components/headers/Retry-After"}}
    return made


def _answers(good: Mapping[int, JsonObject], *errors: int) -> JsonObject:
    found = dict(good) | {status: _error(status) for status in (*GATE, *errors)}
    return {str(status): found[status] for status in sorted(found)}


def _json(description: str, ref: str) -> JsonObject:
    return {
        "description": description,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{ref}"}}},
    }


def _single(row: AppTopic) -> JsonObject:
    return {
        "operationId": f"{row.domain}_event",
        "summary": f"Tell one event of {row.topic}",
        "tags": ["events"],
        "security": [{"key": []}],
        "parameters": [_idempotency()],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{row.domain}.event"}}},
        },
        "responses": _answers({202: _json("Accepted, durably.", "Accepted")}, 403, 404, 409, 415, 422),
    }


def _batch(row: AppTopic) -> JsonObject:
    event = {"$ref": f"#/components/schemas/{row.domain}.event"}
    return {
        "operationId": f"{row.domain}_batch",
        "summary": f"Tell many events of {row.topic}, in order",
        "description": "Each event is accepted or refused for itself: 202 where all are accepted, else 200; the answer "
        "has one result per event, in order.",
        "tags": ["events"],
        "security": [{"key": []}],
        "parameters": [_idempotency("of event n of the batch: <key>:<n>, where it has none of its own")],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"type": "array", "items": event, "minItems": 1, "maxItems": BATCH_MAX}
                },
                NDJSON: {"schema": {"type": "string", "description": "One event a line."}},
            },
        },
        "responses": _answers(
            {
                200: _json("Not all are accepted; each result says.", "Batch"),
                202: _json("All are accepted, durably.", "Batch"),
            },
            403, 409, 415, 422,
        ),
    }  # fmt: skip


def _webhook(rows: Iterable[AppTopic]) -> JsonObject:
    events = [{"$ref": f"#/components/schemas/{row.domain}.event"} for row in rows if row.types]
    return {
        "operationId": "webhook",
        "summary": "A signed delivery: one event or an array of them, of the webhook's topic",
        "tags": ["events"],
        "security": [],
        "parameters": [
            {"name": "name", "in": "path", "required": True, "schema": _WORD},
            {
                "name": SIGNATURE,
                "in": "header",
                "required": True,
                "description": 'HMAC-SHA256 of "<t>.<body>" under the shared secret; several v1 while it is changed.',
                "schema": {"type": "string", "examples": [f"t=1714564800,v1={'0' * 64}"]},
            },
            {
                "name": DELIVERY,
                "in": "header",
                "description": "The sender's id of the delivery: idempotency key of events that have none.",
                "schema": {"type": "string", "maxLength": 200, "pattern": "^[!-~]+$"},
            },
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "anyOf": [*events, {"type": "array", "items": {"anyOf": events}, "maxItems": BATCH_MAX}]
                    }
                }
            },
        },
        "responses": _answers(
            {200: _json("Not all are accepted.", "Batch"), 202: _json("All are accepted.", "Batch")},
            403, 404, 409, 415, 422,
        ),
    }  # fmt: skip


def _event_status() -> JsonObject:
    return {
        "operationId": "event_status",
        "summary": "What became of an accepted event",
        "description": "Events of assets need no key, but for those of gas; others the read scope (`gas:read`, or the "
        "domain's), or a key of the client and user that sent them.",
        "tags": ["events"],
        "security": [{"key": []}, {}],
        "parameters": [{"name": "event_id", "in": "path", "required": True, "schema": _ID}],
        "responses": _answers({200: _json("What is known.", "EventStatus")}, 403, 404, 422),
    }


def _people() -> JsonObject:
    person = {
        "name": "person",
        "in": "path",
        "required": True,
        "description": "Reference of the person, as events have it.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9]{16,64}$"},
    }

    def operation(name: str, summary: str, good: Mapping[int, JsonObject], *errors: int) -> JsonObject:
        return {
            "operationId": name, "summary": summary, "tags": ["people"], "security": [{"key": []}],
            "responses": _answers(good, 403, 422, *errors),
        }  # fmt: skip

    body = {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/PersonIn"}}},
    }
    known = _json("What is known.", "Person")
    return {
        "parameters": [person],
        "get": operation("person", "Personal data of a person", {200: known}, 404),
        "put": operation("put_person", "Replace what is known of a person", {200: known}, 415)
        | {"requestBody": body},
        "delete": operation(
            "erase_person", "Forget a person", {204: {"description": "Nothing is known any more."}}
        ),
    }


def _own() -> JsonObject:
    def operation(name: str, summary: str, content: str, *more: int) -> JsonObject:
        good = {"description": "So it is.", "content": {content: {}}}
        answers = {"200": good} | {str(status): {**good, "description": "Not well."} for status in more}
        return {
            "get": {
                "operationId": name, "summary": summary, "tags": ["service"], "security": [],
                "responses": answers | {str(status): _error(status) for status in (400, 405, 408, 413, 500)},
            }
        }  # fmt: skip

    limited = operation("openapi", "This document", "application/json")
    limited["get"]["responses"] |= {str(status): _error(status) for status in (401, 429, 503)}
    return {
        "/health": operation("health", "Whether it takes events in", "application/json", 503),
        "/metrics": operation("metrics", "Figures for Prometheus", "text/plain"),
        "/openapi.json": limited,
    }


def _idempotency(of: str = "of the event, where its body has none") -> JsonObject:
    return {
        "name": IDEMPOTENCY, "in": "header", "description": f"The idempotency key {of}.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
    }  # fmt: skip


def _shapes() -> JsonObject:
    fault = {
        "type": "object",
        "required": ["reason", "field", "detail"],
        "additionalProperties": False,
        "properties": {"reason": {"type": "string", "minLength": 1}, "field": _WORD, "detail": _WORD},
    }
    accepted = {
        "type": "object",
        "required": ["event_id", "status", "idempotency_key"],
        "additionalProperties": False,
        "properties": {"event_id": _ID, "status": {"const": "accepted"}, "idempotency_key": _WORD},
    }
    refused = {
        "type": "object",
        "required": ["status", "code", "error"],
        "additionalProperties": False,
        "properties": {"status": {"const": "refused"}, "code": {"type": "integer"}, "error": fault},
    }
    person = {"kind": {"type": "string", "pattern": "^[a-z][a-z0-9_]{0,63}$"}, "data": {"type": "object"}}
    return {
        "Fault": fault,
        "Error": {
            "type": "object", "required": ["error"], "additionalProperties": False,
            "properties": {"error": {"$ref": "#/components/schemas/Fault"}},
        },
        "Accepted": accepted,
        "Refused": refused,
        "Batch": {
            "type": "object",
            "required": ["accepted", "refused", "results"],
            "additionalProperties": False,
            "properties": {
                "accepted": {"type": "integer", "minimum": 0},
                "refused": {"type": "integer", "minimum": 0},
                "results": {
                    "type": "array",
                    "items": {"anyOf": [{"$ref": f"#/components/schemas/{one}"} for one in ("Accepted", "Refused")]},
                },
            },
        },
        "EventStatus": {
            "type": "object",
            "required": ["event_id", "topic", "status"],
            "additionalProperties": False,
            "properties": {
                "event_id": _ID, "topic": _WORD, "type": _WORD,
                "status": {"enum": ["accepted", "applied", "refused"]},
                "error": {"$ref": "#/components/schemas/Fault"},
            },
        },
        "PersonIn": {
            "type": "object", "required": ["kind", "data"], "additionalProperties": False, "properties": person,
        },
        "Person": {
            "type": "object",
            "required": ["person", "kind", "at_ms", "data"],
            "additionalProperties": False,
            "properties": {**person, "person": _WORD, "at_ms": {"type": "integer"}},
        },
    }  # fmt: skip
