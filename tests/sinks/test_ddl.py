"""Tables and statements from schemas: what each attribute becomes, and what is refused."""

from typing import Any

import pytest

from schemas.loader import make_schema, schemas
from sinks import ddl
from sinks.ddl_shape import DdlFault, Shape, documented, literal

RAW: dict[str, Any] = {
    "type": "record",
    "name": "Thing",
    "namespace": "test",
    "topic": {
        "name": "things.v1",
        "key": "id",
        "partitions": 1,
        "retention_ms": -1,
        "cleanup_policy": "delete",
    },
    "clickhouse": {
        "identity": {"key": "id"},
        "partition_by": "toYYYYMM(at)",
        "columns": {"id": "id", "at": "at"},
        "tables": [
            {
                "name": "parts",
                "doc": "It's one part.",
                "each": "boxes.parts",
                "where": "{boxes.parts.weight} > 0",
                "columns": {
                    "box": "boxes.name",
                    "place": {"row_of": "boxes.parts"},
                    "weight": {"path": "boxes.parts.weight", "codec": "ZSTD"},
                },
                "order_by": ["id", "box", "place"],
            }
        ],
    },
    "fields": [
        {"name": "id", "type": "string", "doc": "Id."},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}, "doc": "When."},
        {"name": "note", "type": ["null", "string"], "default": None, "doc": "Note."},
        {"name": "boxes", "doc": "Boxes.", "type": {"type": "array", "items": {
            "type": "record", "name": "Box", "fields": [
                {"name": "name", "type": "string", "doc": "Name."},
                {"name": "colour", "doc": "Colour.", "type": {
                    "type": "enum", "name": "Colour", "symbols": ["red"]}},
                {"name": "parts", "doc": "Parts.", "type": {"type": "array", "items": {
                    "type": "record", "name": "Part", "fields": [
                        {"name": "weight", "type": "long", "default": 7, "doc": "Grams."},
                        {"name": "colour", "type": "Colour", "doc": "Its own."}]}}}]}}},
    ],
}  # fmt: skip


SCHEMA = documented(make_schema(RAW))


def _with(**table: Any) -> dict[str, Any]:
    attribute = SCHEMA["clickhouse"]
    return {**SCHEMA, "clickhouse": {**attribute, "tables": [{**attribute["tables"][0], **table}]}}


def _without(*path: str) -> dict[str, Any]:
    """The writer's schema as it was before the field at `path` came in."""

    def cut(record: dict[str, Any], rest: tuple[str, ...]) -> dict[str, Any]:
        fields = []
        for field in record["fields"]:
            if field["name"] == rest[0]:
                if len(rest) == 1:
                    continue
                field = {**field, "type": {**field["type"], "items": cut(field["type"]["items"], rest[1:])}}
            fields.append(field)
        return {**record, "fields": fields}

    return cut(SCHEMA, path)


def test_a_table_from_its_attribute() -> None:
    (table,) = ddl.tables(SCHEMA)
    statement = ddl.create_table(table)
    assert [column.name for column in table.columns] == ["id", "at", "box", "place", "weight"]
    assert "`at` DateTime64(3, 'UTC') COMMENT 'When.'" in statement
    assert "`place` UInt32" in statement
    assert "`weight` Int64 COMMENT 'Grams.' CODEC(ZSTD)" in statement
    assert "`_offset` Int64" in statement
    assert "ENGINE = ReplacingMergeTree\nPARTITION BY toYYYYMM(at)\nORDER BY (id, box, place)" in statement
    assert statement.endswith("COMMENT 'It\\'s one part.'")


def test_a_field_that_the_writer_lacks_has_our_default() -> None:
    (table,) = ddl.tables(SCHEMA)
    older = ddl.insert_select(table, "t", SCHEMA, _without("boxes", "parts", "weight"), "stage")
    assert older is not None and "CAST(7 AS Int64) AS `weight`" in older
    assert ddl.insert_select(table, "t", SCHEMA, _without("boxes", "parts"), "stage") is None
    assert "WHERE 0" in ddl.count_rows(table, SCHEMA, _without("boxes"), "stage")
    with pytest.raises(DdlFault, match="id: the writer's schema lacks it"):
        ddl.insert_select(table, "t", SCHEMA, _without("id"), "stage")


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"columns": {"x": "boxes.nothing"}}, "boxes.nothing: no such field"),
        ({"order_by": ["id", "shelf"]}, "parts.order_by: no column shelf"),
    ],
)
def test_a_wrong_attribute_is_named(table: dict[str, Any], text: str) -> None:
    with pytest.raises(DdlFault, match=text):
        ddl.tables(_with(**table))


def test_a_column_must_lie_along_the_rows() -> None:
    (table,) = ddl.tables(
        _with(each="boxes", where="", columns={"weight": "boxes.parts.weight"}, order_by=["id"])
    )
    with pytest.raises(DdlFault, match=r"boxes.parts.weight: does not lie along \['boxes'\]"):
        ddl.insert_select(table, "t", SCHEMA, SCHEMA, "stage")


def test_rows_must_come_from_an_array_of_records() -> None:
    (table,) = ddl.tables(_with(each="note", where="", columns={}, order_by=["id"]))
    with pytest.raises(DdlFault, match="each: note is not an array"):
        ddl.insert_select(table, "t", SCHEMA, SCHEMA, "stage")


