"""What is asked of an event where it comes in, and nowhere else (AppType.entry): rules on the form of new things.

A topic may be folded anew on another host; an event that was accepted before such a rule was made must then have the
outcome it had, so the fold does not know these rules. They see the event alone. Pure.
"""

from __future__ import annotations

from typing import Final

from pipeline.domain.applications.event import AppEvent, Check, Refusal

NO_IDS: Final = (".", "..", "events")
"""What a path can't name: HTTP clients resolve the first two, and …/events is where events are posted."""


def new_id(field: str) -> Check:
    """The check that a topic's key, told in `field`, can be read at a path such as /v1/assets/<id>."""

    def check(event: AppEvent) -> None:
        if "/" in event.key or event.key in NO_IDS:
            wanted = f"must hold no / and be none of {', '.join(NO_IDS)}: no read could name it"
            raise Refusal("bad_id", field, f"{event.key[:80]!r} {wanted}")

    return check
