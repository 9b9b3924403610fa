"""The pages' HTML over a real `serve`, its answers worked out by hand; no browser."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import closing
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.api.app import make_fastapi
from pipeline.api.keys import Keys
from pipeline.api.reads import Reads
from pipeline.domain.changes import asset_changes
from pipeline.web.pages import HEADERS, add_pages
from tests.support.recorded import recorded_blocks
from tests.support.serving import Served
from tests.support.web_scene import CHAIN, EVIL, MPT, NFT, TOKEN, VERIFIED

pytestmark = pytest.mark.xdist_group("web")
LOOKS = {"Accept": "text/html"}
BLOCKS = list(recorded_blocks(CHAIN))
FEES = sum(tx["fee"] for block in BLOCKS for tx in block["transactions"])


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, headers=LOOKS, timeout=120) as opened:
        yield opened


def text(page: httpx.Response) -> str:
    """What a reader without styles sees, one line."""
    shown = re.sub(r"<(script|style|defs)\b.*?</\1>|<[^>]*>", " ", page.text, flags=re.DOTALL)
    return " ".join(unescape(shown).split())


def hand_overs() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(block, change) of the token, from the recording."""
    return [
        (block, dict(change))
        for block in BLOCKS
        for record in asset_changes(block)
        if record["asset"] == TOKEN
        for change in record["changes"]
    ]


def test_every_page_forbids_what_is_not_ours(client: httpx.Client) -> None:
    paths = (
        "/",
        "/gas",
        f"/assets/{TOKEN}",
        "/search?q=nothing",
        "/nowhere",
        "/static/style.css",
        "/static/page.js",
    )
    for path in paths:
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert (
            policy == HEADERS["Content-Security-Policy"] and "unsafe" not in policy and "http" not in policy
        )
        assert answer.headers["x-content-type-options"] == "nosniff"
        for place in re.findall(r'(?:src|href|action)="([^"]*)"', answer.text):
            assert place.startswith(("/", "#", "?")), f"{path} leads outside: {place}"


def test_the_story_of_a_token(client: httpx.Client) -> None:
    """Minted, then passed on five times: each row with its transaction, block hash and place in the topic."""
    page = client.get(f"/assets/{TOKEN}")
    assert page.status_code == 200
    told = hand_overs()
    assert len(told) == 6
    assert text(client.get(f"/assets/{CHAIN}/nft:{NFT.lower()}")) == text(page)
    shown, html = text(page), page.text
    for block, change in told:
        assert f'href="/transactions/{change["hash"]}"' in html and block["ledger_hash"] in html
    assert html.count("asset_changes, <code") == html.count("assets.changes.v1 [3] @ ") == len(told)
    verified = [block for block, _ in told if block["ledger_index"] <= VERIFIED]
    assert html.count('class="chip verified"') == len(verified) == 5 and html.count('class="chip final"') == 1
    assert html.count('class="chip applied"') == 2, "registered and minted in the application"
    owners = [change["to_owner"] for _, change in told]
    nodes = re.findall(r'<text class="name[^"]*"[^>]*>([^<]*)', html)
    assert nodes[:2] == ["new", "alice"] and len(nodes) == len(set(owners)) + 2
    assert f"{owners[-1][:13]}…{owners[-1][-8:]} (now)" in nodes
    assert f"Held on the chain by {owners[-1]}" in shown
    assert len(re.findall(r'<path class="arc (?:mint|move)', html)) == 7
    assert "Stands for Coin-1 , owned by alice" in shown
    assert html.count('class="arc move back"') == 1


def test_a_burnt_token_is_nobodys(client: httpx.Client) -> None:
    last = {
        record["asset"]: record["changes"][-1]
        for block in BLOCKS
        for record in asset_changes(block)
        if "/nft:" in record["asset"]
    }
    burnt = next(asset for asset, change in last.items() if change["action"] == "burnt")
    page = client.get(f"/assets/{burnt}")
    assert "Held on the chain by nobody: it is burnt" in text(page) and "(now)" not in page.text
    assert 'class="arc burn"' in page.text


