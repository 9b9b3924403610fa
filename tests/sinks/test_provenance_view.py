"""The view `provenance` on one scene: an asset of an application and its token on a chain, every row told by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from pipeline.domain.verdict import Tally, Watermark
from pipeline.reports.provenance import known
from sinks.sink import HistoryMessage
from sinks.views import views
from tests.support.history import ASSETS, LEDGERS, ledger
from tests.support.read_scene import case, play, registered
from tests.support.read_world import World, world

pytestmark = pytest.mark.xdist_group("provenance")  # one fixture for them all

CHAIN = "xrpl:0"
TOKEN = f"{CHAIN}/nft:{'0008' + 'A' * 60}"
MINT_TX, SEND_TX, FEE_TX, LAST_TX = "1" * 64, "2" * 64, "4" * 64, "5" * 64
VERDICTS = "chains.verdicts.v1"
COLUMNS = "source, about, type, action, from_owner, to_owner"


def ms(minute: int) -> int:
    return int(datetime.fromisoformat(f"2026-01-05T12:{minute:02d}:00+00:00").timestamp() * 1000)


def observed(minute: int, tx: str, block: int, source: str | None, target: str) -> dict[str, Any]:
    data = {
        "kind": "token", "chain": CHAIN, "token": TOKEN, "action": "transferred" if source else "minted",
        "from_address": source, "to_address": target, "amount": "1", "tx_hash": tx, "block": block,
        "transaction_index": 0, "change_index": 0,
    }  # fmt: skip
    return {**case("CHAIN_OBSERVED", TOKEN, minute, data), "source": f"chain:{CHAIN}"}


GEM = [
    *registered("gem", 21, token=TOKEN),
    observed(22, MINT_TX, 5, None, f"{CHAIN}/rT"),
    *registered("box", 23),
    case("VIEWED", "box", 24, {"surface": "feed"}, user_id="bob"),  # before gem was in it
    case("PACK_CREATED", "box", 25, {"contents": ["gem"]}, user_id="alice"),
    case("LISTED", "box", 26, {"price": "3", "currency": "USD"}, user_id="alice"),
    case("SOLD", "box", 27, {"to_user_id": "bob", "price": "3", "currency": "USD"}),
    case("TRANSFERRED", "gem", 28, {"to_user_id": "alice"}, user_id="bob"),  # refused: it is in the box
    case("PACK_OPENED", "box", 29, {}, user_id="bob"),
    case("VIEWED", "box", 30, {"surface": "feed"}, user_id="alice"),  # gem is not in it any more
    case("INTERNAL_GAS_COVERAGE", "gem", 31, {
        "payer_user_id": "bob", "currency": "XRP", "gas_required": "9", "gas_paid_by_user": "0",
        "gas_paid_by_treasury": "9", "treasury_tx_hash": FEE_TX,
    }),
    case("ONCHAIN_SEND", "gem", 32, {"to_address": f"{CHAIN}/rbob", "tx_hash": SEND_TX}, user_id="bob"),
    observed(33, SEND_TX, 6, f"{CHAIN}/rT", f"{CHAIN}/rbob"),  # in custody of the chain from now on, bob's as before
    observed(34, LAST_TX, 7, f"{CHAIN}/rbob", f"{CHAIN}/ralice"),
]  # fmt: skip

BACK = [
    *registered("back", 40),
    case("TRANSFERRED", "back", 50, {"to_user_id": "bob"}, user_id="alice"),
    case("TRANSFERRED", "back", 45, {"to_user_id": "alice"}, user_id="bob"),  # by a clock that is slow
]  # fmt: skip

STORY = [
    ("asset_registry", "gem", "ASSET_REGISTERED", "", None, "alice"),
    ("asset_transactions", "gem", "MINTED", "minted", None, "alice"),
    ("asset_changes", TOKEN, "NFTokenMint", "minted", None, "rT"),
    ("asset_transactions", "box", "PACK_CREATED", "", None, None),
    ("asset_transactions", "box", "LISTED", "", None, None),
    ("asset_transactions", "box", "SOLD", "transferred", "alice", "bob"),
    ("asset_transactions", "box", "PACK_OPENED", "", None, None),
    ("asset_transactions", "gem", "INTERNAL_GAS_COVERAGE", "", "bob", None),
    ("asset_transactions", "gem", "ONCHAIN_SEND", "", None, f"{CHAIN}/rbob"),
    ("asset_changes", TOKEN, "NFTokenAcceptOffer", "transferred", "rT", "rbob"),
    ("asset_changes", TOKEN, "Payment", "transferred", "rbob", "ralice"),
    ("asset_chain_observations", TOKEN, "CHAIN_OBSERVED", "transferred", "bob", "alice"),
]


def told_by_chain(
    block: int, minute: int, tx: str, moved: tuple[str, str, str | None, str]
) -> dict[str, Any]:
    type, action, source, target = moved
    change = {
        "transaction_index": 0, "change_index": 0, "hash": tx, "type": type, "action": action, "from_owner": source,
        "to_owner": target, "amount": "1", "change": "0", "locked": "0", "uri": None,
    }  # fmt: skip
    return {
        "asset": TOKEN, "kind": "nft", "chain": CHAIN, "chain_number": 1, "block": block,
        "block_hash": f"{block:064X}", "chunk": 0, "time": ms(minute), "changes": [change],
    }  # fmt: skip


def chain_of(upto: int) -> list[dict[str, Any]]:
    return [ledger(index, chain=CHAIN, run=4, close_time=ms(18 + index)) for index in range(4, upto + 1)]


def verdicts(ledgers: list[dict[str, Any]], signed: list[int]) -> list[dict[str, Any]]:
    mark = Watermark(CHAIN, 1, "full")
    holds = [{"name": "header_hash", "outcome": "holds", "detail": ""}]
    return [
        dict(verdict)
        for one, count in zip(ledgers, signed, strict=True)
        for verdict in mark.block(one, "node", holds, Tally([], 4, count))  # type: ignore[arg-type]
    ]


def put(scene: World, topic: str, records: list[dict[str, Any]], first: int = 0) -> None:
    encode = scene.codec.encode
    scene.put([HistoryMessage(topic, 1, first + at, 0, encode(topic, of)) for at, of in enumerate(records)])


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("provenance")) as made:
        play(made)
        made.tell("assets", GEM + BACK)
        put(made, LEDGERS, chain_of(6))
        put(made, ASSETS, [
            told_by_chain(5, 22, MINT_TX, ("NFTokenMint", "minted", None, "rT")),
            told_by_chain(6, 33, SEND_TX, ("NFTokenAcceptOffer", "transferred", "rT", "rbob")),
            told_by_chain(7, 34, LAST_TX, ("Payment", "transferred", "rbob", "ralice")),
        ])  # fmt: skip
        yield made


def story(scene: World, asset: str, columns: str = COLUMNS) -> list[tuple[Any, ...]]:
    rows = scene.rows(f"SELECT {columns} FROM provenance(asset = '{asset}')")
    return [tuple(row.values()) for row in rows]


def test_an_asset_and_its_token_have_one_story(scene: World) -> None:
    """Observations are told where they changed whose the asset is; the others only repeat the chain."""
    assert story(scene, "gem") == STORY
    assert story(scene, TOKEN) == story(scene, "offchain/asset:gem") == STORY


def test_each_row_leads_to_topic_transaction_and_ledger(scene: World) -> None:
    columns = "type, hash, block_hash, _topic, event_id, source"
    places = {row[0]: row[1:] for row in story(scene, "gem", columns)}
    minted, sent = "0" * 63 + "5", "0" * 63 + "6"
    assert places["NFTokenMint"][:3] == (MINT_TX, minted, ASSETS)
    assert places["ONCHAIN_SEND"][:3] == (
        SEND_TX,
        sent,
        "assets.activity.v1",
    )  # the chain's row lends its hash
    assert places["NFTokenAcceptOffer"][:3] == (SEND_TX, sent, ASSETS)
    assert places["CHAIN_OBSERVED"][:3] == (LAST_TX, "0" * 63 + "7", "assets.activity.v1")
    assert places["INTERNAL_GAS_COVERAGE"][0] == FEE_TX
    applied = {row["event_id"] for row in scene.rows("SELECT event_id FROM applied_events")}
    assert {row[3] for row in places.values() if row[4] == "asset_transactions"} <= applied
    told = "SELECT a._offset, a.tx_hash FROM asset_transactions AS a WHERE event_id = '{}'"
    (offset,) = [row[0] for row in story(scene, "gem", "_offset, type") if row[1] == "ONCHAIN_SEND"]
    assert scene.rows(told.format(places["ONCHAIN_SEND"][3])) == [{"_offset": offset, "tx_hash": SEND_TX}]


def test_a_refused_event_is_in_no_story(scene: World) -> None:
    assert not [row for row in story(scene, "gem") if row[2] == "TRANSFERRED"]
    assert [row[2] for row in story(scene, "card-3")] == ["ASSET_REGISTERED", "MINTED"]


def test_fractions_social_events_and_unknown_assets(scene: World) -> None:
    assert story(scene, "art-1", "type, action, from_owner, to_owner, amount, change") == [
        ("ASSET_REGISTERED", "", None, "alice", "", ""),
        ("MINTED", "minted", None, "alice", "1", "1"),
        ("FRACTIONED", "changed", "alice", "alice", "1000", "999"),
        ("TRANSFERRED", "transferred", "alice", "bob", "1000", "250"),
    ]
    assert ("asset_events", "card-1", "VIEWED") in story(scene, "card-1", "source, about, type")
    assert story(scene, "nothing") == story(scene, f"{CHAIN}/nft:{'F' * 64}") == []


def test_what_follows_is_told_after_what_it_follows(scene: World) -> None:
    """Clocks of applications differ: a change stands behind the one that it follows, and the state is never older."""
    given = [
        ("TRANSFERRED", "alice", "bob", ms(50)),
        ("TRANSFERRED", "bob", "alice", ms(45)),
    ]
    columns = "type, from_owner, to_owner, toUnixTimestamp64Milli(time)"
    assert story(scene, "back", columns)[-2:] == given
    states = "SELECT owner_user_id, toUnixTimestamp64Milli(last_updated_at) AS at FROM asset_states"
    assert scene.rows(f"{states} WHERE asset_id = 'back'") == [{"owner_user_id": "alice", "at": ms(50)}]


def test_nothing_shows_twice_with_or_without_final(scene: World) -> None:
    """The second net's case: the same rows inserted once more."""
    before = story(scene, "gem", "*")
    for table in ("asset_transactions", "asset_changes", "asset_registry", "asset_events", "applied_events",
                  "asset_state_versions", "application_states", "verdicts"):  # fmt: skip
        scene.history._client.command(f"INSERT INTO {table} SELECT * FROM {table}")
    sql = "SELECT * FROM provenance(asset = 'gem') SETTINGS final = {}"
    for final in (0, 1):
        assert [tuple(row.values()) for row in scene.rows(sql.format(final))] == before


