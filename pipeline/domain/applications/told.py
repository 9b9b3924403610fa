"""What is told of an event that was decided: its outcome, the states it led to, the accounts it opened. Pure."""

from __future__ import annotations

from typing import Final

import orjson

from pipeline.domain.account import AccountRef
from pipeline.domain.applications.event import (
    DUE,
    AppEvent,
    AppTopic,
    Change,
    Decision,
    Emit,
    Figures,
    Refusal,
    View,
)
from pipeline.domain.applications.fold import Judged
from pipeline.domain.findings import alert
from pipeline.domain.flows.outcome import account_record
from schemas.records import Alert, ApplicationState, EventOutcome

REFUSED = "event_refused"
BYTES_MAX: Final = 1_000_000  # of a state or message: with its envelope below what Kafka takes
_LEG_BYTES: Final = 256  # of a transfer's record, without its names
_LONG: Final = 1 << 63


def state_json(change: Change) -> str:
    """A state as it is written, "" where it is no more. Raises Refusal too_large, ValueError for a rule's defect."""
    change.id.encode()
    if change.value is None:
        return ""
    try:
        value = orjson.dumps(change.value).decode()
    except TypeError as error:
        raise ValueError(f"state {change.kind}/{change.id}: {error}") from None
    due = change.value.get(DUE)
    if due and not (type(due["at_ms"]) is int and -_LONG <= due["at_ms"] < _LONG):
        raise ValueError(f"state {change.kind}/{change.id}: due at {due['at_ms']!r:.60}")
    fits(len(value), f"state {change.kind}/{change.id}")
    return value


def fits(size: int, what: str) -> None:
    """Raise Refusal too_large for what no message can hold."""
    if size > BYTES_MAX:
        raise Refusal("too_large", "", f"{what} would have {size} bytes; {BYTES_MAX} are the most")


def flow_fits(decision: Decision) -> None:
    """The same for the record of the transfers that the books would make."""
    if decision.flow is not None and decision.flow.legs:
        refs = [ref for leg in decision.flow.legs for ref in (leg.debit, leg.credit)]
        names = sum(len(ref.owner.encode()) + len(ref.subject.encode()) for ref in refs)
        fits(names + _LEG_BYTES * len(decision.flow.legs), "the record of its transfers")


def outcome_record(row: AppTopic, judged: Judged, view: View) -> Emit:
    """The event's outcome, and what it adds to the figures of its day: nothing that was refused does.

    `row`: its topic; `view`: the states after it.
    """
    event, refused = judged.event, judged.refused
    figures = Figures() if judged.decision is None or row.figures is None else row.figures(event, view)
    record: EventOutcome = {
        "event_id": event.id,
        "topic": event.topic,
        "type": event.type,
        "key": event.key,
        "status": "applied" if refused is None else "refused",
        "reason": refused.reason if refused else "",
        "field": refused.field if refused else "",
        "detail": refused.detail if refused else "",
        "at": event.at_ms,
        "app_id": figures.app_id,
        "user_id": figures.user_id,
        "currency": figures.currency,
        "volume": figures.volume,
        "gas_required": figures.gas_required,
        "gas_paid_by_user": figures.gas_paid_by_user,
        "gas_paid_by_treasury": figures.gas_paid_by_treasury,
        "payer_user_id": figures.payer_user_id,
        "treasury_tx_hash": figures.treasury_tx_hash,
        "related_transaction_id": figures.related_transaction_id,
    }
    return Emit("applications.outcomes.v1", event.id, record)


def state_record(domain: str, event: AppEvent, change: Change, version: int, value: str) -> Emit:
    """A state after the event; `value` is its JSON. Its time is its own where it says that it does not go back."""
    own_ms = 0 if change.value is None else change.value.get("updated_ms", 0)
    record: ApplicationState = {
        "state": f"{domain}/{change.kind}/{change.id}",
        "domain": domain,
        "kind": change.kind,
        "id": change.id,
        "version": version,
        "value": value,
        "gone": change.value is None,
        "event_id": event.id,
        "at": max(event.at_ms, own_ms),
    }
    return Emit("applications.states.v1", record["state"], record)


def account_opened(ref: AccountRef, event: AppEvent, book: int) -> Emit:
    """The account directory's entry of an account that the event has opened."""
    record = account_record(ref, "active", event.name, event.at_ms, book=book)
    return Emit("books.accounts.v1", record["account_id"].hex(), record)


def alert_of_refusal(domain: str, judged: Judged) -> Emit:
    """The alert of a refused event; of an illegal transition under a rule of its own."""
    event, refused = judged.event, judged.refused
    assert refused is not None
    rule = refused.reason if refused.reason == "illegal_transition" else REFUSED
    note = alert(
        rule, "warning", domain, event.id, time=event.at_ms,
        evidence={
            "topic": event.topic, "type": event.type, "key": event.key, "reason": refused.reason,
            "field": refused.field, "detail": refused.detail, "client": event.client, "user_id": event.user_id,
        },
    )  # fmt: skip
    return Emit("control.alerts.v1", rule, note)


def reused(event: AppEvent) -> Alert:
    """The alert of an event whose id another one has."""
    return alert(
        "event_reused", "critical", event.topic, event.id, time=event.at_ms,
        evidence={"type": event.type, "key": event.key, "client": event.client, "source": event.source},
    )  # fmt: skip
