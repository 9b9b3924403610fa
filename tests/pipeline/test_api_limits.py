"""Rates and sizes: buckets by an own clock, bodies part by part, headers byte by byte."""

import asyncio

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.server import ServerState

from pipeline.api import limits
from pipeline.api.client import ApiError, Client
from pipeline.api.limits import (
    ADDRESS,
    BUCKETS_MAX,
    HEADERS_BYTES,
    Body,
    Buckets,
    Held,
    Policy,
    Protocol,
    client_host,
    key_policy,
    place_of,
    read_networks,
)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_bucket_runs_dry_and_fills_again():
    clock = Clock()
    buckets, policy = Buckets(clock), Policy("key", 5)
    assert [buckets.take(policy, "a").remaining for _ in range(10)] == list(range(9, -1, -1))
    dry = buckets.take(policy, "a")
    assert not dry.allowed and dict(dry.headers())[b"retry-after"] == b"1"
    assert dict(dry.headers())[b"ratelimit"] == b'"key";r=0;t=1'
    assert dict(dry.headers())[b"ratelimit-policy"] == b'"key";q=10;w=2'
    assert buckets.take(policy, "b").allowed
    clock.now = 0.2
    assert buckets.take(policy, "a").allowed and not buckets.take(policy, "a").allowed


@given(st.lists(st.floats(0, 0.5), min_size=1, max_size=200), st.floats(1, 50))
def test_nobody_gets_more_than_rate_and_burst(steps, rate):
    clock = Clock()
    buckets, policy = Buckets(clock), Policy("key", rate)
    got = 0
    for step in steps:
        clock.now += step
        got += buckets.take(policy, "a").allowed
    assert got <= policy.quota + rate * clock.now + 1


def test_a_slow_rate_says_how_long_to_wait():
    clock = Clock()
    buckets, policy = Buckets(clock), Policy("key", 0.1)
    assert buckets.take(policy, "a").allowed
    assert dict(buckets.take(policy, "a").headers())[b"retry-after"] == b"10"


def test_buckets_are_bounded(monkeypatch):
    monkeypatch.setattr(limits, "BUCKETS_MAX", 100)
    clock = Clock()
    buckets = Buckets(clock)
    for number in range(1000):
        buckets.take(ADDRESS, str(number))
    assert len(buckets._held) <= 100
    assert BUCKETS_MAX > 1000


def test_a_key_has_its_own_rate():
    assert key_policy(Client("a", rate_per_s=7)).rate == 7
    assert key_policy(Client("a")).rate == limits.KEY_RATE


@pytest.mark.parametrize(
    ("host", "place"),
    [
        ("192.0.2.1", "192.0.2.1"), ("2001:db8::1", "20010db800000000::/64"), ("fe80::1%eth0", "fe80000000000000::/64"),
        ("::1", "0::/64"), ("::ffff:192.0.2.1", "192.0.2.1"), ("not:an:address", "not:an:address"), ("", ""),
    ],
)  # fmt: skip
def test_an_address_is_a_place(host, place):
    assert place_of(host).zfill(21) == place.zfill(21) if "/" in place else place_of(host) == place


PROXIES = read_networks("10.0.0.1, 192.168.0.0/16,2001:db8::/32")


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # no proxy of ours: it says what it likes
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),  # what the client wrote himself stands before
        ("10.0.0.1", ["6.6.6.6", "198.51.100.1, 192.168.3.4"], "198.51.100.1"),  # two proxies, two headers
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("2001:db8::7", ["[2001:db9::1]:4711"], "2001:db9::1"),
        ("10.0.0.1", ["198.51.100.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["192.168.0.1"], "192.168.0.1"),
        ("10.0.0.1", [", ,"], "10.0.0.1"),
        ("unix", ["198.51.100.1"], "unix"),
    ],
)  # fmt: skip
def test_a_trusted_proxy_names_the_client(peer, forwarded, client):
    assert client_host(peer, [line.encode() for line in forwarded], PROXIES) == client
    assert client_host(peer, [line.encode() for line in forwarded], ()) == peer


@given(st.binary())
def test_whatever_is_forwarded_names_somebody(line):
    assert place_of(client_host("10.0.0.1", [line], PROXIES))


@pytest.mark.parametrize("text", ["*", "10.0.0.1/8", "proxy.example", "10.0.0.0/33"])
def test_a_proxy_is_an_address_or_a_network(text):
    with pytest.raises(ValueError, match="name addresses and networks"):
        read_networks(f"10.0.0.1,{text}")


def body_of(parts, declared=None, most=100, held=None):
    messages = [
        {"type": "http.request", "body": part, "more_body": place < len(parts) - 1}
        for place, part in enumerate(parts)
    ]

    async def receive():
        if not messages:
            await asyncio.sleep(60)
        return messages.pop(0)

    return Body(receive, declared, most, held or Held(1000))


