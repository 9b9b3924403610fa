"""The one spelling of an NFC tag's UUID (S0, nfc_uuid): with or without dashes, in either case, it is one tag. Pure."""

from __future__ import annotations

import re
from typing import Final

_HEX: Final = re.compile(r"[0-9a-f]{32}")


def tag(text: str) -> str:
    """A UUID as 8-4-4-4-12 hex digits in lower case; what is none, in lower case."""
    digits = text.lower().replace("-", "")
    if not _HEX.fullmatch(digits):
        return text.lower()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def spellings(tag: str) -> tuple[str, ...]:
    """What a former release may have kept it as: it took dashes as they were sent."""
    return tag, tag.replace("-", "")
