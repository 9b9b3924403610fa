"""One look at Kafka: offsets of every group, the blocks that stand there, verdicts, alerts.

A source topic is one total order of whole ledgers, so the message before a committed offset is the last
ledger applied, and the last message is the last one ingested: their leading fields tell index and close
time (`Codec.decode_prefix`). Of a chain that may reorganise it takes a few messages more to know its topmost
block (`lag_look.Tip`). What stands at an offset never changes, so it is kept from look to look.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    KafkaError,
    NotCoordinatorForGroupError,
)

from pipeline.catalog import APPLICATIONS, CATALOG, of_history, with_postings
from pipeline.domain.lag import behind
from pipeline.domain.lag_look import Group, Key, Look, Mark, Place, Said, Stop, Tip, Verdict
from pipeline.lag.messages import At, Messages
from schemas.codec import Codec, WireError

LEDGERS: Final = "xrpl.ledgers.v1"
BLOCKS: Final = "evm.blocks.v1"
SOURCES: Final = (LEDGERS, BLOCKS)  # topics whose partitions are chains
CHANGES: Final = "assets.changes.v1"
VERDICTS: Final = "chains.verdicts.v1"
ALERTS: Final = "control.alerts.v1"
QUARANTINE: Final = "quarantine.v1"
BACK_MAX: Final = 64  # messages to go back over for a whole block that can be read
COORDINATOR_TRIES: Final = 20
NO_COORDINATOR: Final = (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)
ALERTS_BACK: Final = 500  # among so many of the last alerts a deliberate stop is looked for

# Where a message tells its block: fields of chain, block, close time.
BLOCK_FIELDS: Final[Mapping[str, tuple[str, str, str]]] = {
    LEDGERS: ("chain", "ledger_index", "close_time"),
    BLOCKS: ("chain", "block_number", "time"),
    "xrpl.states.v1": ("chain", "ledger_index", "close_time"),
    "assets.changes.v1": ("chain", "block", "time"),
    "books.transfers.v1": ("chain", "block", "time"),
}
# What else is read of a message that is a block: its hash, then more.
BLOCK_MORE: Final[Mapping[str, tuple[str, ...]]] = {
    LEDGERS: ("ledger_hash", "chunk", "chunks"),
    BLOCKS: ("block_hash", "chunk", "chunks", "finality", "was_head", "parent_hash"),
}


def topics_of_roles() -> dict[str, tuple[str, ...]]:
    """Role → topics that its consumer group reads, as the catalog has them."""
    derived = [row.topic for row in CATALOG if row.asset_changes or row.gas_charges]
    books = (*with_postings(), *(row.topic for row in APPLICATIONS))
    return {"books": books, "assets": (*derived, CHANGES), "history": tuple(of_history())}


@dataclass(frozen=True, slots=True)
class Told:
    """What one message tells; `mark` None where it can't be read or tells no block."""

    came: int  # ms since 1970
    mark: Mark | None
    whole: bool  # the last chunk of its block
    said: Said | None = None  # where blocks may be taken back


