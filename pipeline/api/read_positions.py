"""S1's and S4's questions: positions, their ledger events, authorizations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from pipeline.api import read_story as story
from pipeline.api.client import ApiError
from pipeline.api.read_clickhouse import ClickHouse
from pipeline.api.read_models import iso

Row = dict[str, Any]
_STATE: Final = """
SELECT value FROM application_states
WHERE domain = {domain:String} AND kind = {kind:String} AND id = {id:String} ORDER BY version DESC LIMIT 1"""
_EVENTS: Final = f"""
SELECT event_id, kind, position_id, previous_state, new_state, payload,
  toUnixTimestamp64Milli(created_at) AS created_ms, {story.PLACE}
FROM position_events
WHERE kind IN ('POSITION_CREATED', 'POSITION_STATE_CHANGED') /*only*/
  AND event_id IN (SELECT event_id FROM applied_events WHERE topic = 'positions.events.v1' /*of*/)
  AND {story.AFTER}
ORDER BY {story.ORDER} LIMIT {{limit:UInt32}}"""
# S1's names of what its events say.
_CREATED: Final = {
    "institution_id": "institutionId", "asset_id": "assetId", "holder_reference": "holderReference",
    "currency": "currency", "amount": "amount", "external_reference": "externalReference",
}  # fmt: skip
_CHANGED: Final = {
    "funder": "funder", "amount_released": "amountReleased", "release_date": "releaseDate", "recipient": "recipient",
    "invoice_reference": "invoiceReference",
}  # fmt: skip


class PositionReads:
    """Reads of positions and authorizations."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    async def state(self, domain: str, kind: str, id: str) -> Row | None:
        """The newest state, None where there is none."""
        rows = await self._clickhouse.rows(_STATE, {"domain": domain, "kind": kind, "id": id})
        return orjson.loads(rows[0]["value"]) if rows and rows[0]["value"] else None

    async def held(self, position_id: str) -> Row:
        """A position's state. Raises ApiError 404."""
        found = await self.state("positions", "position", position_id)
        if found is None:
            raise ApiError(
                404, "unknown_position", f"there is no position {position_id[:80]!r}", "positionId"
            )
        return found

    async def ledger_events(
        self, position_id: str | None, limit: int, cursor: str | None
    ) -> tuple[list[Row], str | None]:
        """(S1's ledger events of a position, or of all, ordered by `at`; the next page's cursor)."""
        values = {**story.after(cursor), "limit": limit + 1}
        sql = _EVENTS
        if position_id is not None:
            values["id"] = position_id
            sql = sql.replace("/*only*/", "AND position_id = {id:String}").replace(
                "/*of*/", "AND key = {id:String}"
            )
        rows = await self._clickhouse.rows(sql, values)
        shown, rest = story.page(rows, limit)
        return [_ledger_event(row) for row in shown], rest


def position(id: str, value: Row) -> Row:
    """S1's position in its own names."""
    return {
        "id": id, "institutionId": value["institution_id"], "assetId": value["asset_id"],
        "templateId": value.get("template_id"), "holderReference": value["holder_reference"],
        "currency": value["currency"], "amount": value["amount"], "state": value["state"],
        "remainder": value["remainder"], "funder": value.get("funder"),
        "externalReference": value.get("external_reference"), "attestations": value.get("attestations", []),
        "createdAt": iso(value["created_ms"]), "updatedAt": iso(value["updated_ms"]),
    }  # fmt: skip


def authorization(id: str, value: Row) -> Row:
    """S4's authorization."""
    times = {f"{name}_at": iso(value.get(f"{name}_ms")) for name in ("expires", "created", "updated")}
    told = {name: value.get(name) for name in ("user", "anchor", "amount", "state", "merchant", "attestor")}
    return {"authorization_id": id, **told, **times}


def _ledger_event(row: Mapping[str, Any]) -> Row:
    said = orjson.loads(row["payload"]) if row["payload"] else {}
    if row["kind"] == "POSITION_CREATED":
        payload = {name: said[ours] for ours, name in _CREATED.items() if said.get(ours) is not None}
    else:
        metadata = {name: said[ours] for ours, name in _CHANGED.items() if said.get(ours) is not None}
        if "releaseDate" in metadata:  # ClickHouse's way to write a time in JSON
            metadata["releaseDate"] = f"{metadata['releaseDate'].replace(' ', 'T')}Z"
        payload = {"reason": said.get("reason", ""), **({"metadata": metadata} if metadata else {})}
    return {
        "id": row["event_id"], "kind": row["kind"], "positionId": row["position_id"], "at": iso(row["at_ms"]),
        "previousState": row["previous_state"] or None, "newState": row["new_state"] or None, "payload": payload,
        "createdAt": iso(row["created_ms"]),
    }  # fmt: skip
