"""Views and exports on known answers: small chains written by hand, each answer worked out beside them."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sinks import exports
from sinks.clickhouse import ClickHouseHistory
from sinks.views import views
from tests.support.history import (
    ASSETS,
    LEDGERS,
    START_MS,
    TRANSFERS,
    change,
    history,
    ledger,
    message,
    mpt_change,
    object_change,
    transaction,
)

MPT = "0" * 8 + "B5F762798A53D543A014CAF8B297CFF8F2F937E8"  # issuance 0 of rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh
GENESIS = "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh"
DAY_MS = 86_400_000


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[ClickHouseHistory]:
    with history(tmp_path / "ch") as opened:
        yield opened


def _put(sink: ClickHouseHistory, records: Iterable[dict[str, Any]], topic: str = LEDGERS) -> None:
    sink.write("e", [message(record, place, topic) for place, record in enumerate(records)])
    sink.flush()


def _export(sink: ClickHouseHistory, what: exports.Export) -> list[dict[str, Any]]:
    return list(what.shape(sink.query(what.sql, what.parameters)))


def _story(sink: ClickHouseHistory, asset: str) -> list[dict[str, Any]]:
    return list(sink.query("SELECT * FROM provenance(asset = {asset:String})", {"asset": asset}))


def test_gas_report_and_days(sink: ClickHouseHistory) -> None:
    """rA pays 10 + 12 on day 0 and 20 on day 1, rB 15 on day 1 for another; fees of 0 are no row; chain 2
    apart."""
    days = [
        ledger(1, [transaction(0, "rA", 10), transaction(1, "rA", 12), transaction(2, "rB", 0)]),
        ledger(
            2,
            [transaction(0, "rA", 20), transaction(1, "rB", 15, account="rC")],
            close_time=START_MS + DAY_MS,
        ),
    ]
    _put(sink, [*days, {**days[0], "chain": "xrpl:other", "chain_number": 2}])
    sums = {"total_gas_paid_by_treasury": "0"}
    paid = dict.fromkeys(("fee_paid", "fee_burnt", "total_gas_required", "total_gas_paid_by_user"), "42")

    def report(where: str) -> list[dict[str, Any]]:
        return list(sink.query(f"SELECT * FROM gas_report WHERE {where} ORDER BY fee_paid DESC, owner"))

    first, second = report("chain_number = 1")
    assert first == {
        "chain": "xrpl:test",
        "chain_number": 1,
        "owner": "rA",
        "transactions": 3,
        **paid,
        **sums,
    }
    assert (second["owner"], second["transactions"], second["fee_paid"]) == ("rB", 1, "15")
    assert report("chain_number = 1 AND owner = 'rB'") == [second]
    assert report("chain_number = 2")[0]["fee_paid"] == "22"
    daily = sink.query(
        "SELECT day, owner, fee_paid FROM gas_daily WHERE chain_number = 1 ORDER BY day, owner"
    )
    assert [tuple(row.values()) for row in daily] == [
        ("2020-09-13", "rA", "22"),
        ("2020-09-14", "rA", "20"),
        ("2020-09-14", "rB", "15"),
    ]


def test_balances_at(sink: ClickHouseHistory) -> None:
    """rA's XRP: 100 in ledger 1, then 90 and 80 within ledger 2, gone in ledger 12 (whose index sorts
    after 2)."""
    _put(
        sink,
        [
            ledger(1, [transaction(0, balance_changes=[change("rA", "XRP", "100", "100")])]),
            ledger(2, [
                transaction(9, balance_changes=[
                    change("rA", "XRP", "-10", "90"), change("rA", "USD.rI", "1", "1")
                ]),
                transaction(10, balance_changes=[change("rA", "XRP", "-10", "80")]),
            ]),
            ledger(12, [transaction(0, balance_changes=[change("rA", "XRP", "-80", "0")])]),
        ],
    )  # fmt: skip

    def at(position: int) -> list[tuple[Any, ...]]:
        columns = "asset, balance, ledger_index, transaction_index"
        sql = f"SELECT {columns} FROM balances_at(position = {position}) ORDER BY asset"
        return [tuple(row.values()) for row in sink.query(sql)]

    assert at(0) == []
    assert at(1) == [("XRP", "100", 1, 0)]
    assert at(2) == [("USD.rI", "1", 2, 9), ("XRP", "80", 2, 10)]
    assert at(99) == [("USD.rI", "1", 2, 9), ("XRP", "0", 12, 0)]


def test_provenance_of_an_nft(sink: ClickHouseHistory) -> None:
    """Minted by rA, moved to rB and on to rC in one ledger, burnt later; another chain's NFT of that id
    apart."""
    nft = f"{7:064X}"
    story = [
        _asset(nft, 5, [("minted", None, "rA")]),
        _asset(nft, 6, [("transferred", "rA", "rB"), ("transferred", "rB", "rC")]),
        _asset(nft, 40, [("burnt", "rC", None)]),
    ]
    other = {**story[0], "asset": f"xrpl:other/nft:{nft}", "chain": "xrpl:other", "chain_number": 2}
    _put(sink, [other, *story], ASSETS)
    rows = _story(sink, f"xrpl:test/nft:{nft}")
    assert [
        (row["block"], row["action"], row["from_owner"], row["to_owner"], row["_offset"]) for row in rows
    ] == [
        (5, "minted", None, "rA", 1),
        (6, "transferred", "rA", "rB", 2),
        (6, "transferred", "rB", "rC", 2),
        (40, "burnt", "rC", None, 3),
    ]
    assert (rows[0]["_topic"], rows[0]["hash"], rows[0]["type"], rows[0]["block_hash"]) == (
        ASSETS,
        "T5",
        "T",
        "H5",
    )

    def owners(at: int | None, chain_number: int = 1) -> list[dict[str, Any]]:
        return _export(sink, exports.export("nfts", chain_number, at))

    assert (owners(4), owners(5)) == ([], [{"nft_id": nft, "owner": "rA"}])
    assert owners(6) == owners(39) == [{"nft_id": nft, "owner": "rC"}]
    assert owners(None) == []
    assert owners(None, chain_number=2) == [{"nft_id": nft, "owner": "rA"}]
    (asset,) = _export(sink, exports.export("assets", 1))
    assert (asset["last_action"], asset["owner"], asset["ledger_index"]) == ("burnt", None, 40)


def test_mpts_and_their_provenance(sink: ClickHouseHistory) -> None:
    """Created, 50 issued to rA of which 20 get locked, then destroyed."""
    issued = {"outstanding_change": "50", "outstanding": "50"}
    _put(
        sink,
        [
            ledger(3, [transaction(0, mpt_changes=[mpt_change(MPT, None)])]),
            ledger(4, [transaction(0, mpt_changes=[
                mpt_change(MPT, "rA", change="50", amount="50"), mpt_change(MPT, None, "modified", **issued)
            ])]),
            ledger(5, [transaction(0, mpt_changes=[
                mpt_change(MPT, "rA", "modified", change="-20", amount="30", locked="20", locked_change="20"),
                mpt_change(MPT, None, "modified", outstanding="50", locked="20", locked_change="20"),
            ])]),
            ledger(6, [transaction(0, mpt_changes=[mpt_change(MPT, None, "deleted")])]),
        ],
    )  # fmt: skip

    def at(position: int) -> list[tuple[Any, ...]]:
        return [tuple(row.values()) for row in _export(sink, exports.export("mpts", 1, position))]

    assert [at(position) for position in range(2, 7)] == [
        [],
        [(MPT, "rIssuer", "0", "0")],
        [(MPT, "rIssuer", "50", "0")],
        [(MPT, "rIssuer", "50", "20")],
        [],
    ]
    rows = _story(sink, f"xrpl:test/mpt:{MPT}")
    assert [(row["block"], row["action"], row["to_owner"], row["amount"], row["change"]) for row in rows] == [
        (4, "holder_created", "rA", "50", "50"),
        (5, "holder_modified", "rA", "30", "-20"),
    ]
    assert rows[0]["block_hash"] == f"{4:064X}"


def test_escrows_and_channels(sink: ClickHouseHistory) -> None:
    one, two, pay = (f"{of:064X}" for of in (1, 2, 3))
    held = {"owner": "rA", "destination": "rB", "asset": "XRP"}
    _put(
        sink,
        [
            ledger(1, [transaction(0, object_changes=[
                object_change("Escrow", one, amount="5", **held),
                object_change("PayChannel", pay, amount="100", balance="0", **held),
                object_change("Offer", "F" * 64, amount="1"),
            ])]),
            ledger(2, [transaction(0, object_changes=[
                object_change("Escrow", one, "deleted", amount="5", **held),
                object_change("Escrow", two, amount="7", **{**held, "asset": "USD.rI", "destination": None}),
                object_change("PayChannel", pay, "modified", amount="120", balance="30", **held),
            ])]),
        ],
    )  # fmt: skip
    at_one = {"escrow_id": one, "owner": "rA", "destination": "rB", "asset": "XRP", "amount": "5"}
    assert _export(sink, exports.export("escrows", 1, 1)) == [at_one]
    assert _export(sink, exports.export("escrows", 1)) == [
        {"escrow_id": two, "owner": "rA", "destination": None, "asset": "USD.rI", "amount": "7"}
    ]
    channel = {"channel_id": pay, "owner": "rA", "destination": "rB"}
    assert _export(sink, exports.export("channels", 1, 1)) == [{**channel, "amount": "100", "balance": "0"}]
    assert _export(sink, exports.export("channels", 1)) == [{**channel, "amount": "120", "balance": "30"}]


def test_balances_from_the_books(sink: ClickHouseHistory) -> None:
    """XRP: rA opens with 100, puts 30 in an escrow, 20 in a channel and burns 1. USD: rA holds 1.5, has
    0.25 in
    escrow. An MPT: rA holds 8. An NFT book is no balance; a refused transfer is none either."""
    a, out, fee = (101, "rA"), (106, "run"), (104, "burnt")
    usd, issuer = 1_500_000_000_000_000, (102, "rI")
    opening = [(out, a, 100)]
    legs = [(a, (4, "rA"), 30), (a, (105, "rA"), 20), (a, fee, 1)]
    _put(
        sink,
        [
            _book("XRP", 1, opening),
            _book("XRP", 2, legs),
            _book("XRP", 2, [(a, fee, 9)], chunk=1, status="refused"),
            _book("USD.rI", 2, [(issuer, a, usd), (issuer, (4, "rA"), usd // 6)]),
            _book(f"mpt:{MPT}", 2, [((102, GENESIS), a, 8)]),
            _book("nft:rI:0", 2, [(issuer, a, 1)]),
            _book(
                "XRP", 3, [(a, (101, "rB"), 49), ((4, "rA"), (101, "rB"), 30), ((105, "rA"), (101, "rB"), 20)]
            ),
        ],
        TRANSFERS,
    )

    def rows(at: int | None) -> list[tuple[str, ...]]:
        return sorted(tuple(row.values()) for row in _export(sink, exports.export("balances", 1, at)))

    tokens = [
        (GENESIS, f"mpt:{MPT}", "-8", "0"),
        ("rA", "USD.rI", "1.5", "0.25"),
        ("rA", f"mpt:{MPT}", "8", "0"),
        ("rI", "USD.rI", "-1.75", "0"),
    ]
    assert rows(1) == [("rA", "XRP", "100", "0")]
    assert rows(2) == sorted([*tokens, ("rA", "XRP", "49", "50")])
    assert rows(None) == sorted([*tokens, ("rB", "XRP", "99", "0")])
    assert rows(0) == []
    (burnt,) = sink.query("SELECT credits - debits AS n FROM book_balances(position = 9) WHERE code = 104")
    assert burnt == {"n": "1"}


def test_what_issuers_minted_and_owe(sink: ClickHouseHistory) -> None:
    """USD: 100 issued, 30 redeemed, 20 of the rest in an escrow; an opening of 7 was not minted. XRP has no issuer."""
    holder, issuer, escrow = (101, "rA"), (102, "rI"), (4, "rA")
    legs = [(issuer, holder, 100), (holder, issuer, 30), (holder, escrow, 20)]
    opening = _book("USD.rI", 1, [(issuer, holder, 7)])
    opening["transfers"][0]["transaction_index"] = -1
    refused = _book("USD.rI", 2, [(issuer, holder, 999)], chunk=1, status="refused")
    xrp = _book("XRP", 2, [((106, "run"), holder, 5)])
    _put(sink, [opening, _book("USD.rI", 2, legs), refused, xrp], TRANSFERS)
    columns = "asset, issuer, toString(day) AS day, mints, burns, minted, burnt, net"
    assert [tuple(row.values()) for row in sink.query(f"SELECT {columns} FROM mint_report")] == [
        ("xrpl:test/USD.rI", "rI", "2020-09-13", 1, 1, "100", "30", "70")
    ]
    sink._client.command("INSERT INTO transfers SELECT * FROM transfers")  # the second net's case
    for final in (0, 1):
        sql = f"SELECT * FROM proof_of_reserves(position = 2) SETTINGS final = {final}"
        (row,) = sink.query(sql)
        assert row == {
            "chain": "xrpl:test", "chain_number": 1, "asset": "xrpl:test/USD.rI", "outstanding": "77", "held": "77",
            "opened": "0", "holders": 1, "difference": "0",
        }  # fmt: skip
        (minted,) = sink.query(f"SELECT minted FROM mint_report SETTINGS final = {final}")
        assert minted == {"minted": "100"}


def test_holdings_and_balances_of_one(sink: ClickHouseHistory) -> None:
    """rA: 100 XRP in ledger 1, 90 in 2, an MPT of which part is locked; rB minted an NFT that rA has from ledger 3."""
    _put(
        sink,
        [
            ledger(1, [transaction(0, balance_changes=[
                change("rA", "XRP", "100", "100"), change("rC", "XRP", "1", "1")
            ])]),
            ledger(2, [transaction(
                0,
                balance_changes=[change("rA", "XRP", "-10", "90"), change("rC", "XRP", "-1", "0")],
                mpt_changes=[mpt_change(MPT, "rA", change="30", amount="30", locked="20")],
            )]),
            ledger(3),
        ],
    )  # fmt: skip
    nft = f"{7:064X}"
    moves = [_asset(nft, 2, [("minted", None, "rB")]), _asset(nft, 3, [("transferred", "rB", "rA")])]
    moves = [{**move, "time": START_MS + move["block"] * 4000} for move in moves]
    _put(sink, moves, ASSETS)

    def held(ledgers: float) -> list[tuple[str, ...]]:
        at = f"fromUnixTimestamp64Milli({START_MS + int(ledgers * 4000)})"
        rows = sink.query(f"SELECT holder, asset, amount FROM holdings_at(time = {at}) ORDER BY ALL")
        return [tuple(row.values()) for row in rows]

    xrp, mpt, key = "xrpl:test/XRP", f"xrpl:test/mpt:{MPT}", f"xrpl:test/nft:{nft}"
    assert held(0.9) == []
    assert held(1) == held(1.9) == [("rA", xrp, "100"), ("rC", xrp, "1")]
    assert held(2) == sorted([("rA", xrp, "90"), ("rA", mpt, "50"), ("rB", key, "1")])
    assert held(9) == sorted([("rA", xrp, "90"), ("rA", mpt, "50"), ("rA", key, "1")])
    of = "SELECT asset, balance, ledger_index FROM balances_of(owner = '{}', position = {})"
    assert [tuple(row.values()) for row in sink.query(of.format("rA", 1))] == [("XRP", "100", 1)]
    assert [tuple(row.values()) for row in sink.query(of.format("rC", 2))] == [("XRP", "0", 2)]
    assert list(sink.query(of.format("rD", 2))) == []
    plan = sink.query("EXPLAIN indexes = 1 SELECT * FROM balances_of(owner = 'rA', position = 2)")
    text = " ".join(row["explain"].strip() for row in plan)
    assert "account in ['rA', 'rA']" in text


def test_freshness(sink: ClickHouseHistory) -> None:
    _put(sink, [ledger(1), ledger(2)])
    sink.write("f", [message(ledger(2), 0), message(ledger(3), 1)])
    sink.flush()
    (row,) = sink.query("SELECT * FROM pipeline_freshness")
    assert (row["epoch"], row["to_offset"], row["block"], row["rows"], row["duplicates"]) == ("f", 1, 3, 3, 1)
    assert 0 <= row["age_s"] < 60


def test_no_view_calls_one_with_parameters() -> None:
    """ClickHouse prepares such a one twice in each of its turns; they stand in line."""
    called = re.compile(rf"\b({'|'.join(view.name for view in views() if view.parameters)})\(")
    assert [view.name for view in views() if called.search(view.flat)] == []
    assert any(called.search(view.select) for view in views())


def test_every_view_says_what_it_is_and_its_example_runs(sink: ClickHouseHistory) -> None:
    for view in views():
        doc, _, example = view.doc.rpartition("Example: ")
        assert len(doc) > 40, view.name
        assert view.name in example
        assert all(f"{name}:" in doc for name in view.parameters), view.name
        assert list(sink.query(example)) in ([], [{"sum(minus(credits, debits))": "0"}]), view.name


def test_an_unknown_export_is_named() -> None:
    with pytest.raises(KeyError, match="no export 'pears'; there are balances"):
        exports.export("pears", 1)


def _asset(nft: str, block: int, moves: list[tuple[str, str | None, str | None]]) -> dict[str, Any]:
    changes = [
        {
            "transaction_index": 0, "change_index": place, "hash": f"T{block}", "type": "T", "action": action,
            "from_owner": before, "to_owner": after, "amount": "1", "change": "0", "locked": "0", "uri": None,
        }
        for place, (action, before, after) in enumerate(moves)
    ]  # fmt: skip
    return {
        "asset": f"xrpl:test/nft:{nft}", "kind": "nft", "chain": "xrpl:test", "chain_number": 1,
        "block": block,
        "block_hash": f"H{block}", "chunk": 0, "time": START_MS, "changes": changes,
    }  # fmt: skip


def _book(
    asset: str,
    block: int,
    legs: list[tuple[tuple[int, str], tuple[int, str], int]],
    chunk: int = 0,
    status: str = "posted",
) -> dict[str, Any]:
    transfers = [
        {
            "transfer_id": bytes([chunk, block, leg]).rjust(16, b"\0"), "transaction_index": 0, "leg": leg,
            "hash": "H",
            "code": 100, "status": status, "reason": None, "debit_code": debit[0], "debit_owner": debit[1],
            "debit_subject": "", "credit_code": credit[0], "credit_owner": credit[1], "credit_subject": "",
            "amount": str(amount),
        }
        for leg, (debit, credit, amount) in enumerate(legs)
    ]  # fmt: skip
    return {
        "asset": f"xrpl:test/{asset}", "book": 70000, "chain": "xrpl:test", "chain_number": 1, "run": 1,
        "block": block, "block_hash": "", "chunk": chunk, "time": START_MS, "transfers": transfers,
    }  # fmt: skip
