-- Fees by day (UTC), application and owner, with S0's three sums, each chain (coin) apart; app_id is empty for fees on
-- chains, which belong to no application. Sum within one chain only: other coins have other units.
-- Recompute: SELECT chain, toDate(close_time) AS day, app_id, owner, count() AS transactions, sum(gas_required) AS total_gas_required, sum(gas_paid_by_user) AS total_gas_paid_by_user, sum(gas_paid_by_treasury) AS total_gas_paid_by_treasury FROM gas_ledger FINAL WHERE finality != 'retracted' GROUP BY chain, day, app_id, owner
-- Example: SELECT day, sum(total_gas_paid_by_treasury) FROM gas_by_app_daily WHERE app_id = 'mintlings' AND chain = 'offchain/gas:XRP' GROUP BY day
SELECT
  chain,
  chain_number,
  day,
  app_id,
  owner,
  sum(f.transactions) AS transactions,
  sum(f.gas_required) AS total_gas_required,
  sum(f.gas_paid_by_user) AS total_gas_paid_by_user,
  sum(f.gas_paid_by_treasury) AS total_gas_paid_by_treasury
FROM fees_by_day AS f
GROUP BY chain, chain_number, day, app_id, owner
