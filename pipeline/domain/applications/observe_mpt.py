"""Changes of MPT holders → who gave units to whom. Pure.

The ledger tells what each holder has more or less; units come from the issuer and go back to it, so the issuer's share
is what the holders' changes leave over (their sum, reversed), and givers and takers balance always. One giver or one
taker, as in nearly all transactions, leaves no choice; else they are paired in the order of the ledger, which keeps
every holder's sum exact and says nothing about who meant whom. Units that a holder locks stay his own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pipeline.domain.asset import mpt_issuer
from schemas.records import MptChange


class MptMove(NamedTuple):
    """Units that went from one holder to another; the issuer stands for what does not exist yet or any more."""

    issuance: str
    source: str
    target: str
    amount: int


def mpt_moves(changes: Iterable[MptChange]) -> Iterator[MptMove]:
    """Moves of one transaction's changes, by issuance in the order in which they were met."""
    held: dict[str, dict[str, int]] = {}
    for change in changes:
        if change["account"] is not None:
            sums = held.setdefault(change["issuance"], {})
            more = int(change["change"]) + int(change["locked_change"])
            sums[change["account"]] = sums.get(change["account"], 0) + more
    for issuance, sums in held.items():
        issuer = mpt_issuer(issuance)
        sums[issuer] = sums.get(issuer, 0) - sum(sums.values())
        yield from (MptMove(issuance, *pair) for pair in _paired(sums))


def _paired(sums: dict[str, int]) -> Iterator[tuple[str, str, int]]:
    left = {account: more for account, more in sums.items() if more > 0}
    for giver, more in sums.items():
        owes = -more
        for taker in [*left] if owes > 0 else ():
            amount = min(owes, left[taker])
            if amount:
                yield giver, taker, amount
                owes, left[taker] = owes - amount, left[taker] - amount
