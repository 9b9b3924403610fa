"""What is acknowledged survives: SIGKILL at any moment, a torn tail, a damaged middle, a restart."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tigerbeetle as tb

from sinks.books import BATCH_MAX, BooksDamagedError
from sinks.embedded_books import EmbeddedBooks, connect

ROOT = Path(__file__).parents[2]
PENDING, POST, LINKED = (
    tb.TransferFlags.PENDING,
    tb.TransferFlags.POST_PENDING_TRANSFER,
    tb.TransferFlags.LINKED,
)
QUERY = {"user_data_128": 0, "user_data_64": 0, "user_data_32": 0, "ledger": 0, "code": 0}
SIZE = 40


def batch(number: int) -> list[tb.Transfer]:
    """Batch `number`: 40 transfers that are all created; every third has pendings, posts and a chain."""
    events = []
    for n in range(SIZE):
        event = tb.Transfer(
            id=number * 1000 + n + 1,
            debit_account_id=1 + n % 7,
            credit_account_id=8,
            amount=n,
            ledger=1,
            code=1,
        )
        if number % 3 == 0 and n % 4 < 2:
            event.flags = PENDING if n % 4 == 0 else POST
            event.pending_id = event.id - 1 if n % 4 else 0
            event.amount = n - n % 4
            if n % 4:
                event.debit_account_id = event.credit_account_id = 0
        elif number % 3 == 0 and n % 4 == 2:
            event.flags = LINKED
        events.append(event)
    return events


def write_for_ever(path: str) -> None:
    """Runs in the child: acknowledge every batch on stdout, one number a line, until killed."""
    books = connect(path)
    books.create_accounts(
        [tb.Account(id=n, ledger=1, code=1, flags=tb.AccountFlags.HISTORY * (n == 8)) for n in range(1, 9)]
    )
    number = 0
    while books.lookup_transfers([number * 1000 + 1]):
        number += 1
    while True:
        results = books.create_transfers(batch(number))
        assert all(result.status == tb.CreateTransferStatus.CREATED for result in results)
        os.write(1, b"%d\n" % number)
        number += 1


def check_whole(books: EmbeddedBooks, acknowledged: int) -> int:
    """Every batch up to `acknowledged` is there, any later one whole or not at all; answers how many."""
    number = 0
    while found := books.lookup_transfers([event.id for event in batch(number)]):
        assert len(found) == SIZE, f"batch {number} is torn"
        number += 1
    assert number > acknowledged
    posted = sum(e.amount for n in range(number) for e in batch(n) if e.flags != PENDING)
    accounts = books.lookup_accounts(list(range(1, 9)))
    assert accounts[-1].credits_posted == sum(account.debits_posted for account in accounts) == posted
    assert all(account.debits_pending == account.credits_pending == 0 for account in accounts)
    everything = tb.QueryFilter(**QUERY, timestamp_min=0, timestamp_max=0, limit=BATCH_MAX, flags=0)
    assert len(books.query_transfers(everything)) == min(number * SIZE, BATCH_MAX)
    return number


def test_sigkill_at_any_moment(tmp_path: Path) -> None:
    """A writer is killed eight times at seeded moments; nothing acknowledged is lost, nothing is torn."""
    draw = random.Random(4)
    program = "from test_embedded_books_durability import write_for_ever as w; import sys; w(sys.argv[1])"
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    total = 0
    for turn in range(8):
        child = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
        )
        assert child.stdout is not None
        first = b"".join(child.stdout.readline() for _ in range(turn % 5 + 1))
        time.sleep(draw.uniform(0.0, 0.12))
        child.send_signal(signal.SIGKILL)
        lines = (first + child.stdout.read()).split()
        child.wait()
        with connect(tmp_path) as books:
            count = check_whole(books, int(lines[-1]))
        assert count > total
        total = count
    assert total > 20


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of closed books with five batches (the last is one of the manifold ones)."""
    path = tmp_path_factory.mktemp("written")
    with connect(path, sync=False) as books:
        books.create_accounts([tb.Account(id=n, ledger=1, code=1) for n in range(1, 9)])
        for number in range(7):
            books.create_transfers(batch(number))
    return path


def _copy(written: Path, to: Path, edit: object) -> Path:
    shutil.copytree(written, to)
    journal = to / "books.journal"
    data = bytearray(journal.read_bytes())
    edit(data)  # type: ignore[operator]
    journal.write_bytes(data)
    return to


def _last_record(written: Path) -> int:
    return (written / "books.journal").read_bytes().rindex(b"TIDEBOOK")


def test_torn_tail_is_rolled_back(written: Path, tmp_path: Path) -> None:
    """However short the last record was cut, the batches before it stand and the books go on."""
    start, end = _last_record(written), (written / "books.journal").stat().st_size
    assert end % 128 == 0
    for cut in [start, start + 1, start + 127, start + 128, *range(start + 500, end, 733), end - 1]:

        def truncate(data: bytearray, at: int = cut) -> None:
            del data[at:]

        with connect(_copy(written, tmp_path / str(cut), truncate), sync=False) as books:
            assert check_whole(books, 5) == 6
            results = books.create_transfers(batch(6))
            assert {result.status.name for result in results} == {"CREATED"}
            assert check_whole(books, 6) == 7


