"""`tidebook demo` as a person sees it: live progress, then a short report."""

from __future__ import annotations

import asyncio
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.live import Live
from rich.table import Table

from pipeline.app import ROLES, open_books, open_history
from pipeline.demo import Run, default_recording, identify, owned, run_pipeline
from pipeline.domain.decode.xrpl_errors import RecordedError
from pipeline.ingest.chains import ChainError
from pipeline.report import NOT_APPLICABLE, alerts_of, gas_payers, make_report, no_report
from pipeline.report_evm import all_hold, make_evm_report, whole_evm_report
from pipeline.reports.provenance import provenance
from pipeline.settings import Settings
from pipeline.supervisor import ChildFailed, Supervisor
from pipeline.terminal import cell
from sinks.clickhouse_client import QueryError

NETWORK = re.compile(r"(xrpl:)?[A-Za-z0-9.-]{1,64}")
EVM_CHAIN = re.compile(r"eip155:[A-Za-z0-9_-]{1,32}")  # CAIP-2
console = Console(stderr=False)


def run_demo(
    settings: Settings,
    ledgers: list[Path],
    network: str | None,
    accept_gap: bool,
    keep: bool,
    report_file: Path | None,
    evm: Sequence[Path] = (),
    evm_chain: str | None = None,
) -> int:
    """Run, report; the exit status of `tidebook demo`. `evm` alone is played without XRPL ledgers."""
    recordings = list(ledgers) if ledgers or evm else [default_recording()]
    if wrong := _wrong_call(recordings, evm, network, evm_chain, report_file):
        sys.stderr.write(f"tidebook: {wrong}\n")
        return 2
    run = Run(settings, recordings, network, accept_gap, keep, list(evm), evm_chain)
    try:
        with owned(settings.data_dir):
            identify(run)
            asyncio.run(_watched(run))
            report = _report(run)
            if report_file:
                report_file.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
            _print(report, run)
            if keep:
                _wait(run)
    except (ChainError, RecordedError, QueryError, OSError, RuntimeError) as error:
        sys.stderr.write(f"tidebook: {error}\n")
        if isinstance(error, ChildFailed):
            sys.stderr.write(
                f"tidebook: logs are in {settings.data_dir / 'logs'}; whatever was acknowledged is in the stores\n"
            )
        return 1
    return int(report["exit_status"])


def _wrong_call(
    ledgers: Sequence[Path],
    evm: Sequence[Path],
    network: str | None,
    evm_chain: str | None,
    report_file: Path | None,
) -> str:
    """What is wrong with the call, in one line; "" where nothing is."""
    for option, what, paths in (("--ledgers", "ledgers", ledgers), ("--evm", "EVM blocks", evm)):
        for path in paths:
            if not path.exists():
                return f"no recorded {what} at {path}; give a file or directory with {option}"
    if report_file is not None and not report_file.absolute().parent.is_dir():
        return f"--report {report_file}: there is no directory {report_file.absolute().parent}"
    if network is not None and not NETWORK.fullmatch(network):
        return f"--network {network!r}: a name has letters, digits, dots and dashes only"
    if evm_chain is not None and not EVM_CHAIN.fullmatch(evm_chain):
        return f"--evm-chain {evm_chain!r}: a chain is named eip155:<chain id>, e.g. eip155:1"
    return ""


async def _watched(run: Run) -> None:
    if console.is_terminal:
        with Live(console=console, refresh_per_second=8, transient=True) as live:
            await run_pipeline(run, lambda supervisor, seconds: live.update(_table(run, supervisor, seconds)))
        return
    told = [0.0]

    def line(supervisor: Supervisor, seconds: float) -> None:
        if seconds - told[0] >= 2:
            told[0] = seconds
            console.print(_line(run, supervisor, seconds), highlight=False, soft_wrap=True)

    await run_pipeline(run, line)


def _counts(supervisor: Supervisor, name: str) -> dict[str, Any]:
    child = supervisor.children.get(name)
    return child.status.get("counts", {}) if child else {}


def _line(run: Run, supervisor: Supervisor, seconds: float) -> str:
    targets = run.targets(supervisor)
    lags = ", ".join(
        f"{name} {'starting' if not child.status.get('ready') else child.behind(targets)}"
        for name, child in supervisor.children.items()
        if name in ROLES
    )
    done, evm = run.published("transactions"), run.evm_ingest
    blocks = evm.counts["ledgers"] if evm else 0
    ledgers = [f"{run.published('ledgers') - blocks} ledgers"] if run.chain else []
    told = ", ".join([*ledgers, *([f"{blocks} blocks"] if evm else []), f"{done} transactions published"])
    return f"{seconds:5.1f} s  {told} ({done / max(seconds, 0.001):,.0f}/s); messages behind: {lags}"


