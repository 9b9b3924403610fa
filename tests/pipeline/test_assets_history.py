"""S0's tables in ClickHouse, filled from applications' events: registry, transactions, social events, gas, sync log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.catalog.assets import ASSETS
from pipeline.domain.applications.event import AppEvent
from sinks.clickhouse import ClickHouseHistory
from tests.support.applications import TestFold, event, fold_of, outcome_of, record_of
from tests.support.history import history, message

TX = "2" * 64
NFT = f"xrpl:0/nft:{'A' * 64}"
GAS = {"currency": "XRP", "payer_user_id": "ann"}


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseHistory]:
    with history(Path(tmp_path_factory.mktemp("assets") / "ch")) as opened:
        fold = fold_of(ASSETS)
        _fill(opened, fold)
        fold.close()
        yield opened


def _story() -> Iterator[AppEvent]:
    told = [
        ("USER_REGISTERED", "ann", {"addresses": ["xrpl:0/rAnn"]}, {}),
        ("USER_REGISTERED", "bob", {}, {}),
        ("APP_REGISTERED", "app", {"title": "App", "treasuries": ["xrpl:0/rT"]}, {}),
        ("ASSET_REGISTERED", "card", {
            "asset_type": "card", "title": "Card", "owner_user_id": "ann", "nfc_uuid": "04-AA", "token": NFT,
        }, {"app_id": "app"}),
        ("MINTED", "card", {}, {"app_id": "app"}),
        ("INTERNAL_GAS_CHARGE", "card", {
            **GAS, "gas_required": "12", "gas_paid_by_user": "5", "gas_paid_by_treasury": "7",
            "related_transaction_id": "e5",
        }, {"app_id": "app"}),
        ("INTERNAL_GAS_COVERAGE", "card", {
            **GAS, "gas_required": "30", "gas_paid_by_user": "0", "gas_paid_by_treasury": "30", "treasury_tx_hash": TX,
        }, {"app_id": "app"}),
        ("INTERNAL_GAS_CHARGE", "card", {
            **GAS, "currency": "ETH", "gas_required": "100", "gas_paid_by_user": "100", "gas_paid_by_treasury": "0",
        }, {"app_id": "app"}),
        ("INTERNAL_GAS_CHARGE", "card", {  # refused: the related transaction is none
            **GAS, "gas_required": "9000", "gas_paid_by_user": "9000", "gas_paid_by_treasury": "0",
            "related_transaction_id": "nobody's",
        }, {"app_id": "app"}),
        ("FRACTIONED", "card", {"fraction_count": 1000}, {"user_id": "ann"}),
        ("LISTED", "card", {"price": "0.05", "currency": "USD", "units": "400"}, {"user_id": "ann"}),
        ("SOLD", "card", {
            "to_user_id": "bob", "from_user_id": "ann", "price": "0.050", "currency": "USD", "units": "150",
        }, {}),
        ("COMMENT_ADDED", "card", {"comment_id": "c-1", "reply_to": "c-0"}, {"user_id": "bob"}),
        ("CHAIN_OBSERVED", f"xrpl:0/tx:{TX}", {
            "kind": "fee", "chain": "xrpl:0", "action": "paid", "from_address": "xrpl:0/rT", "amount": "30",
            "tx_hash": TX, "block": 9, "transaction_index": 1, "change_index": 0,
        }, {"source": "chain:xrpl:0"}),
    ]  # fmt: skip
    for place, (type, key, data, envelope) in enumerate(told, 1):
        yield event(ASSETS, type, key, 1_767_614_400_000 + place, data, id=f"e{place}", **envelope)  # type: ignore[arg-type]


def _fill(sink: ClickHouseHistory, fold: TestFold) -> None:
    events = list(_story())
    outcomes = [outcome_of(fold, judged) for judged in fold.apply(events)]
    assert [one.record["event_id"] for one in outcomes if one.record["status"] == "refused"] == ["e9"]
    records = [record_of(ASSETS, one) for one in events]
    messages = [message(one, place, ASSETS.topic) for place, one in enumerate(records)]
    told = [message(dict(one.record), place, one.topic) for place, one in enumerate(outcomes)]
    for batch in (messages, told):
        sink.write("e", batch)
        sink.flush()


def _rows(sink: ClickHouseHistory, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in sink.query(sql)]


def test_the_registry_has_one_row_per_entry(sink: ClickHouseHistory) -> None:
    columns = (
        "asset_id, app_id, asset_type, title, nfc_uuid, mpt_issuance_id, token, owner_user_id, custody_type"
    )
    assert _rows(sink, f"SELECT {columns} FROM asset_registry") == [
        ("card", "app", "card", "Card", "04-AA", None, NFT, "ann", "managed")
    ]


def test_transactions_have_what_their_type_says(sink: ClickHouseHistory) -> None:
    columns = "type, from_user_id, to_user_id, units, fraction_count, price, currency, tx_hash"
    rows = _rows(sink, f"SELECT {columns} FROM asset_transactions ORDER BY at")
    assert [row for row in rows if not row[0].startswith("INTERNAL")] == [
        ("MINTED", None, None, None, None, None, None, None),
        ("FRACTIONED", None, None, None, 1000, None, None, None),
        ("LISTED", None, None, "400", None, "0.05", "USD", None),
        ("SOLD", "ann", "bob", "150", None, "0.050", "USD", None),
    ]
    assert [(row[0], row[1], row[6], row[7]) for row in rows if row[0].startswith("INTERNAL")] == [
        ("INTERNAL_GAS_CHARGE", "ann", "XRP", None),
        ("INTERNAL_GAS_COVERAGE", "ann", "XRP", TX),
        ("INTERNAL_GAS_CHARGE", "ann", "ETH", None),
        ("INTERNAL_GAS_CHARGE", "ann", "XRP", None),
    ]
    ((payload,),) = _rows(sink, "SELECT payload FROM asset_transactions WHERE type = 'SOLD'")
    assert orjson.loads(payload) == {
        "to_user_id": "bob", "from_user_id": "ann", "price": "0.050", "currency": "USD", "units": "150",
        "marketplace": None,
    }  # fmt: skip
    ((same,),) = _rows(sink, "SELECT uniqExact(price_value) FROM asset_transactions WHERE price IS NOT NULL")
    assert same == 1


def test_social_events_and_the_sync_log_have_tables_of_their_own(sink: ClickHouseHistory) -> None:
    (row,) = _rows(sink, "SELECT asset_id, user_id, type, payload FROM asset_events")
    assert row[:3] == ("card", "bob", "COMMENT_ADDED")
    assert orjson.loads(row[3])["reply_to"] == "c-0"
    columns = "kind, chain, token, from_address, amount, tx_hash, block"
    assert _rows(sink, f"SELECT {columns} FROM asset_chain_observations") == [
        ("fee", "xrpl:0", None, "xrpl:0/rT", "30", TX, 9)
    ]
    assert _rows(sink, "SELECT count() FROM asset_activity") == [(14,)]


def test_applied_gas_in_managed_custody_stands_in_the_gas_ledger(sink: ClickHouseHistory) -> None:
    columns = "type, owner, user_id, account, toString(fee), treasury_tx_hash, related_transaction_id, hash"
    rows = _rows(
        sink, f"SELECT {columns} FROM gas_ledger WHERE chain = 'offchain/gas:XRP' ORDER BY ledger_index"
    )
    assert rows == [
        ("INTERNAL_GAS_CHARGE", "ann", None, "ann", "12", "", "e5", "e6"),
        ("INTERNAL_GAS_COVERAGE", "ann", None, "treasury:app", "30", TX, "", "e7"),
    ]


def test_s0s_gas_report_counts_what_was_applied_by_currency(sink: ClickHouseHistory) -> None:
    """12 + 30 drops of XRP and 100 wei; the 9000 that were refused are nobody's."""
    sums = "transactions, total_gas_required, total_gas_paid_by_user, total_gas_paid_by_treasury"
    for view in ("gas_report", "gas_daily"):
        rows = _rows(sink, f"SELECT chain, owner, {sums} FROM {view} ORDER BY chain")
        assert rows == [
            ("offchain/gas:ETH", "ann", 1, "100", "100", "0"),
            ("offchain/gas:XRP", "ann", 2, "42", "5", "37"),
        ]
