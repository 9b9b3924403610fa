"""Freezing: how the registry grows when a schema changes, and what it may never do.

Pure functions over entries. A schema whose resolution form equals the last version of its subject keeps its
id; any other gets the next id and version, if a reader with it can read everything that any version wrote: topics
are kept for ever.
"""

from collections.abc import Iterable, Sequence

from schemas.compatibility import backward_errors
from schemas.loader import Schema
from schemas.registry import Entry


def freeze(entries: Sequence[Entry], schemas: Iterable[Schema]) -> tuple[tuple[Entry, ...], list[str]]:
    """(`entries` with what must be added at the end, why some schema cannot be added)."""
    frozen = list(entries)
    problems: list[str] = []
    for schema in schemas:
        last = latest(frozen, schema.subject)
        if last is not None and last.schema == schema.resolution:
            continue
        faults = [
            f"{schema.subject}: not BACKWARD compatible with version {entry.version}: {error}"
            for entry in frozen
            if entry.subject == schema.subject
            for error in backward_errors(schema.resolution, entry.schema)
        ]
        if faults:
            problems += faults
            continue
        next_id = max((entry.id for entry in frozen), default=0) + 1
        version = 1 if last is None else last.version + 1
        frozen.append(Entry(next_id, schema.subject, version, schema.resolution))
    return tuple(frozen), problems


def latest(entries: Iterable[Entry], subject: str) -> Entry | None:
    """The last version of a subject, None if it has none."""
    return max(
        (entry for entry in entries if entry.subject == subject),
        key=lambda entry: entry.version,
        default=None,
    )


def prefix_errors(before: Sequence[Entry], after: Sequence[Entry]) -> list[str]:
    """Why `after` is not `before` with entries added at the end: one line for each entry changed or gone."""
    found = []
    for place, entry in enumerate(before):
        if place >= len(after):
            found.append(f"id {entry.id} ({entry.subject} version {entry.version}) is gone")
        elif after[place] != entry:
            found.append(f"id {entry.id} ({entry.subject} version {entry.version}) was changed")
    return found
