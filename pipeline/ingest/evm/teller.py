"""Tells blocks: decodes them, sends their messages in order, and keeps the stack of what stands.

What is watched grows by what a block made before the block is decoded, and is told before it. Every way out of the
middle leaves what was told, and nothing else, in `branch` and `unfinal`: whoever comes again goes on from there.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from pipeline.domain.branch import short, step_of
from pipeline.domain.decode.evm import decode_block, header_fields
from pipeline.domain.decode.xrpl_errors import RecordedError
from pipeline.ingest.evm.config import ChainConfig
from pipeline.ingest.evm.errors import NoNode
from pipeline.ingest.evm.journal import Journal
from pipeline.ingest.evm.line import EvmLine, Message, Told, of_verdict
from pipeline.ingest.evm.openings import Openings
from pipeline.ingest.evm.read import Fetched, Reader
from pipeline.ingest.evm.reliable import Reliability, alert_of
from pipeline.ingest.evm.resume import Resumed
from pipeline.ingest.evm.watch import Watched
from pipeline.ingest.ledgers import Stopped
from pipeline.ingest.publish import BLOCKS, Publisher
from schemas.records import Check, EvmBlock, EvmTransaction, Finality, Verdict

BATCH_BYTES: Final = 4 << 20
STAY_BLOCKS: Final = 128  # told as final at once: fewer than Branch.KEPT_BELOW, for a batch may be sent twice
SEND_WAIT_S: Final = 20.0


class Rival(Exception):
    """Somebody else writes to this chain's partition: what stands there must be read again."""


class Unfit(Exception):
    """A block that does not lead on from what was told."""


