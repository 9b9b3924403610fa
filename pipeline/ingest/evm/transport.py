"""web3's providers, fit for neighbours that misbehave: one over HTTP, one over a WebSocket.

What web3's own lack here: a bound on the size of an answer, answers matched to requests by their id (over HTTP), what
an HTTP status and its Retry-After say, kept connections; and its WebSocket spins while it waits, ends for good at
the first message that is no JSON, and has room for one batch at a time. Both read JSON as it is, into dicts.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import aiohttp
import orjson
from web3 import AsyncHTTPProvider, WebSocketProvider
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import WebSocketException

from pipeline.ingest.evm.errors import (
    Busy,
    Disconnected,
    Refused,
    TooLarge,
    Unreachable,
    Wrong,
    error_of,
    plain,
    seconds_of,
    secrets_of,
    trouble,
)

Json = dict[str, Any]
Call = tuple[str, Sequence[Any]]
ANSWER_BYTES_MAX: Final = (
    128 << 20
)  # a liar must not fill our memory; a block's receipts have up to some 10 MB
CONNECTIONS: Final = 32  # to one node


class Http(AsyncHTTPProvider):
    """One request or batch is one POST. Raises NodeError; `error` objects are given as they are."""

    def __init__(self, url: str, name: str, timeout_s: float) -> None:
        super().__init__(url, exception_retry_configuration=None)
        self._name, self._timeout = name, aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._secrets = secrets_of(url)

    async def make_request(self, method: Any, params: Any) -> Any:
        request = self.form_request(method, params)
        answer = self._read(method, await self._make_request(method, orjson.dumps(request)))
        if not isinstance(answer, dict):
            raise Unreachable(f"{self._name}: {method} is answered with {type(answer).__name__}")
        if answer.get("id") != request["id"] and not (answer.get("id") is None and "error" in answer):
            raise Unreachable(f"{self._name}: the answer to {method} is of another request")
        return answer

    async def make_batch_request(self, batch_requests: Sequence[Call]) -> Any:
        """The answers in order, None where there is none; a dict where the batch as such is refused."""
        asked = [self.form_request(method, list(params)) for method, params in batch_requests]  # type: ignore[arg-type]
        answers = self._read("a batch", await self._make_request("batch", orjson.dumps(asked)))
        if not isinstance(answers, list):
            return answers
        known: dict[Any, Json] = {}
        for one in answers:
            number: Any = one.get("id") if isinstance(one, dict) else []
            if not isinstance(number, (int, str, type(None))):
                raise Wrong("malformed", f"{self._name}: in the answer to a batch is what answers nothing")
            if type(number) is int:
                known[number] = one
        return [known.get(request["id"]) for request in asked]

    async def _make_request(self, method: Any, request_data: bytes) -> bytes:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=CONNECTIONS, enable_cleanup_closed=True)
            self._session = aiohttp.ClientSession(connector=connector, timeout=self._timeout)
        try:
            headers = {"Content-Type": "application/json"}
            async with self._session.post(
                str(self.endpoint_uri), data=request_data, headers=headers, allow_redirects=False
            ) as answer:
                body = await self._body(method, answer)
                self._judge_status(method, answer, body)
                return body
        except TimeoutError:
            raise Unreachable(f"{self._name}: no answer to {method} in time") from None
        except (aiohttp.ClientError, OSError, RuntimeError, ValueError) as error:
            raise Disconnected(f"{self._name}: {method}: {trouble(error)}") from None

    async def _body(self, method: Any, answer: aiohttp.ClientResponse) -> bytes:
        parts, size = [], 0
        async for part in answer.content.iter_any():
            parts.append(part)
            size += len(part)
            if size > ANSWER_BYTES_MAX:
                raise TooLarge(f"{self._name}: the answer to {method} has over {ANSWER_BYTES_MAX >> 20} MB")
        return b"".join(parts)

    def _judge_status(self, method: Any, answer: aiohttp.ClientResponse, body: bytes) -> None:
        status, after = answer.status, seconds_of(answer.headers.get("Retry-After"))
        if status < 300:
            return
        said = f"{self._name}: {method}: HTTP {status}"
        if status < 400:
            raise Unreachable(f"{said}: it sends us elsewhere: write the URL that it names")
        if status == 429 or (status == 503 and after is not None):
            raise Busy(said, after)
        if status == 413:
            raise TooLarge(said)
        with contextlib.suppress(orjson.JSONDecodeError):
            told = orjson.loads(body)
            if isinstance(told, dict) and isinstance(told.get("error"), Mapping):
                raise error_of(self._name, str(method), told["error"], self._secrets)
        raise Unreachable(said + (": check the URL and its key" if status in (401, 403, 404) else ""))

    def _read(self, method: str, body: bytes) -> Any:
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            said = plain(body[:4000].decode(errors="replace"), self._secrets, 40)
            raise Unreachable(f"{self._name}: the answer to {method} is no JSON: {said}") from None

    async def disconnect(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


class Socket(WebSocketProvider):
    """One WebSocket; never connects again by itself. `hear` is called with the result of each notification."""

    def __init__(self, url: str, name: str, timeout_s: float, hear: Callable[[Any], None]) -> None:
        options = {
            "max_size": ANSWER_BYTES_MAX,
            "open_timeout": timeout_s,
            "max_queue": 256,
            "ping_timeout": 30,
        }
        super().__init__(
            url, options, use_text_frames=True, request_timeout=timeout_s, max_connection_retries=1
        )
        self._name, self._hear = name, hear
        self._waiting: dict[Any, asyncio.Future[Json]] = {}
        self.ended = asyncio.Event()

    def get_endpoint_uri_or_ipc_path(self) -> str:
        """What web3 logs: the URL may hold a key."""
        return self._name

    def _connected(self) -> ClientConnection:
        if self._ws is None:
            raise Disconnected(f"{self._name}: not connected")
        return self._ws

    async def send_request(self, method: Any, params: Any) -> Any:
        request = self.form_request(method, params)
        connection = self._connected()
        self._waiting[request["id"]] = asyncio.get_running_loop().create_future()
        try:
            await connection.send(orjson.dumps(request).decode())
        except (WebSocketException, OSError) as error:
            self._waiting.pop(request["id"], None)
            raise Disconnected(f"{self._name}: {method}: {type(error).__name__}") from None
        except BaseException:
            self._waiting.pop(request["id"], None)
            raise
        return request

    async def _get_response_for_request_id(self, request_id: Any, timeout: float | None = None) -> Any:  # noqa: ASYNC109
        try:
            return await self._waiting[request_id]
        finally:
            self._waiting.pop(request_id, None)

    async def make_batch_request(self, requests: Sequence[Call]) -> Any:
        """On one connection many requests under way at once are as quick as a batch, and none knows a limit."""
        raise Refused(f"{self._name}: no batches over a WebSocket")

    async def _message_listener(self) -> None:
        try:
            with contextlib.suppress(WebSocketException, OSError, orjson.JSONDecodeError):
                async for frame in self._connected():  # what is no JSON may answer anything: the end
                    self._dispatch(orjson.loads(frame))
        finally:
            self.ended.set()
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_exception(Disconnected(f"{self._name}: the connection ended"))
                    waiting.exception()  # who gave up waiting does not hear of it

    def _dispatch(self, message: Any) -> None:
        if not isinstance(message, dict):
            return
        if message.get("method") == "eth_subscription":
            params = message.get("params")
            self._hear(params.get("result") if isinstance(params, Mapping) else None)
            return
        number = message.get("id")
        waiting = self._waiting.get(number) if isinstance(number, int) else None
        if waiting is not None and not waiting.done():
            waiting.set_result(message)
