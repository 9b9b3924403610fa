"""The audit of roll-ups: their sums by key = the sums over the rows that they were made from, of the same offsets.

Both sides are read by their origin, so what is being written just now is in neither. Of EVM chains only final rows are
summed. `gas_assets` sums nothing: each of its rows has the fee of one transaction, as the gas ledger has it.
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
_WHOLE_VOLUME: Final = "reinterpretAsUInt256(sum(t.volume))"  # in its last place
GAS, GAS_ASSETS = "gas_ledger", "gas_assets"
FEE_KEYS: Final = ("chain_number", "asset", "ledger_index", "transaction_index", "owner")


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
    RollUp(
        "activity_sums", "applied_events", ("app_id", "day", "type", "currency"),
        (
            ("toUInt256(sum(t.events))", "toUInt256(count())"), (_WHOLE_VOLUME, _WHOLE_VOLUME),
            ("sum(t.gas_required)", "sum(t.gas_required)"),
            ("sum(t.gas_paid_by_treasury)", "sum(t.gas_paid_by_treasury)"),
            ("toUInt256(uniqExactArray(t.users))", "toUInt256(uniqExactIf(t.user_id, ifNull(t.user_id, '') != ''))"),
        ),
        ("app_id", "toDate(at)", "type", "currency"), "topic = 'assets.activity.v1' AND app_id IS NOT NULL",
    ),
)  # fmt: skip


def check_rollups(ask: Ask, topic: str, ranges: Sequence[Range], tables: Iterable[str]) -> Iterator[Result]:
    """The roll-ups among a topic's tables."""
    of = set(tables)
    for rollup in ROLLUPS:
        if {rollup.table, rollup.base} <= of:
            wrong = differences(rollup, topic, ranges)
            yield from _check(ask, wrong, topic, rollup.table, rollup.base, rollup.keys)
    if {GAS_ASSETS, GAS} <= of:
        yield from _check(ask, other_fees(topic, ranges), topic, GAS_ASSETS, GAS, FEE_KEYS)


def _check(ask: Ask, wrong: str, topic: str, table: str, base: str, keys: Sequence[str]) -> Iterator[Result]:
    scope = f"{topic} → {table}"
    sound = True
    for row in ask(wrong):
        sound = False
        key = [str(part) for part in row["key"]]
        evidence = {"table": table, "key": dict(zip(keys, key, strict=True)), "base": base}
        name = f"{scope} {' '.join(key)}"
        yield Result("rollups", name, _told(row["base"]), _told(row["sums"]), False, evidence=evidence)
    if sound:
        text = f"sums of {base}"
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


def other_fees(topic: str, ranges: Sequence[Range]) -> str:
    """Rows of `gas_assets` whose fee is not the gas ledger's: key (FEE_KEYS), sums (of the row), base (gas ledger).

    The gas ledger may have merged away the row of the same message, for a later one of the block replaced it: then
    payer and fee must be the later one's, but who paid for the payer may have been known otherwise by then.
    """
    of = f"_topic = {literal(topic)} AND {within(ranges, '_epoch', '_partition', '_offset', '_offset')}"
    origin, place = "toString(_epoch), _partition, _offset", "chain_number, ledger_index, transaction_index"
    parts = "gas_required, gas_paid_by_user, gas_paid_by_treasury"
    key = ", ".join(f"toString({name})" for name in FEE_KEYS)
    rows = (
        f"SELECT [{key}] AS key, owner, [{parts}] AS sums, ({origin}) AS origin, {place}, branch"
        f" FROM {GAS_ASSETS} WHERE {of}"
    )
    ledger = (
        f"SELECT {place}, branch, arraySort(one -> one.1, groupArray((_offset, ({origin}), owner, [{parts}]))) AS told"
        f" FROM {GAS} WHERE _topic = {literal(topic)} AND ({place}) IN (SELECT {place} FROM {GAS_ASSETS} WHERE {of})"
        f" GROUP BY {place}, branch"
    )
    return (
        "SELECT key, sums, fee.4 AS base, has(told.2, origin) AS there,"
        " if(there, arrayFirst(one -> one.2 = origin, told), told[-1]) AS fee,"
        " NOT there AND sums[1] = base[1] AND sums[1] = sums[2] + sums[3] AS replaced"
        f" FROM ({rows}) AS a LEFT JOIN ({ledger}) AS g USING ({place}, branch)"
        f" WHERE fee.3 != owner OR (sums != base AND NOT replaced) ORDER BY key LIMIT {SHOWN}"
        " SETTINGS final = 0, join_use_nulls = 0"
    )
