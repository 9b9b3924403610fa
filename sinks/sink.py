"""Where batches go. A sink takes messages of topics in offset order and makes their effect exactly once.

`write` makes a batch's effect; `flush` commits what was written. What was written and not committed when a
process dies is undone at the next `open_partition`, which tells where to read on. So a caller does, in this
order: write, put the refused messages into quarantine, flush, commit its own offsets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class HistoryMessage:
    """One message as it stands in its topic; `message` is the whole value, wire format header included."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    message: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that the sink cannot take, with the reason as quarantine records it."""

    message: HistoryMessage
    reason: str  # bad_magic, truncated, unknown_schema, undecodable, refused_by_sink
    detail: str  # one line


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What became of a batch: every message is applied, a duplicate or refused."""

    applied: int = 0
    duplicates: int = 0
    refused: tuple[Refused, ...] = ()
    rows: dict[str, int] = field(default_factory=dict)  # by table


class TakenOver(RuntimeError):
    """Another process has undone what was being written here: it owns the partition now."""


class Sink(Protocol):
    """One contract for all sinks. Not for several threads at once."""

    def open(self) -> None:
        """Make the store ready: connect, create what is missing."""

    def open_partition(self, epoch: str, topic: str, partition: int) -> int:
        """Undo what was not committed there; the offset to read next, 0 where nothing was."""

    def write(self, epoch: str, batch: Sequence[HistoryMessage]) -> WriteResult:
        """Make the effect of messages of one topic, in offset order within each partition."""

    def flush(self) -> None:
        """Commit everything written since the last flush."""

    def close(self) -> None:
        """Commit nothing more, let go of the store."""
