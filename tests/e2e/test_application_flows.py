"""Every flow of the applications through everything: HTTP → Kafka → books, states, ClickHouse → the read API.

S0: mint, transfer, social, packs, fractions, sale (its fourth flow, the chain's, is in test_up_serve). S1: a position
from its creation to its release, with attestations. S3: credit, transfer, escrow, votes. S4: authorize, claim, fulfil;
and an expiry that nobody sends.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pipeline.domain.anchors.signature import message
from tests.support.up_life import Life, Node

pytestmark = pytest.mark.xdist_group("demo")

START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
GOLDEN = Path(__file__).parents[1] / "golden" / "tokens"
APPS = """
[apps.mintlings]
title = "Mintlings"
issuers = ["xrpl:0/r3tsSV8cfp3Ku9DJoT13vng3QodY4fD6uV"]
treasuries = ["xrpl:0/r3tsSV8cfp3Ku9DJoT13vng3QodY4fD6uV"]
"""


def at(minutes: float) -> str:
    return (START + timedelta(minutes=minutes)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    node = Node(3)
    made = Life(tmp_path_factory.mktemp("flows"), node, APPS)
    _ = made.key
    made.begin()
    yield made
    made.close()
    node.stop()


REFUSED = {"alone", "stale", "beyond", "again", "forged", "auth-3"}
"""Events that must not be applied: the intake refuses them where it knows the states, else the fold."""


class Teller:
    """Tells events of a topic in order, a minute apart, and waits until they are decided."""

    def __init__(self, life: Life, domain: str, key: str, topic: str) -> None:
        self.life, self._domain, self._key, self._topic = life, domain, key, topic
        self.ids: dict[str, str] = {}

    def __call__(self, name: str, type: str, key: str, user: str = "", /, **data: Any) -> str:
        body = {"type": type, self._key: key, "at": at(len(self.ids)), "data": data}
        if user:
            body["user_id"] = user
        self.ids[name] = self.life.post(
            f"{self._domain}-{name}", body, self._domain, refusable=name in REFUSED
        )
        return self.ids[name]

    def decided(self) -> dict[str, bool | None]:
        """Event's name → whether it was applied, once all are decided."""
        ids = [id for id in self.ids.values() if id]
        self.life.until(lambda: None not in self.life.decided(ids, self._topic).values(), "decided")
        found = self.life.decided(ids, self._topic)
        return {name: bool(id) and found[id] for name, id in self.ids.items()}

    def told(self) -> None:
        """Until ClickHouse has the outcome of every event, and every state and transfer that came before it."""
        ids = [id for id in self.ids.values() if id]
        sql = f"SELECT count() AS n FROM event_outcomes WHERE event_id IN ({', '.join(map(repr, ids))})"
        self.life.until(lambda: self.life.query(sql)[0]["n"] == len(ids), "outcomes in ClickHouse")


def eventually(life: Life, look: Callable[[], Any], what: str) -> Any:
    """Derived topics reach ClickHouse one by one."""
    return life.until(look, what)


def answered(life: Life, path: str, **parameters: str) -> Any:
    response = life.get(path, **parameters)
    return response.json() if response.status_code == 200 else {}


def says(life: Life, path: str, rows: str, wanted: list[Any], *names: str, **parameters: str) -> None:
    """Waits until the rows of an answer are these, by their fields `names`: events and outcomes come by themselves."""

    def met() -> bool:
        found = answered(life, path, **parameters).get(rows, ())
        return [tuple(one[name] for name in names) if names[1:] else one[names[0]] for one in found] == wanted

    eventually(life, met, f"{wanted} at {path}")


