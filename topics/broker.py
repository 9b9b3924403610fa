"""Where brokers differ: the one place that knows.

Apache Kafka 4 answers everything asked here. The embedded broker (Tansu 0.6, memory only) differs, as
measured:

* InitProducerId is listed among its APIs and answers error -1: no idempotent producer.
* CreatePartitions and AlterConfigs are missing: a topic stays as it was created.
* Metadata for a topic *by name* creates that topic, with 4 partitions: ask for all topics, and never let a
  producer meet a topic that is not there. Some versions refuse DescribeConfigs; then settings are unknown.
* `end_offsets` answers the base offset of the last batch (19985 after 20000 acknowledged messages), not the
  next offset: judge "all read" by the offsets that acknowledgements gave (`Producer.send_many`).
* `list_consumer_group_offsets` without explicit partitions drops the connection.
* Its topics have ids, new at every start.

Everything that fails because of the broker's address names the setting TIDEBOOK_KAFKA_URL.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import IncompatibleBrokerVersion, KafkaError, for_code
from aiokafka.protocol.transaction import InitProducerIdRequest

from topics.plan import AddPartitions, ChangeConfig, Create, Existing
from topics.topic_ids import TopicIdsRequest, ids_of

SETTING = "TIDEBOOK_KAFKA_URL"
EPOCH_SETTING = "TIDEBOOK_EPOCH"
CONNECT_TIMEOUT_S = 10.0
REPLICAS_MAX = 3
_TOPIC_OVERRIDE = 1  # DescribeConfigs: source DYNAMIC_TOPIC_CONFIG
_TOPIC_EXISTS = 36
_PRODUCER_TIMEOUT_MS = 60_000
_TAIL_POLL_MS, _TAIL_WAIT_S = 100, 30.0
_RETRY_S = 0.1
_REFUSED = -1  # UNKNOWN_SERVER_ERROR: how Tansu says no


class BrokerError(RuntimeError):
    """The broker cannot be reached or refuses; the text names the setting and the address."""

    def __init__(self, url: str, detail: object) -> None:
        super().__init__(f"{SETTING}={url}: {detail}")


class NoTopicIds(BrokerError):
    """The broker does not tell one incarnation of a topic from the next: a setting must."""

    def __init__(self, url: str) -> None:
        detail = (
            f"this broker has no topic ids; set {EPOCH_SETTING} to a name of its topics' incarnation "
            "(a new one whenever they are created anew)"
        )
        super().__init__(url, detail)


def bootstrap_servers(url: str) -> list[str]:
    """`host:port[,host:port]` as a list. Raises ValueError naming the setting."""
    servers = [part.strip() for part in url.split(",")]
    for server in servers:
        host, colon, port = server.rpartition(":")
        if not (host and colon and port.isdecimal() and int(port) < 65536) or "/" in server:
            raise ValueError(f"{SETTING}={url!r}: {server!r} is not host:port")
    return servers


@contextlib.asynccontextmanager
async def admin_of(url: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started admin client. Raises BrokerError, also for what fails inside the block, and ValueError."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers(url), client_id="tidebook")
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await admin.start()
        yield admin
    except TimeoutError as cause:
        raise BrokerError(url, f"no answer within {CONNECT_TIMEOUT_S:g} s") from cause
    except KafkaError as cause:
        raise BrokerError(url, cause) from cause
    finally:
        await admin.close()


async def existing_topics(admin: AIOKafkaAdminClient, names: Iterable[str]) -> list[Existing]:
    """Those of `names` that the broker has."""
    wanted = set(names)
    there = [topic for topic in await admin.describe_topics() if topic["topic"] in wanted]
    settings = await _settings(admin, [topic["topic"] for topic in there])
    return [
        Existing(topic["topic"], len(topic["partitions"]), _values(settings, topic["topic"]))
        for topic in there
    ]


async def create(admin: AIOKafkaAdminClient, actions: Sequence[Create], replicas: int | None = None) -> None:
    """Create topics; one that somebody else created meanwhile is left to the next plan."""
    if not actions:
        return
    count = replicas or await _replicas(admin)
    made = [
        NewTopic(action.topic.name, action.topic.partitions, count, topic_configs=dict(action.topic.config))
        for action in actions
    ]
    answer = await admin.create_topics(made)
    for name, code, *message in answer.topic_errors:
        if code not in (0, _TOPIC_EXISTS):
            raise for_code(code)(f"create {name}: {' '.join(map(str, message))}")
    ours = {name for name, code, *_ in answer.topic_errors if code == 0}
    await _until_led(admin, {a.topic.name: a.topic.partitions for a in actions if a.topic.name in ours})


async def _until_led(admin: AIOKafkaAdminClient, partitions: Mapping[str, int]) -> None:
    """A broker answers before all brokers know: wait until every partition has a leader. Raises TimeoutError."""
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        while True:
            led = {
                topic["topic"]: sum(place["leader"] >= 0 for place in topic["partitions"])
                for topic in await admin.describe_topics()
            }
            if all(led.get(name, 0) >= count for name, count in partitions.items()):
                return
            await asyncio.sleep(_RETRY_S)


async def add_partitions(admin: AIOKafkaAdminClient, action: AddPartitions) -> None:
    """Raises KafkaError, with a clear text where the broker cannot."""
    with _clear(str(action)):
        await admin.create_partitions({action.name: NewPartitions(action.after)})
        await _until_led(admin, {action.name: action.after})


async def change_config(admin: AIOKafkaAdminClient, action: ChangeConfig) -> None:
    """AlterConfigs replaces all of a topic's own settings, so the others are sent again."""
    own = {
        name: value
        for name, (value, source) in (await _settings(admin, [action.name]) or {})
        .get(action.name, {})
        .items()
        if source == _TOPIC_OVERRIDE and value is not None
    }
    resource = ConfigResource(ConfigResourceType.TOPIC, action.name, {**own, **action.after})
    with _clear(str(action)):
        for answer in await admin.alter_configs([resource]):
            for code, message, *_ in answer.resources:
                if code:
                    raise for_code(code)(f"{action}: {message}")
        await _until_set(admin, action)


