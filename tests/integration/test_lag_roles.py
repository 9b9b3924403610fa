"""Lag of real roles on the embedded broker and on Apache Kafka: from Kafka alone, whatever a process says."""

import asyncio
import json
import os
import signal
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.domain.findings import connect_headers, quarantined
from pipeline.domain.lag import Limits, State
from pipeline.domain.verdict import Watermark
from pipeline.lag.reader import topics_of_roles
from pipeline.lag.watch import Target, watching
from pipeline.lag_command import Asked, _serve, lag
from pipeline.recorded_node import RecordedNode
from pipeline.settings import read_settings
from pipeline.supervisor import free_port
from schemas.codec import local_codec
from tests.support.recorded import RECORDING, recorded_blocks
from tests.support.roles import PATIENCE_S, bench
from topics.envelope import Outgoing, outgoing

pytestmark = pytest.mark.xdist_group("roles")

TOPIC = "xrpl.ledgers.v1"
CHAIN = "xrpl:test"
CODEC = local_codec()
LIMITS = Limits(stall_s=2.0, look_s=1.0)


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A look waits for the broker as long as it takes a machine with much else to do."""
    monkeypatch.setattr("pipeline.lag.messages.WAIT_S", 120.0)


@pytest.fixture(scope="module")
def blocks():
    return list(recorded_blocks(CHAIN))


@pytest.fixture(scope="module")
def messages(blocks):
    return [outgoing(CODEC, TOPIC, CHAIN, block, partition=0) for block in blocks]


def role_of(report, name):
    return next(role for role in report.roles if role.role == name)


async def until(watch, met, timeout_s=PATIENCE_S):
    """Look until a report is as wanted; that report."""
    async with asyncio.timeout(timeout_s):
        while True:
            report = await watch.look()
            if met(report):
                return report
            await asyncio.sleep(0.2)


def test_the_topics_of_each_role_are_those_that_it_reads(tmp_path):
    from pipeline.app import make_role

    settings = read_settings(data_dir=tmp_path)
    for name, topics in topics_of_roles().items():
        assert sorted(make_role(name, settings).topics) == sorted(topics)


def at(report, block):
    """Whether every stage of the only chain has come to this block."""
    marks = [mark for chain in report.chains for mark in chain.stages.values()]
    return bool(marks) and all(mark is not None and mark.block == block for mark in marks)


async def stall_and_recover(here, messages):
    target = Target(here.url, "")
    async with watching(target, CODEC, LIMITS) as watch:
        empty = await watch.look()
        assert empty.healthy and empty.chains == ()
        assert {role.state for role in empty.roles} == {State.OK}

        await here.publish(messages[:100])
        report = await watch.look()
        books = role_of(report, "books")
        assert books.state == State.NOT_RUNNING and books.behind == 100 and not report.healthy
        assert next(p for p in books.partitions if p.topic == TOPIC).behind_blocks == 100

        child = await here.start_another("books", "patient", TIDEBOOK_BROKER_SESSION_S="25")
        report = await until(watch, lambda r: role_of(r, "books").behind == 0)
        books = role_of(report, "books")
        assert (books.state, books.members) == (State.OK, 1)
        (chain,) = report.chains
        assert chain.stages["books"] == chain.stages["ingested"]
        assert chain.stages["books"].block == 100 and chain.stages["history"] is None

        os.kill(child.process.pid, signal.SIGSTOP)  # alive, connected, and idle
        try:
            await here.publish(messages[100:150])
            report = await until(watch, lambda r: role_of(r, "books").state == State.STALLED)
        finally:
            os.kill(child.process.pid, signal.SIGCONT)
        books = role_of(report, "books")
        assert books.members == 1 and books.behind == 50
        assert any(line.startswith(f"books stalled: {TOPIC}-0@100: not moved") for line in report.unhealthy)

        report = await until(watch, lambda r: role_of(r, "books").behind == 0)
        assert role_of(report, "books").state == State.OK
        assert report.chains[0].stages["books"].block == 150


def test_a_stopped_process_stalls_and_recovers(tmp_path, messages):
    async def scenario():
        async with bench(tmp_path) as here:
            await stall_and_recover(here, messages)

    asyncio.run(scenario())


@pytest.mark.xdist_group("kafka")
def test_a_stopped_process_stalls_and_recovers_on_apache_kafka(tmp_path, kafka, messages):
    async def scenario():
        async with bench(tmp_path, kafka) as here:
            await stall_and_recover(here, messages)

    asyncio.run(scenario())


def test_all_roles_catch_up_to_the_head_that_a_node_tells(tmp_path, messages):
    """The node is known for this chain by the hash of a ledger that Kafka holds."""

    async def scenario():
        async with bench(tmp_path) as here, RecordedNode([RECORDING], start=130) as node:
            await here.publish(messages[:130])
            for role in ("books", "assets", "history"):
                await here.start(role)
            target = Target(here.url, f"ws://127.0.0.1:1,member=ws://127.0.0.1:2,{node.url}")
            async with watching(target, CODEC, Limits()) as watch:
                level = await until(watch, lambda r: all(role.behind == 0 for role in r.roles) and at(r, 130))
                node.advance(2)
                ahead = await watch.look()
                return level, ahead

    level, ahead = asyncio.run(scenario())
    assert {role.state for role in level.roles} == {State.OK} and level.healthy
    (chain,) = level.chains
    assert chain.chain == CHAIN and chain.state == State.OK
    assert {stage: mark.block for stage, mark in chain.stages.items()} == dict.fromkeys(
        ("head", "ingested", "books", "state", "history"), 130
    )
    assert len(level.problems) == 1 and "127.0.0.1:1" in level.problems[0]  # members are not asked
    (chain,) = ahead.chains
    assert chain.stages["head"].block == 132 and chain.state == State.CATCHING_UP
    assert chain.behind(chain.stages["books"])[0] == 2


def test_a_node_of_another_chain_is_told_and_not_believed(tmp_path, blocks):
    other = {**blocks[9], "ledger_hash": "A" * 64}

    async def scenario():
        async with bench(tmp_path) as here, RecordedNode([RECORDING]) as node:
            await here.publish([outgoing(CODEC, TOPIC, CHAIN, other, partition=0)])
            async with watching(Target(here.url, node.url), CODEC, LIMITS) as watch:
                return await watch.look()

    report = asyncio.run(scenario())
    assert report.chains[0].stages["head"] is None and report.chains[0].state == State.UNKNOWN
    assert "none of the chains in Kafka is its own" in report.problems[0]


def test_books_that_refuse_to_go_on_are_stopped_not_stalled(tmp_path, messages):
    cut = Outgoing(TOPIC, CHAIN.encode(), messages[30].value[:-20], (("ce_id", b"cut"),), 0)

    async def scenario():
        async with bench(tmp_path) as here:
            await here.publish([*messages[:30], cut, *messages[31:40]])
            await here.start("books")
            async with watching(Target(here.url, ""), CODEC, LIMITS) as watch:
                first = await until(watch, lambda r: role_of(r, "books").state == State.STOPPED)
                await here.kill("books")
                return first, await watch.look()

    first, dead = asyncio.run(scenario())
    for report in (first, dead):
        books = role_of(report, "books")
        assert books.state == State.STOPPED and not report.healthy
        assert books.reason.startswith(f"it stops before block 32 of {CHAIN}:") and "hole" in books.reason
    assert first.quarantined == 2  # the cut message, and the ledger behind the hole


def test_an_undecodable_message_at_the_end_hides_no_block(tmp_path, messages):
    rubbish = Outgoing(TOPIC, CHAIN.encode(), b"\x01rubbish", (("ce_id", b"rubbish"),), 0)

    async def scenario():
        async with bench(tmp_path) as here:
            await here.publish([*messages[:20], rubbish, rubbish])
            async with watching(Target(here.url, ""), CODEC, LIMITS) as watch:
                return await watch.look()

    report = asyncio.run(scenario())
    assert report.chains[0].stages["ingested"].block == 20
    assert role_of(report, "books").behind == 22


def test_a_ledger_in_chunks_counts_when_its_last_chunk_is_there(tmp_path, blocks):
    halves = [{**blocks[5], "chunk": chunk, "chunks": 2} for chunk in (0, 1)]
    parts = [outgoing(CODEC, TOPIC, CHAIN, half, partition=0) for half in [blocks[4], *halves]]

    async def scenario():
        seen = []
        async with bench(tmp_path) as here, watching(Target(here.url, ""), CODEC, LIMITS) as watch:
            for part in parts:
                await here.publish([part])
                seen.append((await watch.look()).chains[0].stages["ingested"].block)
        return seen

    assert asyncio.run(scenario()) == [5, 5, 6]


def gap_and_quarantine():
    """Ledgers 21 and 22 are missing on every node; three items are in quarantine."""
    mark = Watermark(CHAIN, 16384, "full", run=1, verified_up_to=20)
    verdict = mark.gap(21, 22, 1_700_000_000_000, skipped=False)
    items = [quarantined("ingest", CHAIN, -1, n, "epoch", "ledger_hash", "why", b"raw") for n in range(3)]
    return [
        outgoing(CODEC, "chains.verdicts.v1", CHAIN, verdict, partition=0),
        *(outgoing(CODEC, "quarantine.v1", CHAIN, item, headers=connect_headers(item)) for item in items),
    ]


def test_json_has_its_stable_keys_and_the_exit_status_tells(tmp_path, messages, capfdbinary):
    async def scenario():
        async with bench(tmp_path) as here:
            settings = read_settings(data_dir=tmp_path, kafka_url=here.url)
            asked = Asked(as_json=True, sample_s=0.5)
            statuses = [await asyncio.to_thread(lag, settings, asked)]
            await here.publish([*messages[:20], *gap_and_quarantine()])
            statuses.append(await asyncio.to_thread(lag, settings, asked))
            statuses.append(await asyncio.to_thread(lag, settings, Asked(sample_s=0.5)))
            return statuses

    assert asyncio.run(scenario()) == [0, 1, 1]
    told = capfdbinary.readouterr().out
    lines = told.split(b"\n", 2)
    level, behind = json.loads(lines[0]), json.loads(lines[1])
    keys = "healthy unhealthy problems broker looked_s roles chains quarantined alerts"
    assert list(level) == list(behind) == keys.split()
    assert level["healthy"] and not behind["healthy"] and level["chains"] == []
    assert behind["quarantined"] == 3
    (chain,) = behind["chains"]
    assert list(chain) == [
        "chain",
        "state",
        "healthy",
        "reason",
        "stages",
        "verified_up_to",
        "gap",
        "gaps_accepted",
    ]
    assert list(chain["stages"]) == ["head", "ingested", "books", "state", "history"]
    assert (chain["gap"], chain["verified_up_to"], chain["state"]) == (
        {"first": 21, "last": 22},
        20,
        "stalled",
    )
    assert list(chain["stages"]["ingested"]) == ["block", "time", "behind_blocks", "behind_s"]
    assert [role["role"] for role in behind["roles"]] == ["books", "assets", "history"]
    role = behind["roles"][0]
    assert list(role) == ["role", "group", "state", "healthy", "reason", "members", "behind", "partitions"]
    assert list(role["partitions"][0]) == [
        "topic", "partition", "committed", "end", "behind", "unmoved_s", "state", "reason", "applied",
        "behind_blocks", "behind_s",
    ]  # fmt: skip
    assert b"no node has blocks 21-22" in lines[2]


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


async def answer(port, path, met):
    """The first answer that is as wanted; servers take a moment."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                found = await asyncio.to_thread(get, port, path)
            except OSError:
                found = None
            if found and met(*found):
                return found
            await asyncio.sleep(0.1)


