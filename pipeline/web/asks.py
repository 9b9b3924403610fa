"""What the pages ask of ClickHouse: views that analysts use too, with bound parameters, a page of rows at a time.

Assets that applications know are named by their id, what a chain knows by its key, <chain>/<asset>. What every visitor
of the first page needs is asked once in FRESH_S (less often where it takes long), however many come.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.api.client import ApiError
from pipeline.api.reads import Reads
from pipeline.domain.quantise import units_to_decimal
from pipeline.reports import provenance
from pipeline.reports.gas import TYPES as GAS_TYPES
from sinks.views import inline

Row = dict[str, Any]
ROWS: Final = 200  # of one page
DAYS_MAX: Final = 3660
FRESH_S: Final = 5.0
FRESH_SHARE: Final = 0.05  # of the time, at most, goes into asking for the first page, but for
FRESH_MOST_S: Final = 30.0  # once in so long
LATEST_BLOCKS: Final = 1000  # the first page looks no further back for transactions
HEAVY_MAX: Final = 2  # questions at once that read all there is of an asset, for whoever asks
END: Final = (1 << 62) - 1  # a position after every block
CHAIN_KEY: Final = re.compile(r"(?P<chain>[a-z][a-z0-9]*:[^/\s]+)/(?P<asset>.+)", re.DOTALL)
SINGLE: Final = ("nft:", "erc721:")  # assets of which there is one
_HASH: Final = re.compile(r"(?:0[xX])?[0-9a-fA-F]{64}")
_ISSUANCE: Final = re.compile(r"[0-9a-fA-F]{48}")


def chain_key(asset: str) -> tuple[str, str] | None:
    """(chain, asset) of a chain's key, None of an application's id."""
    found = CHAIN_KEY.fullmatch(asset)
    return (found["chain"], found["asset"]) if found else None


@dataclass(frozen=True, slots=True)
class Found:
    """Something that a search found: what it is, its name, where its page is."""

    what: str
    name: str
    path: str


@dataclass(frozen=True, slots=True)
class Fresh:
    """How far each chain is and is verified, how far each topic's tables are, each chain's last transactions."""

    chains: list[Row]
    topics: list[Row]
    latest: list[Row]


@dataclass(slots=True)
class Asks:
    """All questions of the pages, over the API's own reads. Methods raise ApiError 503 where there is no answer."""

    reads: Reads
    _fresh: Fresh | None = None
    _again: float = float("-inf")
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)
    _few: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(HEAVY_MAX))

    async def _rows(self, sql: str, **parameters: Any) -> list[Row]:
        return await self.reads.clickhouse.rows(sql, parameters)

    async def freshness(self) -> Fresh:
        """What the first page shows."""
        async with self._one:
            if self._fresh is None or time.monotonic() > self._again:
                begun = time.monotonic()
                chains, topics = await asyncio.gather(self._rows(_CHAINS), self._rows(_TOPICS))
                heads = {row["chain"]: row for row in sorted(chains, key=lambda row: row["last_block"])}
                asked = [self._latest(row) for _, row in sorted(heads.items())]
                latest = [row for rows in await asyncio.gather(*asked) for row in rows]
                self._fresh, now = Fresh(chains, topics, latest), time.monotonic()
                self._again = now + min(max(FRESH_S, (now - begun) / FRESH_SHARE), FRESH_MOST_S)
            return self._fresh

    async def _latest(self, head: Row) -> list[Row]:
        """The last transactions in the LATEST_BLOCKS blocks up to a chain's last one."""
        kind, after = head["chain"].partition(":")[0], head["last_block"] - LATEST_BLOCKS
        return await self._rows(_LATEST[kind], chain=head["chain_number"], after=after)

    async def state(self, asset: str) -> Row | None:
        """An application's asset as it is, None where there is none of that id."""
        try:
            return await self.reads.assets.asset(asset)
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    async def named(self, text: str) -> tuple[str, Row | None]:
        """(the asset that an address names, its state if an application has one of that very id): as it is written
        where that is an application's id, else in the letters of keys."""
        own = await self.state(text)
        if own is not None:
            return text, own
        key = provenance.written(text)
        return key, None if key == text else await self.state(key)

    async def bound(self, token: str) -> Row | None:
        """The application's asset that a token of a chain stands for."""
        rows = await self._rows(_BOUND, token=token)
        return await self.state(rows[0]["asset_id"]) if rows and rows[0]["asset_id"] else None

    async def story(self, asset: str, skip: int, gas: bool) -> tuple[list[Row], bool]:
        """(rows of the provenance, with those of gas or without, after the first `skip`; whether there are more)."""
        async with self._few:
            known = await self._rows(provenance.known(asset).sql, asset=asset)
            sql = _STORY["provenance" if known else "chain_provenance"]
            sql = sql.replace("/*only*/", "" if gas else f"WHERE type NOT IN {GAS_TYPES}")
            rows = await self._rows(sql, asset=asset, limit=ROWS + 1, skip=skip)
        return rows[:ROWS], len(rows) > ROWS

    async def holder(self, token: str) -> str | None:
        """Who holds a token of which there is one, as its chain says: "" = nobody, it is burnt; None = unknown."""
        rows = await self._rows(_HOLDER, token=token)
        return str(rows[0]["holder"]) if rows else None

    async def holders(self, asset: str, skip: int) -> tuple[list[Row], bool]:
        """(who holds how much now, the largest first: account, balance; whether there are more). Balances are exact."""
        named = chain_key(asset)
        if named is None:
            state = await self.state(asset)
            held = [] if state is None else _holdings(state)
            return held[skip : skip + ROWS], len(held) > skip + ROWS
        async with self._few:
            rows = await self._rows(_HOLDERS, asset=asset, limit=ROWS + 1, skip=skip)
        told = [{**row, "balance": _of_book(named, row["balance"])} for row in rows[:ROWS]]
        return told, len(rows) > ROWS

    async def days(self, asset: str) -> list[Row]:
        """day, holders at its end, transfers, amount moved; days without a change are absent."""
        named = chain_key(asset)
        if named is None:
            return await self._rows(_STATE_DAYS, asset=asset, limit=DAYS_MAX)
        async with self._few:
            rows = await self._rows(_DAYS, asset=asset, limit=DAYS_MAX)
        return [{**row, "amount": row["amount"] and _of_book(named, row["amount"])} for row in rows]

    async def owner(self, owner: str) -> tuple[list[Row], list[Row]]:
        """(assets of applications that are the owner's, balances on the chains)."""
        held = _EVM_BALANCES if owner.startswith("0x") else _LEDGER_BALANCES
        assets, balances = await asyncio.gather(
            self.reads.assets.assets_of(owner, ROWS, None),
            self._rows(held, owner=owner, position=END, limit=ROWS),
        )
        return assets[0], balances

    async def transaction(self, name: str) -> list[Row]:
        """A transaction by its hash: a row for each chain and branch that has it."""
        bare = name.lower().removeprefix("0x")
        return await self._rows(_TRANSACTION, upper=bare.upper(), lower=f"0x{bare}")

    async def search(self, text: str) -> list[Found]:
        """What a text may mean: an asset, a token, an owner, a transaction."""
        key = provenance.written(text)
        if key != text and (own := await self._asset_of(text)):
            return own
        text = key
        short = text.startswith(provenance.SHORT)
        named = None if short else chain_key(text)
        if named is not None:
            single = named[1].startswith((*SINGLE, "mpt:"))
            return [Found("asset", text, f"assets/{text}" if single else f"holders/{text}")]
        looked = [self._asset_of(text), self._owner_of(text)]
        if short:
            looked.append(self._token_of(text))
        if _HASH.fullmatch(text):
            looked += [self._transaction_of(text), self._token_of(f"nft:{text.upper()}")]
        if _ISSUANCE.fullmatch(text):
            looked.append(self._token_of(f"mpt:{text.upper()}"))
        return [one for found in await asyncio.gather(*looked) for one in found]

    async def _asset_of(self, text: str) -> list[Found]:
        state = await self.state(text)
        return [] if state is None else [Found("asset", state["title"] or text, f"assets/{text}")]

    async def _owner_of(self, text: str) -> list[Found]:
        address = text.lower() if re.fullmatch(r"0[xX][0-9a-fA-F]{40}", text) else text
        rows = await self._rows(_IS_OWNER, owner=address)
        return [Found("owner", address, f"owners/{address}")] if rows else []

    async def _transaction_of(self, text: str) -> list[Found]:
        rows = await self.transaction(text)
        return [Found("transaction", rows[0]["hash"], f"transactions/{rows[0]['hash']}")] if rows else []

    async def _token_of(self, asset: str) -> list[Found]:
        chains = sorted({row["chain"] for row in (await self.freshness()).chains})
        rows = await self._rows(_IS_TOKEN, assets=[f"{chain}/{asset}" for chain in chains])
        return [Found("token", row["asset"], f"assets/{row['asset']}") for row in rows]


