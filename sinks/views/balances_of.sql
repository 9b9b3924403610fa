-- What one account has of everything after the ledger or block of that number, as balances_at has it for all, and as
-- quickly as for one: a row per asset that it ever had, with the transaction that changed it last. XRP in drops.
-- XRPL as the chain gives the balances; EVM chains as the transfers add up, blocks that are not final yet included.
-- owner: its address, as the chain writes it. position: ledger index or block number.
-- Example: SELECT asset, balance FROM balances_of(owner = 'rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh', position = 341)
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
PREWHERE account = {owner:String}
WHERE b.ledger_index <= {position:Int64}
GROUP BY chain, chain_number, account, asset
UNION ALL
SELECT chain, chain_number, account, asset, balance_head, block_number, transaction_index, hash
FROM evm_balances_at(position = {position:Int64})
WHERE account = {owner:String}
SETTINGS do_not_merge_across_partitions_select_final = 1
