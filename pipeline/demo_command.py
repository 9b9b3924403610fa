"""`tidebook demo` as a person sees it: live progress, then a short report."""

from __future__ import annotations

import asyncio
import re
import shlex
import signal
import sys
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
from pipeline.ingest.chains import Chain, ChainError
from pipeline.report import NOT_APPLICABLE, make_report
from pipeline.settings import Settings
from pipeline.supervisor import ChildFailed, Supervisor
from sinks import exports
from sinks.clickhouse_client import QueryError

NETWORK = re.compile(r"(xrpl:)?[A-Za-z0-9.-]{1,64}")
console = Console(stderr=False)


def run_demo(
    settings: Settings,
    ledgers: list[Path],
    network: str | None,
    accept_gap: bool,
    keep: bool,
    report_file: Path | None,
) -> int:
    """Run, report; the exit status of `tidebook demo`."""
    recordings = ledgers or [default_recording()]
    for path in recordings:
        if not path.exists():
            sys.stderr.write(
                f"tidebook: no recorded ledgers at {path}; give a file or directory with --ledgers\n"
            )
            return 2
    if report_file is not None and not report_file.absolute().parent.is_dir():
        sys.stderr.write(
            f"tidebook: --report {report_file}: there is no directory {report_file.absolute().parent}\n"
        )
        return 2
    if network is not None and not NETWORK.fullmatch(network):
        sys.stderr.write(
            f"tidebook: --network {network!r}: a name has letters, digits, dots and dashes only\n"
        )
        return 2
    run = Run(settings, recordings, network, accept_gap, keep)
    try:
        with owned(settings.data_dir):
            run.chain = identify(run)
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


async def _watched(run: Run) -> None:
    if console.is_terminal:
        with Live(console=console, refresh_per_second=8, transient=True) as live:
            await run_pipeline(run, lambda supervisor, seconds: live.update(_table(supervisor, seconds)))
        return
    told = [0.0]

    def line(supervisor: Supervisor, seconds: float) -> None:
        if seconds - told[0] >= 2:
            told[0] = seconds
            console.print(_line(supervisor, seconds), highlight=False, soft_wrap=True)

    await run_pipeline(run, line)


def _counts(supervisor: Supervisor, name: str) -> dict[str, Any]:
    child = supervisor.children.get(name)
    return child.status.get("counts", {}) if child else {}


def _line(supervisor: Supervisor, seconds: float) -> str:
    targets = supervisor.targets()
    published = _counts(supervisor, "ingest")
    lags = ", ".join(
        f"{name} {'starting' if not child.status.get('ready') else child.behind(targets)}"
        for name, child in supervisor.children.items()
        if name in ROLES
    )
    done = published.get("transactions", 0)
    return (
        f"{seconds:5.1f} s  {published.get('ledgers', 0)} ledgers, {done} transactions published"
        f" ({done / max(seconds, 0.001):,.0f}/s); messages behind: {lags}"
    )


def _table(supervisor: Supervisor, seconds: float) -> Table:
    table = Table(title=f"tidebook demo  {seconds:.1f} s", title_justify="left")
    for column in ("role", "ledger", "transactions", "per second", "lag (messages)", "lag (ledgers)"):
        table.add_column(column, justify="left" if column == "role" else "right")
    targets = supervisor.targets()
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
            f"{max(0, head - block):,}" if block >= 0 and name != "ingest" else "",
        )
    return table


