"""Positions: what an account holds for a reason (seeds/S3-token-ledger.txt, economic_position).

A purchase order has a number of shares; those of an account are its position in the order and stand in PO_SHARE.
An escrow locks units of a token for a reference; as long as they are locked the account holds as much ESCROW, its
guarantee. Before its end it may be paid to its beneficiary, from the end on it only goes back, by event time. A
blocked position does not move.
"""

from __future__ import annotations

from typing import Final

from pipeline.domain.applications.event import AppEvent, Change, Decision, Refusal, Value, View, one
from pipeline.domain.tokens import accounts, money, types
from pipeline.domain.tokens.accounts import Posting

KIND: Final = "economic_position"
TYPES: Final = ("purchase_order", "escrow", "reputation", "governance")


def position(
    event: AppEvent, account: str, position_type: str, token_type: str, amount: int, before: Value | None,
    reference: tuple[str, str], **more: object,
) -> Value:  # fmt: skip
    """A position after the event; closed when nothing is left in it."""
    status = "active" if amount else "closed"
    return {
        "account_id": account, "position_type": position_type, "token_type": token_type,
        "amount": money.text(amount), "status": status, "reference_type": reference[0], "reference_id": reference[1],
        "created_ms": before["created_ms"] if before else event.at_ms, "updated_ms": event.at_ms, **more,
    }  # fmt: skip


def unblocked(view: View, id: str, field: str) -> Value | None:
    """A position whose units may move, None if it is not there. Raises Refusal (blocked)."""
    found = view.get(KIND, id)
    if found is not None and found["status"] == accounts.BLOCKED:
        raise Refusal("blocked", field, f"position {id} is blocked")
    return found


def check_order_created(event: AppEvent) -> None:
    """The order's id and its shares."""
    data = event.data
    accounts.check_id(data["purchase_order_id"], "data.purchase_order_id")
    money.positive(data["shares_total"], "data.shares_total")
    if data["closes_at"] is not None and data["closes_at"] <= event.at_ms:
        raise Refusal("expired", "data.closes_at", "it would be closed before it begins")


def purchase_order_created(event: AppEvent, view: View) -> Decision:
    """An order of which shares may be issued."""
    accounts.own(event, accounts.usable(view, event.key))
    data, id = event.data, event.data["purchase_order_id"]
    if view.get("purchase_order", id) is not None:
        raise Refusal("already_there", "data.purchase_order_id", f"purchase order {id} is there already")
    if data["supplier_account_id"] is not None:
        accounts.known(view, data["supplier_account_id"], "data.supplier_account_id")
    value = {
        "account_id": event.key, "supplier_account_id": data["supplier_account_id"],
        "shares_total": money.text(money.positive(data["shares_total"])), "shares_issued": "0",
        "shares_redeemed": "0", "closes_ms": data["closes_at"], "reference_id": data["reference_id"],
        "created_ms": event.at_ms, "updated_ms": event.at_ms,
    }  # fmt: skip
    return Decision([Change("purchase_order", id, value)])


def _order(event: AppEvent, view: View) -> tuple[str, Value]:
    id = event.data["purchase_order_id"]
    return id, one(view, "purchase_order", id, "data.purchase_order_id")


def _shares_id(order: str, account: str) -> str:
    return f"purchase_order:{order}:{account}"


def _shares(event: AppEvent, view: View, order: str, account: str, add: int, field: str) -> Change:
    """An account's position in an order after `add` shares came or went."""
    id = _shares_id(order, account)
    before = unblocked(view, id, field)
    after = (money.units(before["amount"]) if before else 0) + add
    if after < 0:
        has = before["amount"] if before else "0"
        raise Refusal(
            "insufficient_balance", "data.amount", f"account {account} has {has} shares of order {order}"
        )
    value = position(
        event, account, "purchase_order", types.PO_SHARE, after, before, ("purchase_order", order)
    )
    return Change(KIND, id, value)


def share_issued(event: AppEvent, view: View) -> Decision:
    """Shares for the account; never more than the order has, and none after it has closed."""
    accounts.usable(view, event.key)
    (id, order), amount = _order(event, view), money.positive(event.data["amount"])
    issued = money.units(order["shares_issued"]) + amount
    if issued > money.units(order["shares_total"]):
        raise Refusal(
            "shares_exceeded", "data.amount", f"{money.text(issued)} of {order['shares_total']} shares"
        )
    if order["closes_ms"] is not None and event.at_ms >= order["closes_ms"]:
        raise Refusal("order_closed", "data.purchase_order_id", f"order {id} has closed")
    changed = {**order, "shares_issued": money.text(issued), "updated_ms": event.at_ms}
    posting = Posting(event, view)
    posting.issue(event.key, types.PO_SHARE, amount)
    shares = _shares(event, view, id, event.key, amount, "data.purchase_order_id")
    return posting.decision(Change("purchase_order", id, changed), shares)


def share_redeemed(event: AppEvent, view: View) -> Decision:
    """Shares of the account are given up for what they stand for."""
    accounts.own(event, accounts.usable(view, event.key))
    (id, order), amount = _order(event, view), money.positive(event.data["amount"])
    shares = _shares(event, view, id, event.key, -amount, "data.purchase_order_id")
    redeemed = money.units(order["shares_redeemed"]) + amount
    changed = {**order, "shares_redeemed": money.text(redeemed), "updated_ms": event.at_ms}
    posting = Posting(event, view)
    posting.redeem(event.key, types.PO_SHARE, amount)
    return posting.decision(Change("purchase_order", id, changed), shares)


