"""Single roles on the embedded broker: what can't be read, SIGKILL, defects, recovery of the table."""

import asyncio
import json
import urllib.request
from itertools import islice

import pytest

from pipeline.supervisor import ChildFailed
from schemas.codec import local_codec
from sinks.embedded_books import connect
from tests.support.recorded import recorded_blocks
from tests.support.roles import PATIENCE_S, bench, drops_of, true_drops
from tests.support.truth import read_truth
from topics.envelope import Outgoing, outgoing

pytestmark = pytest.mark.xdist_group("roles")

TOPIC = "xrpl.ledgers.v1"
CODEC = local_codec()
UNKNOWN_SCHEMA = b"\x00\x00\x0f\x42\x40" + b"no such schema"


@pytest.fixture(scope="module")
def messages():
    return [
        outgoing(CODEC, TOPIC, block["chain"], block, partition=0) for block in recorded_blocks("xrpl:test")
    ]


def stray(value=UNKNOWN_SCHEMA):
    return Outgoing(TOPIC, b"xrpl:test", value, (("ce_id", b"stray"),), 0)


def xrp_of(data_dir, addresses):
    """XRP balances as the embedded books of a data directory have them."""
    return drops_of(data_dir, "xrpl:test", addresses)


def test_a_message_of_an_unknown_schema_is_quarantined_and_the_chain_goes_on(tmp_path, messages):
    """It stands between two blocks that link: noise, not a hole."""

    async def scenario():
        async with bench(tmp_path) as here:
            await here.publish([*messages[:30], stray(), stray(b"\x01rubbish"), *messages[30:67]])
            books = await here.start("books")
            await here.applied(books, TOPIC, 69)
            return books.status

    status = asyncio.run(scenario())
    assert "stopped" not in status
    assert status["counts"]["quarantined"] == 2
    assert sum(status["produced"]["quarantine.v1"].values()) == 2
    assert sum(status["produced"]["control.alerts.v1"].values()) >= 2
    expected = true_drops(67)
    assert xrp_of(tmp_path, expected) == expected


def test_a_block_that_cannot_be_read_stops_the_books_before_the_hole(tmp_path, messages):
    """Block 31 arrives cut off: nothing after it is booked or acknowledged, also not after a restart."""

    async def scenario():
        async with bench(tmp_path) as here:
            cut = stray(messages[30].value[:-20])
            await here.publish([*messages[:30], cut, *messages[31:67]])
            first = await here.start("books")
            told = await here.until(lambda: first.status.get("stopped"), "stop")
            await here.applied(first, TOPIC, 31)
            await asyncio.sleep(1.5)  # time for a wrong acknowledgement to be committed
            position = first.position[TOPIC]["0"]
            await here.kill("books")
            second = await here.start("books")
            await here.until(lambda: second.status.get("stopped"), "the second stops too")
            await asyncio.sleep(1.0)
            return told, position, second.status

    told, position, second = asyncio.run(scenario())
    assert "books stop before ledger 32" in told
    assert position == 31  # thirty blocks and the quarantined message
    assert "books stop before ledger 32" in second["stopped"]  # the books themselves know the head
    assert second["position"][TOPIC]["0"] == 31
    expected = truth_after(30)
    assert xrp_of(tmp_path, expected) == expected


def truth_after(count):
    """XRP of every account that the first `count` ledgers touched, from the metadata alone."""
    found = {}
    for block in islice(recorded_blocks("xrpl:test"), count):
        for tx in block["transactions"]:
            found |= {
                row["account"]: int(row["balance"]) for row in tx["balance_changes"] if row["asset"] == "XRP"
            }
    return found


