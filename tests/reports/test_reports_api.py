"""The reports by HTTP: who may ask, what is answered, downloads; the answers keep to their models and the document."""

import asyncio
import csv
import io
import json
from typing import Any

import aiohttp
import httpx
import pyarrow.parquet
import pytest
from starlette.requests import ClientDisconnect

from pipeline.api import read_models, routes_reports
from pipeline.api.app import make_fastapi
from pipeline.api.openapi import document
from pipeline.api.read_clickhouse import ClickHouse
from pipeline.api.reads import Reads
from pipeline.api.routes_reports import (
    ComplianceAnswer,
    GasAnswer,
    ProvenanceAnswer,
    ReportReads,
    report_router,
)
from pipeline.catalog import APPLICATIONS
from pipeline.reports.gas import GasQuestion, gas_report
from pipeline.web.asks import Asks, Fresh
from tests.support import asking
from tests.support.report_scene import EVM, XRPL, ReportScene

pytestmark = pytest.mark.xdist_group("reports")

MODELS = {"gas": GasAnswer, "provenance": ProvenanceAnswer, "compliance": ComplianceAnswer}
PERIOD = "from=2026-01-01&to=2026-03-31"


def ask(scene: ReportScene, *paths: str, who: str = "root") -> list[httpx.Response]:
    """Answers to requests sent at once."""
    return asking.ask(scene.world, *(f"/v1/reports/{path}" for path in paths), who=who)


def told(scene: ReportScene, path: str, who: str = "root", status: int = 200) -> Any:
    """The answer's body, in the form that its model says."""
    body = asking.told(scene.world, f"/v1/reports/{path}", who, status)
    model = MODELS[path.partition("?")[0].partition("/")[0]] if status == 200 else read_models.Error
    assert model.model_validate(body)
    return body


def test_gas_is_as_the_view_has_it(scene: ReportScene) -> None:
    body = told(scene, f"gas?by=month&chain={EVM}", "gas")
    (row,) = scene.rows(f"SELECT sum(fee) AS fee, count() AS n FROM gas_ledger FINAL WHERE chain = '{EVM}'")
    assert (body["by"], body["truncated"]) == ("month", False)
    assert [(one["month"], one["fee_paid"], one["transactions"]) for one in body["rows"]] == [
        ("2023-05-01", row["fee"], row["n"])
    ]
    assert told(scene, f"gas?chain={EVM}&verified=true")["rows"] == []
    assert len(told(scene, f"gas?chain={EVM}")["rows"]) == 103


def test_who_may_ask(scene: ReportScene) -> None:
    assert told(scene, "gas?owner=alice", "alice")["rows"][0]["total_gas_required"] == "37"
    for path, who, status in (
        ("gas", "", 401), ("gas", "nobody", 403), ("gas", "alice", 403), ("gas?owner=bob", "alice", 403),
        ("gas?owner=alice", "", 401), ("gas", "service", 403), (f"compliance?part=transfers&{PERIOD}", "", 401),
        (f"compliance?part=transfers&{PERIOD}", "service", 403), (f"compliance?part=transfers&{PERIOD}", "gas", 403),
    ):  # fmt: skip
        told(scene, path, who, status)
    assert told(scene, "provenance/card-1", "")["rows"]


def test_provenance_of_anything(scene: ReportScene) -> None:
    nft = scene.rows(
        f"SELECT asset FROM asset_changes WHERE chain = '{XRPL}' AND asset LIKE '%/nft:%' LIMIT 1"
    )[0]["asset"]
    whole = told(scene, f"provenance/{nft}", "")
    assert whole["asset"] == nft and whole["rows"][0]["action"] == "minted"
    assert told(scene, f"provenance/{nft.rpartition(':')[2]}?chain={XRPL}", "") == whole
    assert told(scene, "provenance/nothing", "", 404)["error"]["field"] == "asset"
    (row,) = scene.rows("SELECT asset FROM asset_changes WHERE asset LIKE '%/erc721:%' LIMIT 1")
    chain, _, short = row["asset"].partition("/")
    shown = "erc721:0x" + short.removeprefix("erc721:0x").upper()
    for path in (f"provenance/{chain}/{shown}", f"provenance/{shown}?chain={chain}"):
        assert told(scene, path, "")["asset"] == row["asset"]


