"""States of one application topic, in a file of their own: the fold's memory.

States, what was decided of every event, and how far the topic is read change in one transaction, so a state can never
be ahead of the offset or behind it. A decision stands for ever by the event's id: told again, at another offset or on
a broker that has forgotten everything, an event gets the answer that it got, with the very same messages. Other
processes may read the file while its owner writes (SQLite, write-ahead log).
"""

from __future__ import annotations

import sqlite3
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import orjson

from sinks.books import BooksUnavailableError


class Message(Protocol):
    """A message to publish, as topics.envelope.Outgoing."""

    @property
    def topic(self) -> str: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes: ...
    @property
    def headers(self) -> tuple[tuple[str, bytes], ...]: ...


class StoreInUse(BooksUnavailableError):
    """Another process owns the file."""


class StoreUnusable(BooksUnavailableError):
    """The file can't be read or written; the message says why and what to do."""


class Kept(NamedTuple):
    """A message as it is kept: topic, key, value, headers."""

    topic: str
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class Decided(NamedTuple):
    """What is known of an event that was decided."""

    digest: bytes  # of the message that told it
    applied: bool
    told: list[Kept]  # what was published of it
    epoch: str = ""  # the topic's incarnation in which that was done last


class State(NamedTuple):
    """A state to be written; None as value: it is no more."""

    kind: str
    id: str
    version: int
    value: Mapping[str, Any] | None
    due_ms: int | None = None


class NewlyDecided(NamedTuple):
    """An event to be noted as decided."""

    event_id: str
    digest: bytes
    applied: bool
    told: Sequence[Message]


BUSY_S = 1.0  # a reader's patience: an event loop may be waiting
_TABLES = """
CREATE TABLE IF NOT EXISTS states (
  kind TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, value BLOB, due_ms INTEGER,
  PRIMARY KEY (kind, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS due ON states (due_ms) WHERE due_ms IS NOT NULL;
CREATE TABLE IF NOT EXISTS decided (
  event_id TEXT PRIMARY KEY, digest BLOB NOT NULL, applied INTEGER NOT NULL, told BLOB NOT NULL,
  life INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lives (life INTEGER PRIMARY KEY, epoch TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS progress (
  epoch TEXT NOT NULL, partition INTEGER NOT NULL, next_offset INTEGER NOT NULL,
  PRIMARY KEY (epoch, partition)) WITHOUT ROWID;
"""
_VERSIONED = "SELECT version, value FROM states WHERE kind = ? AND id = ?"
_DECIDED = """
SELECT event_id, digest, applied, told, epoch
FROM json_each(?) AS asked CROSS JOIN decided ON event_id = asked.value LEFT JOIN lives USING (life)
"""


class ApplicationReader:
    """Reads a store that another process may be writing. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        """Raises FileNotFoundError where there is no store yet, or only the beginning of one."""
        if not path.exists():
            raise FileNotFoundError(path)
        uri = f"{path.absolute().as_uri()}?mode=ro"
        self._db = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)
        try:
            made = self._db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'progress'").fetchone()[
                0
            ]
        except sqlite3.Error:
            self._db.close()
            raise
        if not made:  # the last of its tables: its owner is at it
            self._db.close()
            raise FileNotFoundError(path)

    def get(self, kind: str, id: str) -> dict[str, Any] | None:
        """A state, None if there is none."""
        row = self._db.execute("SELECT value FROM states WHERE kind = ? AND id = ?", (kind, id)).fetchone()
        return None if row is None or row[0] is None else orjson.loads(row[0])

    def decided(self, event_id: str) -> bool | None:
        """Whether an event was applied (True) or refused (False); None: not decided yet."""
        row = self._db.execute("SELECT applied FROM decided WHERE event_id = ?", (event_id,)).fetchone()
        return None if row is None else bool(row[0])

    def told(self, event_id: str) -> list[Kept]:
        """What was published of an event; nothing where it is not decided yet."""
        row = self._db.execute("SELECT told FROM decided WHERE event_id = ?", (event_id,)).fetchone()
        return [] if row is None else _unpacked(row[0])

    def due(self, until_ms: int, limit: int = 1000) -> list[tuple[str, str, dict[str, Any]]]:
        """(kind, id, state) of states whose `due` has come, the earliest first."""
        rows = self._db.execute(
            "SELECT kind, id, value FROM states WHERE due_ms <= ? ORDER BY due_ms LIMIT ?", (until_ms, limit)
        )
        return [(kind, id, orjson.loads(value)) for kind, id, value in rows]

    def all(self, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """(id, state) of every state of a kind, by id."""
        for id, value in self._db.execute("SELECT id, value FROM states WHERE kind = ? ORDER BY id", (kind,)):
            if value is not None:
                yield id, orjson.loads(value)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Within it everything is as of one moment, whatever the owner commits meanwhile."""
        self._db.execute("BEGIN")  # asks nothing of the file yet
        try:
            yield
        finally:
            if self._db.in_transaction:
                self._db.execute("COMMIT")

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()


