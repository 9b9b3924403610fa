"""`tidebook ingest file|xrpl`: publish ledgers, recorded or as nodes give them, to the broker."""

from __future__ import annotations

import asyncio
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline import metrics
from pipeline.agents.runtime import spare_the_collector
from pipeline.app import end_with_stdin, make_codec, quiet_clients, serve_metrics
from pipeline.domain.verdict import Level, Watermark
from pipeline.domain.xrpl_validation import ValidationError
from pipeline.ingest.chains import ChainError, ChainRegister
from pipeline.ingest.ledgers import LedgerLine, read_headers
from pipeline.ingest.publish import LEDGERS, Published, Publisher
from pipeline.ingest.recorded import read_ledgers
from pipeline.ingest.runner import publish_recording
from pipeline.ingest.state_pages import SnapshotError
from pipeline.ingest.xrpl.address import AddressError
from pipeline.ingest.xrpl.follow import Forked
from pipeline.ingest.xrpl.node import Unusable
from pipeline.ingest.xrpl.nodes import NoNode
from pipeline.ingest.xrpl.start import StartError
from pipeline.ingest_telling import UNHEALTHY_S, Telling, no_broker, node_figures, until_told, wrong
from pipeline.metrics import MetricsError
from pipeline.settings import Settings
from pipeline.xrpl_ingest import Wanted, XrplIngest
from schemas.registry import NotRegistered
from topics.broker import BrokerError
from topics.producer import NoSuchTopic, Producer
from topics.schema_registry import RegistryError


def ingest_files(
    settings: Settings,
    files: list[Path],
    chain_name: str | None,
    accept_gap: bool,
    level: Level,
    supervised: bool,
) -> int:
    """Publish; 0, 1 if it had to stop (told in one line), 2 for a wrong call, 3 on an accepted gap."""
    if supervised:
        end_with_stdin()
    if trouble := no_broker(settings):
        return wrong(trouble, 2)
    try:
        register = ChainRegister(settings.chains_dir, settings.chains_file)
        chain = register.find(chain_name) if chain_name else register.identify(read_headers(files), None)
    except ChainError as error:
        return wrong(str(error), 1)
    telling = Telling(supervised)

    async def main() -> Published:
        codec, producer = make_codec(settings), Producer(settings.kafka_url)
        line = LedgerLine(chain, accept_gap, lambda record: codec.encode(LEDGERS, record), level)
        mark = Watermark(chain.name, chain.number, level)
        await producer.start()
        try:
            publisher = Publisher(chain, codec, producer, mark, settings.epoch)
            return await publish_recording(read_ledgers(files), line, publisher, telling.tell)
        finally:
            await producer.stop()

    quiet_clients()
    spare_the_collector()
    try:
        state = asyncio.run(main())
    except (BrokerError, NoSuchTopic, RegistryError, NotRegistered) as error:
        return wrong(str(error), 1)
    telling.tell(state, ended=True)
    if supervised:
        return 0  # the supervisor judges
    if state.stopped:
        return wrong(f"ingest of {chain.name} stopped: {state.stopped}", 1)
    print(f"{chain.name}: {state.ledgers} ledgers, {state.transactions} transactions published")
    return 3 if state.gaps else 0


