"""The ingest and every role on Apache Kafka, broker killed in the middle: the node's own state comes out."""

import asyncio

import pytest

from pipeline.agents.runtime import AGAIN_EXIT
from pipeline.recorded_node import RecordedNode
from tests.support.ingest import CODEC, LEDGERS, VERDICTS, Sea, whole_and_in_order
from tests.support.roles import PATIENCE_S, bench, drops_of, true_drops
from tests.support.truth import RECORDED
from topics.tail import last_message

pytestmark = pytest.mark.xdist_group("kafka")

LAST = 353


async def ended_or(child, met):
    """True once `met`; False if the process has ended with 75 before."""
    async with asyncio.timeout(PATIENCE_S):
        while not met():
            if child.process.returncode is not None:
                assert child.process.returncode == AGAIN_EXIT, child.last_words
                return False
            await asyncio.sleep(0.1)
    return True


def test_ingest_and_roles_live_through_a_killed_broker(tmp_path, kafka, kafka_server):
    async def scenario():
        async with (
            bench(tmp_path, kafka, chains=4) as here,
            RecordedNode([RECORDED], start=100, pace=0.05) as node,
        ):
            books = await here.start("books")
            sea = Sea(kafka, tmp_path)
            ingest = asyncio.create_task(sea.ingest(node, last=LAST, timeout_s=2 * PATIENCE_S, epoch=""))
            await here.until(lambda: node.last > 160 and books.status.get("block"), "books are on their way")
            kafka_server.kill()
            await asyncio.sleep(1)
            await asyncio.to_thread(kafka_server.start)
            done = await ingest
            for _ in range(3):  # status 75 asks to be started again
                if await ended_or(books, lambda role=books: role.status.get("block") == LAST):
                    break
                books = await here.start("books")
            assert books.status["block"] == LAST
            last = await last_message(kafka, VERDICTS, 0)
            return done.chain.name, await sea.records(LEDGERS), CODEC.decode(last)[1]

    chain, ledgers, verdict = asyncio.run(scenario())
    whole_and_in_order(ledgers, 1, LAST)
    assert (verdict["outcome"], verdict["verified_up_to"]) == ("verified", LAST)
    expected = true_drops(LAST)
    assert drops_of(tmp_path, chain, expected) == expected
