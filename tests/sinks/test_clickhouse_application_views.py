"""Views over applications on one scene, every answer worked out from it by hand; S0's three queries among them."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipeline.catalog.assets import ASSETS as CATALOG
from pipeline.domain.assets.figures import GAS
from pipeline.domain.positions import lifecycle
from pipeline.reports import compliance
from pipeline.reports.question import period
from schemas.loader import by_topic
from sinks.ddl import tables
from sinks.ddl_shape import documented
from sinks.views import views
from tests.support.read_scene import TREASURY_TX, case, play
from tests.support.read_world import World, world

pytestmark = pytest.mark.xdist_group("application-views")  # one fixture for them all

OURS = {
    "asset_states", "asset_history", "user_history", "gas_of_users", "positions", "ledger_events", "position_timeline",
    "authorizations", "event_status", "asset_analytics", "application_current", "provenance", "position_provenance",
    "holdings_at", "compliance_transfers", "compliance_state_changes", "compliance_audit_trail",
    "compliance_regulatory",
}  # fmt: skip


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("views")) as made:
        play(made)
        yield made


def test_every_example_runs(scene: World) -> None:
    ours = [view for view in views() if view.name in OURS]
    assert {view.name for view in ours} == OURS
    for view in ours:
        example = view.doc.rpartition("Example: ")[2]
        assert example.startswith("SELECT"), view.name
        scene.rows(example)


def test_asset_states(scene: World) -> None:
    rows = {row["asset_id"]: row for row in scene.rows("SELECT * FROM asset_states")}
    owners = {asset: row["owner_user_id"] for asset, row in rows.items()}
    assert owners == {"card-1": "bob", "card-2": "alice", "card-3": "bob", "pack-1": "alice", "art-1": None}
    assert (
        rows["art-1"]["holdings"] == {"alice": "750", "bob": "250"}
        and rows["art-1"]["fraction_count"] == 1000
    )
    assert rows["card-2"]["parent_container_id"] == "pack-1" and rows["pack-1"]["contents"] == ["card-2"]
    assert rows["card-1"]["listing"] is None and rows["card-1"]["version"] > 3
    assert all(row["app_id"] == "mintlings" and row["minted"] and not row["burnt"] for row in rows.values())
    (one,) = scene.rows("SELECT * FROM asset_states WHERE asset_id = 'card-1'")
    assert one == rows["card-1"]


def test_provenance_of_s0(scene: World) -> None:
    rows = scene.rows("SELECT source_table, type, user_id, to_user_id FROM asset_history(asset = 'card-1')")
    assert [tuple(row.values()) for row in rows] == [
        ("asset_registry", "ASSET_REGISTERED", None, "alice"),
        ("asset_transactions", "MINTED", None, None),
        ("asset_transactions", "LISTED", "alice", None),
        ("asset_events", "VIEWED", "bob", None),
        ("asset_transactions", "SOLD", None, "bob"),
        ("asset_transactions", "INTERNAL_GAS_CHARGE", None, None),
    ]
    assert [row["type"] for row in scene.rows("SELECT type FROM asset_history(asset = 'card-3')")] == [
        "ASSET_REGISTERED", "MINTED",
    ]  # fmt: skip


def test_user_history_of_s0(scene: World) -> None:
    def owned(user: str) -> list[tuple[str, str | None]]:
        rows = scene.rows(f"SELECT asset_id, units FROM user_history(user = '{user}')")
        return [(row["asset_id"], row["units"]) for row in rows]

    assert owned("alice") == [("art-1", "750"), ("pack-1", None), ("card-2", None)]
    assert owned("bob") == [("art-1", "250"), ("card-1", None), ("card-3", None)]
    assert owned("nobody") == []


def test_gas_report_of_s0(scene: World) -> None:
    """A charge that the rules refuse counts in no report."""
    told = {"payer_user_id": "bob", "currency": "XRP", "gas_required": "9", "gas_paid_by_user": "1",
            "gas_paid_by_treasury": "1"}  # fmt: skip
    scene.tell("assets", [case("INTERNAL_GAS_CHARGE", "card-1", 30, told)])  # 1 + 1 is not 9
    sums = {"total_gas_required": "12", "total_gas_paid_by_user": "0", "total_gas_paid_by_treasury": "12"}
    assert scene.rows("SELECT * FROM gas_of_users") == [
        {"user_id": "bob", "currency": "XRP", "transactions": 1, **sums}
    ]
    for view in ("gas_report", "gas_daily"):
        (row,) = scene.rows(f"SELECT * FROM {view} WHERE owner = 'bob'")
        assert {name: row[name] for name in sums} == sums and row["transactions"] == 1
    covered = {**told, "gas_paid_by_user": "0", "gas_paid_by_treasury": "9", "treasury_tx_hash": TREASURY_TX}
    scene.tell("assets", [case("INTERNAL_GAS_COVERAGE", "card-1", 31, covered)])
    (row,) = scene.rows("SELECT * FROM gas_of_users")
    assert (row["transactions"], row["total_gas_required"], row["total_gas_paid_by_treasury"]) == (
        2,
        "21",
        "21",
    )


def test_positions(scene: World) -> None:
    rows = {row["id"]: row for row in scene.rows("SELECT * FROM positions")}
    assert (rows["pos-1"]["state"], rows["pos-1"]["amount"], rows["pos-1"]["remainder"]) == (
        "PARTIALLY_RELEASED", "100000", "59999.5",
    )  # fmt: skip
    assert (rows["pos-2"]["state"], rows["pos-2"]["funder"], rows["pos-2"]["external_reference"]) == (
        "CREATED",
        None,
        None,
    )
    events = scene.rows(
        "SELECT position_id, previous_state, new_state FROM ledger_events ORDER BY at, position_id"
    )
    assert [tuple(row.values()) for row in events] == [
        ("pos-1", None, "CREATED"), ("pos-2", None, "CREATED"), ("pos-1", "CREATED", "FUNDED"),
        ("pos-1", "FUNDED", "PARTIALLY_RELEASED"),
    ]  # fmt: skip
    steps = scene.rows("SELECT state, remainder, lasted_s FROM position_timeline(position = 'pos-1')")
    assert [tuple(row.values()) for row in steps] == [
        ("CREATED", "0", None), ("FUNDED", "100000", 60), ("PARTIALLY_RELEASED", "59999.5", 120),
    ]  # fmt: skip


DAY = "from = '2026-01-05', to = '2026-01-05'"
FROM_TRAIL = f"SELECT type, key, payload FROM compliance_audit_trail({DAY}) WHERE"


def test_what_is_now_and_nothing_of_what_is_gone(scene: World) -> None:
    sql = "SELECT version, JSONExtractString(value, 'owner_user_id') AS owner FROM application_current WHERE "
    (row,) = scene.rows(f"{sql} domain = 'assets' AND kind = 'asset' AND id = 'card-1'")
    (newest,) = scene.rows(
        "SELECT max(version) AS version FROM application_states WHERE kind = 'asset' AND id = 'card-1'"
    )
    assert row == {"version": newest["version"], "owner": "bob"}
    plan = scene.rows(
        "EXPLAIN indexes = 1 SELECT * FROM application_current WHERE domain = 'assets' AND kind = 'asset' AND id = 'x'"
    )
    assert "(id in ['x', 'x'])" in " ".join(row["explain"] for row in plan)
    insert = (
        "INSERT INTO application_states (domain, kind, id, version, value, gone) VALUES "
        "('tokens', 'fleeting', 'f', 1, '{}', false), ('tokens', 'fleeting', 'f', 2, '', true)"
    )
    scene.history._client.command(insert)
    assert scene.rows("SELECT * FROM application_current WHERE kind = 'fleeting'") == []


def test_the_story_of_a_position(scene: World) -> None:
    rows = scene.rows(
        "SELECT source, type, state, amount_released FROM position_provenance(position = 'pos-1')"
    )
    changed = ("position_events", "POSITION_STATE_CHANGED")
    assert [tuple(row.values()) for row in rows] == [
        ("position_events", "POSITION_CREATED", "CREATED", None),
        (*changed, "FUNDED", None),
        (*changed, "PARTIALLY_RELEASED", "40000.5"),
    ]


def test_the_story_of_an_asset_over_its_positions(scene: World) -> None:
    (asset,) = scene.rows("SELECT asset_id FROM positions WHERE id = 'pos-1'")
    (other,) = scene.rows("SELECT asset_id FROM positions WHERE id = 'pos-2'")
    rows = scene.rows(f"SELECT about, type, state FROM position_provenance(position = '{asset['asset_id']}')")
    told = [tuple(row.values()) for row in rows]
    assert told[0] == (asset["asset_id"], "POSITION_ASSET_REGISTERED", "")
    ours = ["pos-1", *(["pos-2"] if asset == other else [])]
    assert sorted({about for about, *_ in told[1:]}) == ours
    for position in ours:
        alone = scene.rows(f"SELECT about, type, state FROM position_provenance(position = '{position}')")
        assert [tuple(row.values()) for row in alone] == [row for row in told if row[0] == position]


def test_compliance_transfers(scene: World) -> None:
    """Money alone: no tokens, fractions or gas. The transfer of a settled reservation is told with 0 too."""
    columns = "event_type, kind, position_id, from_owner, to_owner, currency, amount, units"
    rows = scene.rows(f"SELECT {columns} FROM compliance_transfers({DAY}) WHERE units != 0")
    assert [tuple(row.values()) for row in rows] == [
        ("DEPOSITED", "DEPOSIT", "", "", "buyer", "USD", "150000", "15000000"),
        ("DEPOSITED", "DEPOSIT", "", "", "alice", "SOVR", "250", "250"),
        ("AUTHORIZED", "ANCHOR_AUTHORIZATION", "", "alice", "", "SOVR", "100", "100"),
        ("CLAIMED", "ANCHOR_AUTHORIZATION", "", "", "GROCERY", "SOVR", "100", "100"),
        ("CLAIMED", "ANCHOR_AUTHORIZATION", "", "", "GROCERY", "GROCERY_OBLIGATION", "100", "100"),
        ("POSITION_STATE_CHANGED", "ESCROW_LOCK", "pos-1", "buyer", "carl", "USD", "100000", "10000000"),
        ("POSITION_STATE_CHANGED", "ESCROW_RELEASE", "pos-1", "carl", "SUB", "USD", "40000.5", "4000050"),
    ]
    assert scene.rows("SELECT * FROM compliance_transfers(from = '2026-01-06', to = '2026-02-01')") == []


def test_compliance_state_changes_and_audit_trail(scene: World) -> None:
    columns = "position_id, previous_state, new_state, reason, holder_reference, amount_released, recipient"
    rows = scene.rows(f"SELECT {columns} FROM compliance_state_changes({DAY})")
    assert [tuple(row.values()) for row in rows] == [
        ("pos-1", None, "CREATED", "", "carl", None, None),
        ("pos-2", None, "CREATED", "", "dora", None, None),
        ("pos-1", "CREATED", "FUNDED", "deposited", "carl", None, None),
        ("pos-1", "FUNDED", "PARTIALLY_RELEASED", "part", "carl", "40000.5", "SUB"),
    ]
    trail = scene.rows(f"SELECT topic, type, key, status, reason FROM compliance_audit_trail({DAY})")
    told = sum(
        scene.rows(f"SELECT count() AS n FROM {table}")[0]["n"]
        for table in ("asset_activity", "position_events", "token_events", "anchor_events")
    )
    assert len(trail) == told > 40
    assert {row["payload"] for row in scene.rows(f"{FROM_TRAIL} topic = 'assets.activity.v1'")} >= {
        '{"addresses":["xrpl:0/ralice"]}', '{"title":"M","issuers":["xrpl:0/rI"],"treasuries":["xrpl:0/rT"]}',
        '{"to_user_id":null,"token":null,"tx_hash":null}', '{"surface":"feed"}',
        '{"asset_type":"card","title":"Card-3","thumbnail_url":null,"issuer_user_id":null,"nfc_uuid":null,'
        '"mpt_issuance_id":null,"token":null,"owner_user_id":"bob","custody_type":"managed","container_type":null}',
    }  # fmt: skip
    assert scene.rows(f"{FROM_TRAIL} payload = ''") == []
    steps = [tuple(row.values())[3:] for row in trail if row["key"] == "pos-1"]
    assert steps == [("applied", ""), ("applied", ""), ("refused", "illegal_transition"), ("applied", "")]
    assert {row["status"] for row in trail} <= {"applied", "refused", "accepted"}


def test_compliance_regulatory(scene: World) -> None:
    """What is held at the end is what was ever funded, less what left; the next days change nothing of it."""
    (row,) = scene.rows(f"SELECT * FROM compliance_regulatory({DAY})")
    assert row == {
        "institution_id": "bank", "region": "US", "currency": "USD", "created": 2, "amount_created": "100005",
        "funded": "100000", "released": "40000.5", "voided": "0", "cancelled": 0, "expired": 0, "refused": 1,
        "open_at_end": 2, "held_at_end": "59999.5",
    }  # fmt: skip
    (later,) = scene.rows("SELECT * FROM compliance_regulatory(from = '2026-01-06', to = '2026-01-07')")
    assert (later["created"], later["funded"], later["open_at_end"], later["held_at_end"]) == (
        0,
        "0",
        2,
        "59999.5",
    )
    assert scene.rows("SELECT * FROM compliance_regulatory(from = '2026-01-01', to = '2026-01-04')") == []


def test_holdings_at_a_time(scene: World) -> None:
    def held(minute: int | str, asset: str) -> dict[str, str]:
        sql = f"SELECT holder, amount FROM holdings_at(time = '2026-01-05 12:{minute}:00') WHERE asset = '{asset}'"
        return {row["holder"]: row["amount"] for row in scene.rows(sql)}

    assert [held(minute, "offchain/asset:card-1") for minute in ("00", 11, 12)] == [
        {},
        {"alice": "1"},
        {"bob": "1"},
    ]
    assert held(15, "offchain/asset:art-1") == {"alice": "1000"}
    assert held(16, "offchain/asset:art-1") == {"alice": "750", "bob": "250"}


def test_authorizations_and_event_status(scene: World) -> None:
    (row,) = scene.rows("SELECT user_id, anchor, amount, state, merchant FROM authorizations")
    assert tuple(row.values()) == ("alice", "GROCERY", "100", "CLAIMED", "shop")
    waiting = scene.only_told("assets", case("VIEWED", "card-3", 50, {"surface": "feed"}, user_id="bob"))
    status = "SELECT status, reason FROM event_status WHERE "
    assert scene.rows(f"{status} event_id = '{waiting}'") == [{"status": "accepted", "reason": ""}]
    assert scene.rows(f"{status} key = 'card-3' AND type = 'TRANSFERRED'") == [
        {"status": "refused", "reason": "not_owner"}
    ]
    assert {row["status"] for row in scene.rows(f"{status} key = 'pos-2'")} == {"applied"}


def test_analytics_count_nothing_twice(scene: World) -> None:
    """The same messages once more in another incarnation of the topic, and none of a refused event."""
    (before,) = scene.rows("SELECT * FROM asset_analytics")
    assert (before["day"], before["app_id"], before["minted"], before["sold"]) == (
        "2026-01-05",
        "mintlings",
        5,
        1,
    )
    assert (before["listed"], before["fractioned"], before["transferred"], before["social"]) == (1, 1, 1, 1)
    assert before["sales_volume"] == {"USD": "10.5"} and before["active_users"] == 2
    for table in ("asset_transactions", "asset_events", "applied_events", "event_outcomes", "asset_registry"):
        scene.history._client.command(f"INSERT INTO {table} SELECT * FROM {table}")  # the second net's case
    assert scene.rows("SELECT * FROM asset_analytics") == [before]
    sql = "SELECT sum(volume) AS paid, sumIf(events, type IN ('MINTED', 'SOLD')) AS n FROM activity_sums"
    assert scene.rows(sql) == [{"paid": "10.5", "n": 6}]
    scene.tell(
        "assets",
        [case("ASSET_REGISTERED", "card-1", 40, {"asset_type": "x", "title": "X"}, app_id="mintlings")],
    )
    assert scene.rows("SELECT * FROM asset_analytics") == [before]


def test_analytics_know_every_type() -> None:
    """What is no act on an asset, and what is social, is the same in the roll-up's view and in the tables of rows."""
    (view,) = [view for view in views() if view.name == "asset_analytics"]
    left_out, social = (
        set(re.findall(r"\w+", found[1]))
        for words in (r"type NOT IN \(([^)]*)\)", r"type IN \(\s*('SCANNED'[^)]*)\)")
        if (found := re.search(words, view.select)) is not None
    )
    rows = {table.name: table.where for table in tables(documented(by_topic()[CATALOG.topic]))}
    assert {name for name in CATALOG.types if f"'{name}'" in rows["asset_events"]} == social
    told = {name for name in CATALOG.types if f"'{name}'" in rows["asset_transactions"]}
    assert set(CATALOG.types) - told - social == left_out
    assert set(re.findall(r"'([A-Z][A-Z_]+)'", view.select)) - {"INTERNAL_GAS"} <= set(CATALOG.types)
    assert {name for name in CATALOG.types if name.startswith("INTERNAL_GAS")} == set(GAS)