async def _until_set(admin: AIOKafkaAdminClient, action: ChangeConfig) -> None:
    """The controller answers before the brokers know: wait until they tell what was set. Raises KafkaError."""
    for _ in range(int(CONNECT_TIMEOUT_S / _RETRY_S)):
        told = _values(await _settings(admin, [action.name]), action.name)
        if told is None or action.after.items() <= told.items():
            return
        await asyncio.sleep(_RETRY_S)
    raise KafkaError(f"{action}: taken, but the broker does not tell it after {CONNECT_TIMEOUT_S:g} s")


async def can_be_idempotent(client: AIOKafkaClient) -> bool:
    """Whether the broker gives out producer ids; asked directly, for aiokafka logs the refusal as an
    error.

    A broker that has just started answers "not yet": it is asked again. Raises KafkaError where it never says.
    """
    answer: Any = None
    for _ in range(int(CONNECT_TIMEOUT_S / _RETRY_S)):
        try:
            answer = await client.send(
                client.get_random_node(), InitProducerIdRequest(None, _PRODUCER_TIMEOUT_MS)
            )
        except (IncompatibleBrokerVersion, NotImplementedError):
            return False
        if answer.error_code in (0, _REFUSED):
            return bool(answer.error_code == 0)
        await asyncio.sleep(_RETRY_S)
    raise for_code(answer.error_code)("no producer id")


async def all_topics(client: AIOKafkaClient) -> dict[str, int]:
    """Partition count of every topic, without naming one (see the head of this module)."""
    cluster = await client.fetch_all_metadata()
    return {name: len(cluster.partitions_for_topic(name) or ()) for name in cluster.topics()}


async def topic_epochs(url: str, names: Iterable[str]) -> dict[str, str]:
    """Incarnation of each topic: its id, 32 hex digits, drawn by the broker when the topic was created.

    Raises NoTopicIds where the broker has none, ValueError for a topic that is not there, BrokerError.
    """
    client = AIOKafkaClient(bootstrap_servers=bootstrap_servers(url), client_id="tidebook")
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await client.bootstrap()
            answer = await client.send(client.get_random_node(), TopicIdsRequest())
    except NotImplementedError as cause:
        raise NoTopicIds(url) from cause
    except TimeoutError as cause:
        raise BrokerError(url, f"no answer within {CONNECT_TIMEOUT_S:g} s") from cause
    except KafkaError as cause:
        raise BrokerError(url, cause) from cause
    finally:
        await client.close()
    there, ids = {topic[1] for topic in answer.topics}, ids_of(answer)
    wanted = set(names)
    for name in sorted(wanted - there):
        raise ValueError(f"topic {name} is not on the broker: run `tidebook topics apply`")
    if not wanted <= ids.keys():
        raise NoTopicIds(url)
    return {name: ids[name].hex for name in wanted}


async def true_ends(url: str, told: Mapping[tuple[str, int], int]) -> dict[tuple[str, int], int]:
    """Next offset of each partition: the high watermark of the broker's answer to who reads on from `told`.

    For the embedded broker, whose `end_offsets` tells the base of the last batch. Raises BrokerError.
    """
    starts = {TopicPartition(*place): max(0, offset) for place, offset in told.items()}
    ends: dict[TopicPartition, int] = {}
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers(url), enable_auto_commit=False)
    try:
        await consumer.start()
        consumer.assign(list(starts))
        for partition, offset in starts.items():
            consumer.seek(partition, offset)
        async with asyncio.timeout(_TAIL_WAIT_S):
            while len(ends) < len(starts):
                await consumer.getmany(timeout_ms=_TAIL_POLL_MS)
                ends = {place: end for place in starts if (end := consumer.highwater(place)) is not None}
    except (KafkaError, TimeoutError) as cause:
        detail = cause if str(cause) else f"no end of some partition within {_TAIL_WAIT_S:g} s"
        raise BrokerError(url, detail) from cause
    finally:
        await consumer.stop()
    return {(partition.topic, partition.partition): end for partition, end in ends.items()}


Settings = dict[str, dict[str, tuple[str | None, int]]]  # topic -> setting -> (value, source)


async def _settings(admin: AIOKafkaAdminClient, names: Sequence[str]) -> Settings | None:
    """Settings of topics, None where the broker does not tell."""
    if not names:
        return {}
    found: Settings = {}
    try:
        answers = await admin.describe_configs(
            [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        )
    except KafkaError:
        return None
    for answer in answers:
        for code, _, _, name, entries in answer.resources:
            if code == 0:
                found[name] = {entry[0]: (entry[1], int(entry[3])) for entry in entries}
    return found


def _values(settings: Settings | None, name: str) -> Mapping[str, str] | None:
    if settings is None or name not in settings:
        return None
    return {key: value for key, (value, _) in settings[name].items() if value is not None}


async def _replicas(admin: AIOKafkaAdminClient) -> int:
    cluster = await admin.describe_cluster()
    return min(REPLICAS_MAX, len(cluster["brokers"])) or 1


@contextlib.contextmanager
def _clear(what: str) -> Iterator[None]:
    try:
        yield
    except IncompatibleBrokerVersion as cause:
        raise KafkaError(f"this broker cannot {what}") from cause
