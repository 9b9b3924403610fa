"""Rows of positions' and anchors' events in ClickHouse: every event type of both, and what an old writer said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.catalog.anchors import ANCHORS
from pipeline.catalog.positions import POSITIONS
from pipeline.domain.applications.event import AppTopic
from schemas.codec import Codec
from schemas.freeze import freeze
from schemas.loader import by_topic, schemas
from schemas.registry import LocalRegistry
from sinks import ddl
from sinks.clickhouse import ClickHouseHistory
from sinks.clickhouse_client import Place
from sinks.ddl_shape import documented
from sinks.sink import HistoryMessage
from tests.support.applications import event_of, fold_of, record_of

GOLDEN = Path(__file__).parents[1] / "golden"
REGISTRY = LocalRegistry(freeze((), schemas())[0])  # the schemas as they are in the files now
CODEC = Codec(REGISTRY)


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[ClickHouseHistory]:
    opened = ClickHouseHistory(Place(path=tmp_path / "ch"), schemas(), CODEC, REGISTRY)
    opened.open()
    yield opened
    opened.close()


def _case(row: AppTopic, name: str) -> list[dict[str, Any]]:
    case = orjson.loads((GOLDEN / row.domain / f"{name}.json").read_bytes())
    return [*case["before"], case["event"]]


def _write(sink: ClickHouseHistory, topic: str, records: list[dict[str, Any]]) -> None:
    batch = [
        HistoryMessage(topic, 0, offset, 1_700_000_000_000, CODEC.encode(topic, record))
        for offset, record in enumerate(records)
    ]
    result = sink.write("e", batch)
    assert not result.refused


def _tell(sink: ClickHouseHistory, row: AppTopic, name: str) -> None:
    told = [event_of(row, one, f"e{place}") for place, one in enumerate(_case(row, name), 1)]
    _write(sink, row.topic, [record_of(row, event) for event in told])


def _ask(sink: ClickHouseHistory, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in sink.query(sql)]


def test_position_events_have_s1s_columns(sink: ClickHouseHistory) -> None:
    _tell(sink, POSITIONS, "POSITION_STATE_CHANGED")
    rows = _ask(
        sink,
        "SELECT kind, position_id, toString(at), previous_state, new_state, institution_id, currency,"
        " toString(amount), created_at = recorded_at FROM position_events ORDER BY at",
    )
    assert [row[0] for row in rows[:3]] == [
        event["type"] for event in _case(POSITIONS, "POSITION_CREATED")[:3]
    ]
    assert rows[3] == (
        "POSITION_CREATED", "pos_xyz789uvw321", "2026-01-05 12:03:00.000", "", "CREATED", "inst_bank123", "USD",
        "100000", True,
    )  # fmt: skip
    assert rows[4][3:5] == ("CREATED", "EXPIRED")
    [(payload,)] = _ask(sink, "SELECT payload FROM position_events WHERE new_state = 'EXPIRED'")
    said = orjson.loads(payload)
    assert (said["reason"], said["amount_released"]) == ("expired unfunded", None)


def test_attestations_and_their_confirmations(sink: ClickHouseHistory) -> None:
    fold = fold_of(POSITIONS)
    told = [
        event_of(POSITIONS, one, f"e{n}")
        for n, one in enumerate(_case(POSITIONS, "ATTESTATION_CONFIRMED"), 1)
    ]
    emits = [emit for judged in fold.apply(told) if judged.decision for emit in judged.decision.emits]
    fold.close()
    assert [emit.topic for emit in emits] == ["chain.outbox.v1"]
    _write(sink, "chain.outbox.v1", [dict(emit.record) for emit in emits])
    _write(sink, POSITIONS.topic, [record_of(POSITIONS, event) for event in told])
    rows = _ask(
        sink,
        "SELECT a.kind, a.position_id, a.digest = a.attestation_id, c.chain, c.block, c.transaction_index"
        " FROM attestations a JOIN attestation_confirmations c USING attestation_id",
    )
    assert rows == [("POSITION_CREATED", "pos_xyz789uvw321", True, "xrpl:0", 341, 2)]
    assert _ask(sink, "SELECT count() FROM attestation_confirmations") == [(1,)]
    _state_of_position(sink, [emit.record["attestation_id"] for emit in emits])
    for name in ("pos_xyz789uvw321", "asset_proj456"):
        rows = _ask(
            sink,
            "SELECT source, about, block, hash = '' FROM position_provenance(position = '" + name + "')"
            " WHERE source != 'position_events'",
        )
        assert rows == [
            ("attestations", "pos_xyz789uvw321", -1, True),
            ("attestation_confirmations", "pos_xyz789uvw321", 341, False),
        ]


def _state_of_position(sink: ClickHouseHistory, attestations: list[str]) -> None:
    value = orjson.dumps({"attestations": attestations}).decode()
    sink._client.command(
        "INSERT INTO application_states (domain, kind, id, version, value, gone)"
        f" VALUES ('positions', 'position', 'pos_xyz789uvw321', 1, '{value}', false)"
    )


def test_anchor_events_have_typed_columns(sink: ClickHouseHistory) -> None:
    _tell(sink, ANCHORS, "FULFILLED")
    _tell(sink, ANCHORS, "REFUNDED")
    rows = _ask(
        sink,
        "SELECT type, owner, anchor, merchant, toString(amount), toString(expires_at), attestor FROM anchor_events"
        " WHERE type IN ('AUTHORIZED', 'CLAIMED', 'FULFILLED') ORDER BY at",
    )
    none = "1970-01-01 00:00:00.000"
    assert rows == [
        ("AUTHORIZED", "alice", "GROCERY", "", "100", "2026-01-05 12:30:00.000", ""),
        ("CLAIMED", "", "", "shop", None, none, ""),
        ("FULFILLED", "", "", "", None, none, "till"),
    ]


@pytest.mark.parametrize("row", [POSITIONS, ANCHORS], ids=lambda row: row.domain)
def test_every_type_has_a_payload(sink: ClickHouseHistory, row: AppTopic) -> None:
    events = [event_of(row, _case(row, name)[-1], name) for name in row.types]
    _write(sink, row.topic, [record_of(row, event) for event in events])
    table = "position_events" if row is POSITIONS else "anchor_events"
    rows = {id: orjson.loads(text) for id, text in _ask(sink, f"SELECT event_id, payload FROM {table}")}
    assert set(rows) == set(row.types)
    for event in events:
        assert set(rows[event.id]) == set(event.data), event.type


@pytest.mark.parametrize("row", [POSITIONS, ANCHORS], ids=lambda row: row.domain)
def test_a_writer_who_knew_fewer_types_is_read(sink: ClickHouseHistory, row: AppTopic) -> None:
    """The envelope alone, as before there were event types: every table's statement still runs."""
    form = documented(by_topic()[row.topic])
    known = {one.payload for one in row.types.values()}
    old = {**form, "fields": [field for field in form["fields"] if field["name"] not in known]}
    sink._client.command(ddl.create_stage("old", old))
    for table in ddl.tables(form):
        statement = ddl.insert_select(table, row.topic, form, old, "old")
        assert statement is not None
        sink._client.command(statement)
