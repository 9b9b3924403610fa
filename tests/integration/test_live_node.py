"""The XRPL ingest live against a real node in stand-alone mode: the node's own state at the end is the judge.

A seeded play (tests/support/live_scenes.py) goes on while ingests follow, are killed and meet, and the node is
restarted: refused connections, then a node without a validated ledger, then on. Needs a rippled or xrpld on PATH.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from types import SimpleNamespace

import pytest

from tests.support.demo import EXPORTS, expected_rows, exported
from tests.support.ingest import whole_and_in_order
from tests.support.live import NETWORK, command, live
from tests.support.live_chain import LiveChain
from tests.support.live_scenes import SCENES, cast, play
from tests.support.live_truth import node_tables
from tests.support.rippled import live_node, needs_node
from tests.support.truth import state_tables, truth_tables

pytestmark = [needs_node, pytest.mark.slow, pytest.mark.xdist_group("live")]

SEED = 5


async def restart_node(chain):
    """A clean stop; connections are refused; then a node that is not synced; then the chain goes on."""
    await chain.disconnect()
    await chain.node.stop()
    await asyncio.sleep(1.5)
    await chain.node.start_unsynced()
    await asyncio.sleep(2.5)
    await chain.node.stop()
    assert await chain.node.start() == []  # nothing was lost
    await chain.connect()


async def steady(chain, ledgers):
    """A ledger every 0.2 s, a few payments in each: their indexes."""
    found = []
    for _ in range(ledgers):
        await SCENES["pay"][0](chain)
        found.append(await chain.close())
        await asyncio.sleep(0.2)
    return found


async def story(tmp_path):
    """Everything that happens; what is left to judge."""
    async with (
        live_node(tmp_path) as node,
        live(tmp_path / "data", node.url) as here,
    ):
        started = time.monotonic()
        chain = LiveChain(node, SEED)
        await chain.connect()
        await chain.begin()
        await here.start_roles()
        first = await here.ingest("first", "--from", "genesis")
        await cast(chain)
        await play(chain, 40)
        await here.kill(first)  # in mid-work
        await play(chain, 15)
        second = await here.ingest("second")
        await here.reached(await chain.close(), second)
        await restart_node(chain)
        await play(chain, 40)
        rival = await here.ingest("rival", TIDEBOOK_DATA_DIR=str(tmp_path / "elsewhere"))
        await play(chain, 20)
        await here.until(lambda: rival.status.get("nodes", [{}])[0].get("usable"), "the rival follows too")
        await steady(chain, 20)  # both at once
        await play(chain, 20)
        await here.reached(await chain.close(), second)
        rival_told = dict(rival.status)
        await here.kill(second)
        await play(chain, 10)
        await here.kill(rival)
        third = await here.ingest("third")
        await restart_node(chain)  # while the ingest starts
        await play(chain, 30)
        await here.reached(await chain.close(), third)
        calm = await steady(chain, 60)
        last = await chain.close(2)
        await here.reached(last, third)
        played = time.monotonic() - started
        await here.applied(last)
        found = SimpleNamespace(
            chain=chain, last=last, calm=calm, ledgers=here.ledgers, verdicts=here.verdicts, data_dir=here.data_dir,
            state=await node.state(last), header=(await chain.ledger(last))["ledger"], seconds=played,
            nfts=await here.holdings("nft"), mpts=await here.holdings("mpt"),
            rival=rival_told, node=third.status["nodes"][0],
        )  # fmt: skip
        await chain.disconnect()
        return found


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    return asyncio.run(story(tmp_path_factory.mktemp("live")))


def test_kafka_holds_every_ledger_in_order_as_the_node_closed_it(told):
    whole_and_in_order(told.ledgers.records, 1, told.last)
    hashes = {a["ledger"]["ledger_index"]: a["ledger_hash"] for a in told.chain.ledgers}
    assert sorted(hashes) == list(range(1, told.last + 1))
    assert {r["ledger_index"]: r["ledger_hash"] for r in told.ledgers.records} == hashes
    assert {record["chain"] for record in told.ledgers.records} == {NETWORK}
    assert {record["run"] for record in told.ledgers.records} == {1}


def test_two_ingests_published_the_same_bytes(told):
    """They met: some ledgers stand there twice, and what the second wrote is what the first wrote."""
    by_index = {}
    for record, value in zip(told.ledgers.records, told.ledgers.values, strict=True):
        by_index.setdefault(record["ledger_index"], []).append(value)
    assert any(len(values) > 1 for values in by_index.values())
    assert all(len(set(values)) == 1 for values in by_index.values())
    assert told.rival["counts"]["ledgers"] > 5


def test_every_ledger_is_verified_at_level_full(told):
    verdicts = told.verdicts.records
    assert {(v["outcome"], v["level"]) for v in verdicts} == {("verified", "full")}
    assert {v["block"] for v in verdicts} == set(range(1, told.last + 1))
    assert verdicts[-1]["verified_up_to"] == told.last
    checks = {c["name"]: c["outcome"] for c in verdicts[-1]["checks"]}
    assert {name for name, outcome in checks.items() if outcome == "holds"} >= {
        "parent_hash", "header_hash", "total_coins", "transaction_root",
    }  # fmt: skip


def test_the_play_was_worth_seeing(told):
    """All scenes came about, with failures, bridged offers and empty ledgers."""
    counts, ledgers = told.chain.counts, told.chain.ledgers
    assert not told.chain.refused
    done = {kind for kind, result in counts if result == "tesSUCCESS"}
    assert done >= {
        "Payment", "TrustSet", "OfferCreate", "OfferCancel", "NFTokenMint", "NFTokenCreateOffer",
        "NFTokenAcceptOffer", "NFTokenBurn", "MPTokenIssuanceCreate", "MPTokenAuthorize", "MPTokenIssuanceSet",
        "Clawback", "AMMCreate", "AMMDeposit", "EscrowCreate", "EscrowFinish", "PaymentChannelCreate",
        "PaymentChannelClaim", "CheckCreate", "CheckCash", "TicketCreate",
    }  # fmt: skip
    assert sum(count for (_, result), count in counts.items() if result.startswith("tec")) > 20
    assert any(not answer["ledger"]["transactions"] for answer in ledgers)
    assert any(len(_books(entry)) > 1 for answer in ledgers for entry in answer["ledger"]["transactions"])


def _books(entry):
    """Which (gets, pays) of other people's offers an OfferCreate consumed."""
    if entry["tx_json"]["TransactionType"] != "OfferCreate":
        return set()
    found = set()
    for node in entry["meta"]["AffectedNodes"]:
        ((kind, body),) = node.items()
        offer = body.get("FinalFields", {})
        if (
            body["LedgerEntryType"] == "Offer"
            and kind != "CreatedNode"
            and "TakerGets" in body.get("PreviousFields", {})
        ):
            found.add(tuple(isinstance(offer[side], str) for side in ("TakerGets", "TakerPays")))
    return found


