-- The whole story of an asset in the order it happened, each row with its place in topic and chain: its entry in the
-- registry, transactions, social events, listings, sales, fractions, gas, custody, the events of the pack that it was in,
-- and what the chain told of its token. An asset of an application that is bound to a token has one story under both names.
-- Of applications the applied alone; what a chain took back is left out. S1's positions: position_provenance. Checkpoints
-- will be one more branch, once there is a table of them.
-- asset: key of a token, <chain>/nft:<NFTokenID>, <chain>/erc721:<contract>/<token id> or <chain>/mpt:<issuance id>; or
-- the id of an application's asset (offchain/asset:<id> too).
-- source: the table of the row. about: what the row is of: the token, the asset or the pack.
-- A row of an application has chain offchain, its event's time in ms as block, its event_id, and as hash the transaction
-- that it names; from_owner, to_owner, amount and change say what it did to the asset, amount being the units after.
-- For an MPT the changes of each holder (to_owner, amount = what he holds after) stand between those of the issuance.
-- block_hash: of the block or ledger with that transaction. finality: head may still be taken back. detail: JSON.
-- verified: 1 where a verdict says that this very block and all of its run before it are verified; 1 for all that was
-- applied off-chain.
-- Example: SELECT time, type, from_owner, to_owner, hash, block_hash, verified FROM provenance(asset = 'card-1')
WITH
  (
    SELECT JSONExtractString(argMax(value, version), 'asset_id') FROM application_states
    WHERE domain = 'assets' AND kind = 'token' AND id = {asset:String}
  ) AS bound_id,
  coalesce(nullIf(bound_id, ''), replaceRegexpOne({asset:String}, '^offchain/asset:', '')) AS item_id,
  (
    SELECT (argMax(its_token, of_version), groupArrayIf((container, since, until), container != ''))
    FROM (
      SELECT
        ifNull(parent_container_id, '') AS container, argMax(token, version) AS its_token, max(version) AS of_version,
        min(at) AS since, max(left_at) AS until
      FROM (
        SELECT
          version, token, parent_container_id, last_updated_at AS at,
          leadInFrame(last_updated_at, 1, toDateTime64(9999999999, 3, 'UTC')) OVER (
            ORDER BY version ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
          ) AS left_at
        FROM asset_state_versions WHERE asset_id = item_id
      )
      GROUP BY container
    )
  ) AS item_state,
  ifNull(item_state.1, {asset:String}) AS token_key,
  arrayPushBack(item_state.2, (item_id, toDateTime64(0, 3, 'UTC'), toDateTime64(9999999999, 3, 'UTC'))) AS item_spans
SELECT
  chain, chain_number, block, time, transaction_index, change_index, hash, type, action, from_owner, to_owner, amount,
  change, locked, uri, finality,
  if(s.block_hash != '' OR hash = '', s.block_hash, max(s.block_hash) OVER (PARTITION BY hash)) AS block_hash,
  source, about, event_id, app_id, user_id, detail,
  toUInt8(chain_number = 0 OR (finality = 'final' AND (chain_number, block, s.block_hash) IN (
    SELECT v.chain_number, v.block, ifNull(v.block_hash, '')
    FROM verdicts AS v
    LEFT JOIN (
      SELECT chain_number, block, last_block FROM verdicts
      WHERE outcome = 'verified' AND last_block > block AND block IN (
        SELECT greatest(run, verified_up_to + 1) FROM verdicts
        WHERE outcome != 'verified' AND block IN (
          SELECT block FROM asset_changes PREWHERE asset = token_key WHERE finality != 'retracted'
          UNION ALL
          SELECT ledger_index FROM mpt_changes PREWHERE issuance = extract(token_key, '/mpt:(.+)$')
        )
      )
    ) AS r ON r.chain_number = v.chain_number AND r.block = greatest(v.run, v.verified_up_to + 1)
    WHERE v.block = v.last_block AND if(v.outcome = 'verified', v.verified_up_to, r.last_block) >= v.block AND v.block IN (
      SELECT block FROM asset_changes PREWHERE asset = token_key WHERE finality != 'retracted'
      UNION ALL
      SELECT ledger_index FROM mpt_changes PREWHERE issuance = extract(token_key, '/mpt:(.+)$')
    )
  ))) AS verified,
  _topic, _partition, _offset, _epoch
