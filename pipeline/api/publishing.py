"""From the intake's journal to Kafka: per topic in the order of the journal, again until it is acknowledged.

One process of a host publishes, for all that share the journal (a lock says which); the others look how far it is. Each
topic has a lane of its own: its own connection, its own mark, one batch under way at a time, so no message is ever
there before one it follows, also across failures, kills and brokers that forget. That a topic was made anew under our
hands is looked for now and then, and told by an offset that goes back: then it gets everything from the beginning.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from pipeline.api.journal import GroupCommit, Journal, PublishingLock
from topics.broker import BrokerError, NoTopicIds, topic_epochs
from topics.producer import NoSuchTopic, Producer

EPOCH_CHECK_S: Final = 5.0
LOOK_S: Final = 0.01  # how often others' rows and marks are looked for
RETRY_S: Final = (0.2, 0.5, 1.0, 2.0)
BACKLOG_MAX: Final = 1_000_000  # events in the journal that an absent broker has not seen
STALL_S: Final = 60.0  # without progress, `republish` gives up

log = logging.getLogger(__name__)


class Publisher:
    """Publishes a journal's topics to one broker, in the background."""

    def __init__(
        self, journal: Journal, commits: GroupCommit, url: str, topics: Iterable[str], epoch: str = ""
    ) -> None:
        """`epoch` is the broker's where it has no topic ids (setting TIDEBOOK_EPOCH)."""
        self._journal, self._lock = journal, PublishingLock(journal.folder)
        self._url, self._set_epoch = url, epoch
        self._lanes = {topic: _Lane(topic, journal, commits, url, epoch) for topic in topics}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin; a broker that is away is waited for in the background."""
        self._tasks = [asyncio.create_task(self._look())]
        self._tasks += [asyncio.create_task(lane.run()) for lane in self._lanes.values()]
        if not self._set_epoch and self._lanes:
            self._tasks.append(asyncio.create_task(self._watch()))

    async def stop(self) -> None:
        """End. What is not published yet stays in the journal."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        self._journal.remembers = False
        self._lock.close()

    def kick(self, topic: str) -> None:
        """There are new rows of a topic."""
        self._lanes[topic].wake.set()

    async def wait(self, topic: str, seq: int, patience_s: float) -> bool:
        """Whether the broker has acknowledged a topic's events up to `seq`, soon."""
        lane = self._lanes[topic]
        if lane.sent >= seq:
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lane.waiters[future] = seq
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await future
        finally:
            lane.waiters.pop(future, None)
        return lane.sent >= seq

    def sent(self, topic: str) -> int:
        """Seq up to which the broker has acknowledged a topic."""
        return self._lanes[topic].sent

    def trouble(self, topic: str) -> str:
        """Why the topic is not published just now, in one line; "": it is."""
        return self._lanes[topic].trouble

    def far_behind(self, topic: str, seq: int) -> bool:
        """Whether so much of the topic waits that no more should be taken in; `seq` is the journal's newest."""
        lane = self._lanes[topic]
        return bool(lane.trouble) and seq - lane.sent > BACKLOG_MAX

    def backlog(self) -> dict[str, int]:
        """Events of each topic that are accepted and not known to be published."""
        return {topic: self._journal.count(topic, lane.sent) for topic, lane in self._lanes.items()}

    def behind(self) -> str:
        """A topic that is not published to its end, in one line; "": none."""
        behind = [topic for topic, lane in self._lanes.items() if lane.sent < self._journal.last(topic)]
        return f"{behind[0]} waits, for the process that publishes this journal" if behind else ""

    def count(self) -> int:
        """Messages that were acknowledged to this publisher."""
        return sum(lane.count for lane in self._lanes.values())

    async def _watch(self) -> None:
        """See that the topics are those that we know."""
        while True:
            await asyncio.sleep(EPOCH_CHECK_S)
            with contextlib.suppress(
                BrokerError, NoTopicIds, ValueError, sqlite3.Error
            ):  # the lanes tell of it
                for topic, epoch in (await topic_epochs(self._url, list(self._lanes))).items():
                    self._lanes[topic].take(epoch)

    async def _look(self) -> None:
        """Become the one that publishes when we can; else follow its marks."""
        version = now = -1
        while True:
            with contextlib.suppress(sqlite3.Error):  # what can't be read now may be readable later
                now = self._journal.version()
            if self._lock.take():
                self._journal.remembers = True
                for lane in self._lanes.values():
                    lane.leads.set()
                    if now != version:
                        lane.wake.set()
            elif now != version:
                for lane in self._lanes.values():
                    with contextlib.suppress(sqlite3.Error):
                        lane.follow()
            version = now
            await asyncio.sleep(LOOK_S)


