-- The whole story of an asset in the order it happened, each row with its place in topic and chain: its entry in the
-- registry, transactions, social events, listings, sales, fractions, gas, custody, the events of the pack that it was in,
-- and what the chain told of its token. An asset of an application that is bound to a token has one story under both names.
-- Of applications the applied alone; what a chain took back is left out. S1's positions: position_provenance. Checkpoints
-- will be one more branch, once there is a table of them. No application knows the token: chain_provenance says the same.
-- Clocks of applications differ: a pack's events are those that the topic has while the asset is in it, by its states.
-- What an answer costs is what ClickHouse prepares: few reads, all by key, no FINAL.
-- Of rows that stand there twice the last is told; of a block's the one that it came to.
-- asset: key of a token, <chain>/nft:<NFTokenID>, <chain>/erc721:<contract>/<token id> or <chain>/mpt:<issuance id>; or
-- the id of an application's asset (offchain/asset:<id> too). Keys have addresses in lower case, ids of the XRP Ledger in
-- upper case.
-- source: the table of the row. about: what the row is of: the token, the asset or the pack.
-- A row of an application has chain offchain, its event's time in ms as block (never before the state that it
-- follows), its event_id, and as hash the transaction that it names; from_owner, to_owner, amount and change say what it
-- did to the asset, amount being the units after.
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
    SELECT (
      argMax(token, version),
      arraySort(groupUniqArray((version, ifNull(parent_container_id, ''), last_updated_at, event_id)))
    )
    FROM asset_state_versions WHERE asset_id = item_id
  ) AS item_state,
  ifNull(item_state.1, {asset:String}) AS token_key,
  arrayConcat(item_state.2.2, [item_id, token_key]) AS item_names,
  token_blocks AS (
    SELECT block FROM asset_changes PREWHERE asset = token_key WHERE finality != 'retracted'
    UNION ALL
    SELECT ledger_index FROM mpt_changes PREWHERE issuance = extract(token_key, '/mpt:(.+)$')
  )
SELECT
  chain, chain_number, block, time, transaction_index, change_index, hash, type, action, from_owner, to_owner, amount,
  change, locked, uri, finality,
  if(s.block_hash != '' OR hash = '', s.block_hash, max(s.block_hash) OVER (PARTITION BY hash)) AS block_hash,
  source, about, event_id, app_id, user_id, detail,
  toUInt8(chain_number = 0 OR (finality = 'final' AND (chain_number, block, s.block_hash) IN (
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
  ))) AS verified,
  _topic, _partition, _offset, _epoch
