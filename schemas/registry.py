"""Ids of schemas: which number on the wire stands for which schema.

The local registry is a file of the package, `registry.json`: a list of {id, subject, version, schema} in the
order in which the schemas were frozen, each in its resolution form. It is append-only: an id, once published,
means the same bytes for ever. `schemas.generate` appends to it; nothing else writes it.

A Confluent-compatible registry over HTTP fits the same protocol: by_id is GET /schemas/ids/{id}, id_of is
POST /subjects/{subject}.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from schemas.forms import resolution_form
from schemas.loader import PACKAGE

REGISTRY_FILE = PACKAGE / "registry.json"


class WireError(ValueError):
    """A message that cannot be read; `reason` names the kind of fault as quarantine records it."""

    reason = "undecodable"


class UnknownSchema(WireError):
    """The registry has no schema of this id."""

    reason = "unknown_schema"

    def __init__(self, schema_id: int) -> None:
        super().__init__(f"no schema has the id {schema_id}")
        self.schema_id = schema_id


class NotRegistered(LookupError):
    """The registry does not know this schema under this subject."""


class Registry(Protocol):
    """What the codec needs of a registry. Both methods are asked once per schema, answers are kept."""

    def by_id(self, schema_id: int) -> Any:
        """The schema as Avro JSON. Raises UnknownSchema."""

    def id_of(self, subject: str, schema: Any) -> int:
        """Id of `schema` (resolution form) under `subject`. Raises NotRegistered."""


@dataclass(frozen=True)
class Entry:
    """One frozen schema; ids count from 1 over all subjects, versions from 1 within one."""

    id: int
    subject: str
    version: int
    schema: Any


class LocalRegistry:
    """A registry made of entries in memory. Raises ValueError if an id stands for two schemas."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = tuple(entries)
        self._schemas: dict[int, Any] = {}
        for entry in self.entries:
            if self._schemas.setdefault(entry.id, entry.schema) != entry.schema:
                raise ValueError(f"id {entry.id} stands for two schemas")

    def by_id(self, schema_id: int) -> Any:
        if schema_id not in self._schemas:
            raise UnknownSchema(schema_id)
        return self._schemas[schema_id]

    def id_of(self, subject: str, schema: Any) -> int:
        for entry in reversed(self.entries):
            if entry.subject == subject and entry.schema == schema:
                return entry.id
        raise NotRegistered(f"{subject}: this schema is not registered; run python -m schemas.generate")


@cache
def local_registry() -> LocalRegistry:
    """The registry that ships with the package."""
    return LocalRegistry(read_entries(REGISTRY_FILE))


def read_entries(path: Path) -> tuple[Entry, ...]:
    """Entries of a registry file; none if there is no file."""
    return parse_entries(path.read_text(encoding="utf-8")) if path.exists() else ()


def parse_entries(text: str) -> tuple[Entry, ...]:
    """Entries of a registry file's text."""
    return tuple(Entry(**entry) for entry in json.loads(text))


def dump_entries(entries: Sequence[Entry]) -> str:
    """Text of a registry file, one entry a line: an append adds a line to a diff and changes one comma."""
    lines = [json.dumps(asdict(entry), separators=(",", ":"), ensure_ascii=False) for entry in entries]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def entry_of(schema_id: int, subject: str, version: int, schema: Any) -> Entry:
    """An entry of any Avro schema, brought into the resolution form."""
    return Entry(schema_id, subject, version, resolution_form(schema))
