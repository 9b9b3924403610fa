"""What one look at Kafka and the nodes tells: the facts that pipeline.domain.lag judges.

All of it comes from the broker and from nodes; nothing that a process says of itself goes in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Place = tuple[str, int]  # topic, partition


@dataclass(frozen=True, slots=True)
class Mark:
    """A block that stands somewhere: what is applied, ingested, or the head of the chain."""

    chain: str
    block: int
    time: int  # close time, ms since 1970; 0 = not told
    hash: str = ""  # of the block; "" = not told
    source: str = ""  # of a head: the node that tells it


@dataclass(frozen=True, slots=True)
class Verdict:
    """The last message of a chain in chains.verdicts.v1, as far as it is needed here."""

    chain: str
    outcome: str  # verified, unproven, missing, skipped
    block: int
    last_block: int
    verified_up_to: int  # -1 = none
    gaps: int  # accepted so far


@dataclass(frozen=True, slots=True)
class Stop:
    """Books that refuse to go on before `block`: an alert chain_stopped."""

    chain: str
    block: int
    reason: str


@dataclass(frozen=True, slots=True)
class Group:
    """One consumer group as the broker tells it."""

    role: str
    group: str
    places: tuple[Place, ...]
    committed: Mapping[Place, int]  # next offset to apply; nothing committed: absent
    members: int | None  # None = the broker does not tell


Key = tuple[str, Place]  # group, place


@dataclass(frozen=True, slots=True)
class Look:
    """Everything seen at one moment."""

    at: float  # seconds of a clock that only rises
    now: int  # ms since 1970
    ends: Mapping[Place, tuple[int, int]]  # first offset, next offset
    groups: tuple[Group, ...] = ()
    last: Mapping[Place, Mark] = field(default_factory=dict)  # last whole block of a chain's partition
    applied: Mapping[Key, Mark] = field(default_factory=dict)  # last whole block before what is committed
    following: Mapping[Key, Mark] = field(default_factory=dict)  # block of the next message to apply
    waiting_since: Mapping[Key, int] = field(default_factory=dict)  # when that message came, ms since 1970
    verdicts: tuple[Verdict, ...] = ()
    heads: Mapping[str, Mark] = field(default_factory=dict)  # chain → newest validated block of any node
    stops: tuple[Stop, ...] = ()
    quarantined: int = 0  # messages of quarantine.v1
    alerts: int = 0  # messages of control.alerts.v1
    broken: tuple[str, ...] = ()  # what is wrong with the broker's topics, one line each
    problems: tuple[str, ...] = ()  # nodes that could not be asked, one line each
