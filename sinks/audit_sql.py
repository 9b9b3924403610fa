"""The audit's questions to ClickHouse about topics' ranges, as SQL text; pure. None hides duplicates: final = 0.

Commits are the rows of sink_progress. A row belongs to the last commit that begins at or before its offset,
so rows in the hole between two commits count as too many in the one before. Where a later message replaces the rows of
an earlier one (an EVM block that becomes final), ClickHouse may or may not have merged the earlier rows away: an
earlier message without rows counts as many as the later one has, for such messages always hold the whole block.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.domain.audit import Range
from sinks import ddl
from sinks.clickhouse_commits import ENDED_KEY, ENDING, INTENTS_TABLE, PROGRESS_TABLE
from sinks.ddl_shape import documented, literal

RANGES_AT_ONCE: Final = 40
SHOWN: Final = 20  # places told of one check, topic and partition; the others are counted
# Topics whose later messages replace rows of earlier ones: what those messages have in common, of their identity.
REPLACED: Final[Mapping[str, str]] = {
    "evm.blocks.v1": "chain_number, block, hash, chunk",
    "evm.contracts.v1": "chain_number, key",
    "assets.changes.v1": "chain_number, block, hash, chunk, splitByChar(' ', key)[1]",
    "chains.verdicts.v1": "chain_number, block, key",
}
# Of a topic whose messages are few and replaced one by one, each message has a digest of its own.
SEALED_ONE_BY_ONE: Final = frozenset({"evm.contracts.v1"})
_PROVISIONAL: Final = "'(^| )[0-9]+/(head|retracted)$'"  # key of a message whose block may come again


@dataclass(frozen=True, slots=True)
class Audited:
    """A table as one topic fills it."""

    name: str
    key: tuple[str, ...]  # tells its rows apart
    columns: tuple[str, ...]
    replaces: str  # see REPLACED; "" = no row replaces another
    rollup: bool  # its key tells groups apart, and every batch adds to them


def audited_tables(schemas: Iterable[Any]) -> dict[str, tuple[Audited, ...]]:
    """Tables by topic, that of the messages applied last."""
    found: dict[str, tuple[Audited, ...]] = {}
    for schema in schemas:
        if schema.clickhouse is None:
            continue
        topic, form = schema.topic_name, documented(schema)
        found[topic] = tuple(
            Audited(
                table.name,
                tuple(table.group_by) or table.order_by,
                tuple(column.name for column in table.columns),
                "" if table.group_by or table.name == ddl.APPLIED_TABLE else REPLACED.get(topic, ""),
                bool(table.group_by),
            )
            for table in (*ddl.tables(form), ddl.applied(form))
        )
    return found


def within(ranges: Sequence[Range], epoch: str, partition: str, first: str, last: str) -> str:
    """Condition: of one of these ranges of one topic."""
    told = (
        f"({epoch} = {literal(one.epoch)} AND {partition} = {one.partition}"
        f" AND {first} >= {one.first} AND {last} <= {one.last})"
        for one in ranges
    )
    return f"({' OR '.join(told)})"


def ends(settle_s: float, since: str = "") -> str:
    """Every partition's offsets in commits that are older than `settle_s` seconds, and not older than `since`."""
    begun = f" AND committed_at >= parseDateTime64BestEffort({literal(since)}, 3, 'UTC')" if since else ""
    return (
        f"SELECT epoch, topic, partition, min(from_offset) AS first, max(to_offset) AS last FROM {PROGRESS_TABLE}"
        f" WHERE committed_at <= now64(3) - toIntervalMillisecond({int(settle_s * 1000)}){begun}"
        " GROUP BY epoch, topic, partition ORDER BY topic, partition, min(committed_at) SETTINGS final = 0"
    )


def cuts(ranges: Sequence[Range], commits: int) -> str:
    """Where the first `commits` commits of each range end; ranges that have no more are left out."""
    of = " OR ".join(
        f"(epoch = {literal(one.epoch)} AND topic = {literal(one.topic)} AND partition = {one.partition}"
        f" AND to_offset BETWEEN {one.first} AND {one.last})"
        for one in ranges
    )
    return (
        "SELECT toString(epoch) AS epoch, topic, partition,"
        f" arraySort(groupUniqArray(to_offset))[{int(commits)}] AS last"
        f" FROM {PROGRESS_TABLE} WHERE {of} GROUP BY epoch, topic, partition"
        f" HAVING uniqExact(to_offset) > {int(commits)} SETTINGS final = 0"
    )


