"""Transactions that no message takes: in parts that fit, which are the transaction in records, books and state."""

from __future__ import annotations

import random
from collections.abc import Iterable
from functools import cache
from typing import Any

import pytest
from eth_hash.auto import keccak

from pipeline.domain.account import AccountCode
from pipeline.domain.decode.evm import Chain, block_record, decode_block
from pipeline.domain.decode.evm_contracts import Contracts, contract
from pipeline.domain.decode.evm_shapes import Bag
from pipeline.domain.decode.evm_transfers import TRANSFERS_MAX, ZERO_ADDRESS, transfers_of
from pipeline.domain.evm_changes import evm_asset_changes, evm_gas_charges
from pipeline.domain.evm_logs import logs_bloom
from pipeline.domain.evm_parts import parts_of
from pipeline.domain.holdings import apply_changes, as_of_head
from pipeline.domain.posting.evm import post_evm_block
from pipeline.ingest.chains import ChainRegister
from pipeline.ingest.evm.line import EvmLine, Told
from pipeline.ingest.ledgers import CHUNK_BYTES
from pipeline.ingest.recorded_evm import EvmLine as RecordedLine
from schemas.codec import local_codec
from sinks.bookkeeper import Bookkeeper
from sinks.embedded_books import connect
from tests.support.evm_books import held_in, posting
from tests.support.evm_logs import ALICE, BOB, ERC20, TOKEN, emitted

CODEC = local_codec()
BLOCKS = "evm.blocks.v1"
LINE = EvmLine("eip155:1", 100, "header", lambda record: CODEC.encode(BLOCKS, record))
NFT, MULTI, NOTES, OTHER = (f"0x{n:040x}" for n in range(0xA1, 0xA5))
PEOPLE = [f"0x{n:040x}" for n in range(0x100, 0x140)]
ERC721 = "Transfer(address indexed from, address indexed to, uint256 indexed tokenId)"
RANGE = (
    "ConsecutiveTransfer(uint256 indexed fromTokenId, uint256 toTokenId, address indexed fromAddress, "
    "address indexed toAddress)"
)
BATCH = (
    "TransferBatch(address indexed operator, address indexed from, address indexed to, uint256[] ids, "
    "uint256[] values)"
)
NOTED = "Noted(address indexed by, bytes note)"
NOTED_ABI = [{
    "type": "event", "name": "Noted", "anonymous": False,
    "inputs": [{"name": "by", "type": "address", "indexed": True}, {"name": "note", "type": "bytes", "indexed": False}],
}]  # fmt: skip
WATCHED = Contracts([
    contract(TOKEN, "erc20"), contract(NFT, "erc721"), contract(MULTI, "erc1155"), contract(NOTES, None, NOTED_ABI)
])  # fmt: skip
NATIVE = "eip155:1/native"


def hashed(number: int) -> str:
    return f"0x{number:064x}"


def moves(seed: int, count: int) -> list[Any]:
    """Logs of transfers between few people, there and back, to themselves, of nothing, out of and into 0x0."""
    draw = random.Random(seed)
    owners: dict[int, str] = {}
    logs = []
    for index in range(count):
        source, target = (draw.choice([*PEOPLE, ZERO_ADDRESS]) for _ in "ab")
        if draw.random() < 0.2:
            token = draw.randrange(40)
            source = owners.get(token, ZERO_ADDRESS)
            owners[token] = target
            logs.append(emitted(ERC721, source, target, token, address=NFT, index=index))
        else:
            amount = draw.choice([0, 1, 2, 10**18, 2**100, 2**130])
            logs.append(emitted(ERC20, source, target, amount, index=index))
    return logs


def raw_log(data: bytes, address: str = OTHER) -> dict[str, Any]:
    return {"address": address, "topics": [hashed(7)], "data": "0x" + data.hex(), "logIndex": hex(0)}


