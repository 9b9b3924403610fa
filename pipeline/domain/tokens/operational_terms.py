"""Terms that events of the token ledger are checked in: references, hashes, codes, titles, exact quantities.

Health and other personal data never enter a topic that is kept for ever (DESIGN.md, "Topics"). Whoever a person
stands behind is named by a reference made by chance, a document by a salted hash; both have a form that no name,
address or number of a register has, so free text is refused by its form, before it is written anywhere.
Quantities are exact (pipeline.domain.tokens.money).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from pipeline.domain.applications.event import AppEvent, Check, Refusal, Value, View, one
from pipeline.domain.tokens import money

KEY: Final = "account_id"  # the envelope's field

_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_REFERENCE: Final = re.compile(f"(?:[a-z]{{2,4}}_)?(?:{_UUID}|[0-9a-f]{{32,64}})")
_PERSON: Final = re.compile("[0-9a-f]{32,64}")
_HASH: Final = re.compile("[0-9a-f]{64}")
_CODE: Final = re.compile("[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
_TITLE: Final = re.compile(r"[^\W_][\w &'().,/-]{0,79}")
_DIGITS: Final = re.compile(r"(?:\d[ .,/()-]*){6}")  # a number of a register, a telephone

Wanted = tuple[str, ...]


def person(text: str, field: str) -> None:
    """Key of a person in people.data.v1. Raises Refusal (not_a_reference)."""
    if not _PERSON.fullmatch(text):
        raise Refusal(
            "not_a_reference",
            field,
            "must be the person's key in people.data.v1, 32 to 64 hex digits made by chance",
        )


def reference(text: str, field: str) -> None:
    """Id of what a person stands behind: a member, a prescription; of a salt. Raises Refusal (not_a_reference)."""
    if not is_reference(text):
        raise Refusal(
            "not_a_reference",
            field,
            "must be a UUID or 32 to 64 hex digits (a prefix as mem_ is allowed): personal data does not belong here",
        )


def is_reference(text: str) -> bool:
    """Whether a text has the form of what `reference` lets pass."""
    return _REFERENCE.fullmatch(text) is not None


def is_code(text: str) -> bool:
    """Whether a text has the form of what `code` lets pass."""
    return _CODE.fullmatch(text) is not None


def digest(text: str, field: str) -> None:
    """A salted hash. Raises Refusal (not_a_hash)."""
    if not _HASH.fullmatch(text):
        raise Refusal(
            "not_a_hash", field, "must be 64 hex digits: the salted hash, never the document itself"
        )


def code(text: str, field: str) -> None:
    """An id or a code. Raises Refusal (bad_code)."""
    if not is_code(text):
        raise Refusal(
            "bad_code", field, "must be 1 to 64 letters, digits and _ . : - and begin with a letter or digit"
        )


def title(text: str, field: str) -> None:
    """The name of an association, circle or role. Raises Refusal (bad_title)."""
    if not _TITLE.fullmatch(text) or _DIGITS.search(text):
        raise Refusal(
            "bad_title",
            field,
            "must be a name of up to 80 letters and spaces, without addresses and numbers of persons",
        )


def held(state: Value, field: str) -> int:
    """A quantity of a state, in millionths."""
    return money.units(state[field], field)


def checked(
    *, key: Callable[[str, str], None] = code, persons: Wanted = (), references: Wanted = (), hashes: Wanted = (),
    codes: Wanted = (), titles: Wanted = (), quantities: Wanted = (), scores: Wanted = (), also: Check | None = None,
) -> Check:  # fmt: skip
    """The check of a type: which fields of its record hold what. Null passes; arrays by item."""
    kinds: list[tuple[Wanted, Callable[[str, str], object]]] = [
        (persons, person),
        (references, reference),
        (hashes, digest),
        (codes, code),
        (titles, title),
        (quantities, money.positive),
        (scores, money.not_negative),
    ]

    def check(event: AppEvent) -> None:
        key(event.key, KEY)
        for names, judge in kinds:
            for name in names:
                for text in _texts(event.data[name]):
                    judge(text, f"data.{name}")
        if also is not None:
            also(event)

    return check


def _texts(value: Any) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def new(view: View, kind: str, id: str, field: str = KEY) -> None:
    """Refuses what is there already (already_exists)."""
    if view.get(kind, id) is not None:
        raise Refusal("already_exists", field, f"{kind.replace('_', ' ')} {id} is there already")


def not_before(event: AppEvent, state: Value, what: str) -> None:
    """Refuses what comes before the state that it speaks of, by event time (too_early)."""
    if event.at_ms < state["at_ms"]:
        raise Refusal("too_early", "at", f"{what} was not there yet at that time")


def same_association(ours: Value, theirs: Value, field: str) -> None:
    """Refuses what belongs to two associations (other_association)."""
    if ours["association_id"] != theirs["association_id"]:
        raise Refusal(
            "other_association",
            field,
            f"belongs to {theirs['association_id']}, not to {ours['association_id']}",
        )


def named(event: AppEvent, view: View, kind: str, field: str) -> Value:
    """The state that a field of the event's record names. Raises Refusal (unknown_<kind>)."""
    return one(view, kind, event.data[field], f"data.{field}")


def no_more(wanted: int, most: int, reason: str, field: str, what: str) -> None:
    """Refuses a quantity above what there is."""
    if wanted > most:
        raise Refusal(reason, field, f"{money.text(wanted)} is more than {what}: {money.text(most)}")
