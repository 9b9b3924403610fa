"""What is known of states when an event comes in, so that what can't be is refused at once.

The roles' files tell states as far as events are applied (sinks.application_store). Between them and the intake are the
events that are accepted and not applied yet: of each of those it is remembered which states it may change, until the
file says that it is decided. A rule's refusal is final only if none of the states it looked at is one of those; else
the event is accepted and the fold judges, and until it has, anything may change. After a restart, and for what other
processes of this host have accepted, the same is found again from the journal. Where the files are not on this host
nothing is known, and the fold judges all.

An answer's status: 422 what is wrong with the event alone, or names something that is not there; 404 what it is about
(the topic's key) is not there; 409 every other state that does not allow it.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Final

from pipeline.api.client import ApiError
from pipeline.api.journal import Journal
from pipeline.domain.applications.event import AppEvent, AppTopic, AppType, Refusal, Value
from schemas.codec import Codec, WireError
from sinks.application_store import ApplicationReader

PENDING_MAX: Final = 100_000  # events whose states are remembered, a topic
LOOK_AGAIN_S: Final = 1.0  # for a file that is not there, or is another one

_SAME_MOMENT: Final = nullcontext()

Key = tuple[str, str]  # kind, id

log = logging.getLogger(__name__)


class Known:
    """What is known of the states of all topics. Used by one thread."""

    def __init__(self, folder: Path, rows: Iterable[AppTopic], journal: Journal, codec: Codec) -> None:
        """`folder` is where the roles keep their states (settings.applications_dir)."""
        self._topics = {row.topic: _Topic(row, folder / f"{row.topic}.db", journal, codec) for row in rows}

    def judge(self, event: AppEvent) -> None:
        """Let an event pass, and remember what it may change. Raises ApiError."""
        self._topics[event.topic].judge(event)

    def moment(self, topic: str) -> AbstractContextManager[None]:
        """Within it a topic's states are as of one moment: events that come together are judged by one look."""
        return self._topics[topic].moment()

    def dropped(self, topic: str, event_ids: Iterable[str]) -> None:
        """Events that passed and were not accepted after all."""
        self._topics[topic].own.drop(event_ids)

    def reader(self, topic: str) -> ApplicationReader | None:
        """The file of a topic's states, None where it is not on this host, or not there yet."""
        return self._topics[topic].reader()

    def close(self) -> None:
        """Let go of the files."""
        for topic in self._topics.values():
            topic.close()


class _Look:
    """A view that remembers what was looked at."""

    __slots__ = ("_get", "looked")

    def __init__(self, reader: ApplicationReader) -> None:
        self._get = reader.get
        self.looked: dict[Key, Value | None] = {}

    def get(self, kind: str, id: str) -> Value | None:
        key = (kind, id)
        if key not in self.looked:
            self.looked[key] = self._get(kind, id)
        return self.looked[key]


class _Pending:
    """Accepted events that are not decided yet, in the order of the topic, and the states they may change."""

    def __init__(self) -> None:
        self.events: dict[str, tuple[Key, ...]] = {}  # in order
        self._count: dict[Key, int] = {}
        self._blind: set[str] = set()  # of the events, those that may change anything
        self._beyond = ""  # the newest event, where there are more than can be remembered

    def note(self, event_id: str, keys: Iterable[Key], blind: bool = False) -> None:
        """An event is on its way, and may change these; `blind`: nobody can say what, for what it looks at may change
        before its turn comes."""
        if self._beyond or len(self.events) >= PENDING_MAX:
            self.events.clear()
            self._count.clear()
            self._blind.clear()
            self._beyond = event_id
            return
        self.events[event_id] = noted = tuple(keys)
        if blind:
            self._blind.add(event_id)
        for key in noted:
            self._count[key] = self._count.get(key, 0) + 1

    def beyond(self, event_id: str) -> None:
        """So many are on their way, up to this one, that all states are in doubt."""
        self._beyond = event_id

    def doubts(self, keys: Iterable[Key]) -> bool:
        """Whether one of the states may be about to change."""
        return bool(self._beyond or self._blind) or not self._count.keys().isdisjoint(keys)

    def drop(self, event_ids: Iterable[str]) -> None:
        """Events are decided, or will never be."""
        for event_id in event_ids:
            self._blind.discard(event_id)
            for key in self.events.pop(event_id, ()):
                if self._count[key] == 1:
                    del self._count[key]
                else:
                    self._count[key] -= 1

    def sweep(self, reader: ApplicationReader) -> None:
        """Drop what is decided: the topic is decided in its order, so that is all up to some event."""
        if self._beyond:
            if reader.decided(self._beyond) is None:
                return
            self._beyond = ""
        order = list(self.events)
        low, high = 0, len(order)  # all before `low` are decided
        if order and reader.decided(order[-1]) is not None:
            low = high
        while low < high:
            middle = (low + high) // 2
            if reader.decided(order[middle]) is None:
                high = middle
            else:
                low = middle + 1
        self.drop(order[:low])


