"""Applications' events in the books role: whatever dies in between, each has one outcome, told in the same words.

The events are those of the golden cases, so every type is among them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.agents import applications
from pipeline.agents.applications import Applications
from pipeline.agents.role import Done, Message
from pipeline.catalog import APPLICATIONS
from pipeline.domain.account import AccountCode, AccountRef, TransferCode
from pipeline.domain.applications.event import AppEvent, AppTopic, Change, Decision, Emit
from pipeline.domain.flows.events import FlowEvent, Kind, Leg
from sinks.application_store import ApplicationStore
from sinks.books import BooksUnavailableError
from sinks.embedded_books import connect
from sinks.offchain import OffchainBooks
from sinks.offchain_store import OffchainDefect
from tests.support.applications import codec, event_of, record_of
from topics.plan import MAX_MESSAGE_BYTES

GOLDEN = Path(__file__).parents[1] / "golden"
CODEC = codec()
EPOCH = "first"


class Killed(BaseException):
    """The process ends here."""


class Mortal:
    """An engine whose process is killed after so many transfers, in the middle of a request."""

    def __init__(self, engine: Any, transfers: int) -> None:
        self._engine, self._left = engine, transfers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def create_transfers_packed(self, events: bytes) -> bytes:
        count = len(events) // 128
        if count > self._left:
            self._engine.create_transfers_packed(events[: 128 * self._left])
            raise Killed
        self._left -= count
        return self._engine.create_transfers_packed(events)


class Role:
    """The applications' part of the role, and what it has published."""

    def __init__(self, row: AppTopic, folder: Path, engine: Any = None, epoch: str = EPOCH) -> None:
        self.engine = engine if engine is not None else connect(sync=False)
        self._row, self._folder, self._epoch = row, folder, epoch
        self.published: list[tuple[str, bytes | None, bytes]] = []
        self.part: Any = None
        self.begin()

    def begin(self, transfers: int = 1 << 60) -> dict[tuple[str, int], int]:
        """A new process; where it reads on."""
        if self.part is not None:
            self.part.close()
        mortal = Mortal(self.engine, transfers)
        self.part = Applications(APPLICATIONS, self._folder, CODEC, lambda: OffchainBooks(mortal, again=True))
        self.part.epochs = dict.fromkeys(self.part.topics, self._epoch)
        return self.part.assigned(self.part.topics)

    def take(self, batch: list[Message], killed: str = "") -> Done:
        done = self.part.process(batch[0].topic, batch)
        if killed == "published":
            raise Killed
        self.published += [(one.topic, one.key, one.value) for one in done.outgoing]
        if killed == "committed":
            raise Killed
        assert done.commit is not None
        done.commit()
        return done

    def end(self) -> None:
        self.part.close()


def messages(row: AppTopic, cases: Iterable[Path]) -> list[list[Message]]:
    """The messages of each case; their ids are the case's."""
    found = []
    for path in cases:
        case = orjson.loads(path.read_bytes())
        events = [
            event_of(row, {**told, "id": f"{place:032x}"}, "")
            for place, told in enumerate([*case.get("before", ()), case["event"]], 1)
        ]
        values = [CODEC.encode(row.topic, record_of(row, event)) for event in events]
        found.append(
            [Message(row.topic, 0, offset, 0, b"k", value, ()) for offset, value in enumerate(values)]
        )
    return found


def cases_of(row: AppTopic, first: int) -> list[list[Message]]:
    """Every fourth case: each needs a file that is fsynced at every step."""
    return messages(row, sorted((GOLDEN / row.domain).glob("*.json"))[first::4])


def told_by(role: Role) -> list[tuple[str, bytes | None, bytes]]:
    """What was published, each message once, in the order in which it came first."""
    return list(dict.fromkeys(role.published))


