"""The analysts' views on EVM chains: known answers, and what a chain took back is in none of them."""

import gzip
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from pipeline.domain.decode.evm import Chain, block_record, decode_block
from pipeline.domain.decode.evm_contracts import Contracts
from pipeline.domain.verdict import Tally, Watermark
from schemas.loader import schemas
from sinks.clickhouse import ClickHouseHistory
from sinks.ddl import all_tables
from sinks.ddl_shape import documented
from sinks.views import View, inline, views
from tests.support.evm_logs import ALICE, BOB, CAROL, TOKEN
from tests.support.evm_rows import BLOCKS, last_said, of_assets, write
from tests.support.evm_story import ACCOUNTS, CHAIN, CHAIN_NUMBER, FIRST, NFT, Story
from tests.support.history import LEDGERS, history, ledger, message

DATA = Path(__file__).parents[1] / "data" / "evm"
SHARED = Path(__file__).parents[3] / "shared" / "data" / "evm"
recorded_only = pytest.mark.parametrize("folder", [DATA, *([SHARED] if SHARED.is_dir() else [])], ids=str)
COIN = f"erc20:{TOKEN}"
VERDICTS = "chains.verdicts.v1"
BIG = 2**256 - 1
Row = dict[str, Any]


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[ClickHouseHistory]:
    with history(tmp_path / "ch") as opened:
        yield opened


def standing(records: list[Row]) -> list[Row]:
    """The last records of blocks that were not taken back, lowest first."""
    kept = [record for record in last_said(records) if record["finality"] != "retracted"]
    return sorted(kept, key=lambda record: (record["block_number"], record["chunk"]))


def balances(records: list[Row], position: int, finalities: tuple[str, ...]) -> dict[tuple[str, str], int]:
    found: Counter[tuple[str, str]] = Counter()
    opened = {
        (of["account"], of["asset"]): int(of["opening"])
        for record in records for tx in record["transactions"] for of in tx["balance_changes"] if of["opening"]
    }  # fmt: skip
    for record in standing(records):
        for tx in record["transactions"]:
            for of in tx["balance_changes"]:
                if record["block_number"] <= position:
                    counts = record["finality"] in finalities
                    found[of["account"], of["asset"]] += int(of["change"]) * counts
    return {key: found[key] + opened.get(key, 0) for key in {*found, *opened}}


