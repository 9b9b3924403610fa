"""Starting states in the books: pages of xrpl.states.v1 → openings, in any order among themselves.

A page says what was before ledger N+1, so it does not follow the line of blocks and nothing waits for it:
an opening has its id from (account, run), and whoever comes first, page or ledger, posts the same one. What
is asked of a page is that it belongs to the run that the books are in, or begin. Pages of a later run must
come after the first ledger of that run, for until then the books are not where the gap left them.
docs/decisions/0007.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from pipeline.agents.role import Done, Message
from pipeline.catalog import with_postings
from pipeline.domain.findings import alerts_of
from pipeline.domain.posting.legs import Finding
from schemas.codec import Codec, WireError
from schemas.records import XrplState
from sinks.bookkeeper import BlockPosting, Bookkeeper
from topics.envelope import outgoing
from topics.producer import Outgoing

STATES: Final = "xrpl.states.v1"


class StatePages:
    """What the books role does with pages; it gives its own ways to quarantine and to tell transfers."""

    def __init__(
        self,
        codec: Codec,
        keeper: Bookkeeper,
        quarantine: Callable[[Message, str, str], list[Outgoing]],
        records: Callable[[Any, BlockPosting, Any, Callable[[str], int]], list[Any]],
    ) -> None:
        self._codec, self._keeper, self._quarantine, self._records = codec, keeper, quarantine, records
        self._rule = with_postings()[STATES]

    def process(self, batch: list[Message]) -> Done:
        """Book a batch of pages. A page of another run goes to quarantine; one that is early waits."""
        done = Done()
        pages: list[tuple[XrplState, BlockPosting]] = []
        began: dict[tuple[str, int], bool] = {}
        for message in batch:
            if message.partition in done.stops:
                continue
            try:
                page: Any = self._codec.decode(message.value)[1]
            except WireError as error:
                done.outgoing += self._quarantine(message, error.reason, str(error))
                continue
            if not self._belongs(page, began):
                if page["gap_from"] is None:
                    done.outgoing += self._quarantine(message, "other_run", _other_run(page))
                else:
                    done.stops[message.partition] = (message.offset, _early(page))
                continue
            posting = self._posting(page)
            pages.append((page, posting))
            done.outgoing += self._findings(page, posting.postings.findings)
        self._book(pages, done)
        return done

    def _belongs(self, page: XrplState, began: dict[tuple[str, int], bool]) -> bool:
        """Is the page's run that of the books, or (told once a batch) does it begin them?"""
        chain, run = page["chain"], page["run"]
        if (chain, run) not in began:
            found = self._keeper.began(chain, run)
            others = any(of == chain for (of, _), true in began.items() if true)
            first = found is None and not others and page["gap_from"] is None
            began[chain, run] = found is True or first
        return began[chain, run]

    def _book(self, pages: list[tuple[XrplState, BlockPosting]], done: Done) -> None:
        transfers = entries = 0
        for (page, posting), mine in zip(
            pages, self._keeper.apply([posting for _, posting in pages]), strict=True
        ):
            transfers += len(mine)
            entries += page["entries"]
            place = {**page, "chunk": page["page"]}
            for record in self._records(place, posting, mine, self._keeper.book_of):
                done.outgoing.append(outgoing(self._codec, "books.transfers.v1", record["asset"], record))
        done.counts = {"state_pages": len(pages), "state_entries": entries, "transfers": transfers}

    def _posting(self, page: XrplState) -> BlockPosting:
        return BlockPosting(
            chain=page["chain"],
            chain_number=page["chain_number"],
            run=page["run"],
            block=page["ledger_index"],
            block_hash=page["ledger_hash"],
            chunk=page["page"],
            chunks=0,
            run_coins=page["total_coins"],
            postings=self._rule(page),
            hashes={},
            state=True,
            first_run=page["gap_from"] is None,
        )

    def _findings(self, page: XrplState, findings: list[Finding]) -> list[Outgoing]:
        notes = alerts_of(findings, page["chain"], page["ledger_index"], page["close_time"])
        return [outgoing(self._codec, "control.alerts.v1", note["rule"], note) for note in notes]


def _other_run(page: XrplState) -> str:
    return (
        f"the state of ledger {page['ledger_index']} starts run {page['run']}, but the books of"
        f" {page['chain']} began another way; a snapshot starts new books"
    )


def _early(page: XrplState) -> str:
    return f"{page['chain']}: the state of ledger {page['ledger_index']} waits for ledger {page['run']} in the books"
