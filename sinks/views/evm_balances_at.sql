-- Balances of tokens on EVM chains after the block of that number, as the logs add up: one row per (account, asset) that
-- a block not retracted changed, or whose opening is known. Exact decimals of any size; 0 where nothing is left.
-- balance: final blocks only. balance_head: with the unfinal ones. Both include the opening: what the account held before
-- the contract's start block; it holds whatever becomes of the block that told it. partial: the account held something before that nobody tells, so its balance lacks it.
-- block_number, transaction_index and hash are those of the last change counted in balance_head, -1 and empty for none.
-- position: block number.
-- Example: SELECT account, balance FROM evm_balances_at(position = 19000000) WHERE asset = 'erc20:0xc02aaa39b223fe8d0a0e5c4f27ead9083c756cc2'
SELECT
  chain, chain_number, account, asset, balance, balance_head, partial, block_number, transaction_index, hash
FROM evm_balances_upto(position = {position:Int64}, time = toDateTime64(9999999999, 3, 'UTC'))
