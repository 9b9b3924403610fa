"""Python source of the typed records, from the schemas: one TypedDict per Avro record, one Literal per enum.

A record is a plain dict at run time (what fastavro reads and writes, at its speed); the TypedDict is what
mypy and a reader see. All keys are required: a record is whole when it is made.
"""

import json
import keyword
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from schemas.forms import NAMED, SchemaFault
from schemas.loader import Schema

LINE = 110
_PRIMITIVE_TYPES = {
    "null": "None",
    "boolean": "bool",
    "int": "int",
    "long": "int",
    "float": "float",
    "double": "float",
    "bytes": "bytes",
    "string": "str",
}
_HEAD = '''"""Typed records of the topics. GENERATED from schemas/**/*.avsc by `python -m schemas.generate`:
do not edit.

Times are integers in the unit that the comment names; keys stand in the order they are written.
"""

from typing import Literal, TypedDict
'''


def records_source(schemas: Sequence[Schema]) -> str:
    """Text of schemas/records.py. Raises SchemaFault where a name cannot be a Python name or is taken
    twice."""
    writer = _Writer()
    for schema in schemas:
        writer.add(schema.documented)
    imports = "" if "Decimal" not in writer.used else "from decimal import Decimal\n"
    head = _HEAD.replace("from typing", f"{imports}from typing", 1)
    topics = "".join(f'{constant_of(s.topic_name)} = "{s.topic_name}"\n' for s in schemas)
    aliases = "\n".join(writer.aliases)
    return "\n".join([head, topics, aliases]) + "".join(f"\n\n{each}" for each in writer.classes)


def constant_of(topic: str) -> str:
    """Name of a topic's constant: xrpl.ledgers.v1 -> XRPL_LEDGERS_V1."""
    return topic.upper().replace(".", "_")


class _Writer:
    """Collects classes and enum aliases, each after what it uses."""

    def __init__(self) -> None:
        self.classes: list[str] = []
        self.aliases: list[str] = []
        self.used: set[str] = set()
        self._names: dict[str, str] = {}  # Python name -> full Avro name

    def add(self, form: Mapping[str, Any]) -> None:
        self._type(form)

    def _type(self, form: Any) -> str:
        if isinstance(form, str):
            return _PRIMITIVE_TYPES.get(form) or form.rpartition(".")[2]
        if isinstance(form, list):
            return " | ".join(sorted((self._type(branch) for branch in form), key=_null_last))
        kind = form["type"]
        if form.get("logicalType") == "decimal":
            self.used.add("Decimal")
            return "Decimal"
        if kind == "array":
            return f"list[{self._type(form['items'])}]"
        if kind == "map":
            return f"dict[str, {self._type(form['values'])}]"
        if isinstance(kind, str) and kind in NAMED:
            return self._named(form)
        return self._type(kind)

    def _named(self, form: Mapping[str, Any]) -> str:
        full = form["name"]
        python = full.rpartition(".")[2]
        if self._names.get(python) == full:  # a type that several files use
            return str(python)
        if keyword.iskeyword(python) or python in self._names:
            raise SchemaFault(f"{full}: {python} is taken by {self._names.get(python, 'Python')}")
        self._names[python] = full
        if form["type"] == "fixed":
            self.aliases.append(f"{python} = bytes  # {form['size']} bytes\n")
        elif form["type"] == "enum":
            self.aliases.append(_literal(python, form["symbols"]))
        else:
            fields = [(field, self._type(field["type"])) for field in form["fields"]]
            self.classes.append("".join(_class_lines(python, form, fields)))
        return str(python)


def _null_last(branch: str) -> bool:
    return branch == "None"


def _literal(python: str, symbols: Sequence[str]) -> str:
    line = f"{python} = Literal[{', '.join(json.dumps(symbol) for symbol in symbols)}]\n"
    if len(line) <= LINE + 1:
        return line
    return f"{python} = Literal[\n" + "".join(f"    {json.dumps(symbol)},\n" for symbol in symbols) + "]\n"


def _class_lines(
    python: str, form: Mapping[str, Any], fields: Sequence[tuple[Mapping[str, Any], str]]
) -> Iterator[str]:
    yield f"class {python}(TypedDict):\n"
    doc = form.get("doc", form["name"])
    yield (
        "\n".join(textwrap.wrap(f'"""{doc}"""', LINE, initial_indent="    ", subsequent_indent="    ")) + "\n"
    )
    if not fields:
        return
    yield "\n"
    for field, hint in fields:
        if keyword.iskeyword(field["name"]):
            raise SchemaFault(f"{form['name']}.{field['name']}: a Python keyword cannot name a field")
        if "doc" in field:
            yield "\n".join(
                textwrap.wrap(field["doc"], LINE, initial_indent="    # ", subsequent_indent="    # ")
            )
            yield "\n"
        yield f"    {field['name']}: {hint}\n"
