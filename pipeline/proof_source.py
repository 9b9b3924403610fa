"""What a proof is made from: the ledger or block of one row of the history, put together again.

Of an XRPL ledger all transactions are in the history. Of an EVM block they are where every transaction was of interest;
else a recorded file or a node gives the block, and it must be the very one of the row, by its hash and its roots.
"""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from pipeline.domain import proof_evm, proof_xrpl
from pipeline.domain.decode.evm_shapes import Bag
from pipeline.domain.decode.xrpl_errors import RecordedError
from pipeline.domain.evm_logs import logs_bloom
from pipeline.domain.proof_errors import Contradiction, Unprovable
from pipeline.domain.proof_form import Proof
from pipeline.ingest.evm.config import SETTING, ConfigError, read_config
from pipeline.ingest.evm.errors import NodeError, NoNode
from pipeline.ingest.evm.fetch import Fetcher, block_of
from pipeline.ingest.evm.nodes import Nodes
from pipeline.ingest.recorded_evm import file_values

WAIT_S: Final = 30.0
Row = Mapping[str, Any]
Block = tuple[dict[str, Any], list[dict[str, Any]]]
"""A block with whole transactions, and its receipts in their order, as JSON-RPC gives them."""

_XRPL: Final = (
    "SELECT chain, chain_number, ledger_index AS block, hash, type, result, account, fee FROM xrpl_transactions "
    "WHERE hash = {hash:String}"
)
_EVM: Final = (
    "SELECT chain, chain_number, block_number AS block, block_hash, toUnixTimestamp64Milli(time) AS time_ms, "
    "finality, transaction_index, hash, status, from_address, to_address, gas_used FROM evm_transactions "
    "WHERE hash = {hash:String} "
    "ORDER BY indexOf(['final', 'head', 'retracted'], toString(finality)), block_number DESC"
)
_HEADER: Final = (
    "SELECT ledger_index, ledger_hash, parent_hash, transaction_hash, account_hash, total_coins, "
    "close_time_resolution, close_flags, transaction_count, "
    "toUnixTimestamp64Milli(close_time) AS close_time, toUnixTimestamp64Milli(parent_close_time) AS parent_close_time "
    "FROM xrpl_ledgers WHERE chain_number = {chain_number:Int32} AND ledger_index = {block:Int64}"
)
_LEDGER: Final = (
    "SELECT hex(raw) AS raw FROM xrpl_transactions "
    "WHERE chain_number = {chain_number:Int32} AND ledger_index = {block:Int64}"
)
_OF_BLOCK: Final = (
    "WHERE chain_number = {chain_number:Int32} AND block_number = {block:Int64} "
    "AND block_hash = {block_hash:String}"
)
_BLOCK: Final = f"SELECT hex(raw_header) AS raw, transaction_count FROM evm_blocks {_OF_BLOCK}"
_TRANSACTIONS: Final = (
    f"SELECT hash, hex(raw) AS raw FROM evm_transactions {_OF_BLOCK} ORDER BY transaction_index"
)
_LOGS: Final = (
    f"SELECT hash, log_index, contract, topics, data FROM evm_logs {_OF_BLOCK} "
    "AND time = fromUnixTimestamp64Milli({time_ms:Int64}, 'UTC') ORDER BY log_index"
)


class NoSource(ValueError):
    """What it takes is nowhere; one line says what and what to do."""


@dataclass(frozen=True)
class Wanted:
    """`transaction`: 64 hex digits, of an EVM chain with 0x; `chain`: where the history has several with it."""

    transaction: str
    chain: str | None = None
    log: int | None = None
    receipts: Path | None = None
    evm_config: Path | None = None

    @property
    def is_evm(self) -> bool:
        return self.transaction.startswith("0x")


