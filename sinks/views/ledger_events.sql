-- S1's ledger_events: what was applied to positions. payload: what the event says, as JSON. Events of one time came in
-- in the order of created_at, _offset.
-- Example: SELECT at, kind, previous_state, new_state FROM ledger_events WHERE position_id = 'pos_1' ORDER BY at, created_at, _offset
SELECT
  event_id AS id,
  kind,
  position_id,
  at,
  nullIf(toString(previous_state), '') AS previous_state,
  nullIf(toString(new_state), '') AS new_state,
  payload,
  created_at,
  _offset
FROM position_events FINAL
WHERE kind IN ('POSITION_CREATED', 'POSITION_STATE_CHANGED')
  AND (position_id, event_id) IN (SELECT key, event_id FROM applied_events WHERE topic = 'positions.events.v1')
