-- Fees by day (UTC) and owner, with S0's three sums, as in gas_report; in the native coin's smallest unit.
-- Example: SELECT day, sum(fee_paid) FROM gas_daily WHERE chain = 'xrpl:main' GROUP BY day ORDER BY day
SELECT
  chain,
  chain_number,
  toDate(close_time) AS day,
  owner,
  count() AS transactions,
  sum(fee) AS fee_paid,
  if(countIf(burnt IS NULL) = 0, sum(burnt), NULL) AS fee_burnt,
  sum(gas_required) AS total_gas_required,
  sum(gas_paid_by_user) AS total_gas_paid_by_user,
  sum(gas_paid_by_treasury) AS total_gas_paid_by_treasury
FROM gas_ledger
WHERE finality != 'retracted' AND (
  NOT startsWith(chain, 'offchain/gas:') OR hash IN (
    SELECT event_id FROM event_outcomes
    WHERE type IN ('INTERNAL_GAS_CHARGE', 'INTERNAL_GAS_COVERAGE') AND status = 'applied'
  )
)
GROUP BY chain, chain_number, day, owner
