"""`tidebook bench ingest-memory`: memory of the XRPL ingest over many small ledgers, at level full."""

from __future__ import annotations

from typing import Any

from tests.bench.bench_ingest import run_memory


def run(transactions: int = 100_000, seed: int = 7) -> dict[str, Any]:
    """One ledger a transaction; resident memory at a tenth, at half, and at the end."""
    return run_memory(transactions, seed)


if __name__ == "__main__":
    print(run())
