"""Whether a contract's balances follow from its logs: what a block's logs changed, held against `balanceOf`.

A token that rebases, or takes a fee that it does not tell, moves balances without a log: its books can't follow. So of
each block a few (account, asset) rows are chosen, spread over its contracts, and `balanceOf` is asked after the block
and after its parent, both by hash (EIP-1898): a reorganisation in between answers nothing, never something else. The
difference must be the sum of the block's changes. One node's word marks nobody: another must tell the same difference
(a chain's only node: once more). Whatever can't be asked, a state that is kept no more above all, is not judged.

A mark is for good. It says nothing of a contract that has none: no more than samples were held against it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from typing import Any, Final, NamedTuple

from pipeline.domain.evm_asset import contract_of
from pipeline.domain.findings import alert
from pipeline.ingest.evm.errors import Missing, NodeError, NoNode
from pipeline.ingest.evm.node import Node
from pipeline.ingest.evm.nodes import Nodes
from pipeline.ingest.evm.openings import Ask, _balance_of, _call, _is_hex, judge
from pipeline.ingest.evm.watch import Known, Watched
from schemas.records import Alert, EvmBlock

_NOT_NOW: Final = (NodeError, Missing, NoNode, TimeoutError)


class Change(NamedTuple):
    """By how much the logs of a block changed one balance, in the asset's smallest unit."""

    contract: str
    account: str
    asset: str
    amount: int


@dataclass(frozen=True)
class Disagreement:
    """A balance that changed by something else than the logs of its block say."""

    chain: str
    block: int
    block_hash: str
    time: int  # of the block, ms since 1970
    change: Change
    balance_changed: int

    @property
    def evidence(self) -> dict[str, str]:
        return {
            "block": str(self.block), "block_hash": self.block_hash, "account": self.change.account,
            "asset": self.change.asset, "changed": str(self.change.amount),
            "balance_changed": str(self.balance_changed),
        }  # fmt: skip


def alert_of(found: Disagreement) -> Alert:
    """The alert of a contract that is unreliable: one a contract."""
    return alert(
        "unreliable_contract", "warning", found.chain, found.change.contract, block=found.block, time=found.time,
        evidence=found.evidence,
    )  # fmt: skip


def changes_to_check(records: Sequence[EvmBlock], watched: Watched, limit: int) -> list[Change]:
    """At most `limit` changes of one block, given with all its chunks: the first row of each contract, then the
    second of each. Nothing of a block that is cut off or retracted, or has no parent."""
    head = records[0]
    number = head["block_number"]
    if len(records) < head["chunks"] or head["finality"] == "retracted" or number == 0:
        return []
    sums: dict[str, dict[tuple[str, str], int]] = {}
    for row in (row for record in records for tx in record["transactions"] for row in tx["balance_changes"]):
        contract = contract_of(row["asset"])
        if _is_judged(watched.find(contract), number):
            held, key = sums.setdefault(contract, {}), (row["account"], row["asset"])
            held[key] = held.get(key, 0) + int(row["change"])
    rows = (
        [Change(contract, *key, amount) for key, amount in held.items()] for contract, held in sums.items()
    )
    turns = chain.from_iterable(zip_longest(*rows))
    return list(islice((change for change in turns if change is not None), limit))


def _is_judged(known: Known | None, number: int) -> bool:
    """Whether a contract's changes in a block are held against its balances: before it was made it has none."""
    return (
        known is not None and known.reliable and known.has_balances and known.start_block <= number
        and (known.created is None or known.created[0] < number)
    )  # fmt: skip


def asks_of(nodes: Nodes) -> Callable[[], list[Ask]]:
    """Each node's `ask`, best first. One that is away counts too: it is there to be asked for a second opinion."""

    def asks() -> list[Ask]:
        able = nodes.candidates()
        return [
            *(_ask_of(node) for node in able),
            *(_away for node in nodes.nodes if node not in able and node.unusable is None),
        ]

    return asks


def _ask_of(node: Node) -> Ask:
    async def ask(method: str, params: list[Any]) -> Any:
        return await node.ask(method, *params)

    return ask


async def _away(method: str, _: list[Any]) -> Any:
    raise NoNode(f"{method}: the node is away")


