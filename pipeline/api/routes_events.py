"""Where events come in: single, in batches, by signed webhooks; and what became of one.

Handlers read the raw body and write the raw answer: what an event may hold is the intake's to say, once. A batch has
one result per event, in order: 202 where all are accepted, 200 where some are not; 503 where not one could be taken in
for reasons of ours, so that whoever looks at statuses alone sends it again.
"""

from __future__ import annotations

import re
import sqlite3
import time
from codecs import BOM_UTF8
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from pipeline.api.app import JSON, Handler, content_type, json_response, read_body
from pipeline.api.client import READ, WRITE, ApiError, Client, current, required
from pipeline.api.journal import Journal, JournalError
from pipeline.api.limits import BATCH_MAX
from pipeline.api.openapi import IDEMPOTENCY, NDJSON
from pipeline.api.shape import Answer, Item
from pipeline.api.webhooks import DELIVERY, SIGNATURE, Deliveries, Webhook, verify
from pipeline.domain.applications.event import AppTopic
from pipeline.domain.assets.figures import GAS
from schemas.codec import Codec
from schemas.json_form import FieldFault, parse_json, parse_lines
from sinks.application_store import ApplicationReader

OPEN_DOMAINS: Final = frozenset({"assets"})
"""Whose events are readable without a key (S0: public read), but for those of gas."""
OTHER_METHODS: Final = ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
_HEADER_KEY: Final = re.compile(r"[!-~]{1,200}")
_EVENT_ID: Final = re.compile(r"(?:led_)?[0-9a-f]{32}")
Count = Callable[[str, int, int], None]
"""(domain, accepted, refused)."""
OUTCOMES: Final = "applications.outcomes.v1"


class Fate(NamedTuple):
    """What became of an event."""

    row: AppTopic
    type: str
    client: str  # that sent it; "" where that is not known here
    status: str  # accepted, applied, refused
    error: Mapping[str, str] | None = None  # of a refused one
    user: str = ""  # whose event it is

    @property
    def scope(self) -> str:
        """The scope that reads it."""
        return f"{'gas' if self.type in GAS else self.row.domain}:{READ}"

    def open_to(self, client: Client | None) -> bool:
        """Whether it may be told: to who has sent it (a user's key sends its user's alone), to scopes that read it."""
        if self.row.domain in OPEN_DOMAINS and self.type not in GAS:
            return True
        if client is None:
            return False
        sent = client.id == self.client and client.user_id in ("", self.user)
        return sent or client.may(self.scope)


class Submits(Protocol):
    """The intake, as it is used here."""

    def submit(self, row: AppTopic, client: Client, items: Sequence[Item]) -> Awaitable[list[Answer]]: ...


