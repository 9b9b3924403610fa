"""The data dictionary as Markdown: topics, their fields, and the ClickHouse tables that hold them.

Everything in it is read from the .avsc files. The "clickhouse" attribute is shown by what is in it (tables
with name, doc, columns, order_by), so that a new key there needs no change here.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from schemas.forms import NAMED, named_types
from schemas.loader import Schema

_HEAD = """# Data dictionary

GENERATED from `schemas/**/*.avsc` by `python -m schemas.generate`: do not edit. Every message is in the
Confluent wire format (magic 0, schema id in 4 bytes, Avro body); times are milliseconds since 1970 (UTC)
unless the type says otherwise; `T | null` may be null.
"""


def dictionary(schemas: Sequence[Schema]) -> str:
    """Text of docs/data-dictionary.md."""
    lines = [_HEAD, "## Topics\n"]
    lines.append("| topic | key | partitions | kept | cleanup | one message is |\n|---|---|---|---|---|---|")
    for schema in schemas:
        topic = schema.topic
        cells = [f"[{topic['name']}](#{_anchor(topic['name'])})", topic["key"], topic["partitions"]]
        cells += [_kept(topic["retention_ms"]), _cleanup(topic), schema.documented.get("doc", "")]
        lines.append(_row(cells))
    for schema in schemas:
        lines += ["", *_topic_lines(schema)]
    return "\n".join(lines) + "\n"


def _topic_lines(schema: Schema) -> Iterator[str]:
    yield f"## {schema.topic_name}\n"
    for name, definition, _ in sorted(
        named_types(schema.documented),
        key=lambda named: (named[0] != schema.name, named[1]["type"] != "record"),
    ):
        yield f"### {name}\n"
        if "doc" in definition:
            yield definition["doc"] + "\n"
        if definition["type"] == "enum":
            yield "Enum: " + ", ".join(f"`{symbol}`" for symbol in definition["symbols"]) + "\n"
        elif definition["type"] == "fixed":
            yield f"Fixed: {definition['size']} bytes\n"
        else:
            yield "| field | type | default | meaning |\n|---|---|---|---|"
            for field in definition["fields"]:
                yield _row(
                    [f"`{field['name']}`", _type(field["type"]), _default(field), field.get("doc", "")]
                )
            yield ""
    if schema.clickhouse:
        yield from _table_lines(schema.clickhouse)


def _table_lines(clickhouse: Mapping[str, Any]) -> Iterator[str]:
    shared = clickhouse.get("columns", {})
    for table in clickhouse.get("tables", ()):
        yield f"### ClickHouse table {table['name']}\n"
        if "doc" in table:
            yield table["doc"] + "\n"
        if "order_by" in table:
            yield f"Ordered by {', '.join(f'`{column}`' for column in table['order_by'])}.\n"
        yield "| column | from | type | meaning |\n|---|---|---|---|"
        for name, column in {**shared, **table.get("columns", {})}.items():
            yield _row([f"`{name}`", *_column(column)])
        yield ""


def _column(column: Any) -> list[str]:
    """(from, type, meaning): a column is a path, or a mapping whose remaining key says what it is made of."""
    if isinstance(column, str):
        return [f"`{column}`", "", ""]
    made_of = [f"`{column['path']}`"] if "path" in column else []
    made_of += [f"{key} `{column[key]}`" for key in column if key not in ("path", "type", "doc", "codec")]
    return [", ".join(made_of), str(column.get("type", "")), str(column.get("doc", ""))]


def _type(form: Any) -> str:
    if isinstance(form, str):
        return form.rpartition(".")[2]
    if isinstance(form, list):
        return " | ".join(_type(branch) for branch in sorted(form, key=lambda branch: branch == "null"))
    kind = form["type"]
    if kind == "array":
        return f"array of {_type(form['items'])}"
    if kind == "map":
        return f"map of {_type(form['values'])}"
    if isinstance(kind, str) and kind in NAMED:
        return str(form["name"]).rpartition(".")[2]
    logical = form.get("logicalType")
    return f"{_type(kind)} ({logical})" if logical else _type(kind)


def _default(field: Mapping[str, Any]) -> str:
    if "default" not in field:
        return ""
    return "null" if field["default"] is None else f"`{field['default']!r}`"


def _kept(retention_ms: int) -> str:
    return "for ever" if retention_ms == -1 else f"{retention_ms / 86_400_000:g} days"


def _cleanup(topic: Mapping[str, Any]) -> str:
    lag_ms = topic.get("max_compaction_lag_ms")
    within = f" within {lag_ms / 3_600_000:g} h" if lag_ms else ""
    return f"{topic['cleanup_policy']}{within}"


def _anchor(topic: str) -> str:
    return topic.replace(".", "")


def _row(cells: Sequence[object]) -> str:
    escaped = (str(cell).replace("|", "\\|").replace("<", "&lt;").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(escaped)} |"
