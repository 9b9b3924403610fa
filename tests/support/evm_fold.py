"""A plain consumer of evm.blocks.v1, as somebody outside would write it from the topic's contract alone.

It drops what came before (block hash, publication, chunk), keeps the standing blocks as a stack, checks of every
message that it fits (a hole, two blocks of one height, a wrong incarnation: Misfit), and adds up what the blocks
say: balances, owners and gas, once of final blocks only (`final`) and once with the unfinal ones (`head`).
Nothing of the pipeline but the Avro codec is used.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.codec import local_codec

BLOCKS: Final = "evm.blocks.v1"
ZERO: Final = "0x" + "0" * 40
CODEC: Final = local_codec()
GAS_FIELDS: Final = ("transactions", "failed", "gas_used", "fee", "tips", "blob_fee", "burnt")

Json = dict[str, Any]


class Misfit(AssertionError):
    """A message that no true story of a chain has at this place."""


@dataclass
class Sums:
    """What blocks add up to. `balances`: by (asset, account); `owners`: of ERC-721 tokens; `gas`: by payer, GAS_FIELDS.

    `openings`: what an account held before a contract's start block, as the topic tells it; part of `balances`.
    """

    balances: Counter[tuple[str, str]] = field(default_factory=Counter)
    owners: dict[str, str] = field(default_factory=dict)
    gas: dict[str, Counter[str]] = field(default_factory=dict)
    openings: dict[tuple[str, str], int] = field(default_factory=dict)

    def apply(self, transactions: Iterable[Json]) -> None:
        transactions = list(transactions)
        self.open(transactions)
        for tx in transactions:
            self._gas(tx, 1)
            for transfer in tx["transfers"]:
                self._move(transfer, transfer["from_address"], transfer["to_address"])

    def undo(self, transactions: Iterable[Json]) -> None:
        """The reverse of `apply`, in reverse order. Openings stay: they were so before all of it."""
        for tx in reversed(list(transactions)):
            self._gas(tx, -1)
            for transfer in reversed(tx["transfers"]):
                self._move(transfer, transfer["to_address"], transfer["from_address"])

    def of_asset(self, asset: str) -> dict[str, int]:
        """Balances of an asset by account, zeros left out."""
        return {account: held for (name, account), held in self.balances.items() if name == asset and held}

    def accounts(self) -> set[str]:
        """Everybody who ever held anything."""
        return {account for _, account in self.balances}

    def _move(self, transfer: Json, source: str, target: str) -> None:
        asset, amount = book_of(transfer), int(transfer["amount"])
        if source != ZERO:
            self.balances[asset, source] -= amount
        if target != ZERO:
            self.balances[asset, target] += amount
        if transfer["standard"] == "erc721":
            token = transfer["asset"]
            owner = self.owners.get(token)
            if owner not in (None if source == ZERO else source, None):
                raise Misfit(f"{token} leaves {source}, its owner is {owner}")
            self.owners[token] = target
            if target == ZERO:
                del self.owners[token]

    def _gas(self, tx: Json, sign: int) -> None:
        if tx["fee"] is None:
            raise Misfit(f"{tx['hash']}: a fee that nobody knows")
        paid = self.gas.setdefault(tx["fee_payer"], Counter())
        told = {
            "transactions": 1, "failed": int(tx["status"] == 0), "gas_used": tx["gas_used"], "fee": int(tx["fee"]),
            "tips": int(tx["tip"]), "blob_fee": int(tx["blob_fee"] or 0), "burnt": int(tx["burnt"] or 0),
        }  # fmt: skip
        for name, value in told.items():
            paid[name] += sign * value
        if not paid["transactions"]:
            del self.gas[tx["fee_payer"]]

    def open(self, transactions: Iterable[Json]) -> None:
        """Note what accounts held before; told of final blocks only, any number of times."""
        for change in (change for tx in transactions for change in tx["balance_changes"]):
            if change["opening"] is None:
                continue
            key, held = (change["asset"], change["account"]), int(change["opening"])
            if key not in self.openings:
                self.openings[key] = held
                self.balances[key] += held
            elif self.openings[key] != held:
                raise Misfit(f"{key} opened with {held}, before with {self.openings[key]}")


def book_of(transfer: Json) -> str:
    """What a transfer's units are counted in: the collection of an ERC-721 token, else the asset itself."""
    return f"erc721:{transfer['contract']}" if transfer["standard"] == "erc721" else str(transfer["asset"])


@dataclass(frozen=True)
class Told:
    """A block as its whole message (all chunks) tells it."""

    number: int
    hash: str
    parent: str
    finality: str
    incarnation: int
    was_head: bool
    run: int
    header: Json
    transactions: list[Json]

    @classmethod
    def of(cls, chunks: list[Json]) -> Told:
        first = chunks[0]
        transactions = _joined(tx for chunk in chunks for tx in chunk["transactions"])
        places = [tx["transaction_index"] for tx in transactions]
        if places != sorted(set(places)) or len(places) != first["watched_count"]:
            raise Misfit(f"block {first['block_number']}: transactions {places} of {first['watched_count']}")
        for tx in transactions:
            _check_sums(tx)
        return cls(
            first["block_number"], first["block_hash"], first["parent_hash"], first["finality"], first["incarnation"],
            first["was_head"], first["run"], {name: first[name] for name in _HEADER}, transactions,
        )  # fmt: skip

    @property
    def content(self) -> Any:
        """What each message of the block must repeat: all but checks, what a node adds, and openings."""
        return self.header, [_content(tx) for tx in self.transactions]


