"""`tidebook serve` in this process: a real broker, a real journal, a real port, in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import httpx
import orjson
import uvicorn

from pipeline.api.app import Gate
from pipeline.api.intake import Intake
from pipeline.api.keys import Keys
from pipeline.api.webhooks import Webhook
from pipeline.catalog import APPLICATIONS
from pipeline.keys_command import KEYS_FILE
from pipeline.serve_command import configured, listen, serving
from pipeline.settings import Settings
from pipeline.supervisor import EmbeddedBroker
from topics.apply import apply_topics

START_S = 180.0


class Got(NamedTuple):
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def error(self) -> dict[str, str]:
        found: dict[str, str] = self.json["error"]
        return found


async def ask(
    app: Any, method: str, path: str, body: bytes | Iterable[bytes] = b"", headers: Mapping[str, str] | None = None,
    host: str = "198.51.100.7",
) -> Got:  # fmt: skip
    """One request to an ASGI app, without a server; a body that is no bytes comes in these parts."""
    path, _, query = path.partition("?")
    parts = [body] if isinstance(body, bytes) else list(body)
    waiting = [
        {"type": "http.request", "body": part, "more_body": place < len(parts) - 1}
        for place, part in enumerate(parts)
    ]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "path": path,
        "raw_path": path.encode(), "query_string": query.encode(), "root_path": "", "scheme": "http",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in (headers or {}).items()],
        "client": (host, 1), "server": ("127.0.0.1", 80), "state": {},
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> Any:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    told = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return Got(sent[0]["status"], told, b"".join(one.get("body", b"") for one in sent[1:]))


class Patient(Intake):
    """An intake that waits for its broker as long as it takes a machine with much else to do."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given, patience_s=START_S)

    async def start(self) -> None:
        await super().start()
        async with asyncio.timeout(START_S):
            while any(self.publisher.trouble(row.topic) for row in APPLICATIONS):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


class Served:
    """A running service; a context manager."""

    def __init__(
        self,
        folder: Path,
        hooks: Mapping[str, Webhook] | None = None,
        keys: Mapping[str, Mapping[str, Any]] | None = None,
        **settings: Any,
    ) -> None:
        """`keys`: name → arguments of Keys.create; their texts are in `self.keys`."""
        self.settings = Settings(data_dir=folder, **settings)
        self._hooks = hooks or {}
        self.keys: dict[str, str] = {}
        with closing(self.key_file()) as made:
            for name, arguments in (keys or {}).items():
                self.keys[name] = made.create(**arguments)[1]
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="served")
        self._failed: BaseException | None = None
        self.gate: Gate
        self.loop: asyncio.AbstractEventLoop
        self.port, self.kafka_url = 0, ""

    def key_file(self) -> Keys:
        """The keys, opened once more."""
        return Keys(self.settings.intake_dir / KEYS_FILE)

    def __enter__(self) -> Served:
        self._thread.start()
        assert self._ready.wait(START_S), "the service did not start"
        if self._failed is not None:
            raise self._failed
        return self

    def __exit__(self, *error: object) -> None:
        if self._thread.is_alive():
            self._server.should_exit = True
            self._thread.join(START_S)
        assert not self._thread.is_alive(), "the service did not end"
        if self._failed is not None:
            raise self._failed

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, key: str = "") -> httpx.Client:
        """A client, with a key of `keys`."""
        headers = {"Authorization": f"Bearer {self.keys[key]}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120)

    def bearer(self, key: str) -> dict[str, str]:
        """Headers of a JSON request."""
        return {"Authorization": f"Bearer {self.keys[key]}", "Content-Type": "application/json"}

    def call(self, work: Any) -> Any:
        """Run a coroutine in the service's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(300)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            self._failed = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        broker = EmbeddedBroker()
        self.settings.data_dir.mkdir(parents=True, exist_ok=True)
        self.kafka_url = await broker.start(self.settings.data_dir / "broker.log")
        try:
            await apply_topics(self.kafka_url, chains=4)
            listener = listen("127.0.0.1", 0)
            self.port = listener.getsockname()[1]
            async with contextlib.AsyncExitStack() as stack:
                with mock.patch("pipeline.serve_command.Intake", Patient):
                    service = serving(self.settings, self.kafka_url, self._hooks)
                    self.gate = await stack.enter_async_context(service)
                self._server = uvicorn.Server(configured(self.gate))
                self._ready.set()
                await self._server.serve(sockets=[listener])
        finally:
            await broker.stop()
