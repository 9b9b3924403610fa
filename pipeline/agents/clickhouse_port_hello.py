"""The first question of clickhouse-go, and so of Grafana, answered so that its client speaks what the engine speaks.

That client says in `client_protocol_version` which revision of the Native format it reads, asks SQL for the server's,
and from then on reads the older of the two. A server answers in the revision that it was told; chDB always in
revision 0, without the head of a block and the mark of a column. So this one answer is built here, in the client's
revision, and tells revision 0: all that follows is read as chDB writes it. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

SQL: Final = "SELECT 'tidebook', version(), 0, timezone()"
"""What the engine is asked instead; its row, as JSON texts and a number, is what `hello` takes."""
_HELLO: Final = re.compile(
    r"SELECT\s+displayName\(\),\s*version\(\),\s*revision\(\),\s*timezone\(\)", re.IGNORECASE
)
_BLOCK_INFO: Final = b"\x01\x00\x02\xff\xff\xff\xff\x00"  # no overflows, no bucket, end
_CUSTOM_SERIALIZATION: Final = 54454  # from this revision on each column says whether it has one
_BLOCK_INFO_SINCE: Final = 1
_COLUMNS: Final = (
    ("displayName()", "String"),
    ("version()", "String"),
    ("revision()", "UInt32"),
    ("timezone()", "String"),
)


def asks_hello(sql: str, format_name: str, revision: int) -> bool:
    """Whether a query is the question of a client that reads Native at this revision."""
    return revision >= _BLOCK_INFO_SINCE and format_name == "Native" and _HELLO.fullmatch(sql) is not None


def hello(values: Iterable[str | int], revision: int) -> bytes:
    """One row of the four columns as a Native block of `revision`."""
    told = bytearray(_BLOCK_INFO)
    told += bytes((len(_COLUMNS), 1))
    for (name, kind), value in zip(_COLUMNS, values, strict=True):
        told += _text(name) + _text(kind)
        if revision >= _CUSTOM_SERIALIZATION:
            told.append(0)
        told += _text(value) if isinstance(value, str) else value.to_bytes(4, "little")
    return bytes(told)


def _text(value: str) -> bytes:
    """Length as a variable-length integer, then UTF-8."""
    data, length = value.encode(), bytearray()
    rest = len(data)
    while rest >= 0x80:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    length.append(rest)
    return bytes(length) + data
