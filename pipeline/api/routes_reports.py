"""Reports by HTTP: the gas report, an asset's provenance, the parts of the compliance export.

Who may ask (S0's and S1's rules): provenance is public but for its rows of gas, gas its owner's own or scope gas:read,
compliance for root alone. As `json` an answer has at most ROWS_MAX rows and says whether there are more; the other
formats are whole and come as ClickHouse makes them, block by block. At most DOWNLOADS_MAX of those are under way at
once: who comes when all are taken is told to come again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

import orjson
from fastapi import APIRouter, Path, Query
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from pipeline.api import read_models as models
from pipeline.api.client import ROOT, ApiError, current, required
from pipeline.api.read_clickhouse import ClickHouse
from pipeline.api.reads import GAS_READ, reads_gas
from pipeline.reports import compliance, gas, provenance
from pipeline.reports.files import header
from pipeline.reports.question import WORD_MAX, BadQuestion, Report, period
from sinks.raw_format import exactly

ROWS_MAX: Final = 1000
DOWNLOADS_MAX: Final = 2
DESCRIBED_S: Final = 30.0  # a report's columns are asked again, for a newer release may have changed a view
_TYPES: Final = {
    "csv": "text/csv; charset=utf-8; header=present",
    "jsonl": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
}
Row = dict[str, Any]
Day = Annotated[
    str | None, Query(pattern=r"^\d{4}-\d{2}-\d{2}$", description="A day (UTC), included; default: no bound.")
]
Word = Annotated[str | None, Query(min_length=1, max_length=WORD_MAX)]
Format = Annotated[
    Literal["json", "csv", "jsonl", "parquet"], Query(description="json has at most 1000 rows.")
]


class GasRow(models.Model):
    """Fees of one key (`owner`, `app_id`, `asset_id`, `day` or `month`) on one chain; sums in smallest units."""

    chain: str
    chain_number: int
    owner: str | None = None
    app_id: str | None = None
    asset_id: str | None = None
    day: str | None = None
    month: str | None = None
    transactions: int
    fee_paid: str
    fee_burnt: str | None = Field(description="null: of some transaction nobody knows it.")
    total_gas_required: str
    total_gas_paid_by_user: str
    total_gas_paid_by_treasury: str
    coverage: str | None = Field(description="The treasury's part of what was required; null: nothing was.")
    coin: str
    required: str | None = Field(description="Whole coins; null: the coin's decimals are unknown.")
    paid_by_user: str | None
    paid_by_treasury: str | None
    burnt: str | None


class GasAnswer(models.Model):
    """S0's gas report. `truncated`: there are more rows; ask for a shorter period, or for csv, jsonl or parquet."""

    by: str
    rows: list[GasRow]
    truncated: bool


class ProvenanceAnswer(models.Model):
    """All that happened to an asset, oldest first, each row with its place in topic and chain."""

    asset: str
    gas_left_out: models.GasLeftOut
    rows: list[dict[str, Any]]
    truncated: bool


class ComplianceAnswer(models.Model):
    """A part of S1's compliance export."""

    part: str
    rows: list[dict[str, Any]]
    truncated: bool


@dataclass(frozen=True)
class ReportReads:
    """What the routes ask of ClickHouse."""

    clickhouse: ClickHouse
    downloads: asyncio.Semaphore
    _described: dict[str, tuple[float, dict[str, str]]] = field(default_factory=dict)  # SQL → when, columns

    async def _types(self, report: Report) -> dict[str, str]:
        """Column → type, whatever the parameters are; asked once in DESCRIBED_S: it costs as much as the answer."""
        found = self._described.get(report.sql)
        if found is None or time.monotonic() - found[0] > DESCRIBED_S:
            types = await self.clickhouse.columns(report.sql, report.parameters)
            found = self._described[report.sql] = (time.monotonic(), types)
        return found[1]

    async def rows(self, report: Report) -> tuple[list[Row], bool]:
        """(the first ROWS_MAX rows, whether there are more)."""
        types = await self._types(report)
        sql = f"{exactly(report.sql, types)}\nLIMIT {ROWS_MAX + 1}"
        blocks = self.clickhouse.stream(sql, report.parameters, "JSONEachRow", report.final)
        found = [orjson.loads(line) for line in b"".join([block async for block in blocks]).splitlines()]
        return found[:ROWS_MAX], len(found) > ROWS_MAX

    async def answer(self, report: Report, fmt: str, name: str, **head: Any) -> Response:
        """As JSON, or as a file to download."""
        if fmt == "json":
            rows, more = await self.rows(report)
            return Response(
                orjson.dumps({**head, "rows": rows, "truncated": more}), media_type="application/json"
            )
        return await self.download(report, fmt, name)

    async def download(self, report: Report, fmt: str, name: str) -> Response:
        """The whole report; what is wrong with the question shows before the first byte."""
        if self.downloads.locked():
            raise ApiError(503, "busy", "too many downloads are under way; try again", Retry_After="5")
        await self.downloads.acquire()
        try:
            types = await self._types(report)
            sql, kind = exactly(report.sql, types), compliance.FORMATS[fmt][0]
            blocks = self.clickhouse.stream(sql, report.parameters, kind, report.final)
            first = await anext(blocks, b"")
        except BaseException:
            self.downloads.release()
            raise
        start = header(types) + first if fmt == "csv" else first
        told = {"Content-Disposition": f'attachment; filename="{name}.{compliance.FORMATS[fmt][1]}"'}
        return _Download(self.downloads, _all(start, blocks), media_type=_TYPES[fmt], headers=told)


