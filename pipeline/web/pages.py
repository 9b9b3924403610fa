"""The addresses of the pages: what is public, what needs a key, and what is said when something is not there.

Every answer of ours forbids the browser scripts, styles, pictures and connections from anywhere but here, so that no
text of a user can become one. A key for the gas report comes in a header (the page's script) or in a form's body,
never in an address. Whatever another part of `serve` refuses is told as a page to whoever asks for HTML.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Final
from urllib.parse import parse_qsl, quote

import orjson
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pipeline.api.app import read_body
from pipeline.api.client import ApiError, Client, current
from pipeline.api.keys import Keys
from pipeline.api.read_models import ID_MAX
from pipeline.api.reads import Reads, reads_gas
from pipeline.web import gas, show
from pipeline.web.asks import ROWS, SINGLE, Asks, chain_key

FORM: Final = "application/x-www-form-urlencoded"
SKIP_MAX: Final = 1_000_000
BLOCK_MOST: Final = 10**11  # off chain the place of a row is its time in ms, which is more
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
STATIC: Final[Mapping[str, str]] = {
    "style.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_KEPT: Final = ("retry-after", "www-authenticate", "allow")
_OTHERS: Final = ("/v1/", "/health", "/metrics", "/openapi.json")  # for programs, whatever they accept
Handler = Callable[[Request, Exception], Awaitable[Response]]


def add_pages(app: FastAPI, reads: Reads, keys: Keys) -> None:
    """Put the pages onto the interface's app, and friendly errors before those who look."""
    app.include_router(page_router(Asks(reads), keys))
    for kind in (ApiError, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, _dressed(app.exception_handlers[kind]))


def page_router(asks: Asks, keys: Keys) -> APIRouter:
    """The pages' addresses; none of them is in the API's document."""
    router = APIRouter(include_in_schema=False)
    for add in (_first_page, _assets, _chain_pages, _static):
        add(router, asks)
    _gas(router, asks, keys)
    return router


def page(
    template: str, /, code: int = 200, headers: Mapping[str, str] | None = None, **values: Any
) -> Response:
    """An HTML answer."""
    body = show.page(template, **values)
    return Response(body, code, {**(headers or {}), **HEADERS}, "text/html; charset=utf-8")


def _dressed(plain: Any) -> Handler:
    async def answer(request: Request, error: Exception) -> Response:
        told: Response = await plain(request, error)
        looks = "text/html" in request.headers.get("accept", "")
        if not looks or request.url.path.startswith(_OTHERS):
            return told
        what = orjson.loads(told.body)["error"]
        kept = {name: told.headers[name] for name in _KEPT if name in told.headers}
        return page("error.html", told.status_code, kept, status=told.status_code, error=what)

    return answer


def _text(text: str, name: str) -> str:
    """An id out of an address. Raises ApiError 422."""
    if not 0 < len(text) <= ID_MAX * 2:
        raise ApiError(422, "invalid", f"{name}: 1 to {ID_MAX * 2} characters", name)
    return text


def _skip(request: Request) -> int:
    """How many rows the page leaves out before its first. Raises ApiError 422."""
    text = request.query_params.get("skip") or "0"
    if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) > SKIP_MAX:
        raise ApiError(422, "invalid", f"skip: a number from 0 to {SKIP_MAX}", "skip")
    return int(text)


def _first_page(router: APIRouter, asks: Asks) -> None:
    @router.get("/")
    async def home() -> Response:
        return page("home.html", fresh=await asks.freshness(), block_most=BLOCK_MOST)

    @router.get("/search")
    async def search(request: Request) -> Response:
        text = _text((request.query_params.get("q") or " ").strip()[: ID_MAX * 2 + 1] or " ", "q").strip()
        found = await asks.search(text) if text else []
        if len(found) == 1:
            return RedirectResponse(f"/{quote(found[0].path, safe='/:')}", 303, HEADERS)
        return page("search.html", 200 if found else 404, asked=text, found=found)


