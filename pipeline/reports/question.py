"""What reports are asked with: days, words and parameters, checked before anything is read. Pure.

A `Report` is a query with bound parameters. `Report.pasteable` has them written in, so that whoever is shown it can
give it to `tidebook query` or any ClickHouse client as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

from sinks.ddl_shape import literal

FIRST_DAY: Final = date(1970, 1, 1)
LAST_DAY: Final = date(2149, 6, 5)
"""The days that ClickHouse's Date has, but the last: views ask for what is before the day after."""
WORD_MAX: Final = 256  # characters of a name or id
_PARAMETER: Final = re.compile(r"\{(\w+):\s*(\w+)\}")
_DAY: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


class BadQuestion(ValueError):
    """An argument that cannot be answered: `field` names it, the message says what is wrong and what to do."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.field, self.detail = field, detail


@dataclass(frozen=True)
class Report:
    """A query: `{name:Type}` in `sql` are `parameters`.

    `final`: every table is read as with FINAL. False where the text says FINAL wherever it is needed; then a question
    by key costs what it reads, and no merging of what lies beside.
    """

    sql: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    final: bool = True

    @property
    def pasteable(self) -> str:
        """The query with its parameters written in."""
        return _PARAMETER.sub(lambda found: self._written(found[1], found[2]), self.sql)

    def _written(self, name: str, kind: str) -> str:
        value = self.parameters[name]
        if isinstance(value, date):
            return f"toDate('{value}')" if kind == "Date" else literal(str(value))
        return literal(value)


@dataclass(frozen=True)
class Period:
    """Days (UTC) from `first` to `last`, both included."""

    first: date = FIRST_DAY
    last: date = LAST_DAY

    @property
    def whole(self) -> bool:
        """Whether it leaves no day out."""
        return (self.first, self.last) == (FIRST_DAY, LAST_DAY)

    @property
    def parameters(self) -> dict[str, date]:
        """As `from` and `to` of the views."""
        return {"from": self.first, "to": self.last}


def day(text: str, name: str) -> date:
    """A day written YYYY-MM-DD. Raises BadQuestion naming the argument `name`."""
    try:
        if not _DAY.fullmatch(text):
            raise ValueError
        found = date.fromisoformat(text)
    except ValueError:
        raise BadQuestion(name, f"{text[:40]!r} is no day; write it as 2026-01-31 (UTC)") from None
    if not FIRST_DAY <= found <= LAST_DAY:
        raise BadQuestion(name, f"{found} lies outside {FIRST_DAY} to {LAST_DAY}")
    return found


def period(first: str | None, last: str | None, names: tuple[str, str] = ("from", "to")) -> Period:
    """From the day `first` to the day `last`; None: no bound. Raises BadQuestion."""
    made = Period(
        FIRST_DAY if first is None else day(first, names[0]),
        LAST_DAY if last is None else day(last, names[1]),
    )
    if made.first > made.last:
        raise BadQuestion(names[1], f"{made.last} is before {names[0]} {made.first}; exchange them")
    return made


def word(text: str | None, name: str) -> str | None:
    """A name or id as it is. Raises BadQuestion where it is empty, too long or no text."""
    if text is None:
        return None
    if not text or len(text) > WORD_MAX or not text.isprintable():
        raise BadQuestion(name, f"give 1 to {WORD_MAX} printable characters, or leave it out")
    return text


def one_of(text: str, known: tuple[str, ...], name: str) -> str:
    """A word of `known`. Raises BadQuestion."""
    if text not in known:
        raise BadQuestion(name, f"{text[:40]!r} is none of {', '.join(known)}")
    return text
