"""Proof files of EVM transactions: every type, forks from Frontier to Prague, tries of any depth, single logs."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import rlp
from eth_utils import keccak

from pipeline.domain import proof, proof_evm
from pipeline.domain.decode.evm import Chain, decode_block
from pipeline.domain.decode.evm_contracts import UNDECLARED
from pipeline.domain.proof_errors import Contradiction, Unprovable
from pipeline.domain.proof_form import Proof, write
from tests.pipeline.test_evm_proof import case, load
from tests.support import evm_roots
from tests.support.proof_reader import read_proof

WHOLE = ["mainnet-483920", "mainnet-1755635", "test-1", "test-54", "anvil-types", "anvil-deposit"]
FORKS = ["test-london", "test-merge", "test-shanghai", "test-cancun", "test-prague"]
KEPT = ("transaction_index", "hash", "type", "status", "from_address", "to_address", "contract_address", "nonce",
        "value", "selector", "gas_used", "effective_gas_price")  # fmt: skip


def proven(block: Any, receipts: Any) -> int:
    """Make and check the proof of every transaction; how many. What they tell is what the decoder does."""
    header, records = decode_block(block, receipts, UNDECLARED, Chain(burns=True))
    for record in records:
        content = write(proof_evm.make(block, receipts, record["hash"]))
        told = proof.check(content, block["hash"])
        kept = [name for name in KEPT if name != "nonce" or told["type"] != 126]  # a deposit's: the receipt's
        assert {name: told[name] for name in kept} == {name: record[name] for name in kept}
        assert (told["block_number"], told["time"]) == (header["block_number"], header["time"])
        assert told["gas_fee"] == str(record["gas_used"] * int(record["effective_gas_price"] or 0))
        for name in ("contract", "topics", "data", "event", "args"):
            assert [log[name] for log in told["logs"]] == [log[name] for log in record["logs"]]  # type: ignore[literal-required]
        assert [one["amount"] for one in told["transfers"]] == [one["amount"] for one in record["transfers"]]
        changes = [(one["account"], one["asset"], one["change"]) for one in record["balance_changes"]]
        assert [tuple(one.values()) for one in told["balance_changes"]] == changes
        found = read_proof(content)
        assert "0x" + found["block_hash"].hex() == block["hash"]
    return len(records)


@pytest.mark.parametrize("name", WHOLE)
def test_every_transaction_of_a_block(name: str) -> None:
    told = case(name)
    assert proven(told["block"], told["receipts"]) == len(told["receipts"]) > 0


@pytest.mark.parametrize("name", FORKS)
def test_headers_of_every_fork(name: str) -> None:
    """Real transactions of types 0 to 4 under headers of each fork; their hash is the oracle's."""
    told = case("anvil-types")
    roots = {field: told["block"][field] for field in ("transactionsRoot", "receiptsRoot")}
    transactions = [
        {**one, "gasPrice": hex(price_in(case(name)["block"], one))} for one in told["block"]["transactions"]
    ]
    block = {**case(name)["block"], **roots, "transactions": transactions}
    block["hash"] = evm_roots.block_hash(block)
    placed = {"blockHash": block["hash"], "blockNumber": block["number"]}
    receipts = [
        {**one, **placed, "effectiveGasPrice": transaction["gasPrice"]}
        for one, transaction in zip(told["receipts"], transactions, strict=True)
    ]
    for one in transactions:
        if one["type"] == "0x0":
            one["gasPrice"] = told["block"]["transactions"][int(one["transactionIndex"], 16)]["gasPrice"]
    assert proven(block, receipts) == 8


def price_in(block: Any, transaction: Any) -> int:
    """What the transaction pays for gas in a block of another base fee."""
    if "maxFeePerGas" not in transaction:
        return int(transaction["gasPrice"], 16)
    base, top, tip = (
        int(text, 16)
        for text in (
            block.get("baseFeePerGas", "0x0"), transaction["maxFeePerGas"], transaction["maxPriorityFeePerGas"],
        )
    )  # fmt: skip
    return min(top, base + tip)