def test_s0_mint_transfer_social_pack_fractions_and_sale(life: Life) -> None:
    tell = Teller(life, "assets", "asset_id", "assets.activity.v1")
    life.until(lambda: life.state("app", "mintlings"), "serve registers the application")
    for user in ("alice", "bob", "carol"):
        tell(user, "USER_REGISTERED", user, addresses=[])
    for card in ("card-1", "card-2", "pack-1"):
        entry = {"asset_type": "card", "title": f"No. {card}", "owner_user_id": "alice"}
        body = {
            "type": "ASSET_REGISTERED",
            "asset_id": card,
            "app_id": "mintlings",
            "at": at(4),
            "data": entry,
        }
        tell.ids[f"r-{card}"] = life.post(f"r-{card}", body)
        tell(f"m-{card}", "MINTED", card, to_user_id=None)
    gas = {"currency": "XRP", "gas_required": "12", "gas_paid_by_user": "5", "gas_paid_by_treasury": "7"}
    tell(
        "gas",
        "INTERNAL_GAS_CHARGE",
        "card-1",
        payer_user_id="alice",
        related_transaction_id=tell.ids["m-card-1"],
        **gas,
    )
    tell("view", "VIEWED", "card-1", "bob", surface="feed")
    tell("pack", "PACK_CREATED", "pack-1", "alice", contents=["card-1", "card-2"])
    tell("alone", "TRANSFERRED", "card-1", "alice", to_user_id="carol")  # it moves with its pack alone
    tell("give", "TRANSFERRED", "pack-1", "alice", to_user_id="bob")
    tell("open", "PACK_OPENED", "pack-1", "bob")
    tell("split", "FRACTIONED", "card-2", "bob", fraction_count=1000)
    tell("part", "TRANSFERRED", "card-2", "bob", to_user_id="carol", units="250")
    tell("list", "LISTED", "card-1", "bob", price="10", currency="USD")
    tell("sold", "SOLD", "card-1", to_user_id="carol", price="10.00", currency="USD")
    decided = tell.decided()
    assert {name for name, applied in decided.items() if not applied} == {"alone"}
    tell.told()

    card = eventually(life, lambda: _owned(life, "card-1", "carol"), "carol has bought card-1")
    assert card["title"] == "No. card-1" and card["listing"] is None and card["parent_container_id"] is None
    split = {"bob": "750", "carol": "250"}
    eventually(
        life, lambda: answered(life, "/v1/assets/card-2").get("holdings") == split, f"{split} of card-2"
    )
    done = ["MINTED", "INTERNAL_GAS_CHARGE", "LISTED", "SOLD"]
    says(life, "/v1/assets/card-1/transactions", "transactions", done, "type")
    says(life, "/v1/assets/card-1/events", "events", ["VIEWED"], "type")
    history = life.get("/v1/assets/card-1/provenance", key="")
    assert history.status_code == 200 and history.json()["asset"]["owner_user_id"] == "carol"
    assert life.get("/v1/users/alice/gas", key="").status_code == 401
    sums = ("currency", "total_gas_required", "total_gas_paid_by_treasury")
    says(life, "/v1/users/alice/gas", "gas", [("XRP", "12", "7")], *sums)
    booked(life, "offchain/fraction:card-2", {"bob": 750, "carol": 250, "": -1000})
    booked(life, "offchain/gas:XRP", {"alice": -5, "treasury:mintlings": -7, "mintlings": 12})
    if tell.ids["alone"]:
        fate = life.get(f"/v1/events/{tell.ids['alone']}").json()
        assert fate["status"] == "refused", fate


def _owned(life: Life, asset: str, owner: str) -> Any:
    found = answered(life, f"/v1/assets/{asset}")
    return found if found.get("owner_user_id") == owner else None


def booked(life: Life, asset: str, net: dict[str, int]) -> None:
    """Waits until the posted transfers of a book come to credits − debits of these owners, whoever else is in it."""

    def met() -> bool:
        rows = life.query(
            "SELECT debit_owner, credit_owner, toString(amount) AS amount FROM transfers FINAL "
            f"WHERE asset = '{asset}' AND status = 'posted'"
        )
        found: Counter[str] = Counter()
        for row in rows:
            found[row["debit_owner"]] -= int(row["amount"])
            found[row["credit_owner"]] += int(row["amount"])
        return found.items() >= net.items()

    eventually(life, met, f"{net} in the book {asset}")


