"""Embedded books read by another process: who owns them answers, the audit asks.

One process owns embedded books. It answers the questions that change nothing on a socket in the data directory that
only its own user can open; frames are a question's number (of an answer: whether it is an error) and a length, then
the buffers of `sinks.books`. A question takes the engine's lock like any other, so what is told is what stands.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedRWPair
from pathlib import Path
from typing import Any, Final

from sinks.books import BooksUnavailableError

SOCKET: Final = "books.sock"  # in the data directory
WAIT_S: Final = 30.0
_QUESTIONS: Final = (
    "lookup_accounts_packed",
    "lookup_transfers_packed",
    "get_account_transfers_packed",
    "query_accounts_packed",
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
        with _near(path) as address:
            self._listening.bind(address)
        path.chmod(0o600)
        self._listening.listen()
        threading.Thread(target=self._listen, name="books reading", daemon=True).start()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._books, name)

    def close(self) -> None:
        """Answer no more, and close the books."""
        self._path.unlink(missing_ok=True)
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # ends accept
        self._listening.close()
        self._books.close()

    def _listen(self) -> None:
        while True:
            try:
                asker, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(asker,), daemon=True).start()

    def _answer(self, asker: socket.socket) -> None:
        with suppress(OSError), asker, asker.makefile("rwb") as stream:
            while (asked := _read(stream)) is not None and asked[0] < len(_QUESTIONS):
                try:
                    found = False, getattr(self._books, _QUESTIONS[asked[0]])(asked[1])
                except Exception as error:  # whatever it is: who asked is told
                    found = True, f"{type(error).__name__}: {error}".encode()
                _write(stream, *found)


class AskedBooks:
    """The books of a process that answers; the reading methods of `sinks.books.Books` that an audit needs."""

    def __init__(self, path: Path) -> None:
        """Raises BooksUnavailableError if nobody answers there."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(WAIT_S)
        try:
            with _near(path) as address:
                self._socket.connect(address)
        except OSError as error:
            self._socket.close()
            raise BooksUnavailableError(
                f"{path}: nobody answers for the books ({error.strerror or error}): start the books role, or stop"
                " all that runs on the directory and audit it then"
            ) from None
        self._stream = self._socket.makefile("rwb")

    def close(self) -> None:
        with suppress(OSError):
            self._stream.close()
        self._socket.close()

    def lookup_accounts_packed(self, ids: bytes) -> bytes:
        return self._ask(0, ids)

    def lookup_transfers_packed(self, ids: bytes) -> bytes:
        return self._ask(1, ids)

    def get_account_transfers_packed(self, account_filter: bytes) -> bytes:
        return self._ask(2, account_filter)

    def query_accounts_packed(self, query_filter: bytes) -> bytes:
        return self._ask(3, query_filter)

    def _ask(self, question: int, asked: bytes) -> bytes:
        try:
            _write(self._stream, question, asked)
            answer = _read(self._stream)
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
