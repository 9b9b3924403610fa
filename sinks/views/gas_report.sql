-- Fees by owner: how many transactions paid one, how much, how much of it was burnt, and S0's three sums.
-- In the native coin's smallest unit. The owner pays all that a transaction requires, but for a treasury of the settings:
-- what that pays for others is total_gas_paid_by_treasury. fee_burnt is null where it is unknown of some transaction.
-- What the chain took back is left out; blocks that are not final yet are counted.
-- Example: SELECT * FROM gas_report WHERE owner = 'rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh'
SELECT
  chain,
  chain_number,
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
GROUP BY chain, chain_number, owner
