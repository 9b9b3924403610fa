"""S0's questions: an asset as it is, what happened to it, whose what is, gas in managed custody."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import orjson

from pipeline.api import read_story as story
from pipeline.api.client import ApiError
from pipeline.api.read_clickhouse import ClickHouse, Gather
from pipeline.api.read_models import Activity, Asset, iso, of_cursor, to_cursor
from pipeline.reports.gas import TYPES as GAS_TYPES

Row = dict[str, Any]
ROUNDS_MAX: Final = 4  # of candidates for one page: what was somebody's once need not be so now
FIRST_PAGE: Final = 50  # longest page that is asked for together with those of other assets
_ACTIVITY: Final = tuple(name for name in Activity.model_fields if name != "payload")
_COLUMNS: Final = f"event_id, type, asset_id, user_id, app_id, source, payload, social, {story.PLACE}"
# An event counts once it is applied.
_APPLIED: Final = (
    "event_id IN (SELECT event_id FROM applied_events"
    " WHERE topic = 'assets.activity.v1' AND key IN {ids:Array(String)})"
)
_STATES: Final = """
SELECT id, version, value, toUnixTimestamp64Milli(at) AS at_ms FROM application_states
WHERE domain = 'assets' AND kind = 'asset' AND id IN {ids:Array(String)}
ORDER BY id, version DESC LIMIT 1 BY id
SETTINGS optimize_read_in_order = 0"""
_DEFAULTS: Final[Mapping[str, Any]] = {
    name: field.get_default(call_default_factory=True)
    for name, field in Asset.model_fields.items()
    if not field.is_required()
}


class AssetReads:
    """Reads of assets. Every method raises ApiError 503 where ClickHouse gives no answer."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse
        self._states = Gather(self._ask_states)
        self._owned = Gather(self._ask_owned)
        self._first = {gas: Gather(partial(self._ask_first, gas=gas), wait_s=0.06) for gas in (False, True)}

    async def asset(self, asset_id: str) -> Row:
        """An asset as it is. Raises ApiError 404."""
        found = await self._states.get(asset_id)
        if found is None:
            raise ApiError(404, "unknown_asset", f"there is no asset {asset_id[:80]!r}", "asset_id")
        return found

    async def _ask_states(self, ids: Sequence[str]) -> dict[str, Row]:
        rows = await self._clickhouse.rows(_STATES, {"ids": list(ids)})
        return {row["id"]: _asset(row) for row in rows if row["value"]}

    async def _ask_first(self, ids: Sequence[str], gas: bool) -> dict[str, list[Row]]:
        """The first transactions and the first events of each asset, for whichever question."""
        sql = (
            f"SELECT {_COLUMNS} FROM {_source('history', gas)} WHERE {_APPLIED} ORDER BY {story.ORDER}"
            f" LIMIT {FIRST_PAGE + 1} BY asset_id, social SETTINGS optimize_read_in_order = 0"
        )
        found: dict[str, list[Row]] = defaultdict(list)
        for row in await self._clickhouse.rows(sql, {"ids": list(ids)}):
            found[row["asset_id"]].append(row)
        return found

    async def activity(
        self, what: str, asset_id: str, limit: int, cursor: str | None, gas: bool
    ) -> tuple[list[Row], str | None]:
        """(transactions, events or history of an asset, oldest first; the next page's cursor). `gas`: with gas."""
        values = {**story.after(cursor), "ids": [asset_id], "limit": limit + 1}
        if not cursor and limit <= FIRST_PAGE:
            told = await self._first[gas].get(asset_id) or []
            rows = [row for row in told if row["social"] in _SOCIAL[what]]
        else:
            sql = (
                f"SELECT {_COLUMNS} FROM {_source(what, gas)} WHERE {_APPLIED} AND {story.AFTER}"
                f" ORDER BY {story.ORDER} LIMIT {{limit:UInt32}}"
            )
            rows = await self._clickhouse.rows(sql, values)
        shown, rest = story.page(rows, limit)
        return [_activity(row) for row in shown], rest

    async def assets(
        self, filters: Mapping[str, str], limit: int, cursor: str | None
    ) -> tuple[list[Row], str | None]:
        """(assets by id, the next page's cursor). Filters: owner, app, type, container.

        Candidates are what any state of an asset makes one; what it is now decides. A page may be short.
        """
        (after,) = of_cursor(cursor, str) or ("",)
        found: list[Row] = []
        for _ in range(ROUNDS_MAX):
            wanted = limit - len(found)
            ids = await self._candidates(filters, after, wanted)
            states = await self._now(ids)
            found += [states[id] for id in ids if id in states and _fits(states[id], filters)]
            if len(ids) < wanted:
                return found, None
            after = ids[-1]
            if len(found) >= limit:
                break
        return found, to_cursor(after)

    async def _candidates(self, filters: Mapping[str, str], after: str, limit: int) -> list[str]:
        if "owner" in filters and after == "" and limit <= FIRST_PAGE:
            return (await self._owned.get(filters["owner"]) or [])[:limit]
        values: dict[str, Any] = {**filters, "after": after, "limit": limit}
        asked = [_FILTERS[name] for name in filters if name != "owner"]
        where = " AND ".join([_AHEAD, *asked])
        end = "ORDER BY asset_id LIMIT 1 BY asset_id LIMIT {limit:UInt32}"
        sql = f"SELECT asset_id FROM asset_state_versions WHERE {where} {end}"
        if "owner" in filters:
            owned = (
                f"SELECT asset_id FROM asset_owners WHERE owner_user_id = {{owner:String}} AND {_AHEAD} {end}"
            )
            held = f"SELECT asset_id FROM asset_state_versions WHERE has(holders, {{owner:String}}) AND {_AHEAD} {end}"
            sql = f"SELECT asset_id FROM (({owned}) UNION ALL ({held})) {end}"
        return [row["asset_id"] for row in await self._clickhouse.rows(sql, values)]

    async def _ask_owned(self, owners: Sequence[str]) -> dict[str, list[str]]:
        """First candidates of each owner."""
        found: dict[str, set[str]] = defaultdict(set)
        for row in await self._clickhouse.rows(_FIRST_OWNED, {"owners": list(owners)}):
            found[row["owner"]].add(row["asset_id"])
        return {owner: sorted(ids)[:FIRST_PAGE] for owner, ids in found.items()}

    async def _now(self, ids: Sequence[str]) -> dict[str, Row]:
        found = await asyncio.gather(*map(self._states.get, ids))
        return {id: state for id, state in zip(ids, found, strict=True) if state is not None}

    async def assets_of(self, user_id: str, limit: int, cursor: str | None) -> tuple[list[Row], str | None]:
        """(what a user owns or holds units of, what changed last first (S0's user history); the next cursor)."""
        after = of_cursor(cursor, int, str)
        values: dict[str, Any] = {"owner": user_id, "limit": limit + 1}
        where = ""
        if after is not None:
            where = "AND (at_ms, asset_id) < ({at_ms:Int64}, {asset_id:String})"
            values |= {"at_ms": after[0], "asset_id": after[1]}
        rows = await self._clickhouse.rows(_OWNED.replace("/*after*/", where), values)
        page = rows[:limit]
        states = await self._now([row["asset_id"] for row in page])
        last = page[-1] if len(rows) > limit else None
        found = [states[row["asset_id"]] for row in page if row["asset_id"] in states]
        return found, None if last is None else to_cursor(last["at_ms"], last["asset_id"])

    async def gas(self, user_id: str | None, limit: int, cursor: str | None) -> tuple[list[Row], str | None]:
        """(S0's gas report by user and currency, of one user or of all; the next page's cursor)."""
        owner, chain = of_cursor(cursor, str, str) or ("", "")
        values: dict[str, Any] = {"owner": owner, "chain": chain, "limit": limit + 1}
        sql = _GAS
        if user_id is not None:
            values["user"] = user_id
            sql = sql.replace("/*only*/", "AND owner = {user:String}")
        rows = await self._clickhouse.rows(sql, values)
        page = rows[:limit]
        last = page[-1] if len(rows) > limit else None
        found = [
            {
                "user_id": row["owner"],
                "currency": row["chain"].removeprefix("offchain/gas:"),
                "transactions": int(row["transactions"]),
                **{name: str(row[name]) for name in row if name.startswith("total_")},
            }
            for row in page
        ]
        return found, None if last is None else to_cursor(last["owner"], last["chain"])


