"""What `tidebook export` and `balances` ask the history, pure.

An Export is a query with its parameters and the function that turns each of its rows (as
`ClickHouseHistory.query` gives them: wide integers as decimal strings) into output rows. Positions are
ledger indexes or block numbers of one chain, that block included. The output is DESIGN.md's "What the
commands print"; what an EVM chain's balances are is told at `_evm_balances`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.domain.account import AccountCode
from pipeline.domain.balances import AccountBalance, balance_rows, bare
from pipeline.domain.decode.evm_transfers import ZERO_ADDRESS
from pipeline.domain.evm_asset import NATIVE

Row = dict[str, Any]
END: Final = (1 << 62) - 1  # a position after every block


@dataclass(frozen=True)
class Export:
    """A query, and what becomes of its rows."""

    sql: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    shape: Callable[[Iterable[Row]], Iterator[Row]] = iter


def export(kind: str, chain_number: int, at: int | None = None) -> Export:
    """The export of a kind of EXPORTS. Raises KeyError naming the kinds there are."""
    if kind not in EXPORTS:
        raise KeyError(f"no export {kind!r}; there are {', '.join(EXPORTS)}")
    sql, shape = EXPORTS[kind]
    return Export(sql, {"chain_number": chain_number, "position": END if at is None else at}, shape)


def accounts(chain_number: int, at: int | None = None) -> Export:
    """Every account of the books: asset, code, owner, subject and units, as its transfers add up."""
    return Export(_ACCOUNTS, {"chain_number": chain_number, "position": END if at is None else at})


def account_balances(rows: Iterable[Row]) -> Iterator[AccountBalance]:
    """Rows of `accounts` as the domain takes them."""
    for row in rows:
        yield AccountBalance(
            row["asset"], row["code"], row["owner"], row["subject"], int(row["units"]), int(row["pending"])
        )


def _last(key: str, values: str, table: str, place: str, where: str) -> str:
    """SELECT of the last `values` of every `key` at the position; nulls count, so they travel in a tuple."""
    block = place.split(", ")[0]
    return (
        f"SELECT {key}, argMax(tuple({values}), tuple({place})) AS last FROM {table} "
        f"WHERE chain_number = {{chain_number:Int32}} AND {block} <= {{position:Int64}} "
        f"AND {where} GROUP BY {key}"
    )


_OBJECT_PLACE: Final = "ledger_index, transaction_index, row_number"
_ASSET_PLACE: Final = "block, transaction_index, change_index"
_NFTS: Final = (
    "SELECT extract(asset, '/(?:nft|erc721):(.+)$') AS nft_id, last.1 AS owner FROM ("
    + _last("asset", "to_owner", "asset_changes", _ASSET_PLACE, "kind = 'nft' AND finality != 'retracted'")
    + ") WHERE last.1 IS NOT NULL ORDER BY nft_id"
)
_MPTS: Final = (
    "SELECT issuance, last.2 AS issuer, last.3 AS outstanding, last.4 AS locked FROM ("
    + _last(
        "issuance", "action, issuer, outstanding, locked", "mpt_changes", _OBJECT_PLACE, "account IS NULL"
    )
    + ") WHERE last.1 != 'deleted' ORDER BY issuance"
)
_ESCROWS: Final = (
    "SELECT entry_id AS escrow_id, last.2 AS owner, last.3 AS destination, last.4 AS asset, last.5 AS amount "
    "FROM ("
    + _last(
        "entry_id", "action, owner, destination, asset, amount", "object_changes", _OBJECT_PLACE,
        "entry_type = 'Escrow'",
    )
    + ") WHERE last.1 != 'deleted' ORDER BY escrow_id"
)  # fmt: skip
_CHANNELS: Final = (
    "SELECT entry_id AS channel_id, last.2 AS owner, last.3 AS destination, last.4 AS amount, "
    "last.5 AS balance FROM ("
    + _last(
        "entry_id", "action, owner, destination, amount, ifNull(balance, '0')", "object_changes",
        _OBJECT_PLACE, "entry_type = 'PayChannel'",
    )
    + ") WHERE last.1 != 'deleted' ORDER BY channel_id"
)  # fmt: skip
_ASSETS: Final = (
    "SELECT asset, last.1 AS kind, last.2 AS last_action, last.3 AS owner, last.4 AS amount, "
    "last.5 AS locked, "
    "last.6 AS ledger_index, last.7 AS transaction_index, last.8 AS hash FROM ("
    + _last(
        "asset", "kind, action, to_owner, amount, locked, block, transaction_index, hash", "asset_changes",
        _ASSET_PLACE, "finality != 'retracted'",
    )
    + ") ORDER BY asset"
)  # fmt: skip
_ACCOUNTS: Final = (
    "SELECT asset, code, owner, subject, credits - debits AS units, "
    "pending_credits - pending_debits AS pending "
    "FROM book_balances(position = {position:Int64}) WHERE chain_number = {chain_number:Int32} "
    "ORDER BY asset, code, owner, subject"
)


_HOLDER, _GAS = int(AccountCode.HOLDER), int(AccountCode.GAS)


def balances_of(accounts: Iterable[AccountBalance]) -> Iterator[Row]:
    """The accounts of one chain, as the books or their transfers have them → what `export balances` prints."""
    found = list(accounts)
    yield from _evm_balances(one for one in found if one.asset.startswith("eip155:"))
    for row in balance_rows(one for one in found if not one.asset.startswith("eip155:")):
        yield {**row}


def _balances(rows: Iterable[Row]) -> Iterator[Row]:
    return balances_of(account_balances(rows))


def _evm_balances(accounts: Iterable[AccountBalance]) -> Iterator[Row]:
    """{account, asset, available, locked, pending} by asset and account: integers, in the asset's smallest unit.

    Assets without their chain: `erc20:<contract>`, `erc721:<contract>` (tokens of the collection, as balanceOf
    counts), `erc1155:<contract>/<id>`. `available` is of final blocks, `pending` what those not final yet would
    add; `locked` is always 0. The row of 0x0, where tokens come from and burnt ones go, is -(all holders'), the
    supply. Who paid fees has a row of asset `native`: gas_paid in wei besides, and `pending` the unfinal fees,
    negative; the books keep no balances of the native coin, so `available` is 0.
    """
    held: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    paid: dict[str, tuple[int, int]] = {}
    for key, code, owner, _, units, pending in accounts:
        asset = bare(key)
        if code == _GAS:
            paid[owner] = units, pending
        elif code == _HOLDER:
            for account, sign in ((owner, 1), (ZERO_ADDRESS, -1)):
                held[asset, account][0] += sign * units
                held[asset, account][1] += sign * pending
    for (asset, account), (units, pending) in sorted(held.items()):
        if units or pending:
            yield _evm_row(account, asset, units, pending)
    for account, (units, pending) in sorted(paid.items()):
        if units or pending:
            yield _evm_row(account, NATIVE, 0, pending) | {"gas_paid": str(-units)}


def _evm_row(account: str, asset: str, units: int, pending: int) -> Row:
    return {
        "account": account, "asset": asset, "available": str(units), "locked": "0", "pending": str(pending),
    }  # fmt: skip


EXPORTS: Final[Mapping[str, tuple[str, Callable[[Iterable[Row]], Iterator[Row]]]]] = {
    "balances": (_ACCOUNTS, _balances),
    "nfts": (_NFTS, iter),
    "mpts": (_MPTS, iter),
    "escrows": (_ESCROWS, iter),
    "channels": (_CHANNELS, iter),
    "assets": (_ASSETS, iter),
}
