-- S0's provenance query: all that was done to an asset and with it, oldest first: transactions, events, and what the
-- chain told. Of what applications tell the applied alone; of one time, as the intake took it in. payload: what the event
-- says, as JSON.
-- asset: the asset's id; for its token's own story on the chain take the view provenance.
-- Example: SELECT at, source_table, type, user_id FROM asset_history(asset = 'card-1')
SELECT at, source_table, type, event_id, user_id, from_user_id, to_user_id, app_id, source, payload, recorded_at
FROM (
  SELECT
    asset_id, at, 'asset_transactions' AS source_table, type, event_id, user_id, from_user_id, to_user_id, app_id, source,
    payload, recorded_at, _offset
  FROM asset_transactions FINAL
  UNION ALL
  SELECT
    asset_id, at, 'asset_events', type, event_id, user_id, NULL, NULL, app_id, source, payload, recorded_at, _offset
  FROM asset_events FINAL
  UNION ALL
  SELECT
    asset_id, at, 'asset_registry', type, event_id, user_id, NULL, owner_user_id, app_id, source, '', recorded_at,
    _offset
  FROM asset_registry FINAL
)
WHERE asset_id = {asset:String} AND event_id IN (
  SELECT event_id FROM applied_events WHERE topic = 'assets.activity.v1' AND key = {asset:String}
)
ORDER BY at, recorded_at, _offset, source_table != 'asset_registry', event_id
