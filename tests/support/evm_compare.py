"""What the pipeline says against what the node itself answers at one block (a Truth): fold, books, state, history.

Every function returns the differences, each a line that a person can read; an empty list means equal. Left out of
what books and folds must equal, by name and with the reason:

- `silent_fee` takes a fee and `rebasing` changes balances without a log: their `balanceOf` does not follow from logs;
- `huge` moves amounts over u128, which are not booked; fold and history must have them exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any, Final

from pipeline.domain.account import AccountCode, AccountRef, account_id
from pipeline.domain.evm_asset import asset_key, native_key
from sinks.books import ACCOUNT_STRUCT, BATCH_MAX, QUERY_FILTER_STRUCT, Books
from tests.support.evm_fold import Sums
from tests.support.evm_scenario import NFTS, World
from tests.support.evm_truth import Truth

NOT_FROM_LOGS: Final = ("silent_fee", "rebasing")
NOT_BOOKED: Final = (*NOT_FROM_LOGS, "huge")
GAS_NAMES: Final = ("transactions", "failed", "gas_used", "fee", "tips", "blob_fee")

Balances = Mapping[str, Mapping[str, int]]
Query = Callable[..., Iterable[dict[str, Any]]]


def balances_of(
    truth: Truth, world: World, leave_out: Iterable[str] = NOT_FROM_LOGS
) -> dict[str, dict[str, int]]:
    """Balances by asset as messages name it (erc20:0x…, erc721:0x…, erc1155:0x…/id), then by holder; no zeros."""
    nfts = {world.contracts[name].address.lower() for name in NFTS}
    left_out = {world.contracts[name].address.lower() for name in leave_out}
    found: dict[str, dict[str, int]] = {
        f"{'erc721' if token in nfts else 'erc20'}:{token}": dict(held)
        for token, held in truth.balances.items()
        if token not in left_out
    }
    multi = world.multi.address.lower()
    for (holder, token), amount in truth.multi.items():
        found.setdefault(f"erc1155:{multi}/{token}", {})[holder] = amount
    return found


def owners_of(truth: Truth) -> dict[str, str]:
    """Owner of each ERC-721 token by asset (erc721:0x…/id)."""
    return {
        f"erc721:{contract}/{token}": owner
        for contract, tokens in truth.owners.items()
        for token, owner in tokens.items()
    }


def fees_of(truth: Truth) -> dict[str, int]:
    """Wei that each payer paid since block 1."""
    return {payer: gas.fee for payer, gas in truth.gas.items() if gas.fee}


def fold_differs(
    truth: Truth, world: World, sums: Sums, assets: Iterable[str] | None = None, gas: bool = True
) -> list[str]:
    """A fold against the node. `assets`: only these; `gas`: whether every transaction was of interest."""
    due = balances_of(truth, world)
    for (
        contract,
        supply,
    ) in truth.supply.items():  # nobody else may hold anything: a holder that was not asked for
        asset = next((name for name in due if name.endswith(contract)), None)
        if asset is not None and sum(due[asset].values()) != supply:
            return [
                f"the truth is not whole: {asset} has {supply}, its known holders {sum(due[asset].values())}"
            ]
    named = set(due) | {asset for asset, _ in sums.balances if not _left_out(asset, world)}
    chosen = named if assets is None else set(assets)
    found = [
        line
        for asset in sorted(chosen)
        for line in unlike(f"balance of {asset}", due.get(asset, {}), sums.of_asset(asset))
    ]
    owners = {token: owner for token, owner in owners_of(truth).items() if _collection(token) in chosen}
    told = {token: owner for token, owner in sums.owners.items() if _collection(token) in chosen}
    found += unlike("owner", owners, told)
    if gas:
        paid = {payer: {name: getattr(of, name) for name in GAS_NAMES} for payer, of in truth.gas.items()}
        found += unlike(
            "gas", paid, {p: {name: of[name] for name in GAS_NAMES} for p, of in sums.gas.items()}
        )
        burnt = {payer: of.burnt + of.blob_fee for payer, of in truth.gas.items()}
        found += unlike("burnt", burnt, {payer: of["burnt"] for payer, of in sums.gas.items()})
    return found


def books_differ(truth: Truth, world: World, books: Books, chain: str, pending: bool) -> list[str]:
    """The engine's holders and gas accounts. `pending`: posted + pending, to be compared at the head; else posted."""
    due, left_out = _expected_accounts(truth, world, chain)
    held = account_units(books, pending)
    names = {ident: f"{ref.asset} {ref.owner[:10]} code {int(ref.code)}" for ident, (ref, _) in due.items()}
    found = [
        f"{names[ident]}: the node says {amount}, the books {held.get(ident, (0, 0))[1]}"
        for ident, (_, amount) in due.items()
        if held.get(ident, (0, 0))[1] != amount
    ]
    chosen = (int(AccountCode.HOLDER), int(AccountCode.GAS))
    strangers = [
        ident for ident, (code, units) in held.items()
        if code in chosen and units and ident not in due and ident not in left_out
    ]  # fmt: skip
    found += [
        f"an account {ident.hex()} of code {held[ident][0]} with {held[ident][1]}" for ident in strangers
    ]
    return found


