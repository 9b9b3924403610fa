-- Balances of tokens on EVM chains as evm_balances_at has them, up to a block and to a time, whichever comes first.
-- changed_at: time of the last change counted, 1970 for none but an opening.
-- position: block number. time: a moment, 2026-01-31 12:00:00 (UTC).
-- Example: SELECT account, balance FROM evm_balances_upto(position = 19000000, time = '2026-01-31 12:00:00') WHERE asset = 'erc20:0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2'
WITH
  toInt256('100000000000000000000000000000000000000') AS base, -- sums are kept in limbs of 38 digits: a uint256 passes Int256
  toInt256('1000000000000000000000000000000') AS lift, -- makes a limb positive before it is divided
  x -> intDiv(x + lift * base, base) - lift AS carry,
  x -> (x + lift * base) % base AS rest
SELECT
  chain,
  chain_number,
  account,
  asset,
  decimals[1] AS balance,
  decimals[2] AS balance_head,
  partial,
  last.1 AS block_number,
  last.2 AS transaction_index,
  last.3 AS hash,
  last.4 AS changed_at
FROM (
  SELECT
    *,
    arrayMap(
      (limbs, minus) -> replaceRegexpOne(
        concat(
          minus, '0', toString(limbs[3] + carry(limbs[2] + carry(limbs[1]))),
          leftPad(toString(rest(limbs[2] + carry(limbs[1]))), 38, '0'), leftPad(toString(rest(limbs[1])), 38, '0')
        ),
        '^(-?)0*([0-9])', '\\1\\2'
      ),
      arrayMap((limbs, minus) -> arrayMap(limb -> if(minus = '', limb, -limb), limbs), sums, signs), signs
    ) AS decimals
  FROM (
    SELECT
      *,
      arrayMap(changes -> arrayMap((held, change) -> held + change, opened, changes), [of_final, of_head]) AS sums,
      arrayMap(limbs -> if(limbs[3] + carry(limbs[2] + carry(limbs[1])) < 0, '-', ''), sums) AS signs
    FROM (
      WITH
        digits -> arrayMap(at -> toInt256(substring(leftPad(digits, 114, '0'), at, 38)), [77, 39, 1]) AS limbs_of,
        text -> arrayMap(limb -> if(startsWith(text, '-'), -limb, limb), limbs_of(trim(LEADING '-' FROM text))) AS number,
        b.block_number <= {position:Int64} AND b.time <= {time:DateTime64(3, 'UTC')} AND b.finality != 'retracted' AS stands,
        stands AND b.finality = 'final' AS stays,
        number(b.change) AS by
      SELECT
        b.chain AS chain,
        b.chain_number AS chain_number,
        b.account AS account,
        b.asset AS asset,
        number(max(ifNull(b.opening, '0'))) AS opened,
        [sumIf(by[1], stays), sumIf(by[2], stays), sumIf(by[3], stays)] AS of_final,
        [sumIf(by[1], stands), sumIf(by[2], stands), sumIf(by[3], stands)] AS of_head,
        maxIf(b.partial, stands) AS partial,
        if(kept > 0, maxIf((b.block_number, b.transaction_index, b.hash, b.time), stands), (-1, -1, '', toDateTime64(0, 3, 'UTC'))) AS last,
        countIf(stands) AS kept,
        countIf(b.opening IS NOT NULL) AS openings
      FROM evm_balance_changes AS b FINAL
      WHERE (b.block_number <= {position:Int64} AND b.time <= {time:DateTime64(3, 'UTC')}) OR b.opening IS NOT NULL
      GROUP BY chain, chain_number, account, asset
    )
  )
)
WHERE kept > 0 OR openings > 0
SETTINGS do_not_merge_across_partitions_select_final = 1
