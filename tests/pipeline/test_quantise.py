"""q(x) = min(floor(x * 10^15), 2^112), at its edges and against Decimal."""

from decimal import Context, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.quantise import CAP, is_capped, quantise, units_to_decimal

EXACT = Context(prec=400)


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("0", 0),
        ("1", 10**15),
        ("0.000000000000001", 1),
        ("0.0000000000000009", 0),
        ("1.9999999999999999", 1999999999999999),
        ("-5", 0),
        ("13071.83375", 13071833750000000000),
        ("5192296858534827628.530496329220096", CAP),
        ("5192296858534827628.530496329220095", CAP - 1),
        ("9" * 80, CAP),
    ],
)
def test_known_values(text, units):
    assert quantise(text) == units


@given(st.decimals(min_value=0, max_value=Decimal("1e30"), allow_nan=False, allow_infinity=False, places=20))
def test_is_floor_of_the_scaled_value(value):
    text = format(value, "f")
    assert quantise(text) == min(int(Decimal(text).scaleb(15, EXACT)), CAP)


@pytest.mark.parametrize(
    ("text", "capped"),
    [
        ("5192296858534827628.530496329220096", False),
        ("5192296858534827628.530496329220097", True),
        ("5192296858534827629", True),
        ("9999999999999999999", True),
        ("999999999999999999", False),
        ("-" + "9" * 40, False),
    ],
)
def test_capped_only_beyond_the_cap(text, capped):
    assert is_capped(text) is capped


@given(st.integers(-(10**40), 10**40))
def test_units_show_exactly(units):
    assert Decimal(units_to_decimal(units)) == Decimal(units).scaleb(-15, EXACT)
    assert "E" not in units_to_decimal(units)
