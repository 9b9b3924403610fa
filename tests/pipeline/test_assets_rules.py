"""Single rules of S0 that take more than one event to show; each event type's own case: tests/golden/assets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from pipeline.catalog.assets import ASSETS
from pipeline.domain.account import AccountCode
from pipeline.domain.applications.event import Figures, Refusal
from pipeline.domain.applications.fold import Judged, Overlay
from pipeline.domain.assets import state
from pipeline.domain.assets.figures import of_applied
from tests.support.applications import TestFold, event, fold_of

CHAIN = "xrpl:0"
TREASURY, ANN, BOB, STRANGER = (f"{CHAIN}/r{name}" for name in ("T", "Ann", "Bob", "Stranger"))
ISSUER = f"{CHAIN}/rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh"
NFT = f"{CHAIN}/nft:{'A' * 64}"
MPT = f"{CHAIN}/mpt:00000001B5F762798A53D543A014CAF8B297CFF8F2F937E8"
ERC721 = f"eip155:1/erc721:0x{'ab' * 20}/7"
TX = [digit * 64 for digit in "0123456789"]


class Story:
    """A fold with ann, bob and an application whose treasury is TREASURY."""

    def __init__(self) -> None:
        self.fold: TestFold = fold_of(ASSETS)
        self.count = 0
        self.tell("USER_REGISTERED", "ann", {"addresses": [ANN]})
        self.tell("USER_REGISTERED", "bob", {"addresses": [BOB]})
        self.tell("APP_REGISTERED", "app", {"title": "App", "treasuries": [TREASURY]})

    def tell(self, type: str, key: str, data: Any = None, **envelope: Any) -> Judged:
        self.count += 1
        return self.fold.one(
            event(ASSETS, type, key, 10**12 + self.count, data or {}, id=f"e{self.count}", **envelope)
        )

    def refused(self, type: str, key: str, data: Any = None, **envelope: Any) -> tuple[str, str]:
        refusal = self.tell(type, key, data, **envelope).refused
        assert refusal is not None
        return refusal.reason, refusal.field

    def does(self, type: str, key: str, data: Any = None, **envelope: Any) -> list[str]:
        """Rules of the alerts that it raised."""
        judged = self.tell(type, key, data, **envelope)
        assert judged.decision is not None, judged.refused
        return [note["rule"] for note in judged.decision.alerts]

    def asset(
        self, id: str, token: str | None = None, custody: str = "managed", owner: str | None = "ann"
    ) -> None:
        data = {
            "asset_type": "card",
            "title": "Card",
            "token": token,
            "custody_type": custody,
            "owner_user_id": owner,
        }
        self.does("ASSET_REGISTERED", id, data, app_id="app")
        self.does("MINTED", id)

    def seen(
        self, token: str, source: str | None, target: str | None, tx: str, amount: str = "1"
    ) -> list[str]:
        action = "minted" if source is None else "burnt" if target is None else "transferred"
        data = {
            "kind": "token", "chain": CHAIN, "token": token, "action": action, "from_address": source,
            "to_address": target, "amount": amount, "tx_hash": tx, "block": self.count, "transaction_index": 0,
            "change_index": 0,
        }  # fmt: skip
        return self.does("CHAIN_OBSERVED", token, data, source=f"chain:{CHAIN}")

    def state(self, id: str) -> dict[str, Any]:
        found = self.fold.state("asset", id)
        assert found is not None
        return found


@pytest.fixture
def story() -> Iterator[Story]:
    made = Story()
    yield made
    made.fold.close()


def test_units_go_to_the_chain_and_come_back(story: Story) -> None:
    """10 units of an MPT: 4 to bob's address, he gives 1 to ann's there, ann takes hers in again."""
    story.asset("card", MPT)
    assert story.seen(MPT, ISSUER, TREASURY, TX[0], "10") == []
    story.does("FRACTIONED", "card", {"fraction_count": 10}, user_id="ann")
    story.does("ONCHAIN_SEND", "card", {"to_address": BOB, "tx_hash": TX[1], "units": "4"}, user_id="ann")
    assert story.refused("TRANSFERRED", "card", {"to_user_id": "bob", "units": "7"}, user_id="ann") == (
        "insufficient_units", "data.units",
    )  # fmt: skip
    assert story.refused("MERGED", "card")[0] == "illegal_transition"
    assert story.seen(MPT, TREASURY, BOB, TX[1], "4") == []
    card = story.state("card")
    assert (card["holdings"], card["onchain_units"], card["custody_type"]) == ({"ann": "6"}, "4", "hybrid")
    assert story.seen(MPT, BOB, ANN, TX[2], "1") == []
    story.does(
        "ONCHAIN_RECEIVE", "card", {"to_user_id": "ann", "tx_hash": TX[3], "units": "1"}, user_id="ann"
    )
    assert story.seen(MPT, ANN, TREASURY, TX[3], "1") == []
    card = story.state("card")
    assert (card["holdings"], card["onchain_units"]) == ({"ann": "7"}, "3")
    assert story.fold.balance("offchain/fraction:card", AccountCode.USER, "ann") == 7
    assert story.seen(MPT, TREASURY, STRANGER, TX[4], "2") == ["custody_difference"]
    assert story.state("card")["holdings"] == {"ann": "7"}


def test_whoever_the_chain_gives_a_pack_has_what_is_in_it(story: Story) -> None:
    story.asset("pack", NFT, "onchain", None)
    story.asset("card")
    story.seen(NFT, None, ANN, TX[0])
    story.does("PACK_CREATED", "pack", {"contents": ["card"]}, user_id="ann")
    story.seen(NFT, ANN, STRANGER, TX[1])
    assert (story.state("pack")["owner_user_id"], story.state("card")["owner_user_id"]) == (None, None)
    story.does("USER_REGISTERED", "cyd", {"addresses": [STRANGER]})
    assert (story.state("pack")["owner_user_id"], story.state("card")["owner_user_id"]) == ("cyd", "cyd")
    assert story.refused("PACK_OPENED", "pack", user_id="ann") == ("not_owner", "user_id")
    story.does("PACK_OPENED", "pack", user_id="cyd")
    story.does("TRANSFERRED", "card", {"to_user_id": "bob"}, user_id="cyd")
    assert story.state("card")["parent_container_id"] is None


def test_what_an_address_holds_goes_with_the_address(story: Story) -> None:
    """Ann's address becomes bob's, with the pack that is in custody of the chain there and the card in it; what is in
    custody of the application stays hers."""
    story.asset("pack", NFT, "onchain", None)
    for id in ("card", "mine"):
        story.asset(id)
    story.seen(NFT, None, ANN, TX[0])
    story.does("PACK_CREATED", "pack", {"contents": ["card"]}, user_id="ann")
    assert story.refused("USER_ADDRESSES_CHANGED", "bob", {"added": [ANN]}) == ("address_taken", "data.added")
    story.does("USER_ADDRESSES_CHANGED", "ann", {"removed": [ANN], "added": [STRANGER]})
    assert [story.state(id)["owner_user_id"] for id in ("pack", "card", "mine")] == [None, None, "ann"]
    story.does("USER_ADDRESSES_CHANGED", "bob", {"added": [ANN]})
    assert [story.state(id)["owner_user_id"] for id in ("pack", "card", "mine")] == ["bob", "bob", "ann"]
    story.seen(NFT, ANN, STRANGER, TX[1])
    assert story.state("card")["owner_user_id"] == "ann"
    assert story.fold.state("user", "ann") == {"addresses": [STRANGER]}


def test_of_assets_beyond_what_an_address_names_none_is_anothers(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever registers the address acts on those, too; it is not given up while it holds so many."""
    monkeypatch.setattr(state, "NAMED_MAX", 1)
    tokens = [f"{CHAIN}/nft:{digit * 64}" for digit in "AB"]
    for id, token in zip(("first", "second"), tokens, strict=True):
        story.asset(id, token, "onchain", None)
        story.seen(token, None, STRANGER, TX[0])
    story.does("USER_REGISTERED", "cyd", {"addresses": [STRANGER]})
    assert [story.state(id)["owner_user_id"] for id in ("first", "second")] == ["cyd", None]
    story.does("METADATA_UPDATED", "second", {"title": "Mine"}, user_id="cyd")
    assert story.state("second")["owner_user_id"] == "cyd"
    assert story.refused("USER_ADDRESSES_CHANGED", "cyd", {"removed": [STRANGER]})[0] == "too_many"
    story.seen(tokens[1], STRANGER, BOB, TX[1])
    story.does("USER_ADDRESSES_CHANGED", "cyd", {"removed": [STRANGER]})
    assert [story.state(id)["owner_user_id"] for id in ("first", "second")] == [None, "bob"]


