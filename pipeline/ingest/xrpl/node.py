"""One XRPL node over one WebSocket: connects again and again, asks, follows its streams, knows its health.

A node is a neighbour: it may be slow, silent, behind, not synced, or lie. What it answers is either the
result of a request or one of the NodeErrors below; who to ask instead is the pool's business. Behaviour
of real nodes: FIELD-NOTES.md, "Node behaviour".
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from aiolimiter import AsyncLimiter
from tenacity import AsyncRetrying, RetryCallState, retry_if_not_exception_type
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus, WebSocketException
from xrpl.asyncio.clients import AsyncWebsocketClient
from xrpl.constants import XRPLException
from xrpl.models.requests import GenericRequest
from xrpl.models.requests.request import Request

from pipeline.ingest.xrpl.address import SETTING, Address

API_VERSION: Final = 2
BACKOFF_S: Final = (0.25, 30.0)  # between attempts to connect: first, longest
FRAME_BYTES_MAX: Final = 256 << 20  # a liar must not fill our memory; the largest ledger seen has 3 MB
CLOSE_S: Final = 2.0
COOL_S: Final = (1.0, 60.0)  # a node that failed is not asked for so long: first, longest
DISTRUST_S: Final = (30.0, 3600.0)  # one that gave what can't be

_NOT_SYNCED: Final = frozenset({"notSynced", "noNetwork", "noCurrent", "noClosed", "amendmentBlocked"})
_REFUSED: Final = frozenset(
    {"unknownCmd", "invalidParams", "noPermission", "notSupported", "notImpl", "unknownOption"}
)
_BUSY: Final = frozenset({"slowDown", "tooBusy", "jsonTooBig"})


class NodeError(Exception):
    """A node did not give what was asked; `reason` in one word for counters."""

    reason = "error"


class NotFound(NodeError):
    """The node does not have it (lgrNotFound): later or elsewhere."""

    reason = "not_found"


class NotSynced(NodeError):
    """The node has no validated ledger at the moment; says nothing about the ledger."""

    reason = "not_synced"


class Refused(NodeError):
    """The node does not answer such a request: asking again changes nothing."""

    reason = "refused"


class Busy(NodeError):
    """The node asks us to be slower."""

    reason = "busy"


class Unreachable(NodeError):
    """No connection, or no answer in time."""

    reason = "unreachable"


class Disconnected(Unreachable):
    """The connection was not there, or ended before the answer."""


class Unusable(NodeError):
    """The node can never serve us: another network, no TLS, no WebSocket. Names the setting."""

    reason = "unusable"


class Connection(AsyncWebsocketClient):
    """xrpl-py's client, with larger frames, and with an end that can be seen.

    xrpl-py's own reader stops for good at an answer that comes twice, and a request on a closed
    connection waits out its timeout.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.ended = asyncio.Event()

    async def _do_open(self) -> None:
        self._websocket = await connect(self.url, max_size=FRAME_BYTES_MAX, open_timeout=10, max_queue=256)
        self._messages = asyncio.Queue()
        self._handler_task = asyncio.create_task(self._handler())

    async def _do_send_no_future(self, request: Request) -> None:
        """xrpl-py sends in a task of its own: that the connection is gone must be seen here."""
        try:
            await super()._do_send_no_future(request)
        except WebSocketException:
            self.ended.set()

    async def _handler(self) -> None:
        try:
            with contextlib.suppress(WebSocketException):
                async for frame in self._websocket:
                    with contextlib.suppress(orjson.JSONDecodeError):
                        self._dispatch(orjson.loads(frame))
        finally:
            self.ended.set()

    def _dispatch(self, message: Any) -> None:
        if not isinstance(message, dict):
            return
        waiting = self._open_requests.get(message.get("id", ""))
        if waiting is None:
            if message.get("type") != "response":  # a late answer to a request given up is nobody's
                self._messages.put_nowait(message)
        elif not waiting.done():
            waiting.set_result(message)


@dataclass
class NodeState:
    """What is known of a node, for the pool, the status and the metrics."""

    connected: bool = False
    synced: bool = False
    validated: int = -1  # newest validated ledger that it told
    news_at: float = 0.0  # monotonic time of the last news
    hashes: dict[int, str] = field(default_factory=dict)  # newest ledgers that it announced
    held: list[tuple[int, int]] = field(default_factory=list)  # complete_ledgers
    failures: int = 0  # in a row
    distrusted: int = 0
    rests_until: float = 0.0
    last_error: str = ""
    requests: int = 0
    errors: dict[str, int] = field(default_factory=dict)


