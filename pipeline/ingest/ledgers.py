"""Recorded ledgers → whole blocks ready to publish: checked, in order, numbered by chain and run.

Knows no broker and no meaning: it decodes, judges whether a ledger follows the one before, and packs.
Only an accepted gap begins a new run. What is wrong is raised as Stopped with the ledger itself, so
that the runner can put it in quarantine whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.domain.chain_link import BrokenChain, Gap, Head, check_link, head_of, identity
from pipeline.domain.decode.xrpl import DECODER_VERSION, decode_ledger
from pipeline.domain.decode.xrpl_errors import RecordedError
from pipeline.domain.decode.xrpl_shapes import read_header, split_ledger
from pipeline.ingest.chains import Chain
from pipeline.ingest.recorded import read_ledgers
from schemas.records import XrplLedger, XrplTransaction

CHUNK_BYTES = 900_000

Recorded = Mapping[str, Any]


class Stopped(Exception):
    """The ingest can't go on: reason in one word, one line for a person, the item whole (if any)."""

    def __init__(self, reason: str, detail: str, place: int = -1, item: Any = None) -> None:
        super().__init__(detail)
        self.reason, self.place, self.item = reason, place, item


@dataclass(frozen=True, slots=True)
class Ready:
    """One ledger ready to publish, as its chunks."""

    chunks: list[tuple[XrplLedger, bytes]]  # record, encoded message
    transactions: int
    gap: tuple[int, int] | None


class LedgerLine:
    """Turns a recording of one chain into its line of blocks."""

    def __init__(self, chain: Chain, accept_gap: bool, encode: Callable[[XrplLedger], bytes]) -> None:
        self._chain, self._accept_gap, self._encode = chain, accept_gap, encode
        self._head: Head | None = None
        self._run = -1
        self._run_coins: int | None = None
        self.gaps: list[tuple[int, int]] = []

    def blocks(self, recording: Iterator[Recorded]) -> Iterator[Ready]:
        """The recording's ledgers, each checked against the one before. Raises Stopped."""
        while True:
            after = f" (after ledger {self._head.ledger_index})" if self._head else ""
            try:
                recorded = next(recording)
            except StopIteration:
                return
            except RecordedError as error:
                raise Stopped(type(error).__name__.lower(), f"{error}{after}") from None
            try:
                yield self._block(recorded)
            except RecordedError as error:
                raise Stopped("undecodable", f"{error}{after}", item=recorded) from None

    def _block(self, recorded: Recorded) -> Ready:
        header, transactions = decode_ledger(recorded)
        fees = sum(tx["fee"] for tx in transactions)
        gap = self._judge(header, fees, recorded)
        index = header["ledger_index"]
        known = self._chain.ledgers.get(index)
        if self._head is None or gap:
            self._run = known[1] if known and not gap else self._run_at(header, gap)
            total = header.get("total_coins")
            self._run_coins = None if total is None or self._run != index else total + fees
        self._head = head_of(header)
        base = self._base(header, fees, len(transactions), gap)
        return Ready(self._chunks(base, transactions), len(transactions), gap)

    def _run_at(self, header: Recorded, gap: tuple[int, int] | None) -> int:
        """Run of a first ledger that is not known: it continues a known chain, or begins one."""
        before = self._chain.ledgers.get(header["ledger_index"] - 1)
        return before[1] if before is not None and gap is None else header["ledger_index"]

    def _judge(self, header: Recorded, fees: int, recorded: Recorded) -> tuple[int, int] | None:
        try:
            check_link(self._head, header, fees)
        except Gap as found:
            if not self._accept_gap:
                raise Stopped("gap", f"{found}; --accept-gap goes on and begins a new run") from None
            self.gaps.append((found.first, found.last))
            return found.first, found.last
        except BrokenChain as broken:
            raise Stopped(broken.reason, str(broken), header["ledger_index"], recorded) from None
        return None

    def _base(self, header: Recorded, fees: int, count: int, gap: tuple[int, int] | None) -> dict[str, Any]:
        return {
            "chain": self._chain.name,
            "chain_number": self._chain.number,
            "run": self._run,
            "ledger_index": header["ledger_index"],
            "close_time": header.get("close_time") or 0,
            **{
                name: header.get(name)
                for name in (
                    "ledger_hash", "parent_hash", "transaction_hash", "account_hash", "total_coins",
                    "close_time_resolution", "close_flags", "parent_close_time",
                )
            },
            "run_coins": self._run_coins,
            "gap_from": gap[0] if gap else None,
            "gap_to": gap[1] if gap else None,
            "transaction_count": count,
            "fees": fees,
            "decoder_version": DECODER_VERSION,
        }  # fmt: skip

    def _chunks(self, base: dict[str, Any], transactions: list[Any]) -> list[tuple[XrplLedger, bytes]]:
        """The ledger as messages of at most CHUNK_BYTES, split between transactions."""
        whole = self._record(base, transactions, 0, 1)
        encoded = self._encode(whole)
        if len(encoded) <= CHUNK_BYTES or len(transactions) < 2:
            return [(whole, encoded)]
        parts = list(split(transactions, lambda part: len(self._encode(self._record(base, part, 0, 1)))))
        records = [self._record(base, part, number, len(parts)) for number, part in enumerate(parts)]
        return [(record, self._encode(record)) for record in records]

    @staticmethod
    def _record(base: dict[str, Any], transactions: list[XrplTransaction], chunk: int, chunks: int) -> Any:
        return {**base, "chunk": chunk, "chunks": chunks, "transactions": transactions}

    def rows(self, ready: Iterable[Ready]) -> list[tuple[int, str, int]]:
        """What the register of chains must know before these are published."""
        return [
            (block["ledger_index"], identity(block), block["run"])
            for one in ready
            for block, _ in one.chunks[:1]
        ]


def split(
    items: list[Any], size: Callable[[list[Any]], int], limit: int = CHUNK_BYTES
) -> Iterator[list[Any]]:
    """Halve until every part is within the limit or has one item."""
    if len(items) < 2 or size(items) <= limit:
        yield items
        return
    middle = len(items) // 2
    yield from split(items[:middle], size, limit)
    yield from split(items[middle:], size, limit)


def read_headers(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """Headers of the recorded ledgers, as far as they can be read. RecordedError if not even the first can."""
    told = False
    try:
        for recorded in read_ledgers(paths):
            yield read_header(split_ledger(recorded))
            told = True
    except RecordedError:
        if not told:
            raise
