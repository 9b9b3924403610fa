-- What is known of every asset that the books or the applications have: symbol, name, decimals, kind. One row each; the
-- source of the dictionary asset_dictionary, which answers by key at once.
-- decimals: how many digits of a book's unit stand behind the point of the asset's own unit (drops: 6; an issued currency
-- has books in 10^-15: 15; 0 = counted whole); null where nobody tells, as of an ERC-20 contract.
-- kind: native, issued, mpt, nft, erc20, erc721, erc1155, fiat (an off-chain currency), token, fraction, gas or application.
-- Example: SELECT asset, symbol, decimals FROM asset_names WHERE asset = 'xrpl:main/XRP'
WITH
  substring(asset, position(asset, '/') + 1) AS told,
  ['USD', 'EUR', 'GBP', 'BTC', 'ETH', 'USDC', 'USDT', 'SOVR', 'sFIAT'] AS currencies,
  [2, 2, 2, 8, 18, 6, 6, 0, 0] AS scales
SELECT
  asset,
  if(position(asset, '/') > 0, substring(asset, 1, position(asset, '/') - 1), '') AS chain,
  multiIf(
    titles != '', 'application',
    startsWith(asset, 'offchain/token:'), 'token',
    startsWith(asset, 'offchain/fraction:'), 'fraction',
    startsWith(asset, 'offchain/gas:'), 'gas',
    startsWith(asset, 'offchain/'), 'fiat',
    told IN ('XRP', 'native'), 'native',
    match(told, '^(mpt|nft|erc20|erc721|erc1155):'), substring(told, 1, position(told, ':') - 1),
    'issued'
  ) AS kind,
  multiIf(
    kind IN ('token', 'fraction', 'gas'), substring(told, position(told, ':') + 1),
    kind IN ('fiat', 'native'), replaceOne(told, 'native', ''),
    kind = 'issued', substring(told, 1, length(told) - position(reverse(told), '.')),
    ''
  ) AS symbol,
  if(titles != '', titles, told) AS name,
  multiIf(
    told = 'XRP', 6,
    kind = 'native', 18,
    kind = 'issued', 15,
    kind = 'token', 6,
    kind = 'fiat' AND has(currencies, told), scales[indexOf(currencies, told)],
    kind IN ('mpt', 'nft', 'erc721', 'fraction', 'application'), 0,
    CAST(NULL AS Nullable(UInt8))
  ) AS decimals
FROM (
  SELECT asset, max(title) AS titles
  FROM (
    SELECT DISTINCT toString(asset) AS asset, '' AS title FROM transfer_sums
    UNION ALL
    SELECT DISTINCT toString(asset), '' FROM accounts
    UNION ALL
    SELECT asset_id, argMax(title, version) FROM asset_state_versions GROUP BY asset_id
  )
  GROUP BY asset
)
