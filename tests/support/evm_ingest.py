"""`tidebook ingest evm` as a process of its own on an embedded broker, in front of nodes whose truth is known.

    async with evm_sea(tmp_path) as sea:
        child = await sea.ingest(config(chain, world, [anvil.url]))
        async with following(sea.url) as told:
            await sea.caught_up(told, chain)

Whatever moves a chain blocks: tests call it through `asyncio.to_thread`, so that what is read meanwhile goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from pipeline.supervisor import Child, Supervisor
from schemas.codec import local_codec
from tests.support.anvil import Anvil
from tests.support.evm_chain import Block, Chain, keys
from tests.support.evm_compare import fold_differs
from tests.support.evm_fold import PATIENCE_S, Follower
from tests.support.evm_publish import KINDS
from tests.support.evm_scenario import World
from tests.support.evm_truth import truth
from tests.support.roles import Bench, bench
from topics.tail import tail

Json = dict[str, Any]
CODEC: Final = local_codec()
ALERTS: Final = "control.alerts.v1"
CHAINS: Final = 4  # partitions of topics that have one per chain
QUICK: Final = {"poll_s": 0.05, "timeout_s": 3.0, "silence_s": 1.0, "rate": 0.0}
"""Settings of a chain whose nodes are on this machine."""
EVERYBODY: Final = tuple(key.address for key in keys())


def config(
    chain: Chain, world: World, urls: Sequence[str], *, contracts: Mapping[str, str] = KINDS,
    starts: Mapping[str, int] | None = None, watched: Sequence[str] = EVERYBODY, factory: bool = True, **more: Any,
) -> str:  # fmt: skip
    """A [[chain]] of the settings file. `contracts`: kind by name in the world; `starts`: start_block by name.

    `watched`: accounts whose transactions are all kept (by default everybody's, so that gas is whole).
    """
    slots = chain.anvil.slots_in_an_epoch
    values = {
        "name": f"eip155:{chain.anvil.chain_id}", "urls": list(urls), "confirmation": "head", "finality": "tag",
        "final_depth": 2 * slots, "depth_limit": 64, "verify": "full", "start_block": 1, "burns": True,
        "watched": list(watched), **QUICK, **more,
    }  # fmt: skip
    lines = ["[[chain]]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
    for name, kind in contracts.items():
        lines += ["[[chain.contract]]", f'address = "{world.contracts[name].address}"', f'kind = "{kind}"']
        if starts and name in starts:
            lines.append(f"start_block = {starts[name]}")
    if factory:
        lines += [
            "[[chain.factory]]", f'address = "{world.factory.address}"', 'parameter = "token"', 'made_kind = "erc20"',
            'event = "TokenCreated(address indexed token, address indexed creator, string name, string symbol)"',
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


class Recording(Chain):
    """A Chain that keeps what the node said of every block that it ever had, by hash."""

    def __init__(self, anvil: Anvil) -> None:
        self.known: dict[str, tuple[Json, list[Json]]] = {}
        super().__init__(anvil)

    def mine(self, timestamp: int | None = None, base_fee: int = 10**9) -> Block:
        made = super().mine(timestamp, base_fee)
        if made.hash not in self.known:
            block = self.anvil.block(made.number, full=True)
            assert block is not None
            self.known[made.hash] = block, self.anvil.receipts(made.number)
        return made


def untrue(
    records: Iterable[Json], known: Mapping[str, tuple[Json, list[Json]]], every: bool = True
) -> list[str]:
    """What messages say that no true node ever said; `every`: whether they must tell every transaction."""
    return [line for record in records for line in _untrue(record, known, every)]


def _untrue(record: Json, known: Mapping[str, tuple[Json, list[Json]]], every: bool) -> list[str]:
    name = f"block {record['block_number']} {record['block_hash'][:10]} {record['publication']}"
    if record["block_hash"] not in known:
        return [f"{name}: no node ever had it"]
    block, receipts = known[record["block_hash"]]
    due = {
        "block_number": int(block["number"], 16), "parent_hash": block["parentHash"],
        "time": 1000 * int(block["timestamp"], 16), "gas_used": int(block["gasUsed"], 16),
        "base_fee": str(int(block["baseFeePerGas"], 16)), "state_root": block["stateRoot"],
        "receipts_root": block["receiptsRoot"], "transaction_count": len(receipts),
    }  # fmt: skip
    found = [f"{name}: {field} is {record[field]}" for field, value in due.items() if record[field] != value]
    if every and record["watched_count"] != len(receipts):
        found.append(f"{name}: tells {record['watched_count']} transactions of {len(receipts)}")
    by_hash = {receipt["transactionHash"]: receipt for receipt in receipts}
    for tx in record["transactions"]:
        if tx["hash"] not in by_hash:
            found.append(f"{name}: transaction {tx['hash']} is not in it")
        elif _facts(tx) != _receipt_facts(by_hash[tx["hash"]]):
            found.append(f"{name}: {tx['hash']}: {_facts(tx)} is not {_receipt_facts(by_hash[tx['hash']])}")
    return found


def _facts(tx: Json) -> Any:
    logs = [(log["log_index"], log["contract"], tuple(log["topics"]), log["data"]) for log in tx["logs"]]
    price = int(tx["effective_gas_price"])
    return tx["transaction_index"], tx["from_address"], tx["status"], tx["gas_used"], price, logs


def _receipt_facts(receipt: Json) -> Any:
    logs = [
        (int(log["logIndex"], 16), log["address"], tuple(log["topics"]), log["data"])
        for log in receipt["logs"]
    ]
    numbers = (int(receipt[name], 16) for name in ("status", "gasUsed", "effectiveGasPrice"))
    return int(receipt["transactionIndex"], 16), receipt["from"], *numbers, logs


class EvmSea:
    """A broker, a data directory, and processes of Tidebook on them."""

    def __init__(self, here: Bench, data_dir: Path) -> None:
        self.here, self.url, self.data_dir = here, here.url, data_dir
        self._numbers = itertools.count()

    @property
    def supervisor(self) -> Supervisor:
        return self.here.supervisor

    async def ingest(self, text: str, *arguments: str, name: str = "ingest") -> Child:
        """Start an ingest with these settings ([[chain]] texts); `arguments` as on the command line."""
        path = self.data_dir / f"evm-{next(self._numbers)}.toml"
        await asyncio.to_thread(path.write_text, text)
        return await self.supervisor.start(name, ["ingest", "evm", "--config", str(path), *arguments])

    async def kill(self, name: str = "ingest") -> None:
        """SIGKILL, if it still lives."""
        with contextlib.suppress(ProcessLookupError):
            await self.here.kill(name)

    async def caught_up(
        self, told: Follower, chain: Chain, timeout_s: float = PATIENCE_S, final: bool = True
    ) -> None:
        """Until the node's head and its finalized block are told. Fails at once where a process has ended."""
        head, tag = chain.head, await asyncio.to_thread(chain.anvil.number, "finalized")
        due = (head, chain.blocks[-1].hash)
        lowest = tag if final else -1

        def met(fold: Any) -> bool:
            self.supervisor.check()
            return fold.tip == due and (fold.finalised >= lowest or lowest < 1)

        await told.until(met, lambda: f"{due} and final {lowest} told; {self._said()}", timeout_s)

    def _said(self) -> Any:
        return {
            name: (child.process.returncode, child.status, child.last_words)
            for name, child in self.supervisor.children.items()
        }

    async def equal(self, told: Follower, chain: Chain, world: World, **more: Any) -> None:
        """The fold = the node, at the head and at the last final block."""
        fold, holders = told.fold, told.fold.head.accounts()
        head = await asyncio.to_thread(truth, chain, world, None, holders)
        assert (head.number, head.hash) == fold.tip
        assert fold_differs(head, world, fold.head, **more) == []
        if fold.finalised >= world.deployed:
            final = await asyncio.to_thread(truth, chain, world, fold.finalised, holders)
            assert final.hash == fold.hash_at(fold.finalised)
            assert fold_differs(final, world, fold.final, **more) == []

    async def equal_at(self, told: Follower, chain: Chain, world: World, number: int, **more: Any) -> None:
        """The fold with its unfinal blocks = the node at a block, which is the fold's tip."""
        due = await asyncio.to_thread(truth, chain, world, number, told.fold.head.accounts())
        assert told.fold.tip == (number, due.hash)
        assert fold_differs(due, world, told.fold.head, **more) == []

    async def records(self, topic: str, partition: int = 0) -> list[Json]:
        """All that stands in a partition now, decoded."""
        return [CODEC.decode(value)[1] for value in (await tail(self.url, topic, partition)).values]

    async def alerts(self, rule: str | None = None) -> list[Json]:
        """All alerts, or those of a rule."""
        partitions = CODEC.schema(ALERTS).topic["partitions"]
        found = [one for number in range(partitions) for one in await self.records(ALERTS, number)]
        return [one for one in found if rule in (None, one["rule"])]


@asynccontextmanager
async def evm_sea(data_dir: Path, kafka: str | None = None) -> AsyncIterator[EvmSea]:
    """Topics on a fresh embedded broker (or on a Kafka that is named). A data directory may have been used before."""
    async with bench(data_dir, kafka, CHAINS) as here:
        yield EvmSea(here, data_dir)
