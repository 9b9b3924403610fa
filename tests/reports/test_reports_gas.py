"""The gas report: every number is what its SQL over raw rows gives, what the books have, and what Python adds up."""

from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest

from pipeline.reports import gas
from pipeline.reports.coins import WITH
from pipeline.reports.gas import GasQuestion, gas_question
from pipeline.reports.question import BadQuestion, Period, Report, period
from tests.support.report_scene import EVM, VERIFIED_UP_TO, XRPL, ReportScene

pytestmark = pytest.mark.xdist_group("reports")

QUESTIONS = [
    *(gas_question(by, Period()) for by in gas.BY),
    *(gas_question(by, Period(), verified=True) for by in ("user", "month")),
    *(gas_question(by, period("2023-01-01", "2026-02-01")) for by in ("app", "day")),
    gas_question("month", Period(), chain=EVM),
    gas_question("day", Period(), app="mintlings"),
    gas_question("user", Period(), asset="card-2"),
    gas_question("asset", Period(), owner="bob", chain="offchain/gas:ETH"),
    gas_question("user", period("2026-01-05", "2026-01-05"), owner="alice"),
]


def ask(scene: ReportScene, report: Report) -> list[dict[str, Any]]:
    """The rows."""
    return list(scene.world.history.query(report.sql, report.parameters))


def by_key(rows: list[dict[str, Any]], key: str, number: str) -> dict[tuple[str, str], Any]:
    found = {(row["chain"], row[key]): row[number] for row in rows}
    assert len(found) == len(rows)
    return found


@pytest.mark.parametrize(
    "question", QUESTIONS, ids=lambda q: f"{q.by}-{'-'.join(map(str, q.parameters.values()))}"
)
def test_every_number_is_recomputed_from_raw_rows_and_equals_the_books(
    scene: ReportScene, question: GasQuestion
) -> None:
    rows = ask(scene, gas.gas_report(question))
    assert rows == scene.rows(gas.gas_report(question).pasteable) != []
    for name, report in gas.recomputed(question).items():
        assert by_key(ask(scene, report), question.key, name) == by_key(rows, question.key, name), name
    on_chains = [row for row in rows if not row["chain"].startswith("offchain/")]
    for name, report in gas.in_books(question).items():
        assert by_key(ask(scene, report), question.key, name) == by_key(on_chains, question.key, name), name


@pytest.mark.parametrize("by", gas.BY)
@pytest.mark.parametrize("verified", [False, True])
def test_a_row_told_twice_counts_once_though_tables_are_not_read_as_final(
    scene: ReportScene, by: str, verified: bool
) -> None:
    report = gas.gas_report(gas_question(by, Period(), verified=verified))
    client, tables = scene.world.history._client, ("gas_ledger", "evm_blocks", "xrpl_ledgers", "verdicts")
    expected = client.query(f"{report.pasteable} SETTINGS final = 1").result_rows
    assert expected and not report.final
    for table in tables:
        client.command(f"SYSTEM STOP MERGES {table}")
        client.command(f"INSERT INTO {table} SELECT * FROM {table} FINAL")
    try:
        assert client.query(f"{report.pasteable} SETTINGS final = 0").result_rows == expected
    finally:
        for table in tables:
            client.command(f"SYSTEM START MERGES {table}")
            client.command(f"OPTIMIZE TABLE {table} FINAL")


def test_the_sums_are_what_the_engines_of_the_books_have(scene: ReportScene) -> None:
    rows = ask(scene, gas.gas_report(gas_question("user", Period())))
    evm = {(EVM, row["owner"]): int(row["fee_paid"]) for row in rows if row["chain"] == EVM}
    assert evm == scene.fees and len(evm) > 90
    for chain in (XRPL, EVM):
        mine = [row for row in rows if row["chain"] == chain]
        assert sum(int(row["fee_burnt"]) for row in mine) == scene.burnt[chain]
        paid = sum(int(row["fee_paid"]) for row in mine)
        assert paid == scene.burnt[chain] + scene.burnt.get(f"{chain} pool", 0)
    assert scene.burnt[XRPL] == 24016712


def test_gas_in_managed_custody_worked_out_by_hand(scene: ReportScene) -> None:
    """alice: 30 covered, 5 of 7 paid; bob: 12 covered, told by no application but of an
    asset of mintlings; more than 2^64 wei; a coin that nobody knows. 9 are refused."""
    rows = ask(scene, gas.gas_report(gas_question("app", Period())))
    told = {(row["chain"].removeprefix("offchain/gas:"), row["app_id"]): row for row in rows}
    assert {
        key: (row["total_gas_required"], row["coverage"], row["required"]) for key, row in told.items()
    } == {
        ("ETH", "mintlings"): ("1000000000000000000000000001", "0", "1000000000.000000000000000001"),
        ("GOLD", "mintlings"): ("3", "0." + "6" * 18, None),
        ("XRP", "mintlings"): ("49", "0.897959183673469387", "0.000049"),
    }
    assert (
        told["XRP", "mintlings"]["paid_by_user"] == "0.000005" and told["XRP", "mintlings"]["coin"] == "XRP"
    )
    assert all(row["fee_burnt"] is None and row["burnt"] is None for row in rows)


