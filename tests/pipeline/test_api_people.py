"""Personal data: told, kept, erased everywhere, and never half of it."""

import asyncio
import time
from contextlib import closing

import orjson
import pytest

from pipeline.api.app import Gate, make_fastapi
from pipeline.api.client import ApiError
from pipeline.api.keys import Keys
from pipeline.api.people import (
    DATA_MAX,
    NOBODY,
    TOPIC,
    People,
    PeopleStore,
    Person,
    people_router,
    read_person,
)
from schemas.codec import Codec
from schemas.freeze import freeze
from schemas.loader import schemas
from schemas.registry import LocalRegistry
from tests.support.serving import ask
from topics.broker import BrokerError

ANN, BOB = "ann0123456789abcdef", "bob0123456789abcdef"
JSON = {"Content-Type": "application/json"}
SECRET = "Ann-of-the-seven-seas"


@pytest.fixture(scope="module")
def codec():
    return Codec(LocalRegistry(freeze((), schemas())[0]))


class Broker:
    """Keeps what a compacted topic would keep; may be away."""

    def __init__(self, codec):
        self.codec, self.kept, self.told, self.away = codec, {}, [], False
        self.closed = []

    async def send(self, messages):
        if self.away:
            raise BrokerError("x:1", "away")
        for message in messages:
            assert message.topic == TOPIC
            value = message.value and self.codec.decode(message.value, TOPIC)[1]
            if message.key == NOBODY:
                self.closed.append(message.partition)
                continue
            self.told.append((message.key.decode(), value))
            self.kept[message.key.decode()] = value


@pytest.fixture
def broker(codec):
    return Broker(codec)


@pytest.fixture
def world(tmp_path, codec, broker):
    """(gate, headers by name, people)."""
    with (
        closing(Keys(tmp_path / "keys.db")) as keys,
        closing(PeopleStore(tmp_path / "p" / "people.db")) as store,
    ):
        people = People(store, codec, broker.send)
        headers = {
            name: {**JSON, "Authorization": "Bearer " + keys.create(name, user, scopes, 1e9)[1]}
            for name, user, scopes in (
                ("both", "", ["people:write", "people:read"]),
                ("reader", "", ["people:read"]),
                ("ann", ANN, ["people:write", "people:read"]),
                ("other", "", ["assets:write"]),
                ("root", "", ["root"]),
            )
        }  # fmt: skip
        headers["none"] = {}
        yield Gate(make_fastapi([people_router(people)]), keys, 1 << 20), headers, people


def call(gate, method, person, headers, body=None):
    data = b"" if body is None else orjson.dumps(body)
    return asyncio.run(ask(gate, method, f"/v1/people/{person}", data, headers))


KNOWN = {"kind": "profile", "data": {"name": SECRET, "born": 1970}}


def test_put_get_erase(world, broker, tmp_path):
    gate, headers, _ = world
    got = call(gate, "PUT", ANN, headers["both"], KNOWN)
    assert got.status == 200 and got.json["data"] == KNOWN["data"]
    assert call(gate, "GET", ANN, headers["reader"]).json == got.json
    assert orjson.loads(broker.kept[ANN]["data"]) == KNOWN["data"] and broker.kept[ANN]["kind"] == "profile"
    assert call(gate, "PUT", ANN, headers["both"], {"kind": "profile", "data": {}}).status == 200
    assert call(gate, "PUT", ANN, headers["both"], KNOWN).status == 200
    assert call(gate, "DELETE", ANN, headers["both"]).status == 204
    assert call(gate, "GET", ANN, headers["both"]).status == 404
    assert broker.kept == {ANN: None}  # a tombstone
    assert call(gate, "DELETE", ANN, headers["both"]).status == 204
    kept = b"".join(path.read_bytes() for path in (tmp_path / "p").iterdir())
    assert SECRET.encode() not in kept and ANN.encode() not in kept