FROM (
  SELECT
    if(f.chain_number = 0, 'offchain', f.chain) AS chain, f.chain_number AS chain_number,
    if(f.block = 0, toUnixTimestamp64Milli(e.told_at), f.block) AS block, if(e.event_id = '', f.time, e.at) AS time,
    f.transaction_index AS transaction_index, f.change_index AS change_index,
    if(f.chain_number = 0, e.tx_hash, f.hash) AS hash, if(e.event_id = '', f.type, e.type) AS type, f.action AS action,
    ifNull(f.from_owner, e.giver) AS from_owner, ifNull(f.to_owner, e.taker) AS to_owner,
    if(f.source = '', e.units, f.amount) AS amount, f.change AS change, f.locked AS locked, f.uri AS uri,
    if(f.finality = '', 'final', f.finality) AS finality, f.block_hash AS block_hash,
    if(e.event_id = '', f.source, e.source) AS source, if(e.event_id = '', f.about, e.asset_id) AS about,
    if(e.event_id = '', f.event_id, e.event_id) AS event_id, toString(e.app_id) AS app_id, e.user_id AS user_id,
    e.detail AS detail, if(e.event_id = '', f.time, e.recorded_at) AS recorded_at,
    if(e.event_id = '', f._topic, e._topic) AS _topic,
    if(e.event_id = '', f._partition, e._partition) AS _partition, if(e.event_id = '', f._offset, e._offset) AS _offset,
    if(e.event_id = '', f._epoch, e._epoch) AS _epoch
  FROM (
    SELECT
      'asset_changes' AS source, chain, chain_number, block, if(chain_number = 0, '', block_hash) AS block_hash, time,
      if(chain_number = 0, 0, transaction_index) AS transaction_index, if(chain_number = 0, 0, change_index) AS change_index,
      hash, type, action, from_owner, to_owner, amount, change, locked, if(chain_number = 0, NULL, uri) AS uri, finality,
      replaceOne(asset, 'offchain/asset:', '') AS about, if(chain_number = 0, hash, '') AS event_id,
      _topic, _partition, _offset, _epoch
    FROM (
      SELECT * FROM asset_changes
      PREWHERE asset IN (token_key, concat('offchain/asset:', item_id))
      ORDER BY finality = 'final' DESC, incarnation DESC, finality = 'retracted' DESC, _offset DESC
      LIMIT 1 BY chain_number, asset, block, transaction_index, change_index, branch
    )
    WHERE finality != 'retracted'
    UNION ALL
    SELECT
      'mpt_changes', chain, chain_number, ledger_index, ifNull(ledger_hash, ''), close_time, transaction_index,
      toInt32(row_number), hash, type, concat('holder_', action), NULL, account, amount, change, locked, NULL, 'final',
      token_key, '', _topic, _partition, _offset, _epoch
    FROM mpt_changes
    PREWHERE issuance = extract(token_key, '/mpt:(.+)$')
    WHERE concat(chain, '/mpt:', issuance) = token_key AND account IS NOT NULL
    ORDER BY _offset DESC
    LIMIT 1 BY chain_number, ledger_index, transaction_index, row_number
  ) AS f
  FULL JOIN (
    SELECT *, greatest(at, item_state.2.3[state_number]) AS told_at
    FROM (
      SELECT *, max(indexOf(item_state.2.4, event_id)) OVER (
        ORDER BY epoch_at, _epoch, _offset ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
      ) AS state_number
      FROM (
        SELECT *, min(recorded_at) OVER (PARTITION BY _epoch) AS epoch_at
        FROM (
          SELECT
            'asset_registry' AS source, asset_id, event_id, type, at, recorded_at, user_id,
            CAST(NULL AS Nullable(String)) AS giver, owner_user_id AS taker, '' AS units, app_id, '' AS tx_hash,
            toJSONString(map('asset_type', toString(asset_type), 'title', title, 'custody_type', toString(custody_type)))
              AS detail, _topic, _partition, _offset, _epoch
          FROM asset_registry
          UNION ALL
          SELECT
            'asset_transactions', asset_id, event_id, type, at, recorded_at, user_id, from_user_id,
            ifNull(to_user_id, to_address), ifNull(units, ''), app_id, ifNull(tx_hash, ''), payload,
            _topic, _partition, _offset, _epoch
          FROM asset_transactions
          UNION ALL
          SELECT
            'asset_events', asset_id, event_id, type, at, recorded_at, user_id, NULL, NULL, '', app_id, '', payload,
            _topic, _partition, _offset, _epoch
          FROM asset_events
          UNION ALL
          SELECT
            'asset_chain_observations', asset_id, event_id, type, at, recorded_at, user_id, from_address, to_address, amount,
            app_id, tx_hash, toJSONString(map('chain', toString(chain), 'action', toString(action), 'amount', amount)),
            _topic, _partition, _offset, _epoch
          FROM asset_chain_observations
        )
        WHERE has(item_names, asset_id)
          AND event_id IN (
            SELECT event_id FROM applied_events WHERE topic = 'assets.activity.v1' AND has(item_names, key)
          )
        ORDER BY _offset DESC
        LIMIT 1 BY source, event_id
      )
    )
    WHERE asset_id IN (item_id, token_key) OR asset_id = item_state.2.2[state_number]
      OR (event_id = item_state.2.4[state_number] AND asset_id = item_state.2.2[state_number - 1])
  ) AS e ON e.event_id = f.event_id
  WHERE f.source != '' OR e.source != 'asset_chain_observations'
) AS s
ORDER BY
  if(chain_number = 0, fromUnixTimestamp64Milli(block, 'UTC'), max(time) OVER (
    PARTITION BY chain_number ORDER BY block, transaction_index, change_index
    ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
  )),
  chain_number = 0, if(chain_number = 0, recorded_at, toDateTime64(0, 3, 'UTC')), source != 'asset_registry', chain_number,
  block, transaction_index, change_index, _offset
SETTINGS final = 0
