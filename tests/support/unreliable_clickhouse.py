"""A ClickHouse server that fails in the ways that leave its clients in doubt, over a real engine; seeded.

Each writing statement may be refused, done although the answer is lost, or left running: then it is done some
statements later, or when it is killed, or never, as the seed says. That is all that a client can't tell apart.
"""

import random
import re
from collections.abc import Callable
from typing import Any

from clickhouse_connect.driver.exceptions import OperationalError

_KILLED = re.compile(r"position\(query_id, '([^']+)'\)")


class UnreliableServer:
    """What every session of one server shares."""

    def __init__(self, engine: Any, seed: int, faults: float) -> None:
        self.engine, self.faults, self._chance = engine, faults, random.Random(seed)
        self.running: list[tuple[str, int, Callable[[], Any]]] = []  # query id, statements left, what it does
        self.down = False
        self.counts = {"refused": 0, "answer lost": 0, "left running": 0, "late": 0, "killed": 0}

    def session(self) -> "Session":
        """A new connection; OperationalError while the server is down."""
        if self.down:
            raise OperationalError("Connection refused")
        return Session(self)

    def write(self, query_id: str, work: Callable[[], Any]) -> Any:
        """One writing statement."""
        self._go_on()
        fate = self._chance.random() / self.faults if self.faults else 1.0
        if self.down or fate < 0.3:
            self.counts["refused"] += 1
            raise OperationalError("Connection refused")
        if fate < 0.6:
            work()
            self.counts["answer lost"] += 1
            raise OperationalError("Read timed out")
        if fate < 1.0:
            self.counts["left running"] += 1
            self.running.append((query_id, self._chance.randrange(1, 30), work))
            raise OperationalError("Read timed out")
        return work()

    def kill(self, part: str) -> None:
        """KILL QUERY … SYNC: what it catches ends undone, or had come to its end before."""
        for one in [one for one in self.running if part in one[0]]:
            self.running.remove(one)
            self.counts["killed"] += 1
            if self._chance.random() < 0.5:
                one[2]()

    def _go_on(self) -> None:
        waiting, self.running = self.running, []
        for query_id, left, work in waiting:
            if left > 1:
                self.running.append((query_id, left - 1, work))
            else:
                self.counts["late"] += 1
                work()


class Session:
    """A client of it, as far as the sink needs one."""

    def __init__(self, server: UnreliableServer) -> None:
        self._server = server

    def query(self, sql: str, settings: Any = None) -> Any:
        """Reads are refused while it is down, else answered."""
        if self._server.down:
            raise OperationalError("Connection refused")
        return self._server.engine.query(sql)

    def command(self, sql: str, settings: Any = None) -> Any:
        """KILL QUERY always comes through; what touches no lasting table too."""
        killed = _KILLED.search(sql) if sql.startswith("KILL") else None
        if killed is not None:
            if self._server.down:
                raise OperationalError("Connection refused")
            return self._server.kill(killed[1])
        if "TEMPORARY" in sql:
            return self._server.engine.command(sql)
        return self._server.write(_id(settings), lambda: self._server.engine.command(sql))

    def insert(self, table: str, data: Any, settings: Any = None, **values: Any) -> Any:
        """Rows of the marks."""
        return self._server.write(_id(settings), lambda: self._server.engine.insert(table, data, **values))

    def raw_insert(self, table: str, settings: Any = None, **values: Any) -> Any:
        """Into the stage, which nothing outlives."""
        if self._server.down:
            raise OperationalError("Connection refused")
        return self._server.engine.raw_insert(table, **values)

    def close(self) -> None:
        """The engine stays."""


def _id(settings: Any) -> str:
    return str((settings or {}).get("query_id", ""))
