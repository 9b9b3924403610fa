"""A real XRPL node of our own for tests, in stand-alone mode: the `rippled` or `xrpld` that is on PATH.

A ledger closes when `accept` says so. What shapes this harness is how the node keeps its data:
- `-a --start` makes a chain from genesis, but its ledger index (SQLite) is temporary then; only the node store
  is on disk. So the first restart is by the hash of the newest ledger, later ones load what SQLite has. The
  ledgers before the first restart are no longer told in `complete_ledgers`, ledgers 1 and 2 no longer given.
- SIGKILL soon after a ledger closed loses the newest ledgers of the node store while SQLite has them: the node
  dies as it loads. `start` then goes back until it runs; what follows is closed anew, with other hashes.
- In stand-alone mode a node is never unsynced. `start_unsynced` runs it in network mode without a peer, on the
  same ports: every request for a ledger is answered `notSynced`.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from pipeline.supervisor import end_with_parent, free_port

Json = dict[str, Any]
NAMES: Final = ("rippled", "xrpld")
START_S: Final = 60.0
LOOK_BACK: Final = 20  # ledgers that a killed node may have lost
_TABLES: Final = {"ledger.db": ("Ledgers",), "transaction.db": ("Transactions", "AccountTransactions")}


class NodeFailed(RuntimeError):
    """The node does not run; the message says why and where its log is."""


def node_binary() -> str | None:
    """The node that is on PATH."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


needs_node = pytest.mark.skipif(
    node_binary() is None, reason=f"no {' or '.join(NAMES)} on PATH: a live XRPL node is needed"
)


