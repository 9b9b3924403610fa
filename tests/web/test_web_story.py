"""What the pages make of rows, without a server: timelines, hand-overs, graphs, sums, charts."""

import asyncio
from datetime import date
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from pipeline.api.client import ApiError, Client
from pipeline.web import charts, gas, show
from pipeline.web.asks import HEAVY_MAX, Asks, chain_key
from pipeline.web.graph import END, START, HandOver, graph
from pipeline.web.story import entries, facts_of, hand_overs

TODAY = date(2026, 3, 10)


def row(action, minute, source=None, target=None, **more):
    """A row of the view `provenance`, of a chain."""
    return {
        "chain": "xrpl:0", "chain_number": 1, "block": minute, "time": f"2026-01-05T12:{minute:02d}:00.000Z",
        "hash": "AB", "block_hash": "CD", "action": action, "type": "T", "from_owner": source, "to_owner": target,
        "finality": "final", "verified": 0, "detail": "", "about": "card", "event_id": "", "user_id": None,
        "_topic": "t", "_partition": 0, "_offset": minute, **more,
    }  # fmt: skip


def told(type, minute, detail="{}", **more):
    """A row of the same view, of an application's event."""
    return {
        **row("", minute), "type": type, "chain": "offchain", "chain_number": 0, "hash": "", "block_hash": "",
        "event_id": f"e{minute}", "detail": detail, "verified": 1, **more,
    }  # fmt: skip


LIFE = [
    row("minted", 1, None, "rA"),
    row("transferred", 3, "rA", "rB"),
    row("transferred", 10, "rB", "rA"),
    row("burnt", 20, "rA", None),
]


def test_who_held_it_how_long():
    """rA 2 minutes, rB 7, rA again 10; burnt is the end."""
    held = hand_overs(entries(LIFE))
    assert [(one.move.source, one.move.target, one.held_s) for one in held] == [
        (START, "rA", 120),
        ("rA", "rB", 420),
        ("rB", "rA", 600),
        ("rA", END, None),
    ]
    assert [one.entry.number for one in held] == [1, 2, 3, 4]


def test_what_was_taken_back_hands_nothing_over():
    story = entries([LIFE[0], {**LIFE[1], "finality": "retracted"}, {**LIFE[1], "finality": "head"}])
    assert [one.settled for one in story] == ["final", "retracted", "head"]
    assert [one.move.target for one in hand_overs(story)] == ["rA", "rB"]


def test_verified_is_said_of_verified_rows_alone():
    story = entries([{**LIFE[0], "verified": 1}, LIFE[1], {**LIFE[2], "finality": "head", "verified": 1}])
    assert [one.settled for one in story] == ["verified", "final", "head"]


def test_packs_and_fractions():
    """Packed by alice, the pack given to bob, opened by him, split into 100, of which carl gets 40."""
    rows = [
        told("MINTED", 1, to_owner="alice"),
        told("PACK_CREATED", 2, about="pack", user_id="alice"),
        told("TRANSFERRED", 3, about="pack", from_owner="alice", to_owner="bob"),
        told("PACK_OPENED", 4, about="pack", user_id="bob"),
        told("FRACTIONED", 5, '{"fraction_count": 100}', from_owner="bob", to_owner="bob"),
        told("TRANSFERRED", 9, '{"units": "40"}', from_owner="bob", to_owner="carl"),
        told("VIEWED", 10, user_id="dora"),
    ]
    story = entries(rows)
    held = hand_overs(story, "card")
    assert [(one.move.source, one.move.target, one.move.kind, one.held_s) for one in held] == [
        (START, "alice", "mint", 60),
        ("alice", "pack", "pack", 120),
        ("alice", "bob", "pack", 360),
        ("pack", "bob", "pack", 300),
        ("bob", "bob", "fraction", 240),
        ("bob", "carl", "move", None),
    ]
    assert held[2].move.what == "with pack" and held[4].move.what == "Split into fractions, 100 units"
    assert [one.kind for one in story][-1] == "social" and {one.settled for one in story} == {"applied"}
    drawn = graph([one.move for one in held], ["carl"], ["pack"])
    assert [node.kind for node in drawn.nodes] == ["start", "owner", "container", "owner", "owner"]
    of_pack = entries(one for one in rows if one["about"] == "pack")
    assert [(one.move.target, one.move.kind) for one in hand_overs(of_pack, "pack")] == [("bob", "move")]