def commits(topic: str, ranges: Sequence[Range]) -> str:
    """The commits of the ranges, in order within each."""
    return (
        "SELECT toString(epoch) AS epoch, partition, from_offset, to_offset,"
        f" maxIf(p.rows, p.`table` = {literal(ddl.APPLIED_TABLE)}) AS applied, max(p.duplicates) AS duplicates,"
        f" max(p.refused) AS refused FROM {PROGRESS_TABLE} AS p WHERE topic = {literal(topic)}"
        f" AND {within(ranges, 'epoch', 'partition', 'from_offset', 'to_offset')}"
        " GROUP BY epoch, partition, from_offset, to_offset ORDER BY epoch, partition, from_offset, to_offset"
        " SETTINGS final = 0"
    )


def _commits_of(table: Audited, topic: str, ranges: Sequence[Range]) -> str:
    """Commits with what they say of one table: nothing is 0 rows. Where messages without rows count as many as later
    ones have, `told` is null in commits from before the table was made."""
    is_table = f"`table` = {literal(table.name)}"
    began = f"(SELECT min(committed_at) FROM {PROGRESS_TABLE} WHERE topic = {literal(topic)} AND {is_table})"
    before = f"countIf({is_table}) = 0 AND max(committed_at) < {began}" if table.replaces else "0"
    return (
        "SELECT toString(epoch) AS epoch, partition, from_offset, max(to_offset) AS until,"
        " max(committed_at) AS committed,"
        f" if({before}, NULL, maxIf(rows, {is_table})) AS told"
        f" FROM {PROGRESS_TABLE} WHERE topic = {literal(topic)}"
        f" AND {within(ranges, 'epoch', 'partition', 'from_offset', 'to_offset')}"
        " GROUP BY epoch, partition, from_offset"
    )


def _per_message(table: Audited, topic: str, ranges: Sequence[Range]) -> str:
    """Rows by message: epoch, partition, offset, n."""
    of = f"_topic = {literal(topic)} AND {within(ranges, '_epoch', '_partition', '_offset', '_offset')}"
    counted = (
        "SELECT toString(_epoch) AS epoch, _partition AS partition, _offset AS offset, count() AS n"
        f" FROM {table.name} WHERE {of} GROUP BY _epoch, _partition, _offset"
    )
    if not table.replaces:
        return counted
    # every message of the same thing, in whatever epoch, is looked at: the one that replaced may lie beyond the ranges
    whole = counted.replace(of, f"_topic = {literal(topic)}")
    messages = (
        f"SELECT ({table.replaces}) AS thing, toString(_epoch) AS epoch, _partition AS partition, _offset AS offset"
        f" FROM {ddl.APPLIED_TABLE} WHERE _topic = {literal(topic)}"
    )
    counts = (
        f"SELECT thing, epoch, partition, offset, n FROM ({messages}) AS m"
        f" LEFT JOIN ({whole}) AS c USING (epoch, partition, offset)"
    )
    placed = (
        "SELECT thing, epoch, partition, offset, n, committed FROM"
        f" (SELECT *, 1 AS one FROM ({counts})) AS m ASOF LEFT JOIN"
        f" (SELECT toString(epoch) AS epoch, partition, from_offset, max(committed_at) AS committed"
        f" FROM {PROGRESS_TABLE} WHERE topic = {literal(topic)} GROUP BY epoch, partition, from_offset) AS p"
        " ON m.epoch = p.epoch AND m.partition = p.partition AND m.offset >= p.from_offset"
    )
    judged = (
        "SELECT epoch, partition, offset, n, first_value(n) OVER (PARTITION BY thing ORDER BY committed DESC,"
        f" offset DESC) AS last_n, row_number() OVER (PARTITION BY thing ORDER BY committed DESC, offset DESC) AS place"
        f" FROM ({placed})"
    )
    ours = within(ranges, "epoch", "partition", "offset", "offset")
    return (
        "SELECT epoch, partition, offset, if(n = 0 AND place > 1, last_n, n) AS n"
        f" FROM ({judged}) WHERE {ours}"
    )


