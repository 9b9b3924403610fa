"""The history sink on chDB: what becomes rows, what is refused, what is remembered."""

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from schemas.codec import Codec
from schemas.loader import make_schema, schemas
from schemas.registry import LocalRegistry, entry_of
from sinks import clickhouse_load
from sinks.clickhouse import ClickHouseHistory
from sinks.clickhouse_client import (
    DirectoryInUse,
    DirectoryLock,
    Place,
    QueryError,
    is_away,
    json_value,
    of_data,
)
from sinks.sink import HistoryMessage
from tests.support.history import (
    ALERTS,
    LEDGERS,
    QUARANTINE,
    START_MS,
    TRANSFERS,
    chain,
    change,
    expected,
    found,
    history,
    ledger,
    message,
    transaction,
)


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[ClickHouseHistory]:
    with history(tmp_path / "ch") as opened:
        yield opened


def _ask(sink: ClickHouseHistory, sql: str) -> list[Any]:
    """Values of a query, row by row, duplicates not hidden; a single column without the tuple."""
    rows = [tuple(row.values()) for row in sink.query(f"{sql} SETTINGS final = 0")]
    return [row[0] if len(row) == 1 else row for row in rows]


def _with_body(of: HistoryMessage, body: bytes) -> HistoryMessage:
    return HistoryMessage(of.topic, of.partition, of.offset, of.timestamp_ms, of.message[:5] + body)


def test_rows_of_a_ledger(sink: ClickHouseHistory) -> None:
    """One payment of 25 drops and 1.5 USD, one fee of 10 by a delegate, one pseudo-transaction."""
    payment = transaction(
        0, "rDelegate", account="rA", type="Payment", raw=b"\x00\xff\x80",
        memos=[{"type": "t", "format": "", "data": "hello"}],
        balance_changes=[
            change("rA", "XRP", "-25", "75"), change("rB", "USD.rI", "1.5", "1520019986234183e-27")
        ],
    )  # fmt: skip
    pseudo = transaction(1, "", fee=0, type="EnableAmendment")
    sink.write("e", [message(ledger(7, [payment, pseudo], total_coins=99), 41, partition=2)])
    origin = ("e", LEDGERS, 2, 41)
    assert _ask(sink, "SELECT _epoch, _topic, _partition, _offset FROM balance_changes") == [origin] * 2
    assert _ask(sink, "SELECT ledger_index, total_coins, close_time, gap_from FROM xrpl_ledgers") == [
        (7, 99, "2020-09-13T12:27:08Z", None)
    ]
    assert _ask(
        sink, "SELECT ledger_index, transaction_index, hash, type, hex(raw), memos FROM xrpl_transactions"
    ) == [
        (7, 0, f"{0:064X}", "Payment", "00FF80", [{"type": "t", "format": "", "data": "hello"}]),
        (7, 1, f"{1:064X}", "EnableAmendment", "7B7D", []),
    ]
    assert _ask(
        sink, "SELECT row_number, account, asset, change, balance FROM balance_changes ORDER BY 1"
    ) == [
        (1, "rA", "XRP", "-25", "75"),
        (2, "rB", "USD.rI", "1.5", "1520019986234183e-27"),
    ]
    assert _ask(
        sink, "SELECT owner, account, fee, burnt, gas_required, gas_paid_by_treasury FROM gas_ledger"
    ) == [("rDelegate", "rA", "10", "10", "10", "0")]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("-5.25", "-5.25"),
        ("0", "0"),
        ("0." + "1" * 38, "0." + "1" * 38),
        ("0." + "1" * 39, None),
        ("9" * 38, "9" * 38),
        ("1" + "0" * 38, None),
        ("99999999999999999e-40", None),
    ],
)
def test_a_change_is_a_number_where_it_fits_exactly(
    sink: ClickHouseHistory, text: str, number: str | None
) -> None:
    sink.write("e", [message(ledger(1, [transaction(0, balance_changes=[change("r", "A", text)])]), 0)])
    assert _ask(sink, "SELECT change, change_value FROM balance_changes") == [(text, number)]