def test_the_drivers_own_fold_is_the_nodes_state(told):
    assert state_tables(told.chain.state) == truth_tables({"tables": node_tables(told.state)})


@pytest.mark.parametrize("what", EXPORTS)
def test_exports_are_the_nodes_own_state(told, what):
    """Books, and the rows of history behind them, against `ledger_data` of the last ledger."""
    expected = expected_rows(what, node_tables(told.state))
    assert exported(told.data_dir, what) == expected
    assert exported(told.data_dir, what, "--at", str(told.last)) == expected
    assert expected


def test_holdings_are_the_nodes_own_state(told):
    tables = node_tables(told.state)
    assert {asset: row["owner"] for asset, row in told.nfts.items()} == {
        f"nft:{nft}": row["owner"] for nft, row in tables["nfts"].items()
    }
    assert {asset: (row["owner"], row["amount"], row["locked"]) for asset, row in told.mpts.items()} == {
        f"mpt:{issuance}": (row["issuer"], row["outstanding"], row.get("LockedAmount", "0"))
        for issuance, row in tables["mpt_issuances"].items()
    }


def test_the_reports_invariants_hold(told):
    out = subprocess.run(
        [sys.executable, "-m", "tests.support.report_child", str(told.data_dir), NETWORK],
        capture_output=True, text=True, timeout=240, check=True,
    ).stdout  # fmt: skip
    report = json.loads(out)
    assert (report["first_ledger"], report["last_ledger"], report["runs"]) == (1, told.last, 1)
    assert report["transactions"] == told.chain.counts.total()
    assert report["xrp"]["in_books"] == int(told.header["total_coins"])
    assert report["xrp"]["total"] == 10**17
    judged = {name for name, verdict in report["invariants"].items() if verdict is True}
    assert judged >= {
        "hash_chain", "no_duplicates", "clearing_zero", "xrp_conserved", "fees_equal_fall_of_total_coins",
        "gas_report_equals_fee_burn", "books_equal_ledger", "books_equal_history",
    }  # fmt: skip
    assert False not in report["invariants"].values()
    assert [alert["rule"] for alert in report["alerts"]] == []


