"""What an event of an asset does, while its rule is still at work: states read with its own changes, alerts, legs.

A rule makes one Draft, changes assets through it and asks for its Decision at the end. What the holdings of an asset
have become is then told by comparing before and after, so no rule can forget to tell it. Pure: nothing here outlives
the rule's call. S0.
"""

from __future__ import annotations

from typing import Any, Final

from pipeline.domain.account import AccountCode, AccountRef, TransferCode
from pipeline.domain.applications.event import AppEvent, Change, Decision, Refusal, Value, View, one
from pipeline.domain.assets.changes import changes_emit
from pipeline.domain.findings import alert
from pipeline.domain.flows.events import FlowEvent, Kind, Leg
from schemas.records import Alert

TRANSACTIONS: Final = frozenset(
    {
        "MINTED", "TRANSFERRED", "FRACTIONED", "MERGED", "PACK_CREATED", "PACK_OPENED", "BURNED", "LISTED", "DELISTED",
        "SOLD", "INTERNAL_GAS_CHARGE", "INTERNAL_GAS_COVERAGE", "ONCHAIN_SEND", "ONCHAIN_RECEIVE", "ONCHAIN_BURN",
        "ONCHAIN_CANCELLED", "METADATA_UPDATED",
    }
)  # fmt: skip
"""Types that others may name as related transaction once they are applied."""
DOMAIN: Final = "assets"


class Draft:
    """States as they are with what the event has changed so far; a View itself."""

    def __init__(self, event: AppEvent, view: View) -> None:
        self.event = event
        self._view = view
        self._changed: dict[tuple[str, str], Value | None] = {}
        self._alerts: list[Alert] = []
        self._legs: list[Leg] = []
        self._opens: list[AccountRef] = []

    def get(self, kind: str, id: str) -> Value | None:
        """See View."""
        if (kind, id) in self._changed:
            return self._changed[kind, id]
        return self._view.get(kind, id)

    def put(self, kind: str, id: str, value: Value) -> None:
        """A state after the event."""
        self._changed[kind, id] = value

    def held(self, asset_id: str) -> Value:
        """An asset that is known to be there."""
        found = self.get("asset", asset_id)
        assert found is not None
        return found

    def update(self, asset_id: str, **fields: Any) -> Value:
        """Change fields of an asset; the asset after it. Its time never goes back: applications' clocks differ."""
        held = self.held(asset_id)
        at_ms = max(self.event.at_ms, held["updated_ms"])
        made = {**held, **fields, "last_event_id": self.event.id, "updated_ms": at_ms}
        self.put("asset", asset_id, made)
        return made

    def user(self, id: str, field: str) -> str:
        """A user that the event names. Raises Refusal (unknown_user)."""
        one(self, "user", id, field)
        return id

    def alert(self, rule: str, subject: str, severity: str = "warning", **evidence: Any) -> None:
        """Somebody must see it; the same (rule, subject) is one finding."""
        found = alert(
            rule, severity, DOMAIN, subject, time=self.event.at_ms,
            evidence={"event_id": self.event.id, "type": self.event.type, **evidence},
        )  # fmt: skip
        self._alerts.append(found)

    def move(self, debit: AccountRef, credit: AccountRef, amount: int, code: TransferCode) -> None:
        """Move units in the books; all moves of the event happen, or nothing of it. Users' accounts are opened."""
        self._legs.append(Leg(debit, credit, amount, int(code)))
        self._opens += [ref for ref in (debit, credit) if ref.code == AccountCode.USER]

    def decision(self) -> Decision:
        """All of it."""
        event, emits = self.event, []
        for (kind, id), after in self._changed.items():
            if kind == "asset" and after is not None:
                emit, known = changes_emit(event, id, self._view.get(kind, id), after)
                emits += [emit] if emit is not None else []
                self._changed[kind, id] = known
        if event.type in TRANSACTIONS:
            self.put("transaction", event.id, {"asset_id": event.key, "type": event.type})
        flow = None
        if self._legs:
            flow = FlowEvent(kind=Kind.POST, name=event.name, time_ms=event.at_ms, legs=tuple(self._legs))
        return Decision(
            changes=[Change(kind, id, value) for (kind, id), value in self._changed.items()],
            flow=flow,
            opens=tuple(dict.fromkeys(self._opens)),
            alerts=self._alerts,
            emits=emits,
        )


def illegal(why: str, field: str = "type") -> Refusal:
    """The refusal of a transition that the asset's state does not allow."""
    return Refusal("illegal_transition", field, why)
