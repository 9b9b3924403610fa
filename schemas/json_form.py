"""JSON as Avro: what a client says, exactly as its schema has it, or the field that is at fault.

`parse_json` reads a body strictly: UTF-8, one value, no key twice, no NaN, numbers with a fraction as Decimal.
`converter` makes, once per schema, a function that turns such a value into the record that Avro writes. Nothing
goes through a float, nothing is guessed, nothing that the schema doesn't name is let pass. Every fault is a
FieldFault, one line that names the field.

A schema's `string` is JSON's string; where the field's name says an amount (`is_amount`), also a JSON number, written
out plainly. `timestamp-millis` is ISO 8601 with its zone, or milliseconds since 1970 as an integer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NoReturn

import orjson

from schemas.exact import RANGES, names_of
from schemas.forms import PRIMITIVES, SchemaFault

ID_CHARS_MAX: Final = 256
STRING_BYTES_MAX: Final = 65_536
AMOUNT_DIGITS_MAX: Final = 100  # 2^256 has 78; a number's plain form must not fill the memory
TIME_MS_MIN: Final = 0
DEPTH_MAX: Final = 900  # of JSON; orjson ends at 1024, Python's own recursion at 1000
TIME_MS_MAX: Final = 5_662_310_399_999  # 2149-06-06, the last day that ClickHouse's Date holds
AMOUNT_WORDS: Final = frozenset({
    "amount", "amounts", "balance", "cap", "capacity", "ceiling", "change", "charge", "cost", "fee", "fees", "floor",
    "limit", "max", "maximum", "min", "minimum", "outstanding", "paid", "price", "principal", "provision", "quantity",
    "rate", "ratio", "remainder", "score", "share", "shares", "total", "units", "value", "weight",
})  # fmt: skip
"""Last words of fields that hold a decimal number as a string: amount, unit_price, credit_limit …"""

Convert = Callable[[Any], Any]

_ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3}0*)?(Z|[+-]\d\d:\d\d)", re.ASCII)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MS = timedelta(milliseconds=1)
_INTEGER_CHARS_MAX = AMOUNT_DIGITS_MAX + 1


class FieldFault(ValueError):
    """What is wrong with a value: `path` of the field ("" = the value itself), `what` in a line, `reason` in a word."""

    def __init__(self, path: str, what: str, reason: str = "invalid") -> None:
        super().__init__(path, what, reason)
        self.path, self.what, self.reason = path, what, reason

    def __str__(self) -> str:
        return f"{self.path or 'body'}: {self.what}"

    def within(self, name: str | int) -> FieldFault:
        """The same fault, seen from the record or array that holds the value as `name`."""
        part = f"[{name}]" if isinstance(name, int) else name
        rest = self.path if not self.path or self.path.startswith("[") else f".{self.path}"
        return FieldFault(f"{part}{rest}", self.what, self.reason)


def shown(value: Any) -> str:
    """A value as a message may show it: short, ASCII; of what holds others only what it is."""
    if type(value) in (dict, list):
        return "an object" if type(value) is dict else "an array"
    if value is None or type(value) is bool:
        return "null" if value is None else str(value).lower()
    text = ascii(value[:60]) if isinstance(value, str) else str(value)
    return text if len(text) <= 48 else f"{text[:45]}..."


# Reading JSON

_BRACKETS: Final = re.compile(r'"(?:[^"\\]|\\[\s\S])*+"|[\[\]{}]')


def parse_json(body: bytes) -> Any:
    """The value of a JSON text: objects as dict, fractions as Decimal. Raises FieldFault (reason malformed)."""
    try:
        text = body.decode()
    except UnicodeDecodeError as cause:
        raise _malformed(f"byte {cause.start} is not UTF-8") from None
    if text.count("[") + text.count("{") > DEPTH_MAX:
        _check_depth(body, text)
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as cause:
        raise _malformed(f"not JSON at line {cause.lineno}, column {cause.colno}: {cause.msg}") from None
    except RecursionError:
        raise _malformed("nested too deep") from None


def _check_depth(body: bytes, text: str) -> None:
    """Refuse what is nested so deep that json would overflow the stack, where a library has raised Python's limit of
    recursion. What orjson reads is not. Raises FieldFault."""
    try:
        orjson.loads(body)
        return
    except orjson.JSONDecodeError:
        depth = 0
    for found in _BRACKETS.finditer(text):
        depth += found[0] in ("[", "{")
        depth -= found[0] in ("]", "}")
        if depth > DEPTH_MAX:
            raise _malformed("nested too deep")


def parse_lines(body: bytes) -> Iterator[Any]:
    """The values of NDJSON, one a line, empty lines left out; a line that is no JSON is given as its FieldFault."""
    for number, line in enumerate(body.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            yield parse_json(line)
        except FieldFault as fault:
            yield FieldFault(f"line {number}", fault.what, fault.reason)


def _malformed(what: str) -> FieldFault:
    return FieldFault("", what, "malformed")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise FieldFault(shown(twice).strip("'\""), "stands twice in one object", "malformed")
    return made


def _integer(digits: str) -> int:
    if len(digits) > _INTEGER_CHARS_MAX:
        raise _malformed(f"a number of {len(digits)} digits; {AMOUNT_DIGITS_MAX} are the most")
    return int(digits)


def _fraction(digits: str) -> Decimal:
    if len(digits) > 2 * AMOUNT_DIGITS_MAX:
        raise _malformed(f"a number of {len(digits)} characters")
    try:
        return Decimal(digits)
    except ArithmeticError:
        raise _malformed(f"{shown(digits)} is out of the range of numbers") from None


def _constant(name: str) -> NoReturn:
    raise _malformed(f"{name} is no JSON number")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_fraction, parse_constant=_constant
)


# Converting by schema


def converter(form: Any, names: Mapping[str, Any] | None = None) -> Convert:
    """The function that turns parsed JSON into the Avro value of `form` (a resolution form, see schemas.forms).

    `names` are named types defined elsewhere in the schema. The function raises FieldFault and nothing else. Raises
    SchemaFault for what can't be said in JSON here: maps, bytes, unions other than ["null", X].
    """
    return _Compiler({**(names or {}), **names_of(form)}).of(form, "")


def payloads(resolution: Mapping[str, Any], fields: Iterable[str]) -> dict[str, Convert]:
    """Converters of the records that nullable `fields` of a topic's schema hold, by field."""
    names, types = names_of(resolution), {field["name"]: field["type"] for field in resolution["fields"]}
    found = {}
    for name in fields:
        branches = [branch for branch in types[name] if branch != "null"]
        found[name] = converter(branches[0], names)
    return found


