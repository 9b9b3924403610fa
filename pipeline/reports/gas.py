"""The gas report (S0): what transactions required, what their users and treasuries paid, coverage, what was burnt.

By user, application, asset, day or month, each chain (coin) apart, of a period (days, UTC). It is asked of the
roll-up's view `fees_by_day` where that knows what is asked for; of single assets and of verified blocks alone it is
asked of `gas_ledger`. `recomputed` has for every number a query over the raw rows, `in_books` what the books' own
transfers say of fees on chains. Gas in managed custody has offchain/gas:<currency> as its `chain`; the books move it
under that name, from users and treasuries.

required, burnt …: whole coins of the sums beside them, null where the coin's decimals are unknown. coverage: the
treasuries' part of what was required, a decimal of at most 18 places, cut off. fee_burnt: null where nobody knows of
some transaction what was burnt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.domain.account import AccountCode, TransferCode
from pipeline.domain.assets import figures
from pipeline.reports.coins import GAS, WITH, coin, decimals
from pipeline.reports.question import Period, Report, one_of, word

KEYS: Final[Mapping[str, tuple[str, str]]] = {
    "user": ("owner", "owner"),
    "app": ("app_id", "app_id"),
    "asset": ("asset_id", "asset_id"),
    "day": ("day", "day"),
    "month": ("month", "toStartOfMonth(day)"),
}
"""What rows are by → (column, its SQL over the source)."""
BY: Final = tuple(KEYS)
NUMBERS: Final[Mapping[str, str]] = {
    "transactions": "count()",
    "fee_paid": "sum(fee)",
    "fee_burnt": "if(countIf(burnt IS NULL) = 0, sum(burnt), NULL)",
    "total_gas_required": "sum(gas_required)",
    "total_gas_paid_by_user": "sum(gas_paid_by_user)",
    "total_gas_paid_by_treasury": "sum(gas_paid_by_treasury)",
}
"""Number of a row → SQL over raw rows."""
_SUMS: Final = (
    "sum(f.transactions) AS transactions, sum(f.fee) AS fee_paid, "
    "if(sum(f.burnt_unknown) = 0, sum(f.burnt), NULL) AS fee_burnt, sum(f.gas_required) AS total_gas_required, "
    "sum(f.gas_paid_by_user) AS total_gas_paid_by_user, sum(f.gas_paid_by_treasury) AS total_gas_paid_by_treasury"
)
_DAY: Final = "toDate(close_time, 'UTC')"
TYPES: Final = repr(figures.GAS)
"""SQL: what applications tell of gas in managed custody."""
_RUNS: Final = (
    "(SELECT CAST((groupArray(chain_number), groupArray(blocks)), 'Map(Int32, Array(Tuple(Int64, Int64)))') FROM "
    "(SELECT chain_number, groupArray((first_block, v.verified_up_to)) AS blocks FROM verified_up_to AS v "
    "GROUP BY chain_number))"
)
_VERIFIED: Final = (
    "finality IN ('', 'final') AND "
    f"arrayExists(run -> ledger_index BETWEEN run.1 AND run.2, {_RUNS}[chain_number])"
)
_JOINED: Final = (
    "finality IN ('', 'final') AND (chain_number, ledger_index) IN (SELECT g.chain_number, g.ledger_index "
    "FROM gas_ledger AS g INNER JOIN verified_up_to AS v ON v.chain_number = g.chain_number "
    "WHERE g.ledger_index BETWEEN v.first_block AND v.verified_up_to)"
)
"""The same, slower, and so simple that it can be read."""


@dataclass(frozen=True)
class GasQuestion:
    """What is asked: None = all. `verified`: on chains only final blocks up to where their run is verified."""

    by: str = "user"
    period: Period = field(default_factory=Period)
    owner: str | None = None
    chain: str | None = None
    app: str | None = None
    asset: str | None = None
    verified: bool = False

    @property
    def key(self) -> str:
        """Column that a row is of."""
        return KEYS[self.by][0]

    @property
    def parameters(self) -> dict[str, Any]:
        """Bound parameters of its queries."""
        told = {"owner": self.owner, "chain": self.chain, "app": self.app, "asset": self.asset}
        found: dict[str, Any] = {name: value for name, value in told.items() if value is not None}
        return found if self.period.whole else found | self.period.parameters


def gas_question(
    by: str, period: Period, owner: str | None = None, chain: str | None = None, app: str | None = None,
    asset: str | None = None, verified: bool = False,
) -> GasQuestion:  # fmt: skip
    """A question whose words are checked; an EVM address may be in any case. Raises BadQuestion."""
    owner = word(owner, "owner")
    return GasQuestion(
        one_of(by, BY, "by"), period, owner and as_told(owner), word(chain, "chain"), word(app, "app"),
        word(asset, "asset"), verified,
    )  # fmt: skip


def as_told(owner: str) -> str:
    """An owner as the tables have it: EVM addresses stand there in lower case."""
    return owner.lower() if owner[:2] in ("0x", "0X") and len(owner) == 42 else owner


def gas_report(question: GasQuestion) -> Report:
    """Rows {chain, chain_number, <key>, sums, coverage, coin, whole coins}; users by what they paid, else by key."""
    column, key = KEYS[question.by]
    raw = question.verified or question.by == "asset" or question.asset is not None
    source = _raw(question) if raw else "fees_by_day"
    where = _where(question, raw=raw)
    order = "fee_paid DESC, owner" if question.by == "user" else column
    return Report(
        f"WITH\n{WITH},\n  {decimals('chain')} AS places\nSELECT\n  *,\n  {_beside()}\nFROM (\n"
        f"  SELECT\n    chain, chain_number, {column if raw else key} AS {column},\n    {_SUMS}\n"
        f"  FROM {source} AS f{where}\n  GROUP BY chain, chain_number, {column}\n)\nORDER BY chain, {order}",
        question.parameters,
        final=False,
    )


def _beside() -> str:
    """Coverage and whole coins."""
    told = {
        "ratio(total_gas_paid_by_treasury, total_gas_required)": "coverage",
        coin("chain"): "coin",
        "whole(total_gas_required, places)": "required",
        "whole(total_gas_paid_by_user, places)": "paid_by_user",
        "whole(total_gas_paid_by_treasury, places)": "paid_by_treasury",
        "whole(fee_burnt, places)": "burnt",
    }
    return ",\n  ".join(f"{sql} AS {name}" for sql, name in told.items())


def _where(question: GasQuestion, raw: bool) -> str:
    """WHERE over `fees_by_day`; of raw rows all is asked inside."""
    if raw:
        return ""
    told = _asked(question, "day")
    return f" WHERE {' AND '.join(told)}" if told else ""


_FILTERS: Final = {"owner": "owner", "chain": "chain", "app": "app_id", "asset": "asset_id"}


def _asked(question: GasQuestion, day: str) -> list[str]:
    """Conditions of what is asked for; `day`: SQL of a row's day."""
    told = [
        f"{column} = {{{name}:String}}"
        for name, column in _FILTERS.items()
        if getattr(question, name) is not None
    ]
    told += [] if question.period.whole else [f"{day} BETWEEN {{from:Date}} AND {{to:Date}}"]
    return [*told, _custody(question)] if _custody(question) else told


