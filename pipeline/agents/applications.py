"""Applications' events → states, books, and what follows: one outcome per event, for ever.

Part of the books role, for the engine that judges money is its own. Thin: the catalog's rules decide
(pipeline.domain.applications.fold), the engine says what money allows (sinks.offchain), states and decisions are
kept in one file per topic (sinks.application_store). Order: effect in the books, publish, commit, acknowledge.
What neither rules nor books can answer for (a hole in the topic, a defect of the books) stops its topic, and no
other and no chain.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import orjson

from pipeline.agents.quarantining import quarantine_loudly
from pipeline.agents.role import Done, Epochs, Message
from pipeline.domain.account import AccountRef
from pipeline.domain.applications.event import DUE, AppEvent, AppTopic, Decision, Emit, Refusal, Value
from pipeline.domain.applications.fold import Fold, Judged
from pipeline.domain.applications.told import (
    account_opened,
    alert_of_refusal,
    fits,
    flow_fits,
    outcome_record,
    reused,
    state_json,
    state_record,
)
from pipeline.domain.findings import alert
from pipeline.domain.flows.accounts import CLOSED
from pipeline.domain.flows.accounts import ident as account_of
from pipeline.domain.flows.events import FlowEvent
from pipeline.domain.flows.outcome import BookOf, account_records, transfer_records
from pipeline.domain.flows.outcome import Outcome as BooksOutcome
from schemas.codec import Codec, WireError
from sinks.application_store import ApplicationStore, NewlyDecided, State, StoreInUse
from sinks.books import BooksError
from sinks.offchain import OffchainBooks
from topics.envelope import outgoing
from topics.producer import Outgoing

BOOKS_ACCOUNT = "books_account"  # kind of state: an account that was told of, by its id
DETAIL_MAX = 2000
HEARD_MAX = 100_000
STORE_WAIT_S = 15.0  # for its former owner to let go

log = logging.getLogger(__name__)


def store_path(folder: Path, topic: str) -> Path:
    """File of a topic's states."""
    return folder / f"{topic}.db"


class _Sealed(NamedTuple):
    """What is written and published of a decision, made before anything is put to the books."""

    values: list[str]  # JSON of its states
    told: list[Outgoing]  # alerts and messages


class _Held:
    """A batch's look at the store: each state is read once."""

    def __init__(self, store: ApplicationStore) -> None:
        self._read = store.versioned
        self._found: dict[tuple[str, str], tuple[int, Value | None]] = {}

    def get(self, kind: str, id: str) -> Value | None:
        return self.versioned(kind, id)[1]

    def versioned(self, kind: str, id: str) -> tuple[int, Value | None]:
        key = kind, id
        if key not in self._found:
            self._found[key] = self._read(kind, id)
        return self._found[key]


