"""Roll-ups: each view that says how it is recomputed equals that SQL over the raw rows, whatever was undone, told
again, taken back or not final yet, with and without FINAL; and a few answers worked out by hand."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline.agents.books_records import transfer_records
from pipeline.catalog.assets import ASSETS as APPLICATION
from pipeline.domain.changes import asset_changes
from pipeline.domain.positions.money import SCALES
from pipeline.domain.verdict import Tally, Watermark
from sinks.bookkeeper import Bookkeeper
from sinks.clickhouse import ClickHouseHistory
from sinks.embedded_books import connect
from sinks.views import View, views
from tests.support.applications import event, fold_of, outcome_of, record_of
from tests.support.evm_books import Teller
from tests.support.evm_books import posting as evm_posting
from tests.support.evm_rows import BLOCKS, of_assets
from tests.support.evm_story import CHAIN, Story
from tests.support.history import ASSETS, LEDGERS, TRANSFERS, history, ledger, message, transaction
from tests.support.recorded import posting, recorded_blocks

pytestmark = pytest.mark.xdist_group("rollups")  # one fixture for them all

OUTCOMES = "applications.outcomes.v1"
VERDICTS = "chains.verdicts.v1"
XRPL = "xrpl:test"
Row = dict[str, Any]
Told = dict[str, list[Row]]  # by topic, in its order


def told_by_chains(where: Path) -> Told:
    """The recorded chain with its books, a reorganising one with assets, and one whose books are told."""
    told: Told = {LEDGERS: [], ASSETS: [], BLOCKS: [], TRANSFERS: [], VERDICTS: []}
    with connect(where / "books") as engine:
        keeper, teller = Bookkeeper(engine), [record for step in Teller(3).messages(40) for record in step]
        for records, of in ((list(recorded_blocks()), posting), (teller, evm_posting)):
            postings = [of(record) for record in records]
            for record, one, mine in zip(records, postings, keeper.apply(postings), strict=True):
                told[TRANSFERS] += map(dict, transfer_records(record, one, mine, keeper.book_of))
            if of is posting:
                told[LEDGERS] = records
    told[BLOCKS] = Story(6).tell(90).told
    told[ASSETS] = [dict(one) for record in told[LEDGERS] for one in asset_changes(record)]
    told[ASSETS] += of_assets(told[BLOCKS])
    told[VERDICTS] = verdicts(told[LEDGERS][:200]) + verdicts(
        [
            {
                **record,
                "ledger_index": record["block_number"],
                "ledger_hash": record["block_hash"],
                "close_time": 0,
            }
            for record in told[BLOCKS]
            if record["finality"] == "final" and record["chunk"] == 0
        ][:9]
    )
    return told


def verdicts(blocks: Sequence[Row]) -> list[Row]:
    """Verdicts that these blocks, as ledgers, are verified."""
    mark = Watermark(blocks[0]["chain"], blocks[0]["chain_number"], "header")
    holds: Any = [{"name": "header_hash", "outcome": "holds", "detail": ""}]
    tally = Tally([], 0, 0)
    return [dict(made) for block in blocks for made in mark.block(block, "node", holds, tally)]


def told_by_applications() -> Told:
    """Six days of two applications' assets: gas, sales, views; some refused."""
    gas = {"currency": "XRP", "payer_user_id": "ann", "gas_required": "12", "gas_paid_by_user": "5",
           "gas_paid_by_treasury": "7"}  # fmt: skip
    entry = {"asset_type": "card", "title": "Card", "owner_user_id": "ann"}
    terms = {"price": "0.050", "currency": "USD"}
    bit = {"price": "1000000000000000000000000000.000000000000000001", "currency": "EUR"}
    told: list[tuple[str, str, Row, str, str]] = [
        ("USER_REGISTERED", "ann", {"addresses": ["xrpl:0/rAnn"]}, "", ""),
        ("USER_REGISTERED", "bob", {"addresses": []}, "", ""),
        ("APP_REGISTERED", "app", {"title": "App", "treasuries": ["xrpl:0/rT"]}, "", ""),
        ("APP_REGISTERED", "shop", {"title": "Shop"}, "", ""),
        ("ASSET_REGISTERED", "card", entry, "unknown", ""),  # refused
        ("ASSET_REGISTERED", "card", entry, "app", ""),
        ("ASSET_REGISTERED", "art", entry, "shop", ""),
        ("MINTED", "card", {}, "", ""),
        ("MINTED", "art", {}, "", ""),
        ("INTERNAL_GAS_CHARGE", "card", gas, "app", ""),
        ("INTERNAL_GAS_CHARGE", "card", {**gas, "currency": "ETH"}, "app", ""),
        ("INTERNAL_GAS_CHARGE", "card", {**gas, "related_transaction_id": "nobody's"}, "app", ""),  # refused
    ]
    for user, buyer in (("ann", "bob"), ("bob", "ann")) * 2:
        told += [
            ("LISTED", "card", terms, "", user),
            ("VIEWED", "card", {"surface": "feed"}, "", "bob"),
            ("SHARED", "card", {"channel": "mail"}, "", "ann"),
            ("SOLD", "card", {**terms, "to_user_id": buyer}, "", ""),
            ("SOLD", "card", {**terms, "to_user_id": buyer}, "", ""),  # refused: it is not listed any more
            ("INTERNAL_GAS_CHARGE", "card", {**gas, "payer_user_id": buyer}, "", ""),
        ]
    told += [
        ("FRACTIONED", "art", {"fraction_count": 1000}, "", "ann"),
        ("LISTED", "art", {**bit, "units": "400"}, "", "ann"),
        *(("SOLD", "art", {**bit, "to_user_id": "bob", "units": "150"}, "", "ann") for _ in range(2)),
        ("MERGED", "art", {}, "", "ann"),  # refused: she holds 700
        ("VIEWED", "art", {"surface": "feed"}, "shop", "ann"),
    ]
    events = [
        event(
            APPLICATION, type, key, 1_767_614_400_000 + place * 14_000_000, data, id=f"e{place}", app_id=app,
            user_id=user,
        )
        for place, (type, key, data, app, user) in enumerate(told, 1)
    ]  # fmt: skip
    fold = fold_of(APPLICATION)
    judged = fold.apply(events)
    assert sum(one.refused is not None for one in judged) == 7, [(j.event.type, j.refused) for j in judged]
    outcomes = [dict(outcome_of(fold, one).record) for one in judged]
    fold.close()
    address = {"domain": "assets", "kind": "address", "version": 1, "gone": False, "event_id": "e1", "at": 0}
    states = [{**address, "state": "a", "id": "xrpl:0/rAnn", "value": '{"user_id":"ann"}'}]
    return {
        APPLICATION.topic: [record_of(APPLICATION, one) for one in events],
        "applications.states.v1": states,
        OUTCOMES: outcomes,
    }


