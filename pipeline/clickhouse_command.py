"""`tidebook clickhouse plan|apply`: make ClickHouse's tables and views those that the schemas ask for."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import orjson
from clickhouse_connect.driver.exceptions import ClickHouseError
from rich.console import Console
from rich.table import Table

from pipeline.running import running
from pipeline.settings import Settings
from pipeline.terminal import cell
from schemas.loader import schemas
from sinks.clickhouse_client import WRITE_SETTINGS, DirectoryInUse, Place, one_line
from sinks.clickhouse_plan import Change, MigrationRefused, Note, Refusal, Step, pending, plan
from sinks.clickhouse_state import apply_changes, fixed_tables, steps, wanted_tables
from sinks.ddl_shape import DdlFault
from sinks.views import views

_WORDS = {Change: "change", Refusal: "refuse", Note: "keep"}
_LOCK_WAIT_S = 1.0


def plan_clickhouse(settings: Settings, as_json: bool) -> int:
    """`tidebook clickhouse plan`: what `apply` would do; 1 where something is refused, 2 where no place is.
    Changes nothing."""
    if not settings.clickhouse_url and not settings.data_dir.is_dir():
        where = f"there is no data directory {settings.data_dir}"
        sys.stderr.write(f"tidebook: {where}: name it with --data-dir, or set TIDEBOOK_CLICKHOUSE_URL\n")
        return 2
    try:
        if not settings.clickhouse_url and not settings.clickhouse_dir.exists():
            found = plan(wanted_tables(schemas()), fixed_tables(), views(), {})
        else:
            with _client(settings, reading=True) as client:
                found = steps(client, schemas())
    except (ClickHouseError, DirectoryInUse, DdlFault) as error:
        return _wrong(settings, error)
    _print(found, as_json)
    return int(any(isinstance(step, Refusal) for step in found))


def apply_clickhouse(settings: Settings, as_json: bool) -> int:
    """`tidebook clickhouse apply`: do what `plan` shows; all of it may be done, or nothing is."""
    try:
        with _client(settings, reading=False) as client:
            found = steps(client, schemas())
            apply_changes(client, pending(found))
    except MigrationRefused as refused:
        _print(refused.refusals, as_json)
        sys.stderr.write("tidebook: nothing was applied\n")
        return 1
    except (ClickHouseError, DirectoryInUse, DdlFault) as error:
        return _wrong(settings, error)
    _print(found, as_json)
    return 0


@contextmanager
def _client(settings: Settings, reading: bool) -> Iterator[Any]:
    """A client of the place; to read it, where `tidebook up` has the directory, of up's. Raises DirectoryInUse."""
    if settings.clickhouse_url:
        with closing(Place(url=settings.clickhouse_url).connect(WRITE_SETTINGS)) as client:
            yield client
        return
    told = running(settings.data_dir) if reading else None
    if told is not None and told.get("clickhouse_url"):
        with closing(Place(url=str(told["clickhouse_url"])).connect({})) as client:
            yield client
        return
    place = Place(path=settings.clickhouse_dir)
    lock = place.lock("clickhouse", _LOCK_WAIT_S)
    try:
        with closing(place.connect(WRITE_SETTINGS)) as client:
            yield client
    finally:
        if lock is not None:
            lock.release()


def _print(found: Sequence[Step], as_json: bool) -> None:
    if as_json:
        for step in found:
            row: dict[str, Any] = {"action": _WORDS[type(step)], "table": step.table, "what": step.what}
            if isinstance(step, Change):
                row["statements"] = step.statements
            sys.stdout.buffer.write(orjson.dumps(row) + b"\n")
        sys.stdout.buffer.flush()
        return
    if not found:
        print("nothing to do: all tables and views are as the schemas ask for")
        return
    table = Table("action", "table or view", "what", title_justify="left")
    for step in found:
        table.add_row(*map(cell, (_WORDS[type(step)], step.table, step.what)))
    Console().print(table)


def _wrong(settings: Settings, error: Exception) -> int:
    if isinstance(error, ClickHouseError):
        where = "setting TIDEBOOK_CLICKHOUSE_URL" if settings.clickhouse_url else str(settings.clickhouse_dir)
        text = f"{where}: {one_line(error)}"
    elif isinstance(error, DirectoryInUse):
        text = f"{error}: stop it first; `tidebook up` makes what only adds by itself at its next start"
    else:
        text = str(error)
    sys.stderr.write(f"tidebook: {text}\n")
    return 1
