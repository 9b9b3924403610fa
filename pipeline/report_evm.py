"""Judges a run's EVM chains from the stores alone: what the books say, against what ClickHouse has of the receipts.

As pipeline.report does for the XRP Ledger: an invariant is True, False or "not_applicable". Only final blocks are
judged; unfinal ones are pending in the books, and no part of a balance. An asset of which the books lack something,
for 128 bits do not hold it, has an alert of its own and is left out. Wei and units are whole numbers, in the report
decimal text, for they are beyond what programs read as a number.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pipeline.domain.account import AccountCode, TransferCode
from pipeline.domain.balances import AccountBalance
from pipeline.domain.decode.evm_gas import DEPOSIT_TYPES
from pipeline.domain.decode.evm_transfers import ZERO_ADDRESS
from pipeline.domain.evm_asset import asset_key, native_key
from pipeline.report import NOT_APPLICABLE, Verdict, book_balances, books_equal_history, gas_payers

UNBOOKED: Final = str(1 << 128)  # from this amount on a transfer is in history alone
Told = Mapping[str, tuple[int, int]]  # hash of a published block → its transactions and logs

# An ERC-721 collection is one book; a transfer names the token.
_BOOK: Final = "if(startsWith(asset, 'erc721:'), splitByChar('/', asset)[1], asset)"


def make_evm_report(books: Any, history: Any, chain: str, number: int, told: Told) -> dict[str, Any]:
    """The report of one chain: counts, fees, invariants, who paid most. `told`: the blocks this run published."""
    where = f"chain_number = {int(number)} AND finality = 'final'"
    blocks = next(history.query(
        "SELECT count() AS blocks, uniqExact(block_number) AS distinct, min(block_number) AS first,"
        " max(block_number) AS last, uniqExact(run) AS runs, sum(watched_count) AS transactions,"
        f" sum(log_count) AS logs FROM evm_blocks WHERE {where}"
    ))  # fmt: skip
    rows = {
        table: _rows(history, table, where) for table in ("evm_transactions", "evm_logs", "evm_transfers")
    }
    balances = list(book_balances(books, history, number))
    fees = _fees(balances, chain, history, where)
    over = _left_out(chain, number, history, where)
    return {
        "chain": chain,
        "blocks": blocks["blocks"],
        "first_block": blocks["first"],
        "last_block": blocks["last"],
        "runs": blocks["runs"],
        "transactions": sum(rows["evm_transactions"].values()),
        "logs": sum(rows["evm_logs"].values()),
        "transfers": sum(rows["evm_transfers"].values()),
        "accounts": len(balances),
        "assets_left_out": len(over),
        "fees": {name: str(wei) for name, wei in fees.items()},
        "invariants": {
            "evm_hash_chain": _linked(history, where),
            "evm_history_complete": blocks["blocks"] == blocks["distinct"]
            and sum(rows["evm_transactions"].values()) == int(blocks["transactions"])
            and sum(rows["evm_logs"].values()) == int(blocks["logs"])
            and all(_has(rows, block, counts) for block, counts in told.items()),
            "evm_gas_ties_to_books": _gas_ties(fees, history, where) if blocks["blocks"] else NOT_APPLICABLE,
            "evm_tokens_conserved": _conserved(balances, chain, history, where, over),
            "evm_books_equal_chain": _books_equal_chain(balances, chain, history, where, over),
            "evm_books_equal_history": books_equal_history(balances, history, number),
        },
        "gas_report": gas_payers(history, number),
    }  # fmt: skip


def whole_evm_report(chains: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The `evm` section: totals over all chains, and each chain's own report."""
    chains = list(chains)
    fees: dict[str, int] = defaultdict(int)
    for chain in chains:
        for name, wei in chain["fees"].items():
            fees[name] += int(wei)
    names = ("blocks", "transactions", "logs", "transfers", "assets_left_out")
    return {
        **{name: sum(chain[name] for chain in chains) for name in names},
        "fees": {name: str(wei) for name, wei in fees.items()},
        "chains": {chain["chain"]: dict(chain) for chain in chains},
    }


def all_hold(chains: Iterable[Mapping[str, Any]]) -> dict[str, Verdict]:
    """Each invariant over all chains: broken where one of them breaks it."""
    found: dict[str, list[Verdict]] = defaultdict(list)
    for chain in chains:
        for name, verdict in chain["invariants"].items():
            found[name].append(verdict)
    return {
        name: False if False in told else True if True in told else NOT_APPLICABLE
        for name, told in found.items()
    }


def _rows(history: Any, table: str, where: str) -> dict[str, int]:
    """Rows of a table by block hash, every duplicate counted out by its key."""
    return {
        row["block_hash"]: int(row["n"])
        for row in history.query(
            f"SELECT block_hash, count() AS n FROM {table} WHERE {where} GROUP BY block_hash"
        )
    }


def _has(rows: Mapping[str, Mapping[str, int]], block: str, counts: tuple[int, int]) -> bool:
    """Is all of a published block in the history?"""
    return counts == (rows["evm_transactions"].get(block, 0), rows["evm_logs"].get(block, 0))


