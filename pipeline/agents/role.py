"""What a role is to the worker that runs it: the topics it reads, and what one batch of them does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import faust

from topics.producer import Outgoing

Place = tuple[str, int]  # topic, partition
Epochs = Mapping[str, str]  # topic -> its incarnation; offsets mean something only within one


class NotFree(RuntimeError):
    """An embedded store has another owner; the message names it. Raised by `Role.open`."""


class StoreAway(RuntimeError):
    """A role's store does not answer, or says "not now": the same effect may be tried again. The text says why."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it came from Kafka."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


@dataclass(slots=True)
class Done:
    """What came of a batch."""

    outgoing: list[Outgoing] = field(default_factory=list)  # to publish before acknowledging
    commit: Callable[[], None] | None = None  # makes the effect final, after publishing
    counts: Mapping[str, int] = field(default_factory=dict)  # added to the role's counters
    stops: dict[int, tuple[int, str]] = field(default_factory=dict)
    """Partition -> (offset of the first message that is not done, why): nothing there is acknowledged any
    more; the other partitions go on."""


class Role(Protocol):
    """One consumer group: `books`, `assets`, `history`."""

    name: str
    topics: Sequence[str]
    batch_max: int  # messages
    batch_wait_s: float

    async def open(self, app: faust.App, epochs: Epochs) -> None:
        """Open stores; before the first batch and before this process asks for partitions.

        `epochs` holds the incarnation of each of its topics.
        """

    def assigned(self, places: set[Place]) -> Mapping[Place, int]:
        """These partitions are ours now, and no others: forget what was known of any. Runs in a thread.

        Where the store itself knows how far a partition is: the offset to read next.
        """

    async def process(self, topic: str, batch: list[Message]) -> Done:
        """Do the effect of one topic's batch, durably. Raises on a defect.

        Raises StoreAway where trying again may help: then it is called again with the same batch, as `open` is.
        """

    async def close(self) -> None:
        """Flush and close stores; after the last batch."""
