"""Commands that follow a chain: `tidebook up | ingest | node | lag`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli_options import AcceptGap, AsJson, DataDir, Verify, fail, settings_or_fail

ingest_app = typer.Typer(no_args_is_help=True, help="Read a chain and publish its blocks.")


@ingest_app.command("file")
def ingest_file(
    files: Annotated[list[Path], typer.Argument(help="Recorded ledgers, in order.")],
    data_dir: DataDir = None,
    chain: Annotated[
        str | None,
        typer.Option("--chain", help="Chain of this data directory's register; default: told by the hashes."),
    ] = None,
    accept_gap: AcceptGap = False,
    verify: Verify = None,
    supervised: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Publish recorded ledgers to xrpl.ledgers.v1 of the broker that TIDEBOOK_KAFKA_URL names."""
    from pipeline.ingest_command import ingest_files

    settings = settings_or_fail(data_dir=data_dir, xrpl_verify=verify or "header")
    raise typer.Exit(ingest_files(settings, files, chain, accept_gap, settings.xrpl_verify, supervised))


@ingest_app.command("xrpl")
def ingest_xrpl(
    first: Annotated[
        str,
        typer.Option(
            "--from",
            help="First ledger where Kafka holds none yet: an index, genesis, earliest (that a node has) or "
            "validated (the newest). Default: what this data directory knows, else validated.",
        ),
    ] = "",
    last: Annotated[
        int | None, typer.Option("--to", min=1, help="Last ledger; default: follow for ever.")
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Follow for ever (the default without --to).")
    ] = False,
    snapshot: Annotated[
        int | None,
        typer.Option(min=1, help="Begin with the whole state of this ledger, where Kafka holds none yet."),
    ] = None,
    accept_gap: AcceptGap = False,
    verify: Verify = None,
    urls: Annotated[str | None, typer.Option("--urls", help="XRPL nodes (env TIDEBOOK_XRPL_URLS).")] = None,
    wait: Annotated[
        float, typer.Option("--wait", help="Seconds to wait for a first node before giving up.")
    ] = 60.0,
    data_dir: DataDir = None,
    supervised: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Follow XRPL nodes: every validated ledger, checked, in order, to xrpl.ledgers.v1.

    Goes on behind the last ledger that Kafka holds. A ledger that contradicts itself or the chain is
    refused, quarantined and asked of another node; a gap is told, and waited for.

    Exit status: 0 all published · 1 it can't go on (told in one line) · 2 wrong call or setting ·
    3 a gap was accepted.
    """
    from pipeline.ingest_command import ingest_xrpl as follow_nodes
    from pipeline.xrpl_ingest import Wanted

    if snapshot is not None and first:
        fail("--snapshot and --from contradict each other: the line goes on behind the snapshot's ledger", 2)
    if follow and last is not None:
        fail("--follow and --to contradict each other", 2)
    settings = settings_or_fail(data_dir=data_dir, xrpl_verify=verify, xrpl_urls=urls)
    raise typer.Exit(follow_nodes(settings, Wanted(first, last, accept_gap, wait, snapshot), supervised))


@ingest_app.command("evm")
def ingest_evm(
    config: Annotated[
        Path | None, typer.Option("--config", help="Chains and contracts (env TIDEBOOK_EVM_CONFIG).")
    ] = None,
    chain: Annotated[
        list[str] | None,
        typer.Option("--chain", help="Chain of the file, e.g. eip155:1; default: all of it."),
    ] = None,
    first: Annotated[
        int | None,
        typer.Option(
            "--from", min=0, help="First block where Kafka holds none yet; default: the file's start_block."
        ),
    ] = None,
    last: Annotated[
        int | None,
        typer.Option("--to", min=0, help="End when this block is final; default: follow for ever."),
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Follow for ever (the default without --to).")
    ] = False,
    wait: Annotated[
        float, typer.Option("--wait", help="Seconds to wait for a first node before giving up.")
    ] = 60.0,
    data_dir: DataDir = None,
    supervised: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Follow EVM chains: every block, checked, in order, to evm.blocks.v1: as head, then as final or retracted.

    Goes on behind the last block that Kafka holds. An answer that contradicts itself or the chain is refused and
    asked of another node; a reorganisation is told block by block, down to depth_limit.

    Exit status: 0 all is final · 1 a chain can't go on (told in one line) · 2 wrong call or setting.
    """
    from pipeline.evm_ingest_command import WantedEvm
    from pipeline.evm_ingest_command import ingest_evm as follow_chains

    if follow and last is not None:
        fail("--follow and --to contradict each other", 2)
    settings = settings_or_fail(data_dir=data_dir, evm_config=config)
    raise typer.Exit(follow_chains(settings, WantedEvm(tuple(chain or ()), first, last, wait), supervised))


def up(
    first: Annotated[
        str,
        typer.Option(
            "--from", help="First ledger, as in `ingest xrpl`; default: what is known, else validated."
        ),
    ] = "",
    last: Annotated[
        int | None, typer.Option("--to", min=1, help="End when this ledger is applied; default: never.")
    ] = None,
    accept_gap: AcceptGap = False,
    verify: Verify = None,
    urls: Annotated[
        str | None,
        typer.Option("--urls", help="XRPL nodes (env TIDEBOOK_XRPL_URLS); none: a recorded chain is played."),
    ] = None,
    pace: Annotated[
        float, typer.Option("--pace", min=0, help="Seconds between two ledgers of the recorded chain.")
    ] = 0.5,
    data_dir: DataDir = None,
) -> None:
    """Follow a chain with everything in one go, until Ctrl-C. Needs no server.

    Broker, books and ClickHouse are embedded where no server is configured; with no XRPL node
    configured a recorded node plays the chain that ships with Tidebook.
    """
    from pipeline.up_command import run

    settings = settings_or_fail(data_dir=data_dir, xrpl_verify=verify, xrpl_urls=urls)
    options = ["--from", first or ("" if settings.xrpl_urls else "earliest")]
    options += ["--to", str(last)] if last is not None else []
    options += ["--accept-gap"] if accept_gap else []
    options += ["--verify", verify] if verify else []
    raise typer.Exit(run(settings, options, pace))


def lag(
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until Ctrl-C.")] = False,
    json: AsJson = False,
    serve: Annotated[
        bool,
        typer.Option("--serve", help="Be an exporter: /metrics and /health for all roles, until Ctrl-C."),
    ] = False,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of --serve (env TIDEBOOK_METRICS_PORT).")
    ] = None,
    sample: Annotated[
        float, typer.Option(min=0, help="Seconds that one answer may look for movement.")
    ] = 5.0,
    stall: Annotated[
        float, typer.Option(min=0, help="Behind and not moved for so many seconds = stalled.")
    ] = 60.0,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 2.0,
    data_dir: DataDir = None,
) -> None:
    """How far everything is: chain head, ingested, books, state, ClickHouse; in ledgers, seconds, messages.

    Judged from Kafka alone: a role that is behind and does not move is unhealthy whatever its process
    says. Looks at the broker of TIDEBOOK_KAFKA_URL, else at the one of a running `tidebook up`.

    Exit status: 0 all is well · 1 something is not · 2 wrong call.
    """
    from pipeline.lag_command import Asked
    from pipeline.lag_command import lag as show

    asked = Asked(watch, json, serve, port, sample, stall, every)
    raise typer.Exit(show(settings_or_fail(data_dir=data_dir), asked))


def node(
    files: Annotated[list[Path], typer.Argument(help="Recorded ledgers, in order.")],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: a free one.")] = 0,
    pace: Annotated[float, typer.Option(min=0, help="Seconds a ledger; 0: all is there at once.")] = 0.0,
    start: Annotated[
        int | None,
        typer.Option(help="Newest validated ledger at the beginning; default: the first with --pace."),
    ] = None,
    fault: Annotated[
        list[str] | None, typer.Option(help="NAME or NAME=VALUE, may be repeated; an unknown name lists all.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the faults and the validators' keys.")] = 0,
    validators: Annotated[
        int, typer.Option(min=0, help="Make a validations stream of so many validators.")
    ] = 0,
    network_id: Annotated[int | None, typer.Option(help="Network id that the node names.")] = None,
) -> None:
    """Serve recorded ledgers over WebSocket as an XRPL node does, with faults on request, until Ctrl-C."""
    from pipeline.node_command import serve_node

    raise typer.Exit(
        serve_node(
            files, host=host, port=port, pace=pace, start=start, faults=fault or [], seed=seed,
            validators=validators, network_id=network_id,
        )
    )  # fmt: skip
