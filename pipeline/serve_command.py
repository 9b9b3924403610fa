"""`tidebook serve`: takes applications' events in by HTTP, and answers what is known of them.

Order: settings, the port, the broker, the journal's rest to Kafka, then requests. On SIGTERM nobody new is let in, who
is in gets its answer, what is accepted is published, and the process ends with 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Final

import orjson
import uvicorn
import uvloop
from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from pipeline.api import figures
from pipeline.api.app import Gate, json_response, make_fastapi
from pipeline.api.client import SERVICE, Client
from pipeline.api.clock import Clock
from pipeline.api.intake import Intake
from pipeline.api.journal import JournalError
from pipeline.api.keys import Keys
from pipeline.api.limits import Networks, Protocol, read_networks
from pipeline.api.openapi import document
from pipeline.api.people import TOPIC as PEOPLE
from pipeline.api.people import People, PeopleStore, people_router
from pipeline.api.reads import Reads, read_router
from pipeline.api.routes_events import EventRoutes, Fates
from pipeline.api.routes_reports import report_router
from pipeline.api.shape import Item
from pipeline.api.webhooks import Deliveries, Webhook, WebhooksError, read_webhooks
from pipeline.app import end_with_stdin, make_codec, quiet_clients, serve_metrics
from pipeline.catalog import APPLICATIONS
from pipeline.domain.applications.apps import NO_APPS, Apps, app_events
from pipeline.ingest.apps_config import AppsConfigError, read_apps
from pipeline.ingest.evm.config import ConfigError
from pipeline.keys_command import KEYS_FILE
from pipeline.lag.watch import NoBroker, find_target
from pipeline.metrics import REGISTRY, MetricsError
from pipeline.settings import Settings, SettingsError
from pipeline.web.pages import add_pages
from schemas.registry import NotRegistered
from topics.broker import BrokerError, topic_epochs
from topics.producer import NoSuchTopic, Producer
from topics.schema_registry import RegistryError

DRAIN_S: Final = 15  # what requests under way have when we are told to end
IDLE_S: Final = 75  # of a kept connection
BACKLOG: Final = 2048
CONFIG: Final = Client("config", "", frozenset({SERVICE}))  # of what TIDEBOOK_APPS_CONFIG says

log = logging.getLogger(__name__)


def run(settings: Settings, supervised: bool = False) -> int:
    """Serve until SIGTERM or SIGINT; 0, 1 if it can't go on, 2 for a wrong call or setting (told in one line)."""
    if supervised:
        end_with_stdin()
    quiet_clients()
    logging.basicConfig(level=logging.WARNING, format="tidebook serve: %(message)s")
    try:
        _proxies(settings)
        url = find_target(settings.model_copy(update={"evm_config": None})).kafka_url
        hooks = read_webhooks(settings.webhooks_config, os.environ) if settings.webhooks_config else {}
        apps = read_apps(settings.apps_config)
    except (AppsConfigError, NoBroker, ConfigError, SettingsError, WebhooksError) as error:
        return _wrong(str(error), 2)
    try:
        listener = listen(settings.api_host, settings.api_port)
    except OSError as error:
        return _wrong(
            f"setting TIDEBOOK_API_PORT={settings.api_port}: cannot listen on {settings.api_host}: "
            f"{error.strerror or error}; choose a free port",
            1,
        )
    figures_port = None
    try:
        figures_port = serve_metrics(settings, lambda: (True, {"role": "serve"}))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, url, hooks, apps, listener, supervised))
    except MetricsError as error:
        return _wrong(str(error), 2)
    except (BrokerError, NoSuchTopic, RegistryError, NotRegistered, JournalError, ValueError) as error:
        return _wrong(str(error), 1)
    except (sqlite3.Error, OSError) as error:
        return _wrong(f"setting TIDEBOOK_DATA_DIR={settings.data_dir}: {error}", 1)
    finally:
        listener.close()
        if figures_port is not None:
            figures_port.close()
    return 0


def _proxies(settings: Settings) -> Networks:
    """Raises SettingsError."""
    try:
        return read_networks(settings.api_trusted_proxies)
    except ValueError as error:
        raise SettingsError(f"setting TIDEBOOK_API_TRUSTED_PROXIES: {error}") from None


def _wrong(message: str, status: int) -> int:
    sys.stderr.write(f"tidebook: {message}\n")
    return status


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener


class _Server(uvicorn.Server):
    """uvicorn, whose process ends with 0 when it is told to, and which says when it listens."""

    def __init__(self, config: uvicorn.Config, say_so: Callable[[], None]) -> None:
        super().__init__(config)
        self._say_so = say_so

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # they are ours

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._say_so()


async def _serve(
    settings: Settings,
    url: str,
    hooks: Mapping[str, Webhook],
    apps: Apps,
    listener: socket.socket,
    supervised: bool,
) -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    server: _Server | None = None
    told = False

    def end() -> None:
        nonlocal told
        told = True
        if server is not None:
            server.handle_exit(signal.SIGTERM, None)
        elif task is not None:
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    try:
        async with serving(settings, url, hooks, apps) as gate:
            spare_the_collector()
            server = _Server(configured(gate), lambda: _say_so(listener, url, supervised))
            await server.serve(sockets=[listener])
    except asyncio.CancelledError:
        if not told:
            raise


