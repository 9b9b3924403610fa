"""The command line: parses, calls, prints; exit statuses tell.

0 all is well · 1 something is wrong, said in one line · 2 the call was wrong · 3 a gap was accepted ·
70 a defect.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.audit_cli import audit
from pipeline.books_cli import books_app
from pipeline.chain_cli import ingest_app, lag, node, up
from pipeline.cli_options import AsJson, At, ChainName, DataDir, fail, settings_or_fail
from pipeline.clickhouse_cli import clickhouse_app
from pipeline.proof_cli import proof_app
from pipeline.reports_cli import compliance_check, compliance_export, compliance_key, gas_report, provenance
from pipeline.serve_cli import keys_app, serve

app = typer.Typer(
    name="tidebook",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Exact, provable books on the XRP Ledger: recorded ledgers → Kafka → TigerBeetle books, state, ClickHouse.",
)
topics_app = typer.Typer(no_args_is_help=True, help="Topics derived from the schemas.")
schemas_app = typer.Typer(no_args_is_help=True, help="Avro schemas, their registry and their dictionary.")
decode_app = typer.Typer(
    no_args_is_help=True, help="Recorded answers → events as JSON lines. Needs no server."
)
app.add_typer(ingest_app, name="ingest")
app.add_typer(topics_app, name="topics")
app.add_typer(schemas_app, name="schemas")
app.add_typer(decode_app, name="decode")
app.add_typer(books_app, name="books")
app.add_typer(keys_app, name="keys")
app.add_typer(clickhouse_app, name="clickhouse")
app.add_typer(proof_app, name="proof")
for _command in (up, lag, audit, node, serve):
    app.command()(_command)
for _command in (gas_report, provenance, compliance_export, compliance_check, compliance_key):
    app.command()(_command)


@app.command()
def demo(
    ledgers: Annotated[
        list[Path] | None,
        typer.Option(
            "--ledgers",
            help="Recorded ledgers: .jsonl.gz, .json, .gz or a directory; may be repeated. "
            "Default: the chain that ships with Tidebook (353 ledgers of a real node).",
        ),
    ] = None,
    evm: Annotated[
        list[Path] | None,
        typer.Option(
            "--evm",
            help="Recorded EVM blocks (eth_getBlockByNumber with eth_getBlockReceipts): JSON, .gz or a directory; "
            "may be repeated. Alone they are played without XRPL ledgers.",
        ),
    ] = None,
    evm_chain: Annotated[
        str | None,
        typer.Option("--evm-chain", help="Chain of EVM blocks whose transactions name none, e.g. eip155:1."),
    ] = None,
    data_dir: DataDir = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write the report as JSON to this file.")
    ] = None,
    network: Annotated[
        str | None, typer.Option("--network", help="Name of the recorded network, e.g. 0 for mainnet.")
    ] = None,
    accept_gap: Annotated[
        bool, typer.Option("--accept-gap", help="Go on where ledgers are missing; exit status 3.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the broker and the holdings' web views up until Ctrl-C.")
    ] = False,
) -> None:
    """Run the whole pipeline on a recorded chain and prove the result. Needs no server.

    Real ledgers go through Kafka and Faust into exact double-entry books, tables of state and
    ClickHouse; then the report judges them. Running it again with the same directory changes nothing.

    Exit status: 0 all invariants hold · 1 something is wrong (told in one line) · 3 a gap was accepted.
    """
    from pipeline.demo_command import run_demo

    settings = settings_or_fail(data_dir=data_dir)
    raise typer.Exit(
        run_demo(settings, ledgers or [], network, accept_gap, keep, report, evm or [], evm_chain)
    )


@app.command()
def work(
    role: Annotated[str, typer.Argument(help="books, assets or history.")],
    data_dir: DataDir = None,
    supervised: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Run one role on the broker that TIDEBOOK_KAFKA_URL names, until SIGTERM."""
    from pipeline.app import ROLES
    from pipeline.app import work as work_role

    if role not in ROLES:
        fail(f"no role {role!r}; there are {', '.join(ROLES)}", 2)
    settings = settings_or_fail(data_dir=data_dir)
    if not settings.kafka_url:
        fail("setting TIDEBOOK_KAFKA_URL is empty: a role needs a broker (`tidebook demo` starts its own)", 2)
    raise typer.Exit(work_role(role, settings, supervised))


@decode_app.command("xrpl")
def decode_xrpl(
    files: Annotated[
        list[Path],
        typer.Argument(help="Recorded ledgers, transactions or stream messages: .json, .gz, .jsonl.gz."),
    ],
) -> None:
    """Print what each recorded transaction really did, as JSON lines, in applied order.

    What can't be decoded prints an error line in its place; the rest goes on; exit status 1.
    """
    from pipeline.decode_command import decode_files

    raise typer.Exit(decode_files(files, sys.stdout))


