-- S1's compliance export, part 3 of 4, audit trail: every event that any application told, applied, refused or waiting,
-- oldest first: who told what when, what became of it and why, and where it stands in its topic.
-- status: applied, refused (reason, field, detail say why) or accepted (not judged yet). client: the key that sent it.
-- payload: what it says, as JSON. Of USER_REGISTERED and APP_REGISTERED no table has that: it is the state that they led to,
-- empty where they led to none (refused, or not judged yet); of USER_ADDRESSES_CHANGED it is always empty. What these three
-- said stands in the topic alone, at _epoch, _partition, _offset.
-- from: first day (UTC). to: last day, included, of the events' own times.
-- Example: SELECT at, topic, type, key, status, reason FROM compliance_audit_trail(from = '2026-01-01', to = '2026-01-31') WHERE status = 'refused'
SELECT
  t.at AS at, t.recorded_at AS recorded_at, t.topic AS topic, t.event_id AS event_id, t.type AS type, t.key AS key,
  t.user_id AS user_id, t.app_id AS app_id, t.client AS client, t.source AS source,
  if(o.status = '', 'accepted', toString(o.status)) AS status, toString(o.reason) AS reason, toString(o.field) AS field,
  o.detail AS detail, t.payload AS payload,
  t._topic AS _topic, t._partition AS _partition, t._offset AS _offset, t._epoch AS _epoch
FROM (
  SELECT
    event_id, 'assets.activity.v1' AS topic, toString(type) AS type, asset_id AS key, at, recorded_at, user_id,
    toString(app_id) AS app_id, toString(client) AS client, toString(source) AS source, payload,
    _topic, _partition, _offset, _epoch
  FROM asset_transactions FINAL WHERE at >= toDateTime64({from:Date}, 3, 'UTC') AND at < toDateTime64({to:Date} + 1, 3, 'UTC')
  UNION ALL
  SELECT
    event_id, 'assets.activity.v1', type, asset_id, at, recorded_at, user_id, app_id, client, source, payload,
    _topic, _partition, _offset, _epoch
  FROM asset_events FINAL WHERE at >= toDateTime64({from:Date}, 3, 'UTC') AND at < toDateTime64({to:Date} + 1, 3, 'UTC')
  UNION ALL
  SELECT
    event_id, 'assets.activity.v1', type, asset_id, at, recorded_at, user_id, app_id, client, source, toJSONString(CAST(
      (asset_type, title, thumbnail_url, issuer_user_id, nfc_uuid, mpt_issuance_id, token, owner_user_id, custody_type,
        container_type),
      'Tuple(asset_type String, title String, thumbnail_url Nullable(String), issuer_user_id Nullable(String),
        nfc_uuid Nullable(String), mpt_issuance_id Nullable(String), token Nullable(String), owner_user_id Nullable(String),
        custody_type String, container_type Nullable(String))'
    )),
    _topic, _partition, _offset, _epoch
  FROM asset_registry FINAL WHERE at >= toDateTime64({from:Date}, 3, 'UTC') AND at < toDateTime64({to:Date} + 1, 3, 'UTC')
  UNION ALL
  SELECT
    event_id, 'assets.activity.v1', type, asset_id, at, recorded_at, user_id, app_id, client, source, toJSONString(CAST(
      (kind, chain, token, action, from_address, to_address, amount, tx_hash, block, transaction_index, change_index),
      'Tuple(kind String, chain String, token Nullable(String), action String, from_address Nullable(String),
        to_address Nullable(String), amount String, tx_hash String, block Int64, transaction_index Int32, change_index Int32)'
    )),
    _topic, _partition, _offset, _epoch
  FROM asset_chain_observations FINAL WHERE at >= toDateTime64({from:Date}, 3, 'UTC') AND at < toDateTime64({to:Date} + 1, 3, 'UTC')
  UNION ALL
  SELECT
    event_id, 'assets.activity.v1', type, asset_id, at, recorded_at, user_id, app_id, client, source, s.value,
    _topic, _partition, _offset, _epoch
  FROM (
    SELECT * FROM asset_activity FINAL WHERE at >= toDateTime64({from:Date}, 3, 'UTC') AND at < toDateTime64({to:Date} + 1, 3, 'UTC') AND event_id NOT IN (
      SELECT event_id FROM asset_transactions WHERE at >= toDateTime64({from:Date}, 3, 'UTC') AND at < toDateTime64({to:Date} + 1, 3, 'UTC')
      UNION ALL
      SELECT event_id FROM asset_events WHERE at >= toDateTime64({from:Date}, 3, 'UTC') AND at < toDateTime64({to:Date} + 1, 3, 'UTC')
      UNION ALL
      SELECT event_id FROM asset_registry WHERE at >= toDateTime64({from:Date}, 3, 'UTC') AND at < toDateTime64({to:Date} + 1, 3, 'UTC')
      UNION ALL
      SELECT event_id FROM asset_chain_observations WHERE at >= toDateTime64({from:Date}, 3, 'UTC') AND at < toDateTime64({to:Date} + 1, 3, 'UTC')
    )
  ) AS a
  LEFT ANY JOIN (
    SELECT event_id, value, kind FROM application_states WHERE domain = 'assets' AND kind IN ('user', 'app')
  ) AS s ON s.event_id = a.event_id
    AND s.kind = transform(toString(a.type), ['USER_REGISTERED', 'APP_REGISTERED'], ['user', 'app'], '')
  UNION ALL
  SELECT
    event_id, 'positions.events.v1', type, position_id, at, recorded_at, user_id, app_id, client, source, payload,
    _topic, _partition, _offset, _epoch
  FROM position_events FINAL WHERE at >= toDateTime64({from:Date}, 3, 'UTC') AND at < toDateTime64({to:Date} + 1, 3, 'UTC')
  UNION ALL
  SELECT
    event_id, 'tokens.events.v1', type, account_id, at, recorded_at, user_id, app_id, client, source, payload,
    _topic, _partition, _offset, _epoch
  FROM token_events FINAL WHERE at >= toDateTime64({from:Date}, 3, 'UTC') AND at < toDateTime64({to:Date} + 1, 3, 'UTC')
  UNION ALL
  SELECT
    event_id, 'anchors.events.v1', type, authorization_id, at, recorded_at, user_id, app_id, client, source, payload,
    _topic, _partition, _offset, _epoch
  FROM anchor_events FINAL WHERE at >= toDateTime64({from:Date}, 3, 'UTC') AND at < toDateTime64({to:Date} + 1, 3, 'UTC')
) AS t
LEFT JOIN (
  SELECT * FROM event_outcomes FINAL WHERE at >= toDateTime64({from:Date}, 3, 'UTC') AND at < toDateTime64({to:Date} + 1, 3, 'UTC')
) AS o ON o.event_id = t.event_id AND o.topic = t.topic
ORDER BY at, recorded_at, topic, _partition, _offset
