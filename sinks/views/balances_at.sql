-- Balances as the chain gives them, after the ledger or block of that number: one row per (account, asset) ever changed,
-- with the transaction that changed it last. Exact decimals; 0 where nothing is left. XRP in drops.
-- On EVM chains what the transfers add up to, blocks that are not final yet included, those taken back not; the view
-- evm_balances_at tells final balances apart, and which are partial.
-- position: ledger index or block number.
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
FROM balance_changes AS b FINAL
WHERE b.ledger_index <= {position:Int64}
GROUP BY chain, chain_number, account, asset
UNION ALL
SELECT chain, chain_number, account, asset, balance_head, block_number, transaction_index, hash
FROM evm_balances_at(position = {position:Int64})
