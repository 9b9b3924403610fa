"""The intake: what a client says becomes an event of an application's topic, once, for ever; or a refusal.

Per event: its shape by the schema, who may say it, its type's check, its rule over the states that are known, then the
journal (one fsync for all that come together), then Kafka (acks=all), then 202. The event's id is the hash of topic,
client, the API key's user and idempotency key: the same request has one event and one answer, however often and at how
many places at once it is sent. A refusal is not kept: its key may be used again. No HTTP here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from pipeline.api.client import ApiError, Client
from pipeline.api.journal import Entry, GroupCommit, Held, Journal, JournalError
from pipeline.api.known import Known
from pipeline.api.publishing import Publisher
from pipeline.api.shape import Answer, Item, Shape, Told, refused
from pipeline.domain.applications.event import AppTopic
from schemas.codec import Codec

PATIENCE_S: Final = 5.0  # for Kafka's acknowledgement
TROUBLED_S: Final = 1.0  # the same where Kafka is known to be away
DRAIN_S: Final = 5.0
CHUNK: Final = 250  # events between two looks at other requests

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Flight:
    """An event on its way to the journal; whoever sends it again meanwhile waits for the same."""

    digest: bytes
    landed: asyncio.Future[list[Held]]
    place: int


class _Accepted(NamedTuple):
    """An item that has an event: `held` is its row, or `flight` will have it."""

    told: Told
    held: Held | None
    flight: _Flight | None


class Intake:
    """Takes events in. All of one event loop."""

    def __init__(
        self, rows: Iterable[AppTopic], journal: Journal, known: Known, codec: Codec, url: str, epoch: str = "",
        patience_s: float = PATIENCE_S,
    ) -> None:  # fmt: skip
        """`url` is the broker's, `epoch` its incarnation where it has no topic ids (setting TIDEBOOK_EPOCH)."""
        self.known, self.journal = known, journal
        self._codec, self._patience_s = codec, patience_s
        self._rows = {row.topic: row for row in rows}
        self._shapes = {topic: Shape(row, codec) for topic, row in self._rows.items()}
        self._commits = GroupCommit(journal)
        self.publisher = Publisher(journal, self._commits, url, self._rows, epoch)
        self._flights: dict[str, _Flight] = {}
        self._newest = dict.fromkeys(self._rows, 0)

    @classmethod
    def of(
        cls,
        rows: Iterable[AppTopic],
        intake_dir: Path,
        applications_dir: Path,
        codec: Codec,
        url: str,
        epoch: str = "",
    ) -> Intake:
        """An intake over these folders. Raises JournalError."""
        journal = Journal(intake_dir)
        rows = tuple(rows)
        return cls(rows, journal, Known(applications_dir, rows, journal, codec), codec, url, epoch)

    async def start(self) -> None:
        """Begin to publish, first what the journal holds and the broker lacks."""
        await self.publisher.start()

    async def close(self) -> None:
        """Write and publish what is under way, then end. What Kafka does not take in time stays in the journal."""
        await self._commits.flush()
        waits = [self.publisher.wait(topic, seq, DRAIN_S) for topic, seq in self._newest.items()]
        await asyncio.gather(*waits)
        await self.publisher.stop()
        await self._commits.close()
        self.known.close()
        self.journal.close()

    async def submit(self, row: AppTopic, client: Client, items: Sequence[Item]) -> list[Answer]:
        """Take events in: one answer per item, in order; a refused one does not stop the others. Never raises for what
        a client, a disk or a broker does."""
        found: list[Answer | _Accepted] = []
        for start in range(0, len(items), CHUNK):
            if start:
                await asyncio.sleep(0)
            found += self._take(row, client, items[start : start + CHUNK])
        flights = [one.flight for one in found if isinstance(one, _Accepted)]
        for landing in {flight.landed for flight in flights if flight is not None}:
            await asyncio.wait([landing])  # it is others' too: what happens to us must not end it
        landed = [_landed(one) if isinstance(one, _Accepted) else one for one in found]
        last = max([one.seq for one in landed if isinstance(one, Held)], default=0)
        if last:
            patience = TROUBLED_S if self.publisher.trouble(row.topic) else self._patience_s
            await self.publisher.wait(row.topic, last, min(patience, self._patience_s))
        sent = self.publisher.sent(row.topic)
        return [
            _answer(was, now, sent) if isinstance(was, _Accepted) else was
            for was, now in zip(found, landed, strict=True)
        ]

    def _take(self, row: AppTopic, client: Client, items: Sequence[Item]) -> list[Answer | _Accepted]:
        """Judge items and put what passes on its way to the journal, without a pause in between: the order of the
        events is the order in which they were judged."""
        shape = self._shapes[row.topic]
        told = [shape.read(client, item) for item in items]
        asked = [one.event_id for one in told if isinstance(one, Told) and one.event_id not in self._flights]
        try:
            held = self.journal.find(asked) if asked else {}
        except JournalError as error:
            return [one if isinstance(one, Answer) else _unavailable(error) for one in told]
        landing: asyncio.Future[list[Held]] = asyncio.get_running_loop().create_future()
        entries: list[Entry] = []
        full = self.publisher.far_behind(row.topic, self._newest[row.topic])
        with self.known.moment(row.topic):
            found = [
                one
                if isinstance(one, Answer)
                else self._one(shape, one, held.get(one.event_id), entries, landing, full)
                for one in told
            ]
        if entries:
            self._commit(row.topic, entries, landing)
        return found

    def _one(
        self, shape: Shape, told: Told, held: Held | None, entries: list[Entry],
        landing: asyncio.Future[list[Held]], full: bool,
    ) -> Answer | _Accepted:  # fmt: skip
        flight = self._flights.get(told.event_id)
        if flight is not None or held is not None:
            digest = flight.digest if flight is not None else held.digest if held is not None else b""
            same = digest == told.digest
            return _Accepted(told, held, flight) if same else _conflict(told.idempotency_key)
        if full:
            return refused(
                ApiError(503, "broker_unavailable", "too much waits for Kafka; try again", Retry_After="5")
            )
        try:
            entry = shape.entry(told, self.known.judge)
        except ApiError as error:
            return refused(error)
        flight = self._flights[told.event_id] = _Flight(told.digest, landing, len(entries))
        entries.append(entry)
        return _Accepted(told, None, flight)

    def _commit(self, topic: str, entries: list[Entry], landing: asyncio.Future[list[Held]]) -> None:
        """The journal's work goes on whoever stops waiting for it."""

        def done(written: asyncio.Future[list[Held]]) -> None:
            for entry in entries:
                del self._flights[entry.event_id]
            error = written.exception()
            if error is None:
                held = written.result()
                self._newest[topic] = max(self._newest[topic], held[-1].seq)
                self.publisher.kick(topic)
                landing.set_result(held)
            else:
                self.known.dropped(topic, [entry.event_id for entry in entries])
                landing.set_exception(error)
                landing.exception()  # seen, also where nobody waits any more

        self._commits.append(entries).add_done_callback(done)


