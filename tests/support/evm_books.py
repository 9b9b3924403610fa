"""Made-up stories of a chain that reorganises, told as evm.blocks.v1 does, and what the books must hold at every step.

Teller makes the messages; Model folds them on its own, from the transfers and fees alone: final blocks are posted,
blocks that stand and aren't final are pending, nothing else is. `balances_in` reads the same from an engine.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, Final, NamedTuple

import numpy as np

from pipeline.domain.account import AccountCode, AccountRef, TransferCode, account_id
from pipeline.domain.decode.evm import block_record
from pipeline.domain.posting.evm import post_evm_block
from sinks.bookkeeper import BlockPosting, Bookkeeper
from sinks.bookkeeper_status import CREATED
from sinks.books import ACCOUNT_STRUCT, TRANSFER_STRUCT, Books

Json = dict[str, Any]
NOBODY: Final = "0x" + "0" * 40
PEOPLE: Final = [f"0x{n:040x}" for n in range(0xA1, 0xA6)]
COIN, TOKEN = (f"0x{n:040x}" for n in (0xC0, 0xC1))
MULTI: Final = f"erc1155:{TOKEN}/7"
# Of the coin all sums fit, and come near the limit; of the other token amounts and sums pass 128 bits.
AMOUNTS: Final = {
    f"erc20:{COIN}": [0, 1, 7, 2**122 + 1],
    MULTI: [0, 1, 7, 2**125 + 5, 2**127 - 1, 2**127, 2**128 - 1, 2**128, 2**256 - 1],
}
GAS, HOLDER, ISSUER = int(AccountCode.GAS), int(AccountCode.HOLDER), int(AccountCode.ISSUER)
Account = tuple[str, int, str]  # asset, account code, owner


class Held(NamedTuple):
    """What an account holds, credit-positive."""

    posted: int
    pending: int


def digest(*parts: object) -> str:
    """A made-up hash."""
    return "0x" + sha256(repr(parts).encode()).hexdigest()


def transfer(asset: str, source: str, target: str, amount: int, log_index: int = 0) -> Json:
    """A transfer of a record; `asset` as in evm.blocks.v1."""
    standard, _, rest = asset.partition(":")
    contract, _, token = rest.partition("/")
    return {
        "log_index": log_index, "batch_position": 0, "standard": standard, "contract": contract, "asset": asset,
        "operator": None, "from_address": source, "to_address": target, "token_id": token or None,
        "amount": str(amount),
    }  # fmt: skip


def transaction(index: int, moves: Sequence[Json] = (), fee: int | None = 21, **other: Any) -> Json:
    """A transaction with these transfers; what is not given is as good as nothing."""
    empty = dict.fromkeys(
        ("from_address", "to_address", "contract_address", "nonce", "value", "selector", "gas_used",
         "effective_gas_price", "blob_gas_used", "blob_gas_price", "blob_fee", "l1_fee", "tip", "error")
    )  # fmt: skip
    changes = other.pop("balance_changes", [])
    return {
        **empty, "transaction_index": index, "hash": other.pop("hash", digest("tx", index)), "type": 2, "status": 1,
        "fee": None if fee is None else str(fee), "burnt": None if fee is None else str(fee // 3),
        "fee_payer": PEOPLE[0], "treasury_paid": False, "part": 0, "parts": 1, "first_transfer": 0, "logs": [],
        "transfers": list(moves), "balance_changes": changes, "raw": b"", **other,
    }  # fmt: skip


def opening(account: str, asset: str, held: int | None, partial: bool = False) -> Json:
    """A balance change that tells what was there before."""
    told = None if held is None else str(held)
    return {"account": account, "asset": asset, "change": "1", "opening": told, "partial": partial}


@dataclass(frozen=True)
class Made:
    """A block of the made-up chain."""

    number: int
    hash: str
    parent: str
    chunks: list[list[Json]] = field(compare=False)
    incarnation: int = 0


def block(number: int, name: object, parent: str, chunks: list[list[Json]]) -> Made:
    """A block whose hash follows from its name."""
    return Made(number, digest("block", number, name), parent, chunks)


def records(
    made: Made, finality: Any, *, chain: str = "eip155:9", chain_number: int = 9, run: int = 100,
    was_head: bool | None = None, told: int | None = None,
) -> list[Json]:  # fmt: skip
    """The messages of a block in one state. `told`: the first so many chunks alone, as of a whole that ends there
    where it is taken back."""
    header = {
        "block_number": made.number, "block_hash": made.hash, "parent_hash": made.parent, "time": 1000 * made.number,
        "gas_used": 0, "gas_limit": 0, "base_fee": None, "blob_gas_used": None, "excess_blob_gas": None,
        "fee_recipient": None, "state_root": None, "transactions_root": None, "receipts_root": None,
        "decoder_version": 1, "raw_header": b"", "watched": True, "transaction_count": 1, "watched_count": 1,
        "log_count": 0,
    }  # fmt: skip
    shown = made.chunks if told is None else made.chunks[:told]
    whole = len(shown) if finality == "retracted" else len(made.chunks)
    return [
        {**block_record(
            chain, chain_number, header, transactions, run=run, finality=finality, incarnation=made.incarnation,
            was_head=finality == "retracted" if was_head is None else was_head, chunk=chunk, chunks=whole,
        )}
        for chunk, transactions in enumerate(shown)
    ]  # fmt: skip


def posting(record: Json, first_run: bool = True) -> BlockPosting:
    """What the books role hands to the bookkeeper."""
    return BlockPosting(
        chain=record["chain"], chain_number=record["chain_number"], run=record["run"], block=record["block_number"],
        block_hash=record["block_hash"][2:], chunk=record["chunk"], chunks=record["chunks"], run_coins=None,
        postings=post_evm_block(record),  # type: ignore[arg-type]
        hashes={tx["transaction_index"]: tx["hash"] for tx in record["transactions"]}, first_run=first_run,
        finality=record["finality"], incarnation=record["incarnation"], publication=record["publication"],
    )  # fmt: skip


class Teller:
    """A random story of one chain, a few messages at a time. Blocks come again, some are cut off in their chunks."""

    def __init__(self, seed: int, chain: str = "eip155:9", chain_number: int = 9, first: int = 100) -> None:
        self._random = random.Random(seed)
        self._chain, self._number, self._first = chain, chain_number, first
        self._standing: list[Made] = []
        self._final: Made | None = None
        self._lost: dict[str, list[Made]] = {}  # parent hash -> blocks that once stood on it
        self._heads: Counter[str] = Counter()
        self._names = 0

    def messages(self, steps: int) -> Iterator[list[Json]]:
        """The messages of one step after the other: a block's in one state, all chunks."""
        for _ in range(steps):
            roll, depth = self._random.random(), len(self._standing)
            if depth and (roll < 0.22 or depth > 12):
                yield self._make_final()
            elif depth and roll < 0.5:
                yield self._lose()
            elif not depth and roll < 0.35:
                made = self._next()
                made = self._final = replace(made, incarnation=self._heads[made.hash])
                yield self._records(made, "final", was_head=False)
            else:
                yield from self._head()

    def _records(self, made: Made, finality: str, **how: Any) -> list[Json]:
        return records(made, finality, chain=self._chain, chain_number=self._number, run=self._first, **how)

    def _head(self) -> Iterator[list[Json]]:
        made = self._next()
        made = replace(made, incarnation=self._heads[made.hash])
        if made.incarnation > 12:
            return
        self._heads[made.hash] += 1
        if len(made.chunks) > 1 and self._random.random() < 0.3:
            told = self._random.randrange(1, len(made.chunks))
            yield self._records(made, "head", told=told) + self._records(made, "retracted", told=told)
        else:
            self._standing.append(made)
            yield self._records(made, "head")

    def _lose(self) -> list[Json]:
        made = self._standing.pop()
        return self._records(made, "retracted")

    def _make_final(self) -> list[Json]:
        made = self._final = self._standing.pop(0)
        return self._records(made, "final", was_head=True)

    def _next(self) -> Made:
        """A block on the topmost one: often one that once stood there."""
        below = self._standing[-1] if self._standing else self._final
        number, parent = (below.number + 1, below.hash) if below else (self._first, digest("genesis"))
        known = self._lost.setdefault(parent, [])
        if known and self._random.random() < 0.5:
            return replace(self._random.choice(known), incarnation=0)
        self._names += 1
        name = (self._number, self._names)
        chunks = self._random.choice([1, 1, 1, 2, 3])
        made = block(number, name, parent, [self._transactions(name, part) for part in range(chunks)])
        known.append(made)
        return made

    def _transactions(self, name: object, part: int) -> list[Json]:
        found = []
        for n in range(self._random.choice([0, 1, 2, 4])):
            index = part * 10 + n
            moves = [self._move(log) for log in range(self._random.choice([0, 1, 3]))]
            fee = self._random.choice([None, 0, 1, 2, 50, 10**20])
            payer = self._random.choice(PEOPLE)
            tx = transaction(
                index, moves, fee, hash=digest("tx", name, index), fee_payer=payer, balance_changes=_openings(moves)
            )  # fmt: skip
            found.append(tx | {"burnt": self._random.choice([None, tx["burnt"]])})
        return found

    def _move(self, log: int) -> Json:
        source, target = (self._random.choice([NOBODY, *PEOPLE]) for _ in "ab")
        token = f"erc721:{TOKEN}/{self._random.randrange(3)}"
        asset = self._random.choice([f"erc20:{COIN}", MULTI, token])
        amount = 1 if asset == token else self._random.choice(AMOUNTS[asset])
        return transfer(asset, source, target, amount, log)


