"""S3's token ledger under any sequence of commands, against a small model that knows nothing of the rules' code.

The model keeps what each account has in whole millionths and says of each command whether it may happen. The fold,
with an engine that judges every leg once more, must say the same of each, and hold the same at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.catalog.tokens import TOKENS
from pipeline.domain.account import AccountCode
from pipeline.domain.applications.event import AppEvent
from tests.support.applications import TestFold, at_ms, event, fold_of
from tests.support.examples import examples

ACCOUNTS = ("ana", "ben", "sol")  # ana and ben are of one association, sol is a supplier outside it
TYPES = ("CREDIT", "PO_SHARE", "ESCROW", "REPUTATION", "GOVERNANCE", "SEED")
START_MS = at_ms("2026-01-01T00:00:00Z")
ORDER_SHARES = Decimal(8)
AMOUNTS = [Decimal(text) for text in ("0.000001", "0.5", "1", "2.25", "3", "5", "99999999999999.999999")]
MOST = Decimal("99999999999999.999999")
QUIET = settings(
    max_examples=examples(900, 250),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip


class Command(NamedTuple):
    """What one event says, as far as the model looks at it."""

    type: str
    account: str
    data: dict[str, Any]


def _amount(of: Any) -> Any:
    return of.map(lambda amount: f"{amount:f}")


accounts = st.sampled_from(ACCOUNTS)
amounts = _amount(st.sampled_from(AMOUNTS[:-1]) | st.sampled_from(AMOUNTS))
free = st.sampled_from(("CREDIT", "SEED"))
names = st.sampled_from(("x", "y"))


def _said(**fields: Any) -> Any:
    return st.fixed_dictionaries(
        {name: of if hasattr(of, "map") else st.just(of) for name, of in fields.items()}
    )


DATA = {
    "CREDIT_LIMIT_GRANTED": _said(limit=st.sampled_from(("3", "6"))),
    "CREDIT_LIMIT_REDUCED": _said(limit=st.sampled_from(("0", "3")), reason="less"),
    "CREDIT_ISSUED": _said(token_type=free, amount=amounts),
    "CREDIT_REDEEMED": _said(token_type=free, amount=amounts, purpose=st.sampled_from(("use", "return"))),
    "TOKEN_TRANSFERRED": _said(
        token_type=st.sampled_from(TYPES), amount=amounts, to_account_id=accounts, purchase_order_id=st.just("po")
    ),
    "PURCHASE_ORDER_SHARE_ISSUED": _said(purchase_order_id="po", amount=amounts),
    "PURCHASE_ORDER_SHARE_REDEEMED": _said(purchase_order_id="po", amount=amounts),
    "ESCROW_LOCKED": _said(
        escrow_id=names, token_type=free, amount=amounts, beneficiary_account_id=st.none() | accounts,
        expires_at=st.none() | st.sampled_from((START_MS + 4, START_MS + 8)),
    ),
    "ESCROW_RELEASED": _said(escrow_id=names, amount=st.none() | amounts, to_account_id=st.none() | accounts),
    "REPUTATION_UPDATED": _said(change=_amount(st.sampled_from([*AMOUNTS, *(-one for one in AMOUNTS)])), reason="work"),
    "GOVERNANCE_RIGHT_GRANTED": _said(right_id=names, right="vote", weight=amounts),
    "GOVERNANCE_RIGHT_REVOKED": _said(right_id=names, reason="over"),
    "VOTE_CAST": _said(right_id=names, proposal_id=names, choice=st.sampled_from(("for", "against"))),
    "FEE_CHARGED": _said(token_type=free, amount=amounts, fee_type="service"),
    "PAYMENT_RECEIVED": _said(amount=amounts, external_reference="bank"),
    "BALANCE_ADJUSTED": _said(
        token_type=free, amount=amounts, direction=st.sampled_from(("increase", "decrease")), reason="wrong"
    ),
    "POSITION_BLOCKED": _said(reason="dispute"),
    "POSITION_UNBLOCKED": _said(reason="settled"),
}  # fmt: skip
ENDED = _said(escrow_id="x", amount=st.none() | amounts, to_account_id=st.none() | accounts)
commands = st.one_of(
    *(st.builds(Command, st.just(type), accounts, said) for type, said in DATA.items()),
    *[st.builds(Command, st.just("ESCROW_RELEASED"), st.just("ana"), ENDED)] * 3,  # an escrow that is there
)
FUNDED = (
    Command("CREDIT_LIMIT_GRANTED", "ana", {"limit": "6"}),
    Command("CREDIT_ISSUED", "ana", {"token_type": "CREDIT", "amount": "5.5"}),
    Command("BALANCE_ADJUSTED", "ben", {"token_type": "SEED", "amount": "4", "direction": "increase", "reason": "x"}),
    Command("PURCHASE_ORDER_SHARE_ISSUED", "ben", {"purchase_order_id": "po", "amount": "3"}),
    Command("GOVERNANCE_RIGHT_GRANTED", "ana", {"right_id": "x", "right": "vote", "weight": "2"}),
    Command(
        "ESCROW_LOCKED", "ana",
        {
            "escrow_id": "x", "token_type": "CREDIT", "amount": "2", "beneficiary_account_id": "ben",
            "expires_at": START_MS + 6,
        },
    ),
)  # fmt: skip
"""What every sequence begins with, so that much of it can happen."""


class No(Exception):
    """The model does not let it happen."""


class Model:
    """What the ledger holds, said as simply as it can be."""

    def __init__(self) -> None:
        self.available: dict[tuple[str, str], Decimal] = {}
        self.locked: dict[tuple[str, str], Decimal] = {}
        self.issued = dict.fromkeys(TYPES, Decimal(0))  # less what was redeemed
        self.fees = dict.fromkeys(TYPES, Decimal(0))
        self.owed = dict.fromkeys(ACCOUNTS, Decimal(0))
        self.limit = dict.fromkeys(ACCOUNTS, Decimal(0))
        self.shares = Decimal(0)  # ever issued
        self.blocked: set[str] = set()
        self.escrows: dict[str, dict[str, Any]] = {}
        self.rights: dict[str, dict[str, Any]] = {}
        self.votes: dict[tuple[str, str], Decimal] = {}
        self.now_ms = START_MS

    def has(self, account: str, kind: str) -> Decimal:
        return self.available.get((account, kind), Decimal(0))

    def add(self, account: str, kind: str, amount: Decimal, locked: Decimal = Decimal(0)) -> None:
        free, held = self.has(account, kind) + amount, self.locked.get((account, kind), Decimal(0)) + locked
        if free < 0 or held < 0 or free + held > MOST:
            raise No
        self.available[account, kind], self.locked[account, kind] = free, held

    def issue(self, account: str, kind: str, amount: Decimal) -> None:
        self.add(account, kind, amount)
        self.issued[kind] += amount

    def may_move(self, kind: str, giver: str, getter: str) -> None:
        inside = {giver, getter} == {"ana", "ben"}
        if (
            giver == getter
            or kind in ("ESCROW", "REPUTATION", "GOVERNANCE")
            or (kind == "PO_SHARE" and not inside)
        ):
            raise No

    def apply(self, said: Command) -> None:
        """Raises No, and then holds what it held."""
        before = {name: dict(of) if isinstance(of, dict) else of for name, of in vars(self).items()}
        before["blocked"], before["escrows"] = (
            set(self.blocked),
            {k: dict(v) for k, v in self.escrows.items()},
        )
        before["rights"] = {k: dict(v) for k, v in self.rights.items()}
        try:
            self._apply(
                said, said.account, Decimal(said.data.get("amount") or 0), said.data.get("token_type", "")
            )
        except No:
            vars(self).update(before)
            raise

    def _apply(self, said: Command, account: str, amount: Decimal, kind: str) -> None:
        always = ("PAYMENT_RECEIVED", "BALANCE_ADJUSTED", "POSITION_BLOCKED", "POSITION_UNBLOCKED")
        always = (*always, "CREDIT_LIMIT_REDUCED", "GOVERNANCE_RIGHT_REVOKED", "ESCROW_RELEASED")
        if account in self.blocked and said.type not in always:
            raise No
        getattr(self, said.type.lower())(account, amount, kind, said.data)

    def credit_limit_granted(self, account: str, amount: Decimal, kind: str, data: dict[str, Any]) -> None:
        if account == "sol" or Decimal(data["limit"]) <= self.limit[account]:  # sol has no KYB
            raise No
        self.limit[account] = Decimal(data["limit"])

    def credit_limit_reduced(self, account: str, amount: Decimal, kind: str, data: dict[str, Any]) -> None:
        if Decimal(data["limit"]) >= self.limit[account]:
            raise No
        self.limit[account] = Decimal(data["limit"])

    def credit_issued(self, account: str, amount: Decimal, kind: str, data: dict[str, Any]) -> None:
        if kind == "CREDIT":
            if account == "sol" or self.owed[account] + amount > self.limit[account]:
                raise No
            self.owed[account] += amount
        self.issue(account, kind, amount)

    def credit_redeemed(self, account: str, amount: Decimal, kind: str, data: dict[str, Any]) -> None:
        if data["purpose"] == "return":
            if kind != "CREDIT" or amount > self.owed[account]:
                raise No
            self.owed[account] -= amount
        self.issue(account, kind, -amount)

    def token_transferred(self, account: str, amount: Decimal, kind: str, data: dict[str, Any]) -> None:
        if data["to_account_id"] in self.blocked:
            raise No
        self.may_move(kind, account, data["to_account_id"])
        self.add(account, kind, -amount)
        self.add(data["to_account_id"], kind, amount)

    def purchase_order_share_issued(
        self, account: str, amount: Decimal, kind: str, data: dict[str, Any]
    ) -> None:
        self.shares += amount
        if self.shares > ORDER_SHARES:
            raise No
        self.issue(account, "PO_SHARE", amount)

    def purchase_order_share_redeemed(
        self, account: str, amount: Decimal, kind: str, data: dict[str, Any]
    ) -> None:
        self.issue(account, "PO_SHARE", -amount)

    def escrow_locked(self, account: str, amount: Decimal, kind: str, data: dict[str, Any]) -> None:
        end = data.get("expires_at") or MOST
        if data["escrow_id"] in self.escrows or end <= self.now_ms:
            raise No
        if data["beneficiary_account_id"] is not None:
            self.may_move(kind, account, data["beneficiary_account_id"])
        self.escrows[data["escrow_id"]] = {
            "of": account, "to": data["beneficiary_account_id"], "kind": kind, "left": amount, "end": end,
        }  # fmt: skip
        self.add(account, kind, -amount, amount)
        self.issue(account, "ESCROW", amount)

    def escrow_released(self, account: str, amount: Decimal, kind: str, data: dict[str, Any]) -> None:
        held, to = self.escrows.get(data["escrow_id"]), data["to_account_id"] or account
        if held is None or held["of"] != account or not held["left"]:
            raise No
        late = self.now_ms >= held["end"]
        if to != account and (late or to != held["to"] or {account, to} & self.blocked):
            raise No
        amount = amount or held["left"]
        if amount > held["left"]:
            raise No
        held["left"] -= amount
        self.add(account, held["kind"], Decimal(0), -amount)
        self.add(to, held["kind"], amount)
        self.issue(account, "ESCROW", -amount)

    def reputation_updated(self, account: str, amount: Decimal, kind: str, data: dict[str, Any]) -> None:
        self.issue(account, "REPUTATION", Decimal(data["change"]))

    def governance_right_granted(
        self, account: str, amount: Decimal, kind: str, data: dict[str, Any]
    ) -> None:
        if data["right_id"] in self.rights:
            raise No
        self.rights[data["right_id"]] = {"of": account, "weight": Decimal(data["weight"]), "holds": True}
        self.issue(account, "GOVERNANCE", Decimal(data["weight"]))

    def _right(self, account: str, id: str) -> dict[str, Any]:
        right = self.rights.get(id)
        if right is None or right["of"] != account or not right["holds"]:
            raise No
        return right

    def governance_right_revoked(
        self, account: str, amount: Decimal, kind: str, data: dict[str, Any]
    ) -> None:
        right = self._right(account, data["right_id"])
        right["holds"] = False
        self.issue(account, "GOVERNANCE", -right["weight"])

    def vote_cast(self, account: str, amount: Decimal, kind: str, data: dict[str, Any]) -> None:
        place = (data["proposal_id"], account)
        if place in self.votes:
            raise No
        self.votes[place] = self._right(account, data["right_id"])["weight"]

    def fee_charged(self, account: str, amount: Decimal, kind: str, data: dict[str, Any]) -> None:
        self.add(account, kind, -amount)
        self.fees[kind] += amount

    def payment_received(self, account: str, amount: Decimal, kind: str, data: dict[str, Any]) -> None:
        extra = max(amount - self.owed[account], Decimal(0))
        self.owed[account] -= amount - extra
        self.issue(account, "CREDIT", extra)

    def balance_adjusted(self, account: str, amount: Decimal, kind: str, data: dict[str, Any]) -> None:
        self.issue(account, kind, amount if data["direction"] == "increase" else -amount)

    def position_blocked(self, account: str, amount: Decimal, kind: str, data: dict[str, Any]) -> None:
        if account in self.blocked:
            raise No
        self.blocked.add(account)

    def position_unblocked(self, account: str, amount: Decimal, kind: str, data: dict[str, Any]) -> None:
        if account not in self.blocked:
            raise No
        self.blocked.discard(account)


def _before() -> Iterator[AppEvent]:
    for account in ACCOUNTS:
        home = (
            {"owner_type": "supplier"}
            if account == "sol"
            else {"owner_type": "member", "association_id": "flora"}
        )
        yield event(
            TOKENS,
            "ACCOUNT_OPENED",
            account,
            START_MS,
            {"owner_id": f"own_{account.encode().hex():0>32}", **home},
        )
    seed = {
        "token_type_id": "SEED",
        "name": "Seedlings",
        "visible_label": "Seedlings",
        "substance": "prepaid",
    }
    yield event(TOKENS, "TOKEN_TYPE_REGISTERED", "SEED", START_MS, {**seed, "transferability": "internal"})
    order = {"purchase_order_id": "po", "shares_total": str(ORDER_SHARES)}
    yield event(TOKENS, "PURCHASE_ORDER_CREATED", "ana", START_MS, order)
    for one in FUNDED:
        yield event(TOKENS, one.type, one.account, START_MS, one.data)


BEFORE = tuple(_before())


def _holds(fold: TestFold, model: Model) -> None:
    """Books, states and model hold the same; nothing is below 0; each type's units are those issued."""
    for kind in TYPES:
        asset, sums = f"offchain/token:{kind}", Decimal(0)
        for account in ACCOUNTS:
            state = fold.state("balance", f"{account}:{kind}") or {"available": "0", "locked": "0"}
            free, locked = Decimal(state["available"]), Decimal(state["locked"])
            assert (free, locked) == (model.has(account, kind), model.locked.get((account, kind), Decimal(0)))
            assert free >= 0 and locked >= 0
            assert fold.balance(asset, AccountCode.USER, account) == free * 10**6
            subjects = [
                id for id, one in model.escrows.items() if (one["of"], one["kind"]) == (account, kind)
            ]
            held = [fold.balance(asset, AccountCode.ESCROW, account, id) for id in subjects]
            assert sum(held) == locked * 10**6
            sums += free + locked
        assert fold.balance(asset, AccountCode.TREASURY) == model.issued[kind] * 10**6
        assert fold.balance(asset, AccountCode.FEE_POOL) == model.fees[kind] * 10**6
        assert sums + model.fees[kind] == model.issued[kind]


