"""Accounts and books: how owners and assets become 128-bit ids.

An account is (asset, code, owner, subject). `subject` is empty but for owners who have one account
per thing: the ledger entry of an escrow or a payment channel, the id of an NFT. Its id is a hash of
these four, so any process computes it without asking; `user_data_128` is a hash of the owner alone,
so that one query finds all of an owner's accounts.

Codes and ledger numbers: seeds/S4 (TigerBeetle Ledger Schema) and DESIGN.md, "Books".
"""

from __future__ import annotations

from enum import IntEnum
from hashlib import blake2b
from typing import Final, NamedTuple


class AccountCode(IntEnum):
    """What kind of account it is. 1-7: S4; from 100: accounts of the chains."""

    USER = 1
    MERCHANT = 2
    TREASURY = 3
    ESCROW = 4
    FEE_POOL = 5
    ANCHOR = 6
    SYSTEM_BUFFER = 7
    BOOK = 100  # the control account that claims a book's number
    HOLDER = 101
    ISSUER = 102
    CLEARING = 103
    FEE_BURN = 104
    CHANNEL = 105
    OPENING = 106
    GAS = 107
    UNKNOWN_OBJECT = 108


class TransferCode(IntEnum):
    """Why units moved. 1-31: S4; from 100: transfers of the chains."""

    DEPOSIT = 1
    WITHDRAWAL = 2
    PAYMENT = 3
    REFUND = 4
    FEE = 5
    ANCHOR_AUTHORIZATION = 10
    ANCHOR_FULFILLMENT = 11
    ANCHOR_EXPIRY = 12
    ESCROW_LOCK = 20
    ESCROW_RELEASE = 21
    ESCROW_VOID = 22
    SETTLEMENT = 30
    SETTLEMENT_REVERSAL = 31
    CHAIN_TRANSFER = 100
    CHAIN_FEE = 101
    CHAIN_MINT = 102
    CHAIN_BURN = 103
    CHAIN_TRADE = 104
    OPENING_BALANCE = 105
    LOCK = 106
    UNLOCK = 107
    GAP_ADJUSTMENT = 108
    BLOCK = 109  # moves nothing: marks how far a chain is booked


LEDGER_IDS: Final = {
    "USD": 1, "EUR": 2, "GBP": 3,
    "ETH": 100, "USDC": 101, "USDT": 102, "BTC": 103,
    "sFIAT": 998, "SOVR": 999,
    "GROCERY_OBLIGATION": 1001, "UTILITY_OBLIGATION": 1002, "FUEL_OBLIGATION": 1003,
}  # fmt: skip
"""S4's ledger numbers of off-chain assets; every on-chain asset claims its own above 2^16."""

BOOK_NUMBER_MIN: Final = 1 << 16
U32: Final = 1 << 32


class AccountRef(NamedTuple):
    """Names of an account; `account_id` gives its number."""

    asset: str  # asset key, see pipeline.domain.asset
    code: int  # AccountCode
    owner: str  # address, user id; "" for the control accounts of a book
    subject: str = ""  # ledger-entry index or NFTokenID, where the owner has one account per thing


def _digest(size: int, *parts: str) -> bytes:
    """BLAKE2b over length-prefixed parts, so that ("ab", "c") and ("a", "bc") differ."""
    h = blake2b(digest_size=size)
    for part in parts:
        data = part.encode()
        h.update(len(data).to_bytes(4, "big"))
        h.update(data)
    return h.digest()


def u128(*parts: str) -> bytes:
    """A 128-bit number that stands for the parts: 16 bytes, little-endian, never 0 or 2^128-1."""
    digest = _digest(16, *parts)
    if digest in (b"\x00" * 16, b"\xff" * 16):  # TigerBeetle reserves both
        return u128("again", *parts)
    return digest


def account_id(ref: AccountRef) -> bytes:
    """Id of an account as TigerBeetle's 16 little-endian bytes.

    The top bit is set: control accounts, whose ids are 32-bit book numbers, can never be met.
    """
    digest = bytearray(u128("account", ref.asset, str(int(ref.code)), ref.owner, ref.subject))
    digest[15] |= 0x80
    if digest == b"\xff" * 16:
        digest[0] = 0xFE
    return bytes(digest)


def owner_id(owner: str) -> bytes:
    """`user_data_128` of all of an owner's accounts, 16 little-endian bytes."""
    return u128("owner", owner)


def book_claim(asset: str) -> bytes:
    """`user_data_128` of the control account that claims a book for this asset."""
    return u128("book", asset)


def book_number(asset: str, probe: int) -> int:
    """The `probe`-th number to try for an asset's book: a hash in 2^16 .. 2^32-2, then upward."""
    span = U32 - 1 - BOOK_NUMBER_MIN
    first = int.from_bytes(_digest(8, "book", asset), "big") % span
    return BOOK_NUMBER_MIN + (first + probe) % span
