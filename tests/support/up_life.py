"""`tidebook up` as a test drives it: beside a recorded node that shows as much of its chain as it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from pipeline.recorded_node import RecordedNode
from pipeline.supervisor import free_port
from sinks.application_store import ApplicationReader
from tests.support.demo import tidebook
from tests.support.truth import RECORDED

WAIT_S, ANSWER_S = 240.0, 60.0  # how long a machine with much else to do may take
ASSETS = "assets.activity.v1"


class Node:
    """A recorded node in a thread of its own, which shows as much of its chain as it is told to."""

    def __init__(self, last: int) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="recorded-node", daemon=True).start()
        self._node = RecordedNode([RECORDED], start=last)
        self._run(self._node.start())
        self.url = self._node.url

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def advance_to(self, ledger: int) -> None:
        async def move() -> None:
            self._node.advance(ledger - self._node.last)

        self._run(move())

    def stop(self) -> None:
        self._run(self._node.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)


class Life:
    """`tidebook up` on a data directory, until it is ended."""

    def __init__(self, folder: Path, node: Node, apps: str) -> None:
        """`apps` is the text of TIDEBOOK_APPS_CONFIG's file."""
        self.folder, self.data_dir = folder, folder / "data"
        self.config = folder / "apps.toml"
        self.config.write_text(apps)
        self._node, self._key = node, ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def key(self) -> str:
        """Of a service that may write everything, and root."""
        if not self._key:
            self._key = self.make_key("tester", "", "service", "root", "people:write", "people:read")
        return self._key

    def make_key(self, client: str, user: str, *scopes: str) -> str:
        """A new key's text."""
        wanted = [word for scope in scopes for word in ("--scope", scope)]
        made = tidebook("keys", "create", "--client", client, "--user", user, *wanted, "--rate", "10000", "--json",
                        "--data-dir", self.data_dir)  # fmt: skip
        assert made.status == 0, made.err
        return str(made.rows[0]["key"])

    def begin(self) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("TIDEBOOK_")}
        env |= {
            "TIDEBOOK_API_PORT": str(free_port()), "TIDEBOOK_APPS_CONFIG": str(self.config),
            "TIDEBOOK_XRPL_URLS": self._node.url,
        }  # fmt: skip
        command = [
            sys.executable,
            "-m",
            "pipeline.cli",
            "up",
            "--from",
            "1",
            "--data-dir",
            str(self.data_dir),
        ]
        with (self.folder / "up.log").open("ab") as out:
            self._process = subprocess.Popen(command, env=env, stdout=out, stderr=out)
        told = self.until(self._told, "up.json")
        self.api, self.clickhouse = told["api"], told["clickhouse_url"]
        self.until(self._healthy, "serve's health")
        self.until(self._asked, "the history role's port")

    def _told(self) -> dict[str, Any]:
        """up.json of this life; one that was killed leaves its own."""
        with contextlib.suppress(OSError, ValueError):
            told = json.loads((self.data_dir / "up.json").read_text())
            assert self._process is not None
            return told if told["pid"] == self._process.pid else {}
        return {}

    def _healthy(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.api}/health", timeout=ANSWER_S).status_code == 200
        return False

    def _asked(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.clickhouse}/ping", timeout=ANSWER_S).status_code == 200
        return False

    def until(self, met: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + WAIT_S
        while not (found := met()):
            assert self._process is not None
            assert self._process.poll() is None, f"{what}: up has ended: {self.said()}"
            assert time.monotonic() < deadline, f"{what}: {self.said()}"
            time.sleep(0.1)
        return found

    def said(self) -> str:
        texts = [
            path.read_text()[-1500:] for path in [self.folder / "up.log", *(self.data_dir / "logs").glob("*")]
        ]
        return "\n".join(texts)

    def children(self, *arguments: str) -> list[int]:
        """Processes of ours that run `tidebook <arguments>`."""
        assert self._process is not None
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parent = int(status.read_text().rpartition(")")[2].split()[1])
                words = (status.parent / "cmdline").read_bytes().split(b"\0")
                if (
                    parent == self._process.pid
                    and [a.encode() for a in arguments] == words[3 : 3 + len(arguments)]
                ):
                    found.append(int(status.parent.name))
        return found

    def kill(self, *arguments: str) -> None:
        """SIGKILL a child; it must come again."""
        (pid,) = self.children(*arguments)
        os.kill(pid, signal.SIGKILL)
        self.until(lambda: self.children(*arguments) not in ([], [pid]), f"{arguments} again")

    def end(self, number: int) -> int:
        """End `up` by a signal; its status. Its children end with it."""
        assert self._process is not None
        self._process.send_signal(number)
        status = self._process.wait(WAIT_S)
        self._process = None
        return status

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def post(self, key: str, body: dict[str, Any], domain: str = "assets", refusable: bool = False) -> str:
        """One event, again and again until it is accepted, as a client does; its id. Of one that is `refusable` "",
        where the intake refuses it: it does where the states are known already."""
        body = {"idempotency_key": key, **body}
        headers = {"Authorization": f"Bearer {self.key}"}
        deadline = time.monotonic() + WAIT_S
        while True:
            with contextlib.suppress(httpx.HTTPError):
                answer = httpx.post(
                    f"{self.api}/v1/{domain}/events", json=body, headers=headers, timeout=ANSWER_S
                )
                if refusable and answer.status_code == 409:
                    return ""
                assert answer.status_code in (202, 503), answer.text
                if answer.status_code == 202:
                    return str(answer.json()["event_id"])
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.1)

    def get(self, path: str, key: str | None = None, **parameters: str) -> httpx.Response:
        """A reading request; with the tester's key by default, without any for "". Again where it is too much now."""
        text = self.key if key is None else key
        headers = {"Authorization": f"Bearer {text}"} if text else {}
        return self._answer(f"{self.api}{path}", parameters, headers)

    def _answer(self, url: str, parameters: dict[str, str], headers: dict[str, str]) -> httpx.Response:
        deadline = time.monotonic() + WAIT_S
        while True:
            answer = httpx.get(url, params=parameters, headers=headers, timeout=ANSWER_S)
            if answer.status_code != 503 or time.monotonic() > deadline:
                return answer
            time.sleep(0.5)

    def state(self, kind: str, id: str, topic: str = ASSETS) -> Any:
        with self.reader(topic) as reader:
            return reader.get(kind, id) if reader else None

    @contextlib.contextmanager
    def reader(self, topic: str = ASSETS) -> Iterator[ApplicationReader | None]:
        try:
            reader = ApplicationReader(self.data_dir / "applications" / f"{topic}.db")
        except FileNotFoundError:
            yield None
            return
        try:
            yield reader
        finally:
            reader.close()

    def decided(self, ids: list[str], topic: str = ASSETS) -> dict[str, bool | None]:
        with self.reader(topic) as reader:
            return {id: reader.decided(id) if reader else None for id in ids}

    def states(self) -> dict[tuple[str, str], Any]:
        """All states of the assets' topic."""
        kinds = ("user", "app", "asset", "token", "observed", "address", "treasury_tx", "unique")
        with self.reader() as reader:
            assert reader is not None
            return {(kind, id): value for kind in kinds for id, value in reader.all(kind)}

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Of the history while it is being written, over its own port."""
        asked = {
            "query": sql,
            "default_format": "JSONEachRow",
            "output_format_json_quote_64bit_integers": "0",
        }
        answer = self._answer(self.clickhouse, asked, {})
        assert answer.status_code == 200, answer.text
        return [json.loads(line) for line in answer.text.splitlines()]

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Of the history, once nothing runs."""
        ended = tidebook("query", sql, "--json", "--data-dir", self.data_dir)
        assert ended.status == 0, ended.err
        return ended.rows
