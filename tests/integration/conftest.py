"""What integration tests share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from sinks.tigerbeetle import connect
from tests.support.tigerbeetle import tigerbeetle_server


@pytest.fixture
def tigerbeetle(tmp_path: Path) -> Iterator[str]:
    """Address of a fresh TigerBeetle; skips where no server is on PATH."""
    binary = shutil.which("tigerbeetle")
    if binary is None:
        pytest.skip("two workers need books on a server: no `tigerbeetle` on PATH")
    with tigerbeetle_server(binary, tmp_path) as address:
        connect(address, timeout_s=60).close()  # it maps some gigabytes before it answers
        yield address
