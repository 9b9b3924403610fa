"""Prometheus metrics: every definition in one place, and the HTTP server for /metrics and /health.

Names are `tidebook_*` with their unit last; what a person has to know of one stands in its help text. Two
kinds live here. What a process counts of its own work (`role_progress`, `ingest_published` …) is an ordinary
counter. What is judged from Kafka (`show_lag`) or asked of the ingest (`show_nodes`) is rebuilt at each scrape,
so that a partition, node or chain that is gone leaves no stale series behind. Nodes are labelled by address
without credentials. The EVM ingest's are in pipeline.metrics_evm.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import orjson
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    make_wsgi_app,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pipeline.domain.lag import HEALTHY, INGEST, Report, State

SETTING: Final = "TIDEBOOK_METRICS_PORT"
REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

# What a role does, told by its own process.

ROLE_BATCHES: Final = Counter(
    "tidebook_role_batches", "Batches done and acknowledged.", ["role"], registry=REGISTRY
)
ROLE_MESSAGES: Final = Counter(
    "tidebook_role_messages", "Messages of those batches.", ["role"], registry=REGISTRY
)
ROLE_DONE: Final = Counter(
    "tidebook_role_done",
    "What came of them, by kind: blocks, transactions, transfers, rows, duplicates, changes, quarantined.",
    ["role", "kind"],
    registry=REGISTRY,
)
ROLE_BLOCK: Final = Gauge(
    "tidebook_role_block", "Last block that this process is done with.", ["role"], registry=REGISTRY
)
ROLE_BATCH_SECONDS: Final = Histogram(
    "tidebook_role_batch_seconds",
    "From taking a batch to its effect being durable and published.",
    ["role"],
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    registry=REGISTRY,
)
ROLE_PROGRESS_TIME: Final = Gauge(
    "tidebook_role_last_progress_timestamp_seconds",
    "When this process last finished a batch (seconds since 1970). Old is no fault where nothing waits: see "
    "tidebook_consumer_lag_messages.",
    ["role"],
    registry=REGISTRY,
)

# What the ingest does, told by its own process.

INGEST_LEDGERS: Final = Counter(
    "tidebook_ingest_ledgers", "Ledgers published and acknowledged.", ["chain"], registry=REGISTRY
)
INGEST_TRANSACTIONS: Final = Counter(
    "tidebook_ingest_transactions", "Transactions of those ledgers.", ["chain"], registry=REGISTRY
)
INGEST_BLOCK: Final = Gauge(
    "tidebook_ingest_block", "Last ledger published by this process.", ["chain"], registry=REGISTRY
)
INGEST_VERIFIED: Final = Gauge(
    "tidebook_ingest_verified_up_to_block",
    "Last ledger such that all of its run up to it are verified; -1 = none.",
    ["chain"],
    registry=REGISTRY,
)
INGEST_GAP: Final = Gauge(
    "tidebook_ingest_gap_ledgers",
    "Ledgers that no node has and that are waited for; 0 = no gap is open.",
    ["chain"],
    registry=REGISTRY,
)
INGEST_PUBLISH_SECONDS: Final = Histogram(
    "tidebook_ingest_publish_seconds",
    "From hearing that a ledger is validated to Kafka's acknowledgement of it; live ledgers only.",
    ["chain"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    registry=REGISTRY,
)

LOOKS: Final = Counter(
    "tidebook_lag_looks",
    "Looks that `tidebook lag` took at Kafka, by what came of them: done, failed.",
    ["outcome"],
    registry=REGISTRY,
)
LOOK_TIME: Final = Gauge(
    "tidebook_lag_look_timestamp_seconds",
    "When Kafka was last looked at (seconds since 1970): the figures below are as old as that.",
    registry=REGISTRY,
)


def role_progress(role: str, messages: int, counts: Mapping[str, int], seconds: float) -> None:
    """One batch of a role is done: `counts` as its Done.counts, of which "block" is a level."""
    ROLE_BATCHES.labels(role).inc()
    ROLE_MESSAGES.labels(role).inc(messages)
    for kind, count in counts.items():
        if kind == "block":
            ROLE_BLOCK.labels(role).set(count)
        elif kind != "messages":
            ROLE_DONE.labels(role, kind).inc(count)
    ROLE_BATCH_SECONDS.labels(role).observe(seconds)
    ROLE_PROGRESS_TIME.labels(role).set_to_current_time()


def ingest_published(chain: str, ledgers: int, transactions: int, block: int, verified_up_to: int) -> None:
    """A batch of ledgers is acknowledged; `block` is the last of them."""
    INGEST_LEDGERS.labels(chain).inc(ledgers)
    INGEST_TRANSACTIONS.labels(chain).inc(transactions)
    INGEST_BLOCK.labels(chain).set(block)
    INGEST_VERIFIED.labels(chain).set(verified_up_to)


def ingest_latency(chain: str, seconds: float) -> None:
    """One live ledger: from hearing that it is validated to its acknowledgement."""
    INGEST_PUBLISH_SECONDS.labels(chain).observe(seconds)


def ingest_gap(chain: str, ledgers: int) -> None:
    """So many ledgers are missing on every node; 0 when the gap is closed."""
    INGEST_GAP.labels(chain).set(ledgers)


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """One node as the ingest knows it; requests and errors are totals since the process began."""

    name: str  # address without credentials
    up: bool  # connected, synced and of our chain
    score: float  # 1 = asked first, 0 = not at all for now
    requests: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)  # reason → how many


class _Shown:
    """What is rebuilt at each scrape: the lag report and the nodes."""

    def __init__(self) -> None:
        self.report: Report | None = None
        self.nodes: Callable[[], Iterable[NodeFigures]] | None = None

    def collect(self) -> Iterator[Metric]:
        if self.nodes is not None:
            yield from node_metrics(list(self.nodes()))
        if self.report is not None:
            yield from lag_metrics(self.report)


_SHOWN: Final = _Shown()
REGISTRY.register(_SHOWN)


def show_lag(report: Report | None) -> None:
    """This report is what /metrics tells from now on; None: nothing is known."""
    _SHOWN.report = report


def show_nodes(nodes: Callable[[], Iterable[NodeFigures]]) -> None:
    """Ask `nodes` at each scrape."""
    _SHOWN.nodes = nodes


def node_metrics(nodes: Iterable[NodeFigures]) -> list[Metric]:
    """The ingest's nodes."""
    up = GaugeMetricFamily("tidebook_node_up", "1 = connected, synced and of our chain.", labels=["node"])
    score = GaugeMetricFamily(
        "tidebook_node_score", "1 = asked first, 0 = left alone for now.", labels=["node"]
    )
    requests = CounterMetricFamily("tidebook_node_requests", "Requests sent to the node.", labels=["node"])
    errors = CounterMetricFamily(
        "tidebook_node_errors", "Answers that were none, by reason.", labels=["node", "reason"]
    )
    for node in nodes:
        up.add_metric([node.name], node.up)
        score.add_metric([node.name], node.score)
        requests.add_metric([node.name], node.requests)
        for reason, count in node.errors.items():
            errors.add_metric([node.name, reason], count)
    return [up, score, requests, errors]


