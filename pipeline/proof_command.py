"""`tidebook proof check`: reads the file and nothing else, so nothing that could reach further is imported here."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from pipeline.domain.proof import check
from pipeline.domain.proof_errors import Contradiction, Unprovable
from pipeline.domain.proof_form import BYTES_MAX, NotAProof

_HASH: Final = re.compile(r"(0[xX])?[0-9a-fA-F]{64}")


def check_file(file: Path, block_hash: str | None, as_json: bool) -> int:
    """`tidebook proof check`: reads the file and nothing else."""
    if block_hash is not None and not _HASH.fullmatch(block_hash):
        return _wrong(f"--block-hash {block_hash[:80]!r} is no hash: 64 hex digits, with or without 0x", 2)
    try:
        with file.open("rb") as opened:
            content = opened.read(BYTES_MAX + 1)
    except OSError as error:
        return _wrong(f"{file}: {error.strerror or error}", 2)
    try:
        told = check(content, block_hash)
    except (NotAProof, Contradiction, Unprovable) as error:
        return _wrong(f"{file}: proves nothing: {error}")
    if as_json:
        sys.stdout.buffer.write(orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE))
        sys.stdout.buffer.flush()
    else:
        _show(told, block_hash is not None)
    return 0


def _show(told: Mapping[str, Any], known: bool) -> None:
    console, table = Console(), Table("proven", Column("", overflow="fold"))
    for name, value in told.items():
        if value not in (None, [], ""):
            table.add_row(name, Text(_shown(name, value)))
    console.print(table)
    if not known:
        console.print(
            f"Proven under block {told['block_hash']}. That the chain has this block is yours to know: from a node, an "
            "explorer or a checkpoint that you trust; --block-hash compares.", soft_wrap=True,
        )  # fmt: skip


def _shown(name: str, value: Any) -> str:
    if name == "time":
        return datetime.fromtimestamp(value / 1000, UTC).isoformat()
    if isinstance(value, list):
        return "\n".join(_shown("", one) for one in value)
    if isinstance(value, dict):
        return orjson.dumps({key: one for key, one in value.items() if one not in (None, [])}).decode()
    return str(value)


def _wrong(message: str, status: int = 1) -> int:
    sys.stderr.write(f"tidebook: {message}\n")
    return status
