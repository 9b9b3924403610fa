"""Rows of `bench analytics`: a recorded story, multiplied by ClickHouse itself into the tables of the history.

A copy of the story has new hashes and NFTs; its ledgers follow those of the copy before, spread over a year; accounts
and issued assets are drawn with a skew from populations that grow with the number of copies. Every column's value is a
function of the recorded one and the copy's number, so that tables agree with each other. The last blocks of the EVM
chain are head, and what they moved is pending. Roll-ups are summed up from the rows, batch by batch, as the sink does.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clickhouse_connect.driver.client import Client

ROOT: Final = Path(__file__).parents[2]
RECORDINGS: Final = (ROOT / "pipeline/recordings/xrpl-standalone.jsonl.gz", ROOT / "tests/data/evm/blocks")
TABLES: Final = (
    "xrpl_ledgers", "xrpl_transactions", "balance_changes", "mpt_changes", "object_changes", "evm_blocks",
    "evm_transactions", "evm_logs", "evm_transfers", "evm_balance_changes", "gas_ledger", "gas_assets", "asset_changes",
    "transfers",
)  # fmt: skip
WITH_RAW: Final = 1_000_000  # transactions that have their body
START: Final = "toDateTime64('2025-01-01 00:00:00', 3, 'UTC')"
YEAR_MS: Final = 365 * 86_400_000
PARTS: Final = 12  # inserts per table
HEADS: Final = 32  # EVM blocks that are not final yet
BATCH_BLOCKS: Final = 250  # that go into one partial sum
SKEW: Final = 3  # a draw is uniform to this power: a thousandth of the accounts does a tenth of all
OFFSETS: Final = 100_000  # of a copy
_BLOCKS: Final = ("ledger_index", "block_number", "block")
_TIMES: Final = ("close_time", "time", "parent_close_time")
_HASHES: Final = (
    "hash", "ledger_hash", "block_hash", "parent_hash", "branch", "transaction_hash", "account_hash", "state_root",
    "transactions_root", "receipts_root", "transfer_id", "pending_id", "entry_id", "reference",
)  # fmt: skip
_ACCOUNTS: Final = (
    "account", "fee_payer", "owner", "destination", "from_owner", "to_owner", "debit_owner", "credit_owner",
    "from_address", "to_address", "operator", "issuer",
)  # fmt: skip
_ASSETS: Final = ("asset", "held_asset", "counter_asset", "issuance")
_SUMS: Final = {
    "gas_sums": """
SELECT chain, chain_number, toDate(close_time) AS day, owner, app_id, max(g.ledger_index) AS ledger_index,
  max(g.close_time) AS close_time, count() AS transactions, sum(g.fee) AS fee, sum(ifNull(g.burnt, 0)) AS burnt,
  countIf(g.burnt IS NULL) AS burnt_unknown, sum(g.gas_required) AS gas_required,
  sum(g.gas_paid_by_user) AS gas_paid_by_user, sum(g.gas_paid_by_treasury) AS gas_paid_by_treasury,
  'bench' AS _epoch, any(g._topic) AS _topic, any(g._partition) AS _partition, max(g._offset) AS _offset
FROM gas_ledger AS g WHERE finality != 'head' AND {month}
GROUP BY chain, chain_number, day, owner, app_id, intDiv(g.ledger_index, {batch})""",
    "transfer_sums": """
SELECT chain, chain_number, asset, code, toDate(time) AS day, max(t.block) AS block,
  argMax(t.block_hash, t.block) AS block_hash, max(t.time) AS time, count() AS transfers, sum(t.amount) AS amount,
  'bench' AS _epoch, any(t._topic) AS _topic, any(t._partition) AS _partition, max(t._offset) AS _offset
FROM transfers AS t WHERE status = 'posted' AND {month}
GROUP BY chain, chain_number, asset, code, day, intDiv(t.block, {batch})""",
    "holding_sums": """
SELECT chain, chain_number, asset, one.2 AS owner, toDate(time) AS day, max(t.block) AS block,
  argMax(t.block_hash, t.block) AS block_hash, max(t.time) AS time, sum(one.3) AS change,
  'bench' AS _epoch, any(t._topic) AS _topic, any(t._partition) AS _partition, max(t._offset) AS _offset
FROM transfers AS t
ARRAY JOIN [(debit_code, debit_owner, -toInt256(amount)), (credit_code, credit_owner, toInt256(amount))] AS one
WHERE status = 'posted' AND one.1 IN (1, 101) AND {month}
GROUP BY chain, chain_number, asset, owner, day, intDiv(t.block, {batch})""",
}
_OFFCHAIN: Final = """
INSERT INTO gas_ledger (chain, chain_number, ledger_index, close_time, hash, type, result, owner, account, fee,
  gas_required, gas_paid_by_user, gas_paid_by_treasury, branch, app_id, asset_id, _epoch, _topic, _offset)
