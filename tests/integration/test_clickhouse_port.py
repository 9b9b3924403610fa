"""ClickHouse's HTTP interface over chDB: its own client, plain HTTP, limits, refusals, and inserts meanwhile."""

import asyncio
import http.client
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import clickhouse_connect
import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError, StreamFailureError

from pipeline.agents import clickhouse_port
from pipeline.agents.clickhouse_port import ClickHousePort, PortTaken
from pipeline.agents.clickhouse_port_engine import QUERIES_MAX
from pipeline.agents.clickhouse_port_hello import hello as hello_block
from pipeline.agents.clickhouse_port_query import LIMITS, BadQuery, guard, lift_settings, read_query
from sinks.clickhouse import ClickHouseHistory
from sinks.clickhouse_client import READ_SETTINGS, Place, QueryError, Reading
from tests.support.history import chain, history, message

pytestmark = pytest.mark.xdist_group("clickhouse-port")  # one fixture for them all

LEDGERS = 40
NASTY = [
    "",
    "it's",
    "a\\b",
    "tab\tline\n",
    "ü\u2028\U0001f600",
    "') OR 1=1 --",
    "\\N",
    "\0zero",
    "{x:String}",
]


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseHistory]:
    with history(tmp_path_factory.mktemp("port") / "ch") as opened:
        opened.write("e", [message(record, place) for place, record in enumerate(chain(1, LEDGERS))])
        opened.flush()
        yield opened


@pytest.fixture(scope="module")
def port(sink: ClickHouseHistory) -> Iterator[ClickHousePort]:
    assert sink._place.path is not None
    served = ClickHousePort(sink._place.path, 0)
    served.start()
    yield served
    served.stop()


def connect(port: ClickHousePort, **settings: object) -> clickhouse_connect.driver.Client:
    return clickhouse_connect.get_client(dsn=f"{port.url}/default", settings=settings)


def get(port: ClickHousePort, sql: str, headers: dict[str, str] | None = None, **arguments: str) -> bytes:
    """A plain GET. Raises HTTPError."""
    asked = urllib.request.Request(
        f"{port.url}/?{urlencode({'query': sql, **arguments})}", headers=headers or {}
    )
    with urllib.request.urlopen(asked, timeout=120) as answer:
        return answer.read()


def test_own_client_with_parameters_and_types(port: ClickHousePort) -> None:
    with connect(port) as client:
        row = client.query(
            "SELECT {s:String}, {n:Int64}, {l:Array(String)}, toDecimal128('1.5', 3), NULL, toUInt256(7)",
            parameters={"s": NASTY[3], "n": -5, "l": NASTY},
        ).result_rows[0]
        assert (row[0], row[1], row[2], str(row[3]), row[4], row[5]) == (
            NASTY[3],
            -5,
            NASTY,
            "1.500",
            None,
            7,
        )
        assert client.query("SELECT count() FROM xrpl_ledgers").result_rows == [(LEDGERS,)]
        assert client.command("SELECT count() FROM xrpl_ledgers") == LEDGERS
        assert "ledger_index" in client.query("SELECT * FROM xrpl_ledgers LIMIT 0").column_names
        assert client.query("SELECT 1 WHERE 0").result_rows == []


def test_commands_read_through_it_as_from_the_folder_itself(port: ClickHousePort) -> None:
    """`tidebook query` on a directory that `tidebook up` has in use: also what the engine can't stream."""
    reading = Reading(port.url, READ_SETTINGS)
    assert list(reading.query("SELECT count() AS n, toUInt256(5) AS big FROM xrpl_ledgers")) == [
        {"n": LEDGERS, "big": "5"}
    ]
    tables = {row["name"] for row in reading.query("SHOW TABLES")}
    assert {"xrpl_ledgers", "event_outcomes", "event_status"} <= tables
    assert next(reading.query("EXPLAIN SELECT 1"))
    with pytest.raises(QueryError, match="nope"):
        list(reading.query("SELECT * FROM nope"))


