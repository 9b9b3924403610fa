"""`tidebook lag`: how far behind everything is, as a table, as JSON, or as an exporter.

`--json` prints one object (with --watch one a line). Its keys are stable; unknown is null:

    healthy         bool: nothing below is unhealthy
    unhealthy       [str]: what is, one line each
    problems        [str]: what could not be asked and is no fault of ours (a node that is silent)
    broker          str: address of the broker that was looked at
    looked_s        float: seconds between the first and the last look
    roles           [{role, group, state, healthy, reason, members, behind, partitions}]
        partitions  [{topic, partition, committed, end, behind, unmoved_s, state, reason,
                      applied: {block, time} | null, behind_blocks, behind_s}]
    chains          [{chain, state, healthy, reason, stages, verified_up_to, gap: {first, last} | null,
                      gaps_accepted}]
        stages      {head, ingested, books, state, history: {block, time, behind_blocks, behind_s} | null},
                    of an EVM chain also final: the last block that stays; head: the newest that it is to read
    quarantined     int: messages in quarantine.v1
    alerts          int: messages in control.alerts.v1

`behind` counts messages, `*_blocks` ledgers or blocks (difference of indexes), `*_s` seconds between close times;
`time` is a close time in ms since 1970. States: ok, catching_up, stopped, stalled, not_running; of a
chain (its ingest) also unknown, where no node tells the head.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table

from pipeline import metrics
from pipeline.app import make_codec, quiet_clients
from pipeline.domain.lag import HEALTHY, INGESTED, ChainLag, Limits, PartitionLag, Report, State, worst
from pipeline.domain.lag_look import Mark
from pipeline.ingest_telling import wrong
from pipeline.lag.watch import NoBroker, Target, find_target, watching
from pipeline.settings import Settings
from pipeline.terminal import cell
from topics.broker import BrokerError
from topics.schema_registry import RegistryError

OLD_S: Final = 30.0  # an exporter whose last look is older is unhealthy itself
LEFT: Final = ("chain", "role", "topic", "stage", "state")
COLOURS: Final = {State.OK: "green", State.CATCHING_UP: "yellow", State.UNKNOWN: "dim"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for."""

    watch: bool = False  # look again and again, until Ctrl-C
    as_json: bool = False
    serve: bool = False  # be an exporter
    port: int | None = None  # of the exporter; None: TIDEBOOK_METRICS_PORT
    sample_s: float = 5.0  # how long a single answer may look for movement
    stall_s: float = 60.0  # behind and not moved for so long = stalled
    every_s: float = 2.0  # between two looks of --watch and --serve


def lag(settings: Settings, asked: Asked) -> int:
    """0 all is well, 1 something is not (or the broker does not answer), 2 the call was wrong."""
    if asked.serve and (asked.watch or asked.as_json):
        return wrong("--serve goes with neither --watch nor --json", 2)
    quiet_clients()
    try:
        target = find_target(settings)
        if asked.serve:
            return asyncio.run(_until_told(_serve(settings, target, asked)))
        if asked.watch:
            return asyncio.run(_until_told(_watch(settings, target, asked)))
        return asyncio.run(_once(settings, target, asked))
    except (NoBroker, ValueError) as error:
        return wrong(str(error), 2)
    except (BrokerError, RegistryError, metrics.MetricsError) as error:
        return wrong(str(error), 1)


def _limits(asked: Asked) -> Limits:
    return Limits(stall_s=asked.stall_s, look_s=min(asked.sample_s, asked.stall_s))


async def _once(settings: Settings, target: Target, asked: Asked) -> int:
    async with watching(target, make_codec(settings), _limits(asked)) as watch:
        report = await watch.settled()
    if asked.as_json:
        _print_json(report, target)
    else:
        Console().print(shown(report))
    return 0 if report.healthy else 1


async def _watch(settings: Settings, target: Target, asked: Asked) -> int:
    console = Console()
    live = Live(console=console, auto_refresh=False) if console.is_terminal and not asked.as_json else None
    with live or contextlib.nullcontext():
        async with watching(target, make_codec(settings), _limits(asked)) as watch:
            while True:
                report = await watch.look()
                if asked.as_json:
                    _print_json(report, target)
                elif live:
                    live.update(shown(report), refresh=True)
                else:
                    console.print(shown(report))
                await asyncio.sleep(asked.every_s)


async def _serve(settings: Settings, target: Target, asked: Asked) -> int:
    """Look for ever; a broker that is away is a health of its own."""
    port = settings.metrics_port if asked.port is None else asked.port
    if not port:
        raise ValueError(f"setting {metrics.SETTING} is 0: which port? Set it, or give --port")
    health = Health()
    server = metrics.serve(settings.metrics_host, port, health)
    sys.stderr.write(
        f"tidebook: lag of {target.kafka_url} on http://{settings.metrics_host}:{server.port}/metrics\n"
    )
    try:
        while True:
            try:
                async with watching(target, make_codec(settings), _limits(asked)) as watch:
                    while True:
                        health.seen(await watch.look())
                        await asyncio.sleep(asked.every_s)
            except (BrokerError, RegistryError) as error:
                health.failed(str(error))
            await asyncio.sleep(asked.every_s)
    finally:
        server.close()


