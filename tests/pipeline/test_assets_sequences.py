"""S0's rules under any sequence of commands: what must hold after every event, with the engine as judge of units.

Each sequence runs on assets of its own in one engine; commands name users, assets, addresses and hashes out of a few,
so they meet. Most are refused, which is the point: then nothing may have changed.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from pipeline.catalog.assets import ASSETS
from pipeline.domain.account import AccountCode
from pipeline.domain.applications.fold import Judged
from pipeline.domain.assets.books import fraction_book
from pipeline.domain.holdings import Holding, apply_changes
from tests.support.applications import TestFold, event, fold_of

USERS = ("ann", "bob", "cyd")
CHAIN = "xrpl:0"
TREASURY, STRANGER = f"{CHAIN}/rTreasury", f"{CHAIN}/rStranger"
HOLDERS = (TREASURY, STRANGER, *(f"{CHAIN}/r{user}" for user in USERS))
ISSUER = f"{CHAIN}/rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh"
HASHES = tuple(digit * 64 for digit in "12345678")
ASSET_COUNT = (
    5  # 0: NFT at the treasury, 1: NFT at ann's, 2: MPT of 6 units at the treasury, 3-4: without a token
)
UNITS = 6
AMOUNTS = (None, None, "1", "2", "3", "6")
START_MS = 1_767_614_400_000

Command = tuple[str, int, dict[str, Any]]
Story = list[Command]


def wild(draw: Random) -> Story:
    """One command that names anything."""
    place, user, tx = draw.randrange(ASSET_COUNT), draw.choice(USERS), draw.choice(HASHES)
    amount, maybe = draw.choice(AMOUNTS), draw.choice([None, *USERS])
    terms = {"price": draw.choice(["1", "2.0"]), "currency": "USD", "units": amount}
    some = draw.sample(range(ASSET_COUNT), draw.randint(1, 3))
    seen = {"from_address": draw.choice(HOLDERS), "to_address": draw.choice([*HOLDERS, None])}
    data: dict[str, dict[str, Any]] = {
        "TRANSFERRED": {"to_user_id": user, "from_user_id": maybe, "units": amount},
        "FRACTIONED": {"fraction_count": UNITS},
        "MERGED": {},
        "PACK_CREATED": {"contents": some, "container_type": draw.choice(["pack", "bundle"])},
        "PACK_OPENED": {},
        "BURNED": {},
        "LISTED": {**terms, "seller_user_id": maybe},
        "DELISTED": {"seller_user_id": maybe},
        "SOLD": {**terms, "to_user_id": user, "from_user_id": maybe},
        "ONCHAIN_SEND": {
            "to_address": draw.choice(HOLDERS),
            "tx_hash": tx,
            "units": amount,
            "from_user_id": maybe,
        },
        "ONCHAIN_RECEIVE": {"to_user_id": user, "tx_hash": tx, "units": amount},
        "ONCHAIN_BURN": {"tx_hash": tx},
        "ONCHAIN_CANCELLED": {"tx_hash": tx},
        "CHAIN_OBSERVED": {**seen, "tx_hash": tx, "amount": amount},
        "USER_ADDRESSES_CHANGED": {
            draw.choice(["added", "removed"]): draw.sample(HOLDERS, draw.randint(1, 2)),
            "user": user,
        },
    }
    type = draw.choice(list(data))
    return [(type, place, data[type])]


def sent(draw: Random, place: int, amount: str | None = None) -> Story:
    """A request and what the chain tells of its transaction, in either order."""
    address, user, tx = draw.choice(HOLDERS[1:]), draw.choice(USERS), draw.choice(HASHES)
    type = draw.choice(["ONCHAIN_SEND", "ONCHAIN_SEND", "ONCHAIN_RECEIVE", "ONCHAIN_BURN"])
    asked: dict[str, Any] = {"tx_hash": tx}
    seen = {"from_address": TREASURY, "to_address": address, "tx_hash": tx, "amount": amount}
    if type == "ONCHAIN_SEND":
        asked |= {"units": amount, "to_address": address, "from_user_id": user if amount else None}
    elif type == "ONCHAIN_RECEIVE":
        asked |= {"units": amount, "to_user_id": user}
        seen |= {"from_address": address, "to_address": TREASURY}
    else:
        seen |= {"to_address": None}
    pair: Story = [(type, place, asked), ("CHAIN_OBSERVED", place, seen)]
    return pair if draw.random() < 0.5 else pair[::-1]


def on_chain(draw: Random) -> Story:
    """A token goes out, comes back, is burnt; now and then the request is cancelled."""
    story = sent(draw, draw.choice([0, 0, 1]))
    type, place, data = story[0]
    cancelled: Story = [("ONCHAIN_CANCELLED", place, {"tx_hash": data["tx_hash"]})]
    return story if type == "CHAIN_OBSERVED" or draw.random() < 0.7 else [story[0], *cancelled]


def in_units(draw: Random) -> Story:
    """An asset in fractions: units move among users, to the chain and back."""
    story: Story = [("FRACTIONED", 2, {"fraction_count": UNITS})]
    for _ in range(draw.randint(1, 3)):
        moved = {
            "to_user_id": draw.choice(USERS),
            "from_user_id": draw.choice(USERS),
            "units": draw.choice("1236"),
        }
        story += draw.choice([sent(draw, 2, draw.choice("123")), [("TRANSFERRED", 2, moved)]])
    return [*story, ("MERGED", 2, {})]


def packed(draw: Random) -> Story:
    """A pack is filled, given away, opened; any step may be left out."""
    place, kind = draw.randrange(ASSET_COUNT), draw.choice(["pack", "bundle"])
    same_owner = [n for n in range(ASSET_COUNT) if n != place and n // 3 == place // 3]
    content = draw.choice(same_owner)
    steps: Story = [
        ("LISTED", draw.choice([place, content]), {"price": "1", "currency": "USD"}),
        ("PACK_CREATED", place, {"contents": [content], "container_type": kind}),
        ("TRANSFERRED", draw.choice([place, place, content]), {"to_user_id": draw.choice(USERS)}),
        ("PACK_CREATED", draw.randrange(ASSET_COUNT), {"contents": [place], "container_type": "bundle"}),
        ("PACK_OPENED", place, {}),
    ]
    return [
        step for step, chance in zip(steps, (0.2, 0.9, 0.7, 0.3, 0.5), strict=True) if draw.random() < chance
    ]


def traded(draw: Random) -> Story:
    """Listed, then sold, delisted, given away or burnt."""
    place, seller = draw.randrange(ASSET_COUNT), draw.choice(USERS)
    amount = draw.choice(AMOUNTS)
    listed = {
        "price": "1.50",
        "currency": "USD",
        "units": amount,
        "seller_user_id": seller if amount else None,
    }
    ends: Story = [
        ("SOLD", place, {"to_user_id": draw.choice(USERS), "as_listed": True}),
        ("DELISTED", place, {}),
        ("TRANSFERRED", place, {"to_user_id": draw.choice(USERS)}),
        ("BURNED", place, {}),
    ]
    split: Story = [("FRACTIONED", place, {"fraction_count": UNITS})] if amount else []
    return [*split, ("LISTED", place, listed), draw.choice(ends)]


def readdressed(draw: Random) -> Story:
    """An address is given up, and becomes another's, as a rule."""
    user, address = draw.choice(USERS), f"{CHAIN}/r{draw.choice(USERS)}"
    given_up: Command = (
        "USER_ADDRESSES_CHANGED",
        0,
        {"removed": [address], "user": address.rpartition("/r")[2]},
    )
    taken: Command = ("USER_ADDRESSES_CHANGED", 0, {"added": [address], "user": user})
    return [given_up, taken][: draw.choice([1, 2, 2])]


