"""The embedded engine's own promises: packed buffers, limits, clock, owner, threads, full disk."""

from __future__ import annotations

import multiprocessing
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tigerbeetle as tb

from sinks.books import (
    ACCOUNT_DTYPE,
    ACCOUNT_STRUCT,
    BATCH_MAX,
    CREATED,
    RESULT_DTYPE,
    TRANSFER_DTYPE,
    TRANSFER_STRUCT,
    BooksError,
    BooksFullError,
    BooksInUseError,
)
from sinks.embedded_books import EmbeddedBooks, connect

Status = tb.CreateTransferStatus
NO_ACCOUNT_FILTER = {"user_data_128": 0, "user_data_64": 0, "user_data_32": 0, "code": 0}
SOME = tb.AccountFilterFlags.DEBITS | tb.AccountFilterFlags.CREDITS


@pytest.fixture
def books(tmp_path: Path) -> Iterator[EmbeddedBooks]:
    with connect(tmp_path / "books", sync=False) as opened:
        opened.create_accounts([tb.Account(id=n, ledger=1, code=1) for n in (1, 2, 3)])
        yield opened


def movements(count: int, first: int = 1, amount: int = 1) -> np.ndarray:
    """`count` transfers of `amount` from account 1 to account 2 with ids from `first` on."""
    rows = np.zeros(count, TRANSFER_DTYPE)
    rows["id_lo"] = np.arange(first, first + count)
    rows["debit_account_id_lo"], rows["credit_account_id_lo"] = 1, 2
    rows["amount_lo"], rows["ledger"], rows["code"] = amount, 1, 1
    return rows


def statuses(packed: bytes) -> list[int]:
    return np.frombuffer(packed, RESULT_DTYPE)["status"].tolist()


def balances(books: EmbeddedBooks, ident: int) -> tuple[int, int, int, int]:
    (a,) = books.lookup_accounts([ident])
    return a.debits_pending, a.debits_posted, a.credits_pending, a.credits_posted


def test_layouts_are_the_packages_own() -> None:
    """A struct, a dtype row and the package's C structure are the same 128 bytes."""
    from tigerbeetle.bindings import CAccount, CTransfer

    account = tb.Account(1 << 99, 2, 3, 4, 5, 1 << 70, 7, 8, 9, 10, tb.AccountFlags.HISTORY, 12)
    packed = bytes(CAccount.from_param(account))
    wide = [n.to_bytes(16, "little") for n in (1 << 99, 2, 3, 4, 5, 1 << 70)]
    assert ACCOUNT_STRUCT.pack(*wide, 7, 8, 0, 9, 10, 8, 12) == packed
    (row,) = np.frombuffer(packed, ACCOUNT_DTYPE)
    assert (row["id_hi"], row["user_data_128_hi"], row["ledger"], row["flags"]) == (1 << 35, 1 << 6, 9, 8)
    transfer = tb.Transfer(1, 2, 3, 1 << 64, 5, 6, 7, 8, 9, 10, 11, tb.TransferFlags.PENDING, 13)
    packed = bytes(CTransfer.from_param(transfer))
    wide = [n.to_bytes(16, "little") for n in (1, 2, 3, 1 << 64, 5, 6)]
    assert TRANSFER_STRUCT.pack(*wide, 7, 8, 9, 10, 11, 2, 13) == packed
    (row,) = np.frombuffer(packed, TRANSFER_DTYPE)
    assert (row["amount_lo"], row["amount_hi"], row["timeout"], row["timestamp"]) == (0, 1, 9, 13)


def test_packed_batch_of_the_largest_size(books: EmbeddedBooks) -> None:
    assert statuses(books.create_transfers_packed(movements(BATCH_MAX).tobytes())) == [CREATED] * BATCH_MAX
    again = movements(BATCH_MAX).tobytes()
    assert set(statuses(books.create_transfers_packed(again))) == {Status.EXISTS}
    assert balances(books, 1) == (0, BATCH_MAX, 0, 0)
    with pytest.raises(tb.TooMuchDataError):
        books.create_transfers_packed(movements(BATCH_MAX + 1, first=10_000).tobytes())
    with pytest.raises(tb.TooMuchDataError):
        books.lookup_accounts_packed(bytes(16 * (BATCH_MAX + 1)))
    with pytest.raises(ValueError, match="128-byte"):
        books.create_transfers_packed(b"x" * 100)
    assert balances(books, 2) == (0, 0, 0, BATCH_MAX)


