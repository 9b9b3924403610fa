"""Transfers a second of the book engines, as they grow to 5 million transfers. `tidebook bench books`.

Embedded: durable (one sync a batch), batches of 8189, ids that rise as those of a chain do, and ids that are
hashes as those off the chain are. A real cluster (TIGERBEETLE_ADDRESSES, or a `tigerbeetle` on PATH, which is
then started on a fresh file): our packed path against the package's own dataclass path, in turns in the same
run, then growth by our path. Events are made outside the measured time; the package's path starts from its
dataclass objects, ours from packed bytes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tigerbeetle as tb

from sinks.books import ACCOUNT_DTYPE, BATCH_MAX, CREATED, RESULT_DTYPE, TRANSFER_DTYPE, Books
from sinks.embedded_books import EmbeddedBooks
from sinks.tigerbeetle import connect
from tests.support.tigerbeetle import tigerbeetle_server

ACCOUNTS = 10_000
MILLION = 1_000_000
LEDGER = 700_001
CODE = 100


def run(transactions: int = 0, seed: int = 7, growth: int = 5 * MILLION) -> dict[str, Any]:
    """Figures; each engine grows to the larger of `transactions` and `growth` transfers."""
    total = max(transactions, growth)
    result: dict[str, Any] = {"batch": BATCH_MAX, "accounts": ACCOUNTS, "transfers": total}
    with tempfile.TemporaryDirectory(prefix="tidebook-bench-") as name:
        directory = Path(name)
        for label, rising in (("rising_ids", True), ("hashed_ids", False)):
            with EmbeddedBooks(directory / label) as books:
                result |= _growth(
                    books, total if rising else min(total, MILLION), seed, rising, f"embedded_{label}"
                )
            shutil.rmtree(directory / label)
        result["embedded_demanded_transfers_per_s"] = 50_000
        with cluster(directory) as found:
            if found is None:
                result["cluster"] = "none: neither TIGERBEETLE_ADDRESSES nor a tigerbeetle on PATH"
            else:
                result |= _against_dataclasses(found, seed)
                result |= _growth(connect(*found, timeout_s=60), total, seed + 1, True, "cluster_packed")
    return result


def accounts(books: Books, first: int) -> None:
    """Create ACCOUNTS accounts from id `first`."""
    rows = np.zeros(ACCOUNTS, ACCOUNT_DTYPE)
    rows["id_lo"] = np.arange(first, first + ACCOUNTS)
    rows["ledger"], rows["code"] = LEDGER, CODE
    for start in range(0, ACCOUNTS, BATCH_MAX):
        books.create_accounts_packed(rows[start : start + BATCH_MAX].tobytes())


def transfers(count: int, seed: int, first_id: int, first_account: int, rising: bool) -> Iterator[bytes]:
    """Batches of packed transfers between random accounts."""
    random = np.random.default_rng(seed)
    for start in range(0, count, BATCH_MAX):
        size = min(BATCH_MAX, count - start)
        rows = np.zeros(size, TRANSFER_DTYPE)
        if rising:
            rows["id_lo"], rows["id_hi"] = np.arange(first_id + start, first_id + start + size), 1
        else:
            rows["id_lo"], rows["id_hi"] = random.integers(1, 1 << 63, (2, size))
        debit = random.integers(0, ACCOUNTS, size)
        rows["debit_account_id_lo"] = first_account + debit
        rows["credit_account_id_lo"] = first_account + (debit + random.integers(1, ACCOUNTS, size)) % ACCOUNTS
        rows["amount_lo"] = random.integers(1, 1 << 40, size)
        rows["user_data_64"], rows["ledger"], rows["code"] = start, LEDGER, CODE
        yield rows.tobytes()


def _growth(books: Books, total: int, seed: int, rising: bool, label: str) -> dict[str, Any]:
    """Post `total` transfers; transfers/s over all and of each million, and the slowest batch."""
    first = time.time_ns() >> 10
    accounts(books, first)
    done, spent, longest = 0, 0.0, 0.0
    by_million: list[float] = []
    at_million = 0.0
    for batch in transfers(total, seed, first << 8, first, rising):
        began = time.perf_counter()
        answer = books.create_transfers_packed(batch)
        took = time.perf_counter() - began
        _must_be_created(answer)
        spent, longest, before = spent + took, max(longest, took), done
        done += len(batch) // TRANSFER_DTYPE.itemsize
        if done // MILLION > before // MILLION:
            by_million.append(MILLION / (spent - at_million))
            at_million = spent
    result: dict[str, Any] = {f"{label}_transfers_per_s": done / spent, f"{label}_slowest_batch_s": longest}
    result |= {f"{label}_million_{n}_transfers_per_s": rate for n, rate in enumerate(by_million, 1)}
    return result


def _must_be_created(answer: bytes) -> None:
    if (np.frombuffer(answer, RESULT_DTYPE)["status"] != CREATED).any():
        raise RuntimeError("a transfer of the benchmark was refused")


def _against_dataclasses(
    found: tuple[str, int], seed: int, batches: int = 25, rounds: int = 3
) -> dict[str, Any]:
    """Our path and the package's, in turns; median transfers/s of each."""
    ours = connect(*found, timeout_s=60)
    theirs = tb.ClientSync(cluster_id=found[1], replica_addresses=found[0])
    first = time.time_ns() >> 10
    accounts(ours, first)
    packed_s: list[float] = []
    dataclass_s: list[float] = []

    def package(batch: bytes) -> None:
        if any(r.status != tb.CreateTransferStatus.CREATED for r in theirs.create_transfers(made[batch])):
            raise RuntimeError("a transfer of the benchmark was refused")

    ids = first << 8
    for round_number in range(rounds):
        for times, send in ((packed_s, lambda b: _must_be_created(ours.create_transfers_packed(b))),
                            (dataclass_s, package)):  # fmt: skip
            mine = list(transfers(batches * BATCH_MAX, seed + round_number, ids, first, True))
            ids += batches * BATCH_MAX
            made = {batch: list(map(_dataclass, np.frombuffer(batch, TRANSFER_DTYPE))) for batch in mine}
            times.append(_timed(send, mine))
    theirs.close()
    ours.close()
    count = batches * BATCH_MAX
    packed, dataclass = count / sorted(packed_s)[rounds // 2], count / sorted(dataclass_s)[rounds // 2]
    return {
        "cluster_packed_path_transfers_per_s": packed,
        "cluster_dataclass_path_transfers_per_s": dataclass,
        "cluster_ratio": packed / dataclass,
        "cluster_ratio_demanded": 3,
    }


def _timed(send: Callable[[bytes], None], batches: list[bytes]) -> float:
    began = time.perf_counter()
    for batch in batches:
        send(batch)
    return time.perf_counter() - began


def _dataclass(row: Any) -> tb.Transfer:
    def whole(name: str) -> int:
        return int(row[f"{name}_lo"]) | int(row[f"{name}_hi"]) << 64

    return tb.Transfer(
        id=whole("id"), debit_account_id=whole("debit_account_id"), credit_account_id=whole("credit_account_id"),
        amount=whole("amount"), user_data_64=int(row["user_data_64"]), ledger=int(row["ledger"]),
        code=int(row["code"]),
    )  # fmt: skip


@contextmanager
def cluster(directory: Path) -> Iterator[tuple[str, int] | None]:
    """(addresses, cluster id) of a real TigerBeetle, None where there is none."""
    addresses = os.environ.get("TIGERBEETLE_ADDRESSES")
    if addresses:
        yield addresses, int(os.environ.get("TIGERBEETLE_CLUSTER_ID", "0"))
        return
    binary = shutil.which("tigerbeetle")
    if binary is None:
        yield None
        return
    with tigerbeetle_server(binary, directory, cache="512MiB") as address:
        yield address, 0


if __name__ == "__main__":
    for figure, value in run().items():
        print(f"{figure:55} {value:,.3f}" if isinstance(value, float) else f"{figure:55} {value}")
