"""Recorded EVM answers → whole blocks of evm.blocks.v1, in order, as final ones.

What a chain's nodes once answered (eth_getBlockByNumber with eth_getBlockReceipts, in any shape that
pipeline.domain.decode.evm_shapes reads) is put together by block hash, ordered by number, judged at level header
and decoded. A recording may have holes: behind each a new run begins, and the first block of it tells the gap.
What contradicts itself, or what nothing can be booked from, is raised as Stopped with the block whole, and what
comes before it stays good. Everything is of interest: no contract is declared.

Which chain it is, its transactions say (chainId). Where they do not, as before EIP-155, a name may be given; else
the blocks go to the only chain that others of the recording tell, or to one named after the first of them.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from pipeline.domain.decode.evm import Chain as Rules
from pipeline.domain.decode.evm import block_record, decode_block
from pipeline.domain.decode.evm_contracts import UNDECLARED
from pipeline.domain.decode.evm_gas import burns_by_evidence
from pipeline.domain.decode.evm_shapes import Bag, RecordedBlock
from pipeline.domain.decode.evm_values import needed, quantity
from pipeline.domain.decode.xrpl_errors import (
    Malformed,
    MissingMetadata,
    NotALedger,
    RecordedError,
    Truncated,
)
from pipeline.domain.evm_proof import Head, judge_block
from pipeline.domain.proof_errors import Contradiction
from pipeline.domain.verdict import Level
from pipeline.ingest.chains import Chain
from pipeline.ingest.evm.line import in_chunks, of_verdict
from pipeline.ingest.ledgers import Stopped
from pipeline.ingest.publish import Published, Publisher
from pipeline.ingest.recorded import recorded_files
from schemas.records import Check, EvmBlock, EvmTransaction

BATCH_BLOCKS: Final = 32
NUMBER_LIMIT: Final = 1 << 40  # as in transfer ids
_GZIP_MAGIC: Final = b"\x1f\x8b"


def file_values(file: Path) -> list[Any]:
    """The JSON values of a file: one, or one a line; a RecordedError for what can't be read. Integers stay
    exact, however long."""
    try:
        content = file.read_bytes()
        if content[:2] == _GZIP_MAGIC:
            content = gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        return [Truncated(f"the compressed file ends early or is damaged: {error}")]
    except OSError as error:
        return [RecordedError(f"the file can't be read: {error.strerror or error}")]
    if not content.strip():
        return [Truncated("the file is empty")]
    try:
        return [_exact(content)]
    except ValueError:
        return _lines(content)


def _exact(text: bytes) -> Any:
    """A JSON value with its integers as they are. Raises ValueError.

    orjson, which rounds long ones, goes first: it bounds the depth. json does so only by the interpreter's limit, and
    that is raised by a library of web3's beyond what the stack bears.
    """
    orjson.loads(text)
    return json.loads(text)


def _lines(content: bytes) -> list[Any]:
    values: list[Any] = []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            values.append(_exact(line))
        except ValueError as error:
            values.append(Malformed(f"line {number} is not JSON: {error}"))
            if len(values) == 1:
                return values  # one value over several lines, cut off or broken
    return values


def read_evm_blocks(paths: Iterable[Path]) -> list[RecordedBlock]:
    """The blocks of files and directories by number, receipts and header from whichever file has them.

    RecordedError, with the file's name before the reason, for what can't be read, and where there is no block.
    """
    bag = Bag()
    for path in paths:
        for file in recorded_files(path):
            for value in file_values(file):
                faults = [value] if isinstance(value, RecordedError) else bag.add(value)
                if faults:
                    raise type(faults[0])(f"{file}: {faults[0].reason}", faults[0].transaction_hash)
    blocks = bag.blocks()
    if not any(block.header is not None for block in blocks):
        raise NotALedger("the recording holds no whole EVM block (eth_getBlockByNumber)")
    return sorted(blocks, key=_number)


def _number(block: RecordedBlock) -> int:
    """Of its header, else of a receipt or log of it; what tells none comes first and is refused there."""
    loose = (log for logs in block.logs.values() for log in logs.values())
    for fields, name in (
        *(((block.header, "number"),) if block.header is not None else ()),
        *((one, "blockNumber") for one in (*block.receipts.values(), *loose)),
    ):
        if (number := quantity(fields, name, NUMBER_LIMIT)) is not None:
            return number
    return -1


def chain_id(block: RecordedBlock) -> int | None:
    """The chain that a block's transactions are signed for; None where they do not tell. Malformed if several."""
    told = {quantity(one, "chainId") for one in block.transactions().values()} - {None, 0}
    if len(told) > 1:
        raise Malformed(f"transactions of block {block.block_hash} are of chains {sorted(map(str, told))}")
    return told.pop() if told else None


