"""What an ingest told of unfinal blocks, kept where the broker forgets: synced before it is sent.

The embedded broker loses everything with its process, while books and history keep what they applied: so a new life
must tell again what was told, in the same order and by the same names. Kept are the messages of blocks that were
heads (frames: a 4-byte length and the encoded message; one that a crash cut off was never sent), incarnations above 0
of final blocks (for ever: told anew, such a block must bear the same name), the contracts told, and the highest block
told. The frames are cut to the newest ones now and then, behind the heads that stood there: a role that lags further
behind than that when the broker is lost must be built anew.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from pipeline.domain.branch import short
from pipeline.ingest.evm.line import Message
from pipeline.ingest.evm.resume import fold
from schemas.records import EvmBlock

_LENGTH: Final = struct.Struct("<I")
KEPT_BYTES: Final = 16 << 20


class Journal:
    """One chain's journal: files `<name>.unfinal`, `.incarnations`, `.contracts`, `.highest`, `.epoch`."""

    def __init__(
        self, directory: Path, name: str, decode: Callable[[bytes], EvmBlock], kept_bytes: int = KEPT_BYTES
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._path, self._decode, self._kept = directory / f"{name}.unfinal", decode, kept_bytes
        self._epoch = ""
        self._names, self._contracts = directory / f"{name}.incarnations", directory / f"{name}.contracts"
        self._highest = directory / f"{name}.highest"
        whole = sum(_LENGTH.size + len(value) for value in self.frames())
        if self._path.exists() and whole < self._path.stat().st_size:
            os.truncate(self._path, whole)
        self._out = self._path.open("ab")
        self._cut_at = 2 * kept_bytes
        self._state = directory / f"{name}.epoch"
        self.incarnations = dict(self._read_names())  # block hash -> incarnation
        self.highest = int(self._highest.read_text() or -1) if self._highest.exists() else -1
        self._compact_contracts()

    def begin(self, epoch: str) -> tuple[int, bool]:
        """(how many of the messages kept the broker of this epoch was told again, whether that is all of them)."""
        found = json.loads(self._state.read_text()) if self._state.exists() else {}
        if found.get("epoch") != epoch:
            found = {"epoch": epoch, "told": 0, "done": False}
            self._write(self._state, json.dumps(found))
        self._epoch = epoch
        return int(found["told"]), bool(found["done"])

    def told_again(self, count: int, done: bool) -> None:
        """So many of the messages kept stand in the broker now; telling one twice is harmless."""
        self._write(self._state, json.dumps({"epoch": self._epoch, "told": count, "done": done}))

    @staticmethod
    def _write(path: Path, text: str) -> None:
        draft = path.with_name(path.name + ".new")
        draft.write_text(text)
        draft.replace(path)

    def frames(self) -> Iterator[bytes]:
        """The messages kept, encoded, oldest first."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            while len(head := file.read(_LENGTH.size)) == _LENGTH.size:
                (length,) = _LENGTH.unpack(head)
                if len(value := file.read(length)) < length:
                    return
                yield value

    def read(self) -> list[EvmBlock]:
        """The messages kept, oldest first."""
        return [self._decode(value) for value in self.frames()]

    def append(self, messages: Sequence[Message]) -> None:
        """Keep what is about to be sent, durably; of blocks that never were heads only the name and number."""
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
        kept = [encoded for record, encoded in messages if record["finality"] == "head" or record["was_head"]]
        if kept:
            self._out.writelines(_LENGTH.pack(len(encoded)) + encoded for encoded in kept)
            _sync(self._out)
        highest = max((record["block_number"] for record, _ in messages), default=-1)
        if highest > self.highest:
            self.highest = highest
            self._write(self._highest, str(highest))

    def told(self, contracts: Sequence[Mapping[str, Any]]) -> None:
        """Keep records of evm.contracts.v1 that are about to be sent."""
        if contracts:
            with self._contracts.open("a") as out:
                out.writelines(json.dumps(record) + "\n" for record in contracts)
                _sync(out)

    def contracts(self) -> list[dict[str, Any]]:
        """The last record of each contract told, in the order first told."""
        found: dict[str, dict[str, Any]] = {}
        if self._contracts.exists():
            for line in self._contracts.read_text().splitlines():
                try:
                    record = json.loads(line)
                except ValueError:  # cut off by a crash: never sent
                    continue
                found[record["contract"]] = record
        return list(found.values())

    def shorten(self) -> None:
        """Now and then: keep only the newest messages, behind the heads that stood where they begin."""
        if self._out.tell() < self._cut_at:
            return
        values, size = list(self.frames()), 0
        place = len(values)
        while place and size < self._kept:
            place -= 1
            size += _LENGTH.size + len(values[place])
        while place < len(values) and self._decode(values[place])["chunk"]:
            place += 1  # a message begins with its first chunk
        kept = [*self._above_final(values[:place]), *values[place:]]
        self.keep(kept)
        self.told_again(len(kept), True)

    def _above_final(self, values: Sequence[bytes]) -> list[bytes]:
        """Of these, the messages of blocks above the last final one, since that one was told: what stands, and how
        often what may come back was told."""
        records = [self._decode(value) for value in values]
        final = fold(records).branch.final
        start = 0
        for place, record in enumerate(records):
            if final is not None and record["finality"] == "head":
                start = place if (record["block_number"], short(record["block_hash"])) == final else start
        above = final[0] if final is not None else -1
        pairs = zip(records[start:], values[start:], strict=True)
        return [value for record, value in pairs if record["block_number"] > above]

    def _compact_contracts(self) -> None:
        if self._contracts.exists():
            self._write(self._contracts, "".join(json.dumps(record) + "\n" for record in self.contracts()))

    def keep(self, values: Iterable[bytes]) -> None:
        """Keep these messages instead."""
        draft = self._path.with_suffix(".draft")
        with draft.open("wb") as out:
            out.writelines(_LENGTH.pack(len(value)) + value for value in values)
            _sync(out)
        self._out.close()
        draft.replace(self._path)
        self._out = self._path.open("ab")
        self._cut_at = max(2 * self._kept, 2 * self._path.stat().st_size)

    def close(self) -> None:
        self._out.close()

    def _read_names(self) -> Iterator[tuple[str, int]]:
        if self._names.exists():
            for line in self._names.read_text().splitlines():
                parts = line.split(" ")
                if len(parts) == 3 and parts[2].isdecimal():
                    yield parts[1], int(parts[2])


def _sync(file: IO[bytes] | IO[str]) -> None:
    file.flush()
    os.fsync(file.fileno())
