"""`tidebook clickhouse …` on the command line: parses, calls; exit statuses as in `pipeline.cli`."""

from __future__ import annotations

import typer

from pipeline.cli_options import AsJson, DataDir, settings_or_fail

clickhouse_app = typer.Typer(
    no_args_is_help=True,
    help="Tables and views of ClickHouse, made from the schemas. The place is the server that "
    "TIDEBOOK_CLICKHOUSE_URL names, else the data directory's own.",
)


@clickhouse_app.command("plan")
def clickhouse_plan(data_dir: DataDir = None, json: AsJson = False) -> None:
    """Show what `apply` would do; changes nothing, and may be asked while `tidebook up` runs.

    change: something is added (a table, column, index, projection or view, a comment, a codec, columns at the
    end of a sorting key). keep: a difference that stays and changes no answer. refuse: it would touch rows that
    are there (another type, order or partition key, a column that no schema has any more).

    Exit status: 0 all may be done · 1 something is refused, or the place can't be asked · 2 there is no data directory.
    """
    from pipeline.clickhouse_command import plan_clickhouse

    raise typer.Exit(plan_clickhouse(settings_or_fail(data_dir=data_dir), json))


@clickhouse_app.command("apply")
def clickhouse_apply(data_dir: DataDir = None, json: AsJson = False) -> None:
    """Do what `plan` shows, or nothing where it refuses something. Doing it again changes nothing.

    The history role does the same whenever it starts; this is for those who want to look first.
    """
    from pipeline.clickhouse_command import apply_clickhouse

    raise typer.Exit(apply_clickhouse(settings_or_fail(data_dir=data_dir), json))
