"""The audit of chains: each block's rows against what the block says of itself, balances along the positions.

Every check is one query over a chain's blocks first … last that returns only what contradicts itself, and one that
counts what was looked at. XRP Ledger: transactions, fees, coins and hashes of `xrpl_ledgers`, the gas ledger, the chain
of balances of each (account, asset). EVM: transactions and logs of `evm_blocks`, fees multiplied anew, the gas ledger,
transfers against balance changes; final rows are read as they stand last (final = 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipeline.domain.audit import Change, Result, change_fault
from pipeline.domain.decode.evm_gas import DEPOSIT_TYPES

Ask = Callable[[str], Iterable[Mapping[str, Any]]]
SHOWN: Final = 50
END: Final = (1 << 62) - 1
# An ERC-721 collection is one asset of the balances; a transfer names the token.
_BOOK: Final = "if(startsWith(t.asset, 'erc721:'), splitByChar('/', t.asset)[1], t.asset)"


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks of one chain, both ends included."""

    chain: str
    chain_number: int
    first: int = 0
    last: int = END

    def of(self, column: str) -> str:
        """Condition on the chain and the block's column."""
        return f"chain_number = {self.chain_number} AND {column} BETWEEN {self.first} AND {self.last}"


def chains(ask: Ask) -> list[Blocks]:
    """Every chain in the history, with the blocks that are there."""
    told = ask(
        "SELECT chain, chain_number, min(n) AS first, max(n) AS last FROM ("
        "SELECT chain, chain_number, ledger_index AS n FROM xrpl_ledgers UNION ALL"
        " SELECT chain, chain_number, block_number AS n FROM evm_blocks)"
        " GROUP BY chain, chain_number ORDER BY chain_number SETTINGS final = 0"
    )
    return [Blocks(str(r["chain"]), int(r["chain_number"]), int(r["first"]), int(r["last"])) for r in told]


def check_chain(ask: Ask, blocks: Blocks) -> Iterator[Result]:
    """All Results of a chain's blocks."""
    if blocks.chain.startswith("eip155:"):
        yield from _contradictions(ask, "blocks", blocks, _evm_blocks, _evm_blocks_count)
        yield from _contradictions(ask, "blocks", blocks, _evm_fees, _evm_transactions_count)
        yield from _contradictions(ask, "moves", blocks, _evm_moves, _evm_changes_count)
    else:
        yield from _contradictions(ask, "blocks", blocks, _xrpl_ledgers, _xrpl_ledgers_count)
        yield from _balances(ask, blocks)


def _contradictions(
    ask: Ask, check: str, blocks: Blocks, wrong: Callable[[Blocks], str], looked: Callable[[Blocks], str]
) -> Iterator[Result]:
    sound = True
    for row in ask(wrong(blocks)):
        sound = False
        block = int(row["block"])
        evidence = {name: value for name, value in row.items() if name not in ("block", "expected", "found")}
        yield Result(
            check,
            blocks.chain,
            str(row["expected"]),
            str(row["found"]),
            False,
            block,
            block,
            evidence=evidence,
        )
    if sound:
        (row,) = ask(looked(blocks))
        count = f"{row['n']} {row['what']}"
        yield Result(check, blocks.chain, count, count, True, blocks.first, blocks.last)


def _xrpl_ledgers_count(blocks: Blocks) -> str:
    of = blocks.of("ledger_index")
    return f"SELECT count() AS n, 'ledgers' AS what FROM xrpl_ledgers WHERE {of} SETTINGS final = 0"