class Teller:
    """One chain's line of messages. `branch`: what stands; `unfinal`: the blocks of it that are not final."""

    def __init__(
        self, line: EvmLine, publisher: Publisher, watched: Watched, openings: Openings, reader: Reader,
        config: ChainConfig, resumed: Resumed, journal: Journal | None, reliability: Reliability,
        replay: Sequence[EvmBlock] = (), told_again: int = 0,
    ) -> None:  # fmt: skip
        self._line, self.publisher, self.watched, self._openings = line, publisher, watched, openings
        self._reader, self._config, self._journal = reader, config, journal
        self._reliability = reliability
        self._replay = deque(replay)  # of the journal: what the broker has forgotten, in order
        self._told_again = told_again  # messages of the journal that the broker was told again
        self._replaying = False
        self.branch = resumed.branch
        self.unfinal: list[Told] = list(resumed.unfinal)
        self._run = -1 if resumed.last is None else resumed.last["run"]
        self._cut = resumed.cut()
        self._offset = resumed.next_offset
        self.sent_at = time.monotonic()

    @property
    def next(self) -> int:
        """Number of the block that is told next."""
        return self.branch.tip[0] + 1 if self.branch.tip is not None else self._config.start_block

    @property
    def final(self) -> int:
        """Number of the last block told as final, -1 before the first."""
        return self.branch.final[0] if self.branch.final is not None else -1

    def fitting(self, fetched: Sequence[Fetched]) -> list[Fetched]:
        """The first of them that lead on from the tip. Raises Unfit if not even one does."""
        found: list[Fetched] = []
        tip = self.branch.tip
        for one in fetched:
            if tip is not None and (one.number != tip[0] + 1 or short(one.parent) != tip[1]):
                break
            found.append(one)
            tip = one.number, short(one.hash)
        if not found:
            raise Unfit
        return found

    async def cover(self, final: int) -> None:
        """How much of a new contract's life is told, judged at a final block, before its first one is read."""
        records = []
        for known in self.watched.untold():
            if known.source == "settings" and known.start_block - 1 <= max(final, 0):  # genesis is final
                covered = known  # partial already: it was left out of the settings for a while
                if known.coverage != "partial":
                    covered = self.watched.cover(known.address, await self._openings.coverage(known))
                records.append(self.watched.record(covered, self._number))
        await self.tell_contracts(records)

    async def mark(self) -> None:
        """Tell of contracts whose balances were seen not to follow from their logs."""
        marked = self._reliability.ended(self.watched)
        records = [
            self.watched.record(known, self._number) for known in marked
        ]  # counts as told from here on
        for known in marked:
            await self.publisher.tell(alert_of(self._reliability.found[known.address]))
        await self.tell_contracts(records)

    def begins_before(self) -> list[int]:
        """Blocks before which contracts begin that are not covered yet."""
        return [known.start_block for known in self.watched.untold() if known.source == "settings"]

    async def publish(self, fetched: Sequence[Fetched], finality: Finality) -> bool:
        """Decode and tell blocks that lead on, some at a time; False if not even the first could be."""
        messages: list[Message] = []
        verdicts: list[Verdict] = []
        contracts: list[Any] = []
        tolds: list[Told] = []
        branch_tip = self.branch.tip
        await self._unwatch(self.watched.retract_above(branch_tip[0] if branch_tip else -1))
        for one in fetched:
            made = await self._prepared(one, finality, first=branch_tip is None)
            if made is None:
                break
            branch_tip = one.number, short(one.hash)
            told, encoded, added = made
            messages += encoded
            tolds.append(told)
            contracts += added
            if finality == "final":
                verdicts += self._verdict(told.records[0], one.node.name)
            if sum(len(value) for _, value in messages) >= BATCH_BYTES or added:
                break
        if not messages:
            return False
        if self.branch.tip is None:
            self.publisher.chain.append([(tolds[0].number, tolds[0].hash, self._run)])
        await self._send(messages, verdicts, contracts)
        if finality == "head":
            self.unfinal += tolds
        self._reliability.begin((told.records for told in reversed(tolds)), self.watched)
        return True

    async def _prepared(
        self, one: Fetched, finality: Finality, first: bool
    ) -> tuple[Told, list[Message], list[Any]] | None:
        """(the block, its messages, contracts that it made); None: this answer can't be used."""
        want = self.watched.want()
        if one.receipts is None and one.want != want and not want.leaves(one.want, one.block["logsBloom"]):
            # a factory has made more to look for since it was read
            again = await self._reader.block(one.number, want)
            if again.hash != one.hash:
                raise Unfit
            one = again
        try:
            if one.receipts is not None:  # what a factory makes is watched from this block on
                self._add(one.block, one.receipts, one.number, one.hash)
            header, transactions = await asyncio.to_thread(self._decoded, one)
            await self._openings.fill(transactions, self.watched)
            if first:
                self._run = one.number
            incarnation = self._incarnation(one)
            told, messages = await asyncio.to_thread(
                lambda: self._line.told(
                    header, transactions, [*one.checks, _linked(first)], run=self._run, finality=finality,
                    incarnation=incarnation, highest=self.branch.highest,
                )
            )  # fmt: skip
        except RecordedError as error:
            await self._refuse(Stopped("undecodable", str(error), one.number, _item(one)), one)
            return None
        return told, messages, self._made_records()

    def _decoded(self, one: Fetched) -> tuple[dict[str, Any], list[EvmTransaction]]:
        if one.receipts is None:  # proven by its bloom: nothing in it is watched
            header = header_fields(one.block)
            count = len(one.block["transactions"])
            return {
                **header,
                "transaction_count": count,
                "watched_count": 0,
                "log_count": 0,
                "watched": False,
            }, []
        contracts = self.watched.contracts_at(one.number)
        return decode_block(one.block, one.receipts, contracts, self._config.decode_chain)

    def _add(self, block: Any, receipts: Any, number: int, block_hash: str) -> None:
        for one in self.watched.found_in(block, receipts):
            self.watched.add(one, number, block_hash)

    def _made_records(self) -> list[Any]:
        """Contracts that factories made and that are to be told: of this block, or of an attempt that was cut off."""
        made = [known for known in self.watched.untold() if known.source == "factory"]
        return [self.watched.record(known, self._number) for known in made]

    def _incarnation(self, one: Fetched) -> int:
        """How often this block was told as head before, in this life of the broker or an earlier one."""
        told = self.branch.incarnation(one.number, one.hash)
        return told if self._journal is None else max(told, self._journal.incarnations.get(one.hash, 0))

    async def _refuse(self, stopped: Stopped, one: Fetched) -> None:
        await self.publisher.refuse(stopped, one.node.name, "block_refused")
        one.node.distrust(stopped.reason, str(stopped))

    async def _send(
        self, messages: Sequence[Message], verdicts: Sequence[Verdict] = (), contracts: Sequence[Any] = ()
    ) -> None:
        """Tell, in order, and note it. Raises Rival where somebody else told something meanwhile."""
        if self._journal is not None:
            await asyncio.to_thread(self._keep, messages, contracts)
        await self._sent(messages, verdicts, contracts)
        self._note(messages)
        self._offset += len(messages)
        place = self.publisher.chain.partition
        told = self.publisher.state.next_offsets.get(BLOCKS, {}).get(place, self._offset)
        if told < self._offset:
            raise Stopped("broker_forgot", "the broker has lost what it held: start the ingest again")
        if told != self._offset:
            raise Rival(f"offset {told} where {self._offset} is due")
        self.sent_at = time.monotonic()

    def _keep(self, messages: Sequence[Message], contracts: Sequence[Any]) -> None:
        assert self._journal is not None
        self._journal.told(contracts)
        if not self._replaying:  # else they stand there already
            self._journal.append(messages)

    async def _sent(
        self, messages: Sequence[Message], verdicts: Sequence[Verdict], contracts: Sequence[Any]
    ) -> None:
        """Whoever is told to stop waits for what is under way: the next writer must find it."""
        sending = asyncio.ensure_future(self.publisher.blocks(messages, verdicts, contracts))
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            await asyncio.wait({sending}, timeout=SEND_WAIT_S)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            raise

    def _note(self, messages: Sequence[Message]) -> None:
        for record, _ in messages:
            step = step_of(record)
            if not self.branch.seen(step):
                self.branch.take(step)

    def _verdict(self, record: EvmBlock, source: str) -> list[Verdict]:
        checks: list[Check] = [{**check} for check in record["checks"]]  # type: ignore[typeddict-item]
        return self.publisher.watermark.block(of_verdict(record), source, checks)

    @property
    def _number(self) -> int:
        return self.publisher.chain.number

    # What stays, what goes

    async def stay(self, staying: Sequence[Told]) -> None:
        """The lowest unfinal blocks are final, or as many of them as one batch takes."""
        messages: list[Message] = []
        verdicts: list[Verdict] = []
        for told in staying[:STAY_BLOCKS]:
            messages += self._line.messages(told.again("final", self.branch.highest))
            verdicts += self._verdict(told.records[0], "")
            if sum(len(value) for _, value in messages) >= BATCH_BYTES:
                break
        await self._send(messages, verdicts)
        self.unfinal = [told for told in self.unfinal if told.number > self.final]
        if self._journal is not None:
            await asyncio.to_thread(self._journal.shorten)

    async def take_back(self, lost: Sequence[Told]) -> None:
        """The chain has dropped these, the topmost unfinal blocks, given lowest first."""
        for told in reversed(lost):
            await self._send(self._line.messages(told.again("retracted", self.branch.highest)))
            self.unfinal.remove(told)
            await self._unwatch(self.watched.retract(told.number, told.hash))

    async def _unwatch(self, gone: Sequence[Any]) -> None:
        await self.tell_contracts([self.watched.record(one, self._number) for one in gone])

    async def tell_contracts(self, records: Sequence[Any]) -> None:
        """Tell how contracts stand now."""
        if records and self._journal is not None:
            await asyncio.to_thread(self._journal.told, records)
        if records:
            await self.publisher.blocks([], (), records)

    # Beginning

    async def complete(self) -> None:
        """Finish what a kill cut off within its chunks: a head is taken back, all else told to its end."""
        cut = self.branch.open
        if cut is None or self._replay:  # what is told again tells its rest too
            return
        if cut.finality == "head":
            await self._send(self._line.messages(self.unfinal.pop().again("retracted", self.branch.highest)))
            return
        told = next((one for one in self.unfinal if one.key == (short(cut.hash), cut.incarnation)), None)
        if told is not None:
            rest = told.again(cut.finality, self.branch.highest)[cut.chunk + 1 :]
            await self._send(self._line.messages(rest))
            self.unfinal.remove(told)
            return
        one = await self._reader.block(cut.number, self.watched.want())  # final at once: it can be read again
        made = await self._prepared(one, "final", first=cut.run == cut.number)
        if made is None:
            raise NoNode(f"no node gives a block {cut.number} that can be decoded")
        if _outline(made[0].records[: cut.chunk + 1]) != _outline(self._cut):
            raise Stopped(
                "other_block",
                f"block {cut.number} is told up to chunk {cut.chunk} of {cut.chunks}, and now it is another one: if "
                "what is watched was changed in the settings, put it back until this block is told",
            )
        await self._send(made[1][cut.chunk + 1 :], self._verdict(made[0].records[0], one.node.name), made[2])

    @property
    def forgotten_from(self) -> int | None:
        """The broker has forgotten all: the block that is told again next, by name; None: all are."""
        return self._replay[0]["block_number"] if self._replay else None

    async def remember(self) -> None:
        """Tell again what was told of blocks that were heads, in that order and by those names, up to where blocks
        that were final at once come in between. Raises Stopped."""
        first, tip = self._replay[0], self.branch.tip
        fresh = first["finality"] == "head" and not self.branch.seen(step_of(first))
        if tip is not None and fresh and short(first["parent_hash"]) != tip[1]:
            raise Stopped(
                "other_chain",
                f"the nodes' block {tip[0]} is not the one that this data directory knows: use another --data-dir",
            )
        self._run = first["run"]
        while self._replay and not self._hole():
            await self._again()
        if not self._replay:
            if self._journal is not None:
                self._journal.told_again(self._told_again, True)
            await self.complete()

    def _hole(self) -> bool:
        """Does the next message follow blocks that are not told yet?"""
        number = self._replay[0]["block_number"]
        return not self.unfinal and self._replay[0]["finality"] == "head" and number > self.next

    async def _again(self) -> None:
        """Tell the next message of the journal again, all of its chunks that stand there."""
        chunks = [self._replay.popleft()]
        while self._replay and step_of(self._replay[0]).name[:3] == step_of(chunks[0]).name[:3]:
            chunks.append(self._replay.popleft())
        first, told = chunks[0], Told(tuple(chunks))
        self.branch.highest = max(self.branch.highest, first["highest"])
        verdicts = self._verdict(first, "") if first["finality"] == "final" else []
        if first["finality"] == "head":
            self._watch_made_by(told)
        messages, self._replaying = self._line.messages(chunks), True
        await self._send(messages, verdicts, self._made_records())
        self._replaying = False
        if first["finality"] == "head":
            self.unfinal = [*(one for one in self.unfinal if one.key != told.key), told]
        elif self.branch.open is None:
            self.unfinal = [one for one in self.unfinal if one.key != told.key]
        if first["finality"] == "retracted":
            await self._unwatch(self.watched.retract(told.number, told.hash))
        self._told_again += len(chunks)
        if self._journal is not None:
            self._journal.told_again(self._told_again, False)

    def _watch_made_by(self, told: Told) -> None:
        """Contracts that a block as it was told made; a factory's transactions are kept whole."""
        head = told.records[0]
        block = {"number": hex(told.number), "timestamp": hex(head["time"] // 1000)}
        logs = [
            {"address": log["contract"], "topics": log["topics"], "data": log["data"]}
            for record in told.records for tx in record["transactions"] for log in tx["logs"]
        ]  # fmt: skip
        self._add(block, [{"logs": logs}], told.number, told.hash)


def _outline(records: Sequence[EvmBlock]) -> list[Any]:
    """What two readings of a block must have in common; nodes add fields of their own to what is kept raw."""
    return [
        (record["block_hash"], record["chunks"], record["watched_count"],
         [(tx["hash"], len(tx["logs"]), len(tx["transfers"])) for tx in record["transactions"]])
        for record in records
    ]  # fmt: skip


def _linked(first: bool) -> Check:
    if first:
        return {"name": "parent_hash", "outcome": "not_applicable", "detail": "the first block of its run"}
    return {"name": "parent_hash", "outcome": "holds", "detail": ""}


def _item(one: Fetched) -> dict[str, Any]:
    return {"block": one.block, "receipts": one.receipts}
