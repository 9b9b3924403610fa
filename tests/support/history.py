"""Made-up messages for the history sink: plain ledgers whose rows can be counted by hand."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from schemas.codec import Codec, local_codec
from schemas.loader import schemas
from schemas.registry import local_registry
from sinks.clickhouse import ClickHouseHistory
from sinks.clickhouse_client import Place
from sinks.sink import HistoryMessage

LEDGERS = "xrpl.ledgers.v1"
TRANSFERS = "books.transfers.v1"
ASSETS = "assets.changes.v1"
ALERTS = "control.alerts.v1"
QUARANTINE = "quarantine.v1"
START_MS = 1_600_000_000_000
CODEC: Codec = local_codec()


@contextmanager
def history(path: Path) -> Iterator[ClickHouseHistory]:
    """An open history on chDB at `path`."""
    sink = ClickHouseHistory(Place(path=path), schemas(), CODEC, local_registry())
    sink.open()
    try:
        yield sink
    finally:
        sink.close()


def change(account: str, asset: str, delta: str, balance: str = "0") -> dict[str, Any]:
    """A balance change."""
    return {"account": account, "asset": asset, "change": delta, "previous": "0", "balance": balance}


def object_change(entry_type: str, entry_id: str, action: str = "created", **values: Any) -> dict[str, Any]:
    """An object change; what is not given is null, held amounts 0."""
    names = [
        "owner",
        "destination",
        "asset",
        "amount",
        "balance",
        "counter_asset",
        "counter_amount",
        "reference",
        "held_asset",
    ]
    empty: dict[str, Any] = dict.fromkeys(names)
    kinds = {
        "entry_type": entry_type,
        "entry_id": entry_id,
        "action": action,
        "held_before": "0",
        "held_after": "0",
    }
    return {**empty, **kinds, **values}


def mpt_change(issuance: str, account: str | None, action: str = "created", **values: str) -> dict[str, Any]:
    """An MPT change; amounts that are not given are 0."""
    names = ["change", "locked_change", "outstanding_change", "amount", "locked", "outstanding"]
    head = {
        "issuance": issuance,
        "account": account,
        "issuer": "rIssuer",
        "action": action,
        "ambiguous": False,
    }
    return {**dict.fromkeys(names, "0"), **head, **values}


def transaction(index: int, payer: str = "rPayer", fee: int = 10, **values: Any) -> dict[str, Any]:
    """A transaction without effects but its fee; `values` replace fields."""
    plain = {
        "transaction_index": index, "hash": f"{index:064X}", "type": "Payment", "result": "tesSUCCESS",
        "account": payer, "fee_payer": payer, "fee": fee, "sequence": 1, "destination": None, "memos": [],
        "balance_changes": [], "nft_changes": [], "mpt_changes": [], "object_changes": [], "unexplained": 0,
        "unexplained_entry": None, "unexplained_type": None, "error": None, "raw": b"{}",
    }  # fmt: skip
    return {**plain, **values}


def ledger(index: int, transactions: Sequence[dict[str, Any]] = (), **values: Any) -> dict[str, Any]:
    """A ledger of chain 1 with those transactions; `values` replace fields."""
    header = {
        "chain": "xrpl:test", "chain_number": 1, "run": 1, "ledger_index": index, "chunk": 0, "chunks": 1,
        "close_time": START_MS + index * 4000, "ledger_hash": f"{index:064X}",
        "parent_hash": f"{index - 1:064X}",
        "transaction_hash": None, "account_hash": None, "total_coins": 10**17, "run_coins": 10**17,
        "close_time_resolution": 10, "close_flags": 0, "parent_close_time": None, "gap_from": None,
        "gap_to": None,
        "transaction_count": len(transactions), "fees": sum(of["fee"] for of in transactions),
        "decoder_version": 1,
        "transactions": list(transactions),
    }  # fmt: skip
    return {**header, **values}


def message(record: dict[str, Any], offset: int, topic: str = LEDGERS, partition: int = 0) -> HistoryMessage:
    """`record` as it stands in its topic."""
    return HistoryMessage(topic, partition, offset, START_MS + offset, CODEC.encode(topic, record))


def chain(seed: int, ledgers: int, months: int = 3) -> list[dict[str, Any]]:
    """A seeded chain of ledgers 1, 2, …, of 0 to 8 transactions, spread over `months` months."""
    made = random.Random(seed)
    step_ms = months * 30 * 86_400_000 // ledgers
    return [
        ledger(
            index,
            [_random_transaction(made, place) for place in range(made.randrange(9))],
            close_time=START_MS + index * step_ms,
        )
        for index in range(1, ledgers + 1)
    ]  # fmt: skip


def expected(records: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Rows by table, and sums, that `records` must leave; counted from the records."""
    transactions = [of for record in records for of in record["transactions"]]
    changes = [of for tx in transactions for of in tx["balance_changes"]]
    return {
        "xrpl_ledgers": sum(record["chunk"] == 0 for record in records),
        "xrpl_transactions": len(transactions),
        "balance_changes": len(changes),
        "object_changes": sum(len(of["object_changes"]) for of in transactions),
        "mpt_changes": 0,
        "gas_ledger": sum(of["fee"] > 0 for of in transactions),
        "sink_applied": len(records),
        "fees": sum(of["fee"] for of in transactions),
        "change": sum(int(of["change"]) for of in changes),
    }


def found(sink: ClickHouseHistory, final: int = 0) -> dict[str, int]:
    """The same as `expected`, from the tables, duplicates not hidden unless `final`."""
    tables = (
        "xrpl_ledgers",
        "xrpl_transactions",
        "balance_changes",
        "object_changes",
        "mpt_changes",
        "gas_ledger",
    )
    counts = [f"(SELECT count() FROM {table}) AS {table}" for table in (*tables, "sink_applied")]
    change_sum = "(SELECT sum(toInt64(change)) FROM balance_changes) AS change"
    sums = f"(SELECT sum(fee) FROM gas_ledger) AS fees, {change_sum}"
    (row,) = sink.query(f"SELECT {', '.join(counts)}, {sums} SETTINGS final = {final}")
    return {name: int(value) for name, value in row.items()}


def _random_transaction(made: random.Random, index: int) -> dict[str, Any]:
    changes = [
        change(f"r{made.randrange(20)}", f"A{place}", str(made.randrange(-99, 99)))
        for place in range(made.randrange(4))
    ]
    objects = [object_change("Offer", f"{made.randrange(10**6):064X}")] if made.random() < 0.3 else []
    values = {"hash": f"{made.randrange(2**256):064X}", "raw": made.randbytes(60)}
    return transaction(
        index,
        f"r{made.randrange(20)}",
        made.choice([0, 10, 12]),
        balance_changes=changes,
        object_changes=objects,
        **values,
    )
