"""Alerts and quarantine: how what somebody must see becomes a message with a deterministic id."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any

import orjson

from pipeline.domain.posting.legs import Finding
from schemas.records import Alert, Quarantined


def deterministic_id(*parts: str) -> str:
    """32 hex digits that always name the same finding."""
    h = blake2b(digest_size=16)
    for part in parts:
        h.update(len(part).to_bytes(4, "big") + part.encode())
    return h.hexdigest()


def alert(
    rule: str,
    severity: str,
    chain: str,
    subject: str,
    *,
    block: int = -1,
    transaction: int = -1,
    time: Any = 0,
    evidence: dict[str, Any],
) -> Alert:
    """An alert; the same (rule, chain, subject) always has the same id."""
    return {
        "id": deterministic_id("alert", rule, chain, subject),
        "rule": rule,
        "severity": severity,  # type: ignore[typeddict-item]
        "chain": chain,
        "block": block,
        "transaction_index": transaction,
        "subject": subject,
        "time": time,
        "evidence": orjson.dumps(evidence, option=orjson.OPT_SORT_KEYS).decode(),
    }


def alerts_of(findings: Iterable[Finding], chain: str, block: int, time: Any) -> Iterator[Alert]:
    """The alerts of what posting rules found in one block."""
    for rule, severity, subject, transaction, evidence in findings:
        yield alert(
            rule, severity, chain, subject, block=block, transaction=transaction, time=time, evidence=evidence
        )


def quarantined(
    role: str,
    topic: str,
    partition: int,
    offset: int,
    epoch: str,
    reason: str,
    detail: str,
    value: bytes,
    *,
    key: bytes | None = None,
    time: int = 0,
    headers: tuple[tuple[str, bytes], ...] = (),
) -> Quarantined:
    """A message or recorded item that could not be processed, whole.

    Its id names the content and the place within its source, not the epoch: published again after a
    restart of the embedded broker it is the same item.
    """
    content = blake2b(value, digest_size=16).hexdigest()
    return {
        "id": deterministic_id("quarantine", role, topic, str(partition), content),
        "role": role,
        "source_topic": topic,
        "source_partition": partition,
        "source_offset": offset,
        "epoch": epoch,
        "time": time,
        "reason": reason,
        "detail": detail,
        "key": key,
        "value": value,
        "headers": [{"name": name, "value": data} for name, data in headers],
    }


def connect_headers(item: Quarantined) -> list[tuple[str, bytes]]:
    """The `__connect.errors.*` headers of a quarantined message, besides its original ones."""
    facts = {
        "topic": item["source_topic"],
        "partition": item["source_partition"],
        "offset": item["source_offset"],
        "stage": item["role"],
        "class.name": item["reason"],
        "exception.message": item["detail"],
    }
    return [
        *((header["name"], header["value"]) for header in item["headers"]),
        *((f"__connect.errors.{name}", str(value).encode()) for name, value in facts.items()),
    ]
