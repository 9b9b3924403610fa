"""An association with its circles, roles and accounts, for tests of S3's governance layer."""

from __future__ import annotations

from typing import Any

from pipeline.catalog.tokens import TOKENS
from pipeline.domain.applications.event import AppEvent
from tests.support.applications import TestFold, event, fold_of

DAY = 86_400_000
T0 = 1_800_000_000_000
PROOF = {"document_hash": "cd" * 32, "salt_id": "0" * 32}
ACCOUNTS = ("acc0", "acc1", "acc2", "acc3")
CIRCLES = ("root", "c1", "c2", "c3")
ROLES = tuple(f"role-{circle}" for circle in CIRCLES)
CONTRIB = "offchain/token:CONTRIB"


def told(type: str, key: str, day: int = 0, id: str = "", user_id: str = "", **data: Any) -> AppEvent:
    return event(TOKENS, type, key, T0 + day * DAY, data, id=id, user_id=user_id)


def world() -> list[AppEvent]:
    """A root and three circles, a role each; acc0 holds the root's role, acc1 that of c1 until the fifth day."""
    return [
        told("ASSOCIATION_CREATED", "a", title="A"),
        *(
            told("ACCOUNT_OPENED", id, owner_type="member", owner_id=owner(id), association_id="a")
            for id in ACCOUNTS
        ),
        told("CIRCLE_CREATED", "root", association_id="a", title="Root"),
        told(
            "CIRCLE_CREATED",
            "c1",
            association_id="a",
            title="C1",
            parent_circle_id="root",
            reviews_required=2,
        ),
        told("CIRCLE_CREATED", "c2", association_id="a", title="C2", parent_circle_id="c1"),
        told("CIRCLE_CREATED", "c3", association_id="a", title="C3", parent_circle_id="c2"),
        *(told("ROLE_CREATED", f"role-{circle}", circle_id=circle, title="Role") for circle in CIRCLES),
        told("ROLE_GRANTED", "acc0", role_id="role-root", granted_by="root"),
        told("ROLE_GRANTED", "acc1", role_id="role-c1", granted_by="root", expires_at=T0 + 5 * DAY),
    ]


def owner(account: str) -> str:
    return "mem_" + account.encode().hex().rjust(32, "0")


def refused(fold: TestFold, said: AppEvent) -> tuple[str, str]:
    """(reason, field)"""
    found = fold.one(said).refused
    assert found is not None
    return found.reason, found.field


def governed() -> TestFold:
    """A fold in which `world` has happened."""
    made = fold_of(TOKENS)
    assert not [judged for judged in made.apply(world()) if judged.refused]
    return made


POOL = told("COMPENSATION_POOL_CREATED", "pool0", circle_id="root", amount="100", currency="BRL")