def _table(run: Run, supervisor: Supervisor, seconds: float) -> Table:
    table = Table(title=f"tidebook demo  {seconds:.1f} s", title_justify="left")
    for column in ("role", "ledger", "transactions", "per second", "lag (messages)", "lag (ledgers)"):
        table.add_column(column, justify="left" if column == "role" else "right")
    targets = run.targets(supervisor)
    head = supervisor.children["ingest"].status.get("block", -1) if "ingest" in supervisor.children else -1
    for name in ("ingest", *ROLES):
        child = supervisor.children.get(name)
        if child is None:
            continue
        counts, block = child.status.get("counts", {}), child.status.get("block", -1)
        done = counts.get("transactions")
        starting = name in ROLES and not child.status.get("ready")
        table.add_row(
            name,
            str(block) if block >= 0 else "",
            f"{done:,}" if done is not None else f"{counts.get('rows', 0):,} rows",
            f"{done / seconds:,.0f}" if done and seconds else "",
            "starting" if starting else "" if name == "ingest" else f"{child.behind(targets):,}",
            f"{max(0, head - block):,}" if block >= 0 and head >= 0 and name != "ingest" else "",
        )
    for name, state in (run.evm_ingest.states if run.evm_ingest else {}).items():
        table.add_row(f"ingest {name}", str(state.block), f"{state.transactions:,}")
    return table


def _report(run: Run) -> dict[str, Any]:
    history = open_history(run.settings, "demo report")
    books = open_books(run.settings)
    try:
        report = _ledgers_report(run, books, history)
        ingest = run.evm_ingest
        evm = (
            [
                make_evm_report(books, history, chain.name, chain.number, ingest.told[chain.name])
                for chain in ingest.chains
            ]
            if ingest
            else []
        )
        chains = [name for name in (report["chain"], *(one["chain"] for one in evm)) if name]
        report["alerts"] = alerts_of(history, chains)
    finally:
        books.close()
        history.close()
    if evm:
        report["evm"] = whole_evm_report(evm)
    report["invariants"] = {
        "ingest_complete": run.ingest.get("stopped_reason") is None
        and not (run.evm_ingest and run.evm_ingest.stopped),
        "everything_applied": not run.problems,
        "nothing_quarantined": run.quarantined == 0,
        **report["invariants"],
        **all_hold(evm),
    }
    return _judged(run, report)


def _judged(run: Run, report: dict[str, Any]) -> dict[str, Any]:
    """The report with its figures of time, and what the run's exit status is."""
    gaps = run.ingest.get("gaps") or []
    evm_gaps = run.evm_ingest.gaps if run.evm_ingest else []
    if run.evm_ingest:
        report["evm"]["gaps"] = evm_gaps
    failed = [name for name, ok in report["invariants"].items() if ok is False]
    published = run.published("transactions")
    report.update(
        seconds=round(run.seconds, 3),
        published_transactions=published,
        transactions_per_s=round(published / run.seconds, 1) if run.seconds else 0,
        gaps=gaps,
        problems=run.problems,
        data_dir=str(run.settings.data_dir),
        exit_status=1 if failed or run.problems else 3 if gaps or evm_gaps else 0,
    )
    return report


def _ledgers_report(run: Run, books: Any, history: Any) -> dict[str, Any]:
    """What there is to say of the XRPL ledgers."""
    if run.chain is None:
        return {**no_report(), "gas_report": [], "provenance_asset": None, "provenance": []}
    report = make_report(books, history, run.chain.name, run.chain.number)
    report["gas_report"] = gas_payers(history, run.chain.number)
    report["provenance_asset"], report["provenance"] = _one_story(history, run.chain.number)
    return report


def _one_story(history: Any, chain_number: int) -> tuple[str | None, list[dict[str, Any]]]:
    """The provenance of the NFT that moved most."""
    moved = list(history.query(
        f"SELECT asset, count() AS moves FROM asset_changes WHERE chain_number = {chain_number} AND kind = 'nft'"
        " AND finality != 'retracted' GROUP BY asset ORDER BY moves DESC, asset LIMIT 1"
    ))  # fmt: skip
    if not moved:
        return None, []
    asset = moved[0]["asset"]
    story = provenance(asset)
    return asset, list(islice(history.query(story.sql, story.parameters), 20))


def _wait(run: Run) -> None:
    console.print(f"Holdings: {run.web} (Ctrl-C ends)")
    signal.sigwait({signal.SIGINT, signal.SIGTERM})


