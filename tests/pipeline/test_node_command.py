"""`tidebook node`: serves until it is stopped, one clear line for what it can't do."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from pipeline.node_command import serve_node
from tests.support.truth import RECORDED, ROOT

CALL = "import sys; from pathlib import Path; from pipeline.node_command import serve_node; sys.exit(serve_node({}))"


def test_serves_until_it_is_stopped() -> None:
    call = CALL.format(f"[Path({str(RECORDED)!r})], start=5, validators=2, faults=['missing=3']")
    with subprocess.Popen(
        [sys.executable, "-c", call], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout and process.stderr
        url = process.stdout.readline().strip()
        assert url.startswith("ws://127.0.0.1:")
        info = asyncio.run(server_info(url))
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0
        told = process.stderr.read().splitlines()
    assert info["complete_ledgers"] == "1-2,4-5"
    assert told[0] == "ledgers 1-353, 353 recorded, validated up to 5"
    assert [line.split()[0] for line in told[1:]] == ["validator", "validator"]


async def server_info(url: str) -> dict[str, object]:
    async with connect(url) as client:
        await client.send('{"id": 1, "command": "server_info"}')
        found: dict[str, object] = json.loads(await client.recv())["result"]["info"]
        return found


def test_what_it_can_not_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for status, line, call in (
            (1, "no such file or directory", lambda: serve_node([tmp_path / "absent"])),
            (1, f"--port {port}: can't listen", lambda: serve_node([RECORDED], port=port)),
            (1, "--start 0", lambda: serve_node([RECORDED], start=0)),
            (2, "--fault nosuch", lambda: serve_node([RECORDED], faults=["nosuch"])),
        ):
            assert call() == status
            out, err = capsys.readouterr()
            assert line in err and err.count("\n") == 1 and err.startswith("tidebook: ") and not out
