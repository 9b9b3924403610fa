"""The audit of roll-ups: their sums by key = the sums over the rows that they were made from, of the same offsets.

Both sides are read by their origin, so what is being written just now is in neither. Of EVM chains only final rows are
rolled up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.domain.audit import Range, Result
from sinks.audit_sql import within
from sinks.ddl_shape import literal

Ask = Callable[[str], Iterable[Mapping[str, Any]]]
SHOWN: Final = 50
_HELD: Final = "(1, 101)"  # account codes of users and holders


@dataclass(frozen=True, slots=True)
class RollUp:
    """A roll-up table, the table below it, and what both sides are asked: `sums` of each by `keys`."""

    table: str
    base: str
    keys: tuple[str, ...]
    sums: tuple[tuple[str, str], ...]  # over the roll-up, over the rows
    base_keys: tuple[str, ...]
    where: str
    joined: str = ""  # ARRAY JOIN of the rows


ROLLUPS: Final = (
    RollUp(
        "gas_sums", "gas_ledger", ("chain_number", "owner", "day"),
        (
            ("toUInt256(sum(t.transactions))", "toUInt256(count())"), ("sum(t.fee)", "sum(t.fee)"),
            ("sum(t.gas_required)", "sum(t.gas_required)"), ("sum(t.gas_paid_by_user)", "sum(t.gas_paid_by_user)"),
            ("sum(t.gas_paid_by_treasury)", "sum(t.gas_paid_by_treasury)"),
            ("sum(t.burnt)", "sum(ifNull(t.burnt, 0))"),
            ("toUInt256(sum(t.burnt_unknown))", "toUInt256(countIf(t.burnt IS NULL))"),
        ),
        ("chain_number", "owner", "toDate(close_time)"), "finality IN ('', 'final')",
    ),
    RollUp(
        "transfer_sums", "transfers", ("chain_number", "asset", "code", "day"),
        (("toUInt256(sum(t.transfers))", "toUInt256(count())"), ("sum(t.amount)", "sum(t.amount)")),
        ("chain_number", "asset", "code", "toDate(time)"), "status = 'posted'",
    ),
    RollUp(
        "holding_sums", "transfers", ("chain_number", "asset", "owner", "day"), (("sum(t.change)", "sum(side.3)"),),
        ("chain_number", "asset", "side.2", "toDate(time)"), f"status = 'posted' AND side.1 IN {_HELD}",
        "ARRAY JOIN [(t.debit_code, t.debit_owner, -toInt256(t.amount)),"
        " (t.credit_code, t.credit_owner, toInt256(t.amount))] AS side",
    ),
)  # fmt: skip


def check_rollups(ask: Ask, topic: str, ranges: Sequence[Range], tables: Iterable[str]) -> Iterator[Result]:
    """The roll-ups among a topic's tables."""
    of = set(tables)
    for rollup in ROLLUPS:
        if {rollup.table, rollup.base} <= of:
            yield from _check(ask, rollup, topic, ranges)


def _check(ask: Ask, rollup: RollUp, topic: str, ranges: Sequence[Range]) -> Iterator[Result]:
    scope = f"{topic} → {rollup.table}"
    sound = True
    for row in ask(differences(rollup, topic, ranges)):
        sound = False
        key = [str(part) for part in row["key"]]
        evidence = {
            "table": rollup.table,
            "key": dict(zip(rollup.keys, key, strict=True)),
            "base": rollup.base,
        }
        name = f"{scope} {' '.join(key)}"
        yield Result("rollups", name, _told(row["base"]), _told(row["sums"]), False, evidence=evidence)
    if sound:
        text = f"sums of {rollup.base}"
        yield Result("rollups", scope, text, text, True)


def _told(sums: Any) -> str:
    return " ".join(str(one) for one in sums)


def differences(rollup: RollUp, topic: str, ranges: Sequence[Range]) -> str:
    """Keys whose sums differ: key, sums (of the roll-up), base (of the rows)."""
    of = f"_topic = {literal(topic)} AND {within(ranges, '_epoch', '_partition', '_offset', '_offset')}"
    own = ", ".join(f"toString({one})" for one in rollup.keys)
    based = ", ".join(f"toString({one})" for one in rollup.base_keys)
    wide = "toInt256" if rollup.joined else "toUInt256"
    nothing = ", ".join(f"{wide}(0)" for _ in rollup.sums)
    sums = ", ".join(told for told, _ in rollup.sums)
    bases = ", ".join(told for _, told in rollup.sums)
    return (
        "SELECT key, sumForEach(a) AS sums, sumForEach(b) AS base FROM ("
        f"SELECT [{own}] AS key, [{sums}] AS a, [{nothing}] AS b FROM {rollup.table} AS t WHERE {of} GROUP BY key"
        f" UNION ALL SELECT [{based}] AS key, [{nothing}] AS a, [{bases}] AS b FROM {rollup.base} AS t {rollup.joined}"
        f" WHERE {of} AND {rollup.where} GROUP BY key"
        f") GROUP BY key HAVING sums != base ORDER BY key LIMIT {SHOWN} SETTINGS final = 1"
    )
