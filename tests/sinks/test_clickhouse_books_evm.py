"""The audit log of a reorganising chain in ClickHouse: every state of a block a row, balances posted and pending."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.agents.books_records import transfer_records
from sinks import exports
from sinks.bookkeeper import Bookkeeper
from sinks.clickhouse import ClickHouseHistory
from sinks.embedded_books import connect
from tests.support.evm_books import (
    COIN,
    GAS,
    HOLDER,
    NOBODY,
    PEOPLE,
    TOKEN,
    Held,
    Model,
    Teller,
    block,
    digest,
    opening,
    posting,
    records,
    transaction,
    transfer,
)
from tests.support.history import TRANSFERS, history, message

A, B, C, *_ = PEOPLE
CHAIN, NUMBER = "eip155:9", 9
ERC20 = f"erc20:{COIN}"


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[ClickHouseHistory]:
    with history(tmp_path / "ch") as opened:
        yield opened


class Log:
    """Books with an audit log that goes to ClickHouse."""

    def __init__(self, sink: ClickHouseHistory) -> None:
        self._sink, self._offset = sink, 0

    def book(self, keeper: Bookkeeper, told: list[dict[str, Any]]) -> None:
        postings = [posting(record) for record in told]
        rows = []
        for record, of, mine in zip(told, postings, keeper.apply(postings), strict=True):
            for found in transfer_records(record, of, mine, keeper.book_of):
                rows.append(message(dict(found), self._offset, TRANSFERS))
                self._offset += 1
        self._sink.write("e", rows)
        self._sink.flush()


def balances(sink: ClickHouseHistory, at: int | None = None) -> dict[tuple[str, int, str], Held]:
    """Holders and payers of fees, from the view."""
    what = exports.accounts(NUMBER, at)
    rows = sink.query(f"{what.sql} SETTINGS final = 1", what.parameters)
    return {
        (row["asset"], row["code"], row["owner"]): Held(int(row["units"]), int(row["pending"]))
        for row in rows
        if row["code"] in (GAS, HOLDER) and (row["units"], row["pending"]) != ("0", "0")
    }


@pytest.mark.parametrize("seed", [1, 2])
def test_the_view_has_what_the_chain_says_at_every_step(sink: ClickHouseHistory, seed: int) -> None:
    rng, model, log = random.Random(seed), Model(), Log(sink)
    with connect() as engine:
        batch: list[dict[str, Any]] = []
        told: list[dict[str, Any]] = []
        for step in Teller(seed).messages(60):
            batch += step
            told += step
            for record in step:
                model.take(record)
            if rng.random() < 0.2:
                log.book(Bookkeeper(engine), batch)
                batch = rng.sample(told, min(3, len(told)))  # told again, at other offsets
                assert balances(sink) == model.balances()


def one(number: int, name: str, *moves: tuple[str, str, str, int], **other: Any) -> Any:
    legs = [transfer(*move, log) for log, move in enumerate(moves)]
    tx = transaction(0, legs, 30, hash=digest("tx", number, name), **other)
    return block(number, name, digest("p"), [[tx]])


def test_rows_and_exports_of_a_short_chain(sink: ClickHouseHistory) -> None:
    """100 is final: 50 minted to A, who held 5 before, and token 7. 101 was lost: A gave B 20. Its successor stands
    unfinal: A gave C 30 and token 7, C burnt 10. A paid 30 wei each time, of which 10 were burnt."""
    tells = [opening(A, ERC20, 5)]
    first = one(100, "a", (ERC20, NOBODY, A, 50), (f"erc721:{TOKEN}/7", NOBODY, A, 1), balance_changes=tells)
    lost = one(101, "lost", (ERC20, A, B, 20))
    stands = one(101, "b", (ERC20, A, C, 30), (ERC20, C, NOBODY, 10), (f"erc721:{TOKEN}/7", A, C, 1))
    log = Log(sink)
    with connect() as engine:
        log.book(Bookkeeper(engine), records(first, "head"))
        log.book(Bookkeeper(engine), records(lost, "head") + records(lost, "retracted"))
        log.book(Bookkeeper(engine), records(stands, "head") + records(first, "final"))
    rows = sink.query(
        "SELECT block, publication, status, toString(amount) AS amount, pending_id != '' AS settles, "
        "pending_id IN (SELECT transfer_id FROM transfers WHERE status = 'pending') AS names_one "
        f"FROM transfers WHERE asset = '{CHAIN}/{ERC20}' ORDER BY block, publication, leg SETTINGS final = 1"
    )
    assert [tuple(row.values()) for row in rows] == [
        (100, "0/final", "posted", "50", 1, 1), (100, "0/head", "posted", "5", 0, 0),
        (100, "0/head", "pending", "50", 0, 0),
        (101, "0/head", "pending", "20", 0, 0), (101, "0/head", "pending", "30", 0, 0),
        (101, "0/head", "pending", "10", 0, 0), (101, "0/retracted", "voided", "20", 1, 1),
    ]  # fmt: skip

    def exported(at: int | None) -> list[tuple[str, ...]]:
        what = exports.export("balances", NUMBER, at)
        found = list(what.shape(sink.query(what.sql, what.parameters)))
        assert {row["locked"] for row in found} == {"0"}
        return [
            (row["account"], row["asset"], row["available"], row["pending"], row.get("gas_paid", ""))
            for row in found
        ]

    collection = f"erc721:{TOKEN}"
    assert exported(None) == [
        (NOBODY, ERC20, "-55", "10", ""), (A, ERC20, "55", "-30", ""), (C, ERC20, "0", "20", ""),
        (NOBODY, collection, "-1", "0", ""), (A, collection, "1", "-1", ""), (C, collection, "0", "1", ""),
        (A, "native", "0", "-30", "30"),
    ]  # fmt: skip
    assert exported(100) == [
        (NOBODY, ERC20, "-55", "0", ""), (A, ERC20, "55", "0", ""),
        (NOBODY, collection, "-1", "0", ""), (A, collection, "1", "0", ""), (A, "native", "0", "0", "30"),
    ]  # fmt: skip
    assert exported(99) == [(NOBODY, ERC20, "-5", "0", ""), (A, ERC20, "5", "0", "")]


def test_the_same_chunk_in_another_state_is_another_message(sink: ClickHouseHistory) -> None:
    """Head, final and head again: three messages of one book and block, of which the last is dropped."""
    made = one(100, "a", (ERC20, NOBODY, A, 50))
    log = Log(sink)
    with connect() as engine:
        keeper = Bookkeeper(engine)
        log.book(keeper, records(made, "head") + records(made, "final"))
        log.book(keeper, records(made, "head"))
    (row,) = sink.query("SELECT sum(duplicates) AS n FROM sink_progress WHERE `table` = 'sink_applied'")
    assert row == {"n": 2}  # the coin's book and the native one
    assert balances(sink) == {
        (f"{CHAIN}/{ERC20}", HOLDER, A): Held(50, 0),
        (f"{CHAIN}/native", GAS, A): Held(-30, 0),
    }
