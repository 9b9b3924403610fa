"""The intake over a broker in memory: one event per key, refusals that name the field, what is known, time."""

import asyncio
import itertools
import random
import time
from contextlib import asynccontextmanager

import pytest

from pipeline.api import known as known_module
from pipeline.api import publishing
from pipeline.api.client import SERVICE, Client
from pipeline.api.clock import Clock
from pipeline.api.intake import Intake
from pipeline.api.routes_events import Fate, Fates
from pipeline.api.shape import EVENT_BYTES_MAX, Item, event_hash
from pipeline.domain.applications.entry import new_id
from pipeline.domain.applications.event import (
    AppEvent,
    AppTopic,
    AppType,
    Change,
    Decision,
    Refusal,
    one,
    table,
)
from pipeline.domain.applications.fold import Overlay, judge
from schemas.json_form import FieldFault, parse_json
from sinks.application_store import ApplicationStore, NewlyDecided, State
from tests.support.applications import codec
from topics.broker import BrokerError

TOPIC = "assets.activity.v1"
CODEC = codec()
ALICE = Client("app-1", "alice", frozenset({"assets:write"}))
APP = Client("app-2", "", frozenset({SERVICE}))


def register(event, view):
    """A user is there from now on."""
    if view.get("user", event.key) is not None:
        raise Refusal("already_registered", "asset_id", "there already")
    return Decision([Change("user", event.key, {"addresses": []})])


def greet(event, view):
    """A user greets others: all must be there; the greeter's state changes."""
    found = one(view, "user", event.key, "asset_id")
    for name in event.data["addresses"]:
        one(view, "user", name, "data.addresses")
    return Decision([Change("user", event.key, {**found, "greeted": True})])


def three(event):
    """A check: no more than three."""
    if len(event.data["addresses"]) > 3:
        raise Refusal("too_many", "data.addresses", "three are the most")


def broken(event, view):
    """A rule with a defect."""
    raise ZeroDivisionError


ROW = AppTopic(
    TOPIC, "assets", "asset_id",
    table([
        AppType("REGISTER", "user_registered", register, service=True),
        AppType("GREET", "user_registered", greet, three),
        AppType("SHARE", "user_registered", lambda event, view: Decision(), three),
        AppType("BROKEN", "user_registered", broken),
        AppType("ENTER", "user_registered", register, three, entry=new_id("asset_id")),
    ]),
)  # fmt: skip


class Broker:
    """Kafka as the publisher sees it. `refuse`: how many sends fail, `cut`: after how many messages each ends."""

    def __init__(self):
        self.messages, self.refuse, self.cut, self.lost = [], 0, 1000, 0
        self.sends, self.fail_every = 0, 0

    def producer(self, url):
        """A Producer of it."""
        return self

    async def start(self):
        if self.refuse > 0:
            self.refuse -= 1
            raise BrokerError("broker:1", "away")

    async def stop(self):
        pass

    async def send_batch(self, messages, times_ms):
        await asyncio.sleep(0)
        self.sends += 1
        if self.fail_every and self.sends % self.fail_every == 0:
            self.refuse = 2
        if self.refuse > 0:
            self.refuse -= 1
            self.messages += messages[: self.lost]  # taken, and the answer lost
            raise BrokerError("broker:1", "away")
        first = len(self.messages)
        self.messages += messages[: self.cut]
        return min(len(messages), self.cut), first

    @property
    def events(self):
        """The records."""
        return [CODEC.decode(message.value, TOPIC)[1] for message in self.messages]


@pytest.fixture
def broker(monkeypatch):
    made = Broker()
    monkeypatch.setattr(publishing, "Producer", made.producer)
    monkeypatch.setattr(publishing, "RETRY_S", (0.01,))
    monkeypatch.setattr(known_module, "LOOK_AGAIN_S", 0.0)
    return made


@asynccontextmanager
async def opened(folder, epoch="e1", patience_s=60.0):
    intake = Intake.of((ROW,), folder / "intake", folder / "applications", CODEC, "broker:1", epoch)
    intake._patience_s = patience_s
    await intake.start()
    try:
        yield intake
    finally:
        await intake.close()


