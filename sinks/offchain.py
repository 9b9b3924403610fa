"""Executes off-chain flows on either engine, and decides each event exactly once.

The decision lives in the engine, in the id of the event's first transfer: free = undecided, standing =
accepted, burnt = refused. So any number of processes may be sent the same events, in any order and any number
of times, and killed anywhere between: each event keeps its first answer. A batch is cut where an event
depends on another one in it; all else is the engine's order. docs/decisions/0005-offchain-books.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from pipeline.domain.account import AccountRef
from pipeline.domain.flows.accounts import CUSTOMERS, broken_sign
from pipeline.domain.flows.events import (
    FIELDS,
    FlowEvent,
    Kind,
    Refusal,
    depends_on,
    phase_of,
    register_ids,
)
from pipeline.domain.flows.outcome import Decision, Opening, Outcome, Reason
from pipeline.domain.flows.plan import Facts, Move, Need, Plan
from pipeline.domain.flows.rules import plan as plan_of
from sinks.books import Books
from sinks.offchain_store import (
    BURNING,
    CREATED,
    DIFFERENT,
    EXISTS,
    ID_ALREADY_FAILED,
    LINKED_EVENT_FAILED,
    FlowStore,
    OffchainDefect,
    Result,
)

ROUNDS_MAX: Final = 16
"""How often an event is planned anew because another process was faster on the same authorization."""
KNOWN_MAX: Final = (
    100_000  # accounts remembered as open: one a position, an escrow; others are opened once more
)
WAVE_MAX: Final = 2000


@dataclass(slots=True)
class _Wave:
    """Events that don't depend on each other, on their way to their outcomes."""

    events: list[FlowEvent]
    facts: Facts = field(default_factory=Facts)
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    refused: dict[int, Reason] = field(default_factory=dict)
    burnt: set[int] = field(default_factory=set)  # places whose register is burnt already
    opened: dict[int, tuple[AccountRef, ...]] = field(default_factory=dict)

    def open(self) -> list[int]:
        """Places not yet decided."""
        return [p for p in range(len(self.events)) if p not in self.outcomes and p not in self.refused]


