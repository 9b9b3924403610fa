"""Nothing of a person but references enters the topics of positions and anchors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from pipeline.catalog.anchors import ANCHORS
from pipeline.catalog.positions import POSITIONS
from pipeline.domain.applications.event import AppEvent, AppTopic, Refusal
from pipeline.domain.positions.impersonal import WORDS
from tests.support.applications import event_of

GOLDEN = Path(__file__).parents[1] / "golden"
TYPES = [
    pytest.param(row, type, id=f"{row.domain}/{type}") for row in (POSITIONS, ANCHORS) for type in row.types
]


def golden(row: AppTopic, type: str) -> AppEvent:
    """The event of a type's first golden case."""
    case = orjson.loads((GOLDEN / row.domain / f"{type}.json").read_bytes())
    return event_of(row, case["event"], "e")


def refused(row: AppTopic, told: AppEvent) -> Refusal:
    check = row.types[told.type].check
    assert check is not None
    with pytest.raises(Refusal) as info:
        check(told)
    return info.value


@pytest.mark.parametrize(("row", "type"), TYPES)
def test_no_field_takes_a_person(row: AppTopic, type: str) -> None:
    told = golden(row, type)
    for name, value in told.data.items():
        texts = ["maria@example.org"] if name in WORDS else ["maria@example.org", "Maria da Silva", "x" * 300]
        for text in texts if isinstance(value, str) else ():
            assert refused(row, replace(told, data={**told.data, name: text})).field == f"data.{name}"


@pytest.mark.parametrize("row", [POSITIONS, ANCHORS], ids=lambda row: row.domain)
def test_nor_does_the_envelope(row: AppTopic) -> None:
    told = golden(row, next(iter(row.types)))
    fields = {row.key: "key", "user_id": "user_id", "app_id": "app_id", "idempotency_key": "idempotency_key"}
    for field, name in fields.items():
        found = refused(row, replace(told, **{name: "maria@example.org"}))
        assert (found.reason, found.field) == ("no_free_text", field)