@decode_app.command("evm")
def decode_evm(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Recorded eth_getBlockByNumber and eth_getBlockReceipts, receipts or logs: JSON, .gz."
        ),
    ],
    abi: Annotated[
        list[str] | None,
        typer.Option(help="ADDRESS=FILE: events of a contract, ABI as JSON; may be repeated."),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="ADDRESS=KIND: erc20, erc721, erc1155, weth, mint_guard …; may be repeated."),
    ] = None,
    burns: Annotated[
        bool | None,
        typer.Option(
            "--burns/--no-burns", help="Does the chain burn the base fee? Default: told from the recording."
        ),
    ] = None,
) -> None:
    """Print what each recorded EVM transaction did, as JSON lines: fees, token transfers, every log.

    What can't be decoded prints an error line in its place; the rest goes on; exit status 1.
    """
    from pipeline.decode_evm_command import BadAbi, declared, decode_evm_files

    try:
        contracts = declared(abi or [], kind or [])
    except BadAbi as error:
        fail(str(error), 2)
    raise typer.Exit(decode_evm_files(files, sys.stdout, contracts, burns))


@app.command()
def export(
    what: Annotated[str, typer.Argument(help="balances, nfts, mpts, escrows, channels or assets.")],
    at: At = None,
    data_dir: DataDir = None,
    chain: ChainName = None,
    json: AsJson = False,
) -> None:
    """The state after a ledger: one row per balance, NFT, issuance, escrow, channel or asset."""
    from pipeline.read_commands import export_rows

    raise typer.Exit(export_rows(settings_or_fail(data_dir=data_dir), what, at, chain, json))


@app.command()
def query(
    sql: Annotated[
        str, typer.Argument(help='A ClickHouse statement, e.g. "SELECT count() FROM xrpl_transactions".')
    ],
    data_dir: DataDir = None,
    json: AsJson = False,
) -> None:
    """Ask ClickHouse: one JSON object a row with --json, else a table. Shows no duplicate (final=1)."""
    from pipeline.read_commands import query_rows

    raise typer.Exit(query_rows(settings_or_fail(data_dir=data_dir), sql, json))


@app.command()
def balances(
    owner: Annotated[str, typer.Argument(help="An address.")],
    at: At = None,
    data_dir: DataDir = None,
    chain: ChainName = None,
    json: AsJson = False,
) -> None:
    """What one owner holds: available and locked, per asset, from the books."""
    from pipeline.read_commands import owner_balances

    raise typer.Exit(owner_balances(settings_or_fail(data_dir=data_dir), owner, at, chain, json))


@topics_app.command("plan")
def topics_plan(
    kafka_url: Annotated[str | None, typer.Option("--kafka-url", help="(env TIDEBOOK_KAFKA_URL)")] = None,
) -> None:
    """Show what `apply` would create or change. Exit status 1 if there is something it must not do."""
    from pipeline.admin_commands import plan_topics

    raise typer.Exit(plan_topics(settings_or_fail(kafka_url=kafka_url), apply=False))


@topics_app.command("apply")
def topics_apply(
    kafka_url: Annotated[str | None, typer.Option("--kafka-url", help="(env TIDEBOOK_KAFKA_URL)")] = None,
) -> None:
    """Create the topics that are missing; never shrinks or destroys one."""
    from pipeline.admin_commands import plan_topics

    raise typer.Exit(plan_topics(settings_or_fail(kafka_url=kafka_url), apply=True))


@schemas_app.command("check")
def schemas_check() -> None:
    """Are the schemas frozen, compatible and the generated files up to date? Exit status 1 if not."""
    from pipeline.admin_commands import check_schemas

    raise typer.Exit(check_schemas())


@schemas_app.command("register")
def schemas_register(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")] = False,
    json: AsJson = False,
) -> None:
    """Register every frozen schema with the registry that TIDEBOOK_SCHEMA_REGISTRY_URL names.

    Refuses what is incompatible; doing it again changes nothing.
    """
    from pipeline.schemas_command import register_schemas

    raise typer.Exit(register_schemas(settings_or_fail(), dry_run, json))


@schemas_app.command("docs")
def schemas_docs() -> None:
    """Print the data dictionary: topics, fields, tables, columns."""
    from pipeline.admin_commands import print_dictionary

    raise typer.Exit(print_dictionary())


@app.command()
def bench(
    what: Annotated[
        str,
        typer.Argument(
            help="decode, decode-evm, agent, books, pipeline, ingest, ingest-evm, ingest-memory (ledgers), "
            "applications, intake, reads or analytics."
        ),
    ],
    transactions: Annotated[
        int | None,
        typer.Option(help="Length of the generated chain, or transfers (200,000; analytics: 20,000,000)."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the generated chain.")] = 7,
    json: AsJson = False,
) -> None:
    """Measure, as ratios to named baselines in one run. From a checkout: the benchmarks live in tests/bench."""
    from pipeline.admin_commands import run_bench

    raise typer.Exit(run_bench(what, transactions, seed, json))


def main() -> None:
    """Entry point of the command `tidebook`."""
    try:
        app()
    except BrokenPipeError:  # the reader of our output has gone
        sys.stderr.close()
        raise SystemExit(0) from None


if __name__ == "__main__":
    main()
