"""The two ways into ClickHouse, and everything that differs between them.

Embedded: chDB on a directory, through the same client package as a server. One process owns the directory,
told by a lock beside it that dies with its owner. Server: a URL. What is here is all the code that knows
which it is.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, BinaryIO, Final
from uuid import UUID

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError, OperationalError
from urllib3.exceptions import HTTPError

LOCK_WAIT_S: Final = 10.0
_LOCK_POLL_S: Final = 0.1
# One insert is one block of one month partition: SELECTs are gathered whole before they are written.
WRITE_SETTINGS: Final[Mapping[str, Any]] = {
    "max_partitions_per_insert_block": 0,
    "min_insert_block_size_rows": 4_000_000,
    "min_insert_block_size_bytes": 1 << 30,
    "max_insert_threads": 1,
    "max_threads": 1,  # else a large batch loses its order, and ReplacingMergeTree keeps what came last
    "max_query_size": 64 << 20,
    "async_insert": 0,
    "optimize_on_insert": 0,  # a batch seldom holds a row twice; looking for one costs as much as the insert
}
READ_SETTINGS: Final[Mapping[str, Any]] = {"final": 1, "readonly": 2}
ANSWER_WAIT_S: Final = 60  # a statement of a server that says nothing for so long has failed
STAGE_TABLE: Final = "sink_stage"  # temporary: it goes with its session, as when a server starts again
_UNKNOWN_TABLE: Final = 60
_STD_EXCEPTION: Final = 1001  # of the data, or of the disk
# Error codes of a ClickHouse that can't now and may soon: time-outs, network, too much at once, a full disk.
_AWAY_CODES: Final = frozenset(
    {159, 198, 202, 203, 209, 210, 236, 241, 242, 243, 252, 279, 319, 373, 394, 425, 692, 745, 999}
)
# Those that speak of the data at hand.
_DATA_CODES: Final = frozenset(
    {6, 26, 27, 32, 33, 36, 38, 41, 53, 69, 70, 72, 117, 128, 131, 173, 321, 349, 407, 467, 673, 691, 1001}
)
_VERSION: Final = re.compile(r"\s*\(version [^)]*\)|^Code: \d+\. DB::Exception: ")
_CODE: Final = re.compile(r"Code: (\d+)")
_NO_SPACE: Final = re.compile(
    r"errno: (28|122)\b|filesystem error: .*(No space left on device|Disk quota exceeded)"
)
_GATEWAY: Final = re.compile(r"\b(429|502|503|504)\b")


_STREAMS = re.compile(r"\s*(\(|select\b|with\b)", re.IGNORECASE)


class DirectoryInUse(RuntimeError):
    """Another process owns the ClickHouse directory."""


class QueryError(ValueError):
    """A query that ClickHouse refuses, in one line."""


@dataclass(frozen=True)
class Place:
    """Where it is: `url` of a server, http://user:password@host:8123/database, or `path` of chDB."""

    path: Path | None = None
    url: str | None = None

    def __post_init__(self) -> None:
        if (self.path is None) == (self.url is None):
            raise ValueError("ClickHouse is either a url or a path")

    def connect(self, settings: Mapping[str, Any]) -> Client:
        """A client with session settings. Raises ClickHouseError where there is no server."""
        if self.url is not None:
            client: Client = clickhouse_connect.get_client(
                dsn=self.url, settings=dict(settings), send_receive_timeout=ANSWER_WAIT_S
            )
        else:
            client = clickhouse_connect.get_client(
                interface="chdb", path=str(self.path), settings=dict(settings)
            )
        return client

    def lock(self, role: str, wait_s: float = LOCK_WAIT_S) -> DirectoryLock | None:
        """Own the directory; a server needs no owner."""
        return None if self.path is None else DirectoryLock(self.path, role, wait_s)


class Reading:
    """The history as somebody else's process serves it: only to be read."""

    def __init__(self, url: str, settings: Mapping[str, Any]) -> None:
        self._place, self._settings = Place(url=url), settings

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        """As ClickHouseHistory.query. Raises QueryError."""
        try:
            client = self._place.connect(self._settings)
        except ClickHouseError as fault:
            raise QueryError(one_line(fault)) from fault
        try:
            yield from rows(client, sql, parameters)
        finally:
            client.close()

    @property
    def reading(self) -> tuple[Place, Mapping[str, Any]]:
        """Where it is, and the settings that it is read with."""
        return self._place, self._settings

    def close(self) -> None:
        """Nothing is held."""


class DirectoryLock:
    """Ownership of a directory: a lock on `<path>.lock`, which the kernel drops with its owner."""

    def __init__(self, path: Path, role: str, wait_s: float = LOCK_WAIT_S) -> None:
        """Waits up to `wait_s`, for a killed owner may still be dying. Raises DirectoryInUse."""
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_name(f"{path.name}.lock").open("a+b")
        deadline = time.monotonic() + wait_s
        while not _locked(file):
            if time.monotonic() >= deadline:
                owner = _owner(file)
                file.close()
                raise DirectoryInUse(f"{path}: in use by {owner}")
            time.sleep(_LOCK_POLL_S)
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "role": role}).encode())
        file.flush()
        self._file: BinaryIO | None = file

    def release(self) -> None:
        """Let go of the directory."""
        if self._file is not None:
            self._file.close()
            self._file = None


