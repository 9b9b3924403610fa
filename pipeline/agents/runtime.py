"""What all roles share: one Faust app per role, whole batches, effect first, then the acknowledgement.

A role only says which topics it reads and what one batch does; the loop here takes messages with
`noack_take` (Faust's own `take` acknowledges in a `finally`, also what was not done), runs the role's
effect, publishes what follows from it, waits until the broker has it, and only then acknowledges. A
defect ends the process without a commit; everything is delivered again to the next one, and every
effect is idempotent. FIELD-NOTES.md, "Faust".
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import faust
import orjson

from pipeline.settings import Settings
from topics.broker import true_ends
from topics.producer import Outgoing, Producer

DEFECT_EXIT = 70  # EX_SOFTWARE: a defect, nothing was committed


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it came from Kafka."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


@dataclass(slots=True)
class Done:
    """What came of a batch."""

    outgoing: list[Outgoing] = field(default_factory=list)  # to publish before acknowledging
    commit: Callable[[], None] | None = None  # makes the effect final, after publishing
    counts: Mapping[str, int] = field(default_factory=dict)  # added to the role's counters
    stopped: str | None = None  # a chain's books stop here: why. What follows is not acknowledged
    acknowledged: int | None = None  # messages of the batch that are done; None: all


class Role(Protocol):
    """One consumer group: `books`, `assets`, `history`."""

    name: str
    topics: Sequence[str]
    batch_max: int  # messages
    batch_wait_s: float

    async def open(self, app: faust.App) -> None:
        """Open stores; before the first batch."""

    async def process(self, topic: str, batch: list[Message]) -> Done:
        """Do the effect of one topic's batch, durably. Raises on a defect."""

    async def close(self) -> None:
        """Flush and close stores; after the last batch."""


class Progress:
    """Tells the supervisor, as JSON lines on stdout, how far this role is."""

    def __init__(self, role: str, enabled: bool) -> None:
        self._role, self._enabled = role, enabled
        self._told = 0.0
        self.position: dict[str, dict[int, int]] = {}  # topic -> partition -> next offset
        self.produced: dict[str, dict[int, int]] = {}
        self.counts: dict[str, int] = {}
        self.block = -1
        self.busy: list[float] = []  # monotonic seconds: start of the first batch, end of the last

    def add(self, counts: Mapping[str, int]) -> None:
        for name, count in counts.items():
            if name == "block":
                self.block = max(self.block, count)
            else:
                self.counts[name] = self.counts.get(name, 0) + count

    def tell(self, force: bool = False, **more: Any) -> None:
        now = time.monotonic()
        if not self._enabled or (not force and now - self._told < 0.1):
            return
        self._told = now
        line = {
            "role": self._role,
            "position": {t: {str(p): o for p, o in parts.items()} for t, parts in self.position.items()},
            "produced": {t: {str(p): o for p, o in parts.items()} for t, parts in self.produced.items()},
            "counts": self.counts,
            "block": self.block,
            "busy": self.busy,
            **more,
        }
        sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
        sys.stdout.buffer.flush()


