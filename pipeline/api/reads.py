"""Reads of applications: what is, and what led to it, out of ClickHouse.

Who may ask (S0's rules): assets, their states, transactions and events are public; gas, positions and accounts are
their owner's, or for a key with the scope: rows of gas in an asset's story are shown to scope gas:read alone. Lists go
on at `next`, a place in their order: what comes meanwhile repeats no row, and hides none that stays where it was. What
comes in before that place, or moves there, is on no later page, as CURSOR tells whoever asks.
ClickHouse is told some moments after an event is accepted: what an answer lacks is late, never lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path as FilePath
from typing import Annotated, Any, Final, TypeVar

import orjson
from fastapi import APIRouter, Path, Query
from starlette.requests import Request
from starlette.responses import Response

from pipeline.api import read_models as models
from pipeline.api.client import ROOT, ApiError, Client, current, required
from pipeline.api.read_assets import AssetReads
from pipeline.api.read_clickhouse import ClickHouse
from pipeline.api.read_models import CURSOR_MAX, ID_MAX, LIMIT, LIMIT_MAX
from pipeline.api.read_positions import PositionReads, authorization, position
from pipeline.api.read_tokens import TOKENS, TokenReads

T = TypeVar("T")
U = TypeVar("U")
GAS_READ: Final = "gas:read"
POSITIONS_READ: Final = "positions:read"
TOKENS_READ: Final = "tokens:read"
ANCHORS_READ: Final = "anchors:read"

Listing = Callable[[str, int, str | None], Awaitable[tuple[list[dict[str, Any]], str | None]]]
"""(whose, limit, cursor) → (rows, cursor of the next page)."""

Id = Annotated[str, Path(min_length=1, max_length=ID_MAX)]
Word = Annotated[str | None, Query(min_length=1, max_length=ID_MAX)]
Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Rows of a page.")]
CURSOR: Final = (
    "`next` of the page before: a place in the list's order. What has come in before that place meanwhile, such as an"
    " event with an earlier `at`, is on no later page; asked for anew, the list has it."
)
Cursor = Annotated[str | None, Query(max_length=CURSOR_MAX, description=CURSOR)]


class Reads:
    """All questions, over one ClickHouse."""

    def __init__(self, clickhouse_url: str = "", data_dir: FilePath | None = None) -> None:
        """`clickhouse_url`: http(s)://user:password@host:port/database; empty: what up.json in `data_dir` says."""
        self.clickhouse = ClickHouse(clickhouse_url, data_dir)
        self.assets = AssetReads(self.clickhouse)
        self.positions = PositionReads(self.clickhouse)
        self.tokens = TokenReads(self.clickhouse)

    async def close(self) -> None:
        """Let go of the connections."""
        await self.clickhouse.close()


def read_router(reads: Reads) -> APIRouter:
    """The endpoints."""
    router = APIRouter()
    for add in (_assets, _asset_lists, _gas, _positions, _accounts, _account_lists, _transfers):
        add(router, reads)
    return router


def answer(value: Any) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(value), media_type="application/json")


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    words = {
        400: "The cursor, or the question, is not one.", 401: "No API key.", 403: "It is not yours.",
        404: "There is no such thing.", 422: "A parameter is out of its bounds.", 503: "ClickHouse does not answer.",
    }  # fmt: skip
    return {status: {"model": models.Error, "description": words[status]} for status in statuses}


def reads_gas(request: Request) -> bool:
    """Whether who asks may read anybody's gas."""
    client = current(request)
    return client is not None and client.may(GAS_READ)


def _page(**parts: Any) -> Response:
    return answer(parts)


