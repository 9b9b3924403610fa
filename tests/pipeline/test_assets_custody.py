"""Custody: who gets a token that comes in from the chain, and who does not; what nobody owns goes nowhere.

Old transactions that nobody has claimed, moves of a part, claims that wait: `pipeline.domain.assets.border`, `pending`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from pipeline.domain.account import AccountCode
from pipeline.domain.assets import custody
from tests.pipeline.test_assets_rules import ANN, BOB, ISSUER, MPT, NFT, STRANGER, TREASURY, TX, Story

OTHER_TREASURY, MAL = "xrpl:0/rT2", "xrpl:0/rMal"


@pytest.fixture
def story() -> Iterator[Story]:
    made = Story()
    made.does("APP_REGISTERED", "app", {"title": "App", "treasuries": [TREASURY, OTHER_TREASURY]})
    made.does("USER_REGISTERED", "mal", {"addresses": [MAL]})
    yield made
    made.fold.close()


def receive(story: Story, user: str, tx: str, units: str | None = None) -> list[str]:
    return story.does(
        "ONCHAIN_RECEIVE", "card", {"to_user_id": user, "tx_hash": tx, "units": units}, user_id=user
    )


def send(story: Story, user: str, to: str, tx: str, units: str | None = None) -> list[str]:
    return story.does("ONCHAIN_SEND", "card", {"to_address": to, "tx_hash": tx, "units": units}, user_id=user)


def held(story: Story) -> tuple[str | None, str]:
    card = story.state("card")
    return card["owner_user_id"], card["custody_type"]


def split(story: Story, outside: str = BOB) -> None:
    """10 units; 5 stay ann's in the treasury, 5 are out at an address."""
    story.asset("card", MPT)
    story.seen(MPT, ISSUER, TREASURY, TX[0], "10")
    story.does("FRACTIONED", "card", {"fraction_count": 10}, user_id="ann")
    send(story, "ann", outside, TX[1], "5")
    story.seen(MPT, TREASURY, outside, TX[1], "5")


@pytest.mark.parametrize("token", [NFT, MPT])
def test_an_old_deposit_that_nobody_claimed_makes_nobody_the_owner(story: Story, token: str) -> None:
    """Mal sent it in; it went out to ann again, and then ann sent it in: it is hers whoever is told first."""
    amount = "1" if token == NFT else "100"
    story.asset("card", token, "onchain", None)
    story.seen(token, None if token == NFT else ISSUER, MAL, TX[0], amount)
    story.seen(token, MAL, TREASURY, TX[1], amount)
    story.seen(token, TREASURY, ANN, TX[2], amount)
    assert receive(story, "mal", TX[1]) == ["onchain_mismatch"]
    assert held(story) == ("ann", "onchain")
    story.does("ONCHAIN_CANCELLED", "card", {"tx_hash": TX[1]}, user_id="ann")
    story.seen(token, ANN, TREASURY, TX[3], amount)
    assert receive(story, "mal", TX[1]) == ["onchain_mismatch"]
    assert held(story) == (None, "onchain")
    old = {"tx_hash": TX[1]}
    assert story.refused("ONCHAIN_CANCELLED", "card", old, user_id="bob") == ("not_owner", "user_id")
    assert receive(story, "ann", TX[3]) == []
    assert held(story) == ("ann", "managed")


@pytest.mark.parametrize("token", [NFT, MPT])
@pytest.mark.parametrize("registered", [0, 1, 2, 3])
def test_a_late_claim_is_done_wherever_the_token_is_in_the_treasuries(
    story: Story, token: str, registered: int
) -> None:
    """Moves between treasuries, and changes of it there, leave it whose it was; so does a late registration."""
    amount = "1" if token == NFT else "100"
    moves = [(ISSUER if token == MPT else None, ANN), (ANN, TREASURY), (TREASURY, OTHER_TREASURY)]
    for place, (source, target) in enumerate(moves):
        if place == registered:
            story.asset("card", token, "onchain", None)
        story.seen(token, source, target, TX[place], amount)
    if registered == len(moves):
        story.asset("card", token, "onchain", None)
    if token == NFT:
        story.seen(token, OTHER_TREASURY, OTHER_TREASURY, TX[4])  # its URI was changed
    assert receive(story, "ann", TX[1]) == []
    assert held(story) == ("ann", "managed")


