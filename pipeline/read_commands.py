"""`tidebook export | query | balances`: reading what a run has left. Reports: `pipeline.reports_command`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson

from pipeline.app import open_books, open_reading
from pipeline.domain.decode.xrpl_address import decode_account
from pipeline.ingest.chains import Chain, ChainError, ChainRegister
from pipeline.report import book_balances
from pipeline.settings import Settings
from pipeline.terminal import show_table
from sinks import exports
from sinks.clickhouse_client import DirectoryInUse, QueryError

EXPORTS = ("balances", "nfts", "mpts", "escrows", "channels", "assets")


EVM_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")


class ReadError(ValueError):
    """The question can't be answered; one line says why and what to do."""


def export_rows(settings: Settings, what: str, at: int | None, chain: str | None, as_json: bool) -> int:
    """`tidebook export`."""
    if what not in EXPORTS:
        return wrong(f"no export {what!r}; there are {', '.join(EXPORTS)}")

    def rows(found: Chain) -> Iterator[Mapping[str, Any]]:
        with history_of(settings) as history:
            place = _place(history, found, at)
            if what == "balances":
                yield from _balances(settings, history, found, place)
            else:
                yield from _ask(history, exports.export(what, found.number, place))

    return _answer(settings, chain, rows, as_json)


def owner_balances(settings: Settings, owner: str, at: int | None, chain: str | None, as_json: bool) -> int:
    """`tidebook balances OWNER`."""
    if EVM_ADDRESS.fullmatch(owner):
        owner = owner.lower()
    else:
        try:
            decode_account(owner)
        except ValueError as error:
            return wrong(
                f"{owner!r} is neither an XRPL address ({error}) nor an EVM one (0x and 40 hex digits)"
            )

    def rows(found: Chain) -> Iterator[Mapping[str, Any]]:
        with history_of(settings) as history:
            place = _place(history, found, at)
            yield from (row for row in _balances(settings, history, found, place) if row["account"] == owner)

    return _answer(settings, chain, rows, as_json)


def query_rows(settings: Settings, sql: str, as_json: bool) -> int:
    """`tidebook query SQL`."""
    return _print(lambda: _queried(settings, sql), as_json)


def _ask(history: Any, question: exports.Export) -> Iterator[Mapping[str, Any]]:
    return question.shape(history.query(question.sql, question.parameters))


def _queried(settings: Settings, sql: str) -> Iterator[Mapping[str, Any]]:
    with history_of(settings) as history:
        yield from history.query(sql)


@contextmanager
def history_of(settings: Settings) -> Iterator[Any]:
    """The history to be read. Raises ReadError where there is none."""
    if not settings.clickhouse_url and not settings.clickhouse_dir.exists():
        raise ReadError(
            f"there is no data in {settings.data_dir}: run `tidebook demo` first, or name the directory with --data-dir"
        )
    history = open_reading(settings)
    try:
        yield history
    finally:
        history.close()


def _place(history: Any, chain: Chain, at: int | None) -> int | None:
    """The ledger to show, checked: it must lie within what is kept."""
    if at is None:
        return None
    table, number = ("evm_blocks", "block_number") if is_evm(chain) else ("xrpl_ledgers", "ledger_index")
    kept = " AND finality != 'retracted'" if is_evm(chain) else ""
    ends = next(history.query(
        f"SELECT count() AS n, min({number}) AS first, max({number}) AS last"
        f" FROM {table} WHERE chain_number = {chain.number}{kept}"
    ))  # fmt: skip
    if not ends["n"] or not ends["first"] <= at <= ends["last"]:
        raise ReadError(
            f"--at {at} lies outside the {'blocks' if is_evm(chain) else 'ledgers'} kept of {chain.name}: "
            f"{ends['first']}-{ends['last']}"
        )
    return at


def is_evm(chain: Chain) -> bool:
    """Is it an EVM chain?"""
    return chain.name.startswith("eip155:")


def _balances(settings: Settings, history: Any, chain: Chain, at: int | None) -> Iterator[Mapping[str, Any]]:
    """Now: what TigerBeetle has. At an earlier ledger: the sum of the transfers up to it."""
    if at is not None:
        return _ask(history, exports.export("balances", chain.number, at))
    books = open_books(settings)
    try:
        return iter(list(exports.balances_of(book_balances(books, history, chain.number))))
    finally:
        books.close()


def _answer(settings: Settings, chain: str | None, rows: Any, as_json: bool) -> int:
    try:
        register = (
            ChainRegister(settings.chains_dir, settings.chains_file) if settings.data_dir.exists() else None
        )
        if register is None:
            raise ReadError(f"there is no data in {settings.data_dir}: run `tidebook demo` first")
        found = register.find(chain)
    except (ChainError, ReadError) as error:
        return wrong(str(error), 1)
    if len(register.chains) > 1 and chain is None:
        others = ", ".join(other.name for other in register.chains if other is not found)
        sys.stderr.write(f"tidebook: showing {found.name}, the latest run; --chain shows {others}\n")
    return _print(lambda: rows(found), as_json)


def _print(rows: Any, as_json: bool) -> int:
    try:
        if as_json:
            for row in rows():
                sys.stdout.buffer.write(orjson.dumps(row, default=str, option=orjson.OPT_APPEND_NEWLINE))
            sys.stdout.buffer.flush()
        else:
            show_table(rows())
    except (ReadError, DirectoryInUse, QueryError, RuntimeError) as error:
        return wrong(str(error), 1)
    return 0


def wrong(message: str, status: int = 2) -> int:
    """One line on stderr; the exit status."""
    sys.stderr.write(f"tidebook: {message}\n")
    return status
