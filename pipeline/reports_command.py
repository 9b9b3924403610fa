"""`tidebook gas-report | provenance | compliance-export | compliance-check | compliance-key`: reports for people,
programs and auditors. What is asked is checked before anything is opened; what is wrong is one line that names it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import orjson
from rich.console import Console
from rich.table import Column, Table

from pipeline.ingest.chains import ChainError, ChainRegister
from pipeline.read_commands import ReadError, history_of, wrong
from pipeline.reports import compliance, gas, provenance
from pipeline.reports.coins import GAS
from pipeline.reports.files import ExportError, check_export, text, write_export, write_query
from pipeline.reports.manifest import ManifestError, new_key, private_key, public_key
from pipeline.reports.question import BadQuestion, Report, one_of, period
from pipeline.settings import Settings
from pipeline.terminal import cell, show_table
from sinks.clickhouse_client import DirectoryInUse, QueryError
from sinks.raw_format import columns, exactly

Row = Mapping[str, Any]
FORMATS: Final = ("table", "json", "csv", "parquet")
_FILES: Final = {"json": "jsonl", "csv": "csv", "parquet": "parquet"}
_COINS: Final = {
    "total_gas_required": "required", "total_gas_paid_by_user": "paid_by_user",
    "total_gas_paid_by_treasury": "paid_by_treasury", "fee_burnt": "burnt",
}  # fmt: skip
"""Sum → the same in whole coins."""


@dataclass(frozen=True)
class Shown:
    """How a report is to be shown: a FORMATS, and the file it goes to (None: stdout)."""

    format: str = "table"
    out: Path | None = None
    sql: bool = False

    @classmethod
    def of(cls, format: str | None, as_json: bool, out: Path | None, show_sql: bool) -> Shown:
        """Raises BadQuestion."""
        if as_json and format not in (None, "json"):
            raise BadQuestion("--json", f"it contradicts --format {format}; give one of them")
        found = one_of(format or ("json" if as_json or out is not None else "table"), FORMATS, "--format")
        if found == "parquet" and out is None and not show_sql:
            raise BadQuestion("--out", "Parquet is for files: name one")
        if found == "table" and out is not None:
            raise BadQuestion("--format", "a table is for the screen; with --out give json, csv or parquet")
        if out is not None and out.exists() and not out.is_file():
            raise BadQuestion("--out", f"{out} is no file: name one, or leave it out for the screen")
        if out is not None and not out.parent.is_dir():
            raise BadQuestion("--out", f"{out.parent} is no directory: make it first")
        return cls(found, out, show_sql)


def gas_command(
    settings: Settings, owner: str | None, by: str, first: str | None, last: str | None, chain: str | None,
    app: str | None, asset: str | None, verified: bool, format: str | None, as_json: bool, out: Path | None,
    show_sql: bool,
) -> int:  # fmt: skip
    """`tidebook gas-report [OWNER]`."""

    def work() -> int:
        how = Shown.of(format, as_json, out, show_sql)
        asked = gas.gas_question(
            one_of(by, gas.BY, "--by"),
            period(first, last, ("--from", "--to")),
            owner,
            chain,
            app,
            asset,
            verified,
        )
        of_apps = asked.by in ("app", "asset") or app is not None or asset is not None
        if not of_apps and not (chain or "").startswith(GAS):
            asked = gas.gas_question(by, asked.period, owner, _chain(settings, chain), app, asset, verified)
        report = gas.gas_report(asked)
        if show_sql:
            books = {f"{name}, in the books": of for name, of in gas.in_books(asked).items()}
            return _show_sql(report, {**gas.recomputed(asked), **books})
        with history_of(settings) as history:
            return _tell(
                history, report, how, lambda rows: _gas_table(rows, asked.key), "no fees match the question"
            )

    return _guarded(work)


def provenance_command(
    settings: Settings, asset: str, chain: str | None, format: str | None, as_json: bool, out: Path | None,
    show_sql: bool,
) -> int:  # fmt: skip
    """`tidebook provenance ASSET`."""

    def work() -> int:
        how = Shown.of(format, as_json, out, show_sql)
        provenance.meanings(asset)
        keys = provenance.meanings(asset, *_chains(settings, chain))
        with history_of(settings) as history:
            for key in keys:
                report = provenance.provenance(key)
                rows = list(history.query(report.sql, report.parameters))
                if rows and how.sql:
                    return _show_sql(report, provenance.recomputed(key))
                if rows:
                    return _tell(history, report, how, _story, "", rows)
            report = provenance.of_positions(asset)
            if _any(history, report):
                return _show_sql(report, {}) if how.sql else _tell(history, report, how, _steps, "")
        raise ReadError(f"nothing is known of asset {' or '.join(keys)} in this data directory")

    return _guarded(work)


def export_command(
    settings: Settings, first: str, last: str, out: Path, format: str, key: Path | None, as_json: bool
) -> int:
    """`tidebook compliance-export`."""

    def work() -> int:
        asked = period(first, last, ("--from", "--to"))
        fmt = one_of(format, tuple(compliance.FORMATS), "--format")
        file = key or settings.signing_key
        signer = (
            None if file is None else _read_key(file, private_key, "--key" if key else "TIDEBOOK_SIGNING_KEY")
        )
        with history_of(settings) as history:
            manifest = write_export(history, out, asked, fmt, signer, version("tidebook"))
        if as_json:
            sys.stdout.buffer.write(
                orjson.dumps({"out": str(out), "signed": signer is not None, **manifest}) + b"\n"
            )
        else:
            show_table(
                {name: file[name] for name in ("name", "rows", "sha256")} for file in manifest["files"]
            )
        if signer is None:
            sys.stderr.write(
                "tidebook: the export is not signed: name a key with --key or TIDEBOOK_SIGNING_KEY "
                "(`tidebook compliance-key FILE` makes one)\n"
            )
        return 0

    return _guarded(work)


def check_command(folder: Path, key: Path | None, as_json: bool) -> int:
    """`tidebook compliance-check`."""

    def work() -> int:
        trusted = None if key is None else _read_key(key, public_key, "--public-key")
        if not folder.is_dir():
            raise BadQuestion("DIR", f"{folder} is no directory")
        found = check_export(folder, trusted)
        rows = {file["name"]: file["rows"] for file in found.manifest["files"]}
        if as_json:
            told = {"sound": True, "signed_by": found.signer, "trusted": trusted is not None, "rows": rows}
            sys.stdout.buffer.write(orjson.dumps(told) + b"\n")
            return 0
        print(f"{len(rows)} files, {sum(rows.values())} rows: all are as the manifest says")
        if found.signer is None:
            print("not signed: who changes a file can change the manifest too")
        elif trusted is None:
            print(
                f"signed by {found.signer}: compare that with the key you were given, or name it with --public-key"
            )
        else:
            print(f"signed by the given key, {found.signer}")
        return 0

    return _guarded(work)


def key_command(file: Path) -> int:
    """`tidebook compliance-key`."""

    def work() -> int:
        private, public = new_key()
        shown = file.with_name(f"{file.name}.pub")
        for path, content, mode in ((file, private, 0o600), (shown, public, 0o644)):
            try:
                with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
                    out.write(content)
            except FileExistsError:
                raise BadQuestion("FILE", f"{path} is there already; name another") from None
        print(
            f"private key: {file} (keep it; TIDEBOOK_SIGNING_KEY names it)\npublic key:  {shown} (give it to auditors)"
        )
        return 0

    return _guarded(work)


def _guarded(work: Callable[[], int]) -> int:
    try:
        return work()
    except BadQuestion as error:
        return wrong(str(error))
    except (ReadError, ChainError, ExportError, DirectoryInUse, QueryError, RuntimeError) as error:
        return wrong(str(error), 1)
    except BrokenPipeError:
        raise
    except OSError as error:
        return wrong(f"{error.filename or 'file'}: {error.strerror or error}", 1)


def _chain(settings: Settings, name: str | None) -> str:
    """The chain to show: that named, else the latest run. Raises ChainError, ReadError."""
    if not settings.data_dir.exists():
        raise ReadError(f"there is no data in {settings.data_dir}: run `tidebook demo` first")
    register = ChainRegister(settings.chains_dir, settings.chains_file)
    found = register.find(name)
    others = [other.name for other in register.chains if other is not found]
    if others and name is None:
        sys.stderr.write(
            f"tidebook: showing {found.name}, the latest run; --chain shows {', '.join(others)}\n"
        )
    return found.name


def _chains(settings: Settings, name: str | None) -> list[str]:
    """The chain of that name, else all, the latest run first; none where there are applications alone. Raises as
    `_chain` does."""
    if name is not None or not settings.data_dir.exists():
        return [_chain(settings, name)]
    register = ChainRegister(settings.chains_dir, settings.chains_file)
    found = (register.latest, *register.chains)
    return list(dict.fromkeys(chain.name for chain in found if chain is not None))


def _read_key(file: Path, read: Callable[[bytes], Any], name: str) -> Any:
    try:
        return read(file.read_bytes())
    except ManifestError as error:
        raise BadQuestion(name, f"{file}: {error}") from None
    except OSError as error:
        raise BadQuestion(name, f"{file}: {error.strerror or error}") from None


def _any(history: Any, report: Report) -> bool:
    return (
        next(iter(history.query(f"SELECT 1 AS there FROM ({report.sql}) LIMIT 1", report.parameters)), None)
        is not None
    )


def _show_sql(report: Report, recomputed: Mapping[str, Report]) -> int:
    print(f"-- the report\n{report.pasteable}")
    for name, of in recomputed.items():
        print(
            f"\n-- {name}, from the raw rows\n{of.pasteable}"
            if "books" not in name
            else f"\n-- {name}\n{of.pasteable}"
        )
    return 0


def _tell(
    history: Any, report: Report, how: Shown, table: Callable[[Iterable[Row]], None], empty: str,
    known: list[Row] | None = None,
) -> int:  # fmt: skip
    """The report as it is to be shown; an empty one says so. `known`: its rows, where they are read already."""
    if how.out is not None:
        write_query(history, report, _FILES[how.format], how.out)
        return _say_empty(history, report, empty)
    if how.format == "csv":
        types = columns(history, report.sql, report.parameters)
        for block in text(history, exactly(report.sql, types), report.parameters, "csv", types):
            sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()
        return _say_empty(history, report, empty)
    rows = list(history.query(report.sql, report.parameters)) if known is None else known
    if how.format == "json":
        for row in rows:
            sys.stdout.buffer.write(orjson.dumps(row, default=str, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()
    elif rows:
        table(rows)
    if not rows and empty:
        sys.stderr.write(f"tidebook: {empty}\n")
    return 0


def _say_empty(history: Any, report: Report, empty: str) -> int:
    if empty and not _any(history, report):
        sys.stderr.write(f"tidebook: {empty}\n")
    return 0


def _gas_table(rows: Iterable[Row], key: str) -> None:
    """A table per chain: smallest units with whole coins below them."""
    for chain, some in groupby(rows, lambda row: row["chain"]):
        table = Table(title=cell(chain), title_justify="left")
        table.add_column(key, overflow="fold")
        for name in ("transactions", *_COINS.values(), "coverage"):
            table.add_column(name.replace("_", " "), overflow="fold", justify="right")
        for row in some:
            sums = (_amount(row, sum, coins) for sum, coins in _COINS.items())
            table.add_row(*map(cell, (row[key], row["transactions"], *sums, row["coverage"])))
        Console().print(table)


def _story(rows: Iterable[Row]) -> None:
    """What happened, when, to whom and by which transaction; all that is known of it: --format json or csv."""
    table = Table(Column("time", no_wrap=True))
    for name in ("what", "from", "to", "block", "transaction or event"):
        table.add_column(name, overflow="fold")
    for row in rows:
        what = row["action"] if row["chain_number"] else row["type"]
        block = row["block"] if row["chain_number"] else ""
        at = str(row["time"]).replace("T", " ")[:19]
        name = row["hash"] or row["event_id"]
        table.add_row(*map(cell, (at, what, row["from_owner"], row["to_owner"], block, name)))
    Console().print(table)


def _steps(rows: Iterable[Row]) -> None:
    """What happened to positions, when, and by which transaction; all that is known of it: --format json or csv."""
    table = Table(Column("time", no_wrap=True))
    for name in ("of", "what", "state", "amount", "transaction or event"):
        table.add_column(name, overflow="fold")
    for row in rows:
        at = str(row["at"]).replace("T", " ")[:19]
        amount = row["amount"] or row["amount_released"] or ""
        said = (row["about"], row["type"], row["state"], amount, row["hash"] or row["event_id"])
        table.add_row(*map(cell, (at, *said)))
    Console().print(table)


def _amount(row: Mapping[str, Any], units: str, coins: str) -> str:
    if row[units] is None:
        return "unknown"
    return str(row[units]) if row[coins] is None else f"{row[units]}\n{row[coins]} {row['coin']}"