def test_reserved_field_of_an_account(books: EmbeddedBooks) -> None:
    row = np.zeros(1, ACCOUNT_DTYPE)
    row["id_lo"], row["reserved"] = 9, 1
    assert statuses(books.create_accounts_packed(row.tobytes())) == [tb.CreateAccountStatus.RESERVED_FIELD]


def test_amounts_are_exact_over_all_128_bits(books: EmbeddedBooks) -> None:
    """Column sums carry through every limb and stop at 2^128 − 1, not beyond."""
    rows = movements(4)
    rows["amount_lo"], rows["amount_hi"] = (1 << 64) - 1, (1 << 61) - 1
    assert set(statuses(books.create_transfers_packed(rows.tobytes()))) == {CREATED}
    total = 4 * ((1 << 125) - 1)
    assert balances(books, 1) == (0, total, 0, 0)
    left = (1 << 128) - 1 - total
    results = books.create_transfers(
        [
            tb.Transfer(id=90, debit_account_id=1, credit_account_id=2, amount=left + 1, ledger=1, code=1),
            tb.Transfer(id=91, debit_account_id=1, credit_account_id=2, amount=left, ledger=1, code=1),
            tb.Transfer(id=92, debit_account_id=1, credit_account_id=3, amount=1, ledger=1, code=1),
        ]
    )
    expected = [Status.OVERFLOWS_DEBITS_POSTED, Status.CREATED, Status.OVERFLOWS_DEBITS_POSTED]
    assert [result.status for result in results] == expected
    assert balances(books, 1) == (0, (1 << 128) - 1, 0, 0)


def test_timeout_beyond_the_end_of_time(tmp_path: Path) -> None:
    with connect(tmp_path, clock=lambda: (1 << 63) - 10**12, sync=False) as books:
        books.create_accounts([tb.Account(id=n, ledger=1, code=1) for n in (1, 2)])
        pending = tb.Transfer(
            id=1,
            debit_account_id=1,
            credit_account_id=2,
            ledger=1,
            code=1,
            timeout=1000,
            flags=tb.TransferFlags(2),
        )
        assert books.create_transfers([pending])[0].status == Status.OVERFLOWS_TIMEOUT


def test_timestamps_rise_whatever_the_clock_does(tmp_path: Path) -> None:
    times = iter([1000, 900, 5, 2000, 1, 1, 1])
    stamps = []
    for reopened in range(2):
        with connect(tmp_path, clock=lambda: next(times), sync=False) as books:
            for n in range(3):
                account = tb.Account(id=1 + n + 10 * reopened, ledger=1, code=1)
                stamps.append(books.create_accounts([account])[0].timestamp)
    assert stamps == sorted(set(stamps))
    assert stamps[0] == 1001


def test_account_history_can_be_paged_both_ways(books: EmbeddedBooks) -> None:
    """20,000 transfers of account 1 in pages of 3,000, forward and back, and within a range of time."""
    for first in range(1, 20_001, 4_000):
        books.create_transfers_packed(movements(4_000, first).tobytes())
    forward, low = [], 0
    while True:
        page = books.get_account_transfers(
            tb.AccountFilter(
                1, **NO_ACCOUNT_FILTER, timestamp_min=low, timestamp_max=0, limit=3000, flags=SOME
            )
        )
        if not page:
            break
        forward += page
        low = page[-1].timestamp + 1
    assert [t.id for t in forward] == list(range(1, 20_001))
    back = SOME | tb.AccountFilterFlags.REVERSED
    until = forward[9_999].timestamp
    page = books.get_account_transfers(
        tb.AccountFilter(2, **NO_ACCOUNT_FILTER, timestamp_min=0, timestamp_max=until, limit=5, flags=back)
    )
    assert [t.id for t in page] == [10_000, 9_999, 9_998, 9_997, 9_996]
    assert not books.get_account_transfers(
        tb.AccountFilter(3, **NO_ACCOUNT_FILTER, timestamp_min=0, timestamp_max=0, limit=5, flags=SOME)
    )


