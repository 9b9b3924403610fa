"""The XRPL ingest on recorded nodes: backfill and live, gaps, forgeries, validators, restarts, two at once."""

import asyncio
import contextlib
import os
import random

import pytest

from pipeline.ingest.xrpl import follow
from pipeline.recorded_node.faults import Faults
from pipeline.recorded_node.server import RecordedNode
from pipeline.supervisor import Supervisor
from tests.support.ingest import (
    ALERTS,
    LEDGERS,
    QUARANTINE,
    VERDICTS,
    indexes,
    sea,
    whole_and_in_order,
)
from tests.support.roles import drops_of, true_drops
from tests.support.states import state_67
from tests.support.truth import RECORDED, ROOT, read_ledgers

pytestmark = pytest.mark.xdist_group("ingest")

LAST = 353
MAINNET = ROOT.parent / "shared/data/xrpl/ledgers"


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Seconds of a production ingest as tenths of them."""
    monkeypatch.setattr(follow, "GAP_GRACE_S", 0.4)
    monkeypatch.setattr(follow, "ASK_AGAIN_S", (0.05, 0.4))
    monkeypatch.setattr(follow, "VALIDATIONS_WAIT_S", 0.3)
    monkeypatch.setattr(follow, "WITNESS_WAIT_S", 0.3)
    monkeypatch.setattr("pipeline.ingest.xrpl.node.BACKOFF_S", (0.05, 0.5))
    monkeypatch.setattr("pipeline.ingest.xrpl.node.COOL_S", (0.05, 0.5))
    monkeypatch.setattr("pipeline.ingest.xrpl.node.DISTRUST_S", (1.0, 4.0))
    monkeypatch.setattr("pipeline.ingest.xrpl.nodes.POLL_S", 0.3)


def node(**more):
    return RecordedNode([RECORDED], **more)


def test_backfill_then_live_in_one_loop(tmp_path):
    async def scenario():
        async with sea(tmp_path) as here, node(start=250) as only:

            def tell(ingest):  # the chain goes on whenever all of it is there
                if ingest.state.block == only.last < LAST:
                    only.advance(min(5, LAST - only.last))

            ingest = await here.ingest(only, last=LAST, tell=tell)
            return ingest, await here.records(LEDGERS), await here.records(VERDICTS)

    ingest, ledgers, verdicts = asyncio.run(scenario())
    assert indexes(ledgers) == list(range(1, LAST + 1))
    assert {verdict["outcome"] for verdict in verdicts} == {"verified"}
    assert [verdict["verified_up_to"] for verdict in verdicts] == list(range(1, LAST + 1))
    names = {check["name"] for check in verdicts[-1]["checks"]}
    assert {"parent_hash", "header_hash", "total_coins", "transaction_root"} <= names
    assert len(ingest.follower.latencies) > 20


@pytest.mark.parametrize("level", ["header", "full"])
def test_a_restart_goes_on_behind_what_kafka_holds(tmp_path, level):
    async def scenario():
        async with sea(tmp_path) as here, node() as only:
            for last in (40, 41, 200):
                ingest = await here.ingest(only, first="", last=last, xrpl_verify=level) if last > 40 else (
                    await here.ingest(only, last=last, xrpl_verify=level))  # fmt: skip
            return ingest, await here.records(LEDGERS)

    ingest, ledgers = asyncio.run(scenario())
    assert ingest.resumed_at == 42
    assert indexes(ledgers) == list(range(1, 201))
    assert {record["run"] for record in ledgers} == {1}


def test_a_gap_of_one_node_is_filled_by_another(tmp_path):
    async def scenario():
        async with (
            sea(tmp_path) as here,
            node(faults=Faults(missing=frozenset(range(50, 60)))) as one,
            node(faults=Faults(missing=frozenset(range(100, 140)))) as other,
        ):
            await here.ingest(one, other, last=160)
            return await here.records(LEDGERS), await here.records(VERDICTS)

    ledgers, verdicts = asyncio.run(scenario())
    assert indexes(ledgers) == list(range(1, 161))
    assert {verdict["outcome"] for verdict in verdicts} == {"verified"}


def test_a_gap_of_all_nodes_is_told_waited_for_and_filled_later(tmp_path):
    async def scenario():
        told = []
        async with sea(tmp_path) as here, node(faults=Faults(missing=frozenset({70, 71}))) as only:

            def tell(ingest):
                told.append(ingest.state.open_gap)
                if ingest.state.open_gap == (70, 71) and len(told) > 3:
                    only.faults.missing = frozenset()

            await here.ingest(only, last=90, tell=tell)
            return told, await here.records(LEDGERS), await here.records(VERDICTS), await here.records(ALERTS)

    told, ledgers, verdicts, alerts = asyncio.run(scenario())
    assert (70, 71) in told
    assert told[-1] is None
    assert indexes(ledgers) == list(range(1, 91))
    missing = [verdict for verdict in verdicts if verdict["outcome"] == "missing"]
    assert [(verdict["block"], verdict["last_block"]) for verdict in missing] == [(70, 71)]
    assert verdicts[-1]["verified_up_to"] == 90
    assert [(alert["rule"], alert["subject"]) for alert in alerts] == [("gap_open", "70-71")]


def test_an_accepted_gap_is_gone_past_and_begins_a_run(tmp_path):
    async def scenario():
        async with sea(tmp_path) as here, node(faults=Faults(missing=frozenset({70, 71}))) as only:
            ingest = await here.ingest(only, last=90, accept_gap=True)
            return ingest, await here.records(LEDGERS), await here.records(VERDICTS)

    ingest, ledgers, verdicts = asyncio.run(scenario())
    assert ingest.state.gaps == [(70, 71)]
    assert indexes(ledgers) == [*range(1, 70), *range(72, 91)]
    first = ledgers[69]
    assert (first["run"], first["gap_from"], first["gap_to"]) == (72, 70, 71)
    assert [v["outcome"] for v in verdicts if v["block"] == 70] == ["missing", "skipped"]
    assert (verdicts[-1]["run"], verdicts[-1]["verified_up_to"], verdicts[-1]["gaps"]) == (72, 90, 1)


@pytest.mark.skipif(not MAINNET.exists(), reason="the shared mainnet recordings are not here")
def test_the_gap_of_the_recorded_mainnet_is_open_until_it_is_accepted(tmp_path):
    """Ledgers 11119605 and 11119606 are on no node: told and waited for, then gone past, and verified behind."""

    async def scenario():
        told, open_gap = [], asyncio.Event()

        def tell(ingest):
            told.append(ingest.state.open_gap)
            if told[-1] is not None:
                open_gap.set()

        async with sea(tmp_path) as here, RecordedNode([MAINNET]) as only:
            waiting = asyncio.create_task(here.ingest(only, first="11119599", last=11119618, tell=tell))
            await asyncio.wait_for(open_gap.wait(), 240)
            await asyncio.sleep(1)
            assert not waiting.done()
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            ingest = await here.ingest(only, first="", last=11119618, accept_gap=True)
            return told[-1], ingest, await here.records(LEDGERS), await here.records(VERDICTS)

    told, ingest, ledgers, verdicts = asyncio.run(scenario())
    assert told == (11119605, 11119606)
    assert ingest.state.gaps == [(11119605, 11119606)]
    assert indexes(ledgers) == [*range(11119599, 11119605), *range(11119607, 11119619)]
    outcomes = {verdict["block"]: verdict["outcome"] for verdict in verdicts}
    assert outcomes.pop(11119605) == "skipped"
    assert set(outcomes.values()) == {"verified"}
    assert (verdicts[-1]["run"], verdicts[-1]["verified_up_to"]) == (11119607, 11119618)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("forged_transaction", {"transaction_id", "transaction_root"}),
        ("forged_header", {"ledger_hash"}),
        ("other_chain", {"witnesses", "parent_hash"}),
        ("lacks_transaction", {"transaction_root", "total_coins"}),
    ],
)
def test_a_forged_ledger_is_refused_quarantined_alerted_and_asked_elsewhere(tmp_path, fault, reason):
    wrong = frozenset(range(40, 70))

    async def scenario():
        async with (
            sea(tmp_path) as here,
            node(faults=Faults(only=wrong, **{fault: 1.0})) as liar,
            node() as honest,
        ):
            ingest = await here.ingest(liar, honest, last=80)
            told = [await here.records(topic) for topic in (LEDGERS, VERDICTS, ALERTS, QUARANTINE)]
            return ingest, told

    ingest, (ledgers, verdicts, alerts, quarantine) = asyncio.run(scenario())
    assert indexes(ledgers) == list(range(1, 81))
    assert {verdict["outcome"] for verdict in verdicts} == {"verified"}
    assert ingest.nodes.nodes[0].state.distrusted > 0 == ingest.nodes.nodes[1].state.distrusted
    assert {alert["rule"] for alert in alerts} == {"ledger_refused"}
    assert {item["reason"] for item in quarantine} <= reason
    assert len(quarantine) == ingest.state.quarantined > 0
    assert all(item["role"] == "ingest" and item["source_offset"] in wrong for item in quarantine)


def test_validators_are_named_and_a_lacking_quorum_is_unproven(tmp_path):
    async def scenario():
        async with sea(tmp_path) as here, node(start=100, validators=5) as only:
            keys = ",".join(only.validator_keys)

            def tell(ingest):
                if ingest.state.block < only.last or only.last == 130:
                    return
                only.faults.forged_validation = frozenset({2}) if only.last >= 110 else frozenset()
                only.faults.missing_validation = frozenset({0, 1}) if only.last >= 120 else frozenset()
                only.advance()

            await here.ingest(only, first="100", last=130, tell=tell, xrpl_validators=keys)
            return await here.records(VERDICTS)

    verdicts = {
        v["block"]: v for v in asyncio.run(scenario()) if v["block"] == v["last_block"] and v["validators"]
    }
    assert set(verdicts) == set(range(100, 131))
    whole, forged, short = verdicts[105], verdicts[115], verdicts[125]
    assert [vote["vote"] for vote in whole["validators"]] == ["signed"] * 5
    assert (whole["signed"], whole["quorum"], whole["outcome"]) == (5, 4, "verified")
    assert [vote["vote"] for vote in forged["validators"]] == [
        "signed",
        "signed",
        "forged",
        "signed",
        "signed",
    ]
    assert (forged["signed"], forged["outcome"]) == (4, "verified")
    assert [vote["vote"] for vote in short["validators"]] == [
        "absent",
        "absent",
        "forged",
        "signed",
        "signed",
    ]
    assert (short["signed"], short["outcome"]) == (2, "unproven")
    assert "2 of 4" in short["reason"]


def test_two_ingests_at_once_are_harmless(tmp_path):
    async def scenario():
        async with (
            sea(tmp_path) as here,
            node(start=200, pace=0.01) as one,
            node(start=200, pace=0.01) as other,
        ):
            await asyncio.gather(here.ingest(one, last=LAST), here.ingest(other, one, last=LAST))
            return await here.records(LEDGERS)

    whole_and_in_order(asyncio.run(scenario()), 1, LAST)


# Kept because they once failed: 3, a node's "not validated" at the start counted as "nobody has it"; 4, a lying
# node's first ledger decided which chain is followed; 24, a cancellation lost by wait_for left a task for ever.
KEPT_SEEDS = "2,3,4,24"
SEEDS = [int(seed) for seed in os.environ.get("TIDEBOOK_STORM_SEEDS", KEPT_SEEDS).split(",")]
STORM_LAST = 341  # the node's own state after it is known


def weather_of(chance, number):
    """Faults of one of three nodes. What number 1 lacks and number 0 has not reached, number 2 has."""
    lies = 0.03 if number == 0 else 0.0
    return Faults(
        seed=chance.randrange(1 << 30),
        disconnect=chance.choice([0, 60, 150]),
        silence=chance.choice([0.0, 1.5]),
        silence_every=150,
        slow=chance.choice([0.0, 0.01]),
        late=chance.choice([0.0, 0.2]),
        reorder=0.1,
        duplicate=0.1,
        behind=chance.choice([0, 30]) if number == 0 else 0,
        forged_transaction=lies,
        forged_header=lies,
        lacks_transaction=lies,
        other_ledger=lies,
        other_chain=lies,
        not_validated=0.02,
        garbage=0.01,
        no_id=0.01,
        html=0.01,
        slow_down=0.02,
        too_busy=0.02,
        missing=frozenset(chance.sample(range(2, STORM_LAST), 20)) if number == 1 else frozenset(),
    )


async def booked(here, last):
    """Run the books role until it has booked the last ledger."""
    env = {"TIDEBOOK_DATA_DIR": str(here.data_dir), "TIDEBOOK_KAFKA_URL": here.url, "TIDEBOOK_EPOCH": "storm",
           "TIDEBOOK_BROKER_SESSION_S": "3"}  # fmt: skip
    supervisor = Supervisor(here.data_dir / "logs", env)
    try:
        books = await supervisor.start("books", ["work", "books"])
        async with asyncio.timeout(240):
            while books.status.get("block") != last:
                supervisor.check()
                assert "stopped" not in books.status, books.status
                await asyncio.sleep(0.1)
    finally:
        await supervisor.stop()


@pytest.mark.parametrize("seed", SEEDS)
def test_storm(tmp_path, seed):
    """Everything at once, seeded: cut connections, silence, lies, stale and slow nodes, two ingests, restarts.

    TIDEBOOK_STORM_SEEDS=1,2,3,… for a longer one.
    """
    chance = random.Random(seed)

    def stormy(number):
        return node(start=100, pace=0.02, faults=weather_of(chance, number))

    async def scenario():
        async with sea(tmp_path) as here, stormy(0) as one, stormy(1) as two, stormy(2) as three:

            async def killed_and_started_again():
                for _ in range(3):
                    with contextlib.suppress(TimeoutError):
                        await here.ingest(two, three, one, last=STORM_LAST, timeout_s=chance.uniform(0.5, 2.0),
                                          xrpl_timeout_s=1.0)  # fmt: skip
                await here.ingest(two, three, one, last=STORM_LAST, timeout_s=400, xrpl_timeout_s=1.0)

            async def node_restarts():
                await asyncio.sleep(1.0)
                await three.restart()

            await asyncio.gather(
                here.ingest(one, two, three, last=STORM_LAST, timeout_s=400, xrpl_timeout_s=1.0),
                killed_and_started_again(),
                node_restarts(),
            )
            await booked(here, STORM_LAST)
            return await here.records(LEDGERS), await here.records(VERDICTS)

    ledgers, verdicts = asyncio.run(scenario())
    expected = true_drops(STORM_LAST)
    assert drops_of(tmp_path, ledgers[0]["chain"], expected) == expected
    whole_and_in_order(ledgers, 1, STORM_LAST)
    truth = {one["ledger_index"]: one["ledger_hash"] for one in read_ledgers(RECORDED)}
    assert all(record["ledger_hash"] == truth[record["ledger_index"]] for record in ledgers)
    assert {v["block"] for v in verdicts if v["outcome"] == "verified"} == set(range(1, STORM_LAST + 1))


def test_a_snapshot_is_where_the_line_begins(tmp_path):
    """State of ledger 67 as pages, then ledgers 68 to 90, checked against 67; a restart goes on in the same run."""

    async def scenario():
        async with sea(tmp_path) as here, node(snapshot=(67, state_67())) as only:
            await here.ingest(only, first="", snapshot=67, last=80)
            await here.ingest(only, first="", snapshot=67, last=90)
            return [await here.records(topic) for topic in ("xrpl.states.v1", LEDGERS, VERDICTS)]

    states, ledgers, verdicts = asyncio.run(scenario())
    assert [page["last"] for page in states] == [False] * (len(states) - 1) + [True]
    assert {page["ledger_index"] for page in states} == {67}
    assert indexes(ledgers) == list(range(68, 91))
    assert {record["run"] for record in ledgers} == {68}
    assert all(
        check["outcome"] == "holds"
        for v in verdicts
        for check in v["checks"]
        if check["name"] == "parent_hash"
    )
    assert (verdicts[-1]["run"], verdicts[-1]["verified_up_to"]) == (68, 90)


def test_a_chain_is_known_again_by_what_kafka_holds_when_nodes_have_forgotten_its_beginning(tmp_path):
    async def scenario():
        async with sea(tmp_path) as here, node() as only:
            await here.ingest(only, last=60)
            only.faults.first = 50
            await here.ingest(only, first="", last=80)
            return await here.records(LEDGERS)

    ledgers = asyncio.run(scenario())
    assert indexes(ledgers) == list(range(1, 81))
    assert len(list((tmp_path / "chains").glob("*.chain"))) == 1
