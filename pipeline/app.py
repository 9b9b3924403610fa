"""The only wiring: settings → stores, roles, workers."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Any

from pipeline import metrics
from pipeline.agents.assets import AssetsRole
from pipeline.agents.auditing import Auditing, Every
from pipeline.agents.books import BooksRole
from pipeline.agents.history import HistoryRole
from pipeline.agents.role import Role
from pipeline.agents.runtime import SETUP_EXIT, Worker
from pipeline.ingest.apps_config import AppsConfigError, read_apps
from pipeline.running import running
from pipeline.settings import Settings
from schemas.codec import Codec
from schemas.loader import by_topic, schemas
from schemas.registry import Registry
from topics.schema_registry import open_registry

ROLES = ("books", "assets", "history")


def make_registry(settings: Settings) -> Registry:
    """The registry that TIDEBOOK_SCHEMA_REGISTRY_URL names, else the one that ships with the package."""
    return open_registry(settings.schema_registry_url)


def make_codec(settings: Settings) -> Codec:
    """Wire codec over the registry of the settings."""
    return Codec(make_registry(settings))


def open_books(settings: Settings) -> Any:
    """The cluster that TIGERBEETLE_ADDRESSES names, else the embedded books of the data directory."""
    if settings.tigerbeetle_addresses:
        from sinks.tigerbeetle import connect

        return connect(settings.tigerbeetle_addresses, settings.tigerbeetle_cluster_id)
    from sinks.embedded_books import connect as connect_embedded

    settings.books_dir.mkdir(parents=True, exist_ok=True)
    return connect_embedded(settings.books_dir)


def open_history(settings: Settings, role: str = "history") -> Any:
    """The server that TIDEBOOK_CLICKHOUSE_URL names, else chDB in the data directory. Opened."""
    from sinks.clickhouse import ClickHouseHistory
    from sinks.clickhouse_client import Place

    place = (
        Place(url=settings.clickhouse_url) if settings.clickhouse_url else Place(path=settings.clickhouse_dir)
    )
    registry = make_registry(settings)
    history = ClickHouseHistory(place, schemas(), Codec(registry), registry, role)
    history.open()
    return history


def books_that_answer(settings: Settings) -> Any:
    """`open_books`; the embedded ones can be read by other processes as long as they are open."""
    books = open_books(settings)
    if settings.tigerbeetle_addresses:
        return books
    from sinks.books_reading import SOCKET, AnsweringBooks

    path = settings.data_dir / SOCKET
    try:
        return AnsweringBooks(books, path)
    except OSError as error:  # no reason not to keep books
        sys.stderr.write(f"tidebook work books: {path}: nobody else can read the books: {error}\n")
        return books


def books_to_read(settings: Settings) -> Any:
    """The cluster, or the embedded books of the role that runs; None where there are none. Raises BooksError."""
    if settings.tigerbeetle_addresses:
        return open_books(settings)
    if not settings.books_dir.exists():
        return None
    from sinks.books_reading import SOCKET, AskedBooks

    return AskedBooks(settings.data_dir / SOCKET)


def books_to_ask(settings: Settings) -> Any:
    """The books for questions: the embedded ones through the role that runs, else opened. Raises BooksError."""
    from sinks.books import BooksUnavailableError
    from sinks.books_reading import SOCKET, AskedBooks

    if not settings.tigerbeetle_addresses:
        with suppress(BooksUnavailableError):  # nobody has them: they can be opened
            return AskedBooks(settings.data_dir / SOCKET)
    return open_books(settings)


def open_reading(settings: Settings) -> Any:
    """The history to be read: where `tidebook up` runs on the data directory, through it. Opened."""
    told = None if settings.clickhouse_url else running(settings.data_dir)
    if told is None or not told.get("clickhouse_url"):
        return open_history(settings, "query")
    from sinks.clickhouse_client import READ_SETTINGS, Reading

    return Reading(str(told["clickhouse_url"]), READ_SETTINGS)


def make_auditing(settings: Settings, codec: Codec) -> Auditing | None:
    """The continuous audit of the settings."""
    if not settings.audit_every_s:
        return None
    from sinks.clickhouse_client import Place

    url = settings.clickhouse_url
    return Auditing(
        Place(url=url) if url else Place(path=settings.clickhouse_dir),
        codec,
        Every(settings.audit_every_s, settings.audit_whole_every_s),
        lambda: books_to_read(settings),
    )


def make_role(name: str, settings: Settings) -> Role:
    """One role by name: books, assets or history."""
    codec = make_codec(settings)
    if name == "books":
        return BooksRole(lambda: books_that_answer(settings), codec, settings.applications_dir)
    if name == "history":
        embedded = settings.clickhouse_port and not settings.clickhouse_url
        served = (settings.clickhouse_dir, settings.clickhouse_port) if embedded else None
        return HistoryRole(lambda: open_history(settings), codec, served, make_auditing(settings, codec))
    if name == "assets":
        partitions = int(by_topic()["assets.changes.v1"].topic["partitions"])
        return AssetsRole(codec, partitions, read_apps(settings.apps_config))
    raise ValueError(f"no role {name!r}; there are {', '.join(ROLES)}")


def work(name: str, settings: Settings, supervised: bool) -> int:
    """Run one role in this process until SIGTERM or SIGINT; its exit status."""
    if supervised:
        end_with_stdin()

    async def main() -> int:
        role = make_role(name, settings)
        worker = Worker(settings, role, supervised)
        if isinstance(role, AssetsRole):
            role.declare(worker.app)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.stop)
        server = serve_metrics(settings, worker.health)
        try:
            status = await worker.run()
        finally:
            if server is not None:
                server.close()
        sys.stderr.flush()
        if status:  # a defect: no clean-up may commit anything
            os._exit(status)
        return status

    try:
        return asyncio.run(main())
    except (metrics.MetricsError, AppsConfigError) as error:
        sys.stderr.write(f"tidebook work {name}: {error}\n")
        return SETUP_EXIT


def serve_metrics(settings: Settings, health: metrics.Health) -> metrics.Server | None:
    """/metrics and /health of this process, where TIDEBOOK_METRICS_PORT is set. Raises MetricsError."""
    if not settings.metrics_port:
        return None
    return metrics.serve(settings.metrics_host, settings.metrics_port, health)


def quiet_clients() -> None:
    """What a client library says of a broker that is away is said by us, in one line."""
    for name in ("aiokafka", "kafka"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def end_with_stdin() -> None:
    """End this process at once when its stdin closes: the supervisor is gone."""

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
