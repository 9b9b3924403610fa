"""ClickHouse's HTTP interface over chDB, read only, on the loopback: analysts' clients and the read API need no server.

chDB's folder belongs to one process, that of the history role; so that process answers, while it writes. Every query
has a session of its own (final = 1, read only, limited: `pipeline.agents.clickhouse_port_query`) on one of a few
handles of the engine; whoever comes when all are taken waits, and after QUEUE_WAIT_S is told 503. A result is sent
block by block as the reader takes it; a reader that takes nothing for STALL_S is left. The server has a thread and a
loop of its own, so that neither an insert nor a rebalance keeps it from answering.

Whoever is on this machine may ask. A browser's page may not: requests that name another host, or an origin, are
refused.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final
from uuid import uuid4

import orjson
from aiohttp import web

from pipeline.agents.clickhouse_port_engine import Engine, QueryFault, Session, next_block
from pipeline.agents.clickhouse_port_hello import SQL, asks_hello, hello
from pipeline.agents.clickhouse_port_query import (
    ACCESS_DENIED,
    BAD_ARGUMENTS,
    QUERY_BYTES_MAX,
    TOO_LARGE,
    BadQuery,
    PortQuery,
    guard,
    read_query,
)

HOST: Final = "127.0.0.1"
STALL_S: Final = 30.0
LINE_BYTES_MAX: Final = 1 << 20  # of an address: parameters stand in it
IDLE_S: Final = 65.0  # of a kept-alive connection
TIMEZONE: Final = "UTC"
_TYPES: Final = {
    "TabSeparated": "text/tab-separated-values; charset=UTF-8", "TSV": "text/tab-separated-values; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8", "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8", "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
}  # fmt: skip
_LOOPBACK: Final = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d+)?\Z", re.IGNORECASE)


class PortTaken(RuntimeError):
    """The port cannot be listened on."""


class ClickHousePort:
    """The interface of one chDB folder that this process has open."""

    def __init__(self, path: Path, port: int, host: str = HOST) -> None:
        self._path, self._port, self._host = os.path.realpath(path), port, host
        self._engine: Engine | None = None
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._started: threading.Event = threading.Event()
        self._failure: BaseException | None = None
        self._ending = asyncio.Event()

    @property
    def url(self) -> str:
        """Where it listens, once started."""
        return f"http://{self._host}:{self._port}"

    def start(self) -> None:
        """Listen, in a thread. Raises PortTaken."""
        self._thread = threading.Thread(target=self._run, name="clickhouse-port", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._thread.join()
            raise PortTaken(
                f"setting TIDEBOOK_CLICKHOUSE_PORT: can't listen on {self._host}:{self._port}: {self._failure}; "
                "name a free port, or 0 for none"
            ) from self._failure

    def stop(self) -> None:
        """Answer no more; every handle of the engine is closed when this returns."""
        if self._thread is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join()
        self._thread = None

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as failure:
            self._failure = failure
        finally:
            self._loop.close()
            self._started.set()

    async def _serve(self) -> None:
        engine = self._engine = Engine(self._path)
        app = web.Application(client_max_size=QUERY_BYTES_MAX + (64 << 10), middlewares=[_guarded])
        for path in ("/", "/query"):
            app.router.add_route("*", path, partial(answer, engine))
        app.router.add_get("/ping", _ping)
        app.router.add_get("/replicas_status", _ping)
        runner = web.AppRunner(
            app, access_log=None, keepalive_timeout=IDLE_S, handler_cancellation=True, shutdown_timeout=1.0,
            max_line_size=LINE_BYTES_MAX, max_field_size=LINE_BYTES_MAX,
        )  # fmt: skip
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._host, self._port)
            await site.start()
            self._port = int(runner.addresses[0][1])
            self._started.set()
            await self._ending.wait()
        finally:
            await engine.end()
            await runner.cleanup()
            engine.close()


async def answer(engine: Engine, request: web.Request) -> web.StreamResponse:
    """One query."""
    query_id = request.query.get("query_id") or str(uuid4())
    try:
        query = await _read(request)
        async with engine.session(query) as session:
            if asks_hello(query.sql, query.format, query.revision):
                return await _hello(engine, session, query, query_id)
            if query.streamed:
                return await _stream(engine, session, query, request, query_id)
            body = await engine.run(session, session.whole, query)
            return web.Response(body=body, headers=_headers(query, query_id))
    except BadQuery as bad:
        name = {ACCESS_DENIED: "ACCESS_DENIED", BAD_ARGUMENTS: "BAD_ARGUMENTS", TOO_LARGE: "TOO_MANY_BYTES"}
        message = f"Code: {bad.code}. DB::Exception: {bad}. ({name.get(bad.code, 'SYNTAX_ERROR')})"
        return _error(QueryFault(message), query_id)
    except QueryFault as fault:
        return _error(fault, query_id)


async def _hello(engine: Engine, session: Session, query: PortQuery, query_id: str) -> web.Response:
    """See `pipeline.agents.clickhouse_port_hello`."""
    asked = replace(query, sql=SQL, format="JSONCompactEachRow")
    values = orjson.loads(await engine.run(session, session.whole, asked))
    return web.Response(body=hello(values, query.revision), headers=_headers(query, query_id))


async def _read(request: web.Request) -> PortQuery:
    """Raises BadQuery."""
    arguments = [(name, value) for name, value in request.query.items()]
    headers = {name.lower(): value for name, value in request.headers.items()}
    body = ""
    if request.method == "POST":
        try:
            if request.content_type == "multipart/form-data":
                arguments += await _form(request)
            else:
                body = (await request.read()).decode()
        except UnicodeDecodeError:
            sent = request.query.get("query") or (await request.read()).decode(errors="replace")
            guard(sent)  # an INSERT with its rows: that is what is wrong with it
            raise BadQuery(BAD_ARGUMENTS, "the body is not UTF-8") from None
        except web.HTTPRequestEntityTooLarge:
            raise BadQuery(TOO_LARGE, f"the query has more than {QUERY_BYTES_MAX} bytes") from None
    elif request.method not in ("GET", "HEAD"):
        raise BadQuery(BAD_ARGUMENTS, "send GET or POST")
    return read_query(arguments, body, headers)


async def _form(request: web.Request) -> list[tuple[str, str]]:
    found = []
    for name, value in (await request.post()).items():
        if not isinstance(value, str):
            raise BadQuery(BAD_ARGUMENTS, f"{name}: this port takes no external data")
        found.append((name, value))
    return found


async def _stream(
    engine: Engine, session: Session, query: PortQuery, request: web.Request, query_id: str
) -> web.StreamResponse:
    """Two blocks before the headers: most faults of a query show there, and have a status."""
    blocks, block, second = await engine.run(session, session.begin, query)
    if second is None:  # small: one write, and a length
        return web.Response(body=block or b"", headers=_headers(query, query_id))
    tag = secrets.token_hex(8)
    response = web.StreamResponse(headers={**_headers(query, query_id), "X-ClickHouse-Exception-Tag": tag})
    try:
        await response.prepare(request)
        while block is not None:
            async with asyncio.timeout(STALL_S):
                await response.write(block)
            block, second = second, second and await engine.run(session, next_block, blocks)
        await response.write_eof()
    except QueryFault as fault:
        await response.write(_in_the_middle(fault, tag))
        _cut(request)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()  # what it did not take is not kept for it
    finally:
        # to its end, also when we are cancelled: then the handle is closed
        await engine.run(None, blocks.close)
    return response


def _cut(request: web.Request) -> None:
    """End the connection without an end of the body: the reader must see that there was more."""
    if request.transport is not None:
        request.transport.close()


def _in_the_middle(fault: QueryFault, tag: str) -> bytes:
    """A fault after the headers, as ClickHouse writes it into the body."""
    message = f"{fault}\n".encode()
    return b"\r\n__exception__\r\n%b\r\n%b%d %b\r\n__exception__\r\n" % (
        tag.encode(), message, len(message), tag.encode(),
    )  # fmt: skip


def _headers(query: PortQuery, query_id: str) -> dict[str, str]:
    return {
        "Content-Type": _TYPES.get(query.format, "application/octet-stream"),
        "X-ClickHouse-Server-Display-Name": "tidebook",
        "X-ClickHouse-Query-Id": _clean(query_id),
        "X-ClickHouse-Format": query.format,
        "X-ClickHouse-Timezone": TIMEZONE,
        "X-ClickHouse-Summary": "{}",
    }


def _error(fault: QueryFault, query_id: str) -> web.Response:
    headers = {
        "X-ClickHouse-Exception-Code": str(fault.code),
        "X-ClickHouse-Server-Display-Name": "tidebook",
        "X-ClickHouse-Query-Id": _clean(query_id),
    }
    return web.Response(status=fault.status, text=f"{fault}\n", headers=headers)


def _clean(query_id: str) -> str:
    return re.sub(r"[^\w.-]", "", query_id)[:64]


async def _ping(_: web.Request) -> web.Response:
    return web.Response(text="Ok.\n")


@web.middleware
async def _guarded(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Pages of a browser stay out: their requests have an origin, or a name of theirs as the host."""
    if "Origin" in request.headers or not _LOOPBACK.match(request.headers.get("Host", "")):
        return web.Response(status=403, text="this port answers programs on its own machine alone\n")
    return await handler(request)
