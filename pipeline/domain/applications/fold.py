"""The fold of an application's events: states, in the order of the topic, with the books as judge of money.

Events go through the rules one by one. What an event asks of the books is put to them together with other events'
questions; until they answer, the states that it changes are open, and an event that looks at one of those waits for
the answer first. So the outcome is that of one event after the other, at the price of a batch.

Before anything is put to the books a decision must be whole: `seal` makes what will be written and published of it.
What a rule asks that no books could be asked (`askable`), or what can't be written, is the rule's defect, and no
money moves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.domain.account import AccountCode, AccountRef, TransferCode
from pipeline.domain.applications.event import AppEvent, AppType, Decision, Value, View
from pipeline.domain.flows.events import FlowEvent, Kind, Refusal
from pipeline.domain.flows.outcome import Outcome as BooksOutcome
from pipeline.domain.flows.outcome import Reason

Key = tuple[str, str]  # kind, id
Post = Callable[[Sequence[FlowEvent], Sequence[AccountRef]], Sequence[BooksOutcome]]
"""Opens accounts and puts flows to the books: one outcome per flow, in order."""
Seal = Callable[[AppEvent, Decision], Any]
"""What will be written and published of a decision. Raises Refusal, or anything else where the rule has a defect."""
LEGS_MAX: Final = (
    2000  # of one posting: the books take a chain whole, and its records are one message an asset
)


@dataclass(slots=True)
class Judged:
    """What became of an event."""

    event: AppEvent
    decision: Decision | None = None
    refused: Refusal | None = None
    booked: BooksOutcome | None = None
    failed: Exception | None = None  # its rule has a defect: it is not decided
    touched: frozenset[Key] = frozenset()  # states that it looked at
    sealed: Any = None  # what `Seal` has made of the decision


class Overlay:
    """States with what the events at hand have changed; remembers what was looked at."""

    def __init__(self, base: Callable[[str, str], Value | None]) -> None:
        self._base = base
        self.changed: dict[Key, Value | None] = {}
        self.touched: set[Key] = set()

    def get(self, kind: str, id: str) -> Value | None:
        """See View."""
        self.touched.add((kind, id))
        if (kind, id) in self.changed:
            return self.changed[kind, id]
        return self._base(kind, id)


def judge(types: Mapping[str, AppType], event: AppEvent, view: View) -> Decision:
    """What one event does, or why not. Raises Refusal."""
    row = types.get(event.type)
    if row is None:
        raise Refusal("unknown_type", "type", f"{event.type!r} is no event type of {event.topic}")
    if row.check is not None:
        row.check(event)
    return row.rule(event, view)


def askable(event: AppEvent, decision: Decision) -> None:
    """See that the books can be asked what a rule asks. Raises ValueError for a rule's defect, Refusal too_large."""
    flow = decision.flow
    refs = list(decision.opens)
    if flow is not None:
        if flow.name != event.name:
            raise ValueError(f"the flow is named {flow.name}, not {event.name}")
        if len(flow.legs) > LEGS_MAX:
            raise Refusal("too_large", "", f"{len(flow.legs)} transfers at once; {LEGS_MAX} are the most")
        for leg in flow.legs:
            TransferCode(leg.code)
            refs += [leg.debit, leg.credit]
    for ref in refs:
        if AccountCode(ref.code) == AccountCode.BOOK:
            raise ValueError(f"{ref.asset}: the book's own account is nobody's")


@dataclass(slots=True)
class _Open:
    """Events whose flows the books have not answered yet, and what they have changed meanwhile."""

    judged: list[Judged] = field(default_factory=list)
    before: list[dict[Key, Value | _Absent | None]] = field(default_factory=list)
    keys: set[Key] = field(default_factory=set)
    opened: set[AccountRef] = field(default_factory=set)
    asked: set[AccountRef] = field(default_factory=set)  # accounts that flows name, see _named


class _Absent:
    """Marks a state that the overlay did not hold."""


_ABSENT = _Absent()


