"""No free text in the token ledger: its topic is kept for ever, and free text may speak of a person.

DESIGN.md, "Topics": references and salted hashes only, personal data stands in people.data.v1. Each type's check says
what its fields hold; this is the rule for all of them and for the envelope, also for types that will be added: every
text is a reference, a code or a number, and only TITLES hold words, which name things. Health data is named by
references and hashed documents alone (pipeline.domain.tokens.operational).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from pipeline.domain.applications.event import AppEvent, AppType, Check, Refusal
from pipeline.domain.tokens.operational_terms import KEY, is_code, is_reference, title

TITLES: Final = frozenset({"title", "name", "visible_label"})
"""Fields that name an association, a circle, a role or a token type."""
_NUMBER: Final = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?")
_REQUEST: Final = re.compile(r"[A-Za-z0-9_.:/#+=-]{0,512}")


def impersonal(row: AppType) -> AppType:
    """The row with a check that refuses free text (no_free_text), after its own."""
    return replace(row, check=_both(row.check))


def _both(own: Check | None) -> Check:
    def check(event: AppEvent) -> None:
        if own is not None:
            own(event)
        check_impersonal(event)

    return check


def check_impersonal(event: AppEvent) -> None:
    """Envelope and record hold references, codes and numbers. Raises Refusal naming the field."""
    for field, text in ((KEY, event.key), ("user_id", event.user_id), ("app_id", event.app_id)):
        _check(text, field)
    if _REQUEST.fullmatch(event.idempotency_key) is None:
        raise _free("idempotency_key", "must be letters, digits and _ . : / # + = - only")
    for field, text in _texts(event.data, "data"):
        if field.rpartition(".")[2] in TITLES:
            title(text, field)
        else:
            _check(text, field)


def _texts(value: Any, field: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, Mapping):
        for name, of in value.items():
            yield from _texts(of, f"{field}.{name}")
    elif isinstance(value, list | tuple):
        for of in value:
            yield from _texts(of, field)


def _check(text: str, field: str) -> None:
    if text and not (is_code(text) or is_reference(text) or _NUMBER.fullmatch(text)):
        raise _free(field, "must be a reference or a code of 1 to 64 letters, digits and _ . : -")


def _free(field: str, wanted: str) -> Refusal:
    return Refusal("no_free_text", field, f"{wanted}: personal data does not belong here")