def test_the_story_of_an_asset_that_was_in_a_pack(client: httpx.Client) -> None:
    """Registered, minted, packed, loose again, given to bob."""
    page = client.get("/assets/card-2")
    titles = re.findall(r"<summary>.*?<strong>(.*?)</strong>", page.text)
    assert titles == ["Registered", "Minted", "Packed", "Pack opened", "Changed hands"]
    assert re.findall(r'<path class="arc (\w+)', page.text) == ["mint", "pack", "pack", "move"]
    assert page.text.count('<rect class="node container"') == 1 and 'href="/owners/pack-1"' not in page.text
    shown = text(page)
    assert "Owned by bob" in shown and "Of the pack pack-1" in shown
    assert "asset_transactions, assets.activity.v1 [0] @ " in shown
    assert re.findall(r"@ (\d+)", shown) == sorted(re.findall(r"@ (\d+)", shown), key=int)


def test_gas_stands_in_a_story_for_the_scope_alone(client: httpx.Client, served: Served) -> None:
    """bob's 12 drops for card-1: with gas:read; without, the page says that such rows are left out."""
    said = "Rows of gas are left out"
    for key, shown in (("gas", True), ("bob", False), ("", False)):
        headers = {"Authorization": f"Bearer {served.keys[key]}"} if key else {}
        page = client.get("/assets/card-1", headers=headers)
        assert page.status_code == 200
        assert ("Gas charged" in page.text, said in page.text) == (shown, not shown), key
        assert "<strong>Sold</strong>" in page.text


def test_a_transaction(client: httpx.Client) -> None:
    block, change = hand_overs()[1]
    (transaction,) = (one for one in block["transactions"] if one["hash"] == change["hash"])
    for name in (change["hash"], change["hash"].lower()):
        shown = text(client.get(f"/transactions/{name}"))
        assert f"Block hash {block['ledger_hash']}" in shown and f"Fee {transaction['fee']}" in shown
        assert f"Type {transaction['type']}" in shown and "xrpl.ledgers.v1 [3] @ 33" in shown


def test_search_leads_there(client: httpx.Client) -> None:
    change = hand_overs()[0][1]
    leads = {
        "card-1": "/assets/card-1",
        TOKEN: f"/assets/{TOKEN}",
        NFT: f"/assets/{TOKEN}",
        NFT.lower(): f"/assets/{TOKEN}",
        f"nft:{NFT.lower()}": f"/assets/{TOKEN}",
        f"{CHAIN}/nft:{NFT.lower()}": f"/assets/{TOKEN}",
        MPT.rpartition(":")[2]: f"/assets/{MPT}",
        f"{CHAIN}/XRP": f"/holders/{CHAIN}/XRP",
        " bob ": "/owners/bob",
        change["to_owner"]: f"/owners/{change['to_owner']}",
        change["hash"]: f"/transactions/{change['hash']}",
        change["hash"].lower(): f"/transactions/{change['hash']}",
    }
    for asked, place in leads.items():
        answer = client.get("/search", params={"q": asked})
        assert (answer.status_code, answer.headers.get("location")) == (303, place), asked


@pytest.mark.parametrize(
    "asked", ["nothing-of-that-name", "0" * 64, "<b>", "'; DROP TABLE x", "x" * 512, "a\\b%"]
)
def test_search_without_a_find_says_what_to_do(client: httpx.Client, asked: str) -> None:
    answer = client.get("/search", params={"q": asked})
    assert answer.status_code == 404 and "Nothing found" in answer.text and "<b>" not in answer.text


def test_freshness(client: httpx.Client) -> None:
    shown = text(client.get("/"))
    last = BLOCKS[-1]["ledger_index"]
    assert re.search(rf"{CHAIN} 1 {last} 2026-\S+ \S+ UTC .*? {VERIFIED} {last - VERIFIED} ", shown)
    assert re.search(rf"xrpl\.ledgers\.v1 3 {len(BLOCKS) - 1} {last} ", shown)


