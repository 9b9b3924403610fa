"""numeric(20,6) at its edges, and token types that are not let in."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.catalog.tokens import TOKENS
from pipeline.domain.applications.event import Refusal
from pipeline.domain.tokens import money
from tests.support.applications import event, fold_of

MOST = "99999999999999.999999"
TYPE = {
    "token_type_id": "SEED", "name": "Carpool voucher", "transferability": "internal", "visible_label": "Seeds",
    "substance": "prepaid",
}  # fmt: skip


@pytest.mark.parametrize("text", ["0", "0.000001", "1.500000", "14", MOST, "-0.000001", f"-{MOST}"])
def test_what_fits_is_exact(text: str) -> None:
    assert money.units(text) == int(Decimal(text) * 10**6)
    assert Decimal(money.text(money.units(text))) == Decimal(text)


@pytest.mark.parametrize(
    "text",
    ["", ".", "1.", ".5", "1.0000001", "100000000000000", "1e3", "+1", " 1", "1\n", "01", "--1", "NaN", "١", "1,5"],
)  # fmt: skip
def test_what_does_not_fit_is_refused(text: str) -> None:
    with pytest.raises(Refusal) as told:
        money.units(text, "data.weight")
    assert (told.value.reason, told.value.field) == ("bad_amount", "data.weight")


@pytest.mark.parametrize("text", ["0", "-0", "0.000000", "-1"])
def test_an_amount_is_above_zero(text: str) -> None:
    with pytest.raises(Refusal, match="not above 0"):
        money.positive(text)


@given(st.integers(-money.UNITS_MAX, money.UNITS_MAX))
def test_text_and_units_are_inverse(amount: int) -> None:
    assert money.units(money.text(amount)) == amount


def test_a_balance_ends_where_numeric_ends() -> None:
    """The most that fits is taken; a millionth more, or a second lot of it, is not, and nothing of it happens."""
    fold = fold_of(TOKENS)
    put = {"direction": "increase", "reason": "edge"}
    said: list[tuple[str, dict[str, Any]]] = [
        ("ACCOUNT_OPENED", {"owner_type": "member", "owner_id": "mem_" + "a1" * 16}),
        ("BALANCE_ADJUSTED", {"amount": MOST, **put}),
        ("BALANCE_ADJUSTED", {"amount": "0.000001", **put}),
        ("ESCROW_LOCKED", {"escrow_id": "x", "amount": MOST}),
        ("BALANCE_ADJUSTED", {"amount": "0.000001", **put}),
    ]
    judged = fold.apply(
        [
            event(TOKENS, type, "ana", 1 + place, data, id=f"e{place}")
            for place, (type, data) in enumerate(said)
        ]
    )
    assert [one.refused and one.refused.reason for one in judged] == [
        None, None, "balance_over_limit", None, "balance_over_limit"
    ]  # fmt: skip
    balance = fold.state("balance", "ana:CREDIT")
    assert balance is not None and (balance["available"], balance["locked"]) == ("0", MOST)
    fold.close()


@pytest.mark.parametrize(
    ("said", "reason", "field"),
    [
        ({}, None, ""),  # a word that only contains a financial one is none
        ({"substance": "receivable"}, "regulated_structure_missing", "data.substance"),
        ({"substance": "pool"}, "regulated_structure_missing", "data.substance"),
        ({"substance": "yield"}, "regulated_structure_missing", "data.substance"),
        ({"regulated_flag": True}, "regulated_structure_missing", "data.regulated_flag"),
        ({"name": "Harvest Receivables 2026"}, "regulated_structure_missing", "data.name"),
        ({"visible_label": "Yield"}, "regulated_structure_missing", "data.visible_label"),
        ({"transferability": "free"}, "bad_choice", "data.transferability"),
        ({"substance": "other"}, "bad_choice", "data.substance"),
        ({"token_type_id": "OTHER"}, "wrong_key", "account_id"),
    ],
)
def test_which_types_are_let_in(said: dict[str, Any], reason: str | None, field: str) -> None:
    fold = fold_of(TOKENS)
    refused = fold.one(event(TOKENS, "TOKEN_TYPE_REGISTERED", "SEED", 1, {**TYPE, **said})).refused
    assert (refused and refused.reason) == reason
    assert refused is None or refused.field == field
    fold.close()


def test_the_id_of_a_type_may_not_be_financial_either() -> None:
    said = {**TYPE, "token_type_id": "RENT_POOL"}
    refused = fold_of(TOKENS).one(event(TOKENS, "TOKEN_TYPE_REGISTERED", "RENT_POOL", 1, said)).refused
    assert refused is not None and refused.reason == "regulated_structure_missing"


@pytest.mark.parametrize("kind", ["CREDIT", "CONTRIB"])
def test_built_in_types_are_not_registered_again(kind: str) -> None:
    said = {**TYPE, "token_type_id": kind}
    refused = fold_of(TOKENS).one(event(TOKENS, "TOKEN_TYPE_REGISTERED", kind, 1, said)).refused
    assert refused is not None and refused.reason == "already_registered"
