"""Recorded EVM blocks → messages ready to publish: in order, judged, with holes told and contradictions refused."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from pipeline.domain.branch import Branch, step_of
from pipeline.domain.decode.evm_shapes import Bag
from pipeline.domain.decode.xrpl_errors import Malformed, NotALedger, RecordedError
from pipeline.domain.verdict import Watermark
from pipeline.ingest.chains import ChainRegister
from pipeline.ingest.ledgers import CHUNK_BYTES, Stopped
from pipeline.ingest.publish import Publisher
from pipeline.ingest.recorded_evm import (
    EvmLine,
    by_chain,
    publish_evm_recording,
    read_evm_blocks,
)
from schemas.codec import local_codec

DATA = Path(__file__).parents[1] / "data" / "evm" / "blocks" / "17173049.json.gz"
SHIPPED = Path(__file__).parents[2] / "pipeline" / "recordings" / "evm-17173049.json.gz"
CODEC = local_codec()
NOBODY = "0x" + "00" * 20
BLOOM = "0x" + "00" * 256


def fake_hash(*parts: Any) -> str:
    return f"0x{random.Random(repr(parts)).getrandbits(256):064x}"


def made(number: int, parent: str | None = None, *, branch: str = "a", chain_id: int | None = 5, size: int = 0,
         transactions: int = 1) -> dict[str, Any]:  # fmt: skip
    """A block with its receipts; without mixHash, so that its made-up hash can't be judged."""
    block_hash = fake_hash(branch, number)
    place = {"blockHash": block_hash, "blockNumber": hex(number)}
    made_in = random.Random(number)
    listed, receipts = [], []
    for index in range(transactions):
        name = fake_hash(branch, number, index)
        ends = {"from": "0x" + "aa" * 20, "to": "0x" + "bb" * 20, "transactionIndex": hex(index)}
        told = {} if chain_id is None else {"chainId": hex(chain_id)}
        listed.append({**place, **ends, **told, "hash": name, "nonce": hex(index), "value": "0x0", "type": "0x2",
                       "gasPrice": "0xa", "input": "0x" + made_in.randbytes(size).hex()})  # fmt: skip
        receipts.append({**place, **ends, "transactionHash": name, "gasUsed": "0x5208", "logs": [],
                         "cumulativeGasUsed": hex(0x5208 * (index + 1)), "effectiveGasPrice": "0xa",
                         "status": "0x1", "type": "0x2", "logsBloom": BLOOM, "contractAddress": None})  # fmt: skip
    header = {
        "number": hex(number), "hash": block_hash, "parentHash": parent or fake_hash(branch, number - 1),
        "timestamp": hex(1_700_000_000 + number), "gasUsed": hex(0x5208 * transactions), "gasLimit": "0x1c9c380",
        "logsBloom": BLOOM, "miner": NOBODY, "baseFeePerGas": "0x7", "transactions": listed,
    }  # fmt: skip
    return {"eth_getBlockByNumber": header, "eth_getBlockReceipts": receipts}


def written(path: Path, *blocks: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(block) + "\n" for block in blocks))
    return path


def recorded(*blocks: dict[str, Any]):
    bag = Bag()
    assert [fault for block in blocks for fault in bag.add(block)] == []
    return bag.blocks()


@pytest.fixture
def line(tmp_path):
    """A line of a chain of its own, and the register that it stands in."""
    register = ChainRegister(tmp_path / "chains")
    return EvmLine(register.evm_chain("eip155:5"), lambda record: CODEC.encode("evm.blocks.v1", record))


def taken(line: EvmLine, blocks):
    """Blocks up to the one that is refused, and why."""
    ready = []
    try:
        for one in line.blocks(blocks):
            ready.append(one)
    except Stopped as stopped:
        return ready, stopped
    return ready, None


