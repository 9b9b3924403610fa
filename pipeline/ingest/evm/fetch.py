"""A block as one node gives it: what must be read of it, and whether that is whole and true.

What is read follows from what is wanted and from the block's own bloom: where that can hold no log that is wanted,
the header alone proves that there is none. Where it may, the whole transactions and all receipts are read and proven,
by the roots too where they can be (level `header` does not ask for that, and bears what can't be proven so). A block
of which transactions of some addresses are wanted proves by its transactions' root that none is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.domain.evm_logs import EVERY_LOG, bloom_may_hold
from pipeline.domain.evm_proof import check_senders, check_transactions_root, judge_block
from pipeline.domain.evm_rlp import Malformed, data, listed, quantity, required
from pipeline.domain.proof_errors import Contradiction, Unprovable
from pipeline.domain.verdict import Level
from pipeline.ingest.evm.errors import ODD, NodeError, Refused, Wrong, legible
from pipeline.ingest.evm.node import Node
from pipeline.ingest.evm.transport import Call
from pipeline.ingest.evm.watch import Want
from schemas.records import Check

Json = dict[str, Any]
Read = tuple[Json, list[Json] | None] | Exception
"""A block and its receipts, if they were needed; or why not."""
BY_ROOTS: Final = frozenset({"receipts_root", "transactions_root", "senders", "derived_fields"})
"""Checks that level header does not ask for; they are made where they can be."""
_RECEIPTS_BY: Final = ("hash", "number", "transaction")  # ways to ask for receipts, best first


@dataclass(frozen=True, slots=True)
class Fetched:
    """A block that nothing contradicts. `receipts` None: what is wanted is proven not to be in it.

    `block`, `receipts` as the node gave them, with whole transactions where there are receipts; `hash`, `parent`
    in lower case with 0x. `checks`: all but parent_hash, which only who knows the block before can make.
    """

    number: int
    hash: str
    parent: str
    block: Json
    receipts: list[Json] | None
    node: Node
    checks: list[Check]
    want: Want


class Fetcher:
    """Reads blocks of one node at a time. `exceptions`: checks that the chain cannot stand."""

    def __init__(self, level: Level, exceptions: Collection[str]) -> None:
        self.level, self.exceptions = level, frozenset(exceptions)
        self._bloom_proves = not self.exceptions & {"header_hash", "logs_bloom"}
        self._ways: dict[Node, int] = {}

    # What to read

    def whole(self, want: Want) -> bool:
        """Whether a block is read with its whole transactions at once."""
        return self.level == "full" or want.everything or bool(want.watched)

    def needs_receipts(self, block: Json, want: Want) -> bool:
        """Whether something that is wanted may be in a block. Raises Malformed."""
        if self.level == "full" or want.everything:
            return True
        logs = want.logs
        if logs is not None and (
            not self._bloom_proves
            or bloom_may_hold(required(block, "logsBloom"), logs.addresses, logs.topics)
        ):
            return True
        return bool(want.watched) and any(
            not isinstance(transaction, Mapping) or _touches(transaction, want.watched)
            for transaction in transactions_of(block)
        )

    # One block

    async def one(self, node: Node, number: int, want: Want) -> Fetched:
        """One block, judged. Raises NodeError, Contradiction."""
        with legible(node.name, f"block {number}"):
            return await self._one(node, number, want)

    async def _one(self, node: Node, number: int, want: Want) -> Fetched:
        whole = self.whole(want)
        block = block_of(node, number, await node.ask("eth_getBlockByNumber", hex(number), whole))
        if not self.needs_receipts(block, want):
            try:
                return self.judged(node, block, None, None, want)
            except Unprovable:  # that nothing wanted is in it: the receipts tell
                pass
        block = block if whole else await self._whole_block(node, number, block)
        return self.judged(node, block, await self.receipts(node, block), None, want)

    async def _whole_block(self, node: Node, number: int, block: Json) -> Json:
        if not transactions_of(block):
            return block
        return block_of(node, number, await node.ask("eth_getBlockByHash", required(block, "hash"), True))

    async def receipts(self, node: Node, block: Json) -> list[Json]:
        """All receipts of a block, in the best way that the node knows. Raises NodeError."""
        transactions = transactions_of(block)
        if not transactions:
            return []
        while True:
            way = self._ways.get(node, 0)
            try:
                calls = receipts_calls(_RECEIPTS_BY[way], block)
                found = await node.ask(calls[0][0], *calls[0][1]) if way < 2 else await node.batch(calls)
                return receipts_of(node, found)
            except Refused:
                self.refused(node, way)
                if way == len(_RECEIPTS_BY) - 1:
                    raise

    def way(self, node: Node) -> int:
        """Which of the ways to ask for receipts is taken: 0 by block hash, 1 by number, 2 each by itself."""
        return self._ways.get(node, 0)

    def refused(self, node: Node, way: int) -> None:
        """The node does not know this way: the next one from now on."""
        self._ways[node] = min(max(way + 1, self.way(node)), len(_RECEIPTS_BY) - 1)

    # Many blocks

    async def many(
        self, node: Node, numbers: Sequence[int], want: Want
    ) -> list[tuple[Json, list[Json] | None] | Exception]:
        """Blocks and their receipts where needed, not judged; NodeError or Contradiction where one failed.

        Raises NodeError where none could be had.
        """
        with legible(node.name, f"one of blocks {numbers[0]} to {numbers[-1]}"):
            return await self._many(node, numbers, want)

    async def _many(
        self, node: Node, numbers: Sequence[int], want: Want
    ) -> list[tuple[Json, list[Json] | None] | Exception]:
        whole = self.whole(want)
        asked = await node.batch([("eth_getBlockByNumber", (hex(number), whole)) for number in numbers])
        read: list[Any] = [
            _block_or_error(node, number, one) for number, one in zip(numbers, asked, strict=True)
        ]
        rich = [at for at, one in enumerate(read) if self._is_rich(one, want)]
        if not whole:
            calls = [("eth_getBlockByHash", (read[at]["hash"], True)) for at in rich]
            again = await node.batch(calls) if calls else []
            for at, one in zip(rich, again, strict=True):
                read[at] = _block_or_error(node, numbers[at], one)
        rich = [at for at in rich if not isinstance(read[at], Exception)]
        receipts = dict(zip(rich, await self._many_receipts(node, [read[at] for at in rich]), strict=True))
        return [
            block if isinstance(block, Exception)
            else receipts[at] if isinstance(receipts.get(at), Exception)
            else (block, receipts.get(at))
            for at, block in enumerate(read)
        ]  # fmt: skip

    def _is_rich(self, block: Any, want: Want) -> bool:
        try:
            return not isinstance(block, Exception) and self.needs_receipts(block, want)
        except Contradiction:
            return False  # judging says so again

    async def _many_receipts(self, node: Node, blocks: Sequence[Json]) -> list[Any]:
        way = self.way(node)
        found: list[Any] = [[] for _ in blocks]
        calls: dict[int, list[Call]] = {}
        for at, block in enumerate(blocks):
            try:
                if transactions_of(block):
                    calls[at] = receipts_calls(_RECEIPTS_BY[way], block)
            except Contradiction as error:
                found[at] = error
        answers = await node.batch([call for one in calls.values() for call in one]) if calls else []
        for at, ours in calls.items():
            part, answers = answers[: len(ours)], answers[len(ours) :]
            try:
                found[at] = receipts_of(node, part if way == 2 else part[0])
            except Refused as error:
                self.refused(node, way)
                found[at] = error
            except NodeError as error:
                found[at] = error
        return found

    # Judging

    def judged(
        self, node: Node, block: Json, receipts: list[Json] | None, logs: Sequence[Any] | None, want: Want
    ) -> Fetched:
        """The block, if nothing contradicts it. `logs`: what eth_getLogs answered, None: it was not asked.

        Raises Contradiction; Unprovable where there are no receipts and it is not proven that none are needed.
        """
        try:
            return self._judged(node, block, receipts, logs, want)
        except (Contradiction, Unprovable):
            raise
        except ODD as error:
            raise Malformed(f"an answer that can't be read ({type(error).__name__})") from error

    def _judged(
        self, node: Node, block: Json, receipts: list[Json] | None, logs: Sequence[Any] | None, want: Want
    ) -> Fetched:
        wanted = want.logs
        if receipts is None and logs is None and wanted is not None:
            logs = ()  # the bloom proves it
        proof: Level = "header" if receipts is None else "full"
        checks = judge_block(
            block, receipts, logs, proof, log_filter=wanted or EVERY_LOG, exceptions=self.exceptions
        )
        checks = [check for check in checks if check["name"] != "parent_hash"]
        if receipts is None:
            self._must_prove_absence(block, checks, want)
        if self.level == "header":
            checks = [
                check for check in checks if check["outcome"] == "holds" or check["name"] not in BY_ROOTS
            ]
        return Fetched(
            quantity(required(block, "number"), "number"), str(required(block, "hash")).lower(),
            str(required(block, "parentHash")).lower(), block, receipts, node, checks, want,
        )  # fmt: skip

    def _must_prove_absence(self, block: Json, checks: list[Check], want: Want) -> None:
        if any(check["outcome"] != "holds" for check in checks):
            raise Unprovable("the header is not proven, and so nothing by its bloom")
        if want.watched:
            if "transactions_root" in self.exceptions:
                raise Unprovable("the transactions root of this chain proves nothing")
            check_transactions_root(block)
            check_senders(block)
            checks += [
                {"name": name, "outcome": "holds", "detail": ""} for name in ("transactions_root", "senders")
            ]

    def lacking(self, fetched: Fetched) -> frozenset[str]:
        """Checks that another node's answer might make."""
        return frozenset(
            check["name"]
            for check in fetched.checks
            if check["outcome"] == "not_applicable" and check["name"] not in self.exceptions
        )


