"""The events of the flows, and what can be said about one without looking into the books.

An event is named by (source, client, key, attempt): the same name is the same event for ever. A refused
event stays refused; whoever wants to try again raises `attempt`, which makes it another event.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Final, NamedTuple

from pipeline.domain.account import LEDGER_IDS, AccountCode, AccountRef, u128
from pipeline.domain.flows.accounts import ANCHOR_ASSET, ANCHORS, CUSTOMERS, OBLIGATION
from pipeline.domain.position import Phase, named_transfer_id

AMOUNT_MAX: Final = (1 << 128) - 1
TIME_MAX: Final = 1 << 63
RESERVED_SOURCES: Final = frozenset({"opening", "supply", "marker"})


class Kind(StrEnum):
    """The flows. Values are the operators' words."""

    DEPOSIT = "deposit"
    WITHDRAWAL = "withdraw"
    PAYMENT = "pay"
    REFUND = "refund"
    FEE = "fee"
    AUTHORIZE = "authorize"
    CLAIM = "claim"
    FULFIL = "fulfil"
    EXPIRE = "expire"
    LOCK = "lock"
    RELEASE = "release"
    VOID = "void"
    LAPSE = "lapse"
    SETTLE = "settle"
    REVERSE = "reverse"
    FREEZE = "freeze"
    THAW = "thaw"
    CLOSE = "close"
    POST = "post"  # legs that an application's rule has decided


class Party(NamedTuple):
    """One side of a flow."""

    owner: str
    code: AccountCode = AccountCode.USER


class Leg(NamedTuple):
    """One transfer of a posting; any off-chain account may stand on either side."""

    debit: AccountRef
    credit: AccountRef
    amount: int
    code: int  # TransferCode


class EventName(NamedTuple):
    """What makes an event this event: where it comes from, whose it is, its idempotency key."""

    source: str
    client: str
    key: str
    attempt: int = 0

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts that ids are hashed of; the first attempt has none for its number."""
        return (self.source, self.client, self.key, str(self.attempt)) if self.attempt else tuple(self[:3])

    def __str__(self) -> str:
        name = f"{self.source}:{self.client}:{self.key}"
        return f"{name}#{self.attempt}" if self.attempt else name

    def transfer_id(self, leg: int, phase: Phase = Phase.SINGLE) -> int:
        """Id of a leg of this event: `1 | BLAKE2b-111(parts) | leg 14 | phase 2`."""
        return named_transfer_id(*self.parts, leg=leg, phase=phase)

    @property
    def user_data(self) -> int:
        """`user_data_128` of the event's transfers."""
        return int.from_bytes(u128("event", *self.parts), "little")


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowEvent:
    """One event. Which fields a kind needs: FIELDS."""

    kind: Kind
    name: EventName
    time_ms: int  # event time: all expiry is judged by it
    asset: str = ""  # S4's name, e.g. SOVR
    amount: int | None = None  # units of the asset
    debtor: Party | None = None  # who gives; freeze, thaw, close: whose account
    creditor: Party | None = None  # who gets
    subject: str = ""  # id of the authorization or escrow
    anchor: str = ""  # GROCERY, UTILITY, FUEL
    reference: EventName | None = None  # the payment refunded, the settlement reversed
    expires_ms: int = 0  # end of an authorization or escrow lock, in event time; 0 = none
    timeout_s: int = 0  # lock only: TigerBeetle's own timeout, on the cluster's clock; replay would differ
    proof: str = ""  # what a fulfilment rests on
    attested: bool = False  # whoever took the event in has verified the proof's signature
    legs: tuple[Leg, ...] = ()  # post only: they happen all or none

    def digest(self) -> int:
        """32 bits of everything the event says, for the field of a transfer that the engine compares."""
        h = blake2b(digest_size=4)
        for field in fields(self):
            if field.name == "legs" and not self.legs:  # as it was before there were any
                continue
            data = repr(_plain(getattr(self, field.name))).encode()
            h.update(len(data).to_bytes(4, "big") + data)
        return int.from_bytes(h.digest(), "big")


class Refusal(Exception):
    """An event that the books do not take: a reason in one word, the field at fault, one line."""

    def __init__(self, reason: str, field: str, detail: str) -> None:
        super().__init__(f"{field}: {detail}")
        self.reason, self.field, self.detail = reason, field, detail


