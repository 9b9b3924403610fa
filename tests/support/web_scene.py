"""What the pages' tests look at: the scene of the reads, the recorded XRPL chain with verdicts up to a ledger, and what
a malicious user would write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pipeline.agents.books_records import transfer_records
from pipeline.domain.changes import asset_changes
from sinks.bookkeeper import Bookkeeper
from sinks.embedded_books import connect
from sinks.sink import HistoryMessage
from tests.support.read_scene import case, play, registered
from tests.support.read_world import World, world
from tests.support.recorded import posting, recorded_blocks, verdicts_up_to

CHAIN: Final = "xrpl:test"
NFT: Final = "0008000056702189A0178930A767374B33E794D68EE6397CDCBA292E00000020"
TOKEN: Final = f"{CHAIN}/nft:{NFT}"  # minted, then passed on five times
MPT: Final = f"{CHAIN}/mpt:00000012C694BF05CB1E4FAA607F2B2CF7B7A5991CC0F7A7"  # four holders in the end
VERIFIED: Final = 60  # ledgers up to this one have a verdict
EVIL: Final = "<script>window.hacked=1</script>\"'><img src=x onerror=window.hacked=1>"

STORY = [
    *registered("evil-1", 20, title=EVIL, thumbnail_url="javascript:window.hacked=1"),
    case("COMMENT_ADDED", "evil-1", 21, {"comment_id": EVIL}, user_id="bob"),
    *registered("coin-1", 22, token=TOKEN, custody_type="onchain"),
    case("PACK_OPENED", "pack-1", 23, {}, user_id="alice"),
    case("LISTED", "card-3", 23, {"price": "99.95", "currency": "USD"}, user_id="bob"),
    case("TRANSFERRED", "card-2", 24, {"to_user_id": "bob"}, user_id="alice"),
]


def _chain() -> Iterator[tuple[str, dict[str, Any]]]:
    """(topic, record) of the recorded chain, of its books, of what its ledgers did to assets, and of verdicts."""
    blocks = list(recorded_blocks(CHAIN))
    postings = [posting(block) for block in blocks]
    keeper = Bookkeeper(connect(sync=False))
    for block, of, booked in zip(blocks, postings, keeper.apply(postings), strict=True):
        yield "xrpl.ledgers.v1", block
        for record in transfer_records(block, of, booked, keeper.book_of):
            yield "books.transfers.v1", dict(record)
        for changes in asset_changes(block):  # type: ignore[arg-type]
            yield "assets.changes.v1", dict(changes)
    for verdict in verdicts_up_to(VERIFIED, blocks):
        yield "chains.verdicts.v1", verdict


@contextmanager
def web_world(folder: Path) -> Iterator[World]:
    """All of it, in a data directory and behind ClickHouse's port."""
    with world(folder) as made:
        play(made)
        made.tell("assets", STORY)
        offsets: dict[str, int] = {}
        told = []
        for topic, record in _chain():
            offset = offsets[topic] = offsets.get(topic, -1) + 1
            told.append(HistoryMessage(topic, 3, offset, 0, made.codec.encode(topic, record)))
        made.put(told)
        yield made