class Health:
    """What /health tells: the last report, and whether there is a fresh one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._state: tuple[float, Report | None, str] = (clock(), None, "no look at Kafka yet")

    def seen(self, report: Report) -> None:
        self._state = (self._clock(), report, "")
        metrics.show_lag(report)
        metrics.LOOKS.labels("done").inc()
        metrics.LOOK_TIME.set_to_current_time()

    def failed(self, why: str) -> None:
        """What was known is no longer: no figures are better than old ones."""
        self._state = (self._clock(), None, why)
        metrics.show_lag(None)
        metrics.LOOKS.labels("failed").inc()

    def __call__(self) -> tuple[bool, dict[str, Any]]:
        at, report, why = self._state
        age_s = self._clock() - at
        if report is None:
            return False, {"unhealthy": [why], "age_s": age_s}
        old = [f"Kafka was last looked at {age_s:.0f} s ago"] if age_s > OLD_S else []
        told = {
            "unhealthy": [*old, *report.unhealthy],
            "problems": list(report.problems),
            "roles": {one.role: one.state.value for one in report.roles},
            "chains": {one.chain: one.state.value for one in report.chains},
            "age_s": age_s,
        }
        return report.healthy and not old, told


async def _until_told(work: Any) -> int:
    """Run until done, SIGINT or SIGTERM; 0 where it was told to stop."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        return int(await task)
    except asyncio.CancelledError:
        return 0


def as_json(report: Report, target: Target) -> dict[str, Any]:
    """The object of `--json`; see the head of this module."""
    return {
        "healthy": report.healthy,
        "unhealthy": list(report.unhealthy),
        "problems": list(report.problems),
        "broker": target.kafka_url,
        "looked_s": round(report.looked_s, 3),
        "roles": [
            {
                "role": role.role,
                "group": role.group,
                "state": role.state.value,
                "healthy": role.state in HEALTHY,
                "reason": role.reason,
                "members": role.members,
                "behind": role.behind,
                "partitions": [_partition(part) for part in role.partitions],
            }
            for role in report.roles
        ],
        "chains": [_chain(chain) for chain in report.chains],
        "quarantined": report.quarantined,
        "alerts": report.alerts,
    }


def _partition(part: PartitionLag) -> dict[str, Any]:
    return {
        "topic": part.topic,
        "partition": part.partition,
        "committed": part.committed,
        "end": part.end,
        "behind": part.behind,
        "unmoved_s": round(part.unmoved_s, 3),
        "state": part.state.value,
        "reason": part.reason,
        "applied": {"block": part.applied.block, "time": part.applied.time} if part.applied else None,
        "behind_blocks": part.behind_blocks,
        "behind_s": part.behind_s,
    }


def _chain(chain: ChainLag) -> dict[str, Any]:
    return {
        "chain": chain.chain,
        "state": chain.state.value,
        "healthy": chain.state in HEALTHY,
        "reason": chain.reason,
        "stages": {stage: _stage(chain, mark) for stage, mark in chain.stages.items()},
        "verified_up_to": chain.verdict.verified_up_to if chain.verdict else None,
        "gap": {"first": chain.gap[0], "last": chain.gap[1]} if chain.gap else None,
        "gaps_accepted": chain.verdict.gaps if chain.verdict else None,
    }


def _stage(chain: ChainLag, mark: Mark | None) -> dict[str, Any] | None:
    if mark is None:
        return None
    blocks, seconds = chain.behind(mark)
    return {"block": mark.block, "time": mark.time, "behind_blocks": blocks, "behind_s": seconds}


def shown(report: Report) -> RenderableType:
    """The report for a terminal: chains, roles, and what is wrong."""
    return Group(*_rendered(report))


def _rendered(report: Report) -> Iterator[RenderableType]:
    if report.chains:
        yield _chains_table(report)
    yield _roles_table(report)
    yield f"quarantined {report.quarantined}, alerts {report.alerts}"
    yield from (cell(line, "red") for line in report.unhealthy)
    yield from (cell(line, "yellow") for line in report.problems)


def _table(*columns: str) -> Table:
    table = Table(title=columns[0] + "s", title_justify="left")
    for column in columns:
        table.add_column(
            column,
            justify="left" if column in LEFT else "right",
            no_wrap=column == "state",
            overflow="fold",
        )
    return table


def _chains_table(report: Report) -> Table:
    table = _table("chain", "stage", "block", "blocks behind", "seconds behind", "state")
    for chain in report.chains:
        for number, (stage, mark) in enumerate(chain.stages.items()):
            figures = [_text(mark.block if mark else None), *map(_text, chain.behind(mark))]
            state = _state(chain.state) if stage == INGESTED else ""
            table.add_row("" if number else cell(chain.chain), stage, *figures, state)
        if chain.verdict:
            accepted = f"{chain.verdict.gaps} gaps accepted" if chain.verdict.gaps else ""
            table.add_row("", "verified up to", _text(chain.verdict.verified_up_to), "", "", accepted)
    return table


def _roles_table(report: Report) -> Table:
    """One row a topic; of its partitions the worst."""
    table = _table("role", "topic", "messages behind", "blocks behind", "seconds behind", "state")
    for role in report.roles:
        running = "" if role.members is None else f"{role.members} running"
        table.add_row(role.role, running, _text(role.behind), "", "", _state(role.state))
        for topic in dict.fromkeys(part.topic for part in role.partitions):
            parts = [part for part in role.partitions if part.topic == topic and part.end]
            if not parts:
                continue
            blocks = [part.behind_blocks for part in parts if part.behind_blocks is not None]
            seconds = [part.behind_s for part in parts if part.behind_s is not None]
            figures = [_text(max(of)) if of else "" for of in (blocks, seconds)]
            state = worst(part.state for part in parts)
            table.add_row("", topic, _text(sum(part.behind for part in parts)), *figures, _state(state))
    return table


def _text(value: Any) -> str:
    if value is None:
        return "?"
    return f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"


def _state(state: State) -> str:
    return f"[{COLOURS.get(state, 'red')}]{state.value}[/]"


def _print_json(report: Report, target: Target) -> None:
    sys.stdout.buffer.write(orjson.dumps(as_json(report, target), option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()