def account_units(books: Books, pending: bool) -> dict[bytes, tuple[int, int]]:
    """(code, units) of every account, posted or with pending: credits − debits, of gas accounts the reverse."""
    found = {}
    for row in _all_accounts(books):
        debits, credits_ = (int.from_bytes(row[i], "little") for i in (2, 4))
        if pending:
            debits, credits_ = (
                debits + int.from_bytes(row[1], "little"),
                credits_ + int.from_bytes(row[3], "little"),
            )
        units = debits - credits_ if row[10] == AccountCode.GAS else credits_ - debits
        found[row[0]] = row[10], units
    return found


def pending_left(books: Books) -> int:
    """Units that are pending anywhere."""
    return sum(
        int.from_bytes(row[1], "little") + int.from_bytes(row[3], "little") for row in _all_accounts(books)
    )


def _all_accounts(books: Books) -> Iterable[tuple[Any, ...]]:
    after = 0
    while True:
        asked = QUERY_FILTER_STRUCT.pack(b"\0" * 16, 0, 0, 0, 0, b"\0" * 6, after, 0, BATCH_MAX, 0)
        rows = list(ACCOUNT_STRUCT.iter_unpack(books.query_accounts_packed(asked)))
        yield from rows
        if len(rows) < BATCH_MAX:
            return
        after = rows[-1][12] + 1


def _expected_accounts(
    truth: Truth, world: World, chain: str
) -> tuple[dict[bytes, tuple[AccountRef, int]], set[bytes]]:
    """What each account must hold, and the ids of those that the node says nothing of or the books must not have."""
    due: dict[bytes, tuple[AccountRef, int]] = {}
    balances = balances_of(truth, world, NOT_BOOKED)
    holders = set(truth.native) | {holder for held in truth.balances.values() for holder in held}
    for asset, held in balances.items():
        for holder in holders | set(held):
            ref = AccountRef(asset_key(chain, asset), int(AccountCode.HOLDER), holder)
            due[account_id(ref)] = ref, held.get(holder, 0)
    for payer, fee in fees_of(truth).items():
        ref = AccountRef(native_key(chain), int(AccountCode.GAS), payer)
        due[account_id(ref)] = ref, fee
    left_out = {
        account_id(
            AccountRef(asset_key(chain, f"erc20:{world.contracts[name].address.lower()}"), code, holder)
        )
        for name in NOT_BOOKED
        for holder in holders
        for code in (int(AccountCode.HOLDER),)
    }
    return due, left_out


