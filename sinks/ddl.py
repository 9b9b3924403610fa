"""ClickHouse tables from the schemas, pure: CREATE TABLE, and the INSERT … SELECT that fills it.

A schema's top-level attribute "clickhouse" says how its messages become rows:

    identity      which fields tell two messages apart by content: chain_number, block, hash, chunk, key;
                  `key` may be a list of fields: their values joined by a space, empty ones left out
    partition_by  expression over column names
    columns       columns of every table of this schema
    tables        name, doc, columns, order_by, and where wanted
                  each   path of the array whose elements are the rows, e.g. "transactions.balance_changes";
                         without it a message is a row
                  where  condition, with {path} for the value of a field
                  indexes  data skipping indexes
                  settings  of the table, e.g. a small index_granularity where single rows are looked up
                  projections  name → SELECT, kept by ClickHouse beside the rows
                  group_by  a roll-up: which of the columns are its key; the others aggregate, e.g. "sum({fee})"

A column is the path of a field from the message's root, dotted, or an object: {path, type, codec, doc} to
override what the field says; {sql, type, doc} with {path} placeholders; {decimal: path} the number of an
exact decimal string, null where Decimal(76, 38) does not hold it exactly; {row_of: path} the place, from 1,
in that array; {payload_of: path} the nullable record that is named, in lower case, by the value at the path, as
JSON. Types and comments come from the Avro field. The columns of ORIGIN follow in every table: where the row
came from.

A roll-up's rows are partial sums: one per key, partition of the topic, and insert, so a key has several and every
question sums them again. It is filled like any other table, from messages told apart by content, in the batch of
their rows; `_offset` is the last message's that went into the row. Since an insert lies wholly inside one batch,
undoing the batch by its offsets takes all of its sums along, and nothing else. The engine is plain MergeTree: one that
replaces or sums rows in merges would mix batches, which then could not be undone.

Messages are first read into a staging table (one column per header field, and `value` with the writer's whole
record), so that they are decoded once; each table's SELECT then unfolds only the subcolumns that it needs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sinks.ddl_shape import DdlFault, Shape, literal

ORIGIN: Final = {
    "_epoch": ("LowCardinality(String)", "Incarnation of the topic; offsets mean something only within one."),
    "_topic": ("LowCardinality(String)", "Topic that the row came from."),
    "_partition": ("Int32", "Partition of the topic."),
    "_offset": ("Int64", "Offset of the message in the partition."),
}
IDENTITY: Final = ("chain_number", "block", "key", "hash", "chunk")
IDENTITY_DEFAULTS: Final[Mapping[str, int | str]] = {
    "chain_number": 0,
    "block": -1,
    "key": "",
    "hash": "",
    "chunk": 0,
}
APPLIED_TABLE: Final = "sink_applied"
STAGE_HEADER: Final = {"_epoch": "String", "_partition": "Int32", "_offset": "Int64", "_timestamp": "Int64"}

_PLACEHOLDER: Final = re.compile(r"\{([a-z0-9_.]+)\}")
_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True)
class Column:
    """One column: its SQL has {path} placeholders, which `insert_select` puts the staged values in."""

    name: str
    type: str
    sql: str
    doc: str
    codec: str | None = None


@dataclass(frozen=True)
class Table:
    """One table as one schema fills it."""

    name: str
    doc: str
    each: str  # path of the array whose elements are the rows, "" = a message is a row
    where: str  # condition with {path} placeholders, "" = all
    columns: tuple[Column, ...]
    order_by: tuple[str, ...]
    partition_by: str
    indexes: tuple[str, ...] = ()
    settings: tuple[tuple[str, int | str], ...] = ()
    projections: tuple[tuple[str, str], ...] = ()
    group_by: tuple[str, ...] = ()  # of a roll-up: its key, names of columns

    @property
    def engine(self) -> str:
        """ReplacingMergeTree, the second net; of a roll-up MergeTree, whose rows stay those of their batch."""
        return "MergeTree" if self.group_by else "ReplacingMergeTree"


def tables(ours: Mapping[str, Any]) -> tuple[Table, ...]:
    """Tables of a schema in the form of `documented`, none without the attribute. Raises DdlFault."""
    attribute = ours.get("clickhouse")
    if attribute is None:
        return ()
    shape = Shape(ours)
    try:
        return tuple(_table(shape, attribute, spec) for spec in attribute["tables"])
    except (DdlFault, KeyError) as fault:
        raise DdlFault(f"{ours.get('name')}: clickhouse: {fault}") from fault


def identity(ours: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """IDENTITY name → its fields, of those that the schema's messages have; only `key` may have several."""
    told = ours["clickhouse"]["identity"]
    unknown = set(told) - set(IDENTITY)
    if unknown:
        raise DdlFault(f"{ours.get('name')}: clickhouse.identity: {sorted(unknown)} is not of {IDENTITY}")
    found = {name: (of,) if isinstance(of, str) else tuple(of) for name, of in told.items()}
    wrong = [name for name, of in found.items() if not of or (len(of) > 1 and name != "key")]
    if wrong:
        raise DdlFault(f"{ours.get('name')}: clickhouse.identity.{wrong[0]}: one field is wanted")
    return found


