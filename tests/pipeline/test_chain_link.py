"""Does a ledger follow the last one? On the recorded chain, and on every way to break it."""

import gzip
from itertools import islice
from pathlib import Path

import orjson
import pytest

from pipeline.domain.chain_link import BrokenChain, Gap, check_link, head_of
from pipeline.domain.decode.xrpl import decode_ledger

RECORDING = Path(__file__).parents[2] / "pipeline/recordings/xrpl-standalone.jsonl.gz"


@pytest.fixture(scope="module")
def ledgers():
    with gzip.open(RECORDING) as lines:
        return [decode_ledger(orjson.loads(line)) for line in islice(lines, 12)]


def fees(transactions):
    return sum(tx["fee"] for tx in transactions)


def test_recorded_chain_holds(ledgers):
    head = None
    for header, transactions in ledgers:
        check_link(head, header, fees(transactions))
        head = head_of(header)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("parent_hash", "F" * 64, "parent_hash"),
        ("account_hash", "0" * 64, "ledger_hash"),
        ("total_coins", 99999999999999000, "ledger_hash"),
        ("ledger_hash", "A" * 64, "ledger_hash"),
    ],
)
def test_a_changed_header_no_longer_has_its_hash(ledgers, field, value, reason):
    head, (header, transactions) = head_of(ledgers[5][0]), ledgers[6]
    with pytest.raises(BrokenChain) as broken:
        check_link(head, {**header, field: value}, fees(transactions))
    assert broken.value.reason == reason


def test_another_parent_is_told_with_both_hashes(ledgers):
    head, (header, transactions) = head_of({**ledgers[5][0], "ledger_hash": "B" * 64}), ledgers[6]
    with pytest.raises(BrokenChain, match=f"{header['parent_hash']}.*{'B' * 64}") as broken:
        check_link(head, header, fees(transactions))
    assert broken.value.reason == "parent_hash"


def test_fees_must_be_the_fall_of_total_coins(ledgers):
    place = next(i for i, (_, txs) in enumerate(ledgers) if i and txs)
    header, transactions = ledgers[place]
    with pytest.raises(BrokenChain) as broken:
        check_link(head_of(ledgers[place - 1][0]), header, fees(transactions) + 1)
    assert broken.value.reason == "total_coins"


def test_missing_ledgers_are_a_gap_and_backward_is_not(ledgers):
    with pytest.raises(Gap) as gap:
        check_link(head_of(ledgers[3][0]), ledgers[7][0], fees(ledgers[7][1]))
    assert (gap.value.first, gap.value.last) == (5, 7)
    with pytest.raises(BrokenChain) as broken:
        check_link(head_of(ledgers[7][0]), ledgers[7][0], fees(ledgers[7][1]))
    assert broken.value.reason == "order"


def test_what_is_not_told_is_not_judged():
    check_link(None, {"ledger_index": 104552600, "transaction_hash": "A" * 64}, 8107)
    head = head_of({"ledger_index": 104552600, "transaction_hash": "A" * 64})
    check_link(head, {"ledger_index": 104552601, "transaction_hash": "B" * 64}, 5)