@pytest.mark.parametrize("text", NASTY)
def test_every_text_comes_back_as_it_is(port: ClickHousePort, text: str) -> None:
    with connect(port) as client:
        assert client.query("SELECT {s:String}", parameters={"s": text}).result_rows == [(text,)]


def test_the_history_s_own_settings_are_taken(port: ClickHousePort) -> None:
    """As `tidebook query` connects to a server."""
    place = Place(url=f"{port.url}/default")
    with place.connect({"final": 1, "readonly": 2}) as client:
        assert client.query("SELECT getSetting('final')").result_rows == [(True,)]
        assert client.query("SELECT getSetting('final') SETTINGS final = 0").result_rows == [(False,)]


def test_a_large_result_is_streamed(port: ClickHousePort) -> None:
    count = 0
    with (
        connect(port) as client,
        client.query_row_block_stream("SELECT number, toString(number) FROM numbers(2000000)") as stream,
    ):
        for block in stream:
            count += len(block)
    assert count == 2_000_000


def test_a_fault_in_the_middle_is_told(port: ClickHousePort) -> None:
    sql = "SELECT throwIf(number = 900000, 'too far') FROM numbers(2000000)"
    with (
        connect(port) as client,
        pytest.raises(StreamFailureError, match="too far"),
        client.query_row_block_stream(sql) as stream,
    ):
        for _ in stream:
            pass


def test_a_reader_who_goes_frees_its_place(port: ClickHousePort) -> None:
    for _ in range(12):  # more than queries at a time
        asked = http.client.HTTPConnection(port.url.removeprefix("http://"), timeout=120)
        endless = "SELECT number, repeat('x', 1000) FROM numbers(100000000)"
        sql = f"{endless} SETTINGS max_block_size = 2000 FORMAT JSONEachRow"
        asked.request("POST", "/", body=sql)
        assert asked.getresponse().read(1000)
        asked.close()
    assert get(port, "SELECT 1") == b"1\n"


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELECT nope", 47),
        ("SELECT * FROM no_such_table", 60),
        ("SELEC 1", 497),
        ("SELECT 1 +", 62),
        ("DROP TABLE xrpl_ledgers", 497),
        ("INSERT INTO xrpl_ledgers (ledger_index) VALUES (1)", 497),
        ("/* SELECT */ SYSTEM SHUTDOWN", 497),
        ("SET readonly = 0", 497),
        ("SELECT 1 SETTINGS no_such_setting = 1", 115),
        ("SELECT * FROM url('http://127.0.0.1:1/', 'CSV')", 164),
        ("SELECT * FROM remote('127.0.0.1', 'system.one')", 164),
        ("SELECT file('/etc/passwd')", 497),
        ("SELECT * FROM file('/etc/passwd', 'LineAsString')", 497),
        ("SELECT `\\x66ile`('/etc/passwd')", 497),
        ("SELECT 1 INTO OUTFILE '/tmp/never'", 497),
        ("SELECT 1; KILL QUERY WHERE 1", 497),
        ("EXISTS TABLE a; SYSTEM STOP MERGES", 497),
        ("SHOW TABLES LIKE 'a\\'' /* ' */; SYSTEM STOP MERGES -- '", 497),
        ("SELECT 1; SYSTEM STOP MERGES FORMAT JSON", 497),
        ("DESCRIBE url('http://127.0.0.1:1/')", 497),
        ("SELECT * FROM '/etc/passwd'", 164),
        ("", 62),
        ("-- nothing", 497),
    ],
)
def test_what_is_refused_has_clickhouse_s_code(port: ClickHousePort, sql: str, code: int) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(port, sql)
    assert refused.value.headers["X-ClickHouse-Exception-Code"] == str(code)
    body = refused.value.read().decode()
    assert body.startswith(f"Code: {code}. DB::Exception: ") and body.endswith(")\n")
    assert refused.value.code in (400, 403, 404)


