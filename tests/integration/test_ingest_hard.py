"""Nodes that lie well, and gaps that are none: what an ingest must not believe."""

import asyncio
import copy
import os

import pytest

from pipeline.domain.verdict import Watermark
from pipeline.domain.xrpl_hash import ledger_hash
from pipeline.domain.xrpl_keys import parse_key
from pipeline.ingest.chains import Chain
from pipeline.ingest.ledgers import Stopped
from pipeline.ingest.publish import Publisher
from pipeline.ingest.xrpl import follow, nodes, witnesses
from pipeline.ingest.xrpl.node import NodeError, NotFound
from pipeline.recorded_node.faults import Faults
from pipeline.recorded_node.server import RecordedNode
from tests.support.canonical import header_fields
from tests.support.ingest import CODEC, LEDGERS, QUARANTINE, VERDICTS, indexes, sea
from tests.support.truth import RECORDED, read_ledgers
from topics.producer import Producer

LEDGERS_RECORDED = read_ledgers(RECORDED)
TRUTH = {one["ledger_index"]: one["ledger_hash"] for one in LEDGERS_RECORDED}
FORK = 40


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Seconds of a production ingest as tenths of them."""
    for name, value in {"GAP_GRACE_S": 0.4, "ASK_AGAIN_S": (0.05, 0.4), "VALIDATIONS_WAIT_S": 0.3}.items():
        monkeypatch.setattr(follow, name, value)
    for module in (follow, witnesses):
        monkeypatch.setattr(module, "WITNESS_WAIT_S", 0.3)
    monkeypatch.setattr("pipeline.ingest.xrpl.node.BACKOFF_S", (0.05, 0.5))
    monkeypatch.setattr("pipeline.ingest.xrpl.node.COOL_S", (0.05, 0.5))
    monkeypatch.setattr("pipeline.ingest.xrpl.node.DISTRUST_S", (1.0, 4.0))
    monkeypatch.setattr("pipeline.ingest.xrpl.nodes.POLL_S", 0.3)


def forked(first):
    """The recorded chain with another state from ledger `first` on: every hash holds, every ledger follows."""
    chain, parent = [], None
    for answer in LEDGERS_RECORDED:
        if answer["ledger_index"] >= first:
            answer = copy.deepcopy(answer)
            header = answer["ledger"]
            header |= {"account_hash": "AB" * 32, **({"parent_hash": parent} if parent else {})}
            parent = answer["ledger_hash"] = header["ledger_hash"] = ledger_hash(header_fields(header))
        chain.append(answer)
    return chain


def honest(**more):
    return RecordedNode([RECORDED], **more)


def is_the_truth(ledgers, first, last):
    assert indexes(ledgers) == list(range(first, last + 1))
    assert [one["ledger_index"] for one in ledgers if one["ledger_hash"] != TRUTH[one["ledger_index"]]] == []


@pytest.mark.parametrize("parallel", [1, 2, 16])
def test_one_of_three_that_forks_the_chain_is_outvoted_in_backfill(tmp_path, parallel):
    async def scenario():
        async with (
            sea(tmp_path) as here,
            RecordedNode(forked(FORK)) as liar,
            honest() as one,
            honest() as two,
        ):
            await here.ingest(liar, one, two, last=90, xrpl_parallel=parallel)
            return await here.records(LEDGERS), await here.records(QUARANTINE)

    ledgers, quarantine = asyncio.run(scenario())
    is_the_truth(ledgers, 1, 90)
    assert all(item["source_offset"] >= FORK for item in quarantine)


def test_one_of_three_that_forks_the_chain_is_outvoted_at_the_tip(tmp_path):
    late = Faults(late=0.2)

    async def scenario():
        async with (
            sea(tmp_path) as here,
            RecordedNode(forked(FORK), start=30, pace=0.1) as liar,
            honest(start=30, pace=0.1, faults=late) as one,
            honest(start=30, pace=0.1, faults=late) as two,
        ):
            await here.ingest(liar, one, two, last=70)
            return await here.records(LEDGERS)

    is_the_truth(asyncio.run(scenario()), 1, 70)


def test_one_node_of_another_chain_does_not_end_the_ingest(tmp_path):
    """It alone can be asked when the ledger after ours does not follow: that is no fork yet."""

    async def scenario():
        async with sea(tmp_path) as here, RecordedNode(forked(FORK)) as liar, honest() as one:
            await here.ingest(one, last=FORK + 5)
            await one.stop()
            going_on = asyncio.create_task(here.ingest(one, liar, last=FORK + 20))
            await asyncio.sleep(2)
            assert not going_on.done()
            await one.start()
            await going_on
            return await here.records(LEDGERS)

    is_the_truth(asyncio.run(scenario()), 1, FORK + 20)


def test_validators_overrule_two_of_three_nodes(tmp_path):
    """Keys in hex; only the honest node knows the validators' manifests and passes their validations on."""

    async def scenario():
        async with (
            sea(tmp_path) as here,
            RecordedNode(forked(FORK), start=35, pace=0.2) as liar,
            RecordedNode(forked(FORK), start=35, pace=0.2) as other,
            honest(start=35, pace=0.2, validators=5) as one,
        ):
            keys = ",".join(parse_key(key) for key in one.validator_keys)
            await here.ingest(liar, other, one, first="35", last=55, xrpl_validators=keys)
            return await here.records(LEDGERS), await here.records(VERDICTS)

    ledgers, verdicts = asyncio.run(scenario())
    is_the_truth(ledgers, 35, 55)
    assert verdicts[-1]["verified_up_to"] >= 50


