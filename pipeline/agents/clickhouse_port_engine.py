"""chDB as the port asks it: sessions on a few handles of the engine, queries that can be ended, faults with codes.

A handle takes one query at a time and keeps its session's settings; so handles are kept by the settings that they were
opened with. A query is found by a mark that its session bears, and ended by KILL QUERY when its reader goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple
from uuid import uuid4

from pipeline.agents.clickhouse_port_query import (
    ACCESS_DENIED,
    BAD_ARGUMENTS,
    TOO_LARGE,
    PortQuery,
    quoted,
    set_statement,
)

QUERIES_MAX: Final = 8  # at the same time
QUEUE_MAX: Final = 256  # waiting for one of those
QUEUE_WAIT_S: Final = 20.0
KINDS_MAX: Final = 16  # kinds of sessions that are kept open
END_WAIT_S: Final = 5.0  # for queries that were ended
MARK: Final = "clickhouse-port "
_TOO_MANY, _TIMEOUT, _UNKNOWN = 202, 159, 1002
_STATUS: Final = {
    ACCESS_DENIED: 403, 164: 403, 516: 401, TOO_LARGE: 413, _TOO_MANY: 503, _TIMEOUT: 408, 241: 500, 999: 500,
    BAD_ARGUMENTS: 400, 60: 404, 81: 404, 47: 404, 46: 404, 115: 404, 36: 400, 62: 400, 27: 400, 26: 400, 42: 400,
    43: 400, 53: 400, 57: 400, 70: 400, 72: 400, 6: 400, 386: 400, 456: 400, 457: 400,
}  # fmt: skip
_CODE: Final = re.compile(r"Code: (\d+)")
_NAMED: Final = re.compile(r"\(([A-Z_]+)\)\s*\Z")


class QueryFault(RuntimeError):
    """What the engine says of a query."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        code = _CODE.search(message)
        self.code = int(code[1]) if code else _UNKNOWN

    @property
    def status(self) -> int:
        """HTTP status that ClickHouse sends with it."""
        return _STATUS.get(self.code, 500)


def _connect(path: str) -> Any:
    import chdb

    return chdb.connect(path)  # type: ignore[no-untyped-call]


class Begun(NamedTuple):
    """A result that comes in blocks; without a second one it has ended."""

    blocks: Any
    first: bytes | None
    second: bytes | None


class Session:
    """A handle of the engine in a session's settings; one query at a time."""

    def __init__(self, path: str, database: str, statement: str) -> None:
        """Raises QueryFault for a setting that the engine does not take."""
        self.mark = f"{MARK}{uuid4().hex}"  # by which its query is found among those under way
        self.handle = _connect(path)
        try:
            if database:
                self.handle.query(f"USE {database}")
            self.handle.query(f"SET log_comment = {quoted(self.mark)}")
            self.handle.query(statement)
        except Exception as fault:
            self.handle.close()
            raise QueryFault(_message(fault)) from None

    def begin(self, query: PortQuery) -> Begun:
        """Start a query whose result comes in blocks, up to its second one. Raises QueryFault.

        One call, for each costs a change of threads: most results have one block and end here.
        """
        try:
            blocks = self.handle.send_query(query.sql, query.format, params=dict(query.parameters))
        except Exception as fault:
            raise QueryFault(_message(fault)) from None
        try:
            first = next_block(blocks)
            second = None if first is None else next_block(blocks)
        except QueryFault:
            blocks.close()
            raise
        if second is None:
            blocks.close()
        return Begun(blocks, first, second)

    def whole(self, query: PortQuery) -> bytes:
        """A query's whole result. Raises QueryFault."""
        try:
            return bytes(
                self.handle.query(query.sql, query.format, params=dict(query.parameters)).bytes() or b""
            )
        except Exception as fault:
            raise QueryFault(_message(fault)) from None


class Engine:
    """The chDB that this process has open: at most `queries` queries at a time."""

    def __init__(self, path: str, queries: int = QUERIES_MAX) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(queries, thread_name_prefix="clickhouse-port")
        self._killer = _connect(path)
        self._killing = threading.Lock()
        self._free = asyncio.Semaphore(queries)
        self._waiting = self._running = 0
        self._ended = False
        self._idle: dict[str, list[Session]] = {}  # by database and SET that made them

    @contextlib.asynccontextmanager
    async def session(self, query: PortQuery) -> AsyncIterator[Session]:
        """A session as the query wants it. Raises QueryFault where none gets free, or a setting is wrong."""
        await self._turn()
        self._running += 1
        try:
            statement = set_statement(query.settings, query.readonly)
            key = f"{query.database}\n{statement}"
            kept = self._idle.get(key)
            session = (
                kept.pop() if kept else await self.run(None, Session, self._path, query.database, statement)
            )
            fit = False
            try:
                yield session
                fit = ";" not in query.sql  # one statement leaves the session as it was
            finally:
                if not (fit and self._keep(key, session)):
                    await self.run(None, session.handle.close)
        finally:
            self._running -= 1
            self._free.release()

    async def _turn(self) -> None:
        if self._ended:
            raise QueryFault(_busy("The history role ends"))
        if self._waiting >= QUEUE_MAX:
            raise QueryFault(_busy("Too many queries wait"))
        self._waiting += 1
        try:
            async with asyncio.timeout(QUEUE_WAIT_S):
                await self._free.acquire()
        except TimeoutError:
            raise QueryFault(_busy(f"No query ended within {QUEUE_WAIT_S:g} s")) from None
        finally:
            self._waiting -= 1

    def _keep(self, key: str, session: Session) -> bool:
        """Keep a session for the next query of its kind."""
        if key not in self._idle and len(self._idle) >= KINDS_MAX:
            return False
        self._idle.setdefault(key, []).append(session)
        return True

    async def run(self, session: Session | None, work: Callable[..., Any], *arguments: Any) -> Any:
        """In a thread of the engine's. If the reader goes, the session's query is ended, and waited for."""
        task = asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if session is not None:
                await asyncio.to_thread(self._kill, session.mark)
            with contextlib.suppress(QueryFault):
                await task
            raise

    def _kill(self, mark: str) -> None:
        statement = f"KILL QUERY WHERE startsWith(Settings['log_comment'], {quoted(mark)}) ASYNC"
        with self._killing, contextlib.suppress(Exception):
            self._killer.query(statement)

    async def end(self) -> None:
        """Take no more queries and end those that are under way."""
        self._ended = True
        end = time.monotonic() + END_WAIT_S
        while self._running and time.monotonic() < end:
            await asyncio.to_thread(self._kill, MARK)
            await asyncio.sleep(0.05)

    def close(self) -> None:
        """Wait for what is under way and close every handle."""
        self._threads.shutdown(wait=True)
        for session in [one for kept in self._idle.values() for one in kept]:
            session.handle.close()
        self._idle.clear()
        self._killer.close()


def _busy(why: str) -> str:
    return f"Code: {_TOO_MANY}. DB::Exception: {why}. (TOO_MANY_SIMULTANEOUS_QUERIES)"


def next_block(blocks: Any) -> bytes | None:
    """The next block of a result, None after the last. Raises QueryFault."""
    try:
        return bytes(next(blocks).bytes())
    except StopIteration:
        return None
    except Exception as fault:
        raise QueryFault(_message(fault)) from None


def _message(fault: Exception) -> str:
    text = str(fault)
    found = text.find("Code: ")
    text = text[found:] if found >= 0 else f"Code: {_UNKNOWN}. DB::Exception: {text}"
    return text if _NAMED.search(text) or "(" in text[-80:] else f"{text} (UNKNOWN_EXCEPTION)"
