"""What a request may take: rate, size, time. Refusals are answers, never surprises.

Rates are token buckets: one a key, one a client address (IPv6: its /64; behind a trusted proxy the one that this names)
where no key is sent. Every answer says what is left (`RateLimit`, `RateLimit-Policy`: IETF
draft-ietf-httpapi-ratelimit-headers-10). A body is counted as it comes, so a missing or wrong Content-Length changes
nothing; what is held of all bodies together is bounded too. Requests that come too slowly are ended: headers by the
protocol, bodies by the reader.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterable, MutableMapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final, NamedTuple

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pipeline.api.client import ApiError, Client

KEY_RATE: Final = 1000.0  # requests a second of a key that has no rate of its own
ADDRESS_RATE: Final = 50.0  # of an address that sends no key
HOOK_RATE: Final = 200.0  # of an address that sends webhooks
BURST_S: Final = 2.0  # a bucket holds so many seconds of its rate
BUCKETS_MAX: Final = 50_000
BATCH_MAX: Final = 10_000  # events of one request
HEADERS_S: Final = 10.0  # from a connection's, or a request's, first byte to its headers' end
HEADERS_BYTES: Final = 32 << 10
BODY_S: Final = 30.0  # from headers to the body's end
LINGER_S: Final = 1.0  # that a body which is too large may still come, to be thrown away
LINGER_BYTES: Final = 16 << 20
IN_FLIGHT_MAX: Final = 2000  # requests at once
HELD_BODIES: Final = 32  # of the largest size, at once

Receive = Callable[[], Any]
Networks = tuple[IPv4Network | IPv6Network, ...]


class Policy(NamedTuple):
    """A kind of bucket."""

    name: str
    rate: float  # tokens a second

    @property
    def quota(self) -> int:
        return max(1, math.ceil(self.rate * BURST_S))


class Left(NamedTuple):
    """A bucket after a request."""

    allowed: bool
    remaining: int
    reset_s: int  # until a token is there, or the bucket is full
    policy: Policy

    def headers(self) -> list[tuple[bytes, bytes]]:
        """For the answer."""
        name, quota = self.policy.name, self.policy.quota
        found = [
            (b"ratelimit-policy", b'"%s";q=%d;w=%d' % (name.encode(), quota, math.ceil(BURST_S))),
            (b"ratelimit", b'"%s";r=%d;t=%d' % (name.encode(), self.remaining, self.reset_s)),
        ]
        return found if self.allowed else [*found, (b"retry-after", b"%d" % self.reset_s)]


class Buckets:
    """Token buckets by name."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._held: dict[tuple[str, str], tuple[float, float]] = {}  # (policy, who) → tokens, when

    def take(self, policy: Policy, who: str) -> Left:
        """Take one token of this bucket, if there is one."""
        now, name, quota = self._clock(), (policy.name, who), policy.quota
        tokens, at = self._held.get(name, (float(quota), now))
        tokens = min(float(quota), tokens + (now - at) * policy.rate)
        allowed = tokens >= 1
        if allowed:
            tokens -= 1
        if name not in self._held and len(self._held) >= BUCKETS_MAX:
            self._forget()
        self._held[name] = (tokens, now)
        wait = (quota - tokens if allowed else 1 - tokens) / policy.rate
        return Left(allowed, int(tokens), max(1, math.ceil(wait)), policy)

    def _forget(self) -> None:
        """Buckets that are full again say nothing; else the older half goes."""
        now = self._clock()
        kept = {name: one for name, one in self._held.items() if now - one[1] < BURST_S}
        if len(kept) >= BUCKETS_MAX:
            kept = dict(sorted(kept.items(), key=lambda one: one[1][1])[BUCKETS_MAX // 2 :])
        self._held = kept


def key_policy(client: Client) -> Policy:
    """The policy of a client's keys."""
    return Policy("key", client.rate_per_s or KEY_RATE)


ADDRESS: Final = Policy("address", ADDRESS_RATE)
HOOK: Final = Policy("webhook", HOOK_RATE)


def place_of(host: str) -> str:
    """What counts as one address: an IPv6 host owns its whole /64."""
    address = _address(host)
    if address is None or isinstance(address, IPv4Address):
        return host if address is None else str(address)
    return f"{int(address) >> 64:x}::/64"


def read_networks(text: str) -> Networks:
    """Addresses and networks, comma-separated. Raises ValueError saying which one is none, in one line."""
    found = []
    for one in filter(None, map(str.strip, text.split(","))):
        try:
            found.append(ip_network(one))
        except ValueError as error:
            raise ValueError(f"{error}; name addresses and networks, e.g. 10.0.0.7,10.1.0.0/16") from None
    return tuple(found)


def client_host(peer: str, forwarded: Iterable[bytes], trusted: Networks) -> str:
    """Whose request it is, judged from the nearest hop: each trusted proxy is believed the address that it came from.

    `peer`: who has connected; `forwarded`: the request's X-Forwarded-For headers. Whatever stands before the first
    address that is no trusted proxy's anybody can have written.
    """
    if not trusted:
        return peer
    hops = [hop for line in forwarded for hop in line.decode("latin-1").split(",")]
    host, address = peer, _address(peer)
    while hops and address is not None and any(address in network for network in trusted):
        address = _address(_without_port(hops.pop().strip()))
        host = host if address is None else str(address)
    return host


def _without_port(hop: str) -> str:
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """None for what is none; an IPv4 address that an IPv6 socket shows is one of IPv4."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


class Held:
    """Bytes of all bodies that are being read or worked on."""

    def __init__(self, most: int) -> None:
        self._most, self._now = most, 0

    def add(self, count: int) -> None:
        """Raises ApiError 503 where it would be too many."""
        if self._now + count > self._most:
            raise ApiError(503, "overloaded", "too many bodies at once; try again", Retry_After="1")
        self._now += count

    def release(self, count: int) -> None:
        """So many are gone."""
        self._now -= count


class Body:
    """Reads one request's body within its limits; it is given to whoever asks for it as ASGI messages."""

    __slots__ = ("_end", "_held", "_max", "_receive", "size")

    def __init__(self, receive: Receive, declared: bytes | None, most: int, held: Held) -> None:
        """`declared`: Content-Length. Raises ApiError 400 or 413 for one that is wrong or too large."""
        self._receive, self._max, self._held = receive, most, held
        self.size, self._end = 0, 0.0
        if declared is not None:
            if not declared.isdigit() or len(declared) > 18:
                raise ApiError(400, "bad_request", "Content-Length is no number", "Content-Length")
            if int(declared) > most:
                raise too_large(most)

    async def receive(self) -> MutableMapping[str, Any]:
        """The next message. Raises ApiError 408, 413 or 503."""
        message: MutableMapping[str, Any]
        message = await (self._receive() if self._is_there() else self._in_time())
        if message["type"] == "http.request":
            count = len(message.get("body", b""))
            if self.size + count > self._max:
                raise too_large(self._max)
            self._held.add(count)
            self.size += count
        return message

    def _is_there(self) -> bool:
        """Whether uvicorn has the whole body already, as a rule: then it needs no timer."""
        cycle = getattr(self._receive, "__self__", None)
        return not self._end and getattr(cycle, "more_body", True) is False

    async def _in_time(self) -> MutableMapping[str, Any]:
        self._end = self._end or asyncio.get_running_loop().time() + BODY_S
        try:
            async with asyncio.timeout_at(self._end):
                message: MutableMapping[str, Any] = await self._receive()
                return message
        except TimeoutError:
            raise ApiError(
                408, "too_slow", f"the body took more than {BODY_S:g} s", Connection="close"
            ) from None

    def close(self) -> None:
        """Nobody works on it any more."""
        self._held.release(self.size)
        self.size = 0


def too_large(most: int) -> ApiError:
    """413."""
    return ApiError(
        413, "too_large", f"a body has at most {most} bytes (setting TIDEBOOK_API_BODY_MAX); send it in parts",
        Connection="close",
    )  # fmt: skip


_NO_HTTP: Final = (b"400 Bad Request", b"bad_request", b"this is no HTTP/1.1 request")
_TOO_MANY: Final = (
    b"431 Request Header Fields Too Large", b"too_large", b"headers have at most %d bytes" % HEADERS_BYTES,
)  # fmt: skip


class Protocol(HttpToolsProtocol):
    """HTTP/1.1 whose headers must come in time and be of a sane size."""

    _timer: asyncio.TimerHandle | None = None  # runs while a request's headers, or a first one, are awaited
    _heading = 0  # bytes of whole headers so far
    _read = 0  # bytes read since a request began whose headers have not ended
    _began = False  # in the read at hand
    _wrong = _NO_HTTP

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A connection that says nothing is ended, too."""
        super().connection_made(transport)
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        """Counts what comes before a request's headers end."""
        if self.transport.is_closing():
            return
        self._began = False
        super().data_received(data)
        idle = self.cycle is None or self.cycle.response_complete
        if self._timer is None and idle and self.timeout_keep_alive_task is None:
            self._await_headers()
        if self._timer is not None and not self._began:
            self._read += len(data)
            if self._read > HEADERS_BYTES:
                self._refuse(*_TOO_MANY)

    def on_message_begin(self) -> None:
        """A request begins: its headers must come in time."""
        super().on_message_begin()
        self._began, self._heading, self._read = True, 0, 0
        if self._timer is None:
            self._await_headers()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Also within one read they may be too many. Raises ValueError, which ends the parsing."""
        self._heading += len(name) + len(value) + 4
        if self._heading > HEADERS_BYTES:
            self._wrong = _TOO_MANY
            raise ValueError("headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """They are there."""
        self._stop_timer()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, or too much of it, gets an answer in our form."""
        self._refuse(*self._wrong)

    def connection_lost(self, exc: Exception | None) -> None:
        """The timer ends with the connection."""
        self._stop_timer()
        super().connection_lost(exc)

    def _await_headers(self) -> None:
        self._heading = self._read = 0
        self._timer = self.loop.call_later(HEADERS_S, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        self._refuse(b"408 Request Timeout", b"too_slow", b"headers took more than %d s" % HEADERS_S)

    def _refuse(self, status: bytes, reason: bytes, detail: bytes) -> None:
        self._stop_timer()
        if self.transport.is_closing():
            return
        body = b'{"error":{"reason":"%s","field":"","detail":"%s"}}' % (reason, detail)
        self.transport.write(
            b"HTTP/1.1 %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
            % (status, len(body), body)
        )
        self.transport.close()