def _positions(fold: TestFold, model: Model) -> None:
    """Shares, guarantees, weights and scores stand in positions as they stand in balances."""
    for account in ACCOUNTS:
        sums = dict.fromkeys(("purchase_order", "escrow", "reputation", "governance"), Decimal(0))
        for one in fold.states("economic_position").values():
            if one["account_id"] == account:
                sums[one["position_type"]] += Decimal(one["amount"])
        kinds = ("PO_SHARE", "ESCROW", "REPUTATION", "GOVERNANCE")
        assert list(sums.values()) == [model.has(account, kind) for kind in kinds]
        credit = fold.state("credit", account) or {"outstanding": "0", "limit": "0"}
        assert Decimal(credit["outstanding"]) == model.owed[account]
        assert Decimal(credit["limit"]) == model.limit[account]
    votes = {
        (one["proposal_id"], one["account_id"]): Decimal(one["weight"])
        for one in fold.states("vote").values()
    }
    assert votes == model.votes


@QUIET
@given(st.lists(commands, min_size=1, max_size=12))
def test_any_sequence_of_commands_ends_as_the_model_says(said: list[Command]) -> None:
    model, fold, expected = Model(), fold_of(TOKENS), list[bool]()
    told = [
        event(TOKENS, one.type, one.account, START_MS + place, one.data, id=f"e{place}")
        for place, one in enumerate(said, 1)
    ]
    for place, one in enumerate([*FUNDED, *said], 1 - len(FUNDED)):
        model.now_ms = START_MS + max(place, 0)
        try:
            model.apply(one)
            expected.append(True)
        except No:
            expected.append(False)
    try:
        judged = fold.apply([*BEFORE, *told])[len(BEFORE) - len(FUNDED) :]
        assert [one.refused is None for one in judged] == expected, [
            (o.event.type, o.refused) for o in judged
        ]
        _holds(fold, model)
        _positions(fold, model)
    finally:
        fold.close()


