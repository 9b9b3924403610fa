"""Backward compatibility: can a reader with the new schema read what was written with the old one?

The rules are the Avro specification's "Schema Resolution", read strictly in two places: named types match by
full name or alias (a reader is looked up by that), and a logical type may not change, for it changes what the
same bytes mean. Default values are not judged here; fastavro refuses wrong ones when it parses a schema.
"""

from typing import Any

from schemas.exact import names_of
from schemas.forms import PRIMITIVES, SchemaFault, resolution_form

PROMOTIONS = {
    "int": frozenset({"long", "float", "double"}),
    "long": frozenset({"float", "double"}),
    "float": frozenset({"double"}),
    "string": frozenset({"bytes"}),
    "bytes": frozenset({"string"}),
}
_LOGICAL = ("logicalType", "precision", "scale")


def backward_errors(reader: Any, writer: Any) -> list[str]:
    """Why `reader` cannot read data of `writer`, one line each beginning with the field's path; [] if it can.

    Both are Avro schemas as JSON. Raises SchemaFault for one that is none.
    """
    ours, theirs = resolution_form(reader), resolution_form(writer)
    return _Comparison(names_of(ours), names_of(theirs)).errors(ours, theirs, "")


class _Comparison:
    """One comparison; `met` are the pairs of records under way, for schemas that contain themselves."""

    def __init__(self, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
        self._ours, self._theirs = ours, theirs
        self._met: set[tuple[str, str]] = set()

    def errors(self, reader: Any, writer: Any, path: str) -> list[str]:
        reader, writer = _defined(reader, self._ours), _defined(writer, self._theirs)
        if isinstance(writer, list):
            return [error for branch in writer for error in self.errors(reader, branch, path)]
        if isinstance(reader, list):
            return self._union(reader, writer, path)
        kind, written = _kind(reader), _kind(writer)
        if kind != written:
            if kind in PROMOTIONS.get(written, ()):
                return self._logical(reader, writer, path)
            return [f"{_at(path)}: {_title(writer)} cannot be read as {_title(reader)}"]
        if kind == "array":
            return self.errors(reader["items"], writer["items"], f"{path}[]")
        if kind == "map":
            return self.errors(reader["values"], writer["values"], f"{path}{{}}")
        if kind in PRIMITIVES:
            return self._logical(reader, writer, path)
        return self._named(kind, reader, writer, path)

    def _union(self, branches: list[Any], writer: Any, path: str) -> list[str]:
        """The first branch of the writer's own kind and name decides, else the first it can be promoted
        to."""
        resolved = [_defined(branch, self._ours) for branch in branches]
        same = [branch for branch in resolved if _matches(branch, writer)]
        if same:
            return self.errors(same[0], writer, path)
        if any(_kind(branch) in PROMOTIONS.get(_kind(writer), ()) for branch in resolved):
            return []
        return [f"{_at(path)}: {_title(writer)} is not in the union [{', '.join(map(_title, resolved))}]"]

    def _logical(self, reader: Any, writer: Any, path: str) -> list[str]:
        ours, theirs = _logical_type(reader), _logical_type(writer)
        return [] if ours == theirs else [f"{_at(path)}: {_title(writer)} cannot be read as {_title(reader)}"]

    def _named(self, kind: str, reader: Any, writer: Any, path: str) -> list[str]:
        if not _same_name(reader, writer):
            return [
                f"{_at(path)}: {writer['name']} cannot be read as {reader['name']}: another name, no alias"
            ]
        if kind == "fixed":
            if reader["size"] != writer["size"]:
                return [f"{_at(path)}: {writer['size']} bytes cannot be read as {reader['size']}"]
            return self._logical(reader, writer, path)
        if kind == "enum":
            return _enum_errors(reader, writer, path)
        pair = (reader["name"], writer["name"])
        if pair in self._met:
            return []
        self._met.add(pair)
        return self._record(reader, writer, path)

    def _record(self, reader: Any, writer: Any, path: str) -> list[str]:
        written = {field["name"]: field for field in writer["fields"]}
        found: list[str] = []
        for field in reader["fields"]:
            at = f"{path}.{field['name']}".lstrip(".")
            source = next((n for n in (field["name"], *field.get("aliases", ())) if n in written), None)
            if source is not None:
                found += self.errors(field["type"], written[source]["type"], at)
            elif "default" not in field:
                found.append(f"{at}: a new field without a default")
        return found


def _enum_errors(reader: Any, writer: Any, path: str) -> list[str]:
    gone = [symbol for symbol in writer["symbols"] if symbol not in reader["symbols"]]
    if not gone or "default" in reader:
        return []
    return [f"{_at(path)}: {reader['name']} lost {', '.join(gone)} and has no default"]


def _defined(form: Any, names: dict[str, Any]) -> Any:
    if isinstance(form, str) and form not in PRIMITIVES:
        if form not in names:
            raise SchemaFault(f"unknown type {form}")
        return names[form]
    return form


def _kind(form: Any) -> str:
    kind = form if isinstance(form, str) else form["type"]
    return "record" if kind == "error" else str(kind)


def _matches(reader: Any, writer: Any) -> bool:
    return _kind(reader) == _kind(writer) and ("name" not in _as_dict(reader) or _same_name(reader, writer))


def _same_name(reader: Any, writer: Any) -> bool:
    return writer["name"] in (reader["name"], *reader.get("aliases", ()))


def _as_dict(form: Any) -> dict[str, Any]:
    return form if isinstance(form, dict) else {}


def _logical_type(form: Any) -> tuple[Any, ...]:
    return tuple(_as_dict(form).get(key) for key in _LOGICAL)


def _title(form: Any) -> str:
    if isinstance(form, str):
        return form
    if isinstance(form, list):
        return f"[{', '.join(map(_title, form))}]"
    logical = [str(part) for part in _logical_type(form) if part is not None]
    return str(form.get("name", form["type"])) + (f" ({' '.join(logical)})" if logical else "")


def _at(path: str) -> str:
    return path or "record"