def _xrpl_ledgers(blocks: Blocks) -> str:
    """Ledgers whose rows, fees, coins or parent are not what they say; a last one of many chunks may be unfinished."""
    of = blocks.of("ledger_index")
    consecutive = "before.1 = run AND before.2 + 1 = ledger_index"
    return f"""
WITH ledgers AS (
  SELECT ledger_index, any(run) AS run, any(l.chunks) AS chunks, count() AS copies,
    any(l.transaction_count) AS told, any(l.fees) AS told_fees, any(l.total_coins) AS coins,
    any(l.ledger_hash) AS hash, any(l.parent_hash) AS parent
  FROM xrpl_ledgers AS l WHERE {of} GROUP BY ledger_index
), linked AS (
  SELECT *, lagInFrame(tuple(run, ledger_index, coins, hash)) OVER (
    ORDER BY ledger_index ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS before
  FROM ledgers
), counted AS (
  SELECT ledger_index, count() AS n, uniqExact(transaction_index) AS places, sum(t.fee) AS fees,
    countIf(t.fee > 0) AS paid
  FROM xrpl_transactions AS t WHERE {of} GROUP BY ledger_index
), gas AS (
  SELECT ledger_index, count() AS n, toInt256(sum(g.fee)) AS fees FROM gas_ledger AS g WHERE {of} GROUP BY ledger_index
), facts AS (
  SELECT l.ledger_index AS block, l.hash AS ledger_hash, arrayJoin([
    ('ledgers of this index', '1', toString(l.copies), 1),
    ('transactions', toString(l.told), toString(c.n), 1),
    ('places of transactions', toString(l.told), toString(c.places), 1),
    ('sum of fees', toString(l.told_fees), toString(c.fees), 1),
    ('rows of the gas ledger', toString(c.paid), toString(g.n), 1),
    ('sum of the gas ledger', toString(c.fees), toString(g.fees), 1),
    ('total_coins', toString(l.before.3 - l.told_fees), ifNull(toString(l.coins), ''),
      toUInt8(ifNull({consecutive} AND l.before.3 IS NOT NULL AND l.coins IS NOT NULL, 0))),
    ('parent_hash', ifNull(l.before.4, ''), ifNull(l.parent, ''),
      toUInt8(ifNull({consecutive} AND l.before.4 IS NOT NULL AND l.parent IS NOT NULL, 0))),
    ('next ledger of the run', toString(l.before.2 + 1), toString(l.ledger_index),
      toUInt8(l.before.1 = l.run AND l.before.2 > 0))
  ]) AS fact
  FROM linked AS l LEFT JOIN counted AS c USING (ledger_index) LEFT JOIN gas AS g USING (ledger_index)
  WHERE l.chunks = 1 OR l.ledger_index < (
    SELECT max(ledger_index) FROM xrpl_ledgers WHERE chain_number = {blocks.chain_number})
)
SELECT block, ledger_hash, fact.1 AS what, ifNull(fact.2, '') AS expected, fact.3 AS found FROM facts
WHERE fact.4 = 1 AND expected != found ORDER BY block LIMIT {SHOWN} SETTINGS final = 0, join_use_nulls = 0"""


def _balances(ask: Ask, blocks: Blocks) -> Iterator[Result]:
    """Changes that contradict themselves or the one before; what 38 places don't hold is computed here, exactly."""
    shown, sound = 0, True
    for row in ask(_changes(blocks)):
        fault = change_fault(Change(*(row[name] for name in Change._fields)))
        if not fault:
            continue
        sound, shown = False, shown + 1
        block = int(row["ledger_index"])
        evidence = {**row, "what": fault}
        before = row["before"] if fault.startswith("previous is") else f"{row['previous']} + {row['change']}"
        found = row["previous"] if fault.startswith("previous is") else row["balance"]
        yield Result(
            "balances", blocks.chain, str(before), str(found), False, block, block, evidence=evidence
        )
        if shown == SHOWN:
            return
    if sound:
        (row,) = ask(
            f"SELECT count() AS n FROM balance_changes WHERE {blocks.of('ledger_index')} SETTINGS final = 0"
        )
        count = f"{row['n']} changes"
        yield Result("balances", blocks.chain, count, count, True, blocks.first, blocks.last)


def _decimal(column: str) -> str:
    """The number of a decimal string, null where 38 places do not hold it."""
    places = f"position({column}, '.') > 0 AND length({column}) - position({column}, '.') > 38"
    return f"if({places}, NULL, toDecimal256OrNull({column}, 38))"


def _changes(blocks: Blocks) -> str:
    of = blocks.of("ledger_index")
    previous, change, balance = _decimal("previous"), _decimal("change"), _decimal("balance")
    return f"""
SELECT previous, change, balance, before, toString(change_value) AS number, ledger_index, transaction_index, row_number,
  hash, account, asset, _topic, _partition, _offset
FROM (
  SELECT *, lagInFrame(toNullable(balance)) OVER (PARTITION BY account, asset, run
    ORDER BY ledger_index, transaction_index, row_number ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS before
  FROM (SELECT * FROM balance_changes WHERE {of}) AS b
  LEFT JOIN (SELECT ledger_index, any(xrpl_ledgers.run) AS run FROM xrpl_ledgers WHERE {of} GROUP BY ledger_index) AS l
  USING (ledger_index)
)
WHERE ifNull(before != previous, 0) OR NOT ifNull({previous} + {change} = {balance}, 0)
  OR ifNull(change_value != {change}, 0)
ORDER BY ledger_index, transaction_index, row_number SETTINGS final = 0, join_use_nulls = 0"""


def _evm_blocks_count(blocks: Blocks) -> str:
    return f"SELECT count() AS n, 'blocks' AS what FROM evm_blocks WHERE {blocks.of('block_number')} SETTINGS final = 1"


def _evm_transactions_count(blocks: Blocks) -> str:
    return (
        "SELECT count() AS n, 'transactions' AS what FROM evm_transactions"
        f" WHERE {blocks.of('block_number')} SETTINGS final = 1"
    )


