"""The continuous audit inside the history role: what was committed since the last one, every few seconds.

A thread of its own with sessions of its own: one ClickHouse thread at low priority, no question longer than
QUESTION_S, no topic but the first begun after BUDGET_S. The next audit begins with the first topic that had to wait,
and looks at COMMITS commits of a partition at the most, so that no topic waits for another one's backlog. Ranges that
are sound are remembered in the table `audits`; every `whole_s` everything is looked at once more, in as many parts as
it takes, for old rows can be lost too. Findings become metrics, until what they are of is looked at again and is sound,
and, with the role's next batch, alerts. An audit that can't be done is told on stderr and tried again; it never stops
the role.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

from clickhouse_connect.driver.exceptions import ClickHouseError

from pipeline import metrics_audit
from pipeline.domain.audit import Result
from pipeline.domain.findings import alert
from schemas.codec import Codec
from schemas.loader import schemas
from sinks.audit import topics_of
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


@dataclass(slots=True)
class _Turn:
    """Where the audits of what is new, or those of everything, stand."""

    begin: str = ""  # topic that the next one begins with
    wrong: list[Result] = field(default_factory=list)  # or could not be looked at, until an audit looks again

    def told(self, told: Told) -> None:
        """The next audit has ended."""
        self.begin = told.begin
        self.mended(told)
        now = [one for one in told.results if not one.ok]
        again = {_key(one) for one in now}
        self.wrong = [one for one in self.wrong if _key(one) not in again] + now

    def mended(self, told: Told) -> None:
        """Forget what an audit has looked at."""
        self.wrong = [one for one in self.wrong if not told.looked_at(one)]


def _key(one: Result) -> tuple[str, str, str, bool | None]:
    return one.check, one.epoch, one.name, one.ok


def _held(wrong: Sequence[Result]) -> set[str]:
    """Topics whose position stays at a fault: so that what comes after is looked at too, their ranges are not cut.

    But where ClickHouse could not answer: there a range may have been too long.
    """
    unanswered = [one for one in wrong if one.ok is None and one.check != "legs"]
    held = {topic for one in wrong for topic in topics_of(one)}
    return held - {topic for one in unanswered for topic in topics_of(one)}


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
        self._new, self._whole = _Turn(), _Turn()
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
        pause, whole = self._every.new_s, False
        while not self._stop.wait(pause):
            pause = self._every.new_s
            # what is new has its turn between two parts of everything
            whole = bool(self._every.whole_s) and time.monotonic() >= whole_at and not whole
            try:
                told = self.once(whole)
                if told.left and all(one.ok for one in told.results):  # else it would look at the same again
                    pause = min(BREAK_S, pause)
            except (QueryError, ClickHouseError, BooksError, OSError) as fault:
                line = str(fault).splitlines()[0]
                sys.stderr.write(f"tidebook work history: the audit can't be done now: {line}\n")
                sys.stderr.flush()
            if whole and not self._whole.begin:
                whole_at = time.monotonic() + self._every.whole_s

    def once(self, whole: bool = False) -> Told:
        """One audit, of what is new or of everything. Raises QueryError, ClickHouseError, BooksError."""
        started, turn = time.monotonic(), self._whole if whole else self._new
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
            audited = audited_to(ask)
            asked = Asked(
                after={} if whole else audited,
                audited=audited,
                no_books=no_books,
                new=not whole,
                commits=0 if whole else COMMITS,
                uncut=_held(self._new.wrong),
                begin=turn.begin,
                settle_s=SETTLE_S,
                until=started + BUDGET_S,
                stop=self._stop.is_set,
            )
            told = run(ask, self._tables, asked, books, seals(ask) if whole else {})
        if self._stop.is_set():
            return told
        self._keep(told)
        turn.told(told)
        if whole:
            self._new.mended(told)
        metrics_audit.audited(self._standing(told), told.left, time.monotonic() - started, self._clock())
        self._alert(told)
        return told

    def _standing(self, told: Told) -> list[Result]:
        """What was told last, and what is wrong since earlier, each once."""
        every = list(told.results)
        for turn in (self._new, self._whole):
            there = {_key(one) for one in every}
            every += [one for one in turn.wrong if one.ok is False and _key(one) not in there]
        return every

    def _books(self) -> tuple[Any, str]:
        """The books, or why they can't be asked. Raises BooksError for other faults."""
        try:
            return self._open_books() if self._open_books is not None else None, ""
        except BooksUnavailableError as fault:
            return None, str(fault)

    def _keep(self, told: Told) -> None:
        """What is wrong is kept once, though it is looked at again until it is mended; what is sound always."""
        wrong = {_key(one) for one in told.results if not one.ok}
        kept = {_key(one) for one in (*self._new.wrong, *self._whole.wrong)}
        self._store.keep(told.of_sound() if wrong and wrong <= kept else told)

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
