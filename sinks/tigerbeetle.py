"""A real TigerBeetle cluster behind `sinks.books.Books`, through the client package's own C library.

Events go out as the contiguous buffer they came in, results come back as one: no object per event. The C
library answers on a thread of its own and retries for ever; here every request has a time limit. When it
passes, the client is closed and the next call opens a new one, for a cluster may be back by then. A request
that timed out may still have been applied: ids make it safe to send again.
Source: `tigerbeetle.bindings` and `tigerbeetle.client` 0.17.
"""

from __future__ import annotations

import ctypes
import threading
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import count
from typing import Any, Final

from tigerbeetle import ClientClosedError, Operation, TooMuchDataError, bindings

from sinks.books import (
    ACCOUNT_FILTER_STRUCT,
    BATCH_MAX,
    EVENT_BYTES,
    ID_BYTES,
    QUERY_FILTER_STRUCT,
    BooksError,
    BooksUnavailableError,
)
from sinks.books_dataclasses import DataclassMethods

SETTING: Final = "TIGERBEETLE_ADDRESSES"
CLUSTER_SETTING: Final = "TIGERBEETLE_CLUSTER_ID"
_INVALID: Final = {
    bindings.InitStatus.ADDRESS_INVALID: "is not a list of addresses such as 127.0.0.1:3000,127.0.0.1:3001",
    bindings.InitStatus.ADDRESS_LIMIT_EXCEEDED: "names more replicas than a cluster can have",
}


@dataclass(slots=True)
class _Request:
    """What must live until the library has answered: the packet and the buffer it points into."""

    packet: Any
    events: bytes
    done: threading.Event = field(default_factory=threading.Event)
    reply: bytes = b""


_requests: dict[int, _Request] = {}
_numbers = count(1)


@bindings.OnCompletion  # type: ignore[untyped-decorator]
def _on_completion(_context: Any, packet: Any, _timestamp: int, reply: Any, size: int) -> None:
    """Runs on the library's thread; `reply` is only valid while it does."""
    request = _requests.pop(packet[0].user_data)
    if packet[0].status == bindings.PacketStatus.OK and size:
        request.reply = ctypes.string_at(reply, size)
    request.done.set()


class _Client:
    """One session of the C library."""

    def __init__(self, addresses: str, cluster_id: int) -> None:
        self._handle = bindings.CClient()
        self._lock = threading.Lock()
        self._open = False
        ident = (ctypes.c_uint8 * 16)(*cluster_id.to_bytes(16, "little"))
        encoded = addresses.encode()
        status = bindings.tb_client_init(
            ctypes.byref(self._handle), ctypes.byref(ident), encoded, len(encoded), 0, _on_completion
        )
        if status != bindings.InitStatus.SUCCESS:
            why = _INVALID.get(status, f"cannot be used: {bindings.InitStatus(status).name}")
            raise BooksUnavailableError(f"{SETTING}={addresses!r} {why}")
        self._open = True

    def submit(self, operation: Operation, events: bytes) -> _Request:
        request = _Request(bindings.CPacket(), events)
        number, packet = next(_numbers), request.packet
        packet.user_data, packet.operation = number, operation
        packet.data_size = len(events)
        packet.data = ctypes.cast(ctypes.c_char_p(events), ctypes.c_void_p)
        _requests[number] = request
        with self._lock:
            status = bindings.ClientStatus.INVALID
            if self._open:
                status = bindings.tb_client_submit(ctypes.byref(self._handle), ctypes.byref(packet))
        if status != bindings.ClientStatus.OK:
            _requests.pop(number, None)
            packet.status = bindings.PacketStatus.CLIENT_SHUTDOWN
            request.done.set()
        return request

    def close(self) -> None:
        """Ends the session; requests on their way are answered with CLIENT_SHUTDOWN."""
        with self._lock:
            if self._open:
                self._open = False
                bindings.tb_client_deinit(ctypes.byref(self._handle))


