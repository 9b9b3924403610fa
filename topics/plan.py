"""Which topics there must be, and what has to be done so that they are: pure.

Topics are declared by the "topic" attribute of the schemas. A plan only adds: it creates topics, adds
partitions where messages name theirs, and changes settings. What would lose messages or part a key's messages
(fewer partitions, more partitions under a key hash, an end to retention, compaction of history) it refuses,
with the reason; that is a person's decision.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from schemas.loader import ONE_PER_CHAIN, Schema, schemas

MAX_MESSAGE_BYTES = 1_048_576  # 1 MiB, S3: events stay below it
_FOR_EVER = "-1"
CHANGELOGS: Mapping[str, str] = {"tidebook-assets-holdings-changelog": "assets.changes.v1"}
"""Faust's changelog topic of each table → the topic it is folded from, whose partition count it must have."""


@dataclass(frozen=True)
class Topic:
    """One topic as it must be; `config` holds the settings that are ours, all else is the broker's."""

    name: str
    partitions: int
    by_chain: bool  # messages name their partition; otherwise the key's murmur2 hash does
    key: str  # what the key means
    config: Mapping[str, str]


@dataclass(frozen=True)
class Existing:
    """One topic as the broker has it; `config` None where the broker does not tell."""

    name: str
    partitions: int
    config: Mapping[str, str] | None


@dataclass(frozen=True)
class Create:
    topic: Topic

    def __str__(self) -> str:
        settings = ", ".join(f"{name}={value}" for name, value in self.topic.config.items())
        return f"create {self.topic.name}: {self.topic.partitions} partitions, {settings}"


@dataclass(frozen=True)
class AddPartitions:
    name: str
    before: int
    after: int

    def __str__(self) -> str:
        return f"add partitions to {self.name}: {self.before} -> {self.after}"


@dataclass(frozen=True)
class ChangeConfig:
    name: str
    before: Mapping[str, str | None]  # None = the broker's default
    after: Mapping[str, str]

    def __str__(self) -> str:
        changes = ", ".join(f"{name} {self.before[name]} -> {value}" for name, value in self.after.items())
        return f"change {self.name}: {changes}"


@dataclass(frozen=True)
class Refuse:
    """What must not be done by a program; nothing is applied while a plan holds one."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"refuse {self.name}: {self.reason}"


Action = Create | AddPartitions | ChangeConfig | Refuse


def declared(chains: int, among: Iterable[Schema] | None = None) -> tuple[Topic, ...]:
    """The topics of the schemas, by name, and the tables' changelogs.

    `chains` is the partition count of those with one per chain (>= 1).
    """
    if chains < 1:
        raise ValueError(f"chains: {chains} is less than 1")
    wanted = tuple(_topic(schema, chains) for schema in (schemas() if among is None else among))
    return wanted if among is not None else (*wanted, *changelogs(wanted))


def changelogs(sources: Iterable[Topic]) -> tuple[Topic, ...]:
    """The changelog topics of the tables: compacted, keyed and partitioned as their sources."""
    by_name = {topic.name: topic for topic in sources}
    return tuple(
        Topic(
            name=name,
            partitions=by_name[source].partitions,
            by_chain=by_name[source].by_chain,
            key=by_name[source].key,
            config={"cleanup.policy": "compact", "max.message.bytes": str(MAX_MESSAGE_BYTES)},
        )
        for name, source in CHANGELOGS.items()
    )


def plan(existing: Iterable[Existing], wanted: Sequence[Topic]) -> list[Action]:
    """What turns `existing` into `wanted`, in the order of `wanted`; topics that are not ours are left
    alone."""
    there = {topic.name: topic for topic in existing}
    actions: list[Action] = []
    for topic in wanted:
        found = there.get(topic.name)
        actions += [Create(topic)] if found is None else [*_partitions(found, topic), *_config(found, topic)]
    return actions


def _topic(schema: Schema, chains: int) -> Topic:
    attribute = schema.topic
    by_chain = attribute["partitions"] == ONE_PER_CHAIN
    retention = str(attribute["retention_ms"])
    config = {
        "retention.ms": retention,
        "cleanup.policy": str(attribute["cleanup_policy"]),
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
    }
    if retention == _FOR_EVER:
        config["retention.bytes"] = _FOR_EVER  # a broker's size limit would end "for ever"
    if "max_compaction_lag_ms" in attribute:  # Kafka's own default is never
        config["max.compaction.lag.ms"] = str(attribute["max_compaction_lag_ms"])
    return Topic(
        name=schema.topic_name,
        partitions=chains if by_chain else int(attribute["partitions"]),
        by_chain=by_chain,
        key=str(attribute["key"]),
        config=config,
    )


def _partitions(found: Existing, topic: Topic) -> list[Action]:
    if found.partitions == topic.partitions or (topic.by_chain and found.partitions > topic.partitions):
        return []  # partitions of chains that are not followed here stay
    if found.partitions > topic.partitions:
        reason = f"has {found.partitions} partitions, {topic.partitions} declared; Kafka cannot take any away"
        return [Refuse(topic.name, reason)]
    if topic.by_chain:
        return [AddPartitions(topic.name, found.partitions, topic.partitions)]
    reason = (
        f"has {found.partitions} partitions, {topic.partitions} declared; "
        f"more would part the messages of one key ({topic.key})"
    )
    return [Refuse(topic.name, reason)]


def _config(found: Existing, topic: Topic) -> list[Action]:
    if found.config is None:
        return []
    changed = {name: value for name, value in topic.config.items() if found.config.get(name) != value}
    refused = [
        reason for name, value in changed.items() if (reason := _loss(name, found.config.get(name), value))
    ]
    if refused:
        return [Refuse(topic.name, reason) for reason in refused]
    before = {name: found.config.get(name) for name in changed}
    return [ChangeConfig(topic.name, before, changed)] if changed else []


def _loss(name: str, before: str | None, after: str) -> str | None:
    """Why a change of setting would delete messages, None if it would not."""
    if name in ("retention.ms", "retention.bytes") and before is not None and _is_less(after, before):
        return f"{name} {before} -> {after} would delete messages"
    if name == "cleanup.policy" and "compact" in after and "compact" not in (before or "delete"):
        return f"{name} {before} -> {after} would delete messages"
    return None


def _is_less(after: str, before: str) -> bool:
    """Whether retention `after` keeps less than `before`; -1 keeps all."""
    if after == _FOR_EVER:
        return False
    return before == _FOR_EVER or int(after) < int(before)