def test_a_users_address_of_a_former_release_is_not_given_up(story: Story) -> None:
    """Its state does not say what stands there; what leaves it leaves."""
    story.asset("card", NFT, "onchain", None)
    story.seen(NFT, None, ANN, TX[0])
    for id, user, treasury in ((ANN, "ann", False), (TREASURY, None, True)):
        old = {"user_id": user, "treasury": treasury, "waiting": []}
        story.fold.held["address", id] = orjson.dumps(old)
    story.does("APP_REGISTERED", "app", {"title": "App", "treasuries": [TREASURY]})
    assert story.refused("USER_ADDRESSES_CHANGED", "bob", {"added": [TREASURY]})[0] == "address_taken"
    assert story.refused("USER_ADDRESSES_CHANGED", "ann", {"removed": [ANN]})[0] == "too_many"
    story.seen(NFT, ANN, BOB, TX[1])
    assert story.state("card")["owner_user_id"] == "bob"
    assert story.refused("USER_ADDRESSES_CHANGED", "ann", {"removed": [ANN]})[0] == "too_many"


def test_what_waited_at_an_address_in_a_former_release_is_his_who_registers_it(story: Story) -> None:
    story.asset("card", NFT, "onchain", None)
    story.seen(NFT, None, STRANGER, TX[0])
    old = {"user_id": None, "treasury": False, "waiting": ["card"]}
    story.fold.held["address", STRANGER] = orjson.dumps(old)
    story.does("USER_REGISTERED", "cyd", {"addresses": [STRANGER]})
    assert story.state("card")["owner_user_id"] == "cyd"
    story.does("USER_ADDRESSES_CHANGED", "cyd", {"removed": [STRANGER]})
    assert story.state("card")["owner_user_id"] is None