def test_the_guide_names_every_view() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "analysts.md").read_text(encoding="utf-8")
    assert [view.name for view in views() if f"`{view.name}" not in guide] == []


def test_the_trail_holds_what_it_can_of_every_event(scene: World) -> None:
    """What a chain told too; nothing of events that no table and no state tells of, which the view's text says."""
    seen = {
        "kind": "token", "chain": "xrpl:0", "token": "xrpl:0/nft:A", "action": "minted", "from_address": None,
        "to_address": "xrpl:0/rI", "amount": "1", "tx_hash": "AB", "block": 7, "transaction_index": 2,
        "change_index": 0,
    }  # fmt: skip
    scene.tell("assets", [
        {**case("CHAIN_OBSERVED", "card-9", 52, seen), "source": "chain:xrpl:0"},
        case("USER_ADDRESSES_CHANGED", "bob", 52, {"added": ["xrpl:0/rB2"], "removed": []}),
        case("USER_REGISTERED", "bob", 52, {"addresses": []}),  # refused: he is there
    ])  # fmt: skip
    rows = scene.rows(f"{FROM_TRAIL} at >= '2026-01-05 12:52:00' AND topic = 'assets.activity.v1'")
    told = {row["type"]: row["payload"] for row in rows}
    assert len(rows) == len(told) == 3 and json.loads(told.pop("CHAIN_OBSERVED")) == seen
    assert told == {"USER_ADDRESSES_CHANGED": "", "USER_REGISTERED": ""}
    (view,) = [view for view in views() if view.name == "compliance_audit_trail"]
    kinds = {name for table in tables(documented(by_topic()[CATALOG.topic])) for name in CATALOG.types
             if f"'{name}'" in table.where}  # fmt: skip
    assert all(name in view.doc for name in set(CATALOG.types) - kinds)