FIELDS: Final[dict[Kind, tuple[str, ...]]] = {
    Kind.DEPOSIT: ("asset", "amount", "creditor"),
    Kind.WITHDRAWAL: ("asset", "amount", "debtor"),
    Kind.PAYMENT: ("asset", "amount", "debtor", "creditor"),
    Kind.REFUND: ("asset", "amount", "debtor", "creditor", "reference"),
    Kind.FEE: ("asset", "amount", "debtor"),
    Kind.AUTHORIZE: ("amount", "debtor", "subject", "anchor"),
    Kind.CLAIM: ("subject",),
    Kind.FULFIL: ("subject", "proof"),
    Kind.EXPIRE: ("subject", "creditor"),
    Kind.LOCK: ("asset", "amount", "debtor", "subject"),
    Kind.RELEASE: ("asset", "debtor", "creditor", "subject"),
    Kind.VOID: ("asset", "debtor", "subject"),
    Kind.LAPSE: ("asset", "debtor", "subject"),
    Kind.SETTLE: ("asset", "amount", "debtor"),
    Kind.REVERSE: ("asset", "creditor", "reference"),
    Kind.FREEZE: ("asset", "debtor"),
    Kind.THAW: ("asset", "debtor"),
    Kind.CLOSE: ("asset", "debtor"),
    Kind.POST: ("legs",),
}
"""What each kind must say. `amount` of a release is free (all), of claim, fulfil, expire, void, reverse too:
it then must be what the books hold."""
OBLIGATION_BOOKS: Final = frozenset(name for name in LEDGER_IDS if name.endswith(OBLIGATION))
STATUS_KINDS: Final = frozenset({Kind.FREEZE, Kind.THAW, Kind.CLOSE})
POSTED_ONLY: Final = frozenset({Kind.SETTLE, Kind.REVERSE})  # parties are merchants


def check(event: FlowEvent) -> None:
    """S4's checklist as far as the event alone can be judged. Raises Refusal naming the field."""
    _check_name(event.name, "name")
    if not 0 < event.time_ms < TIME_MAX:
        raise Refusal("bad_time", "time", f"{event.time_ms} is no time in milliseconds since 1970")
    for field in FIELDS[event.kind]:
        if getattr(event, field) in (None, "", ()):
            raise Refusal("missing", field, f"a {event.kind} needs it")
    _check_asset(event)
    for leg in event.legs:
        _check_leg(leg)
    if event.amount is not None:
        _check_amount(event.amount)
    for field in ("debtor", "creditor"):
        _check_party(event, field)
    if event.debtor is not None and event.debtor == event.creditor:
        raise Refusal(
            "same_account",
            "creditor",
            f"{event.creditor.owner} ({event.creditor.code.name}) is on both sides",
        )
    if event.anchor and event.anchor not in ANCHORS:
        raise Refusal("unknown_anchor", "anchor", f"{event.anchor!r} is none of {', '.join(ANCHORS)}")
    if event.reference is not None:
        _check_name(event.reference, "reference")
    if not 0 <= event.expires_ms < TIME_MAX:
        raise Refusal("bad_time", "expires", f"{event.expires_ms} is no time in milliseconds since 1970")
    if event.expires_ms and event.expires_ms <= event.time_ms:
        raise Refusal("expired", "expires", "it would have ended before it begins")
    if not 0 <= event.timeout_s < 1 << 32:
        raise Refusal("bad_timeout", "timeout", f"{event.timeout_s} does not fit in 32 bits of seconds")


def register_ids(event: FlowEvent) -> tuple[int, ...]:
    """All ids that the event's first transfer could have, its own first: the same name is used only once."""
    own = phase_of(event.kind)
    phases = (own, *(phase for phase in (Phase.SINGLE, Phase.POST, Phase.VOID) if phase != own))
    return tuple(event.name.transfer_id(0, phase) for phase in phases)


def phase_of(kind: Kind) -> Phase:
    """Phase of the first transfer: those that resolve a pending one say so in their id."""
    if kind == Kind.RELEASE:
        return Phase.POST
    return Phase.VOID if kind in (Kind.VOID, Kind.LAPSE, Kind.THAW) else Phase.SINGLE