@pytest.mark.parametrize(("recorded_ms", "status"), [(START_MS + 9, "active"), (START_MS + 10, "closed")])
def test_an_unblocked_escrow_ends_only_where_its_end_has_come(recorded_ms: int, status: str) -> None:
    """An `at` a little ahead of the intake's clock ends nothing early; but nothing is paid from that `at` on either."""
    fold, end = fold_of(TOKENS), START_MS + 10
    locked = {"escrow_id": "y", "amount": "1", "beneficiary_account_id": "ben", "expires_at": end}
    blocked = {"position_id": "escrow:y", "reason": "dispute"}
    said = [("ESCROW_LOCKED", 1, locked), ("POSITION_BLOCKED", 2, blocked)]
    told = [event(TOKENS, type, "ana", START_MS + ms, data) for type, ms, data in said]
    unblocked = replace(event(TOKENS, "POSITION_UNBLOCKED", "ana", end, blocked), recorded_ms=recorded_ms)
    judged = fold.apply([*BEFORE, *told, unblocked])
    assert not [one.refused for one in judged if one.refused]
    found = fold.state("economic_position", "escrow:y") or {}
    assert (found["status"], found.get("due", {}).get("at_ms")) == (
        status,
        end if status == "active" else None,
    )
    paid = event(TOKENS, "ESCROW_RELEASED", "ana", end, {"escrow_id": "y", "to_account_id": "ben"})
    refused = fold.one(paid).refused
    assert refused is not None
    assert refused.reason == ("expired" if status == "active" else "illegal_transition")
    fold.close()
