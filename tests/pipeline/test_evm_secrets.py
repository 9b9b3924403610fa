"""Over real connections: odd bodies, garbage, pages and redirects end in one line, which shows no secret of a URL."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import aiohttp
import pytest
from aiohttp import web

from pipeline.ingest.evm.errors import (
    NodeError,
    NotFound,
    Unreachable,
    error_of,
    plain,
    seconds_of,
    secrets_of,
    trouble,
)
from pipeline.ingest.evm.nodes import Nodes, NoNode
from tests.support.evm_nodes_help import hasten, pool, until
from tests.support.evm_odd import ODD, SECRETS, URL


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch)


async def serve(respond: Callable[[Any], web.Response]) -> tuple[web.AppRunner, int]:
    """A server that answers each body so; its port."""

    async def post(request: web.Request) -> web.Response:
        return respond(json.loads(await request.read()))

    app = web.Application()
    app.router.add_post("/{path:.*}", post)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, runner.addresses[0][1]


def secret_url(port: int, host: str = "127.0.0.1", scheme: str = "http") -> str:
    return URL.replace("127.0.0.1:1", f"{host}:{port}").replace("http", scheme)


async def refused(nodes: Nodes) -> str:
    """What is said of nodes that can't be asked, once each has said why."""
    await until(nodes, lambda: all(node.unusable or node.state.last_error for node in nodes.nodes))
    with pytest.raises(NoNode) as caught:
        await nodes.ready(0.05)
    return str(caught.value)


def assert_plain(text: str) -> None:
    assert text and text.isprintable() and len(text) < 700
    assert not [secret for secret in SECRETS if secret.lower() in text.lower()], text


def as_json(told: Any) -> web.Response:
    return web.Response(body=json.dumps(told).encode(), content_type="application/json")


BODIES: Final = [
    *ODD, [{"id": one} for one in ([], {}, 1.5)], [{"id": [], "result": None}], {"id": [], "result": "0x7a69"},
    {"error": {"code": [], "message": {}}}, {"id": None, "error": [1]},
    {"id": None, "error": {"code": True, "message": 5}},
    {"id": None, "error": {"code": -32000, "message": f"project {SECRETS[0]}\nTraceback\x1b[31m of /v2/{SECRETS[0]}"}},
    {"id": None, "error": f"{SECRETS[1]}" * 50},
]  # fmt: skip


def test_odd_bodies() -> None:
    async def scene() -> None:
        body: Any = None
        runner, port = await serve(lambda _: as_json(body))
        nodes = pool(secret_url(port))
        node = nodes.nodes[0]
        await node._open()
        for body in BODIES:
            node.state.connected = True
            for asking in (
                node.ask("eth_chainId"),
                node.batch([("eth_chainId", ()), ("eth_blockNumber", ())]),
            ):
                try:
                    found = await asking
                except NodeError as error:
                    assert_plain(str(error))
                    continue
                finally:
                    node.state.connected = True
                assert all(isinstance(one, NodeError) for one in found), (body, found)
        await node._close()
        await runner.cleanup()

    asyncio.run(scene())


@pytest.mark.parametrize("status", [200, 301, 302, 307, 308, 400, 401, 404, 500, 503])
def test_pages_and_redirects_show_no_key(status: int) -> None:
    """Neither what a proxy's page echoes nor where it sends us."""
    elsewhere = f"http://127.0.0.1:1/v2/{SECRETS[0]}"

    async def scene() -> None:
        runner, port = await serve(
            lambda _: web.Response(
                status=status, text=f"<a>{SECRETS[0]} {'x' * 50}", headers={"Location": elsewhere}
            )
        )
        async with pool(secret_url(port)) as nodes:
            said = await refused(nodes)
        assert_plain(said)
        assert str(port) in said and (status == 200 or str(status) in said)
        await runner.cleanup()

    asyncio.run(scene())


@pytest.mark.parametrize("scheme", ["http", "ws"])
@pytest.mark.parametrize("host", ["127.0.0.1", "LOCALHOST"])
def test_garbage_shows_no_key(scheme: str, host: str) -> None:
    """The client's library would show the URL as it writes it itself."""

    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.read(4000)
        writer.write(b"HTTP/9 garbage " + request.split()[1] + b"\r\n\r\n")
        await writer.drain()
        writer.close()

    async def scene() -> None:
        server = await asyncio.start_server(garbage, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with pool(secret_url(port, host, scheme)) as nodes:
            assert_plain(await refused(nodes))
        node = pool(secret_url(port, host, scheme)).nodes[0]
        with pytest.raises(Unreachable) as alone:  # as whoever asks sees it
            await node._open()
            await node._ask("eth_chainId", ())
        assert_plain(str(alone.value))
        await node._close()
        server.close()

    asyncio.run(scene())


def test_nobody_there_names_the_host_and_no_key() -> None:
    async def scene() -> None:
        async with pool(secret_url(1), secret_url(1, scheme="ws")) as nodes:
            said = await refused(nodes)
        assert_plain(said)
        assert "127.0.0.1:1" in said

    asyncio.run(scene())


def test_what_is_shown() -> None:
    secrets = secrets_of(URL)
    assert set(SECRETS) <= secrets and not {"v2", "/"} & secrets
    assert plain("a\n b\x1b[0m\u202e\tc", secrets) == "a b[0m c"
    assert plain(f"of /V2/{SECRETS[0].lower()}, {SECRETS[2]}", secrets) == "of …, …"
    assert len(plain("x" * 10_000)) == 300
    assert secrets_of("https://rpc.example/archive/mainnet") == {
        "/archive/mainnet"
    }  # no keys; nodes use these words
    assert secrets_of("http://a:p%40ssw0rd@h/") >= {"p%40ssw0rd", "p@ssw0rd"}
    assert secrets_of("http://[x") == {"http://[x"}
    said = str(
        error_of("n", "eth_call", {"code": -32000, "message": f"missing trie node\n{SECRETS[0]}"}, secrets)
    )
    assert said == "n: eth_call: -32000 missing trie node …"
    assert isinstance(error_of("n", "m", {"code": -32000, "message": "not found"}), NotFound)
    assert isinstance(error_of("n", "m", {"code": [], "message": []}), NodeError)


def test_what_a_connection_error_says() -> None:
    request = SimpleNamespace(real_url=URL)
    status: Any = aiohttp.ClientResponseError(request, (), status=502, message=URL)  # type: ignore[arg-type]
    assert trouble(status) == "ClientResponseError HTTP 502"
    assert trouble(aiohttp.InvalidURL(URL)) == "InvalidURL"
    assert trouble(OSError(111, "Connection refused")) == "ConnectionRefusedError Connection refused"
    assert trouble(ssl.SSLCertVerificationError("x")).startswith("SSLCertVerificationError")
    assert trouble(ValueError(URL)) == "ValueError"


@pytest.mark.parametrize(
    "after", ["nan", "inf", "x", "Fri, 31 Dec 99999 23:59:59 GMT", ",", "\ud800", "Mon, 0 0 0", "-5"]
)
def test_retry_after_may_be_anything(after: str) -> None:
    seconds = seconds_of(after)
    assert seconds is None or seconds >= 0
