-- What its chain told of a token, in the order it happened: the rows of provenance, with the same columns, for a token that
-- no application knows. It reads no application's tables and takes about half the time.
-- asset: key of the token, <chain>/nft:<NFTokenID>, <chain>/erc721:<contract>/<token id> or <chain>/mpt:<issuance id>,
-- addresses in lower case, ids of the XRP Ledger in upper case.
-- Example: SELECT time, type, from_owner, to_owner, hash, verified FROM chain_provenance(asset = 'xrpl:0/nft:0008...')
WITH
  {asset:String} AS token_key,
  token_blocks AS (
    SELECT block FROM asset_changes PREWHERE asset = token_key WHERE finality != 'retracted'
    UNION ALL
    SELECT ledger_index FROM mpt_changes PREWHERE issuance = extract(token_key, '/mpt:(.+)$')
  )
SELECT
  chain, chain_number, block, time, transaction_index, change_index, hash, type, action, from_owner, to_owner, amount,
  change, locked, uri, finality, block_hash, source, token_key AS about,
  '' AS event_id, '' AS app_id, CAST(NULL AS Nullable(String)) AS user_id, '' AS detail,
  toUInt8(finality = 'final' AND (chain_number, block, block_hash) IN (
    SELECT chain_number, block, ifNull(v.block_hash, '')
    FROM (
      SELECT *, maxIf(last_block, outcome = 'verified' AND last_block > block) OVER (
        PARTITION BY chain_number, if(block = last_block, greatest(run, verified_up_to + 1), block)
      ) AS reach
      FROM verdicts
      WHERE block IN (
        SELECT arrayJoin([block, greatest(run, verified_up_to + 1)]) FROM verdicts
        WHERE block IN (SELECT block FROM token_blocks)
      )
    ) AS v
    WHERE block = last_block AND if(outcome = 'verified', verified_up_to, reach) >= block
  )) AS verified,
  _topic, _partition, _offset, _epoch
FROM (
  SELECT
    'asset_changes' AS source, chain, chain_number, block, block_hash, time, transaction_index, change_index, hash, type,
    action, from_owner, to_owner, amount, change, locked, uri, finality, _topic, _partition, _offset, _epoch
  FROM (
    SELECT * FROM asset_changes
    PREWHERE asset = token_key
    ORDER BY finality = 'final' DESC, incarnation DESC, finality = 'retracted' DESC, _offset DESC
    LIMIT 1 BY chain_number, asset, block, transaction_index, change_index, branch
  )
  WHERE finality != 'retracted' AND chain_number > 0
  UNION ALL
  SELECT
    'mpt_changes', chain, chain_number, ledger_index, ifNull(ledger_hash, ''), close_time, transaction_index,
    toInt32(row_number), hash, type, concat('holder_', action), NULL, account, amount, change, locked, NULL, 'final',
    _topic, _partition, _offset, _epoch
  FROM mpt_changes
  PREWHERE issuance = extract(token_key, '/mpt:(.+)$')
  WHERE concat(chain, '/mpt:', issuance) = token_key AND account IS NOT NULL
  ORDER BY _offset DESC
  LIMIT 1 BY chain_number, ledger_index, transaction_index, row_number
) AS s
ORDER BY chain_number, block, transaction_index, change_index, _offset -- a token is of one chain
SETTINGS final = 0