def _print(report: dict[str, Any], run: Run) -> None:
    if run.chain is not None:
        _print_ledgers(report)
    for chain in report.get("evm", {}).get("chains", {}).values():
        _print_evm(chain, report if run.chain is None else {})
    table = Table(title="Invariants", title_justify="left", show_header=False)
    for name, verdict in report["invariants"].items():
        shown = (
            "[dim]not applicable[/dim]"
            if verdict == NOT_APPLICABLE
            else "[green]holds[/green]"
            if verdict
            else "[red]BROKEN[/red]"
        )
        table.add_row(name.replace("_", " "), shown)
    console.print(table)
    if report["alerts"]:
        told = ", ".join(f"{row['rule']} ({row['severity']}) x {row['count']}" for row in report["alerts"])
        console.print(cell(f"Alerts: {told}"))
    _print_gas(report["gas_report"], "drops")
    for chain in report.get("evm", {}).get("chains", {}).values():
        _print_gas(chain["gas_report"], f"wei, {chain['chain']}")
    _print_story(report["provenance_asset"], report["provenance"])
    for first, last in report["gaps"]:
        console.print(
            f"[yellow]Gap accepted:[/yellow] ledgers {first}-{last} are missing; a new run begins behind it",
            highlight=False,
        )
    for name, first, last in report.get("evm", {}).get("gaps", []):
        console.print(
            f"[yellow]Gap in the recording:[/yellow] blocks {first}-{last} of {name} are missing; a new run begins"
            " behind it", highlight=False,
        )  # fmt: skip
    for problem in report["problems"]:
        sys.stderr.write(f"tidebook: {problem}\n")
    _print_next(report, run)


def _print_xrp(xrp: dict[str, Any]) -> None:
    console.print(f"XRP in the books {xrp['in_books']:,} + burnt {xrp['burnt']:,}"
                  + (f" + not seen yet {xrp['unseen']:,}" if xrp["unseen"] else "")
                  + f" = {xrp['total']:,} drops", highlight=False)  # fmt: skip


def _print_ledgers(report: dict[str, Any]) -> None:
    console.print(f"\n[bold]{report['chain']}[/bold]  ledgers {report['first_ledger']}-{report['last_ledger']}: "
                  f"{report['ledgers']:,} ledgers, {report['transactions']:,} transactions, "
                  f"{report['seconds']:.1f} s, {report['transactions_per_s']:,.0f} transactions/s",
                  highlight=False)  # fmt: skip
    _print_xrp(report["xrp"])


def _print_evm(chain: dict[str, Any], timed: dict[str, Any]) -> None:
    """One EVM chain; `timed`: the report, where nothing else has told its figures of time."""
    fees = {name: int(wei) for name, wei in chain["fees"].items()}
    took = f", {timed['seconds']:.1f} s, {timed['transactions_per_s']:,.0f} transactions/s" if timed else ""
    console.print(
        f"\n[bold]{chain['chain']}[/bold]  blocks {chain['first_block']}-{chain['last_block']}: "
        f"{chain['blocks']:,} blocks, {chain['transactions']:,} transactions, {chain['logs']:,} logs, "
        f"{chain['transfers']:,} token transfers{took}",
        highlight=False,
    )
    console.print(
        f"Gas in the books {fees['in_books']:,} = burnt {fees['burnt']:,} + tips {fees['tips']:,} wei",
        highlight=False,
    )


def _print_gas(rows: list[dict[str, Any]], unit: str) -> None:
    table = Table(title=f"Gas report: who paid most ({unit})", title_justify="left")
    table.add_column("owner", no_wrap=True, min_width=34)
    columns = {"transactions": "transactions", "required": "total_gas_required"}
    if unit == "drops" or any(int(row["total_gas_paid_by_treasury"]) for row in rows):
        columns |= {"by user": "total_gas_paid_by_user", "by treasury": "total_gas_paid_by_treasury"}
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    for row in rows:
        table.add_row(
            row["owner"], f"{row['transactions']:,}", *(str(row[name]) for name in [*columns.values()][1:])
        )
    if rows:
        console.print(table)


def _print_story(asset: str | None, rows: list[dict[str, Any]]) -> None:
    if asset is None:
        return
    console.print(f"Provenance of {asset.split('/', 1)[1]}", highlight=False, soft_wrap=True, style="italic")
    for row in rows:
        ends = f"{row['from_owner'] or 'nobody'} → {row['to_owner'] or 'nobody'}"
        console.print(f"  ledger {row['block']:>6} {row['action']:<11} {ends}  {row['hash'][:12]}…",
                      highlight=False, soft_wrap=True)  # fmt: skip


def _print_next(report: dict[str, Any], run: Run) -> None:
    where = (
        ""
        if str(run.settings.data_dir) == "tidebook-data"
        else f" --data-dir {shlex.quote(str(run.settings.data_dir))}"
    )
    owner = report["gas_report"][0]["owner"] if report["gas_report"] else "rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh"
    ledgers = (
        f"tidebook balances {owner}{where}",
        f"tidebook gas-report{where}",
        f"tidebook export nfts --json{where}",
        f'tidebook query "SELECT type, count() FROM xrpl_transactions GROUP BY type ORDER BY 2 DESC"{where}',
    )
    evm = (
        *(() if run.chain else (f"tidebook gas-report{where}",)),
        f'tidebook query "SELECT standard, count() FROM evm_transfers GROUP BY standard ORDER BY 2 DESC"{where}',
    )
    console.print(cell(f"Data: {run.settings.data_dir} (books, clickhouse, chains, logs). Ask next:"))
    for command in (*(ledgers if run.chain else ()), *(evm if run.evm_ingest else ())):
        console.print(cell(f"  {command}"), soft_wrap=True)
