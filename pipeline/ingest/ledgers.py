"""Ledgers as nodes or files give them → whole blocks ready to publish: checked, in order, numbered by run.

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
from pipeline.domain.proof_errors import Contradiction, Unprovable
from pipeline.domain.verdict import Level
from pipeline.domain.xrpl_proof import transaction_root
from pipeline.ingest.chains import Chain
from pipeline.ingest.recorded import read_ledgers
from schemas.records import Check, XrplLedger, XrplTransaction

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
    checks: list[Check]

    @property
    def block(self) -> XrplLedger:
        """The ledger's header fields, as in every chunk."""
        return self.chunks[0][0]


class LedgerLine:
    """Turns a chain's ledgers, given in order, into its line of blocks."""

    def __init__(
        self,
        chain: Chain,
        accept_gap: bool,
        encode: Callable[[XrplLedger], bytes],
        level: Level = "header",
    ) -> None:
        self._chain, self._accept_gap, self._encode, self._level = chain, accept_gap, encode, level
        self._head: Head | None = None
        self._run = -1
        self._run_coins: int | None = None
        self._begun: XrplLedger | None = None  # a chunk of the ledger to come, where a kill cut it off
        self.gaps: list[tuple[int, int]] = []

    def resume(self, last: XrplLedger) -> int:
        """Go on after `last`, the last message of the chain's partition; the ledger to come next.

        If `last` is not the last chunk of its ledger, that ledger comes again: its parent is known from it.
        """
        self._head = head_of(last)
        self._run, self._run_coins = last["run"], last["run_coins"]
        index = last["ledger_index"]
        if last["chunk"] == last["chunks"] - 1:
            return index + 1
        self._begun = last
        total = last["total_coins"]
        before = None if total is None else total + last["fees"]
        self._head = Head(index - 1, last["parent_hash"], before, last["parent_close_time"])
        return index

    def begin_after(self, header: Recorded) -> int:
        """Go on after a ledger whose whole state is the start of a new run; the ledger to come next."""
        self._head = head_of(header)
        self._run, self._run_coins = header["ledger_index"] + 1, header["total_coins"]
        return self._run

    @property
    def head(self) -> Head | None:
        """The last ledger of the line."""
        return self._head

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
                yield self.block(recorded)
            except RecordedError as error:
                raise Stopped("undecodable", f"{error}{after}", item=recorded) from None

    def block(self, recorded: Recorded) -> Ready:
        """The next ledger of the line. Raises Stopped or RecordedError; then the line is as before."""
        header, transactions = decode_ledger(recorded)
        fees = sum(tx["fee"] for tx in transactions)
        gap, checks = self._judge(header, fees, recorded)
        index = header["ledger_index"]
        known = self._chain.ledgers.get(index)
        if known is not None and known[0] != identity(header):
            raise Stopped(
                "other_chain",
                f"ledger {index} is not the one that chain {self._chain.name} has",
                index,
                recorded,
            )
        begun = self._begun
        if begun is not None and identity(begun) != identity(header):
            raise Stopped(
                "other_ledger",
                f"ledger {index} is not the one whose first {begun['chunk'] + 1} chunks are published",
                index,
                recorded,
            )
        if self._head is None or gap:
            self._run = known[1] if known and not gap else self._run_at(header, gap)
            total = header.get("total_coins")
            self._run_coins = None if total is None or self._run != index else total + fees
        base = self._base(header, fees, len(transactions), gap or _gap_before(begun))
        ready = Ready(self._chunks(base, transactions), len(transactions), gap, checks)
        self._head, self._begun = head_of(header), None
        return ready

    def _run_at(self, header: Recorded, gap: tuple[int, int] | None) -> int:
        """Run of a first ledger that is not known: it continues a known chain, or begins one."""
        before = self._chain.ledgers.get(header["ledger_index"] - 1)
        return before[1] if before is not None and gap is None else header["ledger_index"]

    def _judge(
        self, header: Recorded, fees: int, recorded: Recorded
    ) -> tuple[tuple[int, int] | None, list[Check]]:
        """(the accepted gap before this ledger, what was checked). Raises Stopped."""
        gap = None
        try:
            try:
                checks = check_link(self._head, header, fees)
            except Gap as found:
                if not self._accept_gap:
                    raise Stopped("gap", f"{found}; --accept-gap goes on and begins a new run") from None
                gap = found.first, found.last
                checks = check_link(None, header, fees)
            if self._level == "full":
                checks.append(check_root(header, recorded))
        except BrokenChain as broken:
            raise Stopped(broken.reason, str(broken), header["ledger_index"], recorded) from None
        if gap:
            self.gaps.append(gap)
        return gap, checks

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


def _gap_before(begun: XrplLedger | None) -> tuple[int, int] | None:
    """The accepted gap that the first chunks of a ledger tell: all of its chunks are cut from the same message."""
    if begun is None or begun["gap_from"] is None or begun["gap_to"] is None:
        return None
    return begun["gap_from"], begun["gap_to"]


def rows(ready: Iterable[Ready]) -> list[tuple[int, str, int]]:
    """What the register of chains must know before these are published: index, identity, run."""
    return [(one.block["ledger_index"], identity(one.block), one.block["run"]) for one in ready]


def check_root(header: Recorded, recorded: Recorded) -> Check:
    """Recompute the root of the ledger's transactions from the transactions themselves.

    Raises BrokenChain where they are not those that the header names.
    """
    index, stated = header["ledger_index"], header.get("transaction_hash")
    check: Check = {"name": "transaction_root", "outcome": "not_applicable", "detail": ""}
    if stated is None:
        return {**check, "detail": "the recording does not tell transaction_hash"}
    try:
        root = transaction_root(recorded)
    except Unprovable as reason:
        return {**check, "detail": str(reason)}
    except Contradiction as found:
        raise BrokenChain(found.reason, f"ledger {index}: {found}") from None
    if root != stated:
        raise BrokenChain(
            "transaction_root",
            f"ledger {index}: its transactions have the root {root}, its header says {stated}",
        )
    return {**check, "outcome": "holds"}


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
