"""Applications' topics on Apache Kafka and a TigerBeetle server: workers on hosts of their own are killed and come
back, and all of it is told a second time. What is in the books and what was told is one fold's in memory: nothing is
lost, nothing is applied twice, and no event has two answers."""

import asyncio
from collections import Counter, defaultdict
from random import Random

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.catalog.anchors import ANCHORS
from pipeline.catalog.tokens import TOKENS
from pipeline.domain.account import AccountRef
from schemas.codec import local_codec
from sinks.offchain import OffchainBooks
from sinks.tigerbeetle import connect
from tests.support.applications import at_ms, event, fold_of, record_of
from tests.support.roles import bench, publish_slowly
from topics.envelope import outgoing

pytestmark = pytest.mark.xdist_group("kafka")

CODEC = local_codec()
ROWS = (TOKENS, ANCHORS)
START_MS = at_ms("2026-01-01T00:00:00Z")
PEOPLE = ("ann", "bob", "cem")
STEPS = 250  # commands of each topic
FORGOTTEN = "refused_before"  # the books' refusal, where who heard its reason was killed before it was kept


def token_events(random):
    """CREDIT lent, moved, locked, released, given back: more than there is, often enough."""
    for who in PEOPLE:
        said = {
            "owner_type": "member",
            "owner_id": f"mem_{who.encode().hex():0>32}",
            "association_id": "flora",
        }
        yield "ACCOUNT_OPENED", who, said
        yield "CREDIT_LIMIT_GRANTED", who, {"limit": "200"}
    locks = [("x", "ann", "bob")]
    for number in range(STEPS):
        who, other = random.sample(PEOPLE, 2)
        amount = f"{random.randrange(1, 40)}.{random.randrange(10**6):06d}"
        escrow, owner, beneficiary = random.choice(locks[-4:])
        one = random.choice((
            ("CREDIT_ISSUED", who, {"amount": amount}),
            ("TOKEN_TRANSFERRED", who, {"amount": amount, "to_account_id": other}),
            ("CREDIT_REDEEMED", who, {"amount": amount, "purpose": "return"}),
            ("ESCROW_LOCKED", who, {"escrow_id": f"x{number}", "amount": amount, "beneficiary_account_id": other}),
            ("ESCROW_RELEASED", owner, {"escrow_id": escrow, "to_account_id": random.choice((owner, beneficiary))}),
        ))  # fmt: skip
        if one[0] == "ESCROW_LOCKED":
            locks.append((one[2]["escrow_id"], who, other))
        yield one


def anchor_events(random):
    """SOVR paid, authorized, claimed, expired, withdrawn; whether it suffices only the books know."""
    for who in PEOPLE:
        account = {"owner": who, "account_type": "USER", "asset": "SOVR"}
        yield "ACCOUNT_OPENED", who, account
        yield "DEPOSITED", who, {**account, "amount": "300"}
    opened, frozen = ["auth"], None
    for number in range(STEPS):
        who, other = random.sample(PEOPLE, 2)
        amount, until = str(random.randrange(1, 90)), START_MS + 1000 * (number + random.randrange(2, 90))
        account = {"owner": who, "account_type": "USER", "asset": "SOVR"}
        if frozen is not None and random.random() < 0.3:
            yield "ACCOUNT_THAWED", frozen["owner"], frozen
            frozen = None
        one = random.choices((
            ("PAID", who, {"payer": who, "payee": other, "payee_type": "USER", "asset": "SOVR", "amount": amount}),
            ("AUTHORIZED", f"auth-{number}", {"user": who, "anchor": "FUEL", "amount": amount, "expires_at": until}),
            ("CLAIMED", random.choice(opened[-4:]), {}),
            ("AUTHORIZATION_EXPIRED", random.choice(opened), {}),
            ("WITHDRAWN", who, {**account, "amount": amount}),
            ("DEPOSITED", who, {**account, "amount": amount}),
            ("ACCOUNT_FROZEN", who, account),
        ), (6, 4, 4, 4, 2, 2, 0 if frozen else 1))[0]  # fmt: skip
        opened += [one[1]] if one[0] == "AUTHORIZED" else []
        frozen = account if one[0] == "ACCOUNT_FROZEN" else frozen
        yield one


@pytest.fixture(scope="module")
def stories():
    """Topic → its events in their order; one in ten is told again later on."""
    found = {}
    for row, story in ((TOKENS, token_events), (ANCHORS, anchor_events)):
        random, told = Random(7), []
        for number, (type, key, data) in enumerate(story(random)):
            told.append(
                event(row, type, key, START_MS + number * 1000, data, id=f"{row.domain}{number:026x}")
            )
            if random.random() < 0.1:
                told.append(random.choice(told))
        found[row.topic] = told
    return found


@pytest.fixture(scope="module")
def truth(stories):
    """Topic → (what became of each event by its id, the fold after them)."""
    found = {}
    for row in ROWS:
        fold = fold_of(row)
        answers = {
            one.id: fold.one(one).refused for one in {one.id: one for one in stories[row.topic]}.values()
        }
        found[row.topic] = answers, fold
    yield found
    for _, fold in found.values():
        fold.close()


