"""What must be done to a place so that its tables and views are those that the schemas ask for, pure.

`plan` compares what is there (`Place state`, read by `sinks.clickhouse_state`) with `sinks.ddl`'s tables and the
views. What only adds is a statement: a new table, column, index, projection or view, a comment, a codec, a sorting
key that goes on with new columns. What would touch rows that are there is refused, one line each, and then nothing
at all is done: another type or order or partition key, a column that no schema asks for any more; and a roll-up that
would lack what was applied before it was there.

A view is known by a mark in its comment: a hash of its text and of all that it reads, so that a table's new column
makes those views anew that show it. An index or projection is known by its name; one that changes has another name.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

from sinks.ddl import ORIGIN, Column, Table, column_ddl, create_table, index_names
from sinks.ddl_shape import literal
from sinks.views import View

MARK: Final = re.compile(r"\bmark ([0-9a-f]{16})$")
_WORD: Final = re.compile(r"\b[A-Za-z_]\w*\b")
_FIXED_SETTINGS: Final = frozenset({"index_granularity"})  # of a table that is there nobody can change them


@dataclass(frozen=True)
class FoundColumn:
    """A column as system.columns tells it; the codec without CODEC( ), empty for none."""

    type: str
    comment: str = ""
    codec: str = ""


@dataclass(frozen=True)
class FoundTable:
    """A table or view as ClickHouse's system tables tell it."""

    engine: str
    partition_key: str = ""
    sorting_key: str = ""
    comment: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, FoundColumn] = field(default_factory=dict)
    indexes: Mapping[str, str] = field(default_factory=dict)  # name → expression TYPE type GRANULARITY n
    projections: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Change:
    """One additive step; `statements` do it, and doing it twice does no harm."""

    table: str
    what: str  # one line
    statements: tuple[str, ...]

    def __str__(self) -> str:
        return f"change {self.table}: {self.what}"


@dataclass(frozen=True)
class Refusal:
    """Something that would touch rows that are there."""

    table: str
    what: str

    def __str__(self) -> str:
        return f"refuse {self.table}: {self.what}"


@dataclass(frozen=True)
class Note:
    """A difference that stays: answers are the same with it."""

    table: str
    what: str

    def __str__(self) -> str:
        return f"keep {self.table}: {self.what}"


Step = Change | Refusal | Note