def identity_of(fields: Mapping[str, tuple[str, ...]], values: Mapping[str, Any]) -> tuple[Any, ...]:
    """A message's identity in the order of IDENTITY: as `applied` writes it, from the values of its fields."""
    whole = dict(IDENTITY_DEFAULTS)
    for name, of in fields.items():
        if len(of) > 1:
            whole[name] = " ".join(str(values[field]) for field in of if values[field])
        elif values[of[0]] is not None:
            whole[name] = values[of[0]]
    return tuple(whole[name] for name in IDENTITY)


def applied(ours: Mapping[str, Any]) -> Table:
    """The table of what was applied, by content, as this schema fills it: one row per message."""
    fields, shape = identity(ours), Shape(ours)
    columns = []
    for name in IDENTITY:
        kind = "String" if isinstance(IDENTITY_DEFAULTS[name], str) else "Int64"
        sql = _identity_sql(shape, name, fields.get(name, ()))
        columns.append(Column(name, kind, sql, f"Identity of the message: {name}."))
    return Table(
        APPLIED_TABLE,
        "One row per message applied, by content.",
        "",
        "",
        tuple(columns),
        ("_topic", *IDENTITY),
        "",
    )


def _identity_sql(shape: Shape, name: str, fields: tuple[str, ...]) -> str:
    default = literal(IDENTITY_DEFAULTS[name])
    told = [
        f"ifNull({{{field}}}, {default})" if "Null" in shape.click_type(field) else f"{{{field}}}"
        for field in fields
    ]
    if len(told) < 2:
        return told[0] if told else default
    parts = ", ".join(
        one if "String" in shape.click_type(of) else f"toString({one})"
        for one, of in zip(told, fields, strict=True)
    )
    return f"arrayStringConcat(arrayFilter(one -> one != '', [{parts}]), ' ')"


def create_table(table: Table) -> str:
    """CREATE TABLE IF NOT EXISTS of a table, with comments."""
    lines = [column_ddl(column) for column in table.columns]
    lines += [f"`{name}` {kind} COMMENT {literal(doc)}" for name, (kind, doc) in ORIGIN.items()]
    lines += [f"INDEX {name} {index}" for name, index in index_names(table).items()]
    lines += [f"PROJECTION {name} ({select})" for name, select in table.projections]
    partition = f"PARTITION BY {table.partition_by}\n" if table.partition_by else ""
    body = ",\n  ".join(lines)
    told = ", ".join(f"{name} = {literal(value)}" for name, value in table.settings)
    settings = f"\nSETTINGS {told}" if told else ""
    return (
        f"CREATE TABLE IF NOT EXISTS {table.name} (\n  {body}\n)\nENGINE = {table.engine}\n{partition}"
        f"ORDER BY ({', '.join(table.order_by)}){settings}\nCOMMENT {literal(table.doc)}"
    )


def column_ddl(column: Column) -> str:
    """A column as CREATE TABLE and ADD COLUMN name it."""
    codec = f" CODEC({column.codec})" if column.codec else ""
    return f"`{column.name}` {column.type} COMMENT {literal(column.doc)}{codec}"


def index_names(table: Table) -> dict[str, str]:
    """Name → definition of a table's data skipping indexes; a column's second one is numbered."""
    names: dict[str, str] = {}
    for index in table.indexes:
        stem = f"{_WORD.findall(index)[0]}_index"
        same = sum(name.startswith(stem) for name in names)
        names[f"{stem}_{same + 1}" if same else stem] = index
    return names


def create_stage(name: str, writer: Mapping[str, Any]) -> str:
    """CREATE of the staging table for messages written with `writer`: in memory, seen by one session only."""
    header = ", ".join(f"{column} {kind}" for column, kind in STAGE_HEADER.items())
    return f"CREATE TEMPORARY TABLE {name} ({header}, value {Shape(writer).type}) ENGINE = Memory"


