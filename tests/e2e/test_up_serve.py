"""`tidebook up` with `serve`: an application's assets by HTTP, beside a chain whose transactions complete them.

A recorded node plays the chain up to the ledger before the one in which an NFT leaves its issuer, who is the
application's treasury; the application registers the NFT's asset, mints it in managed custody and asks for its
ONCHAIN_SEND; then the chain goes on, and its own transaction completes it. Meanwhile processes are killed; then
everything is, and starts again on a broker that knows nothing.
"""

from __future__ import annotations

import concurrent.futures
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.ingest.apps_config import read_apps
from tests.support.recorded import recorded_blocks
from tests.support.up_life import Life, Node

pytestmark = pytest.mark.xdist_group("demo")

CHAIN = "xrpl:recorded-7D5E37E6"  # after the hash of its first ledger
ISSUER = "r3tsSV8cfp3Ku9DJoT13vng3QodY4fD6uV"
BUYER = "rDVPJYYrEDXHh1iH2RpGWanXdiC1hY8di"
NFT = "0009000056702189A0178930A767374B33E794D68EE6397C93E8B1E100000028"
TOKEN = f"{CHAIN}/nft:{NFT}"
BEFORE, SENT, END = 36, 37, 60  # ledgers: the NFT's transfer is in SENT, and it moves no more
APPS = f"""
[apps.cards]
title = "Cards"
issuers = ["{CHAIN}/{ISSUER}"]
treasuries = ["{CHAIN}/{ISSUER}"]
"""


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node(BEFORE)
    yield made
    made.stop()


@pytest.fixture
def life(tmp_path, node) -> Iterator[Life]:
    made = Life(tmp_path, node, APPS)
    yield made
    made.close()


def chain_hash() -> str:
    """Hash of the chain's own transaction that moves the NFT to the buyer."""
    block = next(block for block in recorded_blocks() if block["ledger_index"] == SENT)
    return str(
        next(tx["hash"] for tx in block["transactions"] if any(n["nft_id"] == NFT for n in tx["nft_changes"]))
    )


def observed_until(life: Life, ledger: int) -> dict[str, Any]:
    """What the chain says to the application up to a ledger: event id → record, by the pure function."""
    from pipeline.domain.applications.observe import ledger_observations

    apps = read_apps(life.config)
    return {
        emit.record["event_id"]: emit.record
        for block in recorded_blocks(CHAIN)
        if block["ledger_index"] <= ledger
        for emit in ledger_observations(block, apps)
    }


def story(tx_hash: str) -> list[tuple[str, dict[str, Any]]]:
    """What the application says, in order."""
    asset = {"asset_type": "card", "title": "Card 28", "token": TOKEN, "custody_type": "managed"}
    send = {"tx_hash": tx_hash, "to_address": f"{CHAIN}/{BUYER}"}
    return [
        ("u1", {"type": "USER_REGISTERED", "asset_id": "alice", "data": {"addresses": []}}),
        ("u2", {"type": "USER_REGISTERED", "asset_id": "bob", "data": {"addresses": [f"{CHAIN}/{BUYER}"]}}),
        ("a1", {"type": "ASSET_REGISTERED", "asset_id": "card-28", "app_id": "cards", "data": asset}),
        ("m1", {"type": "MINTED", "asset_id": "card-28", "app_id": "cards", "data": {"to_user_id": "alice"}}),
        (
            "s1",
            {
                "type": "ONCHAIN_SEND",
                "asset_id": "card-28",
                "app_id": "cards",
                "user_id": "alice",
                "data": send,
            },
        ),
    ]


