"""What off-chain books keep besides plain transfers: locks that are open or ended in each way, accounts frozen, thawed
and closed, positions ended in each way. It goes on after `read_scene`."""

from __future__ import annotations

from typing import Any, Final

from tests.support.read_scene import at, case

CLOCK: Final = {"source": "clock", "client": "clock"}
PAID, SETTLED = "a1" * 16, "a2" * 16  # events that a later one refers to


def account(owner: str, type: str = "USER", asset: str = "USD", **more: str) -> dict[str, str]:
    """Data that names an account."""
    return {"owner": owner, "account_type": type, "asset": asset, **more}


def locked(key: str, amount: str, **more: str) -> dict[str, Any]:
    """An escrow of ann's."""
    return case("ESCROW_LOCKED", key, 41, {"owner": "ann", "asset": "USD", "amount": amount, **more})


def position(key: str, minute: int, before: str, after: str, **more: str) -> dict[str, Any]:
    """A step of a position."""
    data = {"previous_state": before, "new_state": after, "reason": "so it was agreed", **more}
    return case("POSITION_STATE_CHANGED", key, minute, data)


MONEY: Final = [
    *(case("ACCOUNT_OPENED", name, 40, account(name)) for name in ("ann", "bea", "cat", "dan", "eve")),
    case("ACCOUNT_OPENED", "shop", 40, account("shop", "MERCHANT")),
    *(case("DEPOSITED", name, 40, account(name, amount="100")) for name in ("ann", "bea")),
    locked("open", "40"),
    locked("part", "15"),
    locked("whole", "3"),
    locked("void", "10"),
    locked("lapse", "7", expires_at=at(50)),
    case("ESCROW_RELEASED", "part", 42, {"recipient": "bea", "recipient_type": "USER", "amount": "5"}),
    case("ESCROW_RELEASED", "whole", 42, {"recipient": "shop", "recipient_type": "MERCHANT"}),
    case("ESCROW_VOIDED", "void", 42, {"reason": "out_of_stock"}),
    case("ESCROW_LAPSED", "lapse", 50, {"reason": "ended"}, **CLOCK),
    case("PAID", "ann", 42, {
        "payer": "ann", "payee": "shop", "payee_type": "MERCHANT", "asset": "USD", "amount": "12.50",
    }, id=PAID),
    case("REFUNDED", "shop", 43, {"reference": PAID, "amount": "2.50"}),
    case("FEE_CHARGED", "ann", 43, account("ann", amount="0.30", reason="monthly")),
    case("WITHDRAWN", "ann", 43, account("ann", amount="0.01")),
    case("SETTLED", "shop", 44, {"merchant": "shop", "asset": "USD", "amount": "8"}, id=SETTLED),
    case("SETTLEMENT_REVERSED", "shop", 45, {"reference": SETTLED, "reason": "returned_by_bank"}),
    *(case("ACCOUNT_FROZEN", name, 46, account(name, reason="review")) for name in ("bea", "cat", "eve")),
    case("ACCOUNT_THAWED", "cat", 47, account("cat", reason="review")),
    *(case("ACCOUNT_CLOSED", name, 47, account(name, reason="review")) for name in ("dan", "eve")),
    case("AUTHORIZATION_EXPIRED", "auth-1", 48, {"reason": "ended"}, **CLOCK),
]  # fmt: skip

POSITIONS: Final = [
    position("pos-1", 41, "PARTIALLY_RELEASED", "RELEASED"),
    position("pos-2", 42, "CREATED", "FUNDED", funder="buyer"),
    position("pos-2", 43, "FUNDED", "CANCELLED"),
]  # fmt: skip

TOKENS: Final = [
    case("ESCROW_RELEASED", "acc-ana", 41, {"escrow_id": "es-1", "amount": "20", "to_account_id": "acc-ben"}),
    case("FEE_CHARGED", "acc-ana", 42, {"amount": "0.000001", "fee_type": "service"}),
]
