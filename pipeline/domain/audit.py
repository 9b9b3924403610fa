"""What an audit says, pure: a Result per check and range, the rules that compare, and what a person does about it.

Theory: nothing is lost and nothing is twice if every number can be found in two places that were not written
together. Offsets of a topic against what the sink says it did with them; that against the rows; rows against what their
block says of itself, against the balance before and after, against the books, against their own digest of an earlier
audit, views against the release. A Result whose two sides differ is a finding; one that could not be looked at has `ok`
None and says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from typing import Any, Final, NamedTuple

import orjson

DIGITS: Final = (
    400  # more than any sum of two amounts has: the XRP Ledger's have 16 digits between 10^-96 and 10^80
)


@dataclass(frozen=True, slots=True)
class Check:
    """A check: what must be equal, and what to do where it is not."""

    demands: str
    mend: str


_REBUILD: Final = "build the history anew from the topics: stop, move clickhouse/ away, start again"
CHECKS: Final[Mapping[str, Check]] = {
    "offsets": Check("every offset of a topic is applied, a duplicate or refused, and belongs to one commit", _REBUILD),
    "rows": Check("each table has as many rows of a commit as sink_progress says", _REBUILD),
    "twice": Check("no message, and no row of a message, is there twice", _REBUILD),
    "quarantine": Check("every message refused is in quarantine", "look into quarantine.v1, then " + _REBUILD),
    "seal": Check("rows are as they were when they were first audited", _REBUILD),
    "views": Check(
        "a view is the one that this release makes",
        "tidebook clickhouse apply, or start the history role again: both make it anew",
    ),
    "blocks": Check("a block's rows are as many, and its fees as much, as the block itself says", _REBUILD),
    "balances": Check("balance before + change = balance after, and that is the next one's balance before", _REBUILD),
    "moves": Check("what tokens' transfers moved = what the balances changed", _REBUILD),
    "rollups": Check("a roll-up's sums = the sums over the rows below it", _REBUILD),
    "booked": Check("an account's transfers in the history add up to its last balance on the ledger", _REBUILD),
    "accounts": Check("an account in the books = the sum of its transfers in the history", _REBUILD),
    "legs": Check("every transfer of the history stands in the books as it is", _REBUILD),
}  # fmt: skip


class Range(NamedTuple):
    """Offsets of one incarnation of a topic's partition, both ends included."""

    epoch: str
    topic: str
    partition: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Result:
    """What one check found of one scope: a topic's table, a chain; over offsets or blocks first … last."""

    check: str
    scope: str
    expected: str
    found: str
    ok: bool | None  # None: could not be looked at
    first: int = -1
    last: int = -1
    epoch: str = ""
    partition: int = -1
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Scope and place, as a person reads it; the same for the same place."""
        partition = f"/{self.partition}" if self.partition >= 0 else ""
        return (
            f"{self.scope}{partition} {self.first}-{self.last}" if self.last >= 0 else self.scope + partition
        )

    def row(self) -> dict[str, Any]:
        """As the table `audits` and JSON have it."""
        return {
            "check": self.check, "scope": self.scope, "epoch": self.epoch, "partition": self.partition,
            "first": self.first, "last": self.last, "expected": self.expected, "found": self.found,
            "ok": self.ok, "evidence": orjson.dumps(self.evidence, default=str, option=orjson.OPT_SORT_KEYS).decode(),
        }  # fmt: skip


def of_range(
    check: str, where: Range, scope: str, expected: Any, found: Any, ok: bool, **evidence: Any
) -> Result:
    """A Result of offsets."""
    return Result(
        check,
        scope,
        str(expected),
        str(found),
        ok,
        where.first,
        where.last,
        where.epoch,
        where.partition,
        evidence,
    )


def unlooked(check: str, scope: str, why: str) -> Result:
    """A Result of what could not be looked at."""
    return Result(check, scope, "", "", None, evidence={"why": why})


def findings(results: Iterable[Result]) -> list[Result]:
    """Those whose two sides differ."""
    return [one for one in results if one.ok is False]


class Commit(NamedTuple):
    """A commit of the sink, as sink_progress has it."""

    first: int
    last: int
    applied: int
    duplicates: int
    refused: int


def judge_offsets(
    where: Range, commits: Iterable[Commit], dense: bool, begins: int | None
) -> Iterator[Result]:
    """The commits of a range, in order: gapless, not overlapping, every offset accounted for.

    `dense`: the topic has no holes of its own (a compacted one has). `begins`: the offset that the first commit must
    begin with; None where it is not known. Findings come one by one, the last Result is of the whole.
    """
    total = Commit(where.first, where.last, 0, 0, 0)
    spanned, after, sound = 0, begins, True
    for one in commits:
        offsets = one.last - one.first + 1
        told = one.applied + one.duplicates + one.refused
        for expected, found, ok, what in (
            (
                after,
                one.first,
                after is None or one.first == after or (one.first > after and not dense),
                "begins",
            ),
            (offsets, told, told == offsets or _explained(one, offsets, told, dense), "messages"),
        ):
            if not ok:
                sound = False
                yield _offset_finding(where, one, what, expected, found)
        total = Commit(total.first, total.last, *(a + b for a, b in zip(total[2:], one[2:], strict=True)))
        spanned += offsets
        after = max(one.last + 1, after or 0)
    if sound:
        yield of_range(
            "offsets", where, where.topic, spanned, total.applied + total.duplicates + total.refused, True,
            **total._asdict(),
        )  # fmt: skip


def _explained(one: Commit, offsets: int, told: int, dense: bool) -> bool:
    """More messages than offsets: some were delivered again. Fewer: the topic has holes."""
    return told - offsets <= one.duplicates if told > offsets else not dense


def _offset_finding(where: Range, one: Commit, what: str, expected: Any, found: int) -> Result:
    if what == "messages":
        place = Range(where.epoch, where.topic, where.partition, one.first, one.last)
        evidence = {
            "what": "offsets of the commit that are neither applied, duplicates nor refused",
            **one._asdict(),
        }
        return of_range("offsets", place, where.topic, expected, found, False, **evidence)
    first, last = sorted((int(expected), found))
    place = Range(where.epoch, where.topic, where.partition, first, last - 1)
    lost = found > int(expected)
    evidence = {
        "what": "offsets in no commit: lost" if lost else "offsets in two commits",
        "commit": one._asdict(),
    }
    return of_range("offsets", place, where.topic, f"from {expected}", f"from {found}", False, **evidence)


def judge_quarantine(
    scope: str,
    partition: int,
    settled: Mapping[str, int],
    refused: Mapping[str, int],
    held: Mapping[str, int],
) -> Result:
    """Refused messages of a partition by epoch, against the items in quarantine by epoch.

    `settled`: those whose item must have come back by now. An item is named by its content: what is told again in
    another epoch is the same item, kept with the first.
    """
    least, most, found = max(settled.values(), default=0), sum(refused.values()), sum(held.values())
    ok = least <= found <= most
    expected = str(least) if least == most else f"{least} to {most}"
    evidence = {"refused": dict(refused), "in_quarantine": dict(held)}
    return Result("quarantine", scope, expected, str(found), ok, partition=partition, evidence=evidence)


class Change(NamedTuple):
    """A balance change with the balance that the one before it left; None where there is none."""

    previous: str
    change: str
    balance: str
    before: str | None
    number: str | None  # change_value


def change_fault(one: Change) -> str:
    """What contradicts itself in a balance change, "" for nothing; exact, whatever the number of digits."""
    with localcontext() as context:
        context.prec = DIGITS
        previous, change, balance = Decimal(one.previous), Decimal(one.change), Decimal(one.balance)
        if previous + change != balance:
            return "previous + change is not balance"
        if one.before is not None and Decimal(one.before) != previous:
            return "previous is not the balance that the change before it left"
        if one.number is not None and Decimal(one.number) != change:
            return "change_value is not change"
    return ""