class EventRoutes:
    """The endpoints of events."""

    def __init__(
        self,
        rows: Sequence[AppTopic],
        intake: Submits,
        hooks: Mapping[str, Webhook],
        deliveries: Deliveries,
        fate: Callable[[str], Fate | None],
        count: Count = lambda domain, accepted, refused: None,
    ) -> None:
        self._rows, self._intake, self._count = rows, intake, count
        self._hooks, self._deliveries, self._fate = hooks, deliveries, fate

    def direct(self) -> dict[tuple[str, str], Handler]:
        """(method, path) → handler of the endpoints that must be quick."""
        found: dict[tuple[str, str], Handler] = {}
        for row in self._rows:
            found["POST", f"/v1/{row.domain}/events"] = self._single(row)
            found["POST", f"/v1/{row.domain}/events/batch"] = self._batch(row)
        return found

    def router(self) -> APIRouter:
        """All of them."""
        router = APIRouter()
        for (method, path), handler in self.direct().items():
            router.add_api_route(path, handler, methods=[method], include_in_schema=False)
            router.add_api_route(path, _post_only, methods=OTHER_METHODS, include_in_schema=False)
        router.add_api_route("/v1/webhooks/{name}", self.webhook, methods=["POST"], include_in_schema=False)
        router.add_api_route("/v1/events/{event_id}", self.event, methods=["GET"], include_in_schema=False)
        return router

    def _single(self, row: AppTopic) -> Handler:
        async def single(request: Request) -> Response:
            client = required(request, f"{row.domain}:{WRITE}")
            content_type(request, JSON)
            key = header_key(request, IDEMPOTENCY)
            item = Item(parsed(await read_body(request)), key)
            (answer,) = await self._intake.submit(row, client, [item])
            self._count(row.domain, answer.status == 202, answer.status != 202)
            return json_response(answer.status, answer.body, answer.headers)

        return single

    def _batch(self, row: AppTopic) -> Handler:
        async def batch(request: Request) -> Response:
            client = required(request, f"{row.domain}:{WRITE}")
            kind = content_type(request, JSON, NDJSON)
            key = header_key(request, IDEMPOTENCY)
            bodies = several(await read_body(request), kind)
            return await self._many(row, client, keyed(bodies, key, "api"))

        return batch

    async def _many(self, row: AppTopic, client: Client, items: Sequence[Item]) -> Response:
        answers = await self._intake.submit(row, client, items)
        good = [answer.status for answer in answers].count(202)
        self._count(row.domain, good, len(answers) - good)
        return batch_response(answers, good)

    async def webhook(self, request: Request) -> Response:
        """POST /v1/webhooks/<name>."""
        hook = self._hooks.get(request.path_params["name"])
        if hook is None:
            raise ApiError(404, "unknown_webhook", "there is no webhook of this name", "name")
        content_type(request, JSON)
        named = header_key(request, DELIVERY) or header_key(request, IDEMPOTENCY)
        body = await read_body(request)
        delivery = verify(hook, request.headers.get(SIGNATURE), body, time.time())
        self._deliveries.begin(delivery)
        status = 500
        try:
            value = parsed(body)
            bodies = bounded(value) if isinstance(value, list) else [value]
            items = keyed(bodies, named or delivery.hex(), hook.source, alone=not isinstance(value, list))
            response = await self._many(hook.row, hook.client, items)
            status = response.status_code
        except ApiError as error:
            status = error.status
            raise
        finally:
            self._deliveries.end(delivery, hook, answered=status < 500)
        return response

    async def event(self, request: Request) -> Response:
        """GET /v1/events/<id>."""
        event_id = request.path_params["event_id"]
        if not _EVENT_ID.fullmatch(event_id):
            raise ApiError(422, "invalid", "32 hex digits, after led_ for positions", "event_id")
        try:
            found = self._fate(event_id)
        except (sqlite3.Error, JournalError) as error:
            raise ApiError(
                503, "unavailable", f"the journal can't be read: {error}", Retry_After="2"
            ) from None
        if found is None:
            if current(request) is None:  # whether there is one is not told either
                required(request)
            raise ApiError(404, "unknown_event", "no such event was accepted here", "event_id")
        if not found.open_to(current(request)):
            required(request, found.scope)
        told = {"event_id": event_id, "topic": found.row.topic, "type": found.type, "status": found.status}
        return json_response(200, {**told, "error": found.error} if found.error else told)


