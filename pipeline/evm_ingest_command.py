"""`tidebook ingest evm`: follow EVM chains, as their nodes give them, to the broker."""

from __future__ import annotations

import asyncio
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.agents.runtime import spare_the_collector
from pipeline.app import end_with_stdin, make_codec, quiet_clients, serve_metrics
from pipeline.domain.position import PositionOverflow
from pipeline.evm_ingest import EvmIngest
from pipeline.ingest.chains import ChainError, ChainRegister
from pipeline.ingest.evm.config import SETTING, ChainConfig, ConfigError, read_config
from pipeline.ingest.evm.errors import Unusable
from pipeline.ingest.evm.nodes import NoNode
from pipeline.ingest.ledgers import Stopped
from pipeline.ingest.publish import Published
from pipeline.ingest.xrpl.start import StartError
from pipeline.ingest_telling import UNHEALTHY_S, Telling, no_broker, node_figures, until_told, wrong
from pipeline.metrics import MetricsError
from pipeline.metrics_evm import EvmFigures, show_evm
from pipeline.settings import Settings
from schemas.registry import NotRegistered
from topics.broker import BrokerError
from topics.producer import NoSuchTopic, Producer
from topics.schema_registry import RegistryError

ENDS = (NoNode, StartError, ChainError, Stopped, BrokerError, NoSuchTopic, RegistryError, NotRegistered,
        PositionOverflow, Unusable)  # fmt: skip


@dataclass(frozen=True)
class WantedEvm:
    """What the command line asks for."""

    chains: Sequence[str] = ()  # names; none: all of the file
    first: int | None = None
    last: int | None = None
    wait_s: float = 60.0


def ingest_evm(settings: Settings, wanted: WantedEvm, supervised: bool) -> int:
    """Follow the chains; 0 when the last block wanted is final everywhere or on SIGTERM, 1 if a chain can't go on
    (told in one line; the others went on), 2 for a wrong call or setting."""
    if supervised:
        end_with_stdin()
    if trouble := no_broker(settings):
        return wrong(trouble, 2)
    try:
        configs = _chosen(settings, wanted)
        register = ChainRegister(settings.chains_dir, settings.chains_file)
    except (ConfigError, ChainError) as error:
        return wrong(str(error), 2)
    quiet_clients()
    spare_the_collector()
    command = _Command(settings, wanted, supervised)
    show_evm(command.figures)
    try:
        server = serve_metrics(settings, command.health)
        try:
            asyncio.run(until_told(command.run(configs, register)))
        finally:
            if server is not None:
                server.close()
    except (BrokerError, NoSuchTopic, RegistryError, NotRegistered, MetricsError) as error:
        return wrong(str(error), 1)
    command.tell(ended=True)
    return command.status


def _chosen(settings: Settings, wanted: WantedEvm) -> list[ChainConfig]:
    """The chains to follow. Raises ConfigError."""
    if settings.evm_config is None:
        raise ConfigError(
            f"setting {SETTING} is empty: name a file of chains and contracts (form: deploy/evm.example.toml)"
        )
    found = read_config(settings.evm_config, os.environ)
    unknown = [name for name in wanted.chains if name not in found]
    if unknown:
        raise ConfigError(f"--chain {unknown[0]}: {settings.evm_config} has {', '.join(found)}")
    return [found[name] for name in wanted.chains or found]


