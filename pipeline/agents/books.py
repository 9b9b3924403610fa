"""The books role: whole blocks → double entry in TigerBeetle, and what was posted to books.transfers.v1.

Thin: the catalog's rules say what to post, sinks.bookkeeper posts it. What this role adds is the
refusal to book past a hole: a block that can't be read or numbered, or that does not follow the last
one, stops its chain here, is quarantined whole, and nothing after it is acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.agents.runtime import Done, Message
from pipeline.catalog import with_postings
from pipeline.domain.account import AccountRef
from pipeline.domain.findings import alert, connect_headers, quarantined
from pipeline.domain.position import PositionOverflow
from pipeline.domain.posting.legs import Finding, Unbalanced
from schemas.codec import Codec, WireError
from schemas.records import BookTransfers, XrplLedger
from sinks.bookkeeper import BlockPosting, Bookkeeper, Posted
from topics.envelope import outgoing
from topics.producer import Outgoing


@dataclass(slots=True)
class _Head:
    """Last block booked of a chain, as far as this process knows."""

    block: int
    block_hash: str | None
    chunk: int
    chunks: int
    unread: bool = False  # something undecodable stood behind it


class Stop(Exception):
    """This chain's books can't go on: reason in one word, and the facts."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class BooksRole:
    """Consumer group `books`."""

    name = "books"
    batch_max = 64
    batch_wait_s = 0.05

    def __init__(self, open_books: Callable[[], Any], codec: Codec, epoch: str) -> None:
        self._open_books, self._codec, self._epoch = open_books, codec, epoch
        self._rules = with_postings()
        self.topics = tuple(self._rules)
        self._heads: dict[str, _Head] = {}
        self._unread: dict[
            tuple[str, int], Message
        ] = {}  # (topic, partition) → undecodable message behind the head
        self._told: set[str] = set()  # alerts already published by this process

    async def open(self, app: Any) -> None:
        self._engine = await asyncio.to_thread(self._open_books)
        self._bookkeeper = Bookkeeper(self._engine)

    async def close(self) -> None:
        await asyncio.to_thread(self._engine.close)

    async def process(self, topic: str, batch: list[Message]) -> Done:
        return await asyncio.to_thread(self._process, topic, batch)

    def _process(self, topic: str, batch: list[Message]) -> Done:
        done = Done()
        blocks: list[tuple[XrplLedger, BlockPosting]] = []
        transactions = 0
        for place, message in enumerate(batch):
            try:
                block = self._codec.decode(message.value)[1]
            except WireError as error:
                done.outgoing += self._quarantine(message, error.reason, str(error))
                self._unread[(topic, message.partition)] = message
                continue
            try:
                self._follow(block, self._unread.pop((topic, message.partition), None))
                posting = self._posting(topic, block)
            except (Stop, PositionOverflow, Unbalanced) as error:
                reason = error.reason if isinstance(error, Stop) else type(error).__name__
                done.outgoing += self._stopped(message, block, reason, str(error))
                done.stopped = f"{block['chain']}: books stop before ledger {block['ledger_index']}: {error}"
                done.acknowledged = place
                break
            blocks.append((block, posting))
            transactions += len(block["transactions"])
            done.outgoing += self._findings(block, posting.postings.findings)
        legs = 0
        posted = self._bookkeeper.apply([posting for _, posting in blocks])
        for (block, posting), mine in zip(blocks, posted, strict=True):
            legs += len(mine)
            for record in transfer_records(block, posting, mine, self._bookkeeper.book_of):
                done.outgoing.append(outgoing(self._codec, "books.transfers.v1", record["asset"], record))
        done.counts = {"blocks": len(blocks), "transactions": transactions, "transfers": legs}
        if blocks:
            done.counts = {**done.counts, "block": blocks[-1][0]["ledger_index"]}
        return done

    def _follow(self, block: XrplLedger, unread: Message | None) -> None:
        """Raise Stop unless this block follows the last one booked (or repeats one, which is harmless)."""
        head = self._heads.get(block["chain"])
        index, chunk = block["ledger_index"], block["chunk"]
        for tx in block["transactions"]:
            if tx["error"] is not None and not _effects(tx):
                raise Stop("no_effects", f"transaction {tx['hash']}: {tx['error']}")
        if head is not None and index >= head.block and not _continues(head, block):
            missing = f"an undecodable message at offset {unread.offset}" if unread else "nothing"
            raise Stop(
                "hole",
                f"ledger {index} chunk {chunk} does not follow ledger {head.block} chunk {head.chunk} of "
                f"{head.chunks} ({missing} stands between them)",
            )
        self._heads[block["chain"]] = _Head(index, block["ledger_hash"], chunk, block["chunks"])

    def _posting(self, topic: str, block: XrplLedger) -> BlockPosting:
        return BlockPosting(
            chain=block["chain"],
            chain_number=block["chain_number"],
            run=block["run"],
            block=block["ledger_index"],
            block_hash=block["ledger_hash"] or block["transaction_hash"] or "0" * 64,
            chunk=block["chunk"],
            run_coins=block["run_coins"],
            postings=self._rules[topic](block),
            hashes={tx["transaction_index"]: tx["hash"] for tx in block["transactions"]},
        )

    def _quarantine(self, message: Message, reason: str, detail: str) -> list[Outgoing]:
        item = quarantined(
            self.name, message.topic, message.partition, message.offset, self._epoch, reason, detail,
            message.value, key=message.key, time=message.timestamp_ms, headers=message.headers,
        )  # fmt: skip
        note = alert(
            "quarantined", "critical", (message.key or b"").decode(errors="replace"), item["id"],
            time=message.timestamp_ms,
            evidence={"topic": message.topic, "reason": reason, "detail": detail},
        )  # fmt: skip
        return [
            outgoing(self._codec, "quarantine.v1", message.key, item, headers=connect_headers(item)),
            outgoing(self._codec, "control.alerts.v1", "quarantined", note),
        ]

    def _stopped(self, message: Message, block: XrplLedger, reason: str, detail: str) -> list[Outgoing]:
        note = alert(
            "chain_stopped", "critical", block["chain"], str(block["ledger_index"]),
            block=block["ledger_index"], time=block["close_time"],
            evidence={"reason": reason, "detail": detail},
        )  # fmt: skip
        return [
            *self._quarantine(message, reason, detail),
            outgoing(self._codec, "control.alerts.v1", "chain_stopped", note),
        ]

    def _findings(self, block: XrplLedger, findings: list[Finding]) -> list[Outgoing]:
        found = []
        for rule, severity, subject, transaction, evidence in findings:
            note = alert(
                rule, severity, block["chain"], subject, block=block["ledger_index"],
                transaction=transaction, time=block["close_time"], evidence=evidence,
            )  # fmt: skip
            if note["id"] not in self._told:
                self._told.add(note["id"])
                found.append(outgoing(self._codec, "control.alerts.v1", rule, note))
        if block["gap_from"] is not None and block["chunk"] == 0:
            evidence = {"from": str(block["gap_from"]), "to": str(block["gap_to"])}
            note = alert(
                "gap_accepted", "warning", block["chain"], f"{block['gap_from']}-{block['gap_to']}",
                block=block["ledger_index"], time=block["close_time"], evidence=evidence,
            )  # fmt: skip
            found.append(outgoing(self._codec, "control.alerts.v1", "gap_accepted", note))
        return found


