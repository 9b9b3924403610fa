"""What every block-shaped message tells, whatever its chain: where it stands and in which state. Pure.

The roles are written against these facts; each source topic's row in the catalog has the function that reads them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pipeline.domain.branch import Finality, Step


class BlockFacts(NamedTuple):
    """One message (a block, or a chunk of it)."""

    chain: str
    chain_number: int
    run: int
    number: int
    hash: str  # hex without 0x; "" where the recording lacks it
    parent: str | None  # as hash; None where it is not told
    chunk: int
    chunks: int
    time: int  # ms since 1970
    transactions: int
    gap: tuple[int, int] | None = None  # accepted before this block; told by its first chunk
    finality: Finality = "final"
    incarnation: int = 0
    publication: str = ""  # <incarnation>/<finality> where blocks may be taken back, else ""

    @property
    def step(self) -> Step:
        """As a step of its chain's Branch."""
        return Step(
            self.number,
            self.hash,
            self.parent,
            self.finality,
            self.incarnation,
            self.chunk,
            self.chunks,
            self.run,
        )


def state_facts(page: Any) -> BlockFacts:
    """Of a page of xrpl.states.v1: it stands after its ledger, and how many pages there are is told by the last."""
    return BlockFacts(
        page["chain"], page["chain_number"], page["run"], page["ledger_index"], page["ledger_hash"], None,
        page["page"], page["page"] + 1, page["close_time"], 0,
    )  # fmt: skip


def ledger_facts(block: Any) -> BlockFacts:
    """Of a record of xrpl.ledgers.v1."""
    gap = (
        (block["gap_from"], block["gap_to"]) if block["gap_from"] is not None and not block["chunk"] else None
    )
    return BlockFacts(
        block["chain"], block["chain_number"], block["run"], block["ledger_index"],
        block["ledger_hash"] or block["transaction_hash"] or "", block["parent_hash"],
        block["chunk"], block["chunks"], block["close_time"], len(block["transactions"]), gap,
    )  # fmt: skip


def evm_facts(block: Any) -> BlockFacts:
    """Of a record of evm.blocks.v1."""
    gap = (
        (block["gap_from"], block["gap_to"]) if block["gap_from"] is not None and not block["chunk"] else None
    )
    return BlockFacts(
        block["chain"], block["chain_number"], block["run"], block["block_number"], block["block_hash"][2:],
        block["parent_hash"][2:], block["chunk"], block["chunks"], block["time"],
        sum(not tx["part"] for tx in block["transactions"]), gap,
        block["finality"], block["incarnation"], block["publication"],
    )  # fmt: skip
