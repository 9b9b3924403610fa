"""No free text in the topics of positions and anchors: every text of an event is a reference, as ids and amounts are.

Only WORDS hold words, which name a thing or give a reason, and no address of mail.
"""

from __future__ import annotations

import re
from typing import Final

from pipeline.domain.applications.event import Refusal
from pipeline.domain.applications.impersonal import Impersonal
from pipeline.domain.positions.registry import TEXT_MAX

WORDS: Final = frozenset({"name", "reason", "proof"})
_REFERENCE: Final = re.compile(r"-?[A-Za-z0-9_][A-Za-z0-9_.:/-]{0,255}")


def impersonal(key: str) -> Impersonal:
    """The rule of a topic with this key field."""
    return Impersonal(key, WORDS, _words, reference)


def reference(text: str, field: str) -> None:
    """A reference, or nothing. Raises Refusal (no_free_text)."""
    if text and _REFERENCE.fullmatch(text) is None:
        detail = "must be a reference of 1 to 256 letters, digits and _ . : / -: personal data does not belong here"
        raise Refusal("no_free_text", field, detail)


def _words(text: str, field: str) -> None:
    if len(text) > TEXT_MAX:
        raise Refusal("too_long", field, f"more than {TEXT_MAX} characters")
    if "@" in text:
        raise Refusal("no_free_text", field, "must hold no address: personal data does not belong here")