class _Topic:
    """What is known of one topic's states."""

    def __init__(self, row: AppTopic, path: Path, journal: Journal, codec: Codec) -> None:
        self.own, self._others = _Pending(), _Pending()
        self._row, self._path, self._journal, self._codec = row, path, journal, codec
        self._reader: ApplicationReader | None = None
        self._inode, self._looked_at = 0, -LOOK_AGAIN_S
        self._seen = 0  # journal rows of this topic that were looked at
        self._in_moment = False

    def reader(self) -> ApplicationReader | None:
        """The file, opened when it is there, and anew when it is another one."""
        if self._in_moment or (now := time.monotonic()) - self._looked_at < LOOK_AGAIN_S:
            return self._reader
        self._looked_at = now
        try:
            inode = self._path.stat().st_ino
            if inode != self._inode:
                self.close()
                self._reader, self._inode = ApplicationReader(self._path), inode
            assert self._reader is not None
            self.own.sweep(self._reader)
            self._others.sweep(self._reader)
        except (OSError, sqlite3.Error) as error:
            if not isinstance(error, FileNotFoundError):
                log.warning("%s can't be read, so its rules are not looked at: %s", self._path, error)
            self.close()
        return self._reader

    def close(self) -> None:
        """Let go of the file."""
        if self._reader is not None:
            self._reader.close()
        self._reader, self._inode, self._seen = None, 0, 0

    def moment(self) -> AbstractContextManager[None]:
        """See Known. Within another one it is that one."""
        return _SAME_MOMENT if self._in_moment else self._new_moment()

    @contextmanager
    def _new_moment(self) -> Iterator[None]:
        reader = self.reader()
        if reader is None:
            yield
            return
        self._in_moment = True
        try:
            with reader.snapshot():
                yield
        finally:
            self._in_moment = False

    def judge(self, event: AppEvent) -> None:
        """See Known."""
        row = self._row.types[event.type]
        try:
            for check in (row.check, row.entry):
                if check is not None:
                    check(event)
        except Refusal as refusal:
            raise ApiError(422, refusal.reason, refusal.detail, refusal.field) from None
        reader = self.reader()
        if reader is None:
            return
        try:
            with self.moment():  # what is decided, and what that has led to
                self._judge(row, event, reader)
        except sqlite3.Error as error:
            log.warning("%s can't be read: %s", self._path, error)

    def _judge(self, row: AppType, event: AppEvent, reader: ApplicationReader) -> None:
        look = _Look(reader)
        try:
            decision = row.rule(event, look)
        except Refusal as refusal:
            if not self._in_doubt(reader, look.looked):
                raise ApiError(
                    self._status(refusal, look), refusal.reason, refusal.detail, refusal.field
                ) from None
            self.own.note(event.id, look.looked, blind=True)
            return
        doubted = self.own.doubts(look.looked) or self._others.doubts(look.looked)
        self.own.note(event.id, {change[:2]: None for change in decision.changes}, blind=doubted)

    def _status(self, refusal: Refusal, look: _Look) -> int:
        if not look.looked:
            return 422
        if refusal.reason.startswith("unknown_"):
            return 404 if refusal.field == self._row.key else 422
        return 409

    def _in_doubt(self, reader: ApplicationReader, keys: Iterable[Key]) -> bool:
        try:
            self._catch_up(reader)
            if self.own.doubts(keys):
                self.own.sweep(reader)
            if self._others.doubts(keys):
                self._others.sweep(reader)
        except sqlite3.Error as error:
            log.warning("%s can't be read: %s", self._path, error)
            return True
        return self.own.doubts(keys) or self._others.doubts(keys)

    def _catch_up(self, reader: ApplicationReader) -> None:
        """Look at what the journal got from others, or from us before a restart."""
        last = self._journal.last(self._row.topic)
        if last == self._seen:
            return
        if last - self._seen > PENDING_MAX // 100:
            self._seen = self._decided_to(reader, self._seen, last)
        noted = 0
        while rows := self._journal.ids(self._row.topic, self._seen, 1000):
            noted += self._note(reader, rows)
            self._seen = rows[-1][0]
            if noted >= PENDING_MAX // 10:  # too many to look at each
                self._seen = last
                self._others.beyond(self._journal.ids(self._row.topic, last - 1, 1)[0][1])

    def _note(self, reader: ApplicationReader, rows: Sequence[tuple[int, str]]) -> int:
        """Remember what those of the journal's events may change that are not ours and not decided; how many."""
        noted = 0
        for seq, event_id in rows:
            if event_id in self.own.events or event_id in self._others.events:
                continue
            if reader.decided(event_id) is None:
                look = _Look(reader)
                changes, blind = list[Key](), False
                try:
                    event = self._row.event(self._codec.decode(self._journal.value(seq), self._row.topic)[1])
                    decision = self._row.types[event.type].rule(event, look)
                    changes = [(change.kind, change.id) for change in decision.changes]
                except (Refusal, WireError):
                    blind = True  # it may pass when its turn comes
                blind = blind or self.own.doubts(look.looked) or self._others.doubts(look.looked)
                self._others.note(event_id, {**look.looked, **dict.fromkeys(changes)}, blind)
                noted += 1
        return noted

    def _decided_to(self, reader: ApplicationReader, low: int, high: int) -> int:
        """A journal row up to which all of the topic are decided."""
        while low < high:
            middle = (low + high + 1) // 2
            rows = self._journal.ids(self._row.topic, middle - 1, 1)
            if rows and reader.decided(rows[0][1]) is not None:
                low = max(middle, min(rows[0][0], high))
            else:
                high = middle - 1
        return low
