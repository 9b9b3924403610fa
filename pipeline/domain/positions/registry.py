"""Institutions, asset templates and assets: what positions stand on. Entries never change once they are there.

A template carries its institution's regional policy. It is checked where something is created under it: the region of
an asset when the asset is registered, currency and holder's region when a position is created.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.domain.applications.event import AppEvent, Change, Decision, Refusal, Value, View, one
from pipeline.domain.positions.money import scale_of

KEY = "position_id"
TEXT_MAX = 256
TIME_END_MS = 253_402_300_800_000  # the year 10000


def needed(data: Mapping[str, Any], *names: str) -> None:
    """These texts of an event must say something, in at most TEXT_MAX characters. Raises Refusal."""
    for name in names:
        check_text(data[name], f"data.{name}")


def check_text(text: str, field: str) -> None:
    """Refuse a text that says nothing or is longer than TEXT_MAX."""
    if not text.strip():
        raise Refusal("missing", field, "it is empty")
    if len(text) > TEXT_MAX:
        raise Refusal("too_long", field, f"more than {TEXT_MAX} characters")


def check_time(ms: int | None, field: str) -> None:
    """Refuse what is no time from 1970 to 9999; None is none and passes."""
    if ms is not None and not 0 < ms < TIME_END_MS:
        raise Refusal("bad_time", field, f"{ms} is no time in milliseconds since 1970, before the year 10000")


def check_envelope(event: AppEvent, key_field: str = KEY) -> None:
    """The event names what it is about, and has a time. Raises Refusal."""
    check_text(event.key, key_field)
    check_time(event.at_ms, "at")


def check_institution(event: AppEvent) -> None:
    """A name and a region. Raises Refusal."""
    check_envelope(event)
    needed(event.data, "name", "region")


def institution_registered(event: AppEvent, view: View) -> Decision:
    """An institution is there from now on."""
    _new(view, "institution", event.key)
    value = {"name": event.data["name"], "region": event.data["region"], "created_ms": event.at_ms}
    return Decision([Change("institution", event.key, value)])


def check_template(event: AppEvent) -> None:
    """Currencies that the books know; no empty or repeated entry. Raises Refusal."""
    check_envelope(event)
    needed(event.data, "institution_id", "name")
    for currency in event.data["currencies"]:
        scale_of(currency, "data.currencies")
    for name in ("regions", "currencies"):
        _distinct(event.data[name], f"data.{name}")


def template_registered(event: AppEvent, view: View) -> Decision:
    """A template of an institution, with its on-chain switch and its regional policy."""
    _new(view, "template", event.key)
    one(view, "institution", event.data["institution_id"], "data.institution_id")
    value = {
        "institution_id": event.data["institution_id"],
        "name": event.data["name"],
        "onchain_enabled": event.data["onchain_enabled"],
        "regions": list(event.data["regions"]),
        "currencies": list(event.data["currencies"]),
        "created_ms": event.at_ms,
    }
    return Decision([Change("template", event.key, value)])


def check_asset(event: AppEvent) -> None:
    """Template, institution and region are said. Raises Refusal."""
    check_envelope(event)
    needed(event.data, "template_id", "institution_id", "region")


def asset_registered(event: AppEvent, view: View) -> Decision:
    """An asset of an institution, where its template's policy allows it."""
    _new(view, "asset", event.key)
    data = event.data
    one(view, "institution", data["institution_id"], "data.institution_id")
    template = one(view, "template", data["template_id"], "data.template_id")
    same_institution(template, data["institution_id"], f"template {data['template_id']}", "data.template_id")
    check_region(template, data["region"], "data.region")
    value = {name: data[name] for name in ("institution_id", "template_id", "region", "name")}
    return Decision([Change("asset", event.key, {**value, "created_ms": event.at_ms})])


def same_institution(entry: Value, institution_id: str, what: str, field: str) -> None:
    """Refuse an entry of another institution."""
    if entry["institution_id"] != institution_id:
        raise Refusal("other_institution", field, f"{what} is of {entry['institution_id']}")


def check_region(template: Value, region: str, field: str) -> None:
    """Refuse a region that the template's policy does not allow."""
    allowed = template["regions"]
    if allowed and region not in allowed:
        raise Refusal("region_not_allowed", field, f"{region[:40]!r} is none of {', '.join(allowed)}")


def check_currency(template: Value, currency: str, field: str) -> None:
    """Refuse a currency that the template's policy does not allow."""
    allowed = template["currencies"]
    if allowed and currency not in allowed:
        raise Refusal("currency_not_allowed", field, f"{currency} is none of {', '.join(allowed)}")


def _new(view: View, kind: str, id: str) -> None:
    if view.get(kind, id) is not None:
        raise Refusal("already_registered", KEY, f"{kind} {id} is there already")


def _distinct(names: Sequence[str], field: str) -> None:
    if not all(name.strip() for name in names):
        raise Refusal("missing", field, "an entry is empty")
    if len(set(names)) < len(names):
        raise Refusal("repeated", field, "an entry is there twice")
