-- Transfers of each asset by day (UTC), as posted in the books: how many, and how many units of the book they moved.
-- Fees, mints, burns, trades and locks are transfers; openings, adjustments of gaps and marks of blocks are none.
-- What a chain may still take back is not posted yet and not counted; nothing is counted twice.
-- Recompute: SELECT chain, asset, toDate(time) AS day, count() AS transfers, sum(amount) AS amount FROM (SELECT * FROM transfers FINAL) AS t WHERE status = 'posted' AND code NOT IN (105, 108, 109) GROUP BY chain, asset, day
-- Example: SELECT day, transfers, amount FROM transfers_daily WHERE asset = 'xrpl:main/XRP' ORDER BY day
SELECT chain, chain_number, asset, day, sum(of_code.1) AS transfers, sum(of_code.2) AS amount
FROM (
  SELECT chain, chain_number, asset, code, day, (sum(s.transfers), sum(s.amount)) AS of_code
  FROM transfer_sums AS s
  GROUP BY chain, chain_number, asset, code, day
)
WHERE code NOT IN (105, 108, 109)
GROUP BY chain, chain_number, asset, day
