"""What every ingest command does besides: tells how far it is, ends when it is told to, refuses a bad broker."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import orjson

from pipeline.ingest.publish import Published
from pipeline.metrics import NodeFigures
from pipeline.settings import Settings
from topics.broker import bootstrap_servers

TELL_S = 0.1  # to the supervisor
PRINT_S = 5.0  # to a person
UNHEALTHY_S = 60.0  # behind the nodes and nothing published for so long


class Telling:
    """Tells how far an ingest is: JSON lines to the supervisor, a line now and then to a person."""

    def __init__(self, supervised: bool) -> None:
        self._supervised = supervised
        self._started = time.monotonic()
        self._told = 0.0

    def tell(
        self, state: Published, line: Callable[[], str] | None = None, ended: bool = False, **more: Any
    ) -> None:
        """`line` is what a person is told, if anything."""
        now = time.monotonic()
        if not ended and now - self._told < (TELL_S if self._supervised else PRINT_S):
            return
        self._told = now
        if self._supervised:
            sys.stdout.buffer.write(
                orjson.dumps({**status_of(state, now - self._started), "ended": ended, **more}) + b"\n"
            )
            sys.stdout.buffer.flush()
        elif line is not None:
            print(line(), flush=True)

    def seconds(self) -> float:
        return time.monotonic() - self._started


def status_of(state: Published, seconds: float) -> dict[str, Any]:
    """What the supervisor is told."""
    return {
        "role": "ingest",
        "produced": {t: {str(p): o for p, o in parts.items()} for t, parts in state.next_offsets.items()},
        "counts": {
            "ledgers": state.ledgers,
            "transactions": state.transactions,
            "quarantined": state.quarantined,
        },
        "block": state.block,
        "verified_up_to": state.verified_up_to,
        "seconds": seconds,
        "gaps": state.gaps,
        "open_gap": state.open_gap,
        "stopped": state.stopped,
        "stopped_reason": state.stopped_reason,
    }


async def until_told(work: Coroutine[Any, Any, Any]) -> None:
    """Run until it ends by itself or by SIGTERM or SIGINT."""
    task = asyncio.ensure_future(work)
    told = False

    def stop() -> None:
        nonlocal told
        told = True
        task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        await task
    except asyncio.CancelledError:
        if not told:
            raise


def no_broker(settings: Settings) -> str:
    """What is wrong with the broker's setting, in one line; "" where nothing is."""
    if not settings.kafka_url:
        return "setting TIDEBOOK_KAFKA_URL is empty: the ingest needs a broker (`tidebook up` starts one)"
    try:
        bootstrap_servers(settings.kafka_url)
    except ValueError as error:
        return f"setting {error}"
    return ""


def node_figures(nodes: Iterable[Any]) -> list[NodeFigures]:
    """The nodes of an ingest, of either kind, for Prometheus."""
    return [
        NodeFigures(
            node.name, node.usable, 1 / (1 + node.state.failures + node.state.distrusted) if node.usable else 0.0,
            node.state.requests, dict(node.state.errors),
        )
        for node in nodes
    ]  # fmt: skip


def wrong(message: str, status: int) -> int:
    sys.stderr.write(f"tidebook: {message}\n")
    return status
