"""One EVM node, over HTTP or a WebSocket: asks it, hears its news, knows its health.

A node is a neighbour: it may be slow, silent, behind, of another chain since a moment ago (a load balancer), or lie.
What it answers is either the result of a request, raw as JSON-RPC gives it, or one of the NodeErrors; who to ask
instead is the pool's business. It is asked only while its chain id is the expected one: that is asked at every
connect, after every failure of the connection, and now and then. News of heads are hints, and polling makes up for
what they leave out.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from aiolimiter import AsyncLimiter
from tenacity import AsyncRetrying, RetryCallState, retry_if_not_exception_type
from web3 import AsyncWeb3
from web3.exceptions import Web3Exception
from websockets.exceptions import WebSocketException

from pipeline.domain.evm_rlp import Malformed, quantity
from pipeline.ingest.evm.errors import (
    Busy,
    Disconnected,
    Missing,
    NodeError,
    NoNode,
    NotFound,
    OtherChain,
    Refused,
    TooLarge,
    Unreachable,
    Unusable,
    Wrong,
    error_of,
    legible,
    secrets_of,
    trouble,
)
from pipeline.ingest.evm.health import Health, Terms, name_of
from pipeline.ingest.evm.transport import Call, Http, Socket

__all__ = [
    "Busy",
    "Disconnected",
    "Missing",
    "NoNode",
    "Node",
    "NodeError",
    "NotFound",
    "OtherChain",
    "Refused",
    "Terms",
    "TooLarge",
    "Unreachable",
    "Unusable",
    "Wrong",
    "name_of",
]  # fmt: skip

BACKOFF_S: Final = (0.25, 30.0)  # between attempts to connect: first, longest
CLOSE_S: Final = 2.0
CHAIN_CHECK_S: Final = 30.0
BATCH: Final = 50  # requests in one batch, until the node wants fewer
OTHER_CHAIN_TIMES: Final = 3  # in a row, until it is called unusable
SILENT_TIMES: Final = 3  # silences after which a WebSocket whose node goes on is opened anew
TAGS: Final = ("finalized", "safe", "latest")  # in this order, so that none passes a later one meanwhile
MUST_BE: Final = frozenset(
    {"eth_getBlockByNumber", "eth_getBlockByHash", "eth_getBlockReceipts", "eth_getTransactionReceipt"}
)


class Node(Health):
    """One node. `run` keeps it connected; `ask` and `batch` ask it."""

    def __init__(
        self,
        url: str,
        terms: Terms,
        *,
        name: str = "",
        caught: Counter[str] | None = None,
        news: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(name or name_of(url), caught)
        self.refuses: set[str] = set()  # methods that it does not know, as far as tried
        self._url, self._terms, self._news = url, terms, news
        self.secrets = secrets_of(url)
        self._socket = urlsplit(url).scheme in ("ws", "wss")
        self._limiter = _limiter(terms.rate)
        self._w3: AsyncWeb3[Any] | None = None
        self._restart, self._batch_size = asyncio.Event(), BATCH
        self._others, self._chain_checked = 0, 0.0  # greetings in a row that told another chain
        self._contradicted = False  # by its last poll
        scheme = urlsplit(url).scheme
        if scheme not in ("http", "https", "ws", "wss") or not urlsplit(url).netloc:
            self.unusable = Unusable(
                f"setting {terms.setting}: {self.name!r} ({scheme or 'no scheme'}) is no address of a node: "
                "write http(s)://… or ws(s)://…"
            )

    def __repr__(self) -> str:
        return f"Node({self.name})"

    # Asking

    async def ask(self, method: str, *params: Any) -> Any:
        """The result of a request, as it comes. Raises NodeError."""
        if not self.state.connected:
            raise Disconnected(f"{self.name}: not connected")
        return await self._ask(method, params)

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        """The results of many requests in order; where one failed its NodeError stands. Raises if all fail as one.

        In JSON-RPC batches as large as the node takes, else one by one, some at once.
        """
        if not self.state.connected:
            raise Disconnected(f"{self.name}: not connected")
        return await self._batch(calls)

    async def _batch(self, calls: Sequence[Call]) -> list[Any]:
        results: list[Any] = []
        while len(results) < len(calls):
            part = calls[len(results) : len(results) + self._batch_size]
            if self._socket or self._batch_size == 1 or len(part) == 1:
                part = calls[len(results) : len(results) + BATCH]
                results += await self._singly(part)
                continue
            try:
                results += await self._as_one(part)
            except TooLarge:
                self._batch_size = max(1, len(part) // 2)
            except Refused:
                self._batch_size = 1
        if results and all(isinstance(result, (Unreachable, Busy)) for result in results):
            raise results[0]
        return results

    async def _singly(self, calls: Sequence[Call]) -> list[Any]:
        found = await asyncio.gather(
            *(self._ask(method, params) for method, params in calls), return_exceptions=True
        )
        for one in found:
            if isinstance(one, BaseException) and not isinstance(one, NodeError):
                raise one
        return list(found)

    async def _as_one(self, calls: Sequence[Call]) -> list[Any]:
        answers = await self._exchange(
            "a batch", len(calls), lambda w3: w3.provider.make_batch_request(calls)
        )
        if not isinstance(answers, list):
            error = answers.get("error") if isinstance(answers, dict) else None
            raise error_of(
                self.name, "a batch", error or "is answered with neither list nor error", self.secrets
            )
        results: list[Any] = []
        for (method, _), answer in zip(calls, answers, strict=True):
            try:
                results.append(self._result(method, answer))
            except NodeError as failure:
                results.append(failure)
        return results

    async def _ask(self, method: str, params: Sequence[Any]) -> Any:
        answer = await self._exchange(method, 1, lambda w3: w3.provider.make_request(method, list(params)))
        return self._result(method, answer)

    async def _exchange(self, what: str, requests: int, send: Callable[[AsyncWeb3[Any]], Any]) -> Any:
        w3 = self._w3
        if w3 is None:
            raise Disconnected(f"{self.name}: not connected")
        for _ in range(requests if self._limiter else 0):
            await self._limiter.acquire()  # type: ignore[union-attr]
        self.state.requests += requests
        with legible(self.name, f"the answer to {what}"):
            return await self._sent(what, send(w3))

    async def _sent(self, what: str, answer: Awaitable[Any]) -> Any:
        """The answer, in time. Raises NodeError, and greets the node anew where its connection may have gone."""
        try:
            async with asyncio.timeout(self._terms.timeout_s):
                return await answer
        except TimeoutError:
            self.drop()  # who does not answer may not be there at all
            raise Unreachable(
                f"{self.name}: no answer to {what} within {self._terms.timeout_s:g} s"
            ) from None
        except Unreachable:
            self.drop()
            raise
        except (Web3Exception, WebSocketException, OSError) as error:
            self.drop()
            raise Disconnected(f"{self.name}: {what}: {type(error).__name__}") from None

    def _result(self, method: str, answer: Any) -> Any:
        """The result, or the NodeError that it is."""
        if not isinstance(answer, dict) or ("result" not in answer and "error" not in answer):
            raise Unreachable(f"{self.name}: {method} is answered with neither result nor error")
        if answer.get("error") is not None:
            with legible(self.name, f"the answer to {method}"):
                error = error_of(self.name, method, answer["error"], self.secrets)
            if isinstance(error, Refused):
                self.refuses.add(method)
            raise error
        self.state.failures = 0
        result = answer.get("result")
        if result is None and method in MUST_BE:
            raise NotFound(f"{self.name}: {method}: null", method)
        return result

    # The connection

    def drop(self) -> None:
        """Not asked until it is greeted anew: `run` does."""
        self.state.connected = False
        self._restart.set()

    async def run(self) -> None:
        """Connect, follow, connect again; until cancelled."""
        if self.unusable is not None:
            return
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_not_exception_type(asyncio.CancelledError), wait=self._pause
            ):
                with attempt:
                    await self._session()
        finally:
            await self._close()

    def _pause(self, retry: RetryCallState) -> float:
        """Longer with each failure in a row to connect, longest for what only a person mends."""
        first, longest = BACKOFF_S
        if self.unusable is not None:
            return longest * random.uniform(0.5, 1.0)
        quiet = max(0.0, self.state.busy_until - time.monotonic())
        again = first * float(2 ** min(max(0, self.state.failures - 1), 16))
        return quiet + min(longest, again) * random.uniform(0.5, 1.0)

    async def _session(self) -> None:
        """From a greeting to the next failure of the connection, which is always an exception."""
        self._restart = asyncio.Event()
        try:
            with legible(self.name, "what it tells of its chain"):
                await self._open()
                await self._greet()
                await self._follow()
        except NodeError as error:
            self._lost(error)
            raise
        finally:
            self.state.connected = False
            if self._socket:
                await self._close()

    def _lost(self, error: NodeError) -> None:
        self._count(error.reason, str(error))
        self.state.failures += 1
        if isinstance(error, OtherChain):
            self._others += 1
            if self._others >= OTHER_CHAIN_TIMES:
                self.unusable = Unusable(str(error))
        elif isinstance(error, Busy):
            self.hush(error)

    async def _open(self) -> None:
        if self._socket:
            provider = Socket(self._url, self.name, self._terms.timeout_s, self._hear)
            try:
                async with asyncio.timeout(self._terms.timeout_s):
                    await provider.connect()
            except (Web3Exception, WebSocketException, OSError, TimeoutError, ValueError) as error:
                raise Unreachable(f"{self.name}: {trouble(error.__cause__ or error)}") from None
            self._w3 = AsyncWeb3(provider)
        elif self._w3 is None:
            self._w3 = AsyncWeb3(Http(self._url, self.name, self._terms.timeout_s))

    async def _close(self) -> None:
        w3, self._w3 = self._w3, None
        if w3 is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(CLOSE_S):
                    await w3.provider.disconnect()

    async def _greet(self) -> None:
        """Is it of our chain? Then its numbers, and its news."""
        await self._check_chain()
        self.refuses.clear()
        await self._poll()
        if self._socket:
            with contextlib.suppress(Refused):  # then it is polled
                await self._ask("eth_subscribe", ("newHeads",))
        self.state.heard_at = time.monotonic()
        self.unusable, self._others = None, 0
        self.state.connected = True
        self._news()

    async def _check_chain(self) -> None:
        """Raises OtherChain."""
        told = await self._ask("eth_chainId", ())
        found = number_of(self.name, told)
        if found != self._terms.chain_id:
            self.state.connected = False
            raise OtherChain(
                f"setting {self._terms.setting}: {self.name} is of chain {found}, not {self._terms.chain_id}: "
                "give the chain's id or another node's URL"
            )
        self._chain_checked = time.monotonic()

    async def _follow(self) -> None:
        """Poll, and watch the connection, until it ends."""
        ended = self._w3.provider.ended if self._w3 and self._socket else asyncio.Event()
        waits = [asyncio.ensure_future(self._restart.wait()), asyncio.ensure_future(ended.wait())]
        try:
            while True:
                await asyncio.wait(waits, timeout=self._terms.poll_s, return_when=asyncio.FIRST_COMPLETED)
                if any(wait.done() for wait in waits):
                    raise Disconnected(self.state.last_error or f"{self.name}: the connection ended")
                if time.monotonic() < self.state.busy_until:
                    continue
                await self._look()
        finally:
            for wait in waits:
                wait.cancel()

    async def _look(self) -> None:
        state, now = self.state, time.monotonic()
        silent = now - state.heard_at
        if now - self._chain_checked > CHAIN_CHECK_S:
            await self._check_chain()
        if not self._socket or self._terms.tags or silent > self._terms.silence_s:
            before = state.latest
            try:
                await self._poll()
            except Busy as error:
                self.failed(error)
            if self._socket and silent > SILENT_TIMES * self._terms.silence_s and state.latest > before:
                raise Disconnected(
                    f"{self.name}: its subscription is silent for {silent:.0f} s and its chain goes on"
                )

    # News

    def _hear(self, head: Any) -> None:
        """A newHeads notification; what is no head is no news."""
        with contextlib.suppress(NodeError):
            number, block_hash = _head(self.name, head)
            state = self.state
            state.heard_at = state.news_at = time.monotonic()
            state.latest, state.latest_hash = number, block_hash
            self._news()

    async def _poll(self) -> None:
        """Ask for its newest block and its tags. What contradicts itself is not believed. Raises NodeError."""
        tags = TAGS if self._terms.tags else TAGS[-1:]
        answers = await self._batch([("eth_getBlockByNumber", (tag, False)) for tag in tags])
        told: dict[str, tuple[int, str]] = {}
        for tag, answer in zip(tags, answers, strict=True):
            if isinstance(answer, NodeError):
                if tag == "latest" or isinstance(answer, (Unreachable, Busy)):
                    raise answer
                continue
            told[tag] = _head(self.name, answer)
        numbers = [told[tag][0] for tag in tags if tag in told]
        if numbers == sorted(numbers):
            self._contradicted = False
            self._note(told)
            return
        if self._contradicted:  # once may be a reorganisation between two answers
            self.distrust("finality", f"finalized, safe and latest are {numbers}")
        self._contradicted = True

    def _note(self, told: dict[str, tuple[int, str]]) -> None:
        state = self.state
        before = (state.latest, state.latest_hash, state.safe, state.finalized)
        (state.latest, state.latest_hash) = told["latest"]
        state.safe, state.finalized = (told.get(tag, (-1, ""))[0] for tag in ("safe", "finalized"))
        if (state.latest, state.latest_hash) != before[:2]:
            state.news_at = time.monotonic()
        if (state.latest, state.latest_hash, state.safe, state.finalized) != before:
            self._news()


def _limiter(rate: float) -> AsyncLimiter | None:
    """Of so many requests a second, in bursts of at most a tenth of a second's."""
    burst = max(1.0, rate / 10)
    return AsyncLimiter(burst, burst / rate) if rate else None


def number_of(name: str, value: Any) -> int:
    """A block's number or a chain's id as that node tells it, 0 to 2^63 − 1. Raises Wrong."""
    try:
        found = quantity(value)
    except Malformed as error:
        raise Wrong("malformed", f"{name}: {error}") from None
    if found >= 1 << 63:
        raise Wrong("malformed", f"{name}: a number of {found.bit_length()} bits")
    return found


def _head(name: str, block: Any) -> tuple[int, str]:
    if not isinstance(block, dict) or not isinstance(block.get("hash"), str):
        raise Wrong("malformed", f"{name}: a head without number or hash")
    return number_of(name, block.get("number")), block["hash"].lower()