def _effects(tx: Any) -> bool:
    """Did anything of an undecodable transaction come through?"""
    return bool(tx["balance_changes"] or tx["object_changes"] or tx["mpt_changes"] or tx["nft_changes"])


def _continues(head: _Head, block: XrplLedger) -> bool:
    index, chunk = block["ledger_index"], block["chunk"]
    if index == head.block:
        return chunk <= head.chunk + 1
    if chunk != 0 or head.chunk != head.chunks - 1:
        return False
    if block["gap_from"] is not None or block["run"] == index:
        return True  # a new run begins: the ingest has told of the gap
    linked = block["parent_hash"] is None or head.block_hash in (None, block["parent_hash"])
    return index == head.block + 1 and linked


def transfer_records(
    block: XrplLedger, posting: BlockPosting, posted: list[Posted], book_of: Callable[[str], int]
) -> list[BookTransfers]:
    """What was posted for one block, as one record per book, in the order it was posted."""
    records: dict[str, BookTransfers] = {}
    for transfer in posted:
        asset = transfer.debit.asset
        record = records.get(asset)
        if record is None:
            record = records[asset] = {
                "asset": asset,
                "book": book_of(asset),
                "chain": block["chain"],
                "chain_number": block["chain_number"],
                "run": block["run"],
                "block": block["ledger_index"],
                "block_hash": block["ledger_hash"] or "",
                "chunk": block["chunk"],
                "time": block["close_time"],
                "transfers": [],
            }
        debit: AccountRef = transfer.debit
        credit: AccountRef = transfer.credit
        record["transfers"].append(
            {
                "transfer_id": transfer.transfer_id[::-1],
                "transaction_index": transfer.transaction,
                "leg": transfer.leg,
                "hash": posting.hashes.get(transfer.transaction, ""),
                "code": transfer.code,
                "status": "posted",
                "reason": None,
                "debit_code": debit.code,
                "debit_owner": debit.owner,
                "debit_subject": debit.subject,
                "credit_code": credit.code,
                "credit_owner": credit.owner,
                "credit_subject": credit.subject,
                "amount": str(transfer.amount),
            }
        )
    return list(records.values())
