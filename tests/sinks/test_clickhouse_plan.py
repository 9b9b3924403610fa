"""`clickhouse plan`: what only adds is made, what would touch rows is refused, and doing it again does nothing."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.loader import by_topic
from sinks import ddl
from sinks.clickhouse_client import WRITE_SETTINGS, Place
from sinks.clickhouse_plan import (
    Change,
    FoundColumn,
    FoundTable,
    MigrationRefused,
    Note,
    Refusal,
    in_order,
    pending,
    plan,
)
from sinks.clickhouse_state import apply_changes, found_tables
from sinks.ddl_shape import documented
from sinks.views import View

TABLE = ddl.Table(
    name="boxes", doc="Boxes.", each="", where="", partition_by="toYYYYMM(at)", order_by=("id", "box"),
    columns=(
        ddl.Column("id", "String", "{id}", "Id.", "ZSTD"),
        ddl.Column("at", "DateTime64(3, 'UTC')", "{at}", "When.", "Delta, ZSTD(3)"),
        ddl.Column("box", "UInt32", "1", "Box."),
    ),
    indexes=("lower(id) TYPE bloom_filter(0.01) GRANULARITY 4",),
    settings=(("index_granularity", 256),),
)  # fmt: skip
VIEW = View("all_boxes", "Every box.", "SELECT * FROM boxes", {})
OUTER = View("a_few", "Some.", "SELECT id FROM all_boxes WHERE box < {n:UInt32}", {"n": "UInt32"})


def _found(table: ddl.Table = TABLE, **changed: Any) -> FoundTable:
    """`table` as ClickHouse tells it once it is made."""
    columns = {one.name: FoundColumn(one.type, one.doc, one.codec or "") for one in table.columns}
    columns |= {name: FoundColumn(kind, doc) for name, (kind, doc) in ddl.ORIGIN.items()}
    there = FoundTable(
        table.engine, table.partition_by, ", ".join(table.order_by), table.doc,
        {name: str(value) for name, value in table.settings}, columns,
        ddl.index_names(table), frozenset(name for name, _ in table.projections),
    )  # fmt: skip
    return replace(there, **changed)


def _plan(table: ddl.Table, found: FoundTable) -> list[Any]:
    return plan([table], {}, [], {"boxes": found})


def test_a_roll_up_that_comes_late_is_refused() -> None:
    """It would add up to less than there is; a table of rows may begin late, and says so."""
    (made,) = plan([TABLE], {}, [], {}, late=["boxes"])
    assert isinstance(made, Change) and "messages applied before have no rows in it" in made.what
    sums = replace(TABLE, group_by=("id", "at"))
    (refused,) = plan([sums], {}, [], {}, late=["boxes"])
    assert isinstance(refused, Refusal) and "applied already" in refused.what
    assert [type(step) for step in plan([sums], {}, [], {})] == [Change]


def test_a_place_that_is_as_asked_for_needs_nothing() -> None:
    assert _plan(TABLE, _found()) == []


def _more(**changed: Any) -> ddl.Table:
    return replace(TABLE, **changed)


NEW = ddl.Column("note", "String", "''", "Note.")


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (_more(columns=(*TABLE.columns, NEW)), "ALTER TABLE boxes ADD COLUMN IF NOT EXISTS `note` String"),
        (_more(columns=(*TABLE.columns, NEW), order_by=("id", "box", "note")), "MODIFY ORDER BY (id, box, note)"),
        (_more(indexes=(*TABLE.indexes, "box TYPE minmax GRANULARITY 1")), "ADD INDEX IF NOT EXISTS box_index box"),
        (_more(indexes=("lower(id) TYPE bloom_filter GRANULARITY 1",)), "DROP INDEX IF EXISTS lower_index"),
        (_more(projections=(("by_box", "SELECT * ORDER BY box"),)), "ADD PROJECTION IF NOT EXISTS by_box"),
        (_more(doc="It's boxes."), "MODIFY COMMENT 'It\\'s boxes.'"),
        (_more(settings=(*TABLE.settings, ("merge_with_ttl_timeout", 9))), "MODIFY SETTING merge_with_ttl_timeout = 9"),
        (_more(columns=(replace(TABLE.columns[0], doc="Its id."), *TABLE.columns[1:])), "COMMENT COLUMN `id` 'Its"),
        (_more(columns=(replace(TABLE.columns[0], codec="ZSTD(9)"), *TABLE.columns[1:])), "`id` String CODEC(ZSTD(9))"),
        (_more(columns=(replace(TABLE.columns[0], codec=None), *TABLE.columns[1:])), "`id` REMOVE CODEC"),
    ],
)  # fmt: skip
def test_what_only_adds_is_a_change(table: ddl.Table, text: str) -> None:
    (step,) = _plan(table, _found())
    assert isinstance(step, Change) and any(text in statement for statement in step.statements), step


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (_more(columns=(replace(TABLE.columns[0], type="UUID"), *TABLE.columns[1:])),
         "column id is String, the schemas ask for UUID"),
        (_more(columns=TABLE.columns[1:], order_by=("box",)), "column id String is in no schema"),
        (_more(order_by=("box", "id")), "order by id, box would become box, id"),
        (_more(order_by=("id", "box", "at")), "order by id, box would become id, box, at"),  # `at` is not new
        (_more(partition_by=""), r"partition key toYYYYMM\(at\) would become none"),
        (_more(group_by=("id",)), "is ReplacingMergeTree, the schemas ask for MergeTree"),
    ],
)  # fmt: skip
def test_what_touches_rows_is_refused_and_nothing_is_done(table: ddl.Table, text: str) -> None:
    steps = _plan(table, _found(comment="other"))
    with pytest.raises(MigrationRefused, match=f"ClickHouse table boxes: .*{text}"):
        pending(steps)
    assert any(isinstance(step, Refusal) for step in steps)


def test_what_cannot_be_changed_and_changes_no_answer_is_kept() -> None:
    (step,) = _plan(_more(settings=(("index_granularity", 128),)), _found())
    assert isinstance(step, Note) and pending([step]) == []
    (old,) = plan([], {}, [], {"boxes": _found()})
    assert isinstance(old, Note)


@pytest.mark.parametrize(
    ("found", "wanted", "same"),
    [
        ("ZSTD(1)", "ZSTD", True), ("ZSTD(3)", "ZSTD", False), ("Delta(8), ZSTD(1)", "Delta, ZSTD(1)", True),
        ("", "ZSTD", False), ("Delta(8)", "Delta(4)", False), ("LZ4", "ZSTD(1)", False), ("NONE", "NONE", True),
    ],
)  # fmt: skip
def test_a_codec_is_the_same_with_its_defaults_written_out(found: str, wanted: str, same: bool) -> None:
    column = replace(TABLE.columns[0], codec=wanted)
    there = _found(columns={**_found().columns, "id": FoundColumn("String", "Id.", found)})
    assert (_plan(_more(columns=(column, *TABLE.columns[1:])), there) == []) is same


def test_views_come_after_those_they_read_and_anew_when_these_change() -> None:
    assert [view.name for view in in_order([OUTER, VIEW])] == ["all_boxes", "a_few"]
    made = plan([TABLE], {}, [OUTER, VIEW], {"boxes": _found()})
    assert [step.table for step in made] == ["all_boxes", "a_few"]
    comments = [step.statements[0].rpartition("COMMENT '")[2][:-1].replace("\\n", "\n") for step in made]
    there = {"boxes": _found()} | {
        step.table: FoundTable("View", comment=text) for step, text in zip(made, comments, strict=True)
    }
    assert plan([TABLE], {}, [OUTER, VIEW], there) == []
    wider = _more(columns=(*TABLE.columns, NEW))
    assert [step.table for step in plan([wider], {}, [OUTER, VIEW], there)] == ["boxes", "all_boxes", "a_few"]
    with pytest.raises(ValueError, match="in a circle"):
        in_order([replace(VIEW, select="SELECT * FROM a_few"), OUTER])


def test_every_index_of_a_table_has_a_name_of_its_own() -> None:
    table = _more(indexes=("id TYPE minmax GRANULARITY 1", "id TYPE set(4) GRANULARITY 1"))
    assert list(ddl.index_names(table)) == ["id_index", "id_index_2"]


def test_a_real_place_follows_its_schemas_and_keeps_its_rows(tmp_path: Path) -> None:
    """Made, filled, widened in every additive way, and then as asked for: the next plan is empty."""
    client = Place(path=tmp_path / "ch").connect(WRITE_SETTINGS)
    try:

        def follow(table: ddl.Table) -> None:
            apply_changes(client, pending(plan([table], {}, [OUTER, VIEW], found_tables(client))))
            assert plan([table], {}, [OUTER, VIEW], found_tables(client)) == []

        follow(TABLE)
        client.command("INSERT INTO boxes (id, box) VALUES ('a', 1), ('b', 2)")
        wide = _more(
            columns=(replace(TABLE.columns[0], codec="ZSTD(9)"), replace(TABLE.columns[1], doc="It's when."),
                     TABLE.columns[2], NEW),
            order_by=("id", "box", "note"), doc="More.", indexes=(*TABLE.indexes, "box TYPE minmax GRANULARITY 1"),
            settings=(*TABLE.settings, ("deduplicate_merge_projection_mode", "rebuild")),
            projections=(("by_box", "SELECT id, box ORDER BY box"),),
        )  # fmt: skip
        follow(wide)
        assert client.query("SELECT id, box, note FROM all_boxes ORDER BY id").result_rows == [
            ("a", 1, ""),
            ("b", 2, ""),
        ]
        before = found_tables(client)
        with pytest.raises(MigrationRefused, match="column note String"):
            pending(plan([replace(TABLE, doc="x")], {}, [], before))
        assert found_tables(client) == before
    finally:
        client.close()


def test_tables_of_the_package_have_a_place_in_the_plan() -> None:
    table = next(iter(ddl.all_tables([documented(by_topic()["control.alerts.v1"])]).values()))
    (step,) = plan([table], {}, [], {})
    assert isinstance(step, Change) and step.statements[0].startswith(
        f"CREATE TABLE IF NOT EXISTS {table.name}"
    )
