"""What became of an event: the answer, the audit records, the alert. Pure.

Every event has one outcome, and every outcome leaves records: accepted or refused, one message per
(event, asset) in books.transfers.v1; refused, an alert besides; an account's change, one in
books.accounts.v1. Ids are made of the event alone, so the same outcome told twice is one outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pipeline.domain.account import LEDGER_IDS, AccountCode, AccountRef, TransferCode
from pipeline.domain.findings import alert, deterministic_id
from pipeline.domain.flows.accounts import ANCHOR_ASSET, CHAIN, CHAIN_NUMBER, asset_key, ident
from pipeline.domain.flows.events import EventName, FlowEvent, Kind, Party, phase_of
from pipeline.domain.flows.plan import Move, Plan
from schemas.records import Alert, BookAccount, BookTransfer, BookTransfers

RULE: Final = "transfer_refused"
CODES: Final = {
    Kind.DEPOSIT: TransferCode.DEPOSIT,
    Kind.WITHDRAWAL: TransferCode.WITHDRAWAL,
    Kind.PAYMENT: TransferCode.PAYMENT,
    Kind.REFUND: TransferCode.REFUND,
    Kind.FEE: TransferCode.FEE,
    Kind.AUTHORIZE: TransferCode.ANCHOR_AUTHORIZATION,
    Kind.CLAIM: TransferCode.ANCHOR_AUTHORIZATION,
    Kind.FULFIL: TransferCode.ANCHOR_FULFILLMENT,
    Kind.EXPIRE: TransferCode.ANCHOR_EXPIRY,
    Kind.LOCK: TransferCode.ESCROW_LOCK,
    Kind.RELEASE: TransferCode.ESCROW_RELEASE,
    Kind.VOID: TransferCode.ESCROW_VOID,
    Kind.LAPSE: TransferCode.ESCROW_VOID,
    Kind.SETTLE: TransferCode.SETTLEMENT,
    Kind.REVERSE: TransferCode.SETTLEMENT_REVERSAL,
    Kind.FREEZE: TransferCode.LOCK,
    Kind.THAW: TransferCode.LOCK,
    Kind.CLOSE: TransferCode.LOCK,
}
_C: Final = AccountCode
SIDES: Final = {
    Kind.DEPOSIT: (_C.TREASURY, _C.USER),
    Kind.FEE: (_C.USER, _C.FEE_POOL),
    Kind.AUTHORIZE: (_C.USER, _C.SYSTEM_BUFFER),
    Kind.CLAIM: (_C.SYSTEM_BUFFER, _C.ANCHOR),
    Kind.FULFIL: (_C.ANCHOR, _C.TREASURY),
    Kind.EXPIRE: (_C.SYSTEM_BUFFER, _C.USER),
    Kind.LOCK: (_C.USER, _C.ESCROW),
    Kind.RELEASE: (_C.ESCROW, _C.USER),
    Kind.VOID: (_C.USER, _C.ESCROW),
    Kind.LAPSE: (_C.USER, _C.ESCROW),
    Kind.SETTLE: (_C.MERCHANT, _C.TREASURY),
    Kind.REVERSE: (_C.TREASURY, _C.MERCHANT),
    Kind.FREEZE: (_C.USER, _C.BOOK),
    Kind.THAW: (_C.USER, _C.BOOK),
    Kind.CLOSE: (_C.BOOK, _C.USER),
}
"""Types of the accounts between which a flow moves, where an event that was refused does not say."""
_AMOUNT_COLUMN_MAX: Final = 1 << 256


class Reason(NamedTuple):
    """Why an event was refused."""

    reason: str  # one word
    field: str  # of the event
    detail: str  # one line

    def __str__(self) -> str:
        return f"{self.reason}: {self.field}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The one answer to an event; `plan` of those accepted, `refused` of all others."""

    event: FlowEvent
    plan: Plan | None = None
    refused: Reason | None = None
    repeated: bool = False  # it had been decided before
    reused: bool = (
        False  # another event stands under this name: nothing of this one is recorded as a transfer
    )
    timestamps: tuple[int, ...] = ()  # the engine's, per move
    opened: tuple[AccountRef, ...] = ()  # the book's own accounts that it needed

    @property
    def accepted(self) -> bool:
        """Whether it stands in the books."""
        return self.refused is None


@dataclass(frozen=True, slots=True)
class Opening:
    """An account to be opened by an operator."""

    name: EventName
    time_ms: int
    account: AccountRef
    label: str = ""