def verified(scene: World) -> dict[str, int]:
    return {row[0]: row[1] for row in story(scene, TOKEN, "type, verified")}


def test_verified_says_the_block_and_all_before_it(scene: World) -> None:
    """Nothing without verdicts; 4 and 5 with a quorum; 6 waits for one; 7's proves it; another hash proves nothing."""
    chain = ("NFTokenMint", "NFTokenAcceptOffer")
    assert [verified(scene)[name] for name in chain] == [0, 0] and verified(scene)["MINTED"] == 1
    ledgers = chain_of(7)
    wrong = verdicts([{**one, "ledger_hash": "F" * 64} for one in ledgers[:3]], [4, 4, 4])
    put(scene, VERDICTS, wrong)
    assert [verified(scene)[name] for name in chain] == [0, 0]
    put(scene, VERDICTS, verdicts(ledgers[:3], [4, 4, 3]), 100)
    assert [verified(scene)[name] for name in chain] == [1, 0]
    assert scene.rows("SELECT verified_up_to FROM verified_up_to") == [{"verified_up_to": 5}]
    put(scene, LEDGERS, ledgers[3:], 100)
    put(scene, VERDICTS, verdicts(ledgers, [4, 4, 3, 4])[3:], 200)
    assert [verified(scene)[name] for name in chain] == [1, 1]
    assert scene.rows("SELECT verified_up_to FROM verified_up_to") == [{"verified_up_to": 7}]