def spare_the_collector() -> None:
    """What there is at the start lives as long as we do; what comes after is young or cyclic, rarely both."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _say_so(listener: socket.socket, url: str, supervised: bool) -> None:
    host, port = listener.getsockname()[:2]
    if supervised:
        sys.stdout.buffer.write(orjson.dumps({"role": "serve", "ready": True, "port": port}) + b"\n")
        sys.stdout.buffer.flush()
    else:
        shown = f"[{host}]" if ":" in host else host
        print(f"listening on http://{shown}:{port}, Kafka at {url}; API at /openapi.json", flush=True)


def configured(gate: Gate) -> uvicorn.Config:
    """How uvicorn is to serve it."""
    return uvicorn.Config(
        gate, http=Protocol, ws="none", lifespan="off", access_log=False, log_config=None, server_header=False,
        timeout_keep_alive=IDLE_S, timeout_graceful_shutdown=DRAIN_S, backlog=BACKLOG, proxy_headers=False,
    )  # fmt: skip


@asynccontextmanager
async def serving(
    settings: Settings, url: str, hooks: Mapping[str, Webhook], apps: Apps = NO_APPS
) -> AsyncIterator[Gate]:
    """Everything behind the port. Raises BrokerError, JournalError, sqlite3.Error, OSError."""
    async with contextlib.AsyncExitStack() as stack:
        codec = make_codec(settings)
        producer = Producer(url)
        await producer.start()
        stack.push_async_callback(producer.stop)
        keys = stack.enter_context(contextlib.closing(Keys(settings.intake_dir / KEYS_FILE)))
        deliveries = stack.enter_context(contextlib.closing(Deliveries(settings.intake_dir / "webhooks.db")))
        store = stack.enter_context(
            contextlib.closing(PeopleStore(settings.data_dir / "people" / "people.db"))
        )
        people = People(store, codec, producer.send_many)
        await people.begin(settings.epoch or (await topic_epochs(url, [PEOPLE]))[PEOPLE])
        forgetting = asyncio.create_task(people.run())
        stack.push_async_callback(_ended, forgetting)
        intake = Intake.of(
            APPLICATIONS, settings.intake_dir, settings.applications_dir, codec, url, settings.epoch
        )
        await intake.start()
        stack.push_async_callback(intake.close)
        await _register(intake, apps)
        figures.show_backlog(intake.publisher.backlog)
        stack.callback(figures.show_backlog, None)
        time_comes = asyncio.create_task(Clock(APPLICATIONS, intake).run())
        stack.push_async_callback(_ended, time_comes)
        reads = Reads(settings.clickhouse_url, settings.data_dir)
        stack.push_async_callback(reads.close)
        fates = Fates(APPLICATIONS, intake.journal, codec, intake.known.reader)
        gate = assemble(
            intake, hooks, deliveries, fates, keys, people, settings.api_body_max, reads,
            [read_router(reads), report_router(reads.clickhouse)],
        )  # fmt: skip
        gate.proxies = _proxies(settings)
        yield gate


async def _register(intake: Intake, apps: Apps) -> None:
    """Make the configured applications known; what is known already stays as it is."""
    (row,) = (row for row in APPLICATIONS if row.domain == "assets")
    items = [Item(body, source="config") for body in app_events(apps)]
    for item, answer in zip(items, await intake.submit(row, CONFIG, items), strict=True):
        if answer.status != 202:
            log.warning("application %s: %s", item.body["asset_id"], answer.body["error"]["detail"])


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def assemble(
    intake: Intake, hooks: Mapping[str, Webhook], deliveries: Deliveries, fates: Fates, keys: Keys, people: People,
    body_max: int, reads: Reads, routers: list[APIRouter],
) -> Gate:  # fmt: skip
    """The gate before all endpoints."""
    events = EventRoutes(APPLICATIONS, intake, hooks, deliveries, fates.find, figures.told)
    app = make_fastapi([events.router(), people_router(people), _own_router(intake), *routers])
    whole = orjson.dumps(document(app, APPLICATIONS, version("tidebook")))

    async def openapi(request: Request) -> Response:
        return Response(whole, media_type="application/json")

    app.add_api_route("/openapi.json", openapi, include_in_schema=False)
    add_pages(app, reads, keys)
    return Gate(app, keys, body_max, events.direct(), told=figures.answered)


def _own_router(intake: Intake) -> APIRouter:
    router = APIRouter()

    async def health(request: Request) -> Response:
        troubles = {row.topic: intake.publisher.trouble(row.topic) for row in APPLICATIONS}
        away = {topic: trouble for topic, trouble in troubles.items() if trouble}
        return json_response(503 if away else 200, {"healthy": not away, "not_published": away})

    async def metrics(request: Request) -> Response:
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    router.add_api_route("/health", health, include_in_schema=False)
    router.add_api_route("/metrics", metrics, include_in_schema=False)
    return router