def test_gas_in_managed_custody_is_what_the_books_moved(scene: ReportScene) -> None:
    rows = ask(scene, gas.gas_report(gas_question("month", Period())))
    told = {row["chain"]: row["total_gas_required"] for row in rows if row["chain"].startswith("offchain/")}
    books = scene.rows(
        "SELECT asset, sum(amount) AS units FROM transfers FINAL "
        "WHERE startsWith(asset, 'offchain/gas:') AND status = 'posted' GROUP BY asset"
    )
    assert told == {row["asset"]: row["units"] for row in books} and told["offchain/gas:XRP"] == "49"


def test_unverified_blocks_are_seen(scene: ReportScene) -> None:
    """The ledgers after the verified ones, and the EVM block that nobody has verified, are missing."""
    whole = ask(scene, gas.gas_report(gas_question("day", Period(), chain=XRPL)))
    proven = ask(scene, gas.gas_report(gas_question("day", Period(), chain=XRPL, verified=True)))
    lost = scene.rows(
        f"SELECT count() AS n, sum(fee) AS fee FROM gas_ledger "
        f"WHERE chain = '{XRPL}' AND ledger_index > {VERIFIED_UP_TO}"
    )[0]
    assert int(lost["n"]) > 0
    assert whole[0]["transactions"] - proven[0]["transactions"] == lost["n"]
    assert int(whole[0]["fee_paid"]) - int(proven[0]["fee_paid"]) == int(lost["fee"])
    assert ask(scene, gas.gas_report(gas_question("day", Period(), chain=EVM, verified=True))) == []


def test_days_and_months_add_up_to_users(scene: ReportScene) -> None:
    sums: dict[str, dict[str, int]] = {}
    for by in ("user", "day", "month"):
        sums[by] = defaultdict(int)
        for row in ask(scene, gas.gas_report(gas_question(by, Period()))):
            sums[by][row["chain"]] += int(row["total_gas_required"])
    assert sums["user"] == sums["day"] == sums["month"] and len(sums["user"]) == 5


def test_an_evm_address_may_be_in_any_case(scene: ReportScene) -> None:
    ((_, owner), fee) = next(iter(scene.fees.items()))
    (row,) = ask(scene, gas.gas_report(gas_question("user", Period(), owner="0X" + owner[2:].upper())))
    assert (row["owner"], int(row["fee_paid"])) == (owner, fee)


def test_decimals_are_exact_at_the_edges(scene: ReportScene) -> None:
    huge = 2**190
    cases = [(0, 1), (1, 3), (2, 3), (huge - 1, huge), (huge, 1), (5, 5), (1, 10**18), (1, 10**18 + 1)]
    ratios = ", ".join(
        f"ratio(toUInt256('{part}'), toUInt256('{of}')) AS r{at}" for at, (part, of) in enumerate(cases)
    )
    (told,) = scene.rows(f"WITH {WITH} SELECT {ratios}")
    for (part, of), found in zip(cases, told.values(), strict=True):
        whole, rest = divmod(part * 10**18 // of, 10**18)
        assert Decimal(found) == Decimal(f"{whole}.{rest:018}")
    for units, places, due in ((0, 6, "0"), (10, 0, "10"), (1, 18, "0." + "0" * 17 + "1"), (huge, 2, None)):
        row = scene.rows(
            f"WITH {WITH} SELECT whole(toUInt256('{units}'), {places}) AS w, whole(toUInt256(1), -1) AS u"
        )
        assert row == [{"w": due or f"{huge // 100}.{huge % 100:02}", "u": None}]
    assert scene.rows(f"WITH {WITH} SELECT ratio(toUInt256(1), toUInt256(0)) AS r") == [{"r": None}]


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: gas_question("year", Period()), "by"),
        (lambda: gas_question("user", Period(), owner=""), "owner"),
        (lambda: gas_question("user", Period(), chain="x" * 300), "chain"),
        (lambda: gas_question("user", Period(), app="a\x00b"), "app"),
        (lambda: period("2026-02-30", None), "from"),
        (lambda: period(None, "1.1.2026"), "to"),
        (lambda: period("2026-01-02", "2026-01-01"), "to"),
        (lambda: period("1969-12-31", None), "from"),
        (lambda: period(None, "२०२६-०१-०१"), "to"),
    ],
)
def test_wrong_arguments_are_named(make: Any, field: str) -> None:
    with pytest.raises(BadQuestion) as error:
        make()
    assert error.value.field == field and "\n" not in str(error.value)


def test_no_word_gets_into_the_sql(scene: ReportScene) -> None:
    for word in ("' OR 1 = 1 --", "\\", "{owner:String}"):
        assert ask(scene, gas.gas_report(gas_question("user", Period(), owner=word))) == []
