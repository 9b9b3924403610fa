"""One audit: which ranges and chains are looked at, in which order, and what can't be looked at.

`run` asks through `ask` alone, so it works on a stopped data directory, on a server and through a running `up`; what it
finds is kept by the caller (`AuditStore`). A question that ClickHouse can't answer makes a Result that says so, and
the others go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Final

from pipeline.domain.audit import Range, Result, findings, unlooked
from sinks.audit import BLOCK_TOPICS, TRANSFERS, Ask, Place, Seal, TopicAudit, sound_to
from sinks.audit_booked import check_booked
from sinks.audit_books import check_books, check_legs
from sinks.audit_chains import Blocks, chains, check_chain
from sinks.audit_rollups import check_rollups
from sinks.audit_sql import Audited, within
from sinks.books import Books, BooksError
from sinks.clickhouse_client import QueryError
from sinks.ddl_shape import literal

PATIENCE_S: Final = 600.0  # of what is running: the role reads quarantine.v1 too, one topic after the other
STEADY_S: Final = 5.0  # between two looks at what moves


@dataclass(frozen=True, slots=True)
class Asked:
    """What an audit is to look at."""

    topic: str = ""  # "" = all
    chain: str = ""  # "" = all
    since: str = ""  # ISO 8601: only what was committed from then on
    full: bool = False  # every transfer by its id
    no_books: str = ""  # why the books, which there are, can't be asked
    new: bool = False  # only what lies beyond `after`, and transfers of that alone
    after: Mapping[Place, int] = field(default_factory=dict)  # last offset audited before
    commits: int = 0  # of one partition at the most, the oldest first; 0 = all
    begin: str = ""  # topic to begin with, where the last audit ran out of time
    settle_s: float = 0.0  # younger commits are left to the next audit
    until: float = float("inf")  # monotonic: topics not begun by then, but for the first, have to wait
    stop: Callable[[], bool] = bool  # likewise, the first too


@dataclass(frozen=True, slots=True)
class Told:
    """What an audit found."""

    ranges: tuple[Range, ...]  # that were looked at
    results: tuple[Result, ...]
    begin: str = ""  # the first topic that was not begun
    left: bool = False  # is there more to look at, by time or by number of commits?

    @property
    def findings(self) -> list[Result]:
        return findings(self.results)

    def of_sound(self) -> Told:
        """Of the ranges without a fault alone."""
        ends = sound_to(self.ranges, self.results)
        ranges = tuple(one for one in self.ranges if ends[one[:3]] == one.last)
        places = {one[:3] for one in ranges}
        results = (
            one
            for one in self.results
            if one.ok and (one.epoch, one.scope.partition(" → ")[0], one.partition) in places
        )
        return Told(ranges, tuple(results))


def run(
    ask: Ask,
    tables: Mapping[str, Sequence[Audited]],
    asked: Asked,
    books: Books | None = None,
    sealed: Mapping[Seal, tuple[str, Sequence[str]]] | None = None,
) -> Told:
    """Look at all that is asked for. Raises QueryError where not even sink_progress can be read."""
    results: list[Result] = []
    there = {
        str(row["name"]) for row in ask("SELECT name FROM system.tables WHERE database = currentDatabase()")
    }
    audit = TopicAudit(ask, tables, PATIENCE_S if asked.settle_s else 0.0)
    looked: list[Range] = []
    begin = ""
    ranges = audit.ranges(asked.after, asked.settle_s, asked.topic, asked.since) if not asked.chain else []
    part = audit.first_commits(ranges, asked.commits)
    for topic, mine in _in_turn(part, asked.begin):
        if asked.stop() or (looked and time.monotonic() > asked.until):
            begin = topic
            break
        looked += mine
        results += guarded(
            "rows", topic, _topic(ask, audit, tables[topic], topic, mine, asked, sealed or {}, there)
        )
    if asked.topic in ("", *BLOCK_TOPICS):
        told = looked
        if asked.chain:  # all of its blocks but those that are being written
            told = [one for topic in BLOCK_TOPICS for one in audit.ranges({}, asked.settle_s, topic)]
        results += guarded("blocks", "chains", _chains(ask, asked, told))
    if asked.new or asked.since or asked.topic:
        results += _new_legs(ask, looked, books, asked.no_books)
    elif not asked.stop():
        results += _books(ask, asked, books)
    return Told(tuple(looked), tuple(results), begin, bool(begin) or part != ranges)


def _in_turn(ranges: Iterable[Range], begin: str) -> Iterator[tuple[str, list[Range]]]:
    """The ranges by topic, in the order of names, from `begin` on and then from the start."""
    turn = sorted(ranges, key=lambda one: (one.topic < begin, one.topic))
    for topic, some in groupby(turn, key=lambda one: one.topic):
        yield topic, list(some)


def guarded(check: str, scope: str, results: Iterable[Result]) -> Iterator[Result]:
    """The Results, and one more where a question can't be answered."""
    try:
        yield from results
    except QueryError as fault:
        yield unlooked(check, scope, str(fault)[:300])


