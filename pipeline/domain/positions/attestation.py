"""S1's dual ledger: what is queued for the chain, and how its confirmation comes back.

An attestation is S1's on-chain message {positionId, kind, payloadJson}. What goes to the chain is its digest alone, in
a transaction's memo: nothing of it can be read there, and whoever has the event can compute it. The digest covers the
event's id, so two equal steps of a position have two attestations, and a told-again event has the same one. The
pipeline finds the digest in final blocks and tells ATTESTATION_CONFIRMED: a fact of the chain, never refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import orjson

from pipeline.domain.applications.event import AppEvent, Change, Decision, Emit, Refusal, View
from pipeline.domain.findings import alert
from pipeline.domain.positions.registry import check_envelope, needed
from schemas.records import Alert, ChainOutbox

OUTBOX = "chain.outbox.v1"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DIGEST = re.compile("[0-9a-f]{64}").fullmatch


def iso(at_ms: int) -> str:
    """A time as S1 writes it: 2024-01-15T10:30:45.123Z."""
    moment = _EPOCH + timedelta(milliseconds=at_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def payload_json(payload: Mapping[str, Any]) -> str:
    """S1's payloadJson: fields in their order, without spaces."""
    return orjson.dumps(payload).decode()


def digest(event_id: str, position_id: str, kind: str, payload: str) -> str:
    """What goes to the chain: SHA-256 of the JSON {eventId, positionId, kind, payloadJson}, 64 hex digits."""
    said = {"eventId": event_id, "positionId": position_id, "kind": kind, "payloadJson": payload}
    return sha256(orjson.dumps(said)).hexdigest()


def queued(event: AppEvent, payload: Mapping[str, Any]) -> tuple[str, Change, Emit]:
    """(id, state, message) of the attestation of a position's event."""
    said = payload_json(payload)
    id = digest(event.id, event.key, event.type, said)
    record: ChainOutbox = {
        "attestation_id": id,
        "position_id": event.key,
        "event_id": event.id,
        "kind": event.type,
        "payload_json": said,
        "digest": id,
        "at": event.at_ms,
    }
    value = {
        "position_id": event.key, "event_id": event.id, "kind": event.type, "payload_json": said,
        "status": "queued", "queued_ms": event.at_ms, "chain": None, "tx_hash": None, "block": None,
        "transaction_index": None, "confirmed_ms": None,
    }  # fmt: skip
    return id, Change("attestation", id, value), Emit(OUTBOX, id, record)


def check_confirmed(event: AppEvent) -> None:
    """A digest, and where the pipeline met it: no client says what stands on a chain. Raises Refusal."""
    check_envelope(event)
    if not event.source.startswith("chain:"):
        raise Refusal("not_from_chain", "type", "the pipeline tells it of what it has seen on a chain")
    needed(event.data, "attestation_id", "chain", "tx_hash")
    if not _DIGEST(event.data["attestation_id"]):
        raise Refusal("bad_digest", "data.attestation_id", "it must be 64 hex digits in lower case")
    for name in ("block", "transaction_index"):
        if event.data[name] < 0:
            raise Refusal("negative", f"data.{name}", f"{event.data[name]} is below 0")


def confirmed(event: AppEvent, view: View) -> Decision:
    """The attestation stands on a chain. One that nobody queued, or that another transaction carried, is an alert."""
    data, id = event.data, event.data["attestation_id"]
    held = view.get("attestation", id)
    if held is None or event.key not in (id, held["position_id"]):
        return Decision(alerts=[_alert("attestation_unknown", event, {"key": event.key})])
    if held["status"] == "queued":
        found = {name: data[name] for name in ("chain", "tx_hash", "block", "transaction_index")}
        after = {**held, **found, "status": "confirmed", "confirmed_ms": event.at_ms}
        return Decision([Change("attestation", id, after)])
    if (held["chain"], held["tx_hash"]) == (data["chain"], data["tx_hash"]):
        return Decision()
    first = {"chain": held["chain"], "tx_hash": held["tx_hash"], "block": held["block"]}
    return Decision(alerts=[_alert("attestation_twice", event, {"first": first})])


def _alert(rule: str, event: AppEvent, more: Mapping[str, Any]) -> Alert:
    data = event.data
    return alert(
        rule, "warning", data["chain"], f"{data['attestation_id']}/{data['tx_hash']}", block=data["block"],
        transaction=data["transaction_index"], time=event.at_ms, evidence={**data, **more},
    )  # fmt: skip