def test_a_treasury_is_dropped_by_its_own_application_alone(story: Story) -> None:
    old = {"user_id": None, "treasury": True, "waiting": []}
    story.fold.held["address", TREASURY] = orjson.dumps(old)
    story.fold.held["app", "other"] = orjson.dumps(
        {"title": "Other", "issuers": [], "treasuries": [TREASURY]}
    )
    story.does("APP_REGISTERED", "app", {"title": "App", "treasuries": [TREASURY]})
    story.does("APP_REGISTERED", "other", {"title": "Other", "treasuries": []})
    assert story.refused("USER_ADDRESSES_CHANGED", "bob", {"added": [TREASURY]})[0] == "address_taken"


def test_a_pack_that_the_chain_burns_gives_its_content_free(story: Story) -> None:
    story.asset("pack", NFT)
    story.asset("card")
    story.seen(NFT, None, TREASURY, TX[0])
    story.does("PACK_CREATED", "pack", {"contents": ["card"]})
    assert story.seen(NFT, TREASURY, None, TX[1]) == ["custody_difference"]
    assert story.state("pack")["burnt"] and story.state("pack")["owner_user_id"] == "ann"
    assert story.state("card")["parent_container_id"] is None
    story.does("TRANSFERRED", "card", {"to_user_id": "bob"}, user_id="ann")