class MigrationRefused(ValueError):
    """A place's tables can't become those of the schemas without touching rows; the text names the first."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        self.refusals = tuple(refusals)
        first, more = refusals[0], len(refusals) - 1
        others = f" (and {more} more: `tidebook clickhouse plan`)" if more else ""
        super().__init__(
            f"ClickHouse table {first.table}: {first.what}{others}; its rows are kept as they are: begin a fresh data "
            "directory or database, or move this table away, then read the topics again"
        )


def plan(
    tables: Iterable[Table],
    fixed: Mapping[str, str],
    views: Iterable[View],
    found: Mapping[str, FoundTable],
    late: Container[str] = (),
) -> list[Step]:
    """What makes `found` (by name) into `tables`, `fixed` (name → CREATE) and `views`, in the order to do it.

    `late`: names of tables whose topics have messages that were applied already.
    """
    tables = list(tables)
    steps: list[Step] = []
    for table in tables:
        there = found.get(table.name)
        if there is None:
            steps.append(_new_table(table, table.name in late))
        else:
            steps += _table_steps(table, there)
    for name, statement in fixed.items():
        if name not in found:
            steps.append(Change(name, "create table", (statement,)))
    known = {table.name for table in tables} | set(fixed)
    for name in sorted(set(found) - known):
        if "_topic" in found[name].columns and found[name].engine.endswith("MergeTree"):
            steps.append(Note(name, "no schema asks for this table any more"))
    return steps + view_steps(tables, list(views), found)


def pending(steps: Iterable[Step]) -> list[Change]:
    """The changes of a plan that may be made. Raises MigrationRefused."""
    steps = list(steps)
    refusals = [step for step in steps if isinstance(step, Refusal)]
    if refusals:
        raise MigrationRefused(refusals)
    return [step for step in steps if isinstance(step, Change)]


def _new_table(table: Table, late: bool) -> Step:
    """A roll-up that lacks what came before it would add up to less than there is."""
    if late and table.group_by:
        return Refusal(table.name, "is new, and messages that it should add up are applied already")
    before = "; messages applied before have no rows in it" if late else ""
    return Change(table.name, f"create table{before}", (create_table(table),))


def _table_steps(table: Table, found: FoundTable) -> list[Step]:
    if found.engine != table.engine:
        return [Refusal(table.name, f"is {found.engine}, the schemas ask for {table.engine}")]
    steps: list[Step] = []
    if not _same(found.partition_key, table.partition_by):
        wanted = table.partition_by or "none"
        steps.append(
            Refusal(table.name, f"partition key {found.partition_key or 'none'} would become {wanted}")
        )
    steps += _column_steps(table, found)
    steps += _setting_steps(table, found)
    steps += _index_steps(table, found)
    if found.comment != table.doc:
        comment = f"ALTER TABLE {table.name} MODIFY COMMENT {literal(table.doc)}"
        steps.append(Change(table.name, "comment", (comment,)))
    return steps


def _column_steps(table: Table, found: FoundTable) -> list[Step]:
    """Columns, and the sorting key, which new columns may go on with in the ALTER that adds them."""
    origin = tuple(Column(name, kind, "", doc) for name, (kind, doc) in ORIGIN.items())
    wanted = {column.name: column for column in (*table.columns, *origin)}
    added = [column for name, column in wanted.items() if name not in found.columns]
    steps: list[Step] = []
    changes = [f"ADD COLUMN IF NOT EXISTS {column_ddl(column)}" for column in added]
    for name, is_there in found.columns.items():
        if name not in wanted:
            steps.append(
                Refusal(table.name, f"column {name} {is_there.type} is in no schema: dropping it loses data")
            )
        elif not _same(is_there.type, wanted[name].type):
            told = f"column {name} is {is_there.type}, the schemas ask for {wanted[name].type}"
            steps.append(Refusal(table.name, told))
        else:
            steps += _column_change(table.name, wanted[name], is_there)
    ordered = ", ".join(table.order_by)
    if not _same(found.sorting_key, ordered):
        behind = _behind(table, found.sorting_key)
        if behind and set(behind) <= {column.name for column in added}:
            changes.append(f"MODIFY ORDER BY ({ordered})")
        else:
            steps.append(Refusal(table.name, f"order by {found.sorting_key} would become {ordered}"))
    if added:
        names = ", ".join(column.name for column in added)
        more = f", order by {ordered}" if len(changes) > len(added) else ""
        alter = f"ALTER TABLE {table.name} {', '.join(changes)}"
        steps.append(
            Change(table.name, f"add column {names}{more}; rows that are there have its default", (alter,))
        )
    return steps


def _behind(table: Table, sorting_key: str) -> tuple[str, ...]:
    """What our sorting key has behind theirs, where it goes on with theirs."""
    place = next(
        (at for at in range(1, len(table.order_by)) if _same(", ".join(table.order_by[:at]), sorting_key)),
        None,
    )
    return () if place is None else table.order_by[place:]


def _column_change(table: str, wanted: Column, found: FoundColumn) -> list[Step]:
    steps: list[Step] = []
    if found.comment != wanted.doc:
        comment = f"ALTER TABLE {table} COMMENT COLUMN `{wanted.name}` {literal(wanted.doc)}"
        steps.append(Change(table, f"comment of {wanted.name}", (comment,)))
    if not _same_codec(found.codec, wanted.codec or ""):
        to = f"CODEC({wanted.codec})" if wanted.codec else "REMOVE CODEC"
        kind = f"{wanted.type} " if wanted.codec else ""
        codec = f"ALTER TABLE {table} MODIFY COLUMN `{wanted.name}` {kind}{to}"
        steps.append(Change(table, f"codec of {wanted.name}: {wanted.codec or 'the default'}", (codec,)))
    return steps


def _index_steps(table: Table, found: FoundTable) -> list[Step]:
    """Indexes and projections hold no data of their own: a new one is made for old rows too, in the background."""
    steps: list[Step] = []
    alter = f"ALTER TABLE {table.name}"
    for name, index in index_names(table).items():
        there = found.indexes.get(name)
        if there is None:
            made = (f"{alter} ADD INDEX IF NOT EXISTS {name} {index}", f"{alter} MATERIALIZE INDEX {name}")
            steps.append(Change(table.name, f"add index {name}", made))
        elif not _same(there, index):
            made = (f"{alter} DROP INDEX IF EXISTS {name}", f"{alter} ADD INDEX IF NOT EXISTS {name} {index}")
            steps.append(Change(table.name, f"index {name}", (*made, f"{alter} MATERIALIZE INDEX {name}")))
    for name, select in table.projections:
        if name not in found.projections:
            add = f"{alter} ADD PROJECTION IF NOT EXISTS {name} ({select})"
            made = (add, f"{alter} MATERIALIZE PROJECTION {name}")
            steps.append(Change(table.name, f"add projection {name}", made))
    return steps


def _setting_steps(table: Table, found: FoundTable) -> list[Step]:
    """Before indexes and projections, which may need them."""
    steps: list[Step] = []
    for name, value in table.settings:
        there = found.settings.get(name)
        if there == str(value):
            continue
        if name in _FIXED_SETTINGS:
            steps.append(Note(table.name, f"{name} stays {there}; a table made anew has {value}"))
        else:
            alter = f"ALTER TABLE {table.name} MODIFY SETTING {name} = {literal(value)}"
            steps.append(Change(table.name, f"setting {name} = {value}", (alter,)))
    return steps


def view_steps(tables: Sequence[Table], views: Sequence[View], found: Mapping[str, FoundTable]) -> list[Step]:
    """The part of a plan that is of views; of `found` it looks at their engines and comments alone."""
    steps: list[Step] = []
    marks = {
        table.name: _hash(*(f"{column.name} {column.type}" for column in table.columns)) for table in tables
    }
    for view in in_order(views):
        read = sorted(set(_WORD.findall(view.select)) & set(marks))
        mark = marks[view.name] = _hash(view.flat, view.doc, *(marks[name] for name in read))
        there = found.get(view.name)
        if there is not None and there.engine != view.engine:
            wanted = f"a {view.engine.lower()} of that name is wanted"
            steps.append(Refusal(view.name, f"is a table ({there.engine}), {wanted}"))
            continue
        told = MARK.search(there.comment) if there is not None else None
        if told is None or told[1] != mark:
            comment = literal(f"{view.doc}\nmark {mark}")
            what = "create view" if there is None else "view: its text is not this release's"
            steps.append(Change(view.name, what, (f"{view.sql}\nCOMMENT {comment}",)))
    return steps


def in_order(views: Iterable[View]) -> list[View]:
    """`views`, those first that others read. Raises ValueError where they read each other in a circle."""
    left = {view.name: view for view in views}
    reads = {name: (set(_WORD.findall(view.select)) & set(left)) - {name} for name, view in left.items()}
    made: list[View] = []
    while left:
        free = [name for name in left if not reads[name] & set(left)]
        if not free:
            raise ValueError(f"views read each other in a circle: {', '.join(sorted(left))}")
        made += [left.pop(name) for name in free]
    return made


def _hash(*texts: str) -> str:
    return blake2b("\n".join(texts).encode(), digest_size=8).hexdigest()


def _same(one: str, other: str) -> bool:
    """Equal but for spaces, quotes of names and brackets around one name, which ClickHouse writes its own way."""
    return _plain(one) == _plain(other)


def _plain(text: str) -> str:
    bare = re.sub(r"[\s`]+", "", text)
    return bare[1:-1] if re.fullmatch(r"\([^()]*\)", bare) else bare


def _same_codec(found: str, wanted: str) -> bool:
    """ClickHouse writes out what a codec's parameter is where none is given: ZSTD is ZSTD(1), Delta Delta(8)."""
    have, want = _codecs(found), _codecs(wanted)
    if len(have) != len(want):
        return False
    return all(
        one[0] == other[0]
        and (one[1] == other[1] or (not other[1] and (other[0] != "ZSTD" or one[1] == "1")))
        for one, other in zip(have, want, strict=True)
    )


def _codecs(text: str) -> list[tuple[str, str]]:
    return [(name, parameter) for name, parameter in re.findall(r"(\w+)(?:\(([^)]*)\))?", text) if name]