def _openings(moves: Sequence[Json]) -> list[Json]:
    """The coin is older than the story: everybody held something before, told whenever his balance changes."""
    touched = [
        owner
        for move in moves
        if move["asset"] == f"erc20:{COIN}"
        for owner in (move["from_address"], move["to_address"])
    ]
    return [
        opening(owner, f"erc20:{COIN}", 1000 + PEOPLE.index(owner))
        for owner in dict.fromkeys(touched)
        if owner != NOBODY
    ]


class Model:
    """What the books of one chain must hold, folded from the messages."""

    def __init__(self) -> None:
        self.posted: Counter[Account] = Counter()
        self.pending: Counter[Account] = Counter()
        self.refused = 0
        self._turnover: Counter[tuple[str, Account]] = Counter()  # debits and credits, posted and pending
        self._opened: set[Account] = set()
        self._unfinal: dict[tuple[str, int, int], list[Moved]] = {}

    def take(self, record: Json) -> None:
        """The next message, each once."""
        name = record["block_hash"], record["incarnation"], record["chunk"]
        finality = record["finality"]
        if finality != "retracted":
            self._open(record)
        if finality == "head":
            self._unfinal[name] = self._fitting(record)
            self._book(self.pending, self._unfinal[name], 1)
        elif name in self._unfinal:
            self._book(self.pending, self._unfinal[name], -1)
            moves = self._unfinal.pop(name)
            if finality == "final":
                self._book(self.posted, moves, 1)
            else:
                for debit, credit, amount in moves:
                    self._turnover.subtract({("debit", debit): amount, ("credit", credit): amount})
        elif finality == "final":
            self._book(self.posted, self._fitting(record), 1)

    def _fitting(self, record: Json) -> list[Moved]:
        return [move for move in moves_of(record) if self._fits(move)]

    def _fits(self, move: Moved) -> bool:
        """An account takes what leaves the sum of its debits, and that of its credits, below 2^128."""
        sides = ("debit", move.debit), ("credit", move.credit)
        if any(self._turnover[side] + move.amount >= 2**128 for side in sides):
            self.refused += 1
            return False
        self._turnover.update(dict.fromkeys(sides, move.amount))
        return True

    @staticmethod
    def _book(balances: Counter[Account], moves: Iterable[Moved], sign: int) -> None:
        for debit, credit, amount in moves:
            balances[debit] -= sign * amount
            balances[credit] += sign * amount

    def _open(self, record: Json) -> None:
        """What was held before is so whatever becomes of the block that told it."""
        for change in (change for tx in record["transactions"] for change in tx["balance_changes"]):
            asset = f"{record['chain']}/{change['asset']}"
            key = asset, HOLDER, change["account"]
            if change["opening"] is not None and key not in self._opened:
                self._opened.add(key)
                move = Moved((asset, ISSUER, NOBODY), key, int(change["opening"]))
                self._book(self.posted, [move] if self._fits(move) else [], 1)

    def balances(self) -> dict[tuple[str, int, str], Held]:
        """By (asset, account code, owner): holders and payers of fees."""
        return {
            key: Held(self.posted[key], self.pending[key])
            for key in self.posted.keys() | self.pending.keys()
            if key[1] in (GAS, HOLDER) and (self.posted[key] or self.pending[key])
        }


