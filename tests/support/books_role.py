"""The books role on evm.blocks.v1 without a broker: fed batch by batch, everything it publishes kept."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from pipeline.agents.books import BooksRole
from pipeline.agents.role import Done, Message
from schemas.codec import local_codec
from topics.envelope import outgoing
from topics.producer import Outgoing

TOPIC, TRANSFERS, CODEC = "evm.blocks.v1", "books.transfers.v1", local_codec()


class Role:
    """The role over one engine, and all that it published. `partitions`: of chains that don't stand in partition 0."""

    def __init__(self, engine: Any, partitions: dict[str, int] | None = None) -> None:
        self.engine, self._partitions, self._offset = engine, partitions or {}, 0
        self.published: list[Outgoing] = []
        self.stops: dict[int, tuple[int, str]] = {}
        self.begin()

    def begin(self) -> None:
        """A new process."""
        self.role = BooksRole(lambda: self.engine, CODEC)
        asyncio.run(self.role.open(None, {TOPIC: "e", "xrpl.states.v1": "e"}))

    def rebalance(self) -> None:
        self.role.assigned(set())

    def book(self, told: Iterable[Any], partition: int = 0) -> Done:
        """One batch, of records and bytes; what came of it."""
        batch = []
        for one in told:
            where, value = partition, one
            if not isinstance(one, bytes):
                where = self._partitions.get(one["chain"], partition)
                value = outgoing(CODEC, TOPIC, one["chain"], one, partition=where).value
            batch.append(Message(TOPIC, where, self._offset, 0, b"eip155:9", value, ()))
            self._offset += 1
        done = asyncio.run(self.role.process(TOPIC, batch))
        self.published += done.outgoing
        self.stops |= done.stops
        return done

    def records(self, topic: str) -> list[dict[str, Any]]:
        return [CODEC.decode(one.value)[1] for one in self.published if one.topic == topic]

    def alerts(self, rule: str) -> list[dict[str, Any]]:
        return [one for one in self.records("control.alerts.v1") if one["rule"] == rule]
