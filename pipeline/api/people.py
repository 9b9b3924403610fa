"""Personal data: the one place that holds any, and that can forget it.

No topic that is kept for ever has personal data: events know a person by a reference. What is known of a person is one
document in people.data.v1 (compacted, key = person), and here in a file of its own (SQLite with secure_delete and no
write-ahead log, so that nothing stays in the file's free pages): never in the intake's journal, never in a log.
Erasing deletes here first, then tells the tombstone; until Kafka has acknowledged it the person's reference, and
nothing else, is remembered, so that an erasure outlives a broker that is away. A broker that forgets is told everything
anew at start.

Kafka compacts closed segments alone, and closes one only when something is appended to it: in a quiet partition what
was erased would stay for ever. So until the topic's `max.compaction.lag.ms` has passed since the last change, an empty
tombstone goes to every partition every hour: what was erased or replaced is gone two hours after that time at most.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from pipeline.api.app import JSON, content_type, json_response, read_body
from pipeline.api.client import READ, ROOT, SERVICE, WRITE, ApiError, Client, required
from pipeline.domain.tokens.operational_terms import is_reference
from schemas.codec import Codec
from schemas.loader import by_topic
from topics.broker import BrokerError
from topics.envelope import Outgoing, outgoing

TOPIC: Final = "people.data.v1"
LOCK_AGAIN_S: Final = 0.005
EVERY_S: Final = 30.0
CLOSE_EVERY_MS: Final = 3_600_000
NOBODY: Final = b"-"
"""Key of the tombstones that close segments; no person's."""
DATA_MAX: Final = 256 << 10
PERSON: Final = re.compile(r"[A-Za-z0-9]{16,64}")
KIND: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_TABLES: Final = """
CREATE TABLE IF NOT EXISTS people (
  person TEXT PRIMARY KEY, kind TEXT NOT NULL, at_ms INTEGER NOT NULL, data TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS untold (person TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS told_to (one INTEGER PRIMARY KEY CHECK (one = 1), epoch TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS closing (
  one INTEGER PRIMARY KEY CHECK (one = 1), changed_ms INTEGER NOT NULL, closed_ms INTEGER NOT NULL);
"""
_UNTOLD: Final = "INSERT OR REPLACE INTO untold VALUES (?)"
_CHANGED: Final = """
INSERT INTO closing VALUES (1, ?, 0) ON CONFLICT DO UPDATE
SET changed_ms = excluded.changed_ms, closed_ms = min(closed_ms, excluded.changed_ms)
"""  # a clock may have gone back
Publish = Callable[[Sequence[Outgoing]], Awaitable[object]]
"""Until every message is acknowledged. Raises BrokerError."""

log = logging.getLogger(__name__)


class Person(NamedTuple):
    """What is known of a person."""

    person: str
    kind: str
    at_ms: int
    data: str  # a JSON object


class PeopleStore:
    """The file. Used by one thread."""

    def __init__(self, path: Path) -> None:
        """Opens or makes it, readable by its owner only. Raises sqlite3.Error, OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        self._db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = DELETE")
        self._db.execute("PRAGMA secure_delete = ON")
        self._db.execute("PRAGMA synchronous = EXTRA")
        self._db.executescript(_TABLES)
        self._file = path.with_suffix(".lock").open("ab")

    def lock(self) -> bool:
        """Whether nobody else, of any process, tells changes now; `unlock` ends it."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def unlock(self) -> None:
        """Others may."""
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def put(self, person: Person) -> None:
        """Replace what is known; to be told."""
        self._write(
            ("INSERT OR REPLACE INTO people VALUES (?, ?, ?, ?)", person), (_UNTOLD, (person.person,))
        )

    def erase(self, person: str) -> None:
        """Nothing is known any more; to be told."""
        self._write(("DELETE FROM people WHERE person = ?", (person,)), (_UNTOLD, (person,)))

    def _write(self, *statements: tuple[str, Sequence[Any]]) -> None:
        """All of them, or none."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for sql, values in statements:
                self._db.execute(sql, values)
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def get(self, person: str) -> Person | None:
        """What is known, None for nothing."""
        row = self._db.execute("SELECT * FROM people WHERE person = ?", (person,)).fetchone()
        return None if row is None else Person(*row)

    def told(self, person: str, now_ms: int) -> None:
        """Kafka has it; what it had before is to be closed away."""
        self._write(("DELETE FROM untold WHERE person = ?", (person,)), (_CHANGED, (now_ms,)))

    def to_close(self, now_ms: int, lag_ms: int) -> bool:
        """Whether segments are to be closed now: once in CLOSE_EVERY_MS until `lag_ms` after the last change."""
        row = self._db.execute("SELECT changed_ms, closed_ms FROM closing").fetchone()
        return row is not None and row[1] <= row[0] + lag_ms and now_ms >= row[1] + CLOSE_EVERY_MS

    def closed(self, now_ms: int) -> None:
        """That was done."""
        self._db.execute("UPDATE closing SET closed_ms = ?", (now_ms,))

    def untold(self) -> list[str]:
        """Persons whose last change Kafka may not have."""
        return [row[0] for row in self._db.execute("SELECT person FROM untold ORDER BY person")]

    def all_untold(self, epoch: str) -> None:
        """Everything is to be told, unless this incarnation of the topic is the one that was told."""
        if self._db.execute("SELECT epoch FROM told_to").fetchone() != (epoch,):
            self._write(
                ("INSERT OR IGNORE INTO untold SELECT person FROM people", ()),
                ("INSERT OR REPLACE INTO told_to VALUES (1, ?)", (epoch,)),
            )

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()
        self._file.close()


class People:
    """Keeps and tells. Changes of one person are told in the order in which they were made."""

    def __init__(self, store: PeopleStore, codec: Codec, publish: Publish) -> None:
        self._store, self._codec, self._publish = store, codec, publish
        self._lock = asyncio.Lock()
        declared = by_topic()[TOPIC].topic
        self._lag_ms, self._partitions = declared["max_compaction_lag_ms"], declared["partitions"]

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        async with self._lock:
            while not self._store.lock():  # noqa: ASYNC110 (another process holds it)
                await asyncio.sleep(LOCK_AGAIN_S)
            try:
                yield
            finally:
                self._store.unlock()

    async def begin(self, epoch: str) -> None:
        """Tell what this incarnation of the topic has not been told. Raises BrokerError."""
        async with self._alone():
            self._store.all_untold(epoch)
            for person in self._store.untold():
                await self._tell(person)

    async def run(self) -> None:
        """For ever: what could not be told is told, what is no more known is closed away."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.tick(_now_ms())
            except Exception as error:  # an erasure must not be forgotten, whatever it is
                log.warning("personal data: %s: %s; it is tried again", type(error).__name__, error)

    async def tick(self, now_ms: int) -> None:
        """What `run` does each time. Raises BrokerError, sqlite3.Error."""
        async with self._alone():
            for person in self._store.untold():
                await self._tell(person)
            if self._store.to_close(now_ms, self._lag_ms):
                await self._publish(
                    [Outgoing(TOPIC, NOBODY, None, (), part) for part in range(self._partitions)]
                )
                self._store.closed(now_ms)

    def get(self, person: str) -> Person | None:
        """What is known, None for nothing."""
        return self._store.get(person)

    async def put(self, person: Person) -> None:
        """Replace what is known of a person. Raises BrokerError: kept, and told later."""
        async with self._alone():
            self._store.put(person)
            await self._tell(person.person)

    async def erase(self, person: str) -> None:
        """Forget a person. Raises BrokerError: forgotten here, the tombstone is told later."""
        async with self._alone():
            self._store.erase(person)
            await self._tell(person)

    async def _tell(self, person: str) -> None:
        await self._publish([self._message(person)])
        self._store.told(person, _now_ms())

    def _message(self, person: str) -> Outgoing:
        known = self._store.get(person)
        if known is None:
            return Outgoing(TOPIC, person.encode(), None, ())
        record = {"person": person, "kind": known.kind, "at": known.at_ms, "data": known.data}
        return outgoing(self._codec, TOPIC, person, record)