def test_the_last_transactions(client: httpx.Client) -> None:
    """Newest first, each a link."""
    page = client.get("/").text
    told = [
        (tx["hash"], f"{CHAIN} {block['ledger_index']} ", f" {tx['type']} {tx['result']} {tx['account']} ")
        for block in reversed(BLOCKS)
        for tx in reversed(block["transactions"])
    ][:8]
    shown = text(client.get("/")).partition("What happened last")[2].partition("How far the tables are")[0]
    assert [hash for hash, _, _ in told] == re.findall(r"\b[0-9A-F]{64}\b", shown)
    for hash, place, what in told:
        assert f'href="/transactions/{hash}"' in page
        assert re.search(rf"{hash} {place}2026-\S+ \S+ UTC{what}", shown), (hash, shown)


def test_holders_of_an_issuance(client: httpx.Client) -> None:
    """Balances after the last change of each holder in the recording; the chart's table has the same count."""
    held: dict[str, int] = {}
    for block in BLOCKS:
        for tx in block["transactions"]:
            for change in tx["mpt_changes"]:
                if change["account"] is not None and f"{CHAIN}/mpt:{change['issuance']}" == MPT:
                    held[change["account"]] = int(change["amount"])
    held = {account: amount for account, amount in held.items() if amount}
    assert held
    page = client.get(f"/holders/{MPT}")
    shown = text(page)
    for account, amount in held.items():
        assert re.search(rf"{account} {amount} \d+\.\d\d %", shown)
    assert f"{len(held)} holder" in shown and f"{sum(held.values())} in all" in shown
    assert re.search(rf"2026-11-21 {len(held)} \d+ \d+", shown)


def test_an_asset_in_fractions(client: httpx.Client) -> None:
    shown = text(client.get("/assets/art-1"))
    assert "alice 750 of 1000 units" in shown and "bob 250 of 1000 units" in shown
    assert "Split into fractions, 1000 units" in shown and "Changed hands, 250 units" in shown
    shown = text(client.get("/holders/art-1"))
    assert "alice 750 75.00 %" in shown and "bob 250 25.00 %" in shown and "2026-01-05 2 4" in shown


def test_an_asset_for_sale(client: httpx.Client) -> None:
    shown = text(client.get("/assets/card-3"))
    assert "For sale 99.95 USD" in shown and "Listed for sale bob" in shown


def test_an_owner(client: httpx.Client) -> None:
    shown = text(client.get("/owners/bob"))
    assert "Card-1 card managed whole" in shown and "250 of 1000" in shown
    owner = hand_overs()[0][1]["to_owner"]
    balance = next(
        change["balance"]
        for block in reversed(BLOCKS)
        for tx in reversed(block["transactions"])
        for change in reversed(tx["balance_changes"])
        if change["account"] == owner and change["asset"] == "XRP"
    )
    assert f"XRP {balance} " in text(client.get(f"/owners/{owner}"))


def test_titles_are_text(client: httpx.Client) -> None:
    for path in ("/assets/evil-1", "/owners/alice", "/holders/evil-1", "/search?q=%3Cscript%3E"):
        html = client.get(path).text
        assert "<script>window" not in html and "<img src=x" not in html and "javascript:" not in html
        assert html.count("<script") == 1, path
    assert unescape(re.search(r"<h1[^>]*>(.*?)</h1>", client.get("/assets/evil-1").text)[1]) == EVIL  # type: ignore[index]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/assets/nothing", 404),
        (f"/assets/{CHAIN}/nft:{'0' * 64}", 404),
        ("/owners/nobody-at-all", 404),
        ("/transactions/abc", 404),
        ("/holders/nothing", 404),
        ("/nowhere", 404),
        ("/static/../pages.py", 404),
        ("/assets/card-1?skip=-1", 422),
        ("/assets/card-1?skip=99999999999", 422),
        ("/assets/card-1?skip=000000001000000000000", 422),
        (f"/assets/card-1?skip=0{'0' * 9}{'9' * 5000}", 422),
        (f"/assets/{'x' * 600}", 422),
        ("/gas?by=colour", 422),
        ("/gas?period=own&from=never", 422),
    ],
)
def test_errors_are_pages(client: httpx.Client, path: str, status: int) -> None:
    answer = client.get(path)
    assert answer.status_code == status and 'role="alert"' in answer.text and "<nav" in answer.text


