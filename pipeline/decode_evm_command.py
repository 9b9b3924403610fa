"""`tidebook decode evm FILE...`: recorded blocks, receipts and logs to transactions, one JSON line each.

The lines are the contract of DESIGN.md, "What the commands print". What can't be decoded prints
{"error", "file", "hash"} in its place and the rest goes on; null and empty answers print nothing. Exit status
1 if there was any error.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import orjson

from pipeline.domain.decode.evm import Chain, transaction_record
from pipeline.domain.decode.evm_abi import BadAbi
from pipeline.domain.decode.evm_contracts import UNDECLARED, Contracts, contract
from pipeline.domain.decode.evm_gas import burns_by_evidence
from pipeline.domain.decode.evm_shapes import RecordedBlock, recorded_blocks
from pipeline.domain.decode.evm_values import INT_LIMIT, LONG_LIMIT, objects, quantity
from pipeline.domain.decode.xrpl_errors import RecordedError
from pipeline.ingest.recorded import recorded_files
from pipeline.ingest.recorded_evm import file_values
from schemas.records import EvmArg, EvmLog, EvmTransaction, EvmTransfer

Row = dict[str, Any]


def declared(abis: Iterable[str], kinds: Iterable[str]) -> Contracts:
    """Contracts from texts ADDRESS=FILE (ABI as JSON) and ADDRESS=KIND. Raises BadAbi."""
    given: dict[str, dict[str, Any]] = {}
    for text in kinds:
        address, _, name = text.partition("=")
        given.setdefault(address, {})["kind"] = name
    for text in abis:
        address, _, file = text.partition("=")
        try:
            given.setdefault(address, {})["abi"] = orjson.loads(Path(file).read_bytes())
        except (OSError, ValueError) as error:
            raise BadAbi(f"--abi {text}: {error}") from None
    if not given:
        return UNDECLARED
    return Contracts([contract(address, **what) for address, what in given.items()], others=True)


def decode_evm_files(
    paths: Iterable[Path | str], out: TextIO, contracts: Contracts = UNDECLARED, burns: bool | None = None
) -> int:
    """Prints the transactions of all files: blocks as they come, within a block by index. Exit status: 0, or 1
    on an error. `burns`: whether the chain burns the base fee; None: told from the recording where it can be."""
    status = 0
    for path in paths:
        for file in recorded_files(Path(path)):
            for row in _file_rows(file, contracts, burns):
                if "error" in row:
                    status = 1
                    row["file"] = str(file)
                out.write(orjson.dumps(row).decode() + "\n")
    return status


def _file_rows(file: Path, contracts: Contracts, burns: bool | None) -> Iterator[Row]:
    blocks, faults = recorded_blocks(file_values(file))
    for block in blocks:
        yield from _block_rows(block, contracts, burns)
    for fault in faults:
        yield {"error": fault.reason, "file": None, "hash": fault.transaction_hash}


def _block_rows(block: RecordedBlock, contracts: Contracts, burns: bool | None) -> list[Row]:
    rows: list[Row] = []
    try:
        transactions = block.transactions()
    except RecordedError as error:
        transactions = {}
        rows.append({"error": error.reason, "file": None, "hash": block.block_hash})
    names = dict.fromkeys([*transactions, *block.receipts, *block.logs])
    if burns is None:
        burns = burns_by_evidence(list(transactions.values()), list(block.receipts.values()))
    for name in names:
        try:
            rows.append(_row(block, name, transactions.get(name, {}), contracts, Chain(burns=burns)))
        except RecordedError as error:
            rows.append({"error": error.reason, "file": None, "hash": error.transaction_hash or name or None})
    rows.sort(key=lambda row: row["transaction_index"] if row.get("transaction_index") is not None else 2**31)
    return rows


def _row(block: RecordedBlock, name: str, transaction: Row, contracts: Contracts, chain: Chain) -> Row:
    receipt: Any = block.receipts.get(name, {})
    loose = list(block.logs.get(name, {}).values())
    logs = _merged(objects(receipt.get("logs"), "logs"), loose)
    base_fee = None
    if block.header is not None:
        base_fee = quantity(block.header, "baseFeePerGas") or 0
    fields = transaction if receipt or transaction else {"hash": name}
    record = transaction_record(fields, receipt, logs, contracts, chain, base_fee)
    number = next(
        (
            found
            for of in (receipt, transaction, *loose)
            if (found := quantity(of, "blockNumber", LONG_LIMIT)) is not None
        ),
        quantity(block.header, "number", LONG_LIMIT) if block.header is not None else None,
    )
    index = record["transaction_index"]
    if index is None and loose:
        index = quantity(loose[0], "transactionIndex", INT_LIMIT)
    return printed(record, number, index)


def _merged(logs: Sequence[Any], loose: Sequence[Any]) -> list[Any]:
    """The receipt's logs, and of the loose ones those that it lacks."""
    have = {quantity(log, "logIndex") for log in logs}
    return [*logs, *(log for log in loose if quantity(log, "logIndex") not in have or not logs)]


def printed(record: EvmTransaction, block_number: int | None, transaction_index: int | None) -> Row:
    """The line of one EvmTransaction record."""
    names = ("gas_used", "effective_gas_price", "blob_fee", "l1_fee", "fee", "burnt")
    return {
        "block_number": block_number,
        "transaction_index": transaction_index,
        "hash": record["hash"],
        "type": record["type"],
        "status": record["status"],
        "from": record["from_address"],
        "to": record["to_address"],
        "contract_address": record["contract_address"],
        "fee_payer": record["fee_payer"],
        **{name: None if (value := record[name]) is None else str(value) for name in names},  # type: ignore[literal-required]
        "tip": record["tip"],
        "transfers": [_transfer(transfer) for transfer in record["transfers"]],
        "logs": [_log(log) for log in record["logs"]],
    }


def _transfer(transfer: EvmTransfer) -> Row:
    row: Row = {"log_index": transfer["log_index"], "standard": transfer["standard"]}
    row |= {"contract": transfer["contract"], "from": transfer["from_address"], "to": transfer["to_address"]}
    return row | {"token_id": transfer["token_id"], "amount": transfer["amount"]}


def _log(log: EvmLog) -> Row:
    row: Row = {"log_index": log["log_index"], "contract": log["contract"], "event": log["event"]}
    row["args"] = {arg["name"]: _value(arg) for arg in log["args"]} if log["event"] is not None else None
    if log["event"] is None:
        row |= {"topics": log["topics"], "data": log["data"]}
    if log["error"] is not None:
        row["reason"] = log["error"]
    return row


def _value(arg: EvmArg) -> Any:
    """An argument's value as JSON: true and false, lists; numbers stay decimal text."""
    if arg["hashed"]:
        return arg["value"]
    if arg["type"] == "bool":
        return arg["value"] == "true"
    return orjson.loads(arg["value"]) if arg["type"].endswith(("]", ")")) else arg["value"]
