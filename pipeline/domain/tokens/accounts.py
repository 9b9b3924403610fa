"""Economic accounts, their balances, and what an event asks of the books.

Each token type has a book `offchain/token:<TYPE>` in millionths. What an account may use stands on its USER account,
what is locked on ESCROW with the reference as subject, what was issued on TREASURY. The state `balance` (S3's
ledger_balance) follows the books move by move: it gives a refusal its field and its figures, and the engine judges
the same move once more.
"""

from __future__ import annotations

import re
from typing import Any, Final

from pipeline.domain.account import AccountCode, AccountRef, TransferCode
from pipeline.domain.applications.event import AppEvent, Change, Decision, Value, View, one
from pipeline.domain.flows.events import FlowEvent, Kind, Leg, Refusal
from pipeline.domain.tokens import money

ACTIVE: Final = "active"
BLOCKED: Final = "blocked"
CLOSED: Final = "closed"
STATUSES: Final = (ACTIVE, BLOCKED, CLOSED)
_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def book(token_type: str) -> str:
    """Asset key of a token type's book."""
    return f"offchain/token:{token_type}"


def user(token_type: str, account: str) -> AccountRef:
    """Where an account's available units stand."""
    return AccountRef(book(token_type), int(AccountCode.USER), account)


def escrow(token_type: str, account: str, subject: str) -> AccountRef:
    """Where an account's locked units stand."""
    return AccountRef(book(token_type), int(AccountCode.ESCROW), account, subject)


def treasury(token_type: str) -> AccountRef:
    """The issuing side of a token type."""
    return AccountRef(book(token_type), int(AccountCode.TREASURY), "")


def fee_pool(token_type: str) -> AccountRef:
    """Where fees go."""
    return AccountRef(book(token_type), int(AccountCode.FEE_POOL), "")


def check_id(value: str, field: str) -> str:
    """An id: 1 to 64 letters, digits, dots, dashes or underscores, as a UUID is. Raises Refusal (bad_id)."""
    if _ID.fullmatch(value) is None:
        raise Refusal("bad_id", field, f"{value[:70]!r} is not 1 to 64 letters, digits, '.', '-' or '_'")
    return value


def check_choice(value: str, of: tuple[str, ...], field: str) -> str:
    """One of a few words. Raises Refusal (bad_choice)."""
    if value not in of:
        raise Refusal("bad_choice", field, f"{value[:40]!r} is none of {', '.join(of)}")
    return value


def known(view: View, account: str, field: str = "account_id") -> Value:
    """An account that is not closed. Raises Refusal (unknown_account, account_closed)."""
    found = one(view, "account", account, field)
    if found["status"] == CLOSED:
        raise Refusal("account_closed", field, f"account {account} is closed")
    return found


def usable(view: View, account: str, field: str = "account_id") -> Value:
    """An account whose units may move. Raises Refusal (also blocked)."""
    found = known(view, account, field)
    if found["status"] == BLOCKED:
        raise Refusal("blocked", field, f"account {account} is blocked")
    return found


def own(event: AppEvent, account: Value) -> Value:
    """The event's account, if who acts (where somebody does) is its owner. Raises Refusal (not_owner)."""
    if event.user_id and event.user_id != account["owner_id"]:
        raise Refusal("not_owner", "user_id", f"{event.user_id} does not own account {event.key}")
    return account


def balance_id(account: str, token_type: str) -> str:
    """Id of a `balance` state."""
    return f"{account}:{token_type}"


def credit_of(view: View, account: str) -> Value:
    """What an account owes and may owe; without a state nothing."""
    return view.get("credit", account) or {
        "account_id": account, "limit": "0", "outstanding": "0", "schedules": [], "defaulted": [],
    }  # fmt: skip


def credit_change(event: AppEvent, credit: Value, **values: object) -> Change:
    """The change of the event account's credit; `values` are what is new of it."""
    return Change("credit", event.key, {**credit, **values, "updated_ms": event.at_ms})


