"""Reading recorded XRPL answers from files: JSON, JSON lines, either gzipped, or a directory of such.

What a file holds is told by its content, not by its name. Reading never stops at a bad part: what can't be
read is yielded as a RecordedError in its place and the rest follows, as far as there is any.
"""

import gzip
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import orjson

from pipeline.domain.decode.xrpl_errors import Malformed, NotALedger, RecordedError, Truncated
from pipeline.domain.decode.xrpl_shapes import holds_nothing, is_ledger, unwrap

Recorded = Mapping[str, Any]

SUFFIXES = (".json", ".jsonl", ".gz")

_GZIP_MAGIC = b"\x1f\x8b"


def recorded_files(path: Path) -> list[Path]:
    """The file itself, or the recorded files of a directory; numbers in names sort as numbers."""
    if not path.is_dir():
        return [path]
    return sorted(
        (file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file()), key=_natural
    )


def _natural(path: Path) -> list[tuple[int, str]]:
    parts = re.split(r"([0-9]+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def read_values(path: Path) -> Iterator[Any]:
    """The JSON values of one file (of a list: its members); a RecordedError for what can't be read."""
    try:
        with path.open("rb") as file:
            magic = file.read(2)
            file.seek(0)
            if magic == _GZIP_MAGIC:
                with gzip.open(file) as unpacked:
                    yield from _values(unpacked)
            else:
                yield from _values(file)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        yield Truncated(f"the compressed file ends early or is damaged: {error}")
    except OSError as error:
        yield RecordedError(f"the file can't be read: {error.strerror or error}")


def _values(file: IO[bytes] | gzip.GzipFile) -> Iterator[Any]:
    number = 0
    for line in file:
        number += 1
        if not line.strip():
            continue
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            if number == 1:
                yield from _whole(line + file.read())
                return
            cut = not line.endswith(b"\n")
            kind, what = (Truncated, "is cut off") if cut else (Malformed, "is not JSON")
            yield kind(f"line {number} {what}: {error}")
            continue
        yield from value if isinstance(value, list) else (value,)
    if number == 0:
        yield Truncated("the file is empty")


def _whole(text: bytes) -> Iterator[Any]:
    """A file that is one JSON value over several lines."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        ended = error.pos >= len(error.doc.rstrip()) or "unexpected end" in error.msg
        yield Truncated(f"the file is cut off: {error}") if ended else Malformed(f"not JSON: {error}")
        return
    yield from value if isinstance(value, list) else (value,)


def assemble(values: Iterable[Any]) -> Iterator[Any]:
    """Stream messages put together: `ledgerClosed` and the transactions of its ledger become one recorded
    ledger (with `txn_count` as the message told it); all else passes. Messages that hold nothing are left
    out.
    """
    pending: dict[str, Any] | None = None
    for value in values:
        kind = value.get("type") if isinstance(value, Mapping) else None
        if kind == "ledgerClosed":
            if pending is not None:
                yield pending
            pending = _opened(value)
        elif kind == "transaction":
            if pending is None or pending["ledger"]["ledger_index"] != value.get("ledger_index"):
                if pending is not None:
                    yield pending
                pending = _opened({**value, "ledger_time": None})
            pending["ledger"]["transactions"].append(value)
        elif isinstance(value, RecordedError) or not holds_nothing(value):
            if pending is not None:
                yield pending
            pending = None
            yield value
    if pending is not None:
        yield pending


def _opened(message: Recorded) -> dict[str, Any]:
    header: dict[str, Any] = {
        "ledger_index": message.get("ledger_index"),
        "ledger_hash": message.get("ledger_hash"),
        "close_time": message.get("ledger_time"),
        "transactions": [],
    }
    return {"ledger": header, "validated": True, "txn_count": message.get("txn_count")}


def read_ledgers(paths: Iterable[Path]) -> Iterator[Recorded]:
    """The recorded ledgers of files and directories, in their order, ready for `decode_ledger`.

    Streams are put together. RecordedError, with the file's name before the reason, at the first thing that
    is no ledger or can't be read, and for a stream that lacks transactions of a ledger.
    """
    for path in paths:
        for file in recorded_files(path):
            for value in assemble(read_values(file)):
                try:
                    yield _whole_ledger(value)
                except RecordedError as error:
                    raise type(error)(f"{file}: {error.reason}", error.transaction_hash) from None


def _whole_ledger(value: Any) -> Recorded:
    if isinstance(value, RecordedError):
        raise value
    body = unwrap(value)
    if not is_ledger(body):
        raise NotALedger("a transaction or message that belongs to no recorded ledger")
    if "txn_count" in body:
        index, told = body["ledger"]["ledger_index"], body["txn_count"]
        count = len(body["ledger"]["transactions"])
        if told != count:
            raise Truncated(f"ledger {index} has {told} transactions, the stream holds {count} of them")
    return body