def find_row(history: Any, wanted: Wanted) -> Row:
    """The transaction's row, of a block that stands if there is one. Raises NoSource."""
    name = wanted.transaction
    rows = list(history.query(_EVM if wanted.is_evm else _XRPL, {"hash": name}))
    found = [row for row in rows if wanted.chain in (None, row["chain"])]
    if not found:
        elsewhere = f"; chain {rows[0]['chain']} has it" if rows else ""
        where = f" of chain {wanted.chain}" if wanted.chain else ""
        raise NoSource(f"transaction {name} is not in the history{where}{elsewhere}")
    chains = sorted({row["chain"] for row in found})
    if len(chains) > 1:
        raise NoSource(f"transaction {name} is on chains {', '.join(chains)}: name one with --chain")
    row: Row = found[0]
    return row


def make_proof(history: Any, row: Row, wanted: Wanted) -> Proof:
    """The proof of the row's transaction. Raises NoSource, Unprovable, Contradiction, QueryError."""
    if not wanted.is_evm:
        header, transactions = _ledger(history, row)
        return proof_xrpl.make(header, transactions, row["hash"])
    if wanted.receipts is not None:
        return _of_block(recorded_block(wanted.receipts, row, history), row, wanted)
    try:
        return _of_block(kept_block(history, row), row, wanted)
    except (Unprovable, Contradiction) as error:
        if wanted.evm_config is None:
            raise NoSource(
                f"the history alone does not prove it ({error}): give the block's eth_getBlockByHash and "
                f"eth_getBlockReceipts with --receipts FILE, or name its nodes in {SETTING}"
            ) from None
    return _of_block(fetched_block(wanted.evm_config, row), row, wanted)


def _of_block(block: Block, row: Row, wanted: Wanted) -> Proof:
    if str(block[0]["hash"]).lower() != row["block_hash"]:
        raise Contradiction(
            "block_hash", f"it is of block {block[0]['hash']}, the row of {row['block_hash']}"
        )
    return proof_evm.make(*block, row["hash"], wanted.log)


# XRPL


def _ledger(history: Any, row: Row) -> tuple[dict[str, Any], list[Any]]:
    """Header and transactions of the row's ledger, all of them. Raises Unprovable."""
    place = {"chain_number": row["chain_number"], "block": row["block"]}
    header: dict[str, Any] = next(iter(history.query(_HEADER, place)), {})
    transactions = [_unpacked(one["raw"]) for one in history.query(_LEDGER, place)]
    if not header or len(transactions) != header["transaction_count"]:
        due = header.get("transaction_count", "an unknown number")
        raise Unprovable(
            f"the history has {len(transactions)} of {due} transactions of ledger {row['block']}"
        )
    if header["parent_close_time"] is None:  # recordings of before 2014 leave it to the ledger before
        parent = place | {"block": row["block"] - 1}
        before: Row = next(iter(history.query(_HEADER, parent)), {})
        if before.get("ledger_hash") == header["parent_hash"]:
            header["parent_close_time"] = before.get("close_time")
    return header, transactions


# EVM


def kept_block(history: Any, row: Row) -> Block:
    """The row's block, where the history has all of its transactions. Raises Unprovable."""
    place = {name: row[name] for name in ("chain_number", "block", "block_hash")}
    header = next(iter(history.query(_BLOCK, place)), None)
    kept = list(history.query(_TRANSACTIONS, place))
    if header is None or len(kept) != header["transaction_count"]:
        due = "an unknown number" if header is None else header["transaction_count"]
        raise Unprovable(f"it keeps {len(kept)} of {due} transactions of block {row['block']}")
    logs: dict[str, list[dict[str, Any]]] = {one["hash"]: [] for one in kept}
    for log in history.query(_LOGS, place | {"time_ms": row["time_ms"]}):
        logs[log["hash"]].append({
            "address": log["contract"], "topics": log["topics"], "data": log["data"],
            "logIndex": log["log_index"], "transactionHash": log["hash"],
        })  # fmt: skip
    whole = [_unpacked(one["raw"]) for one in kept]
    receipts = [
        {**one["receipt"], "transactionHash": of["hash"], "logs": logs[of["hash"]],
         "logsBloom": logs_bloom(logs[of["hash"]])}
        for one, of in zip(whole, kept, strict=True)
    ]  # fmt: skip
    return {**_unpacked(header["raw"]), "transactions": [one["transaction"] for one in whole]}, receipts


