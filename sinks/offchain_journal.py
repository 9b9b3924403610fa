"""A journal of operators' commands: what was asked before it is done, and what came of it.

One file of lines, each `<CRC-32 of the JSON, 8 hex digits> <JSON>`: a header with the journal's epoch, then
intents and outcomes. An intent without an outcome was cut off between: it is done again, which changes
nothing where it was done. An outcome holds the messages for the topics; their numbers in the journal are
their offsets, so whoever takes them further knows where it stands. A torn last line is cut off at the next
start: nobody was answered yet. One process owns the journal at a time.
"""

from __future__ import annotations

import base64
import fcntl
import os
import uuid
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

VERSION: Final = 1


class JournalError(Exception):
    """The journal is damaged, or in use by another process; the text names the file."""


class JournalMessage(NamedTuple):
    """A message for a topic."""

    topic: str
    key: str
    value: bytes  # Confluent wire format
    time_ms: int


class Journal:
    """The journal of one data directory."""

    def __init__(self, path: Path) -> None:
        """Open or make it. Raises JournalError, OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            raise JournalError(f"{path}: in use by another `tidebook books` command") from None
        self._intents: dict[str, dict[str, Any]] = {}
        self._answers: dict[str, dict[str, Any]] = {}
        self._messages: list[JournalMessage] = []
        self.epoch = ""
        for entry in self._entries():
            self._take(entry)
        if not self.epoch:
            self._append({"journal": VERSION, "epoch": f"offchain-{uuid.uuid4().hex}"})

    def begin(self, ident: str, intent: dict[str, Any]) -> None:
        """Keep what is going to be done under `ident`; durable when this returns."""
        if ident not in self._intents:
            self._append({"ident": ident, "intent": intent})

    def end(self, ident: str, answer: dict[str, Any], messages: Sequence[JournalMessage]) -> None:
        """Keep what came of it; durable when this returns."""
        packed = [(m.topic, m.key, base64.b64encode(m.value).decode(), m.time_ms) for m in messages]
        self._append({"ident": ident, "answer": answer, "messages": packed})

    def unanswered(self) -> dict[str, dict[str, Any]]:
        """Intents that were cut off, by ident, in their order."""
        return {ident: intent for ident, intent in self._intents.items() if ident not in self._answers}

    def intent(self, ident: str) -> dict[str, Any] | None:
        """What was asked under `ident`."""
        return self._intents.get(ident)

    def answer(self, ident: str) -> dict[str, Any] | None:
        """What came of it."""
        return self._answers.get(ident)

    def messages(self, start: int = 0) -> Iterator[tuple[int, JournalMessage]]:
        """(offset, message) from offset `start` on."""
        return ((offset, self._messages[offset]) for offset in range(start, len(self._messages)))

    def close(self) -> None:
        """Let go of the journal."""
        self._file.close()

    def _append(self, entry: dict[str, Any]) -> None:
        data = orjson.dumps(entry)
        self._file.write(b"%08x %b\n" % (zlib.crc32(data), data))
        self._file.flush()
        os.fdatasync(self._file.fileno())
        self._take(entry)

    def _take(self, entry: dict[str, Any]) -> None:
        if "journal" in entry:
            if entry["journal"] != VERSION:
                raise JournalError(f"{self.path}: version {entry['journal']}, this program reads {VERSION}")
            self.epoch = entry["epoch"]
        elif "intent" in entry:
            self._intents[entry["ident"]] = entry["intent"]
        else:
            self._answers[entry["ident"]] = entry["answer"]
            for topic, key, value, time_ms in entry["messages"]:
                self._messages.append(JournalMessage(topic, key, base64.b64decode(value), time_ms))

    def _entries(self) -> Iterator[dict[str, Any]]:
        """Whole entries; what a kill left at the end is cut off. Raises JournalError for any other damage."""
        self._file.seek(0)
        lines = self._file.read().splitlines(keepends=True)
        at = 0
        for number, line in enumerate(lines):
            data = line[9:].rstrip(b"\n")
            if not line.endswith(b"\n") or line[:8] != b"%08x" % zlib.crc32(data):
                if number < len(lines) - 1:
                    raise JournalError(f"{self.path}: line {number + 1} is damaged")
                self._file.truncate(at)
                return
            at += len(line)
            yield orjson.loads(data)
