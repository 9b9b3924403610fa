"""The gas report's form, its question to ClickHouse, and its sums. Pure but for `ask`.

Amounts of different chains or currencies are never added: each has a table, a chart and a sum of its own. All are
integers of the smallest unit; whole coins stand beside them where it is known how many units one has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal, localcontext
from typing import Any, Final

from pipeline.api.client import ApiError, Client
from pipeline.api.read_clickhouse import ClickHouse
from pipeline.api.read_models import ID_MAX
from pipeline.api.reads import GAS_READ
from pipeline.reports.coins import GAS, coin, decimals
from pipeline.reports.gas import as_told

ROWS_MAX: Final = 1000
FIRST_DAY: Final = date(2012, 1, 1)  # before every chain
PERIODS: Final[Mapping[str, str]] = {
    "7": "last 7 days", "30": "last 30 days", "90": "last 90 days", "365": "last 365 days", "all": "all time",
    "own": "from … to …",
}  # fmt: skip
SUMS: Final = ("total_gas_required", "total_gas_paid_by_user", "total_gas_paid_by_treasury")
_VIEWS: Final[Mapping[str, tuple[str, str]]] = {
    "user": ("gas_daily", "owner"),
    "app": ("gas_by_app_daily", "app_id"),
    "asset": ("gas_asset_daily", "asset"),
    "day": ("gas_daily", "day"),
}
GROUPS: Final = tuple(_VIEWS)
_SMALLEST: Final = {"XRP": "drops", "ETH": "wei", "native": "wei"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the form says. `owner` "" = everybody; `verified`: only what verified blocks hold (by user alone)."""

    by: str = "user"
    period: str = "30"
    first: date = FIRST_DAY
    last: date = FIRST_DAY
    owner: str = ""
    verified: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """The report of one chain or currency: rows as ClickHouse gives them, their sums, the smallest unit's name."""

    chain: str
    unit: str
    coin: str  # "" where it is not known how many units one has
    decimals: int
    rows: tuple[Mapping[str, Any], ...]
    sums: Mapping[str, Any]
    cut: bool  # there are more rows than are shown; the sums are of all

    @property
    def title(self) -> str:
        """The chain for people."""
        coin = self.chain.removeprefix(GAS)
        return self.chain if coin == self.chain else f"{coin} in managed custody"


def asked(form: Mapping[str, str], today: date) -> Asked:
    """The form's values. Raises ApiError 422 that names the field."""
    by, period = form.get("by") or "user", form.get("period") or "30"
    if by not in GROUPS:
        raise ApiError(422, "invalid", f"by: one of {', '.join(GROUPS)}", "by")
    if period not in PERIODS:
        raise ApiError(422, "invalid", f"period: one of {', '.join(PERIODS)}", "period")
    owner = (form.get("owner") or "").strip()
    if len(owner) > ID_MAX:
        raise ApiError(422, "invalid", f"owner: at most {ID_MAX} characters", "owner")
    first, last = _dates(form, period, today)
    return Asked(by, period, first, last, owner, by == "user" and form.get("verified") in ("1", "on"))


def _dates(form: Mapping[str, str], period: str, today: date) -> tuple[date, date]:
    if period == "all":
        return FIRST_DAY, today
    if period != "own":
        return today - timedelta(days=int(period) - 1), today
    first, last = _date(form, "from", FIRST_DAY), _date(form, "to", today)
    if first > last:
        raise ApiError(422, "invalid", f"from: {first} is after to, {last}", "from")
    return first, last


def _date(form: Mapping[str, str], name: str, default: date) -> date:
    text = form.get(name) or ""
    try:
        found = date.fromisoformat(text) if text else default
    except ValueError:
        raise ApiError(422, "invalid", f"{name}: a day such as 2026-01-31, not {text[:20]!r}", name) from None
    if not 1970 <= found.year <= 2148:
        raise ApiError(422, "invalid", f"{name}: a day between 1970 and 2148", name)
    return found