def test_no_overdraft_under_concurrent_writers(tmp_path: Path) -> None:
    """20,000 random transfers by four threads: no limited account is ever below zero, money is conserved."""
    limited = tb.AccountFlags.DEBITS_MUST_NOT_EXCEED_CREDITS
    with connect(tmp_path, sync=False) as books:
        books.create_accounts([tb.Account(id=99, ledger=1, code=1)])
        books.create_accounts([tb.Account(id=n, ledger=1, code=1, flags=limited) for n in range(1, 9)])
        start = movements(8, first=1, amount=500)
        start["debit_account_id_lo"], start["credit_account_id_lo"] = 99, np.arange(1, 9)
        books.create_transfers_packed(start.tobytes())
        outcomes: list[int] = []

        def write(writer: int) -> None:
            draw = np.random.default_rng(writer)
            for batch in range(20):
                rows = movements(250, first=1_000_000 * writer + 250 * batch)
                rows["debit_account_id_lo"] = draw.integers(1, 9, 250)
                rows["credit_account_id_lo"] = rows["debit_account_id_lo"] % 8 + 1
                rows["amount_lo"] = draw.integers(0, 300, 250)
                outcomes.extend(statuses(books.create_transfers_packed(rows.tobytes())))

        threads = [threading.Thread(target=write, args=(n,)) for n in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rows = books.lookup_accounts(list(range(1, 9)))
        assert all(row.credits_posted >= row.debits_posted for row in rows)
        assert sum(row.credits_posted - row.debits_posted for row in rows) == 4000
        assert set(outcomes) == {CREATED, Status.EXCEEDS_CREDITS} and len(outcomes) == 20_000


def test_second_opener_is_told_path_and_owner(tmp_path: Path) -> None:
    with connect(tmp_path, sync=False), pytest.raises(BooksInUseError) as error:
        connect(tmp_path, wait_s=0.1)
    assert str(tmp_path) in str(error.value) and f'"pid": {os.getpid()}' in str(error.value)
    connect(tmp_path, sync=False).close()


def _hold(path: Path, opened: object, seconds: float) -> None:
    import time

    connect(path, sync=False)
    opened.set()  # type: ignore[attr-defined]
    time.sleep(seconds)
    os._exit(9)


def test_dying_owner_is_waited_for(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    opened = context.Event()
    owner = context.Process(target=_hold, args=(tmp_path, opened, 0.5))
    owner.start()
    assert opened.wait(240)
    connect(tmp_path, sync=False, wait_s=240).close()
    owner.join()


def test_closed_books_say_so(books: EmbeddedBooks) -> None:
    books.close()
    books.close()
    with pytest.raises(tb.ClientClosedError):
        books.lookup_accounts([1])


def test_full_disk_keeps_the_last_acknowledged_state(books: EmbeddedBooks) -> None:
    """No room: one clear error, nothing of the batch applied, and the books go on once there is room."""
    books.create_transfers_packed(movements(100).tobytes())
    before = balances(books, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(BooksFullError, match=r"books\.journal"):
            books.create_transfers_packed(movements(8189, first=1000).tobytes())
        assert balances(books, 1) == before
        assert books.lookup_transfers([1000]) == []
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    results = books.create_transfers_packed(movements(8189, first=1000).tobytes())
    assert set(statuses(results)) == {CREATED}
    directory = books.directory
    books.close()
    with connect(directory, sync=False) as again:
        assert balances(again, 1) == (0, 100 + 8189, 0, 0)


def test_failed_sync_stops_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed sync nobody knows what is on disk: no further batch until the books are reopened."""

    def fail(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    with connect(tmp_path) as books:
        books.create_accounts([tb.Account(id=n, ledger=1, code=1) for n in (1, 2)])
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            with pytest.raises(BooksError, match="sync failed"):
                books.create_transfers_packed(movements(1).tobytes())
        with pytest.raises(BooksError, match="open the books again"):
            books.create_transfers_packed(movements(1, first=2).tobytes())
        assert balances(books, 1) == (0, 0, 0, 0)
    with connect(tmp_path) as books:
        assert statuses(books.create_transfers_packed(movements(1).tobytes())) in ([CREATED], [Status.EXISTS])
        assert balances(books, 1) == (0, 1, 0, 0)
