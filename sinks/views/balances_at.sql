-- Balances as the chain gives them, after the ledger of that index: one row per (account, asset) ever changed, with
-- the transaction that changed it last. Exact decimals; 0 where nothing is left. XRP in drops.
-- position: ledger index.
-- Example: SELECT asset, balance FROM balances_at(position = 341) WHERE account = 'rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh'
SELECT
  chain,
  chain_number,
  account,
  asset,
  argMax(b.balance, place) AS balance,
  max(tuple(b.ledger_index, b.transaction_index, b.row_number) AS place).1 AS ledger_index,
  max(place).2 AS transaction_index,
  argMax(b.hash, place) AS hash
FROM balance_changes AS b
WHERE b.ledger_index <= {position:Int64}
GROUP BY chain, chain_number, account, asset