class _Download(StreamingResponse):
    """A download that gives its place back, also where its reader has gone before the first byte."""

    def __init__(self, places: asyncio.Semaphore, *content: Any, **more: Any) -> None:
        super().__init__(*content, **more)
        self._places = places

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._places.release()


async def _all(start: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield start
    async for block in rest:
        yield block


def report_router(clickhouse: ClickHouse) -> APIRouter:
    """The endpoints."""
    router, reads = APIRouter(), ReportReads(clickhouse, asyncio.Semaphore(DOWNLOADS_MAX))
    for add in (_gas, _provenance, _compliance):
        add(router, reads)
    return router


def _described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    words = {
        401: "No API key.", 403: "It is not yours.", 404: "Nothing is known of it.",
        422: "A parameter is not one.", 503: "ClickHouse does not answer, or too much is under way.",
    }  # fmt: skip
    files = {kind.partition(";")[0]: {"schema": {"type": "string"}} for kind in _TYPES.values()}
    made: dict[int | str, dict[str, Any]] = {200: {"content": files}}
    for status in statuses:
        made[status] = {"model": models.Error, "description": words[status]}
    return made


def _asked(make: Callable[[], Any]) -> Any:
    """What is asked. Raises ApiError 422 naming the parameter."""
    try:
        return make()
    except BadQuestion as error:
        raise ApiError(422, "invalid", error.detail, error.field) from None


def _gas(router: APIRouter, reads: ReportReads) -> None:
    @router.get(
        "/v1/reports/gas", response_model=GasAnswer, responses=_described(401, 403, 422, 503), tags=["reports"]
    )  # fmt: skip
    async def gas_report(
        request: Request,
        by: Annotated[Literal["user", "app", "asset", "day", "month"], Query(description="A row per …")] = "user",
        first: Annotated[Day, Query(alias="from")] = None,
        last: Annotated[Day, Query(alias="to")] = None,
        owner: Word = None, chain: Word = None, app: Word = None, asset: Word = None,
        verified: Annotated[bool, Query(description="Only verified blocks.")] = False,
        format: Format = "json",
    ) -> Response:  # fmt: skip
        """S0's gas report by user, application, asset, day or month: one's own (owner), or scope gas:read."""
        client = required(request)
        if not owner or owner != client.user_id:
            required(request, GAS_READ)
        question = _asked(
            lambda: gas.gas_question(by, period(first, last), owner, chain, app, asset, verified)
        )  # fmt: skip
        return await reads.answer(gas.gas_report(question), format, f"gas-by-{by}", by=by)


def _provenance(router: APIRouter, reads: ReportReads) -> None:
    @router.get(
        "/v1/reports/provenance/{asset:path}", response_model=ProvenanceAnswer, responses=_described(404, 422, 503),
        tags=["reports"],
    )  # fmt: skip
    async def provenance_report(
        request: Request, asset: Annotated[str, Path(min_length=1, max_length=WORD_MAX)], chain: Word = None,
        format: Format = "json",
    ) -> Response:  # fmt: skip
        """The whole story of an asset: its key (<chain>/nft:…), that or its id on `chain`, or its id in an application.

        Rows of gas are left out but for scope gas:read. For root also that of a position, or of an asset of S1 over all
        its positions.
        """
        may = reads_gas(request)
        keys = _asked(lambda: provenance.meanings(asset, *([chain] if chain else [])))
        client = current(request)
        private = client is not None and ROOT in client.scopes
        for key in [*keys, None] if private else keys:
            if key is None:
                key, report = asset, provenance.of_positions(asset)
            else:
                known, _ = await reads.rows(provenance.known(key))
                report = provenance.provenance(key, gas=may, applications=bool(known))
            rows, more = await reads.rows(report)
            if rows and format == "json":
                told = {"asset": key, "gas_left_out": not may, "rows": rows, "truncated": more}
                return Response(orjson.dumps(told), media_type="application/json")
            if rows:
                answer = await reads.download(report, format, "provenance")
                if not may:
                    answer.headers["X-Tidebook-Left-Out"] = "gas"
                return answer
        raise ApiError(404, "unknown_asset", f"nothing is known of {asset[:80]!r}", "asset")


def _compliance(router: APIRouter, reads: ReportReads) -> None:
    @router.get(
        "/v1/reports/compliance", response_model=ComplianceAnswer, responses=_described(401, 403, 422, 503),
        tags=["reports"],
    )  # fmt: skip
    async def compliance_part(
        request: Request,
        part: Annotated[Literal["transfers", "state_changes", "audit_trail", "regulatory"], Query()],
        first: Annotated[str, Query(alias="from", pattern=r"^\d{4}-\d{2}-\d{2}$", description="First day (UTC).")],
        last: Annotated[str, Query(alias="to", pattern=r"^\d{4}-\d{2}-\d{2}$", description="Last day, included.")],
        format: Format = "csv",
    ) -> Response:  # fmt: skip
        """A part of S1's compliance export, for root alone; signed with a manifest: `tidebook compliance-export`."""
        if ROOT not in required(request).scopes:
            raise ApiError(403, "forbidden", f"this key lacks the scope {ROOT}")
        asked = _asked(lambda: period(first, last))
        return await reads.answer(compliance.part(part, asked), format, part, part=part)
