"""Watched EVM contracts in ClickHouse: one row each, as the last message says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import local_codec
from sinks.clickhouse import ClickHouseHistory
from sinks.sink import HistoryMessage
from tests.support.history import history

TOPIC = "evm.contracts.v1"
CODEC = local_codec()
TOKEN, OTHER, FACTORY = (f"0x{n:040x}" for n in (1, 2, 3))
MONTH_MS = 32 * 86_400_000


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[ClickHouseHistory]:
    with history(tmp_path / "ch") as opened:
        yield opened


def message(
    offset: int, address: str, sequence: int, status: str = "watched", block: int | None = 7
) -> HistoryMessage:
    record: Any = {
        "contract": f"eip155:1/{address}", "chain": "eip155:1", "chain_number": 100, "address": address,
        "kind": "erc20" if block else None, "source": "factory" if block else "settings",
        "factory": FACTORY if block else None, "event": "Made(address)" if block else None,
        "start_block": block or 5, "coverage": "complete", "created_block": block,
        "created_hash": f"0x{block:064x}" if block else None, "time": (block or 0) * MONTH_MS, "status": status,
        "sequence": sequence,
    }  # fmt: skip
    return HistoryMessage(TOPIC, 3, offset, 1_700_000_000_000, CODEC.encode(TOPIC, record))


def rows(sink: ClickHouseHistory) -> list[tuple[Any, ...]]:
    asked = "SELECT address, status, created_block, sequence FROM evm_contracts FINAL ORDER BY address"
    return [tuple(row) for row in sink._client.query(asked).result_rows]


def test_the_last_message_of_a_contract_decides(sink: ClickHouseHistory) -> None:
    """Made in block 7, which is lost, comes back, is lost again; then another block, months away, made it."""
    told = [
        message(0, OTHER, 0, block=None), message(1, TOKEN, 0), message(2, TOKEN, 1, "retracted"),
        message(3, TOKEN, 2), message(4, TOKEN, 2), message(5, TOKEN, 3, "retracted"), message(6, TOKEN, 4, block=9),
    ]  # fmt: skip
    seen = []
    sink.open_partition("e1", TOPIC, 3)
    for one in told:
        sink.write("e1", [one])
        sink.flush()
        seen.append([row[1:] for row in rows(sink) if row[0] == TOKEN])
    assert seen == [
        [], [("watched", 7, 0)], [("retracted", 7, 1)], [("watched", 7, 2)], [("watched", 7, 2)],
        [("retracted", 7, 3)], [("watched", 9, 4)],
    ]  # fmt: skip
    assert (OTHER, "watched", None, 0) in rows(sink)
