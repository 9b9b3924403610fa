"""One scene for reads and views, its answers to be worked out by hand: two users, an application, five assets, a
position, S3's accounts, an authorization. Times are minutes after T0."""

from __future__ import annotations

from typing import Any

from tests.support.read_world import World

T0 = "2026-01-05T12"
TREASURY_TX = "3" * 64
ANA, BEN = "mem_" + "a1" * 16, "mem_" + "b2" * 16  # members, by references


def at(minute: int) -> str:
    """ISO time."""
    return f"{T0}:{minute:02d}:00Z"


def case(type: str, key: str, minute: int, data: dict[str, Any] | None = None, **more: str) -> dict[str, Any]:
    """An event in the form of a golden case."""
    return {"type": type, "key": key, "at": at(minute), "data": data or {}, **more}


def registered(asset: str, minute: int, owner: str = "alice", **more: Any) -> list[dict[str, Any]]:
    """An asset that is there and minted."""
    data = {
        "asset_type": "card",
        "title": asset.title(),
        "issuer_user_id": None,
        "owner_user_id": owner,
        **more,
    }
    return [
        case("ASSET_REGISTERED", asset, minute, data, app_id="mintlings"),
        case("MINTED", asset, minute, {"to_user_id": None}),
    ]


ASSETS = [
    *(case("USER_REGISTERED", name, 0, {"addresses": [f"xrpl:0/r{name}"]}) for name in ("alice", "bob")),
    case("APP_REGISTERED", "mintlings", 0, {"title": "M", "issuers": ["xrpl:0/rI"], "treasuries": ["xrpl:0/rT"]}),
    *registered("card-1", 1),
    *registered("card-2", 2),
    *registered("card-3", 3, "bob"),
    *registered("pack-1", 4),
    *registered("art-1", 5),
    case("LISTED", "card-1", 10, {"price": "10.5", "currency": "USD"}, user_id="alice"),
    case("VIEWED", "card-1", 11, {"surface": "feed"}, user_id="bob"),
    case("SOLD", "card-1", 12, {"to_user_id": "bob", "price": "10.5", "currency": "USD"}),
    case("TRANSFERRED", "card-3", 13, {"to_user_id": "alice"}, user_id="alice"),  # refused: it is bob's
    case("PACK_CREATED", "pack-1", 14, {"contents": ["card-2"]}, user_id="alice"),
    case("FRACTIONED", "art-1", 15, {"fraction_count": 1000}, user_id="alice"),
    case("TRANSFERRED", "art-1", 16, {"to_user_id": "bob", "units": "250"}, user_id="alice"),
    case(
        "INTERNAL_GAS_CHARGE", "card-1", 17,
        {"payer_user_id": "bob", "currency": "XRP", "gas_required": "12", "gas_paid_by_user": "0",
         "gas_paid_by_treasury": "12"},
    ),
]  # fmt: skip

POSITIONS = [
    case("INSTITUTION_REGISTERED", "bank", 0, {"name": "Bank", "region": "US"}),
    case("ASSET_TEMPLATE_REGISTERED", "tmpl", 1, {
        "institution_id": "bank", "name": "Escrow", "onchain_enabled": False, "regions": ["US"], "currencies": ["USD"],
    }),
    case("POSITION_ASSET_REGISTERED", "project", 2, {
        "template_id": "tmpl", "institution_id": "bank", "region": "US", "name": "Project",
    }),
    case("POSITION_CREATED", "pos-1", 3, {
        "institution_id": "bank", "asset_id": "project", "holder_reference": "carl", "holder_region": "US",
        "currency": "USD", "amount": "100000.00", "external_reference": "REF-A",
    }),
    case("POSITION_CREATED", "pos-2", 3, {
        "institution_id": "bank", "asset_id": "project", "holder_reference": "dora", "holder_region": "US",
        "currency": "USD", "amount": "5.00",
    }),
    case("POSITION_STATE_CHANGED", "pos-1", 4, {
        "previous_state": "CREATED", "new_state": "FUNDED", "reason": "deposited", "funder": "buyer",
    }),
    case("POSITION_STATE_CHANGED", "pos-1", 5, {  # refused: the table has no such step
        "previous_state": "FUNDED", "new_state": "CREATED", "reason": "back",
    }),
    case("POSITION_STATE_CHANGED", "pos-1", 6, {
        "previous_state": "FUNDED", "new_state": "PARTIALLY_RELEASED", "reason": "part", "amount_released": "40000.50",
        "recipient": "SUB", "release_date": at(6), "invoice_reference": "INV-1",
    }),
]  # fmt: skip

