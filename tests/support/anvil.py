"""A real EVM node of our own for tests: anvil, as npm's `@foundry-rs/anvil` ships it.

What is installed stands in tests/support/evm/package.json and its lock; it is copied once into a cache directory
(TIDEBOOK_TEST_CACHE, default ~/.cache/tidebook-tests) under a file lock, so that parallel test processes meet no
half-filled one. Where `node` or `npm` is missing, tests skip and say so; where both are there, an anvil that can't
be installed or does not start is a failure.

Nothing mines by itself unless asked: a test says which transactions make which block. How this node behaves:
- A block's hash follows from its parent, timestamp, base fee and transactions alone (mixHash too follows from the
  parent), so the same blocks played into another anvil have the same hashes, and a branch that was reverted can
  be brought back hash by hash. No revert restores the base fee: set it for each block.
- `anvil_rollback` (and so `anvil_reorg`) leaves a state whose root may differ from that of the same state reached
  straight: slots that were read while empty count. Snapshots are exact.
- `anvil_reorg` mines new blocks with the timestamp of their common parent. Lost transactions do not return to
  the pool; lost blocks and their receipts are unknown from then on, also by hash. newHeads tells only the new ones.
- Between going back and the new blocks a watcher sees the lower head: a reorg here is not one step.
- safe = head − slots, finalized = head − 2 · slots, both not below 0. Nothing keeps a reorg from going deeper, and
  while a new branch is shorter than the old one the tags go back.
- Hashes, blooms, receipts and transactions roots are Ethereum's, but for the transactions root of a block with a
  blob transaction: anvil hashes the transaction with its blobs there. Every receipt has a blobGasPrice.
- A kill loses the chain: it is in memory.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from pipeline.supervisor import end_with_parent, free_port
from tests.support.kafka import CACHE_SETTING

Json = dict[str, Any]
PACKAGES: Final = Path(__file__).parent / "evm"
GENESIS_TIMESTAMP: Final = 1_700_000_000
GWEI: Final = 10**9
START_S: Final = 240.0
_SYSTEMS: Final = {"Linux": "linux", "Darwin": "darwin"}
_MACHINES: Final = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


class RpcError(RuntimeError):
    """The node answered with an error object; `code` is its code."""

    def __init__(self, method: str, error: Json) -> None:
        super().__init__(f"{method}: {error.get('code')} {error.get('message')}")
        self.code = error.get("code")


def missing() -> str | None:
    """Why no anvil can be had here; None: one can."""
    lacking = [name for name in ("node", "npm") if shutil.which(name) is None]
    if lacking:
        return f"no anvil: {' and '.join(lacking)} not on PATH"
    if platform.system() not in _SYSTEMS or platform.machine().lower() not in _MACHINES:
        return f"no anvil: npm has none for {platform.system()} on {platform.machine()}"
    return None


def cache() -> Path:
    """What tests keep between runs."""
    made = Path(os.environ.get(CACHE_SETTING) or Path.home() / ".cache" / "tidebook-tests")
    made.mkdir(parents=True, exist_ok=True)
    return made


def node_modules() -> Path:
    """npm's packages, installed by the first who asks. Skips the test where that can't be done."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    named = [PACKAGES / name for name in ("package.json", "package-lock.json")]
    made = cache() / f"evm-{hashlib.sha256(b''.join(file.read_bytes() for file in named)).hexdigest()[:16]}"
    with (cache() / "evm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            with tempfile.TemporaryDirectory(dir=cache()) as draft:
                into = Path(draft) / "packages"
                into.mkdir()
                for file in named:
                    shutil.copy(file, into)
                _install(into)
                into.rename(made)
    return made / "node_modules"


def _install(into: Path) -> None:
    """`npm install` of what the lock names, without any package's scripts. AssertionError with npm's last words."""
    done = subprocess.run(
        ["npm", "install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=into, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (
        f"npm could not install anvil and solc:\n{(done.stdout + done.stderr)[-2000:]}"
    )


def anvil_binary() -> Path:
    """The node itself, without npm's wrapper: a signal reaches it."""
    name = f"anvil-{_SYSTEMS.get(platform.system())}-{_MACHINES.get(platform.machine().lower())}"
    found = node_modules() / "@foundry-rs" / name / "bin" / "anvil"
    assert found.exists(), f"npm installed no anvil for this machine: {found}"
    return found


class Anvil:
    """One node with its own port, not started. Its chain is gone with its process."""

    def __init__(
        self,
        directory: Path,
        *,
        slots_in_an_epoch: int = 32,
        chain_id: int = 31337,
        hardfork: str = "prague",
        mining: Sequence[str] = ("--no-mining",),
        genesis_timestamp: int = GENESIS_TIMESTAMP,
        base_fee: int = GWEI,
        extra: Sequence[str] = (),
    ) -> None:
        """`mining`: () mines each transaction at once, ("--block-time", "1") each second. `base_fee`: wei."""
        self.directory, self.port = directory, free_port()
        self.slots_in_an_epoch, self.chain_id = slots_in_an_epoch, chain_id
        self.url, self.ws_url = f"http://127.0.0.1:{self.port}", f"ws://127.0.0.1:{self.port}"
        self._arguments = [
            str(anvil_binary()), "--host", "127.0.0.1", "--port", str(self.port), "--order", "fifo",
            "--chain-id", str(chain_id), "--hardfork", hardfork, "--threads", "1",
            "--slots-in-an-epoch", str(slots_in_an_epoch), "--timestamp", str(genesis_timestamp),
            "--base-fee", str(base_fee), "--cache-path", str(directory / "cache"), *mining, *extra,
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self._http = httpx.Client(trust_env=False, timeout=60)

    def start(self) -> None:
        """A new chain from genesis, on the same port as ever; returns when the node answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "anvil.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                preexec_fn=end_with_parent, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_S
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                log_end = (self.directory / "anvil.log").read_text(errors="replace")[-2000:]
                raise AssertionError(f"anvil on {self.url} did not start:\n{log_end}")
            time.sleep(0.01)

    def answers(self) -> bool:
        """Whether the node takes requests."""
        try:
            return bool(self.rpc("eth_chainId"))
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """SIGKILL; the chain is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it for good."""
        self.kill()
        self._http.close()

    def freeze(self) -> None:
        """It takes connections and answers nothing, until `thaw`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on; what was asked meanwhile is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def rpc(self, method: str, *params: Any) -> Any:
        """The `result` of one request. Raises RpcError; httpx.TransportError where the node is away."""
        asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answer = self._http.post(self.url, json=asked).raise_for_status().json()
        if "error" in answer:
            raise RpcError(method, answer["error"])
        return answer.get("result")

    def batch(self, requests: Sequence[tuple[str, Sequence[Any]]]) -> list[Json]:
        """Many requests in one; the answers in order, each with its `result` or its `error`."""
        asked = [
            {"jsonrpc": "2.0", "id": i, "method": method, "params": list(params)}
            for i, (method, params) in enumerate(requests)
        ]
        answers = self._http.post(self.url, json=asked).raise_for_status().json() if asked else []
        return sorted(answers, key=lambda answer: answer["id"])

    def block(self, which: int | str = "latest", full: bool = False) -> Json | None:
        """A block by number, tag or hash; `full`: with its transactions, else with their hashes."""
        by_hash = isinstance(which, str) and len(which) == 66
        named = hex(which) if isinstance(which, int) else which
        return self.rpc("eth_getBlockByHash" if by_hash else "eth_getBlockByNumber", named, full)

    def number(self, tag: str = "latest") -> int:
        """Number of the block that a tag (latest, safe, finalized) names."""
        found = self.block(tag)
        assert found is not None, f"no block is {tag}"
        return int(found["number"], 16)

    def receipts(self, which: int | str) -> list[Json]:
        """All receipts of a block, in order."""
        return self.rpc("eth_getBlockReceipts", hex(which) if isinstance(which, int) else which)

    def mine(self, blocks: int = 1) -> int:
        """Blocks with what is in the pool, the first takes all that fits; the head's number."""
        self.rpc("anvil_mine", hex(blocks))
        return self.number()

    def finalise(self, number: int | None = None) -> int:
        """Mine empty blocks until `number` (default: the head) is final; the head's number."""
        wanted = self.number() if number is None else number
        lacking = wanted + 2 * self.slots_in_an_epoch - self.number()
        return self.mine(lacking) if lacking > 0 else self.number()

    def reorg(self, depth: int, transactions: Sequence[tuple[str | Json, int]] = ()) -> int:
        """The newest `depth` blocks give way to as many new ones; the head's number.

        `transactions`: (raw transaction or request, index of the new block that takes it).
        """
        self.rpc("anvil_reorg", depth, [list(pair) for pair in transactions])
        return self.number()

    def rollback(self, depth: int) -> int:
        """The newest `depth` blocks are gone, nothing comes for them; the head's number."""
        self.rpc("anvil_rollback", depth)
        return self.number()

    def snapshot(self) -> str:
        """Remember the chain as it is; an id that `revert` takes once."""
        return self.rpc("evm_snapshot")

    def revert(self, snapshot: str) -> None:
        """Back to a snapshot; it and later ones are spent."""
        assert self.rpc("evm_revert", snapshot), f"anvil knows no snapshot {snapshot}"

    def set_next_timestamp(self, timestamp: int) -> None:
        """Seconds since 1970 of the next block; not before its parent's."""
        self.rpc("evm_setNextBlockTimestamp", timestamp)

    def set_next_base_fee(self, wei: int) -> None:
        """Base fee of the next block."""
        self.rpc("anvil_setNextBlockBaseFeePerGas", hex(wei))


@contextmanager
def anvil_node(directory: Path, **options: Any) -> Iterator[Anvil]:
    """A running node, gone afterwards. `options` as of Anvil."""
    made = Anvil(directory, **options)
    try:
        made.start()
        yield made
    finally:
        made.stop()
