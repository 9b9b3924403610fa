"""Embedded books read by another process: who owns them answers, audits and operators ask.

One process owns embedded books. It answers the questions that change nothing on a socket in the data directory that
only its own user can open, one question a connection, one connection after the other. Frames are a question's number
(of an answer: whether it is an error) and a length, then the buffers of `sinks.books`. A question takes the engine's
lock like any other, so what is told is what stands.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from io import BufferedRWPair
from pathlib import Path
from typing import Any, Final

from sinks.books import BooksUnavailableError

SOCKET: Final = "books.sock"  # in the data directory
WAIT_S: Final = 30.0  # for an answer
ASKING_S: Final = 5.0  # for a question, or for its answer to be taken: others wait meanwhile
PAUSE_S: Final = 1.0
_QUESTIONS: Final = (
    "lookup_accounts_packed",
    "lookup_transfers_packed",
    "get_account_transfers_packed",
    "query_accounts_packed",
    "get_account_balances_packed",
)
_HEAD: Final = struct.Struct("<BI")
_BYTES_MAX: Final = 1 << 20  # of a question or an answer, as in TigerBeetle


class AnsweringBooks:
    """Embedded books that also answer others; used like the books themselves, until `close`."""

    def __init__(self, books: Any, path: Path) -> None:
        """Raises OSError where there can't be such a socket; the books are left open then."""
        self._books, self._path = books, path
        path.unlink(missing_ok=True)  # of a process that was killed: the books are ours now
        self._listening = socket.socket(socket.AF_UNIX)
        self._answers = True
        try:
            with _near(path) as address:
                self._listening.bind(address)
            path.chmod(0o600)
            self._listening.listen()
        except OSError:
            self._hang_up()
            raise
        threading.Thread(target=self._listen, name="books reading", daemon=True).start()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._books, name)

    def close(self) -> None:
        """Answer no more, and close the books; idempotent."""
        if self._answers:
            self._hang_up()
        self._books.close()

    def _hang_up(self) -> None:
        """Once: a socket that is there later is somebody else's."""
        self._answers = False
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # ends accept
        self._listening.close()
        with suppress(OSError):
            self._path.unlink()

    def _listen(self) -> None:
        """One asker after the other, as the engine's lock would have it anyway."""
        while self._answers:
            try:
                asker, _ = self._listening.accept()
            except OSError:
                if self._answers:  # no descriptor is left: those who ask wait
                    time.sleep(PAUSE_S)
                continue
            asker.settimeout(ASKING_S)
            with suppress(OSError), asker, asker.makefile("rwb") as stream:
                self._answer(stream)

    def _answer(self, stream: BufferedRWPair) -> None:
        asked = _read(stream)
        if asked is None or asked[0] >= len(_QUESTIONS):
            return
        try:
            found = False, getattr(self._books, _QUESTIONS[asked[0]])(asked[1])
        except Exception as error:  # whatever it is: who asked is told
            found = True, f"{type(error).__name__}: {error}".encode()
        _write(stream, *found)


class AskedBooks:
    """The books of a process that answers; the reading methods of `sinks.books.Books` that those who ask need."""

    def __init__(self, path: Path) -> None:
        """Raises BooksUnavailableError if nobody answers there."""
        self._path = path
        self._connect().close()

    def __getattr__(self, name: str) -> Callable[[bytes], bytes]:
        if name not in _QUESTIONS:
            raise AttributeError(name)
        return partial(self._ask, _QUESTIONS.index(name))

    def close(self) -> None:
        """Nothing is held between questions."""

    def _connect(self) -> socket.socket:
        there = socket.socket(socket.AF_UNIX)
        there.settimeout(WAIT_S)
        try:
            with _near(self._path) as address:
                there.connect(address)
        except OSError as error:
            there.close()
            raise BooksUnavailableError(
                f"{self._path}: nobody answers for the books ({error.strerror or error}): start the books role, or"
                " stop all that runs on the directory and audit it then"
            ) from None
        return there

    def _ask(self, question: int, asked: bytes) -> bytes:
        try:
            with self._connect() as there, there.makefile("rwb") as stream:
                _write(stream, question, asked)
                answer = _read(stream)
        except OSError as error:
            raise BooksUnavailableError(f"the books do not answer any more: {error}") from None
        if answer is None:
            raise BooksUnavailableError("the books do not answer any more: their process has ended")
        if answer[0]:
            raise BooksUnavailableError(answer[1].decode())
        return answer[1]


def _write(stream: BufferedRWPair, kind: int, data: bytes) -> None:
    stream.write(_HEAD.pack(kind, len(data)) + data)
    stream.flush()


def _read(stream: BufferedRWPair) -> tuple[int, bytes] | None:
    """A whole frame; None at the end."""
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    kind, size = _HEAD.unpack(head)
    if size > _BYTES_MAX:
        return None
    data = stream.read(size)
    return (kind, data) if len(data) == size else None


@contextmanager
def _near(path: Path) -> Iterator[str]:
    """The path as a socket's address, which has 107 bytes: through its folder's descriptor where it is longer."""
    if len(os.fsencode(path)) < 100:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