def insert_select(
    table: Table, topic: str, ours: Mapping[str, Any], writer: Mapping[str, Any], stage: str
) -> str | None:
    """INSERT … SELECT that fills `table` from `stage`, which holds messages of the writer's schema.

    A field that the writer's schema lacks has our default. None where it lacks the array of the rows: no row.
    """
    unfolded = _Unfolding(table.each, Shape(ours), Shape(writer))
    if unfolded.empty:
        return None
    values = [f"{unfolded.put(column.sql)} AS `{column.name}`" for column in table.columns]
    origin = [literal(topic) if name == "_topic" else name for name in ORIGIN]
    where = f"\nWHERE {unfolded.put(table.where)}" if table.where else ""
    grouped = ""
    if table.group_by:
        origin[-1] = f"max({origin[-1]})"
        grouped = f"\nGROUP BY _epoch, _partition, {_group_key(table, unfolded)}"
    names = ", ".join(f"`{name}`" for name in [*(column.name for column in table.columns), *ORIGIN])
    select = ",\n  ".join([*values, *origin])
    return f"INSERT INTO {table.name} ({names})\nSELECT\n  {select}\nFROM {unfolded.source(stage)}{where}{grouped}"


def count_rows(table: Table, ours: Mapping[str, Any], writer: Mapping[str, Any], stage: str) -> str:
    """SELECT of (table, partition, rows): what `insert_select` inserts, but for partitions without rows."""
    unfolded = _Unfolding(table.each, Shape(ours), Shape(writer))
    select = f"SELECT {literal(table.name)} AS name, _partition, count() FROM"
    if unfolded.empty:
        return f"{select} (SELECT 0 AS _partition WHERE 0) AS {stage} GROUP BY _partition"
    where = f" WHERE {unfolded.put(table.where)}" if table.where else ""
    key = _group_key(table, unfolded) if table.group_by else ""
    source = f"{unfolded.source(stage)}{where}"  # all aliases are known by now
    if key:
        source = f"(SELECT _partition FROM {source} GROUP BY _epoch, _partition, {key})"
    return f"{select} {source} GROUP BY _partition"


def _group_key(table: Table, unfolded: _Unfolding) -> str:
    """The expressions of a roll-up's key, as GROUP BY wants them."""
    return ", ".join(unfolded.put(column.sql) for column in table.columns if column.name in table.group_by)


class _Unfolding:
    """The nested FROM that unfolds `each`, and the aliases of the paths that were asked for.

    Each level's ARRAY JOIN takes every needed subcolumn of its array, and those below it along, unopened.
    """

    def __init__(self, each: str, ours: Shape, writer: Shape) -> None:
        parts = each.split(".") if each else []
        self.levels = [".".join(parts[: depth + 1]) for depth in range(len(parts))]
        for level in self.levels:
            if not ours.is_array(level):
                raise DdlFault(f"each: {level} is not an array of records")
        self.ours, self.writer = ours, writer
        self.empty = any(not writer.is_array(level) for level in self.levels)
        self.depths: dict[str, int] = {}  # path → how many of the levels it lies under

    def put(self, sql: str) -> str:
        """`sql` with every {path} replaced by its alias, or by our default where the writer lacks it."""
        return _PLACEHOLDER.sub(lambda match: self._alias(match[1]), sql)

    def _alias(self, path: str) -> str:
        depth = sum(path.startswith(f"{level}.") for level in self.levels)
        if any(self.ours.is_array(parent) for parent in _parents(path)[depth:]):
            raise DdlFault(f"{path}: does not lie along {self.levels or 'the message'}")
        if path not in self.writer.fields:
            return self.ours.default(path)
        self.depths[path] = depth
        return _mangle(path)

    def source(self, stage: str) -> str:
        """The FROM clause's source: the stage with all levels unfolded and the aliases in reach."""
        for depth, level in enumerate(self.levels):
            if not any(used > depth and path.startswith(f"{level}.") for path, used in self.depths.items()):
                self.depths[_leaf(level, self.writer)] = depth + 1
        header = list(STAGE_HEADER)
        staged = [f"value.{path} AS {_mangle(path)}" for path in self.depths]
        source = f"(SELECT {', '.join([*header, *staged])} FROM {stage})"
        for depth, level in enumerate(self.levels):
            joined = [_mangle(path) for path, used in self.depths.items() if used > depth]
            rows = f"arrayEnumerate({joined[0]}) AS {_mangle(level)}__row"
            kept = [_mangle(path) for path in self.depths] + [
                f"{_mangle(up)}__row" for up in self.levels[: depth + 1]
            ]
            join = ", ".join([*joined, rows])
            source = f"(SELECT {', '.join([*header, *kept])} FROM {source} ARRAY JOIN {join})"
        return source