class Reliability:
    """Judges one chain's contracts. `asks()`: each node's ask, best first; an ask raises NodeError or NoNode.

    `limit`: balances of a block that are asked for, 0 for none. A block takes at most `timeout_s`. `found`: what was
    seen of each contract that was marked, by address.

    Either `judge`, which waits for the nodes, or `begin` and later `ended`, which wait for nothing; between these at
    most one block is under way and others are not judged, so that reading on never waits for it.
    """

    def __init__(self, asks: Callable[[], Sequence[Ask]], limit: int, timeout_s: float = 10.0) -> None:
        self._asks, self._limit, self._timeout_s = asks, limit, timeout_s
        self._task: asyncio.Task[list[Disagreement]] | None = None
        self.found: dict[str, Disagreement] = {}

    @property
    def evidence(self) -> dict[str, dict[str, str]]:
        """What was seen of each contract that was marked: block, account, asset, changed, balance_changed."""
        return {address: found.evidence for address, found in self.found.items()}

    async def judge(self, records: Sequence[EvmBlock], watched: Watched) -> list[Known]:
        """Contracts that a block, given with all its chunks, newly marks: each is to be told."""
        return self._mark(await self._look(records, changes_to_check(records, watched, self._limit)), watched)

    def begin(self, blocks: Iterable[Sequence[EvmBlock]], watched: Watched) -> None:
        """Look at the first of these blocks that has something to judge, unless another is looked at still."""
        if self._task is not None or not self._limit:
            return
        for records in blocks:
            if changes := changes_to_check(records, watched, self._limit):
                self._task = asyncio.create_task(self._look(records, changes))
                return

    def ended(self, watched: Watched) -> list[Known]:
        """Contracts newly marked by what `begin` began, if it has ended: each is to be told."""
        if self._task is None or not self._task.done():
            return []
        task, self._task = self._task, None
        if task.cancelled() or task.exception() is not None:  # nothing is judged by what went wrong
            return []
        return self._mark(task.result(), watched)

    async def close(self) -> None:
        """End what `begin` began."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def _mark(self, found: Sequence[Disagreement], watched: Watched) -> list[Known]:
        marked = []
        for one in found:
            known = watched.distrust(one.change.contract)
            if known is not None:
                self.found[known.address] = one
                marked.append(known)
        return marked

    async def _look(self, records: Sequence[EvmBlock], changes: Sequence[Change]) -> list[Disagreement]:
        """What two opinions agree on, one a contract at most."""
        if not changes:
            return []
        head, nodes = records[0], self._asks()
        hashes = head["parent_hash"], head["block_hash"]
        others = iter(nodes)
        now = asyncio.get_running_loop().time()
        told = await _opinion(others, changes, hashes, now + self._timeout_s / 2)
        differing = {one: seen for one, seen in told.items() if seen != one.amount}
        if not differing:
            return []
        others = others if len(nodes) > 1 else iter(nodes)
        again = await _opinion(others, list(differing), hashes, now + self._timeout_s)
        agreed = {one.contract: one for one in reversed(differing) if again.get(one) == differing[one]}
        return [
            Disagreement(head["chain"], head["block_number"], head["block_hash"], head["time"], one, differing[one])
            for one in agreed.values()
        ]  # fmt: skip


async def _opinion(
    asks: Iterator[Ask], changes: Sequence[Change], hashes: tuple[str, str], until: float
) -> dict[Change, int]:
    """By how much balances changed between two blocks, of the first node that tells any; what it does not tell is
    left out. `until`: time of the loop."""
    for ask in asks:
        found = await _told(ask, changes, hashes, until)
        if found:
            return found
    return {}


async def _told(
    ask: Ask, changes: Sequence[Change], hashes: tuple[str, str], until: float
) -> dict[Change, int]:
    """What one node tells. A node that can't answer for the first row is not asked for the others."""
    try:
        first = await _changed(ask, changes[0], hashes, until)
    except _NOT_NOW:
        return {}
    rest = await asyncio.gather(*(_changed_if_told(ask, one, hashes, until) for one in changes[1:]))
    return {one: seen for one, seen in zip(changes, [first, *rest], strict=True) if seen is not None}


async def _changed_if_told(ask: Ask, change: Change, hashes: tuple[str, str], until: float) -> int | None:
    try:
        return await _changed(ask, change, hashes, until)
    except _NOT_NOW:
        return None


async def _changed(ask: Ask, change: Change, hashes: tuple[str, str], until: float) -> int | None:
    """By how much a balance changed; None: the contract does not tell. Raises one of _NOT_NOW.

    `until` is before the node's own timeout, which would cut its connection: reading blocks needs that.
    """
    async with asyncio.timeout_at(until):
        before = await _balance(ask, change, hashes[0])
        after = await _balance(ask, change, hashes[1]) if before is not None else None
    return after - before if before is not None and after is not None else None


async def _balance(ask: Ask, change: Change, block_hash: str) -> int | None:
    """What an account held after the block of this hash, if the contract tells it."""
    token = change.asset.partition("/")[2]
    call = _call(change.contract, _balance_of(change.account, token))
    try:
        answer = await ask("eth_call", [call, {"blockHash": block_hash}])
    except NodeError as error:
        if judge(error, "eth_call") == "reverted":
            return None
        raise
    told = isinstance(answer, str) and len(answer) >= 66 and _is_hex(answer)
    return int(answer[2:66], 16) if told else None