def logs_of(case: str) -> list[Any]:
    draw = random.Random(case)
    if case == "transfers":
        return [emitted(ERC20, ALICE, PEOPLE[n % 64], n + 1, index=n) for n in range(3000)]
    if case == "range":
        return [emitted(RANGE, 2**200, 2**200 + 4999, ZERO_ADDRESS, ALICE, address=NFT)]
    if case == "batch":
        ids, values = ([draw.getrandbits(bits) for _ in range(2000)] for bits in (256, 120))
        return [emitted(BATCH, BOB, ZERO_ADDRESS, ALICE, ids, values, address=MULTI)]
    if case == "large batch":  # neither its data nor its arguments leave room for the other
        ids, values = ([draw.getrandbits(bits) for _ in range(6000)] for bits in (256, 120))
        return [emitted(BATCH, BOB, ALICE, PEOPLE[0], ids, values, address=MULTI)]
    if case == "undecoded":
        return [raw_log(draw.randbytes(2_000_000))]
    if case == "argument":
        return [emitted(NOTED, ALICE, draw.randbytes(600_000), address=NOTES)]
    if case == "data":  # too large twice, not once
        return [emitted(NOTED, ALICE, draw.randbytes(300_000), address=NOTES)]
    return moves(int(case), 2500)


CASES = ["transfers", "range", "batch", "large batch", "undecoded", "argument", "data", "1", "2"]


@cache
def decoded(case: str) -> tuple[Any, Any]:
    """Header and transactions of a block: a small transfer, the transaction of the case, a small transfer."""
    many = logs_of(case)
    listed = [
        [emitted(ERC20, ALICE, BOB, 5, index=0)],
        [{**log, "logIndex": hex(n + 1)} for n, log in enumerate(many)],
        [emitted(ERC20, BOB, ALICE, 3, index=len(many) + 1)],
    ]
    transactions = [
        {"hash": hashed(1000 + n), "from": ALICE, "to": TOKEN, "type": "0x2", "input": "0x" + "c3" * 3000}
        for n in range(3)
    ]
    receipts = [
        {"transactionHash": hashed(1000 + n), "transactionIndex": n, "blockHash": hashed(9), "gasUsed": 100,
         "from": ALICE, "effectiveGasPrice": 12, "status": 1, "type": 2, "logs": logs}
        for n, logs in enumerate(listed)
    ]  # fmt: skip
    header = {"number": 16, "hash": hashed(9), "parentHash": hashed(8), "timestamp": 1_700_000_000, "gasUsed": 300,
              "gasLimit": 10**7, "baseFeePerGas": 10, "transactions": transactions}  # fmt: skip
    fields, found = decode_block(
        header, receipts, WATCHED, Chain(burns=True, watched_addresses=frozenset({ALICE}))
    )
    for tx in found:
        for row in tx["balance_changes"]:
            if row["asset"].startswith("erc20:"):
                row["opening"] = str(10**30 + int(row["account"], 16))
            elif row["asset"].startswith("erc721:"):
                row["partial"] = True
    return fields, found


@cache
def in_parts(case: str) -> Told:
    """The block as it is told."""
    told, messages = LINE.told(*decoded(case), [], run=16, finality="head", incarnation=0, highest=-1)
    assert [record["chunk"] for record, _ in messages] == list(range(len(messages)))
    assert all(len(encoded) <= CHUNK_BYTES for _, encoded in messages)
    assert [CODEC.decode(encoded)[1] for _, encoded in messages] == list(told.records)
    return told


def unsplit(case: str, finality: Any = "head") -> Any:
    """The same block as one record, with what its large logs left out."""
    header, transactions = decoded(case)
    short = {log["log_index"]: log for part in parts(case) for log in part["logs"]}
    transactions = [
        {**tx, "logs": [short.get(log["log_index"], log) for log in tx["logs"]]} for tx in transactions
    ]
    return block_record("eip155:1", 100, header, transactions, run=16, finality=finality, incarnation=0,
                        was_head=finality != "head")  # fmt: skip


def parts(case: str) -> list[Any]:
    return [
        tx
        for record in in_parts(case).records
        for tx in record["transactions"]
        if tx["transaction_index"] == 1
    ]


def states(case: str, *finalities: Any) -> Iterable[Any]:
    for finality in finalities:
        yield from in_parts(case).records if finality == "head" else in_parts(case).again(finality, 16)


