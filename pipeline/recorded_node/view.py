"""What the node has and shows at this moment: the pure side of a running node.

The recording is the chain as it will be; `revealed` says how much of it has happened. A stale node shows
less of it, a node that has just restarted nothing, and single ledgers may be missing or not readable yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from pipeline.recorded_node.errors import not_found
from pipeline.recorded_node.faults import Faults
from pipeline.recorded_node.state import StateHistory
from pipeline.recorded_node.tape import Tape, ranges_of
from pipeline.recorded_node.validators import Quorum

BUILD_VERSION: Final = "3.1.2"


@dataclass(frozen=True, slots=True)
class Fees:
    """Base fee and reserves, in drops."""

    base: int = 10
    reserve_base: int = 10_000_000
    reserve_inc: int = 2_000_000


@dataclass(slots=True)
class View:
    """State of one node. `now` gives seconds since 1970."""

    tape: Tape
    states: StateHistory
    faults: Faults
    revealed: int
    now: Callable[[], float]
    network_id: int | None = None
    fees: Fees = Fees()
    quorum: Quorum | None = None
    started_at: float = 0.0
    synced: bool = True
    server_state: str = "full"
    readable_at: dict[int, float] = field(default_factory=dict)
    stood_still_at: int | None = None
    port: int = 0

    @property
    def shown_network_id(self) -> int | None:
        """Network id that the node names; None: it names none in server_info, 0 in its streams."""
        return self.network_id if self.faults.network_id is None else self.faults.network_id

    @property
    def last(self) -> int:
        """Newest validated ledger that the node shows."""
        if self.faults.stand_still:
            if self.stood_still_at is None:
                self.stood_still_at = self.revealed
            return self.stood_still_at
        self.stood_still_at = None
        order = self.tape.order
        return max(order[0], self.revealed - self.faults.behind)

    def next_after(self, index: int) -> int | None:
        """The next recorded index, or None at the end of the recording."""
        order = self.tape.order
        if index >= order[-1]:
            return None
        return index + 1 if index + 1 in self.tape.heads else next(each for each in order if each > index)

    def has(self, index: int) -> bool:
        """True if ledger `index` can be read here now."""
        return (
            index in self.tape.heads
            and index <= self.last
            and index >= self.faults.first
            and index not in self.faults.missing
            and self.readable_at.get(index, 0.0) <= self.now()
        )

    def validated(self) -> int:
        """Index of the newest ledger that can be read. lgrNotFound if there is none."""
        index = self.last
        while not self.has(index):
            index -= 1
            if index < self.tape.order[0]:
                raise not_found()
        return index

    def complete_ledgers(self) -> str:
        """Ranges of what the node has, as `server_info` writes them."""
        if not self.synced:
            return "empty"
        last, first = self.last, self.faults.first
        shown = []
        for low, high in self.tape.ranges:
            low, high = max(low, first), min(high, last)
            holes = [each for each in sorted(self.faults.missing) if low <= each <= high]
            shown += _without(low, high, holes) if low <= high else []
        return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in shown) or "empty"

    def time_text(self) -> str:
        """The node's clock as `server_info` writes it."""
        return f"{datetime.fromtimestamp(self.now(), UTC):%Y-%b-%d %H:%M:%S.%f} UTC"


def _without(low: int, high: int, holes: list[int]) -> list[tuple[int, int]]:
    """The range low..high without its holes (rising)."""
    shown = []
    for first, last in ranges_of(holes):
        if low < first:
            shown.append((low, first - 1))
        low = last + 1
    return [*shown, (low, high)] if low <= high else shown
