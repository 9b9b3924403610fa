"""The intake killed at every seam, on both brokers: no accepted event is lost, none is two, and bytes stay the same."""

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.agents.applications import Applications
from pipeline.agents.role import Message
from pipeline.api import publishing
from pipeline.api.client import SERVICE, Client
from pipeline.api.intake import Intake
from pipeline.api.journal import GroupCommit
from pipeline.api.publishing import republish
from pipeline.api.shape import Item, event_hash
from pipeline.domain.applications.event import AppTopic, AppType, Change, Decision, table
from pipeline.supervisor import EmbeddedBroker
from tests.support.applications import codec
from tests.support.kafka import wipe
from topics.apply import apply_topics
from topics.producer import Producer

TOPIC, ROOT = "assets.activity.v1", Path(__file__).parents[2]
APP = Client("app", "", frozenset({SERVICE}))


def count(event, view):
    """How often an asset was told of."""
    seen = (view.get("user", event.key) or {"count": 0})["count"]
    return Decision([Change("user", event.key, {"count": seen + 1})])


ROW = AppTopic(TOPIC, "assets", "asset_id", table([AppType("COUNT", "user_registered", count)]))


def item(name):
    """The event of a name."""
    return Item({"type": "COUNT", "asset_id": name, "at": 1000, "idempotency_key": name})


def id_of(name):
    """Its id."""
    return event_hash(TOPIC, APP.id, name)


def make(folder, url, epoch, patience_s=5.0):
    """An intake."""
    made = Intake.of((ROW,), folder / "intake", folder / "applications", codec(), url, epoch)
    made._patience_s = patience_s
    return made


@asynccontextmanager
async def opened(folder, url, epoch="", patience_s=120.0):
    intake = make(folder, url, epoch, patience_s)
    await intake.start()
    try:
        yield intake
    finally:
        await intake.close()


async def send(folder, url, epoch, names, patience_s=120.0):
    """Statuses of events that are sent at once, each alone."""
    async with opened(folder, url, epoch, patience_s) as intake:
        answers = await asyncio.gather(*[intake.submit(ROW, APP, [item(name)]) for name in names])
    assert all(a.body.get("event_id", id_of(n)) == id_of(n) for n, (a,) in zip(names, answers, strict=True))
    return [answer.status for (answer,) in answers]


async def read(folder, url, epoch):
    """All messages of the topic, first the ones of a last event that is sent now; and of the journal, in order."""
    last = f"end-{uuid.uuid4().hex}"
    assert await send(folder, url, epoch, [last]) == [202]
    consumer = AIOKafkaConsumer(bootstrap_servers=url, enable_auto_commit=False)
    await consumer.start()
    found = []
    try:
        place = TopicPartition(TOPIC, 0)
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        while not found or found[-1].key != last.encode():
            found.append(await asyncio.wait_for(consumer.getone(), 120))
    finally:
        await consumer.stop()
    intake = make(folder, url, epoch)
    rows = [row.message for row in intake.journal.waiting(TOPIC, 0, 10_000)]
    await intake.close()
    return found, rows


def all_is_there_once(folder, found, rows, names):
    """First occurrences are the journal, byte for byte and in its order; folded, each event counts once."""
    said = [(one.key, one.value, tuple(one.headers)) for one in found]
    assert list(dict.fromkeys(said)) == [(row.key, row.value, row.headers) for row in rows]
    assert {row.key.decode() for row in rows if not row.key.startswith(b"end-")} == set(names)
    assert len(rows) == len({row.key for row in rows})
    fold = Applications(
        [ROW], folder / f"fold-{uuid.uuid4().hex}", codec(), books=lambda: pytest.fail("no money")
    )
    fold.epochs = {TOPIC: "e"}
    fold.assigned([TOPIC])
    done = fold.process(
        TOPIC,
        [Message(TOPIC, 0, n, 0, one.key, one.value, tuple(one.headers)) for n, one in enumerate(found)],
    )
    done.commit()
    states = {name: fold._stores[TOPIC].get("user", name) for name in names}
    fold.close()
    assert set(map(str, states.values())) == {"{'count': 1}"}


@asynccontextmanager
async def embedded(folder):
    """(url, epoch) of a broker that remembers nothing of another."""
    broker = EmbeddedBroker()
    url = await broker.start(folder / "broker.log")
    try:
        await apply_topics(url, chains=1)
        yield url, uuid.uuid4().hex
    finally:
        await broker.stop()


NAMES = [f"n{n}" for n in range(200)]