def test_s1_a_position_from_creation_to_release(life: Life) -> None:
    money = Teller(life, "anchors", "authorization_id", "anchors.events.v1")
    for who in ("BUILDER", "SUBCONTRACTOR_123", "OWNER"):
        money(f"s1-{who}", "ACCOUNT_OPENED", who, owner=who, account_type="USER", asset="USD")
    money("s1-in", "DEPOSITED", "OWNER", owner="OWNER", account_type="USER", asset="USD", amount="100000.00")
    assert all(money.decided().values())
    tell = Teller(life, "positions", "position_id", "positions.events.v1")
    tell("bank", "INSTITUTION_REGISTERED", "inst_bank123", name="Bank 123", region="US")
    tell("template", "ASSET_TEMPLATE_REGISTERED", "tmpl_escrow", institution_id="inst_bank123", name="Project escrow",
         onchain_enabled=True, regions=["US"], currencies=["USD"])  # fmt: skip
    tell("asset", "POSITION_ASSET_REGISTERED", "asset_proj456", template_id="tmpl_escrow",
         institution_id="inst_bank123", region="US", name="Project 456")  # fmt: skip
    pos = "pos_xyz789uvw321"
    tell("new", "POSITION_CREATED", pos, institution_id="inst_bank123", asset_id="asset_proj456",
         holder_reference="BUILDER", currency="USD", amount=100000.00, external_reference="ESCROW-2024-A")  # fmt: skip
    step = {"reason": "Funds deposited", "funder": "OWNER"}
    tell("fund", "POSITION_STATE_CHANGED", pos, previous_state="CREATED", new_state="FUNDED", **step)
    part = {
        "recipient": "SUBCONTRACTOR_123",
        "reason": "Partial payment processed",
        "invoice_reference": "INV-2024-001",
    }
    tell("part", "POSITION_STATE_CHANGED", pos, previous_state="FUNDED", new_state="PARTIALLY_RELEASED",
         amount_released=50000.00, **part)  # fmt: skip
    tell("more", "POSITION_STATE_CHANGED", pos, previous_state="PARTIALLY_RELEASED", new_state="PARTIALLY_RELEASED",
         amount_released="0.01", **part)  # fmt: skip
    tell(
        "stale", "POSITION_STATE_CHANGED", pos, previous_state="FUNDED", new_state="CANCELLED", reason="late"
    )
    tell("rest", "POSITION_STATE_CHANGED", pos, previous_state="PARTIALLY_RELEASED", new_state="RELEASED",
         reason="Final release", recipient="BUILDER")  # fmt: skip
    decided = tell.decided()
    assert {name for name, applied in decided.items() if not applied} == {"stale"}
    assert all(id.startswith("led_") for id in tell.ids.values() if id)
    tell.told()

    found = eventually(
        life, lambda: _state_is(life, f"/v1/positions/{pos}", "RELEASED"), "the position is released"
    )
    assert (found["currency"], found["holderReference"]) == (
        "USD", "BUILDER",
    )  # fmt: skip
    steps = ["CREATED", "FUNDED", "PARTIALLY_RELEASED", "PARTIALLY_RELEASED", "RELEASED"]
    events = eventually(life, lambda: _steps(life, pos, tell.ids["stale"], steps), f"{steps} in the ledger")
    assert [one["at"] for one in events] == sorted(one["at"] for one in events)
    holder = life.make_key("builder", "BUILDER", "positions:write")
    stranger = life.make_key("stranger", "STRANGER", "positions:write")
    assert life.get("/v1/ledger-events", key="", positionId=pos).status_code == 401
    assert life.get("/v1/ledger-events", key=holder).status_code == 400
    assert life.get("/v1/ledger-events", key=holder, positionId=pos).status_code == 200
    assert life.get("/v1/ledger-events", key=stranger, positionId=pos).status_code in (400, 403)
    booked(life, "offchain/USD", {"SUBCONTRACTOR_123": 5000001, "BUILDER": 4999999, "OWNER": 0})
    queued = eventually(
        life, lambda: life.query("SELECT count() AS n FROM attestations")[0]["n"] == 5, "attestations"
    )
    assert queued


def _steps(life: Life, position: str, refused: str, steps: list[str]) -> Any:
    events = answered(life, "/v1/ledger-events", positionId=position).get("events", ())
    return events if [one["newState"] for one in events if one["id"] != refused] == steps else None


def _state_is(life: Life, path: str, state: str) -> Any:
    found = answered(life, path)
    return found if found.get("state") == state else None


