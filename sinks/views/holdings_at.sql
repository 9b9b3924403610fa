-- Who held what at a moment, on chains and off them: one row per asset and holder with something left. Balances of
-- accounts on chains (asset with its chain before it; drops of XRP), the owner of every NFT and ERC-721 token, and of
-- every application's asset its owner, or the units of each holder where it is in fractions.
-- On chains the ledgers and blocks up to that time, EVM blocks that are not final yet included. amount: exact decimal.
-- source: the table or view that tells. since: when the holder got what he has: his last change of owner or amount.
-- time: the moment, 2026-01-31 12:00:00 (UTC).
-- Example: SELECT asset, amount, since FROM holdings_at(time = '2026-01-05 12:30:00') WHERE holder = 'alice'
SELECT chain, asset, holder, amount, source, since
FROM (
  SELECT
    chain, account AS holder, concat(chain, '/', asset) AS asset, argMax(b.balance, place) AS amount,
    'balance_changes' AS source, max((b.close_time, b.ledger_index, b.transaction_index, b.row_number) AS place).1 AS since
  FROM balance_changes AS b FINAL
  WHERE b.close_time <= {time:DateTime64(3, 'UTC')}
  GROUP BY chain, account, asset
  UNION ALL
  SELECT chain, account, concat(chain, '/', asset), balance_head, 'evm_balance_changes', changed_at
  FROM evm_balances_upto(position = 9223372036854775807, time = {time:DateTime64(3, 'UTC')})
  UNION ALL
  SELECT
    chain, ifNull(account, ''), concat(chain, '/mpt:', issuance),
    toString(argMax(toUInt256OrZero(m.amount) + toUInt256OrZero(m.locked), place)), 'mpt_changes',
    max((m.close_time, m.ledger_index, m.transaction_index, m.row_number) AS place).1
  FROM mpt_changes AS m FINAL
  WHERE m.close_time <= {time:DateTime64(3, 'UTC')} AND m.account IS NOT NULL
  GROUP BY chain, account, issuance
  UNION ALL
  SELECT chain, holder, asset, '1', 'asset_changes', since
  FROM (
    SELECT
      chain, asset, argMax(ifNull(c.to_owner, ''), place) AS holder,
      max((c.time, c.block, c.transaction_index, c.change_index) AS place).1 AS since
    FROM asset_changes AS c FINAL
    WHERE c.kind = 'nft' AND c.finality != 'retracted' AND c.time <= {time:DateTime64(3, 'UTC')}
    GROUP BY chain, asset
  )
  UNION ALL
  SELECT
    'offchain', holder, concat('offchain/asset:', asset_id), argMax(amount, version), 'asset_state_versions',
    argMax(at, version)
  FROM (
    SELECT
      asset_id, version, at,
      arrayFilter((one, old) -> one != old, held, arrayResize(held_before, length(held))) AS now,
      arrayFilter((old, one) -> one != old, held_before, arrayResize(held, length(held_before))) AS before,
      arrayConcat(before, now) AS both,
      arrayFilter(
        (one, seen, place) -> seen = 1 AND place > length(before), both, arrayEnumerateUniq(both.1, both.2),
        arrayEnumerate(both)
      ) AS gained,
      arrayFilter(old -> NOT has(now.1, old.1), before) AS lost,
      arrayJoin(arrayConcat(gained, arrayMap(old -> (old.1, '0'), lost))) AS one, one.1 AS holder, one.2 AS amount
    FROM (
      SELECT
        s.asset_id AS asset_id, s.version AS version, s.last_updated_at AS at,
        multiIf(
          s.burnt OR s.gone OR NOT s.minted, [],
          empty(s.holdings), [(ifNull(s.owner_user_id, ''), '1')],
          arrayZip(mapKeys(s.holdings), mapValues(s.holdings))
        ) AS held,
        lagInFrame(held) OVER states AS held_before
      FROM asset_state_versions AS s
      WHERE s.last_updated_at <= {time:DateTime64(3, 'UTC')}
      WINDOW states AS (PARTITION BY s.asset_id ORDER BY s.version ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
    )
  )
  GROUP BY asset_id, holder
)
WHERE holder != '' AND amount != '0'