_AHEAD: Final = "asset_id > {after:String}"
_SOCIAL: Final = {"transactions": (0,), "events": (1,), "history": (0, 1)}  # which of the two tables
_FILTERS: Final = {
    "app": "app_id = {app:String}",
    "type": "asset_type = {type:String}",
    "container": "parent_container_id = {container:String}",
}
_FIRST_OWNED: Final = f"""
SELECT DISTINCT owner_user_id AS owner, asset_id FROM asset_owners WHERE owner_user_id IN {{owners:Array(String)}}
ORDER BY owner, asset_id LIMIT {FIRST_PAGE} BY owner
UNION ALL
SELECT DISTINCT arrayJoin(arrayIntersect(holders, {{owners:Array(String)}})) AS owner, asset_id
FROM asset_state_versions WHERE hasAny(holders, {{owners:Array(String)}})
ORDER BY owner, asset_id LIMIT {FIRST_PAGE} BY owner"""
_NOW: Final = {
    "app": "app_id",
    "type": "asset_type",
    "container": "parent_container_id",
}
_OWNED: Final = """
SELECT asset_id, at_ms FROM (
  SELECT asset_id, toUnixTimestamp64Milli(last_updated_at) AS at_ms, owner_user_id, holders, gone
  FROM asset_state_versions
  WHERE asset_id IN (
    SELECT asset_id FROM asset_owners WHERE owner_user_id = {owner:String}
    UNION ALL
    SELECT asset_id FROM asset_state_versions WHERE has(holders, {owner:String})
  )
  ORDER BY asset_id, version DESC LIMIT 1 BY asset_id
)
WHERE (owner_user_id = {owner:String} OR has(holders, {owner:String})) AND NOT gone /*after*/
ORDER BY at_ms DESC, asset_id DESC LIMIT {limit:UInt32}"""
_GAS: Final = """
SELECT owner, chain, sum(s.transactions) AS transactions, toString(sum(gas_required)) AS total_gas_required,
  toString(sum(gas_paid_by_user)) AS total_gas_paid_by_user,
  toString(sum(gas_paid_by_treasury)) AS total_gas_paid_by_treasury
FROM gas_sums AS s
WHERE chain_number = 0 /*only*/ AND (owner, chain) > ({owner:String}, {chain:String})
GROUP BY owner, chain ORDER BY owner, chain LIMIT {limit:UInt32}"""


