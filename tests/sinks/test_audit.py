"""The conservation audit: nothing on sound data; planted damage is found by the right check, at its place."""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline import metrics_audit
from pipeline.agents.auditing import SETTLE_S, Auditing, Every
from pipeline.audit_command import run_audit
from pipeline.domain.account import AccountCode
from pipeline.domain.audit import CHECKS, Result
from pipeline.settings import Settings
from schemas.codec import Codec
from sinks.audit_run import Asked, run
from sinks.audit_store import WIDE, AuditStore, asking, audited_to, seals
from sinks.books_reading import AnsweringBooks, AskedBooks
from sinks.clickhouse_client import QueryError
from tests.support.audit_world import (
    ASSETS,
    BLOCKS,
    CONTRACTS,
    EVM,
    LEDGERS,
    TABLES,
    TRANSFERS,
    VERDICTS,
    XRPL,
    AuditWorld,
    audit_world,
    evm_records,
)
from tests.support.read_world import EPOCH

pytestmark = pytest.mark.xdist_group("audit")  # one fixture for them all

SEED = 20261121
WAIT = "SETTINGS mutations_sync = 2"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AuditWorld]:
    with audit_world(tmp_path_factory.mktemp("audit")) as made:
        yield made


@pytest.fixture
def draw(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(f"{SEED} {request.node.name}")


def commits(scene: AuditWorld, topic: str) -> list[tuple[int, int]]:
    rows = scene.rows(
        f"SELECT DISTINCT from_offset, to_offset FROM sink_progress WHERE topic = '{topic}' ORDER BY from_offset"
    )
    return [(int(row["from_offset"]), int(row["to_offset"])) for row in rows]


def places(found: list[Result], check: str, table: str = "") -> list[tuple[int, int]]:
    return [
        (one.first, one.last)
        for one in found
        if one.check == check and table in ("", one.evidence.get("table"))
    ]


def checks(found: list[Result]) -> set[str]:
    return {one.check for one in found}


def test_nothing_on_sound_data(scene: AuditWorld) -> None:
    """Blocks of two chains, one of which reorganises, off-chain books, a refused message; every check has looked."""
    told = scene.audit(books=scene.books, full=True)
    assert [one for one in told.results if one.ok is not True] == []
    assert checks(list(told.results)) == set(CHECKS) - {"twice"}  # which tells of findings alone
    chains = {one.scope for one in told.results if one.check == "accounts"}
    assert chains == {XRPL, EVM, "offchain"}


def test_nothing_when_merges_have_replaced_rows(scene: AuditWorld) -> None:
    """Rows of blocks that became final, or were taken back, replace the earlier ones when ClickHouse likes."""
    tables = (
        "evm_blocks",
        "evm_transactions",
        "evm_logs",
        "evm_transfers",
        "evm_balance_changes",
        "gas_ledger",
    )
    with scene.damaged(*tables):
        before = scene.one("SELECT count() AS n FROM evm_blocks")["n"]
        scene.do(*(f"OPTIMIZE TABLE {table} FINAL" for table in tables))
        assert scene.one("SELECT count() AS n FROM evm_blocks")["n"] < before
        assert scene.audit(BLOCKS).findings == []
        assert scene.audit(LEDGERS).findings == []
        last = scene.one("SELECT max(_offset) AS n FROM evm_logs")["n"]
        scene.do(f"ALTER TABLE evm_logs DELETE WHERE _offset = {last} {WAIT}")
        assert "rows" in checks(scene.audit(BLOCKS).findings)


def test_a_deleted_part(scene: AuditWorld, draw: random.Random) -> None:
    table = draw.choice(["balance_changes", "xrpl_transactions", "object_changes"])
    with scene.damaged(table):
        parts = scene.rows(
            f"SELECT _part AS part, min(_offset) AS first, max(_offset) AS last, count() AS n FROM {table}"
            f" WHERE _topic = '{LEDGERS}' GROUP BY part ORDER BY part"
        )
        gone = draw.choice(parts)
        scene.do(f"ALTER TABLE {table} DROP PART '{gone['part']}'")
        found = [one for one in scene.audit(LEDGERS).findings if one.check == "rows"]
    assert {one.evidence["table"] for one in found} == {table}
    assert sum(int(one.expected) - int(one.found) for one in found) == int(gone["n"])
    assert min(one.first for one in found) <= int(gone["first"])
    assert max(one.last for one in found) >= int(gone["last"])


def test_a_duplicated_batch(scene: AuditWorld, draw: random.Random) -> None:
    first, last = draw.choice(commits(scene, LEDGERS))
    table = draw.choice(["xrpl_transactions", "balance_changes", "gas_ledger"])
    with scene.damaged(table):
        of = f"_topic = '{LEDGERS}' AND _offset BETWEEN {first} AND {last}"
        scene.do(f"INSERT INTO {table} SELECT * FROM {table} WHERE {of}")
        found = scene.audit(LEDGERS).findings
    assert places(found, "rows", table) == [(first, last)]
    ((low, high),) = places(found, "twice", table)
    assert first <= low <= high <= last


def test_a_batch_that_was_applied_again_at_other_offsets(scene: AuditWorld) -> None:
    """As a sink without memory would do it: rows and marks fit, the content is there twice."""
    tables = ("xrpl_ledgers", "sink_applied", "sink_progress")
    first, last = commits(scene, LEDGERS)[1]
    with scene.damaged(*tables):
        shift, of = 10_000, f"_topic = '{LEDGERS}' AND _offset BETWEEN {first} AND {last}"
        for table in tables[:2]:
            some = f"(SELECT * FROM {table} WHERE {of})"
            scene.do(f"INSERT INTO {table} SELECT * REPLACE (_offset + {shift} AS _offset) FROM {some}")
        scene.do(
            f"INSERT INTO sink_progress SELECT * REPLACE (from_offset + {shift} AS from_offset, to_offset + {shift}"
            f" AS to_offset, if(`table` IN ('xrpl_ledgers', 'sink_applied'), rows, 0) AS rows)"
            f" FROM (SELECT * FROM sink_progress WHERE topic = '{LEDGERS}' AND from_offset = {first})"
        )
        found = scene.audit(LEDGERS).findings
    assert {"twice", "blocks", "offsets"} <= checks(found)
    ((low, high),) = places(found, "twice", "sink_applied")
    assert low <= last and high >= first + shift


CHANGES: dict[str, list[tuple[str, str, str, str]]] = {  # topic: table, what is done to which row, what must tell
    LEDGERS: [
        ("balance_changes", "change = concat(change, '1')", "change != '0' AND transaction_index >= 0", "balances"),
        ("xrpl_transactions", "fee = fee + 1", "fee > 0", "blocks"),
        ("gas_ledger", "fee = fee + 1", "fee > 0", "blocks"),
        ("xrpl_ledgers", "total_coins = total_coins - 1", "ledger_index > 1", "blocks"),
        ("gas_sums", "fee = fee + 1000", "1", "rollups"),
        ("gas_assets", "gas_paid_by_user = gas_paid_by_user + 1", "1", "rollups"),
    ],
    BLOCKS: [
        ("evm_transfers", "amount = amount - 1", "amount > 0 AND finality = 'final'", "moves"),
        ("evm_transactions", "fee = fee + 1", "fee > 0 AND finality = 'final'", "blocks"),
        ("gas_assets", "gas_required = gas_required + 1", "finality != 'final'", "rollups"),
    ],
    TRANSFERS: [
        ("transfer_sums", "amount = amount + 1", "1", "rollups"),
        ("holding_sums", "change = change + 1", "1", "rollups"),
    ],
    "applications.outcomes.v1": [
        ("activity_sums", "volume = volume + 0.000000000000000001", "1", "rollups"),
        ("activity_sums", "users = arrayPopBack(users)", "notEmpty(users)", "rollups"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("topic", CHANGES)
def test_a_changed_amount(scene: AuditWorld, draw: random.Random, topic: str) -> None:
    """Each in a row of its own, drawn by lot; one audit tells them all, with their block or key."""
    changes = CHANGES[topic]
    changed: list[tuple[str, str, int, str]] = []
    with scene.damaged(*dict.fromkeys(table for table, *_ in changes)):
        for table, change, where, check in changes:
            of = f"_topic = '{topic}' AND {where}"
            row = draw.choice(scene.rows(f"SELECT * FROM {table} WHERE {of} ORDER BY cityHash64(*)"))
            key = scene.one(f"SELECT sorting_key AS k FROM system.tables WHERE name = '{table}'")["k"].split(
                ", "
            )
            this = " AND ".join(f"toString({name}) = '{row[name]}'" for name in [*key, "_offset"])
            scene.do(f"ALTER TABLE {table} UPDATE {change} WHERE {this} {WAIT}")
            changed.append(
                (
                    table,
                    check,
                    row.get("ledger_index", row.get("block_number", -1)),
                    row.get("owner", row.get("asset", "")),
                )
            )
        found = scene.audit(topic).findings
    for table, check, block, name in changed:
        mine = [one for one in found if one.check == check]
        if check == "rollups":
            assert any(one.evidence["table"] == table and name in one.name for one in mine)
        else:
            assert block in {one.first for one in mine}, (table, check)
    for one in found:  # and nothing else
        assert (
            one.check == "rollups"
            or one.first - 1 in {of[2] for of in changed}
            or one.first in {of[2] for of in changed}
        )


def test_a_changed_transfer_is_not_that_of_the_books(scene: AuditWorld, draw: random.Random) -> None:
    chain = draw.choice([XRPL, EVM, "offchain"])
    with scene.damaged("transfers"):
        rows = scene.rows(
            f"SELECT transfer_id, asset FROM transfers WHERE chain = '{chain}' AND status = 'posted'"
            " ORDER BY transfer_id"
        )
        row = draw.choice(rows)
        scene.do(
            f"ALTER TABLE transfers UPDATE amount = amount + 1 WHERE transfer_id = '{row['transfer_id']}' {WAIT}"
        )
        found = [one for one in scene.audit_books() if not one.ok]
    assert [one.evidence["transfer_id"] for one in found if one.check == "legs"] == [row["transfer_id"]]
    accounts = [one for one in found if one.check == "accounts"]
    assert {one.evidence["asset"] for one in accounts} == {row["asset"]}
    assert {number for one in accounts for number in one.evidence["difference"].values()} == {"-1"}


def test_a_swapped_block(scene: AuditWorld, draw: random.Random) -> None:
    index = draw.randrange(5, 35)
    with scene.damaged("xrpl_ledgers"):
        scene.do(
            f"ALTER TABLE xrpl_ledgers UPDATE ledger_hash = parent_hash, parent_hash = ledger_hash"
            f" WHERE ledger_index = {index} {WAIT}"
        )
        found = scene.audit(LEDGERS).findings
    assert {one.first for one in found if one.evidence.get("what") == "parent_hash"} == {index, index + 1}


@pytest.mark.parametrize("marks", [True, False])
def test_a_lost_range_of_offsets(scene: AuditWorld, draw: random.Random, marks: bool) -> None:
    """With its marks in sink_applied, sink_progress and sink_intents, and without."""
    tables = [
        row["table"]
        for row in scene.rows(f"SELECT DISTINCT `table` FROM sink_progress WHERE topic = '{LEDGERS}'")
    ]
    first, last = draw.choice(commits(scene, LEDGERS)[:-1])
    told = [row["table"] for row in scene.rows(
        f"SELECT `table` FROM sink_progress WHERE topic = '{LEDGERS}' AND from_offset = {first} AND rows > 0"
    )]  # fmt: skip
    with scene.damaged(*tables, *(("sink_progress", "sink_intents") if marks else ())):
        for table in tables:
            scene.do(
                f"ALTER TABLE {table} DELETE WHERE _topic = '{LEDGERS}' AND _offset BETWEEN {first} AND {last} {WAIT}"
            )
        if marks:
            for table in ("sink_progress", "sink_intents"):
                scene.do(
                    f"ALTER TABLE {table} DELETE WHERE topic = '{LEDGERS}' AND from_offset = {first} {WAIT}"
                )
        found = scene.audit(LEDGERS).findings
    if marks:
        assert places(found, "offsets") == [(first, last)]
    else:
        assert {
            one.evidence["table"]: (one.first, one.last) for one in found if one.check == "rows"
        } == dict.fromkeys(told, (first, last))


def test_the_last_transfers_may_be_on_their_way(scene: AuditWorld) -> None:
    """What the books have beyond the history's last transfer is no damage; what is missing before it is."""
    first, last = commits(scene, TRANSFERS)[-1]
    tables = ("transfers", "transfer_sums", "holding_sums", "sink_applied", "sink_progress")
    early = scene.one(
        "SELECT _offset AS offset FROM transfers WHERE status = 'posted' AND amount > 0 AND chain_number != 0"
        " ORDER BY offset LIMIT 1"
    )
    sound = {one.scope: int(one.found.split()[0]) for one in scene.audit_books() if one.check == "accounts"}
    with scene.damaged(*tables):
        for table in tables[:-1]:
            scene.do(
                f"ALTER TABLE {table} DELETE WHERE _topic = '{TRANSFERS}' AND _offset BETWEEN {first} AND {last} {WAIT}"
            )
        scene.do(
            f"ALTER TABLE sink_progress DELETE WHERE topic = '{TRANSFERS}' AND from_offset = {first} {WAIT}"
        )
        told = scene.audit_books()
        scene.do(
            f"ALTER TABLE transfers DELETE WHERE _topic = '{TRANSFERS}' AND _offset = {early['offset']} {WAIT}"
        )
        missing = scene.audit_books()
    behind = [one for one in told if not one.ok]
    assert {(one.check, one.ok) for one in behind} == {("accounts", None)}
    assert any(one.evidence.get("not_in_history") for one in behind)
    for one in told:
        if one.check == "accounts" and one.ok:  # the others are not told as equal
            on_their_way = sum(other.scope.startswith((one.scope, "books")) for other in behind)
            assert sound[one.scope] - on_their_way <= int(one.found.split()[0]) <= sound[one.scope]
    names = {one.scope.split()[0] for one in behind if "asset" in one.evidence}
    assert names and all(
        int(one.found.split()[0]) < sound[one.scope]
        for one in told
        if one.ok and one.scope in names and one.check == "accounts"
    )
    assert any(one.ok is False for one in missing)


def test_locks_and_accounts_of_every_state_are_as_in_the_books(scene: AuditWorld) -> None:
    """Off-chain: a lock is pending until it is released, in part or whole, voided or has lapsed."""
    locks = scene.rows(
        "SELECT toString(code) AS code, owner, toString(pending_debits) AS debits, toString(pending_credits) AS credits"
        " FROM book_balances(position = 9999999999999) WHERE asset = 'offchain/USD' AND (debits, credits) != ('0', '0')"
        " ORDER BY code"
    )
    assert [(one["code"], one["owner"], one["debits"], one["credits"]) for one in locks] == [
        ("1", "ann", "4000", "0"), ("4", "ann", "0", "4000"),
    ]  # fmt: skip
    ended = scene.one("SELECT max(block) - 1 AS n FROM transfers WHERE flow = 'lapse'")["n"]
    before = scene.one(
        f"SELECT toString(pending_debits) AS n FROM book_balances(position = {ended}) WHERE owner = 'ann' AND code = 1"
    )
    assert before["n"] == "4700"  # the one that lapses is still pending at the end of the one before
    books = int(AccountCode.BOOK)
    legs = scene.rows(f"SELECT DISTINCT flow FROM transfers WHERE {books} IN (debit_code, credit_code)")
    assert {one["flow"] for one in legs} == {"freeze", "thaw", "close", "void", "lapse"}
    assert [one for one in scene.audit_books() if not one.ok] == []


def test_a_message_that_is_not_in_quarantine(scene: AuditWorld) -> None:
    with scene.damaged("quarantine"):
        scene.do(f"ALTER TABLE quarantine DELETE WHERE role = 'history' {WAIT}")
        (found,) = [one for one in scene.audit(LEDGERS).findings if one.check == "quarantine"]
    assert (found.scope, found.partition, found.expected, found.found) == (LEDGERS, 0, "1", "0")


def test_a_table_that_is_gone(scene: AuditWorld) -> None:
    scene.do("RENAME TABLE object_changes TO object_changes_away")
    try:
        found = scene.audit(LEDGERS).findings
    finally:
        scene.do("RENAME TABLE object_changes_away TO object_changes")
    assert [one.found for one in found if one.check == "rows"] == ["no such table"]


def test_a_row_that_changed_after_it_was_audited(scene: AuditWorld, draw: random.Random) -> None:
    """Any column of any table: the digest of its commit, which the first audit kept, is another."""
    topic, table, column = draw.choice(
        [("tokens.events.v1", "token_events", "payload"), ("assets.activity.v1", "asset_events", "payload"),
         (LEDGERS, "xrpl_transactions", "raw"), ("applications.states.v1", "application_states", "value")]
    )  # fmt: skip
    store = AuditStore(scene.place)
    store.open()
    store.keep(scene.audit(topic))
    with asking(scene.place, WIDE) as ask:
        scene.sealed = seals(ask)
    assert scene.audit(topic).findings == []
    with scene.damaged(table):
        row = draw.choice(scene.rows(f"SELECT _offset FROM {table} ORDER BY _offset"))
        scene.do(
            f"ALTER TABLE {table} UPDATE {column} = concat({column}, ' ') WHERE _offset = {row['_offset']} {WAIT}"
        )
        (found,) = scene.audit(topic).findings
    scene.sealed = {}
    scene.do("DROP TABLE audits SYNC")
    assert (found.check, found.evidence["table"]) == ("seal", table)
    assert found.first <= int(row["_offset"]) <= found.last


LASTING: dict[str, dict[str, tuple[str, str]]] = {  # topic: table: which row, what is done to it
    BLOCKS: {
        "evm_blocks": ("finality = 'final'", "gas_used = gas_used + 1"),
        "evm_transactions": ("finality = 'final'", "finality = 'retracted'"),
        "evm_logs": ("finality = 'final'", "data = concat(data, '00')"),
        "evm_transfers": ("finality = 'final'", "hash = ''"),
        "evm_balance_changes": ("finality = 'final'", "hash = ''"),
        "gas_ledger": ("finality = 'final'", "result = 'other'"),
    },
    ASSETS: {"asset_changes": ("chain_number = 0 OR finality = 'final'", "to_owner = 'somebody'")},
    VERDICTS: {"verdicts": ("1", "outcome = 'unproven'")},
    CONTRACTS: {"evm_contracts": ("sequence = 0 AND address LIKE '0xb%'", "reliable = NOT reliable")},
}


@pytest.mark.parametrize("topic", LASTING)
def test_a_row_that_nothing_replaces_any_more(scene: AuditWorld, draw: random.Random, topic: str) -> None:
    """In topics whose later messages replace rows: merges are no change, another value of what lasts is."""
    store = AuditStore(scene.place)
    store.open()
    store.keep(scene.audit(topic))
    with asking(scene.place, WIDE) as ask:
        scene.sealed = seals(ask)
    assert {table for *_, table, _ in scene.sealed} >= LASTING[topic].keys()
    with scene.damaged(*LASTING[topic]):
        scene.do(*(f"OPTIMIZE TABLE {table} FINAL" for table in LASTING[topic]))
        assert scene.audit(topic).findings == []
        for table, (where, change) in LASTING[topic].items():
            of = f"_topic = '{topic}' AND ({where})"
            offset = draw.choice(scene.rows(f"SELECT _offset FROM {table} WHERE {of} ORDER BY 1"))["_offset"]
            scene.do(f"ALTER TABLE {table} UPDATE {change} WHERE {of} AND _offset = {offset} {WAIT}")
        found = {one.evidence["table"]: one for one in scene.audit(topic).findings if one.check == "seal"}
    scene.sealed = {}
    scene.do("DROP TABLE audits SYNC")
    assert found.keys() == LASTING[topic].keys()


def test_what_is_left_of_a_replaced_commit_is_sealed_anew(scene: AuditWorld) -> None:
    store = AuditStore(scene.place)
    store.open()
    store.keep(scene.audit(VERDICTS))
    first, last = next(one for one in commits(scene, VERDICTS) if one[1] > one[0])
    with scene.damaged("verdicts"):
        places = scene.rows(
            f"SELECT _offset FROM verdicts WHERE _offset BETWEEN {first} AND {last} ORDER BY 1"
        )
        gone, left = (places[at]["_offset"] for at in (0, -1))
        scene.do(f"ALTER TABLE verdicts DELETE WHERE _offset = {gone} {WAIT}")
        for _ in range(2):
            with asking(scene.place, WIDE) as ask:
                scene.sealed = seals(ask)
            told = scene.audit(VERDICTS)
            assert not [one for one in told.findings if one.check == "seal"]
            store.keep(told)
        scene.do(f"ALTER TABLE verdicts UPDATE outcome = 'unproven' WHERE _offset = {left} {WAIT}")
        found = [one for one in scene.audit(VERDICTS).findings if one.check == "seal"]
    scene.sealed = {}
    scene.do("DROP TABLE audits SYNC")
    assert [one.evidence["table"] for one in found] == ["verdicts"] and gone != left


def test_a_replaced_view(scene: AuditWorld) -> None:
    """Its text is not this release's; one that another release made can't be judged."""
    made = scene.one("SELECT create_table_query AS q FROM system.tables WHERE name = 'gas_daily'")["q"]
    scene.do(
        "CREATE OR REPLACE VIEW gas_daily AS SELECT 'x' AS chain", "RENAME TABLE gas_by_day TO gas_aside"
    )
    found = {one.scope: (one.ok, one.found) for one in _views(scene)}
    scene.do("RENAME TABLE gas_aside TO gas_by_day", made.replace("CREATE VIEW", "CREATE OR REPLACE VIEW"))
    assert found == {"gas_daily": (False, "another view"), "gas_by_day": (False, "no such view")}
    scene.do("ALTER TABLE gas_daily MODIFY COMMENT 'As it was.\nmark 0123456789abcdef'")
    (other,) = _views(scene)
    scene.do(made.replace("CREATE VIEW", "CREATE OR REPLACE VIEW"))
    assert (other.scope, other.ok) == ("gas_daily", None) and "another release" in other.evidence["why"]
    assert [one.ok for one in _views(scene)] == [True]


def _views(scene: AuditWorld) -> list[Result]:
    """What a whole audit tells of views."""
    with asking(scene.place, WIDE) as ask:
        return [one for one in run(ask, {}, Asked()).results if one.check == "views"]


def test_the_continuous_audit_goes_on_where_it_was(
    scene: AuditWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New commits alone are looked at; a range with a finding again and again, with one alert, until it is mended."""
    assert SETTLE_S > 1
    monkeypatch.setattr("pipeline.agents.auditing.SETTLE_S", 0.0)
    codec: Codec = scene.world.codec
    auditing = Auditing(scene.place, codec, Every(60, 0), clock=lambda: 1_700_000_000.0)
    auditing._tables = {topic: TABLES[topic] for topic in (LEDGERS, "tokens.events.v1")}  # quicker than all
    told = auditing.once()
    assert told.findings == [] and {one.topic for one in told.ranges} == {LEDGERS, "tokens.events.v1"}
    assert metrics_audit.LAST_OK._value.get() == 1_700_000_000.0 and auditing.alerts() == []
    assert auditing.once().ranges == ()
    (first, last) = commits(scene, LEDGERS)[-2]
    with scene.damaged("audits", "xrpl_transactions"):
        scene.do(f"ALTER TABLE audits DELETE WHERE check = 'audited' AND scope = '{LEDGERS}' {WAIT}")
        scene.do(f"ALTER TABLE xrpl_transactions DELETE WHERE _offset = {first} {WAIT}")
        for _ in range(2):
            assert places(auditing.once().findings, "rows", "xrpl_transactions") == [(first, last)]
        assert metrics_audit.FINDINGS.labels("rows")._value.get() == 1
        alerts = [codec.decode(one.value)[1] for one in auditing.alerts()]
        assert {one["rule"] for one in alerts} == {"audit_failed"} and len(
            {one["id"] for one in alerts}
        ) == len(alerts)
        assert auditing.alerts() == []
        with asking(scene.place, WIDE) as ask:  # its ledger is wrong too, and that names no offset
            assert {topic for _, topic, _ in audited_to(ask)} == {"tokens.events.v1"}
        kept = scene.rows("SELECT check, first, last, ok FROM audits WHERE check = 'rows' AND NOT ok")
        assert kept == [{"check": "rows", "first": first, "last": last, "ok": False}]
    assert auditing.once().findings == []
    scene.do("DROP TABLE audits SYNC")


def test_a_finding_without_offsets_is_told_until_it_is_mended(
    scene: AuditWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A roll-up's sum is wrong: its topic is looked at again and again; the others go on, and nothing is kept twice."""
    monkeypatch.setattr("pipeline.agents.auditing.SETTLE_S", 0.0)
    auditing = Auditing(scene.place, scene.world.codec, Every(60, 0))
    auditing._tables = {topic: TABLES[topic] for topic in (LEDGERS, "tokens.events.v1")}
    scene.do("DROP TABLE IF EXISTS audits SYNC")
    AuditStore(scene.place).open()
    with scene.damaged("audits", "gas_sums"):
        scene.do(f"ALTER TABLE gas_sums UPDATE fee = fee + 1 WHERE _topic = '{LEDGERS}' {WAIT}")
        assert checks(auditing.once().findings) == {"rollups"}
        kept = scene.one("SELECT count() AS n FROM audits WHERE check != 'audited'")["n"]
        scene.do(
            f"ALTER TABLE audits DELETE WHERE scope LIKE 'tokens.events.v1%' {WAIT}"
        )  # as if they were new
        again = auditing.once()
        assert checks(again.findings) == {"rollups"}
        assert metrics_audit.FINDINGS.labels("rollups")._value.get() == len(again.findings)
        assert auditing.once().findings == again.findings
        with asking(scene.place, WIDE) as ask:
            assert {topic for _, topic, _ in audited_to(ask)} == {"tokens.events.v1"}
        assert scene.one("SELECT count() AS n FROM audits WHERE check != 'audited'")["n"] == kept
    assert auditing.once().findings == []
    scene.do("DROP TABLE audits SYNC")


def test_a_batch_that_was_cut_off_is_no_damage(scene: AuditWorld) -> None:
    """Rows in some of the tables, no commit: the next start undoes them, or they are being written just now. Once they
    are told to be undone, none may be there."""
    tables = ("xrpl_ledgers", "sink_applied")
    intent = f"(SELECT * FROM sink_intents WHERE topic = '{LEDGERS}' ORDER BY to_offset DESC LIMIT 1)"
    begun = "'cut off' AS batch, to_offset + 1 AS from_offset, to_offset + 20000 AS to_offset"
    with scene.damaged(*tables, "sink_intents"):
        last = scene.one(f"SELECT max(ledger_index) AS n FROM xrpl_ledgers WHERE _topic = '{LEDGERS}'")["n"]
        scene.do(f"INSERT INTO sink_intents SELECT * REPLACE ({begun}) FROM {intent}")
        for table, column in zip(tables, ("ledger_index", "block"), strict=True):
            scene.do(
                f"INSERT INTO {table} SELECT * REPLACE ({column} + 1 AS {column}, _offset + 10000 AS _offset)"
                f" FROM (SELECT * FROM {table} WHERE _topic = '{LEDGERS}' AND {column} = {last})"
            )
            assert scene.one(f"SELECT count() AS n FROM {table} WHERE _offset > 10000")["n"] > 0
        assert scene.audit(chain=XRPL, books=scene.books).findings == []
        assert scene.audit(LEDGERS).findings == []
        scene.do(f"INSERT INTO sink_intents SELECT * REPLACE (1 AS undone) FROM {intent}")
        found = scene.audit(LEDGERS).findings
    assert {(one.check, one.evidence["table"]) for one in found} == {("rows", table) for table in tables}


@pytest.mark.parametrize(
    "where", ["an epoch without commits", "a topic without commits", "another partition"]
)
def test_rows_that_no_commit_tells_of(scene: AuditWorld, where: str) -> None:
    """As an epoch leaves them that was not cleared away, or a sink that lost its marks."""
    topic, table = ("anchors.events.v1", "anchor_events") if "topic" in where else (BLOCKS, "evm_logs")
    tables = (table, "sink_progress", "sink_intents") if "topic" in where else (table,)
    with scene.damaged(*tables):
        if "topic" in where:
            for marks in tables[1:]:
                scene.do(f"ALTER TABLE {marks} DELETE WHERE topic = '{topic}' {WAIT}")
            told = scene.one(
                f"SELECT count() AS n, max(_offset) AS last FROM {table} WHERE _topic = '{topic}'"
            )
        else:
            other = "'gone' AS _epoch" if "epoch" in where else "_partition + 7 AS _partition"
            some = f"(SELECT * FROM {table} WHERE _topic = '{topic}' ORDER BY _offset LIMIT 3)"
            told = scene.one(f"SELECT count() AS n, max(_offset) AS last FROM {some}")
            scene.do(f"INSERT INTO {table} SELECT * REPLACE ({other}) FROM {some}")
        found = [one for one in scene.audit(topic).findings if one.evidence["table"] == table]
    (one,) = [one for one in found if one.check == "rows"]
    assert (one.found, one.evidence["offsets"][1]) == (f"{told['n']} rows of no commit", int(told["last"]))


@pytest.mark.parametrize("topic", ["positions.events.v1", LEDGERS])
def test_what_was_audited_once_must_be_there(scene: AuditWorld, topic: str) -> None:
    """All of a topic gone, its marks too: only the audit that saw it knows."""
    tables = [
        row["table"]
        for row in scene.rows(f"SELECT DISTINCT `table` FROM sink_progress WHERE topic = '{topic}'")
    ]
    last = scene.one(f"SELECT max(to_offset) AS n FROM sink_progress WHERE topic = '{topic}'")["n"]
    audited = {(EPOCH, topic, 0): last}
    assert scene.audit(topic, audited=audited).findings == []
    with scene.damaged(*tables, "sink_progress", "sink_intents"):
        for table in tables:
            scene.do(f"ALTER TABLE {table} DELETE WHERE _topic = '{topic}' {WAIT}")
        for table in ("sink_progress", "sink_intents"):
            scene.do(f"ALTER TABLE {table} DELETE WHERE topic = '{topic}' {WAIT}")
        for how in ({"topic": topic}, {"new": True, "after": audited}):
            (one,) = [one for one in scene.audit(audited=audited, **how).findings if one.check == "offsets"]
            assert (one.scope, one.evidence["offsets"]) == (topic, [0, last])
        blockless = [one.scope for one in scene.audit(books=scene.books).findings if one.check == "booked"]
    assert blockless == ([XRPL] if topic == LEDGERS else [])


def test_a_commit_that_lost_one_of_its_rows(scene: AuditWorld) -> None:
    """The first one's, so that it looks as if the table had been made later."""
    with scene.damaged("sink_progress"):
        first, last = commits(scene, LEDGERS)[0]
        scene.do(
            f"ALTER TABLE sink_progress DELETE WHERE topic = '{LEDGERS}' AND from_offset = {first}"
            f" AND `table` = 'balance_changes' {WAIT}"
        )
        found = scene.audit(LEDGERS).findings
    assert [(one.check, one.expected, one.first, one.last) for one in found] == [("rows", "0", first, last)]


def test_a_final_block_told_under_another_incarnation_counts_once(scene: AuditWorld) -> None:
    """As an ingest that lost its journal tells it. The sink drops it; where an older one did not, the audit of what is
    new finds it."""
    record = next(
        one
        for one in evm_records()
        if one["finality"] == "final" and any(tx["fee"] for tx in one["transactions"])
    )
    sums, n = "SELECT sum(fee) AS fee, count() AS n FROM gas_sums", record["incarnation"] + 1
    before = scene.one(sums)
    told = [
        {**record, "finality": how, "incarnation": i, "publication": f"{i}/{how}", "was_head": how == "final"}
        for i, how in ((n - 1, "retracted"), (n, "head"), (n, "final"), (n + 1, "final"))
    ]
    told.append({**told[-1], "chunk": 1, "chunks": 2})  # by an ingest that cuts it otherwise
    written = scene.world.history.write(EPOCH, [scene._message(BLOCKS, one) for one in told])
    scene.world.history.flush()
    assert (written.applied, written.duplicates) == (0, 5) and scene.one(sums) == before
    assert scene.audit(BLOCKS).findings == []
    _, last = commits(scene, BLOCKS)[-2]
    with scene.damaged("sink_applied"):
        scene.do(
            f"INSERT INTO sink_applied SELECT * REPLACE ('{n}/final' AS key, {last} + 1 AS _offset) FROM"
            f" (SELECT * FROM sink_applied WHERE _topic = '{BLOCKS}' AND hash = '{record['block_hash']}'"
            " AND key LIKE '%/final')"
        )
        found = scene.audit(BLOCKS, new=True, after={(EPOCH, BLOCKS, 0): last}).findings
    ((_, high),) = places(found, "twice", "sink_applied")
    assert high == last + 1


def test_two_final_blocks_of_one_number(scene: AuditWorld) -> None:
    with scene.damaged("evm_blocks"):
        of = "finality = 'final' ORDER BY block_number DESC LIMIT 1"
        number = scene.one(f"SELECT block_number AS n FROM evm_blocks WHERE {of}")["n"]
        scene.do(
            "INSERT INTO evm_blocks SELECT * REPLACE (concat('0x', repeat('a', 64)) AS block_hash)"
            f" FROM (SELECT * FROM evm_blocks WHERE {of})"
        )
        found = scene.audit(chain=EVM, books=scene.books).findings
    assert {one.first for one in found if one.evidence["what"] == "final blocks of this number"} == {number}


def test_no_topic_waits_for_the_backlog_of_another(scene: AuditWorld) -> None:
    """An audit without time begins one topic, the next one the next; of each so many commits alone."""
    few = {topic: TABLES[topic] for topic in ("assets.activity.v1", "tokens.events.v1", LEDGERS)}
    begin, looked = "", []
    with asking(scene.place, WIDE) as ask:
        for _ in range(4):  # the backlog is as it was: nothing is kept
            told = run(ask, few, Asked(new=True, commits=1, begin=begin, until=0.0))
            begin = told.begin
            looked += told.ranges
            assert told.left and told.findings == []
    assert [one.topic for one in looked] == [*few, "assets.activity.v1"]  # few is in the order of names
    ((first, last), (after, _), *_) = commits(scene, LEDGERS)
    assert (looked[2].first, looked[2].last) == (first, last)
    told = scene.audit(LEDGERS, new=True, commits=1, after={looked[2][:3]: last})
    assert told.ranges[0].first == after and told.left
    told = scene.audit(LEDGERS, new=True, commits=1, uncut={LEDGERS}, after={looked[2][:3]: last})
    assert told.ranges[0].last == commits(scene, LEDGERS)[-1][1] and not told.left
    assert not scene.audit("tokens.events.v1", new=True, commits=10_000).left


def test_everything_in_parts_has_an_end(scene: AuditWorld) -> None:
    """Each part begins with what the one before it left; the last one leaves nothing, and begins nothing again."""
    few = {topic: TABLES[topic] for topic in ("assets.activity.v1", "tokens.events.v1", LEDGERS)}
    begin, parts = "", []
    with asking(scene.place, WIDE) as ask:
        for _ in few:
            parts.append(run(ask, few, Asked(begin=begin, until=0.0)))
            begin = parts[-1].begin
    assert [[one.topic for one in told.ranges] for told in parts] == [[topic] for topic in few]
    assert [told.left for told in parts] == [True, True, False] and begin == ""
    assert [sorted({*few} - told.unbegun) for told in parts] == [[topic] for topic in few]


class Kept:
    """Books that others still need: not closed."""

    def __init__(self, books: Any) -> None:
        self._books = books

    def __getattr__(self, name: str) -> Any:
        return getattr(self._books, name)

    def close(self) -> None:
        pass


def test_the_books_of_another_process_are_asked_while_it_runs(
    scene: AuditWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, draw: random.Random
) -> None:
    """The continuous audit looks up what is new; one of everything, while things move, compares the accounts."""
    monkeypatch.setattr("pipeline.agents.auditing.SETTLE_S", 0.0)
    monkeypatch.setattr("sinks.audit_run.STEADY_S", 0.0)
    path = tmp_path / "books.sock"
    auditing = Auditing(scene.place, scene.world.codec, Every(60, 0), lambda: AskedBooks(path))
    auditing._tables = {TRANSFERS: TABLES[TRANSFERS]}
    (why,) = [one for one in auditing.once().results if one.check == "legs"]
    assert why.ok is None and "books.sock" in why.evidence["why"]
    answering = AnsweringBooks(Kept(scene.books), path)
    with scene.damaged("transfers"):
        rows = scene.rows(
            "SELECT transfer_id FROM transfers WHERE chain_number != 0 AND status = 'posted' ORDER BY 1"
        )
        row = draw.choice(rows)["transfer_id"]
        scene.do(f"ALTER TABLE transfers UPDATE amount = amount + 1 WHERE transfer_id = '{row}' {WAIT}")
        found = [one for one in auditing.once().findings if one.check == "legs"]
        assert [one.evidence["transfer_id"] for one in found] == [row]
        with asking(scene.place, WIDE) as ask:
            assert audited_to(ask) == {}
        live = scene.audit(chain=found[0].scope, books=AskedBooks(path), settle_s=0.001).findings
        assert {"accounts", "legs", "booked"} >= checks(live) >= {"accounts"}
    told = auditing.once()
    assert {one.check: one.ok for one in told.results}["legs"] and told.findings == []
    sound = scene.audit(chain=EVM, books=AskedBooks(path), settle_s=0.001)
    assert sound.findings == [] and {"accounts", "legs", "booked"} <= checks(list(sound.results))
    answering.close()
    scene.do("DROP TABLE audits SYNC")


def _up(scene: AuditWorld) -> Settings:
    """Settings of a data directory that a running `up` serves."""
    folder = scene.place.path.parent  # type: ignore[union-attr]
    told = {"pid": os.getpid(), "kafka_url": "-", "clickhouse_url": scene.world.port.url}
    (folder / "up.json").write_bytes(orjson.dumps(told))
    return Settings(data_dir=folder, clickhouse_url="", tigerbeetle_addresses="")


def test_the_command_through_a_running_up(
    scene: AuditWorld, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.audit_command.LIVE_SETTLE_S", 0.0)
    monkeypatch.setenv("COLUMNS", "200")
    settings = _up(scene)
    assert run_audit(settings, "tokens.events.v1", "", "", False, False) == 0
    shown = capsys.readouterr().out
    assert "tokens.events.v1" in shown and "nothing is wrong" in shown
    assert run_audit(settings, BLOCKS, "", "", False, True) == 0
    assert all(orjson.loads(line)["ok"] for line in capsys.readouterr().out.splitlines())
    (first, last) = commits(scene, "tokens.events.v1")[0]
    with scene.damaged("token_events"):
        scene.do(f"ALTER TABLE token_events DELETE WHERE _offset <= {last} {WAIT}")
        assert run_audit(settings, "tokens.events.v1", "", "", False, True) == 1
        told = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert run_audit(settings, "tokens.events.v1", "", "", False, False) == 1
    assert next((one["check"], one["first"], one["last"]) for one in told if one["ok"] is False) == (
        "rows",
        first,
        last,
    )
    assert "rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("topic", "chain", "since", "why"),
    [("no.topic", "", "", "--topic no.topic"), ("", "xrpl:none", "", "--chain xrpl:none"),
     ("", "", "soon", "--since soon"), (LEDGERS, XRPL, "", "one of them")],
)  # fmt: skip
def test_a_wrong_call(
    scene: AuditWorld, capsys: pytest.CaptureFixture[str], topic: str, chain: str, since: str, why: str
) -> None:
    assert run_audit(_up(scene), topic, chain, since, False, False) == 2
    assert why in capsys.readouterr().err


def test_a_history_without_tables() -> None:
    """As a role leaves it that was killed at its first start."""
    with pytest.raises(QueryError, match="no table sink_progress: start the history role"):
        run(lambda sql: [], TABLES, Asked())


def test_no_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings: Any = Settings(data_dir=tmp_path, clickhouse_url="", tigerbeetle_addresses="")
    assert run_audit(settings, "", "", "", False, False) == 2
    assert "--data-dir" in capsys.readouterr().err
