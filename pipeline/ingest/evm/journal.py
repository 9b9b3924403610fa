"""Messages of unfinal blocks, kept where the broker forgets: a file of frames, synced before they are sent.

The embedded broker loses everything with its process while the embedded books keep what is pending; so the ingest
must be able to retract a block that neither broker nor node knows any more. Each frame is a 4-byte length and an
encoded message. A frame that a crash cut off was never sent. The file is rewritten when most of it is of the past.
Incarnations above 0 of final blocks are kept for ever, in a text file beside it: told anew, such a block must bear
the same name.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Final

from pipeline.ingest.evm.line import Message
from schemas.records import EvmBlock

_LENGTH: Final = struct.Struct("<I")
REWRITE_BYTES: Final = 64 << 20


class Journal:
    """One chain's journal, in two files: `<name>.unfinal` and `<name>.incarnations`."""

    def __init__(self, directory: Path, name: str, decode: Callable[[bytes], EvmBlock]) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / f"{name}.unfinal"
        self._names = directory / f"{name}.incarnations"
        self._decode = decode
        whole = sum(_LENGTH.size + len(value) for value in self._frames())
        if self._path.exists() and whole < self._path.stat().st_size:
            os.truncate(self._path, whole)
        self._out = self._path.open("ab")
        self._rewrite_at = max(REWRITE_BYTES, 2 * whole)
        self.incarnations = dict(self._read_names())  # block hash -> incarnation

    def read(self) -> list[EvmBlock]:
        """The messages kept, oldest first."""
        return [self._decode(value) for value in self._frames()]

    def append(self, messages: Sequence[Message]) -> None:
        """Keep messages that are about to be sent, durably; those of final blocks only where they were heads."""
        named = {
            record["block_hash"]: (record["block_number"], record["incarnation"])
            for record, _ in messages
            if record["finality"] == "final" and record["incarnation"]
        }
        if named:
            with self._names.open("a") as out:
                out.writelines(f"{number} {block_hash} {n}\n" for block_hash, (number, n) in named.items())
                _sync(out)
            self.incarnations.update({block_hash: n for block_hash, (_, n) in named.items()})
        self._out.writelines(_LENGTH.pack(len(encoded)) + encoded for _, encoded in messages)
        _sync(self._out)

    def forget(self, final: int) -> None:
        """Now and then: let go of what lies below the last final block."""
        if self._out.tell() < self._rewrite_at:
            return
        self.keep([value for value in self._frames() if self._decode(value)["block_number"] >= final])

    def keep(self, values: Sequence[bytes]) -> None:
        """Keep these messages instead."""
        draft = self._path.with_suffix(".draft")
        with draft.open("wb") as out:
            out.writelines(_LENGTH.pack(len(value)) + value for value in values)
            _sync(out)
        self._out.close()
        draft.replace(self._path)
        self._out = self._path.open("ab")
        self._rewrite_at = max(REWRITE_BYTES, 2 * self._path.stat().st_size)

    def close(self) -> None:
        self._out.close()

    def _frames(self) -> Iterator[bytes]:
        """Whole frames."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            while len(head := file.read(_LENGTH.size)) == _LENGTH.size:
                (length,) = _LENGTH.unpack(head)
                if len(value := file.read(length)) < length:
                    return
                yield value

    def _read_names(self) -> Iterator[tuple[str, int]]:
        if self._names.exists():
            for line in self._names.read_text().splitlines():
                parts = line.split(" ")
                if len(parts) == 3 and parts[2].isdecimal():
                    yield parts[1], int(parts[2])


def _sync(file: IO[bytes] | IO[str]) -> None:
    file.flush()
    os.fsync(file.fileno())
