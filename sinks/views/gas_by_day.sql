-- Fees of all owners by day (UTC), with S0's three sums, as in gas_daily; in the native coin's smallest unit.
-- Recompute: SELECT chain, toDate(close_time) AS day, count() AS transactions, sum(fee) AS fee_paid, if(countIf(burnt IS NULL) = 0, sum(burnt), NULL) AS fee_burnt, sum(gas_required) AS total_gas_required, sum(gas_paid_by_user) AS total_gas_paid_by_user, sum(gas_paid_by_treasury) AS total_gas_paid_by_treasury FROM gas_ledger FINAL WHERE finality != 'retracted' GROUP BY chain, day
-- Example: SELECT day, transactions, fee_paid FROM gas_by_day WHERE chain = 'xrpl:main' ORDER BY day
SELECT
  chain,
  chain_number,
  day,
  sum(f.transactions) AS transactions,
  sum(f.fee) AS fee_paid,
  if(sum(f.burnt_unknown) = 0, sum(f.burnt), NULL) AS fee_burnt,
  sum(f.gas_required) AS total_gas_required,
  sum(f.gas_paid_by_user) AS total_gas_paid_by_user,
  sum(f.gas_paid_by_treasury) AS total_gas_paid_by_treasury
FROM (
  SELECT
    chain, chain_number, day, sum(s.transactions) AS transactions, sum(s.fee) AS fee, sum(s.burnt) AS burnt,
    sum(s.burnt_unknown) AS burnt_unknown, sum(s.gas_required) AS gas_required,
    sum(s.gas_paid_by_user) AS gas_paid_by_user, sum(s.gas_paid_by_treasury) AS gas_paid_by_treasury
  FROM gas_sums AS s
  GROUP BY chain, chain_number, day
  UNION ALL
  SELECT
    chain, chain_number, day, transactions, fee, burnt, burnt_unknown, gas_required, gas_paid_by_user,
    gas_paid_by_treasury
  FROM fees_apart
) AS f
GROUP BY chain, chain_number, day