def test_steps_whose_times_go_back(scene: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """They stand as they were taken; what was released, and what is held, the books say, whatever the event names."""
    monkeypatch.setattr(lifecycle, "in_order", lambda *_: None)  # as a former release took them
    made = {"institution_id": "bank", "asset_id": "project", "holder_reference": "carl", "holder_region": "US",
            "currency": "USD", "amount": "7.00"}  # fmt: skip

    def step(day: int, before: str, after: str, **more: str) -> dict[str, Any]:
        data = {"previous_state": before, "new_state": after, "reason": "r", **more}
        return {**case("POSITION_STATE_CHANGED", "pos-3", 0, data), "at": f"2026-03-{day:02d}T00:00:00Z"}

    scene.tell("positions", [
        {**case("POSITION_CREATED", "pos-3", 0, made), "at": "2026-03-10T00:00:00Z"},
        step(20, "CREATED", "FUNDED", funder="buyer"),
        step(11, "FUNDED", "PARTIALLY_RELEASED", amount_released="2.00"),
        step(21, "PARTIALLY_RELEASED", "RELEASED"),
    ])  # fmt: skip
    sql = "SELECT state, remainder, lasted_s FROM position_timeline(position = 'pos-3')"
    day_s = 86_400
    assert [tuple(row.values()) for row in scene.rows(sql)] == [
        ("CREATED", "0", None), ("FUNDED", "7", 10 * day_s), ("PARTIALLY_RELEASED", "5", 0), ("RELEASED", "0", day_s),
    ]  # fmt: skip
    sql = "SELECT new_state, amount_released FROM compliance_state_changes(from = '2026-03-01', to = '2026-03-31')"
    assert [tuple(row.values()) for row in scene.rows(sql)] == [
        ("CREATED", None), ("PARTIALLY_RELEASED", "2"), ("FUNDED", None), ("RELEASED", "5"),
    ]  # fmt: skip
    others = Decimal(scene.rows(f"SELECT held_at_end FROM compliance_regulatory({DAY})")[0]["held_at_end"])
    for last, held in ((10, 0), (11, -2), (19, -2), (20, 5), (21, 0)):
        asked = period("2026-03-01", f"2026-03-{last}")
        (report,) = scene.rows(compliance.part("regulatory", asked).pasteable)
        (again,) = scene.rows(compliance.recomputed("regulatory", asked)["held_at_end (units)"].pasteable)
        assert Decimal(report["held_at_end"]) == Decimal(again["held"]) / 100 == others + held


def test_since_when_a_holder_has_it(scene: World) -> None:
    """Since he got it: neither a listing nor a state whose time lies before it is that; a second time counts anew."""
    states = [
        ("alice", 1, 10),
        ("bob", 2, 20),
        ("alice", 3, 40),
        ("alice", 4, 30),
        ("bob", 5, 35),
        ("bob", 6, 50),
    ]
    for owner, version, minute in states:
        scene.history._client.command(
            "INSERT INTO asset_state_versions (asset_id, version, owner_user_id, minted, last_updated_at) VALUES "
            f"('since-1', {version}, '{owner}', true, '2026-01-05 12:{minute}:00')"
        )

    def held(minute: int, asset: str) -> list[tuple[str, ...]]:
        columns = "holder, amount, formatDateTime(since, '%i', 'UTC') AS minute"
        sql = f"SELECT {columns} FROM holdings_at(time = '2026-01-05 12:{minute}:00') WHERE asset = '{asset}'"
        return sorted(tuple(row.values()) for row in scene.rows(sql))

    asset = "offchain/asset:since-1"
    assert [held(minute, asset)[0][::2] for minute in (15, 20, 34, 45, 55)] == [
        ("alice", "10"), ("bob", "20"), ("alice", "30"), ("bob", "35"), ("bob", "35"),
    ]  # fmt: skip
    assert held(59, "offchain/asset:art-1") == [("alice", "750", "16"), ("bob", "250", "16")]


def test_reports_of_a_day_join_no_other_money() -> None:
    """They read the escrows' transfers by themselves: compliance_transfers joins every event of its period."""
    texts = {view.name: view.select for view in views()}
    for name in ("compliance_regulatory", "compliance_state_changes"):
        assert (
            "compliance_transfers" not in texts[name]
            and "startsWith(t.event_id, 'app:positions." in texts[name]
        )


def test_many_holders_over_many_states(scene: World) -> None:
    """No copy of all states for each holder; who lost his units has nothing, who got them again has them since."""
    scene.history._client.command(
        "INSERT INTO asset_state_versions (asset_id, version, minted, holdings, last_updated_at) SELECT 'many', number,"
        " true, mapFromArrays(arrayMap(i -> concat('u', toString(i)), held), arrayMap(i -> '10', held)),"
        " toDateTime64('2026-01-05 12:00:00', 3, 'UTC') + number FROM (SELECT number,"
        " arrayFilter(i -> i >= 300 OR i != number % 300, range(600)) AS held FROM numbers(600))"
    )
    sql = (
        "SELECT count() AS n, countIf(holder = 'u299') AS gone, toString(anyIf(since, holder = 'u5')) AS u5,"
        " toString(anyIf(since, holder = 'u400')) AS u400 FROM holdings_at(time = '2026-01-05 13:00:00')"
        " WHERE asset = 'offchain/asset:many' SETTINGS max_memory_usage = 250000000, max_threads = 1"
    )
    (row,) = scene.rows(sql)
    assert row == {"n": 599, "gone": 0, "u5": "2026-01-05 12:05:06.000", "u400": "2026-01-05 12:00:00.000"}