class Moved(NamedTuple):
    """Units from one account to another."""

    debit: Account
    credit: Account
    amount: int


def moves_of(record: Json) -> Iterator[Moved]:
    """What a message's block moves, in order; NOBODY stands for the contract, and for who gets the fees."""
    for tx in record["transactions"]:
        native = f"{record['chain']}/native"
        yield Moved((native, GAS, tx["fee_payer"]), (native, ISSUER, NOBODY), int(tx["fee"] or 0))
        for move in tx["transfers"]:
            asset = move["asset"].partition("/")[0] if move["standard"] == "erc721" else move["asset"]
            source, target = (
                (f"{record['chain']}/{asset}", ISSUER if owner == NOBODY else HOLDER, owner)
                for owner in (move["from_address"], move["to_address"])
            )
            if source != target and 0 < int(move["amount"]) < 2**128:
                yield Moved(source, target, int(move["amount"]))


def sums_of(record: Json) -> Counter[Account]:
    """What a message's block moves in all, whether books hold it or not, by account, credit-positive."""
    sums: Counter[Account] = Counter()
    for tx in record["transactions"]:
        sums[f"{record['chain']}/native", GAS, tx["fee_payer"]] -= int(tx["fee"] or 0)
        for move in tx["transfers"]:
            asset = move["asset"].partition("/")[0] if move["standard"] == "erc721" else move["asset"]
            for owner, sign in ((move["from_address"], -1), (move["to_address"], 1)):
                if owner != NOBODY:
                    sums[f"{record['chain']}/{asset}", HOLDER, owner] += sign * int(move["amount"])
    return sums


