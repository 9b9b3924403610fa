"""How far behind is everything, and does it move? Pure, over looks at Kafka.

A look (pipeline.domain.lag_look) is what the broker and the nodes told at one moment: end offsets,
committed offsets, the blocks that stand there. `follow` remembers, look by look, since when each consumer
group has not moved in each partition; `report` judges. What is behind and does not move is unhealthy: a
process that is alive, connected and idle is the failure this is made to find (FIELD-NOTES.md, "Faust":
consumers that die slowly while "healthy").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pipeline.domain.lag_look import Group, Key, Look, Mark, Place, Stop, Verdict

INGEST: Final = "ingest"
HEAD: Final = "head"
INGESTED: Final = "ingested"
FINAL: Final = "final"  # of chains that may reorganise: last block that stays
REORGANISES: Final = "eip155:"  # such chains' names begin so
STAGES: Final[Mapping[str, str]] = {"assets": "state"}  # stage that a role makes; else by its own name


class State(StrEnum):
    """Of a role, or of one partition of it."""

    OK = "ok"  # everything there is has been applied
    CATCHING_UP = "catching_up"  # behind, and moving, or not yet for long
    STOPPED = "stopped"  # it refuses to go on and has said why in control.alerts.v1
    STALLED = "stalled"  # behind and not moving
    NOT_RUNNING = "not_running"  # behind, and nobody is in the consumer group
    UNKNOWN = "unknown"  # of an ingest whose chain's head nobody tells


HEALTHY: Final = frozenset({State.OK, State.CATCHING_UP, State.UNKNOWN})
_BAD_LAST: Final = (
    State.OK,
    State.UNKNOWN,
    State.CATCHING_UP,
    State.STALLED,
    State.NOT_RUNNING,
    State.STOPPED,
)


@dataclass(frozen=True, slots=True)
class Move:
    """Where a group stood in a partition, and since when it has not moved."""

    offset: int
    since: float  # first look that saw it there with something left to do
    well: bool  # seen moving, or with nothing left to do, at any time
    level: bool = False  # with nothing left to do now


@dataclass(frozen=True, slots=True)
class Limits:
    """When standing still is a stall."""

    stall_s: float = 60.0  # not moved for so long while behind
    look_s: float = 5.0  # or not seen moving for so long, and the next message has waited for stall_s


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """One group in one partition. Blocks and seconds only where the topic is a chain's."""

    topic: str
    partition: int
    committed: int | None
    end: int
    behind: int  # messages
    unmoved_s: float  # 0 where it is not behind
    state: State
    reason: str
    applied: Mark | None
    behind_blocks: int | None  # difference of indexes: ledgers of an accepted gap count
    behind_s: float | None  # between close times


@dataclass(frozen=True, slots=True)
class RoleLag:
    """One role: as bad as its worst partition."""

    role: str
    group: str
    members: int | None
    behind: int
    state: State
    reason: str
    partitions: tuple[PartitionLag, ...]


@dataclass(frozen=True, slots=True)
class ChainLag:
    """One chain through all its stages."""

    chain: str
    stages: Mapping[str, Mark | None]  # head, ingested (final), then each role's stage → last block there
    verdict: Verdict | None
    state: State  # of the ingest
    reason: str

    @property
    def gap(self) -> tuple[int, int] | None:
        """First and last missing block, while no node has them."""
        if self.verdict is None or self.verdict.outcome != "missing":
            return None
        return self.verdict.block, self.verdict.last_block

    def behind(self, mark: Mark | None) -> tuple[int | None, float | None]:
        """Blocks and seconds from `mark` to the chain's head; to what is ingested where no node tells."""
        return _between(mark, self.stages[HEAD] or self.stages[INGESTED])


@dataclass(frozen=True, slots=True)
class Report:
    """What `tidebook lag` says."""

    looked_s: float
    roles: tuple[RoleLag, ...]
    chains: tuple[ChainLag, ...]
    quarantined: int
    alerts: int
    broken: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def unhealthy(self) -> tuple[str, ...]:
        """What is wrong, one line each; empty = all is well."""
        chains = [
            f"{one.chain}: ingest {one.state}: {one.reason}"
            for one in self.chains
            if one.state not in HEALTHY
        ]
        roles = [f"{one.role} {one.state}: {one.reason}" for one in self.roles if one.state not in HEALTHY]
        return (*self.broken, *chains, *roles)

    @property
    def healthy(self) -> bool:
        return not self.unhealthy


def worst(states: Iterable[State]) -> State:
    """The one that somebody must look at first; ok if there are none."""
    return max(states, key=_BAD_LAST.index, default=State.OK)