def _linked(history: Any, where: str) -> Verdict:
    """Every block but the first of its run names the one before it as its parent."""
    hashes = {
        (row["run"], row["block_number"]): (row["block_hash"], row["parent_hash"])
        for row in history.query(
            f"SELECT run, block_number, block_hash, parent_hash FROM evm_blocks WHERE {where}"
        )
    }
    return all(
        number == run or hashes.get((run, number - 1), ("",))[0] == parent
        for (run, number), (_, parent) in hashes.items()
    )


def _net(balances: Iterable[AccountBalance], code: AccountCode, asset: str) -> int:
    return sum(one.units for one in balances if one.code == code and one.asset == asset)


def _fees(balances: list[AccountBalance], chain: str, history: Any, where: str) -> dict[str, int]:
    """Fees in wei: of the receipts (price and gas multiplied anew), of the GAS accounts, and where they went."""
    deposits = ", ".join(map(str, sorted(DEPOSIT_TYPES)))
    receipts = next(history.query(
        "SELECT sum(ifNull(toUInt256(gas_used) * effective_gas_price + ifNull(blob_fee, 0) + ifNull(l1_fee, 0), 0))"
        f" AS wei FROM evm_transactions WHERE {where} AND ifNull(type, 0) NOT IN ({deposits})"
    ))["wei"]  # fmt: skip
    native = native_key(chain)
    return {
        "in_receipts": int(receipts),
        "in_books": -_net(balances, AccountCode.GAS, native),
        "burnt": _net(balances, AccountCode.FEE_BURN, native),
        "tips": _net(balances, AccountCode.FEE_POOL, native),
    }


def _gas_ties(fees: Mapping[str, int], history: Any, where: str) -> Verdict:
    """Receipts = GAS accounts = FEE_BURN + FEE_POOL = the gas ledger, to the wei."""
    ledger = next(history.query(f"SELECT sum(fee) AS wei FROM gas_ledger WHERE {where}"))["wei"]
    return int(ledger) == fees["in_receipts"] == fees["in_books"] == fees["burnt"] + fees["tips"]


def _left_out(chain: str, number: int, history: Any, where: str) -> set[str]:
    """Assets whose books lack something: an amount, an opening or a sum that 128 bits do not hold."""
    unbooked = f"toUInt256('{UNBOOKED}')"
    books = history.query(
        f"SELECT DISTINCT {_BOOK} AS book FROM ("
        f"SELECT asset FROM evm_transfers WHERE {where} AND amount >= {unbooked} UNION ALL"
        f" SELECT asset FROM evm_balance_changes WHERE {where} AND toUInt256(ifNull(opening, '0')) >= {unbooked})"
    )
    refused = history.query(
        f"SELECT DISTINCT asset FROM transfers WHERE chain_number = {int(number)} AND status = 'refused'"
        " AND (transaction_index = -1 OR endsWith(publication, '/final'))"
    )
    return {asset_key(chain, row["book"]) for row in books} | {row["asset"] for row in refused}


def _conserved(
    balances: list[AccountBalance], chain: str, history: Any, where: str, over: set[str]
) -> Verdict:
    """Of every asset: what its holders have = what its contract gave out = opened + minted − burnt."""
    held, issued = defaultdict[str, int](int), defaultdict[str, int](int)
    for one in balances:
        if one.asset != native_key(chain):
            held[one.asset] += one.units if one.code == AccountCode.HOLDER else 0
            issued[one.asset] -= one.units if one.code == AccountCode.ISSUER else 0
    made = defaultdict[str, int](int)
    for row in history.query(
        f"SELECT {_BOOK} AS book, sumIf(toInt256(amount), from_address = '{ZERO_ADDRESS}')"
        f" - sumIf(toInt256(amount), to_address = '{ZERO_ADDRESS}') AS units FROM evm_transfers"
        f" WHERE {where} AND amount < toUInt256('{UNBOOKED}') GROUP BY book"
    ):
        made[asset_key(chain, row["book"])] += int(row["units"])
    for asset, units in _openings(history, where).items():
        made[asset] += units
    assets = {*held, *issued, *made} - over
    return all(held[asset] == issued[asset] == made[asset] for asset in assets) if assets else NOT_APPLICABLE


def _openings(history: Any, where: str) -> dict[str, int]:
    number = where.partition(" AND ")[0]
    return {
        row["asset"]: int(row["units"])
        for row in history.query(
            f"SELECT asset, sum(toInt256(amount)) AS units FROM transfers WHERE {number}"
            f" AND code = {int(TransferCode.OPENING_BALANCE)} GROUP BY asset"
        )
    }


def _books_equal_chain(
    balances: list[AccountBalance], chain: str, history: Any, where: str, over: set[str]
) -> Verdict:
    """Each holder's balance in the books = what the blocks' logs changed of it and what it opened with."""
    told = {
        (asset_key(chain, row["asset"]), row["account"]): int(row["units"])
        for row in history.query(
            "SELECT asset, account, ifNull(sum(change_value), 0) + toInt256(ifNull(any(opening), '0')) AS units"
            f" FROM evm_balance_changes WHERE {where} GROUP BY asset, account"
        )
    }
    held = {(one.asset, one.owner): one.units for one in balances if one.code == AccountCode.HOLDER}
    keys = {key for key in (*told, *held) if key[0] not in over}
    return all(told.get(key, 0) == held.get(key, 0) for key in keys) if keys else NOT_APPLICABLE
