"""The read API on one scene, its answers worked out by hand: rules of access, shapes, pages, absent things."""

import asyncio
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline.api import read_models
from pipeline.api.app import make_fastapi
from pipeline.api.client import ApiError
from pipeline.api.read_clickhouse import Gather
from pipeline.api.read_models import of_cursor, to_cursor
from pipeline.api.reads import Reads, read_router
from tests.support.asking import ask, told
from tests.support.read_scene import case, play, registered
from tests.support.read_world import World, world


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("reads")) as made:
        play(made)
        yield made


def reason(scene: World, path: str, who: str, status: int) -> tuple[str, str]:
    error = read_models.Error.model_validate(told(scene, path, who, status)).error
    assert error.detail and "\n" not in error.detail
    return error.reason, error.field


def test_an_asset_as_it_is(scene: World) -> None:
    found = told(scene, "/v1/assets/card-1")
    assert read_models.Asset.model_validate(found)
    assert (found["asset_id"], found["title"], found["app_id"]) == ("card-1", "Card-1", "mintlings")
    assert (found["owner_user_id"], found["custody_type"], found["listing"]) == ("bob", "managed", None)
    assert (found["fraction_count"], found["holdings"], found["burnt"]) == (1, {}, False)
    art = told(scene, "/v1/assets/art-1")
    assert (art["owner_user_id"], art["fraction_count"], art["holdings"]) == (
        None,
        1000,
        {"alice": "750", "bob": "250"},
    )
    packed = told(scene, "/v1/assets/card-2")
    assert (
        packed["parent_container_id"] == "pack-1" and packed["last_updated_at"] == "2026-01-05T12:14:00.000Z"
    )
    assert reason(scene, "/v1/assets/none", "", 404) == ("unknown_asset", "asset_id")


def ids(body: Any) -> list[str]:
    return [one["asset_id"] for one in body["assets"]]


def test_lists_of_assets(scene: World) -> None:
    everything = ["art-1", "card-1", "card-2", "card-3", "pack-1"]
    for path, expected in {
        "/v1/assets": everything,
        "/v1/assets?owner=alice": ["art-1", "card-2", "pack-1"],  # card-1 was hers; of art-1 she holds units
        "/v1/assets?owner=bob": ["art-1", "card-1", "card-3"],
        "/v1/assets?container=pack-1": ["card-2"],
        "/v1/assets?app=mintlings&type=card&limit=5": everything,
        "/v1/assets?app=other": [],
        "/v1/assets?owner=alice&container=pack-1": ["card-2"],
        "/v1/assets?owner=nobody": [],
    }.items():
        body = told(scene, path)
        assert read_models.Assets.model_validate(body) and (ids(body), body["next"]) == (
            expected,
            body["next"],
        )
    # what changed last comes first
    assert ids(told(scene, "/v1/users/alice/assets")) == ["art-1", "pack-1", "card-2"]
    assert ids(told(scene, "/v1/users/bob/assets")) == ["art-1", "card-1", "card-3"]


@pytest.mark.parametrize("path", ["/v1/assets?", "/v1/assets?owner=alice&", "/v1/users/alice/assets?"])
def test_pages_join_to_the_list(scene: World, path: str) -> None:
    whole, found, after = ids(told(scene, path)), list[str](), ""
    for _ in range(20):
        body = told(scene, f"{path}limit=1&cursor={after}")
        found += ids(body)
        after = body["next"]
        if after is None:
            break
    assert found == whole