def test_s3_credit_transfer_escrow_and_votes(life: Life) -> None:
    tell = Teller(life, "tokens", "account_id", "tokens.events.v1")
    for who in ("ana", "ben"):
        owner = "mem_" + who.encode().hex().rjust(32, "0")
        tell(
            f"acc-{who}",
            "ACCOUNT_OPENED",
            f"acc-{who}",
            owner_type="member",
            owner_id=owner,
            association_id="flora",
        )
    tell("limit", "CREDIT_LIMIT_GRANTED", "acc-ana", limit="500")
    reference = {"reference_type": "invoice", "reference_id": "inv-1"}
    tell("issue", "CREDIT_ISSUED", "acc-ana", amount="200.5", **reference)
    tell("beyond", "CREDIT_ISSUED", "acc-ana", amount="299.500001", **reference)
    tell("move", "TOKEN_TRANSFERRED", "acc-ana", amount="20.000001", to_account_id="acc-ben", **reference)
    tell("lock", "ESCROW_LOCKED", "acc-ana", escrow_id="es-1", amount="50", beneficiary_account_id="acc-ben",
         reference_type="purchase_order", reference_id="po-1")  # fmt: skip
    tell("free", "ESCROW_RELEASED", "acc-ana", escrow_id="es-1", amount="30", to_account_id="acc-ben")
    tell(
        "right",
        "GOVERNANCE_RIGHT_GRANTED",
        "acc-ana",
        right_id="r-1",
        right="vote",
        weight="3",
        proposal_id="prop-1",
    )
    tell("vote", "VOTE_CAST", "acc-ana", proposal_id="prop-1", right_id="r-1", choice="for")
    tell("again", "VOTE_CAST", "acc-ana", proposal_id="prop-1", right_id="r-1", choice="against")
    decided = tell.decided()
    assert {name for name, applied in decided.items() if not applied} == {"beyond", "again"}
    tell.told()
    balances = eventually(
        life, lambda: _credit(life, "acc-ana", ("130.499999", "20")), "what ana may use, and what is locked"
    )
    assert balances
    assert eventually(life, lambda: _credit(life, "acc-ben", ("50.000001", "0")), "what ben may use")
    says(life, "/v1/accounts/acc-ana/votes", "votes", [("prop-1", "for")], "proposal_id", "choice")
    for path, rows in (("statement", "transfers"), ("guarantees", "positions")):
        life.until(
            lambda path=path, rows=rows: answered(life, f"/v1/accounts/acc-ana/{path}").get(rows), path
        )
    assert life.get("/v1/accounts/acc-ana/balances", key="").status_code == 401


STORIES = {
    "DISPENSATION_RECORDED": "",
    "CONTRIBUTION_REVIEWED": "c-",
    "COMPENSATION_DISTRIBUTED": "p-",
    "DECISION_TAKEN": "d-",
}
"""Golden case → what its ids begin with here, for one ledger holds them all."""


@pytest.mark.parametrize("case", STORIES)
def test_s3_operational_and_governance_stories(life: Life, case: str) -> None:
    """The golden cases' own events, from a request to ClickHouse: all applied, and the states are the cases'."""
    story = json.loads((GOLDEN / f"{case}.json").read_text())
    events = [*story["before"], story["event"]]
    names = {event["key"] for event in events}
    ids = []
    for n, told in enumerate(_renamed(events, names, STORIES[case])):
        body = {"type": told["type"], "account_id": told["key"], "at": told["at"], "data": told["data"]}
        ids.append(life.post(f"{case}-{n}", body, "tokens"))
    topic = "tokens.events.v1"
    life.until(lambda: None not in life.decided(ids, topic).values(), "decided")
    assert all(life.decided(ids, topic).values())
    for name, value in story["states"].items():
        kind, _, id = _renamed(name, names, STORIES[case]).partition("/")
        held = life.state(kind, id, topic)
        assert _without_events(held) == _without_events(_renamed(value, names, STORIES[case])), name
        where = f"kind = '{kind}' AND id = '{id}'"
        sql = f"SELECT value FROM application_states WHERE {where} ORDER BY version DESC LIMIT 1"
        life.until(
            lambda sql=sql, key=(kind, id): (
                [json.loads(row["value"]) for row in life.query(sql)] == [life.state(*key, topic)]
            ),
            f"{name} in ClickHouse",
        )


def test_s3_collections_are_told_by_the_clock(life: Life) -> None:
    """A schedule that nobody pays: due, late, notice, default, each in its time; then no more credit is given."""
    text = (GOLDEN / "DEFAULT_RECORDED.json").read_text()
    story = json.loads(text.replace('"2026-', '"2022-'))  # all its times have come, by any machine's clock
    names = {"acc-ana", "sch-1"}
    told = [event for event in _renamed(story["before"], names, "k-") if event.get("source") != "clock"]
    ids = [
        life.post(
            f"collect-{n}",
            {"type": one["type"], "account_id": one["key"], "at": one["at"], "data": one["data"]},
            "tokens",
        )
        for n, one in enumerate(told)
    ]
    topic = "tokens.events.v1"
    life.until(lambda: all(life.decided(ids, topic).values()), "the schedule is there")
    sql = (
        "SELECT type, formatDateTime(at, '%Y-%m-%dT%H:%i:%SZ', 'UTC') AS told_at FROM token_events"
        " WHERE account_id = 'k-acc-ana' AND source = 'clock' AND event_id IN"
        " (SELECT event_id FROM event_outcomes WHERE status = 'applied') ORDER BY at, type"
    )
    chain = life.until(
        lambda: (rows := life.query(sql)) and rows[-1]["type"] == "DEFAULT_RECORDED" and rows, "default"
    )
    expected = [
        (one["type"], one["at"]) for one in [*story["before"], story["event"]] if one.get("source") == "clock"
    ]
    held = [(row["type"], row["told_at"]) for row in chain]
    assert [one for one in held if one in expected] == expected
    credit = {"amount": "1", "reference_type": "invoice", "reference_id": "inv-2"}
    again = {"type": "CREDIT_ISSUED", "account_id": "k-acc-ana", "at": "2022-04-01T00:00:00Z", "data": credit}
    if said := life.post("collect-again", again, "tokens", refusable=True):
        # The clock still tells of the second instalment, so the intake leaves it to the fold.
        life.until(lambda: life.decided([said], topic)[said] is not None, "it is judged")
        sql = f"SELECT status, reason FROM event_outcomes WHERE event_id = '{said}'"
        judged = life.until(lambda: life.query(sql), "its outcome")
        assert judged == [{"status": "refused", "reason": "in_default"}]