def test_a_request_that_is_not_the_transaction_stays_until_it_is_cancelled(story: Story) -> None:
    story.asset("card", NFT)
    story.seen(NFT, None, TREASURY, TX[0])
    story.does("ONCHAIN_SEND", "card", {"to_address": ANN, "tx_hash": TX[1]}, user_id="ann")
    assert story.seen(NFT, TREASURY, BOB, TX[1]) == ["onchain_mismatch", "custody_difference"]
    assert (
        story.refused("TRANSFERRED", "card", {"to_user_id": "bob"}, user_id="ann")[0] == "illegal_transition"
    )
    assert story.seen(NFT, BOB, TREASURY, TX[2]) == []
    assert story.state("card")["difference"] is None
    assert story.refused("ONCHAIN_CANCELLED", "card", {"tx_hash": TX[1]}, user_id="bob") == (
        "not_owner",
        "user_id",
    )
    story.does("ONCHAIN_CANCELLED", "card", {"tx_hash": TX[1]}, user_id="ann")
    story.does("TRANSFERRED", "card", {"to_user_id": "bob"}, user_id="ann")


def test_one_transaction_completes_one_request(story: Story) -> None:
    """Sent, back, and sent again with the first transaction's hash: that one is used up."""
    story.asset("card", NFT)
    story.seen(NFT, None, TREASURY, TX[0])
    send = {"to_address": ANN, "tx_hash": TX[1]}
    story.does("ONCHAIN_SEND", "card", send, user_id="ann")
    story.seen(NFT, TREASURY, ANN, TX[1])
    story.does("ONCHAIN_RECEIVE", "card", {"to_user_id": "ann", "tx_hash": TX[2]}, user_id="ann")
    story.seen(NFT, ANN, TREASURY, TX[2])
    assert story.state("card")["custody_type"] == "managed"
    assert story.does("ONCHAIN_SEND", "card", send, user_id="ann") == ["onchain_mismatch"]
    assert story.state("card")["custody_type"] == "managed"


@pytest.mark.parametrize("chain_first", [False, True])
@pytest.mark.parametrize(("payer", "fee", "status"), [
    (TREASURY, "12", "confirmed"), (TREASURY, "13", "mismatch"), (STRANGER, "12", "mismatch"),
])  # fmt: skip
def test_a_coverage_and_its_transaction_in_either_order(
    story: Story, chain_first: bool, payer: str, fee: str, status: str
) -> None:
    story.asset("card")
    paid = {
        "kind": "fee", "chain": CHAIN, "action": "paid", "from_address": payer, "amount": fee, "tx_hash": TX[1],
        "block": 1, "transaction_index": 0, "change_index": 0,
    }  # fmt: skip
    covered = {
        "payer_user_id": "ann", "currency": "XRP", "gas_required": "12", "gas_paid_by_user": "0",
        "gas_paid_by_treasury": "12", "treasury_tx_hash": TX[1],
    }  # fmt: skip
    steps: list[tuple[str, str, dict[str, Any], str]] = [
        ("INTERNAL_GAS_COVERAGE", "card", covered, "api"), ("CHAIN_OBSERVED", "tx", paid, "chain:xrpl:0"),
    ]  # fmt: skip
    alerts: list[str] = []
    for type, key, data, source in steps[::-1] if chain_first else steps:
        alerts += story.does(type, key, data, source=source)
    coverage = story.fold.state("coverage", TX[1])
    assert coverage is not None and coverage["status"] == status
    assert alerts == ([] if status == "confirmed" else ["treasury_tx_mismatch"])
    assert story.fold.balance("offchain/gas:XRP", AccountCode.FEE_POOL, "app") == 12
    assert story.refused("INTERNAL_GAS_COVERAGE", "card", covered) == (
        "already_covered",
        "data.treasury_tx_hash",
    )