def test_what_happened_to_an_asset(scene: World) -> None:
    body = told(scene, "/v1/assets/card-1/transactions")
    assert read_models.Transactions.model_validate(body)
    assert [one["type"] for one in body["transactions"]] == ["MINTED", "LISTED", "SOLD"]
    sold = body["transactions"][2]
    assert (sold["at"], sold["payload"]["price"], sold["payload"]["to_user_id"]) == (
        "2026-01-05T12:12:00.000Z",
        "10.5",
        "bob",
    )
    events = told(scene, "/v1/assets/card-1/events")
    assert [(one["type"], one["user_id"]) for one in events["events"]] == [("VIEWED", "bob")]
    history = told(scene, "/v1/assets/card-1/provenance")
    assert read_models.Provenance.model_validate(history)
    assert [one["type"] for one in history["history"]] == ["MINTED", "LISTED", "VIEWED", "SOLD"]
    assert history["asset"] == told(scene, "/v1/assets/card-1")
    first = told(scene, "/v1/assets/card-1/provenance?limit=2")
    second = told(scene, f"/v1/assets/card-1/provenance?limit=60&cursor={first['next']}")
    assert first["history"] + second["history"] == history["history"] and second["next"] is None


def test_what_was_refused_or_not_judged_did_not_happen(scene: World) -> None:
    assert [one["type"] for one in told(scene, "/v1/assets/card-3/transactions")["transactions"]] == [
        "MINTED"
    ]
    scene.only_told("assets", case("VIEWED", "card-3", 50, {"surface": "feed"}, user_id="bob"))
    assert told(scene, "/v1/assets/card-3/events") == {"asset_id": "card-3", "events": [], "next": None}
    for what in ("transactions", "events", "provenance"):
        assert reason(scene, f"/v1/assets/none/{what}", "", 404) == ("unknown_asset", "asset_id")


def test_gas_is_its_user_s_or_the_scope_s(scene: World) -> None:
    expected = {
        "user_id": "bob", "currency": "XRP", "transactions": 1, "total_gas_required": "12",
        "total_gas_paid_by_user": "0", "total_gas_paid_by_treasury": "12",
    }  # fmt: skip
    for who in ("bob", "gas", "root"):
        body = told(scene, "/v1/users/bob/gas", who)
        assert body == {"gas": [expected], "next": None} and read_models.GasReport.model_validate(body)
    assert told(scene, "/v1/gas-report", "gas")["gas"] == [expected]
    assert told(scene, "/v1/users/alice/gas", "alice") == {"gas": [], "next": None}
    assert reason(scene, "/v1/users/bob/gas", "", 401)[0] == "unauthorized"
    assert reason(scene, "/v1/gas-report", "", 401)[0] == "unauthorized"
    for who, path in (
        ("alice", "/v1/users/bob/gas"),
        ("bob", "/v1/gas-report"),
        ("nobody", "/v1/users/bob/gas"),
    ):
        assert reason(scene, path, who, 403)[0] == "forbidden"


@pytest.mark.parametrize(("what", "rows"), [("transactions", "transactions"), ("provenance", "history")])
@pytest.mark.parametrize("question", ["", "?limit=60"])  # asked together with others, and alone
def test_gas_of_an_asset_is_shown_to_the_scope_alone(
    scene: World, what: str, rows: str, question: str
) -> None:
    path, gas = f"/v1/assets/card-1/{what}{question}", "INTERNAL_GAS_CHARGE"
    for who in ("gas", "root"):
        body = told(scene, path, who)
        assert body["gas_left_out"] is False and [one["type"] for one in body[rows]][-1] == gas
        for without in ("", "nobody", "bob", "positions", "service"):  # bob has paid it
            left = told(scene, path, without)
            assert left["gas_left_out"] is True and left[rows] == body[rows][:-1] and left["next"] is None
    last = told(scene, f"/v1/assets/card-1/{what}?limit={len(body[rows]) - 1}")
    assert last[rows] == body[rows][:-1] and last["next"] is None


