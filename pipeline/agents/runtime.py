"""What all roles share: one Faust app per role, whole batches, effect first, then the acknowledgement.

A role only says which topics it reads and what one batch does; the loop here takes messages with
`noack_take` (Faust's own `take` acknowledges in a `finally`, also what was not done), runs the role's
effect, publishes what follows from it, waits until the broker has it, and only then acknowledges. A
defect ends the process without a commit; everything is delivered again to the next one, and every
effect is idempotent. FIELD-NOTES.md, "Faust".

Rebalance: partitions are given back only after the effect at hand is done, acknowledged and committed, and
events that were taken before but not begun are dropped: their next owner gets them. What a role remembers
of partitions it forgets whenever they are assigned, for another process may have worked on them meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from pipeline import metrics
from pipeline.agents.faust_app import make_app
from pipeline.agents.progress import Progress
from pipeline.agents.role import Epochs, Message, NotFree, Place, Role, StoreAway
from pipeline.settings import Settings
from sinks.books import BooksUnavailableError
from sinks.sink import TakenOver
from topics.broker import BrokerError, NoTopicIds, topic_epochs, true_ends
from topics.producer import Producer

SETUP_EXIT = 2  # a setting is wrong, or what it names is not there or not free
DEFECT_EXIT = 70  # EX_SOFTWARE: a defect, nothing was committed
AGAIN_EXIT = 75  # EX_TEMPFAIL: start it again
REVOKE_WAIT_S = 45.0  # for the effect at hand, below Faust's broker_rebalance_timeout of 60 s
PUBLISH_WAIT_S = 40.0  # for a broker that is away, below REVOKE_WAIT_S
EPOCH_CHECK_S = 5.0
AWAY_WAIT_S = (0.5, 30.0)  # between two tries at a store that is away: the first, and the longest
AWAY_LOOK_S = 0.5  # how soon a wait ends when this process ends or gives partitions back
AWAY_SAY_S = 60.0

T = TypeVar("T")


class Abandoned(RuntimeError):
    """A batch was not done, and is no more ours to do: its next owner gets it."""


class TopicsCreatedAnew(RuntimeError):
    """A topic is not the one that this worker began with."""


class Worker:
    """Runs one role until it is told to stop. One per process."""

    def __init__(self, settings: Settings, role: Role, supervised: bool) -> None:
        self.role = role
        self.progress = Progress(role.name, supervised)
        self._url, self._set_epoch = settings.kafka_url, settings.epoch
        self._producer = Producer(settings.kafka_url)
        self._stop = asyncio.Event()
        self._failure: BaseException | None = None
        self._away = ""  # why the store is away; nothing more is taken from Kafka meanwhile
        self._effect = asyncio.Lock()  # one effect at a time, however many topics a role reads
        self._assigned = False  # no rebalance is under way
        self._owned: set[Place] = set()  # empty while partitions are being given away
        self._clock, self._sleep = time.monotonic, asyncio.sleep
        self._stopped: dict[Place, str] = {}  # partitions whose chain can't go on: why
        self._epochs: Epochs = {}
        self.app = make_app(settings, role.name, role.batch_max)
        for topic in role.topics:
            self._add_agent(topic)

    def _add_agent(self, topic: str) -> None:
        channel = self.app.topic(topic, key_serializer="raw", value_serializer="raw", internal=False)

        most = getattr(self.role, "batch_sizes", {}).get(topic, self.role.batch_max)

        async def consume(stream: Any) -> Any:
            async for events in stream.noack_take(most, within=self.role.batch_wait_s):
                await self._batch(topic, stream, events)
                yield

        self.app.agent(channel, name=f"{self.role.name}-{topic}", concurrency=1)(consume)

    async def _batch(self, topic: str, stream: Any, taken: list[Any]) -> None:
        try:
            async with self._effect:
                if self._stop.is_set():  # nothing more is done or acknowledged: we are ending
                    return
                events = [event for event in taken if self._is_ours(event.message)]
                if events:
                    await self._do(topic, stream, events)
        except Abandoned:
            return
        except Exception as error:  # a defect: end without a commit
            self._failure = error
            self._stop.set()

    def _is_ours(self, message: Any) -> bool:
        """Not taken under an earlier assignment, nor behind the place where its chain stopped."""
        place = (message.topic, message.partition)
        current = message.generation_id == self.app.consumer_generation_id
        return current and place in self._owned and place not in self._stopped

    async def _do(self, topic: str, stream: Any, events: list[Any]) -> None:
        batch = [_message(event) for event in events]
        started = time.monotonic()
        for table in self.app.tables.data.values():  # Faust asks for a key's partition and does not wait
            await self.app.producer._ensure_producer().partitions_for(table.changelog_topic.get_topic_name())
        done = await self._patiently(events, lambda: self.role.process(topic, batch))
        published = await self._producer.send_patiently(done.outgoing, PUBLISH_WAIT_S, self._say)
        for name, parts in published.items():
            self.progress.produced.setdefault(name, {}).update(parts)
        if done.commit is not None:
            await self._patiently(events, partial(asyncio.to_thread, done.commit))
        if self.app.tables.data:  # a table's changelog must be out before the acknowledgement
            await self.app.producer.flush()
        for event, message in zip(events, batch, strict=True):
            stop = done.stops.get(message.partition)
            if stop is None or message.offset < stop[0]:
                await stream.ack(event)
                self.progress.position.setdefault(topic, {})[message.partition] = message.offset + 1
        for partition, (_, why) in done.stops.items():
            self._stopped[topic, partition] = why
        if done.stops:
            self.app.consumer.pause_partitions(
                {
                    tp
                    for tp in self.app.consumer.assignment()
                    if tp.topic == topic and tp.partition in done.stops
                }
            )
        self.progress.add(done.counts)
        metrics.role_progress(self.role.name, len(batch), done.counts, time.monotonic() - started)
        self.progress.add({"quarantined": sum(one.topic == "quarantine.v1" for one in done.outgoing)})
        self.progress.busy = [*(self.progress.busy or [started])[:1], time.monotonic()]
        self._tell(force=bool(done.stops))

    async def _patiently(self, events: list[Any], effect: Callable[[], Awaitable[T]]) -> T:
        """What `effect` gives; while its store is away it is tried again and again, ever more seldom.

        This holds the one effect, so nothing more is begun; Faust's buffers fill up and Kafka is read no
        further: memory is bounded. Raises Abandoned once this process ends or the batch is no more ours.
        """
        began, said, wait_s = self._clock(), 0.0, AWAY_WAIT_S[0]
        while True:
            try:
                result = await effect()
            except StoreAway as away:
                now = self._clock()
                if not self._away or now - said >= AWAY_SAY_S:
                    said = now
                    self._say(f"waits for its store, {now - began:.0f} s so far; nothing is lost: {away}")
                self._away = str(away)
            else:
                if self._away:
                    self._say(f"its store is back after {self._clock() - began:.0f} s")
                    self._away = ""
                return result
            await self._wait_while_ours(events, wait_s)
            wait_s = min(2 * wait_s, AWAY_WAIT_S[1])

    async def _wait_while_ours(self, events: list[Any], wait_s: float) -> None:
        """Raises Abandoned."""
        until = self._clock() + wait_s
        while True:
            if self._stop.is_set() or not all(self._is_ours(event.message) for event in events):
                raise Abandoned
            left = until - self._clock()
            if left <= 0:
                return
            await self._sleep(min(left, AWAY_LOOK_S))

    def _say(self, line: str) -> None:
        sys.stderr.write(f"tidebook work {self.role.name}: {line}\n")
        sys.stderr.flush()

    def _tell(self, force: bool = False) -> None:
        stopped = {"stopped": "; ".join(sorted(self._stopped.values()))} if self._stopped else {}
        self.progress.tell(force=force, **stopped)

    async def run(self) -> int:
        """Until stopped: 0; SETUP_EXIT, AGAIN_EXIT or, after a defect, DEFECT_EXIT, told on stderr, its last
        line saying what."""
        ticker: asyncio.Task[None] | None = None
        try:
            self._epochs = await self._read_epochs()
            await self._producer.start()
            await self._patiently([], lambda: self.role.open(self.app, self._epochs))
            self.app.finalize()
            if not self._producer.idempotent:
                self._trust_no_ends()
            self._follow_assignment()
            await self.app.start()
            spare_the_collector()
            self.progress.tell(force=True, ready=True, topics=list(self.role.topics))
            ticker = asyncio.create_task(self._tick())
            await self._stop.wait()
        except Abandoned:  # told to end while its store was away
            await self._producer.stop()
            return 0
        except Exception as error:  # the process ends either way; the supervisor is told why
            self._failure = error
        if ticker is not None:
            ticker.cancel()
        if self._failure is not None:
            return await self._failed(self._failure, started=ticker is not None)
        await self._end()
        return 0

    async def _end(self) -> None:
        """Finish and commit the effect at hand, then let go of everything."""
        async with self._effect:
            with contextlib.suppress(Exception):  # what is not committed is delivered again
                await asyncio.wait_for(self.app.consumer.commit(), timeout=5)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.app.stop(), timeout=10)
        await self.role.close()
        await self._producer.stop()
        self.progress.tell(force=True, ended=True)

    async def _read_epochs(self) -> Epochs:
        if self._set_epoch:
            return dict.fromkeys(self.role.topics, self._set_epoch)
        return await topic_epochs(self._url, self.role.topics)

    def _follow_assignment(self) -> None:
        """Stand between Kafka's rebalance and Faust, whose own callbacks come too late: it forgets what is
        acknowledged before it tells anybody that partitions are revoked."""
        consumer = self.app.consumer
        revoke, assign = consumer.on_partitions_revoked, consumer.on_partitions_assigned
        seek = consumer.perform_seek

        async def on_partitions_revoked(revoked: Any) -> None:
            self._assigned = False
            self._owned = set()  # what is taken but not begun is left to the next owner
            with contextlib.suppress(Exception):  # what is not committed is delivered again
                async with asyncio.timeout(REVOKE_WAIT_S), self._effect:
                    await consumer.commit()
            await revoke(revoked)

        async def on_partitions_assigned(assigned: Any, generation_id: int = 0) -> None:
            self._assigned = True
            await assign(assigned, generation_id)

        async def perform_seek() -> None:
            await seek()
            if self._assigned:  # Faust also seeks on its way out
                await self._take_over(consumer)

        consumer.on_partitions_revoked = on_partitions_revoked
        consumer.on_partitions_assigned = on_partitions_assigned
        consumer.perform_seek = perform_seek

    async def _take_over(self, consumer: Any) -> None:
        """Begin with the partitions that are assigned: epochs checked, memory renewed, places sought."""
        ours = {(tp.topic, tp.partition): tp for tp in consumer.assignment() if tp.topic in self.role.topics}
        try:
            async with self._effect:
                await self._check_epochs()
                wanted = await asyncio.to_thread(self.role.assigned, set(ours))
                self.progress.position = {}
                for place, tp in ours.items():
                    committed = consumer._committed_offset[tp] or 0
                    offset = wanted.get(place, committed)
                    if offset < committed:  # the store is behind what the group has committed
                        await consumer.seek(tp, offset)
                    if offset:
                        self.progress.position.setdefault(tp.topic, {})[tp.partition] = offset
                self._stopped.clear()
                self._owned = set(ours)
        except Exception as error:
            self._failure = error
            self._stop.set()

    async def _check_epochs(self) -> None:
        """Raise TopicsCreatedAnew if a topic is another one than at the start."""
        if self._set_epoch:
            return
        found = await self._read_epochs()
        for topic, epoch in self._epochs.items():
            if found[topic] != epoch:
                raise TopicsCreatedAnew(f"topic {topic} was created anew: this worker must start again")

    def _trust_no_ends(self) -> None:
        """Have Faust recover tables to where their changelogs truly end: the embedded broker tells less."""
        consumer = self.app.consumer
        told_by_broker = consumer.highwaters

        async def highwaters(*partitions: Any) -> Any:
            told = await told_by_broker(*partitions)
            places = {(tp.topic, tp.partition): told[tp] or 0 for tp in partitions}
            ends = await true_ends(self._url, places)
            return {tp: ends[tp.topic, tp.partition] for tp in partitions}

        consumer.highwaters = highwaters

    async def _failed(self, failure: BaseException, started: bool) -> int:
        """End without a commit: what was not acknowledged comes again."""
        with contextlib.suppress(Exception):
            await self._producer.stop()
        status = _status_of(failure, started)
        said = f"{type(failure).__name__}: {failure}" if status == DEFECT_EXIT else str(failure)
        said = said.splitlines()[0]
        if status == DEFECT_EXIT:
            traceback.print_exception(failure, file=sys.stderr)
        sys.stderr.write(f"tidebook work {self.role.name}: {said}\n")
        sys.stderr.flush()
        self.progress.tell(force=True, failed=said)
        return status

    def health(self) -> tuple[bool, dict[str, Any]]:
        """What this process knows of itself; whether it moves is judged from Kafka (`tidebook lag`)."""
        away = [f"waits for its store: {self._away}"] if self._away else []
        wrong = [*away, *self._stopped.values(), *([str(self._failure)] if self._failure else [])]
        return not wrong, {"role": self.role.name, "unhealthy": wrong, "block": self.progress.block}

    def stop(self) -> None:
        """Ask the worker to end after what it is doing."""
        self._stop.set()

    async def _tick(self) -> None:
        checked = time.monotonic()
        while True:
            await asyncio.sleep(0.2)
            self._tell()
            if self.app.crashed:  # Faust ends its services and leaves the process standing
                self._failure = self.app.crash_reason or RuntimeError("Faust has crashed")
                self._stop.set()
            if time.monotonic() - checked > EPOCH_CHECK_S:
                checked = time.monotonic()
                try:
                    await self._check_epochs()
                except TopicsCreatedAnew as error:
                    self._failure = error
                    self._stop.set()
                except (BrokerError, ValueError):  # it is away, or a topic is: nothing is read either
                    continue


def _status_of(failure: BaseException, started: bool) -> int:
    """Exit status: what a person must mend, what another start mends, what is a defect."""
    if isinstance(failure, NoTopicIds | NotFree):
        return SETUP_EXIT
    if isinstance(failure, BrokerError | BooksUnavailableError):
        return AGAIN_EXIT if started else SETUP_EXIT
    if isinstance(failure, TopicsCreatedAnew | StoreAway | TakenOver):
        return AGAIN_EXIT
    if isinstance(failure, ValueError) and not started:
        return SETUP_EXIT
    return DEFECT_EXIT


def spare_the_collector() -> None:
    """Decoded blocks are trees of many small objects without cycles: collecting often costs a third."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 50)


def _message(event: Any) -> Message:
    raw = event.message
    headers = raw.headers or ()
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return Message(
        raw.topic, raw.partition, raw.offset, int((raw.timestamp or 0) * 1000), raw.key, raw.value,
        tuple((str(name), bytes(value)) for name, value in pairs),
    )  # fmt: skip