def _landed(accepted: _Accepted) -> Held | Answer:
    """The row of an event whose way to the journal has ended."""
    if accepted.flight is None:
        assert accepted.held is not None
        return accepted.held
    try:
        return accepted.flight.landed.result()[accepted.flight.place]
    except Exception as error:
        return _unavailable(error)


def _answer(accepted: _Accepted, landed: Answer | Held, sent: int) -> Answer:
    """What a client is told of an item, where the broker has acknowledged its topic up to seq `sent`."""
    if isinstance(landed, Answer):
        return landed
    told = accepted.told
    key = told.idempotency_key
    if landed.digest != told.digest:
        return _conflict(key)
    if landed.seq > sent:
        return refused(ApiError(
            503, "broker_unavailable", "the event is kept and will be published; ask again with idempotency_key "
            f"{key}", Retry_After="2",
        ))  # fmt: skip
    return Answer(202, {"event_id": told.event_id, "status": "accepted", "idempotency_key": key})


def _conflict(key: str) -> Answer:
    return refused(ApiError(
        409, "idempotency_conflict", f"another body was sent with the idempotency key {key[:60]!a}",
        "idempotency_key",
    ))  # fmt: skip


def _unavailable(error: Exception) -> Answer:
    log.error("nothing is taken in: %s", error)
    return refused(
        ApiError(503, "journal_unavailable", "the intake's journal can't be written", Retry_After="5")
    )
