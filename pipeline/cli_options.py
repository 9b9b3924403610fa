"""Options and helpers that the command-line modules share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from pipeline.settings import Settings, SettingsError, read_settings

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", help="Where everything is kept (env TIDEBOOK_DATA_DIR, default ./tidebook-data)."
    ),
]
ChainName = Annotated[
    str | None,
    typer.Option(
        "--chain", help="Chain to show, where the directory holds several; default: the latest run."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON lines for programs.")]
At = Annotated[
    int | None, typer.Option("--at", help="As of this ledger index or block; default: the latest.")
]


AcceptGap = Annotated[
    bool,
    typer.Option("--accept-gap", help="Go past ledgers that nobody has: a new run begins; exit status 3."),
]
Verify = Annotated[
    str | None,
    typer.Option(
        "--verify",
        help="header: hash chain, header hashes, coins. full: also the root of each ledger's transactions. "
        "Default: full for nodes (env TIDEBOOK_XRPL_VERIFY), header for files.",
    ),
]


def fail(message: str, status: int = 1) -> NoReturn:
    """One clear line on stderr, then end."""
    sys.stderr.write(f"tidebook: {message}\n")
    raise typer.Exit(status)


def settings_or_fail(**overrides: Any) -> Settings:
    try:
        return read_settings(**overrides)
    except SettingsError as error:
        fail(str(error), 2)