class _Command:
    """One run of the command: an ingest per chain, told of together."""

    def __init__(self, settings: Settings, wanted: WantedEvm, supervised: bool) -> None:
        self._settings, self._wanted = settings, wanted
        self._telling = Telling(supervised)
        self._ingests: list[EvmIngest] = []
        self._failed: dict[str, str] = {}
        self.status = 0

    async def run(self, configs: Sequence[ChainConfig], register: ChainRegister) -> None:
        """All chains at once; one that can't go on is told and leaves the others be."""
        codec, producer = make_codec(self._settings), Producer(self._settings.kafka_url)
        await producer.start()
        try:
            wanted = self._wanted
            self._ingests = [
                EvmIngest(
                    self._settings, config, codec, producer, first=wanted.first, last=wanted.last,
                    wait_s=wanted.wait_s, tell=lambda _: self.tell(),
                )
                for config in configs
            ]  # fmt: skip
            await asyncio.gather(*(self._one(ingest, register) for ingest in self._ingests))
        finally:
            await producer.stop()

    async def _one(self, ingest: EvmIngest, register: ChainRegister) -> None:
        try:
            await ingest.run(register)
        except ENDS as error:
            self._end(ingest, str(error), 2 if isinstance(error, Unusable) else 1)
        except Exception as error:  # a defect: of this chain, the others go on
            traceback.print_exc()
            self._end(ingest, f"a defect: {type(error).__name__}: {error}", 1)

    def _end(self, ingest: EvmIngest, why: str, status: int) -> None:
        self._failed[ingest.name] = why
        self.status = max(self.status, status)
        sys.stderr.write(f"tidebook: {ingest.name}: {why}\n")
        sys.stderr.flush()
        self.tell()

    def tell(self, ended: bool = False) -> None:
        """To the supervisor or a person."""
        self._telling.tell(
            self._sum(), self._line, ended=ended, role="ingest-evm",
            chains={ingest.name: self._of(ingest) for ingest in self._ingests},
        )  # fmt: skip

    def _sum(self) -> Published:
        total = Published()
        for ingest in self._ingests:
            state = ingest.state
            total.ledgers += state.ledgers
            total.transactions += state.transactions
            total.quarantined += state.quarantined
            total.block = max(total.block, state.block)
            for topic, parts in state.next_offsets.items():
                known = total.next_offsets.setdefault(topic, {})
                for partition, offset in parts.items():
                    known[partition] = max(offset, known.get(partition, 0))
        return total

    def _of(self, ingest: EvmIngest) -> dict[str, Any]:
        """How one chain is."""
        nodes, follower, state = ingest.nodes, ingest.follower, ingest.state
        tip = follower.branch.tip if follower else None
        found: dict[str, Any] = {
            "block": tip[0] if tip else -1,
            "block_hash": tip[1] if tip else "",
            "final": follower.final if follower else -1,
            "latest": nodes.latest if nodes else -1,
            "blocks": state.ledgers,
            "transactions": state.transactions,
            "verified_up_to": state.verified_up_to,
            "caught": dict(nodes.count_caught) if nodes else {},
            "failed": self._failed.get(ingest.name, ""),
            "standby": ingest.standby,
        }
        if follower is not None:
            figures = follower.figures
            found |= {
                "unfinal": len(follower.unfinal),
                "reorgs": figures.reorgs,
                "retracted": figures.retracted,
                "deepest": figures.deepest,
                "too_deep": figures.too_deep,
                "waiting": figures.waiting,
            }
        return found

    def figures(self) -> list[EvmFigures]:
        """The chains for Prometheus."""
        found = []
        for ingest in self._ingests:
            of = self._of(ingest)
            found.append(EvmFigures(
                ingest.name, of["latest"], of["block"], of["final"], of["verified_up_to"], of.get("unfinal", 0),
                of.get("reorgs", 0), of.get("deepest", 0), of.get("retracted", 0), bool(of.get("too_deep")),
                bool(of["failed"]), ingest.seconds_behind(), ingest.log_range, of["caught"],
                node_figures(ingest.nodes.nodes if ingest.nodes else ()),
            ))  # fmt: skip
        return found

    def _line(self) -> str:
        parts = []
        for ingest in self._ingests:
            of = self._of(ingest)
            behind = f", {of['latest'] - of['block']} behind" if of["latest"] > of["block"] >= 0 else ""
            reorgs = f", {of['reorgs']} reorgs" if of.get("reorgs") else ""
            trouble = (
                of["failed"]
                or of.get("too_deep")
                or of.get("waiting")
                or (ingest.nodes.troubles() if ingest.nodes and not ingest.nodes.candidates() else "")
            )
            if of["standby"]:
                parts.append(f"{ingest.name}: standing by, another ingest writes")
                continue
            parts.append(
                f"{ingest.name} block {of['block']} (final {of['final']}, verified up to {of['verified_up_to']}"
                f"{behind}{reorgs}): {of['blocks']:,} blocks, {of['transactions']:,} transactions"
                f"{'; ' + trouble if trouble else ''}"
            )
        return f"{'; '.join(parts)} in {self._telling.seconds():.1f} s"

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Well: every chain goes on, some node of each can be asked, no reorganisation is too deep."""
        wrong_: list[str] = []
        for ingest in self._ingests:
            of = self._of(ingest)
            silent = ingest.seconds_behind()
            if of["failed"] or of.get("too_deep"):
                wrong_.append(f"{ingest.name}: {of['failed'] or of['too_deep']}")
            if ingest.nodes is None or not ingest.nodes.candidates():
                wrong_.append(f"{ingest.name}: no node can be asked")
            if silent > UNHEALTHY_S and not ingest.standby:
                why = f" ({of['waiting']})" if of.get("waiting") else ""
                wrong_.append(
                    f"{ingest.name}: behind its nodes and nothing published for {silent:.0f} s{why}"
                )
        return not wrong_, {
            "unhealthy": wrong_,
            "chains": {ingest.name: self._of(ingest) for ingest in self._ingests},
        }
