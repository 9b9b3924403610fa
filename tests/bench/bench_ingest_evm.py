"""The EVM ingest: backfill from anvil at both levels, live over both transports, and the path of a mainnet block.

Named baselines, in the same run: a plain loop of web3.py (`eth.get_block` with transactions, `eth.get_block_receipts`,
`eth.get_logs` by ranges of 100 blocks) over the same node and blocks, one request after another, which only counts
logs, with no check, no decoding and no Kafka; and for the recorded block the same two calls against a small server
that answers what was recorded. The ingest runs in a process of its own; node, broker and it share this machine's
cores. Its rate counts from the time stamp of its first messages to that of its last ones; `whole_run_s` also has the
start of Python. Latency is from anvil's answer to `anvil_mine` to the message in a plain consumer's hands.
"""

from __future__ import annotations

import asyncio
import http.server
import json
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import orjson
import requests
from aiokafka import AIOKafkaConsumer, TopicPartition
from web3 import HTTPProvider, Web3

from pipeline.domain.decode.evm import Chain as Rules
from pipeline.domain.decode.evm import block_record, decode_block
from pipeline.domain.decode.evm_contracts import UNDECLARED
from pipeline.domain.evm_proof import judge_block
from schemas.codec import local_codec
from tests.bench.bench_decode_evm import recorded_block
from tests.bench.bench_ingest import quantile
from tests.support.anvil import Anvil, anvil_node, missing
from tests.support.evm.compile import artifacts
from tests.support.evm_chain import GAS, keys
from tests.support.evm_fold import BLOCKS
from tests.support.evm_ingest import EvmSea, evm_sea

LOGS: Final = 6_000
LOGS_A_BLOCK: Final = 20
SPAN: Final = 100  # blocks of one eth_getLogs of the plain loop
LIVE_BLOCKS: Final = 120
WARM_UP: Final = 20
PACE_S: Final = 0.1
ROUNDS: Final = 5  # over the recorded block


