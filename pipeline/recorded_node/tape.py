"""The recorded ledgers, kept outside of memory: one spooled record a ledger, found by its index.

A record is the serialised `result` of `ledger` (see shapes.py), so the commonest answer is read and sent
without being parsed. In memory stands what follows a ledger around: its place in the spool, hash, close
time and number of transactions, some 150 bytes. The index of transactions is made when it is first asked
for.
"""

from __future__ import annotations

import itertools
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import orjson

from pipeline.domain.decode.xrpl_errors import RecordedError
from pipeline.ingest.recorded import read_ledgers
from pipeline.recorded_node.shapes import Json, to_record

_TRANSACTION_HASH: Final = re.compile(rb'"hash":"([0-9A-F]{64})"')


class Head(NamedTuple):
    """What is kept of each ledger in memory."""

    offset: int
    length: int
    hash: bytes  # 32 bytes, empty where the recording does not tell it
    close_time: int  # seconds since 2000
    transactions: int
    plain: bool  # the record holds JSON transactions, not blobs


class TapeError(ValueError):
    """The recording can't be served; the message is one clear line."""


class Tape:
    """Recorded ledgers by index. Close it to give its spool file back."""

    def __init__(self, ledgers: Iterable[Mapping[str, Any]]) -> None:
        """Reads all of `ledgers` (any recorded shape, any order). Raises TapeError."""
        self._spool: IO[bytes] = tempfile.TemporaryFile(buffering=1 << 20)  # noqa: SIM115 - lives as long as we
        self.heads: dict[int, Head] = {}
        self._by_hash: dict[bytes, int] = {}
        self._transactions: dict[bytes, int] | None = None
        self._derived: dict[tuple[int, str], tuple[int, int]] = {}
        self._size = 0
        try:
            for recorded in ledgers:
                self._add(recorded)
        except RecordedError as error:
            raise TapeError(f"the recording can't be read: {error}") from error
        if not self.heads:
            raise TapeError("the recording holds no ledger")
        self._spool.flush()
        self.order = sorted(self.heads)
        self.ranges = list(ranges_of(self.order))

    def _add(self, recorded: Mapping[str, Any]) -> None:
        record = to_record(recorded, self._close_time_before(recorded))
        header = record["ledger"]
        index = int(header["ledger_index"])
        hash_ = bytes.fromhex(header.get("ledger_hash", ""))
        if index in self.heads:
            if self.heads[index].hash != hash_:
                raise TapeError(f"ledger {index} stands twice in the recording, with different hashes")
            return
        text = orjson.dumps(record, option=orjson.OPT_SORT_KEYS)
        entries = header["transactions"]
        plain = not any("tx_blob" in entry for entry in entries)
        self.heads[index] = Head(
            self._size, len(text), hash_, header.get("close_time", 0), len(entries), plain
        )
        self._spool.write(text)
        self._size += len(text)
        if hash_:
            self._by_hash[hash_] = index

    def _close_time_before(self, recorded: Mapping[str, Any]) -> int | None:
        ledger = recorded.get("ledger", recorded.get("result", {}).get("ledger", {}))
        if not isinstance(ledger, Mapping) or "parent_close_time" in ledger:
            return None
        told = str(ledger.get("ledger_index", ledger.get("seqNum", "")))
        before = self.heads.get(int(told) - 1) if told.isdecimal() else None
        return before.close_time or None if before else None

    def text(self, index: int) -> bytes:
        """The serialised record of a ledger. KeyError where there is none."""
        head = self.heads[index]
        return os.pread(self._spool.fileno(), head.length, head.offset)

    def record(self, index: int) -> Json:
        """The record of a ledger, one's own to change. KeyError where there is none."""
        found: Json = orjson.loads(self.text(index))
        return found

    def derived(self, index: int, form: str, make: Callable[[Json], Json]) -> bytes:
        """Another serialised form of a record: made once by `make`, then kept in the spool."""
        place = self._derived.get((index, form))
        if place is not None:
            return os.pread(self._spool.fileno(), place[1], place[0])
        text = orjson.dumps(make(self.record(index)), option=orjson.OPT_SORT_KEYS)
        os.pwrite(self._spool.fileno(), text, self._size)
        self._derived[index, form] = (self._size, len(text))
        self._size += len(text)
        return text

    def hash_of(self, index: int) -> str:
        """64 hex digits; zeros where the recording does not tell it."""
        head = self.heads.get(index)
        return head.hash.hex().upper() if head and head.hash else "0" * 64

    def index_of(self, ledger_hash: str) -> int | None:
        """Index of the ledger with this hash (64 hex digits)."""
        return self._by_hash.get(bytes.fromhex(ledger_hash))

    def index_with(self, transaction_hash: str) -> int | None:
        """Index of the ledger that holds a transaction (64 hex digits)."""
        if self._transactions is None:
            self._transactions = {
                bytes.fromhex(found.decode()): index
                for index in self.order
                for found in _TRANSACTION_HASH.findall(self.text(index))
            }
        return self._transactions.get(bytes.fromhex(transaction_hash))

    def close(self) -> None:
        """Gives the spool file back."""
        self._spool.close()


def ranges_of(order: Iterable[int]) -> Iterator[tuple[int, int]]:
    """(first, last) of each unbroken run of rising integers."""
    for _, run in itertools.groupby(enumerate(order), key=lambda pair: pair[1] - pair[0]):
        members = [index for _, index in run]
        yield members[0], members[-1]


def recorded_ledgers(sources: Iterable[Path | str | Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Ledgers of files and directories, and ledgers given as they are."""
    for source in sources:
        if isinstance(source, Mapping):
            yield source
        else:
            path = Path(source)
            if not path.exists():
                raise TapeError(f"{path}: no such file or directory")
            yield from read_ledgers([path])