def test_verified_is_one_rule() -> None:
    """The two stories judge a block by the same words."""
    words = re.compile(r"token_blocks AS \(.*?\n  \)|\(chain_number, block, .*?AS verified", re.DOTALL)
    texts = (view.select for view in views() if view.name in ("provenance", "chain_provenance"))
    one, other = ([re.sub(r"\bs\.|\)+ AS verified", "", rule) for rule in words.findall(of)] for of in texts)
    assert one == other and len(one) == 2 and "FROM verdicts" in one[1]


def test_the_chains_part_is_the_same_alone(scene: World) -> None:
    """Every column of it; and which names an application knows, so that the whole is needed."""
    alone = scene.rows(f"SELECT * FROM chain_provenance(asset = '{TOKEN}')")
    whole = scene.rows(f"SELECT * FROM provenance(asset = '{TOKEN}')")
    assert alone == [row for row in whole if row["source"] == "asset_changes"] and len(alone) == 3
    names = ("gem", "offchain/asset:gem", TOKEN, "nothing", f"{CHAIN}/nft:{'F' * 64}")
    asked = (known(name) for name in names)
    found = [[row["known"] for row in scene.rows(of.pasteable)] for of in asked]
    assert found == [[1], [1], [1], [], []]


def test_every_table_is_read_by_its_key(scene: World) -> None:
    """No branch reads a table without a condition on its primary key."""
    for asset in ("gem", TOKEN):
        plan = [
            row["explain"]
            for row in scene.rows(f"EXPLAIN indexes = 1 SELECT * FROM provenance(asset = '{asset}')")
        ]
        text = "\n".join(plan)
        reads = text.split("ReadFromMergeTree")[1:]
        assert len(reads) >= 5
        assert all(
            "PrimaryKey" in read and "Condition: true" not in read.split("PrimaryKey")[1] for read in reads
        )


