"""One audit: which ranges and chains are looked at, in which order, and what can't be looked at.

`run` asks through `ask` alone, so it works on a stopped data directory, on a server and through a running `up`; what it
finds is kept by the caller (`AuditStore`). A question that ClickHouse can't answer makes a Result that says so, and
the others go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Final

from pipeline.domain.audit import Range, Result, findings, unlooked
from sinks.audit import BLOCK_TOPICS, TRANSFERS, Ask, Place, Seal, TopicAudit, sound_to, topics_of
from sinks.audit_booked import check_blocks, check_booked
from sinks.audit_books import check_books, check_legs
from sinks.audit_chains import Blocks, chains, check_chain
from sinks.audit_rollups import check_rollups
from sinks.audit_sql import Audited, within
from sinks.audit_views import check_views
from sinks.books import Books, BooksError
from sinks.clickhouse_client import QueryError
from sinks.clickhouse_commits import PROGRESS_TABLE
from sinks.clickhouse_plan import FoundTable
from sinks.ddl_shape import literal

PATIENCE_S: Final = 600.0  # of what is running: the role reads quarantine.v1 too, one topic after the other
STEADY_S: Final = 5.0  # between two looks at what moves
MOVED: Final = "moved while it was looked at"
_BOOKS: Final = ("accounts", "booked", "legs")
_CHAINS: Final = ("blocks", "balances", "moves")


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
    audited: Mapping[Place, int] = field(default_factory=dict)  # the same, which must all still be there
    commits: int = 0  # of one partition at the most, the oldest first; 0 = all
    uncut: Set[str] = frozenset()  # topics to which `commits` does not apply
    begin: str = ""  # topic to begin with, where the last audit ran out of time; unless `new`: the rest alone
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
    unbegun: Set[str] = frozenset()  # topics with something to look at that this audit did not look at

    @property
    def findings(self) -> list[Result]:
        return findings(self.results)

    def looked_at(self, one: Result) -> bool:
        """Has this audit looked at what an earlier one found, so that it would have told it again?"""
        topics = topics_of(one)
        if any(_unanswered(other, one) for other in self.results) or self.unbegun & set(topics):
            return False
        place = (one.epoch, topics[0], one.partition) if topics else None
        return all(one.first <= of.last for of in self.ranges if of[:3] == place)

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


def _unanswered(other: Result, one: Result) -> bool:
    """Is `other` a question without an answer that would have told of `one`?"""
    if other.ok is not None:
        return False
    if other.check == "views" or one.check == "views":  # their names are no topics'
        return (other.check, other.scope) == (one.check, one.scope)
    if other.check in _BOOKS:
        all_of_them = one.check in _BOOKS if other.scope == "books" else one.check == other.check == "legs"
        return all_of_them or (one.check == other.check and one.scope.startswith(other.scope))
    if other.check in _CHAINS:
        return one.check in _CHAINS and (other.scope == "chains" or one.scope.startswith(other.scope))
    return one.check not in (*_BOOKS, *_CHAINS) and one.scope.startswith(other.scope)


def run(
    ask: Ask,
    tables: Mapping[str, Sequence[Audited]],
    asked: Asked,
    books: Books | None = None,
    sealed: Mapping[Seal, tuple[str, Sequence[str]]] | None = None,
) -> Told:
    """Look at all that is asked for. Raises QueryError where not even sink_progress can be read."""
    results: list[Result] = []
    found = "SELECT name, engine, comment FROM system.tables WHERE database = currentDatabase()"
    there = {str(row["name"]): FoundTable(row["engine"], comment=row["comment"]) for row in ask(found)}
    if PROGRESS_TABLE not in there:
        raise QueryError(
            f"there is no table {PROGRESS_TABLE}: start the history role once, it makes its tables"
        )
    audit = TopicAudit(ask, tables, PATIENCE_S if asked.settle_s else 0.0)
    looked: list[Range] = []
    begin = ""
    ranges = audit.ranges(asked.after, asked.settle_s, asked.topic, asked.since) if not asked.chain else []
    cut = audit.first_commits(ranges, asked.commits)
    part = [one if one.topic in asked.uncut else less for one, less in zip(ranges, cut, strict=True)]
    for topic, mine in _in_turn(part, asked.begin, asked.new):
        if asked.stop() or (looked and time.monotonic() > asked.until):
            begin = topic
            break
        looked += mine
        results += guarded(
            "rows", topic, _topic(ask, audit, tables[topic], topic, mine, asked, sealed or {}, there)
        )
    if not (begin or asked.chain or asked.since or asked.stop()):
        results += _others(audit, asked, there, {one.topic for one in part})
    if asked.topic in ("", *BLOCK_TOPICS):
        told = looked
        if asked.chain:  # all of its blocks but those that are being written
            told = [one for topic in BLOCK_TOPICS for one in audit.ranges({}, asked.settle_s, topic)]
        results += guarded("blocks", "chains", _chains(ask, asked, told))
    if asked.new or asked.since or asked.topic:
        results += _new_legs(ask, looked, books, asked.no_books)
    elif not asked.stop():
        results += _books(ask, asked, books)
        results += () if asked.chain else check_views(there)
    unbegun = {one.topic for one in part} - {one.topic for one in looked}
    return Told(tuple(looked), tuple(results), begin, bool(begin) or part != ranges, unbegun)


def _in_turn(ranges: Iterable[Range], begin: str, around: bool) -> Iterator[tuple[str, list[Range]]]:
    """The ranges by topic, in the order of names, from `begin` on; `around`: and then from the start."""
    mine = (one for one in ranges if around or one.topic >= begin)
    turn = sorted(mine, key=lambda one: (one.topic < begin, one.topic))
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
    sealed: Mapping[Seal, tuple[str, Sequence[str]]], there: Container[str],
) -> Iterator[Result]:  # fmt: skip
    gone = {table.name for table in tables if table.name not in there}
    for name in sorted(gone):
        yield from _gone(ask, topic, name)
    whole = not asked.new and not asked.since
    yield from audit.check(ranges, whole, sealed, gone)
    if whole:
        yield from audit.beyond(topic, gone)
    yield from check_rollups(ask, topic, ranges, {table.name for table in tables} - gone)


def _others(audit: TopicAudit, asked: Asked, there: Container[str], committed: Set[str]) -> Iterator[Result]:
    """What no range shows: rows of topics without a commit, and offsets that were committed once."""
    yield from guarded("offsets", "topics", audit.forgotten(asked.audited, asked.topic))
    if asked.new:
        return
    for topic, tables in audit.tables.items():
        if topic not in committed and asked.topic in ("", topic):
            gone = {table.name for table in tables if table.name not in there}
            yield from guarded("rows", topic, audit.beyond(topic, gone))


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
        if asked.no_books:  # they can be asked later: the topic waits
            yield unlooked("legs", TRANSFERS, why)
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
    every = chains(ask)
    known = {one.chain for one in every}
    yield from guarded("booked", "chains", check_blocks(ask, known, live or behind, asked.chain))
    for blocks in every:
        if asked.chain not in ("", blocks.chain):
            continue
        if behind:
            yield unlooked("booked", blocks.chain, "the history does not have all of the books yet")
        else:
            yield from _steady(partial(_booked, ask, blocks), live)


def _booked(ask: Ask, blocks: Blocks) -> Iterator[Result]:
    return guarded("booked", blocks.chain, check_booked(ask, blocks.chain, blocks.chain_number))


def _steady(look: Callable[[], Iterable[Result]], live: bool) -> list[Result]:
    """What is told; where things move while they are looked at, by a second look, and findings that both tell.

    Both sides of a finding may have moved, if the difference between them has not; what only the second look tells,
    or tells otherwise, could not be looked at.
    """
    told = list(look())
    if not live or not findings(told):
        return told
    time.sleep(STEADY_S)
    before = {_damage(one) for one in findings(told)}
    return [
        one
        if one.ok is not False or _damage(one) in before
        else replace(one, ok=None, evidence={**one.evidence, "why": MOVED})
        for one in look()
    ]


def _damage(one: Result) -> tuple[str, str, int, str]:
    difference = one.evidence.get("difference", f"{one.expected} {one.found}")
    return one.check, one.scope, one.first, str(difference)
