"""A query's result as bytes in one of ClickHouse's own formats, as it comes: nothing is held but a block.

Embedded, ClickHouse makes every block a file of its own: formats without a head and a foot (CSV, JSONEachRow, Native)
can be put together, others cannot and come whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import orjson
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from urllib3.exceptions import HTTPError

from sinks.clickhouse_client import Place, QueryError, one_line
from sinks.ddl_shape import literal

READ_BYTES: Final = 1 << 20
_CUT: Final = b"__exception__\r\n"  # how a result ends that a server could not end
_WIDE: Final = re.compile(r"(Nullable\()?(U?Int(128|256)|Decimal\b|Enum)")
_LAST: Final = 32 << 10  # bytes at the end in which that would stand
EXACT: Final[Mapping[str, Any]] = {
    "date_time_output_format": "iso",
    "output_format_json_quote_64bit_integers": 0,
    "output_format_json_quote_decimals": 1,
    "output_format_json_map_as_array_of_tuples": 0,
    "output_format_json_escape_forward_slashes": 0,
    "format_csv_null_representation": "",
}
"""Settings of every such query: times in ISO 8601, decimals as text."""


class Readable(Protocol):
    """A history that can be read: ClickHouseHistory, Reading."""

    @property
    def reading(self) -> tuple[Place, Mapping[str, Any]]:
        """Where it is, and the settings that it is read with."""


def stream(history: Readable, sql: str, parameters: Mapping[str, Any] | None, fmt: str) -> Iterator[bytes]:
    """The result of a SELECT. Raises QueryError, also where it ends before its end."""
    place, settings = history.reading
    client: Client | None = None
    last = b""
    try:
        client = place.connect({**settings, **EXACT})
        source: Any = client.raw_stream(sql, dict(parameters or {}), fmt=fmt)
        try:
            while part := source.read(READ_BYTES):
                last = (last + part)[-_LAST:]
                yield part
        finally:
            source.close()
    except ClickHouseError as fault:
        raise QueryError(one_line(fault)) from fault
    except (HTTPError, OSError) as fault:
        raise QueryError(f"the result ended before its end: {one_line(fault)}") from fault
    finally:
        if client is not None:
            client.close()
    if last.endswith(_CUT):
        raise QueryError(
            " ".join(last[: -len(_CUT)].rpartition(_CUT)[2].decode(errors="replace").split())[:500]
        )


def columns(history: Readable, sql: str, parameters: Mapping[str, Any] | None) -> dict[str, str]:
    """Column → type of a SELECT. Raises QueryError."""
    whole = b"".join(stream(history, f"SELECT * FROM (\n{sql}\n) LIMIT 0", parameters, "JSON"))
    return {column["name"]: column["type"] for column in orjson.loads(whole)["meta"]}


def exactly(sql: str, types: Mapping[str, str]) -> str:
    """The SELECT with what CSV, JSON or Parquet would round, or not know, written as text: wide integers, decimals."""
    if not any(_WIDE.match(kind) for kind in types.values()):
        return sql
    told = (
        f"toString(`{name}`) AS `{name}`" if _WIDE.match(kind) else f"`{name}`"
        for name, kind in types.items()
    )
    return f"SELECT {', '.join(told)} FROM (\n{sql}\n)"


def write_parquet(history: Readable, sql: str, parameters: Mapping[str, Any] | None, path: Path) -> None:
    """The result of a SELECT as one Parquet file, row group by row group. Raises QueryError.

    It comes in ClickHouse's own blocks, which need no end, and the ClickHouse in this process puts them into the file.
    """
    import chdb

    blocks = path.with_name(f"{path.name}.blocks")
    types = ", ".join(f"`{name}` {kind}" for name, kind in columns(history, sql, parameters).items())
    try:
        with blocks.open("wb") as out:
            out.writelines(stream(history, sql, parameters, "Native"))
        place, _ = history.reading
        engine = chdb.connect(":memory:" if place.path is None else str(place.path))  # type: ignore[no-untyped-call]
        try:
            engine.query(
                f"SELECT * FROM file({literal(str(blocks.absolute()))}, Native, {literal(types)}) "
                f"INTO OUTFILE {literal(str(path.absolute()))} TRUNCATE FORMAT Parquet"
            )
        except RuntimeError as fault:
            raise QueryError(one_line(fault)) from fault
        finally:
            engine.close()
    finally:
        blocks.unlink(missing_ok=True)