class OffchainBooks:
    """Applies events to one engine. One per thread; several may share an engine."""

    def __init__(
        self, books: Books, attest: Callable[[FlowEvent], bool] | None = None, *, again: bool = False
    ) -> None:
        """`attest` verifies the proof of a fulfilment, in place of the event's own mark `attested`; `again`
        tells accounts that exist as opened: for a process that resumes what another one left.
        """
        self.store = FlowStore(books)
        self._attest, self._again = attest, again
        self._known: set[AccountRef] = set()

    def open_accounts(self, openings: Sequence[Opening]) -> list[bool]:
        """Open accounts; per opening whether it is new. Raises OffchainDefect for another account there."""
        made = set(self.store.create_accounts([opening.account for opening in openings]))
        return [opening.account in made or self._again for opening in openings]

    def apply(
        self, events: Sequence[FlowEvent], decided: Mapping[str, Decision] | None = None
    ) -> list[Outcome]:
        """One outcome per event, in order. Raises BooksError when the engine can't answer: send again.

        `decided` are recorded decisions to be followed (`outcome.decisions`): what was refused stays refused
        without being judged, what was accepted must be accepted. Raises OffchainDefect if it is not, or if
        an account breaks its sign.
        """
        outcomes: list[Outcome] = []
        for events_of in waves([self._attested(event) for event in events]):
            outcomes += self._apply_wave(_Wave(events_of), decided or {})
        return outcomes

    def _attested(self, event: FlowEvent) -> FlowEvent:
        if self._attest is None or event.kind != Kind.FULFIL:
            return event
        return replace(event, attested=bool(self._attest(event)))

    def _apply_wave(self, wave: _Wave, decided: Mapping[str, Decision]) -> list[Outcome]:
        for place, event in enumerate(wave.events):
            decision = decided.get(str(event.name))
            if decision is not None and decision.refused is not None:
                wave.refused[place] = decision.refused
        for _ in range(ROUNDS_MAX):
            places = wave.open()
            if not places:
                if not self._refuse(wave):
                    return self._checked(wave, decided)
                continue
            wave.facts = Facts()
            plans = self._plans(wave, places)
            self._open_book_accounts(wave, plans)
            for place, results in zip(plans, self.store.send(list(plans.values())), strict=True):
                self._read(wave, place, plans[place], results)
        raise OffchainDefect(f"event {wave.events[wave.open()[0]].name}: no answer in {ROUNDS_MAX} rounds")

    def _plans(self, wave: _Wave, places: list[int]) -> dict[int, Plan]:
        """Chains to send, by place; events that stand or must be refused are settled in the wave."""
        plans: dict[int, Plan] = {}
        transfers = [ident for place in places for ident in register_ids(wave.events[place])]
        accounts: list[AccountRef] = []
        closings: list[AccountRef] = []
        paid_in: list[AccountRef] = []
        waiting = places
        while waiting:
            self.store.learn(wave.facts, transfers, accounts, closings, paid_in)
            transfers, accounts, closings, paid_in, still = [], [], [], [], []
            for place in waiting:
                try:
                    self._plan(wave, place, plans)
                except Need as need:
                    transfers += need.transfers
                    accounts += need.accounts
                    closings += need.closings
                    paid_in += need.paid_in
                    still.append(place)
            waiting = still
        return dict(sorted(plans.items()))  # the order of the events, whatever each had to ask

    def _plan(self, wave: _Wave, place: int, plans: dict[int, Plan]) -> None:
        event = wave.events[place]
        stands = any(wave.facts.transfers[ident] is not None for ident in register_ids(event))
        try:
            plan = plan_of(event, wave.facts)
        except Refusal as refusal:
            reason = Reason(refusal.reason, refusal.field, refusal.detail)
            if stands:
                wave.outcomes[place] = _reused(event, refusal.field)
            else:
                wave.refused[place] = reason
            return
        if stands:
            wave.outcomes[place] = _repeated(event, plan, wave.facts)
        else:
            plans[place] = plan

    def _open_book_accounts(self, wave: _Wave, plans: Mapping[int, Plan]) -> None:
        """The book's own accounts open when first needed; customers' must have been opened."""
        needed: dict[AccountRef, int] = {}
        for place, plan in plans.items():
            for move in plan.moves:
                for ref in (move.debit, move.credit):
                    if ref.code not in CUSTOMERS and ref not in self._known:
                        needed.setdefault(ref, place)
        made = self.store.create_accounts(list(needed)) if needed else []
        for ref in needed if self._again else made:
            place = needed[ref]
            wave.opened[place] = (*wave.opened.get(place, ()), ref)
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known.update(needed)

    def _read(self, wave: _Wave, place: int, plan: Plan, results: Sequence[Result]) -> None:
        """What the engine made of a chain; an event that must be planned anew stays open."""
        event = wave.events[place]
        if all(result.status == CREATED for result in results):
            stamps = tuple(result.timestamp for result in results)
            wave.outcomes[place] = Outcome(event, plan, timestamps=stamps, opened=wave.opened.get(place, ()))
            return
        at = next(n for n, r in enumerate(results) if r.status not in (CREATED, LINKED_EVENT_FAILED))
        move, result = plan.moves[at], results[at]
        if result.status == EXISTS or result.status in DIFFERENT:
            return  # somebody was faster: what stands now tells what this event is
        if move.id == plan.register and result.status in BURNING:
            wave.burnt.add(place)
        wave.refused[place] = _why(event, move, result)

    def _refuse(self, wave: _Wave) -> bool:
        """Burn the ids of what is refused; True if some of it was accepted meanwhile and must be read."""
        places = [place for place in wave.refused if place not in wave.outcomes]
        fresh = [place for place in places if place not in wave.burnt]
        events = [wave.events[place] for place in fresh]
        results = self.store.burn([e.name.transfer_id(0, phase_of(e.kind)) for e in events])
        reopened = set()
        repeated = {place for place in places if wave.refused[place].reason == "refused_before"}
        for place, result in zip(fresh, results, strict=True):
            if result.status not in BURNING:
                reopened.add(place)
                del wave.refused[place]
            elif result.status == ID_ALREADY_FAILED:
                repeated.add(place)
        for place in places:
            if place not in reopened:
                wave.outcomes[place] = Outcome(
                    wave.events[place], refused=wave.refused[place], repeated=place in repeated,
                    opened=wave.opened.get(place, ()),
                )  # fmt: skip
        return bool(reopened)

    def _checked(self, wave: _Wave, decided: Mapping[str, Decision]) -> list[Outcome]:
        """The outcomes, after every account they touched was looked at. Raises OffchainDefect."""
        outcomes = [wave.outcomes[place] for place in range(len(wave.events))]
        touched = {
            ref
            for outcome in outcomes
            if outcome.plan is not None and not outcome.repeated
            for move in outcome.plan.moves
            for ref in (move.debit, move.credit)
        }
        for ref, row in self.store.accounts(touched).items():
            wrong = "is not there" if row is None else broken_sign(row)
            if wrong:
                raise OffchainDefect(f"account {ref}: {wrong}")
        for outcome in outcomes:
            decision = decided.get(str(outcome.event.name))
            if decision is not None and (decision.refused is None) != outcome.accepted:
                was = decision.refused or "accepted"
                raise OffchainDefect(
                    f"event {outcome.event.name} was {was}; here it is {outcome.refused or 'accepted'}"
                )
        return outcomes