def messages_of(stories):
    """The stories, one event of each topic in turn."""
    rows = {row.topic: row for row in ROWS}
    both = zip(*(iter(stories[topic]) for topic in rows), strict=False)
    rest = [one for topic in rows for one in stories[topic][min(map(len, stories.values())) :]]
    order = [one for pair in both for one in pair] + rest
    return [outgoing(CODEC, one.topic, one.key, record_of(rows[one.topic], one)) for one in order]


async def told(url, topic, partitions=8):
    """Every record of a topic, in the order of each partition."""
    consumer, found = AIOKafkaConsumer(bootstrap_servers=url, auto_offset_reset="earliest"), []
    await consumer.start()
    try:
        places = [TopicPartition(topic, n) for n in range(partitions)]
        consumer.assign(places)
        for place, end in (await consumer.end_offsets(places)).items():
            while await consumer.position(place) < end:
                for message in (await consumer.getmany(place, timeout_ms=500)).get(place, ()):
                    found.append(CODEC.decode(message.value)[1])
    finally:
        await consumer.stop()
    return found


def test_applications_pass_from_host_to_host_under_kills(tmp_path, kafka, tigerbeetle, stories, truth):
    messages, ends = messages_of(stories), {topic: len(story) for topic, story in stories.items()}

    async def scenario():
        async with bench(tmp_path, kafka, chains=2) as here:

            async def worker(name, host):
                env = {"TIGERBEETLE_ADDRESSES": tigerbeetle, "TIDEBOOK_DATA_DIR": str(tmp_path / host)}
                return await here.start_another("books", name, **env)

            async def at(child, part, of=1):
                for topic, end in ends.items():
                    await here.applied(child, topic, int(of * end * part))

            first = await worker("first", "one")
            publishing = asyncio.create_task(publish_slowly(here, messages))
            await at(first, 0.1)
            second = await worker("second", "two")  # knows nothing yet: it folds from the beginning
            await here.until(lambda: second.status.get("ready"), "ready")
            first.process.kill()
            await at(second, 0.3)
            third = await worker("third", "one")  # what the first had kept, some way behind
            await here.until(lambda: third.status.get("ready"), "ready")
            second.process.kill()
            await publishing
            await at(third, 1)
            await here.publish(messages)  # all of it again, at other offsets
            await at(third, 1, of=2)
            fourth = await worker("fourth", "two")
            assert await here.end(third) == 0
            await at(fourth, 1, of=2)
            assert [one.status.get("stopped") for one in (third, fourth)] == [None, None]
            names = ("applications.outcomes.v1", "applications.states.v1", "books.transfers.v1")
            return [await told(kafka, name) for name in names]

    outcomes, states, transfers = asyncio.run(scenario())
    outcomes_are_true(outcomes, truth)
    states_are_true(states, truth)
    books_are_true(tigerbeetle, transfers, truth)


def outcomes_are_true(outcomes, truth):
    """Each event has one answer, which is the fold's; of the books' refusals a reason may be lost."""
    said = defaultdict(set)
    for one in outcomes:
        said[one["event_id"]].add((one["status"], one["reason"]))
    expected = {
        id: ("applied", "") if refused is None else ("refused", refused.reason)
        for answers, _ in truth.values()
        for id, refused in answers.items()
    }
    assert said.keys() == expected.keys()
    for id, answer in expected.items():
        assert said[id] - {("refused", FORGOTTEN)} <= {answer}, id
        assert {status for status, _ in said[id]} == {answer[0]}, id
    count = Counter(answer for answer in expected.values())
    assert count["applied", ""] > 200 and count["refused", "insufficient_balance"] > 40, count


def states_are_true(states, truth):
    """A version of a state was always told in the same words; the last one is the fold's."""
    words, last = defaultdict(set), {}
    for one in states:
        words[one["state"], one["version"]].add((one["value"], one["event_id"]))
        last[one["state"]] = max(last.get(one["state"], (0, "")), (one["version"], one["value"]))
    assert {place: told for place, told in words.items() if len(told) > 1} == {}
    expected = {
        f"{row.domain}/{kind}/{id}": orjson.loads(value)
        for row in ROWS
        for (kind, id), value in truth[row.topic][1].held.items()
    }
    assert {state: orjson.loads(value) for state, (_, value) in last.items() if value} == expected


def books_are_true(address, transfers, truth):
    """A transfer was always told in the same words; each once they add up to the server's balances and the fold's."""
    words = defaultdict(set)
    for record in transfers:
        for one in record["transfers"]:
            sides = [AccountRef(record["asset"], *(one[f"{side}_{part}"] for part in ("code", "owner", "subject")))
                     for side in ("debit", "credit")]  # fmt: skip
            words[one["transfer_id"], one["status"]].add((*sides, int(one["amount"]), one["event_id"]))
    assert {id: told for id, told in words.items() if len(told) > 1} == {}
    sums = Counter()
    for (_, status), told in words.items():
        for debit, credit, amount, _ in told if status == "posted" else ():
            sums.update({credit: amount})
            sums.subtract({debit: amount})
    engine = connect(address, 0)
    try:
        assert held_in(OffchainBooks(engine, again=True), sums) == sums
    finally:
        engine.close()
    in_folds = [held_in(fold.books, sums) for _, fold in truth.values()]
    assert in_folds[0] | in_folds[1] == sums


def held_in(books, refs):
    """Credits less debits of those accounts that there are."""
    rows = books.store.accounts(list(refs))
    return {ref: row.credits_posted - row.debits_posted for ref, row in rows.items() if row is not None}
