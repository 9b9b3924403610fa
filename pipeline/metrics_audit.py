"""Prometheus metrics of the conservation audit, told by the process of the history role."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from prometheus_client import Gauge

from pipeline.domain.audit import CHECKS, Result
from pipeline.metrics import REGISTRY

FINDINGS: Final = Gauge(
    "tidebook_audit_findings",
    "What the last audit found wrong, by check; 0 = all is well. docs/operations.md, Audit, says what to do.",
    ["check"],
    registry=REGISTRY,
)
LAST_OK: Final = Gauge(
    "tidebook_audit_last_ok_timestamp_seconds",
    "When an audit last found nothing wrong and could look at everything (seconds since 1970); 0 = never.",
    registry=REGISTRY,
)
LAST: Final = Gauge(
    "tidebook_audit_last_timestamp_seconds",
    "When an audit last ended (seconds since 1970).",
    registry=REGISTRY,
)
SECONDS: Final = Gauge("tidebook_audit_seconds", "How long the last audit took.", registry=REGISTRY)


def audited(results: Iterable[Result], left: bool, seconds: float, at: float) -> None:
    """An audit has ended at `at` (seconds since 1970). `left`: there was more to look at than it could."""
    results = list(results)
    wrong = Counter(one.check for one in results if one.ok is False)
    for check in CHECKS:
        FINDINGS.labels(check).set(wrong[check])
    LAST.set(at)
    SECONDS.set(seconds)
    if not left and all(one.ok for one in results):
        LAST_OK.set(at)
