"""The order of a story, and places in it: where a page ends and the next one begins.

A story goes by event time. Events of one millisecond stand as the intake took them in, and those of one request as they
stand in the topic, which is the order in which they were judged. Offsets are compared last: a topic made anew counts
from 0 again, and gets what it had from the intake's journal in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pipeline.api.read_models import of_cursor, to_cursor

ORDER: Final = "at, recorded_at, _offset, event_id"
PLACE: Final = (
    "toUnixTimestamp64Milli(at) AS at_ms, toUnixTimestamp64Milli(recorded_at) AS recorded_ms,"
    " _offset AS place"
)
"""Columns that `page` makes the cursor of, beside event_id."""
AFTER: Final = (
    f"({ORDER}) > (fromUnixTimestamp64Milli({{at_ms:Int64}}, 'UTC'),"
    " fromUnixTimestamp64Milli({recorded_ms:Int64}, 'UTC'), {place:Int64}, {event_id:String})"
)
"""Rows behind a cursor, see `after`."""
_NAMES: Final = ("at_ms", "recorded_ms", "place", "event_id")


def after(cursor: str | None) -> dict[str, Any]:
    """Parameters of AFTER; no cursor is the beginning. Raises ApiError 400 for what `page` has not made."""
    return dict(zip(_NAMES, of_cursor(cursor, int, int, int, str) or (0, 0, 0, ""), strict=True))


def page(rows: Sequence[Mapping[str, Any]], limit: int) -> tuple[Sequence[Mapping[str, Any]], str | None]:
    """(the first `limit` rows, the cursor of what is behind them where there is more)."""
    shown = rows[:limit]
    return shown, to_cursor(*(shown[-1][name] for name in _NAMES)) if len(rows) > limit else None