def child(folder, url, epoch, where):
    """An intake in a process of its own that kills itself at a seam; the names that it answered with 202."""
    done = subprocess.run(
        [sys.executable, __file__, str(folder), url, epoch, where],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("where", ["journal", "sent", "acknowledged"])
def test_a_kill_at_every_seam_loses_nothing_and_doubles_nothing(tmp_path, where):
    async def scenario():
        async with embedded(tmp_path) as (url, epoch):
            answered = await asyncio.to_thread(child, tmp_path, url, epoch, where)
            kept = await asyncio.to_thread(make, tmp_path, url, epoch)
            held = kept.journal.find([id_of(name) for name in NAMES])
            await kept.close()
            assert {id_of(name) for name in answered} <= held.keys(), "answered is accepted"
            assert len(held) > len(answered) if where != "acknowledged" else held
            await republish(tmp_path / "intake", url, epoch, [TOPIC])
            assert await send(tmp_path, url, epoch, NAMES) == [202] * len(NAMES)
            all_is_there_once(tmp_path, *await read(tmp_path, url, epoch), NAMES)

    asyncio.run(scenario())


def test_a_broker_that_forgot_gets_the_same_bytes_in_the_same_order(tmp_path):
    async def scenario():
        lives = []
        for turn in range(3):
            async with embedded(tmp_path) as (url, epoch):
                told = []
                count = await republish(tmp_path / "intake", url, epoch, [TOPIC], told.append)
                assert count == turn * 101 and (not count or told[-1] == count)
                names = NAMES[: (turn + 1) * 50]
                mine = names[turn * 50 :] * 2
                async with opened(tmp_path, url, epoch) as intake:
                    batch = await intake.submit(ROW, APP, [item(name) for name in [*names, *mine]])
                    assert {answer.status for answer in batch} == {202}
                    await intake.submit(ROW, APP, [item(f"x{turn}-{n}") for n in range(50)])
                extra = [f"x{t}-{n}" for t in range(turn + 1) for n in range(50)]
                found, rows = await read(tmp_path, url, epoch)
                all_is_there_once(tmp_path, found, rows, [*names, *extra])
                assert len(found) == len(rows), "nothing is sent twice where nothing fails"
                lives.append([(one.key, one.value, tuple(one.headers), one.timestamp) for one in found])
        assert lives[1][: len(lives[0])] == lives[0] and lives[2][: len(lives[1])] == lives[1]

    asyncio.run(scenario())


def test_large_events_and_many(tmp_path):
    async def scenario():
        async with embedded(tmp_path) as (url, epoch), opened(tmp_path, url, epoch) as intake:
            large = {"type": "COUNT", "asset_id": "large", "data": {"addresses": ["x" * 60_000] * 14}}
            many = [item(f"m{n}") for n in range(3000)]
            answers = await intake.submit(ROW, APP, [Item(large), *many, Item(large), Item(large)])
            assert {answer.status for answer in answers} == {202}

    asyncio.run(scenario())


@pytest.mark.xdist_group("kafka")
def test_apache_kafka_gets_only_what_it_lacks_and_new_topics_get_all(tmp_path, kafka, kafka_server):
    async def scenario():
        await apply_topics(kafka, chains=1)
        assert await send(tmp_path, kafka, "", NAMES[:100]) == [202] * 100
        assert await republish(tmp_path / "intake", kafka, "", [TOPIC]) == 0
        async with opened(tmp_path, kafka, patience_s=0.5) as intake:
            await intake.submit(ROW, APP, [item("before")])
            kafka_server.kill()
            away = await intake.submit(ROW, APP, [item(name) for name in NAMES[100:]])
            assert {answer.status for answer in away} == {503}
            assert away[0].body["error"]["reason"] == "broker_unavailable"
            await asyncio.to_thread(kafka_server.start)
            intake._patience_s = 240
            assert await intake.publisher.wait(TOPIC, intake.journal.last(TOPIC), 240)
            back = await intake.submit(ROW, APP, [item(name) for name in NAMES[100:]])
            assert {answer.status for answer in back} == {202}
        all_is_there_once(tmp_path, *await read(tmp_path, kafka, ""), [*NAMES, "before"])
        await wipe(kafka)
        await apply_topics(kafka, chains=1)
        assert await republish(tmp_path / "intake", kafka, "", [TOPIC]) == 202
        all_is_there_once(tmp_path, *await read(tmp_path, kafka, ""), [*NAMES, "before"])

    asyncio.run(scenario())


def _die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def _at(where):
    """Kill this process at a seam, the third time that it comes there."""
    turns = iter(range(1_000))
    plain_send, plain_mark = Producer.send_batch, GroupCommit.mark

    async def send_batch(self, messages, times_ms):
        if where == "journal" and next(turns) == 2:
            _die()  # durable, and Kafka has nothing of it
        answer = await plain_send(self, messages[:20], times_ms[:20])
        if where == "sent" and next(turns) == 2:
            _die()  # Kafka has it, and nobody was told
        return answer

    def mark(self, topic, epoch, seq):
        plain_mark(self, topic, epoch, seq)
        if where == "acknowledged" and next(turns) == 2:
            asyncio.get_running_loop().call_later(
                0.005, _die
            )  # some are answered, the mark may be written or not

    Producer.send_batch, GroupCommit.mark = send_batch, mark


async def _main(folder, url, epoch):
    async def one(intake, name):
        (answer,) = await intake.submit(ROW, APP, [item(name)])
        if answer.status == 202:
            os.write(1, f"{name}\n".encode())

    async with opened(folder, url, epoch) as intake:
        for start in range(0, len(NAMES), 40):
            await asyncio.gather(*[one(intake, name) for name in NAMES[start : start + 40]])


if __name__ == "__main__":
    assert publishing.Producer is Producer
    _at(sys.argv[4])
    asyncio.run(_main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
