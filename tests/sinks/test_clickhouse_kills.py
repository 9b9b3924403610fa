"""Killed at seeded moments, two chains one after the other in one place: every table, roll-up and view is what an
undisturbed run leaves, with and without FINAL.

`TIDEBOOK_KILLS=200` runs that many seeds instead of the short form's.
"""

import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from schemas.loader import schemas
from schemas.registry import local_registry
from sinks.clickhouse import ClickHouseHistory
from sinks.clickhouse_client import Place
from sinks.clickhouse_state import wanted_tables
from sinks.ddl import APPLIED_TABLE, Table
from sinks.sink import HistoryMessage
from sinks.views import views
from tests.support.dying_client import DyingClient, Killed
from tests.support.history import CODEC, LEDGERS, chain, expected, found, history, message

SEEDS = range(int(os.environ.get("TIDEBOOK_KILLS", "1")))
BATCH = 5
OF_THE_CLOCK = {"pipeline_freshness"}  # it tells when, not what
Digest = dict[str, tuple[int, int]]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseHistory]:
    with history(Path(tmp_path_factory.mktemp("kills") / "ch")) as opened:
        yield opened


def _emptied(engine: ClickHouseHistory) -> None:
    sql = "SELECT name FROM system.tables WHERE engine LIKE '%MergeTree' AND database = currentDatabase()"
    for (table,) in engine._client.query(f"{sql} AND total_rows > 0").result_rows:
        engine._client.command(f"TRUNCATE TABLE {table}")


def _two_chains(seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Chain 1, and chain 2 with ledgers of the same indexes."""
    other = [{**record, "chain": "xrpl:other", "chain_number": 2} for record in chain(seed + 1000, 6)]
    return chain(seed, 10), [{**one, "ledger_hash": one["ledger_hash"][::-1]} for one in other]


def _digest(engine: ClickHouseHistory, final: int) -> Digest:
    """(rows, sum of their hashes) of all that can be asked without parameters."""
    sources = {
        table.name: _rows_of(table) for table in wanted_tables(schemas()) if table.name != APPLIED_TABLE
    }
    sources |= {one.name: one.name for one in views() if not one.parameters and one.name not in OF_THE_CLOCK}
    asked = [
        f"SELECT '{name}', count(), sum(cityHash64(toJSONString(tuple(*)))) FROM {source}"
        for name, source in sources.items()
    ]
    sql = f"SELECT * FROM ({' UNION ALL '.join(asked)}) SETTINGS final = {final}"
    return {name: (count, total) for name, count, total in engine._client.query(sql).result_rows}


def _rows_of(table: Table) -> str:
    """A table's rows but for their epoch; of a roll-up, whose partial sums follow the batches, the sums."""
    if not table.group_by:
        return f"(SELECT * EXCEPT (_epoch) FROM {table.name})"
    key = ", ".join(f"`{name}`" for name in table.group_by)
    rest = [column.name for column in table.columns if column.name not in table.group_by]
    sums = ", ".join(f"{'sum' if _is_number(table, name) else 'max'}(`{name}`)" for name in rest)
    return f"(SELECT {key}, {sums} FROM {table.name} GROUP BY {key})"


def _is_number(table: Table, name: str) -> bool:
    kind = next(column.type for column in table.columns if column.name == name)
    return kind.startswith(("Int", "UInt", "Decimal", "Nullable(Decimal"))


def _life(engine: ClickHouseHistory, client: Any, epoch: str, messages: Sequence[HistoryMessage]) -> None:
    """One process's: it knows nothing of earlier ones but what the tables tell."""
    sink = ClickHouseHistory(Place(path=Path("unused")), schemas(), CODEC, local_registry())
    sink._client_or_none = client
    start = sink.open_partition(epoch, LEDGERS, 0)
    for place in range(start, len(messages), BATCH):
        sink.write(epoch, messages[place : place + BATCH])
        sink.flush()


def _messages(records: Sequence[dict[str, Any]]) -> list[HistoryMessage]:
    return [message(record, offset) for offset, record in enumerate(records)]


@pytest.mark.parametrize("seed", SEEDS)
def test_two_chains_one_after_the_other_with_kills_at_seeded_statements(
    engine: ClickHouseHistory, seed: int
) -> None:
    one, two = _two_chains(seed)
    _emptied(engine)
    for epoch, records in (("a", one), ("b", two)):
        _life(engine, engine._client, epoch, _messages(records))
    undisturbed = {final: _digest(engine, final) for final in (0, 1)}
    assert undisturbed[0]["xrpl_transactions"][0] == expected(one + two)["xrpl_transactions"]
    _emptied(engine)
    made = random.Random(seed)
    for number, records in enumerate((one, two)):
        for death in range(4):
            epoch = f"{number}{made.randrange(2) if death else 0}"
            dying = DyingClient(engine._client, made.randrange(1, 60), made.random() < 0.5)
            try:
                _life(engine, dying, epoch, _messages(records))
            except Killed:
                continue
        _life(engine, engine._client, f"last{number}", _messages(records))
    _life(engine, engine._client, "again", _messages(one))
    assert found(engine) == expected(one + two) == found(engine, final=1)
    assert {final: _digest(engine, final) for final in (0, 1)} == undisturbed


class DyingBetweenParts(DyingClient):
    """Dies in the INSERT into `table`, when some of its parts are there and the others are not yet."""

    def __init__(self, client: Any, table: str, made: random.Random) -> None:
        super().__init__(client, 10**9, after=False)
        self._table, self._made = table, made
        self.lost = 0

    def command(self, *args: Any) -> Any:
        answer = super().command(*args)
        if args[0].startswith(f"INSERT INTO {self._table} "):
            told = self._client.query(
                f"SELECT name FROM system.parts WHERE table = '{self._table}' AND active"
            )
            parts = [name for (name,) in told.result_rows]
            assert len(parts) > 1, "the batch spans months"
            for part in self._made.sample(parts, self._made.randrange(1, len(parts))):
                self._client.command(f"ALTER TABLE {self._table} DROP PART '{part}'")
                self.lost += 1
            raise Killed
        return answer


@pytest.mark.parametrize("table", ["xrpl_transactions", "gas_sums"])
def test_dying_between_the_parts_of_one_insert(engine: ClickHouseHistory, table: str) -> None:
    """The parts of an insert come about one after another, a month each: the next life finds some of them."""
    records = chain(3, BATCH, months=4)
    _emptied(engine)
    dying = DyingBetweenParts(engine._client, table, random.Random(table))
    with pytest.raises(Killed):
        _life(engine, dying, "e", _messages(records))
    assert dying.lost
    _life(engine, engine._client, "f", _messages(records))
    assert found(engine) == expected(records) == found(engine, final=1)
