-- What became of each event of an application: accepted (told, not judged yet), applied, or refused with the reason and
-- the field at fault.
-- Example: SELECT status, reason, field, detail FROM event_status WHERE event_id = '0123456789abcdef0123456789abcdef'
SELECT
  event_id,
  t.topic AS topic,
  t.type AS type,
  t.key AS key,
  if(o.status = '', 'accepted', toString(o.status)) AS status,
  o.reason AS reason,
  o.field AS field,
  o.detail AS detail,
  t.at AS at,
  t.recorded_at AS recorded_at
FROM (
  SELECT event_id, 'assets.activity.v1' AS topic, type, asset_id AS key, at, recorded_at FROM asset_activity FINAL
  UNION ALL
  SELECT event_id, 'positions.events.v1', type, position_id, at, recorded_at FROM position_events FINAL
  UNION ALL
  SELECT event_id, 'tokens.events.v1', type, account_id, at, recorded_at FROM token_events FINAL
  UNION ALL
  SELECT event_id, 'anchors.events.v1', type, authorization_id, at, recorded_at FROM anchor_events FINAL
) AS t
LEFT JOIN event_outcomes AS o FINAL USING (event_id)