class Reader:
    """Looks at one broker. Keeps what it has read of immutable messages."""

    def __init__(self, messages: Messages, admin: Any, codec: Codec) -> None:
        self._messages, self._admin, self._codec = messages, admin, codec
        self._known: dict[At, Told] = {}
        self._used: set[At] = set()
        self._stops: tuple[dict[Place, int], tuple[Stop, ...]] = ({}, ())  # ends of the alerts, stops there

    async def look(self) -> Look:
        """Everything that Kafka tells now. Raises KafkaError."""
        there = await self._messages.topics()
        roles = topics_of_roles()
        wanted = {QUARANTINE, ALERTS, VERDICTS}.union(*roles.values())
        groups = tuple([await self._group(role, topics, there) for role, topics in roles.items()])
        places = [(topic, number) for topic in sorted(wanted) for number in range(there.get(topic, 0))]
        ends = await self._messages.ends(places) if places else {}
        if silent := [f"{topic}-{number}" for topic, number in places if (topic, number) not in ends]:
            raise KafkaError(f"no answer for {', '.join(silent)}")
        self._used = set()
        following = await self._following(groups, ends)
        look = Look(
            at=time.monotonic(),
            now=time.time_ns() // 1_000_000,
            ends=ends,
            groups=groups,
            last=await self._last(ends),
            applied=await self._applied(groups, ends),
            following={key: told.mark for key, told in following.items() if told.mark is not None},
            waiting_since={key: told.came for key, told in following.items()},
            verdicts=await self._verdicts(ends),
            stops=await self._deliberate(groups, ends),
            quarantined=_count(ends, QUARANTINE),
            alerts=_count(ends, ALERTS),
            broken=tuple(
                f"topic {topic} is not on the broker: run `tidebook topics apply`"
                for topic in sorted(wanted - there.keys())
            ),
        )
        self._known = {at: self._known[at] for at in self._used}
        return look

    async def _following(
        self, groups: Iterable[Group], ends: Mapping[Place, tuple[int, int]]
    ) -> dict[Key, Told]:
        """The next message to apply, of each partition where one waits."""
        late = {
            (of.group, place): (*place, offset)
            for of in groups
            for place in of.places
            if (offset := _next(of, place, ends)) is not None
        }
        told = await self._read(late.values())
        return {key: told[at] for key, at in late.items() if at in told}

    async def _group(self, role: str, topics: Iterable[str], there: Mapping[str, int]) -> Group:
        group = f"tidebook-{role}"
        places = tuple((topic, number) for topic in topics for number in range(there.get(topic, 0)))
        committed: dict[Place, int] = {}
        if places:
            asked = [TopicPartition(*place) for place in places]
            told = await self._offsets(group, asked)
            committed = {(p.topic, p.partition): at.offset for p, at in told.items() if at.offset >= 0}
        return Group(role, group, places, committed, await self._members(group))

    async def _offsets(self, group: str, asked: list[TopicPartition]) -> dict[TopicPartition, Any]:
        """What the group has committed. The first question of all has Kafka make its topic of offsets first."""
        for _ in range(COORDINATOR_TRIES):
            with contextlib.suppress(*NO_COORDINATOR):
                return dict(await self._admin.list_consumer_group_offsets(group, partitions=asked))
            await asyncio.sleep(0.25)
        return dict(await self._admin.list_consumer_group_offsets(group, partitions=asked))

    async def _members(self, group: str) -> int | None:
        try:
            answers = await self._admin.describe_consumer_groups([group])
            return sum(len(of["members"]) for answer in answers for of in answer.to_object()["groups"])
        except (KafkaError, KeyError, AttributeError):  # a broker that does not tell
            return None

    async def _read(self, wanted: Iterable[At]) -> dict[At, Told]:
        """What stands at these offsets; those that tell nothing now are left out."""
        wanted = set(wanted)
        new = wanted - self._known.keys()
        if new:
            found = await self._messages.at(new)
            self._known |= {at: self._told(at[0], message) for at, message in found.items()}
        there = wanted & self._known.keys()
        self._used |= there
        return {at: self._known[at] for at in there}

    def _told(self, topic: str, message: Any) -> Told:
        fields = BLOCK_FIELDS.get(topic)
        if fields is None:
            return Told(message.timestamp, None, True)
        chain, block, close = fields
        more = BLOCK_MORE.get(topic, ())
        try:
            record = self._codec.decode_prefix(message.value, (*fields, *more))
        except (WireError, KeyError):
            return Told(message.timestamp, None, False)
        mark = Mark(record[chain], record[block], record[close], hash=(record[more[0]] or "") if more else "")
        said = (
            Said(mark, record["finality"], record["was_head"], record["parent_hash"])
            if topic == BLOCKS
            else None
        )
        return Told(message.timestamp, mark, not more or record["chunk"] == record["chunks"] - 1, said)

    async def _before(
        self, starts: Mapping[Key, int], ends: Mapping[Place, tuple[int, int]]
    ) -> dict[Key, Mark]:
        """The last whole block before an offset of a chain's partition; the topmost that stands there."""
        found: dict[Key, Mark] = {}
        tips = {key: Tip() for key in starts}
        offsets = {key: offset - 1 for key, offset in starts.items()}
        for _ in range(BACK_MAX):
            offsets = {key: at for key, at in offsets.items() if at >= ends[key[1]][0] and key not in found}
            if not offsets:
                break
            told = await self._read({(*place, at) for (_, place), at in offsets.items()})
            for key, at in list(offsets.items()):
                one = told.get((*key[1], at))
                if one is not None and one.mark is not None and one.whole:
                    tips[key].read(one.said or Said(one.mark, "final", was_head=False))
                    if (mark := tips[key].found) is not None:
                        found[key] = mark
                offsets[key] = at - 1
        known = {key: tip.least for key, tip in tips.items() if tip.least is not None}
        return {**known, **found}

    async def _last(self, ends: Mapping[Place, tuple[int, int]]) -> dict[Place, Mark]:
        starts = {("", place): end for place, (_, end) in ends.items() if place[0] in SOURCES}
        return {place: mark for (_, place), mark in (await self._before(starts, ends)).items()}

    async def _applied(
        self, groups: Iterable[Group], ends: Mapping[Place, tuple[int, int]]
    ) -> dict[Key, Mark]:
        starts = {
            (of.group, place): min(of.committed[place], ends[place][1])
            for of in groups
            for place in of.places
            if place[0] in SOURCES and place in ends and place in of.committed
        }
        return await self._before(starts, ends)

    async def _verdicts(self, ends: Mapping[Place, tuple[int, int]]) -> tuple[Verdict, ...]:
        last = [
            (*place, end - 1)
            for place, (begin, end) in sorted(ends.items())
            if place[0] == VERDICTS and end > begin
        ]
        found = []
        for message in (await self._messages.at(last)).values() if last else ():
            try:
                told = self._codec.decode(message.value, VERDICTS)[1]
            except WireError:
                continue
            found.append(Verdict(**{name: told[name] for name in Verdict.__slots__}))
        return tuple(found)

    async def _deliberate(
        self, groups: Iterable[Group], ends: Mapping[Place, tuple[int, int]]
    ) -> tuple[Stop, ...]:
        """Stops that alerts tell; asked only while the books are behind, read only where alerts are new."""
        books = [of for of in groups if of.role == "books"]
        if not any(behind(of, place, ends) for of in books for place in of.places):
            return ()
        alerts = {place: end for place, (_, end) in ends.items() if place[0] == ALERTS}
        if alerts != self._stops[0]:
            found: list[Stop] = []
            for place, end in alerts.items():
                start = max(ends[place][0], end - ALERTS_BACK)
                found += [
                    stop
                    for message in await self._messages.span(place, start, end)
                    if (stop := self._stop(message))
                ]
            self._stops = alerts, tuple(found)
        return self._stops[1]

    def _stop(self, message: Any) -> Stop | None:
        try:
            told = self._codec.decode(message.value, ALERTS)[1]
        except WireError:
            return None
        return (
            Stop(told["chain"], told["block"], told["evidence"]) if told["rule"] == "chain_stopped" else None
        )


def _next(group: Group, place: Place, ends: Mapping[Place, tuple[int, int]]) -> int | None:
    """Offset of the next message to apply; None where nothing waits."""
    if behind(group, place, ends) == 0:
        return None
    return max(group.committed.get(place, 0), ends[place][0])


def _count(ends: Mapping[Place, tuple[int, int]], topic: str) -> int:
    return sum(end - begin for (name, _), (begin, end) in ends.items() if name == topic)
