"""The books role: whole blocks → double entry in TigerBeetle, and what was posted to books.transfers.v1.

Thin: the catalog's rules say what to post, sinks.bookkeeper posts it. What this role adds is the
refusal to book past a hole: a block that can't be read or numbered, or that does not follow the last
one, stops its chain here, is quarantined whole, and nothing after it is acknowledged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pipeline.agents.runtime import Done, Epochs, Message, NotFree, Place
from pipeline.agents.starting_state import STATES, StatePages
from pipeline.catalog import with_postings
from pipeline.domain.account import AccountRef
from pipeline.domain.findings import alert, alerts_of, connect_headers, quarantined
from pipeline.domain.position import PositionOverflow
from pipeline.domain.posting.legs import Finding, Unbalanced
from schemas.codec import Codec, WireError
from schemas.records import BookTransfers, XrplLedger
from sinks.bookkeeper import BlockPosting, Bookkeeper, Head, Posted
from sinks.books import BooksInUseError
from topics.envelope import outgoing
from topics.producer import Outgoing


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

    def __init__(self, open_books: Callable[[], Any], codec: Codec) -> None:
        self._open_books, self._codec = open_books, codec
        self._epochs: Epochs = {}
        self._rules = with_postings()
        self.topics = tuple(self._rules)
        self._heads: dict[str, Head | None] = {}  # chain -> last block accepted
        self._accepted: set[tuple[str, int, int, str]] = set()  # blocks of the batch at hand
        self._unread: dict[
            tuple[str, int], Message
        ] = {}  # (topic, partition) → undecodable message behind the head
        self._told: set[str] = set()  # alerts already published by this process

    async def open(self, app: Any, epochs: Epochs) -> None:
        self._epochs = epochs
        try:
            self._engine = await asyncio.to_thread(self._open_books)
        except BooksInUseError as error:
            raise NotFree(str(error)) from error
        self._bookkeeper = Bookkeeper(self._engine)
        self._states = StatePages(self._codec, self._bookkeeper, self._quarantine, transfer_records)

    def assigned(self, places: set[Place]) -> dict[Place, int]:
        self._heads.clear()  # another process may have booked on
        self._unread.clear()
        return {}

    async def close(self) -> None:
        await asyncio.to_thread(self._engine.close)

    async def process(self, topic: str, batch: list[Message]) -> Done:
        if topic == STATES:
            return await asyncio.to_thread(self._states.process, batch)
        return await asyncio.to_thread(self._process, topic, batch)

    def _process(self, topic: str, batch: list[Message]) -> Done:
        done = Done()
        self._accepted.clear()
        blocks: list[tuple[XrplLedger, BlockPosting]] = []
        transactions = 0
        for message in batch:
            if message.partition in done.stops:
                continue
            try:
                block = self._codec.decode(message.value)[1]
            except WireError as error:
                done.outgoing += self._quarantine(message, error.reason, str(error))
                self._unread[(topic, message.partition)] = message
                continue
            try:
                posting = self._posting(topic, block)
                self._follow(block, posting, self._unread.pop((topic, message.partition), None))
            except (Stop, PositionOverflow, Unbalanced) as error:
                reason = error.reason if isinstance(error, Stop) else type(error).__name__
                done.outgoing += self._stopped(message, block, reason, str(error))
                why = f"{block['chain']}: books stop before ledger {block['ledger_index']}: {error}"
                done.stops[message.partition] = (message.offset, why)
                continue
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

    def _follow(self, block: XrplLedger, posting: BlockPosting, unread: Message | None) -> None:
        """Raise Stop unless this block follows the last one booked, or is one that is booked already.

        The head is the books' own: a new process knows it too.
        """
        chain, index, chunk = block["chain"], block["ledger_index"], block["chunk"]
        for tx in block["transactions"]:
            if tx["error"] is not None and not _effects(tx):
                raise Stop("no_effects", f"transaction {tx['hash']}: {tx['error']}")
        if chain not in self._heads:
            self._heads[chain] = self._bookkeeper.head(chain, block["chain_number"])
        head = self._heads[chain]
        if head is None and self._bookkeeper.began(chain, block["run"]) is False:
            raise Stop(
                "other_run", f"run {block['run']} is not the one that the starting state in the books begins"
            )
        if head is not None and (index, chunk) <= (head.block, head.chunk):
            if (chain, index, chunk, posting.block_hash) in self._accepted or self._bookkeeper.has(posting):
                return
            raise Stop("fork", f"ledger {index} with hash {posting.block_hash} is not the one that is booked")
        if not _continues(head, block):
            missing = f"an undecodable message at offset {unread.offset}" if unread else "nothing"
            last = f"ledger {head.block} chunk {head.chunk} of {head.chunks}" if head else "the start"
            raise Stop(
                "hole", f"ledger {index} chunk {chunk} does not follow {last} ({missing} stands between)"
            )
        self._accepted.add((chain, index, chunk, posting.block_hash))
        self._heads[chain] = Head(index, posting.block_hash[:16], chunk, block["chunks"])

    def _posting(self, topic: str, block: XrplLedger) -> BlockPosting:
        return BlockPosting(
            chain=block["chain"],
            chain_number=block["chain_number"],
            run=block["run"],
            block=block["ledger_index"],
            block_hash=block["ledger_hash"] or block["transaction_hash"] or "0" * 64,
            chunk=block["chunk"],
            chunks=block["chunks"],
            run_coins=block["run_coins"],
            postings=self._rules[topic](block),
            hashes={tx["transaction_index"]: tx["hash"] for tx in block["transactions"]},
        )

    def _quarantine(self, message: Message, reason: str, detail: str) -> list[Outgoing]:
        item = quarantined(
            self.name, message.topic, message.partition, message.offset, self._epochs[message.topic], reason, detail,
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
        for note in alerts_of(findings, block["chain"], block["ledger_index"], block["close_time"]):
            if note["id"] not in self._told:
                self._told.add(note["id"])
                found.append(outgoing(self._codec, "control.alerts.v1", note["rule"], note))
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


def _continues(head: Head | None, block: XrplLedger) -> bool:
    """Does this block (or chunk) come right after what is booked?"""
    index, chunk = block["ledger_index"], block["chunk"]
    begins = block["run"] == index  # a new run: the ingest has told of the gap
    if head is None:
        return begins and chunk == 0
    if index == head.block or chunk != 0:
        return index == head.block and chunk == head.chunk + 1
    if head.chunk != head.chunks - 1:
        return False
    parent = block["parent_hash"]
    return begins or (index == head.block + 1 and (parent is None or parent[:16] == head.block_hash))


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
                "pending_id": "",
                "event_id": "",
                "flow": "",
                "timestamp": 0,
            }
        )
    return list(records.values())