MONEY = [
    case("ACCOUNT_OPENED", "buyer", 0, {"owner": "buyer", "account_type": "USER", "asset": "USD"}),
    case(
        "DEPOSITED",
        "buyer",
        1,
        {"owner": "buyer", "account_type": "USER", "asset": "USD", "amount": "150000"},
    ),
    case("MERCHANT_REGISTERED", "shop", 0, {"name": "Shop", "anchors": ["GROCERY"]}),
    case("ACCOUNT_OPENED", "alice", 0, {"owner": "alice", "account_type": "USER", "asset": "SOVR"}),
    case(
        "DEPOSITED", "alice", 1, {"owner": "alice", "account_type": "USER", "asset": "SOVR", "amount": "250"}
    ),
    case(
        "AUTHORIZED",
        "auth-1",
        2,
        {"user": "alice", "anchor": "GROCERY", "amount": "100", "expires_at": at(30)},
    ),
    case("CLAIMED", "auth-1", 3, {"merchant": "shop"}),
]

TOKENS = [
    case("ACCOUNT_OPENED", "acc-flora", 0, {"owner_type": "association", "owner_id": "flora"}),
    case("ACCOUNT_OPENED", "acc-ana", 0, {"owner_type": "member", "owner_id": ANA, "association_id": "flora"}),
    case("ACCOUNT_OPENED", "acc-ben", 0, {"owner_type": "member", "owner_id": BEN, "association_id": "flora"}),
    case("CREDIT_LIMIT_GRANTED", "acc-ana", 1, {"limit": "500"}),
    case("CREDIT_ISSUED", "acc-ana", 2, {"amount": "200.5", "reference_type": "invoice", "reference_id": "i"}),
    case("ESCROW_LOCKED", "acc-ana", 3, {
        "escrow_id": "es-1", "amount": "50", "beneficiary_account_id": "acc-ben", "reference_type": "purchase_order",
        "reference_id": "po-1", "expires_at": "2026-02-01T00:00:00Z",
    }),
    case("PURCHASE_ORDER_CREATED", "acc-flora", 4, {"purchase_order_id": "po-1", "shares_total": "100"}),
    case("PURCHASE_ORDER_SHARE_ISSUED", "acc-ana", 5, {"purchase_order_id": "po-1", "amount": "40"}),
    case("GOVERNANCE_RIGHT_GRANTED", "acc-ana", 6, {
        "right_id": "r-1", "right": "vote", "weight": "3", "proposal_id": "prop-1",
    }),
    case("VOTE_CAST", "acc-ana", 7, {"proposal_id": "prop-1", "right_id": "r-1", "choice": "for"}, user_id=ANA),
    case("REPUTATION_UPDATED", "acc-ana", 8, {
        "change": "12.5", "reason": "in_time", "reference_type": "purchase_order", "reference_id": "po-1",
    }),
]  # fmt: skip


def play(world: World) -> dict[str, list[str]]:
    """Tell all of it; ids of events by domain."""
    return {
        "anchors": world.tell("anchors", MONEY),
        "assets": world.tell("assets", ASSETS),
        "positions": world.tell("positions", POSITIONS),
        "tokens": world.tell("tokens", TOKENS),
    }