def token_transferred(event: AppEvent, view: View) -> Decision:
    """USER → USER, as the type's transferability allows; shares take their position in the order along."""
    giver = accounts.own(event, accounts.usable(view, event.key))
    to, kind = event.data["to_account_id"], event.data["token_type"]
    getter, amount = accounts.usable(view, to, "data.to_account_id"), money.positive(event.data["amount"])
    types.may_move(types.token_type(view, kind), kind, giver, getter)
    posting, changes = Posting(event, view), list[Change]()
    if kind == types.PO_SHARE:
        id, _ = _order(event, view)
        changes.append(_shares(event, view, id, event.key, -amount, "data.purchase_order_id"))
        changes.append(_shares(event, view, id, to, amount, "data.to_account_id"))
    posting.move(event.key, to, kind, amount)
    return posting.decision(*changes)


def check_locked(event: AppEvent) -> None:
    """The escrow's id, its amount and its end."""
    data = event.data
    accounts.check_id(data["escrow_id"], "data.escrow_id")
    money.positive(data["amount"])
    if data["token_type"] == types.PO_SHARE:
        raise Refusal(
            "wrong_token_type", "data.token_type", "shares of an order are not locked: block the position"
        )
    if data["beneficiary_account_id"] == event.key:
        raise Refusal("same_account", "data.beneficiary_account_id", f"{event.key} is on both sides")
    if data["expires_at"] is not None and data["expires_at"] <= event.at_ms:
        raise Refusal("expired", "data.expires_at", "it would have ended before it begins")


def escrow_locked(event: AppEvent, view: View) -> Decision:
    """USER → ESCROW for a reference. At its end, where it has one, the clock sends it back."""
    account, data = accounts.own(event, accounts.usable(view, event.key)), event.data
    id, kind, amount = f"escrow:{data['escrow_id']}", data["token_type"], money.positive(data["amount"])
    if view.get(KIND, id) is not None:
        raise Refusal("already_there", "data.escrow_id", f"escrow {data['escrow_id']} is there already")
    of, to = types.free_type(view, kind), data["beneficiary_account_id"]
    types.spendable(of, kind)
    if to is not None:
        getter = accounts.known(view, to, "data.beneficiary_account_id")
        types.may_move(of, kind, account, getter)
    posting = Posting(event, view)
    posting.lock(event.key, kind, amount, data["escrow_id"])
    posting.issue(event.key, types.ESCROW, amount)
    reference = (data["reference_type"] or "", data["reference_id"] or "")
    value = position(
        event, event.key, "escrow", kind, amount, None, reference,
        beneficiary_account_id=to, expires_ms=data["expires_at"],
    )  # fmt: skip
    return posting.decision(Change(KIND, id, with_end(value, data["escrow_id"], data["expires_at"])))


def with_end(value: Value, escrow: str, at_ms: int | None) -> Value:
    """An escrow's position with the event that ends it."""
    if at_ms is None:
        return value
    said = {"escrow_id": escrow, "amount": None, "to_account_id": None}
    due = {"at_ms": at_ms, "type": "ESCROW_RELEASED", "key": value["account_id"], "data": said}
    return {**value, "due": due}


def check_released(event: AppEvent) -> None:
    """An amount, where one is given, is above 0."""
    if event.data["amount"] is not None:
        money.positive(event.data["amount"])


def escrow_released(event: AppEvent, view: View) -> Decision:
    """ESCROW → USER: back to the account, or before its end to the beneficiary that the lock has named; all or a part.

    A blocked account gets its own back too: it stays in the account.
    """
    data, account = event.data, accounts.known(view, event.key)
    id = f"escrow:{data['escrow_id']}"
    held = unblocked(view, id, "data.escrow_id")
    if held is None or held["account_id"] != event.key:
        raise Refusal(
            "unknown_escrow", "data.escrow_id", f"account {event.key} has no escrow {data['escrow_id']}"
        )
    if held["status"] == "closed":
        raise Refusal(
            "illegal_transition", "data.escrow_id", f"escrow {data['escrow_id']} is released already"
        )
    to, kind, whole = data["to_account_id"] or event.key, held["token_type"], money.units(held["amount"])
    if to != event.key:
        accounts.usable(view, event.key)
        if to != held["beneficiary_account_id"]:
            raise Refusal("not_beneficiary", "data.to_account_id", f"{to} is not who the escrow is for")
        if ended(held, event.at_ms):
            raise Refusal(
                "expired", "at", f"escrow {data['escrow_id']} has ended: it goes back to {event.key}"
            )
        getter = accounts.usable(view, to, "data.to_account_id")
        types.may_move(types.token_type(view, kind), kind, account, getter, "data.to_account_id")
    amount = whole if data["amount"] is None else money.positive(data["amount"])
    if amount > whole:
        raise Refusal(
            "insufficient_balance", "data.amount", f"escrow {data['escrow_id']} holds {held['amount']}"
        )
    return release(event, view, held, data["escrow_id"], amount, to)


def ended(held: Value, at_ms: int) -> bool:
    """Whether an escrow's end has come by then."""
    return held["expires_ms"] is not None and at_ms >= int(held["expires_ms"])


def release(event: AppEvent, view: View, held: Value, escrow: str, amount: int, to: str) -> Decision:
    """So much of an escrow goes to an account, and the guarantee ends with it; `held` is its position."""
    posting = Posting(event, view)
    posting.release(event.key, held["token_type"], amount, escrow, to)
    posting.redeem(event.key, types.ESCROW, amount)
    left = money.units(held["amount"]) - amount
    value = {key: of for key, of in held.items() if left or key != "due"}
    value |= {"amount": money.text(left), "status": "active" if left else "closed", "updated_ms": event.at_ms}
    return posting.decision(Change(KIND, f"escrow:{escrow}", value))