@cache
def large() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Mainnet's block 17173049 with its 116 receipts: a trie of four levels. mixHash, which was not recorded, is
    made up, and so is the hash; no transaction was recorded with a signature."""
    told = load("mainnet-17173049.json.gz")
    told = told.get("input", told)
    block, receipts = (told.get(a) or told[b] for a, b in (("eth_getBlockByNumber", "block"),
                                                         ("eth_getBlockReceipts", "receipts")))  # fmt: skip
    block = {**block, "mixHash": "0x" + "11" * 32}
    return {**block, "hash": evm_roots.block_hash(block)}, receipts


def test_receipts_alone_where_transactions_have_no_encoding() -> None:
    block, receipts = large()
    assert len(receipts) == 116
    for index in [0, 1, *range(15, 116, 10), 115]:
        receipt, before = receipts[index], receipts[index - 1]["cumulativeGasUsed"] if index else "0x0"
        content = write(proof_evm.make(block, receipts, receipt["transactionHash"]))
        told = proof.check(content, block["hash"])
        assert (told["transaction_index"], told["hash"], told["from_address"], told["gas_fee"]) == (
            index,
            None,
            None,
            None,
        )
        assert told["status"] == int(receipt["status"], 16)
        assert told["gas_used"] == int(receipt["cumulativeGasUsed"], 16) - int(before, 16)
        assert [log["data"] for log in told["logs"]] == [log["data"] for log in receipt["logs"]]
        assert "transaction" not in read_proof(content)


def with_log() -> tuple[dict[str, Any], list[dict[str, Any]], str, int]:
    """A block, its receipts, a transaction with several logs that are not the block's first, and its last log."""
    block, receipts = large()
    receipt = max(receipts, key=lambda one: len(one["logs"]))
    return block, receipts, receipt["transactionHash"], int(receipt["logs"][-1]["logIndex"], 16)


def test_a_log_is_the_one_of_the_row() -> None:
    block, receipts, name, index = with_log()
    log = next(log for receipt in receipts for log in receipt["logs"] if int(log["logIndex"], 16) == index)
    made = proof_evm.make(block, receipts, name, index)
    told = proof.check(write(made))["log"]
    assert [told[name] for name in ("contract", "topics", "data")] == [
        log["address"],
        log["topics"],
        log["data"],
    ]
    assert read_proof(write(made))["receipt"]
    for field, value in {
        "place": made["log"]["place"] - 1, "contract": "0x" + "00" * 20, "topics": [], "data": "0x",
    }.items():  # fmt: skip
        with pytest.raises(Contradiction, match="log"):
            proof_evm.check({**made, "log": {**made["log"], field: value}})
    with pytest.raises(Contradiction, match="none at place"):
        proof_evm.check({**made, "log": {**made["log"], "place": 1000}})
    with pytest.raises(Unprovable, match="its logs are"):
        proof_evm.make(block, receipts, name, index + 1)


def made(name: str = "anvil-types", at: int = 3) -> Proof:
    told = case(name)
    return proof_evm.make(told["block"], told["receipts"], told["receipts"][at]["transactionHash"])


def test_a_proof_is_of_one_block_alone() -> None:
    content = write(made())
    block = case("anvil-types")["block"]
    assert proof.check(content, block["hash"][2:].upper())["block_number"] == 1
    with pytest.raises(Contradiction, match="leads to block"):
        proof.check(content, block["parentHash"])


def test_parts_of_two_proofs_do_not_make_a_third() -> None:
    one, other = made(at=3), made(at=4)
    for field in ("transaction_hash", "index", "nodes"):
        with pytest.raises((Contradiction, ValueError)):
            proof_evm.check({**one, field: other[field]})
    for field in ("block_hash", "header"):
        with pytest.raises((Contradiction, ValueError)):
            proof_evm.check({**one, field: made("test-1", 0)[field]})


