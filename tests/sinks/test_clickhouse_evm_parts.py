"""A transaction that comes in parts has the rows in ClickHouse that it would have as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sinks.clickhouse import ClickHouseHistory
from tests.pipeline.test_evm_parts import states, unsplit
from tests.support.evm_rows import BLOCKS, asset_rows_in, rows_in, write
from tests.support.history import history, message


def tables(sink: ClickHouseHistory) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {**rows_in(sink), "asset_changes": asset_rows_in(sink)}
    found["evm_blocks"] = [row[:-1] for row in found["evm_blocks"]]  # chunks
    for view in ("evm_balances_at(position = 16)", "gas_report"):
        found[view] = sorted(
            (tuple(row.values()) for row in sink.query(f"SELECT * FROM {view} SETTINGS final = 1")), key=repr
        )
    return found


@pytest.mark.parametrize("path", [("head",), ("head", "final"), ("head", "retracted")])
def test_rows_are_those_of_the_whole(tmp_path: Path, path: tuple[Any, ...]) -> None:
    for case in ("transfers", "range", "large batch", "1") if path[-1] == "final" else ("2",):
        told = []
        for name, records in (
            ("whole", [unsplit(case, one) for one in path]),
            ("parts", list(states(case, *path))),
        ):
            with history(tmp_path / f"{case}-{name}") as sink:
                write(sink, records)
                told.append(tables(sink))
        assert told[0] == told[1]
        assert len(told[0]["evm_transactions"]) == len(told[0]["gas_ledger"]) == 3
        assert len(told[0]["evm_transfers"]) == 2 + len(unsplit(case)["transactions"][1]["transfers"])


def test_a_table_of_an_earlier_release_tells_parts_apart(tmp_path: Path) -> None:
    with history(tmp_path / "ch") as sink:
        client = sink._client
        key = "chain_number, contract, asset, block_number, block_hash, transaction_index, row_number"
        client.command(
            f"CREATE TABLE old ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(time) ORDER BY ({key}) AS "
            "SELECT * EXCEPT (part) FROM evm_transfers"
        )
        client.command("DROP TABLE evm_transfers SYNC")
        client.command("RENAME TABLE old TO evm_transfers")
    with history(tmp_path / "ch") as sink:
        write(sink, list(states("transfers", "final")))
        (row,) = sink.query("SELECT count() AS n, uniqExact(part) AS parts FROM evm_transfers")
        assert row["n"] == 3002 and row["parts"] > 1


def test_what_counts_once_has_no_row_for_later_parts(tmp_path: Path) -> None:
    """Not even before the rows of a key are merged; and what a node told stays."""
    with history(tmp_path / "ch") as sink:
        for offset, record in enumerate(states("2", "head")):
            sink.write("e", [message(record, offset, BLOCKS)])
        for table in ("evm_transactions", "gas_ledger"):
            (row,) = sink.query(f"SELECT count() AS n FROM {table} SETTINGS final = 0")
            assert row["n"] == 3
        (row,) = sink.query("SELECT countIf(empty(raw)) AS n FROM evm_transactions")
        assert row["n"] == 0
