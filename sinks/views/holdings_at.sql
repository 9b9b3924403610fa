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
    'offchain', one.1, concat('offchain/asset:', asset_id), one.2, 'asset_state_versions',
    states[arrayLastIndex(state -> NOT has(state.2, one), states) + 1].3
  FROM (
    SELECT
      s.asset_id AS asset_id,
      arraySort(groupArray((
        s.version, multiIf(
          s.burnt OR s.gone OR NOT s.minted, [],
          empty(s.holdings), [(ifNull(s.owner_user_id, ''), '1')],
          arrayZip(mapKeys(s.holdings), mapValues(s.holdings))
        ), s.last_updated_at
      ))) AS states
    FROM asset_state_versions AS s
    WHERE s.last_updated_at <= {time:DateTime64(3, 'UTC')}
    GROUP BY asset_id
  )
  ARRAY JOIN states[-1].2 AS one
)
WHERE holder != '' AND amount != '0'
