"""The plan of topics, purely: what is created, what is changed, what is refused."""

import dataclasses
from collections.abc import Mapping

import pytest

from schemas.loader import schemas
from topics.plan import (
    MAX_MESSAGE_BYTES,
    Action,
    AddPartitions,
    ChangeConfig,
    Create,
    Existing,
    Refuse,
    Topic,
    declared,
    plan,
)

KEPT = {
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "cleanup.policy": "delete",
    "max.message.bytes": "1048576",
}
KEYED = Topic("a.b.v1", 8, False, "owner", KEPT)
CHAINED = Topic("c.d.v1", 3, True, "chain", KEPT)
WEEK = {**KEPT, "retention.ms": "604800000", "retention.bytes": "1000"}


def changed(
    topic: Topic, partitions: int | None = None, config: Mapping[str, str] | None = KEPT
) -> list[Action]:
    return plan([Existing(topic.name, partitions or topic.partitions, config)], [topic])


def with_config(**settings: str) -> dict[str, str]:
    return {**KEPT, **{name.replace("_", "."): value for name, value in settings.items()}}


def test_every_schema_declares_its_topic() -> None:
    topics = {topic.name: topic for topic in declared(chains=5)}
    changelog = topics.pop("tidebook-assets-holdings-changelog")
    assert changelog.partitions == topics["assets.changes.v1"].partitions
    assert changelog.config["cleanup.policy"] == "compact"
    assert set(topics) == {schema.topic_name for schema in schemas()}
    ledgers = topics["xrpl.ledgers.v1"]
    assert (ledgers.partitions, ledgers.by_chain) == (5, True)
    assert topics["assets.changes.v1"].partitions == 8 and not topics["assets.changes.v1"].by_chain
    for topic in topics.values():
        assert topic.config["max.message.bytes"] == str(MAX_MESSAGE_BYTES) == "1048576"
        assert topic.config["retention.ms"] == "-1" and topic.config["retention.bytes"] == "-1"
        compacted = topic.name in ("evm.contracts.v1", "applications.states.v1", "people.data.v1")
        assert topic.config["cleanup.policy"] == ("compact" if compacted else "delete")
        forgets = topic.name == "people.data.v1"  # what is erased must be gone within a time that is told
        assert topic.config.get("max.compaction.lag.ms") == ("86400000" if forgets else None)


def test_chains_are_counted_from_1() -> None:
    with pytest.raises(ValueError, match="chains: 0"):
        declared(0)


def test_what_is_missing_is_created_and_what_is_there_is_left() -> None:
    wanted = [KEYED, CHAINED]
    assert plan([], wanted) == [Create(KEYED), Create(CHAINED)]
    there = [Existing("c.d.v1", 3, {**KEPT, "segment.ms": "1"}), Existing("someone.else", 1, {})]
    assert plan(there, wanted) == [Create(KEYED)]
    assert plan([*there, Existing("a.b.v1", 8, None)], wanted) == []


def test_partitions_grow_only_where_messages_name_theirs() -> None:
    assert changed(CHAINED, 1) == [AddPartitions("c.d.v1", 1, 3)]
    assert changed(CHAINED, 9) == []  # chains that are not followed here
    (fewer,) = changed(KEYED, 4)
    assert isinstance(fewer, Refuse) and "would part the messages of one key (owner)" in str(fewer)
    (more,) = changed(KEYED, 9)
    assert isinstance(more, Refuse) and "cannot take any away" in str(more)


def test_settings_that_keep_more_are_changed() -> None:
    expected = ChangeConfig(
        "a.b.v1",
        {"retention.ms": "604800000", "retention.bytes": "1000"},
        {"retention.ms": "-1", "retention.bytes": "-1"},
    )
    assert changed(KEYED, config=WEEK) == [expected]
    assert changed(KEYED, config=with_config(cleanup_policy="compact"))[0] == ChangeConfig(
        "a.b.v1", {"cleanup.policy": "compact"}, {"cleanup.policy": "delete"}
    )
    assert changed(KEYED, config={}) == [ChangeConfig("a.b.v1", dict.fromkeys(KEPT), KEPT)]


@pytest.mark.parametrize(
    ("wanted", "there", "reason"),
    [
        (WEEK, KEPT, "retention.ms -1 -> 604800000 would delete messages"),
        ({**WEEK, "retention.ms": "1000"}, WEEK, "retention.ms 604800000 -> 1000 would delete messages"),
        (
            with_config(cleanup_policy="compact"),
            KEPT,
            "cleanup.policy delete -> compact would delete messages",
        ),
        (
            with_config(cleanup_policy="compact,delete"),
            {},
            "cleanup.policy None -> compact,delete would delete",
        ),
    ],
)
def test_settings_that_would_delete_are_refused(
    wanted: dict[str, str], there: dict[str, str], reason: str
) -> None:
    actions = changed(dataclasses.replace(KEYED, config=wanted), config=there)
    assert all(isinstance(action, Refuse) for action in actions)
    assert str(actions[0]).startswith(f"refuse a.b.v1: {reason}")


@pytest.mark.parametrize(
    ("action", "text"),
    [
        (AddPartitions("t", 1, 3), "add partitions to t: 1 -> 3"),
        (
            ChangeConfig("t", {"retention.ms": None}, {"retention.ms": "-1"}),
            "change t: retention.ms None -> -1",
        ),
        (
            Create(dataclasses.replace(KEYED, config={"retention.ms": "-1"})),
            "create a.b.v1: 8 partitions, retention.ms=-1",
        ),
    ],
)
def test_actions_read_as_one_line(action: Action, text: str) -> None:
    assert str(action) == text
