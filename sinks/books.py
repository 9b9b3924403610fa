"""What both book engines speak: TigerBeetle's own wire layout, in contiguous buffers.

A batch of events is one `bytes` of 128-byte little-endian records, its answer one `bytes` of 16-byte
results, one per event and in order. A 128-bit id is 16 little-endian bytes; in the numpy dtypes each u128 is
two u64 fields, `<name>_lo` and `<name>_hi`. Source: TigerBeetle 0.17, `tigerbeetle.bindings` (CAccount,
CTransfer, CCreateTransferResult, CAccountFilter, CQueryFilter).
"""

from __future__ import annotations

import struct
from typing import Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.void]
U64s = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

BATCH_MAX: Final = 8189
"""Largest batch, and largest `limit` of a query: one message of 1 MiB less its header and trailer."""
EVENT_BYTES: Final = 128
RESULT_BYTES: Final = 16
ID_BYTES: Final = 16
AMOUNT_MAX: Final = (1 << 128) - 1
CREATED: Final = 0xFFFFFFFF
"""Status of an event that was applied (`CreateTransferStatus.CREATED`)."""


def _u128(*names: str) -> list[tuple[str, str]]:
    return [(f"{name}_{half}", "<u8") for name in names for half in ("lo", "hi")]


ACCOUNT_DTYPE: Final = np.dtype(
    [
        *_u128("id", "debits_pending", "debits_posted", "credits_pending", "credits_posted", "user_data_128"),
        ("user_data_64", "<u8"),
        ("user_data_32", "<u4"),
        ("reserved", "<u4"),
        ("ledger", "<u4"),
        ("code", "<u2"),
        ("flags", "<u2"),
        ("timestamp", "<u8"),
    ]
)
TRANSFER_DTYPE: Final = np.dtype(
    [
        *_u128("id", "debit_account_id", "credit_account_id", "amount", "pending_id", "user_data_128"),
        ("user_data_64", "<u8"),
        ("user_data_32", "<u4"),
        ("timeout", "<u4"),
        ("ledger", "<u4"),
        ("code", "<u2"),
        ("flags", "<u2"),
        ("timestamp", "<u8"),
    ]
)
BALANCE_DTYPE: Final = np.dtype(
    [
        *_u128("debits_pending", "debits_posted", "credits_pending", "credits_posted"),
        ("timestamp", "<u8"),
        ("reserved", "V56"),
    ]
)
RESULT_DTYPE: Final = np.dtype([("timestamp", "<u8"), ("status", "<u4"), ("reserved", "<u4")])
ID_DTYPE: Final = np.dtype([("lo", "<u8"), ("hi", "<u8")])

ACCOUNT_STRUCT: Final = struct.Struct("<16s16s16s16s16s16sQIIIHHQ")
"""id, debits_pending, debits_posted, credits_pending, credits_posted, user_data_128 (16 bytes each),
user_data_64, user_data_32, reserved, ledger, code, flags, timestamp."""
TRANSFER_STRUCT: Final = struct.Struct("<16s16s16s16s16s16sQIIIHHQ")
"""id, debit_account_id, credit_account_id, amount, pending_id, user_data_128 (16 bytes each),
user_data_64, user_data_32, timeout, ledger, code, flags, timestamp."""
RESULT_STRUCT: Final = struct.Struct("<QII")
"""timestamp, status, reserved."""
BALANCE_STRUCT: Final = struct.Struct("<16s16s16s16sQ56s")
"""debits_pending, debits_posted, credits_pending, credits_posted, timestamp, reserved."""
ACCOUNT_FILTER_STRUCT: Final = struct.Struct("<16s16sQIH58sQQII")
"""account_id, user_data_128, user_data_64, user_data_32, code, reserved, timestamp_min, timestamp_max,
limit, flags."""
QUERY_FILTER_STRUCT: Final = struct.Struct("<16sQIIH6sQQII")
"""user_data_128, user_data_64, user_data_32, ledger, code, reserved, timestamp_min, timestamp_max, limit,
flags."""


class BooksError(Exception):
    """An engine cannot do its work; the last acknowledged batch stands."""


class BooksFullError(BooksError):
    """No room for the batch on disk: nothing of it was applied."""


class BooksDamagedError(BooksError):
    """The stored books are damaged somewhere a torn write cannot explain."""


class BooksInUseError(BooksError):
    """Another process owns this directory."""


class BooksUnavailableError(BooksError):
    """The cluster does not answer, or refuses this client."""


@runtime_checkable
class Books(Protocol):
    """A double-entry engine with TigerBeetle 0.17's semantics, fed with contiguous buffers.

    Every method raises `tigerbeetle.client.TooMuchDataError` for more than BATCH_MAX events or a query limit
    above it, `tigerbeetle.client.ClientClosedError` after `close`, and a `BooksError` when the engine cannot
    answer. A batch whose call has returned is durable.
    """

    def create_accounts_packed(self, events: bytes) -> bytes:
        """ACCOUNT_STRUCT events → RESULT_STRUCT results (CreateAccountStatus), one per event in order."""
        ...

    def create_transfers_packed(self, events: bytes) -> bytes:
        """TRANSFER_STRUCT events → RESULT_STRUCT results (CreateTransferStatus), one per event in order."""
        ...

    def lookup_accounts_packed(self, ids: bytes) -> bytes:
        """16-byte ids → ACCOUNT_STRUCT rows in the order asked; unknown ids are left out."""
        ...

    def lookup_transfers_packed(self, ids: bytes) -> bytes:
        """16-byte ids → TRANSFER_STRUCT rows in the order asked; unknown ids are left out."""
        ...

    def get_account_transfers_packed(self, account_filter: bytes) -> bytes:
        """One ACCOUNT_FILTER_STRUCT → TRANSFER_STRUCT rows by timestamp; empty if the filter is invalid."""
        ...

    def get_account_balances_packed(self, account_filter: bytes) -> bytes:
        """One ACCOUNT_FILTER_STRUCT → BALANCE_STRUCT rows; empty unless the account has flag `history`."""
        ...

    def query_accounts_packed(self, query_filter: bytes) -> bytes:
        """One QUERY_FILTER_STRUCT → ACCOUNT_STRUCT rows by timestamp."""
        ...

    def query_transfers_packed(self, query_filter: bytes) -> bytes:
        """One QUERY_FILTER_STRUCT → TRANSFER_STRUCT rows by timestamp."""
        ...

    def close(self) -> None:
        """Release the engine; idempotent."""
        ...