BookOf = Callable[[str], int]
"""Asset key → number of its book."""


def fixed_book(asset: str) -> int:
    """Number of the book of one of S4's assets; 0 for others, which claim theirs from the engine."""
    return LEDGER_IDS.get(asset.removeprefix(f"{CHAIN}/"), 0)


def transfer_records(outcome: Outcome, book_of: BookOf = fixed_book) -> list[BookTransfers]:
    """The audit log's messages of one outcome: one per asset, transfers in the order of the chain."""
    if outcome.reused:
        return []
    rows = _accepted(outcome) if outcome.accepted else [_refused(outcome)]
    records: dict[str, BookTransfers] = {}
    for asset, row in rows:
        if asset not in records:
            records[asset] = _record(outcome.event, asset, book_of)
        records[asset]["transfers"].append(row)
    return list(records.values())


def account_records(outcome: Outcome, book_of: BookOf = fixed_book) -> list[BookAccount]:
    """What one outcome changed in the account directory."""
    event = outcome.event
    found = [
        account_record(ref, "active", event.name, event.time_ms, book=book_of(ref.asset))
        for ref in outcome.opened
    ]
    if outcome.plan is not None and outcome.plan.status and event.debtor is not None:
        ref = AccountRef(asset_key(event.asset), int(event.debtor.code), event.debtor.owner)
        found.append(account_record(ref, outcome.plan.status, event.name, event.time_ms))
    return found


def account_record(
    ref: AccountRef, status: str, name: EventName, time_ms: int, *,
    label: str = "", chain: str = CHAIN, chain_number: int = CHAIN_NUMBER,
    account: bytes | None = None, book: int | None = None,
) -> BookAccount:  # fmt: skip
    """One change of an account; `account` and `book` are given for on-chain ones."""
    key = account or ident(ref)
    return {
        "account_id": key[::-1],
        "asset": ref.asset,
        "chain": chain,
        "chain_number": chain_number,
        "book": fixed_book(ref.asset) if book is None else book,
        "code": ref.code,
        "type": AccountCode(ref.code).name,
        "owner": ref.owner,
        "subject": ref.subject,
        "name": label,
        "status": status,  # type: ignore[typeddict-item]
        "event_id": str(name),
        "change_id": deterministic_id("account", key.hex(), str(name), status),
        "position": time_ms,
        "time": time_ms,
    }


def refusal_alert(outcome: Outcome) -> Alert:
    """The alert of a refused event."""
    event, refused = outcome.event, outcome.refused
    assert refused is not None
    subject = f"{event.name}/{event.digest():08x}" if outcome.reused else str(event.name)
    evidence: dict[str, Any] = {
        "flow": event.kind.value, "reason": refused.reason, "field": refused.field, "detail": refused.detail,
        "asset": event.asset, "amount": "" if event.amount is None else str(event.amount), "subject": event.subject,
        "debtor": _party(event.debtor), "creditor": _party(event.creditor),
    }  # fmt: skip
    return alert(RULE, "warning", CHAIN, subject, time=_time(event), evidence=evidence)


def answer(outcome: Outcome) -> dict[str, Any]:
    """The answer as JSON: strings for all that passes 53 bits."""
    event = outcome.event
    told: dict[str, Any] = {
        "event_id": str(event.name),
        "key": event.name.key,
        "attempt": event.name.attempt,
        "flow": event.kind.value,
        "status": "accepted" if outcome.accepted else "refused",
        "repeated": outcome.repeated,
    }
    if outcome.refused is not None:
        return {**told, **outcome.refused._asdict()}
    assert outcome.plan is not None
    moves = zip(outcome.plan.moves, outcome.timestamps, strict=True)
    told["transfers"] = [
        {
            "transfer_id": f"{move.id:032X}",
            "code": TransferCode(move.code).name,
            "status": move.status,
            "asset": move.debit.asset,
            "debit": _side(move.debit),
            "credit": _side(move.credit),
            "amount": str(move.amount),
            "timestamp": str(timestamp),
        }
        for move, timestamp in moves
    ]
    return told


class Decision(NamedTuple):
    """What books.transfers.v1 says became of an event."""

    refused: Reason | None
    timestamp: int


