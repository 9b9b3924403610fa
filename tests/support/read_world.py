"""A world to read from: events go through the real fold and books into a real chDB, answered over its port."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from pipeline.agents.applications import Applications
from pipeline.agents.clickhouse_port import ClickHousePort
from pipeline.agents.role import Message
from pipeline.catalog import APPLICATIONS
from pipeline.domain.applications.event import AppTopic
from pipeline.domain.findings import deterministic_id
from schemas.codec import Codec
from schemas.freeze import freeze
from schemas.loader import schemas
from schemas.registry import LocalRegistry
from sinks.clickhouse import ClickHouseHistory
from sinks.clickhouse_client import Place
from sinks.embedded_books import connect
from sinks.offchain import OffchainBooks
from sinks.sink import HistoryMessage
from tests.support.applications import event_of, record_of

EPOCH = "e"
ROWS: Mapping[str, AppTopic] = {row.domain: row for row in APPLICATIONS}


class World:
    """Everything that is told goes the way of the pipeline: rules, books, states, outcomes, rows."""

    def __init__(self, folder: Path) -> None:
        registry = LocalRegistry(freeze((), schemas())[0])
        self.codec = Codec(registry)
        self.history = ClickHouseHistory(Place(path=folder / "clickhouse"), schemas(), self.codec, registry)
        self.history.open()
        self.books = OffchainBooks(connect(sync=False), again=True)
        self._apps = Applications(APPLICATIONS, folder / "applications", self.codec, lambda: self.books)
        self._apps.epochs = {row.topic: EPOCH for row in APPLICATIONS}
        self._apps.assigned(row.topic for row in APPLICATIONS)
        self._offsets: dict[str, int] = {}
        self.port = ClickHousePort(folder / "clickhouse", 0)
        self.port.start()

    def tell(self, domain: str, cases: Iterable[Mapping[str, Any]]) -> list[str]:
        """Ids of events in the form of a golden case, applied (or refused) in order."""
        row, messages, ids = ROWS[domain], list[Message](), list[str]()
        for case in cases:
            offset = self._next(row.topic)
            event = event_of(
                row, case, case.get("id") or row.id_prefix + deterministic_id(domain, str(offset))[-32:]
            )
            value = self.codec.encode(row.topic, record_of(row, event))
            messages.append(Message(row.topic, 0, offset, event.at_ms, event.key.encode(), value, ()))
            ids.append(event.id)
        done = self._apps.process(row.topic, messages)
        if done.commit is not None:
            done.commit()
        told = [HistoryMessage(m.topic, 0, m.offset, m.timestamp_ms, m.value) for m in messages]
        told += [HistoryMessage(m.topic, 0, self._next(m.topic), 0, m.value) for m in done.outgoing]
        self.put(told)
        return ids

    def only_told(self, domain: str, case: Mapping[str, Any]) -> str:
        """Id of an event that nobody has judged yet."""
        row = ROWS[domain]
        event = event_of(row, case, case.get("id") or "f" * 32)
        value = self.codec.encode(row.topic, record_of(row, event))
        offset = self._next(f"{row.topic} told")  # in a partition of its own: the fold takes no holes
        self.put([HistoryMessage(row.topic, 1, offset, event.at_ms, value)])
        return event.id

    def put(self, messages: Iterable[HistoryMessage], epoch: str = EPOCH) -> None:
        """Messages into history, those that it keeps."""
        by_topic: dict[str, list[HistoryMessage]] = {}
        for message in messages:
            by_topic.setdefault(message.topic, []).append(message)
        for topic, some in by_topic.items():
            if topic in self.history.topics:
                written = self.history.write(epoch, some)
                assert not written.refused, written.refused
        self.history.flush()

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """A query of an analyst."""
        return list(self.history.query(sql))

    def close(self) -> None:
        """End it all."""
        self.port.stop()
        self._apps.close()
        self.books.store.close()
        self.history.close()

    def _next(self, topic: str) -> int:
        self._offsets[topic] = self._offsets.get(topic, -1) + 1
        return self._offsets[topic]


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """An empty world; who asks it waits as long as it takes a machine with much else to do."""
    made = World(folder)
    try:
        with mock.patch("pipeline.api.read_clickhouse.TIMEOUT_S", 120.0):
            yield made
    finally:
        made.close()
