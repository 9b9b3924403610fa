"""Who may act in S3's governance layer, and when: blocked accounts, event times, ids, CONTRIB written off."""

from __future__ import annotations

import pytest

from pipeline.domain.account import AccountCode
from tests.support.applications import TestFold
from tests.support.governance import CONTRIB, POOL, PROOF, governed, owner, refused, told

ACTS = "data.acting_account_id"


@pytest.fixture
def fold() -> TestFold:
    return governed()


def test_a_blocked_account_governs_nothing_and_what_it_holds_can_be_revoked(fold: TestFold) -> None:
    """acc0 leads the root circle, has a right and an open contribution; then it is blocked."""
    right = told("GOVERNANCE_RIGHT_GRANTED", "acc0", right_id="r", right="vote", weight="1")
    role = told("ROLE_GRANTED", "acc2", role_id="role-c2", granted_by="c1")
    entry = told("CONTRIBUTION_ENTERED", "e", circle_id="c2", contributor="acc0", amount="5", **PROOF)
    block = told("POSITION_BLOCKED", "acc0", reason="fraud")
    assert not [judged for judged in fold.apply([POOL, right, role, entry, block]) if judged.refused]
    acts = {"acting_account_id": "acc0"}
    grant = {"role_id": "role-root", "granted_by": "root"}
    for type, key, field, data in (
        ("CONTRIBUTION_REVIEWED", "e", "account_id", {"reviewer": "acc2", "verdict": "accepted"}),
        ("COMPENSATION_POOL_CREATED", "p", ACTS, {"circle_id": "root", "amount": "1", "currency": "BRL", **acts}),
        ("COMPENSATION_DISTRIBUTED", "pool0", ACTS,
         {"distribution_id": "d", "contributor": "acc1", "amount": "1", **acts}),
        ("COMPENSATION_DISTRIBUTED", "pool0", "data.contributor",
         {"distribution_id": "d", "contributor": "acc0", "amount": "1"}),
        ("ROLE_GRANTED", "acc3", ACTS, {**grant, **acts}),
        ("ROLE_GRANTED", "acc0", "account_id", {"role_id": "role-c3", "granted_by": "c2"}),
        ("ROLE_REVOKED", "acc1", ACTS, {"role_id": "role-c1", "revoked_by": "root", **acts}),
        ("CIRCLE_CREATED", "x", ACTS, {"association_id": "a", "parent_circle_id": "root", "title": "X", **acts}),
        ("TENSION_RAISED", "t", "data.raised_by", {"circle_id": "root", "raised_by": "acc0", **PROOF}),
        ("CONTRIBUTION_ENTERED", "f", "data.contributor",
         {"circle_id": "c2", "contributor": "acc0", "amount": "5", **PROOF}),
    ):  # fmt: skip
        assert refused(fold, told(type, key, **data)) == ("blocked", field), type
    revoked = [
        told("ROLE_REVOKED", "acc0", role_id="role-root", revoked_by="root"),
        told("GOVERNANCE_RIGHT_REVOKED", "acc0", right_id="r", reason="fraud"),
    ]
    assert not [judged for judged in fold.apply(revoked) if judged.refused]
    assert (fold.state("role", "role-root") or {})["holders"] == {}


