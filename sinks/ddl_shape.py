"""Avro schemas as ClickHouse sees them: the fields of a record by dotted path, their types, docs and
defaults.
Pure.

Strings and bytes → String, enums → String, fixed → FixedString, arrays → Array, records → Tuple, a union of
null and one type → Nullable (of a record: a Tuple whose values are empty), times → DateTime64 in UTC.
What ClickHouse cannot hold is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from schemas.loader import Schema

_PRIMITIVES: Final = {
    "string": "String", "bytes": "String", "int": "Int32", "long": "Int64", "boolean": "Bool",
    "float": "Float32",
    "double": "Float64",
}  # fmt: skip
_LOGICAL: Final = {
    "date": "Date32",
    "timestamp-millis": "DateTime64(3, 'UTC')",
    "timestamp-micros": "DateTime64(6, 'UTC')",
}


class DdlFault(ValueError):
    """A "clickhouse" attribute or a schema that tables cannot be made from; the text says where and why."""


def documented(schema: Schema) -> dict[str, Any]:
    """The resolution form, which is self-contained, with docs and "clickhouse" as in the file."""
    form: dict[str, Any] = _with_docs(schema.resolution, schema.raw)
    return {**form, "clickhouse": schema.clickhouse}


class Shape:
    """The fields of a record schema with full names, by dotted path through arrays of records."""

    def __init__(self, form: Mapping[str, Any]) -> None:
        self._named: dict[str, Any] = {}
        self.fields: dict[str, Mapping[str, Any]] = {}
        self.type = self._tuple(form)
        self._walk(form, "")

    def click_type(self, path: str) -> str:
        """ClickHouse type of one value at `path`. Raises DdlFault."""
        return self._type(self._field(path)["type"])

    def doc(self, path: str) -> str:
        """The field's doc. Raises DdlFault."""
        return str(self._field(path).get("doc", ""))

    def is_array(self, path: str) -> bool:
        """Whether the field at `path` is an array of records."""
        field = self.fields.get(path)
        return field is not None and self._items(field["type"]) is not None

    def optional_records(self) -> list[str]:
        """Fields of the message itself that hold a record or null."""
        return [
            path
            for path, field in self.fields.items()
            if "." not in path and isinstance(field["type"], list) and self._record(field["type"]) is not None
        ]

    def default(self, path: str) -> str:
        """SQL literal of the default of the field at `path`. Raises DdlFault if it has none."""
        field = self._field(path)
        parts = path.split(".")
        parents = [self.fields[".".join(parts[:depth])] for depth in range(1, len(parts))]
        if self._record(field["type"]) is not None:
            parents.append(field)
        if any(parent.get("default", "") is None for parent in parents):  # as of a record that is null
            return f"defaultValueOfTypeName({literal(self.click_type(path))})"
        if "default" not in field:
            raise DdlFault(f"{path}: the writer's schema lacks it and ours has no default")
        return f"CAST({literal(field['default'])} AS {self.click_type(path)})"

    def _field(self, path: str) -> Mapping[str, Any]:
        if path not in self.fields:
            raise DdlFault(f"{path}: no such field")
        return self.fields[path]

    def _items(self, kind: Any) -> Mapping[str, Any] | None:
        """The record that `kind` is an array of, else None."""
        if not isinstance(kind, Mapping) or kind.get("type") != "array":
            return None
        items = kind["items"]
        found = self._named.get(items) if isinstance(items, str) else items
        return found if isinstance(found, Mapping) and found.get("type") == "record" else None

    def _record(self, kind: Any) -> Mapping[str, Any] | None:
        """The record that `kind` is, or is where it is not null, else None."""
        if isinstance(kind, list):
            kind = next((branch for branch in kind if branch != "null"), None)
        found = self._named.get(kind) if isinstance(kind, str) else kind
        return found if isinstance(found, Mapping) and found.get("type") == "record" else None

    def _walk(self, record: Mapping[str, Any], prefix: str) -> None:
        for field in record["fields"]:
            path = f"{prefix}{field['name']}"
            self.fields[path] = field
            inner = self._items(field["type"]) or self._record(field["type"])
            if inner is not None:
                self._walk(inner, f"{path}.")

    def _tuple(self, record: Mapping[str, Any]) -> str:
        parts = [f"`{field['name']}` {self._type(field['type'])}" for field in record["fields"]]
        return f"Tuple({', '.join(parts)})"

    def _type(self, kind: Any) -> str:
        if isinstance(kind, list):
            return self._union(kind)
        if isinstance(kind, str):
            return _PRIMITIVES.get(kind) or self._reference(kind)
        name = kind["type"]
        if kind.get("logicalType") in _LOGICAL:
            return _LOGICAL[kind["logicalType"]]
        if name == "array":
            return f"Array({self._type(kind['items'])})"
        if name in ("record", "enum", "fixed"):
            return self._define(kind)
        return self._type(name)

    def _define(self, kind: Mapping[str, Any]) -> str:
        self._named[str(kind["name"])] = kind
        if kind["type"] == "enum":
            return "String"
        return f"FixedString({kind['size']})" if kind["type"] == "fixed" else self._tuple(kind)

    def _reference(self, name: str) -> str:
        kind = self._named.get(name)
        if kind is None:
            raise DdlFault(f"no ClickHouse type for {name}")
        return self._define(kind)

    def _union(self, branches: Sequence[Any]) -> str:
        others = [branch for branch in branches if branch != "null"]
        if len(others) != 1 or len(branches) != 2:
            raise DdlFault(f"a union is null and one type, not {branches!r:.80}")
        inner = self._type(others[0])
        if inner.startswith("Tuple"):
            return inner  # ClickHouse reads null as a tuple of defaults
        if inner.startswith("Array"):
            raise DdlFault(f"ClickHouse has no nullable {inner:.40}")
        return f"Nullable({inner})"


def literal(value: Any) -> str:
    """SQL literal of a JSON value: null, bool, int, string or an empty array."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if value == []:
        return "[]"
    raise DdlFault(f"no SQL literal for {json.dumps(value)}")


def _with_docs(form: Any, raw: Any) -> Any:
    """`form` with the docs that stand at the same place in `raw`; a type that raw only names brings none."""
    if isinstance(form, list) and isinstance(raw, list) and len(form) == len(raw):
        return [_with_docs(one, of) for one, of in zip(form, raw, strict=True)]
    if not isinstance(form, Mapping) or not isinstance(raw, Mapping):
        return form
    made = {**form, **({"doc": raw["doc"]} if "doc" in raw else {})}
    if "items" in made and "items" in raw:
        made["items"] = _with_docs(made["items"], raw["items"])
    if "fields" in made:
        sources = {field["name"]: field for field in raw.get("fields", ())}
        made["fields"] = [_field_with_docs(field, sources.get(field["name"], {})) for field in made["fields"]]
    return made


def _field_with_docs(field: Mapping[str, Any], raw: Mapping[str, Any]) -> dict[str, Any]:
    return {**field, "type": _with_docs(field["type"], raw.get("type")), "doc": raw.get("doc", "")}
