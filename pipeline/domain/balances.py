"""From account balances to what people ask: available and locked per owner and asset. Pure.

DESIGN.md, "What the commands print": XRP in drops, issued currencies as decimals at 15 places after
q(x), MPT as integers; `locked` is what escrows, channels and MPT locks of the owner hold; the issuer
has one row per asset, -(available + locked) of all its holders.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypedDict

from pipeline.domain.account import AccountCode
from pipeline.domain.asset import NATIVE, mpt_issuer
from pipeline.domain.quantise import units_to_decimal

_AVAILABLE = int(AccountCode.HOLDER)
_LOCKED = frozenset({int(AccountCode.ESCROW), int(AccountCode.CHANNEL)})


class AccountBalance(NamedTuple):
    """Balance of one account of the books, credit-positive, in the book's units."""

    asset: str  # asset key, with the chain
    code: int
    owner: str
    subject: str
    units: int
    pending: int = 0  # what blocks that are not final yet would add


class BalanceRow(TypedDict):
    """One row of `tidebook export balances`."""

    account: str
    asset: str
    available: str
    locked: str


def bare(asset: str) -> str:
    """The asset without its chain: `XRP`, `<currency>.<issuer>`, `mpt:<issuance id>`."""
    return asset.split("/", 1)[1]


def show(asset: str, units: int) -> str:
    """Units of a bare asset as text."""
    return str(units) if asset == NATIVE or asset.startswith("mpt:") else units_to_decimal(units)


def balance_rows(accounts: Iterable[AccountBalance]) -> Iterator[BalanceRow]:
    """Rows by asset and account; NFT books and the books' own control accounts are left out."""
    held: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    issued: dict[str, int] = defaultdict(int)
    for asset, code, owner, _, units, _ in accounts:
        name = bare(asset)
        if name.startswith("nft:") or (code != _AVAILABLE and code not in _LOCKED):
            continue
        held[(name, owner)][code != _AVAILABLE] += units
        if name != NATIVE:
            issued[name] += units
    for name, units in issued.items():
        issuer = mpt_issuer(name[4:]) if name.startswith("mpt:") else name.rpartition(".")[2]
        held[(name, issuer)][0] -= units
    for (name, owner), (available, locked) in sorted(held.items()):
        if available or locked:
            yield {
                "account": owner,
                "asset": name,
                "available": show(name, available),
                "locked": show(name, locked),
            }
