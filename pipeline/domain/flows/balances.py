"""Balances of off-chain accounts: available, locked, pending; now, or folded from an account's transfers.

available  what the owner can spend: posted, less what pending transfers hold
locked     what pending transfers hold, and what lies in the owner's ESCROW account
pending    what pending transfers would bring
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from pipeline.domain.account import AccountCode
from pipeline.domain.flows.accounts import ASSET_OF_LEDGER, CLOSED, CREDIT_NORMAL, AccountRow
from pipeline.domain.flows.plan import CLOSING_CREDIT, PENDING, POST, VOID, TransferRow


class Sums(NamedTuple):
    """An account's four balances."""

    debits_pending: int = 0
    debits_posted: int = 0
    credits_pending: int = 0
    credits_posted: int = 0


class OwnerBalance(NamedTuple):
    """What one owner has of one asset."""

    owner: str
    asset: str
    available: int
    locked: int
    pending: int
    status: str


def sums_of(row: AccountRow) -> Sums:
    """The four balances of a row."""
    return Sums(row.debits_pending, row.debits_posted, row.credits_pending, row.credits_posted)


def split(code: int, sums: Sums) -> tuple[int, int, int]:
    """(available, locked, pending) of one account on its normal side."""
    held = (sums.credits_posted - sums.debits_posted, sums.debits_pending, sums.credits_pending)
    if code not in CREDIT_NORMAL:
        held = (-held[0], held[2], held[1])
    posted, locked, pending = held
    if code == AccountCode.ESCROW:
        return 0, posted, 0  # what is pending there is locked on the owner's own account already
    return posted - locked, locked, pending


def owner_balances(owner: str, accounts: Iterable[tuple[AccountRow, Sums]]) -> list[OwnerBalance]:
    """An owner's accounts with their balances → one row per asset, in the order of S4's books."""
    found: dict[int, OwnerBalance] = {}
    for row, sums in accounts:
        if row.ledger not in ASSET_OF_LEDGER or row.code == AccountCode.BOOK:
            continue
        available, locked, pending = split(row.code, sums)
        old = found.get(row.ledger, OwnerBalance(owner, ASSET_OF_LEDGER[row.ledger], 0, 0, 0, "active"))
        found[row.ledger] = OwnerBalance(
            owner, old.asset, old.available + available, old.locked + locked, old.pending + pending, old.status
        )  # fmt: skip
    return [found[ledger] for ledger in sorted(found)]


def fold(account: bytes, rows: Iterable[TransferRow], until_ms: int) -> Sums:
    """Balances of an account from its transfers, those of events up to `until_ms` alone."""
    sums = [0, 0, 0, 0]
    held: dict[int, TransferRow] = {}
    for row in rows:
        if row.flags & PENDING:
            held[row.id] = row
        if row.user_data_64 > until_ms:
            continue
        side = 0 if row.debit == account else 2
        if row.flags & (POST | VOID):
            sums[side] -= held[row.pending_id].amount
        if row.flags & PENDING:
            sums[side] += row.amount
        elif not row.flags & VOID:
            sums[side + 1] += row.amount
    return Sums(*sums)


def status_of(row: AccountRow, last_closing_flags: int) -> str:
    """active, frozen or closed, from the row and the flags of what closed it."""
    if not row.flags & CLOSED:
        return "active"
    return "closed" if last_closing_flags & CLOSING_CREDIT else "frozen"