def _table(shape: Shape, attribute: Mapping[str, Any], spec: Mapping[str, Any]) -> Table:
    specs = {**attribute.get("columns", {}), **spec["columns"]}
    columns = tuple(_column(shape, name, of) for name, of in specs.items())
    names = {column.name for column in columns}
    missing = [name for name in spec["order_by"] if name not in names]
    if missing:
        raise DdlFault(f"{spec['name']}.order_by: no column {missing[0]}")
    wrong = [name for name in spec.get("group_by", ()) if name not in names]
    if wrong or spec.get("group_by") == []:
        raise DdlFault(f"{spec['name']}.group_by: no column {wrong[0] if wrong else 'is named'}")
    return Table(
        name=spec["name"],
        doc=spec["doc"],
        each=spec.get("each", ""),
        where=spec.get("where", ""),
        columns=columns,
        order_by=tuple(spec["order_by"]),
        partition_by=spec.get("partition_by", attribute["partition_by"]),
        indexes=tuple(spec.get("indexes", ())),
        settings=tuple(spec.get("settings", {}).items()),
        projections=tuple(spec.get("projections", {}).items()),
        group_by=tuple(spec.get("group_by", ())),
    )


def _column(shape: Shape, name: str, spec: str | Mapping[str, Any]) -> Column:
    if isinstance(spec, str):
        spec = {"path": spec}
    if "path" in spec:
        path = spec["path"]
        kind = spec.get("type") or shape.click_type(path)
        return Column(name, kind, f"{{{path}}}", spec.get("doc") or shape.doc(path), spec.get("codec"))
    if "row_of" in spec:
        return Column(
            name,
            "UInt32",
            f"{_mangle(spec['row_of'])}__row",
            f"Place of the row in {spec['row_of']}, from 1.",
        )
    if "payload_of" in spec:
        return Column(name, "String", _payload(shape, spec["payload_of"]), spec["doc"], spec.get("codec"))
    if "decimal" in spec:
        return Column(
            name, "Nullable(Decimal(76, 38))", _decimal(spec["decimal"]), spec["doc"], spec.get("codec")
        )
    return Column(name, spec["type"], spec["sql"], spec["doc"], spec.get("codec"))


def _payload(shape: Shape, path: str) -> str:
    """The one record of a message that has a nullable one for each type, as JSON; empty for a type without."""
    cases = [
        f"{{{path}}} = {literal(name.upper())}, toJSONString({{{name}}})" for name in shape.optional_records()
    ]
    return f"multiIf({', '.join(cases)}, '')" if cases else "''"


def _decimal(path: str) -> str:
    """The number of a plain decimal string; null beyond 38 digits on either side of the point."""
    value = f"{{{path}}}"
    inexact = f"position({value}, '.') > 0 AND length({value}) - position({value}, '.') > 38"
    return (
        f"if({inexact} OR positionCaseInsensitive({value}, 'e') > 0, NULL, toDecimal256OrNull({value}, 38))"
    )


def _parents(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:depth]) for depth in range(1, len(parts))]


def _leaf(level: str, shape: Shape) -> str:
    """Some field of the array's record that is no array itself, to unfold the level by."""
    below = [
        path for path in shape.fields if path.startswith(f"{level}.") and "." not in path[len(level) + 1 :]
    ]
    return next(path for path in below if not shape.is_array(path))


def _mangle(path: str) -> str:
    return "v_" + path.replace(".", "__")  # no column alias can hide it


def all_tables(forms: Iterable[Mapping[str, Any]]) -> dict[str, Table]:
    """Every table by name; one that several schemas fill has the columns of all. Raises DdlFault."""
    merged: dict[str, Table] = {}
    for ours in forms:
        for table in tables(ours):
            before = merged.get(table.name)
            merged[table.name] = table if before is None else _merge(before, table)
    return merged


def _merge(one: Table, other: Table) -> Table:
    if (one.order_by, one.partition_by) != (other.order_by, other.partition_by):
        raise DdlFault(f"{one.name}: two schemas order or partition it differently")
    if set(one.group_by) != set(other.group_by):
        raise DdlFault(f"{one.name}: two schemas group it differently")
    have = {column.name: column for column in one.columns}
    for column in other.columns:
        if column.name in have and have[column.name].type != column.type:
            raise DdlFault(
                f"{one.name}.{column.name}: {have[column.name].type} in one schema, {column.type} in another"
            )
    added = tuple(column for column in other.columns if column.name not in have)
    return replace(one, columns=one.columns + added)