def _of_book(named: tuple[str, str], units: str) -> str:
    """Units of the book as the asset is counted: issued currencies of XRPL are decimals, all else whole numbers."""
    issued = named[0].startswith("xrpl:") and "." in named[1]
    return units_to_decimal(int(units)) if issued else units


def _holdings(state: Row) -> list[Row]:
    """Who holds an application's asset: its units where it is in fractions, else the whole."""
    if state["holdings"]:
        units = sorted(state["holdings"].items(), key=lambda one: (-int(one[1]), one[0]))
        return [{"account": account, "balance": amount} for account, amount in units]
    owner = state["owner_user_id"]
    return [{"account": owner, "balance": "1"}] if owner and not state["burnt"] else []


_CHAINS: Final = """
SELECT v.chain AS chain, v.chain_number AS chain_number, v.run AS run, v.first_block AS first_block,
  v.last_block AS last_block, v.verified_up_to AS verified_up_to, v.unverified AS unverified, t.closed AS closed,
  dateDiff('second', t.closed, now64(3, 'UTC')) AS age_s
FROM verified_up_to AS v
LEFT JOIN (
  SELECT chain_number, run, max(close_time) AS closed FROM xrpl_ledgers GROUP BY chain_number, run
  UNION ALL
  SELECT chain_number, run, max(time) FROM evm_blocks WHERE finality = 'final' GROUP BY chain_number, run
) AS t ON t.chain_number = v.chain_number AND t.run = v.run
ORDER BY chain, run"""
_TOPICS: Final = """
SELECT topic, partition, to_offset, block, committed_at, age_s, rows FROM pipeline_freshness
ORDER BY topic, partition"""
_LATEST: Final = {
    "xrpl": """
SELECT chain, ledger_index AS block, hash, type, result, account, close_time AS time FROM xrpl_transactions FINAL
WHERE chain_number = {chain:UInt16} AND ledger_index > {after:Int64}
ORDER BY ledger_index DESC, transaction_index DESC LIMIT 8""",
    "eip155": """
SELECT chain, block_number AS block, hash, concat('type ', toString(type)) AS type,
  multiIf(status = 1, 'success', status = 0, 'failed', 'unknown') AS result, ifNull(from_address, '') AS account, time
FROM evm_transactions FINAL
WHERE chain_number = {chain:UInt16} AND block_number > {after:Int64} AND finality != 'retracted'
ORDER BY block_number DESC, transaction_index DESC LIMIT 8""",
}
_BOUND: Final = """
SELECT JSONExtractString(argMax(value, version), 'asset_id') AS asset_id FROM application_states
WHERE domain = 'assets' AND kind = 'token' AND id = {token:String}"""
_STORY: Final = {
    view: f"SELECT * FROM {inline(view)} /*only*/ LIMIT {{limit:UInt32}} OFFSET {{skip:UInt32}}"
    for view in ("provenance", "chain_provenance")
}
_HOLDER: Final = """
SELECT ifNull(to_owner, '') AS holder FROM asset_changes WHERE asset = {token:String} AND finality != 'retracted'
ORDER BY block DESC, transaction_index DESC, change_index DESC LIMIT 1"""
_HOLDERS: Final = """
SELECT owner AS account, toString(units) AS balance FROM asset_holders WHERE asset = {asset:String}
ORDER BY units DESC, owner LIMIT {limit:UInt32} OFFSET {skip:UInt32}"""
_DAYS: Final = """
SELECT day, max(holders) AS holders, max(transfers) AS transfers, max(amount) AS amount FROM (
  SELECT day, toNullable(holders) AS holders, NULL AS transfers, NULL AS amount
  FROM holders_daily WHERE asset = {asset:String}
  UNION ALL
  SELECT day, NULL, toNullable(transfers), toNullable(toString(amount))
  FROM transfers_daily WHERE asset = {asset:String}
)
GROUP BY day ORDER BY day DESC LIMIT {limit:UInt32}"""
_STATE_DAYS: Final = """
SELECT day, argMax(held, version) AS holders, count() AS transfers, NULL AS amount FROM (
  SELECT toDate(last_updated_at) AS day, version,
    if(gone OR burnt, 0, if(empty(holders), toUInt64(ifNull(owner_user_id, '') != ''), length(holders))) AS held
  FROM asset_state_versions WHERE asset_id = {asset:String}
  LIMIT 1 BY version
)
GROUP BY day ORDER BY day DESC LIMIT {limit:UInt32}"""
_LEDGER_BALANCES: Final = f"""
SELECT chain, asset, balance, ledger_index AS block, hash
FROM {inline("ledger_balances_of")}
ORDER BY chain, asset LIMIT {{limit:UInt32}}"""
_EVM_BALANCES: Final = f"""
SELECT chain, asset, balance_head AS balance, block_number AS block, hash
FROM {inline("evm_balances_at")} WHERE account = {{owner:String}}
ORDER BY chain, asset LIMIT {{limit:UInt32}}"""
_IS_OWNER: Final = """
SELECT 1 FROM (
  SELECT 1 FROM asset_owners WHERE owner_user_id = {owner:String} LIMIT 1
  UNION ALL SELECT 1 FROM balance_changes WHERE account = {owner:String} LIMIT 1
  UNION ALL SELECT 1 FROM evm_balance_changes WHERE account = {owner:String} LIMIT 1
) LIMIT 1"""
_IS_TOKEN: Final = (
    "SELECT DISTINCT asset FROM asset_changes WHERE asset IN {assets:Array(String)} ORDER BY asset"
)
_TRANSACTION: Final = """
SELECT chain, ledger_index AS block, ifNull(ledger_hash, '') AS block_hash, transaction_index, hash, type, result,
  close_time AS time, account, fee_payer, toString(fee) AS fee, 'final' AS finality, _topic, _partition, _offset
FROM xrpl_transactions WHERE hash = {upper:String}
UNION ALL
SELECT chain, block_number, block_hash, transaction_index, hash, toString(type), ifNull(toString(status), ''),
  time, ifNull(from_address, ''), fee_payer, toString(fee), finality, _topic, _partition, _offset
FROM evm_transactions WHERE hash = {lower:String}
LIMIT 20"""