def lag_metrics(report: Report) -> list[Metric]:
    """A lag report as metrics."""
    total = GaugeMetricFamily("tidebook_quarantine_messages", "Messages in quarantine.v1.")
    total.add_metric([], report.quarantined)
    alerts = GaugeMetricFamily("tidebook_alert_messages", "Messages in control.alerts.v1.")
    alerts.add_metric([], report.alerts)
    healthy = GaugeMetricFamily("tidebook_healthy", "1 = every role and every chain is healthy.")
    healthy.add_metric([], report.healthy)
    return [healthy, total, alerts, *_consumers(report), *_roles(report), *_chains(report)]


def _consumers(report: Report) -> list[Metric]:
    labels = ["group", "topic", "partition"]
    committed = GaugeMetricFamily(
        "tidebook_consumer_committed_offset",
        "Next offset to apply; absent = nothing committed yet.",
        labels=labels,
    )
    end = GaugeMetricFamily("tidebook_consumer_end_offset", "Next offset to be written.", labels=labels)
    messages = GaugeMetricFamily("tidebook_consumer_lag_messages", "Messages not yet applied.", labels=labels)
    blocks = GaugeMetricFamily(
        "tidebook_consumer_lag_blocks",
        "Ledgers or blocks not yet applied, of topics of chains.",
        labels=labels,
    )
    seconds = GaugeMetricFamily(
        "tidebook_consumer_lag_seconds",
        "Between the close times of the last block applied and the last one in the topic.",
        labels=labels,
    )
    for role in report.roles:
        for part in role.partitions:
            names = [role.group, part.topic, str(part.partition)]
            for family, value in (
                (committed, part.committed),
                (end, part.end),
                (messages, part.behind),
                (blocks, part.behind_blocks),
                (seconds, part.behind_s),
            ):
                if value is not None:
                    family.add_metric(names, value)
    return [committed, end, messages, blocks, seconds]