def transactions_of(block: Json) -> Sequence[Any]:
    """Transactions or their hashes. Raises Malformed."""
    return listed(required(block, "transactions"), "transactions")


def block_of(node: Node, number: int, answer: Any) -> Json:
    """The answer, if it can be the block that was asked for; raises Wrong."""
    if not isinstance(answer, dict):
        raise Wrong("malformed", f"{node.name}: block {number} is a {type(answer).__name__}")
    try:
        found = quantity(answer.get("number"), "number")
        transactions_of(answer)
        for name in ("hash", "parentHash"):
            data(required(answer, name), name, 32)
    except Contradiction as error:
        raise Wrong("malformed", f"{node.name}: block {number}: {error}") from None
    if found != number:
        raise Wrong("order", f"{node.name}: asked for block {number}, it gives {found}")
    return answer


def _block_or_error(node: Node, number: int, answer: Any) -> Json | NodeError:
    if isinstance(answer, NodeError):
        return answer
    try:
        return block_of(node, number, answer)
    except Wrong as error:
        return error


def receipts_calls(way: str, block: Json) -> list[Call]:
    """What asks for a block's receipts. Raises Malformed."""
    if way == "transaction":
        hashes = [
            required(one, "hash") if isinstance(one, Mapping) else one for one in transactions_of(block)
        ]
        return [("eth_getTransactionReceipt", (one,)) for one in hashes]
    return [("eth_getBlockReceipts", (block["hash"] if way == "hash" else block["number"],))]


def receipts_of(node: Node, answer: Any) -> list[Json]:
    """The answer, if it can be a block's receipts; raises the NodeError that stands in it, or Wrong."""
    if isinstance(answer, NodeError):
        raise answer
    if not isinstance(answer, list):
        raise Wrong("malformed", f"{node.name}: receipts are a {type(answer).__name__}")
    for one in answer:
        if isinstance(one, NodeError):
            raise one
        if not isinstance(one, dict):
            raise Wrong("malformed", f"{node.name}: a receipt is a {type(one).__name__}")
    return answer


def _touches(transaction: Mapping[str, Any], addresses: Collection[str]) -> bool:
    return any(str(transaction.get(name) or "").lower() in addresses for name in ("from", "to"))