@pytest.mark.parametrize(("chain", "currency", "status"), [
    ("eip155:1", "ETH", "confirmed"), ("eip155:1", "XRP", "mismatch"), ("eip155:137", "POL", "confirmed"),
    ("eip155:137", "ETH", "mismatch"), ("eip155:31337", "ETH", "confirmed"),
    ("xrpl:1", "XRP", "confirmed"), ("xrpl:1", "BTC", "mismatch"),
])  # fmt: skip
def test_a_fee_is_paid_in_its_chains_coin(story: Story, chain: str, currency: str, status: str) -> None:
    payer, paid = f"{chain}/0x{'cc' * 20}", f"0x{'5' * 64}" if chain.startswith("eip155") else TX[5]
    story.does("APP_REGISTERED", "app", {"title": "App", "treasuries": [payer]})
    story.asset("card")
    parts = {"gas_required": "12", "gas_paid_by_user": "0", "gas_paid_by_treasury": "12"}
    covered = {"payer_user_id": "ann", "currency": currency, "treasury_tx_hash": paid, **parts}
    told = event(ASSETS, "INTERNAL_GAS_COVERAGE", "card", data=covered)
    entry = ASSETS.types[told.type].entry
    assert entry is not None
    entry(told)
    story.does(told.type, "card", covered)
    fee = {
        "kind": "fee", "chain": chain, "action": "paid", "from_address": payer, "amount": "12", "tx_hash": paid,
        "block": 1, "transaction_index": 0, "change_index": 0,
    }  # fmt: skip
    alerts = story.does("CHAIN_OBSERVED", "tx", fee, source=f"chain:{chain}")
    assert alerts == ([] if status == "confirmed" else ["treasury_tx_mismatch"])
    assert (story.fold.state("coverage", paid) or {})["status"] == status


GAS = {
    "payer_user_id": "ann", "currency": "XRP", "gas_required": "12", "gas_paid_by_user": "12",
    "gas_paid_by_treasury": "0",
}  # fmt: skip
COVERED = {**GAS, "gas_paid_by_user": "5", "gas_paid_by_treasury": "7", "treasury_tx_hash": TX[1]}
REAL = f"{CHAIN}/rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh"


@pytest.mark.parametrize(("type", "key", "data", "field"), [
    ("ASSET_REGISTERED", "a/b", {"asset_type": "card", "title": "t"}, "asset_id"),
    ("USER_REGISTERED", "..", {}, "asset_id"),
    ("USER_REGISTERED", "u", {"addresses": [REAL, f"{CHAIN}/notanaddress"]}, "data.addresses.1"),
    ("USER_REGISTERED", "u", {"addresses": ["eip155:1/0xAB"]}, "data.addresses.0"),
    ("USER_REGISTERED", "u", {"addresses": [f"eip155:01/0x{'a' * 40}"]}, "data.addresses.0"),
    ("USER_REGISTERED", "u", {"addresses": [f"eip155:1/{'a' * 40}"]}, "data.addresses.0"),
    ("USER_ADDRESSES_CHANGED", "u", {"added": [ANN]}, "data.added.0"),
    ("USER_ADDRESSES_CHANGED", "u", {"added": [REAL], "removed": [ANN]}, None),
    ("APP_REGISTERED", "app", {"title": "App", "treasuries": [TREASURY]}, "data.treasuries.0"),
    ("ONCHAIN_SEND", "card", {"to_address": ANN, "tx_hash": TX[1]}, "data.to_address"),
    ("ONCHAIN_SEND", "card", {"to_address": REAL, "tx_hash": TX[1]}, None),
    ("INTERNAL_GAS_CHARGE", "card", GAS, None),
    ("INTERNAL_GAS_CHARGE", "card", {**GAS, "currency": "xrp"}, "data.currency"),
    ("INTERNAL_GAS_COVERAGE", "card", {**COVERED, "currency": "Xrp"}, "data.currency"),
    ("INTERNAL_GAS_COVERAGE", "card", COVERED, None),
])  # fmt: skip
def test_what_is_asked_where_an_event_comes_in(
    type: str, key: str, data: dict[str, Any], field: str | None
) -> None:
    told = event(ASSETS, type, key, data=data, app_id="app")
    row = ASSETS.types[type]
    assert row.check is not None and row.entry is not None
    row.check(told)
    if field is None:
        row.entry(told)
    else:
        with pytest.raises(Refusal) as caught:
            row.entry(told)
        assert caught.value.field == field


TAG = "550e8400-e29b-41d4-a716-446655440000"