def test_s1_s_rules_of_access(scene: World) -> None:
    """401 without a key; no positionId and not root: 400; of a position its owner or root."""
    assert reason(scene, "/v1/ledger-events?positionId=pos-1", "", 401)[0] == "unauthorized"
    for who in ("carl", "positions", "nobody"):
        assert reason(scene, "/v1/ledger-events", who, 400) == ("missing", "positionId")
    for who in ("dora", "positions", "nobody"):
        assert reason(scene, "/v1/ledger-events?positionId=pos-1", who, 403)[0] == "forbidden"
    for who in ("carl", "root"):
        assert reason(scene, "/v1/ledger-events?positionId=none", who, 404) == (
            "unknown_position",
            "positionId",
        )
    for who in ("carl", "bank", "root"):
        assert len(told(scene, "/v1/ledger-events?positionId=pos-1", who)["events"]) == 3
    assert len(told(scene, "/v1/ledger-events", "root")["events"]) == 4
    assert reason(scene, "/v1/positions/pos-1", "", 401)[0] == "unauthorized"
    assert reason(scene, "/v1/positions/pos-1", "dora", 403)[0] == "forbidden"
    assert told(scene, "/v1/positions/pos-1", "positions")["id"] == "pos-1"


def test_s1_s_ledger_events(scene: World) -> None:
    events = told(scene, "/v1/ledger-events?positionId=pos-1", "carl")["events"]
    created, funded, released = events
    assert {name: created[name] for name in created if name != "id"} == {
        "kind": "POSITION_CREATED", "positionId": "pos-1", "at": "2026-01-05T12:03:00.000Z", "previousState": None,
        "newState": "CREATED", "createdAt": "2026-01-05T12:03:00.000Z",
        "payload": {
            "institutionId": "bank", "assetId": "project", "holderReference": "carl", "currency": "USD",
            "amount": "100000.00", "externalReference": "REF-A",
        },
    }  # fmt: skip
    assert all(one["id"].startswith("led_") and read_models.LedgerEvent.model_validate(one) for one in events)
    assert (funded["previousState"], funded["newState"]) == ("CREATED", "FUNDED")
    assert released["payload"] == {
        "reason": "part",
        "metadata": {
            "amountReleased": "40000.50", "releaseDate": "2026-01-05T12:06:00.000Z", "recipient": "SUB",
            "invoiceReference": "INV-1",
        },
    }  # fmt: skip
    found, after = [], ""
    while after is not None:
        body = told(scene, f"/v1/ledger-events?limit=1&cursor={after}", "root")
        found += body["events"]
        after = body["next"]
    assert found == told(scene, "/v1/ledger-events", "root")["events"]
    assert [one["at"] for one in found] == sorted(one["at"] for one in found)


def test_a_position_and_an_authorization(scene: World) -> None:
    position = told(scene, "/v1/positions/pos-1", "carl")
    assert read_models.Position.model_validate(position)
    assert (position["state"], position["amount"], position["remainder"]) == (
        "PARTIALLY_RELEASED",
        "100000",
        "59999.5",
    )
    assert (position["holderReference"], position["funder"], position["externalReference"]) == (
        "carl",
        "buyer",
        "REF-A",
    )
    for who in ("alice", "root"):
        found = told(scene, "/v1/authorizations/auth-1", who)
        assert read_models.Authorization.model_validate(found)
        assert (found["state"], found["amount"], found["merchant"]) == ("CLAIMED", "100", "shop")
        assert found["expires_at"] == "2026-01-05T12:30:00.000Z"
    assert told(scene, "/v1/authorizations/auth-1", "shop")["user"] == "alice"
    assert reason(scene, "/v1/authorizations/auth-1", "bob", 403)[0] == "forbidden"
    assert reason(scene, "/v1/authorizations/auth-1", "", 401)[0] == "unauthorized"
    assert reason(scene, "/v1/authorizations/none", "root", 404)[0] == "unknown_authorization"