class ApplicationStore:
    """The store's owner: one process. Used by one thread at a time."""

    def __init__(self, path: Path, synchronous: str = "FULL") -> None:
        """Open or make the file; `synchronous` as SQLite's pragma. Raises StoreInUse."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._lock = sqlite3.connect(
            path.with_suffix(".lock"), timeout=0, isolation_level=None, check_same_thread=False
        )
        try:
            self._lock.execute("BEGIN EXCLUSIVE")  # dropped by the kernel when its owner dies
        except sqlite3.Error as error:
            self._lock.close()
            if _code(error) == sqlite3.SQLITE_BUSY:
                raise StoreInUse(f"{path} is in use by another process") from error
            raise self._unusable(error) from error
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute(f"PRAGMA synchronous = {synchronous}")
            self._db.executescript(_TABLES)
        except sqlite3.Error as error:
            self.close()
            raise self._unusable(error) from error

    def _unusable(self, error: sqlite3.Error) -> StoreUnusable:
        """What a person is told, and what to do."""
        broken = _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        what = (
            "move it and what stands beside it away: the topic is folded anew"
            if broken
            else "nothing is lost"
        )
        return StoreUnusable(f"{self._path}: {error}; {what}")

    @contextmanager
    def _asked(self) -> Iterator[sqlite3.Connection]:
        try:
            yield self._db
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def get(self, kind: str, id: str) -> dict[str, Any] | None:
        """A state, None if there is none."""
        return self.versioned(kind, id)[1]

    def versioned(self, kind: str, id: str) -> tuple[int, dict[str, Any] | None]:
        """(version, state); version 0: there never was one."""
        try:
            row = self._db.execute(_VERSIONED, (kind, id)).fetchone()
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        if row is None:
            return 0, None
        return int(row[0]), None if row[1] is None else orjson.loads(row[1])

    def decided(self, event_ids: Iterable[str]) -> dict[str, Decided]:
        """What is known of those events that were decided."""
        with self._asked() as db:
            rows = db.execute(_DECIDED, (orjson.dumps(list(event_ids)).decode(),)).fetchall()
        return {row[0]: Decided(row[1], bool(row[2]), _unpacked(row[3]), row[4] or "") for row in rows}

    def next_offset(self, epoch: str, partition: int) -> int | None:
        """Where to read on in this incarnation of the topic; None: never read."""
        sql = "SELECT next_offset FROM progress WHERE epoch = ? AND partition = ?"
        with self._asked() as db:
            row = db.execute(sql, (epoch, partition)).fetchone()
        return None if row is None else int(row[0])

    def commit(
        self,
        states: Iterable[State],
        decided: Iterable[NewlyDecided],
        progress: Mapping[tuple[str, int], int],
        again: Iterable[str] = (),
    ) -> None:
        """Write all of it or nothing, durably; `progress` is (epoch, partition) → offset to read next, of one epoch.
        `again` are ids of events that were told again in it. Raises StoreUnusable."""
        values = [
            (*one[:3], None if one.value is None else orjson.dumps(one.value), one.due_ms) for one in states
        ]
        rows = [(one.event_id, one.digest, one.applied, _packed(one.told)) for one in decided]
        places = [(epoch, partition, offset) for (epoch, partition), offset in progress.items()]
        with self._asked() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                life = self._life(places[0][0]) if places else 0
                db.executemany("INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?, ?)", values)
                db.executemany(
                    "INSERT OR IGNORE INTO decided VALUES (?, ?, ?, ?, ?)", [(*row, life) for row in rows]
                )
                db.executemany("UPDATE decided SET life = ? WHERE event_id = ?", [(life, id) for id in again])
                db.executemany("INSERT OR REPLACE INTO progress VALUES (?, ?, ?)", places)
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:  # SQLite itself has taken back what a full disk would not hold
                    db.execute("ROLLBACK")
                raise

    def _life(self, epoch: str) -> int:
        """The small number of an epoch."""
        self._db.execute("INSERT OR IGNORE INTO lives (epoch) VALUES (?)", (epoch,))
        return int(self._db.execute("SELECT life FROM lives WHERE epoch = ?", (epoch,)).fetchone()[0])

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()
        self._lock.close()


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


_COUNT = struct.Struct(">I")


def _packed(told: Sequence[Message]) -> bytes:
    out = bytearray()
    for message in told:
        names = [part for name, value in message.headers for part in (name.encode(), value)]
        parts = [message.topic.encode(), message.key or b"", message.value, *names]
        out += _COUNT.pack(len(parts)) + bytes([message.key is not None])
        for part in parts:
            out += _COUNT.pack(len(part)) + part
    squeezed = zlib.compressobj(
        1, zlib.DEFLATED, 12, 5
    )  # a small window: to set up a large one costs more than all else
    return squeezed.compress(out) + squeezed.flush()


def _unpacked(data: bytes) -> list[Kept]:
    raw, at, found = zlib.decompress(data), 0, list[Kept]()
    while at < len(raw):
        (count,), keyed = _COUNT.unpack_from(raw, at), bool(raw[at + 4])
        at += 5
        parts = []
        for _ in range(count):
            (size,) = _COUNT.unpack_from(raw, at)
            parts.append(raw[at + 4 : at + 4 + size])
            at += 4 + size
        headers = tuple((parts[n].decode(), parts[n + 1]) for n in range(3, count, 2))
        found.append(Kept(parts[0].decode(), parts[1] if keyed else None, parts[2], headers))
    return found
