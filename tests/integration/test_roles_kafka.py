"""The roles on Apache Kafka: two chains in two partitions, rebalance between workers, a broker that is killed,
topics that are created anew. What comes out is the node's own state, whatever happened on the way."""

import asyncio
import json
import time
import urllib.request

import pytest

from pipeline.agents.runtime import AGAIN_EXIT
from pipeline.supervisor import free_port
from schemas.codec import local_codec
from sinks.tigerbeetle import connect
from tests.support.demo import tidebook
from tests.support.kafka import wipe
from tests.support.recorded import recorded_blocks
from tests.support.roles import PATIENCE_S, bench, drops_in, drops_of, publish_slowly, true_drops
from tests.support.truth import read_truth
from topics.apply import apply_topics
from topics.broker import topic_epochs
from topics.envelope import outgoing

pytestmark = pytest.mark.xdist_group("kafka")

TOPIC = "xrpl.ledgers.v1"
CODEC = local_codec()
STEADY_S = 3
CHAINS = {"xrpl:one": 0, "xrpl:two": 1}  # name -> partition
LEDGERS, TRANSACTIONS = 353, 988


@pytest.fixture(scope="module")
def messages():
    """The recorded chain twice, under two names in two partitions, ledger by ledger."""
    found = []
    for block in recorded_blocks():
        for name, partition in CHAINS.items():
            named = {**block, "chain": name, "chain_number": (1 << 14) + partition}
            found.append(outgoing(CODEC, TOPIC, name, named, partition=partition))
    return found