def test_a_story_of_positions_is_not_everybodys(scene: ReportScene) -> None:
    rows = told(scene, "provenance/project", "root")["rows"]
    assert {row["about"] for row in rows} == {"project", "pos-1", "pos-2"}
    for who in ("", "alice", "gas"):
        assert told(scene, "provenance/project", who, 404)["error"]["field"] == "asset"


def test_gas_stands_in_a_story_for_the_scope_alone(scene: ReportScene) -> None:
    """As JSON and as a file: who may not read it gets all other rows, and is told so."""
    whole = told(scene, "provenance/card-1", "gas")
    rest = [row for row in whole["rows"] if not row["type"].startswith("INTERNAL_GAS")]
    assert len(rest) < len(whole["rows"]) and not whole["gas_left_out"]
    for who in ("", "nobody", "bob", "service"):
        body = told(scene, "provenance/card-1", who)
        assert body["rows"] == rest and body["gas_left_out"]
    for who, rows, said in (("", rest, "gas"), ("gas", whole["rows"], None)):
        (file,) = ask(scene, "provenance/card-1?format=jsonl", who=who)
        assert [json.loads(line)["event_id"] for line in file.text.splitlines()] == [
            row["event_id"] for row in rows
        ]
        assert file.headers.get("x-tidebook-left-out") == said


def test_downloads_are_whole_in_every_format(scene: ReportScene) -> None:
    paths = [
        f"compliance?part=audit_trail&{PERIOD}&format={fmt}" for fmt in ("json", "csv", "jsonl", "parquet")
    ]
    answers = [ask(scene, path)[0] for path in paths]
    assert [answer.status_code for answer in answers] == [200] * 4
    body, plain, lines, columnar = answers
    ids = [row["event_id"] for row in body.json()["rows"]]
    assert len(ids) == 52 and not body.json()["truncated"]
    assert [row["event_id"] for row in csv.DictReader(io.StringIO(plain.text))] == ids
    assert [json.loads(line)["event_id"] for line in lines.text.splitlines()] == ids
    table = pyarrow.parquet.read_table(io.BytesIO(columnar.content))
    assert table.column("event_id").to_pylist() == ids
    assert plain.headers["content-disposition"] == 'attachment; filename="audit_trail.csv"'
    assert (
        ask(scene, "compliance?part=transfers&from=1999-01-01&to=1999-01-02&format=csv")[0].text.count("\n")
        == 1
    )


def test_wrong_parameters_are_named(scene: ReportScene) -> None:
    for path, field in (
        ("gas?by=year", "by"), ("gas?from=1.1.2026", "from"), ("gas?from=2026-13-01", "from"), ("gas?owner=", "owner"),
        ("gas?from=2026-02-01&to=2026-01-01", "to"), ("gas?format=xml", "format"),
        (f"compliance?part=x&{PERIOD}", "part"),
        ("compliance?part=transfers&from=2026-01-01", "to"), ("gas?app=a%00b", "app"), ("provenance/a%00b", "asset"),
    ):  # fmt: skip
        assert told(scene, path, status=422)["error"]["field"] == field, path


def test_a_long_answer_says_that_there_is_more(scene: ReportScene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes_reports, "ROWS_MAX", 5)
    body = told(scene, f"gas?chain={EVM}")
    assert len(body["rows"]) == 5 and body["truncated"]
    assert ask(scene, f"gas?chain={EVM}&format=jsonl")[0].text.count("\n") == 103


