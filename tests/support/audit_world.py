"""A history with its books to audit: applications' scenes, recorded XRPL ledgers, a made-up EVM chain that reorganises.

All of it went through the real rules, books and sink. Damage is planted by SQL and taken back: `damaged` puts the
tables aside and back again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.agents.books_records import transfer_records
from pipeline.domain.audit import Result
from pipeline.domain.findings import quarantined
from schemas.loader import schemas
from sinks.audit_books import check_books
from sinks.audit_run import Asked, Told, run
from sinks.audit_sql import audited_tables
from sinks.audit_store import WIDE, asking
from sinks.bookkeeper import Bookkeeper
from sinks.clickhouse_client import WRITE_SETTINGS, Place
from sinks.sink import HistoryMessage
from tests.support import audit_scene, recorded
from tests.support.books_role import Role
from tests.support.evm_rows import of_assets
from tests.support.evm_story import Story
from tests.support.read_scene import play
from tests.support.read_world import EPOCH, World, world

LEDGERS, BLOCKS, TRANSFERS = "xrpl.ledgers.v1", "evm.blocks.v1", "books.transfers.v1"
VERDICTS, ASSETS, CONTRACTS = "chains.verdicts.v1", "assets.changes.v1", "evm.contracts.v1"
XRPL, EVM = "xrpl:test", "eip155:1"
STORY_SEED, STORY_STEPS = 11, 30
LEDGERS_KEPT = 36
BATCH = 12
TABLES = audited_tables(schemas())


class AuditWorld:
    """The world and how it is asked, written to and audited."""

    def __init__(self, made: World, folder: Path) -> None:
        self.world, self.place = made, Place(path=folder / "clickhouse")
        self.books = made.books.store._books
        self._client = self.place.connect(WRITE_SETTINGS)
        self.sealed: dict[Any, Any] = {}

    def fill(self) -> None:
        """Everything in it, in several commits a topic; one message is refused."""
        play(self.world)
        told = [
            *self.world.tell("anchors", audit_scene.MONEY),
            *self.world.tell("positions", audit_scene.POSITIONS),
            *self.world.tell("tokens", audit_scene.TOKENS),
        ]
        named = ", ".join(f"'{event}'" for event in told)
        refused = self.world.rows(
            f"SELECT * FROM event_outcomes WHERE status != 'applied' AND event_id IN ({named})"
        )
        assert not refused, refused
        keeper = Bookkeeper(self.books)
        for some in _batches(islice(recorded.recorded_blocks(XRPL), LEDGERS_KEPT), BATCH):
            self._tell(keeper, LEDGERS, some, [recorded.posting(block) for block in some])
        role = Role(self.books)
        for some in _batches(evm_records(), 2 * BATCH):
            role.published.clear()
            assert not role.book(some).stops
            told = [self._message(BLOCKS, record) for record in some]
            self.world.put([*told, *(self._message(TRANSFERS, record) for record in role.records(TRANSFERS))])
        self._replaced()
        self._refuse()

    def _tell(self, keeper: Bookkeeper, topic: str, blocks: Sequence[Any], postings: Sequence[Any]) -> None:
        told = [self._message(topic, block) for block in blocks]
        for block, posting, posted in zip(blocks, postings, keeper.apply(postings), strict=True):
            records = transfer_records(block, posting, posted, keeper.book_of)
            told += [self._message(TRANSFERS, record) for record in records]
        self.world.put(told)

    def _message(self, topic: str, record: Any) -> HistoryMessage:
        return HistoryMessage(topic, 0, self.world._next(topic), 0, self.world.codec.encode(topic, record))

    def _replaced(self) -> None:
        """Topics whose later messages replace rows: what is last of each, and what is not."""
        ledgers = islice(recorded.recorded_blocks(XRPL), LEDGERS_KEPT)
        told = [(VERDICTS, one) for one in recorded.verdicts_up_to(LEDGERS_KEPT, ledgers)]
        told += [(ASSETS, one) for one in of_assets(evm_records())]
        told += [(CONTRACTS, contract(name, at)) for name, at in (("a", 0), ("b", 0), ("a", 1))]
        self.world.put(self._message(topic, record) for topic, record in told)

    def _refuse(self) -> None:
        """A ledger that can't be read, in quarantine as the role puts it there."""
        bad = HistoryMessage(LEDGERS, 0, self.world._next(LEDGERS), 0, b"no message at all")
        (refused,) = self.world.history.write(EPOCH, [bad]).refused
        item = quarantined(
            "history", LEDGERS, 0, bad.offset, EPOCH, refused.reason, refused.detail, bad.message
        )
        self.world.put([self._message("quarantine.v1", item)])

    def do(self, *statements: str) -> None:
        """Damage, waited for."""
        for statement in statements:
            self._client.command(statement)

    def one(self, sql: str) -> dict[str, Any]:
        (row,) = self.rows(sql)
        return row

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """A query that hides no duplicates."""
        with asking(self.place, {**WIDE, "final": 0}) as ask:
            return list(ask(sql))

    def audit(self, topic: str = "", books: Any = None, **how: Any) -> Told:
        """One audit."""
        with asking(self.place, WIDE) as ask:
            told = run(ask, TABLES, Asked(topic=topic, **how), books, self.sealed)
        assert all(one.ok is not None for one in told.results), "every question was answered"
        return told

    def audit_books(self) -> list[Result]:
        """Accounts and every transfer against the books, balances against those."""
        with asking(self.place, WIDE) as ask:
            return list(check_books(ask, self.books, True))

    @contextmanager
    def damaged(self, *tables: str) -> Iterator[None]:
        """What is done to these tables inside is undone at the end."""
        for table in tables:
            self.do(
                f"CREATE TABLE {table}_aside AS {table}", f"INSERT INTO {table}_aside SELECT * FROM {table}"
            )
        try:
            yield
        finally:
            for table in tables:
                self.do(f"EXCHANGE TABLES {table} AND {table}_aside", f"DROP TABLE {table}_aside SYNC")

    def close(self) -> None:
        self._client.close()


def evm_records() -> list[dict[str, Any]]:
    """The story's blocks, with hashes whose first digits tell them apart as the books want it."""

    def real(name: str) -> str:
        return f"0x{blake2b(name.encode(), digest_size=32).hexdigest()}"

    told = Story(STORY_SEED).tell(STORY_STEPS).told
    return [
        {**one, "block_hash": real(one["block_hash"]), "parent_hash": real(one["parent_hash"])}
        for one in told
    ]


def contract(name: str, sequence: int) -> dict[str, Any]:
    """What is told of a watched contract for the `sequence`th time."""
    address = f"0x{name * 40}"
    return {
        "contract": f"{EVM}/{address}", "chain": EVM, "chain_number": 100, "address": address, "kind": "erc20",
        "source": "settings", "factory": None, "event": None, "start_block": 5, "coverage": "complete",
        "created_block": None, "created_hash": None, "time": 0, "status": "watched", "sequence": sequence,
    }  # fmt: skip


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


@contextmanager
def audit_world(folder: Path) -> Iterator[AuditWorld]:
    """A filled one."""
    with world(folder) as made:
        filled = AuditWorld(made, folder)
        filled.fill()
        try:
            yield filled
        finally:
            filled.close()
