"""Requests to the read API and its reports in this process, over a world's ClickHouse; X-Client says who asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from fastapi import FastAPI
from starlette.requests import Request

from pipeline.api.app import make_fastapi
from pipeline.api.client import Client
from pipeline.api.reads import Reads, read_router
from pipeline.api.routes_reports import report_router
from tests.support.read_scene import ANA
from tests.support.read_world import World

CLIENTS = {
    "root": Client("root", scopes=frozenset({"root"})),
    "nobody": Client("nobody"),
    **{name: Client(name, user_id=name) for name in ("alice", "bob", "carl", "dora", "bank", "shop")},
    "ana": Client("ana", user_id=ANA),
    "gas": Client("gas", scopes=frozenset({"gas:read"})),
    "positions": Client("positions", scopes=frozenset({"positions:read"})),
    "service": Client("service", scopes=frozenset({"service", "positions:read"})),
}


def application(reads: Reads) -> FastAPI:
    """The endpoints, told by a header of what the app's middleware finds out by a key."""
    app = make_fastapi([read_router(reads), report_router(reads.clickhouse)])

    @app.middleware("http")
    async def identify(request: Request, call_next: Callable[[Request], Awaitable[Any]]) -> Any:
        request.state.client = CLIENTS.get(request.headers.get("x-client", ""))
        return await call_next(request)

    return app


def asker(reads: Reads, who: str = "") -> httpx.AsyncClient:
    """What sends requests to the endpoints; "" has no key."""
    transport = httpx.ASGITransport(application(reads))
    return httpx.AsyncClient(transport=transport, base_url="http://api", headers={"x-client": who})


def ask(world: World, *paths: str, who: str = "") -> list[httpx.Response]:
    """Answers to requests sent at once."""

    async def all_of_them() -> list[httpx.Response]:
        reads = Reads(world.port.url)
        async with asker(reads, who) as client:
            answers = await asyncio.gather(*(client.get(path) for path in paths))
        await reads.close()
        return list(answers)

    return asyncio.run(all_of_them())


def told(world: World, path: str, who: str = "", status: int = 200) -> Any:
    """The answer's body."""
    (answer,) = ask(world, path, who=who)
    assert answer.status_code == status, answer.text
    return answer.json()