def test_a_pack_whose_clock_is_slow(scene: World) -> None:
    """What befell the pack while the asset was in it is told by the order of the topic, whatever its times say."""
    scene.tell("assets", [
        *registered("crate", 20),
        *registered("coin", 50),
        case("VIEWED", "crate", 55, {"surface": "feed"}, user_id="bob"),  # before coin was in it
        case("PACK_CREATED", "crate", 40, {"contents": ["coin"]}, user_id="alice"),
        case("TRANSFERRED", "crate", 45, {"to_user_id": "bob"}, user_id="alice"),
        case("LISTED", "crate", 46, {"price": "1", "currency": "USD"}, user_id="bob"),
        case("VIEWED", "crate", 41, {"surface": "feed"}, user_id="alice"),
        case("DELISTED", "crate", 46, {}, user_id="bob"),
        case("PACK_OPENED", "crate", 47, {}, user_id="bob"),
        case("VIEWED", "crate", 48, {"surface": "feed"}, user_id="alice"),  # coin is not in it any more
    ])  # fmt: skip
    told = sorted(row for row in story(scene, "coin", "about, type"))
    assert told == [
        ("coin", "ASSET_REGISTERED"), ("coin", "MINTED"), ("crate", "DELISTED"), ("crate", "LISTED"),
        ("crate", "PACK_CREATED"), ("crate", "PACK_OPENED"), ("crate", "TRANSFERRED"), ("crate", "VIEWED"),
    ]  # fmt: skip
