"""EVM blocks in ClickHouse: exact rows, reorganised blocks visible as retracted, S0's gas ledger."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.domain.decode.evm import Chain, block_record, decode_block
from pipeline.domain.decode.evm_contracts import Contracts, contract
from schemas.codec import local_codec
from sinks.clickhouse import ClickHouseHistory
from sinks.sink import HistoryMessage
from tests.support.evm_logs import ALICE, BOB, ERC20, TOKEN, emitted
from tests.support.history import history

CODEC = local_codec()
U256 = 2**256 - 1
WATCHED = Contracts([contract(TOKEN, "erc20")])
PRICE = 12 * 10**18  # a fee beyond 64 bits


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[ClickHouseHistory]:
    with history(tmp_path / "ch") as opened:
        yield opened


def hashed(number: int) -> str:
    return f"0x{number:064x}"


def decoded(block: int, number: int, amounts: list[int], treasury: str = "") -> tuple[Any, Any]:
    """Header and transactions of block `number` with hash `block`: one transaction a transfer, the last fails."""
    count = len(amounts) + 1
    transactions = [
        {"hash": hashed(1000 + n), "from": ALICE, "to": TOKEN, "type": "0x2"} for n in range(count)
    ]
    receipts = [
        {"transactionHash": hashed(1000 + n), "transactionIndex": n, "blockHash": hashed(block), "gasUsed": 100,
         "effectiveGasPrice": PRICE, "status": int(n < len(amounts)), "type": 2,
         "logs": [emitted(ERC20, ALICE, BOB, amounts[n], index=n)] if n < len(amounts) else []}
        for n in range(count)
    ]  # fmt: skip
    header = {"number": number, "hash": hashed(block), "parentHash": hashed(block - 1), "timestamp": 1_700_000_000,
              "gasUsed": 100 * count, "gasLimit": 10**7, "baseFeePerGas": 10, "transactions": transactions}  # fmt: skip
    chain = Chain(burns=True, watched_addresses=frozenset({ALICE}), treasuries=frozenset({treasury}))
    return decode_block(header, receipts, WATCHED, chain)


def message(offset: int, of: tuple[Any, Any], finality: Any, incarnation: int = 0) -> HistoryMessage:
    record = block_record("eip155:1", 100, *of, run=1, finality=finality, incarnation=incarnation,
                          was_head=finality != "head")  # fmt: skip
    return HistoryMessage(
        "evm.blocks.v1", 3, offset, 1_700_000_000_000, CODEC.encode("evm.blocks.v1", record)
    )


def ask(sink: ClickHouseHistory, sql: str) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in sink.query(f"{sql} SETTINGS final = 1")]


def test_rows_of_a_block_are_exact(sink: ClickHouseHistory) -> None:
    sink.write("e", [message(0, decoded(7, 16, [U256, 5]), "head")])
    assert ask(
        sink,
        "SELECT block_number, block_hash, finality, transaction_count, toString(base_fee) FROM evm_blocks",
    ) == [(16, hashed(7), "head", 3, "10")]
    fees = "transaction_index, status, toString(fee), toString(burnt), toString(tip)"
    rows = ask(sink, f"SELECT {fees} FROM evm_transactions ORDER BY 1")
    tip = 100 * (PRICE - 10)
    assert rows == [(n, int(n < 2), str(100 * PRICE), "1000", str(tip)) for n in range(3)]
    assert ask(sink, "SELECT asset, toString(amount), token_id FROM evm_transfers ORDER BY transaction_index") == [
        (f"erc20:{TOKEN}", str(U256), None), (f"erc20:{TOKEN}", "5", None),
    ]  # fmt: skip
    changes = "account, change, toString(change_value) FROM evm_balance_changes ORDER BY transaction_index, row_number"
    assert ask(sink, f"SELECT {changes}") == [
        (ALICE, f"-{U256}", None), (BOB, str(U256), None), (ALICE, "-5", "-5"), (BOB, "5", "5"),
    ]  # fmt: skip
    assert ask(sink, "SELECT event, args, error FROM evm_logs WHERE log_index = 1") == [
        ("Transfer", [{"name": "from", "type": "address", "value": ALICE, "hashed": False},
                      {"name": "to", "type": "address", "value": BOB, "hashed": False},
                      {"name": "value", "type": "uint256", "value": "5", "hashed": False}], None),
    ]  # fmt: skip


def test_a_reorganisation_there_and_back(sink: ClickHouseHistory) -> None:
    """A, B, A: every message applies once, the rows say what the last message of their block said."""
    a, b = decoded(7, 16, [5]), decoded(8, 16, [3, 4])
    told = [(a, "head", 0), (a, "retracted", 0), (b, "head", 0), (b, "retracted", 0), (a, "head", 1)]
    messages = [message(offset, *one) for offset, one in enumerate(told)]
    assert sink.write("e", messages).applied == 5
    assert sink.write("f", messages).applied == 0
    assert ask(sink, "SELECT block_hash, finality, incarnation FROM evm_blocks ORDER BY 1") == [
        (hashed(7), "head", 1), (hashed(8), "retracted", 0),
    ]  # fmt: skip
    assert sink.write("e", [message(5, a, "final", 1)]).applied == 1
    kept = "SELECT toString(sum(amount)), count() FROM evm_transfers WHERE finality != 'retracted'"
    assert ask(sink, kept) == [("5", 1)]
    assert ask(sink, "SELECT account, toString(sum(change_value)) FROM evm_balance_changes WHERE finality = 'final' "
               "GROUP BY account ORDER BY account") == [(BOB, "5"), (ALICE, "-5")]  # fmt: skip


def test_the_gas_ledger_has_s0s_sums(sink: ClickHouseHistory) -> None:
    figures = ", ".join(
        f"toString(sum({name}))" for name in ("fee", "burnt", "gas_paid_by_user", "gas_paid_by_treasury")
    )
    sums = f"SELECT owner, count(), {figures} FROM gas_ledger WHERE finality != 'retracted' GROUP BY owner"
    sink.write("e", [message(0, decoded(7, 16, [5]), "head")])
    assert ask(sink, sums) == [(ALICE, 2, str(200 * PRICE), "2000", str(200 * PRICE), "0")]
    assert ask(sink, "SELECT result, type, ledger_index FROM gas_ledger ORDER BY transaction_index") == [
        ("success", "2", 16), ("failed", "2", 16),
    ]  # fmt: skip
    sink.write(
        "e", [message(1, decoded(7, 16, [5]), "retracted"), message(2, decoded(8, 16, [], ALICE), "final")]
    )
    assert ask(sink, sums) == [(ALICE, 1, str(100 * PRICE), "1000", "0", str(100 * PRICE))]