def write_with_mishaps(where: Path, told: Told, seed: int) -> int:
    """Write every topic in batches; some are cut off before their commit, undone and told again, and every topic comes
    once more in another epoch. How many batches were undone."""
    draw, undone = random.Random(seed), 0
    with history(where) as sink:
        for topic, records in told.items():
            log = [message(record, place, topic) for place, record in enumerate(records)]
            done = sink.open_partition("e", topic, 0)
            while done < len(log):
                end = done + max(1, len(log) // draw.randint(2, 4))
                sink.write("e", log[done:end])
                if len(log) > 9 and draw.random() < 0.4:  # as after a kill: what is not committed is undone
                    assert sink.open_partition("e", topic, 0) == done
                    undone += 1
                    continue
                sink.flush()
                done = min(end, len(log))
            sink.open_partition("f", topic, 0)
            assert sink.write("f", log).applied == 0
            sink.flush()
    return undone


# One engine path per process: these open theirs before `filled` does.


def test_holders_by_hand(tmp_path: Path) -> None:
    """Day 0: rA opens with 5 and pays 3 to rB. Day 1: rB pays all back, rA pays all of it to nobody and gets 1."""
    day = 86_400_000
    moves = [
        (0, "", "rA", 5),
        (0, "rA", "rB", 3),
        (1, "rB", "rA", 3),
        (1, "rA", "", 5),
        (2, "", "rA", 1),
        (2, "rA", "rC", 1),
    ]
    with history(tmp_path / "ch") as sink:
        sink.write(
            "e",
            [message(_book(place, at * day, *of), place, TRANSFERS) for place, (at, *of) in enumerate(moves)],
        )
        sink.flush()
        rows = sink.query("SELECT toString(day) AS day, holders FROM holders_daily ORDER BY day")
        assert [tuple(row.values()) for row in rows] == [
            ("1970-01-01", 2),
            ("1970-01-02", 0),
            ("1970-01-03", 1),
        ]
        (moved,) = sink.query("SELECT sum(transfers) AS n, sum(amount) AS units FROM transfers_daily")
        assert moved == {"n": 6, "units": "18"}


def test_an_asset_named_like_the_end_of_a_block_counts_once(tmp_path: Path) -> None:
    """Told again in another epoch; its name ends as the publication of a final block does."""
    told = {**_book(0, 0, "rA", "rB", 3), "asset": "offchain/fraction:card/final", "chain": "offchain"}
    with history(tmp_path / "ch") as sink:
        written = []
        for epoch in "ef":
            written.append(sink.write(epoch, [message(told, 0, TRANSFERS)]).applied)
            sink.flush()
        assert written == [1, 0]
        (moved,) = sink.query("SELECT sum(transfers) AS n, sum(amount) AS units FROM transfers_daily")
        assert moved == {"n": 1, "units": "3"}


def test_fees_by_hand(tmp_path: Path) -> None:
    """rA pays 10 and 12 on one day for two transactions on one NFT, of which one changed it twice."""
    nft = {"nft_id": "A" * 64, "from_owner": None, "to_owner": "rA", "uri": None}
    twice = [nft, {**nft, "from_owner": "rA", "to_owner": "rB"}]
    paid = [transaction(0, "rA", 10, nft_changes=twice), transaction(1, "rA", 12, nft_changes=[nft])]
    with history(tmp_path / "ch") as sink:
        sink.write("e", [message(ledger(1, [*paid, transaction(2, "rA", 7)]), 0)])
        sink.flush()
        (row,) = sink.query("SELECT asset, transactions, total_gas_required FROM gas_asset_daily")
        assert row == {"asset": f"{XRPL}/nft:{'A' * 64}", "transactions": 2, "total_gas_required": "22"}
        (row,) = sink.query("SELECT transactions, fee_paid, fee_burnt FROM gas_by_day")
        assert row == {"transactions": 3, "fee_paid": "29", "fee_burnt": "29"}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseHistory]:
    """All that is told, through mishaps."""
    where = tmp_path_factory.mktemp("rollups")
    undone = write_with_mishaps(where / "ch", {**told_by_chains(where), **told_by_applications()}, seed=5)
    assert undone > 2
    with history(where / "ch") as sink:
        yield sink


