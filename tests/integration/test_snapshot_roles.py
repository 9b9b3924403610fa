"""A starting state through the broker and the roles as processes, SIGKILL in the middle."""

import asyncio

import pytest

from pipeline.ingest import state_pages
from pipeline.ingest.snapshot import take_snapshot
from schemas.codec import local_codec
from sinks import exports
from tests.support.demo import expected_balances, expected_rows
from tests.support.history import history
from tests.support.recorded import recorded_blocks
from tests.support.roles import bench
from tests.support.states import headers, node_67
from tests.support.truth import read_truth
from topics.envelope import outgoing

pytestmark = pytest.mark.xdist_group("roles")

LEDGERS, STATES, CHAIN, NUMBER = "xrpl.ledgers.v1", "xrpl.states.v1", "xrpl:test", 16384
CODEC = local_codec()


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    """(pages of the state after ledger 67, ledgers 68-353)."""
    directory = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_pages, "PAGE_ENTRIES", 16)
        snapshot = asyncio.run(take_snapshot(node_67().ask, 67, directory, pause_s=0))
        pages = list(snapshot.messages(CODEC, CHAIN, NUMBER, partition=0))
    run = {"run": 68, "run_coins": int(headers()[67]["total_coins"])}
    blocks = [{**block, **run} for block in recorded_blocks(CHAIN) if block["ledger_index"] > 67]
    return pages, [outgoing(CODEC, LEDGERS, CHAIN, block, partition=0) for block in blocks]


def exported(sink, what):
    question = exports.export(what, NUMBER)
    return list(question.shape(sink.query(question.sql, question.parameters)))


def test_a_state_published_late_and_twice_with_the_books_killed(tmp_path, messages):
    pages, ledgers = messages

    async def scenario():
        async with bench(tmp_path) as here:
            await here.publish([*ledgers[:280], *pages[:11]])
            books = await here.start("books")
            await here.applied(books, LEDGERS, 50)
            await here.kill("books")
            await here.publish([*pages, *ledgers[280:]])
            books = await here.start("books")
            assets, store = await here.start("assets"), await here.start("history")
            for role in (books, assets, store):
                await here.applied(role, LEDGERS, len(ledgers))
                await here.applied(role, STATES, 11 + len(pages))
            await here.until(
                lambda: all(child.behind(here.supervisor.targets()) == 0 for child in (assets, store)),
                "assets and history have what follows",
            )
            assert "stopped" not in books.status
            return books.status["counts"]

    assert asyncio.run(scenario())["state_pages"] > 0
    tables = read_truth(353)["tables"]
    with history(tmp_path / "clickhouse") as sink:
        rows = exported(sink, "balances")
        assert {(row["account"], row["asset"]): row for row in rows} == expected_balances(tables)
        nfts = {(row["nft_id"],): row for row in exported(sink, "nfts")}
        assert nfts == expected_rows("nfts", tables)