def test_the_client_s_own_error_has_the_code(port: ClickHousePort) -> None:
    with connect(port) as client, pytest.raises(ClickHouseError, match="Unknown expression") as told:
        client.query("SELECT nope")
    assert told.value.code == 47


def test_limits_hold_whatever_is_asked(port: ClickHousePort) -> None:
    endless = "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1"
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(port, endless, max_execution_time="1")
    assert refused.value.headers["X-ClickHouse-Exception-Code"] == "159"
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(port, "SELECT groupArray(number) FROM numbers(1000000000) SETTINGS max_memory_usage = 100000000")
    assert refused.value.headers["X-ClickHouse-Exception-Code"] == "241"
    asked = read_query([("query", "SELECT 1 SETTINGS max_execution_time = 9999, final = 0")], "", {})
    assert asked.settings["max_execution_time"] == str(LIMITS["max_execution_time"])
    assert asked.settings["final"] == "0" and asked.sql.strip() == "SELECT 1" and asked.readonly == 1
    assert read_query([("query", "SELECT 1"), ("max_memory_usage", "0")], "", {}).settings[
        "max_memory_usage"
    ] == str(LIMITS["max_memory_usage"])


def test_plain_http(port: ClickHousePort) -> None:
    assert get(port, "SELECT 1 AS a FORMAT JSONEachRow") == b'{"a":1}\n'
    assert get(port, "SELECT 1 AS a", default_format="JSONCompact").count(b'"data"') == 1
    assert get(port, "SELECT name FROM tables WHERE name = 'one'", database="system") == b"one\n"
    assert get(port, "SELECT {a:String}", param_a="x", session_id="s", query_id="q/1") == b"x\n"
    with urllib.request.urlopen(f"{port.url}/ping", timeout=120) as answer:
        assert answer.read() == b"Ok.\n"
    posted = urllib.request.Request(f"{port.url}/?query=SELECT+1%2B", data=b"1")
    with urllib.request.urlopen(posted, timeout=120) as answer:
        assert answer.read() == b"2\n" and answer.headers["X-ClickHouse-Format"] == "TabSeparated"


def test_clickhouse_go_s_first_question_is_answered_in_its_own_revision(port: ClickHousePort) -> None:
    """What Grafana's client sends, and what it goes by: the block's head, a mark per column, and revision 0."""
    hello = "SELECT displayName(), version(), revision(), timezone()"
    told = get(port, hello, default_format="Native", client_protocol_version="54460")
    assert told.startswith(
        b"\x01\x00\x02\xff\xff\xff\xff\x00\x04\x01\x0ddisplayName()\x06String\x00\x08tidebook\x09version()"
    )
    assert b"\x0arevision()\x06UInt32\x00\x00\x00\x00\x00\x0atimezone()\x06String\x00" in told
    old = get(port, hello, default_format="Native", client_protocol_version="54453")
    assert len(old) == len(told) - 4 and old.startswith(told[:10])
    plain = get(port, "SELECT 1 AS a", default_format="Native", client_protocol_version="54460")
    assert plain == b"\x01\x01\x01a\x05UInt8\x01"  # all else in revision 0, as was told
    assert get(port, hello, client_protocol_version="54460").split(b"\t")[1] in told
    assert len(hello_block(["n" * 200, "v", 7, "UTC"], 1)) == len(hello_block(["", "v", 7, "UTC"], 1)) + 201


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"compress": "1"}, "36"),
        ({"client_protocol_version": "new"}, "36"),
        ({"decompress": "1"}, "36"),
    ],
)
def test_what_the_port_does_not_speak_is_said(
    port: ClickHousePort, arguments: dict[str, str], code: str
) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(port, "SELECT 1", **arguments)
    assert refused.value.headers["X-ClickHouse-Exception-Code"] == code
    assert next(iter(arguments)) in refused.value.read().decode()


