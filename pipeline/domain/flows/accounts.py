"""Off-chain accounts: S4's assets, their books, and which side of an account is its balance.

USER, MERCHANT, ESCROW, FEE_POOL, ANCHOR and SYSTEM_BUFFER owe their balance to somebody: credit-normal,
debits must not exceed credits. TREASURY is where value comes from (of a fiat asset: the money at the
bank): debit-normal, credits must not exceed debits. An anchor's account in its obligation book is credited
by the claim and debited by fulfilment, so it too is credit-normal: its balance is what is owed.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from pipeline.domain.account import LEDGER_IDS, AccountCode, AccountRef, account_id, book_claim, owner_id

CHAIN: Final = "offchain"
CHAIN_NUMBER: Final = 0

DEBITS_MUST_NOT_EXCEED_CREDITS: Final = 2
CREDITS_MUST_NOT_EXCEED_DEBITS: Final = 4
HISTORY: Final = 8
CLOSED: Final = 32

CREDIT_NORMAL: Final = frozenset(
    {
        AccountCode.USER,
        AccountCode.MERCHANT,
        AccountCode.ESCROW,
        AccountCode.FEE_POOL,
        AccountCode.ANCHOR,
        AccountCode.SYSTEM_BUFFER,
    }
)
CUSTOMERS: Final = frozenset({AccountCode.USER, AccountCode.MERCHANT})
"""Accounts that somebody must open; all others belong to the book and open when first needed."""
ANCHOR_ASSET: Final = "SOVR"
OBLIGATION: Final = "_OBLIGATION"
ANCHORS: Final = tuple(name.removesuffix(OBLIGATION) for name in LEDGER_IDS if name.endswith(OBLIGATION))
ASSET_OF_LEDGER: Final = {number: asset for asset, number in LEDGER_IDS.items()}


class AccountRow(NamedTuple):
    """An account as the books hold it."""

    id: bytes  # 16 bytes, little-endian
    debits_pending: int
    debits_posted: int
    credits_pending: int
    credits_posted: int
    owner_hash: bytes
    ledger: int
    code: int
    flags: int
    timestamp: int


def asset_key(asset: str) -> str:
    """Key of an off-chain asset, e.g. offchain/SOVR."""
    return f"{CHAIN}/{asset}"


def is_offchain(key: str) -> bool:
    """Whether an asset key names an off-chain asset."""
    return key.startswith(f"{CHAIN}/")


def ledger_of(key: str) -> int:
    """Book number of an off-chain asset's key. Raises KeyError for an asset that S4 does not list."""
    return LEDGER_IDS[key.removeprefix(f"{CHAIN}/")]


def account(asset: str, code: AccountCode, owner: str = "") -> AccountRef:
    """An off-chain account by S4's names."""
    return AccountRef(asset_key(asset), int(code), owner)


def control(asset: str) -> AccountRef:
    """The control account of an asset's book: the other side of closing transfers."""
    return account(asset, AccountCode.BOOK)


def anchor_of_ledger(ledger: int) -> str:
    """Anchor whose obligations a book keeps. Raises KeyError."""
    return ASSET_OF_LEDGER[ledger].removesuffix(OBLIGATION)


def ident(ref: AccountRef) -> bytes:
    """Id of an off-chain account: the book's number for its control account, a hash for all others."""
    if ref.code == AccountCode.BOOK:
        return ledger_of(ref.asset).to_bytes(16, "little")
    return account_id(ref)


def user_data(ref: AccountRef) -> bytes:
    """`user_data_128` of an account: its owner's hash, or the claim on the book."""
    return book_claim(ref.asset) if ref.code == AccountCode.BOOK else owner_id(ref.owner)


def flags_of(code: int) -> int:
    """Flags that an account is made with; every one keeps the history of its balances."""
    if code in CREDIT_NORMAL:
        return DEBITS_MUST_NOT_EXCEED_CREDITS | HISTORY
    if code == AccountCode.TREASURY:
        return CREDITS_MUST_NOT_EXCEED_DEBITS | HISTORY
    return HISTORY


def broken_sign(row: AccountRow) -> str | None:
    """What is wrong with an account whose flag forbids its balance; None if nothing is."""
    if (
        row.flags & DEBITS_MUST_NOT_EXCEED_CREDITS
        and row.debits_posted + row.debits_pending > row.credits_posted
    ):
        return "debits exceed credits"
    if (
        row.flags & CREDITS_MUST_NOT_EXCEED_DEBITS
        and row.credits_posted + row.credits_pending > row.debits_posted
    ):
        return "credits exceed debits"
    return None