def test_a_tag_is_one_however_it_is_spelled(story: Story) -> None:
    entry = {"asset_type": "card", "title": "Card"}
    story.does("ASSET_REGISTERED", "one", {**entry, "nfc_uuid": TAG.upper().replace("-", "")}, app_id="app")
    assert story.state("one")["nfc_uuid"] == TAG
    for spelled in (TAG, TAG.upper(), TAG.replace("-", "")):
        told = {**entry, "nfc_uuid": spelled}
        assert story.refused("ASSET_REGISTERED", "two", told, app_id="app") == ("not_unique", "data.nfc_uuid")
        story.does("SCANNED", "one", {"nfc_uuid": spelled}, user_id="ann")


def test_a_tag_that_a_former_release_kept_without_dashes_is_taken(story: Story) -> None:
    plain = TAG.replace("-", "")
    story.fold.held["unique", f"nfc:{plain}"] = orjson.dumps({"asset_id": "old"})
    told = {"asset_type": "card", "title": "Card", "nfc_uuid": TAG}
    assert story.refused("ASSET_REGISTERED", "new", told, app_id="app") == ("not_unique", "data.nfc_uuid")


def test_what_a_chain_writes_in_its_own_way_is_one_thing(story: Story) -> None:
    """EVM addresses and hashes in mixed case, XRPL's ids in lower case."""
    story.does("USER_REGISTERED", "eve", {"addresses": [f"eip155:1/0x{'AB' * 20}"]})
    assert story.fold.state("user", "eve") == {"addresses": [f"eip155:1/0x{'ab' * 20}"]}
    assert (
        story.refused("USER_REGISTERED", "mal", {"addresses": [f"eip155:1/0x{'aB' * 20}"]})[0]
        == "address_taken"
    )
    story.asset("card", NFT.replace("A" * 64, "a" * 64))
    story.asset("punk", ERC721.replace("ab", "AB"))
    assert (story.state("card")["token"], story.state("punk")["token"]) == (NFT, ERC721)


def test_another_application_does_not_act_on_an_asset(story: Story) -> None:
    story.does("APP_REGISTERED", "other", {"title": "Other"})
    story.asset("card")
    assert story.refused("TRANSFERRED", "card", {"to_user_id": "bob"}, app_id="other") == (
        "other_app",
        "app_id",
    )


