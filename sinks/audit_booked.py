"""The audit of what was booked against what the ledgers told, from the history alone, where it has all of the books.

XRP Ledger: the units of an account in the books = the last absolute balance that the ledger's metadata told of it. EVM:
= what it had when it was first seen + what the final blocks' logs changed. Both up to the last block that was booked.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any, Final

from pipeline.domain.account import AccountCode
from pipeline.domain.asset import NATIVE
from pipeline.domain.audit import Result, unlooked
from pipeline.domain.quantise import quantise
from sinks.ddl_shape import literal

Ask = Callable[[str], Iterable[Mapping[str, Any]]]
SHOWN: Final = 50
END: Final = (1 << 62) - 1
UNBOOKED: Final = f"toUInt256('{1 << 128}')"  # from this amount on a transfer is in the history alone
_BOOK: Final = (
    "if(startsWith(asset, 'erc721:'), splitByChar('/', asset)[1], asset)"  # a collection is one book
)


def check_blocks(ask: Ask, known: Container[str], behind: bool, chain: str = "") -> Iterator[Result]:
    """Chains (or `chain` alone) of which the books have transfers and the history no block at all.

    `behind`: they may be on their way."""
    for row in ask(
        "SELECT toString(chain) AS name, count() AS n FROM transfers WHERE chain_number != 0"
        " GROUP BY name ORDER BY name SETTINGS final = 0"
    ):
        if row["name"] in known or chain not in ("", row["name"]):
            continue
        told = f"{row['n']} transfers"
        if behind:
            yield unlooked("booked", row["name"], f"the history has {told} and no block of it yet")
        else:
            yield Result("booked", row["name"], f"blocks of {told}", "no block", False)


def check_booked(ask: Ask, chain: str, number: int) -> Iterator[Result]:
    """Every account of a chain that holds, or has held, something."""
    (row,) = ask(f"SELECT max(block) AS last FROM transfers WHERE chain_number = {number} SETTINGS final = 0")
    last = int(row["last"])
    told = _evm(ask, number, last) if chain.startswith("eip155:") else _xrpl(ask, number, last)
    held = {
        (str(row["asset"]).partition("/")[2], str(row["owner"])): int(row["units"])
        for row in ask(
            "SELECT toString(asset) AS asset, owner, toString(credits - debits) AS units"
            f" FROM book_balances(position = {END}) WHERE chain = {literal(chain)}"
            f" AND code = {int(AccountCode.HOLDER)} AND subject = '' SETTINGS final = 1"
        )
    }
    looked = wrong = 0
    for (asset, account), units in told.items():
        looked += 1
        found = held.get((asset, account), 0)
        if found != units:
            wrong += 1
            if wrong <= SHOWN:
                evidence = {
                    "asset": asset,
                    "account": account,
                    "up_to_block": last,
                    "difference": str(found - units),
                }
                yield Result(
                    "booked", f"{chain}/{asset} {account}", str(units), str(found), False, evidence=evidence
                )
    if not wrong:
        text = f"{looked} balances"
        yield Result("booked", chain, text, text, True, 0, last)


def _xrpl(ask: Ask, number: int, last: int) -> dict[tuple[str, str], int]:
    told = {}
    for row in ask(
        "SELECT account, toString(asset) AS asset, argMax(balance, (ledger_index, transaction_index)) AS last"
        f" FROM balance_changes WHERE chain_number = {number} AND ledger_index <= {last} GROUP BY account, asset"
        " SETTINGS final = 1"
    ):
        asset, balance = str(row["asset"]), str(row["last"])
        whole = asset == NATIVE or asset.startswith("mpt:")
        told[asset, str(row["account"])] = int(balance) if whole else quantise(balance)
    return told


def _evm(ask: Ask, number: int, last: int) -> dict[tuple[str, str], int]:
    """Without the assets whose books lack something, for 128 bits do not hold it: an alert has told of them."""
    final = f"chain_number = {number} AND finality = 'final' AND block_number <= {last}"
    over = {
        str(row["book"])
        for row in ask(
            f"SELECT DISTINCT {_BOOK} AS book FROM ("
            f"SELECT asset FROM evm_transfers WHERE {final} AND amount >= {UNBOOKED}"
            f" UNION ALL SELECT asset FROM evm_balance_changes WHERE {final} AND toUInt256(ifNull(opening, '0')) >="
            f" {UNBOOKED} UNION ALL SELECT substring(asset, position(asset, '/') + 1) AS asset FROM transfers"
            f" WHERE chain_number = {number} AND status = 'refused') SETTINGS final = 1"
        )
    }
    return {
        (str(row["asset"]), str(row["account"])): int(row["units"])
        for row in ask(
            "SELECT asset, account, toString(sum(toInt256(change)) + toInt256(ifNull(any(opening), '0'))) AS units"
            f" FROM evm_balance_changes WHERE {final} GROUP BY asset, account SETTINGS final = 1"
        )
        if str(row["asset"]) not in over
    }