def unasked(draw: Random) -> Story:
    """Moves on the chain that nobody asked for, of an MPT bit by bit; then somebody names one of them as his."""
    place, story = draw.choice([0, 1, 2, 2]), Story()
    path = [TREASURY, *draw.choices(HOLDERS, k=draw.randint(1, 3)), TREASURY]
    hashes = draw.sample(HASHES, len(path))
    pieces = draw.choice([["6"], ["6"], ["1"], ["5", "1"]])
    for source, target, tx in zip(path, path[1:], hashes, strict=False):
        for amount in pieces:
            seen = {"from_address": source, "to_address": target, "tx_hash": tx, "amount": amount}
            story.append(("CHAIN_OBSERVED", place, seen))
    units = draw.choice([None, *pieces]) if place == 2 else None
    tx, user = draw.choice(hashes), draw.choice(USERS)
    into: Command = ("ONCHAIN_RECEIVE", place, {"to_user_id": user, "tx_hash": tx, "units": units})
    out: dict[str, Any] = {
        "to_address": draw.choice(path[1:]),
        "tx_hash": draw.choice(hashes),
        "units": units,
    }
    asked: Story = [("ONCHAIN_SEND", place, {**out, "from_user_id": user if units else None}), into]
    split: Story = [("FRACTIONED", place, {"fraction_count": UNITS})] if units else []
    due = {"to_address": STRANGER, "tx_hash": hashes[-1]}  # a request as it should be, in between
    fine: Story = [
        ("ONCHAIN_SEND", place, {**due, "units": units, "from_user_id": "ann" if units else None}),
        ("CHAIN_OBSERVED", place, {**due, "from_address": TREASURY, "amount": units or "6"}),
    ]
    orders = [asked + story, story + asked, story + asked[::-1], story + fine + asked, story + fine + [into]]
    return split + draw.choice(orders)