def test_garbled_tail_is_rolled_back(written: Path, tmp_path: Path) -> None:
    start, end = _last_record(written), (written / "books.journal").stat().st_size
    for at in [start + 3, start + 30, start + 126, start + 128, start + 5000, end - 1]:

        def garble(data: bytearray, at: int = at) -> None:
            data[at] ^= 0x40

        path = _copy(written, tmp_path / str(at), garble)
        with connect(path, sync=False) as books:
            assert check_whole(books, 5) == 6


def test_zeros_and_rubbish_after_the_end_are_cut_off(written: Path, tmp_path: Path) -> None:
    for number, tail in enumerate([bytes(1 << 20), os.urandom(5000), b"TIDEBOOK" * 999]):
        path = _copy(written, tmp_path / str(number), lambda data, tail=tail: data.extend(tail))
        size = (written / "books.journal").stat().st_size
        with connect(path, sync=False) as books:
            assert check_whole(books, 6) == 7
        assert (path / "books.journal").stat().st_size == size


def test_damage_in_the_middle_is_refused(written: Path, tmp_path: Path) -> None:
    """A record that was acknowledged long ago and no longer checks is not a torn write."""
    data = (written / "books.journal").read_bytes()
    second = data.index(b"TIDEBOOK", 1)
    for number, at in enumerate([second + 12, second + 2000]):

        def garble(copy: bytearray, at: int = at) -> None:
            copy[at] ^= 1

        path = _copy(written, tmp_path / str(number), garble)
        with pytest.raises(BooksDamagedError, match=f"{path}.*byte {second}"):
            connect(path, sync=False)
        connect(_copy(written, tmp_path / f"sound{number}", lambda _: None), sync=False).close()


def test_reopened_books_are_the_same(tmp_path: Path) -> None:
    """Every row, balance, history row, pending status and burnt id is the same after a restart."""
    clock = [1_700_000_000 * 10**9]
    timed = [
        tb.Transfer(
            id=5000 + n, debit_account_id=1, credit_account_id=8, amount=3, ledger=1, code=1, flags=PENDING,
            timeout=5 + 100 * n,
        )
        for n in range(2)
    ]  # fmt: skip
    lost = tb.Transfer(id=6000, debit_account_id=77, credit_account_id=8, amount=3, ledger=1, code=1)
    flags = tb.AccountFilterFlags(3)
    history = tb.AccountFilter(8, 0, 0, 0, 0, 0, 0, BATCH_MAX, flags)
    everything = tb.QueryFilter(**QUERY, timestamp_min=0, timestamp_max=0, limit=BATCH_MAX, flags=0)

    def look(books: EmbeddedBooks) -> list[object]:
        return [
            books.query_accounts(everything),
            books.query_transfers(everything),
            books.get_account_transfers(history),
            books.get_account_balances(history),
        ]

    with connect(tmp_path, clock=lambda: clock[0], sync=False) as books:
        books.create_accounts(
            [
                tb.Account(id=n, ledger=1, code=1, flags=tb.AccountFlags.HISTORY * (n == 8))
                for n in range(1, 9)
            ]
        )
        for number in range(4):
            books.create_transfers(batch(number))
        books.create_transfers([*timed, lost])
        clock[0] += 10 * 10**9
        before = look(books)
        assert before[0][0].debits_pending == 3  # the first has expired, the second has not
    with connect(tmp_path, clock=lambda: clock[0], sync=False) as books:
        assert look(books) == before
        assert [r.status.name for r in books.create_transfers([lost])] == ["ID_ALREADY_FAILED"]
        posts = [tb.Transfer(id=7000 + n, pending_id=5000 + n, amount=3, flags=POST) for n in range(2)]
        names = [result.status.name for result in books.create_transfers(posts)]
        assert names == ["PENDING_TRANSFER_EXPIRED", "CREATED"]
        clock[0] += 1000 * 10**9
        assert books.lookup_accounts([1])[0].debits_pending == 0


def test_many_small_batches_reopen_like_one_big(tmp_path: Path) -> None:
    """Neighbouring records are folded together at start: the same books as when each came alone."""
    draw = np.random.default_rng(1)
    with connect(tmp_path, sync=False) as books:
        books.create_accounts([tb.Account(id=n, ledger=1, code=1) for n in range(1, 9)])
        for n in range(300):
            debit, credit = draw.choice(8, 2, replace=False) + 1
            flags = tb.TransferFlags([0, 0, 0, 2, 16][int(draw.integers(5))])
            movement = tb.Transfer(
                id=n + 1, debit_account_id=int(debit), credit_account_id=int(credit), ledger=1, code=1,
                amount=int(draw.integers(100)), flags=flags,
            )  # fmt: skip
            books.create_transfers([movement])
        before = books.lookup_accounts(list(range(1, 9)))
    with connect(tmp_path, sync=False) as books:
        assert books.lookup_accounts(list(range(1, 9))) == before
        assert len(books.lookup_transfers(list(range(1, 301)))) == 300