def test_the_figures_of_the_play(told, record_property):
    """No limits here: figures for the notes, and that they can be taken."""
    arrived, closed = told.ledgers.arrived(), told.chain.closed_at
    waits = sorted(arrived[index] - closed[index] for index in told.calm)
    kinds = Counter()
    for (kind, _), count in told.chain.counts.items():
        kinds[kind] += count
    figures = {
        "ledgers": told.last,
        "messages": len(told.ledgers.records),
        "transactions": kinds.total(),
        "types": len(kinds),
        "failed": sum(n for (_, result), n in told.chain.counts.items() if result != "tesSUCCESS"),
        "seconds": round(told.seconds, 1),
        "closed_to_consumer_ms_p50": round(1000 * waits[len(waits) // 2], 1),
        "closed_to_consumer_ms_p99": round(1000 * waits[int(len(waits) * 0.99)], 1),
    }
    record_property("figures", figures)
    print(json.dumps(figures), dict(kinds.most_common()))
    assert len(waits) == len(told.calm)


async def lose_ledgers(chain):
    """Kill the node: its newest ledgers are on no disk yet, or we see to it. Those that it has not any more."""
    await chain.disconnect()
    await chain.node.kill()
    lost = await chain.node.start(back=3)
    await chain.connect()
    await chain.submit(
        "genesis", "Payment", Destination=chain.address("ada"), Amount="424242"
    )  # another history
    return lost


async def fork(tmp_path):
    """A node that comes back without the ledgers that are published, and closes others in their place."""
    async with live_node(tmp_path) as node, live(tmp_path / "data", node.url) as here:
        chain = LiveChain(node, SEED)
        await chain.connect()
        await chain.begin()
        ingest = await here.ingest("first", "--from", "genesis")
        await cast(chain)
        await here.reached(await chain.close(), ingest)
        await restart_node(chain)  # from now on its data are on disk
        held = await chain.close(5)
        await here.reached(held, ingest)
        lost = await lose_ledgers(chain)
        waited = await wait_on_the_shorter_chain(here, ingest)
        while (await node.accept())["ledger_index"] < held + 2:
            pass
        statuses = [await asyncio.wait_for(ingest.process.wait(), 90)]
        await ingest.readers[1]
        again = await here.ingest("again")
        statuses.append(await asyncio.wait_for(again.process.wait(), 90))
        await again.readers[1]
        await asyncio.sleep(1)  # time for a wrong message to come
        logs = [(here.data_dir / f"logs/{name}.log").read_text() for name in ("first", "again")]
        await chain.disconnect()
        return SimpleNamespace(
            lost=lost, held=held, waited=waited, statuses=statuses, logs=logs, ledgers=here.ledgers.records,
            verdicts=here.verdicts.records, closed=chain.ledgers,
        )  # fmt: skip


async def wait_on_the_shorter_chain(here, ingest):
    """It goes on living while the node is behind what is published: that alone is no fork."""
    await here.until(lambda: ingest.status["nodes"][0]["usable"], "the node is followed again", 90)
    await asyncio.sleep(1)
    return ingest.process.returncode is None


def test_a_node_that_comes_back_with_other_ledgers_ends_the_ingest(tmp_path):
    told = asyncio.run(fork(tmp_path))
    assert len(told.lost) >= 3
    assert told.lost[-1] == told.held
    assert told.waited
    whole_and_in_order(told.ledgers, 1, told.held)
    hashes = {a["ledger"]["ledger_index"]: a["ledger_hash"] for a in told.closed}
    assert {r["ledger_index"]: r["ledger_hash"] for r in told.ledgers} == hashes
    assert {v["outcome"] for v in told.verdicts} == {"verified"}
    assert told.statuses == [1, 1]
    for log in told.logs:
        (line,) = log.splitlines()
        assert line.startswith(f"tidebook: ledger {told.held + 1}")
        assert str(told.held) in line


BAD = {
    "another network": (
        {"TIDEBOOK_XRPL_NETWORK": "xrpl:1"},
        2,
        ["of network 0, not 1", "TIDEBOOK_XRPL_NETWORK"],
    ),
    "not mainnet": (
        {"TIDEBOOK_XRPL_NETWORK": "xrpl:0"},
        2,
        ["not of the chain xrpl:0", "TIDEBOOK_XRPL_NETWORK"],
    ),
    "http": (
        {"TIDEBOOK_XRPL_URLS": "http://127.0.0.1:{ws}"},
        2,
        ["TIDEBOOK_XRPL_URLS", "HTTP address", "ws://"],
    ),
    "https": ({"TIDEBOOK_XRPL_URLS": "https://127.0.0.1:{ws}"}, 2, ["TIDEBOOK_XRPL_URLS", "wss://"]),
    "TLS to a plain port": (  # the node resets the connection, as one that is just going down would
        {"TIDEBOOK_XRPL_URLS": "wss://127.0.0.1:{ws}"},
        1,
        ["TIDEBOOK_XRPL_URLS", "no node answers", "TLS handshake"],
    ),
    "the port of HTTP": (
        {"TIDEBOOK_XRPL_URLS": "ws://127.0.0.1:{rpc}"},
        2,
        ["TIDEBOOK_XRPL_URLS", "no WebSocket"],
    ),
    "no URL": ({"TIDEBOOK_XRPL_URLS": ""}, 2, ["TIDEBOOK_XRPL_URLS is empty"]),
    "no core node": ({"TIDEBOOK_XRPL_URLS": "member=ws://127.0.0.1:{ws}"}, 2, ["TIDEBOOK_XRPL_URLS", "core"]),
    "nobody there": (
        {"TIDEBOOK_XRPL_URLS": "ws://127.0.0.1:1"},
        1,
        ["TIDEBOOK_XRPL_URLS", "no node answers"],
    ),
    "a ledger to come": ({"first": "99999"}, 1, ["ledger 99999"]),
    "no such word": ({"first": "newest"}, 1, ["--from 'newest'"]),
}


async def call_badly(tmp_path):
    """Every wrong call against a node that is well: (status, stderr) by name."""
    told = {}
    async with live_node(tmp_path) as node, live(tmp_path / "data", node.url) as here:
        await node.accept()
        for name, (changes, _, _) in BAD.items():
            ports = {"ws": node.ws_port, "rpc": node.rpc_port}
            env = {**here.env, **{k: v.format(**ports) for k, v in changes.items() if k.isupper()}}
            options = ["--from", changes.get("first", "earliest"), "--wait", "4", "--to", "3"]
            told[name] = (*await command("ingest", "xrpl", *options, **env), len(here.ledgers.records))
    return told


@pytest.fixture(scope="module")
def bad_calls(tmp_path_factory):
    return asyncio.run(call_badly(tmp_path_factory.mktemp("bad")))


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_setting_gives_one_clear_line(bad_calls, name):
    status, out, err, published = bad_calls[name]
    _, expected, words = BAD[name]
    assert (status, out, published) == (expected, "", 0), err
    (line,) = err.splitlines()
    assert line.startswith("tidebook: ")
    assert [word for word in words if word not in line] == [], line