def test_of_a_token_of_a_former_release_the_last_transaction_counts(story: Story) -> None:
    story.asset("card", NFT, "onchain", None)
    story.seen(NFT, None, ANN, TX[0])
    story.seen(NFT, ANN, TREASURY, TX[1])
    for kind, id, field in (("token", NFT, "moved_tx"), ("observed", f"{NFT}|{TX[1]}", "before"),
                            ("asset", "card", "fractioned_event_id")):  # fmt: skip
        state = story.fold.state(kind, id)
        assert state is not None
        story.fold.held[kind, id] = orjson.dumps({k: v for k, v in state.items() if k != field})
    assert receive(story, "ann", TX[1]) == []
    assert held(story) == ("ann", "managed")


def test_a_token_that_came_back_is_not_sent_by_its_old_transaction(story: Story) -> None:
    story.asset("card", NFT)
    for tx, (source, target) in enumerate([(None, TREASURY), (TREASURY, BOB), (BOB, TREASURY)]):
        story.seen(NFT, source, target, TX[tx])
    assert send(story, "ann", BOB, TX[1]) == ["onchain_mismatch"]
    assert held(story) == ("ann", "managed")


@pytest.mark.parametrize("chain_first", [False, True])
def test_a_part_of_an_mpt_moves_no_whole_asset(story: Story, chain_first: bool) -> None:
    """99 of 100 units are ann's, 1 is mal's: neither his unit in the treasury nor ann's gives the asset to anybody."""
    story.asset("card", MPT, "onchain", None)
    story.seen(MPT, ISSUER, ANN, TX[0], "99")
    story.seen(MPT, ISSUER, MAL, TX[1], "1")
    asked = {"to_user_id": "mal", "tx_hash": TX[2]}
    alerts = (
        [] if chain_first else story.does("ONCHAIN_RECEIVE", "card", asked)
    )  # by a service, that trusts him
    alerts += story.seen(MPT, MAL, TREASURY, TX[2], "1")
    alerts += receive(story, "mal", TX[2]) if chain_first else []
    assert alerts == ["onchain_mismatch"]
    assert held(story) == (None, "onchain")
    story.seen(MPT, ANN, TREASURY, TX[3], "99")
    assert held(story) == (None, "onchain")


def test_the_last_part_that_comes_in_is_not_the_whole(story: Story) -> None:
    story.asset("card", MPT, "onchain", None)
    for tx, (source, target, amount) in enumerate([
        (ISSUER, ANN, "99"), (ISSUER, MAL, "1"), (ANN, TREASURY, "99"), (MAL, TREASURY, "1"),
    ]):  # fmt: skip
        story.seen(MPT, source, target, TX[tx], amount)
    assert receive(story, "mal", TX[3]) == ["onchain_mismatch"]
    assert held(story) == (None, "onchain")


@pytest.mark.parametrize("chain_first", [False, True])
def test_a_whole_mpt_asset_is_sent_by_a_move_of_all_of_it(story: Story, chain_first: bool) -> None:
    story.asset("card", MPT)
    story.seen(MPT, ISSUER, TREASURY, TX[0], "100")
    for tx, amount, ends in ((TX[1], "1", ("ann", "managed")), (TX[2], "100", ("bob", "onchain"))):
        if not chain_first:
            send(story, "ann", BOB, tx)
        story.seen(MPT, TREASURY, BOB, tx, amount)
        if chain_first:
            send(story, "ann", BOB, tx)
        assert held(story) == ends
        if amount == "1":
            story.does("ONCHAIN_CANCELLED", "card", {"tx_hash": tx}, user_id="ann")
            story.seen(MPT, BOB, TREASURY, TX[3], "1")


def test_a_whole_mpt_asset_comes_home_to_a_treasury_that_issued_it(story: Story) -> None:
    """What is back at the issuer circulates no more."""
    story.does("APP_REGISTERED", "app", {"title": "App", "treasuries": [ISSUER]})
    story.asset("card", MPT)
    send(story, "ann", BOB, TX[0])
    story.seen(MPT, ISSUER, BOB, TX[0], "100")
    assert held(story) == ("bob", "onchain")
    receive(story, "bob", TX[1])
    assert story.seen(MPT, BOB, ISSUER, TX[1], "100") == []
    assert held(story) == ("bob", "managed")


ORDERS = list(itertools.permutations(["send", "receive", "claim", "chain"]))