async def read(body):
    found = b""
    while True:
        message = await body.receive()
        found += message["body"]
        if not message["more_body"]:
            return found


def test_a_body_is_counted_as_it_comes():
    assert asyncio.run(read(body_of([b"x" * 60, b"x" * 40]))) == b"x" * 100
    for parts, declared in (([b"x" * 60, b"x" * 41], None), ([b"x" * 101], b"5")):
        with pytest.raises(ApiError) as caught:
            asyncio.run(read(body_of(parts, declared)))
        assert (caught.value.status, caught.value.reason) == (413, "too_large")
        assert "TIDEBOOK_API_BODY_MAX" in caught.value.detail


@pytest.mark.parametrize(
    ("declared", "status"), [(b"101", 413), (b"-1", 400), (b"1e3", 400), (b"9" * 30, 400)]
)
def test_a_length_is_judged_before_the_body(declared, status):
    with pytest.raises(ApiError) as caught:
        body_of([b""], declared)
    assert caught.value.status == status


def test_all_bodies_together_are_bounded():
    held = Held(150)
    first, second = body_of([b"x" * 100], held=held), body_of([b"x" * 100], held=held)
    asyncio.run(read(first))
    with pytest.raises(ApiError) as caught:
        asyncio.run(read(second))
    assert caught.value.status == 503
    first.close()
    asyncio.run(read(body_of([b"x" * 100], held=held)))


def test_a_slow_body_is_ended(monkeypatch):
    monkeypatch.setattr(limits, "BODY_S", 0.01)
    with pytest.raises(ApiError) as caught:
        asyncio.run(body_of([]).receive())
    assert (caught.value.status, caught.value.reason) == (408, "too_slow")


# the protocol


class Wire(asyncio.Transport):
    def __init__(self):
        super().__init__()
        self.out, self.closed = b"", False

    def get_extra_info(self, name, default=None):
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default

    def write(self, data):
        self.out += data

    def close(self):
        self.closed = True

    def is_closing(self):
        return self.closed

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass

    def set_write_buffer_limits(self, high=None, low=None):
        pass


async def hello(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def conversation(chunks, headers_s=None, wait_s=0.0):
    """What the wire holds after these reads."""

    async def talk():
        config = uvicorn.Config(hello, lifespan="off", access_log=False, log_config=None)
        wire, protocol = Wire(), Protocol(config, ServerState(), {})
        protocol.connection_made(wire)
        for chunk in chunks:
            if wire.closed:
                break
            protocol.data_received(chunk)
            await asyncio.sleep(0)
        await asyncio.sleep(wait_s)
        await asyncio.gather(*protocol.tasks)
        closed = wire.closed
        protocol.connection_lost(None)
        wire.closed = closed
        return wire

    return asyncio.run(talk())


REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


def test_requests_are_answered_byte_by_byte_too():
    for chunks in ([REQUEST], [REQUEST[n : n + 1] for n in range(len(REQUEST))], [REQUEST, REQUEST, REQUEST]):
        wire = conversation(chunks)
        assert wire.out.count(b"HTTP/1.1 200 OK") == chunks.count(REQUEST) or wire.out.count(b"200 OK") == 1
        assert not wire.closed


@pytest.mark.parametrize(
    "chunks",
    [
        [b"GET / HTTP/1.1\r\n", *[b"x-a: " + b"y" * 1000 + b"\r\n"] * 40],
        [b"GET / HTTP/1.1\r\nx-a: ", *[b"y" * 1000] * 80],
        [b"GET / HTTP/1.1\r\n" + b"x-a: y\r\n" * 8000 + b"\r\n"],
        [b"GET /", *[b"a" * 1000] * 80],
    ],
)
def test_headers_are_bounded(chunks):
    wire = conversation(chunks)
    assert wire.closed and wire.out.startswith(b"HTTP/1.1 431 ") and HEADERS_BYTES < 40_000


def test_slow_headers_are_ended(monkeypatch):
    monkeypatch.setattr(limits, "HEADERS_S", 0.01)
    for begun in ([], [b"GET / HT"], [b"\r\n"], [REQUEST, b"\r\n"], [REQUEST, b"GET /"]):
        wire = conversation(begun, wait_s=0.05)
        assert wire.closed and b"HTTP/1.1 408 " in wire.out
    assert not conversation([REQUEST], wait_s=0.05).closed


@pytest.mark.parametrize(
    "noise",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
    ],
)
def test_what_is_no_http_is_answered_and_closed(noise):
    wire = conversation([noise])
    assert wire.closed and wire.out.startswith(b"HTTP/1.1 400 ")
    assert b'"reason":"bad_request"' in wire.out
