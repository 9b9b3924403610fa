"""`tidebook audit`: opens what there is to ask, runs one audit, shows it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from clickhouse_connect.driver.exceptions import ClickHouseError
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from pipeline.app import books_to_read, open_books
from pipeline.domain.audit import CHECKS, Result
from pipeline.running import running
from pipeline.settings import Settings
from schemas.loader import schemas
from sinks.audit import Ask
from sinks.audit_run import Asked, Told, run
from sinks.audit_sql import audited_tables
from sinks.audit_store import WIDE, AuditStore, asking, audited_to, seals
from sinks.books import BooksError
from sinks.clickhouse_client import DirectoryInUse, Place, QueryError, Reading

LIVE_SETTLE_S: Final = 5.0  # of what is being written, younger commits are left out
SHOWN: Final = 40
_RANGE_CHECKS: Final = ("offsets", "rows", "twice", "seal", "quarantine")


@dataclass(frozen=True, slots=True)
class _Stores:
    """What can be asked, and where results can be kept."""

    ask: Ask
    store: AuditStore | None
    books: Any
    why_no_books: str
    live: bool


def run_audit(settings: Settings, topic: str, chain: str, since: str, full: bool, as_json: bool) -> int:
    """The command; its exit status."""
    tables = audited_tables(schemas())
    if topic and topic not in tables:
        return _wrong(f"--topic {topic}: no topic of the history; there are {', '.join(sorted(tables))}", 2)
    if topic and chain:
        return _wrong("--topic and --chain: one of them", 2)
    try:
        begin = _time(since)
    except ValueError:
        return _wrong(f"--since {since}: no time in ISO 8601, e.g. 2026-11-21T06:00Z", 2)
    if not settings.clickhouse_url and not settings.clickhouse_dir.exists():
        return _wrong(f"there is no history in {settings.data_dir}: name the directory with --data-dir", 2)
    try:
        with _stores(settings) as stores:
            if chain and not _known(stores.ask, chain):
                return _wrong(f"--chain {chain}: no block of it is in the history", 2)
            settle_s = LIVE_SETTLE_S if stores.live else 0.0
            sealed, audited = _earlier(stores.ask)
            asked = Asked(topic, chain, begin, full, settle_s=settle_s, audited=audited)
            told = run(stores.ask, tables, asked, stores.books, sealed)
            if stores.store is not None:
                stores.store.keep(told)
    except (DirectoryInUse, QueryError, ClickHouseError) as error:
        return _wrong(str(error).splitlines()[0], 1)
    _show_json(told) if as_json else _show(told, stores.why_no_books)
    return 1 if told.findings else 0


def _time(since: str) -> str:
    if not since:
        return ""
    at = datetime.fromisoformat(since)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def _known(ask: Ask, chain: str) -> bool:
    return any(
        str(row["chain"]) == chain
        for row in ask(
            "SELECT DISTINCT chain FROM xrpl_ledgers UNION DISTINCT SELECT DISTINCT chain FROM evm_blocks"
        )
    )


def _earlier(ask: Ask) -> tuple[Any, Any]:
    """What earlier audits keep: digests, and how far each partition was sound."""
    there = list(
        ask("SELECT 1 AS n FROM system.tables WHERE database = currentDatabase() AND name = 'audits'")
    )
    return (seals(ask), audited_to(ask)) if there else ({}, {})


@contextmanager
def _stores(settings: Settings) -> Iterator[_Stores]:
    """Raises DirectoryInUse, ClickHouseError."""
    up = running(settings.data_dir)
    with ExitStack() as stack:
        books, why = _books(settings, up is not None)
        if books is not None:
            stack.callback(books.close)
        if up is not None and not settings.clickhouse_url and up.get("clickhouse_url"):
            reading = Reading(str(up["clickhouse_url"]), WIDE)
            yield _Stores(reading.query, None, books, why, True)
            return
        embedded = not settings.clickhouse_url
        place = Place(path=settings.clickhouse_dir) if embedded else Place(url=settings.clickhouse_url)
        lock = place.lock("audit")
        if lock is not None:
            stack.callback(lock.release)
        store = AuditStore(place)
        store.open()
        yield _Stores(stack.enter_context(asking(place, WIDE)), store, books, why, not embedded)


def _books(settings: Settings, live: bool) -> tuple[Any, str]:
    """The books, or why they can't be asked."""
    if not settings.tigerbeetle_addresses and not settings.books_dir.exists():
        return None, f"there are no books in {settings.data_dir}"
    try:
        return books_to_read(settings) if live else open_books(settings), ""
    except BooksError as error:
        return None, str(error)


