"""What the intake has accepted, for ever: one SQLite file, written before Kafka is asked and anybody is answered.

A row is one event: its place in the order (`seq`), the digest of the body it came with, and the very bytes and headers
of its message. `event_id` is the hash of topic, client, user and idempotency key, so an index on it alone keeps those
unique. How far a topic is published is one mark, (epoch, seq): an embedded broker that starts anew, or a topic made
anew, has another epoch and gets all of it again. A mark may be older than the truth, never newer: told twice is
harmless.

Requests that come together share one transaction and so one fsync. Several processes of a host may share the file.
"""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import islice, takewhile
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from topics.envelope import Outgoing

FILE: Final = "journal.db"
BUSY_S: Final = 10.0
RECENT_MAX: Final = 5000  # rows of a topic that are remembered until they are published
RECENT_BYTES: Final = 4096  # larger ones are read again
READ_BYTES: Final = 4 << 20  # of messages read at once to be published
MARK_EVERY_S: Final = 0.02  # a mark may wait for the next rows' fsync
_CHUNKS: Final = tuple(1 << n for n in range(10, -1, -1))  # rows a statement: 9,216 values of SQLite's 32,766

Headers = tuple[tuple[str, bytes], ...]


class JournalError(Exception):
    """The journal can't be read or written; nothing of what was to be written is accepted."""


class Entry(NamedTuple):
    """An event to be accepted."""

    topic: str
    client: str
    idempotency_key: str
    event_id: str
    digest: bytes  # of the body
    key: bytes
    value: bytes
    headers: Headers
    accepted_ms: int


class Held(NamedTuple):
    """An event that is accepted."""

    seq: int
    digest: bytes
    ours: bool = False  # the row holds the very bytes that were given, not those of whoever was first


class Waiting(NamedTuple):
    """A message to be published."""

    seq: int
    accepted_ms: int
    message: Outgoing


_TABLES = """
CREATE TABLE IF NOT EXISTS events (
  seq INTEGER PRIMARY KEY, topic TEXT NOT NULL, client TEXT NOT NULL, idempotency_key TEXT NOT NULL,
  event_id TEXT NOT NULL UNIQUE, digest BLOB NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, headers BLOB NOT NULL,
  accepted_ms INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS by_topic ON events (topic, seq);
CREATE TABLE IF NOT EXISTS published (topic TEXT PRIMARY KEY, epoch TEXT NOT NULL, seq INTEGER NOT NULL);
"""
_COLUMNS = "topic, client, idempotency_key, event_id, digest, key, value, headers, accepted_ms"
_INSERT = {
    count: f"INSERT OR IGNORE INTO events ({_COLUMNS}) VALUES "
    + ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, ?)"] * count)
    for count in _CHUNKS
}


