"""A node that lies: a proxy in front of a true one, on HTTP and WebSocket, which lies where it is told to.

`lie("omit_log", share=0.3)` from then on; `honest()` ends it all. What was told is counted in `told` (by lie),
what was asked in `asked` (by method). A request meets at most one lie about its content, the first that is drawn;
a batch is one HTTP request, and its first method decides whether its transport lies. Draws come from one seed; with
several requests under way at once, which of them meets a lie depends on their order.

It runs in a thread of its own (`lying_rpc`), so tests with and without an event loop can use it.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson
from aiohttp import web

from tests.support.rpc_lies import LIES, NOTHING, SOCKET, TRANSPORT, Json, Said

MAX_BYTES: Final = 1 << 28
HTML: Final = (
    "<!doctype html><html><head><title>Just a moment…</title></head><body>Checking your browser</body></html>"
)
TOO_LARGE: Final = {"code": -32005, "message": "query exceeds max block range"}
BUSY: Final = {"code": -32000, "message": "internal error: backend is busy"}


@dataclass
class Active:
    """One lie in force: how often (of the requests it fits), how many times at most, about which methods."""

    name: str
    share: float
    times: int | None
    methods: Sequence[str] | None

    def fits(self, method: str) -> bool:
        return self.times != 0 and (self.methods is None or method in self.methods)


class LyingRpc:
    """Proxy of the node at `upstream` (http://host:port). Honest until told otherwise."""

    def __init__(self, upstream: str, seed: int = 0) -> None:
        self.told: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.url = self.ws_url = ""
        self.hang_s = 60.0  # how long `hang` keeps a request
        self.retry_after: str | None = "1"  # header of a 429, in seconds
        self.log_range: int | None = None  # blocks that one eth_getLogs may span
        self._upstream = upstream
        self._random = random.Random(seed)
        self._active: list[Active] = []
        self._answers: dict[bytes, list[Any]] = {}  # by request: the different answers it had
        self._sockets: set[web.WebSocketResponse] = set()
        self._runner: web.AppRunner | None = None
        self._session: aiohttp.ClientSession | None = None

    def lie(
        self, name: str, share: float = 1.0, times: int | None = None, methods: Sequence[str] | None = None
    ) -> None:
        """Tell this lie from now on. `share`: of the requests it fits; `times`: at most; `methods`: only there."""
        assert name in LIES or name in TRANSPORT or name in SOCKET, f"unknown lie {name}"
        self._active = [*self._active, Active(name, share, times, methods)]

    def honest(self) -> None:
        """Tell no lie from now on."""
        self._active = []

    async def start(self) -> None:
        """Listen on a free port."""
        app = web.Application(client_max_size=MAX_BYTES)
        app.router.add_post("/", self._post)
        app.router.add_get("/", self._socket)
        self._session = aiohttp.ClientSession(trust_env=False)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url, self.ws_url = f"http://127.0.0.1:{port}", f"ws://127.0.0.1:{port}"

    async def stop(self) -> None:
        """Close all connections."""
        for socket in list(self._sockets):
            await socket.close()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    # HTTP

    async def _post(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        calls = body if isinstance(body, list) else [body]
        self.asked.update(call["method"] for call in calls)
        lie = self._draw(TRANSPORT, calls[0]["method"])
        if lie in ("too_many", "hang", "html", "bad_gateway", "empty", "drop"):
            return await self._refuse(lie, request)
        try:
            answers = [
                self._error(call, BUSY) if lie == "error" else await self._answer(call) for call in calls
            ]
        except aiohttp.ClientError:  # the true node is away
            return web.Response(status=502, text="Bad Gateway")
        if lie == "wrong_id":
            answers = [{**answer, "id": 987_654_321} for answer in answers]
        text = orjson.dumps(answers if isinstance(body, list) else answers[0])
        if lie == "cut_json":
            text = text[: len(text) * 2 // 3]
        return web.Response(body=text, content_type="application/json")

    async def _refuse(self, lie: str, request: web.Request) -> web.StreamResponse:
        if lie == "too_many":
            headers = {"Retry-After": self.retry_after} if self.retry_after else {}
            return web.Response(status=429, text="Too Many Requests", headers=headers)
        if lie in ("html", "bad_gateway"):
            return web.Response(status=200 if lie == "html" else 502, text=HTML, content_type="text/html")
        if lie == "empty":
            return web.Response(body=b"", content_type="application/json")
        if lie == "hang":
            await asyncio.sleep(self.hang_s)
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    async def _answer(self, call: Json) -> Json:
        """The answer to one request, a lie or not."""
        method, params = call["method"], call.get("params") or []
        if self._spans_too_much(method, params):
            return self._error(call, TOO_LARGE)
        lie = await self._about(method, params)
        asked = lie[1] if lie and lie[1] is not NOTHING else params
        answer = await self._upstream_answer({**call, "params": asked})
        return await self._told_after(call, answer, lie)

    async def _about(self, method: str, params: list[Any]) -> tuple[str, Any] | None:
        """The lie about this request, if any, and the params it asks instead (NOTHING: as they are)."""
        name = self._draw([name for name, lie in LIES.items() if method in lie.methods], method, count=False)
        if name is None:
            return None
        before = LIES[name].before
        instead = before(params, await self._head(), self._random) if before and params else NOTHING
        if instead is not NOTHING:
            self._count(name)
        return name, instead

    async def _told_after(self, call: Json, answer: Json, lie: tuple[str, Any] | None) -> Json:
        method, params = call["method"], call.get("params") or []
        if "result" not in answer or method == "eth_subscribe":
            return answer
        honest = lie is None or lie[1] is NOTHING  # else it is no answer to what was asked
        earlier = self._earlier(method, params, answer["result"]) if honest else NOTHING
        after = LIES[lie[0]].after if lie and honest else None
        if lie is None or after is None or (LIES[lie[0]].before and params):
            return answer
        said = Said(method, params, answer["result"], await self._head(), earlier)
        told = after(said, self._random)
        if told is NOTHING:
            return answer
        self._count(lie[0])
        return {**answer, "result": told}

    def _earlier(self, method: str, params: list[Any], result: Any) -> Any:
        """Remember this answer; the newest one that differs from it, or NOTHING."""
        known = self._answers.setdefault(orjson.dumps([method, params]), [])
        if result in known:
            known.remove(result)
        known.append(result)
        del known[:-4]
        return known[-2] if len(known) > 1 else NOTHING

    def _spans_too_much(self, method: str, params: list[Any]) -> bool:
        if self.log_range is None or method != "eth_getLogs" or not params or "blockHash" in params[0]:
            return False
        first, last = params[0].get("fromBlock", "latest"), params[0].get("toBlock", "latest")
        if not (first.startswith("0x") and last.startswith("0x")):
            return False
        return int(last, 16) - int(first, 16) + 1 > self.log_range

    async def _upstream_answer(self, call: Json) -> Json:
        assert self._session is not None
        async with self._session.post(self._upstream, json=call) as answer:
            return orjson.loads(await answer.read())

    async def _head(self) -> int:
        asked = {"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []}
        return int((await self._upstream_answer(asked))["result"], 16)

    # WebSocket

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        down = web.WebSocketResponse(max_msg_size=MAX_BYTES)
        await down.prepare(request)
        self._sockets.add(down)
        assert self._session is not None
        ws_upstream = self._upstream.replace("http", "ws", 1)
        try:
            async with self._session.ws_connect(ws_upstream, max_msg_size=MAX_BYTES) as up:
                asked: dict[Any, tuple[Json, tuple[str, Any] | None]] = {}
                pumps = [
                    asyncio.create_task(self._requests(down, up, asked)),
                    asyncio.create_task(self._messages(down, up, asked)),
                ]
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                for pump in pumps:
                    pump.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
        except aiohttp.ClientError:  # the true node is away
            pass
        finally:
            self._sockets.discard(down)
            if request.transport is not None:
                request.transport.abort()  # no goodbye: a socket that drops
        return down

    async def _requests(
        self, down: web.WebSocketResponse, up: aiohttp.ClientWebSocketResponse, asked: Any
    ) -> None:
        """From the client to the node."""
        async for message in down:
            call = orjson.loads(message.data)
            method, params = call["method"], call.get("params") or []
            self.asked[method] += 1
            if self._draw(["drop_ws", "drop"], method):
                return
            if self._draw(["hang"], method):
                continue
            if self._spans_too_much(method, params):
                await down.send_str(orjson.dumps(self._error(call, TOO_LARGE)).decode())
                continue
            lie = await self._about(method, params)
            asked[call["id"]] = (call, lie)
            instead = lie[1] if lie and lie[1] is not NOTHING else params
            await up.send_str(orjson.dumps({**call, "params": instead}).decode())

    async def _messages(
        self, down: web.WebSocketResponse, up: aiohttp.ClientWebSocketResponse, asked: Any
    ) -> None:
        """From the node to the client: answers and notifications."""
        async for message in up:
            said = orjson.loads(message.data)
            if "id" in said and said["id"] in asked:
                call, lie = asked.pop(said["id"])
                text = orjson.dumps(await self._told_after(call, said, lie)).decode()
                if self._draw(["cut_json"], call["method"]):
                    text = text[: len(text) * 2 // 3]
                await down.send_str(text)
                continue
            lie_name = self._draw(["drop_ws", "skip_head", "repeat_head"], "eth_subscription")
            if lie_name == "drop_ws":
                return
            for _ in range({"skip_head": 0, "repeat_head": 2}.get(lie_name or "", 1)):
                await down.send_str(message.data)

    # Draws

    def _draw(self, names: Sequence[str], method: str, count: bool = True) -> str | None:
        """The first active lie among `names` that is drawn for this request."""
        for active in self._active:
            if active.name in names and active.fits(method) and self._random.random() < active.share:
                if count:
                    self._count(active.name)
                return active.name
        return None

    def _count(self, name: str) -> None:
        self.told[name] += 1
        for active in self._active:
            if active.name == name and active.times:
                active.times -= 1
                break

    @staticmethod
    def _error(call: Json, error: Json) -> Json:
        return {"jsonrpc": "2.0", "id": call.get("id"), "error": error}


@contextmanager
def lying_rpc(upstream: str, seed: int = 0) -> Iterator[LyingRpc]:
    """A running proxy on a thread of its own, gone afterwards."""
    made = LyingRpc(upstream, seed)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="lying-rpc", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(made.start(), loop).result(10)
        yield made
    finally:
        asyncio.run_coroutine_threadsafe(made.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
