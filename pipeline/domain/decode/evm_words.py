"""ABI words: one static elementary value in 32 bytes, read from 64 hex digits. Pure.

The theory: nearly all that events carry is static, so an event is a list of words at known places; each type
has one reader that takes the word and gives the text of the value, checking the padding as Solidity writes it.
What is dynamic or compound goes through eth_abi, and is written as the same texts.

Follows the contract ABI specification of Solidity ("Formal Specification of the Encoding").
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import orjson
from eth_abi import abi
from eth_abi.exceptions import DecodingError, ParseError

Reader = Callable[[str], str]

WORD: Final = 64  # hex digits of a word
_NO_PADDING: Final = "0" * 24
_ELEMENTARY: Final = re.compile(r"(uint|int|bytes)([0-9]+)|address|bool|function")


class Undecodable(ValueError):
    """The topics or data do not hold what the event declares."""


def _uint256(word: str) -> str:
    return str(int(word, 16))


def _address(word: str) -> str:
    if word[:24] != _NO_PADDING:
        raise Undecodable(f"not an address: 0x{word}")
    return "0x" + word[24:]


def _bool(word: str) -> str:
    number = int(word, 16)
    if number > 1:
        raise Undecodable(f"not a bool: 0x{word}")
    return "true" if number else "false"


def _uint(bits: int) -> Reader:
    def read(word: str) -> str:
        number = int(word, 16)
        if number >> bits:
            raise Undecodable(f"beyond uint{bits}: 0x{word}")
        return str(number)

    return read


def _int(bits: int) -> Reader:
    limit = 1 << (bits - 1)

    def read(word: str) -> str:
        number = int(word, 16)
        number = number - (1 << 256) if number >> 255 else number
        if not -limit <= number < limit:
            raise Undecodable(f"beyond int{bits}: 0x{word}")
        return str(number)

    return read


def _bytes(size: int) -> Reader:
    end = 2 * size
    padding = "0" * (WORD - end)

    def read(word: str) -> str:
        if word[end:] != padding:
            raise Undecodable(f"longer than bytes{size}: 0x{word}")
        return "0x" + word[:end]

    return read


@cache
def word_reader(kind: str) -> Reader | None:
    """Reader of a static elementary type; None for a dynamic or compound one. ValueError: no such type."""
    match = _ELEMENTARY.fullmatch(kind)
    if match is None:
        return None
    if kind in _NAMED:
        return _NAMED[kind]
    family, number = match[1], int(match[2])
    if family == "bytes":
        if not 1 <= number <= 32:
            raise ValueError(f"no ABI type {kind}")
        return _bytes(number)
    if not 8 <= number <= 256 or number % 8:
        raise ValueError(f"no ABI type {kind}")
    return _uint(number) if family == "uint" else _int(number)


_NAMED: Final[dict[str, Reader]] = {
    "uint256": _uint256,
    "address": _address,
    "bool": _bool,
    "function": _bytes(24),
}


def decode_data(kinds: tuple[str, ...], data: str) -> tuple[str, ...]:
    """Texts of the values of `kinds` in `data` (hex digits without 0x), by eth_abi. Raises Undecodable."""
    try:
        values = abi.decode(tuple(_as_bytes(kind) for kind in kinds), bytes.fromhex(data))
    except (DecodingError, ParseError, OverflowError, ValueError, MemoryError) as error:
        raise Undecodable(str(error)[:200]) from None
    return tuple(text(kind, value) for kind, value in zip(kinds, values, strict=True))


@cache
def _as_bytes(kind: str) -> str:
    """Strings are read as bytes: what is not UTF-8 must not lose the log."""
    return re.sub(r"\bstring\b", "bytes", kind)


def text(kind: str, value: Any) -> str:
    """A value as `EvmArg.value` has it: one text; arrays and tuples as JSON of these."""
    plain = _plain(kind, value)
    return plain if isinstance(plain, str) else orjson.dumps(plain).decode()


def _plain(kind: str, value: Any) -> Any:
    if kind.endswith("]"):
        inner = kind[: kind.rindex("[")]
        return [_plain(inner, each) for each in value]
    if kind.startswith("("):
        return [_plain(of, each) for of, each in zip(tuple_parts(kind), value, strict=True)]
    if kind == "string":
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return value if isinstance(value, str) else str(value)


def tuple_parts(kind: str) -> list[str]:
    """Component types of a tuple type `(a,b,(c,d)[])`."""
    parts, depth, start = [], 0, 1
    for place, sign in enumerate(kind):
        depth += (sign == "(") - (sign == ")")
        if (depth == 1 and sign == ",") or depth == 0:
            if place > start:
                parts.append(kind[start:place])
            start = place + 1
    return parts
