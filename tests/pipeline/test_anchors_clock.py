"""An end that the books refuse is not lost: told anew under another id, once the user is thawed, it pays back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from pipeline.catalog.anchors import ANCHORS
from pipeline.domain.account import AccountCode
from tests.support.applications import event, event_of, fold_of

GOLDEN = Path(__file__).parents[1] / "golden" / "anchors"


@pytest.mark.parametrize("kind", ["authorization", "escrow"])
def test_what_a_frozen_user_is_owed_is_paid_after_the_thaw(kind: str) -> None:
    name, end = {
        "authorization": ("AUTHORIZED", "AUTHORIZATION_EXPIRED"),
        "escrow": ("ESCROW_LOCKED", "ESCROW_LAPSED"),
    }[kind]
    case = orjson.loads((GOLDEN / f"{name}.json").read_bytes())
    events = [event_of(ANCHORS, one, f"e{n}") for n, one in enumerate([*case["before"], case["event"]])]
    opened = events[-1]
    who = {
        "owner": "alice",
        "account_type": "USER",
        "asset": opened.data.get("asset", "SOVR"),
        "reason": "review",
    }
    fold = fold_of(ANCHORS)
    try:
        assert not [one for one in fold.apply(events) if one.refused]
        due = (fold.state(kind, opened.key) or {})["due"]
        first = event(ANCHORS, end, opened.key, due["at_ms"], due["data"], id="first", source="clock")
        fold.one(event(ANCHORS, "ACCOUNT_FROZEN", "alice", due["at_ms"] - 1, who))
        refused = fold.one(first).refused is not None
        assert refused == (kind == "authorization"), "what was only pending goes back, frozen or not"
        if refused:
            assert (fold.state(kind, opened.key) or {})["due"] == due
            assert fold.one(first).refused is not None, "an event that was refused stays refused"
        fold.one(event(ANCHORS, "ACCOUNT_THAWED", "alice", due["at_ms"] + 1, who))
        again = fold.one(replace(first, id="second"))
        assert (again.refused is None) == refused
        account = fold.state("account", f"USER/{who['asset']}/alice") or {}
        assert "due" not in (fold.state(kind, opened.key) or {}) and account["open"] == 0
        closed = fold.one(event(ANCHORS, "ACCOUNT_CLOSED", "alice", due["at_ms"] + 2, who)).refused
        assert closed is not None and closed.reason == "not_empty", "the units are back"
        assert fold.balance(f"offchain/{who['asset']}", AccountCode.SYSTEM_BUFFER) == 0
    finally:
        fold.close()