def depends_on(event: FlowEvent) -> set[tuple[str, str]]:
    """What the event shares with others whose order matters beyond balances: never twice in one batch."""
    found = {("event", str(event.name._replace(attempt=0)))}
    if event.subject:
        found.add(("subject", event.subject))
    if event.reference is not None:
        found.add(("event", str(event.reference._replace(attempt=0))))
    if event.kind in STATUS_KINDS and event.debtor is not None:
        found.add(("account", f"{event.asset}/{int(event.debtor.code)}/{event.debtor.owner}"))
    return found


def _check_name(name: EventName, field: str) -> None:
    if not name.key or not name.source:
        raise Refusal("missing", field, "an event has a source and an idempotency key")
    if name.source in RESERVED_SOURCES:
        raise Refusal("bad_name", field, f"source {name.source!r} is the books' own")
    if not 0 <= name.attempt < 1 << 32:
        raise Refusal("bad_name", field, f"attempt {name.attempt} is none")


def _check_asset(event: FlowEvent) -> None:
    if event.asset and event.asset not in LEDGER_IDS:
        raise Refusal("unknown_asset", "asset", f"{event.asset!r} is none of {', '.join(LEDGER_IDS)}")
    moves = event.kind not in STATUS_KINDS
    if moves and event.asset in OBLIGATION_BOOKS:
        raise Refusal("obligation_book", "asset", f"{event.asset} moves by claim, fulfil and expire only")
    if event.kind == Kind.AUTHORIZE and event.asset not in ("", ANCHOR_ASSET):
        raise Refusal("other_asset", "asset", f"anchors are spent in {ANCHOR_ASSET}, not {event.asset}")


def _check_amount(amount: Any) -> None:
    if not isinstance(amount, int) or isinstance(amount, bool):
        raise Refusal("bad_amount", "amount", f"{amount!r} is no whole number of units")
    if amount <= 0:
        raise Refusal("amount_not_positive", "amount", f"{amount} is not above 0")
    if amount >= AMOUNT_MAX:
        raise Refusal(
            "amount_over_u128", "amount", f"{amount} is beyond 2^128-2, the most a transfer can hold"
        )


def _check_leg(leg: Leg) -> None:
    _check_amount(leg.amount)
    if leg.debit.asset != leg.credit.asset:
        raise Refusal("other_asset", "legs", f"{leg.debit.asset} and {leg.credit.asset} in one transfer")
    if leg.debit == leg.credit:
        raise Refusal("same_account", "legs", f"{leg.debit.owner} is on both sides")


def _check_party(event: FlowEvent, field: str) -> None:
    party: Party | None = getattr(event, field)
    if party is None:
        return
    if party.code in CUSTOMERS and not party.owner:
        raise Refusal("missing", field, "an account has an owner")
    merchants = event.kind in POSTED_ONLY
    allowed = {AccountCode.MERCHANT} if merchants else CUSTOMERS
    if event.kind not in STATUS_KINDS and party.code not in allowed:
        names = " or ".join(sorted(code.name for code in allowed))
        raise Refusal("wrong_type", field, f"a {event.kind} takes a {names}, not {party.code.name}")


def _plain(value: Any) -> Any:
    """A value whose repr says what it is and nothing of its class."""
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, StrEnum):
        return value.value
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else value


def to_dict(event: FlowEvent) -> dict[str, Any]:
    """The event as JSON; amounts as text."""
    made: dict[str, Any] = {field.name: _plain(getattr(event, field.name)) for field in fields(event)}
    made = {name: list(value) if isinstance(value, tuple) else value for name, value in made.items()}
    made["amount"] = None if event.amount is None else str(event.amount)
    return made


def from_dict(data: dict[str, Any]) -> FlowEvent:
    """The event that `to_dict` wrote."""
    made = dict(data)
    for side in ("debtor", "creditor"):
        if made[side] is not None:
            made[side] = Party(made[side][0], AccountCode(made[side][1]))
    for name in ("name", "reference"):
        if made[name] is not None:
            made[name] = EventName(*made[name])
    made["kind"] = Kind(made["kind"])
    made["legs"] = tuple(
        Leg(AccountRef(*debit), AccountRef(*credit), int(amount), code)
        for debit, credit, amount, code in made.get("legs", ())
    )
    made["amount"] = None if made["amount"] is None else int(made["amount"])
    return FlowEvent(**made)
