"""`tidebook proof make`: the proof file of one transaction of the history."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pipeline.app import open_reading
from pipeline.domain.proof import check
from pipeline.domain.proof_errors import Contradiction, Unprovable
from pipeline.domain.proof_form import write
from pipeline.proof_source import NoSource, Row, Wanted, differences, find_row, make_proof
from pipeline.settings import Settings
from sinks.clickhouse_client import DirectoryInUse, QueryError

_HASH: Final = re.compile(r"(0[xX])?[0-9a-fA-F]{64}")


def make_file(settings: Settings, wanted: Wanted, out: Path | None) -> int:
    """`tidebook proof make`: the file, or the proof on standard output."""
    if not _HASH.fullmatch(wanted.transaction):
        return _wrong(
            f"{wanted.transaction[:80]!r} is no transaction hash: 64 hex digits, of EVM chains with 0x", 2
        )
    is_evm = wanted.transaction[:2] in ("0x", "0X")
    name = wanted.transaction.lower() if is_evm else wanted.transaction.upper()
    if not is_evm and (wanted.log is not None or wanted.receipts is not None):
        return _wrong("--log and --receipts are for transactions of EVM chains (0x…)", 2)
    wanted = replace(wanted, transaction=name, evm_config=settings.evm_config)
    try:
        with _history(settings) as history:
            row = find_row(history, wanted)
            content = write(make_proof(history, row, wanted))
        _must_fit(row, content)
        if out is None:
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
        else:
            out.write_bytes(content)
    except (NoSource, Unprovable, Contradiction, DirectoryInUse, QueryError) as error:
        return _wrong(f"transaction {name} has no proof: {error}")
    except OSError as error:
        return _wrong(f"--out {out}: {error.strerror or error}", 2)
    _tell_made(row, content, out)
    return 0


def _must_fit(row: Row, content: bytes) -> None:
    """That the row is as it is proven. Raises Contradiction."""
    if wrong := differences(row, check(content)):
        raise Contradiction("row", f"its row in the history is not what the block holds: {'; '.join(wrong)}")


def _tell_made(row: Row, content: bytes, out: Path | None) -> None:
    where = f" in {out}" if out is not None else ""
    sys.stderr.write(
        f"tidebook: proof of {len(content):,} bytes{where}: transaction {row['hash']} in block {row['block']} of "
        f"{row['chain']}, {check(content)['block_hash']}\n"
    )
    if check(content)["hash"] is None:
        sys.stderr.write(
            "tidebook: of the receipt alone: the block's transactions have no encoding known here\n"
        )
    if row.get("finality") == "retracted":
        sys.stderr.write("tidebook: the chain has dropped this block: what it proves did not stay\n")


@contextmanager
def _history(settings: Settings) -> Iterator[Any]:
    if not settings.clickhouse_url and not settings.clickhouse_dir.exists():
        raise NoSource(f"there is no data in {settings.data_dir}: name the directory with --data-dir")
    history = open_reading(settings)
    try:
        yield history
    finally:
        history.close()


def _wrong(message: str, status: int = 1) -> int:
    sys.stderr.write(f"tidebook: {message}\n")
    return status
