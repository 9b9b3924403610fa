"""The history sink against a plain aiokafka + fastavro + columnar-insert loop over the same topic, in one run.

Both read `xrpl.ledgers.v1` from the embedded broker with the same consumer in the same batches and fill tables of
the same shape in the same engine. Baseline: `fastavro.schemaless_reader` over every body, Python lists for every
column, one column-oriented insert a table: no roll-ups, no marks, nothing is looked up, nothing could be undone.
Measured: `ClickHouseHistory.write` and `flush` as the history role calls them, with its roll-ups, identities, intents
and commits. Both are checked to have left the same rows. Rounds take turns, the medians count; seconds of CPU are
told as well, for a machine that does something else too.
"""

from __future__ import annotations

import asyncio
import io
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from fastavro import schemaless_reader

from pipeline.agents.history import HistoryRole
from schemas.codec import local_codec
from schemas.loader import by_topic, schemas
from schemas.registry import local_registry
from sinks import ddl
from sinks.clickhouse import ClickHouseHistory
from sinks.clickhouse_client import Place
from sinks.clickhouse_state import wanted_tables
from sinks.ddl_shape import documented
from sinks.sink import HistoryMessage
from tests.bench.generate_chain import generate
from tests.bench.published_chain import TOPIC, published

DEMANDED = 1.5
WHERE: dict[str, Callable[[Any], bool]] = {
    "xrpl_ledgers": lambda row: row[0]["chunk"] == 0,
    "gas_ledger": lambda row: row[1]["fee"] > 0,
}
OTHER: dict[str, Callable[[Any], Any]] = {  # columns that are no field
    "row_number": lambda row: row[-1],
    "change_value": lambda row: _decimal(row[2]["change"]),
    "gas_paid_by_treasury": lambda row: 0,
    "branch": lambda row: "",
}


async def batches(url: str, end: int) -> AsyncIterator[list[HistoryMessage]]:
    """The topic's messages up to `end`, in batches of the history role's size."""
    partition = TopicPartition(TOPIC, 0)
    consumer = AIOKafkaConsumer(bootstrap_servers=url, auto_offset_reset="earliest", max_poll_records=5000,
                                max_partition_fetch_bytes=16 << 20, fetch_max_bytes=64 << 20)  # fmt: skip
    await consumer.start()
    try:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        held: list[HistoryMessage] = []
        position = 0
        while position < end:
            found = await consumer.getmany(timeout_ms=1000, max_records=HistoryRole.batch_max - len(held))
            for messages in found.values():
                held += [HistoryMessage(TOPIC, 0, one.offset, one.timestamp, one.value) for one in messages]
                position = held[-1].offset + 1
            held = [one for one in held if one.offset < end]
            if held and (len(held) >= HistoryRole.batch_max or position >= end):
                yield held
                held = []
    finally:
        await consumer.stop()


class PlainLoop:
    """The baseline's tables, in the same engine under names of their own."""

    def __init__(self, client: Any) -> None:
        self._client, self._schema = client, by_topic()[TOPIC]
        form = documented(self._schema)
        self.tables = [table for table in ddl.tables(form) if not table.group_by]
        whole = {
            table.name: table for table in wanted_tables(schemas())
        }  # other topics fill some of them too
        for table in self.tables:
            made = ddl.create_table(whole[table.name]).replace(
                f" {table.name} (", f" plain_{table.name} (", 1
            )
            client.command(made)

    def write(self, batch: Sequence[HistoryMessage]) -> None:
        """Decode and insert."""
        records = []
        for message in batch:
            stream = io.BytesIO(message.message)
            stream.seek(5)
            records.append(schemaless_reader(stream, self._schema.parsed))
        for table in self.tables:
            rows = list(_rows(records, batch, table.each))
            if table.name in WHERE:
                rows = [row for row in rows if WHERE[table.name](row)]
            if rows:
                names = [column.name for column in table.columns] + list(ddl.ORIGIN)
                data = [self._column(table, column, rows) for column in table.columns]
                data += [["e"] * len(rows), [TOPIC] * len(rows), [0] * len(rows), [row[-2] for row in rows]]
                self._client.insert(
                    f"plain_{table.name}", data, column_names=names, column_oriented=True,
                    settings={"optimize_on_insert": 0},
                )  # fmt: skip

    @staticmethod
    def _column(table: ddl.Table, column: ddl.Column, rows: list[Any]) -> list[Any]:
        other = OTHER.get(column.name)
        if other is not None:
            return [other(row) for row in rows]
        path = column.sql.strip("{}").split(".")
        depth, name = len(path) - 1, path[-1]
        return [row[depth][name] for row in rows]