def _topic(
    ask: Ask, audit: TopicAudit, tables: Sequence[Audited], topic: str, ranges: Sequence[Range], asked: Asked,
    sealed: Mapping[Seal, tuple[str, Sequence[str]]], there: set[str],
) -> Iterator[Result]:  # fmt: skip
    gone = [table.name for table in tables if table.name not in there]
    for name in gone:
        yield from _gone(ask, topic, name)
    whole = not asked.new and not asked.since
    yield from audit.check(ranges, whole, sealed, set(gone))
    yield from check_rollups(ask, topic, ranges, {table.name for table in tables} - set(gone))


def _gone(ask: Ask, topic: str, table: str) -> Iterator[Result]:
    """A table that is not there: a finding where commits tell of rows in it."""
    (row,) = ask(
        f"SELECT sum(rows) AS n FROM sink_progress WHERE topic = {literal(topic)} AND `table` = {literal(table)}"
        " SETTINGS final = 0"
    )
    if int(row["n"] or 0):
        yield Result("rows", f"{topic} → {table}", str(row["n"]), "no such table", False)


def _chains(ask: Ask, asked: Asked, ranges: Sequence[Range]) -> Iterator[Result]:
    """Chains, or the one that is named, with the blocks that lie in the ranges."""
    every = [one for one in chains(ask) if asked.chain in ("", one.chain)]
    spans: dict[int, tuple[int, int]] = {}
    for topic in BLOCK_TOPICS:
        mine = [one for one in ranges if one.topic == topic]
        if not mine:
            continue
        of = within(mine, "_epoch", "_partition", "_offset", "_offset")
        for row in ask(
            "SELECT chain_number, min(block) AS first, max(block) AS last FROM sink_applied"
            f" WHERE _topic = {literal(topic)} AND {of} GROUP BY chain_number SETTINGS final = 0"
        ):
            spans[int(row["chain_number"])] = (int(row["first"]), int(row["last"]))
    for blocks in every:
        if blocks.chain_number in spans:
            first, last = spans[blocks.chain_number]
            # one block more, so that the first is held against the one before it
            begin = max(0, first - 1) if asked.new or asked.since else first
            part = replace(blocks, first=begin, last=last)
            yield from guarded("blocks", blocks.chain, check_chain(ask, part))


def _new_legs(ask: Ask, ranges: Sequence[Range], books: Books | None, no_books: str) -> Iterator[Result]:
    """The transfers of the ranges, each looked up in the books: those have them before the history does."""
    mine = [one for one in ranges if one.topic == TRANSFERS]
    if not mine:
        return
    if books is None:
        if no_books:
            yield unlooked("legs", TRANSFERS, no_books)
        return
    of = within(mine, "_epoch", "_partition", "_offset", "_offset")
    try:
        yield from guarded("legs", TRANSFERS, check_legs(ask, books, of))
    except BooksError as fault:
        yield unlooked("legs", TRANSFERS, str(fault))


def _books(ask: Ask, asked: Asked, books: Books | None) -> Iterator[Result]:
    if books is None:
        why = asked.no_books or "the books can't be asked: see why above"
        yield unlooked("accounts", asked.chain or "books", why)
        return
    live = asked.settle_s > 0
    try:
        told = _steady(
            lambda: guarded("accounts", "books", check_books(ask, books, asked.full, asked.chain, live)), live
        )
    except BooksError as fault:
        told = [unlooked("accounts", "books", str(fault))]
    yield from told
    behind = any(one.ok is None for one in told)
    for blocks in chains(ask):
        if asked.chain not in ("", blocks.chain):
            continue
        if behind:
            yield unlooked("booked", blocks.chain, "the history does not have all of the books yet")
        else:
            yield from _steady(partial(_booked, ask, blocks), live)


def _booked(ask: Ask, blocks: Blocks) -> Iterator[Result]:
    return guarded("booked", blocks.chain, check_booked(ask, blocks.chain, blocks.chain_number))


def _steady(look: Callable[[], Iterable[Result]], live: bool) -> list[Result]:
    """What is told; where things move while they are looked at, only such findings as a second look tells alike."""
    told = list(look())
    if live and findings(told):
        time.sleep(STEADY_S)
        again = {(one.check, one.scope, one.expected, one.found) for one in findings(look())}
        told = [
            one
            for one in told
            if one.ok is not False or (one.check, one.scope, one.expected, one.found) in again
        ]
    return told