def test_s3_s_projections(scene: World) -> None:
    balances = told(scene, "/v1/accounts/acc-ana/balances", "ana")
    assert read_models.Balances.model_validate(balances)
    held = {one["token_type"]: (one["available"], one["locked"]) for one in balances["balances"]}
    assert (
        held["CREDIT"] == ("150.5", "50")
        and held["PO_SHARE"] == ("40", "0")
        and held["REPUTATION"] == ("12.5", "0")
    )
    labels = {
        one["token_type"]: (one["visible_label"], one["regulated_flag"]) for one in balances["balances"]
    }
    assert labels["CREDIT"] == ("Credit", False) and labels["GOVERNANCE"] == ("Votes", False)
    (share,) = told(scene, "/v1/accounts/acc-ana/shares", "ana")["positions"]
    assert (share["token_type"], share["amount"], share["reference_id"]) == ("PO_SHARE", "40", "po-1")
    (guarantee,) = told(scene, "/v1/accounts/acc-ana/guarantees", "ana")["positions"]
    assert (guarantee["position_type"], guarantee["amount"]) == ("escrow", "50")
    reputation = told(scene, "/v1/accounts/acc-ana/reputation", "ana")
    assert (
        read_models.Reputation.model_validate(reputation) and reputation["positions"][0]["amount"] == "12.5"
    )
    votes = told(scene, "/v1/accounts/acc-ana/votes", "ana")
    assert votes["votes"] == [
        {
            "proposal_id": "prop-1",
            "right_id": "r-1",
            "choice": "for",
            "weight": "3",
            "cast_at": "2026-01-05T12:07:00.000Z",
        }
    ]
    assert told(scene, "/v1/accounts/acc-ben/votes", "root") == {
        "account_id": "acc-ben",
        "votes": [],
        "next": None,
    }


def test_statements(scene: World) -> None:
    body = told(scene, "/v1/accounts/acc-ana/statement", "ana")
    assert read_models.Statement.model_validate(body)
    credit = [one for one in body["transfers"] if one["asset"] == "offchain/token:CREDIT"]
    assert [(one["direction"], one["amount"]) for one in credit] == [("in", "200.5"), ("self", "50")]
    buyer = told(scene, "/v1/users/buyer/transfers", "root")["transfers"]
    assert [(one["direction"], one["amount"], one["counterparty"]) for one in buyer] == [
        ("in", "15000000", ""), ("out", "10000000", "carl"),
    ]  # fmt: skip
    assert buyer[1]["event_id"].startswith("led_")
    first = told(scene, "/v1/users/buyer/transfers?limit=1", "root")
    rest = told(scene, f"/v1/users/buyer/transfers?cursor={first['next']}", "root")
    assert first["transfers"] + rest["transfers"] == buyer and rest["next"] is None


@pytest.mark.parametrize("what", ["balances", "shares", "guarantees", "reputation", "statement", "votes"])
def test_accounts_are_never_public(scene: World, what: str) -> None:
    path = f"/v1/accounts/acc-ana/{what}"
    assert reason(scene, path, "", 401)[0] == "unauthorized"
    assert reason(scene, path, "bob", 403)[0] == "forbidden"
    assert reason(scene, f"/v1/accounts/none/{what}", "root", 404) == ("unknown_account", "account_id")
    assert told(scene, path, "root")


@pytest.mark.parametrize(
    ("query", "status"),
    [("limit=0", 422), ("limit=501", 422), ("limit=x", 422), ("cursor=zzz", 400), ("owner=", 422),
     (f"cursor={to_cursor(1, 'x')}", 400), (f"cursor={to_cursor(-1)}", 400), (f"owner={'x' * 257}", 422)],
)  # fmt: skip
def test_bad_parameters_name_the_field(scene: World, query: str, status: int) -> None:
    field = query.partition("=")[0]
    (answer,) = ask(scene, f"/v1/assets?{query}")
    assert answer.status_code == status and answer.json()["error"]["field"] == field


@pytest.mark.parametrize(
    "odd", ["%27%20OR%201%3D1--", "%5C", "%00", "%F0%9F%98%80", "a%09b", "%5CN", "%7Bids%3AString%7D"]
)
def test_odd_ids_are_ids(scene: World, odd: str) -> None:
    for path in (f"/v1/assets/{odd}", f"/v1/assets/{odd}/transactions"):
        assert reason(scene, path, "", 404)[0] == "unknown_asset"
    assert told(scene, f"/v1/assets?owner={odd}")["assets"] == []
    assert told(scene, f"/v1/users/{odd}/assets")["assets"] == []
    assert reason(scene, f"/v1/positions/{odd}", "root", 404)[0] == "unknown_position"


