"""`tidebook node FILE…`: serve recorded ledgers as an XRPL node does, until Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from pipeline.recorded_node import FaultError, RecordedNode, TapeError, parse_faults


def serve_node(
    files: list[Path],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    pace: float = 0.0,
    start: int | None = None,
    faults: list[str] | None = None,
    seed: int = 0,
    validators: int = 0,
    network_id: int | None = None,
) -> int:
    """Serve; prints the ws:// URL, then the validators' keys. 0 when stopped; 1, told in one line, if it can't.

    `faults`: texts NAME or NAME=VALUE (see `pipeline.recorded_node.fault_names`); 2 for a bad one.
    """
    try:
        weather = parse_faults(faults or [], seed)
    except FaultError as error:
        sys.stderr.write(f"tidebook: {error}\n")
        return 2
    node = RecordedNode(
        files, host=host, port=port, pace=pace, start=start, validators=validators, seed=seed, faults=weather,
        network_id=network_id,
    )  # fmt: skip
    try:
        asyncio.run(_until_stopped(node))
    except TapeError as error:
        sys.stderr.write(f"tidebook: {error}\n")
        return 1
    except OSError as error:
        what = error.strerror or error
        sys.stderr.write(f"tidebook: --port {port}: can't listen on {host}:{port}: {what}\n")
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


async def _until_stopped(node: RecordedNode) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with node:
        tape = node.view.tape
        print(node.url, flush=True)
        shown = f"ledgers {tape.order[0]}-{tape.order[-1]}, {len(tape.order)} recorded, validated up to {node.last}"
        print(shown, file=sys.stderr, flush=True)
        for key in node.validator_keys:
            print(f"validator {key}", file=sys.stderr, flush=True)
        await stopped.wait()