def test_a_mainnet_block_is_what_its_receipts_say(line):
    expected = json.loads(gzip.decompress(DATA.read_bytes()))["expected"]
    (one,), stopped = taken(line, read_evm_blocks([DATA]))
    assert stopped is None
    block = one.block
    assert (block["finality"], block["publication"], block["was_head"]) == ("final", "0/final", False)
    assert (block["run"], block["chunks"], block["transaction_count"], block["log_count"]) == (
        17173049,
        1,
        116,
        271,
    )
    by_hash = {tx["hash"]: tx for tx in block["transactions"]}
    for receipt in expected["receipts"]:
        tx = by_hash.pop(receipt["tx_hash"])
        assert (tx["fee"], tx["burnt"]) == (receipt["total_fee_wei"], receipt["burnt_wei"])
    assert not by_hash
    outcomes = {check["name"]: check["outcome"] for check in one.checks}
    assert outcomes["logs_bloom"] == outcomes["gas_used"] == outcomes["positions"] == "holds"
    assert outcomes["header_hash"] == outcomes["parent_hash"] == "not_applicable"
    assert CODEC.decode(one.chunks[0][1])[1] == block


def test_the_shipped_recording_is_that_block():
    inner = json.loads(gzip.decompress(SHIPPED.read_bytes()))
    assert inner == {"input": json.loads(gzip.decompress(DATA.read_bytes()))["input"]}


def test_blocks_come_by_number_from_whatever_file_has_what(tmp_path, line):
    blocks = [made(number) for number in (10, 11, 12)]
    headers = tmp_path / "a.json"
    headers.write_text(json.dumps([block["eth_getBlockByNumber"] for block in reversed(blocks)]))
    receipts = tmp_path / "b.json.gz"
    answers = [{"jsonrpc": "2.0", "id": 1, "result": block["eth_getBlockReceipts"]} for block in blocks]
    receipts.write_bytes(gzip.compress(json.dumps(answers).encode()))
    ready, stopped = taken(line, read_evm_blocks([headers, receipts]))
    assert stopped is None
    assert [(one.block["block_number"], one.block["run"], one.gap) for one in ready] == [
        (10, 10, None), (11, 10, None), (12, 10, None)
    ]  # fmt: skip
    assert [check["outcome"] for one in ready for check in one.checks if check["name"] == "parent_hash"] == [
        "not_applicable", "holds", "holds"
    ]  # fmt: skip


def test_behind_a_hole_a_new_run_begins_and_tells_it(line):
    ready, stopped = taken(line, recorded(*map(made, (10, 11, 15, 16))))
    assert stopped is None
    assert [(one.block["block_number"], one.block["run"], one.gap) for one in ready] == [
        (10, 10, None), (11, 10, None), (15, 15, (12, 14)), (16, 15, None)
    ]  # fmt: skip
    assert (ready[2].block["gap_from"], ready[2].block["gap_to"]) == (12, 14)
    assert ready[1].block["gap_from"] is ready[3].block["gap_from"] is None


def test_what_is_published_is_one_line_for_every_role(line):
    ready, _ = taken(line, recorded(*map(made, (10, 11, 15, 16))))
    branch = Branch()
    for one in ready:
        for record, _ in one.chunks:
            branch.judge(step_of(record))
            branch.take(step_of(record))
    assert branch.final == (16, fake_hash("a", 16)[2:18]) and not branch.unfinal


@pytest.mark.parametrize("lost", ["gas", "bloom", "receipt", "parent", "place", "header"])
def test_what_contradicts_itself_is_refused_whole_and_what_was_before_stays(line, lost):
    bad = made(11)
    header, receipts = bad["eth_getBlockByNumber"], bad["eth_getBlockReceipts"]
    if lost == "gas":
        header["gasUsed"] = "0x5209"
    elif lost == "bloom":
        receipts[0]["logs"] = [{"address": NOBODY, "topics": [], "data": "0x", "logIndex": "0x0",
                                "transactionHash": receipts[0]["transactionHash"], "transactionIndex": "0x0",
                                "blockHash": header["hash"], "blockNumber": "0xb"}]  # fmt: skip
    elif lost == "receipt":
        receipts.clear()
    elif lost == "parent":
        header["parentHash"] = fake_hash("other")
    elif lost == "place":
        receipts[0]["transactionIndex"] = "0x1"
    else:
        del bad["eth_getBlockByNumber"]
    blocks = sorted(
        recorded(made(10), bad, made(12)), key=lambda one: (one.header or {}).get("number", "0xb")
    )
    ready, stopped = taken(line, blocks)
    assert [one.block["block_number"] for one in ready] == [10]
    assert stopped is not None and stopped.place == 11
    assert stopped.reason == {"parent": "parent_hash", "gas": "gas_used"}.get(lost, stopped.reason)
    item = {name: of for name, of in stopped.item.items() if of}
    assert item == {name: of for name, of in bad.items() if of}