def recomputed() -> list[tuple[View, str]]:
    """The views that say how they are recomputed, and how."""
    mark = "Recompute: "
    lines = [(view, line) for view in views() for line in view.doc.splitlines() if line.startswith(mark)]
    return [(view, line.removeprefix(mark)) for view, line in lines if view.name in MINE]


MINE = {
    "asset_analytics", "asset_holders", "fees_apart", "gas_asset_daily", "gas_by_app_daily", "gas_by_day", "gas_daily",
    "gas_report", "gas_report_between", "holders_daily", "transfers_daily",
}  # fmt: skip


def test_each_roll_up_says_how_it_is_recomputed() -> None:
    assert {view.name for view, _ in recomputed()} == MINE


@pytest.mark.parametrize(("view", "sql"), recomputed(), ids=lambda of: getattr(of, "name", ""))
@pytest.mark.parametrize("final", [0, 1])
def test_a_roll_up_equals_the_raw_rows(filled: ClickHouseHistory, view: View, sql: str, final: int) -> None:
    """The same columns of the same keys, to the unit, whether ClickHouse removes duplicates or not."""
    for values in parameters(view):
        told = ", ".join(f"{name} = {{{name}:{kind}}}" for name, kind in view.parameters.items())
        wanted = list(filled.query(f"SELECT * FROM ({sql}) ORDER BY ALL", values))
        columns = ", ".join(f"`{name}`" for name in wanted[0])
        call = f"{view.name}({told})" if told else view.name
        found = filled.query(f"SELECT {columns} FROM {call} ORDER BY ALL SETTINGS final = {final}", values)
        assert list(found) == wanted
        assert len(wanted) > 3 or view.name == "gas_report_between"


def parameters(view: View) -> list[Row]:
    if not view.parameters:
        return [{}]
    periods = (("1970-01-01", "2106-01-01"), ("2024-01-31", "2024-01-31"))
    return [{"from": of, "to": to, "verified": mark} for of, to in periods for mark in (0, 1)]


def test_an_unverified_block_makes_a_report_differ(filled: ClickHouseHistory) -> None:
    """200 of the recorded chain's ledgers are verified; the fees of the others are in the other report alone."""
    sql = (
        "SELECT sum(fee_paid) AS paid FROM gas_report_between(from = '1970-01-01', to = '2106-01-01', verified = {v})"
        " WHERE chain = '{chain}'"
    )
    for chain in (XRPL, CHAIN):
        every, verified = (
            int(next(filled.query(sql.replace("{v}", v).replace("{chain}", chain)))["paid"]) for v in "01"
        )
        assert 0 < verified < every
    fees = [(block["ledger_index"], block["fees"]) for block in recorded_blocks()]
    (row,) = filled.query(sql.replace("{v}", "1").replace("{chain}", XRPL))
    assert int(row["paid"]) == sum(fee for _, fee in fees[:200])