FROM (
  SELECT
    chain, chain_number, block, time, transaction_index, change_index, hash, type, action, from_owner, to_owner,
    amount, change, locked, uri, if(finality = '', 'final', finality) AS finality, block_hash,
    'asset_changes' AS source, asset AS about, '' AS event_id, '' AS app_id, CAST(NULL AS Nullable(String)) AS user_id,
    '' AS detail, time AS recorded_at, _topic, _partition, _offset, _epoch
  FROM asset_changes AS a FINAL
  PREWHERE asset = token_key
  WHERE a.finality != 'retracted' AND chain_number > 0
  UNION ALL
  SELECT
    chain, chain_number, ledger_index, close_time, transaction_index, toInt32(row_number), hash, type,
    concat('holder_', action), NULL, account, amount, change, locked, NULL, 'final', ifNull(ledger_hash, ''),
    'mpt_changes', token_key, '', '', NULL, '', close_time, _topic, _partition, _offset, _epoch
  FROM mpt_changes FINAL
  PREWHERE issuance = extract(token_key, '/mpt:(.+)$')
  WHERE chain = extract(token_key, '^(.+)/mpt:') AND account IS NOT NULL
  UNION ALL
  SELECT
    'offchain', 0, if(f.block = 0, toUnixTimestamp64Milli(e.at), f.block), if(e.event_id = '', f.time, e.at), 0, 0,
    e.tx_hash, if(e.event_id = '', f.type, e.type), f.action, ifNull(f.from_owner, e.giver), ifNull(f.to_owner, e.taker),
    if(f.hash = '', e.units, f.amount), f.change, f.locked, NULL, 'final', e.block_hash,
    if(e.event_id = '', 'asset_changes', e.source), if(e.event_id = '', item_id, e.asset_id),
    if(e.event_id = '', f.hash, e.event_id), e.app_id, e.user_id, e.detail,
    if(e.event_id = '', f.time, e.recorded_at), if(e.event_id = '', f._topic, e._topic),
    if(e.event_id = '', f._partition, e._partition), if(e.event_id = '', f._offset, e._offset),
    if(e.event_id = '', f._epoch, e._epoch)
  FROM (
    SELECT *
    FROM (
      SELECT
        'asset_registry' AS source, asset_id, event_id, type, at, recorded_at, user_id,
        CAST(NULL AS Nullable(String)) AS giver, owner_user_id AS taker, '' AS units, app_id, '' AS tx_hash, '' AS block_hash,
        toJSONString(map('asset_type', toString(asset_type), 'title', title, 'custody_type', toString(custody_type)))
          AS detail, _topic, _partition, _offset, _epoch
      FROM asset_registry FINAL
      UNION ALL
      SELECT
        'asset_transactions', asset_id, event_id, type, at, recorded_at, user_id, from_user_id,
        ifNull(to_user_id, to_address), ifNull(units, ''), app_id, ifNull(tx_hash, ''), '', payload,
        _topic, _partition, _offset, _epoch
      FROM asset_transactions FINAL
      UNION ALL
      SELECT
        'asset_events', asset_id, event_id, type, at, recorded_at, user_id, NULL, NULL, '', app_id, '', '', payload,
        _topic, _partition, _offset, _epoch
      FROM asset_events FINAL
    )
    WHERE asset_id IN (SELECT arrayJoin(item_spans.1))
      AND arrayExists(span -> span.1 = asset_id AND at BETWEEN span.2 AND span.3, item_spans)
      AND event_id IN (
        SELECT event_id FROM applied_events
        WHERE topic = 'assets.activity.v1' AND key IN (SELECT arrayJoin(item_spans.1))
      )
    UNION ALL
    SELECT
      'asset_chain_observations', asset_id, event_id, type, at, recorded_at, user_id, from_address, to_address, amount,
      app_id, tx_hash, '', toJSONString(map('chain', toString(chain), 'action', toString(action), 'amount', amount)),
      _topic, _partition, _offset, _epoch
    FROM asset_chain_observations FINAL PREWHERE asset_id = token_key
  ) AS e
  FULL JOIN (
    SELECT
      hash, type, action, from_owner, to_owner, amount, change, locked, block, time, _topic, _partition, _offset, _epoch
    FROM asset_changes FINAL
    PREWHERE asset = concat('offchain/asset:', item_id)
    WHERE chain_number = 0 AND finality != 'retracted'
  ) AS f ON e.event_id = f.hash
  WHERE f.hash != '' OR e.source != 'asset_chain_observations'
) AS s
ORDER BY
  if(chain_number = 0, time, max(time) OVER (
    PARTITION BY chain_number ORDER BY block, transaction_index, change_index
    ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
  )),
  chain_number = 0, if(chain_number = 0, recorded_at, toDateTime64(0, 3, 'UTC')), source != 'asset_registry', chain_number,
  block, transaction_index, change_index, _offset
SETTINGS do_not_merge_across_partitions_select_final = 1