def is_amount(name: str) -> bool:
    """Whether a string field of that name takes a JSON number too."""
    words = name.split("_")
    return words[-1] in AMOUNT_WORDS or words[0] in ("amount", "gas")


def is_id(name: str) -> bool:
    """Whether a string field of that name is an id, and so at most ID_CHARS_MAX characters."""
    return name == "id" or name.endswith(("_id", "_ids", "_by"))


class _Compiler:
    """Makes the closures of one schema; named types are made once and found again by name."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        self._names, self._made = names, dict[str, Convert]()

    def of(self, form: Any, field: str) -> Convert:
        if isinstance(form, list):
            return self._union(form, field)
        if isinstance(form, str):
            if form in PRIMITIVES:
                return self._primitive(form, field)
            return self._named(form)
        kind = form["type"]
        if kind == "array":
            return _array(self.of(form["items"], field))
        if kind in ("record", "enum"):
            return self._named(form["name"])
        if form.get("logicalType") == "timestamp-millis":
            return time_ms
        if isinstance(kind, str) and kind in PRIMITIVES and "logicalType" not in form:
            return self._primitive(kind, field)
        raise SchemaFault(f"{field or 'schema'}: {form!r:.60} can't be said in JSON")

    def _union(self, form: list[Any], field: str) -> Convert:
        branches = [branch for branch in form if branch != "null"]
        if len(branches) != 1 or len(form) != 2:
            raise SchemaFault(f"{field or 'schema'}: of unions only [null, X] can be said in JSON")
        inner = self.of(branches[0], field)
        return lambda value: None if value is None else inner(value)

    def _named(self, name: str) -> Convert:
        if name not in self._made:
            form = self._names[name]
            # a record that holds itself finds its own converter when it is called, not now
            self._made[name] = lambda value: self._made[name](value)
            self._made[name] = _enum(form["symbols"]) if form["type"] == "enum" else self._record(form)
        return self._made[name]

    def _record(self, form: Mapping[str, Any]) -> Convert:
        return _record(
            [
                (one["name"], self.of(one["type"], one["name"]), one.get("default", _NONE))
                for one in form["fields"]
            ]
        )

    def _primitive(self, kind: str, field: str) -> Convert:
        if kind == "string":
            longest = ID_CHARS_MAX if is_id(field) else STRING_BYTES_MAX
            return amount if is_amount(field) else _string(longest)
        if kind in RANGES:
            return _whole(*RANGES[kind])
        if kind == "boolean":
            return _boolean
        raise SchemaFault(f"{field or 'schema'}: {kind} can't be said in JSON")


class _NoDefault:
    """Marks a field without a default."""


_NONE: Final = _NoDefault()


def _record(fields: list[tuple[str, Convert, Any]]) -> Convert:
    known = frozenset(name for name, _, _ in fields)

    def convert(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise FieldFault("", f"{shown(value)} is not an object")
        made: dict[str, Any] = {}
        given = 0
        for name, inner, default in fields:
            if name in value:
                given += 1
                try:
                    made[name] = inner(value[name])
                except FieldFault as fault:
                    raise fault.within(name) from None
            elif default is _NONE:
                raise FieldFault(name, "is missing", "missing")
            else:  # a default is never changed in place, but a list might be
                made[name] = list(default) if type(default) is list else default
        if given != len(value):
            raise unknown_field(value, known)
        return made

    return convert


def unknown_field(value: Mapping[str, Any], known: Iterable[str]) -> FieldFault:
    """The fault of the first field of `value` that is not one of `known`."""
    names = sorted(known)
    surplus = next(name for name in value if name not in names)
    listed = ", ".join(names) if names else "none"
    return FieldFault(shown(surplus).strip("'\""), f"is no field here; there are: {listed}", "unknown_field")


def _array(inner: Convert) -> Convert:
    def convert(value: Any) -> list[Any]:
        if type(value) is not list:
            raise FieldFault("", f"{shown(value)} is not an array")
        made: list[Any] = []
        try:
            for item in value:
                made.append(inner(item))
        except FieldFault as fault:
            raise fault.within(len(made)) from None
        return made

    return convert


def _enum(symbols: Iterable[str]) -> Convert:
    known = frozenset(symbols)

    def convert(value: Any) -> str:
        if type(value) is not str or value not in known:
            raise FieldFault("", f"{shown(value)} is not one of {', '.join(sorted(known))}")
        return value

    return convert


def _string(longest: int) -> Convert:
    return lambda value: string(value, longest)


def string(value: Any, longest: int = STRING_BYTES_MAX) -> str:
    """A string that Avro, Kafka and ClickHouse can hold. Raises FieldFault."""
    if type(value) is not str:
        raise FieldFault("", f"{shown(value)} is not a string")
    if len(value) > longest or "\0" in value or not value.isascii():
        _refuse_string(value, longest)
    return value


def _refuse_string(value: str, longest: int) -> None:
    """Raise where the string is at fault: too long, not UTF-8, or with a NUL."""
    if "\0" in value:
        raise FieldFault("", "holds a NUL character")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise FieldFault("", f"{shown(value)} holds half a surrogate pair: not UTF-8") from None
    if longest == ID_CHARS_MAX:
        size = len(value)
    if size > longest:
        unit = "characters" if longest == ID_CHARS_MAX else "bytes"
        raise FieldFault("", f"has {size} {unit}; {longest} are the most", "too_long")


def amount(value: Any) -> str:
    """An amount: a string as it stands, a JSON number written out without exponent. Raises FieldFault."""
    if type(value) is str:
        return string(value, ID_CHARS_MAX)
    if type(value) is int:
        return str(value)
    if type(value) is not Decimal:
        raise FieldFault("", f"{shown(value)} is neither a decimal string nor a number")
    _, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int) or abs(exponent) + len(digits) > AMOUNT_DIGITS_MAX:
        raise FieldFault("", f"{shown(str(value))} has more than {AMOUNT_DIGITS_MAX} digits")
    return format(value, "f")


def _whole(low: int, high: int) -> Convert:
    def convert(value: Any) -> int:
        if type(value) is not int:
            raise FieldFault("", f"{shown(value)} is not a whole number")
        if not low <= value <= high:
            raise FieldFault("", f"{shown(value)} is not within {low} to {high}")
        return value

    return convert


def _boolean(value: Any) -> bool:
    if type(value) is not bool:
        raise FieldFault("", f"{shown(value)} is neither true nor false")
    return value


def time_ms(value: Any) -> int:
    """Milliseconds since 1970 of ISO 8601 with a zone, or of a whole number. Raises FieldFault."""
    if type(value) is str:
        value = _iso_ms(value)
    elif type(value) is not int:
        raise FieldFault("", f"{shown(value)} is neither an ISO 8601 time nor milliseconds since 1970")
    if not TIME_MS_MIN <= value <= TIME_MS_MAX:
        raise FieldFault("", f"{shown(value)} is not within 1970 to 2149-06-06")
    return int(value)


def _iso_ms(text: str) -> int:
    if not _ISO.fullmatch(text):
        raise FieldFault(
            "",
            f"{shown(text)} is not an ISO 8601 time to the millisecond with a zone, as 2024-05-01T12:00:00.000Z",
        )
    try:
        return (datetime.fromisoformat(text) - _EPOCH) // _MS
    except (ValueError, OverflowError) as cause:
        raise FieldFault("", f"{shown(text)} is no time: {cause}") from None
