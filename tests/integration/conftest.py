"""What integration tests share."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.supervisor import free_port
from sinks.tigerbeetle import connect


@pytest.fixture
def tigerbeetle(tmp_path: Path) -> Iterator[str]:
    """Address of a fresh TigerBeetle; skips where no server is on PATH."""
    binary = shutil.which("tigerbeetle")
    if binary is None:
        pytest.skip("two workers need books on a server: no `tigerbeetle` on PATH")
    file, address = tmp_path / "0_0.tigerbeetle", f"127.0.0.1:{free_port()}"
    subprocess.run(
        [binary, "format", "--cluster=0", "--replica=0", "--replica-count=1", file],
        check=True, capture_output=True,
    )  # fmt: skip
    with (tmp_path / "tigerbeetle.log").open("wb") as log:
        server = subprocess.Popen(
            [binary, "start", f"--addresses={address}", "--cache-grid=256MiB", file], stdout=log, stderr=log
        )
    try:
        connect(address, timeout_s=60).close()  # it maps some gigabytes before it answers
        yield address
    finally:
        server.kill()
        server.wait()