def test_nodes_that_prove_nothing_are_refused() -> None:
    one = made()
    for nodes in (
        [*one["nodes"], one["nodes"][0]],
        [*one["nodes"], "0xc0"],
        [*one["nodes"], *made(at=6)["nodes"]],
    ):
        with pytest.raises(ValueError, match="nodes"):
            proof_evm.check({**one, "nodes": nodes})
    for at in range(len(one["nodes"])):
        with pytest.raises(Contradiction, match="missing"):
            proof_evm.check({**one, "nodes": one["nodes"][:at] + one["nodes"][at + 1 :]})
    without = {name: value for name, value in one.items() if name != "transaction_hash"}
    with pytest.raises(ValueError, match="proves nothing"):  # a proof of the receipt alone has fewer nodes
        proof_evm.check(without)


def test_answers_that_are_not_the_blocks_have_no_proof() -> None:
    told = case("anvil-types")
    block, receipts, name = told["block"], told["receipts"], told["receipts"][3]["transactionHash"]
    *others, last = block["transactions"]
    changes: list[tuple[str, Any, Any]] = [
        ("header", {**block, "gasUsed": "0x1"}, receipts),
        ("receiptsRoot", block, [*receipts[:-1], {**receipts[-1], "cumulativeGasUsed": "0x1"}]),
        ("receiptsRoot", block, receipts[::-1]),
        ("transactions", {**block, "transactions": [*others, {**last, "nonce": "0x99"}]}, receipts),
    ]
    for _, changed, of in changes:
        with pytest.raises(Contradiction):
            proof_evm.make(changed, of, name)
    with pytest.raises(Unprovable, match="not among"):
        proof_evm.make(block, receipts, "0x" + "00" * 32)
    with pytest.raises(Unprovable, match="mixHash"):
        proof_evm.make({k: v for k, v in block.items() if k != "mixHash"}, receipts, name)


def forged(receipt_nodes: list[Any]) -> Proof:
    """A proof whose header is made for nodes that no chain has: the last of them hashes to the receipts root."""
    header = rlp.decode(bytes.fromhex(made()["header"][2:]))
    encoded = [rlp.encode(node) for node in receipt_nodes]
    header[5] = keccak(encoded[-1])
    raw = rlp.encode(header)
    proof_of = copy.deepcopy(made())
    del proof_of["transaction_hash"]
    return {**proof_of, "block_hash": "0x" + keccak(raw).hex(), "header": "0x" + raw.hex(), "index": 0,
            "nodes": ["0x" + node.hex() for node in encoded]}  # fmt: skip


def nested(depth: int) -> Any:
    item: Any = b"\x01"
    for _ in range(depth):
        item = [item]
    return item


@pytest.mark.parametrize(
    "node",
    [
        [], [b""], [b"", b""], [[], []], [b"\x20" * 40, b"x"], [b""] * 17, [b"\x00", [b"\x00", [b"\x00", b""]]],
        [b"\x20\x80", b""], [b"\x20\x80", b"\x01"], [b"\x20\x80", b"\xc0"], [b"\x20\x80", b"\xff" * 9],
        [b"\x20\x80", rlp.encode([b"\x01", b"", b"", b""])],
        [b"\x20\x80", rlp.encode([b"\x01", b"", b"", [[b"", [], b""]]])],
        [b"\x20\x80", rlp.encode([b"\x01", b"", b"", [[b"", b""]]])], [b"\x20\x80", rlp.encode([b"", [], b"", []])],
    ],
)  # fmt: skip
def test_hostile_tries_end_in_one_line(node: Any) -> None:
    with pytest.raises(ValueError) as error:
        proof_evm.check(forged([node]))
    assert type(error.value).__module__.startswith("pipeline.domain.proof_"), repr(error.value)
    assert "\n" not in str(error.value)


def test_deeply_nested_rlp_ends_in_one_line() -> None:
    header = copy.deepcopy(made())
    raw = b"\xc1" * 3 + b"\x01"
    body = raw
    for _ in range(20_000):
        size = len(body)
        length = size.to_bytes((size.bit_length() + 7) // 8)
        body = (bytes((0xC0 + size,)) if size < 56 else bytes((0xF7 + len(length),)) + length) + body
    with pytest.raises(ValueError, match="RLP"):
        proof_evm.check({**header, "header": "0x" + body.hex(), "block_hash": "0x" + keccak(body).hex()})
