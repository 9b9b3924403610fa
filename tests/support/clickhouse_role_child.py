"""A process that does a role's work in chDB with exactly the rights of that role, and tells what it was refused.

python -m tests.support.clickhouse_role_child ROLE [CONFIG], in a directory where chDB's folder `ch` may stand: the last
line is a JSON object. The rights come with the engine's configuration, so each role needs a process of its own.
"""

import json
import sys
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.exceptions import ClickHouseError

from sinks.clickhouse_client import Place, fault_code
from sinks.views import views
from tests.support.history import LEDGERS, chain, history, message


def sink(place: Path) -> dict[str, Any]:
    """The history role's life: open, write, flush; a batch cut off, undone and written again; a view made anew."""
    batch = [message(record, offset) for offset, record in enumerate(chain(1, 6))]
    with history(place) as opened:
        opened.write("e", batch[:3])
        opened.flush()
        opened.write("e", batch[3:])
        start = opened.open_partition("e", LEDGERS, 0)
        opened.write("e", batch[start:])
        opened.flush()
        (row,) = opened.query("SELECT count() AS n FROM xrpl_ledgers")
    tried = [
        "DROP TABLE xrpl_ledgers", "TRUNCATE TABLE xrpl_ledgers", "CREATE USER x", "CREATE DATABASE x",
        "RENAME TABLE xrpl_ledgers TO y", "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a Int8')",
    ]  # fmt: skip
    changes = [
        "MODIFY COMMENT 'x'", "COMMENT COLUMN run 'x'", "ADD COLUMN IF NOT EXISTS more Int8",
        "MODIFY COLUMN run CODEC(ZSTD)", "ADD INDEX more_index more TYPE minmax", "MATERIALIZE INDEX more_index",
        "MODIFY SETTING merge_with_ttl_timeout = 10000",
    ]  # fmt: skip
    allowed = [
        views()[0].sql, *(f"ALTER TABLE xrpl_ledgers {change}" for change in changes),
        "KILL QUERY WHERE query_id = 'none' SYNC", "SELECT count() FROM system.processes",
    ]  # fmt: skip
    codes = refusals(place, tried)["codes"], refusals(place, allowed)["codes"]
    return {"start": start, "rows": row["n"], "tried": codes[0], "allowed": codes[1]}


def analyst(place: Path) -> dict[str, Any]:
    """Reads every table and view that is there; may not write, nor loosen a limit."""
    client = Place(path=place).connect({})
    names = [
        row[0]
        for row in client.query(
            "SELECT name FROM system.tables WHERE database = currentDatabase() AND engine != 'View'"
        ).result_rows
    ]
    read, denied = [], []
    for name in [*names, *(view.name for view in views() if not view.parameters)]:
        try:
            client.query(f"SELECT * FROM {name} LIMIT 1")
            read.append(name)
        except ClickHouseError as fault:
            denied.append((name, fault_code(fault)))
    (limits,) = client.query("SELECT getSetting('readonly'), getSetting('max_execution_time')").result_rows
    client.close()
    tried = [
        "INSERT INTO xrpl_ledgers (ledger_index) VALUES (1)", "CREATE TABLE x (a Int8) ENGINE = Memory",
        "ALTER TABLE xrpl_ledgers DELETE WHERE 1", "DROP VIEW gas_report", "SET readonly = 0",
        "SET max_execution_time = 0", "SET max_result_rows = 1000000000", "SET result_overflow_mode = 'break'",
        "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a Int8')", "CREATE USER x", "SELECT * FROM sink_applied",
    ]  # fmt: skip
    allowed = ["SET max_execution_time = 5", "SET final = 0", "SELECT 1"]
    found = refusals(place, [*tried, *allowed])
    return {"read": read, "denied": denied, "limits": list(limits)} | found


def refusals(place: Path, statements: list[str]) -> dict[str, Any]:
    """Statement → ClickHouse's error code, 0 where it was taken."""
    codes = {}
    client = Place(path=place).connect({})
    for statement in statements:
        try:
            client.command(statement)
            codes[statement] = 0
        except ClickHouseError as fault:
            codes[statement] = fault_code(fault)
    client.close()
    return {"codes": codes}


def parser(place: Path) -> dict[str, Any]:
    """Of the statements on standard input: which are none for ClickHouse, and what running them says."""
    asked = json.load(sys.stdin)
    client = Place(path=place).connect({"max_query_size": 64 << 20})
    found = [
        client.query("SELECT formatQuerySingleLineOrNull({sql:String})", {"sql": sql}).result_rows[0][0]
        for sql in asked["parse"]
    ]
    client.close()
    return {"unread": [sql for sql, told in zip(asked["parse"], found, strict=True) if not told]} | refusals(
        place, asked["run"]
    )


if __name__ == "__main__":
    work = {"sink": sink, "analyst": analyst, "parser": parser}[sys.argv[1]]
    print(json.dumps(work(Path(f"ch?config-file={sys.argv[2]}" if len(sys.argv) > 2 else "other"))))
