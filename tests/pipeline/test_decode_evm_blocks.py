"""EVM fees, and whole blocks with their receipts: what is of interest, what is refused, what a message holds."""

import zlib

import orjson
import pytest

from pipeline.domain.decode.evm import Chain, block_record, decode_block, transaction_record
from pipeline.domain.decode.evm_contracts import Contracts, contract
from pipeline.domain.decode.evm_gas import burns_by_evidence, gas_of
from pipeline.domain.decode.xrpl_errors import Malformed, MissingMetadata
from schemas.codec import local_codec
from tests.support.evm_logs import ALICE, BOB, CAROL, ERC20, TOKEN, emitted


def gas(receipt, transaction=None, base_fee=10, burns=True):
    return gas_of(transaction or {}, {"type": "0x2", **receipt}, base_fee, burns)


def test_fees():
    plain = gas({"gasUsed": "0x64", "effectiveGasPrice": "0xc"})
    assert (plain.fee, plain.burnt, plain.tip, plain.blob_fee, plain.l1_fee) == (1200, 1000, 200, None, None)
    blobs = gas(
        {"type": "0x3", "gasUsed": 100, "effectiveGasPrice": 12, "blobGasUsed": 131072, "blobGasPrice": 2}
    )
    assert (blobs.fee, blobs.burnt, blobs.blob_fee) == (1200 + 262144, 1000 + 262144, 262144)
    rollup = gas({"gasUsed": 100, "effectiveGasPrice": 12, "l1Fee": "0x5"}, burns=None)
    assert (rollup.fee, rollup.burnt, rollup.l1_fee, rollup.tip) == (1205, None, 5, 200)
    assert gas({"gasUsed": 100, "effectiveGasPrice": 12}, burns=False).burnt == 0


def test_a_deposit_pays_nothing_though_it_names_an_l1_fee():
    deposit = gas({"type": "0x7e", "gasUsed": 100, "effectiveGasPrice": 12, "l1Fee": 5}, burns=None)
    assert (deposit.fee, deposit.burnt, deposit.l1_fee, deposit.gas_used) == (0, 0, 0, 100)


def test_what_is_unknown_is_none():
    assert gas({"gasUsed": 100})[:2] == (100, None)
    assert gas({"gasUsed": 100}).fee is None and gas({"effectiveGasPrice": 1}).fee is None
    blobs = gas({"type": 3, "gasUsed": 100, "effectiveGasPrice": 12, "blobGasUsed": 131072})
    assert (blobs.fee, blobs.burnt, blobs.blob_fee) == (None, None, None)
    without_header = gas({"gasUsed": 100, "effectiveGasPrice": 12}, base_fee=None)
    assert (without_header.fee, without_header.burnt, without_header.tip) == (1200, None, None)


def test_a_missing_price_is_taken_from_the_transaction():
    assert gas({"gasUsed": 100}, {"gasPrice": "0xb"}).fee == 1100
    dynamic = {"maxFeePerGas": 15, "maxPriorityFeePerGas": 3}
    assert gas({"gasUsed": 100}, dynamic).effective_gas_price == 13
    assert gas({"gasUsed": 100}, dynamic, base_fee=14).effective_gas_price == 15
    assert gas({"gasUsed": 100}, dynamic, base_fee=None).fee is None


def test_whether_a_recorded_chain_burns():
    assert burns_by_evidence([{}], [{}]) is True
    assert burns_by_evidence([{"chainId": "0x1"}], [{}]) is True
    assert burns_by_evidence([{"chainId": "0xa"}], [{}]) is None
    assert burns_by_evidence([{}], [{"l1Fee": "0x1"}]) is None
    assert burns_by_evidence([{}], [{"type": "0x7e"}]) is None


# whole blocks


def hashed(n):
    return f"0x{n:064x}"


def transaction(n):
    return {"hash": hashed(n), "from": ALICE, "to": TOKEN, "nonce": hex(n), "value": "0x0", "gasPrice": "0xc",
            "input": "0xa9059cbb" + "0" * 128, "type": "0x2"}  # fmt: skip


def receipt(n, index, logs=(), block=99, status="0x1"):
    return {"transactionHash": hashed(n), "transactionIndex": hex(index), "blockHash": hashed(block), "from": ALICE,
            "to": TOKEN, "gasUsed": "0x64", "effectiveGasPrice": "0xc", "status": status, "type": "0x2",
            "contractAddress": None, "logsBloom": "0x", "logs": list(logs)}  # fmt: skip


def block(*numbers, **more):
    return {"number": "0x10", "hash": hashed(99), "parentHash": hashed(98), "timestamp": "0x64", "gasUsed": "0xc8",
            "gasLimit": "0xffff", "baseFeePerGas": "0xa", "miner": BOB,
            "transactions": [transaction(n) for n in numbers],
            **more}  # fmt: skip


WATCHED = Contracts([contract(TOKEN, "erc20")])
LOG = emitted(ERC20, ALICE, BOB, 7, index=4)
ELSEWHERE = emitted(ERC20, ALICE, BOB, 7, address=CAROL)


