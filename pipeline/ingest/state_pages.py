"""A proven state → messages of xrpl.states.v1.

Pages are cut by the entries alone, so whoever publishes the state of a ledger, from whatever nodes, however
often, publishes the same messages. One page is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pipeline.domain.decode.xrpl import DECODER_VERSION
from pipeline.domain.decode.xrpl_errors import RecordedError
from pipeline.domain.decode.xrpl_state import StateRows, state_rows
from pipeline.ingest.spool import RawEntry, Spool
from schemas.codec import Codec
from schemas.records import Check, XrplState
from topics.envelope import outgoing
from topics.producer import Outgoing

TOPIC: Final = "xrpl.states.v1"
PAGE_ENTRIES: Final = 512  # entries of one message; halved until it is below PAGE_BYTES
PAGE_BYTES: Final = 900_000

Header = Mapping[str, Any]
Page = tuple[XrplState, bytes]


class SnapshotError(Exception):
    """No starting state of this ledger: reason in one word, and one line for a person."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state that holds, in its spool. `messages` gives what to publish, `discard` ends it."""

    header: Header  # fields of schemas/xrpl/ledgers.avsc
    checks: list[Check]
    entries: int
    unseen: int  # drops in entries of types not known here; 0 as a rule
    unknown: Mapping[str, int]  # entries of types not known here, by type
    locks_on_lines: bool
    spool: Spool

    @property
    def run(self) -> int:
        """First ledger of the run that starts from this state; its run_coins are the header's total_coins."""
        return int(self.header["ledger_index"]) + 1

    def messages(
        self,
        codec: Codec,
        chain: str,
        chain_number: int,
        *,
        partition: int,
        gap_from: int | None = None,
        first_page: int = 0,
    ) -> Iterator[Outgoing]:
        """The state as messages for the chain's partition.

        `gap_from`: first missing ledger, where the chain was followed before. `first_page`: pages before it
        are left out, for they are in the topic. Sending any page again is harmless.
        """
        pager = _Pager(self, codec, self._base(chain, chain_number, gap_from))
        for record, value in _with_last(pager.pages(), codec):
            if record["page"] >= first_page:
                yield outgoing(codec, TOPIC, chain, record, value=value, partition=partition)

    def _base(self, chain: str, chain_number: int, gap_from: int | None) -> dict[str, Any]:
        header = self.header
        return {
            "chain": chain,
            "chain_number": chain_number,
            "run": self.run,
            "ledger_index": header["ledger_index"],
            "last": False,
            "close_time": header["close_time"],
            "ledger_hash": header["ledger_hash"],
            "account_hash": header["account_hash"],
            "total_coins": header["total_coins"],
            "gap_from": gap_from,
            "decoder_version": DECODER_VERSION,
        }

    def discard(self) -> None:
        """Remove the spool: everything is in the topic."""
        self.spool.discard()


def rows_of(page: list[RawEntry], *, zeros: bool = False, locks_on_lines: bool = False) -> StateRows:
    """What some raw entries hold. Raises SnapshotError("unreadable")."""
    recorded = [{"index": key.hex().upper(), "data": data.hex().upper()} for key, data in page]
    try:
        return state_rows(recorded, zeros=zeros, locks_on_lines=locks_on_lines)
    except RecordedError as error:
        raise SnapshotError("unreadable", f"the state can't be read: {error.reason}") from None


class _Pager:
    """Numbers pages and MPT rows over a whole state; lives for one pass."""

    def __init__(self, snapshot: Snapshot, codec: Codec, base: dict[str, Any]) -> None:
        self._snapshot, self._codec, self._base = snapshot, codec, base
        self._page = self._mpts = 0

    def pages(self) -> Iterator[Page]:
        """All pages, none marked as the last."""
        for part in _portions(self._snapshot.spool):
            yield from self._fitting(part)

    def _fitting(self, part: list[RawEntry]) -> Iterator[Page]:
        """Halve until a message is small enough or has one entry."""
        record = self._record(part)
        value = self._codec.encode(TOPIC, record)
        if len(part) > 1 and len(value) > PAGE_BYTES:
            middle = len(part) // 2
            yield from self._fitting(part[:middle])
            yield from self._fitting(part[middle:])
            return
        self._page += 1
        self._mpts += len(record["mpts"])
        yield record, value

    def _record(self, part: list[RawEntry]) -> XrplState:
        zeros = self._base["gap_from"] is not None
        rows = rows_of(part, zeros=zeros, locks_on_lines=self._snapshot.locks_on_lines)
        for number, row in enumerate(rows.mpts, start=self._mpts + 1):
            row["row_number"] = number
        record: Any = {
            **self._base,
            "page": self._page,
            "entries": len(part),
            "balances": rows.balances,
            "nfts": rows.nfts,
            "mpts": rows.mpts,
            "objects": rows.objects,
        }
        made: XrplState = record
        return made


def _portions(spool: Spool) -> Iterator[list[RawEntry]]:
    """The entries by PAGE_ENTRIES, however the nodes cut their pages; an empty state is one empty portion."""
    kept: list[RawEntry] = []
    for page in spool.pages():
        kept += page
        while len(kept) > PAGE_ENTRIES:
            yield kept[:PAGE_ENTRIES]
            kept = kept[PAGE_ENTRIES:]
    yield kept


def _with_last(pages: Iterator[Page], codec: Codec) -> Iterator[Page]:
    """The same, the last one marked."""
    before = next(pages)
    for page in pages:
        yield before
        before = page
    last: XrplState = {**before[0], "last": True}
    yield last, codec.encode(TOPIC, last)
