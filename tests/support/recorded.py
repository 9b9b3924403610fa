"""The recorded chain as blocks, and its postings booked into any engine."""

import gzip
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from pipeline.domain.decode.xrpl import decode_ledger
from pipeline.domain.posting.xrpl import post_ledger
from pipeline.domain.verdict import Tally, Watermark
from sinks.bookkeeper import BlockPosting

RECORDING = Path(__file__).parents[2] / "pipeline/recordings/xrpl-standalone.jsonl.gz"


def recorded_blocks(chain: str = "xrpl:test", recording: Path = RECORDING) -> Iterator[dict[str, Any]]:
    """Blocks as the ingest publishes them, without their encoding."""
    run = run_coins = None
    with gzip.open(recording) as lines:
        for line in lines:
            header, transactions = decode_ledger(orjson.loads(line))
            fees = sum(tx["fee"] for tx in transactions)
            if run is None:
                run = header["ledger_index"]
                run_coins = header["total_coins"] + fees
            yield {
                "chain": chain, "chain_number": 16384, "run": run, "run_coins": run_coins, "chunk": 0, "chunks": 1,
                "gap_from": None, "gap_to": None, "fees": fees, "transaction_count": len(transactions),
                "decoder_version": 1, **header, "transactions": transactions,
            }  # fmt: skip


def posting(block: dict[str, Any]) -> BlockPosting:
    """What the books agent hands to the bookkeeper."""
    return BlockPosting(
        chain=block["chain"], chain_number=block["chain_number"], run=block["run"],
        block=block["ledger_index"], block_hash=block["ledger_hash"], chunk=block["chunk"], chunks=block["chunks"],
        run_coins=block["run_coins"], postings=post_ledger(block),
        hashes={tx["transaction_index"]: tx["hash"] for tx in block["transactions"]},
    )  # fmt: skip


def verdicts_up_to(last: int, blocks: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Verdicts of chains.verdicts.v1 on the blocks up to `last`, in order: all is well with them."""
    mark = None
    holds = [{"name": "header_hash", "outcome": "holds", "detail": ""}]
    for block in blocks:
        mark = mark or Watermark(block["chain"], block["chain_number"], "full")
        if block["ledger_index"] <= last:
            for verdict in mark.block(block, "node", holds, Tally([], 0, 0)):
                yield dict(verdict)