class Node:
    """One node. `run` keeps it connected; `ask` asks it."""

    HASHES_KEPT = 64

    def __init__(
        self,
        address: Address,
        *,
        timeout_s: float,
        rate: float,
        streams: tuple[str, ...],
        admit: Callable[[Node, Mapping[str, Any]], Any],
        hear: Callable[[Node, Mapping[str, Any]], None],
    ) -> None:
        self.address, self.name = address, address.name
        self.state = NodeState()
        self.unusable: Unusable | None = None
        self._timeout_s = timeout_s
        self._limiter = AsyncLimiter(max(1.0, rate / 10), max(1.0, rate / 10) / rate) if rate else None
        self._streams, self._admit, self._hear = streams, admit, hear
        self._connection: Connection | None = None

    @property
    def usable(self) -> bool:
        """Connected, synced, of our chain, and not resting after a failure."""
        state = self.state
        return state.connected and state.synced and time.monotonic() >= state.rests_until

    def rest(self, bounds: tuple[float, float], times: int) -> None:
        """Ask it nothing for a while: longer each time, with jitter."""
        first, longest = bounds
        self.state.rests_until = time.monotonic() + min(
            longest, first * 2 ** min(times, 16)
        ) * random.uniform(0.7, 1.3)

    def distrust(self, why: str) -> None:
        """It gave what can't be."""
        self.rest(DISTRUST_S, self.state.distrusted)
        self.state.distrusted += 1
        self._count("wrong_answer", why)

    def failed(self, error: NodeError) -> None:
        """Note a failure; a node that fails in a row rests longer and longer.

        Many requests under way may fail of one cause: that is one failure. Who is not connected is not asked
        anyway, and need not rest on top once it is back.
        """
        self._count(error.reason, str(error))
        if isinstance(error, (NotFound, Disconnected)) or time.monotonic() < self.state.rests_until:
            return
        self.rest(COOL_S, self.state.failures)
        self.state.failures += 1

    def _count(self, reason: str, said: str) -> None:
        self.state.errors[reason] = self.state.errors.get(reason, 0) + 1
        self.state.last_error = said

    async def ask(self, command: str, **fields: Any) -> dict[str, Any]:
        """The result of a request. Raises NodeError."""
        connection = self._connection
        if connection is None:
            raise Disconnected(f"{self.name}: not connected")
        if self._limiter is not None:
            await self._limiter.acquire()
        self.state.requests += 1
        request = GenericRequest(command=command, api_version=API_VERSION, **fields)
        asking = asyncio.ensure_future(connection._request_impl(request, timeout=self._timeout_s))
        ended = asyncio.ensure_future(connection.ended.wait())
        try:
            await asyncio.wait((asking, ended), return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise Disconnected(f"{self.name}: the connection ended before the answer to {command}")
            result = asking.result().result
        except TimeoutError:
            self.drop()  # who does not answer may not be there at all
            raise Unreachable(f"{self.name}: no answer to {command} within {self._timeout_s:g} s") from None
        except (XRPLException, WebSocketException, OSError) as error:
            raise Disconnected(f"{self.name}: {command}: {type(error).__name__} {error}") from None
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise Unreachable(f"{self.name}: {command}: {type(error).__name__} {error}") from None
        finally:
            asking.cancel()
            ended.cancel()
            await asyncio.gather(asking, ended, return_exceptions=True)
        if not isinstance(result, dict):
            raise NodeError(f"{self.name}: {command} is answered with {type(result).__name__}")
        return self._judged(command, result)

    def _judged(self, command: str, result: dict[str, Any]) -> dict[str, Any]:
        """The result, or the NodeError that it is. An error of the node stands in `error`."""
        code = result.get("error")
        if code is None:
            self.state.failures = 0
            return result
        said = f"{self.name}: {command}: {code} {result.get('error_message', '')}".rstrip()
        if code == "lgrNotFound":
            raise NotFound(said)
        if code in _NOT_SYNCED:
            self.state.synced = False
            raise NotSynced(said)
        raise (Busy if code in _BUSY else Refused if code in _REFUSED else NodeError)(said)

    def drop(self) -> None:
        """End the connection: `run` makes a new one."""
        if self._connection is not None:
            self._connection.ended.set()

    async def run(self) -> None:
        """Connect, follow, connect again; until cancelled."""
        async for attempt in AsyncRetrying(
            retry=retry_if_not_exception_type(asyncio.CancelledError), wait=self._pause
        ):
            with attempt:
                await self._session()

    def _pause(self, retry: RetryCallState) -> float:
        """Longer with each failure in a row to connect, longest for what no waiting mends."""
        first, longest = BACKOFF_S
        if self.unusable is not None:
            return longest * random.uniform(1.0, 1.5)
        if not self.state.failures:
            return first * random.uniform(0.5, 1.5)
        return min(longest, first * 2 ** min(self.state.failures, 16)) * random.uniform(0.5, 1.0)

    async def _session(self) -> None:
        """One connection from its start to its end, which is always an exception."""
        connection = Connection(self.address.url)
        try:
            await self._open(connection)
            self._connection = connection
            await self._greet()
            await self._follow(connection)
        except Unusable as error:
            self.unusable = error
            self._count(error.reason, str(error))
            raise
        except NodeError as error:
            self._count(error.reason, str(error))
            self.state.failures += 1
            raise
        finally:
            self._connection = None
            self.state.connected = self.state.synced = False
            with contextlib.suppress(Exception):
                async with asyncio.timeout(CLOSE_S):  # wait_for may lose a cancellation (Python 3.11)
                    await connection.close()

    async def _open(self, connection: Connection) -> None:
        try:
            await connection.open()
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            raise Unreachable(f"{self.name}: {error}") from None
        except ssl.SSLError as error:
            raise Unusable(f"setting {SETTING}: {self.name}: TLS failed: {error.reason or error}") from None
        except InvalidHandshake as error:
            if _may_mend(error):
                raise Unreachable(f"{self.name}: {error}") from None
            raise Unusable(f"setting {SETTING}: {self.name} is no WebSocket server: {error}") from None
        except (OSError, TimeoutError, WebSocketException, EOFError) as error:
            tls = isinstance(error, ConnectionResetError) and self.address.url.startswith("wss:")
            hint = " (in the TLS handshake: is it ws:// rather than wss://?)" if tls else ""
            raise Unreachable(f"{self.name}: {str(error) or type(error).__name__}{hint}") from None

    async def _greet(self) -> None:
        """Is it of our chain? Then subscribe. A node that is not synced yet is asked again by the pool."""
        info = (await self.ask("server_info")).get("info")
        if not isinstance(info, Mapping):
            raise NodeError(f"{self.name}: server_info without info")
        await self._admit(self, info)
        self.unusable = None
        self.state.connected = True
        self.know(info)
        told = await self.ask("subscribe", streams=list(self._streams))
        self._news(told.get("ledger_index"), told.get("ledger_hash"))

    def know(self, info: Mapping[str, Any]) -> None:
        """What server_info tells of its ledgers."""
        self.state.held = ranges(str(info.get("complete_ledgers", "")))
        validated = info.get("validated_ledger")
        if isinstance(validated, Mapping):
            self._news(validated.get("seq"), validated.get("hash"))

    def _news(self, index: Any, ledger_hash: Any) -> None:
        if not isinstance(index, int) or index < 1:
            return
        state = self.state
        state.synced = True
        if isinstance(ledger_hash, str):
            state.hashes[index] = ledger_hash
            while len(state.hashes) > self.HASHES_KEPT:
                del state.hashes[min(state.hashes)]
        if index > state.validated:
            state.validated, state.news_at = index, time.monotonic()

    async def _follow(self, connection: Connection) -> None:
        """Hear the streams until the connection ends."""
        ended = asyncio.ensure_future(connection.ended.wait())
        message = asyncio.ensure_future(connection._messages.get())
        try:
            while True:
                await asyncio.wait((message, ended), return_when=asyncio.FIRST_COMPLETED)
                if not message.done():
                    raise Unreachable(f"{self.name}: the connection ended")
                heard = message.result()
                message = asyncio.ensure_future(connection._messages.get())
                if heard.get("type") == "ledgerClosed":
                    self._news(heard.get("ledger_index"), heard.get("ledger_hash"))
                self._hear(self, heard)
        finally:
            message.cancel()
            ended.cancel()


def _may_mend(error: InvalidHandshake) -> bool:
    """A proxy without its server, or a server that went while greeting: not a wrong address."""
    if isinstance(error, InvalidStatus):
        return error.response.status_code in (408, 425, 429) or error.response.status_code >= 500
    return isinstance(error, InvalidMessage) and isinstance(error.__cause__, (EOFError, OSError))


def ranges(text: str) -> list[tuple[int, int]]:
    """`complete_ledgers`: "3-353", "1-5,7,9-12", "empty"."""
    found = []
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            found.append((int(first), int(last or first)))
    return found