def test_the_client_s_other_ways(port: ClickHousePort) -> None:
    """Compression (there is none on the loopback), columns, raw formats, settings, sessions; inserts are refused."""
    options: list[dict[str, Any]] = [
        {"compress": "zstd"},
        {"compress": "gzip"},
        {"session_id": "s"},
        {"query_limit": 3},
    ]
    number = int(port.url.rpartition(":")[2])
    for option in options:
        with clickhouse_connect.get_client(host="127.0.0.1", port=number, **option) as client:
            assert client.query("SELECT number FROM numbers(9)").row_count == option.get("query_limit", 9)
    with connect(port) as client:
        assert client.query("SELECT number FROM numbers(3)", column_oriented=True).result_set == [[0, 1, 2]]
        assert client.raw_query("SELECT 1 AS a, 'x' AS b", fmt="CSVWithNames") == b'"a","b"\n1,"x"\n'
        assert client.raw_query("SELECT 1 AS a", fmt="Parquet")[:4] == b"PAR1"
        assert client.raw_query("SELECT 1 AS a", fmt="ArrowStream")[:4] == b"\xff\xff\xff\xff"
        assert client.query("SELECT getSetting('max_threads')", settings={"max_threads": 1}).result_rows == [
            (1,)
        ]
        for row in ([["c\xff"]], [[b"\xff\xfe"]]):
            with pytest.raises(ClickHouseError, match=r"497|answers SELECT"):
                client.insert("quarantine", row, column_names=["value"])
        with pytest.raises(ClickHouseError, match="answers SELECT"):
            client.command("CREATE TEMPORARY TABLE x (a Int8)")


def test_the_asynchronous_client(port: ClickHousePort) -> None:
    async def asked() -> list[int]:
        async with await clickhouse_connect.get_async_client(dsn=f"{port.url}/default") as client:
            found = await asyncio.gather(*(client.query(f"SELECT {number}") for number in range(20)))
        return [one.result_rows[0][0] for one in found]

    assert asyncio.run(asked()) == list(range(20))


