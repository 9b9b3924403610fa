"""The flows' pure half: events, marks, records, decisions, balances."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.domain.account import LEDGER_IDS, AccountCode
from pipeline.domain.flows.accounts import (
    ANCHORS,
    AccountRow,
    account,
    broken_sign,
    control,
    flags_of,
    ident,
)
from pipeline.domain.flows.balances import Sums, owner_balances, split
from pipeline.domain.flows.events import (
    FIELDS,
    EventName,
    FlowEvent,
    Kind,
    Party,
    Refusal,
    check,
    from_dict,
    register_ids,
    to_dict,
)
from pipeline.domain.flows.outcome import (
    CODES,
    Outcome,
    Reason,
    decisions,
    in_decided_order,
    refusal_alert,
    transfer_records,
)
from pipeline.domain.flows.plan import Facts, mark_id, name_mark
from pipeline.domain.flows.rules import RULES, plan
from schemas.codec import local_codec

T0 = 1_800_000_000_000
ALICE, SHOP = Party("alice"), Party("shop", AccountCode.MERCHANT)
NAME = EventName("app", "web", "42")
PAY = FlowEvent(kind=Kind.PAYMENT, name=NAME, time_ms=T0, asset="SOVR", amount=5, debtor=ALICE, creditor=SHOP)


def test_every_kind_has_its_fields_its_rule_and_its_code() -> None:
    assert set(FIELDS) == set(RULES) == set(Kind)
    assert set(CODES) == set(Kind) - {Kind.POST}  # its legs have their own


def test_names_of_assets_codes_and_anchors_are_s4s() -> None:
    assert (LEDGER_IDS["SOVR"], LEDGER_IDS["GROCERY_OBLIGATION"]) == (999, 1001)
    assert ANCHORS == ("GROCERY", "UTILITY", "FUEL")
    assert [flags_of(code) for code in (1, 2, 3, 4, 5, 6, 7, 100)] == [10, 10, 12, 10, 10, 10, 10, 8]
    assert ident(control("USD")) == (1).to_bytes(16, "little")


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"amount": 0}, "amount_not_positive", "amount"),
        ({"amount": -1}, "amount_not_positive", "amount"),
        ({"amount": 1 << 128}, "amount_over_u128", "amount"),
        ({"amount": 1.0}, "bad_amount", "amount"),
        ({"amount": True}, "bad_amount", "amount"),
        ({"amount": None}, "missing", "amount"),
        ({"asset": "DOGE"}, "unknown_asset", "asset"),
        ({"asset": "FUEL_OBLIGATION"}, "obligation_book", "asset"),
        ({"debtor": None}, "missing", "debtor"),
        ({"debtor": Party("")}, "missing", "debtor"),
        ({"debtor": Party("x", AccountCode.TREASURY)}, "wrong_type", "debtor"),
        ({"creditor": ALICE}, "same_account", "creditor"),
        ({"time_ms": 0}, "bad_time", "time"),
        ({"expires_ms": T0}, "expired", "expires"),
        ({"expires_ms": 1 << 64}, "bad_time", "expires"),
        ({"timeout_s": 1 << 32}, "bad_timeout", "timeout"),
        ({"name": EventName("", "", "k")}, "missing", "name"),
        ({"name": EventName("marker", "", "k")}, "bad_name", "name"),
        ({"kind": Kind.AUTHORIZE, "asset": "USD", "subject": "s", "anchor": "FUEL"}, "other_asset", "asset"),
        ({"kind": Kind.AUTHORIZE, "subject": "s", "anchor": "BEER"}, "unknown_anchor", "anchor"),
        ({"kind": Kind.SETTLE}, "wrong_type", "debtor"),
    ],
)
def test_a_bad_event_is_told_by_its_field(change: dict[str, Any], reason: str, field: str) -> None:
    with pytest.raises(Refusal) as refusal:
        check(replace(PAY, **change))
    assert (refusal.value.reason, refusal.value.field) == (reason, field)


def test_the_digest_sees_every_field() -> None:
    others = [
        replace(PAY, **change)  # type: ignore[arg-type]
        for change in (
            {"amount": 6}, {"asset": "USD"}, {"debtor": SHOP}, {"creditor": None}, {"subject": "x"}, {"anchor": "x"},
            {"reference": NAME}, {"expires_ms": 1}, {"timeout_s": 1}, {"proof": "x"}, {"attested": True},
            {"time_ms": 1}, {"kind": Kind.FEE}, {"name": NAME._replace(attempt=1)},
        )
    ]  # fmt: skip
    assert len({event.digest() for event in (PAY, *others)}) == 1 + len(others)


@pytest.mark.parametrize(
    "event", [PAY, replace(PAY, reference=NAME, creditor=None, amount=(1 << 128) - 2, attested=True)]
)
def test_an_event_survives_json(event: FlowEvent) -> None:
    assert from_dict(to_dict(event)) == event
    assert from_dict(to_dict(event)).digest() == event.digest()


def test_ids_are_what_design_says() -> None:
    ids = register_ids(PAY)
    assert [ident & 3 for ident in ids] == [0, 1, 2]
    assert all(ident >> 127 == 1 for ident in ids)
    assert len({ident >> 16 for ident in ids}) == 1
    assert NAME.transfer_id(3) - NAME.transfer_id(0) == 3 << 2


def test_marks_are_no_events_ids() -> None:
    marks = {
        mark_id("claim", "s"),
        mark_id("end", "s"),
        mark_id("claim", "s", ""),
        name_mark("refund", NAME, "0"),
    }
    assert len(marks) == 4
    assert EventName("marker", "claim", "1").transfer_id(0) not in marks


def test_a_plan_is_one_linked_chain() -> None:
    begin = FlowEvent(
        kind=Kind.AUTHORIZE, name=NAME, time_ms=T0, amount=5, debtor=ALICE, subject="s", anchor="FUEL"
    )
    facts = Facts(transfers={mark_id("authorize", "s"): None})
    made = plan(begin, facts)
    assert [made.flags(place) for place in range(2)] == [1, 0]
    assert [move.amount for move in made.moves] == [5, 0]
    assert made.moves[1].user_data_128 == made.register == NAME.transfer_id(0)
    assert made.moves[1].user_data_32 == 1003


def test_records_are_valid_messages_also_of_absurd_events() -> None:
    codec = local_codec()
    for event in (
        PAY,
        replace(PAY, amount=1 << 300, asset="DOGE"),
        replace(PAY, amount=-1, time_ms=-5, debtor=None),
    ):
        outcome = Outcome(event, refused=Reason("r", "f", "d: e: f"))
        (record,) = transfer_records(outcome)
        message = codec.encode("books.transfers.v1", record, strict=True)
        assert codec.decode(message)[1] == record
        assert 0 <= int(record["transfers"][0]["amount"]) < 1 << 256
        codec.encode("control.alerts.v1", refusal_alert(outcome), strict=True)


def test_a_refused_record_names_the_accounts_that_the_flow_is_between() -> None:
    claim = FlowEvent(kind=Kind.CLAIM, name=NAME, time_ms=T0, subject="s")
    (record,) = transfer_records(Outcome(claim, refused=Reason("r", "f", "d")))
    (row,) = record["transfers"]
    assert (row["debit_code"], row["credit_code"]) == (AccountCode.SYSTEM_BUFFER, AccountCode.ANCHOR)
    assert record["asset"] == "offchain/SOVR"


def test_decisions_are_read_back_in_their_order() -> None:
    made = plan(PAY, Facts())
    late = Outcome(PAY, made, timestamps=(9,))
    early = replace(PAY, name=NAME._replace(key="7"))
    refused = replace(PAY, name=NAME._replace(attempt=1))
    why = Reason("insufficient_balance", "debtor", "not: enough")
    outcomes = [late, Outcome(early, plan(early, Facts()), timestamps=(5,)), Outcome(refused, refused=why)]
    decided = decisions(record for outcome in outcomes for record in transfer_records(outcome))
    assert list(decided) == ["app:web:42#1", "app:web:7", "app:web:42"]
    assert decided["app:web:42#1"].refused == why
    unknown = replace(PAY, name=NAME._replace(key="new"))
    assert in_decided_order([unknown, PAY, early, refused], decided) == [refused, early, PAY, unknown]


def _row(code: AccountCode, owner: str, sums: Sums) -> tuple[AccountRow, Sums]:
    ref = account("SOVR", code, owner)
    return AccountRow(ident(ref), *sums, b"", 999, ref.code, flags_of(ref.code), 0), sums


def test_available_locked_pending() -> None:
    user = _row(AccountCode.USER, "a", Sums(30, 20, 7, 100))
    escrow = _row(AccountCode.ESCROW, "a", Sums(0, 1, 30, 5))
    assert split(AccountCode.USER, user[1]) == (50, 30, 7)
    assert split(AccountCode.TREASURY, Sums(7, 100, 30, 20)) == (50, 30, 7)
    (row,) = owner_balances("a", [user, escrow])
    assert row[:5] == ("a", "SOVR", 50, 34, 7)


def test_a_broken_sign_is_seen() -> None:
    assert broken_sign(_row(AccountCode.USER, "a", Sums(1, 9, 0, 10))[0]) is None
    assert broken_sign(_row(AccountCode.USER, "a", Sums(2, 9, 0, 10))[0]) == "debits exceed credits"
    assert broken_sign(_row(AccountCode.TREASURY, "", Sums(0, 9, 1, 9))[0]) == "credits exceed debits"