def decisions(records: Iterable[Mapping[str, Any]]) -> dict[str, Decision]:
    """Event id → what was decided, from messages of books.transfers.v1, in the order of the decisions.

    The order is that of the store that decided, across partitions: accepted events by their timestamp;
    refused ones moved nothing and stand first.
    """
    found: dict[str, Decision] = {}
    for record in records:
        for row in record["transfers"]:
            if not row["event_id"]:
                continue
            refused = None
            if row["status"] == "refused":
                reason, _, rest = (row["reason"] or "").partition(": ")
                refused = Reason(reason, *rest.partition(": ")[::2])
            found[row["event_id"]] = Decision(refused, row["timestamp"])
    return dict(sorted(found.items(), key=lambda item: item[1].timestamp))


def in_decided_order(events: Iterable[FlowEvent], decided: Mapping[str, Decision]) -> list[FlowEvent]:
    """Events as they were decided; those never decided follow, in the order given."""
    place = {name: at for at, name in enumerate(decided)}
    return sorted(events, key=lambda event: place.get(str(event.name), len(place)))


def _record(event: FlowEvent, asset: str, book_of: BookOf) -> BookTransfers:
    return {
        "asset": asset,
        "book": book_of(asset),
        "chain": CHAIN,
        "chain_number": CHAIN_NUMBER,
        "run": 0,
        "block": _time(event),
        "block_hash": f"{event.name.user_data:032x}",
        "chunk": 0,
        "publication": "",
        "part": "",
        "time": _time(event),
        "transfers": [],
    }


def _accepted(outcome: Outcome) -> list[tuple[str, BookTransfer]]:
    assert outcome.plan is not None
    return [
        (move.debit.asset, _row(outcome.event, leg, move, outcome.timestamps[leg]))
        for leg, move in enumerate(outcome.plan.moves)
    ]


def _row(event: FlowEvent, leg: int, move: Move, timestamp: int) -> BookTransfer:
    return {
        "transfer_id": move.id.to_bytes(16, "big"),
        "transaction_index": 0,
        "leg": leg,
        "hash": "",
        "code": move.code,
        "status": move.status,  # type: ignore[typeddict-item]
        "reason": None,
        "debit_code": move.debit.code,
        "debit_owner": move.debit.owner,
        "debit_subject": move.debit.subject,
        "credit_code": move.credit.code,
        "credit_owner": move.credit.owner,
        "credit_subject": move.credit.subject,
        "amount": str(move.amount),
        "pending_id": f"{move.pending_id:032X}" if move.pending_id else "",
        "event_id": str(event.name),
        "flow": event.kind.value,
        "timestamp": timestamp,
    }


def _refused(outcome: Outcome) -> tuple[str, BookTransfer]:
    """The row of an event that moved nothing: what it asked, as far as it can be told."""
    event = outcome.event
    sides = SIDES.get(event.kind, (AccountCode.USER, AccountCode.TREASURY))
    debit, credit = event.debtor or Party("", sides[0]), event.creditor or Party("", sides[1])
    amount = event.amount if isinstance(event.amount, int) else 0
    code, subjects, asset = (
        CODES.get(event.kind, TransferCode.PAYMENT),
        ("", ""),
        asset_key(event.asset or ANCHOR_ASSET),
    )
    if event.legs:  # its first leg stands for it
        leg = event.legs[0]
        debit, credit = (Party(ref.owner, AccountCode(ref.code)) for ref in (leg.debit, leg.credit))
        code, amount, asset = TransferCode(leg.code), leg.amount, leg.debit.asset
        subjects = (leg.debit.subject, leg.credit.subject)
    row: BookTransfer = {
        "transfer_id": event.name.transfer_id(0, phase_of(event.kind)).to_bytes(16, "big"),
        "transaction_index": 0,
        "leg": 0,
        "hash": "",
        "code": int(code),
        "status": "refused",
        "reason": str(outcome.refused),
        "debit_code": int(debit.code),
        "debit_owner": debit.owner,
        "debit_subject": subjects[0],
        "credit_code": int(credit.code),
        "credit_owner": credit.owner,
        "credit_subject": subjects[1],
        "amount": str(amount if 0 <= amount < _AMOUNT_COLUMN_MAX else 0),
        "pending_id": "",
        "event_id": str(event.name),
        "flow": event.kind.value,
        "timestamp": 0,
    }
    return asset, row


def _time(event: FlowEvent) -> int:
    """Event time as a message holds it, also where the event's own is refused."""
    return min(max(event.time_ms, 0), 253402300799999)


def _party(party: Party | None) -> str:
    return "" if party is None else f"{party.code.name}:{party.owner}"


def _side(ref: AccountRef) -> str:
    code = AccountCode(ref.code).name
    return f"{code}:{ref.owner}" if ref.owner else code
