-- Who holds an asset now, as posted in the books, in units of the book: users (off chain) and holders (on chains) with
-- more than nothing. What is locked in escrows and channels is not among it; over time: holders_daily.
-- Recompute: SELECT asset, one.2 AS owner, sum(one.3) AS units FROM transfers FINAL ARRAY JOIN [(credit_code, credit_owner, toInt256(amount)), (debit_code, debit_owner, -toInt256(amount))] AS one WHERE status = 'posted' AND one.1 IN (1, 101) GROUP BY asset, owner HAVING units > 0
-- Example: SELECT owner, units FROM asset_holders WHERE asset = 'xrpl:main/XRP' ORDER BY units DESC LIMIT 10
SELECT chain, chain_number, asset, owner, sum(s.change) AS units
FROM holding_sums AS s
GROUP BY chain, chain_number, asset, owner
HAVING units > 0