def test_the_history_is_away(tmp_path: Path) -> None:
    """Every page that asks says so as a page, and when to come again; what asks nothing is there."""
    app = make_fastapi([])
    with closing(Keys(tmp_path / "keys.db")) as keys:
        add_pages(app, Reads("http://127.0.0.1:9"), keys)

        async def ask() -> list[httpx.Response]:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://web", headers=LOOKS) as asked:
                paths = (
                    "/",
                    "/assets/a",
                    "/holders/a",
                    "/owners/a",
                    "/transactions/a",
                    "/search?q=a",
                    "/gas",
                )
                return [await asked.get(path) for path in paths]

        *away, form = asyncio.run(ask())
    assert form.status_code == 200
    for answer in away:
        assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
        assert "The history is away" in answer.text and "<nav" in answer.text


def test_programs_get_json(client: httpx.Client) -> None:
    assert (
        client.get("/assets/nothing", headers={"Accept": "*/*"}).json()["error"]["reason"] == "unknown_asset"
    )
    assert client.get("/v1/assets/nothing").json()["error"]["reason"] == "unknown_asset"
    documented = client.get("/openapi.json").json()["paths"]
    assert not {"/", "/gas", "/search", "/assets/{asset}", "/owners/{owner}"} & set(documented)


def test_gas_needs_a_key(client: httpx.Client, served: Served) -> None:
    page = client.get("/gas?period=all")
    assert page.status_code == 200 and str(FEES) not in page.text and "drops" not in page.text
    form = {"period": "all"}
    assert client.post("/gas", data=form).status_code == 401
    assert client.post("/gas", data={**form, "key": "tbk_wrong"}).status_code == 401
    assert client.post("/gas", data={**form, "key": served.keys["nobody"]}).status_code == 403
    assert client.post("/gas", data={**form, "key": served.keys["bob"], "owner": "alice"}).status_code == 403
    assert client.post("/gas", content=b"key=1", headers={"Content-Type": "text/plain"}).status_code == 415
    assert client.get("/gas", headers={"Authorization": "Bearer tbk_wrong"}).status_code == 401
    asked = client.get("/gas", params={**form, "key": served.keys["gas"]})
    assert str(FEES) not in asked.text, "a key in an address is no key"


@pytest.mark.parametrize("by", ["user", "app", "asset", "day"])
def test_gas_by_everything(client: httpx.Client, served: Served, by: str) -> None:
    """The chain's sum is that of the recording's fees; in managed custody the treasury has paid bob's 12 drops."""
    answer = client.post("/gas", data={"key": served.keys["gas"], "by": by, "period": "all"})
    shown = text(answer)
    assert answer.status_code == 200 and served.keys["gas"] not in answer.text
    count = sum(len(block["transactions"]) for block in BLOCKS)
    every = "All gas" if by == "asset" else "All"
    assert f"{every} {count} {FEES} {FEES} 0 0.00 %" in shown
    name = {"user": "bob", "app": "mintlings", "asset": "card-1", "day": "2026-01-05"}[by]
    assert f"{name} 1 12 0 12 100.00 %" in shown and "XRP in managed custody" in shown
    assert answer.text.count('role="img"') == 2


def test_gas_of_verified_blocks_differs(client: httpx.Client, served: Served) -> None:
    form = {"key": served.keys["gas"], "by": "user", "period": "all", "verified": "1"}
    verified = [block for block in BLOCKS if block["ledger_index"] <= VERIFIED]
    fees = sum(tx["fee"] for block in verified for tx in block["transactions"])
    count = sum(len(block["transactions"]) for block in verified)
    assert fees != FEES
    assert f"All {count} {fees} {fees} 0 0.00 %" in text(client.post("/gas", data=form))


def test_ones_own_gas(client: httpx.Client, served: Served) -> None:
    shown = text(client.get("/gas?period=all", headers={"Authorization": f"Bearer {served.keys['bob']}"}))
    assert "bob 1 12 0 12 100.00 %" in shown and CHAIN not in shown
    assert "No gas was paid in this period" in text(
        client.post(
            "/gas",
            data={"key": served.keys["bob"], "period": "own", "from": "2020-01-01", "to": "2020-01-02"},
        )
    )