class ClusterBooks(DataclassMethods):
    """Books on a cluster. Thread-safe. Raises BooksUnavailableError when it does not answer in time."""

    def __init__(self, addresses: str, cluster_id: int, timeout_s: float) -> None:
        self._addresses, self._cluster_id, self._timeout_s = addresses, cluster_id, timeout_s
        self._lock = threading.Lock()
        self._client: _Client | None = None
        self._closed = False

    def create_accounts_packed(self, events: bytes) -> bytes:
        return self._ask(Operation.CREATE_ACCOUNTS, events, EVENT_BYTES)

    def create_transfers_packed(self, events: bytes) -> bytes:
        return self._ask(Operation.CREATE_TRANSFERS, events, EVENT_BYTES)

    def lookup_accounts_packed(self, ids: bytes) -> bytes:
        return self._ask(Operation.LOOKUP_ACCOUNTS, ids, ID_BYTES)

    def lookup_transfers_packed(self, ids: bytes) -> bytes:
        return self._ask(Operation.LOOKUP_TRANSFERS, ids, ID_BYTES)

    def get_account_transfers_packed(self, account_filter: bytes) -> bytes:
        return self._query(Operation.GET_ACCOUNT_TRANSFERS, account_filter, ACCOUNT_FILTER_STRUCT.size)

    def get_account_balances_packed(self, account_filter: bytes) -> bytes:
        return self._query(Operation.GET_ACCOUNT_BALANCES, account_filter, ACCOUNT_FILTER_STRUCT.size)

    def query_accounts_packed(self, query_filter: bytes) -> bytes:
        return self._query(Operation.QUERY_ACCOUNTS, query_filter, QUERY_FILTER_STRUCT.size)

    def query_transfers_packed(self, query_filter: bytes) -> bytes:
        return self._query(Operation.QUERY_TRANSFERS, query_filter, QUERY_FILTER_STRUCT.size)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
        if client:
            client.close()

    def check(self) -> None:
        """Ask the cluster for anything at all: it is there, it is this cluster, it takes this client."""
        self.lookup_accounts_packed((1).to_bytes(ID_BYTES, "little"))

    def _query(self, operation: Operation, packed: bytes, size: int) -> bytes:
        if len(packed) != size:
            raise ValueError(f"a filter has {size} bytes, not {len(packed)}")
        return self._ask(operation, packed, size)

    def _ask(self, operation: Operation, events: bytes, size: int) -> bytes:
        if len(events) % size:
            raise ValueError(f"a batch of {len(events)} bytes is not made of {size}-byte events")
        if len(events) > BATCH_MAX * size:
            raise TooMuchDataError()
        client = self._session()
        request = client.submit(operation, bytes(events))
        if not request.done.wait(self._timeout_s):
            self._drop(client)
            raise BooksUnavailableError(
                f"TigerBeetle did not answer within {self._timeout_s:g} s at {SETTING}={self._addresses!r}: "
                f"is the cluster up, and is its id {self._cluster_id} ({CLUSTER_SETTING})?"
            )
        status = bindings.PacketStatus(request.packet.status)
        if status == bindings.PacketStatus.OK:
            return request.reply
        raise self._refusal(client, status)

    def _session(self) -> _Client:
        with self._lock:
            if self._closed:
                raise ClientClosedError()
            if self._client is None:
                self._client = _Client(self._addresses, self._cluster_id)
            return self._client

    def _drop(self, client: _Client) -> None:
        """Give up this session; the next call opens a new one."""
        with self._lock:
            if self._client is client:
                self._client = None
        client.close()

    def _refusal(self, client: _Client, status: bindings.PacketStatus) -> Exception:
        where = f"the TigerBeetle cluster at {SETTING}={self._addresses!r}"
        ours = f"client {version('tigerbeetle')}"
        if status == bindings.PacketStatus.TOO_MUCH_DATA:
            return TooMuchDataError()
        if status == bindings.PacketStatus.CLIENT_SHUTDOWN:
            if self._closed:
                return ClientClosedError()
            return BooksUnavailableError(f"the session with {where} ended; the request may have been applied")
        self._drop(client)
        if status == bindings.PacketStatus.CLIENT_RELEASE_TOO_LOW:
            return BooksUnavailableError(
                f"{where} is too new for {ours}: install a newer tigerbeetle package"
            )
        if status == bindings.PacketStatus.CLIENT_RELEASE_TOO_HIGH:
            return BooksUnavailableError(
                f"{where} is older than {ours}: upgrade the cluster or install its release of the package"
            )
        if status == bindings.PacketStatus.CLIENT_EVICTED:
            return BooksUnavailableError(f"{where} ended this session: too many clients at once")
        return BooksError(f"{where} refused a request: {status.name}")


def connect(addresses: str, cluster_id: int = 0, timeout_s: float = 10) -> ClusterBooks:
    """Connect to a cluster and make sure that it answers.

    `addresses`: its replicas, comma-separated `host:port` (or ports); `timeout_s`: limit of every request.
    Raises BooksUnavailableError naming the setting when nothing answers there in time, the cluster has
    another id, or it takes no client of this release.
    """
    if not 0 <= cluster_id < 1 << 128:
        raise BooksUnavailableError(f"{CLUSTER_SETTING}={cluster_id} does not fit in 128 bits")
    books = ClusterBooks(addresses, cluster_id, timeout_s)
    try:
        books.check()
    except BaseException:
        books.close()
        raise
    return books