def test_facts_are_letter_for_letter():
    """Neither a long integer nor a decimal passes through a float; empty ones are left out."""
    detail = '{"amount": 1234567890123456789012345678901234567890, "price": 10.50, "to": null, "contents": ["a", "b"]}'
    assert facts_of(detail) == (
        ("amount", "1234567890123456789012345678901234567890"), ("price", "10.50"), ("contents", "a, b"),
    )  # fmt: skip
    assert facts_of("no json") == (("detail", "no json"),)
    assert facts_of("") == facts_of(None) == ()


def test_the_graph_places_each_owner_once():
    moves = [one.move for one in hand_overs(entries(LIFE))]
    drawn = graph(moves, now=["rB"])
    assert [(node.name, node.kind, node.now) for node in drawn.nodes] == [
        (START, "start", False),
        ("rA", "owner", False),
        ("rB", "owner", True),
        (END, "end", False),
    ]
    assert [arc.back for arc in drawn.arcs] == [False, False, True, False]
    assert len({arc.path for arc in drawn.arcs}) == 4 and len({(arc.x, arc.y) for arc in drawn.arcs}) == 4
    assert drawn.axis > max(-arc.x for arc in drawn.arcs) + 9, "a number would be cut off"


def test_a_large_graph_says_what_it_leaves_out():
    moves = [HandOver(f"r{n}", f"r{n + 1}", "move") for n in range(100)]
    drawn = graph(moves)
    assert (len(drawn.nodes), len(drawn.arcs), drawn.left_out) == (40, 39, 61)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("xrpl:main/nft:00", ("xrpl:main", "nft:00")),
        ("eip155:1/erc721:0xab/42", ("eip155:1", "erc721:0xab/42")),
        ("card-1", None),
        ("a/b", None),
        ("offchain/gas:XRP", None),
    ],
)
def test_chain_keys(text, key):
    assert chain_key(text) == key


def test_periods():
    assert gas.asked({"period": "7"}, TODAY).first == date(2026, 3, 4)
    own = gas.asked(
        {"period": "own", "from": "2026-01-01", "to": "2026-01-31", "by": "day", "verified": "1"}, TODAY
    )
    assert (own.first, own.last, own.verified) == (date(2026, 1, 1), date(2026, 1, 31), False)
    assert gas.asked({"verified": "1"}, TODAY).verified


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"by": "colour"}, "by"),
        ({"period": "8"}, "period"),
        ({"period": "own", "from": "yesterday"}, "from"),
        ({"period": "own", "to": "9999-01-01"}, "to"),
        ({"period": "own", "from": "2026-02-02", "to": "2026-02-01"}, "from"),
        ({"owner": "x" * 257}, "owner"),
    ],
)
def test_a_wrong_form_names_its_field(form, field):
    with pytest.raises(ApiError) as raised:
        gas.asked(form, TODAY)
    assert (raised.value.status, raised.value.field) == (422, field)


def test_whose_gas_a_key_shows():
    wanted = gas.asked({}, TODAY)
    assert gas.allowed(Client("g", scopes=frozenset({"gas:read"})), wanted).owner == ""
    assert gas.allowed(Client("r", scopes=frozenset({"root"})), wanted).owner == ""
    assert gas.allowed(Client("b", user_id="bob"), wanted).owner == "bob"
    for client, form in ((Client("b", user_id="bob"), {"owner": "alice"}), (Client("n"), {})):
        with pytest.raises(ApiError) as raised:
            gas.allowed(client, gas.asked(form, TODAY))
        assert raised.value.status == 403


def test_an_evm_address_may_be_in_any_case():
    class Asked:
        async def rows(self, sql, values):
            assert values["owner"] == "0x" + "ab" * 20
            return []

    assert asyncio.run(gas.ask(Asked(), gas.asked({"owner": "0X" + "aB" * 20}, date(2026, 1, 31)))) == []


