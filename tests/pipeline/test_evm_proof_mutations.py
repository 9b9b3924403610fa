"""Any one change in an answer is noticed by the level that claims it; what no hash covers is named here.

Every leaf of a block, its transactions, receipts and logs is changed in one bit, taken out, or its list is
shortened, doubled or turned around: judge_block raises, or a check that was asked for can't be made.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from pipeline.domain.evm_logs import logs_bloom
from pipeline.domain.evm_proof import Head, judge_block
from pipeline.domain.proof_errors import Contradiction
from pipeline.domain.verdict import Level, failing
from tests.pipeline.test_evm_proof import case, logs_of, parent_of

Path = tuple[str | int, ...]

UNCOVERED = {
    "block": {"totalDifficulty", "size", "uncles", "withdrawals", "author", "sealFields", "blockTimestamp"},
    # told twice (v beside yParity, chainId beside v), derived from the signature, or of the node's own making
    "transaction": {"chainId", "publicKey", "creates", "standardV", "raw", "condition", "blockTimestamp"},
    "receipt": {"blobGasPrice", "blockTimestamp"},
    "log": {"blockTimestamp", "transactionLogIndex", "type"},
}
"""What an answer tells that neither a hash nor another field proves. Nothing may be booked from these."""

AT_HEADER = {
    "block": {
        "hash", "parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot",
        "logsBloom", "difficulty", "number", "gasLimit", "gasUsed", "timestamp", "extraData", "mixHash", "nonce",
        "baseFeePerGas", "withdrawalsRoot", "blobGasUsed", "excessBlobGas", "parentBeaconBlockRoot",
        "requestsHash", "transactions",
    },
    "transaction": {"hash", "from", "to", "blockHash", "blockNumber", "transactionIndex"},
    "receipt": {
        "transactionHash", "transactionIndex", "blockHash", "blockNumber", "from", "to", "gasUsed",
        "cumulativeGasUsed", "logsBloom", "logs", "receipts",
    },
    "log": {
        "address", "topics", "logIndex", "removed", "transactionHash", "transactionIndex", "blockHash",
        "blockNumber", "logs",
    },
}  # fmt: skip
"""What level header claims to notice; `data` only where getLogs and the receipts differ in it."""

NAMES = ["mainnet-483920", "mainnet-1755635", "test-1", "test-54", "anvil-types", "anvil-deposit"]


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every field and list with its path; a list also as a whole."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from leaves(one, (*path, name))
    elif isinstance(value, list):
        if value:
            yield path, value
        for at, one in enumerate(value):
            yield from leaves(one, (*path, at))
    else:
        yield path, value


def variants(value: Any) -> list[Any]:
    """Other values of the same kind."""
    if isinstance(value, list):
        return [value[:-1], value[1:], [*value, value[-1]], *([value[::-1]] if value[::-1] != value else [])]
    if isinstance(value, bool):
        return [not value]
    if value is None:
        return ["0x" + "12" * 20]
    if len(value) <= 2:
        return ["0x01"]
    low, high = f"{int(value[-1], 16) ^ 1:x}", f"{int(value[2], 16) ^ 8:x}"
    return [value[:-1] + low, value[:2] + high + value[3:]]


def changed(answer: Any, path: Path, value: Any) -> Any:
    """A copy of `answer` with another value at `path`; it shares all else."""
    if not path:
        return value
    made = copy.copy(answer)
    made[path[0]] = changed(answer[path[0]], path[1:], value)
    return made


@cache
def parent(name: str) -> Head:
    return parent_of(case(name)["block"])


def noticed(told: dict[str, Any], name: str, level: Level) -> bool:
    """Whether judge_block raises or calls the block unproven."""
    try:
        checks = judge_block(told["block"], told["receipts"], told["logs"], level, head=parent(name))
    except Contradiction:
        return True
    return bool(failing(checks))


def whole(name: str) -> dict[str, Any]:
    told = case(name)
    told["logs"] = copy.deepcopy(told["logs"] or logs_of(told["receipts"]))
    return told


def place_of(path: Path) -> tuple[str, str]:
    """Whose field it is, and its name at that level (`accessList` for all inside one)."""
    names = [step for step in path if isinstance(step, str)]
    if "logs" in names:
        inside = names[names.index("logs") + 1 :]
        return ("log", inside[0]) if inside else ("log", "logs")
    if names[0] == "receipts":
        return "receipt", names[1] if len(names) > 1 else "receipts"
    if names[:2] == ["block", "transactions"] and len(names) > 2:
        return "transaction", names[2]
    return "block", names[1]


def covered(told: dict[str, Any], path: Path) -> bool:
    """Whether level full claims to notice a change at `path`."""
    area, name = place_of(path)
    if name in UNCOVERED[area]:
        return False
    if area not in ("transaction", "receipt") or len(path) < 2:
        return True
    of = told["block"]["transactions"][path[2]] if area == "transaction" else told["receipts"][path[1]]
    kind = int(of.get("type") or "0x0", 16)
    if area == "receipt":
        canyon = of.get("depositReceiptVersion") is not None
        return not (kind == 0x7E and (name == "contractAddress" or (name == "depositNonce" and not canyon)))
    if name == "from" and kind != 0x7E:
        return "from" in told["receipts"][path[2]]  # else check_sender alone
    if kind == 0x7E:
        return name not in ("nonce", "gasPrice", "v", "r", "s", "yParity")
    return not (kind >= 2 and name == "gasPrice") and not (kind and name == "v" and "yParity" in of)


def misses(name: str, level: Level, claimed: dict[str, set[str]] | None) -> tuple[list[object], int]:
    """The changes that went by unnoticed, and how many were tried."""
    told = whole(name)
    assert not noticed(told, name, level)
    missed: list[object] = []
    tried = 0
    for path, value in leaves(told):
        area, field = place_of(path)
        if not covered(told, path) or (claimed is not None and field not in claimed[area]):
            continue
        if claimed and area == "transaction" and field == "to" and field not in told["receipts"][path[2]]:
            continue  # a receipt of old that does not repeat it
        others = variants(value)
        if path == ("logs",):
            others = [other for other in others if other != value[::-1]]  # eth_getLogs may come in any order
        for other in others:
            tried += 1
            if not noticed(changed(told, path, other), name, level):
                missed.append((path, value, other))
    return missed, tried


@pytest.mark.parametrize("name", NAMES)
def test_every_change_is_noticed_at_level_full(name: str) -> None:
    missed, tried = misses(name, "full", None)
    assert missed == []
    assert tried >= 100


@pytest.mark.parametrize("name", NAMES)
def test_level_header_notices_what_it_claims(name: str) -> None:
    missed, tried = misses(name, "header", AT_HEADER)
    assert missed == []
    assert tried > 60


def test_what_level_header_does_not_claim() -> None:
    """The data of a log, changed alike in getLogs and receipts, and a status: full notices, header does not."""
    for field in ("data", "status"):
        told = whole("anvil-types")
        if field == "data":
            told["receipts"][0]["logs"][0]["data"] = told["logs"][0]["data"] = "0x" + "ab" * 32
        else:
            told["receipts"][0]["status"] = "0x0"
        assert not noticed(told, "anvil-types", "header")
        assert noticed(told, "anvil-types", "full")


MAY_BE_ABSENT = {"removed", "effectiveGasPrice", "contractAddress", "from", "to", "type", "yParity", "mint",
                 "isSystemTx", "blobGasUsed", "gasPrice", "status", "root"}  # fmt: skip
"""Fields that some nodes leave out, where another tells the same or absence has a meaning of its own."""


@pytest.mark.parametrize("name", NAMES)
def test_a_field_taken_out(name: str) -> None:
    """Then a check can't be made, or something contradicts: never a verified block."""
    told = whole(name)
    for path, _ in leaves(told):
        if isinstance(path[-1], int) or len(path) < 2 or not covered(told, path):
            continue
        if path[-1] in MAY_BE_ABSENT or place_of(path) == ("receipt", "logsBloom"):
            continue
        gone = copy.deepcopy(told)
        inner: Any = gone
        for step in path[:-1]:
            inner = inner[step]
        del inner[path[-1]]
        assert noticed(gone, name, "full"), path