def test_a_block_holds_its_transactions_of_interest_whole():
    receipts = [receipt(2, 1, [LOG, {**ELSEWHERE, "logIndex": 2}]), receipt(1, 0, [ELSEWHERE])]
    header, found = decode_block(block(1, 2), receipts, WATCHED, Chain(burns=True))
    assert (header["transaction_count"], header["watched_count"], header["log_count"], header["watched"]) == (
        2,
        1,
        2,
        True,
    )
    assert (header["block_number"], header["time"], header["base_fee"]) == (16, 100_000, "10")
    (one,) = found
    assert (one["transaction_index"], one["hash"], one["selector"]) == (1, hashed(2), "0xa9059cbb")
    assert [log["log_index"] for log in one["logs"]] == [2, 4]
    assert [of["contract"] for of in one["transfers"]] == [TOKEN]
    assert (one["fee"], one["burnt"], one["tip"], one["fee_payer"]) == ("1200", "1000", "200", ALICE)
    raw = orjson.loads(zlib.decompress(one["raw"]))
    assert raw["transaction"] == transaction(2) and "logs" not in raw["receipt"]
    assert "transactions" not in orjson.loads(zlib.decompress(header["raw_header"]))


def test_a_block_with_nothing_watched_is_a_header():
    header, found = decode_block(block(1), [receipt(1, 0, [ELSEWHERE])], WATCHED, Chain())
    assert found == [] and header["watched"] is False and header["transaction_count"] == 1


def test_transactions_of_watched_addresses_and_treasuries():
    chain = Chain(watched_addresses=frozenset({ALICE}), treasuries=frozenset({ALICE}))
    _, (one,) = decode_block(block(1), [receipt(1, 0, status="0x0")], Contracts(), chain)
    assert (one["status"], one["fee"], one["burnt"], one["treasury_paid"]) == (0, "1200", None, True)
    assert (
        decode_block(block(1), [receipt(1, 0)], Contracts(), Chain(watched_addresses=frozenset({BOB})))[1]
        == []
    )


def test_hashes_instead_of_transactions_are_enough():
    _, (one,) = decode_block(
        block(transactions=[hashed(1)]), [receipt(1, 0, [LOG])], WATCHED, Chain(burns=True)
    )
    assert (one["fee"], one["value"], one["nonce"]) == ("1200", None, None)


@pytest.mark.parametrize("receipts", [
    [], [receipt(1, 0)], [receipt(1, 0), receipt(3, 1)], [receipt(1, 0), receipt(2, 1), receipt(2, 1)],
])  # fmt: skip
def test_receipts_that_are_not_the_blocks(receipts):
    with pytest.raises(MissingMetadata):
        decode_block(block(1, 2), receipts, WATCHED, Chain())


@pytest.mark.parametrize("change", [
    {"blockHash": hashed(97)}, {"transactionIndex": "0x1"}, {"gasUsed": None}, {"from": None}, {"status": "0x2"},
    {"gasUsed": hex(2**64)}, {"effectiveGasPrice": hex(2**200)},
    {"logs": [LOG, LOG]}, {"logs": [{**LOG, "logIndex": None}]},
])  # fmt: skip
def test_receipts_that_contradict_their_block(change):
    told = {**receipt(1, 0, [LOG]), **change}
    payer = {name: of for name, of in transaction(1).items() if name != "from"}
    with pytest.raises(Malformed):
        decode_block(block(transactions=[payer]), [told], WATCHED, Chain())


def test_messages_are_of_the_schema():
    """Encoded and read back the same; one message for each state of the block, told apart by publication."""
    codec = local_codec()
    header, found = decode_block(block(1), [receipt(1, 0, [LOG])], WATCHED, Chain(burns=True))
    names = []
    for finality, incarnation, was_head in (
        ("head", 0, False),
        ("retracted", 0, True),
        ("head", 1, False),
        ("final", 1, True),
    ):
        record = block_record("eip155:1", 100, header, found, run=16, finality=finality, incarnation=incarnation,
                              was_head=was_head, gap=(11, 15))  # fmt: skip
        assert codec.decode(codec.encode("evm.blocks.v1", record))[1] == record
        names.append(record["publication"])
    assert names == ["0/head", "0/retracted", "1/head", "1/final"]
    second = block_record("eip155:1", 100, header, found, run=16, finality="head", incarnation=0, was_head=False,
                          chunk=1, chunks=2)  # fmt: skip
    assert second["raw_header"] == b"" and (second["gap_from"], second["gap_to"]) == (None, None)


def test_one_transaction_alone_has_null_for_what_is_not_told():
    record = transaction_record({"hash": hashed(1)}, {}, [])
    unknown = (
        "type",
        "status",
        "fee",
        "burnt",
        "tip",
        "gas_used",
        "effective_gas_price",
        "fee_payer",
        "transaction_index",
    )
    assert all(record[name] is None for name in unknown)
