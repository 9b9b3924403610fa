"""No free text in the token ledger: references, codes and numbers, and titles that name things.

Health data is named by references and hashed documents alone (pipeline.domain.tokens.operational).
"""

from __future__ import annotations

import re
from typing import Final

from pipeline.domain.applications.event import Refusal
from pipeline.domain.applications.impersonal import Impersonal
from pipeline.domain.tokens.operational_terms import KEY, is_code, is_reference, title

TITLES: Final = frozenset({"title", "name", "visible_label"})
"""Fields that name an association, a circle, a role or a token type."""
_NUMBER: Final = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?")


def _reference(text: str, field: str) -> None:
    if text and not (is_code(text) or is_reference(text) or _NUMBER.fullmatch(text)):
        raise Refusal(
            "no_free_text", field, "must be a reference or a code of 1 to 64 letters, digits and _ . : -: personal "
            "data does not belong here",
        )  # fmt: skip


IMPERSONAL: Final = Impersonal(KEY, TITLES, title, _reference)