def test_a_lie_that_is_told_everywhere_alike() -> None:
    """Another log for every reader of getLogs, receipts and blooms: the header's hash does not let it by."""
    told = whole("anvil-types")
    log = {**told["logs"][0], "address": "0x" + "77" * 20}
    told["logs"][0] = told["receipts"][0]["logs"][0] = log
    told["receipts"][0]["logsBloom"] = "0x" + logs_bloom(told["receipts"][0]["logs"]).hex()
    told["block"]["logsBloom"] = "0x" + logs_bloom(logs_of(told["receipts"])).hex()
    with pytest.raises(Contradiction) as caught:
        judge_block(told["block"], told["receipts"], told["logs"], "header")
    assert caught.value.reason == "header_hash"


def test_another_payer_told_everywhere_alike() -> None:
    """No root covers `from`; the signature does."""
    told = whole("anvil-types")
    other = "0x" + "77" * 20
    told["block"]["transactions"][1]["from"] = told["receipts"][1]["from"] = other
    with pytest.raises(Contradiction) as caught:
        judge_block(told["block"], told["receipts"], told["logs"], "full")
    assert caught.value.reason == "senders"


GARBAGE = [None, 5, -1, True, 1.5, "", "0x", "zz", "0xzz", [], {}, [None], [[]], "<html>", {"a": 1}]


@pytest.mark.parametrize("name", ["mainnet-483920", "test-54", "anvil-types", "anvil-deposit"])
def test_garbage_anywhere_is_a_contradiction_or_a_check(name: str) -> None:
    """Never another exception: a node may answer anything."""
    told = whole(name)
    paths = [path for path, _ in leaves(told)]
    parents = {path[:depth] for path in paths for depth in range(1, len(path))}
    tried = 0
    for path in sorted({*paths, *parents}, key=repr):
        if "logsBloom" in path or (len(path) > 2 and isinstance(path[1], int) and path[1] > 1):
            continue
        for other in GARBAGE:
            noticed(changed(told, path, other), name, "full")
            tried += 1
    assert tried > 500
