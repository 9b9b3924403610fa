"""Commands of the reports: `tidebook gas-report | provenance | compliance-export | …-check | …-key`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli_options import AsJson, ChainName, DataDir, settings_or_fail

Format = Annotated[
    str | None, typer.Option("--format", help="table (default), json (lines), csv or parquet.")
]
Out = Annotated[
    Path | None, typer.Option("--out", help="Write to this file; it is there only when it is whole.")
]
ShowSql = Annotated[
    bool,
    typer.Option(
        "--show-sql", help="Print the report's SQL, and SQL that recomputes its numbers from raw rows."
    ),
]
First = Annotated[
    str | None, typer.Option("--from", help="First day (UTC), 2026-01-31; default: the beginning.")
]
Last = Annotated[str | None, typer.Option("--to", help="Last day (UTC), included; default: the end.")]


def gas_report(
    owner: Annotated[
        str | None, typer.Argument(help="An address or user id; default: all, highest first.")
    ] = None,
    by: Annotated[str, typer.Option("--by", help="A row per user, app, asset, day or month.")] = "user",
    first: First = None,
    last: Last = None,
    data_dir: DataDir = None,
    chain: Annotated[
        str | None,
        typer.Option(
            "--chain",
            help="Chain to show, or offchain/gas:<currency> for managed custody; default: the latest run.",
        ),
    ] = None,
    app: Annotated[
        str | None, typer.Option("--app", help="Gas in managed custody of this application.")
    ] = None,
    asset: Annotated[str | None, typer.Option("--asset", help="… of this asset.")] = None,
    verified: Annotated[
        bool, typer.Option("--verified", help="Only verified blocks: those up to the chain's verified_up_to.")
    ] = False,
    format: Format = None,
    json: AsJson = False,
    out: Out = None,
    show_sql: ShowSql = False,
) -> None:
    """Who paid what in fees: required, paid by the user, paid by the treasury, coverage, burnt.

    Sums are in the coin's smallest unit (drops, wei), whole coins beside them. coverage is the treasury's part of what
    was required. Fees on chains belong to users; --by app, --by asset, --app and --asset show gas in managed custody.

    Example: tidebook gas-report --by month --from 2026-01-01 --to 2026-06-30 --verified
    """
    from pipeline.reports_command import gas_command

    settings = settings_or_fail(data_dir=data_dir)
    raise typer.Exit(
        gas_command(
            settings, owner, by, first, last, chain, app, asset, verified, format, json, out, show_sql
        )
    )  # fmt: skip


def provenance(
    asset: Annotated[
        str,
        typer.Argument(
            help="An NFTokenID, mpt:<issuance id>, an asset's key, its id in an application, or a position."
        ),
    ],
    data_dir: DataDir = None,
    chain: ChainName = None,
    format: Format = None,
    json: AsJson = False,
    out: Out = None,
    show_sql: ShowSql = False,
) -> None:
    """Everything that ever happened to one asset, each with its transaction and place in the topic."""
    from pipeline.reports_command import provenance_command

    settings = settings_or_fail(data_dir=data_dir)
    raise typer.Exit(provenance_command(settings, asset, chain, format, json, out, show_sql))


def compliance_export(
    out: Annotated[Path, typer.Option("--out", help="Directory to write to: empty, or not there yet.")],
    first: Annotated[str, typer.Option("--from", help="First day (UTC), as 2026-01-01.")],
    last: Annotated[str, typer.Option("--to", help="Last day (UTC), included.")],
    format: Annotated[str, typer.Option("--format", help="csv, parquet or jsonl.")] = "csv",
    key: Annotated[
        Path | None, typer.Option("--key", help="Ed25519 key to sign with, PEM (env TIDEBOOK_SIGNING_KEY).")
    ] = None,
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """Money transfers, state changes, audit trail and regulatory report of a period, with a signed manifest.

    manifest.json has each file's rows, SHA-256, columns and SQL, and how far each topic and chain is covered. It is
    written last: a directory without it is no export.

    Example: tidebook compliance-export --from 2026-01-01 --to 2026-03-31 --out q1 --key signing.pem
    """
    from pipeline.reports_command import export_command

    settings = settings_or_fail(data_dir=data_dir)
    raise typer.Exit(export_command(settings, first, last, out, format, key, json))


def compliance_check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="An export.")],
    public_key: Annotated[
        Path | None,
        typer.Option("--public-key", help="Key that must have signed it: PEM, or 64 hex digits in a file."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Check an export against its manifest and signature. Needs no server and no data directory.

    Exit status: 0 it is whole and unchanged · 1 a file or the signature differs (told in one line).
    """
    from pipeline.reports_command import check_command

    raise typer.Exit(check_command(folder, public_key, json))


def compliance_key(
    file: Annotated[Path, typer.Argument(help="File for the private key; the public one goes to FILE.pub.")],
) -> None:
    """Make a key to sign exports with."""
    from pipeline.reports_command import key_command

    raise typer.Exit(key_command(file))