def waves(events: Sequence[FlowEvent]) -> Iterator[list[FlowEvent]]:
    """Cut a sequence of events where one depends on another, and at WAVE_MAX.

    A close looks at its account's balance, which any event before it may have changed.
    """
    wave: list[FlowEvent] = []
    met: set[tuple[str, str]] = set()
    for event in events:
        mine = depends_on(event)
        if met & mine or len(wave) == WAVE_MAX or (wave and event.kind == Kind.CLOSE):
            yield wave
            wave, met = [], set()
        wave.append(event)
        met |= mine
    if wave:
        yield wave


def _repeated(event: FlowEvent, plan: Plan, facts: Facts) -> Outcome:
    """The outcome of an event that stands: its first answer, or that another event has its name. Raises Need."""
    facts.transfer(*(move.id for move in plan.moves))
    stamps = []
    for number, move in enumerate(plan.moves):
        row = facts.transfers[move.id]
        wrong = "kind" if row is None else move.difference(row, plan.flags(number))
        if row is None or wrong is not None:
            return _reused(event, wrong or "kind")
        stamps.append(row.timestamp)
    return Outcome(event, plan, repeated=True, timestamps=tuple(stamps))


def _reused(event: FlowEvent, at: str) -> Outcome:
    reason = Reason("event_reused", at, f"event {event.name} stands with another {at}")
    return Outcome(event, refused=reason, reused=True)


_SIDES: Final = {
    "debit_account_not_found": ("debit", "account_not_found", "is not open"),
    "credit_account_not_found": ("credit", "account_not_found", "is not open"),
    "debit_account_already_closed": ("debit", "account_not_active", "is frozen or closed"),
    "credit_account_already_closed": ("credit", "account_not_active", "is frozen or closed"),
    "exceeds_credits": ("debit", "insufficient_balance", "does not hold that much"),
    "exceeds_debits": ("credit", "insufficient_balance", "has not given out that much"),
}


def _why(event: FlowEvent, move: Move, result: Result) -> Reason:
    """The engine's refusal in the event's own words."""
    if result.status == ID_ALREADY_FAILED:
        return Reason("refused_before", "name", "this event was refused; raise its attempt to try again")
    name = result.name
    if name in _SIDES:
        side, reason, why = _SIDES[name]
        ref = move.debit if side == "debit" else move.credit
        return Reason(reason, _field_of(event, ref), f"{ref.owner or 'the book'} of {ref.asset} {why}")
    if name.startswith("pending_transfer_"):
        return Reason(name.removeprefix("pending_transfer_"), "subject", f"{event.subject}: {name}")
    if name.startswith("overflows_"):
        return Reason("overflow", "amount", name.replace("_", " "))
    return Reason(name, "event", f"TigerBeetle answers {name}")


def _field_of(event: FlowEvent, ref: AccountRef) -> str:
    """The field of the event that named an account; where none did, the flow's subject or the asset."""
    for name in ("debtor", "creditor"):
        party = getattr(event, name)
        if party is not None and (int(party.code), party.owner) == (ref.code, ref.owner):
            return name
    return "subject" if "subject" in FIELDS[event.kind] else "asset"