@pytest.mark.parametrize("order", ORDERS, ids=["-".join(one) for one in ORDERS])
def test_a_deposit_is_its_senders_in_whatever_order_it_is_told(story: Story, order: tuple[str, ...]) -> None:
    """Ann sends 5 units to bob, who sends them back in; mal claims by a deposit of before the fractions."""
    story.seen(MPT, ISSUER, MAL, TX[5], "5")
    story.seen(MPT, MAL, TREASURY, TX[6], "5")
    story.asset("card", MPT)
    story.seen(MPT, ISSUER, TREASURY, TX[0], "5")
    story.does("FRACTIONED", "card", {"fraction_count": 10}, user_id="ann")
    told = {"to_user_id": "mal", "tx_hash": TX[6], "units": "5"}
    left = {"send": lambda: send(story, "ann", BOB, TX[1], "5"), "chain": lambda: by_chain(story),
            "receive": lambda: receive(story, "bob", TX[2], "5"),
            "claim": lambda: story.tell("ONCHAIN_RECEIVE", "card", told, user_id="mal")}  # fmt: skip
    if order.index("receive") < min(order.index("send"), order.index("chain")):
        asked = {"to_user_id": "bob", "tx_hash": TX[2], "units": "5"}
        assert story.refused("ONCHAIN_RECEIVE", "card", asked, user_id="bob")[0] == "insufficient_units"
        return
    for step in order:
        left[step]()
    card = story.state("card")
    assert (card["holdings"], card["onchain_units"]) == ({"ann": "5", "bob": "5"}, "0")
    assert card["difference"] is None and all(
        one["user_id"] == "mal" for one in card["pending_units"].values()
    )


def by_chain(story: Story) -> None:
    story.seen(MPT, TREASURY, BOB, TX[1], "5")
    story.seen(MPT, BOB, TREASURY, TX[2], "5")


@pytest.mark.parametrize("told_first", [False, True])
def test_what_was_taken_and_brought_back_is_not_claimed_at_anothers_cost(
    story: Story, told_first: bool
) -> None:
    """Mal gets 5 units out of the treasury without a request, brings them back and claims them. Then bob comes in."""
    split(story)
    assert story.seen(MPT, TREASURY, MAL, TX[2], "5") == ["custody_difference"]
    assert story.seen(MPT, MAL, TREASURY, TX[3], "5") == []
    assert receive(story, "mal", TX[3], "5") == []  # waits: it made good what was missing
    assert story.state("card")["holdings"] == {"ann": "5"}
    if told_first:
        receive(story, "bob", TX[4], "5")
    story.seen(MPT, BOB, TREASURY, TX[4], "5")
    if not told_first:
        receive(story, "bob", TX[4], "5")
    assert story.state("card")["holdings"] == {"ann": "5", "bob": "5"}
    assert story.state("card")["difference"] is None
    assert story.fold.balance("offchain/fraction:card", AccountCode.USER, "mal") == 0


def test_units_are_not_credited_while_the_treasury_lacks_them(story: Story) -> None:
    """3 were taken out of it: bob's 5 fill that up, and he gets them when somebody has made it good."""
    split(story)
    story.seen(MPT, TREASURY, STRANGER, TX[2], "3")
    receive(story, "bob", TX[3], "5")
    assert story.seen(MPT, BOB, TREASURY, TX[3], "5") == ["custody_difference"]
    card = story.state("card")
    assert card["holdings"] == {"ann": "5"}
    assert not card["pending_units"][TX[3]]["mismatch"]
    assert story.seen(MPT, STRANGER, TREASURY, TX[4], "3") == []
    card = story.state("card")
    assert (card["holdings"], card["onchain_units"]) == ({"ann": "5", "bob": "5"}, "0")


def test_what_was_sent_back_is_not_claimed_at_anothers_cost(story: Story) -> None:
    """Bob's deposit is sent back to him without a request; he pays mal with it, who brings it in: it is mal's."""
    split(story)
    story.seen(MPT, BOB, TREASURY, TX[2], "5")
    story.seen(MPT, TREASURY, BOB, TX[3], "5")
    receive(story, "bob", TX[2], "5")
    story.seen(MPT, BOB, MAL, TX[4], "5")
    story.seen(MPT, MAL, TREASURY, TX[5], "5")
    assert story.state("card")["holdings"] == {"ann": "5"}
    receive(story, "mal", TX[5], "5")
    assert story.state("card")["holdings"] == {"ann": "5", "mal": "5"}


def test_an_address_that_is_registered_late_is_owed_what_it_brought(story: Story) -> None:
    split(story, outside=STRANGER)
    story.seen(MPT, STRANGER, TREASURY, TX[2], "5")
    story.does("USER_REGISTERED", "late", {"addresses": [STRANGER]})
    receive(story, "late", TX[2], "5")
    assert story.state("card")["holdings"] == {"ann": "5", "late": "5"}


def test_fractions_that_are_told_after_the_chain_end_alike(story: Story) -> None:
    story.seen(MPT, ISSUER, TREASURY, TX[0], "10")
    by_chain(story)
    story.asset("card", MPT)
    story.does("FRACTIONED", "card", {"fraction_count": 10}, user_id="ann")
    send(story, "ann", BOB, TX[1], "5")
    receive(story, "bob", TX[2], "5")
    assert story.state("card")["holdings"] == {"ann": "5", "bob": "5"}


