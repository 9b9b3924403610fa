"""A judged block → its messages: decoded, in chunks, in each of the states that it goes through.

How a block is cut into chunks is decided once: its later messages repeat the same chunks with another finality,
so that everything that names a chunk (a mark in the books, a row in ClickHouse) stays the same. Pure but for the
encoder that it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.domain.branch import short
from pipeline.domain.decode.evm import block_record
from pipeline.domain.evm_parts import parts_of
from pipeline.ingest.ledgers import CHUNK_BYTES, split
from schemas.records import Check, EvmBlock, EvmTransaction, Finality

Encode = Callable[[EvmBlock], bytes]
Message = tuple[EvmBlock, bytes]
Record = Callable[[Sequence[EvmTransaction], int, int], EvmBlock]  # transactions, chunk, chunks
_CHUNKS: Final = 1 << 20  # more than a block has: what fits with this number fits with the true one


def in_chunks(transactions: Sequence[EvmTransaction], record: Record, encode: Encode) -> list[Message]:
    """A block as messages of at most CHUNK_BYTES: cut between transactions; one that alone is larger comes in parts,
    each in a chunk of its own (pipeline.domain.evm_parts)."""

    def size(part: Sequence[EvmTransaction]) -> int:
        return len(encode(record(part, 0, _CHUNKS)))

    whole = record(transactions, 0, 1)
    encoded = encode(whole)
    if len(encoded) <= CHUNK_BYTES:
        return [(whole, encoded)]
    cut: list[Sequence[EvmTransaction]] = []
    for some in split(list(transactions), size):
        if len(some) == 1:
            cut += ([part] for part in parts_of(some[0], lambda one: size([one]) <= CHUNK_BYTES))
        else:
            cut.append(some)
    records = [record(part, chunk, len(cut)) for chunk, part in enumerate(cut)]
    return [(one, encode(one)) for one in records]


def of_verdict(block: EvmBlock) -> dict[str, Any]:
    """What a verdict needs of a block, by the names that `Watermark.block` reads."""
    return {
        "ledger_index": block["block_number"],
        "ledger_hash": block["block_hash"],
        "parent_hash": block["parent_hash"],
        "close_time": block["time"],
        "run": block["run"],
    }


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
        """A block told for the first time, as head or final, and its messages of at most CHUNK_BYTES."""

        def record(part: Sequence[EvmTransaction], chunk: int, chunks: int) -> EvmBlock:
            return block_record(
                self.chain, self.chain_number, header, part, run=run, finality=finality,
                incarnation=incarnation, was_head=False, chunk=chunk, chunks=chunks,
                level=self.level, checks=checks,
                highest=max(highest, header["block_number"]),
            )  # fmt: skip

        messages = in_chunks(transactions, record, self.encode)
        return Told(tuple(record for record, _ in messages)), messages

    def messages(self, records: Sequence[EvmBlock]) -> list[Message]:
        """Records with their encodings."""
        return [(record, self.encode(record)) for record in records]