def killed_before_marks(keeper: Bookkeeper) -> None:
    """From now on the marks of what it books don't reach the engine, as if it was killed before it sent them."""
    send = keeper._accounts.send

    def without_marks(events: Sequence[bytes]) -> Any:
        marks = events and all(TRANSFER_STRUCT.unpack(event)[10] == TransferCode.BLOCK for event in events)
        return np.full(len(events), CREATED, np.uint32) if marks else send(events)

    keeper._accounts.send = without_marks  # type: ignore[method-assign]


def balances_in(books: Books, chain: str) -> dict[tuple[str, int, str], Held]:
    """The same as an engine has it, zeros left out."""
    assets = [f"{chain}/{asset}" for asset in (f"erc20:{COIN}", f"erc721:{TOKEN}", MULTI)]
    keys = [(asset, HOLDER, owner) for asset in assets for owner in PEOPLE]
    keys += [(f"{chain}/native", GAS, owner) for owner in PEOPLE]
    return {key: held for key, held in held_in(books, keys).items() if held != Held(0, 0)}


def held_in(books: Books, keys: Iterable[tuple[str, int, str]]) -> dict[tuple[str, int, str], Held]:
    """What each of these accounts holds; none for an account that isn't there."""
    by_id = {account_id(AccountRef(*key)): key for key in keys}
    found = {}
    for row in ACCOUNT_STRUCT.iter_unpack(books.lookup_accounts_packed(b"".join(by_id))):
        debits_pending, debits, credits_pending, credits = (
            int.from_bytes(part, "little") for part in row[1:5]
        )
        found[by_id[row[0]]] = Held(credits - debits, credits_pending - debits_pending)
    return found
