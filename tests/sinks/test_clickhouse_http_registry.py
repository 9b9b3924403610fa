"""The history sink over a schema registry whose ids are not ours: messages go by that registry's ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import Codec, id_of
from schemas.loader import by_topic, make_schema, schemas
from schemas.registry import Entry, local_registry
from sinks.clickhouse import ClickHouseHistory
from sinks.clickhouse_client import Place
from sinks.sink import HistoryMessage
from tests.support.history import LEDGERS, START_MS, TRANSFERS, chain, expected, found, message
from tests.support.schema_registry import FakeRegistry, Fault, serve
from topics.schema_registration import register_all
from topics.schema_registry import Client, HttpRegistry, RegistryError

ENTRIES = local_registry().entries
EPOCH = "e"


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    with serve(FakeRegistry(first_id=70_000)) as served:
        register_all(Client(served.url), ENTRIES)
        yield served


@pytest.fixture
def codec(fake: FakeRegistry) -> Codec:
    return Codec(HttpRegistry(Client(fake.url)))


@pytest.fixture
def sink(fake: FakeRegistry, tmp_path: Path) -> Iterator[ClickHouseHistory]:
    """A sink in a process of its own, as far as the registry goes: it has asked nothing yet."""
    registry = HttpRegistry(Client(fake.url, timeout_s=60, patience_s=0.4))
    made = ClickHouseHistory(Place(path=tmp_path / "ch"), schemas(), Codec(registry), registry)
    made.open()
    yield made
    made.close()


def in_topic(codec: Codec, topic: str, record: dict[str, Any], offset: int) -> HistoryMessage:
    return HistoryMessage(topic, 0, offset, START_MS + offset, codec.encode(topic, record, strict=True))


def test_rows_of_messages_under_the_registry_s_ids(
    sink: ClickHouseHistory, codec: Codec, fake: FakeRegistry
) -> None:
    records = chain(seed=11, ledgers=60)
    batch = [in_topic(codec, LEDGERS, record, offset) for offset, record in enumerate(records)]
    assert {id_of(one.message) for one in batch} == {codec.schema_id(LEDGERS)}
    assert codec.schema_id(LEDGERS) >= 70_000
    fake.requests.clear()
    sink.open_partition(EPOCH, LEDGERS, 0)
    result = sink.write(EPOCH, batch)
    sink.flush()
    assert (result.applied, result.refused) == (60, ())
    assert found(sink) == expected(records)
    assert fake.requests == [f"GET /schemas/ids/{codec.schema_id(LEDGERS)}"]


def test_messages_of_two_versions_in_one_batch(sink: ClickHouseHistory, codec: Codec) -> None:
    """The older version's rows get the defaults of the columns that came later."""
    first, *_ = [entry for entry in ENTRIES if entry.subject == f"{TRANSFERS}-value"]
    then = make_schema({**first.schema, "topic": {**by_topic()[TRANSFERS].topic}})
    codec_then = Codec(codec._registry, [then])
    now, before = _transfers(codec.schema(TRANSFERS).resolution, 2), _transfers(first.schema, 1)
    batch = [in_topic(codec_then, TRANSFERS, before, 0), in_topic(codec, TRANSFERS, now, 1)]
    assert id_of(batch[0].message) != id_of(batch[1].message)
    sink.open_partition(EPOCH, TRANSFERS, 0)
    result = sink.write(EPOCH, batch)
    assert (result.applied, result.refused) == (2, ())
    rows = list(sink.query("SELECT _offset, amount, flow, pending_id FROM transfers ORDER BY 1"))
    assert [(row["_offset"], str(row["amount"]), row["flow"], row["pending_id"]) for row in rows] == [
        (0, "25", "", ""), (1, "25", "25", "25")
    ]  # fmt: skip


def _transfers(form: Any, block: int) -> dict[str, Any]:
    """A books.transfers.v1 with one leg: every string "25", every number `block`."""
    made: dict[str, Any] = _value(form, block)
    return made


def _value(kind: Any, number: int) -> Any:
    if isinstance(kind, list):
        return _value(kind[0], number)
    name = kind["type"] if isinstance(kind, dict) else kind
    if name == "record":
        return {field["name"]: _value(field["type"], number) for field in kind["fields"]}
    if name == "array":
        return [_value(kind["items"], number)]
    if name == "enum":
        return kind["symbols"][0]
    if name == "fixed":
        return number.to_bytes(kind["size"], "big")
    return {"null": None, "string": "25", "long": number, "int": number, "boolean": True, "bytes": b""}[name]


def test_an_id_of_another_registry_is_refused_with_its_reason(sink: ClickHouseHistory, codec: Codec) -> None:
    """Message 0 carries the local registry's id: this registry does not know it. Message 1 is applied."""
    records = chain(seed=3, ledgers=2)
    foreign, own = message(records[0], 0), in_topic(codec, LEDGERS, records[1], 1)
    sink.open_partition(EPOCH, LEDGERS, 0)
    result = sink.write(EPOCH, [foreign, own])
    assert result.applied == 1
    assert [(one.message.offset, one.reason) for one in result.refused] == [(0, "unknown_schema")]


def test_while_the_registry_is_away_nothing_counts_and_nothing_is_refused(
    sink: ClickHouseHistory, codec: Codec, fake: FakeRegistry
) -> None:
    records = chain(seed=5, ledgers=10)
    batch = [in_topic(codec, LEDGERS, record, offset) for offset, record in enumerate(records)]
    sink.open_partition(EPOCH, LEDGERS, 0)
    fake.faults.extend([Fault("status", 503)] * 30)
    with pytest.raises(RegistryError, match="TIDEBOOK_SCHEMA_REGISTRY_URL"):
        sink.write(EPOCH, batch)
    fake.faults.clear()
    assert found(sink)["xrpl_ledgers"] == 0
    assert sink.write(EPOCH, batch).applied == 10
    sink.flush()
    assert found(sink) == expected(records)


def test_a_new_version_comes_while_the_sink_runs(
    sink: ClickHouseHistory, codec: Codec, fake: FakeRegistry
) -> None:
    """A newer release registers a version with one more field, and writes with it: this one reads on."""
    ours = codec.schema(LEDGERS)
    added = {"name": "later", "type": "string", "default": ""}
    newer = {**ours.resolution, "fields": [*ours.resolution["fields"], added]}
    records = chain(seed=9, ledgers=4)
    sink.open_partition(EPOCH, LEDGERS, 0)
    sink.write(EPOCH, [in_topic(codec, LEDGERS, record, offset) for offset, record in enumerate(records[:2])])
    (row,) = register_all(Client(fake.url), [Entry(99, ours.subject, 2, newer)])
    assert row.state == "registered"
    theirs = Codec(HttpRegistry(Client(fake.url)), [make_schema({**newer, "topic": {**ours.topic}})])
    late = [
        in_topic(theirs, LEDGERS, {**record, "later": "x"}, offset)
        for offset, record in enumerate(records[2:], 2)
    ]
    assert sink.write(EPOCH, late).applied == 2
    assert found(sink) == expected(records)
    assert codec.decode(late[0].message, LEDGERS) == (row.id, {**records[2]})
