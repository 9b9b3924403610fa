"""`tidebook audit`: its options and help."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli_options import AsJson, DataDir, settings_or_fail


def audit(
    topic: Annotated[
        str | None, typer.Option("--topic", help="This topic's offsets alone, e.g. xrpl.ledgers.v1.")
    ] = None,
    chain: Annotated[
        str | None, typer.Option("--chain", help="This chain's blocks, balances and books alone.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", help="Only what was committed from this time on, ISO 8601, e.g. 2026-11-21T06:00Z."
        ),
    ] = None,
    full: Annotated[
        bool,
        typer.Option("--full", help="Look up every transfer in the books by its id, not 20,000 of them."),
    ] = False,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """Is everything there, once, and as it was? Tables against topics, blocks, balances and the books.

    Offsets of every topic = rows in its tables + refused ones in quarantine · no row twice · rows as they were when
    they were first audited, but those that a later message may replace (EVM blocks that are not final) · blocks' own
    counts, fees and coins · balance before + change = balance after · roll-ups = sums of their rows · transfers and
    accounts = the books · views as this release makes them. Works on a stopped data directory, where the results are
    kept in the table `audits`, and through a running `tidebook up`, whose books role answers for the books.

    Exit status: 0 all is well · 1 something is not, and which offsets, blocks or accounts · 2 the call was wrong.
    """
    from pipeline.audit_command import run_audit

    settings = settings_or_fail(data_dir=data_dir)
    raise typer.Exit(run_audit(settings, topic or "", chain or "", since or "", full, json))