SELECT 'offchain/gas:XRP', 0, toUnixTimestamp64Milli(at), {start} + toIntervalMillisecond(number * {step}) AS at,
  lower(hex(sipHash128('gas', number))) AS id, 'INTERNAL_GAS_CHARGE', 'success',
  concat('user-', toString(toUInt32(50000 * pow(cityHash64(number) / 18446744073709551616., {skew})))), 'u', 12,
  12, 5, 7, id, concat('app-', toString(number % 5)), concat('asset-', toString(cityHash64(number) % 100000)), 'bench',
  'applications.outcomes.v1', number
FROM numbers({count})"""
_VERDICTS: Final = """
INSERT INTO verdicts (id, chain, chain_number, run, block, last_block, block_hash, time, outcome, level, _epoch, _topic,
  _offset)
SELECT toString(ledger_index), chain, chain_number, run, ledger_index - 999, ledger_index, ifNull(ledger_hash, ''),
  close_time, 'verified', 'header', 'bench', 'chains.verdicts.v1', ledger_index
FROM xrpl_ledgers WHERE ledger_index % 1000 = 0"""


@dataclass(frozen=True)
class Story:
    """The recorded story, and how a column of it becomes that of copy `k`."""

    chain_number: int  # of the XRPL chain; the other one is EVM
    ledgers: int  # those with transactions
    transactions: int
    copies: int

    def value(self, name: str, kind: str) -> str:
        """SQL of column `name` in copy `k`."""
        mine, xrpl = f"s.`{name}`", f"s.chain_number = {self.chain_number}"
        unsettled = f"NOT {xrpl} AND k + {HEADS} >= {self.copies}"
        if name in _BLOCKS:
            return f"if({xrpl}, toInt64(1 + k * {self.ledgers} + s.place), {mine} + toInt64(k))"
        if name in _TIMES:
            step = YEAR_MS // self.copies
            later = f"toInt64(k) * {step} + s.place * {step // (self.ledgers + 1)}"
            return f"if(isNull({mine}), {mine}, {START} + toIntervalMillisecond({later}))"
        special = {
            "_epoch": "'bench'",
            "_offset": f"{mine} + toInt64(k) * {OFFSETS}",
            "raw": f"if(k < {max(1, WITH_RAW // self.transactions)}, {mine}, '')",
            "finality": f"if({mine} = 'final' AND {unsettled}, 'head', toString({mine}))",
        }
        if kind == "LowCardinality(String)" and name == "status":
            return f"if({unsettled}, 'pending', toString({mine}))"
        return special.get(name) or self._text(mine, name)

    def _text(self, mine: str, name: str) -> str:
        if name in _HASHES:
            made = f"concat(hex(sipHash128({mine}, k)), hex(sipHash128(k, {mine})))"
            evm = f"startsWith({mine}, '0x'), concat('0x', lower({made}))"
            return f"multiIf(empty({mine}), {mine}, {evm}, substring({made}, 1, length({mine})))"
        if name in _ACCOUNTS:
            drawn = f"toUInt64({max(1, self.copies // 200)} * {_skewed(mine)})"
            address = f"substring(hex(sipHash128(cityHash64({mine}) % 4096, {drawn})), 1, 32)"
            return (
                f"multiIf({mine} LIKE 'r%' AND length({mine}) > 24, concat('r', {address}), {mine} LIKE '0x%'"
                f" AND NOT {mine} LIKE '0x0000000%', concat('0x00000000', lower({address})), {mine})"
            )
        return _asset(mine, name) if name in _ASSETS else mine


def _skewed(text: str) -> str:
    return f"pow(cityHash64({text}, k) / 18446744073709551616., {SKEW})"


def _asset(mine: str, name: str) -> str:
    """NFTs are new in every copy; issued assets are drawn; native coins stay."""
    bare = f"if(startsWith({mine}, concat(s.chain, '/')), substring({mine}, length(s.chain) + 2), {mine})"
    bare = f"concat('mpt:', {mine})" if name == "issuance" else bare
    fixed = f"endsWith({mine}, 'XRP') OR endsWith({mine}, 'native') OR empty({mine})"
    single = f"{bare} LIKE 'nft:%' OR {bare} LIKE 'erc721:%'"
    new = f"concat(substring({mine}, 1, length({mine}) - 16), hex(cityHash64({bare}, k)))"
    drawn = f"leftPad(hex(toUInt32(1000 * {_skewed(bare)})), 8, '0')"
    return f"multiIf({fixed}, {mine}, {single}, {new}, concat(substring({mine}, 1, length({mine}) - 8), {drawn}))"


def record_shape(folder: Path) -> Path:
    """Put the recordings through the whole pipeline; the folder with one Native file per table."""
    out = folder / "shape"
    if out.exists():
        return out
    command = [sys.executable, "-m", "pipeline.cli", "demo", "--data-dir", str(folder / "story")]
    command += ["--ledgers", str(RECORDINGS[0]), "--evm", str(RECORDINGS[1])]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    out.mkdir()
    history = folder / "story" / "clickhouse"
    export = [sys.executable, "-m", "tests.bench.analytics_rows", str(history), str(out)]
    subprocess.run(export, cwd=ROOT, check=True)  # one engine path per process
    return out


def load_shape(client: Client, files: Path, transactions: int) -> Story:
    """Read the story into the database `shape`."""
    client.command("CREATE DATABASE IF NOT EXISTS shape")
    files = files.absolute()
    read = f"SELECT * FROM file('{files}/xrpl_transactions.native', Native)"
    told = client.query(f"SELECT DISTINCT ledger_index FROM ({read}) ORDER BY 1").result_rows
    ledgers = [row[0] for row in told]
    number = int(client.query(f"SELECT any(chain_number) FROM ({read})").result_rows[0][0])
    for table in TABLES:
        columns = _columns(client, table)
        block = next(one for one in _BLOCKS if one in columns)
        place = (
            f"if(chain_number = {number}, toInt64(arrayFirstIndex(one -> one >= {block}, {ledgers})) - 1, 0)"
        )
        busy = (
            " WHERE transaction_count > 0" if table == "xrpl_ledgers" else ""
        )  # empty ones have nothing to ask
        source = f"SELECT *, {place} AS place FROM file('{files}/{table}.native', Native){busy}"
        client.command(f"CREATE TABLE shape.{table} ENGINE = Memory AS {source}")
    counts = [f"(SELECT count() FROM shape.{table})" for table in ("xrpl_transactions", "evm_transactions")]
    of_story = int(client.query(f"SELECT {' + '.join(counts)}").result_rows[0][0])
    return Story(number, len(ledgers), of_story, max(PARTS, transactions // of_story))


def multiply(client: Client, story: Story) -> Iterator[str]:
    """Fill the tables; tells which is done."""
    for table in TABLES:
        columns = _columns(client, table)
        names = ", ".join(f"`{name}`" for name in columns)
        values = ", ".join(f"{story.value(name, kind)} AS `{name}`" for name, kind in columns.items())
        for part in range(PARTS):
            first, last = (story.copies * of // PARTS for of in (part, part + 1))
            source = f"(SELECT number AS k FROM numbers({first}, {last - first})) AS n CROSS JOIN shape.{table} AS s"
            client.command(f"INSERT INTO {table} ({names}) SELECT {values} FROM {source}")
        yield table
    count = story.copies * story.transactions // 100
    for sql in (_OFFCHAIN, _VERDICTS):
        client.command(sql.format(start=START, step=max(1, YEAR_MS // count), skew=SKEW, count=count))
    yield from roll_up(client)
    client.command("DROP DATABASE shape")


def roll_up(client: Client) -> Iterator[str]:
    """Fill the roll-ups from the rows, a month at a time; tells which is done."""
    for table, select in _SUMS.items():
        at = "g.close_time" if table == "gas_sums" else "t.time"
        names = ", ".join(f"`{name}`" for name in _columns(client, table))
        for month in range(PARTS):
            of = f"toYYYYMM({at}) = {202501 + month}"
            inner = select.format(month=of, batch=BATCH_BLOCKS)
            client.command(
                f"INSERT INTO {table} ({names}) SELECT {names} FROM ({inner} SETTINGS prefer_column_name_to_alias = 1)"
            )
        yield table


def _columns(client: Client, table: str) -> Mapping[str, str]:
    sql = f"SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = '{table}'"
    return {str(name): str(kind) for name, kind in client.query(sql).result_rows}


def export(history: Path, out: Path) -> None:
    """Child: every table of a history as a file."""
    from sinks.clickhouse_client import Place

    client = Place(path=history).connect({"final": 1})
    for table in TABLES:
        (out / f"{table}.native").write_bytes(client.raw_query(f"SELECT * FROM {table}", fmt="Native"))
    client.close()


if __name__ == "__main__":
    export(Path(sys.argv[1]), Path(sys.argv[2]))
