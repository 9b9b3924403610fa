"""Nothing of a person but references enters the topics of positions and anchors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from pipeline.catalog.anchors import ANCHORS
from pipeline.catalog.positions import POSITIONS
from pipeline.domain.applications.event import AppEvent, AppTopic, Refusal
from tests.support.applications import event_of

GOLDEN = Path(__file__).parents[1] / "golden"
PERSON = ["maria@example.org", "Maria da Silva", "x" * 300]
FORMS = {
    ("positions", "name"): ["maria@example.org"],
    ("positions", "reason"): ["maria@example.org"],
    ("anchors", "name"): ["maria@example.org", "Maria, +351 912 345 678", "x" * 81],
    ("anchors", "reason"): [*PERSON, "x" * 65],
}  # what fields that hold words or a code must refuse
TYPES = [
    pytest.param(row, type, id=f"{row.domain}/{type}") for row in (POSITIONS, ANCHORS) for type in row.types
]


def golden(row: AppTopic, type: str) -> AppEvent:
    """The event of a type's first golden case, told by a client where a clock tells it there."""
    case = orjson.loads((GOLDEN / row.domain / f"{type}.json").read_bytes())
    told = event_of(row, case["event"], "e")
    return replace(told, source="api") if told.source == "clock" else told


def enter(row: AppTopic, told: AppEvent) -> None:
    """What is asked of an event where it comes in."""
    for check in (row.types[told.type].check, row.types[told.type].entry):
        if check is not None:
            check(told)


def refused(row: AppTopic, told: AppEvent) -> Refusal:
    with pytest.raises(Refusal) as info:
        enter(row, told)
    return info.value


@pytest.mark.parametrize(("row", "type"), TYPES)
def test_no_field_takes_a_person(row: AppTopic, type: str) -> None:
    told = golden(row, type)
    enter(row, told)
    for name, value in told.data.items():
        for text in FORMS.get((row.domain, name), PERSON) if isinstance(value, str) else ():
            assert refused(row, replace(told, data={**told.data, name: text})).field == f"data.{name}"


@pytest.mark.parametrize("row", [POSITIONS, ANCHORS], ids=lambda row: row.domain)
def test_nor_does_the_envelope(row: AppTopic) -> None:
    told = golden(row, next(iter(row.types)))
    fields = {row.key: "key", "user_id": "user_id", "app_id": "app_id", "idempotency_key": "idempotency_key"}
    for field, name in fields.items():
        found = refused(row, replace(told, **{name: "maria@example.org"}))
        assert (found.reason, found.field) == ("no_free_text", field)


def test_what_a_clock_tells_was_written_into_a_state_before() -> None:
    """The ends of authorizations that an earlier version began have a sentence as their reason."""
    told = replace(golden(ANCHORS, "AUTHORIZATION_EXPIRED"), data={"reason": "its end has come"})
    enter(ANCHORS, replace(told, source="clock"))
    assert refused(ANCHORS, told).field == "data.reason"
