"""Exact decimal amounts.

An amount is a decimal string. It is read into (mantissa, exponent): value = mantissa * 10**exponent, both
exact integers, and written back as the plain decimal: no exponent, no trailing zero after the point, no
"-0". Nothing here rounds: no float and no context-dependent Decimal.

The XRP Ledger writes issued amounts with up to 16 digits and exponents from -96 to 80, such as
"1520019986234183e-27"; a difference of two of them needs up to about 193 digits, which an int holds.
"""

import re

_DIGITS_MAX = 400
_DECIMAL = re.compile(r"([+-]?[0-9]+)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]{1,4}))?").fullmatch


def parse_decimal(text: str) -> tuple[int, int]:
    """(mantissa, exponent) of a decimal string. ValueError if it is none or beyond 400 digits."""
    match = _DECIMAL(text)
    if match is None:
        raise ValueError(f"not a decimal number: {text[:80]!r}")
    whole, fraction, tail = match.groups()
    exponent = int(tail) if tail else 0
    if fraction:
        whole += fraction
        exponent -= len(fraction)
    if len(whole) + abs(exponent) > _DIGITS_MAX:
        raise ValueError(f"a number of more than {_DIGITS_MAX} digits: {text[:80]!r}")
    return int(whole), exponent


def format_decimal(mantissa: int, exponent: int) -> str:
    """The plain decimal of mantissa * 10**exponent."""
    if not mantissa:
        return "0"
    if exponent >= 0:
        return str(mantissa) + "0" * exponent
    sign, digits = ("-", str(-mantissa)) if mantissa < 0 else ("", str(mantissa))
    point = len(digits) + exponent
    if point <= 0:
        return sign + "0." + ("0" * -point + digits).rstrip("0")
    fraction = digits[point:].rstrip("0")
    return sign + digits[:point] + ("." + fraction if fraction else "")


def plain(text: str) -> str:
    """The same number as a plain decimal string."""
    return format_decimal(*parse_decimal(text))


def negate(text: str) -> str:
    """-x of a plain decimal string."""
    if text == "0":
        return text
    return text[1:] if text[0] == "-" else "-" + text


def subtract(minuend: str, subtrahend: str) -> str:
    """minuend - subtrahend, exactly, as a plain decimal string."""
    a, a_exponent = parse_decimal(minuend)
    b, b_exponent = parse_decimal(subtrahend)
    if a_exponent > b_exponent:
        return format_decimal(a * 10 ** (a_exponent - b_exponent) - b, b_exponent)
    return format_decimal(a - b * 10 ** (b_exponent - a_exponent), a_exponent)


def add(augend: str, addend: str) -> str:
    """augend + addend, exactly, as a plain decimal string."""
    b, b_exponent = parse_decimal(addend)
    return subtract(augend, format_decimal(-b, b_exponent))