@pytest.mark.parametrize("case", CASES)
def test_the_parts_together_are_the_transaction(case: str) -> None:
    header, transactions = decoded(case)
    found, whole = parts(case), transactions[1]
    first = 0
    for number, part in enumerate(found):
        assert (part["part"], part["parts"], part["first_transfer"]) == (number, len(found), first)
        first += len(part["transfers"])
    same = [name for name in whole if name not in
            ("part", "parts", "first_transfer", "logs", "transfers", "balance_changes", "raw")]  # fmt: skip
    assert all({name: part[name] for name in same} == {name: whole[name] for name in same} for part in found)
    assert [one for part in found for one in part["transfers"]] == whole["transfers"]
    rows = [one for part in found for one in part["balance_changes"]]
    assert sorted(rows, key=str) == sorted(whole["balance_changes"], key=str)
    assert found[0]["raw"] == whole["raw"] and not any(part["raw"] for part in found[1:])
    shown = [one for part in found for one in part["logs"]]
    if case in ("undecoded", "argument", "data", "large batch"):
        assert [log["log_index"] for log in shown] == [1]
    else:
        assert shown == whole["logs"] and len(found) > 1
    assert len({record["watched_count"] for record in in_parts(case).records} | {3}) == 1
    assert {record["log_count"] for record in in_parts(case).records} == {header["log_count"]}


@pytest.mark.parametrize(
    ("case", "size", "args"),
    [("undecoded", 2_000_000, []), ("argument", 600_064, []), ("data", 300_064, ["by", "note"])],
)
def test_a_log_that_no_message_takes_says_what_it_left_out(case: str, size: int, args: list[str]) -> None:
    (log,) = (log for part in parts(case) for log in part["logs"])
    (was,) = decoded(case)[1][1]["logs"]
    digest = keccak(bytes.fromhex(was["data"][2:])).hex()
    note = f"{size} bytes of data left out, keccak-256 0x{digest}"
    assert log["error"] == (f"{note}; arguments left out" if case == "argument" else note)
    assert log["data"] == "0x" and [arg["name"] for arg in log["args"]] == args
    assert (log["topics"], log["event"], log["contract"]) == (was["topics"], was["event"], was["contract"])


def test_what_fits_is_left_alone_and_what_must_be_cut_is_cut_between_shares() -> None:
    whole = decoded("range")[1][1]
    assert parts_of(whole, lambda _: True) == [whole]
    tiny = parts_of(whole, lambda one: len(one["transfers"]) <= 100 and not (one["raw"] and one["logs"]))
    assert len(tiny) == 51 and tiny[0]["raw"] and [len(one["logs"]) for one in tiny[:3]] == [0, 1, 0]


@pytest.mark.parametrize("case", CASES)
def test_legs_do_not_depend_on_the_cut(case: str) -> None:
    found, whole = (
        [post_evm_block(record) for record in in_parts(case).records],
        post_evm_block(unsplit(case)),
    )
    assert [leg for one in found for leg in one.legs] == whole.legs
    numbers = [(leg.transaction, leg.leg) for leg in whole.legs]
    assert numbers == sorted(set(numbers))
    asked = {opening for one in found for opening in one.openings}
    assert asked == set(whole.openings)
    told = {(finding.rule, finding.subject) for one in found for finding in one.findings}
    assert told == {(finding.rule, finding.subject) for finding in whole.findings}


@pytest.mark.parametrize("case", ["transfers", "range", "batch", "1", "2"])
@pytest.mark.parametrize("end", ["final", "retracted"])
def test_the_books_are_those_of_the_whole(case: str, end: Any) -> None:
    whole = [unsplit(case), unsplit(case, end)]
    refs = {ref[:3] for leg in post_evm_block(whole[0]).legs for ref in (leg.debit, leg.credit)}
    told: list[Any] = []
    for records in ([whole[:1], whole[1:]], [list(states(case, "head")), list(states(case, end))]):
        with connect() as engine:
            keeper, held = Bookkeeper(engine), []
            for state in records:
                for record in (*state, *state[-1:]):  # the last one twice
                    keeper.apply([posting(record)])
                held.append(held_in(engine, refs))
            told.append(held)
    assert told[0] == told[1]
    headed, ended = told[1]
    assert any(one.pending for one in headed.values()) and not any(one.pending for one in ended.values())
    assert ended[NATIVE, int(AccountCode.GAS), ALICE].posted == (-3600 if end == "final" else 0)