def _evm_changes_count(blocks: Blocks) -> str:
    return (
        "SELECT count() AS n, 'changes' AS what FROM evm_balance_changes"
        f" WHERE {blocks.of('block_number')} SETTINGS final = 1"
    )


def _evm_blocks(blocks: Blocks) -> str:
    """Blocks whose transactions, logs, gas ledger or parent are not what they say, and two final ones of a number."""
    of, ledger = blocks.of("block_number"), blocks.of("ledger_index")
    return f"""
WITH known AS (SELECT block_hash, block_number FROM evm_blocks WHERE {of} AND finality = 'final'),
facts AS (
  SELECT b.block_number AS block, b.block_hash AS block_hash, arrayJoin([
    ('transactions', toString(b.watched_count), toString(t.n), 1),
    ('logs', toString(b.log_count), toString(l.n), 1),
    ('rows of the gas ledger', toString(t.paid), toString(g.n), 1),
    ('sum of the gas ledger', toString(t.fees), toString(g.fees), 1),
    ('parent_hash', b.parent_hash, k.block_hash, toUInt8(b.finality = 'final' AND k.block_hash != '')),
    ('final blocks of this number', '1', toString(b.finals), toUInt8(b.finality = 'final'))
  ]) AS fact
  FROM (SELECT *, block_number - 1 AS below, countIf(finality = 'final') OVER (PARTITION BY block_number) AS finals
    FROM evm_blocks WHERE {of}) AS b
  LEFT JOIN (SELECT block_hash, count() AS n, countIf(ifNull(t.fee, 0) > 0) AS paid, sum(ifNull(t.fee, 0)) AS fees
    FROM evm_transactions AS t WHERE {of} GROUP BY block_hash) AS t ON t.block_hash = b.block_hash
  LEFT JOIN (SELECT block_hash, count() AS n FROM evm_logs WHERE {of} GROUP BY block_hash) AS l
    ON l.block_hash = b.block_hash
  LEFT JOIN (SELECT block_hash, count() AS n, sum(g.fee) AS fees FROM gas_ledger AS g WHERE {ledger}
    GROUP BY block_hash) AS g ON g.block_hash = b.block_hash
  LEFT JOIN known AS k ON k.block_number = b.below
  WHERE b.chunks = 1 OR b.block_number < (
    SELECT max(block_number) FROM evm_blocks WHERE chain_number = {blocks.chain_number})
)
SELECT block, block_hash, fact.1 AS what, fact.2 AS expected, fact.3 AS found FROM facts
WHERE fact.4 = 1 AND expected != found ORDER BY block LIMIT {SHOWN} SETTINGS final = 1, join_use_nulls = 0"""


def _evm_fees(blocks: Blocks) -> str:
    """Transactions whose fee is not gas × price + blob fee + L1 fee; what a rollup deposits pays none."""
    deposits = ", ".join(map(str, sorted(DEPOSIT_TYPES)))
    return f"""
SELECT block_number AS block, 'fee' AS what, hash, transaction_index, block_hash,
  toString(toUInt256(gas_used) * effective_gas_price + ifNull(blob_fee, 0) + ifNull(l1_fee, 0)) AS expected,
  toString(fee) AS found
FROM evm_transactions
WHERE {blocks.of("block_number")} AND fee IS NOT NULL AND effective_gas_price IS NOT NULL
  AND ifNull(type, 0) NOT IN ({deposits}) AND expected != found
ORDER BY block, transaction_index LIMIT {SHOWN} SETTINGS final = 1"""


def _evm_moves(blocks: Blocks) -> str:
    """Accounts whose balance of an asset changed in a transaction by something other than the transfers moved."""
    of = blocks.of("block_number")
    return f"""
SELECT block, 'change' AS what, hash, account, asset, toString(moved) AS expected, toString(changed) AS found FROM (
  SELECT block_number AS block, block_hash, any(h) AS hash, account, asset, sum(m) AS moved, sum(c) AS changed FROM (
    SELECT block_number, block_hash, hash AS h, transaction_index, account, asset, toInt256(0) AS m,
      toInt256(change) AS c FROM evm_balance_changes WHERE {of}
    UNION ALL
    SELECT block_number, block_hash, hash AS h, transaction_index, side.1 AS account, {_BOOK} AS asset, side.2 AS m,
      toInt256(0) AS c
    FROM evm_transfers AS t ARRAY JOIN [(from_address, -toInt256(amount)), (to_address, toInt256(amount))] AS side
    WHERE {of}
  )
  WHERE account != '0x0000000000000000000000000000000000000000'
  GROUP BY block_number, block_hash, transaction_index, account, asset
)
WHERE moved != changed ORDER BY block LIMIT {SHOWN} SETTINGS final = 1"""
