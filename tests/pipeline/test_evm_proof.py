"""Every hash, bloom and root that others wrote comes out again; what an answer lacks is said, not passed."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import rlp
from eth_hash.auto import keccak
from web3._utils.method_formatters import block_result_formatter, receipt_formatter
from web3.datastructures import AttributeDict

from pipeline.domain.evm_proof import (
    Head,
    check_header_hash,
    check_receipts_root,
    check_sender,
    check_transactions_root,
    created_address,
    judge_block,
)
from pipeline.domain.evm_rlp import encode_transaction, signing_hash, transaction_hash
from pipeline.domain.proof_errors import Contradiction, Unprovable
from pipeline.domain.verdict import failing

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests/data/evm/proof"
SHARED = ROOT.parent / "shared/data/evm"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="the shared recordings are not here")


@cache
def _text(name: str) -> bytes:
    return gzip.decompress((DATA / name).read_bytes())


def load(name: str) -> Any:
    """A fresh copy each time: tests change it."""
    return json.loads(_text(name))


def case(name: str) -> dict[str, Any]:
    found: dict[str, Any] = load("blocks.json.gz")[name]
    return found


def logs_of(receipts: Any) -> list[dict[str, Any]]:
    return [log for receipt in receipts for log in receipt["logs"]]


def parent_of(block: dict[str, Any]) -> Head:
    return Head(int(block["number"], 16) - 1, block["parentHash"])


WHOLE = ["mainnet-483920", "mainnet-1755635", "test-1", "test-54", "anvil-types", "anvil-deposit"]
CHECKS = {"parent_hash", "header_hash", "positions", "log_index", "logs_bloom", "gas_used", "logs"}
FULL = CHECKS | {"receipts_root", "transactions_root", "senders", "derived_fields"}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("level", ["header", "full"])
def test_a_whole_block_passes_every_check(name: str, level: Any) -> None:
    told = case(name)
    block, receipts = told["block"], told["receipts"]
    logs = told["logs"] if told["logs"] is not None else logs_of(receipts)
    checks = judge_block(block, receipts, logs, level, head=parent_of(block))
    assert {check["name"] for check in checks} == (FULL if level == "full" else CHECKS)
    assert [check for check in checks if check["outcome"] != "holds"] == []


@pytest.mark.parametrize("name", WHOLE)
def test_the_shape_that_web3_gives_is_read_too(name: str) -> None:
    """Numbers as integers, data as HexBytes, addresses with checksum, read-only mappings."""
    told = case(name)
    block = AttributeDict.recursive(block_result_formatter(told["block"]))
    receipts = [AttributeDict.recursive(receipt_formatter(receipt)) for receipt in told["receipts"]]
    assert isinstance(block["number"], int) and isinstance(block["hash"], bytes)
    checks = judge_block(block, receipts, logs_of(receipts), "full")
    assert [check["name"] for check in checks if check["outcome"] != "holds"] == ["parent_hash"]
    for transaction in block["transactions"]:
        check_sender(transaction)


def test_headers_of_every_fork() -> None:
    cases = load("blocks.json.gz")
    assert len(cases) == 15
    for told in cases.values():
        check_header_hash(told["block"])


def test_mainnet_17173049() -> None:
    """116 receipts and 271 logs; the recording lacks mixHash and the signatures, and says so."""
    told = load("mainnet-17173049.json.gz")
    checks = judge_block(told["block"], told["receipts"], logs_of(told["receipts"]), "full")
    outcomes = {check["name"]: check["outcome"] for check in checks}
    untold = {"parent_hash", "header_hash", "transactions_root", "senders"}
    assert outcomes == {name: "not_applicable" if name in untold else "holds" for name in FULL}
    assert {check["name"] for check in failing(checks)} == {"header_hash", "transactions_root", "senders"}


def test_transactions_of_every_type() -> None:
    told = load("transactions.json.gz")
    assert Counter(int(one["type"], 16) for one in told) == {0: 2, 1: 1, 2: 1, 3: 1, 4: 1}
    for transaction in told:
        assert transaction_hash(transaction) == transaction["hash"]
        check_sender(transaction)
        assert created_address(transaction) is None or transaction["to"] is None


def test_the_example_of_eip_155() -> None:
    transaction = {
        "nonce": "0x9", "gasPrice": hex(20 * 10**9), "gas": hex(21_000), "to": "0x" + "35" * 20,
        "value": hex(10**18), "input": "0x", "v": "0x25",
        "r": hex(18515461264373351373200002665853028612451056578545711640558177340181847433846),
        "s": hex(46948507304638947509940763649030358759909902576025900602547168820602576006531),
        "from": "0x9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F",
    }  # fmt: skip
    assert signing_hash(transaction).hex() == (
        "daf5a779ae972f972197303d7b574746c7ef83eadac0f2791ad23db92e4c8e53")  # fmt: skip
    check_sender(transaction)
    for wrong in ({"v": "0x26"}, {"v": "0x27"}, {"value": "0x1"}, {"s": "0x0"}):
        with pytest.raises(Contradiction) as caught:
            check_sender({**transaction, **wrong})
        assert caught.value.reason == "senders"


HEADER = """parentHash sha3Uncles miner stateRoot transactionsRoot receiptsRoot logsBloom difficulty number
    gasLimit gasUsed timestamp extraData mixHash nonce baseFeePerGas withdrawalsRoot blobGasUsed excessBlobGas
    parentBeaconBlockRoot requestsHash"""
FEES = "chainId nonce maxPriorityFeePerGas maxFeePerGas gas to value input accessList"
BODY = {
    0: "nonce gasPrice gas to value input v r s",
    1: "chainId nonce gasPrice gas to value input accessList yParity r s",
    2: f"{FEES} yParity r s",
    3: f"{FEES} maxFeePerBlobGas blobVersionedHashes yParity r s",
    4: f"{FEES} authorizationList yParity r s",
}
BYTES = {"miner", "logsBloom", "extraData", "mixHash", "input", "to"}


def _shown(name: str, value: Any) -> Any:
    if name == "accessList":
        return [{"address": _hex(one[0]), "storageKeys": [_hex(key) for key in one[1]]} for one in value]
    if name == "authorizationList":
        names = ["chainId", "address", "nonce", "yParity", "r", "s"]
        return [{of: _shown(of, part) for of, part in zip(names, one, strict=True)} for one in value]
    if isinstance(value, list):
        return [_hex(one) for one in value]
    if name == "to" and not value:
        return None
    if name in BYTES or len(value) in (20, 32) or (name == "nonce" and len(value) == 8):
        return _hex(value)
    return hex(int.from_bytes(value, "big"))


def _hex(value: bytes) -> str:
    return "0x" + value.hex()


def test_the_whole_test_chain_out_of_its_rlp() -> None:
    """54 blocks decoded to the shape of JSON-RPC give the bytes, parents and roots that they came from."""
    rest, parent, kinds = _text("chain.rlp.gz"), None, Counter[int]()
    while rest:
        item = rlp.decode(rest, strict=False)
        rest = rest[len(rlp.encode(item)) :]
        header = {name: _shown(name, value) for name, value in zip(HEADER.split(), item[0], strict=False)}
        transactions = []
        for raw in item[1]:
            kind = raw[0] if isinstance(raw, bytes) else 0
            fields = rlp.decode(raw[1:]) if isinstance(raw, bytes) else raw
            names = BODY[kind].split()
            body = {name: _shown(name, value) for name, value in zip(names, fields, strict=True)}
            transaction = {**body, "type": hex(kind)}
            assert encode_transaction(transaction) == (raw if isinstance(raw, bytes) else rlp.encode(raw))
            transactions.append({**transaction, "hash": transaction_hash(transaction)})
            kinds[kind] += 1
        block = {**header, "transactions": transactions}
        block["hash"] = _hex(keccak(rlp.encode(item[0])))
        check_header_hash(block)
        check_transactions_root(block)
        assert parent in (None, header["parentHash"])
        parent = block["hash"]
    assert parent == case("test-54")["block"]["hash"]
    assert sorted(kinds) == [0, 1, 2, 3, 4] and sum(kinds.values()) > 150


def _deposit(cumulative: int, nonce: int, version: int | None) -> dict[str, Any]:
    receipt = {"type": "0x7e", "status": "0x1", "cumulativeGasUsed": hex(cumulative), "logs": [],
               "logsBloom": "0x" + "00" * 256, "depositNonce": hex(nonce)}  # fmt: skip
    return receipt if version is None else {**receipt, "depositReceiptVersion": hex(version)}


@pytest.mark.parametrize(
    ("used", "nonce", "root"),
    [
        (0xF9F5, 0xD2DF2, "0x3c715dd96d2597ccd46fde046da5e4b13e0a5b7d0a2ff60c3ee6c92fee9600ea"),
        (0xCCFD, 0x86147, "0xdbf9def3e8d930433596aa91b3ad3279652031ca45b1a3ca92785703f84aa6b0"),
        (0xC545, 0xAA547, "0x0e7c255df3e2b7ca4d55b82047531f7f3e7437ab1eb33e22eca70653c874982d"),
    ],
)
def test_deposits_between_regolith_and_canyon(used: int, nonce: int, root: str) -> None:
    """Manta Sepolia 863731, 549192, 697672: the nonce is told and not in the trie; with a version it is."""
    check_receipts_root({"receiptsRoot": root}, [_deposit(used, nonce, None)])
    with pytest.raises(Contradiction):
        check_receipts_root({"receiptsRoot": root}, [_deposit(used, nonce, 1)])


def test_a_canyon_deposit_has_its_nonce_in_the_trie() -> None:
    receipt = case("anvil-deposit")["receipts"][0]
    assert receipt["depositReceiptVersion"] == "0x1"
    del receipt["depositReceiptVersion"]
    with pytest.raises(Contradiction):
        check_receipts_root(case("anvil-deposit")["block"], [receipt])


def test_where_anvil_differs() -> None:
    """Its transactions root has blob transactions with their blobs; impersonated ones have no signature."""
    blob, impersonated = case("anvil-blob"), case("anvil-impersonated")
    both = ["transactions_root", "senders"]
    for told, reason, excepted in (
        (blob, "transactions_root", both[:1]),
        (impersonated, "transaction_hash", both),
    ):
        block, receipts = told["block"], told["receipts"]
        with pytest.raises(Contradiction) as caught:
            judge_block(block, receipts, told["logs"], "full")
        assert caught.value.reason == reason
        checks = judge_block(block, receipts, told["logs"], "full", exceptions=excepted)
        assert [check["name"] for check in failing(checks)] == excepted
        assert "except" in failing(checks)[0]["detail"]
    with pytest.raises(Contradiction, match="signature"):
        check_sender(impersonated["block"]["transactions"][0])
    for transaction in blob["block"]["transactions"]:
        check_sender(transaction)


def test_without_receipts_only_the_bloom_speaks() -> None:
    block = case("test-54")["block"]
    checks = {check["name"]: check for check in judge_block(block, None, [], "full")}
    assert checks["logs"]["outcome"] == "not_applicable"
    assert checks["receipts_root"]["outcome"] == "not_applicable"
    assert checks["transactions_root"]["outcome"] == checks["header_hash"]["outcome"] == "holds"
    empty = {**block, "logsBloom": "0x" + "00" * 256}
    assert {
        check["name"]: check["outcome"]
        for check in judge_block(empty, None, [], "header", exceptions=["header_hash"])
    } == {"parent_hash": "not_applicable", "header_hash": "not_applicable", "logs": "holds"}


def test_only_hashes_of_transactions() -> None:
    told = case("test-54")
    block, receipts = told["block"], told["receipts"]
    block["transactions"] = [transaction["hash"] for transaction in block["transactions"]]
    checks = judge_block(block, receipts, None, "full")
    missing = {check["name"] for check in checks if check["outcome"] == "not_applicable"}
    assert missing == {"parent_hash", "transactions_root", "senders", "derived_fields"}
    block["transactions"].reverse()
    with pytest.raises(Contradiction) as caught:
        judge_block(block, receipts, None, "header")
    assert caught.value.reason == "positions"


@pytest.mark.parametrize(
    ("where", "changed", "reason"),
    [
        ("block", {"gasUsed": "0x1"}, "gas_used"),
        ("block", {"logsBloom": "0x" + "ff" * 256}, "logs_bloom"),
        ("block", {"receiptsRoot": "0x" + "11" * 32}, "receipts_root"),
        ("block", {"transactionsRoot": "0x" + "11" * 32}, "transactions_root"),
        ("block", {"transactions": []}, "positions"),
        ("block", {"gasLimit": "0x1"}, "header_hash"),
        ("receipt", {"gasUsed": "0x1"}, "gas_used"),
        ("receipt", {"cumulativeGasUsed": "0x1"}, "gas_used"),
        ("receipt", {"transactionIndex": "0x9"}, "positions"),
        ("receipt", {"effectiveGasPrice": "0x1"}, "derived_fields"),
        ("receipt", {"contractAddress": "0x" + "11" * 20}, "derived_fields"),
        ("receipt", {"status": "0x0"}, "receipts_root"),
        ("log", {"logIndex": "0x9"}, "log_index"),
        ("log", {"blockHash": "0x" + "11" * 32}, "positions"),
        ("log", {"removed": True}, "positions"),
        ("log", {"address": "0x" + "11" * 20}, "logs_bloom"),
        ("log", {"data": "0x11"}, "receipts_root"),
        ("transaction", {"value": "0x9"}, "transaction_hash"),
    ],
)
def test_which_check_finds_what(where: str, changed: dict[str, Any], reason: str) -> None:
    """Each alone: the header's hash is only asked where it is the one that finds it."""
    told = case("anvil-types")
    target = {
        "block": told["block"], "receipt": told["receipts"][0], "log": told["receipts"][0]["logs"][0],
        "transaction": told["block"]["transactions"][0],
    }[where]  # fmt: skip
    target.update(changed)
    exceptions = [] if reason == "header_hash" else ["header_hash"]
    with pytest.raises(Contradiction) as caught:
        judge_block(told["block"], told["receipts"], None, "full", exceptions=exceptions)
    assert caught.value.reason == reason


