"""The schemas of the package: each `<domain>/<name>.avsc` is one topic's value, or types that others use.

The .avsc files are the one source of truth. An Avro record with a top-level attribute "topic" is the value of
that topic, "clickhouse" says how it becomes tables; a file without "topic" only lends its named types to the
others. Everything here is read once and never changes while a process runs.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fastavro import parse_schema

from schemas.forms import (
    SchemaFault,
    canonical_form,
    fingerprint,
    named_types,
    plain_form,
    resolution_form,
)

PACKAGE = Path(__file__).parent
ONE_PER_CHAIN = "one per chain"

_TOPIC_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*\.v[1-9][0-9]*")
_TOPIC_KEYS = frozenset({"name", "key", "partitions", "retention_ms", "cleanup_policy"})
_LAG = "max_compaction_lag_ms"  # of a compacted topic that must forget within a time; others have none
_CLEANUP_POLICIES = frozenset({"delete", "compact", "compact,delete"})

Pool = Mapping[str, tuple[dict[str, Any], str]]


@dataclass(frozen=True, eq=False)
class Schema:
    """One topic's value schema with all its forms; compared and hashed by identity."""

    name: str  # full name of the record
    topic: Mapping[str, Any]  # name, key, partitions (int or ONE_PER_CHAIN), retention_ms, cleanup_policy
    clickhouse: Mapping[str, Any] | None  # as written, None where the file has none
    raw: Mapping[str, Any]  # the file's JSON
    resolution: dict[str, Any]  # see schemas.forms
    documented: dict[str, Any] = field(repr=False)  # the resolution form with the docs left in
    parsed: Any = field(repr=False)  # plain form for fastavro: times are integers
    canonical: str = field(repr=False)
    fingerprint: int

    @property
    def topic_name(self) -> str:
        return str(self.topic["name"])

    @property
    def subject(self) -> str:
        """Name under which a schema registry keeps it (TopicNameStrategy)."""
        return subject_of(self.topic_name)


def subject_of(topic: str) -> str:
    """Subject of a topic's values, `<topic>-value`."""
    return f"{topic}-value"


def load(root: Path = PACKAGE) -> tuple[Schema, ...]:
    """All schemas under `root` that have a topic, sorted by topic. Raises SchemaFault, which names the
    file."""
    files: dict[Path, dict[str, Any]] = {}
    for path in sorted(root.rglob("*.avsc")):
        try:
            files[path.relative_to(root)] = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as fault:
            raise SchemaFault(f"{path.relative_to(root)}: not JSON: {fault}") from fault
    pool = _pool(files)
    loaded: dict[str, Schema] = {}
    for path, raw in files.items():
        if "topic" not in raw:
            continue
        try:
            schema = make_schema(raw, pool)
        except (SchemaFault, KeyError, TypeError) as fault:
            raise SchemaFault(f"{path}: {fault}") from fault
        if schema.topic_name in loaded:
            raise SchemaFault(f"{path}: topic {schema.topic_name} has a schema already")
        loaded[schema.topic_name] = schema
    return tuple(loaded[topic] for topic in sorted(loaded))


def make_schema(raw: Mapping[str, Any], pool: Pool = MappingProxyType({})) -> Schema:
    """A Schema from a file's JSON; `pool` as `schemas.forms.resolution_form` takes it."""
    _check_topic(raw["topic"])
    form = resolution_form(raw, pool)
    if form["type"] != "record":
        raise SchemaFault(f"the value of a topic is a record, not {form['type']}")
    canonical = canonical_form(form)
    return Schema(
        name=form["name"],
        topic=MappingProxyType(raw["topic"]),
        clickhouse=raw.get("clickhouse"),
        raw=raw,
        resolution=form,
        documented=resolution_form(raw, pool, with_doc=True),
        parsed=parse_schema(plain_form(form), named_schemas={}),
        canonical=canonical,
        fingerprint=fingerprint(canonical),
    )


@cache
def schemas() -> tuple[Schema, ...]:
    """The package's own schemas, sorted by topic."""
    return load()


@cache
def by_topic() -> Mapping[str, Schema]:
    """The package's own schemas by topic name."""
    return MappingProxyType({schema.topic_name: schema for schema in schemas()})


def _pool(files: Mapping[Path, dict[str, Any]]) -> dict[str, tuple[dict[str, Any], str]]:
    pool: dict[str, tuple[dict[str, Any], str]] = {}
    home: dict[str, Path] = {}
    for path, raw in files.items():
        for name, definition, namespace in named_types(raw):
            if name in pool:
                raise SchemaFault(f"{path}: {name} is defined in {home[name]} already")
            pool[name], home[name] = (definition, namespace), path
    return pool


def _check_topic(topic: Mapping[str, Any]) -> None:
    if set(topic) - {_LAG} != _TOPIC_KEYS:
        raise SchemaFault(f"topic: has {sorted(topic)}, must have {sorted(_TOPIC_KEYS)}")
    if not _TOPIC_NAME.fullmatch(topic["name"]):
        raise SchemaFault(f"topic.name: {topic['name']!r} is not <domain>.<entity>.v<n> in lower case")
    partitions = topic["partitions"]
    if partitions != ONE_PER_CHAIN and not (type(partitions) is int and partitions > 0):
        raise SchemaFault(f"topic.partitions: {partitions!r} is neither a count nor {ONE_PER_CHAIN!r}")
    if type(topic["retention_ms"]) is not int or topic["retention_ms"] < -1:
        raise SchemaFault(f"topic.retention_ms: {topic['retention_ms']!r} is neither -1 nor milliseconds")
    if topic["cleanup_policy"] not in _CLEANUP_POLICIES:
        raise SchemaFault(
            f"topic.cleanup_policy: {topic['cleanup_policy']!r} is not one of {sorted(_CLEANUP_POLICIES)}"
        )
    lag = topic.get(_LAG)
    if _LAG in topic and (type(lag) is not int or lag <= 0 or topic["cleanup_policy"] != "compact"):
        raise SchemaFault(f"topic.{_LAG}: {lag!r} is not above 0, or the topic is not compacted")
