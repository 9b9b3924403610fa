"""The clock: what is due and was refused is told anew, after growing pauses, as what is decided says."""

import asyncio
from itertools import pairwise

import pytest

from pipeline.api import known as known_module
from pipeline.api import publishing
from pipeline.api.clock import AGAIN_S, PAUSE_MS, PAUSE_MS_MAX, Clock, attempt_at, attempt_key
from pipeline.api.intake import Intake
from pipeline.api.shape import event_hash
from pipeline.domain.applications.event import AppTopic, AppType, Decision, table
from sinks.application_store import ApplicationStore, NewlyDecided, State
from tests.support.applications import codec

TOPIC = "assets.activity.v1"
ROW = AppTopic(
    TOPIC, "assets", "asset_id",
    table([AppType("GREET", "user_registered", lambda event, view: Decision(), None)]), id_prefix="led_",
)  # fmt: skip
DUE = 5_000_000
CODEC = codec()
KEY = f"user:a:{DUE}:GREET"


class Taken:
    """A broker that takes all."""

    async def start(self):
        pass

    async def stop(self):
        pass

    async def send_batch(self, messages, times_ms):
        return len(messages), -1  # no offsets


def event_id(attempt):
    return "led_" + event_hash(TOPIC, "clock", attempt_key(KEY, attempt))


@pytest.fixture
def scene(tmp_path, monkeypatch):
    """(run of a work over (intake, store)) with user a, something due of it."""
    monkeypatch.setattr(publishing, "Producer", lambda url: Taken())
    monkeypatch.setattr(known_module, "LOOK_AGAIN_S", 0.0)
    made = ApplicationStore(tmp_path / "applications" / f"{TOPIC}.db")
    state = {"due": {"at_ms": DUE, "type": "GREET", "data": {"addresses": []}}}
    made.commit([State("user", "a", 1, state, DUE)], [], {})

    def run(work):
        async def main():
            intake = Intake.of(
                (ROW,), tmp_path / "intake", tmp_path / "applications", CODEC, "broker:1", "e1"
            )
            await intake.start()
            try:
                return await work(intake)
            finally:
                await intake.close()

        return asyncio.run(main())

    yield run, made
    made.close()


def decide(made, attempt, applied, *states):
    made.commit(states, [NewlyDecided(event_id(attempt), b"", applied, ())], {})


def test_a_refused_event_is_told_anew_under_another_key_after_growing_pauses(scene):
    run, made = scene

    async def work(intake):
        clock, counts = Clock((ROW,), intake), []
        for attempt in (1, 2, 3, 4):
            at = attempt_at(DUE, attempt)
            counts.append([await clock.tick(at - 1), await clock.tick(at), await clock.tick(at)])
            other = Clock((ROW,), intake)  # one that remembers nothing tells the same
            await other.tick(at)
            decide(made, attempt, False)
        names = [intake.journal.find([event_id(n)]) for n in (1, 2, 3, 4, 5)]
        return counts, [bool(found) for found in names]

    counts, there = run(work)
    assert counts == [[0, 1, 0]] * 4
    assert there == [True, True, True, True, False]


def test_what_was_applied_is_over(scene):
    run, made = scene

    async def work(intake):
        clock = Clock((ROW,), intake)
        first = await clock.tick(DUE)
        decide(made, 1, True, State("user", "a", 2, {}, None))
        return first, await clock.tick(attempt_at(DUE, 9))

    assert run(work) == (1, 0)


def test_waiting_ones_hide_nothing(scene, monkeypatch):
    monkeypatch.setattr("pipeline.api.clock.AT_ONCE", 1)
    run, made = scene
    later = {"due": {"at_ms": DUE + 1, "type": "GREET", "data": {"addresses": []}}}

    async def work(intake):
        clock = Clock((ROW,), intake)
        await clock.tick(DUE)
        decide(made, 1, False, State("user", "b", 1, later, DUE + 1))
        return [await clock.tick(DUE + 2) for _ in range(3)]

    assert sum(run(work)) == 1


def test_pauses_grow_to_six_hours_and_no_further():
    times = [attempt_at(0, attempt) for attempt in range(1, 40)]
    pauses = [after - before for before, after in pairwise(times)]
    assert times[0] == 0 and pauses[:4] == [PAUSE_MS, 2 * PAUSE_MS, 4 * PAUSE_MS, 8 * PAUSE_MS]
    assert pauses == sorted(pauses) and max(pauses) == PAUSE_MS_MAX == pauses[-1]
    assert AGAIN_S * 1000 <= PAUSE_MS