def test_what_answers_another_is_not_before_it(fold: TestFold) -> None:
    """By event time: a role and who acts by it, tension, proposal, objection, decision, vote, review."""
    grant = told("ROLE_GRANTED", "acc2", 2, role_id="role-c2", granted_by="c1")
    right = told("GOVERNANCE_RIGHT_GRANTED", "acc3", right_id="r", right="vote", weight="1")
    assert not [judged for judged in fold.apply([grant, right]) if judged.refused]
    by = {"circle_id": "c2", **PROOF}
    decided = {"decision_id": "d", "outcome": "consented", "decided_by": "acc2", **PROOF}
    early, late = ("too_early", "at"), ("not_in_circle", "data.raised_by")
    for before, day, expected, type, key, data in (
        (1, 3, late, "TENSION_RAISED", "t", {**by, "raised_by": "acc2"}),
        (2, 4, early, "PROPOSAL_MADE", "p", {**by, "proposed_by": "acc2", "tension_id": "t"}),
        (3, 6, early, "OBJECTION_RAISED", "p", {"objection_id": "o", "raised_by": "acc2", **PROOF}),
        (3, 4, early, "VOTE_CAST", "acc3", {"proposal_id": "p", "right_id": "r", "choice": "for"}),
        (3, 3, early, "DECISION_TAKEN", "p", {**decided, "outcome": "rejected"}),
        (5, 6, early, "DECISION_TAKEN", "p", {**decided, "integrated_objections": ["o"]}),
        (6, 8, None, "CONTRIBUTION_ENTERED", "e", {**by, "contributor": "acc0", "amount": "5"}),
        (7, 8, early, "CONTRIBUTION_REVIEWED", "e", {"reviewer": "acc2", "verdict": "accepted"}),
    ):  # fmt: skip
        if expected is not None:
            assert refused(fold, told(type, key, before, **data)) == expected, type
        if before < day:
            assert fold.one(told(type, key, day, **data)).refused is None, type


def test_one_form_of_ids_from_their_making_to_their_use(fold: TestFold) -> None:
    """An association's and a proposal's, with a colon too."""
    grant = told("ROLE_GRANTED", "acc2", role_id="role-c2", granted_by="c1")
    made = {"circle_id": "c2", "proposed_by": "acc2", **PROOF}
    right = {"right_id": "r", "right": "vote", "weight": "1", "proposal_id": "prop:x"}
    said = [
        told("ASSOCIATION_CREATED", "acme:1", title="Acme"),
        told("ACCOUNT_OPENED", "own", owner_type="association", owner_id="acme:1"),
        told("ACCOUNT_OPENED", "mine", owner_type="member", owner_id=owner("mine"), association_id="acme:1"),
        grant,
        told("PROPOSAL_MADE", "prop:x", **made),
        told("GOVERNANCE_RIGHT_GRANTED", "acc3", **right),
        told("VOTE_CAST", "acc3", proposal_id="prop:x", right_id="r", choice="for"),
        told("FEE_CHARGED", "acc3", amount="1", fee_type="vote", reference_id="prop:x"),
    ]
    judged = fold.apply(said)
    assert [one.refused and one.refused.reason for one in judged] == [None] * 7 + ["insufficient_balance"]
    assert set(fold.states("vote")) == {"prop:x:acc3"}


def test_contrib_can_be_written_off_and_the_account_closed(fold: TestFold) -> None:
    grant = told("ROLE_GRANTED", "acc1", role_id="role-c2", granted_by="c1")
    entry = told("CONTRIBUTION_ENTERED", "e", circle_id="c2", contributor="acc0", amount="5", **PROOF)
    yes = told("CONTRIBUTION_REVIEWED", "e", reviewer="acc1", verdict="accepted")
    assert not [judged for judged in fold.apply([grant, entry, yes]) if judged.refused]
    closed = told("ACCOUNT_STATUS_CHANGED", "acc0", status="closed", reason="left")
    assert refused(fold, closed) == ("not_empty", "account_id")
    off = {"token_type": "CONTRIB", "reason": "left"}
    more = told("BALANCE_ADJUSTED", "acc0", amount="5.000001", direction="decrease", **off)
    assert refused(fold, more) == ("insufficient_balance", "data.amount")
    up = told("BALANCE_ADJUSTED", "acc0", amount="1", direction="increase", **off)
    assert refused(fold, up) == ("wrong_token_type", "data.token_type")
    assert fold.one(told("BALANCE_ADJUSTED", "acc0", amount="5", direction="decrease", **off)).refused is None
    sides = (AccountCode.USER, "acc0"), (AccountCode.TREASURY, "")
    assert [fold.balance(CONTRIB, *side) for side in sides] == [0, 0]
    assert fold.one(closed).refused is None
