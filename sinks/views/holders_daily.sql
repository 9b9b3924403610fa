-- Holders of each asset over time: how many owners had more than nothing at the day's end (UTC), as posted in the books.
-- Of accounts of users (off chain) and holders (on chains); what is locked in escrows and channels is not theirs then.
-- A day on which nothing of the asset moved has no row: the row before it holds. An opening counts from the day it is told.
-- Recompute: SELECT asset, day, countIf(held > 0) AS holders FROM (SELECT d.asset AS asset, d.day AS day, m.owner AS owner, sumIf(m.change, m.at <= d.day) AS held FROM (SELECT DISTINCT asset, toDate(time) AS day FROM transfers FINAL WHERE status = 'posted' AND (debit_code IN (1, 101) OR credit_code IN (1, 101))) AS d INNER JOIN (SELECT asset, toDate(time) AS at, one.2 AS owner, one.3 AS change FROM transfers FINAL ARRAY JOIN [(credit_code, credit_owner, toInt256(amount)), (debit_code, debit_owner, -toInt256(amount))] AS one WHERE status = 'posted' AND one.1 IN (1, 101)) AS m ON m.asset = d.asset GROUP BY asset, day, owner) GROUP BY asset, day
-- Example: SELECT day, holders FROM holders_daily WHERE asset = 'xrpl:main/XRP' ORDER BY day
SELECT
  chain, chain_number, asset, day,
  toInt64(sum(sum(step)) OVER (PARTITION BY chain, chain_number, asset ORDER BY day)) AS holders
FROM (
  SELECT chain, chain_number, asset, day, toInt32(held > 0) - toInt32(held - change > 0) AS step
  FROM (
    SELECT
      chain, chain_number, asset, owner, day, sum(s.change) AS change,
      sum(sum(s.change)) OVER (PARTITION BY chain, chain_number, asset, owner ORDER BY day) AS held
    FROM holding_sums AS s
    GROUP BY chain, chain_number, asset, owner, day
  )
)
GROUP BY chain, chain_number, asset, day