@pytest.mark.parametrize("seed", range(3))
def test_balances_are_the_exact_sums(sink: ClickHouseHistory, seed: int) -> None:
    """Sums of any size, far beyond 256 bits and below zero, to the unit; at any block; final ones apart."""
    records = Story(seed).tell(90).told
    write(sink, records)
    top = max(record["block_number"] for record in records)
    for position in (FIRST, (FIRST + top) // 2, top):
        rows = list(sink.query(f"SELECT * FROM evm_balances_at(position = {position})"))
        found = {(row["account"], row["asset"]): row for row in rows}
        head, final = (balances(records, position, of) for of in (("final", "head"), ("final",)))
        assert {key: int(row["balance_head"]) for key, row in found.items()} == head
        assert {key: int(row["balance"]) for key, row in found.items()} == final
        assert all(str(int(row["balance"])) == row["balance"] for row in rows)
        told = sink.query(f"SELECT account, asset, balance FROM balances_at(position = {position})")
        assert {(row["account"], row["asset"]): int(row["balance"]) for row in told} == head
    assert max(abs(amount) for amount in head.values()) > BIG


def told(number: int, finality: str, changes: list[tuple[str, str]], **values: Any) -> Row:
    """A block of one transaction whose balance changes of COIN are these."""
    story = Story(1)
    while not (story.told and story.told[-1]["transactions"]):
        story.tell(1)
    record = story.told[-1]
    rows = [
        {"account": who, "asset": COIN, "change": change, "opening": None, "partial": False}
        for who, change in changes
    ]
    tx = {
        **record["transactions"][0],
        "transaction_index": 0,
        "transfers": [],
        "logs": [],
        "balance_changes": rows,
    }
    return {
        **record, "block_number": number, "block_hash": f"0x{number:064x}", "finality": finality, "chunk": 0,
        "chunks": 1, "publication": f"0/{finality}", "incarnation": 0, "transactions": [tx], **values,
    }  # fmt: skip


def test_balances_written_by_hand(sink: ClickHouseHistory) -> None:
    """ALICE 5, then the largest uint256 more and head −2; BOB opened with 10, known before his first change."""
    opened = told(3, "final", [(ALICE, str(BIG)), (BOB, "-4")])
    opened["transactions"][0]["balance_changes"][1]["opening"] = "10"
    part = told(2, "final", [(CAROL, f"-{BIG}")])
    part["transactions"][0]["balance_changes"][0]["partial"] = True
    lost = told(5, "retracted", [(ALICE, "1000"), (f"0x{1:040x}", "7")])
    write(sink, [told(1, "final", [(ALICE, "5")]), part, opened, told(4, "head", [(ALICE, "-2")]), lost])

    def at(position: int) -> list[tuple[Any, ...]]:
        columns = "account, balance, balance_head, partial, block_number"
        sql = f"SELECT {columns} FROM evm_balances_at(position = {position}) ORDER BY account"
        return [tuple(row.values()) for row in sink.query(sql)]

    assert at(1) == [(BOB, "10", "10", False, -1), (ALICE, "5", "5", False, 1)]
    of_page = sink.query(
        f"SELECT balance_head AS held FROM {inline('evm_balances_at', position='9')} ORDER BY account"
    )
    assert [row["held"] for row in of_page] == [row[2] for row in at(9)]
    assert at(9) == [
        (BOB, "6", "6", False, 3),
        (ALICE, str(BIG + 5), str(BIG + 3), False, 4),
        (CAROL, f"-{BIG}", f"-{BIG}", True, 2),
    ]


def test_transfers_of_an_account(sink: ClickHouseHistory) -> None:
    records = Story(4).tell(90).told
    write(sink, records)
    names = ("log_index", "asset", "from_address", "to_address", "amount")
    for account in ACCOUNTS:
        expected = [
            (
                record["block_number"],
                tx["transaction_index"],
                record["finality"],
                *(of[name] for name in names),
            )
            for record in standing(records)
            for tx in record["transactions"]
            for of in tx["transfers"]
            if account in (of["from_address"], of["to_address"])
        ]
        columns = f"block_number, transaction_index, finality, {', '.join(names)}"
        sql = f"SELECT {columns} FROM evm_transfers_of(account = '{account.upper().replace('X', 'x')}')"
        assert [tuple(row.values()) for row in sink.query(sql)] == expected
    ways = "SELECT DISTINCT direction, to_address = {a:String} AS got FROM evm_transfers_of(account = {a:String})"
    found = {(row["direction"], bool(row["got"])) for row in sink.query(ways, {"a": ALICE})}
    assert found == {("in", True), ("out", False)}


def test_the_story_of_a_token(sink: ClickHouseHistory) -> None:
    """Its changes on the branch that stands, in order, each with its finality; nothing of lost branches."""
    story = Story(2).tell(120)
    write(sink, story.told)
    lost = 0
    for token in (1, 2, 3, 4):
        asset = f"{CHAIN}/erc721:{NFT}/{token}"
        messages = [record for record in of_assets(story.told) if record["asset"] == asset]
        kept = sorted(
            (record["block"], of["transaction_index"], of["change_index"], record["finality"], of["to_owner"])
            for record in last_said(messages, "asset")
            if record["finality"] != "retracted"
            for of in record["changes"]
        )
        lost += len({record["block_hash"] for record in messages}) - len({row[0] for row in kept})
        columns = "block, transaction_index, change_index, finality, to_owner"
        asked = (f"SELECT {columns} FROM {view}(asset = '{asset}')" for view in STORIES)
        rows, same = ([tuple(row.values()) for row in sink.query(sql)] for sql in asked)
        assert rows == same == kept
        final = [row[4] for row in rows if row[3] == "final"]
        assert (final[-1] if final else None) == story.final[-1].owners.get(token)
    assert lost > 0


def test_gas_is_counted_once_on_the_branch_that_stands(sink: ClickHouseHistory) -> None:
    records = Story(6).tell(90).told
    write(sink, records)
    paid: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    days: Counter[tuple[str, str]] = Counter()
    for record in standing(records):
        day = datetime.fromtimestamp(record["time"] / 1000, UTC).date().isoformat()
        for tx in record["transactions"]:
            fee, treasury = int(tx["fee"]), int(tx["fee"]) * tx["treasury_paid"]
            for place, amount in enumerate((1, fee, int(tx["burnt"]), treasury)):
                paid[tx["fee_payer"]][place] += amount
            days[day, tx["fee_payer"]] += fee
    sums = "transactions, fee_paid, fee_burnt, total_gas_paid_by_treasury"
    rows = sink.query(f"SELECT owner, {sums} FROM gas_report")
    assert {row.pop("owner"): [int(value) for value in row.values()] for row in rows} == paid
    assert paid[CAROL][3] == paid[CAROL][1] > 0
    daily = {
        (row["day"], row["owner"]): int(row["fee_paid"]) for row in sink.query("SELECT * FROM gas_daily")
    }
    assert daily == days and len({day for day, _ in daily}) == 2


def test_an_unknown_burnt_part_is_not_summed_up(sink: ClickHouseHistory) -> None:
    unknown, known = told(1, "final", []), told(2, "final", [])
    unknown["transactions"][0]["burnt"] = None
    write(sink, [known])
    assert [row["fee_burnt"] for row in sink.query("SELECT fee_burnt FROM gas_report")] == ["1000"]
    sink.write("e", [message(unknown, 1, BLOCKS)])
    assert [row["fee_burnt"] for row in sink.query("SELECT fee_burnt FROM gas_report")] == [None]


def verdicts_of(numbers: range, run: int, wrong: int = -1) -> list[Row]:
    mark = Watermark(CHAIN, CHAIN_NUMBER, "header")
    holds = [{"name": "header_hash", "outcome": "holds", "detail": ""}]
    made = []
    for number in numbers:
        block = {
            "ledger_index": number,
            "run": run,
            "ledger_hash": f"0x{number:064x}",
            "close_time": 0,
            "parent_hash": "",
        }
        made += mark.block(block, "node", holds, Tally([], 0, 0))  # type: ignore[arg-type]
    return [{**of, "block_hash": f"0x{9:064x}" if of["block"] == wrong else of["block_hash"]} for of in made]


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [(-1, (1, 5, 5, 0)), (3, (1, 5, 2, 1)), (6, (1, 5, 5, 0)), (1, (1, 5, 0, 1))],
)
def test_verified_up_to_the_last_final_block(
    sink: ClickHouseHistory, wrong: int, expected: tuple[int, ...]
) -> None:
    """Blocks 1-5 final, 6 a head, 7 retracted: only the final ones count, each by the verdict of its own hash."""
    states = ["final"] * 5 + ["head", "retracted"]
    write(sink, [told(n, state, [], run=1) for n, state in enumerate(states, 1)])
    sink.write("e", [message(of, at, VERDICTS) for at, of in enumerate(verdicts_of(range(1, 8), 1, wrong))])
    sink.write("e", [message(ledger(3, run=3), 0, LEDGERS)])
    columns = "first_block, last_block, verified_up_to, unverified"
    sql = f"SELECT {columns} FROM verified_up_to WHERE chain = '{CHAIN}'"
    assert [tuple(row.values()) for row in sink.query(sql)] == [expected]
    (row,) = sink.query("SELECT verified_up_to FROM verified_up_to WHERE chain_number = 1")
    assert row["verified_up_to"] == 2