def test_a_gap_is_not_accepted_while_a_node_that_may_have_it_is_away(tmp_path):
    async def scenario():
        async with (
            sea(tmp_path) as here,
            honest(faults=Faults(missing=frozenset(range(30, 35)))) as one,
            honest(faults=Faults(missing=frozenset(range(1, 30)))) as other,
        ):
            restarts = []

            async def restart():
                await other.stop()
                await asyncio.sleep(2)
                await other.start()

            def tell(ingest):
                if ingest.follower.next > 20 and not restarts:
                    restarts.append(asyncio.create_task(restart()))

            await here.ingest(one, other, last=50, accept_gap=True, tell=tell, xrpl_parallel=2)
            return await here.records(LEDGERS)

    is_the_truth(asyncio.run(scenario()), 1, 50)


def test_an_accepted_gap_is_not_gone_past_on_a_nodes_word_of_its_history(tmp_path, monkeypatch):
    """It says that it holds ledgers which are not there yet: they are waited for."""
    monkeypatch.setattr("pipeline.ingest.xrpl.node.ranges", lambda text: [(1, 300)])

    async def scenario():
        async with sea(tmp_path) as here, honest(start=30) as only:
            tasks = []

            async def boast(ingest):
                await asyncio.sleep(0.5)
                ingest.nodes.nodes[0].state.validated = 300
                await asyncio.sleep(3)
                only.advance(20)

            def tell(ingest):
                if not tasks:
                    tasks.append(asyncio.create_task(boast(ingest)))

            await here.ingest(only, last=50, accept_gap=True, tell=tell)
            return await here.records(LEDGERS)

    is_the_truth(asyncio.run(scenario()), 1, 50)


def test_the_last_ledger_wanted_lies_in_an_accepted_gap(tmp_path):
    async def scenario():
        async with sea(tmp_path) as here, honest(faults=Faults(missing=frozenset(range(20, 30)))) as only:
            ingest = await here.ingest(only, last=25, accept_gap=True)
            return ingest, await here.records(VERDICTS)

    ingest, verdicts = asyncio.run(scenario())
    assert ingest.state.gaps == [(20, 25)]  # exit status 3
    assert (verdicts[-1]["block"], verdicts[-1]["last_block"], verdicts[-1]["outcome"]) == (20, 25, "skipped")


def test_another_ledger_inside_the_answer_is_no_gap(tmp_path, monkeypatch):
    """Asked for 20 a node gives 25 under the index 20: with --accept-gap that must not skip five ledgers."""
    given, whole = [], nodes.checked

    def checked(node, index, answer):
        if index == 25 and not given:
            given.append(answer)
            raise NotFound("asked for too early")
        if index == 20 and len(given) < 2:
            if not given:
                raise NodeError("later: 25 must be there to lie with")
            given.append(answer)
            answer = {**given[0], "ledger_index": 20}
        return whole(node, index, answer)

    monkeypatch.setattr(nodes, "checked", checked)

    async def scenario():
        async with sea(tmp_path) as here, honest() as only:
            await here.ingest(only, last=40, accept_gap=True)
            return await here.records(LEDGERS)

    is_the_truth(asyncio.run(scenario()), 1, 40)
    assert len(given) == 2


def test_an_item_that_no_broker_takes_does_not_stop_the_ingest(tmp_path):
    async def scenario():
        async with sea(tmp_path) as here:
            producer = Producer(here.url)
            await producer.start()
            chain = Chain(1, "xrpl:test", tmp_path / "chain")
            publisher = Publisher(chain, CODEC, producer, Watermark("xrpl:test", 1, "full"), "e")
            try:
                async with asyncio.timeout(120):
                    await publisher.refuse(
                        Stopped("undecodable", "", 1, {"x": os.urandom(2 << 20).hex()}), "node"
                    )
            finally:
                await producer.stop()
            return publisher.state.quarantined

    assert asyncio.run(scenario()) == 1
