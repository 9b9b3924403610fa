"""Blooms, eth_getLogs filters, and answers of eth_getLogs that leave out, invent or change a log."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from pipeline.domain.evm_logs import (
    EVERY_LOG,
    LogFilter,
    bloom_may_hold,
    check_logs_by_bloom,
    compare_logs,
    logs_bloom,
)
from pipeline.domain.evm_proof import judge_block
from pipeline.domain.evm_rlp import Malformed
from pipeline.domain.proof_errors import Contradiction, Unprovable
from tests.pipeline.test_evm_proof import SHARED, case, load, logs_of, needs_shared

TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
WETH = "0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2"
ABSENT = "0x" + "77" * 20
FILTERS = [
    EVERY_LOG,
    LogFilter([WETH]),
    LogFilter([WETH, ABSENT], [[TRANSFER]]),
    LogFilter([], [[TRANSFER]]),
    LogFilter([], [[], []]),
    LogFilter([], [[TRANSFER], [], [], []]),
    LogFilter(["0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2"], [[TRANSFER.upper().replace("0X", "0x")]]),
]


def mainnet() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    told = load("mainnet-17173049.json.gz")
    return told["block"], told["receipts"]


def test_the_bloom_of_271_logs_is_the_headers() -> None:
    block, receipts = mainnet()
    assert "0x" + logs_bloom(logs_of(receipts)).hex() == block["logsBloom"]
    for receipt in receipts:
        assert "0x" + logs_bloom(receipt["logs"]).hex() == receipt["logsBloom"]


def test_a_bloom_holds_every_log_of_it_and_misses_what_is_not_there() -> None:
    block, receipts = mainnet()
    bloom = block["logsBloom"]
    for log in logs_of(receipts):
        assert bloom_may_hold(bloom, [log["address"]], [[topic] for topic in log["topics"]])
    absent = [f"0x{number:040x}" for number in range(1, 2001)]
    hits = [address for address in absent if bloom_may_hold(bloom, [address], [])]
    assert 0 < len(hits) < 200  # a bloom this full (271 logs) still proves the absence of 9 in 10
    assert not bloom_may_hold(bloom, [one for one in absent if one not in hits], [[TRANSFER]])
    assert bloom_may_hold(bloom, [], []) and bloom_may_hold(bloom, [], [[], [TRANSFER]])
    assert not bloom_may_hold("0x" + "00" * 256, [], [])
    with pytest.raises(Malformed):
        bloom_may_hold(bloom[:-2], [], [])
    with pytest.raises(Malformed):
        bloom_may_hold(bloom, ["weth"], [])


def test_what_a_filter_matches() -> None:
    logs = logs_of(mainnet()[1])
    counts = [sum(one.matches(log) for log in logs) for one in FILTERS]
    of_weth = sum(log["address"] == WETH for log in logs)
    transfers = [log for log in logs if log["topics"][:1] == [TRANSFER]]
    assert counts[:2] == [271, of_weth]
    assert counts[2] == counts[6] == sum(log["address"] == WETH for log in transfers) > 20
    assert counts[3] == len(transfers)
    assert counts[4] == sum(len(log["topics"]) >= 2 for log in logs) < 271
    assert counts[5] == sum(len(log["topics"]) == 4 for log in transfers) == 8


@pytest.mark.parametrize("log_filter", FILTERS, ids=range(len(FILTERS)))
def test_get_logs_of_every_filter(log_filter: LogFilter) -> None:
    """The right answer passes in any order; without any one log, and with any other one, it does not."""
    receipts = mainnet()[1]
    every = logs_of(receipts)
    right = [log for log in every if log_filter.matches(log)]
    compare_logs(right[::-1], receipts, log_filter)
    for at in range(len(right)):
        with pytest.raises(Contradiction) as caught:
            compare_logs(right[:at] + right[at + 1 :], receipts, log_filter)
        assert caught.value.reason == "missing_log"
    others = [log for log in every if not log_filter.matches(log)]
    for other in others[:20]:
        with pytest.raises(Contradiction) as caught:
            compare_logs([*right, other], receipts, log_filter)
        assert caught.value.reason == "invented_log"
    with pytest.raises(Contradiction) as caught:
        compare_logs([*right, right[0]], receipts, log_filter)
    assert caught.value.reason == "duplicate_log"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("address", ABSENT), ("data", "0x00"), ("topics", [TRANSFER]), ("blockHash", "0x" + "00" * 32),
        ("transactionHash", "0x" + "00" * 32), ("blockNumber", "0x1"), ("transactionIndex", "0x7"),
        ("removed", True),
    ],
)  # fmt: skip
def test_get_logs_with_a_changed_log(name: str, value: object) -> None:
    receipts = mainnet()[1]
    logs = copy.deepcopy(logs_of(receipts))
    logs[5][name] = value
    with pytest.raises(Contradiction) as caught:
        compare_logs(logs, receipts)
    assert caught.value.reason == "changed_log"


def test_get_logs_where_only_the_header_is_known() -> None:
    block, receipts = mainnet()
    logs = logs_of(receipts)
    check_logs_by_bloom(block, [], LogFilter([ABSENT]))
    for answered in ([], logs[:1], logs):
        with pytest.raises(Unprovable, match="receipts"):
            check_logs_by_bloom(block, answered)
    for wrong in ({"address": ABSENT}, {"topics": ["0x" + "13" * 32]}, {"blockHash": "0x" + "00" * 32}):
        with pytest.raises(Contradiction) as caught:
            check_logs_by_bloom(block, [{**logs[0], **wrong}])
        assert caught.value.reason == "invented_log"
    with pytest.raises(Contradiction):
        check_logs_by_bloom(block, logs[:1], LogFilter([ABSENT]))


def test_a_short_page_is_found_at_level_header() -> None:
    """The reason for all this: a node answers 200 with fewer logs (and fewer receipts to match)."""
    told = case("anvil-types")
    block, receipts, logs = told["block"], told["receipts"], told["logs"]
    assert len(logs) == 10
    for short in (logs[:-1], logs[1:], []):
        with pytest.raises(Contradiction, match="lacks"):
            judge_block(block, receipts, short, "header")
    emptied = copy.deepcopy(receipts)
    emptied[0]["logs"] = []
    with pytest.raises(Contradiction) as caught:
        judge_block(block, emptied, logs_of(emptied), "header", exceptions=["log_index"])
    assert caught.value.reason == "logs_bloom"
    emptied[0]["logsBloom"] = "0x" + "00" * 256
    del emptied[4]["logs"][0]
    emptied[4]["logsBloom"] = "0x" + logs_bloom(emptied[4]["logs"]).hex()
    with pytest.raises(Contradiction) as caught:
        judge_block(block, emptied, logs_of(emptied), "header", exceptions=["log_index"])
    assert caught.value.reason == "logs_bloom"


@needs_shared
def test_shared_receipts() -> None:
    """Every receipt of the shared cases, of six sources, has the bloom of its logs."""
    found = 0

    def walk(answer: Any) -> None:
        nonlocal found
        for value in answer.values() if isinstance(answer, dict) else answer:
            if isinstance(value, (dict, list)):
                walk(value)
        if isinstance(answer, dict) and {"logs", "logsBloom"} <= answer.keys():
            assert "0x" + logs_bloom(answer["logs"]).hex() == answer["logsBloom"]
            found += 1

    for path in sorted((SHARED / "cases").glob("*.json")):
        walk(json.loads(path.read_text())["input"])
    assert found >= 16
