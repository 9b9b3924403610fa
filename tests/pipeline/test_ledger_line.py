"""Recorded ledgers → blocks: chunks, runs, what stops the line; and the books role on what comes out."""

import asyncio
import json

import pytest

from pipeline.agents.books import BooksRole
from pipeline.agents.role import Message
from pipeline.domain.account import AccountCode, AccountRef, account_id
from pipeline.ingest import ledgers as line_module
from pipeline.ingest.chains import ChainRegister
from pipeline.ingest.ledgers import LedgerLine, Stopped, rows, split
from schemas.codec import local_codec
from sinks.books import ACCOUNT_STRUCT
from sinks.embedded_books import connect
from tests.support.truth import RECORDED, read_ledgers, read_truth

CODEC = local_codec()
TOPIC = "xrpl.ledgers.v1"


@pytest.fixture(scope="module")
def recorded():
    return read_ledgers(RECORDED)


def line_of(directory, recording, accept_gap=False):
    register = ChainRegister(directory)
    headers = [{**one["ledger"], "ledger_index": one["ledger_index"]} for one in recording]
    chain = register.identify(iter(headers), None)
    return chain, LedgerLine(chain, accept_gap, lambda record: CODEC.encode(TOPIC, record))


def published(chain, line, recording):
    """What the ingest would publish, and the reason it stopped."""
    found, stopped = [], None
    try:
        for ready in line.blocks(iter(recording)):
            chain.append(rows([ready]))
            found.append(ready)
    except Stopped as reason:
        stopped = reason
    return found, stopped


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of 6 kB instead of 900 kB: most busy ledgers are split."""
    monkeypatch.setattr(line_module, "CHUNK_BYTES", 6000)
    monkeypatch.setattr(line_module.split, "__defaults__", (6000,))


def test_chunks_hold_every_transaction_once_in_order(tmp_path, recorded, small_chunks):
    chain, line = line_of(tmp_path, recorded)
    blocks, stopped = published(chain, line, recorded)
    assert stopped is None
    assert max(len(ready.chunks) for ready in blocks) > 5
    for ready, one in zip(blocks, recorded, strict=True):
        records = [record for record, _ in ready.chunks]
        assert [record["chunk"] for record in records] == list(range(len(records)))
        assert {record["chunks"] for record in records} == {len(records)}
        indexes = [tx["transaction_index"] for record in records for tx in record["transactions"]]
        assert indexes == list(range(len(one["ledger"]["transactions"])))
        for record, encoded in ready.chunks:
            assert len(encoded) <= 6000 or len(record["transactions"]) == 1


def test_a_hash_that_is_none_stops_the_line(tmp_path, recorded):
    broken = json.loads(json.dumps(recorded[:5]))
    broken[3]["ledger"]["transactions"][0]["hash"] = "not a hash"
    chain, line = line_of(tmp_path, broken)
    _, stopped = published(chain, line, broken)
    assert "not 64 hex digits" in str(stopped)
    assert stopped.item is broken[3]


def test_split_halves_down_to_single_items():
    assert list(split([5, 1, 1, 9], sum, 6)) == [[5, 1], [1], [9]]


def drops(engine, addresses):
    refs = {account_id(AccountRef(name, int(AccountCode.HOLDER), owner)): owner for name, owner in addresses}
    rows = ACCOUNT_STRUCT.iter_unpack(engine.lookup_accounts_packed(b"".join(refs)))
    found = {
        refs[row[0]]: int.from_bytes(row[4], "little") - int.from_bytes(row[2], "little") for row in rows
    }
    return {owner: found.get(owner, 0) for _, owner in addresses}


def role_on(engine):
    role = BooksRole(lambda: engine, CODEC)
    asyncio.run(role.open(None, {TOPIC: "epoch"}))
    return role


def messages_of(blocks):
    encoded = [value for ready in blocks for _, value in ready.chunks]
    return [Message(TOPIC, 0, offset, 0, b"k", value, ()) for offset, value in enumerate(encoded)]


@pytest.mark.parametrize("size", [1, 7])
def test_books_of_chunked_ledgers_are_the_nodes_own_state(tmp_path, recorded, small_chunks, size):
    """A new process after every batch: the head comes from the books, chunks go on where they stopped."""
    chain, line = line_of(tmp_path, recorded)
    blocks, _ = published(chain, line, recorded[:67])
    messages = messages_of(blocks)
    truth = read_truth(67)["tables"]["accounts"]
    with connect() as engine:
        for start in range(0, len(messages), size * 20):
            role = role_on(engine)
            for at in range(start, min(start + size * 20, len(messages)), size):
                done = asyncio.run(role.process(TOPIC, messages[at : at + size]))
                assert not done.stops
        asyncio.run(role_on(engine).process(TOPIC, messages))  # all of it again
        found = drops(engine, [(f"{chain.name}/XRP", name) for name in truth])
    assert found == {name: int(account["balance"]) for name, account in truth.items()}


def test_a_lost_chunk_stops_the_books(tmp_path, recorded, small_chunks):
    chain, line = line_of(tmp_path, recorded)
    blocks, _ = published(chain, line, recorded[:67])
    messages = messages_of(blocks)
    lost = next(at for at, ready in enumerate(blocks) if len(ready.chunks) > 2)
    place = sum(len(ready.chunks) for ready in blocks[:lost]) + 1
    with connect() as engine:
        done = asyncio.run(role_on(engine).process(TOPIC, messages[:place] + messages[place + 1 :]))
        ((offset, why),) = done.stops.values()
        assert offset == messages[place + 1].offset
        assert f"ledger {blocks[lost].chunks[0][0]['ledger_index']}" in why
        again = asyncio.run(role_on(engine).process(TOPIC, messages[place + 1 :]))
        assert again.stops[0][0] == messages[place + 1].offset


def test_another_branch_of_the_same_chain_is_refused(tmp_path, recorded):
    """The same index with another hash: not the ledger that is booked."""
    chain, line = line_of(tmp_path, recorded)
    blocks, _ = published(chain, line, recorded[:20])
    other = {**blocks[9].chunks[0][0], "ledger_hash": "C" * 64}
    with connect() as engine:
        asyncio.run(role_on(engine).process(TOPIC, messages_of(blocks)))
        fork = Message(TOPIC, 0, 99, 0, b"k", CODEC.encode(TOPIC, other), ())
        done = asyncio.run(role_on(engine).process(TOPIC, [fork]))
        assert done.stops[0][0] == fork.offset
        assert "not the one that is booked" in done.stops[0][1]


def test_an_accepted_gap_begins_a_run_and_a_repeat_knows_it(tmp_path, recorded):
    recording = recorded[:40] + recorded[45:60]
    chain, line = line_of(tmp_path, recording)
    _, stopped = published(chain, line, recording)
    assert stopped.reason == "gap"
    assert "41-45" in str(stopped)
    chain, line = line_of(tmp_path, recording, accept_gap=True)
    blocks, stopped = published(chain, line, recording)
    assert stopped is None
    runs = [ready.chunks[0][0]["run"] for ready in blocks]
    assert runs == [1] * 40 + [46] * 15
    first = blocks[40].chunks[0][0]
    assert (first["gap_from"], first["gap_to"]) == (41, 45)
    assert first["run_coins"] == first["total_coins"] + first["fees"]
    again, line = line_of(tmp_path, recorded[46:60])
    blocks, _ = published(again, line, recorded[46:60])
    assert {ready.chunks[0][0]["run"] for ready in blocks} == {46}
    assert again.number == chain.number