def _renamed(value: Any, names: set[str], prefix: str) -> Any:
    if isinstance(value, dict):
        return {key: _renamed(inner, names, prefix) for key, inner in value.items()}
    if isinstance(value, list):
        return [_renamed(inner, names, prefix) for inner in value]
    if isinstance(value, str):  # an id may be made of several: balance/<account>:<token type>
        return "".join(prefix + part if part in names else part for part in re.split("([/:])", value))
    return value


def _without_events(state: Any) -> Any:
    """Without ids of events, which are the intake's own here."""
    return {name: value for name, value in state.items() if "event" not in name} if state else state


def _credit(life: Life, account: str, wanted: tuple[str, str]) -> Any:
    found = answered(life, f"/v1/accounts/{account}/balances")
    for one in found.get("balances", ()):
        if one["token_type"] == "CREDIT" and tuple(map(_plain, (one["available"], one["locked"]))) == wanted:
            return found
    return None


def _plain(amount: str) -> str:
    return amount.rstrip("0").rstrip(".") if "." in amount else amount


def test_s4_authorize_claim_fulfil_and_an_expiry_that_nobody_sends(life: Life) -> None:
    attestor = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
    tell = Teller(life, "anchors", "authorization_id", "anchors.events.v1")
    tell("shop", "MERCHANT_REGISTERED", "shop", name="The shop", anchors=["GROCERY"])
    public = attestor.public_key().public_bytes_raw().hex()
    tell("till", "ATTESTOR_REGISTERED", "till", public_key=public, anchors=["GROCERY"])
    tell("open", "ACCOUNT_OPENED", "dora", owner="dora", account_type="USER", asset="SOVR")
    tell("in", "DEPOSITED", "dora", owner="dora", account_type="USER", asset="SOVR", amount="250")
    spend = {"user": "dora", "anchor": "GROCERY"}
    tell("auth-1", "AUTHORIZED", "auth-1", amount="100", expires_at=at(6000), **spend)
    tell(
        "auth-2", "AUTHORIZED", "auth-2", amount="50", expires_at=at(60), **spend
    )  # an end that has come: the clock
    tell("auth-3", "AUTHORIZED", "auth-3", amount="201", expires_at=at(6000), **spend)
    tell("claim", "CLAIMED", "auth-1", merchant="shop")
    when = START + timedelta(minutes=8)
    signed = message("auth-1", "GROCERY", "100", "receipt-4711", int(when.timestamp() * 1000))
    proof = {"proof": "receipt-4711", "attestor": "till", "attested_at": at(8)}
    tell("forged", "FULFILLED", "auth-1", signature=attestor.sign(signed + b"!").hex(), **proof)
    tell("fulfil", "FULFILLED", "auth-1", signature=attestor.sign(signed).hex(), **proof)
    tell("fee", "FEE_CHARGED", "dora", owner="dora", account_type="USER", asset="SOVR", amount="1")
    decided = tell.decided()
    assert {name for name, applied in decided.items() if not applied} == {"auth-3", "forged"}
    both = eventually(
        life, lambda: [one for name in ("auth-1", "auth-2") if (one := _ended(life, name))][1:], "both ended"
    )
    assert both[0]["state"] == "EXPIRED" and _ended(life, "auth-1")["state"] == "FULFILLED"
    booked(life, "offchain/SOVR", {"dora": 149})


def _ended(life: Life, authorization: str) -> Any:
    found = answered(life, f"/v1/authorizations/{authorization}")
    return found if found.get("state") in ("FULFILLED", "EXPIRED") else None