def test_two_blocks_of_one_number_are_refused(line):
    other = made(11, fake_hash("a", 10), branch="b")
    ready, stopped = taken(line, recorded(made(10), made(11), other))
    assert [one.block["block_number"] for one in ready] == [10, 11]
    assert stopped is not None and (stopped.reason, stopped.place) == ("fork", 11)


def test_the_register_keeps_the_runs_and_knows_another_chain(tmp_path):
    def lined() -> EvmLine:
        chain = ChainRegister(tmp_path / "chains").evm_chain("eip155:5")
        return EvmLine(chain, lambda record: CODEC.encode("evm.blocks.v1", record))

    def publish(*numbers: int, branch: str = "a"):
        line = lined()
        ready, stopped = taken(line, recorded(*(made(number, branch=branch) for number in numbers)))
        line._chain.append([(o.block["block_number"], o.block["block_hash"], o.block["run"]) for o in ready])
        return [one.block["run"] for one in ready], stopped and stopped.reason

    assert publish(10, 11) == ([10, 10], None)
    assert publish(10, 11) == ([10, 10], None)
    assert publish(12, 13) == ([10, 10], None)
    assert publish(20, 21) == ([20, 20], None)
    assert publish(11, branch="b") == ([], "other_chain")
    assert publish(14, branch="b") == ([], "other_chain")


def test_a_block_beyond_a_message_is_split_between_transactions(line):
    (one,), stopped = taken(line, recorded(made(10, size=500_000, transactions=4)))
    assert stopped is None
    assert len(one.chunks) > 1 and all(len(encoded) <= CHUNK_BYTES for _, encoded in one.chunks)
    records = [CODEC.decode(encoded)[1] for _, encoded in one.chunks]
    assert [(record["chunk"], record["chunks"]) for record in records] == [
        (place, len(records)) for place in range(len(records))
    ]
    assert [tx["transaction_index"] for record in records for tx in record["transactions"]] == [0, 1, 2, 3]
    assert [bool(record["raw_header"]) for record in records] == [True] + [False] * (len(records) - 1)


def test_the_transactions_name_the_chain():
    blocks = recorded(made(10, chain_id=5), made(11, chain_id=137), made(12, chain_id=None))
    assert {name: len(of) for name, of in by_chain(blocks, "eip155:9").items()} == {
        "eip155:5": 1, "eip155:137": 1, "eip155:9": 1
    }  # fmt: skip
    assert [*by_chain(recorded(made(10, chain_id=5), made(11, chain_id=None)))] == ["eip155:5"]
    unnamed = recorded(made(10, chain_id=None))
    assert [*by_chain(unnamed)] == [f"eip155:recorded-{fake_hash('a', 10)[2:10]}"]
    assert [*by_chain(unnamed, "eip155:1")] == ["eip155:1"]


def test_a_block_of_two_chains_is_none():
    block = made(10, transactions=2)
    block["eth_getBlockByNumber"]["transactions"][1]["chainId"] = "0x1"
    with pytest.raises(Malformed, match="chains"):
        by_chain(recorded(block))


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        (b"", RecordedError, "empty"),
        (b'{"eth_getBlockByNumber": {', Malformed, "JSON"),
        (gzip.compress(json.dumps(made(10)).encode())[:-20], RecordedError, "compressed"),
        (b'{"ledger": {}}', NotALedger, "no block"),
        (b'{"eth_getBlockReceipts": []}', NotALedger, "no whole EVM block"),
    ],
)
def test_what_is_no_recording_is_told_in_one_line(tmp_path, content, error, said):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(error, match=said) as caught:
        read_evm_blocks([path])
    assert "\n" not in str(caught.value)