def _show_json(told: Told) -> None:
    for one in told.results:
        line = {**one.row(), "evidence": one.evidence}
        sys.stdout.buffer.write(orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


def _show(told: Told, why_no_books: str) -> None:
    console = Console()
    console.print(_ranges(told))
    console.print(_others(told))
    _show_unlooked(console, told, why_no_books)
    wrong = told.findings
    for one in wrong[:SHOWN]:
        console.print(f"[bold red]{one.check}[/] [red]{escape(one.name)}[/]: {escape(_why(one))}")
    if len(wrong) > SHOWN:
        console.print(f"[red]… and {len(wrong) - SHOWN} more: --json has all[/]")
    for check in dict.fromkeys(one.check for one in wrong):
        console.print(f"  {check}: {CHECKS[check].demands}. To do: {CHECKS[check].mend}.")
    if not wrong:
        console.print(f"[green]✓[/] {len(told.results)} results, nothing is wrong")


def _show_unlooked(console: Console, told: Told, why_no_books: str) -> None:
    """One line per check and reason, with the first scope."""
    names: dict[tuple[str, str], list[str]] = {}
    for one in told.results:
        if one.ok is None:
            why = why_no_books if one.check == "accounts" else ""
            names.setdefault((one.check, why or str(one.evidence.get("why", ""))), []).append(one.name)
    for (check, why), (first, *others) in names.items():
        more = f" and {len(others)} more" if others else ""
        console.print(f"[yellow]not looked at[/] {check} {escape(first)}{more}: {escape(why)}")


def _why(one: Result) -> str:
    facts = {
        name: value
        for name, value in one.evidence.items()
        if name in ("what", "offsets", "hash", "account", "asset")
    }
    epoch = f", epoch {one.epoch}" if one.epoch else ""
    return f"expected {one.expected}, found {one.found}{epoch}{f' {facts}' if facts else ''}"


def _ranges(told: Told) -> Table:
    """One row per topic and partition, its epochs together."""
    named = Column("topic", overflow="fold")
    table = Table(named, "part", Column("from-to", overflow="fold"), *_RANGE_CHECKS)
    places = dict.fromkeys((one.topic, one.partition) for one in told.ranges)
    for topic, partition in places:
        mine = [one for one in told.ranges if (one.topic, one.partition) == (topic, partition)]
        marks = [
            _mark(
                [r for r in told.results if r.check == check and r.partition == partition and _of(r, topic)]
            )
            for check in _RANGE_CHECKS
        ]
        table.add_row(topic, str(partition), ", ".join(f"{one.first}-{one.last}" for one in mine), *marks)
    return table


def _of(one: Result, topic: str) -> bool:
    return one.scope.partition(" → ")[0] == topic


def _others(told: Told) -> Table:
    """One row per chain, roll-up and store, with what was looked at."""
    table = Table("check", "of", "", "looked at")
    for one in told.results:
        if one.check not in _RANGE_CHECKS and one.ok:
            table.add_row(one.check, escape(one.name), "[green]✓[/]", escape(one.found))
    return table


def _mark(results: list[Result]) -> str:
    wrong = sum(one.ok is False for one in results)
    return f"[bold red]✗ {wrong}[/]" if wrong else "[green]✓[/]"


def _wrong(message: str, status: int) -> int:
    sys.stderr.write(f"tidebook audit: {message}\n")
    return status