class Fates:
    """What became of events: by the journal, and by the states' files where they are on this host."""

    def __init__(
        self, rows: Sequence[AppTopic], journal: Journal, codec: Codec, known: Callable[[str], ApplicationReader | None]
    ) -> None:  # fmt: skip
        self._rows, self._journal, self._codec, self._known = rows, journal, codec, known
        self._names = {codec.schema(row.topic).name: row for row in rows}

    def find(self, event_id: str) -> Fate | None:
        """None: never accepted here. Raises sqlite3.Error, JournalError."""
        held = self._journal.find([event_id]).get(event_id)
        accepted: Fate | None = None
        if held is not None:
            schema_id, record = self._codec.decode(self._journal.value(held.seq))
            row = self._names[self._codec.record_name(schema_id)]
            user = record["user_id"] or ""
            accepted = Fate(row, record["type"], record["client"], "accepted", user=user)
        for row in self._rows if accepted is None else [accepted.row]:
            decided = self._decided(row, event_id, accepted)
            if decided is not None:
                return decided
        return accepted

    def _decided(self, row: AppTopic, event_id: str, accepted: Fate | None) -> Fate | None:
        reader = self._known(row.topic)
        for message in reader.told(event_id) if reader is not None else []:
            if message.topic == OUTCOMES:
                record = self._codec.decode(message.value, OUTCOMES)[1]
                fault = {name: record[name] for name in ("reason", "field", "detail")}
                status = record["status"]
                told = accepted or Fate(row, record["type"], "", status)
                return told._replace(status=status, error=fault if status == "refused" else None)
        return None


async def _post_only(request: Request) -> Response:
    """Else GET /v1/assets/events would be a question for the asset "events"."""
    raise ApiError(405, "method_not_allowed", "events are posted here", Allow="POST")


def header_key(request: Request, name: str) -> str | None:
    """An idempotency key from a header, None without one. Raises ApiError 422."""
    given = request.headers.get(name)
    if given is None:
        return None
    if len(given) > 2 and given[0] == given[-1] == '"':  # a structured field's string
        given = given[1:-1]
    if not _HEADER_KEY.fullmatch(given):
        raise ApiError(422, "invalid", "1 to 200 visible ASCII characters", name)
    return given


def parsed(body: bytes) -> Any:
    """A body's JSON value. Raises ApiError 400."""
    try:
        return parse_json(body.removeprefix(BOM_UTF8))
    except FieldFault as fault:
        raise not_json(fault) from None


def not_json(fault: FieldFault) -> ApiError:
    """400."""
    return ApiError(400, "not_json", f"the body is not JSON: {fault.what}", fault.path)


def several(body: bytes, kind: str) -> list[Any]:
    """The events of a batch's body; a line that is no JSON as its FieldFault. Raises ApiError 400, 422."""
    if kind == NDJSON:
        if body.count(b"\n") > 2 * BATCH_MAX:
            raise too_many()
        return bounded(list(parse_lines(body.removeprefix(BOM_UTF8))))
    value = parsed(body)
    if not isinstance(value, list):
        raise ApiError(422, "invalid", "a batch is a JSON array of events; one event goes to …/events")
    return bounded(value)


def bounded(bodies: list[Any]) -> list[Any]:
    """Raises ApiError 422 for an empty batch or one of too many."""
    if not bodies:
        raise ApiError(422, "empty", "a batch holds at least one event")
    if len(bodies) > BATCH_MAX:
        raise too_many()
    return bodies


def too_many() -> ApiError:
    """422."""
    return ApiError(422, "too_many", f"a batch holds at most {BATCH_MAX} events; send it in parts")


def keyed(bodies: Sequence[Any], key: str | None, source: str, alone: bool = False) -> list[Item]:
    """Items of a batch; those without an idempotency key of their own get one from the request's, by their place."""
    return [
        Item(
            body,
            None if key is None or _has_key(body) else key if alone else f"{key}:{place}",
            source,
        )
        for place, body in enumerate(bodies)
    ]


def _has_key(body: Any) -> bool:
    return isinstance(body, dict) and body.get("idempotency_key") is not None


def batch_response(answers: Sequence[Answer], good: int) -> Response:
    """The answer to a batch, of which `good` are accepted."""
    results = [
        answer.body if answer.status == 202 else {"status": "refused", "code": answer.status, **answer.body}
        for answer in answers
    ]
    away = None if good else next((answer for answer in answers if answer.status == 503), None)
    if away is not None:
        return json_response(503, away.body, away.headers)
    status = 202 if good == len(answers) else 200
    return json_response(status, {"accepted": good, "refused": len(answers) - good, "results": results})
