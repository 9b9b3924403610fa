"""The audit of topics' ranges: what the sink committed, against the rows that are there and their digests.

`TopicAudit` asks, `pipeline.domain.audit` judges. A range that is sound is remembered by whoever calls (the table
`audits`), so that the next audit begins after it; one with a finding is looked at again until it is mended.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from pipeline.domain.audit import Commit, Range, Result, judge_offsets, judge_quarantine, of_range
from sinks import audit_sql
from sinks.audit_sql import RANGES_AT_ONCE, Audited

Ask = Callable[[str], Iterable[Mapping[str, Any]]]
Place = tuple[str, str, int]  # epoch, topic, partition
Seal = tuple[str, str, int, str, int]  # epoch, topic, partition, table, first offset
COMPACTED: Final = frozenset({"evm.contracts.v1", "applications.states.v1"})
TRANSFERS: Final = "books.transfers.v1"
BLOCK_TOPICS: Final = {
    "xrpl.ledgers.v1": "xrpl:",
    "evm.blocks.v1": "eip155:",
}  # and how its chains' names begin


class TopicAudit:
    """The checks of offsets: every one says of which topic, partition, epoch and offsets."""

    def __init__(self, ask: Ask, tables: Mapping[str, Sequence[Audited]], patience_s: float = 0.0) -> None:
        """`tables`: as `audit_sql.audited_tables`. `patience_s`: how long a refused message may be on its way through
        quarantine.v1."""
        self._ask, self.tables, self._patience_s = ask, tables, patience_s

    def ranges(
        self, after: Mapping[Place, int], settle_s: float = 0.0, topic: str = "", since: str = ""
    ) -> list[Range]:
        """What is committed beyond `after` (last offset audited, by place).

        `topic`: of this one alone; `since`: ISO 8601, commits from then on.
        """
        found = []
        for row in self._ask(audit_sql.ends(settle_s, since)):
            place = (str(row["epoch"]), str(row["topic"]), int(row["partition"]))
            first, last = after.get(place, int(row["first"]) - 1 if since else -1) + 1, int(row["last"])
            if place[1] in self.tables and topic in ("", place[1]) and first <= last:
                found.append(Range(*place, first, last))
        return found

    def first_commits(self, ranges: Sequence[Range], commits: int) -> list[Range]:
        """The ranges, cut off after so many commits each; 0: as they are."""
        if not ranges or not commits:
            return list(ranges)
        ends = {
            (str(row["epoch"]), str(row["topic"]), int(row["partition"])): int(row["last"])
            for row in self._ask(audit_sql.cuts(ranges, commits))
        }
        return [one._replace(last=ends.get(one[:3], one.last)) for one in ranges]

    def forgotten(self, audited: Mapping[Place, int], topic: str = "") -> Iterator[Result]:
        """Offsets that an earlier audit saw committed and that are in no commit any more. `audited`: as `after`."""
        ends = {one[:3]: one.last for one in self.ranges({}, topic=topic)}
        for place, last in sorted(audited.items()):
            found = ends.get(place, -1)
            if place[1] in self.tables and topic in ("", place[1]) and found < last:
                yield _beyond(
                    "offsets", place, place[1], f"commits up to {last}", f"commits up to {found}",
                    "offsets that were audited once are in no commit any more", (found + 1, last),
                )  # fmt: skip

    def beyond(self, topic: str, gone: Container[str] = ()) -> Iterator[Result]:
        """Rows that no commit and no batch under way tells of; where there are any, they are looked at twice, for a
        batch may begin in between. `gone`: as in `check`."""
        before = self._beyond(topic, gone)
        for key, one in (self._beyond(topic, gone) if before else {}).items():
            if key in before:
                yield one

    def _beyond(self, topic: str, gone: Container[str]) -> dict[tuple[str, Place, int], Result]:
        begun = [
            Range(str(row["epoch"]), topic, int(row["partition"]), int(row["first"]), int(row["last"]))
            for row in self._ask(audit_sql.begun(topic))
        ]
        found = {}
        for table in self.tables[topic]:
            for row in [] if table.name in gone else self._ask(audit_sql.beyond(table, topic, begun)):
                place, first = (str(row["epoch"]), topic, int(row["partition"])), int(row["first"])
                found[table.name, place, first] = _beyond(
                    "rows", place, f"{topic} → {table.name}", "0 rows of no commit", f"{row['n']} rows of no commit",
                    "rows beyond the last commit", (first, int(row["last"])), table=table.name,
                )  # fmt: skip
        return found

    def check(
        self,
        ranges: Sequence[Range],
        whole: bool,
        sealed: Mapping[Seal, tuple[str, Sequence[str]]],
        gone: Container[str] = (),
    ) -> Iterator[Result]:
        """All Results of `ranges`; `whole`: they are everything.

        `sealed`: digest and columns of earlier audits; `gone`: tables that are not there.
        """
        by_topic = sorted(ranges, key=lambda one: (one.topic, one.partition))
        for topic, of_topic in groupby(by_topic, key=lambda one: one.topic):
            mine = list(of_topic)
            for start in range(0, len(mine), RANGES_AT_ONCE):
                part = mine[start : start + RANGES_AT_ONCE]
                yield from self._offsets(topic, part)
                for table in self.tables[topic]:
                    if table.name in gone:
                        continue
                    yield from self._rows(topic, table, part)
                    yield from self._twice(topic, table, part, whole)
                    yield from self._seals(topic, table, part, sealed)
            for partition in sorted({one.partition for one in mine}):
                yield from self._quarantine(topic, partition)

    def _offsets(self, topic: str, ranges: Sequence[Range]) -> Iterator[Result]:
        told: dict[tuple[str, int], list[Commit]] = defaultdict(list)
        for row in self._ask(audit_sql.commits(topic, ranges)):
            numbers = (
                int(row[name]) for name in ("from_offset", "to_offset", "applied", "duplicates", "refused")
            )
            told[str(row["epoch"]), int(row["partition"])].append(Commit(*numbers))
        for where in ranges:
            mine = told[where.epoch, where.partition]
            yield from judge_offsets(where, mine, topic not in COMPACTED, where.first)

    def _rows(self, topic: str, table: Audited, ranges: Sequence[Range]) -> Iterator[Result]:
        by_place = {(one.epoch, one.partition): one for one in ranges}
        for row in self._ask(audit_sql.rows_of_commits(table, topic, ranges)):
            where = by_place[str(row["epoch"]), int(row["partition"])]
            scope = f"{topic} → {table.name}"
            for first, last, told, found in row["places"]:
                place = where._replace(first=int(first), last=int(last))
                yield of_range("rows", place, scope, told, found, False, table=table.name)
            if not row["wrong"]:
                yield of_range(
                    "rows", where, scope, row["rows_told"], row["rows_found"], True, table=table.name
                )

    def _twice(self, topic: str, table: Audited, ranges: Sequence[Range], whole: bool) -> Iterator[Result]:
        for row in self._ask(audit_sql.twice(table, topic, ranges, whole)):
            offsets = [int(offset) for offset in row["places"]]
            where = Range(str(row["epoch"]), topic, int(row["partition"]), offsets[0], offsets[-1])
            evidence = {"table": table.name, "offsets": offsets}
            scope = f"{topic} → {table.name}"
            yield of_range(
                "twice", where, scope, "0 rows twice", f"{row['wrong']} rows twice", False, **evidence
            )

    def _seals(
        self,
        topic: str,
        table: Audited,
        ranges: Sequence[Range],
        sealed: Mapping[Seal, tuple[str, Sequence[str]]],
    ) -> Iterator[Result]:
        """Digests of what was sealed before, compared; of what was not, told, to be kept."""
        before: dict[tuple[str, ...], dict[tuple[str, int, int], str]] = defaultdict(dict)
        inside = {(one.epoch, one.partition): one for one in ranges}
        for (epoch, of, partition, name, first), (digest, columns) in sealed.items():
            where = inside.get((epoch, partition))
            if (
                of == topic
                and name == table.name
                and where is not None
                and where.first <= first <= where.last
            ):
                before[tuple(columns)][epoch, partition, first] = digest
        known = {place for of in before.values() for place in of}
        for columns, told in before.items():
            yield from self._compare(topic, table, ranges, columns, told)
        for where, digest in self._digests(topic, table, ranges, table.columns):
            if (where.epoch, where.partition, where.first) not in known:
                evidence = {"table": table.name, "columns": table.columns}
                yield of_range("seal", where, f"{topic} → {table.name}", digest, digest, True, **evidence)

    def _compare(
        self, topic: str, table: Audited, ranges: Sequence[Range], columns: Sequence[str],
        told: Mapping[tuple[str, int, int], str],
    ) -> Iterator[Result]:  # fmt: skip
        now = {
            (where.epoch, where.partition, where.first): (where, digest)
            for where, digest in self._digests(topic, table, ranges, columns)
        }
        for (epoch, partition, first), digest in told.items():
            where, found = now.get(
                (epoch, partition, first), (Range(epoch, topic, partition, first, first), "0:0")
            )
            scope = f"{topic} → {table.name}"
            if table.replaces and _count(found) < _count(digest):
                # sealed anew: what is left is to stay as it is
                kept = {"table": table.name, "columns": list(columns)}
                yield of_range("seal", where, scope, found, found, True, **kept)
            elif found != digest:
                what = "rows are not what they were when they were last sealed"
                yield of_range("seal", where, scope, digest, found, False, table=table.name, what=what)

    def _digests(
        self, topic: str, table: Audited, ranges: Sequence[Range], columns: Sequence[str]
    ) -> Iterator[tuple[Range, str]]:
        for row in self._ask(audit_sql.seals(table, topic, ranges, columns)):
            place = (str(row["epoch"]), topic, int(row["partition"]), int(row["first"]), int(row["last"]))
            yield Range(*place), str(row["digest"])

    def _quarantine(self, topic: str, partition: int) -> Iterator[Result]:
        refused = list(self._ask(audit_sql.refused(topic, partition, self._patience_s)))
        held = {
            str(row["epoch"]): int(row["n"]) for row in self._ask(audit_sql.in_quarantine(topic, partition))
        }
        if refused or held:
            settled = {str(row["epoch"]): int(row["settled"]) for row in refused}
            every = {str(row["epoch"]): int(row["n"]) for row in refused}
            yield judge_quarantine(topic, partition, settled, every, held)


def _beyond(
    check: str, place: Place, scope: str, expected: str, found: str, what: str, offsets: tuple[int, int], **more: str
) -> Result:  # fmt: skip
    """A finding of offsets that lie in no range that is audited: they stand in its evidence."""
    evidence = {"what": what, "offsets": list(offsets), **more}
    epoch, _, partition = place
    return Result(check, scope, expected, found, False, epoch=epoch, partition=partition, evidence=evidence)


def _count(digest: str) -> int:
    """Rows of a digest. Where a later message replaces rows there may be fewer: which may be gone, `rows` judges."""
    return int(digest.partition(":")[0])


def sound_to(ranges: Iterable[Range], results: Iterable[Result]) -> dict[Place, int]:
    """Last offset of each range up to which nothing is wrong.

    Nothing of a topic that could not be looked at, or of which something is wrong that no commit is named by: a chain's
    blocks, a roll-up's sums, messages that are there twice.
    """
    ranges = list(ranges)
    ends = {(one.epoch, one.topic, one.partition): one.last for one in ranges}
    for one in results:
        if one.ok:
            continue
        topics = topics_of(one)
        place = (one.epoch, topics[0], one.partition)
        if one.ok is False and one.first >= 0 and place in ends and one.check != "twice":
            ends[place] = min(ends[place], one.first - 1)
        else:
            ends.update({of[:3]: of.first - 1 for of in ranges if of.topic in topics})
    return ends


def topics_of(one: Result) -> tuple[str, ...]:
    """Topics whose messages a Result is of."""
    if one.check in ("blocks", "balances", "moves"):
        return tuple(topic for topic, of in BLOCK_TOPICS.items() if one.scope.startswith((of, "chains")))
    return (TRANSFERS,) if one.check == "legs" else (one.scope.partition(" → ")[0],)