def behind(group: Group, place: Place, ends: Mapping[Place, tuple[int, int]]) -> int:
    """Messages of a partition that a group has not applied."""
    begin, end = ends.get(place, (0, 0))
    return max(0, end - max(begin, group.committed.get(place, begin)))


def follow(moves: Mapping[Key, Move], look: Look) -> dict[Key, Move]:
    """The moves after one more look. The first look of a partition counts as no movement yet."""
    found: dict[Key, Move] = {}
    for group in look.groups:
        for place in group.places:
            offset = group.committed.get(place, -1)
            key = group.group, place
            found[key] = _moved(moves.get(key), offset, behind(group, place, look.ends) > 0, look.at)
    for place, mark in look.last.items():
        head = look.heads.get(mark.chain)
        late = head is not None and head.block > mark.block
        found[INGEST, place] = _moved(moves.get((INGEST, place)), look.ends[place][1], late, look.at)
    return found


def _moved(before: Move | None, offset: int, is_behind: bool, at: float) -> Move:
    if before is None:
        return Move(offset, at, well=not is_behind, level=not is_behind)
    if is_behind and offset == before.offset and not before.level:
        return before
    well = before.well or offset != before.offset or not is_behind
    return Move(offset, at, well, level=not is_behind)


def report(look: Look, moves: Mapping[Key, Move], limits: Limits, first_at: float) -> Report:
    """Judge a look by the moves up to it; `first_at` = when the looking began, on the look's clock."""
    roles = tuple(_role(group, look, moves, limits) for group in look.groups)
    return Report(
        looked_s=look.at - first_at,
        roles=roles,
        chains=tuple(_chains(look, moves, limits)),
        quarantined=look.quarantined,
        alerts=look.alerts,
        broken=look.broken,
        problems=look.problems,
    )


def undecided(look: Look, moves: Mapping[Key, Move], limits: Limits) -> bool:
    """Whether looking longer may tell more: what should have moved long ago has not been seen moving."""
    late = [
        (group.group, place)
        for group in look.groups
        for place in group.places
        if behind(group, place, look.ends) > 0 and group.members != 0
    ]
    if any(not moves[key].well and _waited_s(look, key) >= limits.stall_s for key in late):
        return True
    return any(
        not moves[INGEST, place].well and _late_s(look, mark) >= limits.stall_s
        for place, mark in look.last.items()
    )


def _waited_s(look: Look, key: Key) -> float:
    """How long the next message has waited; 0 where that is not known."""
    return (look.now - look.waiting_since.get(key, look.now)) / 1000


def _late_s(look: Look, last: Mark) -> float:
    """Seconds from the last block ingested to the head of its chain; 0 where that is not known."""
    return _between(last, look.heads.get(last.chain))[1] or 0.0


def _role(group: Group, look: Look, moves: Mapping[Key, Move], limits: Limits) -> RoleLag:
    parts = tuple(_partition(group, place, look, moves, limits) for place in group.places)
    state = worst(part.state for part in parts)
    return RoleLag(
        role=group.role,
        group=group.group,
        members=group.members,
        behind=sum(part.behind for part in parts),
        state=state,
        reason=next((part.reason for part in parts if part.state == state), ""),
        partitions=parts,
    )


def _partition(
    group: Group, place: Place, look: Look, moves: Mapping[Key, Move], limits: Limits
) -> PartitionLag:
    key = group.group, place
    left = behind(group, place, look.ends)
    unmoved_s = look.at - moves[key].since
    state, reason = _judge(group, place, look, moves[key], limits) if left else (State.OK, "")
    blocks, seconds = _distance(look, key, left)
    return PartitionLag(
        topic=place[0],
        partition=place[1],
        committed=group.committed.get(place),
        end=look.ends.get(place, (0, 0))[1],
        behind=left,
        unmoved_s=unmoved_s,
        state=state,
        reason=reason,
        applied=look.applied.get(key),
        behind_blocks=blocks,
        behind_s=seconds,
    )


def _judge(group: Group, place: Place, look: Look, move: Move, limits: Limits) -> tuple[State, str]:
    """State of a partition that is behind, and why in one line."""
    key = group.group, place
    where = f"{place[0]}-{place[1]}@{group.committed.get(place, look.ends[place][0])}"
    stop = _stop(look, key)
    if stop is not None:
        return State.STOPPED, f"it stops before block {stop.block} of {stop.chain}: {stop.reason}"
    if group.members == 0:
        return State.NOT_RUNNING, f"{where}: messages wait and nobody is in consumer group {group.group}"
    unmoved_s = look.at - move.since
    if unmoved_s >= limits.stall_s:
        return State.STALLED, f"{where}: not moved for {unmoved_s:.0f} s (limit {limits.stall_s:g} s)"
    waited_s = _waited_s(look, key)
    if not move.well and unmoved_s >= limits.look_s and waited_s >= limits.stall_s:
        return (
            State.STALLED,
            f"{where}: not moved in {unmoved_s:.0f} s, its next message waits for {waited_s:.0f} s",
        )
    moved = f"not moved for {unmoved_s:.0f} s" if unmoved_s else "moving" if move.well else "seen once"
    return State.CATCHING_UP, f"{where}: {moved}"