def test_a_reports_columns_are_asked_once(scene: ReportScene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is asked of; again when they are old."""
    described: list[str] = []
    columns = ClickHouse.columns

    async def counted(self: ClickHouse, sql: str, parameters: Any) -> dict[str, str]:
        described.append(sql)
        return await columns(self, sql, parameters)

    async def twice() -> list[Any]:
        reads = ReportReads(ClickHouse(scene.world.port.url), asyncio.Semaphore(1))
        asked = (GasQuestion(chain=chain) for chain in (EVM, XRPL))
        found = [(await reads.rows(gas_report(one)))[0] for one in asked]
        await reads.clickhouse.close()
        return found

    monkeypatch.setattr(ClickHouse, "columns", counted)
    of_evm, of_xrpl = asyncio.run(twice())
    assert len(described) == 1 and {row["chain"] for row in of_evm} == {EVM}
    assert {row["chain"] for row in of_xrpl} == {XRPL} and isinstance(of_xrpl[0]["fee_paid"], str)
    monkeypatch.setattr(routes_reports, "DESCRIBED_S", -1.0)
    asyncio.run(twice())
    assert len(described) == 3


def test_only_some_downloads_at_once(scene: ReportScene) -> None:
    """Who comes when all are taken is told to come again; afterwards there is room."""
    path = f"gas?chain={EVM}&format=csv"
    answers = ask(scene, *[path] * 8)
    assert {answer.status_code for answer in answers} <= {200, 503} and answers[0].status_code == 200
    for answer in answers:
        if answer.status_code == 503:
            assert answer.json()["error"]["reason"] == "busy" and answer.headers["retry-after"] == "5"
    assert ask(scene, path)[0].status_code == 200


def test_who_goes_before_the_first_byte_gives_his_place_back(scene: ReportScene) -> None:
    async def gone(*_: Any) -> Any:
        raise OSError("the reader has gone")

    async def ask_and_go() -> bool:
        clickhouse = ClickHouse(scene.world.port.url)
        reads = ReportReads(clickhouse, asyncio.Semaphore(1))
        answer = await reads.download(gas_report(GasQuestion()), "csv", "gas")
        with pytest.raises(ClientDisconnect):
            await answer({"type": "http", "asgi": {"spec_version": "2.4"}}, gone, gone)
        await clickhouse.close()
        return reads.downloads.locked()

    assert not asyncio.run(ask_and_go())


def test_what_breaks_on_its_way_never_looks_whole(scene: ReportScene) -> None:
    """The connection is cut: no reader takes what came for all there was."""

    async def read() -> int:
        clickhouse = ClickHouse(scene.world.port.url)
        size = 0
        try:
            async for part in clickhouse.stream(
                "SELECT throwIf(number = 900000) AS n FROM numbers(1000000)", {}, "CSV"
            ):
                size += len(part)
        finally:
            await clickhouse.close()
        return size

    with pytest.raises((aiohttp.ClientError, RuntimeError)):
        asyncio.run(read())


def test_clickhouse_away_is_a_503(scene: ReportScene) -> None:
    async def away() -> httpx.Response:
        reads = Reads("http://127.0.0.1:1")
        async with asking.asker(reads, "root") as client:
            answers = [await client.get("/v1/reports/gas?format=csv") for _ in range(3)]
        await reads.close()
        assert {answer.status_code for answer in answers} == {503}
        return answers[-1]

    assert asyncio.run(away()).json()["error"]["reason"] == "history_unavailable"


def test_they_stand_in_the_document(scene: ReportScene) -> None:
    made = document(make_fastapi([report_router(ClickHouse())]), APPLICATIONS, "test")
    gas = made["paths"]["/v1/reports/gas"]["get"]
    assert {one["name"] for one in gas["parameters"]} == {
        "by", "from", "to", "owner", "chain", "app", "asset", "verified", "format",
    }  # fmt: skip
    assert set(gas["responses"]["200"]["content"]) == {
        "application/json", "text/csv", "application/x-ndjson", "application/vnd.apache.parquet",
    }  # fmt: skip
    assert {"/v1/reports/provenance/{asset}", "/v1/reports/compliance"} <= set(made["paths"])


def test_the_first_page_shows_both_chains(scene: ReportScene) -> None:
    """The last transactions of each, newest first, failed ones with their result."""

    async def fresh() -> Fresh:
        reads = Reads(scene.world.port.url)
        try:
            return await Asks(reads).freshness()
        finally:
            await reads.close()

    told = asyncio.run(fresh())
    assert {row["chain"] for row in told.chains} == {XRPL, EVM}
    for chain, table, block in (
        (XRPL, "xrpl_transactions", "ledger_index"),
        (EVM, "evm_transactions", "block_number"),
    ):
        held = scene.rows(f"SELECT hash FROM {table} ORDER BY {block} DESC, transaction_index DESC LIMIT 8")
        assert [row["hash"] for row in told.latest if row["chain"] == chain] == [row["hash"] for row in held]
    statuses = {row["hash"]: row["status"] for row in scene.rows("SELECT hash, status FROM evm_transactions")}
    results = {row["hash"]: row["result"] for row in told.latest if row["chain"] == EVM}
    assert results and results == {hash: ("failed", "success")[statuses[hash]] for hash in results}
