"""JSON Schema (2020-12) of what a record looks like as JSON: `schemas.json_form`, told to those who write it. Pure.

A record is an object with exactly its fields; a field with a default may be left out; null stands where the schema has
it; docs become descriptions. What json_form reads and what is described here must agree: a test holds the one
against the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from schemas.exact import RANGES, names_of
from schemas.forms import NAMED, PRIMITIVES, SchemaFault
from schemas.json_form import (
    ID_CHARS_MAX,
    STRING_BYTES_MAX,
    TIME_MS_MAX,
    TIME_MS_MIN,
    is_amount,
    is_id,
)

JsonSchema = dict[str, Any]

NO_NUL: Final = r"^[^\u0000]*$"
ISO: Final = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,3}0*)?(Z|[+-][0-9]{2}:[0-9]{2})$"
)
TIME: Final[JsonSchema] = {
    "anyOf": [
        {"type": "string", "format": "date-time", "pattern": ISO},
        {"type": "integer", "minimum": TIME_MS_MIN, "maximum": TIME_MS_MAX},
    ],
}
"""A time: ISO 8601 with its zone, or milliseconds since 1970."""
AMOUNT: Final[JsonSchema] = {
    "anyOf": [
        {"type": "string", "maxLength": ID_CHARS_MAX, "pattern": NO_NUL},
        {"type": "number"},
    ],
}
"""An amount: a decimal number as a string, or a JSON number (of at most json_form.AMOUNT_DIGITS_MAX digits)."""


def text(longest: int) -> JsonSchema:
    """A string of at most so many characters."""
    return {"type": "string", "maxLength": longest, "pattern": NO_NUL}


def definitions(form: Any, prefix: str = "#/components/schemas/") -> dict[str, JsonSchema]:
    """JSON Schemas of all records and enums that a schema's form defines, by short name.

    `form` is a resolution form, as a rule with docs (`Schema.documented`). Records refer to each other by
    `<prefix><short name>`. Types that JSON can't say are left out. Raises SchemaFault where two share a short name.
    """
    names, found = names_of(form), dict[str, JsonSchema]()
    for name, one in names.items():
        if short_name(name) in found:
            raise SchemaFault(f"two types are called {short_name(name)}")
        if one["type"] == "record":
            found[short_name(name)] = _record(one, prefix, names)
        elif one["type"] == "enum":
            found[short_name(name)] = _described({"enum": list(one["symbols"])}, one)
    return found


def short_name(name: str) -> str:
    """tidebook.assets.types.Transferred → Transferred."""
    return name.rpartition(".")[2]


def _record(form: Mapping[str, Any], prefix: str, names: Mapping[str, Any]) -> JsonSchema:
    made: JsonSchema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            one["name"]: _described(_of(one["type"], one["name"], prefix, names), one)
            for one in form["fields"]
        },
    }
    required = [one["name"] for one in form["fields"] if "default" not in one]
    return _described(made | ({"required": required} if required else {}), form)


def _described(made: JsonSchema, form: Mapping[str, Any]) -> JsonSchema:
    return {**made, "description": form["doc"]} if form.get("doc") else made


def _of(form: Any, field: str, prefix: str, names: Mapping[str, Any]) -> JsonSchema:
    if isinstance(form, list):
        branches = [_of(branch, field, prefix, names) for branch in form]
        return branches[0] if len(branches) == 1 else {"anyOf": branches}
    if isinstance(form, str) and form not in PRIMITIVES:
        return {"$ref": f"{prefix}{short_name(form)}"}
    if isinstance(form, Mapping):
        kind = form["type"]
        if kind == "array":
            return {"type": "array", "items": _of(form["items"], field, prefix, names)}
        if kind in NAMED:
            return {"$ref": f"{prefix}{short_name(form['name'])}"}
        if form.get("logicalType") == "timestamp-millis":
            return dict(TIME)
        return _primitive(kind, field) if isinstance(kind, str) else {}
    return _primitive(form, field)


def _primitive(kind: str, field: str) -> JsonSchema:
    if kind == "string":
        if is_amount(field):
            return dict(AMOUNT)
        return text(ID_CHARS_MAX if is_id(field) else STRING_BYTES_MAX)
    if kind in RANGES:
        low, high = RANGES[kind]
        return {"type": "integer", "minimum": low, "maximum": high}
    return {"type": {"boolean": "boolean", "null": "null"}.get(kind, "number")}
