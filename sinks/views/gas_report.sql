-- Fees by owner: how many transactions paid one, how much, how much of it was burnt, and S0's three sums.
-- In the native coin's smallest unit. The owner pays all that a transaction requires, but for a treasury of the settings:
-- what that pays for others is total_gas_paid_by_treasury. fee_burnt is null where it is unknown of some transaction.
-- What the chain took back is left out; blocks that are not final yet are counted. Gas in managed custody: chain
-- offchain/gas:<currency>, applied charges and coverages alone.
-- Recompute: SELECT chain, owner, count() AS transactions, sum(fee) AS fee_paid, if(countIf(burnt IS NULL) = 0, sum(burnt), NULL) AS fee_burnt, sum(gas_required) AS total_gas_required, sum(gas_paid_by_user) AS total_gas_paid_by_user, sum(gas_paid_by_treasury) AS total_gas_paid_by_treasury FROM gas_ledger FINAL WHERE finality != 'retracted' GROUP BY chain, owner
-- Example: SELECT * FROM gas_report WHERE owner = 'rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh'
SELECT
  chain,
  chain_number,
  owner,
  sum(f.transactions) AS transactions,
  sum(f.fee) AS fee_paid,
  if(sum(f.burnt_unknown) = 0, sum(f.burnt), NULL) AS fee_burnt,
  sum(f.gas_required) AS total_gas_required,
  sum(f.gas_paid_by_user) AS total_gas_paid_by_user,
  sum(f.gas_paid_by_treasury) AS total_gas_paid_by_treasury
FROM fees_by_day AS f
GROUP BY chain, chain_number, owner