def rows_of_commits(table: Audited, topic: str, ranges: Sequence[Range]) -> str:
    """Per partition: how many rows the commits tell, how many there are, and the commits where the two differ.

    Commits and messages are one stream in the order of offsets, each message with the commit that begins before it.
    """
    both = (
        "SELECT epoch, partition, from_offset AS offset, 1 AS begins, until, toInt64(ifNull(told, 0)) AS told,"
        f" toUInt8(told IS NULL) AS untold, 0 AS n FROM ({_commits_of(table, topic, ranges)})"
        " UNION ALL SELECT epoch, partition, offset, 0 AS begins, 0 AS until, 0 AS told, 0 AS untold, n"
        f" FROM ({_per_message(table, topic, ranges)})"
    )
    placed = (
        "SELECT *, max(if(begins, offset, -1)) OVER (PARTITION BY epoch, partition ORDER BY offset, 1 - begins"
        f" ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS first FROM ({both})"
    )
    of_commits = (
        "SELECT epoch, partition, first, max(s.until) AS last, sum(s.told) AS told, sum(s.n) AS found"
        f" FROM ({placed}) AS s GROUP BY epoch, partition, first HAVING max(s.untold) = 0"
    )
    return (
        "SELECT epoch, partition, sum(told) AS rows_told, sum(found) AS rows_found, countIf(told != found) AS wrong,"
        f" arraySlice(arraySort(groupArrayIf((first, last, told, found), told != found)), 1, {SHOWN}) AS places"
        f" FROM ({of_commits}) GROUP BY epoch, partition SETTINGS final = 0, join_use_nulls = 0"
    )


def _next(topic: str) -> str:
    """Where each partition goes on after its last commit."""
    return (
        f"SELECT toString(epoch) AS epoch, partition, max(to_offset) + 1 AS next FROM {PROGRESS_TABLE}"
        f" WHERE topic = {literal(topic)} GROUP BY epoch, partition"
    )


def begun(topic: str) -> str:
    """Offsets beyond the last commits of which rows may be there: batches begun, neither committed nor undone."""
    return (
        "SELECT epoch, partition, min(from_offset) AS first, max(to_offset) AS last FROM (SELECT toString(epoch) AS"
        f" epoch, partition, from_offset, to_offset, batch, undone FROM {INTENTS_TABLE} WHERE topic = {literal(topic)})"
        f" AS b LEFT JOIN ({_next(topic)}) AS c USING (epoch, partition) WHERE to_offset >= next"
        " GROUP BY epoch, partition, batch HAVING max(undone) = 0 SETTINGS final = 0, join_use_nulls = 0"
    )


def beyond(table: Audited, topic: str, begun: Sequence[Range]) -> str:
    """Rows beyond the last commit of their partition, in whatever epoch, but for those of the batches `begun`."""
    but = f" AND NOT {within(begun, 'epoch', 'partition', 'offset', 'offset')}" if begun else ""
    return (
        "SELECT epoch, partition, count() AS n, min(offset) AS first, max(offset) AS last FROM ("
        "SELECT toString(_epoch) AS epoch, _partition AS partition, _offset AS offset"
        f" FROM {table.name} WHERE _topic = {literal(topic)}) AS r LEFT JOIN ({_next(topic)}) AS c"
        f" USING (epoch, partition) WHERE offset >= next{but} GROUP BY epoch, partition"
        " ORDER BY epoch, partition SETTINGS final = 0, join_use_nulls = 0"
    )


