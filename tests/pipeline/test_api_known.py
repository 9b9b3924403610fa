"""What the intake may refuse for good: only what no accepted event can still make possible."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.api.client import ApiError
from pipeline.api.journal import Journal
from pipeline.api.known import Known
from pipeline.catalog import APPLICATIONS
from sinks.application_store import ApplicationStore, NewlyDecided, State
from tests.support.applications import codec, event

(ROW,) = (row for row in APPLICATIONS if row.domain == "tokens")
ASSOCIATION = event(ROW, "ASSOCIATION_CREATED", "green", data={"title": "Green"}, id="1" * 32)
PLAN = event(
    ROW, "CULTIVATION_PLAN_CREATED", "plan-1", id="2" * 32,
    data={"association_id": "green", "item": "flower.a", "quantity": "10", "unit": "g",
          "starts_at": 1_770_000_000_000, "ends_at": 1_790_000_000_000},
)  # fmt: skip
BATCH = event(ROW, "BATCH_CREATED", "batch-1", data={"plan_id": "plan-1", "input_ids": []}, id="3" * 32)


@pytest.fixture
def store(tmp_path: Path) -> ApplicationStore:
    return ApplicationStore(tmp_path / f"{ROW.topic}.db")


def known(folder: Path) -> Known:
    return Known(folder, (ROW,), Journal(folder / "intake"), codec())


def decide(store: ApplicationStore, event_id: str, *states: State) -> None:
    store.commit(states, [NewlyDecided(event_id, b"", True, [])], {("e", 0): 1})


def test_what_nothing_can_make_possible_is_refused(tmp_path: Path, store: ApplicationStore) -> None:
    told = known(tmp_path)
    with pytest.raises(ApiError, match="no cultivation plan"):
        told.judge(BATCH)


def test_an_event_that_passed_in_doubt_may_change_what_nobody_foresaw(
    tmp_path: Path, store: ApplicationStore
) -> None:
    """The plan was let pass while its association was on its way: what it makes was not known then."""
    told = known(tmp_path)
    told.judge(ASSOCIATION)
    told.judge(PLAN)
    decide(store, ASSOCIATION.id, State("association", "green", 1, {"title": "Green"}))
    told.judge(BATCH)
    decide(store, PLAN.id)  # refused after all, say: it has led to nothing
    decide(store, BATCH.id)
    with pytest.raises(ApiError, match="no cultivation plan"):
        told.judge(event(ROW, "BATCH_CREATED", "batch-2", data=dict(BATCH.data), id="4" * 32))
