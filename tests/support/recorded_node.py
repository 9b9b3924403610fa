"""A recorded node without its server, for tests of what it answers; and the recorded answers of a real one."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection

from pipeline.recorded_node.answers import answer
from pipeline.recorded_node.faults import Draws, Faults
from pipeline.recorded_node.forge import serialised
from pipeline.recorded_node.server_commands import Session
from pipeline.recorded_node.state import StateHistory
from pipeline.recorded_node.tape import Tape, recorded_ledgers
from pipeline.recorded_node.validators import make_quorum
from pipeline.recorded_node.view import View
from tests.support.truth import RECORDED, ROOT

Json = dict[str, Any]

DATA = ROOT / "tests/data/xrpl-standalone"
SHARED = ROOT.parent / "shared/data"


def data(name: str) -> Any:
    """A document of tests/data/xrpl-standalone."""
    return json.loads(gzip.decompress((DATA / name).read_bytes()))


@lru_cache(maxsize=1)
def standalone_tape() -> Tape:
    """The recorded stand-alone chain, shared by all tests of a process."""
    return Tape(recorded_ledgers([RECORDED]))


@lru_cache(maxsize=1)
def standalone_states() -> StateHistory:
    """Its states."""
    return StateHistory(standalone_tape())


class PureNode:
    """Request in, answer out, without a connection."""

    def __init__(
        self,
        faults: Faults | None = None,
        last: int | None = None,
        sources: Iterable[Path | str | Mapping[str, Any]] | None = None,
        validators: int = 0,
        network_id: int | None = None,
        snapshot: tuple[int, Iterable[Mapping[str, Any]]] | None = None,
    ) -> None:
        whole = sources is None and snapshot is None
        tape = standalone_tape() if sources is None else Tape(recorded_ledgers(sources))
        states = standalone_states() if whole else StateHistory(tape, snapshot)
        self.time = 1_800_000_000.0
        self.session, self.draws = Session(), Draws()
        self.view = View(
            tape, states, faults or Faults(), last or tape.order[-1], lambda: self.time, network_id,
            quorum=make_quorum(validators, 7) if validators else None, started_at=self.time - 10,
        )  # fmt: skip

    def ask(self, request: Any) -> Json:
        """The parsed answer to a request, given as an object or as it goes over the wire."""
        message = request if isinstance(request, (str, bytes)) else orjson.dumps(request)
        found: Json = orjson.loads(answer(self.view, self.session, message).serialised())
        return found

    def weathered(self, request: Any) -> bytes:
        """The answer as the faults have it."""
        return serialised(self.view, self.draws, answer(self.view, self.session, orjson.dumps(request)))

    def result(self, command: str, **params: Any) -> Json:
        """`result` of a request in api_version 2; AssertionError for an error answer."""
        found = self.ask({"id": 1, "command": command, "api_version": 2} | params)
        assert found["status"] == "success", found
        shown: Json = found["result"]
        return shown


PATIENCE_S = 100


def run(test: Callable[[], Awaitable[None]]) -> None:
    """One asynchronous test, ended by a limit rather than hanging."""
    asyncio.run(asyncio.wait_for(test(), PATIENCE_S * 2))


async def next_message(client: ClientConnection) -> Json:
    found: Json = json.loads(await asyncio.wait_for(client.recv(), PATIENCE_S))
    return found


async def ask(client: ClientConnection, **request: Any) -> Json:
    """Answer to a request on a connection without subscriptions."""
    await client.send(json.dumps({"id": 1, "api_version": 2} | request))
    return await next_message(client)