# Recorded chains


@recorded_only
def test_the_mainnet_block(sink: ClickHouseHistory, folder: Path) -> None:
    """Every transfer of block 17173049 and its fees, as its recorder expects them."""
    told = json.loads(gzip.decompress((folder / "blocks" / "17173049.json.gz").read_bytes()))
    block, receipts = told["input"]["eth_getBlockByNumber"], told["input"]["eth_getBlockReceipts"]
    decoded = decode_block(block.get("result", block), receipts, Contracts(), Chain(burns=True))
    write(sink, [dict(block_record(CHAIN, CHAIN_NUMBER, *decoded, run=17173049, finality="final", incarnation=0,
                                   was_head=False))])  # fmt: skip
    expected = told["expected"]
    (sums,) = sink.query("SELECT sum(fee_burnt) AS burnt, sum(transactions) AS paid FROM gas_report")
    assert sums == {"burnt": expected["block"]["burnt_wei"], "paid": expected["block"]["tx_count"]}
    senders = {one["transactionHash"]: one["from"] for one in receipts}
    of: Counter[str] = Counter()
    for one in expected["receipts"]:
        of[senders[one["tx_hash"]]] += int(one["total_fee_wei"])
    rows = sink.query("SELECT owner, fee_paid FROM gas_report")
    assert {row["owner"]: int(row["fee_paid"]) for row in rows} == of
    wanted: dict[str, set[tuple[Any, ...]]] = defaultdict(set)
    for one in expected["token_transfers_etl"]:
        row = (one["log_index"], one["from_address"], one["to_address"], one["value"])
        wanted[one["from_address"]].add(row)
        wanted[one["to_address"]].add(row)
    for account, moved in sorted(wanted.items())[:12]:
        columns = "log_index, from_address, to_address, if(standard = 'erc721', token_id, amount) AS value"
        sql = f"SELECT {columns} FROM evm_transfers_of(account = '{account}') WHERE standard IN ('erc20', 'erc721')"
        assert {(row["log_index"], row["from_address"], row["to_address"], row["value"])
                for row in sink.query(sql)} == moved  # fmt: skip