def owners(port):
    """(chain, NFT) → owner of every NFT that exists, as a worker's web views tell."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/holdings/?kind=nft", timeout=60) as answer:
        rows = json.loads(answer.read())["holdings"]
    return {
        (row["chain"], row["asset"].partition("/nft:")[2]): row["owner"]
        for row in rows
        if row["owner"] is not None
    }


def true_owners():
    nfts = read_truth(LEDGERS)["tables"]["nfts"]
    return {(chain, nft): row["owner"] for chain in CHAINS for nft, row in nfts.items()}


async def all_applied(here, *children):
    """Until every chain is applied by one of these workers of a role."""
    for partition in CHAINS.values():
        await here.until(
            lambda at=str(partition): any(
                child.position.get(TOPIC, {}).get(at, 0) == LEDGERS for child in children
            ),
            f"partition {partition} applied",
        )


async def owners_are_true(here, port):
    """Until a worker that has all partitions serves the node's own state, and goes on to.

    Once is not enough: a worker shows the partitions of one that was killed from its standby copies, and recovers them
    when they become its own.
    """
    expected, found, since = true_owners(), {}, None
    for _ in range(1000):
        found = await asyncio.to_thread(owners, port)
        since = (since or time.monotonic()) if found == expected else None
        if since is not None and time.monotonic() - since >= STEADY_S:
            return
        await asyncio.sleep(0.2)
    assert found == expected
    raise AssertionError("the holdings come and go")


def books_are_true(data_dir):
    expected = true_drops(LEDGERS)
    for chain in CHAINS:
        assert drops_of(data_dir, chain, expected) == expected


def queried(data_dir, sql):
    ended = tidebook("query", sql, "--json", "--data-dir", data_dir)
    assert ended.status == 0, ended.err
    return ended.rows


def history_is_true(data_dir):
    """Every transaction once (also without the view's deduplication), final balances as the node's."""
    rows = queried(
        data_dir,
        "SELECT chain, count() AS n, uniqExact(hash) AS different FROM xrpl_transactions GROUP BY chain "
        "ORDER BY chain SETTINGS final = 0",
    )
    assert [tuple(row.values()) for row in rows] == [(chain, TRANSACTIONS, TRANSACTIONS) for chain in CHAINS]
    rows = queried(
        data_dir,
        "SELECT chain, account, argMax(balance, (ledger_index, transaction_index)) AS balance "
        "FROM balance_changes WHERE asset = 'XRP' GROUP BY chain, account",
    )
    found = {(row["chain"], row["account"]): int(row["balance"]) for row in rows}
    expected = true_drops(LEDGERS)
    touched = {account for _, account in found}
    for chain in CHAINS:
        mine = {account: found[chain, account] for account in touched & expected.keys()}
        assert mine == {account: expected[account] for account in mine}
        assert len(mine) > 20


def test_every_role_applies_both_chains_and_epochs_are_topic_ids(tmp_path, kafka, messages):
    async def scenario():
        async with bench(tmp_path, kafka, chains=2) as here:
            roles = [await here.start(role) for role in ("books", "assets", "history")]
            await here.publish(messages)
            for role in roles:
                await all_applied(here, role)
            await owners_are_true(here, here.web_port)
            await here.until(lambda: roles[2].behind(here.supervisor.targets()) == 0, "all in the history")
            return await topic_epochs(kafka, [TOPIC, "books.transfers.v1"])

    epochs = asyncio.run(scenario())
    books_are_true(tmp_path)
    history_is_true(tmp_path)
    told = queried(
        tmp_path, f"SELECT DISTINCT topic, epoch FROM sink_progress WHERE topic IN {tuple(epochs)}"
    )
    assert {row["topic"]: row["epoch"] for row in told} == epochs


def test_a_chain_that_stops_leaves_the_other_going(tmp_path, kafka, messages):
    """Ledger 31 of the first chain is lost: its books stop there, those of the second reach the end."""
    lost = [message for message in messages if message.partition == 0][30]

    async def scenario():
        async with bench(tmp_path, kafka, chains=2) as here:
            await here.publish([message for message in messages if message is not lost])
            books = await here.start("books")
            await here.applied(books, TOPIC, LEDGERS, partition=1)
            await here.until(lambda: books.status.get("stopped"), "stop")
            return books.status["stopped"], books.position[TOPIC]["0"]

    told, position = asyncio.run(scenario())
    assert told.startswith("xrpl:one: books stop before ledger 32") and position == 30
    assert drops_of(tmp_path, "xrpl:two", true_drops(LEDGERS)) == true_drops(LEDGERS)


def test_assets_pass_from_worker_to_worker_in_mid_batch(tmp_path, kafka, messages):
    """A second worker joins while the first works, the first leaves, a third comes and is killed."""

    async def scenario():
        async with bench(tmp_path, kafka, chains=2) as here:
            ports = {name: free_port() for name in ("second", "third")}
            first = await here.start("assets")
            publishing = asyncio.create_task(publish_slowly(here, messages))
            await here.until(lambda: first.position.get(TOPIC), "a first batch")
            second = await here.start_another("assets", "second", TIDEBOOK_WEB_PORT=str(ports["second"]))
            await here.until(lambda: second.position.get(TOPIC), "a share for the second")
            assert await here.end(first) == 0
            third = await here.start_another("assets", "third", TIDEBOOK_WEB_PORT=str(ports["third"]))
            await here.until(lambda: third.status.get("ready"), "ready")
            await publishing
            third.process.kill()
            await all_applied(here, second)
            await owners_are_true(here, ports["second"])

    asyncio.run(scenario())


def test_books_pass_from_worker_to_worker_in_mid_batch(tmp_path, kafka, messages, tigerbeetle):
    """On a TigerBeetle server: one worker more, the first killed, the partitions back to a third."""

    async def scenario():
        async with bench(tmp_path, kafka, chains=2) as here:
            address = {"TIGERBEETLE_ADDRESSES": tigerbeetle}
            publishing = asyncio.create_task(publish_slowly(here, messages))
            first = await here.start_another("books", "first", **address)
            await here.until(lambda: first.position.get(TOPIC), "a first batch")
            second = await here.start_another("books", "second", **address)
            await here.until(lambda: second.position.get(TOPIC), "a share for the second")
            first.process.kill()
            third = await here.start_another("books", "third", **address)
            await publishing
            await all_applied(here, second, third)
            assert await here.end(second) == 0
            await here.publish(messages)  # all of it again: nothing is booked twice
            await here.applied(third, TOPIC, 2 * LEDGERS, 0)
            await here.applied(third, TOPIC, 2 * LEDGERS, 1)
            return [child.status.get("stopped") for child in (second, third)]

    assert asyncio.run(scenario()) == [None, None]
    expected = true_drops(LEDGERS)
    books = connect(tigerbeetle, 0)
    try:
        for chain in CHAINS:
            assert drops_in(books, chain, expected) == expected
    finally:
        books.close()


def test_a_second_worker_on_an_embedded_store_says_who_owns_it(tmp_path, kafka, messages):
    """It ends before it asks for partitions: the first keeps them and works on."""

    async def scenario():
        async with bench(tmp_path, kafka, chains=2) as here:
            await here.publish(messages[:100])
            first = {role: await here.start(role) for role in ("books", "history")}
            for child in first.values():
                await here.applied(child, TOPIC, 50)
            second = {role: await here.start_another(role, f"second-{role}") for role in first}
            found = {}
            for role, child in second.items():
                status = await asyncio.wait_for(child.process.wait(), PATIENCE_S)
                found[role] = status, child.last_words, first[role].process.pid
            await here.publish(messages[100:200])
            for child in first.values():
                await here.applied(child, TOPIC, 100)
            return found

    for status, words, owner in asyncio.run(scenario()).values():
        assert status == 2
        assert len(words) == 1 and str(owner) in words[0]


async def applied(here, child):
    """True once a worker has applied every chain; False where it ended to be started again, for a broker that takes
    longer to come back than a worker waits."""

    def through():
        assert child.process.returncode in (None, AGAIN_EXIT), child.last_words
        found = {child.position.get(TOPIC, {}).get(str(partition)) for partition in CHAINS.values()}
        return found == {LEDGERS} or child.process.returncode is not None

    await here.until(through, f"{child.name} applied all")
    return child.process.returncode is None


def test_the_broker_is_killed_while_roles_and_producer_work(tmp_path, kafka, kafka_server, messages):
    names = ("books", "assets", "history")

    async def scenario():
        async with bench(tmp_path, kafka, chains=2) as here:
            roles = [await here.start(role) for role in names]
            publishing = asyncio.create_task(publish_slowly(here, messages))
            await here.until(lambda: all(role.position.get(TOPIC) for role in roles), "first batches")
            kafka_server.kill()
            await asyncio.sleep(1)
            await asyncio.to_thread(kafka_server.start)
            await publishing
            for role in names:
                while not await applied(here, here.supervisor.children[role]):
                    await here.start(role)
            await owners_are_true(here, here.web_port)
            here.supervisor.check()  # nobody ended

    asyncio.run(scenario())
    books_are_true(tmp_path)
    history_is_true(tmp_path)


def test_topics_created_anew_drop_nothing_and_double_nothing(tmp_path, kafka, messages):
    """The same ledgers again in new topics, where offsets begin anew; a worker that lives through it ends."""

    async def scenario():
        async with bench(tmp_path, kafka, chains=2) as here:
            history = await here.start("history")
            await here.publish(messages[:300])
            await all_applied_to(here, history, 150)
            await wipe(kafka)
            await apply_topics(kafka, chains=2)
            status = await asyncio.wait_for(history.process.wait(), PATIENCE_S)
            said = history.last_words[-1]
            await here.publish(messages)
            history = await here.start("history")
            await all_applied(here, history)
            return status, said

    status, said = asyncio.run(scenario())
    assert status == 75 and "was created anew: this worker must start again" in said
    history_is_true(tmp_path)
    rows = queried(
        tmp_path,
        f"SELECT epoch, sum(duplicates) AS duplicates FROM sink_progress WHERE topic = '{TOPIC}' "
        "AND table = 'xrpl_ledgers' GROUP BY epoch ORDER BY min(committed_at)",
    )
    assert [int(row["duplicates"]) for row in rows] == [0, 300]


async def all_applied_to(here, child, count):
    for partition in CHAINS.values():
        await here.applied(child, TOPIC, count, partition)