def told(draw: Random, length: int) -> Iterator[tuple[Command, str]]:
    """A sequence of so many stories, with who acts: mostly a service."""
    for _ in range(length):
        for one in draw.choice([wild, on_chain, in_units, packed, traded, readdressed, unasked])(draw):
            yield one, draw.choice(["", "", "", "", *USERS])


class World:
    """One engine; every sequence has states of its own, as they are after everybody is registered."""

    def __init__(self) -> None:
        self.fold: TestFold = fold_of(ASSETS)
        self.numbers = itertools.count(1)
        self.prefix = ""
        self.clock = 0
        self.units_moved = 0
        self.received = 0
        self.outcomes: Counter[tuple[str, bool]] = Counter()
        self._begin("@")
        for user in USERS:
            self.tell("USER_REGISTERED", user, {"addresses": [f"{CHAIN}/r{user}"]})
        app = {"title": "App", "issuers": [ISSUER], "treasuries": [TREASURY]}
        self.tell("APP_REGISTERED", "app", app)
        for place in range(ASSET_COUNT):
            data = {
                "asset_type": "card", "title": "Card", "token": token(place, "@"),
                "owner_user_id": USERS[(place // 3) % 2], "custody_type": "onchain" if place == 1 else "managed",
            }  # fmt: skip
            self.tell("ASSET_REGISTERED", self.asset(place), data, app_id="app")
        for place, holder in ((0, TREASURY), (1, f"{CHAIN}/rann")):
            self.observe(place, None, holder, "E" * 64)
        self.observe(2, ISSUER, TREASURY, "E" * 64, str(UNITS))
        for place in range(ASSET_COUNT):
            assert self.tell("MINTED", self.asset(place)).refused is None
        self.base, self.base_clock = dict(self.fold.held), self.clock

    def _begin(self, prefix: str) -> None:
        self.prefix, self.holdings = prefix, dict[str, Holding]()
        self.split = set[str]()
        self.arrived: dict[int, str | None] = {
            0: "E" * 64,
            2: "E" * 64,
        }  # at the treasury: by which transaction

    def begin(self) -> None:
        number = next(self.numbers)
        self.clock = self.base_clock  # facts of the chain go on from there
        self._begin(f"s{number}-")
        code = f"{number:010X}"

        def renamed(text: str) -> str:
            text = text.replace("@", self.prefix).replace("mpt:23456789", f"mpt:{code[2:]}")
            return text.replace("0123456789", code)

        self.fold.held = {
            (kind, renamed(id)): renamed(value.decode()).encode() for (kind, id), value in self.base.items()
        }
        self.code = code

    code = "0123456789"

    def asset(self, place: int) -> str:
        return f"{self.prefix}a{place}"

    def tell(self, type: str, key: str, data: Any = None, **envelope: Any) -> Judged:
        self.clock += 1
        told = event(
            ASSETS, type, key, START_MS + self.clock, data or {}, id=f"{self.prefix}{self.clock}", **envelope
        )
        judged = self.fold.one(told)
        self.outcomes[type, judged.refused is None] += 1
        if type == "FRACTIONED" and judged.refused is None:
            self.split.add(key)
        for emit in judged.decision.emits if judged.decision else ():
            holding = self.holdings.get(emit.key)
            self.holdings[emit.key] = apply_changes(holding, emit.record, 0, "e", self.clock)  # type: ignore[arg-type]
        return judged

    def observe(
        self,
        place: int,
        source: str | None,
        target: str | None,
        tx: str,
        amount: str = "1",
        block: int | None = None,
    ) -> Judged:
        key = token(place, self.code)
        if (source == TREASURY) != (target == TREASURY):
            self.arrived[place] = tx if target == TREASURY else None
        data = {
            "kind": "token", "chain": CHAIN, "token": key, "action": "transferred", "from_address": source,
            "to_address": target, "amount": amount, "tx_hash": tx, "block": block or self.clock + 1,
            "transaction_index": 0, "change_index": 0,
        }  # fmt: skip
        return self.tell("CHAIN_OBSERVED", str(key), data, source=f"chain:{CHAIN}")

    def assets(self) -> dict[str, dict[str, Any]]:
        return self.fold.states("asset")


def token(place: int, code: str) -> str | None:
    code = "0123456789" if code == "@" else code
    if place == 2:  # the sequence of an issuance is 4 bytes
        return f"{CHAIN}/mpt:{code[2:]}B5F762798A53D543A014CAF8B297CFF8F2F937E8"
    return f"{CHAIN}/nft:{code:0>16}{place:048d}" if place < 2 else None


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    yield made
    made.fold.close()


def run(world: World, place: int, type: str, data: dict[str, Any], user: str) -> Judged | None:
    """Tell one command, as far as it makes sense at all."""
    data = dict(data)
    if type == "CHAIN_OBSERVED":
        if token(place, world.code) is None:
            return None
        source, target = data["from_address"], data["to_address"]
        if place == 2:
            held = world.fold.state("token_units", f"{token(place, world.code)}|{source}")
            if target in (None, source) or int((held or {"units": "0"})["units"]) < int(data["amount"] or 1):
                return None  # the chain has no overdrafts
        else:
            known = world.fold.state("token", str(token(place, world.code))) or {}
            if known.get("burnt"):
                return None
            source = known.get("holder")
        return world.observe(
            place, source, target, data["tx_hash"], data["amount"] or "1" if place == 2 else "1"
        )
    if data.pop("as_listed", False):
        data |= as_listed(world, place)
    if type == "USER_ADDRESSES_CHANGED":
        return world.tell(type, data.pop("user"), data)
    if "contents" in data:
        data["contents"] = [world.asset(one) for one in data["contents"]]
    return world.tell(type, world.asset(place), data, user_id=user)


def as_listed(world: World, place: int) -> dict[str, Any]:
    """What a sale must say to be one, if anything of the asset is for sale."""
    asset = world.fold.state("asset", world.asset(place)) or {}
    for listing in (asset["listing"], *asset["fraction_listings"].values()):
        if listing is not None:
            return {
                "from_user_id": listing["seller"],
                **{name: listing[name] for name in ("price", "currency", "units")},
            }
    return {"price": "1", "currency": "USD"}


THOROUGH = settings(
    max_examples=1500, phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


@THOROUGH
@given(st.integers(0, 2**32), st.integers(2, 8))
def sequences(world: World, seed: int, length: int) -> None:
    world.begin()
    assets = world.assets()
    for (type, place, data), user in told(Random(seed), length):
        held = dict(world.fold.held)
        judged = run(world, place, type, data, user)
        if judged is None:
            continue
        if judged.refused is not None:
            assert world.fold.held == held, f"a refused {type} changed something"
            assert type != "CHAIN_OBSERVED", f"a fact was refused: {judged.refused}"
            assert judged.refused.reason != "insufficient_balance", (
                "a rule lets through what the books refuse"
            )
            continue
        before, assets = assets, world.assets()
        world.units_moved += any(
            was["onchain_units"] != assets[id]["onchain_units"] for id, was in before.items()
        )
        check(assets, before, type)
        for number in range(3):
            check_custody(world, number, before[world.asset(number)], data)
    check_books(world)
    check_holdings(world)
    check_addresses(world)


def check(assets: dict[str, dict[str, Any]], before: dict[str, dict[str, Any]], type: str) -> None:
    for id, asset in assets.items():
        check_one(asset)
        check_container(assets, id, asset)
        was = before[id]
        if was["burnt"]:
            mine = ("owner_user_id", "difference", "last_event_id", "updated_ms", "changed_at_ms", "listing",
                    "parent_container_id", "onchain_holder", "onchain_status")  # fmt: skip
            assert asset["burnt"]
            assert {k: v for k, v in asset.items() if k not in mine} == {
                k: v for k, v in was.items() if k not in mine
            }, f"a burnt asset was changed by {type}"
        moved = asset["owner_user_id"] != was["owner_user_id"]
        if moved or asset["burnt"]:
            assert asset["listing"] is None, f"{type} left a listing open"


def check_custody(world: World, place: int, was: dict[str, Any], data: dict[str, Any]) -> None:
    """Custody changes by the transaction that brought the token where it is; users hold no more than the treasury."""
    asset = world.assets()[world.asset(place)]
    at_treasury = asset["onchain_holder"] == TREASURY
    if place == 2:
        found = world.fold.state("token_units", f"{token(place, world.code)}|{TREASURY}") or {"units": "0"}
        held, held_before = (sum(map(int, one["holdings"].values())) for one in (asset, was))
        if asset["fraction_count"] == was["fraction_count"] and held > held_before:
            world.received += 1
            assert held <= int(found["units"]), "units were credited that are not in the treasury"
        at_treasury = found["units"] != "0"
    changed = (was["custody_type"], asset["custody_type"])
    if changed == ("onchain", "managed"):
        world.received += 1
        named = data if data.get("tx_hash") and "to_user_id" in data else was["pending"]
        assert world.arrived[place] == named["tx_hash"], "an old deposit made an owner"
        assert at_treasury
        if place == 2:
            moves = (world.fold.state("observed", f"{token(2, world.code)}|{world.arrived[2]}") or {})[
                "moves"
            ]
            assert str(UNITS) in [move["amount"] for move in moves] and found["units"] == str(UNITS)
    if changed == ("managed", "onchain"):
        assert not at_treasury, "what is in the treasury was given to the chain"


def check_one(asset: dict[str, Any]) -> None:
    held = {who: int(units) for who, units in asset["holdings"].items()}
    if asset["fraction_count"] == 1:
        assert held == {} and asset["onchain_units"] == "0" and asset["fraction_listings"] == {}
        assert asset["pending_units"] == {}
    else:
        assert sum(held.values()) + int(asset["onchain_units"]) == asset["fraction_count"], (
            "a fraction is lost"
        )
        assert all(units > 0 for units in held.values())
        assert asset["owner_user_id"] is None, "an asset in fractions has an owner besides"
        assert asset["listing"] is None and asset["contents"] == [] and asset["parent_container_id"] is None
        sending = Counter[str]()
        for one in asset["pending_units"].values():
            sending[one["user_id"]] += int(one["units"]) if one["type"] == "ONCHAIN_SEND" else 0
        assert all(held.get(user, 0) >= units for user, units in sending.items()), "units used twice"
    assert (int(asset["onchain_units"]) > 0) == (asset["custody_type"] == "hybrid")
    if asset["listing"] is not None:
        assert asset["listing"]["seller"] == asset["owner_user_id"]
        assert (
            not asset["burnt"] and asset["parent_container_id"] is None and asset["custody_type"] == "managed"
        )


def check_container(assets: dict[str, dict[str, Any]], id: str, asset: dict[str, Any]) -> None:
    for inner in asset["contents"]:
        assert assets[inner]["parent_container_id"] == id
        assert assets[inner]["owner_user_id"] == asset["owner_user_id"], (
            "the content is another's than the pack"
        )
        assert assets[inner]["custody_type"] == "managed"
    parent = asset["parent_container_id"]
    assert parent is None or id in assets[parent]["contents"]
    seen = {id}
    while parent is not None:
        assert parent not in seen, "a container is in itself"
        seen.add(parent)
        parent = assets[parent]["parent_container_id"]


def check_books(world: World) -> None:
    """The engine holds what the states say, of every asset that was ever split."""
    for id in world.split:
        asset, book = world.fold.state("asset", id) or {}, fraction_book(id)
        units = asset["fraction_count"] if asset["fraction_count"] > 1 else 0
        assert world.fold.balance(book, AccountCode.TREASURY) == units
        for user in USERS:
            assert world.fold.balance(book, AccountCode.USER, user) == int(asset["holdings"].get(user, "0"))
        outside = world.fold.balance(book, AccountCode.HOLDER, asset["token"] or "")
        assert -outside == int(asset["onchain_units"])  # the engine's helper counts it debit-normal


def check_holdings(world: World) -> None:
    """What assets.changes.v1 tells, folded as every holding is, ends in the same owner."""
    for id, asset in world.assets().items():
        holding = world.holdings.get(f"offchain/asset:{id}")
        if holding is None or asset["fraction_count"] > 1:
            continue
        assert (holding["onchain_status"] == "burnt") == asset["burnt"]
        if not asset["burnt"]:
            managed = asset["custody_type"] != "onchain"
            known = asset["owner_user_id"]
            assert holding["owner"] == (known if managed or known else asset["onchain_holder"])


def check_addresses(world: World) -> None:
    """An address is one user's at most; what it holds in custody of the chain is noted there, and is that user's."""
    users = {address: id for id, user in world.fold.states("user").items() for address in user["addresses"]}
    assert len(users) == sum(len(user["addresses"]) for user in world.fold.states("user").values())
    addresses = world.fold.states("address")
    assert users == {id: one["user_id"] for id, one in addresses.items() if one["user_id"] is not None}
    noted = {asset: id for id, one in addresses.items() for asset in one["assets"]}
    held = {
        id: asset["onchain_holder"] for id, asset in world.assets().items()
        if asset["custody_type"] == "onchain" and asset["onchain_holder"] is not None and not asset["burnt"]
    }  # fmt: skip
    assert noted == held and not any(one["unnamed"] for one in addresses.values())
    for id, holder in held.items():
        assert world.assets()[id]["owner_user_id"] == users.get(holder), f"{id} is not whose {holder} is"


def test_any_sequence_keeps_the_rules(world: World) -> None:
    world.outcomes.clear()
    sequences(world)  # type: ignore[call-arg]
    applied = {type for type, fine in world.outcomes if fine}
    wanted = {
        "TRANSFERRED", "FRACTIONED", "MERGED", "PACK_CREATED", "PACK_OPENED", "BURNED", "LISTED", "DELISTED", "SOLD",
        "ONCHAIN_SEND", "ONCHAIN_RECEIVE", "ONCHAIN_BURN", "ONCHAIN_CANCELLED", "CHAIN_OBSERVED",
        "USER_ADDRESSES_CHANGED",
    }  # fmt: skip
    assert applied >= wanted, f"never applied: {wanted - applied}"
    assert sum(world.outcomes[type, True] for type in wanted) > 4000
    assert world.units_moved > 50, "units never went to the chain or came back"
    assert world.received > 50, "nothing was ever received"


FACTS = ("asset", "token", "token_units", "address")
BOOKKEEPING = {"last_event_id", "updated_ms", "changed_at_ms"}
hashes = st.sampled_from(HASHES)
nft_facts = st.lists(st.tuples(st.sampled_from([*HOLDERS, None]), hashes), max_size=5)
mpt_facts = st.lists(
    st.tuples(
        st.sampled_from([ISSUER, *HOLDERS]), st.sampled_from([ISSUER, *HOLDERS]), st.integers(1, 3), hashes
    ),
    max_size=6,
)


def facts_told(world: World, place: int, facts: list[Any], number: int) -> None:
    """Tell the n-th fact; the chain's own rules decide whether it can be one."""
    fact = facts[number]
    if place == 2:
        source, target, amount, tx = fact
        if source != target:
            world.observe(2, source, target, tx, str(amount), block=number + 1)
        return
    earlier = [target for target, _ in facts[:number]]
    if None not in earlier:
        world.observe(place, earlier[-1] if earlier else None, fact[0], fact[1], block=number + 1)


def after(world: World, place: int, facts: list[Any], others: list[tuple[int, Any]]) -> dict[str, Any]:
    """The states after facts and other events, each of which stands before the fact of its number."""
    world.begin()
    world.fold.held = {key: value for key, value in world.fold.held.items() if key == ("app", "app")}
    treasury = {"user_id": None, "treasury": "app", "assets": [], "unnamed": 0}
    world.fold.held["address", TREASURY] = orjson.dumps(treasury)
    prefix, code = world.prefix, world.code
    for number in range(len(facts) + 1):
        for at, (type, key, data) in others:
            if at == number:
                id = world.asset(place) if key is None else key
                if "token" in data:
                    data = {**data, "token": token(place, world.code)}
                assert world.tell(type, id, data, app_id="app").refused is None
        if number < len(facts):
            facts_told(world, place, facts, number)
    found = {}
    for (kind, id), value in world.fold.held.items():
        if kind in FACTS:
            said = value.decode().replace(prefix, "@").replace(code, "#").replace(code[2:], "#")
            state = {k: v for k, v in orjson.loads(said).items() if k not in BOOKKEEPING}
            if kind == "address":
                state["assets"] = sorted(state["assets"])
            found[f"{kind}/{id}".replace(prefix, "@").replace(code, "#").replace(code[2:], "#")] = state
    return found


_NOBODYS = {"user_id": None, "treasury": None, "assets": [], "unnamed": 0}


def without_empty(states: dict[str, Any]) -> dict[str, Any]:
    """States without addresses of which nothing is known but that they exist."""
    return {
        id: state for id, state in states.items()
        if not (id.startswith("address/") and state == _NOBODYS)
    }  # fmt: skip


@settings(THOROUGH, max_examples=500)
@given(
    st.sampled_from([0, 2]), st.data(), st.sampled_from(["managed", "onchain"]), st.integers(0, 6), st.integers(0, 6),
    st.integers(0, 6), st.integers(0, 6),
)  # fmt: skip
def orders(world: World, place: int, data: Any, custody: str, a: int, b: int, c: int, d: int) -> None:
    facts = data.draw(mpt_facts if place == 2 else nft_facts)
    entry = {"asset_type": "card", "title": "Card", "token": None, "custody_type": custody}
    registered = ("ASSET_REGISTERED", None, entry)
    user = ("USER_REGISTERED", "ann", {"addresses": [f"{CHAIN}/rann"]})
    last = len(facts)
    one = after(world, place, facts, [(min(a, last), registered), (min(b, last), user)])
    other = after(world, place, facts, [(min(d, last), user), (min(c, last), registered)])
    assert without_empty(one) == without_empty(other)


def test_a_chains_facts_and_a_registration_in_either_order_are_the_same(world: World) -> None:
    """Of an NFT and an MPT, in both kinds of custody, with a user who comes before, between or after."""
    orders(world)  # type: ignore[call-arg]


@pytest.mark.parametrize("request_type", ["ONCHAIN_SEND", "ONCHAIN_RECEIVE", "ONCHAIN_BURN"])
def test_a_request_and_its_transaction_in_either_order_are_the_same(world: World, request_type: str) -> None:
    ends = []
    for chain_first in (False, True):
        world.begin()
        ann, asset = f"{CHAIN}/rann", world.asset(0)
        world.observe(0, None, TREASURY, HASHES[0])
        source, target = TREASURY, ann
        if request_type == "ONCHAIN_RECEIVE":
            world.tell("ONCHAIN_SEND", asset, {"to_address": ann, "tx_hash": HASHES[1]}, user_id="ann")
            world.observe(0, TREASURY, ann, HASHES[1])
            source, target = ann, TREASURY
        said = {"to_address": ann} if request_type == "ONCHAIN_SEND" else {"to_user_id": "ann"}
        said = {} if request_type == "ONCHAIN_BURN" else said
        if request_type == "ONCHAIN_BURN":
            target = None
        steps = [
            lambda asset=asset, said=said: world.tell(
                request_type, asset, {**said, "tx_hash": HASHES[2]}, user_id="ann"
            ),
            lambda source=source, target=target: world.observe(0, source, target, HASHES[2]),
        ]
        for step in reversed(steps) if chain_first else steps:
            assert step().refused is None
        state = world.fold.state("asset", asset)
        assert state is not None and state["pending"] is None and state["difference"] is None
        ends.append({k: v for k, v in state.items() if k not in {*BOOKKEEPING, "minted_event_id", "token"}})
    assert ends[0] == ends[1]


def test_events_of_one_moment_or_of_an_earlier_one_still_fold_in_their_order(world: World) -> None:
    """Places in assets.changes.v1 rise whatever the events' times are."""
    world.begin()
    asset = world.asset(3)
    for target, ms in (("cyd", 0), ("ann", 0), ("bob", -5000)):
        said = {"to_user_id": target}
        judged = world.fold.one(
            event(ASSETS, "TRANSFERRED", asset, START_MS + ms, said, id=f"{world.prefix}{target}")
        )
        assert judged.decision is not None
        (emit,) = judged.decision.emits
        world.clock += 1
        holding = apply_changes(world.holdings.get(emit.key), emit.record, 0, "e", world.clock)  # type: ignore[arg-type]
        world.holdings[emit.key] = holding
        assert holding["owner"] == target