def _source(what: str, gas: bool) -> str:
    """Transactions (with those of gas or without), events or both of the assets that are asked for."""
    shown = "" if gas else f" AND type NOT IN {GAS_TYPES}"
    names = "event_id, type, asset_id, user_id, app_id, source, payload, at, recorded_at, _offset"
    each = [
        f"SELECT {names}, {social} AS social FROM {table} WHERE asset_id IN {{ids:Array(String)}}{shown}"
        for social, table in enumerate(("asset_transactions", "asset_events"))
        if social in _SOCIAL[what]
    ]
    return f"({' UNION ALL '.join(each)})"


def _fits(asset: Row, filters: Mapping[str, str]) -> bool:
    owner = filters.get("owner")
    if owner is not None and asset["owner_user_id"] != owner and owner not in asset["holdings"]:
        return False
    return all(asset[_NOW[name]] == value for name, value in filters.items() if name != "owner")


def _asset(row: Row) -> Row:
    value = orjson.loads(row["value"])
    found = {name: value.get(name, default) for name, default in _DEFAULTS.items()}
    return {"asset_id": row["id"], "version": row["version"], **found, "last_updated_at": iso(row["at_ms"])}


def _activity(row: Mapping[str, Any]) -> Row:
    payload = row["payload"]
    return {
        **{name: row.get(name) for name in _ACTIVITY},
        "at": iso(row["at_ms"]),
        "recorded_at": iso(row["recorded_ms"]),
        "payload": orjson.loads(payload) if payload else None,
    }