def _joined(rows: Iterable[Json]) -> list[Json]:
    """Transactions whole: one too large for a message comes in parts."""
    found: list[Json] = []
    for tx in rows:
        if not tx.get("part"):
            found.append(tx)
            continue
        if tx["hash"] != found[-1]["hash"] or tx["first_transfer"] != len(found[-1]["transfers"]):
            raise Misfit(f"{tx['hash']}: part {tx['part']} does not follow")
        lists = ("logs", "transfers", "balance_changes")
        found[-1] = {**found[-1], **{name: [*found[-1][name], *tx[name]] for name in lists}}
    return found


_HEADER: Final = (
    "chain", "block_number", "block_hash", "parent_hash", "time", "transaction_count", "watched_count", "log_count",
    "gas_used", "gas_limit", "base_fee", "state_root", "transactions_root", "receipts_root", "fee_recipient",
)  # fmt: skip


def _content(tx: Json) -> Json:
    changes = [
        {name: value for name, value in change.items() if name not in ("opening", "partial")}
        for change in tx["balance_changes"]
    ]
    return {**{name: value for name, value in tx.items() if name != "raw"}, "balance_changes": changes}


def _check_sums(tx: Json) -> None:
    """A transaction's balance changes are its transfers summed up."""
    sums: Counter[tuple[str, str]] = Counter()
    for transfer in tx["transfers"]:
        sums[book_of(transfer), transfer["from_address"]] -= int(transfer["amount"])
        sums[book_of(transfer), transfer["to_address"]] += int(transfer["amount"])
    due = {key: change for key, change in sums.items() if change and key[1] != ZERO}
    told = {(of["asset"], of["account"]): int(of["change"]) for of in tx["balance_changes"]}
    if due != told or len(told) != len(tx["balance_changes"]):
        raise Misfit(f"{tx['hash']}: transfers come to {due}, balance changes say {told}")


