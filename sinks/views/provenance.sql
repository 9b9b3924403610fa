-- The whole story of one NFT, ERC-721 token or MPT issuance in the order it happened, each row with its place in topic
-- and chain. What the chain took back is left out; finality tells what it still may take back (head).
-- asset: the asset's key, <chain>/nft:<NFTokenID>, <chain>/erc721:<contract>/<token id> or <chain>/mpt:<issuance id>.
-- For an MPT the changes of each holder (to_owner, amount = what he holds after) stand between those of the issuance.
-- Example: SELECT * FROM provenance(asset = 'xrpl:main/nft:000…')
SELECT * FROM (
  SELECT
    chain, chain_number, block, time, transaction_index, change_index, hash, type, action, from_owner, to_owner,
    amount, change, locked, uri, if(finality = '', 'final', finality) AS finality, block_hash,
    _topic, _partition, _offset, _epoch
  FROM asset_changes AS a
  WHERE asset = {asset:String} AND a.finality != 'retracted'
  UNION ALL
  SELECT
    chain, chain_number, ledger_index, close_time, transaction_index, toInt32(row_number), hash, type,
    concat('holder_', action), NULL, account, amount, change, locked, NULL, 'final', ifNull(ledger_hash, ''),
    _topic, _partition, _offset, _epoch
  FROM mpt_changes
  WHERE issuance = extract({asset:String}, '/mpt:(.+)$') AND chain = extract({asset:String}, '^(.+)/mpt:') AND account IS NOT NULL
)
ORDER BY chain_number, block, transaction_index, change_index