def rows(client: Client, sql: str, parameters: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
    """Rows of a query as they come, JSON-safe: see `json_value`. Raises QueryError."""
    if not sql.strip():
        raise QueryError("the query is empty")
    try:
        if not _STREAMS.match(sql):  # SHOW, DESCRIBE, EXPLAIN …: chDB does not stream these
            whole = client.query(sql, dict(parameters or {}))
            for row in whole.result_rows:
                yield {name: _cell(value, False) for name, value in zip(whole.column_names, row, strict=True)}
            return
        with client.query_row_block_stream(sql, dict(parameters or {})) as stream:
            names: tuple[str, ...] = tuple(stream.source.column_names)
            wide = [kind.base_type in _WIDE for kind in stream.source.column_types]
            for block in stream:
                for row in block:
                    yield {name: _cell(value, big) for name, value, big in zip(names, row, wide, strict=True)}
    except ClickHouseError as fault:
        raise QueryError(one_line(fault)) from fault
    except (ValueError, OverflowError) as fault:  # the client's: a time that Python does not have
        raise QueryError(
            f"a value of the result cannot be read: {one_line(fault)}; toString() shows it"
        ) from fault


def json_value(value: Any) -> Any:
    """A value as JSON holds it: decimals and what passes 64 bits as strings, times in ISO 8601 (UTC: Z),
    bytes as
    text where they are UTF-8, else as hex; arrays, tuples and maps likewise."""
    if isinstance(value, bool) or value is None or isinstance(value, str | float):
        return value
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 64 else str(value)
    if isinstance(value, Decimal):
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, dt.datetime):
        return value.isoformat() + ("Z" if value.tzinfo is None else "")
    if isinstance(value, bytes | bytearray):
        return _text(bytes(value))
    if isinstance(value, Mapping):
        return {str(json_value(key)): json_value(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(inner) for inner in value]
    if isinstance(value, dt.date | UUID | IPv4Address | IPv6Address):
        return value.isoformat() if isinstance(value, dt.date) else str(value)
    return str(value)


def one_line(fault: Exception) -> str:
    """ClickHouse's message without code, version and line breaks."""
    text = _VERSION.sub("", " ".join(str(fault).split()))
    return _VERSION.sub("", text).strip() or type(fault).__name__


def fault_code(fault: Exception) -> int:
    """ClickHouse's number of an error, 0 where it has none."""
    found = _CODE.search(str(fault))
    return int(found[1]) if found and isinstance(fault, DatabaseError) else 0


def of_data(fault: Exception) -> bool:
    """Whether ClickHouse refuses the data at hand; for any other fault no message is to blame."""
    return fault_code(fault) in _DATA_CODES and not is_away(fault)


def is_away(fault: Exception) -> bool:
    """Whether another try may succeed without anybody's doing: no answer, or an answer that says "not now"."""
    code = fault_code(fault)
    quotes_data = code in _DATA_CODES and code != _STD_EXCEPTION
    if not quotes_data and _NO_SPACE.search(str(fault)):
        return True
    if code:
        return code in _AWAY_CODES or (code == _UNKNOWN_TABLE and STAGE_TABLE in str(fault))
    return isinstance(fault, OperationalError | OSError | HTTPError) or (
        isinstance(fault, DatabaseError) and bool(_GATEWAY.search(str(fault)))
    )


class NamedStatements:
    """A server's client whose statements are called `tidebook-<batch>-<n>`: so anybody can end a batch's.

    Several batches are joined by a hyphen. A statement whose answer never came may still be running there;
    `end_statements` waits until none is.
    """

    def __init__(self, client: Client) -> None:
        self._client, self._count = client, 0
        self.batch = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def _named(self) -> dict[str, str]:
        self._count += 1
        return {"query_id": f"tidebook-{self.batch}-{self._count}"} if self.batch else {}

    def command(self, cmd: str) -> Any:
        """As the client's."""
        return self._client.command(cmd, settings=self._named())

    def query(self, query: str) -> Any:
        """As the client's."""
        return self._client.query(query, settings=self._named())

    def insert(self, table: str, data: Any, **values: Any) -> Any:
        """As the client's."""
        return self._client.insert(table, data, settings=self._named(), **values)

    def raw_insert(self, table: str, **values: Any) -> Any:
        """As the client's."""
        return self._client.raw_insert(table, settings=self._named(), **values)


def end_statements(client: Client, batches: Iterable[str]) -> None:
    """End what runs on the server for these batches, and wait until it has ended. Raises ClickHouseError."""
    for batch in batches:
        if not batch.isalnum():
            raise ValueError(f"batch {batch!r} is no id of ours")
        running = f"position(query_id, '-{batch}-') > 0"
        client.command(f"KILL QUERY WHERE {running} SYNC")
        if client.query(f"SELECT count() FROM system.processes WHERE {running}").result_rows[0][0]:
            raise OperationalError(f"statements of batch {batch} are still running on the server")


_WIDE: Final = frozenset({"Int128", "Int256", "UInt128", "UInt256"})


def _cell(value: Any, wide: bool) -> Any:
    return str(value) if wide and isinstance(value, int) else json_value(value)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()


def _locked(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _owner(file: BinaryIO) -> str:
    file.seek(0)
    try:
        owner = json.loads(file.read())
        return f"process {owner['pid']} ({owner['role']})"
    except (ValueError, KeyError, TypeError):
        return "another process"
