"""Whether a value is exactly what a schema says, and where it is not.

fastavro writes some wrong values without a word: 1.5 into a long as 1, 2**31 into an int as a number that no
other reader accepts, None into a boolean as false, and it leaves unknown keys out. So there are two checks:

* `fault` walks the whole value and names the first field that is wrong; it is slow and runs when something
  is.
* `guard` looks only at what fastavro would let pass and answers "look closer"; it is made once per schema and
  costs a fraction of the encoding.

Both take parsed or plain forms of `schemas.forms` (full names, each named type defined at its first use).
"""

import math
import struct
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from schemas.forms import NAMED, PRIMITIVES, named_types

RANGES = {"int": (-(2**31), 2**31 - 1), "long": (-(2**63), 2**63 - 1)}

Guard = Callable[[Any], bool]
Names = Mapping[str, Any]


def names_of(form: Any) -> dict[str, Any]:
    """Named types defined in `form` by full name."""
    return {name: definition for name, definition, _ in named_types(form)}


def fault(form: Any, value: Any, names: Names | None = None, path: str = "") -> str | None:
    """The first thing wrong with `value` as one line that starts with the field's path, None if it is
    exact."""
    known = names_of(form) if names is None else names
    if isinstance(form, list):
        return _union_fault(form, value, known, path)
    if isinstance(form, str) and form not in PRIMITIVES:
        form = known[form]
    if isinstance(form, dict):
        if form.get("logicalType") == "decimal":
            return _decimal_fault(form, value, path)
        if form.get("logicalType") == "uuid":
            return None if isinstance(value, str) or hasattr(value, "hex") else _wrong(path, value, "a UUID")
        kind = form["type"]
        if kind in _COMPLEX:
            return _COMPLEX[kind](form, value, known, path)
        return _primitive_fault(kind, value, path)
    return _primitive_fault(form, value, path)


def guard(form: Any) -> Guard:
    """A quick check for `form`: True where fastavro might write the value wrong without raising."""
    return _guard(form, names_of(form), {}) or (lambda value: False)


def _wrong(path: str, value: Any, wanted: str) -> str:
    return f"{path or 'value'}: {_shown(value)} is not {wanted}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _primitive_fault(kind: str, value: Any, path: str) -> str | None:
    if kind in RANGES:
        low, high = RANGES[kind]
        if type(value) is not int:
            return _wrong(path, value, f"an {kind}" if kind == "int" else f"a {kind}")
        return None if low <= value <= high else _wrong(path, value, f"within {kind}: {low} to {high}")
    if kind == "string":
        if not isinstance(value, str):
            return _wrong(path, value, "a string")
        try:
            value.encode()
        except UnicodeEncodeError:
            return _wrong(path, value, "text that UTF-8 can hold")
        return None
    if kind == "bytes":
        return None if isinstance(value, bytes | bytearray | memoryview) else _wrong(path, value, "bytes")
    if kind == "null":
        return None if value is None else _wrong(path, value, "null")
    if kind == "boolean":
        return None if type(value) is bool else _wrong(path, value, "a boolean")
    if type(value) not in (float, int):
        return _wrong(path, value, f"a {kind}")
    return None if kind == "double" or _fits_float(value) else _wrong(path, value, "within float")


def _fits_float(value: float) -> bool:
    try:
        struct.pack("<f", value)
    except OverflowError:
        return False
    return True


def _union_fault(form: list[Any], value: Any, names: Names, path: str) -> str | None:
    faults = [fault(branch, value, names, path) for branch in form]
    if any(each is None for each in faults):
        return None
    branches = [branch for branch in form if branch != "null"]
    if len(branches) == 1 and value is not None:
        return fault(branches[0], value, names, path)
    return _wrong(path, value, f"one of {', '.join(_title(branch) for branch in form)}")


def _title(form: Any) -> str:
    return form if isinstance(form, str) else str(form.get("name", form["type"]))


def _record_fault(form: dict[str, Any], value: Any, names: Names, path: str) -> str | None:
    if not isinstance(value, Mapping):
        return _wrong(path, value, f"a record {form['name']}")
    fields = {field["name"] for field in form["fields"]}
    for key in value:
        if key not in fields:
            return f"{_join(path, key)}: {form['name']} has no such field"
    for field in form["fields"]:
        at = _join(path, field["name"])
        if field["name"] in value:
            found = fault(field["type"], value[field["name"]], names, at)
            if found is not None:
                return found
        elif "default" not in field:
            return f"{at}: missing, and the schema gives no default"
    return None


def _join(path: str, name: object) -> str:
    return f"{path}.{name}" if path else str(name)


def _enum_fault(form: dict[str, Any], value: Any, names: Names, path: str) -> str | None:
    if isinstance(value, str) and value in form["symbols"]:
        return None
    return _wrong(path, value, f"a symbol of {form['name']}: {', '.join(form['symbols'])}")