def people_router(people: People) -> APIRouter:
    """PUT, GET, DELETE /v1/people/{person}."""
    router = APIRouter()

    async def get(request: Request) -> Response:
        known = people.get(_person(request, READ))
        if known is None:
            raise ApiError(404, "unknown_person", "nothing is known of this person", "person")
        return json_response(200, _shown(known))

    async def put(request: Request) -> Response:
        person = _person(request, WRITE)
        content_type(request, JSON)
        known = read_person(person, await read_body(request), _now_ms())
        await _told(people.put(known))
        return json_response(200, _shown(known))

    async def delete(request: Request) -> Response:
        await _told(people.erase(_person(request, WRITE)))
        return Response(status_code=204)

    for method, handler in (("GET", get), ("PUT", put), ("DELETE", delete)):
        router.add_api_route("/v1/people/{person}", handler, methods=[method], include_in_schema=False)
    return router


async def _told(work: Awaitable[None]) -> None:
    try:
        await work
    except BrokerError:
        raise ApiError(
            503,
            "broker_away",
            "done here; the topic is told when the broker is back: ask again",
            Retry_After="5",
        ) from None


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _person(request: Request, what: str) -> str:
    """The person that is asked about. A user's key is for its own person only."""
    client = required(request, f"people:{what}")
    person = str(request.path_params["person"])
    if not (PERSON.fullmatch(person) or is_reference(person)):
        raise ApiError(
            422, "invalid", "16 to 64 letters and digits, or a reference as events have it", "person"
        )
    if not _for_all(client) and client.user_id and client.user_id != person:
        raise ApiError(403, "forbidden", "a user's key is for that user's own data", "person")
    return person


def _for_all(client: Client) -> bool:
    return bool(client.scopes & {SERVICE, ROOT})


def read_person(person: str, body: bytes, now_ms: int) -> Person:
    """The document of a PUT: {"kind", "data": {…}}. Raises ApiError naming the field; it quotes no value."""
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ApiError(400, "not_json", "the body is not JSON") from None
    if not isinstance(given, dict):
        raise ApiError(422, "invalid", "the body is a JSON object")
    for name in given:
        if name not in ("kind", "data"):
            raise ApiError(422, "unknown_field", "there are kind and data", name[:100])
    kind, data = given.get("kind"), given.get("data")
    if not isinstance(kind, str) or not KIND.fullmatch(kind):
        raise ApiError(422, "invalid", "lower-case letters, digits and _, at most 64, a letter first", "kind")
    if not isinstance(data, dict):
        raise ApiError(422, "invalid", "a JSON object", "data")
    text = orjson.dumps(data).decode()
    if len(text.encode()) > DATA_MAX:
        raise ApiError(413, "too_large", f"at most {DATA_MAX} bytes", "data")
    return Person(person, kind, now_ms, text)


def _shown(known: Person) -> dict[str, Any]:
    return {
        "person": known.person, "kind": known.kind, "at_ms": known.at_ms, "data": orjson.loads(known.data),
    }  # fmt: skip