def test_a_ledger_in_chunks_is_one_ledger(sink: ClickHouseHistory) -> None:
    chunks = [ledger(9, [transaction(of)], chunk=of, chunks=2, transaction_count=2) for of in (0, 1)]
    sink.write("e", [message(of, place) for place, of in enumerate(chunks)])
    assert _ask(sink, "SELECT transaction_count FROM xrpl_ledgers") == [2]
    assert _ask(sink, "SELECT transaction_index FROM xrpl_transactions ORDER BY 1") == [0, 1]


def test_two_chains_in_one_directory(sink: ClickHouseHistory) -> None:
    """The same ledger indexes, transaction indexes and accounts, told apart by the number of the chain."""
    records = chain(1, 10)
    other = [{**of, "chain": "xrpl:other", "chain_number": 2} for of in records]
    sink.write("e", [message(of, place) for place, of in enumerate(records)])
    sink.write("e", [message(of, place, partition=1) for place, of in enumerate(other)])
    doubled = {name: 2 * count for name, count in expected(records).items()}
    assert found(sink) == doubled == found(sink, final=1)


def test_commits_tell_rows_duplicates_and_the_last_block(sink: ClickHouseHistory) -> None:
    records = chain(2, 6)
    messages = [message(of, place) for place, of in enumerate(records)]
    assert sink.open_partition("e", LEDGERS, 0) == 0
    sink.write("e", messages[:4])
    sink.write("e", [*messages[2:5], _with_body(messages[5], b"")])
    assert sink.open_partition("other", LEDGERS, 1) == 0  # takes nothing of what is not committed here
    sink.flush()
    assert sink.open_partition("e", LEDGERS, 0) == 6
    assert _ask(
        sink,
        "SELECT from_offset, to_offset, block, rows, duplicates, refused FROM sink_progress "
        "WHERE `table` = 'sink_applied' AND epoch = 'e'",
    ) == [(0, 5, -1, 5, 2, 1)]
    assert sink.write("e", messages).applied == 0


@pytest.mark.parametrize("size", [1, 2, 7, 30])
def test_the_one_message_that_is_refused(sink: ClickHouseHistory, size: int) -> None:
    """Broken in the middle of its transactions, where only the decoder of bodies comes."""
    records = [ledger(of, [transaction(0), transaction(1)]) for of in range(1, size + 1)]
    messages = [message(of, place) for place, of in enumerate(records)]
    bad = size // 2
    messages[bad] = _with_body(messages[bad], messages[bad].message[5:-40])
    result = sink.write("e", messages)
    assert [(of.message, of.reason) for of in result.refused] == [(messages[bad], "truncated")]
    assert result.applied == size - 1
    assert found(sink) == expected(records[:bad] + records[bad + 1 :])


def test_a_message_that_the_insert_refuses(sink: ClickHouseHistory) -> None:
    """Its Avro is sound, its amount is no number: found among good ones, after other tables had rows."""
    legs = [_transfer(f"{of:032X}", "12" if of != 3 else "twelve") for of in range(6)]
    result = sink.write("e", [message(_transfers(of, [leg]), of, TRANSFERS) for of, leg in enumerate(legs)])
    (refused,) = result.refused
    assert (refused.message.offset, refused.reason) == (3, "refused_by_sink")
    assert "twelve" in refused.detail and "\n" not in refused.detail
    assert _ask(sink, "SELECT _offset FROM transfers ORDER BY 1") == [0, 1, 2, 4, 5]
    assert _ask(sink, "SELECT count() FROM sink_applied") == [5]
    assert result.rows["transfers"] == 5


