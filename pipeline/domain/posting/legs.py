"""What a block asks of the books: openings, then legs. Plain values, no ids and no IO yet."""

from __future__ import annotations

from typing import NamedTuple

from pipeline.domain.account import AccountRef


class Leg(NamedTuple):
    """One debit and one credit of one transaction."""

    debit: AccountRef
    credit: AccountRef
    amount: int  # units of the book, > 0
    code: int  # TransferCode
    transaction: int  # transaction_index
    leg: int  # place within the transaction, from 0


class Opening(NamedTuple):
    """The balance an account had before a run first touched it.

    Posted once per (account, run): the first attempt wins, later ones answer `exists*`.
    """

    account: AccountRef
    against: AccountRef  # OPENING for native coins, ISSUER for all else
    balance: int  # units, credit-positive; negative for XRP of 2013


class Finding(NamedTuple):
    """Something that somebody must be told once; becomes an alert."""

    rule: str
    severity: str
    subject: str
    transaction: int
    evidence: dict[str, str]


class Postings(NamedTuple):
    """All that one block (or chunk of one) asks of the books, in order."""

    openings: list[Opening]
    legs: list[Leg]
    findings: list[Finding]


class Unbalanced(ValueError):
    """The effects of a transaction do not add up: a defect of the decoder, never of the chain."""