def _stop(look: Look, key: Key) -> Stop | None:
    """The alert that tells why the next block is not applied; it concerns the group that keeps the books."""
    following = look.following.get(key)
    if following is None or not key[0].endswith("-books"):
        return None
    fitting = [stop for stop in look.stops if (stop.chain, stop.block) == (following.chain, following.block)]
    return fitting[-1] if fitting else None


def _distance(look: Look, key: Key, left: int) -> tuple[int | None, float | None]:
    """Blocks and seconds between what a group has applied and the end of a chain's partition."""
    last = look.last.get(key[1])
    if last is None:
        return None, None
    if not left:
        return 0, 0.0
    applied, following = look.applied.get(key), look.following.get(key)
    if applied is not None:
        return _between(applied, last)
    if following is not None:
        blocks, seconds = _between(following, last)
        return None if blocks is None else blocks + 1, seconds
    return None, None


def _between(mark: Mark | None, end: Mark | None) -> tuple[int | None, float | None]:
    if mark is None or end is None:
        return None, None
    seconds = max(0, end.time - mark.time) / 1000 if mark.time and end.time else None
    return max(0, end.block - mark.block), seconds


def _chains(look: Look, moves: Mapping[Key, Move], limits: Limits) -> list[ChainLag]:
    verdicts = {verdict.chain: verdict for verdict in look.verdicts}
    places = {mark.chain: place for place, mark in sorted(look.last.items())}
    found = []
    for chain in sorted({*places, *verdicts, *look.heads}):
        place = places.get(chain)
        state, reason = _ingest(chain, place, look, moves, limits, verdicts.get(chain))
        found.append(
            ChainLag(
                chain=chain,
                stages={
                    HEAD: look.heads.get(chain),
                    INGESTED: look.last[place] if place else None,
                    **_final(chain, verdicts.get(chain)),
                    **{STAGES.get(of.role, of.role): _done(look, of, chain, place) for of in look.groups},
                },
                verdict=verdicts.get(chain),
                state=state,
                reason=reason,
            )
        )
    return found


def _final(chain: str, verdict: Verdict | None) -> dict[str, Mark | None]:
    """The last final block: verdicts are told of final blocks only."""
    if not chain.startswith(REORGANISES):
        return {}
    if verdict is None or verdict.outcome not in ("verified", "unproven"):
        return {FINAL: None}
    return {FINAL: Mark(chain, verdict.last_block, verdict.time, verdict.block_hash or "")}


def _done(look: Look, group: Group, chain: str, place: Place | None) -> Mark | None:
    """Last block that a role is done with: what it has read of the chain, less what waits between its topics.

    Of several chains whose changes share a partition only the one whose message is next is told exactly.
    """
    applied = look.applied.get((group.group, place)) if place else None
    if applied is None:
        return None
    waiting = [
        mark
        for other in group.places
        if other != place and (mark := look.following.get((group.group, other))) and mark.chain == chain
    ]
    oldest = min(waiting, key=lambda mark: mark.block, default=None)
    if oldest is None or oldest.block > applied.block:
        return applied
    return Mark(chain, oldest.block - 1, oldest.time)


def _ingest(
    chain: str,
    place: Place | None,
    look: Look,
    moves: Mapping[Key, Move],
    limits: Limits,
    verdict: Verdict | None,
) -> tuple[State, str]:
    if verdict is not None and verdict.outcome == "missing":
        return State.STALLED, f"no node has blocks {verdict.block}-{verdict.last_block}"
    head, last = look.heads.get(chain), look.last.get(place) if place else None
    if head is None:
        return State.UNKNOWN, "no node tells the head of the chain"
    if last is None or place is None:
        return State.NOT_RUNNING, f"the head is {head.block}, nothing of the chain is in Kafka"
    if head.block <= last.block:
        return State.OK, ""
    move = moves[INGEST, place]
    unmoved_s, late_s = look.at - move.since, _late_s(look, last)
    told = f"the head is {head.block}, Kafka ends at {last.block}"
    if unmoved_s >= limits.stall_s:
        return State.STALLED, f"{told}, not moved for {unmoved_s:.0f} s (limit {limits.stall_s:g} s)"
    if not move.well and unmoved_s >= limits.look_s and late_s >= limits.stall_s:
        return State.STALLED, f"{told}, not moved in {unmoved_s:.0f} s and {late_s:.0f} s behind"
    return State.CATCHING_UP, told