@pytest.mark.parametrize("pause", [0.02, 0.3])
def test_books_killed_in_mid_work_go_on_from_what_was_acknowledged(tmp_path, messages, pause):
    async def scenario():
        async with bench(tmp_path) as here:
            await here.publish(messages)
            books = await here.start("books")
            await here.until(lambda: books.position.get(TOPIC), "a first batch")
            await asyncio.sleep(pause)
            await here.kill("books")
            books = await here.start("books")
            await here.applied(books, TOPIC, len(messages))

    asyncio.run(scenario())
    expected = true_drops(353)
    assert xrp_of(tmp_path, expected) == expected


def test_a_defect_ends_the_process_without_a_commit(tmp_path, messages):
    """The engine holds a contradicting transfer: status 70, one line, nothing acknowledged."""
    from pipeline.domain.posting.legs import Postings
    from sinks.bookkeeper import Bookkeeper
    from tests.support.recorded import posting

    blocks = [block for block in recorded_blocks("xrpl:test") if block["ledger_index"] <= 3]
    wrong = posting(blocks[-1])
    legs = [leg._replace(amount=leg.amount + 1) for leg in wrong.postings.legs]
    fields = {name: getattr(wrong, name) for name in type(wrong).__slots__ if name != "postings"}
    (tmp_path / "books").mkdir(parents=True)
    with connect(tmp_path / "books") as books:
        before = [posting(block) for block in blocks[:-1]]
        other = type(wrong)(**fields, postings=Postings(wrong.postings.openings, legs, []))
        Bookkeeper(books).apply([*before, other])

    async def scenario():
        async with bench(tmp_path) as here:
            await here.publish(messages[:10])
            books = await here.start("books")
            await asyncio.wait_for(books.process.wait(), PATIENCE_S)
            return books.process.returncode, books.status, books.last_words

    code, status, words = asyncio.run(scenario())
    assert code == 70
    assert "EXISTS_WITH_DIFFERENT_AMOUNT" in status["failed"]
    assert "EXISTS_WITH_DIFFERENT_AMOUNT" in words[-1]
    assert status["position"] == {}


def holding(port, asset):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/holdings/one/?asset={asset}", timeout=60) as answer:
        return json.loads(answer.read())


def test_holdings_recover_after_sigkill_and_are_served(tmp_path, messages):
    """The table is rebuilt from its changelog, effects delivered again change nothing."""

    async def scenario():
        async with bench(tmp_path) as here:
            ends = await here.publish(messages)
            assets = await here.start("assets")
            await here.applied(assets, TOPIC, ends[TOPIC][0])
            await here.until(lambda: assets.behind(here.supervisor.targets()) == 0, "all folded")
            before = await asyncio.to_thread(owners, here.web_port)
            await here.kill("assets")
            assets = await here.start("assets")
            await here.until(lambda: assets.status.get("ready"), "ready")
            await asyncio.sleep(4)  # changes not yet committed come again
            return before, await asyncio.to_thread(owners, here.web_port)

    before, after = asyncio.run(scenario())
    assert before == {nft: row["owner"] for nft, row in read_truth(353)["tables"]["nfts"].items()}
    assert after == before


def owners(port):
    """Owner of every NFT that exists, from the web views."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/holdings/?kind=nft", timeout=60) as answer:
        rows = json.loads(answer.read())["holdings"]
    found = {row["asset"].partition("/nft:")[2]: row["owner"] for row in rows if row["owner"] is not None}
    for nft, owner in list(found.items())[:3]:
        assert holding(port, f"xrpl:test/nft:{nft}")["owner"] == owner
    return found


def test_a_role_that_ends_by_itself_is_told_by_the_supervisor(tmp_path, messages):
    """Also with status 0: nothing would ever be applied again."""

    async def scenario():
        async with bench(tmp_path) as here:
            books = await here.start("books")
            await here.until(lambda: books.status.get("ready"), "ready")
            books.process.terminate()
            assert await asyncio.wait_for(books.process.wait(), PATIENCE_S) == 0
            with pytest.raises(ChildFailed, match="role books ended with status 0"):
                here.supervisor.check()

    asyncio.run(scenario())
