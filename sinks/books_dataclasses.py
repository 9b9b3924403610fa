"""ClientSync's methods over the packed ones: the package's own dataclasses and exceptions, for either engine.

Convenient, not fast: building one object per event costs more than the books do. Field ranges are checked as
the package does (`IntegerOverflowError`); ids to look up are cut to 128 bits, as there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache
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

from sinks.books import ACCOUNT_STRUCT, BALANCE_STRUCT, RESULT_STRUCT, TRANSFER_STRUCT, Books

# The package's dataclasses are built by an alias that type checkers do not follow.
_make_account: Final[Any] = Account
_make_transfer: Final[Any] = Transfer
_make_balance: Final[Any] = AccountBalance
_U128_MAX: Final = (1 << 128) - 1


class DataclassMethods(Books):
    """The methods of `tigerbeetle.ClientSync`, for a class that has the packed ones."""

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


def _pack_account(a: Account) -> bytes:
    try:
        return ACCOUNT_STRUCT.pack(
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
        return TRANSFER_STRUCT.pack(
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
        for row in ACCOUNT_STRUCT.iter_unpack(packed)
    ]


def _transfers(packed: bytes) -> list[Transfer]:
    return [
        _make_transfer(*map(_number, row[:6]), *row[6:11], _transfer_flags(row[11]), row[12])
        for row in TRANSFER_STRUCT.iter_unpack(packed)
    ]
