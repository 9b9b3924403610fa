"""Decoding EVM logs against web3.py's own `process_log`, on the same recorded mainnet block in the same run.

web3 gets its ABI's event and the log in the form its own clients give (AttributeDict, HexBytes), so that only
decoding is measured; `logs_typed` decodes that same form. `logs` decodes JSON-RPC's own form, `transfers` adds
what moved, `records` is the whole block: receipts checked, fees, effects, raw compressed. Only logs whose event
both know. Rates are logs per second of CPU, the best of several rounds taken in turn; the ratios are what counts.
"""

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from time import process_time
from typing import Any

from pipeline.domain.decode.evm import Chain, decode_block, log_record
from pipeline.domain.decode.evm_contracts import UNDECLARED
from pipeline.domain.decode.evm_transfers import transfers_of

ROOT = Path(__file__).parents[2]
BLOCKS = (
    ROOT.parent / "shared" / "data" / "evm" / "blocks" / "17173049.json.gz",
    ROOT / "tests" / "data" / "evm" / "blocks" / "17173049.json.gz",
)
ROUNDS = 5
LOGS_MIN = 2000  # a round decodes the block again until it has done so many

EVENTS = (
    ("Transfer", (("from", "address", True), ("to", "address", True), ("value", "uint256", False))),
    ("Transfer", (("from", "address", True), ("to", "address", True), ("tokenId", "uint256", True))),
    ("Approval", (("owner", "address", True), ("spender", "address", True), ("value", "uint256", False))),
    ("Approval", (("owner", "address", True), ("spender", "address", True), ("tokenId", "uint256", True))),
    ("Deposit", (("dst", "address", True), ("wad", "uint256", False))),
    ("Withdrawal", (("src", "address", True), ("wad", "uint256", False))),
)


def recorded_block() -> Mapping[str, Any]:
    """The recorded block and its receipts."""
    path = next(path for path in BLOCKS if path.exists())
    answers: Mapping[str, Any] = json.loads(gzip.decompress(path.read_bytes()))["input"]
    return answers


def web3_decoders() -> dict[tuple[str, int], Any]:
    """(topic0, number of topics) → web3's event object."""
    from web3 import Web3

    web3, found = Web3(), {}
    for name, args in EVENTS:
        inputs = [{"name": of, "type": kind, "indexed": indexed} for of, kind, indexed in args]
        abi: Any = [{"type": "event", "name": name, "anonymous": False, "inputs": inputs}]
        topic = Web3.to_hex(Web3.keccak(text=f"{name}({','.join(kind for _, kind, _ in args)})"))
        event = getattr(web3.eth.contract(abi=abi).events, name)()
        found[topic, 1 + sum(indexed for _, _, indexed in args)] = event
    return found


def as_web3_has_it(log: Mapping[str, Any]) -> Any:
    """A log as web3's clients give it."""
    from hexbytes import HexBytes
    from web3 import Web3
    from web3.datastructures import AttributeDict

    return AttributeDict({
        "address": Web3.to_checksum_address(log["address"]),
        "topics": [HexBytes(topic) for topic in log["topics"]],
        "data": HexBytes(log["data"]),
        "blockNumber": int(log["blockNumber"], 16),
        "transactionHash": HexBytes(log["transactionHash"]),
        "transactionIndex": int(log["transactionIndex"], 16),
        "blockHash": HexBytes(log["blockHash"]),
        "logIndex": int(log["logIndex"], 16),
        "removed": False,
    })  # fmt: skip


def known(log: Mapping[str, Any], decoders: Mapping[tuple[str, int], Any]) -> bool:
    """Whether web3 was given the log's event."""
    return bool(log["topics"]) and (log["topics"][0], len(log["topics"])) in decoders


def run() -> dict[str, Any]:
    """{logs, rates {name: logs/s}, ratio_<name> of each to web3's}."""
    answers = recorded_block()
    decoders = web3_decoders()
    receipts = answers["eth_getBlockReceipts"]
    slim = [{**of, "logs": [log for log in of["logs"] if known(log, decoders)]} for of in receipts]
    logs = [log for receipt in slim for log in receipt["logs"]]
    typed = [as_web3_has_it(log) for log in logs]
    pairs = [
        (decoders[log["topics"][0], len(log["topics"])], of) for log, of in zip(logs, typed, strict=True)
    ]
    runners: dict[str, Callable[[], object]] = {
        "web3_process_log": lambda: [event.process_log(log) for event, log in pairs],
        "logs_typed": lambda: [log_record(log) for log in typed],
        "logs": lambda: [log_record(log) for log in logs],
        "transfers": lambda: transfers_of([log_record(log) for log in logs], UNDECLARED),
        "records": lambda: decode_block(answers["eth_getBlockByNumber"], slim, UNDECLARED, Chain(burns=True)),
    }
    rates = dict.fromkeys(runners, 0.0)
    repeats = -(-LOGS_MIN // len(logs))
    for _ in range(ROUNDS):
        for name, runner in runners.items():
            start = process_time()
            for _ in range(repeats):
                runner()
            rates[name] = max(rates[name], repeats * len(logs) / (process_time() - start))
    base = rates.pop("web3_process_log")
    ratios = {f"ratio_{name}": round(rate / base, 2) for name, rate in rates.items()}
    rates["web3_process_log"] = base
    return {"logs": len(logs), "rates": {name: round(rate) for name, rate in rates.items()}, **ratios}


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
