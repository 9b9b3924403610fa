"""The HTTP interface: one gate before everything, then the endpoints.

The gate knows the client, takes from its bucket, bounds the body, and turns whatever goes wrong into one JSON form:
{"error": {"reason", "field", "detail"}}. A defect of ours is a 500 with an id; what it was stands under that id in
one line of the log, and no answer ever shows a stack. Endpoints that take events in are reached by one dictionary
lookup (`direct`): FastAPI's own way to them costs more than the rest of the gate.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.api.client import ApiError, Client
from pipeline.api.keys import Keys
from pipeline.api.limits import (
    ADDRESS,
    HELD_BODIES,
    HOOK,
    IN_FLIGHT_MAX,
    LINGER_BYTES,
    LINGER_S,
    Body,
    Buckets,
    Held,
    Left,
    Networks,
    client_host,
    key_policy,
    place_of,
)

JSON: Final = "application/json"
HOOKS: Final = "/v1/webhooks/"
UNLIMITED: Final = frozenset({"/health", "/metrics"})
_REASONS: Final = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 406: "not_acceptable"}
_NOSNIFF: Final = (b"x-content-type-options", b"nosniff")
Handler = Callable[[Request], Awaitable[Response]]
Message = MutableMapping[str, Any]


class _Json(Response):
    """A JSON answer, made with less ado than Starlette's: it is made for every event."""

    def __init__(self, status: int, value: Any, headers: Mapping[str, str]) -> None:
        self.status_code, self.body, self.background = status, orjson.dumps(value), None
        self.raw_headers = [
            (b"content-length", b"%d" % len(self.body)),
            (b"content-type", b"application/json"),
            *((name.lower().encode(), value.encode()) for name, value in headers.items()),
        ]


