"""What the topics of positions and anchors may hold of a person: references, never an address or a number of one.

They are kept for ever (DESIGN.md, "Topics"). Every text of an event, of its envelope too, is a reference of letters,
digits and `_ . : / -`, as all ids and amounts are; only WORDS hold words, which name a thing or give a reason, and no
address of mail. What a reference stands for is known elsewhere (people.data.v1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from pipeline.domain.applications.event import AppEvent, AppType, Check, Refusal
from pipeline.domain.positions.registry import TEXT_MAX

WORDS: Final = frozenset({"name", "reason", "proof"})
_REFERENCE: Final = re.compile(r"-?[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,255}")
_REQUEST: Final = re.compile(r"[A-Za-z0-9_.:/#+=-]{0,512}")


def impersonal(row: AppType, key: str) -> AppType:
    """The row with a check that refuses free text, after its own; `key`: the topic's key field."""
    return replace(row, check=_both(row.check, key))


def _both(own: Check | None, key: str) -> Check:
    def check(event: AppEvent) -> None:
        if own is not None:
            own(event)
        check_impersonal(event, key)

    return check


def check_impersonal(event: AppEvent, key: str) -> None:
    """References, and words only where they belong. Raises Refusal (no_free_text, too_long) naming the field."""
    for field, text in ((key, event.key), ("user_id", event.user_id), ("app_id", event.app_id)):
        _check(text, field)
    if _REQUEST.fullmatch(event.idempotency_key) is None:
        raise Refusal("no_free_text", "idempotency_key", "must be letters, digits and _ . : / # + = - only")
    for name, value in event.data.items():
        for text in _texts(value):
            (_words if name in WORDS else _check)(text, f"data.{name}")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for of in value.values():
            yield from _texts(of)
    elif isinstance(value, list | tuple):
        for of in value:
            yield from _texts(of)


def _check(text: str, field: str) -> None:
    if text and _REFERENCE.fullmatch(text) is None:
        detail = "must be a reference of 1 to 256 letters, digits and _ . : / -: personal data does not belong here"
        raise Refusal("no_free_text", field, detail)


def _words(text: str, field: str) -> None:
    if len(text) > TEXT_MAX:
        raise Refusal("too_long", field, f"more than {TEXT_MAX} characters")
    if "@" in text:
        raise Refusal("no_free_text", field, "must hold no address: personal data does not belong here")