def test_whoever_names_anothers_deposit_first_makes_way_once_the_chain_tells(story: Story) -> None:
    split(story)
    receive(story, "mal", TX[2], "5")
    mine = {"to_user_id": "bob", "tx_hash": TX[2], "units": "5"}
    assert story.refused("ONCHAIN_RECEIVE", "card", mine, user_id="bob")[0] == "illegal_transition"
    assert story.seen(MPT, BOB, TREASURY, TX[2], "5") == ["onchain_mismatch", "custody_difference"]
    receive(story, "bob", TX[2], "5")
    assert story.state("card")["holdings"] == {"ann": "5", "bob": "5"}
    assert story.state("card")["pending_units"] == {}


@pytest.mark.parametrize("chain_first", [False, True])
@pytest.mark.parametrize("inward", [False, True])
def test_what_comes_after_the_whole_changes_nothing(story: Story, chain_first: bool, inward: bool) -> None:
    """All of an MPT came in (went out); a unit that is issued (redeemed) later makes no other order of it."""
    story.asset("card", MPT, *(("onchain", None) if inward else ()))
    story.seen(MPT, ISSUER, ANN if inward else TREASURY, TX[0], "100")
    moved = (ANN, TREASURY) if inward else (TREASURY, BOB)
    asked = (lambda: receive(story, "ann", TX[1])) if inward else (lambda: send(story, "ann", BOB, TX[1]))
    if not chain_first:
        asked()
    story.seen(MPT, *moved, TX[1], "100")
    story.seen(MPT, *((ISSUER, TREASURY) if inward else (BOB, ISSUER)), TX[2], "1")
    if chain_first:
        asked()
    assert held(story)[1] == ("managed" if inward else "onchain")


def test_who_holds_all_units_merges_whatever_others_claim(story: Story) -> None:
    story.asset("card", MPT)
    story.seen(MPT, ISSUER, TREASURY, TX[0], "10")
    story.seen(MPT, ISSUER, MAL, TX[6], "5")
    story.does("FRACTIONED", "card", {"fraction_count": 10}, user_id="ann")
    story.seen(MPT, MAL, TREASURY, TX[7], "5")
    receive(story, "mal", TX[7], "5")
    assert story.does("MERGED", "card", {}, user_id="ann") == ["onchain_mismatch"]
    assert held(story) == ("ann", "managed")


