"""A state on its way: the pages of one ledger's `ledger_data`, on disk, until all of them are proven.

Nothing of a state may be published before its root is known to hold, and a mainnet state does not fit
memory. So pages are appended to one file as they come, compressed, each with its length and checksum; a
file that was cut off by a kill is good up to its last whole page, and the fetch goes on from there. The first
frame is the header that the pages belong to: another header begins anew.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import orjson

_FRAME: Final = struct.Struct(">II")  # length and CRC-32 of what follows
_ENTRY: Final = struct.Struct(">32sI")  # index, length of the data
_LEVEL: Final = 1


class RawEntry(NamedTuple):
    """One ledger entry: its index (32 bytes) and its canonical bytes."""

    key: bytes
    data: bytes


class Spool:
    """Pages of one state in one file. One process at a time."""

    def __init__(self, path: Path, header: Mapping[str, Any]) -> None:
        self.path = path
        self.entries, self.last, self.complete = 0, b"", False
        head = orjson.dumps(dict(header), option=orjson.OPT_SORT_KEYS)
        path.parent.mkdir(parents=True, exist_ok=True)
        end = self._recover(head)
        self._file = path.open("r+b" if end else "wb")
        self._file.truncate(end)
        self._file.seek(end)
        if not end:
            self._append(head)

    def _recover(self, head: bytes) -> int:
        """Length of the file up to its last whole page, 0 if it is not this header's."""
        if not self.path.exists():
            return 0
        with self.path.open("rb") as file:
            if next(_frames(file), None) != head:
                return 0
            end = file.tell()
            for body in _frames(file):
                self._note(*_unpack(body))
                end = file.tell()
        return end

    def _note(self, page: list[RawEntry], last: bool) -> None:
        self.entries += len(page)
        self.last = page[-1].key if page else self.last
        self.complete = last

    def append(self, page: list[RawEntry], last: bool) -> None:
        """The next page, entries in rising order of their indexes; `last`: there are no more."""
        self._append(zlib.compress(_pack(page, last), _LEVEL))
        self._note(page, last)

    def _append(self, body: bytes) -> None:
        self._file.write(_FRAME.pack(len(body), zlib.crc32(body)) + body)
        self._file.flush()

    def pages(self) -> Iterator[list[RawEntry]]:
        """The pages so far, in order."""
        with self.path.open("rb") as file:
            frames = _frames(file)
            next(frames)
            for body in frames:
                yield _unpack(body)[0]

    def size(self) -> int:
        """Bytes on disk."""
        return self.path.stat().st_size

    def close(self) -> None:
        """Let go of the file; it stays."""
        self._file.close()

    def discard(self) -> None:
        """Remove the file: it is published, or it is not to be believed."""
        self.close()
        if self.path.exists():
            self.path.unlink()


def _frames(file: BinaryIO) -> Iterator[bytes]:
    """Bodies of the whole frames from the file's place on."""
    while len(lead := file.read(_FRAME.size)) == _FRAME.size:
        length, checksum = _FRAME.unpack(lead)
        body = file.read(length)
        if len(body) < length or zlib.crc32(body) != checksum:
            return
        yield body


def _pack(page: list[RawEntry], last: bool) -> bytes:
    parts = [b"\x01" if last else b"\x00"]
    for key, data in page:
        parts += (_ENTRY.pack(key, len(data)), data)
    return b"".join(parts)


def _unpack(body: bytes) -> tuple[list[RawEntry], bool]:
    raw = zlib.decompress(body)
    page, place = [], 1
    while place < len(raw):
        key, length = _ENTRY.unpack_from(raw, place)
        place += _ENTRY.size
        page.append(RawEntry(key, raw[place : place + length]))
        place += length
    return page, raw[:1] == b"\x01"