def by_chain(blocks: Sequence[RecordedBlock], name: str | None = None) -> dict[str, list[RecordedBlock]]:
    """Blocks by the name of their chain, `eip155:<chain id>`; `name` is of those that do not tell."""
    told = [chain_id(block) for block in blocks]
    names = sorted({f"eip155:{number}" for number in told if number is not None})
    first = next(block.block_hash for block in blocks if block.header is not None) or ""
    unnamed = name or (names[0] if len(names) == 1 else f"eip155:recorded-{first.removeprefix('0x')[:8]}")
    found: dict[str, list[RecordedBlock]] = {}
    for block, number in zip(blocks, told, strict=True):
        found.setdefault(unnamed if number is None else f"eip155:{number}", []).append(block)
    return found


@dataclass(frozen=True, slots=True)
class EvmReady:
    """One block ready to publish, as its chunks."""

    chunks: list[tuple[EvmBlock, bytes]]  # record, encoded message
    gap: tuple[int, int] | None
    checks: list[Check]

    @property
    def block(self) -> EvmBlock:
        """The block's header fields, as in every chunk."""
        return self.chunks[0][0]


class EvmLine:
    """Turns a chain's recorded blocks, given by number, into its line of final blocks.

    `burns`: whether the chain burns the base fee; None: told from each block where it can be
    (pipeline.domain.decode.evm_gas.burns_by_evidence).
    """

    def __init__(
        self,
        chain: Chain,
        encode: Callable[[EvmBlock], bytes],
        level: Level = "header",
        burns: bool | None = None,
    ) -> None:
        self._chain, self._encode, self._level, self._burns = chain, encode, level, burns
        self._head: Head | None = None
        self._run = -1

    def blocks(self, recording: Iterable[RecordedBlock]) -> Iterator[EvmReady]:
        """The recording's blocks, each checked against the one before. Raises Stopped."""
        for recorded in recording:
            after = f" (after block {self._head.number})" if self._head else ""
            try:
                yield self.block(recorded)
            except RecordedError as error:
                place = self._head.number + 1 if self._head else -1
                raise Stopped("undecodable", f"{error}{after}", place, _item(recorded)) from None

    def block(self, recorded: RecordedBlock) -> EvmReady:
        """The next block of the line. Raises Stopped or RecordedError; then the line is as before."""
        answer, receipts = _whole(recorded)
        number = needed(answer, "number", "the block", NUMBER_LIMIT)
        gap = self._gap(number, recorded)
        burns = self._burns if self._burns is not None else burns_by_evidence(
            list(recorded.transactions().values()), receipts
        )  # fmt: skip
        head = None if gap is not None else self._head
        try:
            checks = judge_block(answer, receipts, None, self._level, head=head)
        except Contradiction as found:
            raise Stopped(found.reason, f"block {number}: {found}", number, _item(recorded)) from None
        header, transactions = decode_block(answer, receipts, UNDECLARED, Rules(burns=burns))
        run = self._run if head is not None else self._run_at(number, header, gap, recorded)
        self._known(number, header["block_hash"], recorded)
        base = {"run": run, "finality": "final", "incarnation": 0, "was_head": False, "gap": gap,
                "level": self._level, "checks": checks}  # fmt: skip
        ready = EvmReady(self._chunks(header, transactions, base), gap, checks)
        self._head, self._run = Head(number, header["block_hash"]), run
        return ready

    def _gap(self, number: int, recorded: RecordedBlock) -> tuple[int, int] | None:
        """The hole of the recording before this block. Raises Stopped for a second block of the same number."""
        if self._head is None or number == self._head.number + 1:
            return None
        if number <= self._head.number:
            raise Stopped(
                "fork", f"block {number} {recorded.block_hash} is not the one before it, {self._head.hash}",
                number, _item(recorded),
            )  # fmt: skip
        return self._head.number + 1, number - 1

    def _known(self, number: int, block_hash: str, recorded: RecordedBlock) -> None:
        known = self._chain.ledgers.get(number)
        if known is not None and known[0] != block_hash:
            raise Stopped(
                "other_chain", f"block {number} is not the one that chain {self._chain.name} has", number,
                _item(recorded),
            )  # fmt: skip

    def _run_at(
        self, number: int, header: Mapping[str, Any], gap: tuple[int, int] | None, recorded: RecordedBlock
    ) -> int:
        """Run of a block that begins one here: as the register knows it, or its own."""
        known, before = self._chain.ledgers.get(number), self._chain.ledgers.get(number - 1)
        if known is not None:
            return known[1]
        if before is None or gap is not None:
            return number
        if before[0] != header["parent_hash"]:
            raise Stopped(
                "other_chain", f"block {number} does not follow the one that chain {self._chain.name} has",
                number, _item(recorded),
            )  # fmt: skip
        return before[1]

    def _chunks(
        self, header: Mapping[str, Any], transactions: list[EvmTransaction], base: Mapping[str, Any]
    ) -> list[tuple[EvmBlock, bytes]]:
        """The block as messages, cut as the live ingest cuts it."""

        def record(part: Sequence[EvmTransaction], chunk: int, chunks: int) -> EvmBlock:
            return block_record(
                self._chain.name, self._chain.number, header, part, chunk=chunk, chunks=chunks, **base
            )

        return in_chunks(transactions, record, self._encode)


