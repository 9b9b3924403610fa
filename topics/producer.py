"""A thin producer: a batch of messages is published when every one of them is acknowledged.

acks=all, idempotent where the broker can. aiokafka keeps one request per partition in flight, so the order
within a partition holds also where it cannot. There is no linger: a whole batch is queued before the sender
runs.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_delay,
    wait_exponential_jitter,
)

from topics.broker import (
    CONNECT_TIMEOUT_S,
    BrokerError,
    all_topics,
    bootstrap_servers,
    can_be_idempotent,
)
from topics.envelope import Outgoing
from topics.plan import MAX_MESSAGE_BYTES

BATCH_BYTES = MAX_MESSAGE_BYTES // 2  # the broker's limit is on whole batches
REQUEST_TIMEOUT_MS = 30_000
STOP_TIMEOUT_S = 5.0
TOPIC_ASKED_MAX, TOPIC_WAIT_S = 5, 0.2

__all__ = ["NoSuchTopic", "Outgoing", "Producer"]


class NoSuchTopic(ValueError):
    """The topic, or the partition of it, is not there; the message says what to run."""


class Producer:
    """Publishes to the broker at `url` (host:port[,host:port], setting TIDEBOOK_KAFKA_URL)."""

    def __init__(self, url: str, compression: str | None = None) -> None:
        self._url = url
        self._compression = compression
        self._producer: AIOKafkaProducer | None = None
        self._partitions: dict[str, int] = {}  # of the topics known to exist
        self.idempotent = False

    async def start(self) -> None:
        """Connect. Raises BrokerError, ValueError for a malformed url."""
        plain = await self._started(idempotent=False)
        try:
            self.idempotent = await can_be_idempotent(plain.client)
        except KafkaError as cause:
            await plain.stop()
            raise BrokerError(self._url, cause) from cause
        except BaseException:
            await plain.stop()
            raise
        if self.idempotent:
            await plain.stop()
            plain = await self._started(idempotent=True)
        self._producer = plain

    async def stop(self) -> None:
        """Disconnect; a second call does nothing. What was sent is acknowledged; a broker that is away must not
        hold us."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await producer.stop()

    async def send_many(self, messages: Sequence[Outgoing]) -> dict[str, dict[int, int]]:
        """Publish and wait for every acknowledgement: topic -> partition -> next offset after the last of
        ours.

        Order within a partition is the order given. Raises BrokerError if any message was not acknowledged
        (others may have been: sending all again is safe, for every effect is idempotent), NoSuchTopic for a
        partition or topic that is not there.
        """
        producer = self._running()
        await self._check(messages)
        pending: list[asyncio.Future[Any]] = []
        try:
            for message in messages:
                pending.append(
                    await producer.send(
                        message.topic,
                        message.value,
                        key=message.key,
                        partition=message.partition,
                        headers=list(message.headers),
                    )
                )
        except KafkaError as cause:
            await asyncio.gather(*pending, return_exceptions=True)
            raise BrokerError(self._url, f"{messages[len(pending)].topic}: {cause}") from cause
        answers = await asyncio.gather(*pending, return_exceptions=True)
        return self._next_offsets(messages, answers)

    async def send_batch(self, messages: Sequence[Outgoing], times_ms: Sequence[int]) -> tuple[int, int]:
        """Publish as many of `messages` as one batch holds, the first ones: (how many, offset of the first).

        All are of one topic and name the same partition; `times_ms` are their timestamps. Nothing else of the
        partition is under way meanwhile if the caller waits for each answer, so a message is never there before the
        one it follows. Far cheaper than `send_many`. Raises BrokerError, NoSuchTopic.
        """
        producer, first = self._running(), messages[0]
        await self._check(messages[:1])
        batch, count = producer.create_batch(), 0
        for message, time_ms in zip(messages, times_ms, strict=True):
            added = batch.append(
                timestamp=time_ms, key=message.key, value=message.value, headers=list(message.headers)
            )
            if added is None:
                break
            count += 1
        try:
            future = await producer.send_batch(batch, first.topic, partition=first.partition or 0)
            answer = await future
        except KafkaError as cause:
            raise BrokerError(self._url, f"{first.topic}: {cause}") from cause
        return count, answer.offset

    async def send_patiently(
        self, messages: Sequence[Outgoing], patience_s: float, say: Callable[[str], None]
    ) -> dict[str, dict[int, int]]:
        """`send_many` again and again while the broker is away: what was sent twice is harmless, what is left
        out is not. Each failure is told to `say`, in one line. Raises the last BrokerError after `patience_s`.
        """

        def tell(retry: RetryCallState) -> None:
            if retry.outcome is not None:
                say(f"{retry.outcome.exception()}; trying again ({retry.attempt_number})")

        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(BrokerError),
            wait=wait_exponential_jitter(multiplier=0.5, max=10),
            stop=stop_after_delay(patience_s),
            before_sleep=tell,
            reraise=True,
        ):
            with attempt:
                acknowledged = await self.send_many(messages)
        return acknowledged

    def _next_offsets(
        self, messages: Sequence[Outgoing], answers: Sequence[Any]
    ) -> dict[str, dict[int, int]]:
        found: dict[str, dict[int, int]] = {}
        for message, answer in zip(messages, answers, strict=True):
            if isinstance(answer, KafkaError):
                raise BrokerError(self._url, f"{message.topic}: {answer}") from answer
            if isinstance(answer, BaseException):
                raise answer
            parts = found.setdefault(message.topic, {})
            parts[answer.partition] = max(parts.get(answer.partition, 0), answer.offset + 1)
        return found

    async def _check(self, messages: Sequence[Outgoing]) -> None:
        """Topics and partitions are there: a broker may create what is named, or keep us waiting for it."""
        producer = self._running()
        asked = 0
        for message in messages:
            while not self._has(message) and asked < TOPIC_ASKED_MAX:  # a new topic is not known at once
                if asked:
                    await asyncio.sleep(TOPIC_WAIT_S)
                asked += 1
                try:
                    self._partitions = await all_topics(producer.client)
                except KafkaError as cause:
                    raise BrokerError(self._url, cause) from cause
            if message.topic not in self._partitions:
                raise NoSuchTopic(f"topic {message.topic} is not on the broker: run `tidebook topics apply`")
            if not self._has(message):
                raise NoSuchTopic(
                    f"topic {message.topic} has {self._partitions[message.topic]} partitions, none numbered "
                    f"{message.partition}: run `tidebook topics apply`"
                )

    def _has(self, message: Outgoing) -> bool:
        return (message.partition or 0) < self._partitions.get(message.topic, 0)

    def _running(self) -> AIOKafkaProducer:
        if self._producer is None:
            raise RuntimeError("the producer is not started")
        return self._producer

    async def _started(self, *, idempotent: bool) -> AIOKafkaProducer:
        producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap_servers(self._url),
            client_id="tidebook",
            acks="all",
            enable_idempotence=idempotent,
            compression_type=self._compression,
            max_batch_size=BATCH_BYTES,
            max_request_size=MAX_MESSAGE_BYTES,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await producer.start()
        except (TimeoutError, KafkaError) as cause:
            await producer.stop()
            detail = cause if str(cause) else f"no answer within {CONNECT_TIMEOUT_S:g} s"
            raise BrokerError(self._url, detail) from cause
        return producer
