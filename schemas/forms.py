"""Forms of an Avro schema, as pure functions over its JSON.

A schema is written once for people (docs, short names, attributes of ours) and read by several machines. Each
reader gets the form that holds what concerns it and nothing else:

* the *resolution form* holds what decides how bytes are read: full names, fields, types, defaults, logical
  types, symbols, sizes, aliases. It is self-contained and is what gets frozen, so that a change of wording or
  of a ClickHouse attribute never makes a new schema id.
* the *parsing canonical form* and its Rabin fingerprint are those of the Avro specification, "Parsing
  Canonical Form for Schemas" and "Schema Fingerprints".
* the *plain form* is the resolution form with the logical types of time taken off: times stay integers in the
  unit their schema names, exact and without a time zone.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from fastavro.schema import fingerprint as _fingerprint
from fastavro.schema import to_parsing_canonical_form

PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
NAMED = frozenset({"record", "error", "enum", "fixed"})
TIMES = frozenset(
    {
        "date",
        "time-millis",
        "time-micros",
        "timestamp-millis",
        "timestamp-micros",
        "timestamp-nanos",
        "local-timestamp-millis",
        "local-timestamp-micros",
        "local-timestamp-nanos",
    }
)
_LOGICAL_KEYS = ("logicalType", "precision", "scale")


class SchemaFault(ValueError):
    """A schema that cannot be used; the text says where and why."""


def full_name(name: str, namespace: str) -> str:
    """`name` within `namespace` ("" = the null namespace); a dotted name stands for itself."""
    return name if "." in name or not namespace else f"{namespace}.{name}"


def namespace_of(name: str) -> str:
    """Namespace part of a full name, "" if it has none."""
    return name.rpartition(".")[0]


def named_types(schema: Any, namespace: str = "") -> Iterator[tuple[str, dict[str, Any], str]]:
    """Every record, enum and fixed defined within `schema`: (full name, its JSON, namespace it stands in)."""
    if isinstance(schema, list):
        for branch in schema:
            yield from named_types(branch, namespace)
    elif isinstance(schema, dict):
        kind = schema.get("type")
        inner = namespace
        if kind in NAMED:
            name = full_name(schema["name"], schema.get("namespace", namespace))
            inner = namespace_of(name)
            yield name, schema, namespace
        for child in (kind, schema.get("items"), schema.get("values")):
            yield from named_types(child, inner)
        for field in schema.get("fields", ()):
            yield from named_types(field["type"], inner)


def resolution_form(
    schema: Any, pool: Mapping[str, tuple[dict[str, Any], str]] | None = None, *, with_doc: bool = False
) -> Any:
    """What decides how bytes of `schema` are read, self-contained and with full names.

    `pool` holds named types of other files, full name -> (JSON, namespace); a type taken from it is defined
    in full where it is first used. Raises SchemaFault for an unknown type or a name defined twice.
    """
    return _Resolution(pool or {}, with_doc).form(schema, "", "")


class _Resolution:
    """One walk over one schema; `defined` are the names met so far, in the order of the walk."""

    def __init__(self, pool: Mapping[str, tuple[dict[str, Any], str]], with_doc: bool) -> None:
        self.pool = pool
        self.with_doc = with_doc
        self.defined: set[str] = set()

    def form(self, schema: Any, namespace: str, path: str) -> Any:
        if isinstance(schema, str):
            return self._reference(schema, namespace, path)
        if isinstance(schema, list):
            return [self.form(branch, namespace, path) for branch in schema]
        if not isinstance(schema, dict) or "type" not in schema:
            raise SchemaFault(f"{path or 'schema'}: not an Avro schema: {schema!r:.60}")
        kind = schema["type"]
        if kind == "array":
            return {"type": "array", "items": self.form(schema["items"], namespace, f"{path}[]")}
        if kind == "map":
            return {"type": "map", "values": self.form(schema["values"], namespace, f"{path}{{}}")}
        if isinstance(kind, str) and kind in NAMED:
            return self._named(schema, namespace, path)
        inner = self.form(kind, namespace, path)
        logical = {key: schema[key] for key in _LOGICAL_KEYS if key in schema}
        return {"type": inner, **logical} if logical and isinstance(inner, str) else inner

    def _reference(self, name: str, namespace: str, path: str) -> Any:
        if name in PRIMITIVES:
            return name
        full = full_name(name, namespace)
        if full in self.defined:
            return full
        if full in self.pool:
            return self._named(*self.pool[full], path)
        raise SchemaFault(f"{path or 'schema'}: unknown type {full}")

    def _named(self, schema: dict[str, Any], namespace: str, path: str) -> dict[str, Any]:
        name = full_name(schema["name"], schema.get("namespace", namespace))
        if name in self.defined:
            raise SchemaFault(f"{path or 'schema'}: {name} is defined twice")
        inner = namespace_of(name)
        if namespace and not inner:
            raise SchemaFault(f"{path or 'schema'}: {name} has no namespace within {namespace}")
        self.defined.add(name)
        form: dict[str, Any] = {"type": schema["type"], "name": name, **self._doc(schema)}
        if schema.get("aliases"):
            form["aliases"] = [full_name(alias, inner) for alias in schema["aliases"]]
        if schema["type"] == "enum":
            form["symbols"] = list(schema["symbols"])
            if "default" in schema:
                form["default"] = schema["default"]
        elif schema["type"] == "fixed":
            form["size"] = schema["size"]
            form.update({key: schema[key] for key in _LOGICAL_KEYS if key in schema})
        else:
            form["fields"] = [self._field(field, inner, path) for field in schema["fields"]]
        return form

    def _doc(self, part: dict[str, Any]) -> dict[str, Any]:
        return {"doc": part["doc"]} if self.with_doc and "doc" in part else {}

    def _field(self, field: dict[str, Any], namespace: str, path: str) -> dict[str, Any]:
        at = f"{path}.{field['name']}".lstrip(".")
        form = {"name": field["name"], "type": self.form(field["type"], namespace, at), **self._doc(field)}
        if "default" in field:
            form["default"] = field["default"]
        if field.get("aliases"):
            form["aliases"] = list(field["aliases"])
        return form


def plain_form(form: Any) -> Any:
    """`form` (a resolution form) without the logical types of time; decimal and uuid stay."""
    if isinstance(form, list):
        return [plain_form(branch) for branch in form]
    if not isinstance(form, dict):
        return form
    if form.get("logicalType") in TIMES:
        return form["type"]
    plain = dict(form)
    for key in ("items", "values"):
        if key in form:
            plain[key] = plain_form(form[key])
    if "fields" in form:
        plain["fields"] = [{**field, "type": plain_form(field["type"])} for field in form["fields"]]
    return plain


def canonical_form(schema: Any) -> str:
    """Parsing Canonical Form of the Avro specification, as text."""
    return str(to_parsing_canonical_form(schema))


def fingerprint(canonical: str) -> int:
    """64-bit Rabin fingerprint (CRC-64-AVRO) of a canonical form, signed as Java's and the test vectors'
    are."""
    return int.from_bytes(bytes.fromhex(_fingerprint(canonical, "CRC-64-AVRO")), "little", signed=True)