# No view shows what was taken back

PARAMETERS: dict[str, list[str]] = {
    "position": ["9999999"],
    "account": [f"'{account}'" for account in ACCOUNTS],
    "asset": [f"'{CHAIN}/erc721:{NFT}/{token}'" for token in (1, 2, 3, 4)],
    "from": ["'2024-01-01'"],
    "to": ["'2024-12-31'"],
    "verified": ["0", "1"],
    "owner": [f"'{account}'" for account in ACCOUNTS],
    "time": ["'2030-01-01 00:00:00'"],
}
OPERATIONAL = {"pipeline_freshness"}  # tells of messages, not of the chain
OF_BOOKS = {  # nothing is booked here
    "book_balances", "transfers_daily", "holders_daily", "mint_report", "proof_of_reserves", "asset_holders",
    "asset_dictionary", "owner_dictionary",
}  # fmt: skip
OF_LEDGERS = {"ledger_balances_of"}  # nor is anything an XRP Ledger's
STORIES = ("provenance", "chain_provenance")
OF_BOTH = {"provenance", "holdings_at"}  # chains and applications
APPLICATIONS = re.compile(
    r"\b(application_(states|current)|asset_(activity|events|transactions|registry|states?\w*)"
    r"|(position|token|anchor)_events|event_outcomes|applied_events|activity_sums|offchain)\b"
)


def shown(sink: ClickHouseHistory, view: View) -> list[list[Row]]:
    """What the view gives for each value of its parameter, but for where in the topic a row stands."""
    calls = [view.name]
    if view.parameters:
        told = ([f"{name} = {value}" for value in PARAMETERS[name]] for name in view.parameters)
        calls = [f"{view.name}({', '.join(some)})" for some in product(*told)]
    found = [list(sink.query(f"SELECT * FROM {call} ORDER BY ALL")) for call in calls]
    return [[{k: v for k, v in row.items() if not k.startswith("_")} for row in rows] for rows in found]


