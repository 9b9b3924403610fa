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
class Said:
    """What one message of a chain that may reorganise says of its block."""

    mark: Mark
    finality: str  # head, final, retracted
    was_head: bool
    parent: str = ""  # hash of the block before


@dataclass(slots=True)
class Tip:
    """The topmost block that stands after a message, found by reading back from there, newest message first.

    A final block that was head before may have others above it, told earlier; after a retracted one the first
    block found that is below it stands on top.
    """

    found: Mark | None = None
    least: Mark | None = None  # what stands at least, as long as nothing is found
    _gone: int | None = None  # lowest number that was taken off again

    def read(self, said: Said) -> None:
        """One message further back; once there is something `found`, no more need be read."""
        mark = said.mark
        if said.finality == "retracted":
            if self._gone is None or mark.block < self._gone:
                self._gone = mark.block
                self._at_least(Mark(mark.chain, mark.block - 1, 0, said.parent))
        elif self._gone is None or mark.block < self._gone:
            self._at_least(mark)
            if said.finality == "head" or not said.was_head:
                self.found = self.least

    def _at_least(self, mark: Mark) -> None:
        if self.least is None or mark.block > self.least.block or not self.least.time:
            self.least = mark


@dataclass(frozen=True, slots=True)
class Verdict:
    """The last message of a chain in chains.verdicts.v1, as far as it is needed here."""

    chain: str
    outcome: str  # verified, unproven, missing, skipped
    block: int
    last_block: int
    verified_up_to: int  # -1 = none
    gaps: int  # accepted so far
    time: int = 0  # of its last block, ms since 1970; 0 = not told
    block_hash: str | None = None


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
