"""ClickHouse as the read API asks it: over HTTP, kept-alive, with bound parameters, rows as they are in JSON.

Where it is: the setting, else what `tidebook up` says in its data directory. Questions that ask the same of different
keys within a few milliseconds go as one (`Gather`): one query for many keys costs little more than for one.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, Generic, TypeVar
from urllib.parse import unquote, urlsplit

import aiohttp
import orjson
from clickhouse_connect.driver.binding import format_bind_value

from pipeline.api.client import ApiError
from pipeline.running import running

LOOK_AGAIN_S: Final = 1.0
TIMEOUT_S: Final = 10.0
CONNECT_S: Final = 2.0
CONNECTIONS_MAX: Final = 32
TOO_BUSY: Final = frozenset({159, 202, 241, 394})  # ClickHouse's codes: timeout, queries, memory, cancelled
NO_TABLE: Final = frozenset({60, 81})
# Rows that are told twice differ in nothing that is read here; numbers and times come as the API tells them.
SETTINGS: Final[Mapping[str, str]] = {
    "final": "0",
    "max_threads": "1",
    "output_format_json_quote_64bit_integers": "0",
    "output_format_json_quote_decimals": "1",
    "output_format_json_map_as_array_of_tuples": "0",
    "date_time_output_format": "iso",
    "max_execution_time": "8",
    "local_filesystem_read_method": "pread",  # a few rows: handing them between threads costs more than reading them
}
DOWNLOAD: Final[Mapping[str, str]] = {
    "max_execution_time": "120",
    "output_format_json_escape_forward_slashes": "0",
    "format_csv_null_representation": "",
}
"""Settings of what comes as a file, beside SETTINGS."""
DOWNLOAD_TIMEOUT: Final = aiohttp.ClientTimeout(total=600, sock_connect=CONNECT_S, sock_read=60)
CUT: Final = b"__exception__\r\n"  # how a result ends that ClickHouse could not end
WHERE: Final = "set TIDEBOOK_CLICKHOUSE_URL, or run `tidebook up` on this data directory"


class ClickHouse:
    """Where history is asked. One event loop uses it."""

    def __init__(self, url: str = "", data_dir: Path | None = None) -> None:
        self._fixed, self._data_dir = url, data_dir
        self._found, self._looked = "", 0.0
        self._session: aiohttp.ClientSession | None = None

    async def rows(self, sql: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Rows of a query; {name:Type} in it are the parameters. Raises ApiError 503 where there is no answer."""
        base, query, headers = self._place()
        query.update({f"param_{name}": str(format_bind_value(value)) for name, value in parameters.items()})
        text = f"{sql}\nFORMAT JSONEachRow".encode()
        again = True
        while True:
            try:
                async with self._open().post(base, params=query, data=text, headers=headers) as answer:
                    body = await answer.read()
                break
            except aiohttp.ServerDisconnectedError:  # it closed a kept-alive connection as we took it
                if not again:
                    raise _unavailable(base) from None
                again = False
            except (aiohttp.ClientError, TimeoutError, OSError):
                self._looked = 0.0
                raise _unavailable(base) from None
        if answer.status != 200:
            raise _refused(answer.headers.get("X-ClickHouse-Exception-Code", ""), body)
        return [orjson.loads(line) for line in body.splitlines()]

    async def columns(self, sql: str, parameters: Mapping[str, Any]) -> dict[str, str]:
        """Column → type of a SELECT. Raises ApiError 503."""
        empty = self.stream(f"SELECT * FROM (\n{sql}\n) LIMIT 0", parameters, "JSON")
        meta = orjson.loads(b"".join([part async for part in empty]))["meta"]
        return {column["name"]: column["type"] for column in meta}

    async def stream(
        self, sql: str, parameters: Mapping[str, Any], fmt: str, final: bool = True
    ) -> AsyncIterator[bytes]:
        """The bytes of a SELECT in a format of ClickHouse's, as they come; `final`: of tables as with FINAL.

        Raises ApiError 503 before the first; later RuntimeError or aiohttp's errors: then there was more.
        """
        base, query, headers = self._place()
        query |= {
            **DOWNLOAD,
            "final": str(int(final)),
            **{f"param_{name}": str(format_bind_value(value)) for name, value in parameters.items()},
        }
        last = b""
        try:
            async with self._open().post(
                base,
                params=query,
                data=f"{sql}\nFORMAT {fmt}".encode(),
                headers=headers,
                timeout=DOWNLOAD_TIMEOUT,
            ) as answer:
                if answer.status != 200:
                    code = answer.headers.get("X-ClickHouse-Exception-Code", "")
                    raise _refused(code, await answer.read())
                async for part in answer.content.iter_any():
                    last = (last + part)[-len(CUT) :]
                    yield part
        except (aiohttp.ClientError, TimeoutError, OSError):
            self._looked = 0.0
            if last:
                raise
            raise _unavailable(base) from None
        if last == CUT:
            raise RuntimeError("ClickHouse ended a result before its end")

    async def close(self) -> None:
        """Let go of the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_S, sock_connect=CONNECT_S)
            connector = aiohttp.TCPConnector(limit=CONNECTIONS_MAX, keepalive_timeout=30)
            self._session = aiohttp.ClientSession(timeout=timeout, connector=connector)
        return self._session

    def _place(self) -> tuple[str, dict[str, str], dict[str, str]]:
        """(address, its arguments, headers)."""
        url = urlsplit(self._fixed or self._told())
        if not url.hostname:
            raise ApiError(
                503, "no_history", f"there is no ClickHouse to read from: {WHERE}", Retry_After="5"
            )
        port = url.port or (8443 if url.scheme == "https" else 8123)
        host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
        query = dict(SETTINGS)
        if url.path.strip("/"):
            query["database"] = url.path.strip("/")
        headers = {}
        if url.username:
            headers = {
                "X-ClickHouse-User": unquote(url.username),
                "X-ClickHouse-Key": unquote(url.password or ""),
            }
        return f"{url.scheme or 'http'}://{host}:{port}/", query, headers

    def _told(self) -> str:
        """What `tidebook up` says, looked up again after a while and after a failure."""
        now = time.monotonic()
        if self._data_dir is not None and now - self._looked >= LOOK_AGAIN_S:
            self._looked = now
            self._found = str((running(self._data_dir) or {}).get("clickhouse_url") or "")
        return self._found


def _unavailable(base: str) -> ApiError:
    return ApiError(
        503, "history_unavailable", f"ClickHouse at {base} does not answer; try again", Retry_After="1"
    )


def _refused(code: str, body: bytes) -> Exception:
    told = " ".join(body[:500].decode(errors="replace").split())
    number = int(code) if code.isdigit() else 0
    if number in TOO_BUSY:
        return ApiError(503, "history_busy", "ClickHouse has too much to do; try again", Retry_After="1")
    if number in NO_TABLE:
        return ApiError(
            503, "history_unready", "ClickHouse lacks a table of this release: start the history role", Retry_After="5"
        )  # fmt: skip
    return RuntimeError(f"ClickHouse refuses a query of ours: {told}")


T = TypeVar("T")


class Gather(Generic[T]):
    """Looks keys up: those asked for within `wait_s` of each other as one question, of at most `most` keys.

    Waiting pays where others come: with fewer than two to be expected meanwhile it asks at once. At most `parallel`
    questions are under way; what comes meanwhile waits for the next, so that under load questions get larger, not more.
    """

    def __init__(
        self, ask: Callable[[Sequence[str]], Awaitable[Mapping[str, T]]], wait_s: float = 0.04, most: int = 100,
        parallel: int = 2,
    ) -> None:  # fmt: skip
        self._ask, self._wait_s, self._most, self._parallel = ask, wait_s, most, parallel
        self._waiting: dict[str, asyncio.Future[T | None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._asking: set[asyncio.Task[None]] = set()
        self._came: deque[float] = deque(maxlen=8)  # when the last keys were asked for

    async def get(self, key: str) -> T | None:
        """What the key has, None for nothing. Raises what the question raised."""
        future = self._waiting.get(key)
        if future is None:
            loop = asyncio.get_running_loop()
            future = self._waiting[key] = loop.create_future()
            self._came.append(loop.time())
            if self._timer is None:
                self._timer = loop.call_later(self._pause(), self._go)
        return await asyncio.shield(future)

    def _pause(self) -> float:
        spent = self._came[-1] - self._came[0]
        expected = self._wait_s * (len(self._came) - 1) / spent if spent > 0 else len(self._came) - 1.0
        return self._wait_s if expected >= 2 else 0.0

    def _go(self) -> None:
        """Ask for what waits, unless enough is asked already: then its end comes back here."""
        self._timer = None
        while self._waiting and len(self._asking) < self._parallel:
            some = dict(islice(self._waiting.items(), self._most))
            for key in some:
                del self._waiting[key]
            task = asyncio.ensure_future(self._answer(some))
            self._asking.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        if self._waiting and self._timer is None:
            self._go()

    async def _answer(self, waiting: Mapping[str, asyncio.Future[T | None]]) -> None:
        try:
            found = await self._ask(list(waiting))
        except Exception as failure:
            for future in waiting.values():
                if not future.done():
                    future.set_exception(failure)
                    future.exception()  # whoever asked may have gone
            return
        for key, future in waiting.items():
            if not future.done():
                future.set_result(found.get(key))
