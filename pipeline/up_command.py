"""`tidebook up` as a person sees it: a live table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from pipeline.api.journal import JournalError
from pipeline.app import ROLES
from pipeline.demo import owned
from pipeline.ingest.apps_config import AppsConfigError
from pipeline.ingest.chains import ChainError
from pipeline.ingest.evm.config import ConfigError
from pipeline.ingest.xrpl.address import AddressError, parse_addresses
from pipeline.ingest_telling import wrong
from pipeline.settings import Settings
from pipeline.supervisor import ChildFailed, Supervisor
from pipeline.terminal import cell
from pipeline.up import INGEST, INGEST_EVM, SERVE, Up, accepted, run_up
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
    except (AddressError, AppsConfigError, ConfigError) as error:
        return wrong(str(error), 2)
    except ChildFailed as error:
        wrong(str(error), 1)
        return wrong(
            f"logs are in {settings.data_dir / 'logs'}; whatever was acknowledged is in the stores", 1
        )
    except (ChainError, BrokerError, JournalError, TopicsRefused, RuntimeError, OSError, ValueError) as error:
        return wrong(str(error), 1)
    children = up.supervisor.children if up.supervisor else {}
    return 3 if any(children[name].status.get("gaps") for name in up.ingests if name in children) else 0


async def _shown(up: Up) -> None:
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            await run_up(up, lambda up, seconds: live.update(_table(up, seconds)))
    else:
        told = [-LINE_S]

        def line(up: Up, seconds: float) -> None:
            if seconds - told[0] >= LINE_S:
                told[0] = seconds
                console.print(cell(_line(up, seconds)), soft_wrap=True)

        def first_line(up: Up, seconds: float) -> None:
            """How to ask the history, once: then the line now and then."""
            if told[0] < 0 and ways_in(up):
                console.print(cell(ways_in(up)), soft_wrap=True)
            line(up, seconds)

        await run_up(up, first_line)
    console.print(cell(_line(up, None)), soft_wrap=True)


def ways_in(up: Up) -> str:
    """How to ask the history from outside, for a ClickHouse client or by hand; "" on a server, which has its own."""
    if not up.clickhouse_url:
        return ""
    return (
        f"history {up.clickhouse_url} (ClickHouse's HTTP interface, read only): any client of it, Grafana, or "
        f"curl '{up.clickhouse_url}/?query=SHOW+TABLES'"
    )


def _behind(supervisor: Supervisor, role: str) -> str:
    child = supervisor.children.get(role)
    if child is None or not child.status.get("ready"):
        return "starting"
    return f"{child.behind(supervisor.targets()):,}"


def _line(up: Up, seconds: float | None) -> str:
    supervisor = up.supervisor
    if supervisor is None or not all(name in supervisor.children for name in up.ingests):
        return "starting"
    said = [_ledgers(supervisor.children[INGEST].status)] if INGEST in up.ingests else []
    said += [f"{name} {_blocks(told)}" for name, told in _evm_chains(up).items()]
    gaps = [told.get("open_gap") for told in (supervisor.children[name].status for name in up.ingests)]
    return (
        (f"{seconds:6.1f} s  " if seconds is not None else "ended: ")
        + "; ".join(said)
        + f"; api {up.api}: {_serving(up)}"
        + "; messages behind: "
        + ", ".join(f"{role} {_behind(supervisor, role)}" for role in ROLES)
        + "".join(f"; OPEN GAP {gap[0]}-{gap[1]}" for gap in gaps if gap)
    )


def _serving(up: Up) -> str:
    """How many events the intake has accepted, this time and before."""
    child = up.supervisor.children.get(SERVE) if up.supervisor else None
    if child is None or not child.status.get("ready"):
        return "starting"
    again = f", {up.republished:,} of former lives told again" if up.republished else ""
    return f"{accepted(up.settings):,} events accepted{again}"


def _ledgers(told: Mapping[str, Any]) -> str:
    if told.get("block", -1) < 0:
        return "no ledger yet"
    counts = told.get("counts", {})
    return (
        f"ledger {told['block']} (verified up to {told.get('verified_up_to', -1)}), "
        f"{counts.get('ledgers', 0):,} ledgers, {counts.get('transactions', 0):,} transactions"
    )


def _evm_chains(up: Up) -> dict[str, Mapping[str, Any]]:
    """What the EVM ingest told last of each chain that it is to follow; {} for one that it has not begun."""
    child = up.supervisor.children.get(INGEST_EVM) if up.supervisor else None
    told = child.status.get("chains", {}) if child else {}
    return {name: told.get(name, {}) for name in up.evm}


def _blocks(told: Mapping[str, Any]) -> str:
    if not told:
        return "starting"
    if told.get("block", -1) < 0:
        return "no block yet"
    reorgs, trouble = told.get("reorgs", 0), told.get("failed") or told.get("too_deep")
    return (
        f"block {told['block']} (final {told.get('final', -1)}"
        + (f", {reorgs:,} reorgs" if reorgs else "")
        + f"), {told.get('blocks', 0):,} blocks, {told.get('transactions', 0):,} transactions"
        + (f"; {trouble}" if trouble else "")
    )


def _table(up: Up, seconds: float) -> Table:
    sources = [source for source in (up.node_url or up.settings.xrpl_urls, ", ".join(up.evm)) if source]
    table = Table(
        title=cell(
            f"tidebook up  {seconds:.0f} s   chains {'; '.join(sources)}   api {up.api}   holdings {up.web}   "
            f"history {up.clickhouse_url or 'on its server'}   Ctrl-C ends"
        ),
        title_justify="left",
    )
    for column in ("role", "block", "messages behind", "said"):
        table.add_column(column, justify="left" if column in ("role", "said") else "right")
    supervisor = up.supervisor
    if supervisor is None:
        return table
    for name in (INGEST, INGEST_EVM, SERVE, *ROLES):
        child = supervisor.children.get(name)
        if child is None:
            continue
        told = child.status
        gap = told.get("open_gap")
        said = f"OPEN GAP {gap[0]}-{gap[1]}" if gap else told.get("stopped") or ""
        if name == INGEST_EVM:
            for chain, of in _evm_chains(up).items():
                table.add_row(*map(cell, (f"ingest {chain}", of.get("block", ""), "", said or _blocks(of))))
            continue
        if name == SERVE:
            said = said or _serving(up)
        if name == INGEST:
            said = said or (
                _ledgers(told) if told.get("block", -1) < 0 else f"verified up to {told['verified_up_to']}"
            )
        behind = _behind(supervisor, name) if name in ROLES else ""
        table.add_row(*map(cell, (name, told.get("block", ""), behind, said)))
    return table
