"""Words of the topic of anchors: a proof is a reference or a hash, a reason a code, a merchant's name names a shop.

Asked where an event comes in, beside pipeline.domain.positions.impersonal: that one let words pass, and what was
accepted under it is folded as it was (AppType.entry). What the clock tells stands in a state already.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from pipeline.domain.applications.event import AppEvent, AppType
from pipeline.domain.applications.impersonal import TextCheck
from pipeline.domain.positions.impersonal import reference
from pipeline.domain.tokens.operational_terms import code, title

_FORMS: Final[dict[str, TextCheck]] = {"name": title, "reason": code, "proof": reference}


def wordless(row: AppType) -> AppType:
    """The row with these forms asked where its events come in, after its own rules there."""

    def entry(event: AppEvent) -> None:
        if row.entry is not None:
            row.entry(event)
        if event.source == "clock":
            return
        for name, check in _FORMS.items():
            text = event.data.get(name)
            if text is not None:
                check(text, f"data.{name}")

    return replace(row, entry=entry)
