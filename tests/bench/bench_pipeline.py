"""The whole pipeline, as `tidebook demo` runs it, over a long generated chain; its end state is checked.

Ingest (JSON → effects → Avro → Kafka), books, assets and history all run at once on this machine's
cores. The rate is transactions / seconds from start to everything applied, process starts included.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.bench.generate_chain import Expected, generate


def tidebook(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments], capture_output=True, text=True, check=False
    )


def check_end(expected: Expected, data_dir: Path) -> None:
    """The exports must be the generator's own state: XRP of every account and every NFT's owner."""
    balances = tidebook("export", "balances", "--json", "--data-dir", str(data_dir)).stdout.splitlines()
    rows = [json.loads(line) for line in balances]
    drops = {row["account"]: int(row["available"]) for row in rows if row["asset"] == "XRP"}
    wanted = {account: int(balance) for account, balance in expected.accounts.items() if int(balance)}
    if {account: units for account, units in drops.items() if units} != wanted:
        raise SystemExit("bench pipeline: XRP balances differ from the generator's state")
    nfts = tidebook("export", "nfts", "--json", "--data-dir", str(data_dir)).stdout.splitlines()
    owners = {row["nft_id"]: row["owner"] for row in map(json.loads, nfts)}
    if owners != dict(expected.nfts):
        raise SystemExit("bench pipeline: NFT owners differ from the generator's state")


def run(transactions: int = 200_000, seed: int = 7) -> dict[str, Any]:
    """Generate, run, check; figures."""
    with tempfile.TemporaryDirectory(prefix="tidebook-bench-") as name:
        directory = Path(name)
        recording, report_file = directory / "chain.jsonl.gz", directory / "report.json"
        expected = generate(recording, transactions, seed)
        done = tidebook(
            "demo",
            "--ledgers",
            str(recording),
            "--data-dir",
            str(directory / "data"),
            "--report",
            str(report_file),
        )
        if done.returncode:
            raise SystemExit(f"bench pipeline: the demo ended with {done.returncode}: {done.stderr[-2000:]}")
        report = json.loads(report_file.read_text())
        check_end(expected, directory / "data")
    return {
        "transactions": report["transactions"],
        "ledgers": report["ledgers"],
        "seconds": report["seconds"],
        "transactions_per_s": report["transactions_per_s"],
        "demanded": 1500,
        "aim": 3000,
        "ratio_to_demanded": report["transactions_per_s"] / 1500,
        "end_state": "equals the generator's",
    }


if __name__ == "__main__":
    print(run())