def test_what_the_chain_took_back_is_in_no_view(tmp_path: Path) -> None:
    """A story with lost branches shows what the same story without them shows."""
    story = Story(8).tell(150)
    lost = {record["block_hash"] for record in last_said(story.told) if record["finality"] == "retracted"}
    without = [record for record in story.told if record["block_hash"] not in lost]
    assert len(lost) > 5
    answers = []
    for records in (story.told, without):
        with history(tmp_path / str(len(answers))) as sink:
            write(sink, records)
            of_chains = [v for v in views() if v.name in OF_BOTH or not APPLICATIONS.search(v.select)]
            answers.append({v.name: shown(sink, v) for v in of_chains if v.name not in OPERATIONAL})
    assert answers[0] == answers[1]
    assert {name for name, rows in answers[0].items() if not any(rows)} == OF_BOOKS | OF_LEDGERS


def test_every_view_regards_finality() -> None:
    """A SELECT from a table whose rows may be taken back names the table's finality in that very SELECT."""
    unfinal = {
        name
        for name, table in all_tables(documented(s) for s in schemas() if s.clickhouse is not None).items()
        if "finality" in {column.name for column in table.columns}
    }
    assert {"evm_blocks", "evm_transfers", "gas_ledger", "asset_changes"} <= unfinal
    assert [view.name for view in views() if careless(view.select, unfinal)] == []
    seen = {
        table
        for view in views()
        for table in unfinal
        if re.search(rf"\b(FROM|JOIN)\s+{table}\b", view.select)
    }
    assert seen >= {"evm_blocks", "evm_transfers", "evm_balance_changes", "gas_ledger", "asset_changes"}


@pytest.mark.parametrize(
    ("sql", "wrong"),
    [
        ("SELECT sum(fee) FROM gas_ledger", ["gas_ledger"]),
        ("SELECT sum(fee) FROM gas_ledger WHERE finality != 'retracted'", []),
        ("SELECT 1 FROM a WHERE finality = 'x' UNION ALL SELECT fee FROM gas_ledger", ["gas_ledger"]),
        ("SELECT x FROM (SELECT fee AS x FROM gas_ledger) WHERE finality = 'final'", ["gas_ledger"]),
        ("SELECT x FROM (SELECT fee AS x FROM gas_ledger WHERE finality = 'final')", []),
        ("SELECT finality FROM gas_ledger", ["gas_ledger"]),
    ],
)
def test_a_careless_select_is_found(sql: str, wrong: list[str]) -> None:
    assert careless(sql, {"gas_ledger"}) == wrong


def careless(sql: str, unfinal: set[str]) -> list[str]:
    """Tables of `unfinal` that a SELECT of `sql` reads without comparing a finality."""
    found = []
    for scope in _scopes(re.sub(r"--[^\n]*", "", sql)):
        for select in re.split(r"\bUNION ALL\b", scope):
            tables = set(re.findall(r"\b(?:FROM|JOIN)\s+(\w+)", select)) & unfinal
            if tables and not re.search(r"\bfinality\s*(=|!=)\s*'(head|final|retracted)'", select):
                found += sorted(tables)
    return found


def _scopes(sql: str) -> Iterator[str]:
    """The text of each pair of parentheses that holds a SELECT, what such pairs within it hold left out."""
    inner = re.compile(r"\((\s*SELECT\b(?:[^()]|\((?!\s*SELECT\b)(?:[^()]|\([^()]*\))*\))*)\)")
    while (match := inner.search(sql)) is not None:
        yield match[1]
        sql = f"{sql[: match.start()]} nested {sql[match.end() :]}"
    yield sql
