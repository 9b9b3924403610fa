"""What the engine's answers mean to the bookkeeper."""

from __future__ import annotations

from typing import Final

from tigerbeetle import CreateTransferStatus

from sinks.bookkeeper_blocks import BooksDefect

CREATED: Final = int(CreateTransferStatus.CREATED)
EXISTS: Final = int(CreateTransferStatus.EXISTS)
ANY_EXISTS: Final = frozenset(int(one) for one in CreateTransferStatus if one.name.startswith("EXISTS"))
OVERFLOWS: Final = frozenset(
    int(one) for one in CreateTransferStatus
    if one.name.startswith(("OVERFLOWS_DEBITS", "OVERFLOWS_CREDITS"))
)  # fmt: skip
"""The sum of what an account was ever debited or credited passes 2^128-1: such units can't be booked."""
REFUSED: Final = "over_u128"
"""Why a transfer of a chain was refused."""


def check(transfer_id: bytes, status: int, any_exists: bool = False) -> None:
    """Raise BooksDefect unless a transfer stands as it was asked for, or `any_exists` in whatever form."""
    if status in (CREATED, EXISTS) or (any_exists and status in ANY_EXISTS):
        return
    ident = int.from_bytes(transfer_id, "little")
    raise BooksDefect(f"transfer {ident:032x}: {CreateTransferStatus(status).name}")