@pytest.mark.parametrize(
    ("type", "data", "reason", "field"),
    [
        ("TRANSFERRED", {"to_user_id": "nobody"}, "unknown_user", "data.to_user_id"),
        ("TRANSFERRED", {"to_user_id": "bob", "units": "0"}, "bad_amount", "data.units"),
        ("TRANSFERRED", {"to_user_id": "bob", "units": "1e3"}, "bad_amount", "data.units"),
        ("TRANSFERRED", {"to_user_id": "ann"}, "same_owner", "data.to_user_id"),
        ("FRACTIONED", {"fraction_count": 1}, "bad_amount", "data.fraction_count"),
        ("FRACTIONED", {"fraction_count": 10**12 + 1}, "bad_amount", "data.fraction_count"),
        ("PACK_CREATED", {"contents": []}, "missing", "data.contents"),
        ("PACK_CREATED", {"contents": ["card"]}, "cycle", "data.contents.0"),
        ("PACK_CREATED", {"contents": ["ghost"]}, "unknown_asset", "data.contents.0"),
        ("PACK_OPENED", {}, "illegal_transition", "type"),
        ("MINTED", {}, "illegal_transition", "type"),
        ("LISTED", {"price": "0.0", "currency": "USD"}, "bad_amount", "data.price"),
        ("LISTED", {"price": "-1", "currency": "USD"}, "bad_amount", "data.price"),
        ("LISTED", {"price": "NaN", "currency": "USD"}, "bad_amount", "data.price"),
        ("LISTED", {"price": "1", "currency": "a b"}, "bad_currency", "data.currency"),
        ("SOLD", {"to_user_id": "bob", "price": "1", "currency": "USD"}, "illegal_transition", "type"),
        ("DELISTED", {}, "illegal_transition", "type"),
        ("MERGED", {}, "illegal_transition", "type"),
        ("ONCHAIN_SEND", {"to_address": ANN, "tx_hash": "zz"}, "bad_hash", "data.tx_hash"),
        ("ONCHAIN_SEND", {"to_address": "rAnn", "tx_hash": TX[1]}, "bad_address", "data.to_address"),
        ("ONCHAIN_SEND", {"to_address": TREASURY, "tx_hash": TX[1]}, "to_treasury", "data.to_address"),
        (
            "ONCHAIN_SEND",
            {"to_address": f"eip155:1/0x{'a' * 40}", "tx_hash": TX[1]},
            "other_chain",
            "data.to_address",
        ),
        ("ONCHAIN_RECEIVE", {"to_user_id": "ann", "tx_hash": TX[1]}, "illegal_transition", "type"),
        ("METADATA_UPDATED", {}, "missing", "data.title"),
        ("USER_ADDRESSES_CHANGED", {}, "missing", "data.added"),
        ("USER_ADDRESSES_CHANGED", {"added": [ANN], "removed": [ANN]}, "twice", "data.removed.0"),
        ("USER_ADDRESSES_CHANGED", {"added": [ANN]}, "unknown_user", "asset_id"),
        ("USER_ADDRESSES_CHANGED", {"added": ["rAnn"]}, "bad_address", "data.added.0"),
    ],
)
def test_a_refusal_names_the_field(
    story: Story, type: str, data: dict[str, Any], reason: str, field: str
) -> None:
    story.asset("card", NFT)
    held = dict(story.fold.held)
    assert story.refused(type, "card", data, user_id="ann") == (reason, field)
    assert story.fold.held == held


def test_social_events_are_somebodys_and_change_nothing(story: Story) -> None:
    story.asset("card")
    held = dict(story.fold.held)
    assert story.refused("VIEWED", "card") == ("missing", "user_id")
    assert story.refused("VIEWED", "card", user_id="nobody") == ("unknown_user", "user_id")
    assert story.refused("PACK_TAPPED", "card", user_id="bob") == ("illegal_transition", "asset_id")
    story.does("REACTION_ADDED", "card", {"reaction": "like"}, user_id="bob")
    assert story.fold.held == held


@pytest.mark.parametrize(
    ("type", "data", "figures"),
    [
        ("SOLD", {"to_user_id": "b", "price": "9" * 30 + "." + "9" * 18, "currency": "X", "units": str(10**12)},
         Figures("app", "ann", "X", "9" * 30 + "9" * 12 + "." + "9" * 6 + "0" * 12)),
        ("SOLD", {"to_user_id": "b", "price": "10.50", "currency": "X"}, Figures("app", "ann", "X", "10.5")),
        ("LISTED", {"price": "10.50", "currency": "X"}, Figures("app", "ann")),
        ("INTERNAL_GAS_CHARGE", {"payer_user_id": "b", "currency": "X", "gas_required": "3", "gas_paid_by_user": "1",
                                 "gas_paid_by_treasury": "2"}, Figures("app", "ann", "X", "0", "3", "1", "2", "b")),
    ],
)  # fmt: skip
def test_figures_of_an_event(type: str, data: dict[str, Any], figures: Figures) -> None:
    """A sale's volume to its last place; the application is the asset's, whatever the event names."""
    view = Overlay(lambda kind, id: {"app_id": "app"} if (kind, id) == ("asset", "card") else None)
    told = event(ASSETS, type, "card", data=data, user_id="ann")
    assert of_applied(told, view) == figures
    by_service = event(ASSETS, type, "card", data=data, app_id="other")
    assert of_applied(by_service, view) == figures._replace(user_id=None)
    assert of_applied(event(ASSETS, type, "gone", data=data, user_id="ann"), view) == figures._replace(
        app_id=""
    )
    user = event(ASSETS, "USER_REGISTERED", "card", data={"addresses": []})
    assert of_applied(user, view) == Figures(""), "a user of an asset's name is no asset"
