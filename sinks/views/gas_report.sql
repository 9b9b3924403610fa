-- Fees by owner: how many transactions paid one, how much, how much of it was burnt, and S0's three sums.
-- In the native coin's smallest unit. On the chain an owner pays all that a transaction requires, the treasury nothing.
-- Example: SELECT * FROM gas_report WHERE owner = 'rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh'
SELECT
  chain,
  chain_number,
  owner,
  count() AS transactions,
  sum(fee) AS fee_paid,
  sum(burnt) AS fee_burnt,
  sum(gas_required) AS total_gas_required,
  sum(gas_paid_by_user) AS total_gas_paid_by_user,
  sum(gas_paid_by_treasury) AS total_gas_paid_by_treasury
FROM gas_ledger
WHERE finality != 'retracted'
GROUP BY chain, chain_number, owner