def test_a_container_that_is_refused_and_whose_halves_are_not(
    sink: ClickHouseHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory was short for the whole, not for its halves: nothing is refused, nothing may be missing."""
    records = chain(6, 7)
    insert, calls = sink._client.raw_insert, 0

    def short(*args: Any, **values: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise DatabaseError("Code: 173. DB::Exception: Cannot allocate. (CANNOT_ALLOCATE_MEMORY)")
        return insert(*args, **values)

    monkeypatch.setattr(sink._client, "raw_insert", short)
    result = sink.write("e", [message(of, place) for place, of in enumerate(records)])
    assert (result.applied, result.rows["sink_applied"], result.refused) == (7, 7, ())
    assert found(sink) == expected(records)


def test_what_cannot_be_read_at_all(sink: ClickHouseHistory) -> None:
    good = message(ledger(1), 0)
    wrong = {
        "bad_magic": b"\x01" + good.message[1:],
        "unknown_schema": struct.pack(">bI", 0, 9999) + good.message[5:],
        "truncated": good.message[:3],
        "undecodable": message(_transfers(1, []), 0, TRANSFERS).message,  # another topic's record
    }
    messages = [HistoryMessage(LEDGERS, 0, place, 0, of) for place, of in enumerate(wrong.values(), start=1)]
    result = sink.write("e", [good, *messages])
    assert [of.reason for of in result.refused] == list(wrong)
    assert result.applied == 1


@pytest.mark.parametrize("length", [1 << 31, 1 << 40, (1 << 63) - 1])
def test_a_length_beyond_all_bounds_costs_no_memory(sink: ClickHouseHistory, length: int) -> None:
    from sinks.container import zigzag

    of = message(ledger(1, [transaction(0)]), 0)
    body = of.message[5:].replace(zigzag(64) + b"0" * 64, zigzag(length) + b"0" * 64, 1)
    assert len(body) > len(of.message) - 5
    assert len(sink.write("e", [_with_body(of, body)]).refused) == 1


@pytest.mark.parametrize(
    "fault",
    [
        "Code: 243. DB::Exception: Cannot reserve 1.00 MiB. (NOT_ENOUGH_SPACE)",
        "Code: 75. DB::Exception: Cannot write to file, errno: 28, strerror: No space left on device. (CANNOT_WRITE)",
        "Code: 1001. DB::Exception: std::exception. filesystem error: in create_directories: No space left on device",
    ],
)
def test_a_fault_of_clickhouse_refuses_nothing_and_is_made_good(
    sink: ClickHouseHistory, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """The disk is full at the third insert; the same batch goes in later, once."""
    records = chain(4, 5)
    messages = [message(of, place) for place, of in enumerate(records)]
    command, calls = sink._client.command, 0

    def full(statement: str) -> Any:
        nonlocal calls
        calls += statement.startswith("INSERT")
        if calls == 3:
            raise DatabaseError(fault)
        return command(statement)

    with monkeypatch.context() as patch:
        patch.setattr(sink._client, "command", full)
        with pytest.raises(DatabaseError, match=r"reserve|No space") as raised:
            sink.write("e", messages)
    assert is_away(raised.value)
    assert sink.write("e", messages).applied == 5
    sink.flush()
    assert found(sink) == expected(records)


def test_a_batch_larger_than_a_container(sink: ClickHouseHistory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clickhouse_load, "CONTAINER_BYTES_MAX", 2000)
    records = chain(5, 12)
    assert sink.write("e", [message(of, place) for place, of in enumerate(records)]).applied == 12
    assert found(sink) == expected(records)


def test_a_batch_of_several_partitions(sink: ClickHouseHistory) -> None:
    records = chain(6, 12)
    messages = [message(of, place // 3, partition=place % 3) for place, of in enumerate(records)]
    sink.write("e", messages)
    sink.flush()
    assert [sink.open_partition("e", LEDGERS, of) for of in range(4)] == [4, 4, 4, 0]
    of_applied = "FROM sink_progress WHERE `table` = 'sink_applied'"
    counts = _ask(sink, f"SELECT partition, sum(rows) {of_applied} GROUP BY 1 ORDER BY 1")
    assert counts == [(0, 4), (1, 4), (2, 4)]


def test_findings_and_quarantine_count_once_by_their_id(sink: ClickHouseHistory) -> None:
    alert = {
        "id": "a1", "rule": "capped", "severity": "warning", "chain": "xrpl:test", "block": 3,
        "transaction_index": -1, "subject": "r", "time": START_MS, "evidence": "{}",
    }  # fmt: skip
    item = {
        "id": "q1", "role": "books", "source_topic": LEDGERS, "source_partition": 0, "source_offset": 5,
        "epoch": "e",
        "time": START_MS, "reason": "bad_magic", "detail": "d", "key": None, "value": b"\xff\x00",
        "headers": [{"name": "n", "value": b"v"}],
    }  # fmt: skip
    for offset in range(2):
        sink.write("e", [message(alert, offset, ALERTS)])
        sink.write("e", [message(item, offset, QUARANTINE)])
    assert _ask(sink, "SELECT id, rule, severity, block FROM alerts") == [("a1", "capped", "warning", 3)]
    assert _ask(sink, "SELECT id, hex(value), headers FROM quarantine") == [
        ("q1", "FF00", [{"name": "n", "value": "v"}])
    ]


@contextmanager
def _two_schemas(path: Path) -> Iterator[tuple[ClickHouseHistory, tuple[Codec, Codec]]]:
    """A sink, and the codecs of the release before `debit_subject` and `credit_subject` came in, and of ours."""
    ours = next(schema for schema in schemas() if schema.topic_name == TRANSFERS)
    array = next(field for field in ours.raw["fields"] if field["name"] == "transfers")
    record = array["type"]["items"]
    fields = [field for field in record["fields"] if not field["name"].endswith("_subject")]
    older_items = {**array["type"], "items": {**record, "fields": fields}}
    older_fields = [
        {**field, "type": older_items} if field is array else field for field in ours.raw["fields"]
    ]
    older = make_schema({**ours.raw, "fields": older_fields})
    registry = LocalRegistry(
        [entry_of(1, older.subject, 1, older.raw), entry_of(2, ours.subject, 2, ours.raw)]
    )
    sink = ClickHouseHistory(Place(path=path), schemas(), Codec(registry, [ours]), registry)
    sink.open()
    try:
        yield sink, (Codec(registry, [older]), Codec(registry, [ours]))
    finally:
        sink.close()


def test_messages_of_an_older_schema(tmp_path: Path) -> None:
    """They have our defaults."""
    with _two_schemas(tmp_path / "ch") as (sink, (older, ours)):
        legs = _transfer(f"{0:032X}", "5"), {**_transfer(f"{1:032X}", "5"), "credit_subject": "thing"}
        del legs[0]["debit_subject"], legs[0]["credit_subject"]
        messages = [
            HistoryMessage(TRANSFERS, 0, place, 0, codec.encode(TRANSFERS, _transfers(place, [leg])))
            for place, (codec, leg) in enumerate(zip((older, ours), legs, strict=True))
        ]
        assert sink.write("e", messages).applied == 2
        assert _ask(sink, "SELECT _offset, credit_subject FROM transfers ORDER BY 1") == [
            (0, ""),
            (1, "thing"),
        ]


def test_what_comes_later_replaces_whatever_schema_it_has(tmp_path: Path) -> None:
    """Two releases write side by side: a row of the older one's message does not hide that of a later message."""
    with _two_schemas(tmp_path / "ch") as (sink, (older, ours)):
        log = [
            (ours, 0, "1"),
            (older, 1, "2"),
            (ours, 1, "3"),
            (older, 2, "4"),
            (ours, 2, "5"),
            (older, 2, "6"),
        ]
        messages = []
        for place, (codec, block, amount) in enumerate(log):
            leg = _transfer(f"{block:032X}", amount)
            if codec is older:
                del leg["debit_subject"], leg["credit_subject"]
            record = {**_transfers(block, [leg]), "chunk": place}
            messages.append(HistoryMessage(TRANSFERS, 0, place, 0, codec.encode(TRANSFERS, record)))
        assert sink.write("e", messages).applied == len(log)
        amounts = sink.query("SELECT toString(amount) AS n FROM transfers ORDER BY block")
        assert [row["n"] for row in amounts] == ["1", "3", "6"]


def test_a_wrong_query_is_one_clear_line(sink: ClickHouseHistory) -> None:
    with pytest.raises(QueryError, match="nothing_here") as raised:
        list(sink.query("SELECT *\nFROM nothing_here"))
    assert "\n" not in str(raised.value) and "version" not in str(raised.value)
    with pytest.raises(QueryError):
        list(sink.query("SELEC 1"))


@pytest.mark.parametrize(
    "statement", ["DROP TABLE alerts", "INSERT INTO alerts (id) VALUES ('x')", "TRUNCATE TABLE alerts"]
)
def test_a_query_changes_nothing(sink: ClickHouseHistory, statement: str) -> None:
    with pytest.raises(QueryError):
        list(sink.query(statement))
    assert _ask(sink, "SELECT count() FROM alerts") == [0]


def test_a_query_may_be_left_before_its_end(sink: ClickHouseHistory) -> None:
    answer = sink.query("SELECT number FROM numbers(1000000)")
    assert next(answer) == {"number": 0}
    answer.close()
    assert list(sink.query("SELECT 1 AS one WHERE 0")) == []


def test_json_values() -> None:
    sql = (
        f"SELECT toUInt256('{2**256 - 1}') AS wei, "
        "toDecimal256('-1.50', 38) AS decimal, toInt64(-1) AS n, toNullable(toUInt128(3)) AS wide, "
        "toDateTime64('2020-01-02 03:04:05.678', 3, 'UTC') AS at, toDate('2020-01-02') AS day, "
        "[1, 2] AS list, NULL AS nothing"
    )
    path = Path(":memory:")
    client = Place(path=path).connect({})
    try:
        from sinks.clickhouse_client import rows

        (row,) = rows(client, sql)
    finally:
        client.close()
    assert row == {
        "wei": str(2**256 - 1), "decimal": "-1.5", "n": -1, "wide": "3", "at": "2020-01-02T03:04:05.678000Z",
        "day": "2020-01-02", "list": [1, 2], "nothing": None,
    }  # fmt: skip
    assert json_value(Decimal("1" * 40 + "." + "2" * 38)) == "1" * 40 + "." + "2" * 38  # no context rounds it
    assert json_value({"a": (1 << 64, b"\xff")}) == {"a": [str(1 << 64), "ff"]}


def test_one_process_owns_the_directory(tmp_path: Path) -> None:
    """The owner is named; when it is killed the directory is free at once."""
    code = (
        "import sys, time; from pathlib import Path; from sinks.clickhouse_client import DirectoryLock; "
        "lock = DirectoryLock(Path(sys.argv[1]), 'history'); print('own', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "ch")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]) as owner:
        assert owner.stdout is not None
        try:
            assert owner.stdout.readline() == "own\n"
            with pytest.raises(DirectoryInUse, match=rf"ch: in use by process {owner.pid} \(history\)"):
                DirectoryLock(tmp_path / "ch", "query", wait_s=0.2)
            os.kill(owner.pid, signal.SIGKILL)
            DirectoryLock(tmp_path / "ch", "query", wait_s=40).release()
        finally:
            owner.kill()


def _transfer(transfer_id: str, amount: str) -> dict[str, Any]:
    return {
        "transfer_id": bytes.fromhex(transfer_id), "transaction_index": 0, "leg": 0, "hash": "H", "code": 100,
        "status": "posted", "reason": None, "debit_code": 101, "debit_owner": "rA", "debit_subject": "",
        "credit_code": 101, "credit_owner": "rB", "credit_subject": "", "amount": amount,
    }  # fmt: skip


def _transfers(block: int, transfers: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "asset": "xrpl:test/XRP", "book": 70000, "chain": "xrpl:test", "chain_number": 1, "run": 1,
        "block": block,
        "block_hash": "", "chunk": 0, "time": START_MS, "transfers": transfers,
    }  # fmt: skip


def test_a_folder_of_an_earlier_release_gains_the_columns_it_lacks(tmp_path: Path) -> None:
    with history(tmp_path / "ch") as sink:
        sink._client.command("ALTER TABLE xrpl_transactions DROP COLUMN memos")
    with history(tmp_path / "ch") as sink:
        sink.write("e", [message(ledger(1, [transaction(0)]), 0)])
        sink.flush()
        assert list(sink.query("SELECT memos FROM xrpl_transactions")) == [{"memos": []}]


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (
            "Code: 6. DB::Exception: Cannot parse string 'No space left on device' as UInt256. (CANNOT_PARSE_TEXT)",
            True,
        ),
        ("Code: 6. DB::Exception: Cannot parse string 'errno: 28' as UInt256. (CANNOT_PARSE_TEXT)", True),
        (
            "Code: 1001. DB::Exception: std::exception. filesystem error: in rename: Disk quota exceeded",
            False,
        ),
        ("Code: 692. DB::Exception: Too many unfinished mutations (1000). (TOO_MANY_MUTATIONS)", False),
    ],
)
def test_what_a_value_says_is_no_fault_of_the_disk(text: str, data: bool) -> None:
    fault = DatabaseError(text)
    assert (of_data(fault), is_away(fault)) == (data, not data)