class LiveNode:
    """One node with its own directory and ports. `start`, `stop`, `kill`, again and again."""

    def __init__(self, directory: Path, amendments: Iterable[str] = (), network_id: int = 0) -> None:
        self.directory, self.network_id = directory, network_id
        self.ws_port, self.rpc_port = free_port(), free_port()
        self.url = f"ws://127.0.0.1:{self.ws_port}"
        self._amendments = list(amendments)
        self._process: asyncio.subprocess.Process | None = None
        self._newest = ""  # hash of the newest ledger, while SQLite does not know it
        self._closed = 0  # index of the newest ledger that was closed
        self._http = httpx.AsyncClient(trust_env=False, timeout=30)

    async def start(self, back: int = 0) -> list[int]:
        """A new chain, or on with the old one; the ledgers that were lost. Raises NodeFailed.

        `back`: at least so many ledgers are lost, as by a kill that came before they were on disk.
        """
        if self._newest:
            await self._run("--ledger", self._newest)
            self._newest = ""
            return []
        if not (self.directory / "db/ledger.db").exists():
            await self._run("--start")
            self._newest = (await self._validated())["ledger_hash"]
            return []
        if back:
            await asyncio.to_thread(self._forget, self._closed - back)
        await self._load(back > 0)
        loaded = (await self._validated())["ledger_index"]
        lost = list(range(loaded + 1, self._closed + 1))
        self._closed = loaded
        return lost

    async def start_unsynced(self) -> None:
        """On our ports a node that has no validated ledger. Raises NodeFailed."""
        await self._run(where=self.directory / "unsynced", until="disconnected")

    async def accept(self) -> Json:
        """Close a ledger; its header. Raises NodeFailed."""
        await self.call("ledger_accept")
        header = await self._validated()
        self._closed = header["ledger_index"]
        if self._newest:
            self._newest = header["ledger_hash"]
        return header

    async def stop(self) -> None:
        """A clean end; nothing is lost."""
        if self._process is None:
            return
        with contextlib.suppress(httpx.HTTPError):
            await self.call("stop")
        await asyncio.wait_for(self._process.wait(), 60)
        self._process = None

    async def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            self._process = None

    async def close(self) -> None:
        await self.kill()
        await self._http.aclose()

    async def call(self, method: str, **fields: Any) -> Json:
        """The result of an admin's request over HTTP. Raises httpx.HTTPError."""
        body = {"method": method, "params": [fields]}
        answer = await self._http.post(f"http://127.0.0.1:{self.rpc_port}/", json=body)
        result: Json = answer.json()["result"]
        return result

    async def state(self, ledger_index: int) -> list[Json]:
        """Every entry of a ledger's state: all pages of `ledger_data`, each pinned to that ledger."""
        entries: list[Json] = []
        marker: Json = {}
        while True:
            page = await self.call("ledger_data", ledger_index=ledger_index, limit=2048, **marker)
            assert page.get("ledger_index") == ledger_index, page
            entries += page["state"]
            if "marker" not in page:
                return entries
            marker = {"marker": page["marker"]}

    async def _validated(self) -> Json:
        answer = await self.call("ledger", ledger_index="validated", api_version=2)
        return {**answer["ledger"], "ledger_hash": answer["ledger_hash"]}

    async def _load(self, stale: bool) -> None:
        """On from the newest ledger that can be loaded: SQLite may know newer ones, or have lost some itself."""
        first, newest = await asyncio.to_thread(self._known)
        for last in range(newest, max(first, newest - LOOK_BACK), -1):
            which = ("--load",) if last == newest and not stale else ("--ledger", str(last))
            try:
                await self._run(*which, "--force_ledger_present_range", f"{first},{last}")
            except NodeFailed:
                await asyncio.to_thread(self._forget, last - 1)
                continue
            return
        raise NodeFailed(f"no ledger of {first}-{newest} can be loaded; see {self.directory}")

    def _known(self) -> tuple[int, int]:
        with contextlib.closing(sqlite3.connect(self.directory / "db/ledger.db")) as db:
            first, last = db.execute("SELECT min(LedgerSeq), max(LedgerSeq) FROM Ledgers").fetchone()
            return first, last

    def _forget(self, last: int) -> None:
        """Remove what SQLite has above a ledger, or a later start takes it for the newest."""
        for name, tables in _TABLES.items():
            with contextlib.closing(sqlite3.connect(self.directory / "db" / name)) as db, db:
                for table in tables:
                    db.execute(f"DELETE FROM {table} WHERE LedgerSeq > ?", (last,))

    async def _run(self, *arguments: str, where: Path | None = None, until: str = "full") -> None:
        directory = where or self.directory
        config = await asyncio.to_thread(self._configure, directory, where is None)
        mode = ("-a",) if where is None else ()
        with (directory / "out.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                str(node_binary()), *mode, *arguments, "--silent", "--conf", str(config),
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=end_with_parent,
                start_new_session=True, cwd=directory,
            )  # fmt: skip
        try:
            async with asyncio.timeout(START_S):
                await self._serves(until)
        except TimeoutError:
            await self.kill()
            raise NodeFailed(f"the node is not {until} within {START_S:g} s; see {directory}") from None

    async def _serves(self, state: str) -> None:
        assert self._process is not None
        while self._process.returncode is None:
            with contextlib.suppress(httpx.HTTPError, KeyError):
                if (await self.call("server_info"))["info"]["server_state"] == state:
                    return
            await asyncio.sleep(0.05)
        raise NodeFailed(f"the node ended with status {self._process.returncode}; see {self.directory}")

    def _configure(self, directory: Path, standalone: bool) -> Path:
        (directory / "db").mkdir(parents=True, exist_ok=True)
        sections = {
            "server": "port_ws\nport_rpc",
            "port_ws": f"ip = 127.0.0.1\nport = {self.ws_port}\nprotocol = ws\nadmin = 127.0.0.1",
            "port_rpc": f"ip = 127.0.0.1\nport = {self.rpc_port}\nprotocol = http\nadmin = 127.0.0.1",
            "node_size": "tiny",
            "node_db": f"type = NuDB\npath = {directory}/db/nudb",
            "database_path": f"{directory}/db",
            "debug_logfile": f"{directory}/debug.log",
            "rpc_startup": '{ "command": "log_level", "severity": "warning" }',
            "ledger_history": "full",
            "ssl_verify": "0",
            "network_id": str(self.network_id),
            **(
                {"amendments": "\n".join(self._amendments)}
                if standalone
                else {"ips_fixed": "127.0.0.1 1", "peer_private": "1"}  # nobody listens there: no peers
            ),
        }
        path = directory / "node.cfg"
        path.write_text("\n".join(f"[{name}]\n{value}\n" for name, value in sections.items()))
        return path


_AMENDMENTS: dict[str, list[str]] = {}


async def amendments(directory: Path) -> list[str]:
    """What the node on PATH can do, as "HASH NAME" lines for its config: asked from itself, once a process."""
    binary = str(node_binary())
    if binary not in _AMENDMENTS:
        node = LiveNode(directory)
        try:
            await node.start()
            features = (await node.call("feature"))["features"]
        finally:
            await node.close()
        _AMENDMENTS[binary] = sorted(
            f"{key} {told['name']}"
            for key, told in features.items()
            if told["supported"] and told.get("vetoed") != "Obsolete"
        )
    return _AMENDMENTS[binary]


@asynccontextmanager
async def live_node(directory: Path, network_id: int = 0) -> AsyncIterator[LiveNode]:
    """A node with a chain of its own from genesis, every amendment that it supports enabled."""
    node = LiveNode(directory / "node", await amendments(directory / "asked"), network_id)
    try:
        await node.start()
        yield node
    finally:
        await node.close()