def _custody(question: GasQuestion) -> str:
    """By application or asset only fees that have one are asked for."""
    of_apps = question.by in ("app", "asset") or question.app is not None or question.asset is not None
    return "chain_number = 0" if of_apps else ""


def _raw(question: GasQuestion) -> str:
    """One row a charge, with the columns of `fees_by_day`."""
    column, key = KEYS[question.by]
    return (
        f"(SELECT chain, chain_number, {key.replace('day', _DAY)} AS {column}, toUInt64(1) AS transactions, fee, "
        "ifNull(burnt, toUInt256(0)) AS burnt, toUInt64(g.burnt IS NULL) AS burnt_unknown, gas_required, "
        f"gas_paid_by_user, gas_paid_by_treasury FROM gas_ledger AS g FINAL WHERE {_stands(question, _VERIFIED)})"
    )


def _stands(question: GasQuestion, verified: str) -> str:
    """The raw rows that count for the question."""
    chains = verified if question.verified else "finality != 'retracted'"
    counts = f"(chain_number = 0 OR {chains})"
    return " AND ".join([counts, *_asked(question, _DAY)])


def recomputed(question: GasQuestion) -> dict[str, Report]:
    """Number → query over the raw rows: {chain, <key>, <number>}, a row for every row of the report."""
    column, key = KEYS[question.by]
    made = key.replace("day", _DAY)
    return {
        name: Report(
            f"SELECT toString(chain) AS chain, {made} AS {column}, {number} AS {name} FROM gas_ledger FINAL "
            f"WHERE {_stands(question, _JOINED)} GROUP BY chain, {column} ORDER BY chain, {column}",
            question.parameters,
        )
        for name, number in NUMBERS.items()
    }  # fmt: skip


def in_books(question: GasQuestion) -> dict[str, Report]:
    """The same of the books: what posted transfers moved to FEE_BURN and FEE_POOL, on chains. Empty where the books
    cannot tell: they know nothing of applications and verdicts. Of EVM chains final blocks alone."""
    if question.verified or _custody(question) or (question.chain or "").startswith(GAS):
        return {}
    column, key = KEYS[question.by]
    key = {"owner": "debit_owner"}.get(key, key.replace("day", "toDate(time, 'UTC')"))
    burn, pool = int(AccountCode.FEE_BURN), int(AccountCode.FEE_POOL)
    told = [
        f"code = {int(TransferCode.CHAIN_FEE)} AND status = 'posted' AND credit_code IN ({burn}, {pool})",
        *(["debit_owner = {owner:String}"] if question.owner is not None else []),
        *(["chain = {chain:String}"] if question.chain is not None else []),
        *([] if question.period.whole else ["toDate(time, 'UTC') BETWEEN {from:Date} AND {to:Date}"]),
    ]
    sums = {"fee_paid": "sum(amount)", "fee_burnt": f"sumIf(amount, credit_code = {burn})"}
    return {
        name: Report(
            f"SELECT toString(chain) AS chain, {key} AS {column}, {number} AS {name} FROM transfers FINAL "
            f"WHERE {' AND '.join(told)} GROUP BY chain, {column} ORDER BY chain, {column}",
            question.parameters,
        )
        for name, number in sums.items()
    }  # fmt: skip
