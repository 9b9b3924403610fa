"""One event of an application, and what a rule may answer. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from pipeline.domain.account import AccountRef
from pipeline.domain.flows.events import EventName, FlowEvent, Refusal
from schemas.records import Alert

__all__ = [
    "AppEvent", "AppTopic", "AppType", "Change", "Decision", "Emit", "Figures", "Refusal", "Value", "View", "one",
]  # fmt: skip

Value = dict[str, Any]
"""A state: what JSON can hold, amounts as decimal strings; never changed in place, always made anew."""
FLOW_SOURCE: Final = "app"
DUE: Final = "due"
"""Field of a state: {"at_ms", "type", "data"}, the event that the clock tells of it when that time has come."""


@dataclass(frozen=True, slots=True)
class AppEvent:
    """One event; `data` is the record of its type, as the topic's schema has it."""

    topic: str
    id: str
    type: str
    key: str  # the topic's key: asset, position, account, authorization id
    at_ms: int  # event time: what rules judge time by
    data: Mapping[str, Any]
    user_id: str = ""  # who acts; "" where a service does
    app_id: str = ""
    client: str = ""  # the API key's client
    idempotency_key: str = ""
    source: str = "api"  # api, webhook:<name>, clock, chain:<chain>
    recorded_ms: int = 0  # when the intake took it in

    @property
    def name(self) -> EventName:
        """What the books know it by."""
        return EventName(FLOW_SOURCE, self.topic, self.id)

    @property
    def reached_ms(self) -> int:
        """Time that has come for sure: the event's own, but no later than the intake's clock when it took it in. What
        may not be before an end is judged by it, so an `at` a little ahead brings no end on early."""
        return min(self.at_ms, self.recorded_ms)


class View(Protocol):
    """The states as they are before the event."""

    def get(self, kind: str, id: str) -> Value | None:
        """One state, None if there is none."""


class Change(NamedTuple):
    """A state after the event; None: it is no more."""

    kind: str
    id: str
    value: Value | None


class Emit(NamedTuple):
    """A message of a derived topic."""

    topic: str
    key: str
    record: Mapping[str, Any]


class Figures(NamedTuple):
    """What an applied event adds to the figures of its day; amounts are decimal strings."""

    app_id: str | None = None  # None: it is not of an asset
    user_id: str | None = None
    currency: str = ""
    volume: str = "0"
    gas_required: str = "0"
    gas_paid_by_user: str = "0"
    gas_paid_by_treasury: str = "0"
    payer_user_id: str = ""
    treasury_tx_hash: str = ""
    related_transaction_id: str = ""


@dataclass(slots=True)
class Decision:
    """What an accepted event does. `flow` is decided by the books: if they refuse it, nothing of this happens."""

    changes: list[Change] = field(default_factory=list)
    flow: FlowEvent | None = None
    opens: tuple[AccountRef, ...] = ()  # accounts that must be there before the flow
    alerts: list[Alert] = field(default_factory=list)
    emits: list[Emit] = field(default_factory=list)


Check = Callable[[AppEvent], None]
"""What can be said of an event alone. Raises Refusal naming the field, e.g. data.amount."""
Rule = Callable[[AppEvent, View], Decision]
"""What an event does, given the states. Raises Refusal."""


@dataclass(frozen=True, slots=True)
class AppType:
    """One event type: a row of the catalog."""

    name: str  # e.g. TRANSFERRED
    payload: str  # field of the topic's schema that holds its record, e.g. transferred
    rule: Rule
    check: Check | None = None
    service: bool = False  # only a client of scope service may send it
    entry: Check | None = (
        None  # asked where an event comes in; what was accepted without it is folded without it
    )


@dataclass(frozen=True, slots=True)
class AppTopic:
    """One source topic of applications and its event types."""

    topic: str
    domain: str  # assets, positions, tokens, anchors: its scope and its endpoint
    key: str  # field of the envelope that is the topic's key
    types: Mapping[str, AppType]
    id_prefix: str = ""
    figures: Callable[[AppEvent, View], Figures] | None = None  # of an applied event; cannot fail

    def event(self, record: Mapping[str, Any]) -> AppEvent:
        """The event of a message. Raises Refusal for a type that is not known or has no payload."""
        row = self.types.get(record["type"])
        if row is None:
            raise Refusal("unknown_type", "type", f"{record['type']!r} is no event type of {self.topic}")
        data = record[row.payload]
        if data is None:
            raise Refusal("missing", row.payload, f"a {row.name} needs it")
        return AppEvent(
            topic=self.topic, id=record["event_id"], type=row.name, key=record[self.key], at_ms=record["at"], data=data,
            user_id=record["user_id"] or "", app_id=record["app_id"], client=record["client"],
            idempotency_key=record["idempotency_key"], source=record["source"], recorded_ms=record["recorded_at"],
        )  # fmt: skip


def table(rows: Iterable[AppType]) -> dict[str, AppType]:
    """Rows by name. Raises ValueError for a name that is there twice."""
    found: dict[str, AppType] = {}
    for row in rows:
        if row.name in found:
            raise ValueError(f"event type {row.name} is there twice")
        found[row.name] = row
    return found


def one(view: View, kind: str, id: str, field: str) -> Value:
    """The state that an event names in `field`. Raises Refusal (reason unknown_<kind>)."""
    found = view.get(kind, id)
    if found is None:
        raise Refusal(f"unknown_{kind}", field, f"there is no {kind.replace('_', ' ')} {id!r}")
    return found


def in_order(event: AppEvent, last_ms: int) -> None:
    """Refuse (before_last_step) a step that is told earlier, by event time, than the one that it follows."""
    if event.at_ms < last_ms:
        raise Refusal("before_last_step", "at", f"the last step of {event.key} was at {last_ms} ms")