class Posting:
    """The legs of one event and the balances after them; its methods raise Refusal where a balance is too small."""

    def __init__(self, event: AppEvent, view: View) -> None:
        self._event, self._view = event, view
        self._legs: list[Leg] = []
        self._opens: list[AccountRef] = []
        self._accounts: dict[str, Value] = {}
        self._balances: dict[tuple[str, str], list[int]] = {}  # (account, type) → [available, locked]

    def issue(self, account: str, kind: str, amount: int, field: str = "data.amount") -> None:
        """New units, TREASURY → USER."""
        self._add(account, kind, amount, 0, field)
        self._leg(treasury(kind), user(kind, account), amount, TransferCode.DEPOSIT)

    def redeem(self, account: str, kind: str, amount: int, field: str = "data.amount") -> None:
        """Units are no more, USER → TREASURY."""
        self._add(account, kind, -amount, 0, field)
        self._leg(user(kind, account), treasury(kind), amount, TransferCode.WITHDRAWAL)

    def move(self, giver: str, getter: str, kind: str, amount: int, field: str = "data.amount") -> None:
        """USER → USER of another account; transferability is the rule's to ask."""
        self._add(giver, kind, -amount, 0, field)
        self._add(getter, kind, amount, 0, field)
        self._leg(user(kind, giver), user(kind, getter), amount, TransferCode.PAYMENT)

    def fee(self, account: str, kind: str, amount: int, field: str = "data.amount") -> None:
        """USER → FEE_POOL."""
        self._add(account, kind, -amount, 0, field)
        self._leg(user(kind, account), fee_pool(kind), amount, TransferCode.FEE)

    def lock(self, account: str, kind: str, amount: int, subject: str, field: str = "data.amount") -> None:
        """USER → ESCROW of the subject."""
        self._add(account, kind, -amount, amount, field)
        self._leg(user(kind, account), escrow(kind, account, subject), amount, TransferCode.ESCROW_LOCK)

    def release(
        self, account: str, kind: str, amount: int, subject: str, to: str, field: str = "data.amount"
    ) -> None:
        """ESCROW of the subject → USER: back to the account, or to another one."""
        self._add(account, kind, 0, -amount, field)
        self._add(to, kind, amount, 0, field)
        code = TransferCode.ESCROW_VOID if to == account else TransferCode.ESCROW_RELEASE
        self._leg(escrow(kind, account, subject), user(kind, to), amount, code)

    def leg(self, debit: AccountRef, credit: AccountRef, amount: int, code: TransferCode) -> None:
        """A leg between accounts that are nobody's balance."""
        self._leg(debit, credit, amount, code)

    def decision(self, *changes: Change, **more: Any) -> Decision:
        """What the event does: these changes, the balances, and the flow that the books judge."""
        at = self._event.at_ms
        found = [*changes, *(Change("account", id, value) for id, value in self._accounts.items())]
        for (account, kind), (available, locked) in self._balances.items():
            value = {
                "account_id": account, "token_type": kind, "available": money.text(available),
                "locked": money.text(locked), "updated_ms": at,
            }  # fmt: skip
            found.append(Change("balance", balance_id(account, kind), value))
        flow = None
        if self._legs:
            flow = FlowEvent(kind=Kind.POST, name=self._event.name, time_ms=at, legs=tuple(self._legs))
        return Decision(found, flow, tuple(self._opens), **more)

    def _leg(self, debit: AccountRef, credit: AccountRef, amount: int, code: TransferCode) -> None:
        self._legs.append(Leg(debit, credit, amount, int(code)))

    def _add(self, account: str, kind: str, available: int, locked: int, field: str) -> None:
        held = self._balances.get((account, kind)) or self._load(account, kind)
        after = [held[0] + available, held[1] + locked]
        if after[0] < 0 or after[1] < 0:
            has = money.text(held[0] if after[0] < 0 else held[1])
            raise Refusal("insufficient_balance", field, f"account {account} has {has} {kind}")
        if sum(after) > money.UNITS_MAX:
            raise Refusal(
                "balance_over_limit", field, f"account {account} would hold more {kind} than numeric(20,6)"
            )
        self._balances[account, kind] = after

    def _load(self, account: str, kind: str) -> list[int]:
        found = self._view.get("balance", balance_id(account, kind))
        if found is not None:
            return [money.units(found["available"]), money.units(found["locked"])]
        holder = self._accounts.get(account) or one(self._view, "account", account, "account_id")
        self._accounts[account] = {**holder, "token_types": [*holder["token_types"], kind]}
        self._opens.append(user(kind, account))
        return [0, 0]
