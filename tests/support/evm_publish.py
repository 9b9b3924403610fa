"""Tells a Chain of blocks as evm.blocks.v1 must: an oracle of the ingest that knows how each block was made.

`Teller.step()` gives the messages from what was told before to where the node is now: lost blocks from the top down,
new ones from the bottom up, final ones. It reads the node without checks; the ingest's own code is not used.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from pipeline.domain.decode.evm import Chain as Rules
from pipeline.domain.decode.evm import block_record, decode_block
from pipeline.domain.decode.evm_contracts import Contract, Contracts, contract
from schemas.codec import local_codec
from tests.support.evm_chain import Chain, keys
from tests.support.evm_fold import BLOCKS
from tests.support.evm_scenario import World, factory_tokens
from topics.envelope import Outgoing, outgoing

Json = dict[str, Any]
CODEC: Final = local_codec()
KINDS: Final = {
    "coin": "erc20", "huge": "erc20", "fee": "erc20", "silent_fee": "erc20", "rebasing": "erc20", "weth": "weth",
    "nft": "erc721", "multi": "erc1155", "SystemGuard": "system_guard", "ReserveRegistry": "reserve_registry",
    "ComplianceRegistry": "compliance_registry", "MintGuard": "mint_guard",
    "MembershipNFTRegistry": "membership_registry",
}  # fmt: skip
"""The kind that settings declare for each contract of a World; factory and oddities have none."""


def declared(chain: Chain, world: World) -> Contracts:
    """All contracts of a world that have a kind, and the tokens that the factory has made."""
    named = [contract(world.contracts[name].address, kind) for name, kind in KINDS.items()]
    made: list[Contract] = [contract(token.address, "erc20") for token in factory_tokens(chain, world)]
    return Contracts([*named, *made])


def everybody() -> frozenset[str]:
    """The accounts that send transactions: watching them makes every transaction one of interest."""
    return frozenset(key.address.lower() for key in keys())


@dataclass(frozen=True)
class _Made:
    number: int
    hash: str
    incarnation: int
    header: Json
    transactions: list[Any]


class Teller:
    """Messages about one chain. `chunk`: transactions a message holds at most."""

    def __init__(
        self, chain: Chain, world: World | None = None, name: str = "eip155:31337", number: int = 16384,
        first: int = 1, partition: int = 0, chunk: int = 10**6,
    ) -> None:  # fmt: skip
        self.chain, self.world, self.name, self.number, self.first = chain, world, name, number, first
        self.partition, self._chunk = partition, chunk
        self._standing: list[_Made] = []
        self._final: tuple[int, str] | None = None
        self._heads: Counter[str] = Counter()

    def step(self) -> list[Json]:
        """Records that bring what was told to what the node says now."""
        told: list[Json] = []
        final = self.chain.anvil.number("finalized")
        while self._standing and not self._stands(self._standing[-1]):
            told += self._records(self._standing.pop(), "retracted", True)
        for number in range(self._next, self.chain.head + 1):
            if not self._standing and number <= final:
                told += self._made_final(self._read(number, 0), False)
                continue
            block = self._read(number)
            self._heads[block.hash] += 1
            self._standing.append(block)
            told += self._records(block, "head", False)
        while self._standing and self._standing[0].number <= final:
            told += self._made_final(self._standing.pop(0), True)
        return told

    def messages(self) -> list[Outgoing]:
        """`step` as messages to publish."""
        return [self.message(record) for record in self.step()]

    def message(self, record: Json) -> Outgoing:
        return outgoing(CODEC, BLOCKS, self.name, record, partition=self.partition)

    @property
    def _next(self) -> int:
        if self._standing:
            return self._standing[-1].number + 1
        return self._final[0] + 1 if self._final else self.first

    def _stands(self, block: _Made) -> bool:
        return block.number <= self.chain.head and self.chain.blocks[block.number - 1].hash == block.hash

    def _read(self, number: int, incarnation: int | None = None) -> _Made:
        block, receipts = self.chain.anvil.block(number, full=True), self.chain.anvil.receipts(number)
        assert block is not None
        contracts = declared(self.chain, self.world) if self.world else Contracts()
        watched = everybody() if self.world else frozenset()
        header, transactions = decode_block(block, receipts, contracts, Rules(True, frozenset(), watched))
        again = self._heads[block["hash"]] if incarnation is None else incarnation
        return _Made(number, block["hash"], again, header, transactions)

    def _made_final(self, block: _Made, was_head: bool) -> list[Json]:
        self._final = block.number, block.hash
        return self._records(block, "final", was_head)

    def _records(self, block: _Made, finality: Any, was_head: bool) -> list[Json]:
        size = self._chunk
        parts = [block.transactions[i : i + size] for i in range(0, len(block.transactions), size)] or [[]]
        return [
            block_record(
                self.name, self.number, block.header, part, run=self.first, finality=finality,
                incarnation=block.incarnation, was_head=was_head, chunk=chunk, chunks=len(parts),
            )
            for chunk, part in enumerate(parts)
        ]  # type: ignore[misc]  # fmt: skip
