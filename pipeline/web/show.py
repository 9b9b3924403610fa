"""Rows → what the templates are given, and the templates' own words. Every value is escaped where it is put in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext
from typing import Any, Final
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pipeline.web import charts, gas
from pipeline.web.asks import SINGLE, Row, chain_key
from pipeline.web.graph import graph
from pipeline.web.story import entries, hand_overs

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def path(text: Any) -> str:
    """A text as part of an address."""
    return quote(str(text), safe="/:")


def moment(text: Any) -> str:
    """An ISO time as people read it: 2026-01-05 12:00:11 UTC; "" of none."""
    told = str(text or "").replace("T", " ").removesuffix("Z")
    return f"{told.removesuffix('.000')} UTC" if told else ""


def age(seconds: Any) -> str:
    """Seconds in the largest unit that fits."""
    if seconds is None:
        return ""
    number = int(seconds)
    for size, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if number >= size:
            return f"{number // size} {name}"
    return f"{max(number, 0)} s"


_PAGES: Final = Environment(
    loader=PackageLoader("pipeline.web"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
    lstrip_blocks=True,
)  # fmt: skip
_PAGES.filters.update(path=path, moment=moment, age=age, whole=gas.whole)
_PAGES.globals["parts"] = _PAGES.get_template("parts.html").module


def page(template: str, **values: Any) -> str:
    """A page's HTML."""
    return _PAGES.get_template(template).render(**values)


def asset(
    name: str, state: Row | None, rows: Sequence[Row], days: Sequence[Row], skip: int, holder: str | None
) -> dict[str, Any]:
    """What asset.html shows: `held` are the hand-overs of this page's rows, `graph` draws them.

    `holder`: who holds a single token on its chain, "" where it is burnt.
    """
    story, named = entries(rows, skip + 1), chain_key(name)
    held = hand_overs(story, name if state is None else state["asset_id"])
    single = named is None or named[1].startswith(SINGLE)
    now = _owners(state) if named is None else [holder] if holder and single else []
    packs = {str(one.entry.row["about"]) for one in held if one.move.kind == "pack"}
    return {
        "name": name,
        "state": state,
        "title": (state or {}).get("title") or name,
        "chain": named[0] if named else "",
        "single": single,
        "story": story,
        "held": held,
        "graph": graph([row.move for row in held], now, packs),
        "now": now,
        "packs": packs,
        "burnt": holder == "" if named else bool(state and state["burnt"]),
        **_days(days, name),
    }


def _owners(state: Row | None) -> list[str]:
    """Who owns an application's asset, or units of it."""
    if state is None:
        return []
    return list(state["holdings"]) or ([state["owner_user_id"]] if state["owner_user_id"] else [])


def holders(asset: str, rows: Sequence[Row], days: Sequence[Row], complete: bool) -> dict[str, Any]:
    """What holders.html shows; shares where all holders are on the page."""
    whole = _sum([row["balance"] for row in rows]) if complete else None
    told = [{**row, "share": _share(row["balance"], whole)} for row in rows]
    return {
        "name": asset,
        "rows": told,
        "total": None if whole is None else f"{whole:f}",
        **_days(days, asset),
    }


def _sum(amounts: Sequence[str]) -> Decimal:
    with localcontext(prec=200):
        return sum((Decimal(amount) for amount in amounts), Decimal(0))


def _share(amount: str, whole: Decimal | None) -> str:
    if not whole:
        return ""
    with localcontext(prec=200):
        return f"{(Decimal(amount) * 100 / whole).quantize(Decimal('0.01'))} %"


def _days(days: Sequence[Row], asset: str) -> dict[str, Any]:
    """Days oldest first, with what is not told carried on, and their chart."""
    told: list[Row] = []
    last: Any = None
    for row in reversed(days):
        last = row["holders"] if row["holders"] is not None else last
        told.append({**row, "holders": last})
    known = [row for row in told if row["holders"] is not None]
    chart = Markup("")
    if known:
        names = [row["day"] for row in known]
        chart = charts.steps(
            names, {"holders": [int(row["holders"]) for row in known]}, f"Holders of {asset} by day"
        )
    return {"days": told[::-1], "days_chart": chart}


def gas_table(table: gas.Table, wanted: gas.Asked) -> Mapping[str, Any]:
    """A table of the gas report with its chart."""
    rows = table.rows[::-1] if wanted.by == "day" else table.rows
    names = [str(row["name"]) or "(none)" for row in rows]
    series = {
        "paid by user": [Decimal(row["paid_by_user"]) for row in rows],
        "paid by treasury": [Decimal(row["paid_by_treasury"]) for row in rows],
    }
    draw = charts.columns if wanted.by == "day" else charts.bars
    label = f"Gas by {wanted.by}, {table.title}, in {table.unit}"
    return {"table": table, "label": label, "chart": draw(names, series, label), "bars_max": charts.BARS_MAX}
