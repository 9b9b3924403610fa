-- What one account has of everything after the ledger or block of that number, as balances_at has it for all, and as
-- quickly as for one: a row per asset that it ever had, with the transaction that changed it last. XRP in drops.
-- XRPL as the chain gives the balances; EVM chains as the transfers add up, blocks that are not final yet included.
-- owner: its address, as the chain writes it. position: ledger index or block number.
-- Example: SELECT asset, balance FROM balances_of(owner = 'rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh', position = 341)
SELECT chain, chain_number, account, asset, balance, ledger_index, transaction_index, hash
FROM ledger_balances_of(owner = {owner:String}, position = {position:Int64})
UNION ALL
SELECT chain, chain_number, account, asset, balance_head, block_number, transaction_index, hash
FROM evm_balances_upto(position = {position:Int64}, time = toDateTime64(9999999999, 3, 'UTC'))
WHERE account = {owner:String}
SETTINGS do_not_merge_across_partitions_select_final = 1