def _assets(router: APIRouter, reads: Reads) -> None:
    @router.get(
        "/v1/assets/{asset_id}",
        response_model=models.Asset,
        responses=_errors(404, 422, 503),
        tags=["assets"],
    )
    async def asset(asset_id: Id) -> Response:
        """An asset: its registry entry and its state."""
        return answer(await reads.assets.asset(asset_id))

    @router.get("/v1/assets", response_model=models.Assets, responses=_errors(400, 422, 503), tags=["assets"])
    async def assets(
        owner: Word = None, app: Word = None, type: Word = None, container: Word = None, limit: Limit = LIMIT,
        cursor: Cursor = None,
    ) -> Response:  # fmt: skip
        """Assets by id: an owner's (or holder's), an application's, of a type, in a container. A page may be short."""
        asked = {"owner": owner, "app": app, "type": type, "container": container}
        filters = {name: value for name, value in asked.items() if value is not None}
        found, after = await reads.assets.assets(filters, limit, cursor)
        return _page(assets=found, next=after)

    @router.get(
        "/v1/users/{user_id}/assets",
        response_model=models.Assets,
        responses=_errors(400, 422, 503),
        tags=["assets"],
    )
    async def assets_of(user_id: Id, limit: Limit = LIMIT, cursor: Cursor = None) -> Response:
        """What a user owns or holds units of; what changed last comes first.

        An asset that changes while pages are read moves to the front, where a later page does not come by. For a whole
        list ask `/v1/assets?owner=…`, which is by id.
        """
        found, after = await reads.assets.assets_of(user_id, limit, cursor)
        return _page(assets=found, next=after)


def _asset_lists(router: APIRouter, reads: Reads) -> None:
    errors = _errors(400, 404, 422, 503)

    async def listed(
        what: str, asset_id: str, limit: int, cursor: str | None, gas: bool = False
    ) -> tuple[list[Any], str | None]:
        found = await reads.assets.activity(what, asset_id, limit, cursor, gas)
        if not found[0]:
            await reads.assets.asset(asset_id)  # nothing of an asset that is, or no asset
        return found

    @router.get(
        "/v1/assets/{asset_id}/transactions",
        response_model=models.Transactions,
        responses=errors,
        tags=["assets"],
    )
    async def transactions(
        request: Request, asset_id: Id, limit: Limit = LIMIT, cursor: Cursor = None
    ) -> Response:
        """What was done to an asset, oldest first: applied transactions alone; those of gas with scope gas:read."""
        gas = reads_gas(request)
        found, after = await listed("transactions", asset_id, limit, cursor, gas)
        return _page(asset_id=asset_id, gas_left_out=not gas, transactions=found, next=after)

    @router.get(
        "/v1/assets/{asset_id}/events", response_model=models.Events, responses=errors, tags=["assets"]
    )
    async def events(asset_id: Id, limit: Limit = LIMIT, cursor: Cursor = None) -> Response:
        """What happened with an asset and changed nothing of it: scans, views, stories, comments, …"""
        found, after = await listed("events", asset_id, limit, cursor)
        return _page(asset_id=asset_id, events=found, next=after)

    @router.get(
        "/v1/assets/{asset_id}/provenance",
        response_model=models.Provenance,
        responses=errors,
        tags=["assets"],
    )
    async def provenance(
        request: Request, asset_id: Id, limit: Limit = LIMIT, cursor: Cursor = None
    ) -> Response:
        """An asset with all that happened to it and with it, in order; its gas with scope gas:read."""
        gas = reads_gas(request)
        asset, (found, after) = await _both(
            reads.assets.asset(asset_id), reads.assets.activity("history", asset_id, limit, cursor, gas)
        )
        return _page(asset=asset, gas_left_out=not gas, history=found, next=after)


async def _both(one: Awaitable[T], other: Awaitable[U]) -> tuple[T, U]:
    """Two questions at the same time; what the first raises comes first."""
    first, second = asyncio.ensure_future(one), asyncio.ensure_future(other)
    await asyncio.wait((first, second))
    if first.exception() is not None:
        second.exception()
    return first.result(), second.result()