def test_the_exporter_judges_all_roles_and_says_when_the_broker_is_gone(tmp_path, messages):
    async def scenario():
        port = free_port()
        async with bench(tmp_path) as here:
            settings = read_settings(data_dir=tmp_path, metrics_port=port)
            serving = asyncio.create_task(
                _serve(settings, Target(here.url, ""), Asked(serve=True, every_s=0.2))
            )
            level = await answer(port, "/health", lambda status, _: status == 200)
            await here.publish([*messages[:20], *gap_and_quarantine()])
            late = await answer(
                port, "/health", lambda status, told: "not_running" in told and "21-22" in told
            )
            metrics = await asyncio.to_thread(get, port, "/metrics")
        gone = await answer(port, "/health", lambda status, told: "TIDEBOOK_KAFKA_URL" in told)
        after = await asyncio.to_thread(get, port, "/metrics")
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        return level, late, metrics, gone, after

    level, late, metrics, gone, after = asyncio.run(scenario())
    assert json.loads(level[1])["roles"] == {"books": "ok", "assets": "ok", "history": "ok"}
    assert late[0] == gone[0] == 503
    assert any(line.startswith("books not_running") for line in json.loads(late[1])["unhealthy"])
    samples = {  # (name, values of its labels in the order of their names)
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics[1])
        for sample in family.samples
    }
    assert samples["tidebook_consumer_lag_messages", "tidebook-books", "0", TOPIC] == 20
    assert samples["tidebook_consumer_lag_blocks", "tidebook-books", "0", TOPIC] == 20
    assert samples["tidebook_chain_block", CHAIN, "ingested"] == 20
    assert samples["tidebook_verified_up_to_block", CHAIN] == 20
    assert samples["tidebook_gaps_open", CHAIN] == 1
    assert samples["tidebook_gap_open_blocks", CHAIN] == 2
    assert samples["tidebook_quarantine_messages",] == 3
    assert samples["tidebook_role_healthy", "", "books"] == 0
    assert samples["tidebook_role_state", "", "books", "not_running"] == 1
    assert samples["tidebook_role_healthy", CHAIN, "ingest"] == 0
    assert samples["tidebook_healthy",] == 0
    assert "tidebook_consumer_lag_messages{" not in after[1]  # no figures are better than old ones