def test_a_type_of_another_file_is_found() -> None:
    lent = {"type": "record", "name": "Lent", "fields": [{"name": "x", "type": "int"}]}
    fields = [
        *RAW["fields"],
        {"name": "lent", "type": {"type": "array", "items": "other.Lent"}, "doc": "Lent."},
    ]
    shape = Shape(documented(make_schema({**RAW, "fields": fields}, {"other.Lent": (lent, "other")})))
    assert (shape.click_type("lent.x"), shape.doc("lent"), shape.doc("lent.x")) == ("Int32", "Lent.", "")


def test_types_of_avro() -> None:
    shape = Shape(SCHEMA)
    assert shape.click_type("note") == "Nullable(String)"
    assert shape.click_type("boxes.parts.colour") == "String"
    assert shape.click_type("boxes.parts") == "Array(Tuple(`weight` Int64, `colour` String))"
    with pytest.raises(DdlFault, match="a union is null and one type"):
        Shape({"type": "record", "name": "R", "fields": [{"name": "f", "type": ["null", "int", "string"]}]})


@pytest.mark.parametrize(
    ("value", "text"), [(None, "NULL"), (True, "true"), (-1, "-1"), ("a'b\\", "'a\\'b\\\\'"), ([], "[]")]
)
def test_literals(value: Any, text: str) -> None:
    assert literal(value) == text


def test_tables_that_two_schemas_fill_are_merged_or_refused() -> None:
    one = _with(where="")
    more = _with(columns={**one["clickhouse"]["tables"][0]["columns"], "colour": "boxes.parts.colour"})
    assert [column.name for column in ddl.all_tables([one, more])["parts"].columns][-1] == "colour"
    other_type = _with(
        columns={**one["clickhouse"]["tables"][0]["columns"], "box": {"path": "boxes.name", "type": "UUID"}}
    )
    with pytest.raises(DdlFault, match=r"parts\.box: String in one schema, UUID in another"):
        ddl.all_tables([one, other_type])
    with pytest.raises(DdlFault, match="order or partition"):
        ddl.all_tables([one, _with(order_by=["id"])])


def test_every_schema_of_the_package_makes_its_statements() -> None:
    forms = [documented(schema) for schema in schemas()]
    made = ddl.all_tables(forms)
    assert {"xrpl_ledgers", "xrpl_transactions", "balance_changes", "object_changes", "mpt_changes"} <= set(
        made
    )
    assert {"gas_ledger", "asset_changes", "transfers", "quarantine", "alerts"} <= set(made)
    for ours in forms:
        for table in ddl.tables(ours):
            assert ddl.insert_select(table, "t", ours, ours, "stage")
            assert all(column.doc for column in table.columns), table.name


def test_an_identity_may_join_fields_as_its_key():
    form = {
        **SCHEMA,
        "clickhouse": {**SCHEMA["clickhouse"], "identity": {"key": ["id", "note"], "chunk": "id"}},
    }
    fields = ddl.identity(form)
    assert fields == {"key": ("id", "note"), "chunk": ("id",)}
    key = next(column for column in ddl.applied(form).columns if column.name == "key")
    assert key.sql == "arrayStringConcat(arrayFilter(one -> one != '', [{id}, ifNull({note}, '')]), ' ')"
    of = [ddl.identity_of({"key": fields["key"]}, {"id": "a", "note": note})[2] for note in ("b", "", None)]
    assert of == ["a b", "a", "a"]  # an empty field leaves the key as it was without it


@pytest.mark.parametrize("told", [{"hash": ["id", "note"]}, {"key": []}])
def test_only_the_key_has_several_fields_and_none_has_none(told):
    with pytest.raises(DdlFault, match="one field is wanted"):
        ddl.identity({**SCHEMA, "clickhouse": {**SCHEMA["clickhouse"], "identity": told}})


ROLLUP: dict[str, Any] = {
    "name": "boxes_daily",
    "columns": {
        "day": {"sql": "toDate({at})", "type": "Date", "doc": "Day."},
        "grams": {"sql": "sum({boxes.parts.weight})", "type": "Int64", "doc": "Grams."},
    },
    "order_by": ["id", "day"],
    "group_by": ["id", "day"],
}  # fmt: skip


def test_a_roll_up_is_grouped_within_its_insert_and_keeps_its_origin() -> None:
    attribute = SCHEMA["clickhouse"]
    form = {**SCHEMA, "clickhouse": {**attribute, "columns": {"id": "id"}}}
    form["clickhouse"]["partition_by"] = "toYYYYMM(day)"
    form["clickhouse"]["tables"] = [{**attribute["tables"][0], **ROLLUP}]
    (table,) = ddl.tables(form)
    assert "ENGINE = MergeTree\n" in ddl.create_table(table)
    insert = ddl.insert_select(table, "t", form, form, "stage")
    assert insert is not None and insert.endswith("GROUP BY _epoch, _partition, v_id, toDate(v_at)")
    assert "sum(v_boxes__parts__weight) AS `grams`" in insert and "\n  max(_offset)\nFROM" in insert
    count = ddl.count_rows(table, form, form, "stage")
    assert "GROUP BY _epoch, _partition, v_id, toDate(v_at)) GROUP BY _partition" in count
    with pytest.raises(DdlFault, match=r"boxes_daily\.group_by: no column shelf"):
        ddl.tables(_with(**{**ROLLUP, "group_by": ["shelf"]}))