def _assets(router: APIRouter, asks: Asks) -> None:
    @router.get("/assets/{asset:path}")
    async def asset_page(request: Request, asset: str) -> Response:
        asset, skip, may = _text(asset, "asset"), _skip(request), reads_gas(request)
        asset, own = await asks.named(asset)
        (rows, more), bound, days, holder = await asyncio.gather(
            asks.story(asset, skip, may), asks.bound(asset), asks.days(asset), asks.holder(asset)
        )
        state = bound if own is None else own
        if not rows and state is None:
            raise ApiError(404, "unknown_asset", f"there is no asset {asset[:120]!r}", "asset")
        told = show.asset(asset, state, rows, days, skip, holder)
        return page("asset.html", **told, skip=skip, more=more, step=ROWS, gas_left_out=not may)

    @router.get("/holders/{asset:path}")
    async def holders_page(request: Request, asset: str) -> Response:
        asset, skip = _text(asset, "asset"), _skip(request)
        asset, _ = await asks.named(asset)
        named = chain_key(asset)
        if named and named[1].startswith(SINGLE):
            return RedirectResponse(f"/assets/{quote(asset, safe='/:')}", 303, HEADERS)
        (rows, more), days = await asyncio.gather(asks.holders(asset, skip), asks.days(asset))
        if not rows and not days:
            raise ApiError(404, "unknown_asset", f"nobody holds or has held {asset[:120]!r}", "asset")
        told = show.holders(asset, rows, days, complete=skip == 0 and not more)
        return page("holders.html", **told, skip=skip, more=more, step=ROWS)


def _chain_pages(router: APIRouter, asks: Asks) -> None:
    @router.get("/owners/{owner:path}")
    async def owner_page(owner: str) -> Response:
        owner = _text(owner, "owner")
        assets, balances = await asks.owner(owner)
        if not assets and not balances:
            raise ApiError(404, "unknown_owner", f"nothing is known of an owner {owner[:120]!r}", "owner")
        return page("owner.html", owner=owner, assets=assets, balances=balances, most=ROWS)

    @router.get("/transactions/{name}")
    async def transaction_page(name: str) -> Response:
        rows = await asks.transaction(_text(name, "hash"))
        if not rows:
            raise ApiError(404, "unknown_transaction", f"there is no transaction {name[:80]!r}", "hash")
        return page("transaction.html", name=rows[0]["hash"], rows=rows)


def _static(router: APIRouter, asks: Asks) -> None:
    kept = {name: files("pipeline.web").joinpath("static", name).read_bytes() for name in STATIC}

    @router.get("/static/{name}")
    async def static(name: str) -> Response:
        if name not in kept:
            raise ApiError(404, "not_found", "there is no such file", "name")
        headers = {**HEADERS, "Cache-Control": "public, max-age=300"}
        return Response(kept[name], headers=headers, media_type=STATIC[name])


def _gas(router: APIRouter, asks: Asks, keys: Keys) -> None:
    async def answered(form: Mapping[str, str], client: Client | None) -> Response:
        wanted = gas.asked(form, datetime.now(UTC).date())
        shown: dict[str, Any] = {"asked": wanted, "groups": gas.GROUPS, "periods": gas.PERIODS}
        if client is None:
            return page("gas.html", **shown, tables=None)
        wanted = gas.allowed(client, wanted)
        tables = await gas.ask(asks.reads.clickhouse, wanted)
        return page(
            "gas.html", **{**shown, "asked": wanted}, tables=[show.gas_table(one, wanted) for one in tables]
        )

    @router.get("/gas")
    async def gas_page(request: Request) -> Response:
        return await answered(request.query_params, current(request))

    @router.post("/gas")
    async def gas_form(request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
            raise ApiError(415, "unsupported_media_type", f"send {FORM}", "Content-Type")
        try:
            form = dict(
                parse_qsl((await read_body(request)).decode(), keep_blank_values=True, max_num_fields=20)
            )
        except ValueError:
            raise ApiError(400, "bad_request", "the form cannot be read", "form") from None
        client = keys.find((form.pop("key", "") or "").strip())
        if client is None:
            raise ApiError(401, "unauthorized", "this API key is unknown or revoked", "key")
        return await answered(form, client)