def body(key="bob", type="SHARE", **more):
    """An event as it is sent."""
    return {"type": type, "asset_id": key, "data": {"addresses": []}, **more}


def run(folder, work, **options):
    """`work` with an intake over `folder`."""

    async def main():
        async with opened(folder, **options) as intake:
            return await work(intake)

    return asyncio.run(main())


async def send(intake, *bodies, client=APP):
    return await intake.submit(ROW, client, [Item(one) for one in bodies])


async def messages_are(broker, count):
    """Wait until the broker has so many."""
    for _ in range(12_000):
        if len(broker.messages) >= count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{len(broker.messages)} messages of {count}")


def told(answers):
    """(status, reason, field) of refusals, the status of others."""
    return [
        (one.status, one.body["error"]["reason"], one.body["error"]["field"])
        if "error" in one.body
        else one.status
        for one in answers
    ]


def store(folder, **users):
    """The file of states with these users."""
    made = ApplicationStore(folder / "applications" / f"{TOPIC}.db")
    made.commit([State("user", name, 1, value) for name, value in users.items()], [], {})
    return made


def decide(made, event_id, *states):
    """What the fold does with an event."""
    made.commit(states, [NewlyDecided(event_id, b"", True, ())], {})


def test_an_event_is_what_was_said(tmp_path, broker):
    said = body(at="2024-05-01T12:00:00+02:00", user_id="alice", idempotency_key="k1", app_id="app")
    said["data"]["addresses"] = ["xrpl:0/r"]
    before = time.time_ns() // 1_000_000
    (answer,) = run(tmp_path, lambda intake: send(intake, said, client=ALICE))
    event_id = event_hash(TOPIC, "app-1", "k1", "alice")
    assert answer == (202, {"event_id": event_id, "status": "accepted", "idempotency_key": "k1"}, {})
    (event,) = broker.events
    assert before <= event["recorded_at"] <= time.time_ns() // 1_000_000
    given = {name: value for name, value in event.items() if value is not None and name != "recorded_at"}
    assert given == {
        "event_id": event_id, "type": "SHARE", "asset_id": "bob", "user_id": "alice", "app_id": "app",
        "client": "app-1", "idempotency_key": "k1", "source": "api", "at": 1714557600000,
        "user_registered": {"addresses": ["xrpl:0/r"]},
    }  # fmt: skip
    (message,) = broker.messages
    assert message.key == b"bob" and dict(message.headers)["ce_type"] == b"tidebook.assets.AssetActivity"


def test_what_is_not_said_is_filled_in(tmp_path, broker):
    said = {"type": "SHARE", "asset_id": "bob"}
    first, second = run(tmp_path, lambda intake: send(intake, said, said, client=ALICE))
    assert first.status == second.status == 202 and first.body != second.body, "two requests, two keys"
    assert [event["user_id"] for event in broker.events] == ["alice", "alice"]
    assert all(event["at"] == event["recorded_at"] for event in broker.events)


