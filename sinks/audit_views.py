"""The audit of views: each as `clickhouse plan` would have it, by the mark in its comment.

Rows may be sound and a view over them replaced: whoever asks it is told something else. A view whose mark is another
release's was not looked at: the history role makes it anew when it starts. One that was replaced with this release's
mark put on again passes, for the mark stands beside the text and is not read from it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Final

from pipeline.domain.audit import Result, unlooked
from schemas.loader import schemas
from sinks import ddl
from sinks.clickhouse_plan import MARK, Change, FoundTable, view_steps
from sinks.clickhouse_state import wanted_tables
from sinks.views import views

OTHER: Final = (
    "another release made it: `tidebook clickhouse apply`, or the history role's next start, makes it anew"
)


def check_views(found: Mapping[str, FoundTable]) -> Iterator[Result]:
    """A finding for each view that no release made; `found`: what is there by name, with engine and comment."""
    steps = view_steps(_tables(), views(), found)
    for step in steps:
        there = found.get(step.table)
        if there is not None and isinstance(step, Change) and MARK.search(there.comment):
            yield unlooked("views", step.table, OTHER)
        else:
            kind = "no such view" if there is None else f"another {there.engine.lower()}"
            yield Result("views", step.table, "this release's", kind, False, evidence={"what": step.what})
    if not steps:
        text = f"{len(views())} views"
        yield Result("views", "views", text, text, True)


@cache
def _tables() -> list[ddl.Table]:
    return wanted_tables(schemas())
