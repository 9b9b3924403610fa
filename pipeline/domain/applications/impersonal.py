"""What topics that are kept for ever may hold of a person: references, never an address or a number of one.

DESIGN.md, "Topics": personal data stand in people.data.v1; what a reference stands for is known elsewhere. Each type's
check says what its fields hold; this is the rule for all types of a topic and for the envelope, also for types that
will be added: every text is a reference, a code or a number, and only the fields named as words hold words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from pipeline.domain.applications.event import AppEvent, AppType, Check, Refusal

TextCheck = Callable[[str, str], None]
"""(text, field): raises Refusal naming the field."""
_REQUEST: Final = re.compile(r"[A-Za-z0-9_.:/#+=-]{0,512}")


@dataclass(frozen=True)
class Impersonal:
    """One topic's rule."""

    key: str  # the topic's key field
    words: frozenset[str]  # fields that hold words: they name a thing or give a reason
    check_words: TextCheck
    check_reference: TextCheck

    def __call__(self, row: AppType) -> AppType:
        """The row with a check that refuses free text, after its own."""
        return replace(row, check=self._after(row.check))

    def _after(self, own: Check | None) -> Check:
        def check(event: AppEvent) -> None:
            if own is not None:
                own(event)
            self.check(event)

        return check

    def check(self, event: AppEvent) -> None:
        """Envelope and record hold references, and words only where they belong. Raises Refusal naming the field."""
        for field, text in ((self.key, event.key), ("user_id", event.user_id), ("app_id", event.app_id)):
            self.check_reference(text, field)
        if _REQUEST.fullmatch(event.idempotency_key) is None:
            raise Refusal(
                "no_free_text", "idempotency_key", "must be letters, digits and _ . : / # + = - only: personal data "
                "does not belong here",
            )  # fmt: skip
        for field, text in _texts(event.data, "data"):
            named = field.rpartition(".")[2] in self.words
            (self.check_words if named else self.check_reference)(text, field)


def _texts(value: Any, field: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield field, value
    elif isinstance(value, Mapping):
        for name, of in value.items():
            yield from _texts(of, f"{field}.{name}")
    elif isinstance(value, list | tuple):
        for of in value:
            yield from _texts(of, field)