def test_claims_of_others_that_wait_keep_nobody_from_his(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither as units that are spoken for, nor as places that are taken."""
    monkeypatch.setattr(custody, "PENDING_MAX", 2)
    monkeypatch.setattr(custody, "OF_ONE_MAX", 3)
    split(story)
    receive(story, "mal", TX[7], "4")
    again = {"to_user_id": "mal", "tx_hash": TX[8], "units": "2"}
    assert story.refused("ONCHAIN_RECEIVE", "card", again, user_id="mal") == (
        "insufficient_units", "data.units",
    )  # fmt: skip
    receive(story, "mal", TX[8], "1")
    assert receive(story, "bob", TX[2], "5") == []
    story.seen(MPT, BOB, TREASURY, TX[2], "5")
    assert story.state("card")["holdings"] == {"ann": "5", "bob": "5"}
    assert story.refused("ONCHAIN_SEND", "card", {"to_address": MAL, "tx_hash": TX[9], "units": "1"},
                         user_id="mal")[0] == "insufficient_units"  # fmt: skip


def test_of_one_users_requests_so_many_wait(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custody, "OF_ONE_MAX", 1)
    split(story)
    receive(story, "bob", TX[2], "1")
    again = {"to_user_id": "bob", "tx_hash": TX[3], "units": "1"}
    assert story.refused("ONCHAIN_RECEIVE", "card", again, user_id="bob") == ("too_many", "data.tx_hash")


def test_the_owner_ends_a_request_of_the_one_before_him(story: Story) -> None:
    story.asset("card", NFT, "onchain", None)
    story.seen(NFT, None, ANN, TX[0])
    receive(story, "ann", TX[9])
    story.seen(NFT, ANN, BOB, TX[1])
    asked = {"to_user_id": "bob", "tx_hash": TX[2]}
    assert story.refused("ONCHAIN_RECEIVE", "card", asked, user_id="bob")[0] == "illegal_transition"
    cancel = {"tx_hash": TX[9]}
    assert story.refused("ONCHAIN_CANCELLED", "card", cancel, user_id="mal")[0] == "not_owner"
    story.does("ONCHAIN_CANCELLED", "card", cancel, user_id="bob")
    receive(story, "bob", TX[2])
    story.seen(NFT, BOB, TREASURY, TX[2])
    assert held(story) == ("bob", "managed")
    story.does("TRANSFERRED", "card", {"to_user_id": "mal"}, user_id="bob")
    send(story, "mal", MAL, TX[3])  # who had it before him, and sent it in, is not asked any more
    for who in ("ann", "bob"):
        assert story.refused("ONCHAIN_CANCELLED", "card", {"tx_hash": TX[3]}, user_id=who)[0] == "not_owner"


def test_what_nobody_owns_goes_nowhere(story: Story) -> None:
    """A stranger burns a pack on the chain: its content is told, and waits for somebody to say whose it is."""
    story.asset("pack", NFT, "onchain", None)
    story.asset("card")
    story.seen(NFT, None, ANN, TX[0])
    story.does("PACK_CREATED", "pack", {"contents": ["card"]}, user_id="ann")
    story.does("USER_ADDRESSES_CHANGED", "ann", {"removed": [ANN]})
    assert story.refused("PACK_OPENED", "pack")[0] == "illegal_transition"
    judged = story.tell("CHAIN_OBSERVED", NFT, {
        "kind": "token", "chain": "xrpl:0", "token": NFT, "action": "burnt", "from_address": ANN, "amount": "1",
        "tx_hash": TX[1], "block": 99, "transaction_index": 0, "change_index": 0,
    }, source="chain:xrpl:0")  # fmt: skip
    assert judged.decision is not None
    (note,) = judged.decision.alerts
    assert note["rule"] == "content_without_owner" and "card" in orjson.loads(note["evidence"])["content"]
    sale = {"price": "1", "currency": "USD"}
    moves: list[tuple[str, dict[str, Any]]] = [
        ("LISTED", sale), ("TRANSFERRED", {"to_user_id": "bob"}), ("SOLD", {**sale, "to_user_id": "bob"}),
        ("FRACTIONED", {"fraction_count": 3}), ("BURNED", {}),
    ]  # fmt: skip
    for type, data in moves:
        by = "bob" if type == "TRANSFERRED" else ""
        assert story.refused(type, "card", data, user_id=by) == ("illegal_transition", "type"), type
    story.does("TRANSFERRED", "card", {"to_user_id": "bob"})  # by a service, that knows
    assert held(story) == ("bob", "managed")


def test_an_owner_who_burns_his_pack_keeps_what_was_in_it(story: Story) -> None:
    story.asset("pack", NFT, "onchain", None)
    story.asset("card")
    story.seen(NFT, None, ANN, TX[0])
    story.does("PACK_CREATED", "pack", {"contents": ["card"]}, user_id="ann")
    assert story.seen(NFT, ANN, None, TX[1]) == []
    assert story.state("card")["owner_user_id"] == "ann"


def test_a_pack_has_assets_of_its_own_application_alone(story: Story) -> None:
    story.does("APP_REGISTERED", "other", {"title": "Other"})
    story.asset("pack")
    data = {"asset_type": "card", "title": "Card", "owner_user_id": "ann"}
    story.does("ASSET_REGISTERED", "theirs", data, app_id="other")
    story.does("MINTED", "theirs")
    assert story.refused("PACK_CREATED", "pack", {"contents": ["theirs"]}, user_id="ann") == (
        "other_app", "data.contents.0",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("owner", "holder", "to", "reason"),
    [
        (None, None, "nobody", "unknown_user"), (None, None, "bob", ""), ("ann", None, "bob", "other_owner"),
        (None, ANN, "bob", "other_owner"), (None, STRANGER, "bob", "other_owner"), (None, ANN, "ann", ""),
        (None, STRANGER, None, ""),
    ],
)  # fmt: skip
def test_an_asset_of_the_chain_is_minted_to_whom_the_chain_gave_it(
    story: Story, owner: str | None, holder: str | None, to: str | None, reason: str
) -> None:
    data = {
        "asset_type": "card",
        "title": "Card",
        "token": NFT,
        "custody_type": "onchain",
        "owner_user_id": owner,
    }
    story.does("ASSET_REGISTERED", "card", data, app_id="app")
    if holder is not None:
        story.seen(NFT, None, holder, TX[0])
    before = story.state("card")["owner_user_id"]
    if reason:
        assert story.refused("MINTED", "card", {"to_user_id": to}) == (reason, "data.to_user_id")
    else:
        story.does("MINTED", "card", {"to_user_id": to})
    assert story.state("card")["owner_user_id"] == before
