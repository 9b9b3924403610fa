-- What the gas views add up: sums of fees by day (UTC) and owner, several rows for one key; ask gas_daily or gas_report.
-- The roll-up gas_sums has final blocks and what was applied in managed custody; what is in no roll-up: fees_apart.
-- burnt_unknown: transactions whose burnt part nobody tells. app_id: empty on chains.
-- Example: SELECT day, sum(fee) FROM fees_by_day WHERE app_id = 'mintlings' GROUP BY day
SELECT
  chain, chain_number, owner, day, toString(app_id) AS app_id, sum(s.transactions) AS transactions, sum(s.fee) AS fee,
  sum(s.burnt) AS burnt, sum(s.burnt_unknown) AS burnt_unknown, sum(s.gas_required) AS gas_required,
  sum(s.gas_paid_by_user) AS gas_paid_by_user, sum(s.gas_paid_by_treasury) AS gas_paid_by_treasury
FROM gas_sums AS s
GROUP BY chain, chain_number, owner, day, app_id
UNION ALL
SELECT
  chain, chain_number, owner, day, app_id, transactions, fee, burnt, burnt_unknown, gas_required, gas_paid_by_user,
  gas_paid_by_treasury
FROM fees_apart
