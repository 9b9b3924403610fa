"""Schedules: the clock's own steps in their order, and any order of steps and payments against what S3 allows; and
what payments pay, unit by unit."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.catalog.tokens import TOKENS
from pipeline.domain.applications.event import AppEvent
from pipeline.domain.tokens import money
from tests.support.applications import TestFold, event, fold_of
from tests.support.examples import examples

START_MS = 1_767_614_400_000
DAY_MS = 86_400_000
STEPS = ("PAYMENT_DUE", "PAYMENT_LATE", "COLLECTION_NOTICE_SENT", "DEFAULT_RECORDED")


def _event(place: int, type: str, at_ms: int, data: dict[str, Any], source: str = "api") -> AppEvent:
    return event(TOKENS, type, "ana", at_ms, data, source=source, id=f"e{place}")


def _scheduled(days: list[int], amounts: list[str], **terms: int | None) -> TestFold:
    fold = fold_of(TOKENS)
    parts = [
        {"due_at": START_MS + day * DAY_MS, "amount": amount}
        for day, amount in zip(days, amounts, strict=True)
    ]
    said = [
        ("ACCOUNT_OPENED", {"owner_type": "member", "owner_id": "mem_" + "a1" * 16}),
        ("PAYMENT_SCHEDULE_CREATED", {"schedule_id": "s", "instalments": parts, **terms}),
    ]
    judged = fold.apply([_event(-place, type, START_MS, data) for place, (type, data) in enumerate(said, 1)])
    assert [one.refused for one in judged] == [None, None]
    return fold


def _schedule(fold: TestFold) -> dict[str, Any]:
    found = fold.state("schedule", "s")
    assert found is not None
    return found


def test_the_clock_tells_every_step_once_and_in_order() -> None:
    """Grace as long as the distance of the instalments: steps fall on the same time, and still none is lost."""
    fold = _scheduled([30, 60], ["100", "50"], grace_days=30, notice_days=0, default_days=30)
    told = []
    while "due" in _schedule(fold):
        due = _schedule(fold)["due"]
        judged = fold.one(_event(len(told), due["type"], due["at_ms"], due["data"], "clock"))
        assert judged.refused is None, judged.refused
        told.append((due["at_ms"], due["type"], due["data"]["instalment"]))
    assert len({at_ms for at_ms, _, _ in told}) == len(told) == 8, "the clock's key is made of the time"
    assert told == sorted(told, key=lambda one: one[0])
    for number in (1, 2):
        assert tuple(type for _, type, part in told if part == number) == STEPS
    credit = fold.state("credit", "ana")
    assert credit is not None and sorted(credit["defaulted"]) == ["s:1", "s:2"]
    fold.close()


def test_steps_without_days_are_left_to_a_service() -> None:
    fold = _scheduled([1], ["1"])
    for place, at_ms in enumerate((START_MS + DAY_MS, START_MS + DAY_MS + 1)):
        due = _schedule(fold)["due"]
        assert (due["type"], due["at_ms"]) == (STEPS[place], at_ms)
        fold.one(_event(place, due["type"], due["at_ms"], due["data"], "clock"))
    assert "due" not in _schedule(fold)
    judged = fold.one(_event(2, STEPS[2], START_MS + 2 * DAY_MS, {"schedule_id": "s", "instalment": 1}))
    assert judged.refused is None
    fold.close()


def test_a_payment_ends_what_is_due() -> None:
    fold = _scheduled([1, 2], ["1", "2"])
    fold.one(_event(1, "PAYMENT_RECEIVED", START_MS, {"amount": "3", "external_reference": "bank"}))
    schedule, credit = _schedule(fold), fold.state("credit", "ana")
    assert schedule["status"] == "paid" and "due" not in schedule
    assert credit is not None and credit["schedules"] == []
    assert fold.state("balance", "ana:CREDIT") is None
    fold.close()


plans = st.lists(
    st.tuples(
        st.booleans(), st.lists(st.tuples(st.integers(1, 6), st.integers(1, 3)), min_size=1, max_size=3)
    ),
    max_size=3,
)
paid_in = st.lists(st.tuples(st.integers(1, 9), st.none() | st.integers(0, 2)), min_size=1, max_size=4)


Coin = tuple[int, int, int]  # a unit that is to be paid: on which day, of which schedule, of which instalment


def _planned(said: list[Any], debt: int) -> tuple[TestFold, list[Coin]]:
    """An account that owes `debt` CREDIT and has these schedules: (whether it has a reference, [(day, units)])."""
    fold, coins = fold_of(TOKENS), list[Coin]()
    told = [("ACCOUNT_OPENED", {"owner_type": "member", "owner_id": "mem_" + "a1" * 16})]
    if debt:
        told += [("CREDIT_LIMIT_GRANTED", {"limit": str(debt)}), ("CREDIT_ISSUED", {"amount": str(debt)})]
    for place, (own, parts) in enumerate(said):
        due = sorted(dict(parts).items())
        data: dict[str, Any] = {"reference_type": "purchase_order", "reference_id": "po"} if own else {}
        data["instalments"] = [
            {"due_at": START_MS + day * DAY_MS, "amount": str(units)} for day, units in due
        ]
        told.append(("PAYMENT_SCHEDULE_CREATED", {"schedule_id": f"s{place}", **data}))
        coins += [(day, place, n) for n, (day, units) in enumerate(due) for _ in range(units)]
    judged = fold.apply(_event(-n, type, START_MS, data) for n, (type, data) in enumerate(told))
    assert not [one.refused for one in judged if one.refused]
    return fold, coins


@settings(max_examples=examples(400, 100))
@given(plans, st.integers(0, 12), paid_in)
def test_every_unit_of_a_payment_counts_once(said: list[Any], debt: int, paid: list[Any]) -> None:
    """Schedules, some with a reference of their own, beside a CREDIT debt; the model pays unit by unit."""
    fold, coins = _planned(said, debt)
    owed, extra = debt, 0
    for n, (amount, first) in enumerate(paid, 1):
        named = first if first is not None and first < len(said) else None
        body = {"amount": str(amount), "external_reference": "bank"}
        body |= {} if named is None else {"schedule_id": f"s{named}"}
        assert fold.one(_event(n, "PAYMENT_RECEIVED", START_MS, body)).refused is None
        coins.sort(key=lambda coin, named=named: (coin[1] != named, *coin))
        now, coins = coins[:amount], coins[amount:]
        owed -= min(owed, sum(not said[place][0] for _, place, _ in now))  # on plans of the debt itself
        beside = min(owed, amount - len(now))
        owed, extra = owed - beside, extra + amount - len(now) - beside
    open_ = {
        (int(id[1:]), part["number"] - 1): money.units(part["amount"]) - money.units(part["paid"])
        for id, schedule in fold.states("schedule").items()
        for part in schedule["instalments"]
    }
    left = Counter((place, n) for _, place, n in coins)
    assert open_ == {part: left[part] * money.ONE for part in open_}
    credit, balance = fold.state("credit", "ana"), fold.state("balance", "ana:CREDIT")
    assert credit is not None and credit["outstanding"] == str(owed)
    assert set(credit["schedules"]) == {f"s{place}" for _, place, _ in coins}
    assert (balance or {"available": "0"})["available"] == str(debt + extra)
    fold.close()


steps = st.tuples(st.sampled_from(STEPS), st.integers(1, 2), st.integers(0, 12), st.just(""))
payments = st.tuples(
    st.just("PAYMENT_RECEIVED"), st.just(0), st.integers(0, 12), st.sampled_from(("1", "2.5", "4"))
)


@settings(max_examples=examples(1000, 250))
@given(st.lists(steps | steps | steps | payments, max_size=14))
def test_no_step_before_the_one_before_it(said: list[tuple[str, int, int, str]]) -> None:
    """Two instalments of 3, due on days 2 and 4, late two days later: what is applied, by a model of its own."""
    fold = _scheduled([2, 4], ["3", "3"], grace_days=2)
    stage, since, paid, due_on = {1: 0, 2: 0}, {1: 0, 2: 0}, Decimal(0), {1: 2, 2: 4}
    for place, (type, number, day, amount) in enumerate(said, 1):
        data: dict[str, Any] = {"schedule_id": "s", "instalment": number}
        if type == "PAYMENT_RECEIVED":
            data = {"amount": amount, "external_reference": "bank"}
        found = fold.one(_event(place, type, START_MS + day * DAY_MS, data)).refused is None
        if type == "PAYMENT_RECEIVED":
            paid, expected = paid + Decimal(amount), True
        else:
            earliest = max(since[number], due_on[number] + {0: 0, 1: 2}.get(stage[number], 0))
            open_ = paid < 3 * number
            expected = open_ and stage[number] == STEPS.index(type) and day >= earliest
            if expected:
                stage[number], since[number] = stage[number] + 1, day
        assert found == expected, (type, number, day)
    fold.close()
    names = ("scheduled", "due", "late", "noticed", "defaulted")
    statuses = {part["number"]: part["status"] for part in _schedule(fold)["instalments"]}
    assert statuses == {n: "paid" if paid >= 3 * n else names[stage[n]] for n in (1, 2)}
    credit = fold.state("credit", "ana")
    assert credit is not None
    assert sorted(credit["defaulted"]) == [f"s:{n}" for n in (1, 2) if statuses[n] == "defaulted"]
