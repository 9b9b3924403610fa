"""A role whose store is away: its batch is tried again while it is ours, nothing more is taken meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.agents.role import StoreAway
from pipeline.agents.runtime import AWAY_SAY_S, AWAY_WAIT_S, Abandoned, Worker

HOUR = 3600.0


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now, self.then = 0.0, lambda now: None

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.then(self.now)


class Patience(Worker):
    """A worker without Kafka."""

    def __init__(self, clock: Clock) -> None:
        self.role: Any = SimpleNamespace(name="history")
        self._stop, self._away, self.said = asyncio.Event(), "", []
        self._clock, self._sleep = lambda: clock.now, clock.sleep
        self.ours = True

    def _is_ours(self, message: Any) -> bool:
        return self.ours

    def _say(self, line: str) -> None:
        self.said.append(line)


def _away_until(clock: Clock, end: float) -> tuple[list[float], Callable[[], Awaitable[str]]]:
    tries: list[float] = []

    async def effect() -> str:
        tries.append(clock.now)
        if clock.now < end:
            raise StoreAway("ClickHouse: Connection refused")
        return "done"

    return tries, effect


EVENTS = [SimpleNamespace(message=None)]


def test_a_store_away_for_an_hour_is_asked_again_ever_more_seldom() -> None:
    clock = Clock()
    worker = Patience(clock)
    tries, effect = _away_until(clock, HOUR)
    assert asyncio.run(worker._patiently(EVENTS, effect)) == "done"
    waits = [after - before for before, after in pairwise(tries)]
    assert waits[:3] == [0.5, 1.0, 2.0] and max(waits) == waits[-1] == AWAY_WAIT_S[1]
    assert HOUR <= clock.now <= HOUR + AWAY_WAIT_S[1]
    assert len(worker.said) <= HOUR / AWAY_SAY_S + 2 and "is back after 36" in worker.said[-1]
    assert "nothing is lost: ClickHouse: Connection refused" in worker.said[0] and not worker._away


@pytest.mark.parametrize("ending", ["stop", "revoked"])
def test_a_batch_that_is_no_more_ours_is_let_go_within_a_second(ending: str) -> None:
    clock = Clock()
    worker = Patience(clock)
    tries, effect = _away_until(clock, HOUR)

    def then(now: float) -> None:
        if now >= 100:
            worker.ours = ending != "revoked"
            if ending == "stop":
                worker._stop.set()

    clock.then = then
    with pytest.raises(Abandoned):
        asyncio.run(worker._patiently(EVENTS, effect))
    assert clock.now <= 101 and len(tries) < 12


def test_a_defect_is_not_tried_again() -> None:
    async def effect() -> None:
        raise KeyError("defect")

    with pytest.raises(KeyError):
        asyncio.run(Patience(Clock())._patiently(EVENTS, effect))
