-- What one account of an XRP Ledger has after the ledger of that number, as balances_of has it: a row per asset that it
-- ever had, with the transaction that changed it last. XRP in drops.
-- owner: its address. position: ledger index.
-- Example: SELECT asset, balance FROM ledger_balances_of(owner = 'rHb9CJAWyB4rj91VRWn96DkukG4bwdtyTh', position = 341)
SELECT chain, chain_number, account, asset, balance, ledger_index, transaction_index, hash
FROM balance_changes
PREWHERE account = {owner:String}
WHERE ledger_index <= {position:Int64}
ORDER BY chain_number DESC, account DESC, asset DESC, ledger_index DESC, transaction_index DESC, row_number DESC
LIMIT 1 BY chain_number, account, asset
SETTINGS final = 0 -- a row that is there twice says the same
