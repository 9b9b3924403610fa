"""The read API over real HTTP beside a history that is written, and the history role that serves chDB's port."""

import asyncio
import socket
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from pipeline.agents.history import HistoryRole
from pipeline.agents.role import NotFree
from pipeline.api.app import make_fastapi
from pipeline.api.reads import Reads, read_router
from pipeline.supervisor import free_port
from schemas.codec import local_codec
from schemas.loader import schemas
from schemas.registry import local_registry
from sinks.clickhouse import ClickHouseHistory
from sinks.clickhouse_client import Place
from tests.support.read_scene import case, play, registered
from tests.support.read_world import world

READERS, ASKED = 8, 15


@contextmanager
def serving(url: str) -> Iterator[str]:
    """The endpoints by uvicorn in a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    app = make_fastapi([read_router(Reads(url))])
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(timeout=120)


def test_readers_beside_a_writer(tmp_path: Path) -> None:
    """Every answer is of one moment: a version never falls, and an asset has one owner or none of the two."""
    with world(tmp_path) as made, serving(made.port.url) as base:
        play(made)
        faults = list[BaseException]()

        def read() -> None:
            try:
                seen = 0
                with httpx.Client(base_url=base, timeout=120) as client:
                    for _ in range(ASKED):
                        found = client.get("/v1/assets/card-3").raise_for_status().json()
                        assert found["version"] >= seen and found["owner_user_id"] in ("alice", "bob")
                        seen = found["version"]
                        for path in (
                            "/v1/assets?owner=bob",
                            "/v1/assets/card-3/transactions",
                            "/v1/users/bob/assets",
                        ):
                            assert client.get(path).status_code == 200
            except BaseException as fault:
                faults.append(fault)

        readers = [threading.Thread(target=read) for _ in range(READERS)]
        for reader in readers:
            reader.start()
        owners, told = ("bob", "alice"), 0
        while any(reader.is_alive() for reader in readers) and told < 200:
            giver, getter = owners[told % 2], owners[(told + 1) % 2]
            made.tell("assets", [
                case("TRANSFERRED", "card-3", 20 + told // 60, {"to_user_id": getter}, user_id=giver),
                *registered(f"new-{told}", 20),
            ])  # fmt: skip
            told += 1
        for reader in readers:
            reader.join()
        assert not faults, faults
        with httpx.Client(base_url=base) as client:
            assert client.get("/v1/assets/card-3").json()["owner_user_id"] == owners[told % 2]
            found = client.get("/v1/assets?owner=alice&limit=500").json()["assets"]
            assert sum(one["asset_id"].startswith("new-") for one in found) == told


def role(folder: Path, port: int) -> HistoryRole:
    def opened() -> ClickHouseHistory:
        history = ClickHouseHistory(Place(path=folder), schemas(), local_codec(), local_registry())
        history.open()
        return history

    return HistoryRole(opened, local_codec(), (folder, port))


def test_the_history_role_serves_its_folder(tmp_path: Path) -> None:
    """From open to close, on the port of the setting; a port that is taken is said and lets the folder go."""
    port, folder = free_port(), tmp_path / "clickhouse"
    with socket.create_server(("127.0.0.1", port)), pytest.raises(NotFree, match="TIDEBOOK_CLICKHOUSE_PORT"):
        asyncio.run(role(folder, port).open(None, {}))

    async def life() -> bytes:
        serving_role = role(folder, port)
        await serving_role.open(None, {})
        url = f"http://127.0.0.1:{port}/?query=SELECT+count()+FROM+asset_state_versions"
        answer = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=120).read())
        await serving_role.close()
        return answer

    assert asyncio.run(life()) == b"0\n"
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