def test_an_application_and_its_chain_through_kills_and_a_broker_that_forgets(life, node):
    _ = life.key
    life.begin()
    life.until(lambda: life.state("app", "cards"), "serve registers the application")
    life.until(lambda: life.state("token", TOKEN), "the token on the chain")
    accepted = []
    for key, body in story(chain_hash()):
        accepted.append(life.post(key, body))
        life.until(lambda: life.decided(accepted[-1:])[accepted[-1]], f"{body['type']} applied")
    asset = life.state("asset", "card-28")
    assert (asset["owner_user_id"], asset["custody_type"]) == ("alice", "managed")
    assert asset["onchain_holder"] == f"{CHAIN}/{ISSUER}" and asset["pending"]["tx_hash"] == chain_hash()

    # many users at once, each request as often as it takes, while the intake and the books die
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        posts = [
            pool.submit(
                life.post, f"many-{n}", {"type": "USER_REGISTERED", "asset_id": f"user-{n}", "data": {}}
            )
            for n in range(200)
        ]
        life.kill("serve")
        life.kill("work", "books")
        accepted += [one.result() for one in posts]
    node.advance_to(SENT)
    life.until(
        lambda: life.state("asset", "card-28")["custody_type"] == "onchain", "the chain's own transaction"
    )
    node.advance_to(END)
    observed = observed_until(life, END)
    life.until(lambda: None not in life.decided([*accepted, *observed]).values(), "everything decided")
    asset = life.state("asset", "card-28")
    assert (asset["owner_user_id"], asset["pending"], asset["onchain_holder"]) == (
        "bob",
        None,
        f"{CHAIN}/{BUYER}",
    )
    assert asset["difference"] is None

    before, decided = life.states(), life.decided([*accepted, *observed])
    assert all(decided.values())
    life.end(signal.SIGKILL)  # the broker's memory goes with it
    life.begin()
    again = life.post(*story(chain_hash())[0])
    assert again == accepted[0]  # the same request has the same answer
    last = life.post("late", {"type": "USER_REGISTERED", "asset_id": "late", "data": {}})
    life.until(lambda: life.decided([last])[last], "what came after")
    lines = len(said(life))
    life.until(lambda: all_applied(life, lines + 1), "everything applied")
    life.until(lambda: in_history(life, last), "the last event in the history")
    assert life.end(signal.SIGTERM) == 0
    after = life.states()
    assert after.pop(("user", "late"))
    assert after == before
    assert life.decided([*accepted, *observed]) == decided
    check_history(life, [*accepted, last], observed)


def said(life: Life) -> list[str]:
    return (life.folder / "up.log").read_text().splitlines()


def all_applied(life: Life, after: int) -> bool:
    """Roles have applied everything that is on the broker, as `up` itself says it after so many lines."""
    lines = said(life)[after:]
    return any("books 0, assets 0, history 0" in line and f"ledger {END} " in line for line in lines)


def in_history(life: Life, event_id: str) -> bool:
    """Asked of the history role itself, where `serve` asks it too."""
    return life.query(f"SELECT count() AS n FROM asset_activity WHERE event_id = '{event_id}'") == [{"n": 1}]


def check_history(life: Life, accepted: list[str], observed: dict[str, Any]) -> None:
    """ClickHouse has every accepted event and every fact of the chain once, its outcome once, each state's versions."""
    rows = life.rows("SELECT event_id, type, count() AS n FROM asset_activity GROUP BY event_id, type")
    assert all(int(row["n"]) == 1 for row in rows)
    types = {row["event_id"]: row["type"] for row in rows}
    assert set(accepted) | set(observed) <= types.keys()
    rest = {types[id] for id in types.keys() - set(accepted) - set(observed)}
    assert rest == {"APP_REGISTERED"}
    outcomes = life.rows(
        "SELECT event_id, status, count() AS n FROM event_outcomes GROUP BY event_id, status"
    )
    assert {row["event_id"]: row["status"] for row in outcomes} == dict.fromkeys(types, "applied")
    assert all(int(row["n"]) == 1 for row in outcomes) and len(outcomes) == len(types)
    versions = life.rows(
        "SELECT kind, id, count() AS n, uniqExact(version) AS versions, max(version) AS last FROM application_states "
        "WHERE domain = 'assets' GROUP BY kind, id"
    )
    assert all(int(row["n"]) == int(row["versions"]) == int(row["last"]) for row in versions)
    assert life.states().keys() <= {(row["kind"], row["id"]) for row in versions}
