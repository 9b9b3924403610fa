"""`tidebook decode xrpl FILE...`: recorded ledgers and transactions to effects, one JSON line a transaction.

The lines are the contract of DESIGN.md, "What the commands print". What can't be decoded prints
{"error", "file", "hash"} in its place and the rest goes on; a transaction of which a part could be read
prints that part with the same keys added. Exit status 1 if there was any error.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import orjson

from pipeline.domain.decode.xrpl import transaction_record
from pipeline.domain.decode.xrpl_errors import RecordedError
from pipeline.domain.decode.xrpl_shapes import (
    is_ledger,
    normalise_transaction,
    read_header,
    split_ledger,
    unwrap,
)
from pipeline.ingest.recorded import assemble, read_values, recorded_files

Row = dict[str, Any]


def decode_files(paths: Iterable[Path | str], out: TextIO) -> int:
    """Prints the effects of all transactions of the files in order. Exit status: 0, or 1 on an error."""
    status = 0
    for path in paths:
        for file in recorded_files(Path(path)):
            for value in assemble(read_values(file)):
                for row in _rows(value):
                    if "error" in row:
                        status = 1
                        row["file"] = str(file)
                    out.write(orjson.dumps(row).decode() + "\n")
    return status


def _rows(value: Any) -> Iterator[Row]:
    """Printed rows of one recorded value: a ledger's by TransactionIndex."""
    if isinstance(value, RecordedError):
        yield error_row(value)
        return
    try:
        body = unwrap(value)
        if not is_ledger(body):
            yield _transaction_row(body, None)
            return
        ledger = split_ledger(value)
    except RecordedError as error:
        yield error_row(error)
        return
    index = None
    try:
        index = read_header(ledger)["ledger_index"]
    except RecordedError as error:
        yield error_row(error)
    rows = [_transaction_row(item, index) for item in ledger.transactions]
    rows.sort(key=lambda row: row["transaction_index"] if row.get("transaction_index") is not None else 2**31)
    yield from rows


def _transaction_row(item: Any, ledger_index: int | None) -> Row:
    try:
        recorded = normalise_transaction(item)
        record = transaction_record(recorded)
    except RecordedError as error:
        return error_row(error)
    row = printed(record, recorded.ledger_index if ledger_index is None else ledger_index)
    if "TransactionIndex" not in recorded.meta:
        row["transaction_index"] = None
    return row


def error_row(error: RecordedError) -> Row:
    """What is printed in place of what can't be decoded; `file` is added by the caller."""
    return {"error": error.reason, "file": None, "hash": error.transaction_hash}


def printed(record: Row, ledger_index: int | None) -> Row:
    """The line of one XrplTransaction record."""
    row = {
        "ledger_index": ledger_index,
        "transaction_index": record["transaction_index"],
        "hash": record["hash"] or None,
        "type": record["type"],
        "result": record["result"],
        "account": record["account"],
        "fee_payer": record["fee_payer"],
        "fee": record["fee"],
        "balance_changes": record["balance_changes"],
        "nft_changes": [_nft(change) for change in record["nft_changes"]],
        "mpt_changes": [_mpt(change) for change in record["mpt_changes"] if _is_change(change)],
        "object_changes": record["object_changes"],
    }
    if record["unexplained"]:
        for name in ("unexplained", "unexplained_entry", "unexplained_type"):
            row[name] = record[name]
    if record["error"]:
        row["error"] = record["error"]
    return row


def _nft(change: Row) -> Row:
    return {
        "nft_id": change["nft_id"],
        "from": change["from_owner"],
        "to": change["to_owner"],
        "uri": change["uri"],
    }


def _is_change(change: Row) -> bool:
    figures = (change["change"], change["locked_change"], change["outstanding_change"])
    return any(figure != "0" for figure in figures) or bool(change["ambiguous"])


def _mpt(change: Row) -> Row:
    row = {"issuance": change["issuance"], "account": change["account"]}
    if change["account"] is None:
        row["outstanding_change"] = change["outstanding_change"]
    else:
        row["change"] = change["change"]
    row["locked_change"] = change["locked_change"]
    if change["ambiguous"]:
        row["ambiguous"] = True
    return row