def ingest_xrpl(settings: Settings, wanted: Wanted, supervised: bool) -> int:
    """Follow nodes; 0 when the last ledger wanted is published or on SIGTERM, 1 if it can't go on (told in
    one line), 2 for a wrong call or setting, 3 on an accepted gap."""
    if supervised:
        end_with_stdin()
    if trouble := no_broker(settings):
        return wrong(trouble, 2)
    quiet_clients()
    spare_the_collector()
    telling, figures = Telling(supervised), Figures()

    def tell(ingest: XrplIngest) -> None:
        figures.count(ingest)
        telling.tell(ingest.state, lambda: _line(ingest, telling.seconds()), nodes=_nodes(ingest))

    try:
        ingest = XrplIngest(settings, wanted, tell)
        metrics.show_nodes(lambda: figures.nodes(ingest))
        server = serve_metrics(settings, lambda: figures.health(ingest))
        try:
            asyncio.run(until_told(ingest.run()))
        finally:
            if server is not None:
                server.close()
    except (AddressError, ValidationError, Unusable) as error:
        return wrong(str(error), 2)
    except (
        NoNode,
        StartError,
        ChainError,
        Forked,
        BrokerError,
        NoSuchTopic,
        RegistryError,
        NotRegistered,
        MetricsError,
        SnapshotError,
    ) as error:
        return wrong(str(error), 1)
    state = ingest.state
    telling.tell(state, lambda: _line(ingest, telling.seconds()), ended=True, nodes=_nodes(ingest))
    return 3 if state.gaps and not supervised else 0


class Figures:
    """The ingest's metrics: what was published since the last look, how long it took, how its nodes are."""

    def __init__(self) -> None:
        self._ledgers = self._transactions = self._measured = 0

    def count(self, ingest: XrplIngest) -> None:
        state, follower = ingest.state, ingest.follower
        if ingest.chain is None or follower is None:
            return
        name = ingest.chain.name
        metrics.ingest_published(
            name, state.ledgers - self._ledgers, state.transactions - self._transactions, state.block,
            state.verified_up_to,
        )  # fmt: skip
        self._ledgers, self._transactions = state.ledgers, state.transactions
        fresh = min(follower.measured - self._measured, len(follower.latencies))
        for seconds in islice(follower.latencies, len(follower.latencies) - fresh, None):
            metrics.ingest_latency(name, seconds)
        self._measured = follower.measured
        gap = state.open_gap
        metrics.ingest_gap(name, gap[1] - gap[0] + 1 if gap else 0)

    @staticmethod
    def nodes(ingest: XrplIngest) -> list[metrics.NodeFigures]:
        return node_figures(ingest.nodes.nodes if ingest.nodes else ())

    @staticmethod
    def health(ingest: XrplIngest) -> tuple[bool, dict[str, Any]]:
        """Well: some node can be asked, no gap is open, and what nodes have validated gets published."""
        state, pool = ingest.state, ingest.nodes
        usable = sum(node.usable for node in pool.nodes) if pool else 0
        silent = ingest.seconds_behind()
        wrong = [
            *(["no node can be asked"] if not usable else []),
            *([f"ledgers {state.open_gap[0]}-{state.open_gap[1]} are on no node"] if state.open_gap else []),
            *([f"behind its nodes and nothing published for {silent:.0f} s"] if silent > UNHEALTHY_S else []),
        ]
        return not wrong, {
            "unhealthy": wrong, "block": state.block, "tip": pool.tip if pool else -1, "nodes_usable": usable,
        }  # fmt: skip


def _nodes(ingest: XrplIngest) -> list[dict[str, Any]]:
    """What is known of each node, for status, metrics and people."""
    if ingest.nodes is None:
        return []
    return [
        {
            "node": node.name,
            "usable": node.usable,
            "validated": node.state.validated,
            "requests": node.state.requests,
            "errors": node.state.errors,
            "last_error": node.state.last_error,
        }
        for node in ingest.nodes.nodes
    ]


def _line(ingest: XrplIngest, seconds: float) -> str:
    state, tip = ingest.state, ingest.nodes.tip if ingest.nodes else -1
    name = ingest.chain.name if ingest.chain else ""
    behind = f", {tip - state.block} behind" if tip > state.block >= 0 else ""
    gap = f"; OPEN GAP {state.open_gap[0]}-{state.open_gap[1]}" if state.open_gap else ""
    return (
        f"{name} ledger {state.block} (verified up to {state.verified_up_to}{behind}): {state.ledgers:,} ledgers, "
        f"{state.transactions:,} transactions in {seconds:.1f} s{gap}"
    )