def holdings_differ(
    final: Truth, head: Truth, holdings: Iterable[Mapping[str, Any]], chain: str
) -> list[str]:
    """Rows of the assets role's table: `owner` as of the final block, `as_of_head` with the unfinal ones."""
    rows = {
        row["asset"].removeprefix(f"{chain}/"): row
        for row in holdings
        if row["asset"].startswith(f"{chain}/")
    }
    posted = {asset: row["owner"] for asset, row in rows.items() if row["owner"] is not None}
    seen = {asset: as_of_head(row) for asset, row in rows.items()}
    return [
        *unlike("final owner", owners_of(final), posted),
        *unlike(
            "owner at the head", owners_of(head), {a: owner for a, owner in seen.items() if owner is not None}
        ),
    ]


def as_of_head(row: Mapping[str, Any]) -> str | None:
    """Owner of a holding with its unfinal changes, as the table's row tells it."""
    told = row["as_of_head"]
    return told["owner"] if isinstance(told, Mapping) else told


def history_differs(truth: Truth, world: World, query: Query, chain: str, final: bool) -> list[str]:
    """ClickHouse's rows added up, exactly. `final`: final rows only; else all that are not retracted."""
    where = f"chain = '{chain}' AND " + ("finality = 'final'" if final else "finality != 'retracted'")
    due = balances_of(truth, world)
    told: dict[str, Counter[str]] = {}
    for row in query(f"SELECT asset, account, change FROM evm_balance_changes FINAL WHERE {where}"):
        if not _left_out(row["asset"], world):
            told.setdefault(row["asset"], Counter())[row["account"]] += int(row["change"])
    sums = {asset: {who: held for who, held in of.items() if held} for asset, of in told.items()}
    found = [
        line
        for asset in sorted({*due, *sums})
        for line in unlike(asset, due.get(asset, {}), sums.get(asset, {}))
    ]
    moved = query(
        "SELECT asset, argMax(to_address, (block_number, transaction_index, log_index, batch_position)) AS owner "
        f"FROM evm_transfers FINAL WHERE {where} AND startsWith(asset, 'erc721:') GROUP BY asset"
    )
    owners = {row["asset"]: row["owner"] for row in moved if int(row["owner"], 16)}
    return found + unlike("owner in evm_transfers", owners_of(truth), owners)


def gas_differs(truth: Truth, query: Query, chain: str) -> list[str]:
    """gas_report at the head: fees and transactions by payer, to the wei."""
    rows = list(
        query(
            "SELECT owner, transactions, toString(fee_paid) AS fee, toString(fee_burnt) AS burnt "
            f"FROM gas_report WHERE chain = '{chain}'"
        )
    )
    told = {row["owner"]: (int(row["transactions"]), int(row["fee"])) for row in rows}
    due = {payer: (of.transactions, of.fee) for payer, of in truth.gas.items()}
    burnt = {payer: of.burnt + of.blob_fee for payer, of in truth.gas.items()}
    return [
        *unlike("gas_report", due, told),
        *unlike("burnt in gas_report", burnt, {row["owner"]: int(row["burnt"] or 0) for row in rows}),
    ]


def provenance_differs(truth: Truth, query: Query, chain: str) -> list[str]:
    """The story of each ERC-721 token that has an owner: unbroken, and it ends with him."""
    found = []
    for asset, owner in owners_of(truth).items():
        rows = list(query(f"SELECT * FROM provenance(asset = '{asset_key(chain, asset)}')"))
        told = [(row["from_owner"], row["to_owner"]) for row in rows if row.get("finality") != "retracted"]
        breaks = [pair for pair, after in pairwise(told) if pair[1] != after[0]]
        if breaks or not told or told[0][0] is not None or told[-1][1] != owner:
            found.append(f"provenance of {asset}: {told}, the node says {owner}")
    return found


def unlike(what: str, due: Mapping[Any, Any], told: Mapping[Any, Any]) -> list[str]:
    """Where two mappings differ."""
    return [
        f"{what} {key}: the node says {due.get(key)}, told is {told.get(key)}"
        for key in sorted({*due, *told})
        if due.get(key) != told.get(key)
    ]


def _collection(token: str) -> str:
    return token.partition("/")[0]


def _left_out(asset: str, world: World) -> bool:
    return any(asset.endswith(world.contracts[name].address.lower()) for name in NOT_FROM_LOGS)