FUTURE = (time.time_ns() // 1_000_000) + 3_600_000
REFUSED = {
    "no object": ([], (422, "invalid", "")),
    "a line that is no JSON": (FieldFault("line 3", "not JSON", "malformed"), (400, "malformed", "line 3")),
    "unknown type": (body(type="NOPE"), (422, "unknown_type", "type")),
    "no type": ({"asset_id": "x"}, (422, "missing", "type")),
    "no key": ({"type": "SHARE"}, (422, "missing", "asset_id")),
    "empty key": (body(""), (422, "invalid", "asset_id")),
    "long key": (body("x" * 257), (422, "too_long", "asset_id")),
    "unknown field": (body(more=1), (422, "unknown_field", "more")),
    "no time": (body(at="soon"), (422, "invalid", "at")),
    "in the future": (body(at=FUTURE), (422, "invalid", "at")),
    "data is no object": (body(data=[]), (422, "invalid", "data")),
    "wrong in data": (body(data={"addresses": ["a", 5]}), (422, "invalid", "data.addresses[1]")),
    "unknown in data": (body(data={"addresses": [], "x": 1}), (422, "unknown_field", "data.x")),
    "half a surrogate pair": (body("\ud800"), (422, "invalid", "asset_id")),
    "empty idempotency key": (body(idempotency_key=""), (422, "invalid", "idempotency_key")),
    "another's user": (body(user_id="bob"), (403, "forbidden", "user_id")),
    "a service's type": (body(type="REGISTER"), (403, "forbidden", "type")),
    "check": (body(data={"addresses": list("abcd")}), (422, "too_many", "data.addresses")),
    "too large": (body(data={"addresses": ["x" * 60_000] * 3, }), 202),
}  # fmt: skip


@pytest.mark.parametrize(("said", "answer"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_names_the_field_and_stops_no_other(tmp_path, broker, said, answer):
    answers = run(tmp_path, lambda intake: send(intake, body("before"), said, body("after"), client=ALICE))
    assert told(answers) == [202, answer, 202]
    assert len(broker.messages) == sum(one.status == 202 for one in answers)


def test_an_event_has_a_largest_size(tmp_path, broker, monkeypatch):
    large = body(type="GREET", data={"addresses": ["x" * 60_000] * (EVENT_BYTES_MAX // 60_000 + 1)})
    monkeypatch.setitem(ROW.types, "GREET", AppType("GREET", "user_registered", greet))
    assert told(run(tmp_path, lambda intake: send(intake, large))) == [(413, "too_large", "data")]


def test_a_key_without_a_user_sends_nothing(tmp_path, broker):
    nobody = Client("app-3", "", frozenset({"assets:write"}))
    answers = run(tmp_path, lambda intake: send(intake, body(), client=nobody))
    assert told(answers) == [(403, "forbidden", "user_id")] and not broker.messages


def test_the_same_key_has_one_answer_and_another_body_a_conflict(tmp_path, broker):
    said, other = body(idempotency_key="k", at=5), body(idempotency_key="k", at=6)
    turned = dict(reversed(said.items()))

    async def work(intake):
        first = await send(intake, said, said, other)
        return first + await send(intake, turned, other, said) + await send(intake, said, client=ALICE)

    answers = run(tmp_path, work) + run(tmp_path, lambda intake: send(intake, said, other))
    conflict = (409, "idempotency_conflict", "idempotency_key")
    assert told(answers) == [202, 202, conflict, 202, conflict, 202, 202, 202, conflict]
    same = [answers[n] for n in (0, 1, 3, 5, 7)]
    assert all(one == same[0] for one in same) and answers[6].body != same[0].body, (
        "another client, another event"
    )
    assert len({event["event_id"] for event in broker.events}) == len(broker.events) == 2


def test_an_amount_said_as_number_or_text_is_no_other_body_by_its_spaces(tmp_path, broker):
    first, second = (
        parse_json(text)
        for text in (b'{"type":"SHARE","asset_id":"b","idempotency_key":"k"}',
                     b'{ "idempotency_key" : "k", "asset_id":"b",\n"type":"SHARE" }')
    )  # fmt: skip
    assert told(run(tmp_path, lambda intake: send(intake, first, second))) == [202, 202]


def test_a_header_s_key_is_the_body_s(tmp_path, broker):
    async def work(intake):
        items = [
            Item(body(), "k"),
            Item(body(idempotency_key="k"), "k"),
            Item(body(idempotency_key="j"), "k"),
        ]
        return await intake.submit(ROW, APP, items)

    answers = run(tmp_path, work)
    assert told(answers) == [202, 202, (422, "invalid", "idempotency_key")] and answers[0] == answers[1]


def test_fifty_at_once_are_one_event_with_one_answer_over_two_processes(tmp_path, broker):
    async def main():
        async with opened(tmp_path) as first, opened(tmp_path) as second:
            turns = itertools.cycle((first, second))
            return await asyncio.gather(*[
                send(next(turns), body(idempotency_key="k"), body(f"other-{n}"), body(idempotency_key="k"))
                for n in range(50)
            ])  # fmt: skip

    answers = asyncio.run(main())
    same = [one for part in answers for one in (part[0], part[2])]
    assert len(same) == 100 and all(one == same[0] for one in same) and same[0].status == 202
    ids = [event["event_id"] for event in broker.events]
    assert len(ids) == len(set(ids)) == 51


def test_fifty_at_once_with_two_bodies_are_one_event_too(tmp_path, broker):
    async def work(intake):
        return await asyncio.gather(*[send(intake, body(idempotency_key="k", at=n % 2)) for n in range(50)])

    answers = [part[0].status for part in run(tmp_path, work)]
    assert sorted(answers) == [202] * 25 + [409] * 25 and len(broker.messages) == 1


def test_fifty_at_once_with_their_fields_in_any_order_are_one(tmp_path, broker):
    said = body(idempotency_key="k", at=5, user_id="bob", app_id="app")
    chance = random.Random(5)
    orders = [dict(chance.sample(list(said.items()), len(said))) for _ in range(50)]

    async def work(intake):
        return await asyncio.gather(*[send(intake, one) for one in orders])

    answers = [part[0] for part in run(tmp_path, work)]
    assert {one.status for one in answers} == {202} and all(one == answers[0] for one in answers)
    assert len(broker.messages) == 1


def test_who_stops_waiting_stops_nothing(tmp_path, broker):
    async def work(intake):
        task = asyncio.create_task(send(intake, body(idempotency_key="k")))
        await asyncio.sleep(0)
        task.cancel()
        return await send(intake, body(idempotency_key="k"))

    assert told(run(tmp_path, work)) == [202] and len(broker.messages) == 1


def test_a_broker_that_is_away_is_503_and_the_event_is_published_when_it_is_back(tmp_path, broker):
    async def work(intake):
        await send(intake, body("first"))
        broker.refuse = 10**9
        away = await send(intake, *[body(f"b{n}", idempotency_key=f"k{n}") for n in range(5)])
        broker.refuse = 0
        back = await send(intake, *[body(f"b{n}", idempotency_key=f"k{n}") for n in range(5)], body("last"))
        return away, back

    away, back = run(tmp_path, work, patience_s=0.2)
    assert told(away) == [(503, "broker_unavailable", "")] * 5 and away[0].headers == {"Retry-After": "2"}
    assert "k3" in away[3].body["error"]["detail"]
    assert told(back) == [202] * 6
    assert [event["asset_id"] for event in broker.events] == ["first", "b0", "b1", "b2", "b3", "b4", "last"]


def test_no_message_is_there_before_the_one_it_follows(tmp_path, broker):
    """Sends that fail half way, in small batches: first occurrences stay in the journal's order."""
    broker.cut, broker.lost, broker.fail_every = 3, 2, 4

    async def work(intake):
        return await asyncio.gather(*[send(intake, *[body(f"{n}-{m}") for m in range(4)]) for n in range(30)])

    assert all(one.status == 202 for part in run(tmp_path, work) for one in part)
    firsts = list(dict.fromkeys(message.value for message in broker.messages))
    assert len(firsts) == 120 < len(broker.messages)

    async def again(intake):
        return [row.message.value for row in intake.journal.waiting(TOPIC, 0, 1000)]

    assert firsts == run(tmp_path, again)


def test_a_broker_that_forgot_gets_everything_again_and_one_that_did_not_nothing(tmp_path, broker):
    run(tmp_path, lambda intake: send(intake, *[body(f"b{n}") for n in range(10)]))
    sent, broker.messages = broker.messages, []
    parts = []

    async def again(epoch):
        return await publishing.republish(
            tmp_path / "intake",
            "broker:1",
            epoch,
            [TOPIC, "other.topic.v1"],
            parts.append,
        )

    assert asyncio.run(again("e1")) == 0 and not broker.messages
    assert asyncio.run(again("e2")) == 10 and broker.messages == sent and parts[-1] == 10
    assert asyncio.run(again("e2")) == 0 and broker.messages == sent


def test_after_an_orderly_end_nothing_is_sent_again(tmp_path, broker):
    async def work(intake):
        await send(intake, body("first"))
        broker.refuse = 3  # nobody waits for these: they are published, and marked, while it ends
        await asyncio.gather(*[send(intake, body(f"{n}")) for n in range(40)])

    for _ in range(3):
        run(tmp_path, work, patience_s=0.0)
    assert len(broker.messages) == len({message.value for message in broker.messages}) == 123


def test_a_topic_made_anew_under_our_hands_gets_all_again_from_the_beginning(tmp_path, broker, monkeypatch):
    monkeypatch.setattr(publishing, "EPOCH_CHECK_S", 0.02)
    life = ["a"]

    async def epochs(url, topics):
        return dict.fromkeys(topics, life[0])

    monkeypatch.setattr(publishing, "topic_epochs", epochs)

    async def main():
        async with opened(tmp_path, epoch="") as first, opened(tmp_path, epoch="") as second:
            for n in range(5):
                await send(first, body(f"b{n}", idempotency_key=f"k{n}"))
            before, broker.messages, life[0] = broker.messages, [], "b"
            await messages_are(broker, 5)
            assert broker.messages == before
            # who does not publish itself knows it too
            return await send(second, body("last"), body("b0", idempotency_key="k0"))

    assert told(asyncio.run(main())) == [202, 202] and len(broker.messages) == 6


def test_a_broker_that_forgot_and_has_no_names_for_its_topics_is_known_by_its_offsets(tmp_path, broker):
    async def work(intake):
        await send(intake, *[body(f"b{n}") for n in range(5)])
        broker.messages = []
        answer = await send(intake, body("last"))
        await messages_are(broker, 7)
        return answer

    assert told(run(tmp_path, work)) == [202]
    names = [event["asset_id"] for event in broker.events]
    assert names == ["last", "b0", "b1", "b2", "b3", "b4", "last"]
    run(tmp_path, lambda intake: send(intake, body("end")))
    assert [event["asset_id"] for event in broker.events][7:] == ["end"]


def test_who_waited_in_vain_is_forgotten(tmp_path, broker):
    async def work(intake):
        broker.refuse = 10**9
        for n in range(20):
            await send(intake, body(f"b{n}"))
        broker.refuse = 0
        return len(intake.publisher._lanes[TOPIC].waiters)

    assert run(tmp_path, work, patience_s=0.01) == 0


def test_a_full_disk_is_503_and_nothing_is_accepted(tmp_path, broker):
    async def work(intake):
        db = intake.journal._write
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages}")
        full = await send(intake, *[body("x" * 250, idempotency_key=f"k{n}") for n in range(300)])
        assert not intake._flights and not intake.known._topics[TOPIC].own.events
        db.execute("PRAGMA max_page_count = 1000000")
        return full, await send(intake, body("x", idempotency_key="k0"))

    full, later = run(tmp_path, work)
    assert set(told(full)) == {(503, "journal_unavailable", "")} and full[0].headers == {"Retry-After": "5"}
    assert told(later) == [202] and len(broker.messages) == 1


def test_a_rule_s_defect_is_the_event_s_refusal(tmp_path, broker):
    store(tmp_path)
    answers = run(tmp_path, lambda intake: send(intake, body(type="BROKEN"), body()))
    assert told(answers) == [(422, "unprocessable", ""), 202]


# What is known


@pytest.mark.parametrize("key", ["inv/2024/1", ".", "..", "events"])
def test_a_new_id_that_no_path_can_name_is_refused_where_it_comes_in(tmp_path, broker, key):
    """What a former release took in is folded as it was: the fold does not ask."""
    entered = [body(key, "ENTER"), body(key, "SHARE"), body(f"{key.replace('/', '.')}.x", "ENTER")]
    assert told(run(tmp_path, lambda intake: send(intake, *entered))) == [
        (422, "bad_id", "asset_id"),
        202,
        202,
    ]
    old = AppEvent(TOPIC, "e1", "ENTER", key, 0, {"addresses": []})
    assert judge(ROW.types, old, Overlay(lambda kind, id: None)).changes


def test_users_of_one_client_have_idempotency_keys_of_their_own(tmp_path, broker):
    """A service of that client, and a user whose name looks like a key, too."""
    said = body(idempotency_key="pay-1")
    clients = [Client("app-1", user, ALICE.scopes) for user in ("alice", "bob")]
    clients.append(Client("app-1", "", frozenset({SERVICE})))

    async def work(intake):
        answers = [await send(intake, said, said, client=client) for client in clients]
        fates = Fates((ROW,), intake.journal, CODEC, lambda topic: None)
        found = [fates.find(one.body["event_id"]) for one, _ in answers]
        assert found == [Fate(ROW, "SHARE", "app-1", "accepted", user=one.user_id) for one in clients]
        return answers

    answers = run(tmp_path, work)
    assert all(first == second and first.status == 202 for first, second in answers)
    assert len({first.body["event_id"] for first, _ in answers}) == 3
    assert [event["user_id"] for event in broker.events] == ["alice", "bob", None]


def test_without_the_states_file_the_fold_judges(tmp_path, broker):
    assert told(run(tmp_path, lambda intake: send(intake, body(type="GREET")))) == [202]


def test_a_rule_refuses_over_what_is_applied(tmp_path, broker):
    store(tmp_path, bob={}, gone=None)
    answers = run(tmp_path, lambda intake: send(
        intake, body("eve", "GREET"), body("gone", "GREET"), body("bob", "GREET", data={"addresses": ["eve"]}),
        body("bob", "REGISTER"), body("bob", "GREET"),
    ))  # fmt: skip
    assert told(answers) == [
        (404, "unknown_user", "asset_id"), (404, "unknown_user", "asset_id"), (422, "unknown_user", "data.addresses"),
        (409, "already_registered", "asset_id"), 202,
    ]  # fmt: skip


def test_what_is_accepted_and_not_applied_is_in_doubt_until_it_is_decided(tmp_path, broker):
    made = store(tmp_path)

    async def work(intake):
        first = await send(intake, body("eve", "GREET"), body("eve", "REGISTER"), body("eve", "GREET"))
        again = await send(intake, body("eve", "REGISTER"), body("joe", "GREET"))
        # eve's greeting was let pass in doubt: what it may make possible nobody knows, so joe's passes too
        for one_answer in [
            *first[1:],
            *again,
        ]:  # the fold refuses what followed, and the first one's user is gone again
            decide(made, one_answer.body["event_id"], State("user", "eve", 2, None))
        return first + again + await send(intake, body("eve", "GREET"))

    unknown = (404, "unknown_user", "asset_id")
    assert told(run(tmp_path, work)) == [unknown, 202, 202, 202, 202, unknown]


@pytest.mark.parametrize("beyond", [False, True], ids=["looked at", "too many to look at"])
def test_after_a_restart_the_journal_tells_what_is_in_doubt(tmp_path, broker, monkeypatch, beyond):
    if beyond:
        monkeypatch.setattr(known_module, "PENDING_MAX", 20)
    made = store(tmp_path)
    before = run(tmp_path, lambda intake: send(intake, *[body(f"u{n}", "REGISTER") for n in range(9)]))
    for n in range(5):
        decide(made, before[n].body["event_id"], State("user", f"u{n}", 1, {}))

    async def work(intake):
        answers = await send(intake, body("u0", "REGISTER"), body("nobody", "GREET"), body("u8", "GREET"))
        for n in range(5, 9):
            decide(made, before[n].body["event_id"], State("user", f"u{n}", 1, {}))
        decide(made, answers[2].body["event_id"])
        if beyond:
            for one_answer in answers:
                decide(made, one_answer.body["event_id"])
        return answers, await send(intake, body("u8", "REGISTER"), body("nobody", "GREET"))

    answers, later = run(tmp_path, work)
    there, unknown = (409, "already_registered", "asset_id"), (404, "unknown_user", "asset_id")
    assert told(answers) == ([202, 202, 202] if beyond else [there, unknown, 202])
    assert told(later) == [there, unknown]


def test_a_refusal_is_not_made_of_two_moments(tmp_path, broker, monkeypatch):
    """The fold commits between two looks of one rule: what was seen never was."""
    made = store(tmp_path, bob={"at": 1}, eve={"at": 1})
    waiting = []

    def both(event, view):
        bob = view.get("user", "bob")["at"]
        if waiting:
            decide(
                made, waiting.pop(), State("user", "bob", 2, {"at": 2}), State("user", "eve", 2, {"at": 2})
            )
        if view.get("user", "eve")["at"] != bob:
            raise Refusal("apart", "asset_id", "they never were")
        return Decision([Change("user", "bob", {}), Change("user", "eve", {})])

    monkeypatch.setitem(ROW.types, "GREET", AppType("GREET", "user_registered", both))

    async def work(intake):
        (first,) = await send(intake, body("bob", "GREET"))
        waiting.append(first.body["event_id"])
        return await send(intake, body("bob", "GREET"))

    assert told(run(tmp_path, work)) == [202] and not waiting


def test_what_another_process_has_accepted_is_in_doubt_too(tmp_path, broker):
    store(tmp_path)

    async def main():
        async with opened(tmp_path) as first, opened(tmp_path) as second:
            await send(first, body("eve", "REGISTER"))
            return await send(second, body("joe", "GREET"), body("eve", "GREET"))

    assert told(asyncio.run(main())) == [(404, "unknown_user", "asset_id"), 202]


def test_a_states_file_made_anew_is_found(tmp_path, broker):
    store(tmp_path, bob={}).close()

    async def work(intake):
        first = await send(intake, body("bob", "GREET"))
        for path in (tmp_path / "applications").iterdir():
            path.unlink()
        store(tmp_path)
        return first + await send(intake, body("joe", "GREET"))

    assert told(run(tmp_path, work)) == [202, (404, "unknown_user", "asset_id")]


# Time


def test_the_clock_tells_what_is_due_once(tmp_path, broker):
    due = {"at_ms": 5000, "type": "GREET", "data": {"addresses": []}}
    made = store(tmp_path, a={}, b={})
    made.commit([
        State("user", "a", 2, {"due": due}, 5000), State("user", "b", 2, {"due": {**due, "at_ms": 9000}}, 9000),
        State("offer", "o", 1, {"due": {**due, "key": "b", "at_ms": 4000}}, 4000),
        State("offer", "p", 1, {"due": {**due, "key": "nobody"}}, 5000),
    ], [], {})  # fmt: skip

    async def work(intake):
        clock = Clock((ROW,), intake)
        counts = [await clock.tick(4999), await clock.tick(5000), await clock.tick(5000)]
        other = Clock((ROW,), intake)  # another process's: the same events
        return [*counts, await other.tick(5000), await clock.tick(9000)]

    assert run(tmp_path, work) == [1, 1, 0, 2, 1]
    found = [(e["asset_id"], e["at"], e["idempotency_key"], e["client"], e["source"]) for e in broker.events]
    assert found == [
        ("b", 4000, "offer:o:4000:GREET", "clock", "clock"), ("a", 5000, "user:a:5000:GREET", "clock", "clock"),
        ("b", 9000, "user:b:9000:GREET", "clock", "clock"),
    ]  # fmt: skip


def test_what_is_due_and_not_applied_hides_nothing(tmp_path, broker, monkeypatch):
    monkeypatch.setattr("pipeline.api.clock.AT_ONCE", 2)
    made = store(tmp_path)
    due = {"type": "SHARE", "data": {"addresses": []}}
    made.commit([State("user", f"u{n}", 1, {"due": {**due, "at_ms": n}}, n) for n in range(7)], [], {})

    async def work(intake):
        clock = Clock((ROW,), intake)
        return [await clock.tick(100) for _ in range(5)]

    assert run(tmp_path, work) == [2, 2, 2, 1, 0]
