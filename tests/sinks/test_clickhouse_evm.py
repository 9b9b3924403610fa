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
from tests.support.evm_rows import (
    BLOCKS,
    asset_rows,
    asset_rows_in,
    of_assets,
    rows_in,
    rows_of,
    write,
    write_through_storms,
)
from tests.support.evm_story import Story
from tests.support.history import ASSETS, history
from tests.support.history import message as history_message

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


@pytest.mark.parametrize("seed", range(3))
def test_the_tables_are_a_plain_fold_of_the_messages(tmp_path: Path, seed: int) -> None:
    """Through kills at any statement, duplicates, any cut of batches and new epochs: no row twice, none lost."""
    records = Story(seed).tell(110).told
    kills = write_through_storms(tmp_path / "ch", BLOCKS, records, seed)
    kills += write_through_storms(tmp_path / "ch", ASSETS, of_assets(records), seed + 100)
    assert kills >= 3
    with history(tmp_path / "ch") as sink:
        assert rows_in(sink) == rows_of(records)
        assert asset_rows_in(sink) == asset_rows(records)


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_branches_at_one_place_keep_their_rows(sink: ClickHouseHistory, cut: int) -> None:
    """The same payer at the same place of both branches, in different months, in any batches: B stays, paid once."""
    a, b = decoded(7, 16, [5]), decoded(8, 16, [3])
    b[0]["time"] -= 31 * 86_400_000
    told = [
        message(n, *one) for n, one in enumerate([(a, "head"), (a, "retracted"), (b, "head"), (b, "final")])
    ]
    for start in range(0, 4, cut):
        sink.write("e", told[start : start + cut])
    assert ask(sink, "SELECT block_hash, finality, transaction_index FROM gas_ledger ORDER BY ALL") == [
        (hashed(n), finality, place) for n, finality in ((7, "retracted"), (8, "final")) for place in (0, 1)
    ]  # fmt: skip
    assert ask(sink, "SELECT transactions, fee_paid FROM gas_report") == [(2, str(200 * PRICE))]


def test_what_came_last_wins_in_a_batch_of_any_size(sink: ClickHouseHistory) -> None:
    """One block taken back and told again more often than one block of ClickHouse's memory has rows."""
    record = of_assets(Story(1).tell(40).told)[0]
    count = 66_500
    told = [
        {**record, "incarnation": n, "finality": "head", "publication": f"{n}/head"} for n in range(count)
    ]
    sink.write("e", [history_message(of, at, ASSETS) for at, of in enumerate(told)])
    assert ask(sink, "SELECT DISTINCT incarnation FROM asset_changes") == [(count - 1,)]


def test_a_directory_of_an_earlier_release(tmp_path: Path) -> None:
    """Its tables gain the columns and the place in the sorting key; what it held stays, and is known again."""
    old = Story(3).tell(60).told
    finals = [
        {**of, "publication": "", "finality": "final"} for of in of_assets(old) if of["finality"] == "final"
    ]
    with history(tmp_path / "ch") as sink:
        write_assets(sink, finals)
        for table, key in (
            ("asset_changes", "chain_number, asset, block, transaction_index, change_index"),
            ("gas_ledger", "chain_number, owner, ledger_index, transaction_index"),
        ):
            made_before(sink, table, key, "time" if table == "asset_changes" else "close_time")
        before = list(sink.query("SELECT asset, block, action FROM asset_changes ORDER BY ALL"))
    with history(tmp_path / "ch") as sink:
        tables = "system.tables WHERE name IN ('asset_changes', 'gas_ledger')"
        keys = ask(sink, f"SELECT splitByString(', ', sorting_key)[-1] FROM {tables}")
        assert keys == [("branch",), ("branch",)]
        assert before == list(sink.query("SELECT asset, block, action FROM asset_changes ORDER BY ALL"))
        assert write_assets(sink, finals, "f") == 0
        records = Story(5).tell(80).told
        write(sink, records)
        assert rows_in(sink)["gas_ledger"] == rows_of(records)["gas_ledger"]


def write_assets(sink: ClickHouseHistory, records: list[Any], epoch: str = "old") -> int:
    return sink.write(epoch, [history_message(of, at, ASSETS) for at, of in enumerate(records)]).applied


def made_before(sink: ClickHouseHistory, table: str, key: str, time: str) -> None:
    """Make the table what the release before made of it: no finality, and its branches in one place."""
    client = sink._client
    client.command(
        f"CREATE TABLE old ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM({time}) ORDER BY ({key}) AS "
        f"SELECT * EXCEPT (branch, finality, incarnation) FROM {table}"
    )
    client.command(f"DROP TABLE {table} SYNC")
    client.command(f"RENAME TABLE old TO {table}")
