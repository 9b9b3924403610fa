"""Embedded books that another process reads: the same answers as the engine's own, and plain faults."""

import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sinks.bookkeeper import Bookkeeper
from sinks.books import ACCOUNT_FILTER_STRUCT, QUERY_FILTER_STRUCT, BooksUnavailableError
from sinks.books_reading import AnsweringBooks, AskedBooks
from sinks.embedded_books import connect

ASSET = "xrpl:0/XRP"


@pytest.fixture(params=["short", "far/" * 40], ids=["short", "beyond a socket's address"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    where = tmp_path / request.param
    where.mkdir(parents=True)
    return where / "books.sock"


@pytest.fixture
def books(path: Path) -> Iterator[AnsweringBooks]:
    path.touch()  # left by a process that was killed
    made = AnsweringBooks(connect(), path)
    yield made
    made.close()


def test_the_answers_are_the_books(books: AnsweringBooks, path: Path) -> None:
    book = Bookkeeper(books).book_of(ASSET)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    ident = book.to_bytes(16, "little")
    asked, another = AskedBooks(path), AskedBooks(path)
    row = books.lookup_accounts_packed(ident)
    assert len(row) == 128 and asked.lookup_accounts_packed(ident) == row
    assert another.lookup_accounts_packed(ident + bytes(16)) == row
    every = QUERY_FILTER_STRUCT.pack(bytes(16), 0, 0, 0, 0, bytes(6), 0, 0, 9, 0)
    assert asked.query_accounts_packed(every) == row
    assert asked.lookup_transfers_packed(ident) == b""
    of = ACCOUNT_FILTER_STRUCT.pack(ident, bytes(16), 0, 0, 0, bytes(58), 0, 0, 9, 3)
    assert asked.get_account_transfers_packed(of) == b""
    with pytest.raises(BooksUnavailableError, match="Error: "):
        asked.lookup_accounts_packed(b"half an id")
    assert asked.lookup_accounts_packed(ident) == row  # and it goes on
    asked.close()


def test_nothing_but_questions_is_answered(books: AnsweringBooks, path: Path) -> None:
    for junk in (b"\x09\x00\x00\x00\x00", b"\x00\xff\xff\xff\xff"):
        with AskedBooks(path)._connect() as there:
            there.sendall(junk)
            assert there.recv(1) == b""


def test_who_connects_and_asks_nothing_keeps_no_others_waiting(
    books: AnsweringBooks, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.books_reading.ASKING_S", 0.01)
    before, asked = threading.active_count(), AskedBooks(path)
    silent = [asked._connect() for _ in range(20)]
    assert asked.lookup_accounts_packed(bytes(16)) == b""
    assert threading.active_count() == before
    for one in silent:
        assert one.recv(1) == b""  # hung up
        one.close()


def test_closed_again_they_leave_the_socket_of_the_next_ones(path: Path) -> None:
    first = AnsweringBooks(connect(), path)
    first.close()
    second = AnsweringBooks(connect(), path)
    first.close()
    assert AskedBooks(path).lookup_accounts_packed(bytes(16)) == b""
    second.close()
    assert not path.exists()


@pytest.mark.parametrize("fails", ["chmod", "listen"])
def test_where_there_can_be_no_socket_none_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    made: list[socket.socket] = []

    class Listening(socket.socket):
        def __init__(self, *how: int) -> None:
            super().__init__(*how)
            made.append(self)

        def listen(self, backlog: int = 0) -> None:
            raise OSError("no listening here")

    monkeypatch.setattr("sinks.books_reading.socket.socket", Listening)
    if fails == "chmod":
        monkeypatch.setattr(Path, "chmod", Listening.listen)
    engine = connect()
    with pytest.raises(OSError, match="no listening"):
        AnsweringBooks(engine, tmp_path / "s")
    assert [one.fileno() for one in made] == [-1] and not (tmp_path / "s").exists()
    assert engine.lookup_accounts_packed(bytes(16)) == b""  # which are open
    engine.close()


def test_books_that_are_closed(books: AnsweringBooks, path: Path) -> None:
    asked = AskedBooks(path)
    books.close()
    with pytest.raises(BooksUnavailableError):
        asked.lookup_accounts_packed(bytes(16))
    with pytest.raises(BooksUnavailableError, match="nobody answers"):
        AskedBooks(path)


def test_a_process_that_ends_in_the_middle_of_an_answer(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        asked = AskedBooks(tmp_path / "s")
        listening.accept()[0].close()  # it only looked whether somebody answers

        def answer() -> None:
            there, _ = listening.accept()
            there.recv(64)
            there.sendall(b"\x00\x80\x00\x00\x00half")
            there.close()

        answering = threading.Thread(target=answer)
        answering.start()
        with pytest.raises(BooksUnavailableError, match="has ended"):
            asked.lookup_accounts_packed(bytes(16))
        answering.join()
