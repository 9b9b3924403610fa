"""Stream messages on their way to one connection: sent in order, unless the faults have it otherwise."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Final

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from pipeline.recorded_node.faults import Draws, Faults
from pipeline.recorded_node.server_commands import Session

_HELD_FOR_MAX: Final = 8  # messages that may overtake one
_HELD_S_MAX: Final = 0.25  # where nothing comes to overtake it
_WAITING_MAX: Final = 200_000  # a client that reads no more is cut off, as a node does


class Outbox:
    """A queue and the task that empties it."""

    def __init__(self, connection: ServerConnection, faults: Faults, draws: Draws) -> None:
        self.connection, self.session = connection, Session()
        self._faults, self._draws = faults, draws
        self._waiting: deque[bytes] = deque()
        self._held: list[tuple[int, bytes]] = []  # (messages still to overtake it, message)
        self._filled = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def put(self, message: bytes) -> None:
        """To be sent; reordered and doubled as the faults have it."""
        for place, (left, _) in enumerate(self._held):
            self._held[place] = (left - 1, self._held[place][1])
        faults, draws = self._faults, self._draws
        copies = 2 if draws.happens(faults, "duplicate") else 1
        for _ in range(copies):
            if draws.happens(faults, "reorder"):
                span = 1 + int(_HELD_FOR_MAX * draws.number(faults, "reorder", "span"))
                self._held.append((span, message))
            else:
                self._waiting.append(message)
        self._waiting.extend(held for left, held in self._held if left <= 0)
        self._held = [each for each in self._held if each[0] > 0]
        if len(self._waiting) > _WAITING_MAX:
            self.connection.transport.abort()
            return
        self._filled.set()
        if self._task is None:
            self._task = asyncio.create_task(self._empty())

    async def _empty(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                while self._waiting:
                    await self.connection.send(self._waiting.popleft(), text=True)
                self._filled.clear()
                await self._wait()

    async def _wait(self) -> None:
        if not self._held:
            await self._filled.wait()
            return
        try:
            await asyncio.wait_for(self._filled.wait(), _HELD_S_MAX)
        except TimeoutError:
            self._waiting.extend(message for _, message in self._held)
            self._held.clear()

    def close(self) -> None:
        """Nothing more is sent."""
        if self._task is not None:
            self._task.cancel()
