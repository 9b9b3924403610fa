"""Embedded books: TigerBeetle 0.17's semantics and Python API in this process, durable, without a server.

`connect()` opens fresh books in a temporary directory that goes with them; `connect(path)` opens or makes the
books of a directory, which one process owns at a time. The object has the methods of `tigerbeetle.ClientSync`
(the package's own dataclasses and exceptions) and the packed ones of `sinks.books.Books`, which are the fast
ones: the dataclasses cost more than the books.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
import time
import weakref
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from tigerbeetle import (
    Account,
    AccountBalance,
    AccountFilter,
    AccountFlags,
    CreateAccountResult,
    CreateAccountStatus,
    CreateTransferResult,
    CreateTransferStatus,
    QueryFilter,
    Transfer,
    TransferFlags,
)
from tigerbeetle.bindings import CAccount, CAccountFilter, CQueryFilter, CTransfer

from sinks.books import BALANCE_STRUCT, RESULT_STRUCT
from sinks.embedded_engine import Engine

# The package's dataclasses are built by an alias that type checkers do not follow.
_make_account: Final[Any] = Account
_make_transfer: Final[Any] = Transfer
_make_balance: Final[Any] = AccountBalance
_EVENT: Final = struct.Struct("<16s16s16s16s16s16sQIIIHHQ")
_U128_MAX: Final = (1 << 128) - 1


class EmbeddedBooks(Engine):
    """Books in one directory with ClientSync's methods. Thread-safe; a context manager."""

    def create_accounts(self, accounts: list[Account]) -> list[CreateAccountResult]:
        """One result per account, in order."""
        packed = b"".join([_pack_account(account) for account in accounts])
        results = RESULT_STRUCT.iter_unpack(self.create_accounts_packed(packed))
        return [CreateAccountResult(stamp, CreateAccountStatus(status)) for stamp, status, _ in results]

    def create_transfers(self, transfers: list[Transfer]) -> list[CreateTransferResult]:
        """One result per transfer, in order."""
        packed = b"".join([_pack_transfer(transfer) for transfer in transfers])
        results = RESULT_STRUCT.iter_unpack(self.create_transfers_packed(packed))
        return [CreateTransferResult(stamp, CreateTransferStatus(status)) for stamp, status, _ in results]

    def lookup_accounts(self, accounts: list[int]) -> list[Account]:
        """The accounts that exist, in the order asked."""
        return _accounts(self.lookup_accounts_packed(_pack_ids(accounts)))

    def lookup_transfers(self, transfers: list[int]) -> list[Transfer]:
        """The transfers that exist, in the order asked."""
        return _transfers(self.lookup_transfers_packed(_pack_ids(transfers)))

    def get_account_transfers(self, filter: AccountFilter) -> list[Transfer]:
        """Transfers of one account by timestamp; [] if the filter is invalid."""
        return _transfers(self.get_account_transfers_packed(_pack_ctype(CAccountFilter, filter)))

    def get_account_balances(self, filter: AccountFilter) -> list[AccountBalance]:
        """Past balances of an account with flag `history`; [] if it has none or the filter is invalid."""
        rows = BALANCE_STRUCT.iter_unpack(
            self.get_account_balances_packed(_pack_ctype(CAccountFilter, filter))
        )
        return [_make_balance(*map(_number, row[:4]), row[4]) for row in rows]

    def query_accounts(self, query_filter: QueryFilter) -> list[Account]:
        """Accounts by their fields; [] if the filter is invalid."""
        return _accounts(self.query_accounts_packed(_pack_ctype(CQueryFilter, query_filter)))

    def query_transfers(self, query_filter: QueryFilter) -> list[Transfer]:
        """Transfers by their fields; [] if the filter is invalid."""
        return _transfers(self.query_transfers_packed(_pack_ctype(CQueryFilter, query_filter)))

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


def _pack_account(a: Account) -> bytes:
    try:
        return _EVENT.pack(
            a.id.to_bytes(16, "little"),
            a.debits_pending.to_bytes(16, "little"),
            a.debits_posted.to_bytes(16, "little"),
            a.credits_pending.to_bytes(16, "little"),
            a.credits_posted.to_bytes(16, "little"),
            a.user_data_128.to_bytes(16, "little"),
            a.user_data_64,
            a.user_data_32,
            0,
            a.ledger,
            a.code,
            a.flags,
            a.timestamp,
        )
    except (OverflowError, struct.error):
        return _pack_ctype(CAccount, a)


def _pack_transfer(t: Transfer) -> bytes:
    try:
        return _EVENT.pack(
            t.id.to_bytes(16, "little"),
            t.debit_account_id.to_bytes(16, "little"),
            t.credit_account_id.to_bytes(16, "little"),
            t.amount.to_bytes(16, "little"),
            t.pending_id.to_bytes(16, "little"),
            t.user_data_128.to_bytes(16, "little"),
            t.user_data_64,
            t.user_data_32,
            t.timeout,
            t.ledger,
            t.code,
            t.flags,
            t.timestamp,
        )
    except (OverflowError, struct.error):
        return _pack_ctype(CTransfer, t)


def _pack_ctype(ctype: Any, value: object) -> bytes:
    """The package's own conversion, with its own errors (IntegerOverflowError names the field)."""
    return bytes(ctype.from_param(value))


def _pack_ids(ids: Iterable[int]) -> bytes:
    return b"".join([(ident & _U128_MAX).to_bytes(16, "little") for ident in ids])


def _number(packed: bytes) -> int:
    return int.from_bytes(packed, "little")


_account_flags = lru_cache(maxsize=1 << 10)(AccountFlags)
_transfer_flags = lru_cache(maxsize=1 << 10)(TransferFlags)


def _accounts(packed: bytes) -> list[Account]:
    return [
        _make_account(
            *map(_number, row[:6]), row[6], row[7], row[9], row[10], _account_flags(row[11]), row[12]
        )
        for row in _EVENT.iter_unpack(packed)
    ]


def _transfers(packed: bytes) -> list[Transfer]:
    return [
        _make_transfer(*map(_number, row[:6]), *row[6:11], _transfer_flags(row[11]), row[12])
        for row in _EVENT.iter_unpack(packed)
    ]
