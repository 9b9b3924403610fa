"""Time comes in as events: a state's `due` (pipeline.domain.applications.event.DUE) is sent when its time has come.

A state keeps its `due` until the fold has applied what it says; until then the same event is sent again, which changes
nothing: its idempotency key is made of the state and the time. So any number of clocks may run, and none needs memory.
What the fold has decided and the state still asks for (the books refused it: its user is frozen) is told anew as
attempt #2, #3 …, each a while after the one before. Which attempt is next follows from what is decided, and when from
the time that was due: every clock comes to the same.
Where the states' files are not on this host there is nothing to read: the clock runs beside the books role.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from pipeline.api.client import SERVICE, Client
from pipeline.api.intake import Intake
from pipeline.api.shape import Item, event_hash
from pipeline.domain.applications.event import DUE, AppTopic
from sinks.application_store import ApplicationReader

EVERY_S: Final = 1.0
AT_ONCE: Final = 1000  # new ones of a topic, a tick
AGAIN_S: Final = 60.0  # until what was answered is asked again: a refusal may have lost its reason
PAUSE_MS: Final = 60_000  # between the first attempt and the second; then twice as long each time
PAUSE_MS_MAX: Final = 6 * 3_600_000
CLOCK: Final = Client("clock", "", frozenset({SERVICE}))

log = logging.getLogger(__name__)
_State = tuple[str, str, dict[str, Any]]  # kind, id, state


class _Due(NamedTuple):
    """An event whose time has come."""

    key: str  # idempotency key
    body: dict[str, Any]


def attempt_at(due_ms: int, attempt: int) -> int:
    """When an attempt (from 1) may be told of what was due at `due_ms`: after 1, 3, 7 … minutes, then every 6 hours."""
    doubled = min(attempt - 1, (PAUSE_MS_MAX // PAUSE_MS).bit_length())
    return due_ms + PAUSE_MS * ((1 << doubled) - 1) + PAUSE_MS_MAX * (attempt - 1 - doubled)


def attempt_key(key: str, attempt: int) -> str:
    """Idempotency key of an attempt; the first one's is the due event's own."""
    return key if attempt == 1 else f"{key}#{attempt}"


class Clock:
    """The clock of one intake."""

    def __init__(self, rows: Iterable[AppTopic], intake: Intake) -> None:
        self._intake = intake
        self._rows = tuple(rows)
        self._told: dict[str, dict[str, float]] = {row.topic: {} for row in self._rows}  # key → when
        self._attempts: dict[str, dict[str, int]] = {
            row.topic: {} for row in self._rows
        }  # only saves looking

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self.tick(time.time_ns() // 1_000_000)
            except Exception:  # one bad state must not stop all time
                log.exception("clock")
            await asyncio.sleep(EVERY_S)

    async def tick(self, now_ms: int) -> int:
        """Send what is due at `now_ms` and was not sent lately; how many were accepted."""
        accepted = 0
        for row in self._rows:
            due = self._due(row, now_ms)
            answers = await self._intake.submit(row, CLOCK, [Item(one.body, one.key, "clock") for one in due])
            for one, answer in zip(due, answers, strict=True):
                accepted += answer.status == 202
                if answer.status < 500:
                    self._told[row.topic][one.key] = time.monotonic()
                if answer.status not in (202, 503):
                    log.warning("%s is due and refused: %s", one.key, answer.body["error"]["detail"])
        return accepted

    def _due(self, row: AppTopic, now_ms: int) -> list[_Due]:
        told, now = self._told[row.topic], time.monotonic()
        reader = self._intake.known.reader(row.topic)
        if reader is None:
            return []
        try:  # those that were sent and not applied yet, or wait, must not hide the ones behind them
            states = reader.due(now_ms, AT_ONCE + len(told | self._attempts[row.topic]))
            due = self._open(row, reader, states, now_ms)
        except sqlite3.Error as error:
            log.warning("what is due of %s can't be read: %s", row.topic, error)
            return []
        still = {one.key for one in due}
        self._told[row.topic] = {key: at for key, at in told.items() if key in still and now - at < AGAIN_S}
        return [one for one in due if one.key not in self._told[row.topic]]

    def _open(
        self, row: AppTopic, reader: ApplicationReader, states: Iterable[_State], now_ms: int
    ) -> list[_Due]:
        """The attempt that is next of each due event, where its time has come too."""
        before, found = self._attempts[row.topic], list[_Due]()
        after: dict[str, int] = {}
        for kind, id, state in states:
            due = _event(row, kind, id, state)
            first = attempt = before.get(due.key, 1)
            while reader.decided(_event_id(row, attempt_key(due.key, attempt))) is not None:
                attempt += 1
            if attempt != first and (reader.get(kind, id) or {}).get(DUE) != state[DUE]:
                continue  # applied since the state was read
            if attempt > 1:
                after[due.key] = attempt
            if now_ms >= attempt_at(state[DUE]["at_ms"], attempt):
                found.append(_Due(attempt_key(due.key, attempt), due.body))
        self._attempts[row.topic] = after
        return found


def _event_id(row: AppTopic, key: str) -> str:
    return row.id_prefix + event_hash(row.topic, CLOCK.id, key)


def _event(row: AppTopic, kind: str, id: str, state: dict[str, Any]) -> _Due:
    due = state[DUE]
    body = {
        "type": due["type"],
        row.key: due.get("key", id),
        "at": due["at_ms"],
        "data": due.get("data") or {},
    }
    return _Due(f"{kind}:{id}:{due['at_ms']}:{due['type']}", body)
