"""What ClickHouse must hold of an EVM chain, folded plainly from its messages; and writing them in bad weather."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.domain.evm_changes import evm_asset_changes
from sinks.clickhouse import ClickHouseHistory
from tests.support.history import ASSETS, history, message

BLOCKS = "evm.blocks.v1"
KILLS = 5
Row = tuple[Any, ...]
Record = dict[str, Any]


class Killed(BaseException):
    """Stands for SIGKILL: nothing may catch it and tidy up."""


class DyingClient:
    """A client that dies at its n-th statement, before or after it."""

    def __init__(self, client: Any, statements: int, after: bool) -> None:
        self._client, self._left, self._after = client, statements, after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if name not in ("command", "query", "insert", "raw_insert"):
            return found

        def counted(*args: Any, **values: Any) -> Any:
            self._left -= 1
            if self._left == 0 and not self._after:
                raise Killed
            answer = found(*args, **values)
            if self._left == 0:
                raise Killed
            return answer

        return counted


def of_assets(records: Iterable[Record]) -> list[Record]:
    """The messages of assets.changes.v1 that the records bring."""
    return [dict(changes) for record in records for changes in evm_asset_changes(record)]  # type: ignore[arg-type]


def write_through_storms(path: Path, topic: str, records: Sequence[Record], seed: int) -> int:
    """Write the records as their topic holds them; how often the writer was killed.

    Stretches are told twice; batches are cut anywhere; writers die at any statement or before they commit; now and
    then the topic forgets everything and comes again under a new epoch.
    """
    draw = random.Random(seed)
    log, epoch, kills, done = list(_told(records, draw)), 0, 0, False
    while not done:
        with history(path) as sink:
            if kills < 12 and draw.random() < 0.8:
                sink._client_or_none = DyingClient(
                    sink._client_or_none, draw.randint(1, 60), draw.random() < 0.5
                )
            try:
                done = _write(sink, f"e{epoch}", topic, log, draw, stops=kills < KILLS)
            except Killed:
                kills += 1
            epoch += draw.random() < 0.2
    return kills


def _told(records: Sequence[Record], draw: random.Random) -> Iterator[Record]:
    at = 0
    while at < len(records):
        end = min(len(records), at + draw.randint(1, 25))
        yield from records[at:end]
        at = max(0, end - draw.randint(1, 12)) if draw.random() < 0.3 else end


def _write(
    sink: ClickHouseHistory, epoch: str, topic: str, log: Sequence[Record], draw: random.Random, stops: bool
) -> bool:
    place = sink.open_partition(epoch, topic, 0)
    while place < len(log):
        end = place + draw.randint(1, 40)
        sink.write(epoch, [message(of, place + n, topic) for n, of in enumerate(log[place:end])])
        place = end
        if stops and draw.random() < 0.1:
            return False  # what was written since the last flush is undone at the next start
        if draw.random() < 0.7:
            sink.flush()
    sink.flush()
    return True


def last_said(records: Iterable[Record], *also: str) -> list[Record]:
    """The last record of every (block hash, chunk, and what else tells records apart), messages told twice once."""
    named: dict[tuple[Any, ...], Record] = {}
    for record in records:
        key = (record["block_hash"], record["publication"], record["chunk"], *(record[name] for name in also))
        named.setdefault(key, record)
    last = {(r["block_hash"], r["chunk"], *(r[name] for name in also)): r for r in named.values()}
    return list(last.values())


COLUMNS: Mapping[str, str] = {
    "evm_blocks": "block_number, block_hash, finality, incarnation, was_head, parent_hash, chunks",
    "evm_transactions": "block_hash, finality, incarnation, transaction_index, hash, status, toString(fee), fee_payer, "
    "treasury_paid",
    "evm_logs": "block_hash, finality, log_index, contract, event, data",
    "evm_transfers": "block_hash, finality, transaction_index, log_index, asset, from_address, to_address, "
    "toString(amount)",
    "evm_balance_changes": "block_hash, finality, transaction_index, account, asset, change, opening",
    "gas_ledger": "block_hash, finality, owner, ledger_index, transaction_index, toString(fee), toString(burnt), "
    "toString(gas_paid_by_treasury)",
}


def rows_of(records: Iterable[Record]) -> dict[str, list[Row]]:
    """Table → rows of COLUMNS, sorted, after the records."""
    rows: dict[str, list[Row]] = {name: [] for name in COLUMNS}
    for r in last_said(records):
        state = (r["block_hash"], r["finality"])
        if r["chunk"] == 0:
            rows["evm_blocks"].append(
                (r["block_number"], *state, r["incarnation"], r["was_head"], r["parent_hash"], r["chunks"])
            )
        for tx in r["transactions"]:
            place, payer = tx["transaction_index"], tx["fee_payer"]
            rows["evm_transactions"].append(
                (
                    *state,
                    r["incarnation"],
                    place,
                    tx["hash"],
                    tx["status"],
                    tx["fee"],
                    payer,
                    tx["treasury_paid"],
                )
            )
            paid = tx["fee"] if tx["treasury_paid"] else "0"
            rows["gas_ledger"].append((*state, payer, r["block_number"], place, tx["fee"], tx["burnt"], paid))
            for log in tx["logs"]:
                rows["evm_logs"].append(
                    (*state, *(log[n] for n in ("log_index", "contract", "event", "data")))
                )
            for of in tx["transfers"]:
                names = ("log_index", "asset", "from_address", "to_address", "amount")
                rows["evm_transfers"].append((*state, place, *(of[n] for n in names)))
            for of in tx["balance_changes"]:
                names = ("account", "asset", "change", "opening")
                rows["evm_balance_changes"].append((*state, place, *(of[n] for n in names)))
    return {name: sorted(found, key=repr) for name, found in rows.items()}


def rows_in(sink: ClickHouseHistory) -> dict[str, list[Row]]:
    """The same from the tables."""
    return {
        name: sorted((tuple(row.values()) for row in sink.query(f"SELECT {columns} FROM {name}")), key=repr)
        for name, columns in COLUMNS.items()
    }


def asset_rows(records: Iterable[Record]) -> list[Row]:
    """Rows of asset_changes that the records bring."""
    names = ("transaction_index", "change_index", "action", "from_owner", "to_owner")
    found = [
        (
            r["asset"],
            r["block"],
            r["block_hash"],
            r["finality"],
            r["incarnation"],
            *(of[name] for name in names),
        )
        for r in last_said(of_assets(records), "asset")
        for of in r["changes"]
    ]
    return sorted(found, key=repr)


def asset_rows_in(sink: ClickHouseHistory) -> list[Row]:
    """The same from the table."""
    place = "asset, block, block_hash, finality, incarnation, transaction_index, change_index"
    columns = f"{place}, action, from_owner, to_owner"
    return sorted(
        (tuple(row.values()) for row in sink.query(f"SELECT {columns} FROM asset_changes")), key=repr
    )


def write(sink: ClickHouseHistory, records: Sequence[Record]) -> None:
    """Write the records, and what the assets role makes of them, in one batch each."""
    for topic, found in ((BLOCKS, list(records)), (ASSETS, of_assets(records))):
        if found:
            sink.write("e", [message(of, at, topic) for at, of in enumerate(found)])
    sink.flush()
