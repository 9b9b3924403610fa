"""Bring a registry to what the package has frozen: every version of every subject, in the order of its ids.

Registering is repeatable: what is there stays, what is missing is added, and every version is read back, by
its id, before it counts. In that order an empty registry of its own gives the same ids as the local one. A
subject's compatibility is set to BACKWARD before its first version; an operator's stricter level stays. What
the registry refuses as incompatible ends that subject, not the others.

A version of which a later one is already there is left out: nothing was written with it here, and registering
it now would make it the subject's latest.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal
from urllib.parse import quote

import tenacity

from schemas.registry import Entry, UnknownSchema, WireError
from topics.schema_registry import (
    PATIENCE_S,
    SUBJECT_NOT_FOUND,
    ApiError,
    Client,
    HttpRegistry,
    RegistryError,
    schema_text,
)

LEVEL: Final = "BACKWARD"
KEPT_LEVELS: Final = frozenset({"BACKWARD", "BACKWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"})
State = Literal["present", "registered", "missing", "left out", "refused"]


@dataclass(frozen=True)
class Row:
    """What became of one frozen version. `missing` is what a dry run would register."""

    subject: str
    version: int  # ours, in registry.json
    local_id: int
    state: State
    id: int | None = None  # the registry's
    registry_version: int | None = None  # the registry's, under the subject
    compatibility: str = ""  # level of the subject; "" where none is set yet
    detail: str = ""  # why it was refused or left out


def register_all(client: Client, entries: Sequence[Entry], dry_run: bool = False) -> list[Row]:
    """Register all `entries`, in their order; one row for each. A dry run changes nothing.

    Raises RegistryError where the registry cannot be asked or answers with another schema than it was given.
    """
    registry = HttpRegistry(client)
    levels = {subject: _level(client, subject) for subject in dict.fromkeys(e.subject for e in entries)}
    found = {entry.id: registry.version_of(entry.subject, entry.schema) for entry in entries}
    rows: list[Row] = []
    refused: set[str] = set()
    for entry in entries:
        row = Row(entry.subject, entry.version, entry.id, "missing", compatibility=levels[entry.subject])
        place = found[entry.id]
        if entry.subject in refused:
            row = replace(row, state="refused", detail="an earlier version was refused")
        elif place is not None:
            row = replace(_verified(registry, entry, row, place), state="present")
            if not dry_run:
                row = replace(row, compatibility=_set_level(client, entry.subject, levels))
        elif _superseded(entry, entries, found):
            row = replace(row, state="left out", detail="a later version is there")
        elif dry_run:
            row = _judged(client, entry, row, rows)
        else:
            row = _registered(client, registry, entry, row, levels)
        if row.state == "refused":
            refused.add(entry.subject)
        rows.append(row)
    return rows


def _registered(
    client: Client, registry: HttpRegistry, entry: Entry, row: Row, levels: dict[str, str]
) -> Row:
    """Register one version and read it back."""
    levels[entry.subject] = level = _set_level(client, entry.subject, levels, subject_is_there=False)
    path = f"/subjects/{quote(entry.subject, safe='')}/versions"
    body = {"schema": schema_text(entry.schema), "schemaType": "AVRO"}
    try:
        given = registry.number(path, client.post(path, body), "id")
    except ApiError as error:
        return replace(row, state="refused", compatibility=level, detail=f"{error.code}: {error.said}")
    if level not in KEPT_LEVELS:
        level = _set_level(client, entry.subject, levels)
    place = _version_of(client, registry, entry)
    if place[0] != given:
        raise RegistryError(client.address, f"{entry.subject}: registered as id {given}, found as {place[0]}")
    return replace(_verified(registry, entry, row, place), state="registered", compatibility=level)


def _version_of(client: Client, registry: HttpRegistry, entry: Entry) -> tuple[int, int]:
    """Where a version just registered is. A registry of several nodes may know it only after a moment."""
    tries = tenacity.Retrying(
        retry=tenacity.retry_if_result(lambda place: place is None),
        stop=tenacity.stop_after_delay(PATIENCE_S),
        wait=tenacity.wait_exponential(0.1, max=1.0),
        retry_error_callback=lambda _: None,
    )
    place: tuple[int, int] | None = tries(registry.version_of, entry.subject, entry.schema)
    if place is None:
        raise RegistryError(client.address, f"{entry.subject}: registered, yet not found under its subject")
    return place


def _verified(registry: HttpRegistry, entry: Entry, row: Row, place: tuple[int, int]) -> Row:
    """`row` with the place, once what stands under that id is the same schema. Raises RegistryError."""
    schema_id, version = place
    tries = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(UnknownSchema),
        stop=tenacity.stop_after_delay(PATIENCE_S),
        wait=tenacity.wait_fixed(1.0),
        reraise=True,
    )
    try:
        there: Any = tries(registry.by_id, schema_id)
    except WireError:  # none, or none of Avro
        there = None
    if there != entry.schema:
        raise registry.mismatch(entry.subject, entry.version, schema_id)
    return replace(row, id=schema_id, registry_version=version)


def _superseded(entry: Entry, entries: Iterable[Entry], found: dict[int, tuple[int, int] | None]) -> bool:
    """Whether a later version of the same subject is in the registry."""
    return any(
        later.subject == entry.subject and later.version > entry.version and found[later.id] is not None
        for later in entries
    )


def _judged(client: Client, entry: Entry, row: Row, before: Sequence[Row]) -> Row:
    """A dry run's row of a version that is missing: refused where the registry says it is incompatible.

    Only a subject's first missing version can be asked about; those behind it were frozen as compatible.
    """
    if any(one.subject == entry.subject and one.state == "missing" for one in before):
        return row
    path = f"/compatibility/subjects/{quote(entry.subject, safe='')}/versions/latest"
    try:
        answer = client.post(path, {"schema": schema_text(entry.schema), "schemaType": "AVRO"})
    except ApiError as error:
        if error.status == 404:  # no such subject, no version: nothing to be compatible with
            return row
        return replace(row, state="refused", detail=f"{error.code}: {error.said}")
    if isinstance(answer, dict) and answer.get("is_compatible") is False:
        return replace(row, state="refused", detail="incompatible with the subject's latest version")
    return row


def _level(client: Client, subject: str) -> str:
    """The level set for `subject` itself, "" where there is none."""
    path = f"/config/{quote(subject, safe='')}"
    try:
        answer = client.get(path)
    except ApiError as error:
        if error.status == 404:  # 40401 or 40408: no level of its own
            return ""
        raise
    level = answer.get("compatibilityLevel") if isinstance(answer, dict) else None
    if not isinstance(level, str):
        raise client.malformed(path, "no compatibilityLevel in it")
    return level


def _set_level(client: Client, subject: str, levels: dict[str, str], subject_is_there: bool = True) -> str:
    """Set the level where it is none of KEPT_LEVELS; the level now. Some registries refuse a level for a subject
    that has no version yet: it is set after the first."""
    if levels[subject] in KEPT_LEVELS:
        return levels[subject]
    try:
        client.put(f"/config/{quote(subject, safe='')}", {"compatibility": LEVEL})
    except ApiError as error:
        if subject_is_there or error.code != SUBJECT_NOT_FOUND:
            raise
        return levels[subject]
    levels[subject] = LEVEL
    return LEVEL


def failed(rows: Iterable[Row]) -> bool:
    """Whether anything was refused."""
    return any(row.state == "refused" for row in rows)
