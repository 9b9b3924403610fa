"""S3's governance layer: what holds after any sequence of its events, told again by a model of its own."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.catalog.tokens import TOKENS
from pipeline.domain.account import AccountCode
from pipeline.domain.applications.event import AppEvent
from pipeline.domain.applications.fold import Judged
from pipeline.domain.tokens import money
from tests.support.applications import TestFold, event, fold_of
from tests.support.governance import (
    ACCOUNTS,
    CIRCLES,
    CONTRIB,
    DAY,
    POOL,
    PROOF,
    ROLES,
    T0,
    governed,
    owner,
    refused,
    told,
    world,
)

MOST = T0 + 10_000 * DAY
ENTRIES = ("e0", "e1")
POOLS = ("pool0",)


def one_of(names: tuple[str, ...]) -> st.SearchStrategy[str]:
    return st.sampled_from(names)


AMOUNTS = st.sampled_from(["0.000001", "1", "2.5", "40", "59.999999"])
COMMANDS = st.one_of(
    st.tuples(st.just("CIRCLE_MOVED"), one_of(CIRCLES), one_of(CIRCLES)),
    st.tuples(st.just("ROLE_GRANTED"), one_of(ACCOUNTS), one_of(ROLES), one_of(CIRCLES), st.integers(0, 9)),
    st.tuples(st.just("ROLE_REVOKED"), one_of(ACCOUNTS), one_of(ROLES), one_of(CIRCLES)),
    st.tuples(st.just("CONTRIBUTION_ENTERED"), one_of(ENTRIES), one_of(ACCOUNTS), one_of(CIRCLES), AMOUNTS),
    st.tuples(st.just("CONTRIBUTION_REVIEWED"), one_of(ENTRIES), one_of(ACCOUNTS), st.booleans()),
    st.tuples(st.just("COMPENSATION_DISTRIBUTED"), one_of(POOLS), one_of(ACCOUNTS), AMOUNTS),
)
ACTORS = st.sampled_from((*ACCOUNTS, *ACCOUNTS, ""))  # "": a service


def command(n: int, day: int, actor: str, said: tuple[Any, ...]) -> AppEvent:
    """The n-th event of a sequence, sent by the owner of the account `actor` or by a service."""
    type, key, *rest = said
    data: dict[str, Any] = {"acting_account_id": actor or None}
    if type == "CIRCLE_MOVED":
        data["parent_circle_id"] = rest[0]
    elif type == "ROLE_GRANTED":
        data |= {"role_id": rest[0], "granted_by": rest[1]}
        data["expires_at"] = T0 + (day + rest[2]) * DAY if rest[2] else None
    elif type == "ROLE_REVOKED":
        data |= {"role_id": rest[0], "revoked_by": rest[1]}
    elif type == "CONTRIBUTION_ENTERED":
        data = {"contributor": rest[0], "circle_id": rest[1], "amount": rest[2], **PROOF}
    elif type == "CONTRIBUTION_REVIEWED":
        data = {"reviewer": rest[0], "verdict": "accepted" if rest[1] else "rejected"}
    else:
        data |= {"distribution_id": f"d{n}", "contributor": rest[0], "amount": rest[1]}
    return told(type, key, day, f"{n:032x}", owner(actor) if actor else "", **data)


class Model:
    """The tree, who holds what, and the reviews, told by the applied events alone."""

    def __init__(self) -> None:
        self.parent: dict[str, str | None] = {"root": None, "c1": "root", "c2": "c1", "c3": "c2"}
        self.held: dict[tuple[str, str], tuple[int, int | None]] = {  # from, until
            ("role-root", "acc0"): (T0, None),
            ("role-c1", "acc1"): (T0, T0 + 5 * DAY),
        }
        self.entries: dict[str, AppEvent] = {}
        self.reviews: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self.credited: defaultdict[str, Decimal] = defaultdict(Decimal)
        self.distributed = Decimal(0)

    def of_circle(self, circle: str, account: str, at_ms: int) -> bool:
        start, end = self.held.get((f"role-{circle}", account), (at_ms + 1, None))
        return start <= at_ms and (end is None or end > at_ms)

    def may_act(self, said: AppEvent, circle: str) -> None:
        actor = said.data["acting_account_id"]
        assert not said.user_id or (actor is not None and said.user_id == owner(actor))
        assert actor is None or self.of_circle(circle, actor, said.at_ms), (
            "acts for a circle without a role there"
        )

    def take(self, judged: Judged) -> None:
        getattr(self, judged.event.type.lower())(judged.event, judged.event.data)

    def circle_moved(self, said: AppEvent, data: Any) -> None:
        before = self.parent[said.key]
        assert before is not None
        self.may_act(said, before)
        self.parent[said.key] = data["parent_circle_id"]

    def role_granted(self, said: AppEvent, data: Any) -> None:
        self._by_the_parent(said, data["role_id"], data["granted_by"])
        role = data["role_id"], said.key
        assert role not in self.held or (self.held[role][1] or MOST) <= said.at_ms
        self.held[role] = said.at_ms, data["expires_at"]

    def role_revoked(self, said: AppEvent, data: Any) -> None:
        self._by_the_parent(said, data["role_id"], data["revoked_by"])
        del self.held[data["role_id"], said.key]

    def _by_the_parent(self, said: AppEvent, role: str, by: str) -> None:
        circle = role.removeprefix("role-")
        assert by == (self.parent[circle] or "root"), "only the parent grants and revokes"
        self.may_act(said, by)

    def contribution_entered(self, said: AppEvent, data: Any) -> None:
        assert said.key not in self.entries
        assert said.user_id in ("", owner(data["contributor"]))
        self.entries[said.key] = said

    def contribution_reviewed(self, said: AppEvent, data: Any) -> None:
        entry, reviewer = self.entries[said.key].data, data["reviewer"]
        assert reviewer != entry["contributor"] and reviewer not in self.reviews[said.key]
        assert self.of_circle(entry["circle_id"], reviewer, said.at_ms)
        assert said.at_ms >= self.entries[said.key].at_ms
        verdicts = self.reviews[said.key]
        needed = 2 if entry["circle_id"] == "c1" else 1
        assert all(list(verdicts.values()).count(one) < needed for one in ("accepted", "rejected")), (
            "it was closed"
        )
        verdicts[reviewer] = data["verdict"]
        if list(verdicts.values()).count("accepted") == needed:
            self.credited[entry["contributor"]] += Decimal(entry["amount"])

    def compensation_distributed(self, said: AppEvent, data: Any) -> None:
        self.may_act(said, "root")
        self.distributed += Decimal(data["amount"])


def holds(fold: TestFold, model: Model) -> None:
    """What must hold after every event."""
    parents = {id: circle["parent_circle_id"] for id, circle in fold.states("circle").items()}
    assert parents == model.parent
    for circle in parents:
        seen, at = set(), circle
        while at is not None:
            assert at not in seen, "a cycle of circles"
            seen.add(at)
            at = parents[at]
        assert "root" in seen
    pool = fold.state("compensation_pool", "pool0")
    shares = [Decimal(one["amount"]) for one in fold.states("compensation_distribution").values()]
    assert pool is not None
    assert Decimal(pool["distributed"]) == sum(shares) == model.distributed <= Decimal(pool["amount"])


def contrib_is_what_was_accepted(fold: TestFold, model: Model) -> None:
    """In the books, in the balances, and on the issuing side."""
    for account in ACCOUNTS:
        expected = model.credited[account]
        balance = fold.state("balance", f"{account}:CONTRIB") or {"available": "0", "locked": "0"}
        assert (Decimal(balance["available"]), balance["locked"]) == (expected, "0")
        if fold.asked:
            assert fold.balance(CONTRIB, AccountCode.USER, account) == expected * money.ONE
    if not fold.asked:
        assert sum(model.credited.values()) == 0
        return
    assert sum(model.credited.values()) > 0, "only what is accepted goes to the books"
    assert fold.balance(CONTRIB, AccountCode.TREASURY) == sum(model.credited.values()) * money.ONE


@settings(max_examples=80)
@given(st.lists(st.tuples(st.integers(0, 10), ACTORS, COMMANDS), min_size=5, max_size=40))
def test_only_parents_grant_circles_have_no_cycles_and_contrib_is_what_was_accepted(said: list[Any]) -> None:
    fold, model = fold_of(TOKENS), Model()
    try:
        assert not [judged for judged in fold.apply([*world(), POOL]) if judged.refused]
        for n, (day, actor, one) in enumerate(said):
            before = dict(fold.held)
            judged = fold.one(command(n, day, actor, one))
            if judged.refused is None:
                model.take(judged)
            else:
                assert fold.held == before, "a refusal changes nothing"
            holds(fold, model)
        contrib_is_what_was_accepted(fold, model)
    finally:
        fold.close()


@settings(max_examples=40)
@given(
    st.lists(st.tuples(one_of(ACCOUNTS), AMOUNTS), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 5), one_of(ACCOUNTS), st.booleans()), min_size=6, max_size=30),
)
def test_contrib_is_the_sum_of_what_was_accepted(entries: list[Any], reviews: list[Any]) -> None:
    """Everybody holds a role in c1, which wants two accepting reviews; all events in one batch."""
    roles = [
        told("ROLE_GRANTED", account, role_id="role-c1", granted_by="root")
        for account in (*ACCOUNTS[:1], *ACCOUNTS[2:])
    ]
    entered = [
        told("CONTRIBUTION_ENTERED", f"e{n}", circle_id="c1", contributor=account, amount=amount, **PROOF)
        for n, (account, amount) in enumerate(entries)
    ]
    reviewed = [
        told(
            "CONTRIBUTION_REVIEWED",
            f"e{n}",
            id=f"{k:032x}",
            reviewer=who,
            verdict="accepted" if yes else "rejected",
        )
        for k, (n, who, yes) in enumerate(reviews)
    ]
    fold, model = fold_of(TOKENS), Model()
    try:
        for judged in fold.apply([*world(), *roles, *entered, *reviewed]):
            if judged.refused is None and judged.event in [*roles, *entered, *reviewed]:
                model.take(judged)
        contrib_is_what_was_accepted(fold, model)
        states = fold.states("contribution_entry").values()
        accepted = sum(Decimal(one["amount"]) for one in states if one["status"] == "accepted")
        assert accepted == sum(model.credited.values())
    finally:
        fold.close()


@pytest.fixture
def fold() -> TestFold:
    return governed()


def test_a_user_acts_only_by_an_account_of_their_own_that_holds_a_role(fold: TestFold) -> None:
    grant = {"role_id": "role-c1", "granted_by": "root"}
    as_bob = {"user_id": owner("acc1"), **grant}
    assert refused(fold, told("ROLE_GRANTED", "acc1", **as_bob)) == ("missing", "data.acting_account_id")
    stolen = told("ROLE_GRANTED", "acc1", **as_bob, acting_account_id="acc0")
    assert refused(fold, stolen) == ("not_owner", "user_id")
    stranger = told("ROLE_GRANTED", "acc1", **as_bob, acting_account_id="acc1")
    assert refused(fold, stranger) == ("not_in_circle", "data.acting_account_id")
    mine = told("ROLE_GRANTED", "acc2", user_id=owner("acc0"), **grant, acting_account_id="acc0")
    assert fold.one(mine).refused is None
    root = told("CIRCLE_CREATED", "r2", user_id=owner("acc0"), association_id="a2", title="R")
    assert refused(fold, root) == ("unknown_association", "data.association_id")
    fold.one(told("ASSOCIATION_CREATED", "a2", title="A2"))
    assert refused(fold, root) == ("outside_scope", "user_id")


def test_a_role_ends_with_its_time_and_its_seat_is_free(fold: TestFold) -> None:
    fold.one(told("ROLE_CREATED", "solo", circle_id="c2", title="Solo", seats=1))
    grant = {"role_id": "solo", "granted_by": "c1"}
    assert fold.one(told("ROLE_GRANTED", "acc1", 1, **grant, expires_at=T0 + 3 * DAY)).refused is None
    assert refused(fold, told("ROLE_GRANTED", "acc2", 2, **grant)) == ("no_seat", "data.role_id")
    tension = {"circle_id": "c2", "raised_by": "acc1", **PROOF}
    assert fold.one(told("TENSION_RAISED", "t1", 2, **tension)).refused is None
    assert refused(fold, told("TENSION_RAISED", "t2", 3, **tension)) == ("not_in_circle", "data.raised_by")
    assert fold.one(told("ROLE_GRANTED", "acc2", 3, **grant)).refused is None
    assert fold.state("circle_member", "c2/acc2") == {
        "circle_id": "c2", "account_id": "acc2", "roles": {"solo": None}
    }  # fmt: skip


def test_who_held_a_role_does_not_act_in_the_past(fold: TestFold) -> None:
    """The clock ends the assignment; after that no event time brings it back."""
    fold.one(told("ROLE_CREATED", "solo", circle_id="c2", title="Solo", seats=1))
    grant = {"role_id": "solo", "granted_by": "c1"}
    fold.one(told("ROLE_GRANTED", "acc1", 1, **grant, expires_at=T0 + 3 * DAY))
    due = (fold.state("role_assignment", "solo/acc1") or {})["due"]
    ended = event(TOKENS, due["type"], due["key"], due["at_ms"], due["data"], source="clock")
    early = event(TOKENS, due["type"], due["key"], due["at_ms"] - 1, due["data"], source="clock")
    assert refused(fold, early) == ("not_expired", "at")
    assert fold.one(ended).refused is None
    state = fold.state("role_assignment", "solo/acc1") or {}
    assert state["status"] == "expired" and "due" not in state
    assert (fold.state("role", "solo") or {})["holders"] == {}
    tension = {"circle_id": "c2", "raised_by": "acc1", **PROOF}
    assert refused(fold, told("TENSION_RAISED", "t2", 2, **tension)) == ("not_in_circle", "data.raised_by")


def test_the_end_of_an_assignment_is_not_its_successors(fold: TestFold) -> None:
    """Granted anew after its end and before the clock has said so; the circle may have another parent by then."""
    grant = {"role_id": "role-c2", "granted_by": "c1"}
    fold.one(told("ROLE_GRANTED", "acc1", 1, **grant, expires_at=T0 + 3 * DAY))
    due = (fold.state("role_assignment", "role-c2/acc1") or {})["due"]
    assert fold.one(told("ROLE_GRANTED", "acc1", 3, **grant, expires_at=T0 + 9 * DAY)).refused is None
    late = event(TOKENS, due["type"], due["key"], due["at_ms"], due["data"], source="clock")
    assert refused(fold, late) == ("not_expired", "at")
    assert fold.one(told("CIRCLE_MOVED", "c2", 4, parent_circle_id="root")).refused is None
    due = (fold.state("role_assignment", "role-c2/acc1") or {})["due"]
    ended = event(TOKENS, due["type"], due["key"], due["at_ms"], due["data"], source="clock")
    assert fold.one(ended).refused is None


def test_one_person_with_two_accounts_does_not_review_their_own(fold: TestFold) -> None:
    second = told("ACCOUNT_OPENED", "acc9", owner_type="member", owner_id=owner("acc0"), association_id="a")
    grant = told("ROLE_GRANTED", "acc9", role_id="role-c2", granted_by="c1")
    entry = told("CONTRIBUTION_ENTERED", "e", circle_id="c2", contributor="acc0", amount="5", **PROOF)
    assert not [judged for judged in fold.apply([second, grant, entry]) if judged.refused]
    own = told("CONTRIBUTION_REVIEWED", "e", reviewer="acc9", verdict="accepted")
    assert refused(fold, own) == ("own_contribution", "data.reviewer")


def test_one_person_with_two_accounts_is_one_reviewer(fold: TestFold) -> None:
    """c1 wants two accepting reviews: those of two persons."""
    second = told("ACCOUNT_OPENED", "acc9", owner_type="member", owner_id=owner("acc2"), association_id="a")
    grants = [
        told("ROLE_GRANTED", id, role_id="role-c1", granted_by="root") for id in ("acc2", "acc9", "acc3")
    ]
    entry = told("CONTRIBUTION_ENTERED", "e", circle_id="c1", contributor="acc0", amount="5", **PROOF)
    first, again, other = (
        told("CONTRIBUTION_REVIEWED", "e", reviewer=id, verdict="accepted") for id in ("acc2", "acc9", "acc3")
    )
    assert not [judged for judged in fold.apply([second, *grants, entry, first]) if judged.refused]
    assert refused(fold, again) == ("already_reviewed", "data.reviewer")
    assert (fold.state("contribution_entry", "e") or {})["status"] == "open"
    entry = fold.state("contribution_entry", "e") or {}
    fold.held["contribution_entry", "e"] = orjson.dumps(
        {**entry, "reviewers": []}
    )  # as one of a former release
    same = told("CONTRIBUTION_REVIEWED", "e", reviewer="acc2", verdict="accepted")
    assert refused(fold, same) == ("already_reviewed", "data.reviewer")
    assert fold.one(other).refused is None
    assert (fold.state("contribution_entry", "e") or {})["status"] == "accepted"


def test_a_rejected_contribution_stays_rejected(fold: TestFold) -> None:
    grant = [told("ROLE_GRANTED", id, role_id="role-c2", granted_by="c1") for id in ACCOUNTS]
    entry = told("CONTRIBUTION_ENTERED", "e", circle_id="c2", contributor="acc0", amount="5", **PROOF)
    no = told("CONTRIBUTION_REVIEWED", "e", reviewer="acc1", verdict="rejected")
    assert not [judged for judged in fold.apply([*grant, entry, no]) if judged.refused]
    yes = told("CONTRIBUTION_REVIEWED", "e", reviewer="acc2", verdict="accepted")
    assert refused(fold, yes) == ("illegal_transition", "account_id")
    assert not fold.asked, "nothing was asked of the books"


def test_circles_stand_in_each_other_only_so_deep(fold: TestFold) -> None:
    parent, depth = "c3", 4
    while True:
        circle = told("CIRCLE_CREATED", f"d{depth}", association_id="a", title="D", parent_circle_id=parent)
        judged = fold.one(circle)
        if judged.refused is not None:
            break
        parent, depth = f"d{depth}", depth + 1
    assert (judged.refused.reason, depth) == ("too_deep", 64)


def test_contrib_never_moves(fold: TestFold) -> None:
    """It is non-transferable: no event of the catalog moves it between accounts."""
    grant = told("ROLE_GRANTED", "acc1", role_id="role-c2", granted_by="c1")
    entry = told("CONTRIBUTION_ENTERED", "e", circle_id="c2", contributor="acc0", amount="5", **PROOF)
    yes = told("CONTRIBUTION_REVIEWED", "e", reviewer="acc1", verdict="accepted")
    assert not [judged for judged in fold.apply([grant, entry, yes]) if judged.refused]
    assert fold.balance(CONTRIB, AccountCode.USER, "acc0") == 5 * money.ONE
    move = told("TOKEN_TRANSFERRED", "acc0", token_type="CONTRIB", to_account_id="acc1", amount="1")
    assert refused(fold, move)[0] in ("wrong_token_type", "not_transferable")
