"""Seeded stories of one EVM chain, as records of evm.blocks.v1: blocks come, are taken back and become final.

Around the turn of a month, so that branches of one height fall into different months. Tokens move as their owners on
that branch allow; amounts of the fungible token are any uint256. A lost block may come back (A, B, A).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from pipeline.domain.decode.evm import Chain, block_record, decode_block
from pipeline.domain.decode.evm_contracts import Contracts, contract
from pipeline.domain.decode.evm_transfers import ZERO_ADDRESS
from tests.support.evm_logs import ALICE, BOB, CAROL, ERC20, TOKEN, emitted

CHAIN, CHAIN_NUMBER = "eip155:1", 100
NFT = f"0x{0xB0:040x}"
ERC721 = "Transfer(address indexed from, address indexed to, uint256 indexed tokenId)"
WATCHED = Contracts([contract(TOKEN, "erc20"), contract(NFT, "erc721")])
ACCOUNTS = (ALICE, BOB, CAROL)
OPENED, OPENING = BOB, 2**256 - 1
"""BOB held this of TOKEN before the story, and every change of it says so."""
FIRST, TURN_OF_MONTH_S = 1000, 1_706_745_600  # 2024-02-01T00:00:00Z
RULES = Chain(
    burns=True, watched_addresses=frozenset(ACCOUNTS), treasuries=frozenset({CAROL})
)  # CAROL pays for others

Record = dict[str, Any]


@dataclass(frozen=True)
class Made:
    """A block of some branch, decoded and cut into chunks."""

    number: int
    hash: str
    parent: str
    header: Record
    chunks: list[list[Any]]
    owners: dict[int, str]  # of the tokens, after it


@dataclass
class Story:
    """What happens next, drawn from one seed. `told` are the records in their order."""

    seed: int
    told: list[Record] = field(default_factory=list)
    final: list[Made] = field(default_factory=list)
    unfinal: list[tuple[Made, int]] = field(default_factory=list)  # with incarnation
    lost: list[Made] = field(default_factory=list)
    heads: dict[str, int] = field(default_factory=dict)
    made: int = 0

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)

    def tell(self, steps: int) -> Story:
        """Go on for so many steps, then make all final but the last few."""
        for _ in range(steps):
            step = self.draw.choices((self.head, self.reorganise, self.finalise), (6, 1.5, 3))[0]
            step()
        return self

    def head(self) -> None:
        """The next block: a new one, or a lost one that fits."""
        tip = self._tip()
        fitting = [one for one in self.lost if one.parent == (tip.hash if tip else "")]
        block = self.draw.choice(fitting) if fitting and self.draw.random() < 0.5 else self._block(tip)
        if not self.unfinal and self.draw.random() < 0.3:
            self._send(block, "final", self.heads.get(block.hash, 0), was_head=False)
            self.final.append(block)
            return
        incarnation = self.heads.get(block.hash, 0)
        self.heads[block.hash] = incarnation + 1
        self.unfinal.append((block, incarnation))
        self._send(block, "head", incarnation, was_head=False)

    def reorganise(self) -> None:
        """Take up to four blocks back, from the top down."""
        for _ in range(self.draw.randint(1, 4)):
            if self.unfinal:
                block, incarnation = self.unfinal.pop()
                self.lost.append(block)
                self._send(block, "retracted", incarnation, was_head=True)

    def finalise(self) -> None:
        """The lowest unfinal block stays."""
        if self.unfinal:
            block, incarnation = self.unfinal.pop(0)
            self._send(block, "final", incarnation, was_head=True)
            self.final.append(block)

    def standing(self) -> list[Made]:
        """The blocks that stand, final or not."""
        return [*self.final, *(block for block, _ in self.unfinal)]

    def _tip(self) -> Made | None:
        return self.standing()[-1] if self.final or self.unfinal else None

    def _send(self, block: Made, finality: Any, incarnation: int, was_head: bool) -> None:
        for chunk, transactions in enumerate(block.chunks):
            self.told.append(dict(block_record(
                CHAIN, CHAIN_NUMBER, block.header, transactions, run=FIRST, finality=finality,
                incarnation=incarnation, was_head=was_head, chunk=chunk, chunks=len(block.chunks),
            )))  # fmt: skip

    def _block(self, parent: Made | None) -> Made:
        self.made += 1
        number = parent.number + 1 if parent else FIRST
        name, before = f"0x{self.made:016x}{0:048x}", parent.hash if parent else f"0x{0:064x}"
        owners = dict(parent.owners) if parent else {}
        count = self.draw.randint(0, 5)
        hashes = [f"0x{self.made:032x}{place:032x}" for place in range(count)]
        receipts, logs = [], 0
        for place in range(count):
            receipt = self._receipt(hashes[place], place, name, logs, owners)
            logs += len(receipt["logs"])
            receipts.append(receipt)
        header = {
            "number": number, "hash": name, "parentHash": before, "gasUsed": 100 * count, "gasLimit": 10**7,
            "timestamp": TURN_OF_MONTH_S + (number - FIRST - 20) * 12 + self.draw.randint(-90, 90),
            "baseFeePerGas": 10,
            "transactions": [{"hash": one, "from": of["from"], "to": TOKEN, "type": "0x2"}
                             for one, of in zip(hashes, receipts, strict=True)],
        }  # fmt: skip
        fields, transactions = decode_block(header, receipts, WATCHED, RULES)
        for tx in transactions:
            for change in tx["balance_changes"]:
                if (change["account"], change["asset"]) == (OPENED, f"erc20:{TOKEN}"):
                    change["opening"] = str(OPENING)
        size = self.draw.randint(1, max(1, len(transactions)))
        chunks = [list(transactions[at : at + size]) for at in range(0, len(transactions), size)] or [[]]
        return Made(number, name, parent.hash if parent else "", dict(fields), chunks, owners)

    def _receipt(self, name: str, place: int, block: str, logs: int, owners: dict[int, str]) -> Record:
        failed = self.draw.random() < 0.2
        made = [] if failed else [self._log(logs + n, owners) for n in range(self.draw.randint(0, 3))]
        return {"transactionHash": name, "transactionIndex": place, "blockHash": block, "gasUsed": 100,
                "from": self.draw.choice(ACCOUNTS), "effectiveGasPrice": self.draw.choice((12, 12 * 10**18)),
                "status": int(not failed), "type": 2, "logs": made}  # fmt: skip

    def _log(self, index: int, owners: dict[int, str]) -> Record:
        if self.draw.random() < 0.5:
            amount = self.draw.choice((1, 2**255, 2**256 - 1, self.draw.getrandbits(256), 10**38, 0))
            source, target = self.draw.sample((*ACCOUNTS, ZERO_ADDRESS), 2)
            return emitted(ERC20, source, target, amount, index=index)
        token = self.draw.randint(1, 4)
        source = owners.pop(token, ZERO_ADDRESS)
        target = self.draw.choice([one for one in (*ACCOUNTS, ZERO_ADDRESS) if one != source])
        if target != ZERO_ADDRESS:
            owners[token] = target
        return emitted(ERC721, source, target, token, address=NFT, index=index)