def test_holders_are_those_of_the_books(filled: ClickHouseHistory) -> None:
    """The last day's holders of each asset have more than nothing in book_balances."""
    last = filled.query(
        "SELECT asset, argMax(holders, day) AS n FROM holders_daily GROUP BY asset ORDER BY asset"
    )
    books = filled.query(
        "SELECT asset, uniqExactIf(owner, held > 0) AS n FROM (SELECT asset, owner, sum(credits - debits) AS held"
        " FROM book_balances(position = 9999999) WHERE code IN (1, 101) GROUP BY asset, owner) GROUP BY asset"
        " ORDER BY asset"
    )
    assert list(last) == list(books) != []


def test_a_report_asks_the_index_for_its_owner(filled: ClickHouseHistory) -> None:
    """`owner` reaches the reading of each table below the views, so that a report reads the owner's rows alone."""
    for view in ("gas_report", "gas_daily", "gas_by_app_daily"):
        plan = [
            row["explain"]
            for row in filled.query(f"EXPLAIN indexes = 1 SELECT * FROM {view} WHERE owner = 'x'")
        ]
        conditions = [line for line in plan if "Condition:" in line and "owner in" in line]
        assert len(conditions) >= 2, view
    plan = [
        row["explain"]
        for row in filled.query("EXPLAIN indexes = 1 SELECT * FROM holders_daily WHERE asset = 'x'")
    ]
    assert any("asset in ['x', 'x']" in line for line in plan)


def _book(block: int, time: int, payer: str, payee: str, amount: int) -> Row:
    """One transfer between holders; to or from the issuer where one is empty."""
    sides = [(101, side) if side else (102, "rIssuer") for side in (payer, payee)]
    row = {
        "transfer_id": block.to_bytes(16, "big"), "transaction_index": 0, "leg": 0, "hash": "H", "code": 100,
        "status": "posted", "reason": None, "debit_code": sides[0][0], "debit_owner": sides[0][1], "debit_subject": "",
        "credit_code": sides[1][0], "credit_owner": sides[1][1], "credit_subject": "", "amount": str(amount),
    }  # fmt: skip
    return {
        "asset": f"{XRPL}/USD.rIssuer", "book": 70000, "chain": XRPL, "chain_number": 1, "run": 1, "block": block,
        "block_hash": "", "chunk": 0, "time": time, "transfers": [row],
    }  # fmt: skip


def test_dictionaries_know_assets_and_owners(filled: ClickHouseHistory) -> None:
    """Every asset of the books by its key, in a query that only reads; a user by the address that he registered."""
    facts = "('kind', 'symbol', 'decimals')"
    rows = filled.query(
        f"SELECT asset, dictGet('asset_dictionary', {facts}, asset) AS known FROM transfers_daily GROUP BY asset"
    )
    known = {row["asset"].partition("/")[2]: row["known"] for row in rows}
    assert known["XRP"] == {"kind": "native", "symbol": "XRP", "decimals": 6}
    issued = {name: of for name, of in known.items() if "." in name}
    assert len(issued) > 3
    assert all(
        of == {"kind": "issued", "symbol": name.split(".")[0], "decimals": 15} for name, of in issued.items()
    )
    assert {of["kind"] for of in known.values()} >= {"native", "issued", "mpt", "nft", "erc20"}
    (row,) = filled.query(
        "SELECT dictGet('owner_dictionary', 'owner', 'xrpl:0/rAnn') AS user,"
        " dictGetOrNull('owner_dictionary', 'owner', 'xrpl:0/rBob') AS none"
    )
    assert row == {"user": "ann", "none": None}


def test_the_decimals_of_currencies_are_those_of_the_books() -> None:
    (select,) = [view.select for view in views() if view.name == "asset_names"]
    assert f"{list(SCALES)} AS currencies" in select
    assert f"{list(SCALES.values())} AS scales" in select
    divided = {currency: 10**scale for currency, scale in SCALES.items() if scale}  # others are whole already
    said = re.escape(f"{list(divided)},") + r"\s+" + re.escape(f"{list(divided.values())}, 1")
    telling = [view.name for view in views() if re.search(said, view.select)]
    assert telling == [
        view.name for view in views() if "['USD'," in view.select and view.name != "asset_names"
    ]
    assert len(telling) == 3
