"""The recorded node as a WebSocket server: connections, time, and the weather.

    async with RecordedNode([path], pace=0, start=100, validators=5) as node:
        ... node.url, node.advance(3), await node.restart(), node.faults.missing = frozenset({7})

The chain is revealed ledger by ledger: by the clock (`pace` seconds each), by `advance`, or all at once.
What is answered comes from answers.py (pure) and goes through forge.py; here only its delivery goes wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import orjson
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from pipeline.recorded_node import stream
from pipeline.recorded_node.answers import answer
from pipeline.recorded_node.faults import Draws, Faults
from pipeline.recorded_node.forge import serialised
from pipeline.recorded_node.outbox import Outbox
from pipeline.recorded_node.state import StateHistory
from pipeline.recorded_node.tape import Tape, TapeError, recorded_ledgers
from pipeline.recorded_node.validators import make_quorum, manifest_message, validations
from pipeline.recorded_node.view import Fees, View

Source = Path | str | Mapping[str, Any]

_REQUEST_FRAME_MAX: Final = 64 << 20
_UNSYNCED_STATES: Final = ((0.1, "disconnected"), (0.2, "connected"), (1.0, "proposing"))


class RecordedNode:
    """One node. All counts and faults may be read and set while it runs, from its own event loop."""

    def __init__(
        self,
        ledgers: Iterable[Source] | Tape,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        pace: float = 0.0,
        start: int | None = None,
        validators: int = 0,
        seed: int = 0,
        faults: Faults | None = None,
        network_id: int | None = None,
        fees: Fees | None = None,
        snapshot: tuple[int, Iterable[Mapping[str, Any]]] | None = None,
    ) -> None:
        """`ledgers`: files, directories, recorded ledgers, or a Tape that several nodes share.

        pace: seconds a ledger; 0 and no `start`: everything is there at once; 0 and `start`: `advance` moves.
        start: newest validated ledger at the beginning (with a pace: the first recorded one).
        snapshot: (ledger index, all objects of its state), where the recording does not begin at genesis.
        """
        self._ledgers, self._snapshot = ledgers, snapshot
        self._host, self._port, self._pace, self._start = host, port, pace, start
        self.faults = faults if faults is not None else Faults(seed=seed)
        self._network_id, self._fees = network_id, fees or Fees()
        self._quorum = make_quorum(validators, seed) if validators else None
        self._draws = Draws()
        self._server: Server | None = None
        self._open: dict[ServerConnection, Outbox] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._announced = 0
        self._silent_until = 0.0
        self._until_cut = self._until_silence = 0  # messages
        self._view: View | None = None
        self.requests: Counter[str] = Counter()
        """Requests by command."""
        self.asked: Counter[int] = Counter()
        """`ledger` requests by ledger index."""

    @property
    def view(self) -> View:
        """What the node has and shows."""
        if self._view is None:
            raise RuntimeError("the recorded node is not started")
        return self._view

    @property
    def url(self) -> str:
        """ws:// address; the same after a restart."""
        return f"ws://{self._host}:{self._port}"

    @property
    def validator_keys(self) -> list[str]:
        """Master public keys (nH…) of its validators."""
        return self._quorum.keys if self._quorum else []

    @property
    def last(self) -> int:
        """Newest validated ledger that the node shows."""
        return self.view.last

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._open)

    async def __aenter__(self) -> RecordedNode:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Reads the recording and listens. Raises TapeError, and OSError where the port is taken."""
        if isinstance(self._ledgers, Tape):
            tape = self._ledgers
        else:
            tape = await asyncio.to_thread(Tape, recorded_ledgers(self._ledgers))
        self._view = View(
            tape, StateHistory(tape, self._snapshot), self.faults, self._first_shown(tape), time.time,
            self._network_id, self._fees, self._quorum, started_at=time.time(),
        )  # fmt: skip
        self._announced = self._view.last
        await self._listen()
        if self._pace > 0:
            self._spawn(self._walk())

    def _first_shown(self, tape: Tape) -> int:
        if self._start is None:
            return tape.order[0] if self._pace > 0 else tape.order[-1]
        shown = [index for index in tape.order if index <= self._start]
        if not shown:
            raise TapeError(f"--start {self._start}: the recording begins at ledger {tape.order[0]}")
        return shown[-1]

    async def _listen(self) -> None:
        self._server = await serve(
            self._connected, self._host, self._port, compression=None, max_size=_REQUEST_FRAME_MAX,
            ping_interval=None, max_queue=256, server_header=None, close_timeout=1,
        )  # fmt: skip
        self._port = next(iter(self._server.sockets)).getsockname()[1]
        self.view.port = self._port

    async def stop(self) -> None:
        """Closes everything without a word, as a node that stops does."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._shut()
        if self._view is not None and not isinstance(self._ledgers, Tape):
            self._view.tape.close()
            self._view = None

    async def _shut(self) -> None:
        if self._server is None:
            return
        self._server.close(close_connections=False)
        await asyncio.gather(
            *(close_without_status(each) for each in list(self._open)), return_exceptions=True
        )
        await self._server.wait_closed()
        self._server = None

    async def restart(self, refused_s: float = 0.5, unsynced_s: float = 1.0) -> None:
        """Stops and comes back: connections refused, then served but not synced; returns when synced."""
        await self._shut()
        view = self.view
        view.synced, view.server_state = False, "disconnected"
        await asyncio.sleep(refused_s)
        view.started_at = time.time()
        await self._listen()
        began = 0.0
        for share, state in _UNSYNCED_STATES:
            view.server_state = state
            await asyncio.sleep(unsynced_s * (share - began))
            began = share
        view.synced, view.server_state = True, "full"
        self._announced = max(self._announced, view.last)

    def advance(self, count: int = 1) -> int:
        """Reveals up to `count` more ledgers and announces them; the newest index shown."""
        for _ in range(count):
            following = self.view.next_after(self.view.revealed)
            if following is None:
                break
            self.view.revealed = following
        self.announce()
        return self.view.last

    def announce(self) -> None:
        """Sends the stream messages of what is shown now and was not yet."""
        view = self.view
        if not view.synced:
            return
        while (following := view.next_after(self._announced)) is not None and following <= view.last:
            self._announced = following
            if self.faults.late:
                view.readable_at[following] = view.now() + self.faults.late
            if following not in self.faults.missing:
                self._broadcast(following)

    async def _walk(self) -> None:
        """One ledger every `pace` seconds, by the clock."""
        due = time.monotonic()
        while self.view.next_after(self.view.revealed) is not None:
            due += self._pace
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            self.advance()

    def _broadcast(self, index: int) -> None:
        if not any(outbox.session.streams for outbox in self._open.values()) or self._is_silent():
            return
        for outbox, messages in self._messages(index):
            for message in messages:
                if self._must_cut():
                    self._cut(outbox.connection)
                    break
                outbox.put(message)

    def _messages(self, index: int) -> list[tuple[Outbox, list[bytes]]]:
        """What each connection gets of a ledger: validations, all but the last, ledgerClosed, the rest."""
        view = self.view
        votes: list[bytes] = []
        if self._quorum and any("validations" in each.session.streams for each in self._open.values()):
            head = view.tape.heads[index]
            votes = [
                orjson.dumps(message)
                for message in validations(
                    self._quorum,
                    index,
                    view.tape.hash_of(index),
                    head.close_time,
                    view.shown_network_id or 0,
                    self.faults,
                )
            ]
        closed = orjson.dumps(stream.ledger_closed(view, index))
        shapes: dict[int, list[bytes]] = {}
        found = []
        for outbox in self._open.values():
            wanted = outbox.session.streams
            heard = votes if "validations" in wanted else []
            messages = [*heard[:-1], *([closed] if "ledger" in wanted else []), *heard[-1:]]
            if "transactions" in wanted:
                version = wanted["transactions"]
                if version not in shapes:
                    shapes[version] = [
                        orjson.dumps(each) for each in stream.transactions(view, index, version)
                    ]
                messages += shapes[version]
            found.append((outbox, messages))
        return found

    async def _connected(self, connection: ServerConnection) -> None:
        outbox = Outbox(connection, self.faults, self._draws)
        self._open[connection] = outbox
        try:
            async for message in connection:
                await self._received(outbox, message)
        except ConnectionClosed:
            pass
        finally:
            self._open.pop(connection, None)
            outbox.close()

    async def _received(self, outbox: Outbox, message: str | bytes) -> None:
        if self._must_cut():
            self._cut(outbox.connection)
            return
        if self._is_silent():
            return
        known = "manifests" in outbox.session.streams
        found = answer(self.view, outbox.session, message)
        self.requests[found.command] += 1
        if found.command == "ledger" and isinstance(found.request.get("ledger_index"), int):
            self.asked[found.request["ledger_index"]] += 1
        text = serialised(self.view, self._draws, found)
        if self.faults.slow:
            delay = 2 * self.faults.slow * self._draws.number(self.faults, "slow")
            self._spawn(self._send_later(outbox.connection, text, delay))
        else:
            await outbox.connection.send(text, text=True)
        if self._draws.happens(self.faults, "answer_twice"):
            await outbox.connection.send(text, text=True)
        if not known and "manifests" in outbox.session.streams and self._quorum:
            for validator in self._quorum.validators:
                outbox.put(orjson.dumps(manifest_message(validator)))

    async def _send_later(self, connection: ServerConnection, text: bytes, delay: float) -> None:
        await asyncio.sleep(delay)
        with contextlib.suppress(ConnectionClosed):
            await connection.send(text, text=True)

    # Weather.

    def silence(self, seconds: float) -> None:
        """From now on for so long nothing is answered or sent, and what should have been is lost."""
        self._silent_until = time.monotonic() + seconds

    def drop_connections(self) -> None:
        """Cuts every connection in mid-word."""
        for connection in list(self._open):
            self._cut(connection)

    def _is_silent(self) -> bool:
        now = time.monotonic()
        if now < self._silent_until:
            return True
        every = self.faults.silence_every
        if not self.faults.silence:
            return False
        if not 0 < self._until_silence <= every:
            self._until_silence = every
        self._until_silence -= 1
        if self._until_silence == 0:
            self.silence(self.faults.silence)
        return self._until_silence == 0

    def _must_cut(self) -> bool:
        every = self.faults.disconnect
        if not every:
            self._until_cut = 0
            return False
        if not 0 < self._until_cut <= 2 * every:
            self._until_cut = 1 + int(2 * every * self._draws.number(self.faults, "disconnect"))
        self._until_cut -= 1
        return self._until_cut == 0

    def _cut(self, connection: ServerConnection) -> None:
        """Half of the cuts are a reset, half a close without a status."""
        if self._draws.number(self.faults, "cut") < 0.5:
            connection.transport.abort()
        else:
            self._spawn(close_without_status(connection))

    def _spawn(self, job: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def close_without_status(connection: ServerConnection) -> None:
    """A close frame with nothing in it: the other side sees 1005."""
    with contextlib.suppress(ConnectionClosed):
        async with connection.send_context():
            connection.protocol.send_close()
