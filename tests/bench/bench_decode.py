"""Decoding effects against xrpl-py's `get_balance_changes`, on the same mainnet metadata in the same run.

`effects`: all effects of one metadata (balances, NFTs, MPTs, objects). `records`: the whole decoding of a
recorded transaction, raw JSON compressed. Rates are transactions per second of CPU, the best of several
rounds taken in turn; the ratios are what counts.
"""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

from pipeline.domain.decode.xrpl import raw_transaction, transaction_record
from pipeline.domain.decode.xrpl_effects import mpt_rows, read_effects
from pipeline.domain.decode.xrpl_shapes import RecordedTransaction, normalise_transaction, split_ledger

ROOT = Path(__file__).parents[2]
FOLDERS = (
    ROOT / "tests" / "data" / "xrpl" / "ledgers",
    *(ROOT.parent / "shared" / "data" / "xrpl" / name for name in ("ledgers", "ledgers_modern_v2")),
)
ROUNDS = 7
TRANSACTIONS_MIN = 3000  # a round decodes the recordings again until it has done so many


def recordings() -> list[RecordedTransaction]:
    """The mainnet transactions at hand, each once."""
    found: dict[str, RecordedTransaction] = {}
    for folder in FOLDERS:
        for path in sorted(folder.glob("*.json.gz")):
            for item in split_ledger(json.loads(gzip.decompress(path.read_bytes()))).transactions:
                recorded = normalise_transaction(item)
                found.setdefault(recorded.hash, recorded)
    return list(found.values())


def decode_effects(recorded: RecordedTransaction) -> object:
    effects = read_effects(recorded.meta)
    nfts = effects.nfts.changes() if effects.nfts else []
    return effects.balance_changes, nfts, mpt_rows(effects), effects.object_changes


def run() -> dict[str, Any]:
    """{transactions, balance_changes, rates {name: transactions/s}, ratio_effects, ratio_records}."""
    from xrpl.utils import get_balance_changes

    recorded = recordings()
    runners: dict[str, Callable[[RecordedTransaction], object]] = {
        "xrpl_py_get_balance_changes": lambda one: get_balance_changes(one.meta),  # type: ignore[arg-type]
        "effects": decode_effects,
        "records": transaction_record,
        "raw_only": raw_transaction,
    }
    rates = dict.fromkeys(runners, 0.0)
    repeats = -(-TRANSACTIONS_MIN // len(recorded))
    for _ in range(ROUNDS):
        for name, runner in runners.items():
            start = process_time()
            for _ in range(repeats):
                for one in recorded:
                    runner(one)
            rates[name] = max(rates[name], repeats * len(recorded) / (process_time() - start))
    base = rates["xrpl_py_get_balance_changes"]
    return {
        "transactions": len(recorded),
        "balance_changes": sum(len(read_effects(one.meta).balance_changes) for one in recorded),
        "rates": {name: round(rate) for name, rate in rates.items()},
        "ratio_effects": round(rates["effects"] / base, 3),
        "ratio_records": round(rates["records"] / base, 3),
    }


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
