"""The continuous audit inside the history role: what was committed since the last one, every few seconds.

A thread of its own with sessions of its own: one ClickHouse thread at low priority, no question longer than
QUESTION_S, no topic but the first begun after BUDGET_S. The next audit begins with the first topic that had to wait,
and looks at COMMITS commits of a partition at the most, so that no topic waits for another one's backlog. Ranges that
are sound are remembered in the table `audits`; every `whole_s` everything is looked at once more, for old rows can be
lost too. Findings become metrics and, with the role's next batch, alerts. An audit that can't be done is told on
stderr and tried again; it never stops the role.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from clickhouse_connect.driver.exceptions import ClickHouseError

from pipeline import metrics_audit
from pipeline.domain.audit import Result
from pipeline.domain.findings import alert
from schemas.codec import Codec
from schemas.loader import schemas
from sinks.audit_run import Asked, Told, run
from sinks.audit_sql import Audited, audited_tables
from sinks.audit_store import LOW, AuditStore, asking, audited_to, seals
from sinks.books import BooksError, BooksUnavailableError
from sinks.clickhouse_client import Place, QueryError
from topics.envelope import outgoing
from topics.producer import Outgoing

SETTLE_S: Final = 15.0  # refused messages have come back as rows of `quarantine` by then
QUESTION_S: Final = 60
BUDGET_S: Final = 120.0
COMMITS: Final = 2000
BREAK_S: Final = 5.0  # before it goes on with what it had to leave
STOP_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Every:
    """How often, in seconds; 0 = never."""

    new_s: float
    whole_s: float


class Auditing:
    """Starts with the role, stops with it."""

    def __init__(
        self, place: Place, codec: Codec, every: Every, open_books: Callable[[], Any] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        """`open_books`: to be read; it gives None where there are none."""
        self._place, self._codec, self._every, self._open_books = place, codec, every, open_books
        self._clock = clock
        self._store = AuditStore(place)
        self._tables: Mapping[str, Sequence[Audited]] = audited_tables(schemas())
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._alerts: list[Outgoing] = []
        self._told: set[str] = set()
        self._begin = {
            False: "",
            True: "",
        }  # topic that the next audit begins with, of what is new or of everything
        self._wrong: tuple[Result, ...] = ()  # of the last whole audit
        self._kept: list[tuple[str, str]] = []  # what is wrong, in the table, so that each stands there once
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)

    def start(self) -> None:
        """Begin, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """End after the question at hand."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(STOP_S)

    def alerts(self) -> list[Outgoing]:
        """What was found since the last call."""
        with self._lock:
            told, self._alerts = self._alerts, []
        return told

    def _run(self) -> None:
        whole_at = time.monotonic() + self._every.whole_s
        pause = self._every.new_s
        while not self._stop.wait(pause):
            pause = self._every.new_s
            whole = bool(self._every.whole_s) and time.monotonic() >= whole_at
            try:
                told = self.once(whole)
                if told.left and all(one.ok for one in told.results):  # else it would look at the same again
                    pause = min(BREAK_S, pause)
            except (QueryError, ClickHouseError, BooksError, OSError) as fault:
                line = str(fault).splitlines()[0]
                sys.stderr.write(f"tidebook work history: the audit can't be done now: {line}\n")
                sys.stderr.flush()
            if whole:
                whole_at = time.monotonic() + self._every.whole_s

    def once(self, whole: bool = False) -> Told:
        """One audit, of what is new or of everything. Raises QueryError, ClickHouseError, BooksError."""
        started = time.monotonic()
        self._store.open()
        with ExitStack() as stack:
            asked_of = stack.enter_context(asking(self._place, {**LOW, "max_execution_time": QUESTION_S}))

            def ask(sql: str) -> Iterator[dict[str, Any]]:
                if self._stop.is_set():
                    raise QueryError("the role ends")
                return asked_of(sql)

            books, no_books = self._books()
            if books is not None:
                stack.callback(books.close)
            after = {} if whole else audited_to(ask)
            asked = Asked(
                after=after,
                no_books=no_books,
                new=not whole,
                commits=0 if whole else COMMITS,
                begin=self._begin[whole],
                settle_s=SETTLE_S,
                until=started + BUDGET_S,
                stop=self._stop.is_set,
            )
            told = run(ask, self._tables, asked, books, seals(ask) if whole else {})
        if self._stop.is_set():
            return told
        self._begin[whole] = told.begin
        self._keep(told)
        self._wrong = tuple(told.findings) if whole else self._wrong
        every = [*told.results, *(() if whole else self._wrong)]
        metrics_audit.audited(every, time.monotonic() - started, self._clock())
        self._alert(told)
        return told

    def _books(self) -> tuple[Any, str]:
        """The books, or why they can't be asked. Raises BooksError for other faults."""
        try:
            return self._open_books() if self._open_books is not None else None, ""
        except BooksUnavailableError as fault:
            return None, str(fault)

    def _keep(self, told: Told) -> None:
        """What is wrong is kept once, though it is looked at again until it is mended; what is sound always."""
        wrong = [(one.check, one.name) for one in told.results if not one.ok]
        self._store.keep(told.of_sound() if wrong and wrong == self._kept else told)
        self._kept = wrong

    def _alert(self, told: Told) -> None:
        with self._lock:
            for one in told.findings:
                note = alert(
                    "audit_failed", "critical", "", f"{one.check} {one.epoch} {one.name}",
                    time=int(self._clock() * 1000), evidence=one.row(),
                )  # fmt: skip
                if note["id"] not in self._told:
                    self._told.add(note["id"])
                    self._alerts.append(outgoing(self._codec, "control.alerts.v1", note["rule"], note))
