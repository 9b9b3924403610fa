"""Figures of `tidebook serve` for Prometheus, beside those of pipeline.metrics and in its manner."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric

from pipeline.metrics import REGISTRY

REQUESTS: Final = Counter(
    "tidebook_api_requests", "Answers by status: 2xx is one status each.", ["status"], registry=REGISTRY
)
SECONDS: Final = Histogram(
    "tidebook_api_request_seconds",
    "From a request's headers to the end of its answer.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 5, 10, 30),
    registry=REGISTRY,
)
EVENTS: Final = Counter(
    "tidebook_intake_events", "Events by domain and outcome: accepted, refused.", ["domain", "outcome"],
    registry=REGISTRY,
)  # fmt: skip

_STATUSES: Final = {status: REQUESTS.labels(str(status)) for status in (200, 202, 401, 409, 422, 429)}


def answered(status: int, seconds: float) -> None:
    """One request is done."""
    (_STATUSES.get(status) or REQUESTS.labels(str(status))).inc()
    SECONDS.observe(seconds)


def told(domain: str, accepted: int, refused: int) -> None:
    """Events have come in."""
    if accepted:
        EVENTS.labels(domain, "accepted").inc(accepted)
    if refused:
        EVENTS.labels(domain, "refused").inc(refused)


class _Backlog:
    """What waits for Kafka, counted at each scrape."""

    def __init__(self) -> None:
        self.ask: Callable[[], Mapping[str, int]] | None = None

    def collect(self) -> Iterator[Metric]:
        if self.ask is not None:
            family = GaugeMetricFamily(
                "tidebook_intake_backlog_events",
                "Events accepted and not yet acknowledged by Kafka.",
                labels=["topic"],
            )
            for topic, count in self.ask().items():
                family.add_metric([topic], count)
            yield family


_BACKLOG: Final = _Backlog()
REGISTRY.register(_BACKLOG)


def show_backlog(ask: Callable[[], Mapping[str, int]] | None) -> None:
    """Ask at each scrape; None: nothing any more."""
    _BACKLOG.ask = ask