def plain(told: list[tuple[str, bytes | None, bytes]]) -> list[Any]:
    """The same, each once, without the engines' own clocks, which differ between stores, and without the books'
    reasons: of what they refused to a process that was killed before it wrote that down, they only know that they did.
    """
    found = []
    for topic, key, value in told:
        record = CODEC.decode(value)[1]
        for transfer in record.get("transfers", ()):
            transfer["timestamp"] = 0
            if transfer["status"] == "refused":
                transfer["reason"] = ""
        if record.get("status") == "refused" or record.get("rule") == "event_refused":
            record = {name: record[name] for name in ("id", "event_id", "status", "rule") if name in record}
        found.append((topic, key, record))
    return [one for place, one in enumerate(found) if one not in found[:place]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No power is cut here: files need not reach the disk."""
    monkeypatch.setattr(applications, "ApplicationStore", partial(ApplicationStore, synchronous="OFF"))


@pytest.fixture(params=APPLICATIONS, ids=lambda row: row.domain)
def row(request: pytest.FixtureRequest) -> AppTopic:
    return request.param


def one_by_one(row: AppTopic, folder: Path, case: list[Message]) -> Role:
    role = Role(row, folder)
    for message in case:
        role.take([message])
    return role


def test_killed_anywhere_the_outcome_is_the_same(row: AppTopic, tmp_path: Path) -> None:
    """SIGKILL in the engine's request, before publishing, before the commit: then everything unread comes again."""
    chance = random.Random(f"{row.domain} 7")
    for number, case in enumerate(cases_of(row, 0)):
        expected = one_by_one(row, tmp_path / f"{number}-whole", case)
        role = Role(row, tmp_path / f"{number}-killed")
        lives = 40
        while True:
            lives -= 1
            start = role.begin(chance.randrange(0, 6) if lives > 0 else 1 << 60)[row.topic, 0]
            try:
                while start < len(case):
                    size = chance.randrange(1, 5)
                    kill = chance.choice(("", "", "published", "committed")) if lives > 0 else ""
                    role.take(case[start : start + size], kill)
                    start += size
                break
            except Killed:
                continue
        assert plain(told_by(role)) == plain(told_by(expected)), (row.domain, number)
        role.end()
        expected.end()


def test_told_again_by_a_broker_that_has_forgotten_everything_it_says_the_same_words(
    row: AppTopic, tmp_path: Path
) -> None:
    for number, case in enumerate(cases_of(row, 1)):
        role = Role(row, tmp_path / str(number))
        role.take(case)
        first = list(role.published)
        role.end()
        again = Role(row, tmp_path / str(number), role.engine, epoch="second")
        assert again.begin()[row.topic, 0] == 0
        again.take(
            [replace(one, offset=n) for n, one in enumerate(case[::-1])]
        )  # in another order: decided is decided
        assert sorted(again.published, key=repr) == sorted(first, key=repr)
        again.end()


def test_on_another_host_the_fold_comes_to_the_same(row: AppTopic, tmp_path: Path) -> None:
    """Without the file of states: everything is read from the beginning, and the books give the same answers."""
    for number, case in enumerate(cases_of(row, 2)):
        role = Role(row, tmp_path / f"{number}-here")
        role.take(case)
        role.end()
        other = Role(row, tmp_path / f"{number}-there", role.engine)
        for message in case:
            other.take([message])
        assert sorted(plain(told_by(other)), key=repr) == sorted(plain(told_by(role)), key=repr), (
            row.domain,
            number,
        )
        other.end()


def test_the_same_event_twice_is_one_and_another_under_its_id_is_told(tmp_path: Path) -> None:
    row = next(row for row in APPLICATIONS if row.domain == "assets")
    said = {"type": "USER_REGISTERED", "key": "ada", "data": {"addresses": []}, "id": "1" * 32}
    other = {**said, "key": "eve"}

    def message(told: dict[str, Any], offset: int, recorded_ms: int) -> Message:
        record = {**record_of(row, event_of(row, told, "")), "recorded_at": recorded_ms}
        return Message(row.topic, 0, offset, 0, b"k", CODEC.encode(row.topic, record), ())

    role = Role(row, tmp_path)
    role.take([message(said, 0, 1), message(said, 1, 2)])
    role.take([message(said, 2, 3), message(other, 3, 4)])
    topics = [topic for topic, *_ in role.published]
    assert topics.count("control.alerts.v1") == 1
    assert CODEC.decode(role.published[-1][2])[1]["rule"] == "event_reused"
    outcomes = {value for topic, _, value in role.published if topic == "applications.outcomes.v1"}
    assert len(outcomes) == 1
    role.end()


def test_what_can_not_be_read_or_has_no_rule_is_quarantined_and_the_stream_goes_on(
    tmp_path: Path,
) -> None:
    row = next(row for row in APPLICATIONS if row.domain == "assets")

    def record(key: str, **more: Any) -> dict[str, Any]:
        told = event_of(row, {"type": "USER_REGISTERED", "key": key, "data": {"addresses": []}}, "")
        return {**record_of(row, told), **more}

    values = [
        CODEC.encode(row.topic, record("a", type="OF_A_LATER_RELEASE")),
        CODEC.encode(row.topic, record("b"))[:-1],
        b"\x01not avro",
        CODEC.encode(row.topic, record("c", user_registered=None)),
        CODEC.encode(row.topic, record("defect")),
        CODEC.encode(row.topic, record("d")),
    ]
    rule: Callable[..., Any] = row.types["USER_REGISTERED"].rule

    def defective(event: Any, view: Any) -> Any:
        if event.key == "defect":
            raise ZeroDivisionError("a defect")
        return rule(event, view)

    broken = {**row.types, "USER_REGISTERED": _with_rule(row.types["USER_REGISTERED"], defective)}
    role = Role(row, tmp_path)
    role.part._rows[row.topic] = AppTopic(row.topic, row.domain, row.key, broken, row.id_prefix)
    done = role.take([Message(row.topic, 0, n, 0, b"k", value, ()) for n, value in enumerate(values)])
    items = [CODEC.decode(value)[1] for topic, _, value in role.published if topic == "quarantine.v1"]
    assert [(one["source_offset"], one["reason"]) for one in items] == [
        (0, "unknown_type"),
        (1, "truncated"),
        (2, "bad_magic"),
        (3, "missing"),
        (4, "rule_failed"),
    ]
    assert [one["value"] for one in items] == values[:5]
    assert done.counts == {"events": 1, "refused": 0}
    role.end()


def _with_rule(kind: Any, rule: Callable[..., Any]) -> Any:
    return type(kind)(kind.name, kind.payload, rule, kind.check, kind.service)


ASSETS = next(row for row in APPLICATIONS if row.domain == "assets")
OPENS = AccountRef("offchain/token:TOY", int(AccountCode.USER), "u")
TREASURY = AccountRef("offchain/token:TOY", int(AccountCode.TREASURY), "")


def said(key: str, id: int, offset: int, *, at: int = 5, recorded: int = 9) -> Message:
    told = {
        "type": "USER_REGISTERED",
        "key": key,
        "at": at,
        "data": {"addresses": []},
        "id": f"{id:032x}",
    }
    record = {**record_of(ASSETS, event_of(ASSETS, told, "")), "recorded_at": recorded}
    return Message(ASSETS.topic, 0, offset, 0, b"k", CODEC.encode(ASSETS.topic, record), ())


def paid(event: AppEvent, view: Any, **more: Any) -> Decision:
    """A rule that moves money and counts."""
    leg = Leg(TREASURY, OPENS, 1, int(TransferCode.PAYMENT))
    held = view.get("user", event.key) or {"paid": 0}
    flow = FlowEvent(kind=Kind.POST, name=event.name, time_ms=event.at_ms, legs=(leg,))
    made = Change("user", event.key, {"paid": held["paid"] + 1, **more})
    return Decision([made], flow=flow, opens=(OPENS,))


def broken_emit(event: AppEvent, view: Any) -> Decision:
    decision = paid(event, view)
    decision.emits.append(Emit("assets.changes.v1", "k", {"asset": 5}))
    return decision


BROKEN: dict[str, tuple[Callable[..., Any], str]] = {
    "a message that its schema refuses": (broken_emit, "rule_failed"),
    "a state that JSON can not hold": (partial(paid, x=1 << 70), "rule_failed"),
    "a state with an object": (partial(paid, x=object()), "rule_failed"),
    "a due time that is none": (partial(paid, due={"at_ms": "soon"}), "rule_failed"),
    "a due time beyond 64 bits": (partial(paid, due={"at_ms": 1 << 63}), "rule_failed"),
    "a state that no message holds": (partial(paid, x="y" * 1_000_000), "too_large"),
}


@pytest.mark.parametrize(("rule", "reason"), BROKEN.values(), ids=BROKEN)
def test_what_can_not_be_told_moves_no_money_and_stops_nobody(
    tmp_path: Path, rule: Callable[..., Any], reason: str
) -> None:
    kind = ASSETS.types["USER_REGISTERED"]
    role = Role(ASSETS, tmp_path)

    def either(event: AppEvent, view: Any) -> Decision:
        return rule(event, view) if event.key == "broken" else paid(event, view)

    types = {**ASSETS.types, "USER_REGISTERED": _with_rule(kind, either)}
    role.part._rows[ASSETS.topic] = AppTopic(ASSETS.topic, "assets", ASSETS.key, types)
    role.take([said("a", 1, 0), said("broken", 2, 1), said("b", 3, 2)])
    records = [(topic, CODEC.decode(value)[1]) for topic, _, value in role.published]
    items = [one["reason"] for topic, one in records if topic == "quarantine.v1"]
    refused = [one["reason"] for _, one in records if one.get("status") == "refused"]
    assert [*items, *refused] == [reason]
    books = OffchainBooks(role.engine)
    row = books.store.accounts([OPENS])[OPENS]
    assert row is not None and row.credits_posted == 2
    assert role.part._stores[ASSETS.topic].get("user", "broken") is None
    assert all(len(value) < MAX_MESSAGE_BYTES for _, _, value in role.published)
    role.end()


def test_a_defect_of_the_books_stops_its_topic_and_nothing_else(tmp_path: Path) -> None:
    role = Role(ASSETS, tmp_path)
    kind = ASSETS.types["USER_REGISTERED"]
    types = {**ASSETS.types, "USER_REGISTERED": _with_rule(kind, paid)}
    role.part._rows[ASSETS.topic] = AppTopic(ASSETS.topic, "assets", ASSETS.key, types)

    def defective(flows: Any, opens: Any) -> Any:
        raise OffchainDefect("debits exceed credits")

    role.part._post, sound = defective, role.part._post
    done = role.part.process(ASSETS.topic, [said("a", 1, 0), said("b", 2, 1)])
    assert done.commit is None and done.stops == {
        0: (0, f"{ASSETS.topic}: stops before offset 0: OffchainDefect: debits exceed credits")
    }
    assert [CODEC.decode(one.value)[1]["rule"] for one in done.outgoing] == ["application_stopped"]

    def away(flows: Any, opens: Any) -> Any:
        raise BooksUnavailableError("away")

    role.part._post = away
    with pytest.raises(BooksUnavailableError):  # the process starts again until they are back
        role.part.process(ASSETS.topic, [said("a", 1, 0)])
    role.part._post = sound
    assert role.take([said("a", 1, 0), said("b", 2, 1)]).counts == {"events": 2, "refused": 0}
    role.end()


def test_a_hole_in_the_topic_stops_it(tmp_path: Path) -> None:
    role = Role(ASSETS, tmp_path)
    assert role.part.process(ASSETS.topic, [said("a", 1, 3)]).stops[0][0] == 3
    role.take([said("a", 1, 0)])
    done = role.part.process(ASSETS.topic, [said("c", 3, 2)])
    assert done.commit is None and "offset 2 comes where 1 is to come" in done.stops[0][1]
    role.take([said("a", 1, 0), said("b", 2, 1), said("c", 3, 2)])  # what was read before is left out
    role.end()


def test_told_twice_in_one_life_an_old_state_does_not_come_after_a_newer_one(tmp_path: Path) -> None:
    kind = ASSETS.types["USER_REGISTERED"]
    types = {**ASSETS.types, "USER_REGISTERED": _with_rule(kind, paid)}
    engine = connect(sync=False)
    for epoch in ("first", "second"):
        role = Role(ASSETS, tmp_path, engine, epoch)
        role.part._rows[ASSETS.topic] = AppTopic(ASSETS.topic, "assets", ASSETS.key, types)
        role.take([said("a", 1, 0), said("a", 2, 1), said("a", 1, 2)])
        role.take([said("a", 1, 3)])
        states = [
            CODEC.decode(value)[1]["version"] for topic, _, value in role.published if "states" in topic
        ]
        assert states == [1, 2]
        role.end()


def test_without_a_time_it_is_the_same_event_at_another_host_s_intake(tmp_path: Path) -> None:
    role = Role(ASSETS, tmp_path)
    role.take([said("a", 1, 0, at=100, recorded=100), said("a", 1, 1, at=250, recorded=250)])
    role.take([said("a", 1, 2, at=300, recorded=300), said("a", 1, 3, at=300, recorded=301)])
    rules = [CODEC.decode(value)[1].get("rule") for _, _, value in role.published]
    assert rules.count("event_reused") == 1, "one that says when it was is another"
    role.end()


def test_two_workers_that_exchange_topics_wait_for_each_other(tmp_path: Path) -> None:
    first = Applications(APPLICATIONS, tmp_path, CODEC, lambda: pytest.fail("no money"))
    second = Applications(APPLICATIONS, tmp_path, CODEC, lambda: pytest.fail("no money"))
    topics = [row.topic for row in APPLICATIONS]
    for part in (first, second):
        part.epochs = dict.fromkeys(topics, EPOCH)
    first.assigned(topics[:2])
    second.assigned(topics[2:])
    with ThreadPoolExecutor(2) as threads:
        waits = [threads.submit(first.assigned, topics[2:]), threads.submit(second.assigned, topics[:2])]
        assert [len(wait.result(10)) for wait in waits] == [2, 2]
    first.close()
    second.close()


def test_a_worker_that_does_not_let_go_is_waited_for_and_then_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applications, "STORE_WAIT_S", 0.2)
    role = Role(ASSETS, tmp_path)
    other = Applications(APPLICATIONS, tmp_path, CODEC, lambda: pytest.fail("no money"))
    other.epochs = role.part.epochs
    with pytest.raises(BooksUnavailableError, match=r"assets\.activity\.v1\.db is in use"):
        other.assigned([ASSETS.topic])
    role.end()
