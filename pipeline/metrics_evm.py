"""Prometheus metrics of the EVM ingest: per chain how far it is, how restless the chain, how its nodes are.

Asked of the ingest at each scrape (`show_evm`), so a chain or node that is gone leaves no stale series. Latency from
head to Kafka and the roles' own figures are pipeline.metrics'.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pipeline.metrics import REGISTRY, NodeFigures


@dataclass(frozen=True, slots=True)
class EvmFigures:
    """One EVM chain as its ingest knows it. Blocks are numbers, -1 where there is none; counts are totals since the
    process began."""

    chain: str
    latest: int  # newest that a node tells
    published: int  # topmost that stands in Kafka
    final: int  # last one that stays
    verified_up_to: int
    unfinal: int = 0  # how many stand above the last final one
    reorgs: int = 0
    deepest: int = 0  # blocks that the deepest of them took off
    retracted: int = 0  # blocks taken off by all of them
    too_deep: bool = False  # it waits before a reorganisation beyond its depth_limit
    failed: bool = False  # it has ended: it can't go on
    behind_s: float = 0.0  # how long nodes have had a block that is not published
    log_range: int = 0  # blocks of one eth_getLogs now
    caught: Mapping[str, int] = field(default_factory=dict)  # answers refused, by reason
    nodes: Sequence[NodeFigures] = ()


class _Shown:
    def __init__(self) -> None:
        self.chains: Callable[[], Iterable[EvmFigures]] | None = None

    def collect(self) -> Iterator[Metric]:
        if self.chains is not None:
            yield from evm_metrics(list(self.chains()))


_SHOWN: Final = _Shown()
REGISTRY.register(_SHOWN)


def show_evm(chains: Callable[[], Iterable[EvmFigures]] | None) -> None:
    """Ask `chains` at each scrape from now on; None: nothing is told."""
    _SHOWN.chains = chains


def evm_metrics(chains: Sequence[EvmFigures]) -> list[Metric]:
    """The EVM ingest's chains and their nodes."""
    return [*_blocks(chains), *_state(chains), *_nodes(chains)]


def _blocks(chains: Sequence[EvmFigures]) -> list[Metric]:
    block = GaugeMetricFamily(
        "tidebook_evm_block",
        "Block numbers of a chain: latest (of any node), published, final, verified; -1 = none.",
        labels=["chain", "stage"],
    )
    caught = CounterMetricFamily(
        "tidebook_evm_caught", "Answers of nodes that were refused, by reason.", labels=["chain", "reason"]
    )
    for one in chains:
        for stage, number in (
            ("latest", one.latest),
            ("published", one.published),
            ("final", one.final),
            ("verified", one.verified_up_to),
        ):
            block.add_metric([one.chain, stage], number)
        for reason, count in one.caught.items():
            caught.add_metric([one.chain, reason], count)
    return [block, caught]


def _state(chains: Sequence[EvmFigures]) -> list[Metric]:
    labels = ["chain"]
    unfinal = GaugeMetricFamily(
        "tidebook_evm_unfinal_blocks", "Blocks above the last final one: pending in the books.", labels=labels
    )
    deepest = GaugeMetricFamily(
        "tidebook_evm_reorg_depth_blocks_max",
        "Blocks that the deepest reorganisation took off.",
        labels=labels,
    )
    reorgs = CounterMetricFamily("tidebook_evm_reorgs", "Reorganisations published.", labels=labels)
    retracted = CounterMetricFamily(
        "tidebook_evm_retracted_blocks", "Blocks published as retracted.", labels=labels
    )
    too_deep = GaugeMetricFamily(
        "tidebook_evm_reorg_too_deep",
        "1 = it waits: the nodes show a reorganisation beyond depth_limit.",
        labels=labels,
    )
    failed = GaugeMetricFamily(
        "tidebook_evm_ingest_failed", "1 = the chain's ingest has ended: it can't go on.", labels=labels
    )
    behind = GaugeMetricFamily(
        "tidebook_evm_ingest_behind_seconds",
        "How long the nodes have had a block that is not published; 0 = none.",
        labels=labels,
    )
    log_range = GaugeMetricFamily(
        "tidebook_evm_log_range_blocks", "Blocks of one eth_getLogs, as it has adapted.", labels=labels
    )
    for one in chains:
        for family, value in (
            (unfinal, one.unfinal),
            (deepest, one.deepest),
            (reorgs, one.reorgs),
            (retracted, one.retracted),
            (too_deep, one.too_deep),
            (failed, one.failed),
            (behind, one.behind_s),
            (log_range, one.log_range),
        ):
            family.add_metric([one.chain], value)
    return [unfinal, deepest, reorgs, retracted, too_deep, failed, behind, log_range]


def _nodes(chains: Iterable[EvmFigures]) -> list[Metric]:
    """Nodes by chain: one address may serve several."""
    labels = ["chain", "node"]
    up = GaugeMetricFamily("tidebook_evm_node_up", "1 = it answers and is of our chain.", labels=labels)
    score = GaugeMetricFamily(
        "tidebook_evm_node_score", "1 = asked first, 0 = left alone for now.", labels=labels
    )
    requests = CounterMetricFamily("tidebook_evm_node_requests", "Requests sent to the node.", labels=labels)
    errors = CounterMetricFamily(
        "tidebook_evm_node_errors", "Answers that were none, by reason.", labels=[*labels, "reason"]
    )
    for one in chains:
        for node in one.nodes:
            names = [one.chain, node.name]
            up.add_metric(names, node.up)
            score.add_metric(names, node.score)
            requests.add_metric(names, node.requests)
            for reason, count in node.errors.items():
                errors.add_metric([*names, reason], count)
    return [up, score, requests, errors]