def test_asked_at_once_as_asked_alone(scene: World) -> None:
    paths = [
        f"/v1/assets/{key}{what}"
        for key in ("card-1", "art-1", "none")
        for what in ("", "/transactions", "/provenance")
    ]
    paths += ["/v1/assets?owner=alice", "/v1/assets?owner=bob"]
    together = ask(scene, *(paths * 5))
    alone = [ask(scene, path)[0] for path in paths]
    assert [one.content for one in together] == [one.content for one in alone] * 5


def test_new_rows_neither_repeat_nor_hide_others(scene: World) -> None:
    first = told(scene, "/v1/assets/pack-1/events?limit=1")
    assert first["events"] == [] and first["next"] is None
    scene.tell(
        "assets", [case("VIEWED", "pack-1", minute, {"surface": "x"}, user_id="bob") for minute in (20, 22)]
    )
    first = told(scene, "/v1/assets/pack-1/events?limit=1")
    scene.tell(
        "assets", [case("VIEWED", "pack-1", minute, {"surface": "y"}, user_id="bob") for minute in (19, 21)]
    )
    rest = told(scene, f"/v1/assets/pack-1/events?cursor={first['next']}")
    minutes = [one["at"][14:16] for one in first["events"] + rest["events"]]
    assert minutes == ["20", "21", "22"]


def test_events_of_one_millisecond_stand_as_they_came(scene: World) -> None:
    """Ids fall while the story goes on; every page is one row."""
    price = {"price": "1", "currency": "USD"}
    asset = [
        *registered("tie-1", 40),
        case("LISTED", "tie-1", 40, price, user_id="alice"),
        case("SOLD", "tie-1", 40, {**price, "to_user_id": "bob"}),
        case("TRANSFERRED", "tie-1", 40, {"to_user_id": "alice"}, user_id="bob"),
    ]
    scene.tell("assets", [{**one, "id": f"{9 - place}" * 32} for place, one in enumerate(asset)])
    whole = ["MINTED", "LISTED", "SOLD", "TRANSFERRED"]
    for what, rows in (("provenance", "history"), ("transactions", "transactions")):
        path = f"/v1/assets/tie-1/{what}?"
        assert [one["type"] for one in told(scene, path)[rows]] == whole
        assert [one["type"] for one in _one_by_one(scene, path, rows)] == whole
    story = scene.rows("SELECT type FROM asset_history(asset = 'tie-1')")
    assert [row["type"] for row in story] == ["ASSET_REGISTERED", *whole]


def test_steps_of_one_millisecond_stand_as_they_came(scene: World) -> None:
    states = ["CREATED", "FUNDED", "PARTIALLY_RELEASED", "PARTIALLY_RELEASED", "RELEASED"]
    more = {"FUNDED": {"funder": "buyer"}, "PARTIALLY_RELEASED": {"amount_released": "1", "recipient": "SUB"}}
    data = {
        "institution_id": "bank", "asset_id": "project", "holder_reference": "zoe", "holder_region": "US",
        "currency": "USD", "amount": "5",
    }  # fmt: skip
    events = [case("POSITION_CREATED", "tie", 41, data)]
    for before, after in pairwise(states):
        said = {"previous_state": before, "new_state": after, "reason": "r", **more.get(after, {})}
        events.append(case("POSITION_STATE_CHANGED", "tie", 41, said))
    scene.tell("positions", [{**one, "id": f"led_{9 - place}"} for place, one in enumerate(events)])
    path = "/v1/ledger-events?positionId=tie&"
    steps = told(scene, path, "root")["events"]
    assert [one["newState"] for one in steps] == states and _one_by_one(scene, path, "events") == steps
    moved = told(scene, "/v1/users/zoe/transfers?", "root")["transfers"]
    assert [one["amount"] for one in moved] == ["500", "100", "100", "300"]
    assert _one_by_one(scene, "/v1/users/zoe/transfers?", "transfers") == moved


