-- S0's gas report: by user and currency, what transactions in managed custody required, and who paid which part of it.
-- In the currency's smallest unit; applied charges and coverages alone. Fees on chains, by address: gas_report.
-- Example: SELECT total_gas_required, total_gas_paid_by_treasury FROM gas_of_users WHERE user_id = 'alice'
SELECT
  owner AS user_id,
  replaceOne(chain, 'offchain/gas:', '') AS currency,
  sum(s.transactions) AS transactions,
  sum(s.gas_required) AS total_gas_required,
  sum(s.gas_paid_by_user) AS total_gas_paid_by_user,
  sum(s.gas_paid_by_treasury) AS total_gas_paid_by_treasury
FROM gas_sums AS s
WHERE chain_number = 0
GROUP BY user_id, currency
