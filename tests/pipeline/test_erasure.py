"""A person is erased: every balance, state and root stays, and nothing personal is left anywhere.

Run on the parts that do it in earnest: the intake's journal, the fold's store, the books, the store of personal data.
A topic is the list of its messages; compaction keeps the last one of each key, and of a tombstone nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.agents.applications import Applications, store_path
from pipeline.agents.role import Message
from pipeline.api.journal import Entry, Journal
from pipeline.api.people import People, PeopleStore, Person
from pipeline.catalog import APPLICATIONS
from pipeline.catalog.tokens import TOKENS
from pipeline.domain.account import AccountCode, AccountRef
from pipeline.domain.applications.event import AppEvent
from pipeline.domain.flows.events import Refusal
from schemas.loader import by_topic
from sinks.application_store import ApplicationReader, ApplicationStore
from sinks.embedded_books import connect
from sinks.offchain import OffchainBooks
from tests.support.applications import codec, event, record_of
from topics.apply import apply_topics
from topics.broker import admin_of, change_config, existing_topics
from topics.envelope import Outgoing, outgoing
from topics.plan import ChangeConfig
from topics.producer import Producer

PEOPLE = "people.data.v1"
CODEC = codec()
T0 = 1_800_000_000_000
DAY = 86_400_000
MARIA, JOSE = "5e" * 16, "7a" * 16  # made by chance: they say nothing
SALTS = {MARIA: "salt-of-maria-9f8e7d", JOSE: "salt-of-jose-1a2b3c"}
DOCUMENTS = {
    MARIA: {
        "name": "Maria da Silva",
        "email": "maria@example.org",
        "cpf": "123.456.789-09",
        "health": "epilepsy",
    },
    JOSE: {
        "name": "Jose Pereira",
        "email": "jose@example.org",
        "cpf": "987.654.321-00",
        "health": "chronic pain",
    },
}
Log = dict[str, list[Outgoing]]


def told(type: str, key: str, day: int = 0, **data: Any) -> AppEvent:
    return event(TOKENS, type, key, T0 + day * DAY, data, client="core")


def digest(person: str, what: str) -> str:
    """A salted hash of a part of the person's document."""
    return sha256(f"{SALTS[person]}/{DOCUMENTS[person][what]}".encode()).hexdigest()


def member(person: str) -> str:
    return f"mem_{person}"


def of_person(person: str) -> Iterator[AppEvent]:
    """All that the ledger hears of a person: member, patient, prescription, a dispensation, CONTRIB and CREDIT."""
    proof = {"document_hash": digest(person, "name"), "salt_id": f"slt_{person}"}
    health = {"document_hash": digest(person, "health"), "salt_id": f"slt_{person}"}
    rx, account = f"rx_{person}", f"acc-{person[:8]}"
    yield told("MEMBER_CREATED", member(person), association_id="a", person=person, **proof)
    yield told("PATIENT_APPROVED", member(person), association_id="a", **health)
    yield told("PRESCRIPTION_REGISTERED", rx, patient_id=member(person), item="oil", unit="ml", quantity="30",
               valid_from=T0, valid_until=T0 + 90 * DAY, **health)  # fmt: skip
    dose = {"prescription_id": rx, "batch_id": "b", "item": "oil", "quantity": "9"}
    yield told("DISPENSATION_RECORDED", f"dsp_{person}", 1, **dose)
    yield told("ACCOUNT_OPENED", account, owner_type="member", owner_id=member(person), association_id="a")
    yield told("ROLE_GRANTED", account, 1, role_id="r", granted_by="root")