def _rows(records: list[Any], batch: Sequence[HistoryMessage], each: str) -> Any:
    """(record, its element, its element's element, …, offset, number of the row) of a table's rows."""
    levels = each.split(".") if each else []
    for record, message in zip(records, batch, strict=True):
        if not levels:
            yield record, message.offset, 1
            continue
        for place, outer in enumerate(record[levels[0]], start=1):
            if len(levels) == 1:
                yield record, outer, message.offset, place
            else:
                for inner_place, inner in enumerate(outer[levels[1]], start=1):
                    yield record, outer, inner, message.offset, inner_place


def _decimal(text: str) -> Decimal | None:
    whole, _, part = text.partition(".")
    return None if len(part) > 38 or len(whole) > 38 or "e" in text.lower() else Decimal(text)


async def timed(url: str, end: int, write: Callable[[list[HistoryMessage]], None]) -> tuple[float, float]:
    """Seconds of wall and of CPU, reading included."""
    wall, cpu = time.perf_counter(), time.process_time()
    async for batch in batches(url, end):
        await asyncio.to_thread(write, batch)
    return time.perf_counter() - wall, time.process_time() - cpu


async def rounds_of(url: str, end: int, place: Path, rounds: int) -> dict[str, Any]:
    """Both ways, `rounds` times in turn; figures."""
    sink = ClickHouseHistory(Place(path=place), schemas(), local_codec(), local_registry())
    sink.open()
    client = sink._client
    plain = PlainLoop(client)
    spent: dict[str, list[tuple[float, float]]] = {"plain": [], "sink": []}
    counts: dict[str, tuple[int, int]] = {}
    try:
        for number in range(rounds + 1):
            last = end if number else min(end, 20)  # the first round warms both up
            for way in ("plain", "sink") if number % 2 else ("sink", "plain"):
                _empty(client)
                epoch = uuid.uuid4().hex
                sink.open_partition(epoch, TOPIC, 0)

                def history(batch: list[HistoryMessage], epoch: str = epoch) -> None:
                    sink.write(epoch, batch)
                    sink.flush()

                times = await timed(url, last, history if way == "sink" else plain.write)
                if not number:
                    continue
                spent[way].append(times)
                prefix = "plain_" if way == "plain" else ""
                found = {table.name: _digest(client, prefix, table) for table in plain.tables}
                if counts and counts != found:
                    raise SystemExit(f"bench sink: the ways differ: {counts} and {found}")
                counts = found
    finally:
        sink.close()
    rows = sum(count for count, _ in counts.values())
    wall = {way: median(one for one, _ in times) for way, times in spent.items()}
    cpu = {way: median(one for _, one in times) for way, times in spent.items()}
    return {
        "ledgers": end,
        "rows": rows,
        "plain_loop_rows_per_s": rows / wall["plain"],
        "sink_rows_per_s": rows / wall["sink"],
        "ratio": wall["plain"] / wall["sink"],
        "ratio_of_cpu": cpu["plain"] / cpu["sink"],
        "sink_cpu_s": cpu["sink"],
        "plain_cpu_s": cpu["plain"],
        "demanded": DEMANDED,
    }


def _empty(client: Any) -> None:
    sql = "SELECT name FROM system.tables WHERE engine LIKE '%MergeTree' AND database = currentDatabase()"
    for (table,) in client.query(f"{sql} AND total_rows > 0").result_rows:
        client.command(f"TRUNCATE TABLE {table}")


def _digest(client: Any, prefix: str, table: ddl.Table) -> tuple[int, int]:
    """(rows, sum of their hashes) of what this topic fills."""
    columns = ", ".join(["_offset", *(column.name for column in table.columns)])
    sql = f"SELECT count(), sum(cityHash64(toString(tuple({columns})))) FROM {prefix}{table.name}"
    (row,) = client.query(sql).result_rows
    return int(row[0]), int(row[1])


async def measure(recording: Path, data_dir: Path, rounds: int) -> dict[str, Any]:
    """Publish the recorded chain, then measure."""
    async with published(recording, data_dir) as chain:
        return await rounds_of(chain.url, chain.end, data_dir / "clickhouse", rounds)


def run(transactions: int = 200_000, seed: int = 7, rounds: int = 3) -> dict[str, Any]:
    """Generate a chain, publish it, write it both ways; figures."""
    with tempfile.TemporaryDirectory(prefix="tidebook-bench-") as name:
        directory = Path(name)
        recording = directory / "chain.jsonl.gz"
        generate(recording, transactions, seed)
        (directory / "data").mkdir()
        return asyncio.run(measure(recording, directory / "data", rounds))


if __name__ == "__main__":
    print(run())