class Life:
    """Transfers of one ERC-20 on a node that signs for its own accounts: fast to make, one log each."""

    def __init__(self, anvil: Anvil) -> None:
        self.anvil = anvil
        self.mined_at = 0.0  # when the node had mined the last block
        self.coin = Web3().eth.contract(abi=artifacts()["Erc20"].abi, bytecode=artifacts()["Erc20"].bytecode)
        data = self.coin.constructor("Bench", "B", 6).data_in_transaction
        made = anvil.rpc(
            "eth_sendTransaction", {"from": keys()[0].address, "data": data, "gas": hex(6_000_000)}
        )
        anvil.mine()
        self.address = anvil.rpc("eth_getTransactionReceipt", made)["contractAddress"]
        self.transfers(0, 10, mint=True)

    def transfers(self, number: int, count: int, mint: bool = False) -> None:
        """A block of so many."""
        asked = []
        for i in range(count):
            source, target = keys()[i % 10].address, keys()[(i + number) % 10].address
            data = self.coin.encode_abi(
                "mint" if mint else "transfer", args=[target, 10**12 if mint else 1 + i]
            )
            asked.append({"from": source, "to": self.address, "data": data, "gas": hex(GAS)})
        for answer in self.anvil.batch([("eth_sendTransaction", [one]) for one in asked]):
            assert "result" in answer, answer
        self.anvil.rpc("anvil_mine", "0x1")
        self.mined_at = time.perf_counter()

    def config(self, urls: Sequence[str], **more: Any) -> str:
        values = {"name": "eip155:31337", "urls": list(urls), "start_block": 1, "burns": True, "rate": 0.0,
                  "poll_s": 0.05, "final_depth": 2, "verify": "full", **more}  # fmt: skip
        lines = ["[[chain]]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
        return "\n".join([*lines, "[[chain.contract]]", f'address = "{self.address}"', 'kind = "erc20"', ""])


def plain_loop(url: str, first: int, last: int) -> tuple[int, float]:
    """(logs, seconds) of web3.py's own loop."""
    web3 = _web3(url)
    started, logs, counted = time.perf_counter(), 0, 0
    for begin in range(first, last + 1, SPAN):
        counted += len(web3.eth.get_logs({"fromBlock": begin, "toBlock": min(last, begin + SPAN - 1)}))
    for number in range(first, last + 1):
        web3.eth.get_block(number, full_transactions=True)
        logs += sum(len(receipt["logs"]) for receipt in web3.eth.get_block_receipts(number))
    seconds = time.perf_counter() - started
    assert counted == logs, f"{counted} logs by eth_getLogs, {logs} in the receipts"
    return logs, seconds


def _web3(url: str) -> Web3:
    session = requests.Session()
    session.trust_env = False
    return Web3(HTTPProvider(url, session=session))


async def _backfill(directory: Path, life: Life, level: str, last: int) -> dict[str, float]:
    """Rates of one ingest up to `last`."""
    async with evm_sea(directory / f"backfill-{level}") as sea:
        started = time.perf_counter()
        child = await sea.ingest(life.config([life.anvil.url], verify=level), "--to", str(last))
        status = await child.process.wait()
        whole = time.perf_counter() - started
        if status:
            raise SystemExit(f"bench ingest-evm: the ingest ended with status {status}: {child.last_words}")
        told = await _told(sea, last)
    blocks = {number for number, _, _ in told}
    if blocks != set(range(1, last + 1)):  # a rate counts only if everything is there
        raise SystemExit(f"bench ingest-evm: {len(blocks)} of {last} blocks were published")
    first_ms = min(stamp for _, _, stamp in told)
    counted = [(logs, stamp) for _, logs, stamp in told if stamp > first_ms]
    seconds = (max(stamp for _, stamp in counted) - first_ms) / 1000
    logs = sum(logs for logs, _ in counted)
    return {
        f"backfill_{level}_blocks_per_s": len(counted) / seconds,
        f"backfill_{level}_logs_per_s": logs / seconds,
        f"backfill_{level}_whole_run_s": whole,
    }


async def _told(sea: EvmSea, last: int) -> list[tuple[int, int, int]]:
    """(block, logs, time stamp in ms) of every final message."""
    codec, found = local_codec(), []
    consumer = AIOKafkaConsumer(bootstrap_servers=sea.url, enable_auto_commit=False)
    await consumer.start()
    try:
        place = TopicPartition(BLOCKS, 0)
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        while not found or found[-1][0] < last:
            batches = await consumer.getmany(timeout_ms=5000)
            if not batches:
                break
            for message in batches[place]:
                record = codec.decode_prefix(message.value, ("block_number", "log_count"))
                found.append((record["block_number"], record["log_count"], message.timestamp))
        return found
    finally:
        await consumer.stop()


async def _live(directory: Path, life: Life, form: str) -> dict[str, float]:
    """Milliseconds from a mined block to its head message, a block every PACE_S."""
    url = life.anvil.url if form == "http" else life.anvil.ws_url
    async with evm_sea(directory / f"live-{form}") as sea:
        arrived: dict[int, float] = {}
        mined: dict[int, float] = {}
        consumer = asyncio.create_task(_arrivals(sea, arrived))
        await sea.ingest(life.config([url], start_block=max(1, life.anvil.number() - 8)))
        head = life.anvil.number()
        await _until(lambda: head in arrived, sea)
        for _ in range(LIVE_BLOCKS):
            begun = time.perf_counter()
            await asyncio.to_thread(life.transfers, 1, 1)
            number = life.anvil.number()
            mined[number] = life.mined_at
            await asyncio.sleep(max(0.0, PACE_S - (time.perf_counter() - begun)))
        await _until(lambda: max(mined) in arrived, sea)
        consumer.cancel()
    waits = [1000 * (arrived[number] - at) for number, at in mined.items()][WARM_UP:]
    return {
        f"live_{form}_mined_to_consumer_p50_ms": quantile(waits, 0.5),
        f"live_{form}_mined_to_consumer_p99_ms": quantile(waits, 0.99),
    }


async def _until(met: Any, sea: EvmSea) -> None:
    for _ in range(3000):
        sea.supervisor.check()
        if met():
            return
        await asyncio.sleep(0.01)
    raise SystemExit("bench ingest-evm: the ingest did not catch up within 30 s")


async def _arrivals(sea: EvmSea, arrived: dict[int, float]) -> None:
    """When the first message of each block came."""
    codec = local_codec()
    consumer = AIOKafkaConsumer(bootstrap_servers=sea.url, enable_auto_commit=False, fetch_max_wait_ms=50)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(BLOCKS, 0)])
        await consumer.seek_to_beginning()
        async for message in consumer:
            number = codec.decode_prefix(message.value, ("block_number",))["block_number"]
            arrived.setdefault(number, time.perf_counter())
    finally:
        await consumer.stop()


