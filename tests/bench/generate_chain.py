"""Long XRP Ledger chains for benchmarks, with the state in which they end.

A chain begins with a genesis ledger of its own (index 1, all 10^17 drops in the genesis account), creates
its accounts by payments, and goes on with the recorded kinds of transactions in roughly mainnet's mixture.
Balances, owner counts, sequences, threads of PreviousTxnID, fees and total_coins are consistent. Transaction
ids, roots of the transaction trees and ledger hashes are the true ones of what the chain holds, so it passes
every check that the ingest makes at its level full. Stand-ins from the same seed: signatures, for there are no
keys, and account_hash, for that would need the tree of the whole state at each ledger.

    python -m tests.bench.generate_chain OUT.jsonl.gz --transactions 200000 --seed 7
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import orjson

from pipeline.domain.xrpl_hash import LEDGER_EPOCH_MS, ZERO_HASH, ledger_hash, transaction_tree_root
from tests.bench.chain_actions import ACTIONS, DRAWS, fund, pay_xrp
from tests.bench.chain_state import digest
from tests.bench.chain_world import World
from tests.support.canonical import header_fields

CLOSE_SECONDS: Final = 4


@dataclass(frozen=True)
class Expected:
    """State after the last ledger. Amounts: drops, Decimal for issued currencies, integers for MPT."""

    ledgers: int
    transactions: int
    total_coins: int
    accounts: dict[str, int]
    iou: dict[tuple[str, str, str], Decimal]
    """(holder, issuer, currency) → value, where not zero."""
    nfts: dict[str, str]
    """NFTokenID → owner."""
    mpt_issuances: dict[str, int]
    """Issuance id → OutstandingAmount."""
    mpt_holders: dict[tuple[str, str], int]
    """(holder, issuance id) → MPTAmount, zero for one who is only authorized."""
    escrows: dict[str, tuple[str, str, int]]
    """Index → (owner, destination, drops)."""

    @property
    def burnt(self) -> int:
        """Fees burnt since genesis, in drops."""
        return int(10**17 - self.total_coins)


def generate(
    path: Path | str, transactions: int, seed: int, per_ledger: int = 60, accounts: int | None = None
) -> Expected:
    """Write a chain with this many transactions as .jsonl.gz (one `ledger` answer a line, API version 2).

    `per_ledger`: transactions of a ledger on average. `accounts`: how many, by default one for every 40
    transactions, between 20 and 5,000; their creation counts among the transactions. Deterministic.
    """
    if transactions < 0 or per_ledger < 1:
        raise ValueError("transactions must be 0 or more, per_ledger 1 or more")
    count = accounts or min(5_000, max(20, transactions // 40))
    world = World(seed, count, currencies=max(3, min(25, count // 20)))
    with Path(path).open("wb") as raw, gzip.GzipFile("", "wb", 1, raw, mtime=0) as out:
        parent = _genesis(world)
        _write(out, parent, b"")
        while world.transactions < transactions:
            wanted = world.rng.randint(max(1, per_ledger // 2), per_ledger + per_ledger // 2)
            _fill(world, min(wanted, transactions - world.transactions))
            parent = _close(world, out, parent)
    return _expected(world)


def _fill(world: World, count: int) -> None:
    """Apply `count` transactions: first every account is created, then what chance gives."""
    weights = list(itertools.accumulate(weight for weight, _ in ACTIONS))
    actions = [action for _, action in ACTIONS]
    made = 0
    while made < count and world.transactions < len(world.accounts):
        fund(world, world.accounts[world.transactions])
        made += 1
    for _ in range(count - made):
        draws = world.rng.choices(actions, cum_weights=weights, k=DRAWS)
        if not any(draw(world) for draw in draws):
            pay_xrp(world)


def _genesis(world: World) -> dict[str, Any]:
    """Header of ledger 1."""
    header = {
        "account_hash": digest(world.salt),
        "close_flags": 0,
        "close_time": 0,
        "close_time_resolution": 10,
        "closed": True,
        "ledger_index": 1,
        "parent_close_time": 0,
        "parent_hash": ZERO_HASH,
        "total_coins": str(world.total_coins),
        "transaction_hash": ZERO_HASH,
    }
    return header | {"ledger_hash": ledger_hash(header_fields(header))}


def _close(world: World, out: gzip.GzipFile, parent: dict[str, Any]) -> dict[str, Any]:
    """Close the ledger being built, write it, and begin the next one; its header."""
    world.entries.sort()
    closed = datetime.fromtimestamp(world.close_time + LEDGER_EPOCH_MS // 1000, UTC)
    ids = "".join(txn_id for txn_id, _ in world.entries).encode()
    header = parent | {
        "account_hash": digest(world.salt + parent["ledger_hash"].encode() + ids),
        "close_time": world.close_time,
        "close_time_human": closed.strftime("%Y-%b-%d %H:%M:%S.000000000 UTC"),
        "close_time_iso": closed.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "ledger_index": world.ledger_index,
        "parent_close_time": parent["close_time"],
        "parent_hash": parent["ledger_hash"],
        "total_coins": str(world.total_coins),
        "transaction_hash": transaction_tree_root(world.leaves),
    }
    header["ledger_hash"] = ledger_hash(header_fields(header))
    body = b",".join(entry for _, entry in world.entries)
    body = body.replace(b'"LEDGER_HASH"', b'"%s"' % header["ledger_hash"].encode())
    _write(out, header, body.replace(b'"CLOSE_TIME"', b'"%s"' % header["close_time_iso"].encode()))
    world.entries.clear()
    world.leaves.clear()
    world.ledger_index += 1
    world.close_time += CLOSE_SECONDS
    return header


def _write(out: gzip.GzipFile, header: dict[str, Any], entries: bytes) -> None:
    """One line: the header, the entries already as JSON, and what stands around them in an answer."""
    head = orjson.dumps(header)[:-1]
    answer = {k: header[k] for k in ("ledger_hash", "ledger_index")} | {"validated": True}
    tail = orjson.dumps(answer)[1:]
    out.write(b'{"ledger":%s,"transactions":[%s]},%s\n' % (head, entries, tail))


def _expected(world: World) -> Expected:
    lines = [line for currency in world.currencies for line in currency.lines.items if line.held]
    holdings = [holding for issuance in world.issuances for holding in issuance.holdings.items]
    made = world.accounts[: world.transactions]
    return Expected(
        ledgers=world.ledger_index - 1,
        transactions=world.transactions,
        total_coins=world.total_coins,
        accounts={account.address: account.balance for account in (world.genesis, *made)},
        iou={
            (line.holder.address, line.currency.issuer.address, line.currency.code): Decimal(
                line.held
            ).scaleb(-line.currency.scale)
            for line in lines
        },
        nfts={nft.nft_id: nft.owner.address for nft in (*world.nfts.items, *world.on_sale.items)},
        mpt_issuances={issuance.issuance_id: issuance.outstanding for issuance in world.issuances},
        mpt_holders={(h.holder.address, h.issuance.issuance_id): h.amount for h in holdings},
        escrows={e.index: (owner.address, to.address, drops) for owner, to, drops, _, e in world.escrows},
    )


def main() -> None:
    """Write a chain and say what it is."""
    parser = argparse.ArgumentParser(description="Generate an XRP Ledger chain for benchmarks.")
    parser.add_argument("out", type=Path, help="a .jsonl.gz file")
    parser.add_argument("--transactions", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--per-ledger", type=int, default=60)
    parser.add_argument("--accounts", type=int)
    args = parser.parse_args()
    started = time.perf_counter()
    end = generate(args.out, args.transactions, args.seed, args.per_ledger, args.accounts)
    seconds = time.perf_counter() - started
    print(
        f"{args.out}: {end.ledgers} ledgers, {end.transactions} transactions, {len(end.accounts)} accounts, "
        f"{end.burnt} drops burnt; {seconds:.1f} s, {end.transactions / seconds:.0f} transactions/s"
    )


if __name__ == "__main__":
    main()
