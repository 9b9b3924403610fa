"""Figures of `tidebook serve` for Prometheus, beside those of pipeline.metrics and in its manner."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import Final

from prometheus_client import Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from pipeline.metrics import REGISTRY

BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 5, 10, 30)
EVENTS: Final = Counter(
    "tidebook_intake_events", "Events by domain and outcome: accepted, refused.", ["domain", "outcome"],
    registry=REGISTRY,
)  # fmt: skip


class _Answers:
    """Answers by status and time: plain numbers, made into metrics at each scrape."""

    def __init__(self) -> None:
        self._statuses: dict[int, int] = {}
        self._slower = [0] * (len(BUCKETS_S) + 1)  # requests by the first bucket that holds them
        self._seconds = 0.0

    def add(self, status: int, seconds: float) -> None:
        self._statuses[status] = self._statuses.get(status, 0) + 1
        self._slower[bisect_left(BUCKETS_S, seconds)] += 1
        self._seconds += seconds

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("tidebook_api_requests", "Answers by status.", labels=["status"])
        for status, count in sorted(self._statuses.items()):
            requests.add_metric([str(status)], count)
        yield requests
        seconds = HistogramMetricFamily(
            "tidebook_api_request_seconds", "From a request's headers to the end of its answer."
        )
        marks = [*map(str, map(float, BUCKETS_S)), "+Inf"]
        seconds.add_metric([], list(zip(marks, accumulate(self._slower), strict=True)), self._seconds)
        yield seconds


_ANSWERS: Final = _Answers()
REGISTRY.register(_ANSWERS)


def answered(status: int, seconds: float) -> None:
    """One request is done."""
    _ANSWERS.add(status, seconds)


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
