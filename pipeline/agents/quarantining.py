"""A message that a role can't apply goes to quarantine.v1 whole, and an alert tells of it."""

from __future__ import annotations

from pipeline.agents.role import Message
from pipeline.domain.findings import alert, connect_headers, quarantined
from schemas.codec import Codec
from schemas.records import Quarantined
from topics.envelope import outgoing
from topics.producer import Outgoing


def quarantine(codec: Codec, role: str, message: Message, epoch: str, reason: str, detail: str) -> Outgoing:
    """The message as an item of quarantine.v1."""
    return _outgoing(codec, message, _item(role, message, epoch, reason, detail))


def quarantine_loudly(
    codec: Codec, role: str, message: Message, epoch: str, reason: str, detail: str, chain: str
) -> list[Outgoing]:
    """The same, and a critical alert about `chain` (a chain's name, or an application's topic)."""
    item = _item(role, message, epoch, reason, detail)
    note = alert(
        "quarantined", "critical", chain, item["id"], time=message.timestamp_ms,
        evidence={"topic": message.topic, "reason": reason, "detail": detail},
    )  # fmt: skip
    return [_outgoing(codec, message, item), outgoing(codec, "control.alerts.v1", "quarantined", note)]


def _item(role: str, message: Message, epoch: str, reason: str, detail: str) -> Quarantined:
    return quarantined(
        role, message.topic, message.partition, message.offset, epoch, reason, detail,
        message.value, key=message.key, time=message.timestamp_ms, headers=message.headers,
    )  # fmt: skip


def _outgoing(codec: Codec, message: Message, item: Quarantined) -> Outgoing:
    return outgoing(codec, "quarantine.v1", message.key, item, headers=connect_headers(item))
