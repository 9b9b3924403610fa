"""A judged block → its messages: decoded, in chunks, in each of the states that it goes through.

How a block is cut into chunks is decided once: its later messages repeat the same chunks with another finality,
so that everything that names a chunk (a mark in the books, a row in ClickHouse) stays the same. Pure but for the
encoder that it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from eth_hash.auto import keccak

from pipeline.domain.branch import short
from pipeline.domain.decode.evm import block_record
from pipeline.ingest.ledgers import CHUNK_BYTES, Stopped, split
from schemas.records import Check, EvmBlock, EvmTransaction, Finality

Encode = Callable[[EvmBlock], bytes]
Message = tuple[EvmBlock, bytes]
DATA_KEPT: Final = 4_096  # characters of a log's data, where a transaction alone is too large for a message


@dataclass(frozen=True, slots=True)
class Told:
    """One block as it was told: all of its chunks, as head or as final at once."""

    records: tuple[EvmBlock, ...]

    @property
    def number(self) -> int:
        return self.records[0]["block_number"]

    @property
    def hash(self) -> str:
        """0x and 64 digits."""
        return self.records[0]["block_hash"]

    @property
    def key(self) -> tuple[str, int]:
        """Names the block's appearance: short hash, incarnation."""
        return short(self.hash), self.records[0]["incarnation"]

    @property
    def whole(self) -> bool:
        return len(self.records) == self.records[0]["chunks"]

    def again(self, finality: Finality, highest: int) -> list[EvmBlock]:
        """The same chunks as `final` or `retracted`; of a block that was cut off, those that were told.

        `highest`: number of the highest block ever told."""
        return [
            {
                **record,
                "finality": finality,
                "publication": f"{record['incarnation']}/{finality}",
                "was_head": True,
                "chunks": len(self.records),
                "highest": highest,
            }
            for record in self.records
        ]


@dataclass(frozen=True)
class EvmLine:
    """Packs one chain's blocks. `encode`: a record of evm.blocks.v1 to its message."""

    chain: str
    chain_number: int
    level: str
    encode: Encode

    def told(
        self,
        header: Mapping[str, Any],
        transactions: Sequence[EvmTransaction],
        checks: Sequence[Check],
        *,
        run: int,
        finality: Finality,
        incarnation: int,
        highest: int,
    ) -> tuple[Told, list[Message]]:
        """A block told for the first time, as head or final, and its messages of at most CHUNK_BYTES.

        Raises Stopped("too_large") for a transaction that no message takes.
        """

        def record(part: Sequence[EvmTransaction], chunk: int = 0, chunks: int = 1) -> EvmBlock:
            return block_record(
                self.chain, self.chain_number, header, part, run=run, finality=finality,
                incarnation=incarnation, was_head=False, chunk=chunk, chunks=chunks,
                level=self.level, checks=checks,
                highest=max(highest, header["block_number"]),
            )  # fmt: skip

        def size(part: Sequence[EvmTransaction]) -> int:
            return len(self.encode(record(part)))

        whole = record(transactions)
        encoded = self.encode(whole)
        if len(encoded) <= CHUNK_BYTES:
            return Told((whole,)), [(whole, encoded)]
        parts = [self._fitting(part, size) for part in split(list(transactions), size)]
        records = [record(part, number, len(parts)) for number, part in enumerate(parts)]
        return Told(tuple(records)), self.messages(records)

    def messages(self, records: Sequence[EvmBlock]) -> list[Message]:
        """Records with their encodings."""
        return [(record, self.encode(record)) for record in records]

    @staticmethod
    def _fitting(
        part: list[EvmTransaction], size: Callable[[Sequence[EvmTransaction]], int]
    ) -> list[EvmTransaction]:
        """What a message takes of a transaction that is too large alone: first without `raw`, then without the data
        of its largest logs that nothing decodes; their hash stands in `error`."""
        for shorter in (_without_raw, _without_data):
            if size(part) <= CHUNK_BYTES:
                return part
            part = [shorter(one) for one in part]
        if size(part) > CHUNK_BYTES:
            raise Stopped("too_large", f"transaction {part[0]['hash']} is too large for a message")
        return part


def _without_raw(transaction: EvmTransaction) -> EvmTransaction:
    note = "raw left out: the transaction is too large for a message"
    error = transaction["error"]
    return {**transaction, "raw": b"", "error": f"{error}; {note}" if error else note}


def _without_data(transaction: EvmTransaction) -> EvmTransaction:
    logs = []
    for log in transaction["logs"]:
        data = log["data"]
        if log["event"] is None and len(data) > DATA_KEPT:
            digest = keccak(bytes.fromhex(data[2:])).hex()
            note = f"{len(data) // 2 - 1} bytes of data left out, keccak-256 0x{digest}"
            log = {**log, "data": "0x", "error": note}
        logs.append(log)
    return {**transaction, "logs": logs}