def holdings(records: Iterable[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for offset, record in enumerate(records):
        for changes in evm_asset_changes(record):
            asset = changes["asset"]
            found[asset] = apply_changes(found.get(asset), changes, 0, "e", offset)
    names = ("owner", "onchain_status", "amount", "position")
    return {
        asset: ([of[name] for name in names], as_of_head(of)["owner"], bool(of["pending"]))
        for asset, of in found.items()
    }


@pytest.mark.parametrize("case", ["range", "1", "2"])
@pytest.mark.parametrize("path", [("head",), ("head", "final"), ("head", "retracted"), ("final",)])
def test_holdings_are_those_of_the_whole(case: str, path: tuple[Any, ...]) -> None:
    found = holdings(states(case, *path))
    assert found == holdings(unsplit(case, finality) for finality in path)
    assert len(found) >= 40 and {of[2] for of in found.values()} == {path == ("head",)}


def test_fees_are_told_once() -> None:
    charged = [
        one["transaction_index"]
        for record in in_parts("transfers").records
        for of in evm_gas_charges(record)
        for one in of["charges"]
    ]
    assert charged == [0, 1, 2]


def test_a_recording_comes_in_parts_too(tmp_path: Any) -> None:
    name = hashed(1000)
    place = {"blockHash": hashed(9), "blockNumber": "0x10", "transactionIndex": "0x0"}
    ends = {**place, "from": ALICE, "to": TOKEN}
    logs = [
        {**emitted(ERC20, ALICE, PEOPLE[n % 64], n + 1, index=n), **place, "transactionHash": name}
        for n in range(3000)
    ]
    block = {
        "number": "0x10", "hash": hashed(9), "parentHash": hashed(8), "timestamp": "0x5", "gasUsed": "0x64",
        "logsBloom": "0x" + logs_bloom(logs).hex(),
        "transactions": [{**ends, "hash": name, "chainId": "0x5", "nonce": "0x0", "value": "0x0", "type": "0x2"}],
    }  # fmt: skip
    receipt = {**ends, "transactionHash": name, "gasUsed": "0x64", "cumulativeGasUsed": "0x64",
               "effectiveGasPrice": "0xc", "status": "0x1", "type": "0x2", "logs": logs}  # fmt: skip
    bag = Bag()
    assert bag.add({"eth_getBlockByNumber": block, "eth_getBlockReceipts": [receipt]}) == []
    chain = ChainRegister(tmp_path / "chains").evm_chain("eip155:5")
    (ready,) = RecordedLine(chain, lambda record: CODEC.encode(BLOCKS, record)).blocks(bag.blocks())
    assert len(ready.chunks) > 1 and all(len(encoded) <= CHUNK_BYTES for _, encoded in ready.chunks)
    told = [tx for record, _ in ready.chunks for tx in record["transactions"]]
    assert [tx["part"] for tx in told] == list(range(len(ready.chunks)))
    assert sum(len(tx["transfers"]) for tx in told) == 3000


def test_a_transaction_moves_no_more_often_than_ids_can_number() -> None:
    """Beyond it a log keeps its words and moves nothing, and says so."""
    address = "0x" + "7" * 40
    names = (
        ("fromTokenId", "uint256"),
        ("toTokenId", "uint256"),
        ("fromAddress", "address"),
        ("toAddress", "address"),
    )
    logs: list[Any] = []
    for number in range(14):
        values = (str(5000 * number), str(5000 * number + 4999), "0x" + "0" * 40, "0x" + "a" * 40)
        logs.append({
            "log_index": number, "contract": address, "topics": [], "data": "0x", "event": "ConsecutiveTransfer",
            "signature": "ConsecutiveTransfer(uint256,uint256,address,address)", "error": None,
            "args": [{"name": name, "type": kind, "value": value, "hashed": False}
                     for (name, kind), value in zip(names, values, strict=True)],
        })  # fmt: skip
    moved = transfers_of(logs, Contracts([contract(address, "erc721")]))
    assert len(moved) == TRANSFERS_MAX == 60_000
    assert [log["error"] is not None for log in logs] == [False] * 12 + [True] * 2
    assert "moves more than 60000 times" in logs[-1]["error"]
