"""S3's projections: balances, shares, guarantees, reputation, votes, statement; and transfers of any owner."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final

import orjson

from pipeline.api.client import ApiError
from pipeline.api.read_clickhouse import ClickHouse
from pipeline.api.read_models import iso, of_cursor, to_cursor
from pipeline.domain.tokens.types import BUILT_IN

Row = dict[str, Any]
_OF_ACCOUNT: Final = """
SELECT id, value FROM (
  SELECT id, argMax(value, version) AS value FROM token_account_states
  WHERE account_id = {account:String} AND kind = {kind:String} AND id > {after:String} GROUP BY id
)
/*only*/ ORDER BY id LIMIT {limit:UInt32}"""
_TYPES: Final = """
SELECT id, argMax(value, version) AS value FROM application_states
WHERE domain = 'tokens' AND kind = 'token_type' GROUP BY id"""
_ACCOUNT: Final = """
SELECT value FROM application_states
WHERE domain = 'tokens' AND kind = 'account' AND id = {account:String} ORDER BY version DESC LIMIT 1"""
_TRANSFERS: Final = """
SELECT transfer_id, event_id, asset, status, flow, toString(amount) AS units, debit_owner, credit_owner,
  toUnixTimestamp64Milli(time) AS at_ms, toString(timestamp) AS posted
FROM transfers
WHERE chain_number = 0 AND startsWith(asset, {assets:String}) AND amount > 0 AND status != 'refused'
  AND (debit_owner = {owner:String} OR credit_owner = {owner:String})
  AND (time, timestamp, transfer_id) > (
    fromUnixTimestamp64Milli({at_ms:Int64}, 'UTC'), toInt64OrZero({posted:String}), {transfer_id:String}
  )
ORDER BY time, timestamp, transfer_id LIMIT {limit:UInt32}"""
TOKENS: Final = "offchain/token:"  # books of S3's token types, in millionths
MANY: Final = 10_000  # token types that an account may have balances of, in one answer


class TokenReads:
    """Reads of token accounts."""

    def __init__(self, clickhouse: ClickHouse) -> None:
        self._clickhouse = clickhouse

    async def account(self, account_id: str) -> Row:
        """An account's state. Raises ApiError 404."""
        rows = await self._clickhouse.rows(_ACCOUNT, {"account": account_id})
        if not rows or not rows[0]["value"]:
            raise ApiError(404, "unknown_account", f"there is no account {account_id[:80]!r}", "account_id")
        found: Row = orjson.loads(rows[0]["value"])
        return found

    async def balances(self, account_id: str) -> list[Row]:
        """By token type, with what people are told of the type."""
        held, _ = await self._of(account_id, "balance", "", MANY, None)
        rows = await self._clickhouse.rows(_TYPES, {})
        types = {**BUILT_IN, **{row["id"]: orjson.loads(row["value"]) for row in rows if row["value"]}}
        found = []
        for value in held:
            kind = types.get(value["token_type"], {})
            found.append(
                {
                    "token_type": value["token_type"], "visible_label": kind.get("visible_label"),
                    "regulated_flag": kind.get("regulated_flag"), "available": value["available"],
                    "locked": value["locked"], "updated_at": iso(value.get("updated_ms")),
                }
            )  # fmt: skip
        return found

    async def positions(
        self, account_id: str, kind: str, limit: int, cursor: str | None
    ) -> tuple[list[Row], str | None]:
        """(positions of a type: purchase_order, escrow, reputation, governance; the next page's cursor)."""
        only = "WHERE JSONExtractString(value, 'position_type') = {type:String}"
        values, after = await self._of(account_id, "economic_position", only, limit, cursor, type=kind)
        names = ("position_type", "token_type", "amount", "status", "reference_type", "reference_id")
        found = [
            {
                "position_id": value["id"], **{name: value.get(name) or "" for name in names},
                "created_at": iso(value.get("created_ms")), "updated_at": iso(value.get("updated_ms")),
            }
            for value in values
        ]  # fmt: skip
        return found, after

    async def scores(self, account_id: str) -> list[Row]:
        """Reputation scores of an account, as governance records them."""
        return (await self._of(account_id, "reputation_score", "", MANY, None))[0]

    async def votes(self, account_id: str, limit: int, cursor: str | None) -> tuple[list[Row], str | None]:
        """(votes that the account cast, the next page's cursor)."""
        values, after = await self._of(account_id, "vote", "", limit, cursor)
        names = ("proposal_id", "right_id", "choice", "weight")
        return [{**{n: v[n] for n in names}, "cast_at": iso(v.get("cast_ms"))} for v in values], after

    async def transfers(
        self, owner: str, assets: str, limit: int, cursor: str | None
    ) -> tuple[list[Row], str | None]:
        """(transfers of an owner in off-chain books whose key begins so, oldest first; the next cursor)."""
        at_ms, posted, transfer_id = of_cursor(cursor, int, str, str) or (0, "0", "")
        values = {
            "owner": owner, "assets": assets, "at_ms": at_ms, "posted": posted, "transfer_id": transfer_id,
            "limit": limit + 1,
        }  # fmt: skip
        rows = await self._clickhouse.rows(_TRANSFERS, values)
        page = rows[:limit]
        last = page[-1] if len(rows) > limit else None
        return [_movement(row, owner) for row in page], None if last is None else to_cursor(
            last["at_ms"], last["posted"], last["transfer_id"]
        )

    async def _of(
        self, account_id: str, kind: str, only: str, limit: int, cursor: str | None, **values: str
    ) -> tuple[list[Row], str | None]:
        (after,) = of_cursor(cursor, str) or ("",)
        asked = {"account": account_id, "kind": kind, "after": after, "limit": limit + 1, **values}
        rows = await self._clickhouse.rows(_OF_ACCOUNT.replace("/*only*/", only), asked)
        page = rows[:limit]
        found = [{**orjson.loads(row["value"]), "id": row["id"]} for row in page if row["value"]]
        return found, to_cursor(page[-1]["id"]) if len(rows) > limit else None


def _movement(row: Row, owner: str) -> Row:
    units = row["units"]
    if row["asset"].startswith(TOKENS):
        units = format(Decimal(units).scaleb(-6), "f")
        units = units.rstrip("0").rstrip(".")
    gave, got = row["debit_owner"] == owner, row["credit_owner"] == owner
    return {
        "transfer_id": row["transfer_id"], "event_id": row["event_id"].rpartition(":")[2],
        "at": iso(row["at_ms"]), "asset": row["asset"],
        "direction": "self" if gave and got else "out" if gave else "in",
        "counterparty": row["credit_owner"] if gave else row["debit_owner"],
        "status": row["status"], "flow": row["flow"], "amount": units,
    }  # fmt: skip