def _whole(recorded: RecordedBlock) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """(the block's answer, its receipts in the order of its transactions). MissingMetadata where one lacks."""
    if recorded.header is None:
        raise MissingMetadata(f"block {recorded.block_hash} has receipts or logs, but no header")
    names = recorded.transactions()
    missing = next((name for name in names if name not in recorded.receipts), None)
    if missing is not None:
        raise MissingMetadata(f"block {recorded.block_hash} has no receipt of transaction {missing}", missing)
    others = recorded.receipts.keys() - names.keys()
    return recorded.header, [recorded.receipts[name] for name in (*names, *sorted(others))]


def _item(recorded: RecordedBlock) -> dict[str, Any]:
    """A block as it goes to quarantine: in a shape that can be read again; integers beyond 64 bits as text."""
    logs = [log for of in recorded.logs.values() for log in of.values()]
    item = {
        "eth_getBlockByNumber": recorded.header,
        "eth_getBlockReceipts": list(recorded.receipts.values()),
        **({"eth_getLogs": logs} if logs else {}),
    }
    plain: dict[str, Any] = json.loads(
        json.dumps(item), parse_int=lambda text: int(text) if len(text) < 19 else text
    )
    return plain


async def publish_evm_recording(
    recording: Iterable[RecordedBlock],
    line: EvmLine,
    publisher: Publisher,
    tell: Callable[[Sequence[EvmReady]], None],
    source: str = "file",
) -> Published:
    """Publish a chain's recorded blocks in order until their end or until they are not sound.

    `tell` hears of each batch that is acknowledged.
    """
    state, ready = publisher.state, line.blocks(recording)
    while True:
        batch, stopped = await asyncio.to_thread(_take, ready)
        for gap, blocks in _by_gap(batch):  # a gap is told before what is behind it
            if gap is not None:
                await publisher.gap(*gap, skipped=True)
            publisher.chain.append([
                (one.block["block_number"], one.block["block_hash"], one.block["run"]) for one in blocks
            ])  # fmt: skip
            verdicts = [
                verdict
                for one in blocks
                for verdict in publisher.watermark.block(of_verdict(one.block), source, one.checks)
            ]
            await publisher.blocks([chunk for one in blocks for chunk in one.chunks], verdicts)
        if stopped is not None and stopped.reason != "end":
            state.stopped, state.stopped_reason = str(stopped), stopped.reason
            await publisher.refuse(stopped, "", "ingest_stopped")
        tell(batch)
        if stopped is not None:
            return state


def _by_gap(batch: Iterable[EvmReady]) -> Iterator[tuple[tuple[int, int] | None, list[EvmReady]]]:
    """A batch cut before each block that has a gap before it: (the gap, the blocks from there on)."""
    gap, part = None, list[EvmReady]()
    for one in batch:
        if one.gap is not None:
            if part:
                yield gap, part
            gap, part = one.gap, []
        part.append(one)
    if part:
        yield gap, part


def _take(blocks: Iterator[EvmReady]) -> tuple[list[EvmReady], Stopped | None]:
    """The next batch, and why it is the last one (reason "end": there are no more)."""
    batch: list[EvmReady] = []
    while len(batch) < BATCH_BLOCKS:
        try:
            batch.append(next(blocks))
        except StopIteration:
            return batch, Stopped("end", "")
        except Stopped as stopped:
            return batch, stopped
    return batch, None