class Journal:
    """The journal of a folder. `append` belongs to one thread, all else to another.

    Where `remembers` is set, rows that were appended here need not be read again to be published: they are kept, once
    they are durable, until `forget`. A row is never changed, so what is kept is what the file holds.
    """

    remembers = False

    def __init__(self, folder: Path) -> None:
        """Open or make it. Raises JournalError."""
        self.folder = folder
        self._recent: dict[str, dict[int, Waiting]] = {}  # by topic and seq
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._write = self._connection()
            self._write.executescript(_TABLES)
            self._read = self._connection()
        except (sqlite3.Error, OSError) as cause:
            raise JournalError(f"{folder / FILE}: {cause}") from cause

    def _connection(self) -> sqlite3.Connection:
        db = sqlite3.connect(
            self.folder / FILE, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA cache_size = -65536")
        db.execute("PRAGMA wal_autocheckpoint = 16000")  # pages: 64 MB; each checkpoint waits for the disk
        return db

    def append(self, entries: Sequence[Entry], marks: Iterable[tuple[str, str, int]] = ()) -> list[Held]:
        """Accept entries, durably, all or none; of one that is there already, the one that is. In order.

        `marks` are (topic, epoch, seq) as `mark` of Kafka's acknowledgements. Raises JournalError.
        """
        db = self._write
        try:
            db.execute("BEGIN IMMEDIATE")
            held = self._insert(entries)
            for topic, epoch, seq in marks:
                db.execute("INSERT OR REPLACE INTO published VALUES (?, ?, ?)", (topic, epoch, seq))
            db.execute("COMMIT")
        except Exception as cause:  # whatever it is, the next ones must not stand in its transaction
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise JournalError(f"{self.folder / FILE}: {cause}") from cause
        if self.remembers:
            self._remember(entries, held)
        return held

    def _remember(self, entries: Sequence[Entry], held: Sequence[Held]) -> None:
        for one, (seq, _, ours) in zip(entries, held, strict=True):
            recent = self._recent.setdefault(one.topic, {})
            if ours and len(recent) < RECENT_MAX and len(one.value) < RECENT_BYTES:
                message = Outgoing(one.topic, one.key, one.value, one.headers, 0)
                recent[seq] = Waiting(seq, one.accepted_ms, message)

    def forget(self, topic: str, seq: int) -> None:
        """Rows of a topic up to `seq` are published."""
        recent = self._recent.get(topic, {})
        for old in list(recent):  # in order; another thread may add to it
            if old > seq:
                break
            del recent[old]

    def _insert(self, entries: Sequence[Entry]) -> list[Held]:
        # one statement for many rows: each step of a statement lets go of the interpreter and has to win it back
        held: list[Held] = []
        at = 0
        for size in _CHUNKS:
            while len(entries) - at >= size:
                part = entries[at : at + size]
                at += size
                held += self._insert_chunk(part)
        return held

    def _insert_chunk(self, part: Sequence[Entry]) -> list[Held]:
        values: list[str | bytes | int] = []
        for one in part:
            values += *one[:7], _packed(one.headers), one.accepted_ms
        done = self._write.execute(_INSERT[len(part)], values)
        if done.rowcount == len(part) and done.lastrowid is not None:
            first = done.lastrowid - len(part) + 1
            return [Held(first + n, one.digest, True) for n, one in enumerate(part)]
        found = _find(self._write, [one.event_id for one in part])  # another process was first
        return [found[one.event_id] for one in part]

    def find(self, event_ids: Sequence[str]) -> dict[str, Held]:
        """Those of the events that are accepted. Raises JournalError."""
        try:
            return _find(self._read, event_ids)
        except sqlite3.Error as cause:
            raise JournalError(f"{self.folder / FILE}: {cause}") from cause

    def published(self, topic: str, epoch: str) -> int:
        """Last seq of the topic that is known to be published in this epoch; 0: none."""
        row = self._read.execute("SELECT epoch, seq FROM published WHERE topic = ?", (topic,)).fetchone()
        return int(row[1]) if row is not None and row[0] == epoch else 0

    def waiting(self, topic: str, after: int, limit: int = 1000) -> list[Waiting]:
        """Messages of a topic that stand after seq `after`, in order; some, if there are many. Which they are is read
        from the journal; what they say too, but for those that are remembered."""
        recent = self._recent.get(topic)
        if recent:
            sql = "SELECT seq FROM events WHERE topic = ? AND seq > ? ORDER BY seq LIMIT ?"
            seqs = [seq for (seq,) in self._read.execute(sql, (topic, after, min(limit, RECENT_MAX)))]
            known = [recent[seq] for seq in takewhile(recent.__contains__, seqs)]
            if known or not seqs:
                return known
        rows = self._read.execute(
            "SELECT seq, accepted_ms, key, value, headers FROM events WHERE topic = ? AND seq > ? ORDER BY seq LIMIT ?",
            (topic, after, limit),
        )
        found, size = list[Waiting](), 0
        for seq, accepted_ms, key, value, headers in rows:
            found.append(Waiting(seq, accepted_ms, Outgoing(topic, key, value, _unpacked(headers), 0)))
            size += len(value)
            if size > READ_BYTES:
                rows.close()
                break
        return found

    def ids(self, topic: str, after: int, limit: int) -> list[tuple[int, str]]:
        """(seq, event id) of a topic after seq `after`, in order."""
        sql = "SELECT seq, event_id FROM events WHERE topic = ? AND seq > ? ORDER BY seq LIMIT ?"
        return self._read.execute(sql, (topic, after, limit)).fetchall()

    def value(self, seq: int) -> bytes:
        """The message of an event."""
        row = self._read.execute("SELECT value FROM events WHERE seq = ?", (seq,)).fetchone()
        return bytes(row[0])

    def last(self, topic: str) -> int:
        """Last seq of a topic; 0: it has none."""
        row = self._read.execute("SELECT max(seq) FROM events WHERE topic = ?", (topic,)).fetchone()
        return int(row[0] or 0)

    def count(self, topic: str, after: int = 0) -> int:
        """Events of a topic after a seq."""
        sql = "SELECT count(*) FROM events WHERE topic = ? AND seq > ?"
        return int(self._read.execute(sql, (topic, after)).fetchone()[0])

    def version(self) -> int:
        """Another number whenever the file was changed."""
        return int(self._read.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Let go of the file."""
        self._read.close()
        self._write.close()


def _find(db: sqlite3.Connection, event_ids: Sequence[str]) -> dict[str, Held]:
    if len(event_ids) == 1:
        rows = db.execute("SELECT event_id, seq, digest FROM events WHERE event_id = ?", tuple(event_ids))
    else:
        wanted = orjson.dumps(event_ids).decode()
        rows = db.execute(
            "SELECT event_id, seq, digest FROM json_each(?) AS asked CROSS JOIN events ON event_id = asked.value",
            (wanted,),
        )
    return {event_id: Held(seq, digest) for event_id, seq, digest in rows}


def _packed(headers: Headers) -> bytes:
    """Names and values in turn. Raises ValueError for a NUL in one of them."""
    parts: list[bytes] = []
    for name, value in headers:
        parts += name.encode(), value
    data = b"\0".join(parts)
    if headers and data.count(b"\0") != 2 * len(headers) - 1:
        raise ValueError("a header holds a NUL")
    return data


def _unpacked(data: bytes) -> Headers:
    parts = data.split(b"\0") if data else []
    return tuple(zip(_names(tuple(parts[::2])), parts[1::2], strict=True))


@lru_cache(64)
def _names(names: tuple[bytes, ...]) -> tuple[str, ...]:
    return tuple(map(bytes.decode, names))


class GroupCommit:
    """Collects what is to be written while a transaction is under way into the next one, in a thread."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._thread = ThreadPoolExecutor(1, "journal")
        self._waiting: list[tuple[Sequence[Entry], asyncio.Future[list[Held]]]] = []
        self._marks: dict[str, tuple[str, int]] = {}
        self._running: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def append(self, entries: Sequence[Entry]) -> asyncio.Future[list[Held]]:
        """Accept entries; the future is done when they are durable. It raises JournalError."""
        future: asyncio.Future[list[Held]] = asyncio.get_running_loop().create_future()
        self._waiting.append((entries, future))
        self._kick()
        return future

    def mark(self, topic: str, epoch: str, seq: int) -> None:
        """Note how far a topic is published: with the next rows, or soon."""
        self._marks[topic] = (epoch, seq)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(MARK_EVERY_S, self._kick)

    async def flush(self) -> None:
        """Write what waits."""
        while self._running is not None or self._waiting or self._marks:
            self._kick()
            assert self._running is not None
            await asyncio.wait([self._running])

    async def close(self) -> None:
        """Write what waits, and end."""
        await self.flush()
        if self._timer is not None:
            self._timer.cancel()
        self._thread.shutdown()

    def _kick(self) -> None:
        if self._running is None and (self._waiting or self._marks):
            self._running = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting or self._marks:
            parts, self._waiting = self._waiting, []
            marks, self._marks = [(topic, *mark) for topic, mark in self._marks.items()], {}
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            entries = [entry for part, _ in parts for entry in part]
            try:
                held = iter(await loop.run_in_executor(self._thread, self._journal.append, entries, marks))
                for part, future in parts:
                    _answer(future, list(islice(held, len(part))))
            except Exception as error:
                for _, future in parts:
                    _fail(future, error)
            if not self._waiting:
                break  # marks alone wait for their timer
        self._running = None
        if self._waiting:
            self._kick()


def _answer(future: asyncio.Future[list[Held]], held: list[Held]) -> None:
    if not future.done():
        future.set_result(held)


def _fail(future: asyncio.Future[list[Held]], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # seen, also where nobody waits any more


class PublishingLock:
    """Whoever holds it publishes what stands in a journal; the kernel takes it from the dead."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / "publishing.lock").open("ab")
        self.held = False

    def take(self) -> bool:
        """Whether it is ours now."""
        if not self.held:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self.held = True
            except OSError:
                return False
        return True

    def close(self) -> None:
        """Leave it to others."""
        self._file.close()
        self.held = False