def test_any_cut_or_flipped_byte_of_a_recording_ends_in_a_clear_refusal_or_a_sound_block(tmp_path, line):
    whole = json.dumps(made(10)).encode()
    chance, path = random.Random(6), tmp_path / "x.json"
    for _ in range(150):
        content = bytearray(whole)
        content[chance.randrange(len(content))] = chance.choice(b'0123456789abcdef"{},x')
        end = chance.choice((len(content), chance.randrange(1, len(content))))
        path.write_bytes(bytes(content[:end]))
        try:
            blocks = read_evm_blocks([path])
            by_chain(blocks)
        except RecordedError:
            continue
        fresh = EvmLine(line._chain, line._encode)
        ready, stopped = taken(fresh, blocks)
        assert len(ready) == 1 or stopped is not None


class Broker:
    """A producer that keeps what is sent to it."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, dict[str, Any]]] = []

    async def send_patiently(self, messages, patience_s, say):
        ends: dict[str, dict[int, int]] = {}
        for message in messages:
            self.sent.append((message.topic, CODEC.decode(message.value, message.topic)[1]))
            partition = message.partition or 0
            count = sum(topic == message.topic for topic, _ in self.sent)
            ends.setdefault(message.topic, {})[partition] = count
        return ends


def published(tmp_path, *blocks):
    chain = ChainRegister(tmp_path / "chains").evm_chain("eip155:5")
    broker, told = Broker(), []
    publisher = Publisher(chain, CODEC, broker, Watermark(chain.name, chain.number, "header"), "epoch")
    line = EvmLine(chain, lambda record: CODEC.encode("evm.blocks.v1", record))
    state = asyncio.run(publish_evm_recording(recorded(*blocks), line, publisher, told.extend))
    return broker.sent, state, told


def test_verdicts_go_before_blocks_and_a_gap_before_what_is_behind_it(tmp_path):
    sent, state, told = published(tmp_path, *map(made, (10, 11, 15)))
    assert [topic for topic, _ in sent] == [
        "chains.verdicts.v1", "chains.verdicts.v1", "evm.blocks.v1", "evm.blocks.v1",
        "chains.verdicts.v1", "chains.verdicts.v1", "evm.blocks.v1",
    ]  # fmt: skip
    assert [of["block_number"] for topic, of in sent if topic == "evm.blocks.v1"] == [10, 11, 15]
    verdicts = [
        (of["block"], of["last_block"], of["outcome"]) for topic, of in sent if topic == "chains.verdicts.v1"
    ]
    assert verdicts == [(10, 10, "unproven"), (11, 11, "unproven"), (12, 14, "skipped"), (15, 15, "unproven")]
    assert state.gaps == [(12, 14)] and state.stopped is None
    assert (state.ledgers, state.transactions, state.block) == (3, 3, 15)
    assert [one.block["block_number"] for one in told] == [10, 11, 15]


def test_what_is_refused_goes_to_quarantine_whole_with_an_alert(tmp_path):
    bad = made(11)
    bad["eth_getBlockByNumber"]["gasUsed"] = "0x5209"
    bad["eth_getBlockByNumber"]["totalDifficulty"] = 2**70  # a number that 64 bits do not hold
    sent, state, _ = published(tmp_path, made(10), bad, made(12))
    assert [of["block_number"] for topic, of in sent if topic == "evm.blocks.v1"] == [10]
    assert (state.stopped_reason, state.quarantined) == ("gas_used", 1)
    (item,) = [of for topic, of in sent if topic == "quarantine.v1"]
    kept = json.loads(item["value"])
    bad["eth_getBlockByNumber"]["totalDifficulty"] = str(2**70)
    assert kept == bad
    (note,) = [of for topic, of in sent if topic == "control.alerts.v1"]
    assert (note["rule"], note["chain"], note["block"]) == ("ingest_stopped", "eip155:5", 11)


def test_running_again_sends_the_same_messages(tmp_path):
    blocks = [made(number) for number in (10, 11, 15)]
    assert published(tmp_path, *blocks)[0] == published(tmp_path, *deepcopy(blocks))[0]