def twice(table: Audited, topic: str, ranges: Sequence[Range], whole: bool) -> str:
    """Rows of the ranges that are there more than once: by key, of roll-ups and what is replaced also by origin.

    Messages are compared with those outside the ranges too, for the same one may have come in another epoch; a block
    that is final under two incarnations is one of them. `whole`: the ranges are all there is.
    """
    key = ", ".join(f"`{name}`" for name in table.key)
    if table.name == ddl.APPLIED_TABLE and topic in ENDING:
        key = key.replace("`key`", ENDED_KEY)
    of = f"_topic = {literal(topic)} AND {within(ranges, '_epoch', '_partition', '_offset', '_offset')}"
    by = f"{key}, _epoch, _partition, _offset" if table.replaces or table.rollup else key
    if table.name == ddl.APPLIED_TABLE:
        of = (
            f"_topic = {literal(topic)}"
            if whole
            else f"_topic = {literal(topic)} AND ({key}) IN (SELECT {key} FROM {table.name} WHERE {of})"
        )
    return (
        "SELECT epoch, partition, sum(n - 1) AS wrong,"
        f" arraySlice(arraySort(groupUniqArrayArray(100)(offsets)), 1, {SHOWN}) AS places FROM ("
        "SELECT toString(any(_epoch)) AS epoch, any(_partition) AS partition, count() AS n,"
        f" groupUniqArray({SHOWN})(_offset) AS offsets FROM {table.name} WHERE {of}"
        f" GROUP BY {by} HAVING n > 1) GROUP BY epoch, partition SETTINGS final = 0"
    )


def seals(table: Audited, topic: str, ranges: Sequence[Range], columns: Sequence[str]) -> str:
    """Digest of the rows of every commit: how many, and the sum modulo 2^64 of the hashes of their columns.

    Where a later message replaces rows, without those of messages that it will replace.
    """
    of = f"_topic = {literal(topic)} AND {within(ranges, '_epoch', '_partition', '_offset', '_offset')}"
    named = ", ".join(f"`{name}`" for name in columns)
    starts = (
        f"SELECT DISTINCT toString(epoch) AS epoch, partition, from_offset, to_offset FROM {PROGRESS_TABLE}"
        f" WHERE topic = {literal(topic)} AND {within(ranges, 'epoch', 'partition', 'from_offset', 'to_offset')}"
    )
    if topic in SEALED_ONE_BY_ONE and table.replaces:
        starts = (
            "SELECT DISTINCT toString(_epoch) AS epoch, _partition AS partition, _offset AS from_offset,"
            f" _offset AS to_offset FROM {table.name} WHERE {of}"
        )
    stays = (
        f" AND (_epoch, _partition, _offset) NOT IN (SELECT _epoch, _partition, _offset FROM {ddl.APPLIED_TABLE}"
        f" WHERE {of} AND match(key, {_PROVISIONAL}))"
        if table.replaces
        else ""
    )
    rows = (
        "SELECT toString(_epoch) AS epoch, _partition AS partition, _offset AS offset,"
        f" sipHash64(({named}, _offset)) AS h"
        f" FROM {table.name} WHERE {of}{stays}"
    )
    return (
        "SELECT c.epoch AS epoch, c.partition AS partition, c.from_offset AS first, any(c.to_offset) AS last,"
        f" concat(toString(count()), ':', hex(sum(r.h))) AS digest FROM ({rows}) AS r"
        f" ASOF INNER JOIN ({starts}) AS c ON r.epoch = c.epoch AND r.partition = c.partition"
        " AND r.offset >= c.from_offset GROUP BY epoch, partition, first ORDER BY epoch, partition, first"
        " SETTINGS final = 0"
    )


def refused(topic: str, partition: int, patience_s: float) -> str:
    """Messages refused by epoch: n in all, settled in commits older than `patience_s`."""
    old = f"max(committed_at) <= now64(3) - toIntervalMillisecond({int(patience_s * 1000)})"
    return (
        "SELECT toString(epoch) AS epoch, sum(m) AS n, sumIf(m, old) AS settled"
        f" FROM (SELECT epoch, from_offset, max(refused) AS m, {old} AS old"
        f" FROM {PROGRESS_TABLE} WHERE topic = {literal(topic)} AND partition = {int(partition)}"
        " GROUP BY epoch, from_offset) GROUP BY epoch HAVING n > 0 SETTINGS final = 0"
    )


def in_quarantine(topic: str, partition: int) -> str:
    """Items of the history role in quarantine, by epoch."""
    return (
        "SELECT toString(epoch) AS epoch, uniqExact(id) AS n FROM quarantine WHERE role = 'history'"
        f" AND source_topic = {literal(topic)} AND source_partition = {int(partition)} GROUP BY epoch"
        " SETTINGS final = 0"
    )