def _fixed_fault(form: dict[str, Any], value: Any, names: Names, path: str) -> str | None:
    if not isinstance(value, bytes | bytearray):
        return _wrong(path, value, f"{form['size']} bytes")
    return (
        None if len(value) == form["size"] else _wrong(path, value, f"{form['size']} bytes but {len(value)}")
    )


def _array_fault(form: dict[str, Any], value: Any, names: Names, path: str) -> str | None:
    if not isinstance(value, list | tuple):
        return _wrong(path, value, "an array")
    for index, item in enumerate(value):
        found = fault(form["items"], item, names, f"{path}[{index}]")
        if found is not None:
            return found
    return None


def _map_fault(form: dict[str, Any], value: Any, names: Names, path: str) -> str | None:
    if not isinstance(value, Mapping):
        return _wrong(path, value, "a map")
    for key, item in value.items():
        found = _primitive_fault("string", key, path) or fault(
            form["values"], item, names, f"{path}[{key!r}]"
        )
        if found is not None:
            return found
    return None


def _decimal_fault(form: dict[str, Any], value: Any, path: str) -> str | None:
    if not isinstance(value, Decimal) or not value.is_finite():
        return _wrong(path, value, "a finite Decimal")
    scale, precision = form.get("scale", 0), form["precision"]
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    if -exponent > scale:
        return _wrong(path, value, f"a decimal of scale {scale}")
    if len(digits) + exponent + scale > precision and value:
        return _wrong(path, value, f"a decimal of precision {precision}")
    return None


_COMPLEX: dict[str, Callable[[dict[str, Any], Any, Names, str], str | None]] = {
    "record": _record_fault,
    "error": _record_fault,
    "enum": _enum_fault,
    "fixed": _fixed_fault,
    "array": _array_fault,
    "map": _map_fault,
}


def _guard(form: Any, names: Names, made: dict[str, Guard]) -> Guard | None:
    """None where fastavro itself refuses every wrong value: strings, bytes, enums, fixed, unions of them."""
    if isinstance(form, str) and form in names:
        if form in made:
            return lambda value: made[form](value)
        form = names[form]
    if isinstance(form, list):
        if len(form) == 2 and form[0] == "null" and not _is_primitive(form[1]):
            inner = _guard(form[1], names, made)
            return inner and (lambda value: value is not None and inner(value))
        risky = any(_guard(branch, names, made) and not _is_primitive(branch) for branch in form)
        return (lambda value: fault(form, value, names) is not None) if risky else None
    if isinstance(form, dict):
        if form["type"] == "array":
            return _items_guard(_guard(form["items"], names, made))
        if form["type"] == "map":
            items = _items_guard(_guard(form["values"], names, made))
            return items and (lambda value: items(value.values()))
        if form["type"] in NAMED:
            return _record_guard(form, names, made) if "fields" in form else None
        form = form["type"] if "logicalType" not in form else "bytes"
    if form in RANGES:
        low, high = RANGES[form]
        return lambda value: value.__class__ is not int or not low <= value <= high
    if form == "boolean":
        return lambda value: value.__class__ is not bool
    if form in ("float", "double"):
        return lambda value: _primitive_fault(form, value, "") is not None or math.isnan(value)
    return None


def _is_primitive(form: Any) -> bool:
    return isinstance(form, str) and form in PRIMITIVES


def _items_guard(item: Guard | None) -> Guard | None:
    return item and (lambda values: any(map(item, values)))


def _record_guard(form: dict[str, Any], names: Names, made: dict[str, Guard]) -> Guard:
    """Every key is there and none else (by count: fastavro misses the missing), and each risky field is
    exact."""
    count = len(form["fields"])
    ranges: list[tuple[str, int, int]] = []
    others: list[tuple[str, Guard]] = []
    optional: list[tuple[str, Guard]] = []  # an application's topic has one for each of its event types

    def suspicious(record: Any) -> bool:
        if len(record) != count:
            return True
        for name, low, high in ranges:
            value = record[name]
            if value.__class__ is not int or not low <= value <= high:
                return True
        for name, check in others:  # a plain loop is a third faster than any() here
            if check(record[name]):
                return True
        for name, check in optional:
            value = record[name]
            if value is not None and check(value):
                return True
        return False

    made[form["name"]] = suspicious
    for field in form["fields"]:
        check = _guard(field["type"], names, made)
        if isinstance(field["type"], str) and field["type"] in RANGES:
            ranges.append((field["name"], *RANGES[field["type"]]))
        elif check is not None:
            is_optional = isinstance(field["type"], list)
            (optional if is_optional else others).append((field["name"], check))
    return suspicious