def allowed(client: Client, wanted: Asked) -> Asked:
    """The question that this client may ask: with gas:read any, else for its own user's gas. Raises ApiError 403."""
    if client.may(GAS_READ):
        return wanted
    if client.user_id and wanted.owner in ("", client.user_id):
        return Asked(wanted.by, wanted.period, wanted.first, wanted.last, client.user_id, wanted.verified)
    raise ApiError(
        403, "forbidden", f"this key may not read that user's gas; it lacks the scope {GAS_READ}", "owner"
    )


async def ask(clickhouse: ClickHouse, wanted: Asked) -> list[Table]:
    """A table for each chain and currency. Raises ApiError 503."""
    values = {
        "first": wanted.first.isoformat(),
        "last": wanted.last.isoformat(),
        "owner": as_told(wanted.owner),
    }
    rows = await clickhouse.rows(report_sql(wanted), {**values, "limit": ROWS_MAX + 1})
    sums = await clickhouse.rows(sums_sql(wanted), values)
    by_chain = {row["chain"]: row for row in sums}
    return [
        table(chain, [row for row in rows if row["chain"] == chain], by_chain[chain])
        for chain in sorted(by_chain)
    ]


def report_sql(wanted: Asked) -> str:
    """The question for the rows, in parameters first, last, owner, limit."""
    view, key = _VIEWS[wanted.by]
    order = "name DESC" if wanted.by == "day" else "sum(total_gas_required) DESC, name"
    return (
        f"SELECT chain, toString({key}) AS name, {_sums()}\n{_from(wanted, view)}\nGROUP BY chain, name\n"
        f"ORDER BY chain, {order} LIMIT {{limit:UInt32}} BY chain"
    )


def sums_sql(wanted: Asked) -> str:
    """The question for the sums by chain, with its coin and the coin's decimals, in parameters first, last, owner.

    By asset they are those of all gas: a transaction that changed two assets stands in the rows of both.
    """
    view = "gas_daily" if wanted.by == "asset" else _VIEWS[wanted.by][0]
    named = f"{coin('chain')} AS coin, {decimals('chain')} AS decimals"
    return f"SELECT chain, {named}, {_sums()}\n{_from(wanted, view)}\nGROUP BY chain"


def _sums() -> str:
    told = ", ".join(f"toString(sum({name})) AS {name.removeprefix('total_gas_')}" for name in SUMS)
    return f"sum(transactions) AS transactions, {told}"


def _from(wanted: Asked, view: str) -> str:
    owner = "owner = {owner:String}" if wanted.owner else ""
    if wanted.verified:
        period = "gas_report_between(from = {first:Date}, to = {last:Date}, verified = 1)"
        return f"FROM {period} WHERE {owner}" if owner else f"FROM {period}"
    when = "day BETWEEN {first:Date} AND {last:Date}"
    return f"FROM {view} WHERE {f'{when} AND {owner}' if owner else when}"


def table(chain: str, rows: Sequence[Mapping[str, Any]], sums: Mapping[str, Any]) -> Table:
    """One chain's table, with coverage: the part of what is required that the treasury has paid."""
    places, name = sums["decimals"], sums["coin"]
    known = name if places >= 0 else ""
    unit = _SMALLEST.get(known, f"smallest units of {name}")
    told = tuple({**row, "covered": covered(row)} for row in rows[:ROWS_MAX])
    cut = len(rows) > ROWS_MAX
    told_sums = {**sums, "covered": covered(sums)}
    return Table(chain, unit, known, max(places, 0), told, told_sums, cut)


def covered(row: Mapping[str, Any]) -> str:
    """paid by treasury / required in percent, two places, cut off; "" where nothing was required."""
    required = int(row["required"])
    if required == 0:
        return ""
    hundredths = int(row["paid_by_treasury"]) * 10_000 // required
    return f"{hundredths // 100}.{hundredths % 100:02d} %"


def whole(amount: str, decimals: int) -> str:
    """An amount of smallest units in whole coins, exact: 12, 6 → 0.000012."""
    with localcontext(prec=100):
        text = f"{Decimal(amount).scaleb(-decimals):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