class Worker:
    """Runs one role until it is told to stop. One per process."""

    def __init__(self, settings: Settings, role: Role, supervised: bool) -> None:
        self.role = role
        self.progress = Progress(role.name, supervised)
        datadir = settings.data_dir / "faust" / role.name
        datadir.mkdir(parents=True, exist_ok=True)
        self._url = settings.kafka_url
        self._producer = Producer(settings.kafka_url)
        self._stop = asyncio.Event()
        self._failure: BaseException | None = None
        self._effect = asyncio.Lock()  # one effect at a time, however many topics a role reads
        self.app = faust.App(
            f"tidebook-{role.name}",
            broker="kafka://" + settings.kafka_url.replace(",", ";kafka://"),
            store="memory://",
            datadir=str(datadir),
            topic_allow_declare=False,
            topic_disable_leader=True,
            consumer_auto_offset_reset="earliest",
            consumer_max_fetch_size=16 << 20,
            stream_buffer_maxsize=max(8192, 4 * role.batch_max),
            broker_max_poll_records=5000,
            broker_commit_interval=1.0,
            broker_session_timeout=settings.broker_session_s,
            broker_heartbeat_interval=settings.broker_session_s / 4,
            stream_wait_empty=False,
            web_enabled=bool(settings.web_port) and role.name == "assets",
            web_port=settings.web_port or 6066,
            web_bind="127.0.0.1",
            producer_acks=-1,
            autodiscover=False,
        )
        for topic in role.topics:
            self._add_agent(topic)

    def _add_agent(self, topic: str) -> None:
        channel = self.app.topic(topic, key_serializer="raw", value_serializer="raw", internal=False)

        async def consume(stream: Any) -> Any:
            async for events in stream.noack_take(self.role.batch_max, within=self.role.batch_wait_s):
                await self._batch(topic, stream, events)
                yield

        self.app.agent(channel, name=f"{self.role.name}-{topic}", concurrency=1)(consume)

    async def _batch(self, topic: str, stream: Any, events: list[Any]) -> None:
        if self._stop.is_set():
            await asyncio.Event().wait()  # nothing more is done or acknowledged; we are ending
        batch = [_message(event) for event in events]
        started = time.monotonic()
        try:
            async with self._effect:
                done = await self.role.process(topic, batch)
                for name, parts in (await self._producer.send_many(done.outgoing)).items():
                    self.progress.produced.setdefault(name, {}).update(parts)
                if done.commit is not None:
                    await asyncio.to_thread(done.commit)
                if self.app.tables.data:  # a table's changelog must be out before the acknowledgement
                    await self.app.producer.flush()
            finished = len(events) if done.acknowledged is None else done.acknowledged
            for event in events[:finished]:
                await stream.ack(event)
        except Exception as error:  # a defect: end without a commit
            self._failure = error
            self._stop.set()
            await asyncio.Event().wait()
        for message in batch[:finished]:
            self.progress.position.setdefault(message.topic, {})[message.partition] = message.offset + 1
        self.progress.add(done.counts)
        self.progress.add({"quarantined": sum(one.topic == "quarantine.v1" for one in done.outgoing)})
        self.progress.busy = [*(self.progress.busy or [started])[:1], time.monotonic()]
        self.progress.tell(force=bool(done.stopped), **({"stopped": done.stopped} if done.stopped else {}))
        if done.stopped:
            await asyncio.Event().wait()

    async def run(self) -> int:
        """Until stopped; 0, or DEFECT_EXIT after a defect (told on stderr, its last line saying what)."""
        ticker: asyncio.Task[None] | None = None
        try:
            await self._producer.start()
            await self.role.open(self.app)
            self.app.finalize()
            if not self._producer.idempotent:
                self._trust_no_ends()
            await self.app.start()
            _spare_the_collector()
            self.progress.tell(force=True, ready=True, topics=list(self.role.topics))
            ticker = asyncio.create_task(self._tick())
            await self._stop.wait()
        except Exception as error:  # the process ends either way; the supervisor is told why
            self._failure = error
        if ticker is not None:
            ticker.cancel()
        if self._failure is not None:
            return await self._failed(self._failure)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.app.stop(), timeout=10)
        await self.role.close()
        await self._producer.stop()
        self.progress.tell(force=True, ended=True)
        return 0

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

    async def _failed(self, failure: BaseException) -> int:
        """End without a commit: what was not acknowledged comes again."""
        with contextlib.suppress(Exception):
            await self._producer.stop()
        said = f"{type(failure).__name__}: {failure}".splitlines()[0]
        traceback.print_exception(failure, file=sys.stderr)
        sys.stderr.write(f"tidebook work {self.role.name}: {said}\n")
        sys.stderr.flush()
        self.progress.tell(force=True, failed=said)
        return DEFECT_EXIT

    def stop(self) -> None:
        """Ask the worker to end after what it is doing."""
        self._stop.set()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0.2)
            self.progress.tell()


def _spare_the_collector() -> None:
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
