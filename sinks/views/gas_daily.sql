-- Fees by day (UTC) and owner, with S0's three sums, as in gas_report; in the native coin's smallest unit.
-- For the fees of all owners by day take gas_by_day, which need not look at each.
-- Recompute: SELECT chain, toDate(close_time) AS day, owner, count() AS transactions, sum(fee) AS fee_paid, if(countIf(burnt IS NULL) = 0, sum(burnt), NULL) AS fee_burnt, sum(gas_required) AS total_gas_required, sum(gas_paid_by_user) AS total_gas_paid_by_user, sum(gas_paid_by_treasury) AS total_gas_paid_by_treasury FROM gas_ledger FINAL WHERE finality != 'retracted' GROUP BY chain, day, owner
-- Example: SELECT day, sum(fee_paid) FROM gas_daily WHERE chain = 'xrpl:main' GROUP BY day ORDER BY day
SELECT
  chain,
  chain_number,
  day,
  owner,
  sum(f.transactions) AS transactions,
  sum(f.fee) AS fee_paid,
  if(sum(f.burnt_unknown) = 0, sum(f.burnt), NULL) AS fee_burnt,
  sum(f.gas_required) AS total_gas_required,
  sum(f.gas_paid_by_user) AS total_gas_paid_by_user,
  sum(f.gas_paid_by_treasury) AS total_gas_paid_by_treasury
FROM fees_by_day AS f
GROUP BY chain, chain_number, day, owner
