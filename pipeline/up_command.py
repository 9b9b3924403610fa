"""`tidebook up` as a person sees it: a live table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import asyncio
import sys

from rich.console import Console
from rich.live import Live
from rich.table import Table

from pipeline.app import ROLES
from pipeline.demo import owned
from pipeline.ingest.chains import ChainError
from pipeline.ingest.xrpl.address import AddressError, parse_addresses
from pipeline.settings import Settings
from pipeline.supervisor import ChildFailed, Supervisor
from pipeline.up import Up, run_up
from topics.apply import TopicsRefused
from topics.broker import BrokerError

LINE_S = 5.0
console = Console()


def run(settings: Settings, ingest_options: list[str], pace_s: float) -> int:
    """Run until told to stop; 0, 1 with one line saying why it could not go on, 2 for a wrong setting, 3 on an
    accepted gap."""
    up = Up(settings, ingest_options, pace_s)
    try:
        if settings.xrpl_urls:
            parse_addresses(settings.xrpl_urls)
        with owned(settings.data_dir):
            asyncio.run(_shown(up))
    except AddressError as error:
        return _wrong(str(error), 2)
    except ChildFailed as error:
        _wrong(str(error), 1)
        return _wrong(
            f"logs are in {settings.data_dir / 'logs'}; whatever was acknowledged is in the stores", 1
        )
    except (ChainError, BrokerError, TopicsRefused, RuntimeError, OSError, ValueError) as error:
        return _wrong(str(error), 1)
    ingest = up.supervisor.children.get("ingest") if up.supervisor else None
    return 3 if ingest is not None and ingest.status.get("gaps") else 0


async def _shown(up: Up) -> None:
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            await run_up(up, lambda up, seconds: live.update(_table(up, seconds)))
    else:
        told = [-LINE_S]

        def line(up: Up, seconds: float) -> None:
            if seconds - told[0] >= LINE_S:
                told[0] = seconds
                console.print(_line(up, seconds), highlight=False, soft_wrap=True)

        await run_up(up, line)
    console.print(_line(up, None), highlight=False, soft_wrap=True)


def _behind(supervisor: Supervisor, role: str) -> str:
    child = supervisor.children.get(role)
    if child is None or not child.status.get("ready"):
        return "starting"
    return f"{child.behind(supervisor.targets()):,}"


def _line(up: Up, seconds: float | None) -> str:
    supervisor = up.supervisor
    if supervisor is None or "ingest" not in supervisor.children:
        return "starting"
    told = supervisor.children["ingest"].status
    counts = told.get("counts", {})
    gap = told.get("open_gap")
    return (
        (f"{seconds:6.1f} s  " if seconds is not None else "ended: ")
        + f"ledger {told.get('block', -1)} (verified up to {told.get('verified_up_to', -1)}), "
        f"{counts.get('ledgers', 0):,} ledgers, {counts.get('transactions', 0):,} transactions; messages behind: "
        + ", ".join(f"{role} {_behind(supervisor, role)}" for role in ROLES)
        + (f"; OPEN GAP {gap[0]}-{gap[1]}" if gap else "")
    )


def _table(up: Up, seconds: float) -> Table:
    source = up.node_url or up.settings.xrpl_urls
    table = Table(
        title=f"tidebook up  {seconds:.0f} s   nodes {source}   holdings {up.web}   Ctrl-C ends",
        title_justify="left",
    )
    for column in ("role", "ledger", "messages behind", "said"):
        table.add_column(column, justify="left" if column in ("role", "said") else "right")
    supervisor = up.supervisor
    if supervisor is None:
        return table
    for name in ("ingest", *ROLES):
        child = supervisor.children.get(name)
        if child is None:
            continue
        told = child.status
        gap = told.get("open_gap")
        said = f"OPEN GAP {gap[0]}-{gap[1]}" if gap else told.get("stopped") or ""
        if name == "ingest":
            said = said or f"verified up to {told.get('verified_up_to', -1)}"
        behind = "" if name == "ingest" else _behind(supervisor, name)
        table.add_row(name, str(told.get("block", "")), behind, said)
    return table


def _wrong(message: str, status: int) -> int:
    sys.stderr.write(f"tidebook: {message}\n")
    return status
