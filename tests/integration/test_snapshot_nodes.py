"""A starting state over WebSocket, from the pool of nodes: faults, a liar, a node that lacks the ledger."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from pipeline.ingest import snapshot as taking
from pipeline.ingest.snapshot import take_snapshot
from pipeline.ingest.state_pages import SnapshotError
from pipeline.ingest.xrpl.address import Address
from pipeline.ingest.xrpl.nodes import Nodes
from pipeline.ingest.xrpl.state_source import StateSource
from pipeline.recorded_node import Faults, RecordedNode
from schemas.codec import local_codec
from tests.support.states import node_67, state_67
from tests.support.truth import RECORDED

CODEC = local_codec()


def published(snapshot):
    return list(snapshot.messages(CODEC, "xrpl:test", 16384, partition=0))


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """The messages as a sound node gives them."""
    directory = tmp_path_factory.mktemp("truth")
    return published(asyncio.run(take_snapshot(node_67().ask, 67, directory, pause_s=0)))


def taken(directory, states, **options):
    """Take the state after ledger 67 from recorded nodes: (faults, entries that they have) each."""

    async def scenario():
        async with AsyncExitStack() as stack:
            nodes = [
                await stack.enter_async_context(
                    RecordedNode([RECORDED], faults=faults, snapshot=(67, entries))
                )
                for faults, entries in states
            ]
            addresses = [Address(node.url) for node in nodes]
            pool = await stack.enter_async_context(Nodes(addresses, timeout_s=2, rate=0, silence_s=30))
            await pool.ready(60)
            source = StateSource(pool)
            snapshot = await take_snapshot(
                source.ask, 67, directory, refuse=source.refuse, pause_s=0.05, **options
            )
            return snapshot, [node.requests["ledger_data"] for node in nodes]

    return asyncio.run(scenario())


def test_a_state_comes_page_by_page_from_two_nodes_in_bad_weather(tmp_path, truth, monkeypatch):
    monkeypatch.setattr(taking, "PAGE_LIMIT", 20)
    weather = [
        Faults(seed=seed, disconnect=9, slow_down=0.1, garbage=0.05, answer_twice=0.2) for seed in (1, 2)
    ]
    snapshot, asked = taken(tmp_path, [(one, state_67()) for one in weather], attempts=40)
    assert published(snapshot) == truth
    assert all(asked)


def test_a_node_that_forges_the_header_is_left(tmp_path, truth):
    snapshot, asked = taken(
        tmp_path, [(Faults(seed=1, forged_header=1.0), state_67()), (Faults(seed=2), state_67())], attempts=20
    )
    assert published(snapshot) == truth
    assert asked[1] > 0


def test_a_node_whose_state_is_not_the_headers_is_refused(tmp_path):
    entries = state_67()
    rich = next(e for e in entries if e["LedgerEntryType"] == "AccountRoot")
    rich = {**rich, "Balance": "1"}
    entries = [rich if e["index"] == rich["index"] else e for e in entries]
    with pytest.raises(SnapshotError, match="has the root"):
        taken(tmp_path, [(Faults(), entries)])


def test_a_ledger_that_no_node_has(tmp_path):
    with pytest.raises(SnapshotError, match="no node gives it"):
        taken(tmp_path, [(Faults(missing=frozenset({67})), state_67())], attempts=3)