def _report(run: Run) -> dict[str, Any]:
    assert run.chain is not None
    history = open_history(run.settings, "demo report")
    books = open_books(run.settings)
    try:
        report = make_report(books, history, run.chain.name, run.chain.number)
        report["gas_report"] = _first(history, exports.gas_report(run.chain.number), 5)
        report["provenance_asset"], report["provenance"] = _one_story(history, run.chain)
    finally:
        books.close()
        history.close()
    published = run.ingest.get("counts", {})
    report["invariants"] = {
        "ingest_complete": run.ingest.get("stopped_reason") is None,
        "everything_applied": not run.problems,
        "nothing_quarantined": run.quarantined == 0,
        **report["invariants"],
    }
    gaps = run.ingest.get("gaps") or []
    failed = [name for name, ok in report["invariants"].items() if ok is False]
    report.update(
        seconds=round(run.seconds, 3),
        published_transactions=published.get("transactions", 0),
        transactions_per_s=round(published.get("transactions", 0) / run.seconds, 1) if run.seconds else 0,
        gaps=gaps,
        problems=run.problems,
        data_dir=str(run.settings.data_dir),
        exit_status=1 if failed or run.problems else 3 if gaps else 0,
    )
    return report


def _first(history: Any, question: exports.Export, rows: int) -> list[dict[str, Any]]:
    return list(islice(question.shape(history.query(question.sql, question.parameters)), rows))


def _one_story(history: Any, chain: Chain) -> tuple[str | None, list[dict[str, Any]]]:
    """The provenance of the NFT that moved most."""
    moved = list(history.query(
        f"SELECT asset, count() AS moves FROM asset_changes WHERE chain_number = {chain.number} AND kind = 'nft'"
        " GROUP BY asset ORDER BY moves DESC, asset LIMIT 1"
    ))  # fmt: skip
    if not moved:
        return None, []
    asset = moved[0]["asset"]
    return asset, _first(history, exports.provenance(asset, chain.name), 20)


def _wait(run: Run) -> None:
    console.print(f"Holdings: {run.web} (Ctrl-C ends)")
    signal.sigwait({signal.SIGINT, signal.SIGTERM})


def _print(report: dict[str, Any], run: Run) -> None:
    xrp = report["xrp"]
    console.print(f"\n[bold]{report['chain']}[/bold]  ledgers {report['first_ledger']}-{report['last_ledger']}: "
                  f"{report['ledgers']:,} ledgers, {report['transactions']:,} transactions, "
                  f"{report['seconds']:.1f} s, {report['transactions_per_s']:,.0f} transactions/s",
                  highlight=False)  # fmt: skip
    _print_xrp(xrp)
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
        console.print(f"Alerts: {told}", highlight=False)
    _print_gas(report["gas_report"])
    _print_story(report["provenance_asset"], report["provenance"])
    for first, last in report["gaps"]:
        console.print(
            f"[yellow]Gap accepted:[/yellow] ledgers {first}-{last} are missing; a new run begins behind it",
            highlight=False,
        )
    for problem in report["problems"]:
        sys.stderr.write(f"tidebook: {problem}\n")
    _print_next(report, run)


def _print_xrp(xrp: dict[str, Any]) -> None:
    console.print(f"XRP in the books {xrp['in_books']:,} + burnt {xrp['burnt']:,}"
                  + (f" + not seen yet {xrp['unseen']:,}" if xrp["unseen"] else "")
                  + f" = {xrp['total']:,} drops", highlight=False)  # fmt: skip


def _print_gas(rows: list[dict[str, Any]]) -> None:
    table = Table(title="Gas report: who paid most (drops)", title_justify="left")
    table.add_column("owner", no_wrap=True, min_width=34)
    for column in ("transactions", "required", "by user", "by treasury"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row["owner"], f"{row['transactions']:,}", str(row["total_gas_required"]),
            str(row["total_gas_paid_by_user"]), str(row["total_gas_paid_by_treasury"]),
        )  # fmt: skip
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
    console.print(
        f"Data: {run.settings.data_dir} (books, clickhouse, chains, logs). Ask next:", highlight=False
    )
    for command in (
        f"tidebook balances {owner}{where}",
        f"tidebook gas-report{where}",
        f"tidebook export nfts --json{where}",
        f'tidebook query "SELECT type, count() FROM xrpl_transactions GROUP BY type ORDER BY 2 DESC"{where}',
    ):
        console.print(f"  {command}", highlight=False, soft_wrap=True)
