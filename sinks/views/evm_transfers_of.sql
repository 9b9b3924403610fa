-- Every token that an account got or gave away on EVM chains, wraps of the native coin included, in the order it
-- happened; one row per transfer, that of an account to itself once. What the chain took back is left out.
-- amount: exact, 1 for an ERC-721 token. finality: head may still be taken back. 0x0 on one side: minted or burnt.
-- account: its address, upper or lower case.
-- Example: SELECT time, asset, direction, amount FROM evm_transfers_of(account = '0xd8da6bf26964af9d7eed9e03e53415d37aa96045')
SELECT
  chain,
  chain_number,
  block_number,
  time,
  transaction_index,
  log_index,
  batch_position,
  hash,
  multiIf(from_address = to_address, 'self', to_address = lower({account:String}), 'in', 'out') AS direction,
  from_address,
  to_address,
  standard,
  contract,
  asset,
  token_id,
  amount,
  operator,
  finality,
  block_hash
FROM evm_transfers FINAL
WHERE (from_address = lower({account:String}) OR to_address = lower({account:String})) AND finality != 'retracted'
ORDER BY chain_number, block_number, transaction_index, log_index, batch_position