class _Lane:
    """One topic's way to the broker."""

    def __init__(self, topic: str, journal: Journal, commits: GroupCommit, url: str, epoch: str) -> None:
        self.topic, self.sent, self.trouble = topic, 0, "not connected yet"
        self.count = 0  # messages that were acknowledged to us
        self.waiters: dict[asyncio.Future[None], int] = {}
        self.leads, self.wake = asyncio.Event(), asyncio.Event()
        self._journal, self._commits, self._url = journal, commits, url
        self._set_epoch, self._epoch = epoch, ""
        self._next = 0  # offset below which no message of ours can come any more
        self._forgot = False  # the topic does not hold what the journal's mark says

    async def run(self) -> None:
        """Publish for ever; whatever the broker does, begin again where it was acknowledged last."""
        failed = 0
        while True:
            producer = Producer(self._url)
            try:
                await producer.start()
                await self._begin()
                await self.leads.wait()
                self._catch_up()
                while True:
                    await self._publish(producer)
                    failed, self.trouble = 0, ""
            except (BrokerError, NoSuchTopic, NoTopicIds, ValueError) as error:
                self._say(str(error))
            except Exception as error:  # a full disk, say: others' events must not wait for somebody to look
                log.exception("publishing %s", self.topic)
                self._say(f"{type(error).__name__}: {error}")
            finally:
                await producer.stop()
            await asyncio.sleep(RETRY_S[min(failed, len(RETRY_S) - 1)])
            failed += 1

    def follow(self) -> None:
        """Take over how far another process has come."""
        if self._epoch:
            self._catch_up()

    def take(self, epoch: str) -> None:
        """This is the topic's incarnation; it was another one before, perhaps."""
        if epoch != self._epoch:
            self.sent, self._epoch, self._next, self._forgot = 0, epoch, 0, False
            self.wake.set()
        self._catch_up()

    def _catch_up(self) -> None:
        if not self._forgot:
            self._reach(self._journal.published(self.topic, self._epoch))

    async def _begin(self) -> None:
        """Which incarnation of the topic this is, and how far it has ours."""
        epoch = self._set_epoch or (await topic_epochs(self._url, [self.topic]))[self.topic]
        self.take(epoch)
        self.trouble = ""

    async def _publish(self, producer: Producer) -> None:
        self.wake.clear()
        rows = self._journal.waiting(self.topic, self.sent)
        if not rows:
            await self.wake.wait()
            return
        while rows:
            epoch = self._epoch
            count, offset = await producer.send_batch(
                [row.message for row in rows], [row.accepted_ms for row in rows]
            )
            self.count += count
            if 0 <= offset < self._next:
                await self._begin()
                self._forget(epoch)
                return
            if self._epoch != epoch:  # another one meanwhile: from the beginning
                return
            self._next = max(self._next, offset + count)
            self._reach(rows[count - 1].seq)
            self._journal.forget(self.topic, self.sent)
            self._commits.mark(self.topic, self._epoch, self.sent)
            rows = rows[count:]

    def _forget(self, epoch: str) -> None:
        """Offsets have gone back. Where that is no other incarnation by its name, the mark must not be believed."""
        if self._epoch == epoch:
            log.warning(
                "%s does not hold any more what was acknowledged: all of it is published again", self.topic
            )
            self.sent, self._next, self._forgot = 0, 0, True
            self._commits.mark(self.topic, epoch, 0)

    def _reach(self, seq: int) -> None:
        """Everything up to `seq` is acknowledged: tell who waits for it."""
        self.sent = max(self.sent, seq)
        for future, wanted in self.waiters.items():
            if wanted <= self.sent and not future.done():
                future.set_result(None)

    def _say(self, trouble: str) -> None:
        if trouble != self.trouble:
            log.warning("%s is not published: %s", self.topic, trouble)
        self.trouble = trouble


async def republish(
    folder: Path, url: str, epoch: str, topics: Iterable[str], say: Callable[[int], None] | None = None
) -> int:
    """Publish all that `folder`'s journal holds and the broker has not acknowledged in this epoch; how many.

    The same bytes and headers in the same order; what is there already is left. `epoch` as in Publisher. `say` is
    told how many, now and then. Raises BrokerError where nothing moves for STALL_S, JournalError.
    """
    journal = Journal(folder)
    topics = [topic for topic in topics if journal.last(topic)]
    commits = GroupCommit(journal)
    publisher = Publisher(journal, commits, url, topics, epoch)
    await publisher.start()
    try:
        seen, since = publisher.count(), time.monotonic()
        while trouble := next(filter(None, map(publisher.trouble, topics)), "") or publisher.behind():
            await asyncio.sleep(LOOK_S)
            if publisher.count() != seen:
                seen, since = publisher.count(), time.monotonic()
                if say is not None:
                    say(seen)
            elif time.monotonic() - since > STALL_S:
                raise BrokerError(url, f"{trouble}: nothing moves for {STALL_S:g} s")
        return publisher.count()
    finally:
        await publisher.stop()
        await commits.close()
        journal.close()