def _gas(router: APIRouter, reads: Reads) -> None:
    @router.get(
        "/v1/users/{user_id}/gas", response_model=models.GasReport, responses=_errors(400, 401, 403, 422, 503),
        tags=["gas"],
    )  # fmt: skip
    async def gas(request: Request, user_id: Id, limit: Limit = LIMIT, cursor: Cursor = None) -> Response:
        """S0's gas report of a user, by currency: the user's own, or scope gas:read."""
        _own(required(request), user_id, GAS_READ)
        found, after = await reads.assets.gas(user_id, limit, cursor)
        return _page(gas=found, next=after)

    @router.get(
        "/v1/gas-report",
        response_model=models.GasReport,
        responses=_errors(400, 401, 403, 422, 503),
        tags=["gas"],
    )
    async def gas_report(request: Request, limit: Limit = LIMIT, cursor: Cursor = None) -> Response:
        """The same of all users: scope gas:read."""
        required(request, GAS_READ)
        found, after = await reads.assets.gas(None, limit, cursor)
        return _page(gas=found, next=after)


def _positions(router: APIRouter, reads: Reads) -> None:
    @router.get(
        "/v1/ledger-events", response_model=models.LedgerEvents, responses=_errors(400, 401, 403, 404, 422, 503),
        tags=["positions"],
    )  # fmt: skip
    async def ledger_events(
        request: Request, positionId: Word = None, limit: Limit = LIMIT, cursor: Cursor = None
    ) -> Response:
        """S1: ledger events by `at`, then as they came in; of one position for its owner, of all for root alone."""
        client = required(request)
        if ROOT not in client.scopes:
            if positionId is None:
                raise ApiError(
                    400, "missing", "positionId is needed: all events are for root alone", "positionId"
                )
            _party(client, await reads.positions.held(positionId))
        found, after = await reads.positions.ledger_events(positionId, limit, cursor)
        if positionId is not None and not found:
            await reads.positions.held(positionId)
        return _page(events=found, next=after)

    @router.get(
        "/v1/positions/{position_id}", response_model=models.Position, responses=_errors(401, 403, 404, 422, 503),
        tags=["positions"],
    )  # fmt: skip
    async def one_position(request: Request, position_id: Id) -> Response:
        """S1: a position, for its owner or scope positions:read."""
        client = required(request)
        value = await reads.positions.held(position_id)
        _party(client, value, POSITIONS_READ)
        return answer(position(position_id, value))

    @router.get(
        "/v1/authorizations/{authorization_id}", response_model=models.Authorization,
        responses=_errors(401, 403, 404, 422, 503), tags=["anchors"],
    )  # fmt: skip
    async def one_authorization(request: Request, authorization_id: Id) -> Response:
        """S4: an authorization, for its user, its merchant, or scope anchors:read."""
        client = required(request)
        value = await reads.positions.state("anchors", "authorization", authorization_id)
        if value is None:
            told = f"there is no authorization {authorization_id[:80]!r}"
            raise ApiError(404, "unknown_authorization", told, "authorization_id")
        _own(client, (value.get("user"), value.get("merchant")), ANCHORS_READ)
        return answer(authorization(authorization_id, value))


def _accounts(router: APIRouter, reads: Reads) -> None:
    errors = _errors(401, 403, 404, 422, 503)

    @router.get(
        "/v1/accounts/{account_id}/balances",
        response_model=models.Balances,
        responses=errors,
        tags=["tokens"],
    )
    async def balances(request: Request, account_id: Id) -> Response:
        """S3: what an account may use and what is locked, by token type."""
        await _of_account(request, reads, account_id)
        return answer({"account_id": account_id, "balances": await reads.tokens.balances(account_id)})

    @router.get(
        "/v1/accounts/{account_id}/reputation",
        response_model=models.Reputation,
        responses=errors,
        tags=["tokens"],
    )
    async def reputation(request: Request, account_id: Id) -> Response:
        """S3: an account's reputation."""
        await _of_account(request, reads, account_id)
        found, _ = await reads.tokens.positions(account_id, "reputation", LIMIT_MAX, None)
        scores = await reads.tokens.scores(account_id)
        return answer({"account_id": account_id, "positions": found, "scores": scores})