def _one_by_one(scene: World, path: str, rows: str) -> list[Any]:
    found, after = list[Any](), ""
    while after is not None and len(found) < 20:
        body = told(scene, f"{path}limit=1&cursor={after}", "root")
        found += body[rows]
        after = body["next"]
    return found


@pytest.mark.parametrize(
    "path", ["/v1/assets/card-1/provenance", "/v1/ledger-events", "/v1/users/buyer/transfers"]
)
def test_a_cursor_of_a_former_release_is_refused_by_its_name(scene: World, path: str) -> None:
    assert reason(scene, f"{path}?cursor={to_cursor(1, 'x')}", "root", 400) == ("bad_cursor", "cursor")


def test_answers_are_what_the_document_says(scene: World) -> None:
    document = make_fastapi([read_router(Reads())]).openapi()
    assert len(document["paths"]) == 18
    for path, operations in document["paths"].items():
        assert "get" in operations and path.startswith("/v1/")
        assert {"200", "503"} <= set(operations["get"]["responses"]) and operations["get"]["description"]


def test_without_a_clickhouse_one_clear_line(tmp_path: Path) -> None:
    """Nowhere; in an up.json; one that does not answer."""

    async def asked(reads: Reads) -> ApiError:
        with pytest.raises(ApiError) as refused:
            await reads.assets.asset("x")
        await reads.close()
        return refused.value

    nowhere = asyncio.run(asked(Reads("", tmp_path)))
    assert (nowhere.status, nowhere.reason) == (
        503,
        "no_history",
    ) and "TIDEBOOK_CLICKHOUSE_URL" in nowhere.detail
    (tmp_path / "up.json").write_bytes(
        orjson.dumps({"pid": os.getpid(), "clickhouse_url": "http://127.0.0.1:9"})
    )
    away = asyncio.run(asked(Reads("", tmp_path)))
    assert (away.status, away.reason) == (503, "history_unavailable") and "127.0.0.1:9" in away.detail


def test_up_json_is_found(scene: World, tmp_path: Path) -> None:
    (tmp_path / "up.json").write_bytes(orjson.dumps({"pid": os.getpid(), "clickhouse_url": scene.port.url}))

    async def asked() -> Any:
        reads = Reads("", tmp_path)
        found = await reads.assets.asset("card-1")
        await reads.close()
        return found

    assert asyncio.run(asked())["owner_user_id"] == "bob"


def test_a_gather_asks_once_and_bounded() -> None:
    asked: list[list[str]] = []

    async def ask_for(keys: Any) -> dict[str, str]:
        asked.append(list(keys))
        await asyncio.sleep(0.01)
        if "bad" in keys:
            raise ApiError(503, "away", "away")
        return {key: key.upper() for key in keys if key != "none"}

    async def main() -> None:
        gather = Gather(ask_for, wait_s=0.001, most=3, parallel=1)
        keys = ["a", "b", "a", "none", "c", "d", "a"]
        assert await asyncio.gather(*map(gather.get, keys)) == ["A", "B", "A", None, "C", "D", "A"]
        assert asked == [["a", "b", "none"], ["c", "d"]]
        failed = await asyncio.gather(*map(gather.get, ["bad", "e"]), return_exceptions=True)
        assert all(isinstance(one, ApiError) for one in failed)
        assert await gather.get("e") == "E"

    asyncio.run(main())


def test_cursors() -> None:
    assert of_cursor(to_cursor(5, "ü"), int, str) == (5, "ü") and of_cursor(None, int) is None
    for wrong in ("%%%", "W10", to_cursor(1), to_cursor("a", 1), to_cursor(1 << 60, "a")):
        with pytest.raises(ApiError):
            of_cursor(wrong, int, str)