@pytest.mark.parametrize(
    ("who", "method", "person", "status"),
    [
        ("none", "GET", ANN, 401), ("none", "PUT", ANN, 401), ("none", "DELETE", ANN, 401), ("reader", "PUT", ANN, 403),
        ("reader", "DELETE", ANN, 403), ("other", "GET", ANN, 403), ("other", "PUT", ANN, 403),
        ("ann", "GET", BOB, 403),
        ("ann", "PUT", BOB, 403), ("ann", "DELETE", BOB, 403), ("ann", "PUT", ANN, 200),
        ("root", "GET", ANN, 404),
        ("both", "PUT", "slt_" + "0a" * 32, 200), ("both", "PUT", "3f2c1a5e-0b7d-4c1e-9a2b-6d8e5f4c3b2a", 200),
        ("both", "PUT", "maria-da-silva-1990", 422),
        ("root", "PUT", ANN, 403), ("both", "GET", "short", 422), ("both", "GET", "a-b-" * 5, 422),
    ],
)  # fmt: skip
def test_who_may(world, broker, who, method, person, status):
    gate, headers, _ = world
    got = call(gate, method, person, headers[who], KNOWN if method == "PUT" else None)
    assert got.status == status, got
    assert bool(broker.told) == (status == 200)


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b"{", 400, ""), (b"[]", 422, ""), (b"{}", 422, "kind"), (b'{"kind":"profile"}', 422, "data"),
        (b'{"kind":"Profile","data":{}}', 422, "kind"), (b'{"kind":"p","data":[]}', 422, "data"),
        (b'{"kind":"p","data":{},"x":1}', 422, "x"),
        (b'{"kind":"p","data":{"a":"' + b"x" * DATA_MAX + b'"}}', 413, "data"),
        (b'\xff', 400, ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_and_not_quoted(body, status, field):
    with pytest.raises(ApiError) as caught:
        read_person(ANN, body, 0)
    assert (caught.value.status, caught.value.field) == (status, field)
    assert "xxx" not in caught.value.detail


def test_an_erasure_outlives_a_broker_that_is_away(tmp_path, codec, broker):
    path = tmp_path / "people.db"

    async def first():
        with closing(PeopleStore(path)) as store:
            people = People(store, codec, broker.send)
            await people.begin("epoch-1")
            await people.put(Person(ANN, "profile", 1, orjson.dumps({"name": SECRET}).decode()))
            await people.put(Person(BOB, "profile", 1, "{}"))
            broker.away = True
            with pytest.raises(BrokerError):
                await people.erase(ANN)
            assert people.get(ANN) is None and broker.kept[ANN] is not None

    async def second(epoch):
        with closing(PeopleStore(path)) as store:
            people = People(store, codec, broker.send)
            broker.away, broker.told = False, []
            await people.begin(epoch)
            return [person for person, _ in broker.told]

    asyncio.run(first())
    assert SECRET.encode() not in path.read_bytes()
    assert asyncio.run(second("epoch-1")) == [ANN] and broker.kept[ANN] is None
    assert asyncio.run(second("epoch-1")) == []
    broker.kept = {}  # it forgot everything
    assert asyncio.run(second("epoch-2")) == [BOB] and list(broker.kept) == [BOB]
    assert asyncio.run(second("epoch-2")) == []


def test_a_put_that_was_not_told_is_told_later(tmp_path, codec, broker):
    async def run():
        with closing(PeopleStore(tmp_path / "people.db")) as store:
            people = People(store, codec, broker.send)
            broker.away = True
            with pytest.raises(BrokerError):
                await people.put(Person(ANN, "profile", 1, "{}"))
            broker.away = False
            await people.begin("e")

    asyncio.run(run())
    assert [person for person, _ in broker.told] == [ANN]


def test_while_it_runs_it_tells_what_a_broker_that_was_away_has_not_heard(world, broker):
    _, _, people = world

    async def run():
        await people.put(Person(ANN, "profile", 1, "{}"))
        broker.away = True
        with pytest.raises(BrokerError):
            await people.erase(ANN)
        with pytest.raises(BrokerError):
            await people.tick(0)
        broker.away = False
        await people.tick(0)

    asyncio.run(run())
    assert broker.kept == {ANN: None}


def test_segments_are_closed_until_a_day_after_the_last_change(world, broker):
    """Else Kafka never compacts what was erased in a partition to which nothing else comes."""
    _, _, people = world
    hour, start = 3_600_000, int(time.time() * 1000)

    async def closed(after_hours):
        broker.closed = []
        await people.tick(start + int(after_hours * hour))
        return broker.closed

    async def run():
        assert await closed(0) == [], "nothing was ever told"
        await people.put(Person(ANN, "profile", 1, "{}"))
        await people.erase(ANN)
        found = [bool(await closed(quarter / 4)) for quarter in range(4 * 30)]
        assert [n / 4 for n, sent in enumerate(found) if sent] == [*range(26)], (
            "each hour, once after the day"
        )
        await people.erase(ANN)
        assert await closed(30) == [0, 1, 2, 3], "every partition"

    asyncio.run(run())


def test_a_broker_that_is_away_is_503(world, broker):
    gate, headers, _ = world
    broker.away = True
    got = call(gate, "PUT", ANN, headers["both"], KNOWN)
    assert (got.status, got.error["reason"], got.headers["retry-after"]) == (503, "broker_away", "5")
    assert SECRET not in got.body.decode()


def test_changes_of_one_person_are_told_in_order(world, broker):
    _, _, people = world

    async def run():
        await asyncio.gather(
            *(people.put(Person(ANN, "profile", at, "{}")) for at in range(20)), people.erase(ANN)
        )

    asyncio.run(run())
    assert [value and value["at"] for _, value in broker.told] == [*range(20), None]
