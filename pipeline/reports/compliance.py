"""The compliance export of S1: money transfers, state changes, audit trail, regulatory report. Pure.

Each part is the view compliance_<part>(from, to) of a period in days (UTC), both included. `recomputed` says the
same of raw rows; `COVERED` and `VERIFIED` are what the manifest tells of where the data end.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pipeline.reports.question import Period, Report

PARTS: Final[Mapping[str, str]] = {
    "transfers": "Money transfers: what the books posted in currencies of the applications.",
    "state_changes": "State changes: every applied step of every position.",
    "audit_trail": "Audit trail: every event that was told, by whom, and what became of it.",
    "regulatory": "Regulatory report: positions and money of each institution and currency.",
}
FORMATS: Final[Mapping[str, tuple[str, str]]] = {
    "csv": ("CSV", "csv"),
    "jsonl": ("JSONEachRow", "jsonl"),
    "parquet": ("Parquet", "parquet"),
}
"""Format → (ClickHouse's name of it, how a file's name ends)."""

COVERED: Final = Report(
    "SELECT topic, partition, epoch, min(p.from_offset) AS from_offset, max(p.to_offset) AS to_offset, "
    "argMax(p.block, p.to_offset) AS last_block, argMax(p.block_hash, p.to_offset) AS last_block_hash "
    "FROM sink_progress AS p GROUP BY topic, partition, epoch ORDER BY topic, partition, epoch"
)
"""What of the topics is in the tables."""
VERIFIED: Final = Report(
    "SELECT chain, run, first_block, last_block, verified_up_to, unverified FROM verified_up_to ORDER BY chain, run"
)


_DAYS: Final = "toDate({column}, 'UTC') BETWEEN {{from:Date}} AND {{to:Date}}"
_APPLIED: Final = "event_id IN (SELECT event_id FROM event_outcomes WHERE status = 'applied')"
_MONEY: Final = "chain_number = 0 AND status = 'posted' AND match(asset, '^offchain/[^:]+$')"
_EVENTS: Final = ("asset_activity", "position_events", "token_events", "anchor_events")
_OF_INSTITUTION: Final = (
    "SELECT position_id AS id, any(JSONExtractString(payload, 'institution_id')) AS institution_id "
    "FROM position_events FINAL WHERE kind = 'POSITION_CREATED' GROUP BY id"
)


def part(name: str, period: Period) -> Report:
    """A part of the export; its rows in the view's order."""
    view = f"compliance_{name}"
    return Report(f"SELECT * FROM {view}(from = {{from:Date}}, to = {{to:Date}})", period.parameters)


def recomputed(name: str, period: Period) -> dict[str, Report]:
    """What of a part can be told from raw rows → the query that does: one row, but of what is released one per
    currency, and of the regulatory report one per institution and currency. Units are the currency's smallest."""
    return {what: Report(sql, period.parameters) for what, sql in _RECOMPUTED[name].items()}


def _days(column: str) -> str:
    return _DAYS.format(column=column)


_RECOMPUTED: Final[Mapping[str, Mapping[str, str]]] = {
    "transfers": {
        "rows, units": "SELECT count() AS rows, sum(amount) AS units FROM transfers FINAL "
        f"WHERE {_MONEY} AND {_days('time')}",
    },
    "state_changes": {
        "rows": "SELECT count() AS rows FROM position_events FINAL "
        f"WHERE kind IN ('POSITION_CREATED', 'POSITION_STATE_CHANGED') AND {_APPLIED} AND {_days('at')}",
        "released (units)": "SELECT replaceOne(asset, 'offchain/', '') AS currency, sum(amount) AS released "
        f"FROM transfers FINAL WHERE {_MONEY} AND code = 21 AND startsWith(event_id, 'app:positions.events.v1:') "
        f"AND {_days('time')} GROUP BY currency ORDER BY currency",
    },
    "audit_trail": {
        "rows": "SELECT sum(n) AS rows FROM ("
        + " UNION ALL ".join(
            f"SELECT count() AS n FROM {table} FINAL WHERE {_days('at')}" for table in _EVENTS
        )
        + ")",
    },
    "regulatory": {
        "created, amount_created": "SELECT JSONExtractString(payload, 'institution_id') AS institution_id, "
        "JSONExtractString(payload, 'currency') AS currency, count() AS created, "
        "sum(toDecimal256(JSONExtractString(payload, 'amount'), 18)) AS amount_created FROM position_events FINAL "
        f"WHERE kind = 'POSITION_CREATED' AND {_APPLIED} AND {_days('at')} "
        "GROUP BY institution_id, currency ORDER BY institution_id, currency",
        "funded, released, voided (units)": "SELECT p.institution_id AS institution_id, "
        "replaceOne(t.asset, 'offchain/', '') AS currency, sumIf(t.amount, t.code = 20) AS funded, "
        "sumIf(t.amount, t.code = 21) AS released, sumIf(t.amount, t.code = 22) AS voided FROM (SELECT asset, amount, "
        "code, if(code = 20, credit_subject, debit_subject) AS id FROM transfers FINAL "
        f"WHERE {_MONEY} AND code IN (20, 21, 22) AND {_days('time')}) AS t "
        f"INNER JOIN ({_OF_INSTITUTION}) AS p ON p.id = t.id "
        "GROUP BY institution_id, currency ORDER BY institution_id, currency",
        "held_at_end (units)": "SELECT p.institution_id AS institution_id, "
        "replaceOne(t.asset, 'offchain/', '') AS currency, sum(t.change) AS held FROM (SELECT asset, "
        "if(credit_code = 4, toInt256(amount), -toInt256(amount)) AS change, "
        "if(credit_code = 4, credit_subject, debit_subject) AS id FROM transfers FINAL "
        f"WHERE {_MONEY} AND (credit_code = 4 OR debit_code = 4) AND toDate(time, 'UTC') <= {{to:Date}}) AS t "
        f"INNER JOIN ({_OF_INSTITUTION}) AS p ON p.id = t.id "
        "GROUP BY institution_id, currency ORDER BY institution_id, currency",
    },
}