def recorded_block(file: Path, row: Row, history: Any) -> Block:
    """The row's block from a recorded file; receipts alone are enough for a proof of the receipt. NoSource."""
    bag = Bag()
    for value in file_values(file):
        faults = [value] if isinstance(value, RecordedError) else bag.add(value)
        if faults:
            raise NoSource(f"--receipts {file}: {faults[0].reason}")
    found = next((one for one in bag.blocks() if one.block_hash == row["block_hash"]), None)
    if found is None or not found.receipts:
        raise NoSource(f"--receipts {file}: holds no receipts of block {row['block']} {row['block_hash']}")
    receipts = sorted(map(dict, found.receipts.values()), key=_position)
    if found.header is not None and len(names := list(found.transactions())) == len(receipts):
        receipts = [dict(found.receipts.get(name, {})) for name in names]
        return {**found.header, "transactions": list(found.transactions().values())}, receipts
    place = {name: row[name] for name in ("chain_number", "block", "block_hash")}
    header = next(iter(history.query(_BLOCK, place)), None)
    if header is None:
        raise NoSource(f"the history lacks the header of block {row['block_hash']}")
    return {
        **_unpacked(header["raw"]),
        "transactions": [one["transactionHash"] for one in receipts],
    }, receipts


def _position(receipt: Mapping[str, Any]) -> int:
    place = receipt.get("transactionIndex")
    try:
        return place if isinstance(place, int) else int(str(place), 16)
    except ValueError:
        return -1


def fetched_block(config_file: Path, row: Row) -> Block:
    """The row's block from a node of its chain. Raises NoSource."""
    try:
        config = read_config(config_file, os.environ).get(row["chain"])
    except ConfigError as error:
        raise NoSource(str(error)) from None
    if config is None:
        raise NoSource(f"setting {SETTING}={config_file} has no chain {row['chain']}: name its nodes there")

    async def ask() -> Block:
        async with Nodes.of(config) as nodes:
            await nodes.ready(WAIT_S)
            errors: list[Exception] = []
            for node in nodes.candidates():
                try:
                    answer = await node.ask("eth_getBlockByHash", row["block_hash"], True)
                    block = block_of(node, row["block"], answer)
                    return block, await Fetcher("full", config.exceptions).receipts(node, block)
                except (NodeError, Contradiction) as error:
                    errors.append(error)
            raise NoSource(
                f"no node of {row['chain']} gives block {row['block']}: {errors[-1] if errors else nodes.troubles()}"
            )

    try:
        return asyncio.run(ask())
    except (NodeError, NoNode) as error:
        raise NoSource(str(error)) from None


def _unpacked(digits: str) -> Any:
    """What `raw` of a row holds; its bytes in hex. Raises Unprovable."""
    try:
        return orjson.loads(zlib.decompress(bytes.fromhex(digits)))
    except (ValueError, zlib.error) as error:
        raise Unprovable(f"a row's raw bytes can't be read: {error}") from None


def differences(row: Row, told: Mapping[str, Any]) -> Sequence[str]:
    """What of the row is not as it is proven, in words."""
    names = ["type", "result", "account", "fee"]
    if told["kind"] == proof_evm.KIND:
        names = ["transaction_index", "status", "gas_used"] + (
            ["from_address", "to_address"] if told["hash"] is not None else []
        )
    return [
        f"{name} is {row[name]}, proven is {told[name]}"
        for name in names
        if str(row[name]) != str(told[name])
    ]