def events() -> list[AppEvent]:
    """The story of an association with two patients."""
    entry = {"circle_id": "c", "contributor": f"acc-{MARIA[:8]}", "amount": "12.5"}
    return [
        told("ASSOCIATION_CREATED", "a", title="A"),
        told("CULTIVATION_PLAN_CREATED", "p", association_id="a", item="oil", quantity="90", unit="ml", starts_at=T0,
             ends_at=T0 + DAY),
        told("BATCH_CREATED", "b", plan_id="p"),
        told("INVENTORY_RECEIVED", "b", item="oil", quantity="90", unit="ml"),
        told("QUALITY_CHECK_PASSED", "b", check_id="lab"),
        told("CIRCLE_CREATED", "root", association_id="a", title="Root"),
        told("CIRCLE_CREATED", "c", association_id="a", title="Circle", parent_circle_id="root"),
        told("ROLE_CREATED", "r", circle_id="c", title="Role"),
        *of_person(MARIA),
        *of_person(JOSE),
        told("CONTRIBUTION_ENTERED", "e", 2, **entry, document_hash=digest(MARIA, "health"), salt_id=f"slt_{MARIA}"),
        told("CONTRIBUTION_REVIEWED", "e", 3, reviewer=f"acc-{JOSE[:8]}", verdict="accepted"),
        told("CONTRIBUTION_REVIEWED", "e", 4, reviewer=f"acc-{JOSE[:8]}", verdict="accepted"),  # refused
    ]  # fmt: skip


