-- A position's life, step by step: each applied event with the state and remainder that it led to, and how long the
-- state before had lasted: 0 where the step's time lies before that of an earlier one, for steps stand as they were taken.
-- amount_released: as the event names it; empty where a release pays the rest.
-- position: the position's id.
-- Example: SELECT at, state, remainder, lasted_s FROM position_timeline(position = 'pos_1')
SELECT
  e.at AS at,
  e.event_id AS event_id,
  e.kind AS kind,
  JSONExtractString(s.value, 'state') AS state,
  toDecimal256(JSONExtractString(s.value, 'remainder'), 18) AS remainder,
  toDecimal256(JSONExtractString(s.value, 'amount'), 18) AS amount,
  JSONExtractString(s.value, 'currency') AS currency,
  e.amount_released AS amount_released,
  s.version AS version,
  if(s.version = 1, NULL, greatest(0, dateDiff('second', max(e.at) OVER (
    ORDER BY s.version ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
  ), e.at))) AS lasted_s,
  e.payload AS payload
FROM (SELECT * FROM application_states FINAL
  WHERE domain = 'positions' AND kind = 'position' AND id = {position:String}) AS s
INNER JOIN (SELECT * FROM position_events FINAL WHERE position_id = {position:String}) AS e ON e.event_id = s.event_id
ORDER BY s.version