def _roles(report: Report) -> list[Metric]:
    healthy = GaugeMetricFamily(
        "tidebook_role_healthy",
        "0 = behind and not moving: stopped, stalled or not running. Of the ingest one a chain.",
        labels=["role", "chain"],
    )
    states = GaugeMetricFamily(
        "tidebook_role_state", "1 = the role is in this state.", labels=["role", "chain", "state"]
    )
    members = GaugeMetricFamily(
        "tidebook_role_members", "Processes in the role's consumer group.", labels=["role"]
    )
    judged = [(one.role, "", one.state) for one in report.roles]
    judged += [(INGEST, one.chain, one.state) for one in report.chains]
    for role, chain, state in judged:
        healthy.add_metric([role, chain], state in HEALTHY)
        for each in State:
            states.add_metric([role, chain, each.value], state == each)
    for one in report.roles:
        if one.members is not None:
            members.add_metric([one.role], one.members)
    return [healthy, states, members]


def _chains(report: Report) -> list[Metric]:
    labels = ["chain", "stage"]
    block = GaugeMetricFamily(
        "tidebook_chain_block",
        "Last block of each stage: head (newest validated that a node tells), ingested, final (of EVM chains), "
        "books, state, history.",
        labels=labels,
    )
    blocks = GaugeMetricFamily(
        "tidebook_chain_lag_blocks",
        "Blocks from the stage to the head; to what is ingested where no node tells.",
        labels=labels,
    )
    seconds = GaugeMetricFamily("tidebook_chain_lag_seconds", "The same between close times.", labels=labels)
    verified = GaugeMetricFamily(
        "tidebook_verified_up_to_block",
        "Last block such that all of its run up to it are verified; -1 = none.",
        labels=["chain"],
    )
    is_open = GaugeMetricFamily(
        "tidebook_gaps_open", "1 = blocks are missing on every node.", labels=["chain"]
    )
    missing = GaugeMetricFamily("tidebook_gap_open_blocks", "How many blocks are missing.", labels=["chain"])
    accepted = GaugeMetricFamily("tidebook_gaps_accepted", "Gaps that somebody accepted.", labels=["chain"])
    for chain in report.chains:
        for stage, mark in chain.stages.items():
            far = chain.behind(mark)
            for family, value in ((block, mark.block if mark else None), (blocks, far[0]), (seconds, far[1])):
                if value is not None:
                    family.add_metric([chain.chain, stage], value)
        if chain.verdict is not None:
            verified.add_metric([chain.chain], chain.verdict.verified_up_to)
            accepted.add_metric([chain.chain], chain.verdict.gaps)
        gap = chain.gap
        is_open.add_metric([chain.chain], gap is not None)
        missing.add_metric([chain.chain], gap[1] - gap[0] + 1 if gap else 0)
    return [block, blocks, seconds, verified, is_open, missing, accepted]


Health = Callable[[], tuple[bool, Mapping[str, Any]]]


class MetricsError(RuntimeError):
    """The port can't be listened on; the message names the setting."""


class Server:
    """A running server; `close` ends it."""

    def __init__(self, server: WSGIServer) -> None:
        self._server = server
        self.port = int(server.server_port)
        self._thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are no news."""


def serve(host: str, port: int, health: Health) -> Server:
    """Serve /metrics and /health in a thread, until closed; `port` 0 = any free one (`Server.port`).

    `health` gives (well, what to tell as JSON); 200 or 503. Raises MetricsError, a port in use among them.
    """
    metrics = make_wsgi_app(REGISTRY)

    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/metrics":
            return list(metrics(environ, start_response))
        if environ["PATH_INFO"] != "/health":
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"there are /metrics and /health\n"]
        well, told = health()
        status = "200 OK" if well else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json")])
        return [orjson.dumps({"healthy": well, **told}, default=str) + b"\n"]

    try:
        return Server(make_server(host, port, answer, server_class=_server(host), handler_class=_Quiet))
    except (OSError, OverflowError) as cause:
        raise MetricsError(
            f"setting {SETTING}={port}: cannot listen on {host}:{port}: {cause}; choose a free port"
        ) from None


def _server(host: str) -> type[WSGIServer]:
    """Threaded, so that a slow reader holds nobody; of the address family of `host`."""
    from prometheus_client.exposition import ThreadingWSGIServer

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return type("MetricsServer", (ThreadingWSGIServer,), {"address_family": family, "allow_reuse_address": 1})
