"""A ClickHouse server that is away, hangs, or answers too late: nothing is lost, nothing is in twice.

`TIDEBOOK_KILLS=200` runs that many seeds instead of the short form's.
"""

import os
import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError, OperationalError

from pipeline.agents.history import HistoryRole
from pipeline.agents.role import Message, StoreAway
from schemas.loader import schemas
from schemas.registry import local_registry
from sinks.clickhouse import ClickHouseHistory
from sinks.clickhouse_client import NamedStatements, Place, fault_code, is_away
from sinks.clickhouse_commits import delete_rows
from sinks.sink import TakenOver
from tests.support.history import CODEC, LEDGERS, chain, expected, found, history, message
from tests.support.unreliable_clickhouse import UnreliableServer

SEEDS = range(int(os.environ.get("TIDEBOOK_KILLS", "2")))
TABLES = (
    "xrpl_ledgers",
    "xrpl_transactions",
    "balance_changes",
    "object_changes",
    "gas_ledger",
    "sink_applied",
)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseHistory]:
    with history(Path(tmp_path_factory.mktemp("away") / "ch")) as opened:
        yield opened


@pytest.fixture
def empty(engine: ClickHouseHistory) -> ClickHouseHistory:
    for (table,) in engine._client.query("SELECT name FROM system.tables WHERE engine LIKE '%MergeTree' AND "
                                         "database = currentDatabase() AND total_rows > 0").result_rows:  # fmt: skip
        engine._client.command(f"TRUNCATE TABLE {table}")
    return engine


def _on(server: UnreliableServer) -> ClickHouseHistory:
    """A history whose place is that server, opened but for its tables, which are there."""
    sink = ClickHouseHistory(Place(url="http://nowhere.invalid:8123/x"), schemas(), CODEC, local_registry())
    sink._connect = lambda: NamedStatements(server.session())  # type: ignore[arg-type, method-assign]
    sink._client_or_none = sink._connect()
    return sink


def _role(sink: ClickHouseHistory, epoch: str = "e") -> HistoryRole:
    role = HistoryRole(lambda: sink, CODEC)
    role._epochs, role._history = {LEDGERS: epoch}, sink
    return role


def _messages(records: list[dict[str, Any]]) -> list[Message]:
    made = [message(record, offset) for offset, record in enumerate(records)]
    return [Message(m.topic, m.partition, m.offset, m.timestamp_ms, None, m.message, ()) for m in made]


def _patiently(work: Any, tries: int = 400) -> int:
    """Does `work` until it goes through; how often it did not."""
    for tried in range(tries):
        try:
            work()
            return tried
        except StoreAway:
            continue
    pytest.fail("never got through")


@pytest.mark.parametrize("seed", SEEDS)
def test_a_server_in_doubt_leaves_exact_rows(empty: ClickHouseHistory, seed: int) -> None:
    """Statements refused, answered never, or done late; now and then the process dies of it as well."""
    records, chance = chain(seed, 12), random.Random(seed)
    server = UnreliableServer(empty._client, seed, faults=0.12)
    messages, faults, place, lives = _messages(records), 0, 0, 0
    role: HistoryRole | None = None
    while place < len(messages):
        try:
            if role is None:
                lives, fresh = lives + 1, _role(_on(server))
                place = fresh.assigned({(LEDGERS, 0)})[LEDGERS, 0]
                role = fresh
            done = role._process(LEDGERS, messages[place : place + 4])
            _patiently(done.commit)
            place += 4
        except (StoreAway, TakenOver) as fault:
            faults += 1
            if isinstance(fault, TakenOver) or chance.random() < 0.3:
                role = None
    assert faults and sum(server.counts.values())
    for _ in range(60):
        server._go_on()  # whatever still runs comes to its end
    assert found(empty) == expected(records) == found(empty, final=1)
    told = empty._client.query("SELECT `table`, sum(rows) FROM sink_progress GROUP BY 1").result_rows
    assert {table: int(count) for table, count in told if table in TABLES} == {
        table: count for table, count in expected(records).items() if table in TABLES
    }