def _account_lists(router: APIRouter, reads: Reads) -> None:
    tokens = reads.tokens
    lists: tuple[tuple[str, type, str, str, Listing, str], ...] = (
        ("shares", models.TokenPositions, "account_id", "positions", _kind(tokens, "purchase_order"),
         "S3: shares of purchase orders."),
        ("guarantees", models.TokenPositions, "account_id", "positions", _kind(tokens, "escrow"),
         "S3: what is locked as a guarantee."),
        ("votes", models.Votes, "account_id", "votes", tokens.votes, "S3: votes that the account cast."),
        ("statement", models.Statement, "owner", "transfers", _movements(tokens),
         "S3: movements of the account's tokens, oldest first."),
    )  # fmt: skip
    for name, model, owner, rows, ask, told in lists:
        router.add_api_route(
            f"/v1/accounts/{{account_id}}/{name}", _account_list(reads, owner, rows, ask), name=name,
            response_model=model, responses=_errors(400, 401, 403, 404, 422, 503), tags=["tokens"], description=told,
        )  # fmt: skip


def _account_list(reads: Reads, owner: str, rows: str, ask: Listing) -> Callable[..., Awaitable[Response]]:
    """One page of what an account has, for its owner or scope tokens:read."""

    async def page(request: Request, account_id: Id, limit: Limit = LIMIT, cursor: Cursor = None) -> Response:
        await _of_account(request, reads, account_id)
        found, after = await ask(account_id, limit, cursor)
        return _page(**{owner: account_id, rows: found}, next=after)

    return page


def _kind(tokens: TokenReads, kind: str) -> Listing:
    """Positions of one kind."""
    return lambda account_id, limit, cursor: tokens.positions(account_id, kind, limit, cursor)


def _movements(tokens: TokenReads) -> Listing:
    return lambda account_id, limit, cursor: tokens.transfers(account_id, TOKENS, limit, cursor)


def _transfers(router: APIRouter, reads: Reads) -> None:
    @router.get(
        "/v1/users/{user_id}/transfers", response_model=models.Statement, responses=_errors(400, 401, 403, 422, 503),
        tags=["anchors"],
    )  # fmt: skip
    async def transfers(
        request: Request, user_id: Id, limit: Limit = LIMIT, cursor: Cursor = None
    ) -> Response:
        """Transfers of a user in the off-chain books, oldest first: the user's own, or scope anchors:read."""
        _own(required(request), user_id, ANCHORS_READ)
        found, after = await reads.tokens.transfers(user_id, "offchain/", limit, cursor)
        return _page(owner=user_id, transfers=found, next=after)


async def _of_account(request: Request, reads: Reads, account_id: str) -> None:
    """The account's owner, or scope tokens:read. Raises ApiError 401, 404, 403."""
    client = required(request)
    account = await reads.tokens.account(account_id)
    _own(client, account.get("owner_id"), TOKENS_READ)


def _party(client: Client, held: Mapping[str, Any], scope: str = "") -> None:
    """The position's institution or holder, or who has the scope; root always. Raises ApiError 403."""
    if ROOT not in client.scopes:
        _own(client, (held["institution_id"], held["holder_reference"]), scope)


def _own(client: Client, owners: Any, scope: str) -> None:
    """Raises ApiError 403 unless it is the client's own, or it has the scope."""
    mine = client.user_id != "" and client.user_id in (owners if isinstance(owners, tuple) else (owners,))
    if not mine and not (scope and client.may(scope)):
        needs = f"; this key lacks the scope {scope}" if scope else ""
        raise ApiError(403, "forbidden", f"this is not of the key's own user{needs}")