def test_who_takes_nothing_is_left(
    port: ClickHousePort, sink: ClickHouseHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers that fill every place and then read nothing: others are answered all the same."""
    monkeypatch.setattr(clickhouse_port, "STALL_S", 0.3)
    stuck = [
        http.client.HTTPConnection(port.url.removeprefix("http://"), timeout=120) for _ in range(QUERIES_MAX)
    ]
    for one in stuck:
        one.request(
            "POST",
            "/",
            body="SELECT repeat('x', 1000) FROM numbers(100000000) SETTINGS max_block_size = 2000 FORMAT JSONEachRow",
        )
    assert get(port, "SELECT 1") == b"1\n"
    while list(sink.query("SELECT 1 FROM system.processes WHERE startsWith(query, 'SELECT repeat(')")):
        time.sleep(0.02)
    for one in stuck:
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):  # and they see that there was more
            one.getresponse().read()
        one.close()


def test_pages_of_a_browser_stay_out(port: ClickHousePort) -> None:
    for headers in ({"Origin": "https://evil.example"}, {"Host": "evil.example"}):
        with pytest.raises(urllib.error.HTTPError) as refused:
            get(port, "SELECT 1", headers)
        assert refused.value.code == 403


def test_many_ask_while_rows_come_in(port: ClickHousePort, sink: ClickHouseHistory) -> None:
    """Inserts go on beside 24 readers on 8 handles; what one has seen stays."""
    batch, faults = 20, list[BaseException]()

    def read() -> None:
        try:
            with connect(port) as client:
                seen = 0
                for _ in range(8):
                    found = client.query(
                        "SELECT count() FROM xrpl_ledgers WHERE chain_number = 9"
                    ).result_rows
                    assert seen <= found[0][0] <= 5 * batch
                    seen = found[0][0]
        except BaseException as fault:
            faults.append(fault)

    readers = [threading.Thread(target=read) for _ in range(24)]
    for reader in readers:
        reader.start()
    records = [{**record, "chain_number": 9} for record in chain(3, 5 * batch, months=1)]
    for start in range(0, len(records), batch):
        some = records[start : start + batch]
        sink.write("f", [message(record, start + place) for place, record in enumerate(some)])
        sink.flush()
    for reader in readers:
        reader.join()
    assert not faults
    with connect(port) as client:
        assert client.command("SELECT count() FROM xrpl_ledgers WHERE chain_number = 9") == len(records)


def test_stopping_ends_what_runs(sink: ClickHouseHistory) -> None:
    assert sink._place.path is not None
    served = ClickHousePort(sink._place.path, 0)
    served.start()
    answers: list[object] = []

    def endless() -> None:
        try:
            answers.append(
                get(served, "SELECT count() FROM numbers(1000000000000) WHERE sipHash64(number) = 1")
            )
        except (urllib.error.HTTPError, OSError) as ended:
            answers.append(ended)

    asking = threading.Thread(target=endless)
    asking.start()
    running = (
        "SELECT 1 FROM system.processes WHERE startsWith(query, 'SELECT count() FROM numbers(1000000000000)')"
    )
    while not list(sink.query(running)):
        time.sleep(0.02)
    served.stop()
    asking.join(timeout=120)
    assert not asking.is_alive() and isinstance(answers[0], Exception)
    with pytest.raises(OSError):
        get(served, "SELECT 1")
    assert list(sink.query("SELECT 1 AS a")) == [{"a": 1}] and not list(sink.query(running))


def test_a_port_that_is_taken_is_named(port: ClickHousePort, sink: ClickHouseHistory) -> None:
    assert sink._place.path is not None
    with pytest.raises(PortTaken, match="TIDEBOOK_CLICKHOUSE_PORT"):
        ClickHousePort(sink._place.path, int(port.url.rpartition(":")[2])).start()
    with pytest.raises(QueryError):
        list(sink.query("SELECT nope"))


def test_a_query_keeps_the_mark_by_which_it_is_ended() -> None:
    asked = read_query([("query", "SELECT 1 SETTINGS log_comment = 'a'"), ("log_comment", "b")], "", {})
    assert "log_comment" not in asked.settings and "SETTINGS" not in asked.sql
    asked = read_query([("query", "SELECT 1"), ("max_execution_time", "0.5")], "", {})
    assert asked.settings["max_execution_time"] == "1"


def test_a_semicolon_is_a_text_or_nothing() -> None:
    for sql in ("SELECT 'a;b', 'it''s; \\'', {x:String}", "SELECT 1"):
        guard(sql)
    for before in ('SELECT "a\'"', "SELECT $$'$$", "SHOW TABLES -- '\n", "SHOW /*'*/ TABLES", "SELECT ‘'’"):
        for after in ("--'", ""):
            with pytest.raises(BadQuery):
                guard(f"{before}; SYSTEM STOP MERGES {after}")


def test_the_guard_and_settings_alone() -> None:
    for sql in (
        "SELECT 1",
        " ( SELECT 1 )",
        "-- a\n/* b */ WITH 1 AS a SELECT a",
        "DESCRIBE TABLE t",
        "EXPLAIN SELECT 1",
    ):
        guard(sql)
    for sql in ("EXPLAIN TABLE OVERRIDE x", "desc (select 1)", "SELECT\0 1", "ALTER TABLE t DELETE WHERE 1"):
        with pytest.raises(BadQuery):
            guard(sql)
    assert lift_settings("SELECT 1 SETTINGS a = 1, b = 'x\\'y' FORMAT JSON") == (
        "SELECT 1  FORMAT JSON",
        {"a": "1", "b": "x'y"},
    )
    assert lift_settings("SELECT settings FROM t WHERE settings = 1") == (
        "SELECT settings FROM t WHERE settings = 1",
        {},
    )
    assert lift_settings("SELECT 1 SETTINGS readonly = 0")[1] == {}