class Fold:
    """Folds batches of one topic over a store of states."""

    def __init__(
        self, types: Mapping[str, AppType], base: Callable[[str, str], Value | None], post: Post,
        seal: Seal | None = None,
    ) -> None:  # fmt: skip
        self._types, self._post, self._seal = types, post, seal
        self.overlay = Overlay(base)
        self._open = _Open()

    def apply(self, events: Iterable[AppEvent]) -> list[Judged]:
        """What became of each event, in order. The overlay then holds the states after them."""
        done = [self._one(event) for event in events]
        self._settle()
        return done

    def _one(self, event: AppEvent) -> Judged:
        judged = self._judge(event)
        if judged.touched & self._open.keys:
            self._settle()
            judged = self._judge(event)
        if judged.decision is not None:
            self._take(judged, judged.decision)
        return judged

    def _judge(self, event: AppEvent) -> Judged:
        self.overlay.touched = set()
        judged = Judged(event)
        try:
            decision = judge(self._types, event, self.overlay)
            askable(event, decision)
            judged.sealed = self._seal(event, decision) if self._seal is not None else None
            judged.decision = decision
        except Refusal as refusal:
            judged.refused = refusal
        except Exception as error:  # one event must not hold all others
            judged.failed = error
        judged.touched = frozenset(self.overlay.touched)
        return judged

    def _take(self, judged: Judged, decision: Decision) -> None:
        held = self.overlay.changed
        keys = [(change.kind, change.id) for change in decision.changes]
        if any(key in self._open.keys for key in keys):  # changed without a look at it
            self._settle()
        if decision.flow is not None or decision.opens:
            asked = self._open.asked
            new = [ref for ref in decision.opens if ref not in self._open.opened]
            if any(
                ref in asked or ref._replace(asset="") in asked for ref in new
            ):  # a flow before it finds none
                self._settle()
            self._open.judged.append(judged)
            self._open.before.append({key: held.get(key, _ABSENT) for key in keys})
            if decision.flow is not None:  # to open an account is not refused: what it changes is certain
                self._open.keys.update(keys)
            self._open.opened.update(decision.opens)
            self._open.asked.update(_named(decision.flow))
        for change in decision.changes:
            held[change.kind, change.id] = change.value

    def _settle(self) -> None:
        """Put the open flows to the books; what they refuse has not happened."""
        waiting, self._open = self._open, _Open()
        flows = [one.decision.flow for one in waiting.judged if one.decision and one.decision.flow]
        opens = dict.fromkeys(ref for one in waiting.judged if one.decision for ref in one.decision.opens)
        if not flows and not opens:
            return
        answers = iter(self._post(flows, list(opens)))
        for judged, before in zip(waiting.judged, waiting.before, strict=True):
            if judged.decision is None or judged.decision.flow is None:
                continue
            judged.booked = next(answers)
            if judged.booked.refused is not None:
                judged.refused = _refusal(judged.event, judged.booked.refused)
                judged.decision = None
                self._undo(before)

    def _undo(self, before: Mapping[Key, Value | _Absent | None]) -> None:
        for key, value in before.items():
            if isinstance(value, _Absent):
                self.overlay.changed.pop(key, None)
            else:
                self.overlay.changed[key] = value


def _named(flow: FlowEvent | None) -> set[AccountRef]:
    """The accounts that a flow names; a party's of any asset."""
    if flow is None:
        return set()
    if flow.kind == Kind.POST:
        return {ref for leg in flow.legs for ref in (leg.debit, leg.credit)}
    return {
        AccountRef("", int(one.code), one.owner) for one in (flow.debtor, flow.creditor) if one is not None
    }


def _refusal(event: AppEvent, reason: Reason) -> Refusal:
    """The books' refusal, in the event's own fields. Of one that was answered and not kept (a kill in between, another
    host) they know no more than that it was."""
    field = "data.amount" if "amount" in event.data else ""
    if reason.reason == "refused_before":
        detail = "the books refused it; send it under another idempotency key to try again"
        return Refusal("refused_before", field, detail)
    named = f"data.{reason.field}"
    return Refusal(reason.reason, named if reason.field in event.data else field, reason.detail)