@contextmanager
def recorded_server(answers: Mapping[str, Any]) -> Iterator[str]:
    """A node that knows one block, whatever is asked; its URL."""
    bodies = {method: orjson.dumps(answer) for method, answer in answers.items()}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = orjson.loads(self.rfile.read(int(self.headers["Content-Length"])))
            head = b'{"jsonrpc":"2.0","id":%s,"result":' % orjson.dumps(asked["id"])
            body = head + bodies[asked["method"]] + b"}"
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def recorded_path() -> dict[str, Any]:
    """The recorded mainnet block: fetched by web3.py and counted; fetched, judged, decoded and encoded by ours."""
    answers = recorded_block()
    block, receipts = answers["eth_getBlockByNumber"], answers["eth_getBlockReceipts"]
    number, logs = int(block["number"], 16), sum(len(receipt["logs"]) for receipt in receipts)
    codec, seconds = local_codec(), dict.fromkeys(("web3", "ours", "path"), float("inf"))
    with recorded_server(answers) as url, requests.Session() as session:
        session.trust_env = False
        web3 = _web3(url)
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            web3.eth.get_block(number, full_transactions=True)
            counted = sum(len(receipt["logs"]) for receipt in web3.eth.get_block_receipts(number))
            seconds["web3"] = min(seconds["web3"], time.perf_counter() - begun)
            begun = time.perf_counter()
            read = [_ask(session, url, method) for method in ("eth_getBlockByNumber", "eth_getBlockReceipts")]
            fetched = time.perf_counter()
            message = _message(codec, *read)
            done = time.perf_counter()
            seconds["ours"], seconds["path"] = (
                min(seconds["ours"], done - begun),
                min(seconds["path"], done - fetched),
            )
            assert counted == logs and message
    return {
        "recorded_block_logs": logs,
        "recorded_path_logs_per_s": logs / seconds["path"],
        "recorded_fetched_logs_per_s": logs / seconds["ours"],
        "recorded_web3_loop_logs_per_s": logs / seconds["web3"],
        "ratio_recorded_to_web3_loop": seconds["web3"] / seconds["ours"],
    }


def _ask(session: requests.Session, url: str, method: str) -> Any:
    asked = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": []})
    return orjson.loads(session.post(url, data=asked).content)["result"]


def _message(codec: Any, block: Any, receipts: Any) -> bytes:
    """Judged at level full, every log decoded, encoded: what the ingest does to a block."""
    checks = judge_block(block, receipts, None, "full")
    header, transactions = decode_block(block, receipts, UNDECLARED, Rules(burns=True))
    record = block_record(
        "eip155:1", 100, header, transactions, run=header["block_number"], finality="final", incarnation=0,
        was_head=False, level="full", checks=checks,
    )  # fmt: skip
    return bytes(codec.encode(BLOCKS, record))


def run(transactions: int = LOGS, seed: int = 7) -> dict[str, Any]:
    """Make a chain of that many transfers (at most 6,000), ingest it in every way; figures. `seed` changes nothing."""
    if missing():
        raise SystemExit(f"bench ingest-evm: {missing()}")
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="tidebook-bench-") as name:
        directory = Path(name)
        with anvil_node(directory / "anvil", slots_in_an_epoch=1) as anvil:
            life = Life(anvil)
            for number in range(max(1, min(transactions, LOGS) // LOGS_A_BLOCK)):
                life.transfers(number, LOGS_A_BLOCK)
            last = anvil.mine(4) - 4
            logs, seconds = plain_loop(anvil.url, 1, last)
            figures |= {"blocks": last, "logs": logs, "web3_loop_logs_per_s": logs / seconds,
                        "web3_loop_blocks_per_s": last / seconds}  # fmt: skip
            for level in ("header", "full"):
                figures |= asyncio.run(_backfill(directory, life, level, last))
                rate = figures[f"backfill_{level}_logs_per_s"]
                figures[f"ratio_{level}_to_web3_loop"] = rate / figures["web3_loop_logs_per_s"]
            for form in ("ws", "http"):
                figures |= asyncio.run(_live(directory, life, form))
    return {**figures, **recorded_path()}


if __name__ == "__main__":
    print(json.dumps(run(), indent=2))