class Applications:
    """The applications' topics of one worker."""

    def __init__(
        self, rows: Iterable[AppTopic], folder: Path, codec: Codec, books: Callable[[], OffchainBooks]
    ) -> None:
        self._folder, self._codec, self._open_books = folder, codec, books
        self._rows: dict[str, AppTopic] = {row.topic: row for row in rows}
        self.topics = tuple(self._rows)
        self._stores: dict[str, ApplicationStore] = {}
        self._books: OffchainBooks | None = None
        self._heard: set[tuple[str, AccountRef]] = set()  # accounts that the store is known to hold
        self.epochs: Epochs = {}

    def assigned(self, topics: Iterable[str]) -> dict[tuple[str, int], int]:
        """Own these topics' files, let go of all others; where to read on. Raises StoreInUse, StoreUnusable."""
        ours = {topic for topic in topics if topic in self._rows}
        self._heard.clear()
        for topic in [topic for topic in self._stores if topic not in ours]:
            self._stores.pop(topic).close()
        found = {}
        for topic in sorted(ours):
            if topic not in self._stores:
                self._stores[topic] = self._open(topic)
            found[topic, 0] = self._stores[topic].next_offset(self.epochs[topic], 0) or 0
        return found

    def _open(self, topic: str) -> ApplicationStore:
        end = time.monotonic() + STORE_WAIT_S
        while True:
            try:
                return ApplicationStore(store_path(self._folder, topic))
            except StoreInUse:
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def close(self) -> None:
        """Let go of all files."""
        for store in self._stores.values():
            store.close()
        self._stores.clear()

    def process(self, topic: str, batch: Sequence[Message]) -> Done:
        """Fold a batch of one topic; `Done.commit` makes it last. Raises BooksError where a store can't answer."""
        store, epoch = self._stores[topic], self.epochs[topic]
        begin = store.next_offset(epoch, 0) or 0
        if batch[0].offset > begin:
            return self._stop(batch[0], "hole", f"offset {batch[0].offset} comes where {begin} is to come")
        try:
            return self._process(store, self._rows[topic], epoch, begin, batch)
        except BooksError:
            raise
        except Exception as defect:  # of the books or of this code: the chains and the other topics go on
            log.exception("%s stops", topic)
            return self._stop(batch[0], "defect", f"{type(defect).__name__}: {defect}")

    def _process(
        self, store: ApplicationStore, row: AppTopic, epoch: str, begin: int, batch: Sequence[Message]
    ) -> Done:
        done, events, digests = Done(), dict[str, tuple[AppEvent, Message]](), dict[str, bytes]()
        read = [(message, self._read(row, message, done)) for message in batch if message.offset >= begin]
        known = store.decided([event.id for _, event in read if event is not None])
        again: dict[str, None] = {}
        for message, event in read:
            if event is None:
                continue
            digest, seen = _digest(event), known.get(event.id)
            known_digest = seen.digest if seen is not None else digests.get(event.id)
            if known_digest is None:
                events[event.id] = event, message
                digests[event.id] = digest
            elif known_digest != digest:
                done.outgoing.append(self._tell(Emit("control.alerts.v1", "event_reused", reused(event))))
            elif seen is not None and seen.epoch != epoch and event.id not in again:
                # told in a former life: the same answer, for whoever has forgotten it. In this life it stands where
                # it stood, and told once more its states would come after those that followed
                again[event.id] = None
                done.outgoing += [Outgoing(one.topic, one.key, one.value, one.headers) for one in seen.told]
        decided, states = self._fold(store, row, events, digests, done)
        progress = {(epoch, 0): max(begin, batch[-1].offset + 1)}
        done.commit = lambda: store.commit(states.values(), decided, progress, again)
        return done

    def _stop(self, message: Message, reason: str, detail: str) -> Done:
        note = alert(
            "application_stopped", "critical", message.topic, str(message.offset), time=message.timestamp_ms,
            evidence={"topic": message.topic, "offset": message.offset, "reason": reason, "detail": detail},
        )  # fmt: skip
        why = f"{message.topic}: stops before offset {message.offset}: {detail}"
        told = self._tell(Emit("control.alerts.v1", "application_stopped", note))
        return Done([told], stops={message.partition: (message.offset, why)})

    def _read(self, row: AppTopic, message: Message, done: Done) -> AppEvent | None:
        """The event of a message; what can't be read goes to quarantine whole, and the stream goes on."""
        try:
            return row.event(self._codec.decode(message.value, row.topic)[1])
        except WireError as error:
            reason, detail = error.reason, str(error)
        except Refusal as refusal:
            reason, detail = refusal.reason, str(refusal)
        self._quarantine(message, reason, detail, done)
        return None

    def _quarantine(self, message: Message, reason: str, detail: str, done: Done) -> None:
        epoch, topic = self.epochs[message.topic], message.topic
        done.outgoing += quarantine_loudly(self._codec, "books", message, epoch, reason, detail, topic)

    def _fold(
        self, store: ApplicationStore, row: AppTopic, events: Mapping[str, tuple[AppEvent, Message]],
        digests: Mapping[str, bytes], done: Done,
    ) -> tuple[list[NewlyDecided], dict[tuple[str, str], State]]:  # fmt: skip
        """What became of the events, and the states after them; what is told goes to `done`."""
        held = _Held(store)
        fold = Fold(row.types, held.get, self._post, self._seal)
        states: dict[tuple[str, str], State] = {}
        decided: list[NewlyDecided] = []
        applied = 0
        for judged in fold.apply([event for event, _ in events.values()]):
            if judged.failed is not None:  # a rule's defect: the stream goes on without this event
                detail = f"{type(judged.failed).__name__}: {judged.failed}"
                self._quarantine(events[judged.event.id][1], "rule_failed", detail[:DETAIL_MAX], done)
                continue
            told = self._told(held, row, outcome_record(row, judged, fold.overlay), judged, states)
            applied += judged.refused is None
            decided.append(
                NewlyDecided(judged.event.id, digests[judged.event.id], judged.refused is None, told)
            )
            done.outgoing += told
        done.counts = {"events": len(decided), "refused": len(decided) - applied}
        return decided, states

    def _seal(self, event: AppEvent, decision: Decision) -> _Sealed:
        """See pipeline.domain.applications.fold.Seal."""
        flow_fits(decision)
        values = [state_json(change) for change in decision.changes]
        alerts = [Emit("control.alerts.v1", note["rule"], note) for note in decision.alerts]
        told = [self._tell(emit) for emit in (*alerts, *decision.emits)]
        for one in told:
            fits(len(one.value) + len(one.key or b""), f"a message of {one.topic}")
        return _Sealed(values, told)

    def _told(
        self, store: _Held, row: AppTopic, outcome: Emit, judged: Judged, states: dict[tuple[str, str], State]
    ) -> list[Outgoing]:
        """What is published of one event; the states it leads to are put to `states`."""
        event, found = judged.event, [outcome]
        if self._books is not None:
            found += self._booked(store, judged, states, self._books.store.book_of)
        if judged.decision is None:
            return [self._tell(emit) for emit in (*found, alert_of_refusal(row.domain, judged))]
        sealed: _Sealed = judged.sealed
        for change, value in zip(judged.decision.changes, sealed.values, strict=True):
            before = states.get((change.kind, change.id))
            version = before.version if before is not None else store.versioned(change.kind, change.id)[0]
            due = (change.value or {}).get(DUE)
            made = State(change.kind, change.id, version + 1, change.value, due and due["at_ms"])
            states[change.kind, change.id] = made
            found.append(state_record(row.domain, event, change, made.version, value))
        return [*map(self._tell, found), *sealed.told]

    def _booked(
        self, store: _Held, judged: Judged, states: dict[tuple[str, str], State], book_of: BookOf
    ) -> list[Emit]:
        """What the books did for an event. An account is told of by the first event that is applied to it: the store
        remembers, for what the engine calls new depends on who asked it before."""
        found, refs = list[Emit](), dict.fromkeys(judged.decision.opens if judged.decision else ())
        if judged.booked is not None:
            booked = replace(judged.booked, opened=())
            found += [Emit("books.transfers.v1", r["asset"], r) for r in transfer_records(booked, book_of)]
            records = account_records(booked, book_of)
            found += [Emit("books.accounts.v1", r["account_id"].hex(), r) for r in records]
            if booked.plan is not None:
                refs |= dict.fromkeys(ref for move in booked.plan.moves for ref in (move.debit, move.credit))
        unheard = [ref for ref in refs if self._is_new(judged.event.topic, store, states, ref)]
        rows = self._books.store.accounts(unheard) if unheard and self._books is not None else {}
        for ref in unheard:
            ident, held = account_of(ref).hex(), rows[ref]
            states[BOOKS_ACCOUNT, ident] = State(BOOKS_ACCOUNT, ident, 1, {})
            if held is not None and not held.flags & CLOSED:  # who froze or closed it has told of it
                found.append(account_opened(ref, judged.event, book_of(ref.asset)))
        return found

    def _is_new(
        self, topic: str, store: _Held, states: Mapping[tuple[str, str], State], ref: AccountRef
    ) -> bool:
        if (topic, ref) in self._heard:
            return False
        key = BOOKS_ACCOUNT, account_of(ref).hex()
        if store.versioned(*key)[0]:
            if len(self._heard) >= HEARD_MAX:
                self._heard.clear()
            self._heard.add((topic, ref))
            return False
        return key not in states

    def _post(self, flows: Sequence[FlowEvent], opens: Sequence[AccountRef]) -> list[BooksOutcome]:
        if self._books is None:
            self._books = self._open_books()
        self._books.store.create_accounts(list(opens))
        return self._books.apply(flows)

    def _tell(self, emit: Emit) -> Outgoing:
        return outgoing(self._codec, emit.topic, emit.key, emit.record)


def _digest(event: AppEvent) -> bytes:
    """What the event says, but for when it was taken in, which is also its time where it does not tell one: sent again
    to another host's intake it is the same event."""
    said = [
        event.type,
        event.key,
        event.at_ms if event.at_ms != event.recorded_ms else None,
        event.data,
        event.user_id,
        event.app_id,
        event.client,
        event.source,
    ]
    return blake2b(
        orjson.dumps(said, default=bytes.hex, option=orjson.OPT_SORT_KEYS), digest_size=16
    ).digest()
