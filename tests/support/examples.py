"""How many examples a property test takes: few by default, all with TIDEBOOK_LONG=1."""

from __future__ import annotations

import os

LONG = bool(os.environ.get("TIDEBOOK_LONG"))


def examples(long: int, short: int) -> int:
    """`long` where the long form is asked for, else `short`."""
    return long if LONG else short
