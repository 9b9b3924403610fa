"""A fresh TigerBeetle server of one replica."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.supervisor import free_port


@contextmanager
def tigerbeetle_server(binary: str, folder: Path, cache: str = "256MiB") -> Iterator[str]:
    """Its address; it may not answer yet. Its data are in `folder` and go with it."""
    file, address = folder / "0_0.tigerbeetle", f"127.0.0.1:{free_port()}"
    identity = ["--cluster=0", "--replica=0", "--replica-count=1"]
    subprocess.run([binary, "format", *identity, file], check=True, capture_output=True)
    start = [binary, "start", f"--addresses={address}", f"--cache-grid={cache}", file]
    with (folder / "tigerbeetle.log").open("wb") as log:
        server = subprocess.Popen(start, stdout=log, stderr=log)
    try:
        yield address
    finally:
        server.kill()
        server.wait()
        file.unlink()
