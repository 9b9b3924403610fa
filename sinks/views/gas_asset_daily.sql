-- Fees by day (UTC), asset and owner, with S0's three sums: of the transactions that changed the asset. On chains an asset
-- is an NFT, an MPT issuance or an ERC-721 token; in managed custody (chain offchain/gas:<currency>) the application's
-- asset that the gas was for. A transaction that changed two assets counts for both: sums over assets are no totals.
-- Each transaction counts once for an asset, on the branch that stands, final or not.
-- Recompute: SELECT chain, toDate(close_time) AS day, asset, owner, count() AS transactions, sum(g.gas_required) AS total_gas_required, sum(g.gas_paid_by_user) AS total_gas_paid_by_user, sum(g.gas_paid_by_treasury) AS total_gas_paid_by_treasury FROM (SELECT DISTINCT chain_number, asset, block AS ledger_index, transaction_index, branch FROM asset_changes FINAL WHERE finality != 'retracted' AND hash != '' UNION DISTINCT SELECT chain_number, concat(chain, '/mpt:', issuance), ledger_index, transaction_index, '' FROM mpt_changes FINAL WHERE hash != '') AS a INNER JOIN (SELECT * FROM gas_ledger FINAL WHERE finality != 'retracted') AS g USING (chain_number, ledger_index, transaction_index, branch) GROUP BY chain, day, asset, owner UNION ALL SELECT chain, toDate(close_time), asset_id, owner, count(), sum(gas_required), sum(gas_paid_by_user), sum(gas_paid_by_treasury) FROM gas_ledger FINAL WHERE chain_number = 0 AND finality != 'retracted' GROUP BY ALL
-- Example: SELECT day, owner, total_gas_required FROM gas_asset_daily WHERE asset = 'card-1' ORDER BY day
SELECT
  chain,
  chain_number,
  day,
  asset,
  owner,
  count() AS transactions,
  sum(required) AS total_gas_required,
  sum(by_user) AS total_gas_paid_by_user,
  sum(by_treasury) AS total_gas_paid_by_treasury
FROM (
  SELECT
    chain, chain_number, toDate(close_time) AS day, asset, owner, any(a.gas_required) AS required,
    any(a.gas_paid_by_user) AS by_user, any(a.gas_paid_by_treasury) AS by_treasury
  FROM gas_assets AS a
  GROUP BY chain, chain_number, asset, owner, close_time, ledger_index, transaction_index, branch
  HAVING NOT argMax(a.finality = 'retracted', (a.incarnation, a.finality != 'head'))
  UNION ALL
  SELECT
    chain, chain_number, toDate(close_time), asset_id, owner, gas_required, gas_paid_by_user, gas_paid_by_treasury
  FROM gas_ledger
  WHERE chain_number = 0 AND finality != 'retracted'
)
GROUP BY chain, chain_number, day, asset, owner