class Ledger:
    """A data directory with what stands in it, and the topics."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log: Log = defaultdict(list)
        self.journal = Journal(folder / "intake")
        self.books = OffchainBooks(connect(folder / "books", sync=False), again=True)
        self.worker = Applications(APPLICATIONS, folder / "applications", CODEC, lambda: self.books)
        self.worker.epochs = {row.topic: "e" for row in APPLICATIONS}
        self.worker.assigned([TOKENS.topic])
        self.people_store = PeopleStore(folder / "people" / "people.db")
        self.people = People(self.people_store, CODEC, self._publish)

    async def _publish(self, messages: Sequence[Outgoing]) -> None:
        for message in messages:
            self.log[message.topic].append(message)

    def intake(self, said: Iterable[AppEvent]) -> None:
        """Journal, then the topic."""
        for one in said:
            message = outgoing(CODEC, TOKENS.topic, one.key, record_of(TOKENS, one))
            headers = tuple(message.headers)
            self.journal.append(
                [Entry(message.topic, "core", one.idempotency_key, one.id, b"", message.key or b"", message.value,
                       headers, one.at_ms)]
            )  # fmt: skip
            self.log[message.topic].append(message)

    def fold(self) -> None:
        """Everything of the topic."""
        batch = [
            Message(m.topic, 0, n, T0, m.key, m.value, tuple(m.headers))
            for n, m in enumerate(self.log[TOKENS.topic])
        ]
        done = self.worker.process(TOKENS.topic, batch)
        done.commit()
        for message in done.outgoing:
            self.log[message.topic].append(message)

    def states(self) -> dict[str, Any]:
        """Every state by kind/id."""
        reader = ApplicationReader(store_path(self.folder / "applications", TOKENS.topic))
        rows = reader._db.execute("SELECT kind, id, value FROM states ORDER BY kind, id").fetchall()
        reader.close()
        return {f"{kind}/{id}": value and orjson.loads(value) for kind, id, value in rows}

    def close(self) -> None:
        self.worker.close()
        self.books.store.close()
        self.journal.close()
        self.people_store.close()


def root(parts: Iterable[bytes]) -> str:
    """A commitment to all parts in their order."""
    total = sha256()
    for part in parts:
        total.update(sha256(part).digest())
    return total.hexdigest()


def state_root(ledger: Ledger) -> str:
    return root(orjson.dumps([key, value]) for key, value in ledger.states().items())


def topic_roots(log: Mapping[str, Sequence[Outgoing]]) -> dict[str, str]:
    """Of every topic but that of personal data."""
    return {
        topic: root(value for m in messages for value in (m.key or b"", m.value))
        for topic, messages in sorted(log.items())
        if topic != PEOPLE
    }


def balances(ledger: Ledger) -> dict[str, int]:
    """What the books hold of CONTRIB."""
    refs = [
        AccountRef("offchain/token:CONTRIB", int(code), owner)
        for code, owner in ((AccountCode.USER, f"acc-{MARIA[:8]}"), (AccountCode.TREASURY, ""))
    ]
    rows = ledger.books.store.accounts(refs)
    return {
        f"{ref.code}:{ref.owner}": row.credits_posted - row.debits_posted for ref, row in rows.items() if row
    }


def compacted(messages: Sequence[Outgoing]) -> list[Outgoing]:
    """What a compacted topic has in the end: the last message of each key, no tombstones."""
    last = {message.key: message for message in messages}
    return [message for message in last.values() if message.value is not None]


def kept(ledger: Ledger) -> Iterator[tuple[str, bytes]]:
    """(where, bytes) of all that is kept: topics, journal, states, decisions with their messages, personal data."""
    for topic, messages in ledger.log.items():
        for message in compacted(messages) if topic == PEOPLE else messages:
            yield (
                topic,
                b"\n".join([message.key or b"", message.value, *(value for _, value in message.headers)]),
            )
    for waiting in ledger.journal.waiting(TOKENS.topic, 0):
        yield "journal", b"\n".join([waiting.message.key or b"", waiting.message.value])
    for key, state in ledger.states().items():
        yield "state", key.encode() + orjson.dumps(state)
    store: ApplicationStore = ledger.worker._stores[TOKENS.topic]
    for decided in store.decided(one.id for one in events()).values():
        for message in decided.told:
            yield "decided", message.value
    for path in sorted(ledger.folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(ledger.folder)), path.read_bytes()


def secrets(person: str) -> list[bytes]:
    return [value.encode() for value in (SALTS[person], *DOCUMENTS[person].values())]


def found(ledger: Ledger, person: str) -> set[str]:
    """Where something personal of a person stands."""
    return {where for where, data in kept(ledger) for secret in secrets(person) if secret in data}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path)
    for person in (MARIA, JOSE):
        data = orjson.dumps({**DOCUMENTS[person], "salt": SALTS[person]}).decode()
        asyncio.run(made.people.put(Person(person, "member", T0, data)))
    made.intake(events())
    made.fold()
    yield made
    made.close()


def test_the_story_is_what_it_says(ledger: Ledger) -> None:
    """All is applied but the second review; CONTRIB is credited; what is known of a person is in one place."""
    outcomes = [CODEC.decode(m.value)[1] for m in ledger.log["applications.outcomes.v1"]]
    refused = [(one["type"], one["reason"]) for one in outcomes if one["status"] != "applied"]
    assert refused == [("CONTRIBUTION_REVIEWED", "illegal_transition")]
    assert sorted(balances(ledger).values()) == [-12_500_000, 12_500_000]
    assert {where.split("/")[0] for where in found(ledger, MARIA)} == {PEOPLE, "people"}


def test_a_hash_is_proved_with_the_salt_and_by_nobody_without_it(ledger: Ledger) -> None:
    patient = ledger.states()[f"patient/{member(MARIA)}"]
    known = ledger.people.get(MARIA)
    assert known is not None
    data = orjson.loads(known.data)
    proof = sha256(f"{data['salt']}/{data['health']}".encode()).hexdigest()
    assert proof == patient["document_hash"]
    guess = sha256(data["health"].encode()).hexdigest()  # who guesses the illness must not be able to tell
    assert guess != patient["document_hash"]


def test_erasing_a_person_leaves_every_balance_state_and_root(ledger: Ledger, tmp_path: Path) -> None:
    before = state_root(ledger), topic_roots(ledger.log), balances(ledger)
    asyncio.run(ledger.people.erase(MARIA))
    tombstone = ledger.log[PEOPLE][-1]
    assert (tombstone.key, tombstone.value) == (MARIA.encode(), None)
    assert (state_root(ledger), topic_roots(ledger.log), balances(ledger)) == before
    assert len(before[1]) >= 6 and TOKENS.topic in before[1]

    again = Ledger(tmp_path / "again")  # another host, from what the topics have after the erasure
    try:
        again.log[TOKENS.topic] = list(ledger.log[TOKENS.topic])
        again.fold()
        assert (state_root(again), balances(again)) == (before[0], before[2])
        told_anew, told_first = (
            [message.value for message in one.log["applications.states.v1"]] for one in (again, ledger)
        )
        assert told_anew == told_first
    finally:
        again.close()


def test_nothing_personal_is_left_and_the_others_stay(ledger: Ledger) -> None:
    asyncio.run(ledger.people.erase(MARIA))
    assert found(ledger, MARIA) == set()
    assert ledger.people.get(MARIA) is None
    assert {where.split("/")[0] for where in found(ledger, JOSE)} == {PEOPLE, "people"}
    (left,) = compacted(ledger.log[PEOPLE])
    assert CODEC.decode(left.value)[1]["person"] == JOSE


@pytest.mark.xdist_group("kafka")
def test_apache_kafka_forgets_what_was_erased_though_nothing_else_comes(tmp_path: Path, kafka: str) -> None:
    """With a lag of a second in place of a day: what `tick` tells closes the segment, the cleaner does the rest."""

    async def forgotten() -> None:
        await apply_topics(kafka, chains=1)
        lag = {"max.compaction.lag.ms": "1000"}
        producer, store = Producer(kafka), PeopleStore(tmp_path / "people.db")
        await producer.start()
        try:
            async with admin_of(kafka) as admin:
                (found,) = await existing_topics(admin, [PEOPLE])
                assert found.config is not None and found.config["max.compaction.lag.ms"] == "86400000"
                await change_config(admin, ChangeConfig(PEOPLE, dict.fromkeys(lag), lag))
            people = People(store, CODEC, producer.send_many)
            for person in (MARIA, JOSE):
                data = orjson.dumps({**DOCUMENTS[person], "salt": SALTS[person]}).decode()
                await people.put(Person(person, "member", T0, data))
            await people.erase(MARIA)
            assert await held_by(kafka, MARIA), "it is there until a segment is closed"
            await asyncio.sleep(1.1)
            await people.tick(time.time_ns() // 1_000_000)
            async with asyncio.timeout(90):
                while await held_by(kafka, MARIA):
                    pass  # it takes its time
            assert await held_by(kafka, JOSE)
        finally:
            store.close()
            await producer.stop()

    asyncio.run(forgotten())


async def held_by(url: str, person: str) -> bool:
    """Whether a consumer that begins at the beginning is given what is known of a person."""
    consumer = AIOKafkaConsumer(bootstrap_servers=url, auto_offset_reset="earliest")
    await consumer.start()
    try:
        places = [TopicPartition(PEOPLE, n) for n in range(4)]
        consumer.assign(places)
        ends, found = await consumer.end_offsets(places), False
        for place in places:
            while await consumer.position(place) < ends[place]:
                read = await consumer.getmany(place, timeout_ms=200)
                found |= any(m.key == person.encode() and m.value for m in read.get(place, ()))
        return found
    finally:
        await consumer.stop()


def test_only_the_topic_of_personal_data_forgets() -> None:
    """Compacted, so that a tombstone erases; every source topic of applications is kept for ever and whole."""
    assert by_topic()[PEOPLE].topic["cleanup_policy"] == "compact"
    assert by_topic()[PEOPLE].clickhouse is None, "no copy of it is kept in the history"
    for row in APPLICATIONS:
        topic = by_topic()[row.topic].topic
        assert (topic["cleanup_policy"], topic["retention_ms"]) == ("delete", -1)


@pytest.mark.parametrize("secret", [*DOCUMENTS[MARIA].values(), SALTS[MARIA]])
def test_no_event_of_persons_lets_a_secret_in(secret: str) -> None:
    """Whatever field of a person's event it is put into, the check refuses it before it is written anywhere."""
    for good in of_person(MARIA):
        if good.type in ("ACCOUNT_OPENED", "ROLE_GRANTED"):
            continue
        check = TOKENS.types[good.type].check
        assert check is not None
        check(good)
        for field in ("person", "document_hash", "salt_id", "patient_id", "prescription_id"):
            if field in good.data:
                with pytest.raises(Refusal) as refused:
                    check(told(good.type, good.key, **{**good.data, field: secret}))
                assert refused.value.field == f"data.{field}"
                assert secret not in str(refused.value)
        with pytest.raises(Refusal, match="account_id"):
            check(told(good.type, secret, **good.data))
