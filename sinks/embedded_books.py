"""Embedded books: TigerBeetle 0.17's semantics and Python API in this process, durable, without a server.

`connect()` opens fresh books in a temporary directory that goes with them; `connect(path)` opens or makes the
books of a directory, which one process owns at a time. The object has the methods of `tigerbeetle.ClientSync`
(the package's own dataclasses and exceptions) and the packed ones of `sinks.books.Books`, which are the fast
ones.
"""

from __future__ import annotations

import shutil
import tempfile
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from sinks.books_dataclasses import DataclassMethods
from sinks.embedded_engine import Engine


class EmbeddedBooks(Engine, DataclassMethods):
    """Books in one directory. Thread-safe; a context manager."""

    def __enter__(self) -> EmbeddedBooks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TemporaryBooks(EmbeddedBooks):
    """Books whose directory is removed on `close`, or when the object or the process ends."""

    def __init__(self, **options: Any) -> None:
        directory = Path(tempfile.mkdtemp(prefix="tidebook-books-"))
        self._remove = weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        super().__init__(directory, **options)

    def close(self) -> None:
        super().close()
        self._remove()


def connect(
    path: str | Path | None = None,
    *,
    clock: Callable[[], int] = time.time_ns,
    sync: bool = True,
    wait_s: float = 5.0,
) -> EmbeddedBooks:
    """Open embedded books: those of directory `path`, or fresh ones in a temporary directory.

    `clock` gives nanoseconds since 1970; `sync=False` gives up durability on power loss (not on a kill);
    `wait_s` is how long a dying owner of the directory is waited for. Raises BooksInUseError naming path and
    owner, BooksDamagedError naming path and byte.
    """
    if path is None:
        return TemporaryBooks(clock=clock, sync=sync, wait_s=wait_s)
    return EmbeddedBooks(Path(path), clock=clock, sync=sync, wait_s=wait_s)