def test_a_batch_that_another_process_has_undone_is_not_committed(empty: ClickHouseHistory) -> None:
    records = chain(7, 6)
    messages = [message(record, offset) for offset, record in enumerate(records)]
    server = UnreliableServer(empty._client, 0, faults=0.0)
    first, second = _on(server), _on(server)
    first.open_partition("e", LEDGERS, 0)
    first.write("e", messages)
    assert second.open_partition("e", LEDGERS, 0) == 0
    with pytest.raises(TakenOver, match=f"{LEDGERS} partition 0: another process"):
        first.flush()
    second.write("e", messages)
    second.flush()
    assert found(empty) == expected(records)


def test_an_undoing_that_cannot_be_done_now_says_so_and_takes_nothing_later(
    empty: ClickHouseHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a full disk: the mutation stays in the queue. What is written meanwhile stays when it is done."""
    client, of = empty._client, "ledger_index = 7"
    insert = "INSERT INTO xrpl_ledgers (chain_number, ledger_index, _offset) VALUES (1, 7, {})"
    client.command(insert.format(1))
    monkeypatch.setattr("sinks.clickhouse_commits.ANSWER_WAIT_S", 0.2)
    client.command("SYSTEM STOP MERGES xrpl_ledgers")
    try:
        with pytest.raises(OperationalError, match=r"xrpl_ledgers: 1 rows .* is the disk full") as raised:
            delete_rows(client, "xrpl_ledgers", of)
        client.command(insert.format(2))
    finally:
        client.command("SYSTEM START MERGES xrpl_ledgers")
    assert is_away(raised.value)
    monkeypatch.undo()
    assert delete_rows(client, "xrpl_ledgers", f"{of} AND _offset = 1") <= 1
    left = client.query("SELECT _offset FROM xrpl_ledgers SETTINGS final = 0").result_rows
    assert left == [(2,)]
    assert delete_rows(client, "xrpl_ledgers", of) == 1


def test_while_it_is_down_a_role_keeps_the_batch_and_nothing_else(empty: ClickHouseHistory) -> None:
    records = chain(8, 6)
    server = UnreliableServer(empty._client, 0, faults=0.0)
    role = _role(_on(server))
    role.assigned({(LEDGERS, 0)})
    server.down = True
    sizes = []
    for _ in range(120):  # an hour of tries every 30 s
        with pytest.raises(StoreAway, match="ClickHouse: Connection refused"):
            role._process(LEDGERS, _messages(records))
        sink = role._history
        sizes.append(len(sink._failed) + len(sink._pending) + len(sink._written) + len(role._next))
    assert sizes[0] == sizes[-1]
    server.down = False
    role._process(LEDGERS, _messages(records)).commit()
    assert found(empty) == expected(records)


@contextmanager
def _server(answer: bytes | None) -> Iterator[int]:
    """A port where every request is answered with these bytes, b"": hung up on, None: never answered."""
    listening, held = socket.create_server(("127.0.0.1", 0)), []

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                held.append(connection)
                if answer is not None:
                    connection.recv(65536)
                    connection.sendall(answer)
                    connection.close()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.close()
        for connection in held:
            connection.close()


UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"


@pytest.mark.parametrize("answer", [b"", UNAVAILABLE, None], ids=["hangs up", "503", "silent"])
def test_what_a_real_client_says_of_a_server_that_fails_is_away(
    answer: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sinks.clickhouse_client.ANSWER_WAIT_S", 1)
    with _server(answer) as port, pytest.raises(ClickHouseError) as raised:
        Place(url=f"http://127.0.0.1:{port}/x").connect({})
    assert is_away(raised.value)


def test_a_closed_port_is_away_and_a_wrong_statement_is_not(empty: ClickHouseHistory) -> None:
    with _server(b"") as port:
        pass
    with pytest.raises(ClickHouseError) as raised:
        clickhouse_connect.get_client(host="127.0.0.1", port=port)
    assert is_away(raised.value)
    with pytest.raises(ClickHouseError) as raised:
        empty._client.command("SELECT nothing FROM nowhere")
    assert fault_code(raised.value) and not is_away(raised.value)
    assert is_away(OperationalError("Code: 252. DB::Exception: Too many parts")) and not is_away(
        ValueError("x")
    )
