"""Credit and other free tokens: issued, redeemed, moved, paid (seeds/S3-token-ledger.txt).

CREDIT is lent within a limit. `outstanding` is what the account owes: it grows by what is issued and falls by what is
paid, or given back unused; redeeming credit for goods spends it and leaves the debt. Each unit of a payment counts
once: for instalments first, then for what is owed; what is beyond both is the account's own CREDIT, issued to it
without debt. What pays an instalment of the debt itself (collections.of_credit) ends as much of the debt.
"""

from __future__ import annotations

from typing import Final

from pipeline.domain.applications.event import AppEvent, Change, Decision, Refusal, Value, View, one
from pipeline.domain.tokens import accounts, collections, money, types
from pipeline.domain.tokens.accounts import Posting, credit_change, credit_of
from pipeline.domain.tokens.economic_accounts import kyb_approved
from pipeline.domain.tokens.operational_terms import code

PURPOSES: Final = ("use", "return")
DIRECTIONS: Final = ("increase", "decrease")


def check_amount(event: AppEvent) -> None:
    """An amount above 0."""
    money.positive(event.data["amount"])


def credit_issued(event: AppEvent, view: View) -> Decision:
    """TREASURY → USER. CREDIT: within the limit, for accounts that compliance and collections have nothing against."""
    account, amount = accounts.usable(view, event.key), money.positive(event.data["amount"])
    kind = event.data["token_type"]
    types.free_type(view, kind)
    posting, changes = Posting(event, view), list[Change]()
    if kind == types.CREDIT:
        kyb_approved(event, view, account)
        credit = credit_of(view, event.key)
        owed = money.units(credit["outstanding"]) + amount
        if credit["defaulted"]:
            raise Refusal("in_default", "account_id", f"account {event.key} has a default that is not paid")
        if owed > money.units(credit["limit"]):
            raise Refusal(
                "credit_limit_exceeded", "data.amount",
                f"{money.text(owed)} would be owed; the limit is {credit['limit']}",
            )  # fmt: skip
        changes.append(credit_change(event, credit, outstanding=money.text(owed)))
    posting.issue(event.key, kind, amount)
    return posting.decision(*changes)


def check_redeemed(event: AppEvent) -> None:
    """The amount and the purpose."""
    check_amount(event)
    accounts.check_choice(event.data["purpose"], PURPOSES, "data.purpose")


def credit_redeemed(event: AppEvent, view: View) -> Decision:
    """USER → TREASURY: spent (use), or given back unused (return), which ends that much of the debt."""
    accounts.own(event, accounts.usable(view, event.key))
    kind, amount = event.data["token_type"], money.positive(event.data["amount"])
    types.free_type(view, kind)
    posting, changes = Posting(event, view), list[Change]()
    if event.data["purpose"] == "return":
        credit = credit_of(view, event.key)
        left = money.units(credit["outstanding"]) - amount
        if kind != types.CREDIT or left < 0:
            raise Refusal(
                "exceeds_outstanding", "data.amount", f"only {credit['outstanding']} CREDIT is owed"
            )
        changes.append(credit_change(event, credit, outstanding=money.text(left)))
    posting.redeem(event.key, kind, amount)
    return posting.decision(*changes)


def check_payment(event: AppEvent) -> None:
    """The amount and whose reference it has."""
    money.positive(event.data["amount"])
    code(event.data["external_reference"], "data.external_reference")


def payment_received(event: AppEvent, view: View) -> Decision:
    """Money came in: for the instalments of the schedule that it names, then for all, the first that is due first;
    then for what is owed; the rest is the account's CREDIT.

    A blocked account may pay too.
    """
    accounts.known(view, event.key)
    amount, credit = money.positive(event.data["amount"]), credit_of(view, event.key)
    schedules = _schedules(event, view, credit)
    paid = collections.pay(event, schedules, event.data["schedule_id"], amount)
    free = amount - sum(part for part, _ in paid.values())
    of_debt = sum(part for id, (part, _) in paid.items() if collections.of_credit(schedules[id]))
    owed = money.units(credit["outstanding"])
    settled = min(owed, of_debt + free)
    still = [id for id in credit["schedules"] if id not in paid or paid[id][1]["status"] != collections.PAID]
    cured = {place for id, (_, value) in paid.items() for place in collections.paid_places(id, value)}
    posting = Posting(event, view)
    extra = free - max(settled - of_debt, 0)
    if extra:
        posting.issue(event.key, types.CREDIT, extra)
    return posting.decision(
        credit_change(
            event, credit, outstanding=money.text(owed - settled), schedules=still,
            defaulted=[place for place in credit["defaulted"] if place not in cured],
        ),
        *(Change("schedule", id, value) for id, (_, value) in paid.items()),
    )  # fmt: skip


def _schedules(event: AppEvent, view: View, credit: Value) -> dict[str, Value]:
    """The account's open schedules in the order of their creation. One that the payment names must be the account's."""
    if event.data["schedule_id"] is not None:
        collections.schedule_of(event, view)
    return {id: one(view, "schedule", id, "data.schedule_id") for id in credit["schedules"]}


def check_fee(event: AppEvent) -> None:
    """The amount and what it is for."""
    check_amount(event)
    code(event.data["fee_type"], "data.fee_type")


def fee_charged(event: AppEvent, view: View) -> Decision:
    """USER → FEE_POOL."""
    accounts.usable(view, event.key)
    kind, posting = event.data["token_type"], Posting(event, view)
    types.spendable(types.free_type(view, kind), kind)
    posting.fee(event.key, kind, money.positive(event.data["amount"]))
    return posting.decision()


def check_adjusted(event: AppEvent) -> None:
    """The amount, the direction and the reason."""
    check_amount(event)
    accounts.check_choice(event.data["direction"], DIRECTIONS, "data.direction")
    code(event.data["reason"], "data.reason")


def balance_adjusted(event: AppEvent, view: View) -> Decision:
    """A correction by a service, TREASURY → USER or back; what is owed stays. Also of a blocked account.

    CONTRIB comes by reviews alone; written off it may be, so that an account can be closed.
    """
    accounts.known(view, event.key)
    kind, posting = event.data["token_type"], Posting(event, view)
    increase = event.data["direction"] == "increase"
    if increase or kind != types.CONTRIB:
        types.free_type(view, kind)
    put = posting.issue if increase else posting.redeem
    put(event.key, kind, money.positive(event.data["amount"]))
    return posting.decision()


def check_transferred(event: AppEvent) -> None:
    """The amount and two accounts."""
    check_amount(event)
    if event.data["to_account_id"] == event.key:
        raise Refusal("same_account", "data.to_account_id", f"{event.key} is on both sides")
    if event.data["token_type"] == types.PO_SHARE and event.data["purchase_order_id"] is None:
        raise Refusal("missing", "data.purchase_order_id", "shares are of an order: say which")