def test_the_head() -> None:
    block = case("test-54")["block"]
    for head, reason in (
        (Head(53, "0x" + "11" * 32), "parent_hash"),
        (Head(52, block["parentHash"]), "order"),
        (Head(54, block["hash"]), "order"),
    ):
        with pytest.raises(Contradiction) as caught:
            judge_block(block, None, None, "header", head=head)
        assert caught.value.reason == reason


def test_what_is_not_told_or_not_known() -> None:
    told = case("anvil-types")
    transaction = told["block"]["transactions"][0]
    for changed, word in (
        ({"r": None}, "tell r"),
        ({"type": "0x64"}, "type 0x64"),
    ):
        with pytest.raises(Unprovable, match=word):
            encode_transaction({**transaction, **changed})
    block = {**told["block"], "withdrawalsRoot": None}
    with pytest.raises(Unprovable, match="requestsHash and not withdrawalsRoot"):
        check_header_hash(block)
    both = {**told["receipts"][0], "root": "0x" + "00" * 32}
    with pytest.raises(Contradiction, match="either a root or a status"):
        check_receipts_root(told["block"], [both, *told["receipts"][1:]])


@needs_shared
def test_shared_cases() -> None:
    """Every header of the shared cases has its hash, the shared block of mainnet is the one tested here."""
    shared = json.loads(gzip.decompress((SHARED / "blocks/17173049.json.gz").read_bytes()))["input"]
    told = load("mainnet-17173049.json.gz")
    assert (shared["eth_getBlockByNumber"], shared["eth_getBlockReceipts"]) == (
        told["block"], told["receipts"])  # fmt: skip
    found = 0
    for path in sorted((SHARED / "cases").glob("*.json")):
        answer = json.loads(path.read_text())["input"]
        block = (answer.get("response") or {}).get("result") or answer.get("eth_getBlockByNumber")
        if isinstance(block, dict) and "sha3Uncles" in block:
            check_header_hash(block)
            found += 1
    assert found >= 2