@pytest.mark.parametrize(
    ("coin", "decimals", "shown"),
    [
        ("XRP", 6, ("drops", "XRP", 6)),
        ("native", 18, ("wei", "native", 18)),
        ("USD", 2, ("smallest units of USD", "USD", 2)),
        ("GOLD", -1, ("smallest units of GOLD", "", 0)),
    ],
)
def test_the_coin_of_a_table(coin, decimals, shown):
    sums = {"coin": coin, "decimals": decimals, "required": "1", "paid_by_treasury": "0"}
    table = gas.table("offchain/gas:" + coin, [], sums)
    assert (table.unit, table.coin, table.decimals) == shown


def test_a_story_is_asked_for_few_at_once():
    """It reads all there is of an asset: at most HEAVY_MAX such questions are under way."""
    under_way = [0, 0]

    class Slow:
        async def rows(self, sql, values):
            under_way[0] += 1
            under_way[1] = max(under_way)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            under_way[0] -= 1
            return []

    async def ask():
        asks = Asks(SimpleNamespace(clickhouse=Slow()))
        return await asyncio.gather(*(asks.story("x", 0, True) for _ in range(10)))

    assert asyncio.run(ask()) == [([], False)] * 10
    assert under_way == [0, HEAVY_MAX]


def test_an_applications_id_stands_as_it_is_written():
    """It may look like a chain's name in other letters; what no application has is written as keys are."""
    mine = {f"nft:{'ab' * 32}", f"eip155:1/erc721:0x{'Ab' * 20}/5"}

    class Assets:
        async def asset(self, id):
            if id not in mine:
                raise ApiError(404, "unknown_asset", "no", "asset")
            return {"title": id}

    asks = Asks(SimpleNamespace(assets=Assets()))
    for name in mine:
        assert asyncio.run(asks.named(name)) == (name, {"title": name})
        assert [one.path for one in asyncio.run(asks.search(name))] == [f"assets/{name}"]
    assert asyncio.run(asks.named(f"xrpl:0/nft:{'ab' * 32}")) == (f"xrpl:0/nft:{'AB' * 32}", None)


def test_sums_are_exact():
    wei = {"required": str(3 * 10**30), "paid_by_treasury": str(10**30), "transactions": 1}
    assert gas.covered(wei) == "33.33 %"
    assert gas.covered({"required": "0", "paid_by_treasury": "0"}) == ""
    assert gas.whole("123456789012345678901234567890", 18) == "123456789012.34567890123456789"
    assert gas.whole("12", 6) == "0.000012" and gas.whole("0", 6) == "0" and gas.whole("5", 0) == "5"


def test_shares_where_all_holders_are_shown():
    rows = [{"account": "a", "balance": "2000000000000000000000001"}, {"account": "b", "balance": "0.5"}]
    shown = show.holders("x", rows, [], complete=True)
    assert shown["total"] == "2000000000000000000000001.5"
    assert [one["share"] for one in shown["rows"]] == ["100.00 %", "0.00 %"]
    assert show.holders("x", rows, [], complete=False)["total"] is None


@pytest.mark.parametrize("draw", [charts.bars, charts.columns, charts.steps])
def test_charts_carry_nothing_of_their_own(draw):
    """No script, style or id; names of users are text and nothing else."""
    evil = "<script>alert(1)</script>\x01\x00\ud800"
    svg = draw([evil, "b"], {"one": [10**30, 5], "two": [1, 2]}, f'x" onload="{evil}')
    names = {node.tag.rpartition("}")[2] for node in ElementTree.fromstring(svg).iter()}
    assert names <= {"svg", "g", "rect", "path", "text", "circle", "line"}
    attributes = {name for node in ElementTree.fromstring(svg).iter() for name in node.attrib}
    assert not attributes & {"style", "id", "onload"}
    assert draw([], {"one": []}, "nothing")


def test_axis_numbers():
    given = [0, 5, 999, 1000, 1_500_000, 10**24, "0.25"]
    assert [charts.rounded(one) for one in given] == ["0", "5", "999", "1k", "1.5M", "1Y", "0.25"]