class Fold:
    """The story of one chain as its messages tell it, message by message.

    `anywhere`: whether the first message may be of any block (a topic that lost its beginning), not only of the first
    of a run.
    """

    def __init__(self, anywhere: bool = False) -> None:
        self.final, self.head = Sums(), Sums()
        self.last_final: Told | None = None
        self.unfinal: list[Told] = []
        self.counts: Counter[str] = Counter()  # messages by finality, and `duplicates`
        self.hashes: dict[int, str] = {}  # final blocks by number
        self._anywhere = anywhere
        self._names: set[tuple[str, str, int]] = set()
        self._heads: Counter[str] = Counter()
        self._contents: dict[str, Any] = {}
        self._open: list[Json] = []  # chunks of a message that lacks some
        self._half = False  # the retraction that is coming is of a head that was never whole

    @property
    def top(self) -> Told | None:
        return self.unfinal[-1] if self.unfinal else self.last_final

    @property
    def tip(self) -> tuple[int, str] | None:
        """(number, hash) of the topmost standing block that was told whole."""
        return (self.top.number, self.top.hash) if self.top else None

    @property
    def finalised(self) -> int:
        """Number of the last final block, -1 before the first."""
        return self.last_final.number if self.last_final else -1

    def hash_at(self, number: int) -> str | None:
        """Hash of the standing block of this height."""
        return next((one.hash for one in self.unfinal if one.number == number), self.hashes.get(number))

    def take(self, record: Json) -> bool:
        """One message; whether it was new. Raises Misfit."""
        name = record["block_hash"], record["publication"], record["chunk"]
        if record["publication"] != f"{record['incarnation']}/{record['finality']}":
            raise Misfit(f"{name}: incarnation {record['incarnation']}, finality {record['finality']}")
        if name in self._names:
            self.counts["duplicates"] += 1
            return False
        self._names.add(name)
        self.counts[record["finality"]] += 1
        self._gather(record)
        if len(self._open) == record["chunks"]:
            chunks, self._open = self._open, []
            if not self._half:  # else it takes back what never counted, and repeats only what was told
                self._apply(Told.of(chunks))
            self._half = False
        return True

    def _gather(self, record: Json) -> None:
        if self._open:
            first = self._open[0]
            same = (record["block_hash"], record["publication"]) == (
                first["block_hash"],
                first["publication"],
            )
            if same and record["chunk"] == len(self._open):
                self._open.append(record)
                return
            lost = first["finality"] == "head" and record["finality"] == "retracted" and not record["chunk"]
            if not lost or record["block_hash"] != first["block_hash"]:
                raise Misfit(f"{_named(record)} in the midst of {_named(first)}")
            self._open, self._half = [], True
            self._heads[record["block_hash"]] += 1
        if record["chunk"]:
            raise Misfit(f"{_named(record)} without the chunks before it")
        self._open = [record]

    def _apply(self, told: Told) -> None:
        known = self._contents.setdefault(told.hash, told.content)
        if known != told.content:
            raise Misfit(f"{_name(told)} says of itself what its earlier message did not")
        {"head": self._on_head, "final": self._on_final, "retracted": self._on_retracted}[told.finality](told)

    def _on_head(self, told: Told) -> None:
        self._follows(told, self.top)
        known = self._heads[told.hash]
        if told.incarnation != known and not (self._anywhere and told.incarnation > known):
            raise Misfit(f"{_name(told)}: it was head {self._heads[told.hash]} times before")
        if told.was_head:
            raise Misfit(f"{_name(told)}: a head that says it was head")
        self._heads[told.hash] = told.incarnation + 1
        self.unfinal.append(told)
        self.head.apply(told.transactions)

    def _on_retracted(self, told: Told) -> None:
        self._is(told, self.unfinal[-1:])
        self.head.undo(self.unfinal.pop().transactions)

    def _on_final(self, told: Told) -> None:
        if self.unfinal:
            self._is(told, self.unfinal[:1])
            del self.unfinal[0]
            self.head.open(told.transactions)
        else:
            self._follows(told, self.last_final)
            if told.was_head:
                raise Misfit(f"{_name(told)}: it never was head")
            self.head.apply(told.transactions)
        self.final.apply(told.transactions)
        self.last_final = told
        self.hashes[told.number] = told.hash

    def _follows(self, told: Told, last: Told | None) -> None:
        if last is None:
            if told.run != told.number and not self._anywhere:
                raise Misfit(f"{_name(told)} is the first of all, its run begins at {told.run}")
            return
        begins = told.run == told.number and told.number > last.number
        if told.number != last.number + 1 and not begins:
            raise Misfit(f"{_name(told)} follows {_name(last)}")
        if told.number == last.number + 1 and told.parent != last.hash:
            raise Misfit(f"{_name(told)} stands on {told.parent}, not on {_name(last)}")

    @staticmethod
    def _is(told: Told, due: list[Told]) -> None:
        if not due or (due[0].hash, due[0].incarnation) != (told.hash, told.incarnation):
            raise Misfit(f"{_name(told)}, where {_name(due[0]) if due else 'nothing'} is due")
        if not told.was_head:
            raise Misfit(f"{_name(told)} says that it never was head")


def _name(told: Told) -> str:
    return f"block {told.number} {told.hash[:10]} {told.incarnation}/{told.finality}"


def _named(record: Json) -> str:
    return f"block {record['block_number']} {record['block_hash'][:10]} {record['publication']} chunk {record['chunk']}"


PATIENCE_S: Final = 240.0  # what a machine with much else to do may take


class Follower:
    """A plain aiokafka consumer that folds a partition while it is being written."""

    def __init__(self, url: str, partition: int = 0, fold: Fold | None = None, topic: str = BLOCKS) -> None:
        self.fold = fold or Fold()
        self.records: list[Json] = []  # in the order of the topic, duplicates too
        self.failed: BaseException | None = None
        self.taken: Callable[[Json], None] = lambda _record: None  # called for each message that is new
        self._url, self._place = url, TopicPartition(topic, partition)

    async def run(self) -> None:
        """Read and fold until cancelled; a Misfit is kept in `failed` and ends it."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self._url, enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign([self._place])
            await consumer.seek_to_beginning(self._place)
            while True:
                for batch in (await consumer.getmany(timeout_ms=50)).values():
                    for message in batch:
                        self._take(CODEC.decode(message.value)[1])
        except Misfit as error:
            self.failed = error
        finally:
            await consumer.stop()

    def _take(self, record: Json) -> None:
        self.records.append(record)
        if self.fold.take(record):
            self.taken(record)

    async def until(
        self, met: Callable[[Fold], Any], what: Callable[[], str] | str, timeout_s: float = PATIENCE_S
    ) -> None:
        """Until the fold is so. AssertionError after `timeout_s` or where a message does not fit."""
        for _ in range(int(timeout_s / 0.02)):
            if self.failed is not None:
                raise self.failed
            if met(self.fold):
                return
            await asyncio.sleep(0.02)
        said = what if isinstance(what, str) else what()
        raise AssertionError(
            f"not within {timeout_s} s: {said}; the fold's tip is {self.fold.tip}, final {self.fold.finalised}, "
            f"counts {dict(self.fold.counts)}"
        )


@asynccontextmanager
async def following(url: str, partition: int = 0, fold: Fold | None = None) -> AsyncIterator[Follower]:
    """A Follower at work, stopped afterwards; its failure is raised there at the latest."""
    made = Follower(url, partition, fold)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    if made.failed is not None:
        raise made.failed