def json_response(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return _Json(status, value, headers or {})


def error_response(error: ApiError) -> Response:
    """The answer of an error."""
    told = {"reason": error.reason, "field": error.field, "detail": error.detail}
    return json_response(error.status, {"error": told}, error.headers)


def say(line: str) -> None:
    """One line of the log."""
    sys.stderr.write(f"tidebook serve: {line}\n")
    sys.stderr.flush()


def defect(error: Exception, what: str) -> Response:
    """500 with an id, under which the log tells where it came from."""
    name = secrets.token_hex(6)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    text = " ".join(str(error).split())[:300]
    say(f"defect {name}: {what}: {type(error).__name__}: {text}{place}")
    return error_response(ApiError(500, "defect", f"this is our fault; the log has it under {name}"))


@dataclass(slots=True)
class Gate:
    """ASGI in front of the app: identity, limits, errors."""

    app: ASGIApp
    keys: Keys
    body_max: int
    direct: Mapping[tuple[str, str], Handler] = field(default_factory=dict)  # (method, path)
    buckets: Buckets = field(default_factory=Buckets)
    told: Callable[[int, float], None] = lambda status, seconds: None  # each answer
    proxies: Networks = ()  # whose X-Forwarded-For is believed
    held: Held = field(init=False)
    in_flight: int = 0

    def __post_init__(self) -> None:
        self.held = Held(max(self.body_max * HELD_BODIES, 1 << 20))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            self.in_flight += 1
            if scope["method"] == "HEAD":  # uvicorn, which knows it as HEAD, leaves the body out
                scope = {**scope, "method": "GET"}
            try:
                await _Exchange(self, scope, send).run(receive)
            finally:
                self.in_flight -= 1

    def admit(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Left | None:
        """Sets the client, takes a token. Raises ApiError 401 or 503."""
        state = scope.setdefault("state", {})
        state["client"] = None
        path = scope["path"]
        if path in UNLIMITED:
            return None
        if self.in_flight > IN_FLIGHT_MAX:
            raise ApiError(503, "overloaded", "too many requests at once; try again", Retry_After="1")
        given = headers.get(b"authorization")
        client = None if given is None else self._client(given)
        if client is not None:
            state["client"] = client
            return self.buckets.take(key_policy(client), client.id)
        policy = HOOK if path.startswith(HOOKS) else ADDRESS
        left = self.buckets.take(policy, self._place(scope))
        if given is not None and left.allowed:
            state["refused"] = ApiError(
                401, "unauthorized", "this API key is unknown or revoked, or not sent as `Authorization: Bearer <key>`",
                WWW_Authenticate="Bearer",
            )  # fmt: skip
        return left

    def _place(self, scope: Scope) -> str:
        """The address that a request without a key counts for."""
        peer = scope.get("client")
        forwarded = (value for name, value in scope["headers"] if name == b"x-forwarded-for")
        return place_of(client_host(peer[0], forwarded, self.proxies)) if peer else ""

    def _client(self, given: bytes) -> Client | None:
        scheme, _, text = given.decode("latin-1").partition(" ")
        return self.keys.find(text.strip()) if scheme.lower() == "bearer" else None


class _Exchange:
    """One request and its answer."""

    __slots__ = ("_began", "_gate", "_left", "_lingers", "_scope", "_send", "_status")

    def __init__(self, gate: Gate, scope: Scope, send: Send) -> None:
        self._gate, self._scope, self._send = gate, scope, send
        self._left: list[tuple[bytes, bytes]] = []
        self._status, self._lingers, self._began = 0, False, time.perf_counter()

    async def run(self, receive: Receive) -> None:
        scope, gate = self._scope, self._gate
        body: Body | None = None
        try:
            headers = dict(scope["headers"])
            self._limit(gate.admit(scope, headers))
            body = Body(receive, headers.get(b"content-length"), gate.body_max, gate.held)
            handler = gate.direct.get((scope["method"], scope["path"]))
            if handler is None:
                await gate.app(scope, body.receive, self.send)
            else:
                answer = await handler(Request(scope, body.receive))
                await answer(scope, body.receive, self.send)
        except ApiError as error:
            self._lingers = error.status == 413 and not self._status
            await self._answer(error_response(error), receive)
            if self._lingers:
                await self._linger(receive)
        except ClientDisconnect:
            pass
        except Exception as error:
            if not scope["state"].get("defect"):
                await self._answer(defect(error, f"{scope['method']} {scope['path']!r}"), receive)
        finally:
            if body is not None:
                body.close()
            if self._status:
                gate.told(self._status, time.perf_counter() - self._began)

    def _limit(self, left: Left | None) -> None:
        if left is None:
            return
        self._left = left.headers()
        if not left.allowed:
            raise ApiError(429, "too_many_requests", f"try again in {left.reset_s} s")
        refused = self._scope["state"].get("refused")
        if refused is not None:
            raise refused

    async def _answer(self, response: Response, receive: Receive) -> None:
        if not self._status:
            await response(self._scope, receive, self.send)

    async def _linger(self, receive: Receive) -> None:
        """Let a client that is still sending read its answer: closing at once would throw it away."""
        left = LINGER_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while left > 0:
                    message = await receive()
                    if message["type"] != "http.request" or not message.get("more_body"):
                        break
                    left -= len(message["body"])
        await self._send({"type": "http.response.body", "body": b""})

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            message["headers"] = [*message.get("headers", ()), _NOSNIFF, *self._left]
        elif self._lingers:
            message["more_body"] = True  # ends in _linger
        await self._send(message)


async def read_body(request: Request) -> bytes:
    """A request's whole body. Raises ApiError (see Body), ClientDisconnect."""
    message = await request.receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        whole: bytes = message.get("body", b"")
        return whole
    parts = bytearray()
    while message["type"] == "http.request":
        parts += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(parts)
        message = await request.receive()
    raise ClientDisconnect


def content_type(request: Request, *known: str) -> str:
    """Which of the known types the body is of, as it is. Raises ApiError 415."""
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise ApiError(
            415, "unsupported_media_type", f"send the body as it is, not in {coding[:40]!a}", "Content-Encoding",
            Accept_Encoding="identity",
        )  # fmt: skip
    given = request.headers.get("content-type", "")
    name, _, parameters = given.partition(";")
    kind = name.strip().lower()
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if kind not in known or charset not in ("", "utf-8", "utf8"):
        raise ApiError(415, "unsupported_media_type", f"send {' or '.join(known)} in UTF-8", "Content-Type")
    return kind


def make_fastapi(routers: list[APIRouter]) -> FastAPI:
    """The endpoints, with every error in our form."""
    app = FastAPI(title="Tidebook", docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(Exception, _on_defect)
    return app


async def _on_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error_response(error)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    told = ApiError(error.status_code, _REASONS.get(error.status_code, "refused"), str(error.detail))
    told.headers = dict(error.headers or {})
    return error_response(told)


async def _on_defect(request: Request, error: Exception) -> Response:
    request.scope.setdefault("state", {})["defect"] = True  # Starlette answers, then raises it again
    return defect(error, f"{request.method} {request.url.path!r}")


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"][1:]) or str(first["loc"][0])
    return error_response(ApiError(422, "invalid", str(first["msg"]), name))
